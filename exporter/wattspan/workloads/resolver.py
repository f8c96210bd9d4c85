"""Who held which GPU since the tick before; runs begin and end by what is seen here.

For each GPU the holders are the containers it is allocated to, and whoever its processes belong to:
the run that claimed them or an ancestor of them, the run their environment or Slurm names, else their pod.
A process of none of these is a stranger.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from wattspan.errors import ReadError
from wattspan.model import GpuReading, Snapshot
from wattspan.runs import NO_POD, STRANGER, Hold, Holder, Holdings, PodRef, Result
from wattspan.units import NS_PER_S
from wattspan.workloads import device_ids, markers, run_ids
from wattspan.workloads.jobs import project_of_pod, run_of_pod
from wattspan.workloads.markers import MarkedRun
from wattspan.workloads.pods import ContainerFacts, PodFacts
from wattspan.workloads.processes import Processes, ProcessFacts
from wattspan.workloads.registry import Claim, Ending, LiveRun, Moment, RefusedError, Registry
from wattspan.workloads.slurm import SlurmMapping
from wattspan.workloads.watch import PodView

logger = logging.getLogger(__name__)

ABSENT_NS: Final = 15 * NS_PER_S
"""A run that only its processes vouch for ends when none of them has been seen for so long.

Between the processes of one step and those of the next a job may have none.
"""

LOOK_NS: Final = 5 * NS_PER_S
"""How often processes are looked at anew though nothing seems to have changed: 20 us each."""

EXIT_NS: Final = 45 * NS_PER_S
"""How long a dead process's exit code is waited for: pods are asked for every half minute."""

RATE_NS: Final = NS_PER_S
"""CPU time is compared over at least so long: the kernel counts it in hundredths of a second."""

LOCAL_RANK: Final = "LOCAL_RANK"

_POD_RESULTS: Final[Mapping[str, Result]] = {"Succeeded": "success", "Failed": "failure"}

HoldKey = tuple[str, Holder, str]
"""GPU uuid, holder, MIG uuid."""


@dataclass(slots=True)
class _Cpu:
    """CPU time of one process or control group as last seen."""

    holder: Holder
    used_ns: int


