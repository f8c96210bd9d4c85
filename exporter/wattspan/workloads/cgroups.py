"""What a process's control group says about who it works for: container, pod, Slurm job.

Pure reading of ``/proc/PID/cgroup`` (cgroups(7)): one line per hierarchy, ``id:controllers:path``.
Version 2 is the line with id 0 and no controllers; version 1 has one line per mounted hierarchy;
a hybrid machine has both, and only the version 1 lines may name the container.

Names are believed from the root outwards: the first pod in a path, and the first container below it.
Whoever may write to its own control group can make folders of any name below it, but none above it.
For the same reason nothing below ``user.slice``, which systemd hands to its user, names a pod or a job.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Whom a process works for, as far as its control group tells. Empty strings where it does not.

    Attributes:
        container_id: 64 hex digits, without the runtime's prefix.
        pod_uid: with dashes; 32 hex digits without dashes for a static pod, whose uid in the API
            is another one: this one is its annotation ``kubernetes.io/config.hash``.
        slurm_job: the job's number as slurmd knows it; for an element of an array not its ``12345_7``.
        slurm_step: ``0``, ``batch``, ``extern``, ``interactive``, ...
        slurm_uid: numeric; only version 1 tells.
        path: of that container, pod or job in the hierarchy that counts CPU time.
            Starts with ``/../`` when it lies outside the reader's own cgroup namespace.
    """

    container_id: str = ""
    pod_uid: str = ""
    slurm_job: str = ""
    slurm_step: str = ""
    slurm_uid: str = ""
    path: str = ""


NO_CGROUP: Final = Cgroup()
"""Of a process that works for nobody whom a control group could name."""

_UUID: Final = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"
_POD: Final = re.compile(rf"(?:.*[-_])?pod({_UUID}|[0-9a-f]{{32}})(?:\.slice)*(?::.*)?")
"""The pod's segment: ``pod<uid>`` by the kubelet's cgroupfs driver;
``kubepods-burstable-pod<uid>.slice``, with underscores in the uid, by its systemd driver;
``...pod<uid>.slice:cri-containerd:<id>`` where containerd was left at the cgroupfs driver meanwhile."""

_CONTAINER: Final = re.compile(r"(?!.*conmon-)(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?")
"""The container's segment: bare by cgroupfs drivers, else with the runtime's prefix and mostly ``.scope``:
``cri-containerd-``, ``crio-``, ``docker-``, ``libpod-``, ``libpod-payload-``, ``nerdctl-``.
conmon is the monitor beside a container, not in it."""

_SLURM_ROOT: Final = re.compile(r"(?:.*_)?slurmstepd\.scope|slurm(?:_.*)?|uid_([0-9]+)")
"""What stands above a job: version 2 ``slurmstepd.scope`` or ``<node>_slurmstepd.scope``; version 1 ``slurm``
or ``slurm_<node>`` and below it ``uid_<uid>`` (cgroup.conf(5); src/plugins/cgroup of Slurm 23.11)."""

_JOB: Final = re.compile(r"job_([0-9]+)")
_STEP: Final = re.compile(r"step_(.+)")


def parse(text: str) -> Cgroup:
    """What ``/proc/PID/cgroup`` says. Never raises: a line that makes no sense says nothing.

    The hierarchies need not agree: Slurm's version 1 plugin makes a job's group in some of them only.
    The one that says most is believed, among equals the one that counts CPU time;
    where that one is another, `path` is empty.
    """
    counting, other = _paths(text)
    found = [*map(_read, counting), *(replace(_read(path), path="") for path in other)]
    return max(found, key=_told, default=NO_CGROUP)


def _told(cgroup: Cgroup) -> int:
    return sum(map(bool, (cgroup.container_id, cgroup.pod_uid, cgroup.slurm_job)))


def _paths(text: str) -> tuple[list[str], list[str]]:
    """Paths in the hierarchies that count CPU time (cpuacct before version 2), and in all others."""
    cpuacct, unified, other = [], [], []
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # The kernel says so of a group that was removed under a process that is about to end.
        path = path.removesuffix(" (deleted)")
        if "cpuacct" in controllers.split(","):
            cpuacct.append(path)
        elif number == "0" and not controllers:
            unified.append(path)
        else:
            other.append(path)
    return cpuacct + unified, other


def _read(path: str) -> Cgroup:
    segments = path.split("/")
    believed = "user.slice" not in segments
    pod_at, pod_uid = _pod(segments) if believed else (-1, "")
    job_at, job, step, uid = _slurm(segments) if believed else (-1, "", "", "")
    container_at, container_id = _container(segments, max(pod_at, 0))
    depth = 1 + max(pod_at, job_at, container_at)
    return Cgroup(container_id, pod_uid, job, step, uid, "/".join(segments[:depth]))


def _pod(segments: Sequence[str]) -> tuple[int, str]:
    for index, segment in enumerate(segments):
        if match := _POD.fullmatch(segment):
            return index, match[1].replace("_", "-")
    return -1, ""


def _container(segments: Sequence[str], start: int) -> tuple[int, str]:
    """The first container from the pod's own segment on.

    A folder with a bare id is a Podman pod, not a container, when a ``libpod-`` container lies in it.
    """
    for index, segment in enumerate(segments[start:], start):
        match = _CONTAINER.fullmatch(segment)
        if match and not "".join(segments[index + 1 : index + 2]).startswith("libpod-"):
            return index, match[1]
    return -1, ""


def _slurm(segments: Sequence[str]) -> tuple[int, str, str, str]:
    """Where the job's segment is, its number, its step and its user."""
    for index, (above, segment) in enumerate(pairwise(segments), 1):
        root, job = _SLURM_ROOT.fullmatch(above), _JOB.fullmatch(segment)
        if root and job:
            step = _STEP.fullmatch("".join(segments[index + 1 : index + 2]))
            return index, job[1], step[1] if step else "", root[1] or ""
    return -1, "", "", ""
