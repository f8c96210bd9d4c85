"""What the pods of a node are, from real HTTPS answers on loopback."""

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes import kubelet as fake
from tests.fakes.kubelet import pod, pod_list
from wattspan.errors import NotHereError, ReadError, SetupError
from wattspan.units import NS_PER_S
from wattspan.workloads import endpoint, pods
from wattspan.workloads.pods import ContainerFacts, Owner, PodFacts
from wattspan.workloads.slices import SliceList

STARTED_NS = int(datetime(2026, 11, 20, 10, 0, 5, tzinfo=UTC).timestamp()) * NS_PER_S


@pytest.fixture
def served(tmp_path: Path) -> Iterator[fake.Https]:
    with fake.https(tmp_path) as listener:
        yield listener


def ask(served: fake.Https, **arguments: object) -> tuple[PodFacts, ...]:
    return pods.of_kubelet(served.server(**arguments)).pods()


def failure(served: fake.Https, **arguments: object) -> ReadError:
    with pytest.raises(ReadError) as caught:
        ask(served, **arguments)
    return caught.value


def facts(item: dict[str, object]) -> PodFacts:
    [only] = pods.read(json.dumps(pod_list(item)).encode())
    return only


def test_a_pod_is_told_whole(served: fake.Https) -> None:
    """Identity, place, owners, containers and times come as the kubelet has them."""
    owner = ("batch/v1", "Job", "sft", "1a2b3c4d-0000")
    served.documents["/pods"] = pod_list(
        pod("sft-0", labels={"a": "b"}, annotations={"c": "d"}, owner=owner, container_id="f" * 64)
    )
    assert ask(served) == (
        PodFacts(
            uid="uid-of-sft-0",
            namespace="nlp",
            name="sft-0",
            phase="Running",
            ips=("10.0.0.7", "fd00::7"),
            labels={"a": "b"},
            annotations={"c": "d"},
            owners=(Owner("batch/v1", "Job", "sft", "1a2b3c4d-0000", controller=True),),
            containers=(ContainerFacts("f" * 64, "main", STARTED_NS),),
            started_wall_ns=STARTED_NS - 5 * NS_PER_S,
        ),
    )


def test_a_pod_that_has_only_been_bound_is_pending() -> None:
    """Before the first status there is no address, no container, no start."""
    bare = pod("sft-0")
    bare["status"] = {"phase": "Pending"}
    assert facts(bare) == PodFacts("uid-of-sft-0", "nlp", "sft-0", "Pending")
    bare["status"] = {"phase": "Dreaming"}
    assert facts(bare).phase == "Unknown"


def test_exit_codes_are_kept_by_container_through_a_restart() -> None:
    """The container that died is told with its code beside the one that took its place."""
    died = {"terminated": {"containerID": "cri-o://aa", "exitCode": 137, "reason": "OOMKilled"}}
    status = [
        {
            "name": "main",
            "containerID": "cri-o://bb",
            "state": {"running": {"startedAt": "2026-11-20T10:00:05Z"}},
            "lastState": died,
        }
    ]
    init = [
        {
            "name": "fetch",
            "containerID": "cri-o://cc",
            "state": {"terminated": {"containerID": "cri-o://cc", "exitCode": 0, "reason": "Completed"}},
        }
    ]
    told = facts(pod("sft-0", containerStatuses=status, initContainerStatuses=init)).containers
    assert told == (
        ContainerFacts("bb", "main", STARTED_NS),
        ContainerFacts("aa", "main", exit_code=137, exit_reason="OOMKilled"),
        ContainerFacts("cc", "fetch", exit_code=0, exit_reason="Completed"),
    )


