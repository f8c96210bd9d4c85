"""What electricity costs, and when. The currency is a label; nothing is ever converted."""

from dataclasses import dataclass
from typing import NamedTuple

from wattspan.carbon import timeline
from wattspan.model import Tariff
from wattspan.units import UJ_PER_KWH


class Costed(NamedTuple):
    """What an interval's energy costs.

    Attributes:
        cost: of the part whose price was known, PUE applied.
        uncosted_uj: energy for which no price was known, as it was metered, before PUE.
    """

    cost: float
    uncosted_uj: int


@dataclass(frozen=True, slots=True)
class Prices:
    """The tariffs at hand. What a source learns later comes as a new record.

    Attributes:
        tariffs: past to future, without overlaps; energy that flows in a gap has no cost.
        currency: ISO 4217 code, as the operator gave it.

    Raises:
        ValueError: tariffs that overlap or are out of order.
    """

    tariffs: tuple[Tariff, ...]
    currency: str

    def __post_init__(self) -> None:
        timeline.require_order(self.tariffs)

    def at(self, wall_ns: int) -> Tariff | None:
        """The tariff in force at a moment, or None where none is known."""
        return timeline.at(self.tariffs, wall_ns)

    def cost(self, energy_uj: int, pue: float, start_wall_ns: int, end_wall_ns: int) -> float:
        """What IT energy costs: the facility draws PUE times as much.

        What flowed in a gap is left out; `costed` says how much that is.
        """
        return self.costed(energy_uj, pue, start_wall_ns, end_wall_ns).cost

    def costed(self, energy_uj: int, pue: float, start_wall_ns: int, end_wall_ns: int) -> Costed:
        """What IT energy costs, and how much of it has no price.

        Costs are counters, so a price below 0, as spot markets have it at times, counts as 0.
        """
        cost, uncosted_uj = 0.0, 0
        for tariff, part_uj in timeline.split(self.tariffs, energy_uj, start_wall_ns, end_wall_ns):
            if tariff is None:
                uncosted_uj += part_uj
            else:
                cost += part_uj / UJ_PER_KWH * pue * max(tariff.per_kwh, 0.0)
        return Costed(cost, uncosted_uj)


def fixed(per_kwh: float, currency: str) -> Prices:
    """One price at all times."""
    return Prices((Tariff(per_kwh),), currency)
