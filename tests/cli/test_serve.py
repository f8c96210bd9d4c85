"""`wattspan serve` and `demo` as commands: what is refused at start, and an orderly end."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Wattspan, clean_environment

LISTEN = ["--web.listen-address", "127.0.0.1:0"]
ENVIRONMENT = {"WATTSPAN_PORT": "tcp://10.0.0.1:9746", "WATTSPAN_GRID_ZOEN": "FR"}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A running demo whose log is JSON, started where Kubernetes has left its variables."""
    command = [sys.executable, "-m", "wattspan", "demo", "--gpus", "1", "--log.format", "json", *LISTEN]
    env = {**clean_environment(tmp_path), **ENVIRONMENT}
    with subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def log_until(process: "subprocess.Popen[str]", word: str) -> list[dict[str, str]]:
    """The log's lines up to the one that holds this word."""
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if word in lines[-1]["msg"]:
            return lines
    raise AssertionError(f"ended without {word!r}: {lines}")


def test_start_and_end(demo: "subprocess.Popen[str]", wattspan: Wattspan, tmp_path: Path) -> None:
    """It says what is strange about its environment once, locks its folder, and SIGTERM ends it with 0."""
    lines = log_until(demo, "serves on")
    warnings = [line["msg"] for line in lines if line["level"] == "warning"]
    assert len(warnings) == 1
    assert "did you mean WATTSPAN_GRID_ZONE?" in warnings[0]
    second = wattspan("demo", *LISTEN)
    assert second.code == 3
    assert str(demo.pid) in second.err
    seen = wattspan("doctor", "--state.dir", tmp_path / "state/demo").out
    assert f"in use by the daemon, pid {demo.pid}" in seen
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(timeout=30) == 0
    assert demo.stderr
    assert "Traceback" not in demo.stderr.read()


def test_commands_of_somebody_who_looks_at_a_demo(
    demo: "subprocess.Popen[str]", wattspan: Wattspan, tmp_path: Path
) -> None:
    """The folder given to the demo leads to its journal in words; its socket is where it was told to be."""
    log_until(demo, "serves on")
    assert (tmp_path / "wattspan.sock").is_socket()
    for words in (["runs"], ["audit"], ["journal", "export"]):
        answer = wattspan(*words)
        assert answer.code == 3
        assert f"but that of a demo; --state.dir {tmp_path / 'state/demo'}" in answer.err
    assert "Traceback" not in wattspan("runs", "--state.dir", tmp_path / "state/demo").err
    answer = wattspan("release")
    assert (answer.code, answer.out) == (3, "")
    assert f"pid {demo.pid} is a demo, without handles" in answer.err
    answer = wattspan("release", "--state.dir", tmp_path / "state/demo")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("nothing to release: the daemon meters no real GPU")


def test_demo_without_a_named_socket_has_its_own(tmp_path: Path) -> None:
    """Where no socket is named it stands in the demo's folder, not where a real daemon listens."""
    command = [sys.executable, "-m", "wattspan", "demo", "--gpus", "1", "--log.format", "json", *LISTEN]
    env = {**clean_environment(tmp_path), "WATTSPAN_SOCKET": ""}
    with subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        log_until(process, "serves on")
        assert (tmp_path / "state/demo/wattspan.sock").is_socket()
        process.kill()


def test_refused_at_start(wattspan: Wattspan, tmp_path: Path) -> None:
    """What cannot work ends the start with one clear line and the code that says whose fault it is."""
    (tmp_path / "file").write_text("tls_server_confg: {}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        cases = [
            (3, address, ["--web.listen-address", address]),
            (3, "file", ["--state.dir", "file", *LISTEN]),
            (2, "tls_server_config", ["--web.config.file", "file", *LISTEN]),
            (2, "none.yml", ["--web.config.file", "none.yml", *LISTEN]),
            (2, "file", ["--nvml.library", "file", *LISTEN]),
            (2, "Atlantis", ["--grid.zone", "Atlantis", *LISTEN]),
        ]
        for code, said, flags in cases:
            answer = wattspan("serve", *flags)
            last = answer.err.splitlines()[-1]
            assert (answer.code, last.startswith("wattspan: error: ")) == (code, True)
            assert said in last
