"""Runs on a real NVIDIA GPU, metered by the real daemon: two that share it, a Trainer, a callback's cost.

Needs a driver and PyTorch with CUDA; the Trainer needs transformers. Figures are printed and kept as
properties of the test report.
"""

import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.daemon import Daemon, Scrape, clean_environment
from wattspan.devices.nvidia import NvidiaSource
from wattspan.errors import NotHereError
from wattspan.units import UJ_PER_J

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]  # what the frameworks warn of is theirs

Note = Callable[[str, object], None]

TOGETHER_S: Final = 20
STEPS: Final = 40
PAIRS: Final = 12
"""Trainings with and without the callback, one of each at a time; the order within a pair alternates."""

PROMISED: Final = 0.0005
"""Of a step of 100 ms and more."""

MULTIPLIES: Final = """
import sys, torch, wattspan
matrix = torch.randn(4096, 4096, device="cuda:0", dtype=torch.bfloat16)
torch.cuda.synchronize()
print("ready", flush=True)
sys.stdin.readline()
with wattspan.track(sys.argv[1], run_id=sys.argv[1], wait_s=30) as run:
    print("begun", flush=True)
    import threading
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
    while not over.is_set():
        for _ in range(20):
            torch.mm(matrix, matrix)
        torch.cuda.synchronize()
print(run.summary.energy_by_component["gpu"], flush=True)
"""


@pytest.fixture
def note(record_property: Note) -> Note:
    def keep(name: str, value: object) -> None:
        record_property(name, value)
        print(f"{name}: {value}")

    return keep


@pytest.fixture
def uuid() -> str:
    """Of the first GPU, on which PyTorch can compute."""
    nvidia = NvidiaSource()
    try:
        nvidia.open()
        found = min(nvidia.read().gpus, key=lambda reading: reading.gpu.index).gpu.uuid
    except NotHereError as error:
        pytest.skip(f"no NVIDIA GPU: {error}")
    finally:
        nvidia.close()
    torch = pytest.importorskip("torch", reason="the load needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("the load needs PyTorch with CUDA")
    return found


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: a socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="wsp") as folder:
        yield Path(folder)


