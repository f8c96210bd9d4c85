"""The wiring of runs: who asks, by a fake /proc and a fake kubelet, and what happens by time alone."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.fakes.kubelet import Https, https, pod, pod_list, pod_resources
from tests.fakes.machine import Clock
from tests.fakes.procfs import FakeProcfs
from tests.ledger.readings import snapshot
from wattspan import run_service
from wattspan.client.courier import ALIVE_S
from wattspan.config import SETTINGS, Config
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.records import KeptRun
from wattspan.journal.run_book import RunBook
from wattspan.journal.store import Journal
from wattspan.publish.commands import (
    BeginRun,
    Begun,
    Caller,
    Command,
    Ended,
    EndRun,
    ProblemReply,
    ProcessRef,
    Reply,
    Reported,
    ReportProgress,
)
from wattspan.publish.pages import ProblemError, Request, TcpPeer
from wattspan.run_keeper import resume_of
from wattspan.run_service import RunService
from wattspan.runs import Run, RunRecord, RunSource, RunTotals
from wattspan.units import NS_PER_S
from wattspan.workloads import pods, procfs, registry, watch
from wattspan.workloads.kubelet import Kubelet
from wattspan.workloads.registry import Claim, LiveRun, Moment
from wattspan.workloads.watch import NEWCOMER_NS, KubernetesWatch, PodView

POD_UID = "0b6d2d4e-6a52-4a3c-9d5c-3c6f4f2c7e11"
IN_POD = f"0::/kubepods/burstable/pod{POD_UID}/{'3f' * 32}\n"
JOB = {"batch.kubernetes.io/job-name": "sft"}
OWNER = ("batch/v1", "Job", "sft", "1a2b3c4d-0000-0000-0000-000000000000")
K8S_RUN = "k8s:nlp:Job:sft:1a2b3c4d"
KEY = "01JD5A9WZX3B2M8R6N4Q7T0V1Y"


class Node:
    """A service on a fake /proc, asked as the local socket and the listener would ask it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.procfs = FakeProcfs(folder / "proc")
        folders = {"state_dir": folder / "state", "kubelet_dir": folder / "none"}
        config = Config(path_procfs=self.procfs.root, **(folders | settings))  # type: ignore[arg-type]
        self.journal = Journal.open(config.state_dir, "boot-1")
        board = Board()
        self.service = RunService(config, self.journal, board, lambda: None, export=False)
        self.service.serve(Books(self.journal, board, "", self.service.keeper))

    def process(self, pid: int, **facts: object) -> Caller:
        """A process that asks on the local socket."""
        self.procfs.process(pid, **facts)  # type: ignore[arg-type]
        uid = facts.get("uid", 1000)
        assert isinstance(uid, int)
        return Caller("process", pid=pid, uid=uid, started_ns=time.monotonic_ns())

    def ask(self, command: Command) -> Reply | ProblemReply:
        """What the client hears, after one round of the writer."""

        async def told() -> Reply | ProblemReply:
            asked = asyncio.create_task(self.service.mailbox.submit(command))
            await asyncio.sleep(0)
            self.service.mail()
            self.service.committed("")
            return await asked

        return asyncio.run(told())

    def begins(self, caller: Caller, **more: object) -> Reply | ProblemReply:
        """A `track()` of a process."""
        assert caller.pid is not None
        claimed = ProcessRef(caller.pid, caller.started_ns or 0)
        return self.ask(BeginRun(caller, process=claimed, **more))  # type: ignore[arg-type]

    def close(self) -> None:
        self.service.stop(5)
        self.journal.close(clean=True)


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Node]:
    node = Node(folder, **settings)
    try:
        yield node
    finally:
        node.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with serving(tmp_path) as made:
        yield made


