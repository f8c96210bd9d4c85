"""A module of a few weights and a Trainer for it, made here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

__all__ = ["ModelCheckpoint", "Module", "Samples", "lightning", "loader", "trainer"]


class Samples(Dataset[dict[str, torch.Tensor]]):
    """So many samples of eight tokens, of which one may raise."""

    def __init__(self, count: int, error_at: int = -1, error: BaseException | None = None) -> None:
        self._count = count
        self._error_at = error_at
        self._error = error

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == self._error_at and self._error is not None:
            raise self._error
        return {"input_ids": torch.full((8,), index % 16), "weight": torch.ones(4)}


class Module(lightning.LightningModule):
    """Logs nothing, learns little."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.layer(batch["weight"]).square().mean()

    def validation_step(self, batch: dict[str, torch.Tensor]) -> None:
        self.layer(batch["weight"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def loader(data: Dataset[Any] | None = None) -> "DataLoader[Any]":
    """Batches of four; ten samples unless others are given."""
    return DataLoader(data or Samples(10), batch_size=4)


def trainer(folder: Path, callbacks: Sequence[lightning.Callback], **arguments: Any) -> lightning.Trainer:
    """A Trainer of two epochs on the CPU that writes nothing."""
    settings: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
    }
    return lightning.Trainer(callbacks=list(callbacks), **{**settings, **arguments})
