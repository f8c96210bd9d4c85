"""The callback in a real Lightning loop, against a daemon that notes what it is told."""

import copy
import importlib
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wattspan
from tests.client.stand_in import StandIn
from tests.frameworks.told import first_and_last, story

# What the frameworks warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def kind(tiny_lightning: Any) -> Any:  # noqa: ARG001 - skips without Lightning
    """The class of the callback, which nobody can import without Lightning."""
    return importlib.import_module("wattspan.lightning").WattspanCallback


@pytest.fixture
def callback(kind: Any) -> Any:
    return kind(report=False)


def test_a_fit_is_a_run(daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path) -> None:
    """It begins and ends with the fit and knows its name, framework, planned steps, loss and all counts."""
    trainer = tiny_lightning.trainer(home, [callback], accumulate_grad_batches=2)
    trainer.fit(tiny_lightning.Module(), tiny_lightning.loader())
    (begin,) = daemon.about("/runs")
    assert begin["name"] == "Module"
    assert begin["framework"].startswith("lightning ")
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "+epoch 1", "-epoch 1", "success"]
    assert first_and_last(daemon) == ((0, None, None), (4, 20, 160))
    last = daemon.about("/progress")[-1]
    assert last["total_steps"] == 4
    assert 0 <= last["loss"] < 10
    assert callback.run.summary.result == "success"


def test_what_happens_besides_steps_is_a_phase(
    daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path
) -> None:
    """The sanity check, evaluations and checkpoints are phases of their own, numbered by the step."""
    saver = tiny_lightning.ModelCheckpoint(home, every_n_train_steps=2)
    trainer = tiny_lightning.trainer(home, [saver, callback], max_epochs=1)
    trainer.fit(tiny_lightning.Module(), tiny_lightning.loader(), tiny_lightning.loader())
    assert story(daemon) == [
        *("begin", "+sanity_check 0", "-sanity_check 0", "+epoch 0", "+checkpoint 2", "-checkpoint 2"),
        *("+evaluate 3", "-evaluate 3", "-epoch 0", "success"),
    ]


def test_a_checkpoint_at_the_end_of_an_epoch(
    daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path
) -> None:
    """It ends with the run where no other event follows."""
    saver = tiny_lightning.ModelCheckpoint(home)
    trainer = tiny_lightning.trainer(home, [saver, callback])
    trainer.fit(tiny_lightning.Module(), tiny_lightning.loader())
    assert story(daemon) == [
        *("begin", "+epoch 0", "-epoch 0", "+checkpoint 3", "-checkpoint 3"),
        *("+epoch 1", "-epoch 1", "+checkpoint 6", "-checkpoint 6", "success"),
    ]


def test_a_resumed_fit_goes_on_counting(daemon: StandIn, tiny_lightning: Any, kind: Any, home: Path) -> None:
    """The first progress after a resume is the checkpoint's, from which the daemon counts."""
    saver = tiny_lightning.ModelCheckpoint(home, filename="one")
    tiny_lightning.trainer(home, [saver], max_epochs=1).fit(
        tiny_lightning.Module(), tiny_lightning.loader(tiny_lightning.Samples(12))
    )
    tiny_lightning.trainer(home, [kind(report=False)]).fit(
        tiny_lightning.Module(),
        tiny_lightning.loader(tiny_lightning.Samples(12)),
        ckpt_path=home / "one.ckpt",
    )
    assert first_and_last(daemon) == ((3, None, None), (6, 24, 192))
    samples = [told["samples"] for told in daemon.about("/progress") if "samples" in told]
    assert samples[0] == 12
    assert story(daemon) == ["begin", "+epoch 1", "-epoch 1", "success"]


@pytest.mark.parametrize(
    ("error", "raised", "ending"),
    [
        (OSError("a disk is gone"), OSError, "failure OSError"),
        (KeyboardInterrupt(), SystemExit, "cancelled"),  # what Lightning makes of it
    ],
)
def test_a_fit_that_raises(
    daemon: StandIn,
    tiny_lightning: Any,
    callback: Any,
    home: Path,
    error: BaseException,
    raised: type[BaseException],
    ending: str,
) -> None:
    """The exception ends the run at once, though the process goes on, and reaches the caller."""
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(raised):
            tiny_lightning.trainer(home, [callback]).fit(
                tiny_lightning.Module(), tiny_lightning.loader(tiny_lightning.Samples(10, 5, error))
            )
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning leaves it ignored
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", ending]


def test_a_fit_that_is_told_to_stop(daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path) -> None:
    """SIGTERM, as of a preemption, is no success, though Lightning leaves as if by `sys.exit()`."""

    class Preempted(tiny_lightning.Module):  # type: ignore[misc]
        def training_step(self, batch: Any) -> Any:
            signal.raise_signal(signal.SIGTERM)
            return super().training_step(batch)

    with pytest.raises(SystemExit):
        tiny_lightning.trainer(home, [callback]).fit(Preempted(), tiny_lightning.loader())
    assert story(daemon)[-1] == "cancelled"


