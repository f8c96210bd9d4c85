"""What a process costs: CPU time to the nanosecond, memory by the page."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

BYTES_PER_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process and its children, in bytes.

    Attributes:
        rss: all pages, those shared with others included; what a container limit of its own would see.
        pss: shared pages divided among those who share them.
        uss: pages that nobody else has.
    """

    rss: int
    pss: int
    uss: int


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process with its threads, ended ones included, and its children.

    The clock id is what clock_getcpuclockid(3) makes of a pid (MAKE_PROCESS_CPUCLOCK in
    include/linux/posix-timers_types.h), so that half a per cent of a core can be told from 0.4 %;
    utime and stime in /proc are given in hundredths of a second.
    """
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    reaped = psutil.Process(pid).cpu_times()
    living_s = sum(time.clock_gettime((~member << 3) | 2) for member in family)
    return living_s + reaped.children_user + reaped.children_system


def memory(pid: int) -> Memory:
    """As the kernel sums it in /proc/<pid>/smaps_rollup."""
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    sums = [_rollup(member) for member in family]
    return Memory(
        rss=sum(each["Rss"] for each in sums),
        pss=sum(each["Pss"] for each in sums),
        uss=sum(each["Private_Clean"] + each["Private_Dirty"] for each in sums),
    )


def touched_pages(pid: int, seconds: float = 1.0) -> int:
    """How many pages of 4 KiB a process touches in a while: what is ``Referenced`` since ``clear_refs``."""
    Path(f"/proc/{pid}/clear_refs").write_text("1", encoding="ascii")
    time.sleep(seconds)
    return _rollup(pid)["Referenced"] // 4096


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    pairs = (line.split(":") for line in lines)
    return {key: int(value.split()[0]) * 1024 for key, value in pairs if value.strip().endswith("kB")}
