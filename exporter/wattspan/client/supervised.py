"""A command as a child that hardly notices: signals, stops and the exit code pass through.

The child shares the process group, the terminal and every open file of its parent.
So a signal that the terminal makes (Ctrl-C, Ctrl-Z, hanging up) reaches it without help;
one that a process sent is passed on.
"""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

PASSED_ON: Final = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTSTP,
        signal.SIGCONT,
        signal.SIGWINCH,
    }
)
STOPPING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Signals that ask a command to end."""

_BLOCKED: Final = PASSED_ON | {signal.SIGCHLD}

_SI_KERNEL: Final = 0x80
"""``si_code`` of a signal that the kernel made, as its terminal driver does (sigaction(2))."""

_PYTHON_IGNORES: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""What the interpreter ignores for itself, and a command expects at their defaults."""


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back what is to be passed on until there is somebody to pass it on to.

    Entered before any thread is started: threads inherit it, else one of them would take the signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    # Where it is ignored, as some parents leave it, it never comes and there is no child to wait for.
    children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        while held := signal.sigpending() & _BLOCKED:
            signal.sigwait(held)  # came too late for the command; let go, it would end us with another code
        signal.signal(signal.SIGCHLD, children)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def asked_to_stop() -> int:
    """The number of a held signal that asks to end; 0 for none. Does not wait."""
    return min(signal.sigpending() & STOPPING, default=0)


class Command:
    """A running command. Made within `signals_held`.

    Args:
        words: program and arguments; the program is looked up in PATH.
        environ: the whole environment.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, words: Sequence[str], environ: Mapping[str, str]) -> None:
        self._pid = os.posix_spawnp(
            words[0], list(words), dict(environ), setsigmask=(), setsigdef=_PYTHON_IGNORES
        )
        self.told_to_stop = False
        """SIGINT, SIGTERM or SIGHUP was sent to it."""

    def wait(self) -> int:
        """Its exit code, minus the signal's number if a signal ended it. Passes signals on meanwhile."""
        while True:
            arrived = signal.sigwaitinfo(_BLOCKED)
            if arrived.si_signo == signal.SIGCHLD:
                code = self._look()
                if code is not None:
                    return code
                continue
            self.told_to_stop |= arrived.si_signo in STOPPING
            if arrived.si_code != _SI_KERNEL:
                os.kill(self._pid, arrived.si_signo)

    def _look(self) -> int | None:
        """Its exit code; None while it lives. When it has been stopped, so are we, for the shell to see."""
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return None
            if not os.WIFSTOPPED(status):
                return os.waitstatus_to_exitcode(status)
            os.kill(os.getpid(), signal.SIGSTOP)
            # Going on: a shell wakes the whole group, anybody else perhaps us alone.
            os.kill(self._pid, signal.SIGCONT)
