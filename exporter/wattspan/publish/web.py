"""The HTTP interface: paths in, pages out. `Site` knows no server; `application` is the same as plain ASGI.

It reads one finished view per request, never waits for a device or the disk, and renders on the event loop:
a body is bounded by the series budget, and on one thread twenty scrapes of a view share one rendering.
Only a password that has not been seen before is checked elsewhere.
"""

import asyncio
import html
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from wattspan.publish import ViewDoor, api, openapi, runs_api
from wattspan.publish.metrics_page import MetricsPage, Render
from wattspan.publish.pages import (
    BODY_S,
    MAX_BODY_BYTES,
    MAX_QUERY_BYTES,
    Answer,
    Page,
    ProblemError,
    Request,
    Response,
    TcpPeer,
    at_once,
    headers_of,
    json_response,
    problem_response,
    too_large,
    too_slow,
)
from wattspan.publish.passwords import BusyError, Passwords
from wattspan.publish.runs_api import RunsApi

log = logging.getLogger("wattspan.web")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

CHUNK_BYTES: Final = 65536
"""Bodies leave in pieces of this size, each once the client has taken the former: a slow reader holds two
pieces and a share of the rendering, not a copy of it."""


class Guard(Protocol):
    """The part of the web configuration that concerns requests; may change between two of them."""

    def passwords(self) -> Passwords | None:
        """Who may pass; None when nobody is asked."""

    def headers(self) -> Mapping[str, str]:
        """What to set on every response."""


def application(
    door: ViewDoor,
    render: Render | None,
    node: api.NodeInfo,
    *,
    runs: RunsApi | None = None,
    guard: Guard | None = None,
    now_ns: Callable[[], int] = time.monotonic_ns,
) -> Asgi:
    """The site as an ASGI application; the arguments are those of `Site`."""
    site = Site(door, render, node, runs=runs, guard=guard, now_ns=now_ns)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # nothing else is spoken here
            raise NotImplementedError(scope["type"])
        response = await site.answer(_request(scope, receive))
        headers = guard.headers() if guard else {}
        await _send(response, headers, send)

    return answer


