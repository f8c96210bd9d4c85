"""This process in the `process_*` families that every Prometheus client exports.

Names, kinds and help are those of prometheus-client's ProcessCollector, and a test holds the values equal.
That one reads three files of /proc at each scrape, in which the kernel formats what was not asked for.
"""

import os
import resource
from pathlib import Path
from typing import Final

FAMILIES: Final = {
    "process_virtual_memory_bytes": ("gauge", "Virtual memory size in bytes."),
    "process_resident_memory_bytes": ("gauge", "Resident memory size in bytes."),
    "process_start_time_seconds": ("gauge", "Start time of the process since unix epoch in seconds."),
    "process_cpu_seconds": ("counter", "Total user and system CPU time spent in seconds."),
    "process_open_fds": ("gauge", "Number of open file descriptors."),
    "process_max_fds": ("gauge", "Maximum number of open file descriptors."),
}
"""Kind and help by family; the counter's series has ``_total`` after it."""


class Process:
    """What the kernel says of this process.

    Args:
        proc: where procfs is mounted.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._stat = proc / "self" / "stat"
        self._descriptors = proc / "self" / "fd"
        self._boot_s = _boot_s(proc / "stat")
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._page_bytes = resource.getpagesize()

    def read(self) -> dict[str, float]:
        """Values by family of `FAMILIES`; those that cannot be read are missing."""
        return {**self._usage(), **self._open_files()}

    def _usage(self) -> dict[str, float]:
        """Fields 14, 15 and 22 to 24 of proc(5)'s stat, of which the second may hold anything, `)` too."""
        try:
            fields = self._stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            return {}
        usage = {
            "process_virtual_memory_bytes": float(fields[20]),
            "process_resident_memory_bytes": float(fields[21]) * self._page_bytes,
        }
        if self._boot_s is not None:
            usage["process_start_time_seconds"] = float(fields[19]) / self._ticks_per_s + self._boot_s
        usage["process_cpu_seconds"] = (
            float(fields[11]) / self._ticks_per_s + float(fields[12]) / self._ticks_per_s
        )
        return usage

    def _open_files(self) -> dict[str, float]:
        try:
            # The one that lists them included, as everybody counts.
            count = len(os.listdir(self._descriptors))
        except OSError:
            return {}
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = float("inf") if soft == resource.RLIM_INFINITY else float(soft)
        return {"process_open_fds": float(count), "process_max_fds": limit}


def _boot_s(stat: Path) -> float | None:
    """When the machine was started, by the wall clock of then; None where nobody says."""
    try:
        lines = stat.read_bytes().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) for line in lines if line.startswith(b"btime ")), None)
