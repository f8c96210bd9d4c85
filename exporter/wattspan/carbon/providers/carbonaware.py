"""carbonaware: the web API of a Carbon Aware SDK, by the Green Software Foundation, that the operator runs.

``/emissions/bylocation`` gives what was observed, as ``location, time, rating, duration``;
``/emissions/forecasts/current`` what is foreseen, as ``location, timestamp, value, duration`` in minutes;
both in g/kWh. 204 where there is nothing to tell, 501 where its own source has no forecast; any other status
fails the answer as a whole.
The SDK passes on Electricity Maps, WattTime or a file, and does not say which: the operator says what its
figures mean, with ``grid.signal`` and ``grid.basis``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from typing import Any, Final

from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, figure_of, moment_of, require_zone
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal
from wattspan.units import NS_PER_S

NAME: Final = "carbonaware"

_NOTHING: Final = object()
"""In place of a document: there is nothing to tell, and nothing has failed."""

PAST_NS: Final = 24 * HOUR_NS
HOLD_NS: Final = 4 * HOUR_NS
"""As of Electricity Maps, the one of its own sources that is late."""

# A .NET TimeSpan as its JSON has it: [d.]hh:mm:ss[.fffffff]
_DURATION: Final = re.compile(r"(?:(\d{1,3})\.)?(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,7})?")


class CarbonAware:
    """One location of one SDK.

    Args:
        http: to ask with.
        url: of the web API.
        location: as the SDK is asked for it.
        answered: as it answers; WattTime's figures come under WattTime's region.
        grid_zone: what the figures are published under.
        signal, basis: what its figures mean.
    """

    name: Final = NAME
    resolution_ns: Final = HOUR_NS
    floor_ns: Final = 5 * MINUTE_NS
    hold_ns: Final = HOLD_NS
    attribution: Final = ""

    def __init__(
        self,
        http: Http,
        url: str,
        location: str,
        answered: str,
        grid_zone: str,
        signal: Signal,
        basis: Basis,
    ) -> None:
        self._http = http
        self._url = url
        self._location = location
        self._answered = answered
        self._grid_zone = grid_zone
        self.signal: Final = signal
        self.basis: Final = basis

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """What was observed in the last day and, where it has one, the forecast after that. Blocks."""
        query = {
            "location": self._location,
            "time": _stamp(now_wall_ns - PAST_NS),
            "toTime": _stamp(now_wall_ns),
        }
        observed = self._asked("emissions/bylocation", query, HTTPStatus.NO_CONTENT)
        rows = [] if observed is _NOTHING else observed
        figures = list(self._figures(rows, now_wall_ns, estimated=False))
        forecast = self._asked(
            "emissions/forecasts/current",
            {"location": self._location},
            HTTPStatus.NO_CONTENT,
            HTTPStatus.NOT_IMPLEMENTED,
        )
        if forecast is _NOTHING:
            return figures
        last_ns = figures[-1].valid_until_wall_ns or 0 if figures else 0
        ahead = self._figures(self._rows_of(forecast), now_wall_ns, estimated=True)
        return [*figures, *(figure for figure in ahead if (figure.valid_from_wall_ns or 0) >= last_ns)]

    def _asked(self, path: str, query: Mapping[str, str], *nothing: HTTPStatus) -> Any:
        """A document; `_NOTHING` where one of these statuses says that there is nothing.

        Raises:
            FetchError: another one came, or no document.
        """
        try:
            return self._http.get_json(f"{self._url}/{path}", query)
        except FetchError as error:
            if error.status in nothing:
                return _NOTHING
            raise

    def _rows_of(self, document: Any) -> Any:
        try:
            (one,) = document
            require_zone(one["location"], self._answered, NAME)
            return one["forecastData"] or []
        except (KeyError, TypeError, ValueError) as error:
            raise FetchError("malformed", f"{NAME}: not one forecast") from error

    def _figures(self, rows: Any, now_wall_ns: int, *, estimated: bool) -> Iterator[Intensity]:
        try:
            found = sorted(
                (moment_of(row["timestamp" if estimated else "time"], NAME), self._row(row, estimated))
                for row in rows
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FetchError("malformed", f"{NAME}: an answer without {error}") from error
        # What was observed last holds as long as it says; the others until the next one at most.
        nexts = [later for _, (later, _) in pairwise(found)]
        for index, (begin_ns, (g_per_kwh, length_ns)) in enumerate(found):
            end_ns = begin_ns + length_ns
            if index < len(nexts):
                end_ns = min(end_ns, nexts[index])
            if end_ns <= begin_ns:  # the same moment twice: the later one counts
                continue
            yield Intensity(
                g_per_kwh=g_per_kwh,
                valid_from_wall_ns=begin_ns,
                valid_until_wall_ns=end_ns,
                grid_zone=self._grid_zone,
                provider=NAME,
                signal=self.signal,
                basis=self.basis,
                estimated=estimated,
                fetched_wall_ns=now_wall_ns,
                origin=f"{'forecast' if estimated else 'observed'} of a Carbon Aware SDK, {self._answered}",
            )

    def _row(self, row: Any, estimated: bool) -> tuple[float, int]:
        require_zone(row["location"], self._answered, NAME)
        g_per_kwh = figure_of(row["value" if estimated else "rating"], NAME)
        if g_per_kwh is None:
            raise FetchError("malformed", f"{NAME}: a figure that is null")
        return g_per_kwh, _length_ns(row.get("duration"))


def _length_ns(duration: object) -> int:
    """Minutes as a number, or a time span as text; an hour where none is given."""
    if duration is None:
        return HOUR_NS
    if isinstance(duration, int) and not isinstance(duration, bool) and 0 <= duration <= 44640:
        return duration * MINUTE_NS or HOUR_NS
    if match := _DURATION.fullmatch(str(duration)):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return int(length.total_seconds()) * NS_PER_S or HOUR_NS
    raise FetchError("malformed", f"{NAME}: {duration!r:.40} is no duration")


def _stamp(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // NS_PER_S, UTC):%Y-%m-%dT%H:%M:%SZ}"


def provider(http: Http, options: Options) -> CarbonAware:
    """The location of the grid zone, or the one that is given, as ``location`` or ``location:answered``.

    Raises:
        SetupError: no URL, or nobody has said what its figures mean.
    """
    if not options.url:
        raise SetupError(f"grid.providers: {NAME} needs to know where the SDK is; set grid.{NAME}.url")
    if options.signal is None or options.basis is None:
        raise SetupError(
            f"grid.providers: {NAME} does not say what its figures mean; set grid.signal (average or"
            " marginal) and grid.basis (lifecycle or direct) to what the SDK's own source gives"
        )
    location, _, answered = (options.own_zone or options.zone).partition(":")
    return CarbonAware(
        http,
        options.url,
        location,
        answered or location,
        options.zone,
        options.signal,
        options.basis,
    )
