"""Who holds which device, from a real gRPC answer over a real socket."""

import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import kubelet as fake
from tests.fakes.machine import unprivileged
from wattspan.errors import REASONS, ReadError
from wattspan.model import Gpu, GpuReading, MigInstance
from wattspan.runs import PodRef
from wattspan.workloads import device_ids, kubelet, podresources
from wattspan.workloads.device_ids import DeviceId, Found
from wattspan.workloads.kubelet import Allocation, DraDevice, Kubelet
from wattspan.workloads.protobuf import WireError

GPU = "GPU-29d5fa0d-935b-2966-aff8-483a174d61d1"
MIG = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
MAIN = PodRef("nlp", "sft-0", "main")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[fake.PodResources]:
    with fake.pod_resources(tmp_path) as resources:
        yield resources


@pytest.fixture
def client(served: fake.PodResources) -> Iterator[Kubelet]:
    connection = Kubelet(served.folder, timeout_s=5.0)
    yield connection
    connection.close()


def failure(client: Kubelet) -> ReadError:
    with pytest.raises(ReadError) as caught:
        client.allocations()
    assert caught.value.reason in REASONS
    return caught.value


def test_whole_gpus_are_told_by_pod_container_and_uuid(served: fake.PodResources, client: Kubelet) -> None:
    """Each device of each container is one allocation; CPUs, memory and topology beside it change nothing."""
    served.answer = fake.response(
        fake.holding("sft-0", "nvidia.com/gpu", GPU, "GPU-2"),
        fake.holding("web-0", "vendor.example/nic", "eth1"),
    )
    assert client.allocations() == (
        Allocation(MAIN, "nvidia.com/gpu", GPU, "gpu"),
        Allocation(MAIN, "nvidia.com/gpu", "GPU-2", "gpu"),
    )


def test_an_empty_node_has_no_allocations(client: Kubelet) -> None:
    """No pods is an answer, not a failure."""
    assert client.allocations() == ()


@pytest.mark.parametrize(
    ("resource", "device_id", "expected"),
    [
        ("nvidia.com/gpu", GPU, DeviceId(GPU, "gpu")),
        ("nvidia.com/gpu.shared", f"{GPU}::3", DeviceId(GPU, "gpu", 3)),
        ("nvidia.com/gpu", f"{GPU}::0", DeviceId(GPU, "gpu", 0)),
        ("nvidia.com/mig-1g.10gb", MIG, DeviceId(MIG, "mig")),
        ("nvidia.com/mig-1g.10gb.shared", f"{MIG}::1", DeviceId(MIG, "mig", 1)),
        ("nvidia.com/a100-in-house-name", GPU, DeviceId(GPU, "gpu")),
        ("nvidia.com/gpu", "nvidia3", DeviceId("nvidia3", "gpu")),
        ("nvidia.com/gpu", "nvidia0/gi7", DeviceId("nvidia0/gi7", "mig")),
        ("nvidia.com/gpu", "nvidia0/vgpu2", DeviceId("nvidia0", "gpu", 2)),
        ("nvidia.com/gpu", "nvidia0/gi7/vgpu2", DeviceId("nvidia0/gi7", "mig", 2)),
        ("amd.com/gpu", "0000:c1:00.0", DeviceId("0000:c1:00.0", "gpu")),
        ("gpu.intel.com/i915", "card1-0", DeviceId("card1", "gpu", 0)),
        ("gpu.intel.com/xe", "card0-2", DeviceId("card0", "gpu", 2)),
        ("nvidia.com/hostdev", "0000:3b:00.1", None),
        ("gpu.intel.com/i915_monitoring", "all", None),
        ("gpu.intel.com/millicores", "card1-0-17", None),
        ("cpu", "3", None),
    ],
)
def test_device_ids_of_every_plugin(resource: str, device_id: str, expected: DeviceId | None) -> None:
    """An id is parted into device and replica; what is no GPU to compute on is left out."""
    assert device_ids.parse(resource, device_id) == expected


def test_a_device_is_found_by_uuid_and_by_place() -> None:
    """UUIDs name a GPU or an instance; GKE's names go by index and GPU instance; the rest is not found."""
    instance = MigInstance(MIG, gpu_instance=7, compute_instance=0, slices=1)
    readings = [
        GpuReading(Gpu("GPU-0", 0, "H100", "nvidia"), 1, mig_instances=(instance,)),
        GpuReading(Gpu(GPU, 1, "H100", "nvidia"), 1),
        GpuReading(Gpu("amd-1", 2, "MI300X", "amd"), 1),
    ]

    def find(device: str) -> Found | None:
        return device_ids.find(device, readings)

    assert find(GPU) == find("nvidia1") == Found(GPU)
    assert find(MIG) == find("nvidia0/gi7") == Found("GPU-0", instance)
    assert find("nvidia0/gi8") is find("nvidia2") is find("nvidia9") is find("GPU-gone") is None


def test_claims_of_gpus_are_kept_as_facts(served: fake.PodResources, client: Kubelet) -> None:
    """A DRA device is told by driver, pool, device and claim; other drivers' devices are left out."""

    def claimed(driver: str, device: str) -> dict[str, object]:
        cdi = [{"name": f"k8s.{driver}/claim={device}"}]
        return {"driver_name": driver, "pool_name": "gpu-17", "device_name": device, "cdi_devices": cdi}

    devices = [claimed("gpu.nvidia.com", "gpu-0"), claimed("dra.net", "eth0")]
    claim = {
        "class_name": "old",
        "claim_name": "one-gpu",
        "claim_namespace": "nlp",
        "claim_resources": devices,
    }
    container = {"name": "main", "dynamic_resources": [claim]}
    served.answer = fake.response({"name": "sft-0", "namespace": "nlp", "containers": [container]})
    cdi = ("k8s.gpu.nvidia.com/claim=gpu-0",)
    dra = DraDevice("gpu.nvidia.com", "gpu-17", "gpu-0", "nlp", "one-gpu", cdi_devices=cdi)
    assert client.allocations() == (Allocation(MAIN, "gpu.nvidia.com", "", "dra", dra=dra),)


