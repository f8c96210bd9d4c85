"""The error tree, drawn once.

    WattspanError
    ├── SetupError          set up wrongly: stop at start, exit 2
    ├── UnreachableError    could not reach or lock what was needed, exit 3
    ├── NotHereError        a source that this machine does not have; one line at start
    ├── ReadError           a source that failed now; counted by reason, tried again
    ├── FetchError          a service on the network that failed now; counted by reason, tried again
    └── RestartNeededError  only a fresh process can go on; books are closed, exit 0

Foreign errors are translated once, at the boundary, with the original attached as ``__cause__``.
"""

from typing import Literal, get_args

Reason = Literal[
    "timeout",  # the call did not return in time
    "lost",  # the device fell off the bus or needs a reset
    "permission",  # the operating system or the driver refused
    "driver",  # the driver is not loaded, busy or answered an unexpected code
    "library",  # the vendor's library is missing or is not what it claims to be
    "unsupported",  # this device or driver cannot answer at all
    "malformed",  # an answer that makes no sense
    "io",  # reading a file failed
    "unknown",  # anything else; the log has the text
]
"""Why a read failed: the closed set behind the label `reason` of `wattspan_source_read_failures_total`."""

REASONS: tuple[Reason, ...] = get_args(Reason)


FetchReason = Literal[
    "timeout",  # no whole answer in time
    "unreachable",  # no connection, no such name, a certificate that is not trusted
    "refused",  # 401 or 403, or a secret that cannot be read
    "throttled",  # 429
    "server",  # another status that is no answer
    "malformed",  # no such document: a login page, a cut or oversized body, a redirect, null throughout
    "wrong_zone",  # figures of another place than was asked for
    "wrong_unit",  # figures in a unit that is not the one expected
    "implausible",  # negative, above 2000 g/kWh, or no number
    "stale",  # nothing newer than what is long over
    "future",  # a current figure whose time has not come
    "unknown",  # anything else; the log has the text
]
"""Why a fetch failed: the closed set behind the label `reason` of `wattspan_grid_fetch_failures_total`."""

FETCH_REASONS: tuple[FetchReason, ...] = get_args(FetchReason)


class WattspanError(Exception):
    """Base of every error that Wattspan raises on purpose. Its text is written for the operator."""


class SetupError(WattspanError):
    """Configuration that cannot work: the text names the key, its value and what is allowed."""


class UnreachableError(WattspanError):
    """Something outside could not be reached, bound or locked: the text says what and how to mend it."""


class NotHereError(WattspanError):
    """This machine does not have the source (no driver, no powercap, no permission)."""


class ReadError(WattspanError):
    """A source that failed this time.

    Args:
        reason: one of the closed set of reasons.
        detail: what happened, for the log; never a secret.
        device: the id of the device that failed, or None when the whole source did.
    """

    def __init__(self, reason: Reason, detail: str, device: str | None = None) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail
        self.device = device


class FetchError(WattspanError):
    """A service on the network that failed this time.

    Args:
        reason: one of the closed set of reasons.
        detail: what happened, for the log; never a secret, so never a query or a header.
        retry_after_s: how long the service asks to be left alone; None when it does not say.
        status: of HTTP, where that was what failed.
    """

    def __init__(
        self,
        reason: FetchReason,
        detail: str,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason: FetchReason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.status = status


class RestartNeededError(WattspanError):
    """Only a new process can go on, as after a driver upgrade under a loaded library (NVML code 18)."""
