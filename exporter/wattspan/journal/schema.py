"""What is in the database: its tables, how they came to be, and how rows become records."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

from wattspan.journal.chain_of_runs import Entry
from wattspan.journal.periods import Start
from wattspan.journal.records import Account, Baseline, Fact
from wattspan.model import CounterKey, Intensity
from wattspan.runs import SpanRecord

INTEGER_MAX: Final = 2**63 - 1
"""The largest whole number SQLite holds: as microjoules, 2.5 TWh."""


class UnusableError(Exception):
    """A journal that cannot be gone on from, though the file can be read.

    Args:
        why: a word for the name it is set aside under.
        detail: what was found, for the operator.
    """

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(detail)
        self.why = why
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Standing:
    """How the journal stands: the one row of the table ``meta``.

    Attributes:
        lineage: a random name given when the journal began; it survives export and import.
        created_wall_ns: when that was.
        boot_id: of the machine when a daemon last opened the journal; empty when unknown, which equals none.
        clean_stop: that daemon has closed it cleanly, so nothing was published that is not here.
        commits: how many were made since it began.
        synced_wall_ns: when all of them were last known to be on the disk.
        chain_length, chain_head: number and hash of the newest entry of the chain of closed runs; 0 and empty
            before the first.
    """

    lineage: str
    created_wall_ns: int
    boot_id: str
    clean_stop: bool
    commits: int
    synced_wall_ns: int
    chain_length: int = 0
    chain_head: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a journal holds.

    Attributes:
        standing: how it stands.
        accounts: in the order in which they were first committed.
        baselines: each with the boot id that it was read in; `Baseline.same_boot` says nothing here.
        spans: that wait in the outbox, the oldest first.
        runs: of the history, as JSON has them, so that they come out as they were hashed.
        entries: of the chain of closed runs.
        figures: what the grid's providers have said of hours that are over.
        months: the owners' accounts as each began.
            All from the spans on are here only for an export or an import.
    """

    standing: Standing
    accounts: tuple[Account, ...]
    baselines: tuple[tuple[str, Baseline], ...]
    spans: tuple[SpanRecord, ...] = ()
    runs: tuple[Mapping[str, Any], ...] = ()
    entries: tuple[Entry, ...] = ()
    figures: tuple[Intensity, ...] = ()
    months: tuple[Start, ...] = ()


def _version_1(db: sqlite3.Connection) -> None:
    # `total` and `base` have no declared type on purpose: any numeric affinity would turn 3.0 into 3.
    db.execute(
        """
        CREATE TABLE account (
            id INTEGER PRIMARY KEY,
            quantity TEXT NOT NULL,
            labels TEXT NOT NULL,
            total NOT NULL CHECK (typeof(total) IN ('integer', 'real') AND total < 9e999),
            base NOT NULL CHECK (typeof(base) IN ('integer', 'real') AND base BETWEEN 0 AND total),
            released INTEGER NOT NULL CHECK (released IN (0, 1)),
            UNIQUE (quantity, labels)
        )
        """
    )
    db.execute(
        """
        CREATE TABLE baseline (
            device TEXT PRIMARY KEY NOT NULL,
            energy_uj INTEGER CHECK (energy_uj >= 0),
            read_at_ns INTEGER NOT NULL,
            facts TEXT NOT NULL,
            boot_id TEXT NOT NULL
        )
        """
    )
    db.execute(
        """
        CREATE TABLE meta (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            lineage TEXT NOT NULL,
            created_wall_ns INTEGER NOT NULL,
            boot_id TEXT NOT NULL,
            clean_stop INTEGER NOT NULL CHECK (clean_stop IN (0, 1)),
            commits INTEGER NOT NULL CHECK (commits >= 0),
            synced_wall_ns INTEGER NOT NULL
        )
        """
    )


def _version_2(db: sqlite3.Connection) -> None:
    # AUTOINCREMENT: a delivery in flight must never remove a newer span that got the same id.
    db.execute(
        """
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            trace_id TEXT NOT NULL,
            span_id TEXT NOT NULL,
            detail INTEGER NOT NULL CHECK (detail IN (0, 1)),
            bytes INTEGER NOT NULL CHECK (bytes >= 0),
            span TEXT NOT NULL,
            UNIQUE (trace_id, span_id)
        )
        """
    )
    # All that finding room needs, so that no span is read for it.
    db.execute("CREATE INDEX outbox_dearest ON outbox (detail, id DESC, bytes)")


def _version_3(db: sqlite3.Connection) -> None:
    # The long texts stand last, so that SQLite need not read them to find, order and count rows.
    db.execute(
        """
        CREATE TABLE run (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            node TEXT NOT NULL,
            began_wall_ns INTEGER NOT NULL,
            ended_wall_ns INTEGER,
            bytes INTEGER NOT NULL,
            record TEXT NOT NULL,
            resume TEXT NOT NULL,
            points TEXT NOT NULL,
            UNIQUE (run_id, attempt, node)
        )
        """
    )
    db.execute("CREATE INDEX run_began ON run (began_wall_ns)")
    db.execute("CREATE INDEX run_ended ON run (ended_wall_ns, bytes)")


