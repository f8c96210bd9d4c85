"""Files and the operating system's errors at the boundary."""

import errno
from pathlib import Path

import pytest

from wattspan.devices import sysfs
from wattspan.devices.counters import Liveness, MeanPower
from wattspan.errors import REASONS, ReadError
from wattspan.units import NS_PER_S


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_every_errno_has_a_reason_of_the_closed_set(code: int) -> None:
    """Whatever the kernel says becomes one of our reasons, with the original's text."""
    error = sysfs.read_error(OSError(code, "text"), Path("file"))
    assert error.reason in REASONS
    assert error.detail == "file: text"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.ENOENT, "lost"),
        (errno.ENODEV, "lost"),
        (errno.EIO, "io"),
        (errno.EINVAL, "io"),
    ],
)
def test_the_common_errors_keep_their_meaning(code: int, reason: str) -> None:
    """The reasons that operators act on are told apart."""
    assert sysfs.read_error(OSError(code, "text"), Path("file")).reason == reason


def test_the_original_error_stays_attached(tmp_path: Path) -> None:
    """A translated error keeps its cause."""
    with pytest.raises(ReadError) as caught:
        sysfs.read_int(tmp_path / "missing")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("content", ["", "1.5", "0x10", "1_000", "9" * 21, "١٢", "\x00\xff"])
def test_what_is_no_whole_number_is_malformed(tmp_path: Path, content: str) -> None:
    """Nothing but decimal digits and a sign passes as a number."""
    (tmp_path / "file").write_text(content)
    with pytest.raises(ReadError) as caught:
        sysfs.read_int(tmp_path / "file")
    assert caught.value.reason == "malformed"
    assert sysfs.optional_int(tmp_path / "file") is None


def test_numbers_in_names_sort_as_numbers() -> None:
    """hwmon10 follows hwmon9."""
    names = ["hwmon10", "hwmon9", "hwmon1"]
    assert [path.name for path in sysfs.in_order(map(Path, names))] == ["hwmon1", "hwmon9", "hwmon10"]


def test_a_counter_proves_itself_by_moving() -> None:
    """Unproven until the first change, counting after it, still after a minute without one."""
    counter = Liveness(7, 0)
    assert counter.look(7, NS_PER_S) == "unproven"
    assert counter.look(8, 2 * NS_PER_S) == "counting"
    assert counter.look(8, 61 * NS_PER_S) == "counting"
    assert counter.look(8, 62 * NS_PER_S) == "still"
    assert counter.look(9, 63 * NS_PER_S) == "counting"


def test_a_counter_that_never_moved_is_absent() -> None:
    """A minute of the first value: nothing is counted here."""
    assert Liveness(0, 0).look(0, 60 * NS_PER_S) == "absent"


def test_a_long_pause_between_looks_is_no_standstill() -> None:
    """A counter that moved while nobody looked is alive."""
    assert Liveness(1, 0).look(2, 3600 * NS_PER_S) == "counting"


def test_mean_power_says_nothing_about_a_decrease() -> None:
    """A wrap and a reset look alike, so the window starts anew."""
    power = MeanPower()
    assert [power.look(uj, n * NS_PER_S) for n, uj in enumerate((10, 30, 5, 25))] == [None, 20, None, 20]
