"""CPU and DRAM energy through Linux powercap (RAPL), for Intel and AMD.

Tree (Documentation/power/powercap/powercap.rst): ``class/powercap/intel-rapl:N`` are sockets,
``intel-rapl:N:M`` their parts; each has ``name``, ``energy_uj`` and ``max_energy_range_uj``.
AMD sockets appear under the same names.

What is taken, and what is not:

- ``package-N`` is the component cpu, and ``dram`` inside it is the component dram.
- ``core`` and ``uncore`` are inside the package and would count twice.
- ``psys`` covers the whole board on laptops, the packages included: a platform reading, never summed.
- The same zone under ``intel-rapl`` and ``intel-rapl-mmio`` is one counter behind two doors: the first stays.
- On AMD the package counter is per socket, yet kernel 6.10 made one zone per die, each with the whole
  socket's energy ("powercap: intel_rapl: Fix the energy-pkg event for AMD CPUs", in 6.12; before that
  Threadripper 1950X, codecarbon#788). One zone per socket is kept, under the socket's name, so that the
  kernel's upgrade does not rename it. On Intel (Cascade Lake-AP) each die has a counter of its own.
- A counter that never moves is absent: KVM answers 0 for these registers (QEMU commit 0418f908).
  It is named in one failure and not read again.

Counters are passed on as the hardware has them, with their range; the ledger unwraps.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from wattspan.devices import sysfs
from wattspan.devices.counters import Liveness, MeanPower
from wattspan.errors import NotHereError, ReadError
from wattspan.model import Failure, HostReading, PlatformReading, SourceReport

_ROOT_MENDS_IT: Final = "run as root (in Kubernetes uid 0, no capability) or with CAP_DAC_READ_SEARCH"
"""energy_uj is mode 0400 since the answer to CVE-2020-8694 (powercap_sys.c)."""

_MOUNT_MENDS_IT: Final = (
    "container runtimes mask /sys/devices/virtual/powercap; mount the host's /sys read-only at another path "
    "and point --path.sysfs to it"
)

_NO_LIMIT_UW: Final = 4_095_000_000
"""Firmware that means "no limit" fills the 15 bits of 1/8 W (Intel SDM, MSR_PKG_POWER_LIMIT): 4095.875 W."""


_Kind = Literal["cpu", "dram", "platform"]
"""The component that a zone measures, or ``platform`` for psys."""


@dataclass(frozen=True, slots=True, eq=False)
class _Zone:
    """One powercap zone that is read.

    Attributes:
        device: the id in readings; dram has its package's.
        power_limit_uw: the most that its constraints name; None where one of them is no limit.
    """

    path: Path
    kind: _Kind
    device: str
    wraps_at_uj: int
    power_limit_uw: int | None
    liveness: Liveness
    mean_power: MeanPower = field(default_factory=MeanPower)


class RaplSource:
    """Powercap zones.

    Args:
        sysfs_root: where sysfs is mounted.
        procfs_root: where procfs is mounted; ``cpuinfo`` says who made the CPU.
        clock_ns: CLOCK_MONOTONIC, in nanoseconds.
    """

    name: Final = "rapl"

    def __init__(
        self,
        sysfs_root: Path = Path("/sys"),
        procfs_root: Path = Path("/proc"),
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._powercap = sysfs_root / "class/powercap"
        self._cpuinfo = procfs_root / "cpuinfo"
        self._clock_ns = clock_ns
        self._zones: list[_Zone] = []

    def open(self) -> str:
        """Find the zones and look at each counter once, so that the next look can tell whether it moves."""
        if not self._powercap.is_dir():
            raise NotHereError(
                f"no {self._powercap}: a virtual machine, or the kernel module intel_rapl_msr is not loaded"
            )
        # The MSR door before the MMIO one: of two with the same name the first is taken.
        entries = sysfs.in_order(self._powercap.glob("intel-rapl:*"))
        entries += sysfs.in_order(self._powercap.glob("intel-rapl-*:*"))
        if entries and not any(entry.exists() for entry in entries):
            raise NotHereError(f"{self._powercap} leads nowhere: {_MOUNT_MENDS_IT}")
        self._zones, errors = [], []
        for path, kind, device in _wanted(entries, per_socket=self._is_per_socket()):
            try:
                self._zones.append(self._zone(path, kind, device))
            except ReadError as error:
                errors.append(error)
        unreadable = "; ".join(error.detail for error in errors)
        if any(error.reason == "permission" for error in errors):
            unreadable += f": {_ROOT_MENDS_IT}"
        if not self._zones:
            raise NotHereError(unreadable or f"{self._powercap} has no package, dram or psys zone")
        if all(zone.liveness.value == 0 for zone in self._zones):
            raise NotHereError("every powercap counter reads 0: a virtual machine without RAPL")
        found = ", ".join(f"{zone.kind} {zone.device}" for zone in self._zones)
        return f"{found}; not readable: {unreadable}" if unreadable else found

    def read(self) -> SourceReport:
        """Look at each zone. One that stands still or has gone is a failure; the others carry on."""
        if not self._zones:
            raise ReadError("unsupported", "no powercap counter moves: a virtual machine without RAPL")
        started_ns = self._clock_ns()
        hosts: list[HostReading] = []
        platforms: list[PlatformReading] = []
        failures: list[Failure] = []
        for zone in tuple(self._zones):
            try:
                reading = self._look(zone)
            except ReadError as error:
                failures.append(Failure(self.name, error.reason, error.detail, zone.device))
                continue
            if isinstance(reading, HostReading):
                hosts.append(reading)
            elif reading is not None:
                platforms.append(reading)
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
        self._zones = []

    def _is_per_socket(self) -> bool:
        text = sysfs.optional_text(self._cpuinfo)
        return re.search(r"^vendor_id\s*:\s*(AuthenticAMD|HygonGenuine)$", text, re.MULTILINE) is not None

    def _zone(self, path: Path, kind: _Kind, device: str) -> _Zone:
        energy_uj, read_at_ns = self._energy(path)
        return _Zone(
            path,
            kind,
            device,
            wraps_at_uj=sysfs.read_int(path / "max_energy_range_uj"),
            power_limit_uw=_power_limit_uw(path),
            liveness=Liveness(energy_uj, read_at_ns),
        )

    def _energy(self, path: Path) -> tuple[int, int]:
        before_ns = self._clock_ns()
        energy_uj = sysfs.read_int(path / "energy_uj")
        return energy_uj, (before_ns + self._clock_ns()) // 2

    def _look(self, zone: _Zone) -> HostReading | PlatformReading | None:
        """None while the counter has not yet proven itself, and between two figures of power."""
        energy_uj, read_at_ns = self._energy(zone.path)
        state = zone.liveness.look(energy_uj, read_at_ns)
        if state == "absent":
            self._zones.remove(zone)
            raise ReadError("unsupported", f"{zone.path}/energy_uj never moved from {energy_uj}: left out")
        if state == "still":
            raise ReadError("malformed", f"{zone.path}/energy_uj stands still at {energy_uj}")
        if state == "unproven":
            return None
        if zone.kind == "platform":
            power_uw = zone.mean_power.look(energy_uj, read_at_ns)
            return None if power_uw is None else PlatformReading(zone.device, read_at_ns, power_uw)
        return HostReading(
            zone.kind,
            zone.device,
            read_at_ns,
            energy_uj=energy_uj,
            wraps_at_uj=zone.wraps_at_uj,
            power_limit_uw=zone.power_limit_uw,
        )


def _wanted(entries: list[Path], *, per_socket: bool) -> Iterator[tuple[Path, _Kind, str]]:
    """The zones to read, each counter once: its folder, what it is, and its device id.

    Args:
        entries: ``intel-rapl:0``, ``intel-rapl:0:1``, ``intel-rapl-mmio:0``, ... in order.
        per_socket: package counters cover the socket, however many dies have a zone.
    """
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        control, *numbers = entry.name.split(":")
        parent = entry.with_name(f"{control}:{numbers[0]}")
        kind, device = _identity(sysfs.optional_text(entry / "name"), sysfs.optional_text(parent / "name"))
        if per_socket:
            device = re.sub(r"-die-[0-9]+$", "", device)
        if kind is None or (kind, device) in seen:
            continue
        seen.add((kind, device))
        yield entry, kind, device


def _identity(name: str, parent_name: str) -> tuple[_Kind | None, str]:
    """What a zone of this name in a package of that name is; None for parts that another zone covers."""
    if name.startswith("package-"):
        return "cpu", name
    if name == "dram":
        return "dram", parent_name
    if name == "psys":
        return "platform", "rapl-psys"
    return None, ""


def _power_limit_uw(zone: Path) -> int | None:
    """The largest power that the zone's constraints allow or name as their maximum; None without a limit.

    ``constraint_0_max_power_uw`` alone is the rated power, which turbo exceeds for seconds at a time, and
    a board whose firmware lifts a limit for as long as the cooler lasts. Taken as a bound it would call real
    energy implausible.
    """
    allowed_uw = _positive(zone.glob("constraint_*_power_limit_uw"))
    if not allowed_uw or max(allowed_uw) >= _NO_LIMIT_UW:
        return None
    named_uw = _positive(zone.glob("constraint_*_max_power_uw"))
    return max(limit_uw for limit_uw in allowed_uw + named_uw if limit_uw < _NO_LIMIT_UW)


def _positive(paths: Iterable[Path]) -> list[int]:
    """The numbers in these files, less zeros and what is no number."""
    return [number for path in paths if (number := sysfs.optional_int(path))]
