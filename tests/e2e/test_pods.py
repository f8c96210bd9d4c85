"""Pods on fake cards: a kubelet that speaks gRPC and HTTPS, control groups in a fake /proc, a real daemon."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.daemon import Daemon, Scrape
from tests.e2e.metering import FAST, THREE_CARDS, assert_shares
from tests.e2e.training import CONTEXT_MIB, RUNS, Clerk, kept, write
from tests.fakes.kubelet import Https, PodResources, holding, https, pod, pod_list, pod_resources, response
from tests.fakes.nvml import FakeNvml, MigInstance, Process
from tests.fakes.procfs import FakeProcfs
from wattspan.units import UJ_PER_J

SECRETS: Final = "/var/run/secrets/kubernetes.io/serviceaccount"

JOBSET: Final = {
    "jobset.sigs.k8s.io/jobset-name": "sft",
    "jobset.sigs.k8s.io/jobset-uid": "1a2b3c4d-5e6f-4a3c-9d5c-3c6f4f2c7e11",
    "jobset.sigs.k8s.io/restart-attempt": "0",
    "kueue.x-k8s.io/local-queue-name": "team-nlp",
}
JOB: Final = ("batch/v1", "Job", "sft-workers-0", "77777777-6a52-4a3c-9d5c-3c6f4f2c7e11")
REPLICASET: Final = ("apps/v1", "ReplicaSet", "llm-5d9c", "88888888-6a52-4a3c-9d5c-3c6f4f2c7e11")
RUN: Final = "k8s:nlp:JobSet:sft:1a2b3c4d"


def with_service_account(server: Https) -> tuple[str, ...]:
    """A command that runs the rest in a mount namespace where a pod's token and authority are in place."""
    script = (
        f'mount -t tmpfs none "$(readlink -f /var/run)" && mkdir -p {SECRETS} && '
        f'cp {server.token_file} {server.ca_file} {SECRETS}/ && exec "$@"'
    )
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare(1) may not mount a tmpfs here, so a pod's token cannot be put into its place")
    return before


