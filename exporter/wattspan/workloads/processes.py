"""Who a process is, for whom it works, and what it has cost the CPU.

A pid is a number that the kernel gives out again; a pid and a start time are a process.
So every look begins with the start time, and what is remembered is remembered for that start time.
A process that has ended, or that may not be seen, is absent; that is no error.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wattspan.devices.sysfs import read_error
from wattspan.units import NS_PER_S
from wattspan.workloads import cgroups, markers, procfs
from wattspan.workloads.cgroup_cpu import CgroupCpu
from wattspan.workloads.cgroups import Cgroup
from wattspan.workloads.environs import Environs

SETTLED_AFTER_NS: Final = 5 * NS_PER_S
"""Age from which control group, user and environment are taken as final.
Container runtimes, Slurm and su(1) fork first, and only then move, become somebody else and execute."""

FORGOTTEN_AFTER_NS: Final = 60 * NS_PER_S
"""What nobody has asked about for so long is forgotten."""

MAX_DESCENDANTS: Final = 4096
"""More are not followed: a fork bomb must not take the daemon along."""

_MAX_ANCESTORS: Final = 256


_MPS_SERVER: Final = b"nvidia-cuda-mps"
"""``nvidia-cuda-mps-server``, as far as the 15 bytes of a program's name go (proc_pid_comm(5))."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process at one moment.

    Attributes:
        pid: in the pid namespace of procfs.
        started_ns: CLOCK_MONOTONIC, to a clock tick; the same at every look.
        ppid: the parent; 0 for the first process of the namespace.
        uid: the real user.
        cgroup: whom it works for.
        markers: its environment's allow-list; empty where that may not be read. While it hangs, what was
            known of it before.
        environ_readable: False where it may not, or hangs.
        cpu_ns: CPU time of all its threads since it started.
        children_cpu_ns: the same of the children that have ended and that it has waited for, and of theirs.
        serves_mps: it calls itself as the server of CUDA MPS does, whose clients work through it.
    """

    pid: int
    started_ns: int
    ppid: int
    uid: int
    cgroup: Cgroup
    markers: Mapping[str, str]
    environ_readable: bool
    cpu_ns: int
    children_cpu_ns: int
    serves_mps: bool = False


@dataclass(slots=True)
class _Known:
    """What is remembered of a process: good for one start and one program."""

    start_ticks: int
    comm: bytes
    started_ns: int
    uid: int
    cgroup: Cgroup
    markers: Mapping[str, str]
    environ_readable: bool
    settled: bool
    asked_at_ns: int

    def is_of(self, stat: procfs.Stat) -> bool:
        """Whether it still holds for this process. A new name shows that it has executed another program."""
        return self.settled and (self.start_ticks, self.comm) == (stat.start_ticks, stat.comm)


class Processes:
    """Processes as a procfs shows them.

    `look` belongs to one thread. The other methods may be called from any.

    Args:
        root: where procfs is mounted.
        clock: CLOCK_MONOTONIC.
        sysfs: where sysfs is mounted, for what control groups have used; in a container, the host's.
        slept: how far the time since boot, in which procfs counts starts, is ahead of `clock`.
    """

    def __init__(
        self,
        root: Path = Path("/proc"),
        clock: Callable[[], int] = time.monotonic_ns,
        sysfs: Path = Path("/sys"),
        slept: Callable[[], int] = procfs.slept_ns,
    ) -> None:
        self._root = root
        self._clock = clock
        self._slept = slept
        self._groups = CgroupCpu(sysfs)
        self._environs = Environs()
        self._known: dict[int, _Known] = {}
        self._hidden_ns: dict[int, int] = {}
        self._tidied_ns = clock()

    @property
    def hidden(self) -> frozenset[int]:
        """Pids asked about in the last minute that procfs, mounted with hidepid, does not show us.

        Among them may be some that have ended; nobody could tell.
        """
        return frozenset(self._hidden_ns)

    def look(self, pids: Iterable[int]) -> Mapping[int, ProcessFacts]:
        """Facts of those that live and can be seen, by pid.

        Start, parent and CPU time are read at every look; control group, user and environment once,
        and again after the process has executed another program.
        An environment that hangs is waited for once, as `Environs.read` says, and asked for again when that
        has come back.

        Raises:
            ReadError: procfs itself fails, as without file handles. What was known stays known.
        """
        now_ns = self._clock()
        facts: dict[int, ProcessFacts] = {}
        for pid in set(pids):
            self._hidden_ns.pop(pid, None)
            try:
                seen = self._look_at(pid, now_ns)
            except (*procfs.GONE, PermissionError) as error:
                if self._hides(error):
                    self._hidden_ns[pid] = now_ns
            except OSError as error:
                raise read_error(error, self._root / str(pid)) from error
            else:
                if seen is not None:
                    facts[pid] = seen
        self._tidy(now_ns)
        return facts

    def started_ns(self, pid: int) -> int | None:
        """When a process started, as `ProcessFacts.started_ns`; None when it has ended or cannot be seen."""
        try:
            stat = self._stat(pid)
        except OSError:
            return None
        return None if stat.ended else self._started_ns(pid, stat)

    def alive(self, pid: int, started_ns: int) -> bool:
        """Whether the process that had this pid and started then still runs.

        Where procfs hides the process, it must do that somebody has the pid.
        """
        try:
            stat = self._stat(pid)
        except (*procfs.GONE, PermissionError) as error:
            return self._hides(error) and pid > 0 and _exists(pid)
        except OSError:
            return True  # nothing says that it has ended
        return not stat.ended and procfs.same_start(self._started_ns(pid, stat), started_ns)

    def cgroup_cpu_ns(self, path: str) -> int | None:
        """CPU time of a whole container, pod or job, ended processes included; None when it is not to be had.

        Args:
            path: its `Cgroup.path`.
        """
        return self._groups.cpu_ns(path)

    def ancestors(self, pid: int) -> tuple[int, ...]:
        """The parent, its parent and so on, until one cannot be seen. One read for each."""
        found: list[int] = []
        with contextlib.suppress(OSError):
            while len(found) < _MAX_ANCESTORS and (pid := self._stat(pid).ppid) > 0:
                found.append(pid)
        return tuple(found)

    def descendants(self, pid: int) -> frozenset[int]:
        """Children, their children and so on, as far as they can be seen; at most `MAX_DESCENDANTS`.

        A process whose parent has ended is in nobody's tree any more.
        Costs a read for each thread of the tree; to ask whose child one process is, `ancestors` is cheaper.
        """
        children = self._children_of if self._has_children_files(pid) else self._family()
        found: set[int] = set()
        unvisited = [pid]
        while unvisited and len(found) < MAX_DESCENDANTS:
            fresh = set(children(unvisited.pop())) - found - {pid}
            followed = list(fresh)[: MAX_DESCENDANTS - len(found)]
            found.update(followed)
            unvisited.extend(followed)
        return frozenset(found)

    def _look_at(self, pid: int, now_ns: int) -> ProcessFacts | None:
        stat = self._stat(pid)
        known = self._known.get(pid)
        if stat.ended:
            return None
        if known is None or not known.is_of(stat):
            with procfs.entered(self._root, pid) as folder:
                stat = procfs.stat(folder)  # anew: who has the pid by now is whom the other files are of
                if stat.ended:
                    return None
                known = self._known[pid] = self._know(pid, folder, stat, now_ns)
        known.asked_at_ns = now_ns
        return ProcessFacts(
            pid=pid,
            started_ns=known.started_ns,
            ppid=stat.ppid,
            uid=known.uid,
            cgroup=known.cgroup,
            markers=known.markers,
            environ_readable=known.environ_readable,
            cpu_ns=stat.cpu_ns,
            children_cpu_ns=stat.children_cpu_ns,
            serves_mps=stat.comm == _MPS_SERVER,
        )

    def _know(self, pid: int, folder: int, stat: procfs.Stat, now_ns: int) -> _Known:
        try:
            environ, hangs = self._environs.read(pid, stat.start_ticks, folder), False
            found: Mapping[str, str] = markers.of_environ(environ or b"")
        except TimeoutError:
            environ, hangs = None, True
            before = self._known.get(pid)
            found = before.markers if before and before.start_ticks == stat.start_ticks else {}
        started_ns = self._started_ns(pid, stat)
        return _Known(
            start_ticks=stat.start_ticks,
            comm=stat.comm,
            started_ns=started_ns,
            uid=procfs.uid(folder),
            cgroup=cgroups.parse(procfs.cgroup(folder)),
            markers=found,
            environ_readable=environ is not None,
            settled=not hangs and now_ns - started_ns >= SETTLED_AFTER_NS,
            asked_at_ns=now_ns,
        )

    def _started_ns(self, pid: int, stat: procfs.Stat) -> int:
        """As it was said before, also when the machine has slept since."""
        known = self._known.get(pid)
        if known is not None and known.start_ticks == stat.start_ticks:
            return known.started_ns
        return procfs.started_ns(stat.start_ticks, self._slept())

    def _stat(self, pid: int) -> procfs.Stat:
        return procfs.stat_at(f"{self._root}/{pid}/stat")

    def _hides(self, error: OSError) -> bool:
        """Whether procfs has hidden the process: hidepid=1 refuses, hidepid=2 acts as if there were none.

        Process 1 is always there, and it is root's: where even that is missing, others may be hidden too.
        """
        if isinstance(error, PermissionError):
            return True
        return isinstance(error, FileNotFoundError) and not (self._root / "1").exists()

    def _has_children_files(self, pid: int) -> bool:
        return (self._root / f"{pid}/task/{pid}/children").exists()

    def _children_of(self, pid: int) -> Iterable[int]:
        try:
            with procfs.entered(self._root, pid) as folder:
                return procfs.children(folder)
        except OSError:
            return ()  # it has ended meanwhile

    def _family(self) -> Callable[[int], Iterable[int]]:
        """Children by parent, of every process that can be seen."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir(self._root):
            if entry.isdecimal():
                with contextlib.suppress(OSError):
                    children.setdefault(self._stat(int(entry)).ppid, []).append(int(entry))
        return lambda pid: children.get(pid, ())

    def _tidy(self, now_ns: int) -> None:
        if now_ns - self._tidied_ns < FORGOTTEN_AFTER_NS:
            return
        self._tidied_ns = now_ns
        asked = now_ns - FORGOTTEN_AFTER_NS
        self._known = {pid: known for pid, known in self._known.items() if known.asked_at_ns > asked}
        self._hidden_ns = {pid: at_ns for pid, at_ns in self._hidden_ns.items() if at_ns > asked}


def _exists(pid: int) -> bool:
    """Whether anybody has this pid in our namespace. Signal 0 is never delivered (kill(2))."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
