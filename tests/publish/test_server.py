"""The server: listening, limits, and clients that mean no good."""

import logging
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.publish.certificates import Authority
from tests.publish.serving import Renderer, app, ask, connect, hears_the_end, serving
from tests.publish.views import Door, filled
from wattspan.errors import SetupError, UnreachableError
from wattspan.publish.connection import MAX_HEAD_BYTES, Limits
from wattspan.publish.listen import bind
from wattspan.publish.server import Server
from wattspan.publish.tls import TlsGate, TlsSettings, gate

HASTY = Limits(request_s=1, answer_s=1, idle_s=1)
PATIENT_BETWEEN_REQUESTS = Limits(request_s=1, answer_s=1, idle_s=600)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Who signs the certificates here."""
    return Authority()


@pytest.fixture(scope="module")
def protected(authority: Authority) -> TlsGate:
    """A gate with a certificate for loopback."""
    pair = authority.pair()
    return gate(TlsSettings(pair.certificate, pair.key))


@contextmanager
def silent(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Clients that connect and say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(port)) for _ in range(count)]


def drip(client: socket.socket, words: bytes) -> None:
    """Say something one byte at a time."""
    for letter in words:
        client.sendall(bytes((letter,)))
        time.sleep(0.01)


def packets_with_data(client: socket.socket) -> int:
    """How many have come in: tcpi_data_segs_in of struct tcp_info (include/uapi/linux/tcp.h)."""
    (count,) = struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)
    return int(count)


def sockets_at(port: int) -> list[str]:
    """Descriptors of this process that are sockets with this local port: the server's side."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError), socket.socket(fileno=os.dup(int(number))) as copy:
            if copy.getsockname()[1:2] == (port,):
                found.append(number)
    return found


def everything(client: socket.socket) -> bytes:
    """What comes until the connection ends, politely or not."""
    got = bytearray()
    with suppress(ConnectionError):
        while piece := client.recv(1 << 20):
            got += piece
    return bytes(got)


def twenty_scrapes(port: int, tls: ssl.SSLContext | None = None) -> set[int]:
    """The statuses of twenty scrapes at once."""
    with ThreadPoolExecutor(20) as scrapers:
        return {answer.status for answer in scrapers.map(lambda _: ask(port, "/metrics", tls=tls), range(20))}


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", ":0", "0.0.0.0:0", "localhost:0"])
def test_every_form_of_address_listens(address: str) -> None:
    """Each documented form of a listen address takes connections."""
    (listener,) = bind([address])
    with listener:
        host = "::1" if address.startswith("[") else "127.0.0.1"
        with socket.create_connection((host, listener.getsockname()[1]), timeout=5):
            pass


def test_an_address_without_host_takes_both_families() -> None:
    """:PORT listens on IPv6 and IPv4."""
    (listener,) = bind([":0"])
    port = listener.getsockname()[1]
    with listener:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), timeout=5):
                pass


def test_accepted_sockets_tell_asyncio_that_they_are_tcp() -> None:
    """Answers do not wait for delayed acknowledgements: asyncio sets TCP_NODELAY on what says it is TCP."""
    (listener,) = bind(["127.0.0.1:0"])
    with listener, connect(listener.getsockname()[1]):
        select.select([listener], [], [], 5)
        taken, _ = listener.accept()
        with taken:
            assert taken.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    "address",
    ["", "9746", ":", ":x", ":65536", "127.0.0.1", "::1:9746", "[::1]", "[1.2.3.4]:1", ":٣", ":-1", "a\n:1"],
)
def test_a_malformed_address_is_named(address: str) -> None:
    """A listen address of another form is a SetupError that names key, value and what is allowed."""
    with pytest.raises(SetupError) as caught:
        bind([address])
    assert f"web.listen-address: {address!r} is not allowed; allowed: [HOST]:PORT" in str(caught.value)


