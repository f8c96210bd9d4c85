"""Bodies of writes: JSON in, commands out, checked field by field.

Fields that are not known are passed over, so that a newer client can speak to an older daemon.
Every complaint names the field, what was given and what is allowed.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, NoReturn

from wattspan.publish.commands import (
    BeginRun,
    Caller,
    EndRun,
    NotePhases,
    PhaseEvent,
    ProcessRef,
    ReportProgress,
)
from wattspan.publish.pages import ProblemError
from wattspan.runs import MAX_COUNT, Result
from wattspan.workloads import markers, run_ids

MAX_BUDGET_G: Final = 1e15
"""A billion tonnes: whatever is above is no budget."""

RUN_ID_FORM: Final = "[A-Za-z0-9][A-Za-z0-9._:-]{0,252}"

END_RESULTS: Final[tuple[Result, ...]] = ("success", "failure", "cancelled")
PHASE_EVENTS: Final = ("begin", "end")

MAX_PHASE_EVENTS: Final = 32
"""In one body: with names as long as they may be that is less than a body may have."""

UNNAMED_PHASE: Final = "phase"
"""What a phase is called whose name has nothing to show; its time is worth more than its name."""

_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
NAMESPACE_FORM: Final = "([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?"
"""An RFC 1123 label, or empty."""

_NAMESPACE: Final = re.compile(NAMESPACE_FORM)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def document(body: bytes) -> "Body":
    """The JSON object in a body.

    Raises:
        ProblemError: 400, it is none.
    """
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else "not UTF-8, or nested too deeply"
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {why}") from None
    if not isinstance(content, dict):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
    return Body(content)


def run_id(text: str) -> str:
    """A run id as it stands.

    Raises:
        ProblemError: 400, it is none.
    """
    if not run_ids.valid(text):
        refuse("run_id", text, f"{RUN_ID_FORM} (for a free name there is `name`)")
    return text


def moment(text: str) -> int:
    """An RFC 3339 date and time as nanoseconds since the epoch, cut to whole microseconds.

    Raises:
        ValueError: it is none.
    """
    if not _RFC3339.fullmatch(text.upper()):
        raise ValueError(text)
    return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND * 1000


class Body:
    """A JSON object whose fields are read one by one. Absent and null are the same: nothing was said.

    Args:
        content: what JSON made of it.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def text(self, name: str, limit: int = run_ids.MAX_NAME_LENGTH) -> str:
        """A name for people: one line, without control characters, cut at the limit; empty when not said."""
        value = self._content.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            refuse(name, value, "text")
        return run_ids.plain(value, limit)

    def needed_text(self, name: str) -> str:
        """A name that has to be said; empty when nothing of it can be shown."""
        return self.text(name) if self._content.get(name) is not None else refuse(name, None, "text")

    def count(self, name: str) -> int | None:
        """A whole number from 0 that every JSON reader keeps exactly."""
        value = self._content.get(name)
        if value is None:
            return None
        # JSON does not tell 100.0 from 100; bool is an int in Python and nowhere else.
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        if not whole or not 0 <= value <= MAX_COUNT:
            refuse(name, value, f"a whole number from 0 to {MAX_COUNT}")
        return int(value)

    def needed_count(self, name: str) -> int:
        """A whole number that has to be said."""
        value = self.count(name)
        return value if value is not None else refuse(name, None, "a whole number from 0")

    def number(self, name: str, allowed: str, allows: Callable[[float], bool]) -> float | None:
        """A finite number."""
        value = self._content.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            refuse(name, value, allowed)
        try:
            number = float(value)
        except OverflowError:
            refuse(name, "a very large number", allowed)
        if not math.isfinite(number) or not allows(number):
            refuse(name, value, allowed)
        return number

    def word(self, name: str, allowed: Sequence[str]) -> str:
        """One of a few words; it has to be said."""
        value = self._content.get(name)
        if not isinstance(value, str) or value not in allowed:
            refuse(name, value, ", ".join(allowed))
        return value

    def run_id(self) -> str:
        """The run id; empty when not said."""
        value = self._content.get("run_id")
        if value is None or value == "":
            return ""
        return run_id(value) if isinstance(value, str) else refuse("run_id", value, RUN_ID_FORM)

    def key(self) -> str:
        """What a client tells one begin from another by; empty when not said."""
        value = self._content.get("key")
        if value is None:
            return ""
        if not isinstance(value, str) or not run_ids.is_ulid(value):
            refuse("key", value, f"a ULID ({run_ids.ULID_FORM})")
        return value

    def namespace(self) -> str | None:
        """A namespace of Kubernetes; empty outside it, None when not said."""
        value = self._content.get("namespace")
        if value is None:
            return None
        if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
            refuse("namespace", value, "a namespace's name, or nothing between the quotes outside Kubernetes")
        return value

    def moment(self, name: str) -> int | None:
        """When, in nanoseconds since the epoch."""
        value = self._content.get(name)
        if value is None:
            return None
        try:
            return moment(value)
        except (ValueError, AttributeError, TypeError):
            refuse(name, value, "a date and time as in 2026-11-18T11:08:20.5Z")

    def bodies(self, name: str, limit: int) -> tuple["Body", ...]:
        """Objects in a list, to be read like this one; none when not said."""
        value = self._content.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not 0 < len(value) <= limit:
            refuse(name, value, f"a list of 1 to {limit} objects")
        if not all(isinstance(item, dict) for item in value):
            refuse(name, value, f"a list of 1 to {limit} objects")
        return tuple(Body(item) for item in value)

    def markers(self) -> dict[str, str]:
        """Environment variables of the allow-list; others are not even looked at."""
        value = self._content.get("markers")
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(marker, str) for marker in value.values()):
            refuse("markers", value, "texts by the name of an environment variable")
        return markers.allowed(value.items())


