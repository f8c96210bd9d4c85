"""Who has left a GPU that has not been read since: his last energy is still in the counter."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from wattspan.ledger.meters import GAP_NS
from wattspan.runs import LAPSED, Hold, Holdings
from wattspan.units import NS_PER_S

PATIENCE_INTERVALS: Final = 3
PATIENCE_NS: Final = 3 * NS_PER_S
"""A run's end waits for a look at its GPUs for so many intervals, and so long at least.

A source whose call has been out for longer has timed out, and may be silent for hours.
"""


class Left:
    """Holds that have ended. They are told once, and kept until it is settled whose the energy was.

    Args:
        interval_ns: the sampler's interval.
    """

    def __init__(self, interval_ns: int) -> None:
        self._patience_ns = max(PATIENCE_INTERVALS * interval_ns, PATIENCE_NS)
        self._forgotten_ns = max(GAP_NS, self._patience_ns)
        self._holds: dict[str, list[Hold]] = {}

    def remind(self, holdings: Holdings) -> Holdings:
        """The holdings of a tick, with those that have ended earlier and are not settled."""
        before, self._holds = self._holds, {uuid: list(holds) for uuid, holds in self._holds.items()}
        for uuid, holds in holdings.by_gpu.items():
            if ended := [hold for hold in holds if hold.until_ns is not None]:
                self._holds.setdefault(uuid, []).extend(ended)
        if not before:
            return holdings
        by_gpu = dict(holdings.by_gpu)
        for uuid, kept in before.items():
            by_gpu[uuid] = (*kept, *by_gpu.get(uuid, ()))
        return replace(holdings, by_gpu=by_gpu)

    def settle(
        self, settled_until_ns: Callable[[str], int | None], now_ns: int
    ) -> frozenset[tuple[str, int]]:
        """Let go of holds that are settled; gives the runs, by id and attempt, that still wait for it.

        A run waits so long and no longer; what it used at last is nobody's then.

        Args:
            settled_until_ns: up to when the energy of a GPU is settled; None when nothing is known of it.
            now_ns: when the tick was closed.
        """
        waiting: dict[str, list[Hold]] = {}
        for uuid, holds in self._holds.items():
            settled_ns = settled_until_ns(uuid)
            kept = [
                self._patiently(hold, now_ns) for hold in holds if not self._is_over(hold, settled_ns, now_ns)
            ]
            if kept:
                waiting[uuid] = kept
        self._holds = waiting
        return frozenset(
            (hold.holder.run_id, hold.holder.attempt)
            for holds in waiting.values()
            for hold in holds
            if hold.holder.run_id
        )

    def _is_over(self, hold: Hold, settled_ns: int | None, now_ns: int) -> bool:
        """Settled, or so long ago that the ledger asks nobody any more whose the energy was."""
        until_ns = hold.until_ns or 0
        return (settled_ns is not None and until_ns <= settled_ns) or now_ns - until_ns > self._forgotten_ns

    def _patiently(self, hold: Hold, now_ns: int) -> Hold:
        if not hold.holder.run_id or now_ns - (hold.until_ns or 0) < self._patience_ns:
            return hold
        return replace(hold, holder=LAPSED)
