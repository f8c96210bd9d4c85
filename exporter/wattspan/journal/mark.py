"""How far the commits of a journal had come, kept beside it.

SQLite rebuilds what was committed from its -wal file up to the first frame that is damaged, and says nothing
of the rest; the same holds for a -wal that was deleted, or a journal.db put back from a copy.
The counters would then resume below what was published, and Prometheus would add their whole lifetime
to `increase()`.
So every commit is also numbered here, after it was made: a journal that knows fewer commits than its mark
has lost some, and its counters start again from 0.

The mark need only survive the process, not the machine, so it is never synced; a mark that is missing,
unreadable or behind proves nothing.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from wattspan.journal.folder import FILE_MODE


@dataclass(frozen=True, slots=True)
class Mark:
    """A commit that was made.

    Attributes:
        commits: its number, counted since the journal began.
        lineage: of the journal; commits of another one cannot be compared.
        boot_id: of the machine when it was made.
    """

    commits: int
    lineage: str
    boot_id: str


class MarkFile:
    """The open file. Writing is one system call of fixed length, so a kill leaves the old line or the new."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open it, or begin it.

        Raises:
            OSError: the folder or the file refuses.
        """
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))

    def read(self) -> Mark | None:
        """What it says; None when that is nothing or nonsense."""
        words = os.pread(self._descriptor, 256, 0).partition(b"\n")[0].decode("ascii", "replace").split()
        if len(words) not in (2, 3) or not words[0].isdigit():
            return None
        return Mark(int(words[0]), words[1], words[2] if len(words) == 3 else "")

    def write(self, mark: Mark) -> None:
        """Say how far the journal is. Never raises: an old mark accuses nobody."""
        line = f"{mark.commits:020} {mark.lineage} {mark.boot_id}\n".encode("ascii", "replace")
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, line, 0)

    def close(self) -> None:
        """Give up the file."""
        os.close(self._descriptor)
