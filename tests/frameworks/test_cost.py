"""What the callbacks take from the training's own thread, in loops that do run."""

import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

# What the frameworks warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS: Final = 300
MOST_RATIO: Final = 10
"""Three to nine is usual: on a busy machine both are dearer, each at moments of its own."""

ROUNDS: Final = 6


class Stopwatch:
    """CPU time of this thread in some events of a callback, step by step."""

    def __init__(self, callback: Any, *events: str) -> None:
        self._spent_ns = 0
        self._steps_ns: list[int] = []
        for event in events:
            setattr(callback, event, self._timed(getattr(callback, event), is_last=event == events[-1]))

    def _timed(self, event: Any, *, is_last: bool) -> Any:
        def timed(*args: Any, **kwargs: Any) -> None:
            before_ns = time.thread_time_ns()
            event(*args, **kwargs)
            self._spent_ns += time.thread_time_ns() - before_ns
            if is_last:
                self._steps_ns.append(self._spent_ns)
                self._spent_ns = 0

        return timed

    @property
    def usual_ns(self) -> float:
        """Of a step that is cheaper than nine of ten: in the others the machine did something else, too."""
        assert len(self._steps_ns) == STEPS
        return statistics.quantiles(self._steps_ns, n=10)[0]


def assert_cheap(trainings: Callable[[], tuple[Stopwatch, Stopwatch]]) -> None:
    """Against a callback that does nothing in its events, in the same run: that is the looking itself.

    Others on the machine make either dearer at moments of their own, so one round of a few is enough.
    """
    rounds = []
    for _ in range(ROUNDS):
        ours, none = trainings()
        rounds.append((ours.usual_ns, none.usual_ns))
        if ours.usual_ns < MOST_RATIO * none.usual_ns:
            return
    raise AssertionError(f"ours and an empty one, in ns: {rounds}")


@pytest.mark.usefixtures("daemon")
def test_a_step_of_transformers(tiny: Any, home: Path) -> None:
    """A step costs ten empty events at most: some 25 us, 0.025 % of one of 100 ms, on a quiet machine."""
    ours = importlib.import_module("wattspan.huggingface").WattspanCallback
    events = ("on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "on_log", "on_step_end")

    def trainings() -> tuple[Stopwatch, Stopwatch]:
        callbacks = ours(), tiny.TrainerCallback()
        first, second = (Stopwatch(callback, *events) for callback in callbacks)
        for callback in callbacks:
            tiny.trainer(
                home,
                [callback],
                max_steps=STEPS,
                logging_strategy="steps",
                logging_steps=10,
                include_num_input_tokens_seen="all",
            ).train()
        return first, second

    assert_cheap(trainings)


@pytest.mark.usefixtures("daemon")
def test_a_step_of_lightning(tiny_lightning: Any, home: Path) -> None:
    """A step costs ten empty events at most: some 25 us, 0.025 % of one of 100 ms, on a quiet machine."""
    ours = importlib.import_module("wattspan.lightning").WattspanCallback
    events = ("on_train_batch_start", "on_before_optimizer_step", "on_before_zero_grad", "on_train_batch_end")

    def trainings() -> tuple[Stopwatch, Stopwatch]:
        callbacks = ours(), tiny_lightning.lightning.Callback()
        first, second = (Stopwatch(callback, *events) for callback in callbacks)
        for callback in callbacks:
            data = tiny_lightning.loader(tiny_lightning.Samples(4 * STEPS))
            trainer = tiny_lightning.trainer(home, [callback], max_epochs=1)
            trainer.fit(tiny_lightning.Module(), data)
        return first, second

    assert_cheap(trainings)
