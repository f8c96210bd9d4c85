"""The user's own daemon: who starts it, how, and what becomes of the job when it does not start."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import wattspan
from tests.client.stand_in import serving
from wattspan.client import courier, ephemeral
from wattspan.client.daemon import Daemon, Door
from wattspan.client.ephemeral import Ephemeral
from wattspan.errors import UnreachableError

ROOT = Path(__file__).parents[2]


class Starts:
    """The starts of stand-in daemons, as they noted them."""

    def __init__(self, home: Path) -> None:
        self.log = home / "starts"
        self.command = [
            sys.executable, "-m", "tests.client.stand_in", str(home / "wattspan.sock"), str(self.log)
        ]  # fmt: skip

    @property
    def seen(self) -> list[dict[str, Any]]:
        """One per start."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def starts(home: Path) -> Iterator[Starts]:
    """Stand-ins that are stopped when the test is over."""
    noted = Starts(home)
    yield noted
    for start in noted.seen:
        os.kill(start["pid"], signal.SIGTERM)


def environ() -> dict[str, str]:
    """Such that the stand-in is found as a module."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_eight_processes_start_one(home: Path, starts: Starts) -> None:
    """Of processes that come at once one starts the daemon, and all can begin their runs."""
    (home / "rank.py").write_text(
        "import os, sys, pathlib\n"
        "from wattspan.client.courier import Courier\n"
        "from wattspan.client.daemon import Daemon, Door\n"
        "from wattspan.client.ephemeral import Ephemeral\n"
        "home = pathlib.Path(sys.argv[1])\n"
        "starter = Ephemeral(home, sys.argv[2:], dict(os.environ))\n"
        "carried = Courier(Daemon((Door(str(home / 'wattspan.sock')),)), starter, {'run_id': 'r'}, [])\n"
        "carried.start()\n"
        "assert carried.settled(30) and carried.begun, carried.trouble\n"
        "carried.end({'result': 'success'})\n"
        "carried.over(30)\n"
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(home / "rank.py"), str(home), *starts.command], env=environ()
        )
        for _ in range(8)
    ]
    assert [rank.wait(60) for rank in ranks] == [0] * 8
    assert len(starts.seen) == 1
    # It outlives whoever started it.
    os.kill(starts.seen[0]["pid"], 0)


def test_the_daemon_holds_nothing_of_the_job(
    home: Path, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its own session, no open file, no blocked signal and no marker of the job that started it."""
    monkeypatch.setenv("WATTSPAN_RUN_ID", "outer")
    monkeypatch.setenv("LOCAL_RANK", "0")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        Ephemeral(home, starts.command, environ()).ensure()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writing)
    assert os.read(reading, 1) == b""  # the daemon lives, and the pipe has no writer
    os.close(reading)
    (start,) = starts.seen
    assert start["sid"] == start["pid"]
    assert start["blocked"] == 0
    assert "PATH" in start["environ"]
    assert not {"WATTSPAN_RUN_ID", "LOCAL_RANK"} & set(start["environ"])


def test_a_daemon_that_has_ended_is_no_zombie(home: Path, starts: Starts) -> None:
    """A process that lives on does not keep the remains of a daemon that it started."""
    Ephemeral(home, starts.command, environ()).ensure()
    pid = starts.seen[0]["pid"]
    os.kill(pid, signal.SIGTERM)
    for _ in range(600):
        if not os.path.exists(f"/proc/{pid}"):
            break
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")
    starts.log.unlink()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            [sys.executable, "-c", "raise SystemExit('wattspan: error: no driver')"],
            "wattspan: error: no driver",
        ),
        (["/bin/false"], "it said nothing"),
        (["/nonexistent/python"], "No such file or directory"),
    ],
)
def test_a_daemon_that_does_not_start(home: Path, command: list[str], said: str) -> None:
    """Its last words are the reason."""
    with pytest.raises(UnreachableError, match=said):
        Ephemeral(home, command, environ()).ensure()


