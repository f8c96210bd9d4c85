"""The runs of this node: what they were and what they used, for as long as the history keeps them.

A row per attempt and node. It is written within the writer's commit, over the one before: first while the run
goes on, so that a restarted daemon goes on with it, and once more, final, when it has ended.
Commands and the API read beside the writer, with a connection of their own.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from wattspan.errors import UnreachableError, WattspanError
from wattspan.journal import chain_of_runs, database, figures, folder, periods
from wattspan.journal.chain_of_runs import Entry, Verdict
from wattspan.journal.figures import Revision, Source
from wattspan.journal.json_records import members_of, record_of
from wattspan.journal.periods import Usage
from wattspan.journal.records import KeptRun
from wattspan.model import Intensity
from wattspan.runs import NO_PROGRESS, Factor, Point, Progress, RunRecord, RunState
from wattspan.units import NS_PER_S

TABLE_SINCE: Final = 3
"""The version of the tables that has runs; a journal that no newer daemon has opened yet has none."""

CHAIN_SINCE: Final = 4
"""The version of the tables that has factors, the chain of closed runs, figures and months."""

_COLUMNS: Final = ("record", "resume", "points", "factors")
"""Of the table ``run`` that hold JSON; the members of a run in an exported text."""

_NONSENSE: Final = (ValueError, KeyError, RecursionError)
"""What a row may fail with that was changed from outside. It is passed over: one row costs no other."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended runs are kept. Those that go on are never let go of.

    Attributes:
        age_ns: from their end to that of a later run; the clock alone lets go of nothing, as it may be wrong.
        bytes_max: of JSON, over all of them; the oldest go first.
    """

    age_ns: int = 365 * 86_400 * NS_PER_S
    bytes_max: int = 64 << 20


DEFAULT_RETENTION: Final = Retention()


def write(db: sqlite3.Connection, runs: Iterable[KeptRun]) -> tuple[Entry, ...]:
    """Put runs in, each over the row of the same attempt. The caller holds the transaction.

    Returns:
        The entries of the chain, for those that have ended.

    Raises:
        sqlite3.Error, OverflowError: a disk that does not take them, or a time beyond 64 bits.
        TypeError, ValueError: something to resume with that is no JSON.
    """
    entries = []
    for run in runs:
        _put(db, run, members_of_kept(run))
        if run.record.ended_wall_ns is not None:
            key = run.record.run.run_id, run.record.run.attempt, run.record.node
            entries.append(chain_of_runs.close(db, key))
    return tuple(entry for entry in entries if entry is not None)


def restore(db: sqlite3.Connection, runs: Iterable[Mapping[str, Any]]) -> None:
    """Put runs in as `read` gave them, and nothing into the chain. The caller holds the transaction.

    Raises:
        sqlite3.Error, OverflowError: a disk that does not take them, or a time beyond 64 bits.
    """
    for members in runs:
        _put(db, kept_of(members), members)


def make_room(db: sqlite3.Connection, retention: Retention, now_wall_ns: int) -> None:
    """Let go of ended runs that are too old, and of the oldest of what is too much.

    To be called before another ends and is written: with a clock that is wrong that one would make all the
    others look old. The caller holds the transaction.

    Args:
        retention: of ended runs; those that go on are left alone.
        now_wall_ns: CLOCK_REALTIME.

    Raises:
        sqlite3.Error: a disk that does not take it.
    """
    too_old = db.execute(
        "SELECT id FROM run WHERE ended_wall_ns < ?2"
        " + (SELECT max(ended_wall_ns) FROM run WHERE ended_wall_ns <= ?1) ORDER BY ended_wall_ns, id",
        (now_wall_ns, -retention.age_ns),
    ).fetchall()
    chain_of_runs.let_go(db, (row for (row,) in too_old), now_wall_ns)
    too_much = db.execute(
        "SELECT id FROM ("
        "SELECT id, ended_wall_ns, sum(bytes) OVER (ORDER BY ended_wall_ns DESC, id DESC) AS bytes_to_here"
        " FROM run WHERE ended_wall_ns IS NOT NULL) WHERE bytes_to_here > ? ORDER BY ended_wall_ns, id",
        (retention.bytes_max,),
    ).fetchall()
    chain_of_runs.let_go(db, (row for (row,) in too_much), now_wall_ns)


def active(db: sqlite3.Connection) -> tuple[KeptRun, ...]:
    """The runs that had not ended, in the order in which they began; one that makes no sense is left out.

    Raises:
        sqlite3.Error: damage that stops SQLite.
    """
    query = (
        "SELECT record, resume, points, factors FROM run"
        " WHERE ended_wall_ns IS NULL ORDER BY began_wall_ns, id"
    )
    found = []
    for row in db.execute(query):
        with contextlib.suppress(*_NONSENSE):
            found.append(_kept(*row))
    return tuple(found)


def read(db: sqlite3.Connection) -> Iterator[Mapping[str, Any]]:
    """All that the history holds, as JSON has it, in the order in which it came.

    Raises:
        ValueError, KeyError: a row is no run.
        sqlite3.Error: damage that stops SQLite.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for row in db.execute(f"SELECT {_columns_of(version)} FROM run ORDER BY id"):  # noqa: S608 - constants
        members = dict(zip(_COLUMNS, map(json.loads, row), strict=True))
        kept_of(members)
        yield members