class Cluster:
    """A node whose kubelet says what the pods are, and a watch that looks at once when it is asked to."""

    def __init__(self, node: Node, watched: KubernetesWatch, server: Https, clock: Clock) -> None:
        self.node = node
        self.server = server
        self.clock = clock
        self._watch = watched
        self._view = PodView()
        self.looks()

    def runs(self, *listed: dict[str, object]) -> None:
        """What ``/pods`` answers from now on."""
        self.server.documents["/pods"] = pod_list(*listed)

    def looks(self) -> None:
        """Wait until the watch has looked once more."""
        deadline = time.monotonic() + 10
        while self._watch.latest.taken_at_ns == self._view.taken_at_ns and time.monotonic() < deadline:
            time.sleep(0.01)
        self._view = self._watch.latest
        self.clock.advance(1)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    (tmp_path / "kubelet").mkdir()
    clock = Clock()
    monkeypatch.setattr(watch, "REFRESH_NS", NS_PER_S // 100)
    with pod_resources(tmp_path / "kubelet"), https(tmp_path) as server:
        server.documents["/pods"] = pod_list()
        watched = KubernetesWatch(
            Kubelet(tmp_path / "kubelet"), pods.of_kubelet(server.server()), 3600 * NS_PER_S, clock_ns=clock
        )
        monkeypatch.setattr(run_service, "_watch_of", lambda _: watched)
        with serving(tmp_path) as node:
            yield Cluster(node, watched, server, clock)


def training_pod(**more: object) -> dict[str, object]:
    facts = {"labels": JOB, "owner": OWNER, "container_id": "3f" * 32} | more
    document = pod("sft-0", **facts)  # type: ignore[arg-type]
    document["metadata"]["uid"] = POD_UID
    return document


def refused(answer: Reply | ProblemReply) -> int:
    assert isinstance(answer, ProblemReply), answer
    return answer.status


def test_a_run_of_a_token_is_lost_after_the_silence_that_is_set(tmp_path: Path) -> None:
    """Nothing of it is seen on this node, and its client has vanished."""
    with serving(tmp_path, api_silence_ns=1200 * NS_PER_S) as node:
        node.ask(BeginRun(Caller("token"), "sft"))
        now_s = time.monotonic()
        for number, (passed_s, busy) in enumerate(((0, True), (1190, True), (1210, False)), start=1):
            node.service.holdings(snapshot(number, at_s=now_s + passed_s))
            assert node.service.busy is busy


def test_no_silence_that_can_be_set_is_shorter_than_our_own_client_s() -> None:
    """A training that has nothing to tell says every five minutes that it is there."""
    silence = SETTINGS["api.silence"]
    assert silence.kind.parse("10m") >= 2 * ALIVE_S * NS_PER_S
    try:
        silence.kind.parse("9m")
    except ValueError:
        return
    raise AssertionError("9m is allowed")


# What an earlier daemon left


def left(folder: Path, *kept: KeptRun) -> None:
    """A journal of another boot with these runs."""
    journal = Journal.open(folder / "state", "boot-0")
    journal.commit((), (), runs=kept)
    journal.close(clean=True)


def record(run_id: str, **more: object) -> RunRecord:
    began = time.time_ns() - 3600 * NS_PER_S
    facts = {"node": "node-a", "cluster": "", "began_wall_ns": began, "totals": RunTotals()} | more
    source = facts.pop("source", "api")
    return RunRecord(Run(run_id, source=source), **facts)  # type: ignore[arg-type]


def test_a_run_that_is_remembered_no_more_is_found_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes next is its next attempt, and its record stays as it was."""
    monkeypatch.setattr(registry, "MAX_REMEMBERED", 1)
    now = time.time_ns()
    ended = [record(run_id, ended_wall_ns=now - s * NS_PER_S) for run_id, s in (("z", 900), ("a", 600))]
    left(tmp_path, *map(KeptRun, ended))
    with serving(tmp_path) as node:
        node.ask(BeginRun(Caller("token"), "new"))
        node.ask(EndRun(Caller("token"), "new", 0, "success"))
        for run_id in ("z", "a"):
            begun = node.ask(BeginRun(Caller("token"), run_id))
            assert isinstance(begun, Begun)
            assert begun.record.run.attempt == 1


@pytest.mark.parametrize("source", ["api", "slurm", "environment"])
def test_after_a_reboot_no_run_goes_on_that_only_processes_held(tmp_path: Path, source: RunSource) -> None:
    """It ended when it was last seen; a job that starts right after the boot is its next attempt."""
    seen = time.time_ns() - 1800 * NS_PER_S
    live = LiveRun(Run("nightly", source=source), Moment(1, seen), processes={10: 1}, uids={1000})
    book = RunBook("node-a", "", "", lambda _: {}, 900 * NS_PER_S)
    book.begin(live)
    left(tmp_path, KeptRun(book.record(live), resume_of(live, book, Moment(2, seen))))
    with serving(tmp_path) as node:
        assert not node.service.busy
        (over,) = node.service._registry.ended.values()
        assert over.ending is not None
        assert (over.ending.at.wall_ns, over.ending.result) == (seen, "lost")
        environ = b"WATTSPAN_RUN_ID=nightly\0"
        begun = node.begins(node.process(10, environ=environ, start_ticks=20))
        assert isinstance(begun, Begun)
        assert (begun.record.run.run_id, begun.record.run.attempt) == ("nightly", 1)


# Whose a caller is


@pytest.mark.parametrize("readable", [True, False])
def test_what_a_process_says_of_its_job_opens_no_others(
    node: Node, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """A job that the prolog's folder names has no user yet: its own process joins it, and no other one."""
    known = node.service._registry
    known.begin(Claim(job_id="slurm:hpc:77", source="slurm"), Moment(1, 1))
    told = {"name": "mine", "markers": {"SLURM_JOB_ID": "77", "SLURM_CLUSTER_NAME": "hpc"}}
    environ = b"SLURM_JOB_ID=77\0SLURM_CLUSTER_NAME=hpc\0"
    group = "0::/system.slice/slurmstepd.scope/job_{}/step_0\n"
    if not readable:
        monkeypatch.setattr(procfs, "environ", lambda _: None)
    of_another = node.process(10, uid=2000, environ=environ, cgroup=group.format(78))
    assert refused(node.begins(of_another, **told)) == 404
    if readable:
        assert refused(node.begins(node.process(11, uid=2000), **told)) == 404
    own = node.process(12, environ=environ, cgroup=group.format(77))
    assert isinstance(node.begins(own, **told), Begun)
    assert known.live["slurm:hpc:77"].uids == {1000}


@pytest.mark.parametrize("where", [IN_POD, f"0::/system.slice/docker-{'3f' * 32}.scope\n"])
def test_root_of_a_container_is_not_root_of_the_machine(node: Node, where: str) -> None:
    """Where nobody says what the pods are it may write to its own runs alone; so may one that has ended."""
    node.begins(node.process(10), run_id="sft")
    inside = node.process(11, uid=0, cgroup=where)
    assert refused(node.ask(EndRun(inside, "sft", 0, "failure"))) == 404
    assert isinstance(node.begins(inside, run_id="mine"), Begun)
    gone = replace(inside, pid=12)
    assert refused(node.ask(EndRun(gone, "sft", 0, "failure"))) == 404
    outside = node.process(13, uid=0, cgroup="0::/user.slice/user-0.slice/session-1.scope\n")
    assert isinstance(node.ask(EndRun(outside, "sft", 0, "failure")), Ended)


def test_a_process_of_a_pod_that_is_not_known_yet_comes_again(cluster: Cluster) -> None:
    """So its run is the pod's from its first second; the watch looks at once."""
    node = cluster.node
    caller = node.process(10, uid=0, cgroup=IN_POD)
    cluster.runs(training_pod())
    assert refused(node.begins(caller, key=KEY, name="sft")) == 503
    cluster.looks()
    begun = node.begins(caller, key=KEY, name="sft")
    assert isinstance(begun, Begun)
    assert (begun.record.run.run_id, begun.record.run.namespace) == (K8S_RUN, "nlp")
    assert isinstance(node.ask(ReportProgress(caller, K8S_RUN, 0, steps=5)), Reported)
    assert isinstance(node.ask(EndRun(caller, K8S_RUN, 0, "success")), Ended)


def test_a_process_of_a_pod_that_stays_unknown_hears_why(cluster: Cluster) -> None:
    """Its list may not be had: after a while that is the answer."""
    node = cluster.node
    cluster.server.status = 403
    caller = node.process(10, cgroup=IN_POD)
    assert refused(node.begins(caller, name="sft")) == 503
    cluster.looks()
    cluster.clock.advance(NEWCOMER_NS / NS_PER_S / 3)
    assert refused(node.begins(caller, name="sft")) == 503
    for _ in range(2):
        cluster.clock.advance(NEWCOMER_NS / NS_PER_S / 3)
        answer = node.begins(caller, name="sft")
    assert refused(answer) == 403
    assert isinstance(answer, ProblemReply)
    assert "permission" in answer.detail


def asks_from(node: Node, address: str) -> Caller:
    """Who a request over TCP comes from."""
    request = Request("POST", "/api/v1/runs", b"/api/v1/runs", b"", {}, TcpPeer(address))
    return node.service.api._identity.caller(request)


def test_an_address_that_is_not_known_yet_comes_again(cluster: Cluster) -> None:
    """A pod's first word may come before the kubelet's; loopback is nobody's."""
    cluster.runs(training_pod(podIP="10.0.0.7"))
    with pytest.raises(ProblemError) as early:
        asks_from(cluster.node, "10.0.0.7")
    assert early.value.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert early.value.headers["retry-after"] == "1"
    cluster.looks()
    assert asks_from(cluster.node, "10.0.0.7").pod_uid == POD_UID
    with pytest.raises(ProblemError) as local:
        asks_from(cluster.node, "127.0.0.1")
    assert local.value.status == HTTPStatus.UNAUTHORIZED


# Which run a caller's is


JOBSET = {
    "jobset.sigs.k8s.io/jobset-name": "sft",
    "jobset.sigs.k8s.io/jobset-uid": "1a2b3c4d-5e6f-4a3c-9d5c-3c6f4f2c7e11",
    "jobset.sigs.k8s.io/restart-attempt": "3",
}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        (b"WATTSPAN_RUN_ID=llama\0", ("llama", 3)),
        (b"WATTSPAN_RUN_ID=llama\0WATTSPAN_RUN_ATTEMPT=5\0", ("llama", 5)),
        (b"WATTSPAN_RUN_ID=other\0", ("other", 0)),
        (b"", ("llama", 3)),
    ],
)
def test_a_run_id_in_a_pods_template_is_the_jobs_own(
    cluster: Cluster, environ: bytes, found: tuple[str, int]
) -> None:
    """Attempt, project and group are those of the pod, as when the daemon finds the run by itself."""
    marks = {"wattspan.io/project": "nlp-team", "wattspan.io/group": "sweep-7"}
    cluster.runs(training_pod(labels=JOBSET, annotations=marks, env={"WATTSPAN_RUN_ID": "llama"}))
    caller = cluster.node.process(10, cgroup=IN_POD, environ=environ)
    assert refused(cluster.node.begins(caller)) == 503
    cluster.looks()
    begun = cluster.node.begins(caller)
    assert isinstance(begun, Begun)
    run = begun.record.run
    assert (run.run_id, run.attempt) == found
    assert (run.project, run.group, run.namespace) == ("nlp-team", "sweep-7", "nlp")
