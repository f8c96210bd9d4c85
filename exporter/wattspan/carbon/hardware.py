"""What is published of GPUs: rated power, peak speed, what making one emitted; from ``tables/gpus.csv`` and
``tables/embodied.csv``.

A name belongs to a row when all its words do, in any order: a near match would be another card, with another
power. Like the tables of places they are read anew at each look-up and dropped.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Final

SCOPE: Final = "cradle-to-gate"
"""The only scope of embodied figures that is looked up: figures of different scope must never be added."""

_NOISE: Final = frozenset(
    ["nvidia", "amd", "intel", "corporation", "tesla", "geforce", "instinct", "generation", "oam", "r", "tm"]
)
"""Words that drivers and people add or leave out without meaning another card."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One row: what software counts as one GPU, which of some boards is a part.

    Attributes:
        model: as this table calls it.
        names: by which drivers and people call it, without the words that mean nothing.
        memory_gb: sizes that it comes with, which are the only ones that its name may state.
        tdp_w: rated power, a ceiling and no draw; None where whoever builds it in sets it.
        dense_flops: peak of 16-bit matrix arithmetic without sparsity, each second; None where nobody known
            says.
        precision: of that peak: ``bf16``, or ``fp16`` for cards without it.
        tdp_source, peak_source: who says so; empty where the figure is None.
        checked: the power was seen in its source, and is not a datasheet's value from memory.
        note: what to know before multiplying it; empty for most.
    """

    model: str
    names: tuple[str, ...]
    memory_gb: tuple[int, ...]
    tdp_w: float | None
    dense_flops: float | None
    precision: str
    tdp_source: str
    peak_source: str
    checked: bool
    note: str


@dataclass(frozen=True, slots=True)
class EmbodiedFigure:
    """What making one GPU emitted.

    Attributes:
        model: the GPU's, as the table of GPUs calls it.
        kg: CO2e, of scope `SCOPE`.
        source: who published it.
        note: what it includes.
    """

    model: str
    kg: float
    source: str
    note: str


def gpus() -> Iterator[Gpu]:
    """Every GPU, one at a time."""
    for row in _rows("gpus.csv"):
        yield Gpu(
            model=row["model"],
            names=tuple(row["names"].split(";")),
            memory_gb=tuple(int(size) for size in row["memory_gb"].split("/")),
            tdp_w=float(row["tdp_w"]) if row["tdp_w"] else None,
            dense_flops=float(row["dense_tflops"]) * 1e12 if row["dense_tflops"] else None,
            precision=row["precision"],
            tdp_source=row["tdp_source"],
            peak_source=row["tflops_source"],
            checked=row["checked"] == "yes",
            note=row["note"],
        )


def find_gpu(name: str) -> Gpu | None:
    """The row that a name means, or None where it means no single one; a test keeps names apart.

    Args:
        name: as a driver gives it (``NVIDIA H100 80GB HBM3``, ``Tesla V100-SXM2-16GB``) or as people write
            it (``H100 SXM5``), in any case.
    """
    words = _words(name)
    return next((gpu for gpu in gpus() if any(_means(words, alias, gpu) for alias in gpu.names)), None)


def near_gpus(name: str) -> list[str]:
    """Models that somebody may have meant: those that the name is too short for, else those that look alike.

    At most six, each once.
    """
    words = _words(name)
    every = [(gpu.model, alias) for gpu in gpus() for alias in gpu.names]
    longer = [model for model, alias in every if words and words <= _words(alias)]
    by_text = {" ".join(sorted(_words(alias))): model for model, alias in every}
    # Cut, because the comparison takes time that grows with the square of the length.
    alike = get_close_matches(" ".join(sorted(words))[:100], by_text, n=4, cutoff=0.7)
    return list(dict.fromkeys(longer or [by_text[text] for text in alike]))[:6]


def embodied_figures() -> Iterator[EmbodiedFigure]:
    """What is published of making single GPUs, of scope `SCOPE`."""
    for row in _rows("embodied.csv"):
        if row["model"] and row["scope"] == SCOPE:
            yield EmbodiedFigure(row["model"], float(row["kg_co2e"]), row["source"], row["note"])


def find_embodied(name: str) -> EmbodiedFigure | None:
    """Of the GPU that a name means, or None where nothing is published of exactly that one.

    Args:
        name: as for `find_gpu`.
    """
    gpu = find_gpu(name)
    if gpu is None:
        return None
    return next((figure for figure in embodied_figures() if figure.model == gpu.model), None)


def _means(words: frozenset[str], alias: str, gpu: Gpu) -> bool:
    """Whether a name is an alias, its memory stated or not."""
    sizes = {f"{size}gb" for size in gpu.memory_gb}
    wanted = _words(alias)
    return words == wanted or words - sizes == wanted


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.casefold())) - _NOISE


def _rows(table: str) -> Iterator[Mapping[str, str]]:
    text = (files("wattspan.carbon") / "tables" / table).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())
