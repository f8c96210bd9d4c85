"""static: a yearly figure carried in the package, so that there is a number without network or key."""

from collections.abc import Sequence
from typing import Final

from wattspan.carbon.countries import ATTRIBUTION, BASIS, find_country
from wattspan.model import Basis, Intensity, Signal


class StaticProvider:
    """The yearly mean of one country, valid without end.

    Marked as estimated: the grid of this minute is rarely the mean of a past year.

    Args:
        zone: a country, an aggregate, or a zone within a country, which gets that country's figure.
            One without a usable figure yields nothing, and the chain steps down.
    """

    name: Final = "static"
    signal: Final[Signal] = "average"
    basis: Final[Basis] = BASIS

    def __init__(self, zone: str) -> None:
        self._intensities = _figures(zone)

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:  # noqa: ARG002 - a year's mean holds at any time
        """The row's figure, or nothing when it has none. Answers from memory."""
        return self._intensities


def _figures(zone: str) -> tuple[Intensity, ...]:
    country = find_country(zone)
    if country is None or country.g_per_kwh is None:
        return ()
    what = f"{country.name}, {country.year}"
    figure = Intensity(
        g_per_kwh=country.g_per_kwh,
        valid_from_wall_ns=None,
        valid_until_wall_ns=None,
        grid_zone=country.zone,
        provider=StaticProvider.name,
        signal=StaticProvider.signal,
        basis=StaticProvider.basis,
        estimated=True,
        origin=f"{what} ({country.caution}). {ATTRIBUTION}" if country.caution else f"{what}. {ATTRIBUTION}",
    )
    return (figure,)
