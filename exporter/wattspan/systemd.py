"""Readiness and liveness for a service manager (sd_notify(3)), by `cysystemd` where it is installed."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

logger = logging.getLogger(__name__)

USEC_PER_S: Final = 1_000_000

Notify = Callable[[str], object]


class Notifier:
    """Tells systemd that the daemon is ready, alive and stopping; does nothing elsewhere.

    Args:
        notify: sends one state, such as ``READY``; None where no service manager listens.
        watchdog_s: what systemd waits for a sign of life; 0 when it does not.
    """

    def __init__(self, notify: Notify | None, watchdog_s: float = 0.0) -> None:
        self._notify = notify
        self._pause_s = watchdog_s / 2
        self._ready = False
        self._last_s = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """As NOTIFY_SOCKET and WATCHDOG_USEC say."""
        if not environment.get("NOTIFY_SOCKET"):
            return cls(None)
        try:
            from cysystemd.daemon import Notification, notify
        except ImportError:
            logger.warning("systemd asks for notification: install it with: pip install 'wattspan[systemd]'")
            return cls(None)
        usec = environment.get("WATCHDOG_USEC", "")
        return cls(
            lambda state: notify(Notification[state]), int(usec) / USEC_PER_S if usec.isdigit() else 0.0
        )

    def alive(self) -> None:
        """A tick is published: ready with the first, and alive as often as the watchdog wants to hear."""
        if self._notify is None:
            return
        now_s = time.monotonic()
        if not self._ready:
            self._ready, self._last_s = True, now_s
            self._notify("READY")
        elif self._pause_s and now_s - self._last_s >= self._pause_s:
            self._last_s = now_s
            self._notify("WATCHDOG")

    def stopping(self) -> None:
        """The daemon has begun to end."""
        if self._notify is not None:
            self._notify("STOPPING")
