"""eco2mix: France, quarter hours as measured, by RTE, the operator of its grid.

Data set ``eco2mix-national-tr`` of ODRE (odre.opendatasoft.com), by Opendatasoft's API "explore" v2.1, no
key: `results`, each with `date_heure`, by ISO 8601 with an offset, `taux_co2`, whole grams per kWh, and
`perimetre`. Rows for later today are there already, with null.
Average, direct: what French plants burn, without imports and without the rest of a life cycle, and so about
a third of a life-cycle figure. No forecast.
"""

from collections.abc import Sequence
from typing import Any, Final

from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, figure_of, moment_of, require_zone, shaped
from wattspan.errors import SetupError
from wattspan.model import Basis, Intensity, Signal

NAME: Final = "eco2mix"
URL: Final = "https://odre.opendatasoft.com"
PATH: Final = "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
STEP_NS: Final = 15 * MINUTE_NS
"""How long one figure holds."""

HOLD_NS: Final = 4 * HOUR_NS
"""Renewed once an hour, the newest row is one to two hours old; an hour between two questions, and one to
spare."""

ROWS: Final = 100
"""The most that the service gives at once: a day and an hour."""

PERIMETER: Final = "France"
"""What the national data set calls its place; the regional ones have other words."""


class Eco2mix:
    """The mainland of France.

    Args:
        http: to ask with.
        url: of the portal.
        grid_zone: what the figures are published under.
    """

    name: Final = NAME
    signal: Final[Signal] = "average"
    basis: Final[Basis] = "direct"
    # The data set is renewed once an hour: by then its newest quarter hour is over for as long.
    resolution_ns: Final = HOUR_NS
    floor_ns: Final = STEP_NS
    hold_ns: Final = HOLD_NS
    attribution: Final = "RTE, eCO2mix, by way of ODRE. Licence Ouverte 2.0 (Etalab)."

    def __init__(self, http: Http, url: str, grid_zone: str) -> None:
        self._http = http
        self._url = url
        self._grid_zone = grid_zone

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """The last day's quarter hours. Blocks."""
        document = self._http.get_json(
            self._url + PATH,
            {
                "select": "date_heure,taux_co2,perimetre",
                "where": "taux_co2 is not null",
                "order_by": "date_heure desc",
                "limit": str(ROWS),
                "timezone": "UTC",
            },
        )
        figures: dict[int, Intensity] = {}
        with shaped(NAME):
            for row in document["results"]:
                figure = self._figure(row, now_wall_ns)
                if figure is not None:
                    # RTE's days have 96 rows even when clocks go forward: one hour is then there twice.
                    figures.setdefault(figure.valid_from_wall_ns or 0, figure)
        return tuple(figures[begin] for begin in sorted(figures))

    def _figure(self, row: Any, now_wall_ns: int) -> Intensity | None:
        require_zone(row["perimetre"], PERIMETER, NAME)
        g_per_kwh = figure_of(row["taux_co2"], NAME)
        if g_per_kwh is None:
            return None
        begin = moment_of(row["date_heure"], NAME)
        return Intensity(
            g_per_kwh=g_per_kwh,
            valid_from_wall_ns=begin,
            valid_until_wall_ns=begin + STEP_NS,
            grid_zone=self._grid_zone,
            provider=NAME,
            signal=self.signal,
            basis=self.basis,
            estimated=False,
            fetched_wall_ns=now_wall_ns,
            origin=f"measured. {self.attribution}",
        )


def provider(http: Http, options: Options) -> Eco2mix:
    """France.

    Raises:
        SetupError: another country, or one of its islands, which have grids of their own.
    """
    if options.zone != "FR":
        raise SetupError(
            f"grid.providers: {NAME} knows the mainland of France alone, and the grid zone is {options.zone};"
            " take it out, or set grid.zone to FR"
        )
    return Eco2mix(http, options.url or URL, options.zone)
