"""The life of runs on this node: begin, progress, phases, end.

Pure bookkeeping in memory, owned by the one writer: no clock and no process is touched here, and no disk
unless a run begins that ended too long ago to be remembered.
A run begins when somebody says so (the API) or when a pod, a job or a marked process of it is seen,
and ends when somebody says so or when the last of these has gone.
An attempt that has ended is never opened again; a later begin of the same id is the next attempt.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from wattspan.runs import MAX_COUNT, NO_POD, NO_PROGRESS, Phase, PodRef, Progress, Result, Run, RunSource
from wattspan.units import NS_PER_S
from wattspan.workloads import run_ids

KEEP_ENDED_NS: Final = 300 * NS_PER_S
"""A finished run's series stay this long with their final values."""

MAX_OPEN_PHASES: Final = 32
"""Phases that are open at once; a job that never ends them must not fill the memory."""

MAX_KEYS: Final = 32
"""Claims of one run that are known again; whoever asks again does so within seconds."""

NAMED_AFTER_NS: Final = 30 * NS_PER_S
"""What a run is called is fixed by the first `track()` in it, and after this time without one."""

MAX_REMEMBERED: Final = 10_000
"""Run ids whose last attempt is remembered, 300 bytes each; of more, those that ended first are looked up."""

COUNTS: Final = ("steps", "samples", "tokens")
"""What progress counts."""