class History:
    """The runs of a node, for commands and the API. It reads beside the writer and never writes.

    Any thread may call; every call sees the last commit.

    Args:
        state_dir: of a journal, open or not.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def runs(
        self,
        *,
        project: str | None = None,
        group: str | None = None,
        state: RunState | None = None,
        since_wall_ns: int | None = None,
    ) -> Iterator[RunRecord]:
        """Runs, the newest begin first, without points. They are read as they are asked for.

        Args:
            project, group: theirs.
            state: whether they have ended.
            since_wall_ns: they were running then or later.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        query = (
            "SELECT record FROM run WHERE (?1 IS NULL OR (ended_wall_ns IS NULL) = ?1)"
            " AND (?2 IS NULL OR ended_wall_ns IS NULL OR ended_wall_ns >= ?2)"
            " ORDER BY began_wall_ns DESC, id DESC"
        )
        running = None if state is None else state == "running"
        for (text,) in self._query(query, running, since_wall_ns):
            try:
                record = record_of(RunRecord, json.loads(text))
            except _NONSENSE:
                continue
            if project in (None, record.run.project) and group in (None, record.run.group):
                yield record

    def attempts(self, run_id: str) -> tuple[RunRecord, ...]:
        """Every attempt of a run that this node knows, the first one first, with points.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        found = []
        with self._reading() as (db, version):
            if version < TABLE_SINCE:
                return ()
            query = f"SELECT {_columns_of(version)} FROM run WHERE run_id = ? ORDER BY attempt, id"  # noqa: S608
            for row in db.execute(query, (run_id,)):
                with contextlib.suppress(*_NONSENSE):
                    found.append(_kept(*row).record)
        return tuple(found)

    def ended(self) -> Iterator[RunRecord]:
        """Every attempt that has ended, the first to begin first, with points. Read as they are asked for.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        with self._reading() as (db, version):
            if version < TABLE_SINCE:
                return
            query = (
                f"SELECT {_columns_of(version)} FROM run"  # noqa: S608 - constants
                " WHERE ended_wall_ns IS NOT NULL ORDER BY began_wall_ns, id"
            )
            for row in db.execute(query):
                with contextlib.suppress(*_NONSENSE):
                    yield _kept(*row).record

    def ended_co2e_g(self, run_id: str) -> Mapping[int, float]:
        """Operational grams of a run's attempts on this node that have ended, by attempt.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        found: dict[int, float] = {}
        query = "SELECT attempt, record FROM run WHERE run_id = ? AND ended_wall_ns IS NOT NULL"
        for attempt, text in self._query(query, run_id):
            with contextlib.suppress(*_NONSENSE):
                found[attempt] = record_of(RunRecord, json.loads(text)).totals.co2e_g
        return found

    def last_attempts(self, at_most: int) -> Mapping[str, tuple[int, int, Progress]]:
        """The last attempt of every run that has ended, when (wall clock) and how far it was, by run id.

        By the chain, which knows those that retention let go of, too: how far these were is not known.

        Args:
            at_most: so many run ids, those that ended last; they stand in the order of their ends.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        # Beside max() SQLite gives the other columns of the row that has it (lang_select.html, 2.5).
        query = (
            "SELECT run_id, max(attempt), at_wall_ns, record FROM run_chain"
            " LEFT JOIN run USING (run_id, attempt, node) WHERE kind = 'closed'"
            " GROUP BY run_id ORDER BY at_wall_ns DESC LIMIT ?"
        )
        with self._reading() as (db, version):
            rows = db.execute(query, (at_most,)).fetchall() if version >= CHAIN_SINCE else []
        return {
            run_id: (attempt, ended_wall_ns, _progress(text))
            for run_id, attempt, ended_wall_ns, text in reversed(rows)
        }

    def last_attempt(self, run_id: str) -> tuple[int, int, Progress] | None:
        """The same of one run; None where none of its attempts has ended.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        query = (
            "SELECT attempt, at_wall_ns, record FROM run_chain LEFT JOIN run USING (run_id, attempt, node)"
            " WHERE run_id = ? AND kind = 'closed' ORDER BY attempt DESC LIMIT 1"
        )
        with self._reading() as (db, version):
            rows = db.execute(query, (run_id,)).fetchall() if version >= CHAIN_SINCE else []
        for attempt, ended_wall_ns, text in rows:
            return attempt, ended_wall_ns, _progress(text)
        return None

    def verdict(self) -> Verdict:
        """What a look at the chain of closed runs and at every one of them finds.

        Raises:
            UnreachableError: there is no journal, it cannot be read, or no daemon has given it a chain yet.
        """
        with self._reading() as (db, version):
            self._require_chain(version)
            return chain_of_runs.verify(db)

    def entries(self, run_id: str) -> tuple[Entry, ...]:
        """What the chain says of a run, the oldest entry first.

        Raises:
            UnreachableError: there is no journal, it cannot be read, or no daemon has given it a chain yet.
        """
        with self._reading() as (db, version):
            self._require_chain(version)
            return tuple(entry for entry in chain_of_runs.read(db) if entry.run_id == run_id)

    def figures(
        self, source: Source | None = None, from_wall_ns: int = 0, until_wall_ns: int = 2**63 - 1
    ) -> tuple[Intensity, ...]:
        """What the grid's providers say now of a stretch, past to future within each source.

        Args:
            source: provider, grid zone, signal and basis; None for all.
            from_wall_ns, until_wall_ns: half open.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        with self._reading() as (db, version):
            if version < CHAIN_SINCE:
                return ()
            return tuple(figures.read(db, source, from_wall_ns, until_wall_ns))

    def revision(self, record: RunRecord) -> Revision:
        """A run's operational grams with the figures that are known now.

        Raises:
            UnreachableError: there is no journal, or it cannot be read.
        """
        known: list[Intensity] = []
        for source in dict.fromkeys(map(figures.source_of, record.factors)):
            of_source = [factor for factor in record.factors if figures.source_of(factor) == source]
            begin_ns = min(factor.began_wall_ns for factor in of_source)
            end_ns = max(factor.ended_wall_ns for factor in of_source)
            known += self.figures(source, begin_ns, end_ns + 1)
        with self._reading() as (db, version):
            oldest_ns = figures.oldest_wall_ns(db) if version >= CHAIN_SINCE else None
        return replace(figures.revision(record, known), let_go=figures.let_go_of(record, oldest_ns))

    def usage(self, month: str, now_wall_ns: int) -> Usage:
        """What each owner used in a month.

        Args:
            month: such as ``2026-10`` (UTC).
            now_wall_ns: CLOCK_REALTIME.

        Raises:
            WattspanError: nothing is known of that month.
            UnreachableError: there is no journal, or it cannot be read.
        """
        with self._reading() as (db, version):
            found = periods.usage(db, month, now_wall_ns) if version >= CHAIN_SINCE else None
            first = periods.first_month(db) if version >= CHAIN_SINCE else None
        if found is not None:
            return found
        if month > periods.month_of(now_wall_ns):
            raise WattspanError(f"{month} has not begun")
        since = f"it counts months since {first}" if first else "it counts none yet"
        raise WattspanError(f"the journal in {self._state_dir} knows nothing of {month}: {since}")

    def _require_chain(self, version: int) -> None:
        if version < CHAIN_SINCE:
            raise UnreachableError(
                f"the journal in {self._state_dir} has no chain yet; "
                "start a daemon of this version on it first"
            )

    def _query(self, query: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        with self._reading() as (db, version):
            if version >= TABLE_SINCE:
                yield from db.execute(query, parameters)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """One moment of the journal, and the version of its tables."""
        path = folder.database(self._state_dir)
        try:
            if not path.exists():
                raise folder.no_journal(self._state_dir)
            # Opened anew each time: a journal that was replaced is never read by mistake.
            with contextlib.closing(database.connect(path, "ro")) as db:
                db.execute("BEGIN")
                (version,) = db.execute("PRAGMA user_version").fetchone()
                yield db, version
        except PermissionError as error:
            raise UnreachableError(
                f"the journal in {self._state_dir} is not this user's to read; "
                "ask as the user of its daemon, ask the daemon for /api/v1/runs, "
                "or name another folder with --state.dir"
            ) from error
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise UnreachableError(
                f"the runs in {self._state_dir} cannot be read: {database.in_words(error)}"
            ) from error


def _progress(text: str | None) -> Progress:
    """Of a record; none where it is gone or makes no sense: its number still counts."""
    try:
        return NO_PROGRESS if text is None else record_of(Progress, json.loads(text)["progress"])
    except (*_NONSENSE, TypeError):
        return NO_PROGRESS


def members_of_kept(kept: KeptRun) -> dict[str, Any]:
    """A run as JSON has it: what is known of it, what to resume with, its points and factors by column."""
    members = members_of(replace(kept.record, points=(), factors=()))
    del members["points"], members["factors"]
    ended = kept.record.ended_wall_ns is not None
    return {
        "record": members,
        "resume": None if ended else dict(kept.resume),
        "points": _columns(kept.record.points),
        "factors": _factor_columns(kept.record.factors),
    }


def kept_of(members: Mapping[str, Any]) -> KeptRun:
    """A run of members that may be anything.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    record = replace(
        record_of(RunRecord, members["record"]),
        points=_points(members["points"]),
        factors=_factors(members.get("factors", {})),  # text of an older program has none
    )
    for number in (record.run.attempt, record.began_wall_ns, record.ended_wall_ns or 0):
        if not 0 <= number < 2**63:
            raise ValueError(f"attempt or time is {number}, which no row holds")
    if not (record.run.run_id + record.node).isprintable():
        raise ValueError(f"run {record.run.run_id!r} on node {record.node!r} has letters that no name has")
    resume = members["resume"]
    if not isinstance(resume, dict | None):
        raise ValueError(f"resume is {resume!r:.80}, allowed is a JSON object or null")
    return KeptRun(record, resume or {})


def _columns_of(version: int) -> str:
    return ", ".join(_COLUMNS) if version >= CHAIN_SINCE else "record, resume, points, '{}'"


def _put(db: sqlite3.Connection, kept: KeptRun, members: Mapping[str, Any]) -> None:
    run, record = kept.record.run, kept.record
    text, resume, points, factors = (_text(members.get(name, {})) for name in _COLUMNS)
    db.execute(
        "INSERT INTO run"
        " (run_id, attempt, node, began_wall_ns, ended_wall_ns, bytes, record, resume, points, factors)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run_id, attempt, node) DO UPDATE SET"
        " began_wall_ns = excluded.began_wall_ns, ended_wall_ns = excluded.ended_wall_ns,"
        " bytes = excluded.bytes, record = excluded.record,"
        " resume = excluded.resume, points = excluded.points, factors = excluded.factors",
        (
            run.run_id,
            run.attempt,
            record.node,
            record.began_wall_ns,
            record.ended_wall_ns,
            len(text) + len(points) + len(factors),
            text,
            resume,
            points,
            factors,
        ),
    )


def _text(part: object) -> str:
    return json.dumps(part, separators=(",", ":"), allow_nan=False)


def _kept(*texts: str) -> KeptRun:
    return kept_of(dict(zip(_COLUMNS, map(json.loads, texts), strict=True)))


def _columns(points: tuple[Point, ...]) -> dict[str, Any]:
    """Points by column, which is a third of their size: the names of GPUs are long. No power is null."""
    uuids = dict.fromkeys(uuid for point in points for uuid in point.power_uw)
    return {
        "at_wall_ns": [point.at_wall_ns for point in points],
        "power_uw": {uuid: [point.power_uw.get(uuid) for point in points] for uuid in uuids},
        "intensity_g_per_kwh": [members_of(point.intensity_g_per_kwh) for point in points],
        "co2e_g": [members_of(point.co2e_g) for point in points],
    }


def _points(columns: Any) -> tuple[Point, ...]:
    try:
        power = columns["power_uw"].items()
        rows = [
            {
                "at_wall_ns": at_wall_ns,
                "power_uw": {uuid: values[row] for uuid, values in power if values[row] is not None},
                "intensity_g_per_kwh": intensity,
                "co2e_g": co2e_g,
            }
            for row, (at_wall_ns, intensity, co2e_g) in enumerate(
                zip(columns["at_wall_ns"], columns["intensity_g_per_kwh"], columns["co2e_g"], strict=True)
            )
        ]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"points are no columns: {error}") from error
    return tuple(record_of(Point, row) for row in rows)


def _factor_columns(factors: tuple[Factor, ...]) -> dict[str, Any]:
    """Factors by column, each text once, as an index into the texts of its column; none is no column."""
    return {
        name: _column([getattr(factor, name) for factor in factors]) for name in _FACTOR_FIELDS if factors
    }


def _column(values: list[Any]) -> Any:
    if not isinstance(values[0], str):
        return [members_of(value) for value in values]
    texts = {text: number for number, text in enumerate(dict.fromkeys(values))}
    return {"texts": list(texts), "rows": [texts[text] for text in values]}


def _factors(columns: Any) -> tuple[Factor, ...]:
    try:
        spread = {
            name: [column["texts"][row] for row in column["rows"]] if isinstance(column, dict) else column
            for name, column in columns.items()
        }
        rows = [dict(zip(spread, row, strict=True)) for row in zip(*spread.values(), strict=True)]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"factors are no columns: {error}") from error
    return tuple(record_of(Factor, row) for row in rows)


_FACTOR_FIELDS: Final = tuple(field.name for field in fields(Factor))