def test_only_a_fit_is_a_run(daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path) -> None:
    """An evaluation by itself is none, and each fit is one."""
    trainer = tiny_lightning.trainer(home, [callback], max_epochs=1)
    module = tiny_lightning.Module()
    trainer.validate(module, tiny_lightning.loader(), verbose=False)
    assert daemon.asked == []
    trainer.fit(module, tiny_lightning.loader())
    tiny_lightning.trainer(home, [callback], max_epochs=1).fit(module, tiny_lightning.loader())
    assert [word for word in story(daemon) if word in ("begin", "success")] == ["begin", "success"] * 2
    assert first_and_last(daemon)[1] == (3, 10, 80)


def test_a_run_of_the_callers_own(daemon: StandIn, tiny_lightning: Any, kind: Any, home: Path) -> None:
    """A fit inside `track()` is a part of that run and does not end it."""
    with wattspan.track("mine") as run:
        tiny_lightning.trainer(home, [kind(run=run)], max_epochs=1).fit(
            tiny_lightning.Module(), tiny_lightning.loader()
        )
        with run.phase("export"):
            pass
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "+export", "-export", "success"]


def test_a_spawned_fit(daemon: StandIn, tiny_lightning: Any, kind: Any, home: Path) -> None:
    """Strategies that pickle the callback for processes of their own: there it begins its run as anywhere,
    and with a run of the caller's it is silent.
    """
    with wattspan.track("mine") as run:
        trainer = tiny_lightning.trainer(home, [kind(run=run)], max_epochs=1, strategy="ddp_spawn")
        trainer.fit(tiny_lightning.Module(), tiny_lightning.loader())
    assert story(daemon) == ["begin", "success"]
    assert run.summary.result == "success"
    daemon.asked.clear()
    trainer = tiny_lightning.trainer(home, [kind(report=False)], max_epochs=1, strategy="ddp_spawn")
    trainer.fit(tiny_lightning.Module(), tiny_lightning.loader())
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "success"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda callback: pickle.loads(pickle.dumps(callback))])
def test_a_copy_of_a_callback(
    daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path, copied: Callable[[Any], Any]
) -> None:
    """One that has told of a fit can be copied, and the copy tells of the next."""
    for again in (lambda: callback, lambda: copied(callback)):
        daemon.asked.clear()
        trainer = tiny_lightning.trainer(home, [again()], max_epochs=1)
        trainer.fit(tiny_lightning.Module(), tiny_lightning.loader())
        assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "success"]


def test_ranks(
    daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process of another node begins the run and tells no progress; its second one is silent."""
    trainer = tiny_lightning.trainer(home, [callback], max_epochs=1)
    monkeypatch.setattr(tiny_lightning.lightning.Trainer, "is_global_zero", False)
    trainer.fit(tiny_lightning.Module(), tiny_lightning.loader())
    assert len(daemon.about("/runs")) == 1
    assert daemon.about("/progress") == []
    monkeypatch.setattr(tiny_lightning.lightning.Trainer, "local_rank", 1)
    tiny_lightning.trainer(home, [callback], max_epochs=1).fit(
        tiny_lightning.Module(), tiny_lightning.loader()
    )
    assert len(daemon.about("/runs")) == 1


def test_batches_of_any_shape(daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path) -> None:
    """Samples are counted by the first tensor that is found, whatever it is wrapped in."""

    class Paired(tiny_lightning.Module):  # type: ignore[misc]
        def training_step(self, batch: Any) -> Any:
            return super().training_step(batch[1]["x"])

    samples = tiny_lightning.Samples(4)
    pairs = [("name", {"x": samples[index]}) for index in range(4)]
    tiny_lightning.trainer(home, [callback], max_epochs=1).fit(Paired(), tiny_lightning.loader(pairs))
    assert first_and_last(daemon)[1] == (1, 4, None)


def test_a_trainer_of_another_version(callback: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What a Trainer hands over and we cannot read is said once for each event, and harms nothing."""
    events = (
        "on_fit_start",
        "on_train_start",
        "on_train_epoch_start",
        "on_train_epoch_end",
        "on_validation_start",
    )
    for event in events * 3:
        getattr(callback, event)(object(), object())
    said = [record.message for record in caplog.records]
    assert 0 < len(said) == len(set(said))


def test_the_other_package(daemon: StandIn, tiny_lightning: Any, callback: Any, home: Path) -> None:
    """pytorch_lightning's own Trainer calls it too."""
    other = importlib.import_module("pytorch_lightning")

    class Module(other.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_lightning.Module()

        def training_step(self, batch: Any) -> Any:
            return self.inner.training_step(batch)

        def configure_optimizers(self) -> Any:
            return self.inner.configure_optimizers()

    other.Trainer(
        callbacks=[callback],
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=home,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    ).fit(Module(), tiny_lightning.loader())
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "success"]


def test_without_lightning() -> None:
    """The error names the package to install."""
    code = (
        "import sys; sys.modules['lightning'] = sys.modules['pytorch_lightning'] = None\n"
        "try:\n    import wattspan.lightning\n"
        "except ImportError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("pip install lightning\n")
