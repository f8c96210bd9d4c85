"""/proc/PID/cgroup as each runtime writes it, and what it says about who the process works for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.workloads.cgroups import NO_CGROUP, Cgroup, parse

CONTAINER = "3f1c0a9be5d24c7788f0a6b1e2d3c4f5061728394a5b6c7d8e9f0a1b2c3d4e5f"
OTHER = "b0c1d2e3f405162738495a6b7c8d9e0fa1b2c3d4e5f60718293a4b5c6d7e8f90"
UID = "6f9b2a1c-3d4e-4f50-8a6b-7c8d9e0f1a2b"
UID_ = UID.replace("-", "_")
SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice"


def v1(path: str, cpu_path: str | None = None) -> str:
    """All controllers at one path, but for cpuacct where it has another."""
    return (
        f"12:pids:{path}\n11:memory:{path}\n10:devices:{path}\n9:cpuset:{path}\n"
        f"4:cpu,cpuacct:{path if cpu_path is None else cpu_path}\n1:name=systemd:{path}\n"
    )


@pytest.mark.parametrize(
    ("scope", "below"),
    [
        (f"cri-containerd-{CONTAINER}.scope", ""),
        (f"crio-{CONTAINER}.scope", "/container"),
        (f"crio-{CONTAINER}", ""),
        (f"docker-{CONTAINER}.scope", ""),
        (f"cri-containerd-{CONTAINER}.scope", f"/docker/{OTHER}"),
        (f"cri-containerd-{CONTAINER}.scope", "/system.slice/cron.service"),
    ],
    ids=["containerd", "CRI-O with crun", "CRI-O", "cri-dockerd", "Docker within", "systemd within"],
)
def test_containers_under_the_systemd_driver(scope: str, below: str) -> None:
    """Each runtime's scope in the pod's slice is the container; what it holds within itself is not."""
    path = f"{SLICE}/{scope}"
    expected = Cgroup(container_id=CONTAINER, pod_uid=UID, path=path)
    assert parse(f"0::{path}{below}\n") == expected
    assert parse(v1(path + below)) == expected


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod{UID}/{CONTAINER}",
        f"/kubepods/besteffort/pod{UID}/{CONTAINER}",
        f"/kubepods/pod{UID}/{CONTAINER}",
        f"/k8s.example/kubepods/burstable/pod{UID}/{CONTAINER}",
        f"/../../pod{UID}/{CONTAINER}",
        f"/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{CONTAINER}.scope",
        f"/../../kubepods-burstable-pod{UID_}.slice/cri-containerd-{CONTAINER}.scope",
        f"/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/crio-{CONTAINER}.scope",
        f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{CONTAINER}",
    ],
)
def test_pods_of_every_class_driver_and_namespace(path: str) -> None:
    """QoS classes, the cgroupfs driver, mismatched drivers, and paths seen from a cgroup namespace."""
    expected = Cgroup(container_id=CONTAINER, pod_uid=UID, path=path)
    assert parse(f"0::{path}\n") == expected
    assert parse(v1(path)) == expected


@pytest.mark.parametrize(
    ("above", "pod"),
    [
        (f"/docker/{OTHER}/kubelet/kubepods/burstable", f"pod{UID}/{CONTAINER}"),
        (
            f"/system.slice/docker-{OTHER}.scope/kubelet.slice/kubelet-kubepods.slice",
            f"kubelet-kubepods-pod{UID_}.slice/cri-containerd-{CONTAINER}.scope",
        ),
        (f"/docker/{OTHER}/kubepods/besteffort", f"pod{UID}/{CONTAINER}"),
        (
            "/../../kubelet-kubepods.slice",
            f"kubelet-kubepods-pod{UID_}.slice/cri-containerd-{CONTAINER}.scope",
        ),
    ],
)
def test_a_node_that_is_a_container_itself(above: str, pod: str) -> None:
    """kind, minikube and k3s in Docker: the pod's container counts, not the node's around it."""
    assert parse(f"0::{above}/{pod}\n") == Cgroup(CONTAINER, UID, path=f"{above}/{pod}")


def test_static_pods_have_a_hash_for_a_uid() -> None:
    """A pod from a file on the node is known by 32 hex digits without dashes."""
    digest = "0f" * 16
    path = f"/kubepods.slice/kubepods-pod{digest}.slice/crio-{CONTAINER}.scope"
    assert parse(f"0::{path}\n") == Cgroup(CONTAINER, digest, path=path)


def test_a_sibling_in_the_same_pod_hides_the_pod() -> None:
    """Seen from another container of its pod only the container's own name remains."""
    path = f"/../cri-containerd-{CONTAINER}.scope"
    assert parse(f"0::{path}\n") == Cgroup(CONTAINER, path=path)


