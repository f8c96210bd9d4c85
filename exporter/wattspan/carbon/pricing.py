"""Energy to grams: the intensity that was valid while the energy flowed, times PUE, once. Pure arithmetic.

grams = sum over the stretches of E [kWh] x PUE x I [g/kWh].
Never a total times a mean intensity: that is wrong by the covariance of load and grid.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

from wattspan.carbon import timeline
from wattspan.model import Intensity
from wattspan.units import UJ_PER_KWH


class Priced(NamedTuple):
    """What an interval's energy came to.

    Attributes:
        grams: operational CO2e of the part whose intensity was known, PUE applied.
        unpriced_uj: energy for which no intensity was known, as it was metered, before PUE.
        parts: the energy by the figure that priced it; None for what has none. They sum to the whole.
    """

    grams: float
    unpriced_uj: int
    parts: tuple[tuple[Intensity | None, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Pricing:
    """The intensities at hand and the PUE. What a provider learns later comes as a new Pricing.

    Attributes:
        intensities: past to future, without overlaps; energy that flows in a gap has no price.
        pue: power usage effectiveness, facility energy over IT energy (ISO/IEC 30134-2), so never below 1.

    Raises:
        ValueError: intensities that overlap, are out of order or are no numbers, or a PUE that cannot be.
    """

    intensities: tuple[Intensity, ...]
    pue: float = 1.0
    _begins: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (isfinite(self.pue) and self.pue >= 1):
            raise ValueError(f"no PUE: {self.pue}")
        for intensity in self.intensities:
            if not (isfinite(intensity.g_per_kwh) and intensity.g_per_kwh >= 0):
                raise ValueError(f"no intensity: {intensity}")
        timeline.require_order(self.intensities)
        object.__setattr__(self, "_begins", timeline.starts(self.intensities))

    def at(self, wall_ns: int) -> Intensity | None:
        """The intensity in force at a moment of the wall clock, or None where none is known."""
        return timeline.at(self.intensities, wall_ns, self._begins)

    def price(self, energy_uj: int, start_wall_ns: int, end_wall_ns: int) -> Priced:
        """Price energy that flowed evenly from one moment of the wall clock to another.

        Each stretch gets whole microjoules, and the stretches sum to the whole. An interval without length,
        or one that ends before it starts because the wall clock was set back, is priced at its end.
        """
        parts = timeline.split(self.intensities, energy_uj, start_wall_ns, end_wall_ns, self._begins)
        grams, unpriced_uj = 0.0, 0
        for intensity, part_uj in parts:
            if intensity is None:
                unpriced_uj += part_uj
            else:
                grams += self.grams(part_uj, intensity)
        return Priced(grams, unpriced_uj, parts)

    def grams(self, energy_uj: int, intensity: Intensity) -> float:
        """What energy comes to under one figure."""
        return energy_uj / UJ_PER_KWH * self.pue * intensity.g_per_kwh

    def g_per_second(self, power_uw: int, wall_ns: int) -> float | None:
        """Grams in each second that a power lasts, at a moment; None where no intensity is known."""
        intensity = self.at(wall_ns)
        # A power of so many microwatts is that many microjoules in each second.
        return None if intensity is None else self.grams(power_uw, intensity)
