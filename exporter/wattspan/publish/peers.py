"""Processes behind the local socket: which one connected, and which are its children.

The kernel notes a peer's pid when it connects. Pids are used again, so a pid is believed only together with
the start time that it had when its connection was accepted.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wattspan.publish.pages import LocalPeer
from wattspan.workloads import procfs

MAX_CHILDREN: Final = 1024
"""Descendants that are looked at for one claim: a caller must not be able to keep us reading /proc."""

_UCRED: Final = struct.Struct("3i")
"""``struct ucred`` of unix(7): pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process as /proc has it.

    Attributes:
        pid: in the namespace of this /proc.
        started_ticks: start time in clock ticks since boot.
    """

    pid: int
    started_ticks: int

    @property
    def started_ns(self) -> int:
        """The start on CLOCK_MONOTONIC, as `wattspan.workloads.processes` has it."""
        return procfs.started_ns(self.started_ticks, procfs.slept_ns())


class PeerProcesses:
    """Looks at processes that connect. Reads /proc, which waits for no disk; any thread may call.

    Args:
        root: a /proc of this daemon's own pid namespace.
    """

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = root

    def accepted(self, client: socket.socket) -> LocalPeer:
        """Who is at the other end of a connection to the local socket; ask as soon as it is accepted."""
        pid, uid, _ = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return LocalPeer(pid, uid, self._started_ticks(pid) if pid else None)

    def still(self, peer: LocalPeer) -> SeenProcess | None:
        """The process of a peer; None when it has ended since, whoever has its pid now.

        A connection outlives its process when a child has inherited it; the child has to make its own.
        """
        ticks = self._started_ticks(peer.pid) if peer.pid else None
        if ticks is None or ticks != peer.started_ticks:
            return None
        return SeenProcess(peer.pid, ticks)

    def claimed(self, caller: int, pid: int) -> SeenProcess | None:
        """The process that a caller means by a pid: itself or a descendant; None when it is neither.

        A process in a container counts pids in its own namespace, so numbers are compared as it sees them.
        """
        depth = len(self._namespaced_pids(caller))
        for candidate in self._with_descendants(caller):
            seen = self._namespaced_pids(candidate)
            if len(seen) >= depth > 0 and seen[depth - 1] == pid:
                ticks = self._started_ticks(candidate)
                return None if ticks is None else SeenProcess(candidate, ticks)
        return None

    def _with_descendants(self, pid: int) -> Iterator[int]:
        found = [pid]
        for parent in found:
            yield parent
            if len(found) <= MAX_CHILDREN:
                found += self._children(parent)

    def _children(self, pid: int) -> list[int]:
        try:
            with procfs.entered(self._root, pid) as folder:
                return procfs.children(folder)
        except OSError:
            return []  # it ended meanwhile

    def _namespaced_pids(self, pid: int) -> list[int]:
        """Its pids from this namespace inwards (NSpid, proc(5)); empty when it has ended."""
        try:
            with procfs.entered(self._root, pid) as folder:
                lines = procfs.read(folder, "status").splitlines()
        except OSError:
            return []
        for line in lines:
            if line.startswith(b"NSpid:"):
                return [int(word) for word in line.split()[1:]]
        return [pid]  # a kernel without pid namespaces

    def _started_ticks(self, pid: int) -> int | None:
        try:
            with procfs.entered(self._root, pid) as folder:
                stat = procfs.stat(folder)
        except OSError:
            return None
        return None if stat.ended else stat.start_ticks
