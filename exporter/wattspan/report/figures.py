"""Figures of one attempt on one node: each is a number, or missing for a reason. Pure."""

import math
from dataclasses import dataclass
from typing import Final

from wattspan.ledger import certainty
from wattspan.runs import NO_PROGRESS, Progress, RunRecord, RunTotals
from wattspan.units import J_PER_KWH, NS_PER_S, UJ_PER_J, UJ_PER_KWH


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure that nobody has; `reason` says why, for people."""

    reason: str


Number = float | Missing

NO_ENERGY: Final = Missing("no energy of this run was measured on this node")
NO_GPU: Final = Missing("it held no GPU on this node")
NO_INTENSITY: Final = Missing("no carbon intensity was known while it ran")
NO_PRICE: Final = Missing("no electricity price is configured (cost.price-per-kwh)")
NO_PRICE_THEN: Final = Missing("no electricity price was known while it ran")
NO_EMBODIED: Final = Missing("what making its hardware emitted is not known (embodied.gpu-kg)")
NO_MARKET: Final = Missing("no intensity of an electricity contract is configured (grid.market-intensity)")
NO_WATER: Final = Missing("no water usage effectiveness is configured (grid.wue)")
NO_BUDGET: Final = Missing("the run has no carbon budget")
NO_EARLIER: Final = Missing("what the run's earlier attempts emitted was not kept with this one")
NO_TIME: Final = Missing("it began just now")


@dataclass(frozen=True, slots=True)
class Figures:
    """All the numbers of a report. The names hold in JSON and CSV too.

    Attributes:
        duration_seconds: from begin to end, or until now.
        energy_joules, energy_kwh: of GPUs, CPU and DRAM together, as far as each was measured.
        gpu_energy_joules, cpu_energy_joules, dram_energy_joules: of it.
        gpu_energy_uncertainty_ratio: how far the GPUs' energy may be off, both ways.
        facility_energy_kwh: what the facility drew for it: energy times the PUE in force.
        co2e_grams: operational, location based, PUE applied.
        embodied_co2e_grams: of making the hardware, for the time it was reserved.
        market_co2e_grams: operational by the operator's contracts, PUE applied; never part of `co2e_grams`.
        water_liters: for cooling on site.
        unpriced_energy_joules: energy for which no intensity was known; it has no grams.
        mean_intensity_grams_per_kwh: of the grid, weighted by the energy used under each figure.
        cost: in the record's currency, PUE applied.
        uncosted_energy_joules: energy for which no price was known; it is in no cost.
        mean_power_watts: energy over duration.
        mean_gpu_power_watts: GPU energy over the time that GPUs were held, so of one GPU.
        gpu_count: GPUs it ever held on this node.
        gpu_seconds: time it held them; shared ones by share.
        idle_gpu_seconds, idle_ratio: of it, while no kernel ran.
        gpu_utilization_ratio: mean over the held time.
        steps, samples, tokens: made in this attempt, by all nodes together.
        repeated_steps: made again after a resume; their energy is in the run's.
        progress_ratio: steps over planned steps, over all attempts.
        loss: the last one told.
        joules_per_step, joules_per_sample, joules_per_token: all energy over progress.
        budget_co2e_grams, budget_used_ratio: what the run may emit, and how much of that it has in this
            attempt and those before it, on this node.
    """

    duration_seconds: float
    energy_joules: Number
    energy_kwh: Number
    gpu_energy_joules: Number
    cpu_energy_joules: Number
    dram_energy_joules: Number
    gpu_energy_uncertainty_ratio: Number
    facility_energy_kwh: Number
    co2e_grams: Number
    embodied_co2e_grams: Number
    market_co2e_grams: Number
    water_liters: Number
    unpriced_energy_joules: float
    mean_intensity_grams_per_kwh: Number
    cost: Number
    uncosted_energy_joules: float
    mean_power_watts: Number
    mean_gpu_power_watts: Number
    gpu_count: int
    gpu_seconds: float
    idle_gpu_seconds: float
    idle_ratio: Number
    gpu_utilization_ratio: Number
    steps: Number
    samples: Number
    tokens: Number
    repeated_steps: Number
    progress_ratio: Number
    loss: Number
    joules_per_step: Number
    joules_per_sample: Number
    joules_per_token: Number
    budget_co2e_grams: Number
    budget_used_ratio: Number


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the run's energy.

    Attributes:
        component: gpu, cpu or dram.
        attribution: the rule by which it was made the run's.
        energy_joules: of it.
        ratio: of the run's energy.
    """

    component: str
    attribution: str
    energy_joules: float
    ratio: float


