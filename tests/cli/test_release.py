"""`wattspan release` against the daemon's own side of it: handles given up and taken up again."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Wattspan, clean_environment
from wattspan.cli import release
from wattspan.cli.settings import Loaded
from wattspan.config import Config
from wattspan.errors import UnreachableError

DAEMON = """
import signal, sys, time
from pathlib import Path
from wattspan.journal.folder import FolderLock
from wattspan.model import Gpu, GpuReading, SourceReport
from wattspan.release import Release
from wattspan.sampler import Sampler

class Card:
    name = "nvidia"
    def open(self):
        print("open", flush=True)
        return "one GPU"
    def read(self):
        now = time.monotonic_ns()
        reading = GpuReading(Gpu("GPU-1", 0, "fake", "nvidia"), now, energy_uj=now)
        return SourceReport(self.name, now, now, gpus=(reading,))
    def close(self):
        print("close", flush=True)

state = Path(sys.argv[1])
lock = FolderLock.take(state)
sampler = Sampler([(Card(), False)], 100_000_000)
release = Release(state, sampler)
signal.signal(signal.SIGUSR1, lambda *_: release.requested())
while True:
    sampler.look()
    release.settle()
    time.sleep(0.02)
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder."""
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.fixture
def daemon(state: Path, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The daemon's lock, sampler and release, with a card that says when it is opened and closed."""
    command = [sys.executable, "-c", DAEMON, str(state)]
    with subprocess.Popen(
        command, env=clean_environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert said(process) == "open"
        yield process
        process.kill()


def said(process: "subprocess.Popen[str]") -> str:
    """The next line that the card printed."""
    assert process.stdout
    return process.stdout.readline().strip()


def test_release_and_take_up_again(wattspan: Wattspan, daemon: "subprocess.Popen[str]", state: Path) -> None:
    """The command returns when the handles are given up, and with 0s when they may be taken up again."""
    before_s = time.time()
    answer = wattspan("release", "--for", "15m", "--state.dir", state)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("handles released until ")
    assert f"pid {daemon.pid}" in answer.out
    assert said(daemon) == "close"
    until_s = json.loads((state / "released").read_text())["until"]
    assert before_s + 900 <= until_s <= time.time() + 900
    assert not (state / "release").exists()
    answer = wattspan("release", "--for", "0s", "--state.dir", state)
    assert answer.out == f"handles taken up again (daemon pid {daemon.pid})\n"
    assert said(daemon) == "open"
    assert not (state / "released").exists()


def test_no_daemon(wattspan: Wattspan, state: Path) -> None:
    """Without a daemon there is nobody to ask: exit 3, and nothing is left in the folder."""
    for folder in (state, state / "none"):
        answer = wattspan("release", "--state.dir", folder)
        assert (answer.code, answer.out) == (3, "")
        assert f"no daemon runs on state folder {folder}" in answer.err
    assert list(state.iterdir()) == []


def test_a_pid_of_somebody_else_gets_no_signal(
    wattspan: Wattspan, daemon: "subprocess.Popen[str]", state: Path
) -> None:
    """Where the lock's pid is another process, as seen from outside a container, that one is left alone."""
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (state / "lock").write_text(f"{bystander.pid}\n")
        answer = wattspan("release", "--state.dir", state)
        assert answer.code == 3
        assert "inside its container" in answer.err
        assert bystander.poll() is None
        assert daemon.poll() is None
        assert not (state / "release").exists()
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("for_ns", [0, 10**9])
def test_a_daemon_that_does_not_answer(
    daemon: "subprocess.Popen[str]", state: Path, monkeypatch: pytest.MonkeyPatch, for_ns: int
) -> None:
    """Without a confirmation the command says so; the request stays for the signal that is under way."""
    monkeypatch.setattr(release, "PATIENCE_S", 0.2)
    os.kill(daemon.pid, signal.SIGSTOP)
    with pytest.raises(UnreachableError, match="has not confirmed"):
        release.run(argparse.Namespace(for_ns=for_ns), Loaded(Config(state_dir=state), {}))
    assert (state / "release").exists()
