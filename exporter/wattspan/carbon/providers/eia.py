"""eia: what the balancing authorities of the United States generate, by fuel, times the factors of the
fuels.

``/v2/electricity/rto/fuel-type-data/data`` of api.eia.gov (Form EIA-930), with an API key. Megawatt-hours as
text, by the UTC hour that `period` ends (www.eia.gov/electricity/gridmonitor/about: "hour ending").
Average of the generation in the area, imports not traced; on either basis.
It is about a day late. The hours since the newest one, and the next 24, are those of the same time of day
before, as estimates: a grid of today resembles that of yesterday more than that of last year.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

from wattspan.carbon import fuels
from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, Options, moment_of, require_zone
from wattspan.carbon.secret import Secret
from wattspan.carbon.zones import balancing_authority_of
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal
from wattspan.units import NS_PER_S

NAME: Final = "eia"
URL: Final = "https://api.eia.gov"
PATH: Final = "/v2/electricity/rto/fuel-type-data/data"
PAST_NS: Final = 96 * HOUR_NS
"""How far back it is asked: 96 h of some 17 fuels are a third of the 5000 rows of an answer."""

MAX_AGE_NS: Final = 72 * HOUR_NS
"""Older than this, the newest hour stands for nothing now: a week-end may lie between."""

AHEAD_NS: Final = 24 * HOUR_NS
DAY_NS: Final = 24 * HOUR_NS
UNIT: Final = "megawatthours"


class Eia:
    """One balancing authority.

    Args:
        http: to ask with.
        url: of the API.
        secret: the API key; it stands in the query.
        zone: EIA's code of the balancing authority.
        grid_zone: what the figures are published under.
        basis: which of the factors.
    """

    name: Final = NAME
    signal: Final[Signal] = "average"
    resolution_ns: Final = HOUR_NS
    floor_ns: Final = HOUR_NS
    hold_ns: Final = 2 * HOUR_NS
    attribution: Final = "U.S. Energy Information Administration, Form EIA-930. Public domain."

    def __init__(self, http: Http, url: str, secret: Secret, zone: str, grid_zone: str, basis: Basis) -> None:
        self._http = http
        self._url = url
        self._secret = secret
        self._zone = zone
        self._grid_zone = grid_zone
        self.basis: Final = basis

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """The hours that are known of the last days, and what stands in for those since and ahead. Blocks."""
        query = {
            "frequency": "hourly",
            "data[0]": "value",
            "facets[respondent][]": self._zone,
            "start": _stamp(now_wall_ns - PAST_NS),
            "end": _stamp(now_wall_ns + HOUR_NS),
            "sort[0][column]": "period",
            "sort[0][direction]": "desc",
            "length": "5000",
            "api_key": self._secret.read(),
        }
        document = self._http.get_json(self._url + PATH, query)
        series = generation(document, self._zone)
        hours = fuels.by_moment(series, fuels.factors("eia", self.basis))
        if series and not hours:
            raise FetchError(
                "malformed", f"{NAME}: too much of the generation is of fuels without a {self.basis} factor"
            )
        return tuple(self._figures(hours, now_wall_ns))

    def _figures(self, hours: Mapping[int, float], now_wall_ns: int) -> Iterator[Intensity]:
        if not hours:
            return
        newest_ns = max(hours)
        if now_wall_ns - newest_ns > MAX_AGE_NS:
            raise FetchError("stale", f"{NAME}: the newest hour is more than 72 h old")
        for hour_ns, g_per_kwh in hours.items():
            yield self._figure(hour_ns, g_per_kwh, now_wall_ns, estimated=False)
        for hour_ns in range(newest_ns + HOUR_NS, now_wall_ns + AHEAD_NS, HOUR_NS):
            days = -((newest_ns - hour_ns) // DAY_NS)
            before = hours.get(hour_ns - days * DAY_NS)
            if before is not None:
                yield self._figure(hour_ns, before, now_wall_ns, estimated=True)

    def _figure(self, hour_ns: int, g_per_kwh: float, now_wall_ns: int, *, estimated: bool) -> Intensity:
        how = "the same hour of the newest day known (persistence)" if estimated else "measured"
        return Intensity(
            g_per_kwh=g_per_kwh,
            valid_from_wall_ns=hour_ns,
            valid_until_wall_ns=hour_ns + HOUR_NS,
            grid_zone=self._grid_zone,
            provider=NAME,
            signal=self.signal,
            basis=self.basis,
            estimated=estimated,
            fetched_wall_ns=now_wall_ns,
            origin=f"{how}; {fuels.ORIGIN}, {self._zone}. {self.attribution}",
        )


def generation(document: Any, zone: str) -> dict[str, dict[int, float]]:
    """Megawatt-hours by the hour's beginning, by fuel type. A null is left out.

    Raises:
        FetchError: it is no such document, or not for that balancing authority.
    """
    series: dict[str, dict[int, float]] = defaultdict(dict)
    try:
        for row in document["response"]["data"]:
            require_zone(row["respondent"], zone, NAME)
            unit = row.get("value-units", UNIT)
            if unit != UNIT:
                raise FetchError("wrong_unit", f"{NAME}: {unit!r:.40} instead of {UNIT}")
            if row["value"] is None:
                continue
            amount = float(row["value"])
            if not isfinite(amount):
                raise FetchError("implausible", f"{NAME}: no number of megawatt-hours")
            series[str(row["fueltype"])][moment_of(row["period"], NAME) - HOUR_NS] = amount
    except (KeyError, TypeError, AttributeError) as error:
        raise FetchError("malformed", f"{NAME}: an answer without {error}") from error
    except ValueError as error:
        raise FetchError("malformed", f"{NAME}: a value that is no number") from error
    return series


def _stamp(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // NS_PER_S, UTC):%Y-%m-%dT%H}"


def provider(http: Http, options: Options) -> Eia:
    """The balancing authority of the grid zone, or the one whose code is given.

    Raises:
        SetupError: no key, a marginal signal, or a zone whose balancing authority is not known.
    """
    if options.signal == "marginal":
        raise SetupError(f"grid.signal: 'marginal', and {NAME} has averages alone; allowed: average")
    if not options.secret.is_set:
        raise SetupError(
            f"grid.providers: {NAME} needs an API key; set grid.{NAME}.token-file"
            f" or {options.secret.variable or 'WATTSPAN_GRID_EIA_TOKEN'}"
        )
    zone = options.own_zone or balancing_authority_of(options.zone)
    if zone is None:
        raise SetupError(
            f"grid.providers: {NAME} knows no balancing authority for the grid zone {options.zone};"
            f" set grid.{NAME}.zone to EIA's code of it, such as CISO"
        )
    basis = options.basis or "lifecycle"
    return Eia(http, options.url or URL, options.secret, zone, options.zone, basis)
