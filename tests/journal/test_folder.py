"""The state directory: one daemon at a time, and words for every way it can be unusable."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journal.conftest import Start, restored
from wattspan.errors import UnreachableError
from wattspan.journal import Journal, holder

NOBODY = 65534


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A folder whose owner we are for the length of a test, without root's right to write anywhere."""
    folder = Path(tempfile.mkdtemp(prefix="wattspan-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_second_daemon_is_told_who_holds_the_folder(state: Path, start: Start) -> None:
    """A folder in use is refused with its name and the pid of the daemon that has it."""
    first = start("hold", str(state), "boot-1")
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    with pytest.raises(UnreachableError, match=rf"{state} is in use by another wattspan \(pid {first.pid}\)"):
        Journal.open(state, "boot-1")
    assert holder(state) == first.pid
    first.kill()
    first.wait()
    assert holder(state) is None
    assert restored(state, "boot-1").notices == ()


def test_clean_stop_frees_the_folder(state: Path, start: Start) -> None:
    """Another daemon may start as soon as the first has stopped, and sees that it stopped cleanly."""
    first = start("hold", str(state), "boot-1")
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    first.communicate("")
    assert first.returncode == 0
    assert restored(state, "boot-1").clean_stop


def test_lock_holds_within_one_process(state: Path) -> None:
    """A second journal on the folder is refused also where the pid is our own."""
    journal = Journal.open(state, "boot-1")
    with pytest.raises(UnreachableError, match=f"pid {os.getpid()}"):
        Journal.open(state, "boot-1")
    assert holder(state) == os.getpid()
    journal.close(clean=True)
    assert holder(state) is None


def test_nobody_holds_a_folder_that_does_not_exist(state: Path) -> None:
    """Asking makes nothing."""
    assert holder(state) is None
    assert not state.exists()


@pytest.mark.parametrize("text", [b"", b"me", b"\xff\xfe", b"9" * 100])
def test_held_without_a_readable_pid(state: Path, text: bytes) -> None:
    """The lock decides, whatever the file says."""
    journal = Journal.open(state, "boot-1")
    (state / "lock").write_bytes(text)
    assert holder(state) == 0
    with pytest.raises(UnreachableError, match="in use by another wattspan"):
        Journal.open(state, "boot-1")
    journal.close(clean=True)


def test_failed_start_leaves_the_lock_free(state: Path) -> None:
    """A start that fails after it took the lock gives it back."""
    state.mkdir()
    (state / "journal.mark").mkdir()
    with pytest.raises(UnreachableError, match="cannot be opened"):
        Journal.open(state, "boot-1")
    assert holder(state) is None


def test_state_directory_that_is_a_file(state: Path) -> None:
    """A file in the folder's place is named."""
    state.write_text("")
    with pytest.raises(UnreachableError, match=rf"{state} cannot be used \(File exists\).*--state.dir"):
        Journal.open(state, "boot-1")
    with pytest.raises(UnreachableError, match="Not a directory"):
        Journal.open(state / "below", "boot-1")


def test_state_directory_that_cannot_be_made(nobodys: Path) -> None:
    """Where the parent refuses, the text says why and how to mend it."""
    nobodys.chmod(0o500)
    with pytest.raises(UnreachableError, match=r"Permission denied.*--state.dir"):
        Journal.open(nobodys / "state", "boot-1")


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_state_directory_that_cannot_be_used(nobodys: Path, mode: int) -> None:
    """A folder that is not readable and writable by us is refused at once."""
    nobodys.chmod(mode)
    with pytest.raises(UnreachableError, match=rf"{nobodys} cannot be used"):
        Journal.open(nobodys, "boot-1")


@pytest.mark.parametrize("name", ["journal.db", "journal.mark", "lock"])
def test_file_that_is_not_ours_stops_the_start_and_stays(nobodys: Path, name: str) -> None:
    """A journal that we may not write is not taken for a damaged one."""
    Journal.open(nobodys, "boot-1").close(clean=True)
    (nobodys / name).chmod(0o400)
    with pytest.raises(UnreachableError, match="cannot be used"):
        Journal.open(nobodys, "boot-1")
    (nobodys / name).chmod(0o600)
    assert restored(nobodys, "boot-1").clean_stop
    assert not list(nobodys.glob("journal.db.*"))


def test_folder_with_an_odd_name(tmp_path: Path) -> None:
    """Characters that mean something in a URI mean nothing in a folder's name."""
    state = tmp_path / "a?mode=ro#b %41"
    assert restored(state, "boot-1").fresh
    assert not restored(state, "boot-1").fresh
