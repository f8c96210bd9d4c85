"""Any service that knows about the grid, on loopback: it answers by path as it is told, and remembers who
asked.

It speaks HTTP/1.1 and keeps connections open, so that what a client reuses can be counted.
What it is told may change between two requests. Asked by absolute URL it answers all the same: it is then
the HTTP proxy of the client, and `Request.target` shows it.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

PATIENCE_S: Final = 10.0
"""How long a request is waited for: the thread that reads it may be late on a busy machine."""


@dataclass(frozen=True)
class Answer:
    """What the service says.

    Attributes:
        status: of HTTP.
        json: the body, if `body` is None; any value, `None` is the document ``null``.
        body: the body as bytes.
        headers: beside Content-Type and Content-Length, which they override.
        delay_s: silence before the first byte.
        drip_s: silence before each byte of the body, or of `raw`.
        missing_bytes: so many more are promised by Content-Length than are sent.
        raw: sent instead of all of this, status line included; then the connection is closed.
    """

    status: int = 200
    json: Any = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.0
    missing_bytes: int = 0
    raw: bytes | None = None


@dataclass(frozen=True)
class Request:
    """What somebody asked.

    Attributes:
        method: of HTTP.
        path: without the query.
        query: each member's last value.
        headers: by lower-case name.
        body: as sent.
        target: as it stood in the request line; a whole URL when the client took us for its proxy.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: str


Saying = Answer | Callable[[Request], Answer]
"""An answer, or what makes one of the request."""


class GridService:
    """The service; see `serving`.

    Attributes:
        requests: all that came, in order.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._rules: list[tuple[str, list[Saying]]] = []
        self._open: set[socket.socket] = set()
        self._connections = 0
        self._stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def connections(self) -> int:
        """How many were ever opened."""
        return self._connections

    def says(self, path: str, *sayings: Saying) -> None:
        """From now on, answer so; 404 to what it was told nothing about.

        Args:
            path: may hold the wildcards of `fnmatch`; of several that match, the one told last counts.
            sayings: one after another, then the last one again and again.
        """
        with self._lock:
            self._rules.insert(0, (path, list(sayings)))

    def says_json(self, path: str, document: Any) -> None:
        """From now on, answer with this document."""
        self.says(path, Answer(json=document))

    @property
    def first(self) -> Request:
        """The first request. Waits for it: a client that is in a hurry may have left before it was read."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not self.requests and time.monotonic() < give_up_s:
            time.sleep(0.01)
        return self.requests[0]

    def asked(self, path: str = "*") -> Sequence[Request]:
        """The requests for a path, which may hold wildcards."""
        return [request for request in list(self.requests) if fnmatchcase(request.path, path)]

    def drop_connections(self) -> None:
        """Cut every connection that is open now, as a load balancer does with idle ones."""
        with self._lock:
            gone, self._open = self._open, set()
        for connection in gone:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            for path, sayings in self._rules:
                if fnmatchcase(request.path, path):
                    saying = sayings.pop(0) if len(sayings) > 1 else sayings[0]
                    break
            else:
                return Answer(404, {"error": "no such path"})
        return saying if isinstance(saying, Answer) else saying(request)

    def _start(self) -> None:
        self._thread.start()

    def _stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.drop_connections()


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[GridService]:
    """A service that listens until the block ends.

    Args:
        tls: its certificate; None for plain HTTP.
    """
    service = GridService(tls)
    service._start()
    try:
        yield service
    finally:
        service._stop()


def page(title: str = "Sign in") -> Answer:
    """What a captive portal or a single sign-on answers to everything: a page, with 200."""
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><form></form></body></html>"
    return Answer(body=body.encode(), headers={"Content-Type": "text/html"})


def cut_off(answer: Answer, missing_bytes: int = 100) -> Answer:
    """The same answer, but the connection breaks before all that was promised has come."""
    return replace(answer, missing_bytes=missing_bytes)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the certificate, or is gone, is none of the tests' business."""


class _Handler(BaseHTTPRequestHandler):
    service: GridService
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.service._lock:
            self.service._connections += 1
            self.service._open.add(self.connection)

    def handle(self) -> None:
        with suppress(OSError, ValueError):  # the client went away, or the service was stopped
            super().handle()

    def finish(self) -> None:
        with self.service._lock:
            self.service._open.discard(self.connection)
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=parts.path,
            query={name: values[-1] for name, values in parse_qs(parts.query, True).items()},
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(size) if size else b"",
            target=self.path,
        )
        self._send(self.service._answer(request))

    do_POST = do_GET  # noqa: N815 - of the base class
    do_PUT = do_GET  # noqa: N815 - of the base class
    do_CONNECT = do_GET  # noqa: N815 - of the base class; as a proxy that may say no

    def _send(self, answer: Answer) -> None:
        if answer.delay_s and self.service._stopping.wait(answer.delay_s):
            return
        if answer.raw is not None:
            self.close_connection = True
            self._write(answer.raw, answer.drip_s)
            return
        body = json.dumps(answer.json).encode() if answer.body is None else answer.body
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body) + answer.missing_bytes),
            **answer.headers,
        }
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.missing_bytes:
            self.close_connection = True
        self._write(body, answer.drip_s)

    def _write(self, what: bytes, drip_s: float) -> None:
        if not drip_s:
            self.wfile.write(what)
            return
        for byte in what:
            if self.service._stopping.wait(drip_s):
                return
            self.wfile.write(bytes([byte]))
