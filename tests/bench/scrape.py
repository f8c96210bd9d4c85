"""A client that scrapes as Prometheus does."""

import gzip
import re
import socket
import time
from dataclasses import dataclass

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""The Accept header of Prometheus 2.42 (scrape/scrape.go)."""

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""The Accept header of Prometheus 3 (config.DefaultScrapeProtocols)."""


AWAKE_S = 0.02
"""How long the client spins before it asks, so that its own waking up is not taken for the server's."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer.

    Attributes:
        wall_s: from the request to the last byte, connecting included where the server closes each time.
        samples: lines that a Prometheus stores.
        wire_bytes: of the body as sent, compressed or not.
    """

    wall_s: float
    samples: int
    wire_bytes: int


class Scraper:
    """Keeps its connection as long as the server does; sends the headers of Prometheus 2 and 3 in turn.

    It speaks HTTP by itself, for http.client takes about as long over a head as a good server over all of it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._scrapes = 0

    def scrape(self) -> Scrape:
        """One GET of /metrics.

        Raises:
            OSError: no answer, or half of one.
            ValueError: an answer that is no exposition.
        """
        self._scrapes += 1
        request = _request(PROMETHEUS_3 if self._scrapes % 2 else PROMETHEUS_2)
        _stay_awake()
        began_s = time.perf_counter()
        head, body = self._ask(request)
        wall_s = time.perf_counter() - began_s
        status, headers = _parse(head)
        if headers.get("connection", "keep-alive" if b"HTTP/1.1" in head else "close") == "close":
            self.close()
        if " 200 " not in status:
            raise ValueError(f"/metrics answered {status!r}: {body[:200]!r}")
        text = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        return Scrape(wall_s, count_samples(text.decode()), len(body))

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, request: bytes) -> tuple[bytes, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._socket.sendall(request)
        return _answer(self._socket)


def count_samples(exposition: str) -> int:
    """Lines of a text or OpenMetrics exposition that hold a sample."""
    return sum(1 for line in exposition.splitlines() if line and not line.startswith("#"))


def _request(accept: str) -> bytes:
    """As Prometheus writes it; it has Go's client add Host first."""
    lines = (
        "GET /metrics HTTP/1.1",
        "Host: 127.0.0.1",
        "User-Agent: Prometheus/2.42.0",
        f"Accept: {accept}",
        "Accept-Encoding: gzip",
        "X-Prometheus-Scrape-Timeout-Seconds: 10",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _stay_awake() -> None:
    until_s = time.perf_counter() + AWAKE_S
    while time.perf_counter() < until_s:
        pass


def _answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body; the body ends where its length says, else with the connection."""
    received = bytearray()
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, body = received.split(b"\r\n\r\n", 1)
    announced = re.search(rb"(?im)^content-length: *([0-9]+)", head)
    if announced is None:
        while chunk := connection.recv(1 << 20):
            body += chunk
    else:
        while len(body) < int(announced[1]):
            body += _some(connection)
    return bytes(head), bytes(body)


def _some(connection: socket.socket) -> bytes:
    chunk = connection.recv(1 << 20)
    if not chunk:
        raise ConnectionError("the server hung up in the middle")
    return chunk


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return status, {name.lower(): value.strip().lower() for name, _, value in pairs}