@pytest.fixture
def daemon(uuid: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The real one on the real driver; this process tells it of its runs."""
    monkeypatch.setenv("WATTSPAN_SOCKET", str(home / "state.sock"))
    with Daemon(None, home / "state", "--source.nvidia", "on") as daemon:
        daemon.wait_ready().until(lambda scrape: scrape.find("wattspan_gpu_up", uuid=uuid) == 1, "the GPU")
        yield daemon


def shares_uj(scrape: Scrape, uuid: str) -> dict[str, int]:
    """A card's energy by share."""
    series = scrape.series("wattspan_gpu_attributed_energy_joules_total", uuid=uuid)
    return {dict(labels)["share"]: round(joules * UJ_PER_J) for labels, joules in series.items()}


def energy_uj(scrape: Scrape, uuid: str) -> int:
    return round(scrape.total("wattspan_gpu_energy_joules_total", uuid=uuid) * UJ_PER_J)


def both_hold(uuid: str) -> Callable[[Scrape], bool]:
    return lambda scrape: scrape.find("wattspan_gpu_holders", uuid=uuid) == 2


def test_two_processes_that_share_the_card_sum_to_it(
    daemon: Daemon, uuid: str, home: Path, note: Note
) -> None:
    """While both are there the shares sum to the card's energy to the microjoule, and all of it is theirs."""
    env = {**os.environ, **clean_environment(home), "WATTSPAN_SOCKET": str(daemon.socket_path)}
    jobs = {
        name: subprocess.Popen(
            [sys.executable, "-c", MULTIPLIES, name],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    }
    try:
        for word in ("ready", "begun"):
            for job in jobs.values():
                assert job.stdout is not None
                assert job.stdin is not None
                assert job.stdout.readline().strip() == word
                if word == "ready":
                    job.stdin.write("go\n")
                    job.stdin.flush()
        try:
            daemon.until(both_hold(uuid), "both")
        except AssertionError:
            pytest.skip("the driver does not tell these processes' pids in this pid namespace")
        first = daemon.after(2)
        time.sleep(TOGETHER_S)
        last = daemon.after(1)
        said = {name: float(job.communicate("over\n", timeout=120)[0]) for name, job in jobs.items()}
    finally:
        for job in jobs.values():
            job.kill()
            job.wait()
    used_uj = energy_uj(last, uuid) - energy_uj(first, uuid)
    before, after = shares_uj(first, uuid), shares_uj(last, uuid)
    gained = {share: after[share] - before.get(share, 0) for share in after}
    note("shared_card_joules", used_uj / UJ_PER_J)
    note("shared_card_parts", gained)
    note("shared_card_runs_joules", said)
    assert sum(gained.values()) == used_uj > 0
    if gained.get("unattributed", 0) or gained.get("pod", 0):
        pytest.skip(f"somebody else computes on this card: {gained}")
    assert gained["run"] == used_uj
    # They do the same work; the driver's SM time is sampled, so the halves are not equal.
    assert 0.5 < said["one"] / said["two"] < 2


def gpu_training(tiny: Any, home: Path, callbacks: list[Any], *, steps: int = STEPS) -> Any:
    """A Trainer on the first GPU whose step takes some 100 ms."""
    model = tiny.LlamaForCausalLM(
        tiny.LlamaConfig(
            vocab_size=512,
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=8,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=tiny.TOKENS,
            pad_token_id=0,
        )
    )
    batch = 2048
    return tiny.trainer(
        home,
        callbacks,
        tiny.Texts(batch * steps),
        of=model,
        use_cpu=False,
        per_device_train_batch_size=batch,
        num_train_epochs=1,
        max_steps=steps,
    )


@pytest.fixture
def tiny() -> Any:
    """What makes models and Trainers of transformers."""
    pytest.importorskip("transformers", reason="the Trainer needs transformers")
    return importlib.import_module("tests.frameworks.tiny_transformers")


def test_a_run_with_the_trainer(daemon: Daemon, tiny: Any, home: Path, note: Note) -> None:
    """Its steps and its epoch arrive, and the energy is what the card used between begin and end."""
    callback = importlib.import_module("wattspan.huggingface").WattspanCallback(project="nlp", report=False)
    first = daemon.metrics()
    gpu_training(tiny, home, [callback]).train()
    last = daemon.after(2)
    document = json.loads(daemon.get(f"/api/v1/runs/{callback.run.run_id}").text)
    used_j = last.total("wattspan_gpu_energy_joules_total") - first.total("wattspan_gpu_energy_joules_total")
    note("trainer_joules", document["energy_by_component"]["gpu"])
    note("trainer_seconds", document["duration_seconds"])
    note("cards_joules_around_it", used_j)
    assert (document["result"], document["progress"]["steps"]) == ("success", STEPS)
    if document["gpu_count"] == 0:
        pytest.skip("the driver does not tell this process's pid in this pid namespace")
    assert 0 < document["energy_by_component"]["gpu"] <= used_j
    assert callback.run.summary.energy_by_component["gpu"] == document["energy_by_component"]["gpu"]


class StepTimes:
    """Seconds of each step of a training, by the wall; the first few warm up and are left out."""

    WARM: Final = 5

    def __init__(self, tiny: Any) -> None:
        times: list[float] = []
        self._times = times

        class Watch(tiny.TrainerCallback):  # type: ignore[misc, name-defined]  # a class of a module by name
            def on_step_end(self, *_: Any, **__: Any) -> None:
                times.append(time.perf_counter())

        self.callback = Watch()

    @property
    def mean_s(self) -> float:
        kept = self._times[self.WARM :]
        return (kept[-1] - kept[0]) / (len(kept) - 1)


@pytest.mark.usefixtures("daemon")
def test_steps_with_and_without_the_callback(tiny: Any, home: Path, note: Note) -> None:
    """An A/B in pairs: the 95 % interval of the slowdown does not lie above what was promised."""
    ours = importlib.import_module("wattspan.huggingface").WattspanCallback
    slowdowns = []
    for pair in range(PAIRS):
        means = {}
        for with_it in (True, False) if pair % 2 else (False, True):
            watch = StepTimes(tiny)
            callbacks = [watch.callback, *([ours(report=False)] if with_it else [])]
            gpu_training(tiny, home, callbacks).train()
            means[with_it] = watch.mean_s
        slowdowns.append(means[True] / means[False] - 1)
    low, mean, high = interval(slowdowns)
    note("step_seconds_without", round(means[False], 4))
    note("step_slowdown_ratio", f"{mean:+.5f}, 95 % interval {low:+.5f} to {high:+.5f}, {PAIRS} pairs")
    assert low < PROMISED


T_95: Final = {11: 2.201}
"""Student's t, two-sided, by degrees of freedom (ISO 2854, table)."""


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The mean with its two-sided 95 % confidence interval, by Student's t."""
    mean = statistics.fmean(ratios)
    half = T_95[len(ratios) - 1] * statistics.stdev(ratios) / math.sqrt(len(ratios))
    return mean - half, mean, mean + half
