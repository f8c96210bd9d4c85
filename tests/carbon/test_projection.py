"""What the rest of a run will cost: by the prices of the hours in which it will run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon.price import Prices
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.projection import Pace, of_the_rest
from wattspan.carbon.rates import Rates
from wattspan.carbon.tariffs import parse_schedule
from wattspan.model import Tariff
from wattspan.units import NS_PER_S, UJ_PER_KWH

HOUR_NS = 3600 * NS_PER_S
NOON_NS = 1_774_785_600 * NS_PER_S
EVENING_NS = NOON_NS + int(9.5 * HOUR_NS)
"""21:30, UTC."""


def rates(*tariffs: Tariff, pue: float = 1.0) -> Rates:
    """With these prices."""
    return Rates(Pricing((), pue), Prices(tariffs, "EUR"))


def pace(hours: int) -> Pace:
    """A kilowatt-hour in each hour, and so many hours to go."""
    return Pace(made=1, left=hours, energy_uj=UJ_PER_KWH, elapsed_ns=HOUR_NS)


def test_a_tariff_by_time_of_use_is_that_of_the_hours_ahead() -> None:
    """Half an hour by day and the night that follows, not nine hours at the price of now."""
    schedule = parse_schedule("07:00-22:00 0.40; 0.10", "UTC")
    night = rates(*schedule.tariffs(NOON_NS), pue=1.5)
    rest = of_the_rest(pace(9), EVENING_NS, night, None)
    assert rest.cost == pytest.approx(1.5 * (0.5 * 0.40 + 8.5 * 0.10))
    assert night.prices is not None
    assert rest.cost == pytest.approx(
        night.prices.cost(9 * UJ_PER_KWH, 1.5, EVENING_NS, EVENING_NS + 9 * HOUR_NS)
    )


def test_only_what_no_tariff_covers_has_the_price_of_now() -> None:
    """Beyond the last hour that is known, and in a gap; without a price now such a rest has no cost."""
    known = [
        Tariff(0.40, NOON_NS, NOON_NS + HOUR_NS),
        Tariff(0.10, NOON_NS + 2 * HOUR_NS, NOON_NS + 3 * HOUR_NS),
    ]
    rest = of_the_rest(pace(5), NOON_NS, rates(*known), None)
    assert rest.cost == pytest.approx(0.40 + 0.40 + 0.10 + 2 * 0.40)
    assert of_the_rest(pace(5), NOON_NS, rates(known[1]), None).cost is None
    assert of_the_rest(pace(5), NOON_NS, Rates(Pricing(())), None).cost is None
    late = NOON_NS + 2 * HOUR_NS
    assert of_the_rest(pace(1), late, rates(known[1]), None).cost == pytest.approx(0.10)


def test_a_price_below_zero_costs_nothing() -> None:
    """As in the counter that the projection is compared with."""
    known = [Tariff(0.40, NOON_NS, NOON_NS + HOUR_NS), Tariff(-0.1, NOON_NS + HOUR_NS, NOON_NS + 2 * HOUR_NS)]
    assert of_the_rest(pace(2), NOON_NS, rates(*known), None).cost == pytest.approx(0.40)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=24), st.integers(0, 23))
def test_where_all_prices_are_known_it_is_their_exact_cost(per_kwh: list[float], begin: int) -> None:
    """By any prices by the hour, from any moment within."""
    hours = [Tariff(p, NOON_NS + n * HOUR_NS, NOON_NS + (n + 1) * HOUR_NS) for n, p in enumerate(per_kwh)]
    now_ns = NOON_NS + begin * HOUR_NS // 24
    left = len(hours) - 1
    if not left:
        return
    found = of_the_rest(pace(left), now_ns, rates(*hours), None).cost
    truth = Prices(tuple(hours), "EUR").cost(left * UJ_PER_KWH, 1.0, now_ns, now_ns + left * HOUR_NS)
    assert found == pytest.approx(truth, abs=1e-9)
