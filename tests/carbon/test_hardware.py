"""GPUs by the names that drivers and people give them."""

import csv
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattspan.carbon
from wattspan.carbon.hardware import (
    SCOPE,
    embodied_figures,
    find_embodied,
    find_gpu,
    gpus,
    near_gpus,
)

TABLES = Path(wattspan.carbon.__file__).parent / "tables"


@pytest.mark.parametrize(
    ("written", "model", "tdp_w"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM5", 700),
        ("NVIDIA H100 PCIe", "H100 PCIe", 350),
        ("NVIDIA H100 NVL", "H100 NVL", 400),
        ("NVIDIA H200", "H200 SXM", 700),
        ("NVIDIA H200 NVL", "H200 NVL", 600),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM4 40GB", 400),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80GB", 400),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB", 250),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB", 300),
        ("Tesla V100-SXM2-16GB", "Tesla V100 SXM2", 300),
        ("Tesla V100-SXM2-32GB", "Tesla V100 SXM2", 300),
        ("Tesla V100-PCIE-32GB", "Tesla V100 PCIe", 250),
        ("Tesla V100S-PCIE-32GB", "Tesla V100S PCIe", 250),
        ("Tesla P100-SXM2-16GB", "Tesla P100 SXM2", 300),
        ("Tesla T4", "T4", 70),
        ("NVIDIA A10", "A10", 150),
        ("NVIDIA A10G", "A10G", 300),
        ("NVIDIA B200", "B200 SXM", 1000),
        ("NVIDIA GB200", "GB200", 1200),
        ("NVIDIA L40S", "L40S", 350),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", 300),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090", 450),
        ("AMD Instinct MI210", "Instinct MI210", 300),
        ("AMD Instinct MI300X OAM", "Instinct MI300X", 750),
        ("h100 sxm", "H100 SXM5", 700),
        ("sxm5 H100", "H100 SXM5", 700),
        ("a100-sxm-80gb", "A100 SXM4 80GB", 400),
    ],
)
def test_a_name_leads_to_its_row(written: str, model: str, tdp_w: float) -> None:
    """Vendor, case, order, punctuation and a stated memory size do not matter."""
    gpu = find_gpu(written)
    assert gpu is not None
    assert (gpu.model, gpu.tdp_w) == (model, tdp_w)


def test_a_card_whose_power_is_set_by_its_builder_has_none() -> None:
    """GH200 is known, and no figure is invented for it."""
    gpu = find_gpu("NVIDIA GH200 480GB")
    assert gpu is not None
    assert (gpu.model, gpu.tdp_w, gpu.tdp_source) == ("GH200", None, "")


@pytest.mark.parametrize(
    "written",
    [
        "",
        "NVIDIA",
        "H100",
        "A100",
        "V100",
        "A100 SXM4",
        "NVIDIA H100 96GB HBM3",
        "NVIDIA A100-SXM4-64GB",
        "NVIDIA H100 80GB HBM3 MIG 2g.20gb",
        "NVIDIA A40-48Q",
        "NVIDIA A800-SXM4-80GB",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "Tesla V100-SXM3-32GB",
        "Tesla V100-FHHL-16GB",
        "NVIDIA H1000",
        "x" * 100_000,
    ],
)
def test_a_name_that_is_no_row_or_several_leads_nowhere(written: str) -> None:
    """Another memory, form, share or generation is another card, and a family is no card."""
    assert find_gpu(written) is None
    assert find_embodied(written) is None


def test_every_name_in_the_table_leads_to_its_own_row() -> None:
    """No two rows claim one name, with or without a vendor or a size before it."""
    for gpu in gpus():
        for name in (gpu.model, *gpu.names):
            for written in (name, f"NVIDIA {name}", name.lower().replace(" ", "-")):
                assert find_gpu(written) == gpu, written


@given(
    st.sampled_from([gpu.names[0] for gpu in gpus()]), st.from_regex(r"[a-z]{1,2}[0-9]{2,4}", fullmatch=True)
)
def test_a_word_too_much_is_another_card(name: str, word: str) -> None:
    """Whatever is added to a name that is not a size it comes with, the row is left or another one is met."""
    before, after = find_gpu(name), find_gpu(f"{name} {word}")
    assert after is None or word in after.model.casefold() or after == before
    if after == before:
        assert word in name.casefold()


