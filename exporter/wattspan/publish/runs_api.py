"""The pages of runs: reading what the node knows of them, and the writes that go to the one writer.

A write is admitted by who asks, checked field by field, put into the mailbox and answered after its commit;
it leaves one line in the log.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NoReturn, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from wattspan.log import fields
from wattspan.publish import run_bodies
from wattspan.publish.api import Document
from wattspan.publish.commands import (
    RETRY_AFTER_S,
    BeginRun,
    Begun,
    Caller,
    Command,
    Ended,
    EndRun,
    Mailbox,
    Noted,
    NotePhases,
    ProblemReply,
    Reply,
    Reported,
    ReportProgress,
)
from wattspan.publish.identity import Identity
from wattspan.publish.pages import Page, ProblemError, Request, Response, json_response
from wattspan.publish.run_bodies import Body
from wattspan.publish.run_documents import (
    DEFAULT_LIMIT,
    RunQuery,
    begun_document,
    list_document,
    place_of,
    run_document,
)
from wattspan.runs import MAX_COUNT, RunNow, RunRecord
from wattspan.workloads import run_ids

log = logging.getLogger("wattspan.runs")

T = TypeVar("T")

PATH: Final = "/api/v1/runs"

MAX_LIMIT: Final = 1000
"""Runs on one page: about a megabyte of JSON."""

STATES: Final[Mapping[str, Any]] = {"running": "running", "ended": "ended"}

FLAGS: Final[Mapping[str, bool]] = {"0": False, "1": True, "false": False, "true": True}

_BELOW: Final = f"{PATH}/".encode("ascii")


class History(Protocol):
    """Every run that this node knows of. May block on the disk; is called from one thread of its own."""

    def runs(self) -> Iterable[RunRecord]:
        """All of them, one record for each attempt, in any order; may be made one by one."""

    def run(self, run_id: str, attempt: int | None) -> RunRecord | None:
        """One attempt, or with None the newest; None when there is no such run."""

    def seen(self) -> Iterable[RunNow]:
        """The runs of the newest view, which has their projections."""


Write = Callable[[Body, Caller], Command]


class RunsApi:
    """Answers for runs. Requests may come from several event loops.

    Args:
        mailbox: takes commands to the writer.
        history: what is known of runs.
        identity: says who a caller is.
        cluster: the cluster's name, for the ids of traces.
        wall_ns: nanoseconds since the epoch.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        history: History,
        identity: Identity,
        cluster: str,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._mailbox = mailbox
        self._history = history
        self._identity = identity
        self._cluster = cluster
        self._wall_ns = wall_ns
        # One thread: readers of the journal wait for each other, and never for the event loop or the writer.
        self._reader = ThreadPoolExecutor(1, "history")
        self.page: Final = Page(get=self._list, post=self._begin)

    def page_of(self, raw_path: bytes) -> Page | None:
        """What is below the list of runs: a run, or what is done to it. None when there is no such path.

        Args:
            raw_path: as it was sent; a run id with an encoded slash is a bad id, not another path.
        """
        if not raw_path.startswith(_BELOW):
            return None
        segment, slash, action = raw_path.removeprefix(_BELOW).partition(b"/")
        if not slash:
            return Page(get=partial(self._show, segment))
        match action:
            case b"progress":
                return Page(post=partial(self._write_to, segment, run_bodies.report_progress))
            case b"phases":
                return Page(post=partial(self._write_to, segment, run_bodies.phases))
            case b"end":
                return Page(post=partial(self._write_to, segment, run_bodies.end_run))
        return None

    async def _list(self, request: Request) -> Response:
        query = run_query(request.query)
        wall_ns = self._wall_ns()
        return json_response(await self._read(partial(self._page, query, wall_ns)))

    def _page(self, query: RunQuery, wall_ns: int) -> Document:
        return list_document(self._history.runs(), query, wall_ns, self._history.seen())

    async def _show(self, segment: bytes, request: Request) -> Response:
        run_id = _run_id(segment)
        attempt, factors = _wanted(request.query)
        record = await self._read(lambda: self._history.run(run_id, attempt))
        if record is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"this node knows of no such run: {run_id}")
        named = (run_id, record.run.attempt)
        seen = (
            one for one in self._history.seen() if (one.record.run.run_id, one.record.run.attempt) == named
        )
        return json_response(run_document(record, self._wall_ns(), next(seen, None), factors=factors))

    async def _begin(self, request: Request) -> Response:
        caller, body = await self._asked(request)
        # It may look at as many processes as the caller has children.
        claimed = await asyncio.to_thread(self._identity.claimed, caller, body.count("pid"))
        return await self._submit(run_bodies.begin_run(body, caller, claimed))

    async def _write_to(
        self, segment: bytes, command: Callable[[Body, Caller, str], Command], request: Request
    ) -> Response:
        run_id = _run_id(segment)
        caller, body = await self._asked(request)
        return await self._submit(command(body, caller, run_id))

    async def _asked(self, request: Request) -> tuple[Caller, Body]:
        """Who asks for what. The body is read only when somebody may ask."""
        caller = self._identity.caller(request)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            # A browser cannot be made to send this type to a foreign site without asking it first.
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "the body has to be application/json",
                {"accept": "application/json"},
            )
        return caller, run_bodies.document(await request.body())

    async def _submit(self, command: Command) -> Response:
        reply = await self._mailbox.submit(command)
        if isinstance(reply, ProblemReply):
            again = {"retry-after": str(RETRY_AFTER_S)} if reply.status >= 500 else None
            log.debug("refused: %s", reply.detail, extra=fields(caller=command.caller.name))
            raise ProblemError(reply.status, reply.detail, again)
        self._note(command, reply)
        return self._response(reply)

    def _note(self, command: Command, reply: Reply) -> None:
        run_id, attempt = _run_of(command, reply)
        log.info(
            _words(command),
            extra=fields(
                run_id=run_id,
                attempt=attempt,
                trace_id=run_ids.trace_id(self._cluster, run_id, attempt),
                caller=command.caller.name,
            ),
        )

    def _response(self, reply: Reply) -> Response:
        match reply:
            case Begun(record, created):
                status = HTTPStatus.CREATED if created else HTTPStatus.OK
                where = {"location": f"{PATH}/{record.run.run_id}"}
                return json_response(begun_document(record), status, where)
            case Reported():
                return json_response(
                    {
                        "progress_ratio": reply.progress_ratio,
                        "projected_co2e_grams": reply.projected_co2e_g,
                    }
                )
            case Noted():
                return json_response({})
            case Ended(record):
                return json_response(run_document(record, self._wall_ns()))

    async def _read(self, what: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, what)


