"""What a report says in words: how sure it is, what it cannot know, and whose figures it uses. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.carbon.configured import ConfiguredProvider
from wattspan.carbon.countries import ATTRIBUTION
from wattspan.carbon.static import StaticProvider
from wattspan.ledger import certainty
from wattspan.report import quantities
from wattspan.report.figures import Figures, Missing
from wattspan.runs import Attribution, RunRecord


@dataclass(frozen=True, slots=True)
class Statement:
    """Something about the report's figures, for people.

    Attributes:
        topic: what it is about, in a word or three.
        text: one sentence or more.
    """

    topic: str
    text: str


RULES: Final[Mapping[Attribution, str]] = {
    "exclusive": "It held the GPU alone: all of the GPU's energy, idle time included, is its own.",
    "sm_time": (
        "It shared the GPU, whose energy was split by the time each process kept the SMs busy. "
        "Busy time is not energy: two sharers with equal time can differ several-fold in watts."
    ),
    "mig_activity": (
        "It held MIG instances. Energy is measured for the whole GPU only, and was split by slices "
        "and how busy they were."
    ),
    "mig_slices": (
        "It held MIG instances. Energy is measured for the whole GPU only, and was split by slices, "
        "whatever each instance did."
    ),
    "equal": (
        "It shared the GPU with others, and what each did could not be told apart: "
        "the energy was split into equal parts."
    ),
    "cpu_time": (
        "By its CPU time over the time of all cores. The rest, idle power included, stays with the node."
    ),
}
"""How a run's part was made, by attribution; the bounds of each rule are part of it."""


def statements(record: RunRecord, figures: Figures) -> tuple[Statement, ...]:
    """How sure the figures are."""
    return tuple(_statements(record, figures))


def omissions(record: RunRecord) -> tuple[str, ...]:
    """What the report cannot know of the run, beside the figures that are missing."""
    return tuple(_omissions(record))


def sources(record: RunRecord) -> tuple[str, ...]:
    """Whose figures were used, in the words that their licences ask for."""
    return tuple(_source(provider) for provider in record.providers)


def _statements(record: RunRecord, figures: Figures) -> Iterator[Statement]:
    if not isinstance(figures.gpu_energy_uncertainty_ratio, Missing):
        off = quantities.percent(figures.gpu_energy_uncertainty_ratio)
        gain = quantities.percent(certainty.GAIN_RATIO)
        yield Statement(
            "GPU energy",
            f"Within ±{off}, of the gain of the sensors (±{gain}) and the samples in which the run began and "
            "ended. The gain of one card is constant, so that two runs on the same cards compare far better "
            "(arXiv 2312.02741).",
        )
    if not (
        isinstance(figures.cpu_energy_joules, Missing) and isinstance(figures.dram_energy_joules, Missing)
    ):
        yield Statement(
            "CPU and DRAM energy",
            "As the processor counts it. Servers measure it, desktops compute it from a model; "
            "no maker states how exact it is.",
        )
    for attribution in sorted({attribution for _, attribution in record.totals.energy_uj}):
        yield Statement(f"rule {attribution}", RULES[attribution])
    yield from _carbon(record, figures)


def _carbon(record: RunRecord, figures: Figures) -> Iterator[Statement]:
    if isinstance(figures.co2e_grams, Missing):
        return
    if record.estimated:
        yield Statement(
            "carbon intensity",
            "Some or all of it is an estimate or a yearly mean; the grid of one hour can be far from that.",
        )
    else:
        yield Statement("carbon intensity", "The providers that were used do not mark it as estimated.")
    if record.basis == "direct":
        yield Statement(
            "basis", "Direct emissions of the power plants; building and fuelling them is left out."
        )
    else:
        yield Statement("basis", "Life cycle: building and fuelling the power plants is included.")
    if record.pue == 1.0:
        yield Statement("PUE", "1: nothing is added for cooling and power supply of the building.")
    else:
        yield Statement(
            "PUE", f"{record.pue:g}: applied once, to grams and cost; joules are those of the computer."
        )
    if figures.unpriced_energy_joules:
        yield Statement(
            "unpriced energy",
            f"{quantities.energy(figures.unpriced_energy_joules)} without a known intensity have no grams.",
        )


def _omissions(record: RunRecord) -> Iterator[str]:
    run = record.run
    if record.ended_wall_ns is None:
        yield "The run goes on: this is what its journal has of it by now."
    if record.result == "lost":
        yield "The run went away without saying how it ended."
    if run.nodes_expected is None:
        yield f"This is node {record.node} alone; how many nodes the run has was not told."
    elif run.nodes_expected > 1:
        yield f"This is node {record.node} alone; the run has {run.nodes_expected} nodes, each with its part."
    if not run.rank_zero:
        yield (
            "Rank 0 is not on this node: the span of the whole run is written elsewhere, "
            "and without a hub only where rank 0 is."
        )
    yield "Fans, power supplies, network and storage of the node are not in its energy."


def _source(provider: str) -> str:
    if provider == StaticProvider.name:
        return f"Carbon intensity: {ATTRIBUTION}"
    if provider == ConfiguredProvider.name:
        return "Carbon intensity: set by the operator of this node (grid.intensity)."
    return f"Carbon intensity: {provider}."
