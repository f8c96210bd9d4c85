"""Spans that the collector has not acknowledged yet, kept among the counters they were made with.

They are written and removed within the writer's commit; the exporter reads them with a connection of its own.
"""

import contextlib
import json
import math
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from wattspan.journal import database, folder
from wattspan.journal.records import JournalError
from wattspan.runs import AttributeValue, SpanRecord

SPANS_MAX: Final = 10_000
"""Spans that wait at most: over three months of windows of one run on this node."""

BYTES_MAX: Final = 64 << 20
"""Bytes of JSON that wait at most."""

_DETAILS: Final = frozenset({"training_run.window", "training_run.phase"})
"""Spans that go first when there is no room: their sums stand on the others."""

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")


def write(
    db: sqlite3.Connection,
    spans: Iterable[SpanRecord],
    *,
    spans_max: int = SPANS_MAX,
    bytes_max: int = BYTES_MAX,
) -> int:
    """Put spans in; one that is written again comes in anew, so what was sent before is not its delivery.

    Returns:
        How many had to go to make room: windows and phases before runs, the oldest first.

    Raises:
        sqlite3.Error: a disk that does not take them. The caller holds the transaction.
    """
    rows = [_row(span) for span in spans]
    if not rows:
        return 0
    db.executemany(
        "INSERT OR REPLACE INTO outbox (trace_id, span_id, detail, bytes, span) VALUES (?, ?, ?, ?, ?)", rows
    )
    return db.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM ("
        "SELECT id, row_number() OVER dearest AS spans_to_here, sum(bytes) OVER dearest AS bytes_to_here"
        " FROM outbox WINDOW dearest AS (ORDER BY detail, id DESC ROWS UNBOUNDED PRECEDING))"
        " WHERE spans_to_here > ? OR bytes_to_here > ?)",
        (spans_max, bytes_max),
    ).rowcount


def remove(db: sqlite3.Connection, delivered: Iterable[int]) -> None:
    """Take out what the collector has acknowledged; ids that are gone already are none to worry about.

    Raises:
        sqlite3.Error: a disk that does not take it. The caller holds the transaction.
    """
    db.executemany("DELETE FROM outbox WHERE id = ?", [(row,) for row in delivered])


def read(db: sqlite3.Connection) -> tuple[SpanRecord, ...]:
    """All that waits, the oldest first.

    Raises:
        ValueError, KeyError: a row is no span.
        sqlite3.Error: damage that stops SQLite.
    """
    return tuple(_of_text(text) for (text,) in db.execute("SELECT span FROM outbox ORDER BY id"))


class Outbox:
    """What waits, for the exporter: it reads beside the writer and never writes. Any thread may call.

    Args:
        state_dir: of an open journal.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = folder.database(state_dir)

    def waiting(self) -> tuple[int, ...]:
        """The ids of all spans that wait, the oldest first; an id is never given twice.

        Raises:
            JournalError: the journal cannot be read now.
        """
        # By the index, which holds the ids alone: the table would be read span by span.
        rows = self._query("SELECT id, '' FROM outbox INDEXED BY outbox_dearest")
        return tuple(sorted(row for row, _ in rows))

    def spans(self, ids: Sequence[int]) -> Mapping[int, SpanRecord]:
        """These spans by id, in order; one that is gone or cannot be read is left out.

        Raises:
            JournalError: the journal cannot be read now.
        """
        query = "SELECT id, span FROM outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        found = {}
        for row, text in self._query(query, json.dumps(list(ids))):
            with contextlib.suppress(ValueError, KeyError, RecursionError):
                found[row] = _of_text(text)
        return found

    def _query(self, query: str, *parameters: str) -> list[tuple[int, str]]:
        try:
            # Opened anew each time: a journal that was replaced is never read by mistake.
            with contextlib.closing(database.connect(self._path, "ro")) as db:
                return db.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise JournalError(
                f"the outbox in {self._path} cannot be read: {database.in_words(error)}"
            ) from error


def members_of(span: SpanRecord) -> dict[str, object]:
    """A span as JSON has it.

    Figures that are no numbers are left out: JSON and OTLP have none, and one must not refuse a commit.
    """
    members = asdict(span)
    members["attributes"] = {
        name: value
        for name, value in span.attributes.items()
        if not isinstance(value, float) or math.isfinite(value)
    }
    return members


def span_of(members: Mapping[str, object]) -> SpanRecord:
    """A span of members that may be anything.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    parent = members["parent_span_id"]
    return SpanRecord(
        trace_id=_id(members, "trace_id", _TRACE_ID),
        span_id=_id(members, "span_id", _SPAN_ID),
        parent_span_id="" if parent == "" else _id(members, "parent_span_id", _SPAN_ID),
        name=_text(members, "name"),
        start_wall_ns=_time(members, "start_wall_ns"),
        end_wall_ns=_time(members, "end_wall_ns"),
        attributes=_attributes(members["attributes"]),
        error_type=_text(members, "error_type"),
        links=_links(members["links"]),
    )


def _row(span: SpanRecord) -> tuple[str, str, bool, int, str]:
    text = json.dumps(members_of(span), separators=(",", ":"))
    return span.trace_id, span.span_id, span.name in _DETAILS, len(text), text


def _of_text(text: str) -> SpanRecord:
    members = json.loads(text)
    if not isinstance(members, dict):
        raise ValueError("it is not a JSON object")
    return span_of(members)


def _id(members: Mapping[str, object], name: str, form: re.Pattern[str]) -> str:
    value = _text(members, name)
    if form.fullmatch(value):
        return value
    raise ValueError(f"{name} is {value!r:.80}, allowed is {form.pattern}")


def _text(members: Mapping[str, object], name: str) -> str:
    value = members[name]
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} is {value!r:.80}, allowed is a text")


def _time(members: Mapping[str, object], name: str) -> int:
    value = members[name]
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise ValueError(f"{name} is {value!r:.80}, allowed are nanoseconds since the epoch")


def _attributes(members: object) -> Mapping[str, AttributeValue]:
    if not isinstance(members, dict):
        raise ValueError(f"attributes is {members!r:.80}, allowed are values by name")
    return {name: _attribute(name, value) for name, value in members.items()}


def _attribute(name: str, value: object) -> AttributeValue:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError(f"attribute {name} is {value!r:.80}, allowed is a plain value or a list of texts")


def _links(members: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(members, list):
        raise ValueError(f"links is {members!r:.80}, allowed is a list")
    return tuple(_link(pair) for pair in members)


def _link(pair: object) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"a link is {pair!r:.80}, allowed are a trace id and a span id")
    members = {"trace_id": pair[0], "span_id": pair[1]}
    return _id(members, "trace_id", _TRACE_ID), _id(members, "span_id", _SPAN_ID)
