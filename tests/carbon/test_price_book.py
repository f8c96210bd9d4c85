"""Which price is in force: the live one, else the schedule's, else the fixed one, else none."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon import timeline
from wattspan.carbon.feed import Feed, Manners
from wattspan.carbon.price_book import RENEW_NS, Always, PriceBook, filled
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
    return Feed(Manners("market", "price", HOUR_NS, HOUR_NS), market, Tariff, "DE-LU", jitter=lambda: 0.0)


def test_a_live_price_goes_before_the_stand_in_which_fills_what_it_leaves() -> None:
    """Each hour has the market's price as far as it is known, then the fixed one."""
    market = Market()
    book = PriceBook("EUR", feed_of(market), Always(0.5))
    book.settle(NOON_NS, NOON_NS)
    assert [tariff.per_kwh for tariff in book.prices.tariffs] == [0.5]
    book.refresh(NOON_NS + 40 * NS_PER_S, NOON_NS + 40 * NS_PER_S)
    prices = [book.prices.at(NOON_NS + n * HOUR_NS) for n in range(-1, 6)]
    assert [round(tariff.per_kwh, 3) for tariff in prices if tariff] == [0.5, 0.1, 0.11, 0.12, 0.13, 0.5, 0.5]
    market.up = False
    for hour in range(1, 12):
        book.refresh(NOON_NS + hour * HOUR_NS, NOON_NS + hour * HOUR_NS)
    late = book.prices.at(NOON_NS + 11 * HOUR_NS)
    assert late is not None
    assert late.provider == "configured"


def test_without_a_stand_in_what_nobody_knows_costs_nothing() -> None:
    """No price is no cost, and not the last one."""
    book = PriceBook("EUR", feed_of(Market()), None)
    book.settle(NOON_NS, NOON_NS)
    assert book.prices.at(NOON_NS) is None
    assert book.prices.cost(UJ_PER_KWH, 1.0, NOON_NS, NOON_NS + 1) == 0.0


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
