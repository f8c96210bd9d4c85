"""Before a run: energy, grams, embodied grams and cost from what is planned. Pure.

    energy       = GPUs x hours x (power of a GPU + its part of the host)      as a meter would count it
    operational  = energy x PUE x intensity
    embodied     = see `wattspan.carbon.embodied`
    cost         = energy x PUE x price

The power of a GPU is the weak point, so each way to it says its own range:

- **rated**: TDP x (idle x (1 - U) + busy x U), where U is the share of the time in which the GPU computes.
  Nobody exceeds TDP for long, so the figure itself takes busy = 1: it is a ceiling for that U. The range
  goes down to busy = `BUSY_LOW`.
- **measured**: somebody has seen the mean, within the gain of sensors.
- **past runs** of a project on such GPUs: joules per GPU-hour, and how far single runs were from that.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.carbon.embodied import YEAR_NS, Embodied
from wattspan.ledger.certainty import GAIN_RATIO
from wattspan.runs import RunRecord
from wattspan.units import NS_PER_S, UJ_PER_J

HOUR_S: Final = 3600
"""Seconds in an hour."""

HOUR_NS: Final = HOUR_S * NS_PER_S
"""Nanoseconds in an hour."""

W_PER_KW: Final = 1000
"""Watts in a kilowatt."""

IDLE_SHARE: Final = 0.15
"""Of TDP, drawn by a GPU that is held and computes nothing: the lowest that logs of whole trainings show
(Morrison et al. 2025, arXiv 2503.05804: between 15 % and 85 % of the hardware's maximum)."""

BUSY_LOW: Final = 0.6
"""Of TDP, the low end of what a training draws that keeps its GPUs at work.

On nodes of 8 H100s: demanding trainings at 76 % of the node's rating, and estimates by TDP wrong by 27 % to
37 %, so that the truth was 63 % of it at the least (Newkirk et al. 2025, arXiv 2506.14551); at most 82 %,
with GPUs near full utilization (Latif et al. 2024, arXiv 2412.08602). Rounded down to one digit.
"""

FLOPS_PER_PARAMETER_AND_TOKEN: Final = 6
"""Forward and backward pass of a dense transformer (Kaplan et al. 2020, arXiv 2001.08361, 2.1)."""

PAST_RUN_MIN_NS: Final = 300 * NS_PER_S
"""GPU time below which a past run says nothing about a long one: it is mostly its own start."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure and how far it may be off.

    Attributes:
        value: the figure.
        low, high: its range; equal to it where it is taken as exact.
    """

    value: float
    low: float
    high: float

    def plus(self, constant: float) -> "Spread":
        """All of it moved by something that has no range."""
        return Spread(self.value + constant, self.low + constant, self.high + constant)

    def times(self, other: "Spread") -> "Spread":
        """The product of two that are off independently; neither is below 0.

        What each is off by, as a share of it, is added in squares (JCGM 100:2008, 5.1.2).
        """
        value = self.value * other.value
        low = math.hypot(self._share(self.low), other._share(other.low))
        high = math.hypot(self._share(self.high), other._share(other.high))
        return Spread(value, max(value * (1 - low), 0.0), value * (1 + high))

    def _share(self, end: float) -> float:
        return (end - self.value) / self.value if self.value else 0.0


@dataclass(frozen=True, slots=True)
class Power:
    """What one GPU draws on average.

    Attributes:
        watts: of one GPU; with its part of the host where `covers_host`.
        method: how it is known, in words.
        ceiling: the figure is what it draws at most.
        covers_host: the host's CPUs are in it, as for past runs on a machine where they are measured.
    """

    watts: Spread
    method: str
    ceiling: bool = False
    covers_host: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to run.

    Attributes:
        gpus, hours: how many, for how long.
        power: of one of them; None where it cannot be said.
        host_watts: besides it, for each GPU; 0 leaves the host out.
        pue: facility energy over IT energy.
        g_per_kwh: of the grid; None where it cannot be said.
        embodied_gpu_g: grams of making one GPU; None where nobody has published it.
        embodied_host_g: of the host without GPUs; None leaves it out.
        embodied_factor: to which such grams are known, both ways.
        gpus_per_host: among which a host is divided.
        lifetime_years: expected life of both.
        price_per_kwh: at the facility's meter; None without one.
    """

    gpus: int
    hours: float
    power: Power | None
    host_watts: float = 0.0
    pue: float = 1.0
    g_per_kwh: Spread | None = None
    embodied_gpu_g: float | None = None
    embodied_host_g: float | None = None
    embodied_factor: float = 1.0
    gpus_per_host: int = 1
    lifetime_years: float = 4.0
    price_per_kwh: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What it will come to; None where that cannot be said.

    Attributes:
        energy_kwh: of the IT equipment, as a meter there would count it: without PUE.
        facility_energy_kwh: with PUE.
        operational_g: CO2e of that energy.
        embodied_g: CO2e of making the hardware, for the time it is reserved.
        cost: of the facility's energy, in the currency of the price.
    """

    energy_kwh: Spread | None
    facility_energy_kwh: Spread | None
    operational_g: Spread | None
    embodied_g: Spread | None
    cost: Spread | None


@dataclass(frozen=True, slots=True)
class PastRun:
    """What an attempt of the past used.

    Attributes:
        run_id: whose.
        joules: metered, by component: gpu, and cpu and dram where they are measured.
        gpu_hours: held; of shared cards by share.
    """

    run_id: str
    joules: Mapping[str, float]
    gpu_hours: float


def estimate(plan: Plan) -> Estimate:
    """What a plan comes to."""
    energy_kwh = facility_kwh = operational_g = cost = None
    if plan.power is not None:
        watts = plan.power.watts.plus(plan.host_watts)
        energy_kwh = watts.times(exactly(plan.gpus * plan.hours / W_PER_KW))
        facility_kwh = energy_kwh.times(exactly(plan.pue))
        if plan.g_per_kwh is not None:
            operational_g = facility_kwh.times(plan.g_per_kwh)
        if plan.price_per_kwh is not None:
            cost = facility_kwh.times(exactly(plan.price_per_kwh))
    return Estimate(energy_kwh, facility_kwh, operational_g, _embodied_g(plan), cost)


def exactly(value: float) -> Spread:
    """A figure without a range."""
    return Spread(value, value, value)


def rated(tdp_w: float, utilization: float | None) -> Power:
    """The power of a GPU of which nothing but its rating is known.

    Args:
        tdp_w: the rating.
        utilization: share of the time in which it computes, from 0 to 1; None for all of it.
    """
    busy = 1.0 if utilization is None else utilization
    idle_w = tdp_w * IDLE_SHARE * (1 - busy)
    ceiling_w = idle_w + tdp_w * busy
    low_w = idle_w + tdp_w * BUSY_LOW * busy
    when = "all the time" if utilization is None else f"{utilization * 100:g} % of the time"
    idle = f", {IDLE_SHARE * 100:g} % of it while idle" if busy < 1 else ""
    method = (
        f"the card's TDP of {tdp_w:g} W, computing {when}{idle}: a ceiling; "
        f"the low end is {BUSY_LOW * 100:g} % of TDP while computing"
    )
    return Power(Spread(ceiling_w, low_w, ceiling_w), method, ceiling=True)


def measured(watts: float) -> Power:
    """A mean power that somebody has measured, within the gain of GPU sensors."""
    method = (
        f"the mean of {watts:g} W that you gave; the range is the {GAIN_RATIO * 100:g} % "
        "by which GPU sensors are off"
    )
    return Power(Spread(watts, watts * (1 - GAIN_RATIO), watts * (1 + GAIN_RATIO)), method)


def past_runs(records: Iterable[RunRecord], is_such: Callable[[str], bool]) -> tuple[PastRun, ...]:
    """What ended attempts used that held nothing but such GPUs, and held them for a while.

    Args:
        records: from the journal.
        is_such: whether a model, as the driver names it, is the one that is planned with.
    """
    return tuple(
        _past_run(record)
        for record in records
        if record.ended_wall_ns is not None
        and record.totals.gpu_ns >= PAST_RUN_MIN_NS
        and record.gpus
        and all(is_such(model) for model in record.gpus.values())
        and any(uj > 0 for (component, _), uj in record.totals.energy_uj.items() if component == "gpu")
    )


def as_before(runs: Iterable[PastRun], project: str) -> Power | None:
    """The power per GPU of past runs, long ones counting more; None without any.

    Only components that each of them knows are counted, else runs could not be compared.
    The range goes from the run that drew least to the one that drew most, each within the gain of sensors.
    """
    runs = tuple(runs)
    if not runs:
        return None
    components = frozenset.intersection(*(frozenset(run.joules) for run in runs))
    joules = [sum(run.joules[component] for component in components) for run in runs]
    every_w = [used / (run.gpu_hours * HOUR_S) for used, run in zip(joules, runs, strict=True)]
    gpu_hours = sum(run.gpu_hours for run in runs)
    mean_w = sum(joules) / (gpu_hours * HOUR_S)
    single = (
        "" if len(runs) == 1 else f" that of single ones, {min(every_w):,.0f} W to {max(every_w):,.0f} W, and"
    )
    method = (
        f"{len(runs)} ended attempt{'s' * (len(runs) > 1)} of project {project} on such GPUs of this node, "
        f"{gpu_hours:,.1f} GPU-hours at {mean_w * HOUR_S:,.0f} J ({', '.join(sorted(components))}); "
        f"the range is{single} the {GAIN_RATIO * 100:g} % by which sensors are off"
    )
    low_w, high_w = min(every_w) * (1 - GAIN_RATIO), max(every_w) * (1 + GAIN_RATIO)
    return Power(Spread(mean_w, low_w, high_w), method, covers_host=components > {"gpu"})


def hours_of(parameters: float, tokens: float, dense_flops: float, utilization: float, gpus: int) -> float:
    """How long a dense transformer trains.

    Args:
        parameters, tokens: of the model, and that it is trained on.
        dense_flops: peak of one GPU, each second.
        utilization: model FLOPs utilization, the share of that peak that the model's own arithmetic reaches.
        gpus: how many.
    """
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
    return flops / (gpus * dense_flops * utilization) / HOUR_S


def _past_run(record: RunRecord) -> PastRun:
    joules: dict[str, float] = {}
    for (component, _), energy_uj in record.totals.energy_uj.items():
        joules[component] = joules.get(component, 0.0) + energy_uj / UJ_PER_J
    return PastRun(
        run_id=record.run.run_id,
        joules={component: used for component, used in joules.items() if used},
        gpu_hours=record.totals.gpu_ns / HOUR_NS,
    )


def _embodied_g(plan: Plan) -> Spread | None:
    if plan.embodied_gpu_g is None:
        return None
    made: Mapping[str | None, float] = {None: plan.embodied_gpu_g}
    of = Embodied(made, plan.embodied_host_g, round(plan.lifetime_years * YEAR_NS))
    grams = of.grams("", round(plan.gpus * plan.hours * HOUR_NS), plan.gpus_per_host)
    if grams is None:
        return None
    return Spread(grams, grams / plan.embodied_factor, grams * plan.embodied_factor)
