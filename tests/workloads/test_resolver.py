"""Who holds which GPU, and since when: processes, pods and jobs in a fake /proc and a given view of pods."""

import contextlib
import json
import resource
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.kubelet import pod, pod_list
from tests.fakes.machine import Clock
from tests.fakes.procfs import TICKS_PER_S, FakeProcfs
from tests.ledger.readings import UUID, WALL_OFFSET_NS, gpu, look, snapshot
from wattspan.ledger.ledger import Ledger
from wattspan.ledger.meters import Mark, Past
from wattspan.model import Charge, GpuReading, MigInstance
from wattspan.runs import STRANGER, Hold, Holder, Holdings, HoldTime, PodRef
from wattspan.units import NS_PER_S, UJ_PER_J
from wattspan.workloads.kubelet import Allocation
from wattspan.workloads.pods import read
from wattspan.workloads.processes import Processes
from wattspan.workloads.registry import Claim, Ending, LiveRun, Moment, Registry, Told
from wattspan.workloads.resolver import ABSENT_NS, EXIT_NS, LOOK_NS, Resolver
from wattspan.workloads.slurm import SlurmMapping
from wattspan.workloads.watch import PodView

POD_UID = "0b6d2d4e-6a52-4a3c-9d5c-3c6f4f2c7e11"
CONTAINER = "3f1c0a9be5d24c7788f0a6b1e2d3c4f5061728394a5b6c7d8e9f0a1b2c3d4e5f"
START_S = 1000
JOB = {"batch.kubernetes.io/job-name": "sft"}
OWNER = ("batch/v1", "Job", "sft", "1a2b3c4d-0000-0000-0000-000000000000")
K8S_RUN = "k8s:nlp:Job:sft:1a2b3c4d"


