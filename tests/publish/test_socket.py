"""The local socket: listening, limits, and clients that mean no good."""

import asyncio
import http.client
import json
import logging
import os
import re
import select
import socket
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.publish.runs import JSON, LocalConnection, dial, office, on_socket, post, say
from tests.publish.serving import hears_the_end
from tests.real_parts import open_to_all
from wattspan.errors import SetupError, UnreachableError
from wattspan.publish.pages import Request, Response, json_response
from wattspan.publish.peers import PeerProcesses
from wattspan.publish.socket_server import SocketLimits, SocketServer, bind

RUNS = "/api/v1/runs"
HASTY = SocketLimits(connections=8, request_s=0.3, answer_s=0.3)

BASE_INSTALL = """
import asyncio, sys
for name in ("uvicorn", "h11", "prometheus_client", "yaml", "bcrypt"):
    sys.modules[name] = None  # as if it were not installed
from pathlib import Path
from wattspan.model import LedgerView
from wattspan.publish.api import NodeInfo
from wattspan.publish.commands import Mailbox
from wattspan.publish.identity import Identity
from wattspan.publish.peers import PeerProcesses
from wattspan.publish.runs_api import RunsApi
from wattspan.publish.socket_server import SocketServer
from wattspan.publish.web import Site

class Door:
    view = LedgerView(sequence=0, taken_at_ns=0, wall_offset_ns=0, counters={})

class Shelf:
    def runs(self):
        return []
    def run(self, run_id, attempt):
        return None
    def seen(self):
        return []

processes = PeerProcesses()
api = RunsApi(Mailbox(lambda: None), Shelf(), Identity(processes), "")
site = Site(Door(), None, NodeInfo("laptop", "", "1", 1), runs=api)
server = SocketServer(Path(sys.argv[1]), site.answer, processes)
server.start()
print("up", flush=True)
sys.stdin.readline()
server.stop()
"""

SOMEBODY_ELSE = """
import os, socket, sys
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.send(
    b"POST /api/v1/runs HTTP/1.1\\r\\nContent-Type: application/json\\r\\n"
    b"Content-Length: 2\\r\\n\\r\\n{}"
)
assert b"201 Created" in client.recv(65536)
"""


def head(text: bytes) -> bytes:
    """A request's head with the lines' ends."""
    return text.replace(b"\n", b"\r\n") + b"\r\n\r\n"


def everything(client: socket.socket) -> bytes:
    """What comes until the connection ends."""
    got = bytearray()
    while piece := client.recv(1 << 20):
        got += piece
    return bytes(got)


def raw(path: Path, words: bytes) -> bytes:
    """What is answered to these bytes and the end."""
    with dial(path) as client:
        client.sendall(words)
        client.shutdown(socket.SHUT_WR)
        return everything(client)


# Serving


