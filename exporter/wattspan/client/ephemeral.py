"""A daemon of the user's own, where the machine has none: one per user and node, behind a lock.

It listens on a socket in a folder of this user alone, outlives the process that started it,
and ends by itself some time after the last run.
"""

import fcntl
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wattspan.client.daemon import SOCKET_NAME, Daemon
from wattspan.client.surroundings import LOCAL_RANK, MARKERS, RANK, ephemeral_allowed
from wattspan.errors import UnreachableError

START_S: Final = 30.0
"""How long it may take to start: Python, the driver's library and a cold file system."""

LOOK_S: Final = 0.05
"""Between two looks whether it listens by now."""

_NOT_FOR_IT: Final = frozenset({*MARKERS, *RANK, *LOCAL_RANK, "TRACEPARENT", "TRACESTATE"})
"""What would make the daemon look like a part of the run that it meters."""


def folder(environ: Mapping[str, str]) -> Path | None:
    """Where the user's own daemon has its socket: XDG_RUNTIME_DIR, else ``/tmp/wattspan-<uid>``.

    None where neither is this user's alone: a socket there could be anybody's.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and _is_ours_alone(Path(runtime)):
        return Path(runtime)
    # Not tempfile's folder: TMPDIR differs between the processes of one job, and all must meet here.
    own = Path(f"/tmp/wattspan-{os.geteuid()}")  # noqa: S108 - made for us alone, and checked to be
    with suppress(OSError):
        own.mkdir(mode=0o700)
    return own if _is_ours_alone(own) else None


def own_folder(environ: Mapping[str, str]) -> Path | None:
    """The same; None also where no daemon of the user's own is wanted."""
    return folder(environ) if ephemeral_allowed(environ) else None


def daemon_here(environ: Mapping[str, str]) -> Daemon:
    """The daemon of this node, wherever it listens, the user's own included."""
    return Daemon.of(environ, own_folder(environ))


def state_dir(environ: Mapping[str, str], usual: Path) -> Path:
    """Where the user's own daemon has its journal, where nobody has said it.

    ``$XDG_STATE_HOME/wattspan``, for others than root below their home, else beside its socket:
    never in the folder of the machine's daemon, which could not start while this one has it.

    Args:
        environ: of the daemon.
        usual: the default of any daemon of this user.
    """
    stated = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(stated):
        return Path(stated) / "wattspan"
    own = folder(environ)
    if own is None or (os.geteuid() != 0 and _can_be_made(usual)):
        return usual
    return own / "wattspan"


def command(folder: Path) -> list[str]:
    """What starts the daemon. ``-P``: nothing is imported from the folder that the job happens to run in."""
    socket_path = str(folder / SOCKET_NAME)
    return [sys.executable, "-P", "-m", "wattspan", "serve", "--ephemeral", "--socket", socket_path]


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """The user's own daemon, to be started when it is not there.

    Attributes:
        folder: of its socket, its lock and its log.
        command: what starts it.
        environ: what it is to be started with.
    """

    folder: Path
    command: Sequence[str]
    environ: Mapping[str, str]

    def ensure(self) -> None:
        """Return once it listens. Blocks, for up to half a minute.

        Of several processes that come at once, the one with the lock starts it and the others wait.

        Raises:
            UnreachableError: it did not start.
        """
        give_up_s = time.monotonic() + START_S
        try:
            while not self._listens():
                with self._lock() as ours:
                    # Looked at again: it may have come up while another process held the lock.
                    if ours and not self._listens():
                        self._start(give_up_s)
                        return
                if time.monotonic() > give_up_s:
                    raise UnreachableError("another process holds the lock of the ephemeral daemon")
                time.sleep(LOOK_S)
        except OSError as error:
            raise UnreachableError(f"no ephemeral daemon could be started: {error}") from error

    def _start(self, give_up_s: float) -> None:
        pid = _spawn(self.command, self.environ, self.folder / "wattspan.log")
        while not self._listens():
            if _has_ended(pid):
                raise UnreachableError(f"the ephemeral daemon ended at its start: {self._last_words()}")
            if time.monotonic() > give_up_s:
                os.kill(pid, signal.SIGTERM)
                _reap(pid)
                raise UnreachableError("the ephemeral daemon did not come up in time")
            time.sleep(LOOK_S)
        _reap(pid)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(1.0)
            try:
                door.connect(str(self.folder / SOCKET_NAME))
            except BlockingIOError:
                return True  # its queue is full, so somebody listens
            except OSError:
                return False
            return True

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Whether the lock is ours while this lasts. The kernel takes it back when the process dies."""
        file = os.open(self.folder / "wattspan.lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(file)

    def _last_words(self) -> str:
        lines = (self.folder / "wattspan.log").read_text(errors="replace").splitlines()
        return lines[-1][:300] if lines else "it said nothing"


def _is_ours_alone(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _can_be_made(path: Path) -> bool:
    """Whether a folder is there to be written to, or can be."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _spawn(words: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
    """Start a program in a session of its own that holds nothing of ours; returns its pid.

    Not by `subprocess`: the daemon must not inherit the signal mask of the thread that starts it,
    and is not to be waited for.
    """
    writing = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int] | tuple[int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), writing, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # A pipe of the job that stayed open in the daemon would keep its reader waiting.
    # To close one that another thread has closed by now does no harm.
    actions += [(os.POSIX_SPAWN_CLOSE, int(name)) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    kept = {name: value for name, value in environ.items() if name not in _NOT_FOR_IT}
    return os.posix_spawn(
        words[0],
        list(words),
        kept,
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
    )


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody else in this process waits for every child
        return not os.path.exists(f"/proc/{pid}")


def _reap(pid: int) -> None:
    """Let it not stay a zombie for as long as this process lives."""
    threading.Thread(target=_wait, args=(pid,), name="wattspan-ephemeral", daemon=True).start()


def _wait(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