class RefusedError(Exception):
    """A request about a run that cannot be met.

    Args:
        status: as HTTP knows it: 404 no such run, 409 it is over or another attempt runs, 429 no further one.
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
        key: a ULID that whoever claims has drawn for this claim alone; empty without one.
            A claim that is made again has the same one, and where nothing else names the run, so has its id.
        attempt: given by the job; None to count by ourselves.
        name, project, group, framework, namespace: as in `Run`.
        source: how it was found.
        total_steps, budget_co2e_g, nodes_expected, rank_zero: as in `Run` and `Progress`.
        parent_trace_id, parent_span_id: as in `Run`.
        process: pid and start (CLOCK_MONOTONIC) of whoever holds it; None for pods.
        uid: the user of the process; None for pods.
        handed: whoever claims it was started by the run itself, as the command of ``wattspan run`` is.
        pod: it runs in; empty outside Kubernetes.
        since_wall_ns: since when whoever vouches for it has been there; None when that is not known.
        full: whoever claims has as many runs as he may; he joins one, and begins none.
    """

    run_id: str = ""
    job_id: str = ""
    key: str = ""
    attempt: int | None = None
    name: str = ""
    project: str = ""
    group: str = ""
    framework: str = ""
    namespace: str = ""
    source: RunSource = "api"
    total_steps: int | None = None
    budget_co2e_g: float | None = None
    nodes_expected: int | None = None
    rank_zero: bool = True
    parent_trace_id: str = ""
    parent_span_id: str = ""
    process: tuple[int, int] | None = None
    uid: int | None = None
    handed: bool = False
    pod: PodRef = NO_POD
    since_wall_ns: int | None = None
    full: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a run's progress: totals since its start; None for what was not said."""

    steps: int | None = None
    samples: int | None = None
    tokens: int | None = None
    total_steps: int | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    at: Moment
    result: Result
    error_type: str = ""


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The last attempt of a run that is known to have ended.

    Attributes:
        number: from 0.
        ended_wall_ns: when.
        progress: the highest told until then, over all attempts: where the next one goes on, however late.
    """

    number: int
    ended_wall_ns: int
    progress: Progress = NO_PROGRESS


@dataclass(slots=True)
class LiveRun:
    """An attempt that runs, or has just ended. Changed by the registry alone.

    Attributes:
        run: what it is.
        began: when.
        processes: pid to start of those that hold it by their own word.
        uids: the users whose processes are of it.
        began_by: the user who began it, or was the first one seen in it; None outside a machine's own users.
        pods: that are of it.
        joined: a `track()` is in it; the next one is a further run.
        keys: of the claims that are in it, the last one last.
        progress: the highest told so far, over all attempts.
        counted_from: where the run's counters began, by count; a count that nobody has told is absent.
        before: where this attempt began, by count.
        repeated_before: steps that earlier attempts have repeated.
        repeated_from: of those, what the run's counters do not hold, because they have begun anew since.
        last_step: the last step told in this attempt.
        repeating: steps are being made again after a resume.
        open_phases: begun and not ended.
        closed_phases: ended since they were last taken.
        heard_ns: when somebody last told something of it, or a process was seen that names it; None when
            nobody has since this daemon began.
        ending: None while it runs.
    """

    run: Run
    began: Moment
    processes: dict[int, int] = field(default_factory=dict)
    uids: set[int] = field(default_factory=set)
    began_by: int | None = None
    pods: set[PodRef] = field(default_factory=set)
    joined: bool = False
    keys: dict[str, None] = field(default_factory=dict)
    progress: Progress = NO_PROGRESS
    counted_from: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    repeated_before: int = 0
    repeated_from: int = 0
    last_step: int | None = None
    repeating: bool = False
    open_phases: dict[tuple[str, int | None], Moment] = field(default_factory=dict)
    closed_phases: list[Phase] = field(default_factory=list)
    heard_ns: int | None = None
    ending: Ending | None = None

    def counted(self, name: str) -> int:
        """What one of `COUNTS` has grown by since it was first told, over all attempts."""
        if name not in self.counted_from:
            return 0
        highest: int = getattr(self.progress, name)
        return highest - self.counted_from[name]

    def named(self, now_wall_ns: int) -> bool:
        """Whether what it is called is fixed."""
        found = self.run.source != "api" and not self.joined and self.ending is None
        return not found or now_wall_ns - self.began.wall_ns >= NAMED_AFTER_NS


class Registry:
    """The runs of this node.

    Args:
        live: of an earlier daemon, that were running when it ended.
        last: the last attempt known to have ended, by run id, those that ended first at first.
        ended: attempts that ended less than five minutes ago, under an earlier daemon.
        user_of: the name of a user by uid, None while it is looked up; None where no names are kept.
        recall: the last attempt of a run that is remembered no more. Asked when one begins that is not among
            the `MAX_REMEMBERED`; it may refuse.

    Attributes:
        changes: goes up whenever a run begins, ends or is joined.
    """

    def __init__(
        self,
        live: Iterable[LiveRun] = (),
        last: Mapping[str, LastAttempt] | None = None,
        ended: Iterable[LiveRun] = (),
        user_of: Callable[[int], str | None] | None = None,
        recall: Callable[[str], LastAttempt | None] = lambda _: None,
    ) -> None:
        self.changes = 0
        self._user_of = user_of
        self._recall = recall
        self._live = {run.run.run_id: run for run in live}
        self._ended = {(run.run.run_id, run.run.attempt): run for run in ended}
        self._last = dict(last or {})

    @property
    def live(self) -> Mapping[str, LiveRun]:
        """Attempts that run, by run id."""
        return self._live

    @property
    def ended(self) -> Mapping[tuple[str, int], LiveRun]:
        """Attempts that ended less than five minutes ago, by run id and attempt, the last one last."""
        return self._ended

    def begin(self, claim: Claim, now: Moment) -> tuple[LiveRun, bool]:
        """Begin a run, or join the one that it already is.

        Returns:
            The run, and whether this began it.

        Raises:
            RefusedError: 409, an attempt that has ended is never opened again; 429, there are too many.
        """
        told = self.claimed_with(claim.key)
        if told is not None and claim.run_id in ("", told.run.run_id):
            return told, False  # the same claim, made twice
        if claim.source == "api" and claim.job_id and not claim.run_id:
            return self._track(claim, now)
        run_id = claim.run_id or claim.job_id or self._own_id(claim, now)
        known = self._live_of(run_id, claim, now)
        if known is None:
            return self._open(run_id, claim, now), True
        self._join(known, claim)
        return known, False

    def name_users(self) -> None:
        """Give each run the name of its user, as soon as that is known. Called at each tick."""
        if self._user_of is None:
            return
        for live in (*self._live.values(), *self._ended.values()):
            if live.began_by is not None and not live.run.user and (name := self._user_of(live.began_by)):
                live.run = replace(live.run, user=run_ids.plain(name))

    def progress(self, run_id: str, attempt: int | None, told: Told) -> LiveRun:
        """Take what rank 0 tells.

        The first value of an attempt is a baseline; one below an earlier value is a resume, and what lies
        below the highest is counted as repeated.
        """
        live = self._running(run_id, attempt)
        before = live.progress
        repeated = 0 if told.steps is None else _repeated(live, told.steps)
        highest: dict[str, int] = {}
        for name in COUNTS:
            value: int | None = getattr(told, name)
            if value is not None:
                live.counted_from.setdefault(name, value)
                live.before.setdefault(name, value)
                highest[name] = max(value, getattr(before, name))
        live.progress = replace(
            before,
            **highest,
            total_steps=told.total_steps or before.total_steps,
            loss=told.loss if told.loss is not None else before.loss,
            # Steps back and forth may come to more than an account of the journal holds.
            repeated_steps=min(before.repeated_steps + repeated, MAX_COUNT),
        )
        return live

    def begin_phase(self, run_id: str, attempt: int | None, name: str, index: int | None, at: Moment) -> None:
        """Open a phase; one that is open already stays as it is."""
        live = self._running(run_id, attempt)
        if len(live.open_phases) < MAX_OPEN_PHASES:
            live.open_phases.setdefault((name, index), _later(at, live.began))

    def end_phase(self, run_id: str, attempt: int | None, name: str, index: int | None, at: Moment) -> None:
        """Close a phase; one that is not open is passed over."""
        live = self._running(run_id, attempt)
        began = live.open_phases.pop((name, index), None)
        if began is not None:
            live.closed_phases.append(Phase(name, index, began.wall_ns, _later(at, began).wall_ns))

    def end(self, run_id: str, attempt: int | None, ending: Ending) -> LiveRun:
        """End a run. Ending it once more changes nothing."""
        if run_id not in self._live or attempt not in (None, self._live[run_id].run.attempt):
            over = self._just_ended(run_id, attempt)
            if over is not None:
                return over
        live = self._running(run_id, attempt)
        self._end(live, ending)
        return live

    def heard(self, live: LiveRun, now: Moment) -> None:
        """Somebody has told something of a run, or a process was seen that names it."""
        live.heard_ns = now.ns

    def end_silent(self, now: Moment, silence_ns: int) -> None:
        """End runs of which neither process nor pod is seen here and nothing has been heard for so long.

        Whoever began them over the network may have vanished; they are lost at this moment.
        """
        for live in list(self._live.values()):
            if live.run.source != "api" or live.processes or live.pods:
                continue
            if live.heard_ns is None:
                live.heard_ns = now.ns
            if now.ns - live.heard_ns >= silence_ns:
                self._end(live, Ending(now, "lost"))

    def find(self, run_id: str, attempt: int | None = None) -> LiveRun:
        """A run that is live or has just ended.

        Raises:
            RefusedError: 404.
        """
        live = self._live.get(run_id)
        if live is not None and attempt in (None, live.run.attempt):
            return live
        over = self._just_ended(run_id, attempt)
        if over is None:
            raise RefusedError(404, f"no run {run_id} is known on this node")
        return over

    def newest(self, run_id: str) -> LiveRun | None:
        """The attempt that runs, else the one that has just ended."""
        return self._live.get(run_id) or self._just_ended(run_id, None)

    def claimed_with(self, key: str) -> LiveRun | None:
        """The run that goes on and that a claim with this key is in."""
        return next((live for live in self._live.values() if key and key in live.keys), None)

    def forget(self, now_ns: int) -> list[LiveRun]:
        """Let go of runs that ended five minutes ago; gives those that went."""
        gone = [
            run for run in self._ended.values() if run.ending and now_ns - run.ending.at.ns >= KEEP_ENDED_NS
        ]
        for run in gone:
            del self._ended[run.run.run_id, run.run.attempt]
        return gone

    @staticmethod
    def _own_id(claim: Claim, now: Moment) -> str:
        """The id of a run that nothing else names."""
        return run_ids.named_id(claim.name, claim.key or run_ids.ulid(now.wall_ns))

    def _live_of(self, run_id: str, claim: Claim, now: Moment) -> LiveRun | None:
        """The attempt that a claim means, if it runs. A later attempt takes the place of the one that runs.

        Raises:
            RefusedError: 409, an earlier one is meant.
        """
        known = self._live.get(run_id)
        if known is None or claim.attempt is None or claim.attempt == known.run.attempt:
            return known
        if claim.attempt < known.run.attempt:
            raise RefusedError(409, f"run {run_id} is at attempt {known.run.attempt}, not {claim.attempt}")
        self._end(known, Ending(now, "lost"))
        return None

    def _track(self, claim: Claim, now: Moment) -> tuple[LiveRun, bool]:
        """`track()` inside a job that has an id joins it; a further one in that job is ``<id>.2``, ``.3``."""
        pid = claim.process[0] if claim.process else 0
        for number in count(1):
            run_id = claim.job_id if number == 1 else run_ids.further_id(claim.job_id, number)
            known = self._live_of(run_id, claim, now)
            if known is None:
                if self._is_over(run_id, claim):
                    continue
                live = self._open(run_id, claim, now)
                live.joined = True
                return live, True
            if not known.joined or (claim.handed and pid not in known.processes):
                self._name(known, claim, now)
                self._join(known, claim)
                known.joined = True
                return known, False
            if pid in known.processes and known.run.name == run_ids.plain(claim.name):
                return known, False  # the same call, told twice
        raise AssertionError("there is always a next number")

    def _is_over(self, run_id: str, claim: Claim) -> bool:
        """Whether the attempt that a claim would open has ended, or its claimant was there at the end."""
        last = self._last_of(run_id)
        if last is None:
            return False
        if claim.attempt is not None:
            return claim.attempt <= last.number
        return claim.since_wall_ns is not None and claim.since_wall_ns <= last.ended_wall_ns

    def _open(self, run_id: str, claim: Claim, now: Moment) -> LiveRun:
        last = self._last_of(run_id)
        attempt = claim.attempt if claim.attempt is not None else (last.number + 1 if last else 0)
        # What was already there when an attempt ended is the rest of it: only a new begin is a new attempt.
        if (last is not None and attempt <= last.number) or (
            claim.source != "api" and self._is_over(run_id, claim)
        ):
            raise RefusedError(409, f"attempt {attempt} of run {run_id} has ended and is never opened again")
        if claim.full:
            raise RefusedError(429, "too many runs of this user, pod or token go on; end some of them first")
        run = Run(
            run_id=run_id,
            attempt=attempt,
            name=run_ids.plain(claim.name),
            project=run_ids.plain(claim.project),
            group=run_ids.plain(claim.group),
            framework=run_ids.plain(claim.framework),
            source=claim.source,
            namespace=claim.namespace,
            rank_zero=claim.rank_zero,
            nodes_expected=claim.nodes_expected,
            parent_trace_id=claim.parent_trace_id,
            parent_span_id=claim.parent_span_id,
            budget_co2e_g=claim.budget_co2e_g,
        )
        live = LiveRun(run, now, progress=Progress(total_steps=claim.total_steps))
        before = self._just_ended(run_id, None)
        if before is not None:
            _go_on(live, before)
        elif last is not None:
            _go_on_late(live, last.progress)
        self._vouch(live, claim)
        self._live[run_id] = live
        self.changes += 1
        return live

    def _just_ended(self, run_id: str, attempt: int | None) -> LiveRun | None:
        """An attempt that ended less than five minutes ago; with None the last one."""
        found = [run for (known, _), run in self._ended.items() if known == run_id]
        return next((run for run in reversed(found) if attempt in (None, run.run.attempt)), None)

    @staticmethod
    def _name(known: LiveRun, claim: Claim, now: Moment) -> None:
        """What a run that was found is called, says the first `track()` in it, if it is soon enough."""
        if known.named(now.wall_ns):
            return
        known.run = replace(
            known.run,
            name=run_ids.plain(claim.name) or known.run.name,
            project=known.run.project or run_ids.plain(claim.project),
            group=known.run.group or run_ids.plain(claim.group),
            framework=known.run.framework or run_ids.plain(claim.framework),
        )

    def _join(self, live: LiveRun, claim: Claim) -> None:
        self._vouch(live, claim)
        self.changes += 1
        if claim.rank_zero and not live.run.rank_zero:
            live.run = replace(live.run, rank_zero=True)
        if claim.budget_co2e_g and live.run.budget_co2e_g is None:
            live.run = replace(live.run, budget_co2e_g=claim.budget_co2e_g)
        if claim.total_steps:
            live.progress = replace(live.progress, total_steps=claim.total_steps)

    @staticmethod
    def _vouch(live: LiveRun, claim: Claim) -> None:
        if claim.key:
            live.keys[claim.key] = None
            while len(live.keys) > MAX_KEYS:
                del live.keys[next(iter(live.keys))]
        if claim.process is not None:
            live.processes[claim.process[0]] = claim.process[1]
        if claim.uid is not None:
            live.uids.add(claim.uid)
            # A number in a pod is none of this machine's users.
            if live.began_by is None and not claim.namespace and not claim.pod.name:
                live.began_by = claim.uid
        pod = claim.pod
        if pod.name and (
            pod.container or not any((p.namespace, p.name) == (pod.namespace, pod.name) for p in live.pods)
        ):
            live.pods.discard(replace(pod, container=""))  # the same pod, by whoever did not know more
            live.pods.add(pod)

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
            ended = _later(ending.at, began)
            live.closed_phases.append(Phase(name, index, began.wall_ns, ended.wall_ns))
        live.open_phases.clear()
        run_id = live.run.run_id
        self._live.pop(run_id, None)
        self._ended[run_id, live.run.attempt] = live
        self._remember(run_id, LastAttempt(live.run.attempt, ending.at.wall_ns, live.progress))

    def _last_of(self, run_id: str) -> LastAttempt | None:
        """The last attempt of a run that has ended."""
        last = self._last.get(run_id)
        if last is None and len(self._last) >= MAX_REMEMBERED and (last := self._recall(run_id)) is not None:
            self._remember(run_id, last)  # whoever asks in vain asks again
        return last

    def _remember(self, run_id: str, last: LastAttempt) -> None:
        self._last.pop(run_id, None)
        self._last[run_id] = last
        while len(self._last) > MAX_REMEMBERED:
            del self._last[next(iter(self._last))]


def _go_on(live: LiveRun, before: LiveRun) -> None:
    """The counters of a run go on over its attempts; they hold until the old height is passed."""
    total_steps = live.progress.total_steps or before.progress.total_steps
    live.progress = replace(before.progress, total_steps=total_steps)
    live.counted_from = dict(before.counted_from)
    live.before = {name: getattr(before.progress, name) for name in before.counted_from}
    live.repeated_before = before.progress.repeated_steps
    live.repeated_from = before.repeated_from


def _go_on_late(live: LiveRun, progress: Progress) -> None:
    """The same for an attempt whose run's series are gone: its counters begin anew where it had come to."""
    live.progress = replace(progress, total_steps=live.progress.total_steps or progress.total_steps)
    live.counted_from = {name: value for name in COUNTS if (value := getattr(progress, name))}
    live.before = dict(live.counted_from)
    live.repeated_before = live.repeated_from = progress.repeated_steps


def _repeated(live: LiveRun, step: int) -> int:
    """Steps made again, by hearing that `step` have been made in all."""
    last, live.last_step = live.last_step, step
    if "steps" not in live.counted_from:
        return 0  # the baseline
    highest = live.progress.steps
    live.repeating = step < highest
    return 0 if last is None else max(0, min(step, highest) - last)


def _later(one: Moment, other: Moment) -> Moment:
    """The later by the wall clock."""
    return one if one.wall_ns >= other.wall_ns else other
