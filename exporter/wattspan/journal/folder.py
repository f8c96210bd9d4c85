"""The state directory: made, checked and locked. The only paths that the journal knows.

| file | what |
|---|---|
| ``journal.db`` | the SQLite database, with ``-wal`` and ``-shm`` beside it while it is open |
| ``journal.mark`` | how far the commits had come (see `wattspan.journal.mark`) |
| ``lock`` | locked with flock(2) for as long as a daemon lives; holds its pid as text |
| ``journal.db.<why>-<UTC>`` | a journal that could not be read, set aside; never deleted by us |
"""

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from wattspan.errors import UnreachableError
from wattspan.units import NS_PER_S

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
SIDECARS: Final = ("", "-wal", "-shm", "-journal")
"""The database file and those that SQLite keeps beside it (sqlite.org/tempfiles.html); they move together."""

DEMO: Final = "demo"
"""The subfolder in which a demo keeps its own state."""

OF_ROOT: Final = Path("/var/lib/wattspan")
"""The folder of a daemon of root that says nothing else."""

_PID_MAX: Final = 2**22
"""PID_MAX_LIMIT of 64-bit Linux (proc(5), pid_max)."""
_LOCK_TRIES: Final = 5
_LOCK_PAUSE_S: Final = 0.1
_MEND: Final = "give the daemon a folder of its own that it may write to with --state.dir"


def database(folder: Path) -> Path:
    """The journal's own file."""
    return folder / "journal.db"


def no_journal(folder: Path) -> UnreachableError:
    """What to say where there is none: where that of a demo is, if there is one.

    Raises:
        OSError: this user may not look there.
    """
    demo = folder / DEMO
    if database(demo).exists():
        return UnreachableError(f"there is no journal in {folder}, but that of a demo; --state.dir {demo}")
    such = "" if folder == OF_ROOT else f", such as {OF_ROOT} for a daemon of root"
    return UnreachableError(f"there is no journal in {folder}; name a daemon's folder with --state.dir{such}")


def mark(folder: Path) -> Path:
    """The file that says how far the commits had come."""
    return folder / "journal.mark"


@dataclass(slots=True)
class FolderLock:
    """The right to be the only one who writes in the folder. Ends with `release` or with the process."""

    folder: Path
    _descriptor: int

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Make the folder if it is missing, check that it can be written, and lock it.

        Raises:
            UnreachableError: it cannot be made, read or written, or another process holds it.
        """
        _prepare(folder)
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            _lock(folder, descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise _unusable(folder, error) from error
        except UnreachableError:
            os.close(descriptor)
            raise
        return cls(folder, descriptor)

    @property
    def held(self) -> bool:
        """Whether `release` is still to come."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Let the next one in. May be called twice."""
        if self.held:
            os.close(self._descriptor)
            self._descriptor = -1


def holder(folder: Path) -> int | None:
    """The pid of the daemon that holds the folder; None when nobody does.

    The pid counts in the daemon's own pid namespace. The lock decides, not the text: after a crash
    the text still names a pid that may belong to someone else by now. 0 when held without a readable pid.

    Raises:
        UnreachableError: the lock file cannot be opened.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(descriptor)
    finally:
        os.close(descriptor)
    return None


def set_aside(folder: Path, why: str, wall_ns: int) -> Path:
    """Rename the journal's files out of the way and return where the database went.

    Args:
        folder: a folder that the caller holds.
        why: a word for the name, such as ``corrupt``.
        wall_ns: now; the name carries it in UTC.
    """
    old = database(folder)
    stamp = datetime.fromtimestamp(wall_ns // NS_PER_S, UTC).strftime("%Y%m%dT%H%M%SZ")
    new = old.with_name(f"{old.name}.{why}-{stamp}")
    attempt = 1
    while any(_beside(new, sidecar).exists() for sidecar in SIDECARS):
        attempt += 1
        new = old.with_name(f"{old.name}.{why}-{stamp}.{attempt}")
    for sidecar in SIDECARS:
        if _beside(old, sidecar).exists():
            _beside(old, sidecar).rename(_beside(new, sidecar))
    return new


def orphans(folder: Path) -> list[Path]:
    """Files of a database that is itself gone.

    SQLite would replay them into a new one (sqlite.org/howtocorrupt.html, section 1.4).
    """
    if database(folder).exists():
        return []
    return [path for path in (_beside(database(folder), sidecar) for sidecar in SIDECARS) if path.exists()]


def sync_names(folder: Path) -> None:
    """Make names that were created or renamed in the folder survive a power loss. Blocks on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, sidecar: str) -> Path:
    return path.with_name(path.name + sidecar)


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        present = [path for path in (_beside(database(folder), s) for s in SIDECARS) if path.exists()]
    except OSError as error:
        raise _unusable(folder, error) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise _not_ours(folder, folder)
    for path in [*present, mark(folder)]:
        if path.exists() and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise _not_ours(folder, path)


def _lock(folder: Path, descriptor: int) -> None:
    """Try a few times: `holder` takes the lock for a moment, and a daemon may just be leaving."""
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _LOCK_TRIES:
                time.sleep(_LOCK_PAUSE_S)
        else:
            return
    raise UnreachableError(
        f"state folder {folder} is in use by another wattspan (pid {_pid(descriptor) or 'unknown'}): "
        "stop that one, or give this one a folder of its own with --state.dir"
    )


def _pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    pid = int(text) if text.isdigit() else 0
    return pid if pid <= _PID_MAX else 0


def _unusable(folder: Path, error: OSError) -> UnreachableError:
    mends = {errno.ENOSPC: "free some space", errno.EDQUOT: "raise the quota or free some space"}
    mend = mends.get(error.errno or 0, _MEND)
    return UnreachableError(f"state folder {folder} cannot be used ({error.strerror}): {mend}")


def _not_ours(folder: Path, path: Path) -> UnreachableError:
    what = "it" if path == folder else path.name
    return UnreachableError(
        f"state folder {folder} cannot be used: uid {os.geteuid()} may not read and write {what}; {_MEND}"
    )
