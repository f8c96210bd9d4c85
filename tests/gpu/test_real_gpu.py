"""What a real NVIDIA GPU does, beside what we believe. Needs a driver; the loads need PyTorch with CUDA.

Figures are printed and kept as properties of the test report; with ``WATTSPAN_RECORD_TO`` naming a folder,
what was seen is written there as a scenario for the fake, named by card and driver.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import quantiles

import pytest

from tests.gpu.recording import refresh_ms, scenario_name, scenario_toml
from wattspan.devices.nvidia import NvidiaSource
from wattspan.errors import NotHereError
from wattspan.model import GpuReading
from wattspan.units import NS_PER_S

pytestmark = pytest.mark.gpu

Note = Callable[[str, object], None]


@pytest.fixture
def source() -> Iterator[NvidiaSource]:
    nvidia = NvidiaSource()
    try:
        nvidia.open()
    except NotHereError as error:
        pytest.skip(f"no NVIDIA GPU: {error}")
    yield nvidia
    nvidia.close()


@pytest.fixture
def note(record_property: Note) -> Note:
    def keep(name: str, value: object) -> None:
        record_property(name, value)
        print(f"{name}: {value}")

    return keep


@contextmanager
def matrix_load() -> Iterator[None]:
    """Multiply matrices on the first GPU until the block ends."""
    torch = pytest.importorskip("torch", reason="the load needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("the load needs PyTorch with CUDA")
    matrix = torch.randn(8192, 8192, device="cuda:0", dtype=torch.bfloat16)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for _ in range(20):
                torch.mm(matrix, matrix)
            torch.cuda.synchronize()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


def look(source: NvidiaSource, seconds: float, every_s: float) -> list[GpuReading]:
    """Readings of the first GPU over a while."""
    readings = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        readings.append(min(source.read().gpus, key=lambda reading: reading.gpu.index))
        time.sleep(every_s)
    return readings


def integral_uj(readings: list[GpuReading]) -> float:
    """Trapezoids of instant power."""
    pairs = pairwise(readings)
    return sum(
        ((a.power_instant_uw or 0) + (b.power_instant_uw or 0)) / 2 * (b.read_at_ns - a.read_at_ns) / NS_PER_S
        for a, b in pairs
    )


def test_energy_of_a_load_agrees_with_the_integral_of_power(source: NvidiaSource, note: Note) -> None:
    """Counter and integrated instant power agree on a steady load within 10 %: each is good for 5 %."""
    with matrix_load():
        look(source, 5, 0.5)
        readings = look(source, 20, 0.05)
    first, last = readings[0], readings[-1]
    if first.energy_uj is None or last.energy_uj is None or first.power_instant_uw is None:
        pytest.skip(f"{first.gpu.model} has no energy counter or no instant power")
    counter_uj = last.energy_uj - first.energy_uj
    ratio = counter_uj / integral_uj(readings)
    note("counter_joules", counter_uj / 1e6)
    note("counter_over_integral", round(ratio, 4))
    assert 0.9 < ratio < 1.1


@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "loaded"])
def test_looks_are_short(source: NvidiaSource, note: Note, loaded: bool) -> None:
    """A look at all GPUs takes far less than the second between two looks, idle and loaded."""
    if loaded:
        with matrix_load():
            p50_ms, p99_ms = latencies_ms(source)
    else:
        p50_ms, p99_ms = latencies_ms(source)
    note("look_p50_ms", round(p50_ms, 3))
    note("look_p99_ms", round(p99_ms, 3))
    assert p50_ms < 500


def latencies_ms(source: NvidiaSource) -> tuple[float, float]:
    """p50 and p99 of 300 looks."""
    source.read()
    reports = [source.read() for _ in range(300)]
    cuts = quantiles([(r.finished_ns - r.started_ns) / 1e6 for r in reports], n=100)
    return cuts[49], cuts[98]


def test_the_counter_moves_often_enough(source: NvidiaSource, note: Note, tmp_path: Path) -> None:
    """The energy counter moves at least five times in a second, so that a second's delta means something."""
    readings = look(source, 3, 0.001)
    if readings[0].energy_uj is None:
        pytest.skip(f"{readings[0].gpu.model} has no energy counter")
    every_ms = refresh_ms(readings)
    note("counter_refresh_ms", every_ms)
    folder = Path(os.environ.get("WATTSPAN_RECORD_TO", tmp_path))
    path = folder / f"{scenario_name(readings[-1].gpu)}.toml"
    path.write_text(scenario_toml(readings[::50], every_ms))
    note("recorded", path)
    assert every_ms <= 200


NAMESPACED = """
from wattspan.devices.nvidia import NvidiaSource
source = NvidiaSource()
source.open()
print(sorted(pid for reading in source.read().gpus for pid in reading.processes or ()))
source.close()
"""


def test_whether_pids_follow_the_pid_namespace(source: NvidiaSource, note: Note) -> None:
    """Seen from a pid namespace of its own, the driver tells our pid or not: noted, not judged."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("needs unshare and root")
    with matrix_load():
        look(source, 2, 0.5)
        outside = source.read().gpus[0].processes
        inside = subprocess.run(
            [unshare, "--pid", "--fork", "--mount-proc", sys.executable, "-c", NAMESPACED],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    if inside.returncode != 0:
        pytest.skip(f"no pid namespace here: {inside.stderr.strip().splitlines()[-1:]}")
    note("our_pid", os.getpid())
    note("pids_outside", sorted(outside or ()))
    note("pids_inside", inside.stdout.strip())
    note("our_pid_is_seen_inside", str(os.getpid()) in inside.stdout)
