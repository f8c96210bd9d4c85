"""A language model of a few weights and a Trainer for it, made here: nothing is downloaded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

TOKENS = 8
"""Of each sample."""


def model() -> LlamaForCausalLM:
    """One layer; a step takes milliseconds."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=TOKENS,
            pad_token_id=0,
        )
    )


def with_adapters() -> Any:
    """The same, of which only LoRA's matrices are trained."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - may be missing where transformers is not

    return get_peft_model(
        model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )


def sample(index: int) -> dict[str, torch.Tensor]:
    """One sample, always the same."""
    ids = torch.arange(1, TOKENS + 1) + index % 16
    return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}


class Texts(Dataset[dict[str, torch.Tensor]]):
    """So many samples, of which one may raise."""

    def __init__(self, count: int, error_at: int = -1, error: BaseException | None = None) -> None:
        self._count = count
        self._error_at = error_at
        self._error = error

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == self._error_at and self._error is not None:
            raise self._error
        return sample(index)


class Stream(IterableDataset[dict[str, torch.Tensor]]):
    """So many samples, and nobody can ask how many."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return map(sample, range(self._count))


def trainer(
    folder: Path,
    callbacks: Sequence[TrainerCallback],
    data: Any = None,
    *,
    of: Any = None,
    kind: type[Trainer] = Trainer,
    **arguments: Any,
) -> Trainer:
    """A Trainer of ten samples in batches of four, two epochs of three steps, on the CPU."""
    settings: dict[str, Any] = {
        "output_dir": str(folder / "sft"),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 7,
    }
    return kind(
        model=of or model(),
        args=TrainingArguments(**{**settings, **arguments}),
        train_dataset=data if data is not None else Texts(10),
        eval_dataset=Texts(2),
        callbacks=list(callbacks),
    )