class Site:
    """Every page. All its requests must come from one event loop; a second loop has a second site.

    Args:
        door: where the view comes from, and who is told of scrapes.
        render: makes the body of ``/metrics``; None when there is no such page.
        node: facts about this daemon.
        runs: the pages of runs; None when there are none.
        guard: passwords of the web configuration; None when nobody is asked.
        now_ns: CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        door: ViewDoor,
        render: Render | None,
        node: api.NodeInfo,
        *,
        runs: RunsApi | None = None,
        guard: Guard | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._door = door
        self._node = node
        self._runs = runs
        self._guard = guard
        self._now_ns = now_ns
        description = json_response(
            openapi.document(node.version, metrics=render is not None, runs=runs is not None)
        )
        self._pages: dict[str, Page] = {
            "/": _get(self._landing),
            **({"/metrics": _get(MetricsPage(door, render))} if render else {}),
            "/-/healthy": _get(_alive, open=True),
            "/health/live": _get(_alive, open=True),
            "/-/ready": _get(self._ready, open=True),
            "/health/ready": _get(self._ready, open=True),
            "/openapi.json": _get(lambda _: description),
            "/api/v1/node": _get(lambda _: json_response(api.node_document(door.view, node))),
            "/api/v1/grid": _get(
                lambda _: json_response(api.grid_document(door.view.grid, door.view.currency))
            ),
            "/api/v1/grid/forecast": _get(lambda _: json_response(api.forecast_document(door.view.grid))),
            **({runs_api.PATH: runs.page} if runs else {}),
        }

    async def answer(self, request: Request) -> Response:
        """Answer one request. Never raises for what a client does, nor for a bug of ours."""
        try:
            page_answer = await self._admit(request)
            return await page_answer(request)
        except ProblemError as problem:
            return problem_response(problem)
        except Exception as error:
            # Whoever asked learns nothing of the inside; the operator gets one line.
            log.error("%s %r failed: %s: %s", request.method, request.path, type(error).__name__, error)
            log.debug("where it failed", exc_info=error)
            return problem_response(
                ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug; the log has a line")
            )

    async def _admit(self, request: Request) -> Answer:
        """What answers a request.

        Raises:
            ProblemError: nothing does, or it may not be asked.
        """
        page = self._pages.get(request.path)
        if page is None and self._runs is not None:
            page = self._runs.page_of(request.raw_path)
        if page is not None and request.method not in page.methods:
            allowed = ", ".join(page.methods)
            raise ProblemError(
                HTTPStatus.METHOD_NOT_ALLOWED, f"this path answers {allowed}", {"allow": allowed}
            )
        if len(request.query) > MAX_QUERY_BYTES:
            raise ProblemError(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"a query has {MAX_QUERY_BYTES} bytes at most"
            )
        announced = request.headers.get("content-length", "0")
        if len(announced) > len(str(MAX_BODY_BYTES)) or int(announced) > MAX_BODY_BYTES:
            raise too_large()
        if page is not None and page.post is not None and request.method == "POST":
            return page.post  # asks for an identity of its own: a password opens no write
        if page is None or not page.open:
            await self._check_password(request)
        if page is None or page.get is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "there is no such path; / lists what there is")
        return page.get

    async def _check_password(self, request: Request) -> None:
        passwords = self._guard.passwords() if self._guard else None
        if passwords is None:
            return
        try:
            admitted = await passwords.admits(request.headers.get("authorization", ""))
        except BusyError:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS, "too many passwords at once", {"retry-after": "1"}
            ) from None
        if not admitted:
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "a user and a password are needed",
                {"www-authenticate": 'Basic realm="wattspan", charset="UTF-8"'},
            )

    def _ready(self, request: Request) -> Response:
        strict = _strict(request.query)
        answer = api.readiness(self._door.view, self._node, self._now_ns(), strict=strict)
        status = HTTPStatus.OK if answer.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_response(answer.document, status)

    def _landing(self, _: Request) -> Response:
        links = "".join(f'<li><a href="{path}">{path}</a></li>' for path in self._pages if path != "/")
        node, version = html.escape(self._node.node), html.escape(self._node.version)
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="color-scheme" content="light dark">'
            f"<title>Wattspan on {node}</title></head><body><h1>Wattspan</h1>"
            f"<p>Energy and carbon of node <b>{node}</b>, version {version}.</p>"
            f"<ul>{links}</ul></body></html>\n"
        )
        return Response(
            HTTPStatus.OK,
            "text/html; charset=utf-8",
            page.encode("utf-8", "replace"),
            {
                "content-security-policy": "default-src 'none'; base-uri 'none'; "
                "form-action 'none'; frame-ancestors 'none'"
            },
        )


def _get(answer: Callable[[Request], Response], *, open: bool = False) -> Page:  # noqa: A002 - as `Page` has it
    return Page(get=at_once(answer), open=open)


def _alive(_: Request) -> Response:
    return Response(HTTPStatus.OK, "text/plain; charset=utf-8", b"Wattspan is alive.\n")


def _request(scope: Scope, receive: Receive) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope["path"],
        raw_path=scope["raw_path"],
        query=scope["query_string"],
        headers=headers,
        peer=TcpPeer(client[0]) if client else None,
        body=lambda: _body(receive),
    )


async def _body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ProblemError: it is too large, too slow, or its sender has gone.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is not complete")
                body += event.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise too_large()
                if not event.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise too_slow() from None


async def _send(response: Response, over: Mapping[str, str], send: Send) -> None:
    headers = {**headers_of(response), **{name.lower(): value for name, value in over.items()}}
    await send(
        {
            "type": "http.response.start",
            "status": response.status.value,
            "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    size = len(response.body)
    for start in range(0, max(size, 1), CHUNK_BYTES):
        end = start + CHUNK_BYTES
        await send({"type": "http.response.body", "body": response.body[start:end], "more_body": end < size})


def _strict(query: bytes) -> bool:
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("strict", ["0"])
    if given in (["1"], ["true"]):
        return True
    if given in (["0"], ["false"]):
        return False
    raise ProblemError(HTTPStatus.BAD_REQUEST, "strict is none of: 0, 1, false, true")
