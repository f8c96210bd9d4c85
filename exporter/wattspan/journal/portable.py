"""A journal as text, to be carried to another machine or kept: ``wattspan journal export`` and ``import``.

One JSON object per line: a header, the accounts, the baselines, the spans that no collector has acknowledged,
the runs, and an end that holds their numbers and the SHA-256 of every line before it, so that a text that was
cut short or changed is noticed.

The text of a cleanly stopped journal goes on with every counter where it was read.
That of a running or crashed daemon may be older than what was published: after import its totals go on,
its counters start again from 0, and its baselines are left out, since their energy may have been counted.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never, TextIO

from wattspan.errors import SetupError, UnreachableError
from wattspan.journal import database, folder, history, outbox, schema
from wattspan.journal.folder import FolderLock
from wattspan.journal.opening import create
from wattspan.journal.schema import Contents, Standing, UnusableError

if TYPE_CHECKING:
    from wattspan.journal.records import Account, Baseline, KeptRun
    from wattspan.runs import SpanRecord

SCHEMA: Final = "wattspan-journal"
VERSION: Final = 3
"""Of the text; the tables have a version of their own. Version 1 had no spans and no runs, 2 no runs."""


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
            raise UnreachableError(f"there is no journal in {state_dir}; name its folder with --state.dir")
        with contextlib.closing(database.connect(path, "ro")) as db:
            db.execute("BEGIN")
            schema.check(db)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            return replace(
                schema.read(db),
                spans=outbox.read(db) if version > 1 else (),
                runs=tuple(history.read(db)) if version >= history.TABLE_SINCE else (),
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
        yield _line(kind="run", **history.members_of_kept(run))


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
    )


class _Text:
    """What has been read so far. `take` raises ValueError, KeyError or RecursionError for a bad line."""

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.accounts: dict[tuple[str, tuple[str, ...]], Account] = {}
        self.baselines: dict[str, tuple[str, Baseline]] = {}
        self.spans: dict[tuple[str, str], SpanRecord] = {}
        self.runs: dict[tuple[str, int, str], KeptRun] = {}
        self.ended = False
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
        match kind:
            case "header":
                self._header(members)
            case "account":
                self._account(members)
            case "baseline":
                self._baseline(members)
            case "span":
                self._span(members)
            case "run":
                self._run(members)
            case "end":
                self._end(members)
            case _:
                raise ValueError(
                    f"kind is {kind!r:.80}, allowed is header, account, baseline, span, run or end"
                )
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
        self.runs[key] = kept

    def _end(self, members: dict[str, Any]) -> None:
        found = {
            "accounts": len(self.accounts),
            "baselines": len(self.baselines),
            "spans": len(self.spans),
            "runs": len(self.runs),
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
