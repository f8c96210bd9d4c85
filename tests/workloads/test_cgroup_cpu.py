"""CPU time of control groups, in the trees of version 1, version 2 and a hybrid machine."""

from pathlib import Path

import pytest

from wattspan.workloads.cgroup_cpu import MAX_PLACES, CgroupCpu

POD = "kubepods-burstable-pod6f9b2a1c_3d4e_4f50_8a6b_7c8d9e0f1a2b.slice"
SCOPE = f"{POD}/cri-containerd-{'3f' * 32}.scope"
PATH = f"/kubepods.slice/kubepods-burstable.slice/{SCOPE}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "fs/cgroup"


def unified(folder: Path, usage_us: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "cpu.stat"
    file.write_text(f"usage_usec {usage_us}\nuser_usec 1\nsystem_usec 2\ncore_sched.force_idle_usec 0\n")
    return file


def cpuacct(folder: Path, usage_ns: int) -> None:
    folder.mkdir(parents=True)
    (folder / "cpuacct.usage").write_text(f"{usage_ns}\n")


def test_version_2(root: Path, tmp_path: Path) -> None:
    """usage_usec of cpu.stat, in nanoseconds, as it stands at each look."""
    unified(root / PATH[1:], 1_500_000)
    groups = CgroupCpu(tmp_path)
    assert groups.cpu_ns(PATH) == 1_500_000_000
    unified(root / PATH[1:], 1_600_000)
    assert groups.cpu_ns(PATH) == 1_600_000_000


@pytest.mark.parametrize("controller", ["cpuacct", "cpu,cpuacct"])
def test_version_1(root: Path, tmp_path: Path, controller: str) -> None:
    """cpuacct.usage is in nanoseconds; the controller is mounted alone or with its neighbour."""
    cpuacct(root / controller / "docker/abc", 42)
    assert CgroupCpu(tmp_path).cpu_ns("/docker/abc") == 42


def test_a_hybrid_machine(root: Path, tmp_path: Path) -> None:
    """Where version 1 counts, it is asked first; what only version 2 has is found there."""
    cpuacct(root / "cpuacct/docker/abc", 42)
    unified(root / "unified/docker/abc", 7)
    unified(root / "unified/system.slice/x.scope", 7)
    groups = CgroupCpu(tmp_path)
    assert groups.cpu_ns("/docker/abc") == 42
    assert groups.cpu_ns("/system.slice/x.scope") == 7_000


@pytest.mark.parametrize(
    ("relative", "above"),
    [
        (f"/../../{SCOPE}", "kubepods.slice/kubepods-burstable.slice"),
        (f"/../{Path(SCOPE).name}", f"kubepods.slice/kubepods-burstable.slice/{POD}"),
        (f"/../../../kubepods-burstable.slice/{SCOPE}", "kubepods.slice"),
    ],
)
def test_a_path_from_within_a_cgroup_namespace(root: Path, tmp_path: Path, relative: str, above: str) -> None:
    """A daemon in a pod sees the others beside it; in the host's tree they are found by their end."""
    unified(root / PATH[1:], 9)
    unified(root / "kubepods.slice/kubepods-besteffort.slice/x.scope", 1)
    assert (root / above).is_dir()
    assert CgroupCpu(tmp_path).cpu_ns(relative) == 9_000


def test_a_look_alike_in_a_users_own_folder(root: Path, tmp_path: Path) -> None:
    """Users make folders below ``user.slice``; nothing is looked for there."""
    unified(root / "user.slice/user-1000.slice/user@1000.service" / SCOPE, 1)
    assert CgroupCpu(tmp_path).cpu_ns(f"/../../{SCOPE}") is None


def test_a_path_never_leaves_the_tree(root: Path, tmp_path: Path) -> None:
    """Dots lead nowhere but to the group that is named behind them."""
    unified(tmp_path / "outside", 1)
    unified(root / "inside", 2)
    groups = CgroupCpu(tmp_path)
    assert groups.cpu_ns("/../../outside") is None
    assert groups.cpu_ns("/a/../../../outside") is None


def test_what_is_not_to_be_had(root: Path, tmp_path: Path) -> None:
    """No path, no such group, a group that has ended, a file that makes no sense: None, and no error."""
    groups = CgroupCpu(tmp_path)
    assert groups.cpu_ns("") is None
    assert groups.cpu_ns("/nowhere") is None
    assert groups.cpu_ns("/../nowhere") is None
    file = unified(root / "job_7", 5)
    assert groups.cpu_ns("/job_7") == 5_000
    file.write_text("user_usec 1\n")
    assert groups.cpu_ns("/job_7") is None
    file.write_text("usage_usec much\n")
    assert groups.cpu_ns("/job_7") is None
    file.unlink()
    assert groups.cpu_ns("/job_7") is None


def test_many_groups_in_a_row(root: Path, tmp_path: Path) -> None:
    """More groups than places are remembered are told all the same."""
    groups = CgroupCpu(tmp_path)
    for number in range(MAX_PLACES + 10):
        groups.cpu_ns(f"/gone/{number}")
    unified(root / "job_7", 5)
    assert groups.cpu_ns("/job_7") == 5_000
