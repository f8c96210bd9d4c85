"""How far the energy of a run may be from the truth. Pure.

Three independent parts are added in squares (JCGM 100:2008, 5.1.2): the gain of the sensors, the samples in
whose middle a run begins and ends, and the rule by which a shared device was split.
A gain is the same all the time, so that within one sensor it adds up and never averages out.
What the grid's figure adds is in `wattspan.report.ranges`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.runs import Attribution, Calibration, RunTotals
from wattspan.units import NS_PER_S

GAIN_RATIO: Final = 0.05
"""Gain of a GPU's energy counter against an external meter.

Steady loads on over 70 GPUs of 12 generations: most between -6.2 % and +1 %, one model at +10.9 %; constant
for one card, so that comparisons on it are far better than absolute figures (Yang, Adamek, Armour: "Accurate
and Convenient Energy Measurements for GPUs", SC'24, arXiv 2312.02741, and its data set GPU_Power_Benchmark).
"""

HOST_GAIN_RATIO: Final = 0.10
"""Gain of a processor's counters of its own energy and of its memory's. Our assumption: no maker states one.

Studies find them close on servers, which measure, and off by a constant on desktops, which compute it from a
model (Desrochers, Paradis, Weaver: "A Validation of DRAM RAPL Power Measurements", MEMSYS 2016; Khan et al.:
"RAPL in Action", ACM TOMPECS 3(2), 2018).
"""

REFRESH_NS: Final = NS_PER_S // 10
"""A GPU's counter is at most this old when it is read: it changes every 20 to 100 ms (arXiv 2312.02741)."""

POWER_FACTOR: Final[Mapping[Attribution, float]] = {
    "exclusive": 1.0,
    "sm_time": 3.0,
    "mig_activity": 2.0,
    "mig_slices": math.inf,
    "equal": math.inf,
    "cpu_time": 2.0,
}
"""How many times more power one sharer may draw than another for the same weight of the rule. Our assumption.

A GPU whose SMs are busy all the time draws anything between about a third of its limit and all of it, by what
the kernels do; no model tells MIG instances apart across workloads (Vamja et al., arXiv 2501.17752, on A100).
Where the rule says nothing of what each did, one may have done everything.
"""


@dataclass(frozen=True, slots=True)
class EnergyCertainty:
    """How far an attempt's energy may be off. Each is a share of its energy as counted.

    Attributes:
        shift_ratio: where the truth is expected, by the operator's calibration; 0 without one.
        gain_ratio: of the sensors, about that place, both ways.
        edges_ratio: of the samples in which it began and ended.
        share_ratio: of the rules by which shared devices were split.
    """

    shift_ratio: float
    gain_ratio: float
    edges_ratio: float
    share_ratio: float

    @property
    def width_ratio(self) -> float:
        """All of it, both ways from the shifted place."""
        return math.hypot(self.gain_ratio, self.edges_ratio, self.share_ratio)

    @property
    def ratio(self) -> float:
        """How far the counted energy may be off at most."""
        return abs(self.shift_ratio) + self.width_ratio


def share_ratio(attribution: Attribution) -> float:
    """How far a part may be off that a rule has made.

    Of two sharers with the same weight, one of which draws f times the power of the other, the rule gives
    each a half, and the truth is f/(f+1) and 1/(f+1): both are off by (f-1)/(f+1) of what they were given.
    """
    factor = POWER_FACTOR[attribution]
    return 1.0 if math.isinf(factor) else (factor - 1) / (factor + 1)


def edges_ratio(duration_ns: int, interval_ns: int = NS_PER_S) -> float:
    """What a begin and an end between two looks add.

    Args:
        duration_ns: of the run.
        interval_ns: between two looks at the hardware.
    """
    # At the run's mean power either edge is off by a sample at most, so the power cancels out.
    return (REFRESH_NS + interval_ns) / max(duration_ns, interval_ns)


def gpu_energy_ratio(
    duration_ns: int,
    interval_ns: int = NS_PER_S,
    gpu_energy_uj: Mapping[str, int] | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
) -> float:
    """Uncertainty of the energy of the GPUs that a run held, as a share of it, both ways; sharing left out.

    Args:
        duration_ns: of the run.
        interval_ns: between two looks at the hardware.
        gpu_energy_uj: by GPU uuid; None where no GPU is calibrated.
        calibrations: by uuid, of those that are.
    """
    shift, gain = gpu_gain(gpu_energy_uj or {}, calibrations or {})
    return abs(shift) + math.hypot(gain, edges_ratio(duration_ns, interval_ns))


def gpu_gain(
    gpu_energy_uj: Mapping[str, int], calibrations: Mapping[str, Calibration]
) -> tuple[float, float]:
    """Shift and uncertainty of several GPUs' gain, weighted by their energy, as shares of that energy.

    Cards of one kind are off the same way, so that their uncertainties add up.
    """
    all_uj = sum(gpu_energy_uj.values())
    if not all_uj:
        return 0.0, GAIN_RATIO
    shift = gain = 0.0
    for uuid, energy_uj in gpu_energy_uj.items():
        of = calibrations.get(uuid)
        shift += energy_uj / all_uj * (of.gain - 1 if of else 0.0)
        gain += energy_uj / all_uj * (of.gain * of.uncertainty_ratio if of else GAIN_RATIO)
    return shift, gain


def energy_certainty(
    totals: RunTotals, calibrations: Mapping[str, Calibration], duration_ns: int
) -> EnergyCertainty | None:
    """Of all energy of an attempt; None where it has none.

    Args:
        totals: what it has used.
        calibrations: by GPU uuid, of those that the operator has calibrated.
        duration_ns: how long it took.
    """
    all_uj = sum(totals.energy_uj.values())
    if not all_uj:
        return None
    gpu_part = _part(totals, "gpu", all_uj)
    gpu_shift, gpu_gain_ratio = gpu_gain(totals.gpu_energy_uj, calibrations)
    host_gains = [HOST_GAIN_RATIO * _part(totals, component, all_uj) for component in ("cpu", "dram")]
    return EnergyCertainty(
        shift_ratio=gpu_part * gpu_shift,
        # A processor counts itself and its memory: the two are off together, and not with the GPUs.
        gain_ratio=math.hypot(gpu_part * gpu_gain_ratio, sum(host_gains)),
        edges_ratio=edges_ratio(duration_ns),
        share_ratio=math.hypot(
            *(
                energy_uj / all_uj * share_ratio(attribution)
                for (_, attribution), energy_uj in totals.energy_uj.items()
            )
        ),
    )


def _part(totals: RunTotals, component: str, all_uj: int) -> float:
    return sum(uj for (of, _), uj in totals.energy_uj.items() if of == component) / all_uj
