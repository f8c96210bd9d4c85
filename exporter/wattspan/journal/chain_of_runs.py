"""A hash chain over the runs that have closed, so that a later edit of one of them is found.

When a run closes, the commit that keeps its final record also enters its hash here, and each entry holds the
hash of the one before. Retention that lets go of a record enters that too: the two entries are its tombstone.
The newest hash, the head, stands in ``meta`` besides.

Whoever may write the whole file can also write a chain that fits. Against that only a copy of a head that is
kept elsewhere helps: each is logged when a run closes, and ``wattspan audit`` prints the newest.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Kind = Literal["closed", "removed"]
"""What an entry tells: a run closed; retention let go of it."""

RunKey = tuple[str, int, str]
"""A run's id, its attempt, and the node."""

FINDINGS_MAX: Final = 100
"""Findings that are told of in words; the others are counted."""

_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

# As bytes: a text that is no UTF-8 is a finding, not a failure.
_HASHED: Final = "CAST(record AS BLOB), CAST(factors AS BLOB), CAST(points AS BLOB)"
_FIELDS: Final = "sequence, kind, run_id, attempt, node, at_wall_ns, record_hash, hash"


@dataclass(frozen=True, slots=True)
class Entry:
    """One link.

    Attributes:
        sequence: counted from 1, without gaps.
        kind: what it tells.
        run_id, attempt, node: of the run.
        at_wall_ns: when the run ended, or was let go of.
        record_hash: SHA-256, hexadecimal, of the stored record, factors and points as they stood.
        hash: SHA-256, hexadecimal, of the hash before and of all above; before the first stands the lineage.
    """

    sequence: int
    kind: Kind
    run_id: str
    attempt: int
    node: str
    at_wall_ns: int
    record_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was committed.

    Attributes:
        what: in two or three words.
        where: an entry, a run, or the chain as a whole.
        detail: one sentence.
    """

    what: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the whole chain found.

    Attributes:
        lineage: of the journal.
        entries: how many there are.
        records: closed runs that the journal holds as they were entered.
        removed: runs that retention let go of.
        head: hash of the newest entry; empty where there is none.
        findings: what is wrong, `FINDINGS_MAX` at most.
        findings_count: how much is.
    """

    lineage: str
    entries: int
    records: int
    removed: int
    head: str
    findings: tuple[Finding, ...]
    findings_count: int

    @property
    def sound(self) -> bool:
        """Nothing was found."""
        return not self.findings_count


def close(db: sqlite3.Connection, key: RunKey) -> Entry | None:
    """Enter a run whose final record has just been written; None when it is entered as it stands already.

    The caller holds the transaction.

    Raises:
        sqlite3.Error: a disk that does not take it.
    """
    condition = "run_id = ? AND attempt = ? AND node = ?"
    ended_wall_ns, *texts = db.execute(
        f"SELECT ended_wall_ns, {_HASHED} FROM run WHERE {condition}",  # noqa: S608 - constants
        key,
    ).fetchone()
    record_hash = _hash_of_record(texts)
    last = db.execute(
        f"SELECT kind, record_hash FROM run_chain WHERE {condition} ORDER BY sequence DESC LIMIT 1",  # noqa: S608
        key,
    ).fetchone()
    if last is not None and last[0] != "removed" and last[1] == record_hash:
        return None  # a commit that failed in its last step was made all the same
    return _append(db, "closed", key, ended_wall_ns, record_hash)


def let_go(db: sqlite3.Connection, rows: Iterable[int], now_wall_ns: int) -> None:
    """Delete ended runs, and enter that they were. The caller holds the transaction.

    Each entry has the hash of the record as it goes: what was changed before is found afterwards too.

    Args:
        rows: their ids in the table ``run``.
        now_wall_ns: CLOCK_REALTIME.

    Raises:
        sqlite3.Error: a disk that does not take it.
    """
    for row in rows:
        run_id, attempt, node, *texts = db.execute(
            f"SELECT run_id, attempt, node, {_HASHED} FROM run WHERE id = ?",  # noqa: S608 - constants
            (row,),
        ).fetchone()
        db.execute("DELETE FROM run WHERE id = ?", (row,))
        _append(db, "removed", (run_id, attempt, node), now_wall_ns, _hash_of_record(texts))


def read(db: sqlite3.Connection) -> Iterator[Entry]:
    """Every entry, the first one first.

    Raises:
        sqlite3.Error: damage that stops SQLite.
    """
    for row in db.execute(f"SELECT {_FIELDS} FROM run_chain ORDER BY sequence"):  # noqa: S608 - constants
        yield Entry(*row)


