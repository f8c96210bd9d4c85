"""Money by energy and time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon.price import Prices, fixed
from wattspan.model import Tariff
from wattspan.units import UJ_PER_KWH

HOUR_NS = 3600 * 10**9
DAY = Prices(
    (Tariff(0.10, 0, HOUR_NS), Tariff(0.30, HOUR_NS, 2 * HOUR_NS), Tariff(-0.50, 2 * HOUR_NS, 3 * HOUR_NS)),
    "EUR",
)


def test_a_fixed_price_holds_always() -> None:
    """Energy times PUE times the price, whenever it flowed."""
    prices = fixed(0.25, "CHF")
    assert prices.cost(4 * UJ_PER_KWH, 1.5, -(10**18), 10**18) == 1.5
    assert prices.currency == "CHF"
    assert prices.at(0) == Tariff(0.25)


def test_each_stretch_has_its_price() -> None:
    """Energy that flows over a change of price is parted by time."""
    assert DAY.cost(UJ_PER_KWH, 1.0, HOUR_NS // 2, HOUR_NS * 3 // 2) == pytest.approx(0.20)


def test_a_price_below_zero_counts_as_none() -> None:
    """Costs are counters: a negative price gives nothing back, and the tariff keeps its sign."""
    assert DAY.cost(UJ_PER_KWH, 1.0, 2 * HOUR_NS, 3 * HOUR_NS) == 0
    assert DAY.cost(2 * UJ_PER_KWH, 1.0, HOUR_NS, 3 * HOUR_NS) == pytest.approx(0.30)
    tariff = DAY.at(2 * HOUR_NS)
    assert tariff is not None
    assert tariff.per_kwh == -0.50


def test_a_gap_has_no_cost() -> None:
    """Energy for which no price is known costs nothing, and nothing is in force then."""
    assert DAY.at(3 * HOUR_NS) is None
    assert DAY.cost(UJ_PER_KWH, 1.0, 3 * HOUR_NS, 4 * HOUR_NS) == 0


def test_tariffs_that_overlap_are_refused() -> None:
    """Two prices for one moment are none."""
    with pytest.raises(ValueError, match="overlapping"):
        Prices((Tariff(1, 0, 10), Tariff(2, 5, 20)), "EUR")


@given(st.integers(0, 3 * HOUR_NS), st.integers(0, 3 * HOUR_NS), st.integers(0, 3 * HOUR_NS))
def test_parts_cost_what_the_whole_costs(first: int, second: int, third: int) -> None:
    """Cutting an interval anywhere changes its cost by no more than the rounding of a microjoule."""
    begin, middle, end = sorted((first, second, third))
    power_uj_per_ns = 1000
    whole = DAY.cost((end - begin) * power_uj_per_ns, 1.2, begin, end)
    parts = DAY.cost((middle - begin) * power_uj_per_ns, 1.2, begin, middle)
    parts += DAY.cost((end - middle) * power_uj_per_ns, 1.2, middle, end)
    assert parts == pytest.approx(whole, abs=1e-11)
