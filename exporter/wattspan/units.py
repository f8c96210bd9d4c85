"""The only conversion factors, used at the doors and nowhere else.

Inside, energy is a whole number of microjoules and power a whole number of microwatts, so sums are exact.
"""

from typing import Final

UJ_PER_J: Final = 1_000_000
"""Microjoules in a joule."""

UJ_PER_MJ: Final = 1_000
"""Microjoules in a millijoule, NVML's unit of energy (nvmlDeviceGetTotalEnergyConsumption)."""

UW_PER_W: Final = 1_000_000
"""Microwatts in a watt."""

UW_PER_MW: Final = 1_000
"""Microwatts in a milliwatt, NVML's unit of power (nvmlDeviceGetPowerUsage)."""

J_PER_KWH: Final = 3_600_000
"""Joules in a kilowatt-hour."""

UJ_PER_KWH: Final = UJ_PER_J * J_PER_KWH
"""Microjoules in a kilowatt-hour."""

NS_PER_S: Final = 1_000_000_000
"""Nanoseconds in a second."""

NS_PER_US: Final = 1_000
"""Nanoseconds in a microsecond, the unit of NVML's time stamps (nvmlFieldValue_t)."""

HZ_PER_MHZ: Final = 1_000_000
"""Hertz in a megahertz, NVML's unit of clocks (nvmlDeviceGetClockInfo)."""

PERCENT: Final = 100
"""Hundredths in one: the driver's percentages become ratios."""

G_PER_LB: Final = 453.59237
"""Grams in an international pound (exact by definition, 1959)."""

KWH_PER_MWH: Final = 1_000
"""Kilowatt-hours in a megawatt-hour."""


def energy_of(power_uw: int, interval_ns: int) -> int:
    """Whole microjoules that constant power makes in an interval, rounded down.

    1 uW x 1 ns = 1e-15 J = 1e-9 uJ, hence the division by a billion.
    """
    return power_uw * interval_ns // NS_PER_S
