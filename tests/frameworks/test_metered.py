"""Real trainings, metered by the real daemon on a card whose true energy is known, up to a real collector."""

import importlib
import importlib.util
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pytest

from tests.e2e.daemon import Daemon
from tests.fakes.collector import Rotel
from tests.fakes.nvml import FakeNvml, parse_scenario
from tests.real_parts import need

# What the frameworks warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

WATTS: Final = 300
INTERVAL_S: Final = 0.5
ONE_SAMPLE_J: Final = WATTS * INTERVAL_S

CARD: Final = parse_scenario(
    "one", {"clock": "real", "gpu": [{"generation": "h100", "curve": [[0, WATTS]], "base_mj": 10**9}]}
)
"""At constant power, so that a stretch's energy is its duration's."""


@dataclass(frozen=True)
class Span:
    """A span as the collector has it; attributes as text."""

    name: str
    began_ns: int
    ended_ns: int
    status: str
    attributes: dict[str, str]

    @classmethod
    def of(cls, printed: dict[str, Any]) -> Self:
        """Of what the collector printed, such as ``Str(nlp)`` and ``Double(3.5)``."""
        said = {name: text.partition("(")[2][:-1] for name, text in printed["attributes"].items()}
        return cls(printed["name"], printed["start"], printed["end"], printed["status"], said)


@dataclass(frozen=True)
class Metered:
    """A daemon on a card that this process holds, and the collector that it exports to."""

    daemon: Daemon
    collector: Rotel
    fake: FakeNvml

    def run(self, run_id: str) -> dict[str, Any]:
        """What the daemon says of a run."""
        document: dict[str, Any] = json.loads(self.daemon.get(f"/api/v1/runs/{run_id}").text)
        return document

    def spans(self, run_id: str, name: str) -> list[Span]:
        """Spans of a run by name, in order of their begin; waits for the last one, the run's own."""
        for _ in range(600):
            spans = [Span.of(printed) for printed in self.collector.spans(0).values()]
            about = [span for span in spans if span.attributes.get("wattspan.run.id") == run_id]
            if any(span.name == "training_run" for span in about):
                return sorted((span for span in about if span.name == name), key=lambda span: span.began_ns)
            time.sleep(0.05)
        raise AssertionError(f"the collector has no training_run of {run_id}")

    def true_joules(self, span: Span) -> float:
        """What the card used in the time of a span."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        at = [self.fake.scenario_ns(wall_ns - offset_ns) for wall_ns in (span.began_ns, span.ended_ns)]
        return (self.fake.energy_mj(0, at[1]) - self.fake.energy_mj(0, at[0])) / 1000


@pytest.fixture
def metered(home: Path) -> Iterator[Metered]:
    collector = Rotel(home)
    collector.start()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint("http/protobuf")}
    flags = ("--sample.interval", f"{INTERVAL_S * 1000:.0f}ms", "--socket", str(home / "w.sock"))
    try:
        with FakeNvml(CARD, home) as fake, Daemon(fake, home / "state", *flags, env=env) as daemon:
            fake.set_processes(0, [os.getpid()])
            daemon.wait_ready()
            yield Metered(daemon, collector, fake)
    finally:
        collector.kill()


class Slow:
    """Data of which each sample takes its time, so that a training lasts a few seconds."""

    def __init__(self, data: Any, seconds: float) -> None:
        self._data = data
        self._seconds = seconds

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        time.sleep(self._seconds)
        return self._data[index]


def assert_true(metered: Metered, run: Any, steps: int, samples: int, tokens: int) -> None:
    """What daemon, collector and the job's own summary say agrees with the card and with the training."""
    document = metered.run(run.run_id)
    (whole,) = metered.spans(run.run_id, "training_run")
    assert document["result"] == whole.attributes["wattspan.run.result"] == "success"
    counted = [int(whole.attributes[f"wattspan.progress.{name}"]) for name in ("steps", "samples", "tokens")]
    assert counted == [steps, samples, tokens]
    assert [document["progress"][name] for name in ("steps", "samples", "tokens")] == counted
    true_j = pytest.approx(metered.true_joules(whole), abs=ONE_SAMPLE_J)
    assert document["energy_by_component"]["gpu"] == true_j
    assert run.summary.energy_by_component["gpu"] == true_j
    assert float(whole.attributes["wattspan.energy.gpu"]) == true_j


