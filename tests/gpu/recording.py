"""A look at a real card, written as a scenario that the fake NVML replays."""

import json
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from wattspan.model import Gpu, GpuReading
from wattspan.units import NS_PER_S, UJ_PER_MJ, UW_PER_W

_MIB = 2**20


def refresh_ms(readings: Sequence[GpuReading]) -> int:
    """How often the energy counter moves, in whole milliseconds: the median time between two changes.

    Args:
        readings: of one GPU, in order, looked at much more often than the counter moves.

    Raises:
        statistics.StatisticsError: it moved less than twice.
    """
    moved = [after.read_at_ns for before, after in pairwise(readings) if after.energy_uj != before.energy_uj]
    gaps = [after - before for before, after in pairwise(moved)]
    return round(median(gaps) * 1_000 / NS_PER_S)


def scenario_name(gpu: Gpu) -> str:
    """By card and driver, such as ``nvidia-h100-80gb-hbm3-570.86.15``."""
    return f"{gpu.model} {gpu.driver_version}".lower().replace(" ", "-")


def scenario_toml(readings: Sequence[GpuReading], counter_refresh_ms: int) -> str:
    """The scenario in which the fake shows what was seen: the card's data, and instant power as its curve.

    Args:
        readings: of one GPU that answers instant power, in order.
        counter_refresh_ms: from `refresh_ms`.
    """
    first = readings[0]
    gpu = first.gpu
    curve = [
        [round((reading.read_at_ns - first.read_at_ns) / NS_PER_S, 3), reading.power_instant_uw / UW_PER_W]
        for reading in readings
        if reading.power_instant_uw is not None
    ]
    lines = [
        f"# Recorded from a real card: {len(curve)} looks.",
        'clock = "manual"',
        f"refresh_ms = {counter_refresh_ms}",
        f"driver_version = {json.dumps(gpu.driver_version)}",
        "[[gpu]]",
        f"generation = {json.dumps(_generation(gpu))}",
        f"name = {json.dumps(gpu.model)}",
        f"memory_mib = {(first.memory_total_bytes or 0) // _MIB}",
        f"limit_w = {(first.power_limit_uw or 0) // UW_PER_W}",
        f"base_mj = {(first.energy_uj or 0) // UJ_PER_MJ}",
        'shape = "linear"',
        f"curve = {json.dumps(curve)}",
    ]
    return "\n".join(lines) + "\n"


def _generation(gpu: Gpu) -> str:
    """The fake's generation that answers the same questions."""
    if gpu.power_scope == "module":
        return "gh200"
    if not gpu.has_energy_counter:
        return "vgpu"
    return "h100" if gpu.power_source == "average" else "ga100"