@dataclass(frozen=True, slots=True)
class GpuPart:
    """A GPU that the run held.

    Attributes:
        uuid, model: which; the model is empty where the driver did not say.
        energy_joules: what the run used of it.
        ratio: of the run's GPU energy.
    """

    uuid: str
    model: str
    energy_joules: float
    ratio: float


def figures_of(record: RunRecord, now_wall_ns: int) -> Figures:
    """What a record implies.

    Args:
        record: final, or of a run that goes on.
        now_wall_ns: what the duration of a run that goes on counts to.
    """
    totals = record.totals
    until_wall_ns = now_wall_ns if record.ended_wall_ns is None else record.ended_wall_ns
    duration_ns = max(until_wall_ns - record.began_wall_ns, 0)
    energy_j = _energy_j(totals)
    gpu_j, cpu_j, dram_j = (_component_j(record, component) for component in ("gpu", "cpu", "dram"))
    co2e_g = _co2e_g(totals)
    made = _made(record)
    return Figures(
        duration_seconds=duration_ns / NS_PER_S,
        energy_joules=energy_j,
        energy_kwh=_over(energy_j, J_PER_KWH),
        gpu_energy_joules=gpu_j,
        cpu_energy_joules=cpu_j,
        dram_energy_joules=dram_j,
        gpu_energy_uncertainty_ratio=(
            gpu_j
            if isinstance(gpu_j, Missing)
            else certainty.gpu_energy_ratio(
                duration_ns, gpu_energy_uj=totals.gpu_energy_uj, calibrations=record.calibrations
            )
        ),
        facility_energy_kwh=_over(energy_j, J_PER_KWH / totals.mean_pue(record.pue)),
        co2e_grams=co2e_g,
        embodied_co2e_grams=_known(totals.embodied_g, NO_EMBODIED if record.gpus else NO_GPU),
        market_co2e_grams=_of_energy(totals, totals.market_g, NO_MARKET),
        water_liters=_of_energy(totals, totals.water_l, NO_WATER),
        unpriced_energy_joules=totals.unpriced_uj / UJ_PER_J,
        mean_intensity_grams_per_kwh=_over(
            co2e_g, _priced_uj(totals) / UJ_PER_KWH * totals.mean_pue(record.pue), NO_INTENSITY
        ),
        cost=cost_of(totals),
        uncosted_energy_joules=totals.uncosted_uj / UJ_PER_J,
        mean_power_watts=_over(energy_j, duration_ns / NS_PER_S, NO_TIME),
        mean_gpu_power_watts=_over(gpu_j, totals.gpu_ns / NS_PER_S, NO_GPU),
        gpu_count=len(record.gpus),
        gpu_seconds=totals.gpu_ns / NS_PER_S,
        idle_gpu_seconds=totals.idle_gpu_ns / NS_PER_S,
        idle_ratio=_over(totals.idle_gpu_ns, totals.gpu_ns, NO_GPU),
        gpu_utilization_ratio=_over(totals.utilization_ns, totals.gpu_ns, NO_GPU),
        steps=_count(made, "steps"),
        samples=_count(made, "samples"),
        tokens=_count(made, "tokens"),
        repeated_steps=made if isinstance(made, Missing) else made.repeated_steps,
        progress_ratio=_progress_ratio(record),
        loss=_loss(record.progress.loss),
        joules_per_step=_per(record, energy_j, _count(made, "steps")),
        joules_per_sample=_per(record, energy_j, _count(made, "samples")),
        joules_per_token=_per(record, energy_j, _count(made, "tokens")),
        budget_co2e_grams=_known(record.run.budget_co2e_g, NO_BUDGET),
        budget_used_ratio=_budget_used_ratio(record, co2e_g),
    )


def cost_of(totals: RunTotals) -> Number:
    """What the part of the energy came to whose price was known, in the currency of now."""
    cost = _of_energy(totals, totals.cost, NO_PRICE)
    if cost or isinstance(cost, Missing):
        return cost
    if totals.other_costs:
        return Missing(
            f"its price was in {' and '.join(sorted(totals.other_costs))}, and nothing is converted"
        )
    return cost if totals.uncosted_uj < sum(totals.energy_uj.values()) else NO_PRICE_THEN


