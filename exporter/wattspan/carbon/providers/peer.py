"""peer: another Wattspan, so that one daemon of a cluster asks the services and the others ask it.

``/api/v1/grid`` and ``/api/v1/grid/forecast``, with a password where the peer has one. What the peer takes
from its own tables is passed over: it knows no more than we do.
A peer may itself ask a peer; the way is kept in `origin`, and a figure that has gone by `MAX_HOPS` of them
goes no further, so that daemons that ask each other do not keep an old figure alive.
"""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from wattspan.carbon.countries import WORLD
from wattspan.carbon.http import Http, place
from wattspan.carbon.providers import MINUTE_NS, Options, figure_of, moment_of, require_zone
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal

NAME: Final = "peer"
RESOLUTION_NS: Final = 15 * MINUTE_NS
MAX_HOPS: Final = 3
"""A node asks its cluster's daemon, which asks its site's, which asks the services: two, and one to spare."""

BY_WAY_OF: Final = "by way of "


class Peer:
    """One other daemon.

    Args:
        http: to ask with.
        url: of its API.
        secret: ``user:password``; none is sent where it is not set.
        zone: that its figures must be for; ``WORLD`` for any.
        signal, basis: what its figures must mean.
    """

    name: Final = NAME
    resolution_ns: Final = RESOLUTION_NS
    floor_ns: Final = MINUTE_NS
    hold_ns: Final = 2 * RESOLUTION_NS
    attribution: Final = ""

    def __init__(self, http: Http, url: str, secret: Secret, zone: str, signal: Signal, basis: Basis) -> None:
        self._http = http
        self._url = url
        self._secret = secret
        self._zone = zone
        self._where = place(url)
        self.signal: Final = signal
        self.basis: Final = basis

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """What the peer prices with now, and its forecast. Blocks."""
        headers = self._headers()
        current = self._http.get_json(f"{self._url}/api/v1/grid", headers=headers)
        ahead = self._http.get_json(f"{self._url}/api/v1/grid/forecast", headers=headers)
        try:
            in_force = self._figure(current["intensity"], now_wall_ns)
            if in_force is None:
                raise FetchError("stale", f"{NAME}: {self._where}: knows no figure but a yearly one")
            figures = [self._held(in_force, now_wall_ns)]
            forecast = [self._figure(row, now_wall_ns) for row in ahead["intervals"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise FetchError("malformed", f"{NAME}: {self._where}: an answer without {error}") from error
        known = [figure for figure in forecast if figure is not None]
        for figure in sorted(known, key=lambda each: each.valid_from_wall_ns or 0):
            begin_ns, last = figure.valid_from_wall_ns or 0, figures[-1]
            if begin_ns <= (last.valid_from_wall_ns or 0):
                continue
            figures[-1] = replace(last, valid_until_wall_ns=min(last.valid_until_wall_ns or 0, begin_ns))
            figures.append(figure)
        return figures

    def _headers(self) -> dict[str, str]:
        if not self._secret.is_set:
            return {}
        password = base64.b64encode(self._secret.read().encode()).decode()
        return {"Authorization": f"Basic {password}"}

    def _held(self, figure: Intensity, now_wall_ns: int) -> Intensity:
        """A figure that the peer holds on to past its end is held here until the peer is asked again.

        Not one that the peer has from a peer: in a ring of them, each would hold it for the next.
        """
        if (figure.valid_until_wall_ns or 0) > now_wall_ns or figure.origin.count(BY_WAY_OF) > 1:
            return figure
        return replace(figure, valid_until_wall_ns=now_wall_ns + RESOLUTION_NS, estimated=True)

    def _figure(self, row: Any, now_wall_ns: int) -> Intensity | None:
        """One figure of the peer; None for a yearly one, and where there is none."""
        if row is None or row["valid_until"] is None or row["valid_from"] is None:
            return None
        what = f"{NAME}: {self._where}"
        if (row["signal"], row["basis"]) != (self.signal, self.basis):
            raise FetchError(
                "wrong_unit",
                f"{what}: its figures are {row['signal']!r:.20} {row['basis']!r:.20}, not {self.signal}"
                f" {self.basis}; set grid.signal and grid.basis to what the peer has",
            )
        if self._zone != WORLD:
            require_zone(row["grid_zone"], self._zone, what)
        g_per_kwh = figure_of(row["grams_per_kwh"], what)
        if g_per_kwh is None:
            return None
        origin = f"{BY_WAY_OF}{self._where}; {row['provider']}: {row['origin']}"
        if origin.count(BY_WAY_OF) > MAX_HOPS:
            raise FetchError("stale", f"{what}: a figure that has gone by more than {MAX_HOPS} peers")
        return Intensity(
            g_per_kwh=g_per_kwh,
            valid_from_wall_ns=moment_of(row["valid_from"], what),
            valid_until_wall_ns=moment_of(row["valid_until"], what),
            grid_zone=str(row["grid_zone"]),
            provider=NAME,
            signal=self.signal,
            basis=self.basis,
            estimated=row["estimated"] is not False,
            fetched_wall_ns=now_wall_ns,
            origin=origin,
        )


def provider(http: Http, options: Options) -> Peer:
    """The daemon at the URL that is given.

    Raises:
        SetupError: there is no URL.
    """
    if not options.url:
        raise SetupError(f"grid.providers: {NAME} needs to know where the other is; set grid.{NAME}.url")
    return Peer(
        http,
        options.url,
        options.secret,
        options.zone,
        options.signal or "average",
        options.basis or "lifecycle",
    )
