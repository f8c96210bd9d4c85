"""Power meters behind Linux hwmon: the rails of NVIDIA Grace, and ACPI meters of the whole box.

The driver is ``acpi_power_meter`` (Documentation/hwmon/acpi_power_meter.rst); its chips are named
``power_meter`` and give ``powerN_average`` in microwatts and a free text, ``powerN_oem_info``.

On Grace the text names the rail and the socket (NVIDIA Grace Performance Tuning Guide):
``Module Power Socket 0``, ``Grace Power Socket 0``, ``CPU Power Socket 0``, ``SysIO Power Socket 0``;
newer firmware writes ``CPU Rail Input Power in uW socket 0``.
Module contains Grace, and Grace contains CPU and SysIO, so only one may count as host energy: the CPU rail.
All others are platform readings, shown and never summed.
A meter without such a text is the whole box.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wattspan.devices import sysfs
from wattspan.errors import NotHereError, ReadError
from wattspan.model import Failure, HostReading, PlatformReading, SourceReport

_RAIL: Final = re.compile(r"(?P<rail>.+?) power(?: in uw)? socket (?P<socket>[0-9]+)", re.IGNORECASE)

_CPU_RAILS: Final = frozenset({"cpu", "cpu rail input"})

_NOT_HERE: Final = (
    "no hwmon chip named power_meter; on Grace load the kernel module acpi_power_meter with force_cap_on=y"
)
"""CONFIG_SENSORS_ACPI_POWER, and the parameter that Grace's firmware needs (Alumet, plugins/grace-hopper)."""


@dataclass(frozen=True, slots=True)
class _Meter:
    """One power file.

    Attributes:
        sensor: the id in readings.
        is_cpu: the rail that counts as the host's CPU.
    """

    path: Path
    sensor: str
    is_cpu: bool = False


class HwmonSource:
    """ACPI power meters.

    Args:
        sysfs_root: where sysfs is mounted.
        clock_ns: CLOCK_MONOTONIC, in nanoseconds.
    """

    name: Final = "hwmon"

    def __init__(
        self, sysfs_root: Path = Path("/sys"), clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._root = sysfs_root
        self._clock_ns = clock_ns
        self._meters: list[_Meter] = []

    def open(self) -> str:
        """Find the meters. A rail that two chips name alike is taken once."""
        # By the ACPI instance (ACPI000D:00): hwmonN follows the order of loading and changes at a reboot.
        chips = sysfs.in_order(sysfs.hwmon_chips(self._root, ["power_meter"]), by=sysfs.device_name)
        meters: dict[str, _Meter] = {}
        for number, path in enumerate(_power_files(chips)):
            meter = _meter(path, number)
            meters.setdefault(meter.sensor, meter)
        if not meters:
            raise NotHereError(_NOT_HERE)
        self._meters = list(meters.values())
        return ", ".join(meters)

    def read(self) -> SourceReport:
        """Look at each meter. One that fails is a failure; the others carry on."""
        started_ns = self._clock_ns()
        hosts: list[HostReading] = []
        platforms: list[PlatformReading] = []
        failures: list[Failure] = []
        for meter in self._meters:
            before_ns = self._clock_ns()
            try:
                power_uw = _power_uw(meter.path)
            except ReadError as error:
                failures.append(Failure(self.name, error.reason, error.detail, meter.sensor))
                continue
            read_at_ns = (before_ns + self._clock_ns()) // 2
            if meter.is_cpu:
                hosts.append(HostReading("cpu", meter.sensor, read_at_ns, power_uw=power_uw))
            else:
                platforms.append(PlatformReading(meter.sensor, read_at_ns, power_uw))
        return SourceReport(
            source=self.name,
            started_ns=started_ns,
            finished_ns=self._clock_ns(),
            hosts=tuple(hosts),
            platforms=tuple(platforms),
            failures=tuple(failures),
        )

    def close(self) -> None:
        """Nothing is held between reads."""
        self._meters = []


def _power_files(chips: list[Path]) -> list[Path]:
    """``powerN_average`` of every chip, or ``powerN_input`` where the firmware does not average."""
    files: list[Path] = []
    for chip in chips:
        # Older kernels keep the attributes on the ACPI device, newer ones on the chip itself.
        patterns = [(folder, what) for folder in (chip, chip / "device") for what in ("average", "input")]
        found = (sysfs.in_order(folder.glob(f"power*_{what}")) for folder, what in patterns)
        files += next(filter(None, found), [])
    return files


def _meter(path: Path, number: int) -> _Meter:
    text = sysfs.optional_text(path.with_name(re.sub(r"_[a-z]+$", "_oem_info", path.name)))
    match = _RAIL.fullmatch(text)
    if match is None:
        return _Meter(path, f"acpi-power-meter-{number}")
    rail, socket = match["rail"].lower(), match["socket"]
    if rail in _CPU_RAILS:
        return _Meter(path, f"grace-{socket}", is_cpu=True)
    return _Meter(path, f"grace-{rail.replace(' ', '-')}-{socket}")


def _power_uw(path: Path) -> int:
    """Microwatts. A powered machine never draws 0 W: a meter that says so is not measuring."""
    power_uw = sysfs.read_int(path)
    if power_uw <= 0:
        raise ReadError("malformed", f"{path} reads {power_uw} uW")
    return power_uw
