"""CPU time of a whole container, pod or Slurm job, as its control group counts it.

Better than the sum of its processes: it still has those that have ended.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

NS_PER_US: Final = 1_000

MAX_PLACES: Final = 1_024
"""Control groups whose place is remembered; with more, all are looked for anew."""

_MAX_DEPTH: Final = 5
"""Folders above a group that is looked for: kind puts pods below its node's scope and slices of its own."""


def _version_1(text: str) -> int:
    """cpuacct.usage: nanoseconds (Documentation/admin-guide/cgroup-v1/cpuacct.rst)."""
    return int(text)


def _version_2(text: str) -> int:
    """cpu.stat: ``usage_usec N`` among others, with or without the cpu controller (cgroup-v2.rst)."""
    return (
        next(int(line.split()[1]) for line in text.splitlines() if line.startswith("usage_usec ")) * NS_PER_US
    )


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    root: Path
    file: str
    parse: Callable[[str], int]


@dataclass(frozen=True, slots=True)
class _Place:
    file: Path
    parse: Callable[[str], int]


class CgroupCpu:
    """CPU time by control group.

    Args:
        sysfs: where sysfs is mounted; in a container, the host's.
    """

    def __init__(self, sysfs: Path) -> None:
        root = sysfs / "fs/cgroup"
        self._hierarchies = (
            *(_Hierarchy(root / name, "cpuacct.usage", _version_1) for name in ("cpuacct", "cpu,cpuacct")),
            _Hierarchy(root, "cpu.stat", _version_2),
            _Hierarchy(root / "unified", "cpu.stat", _version_2),
        )
        self._places: dict[str, _Place | None] = {}

    def cpu_ns(self, path: str) -> int | None:
        """CPU time since the group was made; None when it is gone, or not where we can see it.

        Args:
            path: of `Cgroup.path`; the group of a container, pod or job.
        """
        if not path:
            return None
        if path not in self._places:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            self._places[path] = self._find(path)
        place = self._places[path]
        if place is None:
            return None
        try:
            return place.parse(place.file.read_text())
        except (OSError, ValueError, StopIteration):
            return None

    def _find(self, path: str) -> _Place | None:
        segments = [segment for segment in PurePosixPath(path).parts[1:] if segment != ".."]
        depth = _MAX_DEPTH if path.startswith("/..") else 0
        for hierarchy in self._hierarchies:
            for above in _folders(hierarchy.root, depth):
                file = above.joinpath(*segments, hierarchy.file)
                if file.exists():
                    return _Place(file, hierarchy.parse)
        return None


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """The root and the folders below it, nearest first.

    A path that starts with ``/..`` is relative to our own control group, and the kernel does not say where
    that is; but its end is unique, so it is looked for.
    Not below ``user.slice``, where users make folders of any name.
    """
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [child for folder in level for child in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.name != "user.slice" and child.is_dir())
    except OSError:
        return []