def test_one_connection_serves_many_looks_and_a_new_kubelet_gets_a_new_one(
    served: fake.PodResources, client: Kubelet
) -> None:
    """After a restart of the kubelet the next look answers, whether or not one failed in between."""
    served.answer = fake.response(fake.holding("sft-0", "nvidia.com/gpu", GPU))
    before = client.allocations()
    served.stop()
    served.start()
    assert client.allocations() == before
    served.stop()
    assert failure(client).reason == "io"
    served.start()
    assert client.allocations() == before
    assert served.calls == 3


def test_the_kubelet_behind_the_path_is_asked_and_not_its_predecessor(served: fake.PodResources) -> None:
    """One that hangs on while the next has taken the path is not waited for."""
    client = Kubelet(served.folder, timeout_s=5.0)
    assert client.allocations() == ()
    served.answer = fake.response(fake.holding("old-0", "nvidia.com/gpu", GPU))
    with fake.pod_resources(served.folder) as successor:
        successor.answer = fake.response(fake.holding("sft-0", "nvidia.com/gpu", GPU))
        assert [allocation.pod for allocation in client.allocations()] == [MAIN]
    client.close()


def test_fields_of_a_later_kubelet_are_stepped_over() -> None:
    """Unknown fields of every wire type change nothing."""
    known = fake.response(fake.holding("sft-0", "nvidia.com/gpu", GPU))
    later = b"\x78\x96\x01" + b"\x79" + b"\xff" * 8 + b"\x7d" + b"\xff" * 4 + b"\x7a\x02hi"
    assert podresources.pods(later + known + later) == podresources.pods(known)


def test_a_missing_socket_is_said_with_a_hint(tmp_path: Path) -> None:
    """No kubelet, or a folder that is not mounted."""
    error = failure(Kubelet(tmp_path))
    assert (error.reason, "is the folder mounted?" in error.detail) == ("io", True)


def test_a_kubelet_that_does_not_answer_costs_the_time_out(served: fake.PodResources) -> None:
    """A call ends after its time-out, with that reason, and the next one is not held up by it."""
    served.delay_s = 0.4
    client = Kubelet(served.folder, timeout_s=0.1)
    assert failure(client).reason == "timeout"
    served.delay_s = 0.0
    patient = Kubelet(served.folder, timeout_s=5.0)
    assert patient.allocations() == ()
    client.close()
    patient.close()


def test_a_socket_whose_owner_is_silent_times_out(tmp_path: Path) -> None:
    """A peer that takes the connection and says nothing is no reason to wait for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "kubelet.sock"))
        listener.listen()
        client = Kubelet(tmp_path, timeout_s=0.2)
        assert failure(client).reason in ("timeout", "io")
        client.close()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_grpc_has_a_reason(
    served: fake.PodResources, client: Kubelet, code: grpc.StatusCode
) -> None:
    """The table is complete, and the text names code and message."""
    assert code.name in kubelet.REASONS
    served.error = code
    error = failure(client)
    assert error.reason == kubelet.REASONS[code.name]
    assert f"{code.name}: so it was told" in error.detail


@pytest.mark.parametrize(
    "answer",
    [
        b"\x0a\x7f",  # a length beyond the end
        b"\x0a",  # a tag without a length
        b"\xff" * 11,  # a number without an end
        b"\x0b",  # the wire type of groups
        b"\x0a\x04\x0a\x02\xff\xfe",  # a name that is not UTF-8
    ],
)
def test_nonsense_is_malformed(served: fake.PodResources, client: Kubelet, answer: bytes) -> None:
    """An answer that is no such message is a failure by that name, and the next one counts again."""
    served.answer = answer
    assert failure(client).reason == "malformed"
    served.answer = fake.response()
    assert client.allocations() == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(answer: bytes) -> None:
    """The reader raises nothing but its own error."""
    try:
        podresources.pods(answer)
    except WireError:
        return


@given(st.binary(max_size=60), st.integers(min_value=0, max_value=400))
def test_a_damaged_answer_is_read_or_refused(noise: bytes, at: int) -> None:
    """Nor does it for an answer that is right up to a point."""
    whole = fake.response(fake.holding("sft-0", "nvidia.com/gpu", GPU, f"{MIG}::1"))
    try:
        podresources.pods(whole[:at] + noise)
    except WireError:
        return


def test_a_large_node_fits(served: fake.PodResources, client: Kubelet) -> None:
    """An answer above gRPC's own limit of 4 MiB is taken."""
    served.answer = fake.response(
        *(fake.holding(f"sft-{n}", "nvidia.com/gpu", "GPU-" + "x" * 5000) for n in range(900))
    )
    assert len(served.answer) > 4 * 1024 * 1024
    assert len(client.allocations()) == 900


def test_a_socket_that_may_not_be_used_is_a_matter_of_permission() -> None:
    """The kubelet's socket is root's, and so is its folder on some systems; who is not is told so."""
    with TemporaryDirectory(dir="/tmp") as name, fake.pod_resources(Path(name)):
        (Path(name) / "kubelet.sock").chmod(0)
        Path(name).chmod(0o755)
        with unprivileged():
            client = Kubelet(Path(name), timeout_s=5.0)
            error = failure(client)
            client.close()
        assert (error.reason, "uid 0" in error.detail) == ("permission", True)
        Path(name).chmod(0o600)
        with unprivileged():
            assert failure(client).reason == "permission"
        Path(name).chmod(0o700)
