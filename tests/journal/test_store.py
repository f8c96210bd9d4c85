"""The open journal: what a commit keeps, what it refuses, and what a failure costs."""

import math
import sqlite3
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.conftest import Start, restored
from wattspan.journal import Account, Baseline, Journal, JournalError, Restored

ENERGY = Account("gpu_energy", ("GPU-a", "counter"), 5_000_000, 0, True)
GRAMS = Account("gpu_co2e", ("GPU-a", "lifecycle"), 3.0, 0.0, True)
BASELINE = Baseline("gpu:GPU-a", 77, 1_000, {"limit_uw": 700, "driver": "570.1", "ecc": None, "mig": False})


def found_after(journal: Journal, state: Path) -> Restored:
    """What the next daemon finds when this one is killed."""
    journal.close(clean=False)
    return restored(state, "boot-1")


def test_first_start_is_fresh_and_silent(state: Path) -> None:
    """A folder without a journal gives nothing to go on from and nothing to say."""
    journal = Journal.open(state, "boot-1")
    assert journal.restored.fresh
    assert (journal.restored.accounts, journal.restored.baselines, journal.restored.notices) == ((), (), ())
    journal.close(clean=True)


def test_commit_comes_back_as_it_was(state: Path) -> None:
    """Whole numbers stay whole, floats stay floats even where they are whole, facts keep their types."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY, GRAMS], [BASELINE])
    found = found_after(journal, state)
    assert found.accounts == (ENERGY, GRAMS)
    assert [type(account.total) for account in found.accounts] == [int, float]
    assert found.baselines == (BASELINE,)


def test_commit_replaces_rows_of_the_same_key_alone(state: Path) -> None:
    """Only the changed rows are given; the others stay."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY, GRAMS], [BASELINE])
    journal.commit([replace(ENERGY, total=6_000_000)], [replace(BASELINE, energy_uj=None)])
    found = found_after(journal, state)
    assert [account.total for account in found.accounts] == [6_000_000, 3.0]
    assert found.baselines[0].energy_uj is None


