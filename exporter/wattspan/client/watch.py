"""The grid's intensity while a job runs, asked for by a thread of its own; the job only looks at the last
answer.
"""

import os
import threading
from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from wattspan.client.daemon import RefusedError, UnansweredError
from wattspan.client.ephemeral import daemon_here
from wattspan.errors import UnreachableError

GRID: Final = "/api/v1/grid"

INTERVAL_S: Final = 60.0
"""Between two questions; figures hold for five minutes at least."""

RETRY_S: Final = 5.0
"""The same while there is no answer: the daemon may be about to start."""


class GridWatch:
    """Knows what is in force, as the daemon of this node says.

    Args:
        ask: the document of `GRID`; may block.
        interval_s, retry_s: between two questions, after an answer and without one.
    """

    def __init__(
        self, ask: Callable[[], Any], *, interval_s: float = INTERVAL_S, retry_s: float = RETRY_S
    ) -> None:
        self._ask = ask
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.g_per_kwh: float | None = None
        """The intensity in force; None while nobody knows it, which a failed question means too."""

    @classmethod
    def of_this_node(cls) -> "GridWatch":
        """One that asks whichever daemon is there at each question."""
        daemon = daemon_here(os.environ)
        return cls(lambda: daemon.ask("GET", GRID))

    def start(self) -> None:
        """Begin to ask; once more changes nothing. The thread never keeps the process from ending."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="wattspan-grid", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask no more. Does not wait for the thread."""
        self._stopped.set()
        self.g_per_kwh = None

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                known = _in_force(self._ask())
            except (UnreachableError, UnansweredError, RefusedError):
                known = None
            if self._stopped.is_set():
                return
            self.g_per_kwh = known
            self._stopped.wait(self._retry_s if known is None else self._interval_s)


def _in_force(document: Any) -> float | None:
    """The intensity in a document of `GRID`; None where it knows none, or is none such."""
    intensity = document.get("intensity") if isinstance(document, dict) else None
    value = intensity.get("grams_per_kwh") if isinstance(intensity, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) and value >= 0 else None