def test_a_port_in_use_is_named() -> None:
    """A port that another listens on is an UnreachableError that says how to mend it."""
    (taken,) = bind(["127.0.0.1:0"])
    port = taken.getsockname()[1]
    with taken, pytest.raises(UnreachableError) as caught:
        bind(["127.0.0.1:0", f"127.0.0.1:{port}"])
    assert f"cannot listen on 127.0.0.1:{port}: port {port} is in use by another program" in str(caught.value)
    assert "--web.listen-address" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.1:9746", "no interface of this machine has this address"),
        ("no-such-host.invalid:9746", "no address is known for 'no-such-host.invalid'"),
        ("a" * 300 + ":9746", "no address is known"),
    ],
)
def test_an_address_that_is_not_ours_is_named(address: str, why: str) -> None:
    """An address that cannot be listened on is an UnreachableError with the reason."""
    with pytest.raises(UnreachableError, match=why):
        bind([address])


@pytest.mark.parametrize("secure", [False, True])
def test_two_hundred_silent_clients_keep_no_scrape_out(
    secure: bool, protected: TlsGate, authority: Authority, tmp_path: Path
) -> None:
    """Twenty scrapes at once are answered while 200 clients, TCP or unfinished TLS, say nothing."""
    tls = authority.client(tmp_path) if secure else None
    with serving(gate=(lambda: protected) if secure else None) as port, silent(port, 200):
        assert twenty_scrapes(port, tls) == {200}


@pytest.mark.parametrize("secure", [False, True])
def test_beyond_the_limit_the_oldest_silent_client_makes_room(
    secure: bool, protected: TlsGate, authority: Authority, tmp_path: Path
) -> None:
    """With more silent clients than connections allowed, scrapes are answered and the oldest are dropped."""
    tls = authority.client(tmp_path) if secure else None
    limits = Limits(connections=30, request_s=300.0)
    now = (lambda: protected) if secure else None
    with serving(gate=now, limits=limits) as port, silent(port, 50) as crowd:
        assert twenty_scrapes(port, tls) == {200}
        assert all(hears_the_end(client) for client in crowd[:20])


def test_a_scraper_that_keeps_its_connection_outlives_strangers() -> None:
    """Among the waiting, a client that has asked before is dropped after those that never did."""
    with serving(limits=Limits(connections=5)) as port:
        known = HTTPConnection("127.0.0.1", port, timeout=20)
        known.request("GET", "/-/healthy")
        known.getresponse().read()
        same = known.sock
        with silent(port, 20):
            ask(port, "/metrics")
            known.request("GET", "/-/healthy")
            assert known.getresponse().read() == b"Wattspan is alive.\n"
            assert known.sock is same
        known.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /metrics HT",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /met",
    ],
)
def test_silence_ends_a_connection(said: bytes) -> None:
    """A client that says nothing more is let go: before, within and after a request."""
    with serving(limits=HASTY) as port, connect(port) as client:
        client.sendall(said)
        assert hears_the_end(client)


def test_a_dripping_client_wins_no_time() -> None:
    """The request's clock runs from its first byte, however often another one comes."""
    with serving(limits=HASTY) as port, connect(port) as client, pytest.raises(ConnectionError):
        drip(client, b"GET /metrics HTTP/1.1\r\nX: ".ljust(2000, b"x"))


def test_a_dripping_body_wins_no_time() -> None:
    """A body that nobody reads cannot hold its connection after the answer either."""
    with serving(limits=HASTY) as port, connect(port) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        with pytest.raises(ConnectionError):
            drip(client, b"x" * 2000)


def test_an_owed_body_is_no_pause_between_requests() -> None:
    """Who was answered before the body had come has a request's time for the rest, not a pause's."""
    with serving(limits=PATIENT_BETWEEN_REQUESTS) as port, connect(port) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        assert hears_the_end(client)