def test_a_container_that_waits_for_its_restart_is_told_once() -> None:
    """While it waits, the status still names the container that died: its code is not lost."""
    died = {"terminated": {"containerID": "containerd://aa", "exitCode": 1, "reason": "Error"}}
    waiting = {
        "name": "main",
        "containerID": "containerd://aa",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": died,
    }
    assert facts(pod("sft-0", containerStatuses=[waiting])).containers == (
        ContainerFacts("aa", "main", exit_code=1, exit_reason="Error"),
    )


def test_only_listed_variables_with_plain_values_are_kept() -> None:
    """Privacy: of a pod's environment nothing else leaves the reader, and references are no values."""
    secret = pod("sft-0", env={"HF_TOKEN": "hf_secret", "RANK": "0", "WATTSPAN_RUN_ID": "mine"})
    secret["spec"]["containers"][0]["env"].append(
        {"name": "WATTSPAN_RUN_ATTEMPT", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    )
    told = facts(secret)
    assert told.environment == {"RANK": "0", "WATTSPAN_RUN_ID": "mine"}
    assert "hf_secret" not in repr(told)


def test_pods_on_the_node_s_network_are_marked() -> None:
    """Their address is the node's, so it proves nothing."""
    shared = pod("sft-0")
    shared["spec"]["hostNetwork"] = True
    assert facts(shared).host_network
    assert not facts(pod("sft-0")).host_network


def test_long_annotations_are_not_kept() -> None:
    """A whole manifest in an annotation would cost memory for every pod, and nobody reads it here."""
    told = facts(pod("sft-0", annotations={"last-applied": "x" * 20_000, "wattspan.io/project": "nlp"}))
    assert told.annotations == {"wattspan.io/project": "nlp"}


def test_evicted_and_leaving_pods_say_so() -> None:
    """How a pod ended is in its phase and reason; that it must end, in its metadata."""
    evicted = pod("sft-0", phase="Failed", reason="Evicted")
    evicted["metadata"]["deletionTimestamp"] = "2026-11-20T10:00:00Z"
    told = facts(evicted)
    assert (told.phase, told.reason, told.ended, told.deleting) == ("Failed", "Evicted", True, True)


def test_the_token_is_read_anew_for_each_look(served: fake.Https) -> None:
    """Kubernetes renews tokens every hour; an old one is refused."""
    served.documents["/pods"] = pod_list()
    assert ask(served) == ()
    served.token = "the-next-token"
    assert failure(served).reason == "permission"
    served.token_file.write_text("the-next-token")
    assert ask(served) == ()


def test_no_token_and_no_cluster_mean_not_here(tmp_path: Path) -> None:
    """Where the daemon has no token nothing is asked, and the reason is said."""
    with pytest.raises(NotHereError, match="no token"):
        endpoint.kubelet("127.0.0.1", token_file=tmp_path / "absent")
    with pytest.raises(NotHereError, match="KUBERNETES_SERVICE_HOST"):
        endpoint.api_server({})
    with pytest.raises(NotHereError, match="no token"):
        endpoint.api_server({"KUBERNETES_SERVICE_HOST": "127.0.0.1"}, token_file=tmp_path / "absent")


def test_an_unusable_authority_or_port_is_set_up_wrongly(served: fake.Https) -> None:
    """Wrong settings stop the start and name the file or the variable."""
    served.ca_file.write_text("no certificate")
    with pytest.raises(SetupError, match=r"ca\.crt"):
        served.server()
    with pytest.raises(SetupError, match="KUBERNETES_SERVICE_PORT=https"):
        endpoint.api_server({"KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "https"})


def test_only_a_trusted_certificate_gets_the_token(served: fake.Https, tmp_path: Path) -> None:
    """A stranger on the port is refused before anything is sent; skipping that check is explicit."""
    served.documents["/pods"] = pod_list()
    other = tmp_path / "other"
    other.mkdir()
    with fake.https(other) as stranger:
        assert failure(served, ca_file=stranger.ca_file).reason == "permission"
    assert served.asked == []
    assert ask(served, ca_file=tmp_path / "unread", insecure_skip_verify=True) == ()


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "permission"), (403, "permission"), (404, "unsupported"), (500, "io")]
)
def test_a_refusal_says_what_is_lacking(served: fake.Https, status: int, reason: str) -> None:
    """The text has the server's own words, which name the missing right, on one line, and never the token."""
    served.status = status
    error = failure(served)
    assert error.reason == reason
    assert 'verb=get, resource=nodes, subresource="pods"' in error.detail
    assert "\n" not in error.detail
    assert served.token not in error.detail


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"items": [{}]}', b'{"items": [7]}', b"\xff"]
)
def test_what_is_no_pod_list_is_malformed(served: fake.Https, body: bytes) -> None:
    """Nonsense is a failure by that name, not an empty node."""
    served.documents["/pods"] = body
    assert failure(served).reason == "malformed"


