"""The thread that fetches: never the sampler's. A source that hangs costs this thread its time-out."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from wattspan.units import NS_PER_S

logger = logging.getLogger(__name__)


IDLE_NS: Final = 60 * NS_PER_S
"""Nobody is looked after less often."""


class Refreshed(Protocol):
    """What is kept fresh: a chain of intensities, a source of prices."""

    def refresh(self, now_wall_ns: int, now_ns: int) -> None:
        """Ask whom it is time to ask. May block."""

    def wait_ns(self, now_wall_ns: int, now_ns: int) -> int:
        """How long until there is something to do."""


class Fetcher:
    """Keeps things fresh until it is stopped.

    Args:
        things: each is refreshed in turn, and costs the others at most its time-outs.
        wall_ns, monotonic_ns: the clocks; handed in so that a day can be replayed.
    """

    def __init__(
        self,
        things: Sequence[Refreshed],
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._things = tuple(things)
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._stopped = threading.Event()
        # A daemon: one that waits for a service must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="carbon", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End; a question that is out is left behind."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def step(self) -> float:
        """Refresh what is due. Returns the seconds until there is more to do."""
        waits = [IDLE_NS]
        for thing in self._things:
            try:
                thing.refresh(self._wall_ns(), self._monotonic_ns())
                waits.append(thing.wait_ns(self._wall_ns(), self._monotonic_ns()))
            except Exception:  # a fault of ours here must not end what can still be fetched
                logger.exception("grid: a refresh failed")
        return max(1.0, min(waits) / NS_PER_S)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._stopped.wait(self.step())