def restore(db: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Put entries in as they are, sound or not. The caller holds the transaction.

    Raises:
        sqlite3.Error, OverflowError: a disk that does not take them, or a number beyond 64 bits.
    """
    db.executemany(
        f"INSERT INTO run_chain ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        [tuple(getattr(entry, name) for name in Entry.__slots__) for entry in entries],
    )


def entry_of(members: Mapping[str, Any]) -> Entry:
    """An entry of members that may be anything. Whether it fits the chain is the audit's to say.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    for name in ("run_id", "node", "record_hash", "hash"):
        if not isinstance(members[name], str):
            raise ValueError(f"{name} is {members[name]!r:.80}, allowed is a text")
    for name in ("sequence", "attempt", "at_wall_ns"):
        if type(members[name]) is not int or not 0 <= members[name] < 2**63:
            raise ValueError(f"{name} is {members[name]!r:.80}, allowed is a whole number from 0")
    if members["kind"] not in _KINDS:
        raise ValueError(f"kind is {members['kind']!r:.80}, allowed is {', '.join(_KINDS)}")
    return Entry(*(members[name] for name in Entry.__slots__))


def verify(db: sqlite3.Connection) -> Verdict:
    """Hold the runs that have closed against the chain, and the chain against itself.

    It finds a record that was changed, one that is missing though nothing says that it was let go of, one
    that was never entered or more than once, an entry that was changed, moved or taken out, and a tail that
    was cut off.

    Args:
        db: in a transaction, so that it is one moment; with tables that have a chain. Its texts are read
            leniently from here on.

    Raises:
        sqlite3.Error: damage that stops SQLite.
    """
    db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return _Look(db).verdict()


class _Look:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._findings: list[Finding] = []
        self._count = 0
        self._held: dict[RunKey, str | None] = {}  # by the first entry of each; None once let go of
        self._entries = self._removed = self._records = 0
        self._head = ""

    def verdict(self) -> Verdict:
        meta = self._db.execute("SELECT lineage, chain_length, chain_head FROM meta").fetchone()
        lineage, length, head = meta or ("", 0, "")
        self._follow(lineage, length, head)
        self._compare()
        return Verdict(
            lineage=lineage,
            entries=self._entries,
            records=self._records,
            removed=self._removed,
            head=self._head,
            findings=tuple(self._findings),
            findings_count=self._count,
        )

    def _follow(self, lineage: str, length: int, head: str) -> None:
        """Every link, and whether the last one is the head."""
        previous, last = lineage, 0
        for entry in read(self._db):
            self._entries += 1
            if entry.sequence != last + 1:
                # Its own hash cannot be held against that of the one before, which is gone.
                self._find("missing entry", _place(entry), f"The one before it is {last}.")
            elif entry.hash != _hash_of_entry(previous, entry):
                self._find("broken link", _place(entry), "It was changed or moved, or the one before it was.")
            previous, last, self._head = entry.hash, entry.sequence, entry.hash
            self._take(entry)
        if (last, self._head) != (length, head):
            detail = f"{length} entries were made, and the last one left is {last}."
            if last == length:
                detail = f"The head is kept as {head!r:.80}, and the last entry is {self._head!r:.80}."
            self._find("cut or changed tail", "the chain", detail)

    def _take(self, entry: Entry) -> None:
        key = (entry.run_id, entry.attempt, entry.node)
        if entry.kind != "removed":
            if key in self._held:
                # Else whoever changes a record would only have to enter it once more.
                self._find("entered again", _name(key), f"{_place(entry)} says so; an attempt closes once.")
            else:
                self._held[key] = entry.record_hash
            return
        self._removed += 1
        entered, self._held[key] = self._held.get(key), None
        if entered is None:
            self._find("record without entry", _name(key), "It was let go of, and had never been entered.")
        elif entered != entry.record_hash:
            self._find("changed record", _name(key), "It was changed before it was let go of.")

    def _compare(self) -> None:
        """Every record with its entry."""
        query = (
            "SELECT run_id, attempt, node, began_wall_ns, ended_wall_ns, bytes, CAST(resume AS BLOB),"  # noqa: S608
            f" {_HASHED} FROM run ORDER BY id"
        )
        for *told, size, resume, record, factors, points in self._db.execute(query):
            texts = (record, factors, points)
            run_id, attempt, node, _, ended_wall_ns = told
            key = (run_id, attempt, node)
            entered = self._held.pop(key, None)
            if entered is None:
                if ended_wall_ns is not None:
                    self._find("record without entry", _name(key), "It is said to have ended.")
                continue
            if entered != _hash_of_record(texts):
                self._find("changed record", _name(key), "It is not what was entered when it closed.")
            elif (size, resume) != (sum(map(len, texts)), b"null") or tuple(told) != _told_by(record):
                self._find("changed record", _name(key), "Its row says something else than its record.")
            else:
                self._records += 1
        for key in (key for key, entered in self._held.items() if entered is not None):
            self._find("missing record", _name(key), "Nothing says that it was let go of.")

    def _find(self, what: str, where: str, detail: str) -> None:
        self._count += 1
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(Finding(what, where, detail))


def _append(db: sqlite3.Connection, kind: Kind, key: RunKey, at_wall_ns: int, record_hash: str) -> Entry:
    lineage, length, head = db.execute("SELECT lineage, chain_length, chain_head FROM meta").fetchone()
    # Not the newest entry but the head that is kept: a tail that was cut off stays a gap for ever.
    (newest,) = db.execute("SELECT ifnull(max(sequence), 0) FROM run_chain").fetchone()
    sequence = max(length, newest) + 1
    draft = Entry(sequence, kind, *key, at_wall_ns, record_hash, "")
    entry = Entry(sequence, kind, *key, at_wall_ns, record_hash, _hash_of_entry(head or lineage, draft))
    restore(db, [entry])
    db.execute("UPDATE meta SET chain_length = ?, chain_head = ?", (sequence, entry.hash))
    return entry


def _hash_of_record(texts: Iterable[bytes]) -> str:
    """Of the compact JSON as it is stored, which holds no line end."""
    return hashlib.sha256(b"\n".join(texts)).hexdigest()


def _hash_of_entry(previous: str, entry: Entry) -> str:
    members = [getattr(entry, name) for name in Entry.__slots__ if name != "hash"]
    text = json.dumps([previous, *members], separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _told_by(record: bytes) -> tuple[Any, ...]:
    """What the row's own columns must be, by the record in it."""
    try:
        members = json.loads(record)
        run = members["run"]
        times = (members["began_wall_ns"], members["ended_wall_ns"])
        return (run["run_id"], run.get("attempt", 0), members["node"], *times)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()  # it was nonsense already when it was entered


def _place(entry: Entry) -> str:
    return f"entry {entry.sequence}"


def _name(key: RunKey) -> str:
    run_id, attempt, node = key
    return f"run {run_id}, attempt {attempt}, on {node}"
