"""How a run ended."""

import asyncio
import signal

import pytest

from wattspan.client.endings import Ending, of_command, of_exception


class DivergedError(Exception):
    """Of a user."""


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (None, Ending("success")),
        (ValueError("with a secret"), Ending("failure", "ValueError")),
        (DivergedError(), Ending("failure", f"{__name__}.DivergedError")),
        (KeyboardInterrupt(), Ending("cancelled")),
        (asyncio.CancelledError(), Ending("cancelled")),
        (GeneratorExit(), Ending("cancelled")),
        (SystemExit(), Ending("success")),
        (SystemExit(0), Ending("success")),
        (SystemExit(3), Ending("failure", "SystemExit")),
        (SystemExit("no data"), Ending("failure", "SystemExit")),
    ],
)
def test_of_exceptions(error: BaseException | None, ending: Ending) -> None:
    """An exception is a failure by its class, a wish to stop is cancelled, exit 0 is success."""
    assert of_exception(error) == ending


@pytest.mark.parametrize(
    ("code", "told", "ending"),
    [
        (0, False, Ending("success")),
        (0, True, Ending("success")),
        (3, False, Ending("failure", "exit_3")),
        (130, True, Ending("cancelled")),
        (-signal.SIGINT, False, Ending("cancelled")),
        (-signal.SIGKILL, False, Ending("failure", "SIGKILL")),
        (-signal.SIGKILL, True, Ending("cancelled")),
        (-signal.SIGSEGV, False, Ending("failure", "SIGSEGV")),
        (-40, False, Ending("failure", "signal_40")),
    ],
)
def test_of_commands(code: int, told: bool, ending: Ending) -> None:
    """A command that was told to stop is cancelled, unless it made it; any other code is a failure."""
    assert of_command(code, told_to_stop=told) == ending
