"""kill -9, reboots and power losses: counters go on, or start again from exactly 0."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.journal.conftest import Start, restored
from wattspan.journal import Account, Baseline, Journal, JournalError, holder

ENERGY = Account("gpu_energy", ("GPU-a", "counter"), 5_000_000, 0, True)
LATER = replace(ENERGY, total=9_000_000)
BASELINE = Baseline("gpu:GPU-a", 77, 1_000)


def copy_of_disk(state: Path, to: Path) -> Path:
    """What a power loss at this moment leaves of files that were all synced."""
    shutil.copytree(state, to)
    return to


def without_commits_since(state: Path, earlier: Path) -> None:
    """Put the database files of an earlier moment in place, and leave the mark."""
    for path in state.glob("journal.db*"):
        path.unlink()
    for path in earlier.glob("journal.db*"):
        shutil.copy(path, state)


def test_kill_9_keeps_whatever_was_published(state: Path, start: Start) -> None:
    """After a kill at any moment every counter resumes at or above what was published, and in one piece."""
    chance = random.Random(20261001)
    published = 0
    for _ in range(12):
        daemon = start("count", str(state), "boot-1")
        assert daemon.stdout is not None
        for _ in range(chance.randrange(1, 120)):
            line = daemon.stdout.readline()
        daemon.kill()
        said = [line, *daemon.communicate()[0].splitlines(keepends=True)]
        last_total, last_published = map(int, said[-1].split())
        assert last_published > published
        journal = Journal.open(state, "boot-1")
        (total,) = {account.total for account in journal.restored.accounts}
        (published,) = {account.published for account in journal.restored.accounts}
        assert total >= last_total
        assert published >= last_published
        assert journal.restored.notices == ()
        assert journal.restored.baselines[0].energy_uj == total
        journal.close(clean=False)


def test_same_boot_goes_on(state: Path) -> None:
    """Within one boot everything goes on, baselines included, whether the stop was clean or not."""
    for clean in (False, True):
        journal = Journal.open(state, "boot-1")
        journal.commit([replace(ENERGY, base=1)], [BASELINE])
        journal.close(clean=clean)
        journal = Journal.open(state, "boot-1")
        assert journal.restored.accounts == (replace(ENERGY, base=1),)
        assert journal.restored.baselines == (BASELINE,)
        assert (journal.restored.same_boot, journal.restored.clean_stop) == (True, clean)
        assert not journal.restored.fresh
        assert journal.restored.notices == ()
        journal.close(clean=False)


def test_clean_reboot_goes_on(state: Path) -> None:
    """After a clean stop counters go on in the next boot; baselines say that they are of an earlier one."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [BASELINE])
    journal.close(clean=True)
    found = restored(state, "boot-2")
    assert found.accounts == (ENERGY,)
    assert found.baselines == (replace(BASELINE, same_boot=False),)
    assert (found.same_boot, found.clean_stop, found.notices) == (False, True, ())


@pytest.mark.parametrize("boot_id", ["boot-2", ""])
def test_unclean_reboot_starts_from_zero(state: Path, boot_id: str) -> None:
    """Without a clean stop a new or unknown boot publishes exactly 0 again, while totals go on."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [BASELINE])
    journal.close(clean=False)
    journal = Journal.open(state, boot_id)
    (account,) = journal.restored.accounts
    assert (account.total, account.base, account.published) == (5_000_000, 5_000_000, 0)
    assert not account.released
    assert "every counter starts again from 0" in journal.restored.notices[0]

    journal.commit([replace(account, total=5_000_007, released=True)], [])
    journal.close(clean=False)
    found = restored(state, "boot-2")
    if boot_id:
        assert found.accounts[0].published == 7
    else:
        assert found.accounts[0].published == 0


def test_zero_point_survives_a_crash_right_after_the_start(state: Path) -> None:
    """A daemon killed before its first tick in the new boot has still settled where counters start."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [])
    journal.close(clean=False)
    restored(state, "boot-2")
    found = restored(state, "boot-2")
    assert found.accounts == (replace(ENERGY, base=5_000_000, released=False),)
    assert found.notices == ()


def test_baseline_of_an_unknown_boot_is_dropped(state: Path) -> None:
    """Where boots cannot be told apart, what the hardware has counted since its own is not charged again."""
    for clean in (True, False):
        journal = Journal.open(state, "")
        assert journal.restored.baselines == ()
        journal.commit([ENERGY], [BASELINE])
        journal.close(clean=clean)
    found = restored(state, "")
    assert found.baselines == ()
    assert "boot's id cannot be read" in found.notices[-1]
    assert restored(state, "boot-1").baselines == ()