@pytest.mark.parametrize(
    ("path", "container_path"),
    [
        (f"/docker/{CONTAINER}", f"/docker/{CONTAINER}"),
        (f"/system.slice/docker-{CONTAINER}.scope", f"/system.slice/docker-{CONTAINER}.scope"),
        (f"/system.slice/docker-{CONTAINER}.scope/init.scope", f"/system.slice/docker-{CONTAINER}.scope"),
        (f"/machine.slice/libpod-{CONTAINER}.scope/container", f"/machine.slice/libpod-{CONTAINER}.scope"),
        (
            f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{CONTAINER}.scope/container",
            f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{CONTAINER}.scope",
        ),
        (f"/libpod_parent/libpod-{CONTAINER}", f"/libpod_parent/libpod-{CONTAINER}"),
        (f"/libpod_parent/{OTHER}/libpod-{CONTAINER}", f"/libpod_parent/{OTHER}/libpod-{CONTAINER}"),
        (f"/system.slice/train.service/libpod-payload-{CONTAINER}",) * 2,
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{CONTAINER}.scope/container",
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{CONTAINER}.scope",
        ),
        (f"/default/nerdctl-{CONTAINER}.scope", f"/default/nerdctl-{CONTAINER}.scope"),
        (f"/system.slice/docker-{CONTAINER}.scope/docker/{OTHER}", f"/system.slice/docker-{CONTAINER}.scope"),
    ],
)
def test_containers_without_kubernetes(path: str, container_path: str) -> None:
    """Docker and Podman by both drivers, with and without Podman's pods; the outer one of two counts."""
    assert parse(f"0::{path}\n") == Cgroup(CONTAINER, path=container_path)


@pytest.mark.parametrize(
    "path",
    [
        f"/machine.slice/libpod-conmon-{CONTAINER}.scope",
        "/user.slice/user-1000.slice/session-3.scope",
        "/system.slice/slurmd.service",
        "/system.slice/ssh.service",
        f"/machine.slice/machine-libpod_pod_{OTHER}.slice",
        f"/somewhere/{CONTAINER[:40]}",
        f"/somewhere/{CONTAINER.upper()}",
        "/kubepods.slice/kubepods-burstable.slice",
        "/tripod.slice/podium",
        "/jobs/job_12/step_0",
        "/",
        "",
    ],
)
def test_what_is_nobodys_container(path: str) -> None:
    """Monitors, sessions, services, the slices above and look-alikes say nothing."""
    assert parse(f"0::{path}\n") == NO_CGROUP


@pytest.mark.parametrize(
    ("path", "job_path", "step"),
    [
        (
            "/system.slice/slurmstepd.scope/job_4711/step_0/user/task_3",
            "/system.slice/slurmstepd.scope/job_4711",
            "0",
        ),
        (
            "/system.slice/gpu-17_slurmstepd.scope/job_4711/step_batch/user/task_0",
            "/system.slice/gpu-17_slurmstepd.scope/job_4711",
            "batch",
        ),
        (
            "/system.slice/slurmstepd.scope/job_4711/step_extern/slurm",
            "/system.slice/slurmstepd.scope/job_4711",
            "extern",
        ),
        (
            "/../../../slurmstepd.scope/job_4711/step_0/user/task_0",
            "/../../../slurmstepd.scope/job_4711",
            "0",
        ),
        ("/system.slice/slurmstepd.scope/job_4711", "/system.slice/slurmstepd.scope/job_4711", ""),
    ],
)
def test_slurm_on_version_2(path: str, job_path: str, step: str) -> None:
    """slurmstepd's scope, with the node's name where several slurmd share a machine; steps of every kind."""
    assert parse(f"0::{path}\n") == Cgroup(slurm_job="4711", slurm_step=step, path=job_path)


