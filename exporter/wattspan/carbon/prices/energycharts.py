"""energycharts: day-ahead prices of Europe's bidding zones, by Fraunhofer ISE.

``/price?bzn=DE-LU`` of api.energy-charts.info, no key, CC BY 4.0: parallel arrays ``unix_seconds`` and
``price``, in ``EUR / MWh``, by the hour or the quarter-hour; tomorrow's come in the early afternoon.
The price is the exchange's, without taxes, grid fees and margins.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from wattspan.carbon.http import Http
from wattspan.carbon.prices import Options, price_of
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS
from wattspan.errors import FetchError, SetupError
from wattspan.model import Tariff
from wattspan.units import KWH_PER_MWH, NS_PER_S

NAME: Final = "energycharts"
URL: Final = "https://api.energy-charts.info"
CURRENCY: Final = "EUR"
MAX_EUR_PER_KWH: Final = 20.0
"""Beyond what the exchanges allow: the harmonised limits of the European day-ahead market were -0.5 and 4 in
2024, and rise by one at a time."""


class EnergyCharts:
    """One bidding zone.

    Args:
        http: to ask with.
        url: of the API.
        zone: the bidding zone, as the service calls it.
    """

    name: Final = NAME
    resolution_ns: Final = HOUR_NS
    floor_ns: Final = 30 * MINUTE_NS
    hold_ns: Final = 2 * HOUR_NS
    attribution: Final = "Energy-Charts, Fraunhofer ISE. CC BY 4.0."

    def __init__(self, http: Http, url: str, zone: str) -> None:
        self._http = http
        self._url = url
        self._zone = zone

    def tariffs(self, now_wall_ns: int) -> Sequence[Tariff]:
        """From yesterday to as far ahead as prices are known. Blocks."""
        query = {
            "bzn": self._zone,
            "start": _day(now_wall_ns - 24 * HOUR_NS),
            "end": _day(now_wall_ns + 48 * HOUR_NS),
        }
        return tuple(_tariffs(self._http.get_json(f"{self._url}/price", query), now_wall_ns))


def _tariffs(document: Any, now_wall_ns: int) -> Iterator[Tariff]:
    try:
        unit = str(document["unit"])
        if unit.replace(" ", "") != f"{CURRENCY}/MWh":
            raise FetchError("wrong_unit", f"{NAME}: {unit!r:.40} instead of {CURRENCY} / MWh")
        times, prices = document["unix_seconds"], document["price"]
        if len(times) != len(prices):
            raise FetchError("malformed", f"{NAME}: as many times as prices were expected")
    except (KeyError, TypeError) as error:
        raise FetchError("malformed", f"{NAME}: an answer without {error}") from error
    begins = [_begin_ns(time) for time in times]
    for index, (begin_ns, price) in enumerate(zip(begins, prices, strict=True)):
        per_mwh = price_of(price, NAME)
        if per_mwh is None:
            continue
        per_kwh = per_mwh / KWH_PER_MWH
        if abs(per_kwh) > MAX_EUR_PER_KWH:
            raise FetchError("implausible", f"{NAME}: {per_mwh:g} {CURRENCY} / MWh is no price")
        yield Tariff(per_kwh, begin_ns, begin_ns + _length_ns(begins, index), NAME, now_wall_ns)


def _begin_ns(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds < 2**33:
        raise FetchError("malformed", f"{NAME}: {seconds!r:.40} is no time")
    return seconds * NS_PER_S


def _length_ns(begins: Sequence[int], index: int) -> int:
    """Until the next, an hour at most; the last is as long as the one before it."""
    steps = [later - earlier for earlier, later in pairwise(begins[max(0, index - 1) : index + 2])]
    return min(steps[-1], HOUR_NS) if steps else HOUR_NS


def _day(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // NS_PER_S, UTC):%Y-%m-%d}"


def source(http: Http, options: Options) -> EnergyCharts:
    """The bidding zone that is given.

    Raises:
        SetupError: none is given, or the currency is not the exchange's.
    """
    if not options.zone:
        raise SetupError(f"cost.provider: {NAME} needs a bidding zone; set cost.zone, such as DE-LU")
    if options.currency != CURRENCY:
        raise SetupError(
            f"cost.currency: {options.currency!r}, and prices of {NAME} are in {CURRENCY};"
            f" nothing is converted; allowed: {CURRENCY}"
        )
    return EnergyCharts(http, options.url or URL, options.zone)
