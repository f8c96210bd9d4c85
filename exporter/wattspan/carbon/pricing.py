"""Energy to grams: the intensity that was valid while the energy flowed, times PUE, once. Pure arithmetic.

grams = sum over the stretches of E [kWh] x PUE x I [g/kWh].
Never a total times a mean intensity: that is wrong by the covariance of load and grid.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Final, NamedTuple

from wattspan.model import Intensity
from wattspan.units import UJ_PER_KWH

# Stand in for "no such end". Clocks are signed 64-bit nanoseconds, so every moment lies between the two.
_BEGINNING_NS: Final = -(2**63)
_END_NS: Final = 2**63


class Priced(NamedTuple):
    """What an interval's energy came to.

    Attributes:
        grams: operational CO2e of the part whose intensity was known, PUE applied.
        unpriced_uj: energy for which no intensity was known, as it was metered, before PUE.
    """

    grams: float
    unpriced_uj: int


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

    def __post_init__(self) -> None:
        if not (isfinite(self.pue) and self.pue >= 1):
            raise ValueError(f"no PUE: {self.pue}")
        for intensity in self.intensities:
            if not (isfinite(intensity.g_per_kwh) and intensity.g_per_kwh >= 0):
                raise ValueError(f"no intensity: {intensity}")
            if _until_ns(intensity) <= _from_ns(intensity):
                raise ValueError(f"valid at no time: {intensity}")
        for earlier, later in pairwise(self.intensities):
            if _until_ns(earlier) > _from_ns(later):
                raise ValueError(f"overlapping or out of order: {earlier} and {later}")

    def at(self, wall_ns: int) -> Intensity | None:
        """The intensity in force at a moment of the wall clock, or None where none is known."""
        index = self._index(wall_ns)
        if index < 0 or wall_ns >= _until_ns(self.intensities[index]):
            return None
        return self.intensities[index]

    def price(self, energy_uj: int, start_wall_ns: int, end_wall_ns: int) -> Priced:
        """Price energy that flowed evenly from one moment of the wall clock to another.

        Each stretch gets whole microjoules, and the stretches sum to the whole. An interval without length,
        or one that ends before it starts because the wall clock was set back, is priced at its end.
        """
        if end_wall_ns <= start_wall_ns:
            start_wall_ns, end_wall_ns = end_wall_ns, end_wall_ns + 1
        first = max(0, self._index(start_wall_ns))
        # The usual case, and the only one with a yearly figure: one intensity covers all of it.
        if self.intensities and _covers(self.intensities[first], start_wall_ns, end_wall_ns):
            return Priced(self._grams(energy_uj, self.intensities[first]), 0)

        elapsed_ns = end_wall_ns - start_wall_ns
        grams, unpriced_uj = 0.0, energy_uj
        for intensity in self.intensities[first:]:
            begins_ns = max(start_wall_ns, _from_ns(intensity))
            ends_ns = min(end_wall_ns, _until_ns(intensity))
            if begins_ns >= end_wall_ns:
                break
            if ends_ns <= begins_ns:  # it was over before the interval began
                continue
            # Energy until each end, rounded down, then the difference: neighbours lose nothing between them.
            until_begin_uj = energy_uj * (begins_ns - start_wall_ns) // elapsed_ns
            until_end_uj = energy_uj * (ends_ns - start_wall_ns) // elapsed_ns
            grams += self._grams(until_end_uj - until_begin_uj, intensity)
            unpriced_uj -= until_end_uj - until_begin_uj
        return Priced(grams, unpriced_uj)

    def g_per_second(self, power_uw: int, wall_ns: int) -> float | None:
        """Grams in each second that a power lasts, at a moment; None where no intensity is known."""
        intensity = self.at(wall_ns)
        # A power of so many microwatts is that many microjoules in each second.
        return None if intensity is None else self._grams(power_uw, intensity)

    def _index(self, wall_ns: int) -> int:
        """Of the last intensity that has begun; -1 before the first."""
        return bisect_right(self.intensities, wall_ns, key=_from_ns) - 1

    def _grams(self, energy_uj: int, intensity: Intensity) -> float:
        return energy_uj / UJ_PER_KWH * self.pue * intensity.g_per_kwh


def _from_ns(intensity: Intensity) -> int:
    return _BEGINNING_NS if intensity.valid_from_wall_ns is None else intensity.valid_from_wall_ns


def _until_ns(intensity: Intensity) -> int:
    return _END_NS if intensity.valid_until_wall_ns is None else intensity.valid_until_wall_ns


def _covers(intensity: Intensity, start_wall_ns: int, end_wall_ns: int) -> bool:
    return _from_ns(intensity) <= start_wall_ns and end_wall_ns <= _until_ns(intensity)