def test_it_is_started_once_per_run(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What fails to start is not started over and over in the middle of a training."""
    log = home / "log"
    command = ["/bin/sh", "-c", f"echo x >> {log}; exit 1"]
    carried = courier.Courier(Daemon(()), Ephemeral(home, command, environ()), {"run_id": "r"}, [])
    carried.start()
    assert carried.settled(30)
    time.sleep(1.2)  # the next attempts come after 0.5 s and 1 s
    carried.end({"result": "success"})
    assert carried.over(30)
    assert log.read_text() == "x\n"
    assert len(caplog.records) == 1
    assert carried.begun is None


def test_a_daemon_with_a_full_queue_is_there(home: Path) -> None:
    """One that cannot take a connection at the moment is asked again, and none is started beside it."""
    started = home / "started"
    path = home / "wattspan.sock"
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(str(path))
        listener.listen(1)
        with suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        starter = Ephemeral(home, ["/usr/bin/touch", str(started)], environ())
        starter.ensure()
        carried = courier.Courier(Daemon((Door(str(path)),)), starter, {"run_id": "r"}, [])
        carried.start()
        assert not carried.settled(1.0)
        assert carried.trouble == f"the daemon at {path} has too much to do"
    path.unlink()
    with serving(path):
        assert carried.settled(30)
        assert carried.begun
        carried.end({"result": "success"})
        assert carried.over(30)
    assert not started.exists()


def test_a_lock_that_is_held(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for whoever has the lock ends some time."""
    monkeypatch.setattr(ephemeral, "START_S", 0.2)
    with open(home / "wattspan.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UnreachableError, match="lock"):
            Ephemeral(home, ["/bin/false"], environ()).ensure()


def test_the_folder_is_the_user_s_alone(home: Path) -> None:
    """A runtime folder that others can enter is not used, and neither is a link to one."""
    runtime = {"XDG_RUNTIME_DIR": str(home)}
    assert ephemeral.folder(runtime) == home
    home.chmod(0o755)
    fallback = ephemeral.folder(runtime)
    assert fallback is not None
    assert fallback == Path(f"/tmp/wattspan-{os.geteuid()}")
    assert fallback.stat().st_mode & 0o777 == 0o700
    home.chmod(0o700)
    (home / "link").symlink_to(home)
    assert ephemeral.folder({"XDG_RUNTIME_DIR": str(home / "link")}) == fallback
    assert ephemeral.folder({"XDG_RUNTIME_DIR": "relative"}) == fallback


@pytest.mark.parametrize("uid", [0, 1000])
def test_its_state_is_not_the_machine_s(home: Path, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    """Not even root's: the machine's daemon starts while a run of root has one. A read-only home is none."""
    usual = Path("/var/lib/wattspan") if uid == 0 else home / ".local/state/wattspan"
    monkeypatch.setattr(ephemeral, "folder", lambda _: home)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    beside = home / "wattspan"
    assert ephemeral.state_dir({"XDG_STATE_HOME": "/elsewhere"}, usual) == Path("/elsewhere/wattspan")
    assert ephemeral.state_dir({"XDG_STATE_HOME": "relative"}, usual) == (usual if uid else beside)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert ephemeral.state_dir({}, usual) == beside


@pytest.mark.usefixtures("no_daemon")
def test_track_starts_it(home: Path, starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    """`track()` on a machine without a daemon starts one; with WATTSPAN_EPHEMERAL=off it does not."""
    python = home / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -m tests.client.stand_in $7 {starts.log}\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with wattspan.track("x") as run:
        assert run.settled(60)
    assert starts.seen == []
    assert "no daemon is reachable" in str(run.summary.cost)
    monkeypatch.delenv("WATTSPAN_EPHEMERAL")
    with wattspan.track("x", wait_s=60) as run:
        assert run.settled(60)
    assert len(starts.seen) == 1
    assert run.summary.result == "success"


def test_its_command(home: Path) -> None:
    """The daemon is this very package, told to be ephemeral, on the socket where clients look."""
    words = ephemeral.command(home)
    assert words[0] == sys.executable
    assert words[-4:] == ["serve", "--ephemeral", "--socket", str(home / "wattspan.sock")]
