"""One node as `wattspan.app` wires it, with every clock in the hands of a story."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from wattspan.carbon.chain import Chain, chain_of
from wattspan.carbon.rates import Rates
from wattspan.devices import Source
from wattspan.journal import Journal
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.marks import pasts
from wattspan.ledger.ledger import Ledger
from wattspan.publish.exposition import Exposition
from wattspan.sampler import Sampler
from wattspan.units import NS_PER_S

WALL_AT_BOOT_NS: Final = 1_790_000_000 * NS_PER_S

LEFT_OUT: Final = ("wattspan_build_info",)
"""Families that depend on the machine and not on the story: the versions of Wattspan and Python.

Everything else is on the story's clock: timestamps, and the time that reads and commits take, which is none.
"""

_PROMETHEUS: Final = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


class Node:
    """A daemon without process, server and signals.

    Args:
        sources: on the same clock.
        now_ns: CLOCK_MONOTONIC of the story.
        state_dir: of the journal.
        chain: of carbon figures; France with a PUE of 1.2 if not given.
        boot_id: another one is another boot.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        now_ns: Callable[[], int],
        state_dir: Path,
        *,
        chain: Chain | None = None,
        boot_id: str = "first-boot",
    ) -> None:
        self._now_ns = now_ns
        self._board = Board()
        # Every read comes back within its look, however busy this machine is.
        self._sampler = Sampler(
            [(source, True) for source in sources], NS_PER_S, now_ns, self._wall_ns, patience_s=60
        )
        journal = Journal.open(state_dir, boot_id, self._wall_ns)
        self._ledger = Ledger(NS_PER_S, pasts(journal.restored.baselines))
        self._books = Books(journal, self._board)
        self._chain = chain or chain_of("FR", None, None, 1.2, {})
        self._chain.refresh(self._wall_ns())
        self._exposition = Exposition(series_budget=3000, process=False)

    def look(self, missed_ticks: int = 0) -> None:
        """One tick, seen by a scrape."""
        tick = self._ledger.apply(self._sampler.look(missed_ticks))
        self._books.take(tick, Rates(self._chain.pricing), self._chain.state(self._wall_ns()))
        self._board.scraped(self._board.view.sequence, 0)

    def metrics(self) -> str:
        """The whole of /metrics, but for the families that are left out."""
        body = self._exposition.render(self._board.view, _PROMETHEUS).body.decode()
        return "".join(line for line in body.splitlines(keepends=True) if not _is_left_out(line))

    def stop(self) -> None:
        """A clean stop."""
        self._books.close()
        self._sampler.close(5)

    def _wall_ns(self) -> int:
        return WALL_AT_BOOT_NS + self._now_ns()


def _is_left_out(line: str) -> bool:
    name = line.split()[2] if line.startswith("#") else line.partition("{")[0].partition(" ")[0]
    return name in LEFT_OUT
