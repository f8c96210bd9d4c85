"""Handles given up on request, so that a GPU can be reset or its driver upgraded under a running daemon.

``wattspan release`` writes ``<state>/release`` with ``{"until": seconds since the epoch}`` and sends SIGUSR1.
A bare SIGUSR1 asks for ten minutes.
``<state>/released`` exists, with the same content, for as long as no handle is held; its ``sources`` are
those that this daemon has of `SOURCES`.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wattspan.sampler import Sampler
from wattspan.units import NS_PER_S

logger = logging.getLogger(__name__)

SOURCES: Final = ("nvidia", "amd")
"""Sources whose handles keep a driver from being reset or unloaded."""

DEFAULT_S: Final = 600.0

LONGEST_S: Final = 7 * 86_400.0
"""The longest that the command asks for; a file that asks for more, or for ever, is taken to mean this."""


class Release:
    """The daemon's side of a release.

    Args:
        state_dir: where request and answer lie.
        sampler: whose sources let go.
        wall_s: CLOCK_REALTIME in seconds.
    """

    def __init__(self, state_dir: Path, sampler: Sampler, wall_s: Callable[[], float] = time.time) -> None:
        self._request = state_dir / "release"
        self._answer = state_dir / "released"
        self._sampler = sampler
        self._wall_s = wall_s
        self._until_s: float | None = None
        self._answered: float | None = None
        self._answer.unlink(missing_ok=True)
        self._request.unlink(missing_ok=True)

    def requested(self) -> None:
        """SIGUSR1 has come. Called from the signal handler, so it only reads one file and sets a time."""
        now_s = self._wall_s()
        for_s = min(max(0.0, self._read_request(now_s) - now_s), LONGEST_S)
        self._sampler.release(SOURCES, int(for_s * NS_PER_S))
        self._until_s = now_s + for_s if for_s else None
        logger.info("release: handles of %s for %.0f s", ", ".join(SOURCES), for_s)

    def settle(self) -> None:
        """Let the answer say whether the handles are given up. Called by the writer after each tick."""
        until_s = self._until_s if self._sampler.released else None
        if until_s == self._answered:
            return
        # A full disk must not end metering; the command then says that it was not confirmed.
        with contextlib.suppress(OSError):
            if until_s is None:
                self._answer.unlink(missing_ok=True)
            else:
                part = self._answer.with_suffix(".part")
                sources = [name for name in SOURCES if name in self._sampler.names]
                part.write_text(json.dumps({"until": until_s, "sources": sources}))
                part.replace(self._answer)
            self._answered = until_s

    def _read_request(self, now_s: float) -> float:
        try:
            until_s = float(json.loads(self._request.read_text())["until"])
            self._request.unlink(missing_ok=True)
        except (OSError, ValueError, TypeError, LookupError):
            return now_s + DEFAULT_S
        return until_s
