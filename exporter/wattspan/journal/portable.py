"""A journal as text, to be carried to another machine or kept: ``wattspan journal export`` and ``import``.

One JSON object per line: a header, the accounts, the baselines, the spans that no collector has acknowledged,
the runs, the chain of those that have closed, what the grid's providers have said, the months, and an end
that holds their numbers and the SHA-256 of every line before it, so that a text that was cut short or changed
is noticed.

The text of a cleanly stopped journal goes on with every counter where it was read.
That of a running or crashed daemon may be older than what was published: after import its totals go on,
its counters start again from 0, and its baselines are left out, since their energy may have been counted.

A journal is imported into a folder that has none and keeps its lineage, so that chains of two nodes never
mix. Runs and chain come out as they went in, also where they do not fit each other: an audit says so.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never, TextIO

from wattspan.errors import SetupError, UnreachableError
from wattspan.journal import chain_of_runs, database, figures, folder, history, outbox, periods, schema
from wattspan.journal.folder import FolderLock
from wattspan.journal.opening import create
from wattspan.journal.schema import Contents, Standing, UnusableError

if TYPE_CHECKING:
    from wattspan.journal.chain_of_runs import Entry
    from wattspan.journal.periods import Start
    from wattspan.journal.records import Account, Baseline
    from wattspan.model import Intensity
    from wattspan.runs import SpanRecord

SCHEMA: Final = "wattspan-journal"
VERSION: Final = 4
"""Of the text; the tables have a version of their own.