def assert_phases(metered: Metered, run: Any, names: list[str]) -> None:
    """The phases are those, within the run, and each has the energy of its time."""
    (whole,) = metered.spans(run.run_id, "training_run")
    phases = metered.spans(run.run_id, "training_run.phase")
    parts = [
        (phase.attributes["wattspan.phase.name"], phase.attributes["wattspan.phase.index"])
        for phase in phases
    ]
    assert [" ".join(part) for part in parts] == names
    for phase in phases:
        assert whole.began_ns <= phase.began_ns <= phase.ended_ns <= whole.ended_ns
        joules = float(phase.attributes.get("wattspan.energy.gpu", 0))
        # Both its ends may lie between two samples.
        assert joules == pytest.approx(metered.true_joules(phase), abs=2 * ONE_SAMPLE_J)


@pytest.mark.parametrize("adapters", [False, True], ids=["whole", "lora"])
def test_a_training_of_transformers(metered: Metered, tiny: Any, home: Path, adapters: bool) -> None:
    """Energy, counts and phases of a run are the card's and the Trainer's own, also of a LoRA fine-tuning."""
    need("peft", not adapters or importlib.util.find_spec("peft") is not None)
    callback = importlib.import_module("wattspan.huggingface").WattspanCallback(project="nlp", report=False)
    tiny.trainer(
        home,
        [callback],
        Slow(tiny.Texts(10), 0.1),
        of=tiny.with_adapters() if adapters else tiny.model(),
        eval_strategy="epoch",
        save_strategy="epoch",
        include_num_input_tokens_seen="all",
    ).train()
    assert_true(metered, callback.run, steps=6, samples=20, tokens=160)
    assert_phases(
        metered,
        callback.run,
        ["epoch 0", "evaluate 3", "checkpoint 3", "epoch 1", "evaluate 6", "checkpoint 6"],
    )


def test_a_fit_of_lightning(metered: Metered, tiny_lightning: Any, home: Path) -> None:
    """The same of a Lightning loop."""
    callback = importlib.import_module("wattspan.lightning").WattspanCallback(report=False)
    tiny_lightning.trainer(home, [callback]).fit(
        tiny_lightning.Module(),
        tiny_lightning.loader(Slow(tiny_lightning.Samples(10), 0.1)),
        tiny_lightning.loader(tiny_lightning.Samples(2)),
    )
    assert_true(metered, callback.run, steps=6, samples=20, tokens=160)
    assert_phases(metered, callback.run, ["sanity_check 0", "epoch 0", "evaluate 3", "epoch 1", "evaluate 6"])


def test_a_training_that_raises(metered: Metered, tiny: Any, home: Path) -> None:
    """It ends as a failure, in the span an error with the exception's type, and what it used is known."""
    callback = importlib.import_module("wattspan.huggingface").WattspanCallback(report=False)
    data = Slow(tiny.Texts(10, error_at=9, error=OSError("a disk is gone")), 0.1)
    with pytest.raises(OSError, match="a disk is gone"):
        tiny.trainer(home, [callback], data, num_train_epochs=10).train()
    document = metered.run(callback.run.run_id)
    assert (document["result"], document["error_type"]) == ("failure", "OSError")
    (whole,) = metered.spans(callback.run.run_id, "training_run")
    assert whole.status == "STATUS_CODE_ERROR"
    assert whole.attributes["error.type"] == "OSError"
    true_j = pytest.approx(metered.true_joules(whole), abs=ONE_SAMPLE_J)
    assert document["energy_by_component"]["gpu"] == true_j
