"""How far the energy of a run may be from the truth. Pure.

Two independent parts have a number, and are added in squares (JCGM 100:2008, 5.1.2):
the gain of the sensors, and the samples in whose middle a run begins and ends.
What the split between sharers and the grid's figure add has none; reports tell it in words.
"""

import math
from typing import Final

from wattspan.units import NS_PER_S

GAIN_RATIO: Final = 0.05
"""Gain of a GPU's energy counter against an external meter.

Steady loads on over 70 GPUs of 12 generations: most between -6.2 % and +1 %, one model at +10.9 %; constant
for one card, so that comparisons on it are far better than absolute figures (Yang, Adamek, Armour: "Accurate
and Convenient Energy Measurements for GPUs", SC'24, arXiv 2312.02741, and its data set GPU_Power_Benchmark).
"""

REFRESH_NS: Final = NS_PER_S // 10
"""A GPU's counter is at most this old when it is read: it changes every 20 to 100 ms (the same paper)."""


def gpu_energy_ratio(duration_ns: int, interval_ns: int = NS_PER_S) -> float:
    """Uncertainty of a run's GPU energy as a share of it, both ways.

    Args:
        duration_ns: of the run.
        interval_ns: between two looks at the hardware.
    """
    # At the run's mean power either edge is off by a sample at most, so the power cancels out.
    return math.hypot(GAIN_RATIO, (REFRESH_NS + interval_ns) / max(duration_ns, interval_ns))
