"""A callback for Lightning's Trainer: ``Trainer(callbacks=[WattspanCallback()])``.

Each ``fit`` is a run, with its epochs, evaluations and checkpoints as phases.
It serves the packages lightning and pytorch_lightning alike.
They are the user's own and no dependency of ours.
"""

# ruff: noqa: ARG002 - events are called with all that the Trainer has at hand

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from wattspan.client.tracking import Run
from wattspan.client.training import Training, quiet

if TYPE_CHECKING:
    FRAMEWORK = ""

    class Callback:
        """Stands in for theirs, so that types can be checked where neither package is installed."""
else:
    # Either package's Trainer takes callbacks of the other: it calls them and does not ask for their class.
    try:
        from lightning.pytorch import Callback
        from lightning.pytorch import __version__ as _version

        FRAMEWORK = f"lightning {_version}"
    except ImportError:
        try:
            from pytorch_lightning import Callback
            from pytorch_lightning import __version__ as _version

            FRAMEWORK = f"pytorch-lightning {_version}"
        except ImportError as error:
            raise ImportError(
                "wattspan.lightning needs the package lightning (or pytorch-lightning): pip install lightning"
            ) from error

TOKENS: Final = "input_ids"
"""Where a batch has its tokens, padding included: the word of Hugging Face's tokenizers."""


class WattspanCallback(Callback):
    """Tells the daemon of this node of every ``fit`` of a Trainer.

    It never raises into the training.
    Only the end of a training waits, for the summary, two seconds at most.
    Of several processes the first one of each node begins the run, and only the first of all tells progress.

    Steps and epochs are the Trainer's own.
    Samples and tokens are counted from the shapes of the batches that this rank is given, times the ranks
    that are given others; tokens where a batch has ``input_ids``.
    After ``ckpt_path`` the batches before are taken to have been like the first one after it.
    The loss is told where it is at hand: a tensor on a GPU is not asked, because that would wait.
    A checkpoint is taken to last until the next event of the Trainer, which has none for its end.

    Args:
        name: of the run; else the class of the module.
        run: a run of your own, begun with `wattspan.track`, that this training is a part of. Processes that
            the strategy spawns (``ddp_spawn``) have a copy of it, which tells nothing: leave it out there.
        report: write what the run has used to stderr when it has ended.
        options: of `wattspan.track`: ``project``, ``group``, ``run_id``, ``budget_co2e_grams``, ...
    """

    def __init__(
        self, name: str = "", *, run: Run | None = None, report: bool = True, **options: Any
    ) -> None:
        super().__init__()
        self._training = Training({"name": name, **options} if name else options, run, report=report)
        self._ranks = 1
        self._counting = False
        self._samples: int | None = None
        self._tokens: int | None = None

    @property
    def run(self) -> Run | None:
        """The run of this training or the last one, for its `summary`; None before the first."""
        return self._training.run

    @quiet
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """The run begins, before the sanity check, which may well compute for a while."""
        if trainer.local_rank:
            return
        self._training.begins(type(pl_module).__name__, FRAMEWORK, tells=trainer.is_global_zero)
        self._counting = False
        self._samples = self._tokens = None

    @quiet
    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """A few batches of the evaluation are tried out."""
        self._training.phase_begins("sanity_check", trainer.global_step)

    @quiet
    def on_sanity_check_end(self, trainer: Any, pl_module: Any) -> None:
        """They went through."""
        self._training.phase_ends("sanity_check")

    @quiet
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """All is restored and loaded: how far it is and how far it will go is known."""
        self._ranks = _data_ranks(trainer)
        self._training.goes_on(step=trainer.global_step, total_steps=_total_steps(trainer))

    @quiet
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """An epoch begins; they count from 0."""
        self._training.phase_ends("checkpoint")
        self._training.phase_begins("epoch", trainer.current_epoch)

    @quiet
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """What was saved after the batch before is saved; the first batch says from where samples count."""
        self._training.phase_ends("checkpoint")
        if not self._counting:
            self._counting = True
            self._count(batch, self._ranks * trainer.fit_loop.epoch_loop.total_batch_idx)
            self._training.goes_on(samples=self._samples, tokens=self._tokens)

    @quiet
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch is done, which may have completed a step."""
        if not self._training.going:
            return
        self._count(batch, self._ranks)
        self._training.goes_on(
            step=trainer.global_step, samples=self._samples, tokens=self._tokens, loss=_loss(outputs)
        )

    @quiet
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """An evaluation begins."""
        if not trainer.sanity_checking:
            self._training.phase_ends("checkpoint")
            self._training.phase_begins("evaluate", trainer.global_step)

    @quiet
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """An evaluation is over."""
        self._training.phase_ends("evaluate")

    @quiet
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        """A checkpoint is about to be written."""
        self._training.phase_begins("checkpoint", trainer.global_step)

    @quiet
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """An epoch is over; the callbacks that save are asked after this one."""
        self._training.phase_ends("checkpoint")
        self._training.phase_ends("epoch")

    @quiet
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last batch is done."""
        self._training.phases_end()

    @quiet
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The run ends well, early or not."""
        self._training.ends()

    @quiet
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The run ends by an exception; SIGTERM is one too, and would look like ``sys.exit()``."""
        self._training.ends("cancelled" if trainer.received_sigterm else None, error=exception)

    def _count(self, batch: Any, batches: int) -> None:
        """So many batches like this one."""
        size, tokens = _batch_size(batch), _batch_tokens(batch)
        if size is not None:
            self._samples = (self._samples or 0) + size * batches
        if tokens is not None:
            self._tokens = (self._tokens or 0) + tokens * batches


def _total_steps(trainer: Any) -> int | None:
    """Planned optimizer steps; None for no end."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if 0 < steps < math.inf else None


def _data_ranks(trainer: Any) -> int:
    """How many ranks are given different batches: those that share a model in parallel are given the same."""
    shared = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
    return int(shared.get("num_replicas", trainer.world_size))


def _batch_size(batch: Any) -> int | None:
    """The first dimension of the first tensor in a batch; asking for a shape does not wait for a GPU."""
    if shape := getattr(batch, "shape", None):
        return int(shape[0])
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((size for part in parts if (size := _batch_size(part)) is not None), None)


def _batch_tokens(batch: Any) -> int | None:
    ids = batch.get(TOKENS) if isinstance(batch, Mapping) else None
    shape = getattr(ids, "shape", None)
    return None if shape is None else math.prod(shape)


def _loss(outputs: Any) -> float | None:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if isinstance(loss, int | float):
        return float(loss)
    if loss is not None and getattr(getattr(loss, "device", None), "type", "") == "cpu":
        return float(loss)
    return None
