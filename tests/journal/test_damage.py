"""Journals that cannot be read: set aside, said aloud, never deleted, and never gone on from."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.journal.conftest import restored
from wattspan.errors import UnreachableError
from wattspan.journal import Account, Baseline, Journal
from wattspan.journal import database as boundary
from wattspan.journal.schema import MIGRATIONS, migrate

NOON_WALL_NS = 1_790_856_000_000_000_000
"""2026-10-01T12:00:00Z."""

COMMITTED = 60
"""Commits in the journals that are damaged here; each account's total was raised in every one."""


def accounts(total: int) -> list[Account]:
    """A node's accounts, enough of them to spread over several pages."""
    return [
        Account("gpu_energy", (f"GPU-{n:08d}-1111-2222-3333-444444444444", "counter"), total, 0, True)
        for n in range(64)
    ]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as kill -9 leaves it: half of the commits in the database, the rest in its -wal file."""
    state = tmp_path_factory.mktemp("killed") / "state"
    journal = Journal.open(state, "boot-1")
    for n in range(1, COMMITTED + 1):
        journal.commit(accounts(n), [Baseline(f"gpu:GPU-{k}", n, n, {"limit_uw": 7}) for k in range(8)])
        if n == COMMITTED // 2:
            journal.sync()
    shutil.copytree(state, state.with_name("left"))
    journal.close(clean=False)
    return state.with_name("left")


def begin(state: Path) -> None:
    """Leave a journal with something in it."""
    journal = Journal.open(state, "boot-1")
    journal.commit(accounts(7), [])
    journal.close(clean=True)


def change(state: Path, statement: str) -> None:
    """Do something to the database that we never would."""
    db = sqlite3.connect(state / "journal.db", isolation_level=None)
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute("PRAGMA writable_schema = ON")
    db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    ("statement", "why", "detail"),
    [
        ("DROP TABLE account", "corrupt", "no such table: account"),
        ("DROP TABLE baseline", "corrupt", "no such table: baseline"),
        (r"UPDATE sqlite_schema SET sql = replace(sql, 'CHECK', CAST(x'b8' AS TEXT))", "corrupt", "codec"),
        ("DELETE FROM meta", "corrupt", "a row makes no sense"),
        ("ALTER TABLE meta DROP COLUMN lineage", "corrupt", "lineage"),
        ("PRAGMA user_version = 0", "corrupt", "no tables of a journal"),
        ("PRAGMA user_version = -3", "corrupt", "no tables of a journal"),
        ("PRAGMA user_version = 7", "version-7", f"version 7, and this wattspan knows {len(MIGRATIONS)}"),
        ("UPDATE account SET labels = '[1]' WHERE id = 1", "corrupt", "labels is [1]"),
        ("UPDATE account SET labels = 'x' WHERE id = 1", "corrupt", "a row makes no sense"),
        ("UPDATE account SET labels = printf('%.*c', 100000, '[') WHERE id = 1", "corrupt", "no sense"),
        ("UPDATE account SET total = 'much'", "corrupt", "CHECK constraint failed in account"),
        ("UPDATE account SET base = total + 1", "corrupt", "CHECK constraint failed in account"),
        ("UPDATE account SET quantity = CAST(x'ff' AS TEXT)", "corrupt", "Could not decode"),
        ("UPDATE meta SET commits = 'x'", "corrupt", "commits is 'x'"),
        ("INSERT INTO baseline VALUES ('a', 1, 1, '[]', 'b')", "corrupt", "facts is []"),
    ],
)
def test_journal_that_makes_no_sense_is_set_aside(state: Path, statement: str, why: str, detail: str) -> None:
    """The notice says what was found, where the file went and what it means; a fresh journal works."""
    begin(state)
    change(state, statement)
    journal = Journal.open(state, "boot-1", lambda: NOON_WALL_NS)
    assert journal.restored.fresh
    assert journal.restored.accounts == ()
    (notice,) = journal.restored.notices
    assert detail in notice
    assert f"journal.db.{why}-20261001T120000Z" in notice
    assert "every counter starts from 0" in notice
    journal.commit(accounts(1), [])
    journal.close(clean=True)
    assert restored(state, "boot-1").accounts == tuple(accounts(1))
    assert (state / f"journal.db.{why}-20261001T120000Z").exists()


def test_header_that_forbids_writing_is_damage(state: Path) -> None:
    """A writable file whose header says otherwise is set aside; its write version is byte 18."""
    begin(state)
    with (state / "journal.db").open("r+b") as file:
        file.seek(18)
        file.write(b"\x09")
    assert restored(state, "boot-1").fresh


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00", b"\x00" * 8192])
def test_file_that_is_no_database_is_set_aside(state: Path, content: bytes) -> None:
    """Whatever is found in the journal's place is kept as it was."""
    begin(state)
    (state / "journal.db").write_bytes(content)
    found = restored(state, "boot-1")
    assert found.fresh
    (kept,) = state.glob("journal.db.corrupt-*")
    assert kept.read_bytes() == content


def test_newer_journal_can_be_put_back(state: Path) -> None:
    """A newer program finds all it left, under the name that the notice gave."""
    begin(state)
    change(state, "PRAGMA user_version = 7")
    assert restored(state, "boot-1").fresh
    (kept,) = state.glob("journal.db.version-7-*")
    shutil.copy(kept, state / "journal.db")
    change(state, f"PRAGMA user_version = {len(MIGRATIONS)}")
    (state / "journal.mark").unlink()
    assert restored(state, "boot-1").accounts == tuple(accounts(7))