Version 1 had no spans and no runs, 2 no runs, 3 no factors, chain, figures and months.
"""


def export_journal(state_dir: Path, out: TextIO, wall_ns: Callable[[], int] = time.time_ns) -> None:
    """Write the journal as text: one moment of it, also while a daemon runs, which it does not hold up.

    Raises:
        UnreachableError: there is no journal, or it cannot be read.
        OSError: `out` refuses.
    """
    contents = _read(state_dir)
    digest = hashlib.sha256()
    for line in _lines(contents, wall_ns()):
        digest.update(line.encode())
        out.write(line)
    out.write(
        _line(
            kind="end",
            accounts=len(contents.accounts),
            baselines=len(contents.baselines),
            spans=len(contents.spans),
            runs=len(contents.runs),
            entries=len(contents.entries),
            figures=len(contents.figures),
            months=len(contents.months),
            sha256=digest.hexdigest(),
        )
    )


def import_journal(state_dir: Path, src: TextIO) -> None:
    """Make a journal of such a text, all of it or nothing, in a folder that has none.

    Raises:
        SetupError: the folder has a journal, or a line of the text is wrong; it is named.
        UnreachableError: a daemon holds the folder, or it cannot be written.
    """
    contents = _resumable(_parse(src))
    lock = FolderLock.take(state_dir)
    try:
        path = folder.database(state_dir)
        if path.exists() or folder.orphans(state_dir):
            raise SetupError(
                f"{state_dir} already has a journal; import into a folder without one (--state.dir)"
            )
        create(path, contents)
    except (sqlite3.Error, OSError) as error:
        raise UnreachableError(
            f"the journal cannot be written to {state_dir}: {database.in_words(error)}"
        ) from error
    finally:
        lock.release()


def _read(state_dir: Path) -> Contents:
    path = folder.database(state_dir)
    try:
        if not path.exists():
            raise folder.no_journal(state_dir)
        with contextlib.closing(database.connect(path, "ro")) as db:
            db.execute("BEGIN")
            schema.check(db)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            return replace(
                schema.read(db),
                spans=outbox.read(db) if version > 1 else (),
                runs=tuple(history.read(db)) if version >= history.TABLE_SINCE else (),
                entries=tuple(chain_of_runs.read(db)) if version >= history.CHAIN_SINCE else (),
                figures=tuple(figures.read(db)) if version >= history.CHAIN_SINCE else (),
                months=tuple(periods.read(db)) if version >= history.CHAIN_SINCE else (),
            )
    except (sqlite3.Error, OSError, UnusableError, ValueError, KeyError) as error:
        raise UnreachableError(
            f"the journal in {state_dir} cannot be read: {database.in_words(error)}"
        ) from error


def _lines(contents: Contents, now_wall_ns: int) -> Iterator[str]:
    yield _line(
        kind="header",
        schema=SCHEMA,
        version=VERSION,
        exported_wall_ns=now_wall_ns,
        **asdict(contents.standing),
    )
    for account in contents.accounts:
        yield _line(kind="account", **asdict(account))
    for boot_id, baseline in contents.baselines:
        members = asdict(baseline)
        del members["same_boot"]  # boot_id says it, wherever the text is read
        yield _line(kind="baseline", **members, boot_id=boot_id)
    for span in contents.spans:
        yield _line(kind="span", **outbox.members_of(span))
    for run in contents.runs:
        yield _line(kind="run", **run)
    for entry in contents.entries:
        yield _line(kind="entry", entry=asdict(entry))
    for figure in contents.figures:
        yield _line(kind="figure", **figures.members_of(figure))
    for start in contents.months:
        yield _line(kind="month", **periods.members_of(start))


def _line(**members: object) -> str:
    return json.dumps(members, separators=(",", ":"), allow_nan=False) + "\n"


def _parse(src: Iterable[str]) -> Contents:
    """The text as `Contents`.

    Raises:
        SetupError: it is malformed, changed or cut short; the line is named.
    """
    text = _Text()
    number = 1
    try:
        for line in src:
            text.take(line)
            number += 1
    except KeyError as error:
        raise _malformed(number, f"{error.args[0]} is missing") from error
    except (ValueError, RecursionError) as error:  # bytes that are not UTF-8 are a ValueError too
        raise _malformed(number, str(error)) from error
    if text.standing is None or not text.ended:
        raise _malformed(number, "the text is cut short")
    return Contents(
        text.standing,
        tuple(text.accounts.values()),
        tuple(text.baselines.values()),
        tuple(text.spans.values()),
        tuple(text.runs.values()),
        tuple(text.entries.values()),
        tuple(text.figures.values()),
        tuple(text.months.values()),
    )


class _Text:
    """What has been read so far. `take` raises ValueError, KeyError or RecursionError for a bad line."""

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.accounts: dict[tuple[str, tuple[str, ...]], Account] = {}
        self.baselines: dict[str, tuple[str, Baseline]] = {}
        self.spans: dict[tuple[str, str], SpanRecord] = {}
        self.runs: dict[tuple[str, int, str], Mapping[str, Any]] = {}
        self.entries: dict[int, Entry] = {}
        self.figures: dict[tuple[object, ...], Intensity] = {}
        self.months: dict[str, Start] = {}
        self.ended = False
        self._kinds: dict[str, Callable[[dict[str, Any]], None]] = {
            "header": self._header,
            "account": self._account,
            "baseline": self._baseline,
            "span": self._span,
            "run": self._run,
            "entry": self._entry,
            "figure": self._figure,
            "month": self._month,
            "end": self._end,
        }
        self._digest = hashlib.sha256()

    def take(self, line: str) -> None:
        members = json.loads(line, parse_constant=_not_json)
        if not isinstance(members, dict):
            raise ValueError("it is not a JSON object")
        kind = members["kind"]
        if self.ended:
            raise ValueError("there is text after the end")
        if (kind == "header") is not (self.standing is None):
            raise ValueError("exactly one header comes first")
        if not isinstance(kind, str) or kind not in self._kinds:
            raise ValueError(f"kind is {kind!r:.80}, allowed is {', '.join(self._kinds)}")
        self._kinds[kind](members)
        self._digest.update(line.encode())

    def _header(self, members: dict[str, Any]) -> None:
        if members["schema"] != SCHEMA or members["version"] not in range(1, VERSION + 1):
            raise ValueError(f"it is not {SCHEMA} version 1 to {VERSION}")
        self.standing = schema.standing_of(members)

    def _account(self, members: dict[str, Any]) -> None:
        account = schema.account_of(members)
        key = account.quantity, account.labels
        if key in self.accounts:
            raise ValueError(f"account {account.quantity}{account.labels} is there twice")
        self.accounts[key] = account

    def _baseline(self, members: dict[str, Any]) -> None:
        boot_id, baseline = schema.baseline_of(members)
        if baseline.device in self.baselines:
            raise ValueError(f"baseline {baseline.device} is there twice")
        self.baselines[baseline.device] = boot_id, baseline

    def _span(self, members: dict[str, Any]) -> None:
        span = outbox.span_of(members)
        key = span.trace_id, span.span_id
        if key in self.spans:
            raise ValueError(f"span {span.span_id} is there twice")
        self.spans[key] = span

    def _run(self, members: dict[str, Any]) -> None:
        kept = history.kept_of(members)
        key = kept.record.run.run_id, kept.record.run.attempt, kept.record.node
        if key in self.runs:
            raise ValueError(f"attempt {key[1]} of run {key[0]} is there twice")
        self.runs[key] = members

    def _entry(self, members: dict[str, Any]) -> None:
        if not isinstance(members["entry"], dict):
            raise ValueError(f"entry is {members['entry']!r:.80}, allowed is a JSON object")
        entry = chain_of_runs.entry_of(members["entry"])
        if entry.sequence in self.entries:
            raise ValueError(f"entry {entry.sequence} is there twice")
        self.entries[entry.sequence] = entry

    def _figure(self, members: dict[str, Any]) -> None:
        figure = figures.figure_of(members)
        key = (*figures.source_of(figure), figure.valid_from_wall_ns)
        if key in self.figures:
            raise ValueError(
                f"the figure of {figure.provider} for {figure.valid_from_wall_ns} is there twice"
            )
        self.figures[key] = figure

    def _month(self, members: dict[str, Any]) -> None:
        start = periods.start_of(members)
        if start.month in self.months:
            raise ValueError(f"month {start.month} is there twice")
        self.months[start.month] = start

    def _end(self, members: dict[str, Any]) -> None:
        found = {
            "accounts": len(self.accounts),
            "baselines": len(self.baselines),
            "spans": len(self.spans),
            "runs": len(self.runs),
            "entries": len(self.entries),
            "figures": len(self.figures),
            "months": len(self.months),
        }
        for name, count in found.items():
            told = members.get(name, 0)
            if told != count:
                raise ValueError(f"there should be {told} {name}, there are {count}")
        if members["sha256"] != self._digest.hexdigest():
            raise ValueError("sha256 does not match: the text was changed")
        self.ended = True


def _resumable(contents: Contents) -> Contents:
    """What may be gone on from: of a journal without a clean stop, the totals alone."""
    if contents.standing.clean_stop:
        return contents
    # No boot equals the empty one, so the journal opens as after an unclean reboot.
    # Its spans come along: one that was delivered meanwhile is sent again under the same ids.
    return replace(contents, standing=replace(contents.standing, boot_id=""), baselines=())


def _not_json(constant: str) -> Never:
    raise ValueError(f"{constant} is not a number that a journal holds")


def _malformed(number: int, detail: str) -> SetupError:
    return SetupError(f"the text is no whole journal: line {number}: {detail}; nothing was imported")
