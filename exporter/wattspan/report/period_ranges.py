"""Between what and what each total of a month lies, as far as the owners' accounts know. Pure.

The widths are those of `wattspan.report.ranges`. The accounts keep neither how GPUs were split between
sharers nor a calibration, so these are not in it, and the report says so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from wattspan.ledger import certainty
from wattspan.report.ranges import EMBODIED_FACTOR, Range, kind_ratio, named_kind

GridShares = Mapping[tuple[str, str, str, str, str], float]
"""Energy that was priced, by grid zone, provider, signal, basis, and ``true`` where that was an estimate."""


@dataclass(frozen=True, slots=True)
class RowRanges:
    """Ranges of what one row has; what it has not, or what is not known, is None or not there.

    Attributes:
        energy_joules: over all components.
        operational_grams: by basis; empty where nobody knows what priced the energy.
        embodied_grams, market_grams, water_liters: of these.
        cost: by currency.
    """

    energy_joules: Range | None = None
    operational_grams: Mapping[str, Range] = field(default_factory=dict)
    embodied_grams: Range | None = None
    market_grams: Range | None = None
    water_liters: Range | None = None
    cost: Mapping[str, Range] = field(default_factory=dict)


def energy_ratio(energy_joules: Mapping[str, float]) -> float | None:
    """How far energy may be off, both ways; None without any.

    Args:
        energy_joules: by component: what runs and pods have of CPU and memory was split by CPU time.
    """
    all_j = sum(energy_joules.values())
    if not all_j:
        return None
    gpu_part = energy_joules.get("gpu", 0.0) / all_j
    host_parts = [energy_joules.get(component, 0.0) / all_j for component in ("cpu", "dram")]
    split = certainty.share_ratio("cpu_time")
    return math.hypot(
        gpu_part * certainty.GAIN_RATIO,
        # A processor counts itself and its memory: the two are off together, and not with the GPUs.
        sum(host_parts) * certainty.HOST_GAIN_RATIO,
        *(part * split for part in host_parts),
    )


def intensity_ratio(priced: GridShares) -> float | None:
    """How far grams may be off for the grid's figures, by the energy that each priced; None without any."""
    all_j = sum(priced.values())
    if not all_j:
        return None
    parts = (
        joules * kind_ratio(named_kind(provider, estimated=estimated.lower() == "true"), zone)
        for (zone, provider, _, _, estimated), joules in priced.items()
    )
    return sum(parts) / all_j


def range_by(value: float | None, *ratios: float | None) -> Range | None:
    """About a value by independent parts; None where the value or a part is not known."""
    if value is None or None in ratios:
        return None
    width = math.hypot(*(ratio or 0.0 for ratio in ratios))
    return Range(max(value * (1 - width), 0.0), value * (1 + width))


def embodied_range(grams: float | None) -> Range | None:
    """By the factor to which the making of hardware is known."""
    return None if grams is None else Range(grams / EMBODIED_FACTOR, grams * EMBODIED_FACTOR)
