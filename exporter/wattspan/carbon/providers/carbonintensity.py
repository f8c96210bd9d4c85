"""carbonintensity: Great Britain's half hours, measured and forecast 48 h ahead, by the National Energy
System Operator.

``/intensity/{from}/fw48h`` of api.carbonintensity.org.uk, no key; its documentation is the repository
carbon-intensity/api-definitions. Average, direct CO2 with imports and losses: lower than life-cycle figures.
`actual` is null for the current half hour and later, then `forecast` stands in as an estimate; regions have
forecasts alone.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from wattspan.carbon.http import Http
from wattspan.carbon.providers import MINUTE_NS, Options, figure_of, moment_of, shaped
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal
from wattspan.units import NS_PER_S

NAME: Final = "carbonintensity"
URL: Final = "https://api.carbonintensity.org.uk"
RESOLUTION_NS: Final = 30 * MINUTE_NS
REGIONS: Final = range(1, 18)


class CarbonIntensity:
    """Great Britain, or one of its regions.

    Args:
        http: to ask with.
        url: of the API.
        grid_zone: what the figures are published under.
        region: its id; None for the whole of Great Britain.
    """

    name: Final = NAME
    signal: Final[Signal] = "average"
    basis: Final[Basis] = "direct"
    resolution_ns: Final = RESOLUTION_NS
    floor_ns: Final = RESOLUTION_NS
    hold_ns: Final = 2 * RESOLUTION_NS
    attribution: Final = "National Energy System Operator, Carbon Intensity API. CC BY 4.0."

    def __init__(self, http: Http, url: str, grid_zone: str, region: int | None) -> None:
        self._http = http
        self._url = url
        self._grid_zone = grid_zone
        self._region = region

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """The half hours from an hour ago to 48 h from now. Blocks."""
        begin = datetime.fromtimestamp((now_wall_ns - 60 * MINUTE_NS) // NS_PER_S, UTC)
        path = f"/intensity/{begin:%Y-%m-%dT%H:%MZ}/fw48h"
        if self._region is not None:
            path = f"/regional{path}/regionid/{self._region}"
        document = self._http.get_json(self._url + path)
        return tuple(self._figures(document, now_wall_ns))

    def _figures(self, document: Any, now_wall_ns: int) -> Iterator[Intensity]:
        with shaped(NAME):
            rows = document["data"]
            if self._region is not None:
                if rows["regionid"] != self._region:
                    raise FetchError("wrong_zone", f"{NAME}: answered for region {rows['regionid']!r:.40}")
                rows = rows["data"]
            for row in rows:
                if (figure := self._figure(row, now_wall_ns)) is not None:
                    yield figure

    def _figure(self, row: Any, now_wall_ns: int) -> Intensity | None:
        actual = figure_of(row["intensity"].get("actual"), NAME)
        forecast = figure_of(row["intensity"].get("forecast"), NAME)
        g_per_kwh = forecast if actual is None else actual
        if g_per_kwh is None:
            return None
        return Intensity(
            g_per_kwh=g_per_kwh,
            valid_from_wall_ns=moment_of(row["from"], NAME),
            valid_until_wall_ns=moment_of(row["to"], NAME),
            grid_zone=self._grid_zone,
            provider=NAME,
            signal=self.signal,
            basis=self.basis,
            estimated=actual is None,
            fetched_wall_ns=now_wall_ns,
            origin=f"{'forecast' if actual is None else 'measured'}. {self.attribution}",
        )


def provider(http: Http, options: Options) -> CarbonIntensity:
    """Great Britain, or the region whose id is given.

    Raises:
        SetupError: another country, or no such region.
    """
    # Northern Ireland is fed by the all-island grid of Ireland.
    if options.zone.partition("-")[0] != "GB" or options.zone == "GB-NIR":
        raise SetupError(
            f"grid.providers: {NAME} knows Great Britain alone, and the grid zone is {options.zone};"
            " take it out, or set grid.zone to GB"
        )
    region = None
    if options.own_zone:
        if not options.own_zone.isdecimal() or int(options.own_zone) not in REGIONS:
            raise SetupError(f"grid.{NAME}.zone: {options.own_zone!r} is no region; allowed: 1 to 17")
        region = int(options.own_zone)
    return CarbonIntensity(http, options.url or URL, options.zone, region)
