"""Collectors on loopback: the real one of the package rotel, and stand-ins that answer as a test wishes."""

import gzip
import importlib.util
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from tests.publish.certificates import Pair
from tests.real_parts import need

PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Reply:
    """What a stand-in answers.

    Attributes:
        status: of HTTP.
        body, content_type: over HTTP.
        rejected: spans that a partial success says it rejected.
        headers: more of them.
        code: of gRPC; OK answers with `rejected`.
        hang: say nothing until the collector is closed.
        cut: close the connection without a word.
    """

    status: int = 200
    body: bytes | None = None
    content_type: str = PROTOBUF
    rejected: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    code: grpc.StatusCode = grpc.StatusCode.OK
    hang: bool = False
    cut: bool = False

    @property
    def response(self) -> ExportTraceServiceResponse:
        """As OTLP has it; nothing at all for a full success, as the specification asks."""
        response = ExportTraceServiceResponse()
        if self.rejected:
            response.partial_success.rejected_spans = self.rejected
            response.partial_success.error_message = "too\nodd"
        return response

    @property
    def acknowledges(self) -> bool:
        """Whether it tells that all was taken."""
        plain = self.status == 200 and self.body is None and self.code is grpc.StatusCode.OK
        return plain and not (self.rejected or self.hang or self.cut)


Policy = Callable[[Sequence[str]], Reply]
"""From the span ids of a request, in order, to what is answered."""


