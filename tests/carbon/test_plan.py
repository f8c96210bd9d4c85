"""When and where to run, against trying every way there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.carbon.test_forecast import MINUTE_NS, NOW, STEP_MINUTES, by_hand, forecasts, hours
from wattspan.carbon.forecast import HOUR_NS
from wattspan.carbon.plan import Place, Task, plan_of
from wattspan.carbon.price import Prices, fixed
from wattspan.model import Tariff

KILOWATT_UW = 1_000_000_000


def task(duration_h: float, within_h: float, power_uw: int | None = KILOWATT_UW, pue: float = 1.0) -> Task:
    """Something to run from now on."""
    return Task(round(duration_h * HOUR_NS), NOW, NOW + round(within_h * HOUR_NS), power_uw, pue)


@given(
    st.lists(forecasts(), min_size=1, max_size=3),
    st.integers(1, 16).map(lambda n: n * STEP_MINUTES),
    st.integers(0, 60).map(lambda n: n * STEP_MINUTES),
)
def test_the_plan_is_the_one_that_trying_every_way_finds(
    figures: list[tuple], duration: int, within: int
) -> None:
    """Best, worst and now are those of all starts in all places; of equals the earliest in the first
    place."""
    what = Task(duration * MINUTE_NS, NOW, NOW + within * MINUTE_NS)
    plan = plan_of(what, [Place(f"Z{number}", each) for number, each in enumerate(figures)])
    every = {f"Z{number}": by_hand(each, duration, 0, within) for number, each in enumerate(figures)}
    ways = [(mean, start, zone) for zone, means in every.items() for start, mean in means.items()]
    if plan is None:
        assert ways == []
        return
    lowest = min(mean for mean, _, _ in ways)
    start, zone = min((start, zone) for mean, start, zone in ways if mean < lowest + 1e-4)
    assert plan.best.g_per_kwh == pytest.approx(lowest, abs=1e-5)
    assert (plan.best.start_wall_ns, plan.best.zone) == (NOW + start * MINUTE_NS, zone)
    assert [spread.zone for spread in plan.spreads] == [zone for zone, means in every.items() if means]
    for spread in plan.spreads:
        means = every[spread.zone]
        assert spread.worst.g_per_kwh == pytest.approx(max(means.values()), abs=1e-5)
        assert spread.best.g_per_kwh - 1e-5 <= spread.mean_g_per_kwh <= spread.worst.g_per_kwh + 1e-5
        assert (spread.now is None) == (0 not in means)
    assert (plan.now is None) == (0 not in every["Z0"])
    if plan.now is not None:
        assert plan.now.g_per_kwh == pytest.approx(every["Z0"][0], abs=1e-5)
        assert plan.best.g_per_kwh <= plan.now.g_per_kwh + 1e-5


def test_what_it_saves() -> None:
    """Grams are energy times PUE times the mean intensity of each window, and the difference is saved."""
    plan = plan_of(
        task(2, 6, power_uw=5 * KILOWATT_UW, pue=1.2), [Place("FR", hours(300, 200, 100, 50, 50, 400))]
    )
    assert plan is not None
    assert plan.now is not None
    assert plan.now.co2e_g == pytest.approx(5 * 2 * 1.2 * 250)
    assert plan.best.start_wall_ns == NOW + 3 * HOUR_NS
    assert plan.best.co2e_g == pytest.approx(5 * 2 * 1.2 * 50)
    assert plan.saved_co2e_g == pytest.approx(5 * 2 * 1.2 * 200)
    assert plan.saved_ratio == pytest.approx(0.8)
    (spread,) = plan.spreads
    assert spread.worst.start_wall_ns == NOW
    assert spread.mean_co2e_g == pytest.approx(5 * 2 * 1.2 * spread.mean_g_per_kwh)
    assert spread.known_until_wall_ns == NOW + 6 * HOUR_NS
    assert spread.estimated


def test_money_goes_with_the_grams_and_does_not_choose() -> None:
    """The greenest way is taken though it costs more, and that is said with its sign."""
    tariffs = (Tariff(0.10, None, NOW + 2 * HOUR_NS), Tariff(0.40, NOW + 2 * HOUR_NS, None))
    plan = plan_of(task(1, 4, pue=1.5), [Place("FR", hours(300, 200, 100, 150), Prices(tariffs, "EUR"))])
    assert plan is not None
    assert plan.best.start_wall_ns == NOW + 2 * HOUR_NS
    assert plan.best.cost == pytest.approx(0.60)
    assert plan.saved_cost == pytest.approx(-0.45)


def test_a_price_that_is_missing_for_an_hour_makes_no_cheap_hour() -> None:
    """A cost of which a part is not known is not known."""
    tariffs = (Tariff(0.10, None, NOW + 2 * HOUR_NS),)
    plan = plan_of(task(2, 4), [Place("FR", hours(300, 100, 100, 300), Prices(tariffs, "EUR"))])
    assert plan is not None
    assert (plan.best.cost, plan.saved_cost) == (None, None)
    assert plan.now is not None
    assert plan.now.cost == pytest.approx(0.20)


def test_without_a_power_there_are_no_grams() -> None:
    """Intensities can be compared all the same."""
    plan = plan_of(task(1, 3, power_uw=None), [Place("FR", hours(300, 200, 100), fixed(0.2, "EUR"))])
    assert plan is not None
    assert (plan.best.co2e_g, plan.best.cost, plan.saved_co2e_g, plan.saved_cost) == (None,) * 4
    assert plan.saved_ratio == pytest.approx(2 / 3)


def test_another_place_is_compared_with_starting_now_in_the_first() -> None:
    """What is saved is the difference to what happens without a plan, so also by going elsewhere at once."""
    plan = plan_of(task(1, 2), [Place("PL", hours(600, 500)), Place("SE", hours(20, 30)), Place("XX", ())])
    assert plan is not None
    assert (plan.best.zone, plan.best.start_wall_ns) == ("SE", NOW)
    assert plan.saved_co2e_g == pytest.approx(580)
    assert [spread.zone for spread in plan.spreads] == ["PL", "SE"]


def test_a_first_place_without_a_forecast_leaves_nothing_to_compare_with() -> None:
    """Another place's now is not what would happen here."""
    plan = plan_of(task(1, 2), [Place("PL", ()), Place("SE", hours(20, 30))])
    assert plan is not None
    assert plan.best.zone == "SE"
    assert (plan.now, plan.saved_ratio, plan.saved_co2e_g) == (None, None, None)


def test_no_forecast_no_plan() -> None:
    """Neither without figures, nor for what takes longer than they reach or than there is time."""
    assert plan_of(task(1, 2), [Place("FR", ())]) is None
    assert plan_of(task(3, 9), [Place("FR", hours(1, 2))]) is None
    assert plan_of(task(3, 2), [Place("FR", hours(1, 2, 3, 4))]) is None


def test_a_grid_without_emissions_leaves_nothing_to_save() -> None:
    """Nothing is divided by nothing."""
    plan = plan_of(task(1, 2), [Place("IS", hours(0, 0))])
    assert plan is not None
    assert plan.saved_ratio is None
    assert plan.saved_co2e_g == 0