def parts_of(totals: RunTotals) -> tuple[Part, ...]:
    """The run's energy by component and rule, the greatest first; the parts add up to all of it."""
    all_uj = sum(totals.energy_uj.values())
    parts = sorted(totals.energy_uj.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        Part(component, attribution, energy_uj / UJ_PER_J, energy_uj / all_uj)
        for (component, attribution), energy_uj in parts
        if energy_uj
    )


def gpu_parts_of(record: RunRecord) -> tuple[GpuPart, ...]:
    """Every GPU that the run held, in the record's order."""
    energy_uj = record.totals.gpu_energy_uj
    all_uj = sum(energy_uj.values())
    return tuple(
        GpuPart(
            uuid,
            record.gpus.get(uuid, ""),
            energy_uj.get(uuid, 0) / UJ_PER_J,
            energy_uj.get(uuid, 0) / all_uj if all_uj else 0.0,
        )
        for uuid in dict.fromkeys((*record.gpus, *energy_uj))
    )


def _known(value: float | None, otherwise: Missing) -> Number:
    return otherwise if value is None else value


def _of_energy(totals: RunTotals, value: float | None, otherwise: Missing) -> Number:
    """What goes with the energy is not known where no energy was measured, however it is counted."""
    return NO_ENERGY if value is not None and not totals.energy_uj else _known(value, otherwise)


def _over(value: Number, divisor: Number, otherwise: Missing = NO_ENERGY) -> Number:
    """A quotient; what is missing stays missing for its own reason, and nothing is over 0."""
    if isinstance(divisor, Missing):
        return divisor
    if isinstance(value, Missing):
        return value
    return value / divisor if divisor else otherwise


def _energy_j(totals: RunTotals) -> Number:
    return sum(totals.energy_uj.values()) / UJ_PER_J if totals.energy_uj else NO_ENERGY


def _component_j(record: RunRecord, component: str) -> Number:
    parts_uj = [energy_uj for (of, _), energy_uj in record.totals.energy_uj.items() if of == component]
    if parts_uj:
        return sum(parts_uj) / UJ_PER_J
    if component != "gpu":
        return Missing(f"no {component} energy could be attributed to it on this node")
    return Missing("no energy of its GPUs was measured") if record.gpus else NO_GPU


def _priced_uj(totals: RunTotals) -> int:
    return sum(totals.energy_uj.values()) - totals.unpriced_uj


def _co2e_g(totals: RunTotals) -> Number:
    if not totals.energy_uj:
        return NO_ENERGY
    return totals.co2e_g if _priced_uj(totals) > 0 else NO_INTENSITY


def _made(record: RunRecord) -> Progress | Missing:
    """What this attempt has made itself."""
    if not record.run.rank_zero:
        return Missing("progress is told on the node of rank 0 alone")
    told, before = record.progress, record.progress_before
    if before is None:
        if record.run.attempt:
            return Missing("progress counts over all attempts, and where this one began was not kept")
        before = NO_PROGRESS
    return Progress(
        steps=told.steps - before.steps,
        samples=told.samples - before.samples,
        tokens=told.tokens - before.tokens,
        repeated_steps=told.repeated_steps - before.repeated_steps,
    )


def _count(made: Progress | Missing, name: str) -> Number:
    if isinstance(made, Missing):
        return made
    count: int = getattr(made, name)
    return count or Missing("the run told none")


def _loss(told: float | None) -> Number:
    if told is None:
        return Missing("the run told none")
    return told if math.isfinite(told) else Missing(f"the last one told was {told}")


def _per(record: RunRecord, energy_j: Number, count: Number) -> Number:
    nodes = record.run.nodes_expected
    if nodes != 1 and not isinstance(count, Missing):
        all_nodes = f"all {nodes} nodes" if nodes else "all its nodes, however many they are"
        return Missing(f"progress is that of {all_nodes}, energy that of this one")
    return _over(energy_j, count)


def _budget_used_ratio(record: RunRecord, co2e_g: Number) -> Number:
    """Budgets are of the run: the gauge `wattspan_run_budget_used_ratio` has all its attempts too."""
    budget_g, earlier_g = record.run.budget_co2e_g, record.earlier_co2e_g
    if budget_g is None:
        return NO_BUDGET
    if earlier_g is None and record.run.attempt:
        return NO_EARLIER
    if isinstance(co2e_g, Missing):
        return co2e_g
    return _over(co2e_g + (earlier_g or 0.0), budget_g, NO_BUDGET)


def _progress_ratio(record: RunRecord) -> Number:
    if not record.progress.total_steps:
        return Missing("how many steps are planned was not told")
    return min(1.0, record.progress.steps / record.progress.total_steps)
