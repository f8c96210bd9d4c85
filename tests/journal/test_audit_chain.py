"""The chain over closed runs: any edit is found, retention and kills are none."""

import io
import math
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.test_history import DAY_NS, NOW_WALL_NS, Clock, ended, keep, run
from wattspan.journal import Journal, JournalError, KeptRun, chain_of_runs
from wattspan.journal.chain_of_runs import FINDINGS_MAX, Verdict
from wattspan.journal.history import History, Retention
from wattspan.journal.portable import export_journal, import_journal
from wattspan.runs import Factor, RunRecord

CHAIN_COLUMNS = ("sequence", "kind", "run_id", "attempt", "node", "at_wall_ns", "record_hash", "hash")
RUN_COLUMNS = (
    *("run_id", "attempt", "node", "began_wall_ns", "ended_wall_ns", "bytes"),
    *("record", "resume", "points", "factors"),
)
"""All but the row's own number, which is no part of the run."""

junk = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text("abc0{}[]\"'", max_size=4),
    st.binary(max_size=4),
)


def closed(run_id: str, day: float, attempt: int = 0) -> RunRecord:
    """A run that ended on that day, with a factor."""
    record = replace(ended(run_id, day), run=replace(ended(run_id, day).run, attempt=attempt))
    factor = Factor(record.began_wall_ns, record.began_wall_ns + 1, 7_000_000, 0.1, 55.0, 1.0, "FR", "static")
    return replace(record, factors=(factor,))


@pytest.fixture
def journal(state: Path) -> Iterator[Journal]:
    """An open journal that keeps runs for 30 days; its clock stands still."""
    opened = Journal.open(state, "boot-1", Clock(), Retention(age_ns=30 * DAY_NS))
    yield opened
    opened.close(clean=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped journal: five closed runs, two of them let go of, one that goes on."""
    state = tmp_path_factory.mktemp("original") / "state"
    journal = Journal.open(state, "boot-1", Clock(), Retention(age_ns=30 * DAY_NS))
    keep(journal, closed("old", -50), closed("older", -49), run("going-on", began_day=-1))
    keep(journal, *(closed(f"run-{day}", -day) for day in (5, 4, 3)), closed("run-3", -2, attempt=1))
    journal.close(clean=True)
    assert said(state) == []
    return state


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy of that journal, to be spoilt."""
    return shutil.copytree(original, tmp_path / "copy")


def change(state: Path, *statements: str) -> None:
    """Edit a stopped journal as somebody with a shell would."""
    db = sqlite3.connect(state / "journal.db", isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def said(state: Path) -> list[str]:
    """What the look at the chain finds, in short."""
    verdict = History(state).verdict()
    assert verdict.sound == (not verdict.findings)
    return [finding.what for finding in verdict.findings]


def test_chain_of_a_journal_that_nobody_edited(original: Path) -> None:
    """It is sound, and counts what was closed and what was let go of."""
    verdict = History(original).verdict()
    assert verdict == Verdict(
        lineage=verdict.lineage,
        entries=8,
        records=4,
        removed=2,
        head=verdict.head,
        findings=(),
        findings_count=0,
    )
    assert [entry.kind for entry in History(original).entries("old")] == ["closed", "removed"]
    assert len(verdict.head) == 64


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "UPDATE run SET record = replace(record, '7000000', '6000000') WHERE run_id = 'run-4'",
            "changed record",
        ),
        ("UPDATE run SET factors = '{}' WHERE run_id = 'run-4'", "changed record"),
        ("UPDATE run SET points = '{}' WHERE run_id = 'run-4'", "changed record"),
        ("UPDATE run SET ended_wall_ns = NULL WHERE run_id = 'run-4'", "changed record"),
        ("UPDATE run SET ended_wall_ns = 1 WHERE run_id = 'going-on'", "record without entry"),
        ("DELETE FROM run WHERE run_id = 'run-4'", "missing record"),
        ("DELETE FROM run_chain WHERE sequence = 3", "missing entry"),
        ("DELETE FROM run_chain WHERE sequence = 8", "cut or changed tail"),
        ("DELETE FROM run_chain", "cut or changed tail"),
        ("UPDATE meta SET chain_length = 7", "cut or changed tail"),
        ("UPDATE meta SET chain_head = ''", "cut or changed tail"),
        ("UPDATE meta SET lineage = 'another'", "broken link"),
    ],
)
def test_edit_is_called_by_its_name(copy: Path, statement: str, found: str) -> None:
    """Each kind of edit is found as what it is."""
    change(copy, statement)
    assert found in said(copy)


