"""Requests, responses and problems as pages see them, whichever door they come through.

There are two doors: `server` for TCP and `socket_server` for the local socket.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

MAX_QUERY_BYTES: Final = 4096
MAX_BODY_BYTES: Final = 65_536
"""Of a request's body; the largest that means anything is a hundredth of it."""

IMF_FIXDATE: Final = "%a, %d %b %Y %H:%M:%S GMT"
"""RFC 9110, 5.6.7; English as long as nobody sets a locale, and nobody here does."""

BODY_S: Final = 10.0
"""How long a body may take to come in."""


@dataclass(frozen=True, slots=True)
class TcpPeer:
    """Who connected over the network.

    Attributes:
        address: its IP address as text.
    """

    address: str


@dataclass(frozen=True, slots=True)
class LocalPeer:
    """The process that connected to the local socket, as the kernel noted it then (SO_PEERCRED, unix(7)).

    Attributes:
        pid: in the pid namespace of this daemon; 0 when it lives in one that is not below ours.
        uid: its effective user.
        started_ticks: its start time as /proc/PID/stat has it, read when the connection was accepted;
            None when it was gone by then.
    """

    pid: int
    uid: int
    started_ticks: int | None


Peer = TcpPeer | LocalPeer


class ProblemError(Exception):
    """A request that cannot be answered, as RFC 9457 describes problems."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def too_large() -> ProblemError:
    """The body has more bytes than a body may have."""
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"a body has {MAX_BODY_BYTES} bytes at most",
        {"connection": "close"},
    )


def too_slow() -> ProblemError:
    """The body did not come in time."""
    return ProblemError(
        HTTPStatus.REQUEST_TIMEOUT, f"a body has {BODY_S:g} s to come in", {"connection": "close"}
    )


async def no_body() -> bytes:
    """The body of a request that has none."""
    return b""


@dataclass(frozen=True, slots=True)
class Request:
    """What pages look at.

    Attributes:
        method: one that the page has once it has reached it.
        path: decoded.
        raw_path: as it was sent, so that an encoded slash is told from a real one.
        query: as it was sent, bounded.
        headers: by name in lower case; repeated ones joined by commas.
        peer: who sent it; None where nobody can tell.
        body: reads the body, once; raises ProblemError for one that is too large or too slow.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Mapping[str, str]
    peer: Peer | None = None
    body: Callable[[], Awaitable[bytes]] = no_body


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back. `headers` come on top of content type, length and date."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers.

    Attributes:
        get: to GET, and to HEAD without the body; None when it does not.
        post: to POST; None when it does not.
        open: GET is answered without a password.
    """

    get: Answer | None = None
    post: Answer | None = None
    open: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it answers."""
        return (("GET", "HEAD") if self.get else ()) + (("POST",) if self.post else ())


def at_once(answer: Callable[[Request], Response]) -> Answer:
    """An answer that waits for nothing."""

    async def answered(request: Request) -> Response:
        return answer(request)

    return answered


def json_response(
    document: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """A document as JSON."""
    body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(status, "application/json", body, headers or {})


def problem_response(problem: ProblemError) -> Response:
    """A problem as RFC 9457 writes it."""
    document = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": problem.status.value,
        "detail": problem.detail,
    }
    body = json.dumps(document).encode("ascii")
    return Response(problem.status, "application/problem+json", body, problem.headers)


def headers_of(response: Response) -> dict[str, str]:
    """Every header of a response, by name in lower case."""
    return {
        "content-type": response.content_type,
        "content-length": str(len(response.body)),
        "date": time.strftime(IMF_FIXDATE, time.gmtime()),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **response.headers,
    }
