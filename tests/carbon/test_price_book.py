"""Which price is in force: the live one, else the schedule's, else the fixed one, else none."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon import timeline
from wattspan.carbon.feed import Feed, Manners
from wattspan.carbon.price_book import RENEW_NS, Always, PriceBook, filled, held
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.rates import Rates
from wattspan.carbon.tariffs import parse_schedule
from wattspan.errors import FetchError
from wattspan.model import Tariff
from wattspan.units import NS_PER_S, UJ_PER_KWH

NOON_NS = 1_774_785_600 * NS_PER_S
HOUR_NS = 3600 * NS_PER_S


class Market:
    """A day of hours at 0.10, 0.11, ..., of which it is not always willing to speak."""

    def __init__(self) -> None:
        self.up = True

    def __call__(self, now_wall_ns: int) -> Sequence[Tariff]:
        """The hours from now on, four of them."""
        if not self.up:
            raise FetchError("server", "HTTP 503")
        begin_ns = now_wall_ns - now_wall_ns % HOUR_NS
        hours = range(begin_ns, begin_ns + 4 * HOUR_NS, HOUR_NS)
        return [Tariff(0.1 + 0.01 * n, at, at + HOUR_NS, "market", now_wall_ns) for n, at in enumerate(hours)]


def feed_of(market: Market) -> Feed[Tariff]:
    """The market, well behaved."""
    manners = Manners("market", "price", HOUR_NS, HOUR_NS, 2 * HOUR_NS)
    return Feed(manners, market, Tariff, "DE-LU", jitter=lambda: 0.0)


def test_a_live_price_goes_before_the_stand_in_which_fills_what_it_leaves() -> None:
    """Each hour has the market's price as far as it is known, the last one for two more, then the fixed."""
    market = Market()
    book = PriceBook("EUR", feed_of(market), Always(0.5))
    book.settle(NOON_NS, NOON_NS)
    assert [tariff.per_kwh for tariff in book.prices.tariffs] == [0.5]
    book.refresh(NOON_NS + 40 * NS_PER_S, NOON_NS + 40 * NS_PER_S)
    prices = [book.prices.at(NOON_NS + n * HOUR_NS) for n in range(-1, 8)]
    known = [0.5, 0.1, 0.11, 0.12, 0.13, 0.13, 0.13, 0.5, 0.5]
    assert [round(tariff.per_kwh, 3) for tariff in prices if tariff] == known
    market.up = False
    for hour in range(1, 12):
        book.refresh(NOON_NS + hour * HOUR_NS, NOON_NS + hour * HOUR_NS)
    late = book.prices.at(NOON_NS + 11 * HOUR_NS)
    assert late is not None
    assert late.provider == "configured"


def test_without_a_stand_in_what_nobody_knows_costs_nothing() -> None:
    """No price is no cost."""
    book = PriceBook("EUR", feed_of(Market()), None)
    book.settle(NOON_NS, NOON_NS)
    assert book.prices.at(NOON_NS) is None
    assert book.prices.cost(UJ_PER_KWH, 1.0, NOON_NS, NOON_NS + 1) == 0.0


@pytest.mark.parametrize("lag_s", [0, 5])
@pytest.mark.parametrize("down", [range(0), range(3600, 3600 + 1800)])
def test_every_joule_has_a_cost_or_is_counted(lag_s: int, down: range) -> None:
    """A price by the five minutes, asked late and away for half an hour: what has no price is told.

    A gap between two answers has the one before; of the outage two resolutions have it, too.
    """
    resolution_ns = 300 * NS_PER_S

    def ask(now_wall_ns: int) -> Sequence[Tariff]:
        if (now_wall_ns - NOON_NS) // NS_PER_S in down:
            raise FetchError("server", "HTTP 503")
        begin_ns = now_wall_ns - lag_s * NS_PER_S
        return [Tariff(0.3, begin_ns, begin_ns + resolution_ns, "meter", now_wall_ns)]

    manners = Manners("meter", "price", resolution_ns, 60 * NS_PER_S, 2 * resolution_ns)
    book = PriceBook("EUR", Feed(manners, ask, Tariff, "p", jitter=lambda: 0.0), None)
    book.settle(NOON_NS, NOON_NS)
    second_uj = UJ_PER_KWH // 3600
    cost, uncosted_uj, uncosted_s = 0.0, 0, []
    for second in range(1, 3 * 3600):
        now_ns = NOON_NS + second * NS_PER_S
        rates = Rates(Pricing((), 1.2), book.prices)
        footprint = rates.footprint(second_uj, now_ns - NS_PER_S, now_ns)
        cost += footprint.cost
        uncosted_uj += footprint.uncosted_uj
        uncosted_s += [second] if footprint.uncosted_uj else []
        book.refresh(now_ns, now_ns)
    all_uj = second_uj * (3 * 3600 - 1)
    assert cost == pytest.approx((all_uj - uncosted_uj) / UJ_PER_KWH * 1.2 * 0.3)
    late = [second for second in uncosted_s if second > 60]
    if not down:
        assert late == []
        return
    # The last answer before it is up to a period old, and holds for its own time and two more.
    assert down.start + 2 * 300 - lag_s <= late[0] <= down.start + 3 * 300
    assert late[-1] <= down.stop + 600, "asked again after the pause that failures bring"
    assert len(late) <= down.stop + 600 - down.start - 2 * 300


