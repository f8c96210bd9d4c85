"""`track()`: one line in a training script makes it a run.

Nothing here raises into user code, and nothing but the end of a run waits.
"""

import atexit
import functools
import inspect
import os
import sys
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast, get_args, overload

from wattspan.client import endings, surroundings
from wattspan.client.arguments import Checked, Document
from wattspan.client.courier import Courier, Event
from wattspan.client.endings import Ending, Said
from wattspan.client.ephemeral import Ephemeral, command, daemon_here, own_folder
from wattspan.client.summary import Missing, Summary, Text
from wattspan.workloads import run_ids

WAIT_S: Final = 2.0
"""How long the end of a run waits for the daemon's last word."""

MAX_WAIT_S: Final = 60.0

MAX_PHASES: Final = 100
"""Phases that are open at once; a job that never ends them is not to fill its own memory."""

_RESULTS: Final[tuple[Said, ...]] = get_args(Said)

P = ParamSpec("P")
R = TypeVar("R")
Method = TypeVar("Method", bound=Callable[..., None])


def harmless(method: Method) -> Method:
    """A method of `Run` that complains where it would raise, also about arguments that it does not have."""

    @functools.wraps(method)
    def harmlessly(self: "Run", *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._complain(f"{method.__name__}() was passed over: {type(error).__name__}: {error}")

    return cast(Method, harmlessly)


class Run:
    """A training run, told to the daemon of this node.

    Made by `track`, and used with ``with``, as a decorator, or by `begin` and `end`.
    In a process that is not local rank 0, with WATTSPAN_DISABLED=1, or without any daemon it does nothing.
    Nor does a copy of one that has begun, as frameworks pickle them for the processes that they spawn.

    Args:
        document: what the daemon is told of it.
        complaints: about the arguments that this was made of.
        wait_s: how long `end` may wait.
    """

    def __init__(self, document: Document, complaints: list[str], wait_s: float) -> None:
        self._document = document
        self._complaints = complaints
        self._wait_s = wait_s
        self._courier: Courier | None = None
        self._reports = False
        self._phases: set[tuple[object, object]] = set()
        self._silence = "the run has not begun"
        self._ended = False

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take: a copy of a run that has begun tells nobody, and begins none."""
        state = self.__dict__.copy()
        if self._courier is not None:
            state |= {
                "_courier": None,
                "_reports": False,
                "_phases": set(),
                "_silence": "this is a copy of the run, and the original tells of it",
                "_ended": True,
            }
        return state

    # Its life.

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(error=error)

    @harmless
    def begin(self) -> None:
        """Begin the run. Does not wait: the daemon is told by a thread of this run."""
        if self._courier is not None or self._ended:
            self._complain("begin() was passed over: a run begins once")
            return
        environ = dict(os.environ)
        ranks = surroundings.ranks(environ)
        if surroundings.disabled(environ):
            self._silence = "WATTSPAN_DISABLED is set"
            return
        if not ranks.begins:
            self._silence = "local rank 0 reports this node's part of the run"
            return
        own = own_folder(environ)
        ephemeral = Ephemeral(own, command(own), environ) if own and sys.executable else None
        # Made here, so that a begin that is told twice begins one run.
        key = run_ids.ulid(time.time_ns())
        if "run_id" not in self._document and not surroundings.names_itself(environ):
            self._document["run_id"] = run_ids.named_id(self._document.get("name", ""), key)
        courier = Courier(
            daemon_here(environ), ephemeral, self._beginning(environ, ranks, key), self._complaints
        )
        courier.start()
        self._courier = courier
        self._reports = ranks.reports
        _open_runs.add(self)

    @harmless
    def end(self, result: Said | None = None, *, error: BaseException | None = None) -> None:
        """End the run, and wait a moment for its summary.

        Args:
            result: how it ended; by default what `error` means.
            error: the exception that ended it, None for none.
        """
        if self._ended:
            return
        ending = endings.of_exception(error)
        if result in _RESULTS:
            ending = Ending(result, ending.error_type if result == "failure" else "")
        elif result is not None:
            self._complain(f"end(): no such result; allowed: {', '.join(_RESULTS)}")
        self.end_as(ending)
        self.over(self._wait_s)

    @harmless
    def end_as(self, ending: Ending) -> None:
        """End the run without waiting. Ending it once more changes nothing."""
        if self._ended:
            return
        self._ended = True
        _open_runs.discard(self)
        if self._courier is None:
            return
        how: Document = {"result": ending.result}
        if ending.error_type:
            how["error_type"] = ending.error_type
        self._courier.end(how)

    # What happens in it.

    @harmless
    def progress(
        self,
        step: int | None = None,
        *,
        samples: int | None = None,
        tokens: int | None = None,
        loss: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        """Say how far the run is: totals since its start, over all ranks.

        Takes microseconds and never waits; only rank 0 is listened to.
        A `loss` must be a number: a tensor on the GPU is not asked for its value, because that would wait.
        """
        if not self._reports or self._courier is None:
            return
        checked = Checked()
        checked.whole("steps", step)
        checked.whole("samples", samples)
        checked.whole("tokens", tokens)
        checked.real("loss", loss)
        checked.whole("total_steps", total_steps, least=1)
        self._courier.progress(checked.document)
        for text in checked.complaints:
            self._courier.complain(text)

    def phase(self, name: str = "phase", index: int | None = None) -> "Phase":
        """A part of the run that gets figures of its own: ``with run.phase("epoch", index=0):``."""
        return Phase(self, name, index)

    @harmless
    def begin_phase(self, name: str, index: int | None = None) -> None:
        """A phase begins now."""
        self._tell_phase("begin", name, index)

    @harmless
    def end_phase(self, name: str, index: int | None = None) -> None:
        """The phase that began with this name and index ends now."""
        self._tell_phase("end", name, index)

    def _tell_phase(self, event: str, name: object, index: object) -> None:
        if self._courier is None:
            return
        checked = Checked()
        checked.text("name", name)
        checked.whole("index", index)
        for text in checked.complaints:
            self._courier.complain(text)
        phase = (checked.document.get("name"), checked.document.get("index"))
        told = Event("phases", {**checked.document, "event": event, "at": _now()})
        if event == "end" and phase in self._phases:
            # Taken however many wait: its begin was, so there are no more of these than of those.
            self._phases.discard(phase)
            self._courier.tell(told, always=True)
        elif event == "begin" and phase[0] and len(self._phases) < MAX_PHASES and self._courier.tell(told):
            self._phases.add(phase)

    # What is known of it.

    @property
    def run_id(self) -> Text:
        """The run's id; missing until the daemon has answered, where it is the daemon that finds it."""
        said = self._begun("run_id")
        return said or self._document.get("run_id", said)

    @property
    def trace_id(self) -> Text:
        """The trace of this attempt, 32 hex digits; missing until the daemon has answered."""
        return self._begun("trace_id")

    @property
    def node_span_id(self) -> Text:
        """The span of this node in that trace, 16 hex digits; missing until the daemon has answered."""
        return self._begun("node_span_id")

    @property
    def attempt(self) -> int | Missing:
        """Which attempt of the run this is, from 0; missing until the daemon has answered."""
        begun = self._courier.begun if self._courier is not None else None
        return Missing(self._reason) if begun is None else int(begun["attempt"])

    @property
    def projected_co2e_grams(self) -> float | Missing:
        """What the whole run will have emitted at this pace; missing until that can be said."""
        pace = self._courier.pace if self._courier is not None else {}
        projected = pace.get("projected_co2e_grams")
        if isinstance(projected, int | float):
            return projected
        return Missing("progress or its end are not known yet" if self._courier else self._silence)

    @property
    def summary(self) -> Summary:
        """What became of the run. Full once it has ended and the daemon has said so, else full of reasons."""
        if self._courier is not None and self._courier.summary is not None:
            return Summary.of(self._courier.summary)
        if self._courier is not None and not self._ended:
            return Summary.missing("the run has not ended")
        return Summary.missing(self._reason)

    @property
    def silent(self) -> bool:
        """Whether nobody is told of this run, by anybody's wish or because another rank does it."""
        return self._courier is None

    def settled(self, patience_s: float) -> bool:
        """Wait until the run has begun, or it is known that no daemon is there. For who starts the job."""
        return self._courier is None or self._courier.settled(patience_s)

    def over(self, patience_s: float) -> bool:
        """Wait until the daemon has said its last word, or none will come. For who started the job."""
        return self._courier is None or self._courier.over(patience_s)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """As a decorator: each call of the function is a run of its own."""
        if inspect.isasyncgenfunction(function):
            self._complaints.append(f"track() does not fit {function.__name__}, an asynchronous generator")
            return cast(Callable[P, R], function)
        if inspect.iscoroutinefunction(function):
            return self._around_coroutine(function)
        if inspect.isgeneratorfunction(function):
            return self._around_generator(function)

        @functools.wraps(function)
        def tracked(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return function(*args, **kwargs)

        return tracked

    def _around_coroutine(self, function: Callable[P, Any]) -> Callable[P, Any]:
        @functools.wraps(function)
        async def tracked(*args: P.args, **kwargs: P.kwargs) -> Any:
            run = self._again()
            run.begin()
            try:
                answer = await function(*args, **kwargs)
            except BaseException as error:
                run.end_as(endings.of_exception(error))
                raise
            run.end_as(Ending("success"))  # without a wait: it would hold up the event loop
            return answer

        return tracked

    def _around_generator(self, function: Callable[P, Any]) -> Callable[P, Any]:
        @functools.wraps(function)
        def tracked(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self._again():
                return (yield from function(*args, **kwargs))

        return tracked

    def _again(self) -> "Run":
        return Run(dict(self._document), list(self._complaints), self._wait_s)

    def _beginning(self, environ: dict[str, str], ranks: surroundings.Ranks, key: str) -> Document:
        document = {
            **self._document,
            "key": key,
            "rank": ranks.rank,
            "local_rank": ranks.local_rank,
            "world_size": ranks.world_size,
            "nodes_expected": ranks.nodes,
            "traceparent": surroundings.traceparent(environ) or None,
            "markers": surroundings.markers(environ) or None,
            "pid": os.getpid(),
        }
        return {name: value for name, value in document.items() if value is not None}

    def _begun(self, field: str) -> Text:
        begun = self._courier.begun if self._courier is not None else None
        said = (begun or {}).get(field)
        return said if isinstance(said, str) else Missing(self._reason)

    @property
    def _reason(self) -> str:
        return self._silence if self._courier is None else self._courier.trouble

    def _complain(self, text: str) -> None:
        if self._courier is not None:
            self._courier.complain(text)
        elif len(self._complaints) < 5:
            self._complaints.append(text)

    def _leave(self) -> None:
        """The process ends, and nobody has ended this run."""
        error: BaseException | None = getattr(sys, "last_value", None)
        if error is not None and not hasattr(sys, "ps1"):
            self.end(error=error)
        elif self._courier is not None:
            # Whether it went well is not known: sys.exit(3) looks the same from here. The daemon sees it end.
            self._courier.end(None)
            self._courier.over(self._wait_s)


class Phase:
    """A part of a run; ends with its ``with`` block."""

    __slots__ = ("_index", "_name", "_run")

    def __init__(self, run: Run, name: str, index: int | None) -> None:
        self._run = run
        self._name = name
        self._index = index

    def __enter__(self) -> Self:
        self._run.begin_phase(self._name, self._index)
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run.end_phase(self._name, self._index)


@overload
def track(name: Callable[P, R]) -> Callable[P, R]: ...


@overload
def track(
    name: str = "run",
    *,
    project: str = "",
    group: str = "",
    run_id: str = "",
    attempt: int | None = None,
    framework: str = "",
    total_steps: int | None = None,
    budget_co2e_grams: float | None = None,
    wait_s: float = WAIT_S,
) -> Run: ...


def track(name: Any = "run", *surplus: Any, **options: Any) -> Any:
    """A run of this name, for ``with track(...) as run:`` or as a decorator.

    Never raises: arguments that cannot be are left out, with one warning.

    Args:
        name: of the run, for people.
        project: whose energy it is.
        group: what it belongs to, such as a sweep.
        run_id: its id, where you have one; else the job's, else one is made of the name.
        attempt: which attempt of this id it is, from 0; else it is counted.
        framework: what trains, such as ``pytorch``.
        total_steps: planned; with progress it gives a ratio and a projection.
        budget_co2e_grams: what the run may emit.
        wait_s: how long its end may wait for the summary, at most a minute.
    """
    try:
        return _tracked(name, surplus, options)
    except Exception as error:
        return Run({}, [f"track(): its arguments were passed over: {type(error).__name__}: {error}"], WAIT_S)


def _tracked(name: Any, surplus: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if callable(name) and not surplus and not options:
        return Run({"name": getattr(name, "__name__", "run")}, [], WAIT_S)(name)
    checked = Checked()
    checked.text("name", name)
    for field, take in _OPTIONS.items():
        take(checked, field, options.pop(field, None))
    wait = Checked()
    wait.real("wait_s", options.pop("wait_s", WAIT_S))
    if surplus or options:
        unknown = ", ".join(sorted(options)) or f"{len(surplus)} further by position"
        checked.complaints.append(f"track(): arguments that it does not have: {unknown[:200]}")
    wait_s = min(max(wait.document.get("wait_s", WAIT_S), 0.0), MAX_WAIT_S)
    return Run(checked.document, checked.complaints + wait.complaints, wait_s)


_OPTIONS: Final[dict[str, Callable[[Checked, str, object], None]]] = {
    "project": Checked.text,
    "group": Checked.text,
    "run_id": Checked.run_id,
    "attempt": Checked.whole,
    "framework": Checked.text,
    "total_steps": functools.partial(Checked.whole, least=1),
    "budget_co2e_grams": functools.partial(Checked.real, positive=True),
}
"""How each argument of `track` is read."""


def _now() -> str:
    """Wall-clock time as RFC 3339 with microseconds, UTC."""
    now_ns = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 1_000_000_000))
    return f"{seconds}.{now_ns // 1000 % 1_000_000:06}Z"


_open_runs: Final["weakref.WeakSet[Run]"] = weakref.WeakSet()
"""Begun and not ended, for the end of the process."""


@atexit.register
def _at_exit() -> None:
    for run in list(_open_runs):
        run._leave()
