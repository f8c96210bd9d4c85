"""A stand-in for the daemon, to be killed: it opens a journal and says on standard output what it publishes.

``count FOLDER BOOT``: commit rising totals without end, each told as ``<total> <published>`` once committed.
``hold FOLDER BOOT``: open, say ``open``, and wait for the end of standard input.
``fill FOLDER BOOT tmpfs|rlimit``: run into a full disk, and go on once there is room.
``open-full FOLDER BOOT``: start on a disk that is full already.
"""

import contextlib
import itertools
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from wattspan.errors import UnreachableError
from wattspan.journal import Account, Baseline, Journal, JournalError

GPUS = 8


def say(text: str) -> None:
    """One line, in one write, past every buffer: what was said was said when the kill comes."""
    os.write(1, f"{text}\n".encode())


def rows(total: int, released: bool = True, base: int = 0) -> list[Account]:
    """The accounts of a tick; all have the same total, so a torn commit would show."""
    return [Account("gpu_energy", (f"GPU-{n}", "counter"), total, base, released) for n in range(GPUS)]


def count(folder: Path, boot_id: str) -> None:
    """Commit, then publish, for ever."""
    journal = Journal.open(folder, boot_id)
    accounts = journal.restored.accounts
    total, base = (int(accounts[0].total), int(accounts[0].base)) if accounts else (0, 0)
    for tick in itertools.count(1):
        total += tick
        journal.commit(rows(total, base=base), [Baseline("gpu:GPU-0", total, tick)])
        say(f"{total} {total - base}")
        if tick % 10 == 0:
            journal.sync()


def hold(folder: Path, boot_id: str) -> None:
    """Be the daemon that has the folder."""
    journal = Journal.open(folder, boot_id)
    say("open")
    sys.stdin.read()
    journal.close(clean=True)


def fill(folder: Path, boot_id: str, disk: str) -> None:
    """Commit more and more until the disk is full, make room, give the same rows again."""
    journal = Journal.open(folder, boot_id)
    journal.commit(rows(1), [])
    make_room = _limit_files() if disk == "rlimit" else _stuff(folder)
    refused, kept = 0, 0
    for n in range(100_000):
        grown = [Account("pod_energy", (f"{'x' * 500}{n}",), n, 0, True)]
        try:
            journal.commit(grown, [])
            kept += 1
        except JournalError as error:
            refused += 1
            if refused == 1:
                say(f"refused: {error}")
            if refused == 3:  # it stays refused, and each time as a whole
                break
    make_room()
    journal.commit(grown, [])
    kept += 1
    journal.sync()
    say(f"kept {kept}")
    journal.close(clean=True)
    say(f"found {len(Journal.open(folder, boot_id).restored.accounts) - GPUS}")


def open_on_full_disk(folder: Path, boot_id: str) -> None:
    """Start where nothing can be written."""
    folder.mkdir(exist_ok=True)
    _stuff(folder)
    try:
        Journal.open(folder, boot_id)
    except UnreachableError as error:
        say(f"refused: {error}")


def _limit_files() -> Callable[[], None]:
    """Let no file grow beyond 200 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _stuff(folder: Path) -> Callable[[], None]:
    """Fill the file system that the folder is on."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return ballast.unlink


if __name__ == "__main__":
    what, folder, boot_id, *more = sys.argv[1:]
    {"count": count, "hold": hold, "fill": fill, "open-full": open_on_full_disk}[what](
        Path(folder), boot_id, *more
    )
