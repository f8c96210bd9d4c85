"""What electricity costs, and when. The currency is a label; nothing is ever converted."""

from dataclasses import dataclass

from wattspan.carbon import timeline
from wattspan.model import Tariff
from wattspan.units import UJ_PER_KWH


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

        Costs are counters, so a price below 0, as spot markets have it at times, counts as 0.
        """
        parts = timeline.split(self.tariffs, energy_uj, start_wall_ns, end_wall_ns)
        return sum(
            part_uj / UJ_PER_KWH * pue * max(tariff.per_kwh, 0.0)
            for tariff, part_uj in parts
            if tariff is not None
        )


def fixed(per_kwh: float, currency: str) -> Prices:
    """One price at all times."""
    return Prices((Tariff(per_kwh),), currency)
