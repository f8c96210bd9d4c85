"""A JSON file that an operator or another program keeps up to date, read anew whenever it is wanted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from wattspan.carbon.providers import moment_of
from wattspan.errors import FetchError

MAX_BYTES: Final = 4 << 20


class Row(NamedTuple):
    """One entry of ``intervals``.

    Attributes:
        where: the file and the entry, for error texts.
        from_wall_ns, until_wall_ns: half open.
        members: all of the entry's members.
    """

    where: str
    from_wall_ns: int
    until_wall_ns: int
    members: dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    """The object that a file holds. Blocks as the disk does.

    Raises:
        FetchError: it cannot be read, or holds something else; the text names the file.
    """
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FetchError("unreachable", f"{path}: {error.strerror or type(error).__name__}") from error
    if len(body) > MAX_BYTES:
        raise FetchError("malformed", f"{path}: more than {MAX_BYTES} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FetchError("malformed", f"{path}: not JSON") from error
    if not isinstance(document, dict):
        raise FetchError("malformed", f"{path}: not a JSON object")
    return document


def intervals(document: dict[str, Any], path: Path) -> Iterator[Row]:
    """The entries of the member ``intervals``, which go from past to future and never overlap.

    Raises:
        FetchError: they do not; the text names the file and the member.
    """
    entries = document.get("intervals")
    if not isinstance(entries, list):
        raise FetchError("malformed", f"{path}: intervals: not an array")
    last_ns: int | None = None
    for index, entry in enumerate(entries):
        where = f"{path}: intervals[{index}]"
        if not isinstance(entry, dict):
            raise FetchError("malformed", f"{where}: not an object")
        begin_ns = moment_of(entry.get("from"), f"{where}.from")
        end_ns = moment_of(entry.get("until"), f"{where}.until")
        if end_ns <= begin_ns:
            raise FetchError("malformed", f"{where}.until: not after {where}.from")
        if last_ns is not None and begin_ns < last_ns:
            raise FetchError("malformed", f"{where}.from: before the end of the one before")
        last_ns = end_ns
        yield Row(where, begin_ns, end_ns, entry)
