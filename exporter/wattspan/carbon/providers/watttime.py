"""watttime: many grids of the world by five minutes, marginal or average, with an account.

``/login``, ``/v3/forecast`` and ``/v3/historical`` of api.watttime.org; documented at docs.watttime.org.
Login is by Basic authentication and gives a `token` for 30 minutes. Both others answer with `data`, pairs of
`point_time` and `value`, and `meta`: `region`, `signal_type`, `units`, `data_point_period_seconds`.
`co2_moer`, the marginal rate, unless ``grid.signal`` is average: then `co2_aoer`. Both are CO2 that plants
emit, so direct, and both come out of models, so every figure is an estimate.
A marginal rate says what a decision changes; it is no footprint.
A free account has CAISO_NORTH.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
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
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal
from wattspan.units import G_PER_LB, KWH_PER_MWH, NS_PER_S

NAME: Final = "watttime"
URL: Final = "https://api.watttime.org"
RESOLUTION_NS: Final = 5 * MINUTE_NS
TOKEN_NS: Final = 25 * MINUTE_NS
"""A token is used for so long, five minutes short of its life."""

HORIZON_HOURS: Final = 48
"""Of 72 at most."""

ASK_AGAIN_NS: Final = 24 * HOUR_NS
"""What an account does not have is asked for again after so long."""

UNITS: Final = "lbs_co2_per_mwh"
SIGNAL_TYPES: Final[Mapping[Signal, str]] = {"marginal": "co2_moer", "average": "co2_aoer"}

REGIONS: Final[Mapping[str, str]] = {
    "AE": "ARE",
    "AU-NSW": "NEM_NSW",
    "AU-VIC": "NEM_VIC",
    "BE": "BE",
    "BH": "BHR",
    "CA-QC": "HQ",
    "CH": "CH",
    "DE": "DE",
    "ES": "ES",
    "FI": "FI",
    "FR": "FR",
    "GB": "UK",
    "IE": "IE",
    "IL": "ISR",
    "JP-KN": "JP_KN",
    "JP-TK": "JP_TK",
    "KR": "KOR",
    "NL": "NL",
    "PL": "PL",
    "QA": "QAT",
    "SA": "SAU",
    "SG": "SGP",
    "TW": "TWN",
    "US-CAR-SC": "SC",
    "US-NW-BPAT": "BPA",
    "US-NW-NEVP": "NEVP",
    "US-NW-PACE": "PACE",
    "ZA": "ZAF",
}
"""Its words for grid zones that it has whole, by the Green Software Foundation's Cloud Region Metadata.
Those that it parts, such as US-CAL-CISO or US-MIDA-PJM, are not here: a zone does not say which part a node
is in."""


class WattTime:
    """One region.

    Args:
        http: to ask with.
        url: of the API, without its version.
        grid_zone: what the figures are published under.
        region: the service's word for it.
        secret: ``user:password``.
        signal: which of the two rates.
    """

    name: Final = NAME
    basis: Final[Basis] = "direct"
    resolution_ns: Final = RESOLUTION_NS
    floor_ns: Final = RESOLUTION_NS
    hold_ns: Final = 2 * RESOLUTION_NS
    attribution: Final = "WattTime (watttime.org), under the licence of the account's plan."

    def __init__(
        self,
        http: Http,
        url: str,
        grid_zone: str,
        region: str,
        secret: Secret,
        signal: Signal = "marginal",
    ) -> None:
        self._http = http
        self._url = url
        self._grid_zone = grid_zone
        self._region = region
        self._secret = secret
        self.signal: Signal = signal
        self._token = ""
        self._token_wall_ns = 0
        self._no_history_wall_ns: int | None = None

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """The last hour where the account has it, and the hours ahead. Blocks."""
        forecast = self._ask("forecast", {"horizon_hours": str(HORIZON_HOURS)}, now_wall_ns)
        figures = {f.valid_from_wall_ns or 0: f for f in self._figures(forecast, "forecast", now_wall_ns)}
        for figure in self._figures(self._history(now_wall_ns), "historical", now_wall_ns):
            figures[figure.valid_from_wall_ns or 0] = figure
        return tuple(figures[begin] for begin in sorted(figures))

    def _history(self, now_wall_ns: int) -> Any:
        """Without data where the account does not have it: that must not cost the forecast."""
        refused_wall_ns = self._no_history_wall_ns
        if refused_wall_ns is not None and 0 <= now_wall_ns - refused_wall_ns < ASK_AGAIN_NS:
            return None
        span = {"start": _written(now_wall_ns - HOUR_NS), "end": _written(now_wall_ns)}
        try:
            document = self._ask("historical", span, now_wall_ns)
        except FetchError as error:
            if error.reason != "refused":
                raise
            self._no_history_wall_ns = now_wall_ns
            return None
        self._no_history_wall_ns = None
        return document

    def _ask(self, what: str, query: Mapping[str, str], now_wall_ns: int) -> Any:
        """With the token at hand, and once with a fresh one if it is refused: it may have been withdrawn."""
        if not self._token or not 0 <= now_wall_ns - self._token_wall_ns < TOKEN_NS:
            self._log_in(now_wall_ns)
        try:
            return self._get(what, query)
        except FetchError as error:
            # A token of this very moment that is refused has nothing to do with its age.
            if error.reason != "refused" or self._token_wall_ns == now_wall_ns:
                raise
        self._log_in(now_wall_ns)
        return self._get(what, query)

    def _get(self, what: str, query: Mapping[str, str]) -> Any:
        return self._http.get_json(
            f"{self._url}/v3/{what}",
            {"region": self._region, "signal_type": SIGNAL_TYPES[self.signal], **query},
            {"Authorization": f"Bearer {self._token}"},
        )

    def _log_in(self, now_wall_ns: int) -> None:
        self._token = ""
        account = self._secret.read()
        if ":" not in account:
            raise FetchError("refused", f"{self._secret.key}: allowed: user:password")
        basic = b64encode(account.encode()).decode()
        document = self._http.get_json(f"{self._url}/login", headers={"Authorization": f"Basic {basic}"})
        token = document.get("token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise FetchError("malformed", f"{NAME}: a login that gave no token")
        self._token, self._token_wall_ns = token, now_wall_ns

    def _figures(self, document: Any, how: str, now_wall_ns: int) -> Iterator[Intensity]:
        if document is None:
            return
        with shaped(NAME):
            meta = document["meta"]
            require_zone(meta["region"], self._region, NAME)
            if (meta["signal_type"], meta["units"]) != (SIGNAL_TYPES[self.signal], UNITS):
                told = f"{meta['signal_type']!r:.40} in {meta['units']!r:.40}"
                raise FetchError("wrong_unit", f"{NAME}: expected {UNITS}, got {told}")
            period_ns = _period_ns(meta.get("data_point_period_seconds", RESOLUTION_NS // NS_PER_S))
            for row in document["data"]:
                g_per_kwh = figure_of(row["value"], NAME, G_PER_LB / KWH_PER_MWH)
                if g_per_kwh is None:
                    continue
                begin = moment_of(row["point_time"], NAME)
                yield Intensity(
                    g_per_kwh=g_per_kwh,
                    valid_from_wall_ns=begin,
                    valid_until_wall_ns=begin + period_ns,
                    grid_zone=self._grid_zone,
                    provider=NAME,
                    signal=self.signal,
                    basis=self.basis,
                    estimated=True,
                    fetched_wall_ns=now_wall_ns,
                    origin=f"{how}. {self.attribution}",
                )


def _period_ns(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= 3600:
        raise FetchError("malformed", f"{NAME}: {seconds!r:.40} is no period")
    return seconds * NS_PER_S


def _written(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // NS_PER_S, UTC):%Y-%m-%dT%H:%MZ}"


def provider(http: Http, options: Options) -> WattTime:
    """The region that is given, or the one that the grid zone is, where that is sure.

    Raises:
        SetupError: no account, or no sure region.
    """
    require_secret(options.secret)
    region = options.own_zone or REGIONS.get(options.zone, "")
    if not region:
        raise SetupError(
            f"grid.{NAME}.zone: not set, and the grid zone {options.zone} does not say which region it is;"
            " allowed: a region of WattTime, such as CAISO_NORTH"
        )
    return WattTime(
        http, options.url or URL, options.zone, region, options.secret, options.signal or "marginal"
    )
