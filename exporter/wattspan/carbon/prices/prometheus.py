"""prometheus: one series of a Prometheus, per kWh in the currency of the settings, by an instant query."""

from collections.abc import Sequence
from typing import Final

from wattspan.carbon import promql
from wattspan.carbon.http import Http, place
from wattspan.carbon.prices import Options, price_of
from wattspan.carbon.providers import MINUTE_NS
from wattspan.errors import SetupError
from wattspan.model import Tariff

NAME: Final = "prometheus"
RESOLUTION_NS: Final = 5 * MINUTE_NS


class Prometheus:
    """One query.

    Args:
        http: to ask with.
        url: of the Prometheus.
        query: PromQL of one series.
    """

    name: Final = NAME
    resolution_ns: Final = RESOLUTION_NS
    floor_ns: Final = MINUTE_NS
    hold_ns: Final = 2 * RESOLUTION_NS
    attribution: Final = ""

    def __init__(self, http: Http, url: str, query: str) -> None:
        self._http = http
        self._url = url
        self._query = query

    def tariffs(self, now_wall_ns: int) -> Sequence[Tariff]:
        """The price of now. Blocks."""
        sample = promql.ask(self._http, self._url, self._query)
        per_kwh = price_of(sample.value, f"{NAME}: {place(self._url)}")
        if per_kwh is None:
            return ()
        return (Tariff(per_kwh, sample.wall_ns, sample.wall_ns + RESOLUTION_NS, NAME, now_wall_ns),)


def source(http: Http, options: Options) -> Prometheus:
    """The query that is configured.

    Raises:
        SetupError: there is none, or no URL.
    """
    for key, value in (("url", options.url), ("query", options.query)):
        if not value:
            raise SetupError(f"cost.provider: {NAME} needs a {key}; set cost.{key}")
    return Prometheus(http, options.url, options.query)