def _version_4(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE run ADD COLUMN factors TEXT NOT NULL DEFAULT '{}'")
    db.execute("UPDATE run SET bytes = bytes + 2")  # of that
    db.execute("ALTER TABLE meta ADD COLUMN chain_length INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE meta ADD COLUMN chain_head TEXT NOT NULL DEFAULT ''")
    db.execute(
        """
        CREATE TABLE run_chain (
            sequence INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            run_id TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            node TEXT NOT NULL,
            at_wall_ns INTEGER NOT NULL,
            record_hash TEXT NOT NULL,
            hash TEXT NOT NULL
        )
        """
    )
    db.execute("CREATE INDEX run_chain_run ON run_chain (run_id, attempt, node, sequence)")
    db.execute(
        """
        CREATE TABLE figure (
            provider TEXT NOT NULL,
            grid_zone TEXT NOT NULL,
            signal TEXT NOT NULL,
            basis TEXT NOT NULL,
            valid_from_wall_ns INTEGER NOT NULL,
            valid_until_wall_ns INTEGER NOT NULL,
            g_per_kwh REAL NOT NULL,
            estimated INTEGER NOT NULL,
            fetched_wall_ns INTEGER NOT NULL,
            PRIMARY KEY (provider, grid_zone, signal, basis, valid_from_wall_ns)
        ) WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX figure_age ON figure (valid_from_wall_ns)")
    db.execute("CREATE TABLE month (month TEXT PRIMARY KEY NOT NULL, taken_wall_ns INTEGER NOT NULL)")
    # `total` has no declared type, as in `account`.
    db.execute(
        """
        CREATE TABLE month_total (
            month TEXT NOT NULL,
            quantity TEXT NOT NULL,
            labels TEXT NOT NULL,
            total NOT NULL,
            PRIMARY KEY (month, quantity, labels)
        ) WITHOUT ROWID
        """
    )


MIGRATIONS: Final[Sequence[Callable[[sqlite3.Connection], None]]] = (
    _version_1,
    _version_2,
    _version_3,
    _version_4,
)
"""Step n brings version n to n + 1. Only ever add at the end."""


def migrate(
    db: sqlite3.Connection, migrations: Sequence[Callable[[sqlite3.Connection], None]] = MIGRATIONS
) -> None:
    """Bring the tables to the newest version, all steps in one transaction.

    Raises:
        sqlite3.Error: the database is damaged, or cannot be written.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version >= len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    for step in migrations[version:]:
        step(db)
    db.execute(f"PRAGMA user_version = {len(migrations)}")
    db.execute("COMMIT")


def check(db: sqlite3.Connection) -> None:
    """Look for damage, and for a version that a newer program wrote.

    What it cannot see is a figure that was changed into another plausible one: SQLite keeps no checksum
    of its pages, only of the write-ahead log.

    Raises:
        UnusableError: damage, a database that was never ours, or a newer one.
        sqlite3.Error: damage that stops SQLite, or a file that cannot be read.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version < 1:
        raise UnusableError("corrupt", "it has no tables of a journal")
    if version > len(MIGRATIONS):
        raise UnusableError(
            f"version-{version}", f"it has version {version}, and this wattspan knows {len(MIGRATIONS)}"
        )
    # integrity_check and not the quicker one: a commit relies on the index that finds an account.
    (finding,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if finding != "ok":
        raise UnusableError("corrupt", " ".join(str(finding).split()))


def write(
    db: sqlite3.Connection, accounts: Iterable[Account], baselines: Iterable[tuple[str, Baseline]]
) -> None:
    """Put rows in, each over the one of the same key. The caller holds the transaction.

    Raises:
        sqlite3.Error, OverflowError, ValueError: a row that does not fit, or a disk that does not take it.
    """
    db.executemany(
        "INSERT INTO account (quantity, labels, total, base, released) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (quantity, labels)"
        " DO UPDATE SET total = excluded.total, base = excluded.base, released = excluded.released",
        [(a.quantity, _labels_text(a.labels), a.total, a.base, a.released) for a in accounts],
    )
    db.executemany(
        "INSERT OR REPLACE INTO baseline (device, energy_uj, read_at_ns, facts, boot_id)"
        " VALUES (?, ?, ?, ?, ?)",
        [(b.device, b.energy_uj, b.read_at_ns, _facts_text(b.facts), boot_id) for boot_id, b in baselines],
    )


def forget(db: sqlite3.Connection, gone: Iterable[CounterKey]) -> None:
    """Take accounts out; one that is not there is none to worry about. The caller holds the transaction.

    Raises:
        sqlite3.Error: a disk that does not take it.
    """
    db.executemany(
        "DELETE FROM account WHERE quantity = ? AND labels = ?",
        [(quantity, _labels_text(labels)) for quantity, labels in gone],
    )


def begin(db: sqlite3.Connection, standing: Standing) -> None:
    """Give a journal its one row of ``meta``. The caller holds the transaction."""
    db.execute(
        "INSERT INTO meta (id, lineage, created_wall_ns, boot_id, clean_stop, commits, synced_wall_ns,"
        " chain_length, chain_head) VALUES (1, :lineage, :created_wall_ns, :boot_id, :clean_stop, :commits,"
        " :synced_wall_ns, :chain_length, :chain_head)",
        asdict(standing),
    )


def read(db: sqlite3.Connection) -> Contents:
    """How it stands, accounts and baselines, and nothing else.

    The caller holds the transaction, so it is one moment.

    Raises:
        UnusableError: a row makes no sense.
        sqlite3.Error: damage that stops SQLite, or a missing table.
    """
    try:
        (standing,) = _rows(db, "SELECT * FROM meta")
        return Contents(
            standing=standing_of(standing),
            accounts=tuple(account_of(row) for row in _rows(db, "SELECT * FROM account ORDER BY id")),
            baselines=tuple(baseline_of(row) for row in _rows(db, "SELECT * FROM baseline ORDER BY device")),
        )
    except (KeyError, ValueError, RecursionError) as error:
        raise UnusableError("corrupt", f"a row makes no sense: {error}") from error


def _rows(db: sqlite3.Connection, query: str) -> Iterator[dict[str, object]]:
    """Rows as the members that an exported line has: flags are bools, and JSON is what it says."""
    cursor = db.execute(query)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield {name: _as_member(name, value) for name, value in zip(names, row, strict=True)}


def _as_member(name: str, value: object) -> object:
    if name in {"clean_stop", "released"} and value in {0, 1}:
        return bool(value)
    if name in {"labels", "facts"} and isinstance(value, str):
        return json.loads(value)
    return value


def standing_of(members: Mapping[str, object]) -> Standing:
    """A `Standing` of members that may be anything.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    return Standing(
        lineage=_text(members, "lineage"),
        created_wall_ns=_whole(members, "created_wall_ns"),
        boot_id=_text(members, "boot_id"),
        clean_stop=_truth(members, "clean_stop"),
        commits=_whole(members, "commits"),
        synced_wall_ns=_whole(members, "synced_wall_ns"),
        # Before version 4 of tables and text there was no chain.
        chain_length=_whole(members, "chain_length") if "chain_length" in members else 0,
        chain_head=_text(members, "chain_head") if "chain_head" in members else "",
    )


def account_of(members: Mapping[str, object]) -> Account:
    """An `Account` of members that may be anything.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    labels = members["labels"]
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise _unfit("labels", labels, "a list of texts")
    account = Account(
        quantity=_text(members, "quantity"),
        labels=tuple(labels),
        total=_amount(members, "total"),
        base=_amount(members, "base"),
        released=_truth(members, "released"),
    )
    if account.base > account.total:
        raise _unfit("base", account.base, f"at most the total, {account.total}")
    return account


def baseline_of(members: Mapping[str, object]) -> tuple[str, Baseline]:
    """A boot id and a `Baseline` read in it, of members that may be anything.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    facts = members["facts"]
    if not isinstance(facts, dict) or not all(isinstance(fact, Fact) for fact in facts.values()):
        raise _unfit("facts", facts, "plain values by name")
    baseline = Baseline(
        device=_text(members, "device"),
        energy_uj=None if members["energy_uj"] is None else _whole(members, "energy_uj"),
        read_at_ns=_whole(members, "read_at_ns"),
        facts=facts,
    )
    return _text(members, "boot_id"), baseline


def _text(members: Mapping[str, object], name: str) -> str:
    value = members[name]
    if isinstance(value, str):
        return value
    raise _unfit(name, value, "a text")


def _truth(members: Mapping[str, object], name: str) -> bool:
    value = members[name]
    if isinstance(value, bool):
        return value
    raise _unfit(name, value, "true or false")


def _whole(members: Mapping[str, object], name: str) -> int:
    value = members[name]
    if type(value) is int and 0 <= value <= INTEGER_MAX:
        return value
    raise _unfit(name, value, f"a whole number from 0 to {INTEGER_MAX}")


def _amount(members: Mapping[str, object], name: str) -> int | float:
    value = members[name]
    if type(value) is float and math.isfinite(value) and value >= 0:
        return value
    return _whole(members, name)


def _unfit(name: str, value: object, allowed: str) -> ValueError:
    return ValueError(f"{name} is {value!r:.80}, allowed is {allowed}")


# Every tick writes the same labels again; the bound is above the series budget and keeps memory flat.
@lru_cache(maxsize=8192)
def _labels_text(labels: tuple[str, ...]) -> str:
    return json.dumps(labels)


def _facts_text(facts: Mapping[str, Fact]) -> str:
    return json.dumps(dict(facts), allow_nan=False)
