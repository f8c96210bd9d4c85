"""Short reads from sysfs and procfs, and the operating system's errors translated once.

The root is always handed in, because a container reads the host's trees at another path.
Links inside sysfs are relative, so a tree mounted elsewhere resolves within itself.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from wattspan.errors import ReadError, Reason

REASONS_BY_ERRNO: Final[Mapping[int, Reason]] = {
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ENOENT: "lost",
    errno.ENODEV: "lost",
    errno.ENXIO: "lost",
    errno.EBUSY: "driver",
    errno.EAGAIN: "driver",
    errno.ENODATA: "unsupported",
    errno.EOPNOTSUPP: "unsupported",
    errno.ETIMEDOUT: "timeout",
}
"""What an errno means here; every other one is ``io``."""


def read_error(error: OSError, path: Path) -> ReadError:
    """The operating system's error in our words. Raise it ``from`` the original."""
    reason = REASONS_BY_ERRNO.get(error.errno or 0, "io")
    return ReadError(reason, f"{path}: {error.strerror or error}")


def read_text(path: Path) -> str:
    """A file's text without the line end. May block in the driver.

    Raises:
        ReadError: the file is gone or does not answer.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Not by a file object, which costs several times the read; such files come whole in one.
            parts = []
            while part := os.read(handle, 1 << 16):
                parts.append(part)
        finally:
            os.close(handle)
    except OSError as error:
        raise read_error(error, path) from error
    return b"".join(parts).decode("ascii", "replace").strip()


def read_int(path: Path) -> int:
    """A file that holds one whole number.

    Raises:
        ReadError: the file is gone, does not answer, or holds something else (``malformed``).
    """
    text = read_text(path)
    # int() alone would take "1_000" and numbers too long for any counter.
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise ReadError("malformed", f"{path}: {text[:40]!r} is not a whole number")
    return int(text)


def optional_int(path: Path) -> int | None:
    """A secondary figure: None when this driver does not give it, or not now."""
    try:
        return read_int(path)
    except ReadError:
        return None


def optional_text(path: Path) -> str:
    """A secondary text: empty when this driver does not give it, or not now."""
    try:
        return read_text(path)
    except ReadError:
        return ""


def in_order(paths: Iterable[Path], by: Callable[[Path], str] = lambda path: path.name) -> list[Path]:
    """Sorted by a name, numbers as numbers: hwmon2 stands before hwmon10."""

    def key(path: Path) -> list[tuple[str, int]]:
        return [(word, int(number or 0)) for word, number in re.findall(r"([^0-9]*)([0-9]*)", by(path))]

    return sorted(paths, key=key)


def hwmon_chips(root: Path, names: Iterable[str]) -> list[Path]:
    """The hwmon chips with one of these driver names, as ``class/hwmon/hwmonN`` under the root."""
    wanted = set(names)
    return [chip for chip in in_order((root / "class/hwmon").glob("hwmon*")) if _chip_name(chip) in wanted]


def _chip_name(chip: Path) -> str:
    # Drivers that still use hwmon_device_register() put their attributes on the parent device.
    return optional_text(chip / "name") or optional_text(chip / "device/name")


def device_name(chip: Path) -> str:
    """The name of the device behind a hwmon chip: a PCI address, or an ACPI instance. Stable across boots."""
    return (chip / "device").resolve().name


def is_asleep(chip: Path) -> bool:
    """Whether the device is suspended at run time (D3). Reading a sensor would wake it, so nobody should."""
    return optional_text(chip / "device/power/runtime_status") == "suspended"


def pci_model(chip: Path, vendor: str) -> str:
    """``AMD GPU 0x740f``: the vendor and the PCI device id, where the driver knows no name."""
    return f"{vendor} GPU {optional_text(chip / 'device/device')}".rstrip()
