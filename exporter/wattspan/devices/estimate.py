"""CPU power guessed from load and rated power, for machines whose CPU cannot be measured.

    power = rated power x share(utilization)

``share`` is the curve that Teads measured on bare-metal cloud servers: 12 % of the rated power when idle,
32 % at 10 % load, 75 % at 50 %, 102 % at full load, straight lines between (B. Davy, "Building an AWS EC2
Carbon Emissions Dataset", 2021). The rated power is:

- sockets x TDP of the model, where ``tdp.csv`` knows it and the machine is no virtual one;
- else 4 W for each logical CPU (CodeCarbon 3, DEFAULT_POWER_PER_CORE), because a guest has a share of a chip.

Estimators of this kind are wrong by up to 40 % (Fischer 2025, arXiv 2509.22092).
So every figure is marked as estimated, has metric names of its own and is never summed with measured ones.
Utilization comes from ``/proc/stat`` (proc(5)), which in a container shows the whole machine.
"""

import csv
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Final

from wattspan.devices import sysfs
from wattspan.errors import NotHereError, ReadError
from wattspan.model import HostReading, SourceReport
from wattspan.units import UW_PER_W

_SHARE_OF_RATED: Final = ((0.0, 0.12), (0.1, 0.32), (0.5, 0.75), (1.0, 1.02))
"""Utilization and the share of the rated power that is drawn there (Davy 2021)."""

_WATTS_PER_CPU: Final = 4
"""For each logical CPU of a machine whose rated power is unknown (CodeCarbon 3, core/cpu.py)."""


@dataclass(frozen=True, slots=True)
class _Ticks:
    """CPU time of the whole machine since boot, in clock ticks: all of it, and what was spent working."""

    total: int
    busy: int


class EstimateSource:
    """The whole machine's CPUs as one device, ``all``.

    Args:
        procfs_root: where procfs is mounted.
        clock_ns: CLOCK_MONOTONIC, in nanoseconds.
    """

    name: Final = "estimate"

    def __init__(
        self, procfs_root: Path = Path("/proc"), clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._stat = procfs_root / "stat"
        self._cpuinfo = procfs_root / "cpuinfo"
        self._clock_ns = clock_ns
        self._rated_uw = 0
        self._before = _Ticks(0, 0)

    def open(self) -> str:
        """Find the rated power and take the first look at the load."""
        try:
            self._before = _parse_stat(sysfs.read_text(self._stat))
            cpuinfo = sysfs.read_text(self._cpuinfo)
        except ReadError as error:
            raise NotHereError(error.detail) from error
        rated_w, why = _rated_watts(cpuinfo, _table())
        self._rated_uw = rated_w * UW_PER_W
        return f"an estimate, not a measurement: {rated_w} W rated power, {why}"

    def read(self) -> SourceReport:
        """Power over the time since the last look; no reading when less than a clock tick has passed."""
        started_ns = self._clock_ns()
        now = _parse_stat(sysfs.read_text(self._stat))
        finished_ns = self._clock_ns()
        before, self._before = self._before, now
        hosts: tuple[HostReading, ...] = ()
        if now.total > before.total:
            power_uw = int(self._rated_uw * share_of_rated(_utilization_ratio(before, now)))
            read_at_ns = (started_ns + finished_ns) // 2
            hosts = (HostReading("cpu", "all", read_at_ns, power_uw=power_uw, estimated=True),)
        return SourceReport(self.name, started_ns, finished_ns, hosts=hosts)

    def close(self) -> None:
        """Nothing is held between reads."""


def share_of_rated(utilization_ratio: float) -> float:
    """The share of the rated power that is drawn at a utilization from 0 to 1."""
    for (low, low_share), (high, high_share) in pairwise(_SHARE_OF_RATED):
        if utilization_ratio <= high:
            return low_share + (high_share - low_share) * (utilization_ratio - low) / (high - low)
    return _SHARE_OF_RATED[-1][1]


def _utilization_ratio(before: _Ticks, now: _Ticks) -> float:
    # The kernel's idle and iowait counts can step back a little (proc(5)).
    return min(max(now.busy - before.busy, 0) / (now.total - before.total), 1.0)


def _parse_stat(text: str) -> _Ticks:
    """The first line of ``/proc/stat``: user, nice, system, idle, iowait, irq, softirq, steal.

    Guest time is inside user. Stolen time is not ours: another guest drew that power.
    """
    match = re.match(r"cpu +([0-9]+(?: [0-9]+){7})", text)
    if match is None:
        raise ReadError("malformed", f"/proc/stat begins with {text[:40]!r}")
    ticks = [int(word) for word in match[1].split()]
    idle, iowait, steal = ticks[3], ticks[4], ticks[7]
    return _Ticks(sum(ticks), sum(ticks) - idle - iowait - steal)


def _rated_watts(cpuinfo: str, table: Mapping[str, int]) -> tuple[int, str]:
    """Rated power of all CPUs together, and how it was found, for people."""
    fields = re.findall(r"^(.+?)[ \t]*:[ \t]*(.*?)[ \t]*$", cpuinfo, re.MULTILINE)
    cpus = sum(name == "processor" for name, _ in fields) or 1
    sockets = len({value for name, value in fields if name == "physical id"}) or 1
    model = next((value for name, value in fields if name == "model name"), "")
    is_virtual = any(name == "flags" and "hypervisor" in value.split() for name, value in fields)
    tdp_w = table.get(table_key(model))
    if is_virtual or tdp_w is None:
        why = "a virtual machine" if is_virtual else f"CPU {model!r} is in no table"
        return cpus * _WATTS_PER_CPU, f"{cpus} logical CPUs x {_WATTS_PER_CPU} W because {why}"
    return sockets * tdp_w, f"{sockets} x {model}"


def table_key(model_name: str) -> str:
    """``Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz`` is ``xeon gold 6248``; some print it in capitals."""
    name = re.sub(r"\((r|tm)\)", "", model_name.lower())
    name = re.sub(r"@.*|\bcpu\b|\b[0-9]+-core processor\b|^(intel|amd)\b", " ", name)
    return " ".join(name.split())


def _table() -> Mapping[str, int]:
    """Thermal design power in watts by `table_key`."""
    text = resources.files("wattspan.devices").joinpath("tdp.csv").read_text("ascii")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {table_key(row["model"]): int(row["tdp_w"]) for row in csv.DictReader(lines)}
