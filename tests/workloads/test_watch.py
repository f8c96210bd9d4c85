"""The thread that keeps the newest view of this node's pods, over real sockets."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.fakes import kubelet as fake
from tests.fakes.kubelet import holding, pod, pod_list, response
from tests.fakes.machine import Clock
from wattspan.units import NS_PER_S
from wattspan.workloads import pods
from wattspan.workloads.kubelet import Kubelet
from wattspan.workloads.slices import SliceList
from wattspan.workloads.watch import (
    AWAY_NS,
    MAX_NEWCOMERS,
    NEWCOMER_NS,
    KubernetesWatch,
    PodView,
)

INTERVAL_S = 5


@dataclass
class Node:
    """A kubelet with both its listeners, and a watch that looks when it is told to."""

    socket: fake.PodResources
    web: fake.Https
    clock: Clock
    watch: KubernetesWatch

    def next(self, seconds: float = INTERVAL_S) -> PodView:
        self.clock.advance(seconds)
        return self.watch.look()

    def runs(self, *listed: dict[str, object]) -> None:
        """What ``/pods`` answers from now on."""
        self.web.documents["/pods"] = pod_list(*listed)

    def holds(self, *held: dict[str, object]) -> None:
        """What PodResources answers from now on."""
        self.socket.answer = response(*held)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with fake.pod_resources(tmp_path) as socket, fake.https(tmp_path) as web:
        clock = Clock()
        watch = KubernetesWatch(
            Kubelet(tmp_path),
            pods.of_kubelet(web.server()),
            INTERVAL_S * NS_PER_S,
            slices=SliceList(web.server(), "gpu-17"),
            clock_ns=clock,
        )
        made = Node(socket, web, clock, watch)
        made.holds()
        made.runs()
        yield made
        watch.stop(5.0)


SFT = holding("sft-0", "nvidia.com/gpu", "GPU-1")


def names(view: PodView) -> list[str]:
    return [allocation.pod.name for allocation in view.allocations]


def reasons(view: PodView) -> list[tuple[str, str]]:
    return [(failure.source, failure.reason) for failure in view.failures]


def test_before_the_first_look_nothing_is_claimed(node: Node) -> None:
    """An empty view says by its times that nobody has answered yet."""
    assert node.watch.latest == PodView()
    assert node.watch.latest.allocations_at_ns is node.watch.latest.pods_at_ns is None


def test_a_look_joins_devices_and_pods(node: Node) -> None:
    """Pods are found by uid, and by the namespace and name that PodResources knows."""
    node.holds(SFT)
    node.runs(pod("sft-0"))
    view = node.next()
    assert names(view) == ["sft-0"]
    assert view is node.watch.latest
    assert view.allocations_at_ns == view.pods_at_ns == view.taken_at_ns == node.clock.now_ns
    assert view.pod_of("nlp", "sft-0") is view.pods["uid-of-sft-0"]
    assert view.pod_of("nlp", "web-0") is None


def test_pods_are_asked_for_when_something_changes_and_seldom_else(node: Node) -> None:
    """A quiet node pays for the long answer every half minute, not at each look."""
    node.holds(SFT)
    node.runs(pod("sft-0"))
    for _ in range(25):
        node.next()
    quiet = len(node.web.asked)
    assert quiet <= 1 + 25 * INTERVAL_S / 30
    node.holds(SFT, holding("sft-1", "nvidia.com/gpu", "GPU-2"))
    node.runs(pod("sft-0"), pod("sft-1"))
    view = node.next()
    assert len(node.web.asked) == quiet + 1
    assert view.pod_of("nlp", "sft-1") is not None
    assert node.socket.calls == 26


def test_a_pod_that_is_starting_is_followed_until_it_runs(node: Node) -> None:
    """A device is allocated before its container has an id and an address."""
    starting = pod("sft-0")
    starting["status"] = {"phase": "Pending"}
    node.holds(SFT)
    node.runs()
    assert node.next().pods == {}
    node.runs(starting)
    assert node.next().pods["uid-of-sft-0"].phase == "Pending"
    node.runs(pod("sft-0"))
    assert node.next().pods["uid-of-sft-0"].ips
    asked = len(node.web.asked)
    node.next()
    assert len(node.web.asked) == asked == 3


def test_a_pod_that_never_starts_does_not_cost_for_ever(node: Node) -> None:
    """After a minute an image that cannot be pulled is no reason to ask at every look."""
    stuck = pod("sft-0")
    stuck["status"] = {"phase": "Pending"}
    node.holds(SFT)
    node.runs(stuck)
    for _ in range(13):
        node.next()
    asked = len(node.web.asked)
    for _ in range(24):
        node.next()
    assert len(node.web.asked) - asked <= 24 * INTERVAL_S / 30


def test_a_pod_that_has_given_back_its_device_is_followed_until_it_has_ended(node: Node) -> None:
    """How it ended is written after the device is free; the next look has it."""
    node.holds(SFT)
    node.runs(pod("sft-0"))
    node.next()
    node.holds()
    assert node.next().pods["uid-of-sft-0"].phase == "Running"
    node.runs(pod("sft-0", phase="Failed"))
    assert node.next().pods["uid-of-sft-0"].phase == "Failed"


def test_ended_pods_hold_nothing(node: Node) -> None:
    """Kubelets before 1.34 still list them; a pod that is not known is taken for alive."""
    node.holds(SFT, holding("sft-1", "nvidia.com/gpu", "GPU-2"), holding("new-0", "nvidia.com/gpu", "GPU-3"))
    node.runs(pod("sft-0", phase="Succeeded"), pod("sft-1"))
    assert names(node.next()) == ["sft-1", "new-0"]


def test_of_two_pods_with_one_name_the_living_one_counts(node: Node) -> None:
    """A StatefulSet makes its next pod with the name of the last."""
    old, new = pod("sft-0", phase="Failed"), pod("sft-0")
    old["metadata"]["uid"] = "old"
    node.holds(SFT)
    for listed in ([old, new], [new, old]):
        node.runs(*listed)
        view = node.next(60)
        assert view.pod_of("nlp", "sft-0") == view.pods["uid-of-sft-0"]
        assert names(view) == ["sft-0"]


def test_a_failure_keeps_the_last_answer_and_its_time(node: Node) -> None:
    """While the kubelet restarts its pods run on; the failure stands beside what was known."""
    node.holds(SFT)
    node.runs(pod("sft-0"))
    known = node.next()
    node.socket.stop()
    view = node.next()
    assert view.allocations == known.allocations
    assert view.allocations_at_ns == known.allocations_at_ns
    assert reasons(view) == [("kubelet", "io")]
    node.socket.start()
    node.holds()
    assert reasons(node.next(1)) == [("kubelet", "io")]
    view = node.next(60)
    assert (view.allocations, view.failures) == ((), ())


def test_one_source_that_fails_does_not_stop_the_other(node: Node) -> None:
    """Without the right to read pods, devices are still told by pod."""
    node.holds(SFT)
    node.web.status = 403
    view = node.next()
    assert names(view) == ["sft-0"]
    assert (view.pods, view.pods_at_ns) == ({}, None)
    assert reasons(view) == [("pods", "permission")]


def test_what_keeps_failing_is_asked_less_and_less(node: Node) -> None:
    """Down to once a minute, also when somebody is waiting."""
    node.web.status = 500
    node.holds(SFT)
    for _ in range(120):
        node.clock.advance(INTERVAL_S)
        node.watch.look(asked=True)
    assert 10 <= len(node.web.asked) <= 16
    node.web.status = 200
    node.runs(pod("sft-0"))
    assert node.next(60).pod_of("nlp", "sft-0") is not None


def test_a_change_is_said_once(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """A warning when a source fails or fails otherwise, a line when it answers again, silence in between."""
    caplog.set_level(logging.INFO)
    node.web.status = 403
    for _ in range(30):
        node.next(60)
    node.web.status = 500
    node.next(60)
    node.web.status = 200
    for _ in range(30):
        node.next(60)
    said = [(record.levelname, record.getMessage().split(":")[:2]) for record in caplog.records]
    assert said == [
        ("WARNING", ["pods", " permission"]),
        ("WARNING", ["pods", " io"]),
        ("INFO", ["pods", " answers again"]),
    ]


def test_without_a_pod_source_only_devices_are_known(tmp_path: Path) -> None:
    """Where the daemon has no token."""
    with fake.pod_resources(tmp_path) as socket:
        socket.answer = response(SFT)
        watch = KubernetesWatch(Kubelet(tmp_path), None, INTERVAL_S * NS_PER_S)
        view = watch.look()
        assert (names(view), view.pods_at_ns, view.failures) == (["sft-0"], None, ())
        watch.stop(1.0)


def claimed(device: str) -> dict[str, object]:
    device_of_claim = {"driver_name": "gpu.nvidia.com", "pool_name": "gpu-17", "device_name": device}
    claim = {"claim_name": "c", "claim_namespace": "nlp", "claim_resources": [device_of_claim]}
    return {
        "name": device,
        "namespace": "nlp",
        "containers": [{"name": "main", "dynamic_resources": [claim]}],
    }


def test_claimed_devices_get_their_uuid_from_the_slices(node: Node) -> None:
    """A device that no slice knows has no uuid; slices are asked for only where there are claims."""
    path = "/apis/resource.k8s.io/v1/resourceslices"

    def published(**uuids: str) -> None:
        devices = [{"name": name, "attributes": {"uuid": {"string": uuid}}} for name, uuid in uuids.items()]
        item = {"spec": {"driver": "gpu.nvidia.com", "pool": {"name": "gpu-17"}, "devices": devices}}
        node.web.documents[path] = {"items": [item]}

    def asked() -> int:
        return sum(url.startswith(path) for url in node.web.asked)

    published(a="GPU-1", b="MIG-2")
    node.holds(SFT)
    node.next()
    assert asked() == 0
    node.holds(claimed("a"), claimed("b"), claimed("c"))
    known = [(allocation.device_id, allocation.kind) for allocation in node.next().allocations]
    assert known == [("GPU-1", "gpu"), ("MIG-2", "mig"), ("", "dra")]
    for _ in range(12):
        node.next()
    assert asked() == 1
    published(a="GPU-1", d="GPU-4")
    node.holds(claimed("d"))
    assert node.next().allocations[0].device_id == "GPU-4"
    assert asked() == 2


def test_slices_that_may_not_be_read_are_a_failure_of_their_own(node: Node) -> None:
    """Without that right DRA devices are named and not resolved; everything else goes on."""
    node.holds(claimed("a"))
    view = node.next()
    assert reasons(view) == [("slices", "unsupported")]
    assert view.allocations[0].kind == "dra"


def test_the_thread_looks_by_itself_and_ends_when_told(node: Node) -> None:
    """Readers have a view without ever asking; a refresh brings the next look forward."""
    before = set(threading.enumerate())
    node.holds(SFT)
    node.watch.start()
    while node.watch.latest.allocations_at_ns is None:
        time.sleep(0.01)
    assert names(node.watch.latest) == ["sft-0"]
    node.clock.advance(1)
    node.watch.refresh()
    while node.socket.calls < 2:
        time.sleep(0.01)
    node.watch.stop(10.0)
    assert "kubernetes" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_who_is_not_known_is_expected_for_a_while(node: Node) -> None:
    """He may be a pod that has just begun; who asks anew after a pause may be another one."""
    pause_s = NEWCOMER_NS / NS_PER_S / 3
    expected = []
    for _ in range(4):
        expected.append(node.watch.expects("10.0.0.7"))
        node.clock.advance(pause_s)
    assert expected == [True, True, True, False]
    assert node.watch.expects("10.0.0.8")
    node.clock.advance(AWAY_NS / NS_PER_S + 1)
    assert node.watch.expects("10.0.0.7")


def test_nobody_is_expected_where_nobody_says_what_the_pods_are(node: Node) -> None:
    """Waiting would be no use."""
    watch = KubernetesWatch(Kubelet(node.socket.folder), None, NS_PER_S, clock_ns=node.clock)
    assert not watch.expects("10.0.0.7")


def test_who_turns_up_fills_no_memory(node: Node) -> None:
    """From however many addresses somebody asks."""
    for number in range(3 * MAX_NEWCOMERS):
        assert node.watch.expects(str(number))
    assert len(node.watch._newcomers) == MAX_NEWCOMERS


def test_an_unforeseen_error_is_a_failure_and_not_the_end(node: Node) -> None:
    """The view must not look alive while its thread is dead."""

    class Broken:
        def pods(self) -> tuple[pods.PodFacts, ...]:
            raise ZeroDivisionError("never thought of")

    watch = KubernetesWatch(Kubelet(node.socket.folder), Broken(), NS_PER_S, clock_ns=node.clock)
    view = watch.look()
    assert reasons(view) == [("pods", "unknown")]
    assert "never thought of" in view.failures[0].detail
    watch.stop(1.0)


def test_a_kubelet_that_is_too_busy_keeps_its_reason(node: Node) -> None:
    """The code that gRPC gives is in the failure's text."""
    node.socket.error = grpc.StatusCode.RESOURCE_EXHAUSTED
    view = node.next()
    assert reasons(view) == [("kubelet", "io")]
    assert "RESOURCE_EXHAUSTED" in view.failures[0].detail
