"""One GET and all the ways in which it fails: each has its reason, none shows a secret, nothing else comes
out."""

import gzip
import logging
import select
import socket
import socketserver
import ssl
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.grid_service import Answer, GridService, cut_off, page, serving
from tests.publish.certificates import Authority
from wattspan.carbon.http import MAX_BODY_BYTES, MAX_RETRY_AFTER_S, Http, place
from wattspan.errors import FetchError

MARKER = "s3cr3t-Marker"
LONG_S = 30.0
"""No test comes near it unless a time-out does not work."""

MANY_BYTES = 10 * (1 << 20)


def failure(http: Http, url: str, **named: dict[str, str]) -> FetchError:
    """What a request that cannot succeed raises."""
    with pytest.raises(FetchError) as caught:
        http.get_json(url, **named)
    return caught.value


def gzipped(body: bytes) -> Answer:
    """An answer that says that it is packed."""
    return Answer(body=body, headers={"Content-Encoding": "gzip"})


@contextmanager
def secure_service(folder: Path) -> Iterator[GridService]:
    """A service behind TLS, whose authority is written into the folder, with a good path and a slow one."""
    authority = Authority()
    pair = authority.pair()
    (folder / "pair.pem").write_bytes(pair.certificate + pair.key)
    (folder / "authority.pem").write_bytes(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    with serving(context) as secure:
        secure.says("/data", Answer(json={"a": 1}))
        secure.says("/slow", Answer(body=b" " * 1000, drip_s=0.1))
        yield secure


FAULTS = {
    "slow": ("timeout", Answer(json={}, delay_s=LONG_S)),
    "dripping body": ("timeout", Answer(body=b" " * 1000, drip_s=0.1)),
    "dripping headers": ("timeout", Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, drip_s=0.1)),
    "dripping status": ("timeout", Answer(raw=b"HTTP/1.1 200 " + b"O" * 1000, drip_s=0.1)),
    "401": ("refused", Answer(401)),
    "403": ("refused", Answer(403, page().json, page().body)),
    "404": ("server", Answer(404)),
    "407": ("server", Answer(407)),
    "429": ("throttled", Answer(429)),
    "500": ("server", Answer(500)),
    "503": ("server", Answer(503)),
    "204": ("server", Answer(204)),
    "301": ("malformed", Answer(301, headers={"Location": "/elsewhere"})),
    "304": ("malformed", Answer(304)),
    "truncated": ("malformed", cut_off(Answer(json={"data": []}))),
    "empty": ("malformed", Answer(body=b"")),
    "login page": ("malformed", page()),
    "a page that quotes us": ("malformed", page(f"No entry with {MARKER}")),
    "not UTF-8": ("malformed", Answer(body=b'{"a": "\xff"}')),
    "half a document": ("malformed", Answer(body=b'{"a": [1, 2')),
    "nested": ("malformed", Answer(body=b"[" * 200_000)),
    "a number without end": ("malformed", Answer(body=b"1" * 100_000)),
    "10 MB": ("malformed", Answer(body=b" " * MANY_BYTES + b"{}")),
    "gzip bomb": ("malformed", gzipped(gzip.compress(b" " * MANY_BYTES + b"{}"))),
    "bad gzip": ("malformed", gzipped(b"this is no gzip")),
    "cut gzip": ("malformed", gzipped(gzip.compress(b"{}" * 5000)[:-20])),
    "rotten gzip": ("malformed", gzipped(gzip.compress(b"{}")[:10] + b"\xff" * 30)),
    "wrong sum": ("malformed", gzipped(gzip.compress(b"{}")[:-8] + b"\0" * 8)),
    "unknown packing": ("malformed", Answer(json={}, headers={"Content-Encoding": "br"})),
    "no HTTP": ("malformed", Answer(raw=b"SSH-2.0-OpenSSH_9.6\r\n")),
    "nothing": ("malformed", Answer(raw=b"")),
    "headers that are none": ("malformed", Answer(raw=b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n")),
    "bad chunks": ("malformed", Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")),
    "a negative length": ("malformed", Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")),
    "two lengths": (
        "malformed",
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_reason_and_shows_no_secret(
    service: GridService, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Whatever goes wrong, the reason is the right one of the closed set, and neither the error, nor its
    traceback, nor any log has what was in the query or the headers."""
    caplog.set_level(logging.DEBUG)
    reason, answer = FAULTS[fault]
    service.says("/data", answer)
    began_s = time.monotonic()
    url = service.url.replace("://", f"://user-{MARKER}:password@") + "/data"
    error = failure(
        Http(0.5 if reason == "timeout" else LONG_S), url, query={"key": MARKER}, headers={"t": MARKER}
    )
    assert error.reason == reason
    assert time.monotonic() - began_s < LONG_S
    assert service.url + "/data" in error.detail
    shown = [str(error), repr(error), "".join(traceback.format_exception(error)), caplog.text]
    assert not [text for text in shown if MARKER in text]
    assert service.first.query == {"key": MARKER}
    assert not service.asked("/elsewhere")


def test_a_good_answer_is_given(service: GridService) -> None:
    """The body comes whole, unpacked if it was packed, and the request says who asks."""
    service.says("/plain", Answer(json={"a": [1, None]}))
    packed = gzip.compress(b'{"a":') + gzip.compress(b" 2}")  # two members are one body (RFC 1952, 2.2)
    service.says("/packed", gzipped(packed))
    service.says("/large", Answer(body=b" " * (MAX_BODY_BYTES - 2) + b"{}"))
    http = Http()
    assert http.get_json(service.url + "/plain", {"q": "a b&c"}, {"x": "y"}) == {"a": [1, None]}
    assert http.get_json(service.url + "/packed") == {"a": 2}
    assert http.get_json(service.url + "/large") == {}
    asked = service.first
    assert asked.query == {"q": "a b&c"}
    assert asked.headers["x"] == "y"
    assert asked.headers["user-agent"].startswith("wattspan/")


def test_what_is_packed_too_tightly_is_not_unpacked(service: GridService) -> None:
    """A body that would become 256 MiB costs no more memory than the largest that is allowed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(b" " * (1 << 20)) for _ in range(256)]
    service.says("/data", gzipped(b"".join(pieces) + packer.flush()))
    tracemalloc.start()
    try:
        with pytest.raises(FetchError, match="when unpacked") as caught:
            Http(LONG_S).get(service.url + "/data")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "malformed"
    assert peak_bytes < 8 * MAX_BODY_BYTES


def test_a_token_follows_no_redirect(service: GridService) -> None:
    """Wherever a service sends us, nobody there hears of the token."""
    with serving() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            service.says("/data", Answer(status, headers={"Location": f"{elsewhere.url}/data"}))
            error = failure(Http(), service.url + "/data", headers={"auth-token": MARKER})
            assert error.reason == "malformed"
        assert not elsewhere.requests


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("-5", 0),
        ("1.5", 1.5),
        ("99999999", MAX_RETRY_AFTER_S),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
        ("Fri, 31 Foo 2026 25:61:61 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_taken_as_written(
    service: GridService, status: int, written: str, seconds: float | None
) -> None:
    """A pause that a service asks for is known in seconds, within bounds, and nonsense is as good as none."""
    service.says("/data", Answer(status, headers={"Retry-After": written}))
    error = failure(Http(), service.url + "/data")
    assert error.retry_after_s == seconds
    assert error.reason == ("throttled" if status == 429 else "server")


def test_retry_after_may_be_a_date(service: GridService) -> None:
    """A date is the time from now until then."""
    then = datetime.now(UTC) + timedelta(hours=2)
    service.says("/data", Answer(429, headers={"Retry-After": format_datetime(then, usegmt=True)}))
    seconds = failure(Http(), service.url + "/data").retry_after_s
    assert seconds is not None
    assert 3600 < seconds <= 7200


@pytest.mark.usefixtures("service")
def test_nobody_there() -> None:
    """A port where nobody listens is unreachable, at once."""
    with serving() as gone:
        url = gone.url
    error = failure(Http(LONG_S), url + "/data", query={"key": MARKER})
    assert error.reason == "unreachable"
    assert MARKER not in "".join(traceback.format_exception(error))


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/x",
        "http://127.0.0.1:99999999/x",
        "ftp://127.0.0.1/x",
        "127.0.0.1/x",
        "http:///x",
        "http://127.0.0.1:1/a b\r\nc",
        "",
    ],
)
def test_what_is_no_url_is_said_so(url: str) -> None:
    """A URL that cannot be asked is an error like any other, without its query."""
    error = failure(Http(LONG_S), url, query={"key": MARKER})
    assert error.reason == "unreachable"
    assert MARKER not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("token", [f"{MARKER}\r\nX-Injected: 1", f"{MARKER}\n", f"{MARKER}\u2026"])
def test_a_header_that_cannot_be_sent_is_not_shown(service: GridService, token: str) -> None:
    """A token with a line break writes no header of its own, and the refusal does not quote it."""
    error = failure(Http(), service.url + "/data", headers={"auth-token": token})
    assert error.reason == "unreachable"
    assert MARKER not in "".join(traceback.format_exception(error))
    assert not service.requests


def test_one_connection_serves_many_requests(service: GridService) -> None:
    """Connections are kept, one that the service has cut meanwhile is made anew, and so is one whose answer
    was not read to its end."""
    service.says("/data", Answer(json={}))
    http = Http()
    for _ in range(5):
        http.get_json(service.url + "/data")
    assert service.connections == 1
    service.drop_connections()
    http.get_json(service.url + "/data")
    assert service.connections == 2
    service.says("/error", Answer(500, json={"what": "x" * 100_000}))
    failure(http, service.url + "/error")
    assert http.get_json(service.url + "/data") == {}


def test_two_threads_get_their_own_answers(service: GridService, caplog: pytest.LogCaptureFixture) -> None:
    """Any thread may ask at any time, and gets what it has asked for."""
    service.says("/*", lambda request: Answer(json=request.path))
    http = Http(LONG_S)
    wrong: list[object] = []

    def ask(name: str) -> None:
        for number in range(30):
            path = f"/{name}/{number}"
            if (got := http.get_json(service.url + path)) != path:
                wrong.append(got)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(service.requests) == 4 * 30
    assert not caplog.text


@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize("upper", [True, False])
def test_a_proxy_is_asked_instead(
    service: GridService, monkeypatch: pytest.MonkeyPatch, scheme: str, upper: bool
) -> None:
    """HTTP_PROXY stands before a service in either case, with a user's name if its URL has one, and the
    service does not hear that name."""
    service.says("/data", Answer(json={"by": "proxy"}))
    name = "HTTP_PROXY" if upper else "http_proxy"
    monkeypatch.setenv(name, service.url.replace("http://", f"{scheme}someone:{MARKER}@"))
    assert Http().get_json("http://grid.invalid/data", {"q": "1"}) == {"by": "proxy"}
    assert service.first.target == "http://grid.invalid/data?q=1"
    assert service.first.headers["proxy-authorization"].startswith("Basic ")
    assert service.first.headers["host"] == "grid.invalid"


@pytest.mark.parametrize("bypass", ["127.0.0.1", "*", "127.0.0.1:{port}"])
def test_no_proxy_goes_straight(service: GridService, monkeypatch: pytest.MonkeyPatch, bypass: str) -> None:
    """What NO_PROXY names is asked without the proxy."""
    service.says("/data", Answer(json={}))
    with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", bypass.format(port=service.url.rpartition(":")[2]))
        Http().get_json(service.url + "/data")
        assert service.first.target == "/data"
        assert not proxy.requests


def test_a_proxy_that_refuses_hears_no_token(service: GridService, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY is asked for a tunnel; when it gives none, the service is unreachable and the token has not
    left us."""
    service.says("*", Answer(403))
    monkeypatch.setenv("HTTPS_PROXY", service.url)
    error = failure(Http(), "https://grid.invalid/data", query={"k": MARKER}, headers={"auth-token": MARKER})
    assert error.reason == "unreachable"
    assert [request.method for request in service.requests] == ["CONNECT"]
    assert MARKER not in repr(service.requests)
    assert MARKER not in "".join(traceback.format_exception(error))


class Tunnel(socketserver.BaseRequestHandler):
    """A proxy that connects whoever asks for it, and copies bytes to and fro."""

    asked: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4096)
        self.asked.append(head)
        host, _, port = head.split()[1].decode().partition(":")
        with socket.create_connection((host, int(port)), timeout=LONG_S) as far:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {self.request: far, far: self.request}
            while True:
                for ready in select.select(list(ends), [], [], LONG_S)[0]:
                    if not (piece := ready.recv(65536)):
                        return
                    ends[ready].sendall(piece)


@pytest.mark.usefixtures("service")
def test_a_tunnel_carries_what_the_proxy_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through HTTPS_PROXY the service is asked by TLS within a tunnel: the proxy hears its name and no
    token, and the time-out holds."""
    Tunnel.asked.clear()
    with (
        secure_service(tmp_path) as secure,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy,
    ):
        proxy.daemon_threads, proxy.block_on_close = True, False
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
            http = Http(LONG_S)
            for _ in range(2):
                assert http.get_json(secure.url + "/data", headers={"auth-token": MARKER}) == {"a": 1}
            assert failure(Http(2.0), secure.url + "/slow").reason == "timeout"
        finally:
            proxy.shutdown()
            thread.join()
    assert secure.asked("/data")[0].headers["auth-token"] == MARKER
    assert len(Tunnel.asked) == 2
    assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in Tunnel.asked)
    assert MARKER.encode() not in b"".join(Tunnel.asked)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://127.0.0.1:1", "http://[", "://"])
def test_a_proxy_that_is_none_is_said_so(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy that is not there, or that is no proxy of HTTP, makes services unreachable."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    assert failure(Http(LONG_S), "http://grid.invalid/data").reason == "unreachable"


@pytest.mark.usefixtures("service")
def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an unknown authority is refused before the token is sent; SSL_CERT_FILE makes it
    known; the time-out holds behind TLS too."""
    with secure_service(tmp_path) as secure:
        error = failure(Http(), secure.url + "/data", headers={"auth-token": MARKER})
        assert error.reason == "unreachable"
        assert "certificate" in error.detail
        assert not secure.requests
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert Http(LONG_S).get_json(secure.url + "/data") == {"a": 1}
        assert failure(Http(2.0), secure.url + "/slow").reason == "timeout"


def test_places_have_no_secret() -> None:
    """What is shown of a URL ends before its query and begins after its password, however odd the URL."""
    assert place(f"https://user:{MARKER}@host:8/a/b?k={MARKER}#{MARKER}") == "https://host:8/a/b"
    assert MARKER not in place(f"http://[{MARKER}@host/a?{MARKER}")


@pytest.fixture(scope="module")
def raw_service() -> Iterator[GridService]:
    """A service for answers that are no HTTP."""
    with serving() as running:
        yield running


LINES = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [
                b"Content-Length: 5",
                b"Content-Length: 99999999999999999999",
                b"Content-Length: x",
                b"Transfer-Encoding: chunked",
                b"Transfer-Encoding: gzip, chunked",
                b"Content-Encoding: gzip",
                b"Content-Encoding: \xff",
                b"Retry-After: 1e999",
                b"Retry-After: Thu, 01 Jan 1970 00:00:00 -9999",
                b"Retry-After: 1 Jan",
                b"Set-Cookie: \xff=\x00",
                b"Location: http://[",
                b" folded",
                b": ",
            ]
        ),
    ),
    max_size=5,
)
ANSWERS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda status, lines, body: (
            b"HTTP/1.1 " + status + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body
        ),
        st.sampled_from(
            [b"200 OK", b"200", b"100 Continue", b"429 x", b"302 Found", b"999", b"0", b"20x", b""]
        ),
        LINES,
        st.one_of(
            st.binary(max_size=60), st.sampled_from([b"5\r\n[1,2]\r\n0\r\n\r\n", b"ffffffffff\r\n", b"{}"])
        ),
    ),
)


@settings(max_examples=150, deadline=None)
@given(raw=ANSWERS)
def test_nothing_but_our_error_comes_out(raw_service: GridService, raw: bytes) -> None:
    """Whatever bytes a service answers with, the outcome is a document or a FetchError."""
    raw_service.says("/raw", Answer(raw=raw))
    with suppress(FetchError):
        Http(LONG_S).get_json(f"{raw_service.url}/raw")