def test_an_answer_cut_short_or_dripping_is_a_failure(served: fake.Https) -> None:
    """Half a list is none, and a peer that sends a byte now and then does not hold the reader for ever."""
    served.documents["/pods"] = pod_list(pod("sft-0"))
    served.cut = True
    assert failure(served).reason == "io"
    served.cut, served.drip_s = False, 0.05
    impatient = served.server()
    impatient = endpoint.Server("127.0.0.1", served.port, served.token_file, impatient.tls, timeout_s=0.3)
    with pytest.raises(ReadError) as caught:
        pods.of_kubelet(impatient).pods()
    assert caught.value.reason == "timeout"


def test_a_closed_port_is_a_failure(served: fake.Https) -> None:
    """A kubelet that is down answers nothing; that is said with the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = failure(served, port=free.getsockname()[1])
    assert (error.reason, "https://127.0.0.1" in error.detail) == ("io", True)


def test_the_api_server_is_asked_for_this_node_only(served: fake.Https) -> None:
    """The list is narrowed on the server and taken from its memory."""
    served.documents["/api/v1/pods"] = pod_list(pod("sft-0"))
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(served.port)}
    server = endpoint.api_server(environ, token_file=served.token_file, ca_file=served.ca_file)
    [told] = pods.of_api_server(server, "gpu-17&x").pods()
    assert told.name == "sft-0"
    assert served.asked == ["/api/v1/pods?fieldSelector=spec.nodeName%3Dgpu-17%26x&resourceVersion=0"]


def test_slices_tell_the_uuids_of_claimed_devices(served: fake.Https) -> None:
    """A device is named by driver, pool and device; one without a uuid is left out."""
    devices = [
        {"name": "gpu-0", "attributes": {"uuid": {"string": "GPU-1"}, "type": {"string": "gpu"}}},
        {"name": "mig-1", "attributes": {"uuid": {"string": "MIG-1"}, "parentUUID": {"string": "GPU-1"}}},
        {"name": "nic-0", "attributes": {}},
        {"name": "odd"},
    ]
    path = "/apis/resource.k8s.io/v1/resourceslices"
    item = {"spec": {"driver": "gpu.nvidia.com", "pool": {"name": "gpu-17"}, "devices": devices}}
    served.documents[path] = {"items": [item, {"spec": {"driver": "x", "pool": {"name": "y"}}}]}
    slices = SliceList(served.server(), "gpu-17")
    assert slices.uuids() == {
        ("gpu.nvidia.com", "gpu-17", "gpu-0"): "GPU-1",
        ("gpu.nvidia.com", "gpu-17", "mig-1"): "MIG-1",
    }
    served.documents[path] = {"items": [{}]}
    with pytest.raises(ReadError, match="no ResourceSliceList"):
        slices.uuids()


def test_old_tls_is_not_spoken(served: fake.Https) -> None:
    """TLS 1.2 is the least, also where certificates are not checked."""
    for server in (served.server(), served.server(insecure_skip_verify=True)):
        assert server.tls.minimum_version >= ssl.TLSVersion.TLSv1_2
