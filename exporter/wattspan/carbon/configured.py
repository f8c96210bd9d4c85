"""configured: the figure that the operator has set, valid without end."""

from collections.abc import Sequence
from typing import Final

from wattspan.model import Basis, Intensity, Signal

NO_ZONE: Final = "configured"
"""The zone of a figure that was set without saying where."""


class ConfiguredProvider:
    """One explicit figure, the setting ``grid.intensity``.

    It is taken at its word: an average over the life cycle, and no estimate, since whoever set it knows the
    grid better than the table. A direct, marginal or market-based figure does not belong here: it would stand
    under the label ``lifecycle``.

    Args:
        g_per_kwh: lifecycle grams of CO2e per kilowatt-hour; the range is checked where settings are read.
        grid_zone: where it is for; `NO_ZONE` when nobody said.
    """

    name: Final = "configured"
    signal: Final[Signal] = "average"
    basis: Final[Basis] = "lifecycle"

    def __init__(self, g_per_kwh: float, grid_zone: str) -> None:
        self._intensities = (
            Intensity(
                g_per_kwh=g_per_kwh,
                valid_from_wall_ns=None,
                valid_until_wall_ns=None,
                grid_zone=grid_zone,
                provider=self.name,
                signal=self.signal,
                basis=self.basis,
                estimated=False,
                origin="the setting grid.intensity",
            ),
        )

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:  # noqa: ARG002 - what is set holds at any time
        """The figure. Answers from memory."""
        return self._intensities