def test_the_same_pages_as_over_tcp(tmp_path: Path) -> None:
    """Runs, node, grid and probes are served; metrics are not, where nothing renders them."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        described = say(path, "GET", "/openapi.json").document["paths"]
        for page in ("/", "/-/healthy", "/-/ready", "/openapi.json", "/api/v1/node", "/api/v1/grid", RUNS):
            assert say(path, "GET", page).status == 200
            assert page in described
        assert say(path, "GET", "/metrics").status == 404
        assert "/metrics" not in described
        assert say(path, "GET", "/nothing").status == 404
        assert say(path, "GET", f"{RUNS}/a%2Fb").status == 400


def test_it_runs_without_the_daemons_extra(tmp_path: Path) -> None:
    """The base install serves the local socket with nothing but Python's own library."""
    path = tmp_path / "w.sock"
    with subprocess.Popen(
        [sys.executable, "-c", BASE_INSTALL, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        assert say(path, "GET", RUNS).document == {"runs": [], "next_cursor": None}
        server.communicate("\n", timeout=20)
    assert server.returncode == 0
    assert not path.exists()


def test_a_connection_takes_one_request_after_another(tmp_path: Path) -> None:
    """Connections are kept between requests, bodies or none."""
    with office() as runs, on_socket(runs.api, tmp_path) as path, closing(LocalConnection(path)) as kept:
        for _ in range(3):
            kept.request("POST", RUNS, b"{}", JSON)
            assert kept.getresponse().read()
            kept.request("HEAD", RUNS)
            assert kept.getresponse().read() == b""
            kept.request("GET", RUNS)
            assert len(json.loads(kept.getresponse().read())["runs"]) > 0
        assert len(runs.done) == 3


def test_head_has_no_body(tmp_path: Path) -> None:
    """The answer to HEAD ends with its head, and says how long the body of GET is."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        said = raw(path, head(b"HEAD /api/v1/node HTTP/1.1\nConnection: close"))
    assert said.endswith(b"\r\n\r\n")
    assert not re.search(rb"content-length: 0\r\n", said)


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    """Requests that come at once get their answers one after the other."""
    first, last = head(b"GET /-/healthy HTTP/1.1"), head(b"GET /nothing HTTP/1.1\nConnection: close")
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        said = raw(path, first + first + last)
    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"200", b"200", b"404"]
    assert said.count(b"connection: close") == 1


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(tmp_path: Path) -> None:
    """Expect: 100-continue is answered, and then the request."""
    with office() as runs, on_socket(runs.api, tmp_path) as path, dial(path) as client:
        client.sendall(
            head(
                b"POST /api/v1/runs HTTP/1.1\nContent-Type: application/json\n"
                b"Content-Length: 2\nExpect: 100-continue\nConnection: close"
            )
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"{}")
        assert everything(client).startswith(b"HTTP/1.1 201 Created\r\n")


def test_anybody_may_connect(tmp_path: Path) -> None:
    """The socket is there for every user; its folder is made when it is missing."""
    with office() as runs, on_socket(runs.api, tmp_path / "run" / "wattspan") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_another_user_is_known_by_its_own_name(tmp_path: Path) -> None:
    """The uid of a caller is the peer's."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    open_to_all(tmp_path)
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        subprocess.run([sys.executable, "-c", SOMEBODY_ELSE, str(path)], check=True)
        (command,) = runs.done
    assert command.caller.uid == 65534


# Paths


def test_what_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    """A socket that nobody listens on does not stop a start."""
    path = tmp_path / "w.sock"
    bind(path).close()
    assert path.is_socket()
    with bind(path), dial(path):
        pass


def test_a_socket_that_is_listened_on_is_left_alone(tmp_path: Path) -> None:
    """A second daemon does not take the socket from the first, nor remove it when it stops."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        with pytest.raises(
            UnreachableError, match="another daemon listens there; choose another path with --socket"
        ):
            bind(path)
        assert say(path, "GET", RUNS).status == 200


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """Somebody's file is never removed."""
    path = tmp_path / "w.sock"
    path.write_text("precious")
    with pytest.raises(UnreachableError, match="there is a file that is no socket"):
        bind(path)
    assert path.read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    """Linux takes 107 bytes; more is said before anything is tried."""
    with pytest.raises(SetupError, match="allowed: 107 bytes at most"):
        bind(tmp_path / ("x" * 120))


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    """The system's reason is passed on."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreachableError, match="Not a directory"):
        bind(tmp_path / "file" / "w.sock")


def test_a_stop_removes_its_own_socket_only(tmp_path: Path) -> None:
    """A socket that another daemon has put in the place stays."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        path.unlink()
        other = bind(path)
    assert path.is_socket()
    other.close()


# Clients that mean no good


def test_silent_clients_keep_nobody_out(tmp_path: Path) -> None:
    """When connections run out, those that have been silent longest make room."""
    patient = SocketLimits(connections=8)
    with office() as runs, on_socket(runs.api, tmp_path, patient) as path, ExitStack() as stack:
        silent = [stack.enter_context(dial(path)) for _ in range(30)]
        for _ in range(5):
            assert say(path, "GET", RUNS).status == 200
        assert all(hears_the_end(client) for client in silent[:20])


def stall(path: Path) -> socket.socket:
    """A client whose body is waited for."""
    client = dial(path)
    client.sendall(
        head(
            b"POST /api/v1/runs HTTP/1.1\nContent-Type: application/json\n"
            b"Content-Length: 2\nExpect: 100-continue"
        )
    )
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return client


def test_where_nobody_can_make_room_a_newcomer_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit holds when all clients are in the middle of a request; the log has one line about it."""
    limits = SocketLimits(connections=8)
    with office() as runs, on_socket(runs.api, tmp_path, limits) as path, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(stall(path))
        for _ in range(20):
            with dial(path) as client:
                assert everything(client).startswith(b"HTTP/1.1 503 ")
    (line,) = caplog.messages
    assert line == f"the local socket has too many clients; one of uid {os.geteuid()} was refused"


def test_one_user_does_not_keep_others_out(tmp_path: Path) -> None:
    """A user with as many clients as one user may have is refused, and the others are not."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    open_to_all(tmp_path)
    limits = SocketLimits(connections=8, per_user=4)
    with office() as runs, on_socket(runs.api, tmp_path, limits) as path, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(stall(path))
        with dial(path) as client:
            assert everything(client).startswith(b"HTTP/1.1 503 ")
        subprocess.run([sys.executable, "-c", SOMEBODY_ELSE, str(path)], check=True)


@pytest.mark.parametrize("words", [b"", b"GET / HT", b"POST /api/v1/runs HTTP/1.1\r\nContent-Le"])
def test_a_client_that_stops_in_mid_word_is_dropped(tmp_path: Path, words: bytes) -> None:
    """A head that does not become complete in time ends the connection."""
    with office() as runs, on_socket(runs.api, tmp_path, HASTY) as path, dial(path) as client:
        client.sendall(words)
        assert everything(client) == b""


def test_a_client_that_does_not_take_its_answer_is_dropped(tmp_path: Path) -> None:
    """An answer that is not taken in time is given up."""

    async def huge(_: Request) -> Response:
        return json_response({"x": "y" * 10_000_000})

    server = SocketServer(tmp_path / "w.sock", huge, PeerProcesses(), HASTY)
    server.start()
    try:
        with dial(server.path) as client:
            client.sendall(head(b"GET / HTTP/1.1"))
            gone = select.poll()
            gone.register(client, 0)  # only its end is waited for; nothing is read
            assert gone.poll(20_000)
    finally:
        server.stop()


def test_a_slow_taker_gets_its_whole_answer(tmp_path: Path) -> None:
    """The time for an answer is its own, and not that for the next request."""

    async def huge(_: Request) -> Response:
        return json_response({"x": "y" * 10_000_000})

    limits = SocketLimits(request_s=0.1, answer_s=60)
    server = SocketServer(tmp_path / "w.sock", huge, PeerProcesses(), limits)
    server.start()
    try:
        with dial(server.path) as client:
            client.sendall(head(b"GET / HTTP/1.1"))
            threading.Event().wait(0.4)
            assert len(everything(client)) > 10_000_000
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (b"nonsense", 400, b"not an HTTP/1.1 request"),
        (b"GET / HTTP/2.0", 400, b"not an HTTP/1.1 request"),
        (b"GET http://x/ HTTP/1.1", 400, b"not an HTTP/1.1 request"),
        (b"GET /\xc3\xa9 HTTP/1.1", 400, b"not an HTTP/1.1 request"),
        (b"GET / HTTP/1.1\nbroken", 400, b"a header is malformed"),
        (b"GET / HTTP/1.1\nA: b\n folded", 400, b"a header is malformed"),
        (b"GET / HTTP/1.1\nA : b", 400, b"a header is malformed"),
        (b"POST /api/v1/runs HTTP/1.1\nTransfer-Encoding: chunked", 411, b"Content-Length"),
        (b"POST /api/v1/runs HTTP/1.1\nContent-Length: 2\nContent-Length: 3", 400, b"Content-Length"),
        (b"POST /api/v1/runs HTTP/1.1\nContent-Length: -1", 400, b"Content-Length"),
        (b"POST /api/v1/runs HTTP/1.1\nContent-Length: 65537", 413, b"65536 bytes at most"),
        (b"POST /api/v1/runs HTTP/1.1\nContent-Length: " + b"9" * 400, 413, b"65536 bytes at most"),
        (b"GET / HTTP/1.1\nA: " + b"b" * 20_000, 431, b"16384 bytes at most"),
        (b"GET /?" + b"b" * 5000 + b" HTTP/1.1\nConnection: close", 414, b"4096 bytes at most"),
    ],
)
def test_what_is_no_request_is_a_problem(tmp_path: Path, words: bytes, status: int, named: bytes) -> None:
    """Each has a problem document for an answer, and the connection ends."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        said = raw(path, head(words))
        assert runs.done == []
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in said
    assert b"connection: close" in said
    assert named in said


def test_a_body_that_ends_too_early_is_a_problem(tmp_path: Path) -> None:
    """Half a body is a 400, not half a run."""
    words = head(b"POST /api/v1/runs HTTP/1.1\nContent-Type: application/json\nContent-Length: 20") + b'{"na'
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        said = raw(path, words)
        assert runs.done == []
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"the body is not complete" in said


def test_whoever_sends_too_much_still_reads_why(tmp_path: Path) -> None:
    """A client in the middle of a large body gets to read the refusal."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        answer = post(path, RUNS, b" " * 900_000)
    assert answer.status == 413


