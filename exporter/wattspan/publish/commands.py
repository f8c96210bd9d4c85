"""What a client asks of a run, and the mailbox that carries it to the one writer and its answer back.

A command that is in the mailbox is well formed: lengths, ranges and run ids have been checked,
and its caller is who it says.
Whether the caller may do it to this run, and what comes of it, is decided by whoever takes it.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Literal

from wattspan.runs import Result, RunRecord

MAX_WAITING: Final = 1000
"""Commands that wait for the writer; ten times what a node's processes ask at once when all of them begin."""

PATIENCE_S: Final = 5.0
"""How long a client is kept waiting for the writer's commit."""

RETRY_AFTER_S: Final = 1
"""When a client that was turned away should come again: the writer empties the mailbox at each tick."""

CallerKind = Literal["process", "pod", "token"]


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process that cannot be taken for a later one with the same number.

    Attributes:
        pid: in the pid namespace of this daemon.
        started_ns: when it began, CLOCK_MONOTONIC.
    """

    pid: int
    started_ns: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the operating system, the network or a token file says; never as the caller says.

    Attributes:
        kind: ``process`` on the local socket, ``pod`` by its address, ``token`` by what it bears.
        name: for the log: pid, pod or name of the token.
        pid, uid, started_ns: of the peer process on the local socket; None for the others.
        pod_uid: of the pod that the caller is; empty when that is not known.
        namespaces: whose runs it may write to; None where that is not limited by namespace.
            A process is not: it is bound to itself and its children instead.
        scopes: what a token allows, such as ``runs:write``; empty for the others.
    """

    kind: CallerKind
    name: str = ""
    pid: int | None = None
    uid: int | None = None
    started_ns: int | None = None
    pod_uid: str = ""
    namespaces: frozenset[str] | None = None
    scopes: frozenset[str] = frozenset()

    def may_reach(self, namespace: str) -> bool:
        """Whether runs of this namespace (empty outside Kubernetes) are within its reach."""
        return self.namespaces is None or namespace in self.namespaces


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Begin a run, or join the one that the caller's job already has. None and empty mean "did not say".

    Attributes:
        caller: who asks.
        run_id: of the contract's form.
        key: a ULID that the client has drawn for this begin, and sends again when it tells it again.
        name, project, group, framework: for people; on one line, cut to a bounded length.
        attempt: from 0.
        total_steps: planned.
        budget_co2e_g: what the run may emit, in grams.
        rank, local_rank, world_size: as torchrun and Slurm count them.
        nodes_expected: how many nodes it will have.
        parent_trace_id, parent_span_id: of a W3C ``traceparent``, lower-case hex; both or neither.
        namespace: whose run it is, where a token says so; None when it does not.
        markers: environment variables that name a job, as the client read them; names and values are bounded,
            and nothing else is promised of them.
        process: whom the run is claimed for: the peer or one of its children; None for pods and tokens.
    """

    caller: Caller
    run_id: str = ""
    key: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    framework: str = ""
    attempt: int | None = None
    total_steps: int | None = None
    budget_co2e_g: float | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    nodes_expected: int | None = None
    parent_trace_id: str = ""
    parent_span_id: str = ""
    namespace: str | None = None
    markers: Mapping[str, str] = field(default_factory=dict)
    process: ProcessRef | None = None


@dataclass(frozen=True, slots=True)
class ReportProgress:
    """How far a run is: totals since its start; None for what was not said.

    Attributes:
        caller, run_id, attempt: who says it of which run.
        steps, samples, tokens: counted so far.
        total_steps: planned.
        loss: finite.
    """

    caller: Caller
    run_id: str
    attempt: int
    steps: int | None = None
    samples: int | None = None
    tokens: int | None = None
    total_steps: int | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class PhaseEvent:
    """A phase of a run begins or ends.

    Attributes:
        begins: else it ends.
        name: such as ``epoch``; never empty.
        index: which one of this name; None when it has no number.
        at_wall_ns: when, as the client's clock has it; None for now.
    """

    begins: bool
    name: str
    index: int | None = None
    at_wall_ns: int | None = None


@dataclass(frozen=True, slots=True)
class NotePhases:
    """Phases of a run begin and end.

    Attributes:
        caller, run_id, attempt: who says it of which run.
        events: in their order, at least one.
    """

    caller: Caller
    run_id: str
    attempt: int
    events: tuple[PhaseEvent, ...]


@dataclass(frozen=True, slots=True)
class EndRun:
    """A run ends.

    Attributes:
        caller, run_id, attempt: who says it of which run.
        result: never ``lost``: that is for runs which did not say.
        error_type: such as an exception's class; empty unless it failed.
    """

    caller: Caller
    run_id: str
    attempt: int
    result: Result
    error_type: str = ""


Command = BeginRun | ReportProgress | NotePhases | EndRun


@dataclass(frozen=True, slots=True)
class Begun:
    """Answers `BeginRun`.

    Attributes:
        record: the run as it now is; its `run` has the id and the attempt that were found for it.
        created: it did not exist before.
    """

    record: RunRecord
    created: bool


@dataclass(frozen=True, slots=True)
class Reported:
    """Answers `ReportProgress`.

    Attributes:
        progress_ratio: steps over planned steps; None while those are unknown.
        projected_co2e_g: what the whole run will have emitted at this pace; None when that cannot be said.
    """

    progress_ratio: float | None = None
    projected_co2e_g: float | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """Answers `NotePhases`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Answers `EndRun` with the final record."""

    record: RunRecord


Reply = Begun | Reported | Noted | Ended


@dataclass(frozen=True, slots=True)
class ProblemReply:
    """A command that was not done.

    Attributes:
        status: 4xx for the client's fault, 503 when it may try again.
        detail: what is wrong and how to mend it, for the client's log; repeats nothing secret.
    """

    status: HTTPStatus
    detail: str


class Envelope:
    """A command on its way to the writer. Whoever took it answers once; a second answer is lost."""

    def __init__(self, command: Command) -> None:
        self.command: Final = command
        self._answer: Future[Reply | ProblemReply] = Future()

    def answer(self, reply: Reply) -> None:
        """The command is done, and committed."""
        self._settle(reply)

    def refuse(self, problem: ProblemReply) -> None:
        """The command is not done."""
        self._settle(problem)

    def open(self) -> bool:
        """Take the command up; False when its client has stopped waiting, and it is not to be done."""
        return self._answer.set_running_or_notify_cancel()

    async def wait(self, patience_s: float) -> Reply | ProblemReply:
        """The answer, or what to say when none came in time."""
        waiting = asyncio.wrap_future(self._answer)
        try:
            return await asyncio.wait_for(waiting, patience_s)
        except TimeoutError:
            return ProblemReply(
                HTTPStatus.SERVICE_UNAVAILABLE, f"the daemon has not committed it within {patience_s:g} s"
            )

    def _settle(self, answer: Reply | ProblemReply) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)


class Mailbox:
    """Commands from any thread or event loop to the writer's thread, and the answers back.

    Args:
        wake: called from a client's thread when the mailbox is no longer empty; must not block.
        limit: how many commands may wait.
        patience_s: how long a client waits for its answer.
    """

    def __init__(
        self, wake: Callable[[], None], *, limit: int = MAX_WAITING, patience_s: float = PATIENCE_S
    ) -> None:
        self._wake = wake
        self._limit = limit
        self._patience_s = patience_s
        self._waiting: deque[Envelope] = deque()
        self._lock = threading.Lock()
        self._closed = False

    async def submit(self, command: Command) -> Reply | ProblemReply:
        """Hand a command to the writer and wait for its answer, which comes after the commit. Never raises.

        A command whose client stopped waiting before the writer took it is not done.
        """
        envelope = Envelope(command)
        if problem := self._put(envelope):
            return problem
        return await envelope.wait(self._patience_s)

    def take(self) -> list[Envelope]:
        """Every command that waits, the oldest first; each is to be answered. Called by the writer alone."""
        with self._lock:
            taken, self._waiting = self._waiting, deque()
        return [envelope for envelope in taken if envelope.open()]

    def close(self) -> None:
        """Refuse what waits and whatever comes: the daemon stops."""
        with self._lock:
            self._closed = True
        for envelope in self.take():
            envelope.refuse(_STOPPING)

    def _put(self, envelope: Envelope) -> ProblemReply | None:
        with self._lock:
            if self._closed:
                return _STOPPING
            if len(self._waiting) >= self._limit:
                return _FULL
            self._waiting.append(envelope)
            first = len(self._waiting) == 1
        if first:
            self._wake()
        return None


_STOPPING: Final = ProblemReply(HTTPStatus.SERVICE_UNAVAILABLE, "the daemon is stopping")
_FULL: Final = ProblemReply(HTTPStatus.SERVICE_UNAVAILABLE, "too many commands are waiting for the daemon")