class Resolver:
    """Called by the one writer, before the ledger, at each tick.

    Args:
        registry: whose runs it begins and ends as it sees them come and go.
        processes: of this machine.
        cores: logical CPUs.
        cluster: stands in for Slurm's own name.
        slurm: the prolog's mapping folder; None without one.
    """

    def __init__(
        self,
        registry: Registry,
        processes: Processes,
        cores: int,
        cluster: str = "",
        slurm: SlurmMapping | None = None,
    ) -> None:
        self._slurm = slurm
        self._registry = registry
        self._processes = processes
        self._cores = cores
        self._cluster = cluster
        self._readings: dict[str, GpuReading] = {}
        self._holds: dict[HoldKey, Hold] = {}
        self._cpu: dict[int | str, _Cpu] = {}
        self._seen_ns: dict[str, int] = {}
        self._known_pids: frozenset[int] = frozenset()
        self._cpu_rates: dict[Holder, float] = {}
        self._cpu_at_ns = 0
        self._dead_ns: dict[str, int] = {}
        self._marked: dict[int, tuple[Mapping[str, str], MarkedRun | None]] = {}
        self._mapped_since: dict[str, int] = {}
        self._seen: tuple[object, ...] = ()
        self._looked_ns = 0
        self._ticked_ns = 0
        self._blind = False

    def resolve(self, snapshot: Snapshot, pods: PodView | None, now: Moment) -> Holdings:
        """Say who held what since the last call, and let runs begin and end by what was seen.

        Args:
            snapshot: the tick's looks.
            pods: what is known of Kubernetes; None where it is not watched.
            now: when the tick was closed.
        """
        for report in snapshot.reports:
            self._readings |= {reading.gpu.uuid: reading for reading in report.gpus}
        holds = self._holds
        if self._signature(pods) != self._seen or now.ns - self._looked_ns >= LOOK_NS:
            holds = self._look_or_go_on(pods, now)
        by_gpu: dict[str, list[Hold]] = {}
        for (uuid, _, _), hold in holds.items():
            by_gpu.setdefault(uuid, []).append(hold)
        since_ns, self._ticked_ns = now.ns - self._ticked_ns, now.ns
        return Holdings(
            by_gpu={uuid: tuple(found) for uuid, found in by_gpu.items()},
            cpu_ns={holder: int(rate * since_ns) for holder, rate in self._cpu_rates.items()},
            cores=self._cores,
            settled=pods is None or pods.allocations_at_ns is not None or bool(pods.failures),
        )

    def _signature(self, pods: PodView | None) -> tuple[object, ...]:
        """Whatever this is made of unchanged, the holds are unchanged."""
        processes = tuple(
            (uuid, reading.processes, tuple((i.uuid, i.processes) for i in reading.mig_instances))
            for uuid, reading in self._readings.items()
        )
        known = () if pods is None else (pods.allocations, pods.pods_at_ns)
        return processes, self._registry.changes, known

    def _look_or_go_on(self, pods: PodView | None, now: Moment) -> dict[HoldKey, Hold]:
        """A look; where processes cannot be looked at, who held goes on holding until his run ends."""
        try:
            told = self._look(pods, now)
        except (ReadError, OSError) as error:
            if not self._blind:
                logger.warning("processes cannot be looked at: %s", error)
            self._blind = True
            return self._since_last({k: h for k, h in self._holds.items() if self._goes_on(h.holder)}, now)
        if self._blind:
            logger.info("processes can be looked at again")
        self._blind = False
        self._seen = self._signature(pods)  # after the look: runs may have begun or ended
        return told

    def _goes_on(self, holder: Holder) -> bool:
        live = self._registry.live.get(holder.run_id)
        return not holder.run_id or (live is not None and live.run.attempt == holder.attempt)

    def _look(self, pods: PodView | None, now: Moment) -> dict[HoldKey, Hold]:
        """Look at every process on a GPU anew; gives the holds, those that have just ended among them.

        Raises:
            ReadError, OSError: processes cannot be looked at; nothing has been told then.
        """
        self._end_absent(pods, now)
        self._follow_pods(pods, now)
        pids = {pid for reading in self._readings.values() for pid in _pids_on(reading)}
        facts = self._processes.look(pids)
        self._marked = {pid: known for pid, known in self._marked.items() if pid in facts}
        owners = {pid: self._owner(fact, pods, now) for pid, fact in facts.items()}
        jobs = self._jobs(now)
        found: dict[HoldKey, Hold] = {}
        for uuid, reading in self._readings.items():
            self._allocated(uuid, reading, pods, now, found)
            self._mapped(uuid, reading, jobs, now, found)
            self._used(uuid, reading, facts, owners, now, found)
        self._measure_cpu(facts, owners, now)
        self._known_pids = (self._known_pids & pids) | frozenset(facts)
        self._seen_ns = {run_id: at for run_id, at in self._seen_ns.items() if run_id in self._registry.live}
        self._looked_ns = now.ns
        return self._since_last(found, now)

    # Kubernetes

    def _follow_pods(self, pods: PodView | None, now: Moment) -> None:
        """Begin the runs of pods that hold a GPU, and end those whose pods are over."""
        if pods is None:
            return
        holding = {
            (allocation.pod.namespace, allocation.pod.name): allocation.pod for allocation in pods.allocations
        }
        for (namespace, name), ref in holding.items():
            pod = pods.pod_of(namespace, name)
            if pod is not None and pod.phase == "Running":
                self._run_of_pod(pod, ref, pods, now)
        for live in list(self._registry.live.values()):
            if live.processes or not (live.pods or live.run.source == "kubernetes"):
                continue
            known = [pods.pod_of(ref.namespace, ref.name) for ref in live.pods]
            if pods.pods_at_ns is None or any(
                pod is not None and pod.phase in ("Running", "Pending") for pod in known
            ):
                continue
            self._registry.end(live.run.run_id, live.run.attempt, Ending(now, *_pod_result(known)))

    def _run_of_pod(self, pod: PodFacts, ref: PodRef, pods: PodView, now: Moment) -> LiveRun | None:
        told = run_of_pod(pod)
        if told is None:
            return None
        known = self._registry.live.get(told.run_id)
        if known is not None and known.run.namespace != pod.namespace:
            return None  # an annotation does not make another namespace's run one's own
        if known is not None and told.attempt in (None, known.run.attempt) and ref in known.pods:
            return known
        if known is not None and told.attempt is not None and told.attempt > known.run.attempt:
            result = _pod_result(pods.pod_of(before.namespace, before.name) for before in known.pods)
            self._registry.end(told.run_id, known.run.attempt, Ending(now, *result))
        claim = Claim(
            job_id=told.run_id,
            attempt=told.attempt,
            name=told.name,
            project=told.project,
            group=told.group,
            namespace=pod.namespace,
            source="kubernetes",
            budget_co2e_g=told.budget_co2e_g,
            nodes_expected=told.nodes_expected,
            rank_zero=told.rank_zero,
            pod=ref,
            since_wall_ns=_started_wall_ns(pod, ref),
        )
        return self._begin(claim, now)

    # Processes

    def _owner(self, fact: ProcessFacts, pods: PodView | None, now: Moment) -> Holder | None:
        """Whose a process is; None for a stranger."""
        live = self._claimed_by(fact)
        pod = pods.pods.get(fact.cgroup.pod_uid) if pods is not None and fact.cgroup.pod_uid else None
        ref = _ref(pod, fact) if pod is not None else NO_POD
        if live is not None:
            return _holder(live, ref)
        marked = self._marked_run(fact) or self._slurm_job(fact)
        if marked is not None and (pod is None or marked.marker == "WATTSPAN_RUN_ID"):
            claim = Claim(
                job_id=marked.run_id,
                attempt=marked.attempt,
                name=marked.name,
                namespace=pod.namespace if pod else "",
                source=marked.source,
                rank_zero=marked.rank_zero is not False,
                nodes_expected=marked.nodes_expected,
                parent_trace_id=marked.parent_trace_id,
                uid=fact.uid,
                pod=ref,
                since_wall_ns=fact.started_ns - now.ns + now.wall_ns,
            )
            live = self._join_or_begin(claim, max(fact.started_ns, self._ticked_ns or now.ns), now)
        elif pod is not None:
            live = self._run_of_pod(pod, ref, pods, now) if pods is not None else None
        if live is not None:
            self._seen_ns[live.run.run_id] = now.ns
            self._registry.heard(live, now)
            return _holder(live, ref)
        return self._holder_of_pod(ref, pods) if pod is not None and pods is not None else None

    def _marked_run(self, fact: ProcessFacts) -> MarkedRun | None:
        """The run that the process's environment names; looked at once for each environment."""
        known = self._marked.get(fact.pid)
        if known is None or known[0] is not fact.markers:
            known = self._marked[fact.pid] = (fact.markers, markers.run_of(fact.markers, self._cluster))
        return known[1]

    def _slurm_job(self, fact: ProcessFacts) -> MarkedRun | None:
        """The job that a process's control group names, where its environment may not be read."""
        if not fact.cgroup.slurm_job:
            return None
        run_id = run_ids.slurm_id(self._cluster, fact.cgroup.slurm_job)
        return MarkedRun(run_id, None, "slurm", "SLURM_JOB_ID")

    def _claimed_by(self, fact: ProcessFacts) -> LiveRun | None:
        """The run that this process, or the nearest of its ancestors, was claimed for."""
        claims = {
            pid: (started_ns, live)
            for live in self._registry.live.values()
            for pid, started_ns in live.processes.items()
        }
        if not claims:
            return None
        for pid in (fact.pid, *self._processes.ancestors(fact.pid)):
            if pid in claims:
                started_ns, live = claims[pid]
                if self._processes.alive(pid, started_ns):
                    return live
        return self._beside(fact, {pid: live for pid, (_, live) in claims.items()})

    def _beside(self, fact: ProcessFacts, claims: Mapping[int, LiveRun]) -> LiveRun | None:
        """The run that a rank beside this one has claimed: launchers start a node's ranks side by side.

        Only local rank 0 reports; torchrun and its like set LOCAL_RANK in each.
        """
        if LOCAL_RANK not in fact.markers or fact.ppid <= 1:
            return None
        for pid, other in self._processes.look(claims).items():
            if LOCAL_RANK in other.markers and other.ppid == fact.ppid and other.uid == fact.uid:
                return claims[pid]
        return None

    def _join_or_begin(self, claim: Claim, began_ns: int, now: Moment) -> LiveRun | None:
        """The run that a process names. Who writes down another's run does not become part of it."""
        live = self._registry.live.get(claim.job_id)
        if live is None:
            return self._begin(claim, Moment(began_ns, now.wall_ns - now.ns + began_ns))
        theirs = not claim.pod.name and live.uids and claim.uid not in (0, *live.uids)
        if live.run.namespace != claim.namespace or theirs:
            return None
        if claim.rank_zero and not live.run.rank_zero:
            return self._begin(claim, now)
        return live if claim.attempt in (None, live.run.attempt) else self._begin(claim, now)

    def _begin(self, claim: Claim, now: Moment) -> LiveRun | None:
        try:
            live, _ = self._registry.begin(claim, now)
        except RefusedError:
            return None  # its attempt is over; the last of its processes are still going
        self._seen_ns[live.run.run_id] = now.ns
        return live

    def _end_absent(self, pods: PodView | None, now: Moment) -> None:
        """End runs whose processes have gone without a word."""
        for live in list(self._registry.live.values()):
            run_id = live.run.run_id
            alive = {
                pid: started_ns
                for pid, started_ns in live.processes.items()
                if self._processes.alive(pid, started_ns)
            }
            if live.processes and not alive and live.run.source == "api":
                self._end_dead(live, pods, now)
            else:
                live.processes = alive
                self._dead_ns.pop(run_id, None)
            quiet = live.run.source in ("slurm", "environment") and not alive
            if quiet and now.ns - self._seen_ns.setdefault(run_id, now.ns) >= ABSENT_NS:
                self._registry.end(run_id, live.run.attempt, Ending(now, "lost"))

    def _end_dead(self, live: LiveRun, pods: PodView | None, now: Moment) -> None:
        """End a run that nobody ended. In a pod, the exit code of its container may still come."""
        run_id = live.run.run_id
        known = [] if pods is None else [(pods.pod_of(ref.namespace, ref.name), ref) for ref in live.pods]
        exits = [_exit(pod, ref, live) for pod, ref in known if pod is not None]
        died_ns = self._dead_ns.setdefault(run_id, now.ns)
        if pods is not None and None in exits and now.ns - died_ns < EXIT_NS:
            return
        failed = next((found for found in exits if found and found.exit_code), None)
        ending = Ending(now, "failure", failed.exit_reason) if failed else Ending(now, "lost")
        self._registry.end(run_id, live.run.attempt, ending)
        del self._dead_ns[run_id]

    # Holds

    def _allocated(
        self,
        uuid: str,
        reading: GpuReading,
        pods: PodView | None,
        now: Moment,
        found: dict[HoldKey, Hold],
    ) -> None:
        """Holds of the containers that the GPU, or an instance of it, is allocated to."""
        if pods is None:
            return
        instances = {instance.uuid: instance.slices for instance in reading.mig_instances}
        for allocation in pods.allocations:
            place = device_ids.find(allocation.device_id, [reading])
            if place is None:
                continue
            mig_uuid = place.instance.uuid if place.instance else ""
            holder = self._holder_of_pod(allocation.pod, pods)
            key = (uuid, holder, mig_uuid)
            before = found.get(key)
            weight = instances.get(mig_uuid, 1) if mig_uuid else 1 + (before.weight if before else 0)
            found[key] = Hold(holder, now.ns, mig_uuid=mig_uuid, weight=weight)

    def _holder_of_pod(self, ref: PodRef, pods: PodView) -> Holder:
        """The run that the pod is of, or the pod itself. Several runs in it are told apart by processes."""
        pod = pods.pod_of(ref.namespace, ref.name)
        told = run_of_pod(pod) if pod is not None else None
        of_pod = [
            live for live in self._registry.live.values() if any(_same_pod(known, ref) for known in live.pods)
        ]
        named = [live for live in of_pod if told is not None and live.run.run_id == told.run_id]
        if len(of_pod) == 1 or named:
            return _holder((named or of_pod)[0], ref)
        return Holder(pod=ref, project=project_of_pod(pod) if pod is not None else "")

    def _jobs(self, now: Moment) -> Mapping[str, tuple[str, ...]]:
        if self._slurm is None:
            return {}
        try:
            jobs = self._slurm.look()
        except ReadError:
            return {}
        present = {job for found in jobs.values() for job in found}
        self._mapped_since = {job: self._mapped_since.get(job, now.wall_ns) for job in present}
        return jobs

    def _mapped(
        self,
        uuid: str,
        reading: GpuReading,
        jobs: Mapping[str, tuple[str, ...]],
        now: Moment,
        found: dict[HoldKey, Hold],
    ) -> None:
        """Holds of the Slurm jobs that a prolog has written down for the GPU."""
        index = reading.gpu.index
        places = [(str(index), "", 1)]
        places += [(f"{index}.{i.gpu_instance}", i.uuid, i.slices) for i in reading.mig_instances]
        for name, mig_uuid, weight in places:
            for job in jobs.get(name, ()):
                live = self._run_of_job(job, now)
                if live is not None:
                    holder = _holder(live, NO_POD)
                    since_ns = max(live.began.ns, self._ticked_ns)
                    found[uuid, holder, mig_uuid] = Hold(holder, since_ns, mig_uuid=mig_uuid, weight=weight)

    def _run_of_job(self, job: str, now: Moment) -> LiveRun | None:
        run_id = run_ids.slurm_id(self._cluster, job)
        live = self._registry.live.get(run_id)
        if live is None:
            live = self._begin(
                Claim(job_id=run_id, source="slurm", since_wall_ns=self._mapped_since.get(job)), now
            )
        if live is not None:
            self._seen_ns[run_id] = now.ns
        return live

    def _used(
        self,
        uuid: str,
        reading: GpuReading,
        facts: Mapping[int, ProcessFacts],
        owners: Mapping[int, Holder | None],
        now: Moment,
        found: dict[HoldKey, Hold],
    ) -> None:
        """Holds by process."""
        places = (
            [("", 1, reading.processes)]
            if not reading.mig_instances
            else [(instance.uuid, instance.slices, instance.processes) for instance in reading.mig_instances]
        )
        for mig_uuid, weight, pids in places:
            for pid in pids or ():
                if pid not in facts and pid in self._known_pids:
                    continue  # it ended between two looks
                if len(pids or ()) > 1 and _serves_others(facts.get(pid), owners.get(pid)):
                    continue  # its clients are listed, too
                holder = owners.get(pid) or _allocated_to(found, uuid, mig_uuid, facts.get(pid)) or STRANGER
                started_ns = facts[pid].started_ns if pid in facts else 0
                key, before = _taken_over(found, (uuid, holder, mig_uuid))
                since_ns = min(now.ns, max(started_ns, self._ticked_ns, self._began_ns(holder)))
                found[key] = Hold(
                    key[1],
                    min(since_ns, before.since_ns) if before else since_ns,
                    processes=(before.processes if before else frozenset()) | {pid},
                    mig_uuid=mig_uuid,
                    weight=before.weight if before else weight,
                )

    def _began_ns(self, holder: Holder) -> int:
        """When the holder's run began; what was used before is not the run's."""
        live = self._registry.live.get(holder.run_id)
        return live.began.ns if live is not None else 0

    def _since_last(self, found: dict[HoldKey, Hold], now: Moment) -> dict[HoldKey, Hold]:
        """Holds that go on keep their beginning; those that have gone are told once more, with their end."""
        gone = {key: hold for key, hold in self._holds.items() if key not in found}
        current: dict[HoldKey, Hold] = {}
        for key, hold in found.items():
            before = self._holds.get(key)
            since_ns = before.since_ns if before else max(hold.since_ns, self._left_ns(key[0], hold, gone))
            current[key] = replace(hold, since_ns=since_ns)
        told = dict(current)
        for key, hold in gone.items():
            told[key] = replace(hold, until_ns=self._ended_ns(hold, key[0], current, now))
        self._holds = current
        return told

    def _left_ns(self, uuid: str, heir: Hold, gone: Mapping[HoldKey, Hold]) -> int:
        """When the run ended that had the heir's processes until now; 0 without one."""
        runs = [
            self._registry.ended.get((hold.holder.run_id, hold.holder.attempt))
            for (of, _, _), hold in gone.items()
            if of == uuid and hold.processes & heir.processes
        ]
        return max((run.ending.at.ns for run in runs if run is not None and run.ending), default=0)

    def _ended_ns(self, hold: Hold, uuid: str, current: Mapping[HoldKey, Hold], now: Moment) -> int:
        """When a hold that has gone let go: with its run, when another took its processes, or just now."""
        ended = self._registry.ended.get((hold.holder.run_id, hold.holder.attempt))
        if ended is not None and ended.ending is not None:
            return ended.ending.at.ns
        heirs = [
            heir.since_ns
            for (heir_uuid, _, _), heir in current.items()
            if heir_uuid == uuid and heir.processes & hold.processes and heir.since_ns > self._ticked_ns
        ]
        return min(heirs, default=now.ns)

    # Host

    def _measure_cpu(
        self, facts: Mapping[int, ProcessFacts], owners: Mapping[int, Holder | None], now: Moment
    ) -> None:
        """How fast each holder has used CPU time since the last look; it counts until the next.

        Of its container or job where that is counted; of a run without one, of the processes that claimed it
        and their descendants.
        """
        elapsed_ns = now.ns - self._cpu_at_ns
        if elapsed_ns < RATE_NS:
            self._cpu_rates = {holder: r for holder, r in self._cpu_rates.items() if self._goes_on(holder)}
            return
        seen: dict[int | str, _Cpu] = {}
        for pid, holder in owners.items():
            fact = facts[pid]
            if holder is None:
                continue
            group_ns = self._processes.cgroup_cpu_ns(fact.cgroup.path) if fact.cgroup.path else None
            if group_ns is not None:
                seen[fact.cgroup.path] = _Cpu(holder, group_ns)
            else:
                seen[pid] = _Cpu(holder, fact.cpu_ns)
        for live in self._registry.live.values():
            family = {pid for root in live.processes for pid in (root, *self._processes.descendants(root))}
            holder = _holder(live, NO_POD)
            for pid, fact in self._processes.look(family - set(owners)).items():
                if fact.cgroup.path not in seen:
                    seen.setdefault(pid, _Cpu(holder, fact.cpu_ns))
        used: dict[Holder, int] = {}
        for key, cpu in seen.items():
            before = self._cpu.get(key)
            if before is not None and cpu.used_ns >= before.used_ns:
                used[cpu.holder] = used.get(cpu.holder, 0) + cpu.used_ns - before.used_ns
        self._cpu, self._cpu_at_ns = seen, now.ns
        self._cpu_rates = {holder: used_ns / elapsed_ns for holder, used_ns in used.items()}