def test_a_bug_of_ours_is_a_500_and_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A page that fails says so to its client and the log, and the server goes on."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        runs.clerk.shelf.records.append("no record")  # type: ignore[arg-type]
        assert say(path, "GET", RUNS).status == 500
        assert say(path, "GET", "/-/healthy").status == 200
    assert [line.levelno for line in caplog.records] == [logging.ERROR]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    garbage=st.binary(min_size=1, max_size=300)
    | st.binary(max_size=100).map(b"POST /api/v1/runs HTTP/1.1\r\n".__add__)
    | st.binary(max_size=60).map(lambda path: b"GET /" + path + b" HTTP/1.1\r\n\r\n")
)
def test_no_bytes_harm_the_server(shared: Path, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Any bytes at all end in an answer below 500 or a closed connection, and leave no line in the log."""
    with dial(shared) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        said = everything(client)
    assert not said or re.match(rb"HTTP/1\.1 [24]\d\d ", said)
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> "Path":
    """One socket for many requests."""
    with ExitStack() as stack:
        runs = stack.enter_context(office())
        yield stack.enter_context(on_socket(runs.api, tmp_path_factory.mktemp("shared")))  # type: ignore[misc]


def test_a_stop_lets_an_answer_end(tmp_path: Path) -> None:
    """What is being answered when the server is told to stop is answered, and the silent are sent off."""
    going = threading.Event()

    async def slow(_: Request) -> Response:
        going.set()
        await asyncio.sleep(0.3)
        return json_response({})

    server = SocketServer(tmp_path / "w.sock", slow, PeerProcesses())
    server.start()
    with dial(server.path) as silent, dial(server.path) as client:
        client.sendall(head(b"GET / HTTP/1.1"))
        assert going.wait(10)
        server.stop(10)
        assert everything(client).startswith(b"HTTP/1.1 200 ")
        assert hears_the_end(silent)
    with pytest.raises((FileNotFoundError, http.client.HTTPException)):
        say(server.path, "GET", "/")
