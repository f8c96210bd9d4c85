"""carbon: joules in, grams out.

Providers say what the grid emits and when (`Intensity`); `pricing` turns an interval's energy into grams.
This room knows no device and no run, and nothing here is called on the sampling path but pure arithmetic
over the intensities already at hand.
"""

from collections.abc import Sequence
from typing import Protocol

from wattspan.model import Basis, Intensity, Signal


class Provider(Protocol):
    """A source of grid intensity: one file, one line in the table, one fixture, one test."""

    @property
    def name(self) -> str:
        """The module's name, such as ``static``; the label `provider`."""

    @property
    def signal(self) -> Signal:
        """What its figures mean: average or marginal."""

    @property
    def basis(self) -> Basis:
        """What its figures count: lifecycle or direct emissions."""

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """What is known of the zone, past to future, without overlaps.

        The static provider answers from memory; live ones may block and are never called while sampling.

        Raises:
            ReadError: the provider did not answer, or answered nonsense.
        """
