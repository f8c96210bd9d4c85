"""The life of runs on this node: begin, progress, phases, end.

Pure bookkeeping in memory, owned by the one writer: no clock, no process and no disk is touched here.
A run begins when somebody says so (the API) or when a pod, a job or a marked process of it is seen,
and ends when somebody says so or when the last of these has gone.
An attempt that has ended is never opened again; a later begin of the same id is the next attempt.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from wattspan.runs import NO_POD, NO_PROGRESS, Phase, PodRef, Progress, Result, Run, RunSource
from wattspan.units import NS_PER_S
from wattspan.workloads import run_ids

KEEP_ENDED_NS: Final = 300 * NS_PER_S
"""A finished run's series stay this long with their final values."""

MAX_OPEN_PHASES: Final = 32
"""Phases that are open at once; a job that never ends them must not fill the memory."""


class RefusedError(Exception):
    """A request about a run that cannot be met.

    Args:
        status: as HTTP knows it: 404 no such run, 409 it is over or another attempt runs.
        detail: for whoever asked.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks."""

    ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What begins a run.

    Attributes:
        run_id: given outright, or empty.
        job_id: the id that the job gives (pod, Slurm, marker); empty outside jobs.
        attempt: given by the job; None to count by ourselves.
        name, project, group, framework, user, namespace: as in `Run`.
        source: how it was found.
        total_steps, budget_co2e_g, nodes_expected, rank_zero: as in `Run` and `Progress`.
        parent_trace_id, parent_span_id: as in `Run`.
        process: pid and start (CLOCK_MONOTONIC) of whoever holds it; None for pods.
        pod: it runs in; empty outside Kubernetes.
    """

    run_id: str = ""
    job_id: str = ""
    attempt: int | None = None
    name: str = ""
    project: str = ""
    group: str = ""
    framework: str = ""
    user: str = ""
    namespace: str = ""
    source: RunSource = "api"
    total_steps: int | None = None
    budget_co2e_g: float | None = None
    nodes_expected: int | None = None
    rank_zero: bool = True
    parent_trace_id: str = ""
    parent_span_id: str = ""
    process: tuple[int, int] | None = None
    pod: PodRef = NO_POD


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    at: Moment
    result: Result
    error_type: str = ""


@dataclass(slots=True)
class LiveRun:
    """An attempt that runs, or has just ended. Changed by the registry alone.

    Attributes:
        run: what it is.
        began: when.
        processes: pid to start of those that hold it by their own word.
        pods: that are of it.
        seen_by: whatever still vouches for it without having said so: pods, jobs, marked processes.
        progress: told so far.
        step_high: the highest step ever told, which a resume has to pass.
        last_step: the last step told.
        repeating: steps are being made again after a resume.
        open_phases: begun and not ended.
        closed_phases: ended since they were last taken.
        tracks: how often `track()` was called in the job that this is.
        ending: None while it runs.
    """

    run: Run
    began: Moment
    processes: dict[int, int] = field(default_factory=dict)
    pods: set[PodRef] = field(default_factory=set)
    progress: Progress = NO_PROGRESS
    step_high: int | None = None
    last_step: int | None = None
    repeating: bool = False
    open_phases: dict[tuple[str, int | None], Moment] = field(default_factory=dict)
    closed_phases: list[Phase] = field(default_factory=list)
    tracks: int = 0
    ending: Ending | None = None


class Registry:
    """The runs of this node.

    Args:
        live: of an earlier daemon, that were running when it ended.
        attempts: the last attempt known to have ended, by run id.

    Attributes:
        changes: goes up whenever a run begins, ends or is joined.
    """

    def __init__(self, live: Iterable[LiveRun] = (), attempts: Mapping[str, int] | None = None) -> None:
        self.changes = 0
        self._live = {run.run.run_id: run for run in live}
        self._ended: dict[str, LiveRun] = {}
        self._attempts = dict(attempts or {})

    @property
    def live(self) -> Mapping[str, LiveRun]:
        """Attempts that run, by run id."""
        return self._live

    @property
    def ended(self) -> Mapping[str, LiveRun]:
        """Attempts that ended less than five minutes ago, by run id."""
        return self._ended

    def begin(self, claim: Claim, now: Moment) -> tuple[LiveRun, bool]:
        """Begin a run, or join the one that it already is.

        Returns:
            The run, and whether this began it.

        Raises:
            RefusedError: 409, an attempt that has ended is never opened again.
        """
        run_id = claim.run_id or claim.job_id
        if not run_id:
            run_id = run_ids.named_id(claim.name, run_ids.ulid(now.wall_ns))
        known = self._live.get(run_id)
        if known is not None and claim.attempt in (None, known.run.attempt):
            if claim.source == "api" and not claim.run_id:
                return self._track_in_job(known, claim, now)
            self._join(known, claim)
            return known, False
        if known is not None:
            self._end(known, Ending(now, "lost"))  # another attempt has taken its place
        return self._open(run_id, claim, now), True

    def progress(self, run_id: str, attempt: int | None, told: Progress) -> LiveRun:
        """Take what rank 0 tells: totals since the run's start.

        The first value of an attempt is a baseline; one below an earlier value is a resume, and what lies
        below the highest is counted as repeated.
        """
        live = self._running(run_id, attempt)
        before = live.progress
        gained, repeated = _advance(live, told.steps) if told.steps else (0, 0)
        live.progress = Progress(
            steps=before.steps + gained,
            samples=max(before.samples, told.samples),
            tokens=max(before.tokens, told.tokens),
            total_steps=told.total_steps or before.total_steps,
            loss=told.loss if told.loss is not None else before.loss,
            repeated_steps=before.repeated_steps + repeated,
        )
        return live

    def begin_phase(self, run_id: str, attempt: int | None, name: str, index: int | None, at: Moment) -> None:
        """Open a phase; one that is open already stays as it is."""
        live = self._running(run_id, attempt)
        if len(live.open_phases) < MAX_OPEN_PHASES:
            live.open_phases.setdefault((name, index), at)

    def end_phase(self, run_id: str, attempt: int | None, name: str, index: int | None, at: Moment) -> None:
        """Close a phase; one that is not open is passed over."""
        live = self._running(run_id, attempt)
        began = live.open_phases.pop((name, index), None)
        if began is not None:
            live.closed_phases.append(Phase(name, index, began.wall_ns, at.wall_ns))

    def end(self, run_id: str, attempt: int | None, ending: Ending) -> LiveRun:
        """End a run. Ending it once more changes nothing."""
        over = self._ended.get(run_id)
        if run_id not in self._live and over is not None and attempt in (None, over.run.attempt):
            return over
        live = self._running(run_id, attempt)
        self._end(live, ending)
        return live

    def find(self, run_id: str, attempt: int | None = None) -> LiveRun:
        """A run that is live or has just ended.

        Raises:
            RefusedError: 404.
        """
        for known in (self._live.get(run_id), self._ended.get(run_id)):
            if known is not None and attempt in (None, known.run.attempt):
                return known
        raise RefusedError(404, f"no run {run_id} is known on this node")

    def forget(self, now_ns: int) -> list[LiveRun]:
        """Let go of runs that ended five minutes ago; gives those that went."""
        gone = [
            run for run in self._ended.values() if run.ending and now_ns - run.ending.at.ns >= KEEP_ENDED_NS
        ]
        for run in gone:
            del self._ended[run.run.run_id]
        return gone

    def _open(self, run_id: str, claim: Claim, now: Moment) -> LiveRun:
        last = self._attempts.get(run_id)
        attempt = claim.attempt if claim.attempt is not None else (0 if last is None else last + 1)
        if last is not None and attempt <= last:
            raise RefusedError(409, f"attempt {attempt} of run {run_id} has ended and is never opened again")
        run = Run(
            run_id=run_id,
            attempt=attempt,
            name=run_ids.plain(claim.name),
            project=run_ids.plain(claim.project),
            group=run_ids.plain(claim.group),
            framework=run_ids.plain(claim.framework),
            source=claim.source,
            user=claim.user,
            namespace=claim.namespace,
            rank_zero=claim.rank_zero,
            nodes_expected=claim.nodes_expected,
            parent_trace_id=claim.parent_trace_id,
            parent_span_id=claim.parent_span_id,
            budget_co2e_g=claim.budget_co2e_g,
        )
        live = LiveRun(run, now, progress=Progress(total_steps=claim.total_steps))
        before = self._ended.pop(run_id, None)
        if before is not None:
            # The counters of a run go on over its attempts; steps are held until the old height is passed.
            live.progress = replace(
                before.progress, total_steps=claim.total_steps or before.progress.total_steps
            )
            live.step_high = before.step_high
        live.tracks = int(claim.source == "api" and bool(claim.job_id))
        self._vouch(live, claim)
        self._live[run_id] = live
        self.changes += 1
        return live

    def _track_in_job(self, known: LiveRun, claim: Claim, now: Moment) -> tuple[LiveRun, bool]:
        """`track()` inside a job that has an id joins it; a further one in that job is ``<id>.2``."""
        name = run_ids.plain(claim.name)
        if known.tracks and claim.process and claim.process[0] in known.processes and known.run.name == name:
            return known, False  # the same call, told twice
        known.tracks += 1
        if known.tracks > 1:
            further = run_ids.further_id(known.run.run_id, known.tracks)
            return self._open(further, replace(claim, run_id=further, attempt=known.run.attempt), now), True
        known.run = replace(
            known.run,
            name=name or known.run.name,
            project=known.run.project or run_ids.plain(claim.project),
            group=known.run.group or run_ids.plain(claim.group),
            framework=known.run.framework or run_ids.plain(claim.framework),
            budget_co2e_g=known.run.budget_co2e_g or claim.budget_co2e_g,
        )
        self._join(known, claim)
        return known, False

    def _join(self, live: LiveRun, claim: Claim) -> None:
        self._vouch(live, claim)
        self.changes += 1
        if claim.rank_zero and not live.run.rank_zero:
            live.run = replace(live.run, rank_zero=True)
        if claim.total_steps:
            live.progress = replace(live.progress, total_steps=claim.total_steps)

    @staticmethod
    def _vouch(live: LiveRun, claim: Claim) -> None:
        if claim.process is not None:
            live.processes[claim.process[0]] = claim.process[1]
        if claim.pod.name:
            live.pods.add(claim.pod)

    def _running(self, run_id: str, attempt: int | None) -> LiveRun:
        live = self._live.get(run_id)
        if live is None:
            self.find(run_id)  # a run that nobody knows is another refusal than one that is over
            raise RefusedError(409, f"run {run_id} has ended")
        if attempt not in (None, live.run.attempt):
            raise RefusedError(409, f"run {run_id} is at attempt {live.run.attempt}, not {attempt}")
        return live

    def _end(self, live: LiveRun, ending: Ending) -> None:
        live.ending = ending
        self.changes += 1
        for (name, index), began in live.open_phases.items():
            live.closed_phases.append(Phase(name, index, began.wall_ns, ending.at.wall_ns))
        live.open_phases.clear()
        run_id = live.run.run_id
        self._live.pop(run_id, None)
        self._ended[run_id] = live
        self._attempts[run_id] = live.run.attempt


def _advance(live: LiveRun, step: int) -> tuple[int, int]:
    """Steps gained and steps repeated by hearing that `step` have been made in all."""
    high, last = live.step_high, live.last_step
    live.last_step = step
    if high is None:
        live.step_high = step
        return 0, 0  # the baseline
    live.step_high = max(high, step)
    since = step if last is None or step < last else last
    live.repeating = step < high
    repeated = max(0, min(step, high) - since)
    return max(0, step - high), repeated
