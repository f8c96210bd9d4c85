"""A machine without a daemon and a Python with the base package alone: `wattspan run` around eight ranks."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import OTHER_SOURCES, PATIENCE_S, clean_environment
from tests.e2e.training import CONTEXT_MIB, SEEN_S, gpu_joules
from tests.fakes.nvml import FakeNvml, Process, parse_scenario
from wattspan.app import EPHEMERAL_NS
from wattspan.client.daemon import SYSTEM_SOCKET
from wattspan.journal.history import History
from wattspan.runs import RunRecord
from wattspan.units import NS_PER_S

RANKS = 8
QUIET_W, BUSY_W = 1, 400

EIGHT_CARDS = parse_scenario(
    "eight",
    {
        "clock": "real",
        "gpu": [{"generation": "h100", "count": RANKS, "curve": [[0, QUIET_W]], "base_mj": 10**9}],
    },
)

BASE_ALONE = """
import sys

EXTRAS = {extras}

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""
"""A `sitecustomize`: whatever the extras bring is not there, in this process and in those that it starts."""

EXTRAS = (
    *(
        "amdsmi",
        "bcrypt",
        "cysystemd",
        "google",
        "grpc",
        "h11",
        "httptools",
        "opentelemetry",
        "prometheus_client",
    ),
    *("psutil", "requests", "torch", "tzdata", "urllib3", "uvicorn", "yaml"),
)

TRAIN = """
import os, subprocess, sys, wattspan

def rank():
    with wattspan.track("llama-sft", total_steps=10) as run:
        run.progress(step=0)
        sys.stdin.readline()
        run.progress(step=10)

if "LOCAL_RANK" in os.environ:
    rank()
    sys.exit()
ranks = [
    subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | {"RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": "8"},
        stdin=subprocess.PIPE,
    )
    for n in range(8)
]
print(*(rank.pid for rank in ranks), flush=True)
sys.stdin.readline()
for rank in ranks:
    rank.stdin.write(b"go\\n")
    rank.stdin.close()
sys.exit(max(rank.wait() for rank in ranks))
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A runtime folder of the user's own, with a short name; no daemon of it is left behind."""
    with tempfile.TemporaryDirectory(prefix="wsp") as folder:
        yield Path(folder)
        for pid in daemons(Path(folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def daemons(runtime: Path) -> list[int]:
    """The ephemeral daemons of a runtime folder, by pid."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"--ephemeral" in words and str(runtime / "wattspan.sock").encode() in words:
                found.append(int(entry.name))
    return found


def used_joules(fake: FakeNvml) -> float:
    """By the cards' counters."""
    return sum(fake.energy_mj(gpu) for gpu in range(RANKS)) / 1000


@pytest.mark.slow
def test_eight_ranks_with_the_base_package_alone(tmp_path: Path, runtime: Path) -> None:
    """One daemon for all of them, their joules once, a report at the end, and 30 s later nobody is left."""
    with socket.socket(socket.AF_UNIX) as door:
        if door.connect_ex(SYSTEM_SOCKET) == 0:
            pytest.skip(f"a daemon of this machine, at {SYSTEM_SOCKET}, would be told of the tests' runs")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/sitecustomize.py").write_text(BASE_ALONE.format(extras=set(EXTRAS)))
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    with FakeNvml(EIGHT_CARDS, tmp_path) as fake:
        env = {
            **fake.environment(clean_environment(tmp_path)),
            "PYTHONPATH": str(tmp_path / "base"),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "WATTSPAN_NVML_LIBRARY": str(fake.library),
            "WATTSPAN_SAMPLE_INTERVAL": "200ms",
            **{f"WATTSPAN_SOURCE_{name.upper()}": "off" for name in OTHER_SOURCES},
        }
        missing = subprocess.run(
            [sys.executable, "-c", "import uvicorn"], env=env, capture_output=True, check=False
        )
        assert b"ModuleNotFoundError" in missing.stderr
        before_j = used_joules(fake)
        command = subprocess.Popen(
            [sys.executable, "-m", "wattspan", "run", "--", sys.executable, str(script)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert command.stdout is not None
        pids = [int(word) for word in command.stdout.readline().split()]
        assert len(pids) == RANKS
        for gpu, pid in enumerate(pids):
            fake.set_processes(gpu, [Process(pid, memory_mib=CONTEXT_MIB)])
            fake.set_look(gpu, memory_used_mib=CONTEXT_MIB)
        time.sleep(2 * SEEN_S)  # quiet cards until the daemon has seen who holds them
        for watts, seconds in ((BUSY_W, 6.0), (QUIET_W, 1.0)):
            for gpu in range(RANKS):
                fake.set_power(gpu, watts)
            time.sleep(seconds)
        (daemon,) = daemons(runtime)
        assert fake.init_count() == 1, "the driver has one client"
        _, said = command.communicate("go\n", timeout=PATIENCE_S)
        ended_s = time.monotonic()
        after_j = used_joules(fake)
        assert command.returncode == 0, said
        assert daemons(runtime) == [daemon], "it outlives the run"

        (record,) = list(History(tmp_path / "state/wattspan").runs())
        assert_counted_once(record, after_j - before_j)
        assert f"{record.run.run_id}" in said
        assert "kJ" in said or "Wh" in said
        assert "Traceback" not in said + (runtime / "wattspan.log").read_text()

        while daemons(runtime):
            assert time.monotonic() - ended_s < EPHEMERAL_NS / NS_PER_S + PATIENCE_S
            time.sleep(0.2)
        assert time.monotonic() - ended_s > EPHEMERAL_NS / NS_PER_S - 5
        assert fake.init_count() == 0


def assert_counted_once(record: RunRecord, true_j: float) -> None:
    """All that the cards used but what they drew, all but idle, until their ranks were seen."""
    print(f"eight ranks: {gpu_joules(record):.1f} J, the cards {true_j:.1f} J")
    assert true_j > RANKS * BUSY_W * 5
    assert gpu_joules(record) == pytest.approx(true_j, rel=0.005)
    assert len(record.gpus) == RANKS
    assert (record.result, record.progress.steps) == ("success", 10)
