"""Examples for frameworks that are not installed here, run on stand-ins for the little that they call."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.client.stand_in import StandIn
from tests.frameworks.told import first_and_last, story

SNIPPETS = Path(__file__).with_name("snippets.md").read_text()
BLOCKS = dict(re.findall(r"^## (.+?)\n\n```python\n(.*?)^```", SNIPPETS, flags=re.MULTILINE | re.DOTALL))
EPOCHS = ["begin", "+epoch 0", "-epoch 0", "+epoch 1", "-epoch 1", "success"]


@pytest.fixture(autouse=True)
def _said_well(caplog: pytest.LogCaptureFixture) -> Any:
    """The client complains of nothing."""
    yield
    assert [record.message for record in caplog.records if record.name.startswith("wattspan")] == []


def example(framework: str, monkeypatch: pytest.MonkeyPatch, **modules: Any) -> Any:
    """The ``train`` of an example, which finds these modules (dots as ``__``)."""
    for name, content in modules.items():
        module = ModuleType(name.replace("__", "."))
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    names: dict[str, Any] = {}
    exec(BLOCKS[framework], names)
    return names["train"]


def test_keras(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs are phases, and steps go on over them."""

    def fit(data: list[int], epochs: int, callbacks: list[Any]) -> None:
        for epoch in range(epochs):
            callbacks[0].on_epoch_begin(epoch, {})
            for batch in data:
                callbacks[0].on_train_batch_end(batch, {})
            callbacks[0].on_epoch_end(epoch, {})

    keras = {"callbacks": SimpleNamespace(LambdaCallback=SimpleNamespace)}
    example("Keras", monkeypatch, keras=keras)(SimpleNamespace(fit=fit), [0, 1, 2], 2)
    assert story(daemon) == EPOCHS
    assert first_and_last(daemon)[1] == (6, None, None)


def test_jax(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends when the device has done its last step."""
    waited: list[int] = []
    jax = {"__version__": "1", "process_index": lambda: 0, "block_until_ready": waited.append}
    train = example("JAX", monkeypatch, jax=jax)
    assert train(lambda state, batch: state + batch, 0, [1, 2], batch_size=4, total_steps=2) == 3
    assert waited == [3]
    assert first_and_last(daemon)[1] == (2, 8, None)
    assert story(daemon) == ["begin", "success"]


def test_ray(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker of an experiment tells of the same run."""
    context = SimpleNamespace(get_experiment_name=lambda: "sweep-7")
    reports: list[str] = []

    class TorchTrainer:
        def __init__(self, loop: Any, train_loop_config: Any, scaling_config: Any) -> None:
            self.fit = lambda: loop(train_loop_config)
            assert scaling_config.use_gpu

    of_train = {"get_context": lambda: context, "report": reports.append, "ScalingConfig": SimpleNamespace}
    train = example(
        "Ray Train",
        monkeypatch,
        ray={"train": SimpleNamespace(**of_train)},
        ray__train=of_train,
        ray__train__torch={"TorchTrainer": TorchTrainer},
    )
    train(lambda epoch: f"metrics {epoch}", 2)
    assert daemon.about("/runs")[0]["run_id"] == "sweep-7"
    assert story(daemon) == EPOCHS
    assert reports == ["metrics 0", "metrics 1"]


def test_deepspeed(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and samples are the engine's own, and a checkpoint is a phase."""

    class Engine:
        global_steps = 498
        global_samples = 1992

        def __call__(self, batch: int) -> int:
            return batch

        def backward(self, loss: int) -> None:
            pass

        def step(self) -> None:
            self.global_steps += 1
            self.global_samples += 4

        def save_checkpoint(self, folder: str) -> None:
            pass

    initialize = {"initialize": lambda **_: (Engine(), None, [1, 2, 3], None)}
    train = example("DeepSpeed", monkeypatch, deepspeed=initialize)
    train(SimpleNamespace(parameters=list), [], {}, total_steps=501)
    assert first_and_last(daemon) == ((499, 1996, None), (501, 2004, None))
    assert story(daemon) == ["begin", "+checkpoint 500", "-checkpoint 500", "success"]
