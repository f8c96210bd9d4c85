"""energycharts: Europe by country, measured and forecast to the end of the next day, by Fraunhofer ISE.

``/co2eq?country=de`` of api.energy-charts.info, no key, two requests a minute; its documentation is
``/openapi.json`` there. Today's quarter hours as arrays side by side: `unix_seconds`, which are beginnings,
`co2eq` in gCO2eq/kWh, null where not yet measured, `co2eq_forecast`, null where not forecast, and
`deprecated`, which announces the end of the endpoint.
Average over what the country generates, imports left out. The service counts equivalents and does not say
over which stages: they are taken for life-cycle figures, which their height agrees with.
Countries without a forecast have what was measured alone, and that comes late: most of it is ENTSO-E's, by
the sources that www.energy-charts.info names.
The answer does not name its country, so that it cannot be checked.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, figure_of, shaped
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal
from wattspan.units import NS_PER_S

logger = logging.getLogger(__name__)

NAME: Final = "energycharts"
URL: Final = "https://api.energy-charts.info"
RESOLUTION_NS: Final = 15 * MINUTE_NS
HOLD_NS: Final = 7 * HOUR_NS
"""As late as ENTSO-E's; see `wattspan.carbon.providers.entsoe`."""

COUNTRIES: Final = (
    *("al", "am", "at", "az", "ba", "be", "bg", "by", "ch", "cy", "cz", "de", "dk", "ee", "es", "eu", "fi"),
    *("fr", "ge", "gr", "hr", "hu", "ie", "it", "lt", "lu", "lv", "md", "me", "mk", "mt", "nie", "nl", "no"),
    *("pl", "pt", "ro", "rs", "ru", "se", "si", "sk", "tr", "ua", "uk", "xk"),
)
"""Its words for countries, which are those of ISO 3166-1 in lower case but for those in `_OTHER_WORDS`."""

_OTHER_WORDS: Final = {"GB": "uk", "GB-NIR": "nie", "GB-ORK": "uk", "GB-SHI": "uk", "EU27": "eu"}


class EnergyCharts:
    """One country.

    Args:
        http: to ask with.
        url: of the API.
        grid_zone: what the figures are published under.
        country: the service's word for it.
    """

    name: Final = NAME
    signal: Final[Signal] = "average"
    basis: Final[Basis] = "lifecycle"
    resolution_ns: Final = RESOLUTION_NS
    floor_ns: Final = RESOLUTION_NS
    hold_ns: Final = HOLD_NS
    attribution: Final = "Fraunhofer ISE, Energy-Charts. CC BY 4.0."

    def __init__(self, http: Http, url: str, grid_zone: str, country: str) -> None:
        self._http = http
        self._url = url
        self._grid_zone = grid_zone
        self._country = country
        self._announced = False

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """Today's quarter hours, and those ahead. Blocks."""
        document = self._http.get_json(f"{self._url}/co2eq", {"country": self._country})
        return tuple(self._figures(document, now_wall_ns))

    def _figures(self, document: Any, now_wall_ns: int) -> Iterator[Intensity]:
        with shaped(NAME):
            if document.get("deprecated") and not self._announced:
                self._announced = True
                logger.warning("grid: provider %s: the service is about to withdraw what is asked", NAME)
            begins = [_moment_of(seconds) for seconds in document["unix_seconds"]]
            measured = document["co2eq"]
            forecast = document.get("co2eq_forecast") or [None] * len(begins)
            for begin, end, *values in zip(begins, _ends(begins), measured, forecast, strict=True):
                # A grid that emits nothing over the life cycle of its plants does not exist: a zero is what
                # the service writes before it has anything to count, and so means the same as null.
                is_measured, is_forecast = (figure_of(value, NAME) or None for value in values)
                g_per_kwh = is_forecast if is_measured is None else is_measured
                if g_per_kwh is None:
                    continue
                yield Intensity(
                    g_per_kwh=g_per_kwh,
                    valid_from_wall_ns=begin,
                    valid_until_wall_ns=end,
                    grid_zone=self._grid_zone,
                    provider=NAME,
                    signal=self.signal,
                    basis=self.basis,
                    estimated=is_measured is None,
                    fetched_wall_ns=now_wall_ns,
                    origin=f"{'forecast' if is_measured is None else 'measured'}. {self.attribution}",
                )


def _moment_of(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise FetchError("malformed", f"{NAME}: {seconds!r:.40} is no time")
    return seconds * NS_PER_S


def _ends(begins: Sequence[int]) -> list[int]:
    """Each holds until the next begins, nulls included, and for an hour at most: some countries have hours.
    The last holds for as long as the one before."""
    ends = [min(following, begin + HOUR_NS) for begin, following in pairwise(begins)]
    if begins:
        ends.append(begins[-1] + (ends[-1] - begins[-2] if ends else RESOLUTION_NS))
    return ends


def provider(http: Http, options: Options) -> EnergyCharts:
    """The country that the zone is in, or the one that is given.

    Raises:
        SetupError: a country that the service does not have.
    """
    zone = options.zone.upper()
    country = options.own_zone.lower() or _OTHER_WORDS.get(zone) or zone.partition("-")[0].lower()
    if country not in COUNTRIES:
        key = f"grid.{NAME}.zone: {options.own_zone!r}" if options.own_zone else f"grid.zone: {options.zone}"
        raise SetupError(
            f"{key} is no country that {NAME} has; allowed with it: {', '.join(COUNTRIES)};"
            " else take it out of grid.providers"
        )
    return EnergyCharts(http, options.url or URL, options.zone, country)