@dataclass
class StandIn:
    """A collector that follows a policy.

    Attributes:
        endpoint: to name in OTEL_EXPORTER_OTLP_ENDPOINT.
        policy: asked for each request; may be changed at any time.
        requests: span ids of each request, in order.
        headers: of the last request.
        acknowledged: span ids that were told to be taken.
    """

    endpoint: str = ""
    policy: Policy = lambda _: Reply()
    requests: list[list[str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    closing: threading.Event = field(default_factory=threading.Event)

    def take(self, request: ExportTraceServiceRequest) -> Reply:
        """Decide on a request, and note it."""
        ids = [
            span.span_id.hex()
            for about in request.resource_spans
            for scope in about.scope_spans
            for span in scope.spans
        ]
        self.requests.append(ids)
        reply = self.policy(ids)
        if reply.hang:
            self.closing.wait(30)
        if reply.acknowledges:
            self.acknowledged.update(ids)
        return reply


@dataclass(frozen=True)
class Tls:
    """What a stand-in shows, and whom it asks its clients to be signed by."""

    pair: Pair
    authority_pem: bytes

    def context(self) -> ssl.SSLContext:
        """For a socket of Python."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(cadata=self.authority_pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        with tempfile.NamedTemporaryFile() as both:
            both.write(self.pair.certificate + self.pair.key)
            both.flush()
            context.load_cert_chain(both.name)
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """For a server of gRPC."""
        shown = [(self.pair.key, self.pair.certificate)]
        return grpc.ssl_server_credentials(shown, self.authority_pem, require_client_auth=True)


@contextmanager
def over_http(tls: Tls | None = None) -> Iterator[StandIn]:
    """A stand-in that speaks OTLP/HTTP."""
    collector = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            collector.headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            reply = collector.take(ExportTraceServiceRequest.FromString(body))
            if reply.cut or reply.hang:
                self.close_connection = True
                return
            answer = reply.response.SerializeToString() if reply.body is None else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that went away in mid-request is part of the story

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    collector.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def over_grpc(tls: Tls | None = None) -> Iterator[StandIn]:
    """A stand-in that speaks OTLP/gRPC."""
    collector = StandIn()

    class Servicer(TraceServiceServicer):
        def Export(  # noqa: N802 - the name that the service has
            self, request: ExportTraceServiceRequest, context: Any
        ) -> ExportTraceServiceResponse:
            collector.headers = dict(context.invocation_metadata())
            reply = collector.take(request)
            if reply.cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            if reply.code is not grpc.StatusCode.OK:
                context.abort(reply.code, "as the test wishes")
            return reply.response

    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(Servicer(), server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, tls.credentials()) if tls else server.add_insecure_port(address)
    server.start()
    collector.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        collector.closing.set()
        server.stop(None).wait()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Rotel:
    """The real collector, which prints every span that it takes.

    Args:
        folder: for its output, which is kept over restarts.
        printed: what it prints, ``traces`` or ``metrics``.
    """

    def __init__(self, folder: Path, printed: str = "traces") -> None:
        found = importlib.util.find_spec("rotel")
        need("rotel", found is not None and found.origin is not None)
        assert found is not None
        assert found.origin is not None
        self._program = Path(found.origin).with_name("rotel-agent")
        self._prints = printed
        self._output = folder / "rotel.out"
        self._ports = {"http/protobuf": free_port(), "grpc": free_port()}
        self._pid_file = folder / "rotel.pid"
        self._process: subprocess.Popen[bytes] | None = None

    def endpoint(self, protocol: str) -> str:
        """To name in OTEL_EXPORTER_OTLP_ENDPOINT; the same over restarts."""
        return f"http://127.0.0.1:{self._ports[protocol]}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        http, grpc_port = self._ports["http/protobuf"], self._ports["grpc"]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    self._program,
                    "start",
                    f"--otlp-http-endpoint=127.0.0.1:{http}",
                    f"--otlp-grpc-endpoint=127.0.0.1:{grpc_port}",
                    f"--pid-file={self._pid_file}",
                    *("--exporter", "blackhole", "--batch-timeout", "50ms"),
                    *("--debug-log", self._prints, "--debug-log-verbosity", "detailed"),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        _until(lambda: all(_listens(port) for port in (http, grpc_port)), "rotel does not listen")

    def freeze(self) -> None:
        """Let it be there without a word: connections are made, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # A signal only asks: on a busy machine its threads go on for a while, and may answer.
        tasks = Path("/proc", str(self._process.pid), "task")
        while any(_state(task) != "T" for task in tasks.iterdir()):
            time.sleep(0.001)

    def kill(self) -> None:
        """kill -9; may be called when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def output(self, holding: str) -> str:
        """All that it has printed, once that holds a text."""
        _until(lambda: holding in self._output.read_text(), f"rotel has not printed {holding}")
        return self._output.read_text()

    def spans(self, at_least: int) -> dict[str, dict[str, Any]]:
        """What it has printed so far, by span id, once there are so many."""
        _until(lambda: len(self._printed()) >= at_least, f"rotel has not printed {at_least} spans")
        return self._printed()

    def _printed(self) -> dict[str, dict[str, Any]]:
        spans: dict[str, dict[str, Any]] = {}
        resource: dict[str, str] = {}
        scope = schema = ""
        # Blocks begin with a word at the left margin; what is known of the resource holds until the next.
        for block in re.split(
            r"^(?=ResourceSpans #|ScopeSpans #|Span #)", self._output.read_text(), flags=re.MULTILINE
        ):
            if block.startswith("ResourceSpans"):
                resource = _attributes(block)
            elif block.startswith("ScopeSpans"):
                schema = _field(block, "ScopeSpans SchemaURL")
                scope = re.findall(r"^InstrumentationScope (.*)$", block, flags=re.MULTILINE)[0]
            elif block.startswith("Span"):
                body, _, links = block.partition("\nLinks:")
                spans[_field(body, "    ID")] = {
                    "trace_id": _field(body, "Trace ID"),
                    "parent": _field(body, "Parent ID"),
                    "name": _field(body, "Name"),
                    "kind": _field(body, "Kind"),
                    "start": int(_field(body, "Start time")),
                    "end": int(_field(body, "End time")),
                    "status": _field(body, "Status code"),
                    "message": _field(body, "Status message"),
                    "attributes": _attributes(body),
                    "links": re.findall(r"Trace ID: (\w+)\n\s*-> ID: (\w+)", links),
                    "resource": resource,
                    "scope": scope,
                    "schema": schema,
                }
        return spans


def _field(block: str, name: str) -> str:
    found = re.search(rf"^\s*{name.strip()}\s*: ?(.*)$", block, flags=re.MULTILINE)
    return found.group(1).strip() if found else ""


def _attributes(block: str) -> dict[str, str]:
    return dict(re.findall(r"^\s*-> ([\w.]+): (.*)$", block, flags=re.MULTILINE))


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _until(there: Callable[[], bool], otherwise: str) -> None:
    for _ in range(600):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError(otherwise)


def _state(task: Path) -> str:
    """Of a thread, by the third field of proc(5)'s stat; its name before that may hold anything."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]
