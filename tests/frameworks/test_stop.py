"""A real Trainer that ends at a checkpoint while the grid is dirty, and goes on from there later."""

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.client.stand_in import StandIn
from tests.frameworks.told import story

# What the frameworks warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

GRID = "/api/v1/grid"
SAVING = {"save_strategy": "steps", "save_steps": 2}


@pytest.fixture
def kind(tiny: Any) -> Any:  # noqa: ARG001 - skips without transformers
    """The class of the callback, which nobody can import without transformers."""
    return importlib.import_module("wattspan.huggingface").WattspanCallback


def grid(g_per_kwh: float | None) -> dict[str, Any]:
    """What the daemon says of now."""
    return {"intensity": None if g_per_kwh is None else {"grams_per_kwh": g_per_kwh}}


def once_asked(tiny: Any, daemon: StandIn, callback: Any) -> Any:
    """A callback that holds the first step back until the daemon has been asked, and its answer is known."""

    class Patient(tiny.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            daemon.wait_for(GRID)
            want = (daemon.grid.get(GRID, {}).get("intensity") or {}).get("grams_per_kwh")
            give_up_s = time.monotonic() + 30
            while callback._watch.g_per_kwh != want and time.monotonic() < give_up_s:
                time.sleep(0.01)

    return Patient()


def test_it_ends_at_a_checkpoint_and_goes_on_later(
    daemon: StandIn, tiny: Any, kind: Any, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost: the checkpoint is written, the run ends well, and the resumed one does the rest."""
    daemon.grid[GRID] = grid(400)
    callback = kind(report=False, stop_above_g_per_kwh=300)
    trainer = tiny.trainer(home, [once_asked(tiny, daemon, callback), callback], **SAVING)
    trainer.train()
    assert trainer.state.global_step == 2
    assert (home / "sft" / "checkpoint-2").is_dir()
    assert callback.stop_reason == "the grid is at 400 g CO2e/kWh, above 300, at step 2"
    assert f"training ends at a checkpoint: {callback.stop_reason}" in caplog.text
    assert story(daemon)[-2:] == ["-epoch 0", "success"]

    daemon.grid[GRID] = grid(200)
    later = kind(report=False, stop_above_g_per_kwh=300)
    trainer = tiny.trainer(home, [once_asked(tiny, daemon, later), later], **SAVING)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6
    assert later.stop_reason == ""


def test_the_grid_may_become_dirty_on_the_way(
    daemon: StandIn, tiny: Any, kind: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint is judged by what is in force then."""
    monkeypatch.setattr(
        "wattspan.client.watch.GridWatch.__init__.__kwdefaults__", {"interval_s": 0.01, "retry_s": 0.01}
    )
    daemon.grid[GRID] = grid(200)
    callback = kind(report=False, stop_above_g_per_kwh=300)

    class Night(tiny.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
            if state.global_step == 3:
                daemon.grid[GRID] = grid(500)
            want = daemon.grid[GRID]["intensity"]["grams_per_kwh"]
            give_up_s = time.monotonic() + 30
            while callback._watch.g_per_kwh != want and time.monotonic() < give_up_s:
                time.sleep(0.01)

    trainer = tiny.trainer(home, [Night(), callback], **SAVING)
    trainer.train()
    assert trainer.state.global_step == 4


@pytest.mark.parametrize("g_per_kwh", [300.0, None])
def test_a_grid_that_is_no_dirtier_or_not_known_stops_nothing(
    daemon: StandIn, tiny: Any, kind: Any, home: Path, g_per_kwh: float | None
) -> None:
    """The threshold itself is still good enough, and not to know is no reason."""
    daemon.grid[GRID] = grid(g_per_kwh)
    callback = kind(report=False, stop_above_g_per_kwh=300)
    trainer = tiny.trainer(home, [once_asked(tiny, daemon, callback), callback], **SAVING)
    trainer.train()
    assert (trainer.state.global_step, callback.stop_reason) == (6, "")


def test_a_daemon_that_never_answers_holds_nothing_up(
    daemon: StandIn, tiny: Any, kind: Any, home: Path
) -> None:
    """The question is asked beside the training."""
    daemon.mute = True
    callback = kind(report=False, stop_above_g_per_kwh=300)
    trainer = tiny.trainer(home, [callback], **SAVING)
    trainer.train()
    assert (trainer.state.global_step, callback.stop_reason) == (6, "")


def test_without_a_daemon_nothing_is_stopped(tiny: Any, kind: Any, home: Path) -> None:
    """Nobody knows the grid, so it is no reason."""
    callback = kind(report=False, stop_above_g_per_kwh=0)
    trainer = tiny.trainer(home, [callback], **SAVING)
    trainer.train()
    assert trainer.state.global_step == 6


def test_nobody_is_asked_unless_wanted(daemon: StandIn, tiny: Any, kind: Any, home: Path) -> None:
    """Without a threshold there is no question and no thread for it."""
    daemon.grid[GRID] = grid(2000)
    tiny.trainer(home, [kind(report=False)], **SAVING).train()
    assert daemon.about(GRID) == []


def test_the_last_checkpoint_ends_nothing(daemon: StandIn, tiny: Any, kind: Any, home: Path) -> None:
    """A training that is complete was not stopped, and does not say so."""
    daemon.grid[GRID] = grid(400)
    callback = kind(report=False, stop_above_g_per_kwh=300)
    arguments = {"save_strategy": "steps", "save_steps": 6}
    tiny.trainer(home, [once_asked(tiny, daemon, callback), callback], **arguments).train()
    assert callback.stop_reason == ""


RANK = """
import json, sys, time
from pathlib import Path
from tests.frameworks import tiny_transformers as tiny
from wattspan.huggingface import WattspanCallback

callback = WattspanCallback(report=False, stop_above_g_per_kwh=300)

class Patient(tiny.TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        while state.is_world_process_zero and callback._watch.g_per_kwh is None:
            time.sleep(0.01)

trainer = tiny.trainer(Path(sys.argv[1]), [Patient(), callback], save_strategy="steps", save_steps=1)
trainer.train()
print(json.dumps([trainer.state.global_step, callback.stop_reason]))
"""


@pytest.mark.slow
def test_all_ranks_end_at_the_same_step(daemon: StandIn, tiny: Any, home: Path) -> None:  # noqa: ARG001
    """The first one asks and decides, and the others are told: to stop alone is to be waited for."""
    daemon.grid[GRID] = grid(400)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(home)],
            env={
                **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)]),
            },
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    ended = [rank.communicate(timeout=180) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], ended
    said = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    assert said == [[1, "the grid is at 400 g CO2e/kWh, above 300, at step 1"]] * 2
    assert len(daemon.about(GRID)) == 1