def _allocated_to(
    found: Mapping[HoldKey, Hold], uuid: str, mig_uuid: str, fact: ProcessFacts | None
) -> Holder | None:
    """Whose a process is that nobody knows, on a device that is allocated to one container alone.

    Of one in some pod, or that we cannot see, there the allocation is the best witness;
    a process of the host itself has no business on the device, and stays a stranger.
    """
    holders = {key[1] for key in found if (key[0], key[2]) == (uuid, mig_uuid) and key[1].pod.name}
    if len(holders) != 1 or (fact is not None and not fact.cgroup.pod_uid):
        return None
    return next(iter(holders))


def _serves_others(fact: ProcessFacts | None, owner: Holder | None) -> bool:
    """Whether a process is on a GPU for others alone: the MPS server, which owns the context of its clients.

    NVML lists it as any process that computes (docs.nvidia.com/deploy/mps, nvidia-cuda-mps-server).
    """
    return fact is not None and fact.serves_mps and not (owner is not None and owner.run_id)


def _pids_on(reading: GpuReading) -> Iterable[int]:
    yield from reading.processes or ()
    for instance in reading.mig_instances:
        yield from instance.processes or ()


def _holder(live: LiveRun, pod: PodRef) -> Holder:
    return Holder(live.run.run_id, live.run.attempt, pod, live.run.project)