def test_nothing_set_aside_is_ever_replaced(state: Path) -> None:
    """Two journals set aside in the same second both stay."""
    for _ in range(3):
        state.mkdir(exist_ok=True)
        (state / "journal.db").write_bytes(b"no database")
        Journal.open(state, "boot-1", lambda: NOON_WALL_NS).close(clean=True)
    assert len(list(state.glob("journal.db.corrupt-*"))) == 3


def test_missing_journal_is_said_and_its_log_not_replayed(state: Path, killed: Path) -> None:
    """A -wal file whose database is gone is set aside, not replayed into the new one."""
    shutil.copytree(killed, state)
    (state / "journal.db").unlink()
    found = restored(state, "boot-1")
    assert found.fresh
    assert found.accounts == ()
    assert "journal.db is missing, journal.db-wal is not" in found.notices[0]
    assert list(state.glob("journal.db.corrupt-*-wal"))


def test_journal_that_was_deleted_is_said(state: Path) -> None:
    """A cleanly stopped journal that somebody removed means that counters start from 0, so it is said."""
    begin(state)
    (state / "journal.db").unlink()
    found = restored(state, "boot-1")
    assert found.fresh
    assert "journal.db is gone" in found.notices[0]


def test_start_that_was_killed_while_making_the_journal(state: Path) -> None:
    """A draft left behind is no journal and in nobody's way."""
    state.mkdir()
    (state / "journal.db.draft").write_bytes(b"half a database")
    assert restored(state, "boot-1").notices == ()
    assert not (state / "journal.db.draft").exists()


def test_journal_locked_by_a_shell_is_not_set_aside(state: Path) -> None:
    """A healthy journal that cannot be opened now stops the start instead of the counters."""
    begin(state)
    shell = sqlite3.connect(state / "journal.db", isolation_level=None)
    shell.execute("PRAGMA locking_mode = EXCLUSIVE")
    shell.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnreachableError, match="another program holds the database"):
        Journal.open(state, "boot-1")
    shell.close()
    assert restored(state, "boot-1").accounts == tuple(accounts(7))


fuzz = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(
    name=st.sampled_from(
        ["journal.db", "journal.db", "journal.db-wal", "journal.db-shm", "journal.mark", "lock"]
    ),
    wounds=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=4
    ),
    kept_ratio=st.none() | st.floats(0, 1, exclude_max=True),
)
def test_no_damage_stops_the_start(
    killed: Path,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    wounds: list[tuple[float, bytes]],
    kept_ratio: float | None,
) -> None:
    """Whatever is overwritten or cut off, the daemon starts, and goes on or starts again from 0.

    The database file itself has no checksums, so there a figure may be another one; see `schema.check`.
    """
    state = tmp_path_factory.mktemp("fuzz") / "state"
    shutil.copytree(killed, state)
    wound(state / name, wounds, kept_ratio)
    journal = Journal.open(state, "boot-1")
    found = journal.restored
    if found.fresh:
        assert found.accounts == ()
        assert list(state.glob("journal.db.*-*"))
        assert found.notices
    elif name != "journal.db":
        assert {a.total for a in found.accounts} <= set(range(COMMITTED + 1))
        assert {a.published for a in found.accounts} <= {0, COMMITTED}
    journal.commit(accounts(COMMITTED + 1), [])
    journal.close(clean=True)
    assert {account.total for account in restored(state, "boot-1").accounts} >= {COMMITTED + 1}
    shutil.rmtree(state)


def wound(path: Path, wounds: list[tuple[float, bytes]], kept_ratio: float | None) -> None:
    """Overwrite bytes at places given as a share of the file, and cut it off behind such a place."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for place, content in wounds:
            file.seek(int(place * size))
            file.write(content)
        if kept_ratio is not None:
            file.truncate(int(kept_ratio * size))


@pytest.mark.parametrize("frames_left", [0, 1, 5, 20])
def test_log_cut_short_never_brings_an_older_value_back(killed: Path, state: Path, frames_left: int) -> None:
    """SQLite takes a -wal file up to its first bad frame without a word; the mark knows of the rest."""
    shutil.copytree(killed, state)
    os.truncate(state / "journal.db-wal", 32 + frames_left * (24 + 4096))
    found = restored(state, "boot-1")
    assert {account.published for account in found.accounts} == {0}
    assert {account.total for account in found.accounts} < set(range(COMMITTED))
    assert "lost its newest commits" in found.notices[0]


def test_migrations_run_once_each_and_together() -> None:
    """An older journal gets the steps it lacks, in one transaction that numbers the version."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)

    def shelf(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE shelf (id INTEGER PRIMARY KEY)")

    def books(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE shelf ADD COLUMN book BLOB")

    steps = (*MIGRATIONS, shelf, books)
    migrate(db, steps)
    migrate(db, steps)
    assert db.execute("PRAGMA user_version").fetchone() == (len(steps),)
    assert db.execute("SELECT id, book FROM shelf").fetchall() == []
    db.close()


def test_every_result_code_is_judged_once() -> None:
    """Each of SQLite's primary result codes of errors accuses either the file or the world around it."""
    errors = set(range(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB + 1))  # sqlite.org/rescode.html
    assert set(boundary.CIRCUMSTANCES) | boundary.CONTENTS == errors
    assert not set(boundary.CIRCUMSTANCES) & boundary.CONTENTS