def test_without_prices_nothing_is_uncosted() -> None:
    """Nobody has asked what it costs."""
    footprint = Rates(Pricing(())).footprint(UJ_PER_KWH, NOON_NS, NOON_NS + 1)
    assert (footprint.cost, footprint.uncosted_uj) == (0.0, 0)


def test_a_schedule_goes_on_for_months() -> None:
    """It is written out anew every hour, so that its end is never reached."""
    book = PriceBook("EUR", None, parse_schedule("Mon-Fri 07:00-22:00 0.31; 0.19", "Europe/Berlin"))
    book.settle(NOON_NS, NOON_NS)
    seen = set()
    for hour in range(24 * 90):
        now_ns = NOON_NS + hour * HOUR_NS
        book.refresh(now_ns, now_ns)
        tariff = book.prices.at(now_ns)
        assert tariff is not None
        seen.add(tariff.per_kwh)
        assert 0 <= book.wait_ns(now_ns, now_ns) <= RENEW_NS
    assert seen == {0.31, 0.19}


@pytest.mark.parametrize("ahead_ns", [NOON_NS, 10 * 24 * HOUR_NS, -3 * 24 * HOUR_NS], ids=str)
def test_a_clock_that_is_set_costs_no_price(ahead_ns: int) -> None:
    """Whether NTP sets it by decades, or the machine slept for days: at the next look the schedule is that of
    now."""
    book = PriceBook("EUR", None, parse_schedule("07:00-22:00 0.31; 0.19", "Europe/Berlin"))
    begin_ns = NOON_NS - ahead_ns if ahead_ns > 0 else NOON_NS
    book.settle(begin_ns, 1000 * NS_PER_S)
    now_wall_ns, now_ns = begin_ns + ahead_ns, 1010 * NS_PER_S
    assert book.prices.at(now_wall_ns) is None
    assert book.wait_ns(now_wall_ns, now_ns) == 0
    book.refresh(now_wall_ns, now_ns)
    costed = book.prices.costed(UJ_PER_KWH, 1.0, now_wall_ns, now_wall_ns + NS_PER_S)
    assert (costed.cost, costed.uncosted_uj) == (0.31, 0)
    assert book.wait_ns(now_wall_ns, now_ns) == RENEW_NS


stretches = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=6)


def _in_order(drawn: list[tuple[int, int]], per_kwh: float) -> list[Tariff]:
    found: list[Tariff] = []
    for begin, length in sorted(drawn):
        if not found or (found[-1].valid_until_wall_ns or 0) <= begin:
            found.append(Tariff(per_kwh, begin, begin + length))
    return found


@given(stretches, stretches)
def test_gaps_are_filled_and_nothing_else(upper: list[tuple[int, int]], lower: list[tuple[int, int]]) -> None:
    """At every moment: the first that knows it."""
    first, second = _in_order(upper, 1.0), _in_order(lower, 2.0)
    together = filled(first, second)
    timeline.require_order(together)
    for moment in range(40):
        expected = timeline.at(first, moment) or timeline.at(second, moment)
        chosen = timeline.at(together, moment)
        assert (chosen and chosen.per_kwh) == (expected and expected.per_kwh)


@given(stretches, st.integers(0, 8))
def test_a_price_stands_in_for_so_long_and_no_longer(drawn: list[tuple[int, int]], hold: int) -> None:
    """At every moment: the price of that moment, else the last one that ended no longer ago than that."""
    told = [replace(tariff, per_kwh=float(n)) for n, tariff in enumerate(_in_order(drawn, 1.0))]
    in_force = held(told, hold)
    timeline.require_order(in_force)
    for moment in range(60):
        over = [tariff for tariff in told if moment - hold < timeline.until_ns(tariff) <= moment]
        expected = timeline.at(told, moment) or (over[-1] if over else None)
        chosen = timeline.at(in_force, moment)
        assert (chosen and chosen.per_kwh) == (expected and expected.per_kwh)