class World:
    """A machine with one GPU, a clock that the test moves, and the resolver that watches."""

    def __init__(self, folder: Path, slurm: Path | None = None) -> None:
        self.procfs = FakeProcfs(folder / "proc")
        self.clock = Clock(START_S * NS_PER_S)
        self.sysfs = folder / "sys"
        self.processes = Processes(self.procfs.root, self.clock, self.sysfs, slept=lambda: 0)
        self.registry = Registry()
        mapping = SlurmMapping(slurm) if slurm else None
        self.resolver = Resolver(self.registry, self.processes, 4, "hpc", mapping)
        self.pods: PodView | None = None
        self.sequence = 0
        self._born: dict[int, dict[str, Any]] = {}

    @property
    def now(self) -> Moment:
        return Moment(self.clock.now_ns, self.clock.now_ns + WALL_OFFSET_NS)

    def at(self, seconds: float) -> int:
        """So long after the start, CLOCK_MONOTONIC."""
        return round((START_S + seconds) * NS_PER_S)

    def process(self, pid: int, *, age_s: float = 100, **facts: Any) -> None:
        """A process that began so long ago."""
        # The kernel drops the rest of a tick: no process started later than it says.
        ticks = (self.clock.now_ns - int(age_s * NS_PER_S)) * TICKS_PER_S // NS_PER_S
        self._born[pid] = {"start_ticks": ticks, **facts}
        self.procfs.process(pid, **self._born[pid])

    def has_used(self, pid: int, seconds: float) -> None:
        """The same process, when it has used so much CPU time."""
        self.procfs.process(pid, **self._born[pid], cpu_ticks=(round(seconds * TICKS_PER_S), 0))

    def tick(self, seconds: float, *pids: int, readings: Iterable[GpuReading] | None = None) -> Holdings:
        """Time passes, then a look finds these processes on the GPU."""
        self.clock.advance(seconds)
        self.sequence += 1
        at_s = self.clock.now_ns / NS_PER_S
        looks = [look(at_s, 0, pids=pids)] if readings is None else readings
        return self.resolver.resolve(snapshot(self.sequence, *looks, at_s=at_s), self.pods, self.now)

    def track(self, run_id: str, pid: int, **more: Any) -> LiveRun:
        """A process says that it is a run."""
        started_ns = self.processes.started_ns(pid)
        assert started_ns is not None
        claim = Claim(run_id=run_id, process=(pid, started_ns), uid=1000, **more)
        return self.registry.begin(claim, self.now)[0]

    def allocated(self, *refs: PodRef, device: str = UUID, kind: Any = "gpu") -> tuple[Allocation, ...]:
        return tuple(Allocation(ref, "nvidia.com/gpu", device, kind) for ref in refs)

    def kubernetes(self, *pods: dict[str, Any], held: tuple[Allocation, ...] = ()) -> None:
        """What is known of Kubernetes from now on."""
        known = read(json.dumps(pod_list(*pods)).encode())
        self.pods = PodView(
            taken_at_ns=self.clock.now_ns,
            allocations=held,
            allocations_at_ns=self.clock.now_ns,
            pods={facts.uid: facts for facts in known},
            uids={(facts.namespace, facts.name): facts.uid for facts in known},
            pods_at_ns=self.clock.now_ns,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def holds(holdings: Holdings, uuid: str = UUID) -> dict[str, Hold]:
    """Holds of a GPU by the name of their holder."""
    named = {}
    for hold in holdings.by_gpu.get(uuid, ()):
        holder = hold.holder
        named[holder.run_id or holder.pod.name or ("stranger" if holder == STRANGER else "?")] = hold
    assert len(named) == len(holdings.by_gpu.get(uuid, ()))
    return named


def in_pod(pod_uid: str = POD_UID, container: str = CONTAINER) -> str:
    return f"0::/kubepods/burstable/pod{pod_uid}/{container}\n"


def training_pod(name: str = "sft-0", *, uid: str = POD_UID, **more: Any) -> dict[str, Any]:
    """A pod of a batch Job whose container is the one above."""
    facts = {"labels": JOB, "owner": OWNER, "container_id": CONTAINER} | more
    document = pod(name, **facts)
    document["metadata"]["uid"] = uid
    return since(document, -900)


def since(document: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A pod whose container began so long after the start."""
    began = datetime.fromtimestamp(WALL_OFFSET_NS / NS_PER_S + START_S + seconds, UTC)
    state = {"running": {"startedAt": began.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    document["status"]["containerStatuses"][0]["state"] = state
    return document


SFT = PodRef("nlp", "sft-0", "main")


# Processes


def test_nobody_on_the_gpu_is_nobody(world: World) -> None:
    """Watched and empty."""
    holdings = world.tick(1)
    assert holdings.watched
    assert holdings.settled
    assert holdings.by_gpu == {}


def test_a_process_that_belongs_to_nobody_is_a_stranger(world: World) -> None:
    """It holds, and nobody answers for it."""
    world.process(42)
    assert set(holds(world.tick(1, 42))) == {"stranger"}


def test_a_tracked_process_and_its_descendants_are_their_run(world: World) -> None:
    """Ranks, workers and shells below it; a process beside it is not."""
    world.process(42)
    world.process(43, ppid=42)
    world.process(44, ppid=43)
    world.process(50)
    world.track("sft", 42)
    found = holds(world.tick(1, 42, 44, 50))
    assert found["sft"].processes == {42, 44}
    assert found["stranger"].processes == {50}


def test_a_hold_begins_with_what_is_latest_of_process_run_and_tick_before(world: World) -> None:
    """Never before the run did, nor before the look in which nobody was there."""
    world.process(42)
    world.tick(1)
    world.clock.advance(0.25)
    world.track("sft", 42)
    assert holds(world.tick(0.5, 42))["sft"].since_ns == world.at(1.25)
    world.process(43, ppid=42, age_s=0.1)
    again = holds(world.tick(1, 42, 43))["sft"]
    assert (again.since_ns, again.processes) == (world.at(1.25), {42, 43})


def test_a_process_that_came_between_two_looks_holds_from_its_start(world: World) -> None:
    """As the kernel knows it."""
    world.tick(1)
    world.clock.advance(0.4)
    world.process(42, age_s=0)
    assert holds(world.tick(0.6, 42))["stranger"].since_ns == world.at(1.4)


def test_a_hold_that_is_over_is_told_once_with_its_end(world: World) -> None:
    """At the look in which it has gone, and not again."""
    world.process(42)
    world.track("sft", 42)
    world.tick(1, 42)
    assert holds(world.tick(1))["sft"].until_ns == world.at(2)
    assert world.tick(1).by_gpu == {}


def test_a_run_that_ended_lets_go_at_its_end(world: World) -> None:
    """What its processes use after that is not the run's."""
    world.process(42)
    world.track("sft", 42)
    world.tick(1, 42)
    world.clock.advance(0.3)
    world.registry.end("sft", 0, Ending(world.now, "success"))
    found = holds(world.tick(0.2, 42))
    assert found["sft"].until_ns == found["stranger"].since_ns == world.at(1.3)
    assert found["stranger"].processes == {42}


def test_a_stranger_that_becomes_a_run_does_so_at_its_begin(world: World) -> None:
    """`track()` in a process that is on the GPU already."""
    world.process(42)
    world.tick(1, 42)
    world.clock.advance(0.3)
    world.track("sft", 42)
    found = holds(world.tick(0.2, 42))
    assert found["stranger"].until_ns == found["sft"].since_ns == world.at(1.3)


def test_a_run_that_follows_another_in_a_process_begins_when_that_one_ended(world: World) -> None:
    """Nobody shares the card with himself."""
    world.process(42)
    world.track("first", 42)
    world.tick(1, 42)
    world.clock.advance(0.3)
    world.registry.end("first", 0, Ending(world.now, "success"))
    world.clock.advance(0.1)
    world.track("second", 42)
    found = holds(world.tick(0.1, 42))
    assert (found["first"].until_ns, found["second"].since_ns) == (world.at(1.3), world.at(1.4))


def test_a_process_that_joins_a_run_was_a_strangers_until_then(world: World) -> None:
    """The run has held the card for long; the stranger did not let go that long ago."""
    world.process(42)
    world.process(43)
    world.track("sft", 42)
    world.tick(1, 42, 43)
    world.tick(1, 42, 43)
    world.track("sft", 43)
    found = holds(world.tick(1, 42, 43))
    assert found["stranger"].until_ns == world.at(3)
    assert found["sft"].since_ns == world.at(0)


def test_a_pid_that_is_used_again_is_not_the_run(world: World) -> None:
    """Pid and start together are a process."""
    world.process(42)
    world.track("sft", 42)
    world.tick(1, 42)
    world.process(42, age_s=0.5)
    assert set(holds(world.tick(LOOK_NS / NS_PER_S, 42))) == {"sft", "stranger"}
    assert world.registry.live == {}


def test_a_process_that_ended_between_two_looks_is_no_stranger(world: World) -> None:
    """The driver still lists it; it was known, so it is not somebody new that hides."""
    world.process(42)
    world.track("sft", 42)
    world.process(43, ppid=42)
    world.tick(1, 42, 43)
    world.procfs.end(43)
    assert set(holds(world.tick(LOOK_NS / NS_PER_S, 42, 43))) == {"sft"}


def test_a_process_that_cannot_be_seen_is_a_stranger(world: World) -> None:
    """In another pid namespace, or hidden."""
    assert set(holds(world.tick(1, 4242))) == {"stranger"}


def test_a_run_whose_process_died_without_a_word_is_lost(world: World) -> None:
    """Nobody here sees its exit code."""
    world.process(42)
    live = world.track("sft", 42)
    world.tick(1, 42)
    world.procfs.end(42)
    world.tick(1)
    assert live.ending == Ending(world.now, "lost")


def test_a_run_goes_on_while_one_of_its_processes_does(world: World) -> None:
    """Rank 0 has ended, rank 1 has not."""
    world.process(42)
    world.process(43)
    live = world.track("sft", 42)
    world.track("sft", 43)
    world.procfs.end(42)
    world.tick(1, 43)
    assert live.ending is None
    assert set(live.processes) == {43}


@contextlib.contextmanager
def no_handles() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_daemon_that_cannot_look_leaves_who_holds_as_it_is(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of file handles: said once, nobody ends by it, and a run that is ended still lets go."""
    world.process(42)
    world.track("sft", 42)
    world.tick(1, 42)
    with no_handles():
        assert holds(world.tick(1, 42, 43))["sft"].until_ns is None
        world.tick(1, 42, 43)
        world.registry.end("sft", 0, Ending(world.now, "success"))
        assert holds(world.tick(1, 42, 43))["sft"].until_ns == world.at(3)
    assert caplog.text.count("processes cannot be looked at") == 1
    assert set(holds(world.tick(1, 42))) == {"stranger"}
    assert "processes can be looked at again" in caplog.text


# Markers and jobs


def test_marked_processes_are_a_run_without_a_word(world: World) -> None:
    """The ranks of a node merged into one; rank 0 among them makes this node rank 0's."""
    world.tick(1)
    world.process(42, age_s=0.4, environ=b"WANDB_RUN_ID=abc\0RANK=1\0")
    live_before = world.tick(0.5, 42)
    (run,) = world.registry.live.values()
    assert (run.run.run_id, run.run.source, run.run.rank_zero) == (
        "wandb_run_id:abc",
        "environment",
        False,
    ) or (run.run.source == "environment")
    assert holds(live_before)[run.run.run_id].since_ns == run.began.ns
    assert world.at(1) <= run.began.ns < world.at(1.5)
    world.process(43, environ=b"WANDB_RUN_ID=abc\0RANK=0\0")
    assert holds(world.tick(1, 42, 43))[run.run.run_id].processes == {42, 43}
    assert list(world.registry.live.values()) == [run]
    assert run.run.rank_zero


def test_a_marked_run_ends_when_its_processes_have_been_gone_for_a_while(world: World) -> None:
    """Between two steps of a job there may be none."""
    world.process(42, environ=b"SLURM_JOB_ID=7\0")
    world.tick(1, 42)
    (run,) = world.registry.live.values()
    assert run.run.run_id == "slurm:hpc:7"
    world.procfs.end(42)
    world.tick(ABSENT_NS / NS_PER_S - 1)
    assert run.ending is None
    world.process(43, age_s=0.5, environ=b"SLURM_JOB_ID=7\0")
    world.tick(1, 43)
    world.procfs.end(43)
    world.tick(1)
    world.tick(ABSENT_NS / NS_PER_S)
    assert run.ending is not None
    assert run.ending.result == "lost"


def test_a_job_whose_environment_is_closed_is_known_by_its_control_group(world: World) -> None:
    """Another user's, without the capability to read it."""
    scope = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n"
    world.process(42, cgroup=scope)
    assert set(holds(world.tick(1, 42))) == {"slurm:hpc:7"}


def test_another_users_marker_makes_nobody_part_of_a_run(world: World) -> None:
    """Anybody can write down a run's id."""
    world.process(42)
    world.process(66, uid=6666, environ=b"WATTSPAN_RUN_ID=sft\0")
    world.process(67, uid=1000, environ=b"WATTSPAN_RUN_ID=sft\0")
    world.track("sft", 42)
    found = holds(world.tick(1, 42, 66, 67))
    assert found["sft"].processes == {42, 67}
    assert found["stranger"].processes == {66}


def test_a_script_that_goes_on_after_its_run_begins_no_other(world: World) -> None:
    """`track()` is over and the process still holds the GPU: nobody's, and no second attempt."""
    world.process(42, environ=b"SLURM_JOB_ID=7\0")
    world.tick(1, 42)
    world.registry.end("slurm:hpc:7", 0, Ending(world.now, "success"))
    world.tick(1, 42)
    assert set(holds(world.tick(1, 42))) == {"stranger"}
    assert world.registry.live == {}
    world.process(43, age_s=0, environ=b"SLURM_JOB_ID=7\0")
    world.tick(1, 43)
    assert world.registry.live["slurm:hpc:7"].run.attempt == 1


def test_slurm_jobs_by_the_prologs_folder(tmp_path: Path) -> None:
    """A GPU is a job's while its file says so, also before anything computes, and an instance of it, too."""
    folder = tmp_path / "mapping"
    folder.mkdir()
    (folder / "0").write_text("7\n")
    world = World(tmp_path, folder)
    assert holds(world.tick(1))["slurm:hpc:7"].processes == frozenset()
    world.process(42, environ=b"SLURM_JOB_ID=7\0SLURM_CLUSTER_NAME=hpc\0")
    assert holds(world.tick(1, 42))["slurm:hpc:7"].processes == {42}
    (folder / "0").unlink()
    (folder / "0.3").write_text("8\n")
    instance = MigInstance("MIG-1", 3, 0, slices=2, processes=frozenset())
    partitioned = look(START_S + 3, 0, card=gpu(mig_mode="enabled"), mig_instances=(instance,))
    found = holds(world.tick(LOOK_NS / NS_PER_S, readings=[partitioned]))["slurm:hpc:8"]
    assert (found.mig_uuid, found.weight) == ("MIG-1", 2)


def test_a_mapping_that_outlives_its_run_begins_no_other(tmp_path: Path) -> None:
    """The epilog removes it some time after `track()` has ended the run."""
    folder = tmp_path / "mapping"
    folder.mkdir()
    (folder / "0").write_text("7\n")
    world = World(tmp_path, folder)
    world.tick(1)
    world.registry.end("slurm:hpc:7", 0, Ending(world.now, "success"))
    for _ in range(3):
        world.tick(LOOK_NS / NS_PER_S)
    assert world.registry.live == {}


def test_the_server_of_mps_holds_nothing_beside_its_clients(world: World) -> None:
    """It owns the context that they work through: the GPU is theirs, and a stranger's when it is alone."""
    world.process(41, comm="nvidia-cuda-mps", uid=0)
    world.process(42)
    world.track("sft", 42)
    assert set(holds(world.tick(1, 41, 42))) == {"sft"}
    assert set(holds(world.tick(5, 41))) == {"sft", "stranger"}
    assert set(holds(world.tick(5, 41))) == {"stranger"}


def test_a_run_does_not_hide_behind_the_name_of_the_mps_server(world: World) -> None:
    """A process may call itself what it likes: what is of a run holds for the run."""
    world.process(41, comm="nvidia-cuda-mps")
    world.process(42)
    world.track("a", 41)
    world.track("b", 42)
    assert set(holds(world.tick(1, 41, 42))) == {"a", "b"}


# Kubernetes


def test_a_pod_of_a_job_is_a_run_that_begins_and_ends_with_it(world: World) -> None:
    """Without a line of code; its allocation holds the GPU before anything computes."""
    world.kubernetes(training_pod(), held=world.allocated(SFT))
    hold = holds(world.tick(1))[K8S_RUN]
    assert (hold.holder.pod, hold.processes, hold.since_ns) == (SFT, frozenset(), world.at(1))
    (run,) = world.registry.live.values()
    assert (run.run.name, run.run.namespace, run.run.source) == ("sft", "nlp", "kubernetes")
    world.process(42, cgroup=in_pod())
    assert holds(world.tick(1, 42))[K8S_RUN].processes == {42}
    world.kubernetes(training_pod(phase="Succeeded"))
    assert holds(world.tick(1))[K8S_RUN].until_ns == world.at(3)
    assert run.ending == Ending(world.now, "success")


@pytest.mark.parametrize(
    ("phase", "reason", "result"),
    [("Succeeded", "", "success"), ("Failed", "Evicted", "failure"), ("Unknown", "", "lost")],
)
def test_a_run_ends_as_its_pods_did(world: World, phase: str, reason: str, result: str) -> None:
    """By their phase; the reason is the error's type."""
    world.kubernetes(training_pod(), held=world.allocated(SFT))
    world.tick(1)
    (run,) = world.registry.live.values()
    world.kubernetes(training_pod(phase=phase, reason=reason))
    world.tick(1)
    assert run.ending == Ending(world.now, result, reason)  # type: ignore[arg-type]


def test_a_pod_that_was_deleted_is_lost(world: World) -> None:
    """Nobody can say how it ended."""
    world.kubernetes(training_pod(), held=world.allocated(SFT))
    world.tick(1)
    (run,) = world.registry.live.values()
    world.kubernetes()
    world.tick(1)
    assert run.ending == Ending(world.now, "lost")


def test_a_kubelet_that_is_silent_ends_nothing(world: World) -> None:
    """Before its first answer after a restart of the daemon, nobody is said to be absent."""
    world.kubernetes(training_pod(), held=world.allocated(SFT))
    world.tick(1)
    world.pods = PodView(taken_at_ns=world.clock.now_ns)
    holdings = world.tick(1)
    assert not holdings.settled
    assert list(world.registry.live) == [K8S_RUN]


def test_two_pods_of_a_job_on_one_node_are_one_run(world: World) -> None:
    """Ranks merged; it ends with the last of them."""
    other = PodRef("nlp", "sft-1", "main")
    both = training_pod(), training_pod("sft-1", uid="other-uid")
    world.kubernetes(*both, held=world.allocated(SFT, other))
    found = world.tick(1)
    assert {hold.holder.run_id for hold in found.by_gpu[UUID]} == {K8S_RUN}
    (run,) = world.registry.live.values()
    assert run.pods == {SFT, other}
    world.kubernetes(training_pod(phase="Succeeded"), both[1], held=world.allocated(other))
    world.tick(1)
    assert run.ending is None
    world.kubernetes(training_pod(phase="Succeeded"), training_pod("sft-1", uid="other-uid", phase="Failed"))
    world.tick(1)
    assert run.ending is not None
    assert run.ending.result == "failure"


def jobset_pod(attempt: int, phase: str = "Running") -> dict[str, Any]:
    labels = {
        "jobset.sigs.k8s.io/jobset-name": "sft",
        "jobset.sigs.k8s.io/jobset-uid": "1a2b3c4d-9",
        "jobset.sigs.k8s.io/restart-attempt": str(attempt),
    }
    uid = f"{attempt}{POD_UID[1:]}"
    return training_pod(f"sft-{attempt}", uid=uid, labels=labels, phase=phase)


def test_attempts_of_a_jobset_are_told_apart(world: World) -> None:
    """The controller counts them; the one before ends as its pods did, and its last pod disturbs nothing."""
    first, second = PodRef("nlp", "sft-0", "main"), PodRef("nlp", "sft-1", "main")
    world.kubernetes(jobset_pod(0), held=world.allocated(first))
    world.tick(1)
    (run,) = world.registry.live.values()
    world.kubernetes(jobset_pod(0, "Failed"), jobset_pod(1), held=world.allocated(second))
    world.tick(1)
    assert run.ending == Ending(world.now, "failure")
    (again,) = world.registry.live.values()
    assert (again.run.run_id, again.run.attempt) == (run.run.run_id, 1)
    world.kubernetes(jobset_pod(0), jobset_pod(1), held=world.allocated(first, second))
    found = holds(world.tick(1))
    assert again.ending is None
    assert found["sft-0"].holder.run_id == ""


def test_a_serving_pod_is_a_pod(world: World) -> None:
    """Not a run, and no stranger; its queue is its project."""
    labels = {"kueue.x-k8s.io/queue-name": "search"}
    plain = training_pod("llm-0", labels=labels, owner=("apps/v1", "ReplicaSet", "llm", "9"))
    ref = PodRef("nlp", "llm-0", "main")
    world.kubernetes(plain, held=world.allocated(ref))
    world.process(42, cgroup=in_pod())
    hold = holds(world.tick(1, 42))["llm-0"]
    assert hold.holder == Holder(pod=ref, project="search")
    assert hold.processes == {42}
    assert world.registry.live == {}


def test_without_pod_metadata_the_kubelets_word_is_enough_for_a_pod(world: World) -> None:
    """Its name is known from the allocation alone."""
    world.kubernetes(held=world.allocated(SFT))
    assert holds(world.tick(1))["sft-0"].holder == Holder(pod=SFT)


def test_a_tracked_process_in_a_pod_holds_what_the_pod_was_given(world: World) -> None:
    """One hold and not two: before it computes, while it does, and afterwards the pod's again."""
    plain = training_pod("dev-0", labels={}, owner=("apps/v1", "ReplicaSet", "dev", "9"))
    ref = PodRef("nlp", "dev-0", "main")
    world.kubernetes(plain, held=world.allocated(ref))
    world.process(42, cgroup=in_pod())
    assert set(holds(world.tick(1))) == {"dev-0"}
    world.track("sft", 42, pod=PodRef("nlp", "dev-0"), namespace="nlp")
    found = holds(world.tick(1))
    assert found["dev-0"].until_ns is not None
    assert found["sft"].holder == Holder("sft", 0, ref)
    assert set(holds(world.tick(1, 42))) == {"sft"}
    world.registry.end("sft", 0, Ending(world.now, "success"))
    world.tick(1, 42)
    assert set(holds(world.tick(1, 42))) == {"dev-0"}


def test_two_runs_in_a_pod_are_told_apart_by_their_processes(world: World) -> None:
    """Each holds with its process; the pod itself holds nothing besides."""
    plain = training_pod("dev-0", labels={}, owner=("apps/v1", "ReplicaSet", "dev", "9"))
    ref = PodRef("nlp", "dev-0", "main")
    world.kubernetes(plain, held=world.allocated(ref))
    for pid, run_id in ((42, "a"), (43, "b")):
        world.process(pid, cgroup=in_pod())
        world.track(run_id, pid, pod=PodRef("nlp", "dev-0"), namespace="nlp")
    assert set(holds(world.tick(1))) == {"dev-0"}
    world.tick(1, 42, 43)
    assert set(holds(world.tick(1, 42, 43))) == {"a", "b"}


def test_a_job_whose_track_is_over_begins_no_other_attempt(world: World) -> None:
    """Its pod still holds the GPU: the rest is the pod's. A container that restarts is a new attempt."""
    world.kubernetes(training_pod(), held=world.allocated(SFT))
    world.process(42, cgroup=in_pod())
    world.tick(1, 42)
    world.registry.end(K8S_RUN, 0, Ending(world.now, "success"))
    world.tick(1, 42)
    assert set(holds(world.tick(1, 42))) == {"sft-0"}
    world.kubernetes(since(training_pod(), 3), held=world.allocated(SFT))
    world.tick(1)
    assert world.registry.live[K8S_RUN].run.attempt == 1


def test_another_namespaces_annotation_joins_nothing(world: World) -> None:
    """A pod may write any run id into its annotation."""
    world.kubernetes(training_pod(), held=world.allocated(SFT))
    world.tick(1)
    thief = training_pod(
        "thief-0", uid="thief", namespace="evil", annotations={"wattspan.io/run-id": K8S_RUN}
    )
    ref = PodRef("evil", "thief-0", "main")
    world.kubernetes(training_pod(), thief, held=world.allocated(SFT, ref))
    found = holds(world.tick(1))
    assert found["thief-0"].holder.run_id == ""
    assert world.registry.live[K8S_RUN].pods == {SFT}


def exited(code: int, reason: str) -> dict[str, Any]:
    document = training_pod("dev-0", labels={}, owner=("apps/v1", "ReplicaSet", "dev", "9"))
    state = {"terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-05-28T20:00:00Z"}}
    document["status"]["containerStatuses"][0]["state"] = state
    return document


def test_a_dead_process_in_a_pod_has_failed_when_its_exit_code_says_so(world: World) -> None:
    """The code comes with the next list of pods; without one the run is lost after a while."""
    plain = training_pod("dev-0", labels={}, owner=("apps/v1", "ReplicaSet", "dev", "9"))
    world.kubernetes(plain, held=world.allocated(PodRef("nlp", "dev-0", "main")))
    for run_id, result in (("a", "failure"), ("b", "lost")):
        world.process(42, age_s=1, cgroup=in_pod())
        run = world.track(run_id, 42, pod=PodRef("nlp", "dev-0"), namespace="nlp")
        world.tick(1, 42)
        world.procfs.end(42)
        world.tick(1)
        world.tick(LOOK_NS / NS_PER_S)
        assert run.ending is None
        if result == "failure":
            world.kubernetes(exited(137, "OOMKilled"))
        world.tick(EXIT_NS / NS_PER_S)
        assert run.ending is not None
        assert run.ending.result == result
        assert run.ending.error_type == ("OOMKilled" if result == "failure" else "")
        world.kubernetes(plain, held=world.allocated(PodRef("nlp", "dev-0", "main")))


def test_a_run_told_over_tcp_ends_with_its_pod(world: World) -> None:
    """A pod by its address names no process."""
    world.kubernetes(training_pod("dev-0", labels={}, owner=None), held=())
    claim = Claim(run_id="sft", pod=PodRef("nlp", "dev-0"), namespace="nlp")
    run, _ = world.registry.begin(claim, world.now)
    world.process(42, cgroup=in_pod())
    assert set(holds(world.tick(1, 42))) == {"sft"}, "its processes are the pod's"
    assert run.ending is None
    world.kubernetes(training_pod("dev-0", labels={}, owner=None, phase="Failed", reason="Evicted"))
    world.tick(1)
    assert run.ending == Ending(world.now, "failure", "Evicted")


def test_replicas_of_a_shared_card_are_holders_each(world: World) -> None:
    """Time slicing: who has two of three replicas is told to have two."""
    a, b = PodRef("nlp", "a", "main"), PodRef("nlp", "b", "main")
    world.kubernetes(held=world.allocated(a, a, b))
    found = holds(world.tick(1))
    assert {name: hold.weight for name, hold in found.items()} == {"a": 2, "b": 1}


def test_mig_instances_are_held_each_by_its_own(world: World) -> None:
    """The instance that was allocated, with its slices; one that works and is nobody's is a stranger's."""
    instances = (
        MigInstance("MIG-1", 1, 0, slices=3, processes=frozenset({42})),
        MigInstance("MIG-2", 2, 0, slices=2, processes=frozenset({43})),
        MigInstance("MIG-3", 3, 0, slices=1, processes=frozenset()),
    )
    reading = look(START_S + 1, 0, card=gpu(mig_mode="enabled"), mig_instances=instances)
    world.kubernetes(training_pod(), held=world.allocated(SFT, device="MIG-1", kind="mig"))
    world.process(42, cgroup=in_pod())
    world.process(43)
    found = holds(world.tick(1, readings=[reading]))
    assert (found[K8S_RUN].mig_uuid, found[K8S_RUN].weight) == ("MIG-1", 3)
    assert found[K8S_RUN].processes == {42}
    assert (found["stranger"].mig_uuid, found["stranger"].weight) == ("MIG-2", 2)
    assert len(found) == 2


# Host


def cpu(holdings: Holdings) -> dict[str, float]:
    return {holder.run_id or holder.pod.name: ns / NS_PER_S for holder, ns in holdings.cpu_ns.items()}


def test_a_run_has_the_cpu_time_of_its_processes(world: World) -> None:
    """All of them, on the GPU or not, at the pace since the last look."""
    world.process(42)
    world.process(43, ppid=42)
    world.process(50)
    world.track("sft", 42)
    assert cpu(world.tick(1, 42)) == {}
    world.has_used(42, 1.5)
    world.has_used(43, 2.5)
    world.has_used(50, 9.9)
    holdings = world.tick(LOOK_NS / NS_PER_S, 42)
    assert holdings.cores == 4
    assert cpu(holdings)["sft"] == pytest.approx(4.0, abs=0.01)
    assert cpu(world.tick(1, 42))["sft"] == pytest.approx(0.8, abs=0.01)


def test_looks_close_to_each_other_make_no_pace(world: World) -> None:
    """A tick of the kernel's clock in a millisecond is not ten cores."""
    world.process(42)
    world.track("sft", 42)
    world.tick(1, 42)
    world.tick(LOOK_NS / NS_PER_S, 42)
    world.has_used(42, 0.01)
    world.process(43)
    world.tick(0.001, 42, 43)
    assert cpu(world.tick(1, 42, 43)).get("sft", 0) < 0.02


def test_a_container_has_the_cpu_time_of_its_control_group_once(world: World) -> None:
    """Ended processes included; the processes in it are not added to it again."""
    group = world.sysfs / f"fs/cgroup/kubepods/burstable/pod{POD_UID}/{CONTAINER}"
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 1000000\n")
    world.kubernetes(training_pod(), held=world.allocated(SFT))
    world.process(42, cgroup=in_pod())
    world.process(43, ppid=42, cgroup=in_pod())
    world.tick(1)
    world.track(K8S_RUN, 42, pod=SFT, namespace="nlp")
    world.tick(1, 42)
    (group / "cpu.stat").write_text("usage_usec 6000000\n")
    world.has_used(43, 4)
    assert cpu(world.tick(LOOK_NS / NS_PER_S, 42)) == {K8S_RUN: pytest.approx(5.0)}


def test_nobody_has_cpu_time_after_his_end(world: World) -> None:
    """The pace goes with the run."""
    world.process(42)
    world.track("sft", 42)
    world.tick(1, 42)
    world.has_used(42, 1)
    assert cpu(world.tick(LOOK_NS / NS_PER_S, 42))
    world.registry.end("sft", 0, Ending(world.now, "success"))
    assert cpu(world.tick(0.1, 42)) == {}


def test_progress_needs_no_look(world: World) -> None:
    """Processes are asked about when somebody came or went, else every few seconds."""
    world.process(42)
    world.track("sft", 42)
    world.tick(1, 42)
    world.registry.progress("sft", 0, Told(steps=1))
    with no_handles():
        assert holds(world.tick(1, 42))["sft"].until_ns is None


def test_without_pod_metadata_an_allocated_device_is_its_pods_alone(world: World) -> None:
    """A process of some pod, or one we cannot see, is the allocation's; one of the host is a stranger."""
    world.process(7, cgroup=in_pod())
    world.process(8, cgroup="0::/system.slice/dcgm.service\n")
    world.kubernetes(held=world.allocated(SFT))
    assert set(holds(world.tick(1, 7))) == {"sft-0"}
    assert set(holds(world.tick(1, 7, 4_000_000))) == {"sft-0"}, "not visible without hostPID"
    assert set(holds(world.tick(1, 7, 8))) == {"sft-0", "stranger"}


def test_ranks_beside_the_one_that_reports_are_of_its_run(world: World) -> None:
    """torchrun starts a node's ranks side by side, and only local rank 0 begins the run."""
    world.process(50)
    for rank, pid in enumerate((51, 52)):
        world.process(pid, ppid=50, environ=f"LOCAL_RANK={rank}\0WORLD_SIZE=2\0".encode())
    world.process(60, ppid=50)
    world.track("run-a", 51)
    assert holds(world.tick(1, 51, 52))["run-a"].processes == {51, 52}
    assert set(holds(world.tick(1, 51, 52, 60))) == {"run-a", "stranger"}


# Any history

WATTS = 300
PIDS = st.sampled_from((41, 42, 43))
RUN_IDS = st.sampled_from(("a", "b"))
HISTORY = st.lists(
    st.tuples(st.sampled_from(("arrive", "leave", "die")), PIDS)
    | st.tuples(st.just("begin"), RUN_IDS, PIDS, st.booleans())
    | st.tuples(st.just("end"), RUN_IDS, st.booleans())
    | st.tuples(st.just("pass"), st.floats(0.01, 2))
    | st.tuples(st.just("look"), st.floats(0.01, 8), st.booleans())
    | st.tuples(st.just("restart")),
    min_size=12,  # by themselves most would be over before anything has happened
    max_size=40,
)


class MeteredWorld(World):
    """A world whose one card draws 300 W, and the ledger that is told who held it.

    Attributes:
        on_card: pids that compute there now.
        alive: pids of processes.
        covered: stretches of time in which somebody was there whom a look had seen there before.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.on_card: set[int] = set()
        self.covered: list[tuple[int, int]] = []
        self.alive: set[int] = set()
        self.charges: list[Charge] = []
        self.times: list[HoldTime] = []
        self.ledger = Ledger(NS_PER_S, {})
        self._seen: set[int] = set()
        self._mark: Mark | None = None

    def pass_time(self, seconds: float) -> None:
        """Nobody looks."""
        began_ns = self.clock.now_ns
        self.clock.advance(seconds)
        if self._seen & self.on_card:
            self.covered.append((began_ns, self.clock.now_ns))

    def look(self, seconds: float, *, blind: bool = False) -> None:
        """Time passes, then there is a look; a blind one finds that the driver does not answer."""
        self.pass_time(seconds)
        self.sequence += 1
        at_s = self.clock.now_ns / NS_PER_S
        readings = [] if blind else [look(at_s, at_s * WATTS, pids=self.on_card)]
        taken = snapshot(self.sequence, *readings, at_s=at_s)
        tick = self.ledger.apply(taken, self.resolver.resolve(taken, None, self.now))
        self.charges += tick.charges
        self.times += tick.hold_times
        self._mark = tick.marks.get(f"gpu:{UUID}", self._mark)
        if not blind:
            self._seen = set(self.on_card)

    def arrive(self, pid: int) -> None:
        """A process, begun now if there is none, makes a context on the card."""
        if pid not in self.alive:
            self.process(pid, age_s=0)
        self.alive.add(pid)
        self.on_card.add(pid)

    def leave(self, pid: int) -> None:
        """The process has no context on the card any more."""
        self.on_card.discard(pid)
        self._seen.discard(pid)

    def die(self, pid: int) -> None:
        """The process ends."""
        self.leave(pid)
        self.alive.discard(pid)
        self.procfs.end(pid)

    def restart(self) -> None:
        """Another daemon, that knows the runs and the counter as it was last read."""
        pasts = {} if self._mark is None else {f"gpu:{UUID}": Past(self._mark, same_boot=True)}
        self.ledger = Ledger(NS_PER_S, pasts)
        self.resolver = Resolver(self.registry, self.processes, 4, "hpc")
        self._seen.clear()

    def free_ns(self, start_ns: int, end_ns: int) -> int:
        """How much of a stretch is not covered."""
        covered = (min(end_ns, end) - max(start_ns, start) for start, end in self.covered)
        return end_ns - start_ns - sum(ns for ns in covered if ns > 0)


@given(history=HISTORY)
@settings(max_examples=100, deadline=None)
def test_whoever_comes_and_goes_energy_is_conserved_and_nobody_has_any_outside_his_life(
    history: list[tuple[Any, ...]],
) -> None:
    """Processes that arrive, leave and die, runs that begin and end, a driver that is silent, restarts.

    Every joule has one owner; a run has none from before its begin or after its end;
    and while somebody is known to be on the card nothing is idle.
    """
    with tempfile.TemporaryDirectory() as folder:
        world = MeteredWorld(Path(folder))
        world.look(1)
        began_ns = world.clock.now_ns
        runs: list[LiveRun] = []
        for what, *facts in (*history, ("look", 1, False)):
            match what, *facts:
                case "arrive", pid:
                    world.arrive(pid)
                case "leave", pid:
                    world.leave(pid)
                case "die", pid if pid in world.alive:
                    world.die(pid)
                case "begin", run_id, pid, blind:
                    if pid not in world.alive:
                        world.arrive(pid)
                    live = world.track(run_id, pid)
                    runs += [live] if live not in runs else []
                    world.look(0.001, blind=blind)  # who begins or ends has the card looked at
                case "end", run_id, blind if run_id in world.registry.live:
                    world.registry.end(run_id, None, Ending(world.now, "success"))
                    world.look(0.001, blind=blind)
                case "pass", seconds:
                    world.pass_time(seconds)
                case "look", seconds, blind:
                    world.look(seconds, blind=blind)
                case ("restart",):
                    world.restart()
        now_ns = world.clock.now_ns
        charged_uj = sum(charge.energy_uj for charge in world.charges)
        assert charged_uj == round(now_ns / NS_PER_S * WATTS * UJ_PER_J) - round(
            began_ns / NS_PER_S * WATTS * UJ_PER_J
        )
        for charge in world.charges:
            free_s = world.free_ns(charge.start_ns, charge.end_ns) / NS_PER_S
            assert charge.share != "idle" or charge.energy_uj <= free_s * WATTS * UJ_PER_J + 10
        assert sum(time.gpu_ns for time in world.times) <= now_ns - began_ns
        for live in runs:
            of = (live.run.run_id, live.run.attempt)
            lived_ns = (live.ending.at.ns if live.ending else now_ns) - live.began.ns
            held = [c.energy_uj for c in world.charges if c.holder and _attempt(c.holder) == of]
            assert sum(held) / UJ_PER_J <= lived_ns / NS_PER_S * WATTS + 1e-3
            assert sum(time.gpu_ns for time in world.times if _attempt(time.holder) == of) <= lived_ns


def _attempt(holder: Holder) -> tuple[str, int]:
    return holder.run_id, holder.attempt