def test_a_queued_answer_is_no_pause_between_requests() -> None:
    """An answer that waited behind another one has an answer's time to be taken."""
    render = Renderer(size=30_000_000)
    with serving(app(render=render), limits=PATIENT_BETWEEN_REQUESTS) as port, connect(port) as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(3 * PATIENT_BETWEEN_REQUESTS.answer_s)
        assert len(everything(client)) < render.size


def test_a_silent_tls_client_is_let_go(protected: TlsGate) -> None:
    """A handshake has a deadline."""
    with serving(gate=lambda: protected, limits=HASTY) as port, connect(port) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert hears_the_end(client)


def test_a_slow_reader_costs_little_and_is_let_go() -> None:
    """A client that does not take its answer blocks nobody, and is dropped when its time is over."""
    render = Renderer(size=30_000_000)
    with serving(app(render=render), limits=HASTY) as port, silent(port, 20) as slow:
        for client in slow:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ask(port, "/-/healthy").status == 200
        time.sleep(2 * HASTY.answer_s)
        assert all(len(everything(client)) < render.size for client in slow)
    assert len(render.calls) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"\x00" * 100_000,
    ],
)
def test_garbage_is_answered_or_cut_and_leaves_no_line(
    garbage: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Bytes that are no request harm nobody else, and strangers cannot write into the log or the terminal."""
    with caplog.at_level(logging.INFO), serving(limits=HASTY) as port:
        with connect(port) as client:
            with suppress(ConnectionError):
                client.sendall(garbage)
            assert hears_the_end(client)
        assert ask(port, "/metrics").status == 200
    assert [record for record in caplog.records if record.name.startswith(("wattspan", "uvicorn"))] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("before", [b"", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_head_without_end_is_cut(before: bytes) -> None:
    """A head is cut at its bound, however much patience there is with its sender."""
    with serving(limits=Limits(request_s=600, idle_s=600)) as port, connect(port) as client:
        client.sendall(before + b"GET / HTTP/1.1\r\nX: ")
        with suppress(ConnectionError):
            client.sendall(b"x" * (MAX_HEAD_BYTES + 1))
        assert hears_the_end(client)


def test_a_body_without_end_is_cut() -> None:
    """A chunked body nobody asked for is cut at the bound, not swallowed for ever."""
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    with serving() as port, connect(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            client.sendall(chunk * 5_000)


def test_plain_http_to_tls_and_tls_to_plain_http_end(
    protected: TlsGate, authority: Authority, tmp_path: Path
) -> None:
    """Who speaks the wrong protocol is cut off and harms nobody else."""
    tls = authority.client(tmp_path)
    with serving(gate=lambda: protected) as port:
        with connect(port) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert hears_the_end(client)
        assert ask(port, "/metrics", tls=tls).status == 200
    with serving(limits=HASTY) as port:
        with connect(port) as bare, pytest.raises((ssl.SSLError, ConnectionError)):
            tls.wrap_socket(bare, server_hostname="127.0.0.1")
        assert ask(port, "/metrics").status == 200


def test_pipelined_requests_are_answered_in_order() -> None:
    """Several requests in one packet get their answers one after the other."""
    with serving() as port, connect(port) as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n" * 9 + b"GET /no HTTP/1.0\r\n\r\n")
        got = everything(client)
    assert got.count(b"HTTP/1.1 200 ") == 9
    assert got.count(b"HTTP/1.1 404 ") == 1


@pytest.mark.parametrize("path", ["/-/healthy", "/metrics", "/no"])
def test_an_answer_leaves_in_one_packet(path: str) -> None:
    """A head goes with its body, so that a client is woken once."""
    with serving(app(render=Renderer(size=8_000))) as port, connect(port) as client:
        for number in range(1, 4):
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b"\r\n\r\n" in client.recv(1 << 20)
            assert packets_with_data(client) == number


@pytest.mark.parametrize("secure", [False, True])
def test_the_server_stops_while_two_hundred_clients_say_nothing(secure: bool, protected: TlsGate) -> None:
    """Stopping waits for no silent client, frees the port and leaves no thread."""
    before = set(threading.enumerate())
    sockets = bind(["127.0.0.1:0"])
    server = Server(sockets, app(), gate=(lambda: protected) if secure else None)
    server.start()
    port = sockets[0].getsockname()[1]
    with silent(port, 200):
        assert ask(port, "/-/healthy").status == 200 if not secure else True
        server.stop(timeout_s=5.0)
        assert "web" not in {thread.name for thread in set(threading.enumerate()) - before}
        with pytest.raises(ConnectionError):
            connect(port)
    (again,) = bind([f"127.0.0.1:{port}"])
    again.close()


def test_an_answer_under_way_ends_before_the_server_does() -> None:
    """Stopping lets a client that is taking its answer take the rest."""
    sockets = bind(["127.0.0.1:0"])
    server = Server(sockets, app(render=Renderer(size=8_000_000)))
    server.start()
    with connect(sockets[0].getsockname()[1]) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        got = everything(client)
        stopping.join()
    assert len(got) > 8_000_000


def test_stopping_twice_or_before_the_start_is_fine() -> None:
    """stop() may come at any time."""
    sockets = bind(["127.0.0.1:0"])
    never = Server(sockets, app())
    never.stop()
    sockets = bind(["127.0.0.1:0"])
    server = Server(sockets, app())
    assert server.addresses == [f"127.0.0.1:{sockets[0].getsockname()[1]}"]
    server.start()
    server.stop()
    server.stop()


def test_nothing_is_left_open() -> None:
    """Silent, finished, dropped and half-open connections all give their descriptors back."""
    with serving(limits=Limits(connections=30)) as port, silent(port, 40):
        twenty_scrapes(port)
        assert sockets_at(port)
    assert not sockets_at(port)


def test_garbage_in_the_environment_does_not_reach_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that uvicorn reads for itself are none of ours."""
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with serving() as port:
        assert ask(port, "/-/healthy").status == 200


def test_the_gate_is_asked_at_each_connection(
    protected: TlsGate, authority: Authority, tmp_path: Path
) -> None:
    """What protects a connection is decided when it begins."""
    now: list[TlsGate | None] = [None]
    with serving(gate=lambda: now[0]) as port:
        assert ask(port, "/-/healthy").status == 200
        now[0] = protected
        assert ask(port, "/-/healthy", tls=authority.client(tmp_path)).status == 200


def test_scrapes_do_not_wait_for_a_door_that_is_written_to() -> None:
    """A view that changes all the time is served all the time: each scrape sees one view, whole."""
    door, done = Door(), threading.Event()

    def write() -> None:
        sequence = 10
        while not done.is_set():
            sequence += 1
            door.view = filled(sequence)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with serving(app(door)) as port:
            assert twenty_scrapes(port) == {200}
    finally:
        done.set()
        writer.join()
    assert len(door.seen) == 20


def test_the_loop_survives_a_gate_that_fails() -> None:
    """An error of ours at one connection does not end the listener."""
    bugs = [RuntimeError("a bug")]

    def moody() -> None:
        while bugs:
            raise bugs.pop()

    with serving(gate=moody) as port:
        with connect(port) as client:
            assert hears_the_end(client)
        assert ask(port, "/-/healthy").status == 200


OUT_OF_DESCRIPTORS = """
import logging, resource, sys
from tests.publish.serving import app, serving
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
with serving(app()) as port:
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    print(port, flush=True)
    sys.stdin.read()
"""


def test_running_out_of_descriptors_keeps_no_scrape_out() -> None:
    """Where the process may open fewer files than there are silent clients, the oldest make room."""
    with subprocess.Popen(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
    ) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        assert daemon.stderr is not None
        port = int(daemon.stdout.readline())
        with silent(port, 60):
            assert ask(port, "/metrics").status == 200
        daemon.stdin.close()
        said = daemon.stderr.read().splitlines()
    assert daemon.returncode == 0
    assert said == ["WARNING cannot accept connections: [Errno 24] Too many open files"]
