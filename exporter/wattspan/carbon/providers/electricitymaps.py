"""electricitymaps: most of the world by grid zone, by the hour, flow-traced, with a token.

``/carbon-intensity/{latest,history,forecast}`` of api.electricitymaps.com/v3, header `auth-token`; documented
at docs.electricitymaps.com. `latest` is one object: `zone`, `carbonIntensity` in gCO2eq/kWh, `datetime`, the
beginning of its hour, `emissionFactorType`, `isEstimated`; `history` has 24 of them under that name,
`forecast` pairs of `datetime` and `carbonIntensity` under its.
Average, with imports; over the life cycle or direct, as ``grid.basis`` says.
A free token has one zone and no forecast. Where the newest hour is not estimated, it has been over for up to
two hours (home-assistant/core, issue 78836; electricitymaps/electricitymaps-contrib, issue 4775).
For a zone that the service does not know, it answers for where it thinks that the caller is: that is switched
off here, and checked all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from wattspan.carbon.http import Http
from wattspan.carbon.providers import (
    HOUR_NS,
    MINUTE_NS,
    Options,
    figure_of,
    moment_of,
    require_secret,
    require_zone,
    shaped,
)
from wattspan.carbon.regions import regions
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal

NAME: Final = "electricitymaps"
URL: Final = "https://api.electricitymaps.com/v3"
RESOLUTION_NS: Final = HOUR_NS
FLOOR_NS: Final = 15 * MINUTE_NS
HOLD_NS: Final = 4 * HOUR_NS
"""Two hours late, an hour between two questions, and one to spare."""
ASK_AGAIN_NS: Final = 24 * HOUR_NS
"""What a plan does not have is asked for again after so long: plans change."""

NO_ZONES: Final = ("WORLD", "EU27")
"""Grid zones that are none of the service's."""


class ElectricityMaps:
    """One zone.

    Args:
        http: to ask with.
        url: of the API, with its version.
        grid_zone: what the figures are published under.
        zone: the service's word for it.
        secret: the token.
        basis: which factors the service is to use.
    """

    name: Final = NAME
    signal: Final[Signal] = "average"
    resolution_ns: Final = RESOLUTION_NS
    floor_ns: Final = FLOOR_NS
    hold_ns: Final = HOLD_NS
    attribution: Final = "Electricity Maps (electricitymaps.com), under the licence of the token's plan."

    def __init__(
        self, http: Http, url: str, grid_zone: str, zone: str, secret: Secret, basis: Basis = "lifecycle"
    ) -> None:
        self._http = http
        self._url = url
        self._grid_zone = grid_zone
        self._zone = zone
        self._secret = secret
        self.basis: Basis = basis
        self._refused_wall_ns: dict[str, int] = {}

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """The last day's hours, this one, and those ahead where the plan has them. Blocks.

        Each hour is known by the most certain of the three: the latest before the history, that before the
        forecast.
        """
        latest = self._ask("latest")
        forecast = self._ask_if_allowed("forecast", now_wall_ns)
        history = self._ask_if_allowed("history", now_wall_ns)
        figures: dict[int, Intensity] = {}
        with shaped(NAME):
            for rows, foreseen in (
                (forecast.get("forecast", ()), True),
                (history.get("history", ()), False),
                ((latest,), False),
            ):
                for figure in self._figures(rows, foreseen, now_wall_ns):
                    figures[figure.valid_from_wall_ns or 0] = figure
        return tuple(figures[begin] for begin in sorted(figures))

    def _ask_if_allowed(self, what: str, now_wall_ns: int) -> Mapping[str, Any]:
        """Empty where the plan does not have it: that must not cost what it does have."""
        refused_wall_ns = self._refused_wall_ns.get(what)
        if refused_wall_ns is not None and 0 <= now_wall_ns - refused_wall_ns < ASK_AGAIN_NS:
            return {}
        try:
            document = self._ask(what)
        except FetchError as error:
            if error.reason != "refused":
                raise
            self._refused_wall_ns[what] = now_wall_ns
            return {}
        self._refused_wall_ns.pop(what, None)
        return document

    def _ask(self, what: str) -> Mapping[str, Any]:
        document = self._http.get_json(
            f"{self._url}/carbon-intensity/{what}",
            {
                "zone": self._zone,
                "emissionFactorType": self.basis,
                "shouldUseFallbackCallerLookup": "false",
            },
            {"auth-token": self._secret.read()},
        )
        if not isinstance(document, dict):
            raise FetchError("malformed", f"{NAME}: {what}: an answer of another shape")
        require_zone(document.get("zone"), self._zone, f"{NAME}: {what}")
        return document

    def _figures(self, rows: Any, foreseen: bool, now_wall_ns: int) -> Iterator[Intensity]:
        for row in rows:
            g_per_kwh = figure_of(row["carbonIntensity"], NAME)
            if g_per_kwh is None:
                continue
            if (factors := row.get("emissionFactorType", self.basis)) != self.basis:
                raise FetchError("wrong_unit", f"{NAME}: asked for {self.basis}, got {factors!r:.40}")
            begin = moment_of(row["datetime"], NAME)
            estimated = foreseen or bool(row.get("isEstimated", True))
            how = "forecast" if foreseen else "estimated" if estimated else "measured"
            yield Intensity(
                g_per_kwh=g_per_kwh,
                valid_from_wall_ns=begin,
                valid_until_wall_ns=begin + RESOLUTION_NS,
                grid_zone=self._grid_zone,
                provider=NAME,
                signal=self.signal,
                basis=self.basis,
                estimated=estimated,
                fetched_wall_ns=now_wall_ns,
                origin=f"{how}. {self.attribution}",
            )


def provider(http: Http, options: Options) -> ElectricityMaps:
    """The grid zone, or the one that is given.

    Raises:
        SetupError: no token, or a country that the service knows by its parts alone.
    """
    require_secret(options.secret)
    zone = options.own_zone or options.zone
    if not options.own_zone:
        if zone in NO_ZONES:
            raise SetupError(
                f"grid.providers: {NAME} needs a place, and the grid zone is {zone};"
                f" set grid.zone, grid.region or grid.{NAME}.zone"
            )
        parts = sorted({region.zone for region in regions() if region.zone.startswith(f"{zone}-")})
        if parts:
            raise SetupError(
                f"grid.zone: {zone} is no zone of {NAME}, which has {', '.join(parts)} and others there;"
                f" set grid.zone or grid.{NAME}.zone to one of them"
            )
    return ElectricityMaps(
        http, options.url or URL, options.zone, zone, options.secret, options.basis or "lifecycle"
    )
