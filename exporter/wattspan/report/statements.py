"""What a report says in words: how sure it is, what it cannot know, and whose figures it uses. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.journal.figures import Revision
from wattspan.ledger import certainty
from wattspan.report import quantities, ranges
from wattspan.report.attributions import attribution_of
from wattspan.report.figures import Figures, Missing
from wattspan.report.provenance import PricedBy, provenance_of, providers_of, signals_of
from wattspan.report.ranges import Kind, Uncertainty
from wattspan.report.sci import PUE_UNSET, Sci
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


KINDS: Final[Mapping[Kind, str]] = {
    "measured": "measured figures",
    "estimated": "forecasts and estimates",
    "constant": "one figure for all hours of a year",
}
"""What intensities are; the range of each kind is in `wattspan.report.ranges`."""


def statements(
    record: RunRecord,
    figures: Figures,
    uncertainty: Uncertainty,
    sci: tuple[Sci, ...],
    revision: Revision | None = None,
) -> tuple[Statement, ...]:
    """How sure the figures are.

    Args:
        record: the attempt.
        figures: what it implies.
        uncertainty: what its ranges are made of.
        sci: its Software Carbon Intensity, as far as there is one.
        revision: its grams by the figures that are known now; None where nobody looked.
    """
    said = _statements(record, figures, uncertainty, sci)
    return (*said, *(_revised(record, revision) if revision else ()))


def omissions(record: RunRecord) -> tuple[str, ...]:
    """What the report cannot know of the run, beside the figures that are missing."""
    return tuple(_omissions(record))


def sources(record: RunRecord) -> tuple[str, ...]:
    """Whose figures were used, in the words that their licences ask for."""
    return tuple(
        f"Carbon intensity: {attribution_of(provider, record.factors)}" for provider in providers_of(record)
    )


def _statements(
    record: RunRecord, figures: Figures, uncertainty: Uncertainty, sci: tuple[Sci, ...]
) -> Iterator[Statement]:
    yield from _ranges(uncertainty)
    if not isinstance(figures.gpu_energy_uncertainty_ratio, Missing):
        off = quantities.percent(figures.gpu_energy_uncertainty_ratio)
        yield Statement("GPU energy", f"Within ±{off}, of {_gain(record)}")
    for uuid, calibration in record.calibrations.items():
        off = quantities.percent(calibration.uncertainty_ratio)
        yield Statement(
            f"calibration of {uuid}",
            f"Gain {calibration.gain:.4g}, known to ±{off}: {calibration.provenance}. "
            "It moves the range; the total stays as counted.",
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
    if not isinstance(figures.embodied_co2e_grams, Missing):
        yield Statement(
            "embodied CO2e",
            "Of making the hardware, by the time it was reserved over its expected life. Published figures "
            f"for one and the same card differ by a factor of {ranges.EMBODIED_FACTOR:g}, which is its "
            f"range; those for servers by five.{_without(record)}",
        )
    if not isinstance(figures.market_co2e_grams, Missing):
        yield Statement(
            "market-based CO2e",
            "The same energy under the intensity of the operator's own contract, beside the location-based "
            "figure and never mixed with it (GHG Protocol Scope 2 Guidance).",
        )
    yield from _cost(record, figures)
    if sci:
        yield from _sci(sci)


def _without(record: RunRecord) -> str:
    if not record.embodied_without:
        return ""
    return f" Not in it: {', '.join(what or 'a GPU without a model' for what in record.embodied_without)}."


def _ranges(uncertainty: Uncertainty) -> Iterator[Statement]:
    energy = uncertainty.energy
    if energy is None:
        return
    told = [
        f"±{quantities.percent(ratio)} {what}"
        for ratio, what in (
            (energy.gain_ratio, "of the sensors"),
            (energy.edges_ratio, "of begin and end"),
            (energy.share_ratio, "of the split between sharers"),
        )
        if ratio
    ]
    text = f"Energy: {', '.join(told)}, in squares ±{quantities.percent(energy.width_ratio)}"
    if energy.shift_ratio:
        text += f", about a place {quantities.percent(energy.shift_ratio)} from the count by calibration"
    if uncertainty.intensity_ratio is not None:
        text += f". Grams have ±{quantities.percent(uncertainty.intensity_ratio)} of the grid's figures too"
    yield Statement(
        "ranges",
        f"{text}. They are no confidence intervals; PUE, prices and contracts are taken as exact.",
    )


def _gain(record: RunRecord) -> str:
    held = {uuid for uuid, energy_uj in record.totals.gpu_energy_uj.items() if energy_uj}
    if held and held <= set(record.calibrations):
        return "the operator's calibration and the samples in which the run began and ended."
    gain = quantities.percent(certainty.GAIN_RATIO)
    return (
        f"the gain of the sensors (±{gain} where no calibration is given) and the samples in which the run "
        "began and ended. The gain of one card is constant, so that two runs on the same cards compare far "
        "better (arXiv 2312.02741)."
    )


def _carbon(record: RunRecord, figures: Figures) -> Iterator[Statement]:
    if isinstance(figures.co2e_grams, Missing):
        return
    yield Statement("carbon intensity", _intensity(record))
    if (spread := _spread(record, figures)) is not None:
        yield spread
    if (signals := signals_of(record)) and signals != ("average",):
        yield Statement(
            "signal",
            f"{' and '.join(signals)}: a marginal figure says what one kWh more or less changes, "
            "and is no footprint by the GHG Protocol.",
        )
    if len({factor.basis for factor in record.factors if factor.basis}) > 1:
        yield Statement(
            "basis",
            "Mixed: grid.basis was changed while it ran, so that direct and life cycle grams are in one sum; "
            "who priced the energy says how much is of which.",
        )
    elif record.basis == "direct":
        yield Statement(
            "basis", "Direct emissions of the power plants; building and fuelling them is left out."
        )
    else:
        yield Statement("basis", "Life cycle: building and fuelling the power plants is included.")
    yield _pue(record)
    if figures.unpriced_energy_joules:
        yield Statement(
            "unpriced energy",
            f"{quantities.energy(figures.unpriced_energy_joules)} without a known intensity have no grams.",
        )


def _pue(record: RunRecord) -> Statement:
    mean = record.totals.mean_pue(record.pue)
    if mean != record.pue:
        return Statement(
            "PUE",
            f"It was changed while it ran, to {record.pue:g}: each joule has that of its time, "
            f"{mean:.4g} in the mean.",
        )
    if record.pue == PUE_UNSET:
        unset = " Nobody has set it (grid.pue)." if record.pue_configured is False else ""
        return Statement("PUE", f"1: nothing is added for cooling and power supply of the building.{unset}")
    return Statement(
        "PUE", f"{record.pue:g}: applied once, to grams and cost; joules are those of the computer."
    )


def _cost(record: RunRecord, figures: Figures) -> Iterator[Statement]:
    if figures.uncosted_energy_joules and not isinstance(figures.cost, Missing):
        yield Statement(
            "energy without a price",
            f"{quantities.energy(figures.uncosted_energy_joules)} without a known price are in no cost.",
        )
    for currency, cost in sorted(record.totals.other_costs.items()):
        yield Statement(
            "other currency",
            f"{quantities.money(cost, currency)} are in no cost: the currency was changed while it ran, and "
            "nothing is converted.",
        )


def _intensity(record: RunRecord) -> str:
    priced = provenance_of(record)
    if not priced:
        if record.estimated:
            return (
                "Some or all of it is an estimate or a yearly mean; "
                "the grid of one hour can be far from that."
            )
        return "The providers that were used do not mark it as estimated."
    by_kind: dict[Kind, int] = {}
    for factor in record.factors:
        kind = ranges.kind_of(factor)
        by_kind[kind] = by_kind.get(kind, 0) + factor.energy_uj
    all_uj = sum(by_kind.values()) or 1
    told = ", ".join(
        f"{quantities.percent(energy_uj / all_uj)} of the priced energy by {KINDS[kind]} "
        f"(±{quantities.percent(ranges.kind_ratio(kind))})"
        for kind, energy_uj in sorted(by_kind.items(), key=lambda item: -item[1])
    )
    return f"{told[:1].upper()}{told[1:]}.{_held(priced)}"


def _held(priced: tuple[PricedBy, ...]) -> str:
    held_j = sum(each.energy_joules * each.held_ratio for each in priced)
    if not held_j:
        return ""
    return (
        f" {quantities.energy(held_j)} were priced by a last good figure whose own time was over, "
        "since its provider had said nothing newer."
    )


def _spread(record: RunRecord, figures: Figures) -> Statement | None:
    """What the run would have come to in the greenest and the dirtiest of its own hours."""
    intensities = [factor.g_per_kwh for factor in record.factors]
    mean, grams = figures.mean_intensity_grams_per_kwh, figures.co2e_grams
    if isinstance(mean, Missing) or isinstance(grams, Missing) or not intensities or not mean:
        return None
    low, high = min(intensities), max(intensities)
    if low == high:
        return None
    return Statement(
        "when it ran",
        f"The grid had {quantities.figure(low)} to {quantities.figure(high)} g/kWh meanwhile: all of it "
        f"under the lowest figure would have been {quantities.mass(grams * low / mean)}, under the highest "
        f"{quantities.mass(grams * high / mean)}.",
    )


def _revised(record: RunRecord, revision: Revision) -> Iterator[Statement]:
    if revision.revised:
        yield Statement(
            "revised figures",
            f"With figures revised since: {quantities.mass(revision.co2e_g)} instead of "
            f"{quantities.mass(record.totals.co2e_g)} ({revision.revised} of {len(record.factors)} factors). "
            "The totals here and the counters keep what was known when the energy was used.",
        )
    if revision.let_go:
        yield Statement(
            "revised figures",
            "Some figures of this time are no longer kept, so that a revision of them is not known.",
        )


def _sci(sci: tuple[Sci, ...]) -> Iterator[Statement]:
    first = sci[0]
    yield Statement("boundary", f"{first.boundary[:1].upper()}{first.boundary[1:]}.")
    yield Statement("methodology", f"{first.methodology[:1].upper()}{first.methodology[1:]}.")
    for missing in dict.fromkeys(term for each in sci for term in each.missing):
        yield Statement("operational only, not SCI", f"{missing}.")


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