def test_near_names() -> None:
    """A name that is too short is answered with all that it begins; a slip with what looks alike."""
    assert near_gpus("H100") == ["H100 PCIe", "H100 NVL", "H100 SXM5"]
    assert near_gpus("A100 SXM4") == ["A100 SXM4 40GB", "A100 SXM4 80GB"]
    assert near_gpus("H100 SXM6")[0] == "H100 SXM5"
    assert near_gpus("xyzzy") == []
    assert near_gpus("") == []
    assert len(near_gpus("RTX")) <= 6


def test_figures_are_plausible() -> None:
    """Rated powers and peaks are those of GPUs, and each has a source."""
    rows = list(gpus())
    assert len(rows) > 50
    for gpu in rows:
        assert gpu.tdp_w is None or 50 <= gpu.tdp_w <= 1500, gpu
        assert gpu.dense_flops is None or 5e13 <= gpu.dense_flops <= 5e15, gpu
        assert bool(gpu.tdp_source) == (gpu.tdp_w is not None), gpu
        assert bool(gpu.peak_source) == (gpu.dense_flops is not None), gpu
        assert bool(gpu.precision) == (gpu.dense_flops is not None), gpu
        assert gpu.precision in {"", "bf16", "fp16"}
    assert max(Counter(gpu.model for gpu in rows).values()) == 1


def test_the_traps_of_the_sources_were_stepped_over() -> None:
    """The V100's two powers are not swapped, and boards of several GPUs count for one of them."""
    by_model = {gpu.model: gpu for gpu in gpus()}
    assert (by_model["Tesla V100 PCIe"].tdp_w, by_model["Tesla V100 SXM2"].tdp_w) == (250, 300)
    for model, parts, board_w in (("Tesla K80", 2, 300), ("A16", 4, 250), ("Instinct MI250X", 2, 560)):
        gpu = by_model[model]
        assert (gpu.tdp_w or 0) * parts == board_w
        assert gpu.note


def test_what_making_a_gpu_emitted() -> None:
    """Published figures are found by the driver's name, and only of exactly that card."""
    known = {
        name: find_embodied(name)
        for name in ("NVIDIA H100 80GB HBM3", "NVIDIA B200", "NVIDIA A100-SXM4-40GB")
    }
    assert [figure and figure.kg for figure in known.values()] == [164, 284.25, 127.6]
    for other in ("NVIDIA H100 PCIe", "NVIDIA H200", "NVIDIA A100-SXM4-80GB"):
        assert find_gpu(other)
        assert find_embodied(other) is None


def test_embodied_figures_of_another_scope_are_never_looked_up() -> None:
    """All figures that could be added have one scope; the A100 PCIe's has another, and is left out."""
    with TABLES.joinpath("embodied.csv").open(encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if row["model"]]
    assert {row["model"]: row["scope"] for row in rows}["A100 PCIe 40GB"] != SCOPE
    assert find_gpu("NVIDIA A100-PCIE-40GB")
    assert find_embodied("NVIDIA A100-PCIE-40GB") is None
    assert {figure.model for figure in embodied_figures()} == {
        r["model"] for r in rows if r["scope"] == SCOPE
    }
    assert {row["model"] for row in rows} <= {gpu.model for gpu in gpus()}


def test_an_eighth_of_a_baseboard() -> None:
    """The figures for single cards of a board are the board's, divided."""
    with TABLES.joinpath("embodied.csv").open(encoding="utf-8") as table:
        rows = {row["item"]: float(row["kg_co2e"]) for row in csv.DictReader(table)}
    assert (
        rows["NVIDIA HGX H100 baseboard (8 GPUs)"] / 8 == rows["NVIDIA H100 SXM5 (an eighth of the HGX H100)"]
    )
    assert (
        rows["NVIDIA HGX B200 baseboard (8 GPUs)"] / 8 == rows["NVIDIA B200 SXM (an eighth of the HGX B200)"]
    )


def test_a_look_up_keeps_no_table_in_memory() -> None:
    """What stays after a look-up is the one row, not the table."""
    find_embodied("H100 SXM5")  # imports and caches of the standard library are not the table
    tracemalloc.start()
    try:
        kept = (find_gpu("A100 SXM4 40GB"), find_embodied("A100 SXM4 40GB"))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(kept)
    assert held_bytes < 4096
