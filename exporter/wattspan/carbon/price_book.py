"""Which price is in force: a live source's where it has one, else the schedule's, else the fixed one.

The last price that a live source gave stands in for a while after its own time, as an intensity does; then
what no source knows has the stand-in's price, and without one it is counted as energy that has no cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from wattspan.carbon import timeline
from wattspan.carbon.feed import Feed
from wattspan.carbon.price import Prices
from wattspan.model import Tariff
from wattspan.units import NS_PER_S

RENEW_NS: Final = 3600 * NS_PER_S
"""How far the wall clock may go, or be set, either way until a schedule is written out anew; each time it
covers days."""


class StandIn(Protocol):
    """A schedule."""

    def tariffs(self, now_wall_ns: int) -> tuple[Tariff, ...]:
        """Days around a moment, past to future, without gaps."""


class Always:
    """One price at all times.

    Args:
        per_kwh: it.
    """

    def __init__(self, per_kwh: float) -> None:
        self._tariffs = (Tariff(per_kwh),)

    def tariffs(self, now_wall_ns: int) -> tuple[Tariff, ...]:
        """The one."""
        del now_wall_ns
        return self._tariffs


class PriceBook:
    """Prices as they are known now. One thread refreshes; any thread may read `prices`.

    Args:
        currency: of all of them.
        feed: of the live source; None without one.
        stand_in: for what it does not know; None leaves that without a cost.

    Attributes:
        prices: in force, by time.
    """

    def __init__(self, currency: str, feed: Feed[Tariff] | None, stand_in: StandIn | None) -> None:
        self.prices = Prices((), currency)
        self._currency = currency
        self._feed = feed
        self._stand_in = stand_in
        self._written_wall_ns: int | None = None

    def settle(self, now_wall_ns: int, now_ns: int) -> None:
        """Put in force what is known without asking anybody."""
        if self._feed is not None:
            self._feed.due_ns(now_wall_ns, now_ns)  # takes up what was kept
        self._write(now_wall_ns)

    def refresh(
        self, now_wall_ns: int, now_ns: int, *, at_once: bool = False, if_allowed: bool = False
    ) -> None:
        """Ask the live source if it is time to; see `wattspan.carbon.feed.Feed.refresh`. May block."""
        changed = self._feed is not None and self._feed.refresh(
            now_wall_ns, now_ns, at_once=at_once, if_allowed=if_allowed
        )
        if changed or self._renew_in_ns(now_wall_ns) == 0:
            self._write(now_wall_ns)

    def wait_ns(self, now_wall_ns: int, now_ns: int) -> int:
        """How long until there is something to do."""
        renew_in_ns = self._renew_in_ns(now_wall_ns)
        if self._feed is None:
            return renew_in_ns
        return min(renew_in_ns, max(0, self._feed.due_ns(now_wall_ns, now_ns) - now_ns))

    def failures(self) -> Mapping[tuple[str, str], int]:
        """How often the live source has failed since this process began, by its name and the reason."""
        if self._feed is None:
            return {}
        name = self._feed.manners.name
        return {(name, reason): count for reason, count in self._feed.failures.items()}

    def _renew_in_ns(self, now_wall_ns: int) -> int:
        """How long until the schedule must be written out anew; by the wall clock, which it is written by."""
        if self._written_wall_ns is None:
            return 0
        return max(0, RENEW_NS - abs(now_wall_ns - self._written_wall_ns))

    def _write(self, now_wall_ns: int) -> None:
        told: Sequence[Tariff] = ()
        if self._feed is not None:
            told = held(self._feed.figures, self._feed.manners.hold_ns)
        otherwise = self._stand_in.tariffs(now_wall_ns) if self._stand_in else ()
        self.prices = Prices(filled(told, otherwise), self._currency)
        self._written_wall_ns = now_wall_ns


def held(tariffs: Sequence[Tariff], hold_ns: int) -> tuple[Tariff, ...]:
    """Prices of one source with the stretches that they are in force for.

    A gap between two of them, and the time after the last, is filled by the one before, for so long at most.
    Unlike a forecast of intensity a price of the hours ahead is settled: it counts though its source is away.
    """
    result: list[Tariff] = []
    for index, tariff in enumerate(tariffs):
        end_ns = timeline.until_ns(tariff)
        until_ns = end_ns + hold_ns
        if index + 1 < len(tariffs):
            until_ns = min(until_ns, timeline.from_ns(tariffs[index + 1]))
        result.append(tariff if until_ns <= end_ns else replace(tariff, force_until_wall_ns=until_ns))
    return tuple(result)


def filled(upper: Sequence[Tariff], lower: Sequence[Tariff]) -> tuple[Tariff, ...]:
    """`upper`, with `lower` in its gaps."""
    ends = [timeline.BEGINNING_NS, *(timeline.until_ns(tariff) for tariff in upper)]
    begins = [*(timeline.from_ns(tariff) for tariff in upper), timeline.END_NS]
    result: list[Tariff] = []
    for index, (from_ns, until_ns) in enumerate(zip(ends, begins, strict=True)):
        result += [
            _clipped(tariff, from_ns, until_ns)
            for tariff in lower
            if max(from_ns, timeline.from_ns(tariff)) < min(until_ns, timeline.until_ns(tariff))
        ]
        result += upper[index : index + 1]
    return tuple(result)


def _clipped(tariff: Tariff, from_ns: int, until_ns: int) -> Tariff:
    if timeline.from_ns(tariff) < from_ns:
        tariff = replace(tariff, valid_from_wall_ns=from_ns)
    if timeline.until_ns(tariff) > until_ns:
        tariff = replace(tariff, valid_until_wall_ns=until_ns)
    return tariff
