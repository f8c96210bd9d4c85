"""A daemon that speaks the runs API over a real unix socket, and can be made to misbehave.

As a program (``python -m tests.client.stand_in SOCKET [LOG]``) it is the ephemeral daemon of the tests:
it notes its start in LOG and serves until it is told to stop.
"""

import http.server
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Document = dict[str, Any]
TRACE_ID = "b641e7d2518e39667fb3d3367234428a"
NODE_SPAN_ID = "716e3c77dbe98c6d"


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    document: Document
    headers: dict[str, str] = field(default_factory=dict)


def summary(run_id: str, attempt: int, result: str) -> Document:
    """What the daemon says of a run that has ended."""
    return {
        "run_id": run_id,
        "attempt": attempt,
        "state": "ended",
        "result": result,
        "run_name": "llama",
        "project": "nlp",
        "group": "",
        "node": "node-a",
        "began_at": "2026-10-01T10:00:00Z",
        "ended_at": "2026-10-01T11:00:00Z",
        "duration_seconds": 3600.0,
        "energy_joules": 3_600_000.0,
        "energy_by_component": {"gpu": 3_000_000.0, "cpu": 600_000.0, "dram": None},
        "co2e_grams": 345.0,
        "cost": None,
        "currency": "",
        "gpu_seconds": 28_800.0,
        "idle_gpu_seconds": 36.0,
        "gpu_count": 8,
        "progress": {"steps": 500, "samples": 0, "tokens": 0, "total_steps": None},
        "attribution": ["exclusive"],
        "missing": {"cost": "no price is configured", "energy_by_component.dram": "not measured here"},
    }


def phases_of(document: Document) -> list[Document]:
    """What a body about phases tells."""
    told: list[Document] = document.get("phases", [document])
    return told


class StandIn:
    """What the daemon does; a test changes it as it goes.

    Attributes:
        asked: every request, in order.
        answer: makes status and body of a request; the real answers by default.
        mute: requests are taken and never answered.
        address: where it listens.
        raw: bytes to send in place of any HTTP answer.
        grid: what is said of the grid, by path.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], tuple[int, Any]] = self.usual
        self.mute = False
        self.address: Any = None
        self.raw = b""
        self.grid: dict[str, Document] = {}
        self._runs: set[str] = set()
        self._changed = threading.Condition()
        self.stopped = threading.Event()

    def take(self, asked: Asked) -> tuple[int, bytes]:
        """Answer a request."""
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()
        status, body = self.answer(asked)
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()

    def usual(self, asked: Asked) -> tuple[int, Document]:
        """What the contract says."""
        if asked.path.startswith("/api/v1/grid"):
            return 200, self.grid.get(asked.path, {})
        if asked.path == "/api/v1/runs":
            return self._begin(asked.document)
        _, _, _, _, run_id, what = asked.path.split("/")
        if run_id not in self._runs:
            return 404, {"title": "Not Found", "detail": f"no run {run_id} is known on this node"}
        if what == "progress":
            return 200, {"progress_ratio": 0.5, "projected_co2e_grams": 700.0}
        if what == "phases":
            return 200, {}
        self._runs.discard(run_id)
        return 200, summary(run_id, asked.document["attempt"], asked.document["result"])

    def _begin(self, document: Document) -> tuple[int, Document]:
        run_id = document.get("run_id") or document.get("markers", {}).get("WATTSPAN_RUN_ID", "given-1")
        status = 200 if run_id in self._runs else 201
        self._runs.add(run_id)
        return status, {
            "run_id": run_id,
            "attempt": document.get("attempt", 0),
            "run_name": document.get("name", ""),
            "trace_id": TRACE_ID,
            "run_span_id": "a3d0bdb7167b9d71",
            "node_span_id": NODE_SPAN_ID,
            "began_at": "2026-10-01T10:00:00Z",
            "state": "running",
        }

    def forget(self) -> None:
        """As after a lost journal."""
        self._runs.clear()

    def about(self, path: str) -> list[Document]:
        """The bodies of what was asked at paths that end so."""
        return [asked.document for asked in list(self.asked) if asked.path.endswith(path)]

    @property
    def phases(self) -> list[Document]:
        """Begins and ends of phases, in order, whether they came one by one or together."""
        return [phase for body in self.about("/phases") for phase in phases_of(body)]

    def wait_for(self, path: str, count: int = 1) -> list[Document]:
        """The same, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.about(path)) >= count, 30), self.asked
        return self.about(path)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self._do({})

    def do_POST(self) -> None:
        self._do(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _do(self, document: Document) -> None:
        stand_in = self.server.stand_in
        asked = Asked(self.path, document, dict(self.headers))
        if stand_in.mute:
            with stand_in._changed:
                stand_in.asked.append(asked)
                stand_in._changed.notify_all()
            stand_in.stopped.wait(60)
            return
        if stand_in.raw:
            stand_in.take(asked)
            self.wfile.write(stand_in.raw)
            self.close_connection = True
            return
        status, answer = stand_in.take(asked)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the client may have gone
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "peer"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, place: Any, stand_in: StandIn) -> None:
        self.stand_in = stand_in
        super().__init__(place, _Handler)


class _TcpServer(_Server):
    address_family = socket.AF_INET

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


@contextmanager
def serving(place: Path | tuple[str, int], stand_in: StandIn | None = None) -> Iterator[StandIn]:
    """A daemon on this socket, or on this address, while this lasts."""
    stand_in = stand_in or StandIn()
    server = _Server(str(place), stand_in) if isinstance(place, Path) else _TcpServer(place, stand_in)
    stand_in.address = server.server_address
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
        if isinstance(place, Path):
            place.unlink(missing_ok=True)


def main() -> None:
    """Be an ephemeral daemon that takes a moment to start."""
    place = Path(sys.argv[1])
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a") as starts:
            held = sorted(os.listdir("/proc/self/fd"), key=int)
            seen = {
                "pid": os.getpid(),
                "sid": os.getsid(0),
                "fds": len(held),
                "blocked": len(mask),
                "environ": dict(os.environ),
            }
            print(json.dumps(seen), file=starts)
    time.sleep(0.3)
    place.unlink(missing_ok=True)
    with serving(place):
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