def _taken_over(found: dict[HoldKey, Hold], key: HoldKey) -> tuple[HoldKey, Hold | None]:
    """The hold that a process of this holder is part of: an allocation to its pod is no second one.

    An allocation that nobody has used yet is taken over by whichever run of the pod uses it.
    """
    uuid, holder, mig_uuid = key
    here = [known for known in found if known[0] == uuid and known[2] == mig_uuid]
    for known in here:
        if _same(known[1], holder):
            return known, found[known]
    for known in here:
        if holder.pod.name and _same_pod(known[1].pod, holder.pod) and not found[known].processes:
            return key, found.pop(known)
    return key, None


def _same_pod(one: PodRef, other: PodRef) -> bool:
    return (one.namespace, one.name) == (other.namespace, other.name)


def _same(one: Holder, other: Holder) -> bool:
    """The same pod, where either is one; containers of a pod are told apart only when both are known."""
    if one == other:
        return True
    return bool(one.pod.name) and _same_pod(one.pod, other.pod) and one.run_id == other.run_id


def _ref(pod: PodFacts, fact: ProcessFacts) -> PodRef:
    names = {container.container_id: container.name for container in pod.containers}
    return PodRef(pod.namespace, pod.name, names.get(fact.cgroup.container_id, ""))


def _started_wall_ns(pod: PodFacts, ref: PodRef) -> int | None:
    """Since when the container that holds the GPU has been there."""
    started = [
        container.started_wall_ns
        for container in pod.containers
        if container.exit_code is None and ref.container in ("", container.name)
    ]
    return next((at for at in started if at is not None), pod.started_wall_ns)


def _exit(pod: PodFacts, ref: PodRef, live: LiveRun) -> ContainerFacts | None:
    """The container in which a run's process has died, once it has ended: not one that came after it."""
    for container in pod.containers:
        is_later = container.started_wall_ns is not None and container.started_wall_ns > live.began.wall_ns
        if ref.container in ("", container.name) and not is_later:
            return container if container.exit_code is not None else None
    return None


def _pod_result(pods: Iterable[PodFacts | None]) -> tuple[Result, str]:
    """How a run ended whose pods are over: failure when one says so, success when all do, else lost."""
    results = [_POD_RESULTS.get(pod.phase) if pod is not None else None for pod in pods]
    if "failure" in results:
        return "failure", next((pod.reason for pod in pods if pod is not None and pod.reason), "")
    if results and all(result == "success" for result in results):
        return "success", ""
    return "lost", ""
