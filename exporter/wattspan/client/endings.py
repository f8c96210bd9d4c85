"""How a run ended, as seen from inside it and from the process that started it. Pure."""

import signal
from dataclasses import dataclass
from typing import Final, Literal

Said = Literal["success", "failure", "cancelled"]
"""What a job can say of its end; that it is lost is for others to say."""

MAX_TYPE_LENGTH: Final = 200

_TOLD_TO_STOP: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended.

    Attributes:
        result: what the job says.
        error_type: an exception's class or an exit's kind, never its message; empty unless it failed.
    """

    result: Said
    error_type: str = ""


def of_exception(error: BaseException | None) -> Ending:
    """What leaving user code by this exception means; None for leaving it at its end.

    Exceptions that are no `Exception` ask for a stop: KeyboardInterrupt, asyncio's CancelledError.
    """
    if error is None:
        return Ending("success")
    if isinstance(error, SystemExit):
        return Ending("success") if error.code in (None, 0) else Ending("failure", "SystemExit")
    if not isinstance(error, Exception):
        return Ending("cancelled")
    return Ending("failure", name_of(type(error)))


def name_of(error_class: type[BaseException]) -> str:
    """``ValueError``, ``torch.OutOfMemoryError``: as OpenTelemetry has it in ``error.type``."""
    name = error_class.__qualname__
    if error_class.__module__ != "builtins":
        name = f"{error_class.__module__}.{name}"
    return name[:MAX_TYPE_LENGTH]


def of_command(code: int, *, told_to_stop: bool) -> Ending:
    """What a command's exit means.

    Args:
        code: its exit code; minus the signal's number if a signal ended it.
        told_to_stop: SIGINT, SIGTERM or SIGHUP was sent to it.
    """
    if code == 0:
        return Ending("success")
    if told_to_stop or -code in _TOLD_TO_STOP:
        return Ending("cancelled")
    if code > 0:
        return Ending("failure", f"exit_{code}")
    return Ending("failure", signal_name(-code))


def signal_name(number: int) -> str:
    """``SIGKILL``; a real-time signal by its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal_{number}"