@pytest.mark.parametrize("root", ["/slurm", "/slurm_gpu-17", "/slurm_gpu-17.example.org"])
def test_slurm_on_version_1(root: str) -> None:
    """The user is told too; CPU time belongs to the job only where Slurm's plugin counts it."""
    path = f"{root}/uid_1000/job_4711/step_0/task_0"
    expected = Cgroup(slurm_job="4711", slurm_step="0", slurm_uid="1000")
    assert parse(v1(path)) == Cgroup(
        slurm_job="4711", slurm_step="0", slurm_uid="1000", path=f"{root}/uid_1000/job_4711"
    )
    assert parse(v1(path, cpu_path="/system.slice/slurmd.service")) == expected


def test_a_hybrid_machine_names_containers_in_version_1_only() -> None:
    """There the version 2 line shows the service that started the container."""
    path = f"/kubepods/burstable/pod{UID}/{CONTAINER}"
    assert parse(v1(path) + "0::/system.slice/containerd.service\n") == Cgroup(CONTAINER, UID, path=path)
    scope = f"/system.slice/docker-{CONTAINER}.scope"
    assert parse(f"5:devices:/\n1:name=systemd:{scope}\n0::{scope}\n") == Cgroup(CONTAINER, path=scope)
    text = f"0::{scope}\n4:cpu,cpuacct:/docker/{CONTAINER}\n"
    assert parse(text) == Cgroup(CONTAINER, path=f"/docker/{CONTAINER}")


def test_slurm_in_a_pod_is_both() -> None:
    """slurmd itself may run in a container; then CPU time is the job's, if it is counted for the job."""
    scope = f"{SLICE}/cri-containerd-{CONTAINER}.scope"
    path = f"{scope}/system.slice/slurmstepd.scope/job_7"
    assert parse(f"0::{path}/step_0/user/task_0\n") == Cgroup(CONTAINER, UID, "7", "0", path=path)
    text = v1(f"{scope}/slurm/uid_1000/job_7/step_0", cpu_path=scope)
    assert parse(text) == Cgroup(CONTAINER, UID, "7", "0", "1000", path="")


def test_nobody_can_name_himself_anothers_pod_or_job() -> None:
    """Below his own control group a user may make any folder: no pod, job or second pod counts there."""
    session = "/user.slice/user-1000.slice/user@1000.service"
    assert parse(f"0::{session}/kubepods.slice/kubepods-pod{UID_}.slice\n") == NO_CGROUP
    assert parse(f"0::{session}/slurmstepd.scope/job_4711/step_0\n") == NO_CGROUP
    victim = "11111111-2222-4333-8444-555555555555"
    path = f"{SLICE}/cri-containerd-{CONTAINER}.scope"
    assert parse(f"0::{path}/kubepods/pod{victim}/{OTHER}\n") == Cgroup(CONTAINER, UID, path=path)


def test_a_group_removed_under_its_process() -> None:
    """The kernel marks it as deleted; whose it was can still be read."""
    path = f"{SLICE}/cri-containerd-{CONTAINER}.scope"
    assert parse(f"0::{path} (deleted)\n") == Cgroup(CONTAINER, UID, path=path)


@given(st.text(alphabet=st.sampled_from("0:/.-_abpodjst\n") | st.characters(), max_size=200))
def test_nonsense_says_nothing_and_raises_nothing(text: str) -> None:
    """No text that is no cgroup file makes a container out of nothing."""
    assert parse(text).container_id == ""
