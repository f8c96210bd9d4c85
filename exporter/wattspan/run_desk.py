"""Where commands from the API meet the registry: each is done before a tick and answered after its commit."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from wattspan.errors import ReadError
from wattspan.journal.run_book import RunBook, progress_ratio
from wattspan.publish.commands import (
    BeginRun,
    Begun,
    Caller,
    Command,
    Ended,
    EndRun,
    Envelope,
    Mailbox,
    Noted,
    NotePhases,
    ProblemReply,
    Reply,
    Reported,
    ReportProgress,
)
from wattspan.runs import NO_POD, PodRef
from wattspan.workloads import run_ids
from wattspan.workloads.registry import Claim, Ending, LiveRun, Moment, RefusedError, Registry, Told

logger = logging.getLogger(__name__)

ROOT: Final = 0

MAX_RUNS: Final = 200
"""Runs of one user, pod or token that go on at a time: each has a dozen series of the node's few thousand."""

_OUR_FAULT: Final = ProblemReply(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the daemon's own")


@dataclass(frozen=True, slots=True)
class Job:
    """The job that a caller belongs to, as the machine knows it.

    Attributes:
        run_id: empty when it belongs to none.
        attempt: as the job counts; None when it does not.
        pod: it runs in; empty outside Kubernetes.
        project, group, namespace: of the job.
        witnessed: more than the caller's own word says that it is of this job.
        contained: the caller runs in a container, so its uid 0 is not this machine's root.
    """

    run_id: str = ""
    attempt: int | None = None
    pod: PodRef = NO_POD
    project: str = ""
    group: str = ""
    namespace: str = ""
    witnessed: bool = False
    contained: bool = False


class RunDesk:
    """Does commands and answers them.

    Args:
        registry, book: of this node's runs.
        mailbox: where commands come from.
        job_of: the job of a caller, by what the machine knows and, where it knows nothing, by its markers.
        alive: whether the process of a pid that started then (CLOCK_MONOTONIC) still runs.
    """

    def __init__(
        self,
        registry: Registry,
        book: RunBook,
        mailbox: Mailbox,
        job_of: Callable[[Caller, Mapping[str, str]], Job],
        alive: Callable[[int, int], bool],
    ) -> None:
        self._registry = registry
        self._book = book
        self._mailbox = mailbox
        self._job_of = job_of
        self._alive = alive
        self._answers: list[tuple[Envelope, Callable[[], Reply | None]]] = []

    def work(self, now: Moment) -> bool:
        """Do every command that waits. Called by the writer before its look.

        Returns:
            Whether something began or ended, so that a look at this moment is wanted.
        """
        boundary = False
        for envelope in self._mailbox.take():
            try:
                self._answers.append((envelope, self._do(envelope.command, now)))
                boundary = boundary or not isinstance(envelope.command, ReportProgress)
            except RefusedError as error:
                envelope.refuse(ProblemReply(HTTPStatus(error.status), error.detail))
            except ReadError as error:
                envelope.refuse(
                    ProblemReply(HTTPStatus.SERVICE_UNAVAILABLE, f"who asks is not known: {error}")
                )
            except Exception:  # whatever a client says, metering goes on
                logger.exception("a command about a run failed")
                envelope.refuse(_OUR_FAULT)
        return boundary

    def answer(self, journal_error: str) -> None:
        """Answer what was done, now that it is committed; called by the writer after its commit.

        Who has ended a run has an answer once the run's last energy is known.
        """
        answers, self._answers = self._answers, []
        for envelope, reply in answers:
            if journal_error:
                detail = f"it is noted, and not yet on disk: {journal_error}"
                envelope.refuse(ProblemReply(HTTPStatus.SERVICE_UNAVAILABLE, detail))
                continue
            try:
                said = reply()
            except Exception:  # it is done and committed; what cannot be said of it costs no metering either
                logger.exception("an answer about a run failed")
                envelope.refuse(_OUR_FAULT)
                continue
            if said is not None:
                envelope.answer(said)
            else:
                self._answers.append((envelope, reply))

    def _do(self, command: Command, now: Moment) -> Callable[[], Reply | None]:
        match command:
            case BeginRun():
                return self._begin(command, now)
            case ReportProgress():
                return self._progress(command, now)
            case NotePhases():
                self._reachable(command, now)
                for event in command.events:
                    note = self._registry.begin_phase if event.begins else self._registry.end_phase
                    at = _at(event.at_wall_ns, now)
                    note(command.run_id, command.attempt, event.name, event.index, at)
                return Noted
            case EndRun():
                live = self._reachable(command, now)
                ending = Ending(now, command.result, run_ids.plain(command.error_type))
                self._registry.end(command.run_id, command.attempt, ending)
                if self._book.is_closed(live):
                    ended = Ended(self._book.record(live))  # now: the coming tick may let go of the run
                    return lambda: ended
                return lambda: None if self._book.awaits(live) else Ended(self._book.record(live))

    def _begin(self, command: BeginRun, now: Moment) -> Callable[[], Reply]:
        job = self._job_of(command.caller, command.markers)
        own_id = run_ids.named_id(command.name, command.key) if command.key else ""
        known = self._registry.claimed_with(command.key) or self._registry.newest(
            command.run_id or job.run_id or own_id
        )
        if known is not None and not _may_write(command.caller, job, known):
            raise RefusedError(404, f"no run {known.run.run_id} is known on this node")
        namespace = _namespace(command, job, known)
        # The job counts its own run, and says nothing of another one that is begun in it.
        own = command.run_id in ("", job.run_id)
        attempt = job.attempt if own and command.attempt is None else command.attempt
        started_anew = known is not None and self._is_started_anew(command, attempt, known)
        if known is not None and started_anew:
            self._registry.end(known.run.run_id, known.run.attempt, Ending(now, "lost"))
        several = (command.world_size or 1) > 1
        process = command.process
        live, created = self._registry.begin(
            Claim(
                run_id=command.run_id,
                job_id=job.run_id,
                key=command.key,
                attempt=attempt,
                name=command.name,
                project=command.project or job.project,
                group=command.group or job.group,
                framework=command.framework,
                namespace=namespace,
                total_steps=command.total_steps,
                budget_co2e_g=command.budget_co2e_g,
                # A run that says nothing of others is alone; one with other ranks may or may not be.
                nodes_expected=command.nodes_expected or (None if several else 1),
                rank_zero=not command.rank,
                parent_trace_id=command.parent_trace_id,
                parent_span_id=command.parent_span_id,
                process=None if process is None else (process.pid, process.started_ns),
                uid=command.caller.uid,
                full=self._has_its_fill(command.caller, job),
                handed=known is not None and known.ending is None and self._was_handed(command, known),
                pod=job.pod,
                # Of one that began before the attempt's end was seen: it is no rest of it.
                since_wall_ns=None
                if process is None or started_anew
                else process.started_ns - now.ns + now.wall_ns,
            ),
            now,
        )
        self._registry.heard(live, now)
        self._book.begin(live)
        return lambda: Begun(self._book.record(live), created)

    def _progress(self, command: ReportProgress, now: Moment) -> Callable[[], Reply]:
        self._reachable(command, now)
        told = Told(command.steps, command.samples, command.tokens, command.total_steps, command.loss)
        live = self._registry.progress(command.run_id, command.attempt, told)

        def reply() -> Reply:
            record = self._book.record(live)
            return Reported(progress_ratio(record), self._book.projected_co2e_g(live))

        return reply

    def _reachable(self, command: ReportProgress | NotePhases | EndRun, now: Moment) -> LiveRun:
        """The run, if this caller may write to it; it has been heard of then.

        Raises:
            RefusedError: 404, for unknown runs and for those of others alike: nobody learns their names.
        """
        live = self._registry.find(command.run_id, command.attempt)
        if not _may_write(command.caller, self._job_of(command.caller, {}), live):
            raise RefusedError(404, f"no run {command.run_id} is known on this node")
        self._registry.heard(live, now)
        return live

    def _is_started_anew(self, command: BeginRun, attempt: int | None, known: LiveRun) -> bool:
        """Whether a process comes after those that held the run: they are dead, and nobody has ended it yet.

        A killed job that a loop starts anew is sooner than the next look at processes.
        """
        process = command.process
        if process is None or process.started_ns <= known.began.ns or known.ending is not None:
            return False
        if attempt is not None and attempt <= known.run.attempt:
            return False  # whoever counts says that it is the same one
        if any(self._alive(*held) for held in known.processes.items()):
            return False
        # A run that its job vouches for has been relieved of its dead ones, if there was a look meanwhile.
        return bool(known.processes) or (known.joined and known.run.source in ("slurm", "environment"))

    def _has_its_fill(self, caller: Caller, job: Job) -> bool:
        return sum(_is_of(live, caller, job) for live in self._registry.live.values()) >= MAX_RUNS

    def _was_handed(self, command: BeginRun, known: LiveRun) -> bool:
        """Whether the caller was started under the run that it claims, as the command of ``wattspan run``."""
        return command.parent_trace_id == self._book.trace_id(known)


def _namespace(command: BeginRun, job: Job, known: LiveRun | None) -> str:
    """Whose run it is to be: of a pod or a process what the machine sees, of a token what it says.

    Raises:
        RefusedError: 403, it is out of the caller's reach.
    """
    caller, said = command.caller, command.namespace
    if caller.kind != "token":
        if said not in (None, job.namespace):
            raise RefusedError(
                403, "only who bears a token may name a namespace that is not the caller's own"
            )
        return job.namespace
    if known is not None and said in (None, known.run.namespace):
        return known.run.namespace  # which it may write, or it would not have come so far
    if said is None:
        reach = caller.namespaces or frozenset({""})
        said = next(iter(reach)) if len(reach) == 1 else ""
    if not caller.may_reach(said):
        where = f"namespace {said!r}" if said else "no namespace: name one as `namespace`"
        raise RefusedError(403, f"this token may not write runs of {where}")
    if known is not None:
        raise RefusedError(409, f"run {known.run.run_id} is of another namespace")
    return said


def _may_write(caller: Caller, job: Job, live: LiveRun) -> bool:
    """Whether a caller may write to a run that it names.

    A pod and a token by namespace.
    A process outside pods to the runs of its user, and root to all of them;
    in a pod, where everybody may be root, to those of the pod's namespace.
    In a container of which no pod is known, root is a user like any other.
    """
    if caller.kind != "process":
        return caller.may_reach(live.run.namespace)
    if job.pod.name:
        return live.run.namespace == job.namespace
    if caller.uid == ROOT and not job.contained:
        return True
    if live.run.namespace:
        return False  # the uids of its pods are nobody's out here
    if live.uids:
        return caller.uid in live.uids
    if live.ending is not None:
        return True  # it ended under an earlier daemon, which did not keep whose it was
    # Found by its job, and nobody has claimed it yet.
    return job.witnessed and job.run_id == live.run.run_id


def _is_of(live: LiveRun, caller: Caller, job: Job) -> bool:
    """Whether a run counts as one of the caller's."""
    if caller.kind == "token":
        told = live.run.source == "api" and not live.uids and not live.pods
        return told and caller.may_reach(live.run.namespace)
    if job.pod.name:
        return any((pod.namespace, pod.name) == (job.pod.namespace, job.pod.name) for pod in live.pods)
    return caller.uid in live.uids


def _at(wall_ns: int | None, now: Moment) -> Moment:
    """When a client says that something was; a clock that runs ahead of ours is not believed."""
    if wall_ns is None or wall_ns > now.wall_ns:
        return now
    return Moment(now.ns - (now.wall_ns - wall_ns), wall_ns)
