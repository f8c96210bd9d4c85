"""prometheus: one series of a Prometheus, in grams per kWh, by an instant query.

For grids that somebody else's exporter knows, and for a cluster in which one daemon asks for all.
The operator says what the figure means, with ``grid.signal`` and ``grid.basis``; without them it is an
average over the life cycle.
"""

from collections.abc import Sequence
from typing import Final

from wattspan.carbon import promql
from wattspan.carbon.http import Http, place
from wattspan.carbon.providers import MINUTE_NS, Options, figure_of
from wattspan.carbon.secret import Secret
from wattspan.errors import SetupError
from wattspan.model import Basis, Intensity, Signal

NAME: Final = "prometheus"
RESOLUTION_NS: Final = 5 * MINUTE_NS
"""How long an instant value is taken to hold: Prometheus itself looks back so far by default."""


class Prometheus:
    """One query.

    Args:
        http: to ask with.
        url: of the Prometheus.
        query: PromQL of one series.
        secret: a bearer token; none is sent where it is not set.
        grid_zone: what the figures are published under.
        signal, basis: what its figures mean.
    """

    name: Final = NAME
    resolution_ns: Final = RESOLUTION_NS
    floor_ns: Final = MINUTE_NS
    hold_ns: Final = 2 * RESOLUTION_NS
    attribution: Final = ""

    def __init__(
        self, http: Http, url: str, query: str, secret: Secret, grid_zone: str, signal: Signal, basis: Basis
    ) -> None:
        self._http = http
        self._url = url
        self._query = query
        self._secret = secret
        self._grid_zone = grid_zone
        self.signal: Final = signal
        self.basis: Final = basis

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """The value of now. Blocks."""
        sample = promql.ask(self._http, self._url, self._query, self._secret)
        g_per_kwh = figure_of(sample.value, f"{NAME}: {place(self._url)}")
        if g_per_kwh is None:
            return ()
        figure = Intensity(
            g_per_kwh=g_per_kwh,
            valid_from_wall_ns=sample.wall_ns,
            valid_until_wall_ns=sample.wall_ns + RESOLUTION_NS,
            grid_zone=self._grid_zone,
            provider=NAME,
            signal=self.signal,
            basis=self.basis,
            estimated=False,
            fetched_wall_ns=now_wall_ns,
            origin=f"{self._query} at {place(self._url)}",
        )
        return (figure,)


def provider(http: Http, options: Options) -> Prometheus:
    """The query that is configured.

    Raises:
        SetupError: there is none, or no URL.
    """
    for key, value in (("url", options.url), ("query", options.query)):
        if not value:
            raise SetupError(f"grid.providers: {NAME} needs a {key}; set grid.{NAME}.{key}")
    return Prometheus(
        http,
        options.url,
        options.query,
        options.secret,
        options.zone,
        options.signal or "average",
        options.basis or "lifecycle",
    )