def test_a_sync_alone_waits_for_the_disk(state: Path) -> None:
    """Commits between two syncs leave it to the next one, also once one was made and after a reconnect."""
    journal = Journal.open(state, "boot-1")
    levels: list[int] = []

    def note(statement: str) -> None:
        if statement == "COMMIT":
            levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2  # sqlite.org/pragma.html#pragma_synchronous
    for _ in range(2):
        journal.commit([ENERGY], [])
        connection = journal._connection
        assert connection is not None
        connection.set_trace_callback(note)
        for act in (lambda: journal.commit([ENERGY], []), journal.sync, lambda: journal.commit([ENERGY], [])):
            act()
        connection.set_trace_callback(None)
        assert levels == [normal, full, normal]
        levels.clear()
        with pytest.raises(JournalError):
            journal.commit([replace(ENERGY, total=math.nan)], [])  # after which it connects anew
    journal.close(clean=False)


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    total=st.integers(0, 2**63 - 1) | st.floats(0, 1e300),
)
def test_any_label_and_amount_survives(
    labels: tuple[str, ...], total: int | float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Labels may hold any text and totals any 63-bit whole number or finite float."""
    state = tmp_path_factory.mktemp("any")
    account = Account("gpu_energy", labels, total, 0, True)
    journal = Journal.open(state, "boot-1")
    journal.commit([account], [])
    assert found_after(journal, state).accounts == (account,)


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (replace(ENERGY, total=2**63), "total is 9223372036854775808"),
        (replace(ENERGY, total=-1), "total is -1"),
        (replace(ENERGY, base=ENERGY.total + 1), "at most the total"),
        (replace(GRAMS, total=math.nan), "total is nan"),
        (replace(GRAMS, total=math.inf), "total is inf"),
    ],
)
def test_amount_that_no_counter_has_is_refused_by_name(state: Path, account: Account, said: str) -> None:
    """A row that cannot be kept refuses the whole commit and names the account; the next commit works."""
    journal = Journal.open(state, "boot-1")
    with pytest.raises(JournalError, match=rf"{account.quantity}.*{said}"):
        journal.commit([replace(ENERGY, labels=("GPU-b", "counter")), account], [])
    journal.commit([ENERGY], [])
    assert found_after(journal, state).accounts == (ENERGY,)


def test_fact_that_is_no_number_is_refused(state: Path) -> None:
    """A fact that JSON cannot hold refuses the commit."""
    journal = Journal.open(state, "boot-1")
    with pytest.raises(JournalError, match="not JSON compliant"):
        journal.commit([], [replace(BASELINE, facts={"ratio": math.nan})])
    journal.close(clean=True)


@pytest.mark.parametrize(
    ("account", "published"),
    [
        (ENERGY, 5_000_000),
        (replace(ENERGY, base=4_000_000), 1_000_000),
        (replace(ENERGY, released=False), 0),
        (replace(GRAMS, released=False), 0.0),
    ],
)
def test_published_value(account: Account, published: int | float) -> None:
    """A scrape sees the total above the base, and 0 of the same type before the account is released."""
    assert account.published == published
    assert type(account.published) is type(published)


def test_files_are_for_the_daemon_alone(state: Path) -> None:
    """The folder is made with mode 0700, and nobody else may read a file in it."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [])
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == dict.fromkeys(
        ("journal.db", "journal.db-shm", "journal.db-wal", "journal.mark", "lock"), 0o600
    )
    journal.close(clean=True)


def test_log_is_bounded(state: Path) -> None:
    """With a sync now and then the write-ahead log starts over instead of growing for weeks."""
    journal = Journal.open(state, "boot-1")
    sizes = []
    for n in range(300):
        journal.commit([Account("gpu_energy", (f"GPU-{k}",), n, 0, True) for k in range(50)], [])
        if n % 10 == 9:
            journal.sync()
            sizes.append((state / "journal.db-wal").stat().st_size)
    assert max(sizes) <= 2 * sizes[1]
    journal.close(clean=True)


def test_somebody_elses_lock_costs_that_commit_alone(state: Path) -> None:
    """While a shell holds the database a commit is refused in words; the rows are taken afterwards."""
    journal = Journal.open(state, "boot-1")
    shell = sqlite3.connect(state / "journal.db", isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="another program holds the database"):
        journal.commit([ENERGY], [])
    shell.execute("ROLLBACK")
    shell.close()
    journal.commit([ENERGY], [])
    assert found_after(journal, state).accounts == (ENERGY,)


def test_reader_does_not_hold_up_commits(state: Path) -> None:
    """A reader that stays in its snapshot delays neither commits nor the sync."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [])
    reader = sqlite3.connect(state / "journal.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT total FROM account").fetchone() == (5_000_000,)
    journal.commit([replace(ENERGY, total=6_000_000)], [])
    journal.sync()
    reader.close()
    assert found_after(journal, state).accounts[0].total == 6_000_000


@pytest.mark.parametrize("again", [False, True])
def test_journal_removed_under_the_daemon_is_noticed(state: Path, again: bool) -> None:
    """A commit into a file that no restart would find is refused, also when another file took its place."""
    journal = Journal.open(state, "boot-1")
    (state / "journal.db").unlink()
    if again:
        (state / "journal.db").touch()
    with pytest.raises(JournalError, match="removed"):
        journal.commit([ENERGY], [])
    journal.close(clean=False)


def test_older_content_under_the_daemon_is_noticed(state: Path) -> None:
    """Where commits have vanished beneath a running daemon, it publishes nothing more on top of the rest."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [])
    journal.sync()
    older = (state / "journal.db").read_bytes()
    journal.commit([replace(ENERGY, total=6_000_000)], [])
    with pytest.raises(JournalError):
        journal.commit([replace(ENERGY, total=-1)], [])  # any failure: the file is let go of
    (state / "journal.db").write_bytes(older)
    with pytest.raises(JournalError, match="commits that were made are gone"):
        journal.commit([GRAMS], [])
    assert {account.published for account in found_after(journal, state).accounts} == {0}


def test_close_twice(state: Path) -> None:
    """Closing again does nothing."""
    journal = Journal.open(state, "boot-1")
    journal.close(clean=True)
    journal.close(clean=True)


@pytest.mark.parametrize("disk", ["rlimit", "tmpfs"])
def test_full_disk(state: Path, start: Start, disk: str) -> None:
    """On a full disk commits are refused as a whole and in words; with room again nothing is missing."""
    state.mkdir()
    before = in_tmpfs(state) if disk == "tmpfs" else ()
    said, _ = start("fill", str(state), "boot-1", disk, before=before).communicate(timeout=60)
    refused, kept, found = said.splitlines()
    assert "no space left" in refused if disk == "tmpfs" else "refused to let a file grow" in refused
    assert int(kept.removeprefix("kept ")) > 1
    assert kept.removeprefix("kept ") == found.removeprefix("found ")


def test_start_on_a_full_disk(state: Path, start: Start) -> None:
    """A start that cannot write ends with a sentence that says so."""
    state.mkdir()
    said, _ = start("open-full", str(state), "boot-1", before=in_tmpfs(state)).communicate(timeout=60)
    assert said.startswith(f"refused: state folder {state} cannot be used")
    assert "free some space" in said


def in_tmpfs(folder: Path) -> tuple[str, ...]:
    """A command that runs the rest with a small file system of its own on the folder."""
    mount = f"mount -t tmpfs -o size=512k none {folder} && exec "
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount}"$@"', "sh")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare(1) may not mount a tmpfs here, so no disk can be filled")
    return before