def test_record_that_was_put_in(copy: Path) -> None:
    """A closed run that nobody entered is found."""
    columns = ", ".join(RUN_COLUMNS)
    change(
        copy,
        f"INSERT INTO run ({columns}) SELECT 'forged', {columns.removeprefix('run_id, ')}"
        " FROM run WHERE run_id = 'run-4'",
    )
    assert said(copy) == ["record without entry"]


def test_head_that_was_kept_elsewhere_tells_a_chain_written_anew(copy: Path, original: Path) -> None:
    """Whoever rewrites all of it gets a sound chain, as is said; its head is another one than was logged."""
    change(
        copy,
        "UPDATE run SET record = replace(record, '7000000', '6000000') WHERE run_id = 'run-4'",
        "DELETE FROM run_chain",
        "UPDATE meta SET chain_length = 0, chain_head = ''",
    )
    with sqlite3.connect(copy / "journal.db") as db:
        query = "SELECT run_id, attempt, node FROM run WHERE ended_wall_ns IS NOT NULL"
        for key in db.execute(query).fetchall():
            chain_of_runs.close(db, key)
    db.close()
    found = History(copy).verdict()
    assert found.sound
    assert found.entries == found.records == 4
    assert found.head != History(original).verdict().head


@pytest.mark.parametrize("let_go", [False, True])
def test_record_that_is_entered_again_is_found(copy: Path, *, let_go: bool) -> None:
    """A changed record with an entry of its own leaves every head as it was, and is found all the same.

    So it is where an entry says in between that the old record was let go of.
    """
    before = [entry.hash for entry in History(copy).entries("run-4")]
    with sqlite3.connect(copy / "journal.db") as db:
        if let_go:
            columns = ", ".join(RUN_COLUMNS)
            row = db.execute(f"SELECT id, {columns} FROM run WHERE run_id = 'run-4'").fetchone()
            chain_of_runs.let_go(db, row[:1], NOW_WALL_NS)
            db.execute(f"INSERT INTO run (id, {columns}) VALUES ({', '.join('?' * len(row))})", row)
        db.execute("UPDATE run SET record = replace(record, '7000000', '6000000') WHERE run_id = 'run-4'")
        assert chain_of_runs.close(db, ("run-4", 0, "node-a")) is not None
    db.close()
    assert [entry.hash for entry in History(copy).entries("run-4")][:1] == before
    assert said(copy) == ["entered again", "record without entry" if let_go else "changed record"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_edits_at_random_places_are_found(
    data: st.DataObject, original: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any other value in any column of a closed run or an entry, any deletion, any two rows exchanged."""
    state = tmp_path_factory.mktemp("edits") / "state"
    shutil.copytree(original, state)
    db = sqlite3.connect(state / "journal.db", isolation_level=None)
    table, number, columns, rows = data.draw(
        st.sampled_from(
            [
                ("run", "id", RUN_COLUMNS, "SELECT id FROM run WHERE ended_wall_ns IS NOT NULL"),
                ("run_chain", "sequence", CHAIN_COLUMNS, "SELECT sequence FROM run_chain"),
            ]
        )
    )
    (row, other) = data.draw(st.permutations([row for (row,) in db.execute(rows)]))[:2]
    before = snapshot(db)
    try:
        match data.draw(st.sampled_from(["change", "delete", "exchange", "patch"])):
            case "change":
                column = data.draw(st.sampled_from(columns))
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {number} = ?", (data.draw(junk), row))
            case "delete":
                db.execute(f"DELETE FROM {table} WHERE {number} = ?", (row,))
            case "exchange":
                column = data.draw(st.sampled_from([*columns, "all"]))
                exchange(db, table, number, columns if column == "all" else (column,), row, other)
            case "patch":
                column = data.draw(st.sampled_from(columns))
                (value,) = db.execute(f"SELECT {column} FROM {table} WHERE {number} = ?", (row,)).fetchone()
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {number} = ?", (patched(value, data), row))
    except sqlite3.IntegrityError:
        return  # the tables themselves refuse it
    edited = snapshot(db) != before
    db.close()
    assert bool(said(state)) == edited
    shutil.rmtree(state)


def snapshot(db: sqlite3.Connection) -> list[Any]:
    """All that is entered and kept, to the type."""
    chain, runs = ", ".join(CHAIN_COLUMNS), ", ".join(RUN_COLUMNS)
    return [
        *map(repr, db.execute(f"SELECT {chain} FROM run_chain ORDER BY sequence")),
        *sorted(map(repr, db.execute(f"SELECT {runs} FROM run"))),
    ]


def exchange(
    db: sqlite3.Connection, table: str, number: str, columns: tuple[str, ...], row: int, other: int
) -> None:
    """Exchange what two rows have there."""
    columns = tuple(column for column in columns if column != number)
    if not columns:
        db.execute(f"UPDATE {table} SET {number} = -1 WHERE {number} = ?", (row,))
        db.execute(f"UPDATE {table} SET {number} = ? WHERE {number} = ?", (row, other))
        db.execute(f"UPDATE {table} SET {number} = ? WHERE {number} = -1", (other,))
        return
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE {number} = ?"
    first, second = (db.execute(query, (which,)).fetchone() for which in (row, other))
    places = ", ".join(f"{column} = ?" for column in columns)
    if table == "run":  # out of the way of what is unique
        db.execute("UPDATE run SET node = node || '~' WHERE id = ?", (other,))
    for values, which in ((second, row), (first, other)):
        db.execute(f"UPDATE {table} SET {places} WHERE {number} = ?", (*values, which))
    if table == "run" and "node" not in columns:
        db.execute("UPDATE run SET node = rtrim(node, '~') WHERE id = ?", (other,))


def patched(value: Any, data: st.DataObject) -> Any:
    """The same, but for one digit or letter, or one more."""
    if not isinstance(value, str):
        return (value or 0) + data.draw(st.sampled_from([-1, 1]))
    place = data.draw(st.integers(0, max(len(value) - 1, 0)))
    return value[:place] + data.draw(st.text("0189abX .", max_size=2)) + value[place + 1 :]


def test_record_that_was_changed_is_found_after_retention_too(state: Path) -> None:
    """Retention enters what it lets go of as it is then, so an edit does not go with the record."""
    journal = Journal.open(state, "boot-1", Clock(), Retention(age_ns=30 * DAY_NS))
    keep(journal, closed("old", -35), closed("kept", -10))
    change(state, "UPDATE run SET points = '{}' WHERE run_id = 'old'")
    keep(journal, closed("new", -1), closed("newer", 0))
    journal.close(clean=True)
    assert [record.run.run_id for record in History(state).runs()] == ["newer", "new", "kept"]
    assert said(state) == ["changed record"]


def test_retention_keeps_verifying(state: Path) -> None:
    """However many runs come and go by age and size, what is left fits, and each entry of what went stays."""
    clock = Clock()
    journal = Journal.open(state, "boot-1", clock, Retention(age_ns=30 * DAY_NS, bytes_max=9_000))
    for day in range(60):
        clock.wall_ns = NOW_WALL_NS + day * DAY_NS
        keep(journal, closed(f"run-{day}", day))
        if day % 10 == 0:
            assert said(state) == []
    journal.close(clean=True)
    verdict = History(state).verdict()
    assert verdict.sound
    assert verdict.records < 12
    assert verdict.entries == 60 + verdict.removed
    assert verdict.removed == 60 - verdict.records


def test_cut_tail_stays_found_as_the_daemon_goes_on(copy: Path) -> None:
    """What comes after a tail was cut off does not close the gap."""
    change(copy, "DELETE FROM run_chain WHERE sequence = 8")
    journal = Journal.open(copy, "boot-1", Clock())
    keep(journal, closed("next", 0))
    journal.close(clean=True)
    assert said(copy) == ["missing entry", "record without entry"]


def test_final_record_that_is_written_again(state: Path, journal: Journal) -> None:
    """A commit that is made twice enters a run once."""
    keep(journal, closed("sft", -1), closed("sft", -1))
    keep(journal, closed("sft", -1))
    assert len(History(state).entries("sft")) == 1
    assert said(state) == []


def test_commit_that_fails_enters_nothing(state: Path, journal: Journal) -> None:
    """Record and entry stand in the same commit: neither is kept without the other."""
    keep(journal, closed("one", -2))
    with pytest.raises(JournalError):
        journal.commit([], [], runs=[KeptRun(closed("two", -1)), KeptRun(run("x"), {"n": math.nan})])
    assert said(state) == []
    assert History(state).entries("two") == ()
    keep(journal, closed("two", -1))
    journal.close(clean=False)
    Journal.open(state, "boot-2", Clock()).close(clean=False)
    assert said(state) == []
    assert History(state).verdict().entries == 2


CLOSING = """
import sys
from pathlib import Path
from tests.journal.test_audit_chain import closed
from tests.journal.test_history import Clock, keep
from wattspan.journal import Journal
journal = Journal.open(Path(sys.argv[1]), "boot-1", Clock())
keep(journal, closed("run-0", -1))
print("ready", flush=True)
for number in range(1, 100_000):
    keep(journal, closed(f"run-{number}", -1))
"""


def test_kill_at_any_moment_breaks_nothing(tmp_path: Path) -> None:
    """A daemon that is killed while it closes runs leaves each with its entry, or without both."""
    for number in range(4):
        state = tmp_path / f"state-{number}"
        with subprocess.Popen(
            [sys.executable, "-c", CLOSING, state], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.07 * number)
            process.kill()
        verdict = History(state).verdict()
        assert verdict.sound
        assert verdict.records == verdict.entries > 0


def test_head_is_logged_when_a_run_closes(
    state: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the head that an audit prints, so that one can be held against the other."""
    with caplog.at_level("INFO", "wattspan.journal"):
        keep(journal, run("sft"), closed("sft", 0))
    (line,) = caplog.messages
    assert line.endswith(f"entry 1 of the chain, head {History(state).verdict().head}")


def test_carried_journal_keeps_its_chain(copy: Path, tmp_path: Path) -> None:
    """After export and import the head is the same, and an edit made before is still found."""
    for edits, found in (([], []), (["DELETE FROM run WHERE run_id = 'run-4'"], ["missing record"])):
        change(copy, *edits)
        out = io.StringIO()
        export_journal(copy, out)
        here = tmp_path / f"here-{len(edits)}"
        import_journal(here, io.StringIO(out.getvalue()))
        assert said(here) == found
        assert History(here).verdict().head == History(copy).verdict().head


def test_findings_are_bounded(copy: Path) -> None:
    """However much is wrong, the first hundred are told of and all are counted."""
    columns = ", ".join(RUN_COLUMNS).removeprefix("run_id, ")
    change(
        copy,
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO run"
        f" (run_id, {columns}) SELECT 'x' || i, {columns} FROM run, n WHERE run_id = 'run-4'",
    )
    verdict = History(copy).verdict()
    assert (len(verdict.findings), verdict.findings_count) == (FINDINGS_MAX, 300)
