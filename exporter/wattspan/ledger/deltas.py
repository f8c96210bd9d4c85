"""The arithmetic of two readings. Pure functions over whole numbers."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from wattspan.units import NS_PER_S, UW_PER_W, energy_of

HEADROOM_NUM: Final = 3
HEADROOM_DEN: Final = 2
"""Energy above 1.5 x the highest limit x the time is not believed.

Boards overshoot their limit for milliseconds only, and the sensors read within 5 % (arXiv 2312.02741).
"""

REFRESH_NS: Final = NS_PER_S // 10
"""NVML's energy counter moves in steps of 20 to 100 ms, so an interval may hold one step more."""

UNKNOWN_GPU_LIMIT_UW: Final = 3_000 * UW_PER_W
"""Taken where the driver states no limit: above the largest module to date (GB200 superchip, 2,700 W)."""

UNKNOWN_HOST_LIMIT_UW: Final = 500 * UW_PER_W
"""Taken where powercap states no limit: the largest server packages to date are rated 500 W."""


class Verdict(Enum):
    """What became of a difference."""

    COUNTED = auto()
    RESET = auto()
    IMPLAUSIBLE = auto()


@dataclass(frozen=True, slots=True)
class Delta:
    """Energy between two readings of a counter.

    Attributes:
        energy_uj: zero or more; zero when implausible.
        verdict: COUNTED, RESET (the counter started anew; what it shows since is certain), or
            IMPLAUSIBLE (more than the hardware can draw, or a step back that is no reset).
    """

    energy_uj: int
    verdict: Verdict


def plausible_uj(limit_uw: int, interval_ns: int) -> int:
    """The most a device with this limit can have used in the interval, with headroom and one refresh."""
    return energy_of(limit_uw, interval_ns + REFRESH_NS) * HEADROOM_NUM // HEADROOM_DEN


def counter_delta(previous_uj: int, current_uj: int, bound_uj: int) -> Delta:
    """The difference of a 64-bit counter that never wraps (u64 millijoules last 585,000 years at 1 kW).

    A lower value is therefore a reset: what it shows since then is certain, the rest is unknown.
    It is believed up to `bound_uj` only; else a counter that steps back would be charged its lifetime.
    """
    gone_back = current_uj < previous_uj
    energy_uj = current_uj if gone_back else current_uj - previous_uj
    if energy_uj > bound_uj:
        return Delta(0, Verdict.IMPLAUSIBLE)
    return Delta(energy_uj, Verdict.RESET if gone_back else Verdict.COUNTED)


def wrapping_delta(previous_uj: int, current_uj: int, wraps_at_uj: int, bound_uj: int) -> Delta:
    """The difference of a counter that starts anew after `wraps_at_uj` (powercap's max_energy_range_uj).

    One wrap can be told from the value, two cannot: `bound_uj` must be below `wraps_at_uj`.
    """
    energy_uj = current_uj - previous_uj
    if energy_uj < 0:
        energy_uj += wraps_at_uj + 1
    if not 0 <= energy_uj <= bound_uj:
        return Delta(0, Verdict.IMPLAUSIBLE)
    return Delta(energy_uj, Verdict.COUNTED)


def trapezoid_uj(first_uw: int, last_uw: int, interval_ns: int) -> int:
    """Energy under a straight line between two powers, in whole microjoules, rounded down."""
    return energy_of(first_uw + last_uw, interval_ns) // 2


def mean_power_uw(energy_uj: int, interval_ns: int) -> int:
    """Constant power that would use this energy in the interval (above zero)."""
    return energy_uj * NS_PER_S // interval_ns