def begin_run(body: Body, caller: Caller, claimed: ProcessRef | None) -> BeginRun:
    """The command to begin a run.

    Args:
        body: what was asked.
        caller: who asked.
        claimed: the process that the body's pid means.
    """
    marked = body.markers()
    traceparent = body.text("traceparent") or marked.get("TRACEPARENT", "")
    parent_trace_id = markers.parent_trace_id(traceparent)
    return BeginRun(
        caller=caller,
        run_id=body.run_id(),
        key=body.key(),
        name=body.text("name"),
        project=body.text("project"),
        group=body.text("group"),
        framework=body.text("framework"),
        attempt=body.count("attempt"),
        total_steps=body.count("total_steps"),
        budget_co2e_g=body.number(
            "budget_co2e_grams", "a number of grams above 0", lambda grams: 0 < grams <= MAX_BUDGET_G
        ),
        rank=body.count("rank"),
        local_rank=body.count("local_rank"),
        world_size=body.count("world_size"),
        nodes_expected=body.count("nodes_expected"),
        parent_trace_id=parent_trace_id,
        parent_span_id=traceparent.split("-")[2] if parent_trace_id else "",
        namespace=body.namespace(),
        markers=marked,
        process=claimed,
    )


def report_progress(body: Body, caller: Caller, run: str) -> ReportProgress:
    """The command to note how far a run is."""
    return ReportProgress(
        caller=caller,
        run_id=run,
        attempt=body.needed_count("attempt"),
        steps=body.count("steps"),
        samples=body.count("samples"),
        tokens=body.count("tokens"),
        total_steps=body.count("total_steps"),
        loss=body.number("loss", "a finite number", lambda _: True),
    )


def phases(body: Body, caller: Caller, run: str) -> NotePhases:
    """The command that a phase begins or ends, or that several do, one after the other."""
    events = tuple(_phase_event(told) for told in body.bodies("phases", MAX_PHASE_EVENTS) or (body,))
    return NotePhases(caller, run, body.needed_count("attempt"), events)


def _phase_event(body: Body) -> PhaseEvent:
    return PhaseEvent(
        begins=body.word("event", PHASE_EVENTS) == "begin",
        name=body.needed_text("name") or UNNAMED_PHASE,
        index=body.count("index"),
        at_wall_ns=body.moment("at"),
    )


def end_run(body: Body, caller: Caller, run: str) -> EndRun:
    """The command to end a run."""
    result = body.word("result", END_RESULTS)
    return EndRun(
        caller=caller,
        run_id=run,
        attempt=body.needed_count("attempt"),
        result=next(known for known in END_RESULTS if known == result),
        error_type=body.text("error_type"),
    )


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Complain about a field.

    Raises:
        ProblemError: 400, always.
    """
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    said = "missing" if value is None else f"{shown} is not allowed"
    raise ProblemError(HTTPStatus.BAD_REQUEST, f"{name}: {said}; allowed: {allowed}")


def _no_number(constant: str) -> NoReturn:
    raise json.JSONDecodeError(f"{constant} is no number", constant, 0)
