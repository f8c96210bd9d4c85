"""dcgm-exporter's job mapping folder, as prologs write it and epilogs clear it."""

import tempfile
from pathlib import Path

import pytest

from tests.fakes.machine import unprivileged
from wattspan.errors import ReadError
from wattspan.workloads.slurm import MAX_JOBS, SlurmMapping


def test_jobs_by_gpu(tmp_path: Path) -> None:
    """One file for each GPU or MIG instance, one job on each line, in order and once."""
    (tmp_path / "0").write_text("4711\n")
    (tmp_path / "1").write_text("4711\n4712\n4711\n")
    (tmp_path / "2.3").write_text("4713")
    (tmp_path / "10").write_text("4714_7\r\n\n")
    assert SlurmMapping(tmp_path).look() == {
        "0": ("4711",),
        "1": ("4711", "4712"),
        "2.3": ("4713",),
        "10": ("4714_7",),
    }


def test_changes_are_seen_at_the_next_look(tmp_path: Path) -> None:
    """Also a job of the same length within one tick of the file system's clock."""
    mapping = SlurmMapping(tmp_path)
    file = tmp_path / "0"
    seen = []
    for job in ("1", "2", "3"):
        file.write_text(job)
        seen.append(mapping.look())
    file.write_text("")
    seen.append(mapping.look())
    file.unlink()
    seen.append(mapping.look())
    assert seen == [{"0": ("1",)}, {"0": ("2",)}, {"0": ("3",)}, {}, {}]


def test_other_files_are_nobodys(tmp_path: Path) -> None:
    """Editors' copies, folders, uuids and names out of the convention are passed over."""
    for name in ("0~", ".0.swp", "gpu0", "0.1.2", "-1", "00000", "\u0661"):
        (tmp_path / name).write_text("4711\n")
    (tmp_path / "3").mkdir()
    assert SlurmMapping(tmp_path).look() == {}


def test_what_is_no_job(tmp_path: Path) -> None:
    """Blank lines, ``0``, ``none`` and control characters name no job; an id is safe to use."""
    (tmp_path / "0").write_bytes(b"\n0\nnone\n \n\x00\x1b\n../../etc\n\xff47\n")
    assert SlurmMapping(tmp_path).look() == {"0": ("etc", "47")}


def test_a_file_that_never_ends(tmp_path: Path) -> None:
    """However long the file, there is a limit to the jobs on one GPU."""
    (tmp_path / "0").write_text("".join(f"{number}\n" for number in range(1, 200_000)))
    assert len(SlurmMapping(tmp_path).look()["0"]) == MAX_JOBS


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """An error by its reason, and all is well once the folder has been made."""
    mapping = SlurmMapping(tmp_path / "jobs")
    with pytest.raises(ReadError) as failure:
        mapping.look()
    assert failure.value.reason == "lost"
    assert "jobs" in failure.value.detail
    (tmp_path / "jobs").mkdir()
    assert mapping.look() == {}


def test_a_folder_and_a_file_that_may_not_be_read() -> None:
    """Refused is not empty: nobody may take a job for ended because of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "0").write_text("4711")
        (folder / "0").chmod(0)
        with unprivileged(), pytest.raises(ReadError) as file_failure:
            SlurmMapping(folder).look()
        folder.chmod(0o700)
        with unprivileged(), pytest.raises(ReadError) as folder_failure:
            SlurmMapping(folder).look()
    assert (file_failure.value.reason, folder_failure.value.reason) == ("permission", "permission")
