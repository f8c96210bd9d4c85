"""carbon: joules in, grams and money out.

Providers say what the grid emits and when (`Intensity`); the chain chooses among them; `pricing` turns an
interval's energy into grams, `price` into money.
This room knows no device and no run, and nothing here is called on the sampling path but pure arithmetic
over the figures already at hand: a thread of its own fetches.
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
        """What is known of the zone, past to future, without overlaps; forecasts are among them.

        Those without network answer from memory; live ones block and are never called while sampling.

        Raises:
            FetchError: the provider did not answer, or answered nonsense.
        """


class LiveProvider(Provider, Protocol):
    """A provider whose figures come and go."""

    @property
    def resolution_ns(self) -> int:
        """How long one of its figures holds."""

    @property
    def floor_ns(self) -> int:
        """It is asked no more often than this."""

    @property
    def hold_ns(self) -> int:
        """Its last good figure stands in for so long after its own time is over.

        Twice the resolution bears a question or two that fail. Where figures come late, it is the longest
        delay that is known, a period until the next question, and an hour for what goes wrong: a source that
        is only late, as it always is, must not be left.
        """

    @property
    def attribution(self) -> str:
        """The line that its licence wants shown with its figures; empty when it wants none."""
