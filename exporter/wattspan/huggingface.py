"""A callback for the Trainer of Hugging Face transformers: ``Trainer(callbacks=[WattspanCallback()])``.

Each training is a run, with its epochs, evaluations and checkpoints as phases.
transformers is the user's own and no dependency of ours.
"""

# ruff: noqa: ARG002 - events are called with all that the Trainer has at hand

import functools
import importlib
import logging
import os
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from wattspan.client.surroundings import disabled
from wattspan.client.tracking import Run
from wattspan.client.training import Training, quiet
from wattspan.client.watch import GridWatch

if TYPE_CHECKING:

    class TrainerCallback:
        """Stands in for theirs, so that types can be checked where transformers is not installed."""
else:
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        needed = "wattspan.huggingface needs the package transformers: pip install transformers"
        raise ImportError(needed) from error


log = logging.getLogger("wattspan.client")


class WattspanCallback(TrainerCallback):
    """Tells the daemon of this node of every training of a Trainer.

    It never raises into the training.
    Only the end of a training waits, for the summary, two seconds at most.
    Of several processes the first one of each node begins the run, and only the first of all tells progress.

    Steps and epochs are the Trainer's own.
    Samples count what the data loaders of all ranks gave, the smaller last batch of an epoch included;
    an epoch that a callback cuts short counts as whole, and without a length every batch counts as full.
    Tokens are told where ``include_num_input_tokens_seen`` has the Trainer count them.
    After ``resume_from_checkpoint`` all of them go on from the checkpoint's, as the Trainer's own do.

    transformers has no event for a training that is left by an exception, and an except hook would not see
    one that is caught, in a notebook or a sweep; so the first callback wraps ``Trainer.train``, which then
    tells the callbacks of that Trainer which exception it was, and raises it as before.
    A checkpoint that its evaluation asked for (``save_strategy="best"``) is no phase: nothing announces it.

    With `stop_above_g_per_kwh` it ends a training at a checkpoint that is written while the grid is dirtier
    than that, so that whoever started it may resume it later (`resume_from_checkpoint`).
    The daemon is asked each minute by a thread of its own; an intensity that is not known stops nothing.
    Of several processes the first one of all decides and the others are told through torch.distributed,
    so all of them need the callback with this argument; where they cannot be told nothing is stopped.

    Args:
        name: of the run; else the trial's, ``args.run_name``, or the last part of ``args.output_dir``.
        run: a run of your own, begun with `wattspan.track`, that this training is a part of.
        report: write what the run has used to stderr when it has ended.
        stop_above_g_per_kwh: grams of CO2e per kWh; None never stops.
        options: of `wattspan.track`: ``project``, ``group``, ``run_id``, ``budget_co2e_grams``, ...
    """

    def __init__(
        self,
        name: str = "",
        *,
        run: Run | None = None,
        report: bool = True,
        stop_above_g_per_kwh: float | None = None,
        **options: Any,
    ) -> None:
        self._training = Training({"name": name, **options} if name else options, run, report=report)
        self._samples = Samples(0)
        self._counts_tokens = False
        self._logged_step = 0
        self._epoch = -1
        self._stop_above = stop_above_g_per_kwh
        self._watch: GridWatch | None = None
        self.stop_reason = ""
        """Why the last training was ended at a checkpoint, in one sentence; empty where it was not."""
        _announce_exceptions()

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take: all but the watch of a training that is under way."""
        return {**self.__dict__, "_watch": None}

    @property
    def run(self) -> Run | None:
        """The run of this training or the last one, for its `summary`; None before the first."""
        return self._training.run

    @quiet
    def on_train_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """The run begins; or goes on, where a batch that did not fit into memory is tried again smaller."""
        if self._training.going and not args.auto_find_batch_size:
            self._training.ends("failure")  # its exception passed by a train() that is not wrapped
        self._training.phases_end()
        self._watch_the_grid(state)
        if not self._training.going:
            if not state.is_local_process_zero:
                return
            self._training.begins(_name(args, state), _framework(), tells=state.is_world_process_zero)
        self._samples = Samples.of(train_dataloader, args)
        self._counts_tokens = args.include_num_input_tokens_seen not in ("no", False, None)
        self._logged_step = state.global_step
        self._epoch = -1
        self._training.goes_on(total_steps=state.max_steps, **self._counts(state))

    @quiet
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An epoch begins; they count from 0."""
        self._epoch = max(int(state.epoch), self._epoch + 1)  # data without a length never completes one
        self._training.phase_begins("epoch", self._epoch)

    @quiet
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer has made a step."""
        self._training.goes_on(**self._counts(state))
        self._look_ahead(state, control)

    @quiet
    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An epoch is over; what belongs to it by schedule follows."""
        self._training.phase_ends("epoch")
        self._look_ahead(state, control)

    @quiet
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """The Trainer has waited for the loss; here it costs nothing."""
        loss = (logs or {}).get("loss")
        if loss is not None:
            self._logged_step = state.global_step
            self._training.goes_on(loss=loss)
        self._look_ahead(state, control)

    @quiet
    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation is under way, announced or not."""
        self._training.phase_begins("evaluate", state.global_step)

    @quiet
    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation is over."""
        self._training.phase_ends("evaluate")
        self._look_ahead(state, control)

    @quiet
    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """The same of a prediction, which nobody can tell from an evaluation while it lasts."""
        self._training.phase_ends("evaluate")

    @quiet
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint is written."""
        self._training.phase_ends("checkpoint")
        if self._stop_above is None or state.global_step >= state.max_steps:
            return
        reason = _told_by_the_first(self._why_to_stop(), args)
        if reason:
            self.stop_reason = f"{reason} at step {state.global_step}"
            control.should_training_stop = True
            if state.is_world_process_zero:
                log.warning("wattspan: training ends at a checkpoint: %s", self.stop_reason)

    @quiet
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The run ends well, early or not."""
        self._watch_no_more()
        self._training.ends()

    @quiet
    def on_exception(self, error: BaseException) -> None:
        """``Trainer.train`` was left by an exception; no event of transformers."""
        self._watch_no_more()
        self._training.ends(error=error)

    def _watch_the_grid(self, state: Any) -> None:
        """The first process of all asks; the others are told by it."""
        self._watch_no_more()
        self.stop_reason = ""
        if self._stop_above is not None and state.is_world_process_zero and not disabled(os.environ):
            self._watch = GridWatch.of_this_node()
            self._watch.start()

    def _watch_no_more(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _why_to_stop(self) -> str:
        """Empty for no reason to; an intensity that is not known is none."""
        known = self._watch.g_per_kwh if self._watch else None
        if known is None or self._stop_above is None or known <= self._stop_above:
            return ""
        return f"the grid is at {known:g} g CO2e/kWh, above {self._stop_above:g},"

    def _counts(self, state: Any) -> dict[str, int]:
        counts = {"step": state.global_step, "samples": self._samples.seen(state.epoch, state.global_step)}
        if self._counts_tokens:
            counts["tokens"] = state.num_input_tokens_seen
        return counts

    def _look_ahead(self, state: Any, control: Any) -> None:
        """Open the phase that comes next: the Trainer logs, evaluates, then saves, and says so by flags.

        To log is to wait for the GPU to finish the steps before, which is no part of an evaluation.
        """
        if control.should_log and state.global_step > self._logged_step:
            return  # on_log comes first
        if control.should_evaluate:
            self._training.phase_begins("evaluate", state.global_step)
        elif control.should_save:
            self._training.phase_begins("checkpoint", state.global_step)


@dataclass(frozen=True, slots=True)
class Samples:
    """How many samples a training has seen, by how far it is.

    Attributes:
        per_step: of a full step over all ranks.
        per_batch: of a full batch over all ranks.
        batches: of an epoch; 0 where the data has no length.
        per_epoch: samples of an epoch, of which the last batch may hold fewer than the others.
    """

    per_step: int
    per_batch: int = 0
    batches: int = 0
    per_epoch: int = 0

    @classmethod
    def of(cls, loader: Any, args: Any) -> Self:
        """By the loader as accelerate has prepared it, which knows what parallel ranks share."""
        per_batch = getattr(loader, "total_batch_size", None) or args.train_batch_size * args.world_size
        per_step = per_batch * args.gradient_accumulation_steps
        try:
            batches = len(loader)
        except TypeError:  # an iterable data set
            return cls(per_step)
        per_epoch = batches * per_batch
        if args.world_size == 1:  # accelerate fills the last batches of several ranks up, to be equal
            sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
            per_epoch = min(per_epoch, len(sampler)) if isinstance(sampler, Sized) else per_epoch
        return cls(per_step, per_batch, batches, per_epoch)

    def seen(self, epoch: float, step: int) -> int:
        """Samples since the training's start.

        Args:
            epoch: passed so far: whole ones, and batches over the batches of an epoch.
            step: optimizer steps made so far.
        """
        if not self.batches:
            return step * self.per_step
        whole = int(epoch)
        return whole * self.per_epoch + round((epoch - whole) * self.batches) * self.per_batch


def _told_by_the_first(reason: str, args: Any) -> str:
    """The reason that the first process of all has; each has to ask. One that stops alone leaves the others
    waiting for it for ever.
    """
    if args.world_size == 1:
        return reason
    distributed = importlib.import_module("torch.distributed")
    if not (distributed.is_available() and distributed.is_initialized()):
        return ""  # as with XLA, which has ways of its own
    told = [reason]
    distributed.broadcast_object_list(told, src=0, device=args.device)
    return told[0]


def _name(args: Any, state: Any) -> str:
    # Only the last part of a path: the others are nobody's business.
    return state.trial_name or os.path.basename((args.run_name or args.output_dir).rstrip("/")) or "training"


def _framework() -> str:
    return f"transformers {importlib.import_module('transformers').__version__}"


@quiet
def _announce_exceptions() -> None:
    """Have ``Trainer.train`` tell our callbacks by which exception it was left. Done once in a process."""
    trainer_class = importlib.import_module("transformers").Trainer
    train: Callable[..., Any] = trainer_class.train
    if hasattr(train, "announces_exceptions"):
        return

    @functools.wraps(train)
    def announcing(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return train(trainer, *args, **kwargs)
        except BaseException as error:
            _tell(trainer, error)
            raise

    announcing.announces_exceptions = True  # type: ignore[attr-defined]
    trainer_class.train = announcing


@quiet
def _tell(trainer: Any, error: BaseException) -> None:
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, WattspanCallback):
            callback.on_exception(error)