@dataclass
class Node:
    """A node of Kubernetes in the test's hands: pods by name, what each was given, and their processes."""

    fake: FakeNvml
    daemon: Daemon
    clerk: Clerk
    procfs: FakeProcfs
    kubelet: PodResources
    server: Https
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    given: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_cards: dict[int, dict[int, str]] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)

    def pod(self, name: str, resource: str, *devices: str, namespace: str = "nlp", **facts: Any) -> None:
        """A pod that runs, with these devices."""
        number = len(self.uids) + 1
        self.uids[name] = f"{number:08x}-6a52-4a3c-9d5c-3c6f4f2c7e11"
        document = pod(name, namespace=namespace, container_id=f"{number:064x}", **facts)
        document["metadata"]["uid"] = self.uids[name]
        self.pods[name] = document
        self.given[name] = holding(name, resource, *devices, namespace=namespace)

    def process(self, name: str, pid: int, gpu: int | None) -> None:
        """A process of the pod's container, on a card unless it is on an instance of one."""
        container = self.pods[name]["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        group = f"0::/kubepods.slice/kubepods-pod{self.uids[name].replace('-', '_')}.slice"
        self.procfs.process(pid, cgroup=f"{group}/cri-containerd-{container}.scope\n")
        if gpu is not None:
            self.on_cards.setdefault(gpu, {})[pid] = name
            self._show(gpu)

    def over(self, name: str, phase: str = "Succeeded") -> None:
        """The pod and its processes have ended, and its devices are given back."""
        self.pods[name]["status"]["phase"] = phase
        del self.given[name]
        for gpu, names in self.on_cards.items():
            for pid in [pid for pid, of in names.items() if of == name]:
                del names[pid]
                self.procfs.end(pid)
                self._show(gpu)

    def _show(self, gpu: int) -> None:
        pids = self.on_cards[gpu]
        self.fake.set_processes(gpu, [Process(pid, memory_mib=CONTEXT_MIB) for pid in pids])
        self.fake.set_look(gpu, memory_used_mib=CONTEXT_MIB * len(pids))

    def publish(self) -> None:
        """Let the kubelet say so."""
        self.server.documents["/api/v1/pods"] = pod_list(*self.pods.values())
        self.kubelet.answer = response(*self.given.values())


@contextmanager
def labelled(server: Https, labels: Mapping[str, str] | None) -> Iterator[None]:
    """The Node of the API server, before any daemon asks."""
    if labels is not None:
        server.documents["/api/v1/nodes/gpu-17"] = {"metadata": {"labels": labels}}
    yield


@contextmanager
def a_node(folder: Path, *flags: str, labels: Mapping[str, str] | None = None) -> Iterator[Node]:
    """A daemon on a node whose kubelet has nothing yet.

    Args:
        folder: for everything.
        flags: of the daemon.
        labels: of its Node; without any nobody may read it.
    """
    (folder / "kubelet").mkdir()
    (folder / "https").mkdir()
    procfs = FakeProcfs(folder / "proc")
    with (
        https(folder / "https") as server,
        labelled(server, labels),
        pod_resources(folder / "kubelet") as kubelet,
        FakeNvml(THREE_CARDS, folder) as fake,
        Daemon(
            fake,
            folder / "state",
            *(*FAST, "--path.procfs", str(procfs.root), "--node.name", "gpu-17"),
            *("--kubelet.dir", str(folder / "kubelet"), "--kubernetes.pods", "api", *flags),
            python=(*with_service_account(server), sys.executable, "-m", "wattspan"),
            env={"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)},
        ) as daemon,
    ):
        node = Node(fake, daemon, Clerk(daemon), procfs, kubelet, server)
        node.publish()
        daemon.wait_ready().after(2)
        yield node


def pod_uj(scrape: Scrape, name: str, **labels: str) -> int:
    """GPU energy of a pod."""
    series = scrape.series("wattspan_pod_energy_joules_total", pod_name=name, component="gpu", **labels)
    return sum(round(joules * UJ_PER_J) for joules in series.values())


def run_uj(scrape: Scrape, run_id: str, **labels: str) -> int:
    """GPU energy of a run."""
    series = scrape.series("wattspan_run_energy_joules_total", run_id=run_id, component="gpu", **labels)
    return sum(round(joules * UJ_PER_J) for joules in series.values())


@pytest.mark.slow
def test_a_jobset_beside_serving_on_whole_shared_and_partitioned_cards(tmp_path: Path) -> None:
    """The JobSet is a run that begins and ends with its pods; serving is a pod; every joule has its place."""
    with a_node(tmp_path) as node:
        fake, daemon = node.fake, node.daemon
        whole, shared, partitioned = fake.uuids
        instances = [
            MigInstance(3, 0, 3, 40448, "3g.40gb", uuid="MIG-a", processes=(71,)),
            MigInstance(5, 0, 2, 20224, "2g.20gb", uuid="MIG-b"),
        ]
        fake.set_mig(2, instances)
        node.pod("sft-workers-0-0-x7k2p", "nvidia.com/gpu", whole, labels=JOBSET, owner=JOB)
        node.pod("sft-workers-0-1-q9v4m", "nvidia.com/gpu", f"{shared}::0", labels=JOBSET, owner=JOB)
        node.pod("llm-0", "nvidia.com/gpu.shared", f"{shared}::1", namespace="web", owner=REPLICASET)
        node.pod("small-0", "nvidia.com/mig-3g.40gb", "MIG-a", namespace="web", owner=REPLICASET)
        for name, pid, gpu in (
            ("sft-workers-0-0-x7k2p", 42, 0),
            ("sft-workers-0-1-q9v4m", 43, 1),
            ("llm-0", 51, 1),
            ("small-0", 71, None),
        ):
            node.process(name, pid, gpu)
        node.publish()
        daemon.until(lambda s: s.find("wattspan_run_gpus", run_id=RUN) == 2, "the run on two cards")
        pods = ("sft-workers-0-0-x7k2p", "sft-workers-0-1-q9v4m", "llm-0", "small-0")
        # New series stand at 0 until a scrape has seen them, each for itself.
        first = daemon.until(
            lambda s: all(pod_uj(s, name) > 0 for name in pods) and run_uj(s, RUN, attribution="equal") > 0
            and run_uj(s, RUN, attribution="exclusive") > 0,
            "energy of each",
        )  # fmt: skip
        last = daemon.after(10)

        for uuid in fake.uuids:
            assert_shares(last, uuid)
        of_run = {dict(labels)["pod_name"] for labels in last.series("wattspan_run_pod_info", run_id=RUN)}
        assert of_run == {"sft-workers-0-0-x7k2p", "sft-workers-0-1-q9v4m"}
        gained = {name: pod_uj(last, name) - pod_uj(first, name) for name in pods}
        assert run_uj(last, RUN) - run_uj(first, RUN) == (
            gained["sft-workers-0-0-x7k2p"] + gained["sft-workers-0-1-q9v4m"]
        )
        card_uj = round(
            (last.total("wattspan_gpu_energy_joules_total", uuid=whole)
             - first.total("wattspan_gpu_energy_joules_total", uuid=whole)) * UJ_PER_J
        )  # fmt: skip
        assert gained["sft-workers-0-0-x7k2p"] == card_uj
        assert gained["sft-workers-0-1-q9v4m"] + gained["llm-0"] == card_uj
        assert abs(gained["sft-workers-0-1-q9v4m"] - gained["llm-0"]) < 100
        assert pod_uj(last, "small-0", attribution="mig_slices", pod_namespace="web") > 0
        holders = {dict(labels)["uuid"]: n for labels, n in last.series("wattspan_gpu_holders").items()}
        assert holders == {whole: 1, shared: 2, partitioned: 1}
        shares = {
            dict(labels)["share"]: joules
            for labels, joules in last.series(
                "wattspan_gpu_attributed_energy_joules_total", uuid=partitioned
            ).items()
        }
        assert shares["pod"] > 0
        owners = last.series("wattspan_owner_energy_joules_total", component="gpu")
        assert {(dict(o)["pod_namespace"], dict(o)["project"]) for o in owners} == {
            ("nlp", "team-nlp"),
            ("web", ""),
        }

        # A kubelet that restarts gives nothing back, and one pod of two is not the end.
        node.kubelet.stop()
        node.over("sft-workers-0-1-q9v4m")
        node.publish()
        time.sleep(6)
        assert node.clerk.run(RUN)["state"] == "running"
        node.kubelet.start()
        daemon.until(lambda s: s.find("wattspan_run_gpus", run_id=RUN) == 1, "one card left")
        node.over("sft-workers-0-0-x7k2p")
        node.publish()
        final = node.clerk.until_ended(RUN)
        assert (final["result"], final["source"], final["namespace"]) == ("success", "kubernetes", "nlp")
        assert final["project"] == "team-nlp"
        assert len(kept(tmp_path / "state", RUN).pods) == 2
        before = daemon.metrics()
        after = daemon.after(5)
        assert run_uj(after, RUN) == run_uj(before, RUN)
        assert pod_uj(after, "llm-0") > pod_uj(before, "llm-0")


@pytest.mark.slow
def test_a_pod_whose_job_fails_and_is_restarted(tmp_path: Path) -> None:
    """Attempt 0 ends as failure with its pod, attempt 1 begins with the next: one run, two attempts."""
    with a_node(tmp_path) as node:
        node.pod("sft-0", "nvidia.com/gpu", node.fake.uuids[0], labels=JOBSET, owner=JOB)
        node.fake.set_look(0, utilization_percent=90)  # so that nothing is wasted before the failure
        node.process("sft-0", 42, 0)
        node.publish()
        node.daemon.until(lambda s: run_uj(s, RUN) > 0, "attempt 0")
        again = {**JOBSET, "jobset.sigs.k8s.io/restart-attempt": "1"}
        node.over("sft-0", "Failed")
        node.pod("sft-1", "nvidia.com/gpu", node.fake.uuids[0], labels=again, owner=JOB)
        node.process("sft-1", 43, 0)
        node.publish()
        node.daemon.until(lambda s: s.find("wattspan_run_attempt_info", run_id=RUN, attempt="1"), "attempt 1")
        # Attempt 0 is closed once its card has been read again.
        scrape = node.daemon.after(3)
        answer = node.daemon.get(f"{RUNS}/{RUN}?attempt=0")
        assert json.loads(answer.body)["result"] == "failure"
        assert len(scrape.series("wattspan_run_attempt_info", run_id=RUN)) == 1
        attempts = [node.clerk.run(RUN)["attempt"], json.loads(answer.body)["attempt"]]
        assert attempts == [1, 0]
        wasted = "wattspan_owner_wasted_energy_joules_total"
        labels = {"reason": "failed", "project": "team-nlp"}
        scrape = node.daemon.until(lambda s: s.find(wasted, **labels), "what attempt 0 has wasted")
        assert scrape.value(wasted, **labels) == pytest.approx(json.loads(answer.body)["energy_joules"])


@pytest.mark.slow
def test_a_pod_tells_of_its_run_by_its_address(tmp_path: Path) -> None:
    """Over TCP without a token: who alone has the address is the pod, bound to its namespace."""
    with a_node(tmp_path) as node:
        address = {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
        node.pod("dev-0", "nvidia.com/gpu", node.fake.uuids[0], owner=REPLICASET, **address)
        node.pod(
            "other-0", "nvidia.com/gpu", node.fake.uuids[1], labels=JOBSET, owner=JOB, namespace="vision"
        )
        node.process("dev-0", 42, 0)
        node.process("other-0", 43, 1)
        node.publish()
        others = RUN.replace(":nlp:", ":vision:")
        node.daemon.until(lambda s: s.find("wattspan_run_gpus", run_id=others) == 1, "the other run")
        node.daemon.until(lambda s: pod_uj(s, "dev-0") > 0, "the pod")

        def post(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            connection = http.client.HTTPConnection("127.0.0.1", node.daemon.port, timeout=30)
            answer = write(connection, path, body)
            return answer.status, json.loads(answer.body)

        status, begun = post(RUNS, {"run_id": "sft", "name": "llama-sft", "project": "p"})
        assert (status, begun["run_id"]) == (201, "sft")
        node.daemon.until(lambda s: run_uj(s, "sft") > 0, "energy of the run in the pod")
        scrape = node.daemon.after(3)
        assert scrape.value("wattspan_gpu_holders", uuid=node.fake.uuids[0]) == 1
        assert scrape.value("wattspan_run_pod_info", run_id="sft", pod_namespace="nlp", pod_name="dev-0") == 1
        assert post(f"{RUNS}/{others}/end", {"attempt": 0, "result": "success"})[0] == 404
        assert post(RUNS, {"run_id": others})[0] == 404
        status, final = post(f"{RUNS}/sft/end", {"attempt": 0, "result": "success"})
        assert (status, final["namespace"]) == (200, "nlp")
        assert final["energy_joules"] > 0
        before = pod_uj(node.daemon.after(5), "dev-0")
        assert pod_uj(node.daemon.after(5), "dev-0") > before


@pytest.mark.parametrize(
    ("labels", "zone", "said"),
    [
        ({"topology.kubernetes.io/region": "eu-west-3"}, "FR", r"level=info .*region is aws:eu-west-3 in FR"),
        (
            {"topology.kubernetes.io/region": "eu-wset-3"},
            "WORLD",
            r"level=warn\w* .*known: .*eu-wset-3.*near it: .*aws:eu-west-3",
        ),
        (
            None,
            "WORLD",
            r"level=warn\w* .*topology.kubernetes.io/region of node gpu-17 is not known: .*HTTP 404",
        ),
    ],
)
def test_the_node_s_label_is_the_place(
    tmp_path: Path, labels: Mapping[str, str] | None, zone: str, said: str
) -> None:
    """Asked once at start; a region that nobody knows, and a Node that may not be read, cost a warning."""
    with a_node(tmp_path, labels=labels) as node:
        node.daemon.until_said(said)
        seen = node.daemon.after(3)
        assert seen.find("wattspan_grid_intensity_grams_per_kwh", grid_zone=zone) is not None
        assert node.server.asked.count("/api/v1/nodes/gpu-17") == 1
