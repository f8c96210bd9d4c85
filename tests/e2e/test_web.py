"""The HTTP interface of a daemon that meters: what it says agrees, and nothing sent to it disturbs it."""

import json
import re
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.metering import FAST, THREE_CARDS, joules, metering
from tests.fakes.nvml import FakeNvml
from tests.publish.certificates import Authority
from tests.real_parts import need
from wattspan.units import UJ_PER_J

COMMITS: Final = "wattspan_journal_commits_total"

METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"BREW", b"")

WORDS: Final = (
    b"",
    b"?" + b"a" * 5_000,
    b"?" + b"a" * 100_000,
    b"?strict=" + b"%00" * 20,
    b"/../../../etc/passwd",
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"%",
    b"%ff%fe%c0%af",
    b"/" + b"a" * 70_000,
    bytes(range(128, 256)),
    b" HTTP/1.1 HTTP/1.1",
    b"\x00",
)
"""What is put behind a path."""

REQUESTS: Final = (
    b"",
    b"\r\n" * 1000,
    b"\x00" * 10_000,
    bytes(range(256)) * 64,
    b"GET",
    b"GET /metrics",
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n",  # no Host
    b"GET http://elsewhere/metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX\x00: \xff\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: " + b"\xff;q=," * 500 + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=nan, *;q=-1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\xfe\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x41" * 500,
)
"""What is sent instead of a request."""


def say(port: int, words: bytes) -> bytes:
    """Send bytes, and hear what comes within a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        with suppress(OSError):  # the daemon may have hung up on it by then
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
        heard = b""
        with suppress(ConnectionError):
            while piece := client.recv(65536):
                heard += piece
    return heard


def paths(daemon: Daemon) -> list[str]:
    """Every path that the landing page names, and itself."""
    return ["/", *re.findall(r'href="(/[^"]*)"', daemon.get("/").text)]


def test_garbage_to_every_path_disturbs_nothing(tmp_path: Path) -> None:
    """Wrong methods, endless paths, binary: an error or nothing comes back, and metering goes on."""
    with metering(tmp_path) as (fake, daemon):
        first, said = daemon.metrics(), daemon.stderr
        sent = [
            method + b" " + path.encode() + word + b" HTTP/1.1\r\nHost: x\r\n\r\n"
            for path in paths(daemon)
            for method, word in (*product(METHODS, WORDS[:1]), *product(METHODS[:1], WORDS))
        ]
        for words in (*sent, *REQUESTS):
            heard = say(daemon.port, words)
            assert b"Traceback" not in heard
            assert b"root:" not in heard, "no file was read"
            assert not heard or re.match(rb"HTTP/1\.1 [2345]\d\d ", heard), heard[:100]
            assert not heard.startswith(b"HTTP/1.1 500"), (words[:100], heard)
        last = daemon.after(2)
        assert joules(last, fake.uuids[0]) > joules(first, fake.uuids[0])
        assert daemon.stderr == said, "strangers do not write our log"


def test_every_path_of_the_landing_page_answers(tmp_path: Path) -> None:
    """No link is dead, and what is described is what is served."""
    with metering(tmp_path) as (_, daemon):
        linked = paths(daemon)
        assert {"/metrics", "/-/healthy", "/-/ready", "/openapi.json", "/api/v1/node"} <= set(linked)
        assert {path: daemon.get(path).status for path in linked} == dict.fromkeys(linked, 200)
        described = json.loads(daemon.get("/openapi.json").text)["paths"]
        assert {path for path in described if "{" not in path} == set(linked), "a run is reached by the list"


def test_the_node_document_agrees_with_the_metrics(tmp_path: Path) -> None:
    """Both are made from one view, so a card's energy is the same number in both."""
    with metering(tmp_path) as (fake, daemon):
        for _ in range(20):
            before = daemon.metrics()
            node = json.loads(daemon.get("/api/v1/node").text)
            if before.value(COMMITS) == daemon.metrics().value(COMMITS):
                break
        shown = {gpu["uuid"]: gpu for gpu in node["gpus"]}
        for uuid in fake.uuids:
            assert shown[uuid]["up"]
            assert shown[uuid]["power_watts"] == before.value("wattspan_gpu_power_watts", uuid=uuid)
        counted = before.value("wattspan_node_energy_joules_total")
        assert round(node["energy_joules"] * UJ_PER_J) == round(counted * UJ_PER_J)