_WORDS: Final[Mapping[type, str]] = {
    BeginRun: "run begins",
    ReportProgress: "run progresses",
    EndRun: "run ends",
}


def _words(command: Command) -> str:
    """What a write is called in the log."""
    if not isinstance(command, NotePhases):
        return _WORDS[type(command)]
    if len(command.events) > 1:
        return "phases begin and end"
    return "phase begins" if command.events[0].begins else "phase ends"


def run_query(query: bytes) -> RunQuery:
    """Which runs a query asks for.

    Raises:
        ProblemError: 400, a parameter is unknown, given twice or holds what is not allowed.
    """
    given = _parameters(query, ("state", "project", "group", "since", "limit", "cursor"))
    return RunQuery(
        state=_parsed(given, "state", STATES.__getitem__, "running, ended"),
        project=given.get("project"),
        group=given.get("group"),
        since_wall_ns=_parsed(
            given, "since", run_bodies.moment, "a date and time as in 2026-11-18T11:08:20Z"
        ),
        limit=_parsed(given, "limit", partial(_whole, 1, MAX_LIMIT), f"1 to {MAX_LIMIT}") or DEFAULT_LIMIT,
        after=_parsed(given, "cursor", place_of, "next_cursor of the page before"),
    )


def _wanted(query: bytes) -> tuple[int | None, bool]:
    """Which attempt, None for the newest, and whether with every figure that priced it."""
    given = _parameters(query, ("attempt", "factors"))
    allowed = f"a whole number from 0 to {MAX_COUNT}"
    attempt = _parsed(given, "attempt", partial(_whole, 0, MAX_COUNT), allowed)
    factors = _parsed(given, "factors", FLAGS.__getitem__, ", ".join(FLAGS))
    return attempt, bool(factors)


def _parameters(query: bytes, known: tuple[str, ...]) -> dict[str, str]:
    try:
        # A browser's + is a space; in the offset of a moment it has to be %2B.
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the query is not UTF-8 in percent-encoding") from None
    given = dict(pairs)
    for name in given:
        if name not in known:
            _refuse_parameter(name, "an unknown parameter", ", ".join(known))
    if len(given) < len(pairs):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "a parameter is given twice")
    return given


def _parsed(given: Mapping[str, str], name: str, parse: Callable[[str], T], allowed: str) -> T | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        return parse(text)
    except (ValueError, KeyError):
        _refuse_parameter(name, f"{text[:80]!r} is not allowed", allowed)


def _whole(low: int, high: int, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high):
        raise ValueError(text)
    return int(text)


def _refuse_parameter(name: str, what: str, allowed: str) -> NoReturn:
    raise ProblemError(HTTPStatus.BAD_REQUEST, f"{name[:80]}: {what}; allowed: {allowed}")


def _run_id(segment: bytes) -> str:
    return run_bodies.run_id(unquote_to_bytes(segment).decode("utf-8", "backslashreplace"))


def _run_of(command: Command, reply: Reply) -> tuple[str, int]:
    """Run id and attempt of a write; those of a begin are found by the writer."""
    if isinstance(reply, Begun):
        return reply.record.run.run_id, reply.record.run.attempt
    if isinstance(command, BeginRun):
        raise TypeError(f"a begin was answered with {type(reply).__name__}")
    return command.run_id, command.attempt
