"""A machine's sysfs and procfs in a temporary folder, laid out and linked as the kernel does it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wattspan.units import NS_PER_S

START_NS = 1_000 * NS_PER_S


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS_PER_S)


class Machine:
    """Files under ``root/sys`` and ``root/proc``, and a clock."""

    def __init__(self, root: Path) -> None:
        self.sys = root / "sys"
        self.proc = root / "proc"
        self.clock = Clock()
        self.sys.mkdir(parents=True)
        self.proc.mkdir()

    def write(self, path: str, value: object) -> Path:
        """A file under the root, its folders made as needed; a line end as the kernel adds it."""
        file = self.sys.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        return file

    def cpu(self, vendor: str = "GenuineIntel") -> None:
        self.write("proc/cpuinfo", f"processor\t: 0\nvendor_id\t: {vendor}\n")

    def zone(
        self, entry: str, name: str, energy_uj: int = 5_000_000, range_uj: int = 262_143_328_850, **files: int
    ) -> Path:
        """A powercap zone such as ``intel-rapl:0:1``: a folder in the device tree and a link in the class."""
        control, *numbers = entry.split(":")
        parts = [control, *(f"{control}:{':'.join(numbers[: n + 1])}" for n in range(len(numbers)))]
        folder = "devices/virtual/powercap/" + "/".join(parts)
        facts = {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": range_uj, **files}
        for file, value in facts.items():
            self.write(f"sys/{folder}/{file}", value)
        link = self.sys / "class/powercap" / entry
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../{folder}")
        return link

    def chip(self, number: int, device: str, name: str, **files: object) -> Path:
        """A hwmon chip of a device such as ``0000:03:00.0``; ``device__x`` is the device's own file x."""
        folder = f"devices/{device}"
        self.write(f"sys/{folder}/hwmon/hwmon{number}/name", name)
        for file, value in files.items():
            where = folder if file.startswith("device__") else f"{folder}/hwmon/hwmon{number}"
            self.write(f"sys/{where}/{file.removeprefix('device__')}", value)
        (self.sys / folder / f"hwmon/hwmon{number}/device").symlink_to("../..")
        link = self.sys / f"class/hwmon/hwmon{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../{folder}/hwmon/hwmon{number}")
        return link


def set_int(path: Path, value: int) -> None:
    path.write_text(f"{value}\n")


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom file modes bind: root ignores them, so root becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except PermissionError:
        pytest.skip("root without CAP_SETUID cannot become a user whom file modes bind")
    try:
        yield
    finally:
        os.seteuid(0)
