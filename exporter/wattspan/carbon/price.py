"""What electricity costs. The currency is a label; nothing is ever converted."""

from dataclasses import dataclass

from wattspan.units import UJ_PER_KWH


@dataclass(frozen=True, slots=True)
class Price:
    """A fixed price.

    Attributes:
        per_kwh: of electricity at the facility's meter, in `currency`.
        currency: ISO 4217 code, as the operator gave it.
    """

    per_kwh: float
    currency: str

    def cost(self, energy_uj: int, pue: float) -> float:
        """What this IT energy costs: the facility draws PUE times as much."""
        return energy_uj / UJ_PER_KWH * pue * self.per_kwh
