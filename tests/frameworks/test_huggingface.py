"""The callback in a real Trainer, against a daemon that notes what it is told."""

import copy
import importlib
import pickle
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
def kind(tiny: Any) -> Any:  # noqa: ARG001 - skips without transformers
    """The class of the callback, which nobody can import without transformers."""
    return importlib.import_module("wattspan.huggingface").WattspanCallback


@pytest.fixture
def callback(kind: Any) -> Any:
    return kind(report=False)


def test_a_training_is_a_run(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """It begins and ends with the training, and knows name, framework, planned steps, loss and all counts."""
    tiny.trainer(
        home, [callback], logging_strategy="steps", logging_steps=2, include_num_input_tokens_seen="all"
    ).train()
    (begin,) = daemon.about("/runs")
    assert begin["name"] == "sft"
    assert begin["framework"].startswith("transformers ")
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "+epoch 1", "-epoch 1", "success"]
    assert first_and_last(daemon) == ((0, 0, 0), (6, 20, 160))
    last = daemon.about("/progress")[-1]
    assert last["total_steps"] == 6
    assert 0 < last["loss"] < 10
    assert callback.run.summary.result == "success"


def test_what_happens_besides_steps_is_a_phase(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """Evaluations and checkpoints are phases of their own, numbered by the step, also between logs."""
    tiny.trainer(
        home,
        [callback],
        num_train_epochs=1,
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
        save_strategy="epoch",
        logging_strategy="steps",
        logging_steps=1,
    ).train()
    assert story(daemon) == [
        *("begin", "+evaluate 0", "-evaluate 0"),
        *(
            "+epoch 0",
            "+evaluate 1",
            "-evaluate 1",
            "+evaluate 2",
            "-evaluate 2",
            "+evaluate 3",
            "-evaluate 3",
        ),
        "-epoch 0",
        *("+checkpoint 3", "-checkpoint 3", "success"),
    ]


def test_nothing_left_to_log(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """A flag for a log that is not written, since its step has one, hides no checkpoint."""
    tiny.trainer(
        home,
        [callback],
        max_steps=1,
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_first_step=True,
    ).train()
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "+checkpoint 1", "-checkpoint 1", "success"]


def test_several_evaluations_in_a_row(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """Each of several data sets is evaluated in a phase."""
    trainer = tiny.trainer(home, [callback], num_train_epochs=1, eval_strategy="epoch")
    trainer.eval_dataset = {"one": tiny.Texts(2), "two": tiny.Texts(2)}
    trainer.train()
    assert story(daemon)[3:-1] == ["+evaluate 3", "-evaluate 3"] * 2


def test_accumulated_batches_are_one_step(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """A step over several batches counts the samples of each, and no more than there are."""
    tiny.trainer(home, [callback], gradient_accumulation_steps=2).train()
    assert first_and_last(daemon) == ((0, 0, None), (4, 20, None))


def test_data_without_a_length(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """Batches count as full where nobody knows how many there are, and epochs go on counting."""
    tiny.trainer(home, [callback], tiny.Stream(8), max_steps=5).train()
    assert first_and_last(daemon) == ((0, 0, None), (5, 20, None))
    assert [word for word in story(daemon) if word.startswith("+")] == ["+epoch 0", "+epoch 1", "+epoch 2"]


def test_a_resumed_training_goes_on_counting(daemon: StandIn, tiny: Any, kind: Any, home: Path) -> None:
    """The first progress after a resume is the checkpoint's, from which the daemon counts."""
    tokens = {"include_num_input_tokens_seen": "all"}
    tiny.trainer(home, [], save_strategy="steps", save_steps=4, max_steps=4, **tokens).train()
    tiny.trainer(home, [kind(report=False)], **tokens).train(resume_from_checkpoint=True)
    assert first_and_last(daemon) == ((4, 14, 112), (6, 20, 160))
    assert story(daemon) == ["begin", "+epoch 1", "-epoch 1", "success"]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (OSError("a disk is gone"), "failure OSError"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(3), "failure SystemExit"),
    ],
)
def test_a_training_that_raises(
    daemon: StandIn, tiny: Any, callback: Any, home: Path, error: BaseException, ending: str
) -> None:
    """The exception ends the run at once, though the process goes on, and reaches the caller as it was."""
    trainer = tiny.trainer(home, [callback], tiny.Texts(10, error_at=3, error=error))
    with pytest.raises(type(error)) as raised:
        trainer.train()
    assert raised.value is error
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", ending]


def test_another_callback_that_raises(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """Also one that was added before ours, so that ours does not hear of the event."""

    class Other(tiny.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("no")

    trainer = tiny.trainer(home, [Other()])
    trainer.add_callback(callback)
    with pytest.raises(RuntimeError):
        trainer.train()
    assert story(daemon)[-1] == "failure RuntimeError"


def test_one_training_after_another(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """Each training is a run of its own, whatever became of the one before."""
    failing = tiny.trainer(home, [callback], tiny.Texts(10, error_at=3, error=ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        failing.train()
    tiny.trainer(home, [callback], num_train_epochs=1).train()
    ends = [end["result"] for end in daemon.about("/end")]
    assert ends == ["failure", "success"]
    assert len({begin["run_id"] for begin in daemon.about("/runs")}) == 2


def test_a_trainer_that_keeps_its_exceptions(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """A failure that no `train` of transformers let through is told when the next training begins."""

    class Own(tiny.Trainer):  # type: ignore[misc]
        def train(self) -> None:
            with pytest.raises(ValueError, match="no"):
                self._inner_training_loop(batch_size=4, args=self.args)

    tiny.trainer(home, [callback], tiny.Texts(10, error_at=3, error=ValueError("no")), kind=Own).train()
    tiny.trainer(home, [callback], num_train_epochs=1).train()
    assert [end["result"] for end in daemon.about("/end")] == ["failure", "success"]


def test_a_batch_that_did_not_fit(daemon: StandIn, tiny: Any, callback: Any, home: Path) -> None:
    """Trying again with a smaller batch is the same run, from its first step."""

    class Small(tiny.Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
            if len(inputs["input_ids"]) > 2:
                raise tiny.torch.OutOfMemoryError("CUDA out of memory.")
            return super().training_step(model, inputs, *args)

    tiny.trainer(home, [callback], kind=Small, auto_find_batch_size=True, num_train_epochs=1).train()
    assert len(daemon.about("/runs")) == 1
    assert story(daemon) == [
        *("begin", "+epoch 0", "-epoch 0"),  # of 4
        *("+epoch 0", "-epoch 0"),  # of 3
        *("+epoch 0", "-epoch 0", "success"),  # of 2
    ]
    last = daemon.about("/progress")[-1]
    assert (last["steps"], last["samples"], last["total_steps"]) == (5, 10, 5)


def test_a_run_of_the_callers_own(daemon: StandIn, tiny: Any, kind: Any, home: Path) -> None:
    """A training inside `track()` is a part of that run and does not end it."""
    with wattspan.track("mine") as run:
        tiny.trainer(home, [kind(run=run)], num_train_epochs=1).train()
        with run.phase("export"):
            pass
    assert [begin["name"] for begin in daemon.about("/runs")] == ["mine"]
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "+export", "-export", "success"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda callback: pickle.loads(pickle.dumps(callback))])
def test_a_copy_of_a_callback(
    daemon: StandIn, tiny: Any, kind: Any, home: Path, copied: Callable[[Any], Any]
) -> None:
    """Copied in the middle of a training it leaves that to the original, and tells of the next."""
    callback = kind(report=False, stop_above_g_per_kwh=300)
    copies: list[Any] = []

    class Copying(tiny.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            copies.append(copied(callback))

    tiny.trainer(home, [callback, Copying()], num_train_epochs=1).train()
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "success"]
    daemon.asked.clear()
    tiny.trainer(home, [copies[0]], num_train_epochs=1).train()
    assert story(daemon) == ["begin", "+epoch 0", "-epoch 0", "success"]
    assert copies[0].run.run_id != callback.run.run_id


def test_options_go_to_the_run(daemon: StandIn, tiny: Any, kind: Any, home: Path) -> None:
    """What `track` takes the callback takes; without a name the Trainer's `run_name` serves."""
    told = kind(project="nlp", group="sweep", budget_co2e_grams=9, report=False)
    tiny.trainer(home, [told], num_train_epochs=1, run_name="llama").train()
    named = kind("mine", report=False)
    tiny.trainer(home, [named], num_train_epochs=1, run_name="llama").train()
    first, second = daemon.about("/runs")
    assert (first["name"], first["project"], first["group"], first["budget_co2e_grams"]) == (
        *("llama", "nlp", "sweep"),
        9.0,
    )
    assert second["name"] == "mine"


def test_ranks(
    daemon: StandIn, tiny: Any, callback: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process of another node begins the run and tells no progress; its second one is silent."""
    trainer = tiny.trainer(home, [callback], num_train_epochs=1)
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    trainer.train()
    assert len(daemon.about("/runs")) == 1
    assert daemon.about("/progress") == []
    monkeypatch.setattr(trainer, "is_local_process_zero", lambda: False)
    trainer.train()
    assert len(daemon.about("/runs")) == 1


def test_a_report_at_the_end(
    daemon: StandIn,  # noqa: ARG001 - answers
    tiny: Any,
    kind: Any,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever adds the callback reads what the training has used when it is over."""
    tiny.trainer(home, [kind()], num_train_epochs=1).train()
    assert "1 kWh" in capsys.readouterr().err


def test_no_daemon(tiny: Any, callback: Any, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a daemon the training is as it would be, and one warning says why nothing is metered."""
    assert tiny.trainer(home, [callback], num_train_epochs=1).train().global_step == 3
    said = [record.message for record in caplog.records if record.name.startswith("wattspan")]
    assert len(said) == 1


def test_a_trainer_of_another_version(callback: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What a Trainer hands over and we cannot read is said once for each event, and harms nothing."""
    events = ("on_train_begin", "on_epoch_begin", "on_step_end", "on_log", "on_evaluate", "on_train_end")
    for event in events * 3:
        getattr(callback, event)(object(), object(), object())
    said = [record.message for record in caplog.records]
    assert 0 < len(said) == len(set(said))


def test_without_transformers() -> None:
    """The error names the package to install."""
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "try:\n    import wattspan.huggingface\n"
        "except ImportError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "wattspan.huggingface needs the package transformers: pip install transformers\n"