def test_baseline_of_an_earlier_boot_stays_one(state: Path) -> None:
    """A device not read since the reboot is not taken for one read in this boot by the next daemon."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [BASELINE])
    journal.close(clean=True)
    journal = Journal.open(state, "boot-2")
    journal.commit([], [Baseline("gpu:GPU-b", 5, 5)])
    journal.close(clean=False)
    found = restored(state, "boot-2")
    assert {b.device: b.same_boot for b in found.baselines} == {"gpu:GPU-a": False, "gpu:GPU-b": True}


def test_clean_stop_is_taken_back_before_the_start_is_over(state: Path, tmp_path: Path) -> None:
    """A power loss in the very moment the daemon is up already counts as unclean."""
    Journal.open(state, "boot-1").close(clean=True)
    daemon = Journal.open(state, "boot-2")
    disk = copy_of_disk(state, tmp_path / "disk")
    assert not restored(disk, "boot-3").clean_stop
    daemon.close(clean=True)


def test_clean_stop_without_room_says_so(state: Path) -> None:
    """A clean stop that cannot be written is an error, and the lock is free all the same."""
    journal = Journal.open(state, "boot-1")
    (state / "journal.db").rename(state / "elsewhere")
    with pytest.raises(JournalError):
        journal.close(clean=True)
    assert holder(state) is None


def test_power_loss_costs_commits_after_the_last_sync(state: Path, tmp_path: Path) -> None:
    """What was synced is there after a power loss; what came later may be gone, so counters restart at 0."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [])
    journal.sync()
    disk = copy_of_disk(state, tmp_path / "disk")
    journal.commit([LATER], [])
    journal.close(clean=False)
    (account,) = restored(disk, "boot-2").accounts
    assert account.total == 5_000_000
    assert account.published == 0


def test_log_lost_within_a_boot_starts_from_zero(state: Path) -> None:
    """Without its -wal file the journal holds older values than were published; they are not gone back to."""
    daemon = Journal.open(state, "boot-1")
    daemon.commit([ENERGY], [BASELINE])
    daemon.sync()
    daemon.commit([LATER], [replace(BASELINE, energy_uj=99)])
    left = copy_of_disk(state, state.with_name("left"))  # as a kill -9 leaves it
    daemon.close(clean=False)
    (left / "journal.db-wal").unlink()
    found = restored(left, "boot-1")
    (account,) = found.accounts
    assert (account.total, account.published) == (5_000_000, 0)
    assert found.baselines == ()
    assert "lost its newest commits" in found.notices[0]
    assert restored(left, "boot-1").baselines == ()


def test_power_loss_that_only_the_mark_survived_keeps_baselines(state: Path) -> None:
    """Nothing was published in the new boot, so what its hardware counters show is still to be counted."""
    daemon = Journal.open(state, "boot-1")
    daemon.commit([ENERGY], [BASELINE])
    daemon.sync()
    daemon.commit([LATER], [replace(BASELINE, energy_uj=99)])
    left = copy_of_disk(state, state.with_name("left"))
    daemon.close(clean=False)
    (left / "journal.db-wal").unlink()
    found = restored(left, "boot-2")
    assert found.accounts[0].published == 0
    assert found.baselines == (replace(BASELINE, same_boot=False),)


@pytest.mark.parametrize("clean", [False, True])
def test_older_copy_put_back_starts_from_zero(state: Path, tmp_path: Path, clean: bool) -> None:
    """A journal put back from a copy is known to be older than what was published, clean stop or not."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [BASELINE])
    journal.close(clean=clean)
    backup = copy_of_disk(state, tmp_path / "backup")
    journal = Journal.open(state, "boot-1")
    journal.commit([LATER], [])
    journal.close(clean=True)
    without_commits_since(state, backup)
    found = restored(state, "boot-2")
    assert found.accounts[0].published == 0
    assert "lost its newest commits" in found.notices[0]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "12", "99 of-another-journal boot-1", "-5 x y", "\udcff 1 2"]
)
def test_mark_that_proves_nothing_accuses_nobody(state: Path, text: str) -> None:
    """A mark that is empty, nonsense or another journal's leaves the counters alone."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [])
    journal.close(clean=False)
    (state / "journal.mark").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert restored(state, "boot-1").accounts == (ENERGY,)
