"""A procfs in a temporary folder: processes that begin, execute, fork and end as the kernel shows it."""

import shutil
from pathlib import Path

TICKS_PER_S = 100


class FakeProcfs:
    """Processes under ``root``; process 1 is always there.

    Args:
        root: the folder; made.
        children_files: as of a kernel with CONFIG_PROC_CHILDREN.
    """

    def __init__(self, root: Path, children_files: bool = True) -> None:
        self.root = root
        self._children_files = children_files
        self._parents: dict[int, int] = {}
        root.mkdir(parents=True)
        self.process(1, comm="systemd", ppid=0, start_ticks=0)

    def process(
        self,
        pid: int,
        *,
        comm: str = "python",
        ppid: int = 1,
        start_ticks: int = 10_000,
        cpu_ticks: tuple[int, int] = (0, 0),
        children_cpu_ticks: tuple[int, int] = (0, 0),
        state: str = "S",
        uid: int = 1000,
        cgroup: str = "0::/user.slice/user-1000.slice/session-1.scope\n",
        environ: bytes = b"",
    ) -> Path:
        """A process, or what it has become; a pid that was another's is taken over whole."""
        folder = self.root / str(pid)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        times = (*cpu_ticks, *children_cpu_ticks)
        # Fields 3 to 22 of proc_pid_stat(5), and some after them.
        fields = [
            state,
            ppid,
            pid,
            pid,
            0,
            -1,
            4194304,
            9,
            0,
            0,
            0,
            *times,
            20,
            0,
            1,
            0,
            start_ticks,
            4096,
            7,
        ]
        (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(map(str, fields))}\n")
        (folder / "status").write_text(
            f"Name:\t{comm}\nPid:\t{pid}\nUid:\t{uid}\t0\t0\t0\nGid:\t0\t0\t0\t0\n"
        )
        (folder / "cgroup").write_text(cgroup)
        (folder / "environ").write_bytes(environ)
        self._parents[pid] = ppid
        self._tell_children()
        return folder

    def end(self, pid: int) -> None:
        """The process is gone and so is its folder; its children become those of process 1."""
        shutil.rmtree(self.root / str(pid))
        del self._parents[pid]
        self._parents = {child: 1 if ppid == pid else ppid for child, ppid in self._parents.items()}
        self._tell_children()

    def _tell_children(self) -> None:
        if not self._children_files:
            return
        for pid in self._parents:
            thread = self.root / f"{pid}/task/{pid}"
            thread.mkdir(parents=True, exist_ok=True)
            children = (str(child) for child, ppid in self._parents.items() if ppid == pid)
            (thread / "children").write_text(" ".join(children))
