"""Where a command writes what it made: a file that appears whole or not at all, or standard output."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

STREAM: Final = "-"
"""The name that means standard output."""


@contextlib.contextmanager
def written(name: str) -> Iterator[TextIO]:
    """The file to write to. It takes its name when all is written.

    Raises:
        OSError: the folder or the disk refuses.
    """
    if name == STREAM:
        yield sys.stdout
        return
    path = Path(name)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as out:
            yield out
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
