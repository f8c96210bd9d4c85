"""Reading one process's files in procfs, and what its formats mean (proc(5)).

Where a look takes more than one file, all are opened through one handle of ``/proc/PID``.
The handle stays with its process: after that has ended every read fails, whoever has the pid by then.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wattspan.units import NS_PER_S

NS_PER_TICK: Final = NS_PER_S // os.sysconf("SC_CLK_TCK")
"""Of the clock that procfs counts in: 10 ms on every common kernel."""

GONE: Final = (FileNotFoundError, ProcessLookupError)
"""What an ended process looks like: no folder (ENOENT), or a folder whose files answer no more (ESRCH)."""

_MAX_BYTES: Final = 1 << 20
"""Of a file that is not expected to be large."""

_STAT_BYTES: Final = 4096
"""More than 52 numbers and a name of 64 bytes take (proc_pid_stat(5))."""

_MAX_ENVIRON_BYTES: Final = 2 << 20
"""Of an environment: execve(2) takes a quarter of the stack limit, which is 8 MiB by default."""


def slept_ns() -> int:
    """How long the machine has been suspended since boot, to a clock tick.

    CLOCK_BOOTTIME, in which procfs counts starts, goes on meanwhile; CLOCK_MONOTONIC does not.
    Rounded, because the two are not read at one moment and a start must not jitter with that.
    """
    ahead_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return round(ahead_ns / NS_PER_TICK) * NS_PER_TICK


def started_ns(start_ticks: int, slept: int) -> int:
    """A start on CLOCK_MONOTONIC, as if all that the machine has slept had been before it.

    So a process that is older than a sleep seems older after it, by the length of the sleep.
    """
    return start_ticks * NS_PER_TICK - slept


def same_start(seen_ns: int, known_ns: int) -> bool:
    """Whether a pid whose start is seen now is the process that had it, with a start known from earlier.

    A later owner of the pid started later, so whoever started no later is still the same.
    """
    return seen_ns <= known_ns + NS_PER_TICK


@dataclass(frozen=True, slots=True)
class Stat:
    """What is used of ``/proc/PID/stat``.

    Attributes:
        comm: the program's name, or what the process made of it; its own to choose.
        ended: a zombie, or about to vanish: memory and GPU are given back already.
        ppid: the parent; 0 for the first process of the namespace.
        cpu_ns: CPU time of all its threads.
        children_cpu_ns: the same of the children that have ended and that it has waited for, and of theirs.
        start_ticks: since boot, the time that the machine slept included (CLOCK_BOOTTIME).
    """

    comm: bytes
    ended: bool
    ppid: int
    cpu_ns: int
    children_cpu_ns: int
    start_ticks: int


@contextlib.contextmanager
def entered(procfs: Path, pid: int) -> Iterator[int]:
    """The handle of ``/proc/PID``, for the functions below.

    Raises:
        OSError: one of `GONE`, PermissionError where procfs is mounted with hidepid=1, or a real failure.
    """
    folder = os.open(procfs / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def stat_at(path: str) -> Stat:
    """As `stat`, of the file at a path: half of the calls into the kernel, when no other file is wanted.

    Args:
        path: such as ``/proc/17/stat``.

    Raises:
        OSError: as `entered`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _parsed(os.read(handle, _STAT_BYTES))  # the kernel makes it whole, in one piece
    finally:
        os.close(handle)


def read(folder: int, name: str, limit: int = _MAX_BYTES) -> bytes:
    """A file of the process, as far as the limit. Raises what `entered` does."""
    handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        parts = []
        while limit > 0 and (part := os.read(handle, min(limit, 1 << 16))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def stat(folder: int) -> Stat:
    """The process as it stands."""
    return _parsed(read(folder, "stat"))


def _parsed(text: bytes) -> Stat:
    """Fields by their numbers in proc_pid_stat(5)."""
    # A program may call itself "a) R 1 (b"; only the last parenthesis ends the name.
    head, _, tail = text.rpartition(b")")
    fields = tail.split()
    try:
        return Stat(
            comm=head.partition(b"(")[2],
            ended=fields[3 - 3] in {b"Z", b"X", b"x"},
            ppid=int(fields[4 - 3]),
            cpu_ns=(int(fields[14 - 3]) + int(fields[15 - 3])) * NS_PER_TICK,
            children_cpu_ns=(int(fields[16 - 3]) + int(fields[17 - 3])) * NS_PER_TICK,
            start_ticks=int(fields[22 - 3]),
        )
    except (IndexError, ValueError) as error:
        raise ProcessLookupError(f"stat reads {text[:60]!r}") from error


def uid(folder: int) -> int:
    """The real user: the first number in the line ``Uid:`` of proc_pid_status(5).

    The owner of the folder would not do: it is root for every process that may not be dumped.
    """
    for line in read(folder, "status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    raise ProcessLookupError("status has no line Uid")


def cgroup(folder: int) -> str:
    """The text of cgroups(7), for `wattspan.workloads.cgroups.parse`."""
    return read(folder, "cgroup").decode("utf-8", "replace")


def environ(folder: int) -> bytes | None:
    """The environment that the program was started with, for `wattspan.workloads.markers.of_environ`.

    None when we may not read it, which takes the same user or CAP_SYS_PTRACE.
    The kernel takes the memory lock of the process for it, so a process that hangs with that lock hangs
    whoever asks: see `wattspan.workloads.environs`.
    """
    try:
        return read(folder, "environ", _MAX_ENVIRON_BYTES)
    except PermissionError:
        return None


def children(folder: int) -> list[int]:
    """Pids of the children of all threads. Needs a kernel built with CONFIG_PROC_CHILDREN, as most are."""
    handle = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        threads = os.listdir(handle)
    finally:
        os.close(handle)
    found: list[int] = []
    for thread in threads:
        with contextlib.suppress(*GONE):  # threads end at any time
            found.extend(map(int, read(folder, f"task/{thread}/children").split()))
    return found