def test_the_demo_moves_and_is_no_real_card(tmp_path: Path) -> None:
    """Without any GPU living metrics are served, which say of themselves that they are simulated."""
    with Daemon(None, tmp_path / "state", *FAST, command=("demo", "--gpus", "3")) as daemon:
        daemon.wait_ready()
        scrape = daemon.after(4)
        assert len(scrape.series("wattspan_gpu_info")) == 3
        assert len(scrape.series("wattspan_gpu_info", vendor="demo")) == 3
        assert scrape.total("wattspan_gpu_energy_joules_total") > 0
        assert scrape.value("wattspan_node_power_watts") > 0
        assert daemon.stop()[0] == 0
        assert "level=warning" not in daemon.stderr


def test_promtool_finds_nothing_in_a_real_scrape(tmp_path: Path) -> None:
    """The scrape of a running daemon, process metrics included, passes Prometheus's own lint."""
    promtool = shutil.which("promtool")
    need("promtool", promtool is not None)
    assert promtool
    with metering(tmp_path) as (_, daemon):
        scrape = daemon.metrics()
        assert scrape.value("process_resident_memory_bytes") > 0
        done = subprocess.run(
            [promtool, "check", "metrics"], input=scrape.text, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_passwords_and_certificates_change_without_a_restart(tmp_path: Path) -> None:
    """The web configuration is read again when it changes; one that cannot work is refused and named."""
    authority = Authority()
    web = tmp_path / "web.yml"

    def write(user: str, *, certify: bool = True) -> None:
        pair = authority.pair()
        if certify:
            (tmp_path / "cert.pem").write_bytes(pair.certificate)
            (tmp_path / "key.pem").write_bytes(pair.key)
        hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        draft = tmp_path / "draft"
        draft.write_text(
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
            f"basic_auth_users: {{{user}: {hashed}}}\n"
        )
        draft.rename(web)

    def as_(user: str) -> dict[str, str]:
        return {"Authorization": "Basic " + b64encode(f"{user}:secret".encode()).decode()}

    def until(condition: Callable[[], object], what: str) -> None:
        give_up_s = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < give_up_s, f"waited for {what}"
            time.sleep(0.1)

    def status(user: str) -> int:
        return daemon.get("/metrics", as_(user)).status

    write("alice")
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        Daemon(
            fake, tmp_path / "state", *FAST, "--web.config.file", str(web), tls=authority.client(tmp_path)
        ) as daemon,
    ):
        daemon.wait_ready()
        assert status("alice") == 200
        assert daemon.get("/metrics").status == 401
        assert daemon.get("/-/healthy").status == 200, "probes need no password"
        write("bob")
        until(lambda: status("bob") == 200 and status("alice") == 401, "bob's turn")
        (tmp_path / "cert.pem").write_text("broken")
        write("carol", certify=False)
        until(lambda: status("bob") == 200 and str(web) in refusals(daemon), "a refusal that names the file")
        assert (status("bob"), status("carol")) == (200, 401), "what worked stays"
        write("carol")
        until(lambda: status("carol") == 200 and status("bob") == 401, "carol's turn")


def refusals(daemon: Daemon) -> str:
    """Lines of the log that are more than information, but for what the fake's own variable causes."""
    lines = daemon.stderr.splitlines()
    return "\n".join(line for line in lines if "level=info" not in line and "room=cli" not in line)


@pytest.mark.parametrize("path", ["/-/ready", "/health/ready"])
def test_readiness_waits_for_the_first_snapshot_and_no_longer(tmp_path: Path, path: str) -> None:
    """Without any source a daemon is ready too: it says what it has, which is nothing."""
    with Daemon(None, tmp_path / "state", *FAST) as daemon:
        daemon.wait_ready()
        answer = json.loads(daemon.get(path).text)
        assert (answer["ready"], answer["problems"], answer["sources"]) == (True, [], [])
        assert not daemon.metrics().series("wattspan_node_power_watts"), "no reading is not 0 W"
