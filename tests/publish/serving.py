"""The real server on loopback, and clients that talk to it."""

import http.client
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.publish.views import TAKEN_AT_NS, Door
from wattspan.model import LedgerView
from wattspan.publish.api import NodeInfo
from wattspan.publish.connection import Limits
from wattspan.publish.listen import bind
from wattspan.publish.server import Server
from wattspan.publish.tls import TlsGate
from wattspan.publish.web import Asgi, Guard, application
from wattspan.units import NS_PER_S

NODE = NodeInfo(node="gpu-17", cluster="prod-eu", version="0.1.0", interval_ns=NS_PER_S)


@dataclass(frozen=True)
class Text:
    """A rendering."""

    body: bytes
    content_type: str = "text/plain; version=0.0.4; charset=utf-8"
    series_dropped: int = 3


@dataclass
class Renderer:
    """Renders a view as its sequence, and counts how often."""

    size: int = 0
    calls: list[tuple[int, str]] = field(default_factory=list)

    def __call__(self, view: LedgerView, accept: str) -> Text:
        """The sequence, padded to a size."""
        self.calls.append((view.sequence, accept))
        return Text(f"sequence {view.sequence}\n".encode().ljust(self.size, b"x"))


def app(
    door: Door | None = None,
    render: Callable[[LedgerView, str], Any] | None = None,
    guard: Guard | None = None,
    now_ns: Callable[[], int] = lambda: TAKEN_AT_NS + NS_PER_S,
) -> Asgi:
    """The application with everything it needs."""
    return application(door or Door(), render or Renderer(), NODE, guard=guard, now_ns=now_ns)


@contextmanager
def serving(
    asgi: Asgi | None = None,
    *,
    gate: Callable[[], TlsGate | None] | None = None,
    limits: Limits | None = None,
) -> Iterator[int]:
    """A running server; gives its port."""
    sockets = bind(["127.0.0.1:0"])
    server = Server(sockets, asgi or app(), gate=gate, limits=limits)
    port: int = sockets[0].getsockname()[1]
    server.start()
    try:
        yield port
    finally:
        server.stop()


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(
    port: int,
    path: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own."""
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=tls)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, got, answer.read())
    finally:
        connection.close()


def basic(user: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def connect(port: int, timeout_s: float = 20.0) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


def hears_the_end(client: socket.socket) -> bool:
    """Whether the other side ends the connection, politely or not, before the socket's timeout."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True
