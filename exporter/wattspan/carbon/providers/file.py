"""file: a JSON file that something else keeps up to date: a job that asks a service we do not know, or a
figure of the operator's own.

Its members: ``signal`` (average, marginal), ``basis`` (lifecycle, direct), ``unit`` (``g/kWh``),
``intervals`` (an array of ``from``, ``until``, ``grams_per_kwh``, and ``estimated`` where it is not false),
and, if wanted, ``zone`` and ``origin``. Times are by ISO 8601; one without an offset is UTC.
Replace the file as a whole (write another, then rename it): one that is half written is refused.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from wattspan.carbon import jsonfile
from wattspan.carbon.countries import WORLD
from wattspan.carbon.http import Http
from wattspan.carbon.providers import MINUTE_NS, Options, figure_of, require_zone
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal

NAME: Final = "file"
UNIT: Final = "g/kWh"


class File:
    """One file.

    Args:
        path: where it is.
        zone: that its figures are for; ``WORLD`` for any.
        signal, basis: what its figures must mean.
    """

    name: Final = NAME
    resolution_ns: Final = 5 * MINUTE_NS
    floor_ns: Final = MINUTE_NS
    hold_ns: Final = 10 * MINUTE_NS
    attribution: Final = ""

    def __init__(self, path: Path, zone: str, signal: Signal, basis: Basis) -> None:
        self._path = path
        self._zone = zone
        self.signal: Final = signal
        self.basis: Final = basis

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """All that it says."""
        document = jsonfile.read(self._path)
        for member, wanted in (("signal", self.signal), ("basis", self.basis)):
            if document.get(member) != wanted:
                raise FetchError(
                    "wrong_unit",
                    f"{self._path}: {member}: {document.get(member)!r:.40} instead of {wanted};"
                    f" mend it, or set grid.{member}",
                )
        if document.get("unit") != UNIT:
            raise FetchError(
                "wrong_unit", f"{self._path}: unit: {document.get('unit')!r:.40} instead of {UNIT}"
            )
        if document.get("zone") is not None and self._zone != WORLD:
            require_zone(document["zone"], self._zone, f"{self._path}: zone")
        return tuple(self._figures(document, now_wall_ns))

    def _figures(self, document: dict[str, Any], now_wall_ns: int) -> Iterator[Intensity]:
        zone, origin = document.get("zone") or self._zone, document.get("origin", "")
        if not isinstance(origin, str):
            raise FetchError("malformed", f"{self._path}: origin: not a text")
        for row in jsonfile.intervals(document, self._path):
            estimated = row.members.get("estimated", False)
            if not isinstance(estimated, bool):
                raise FetchError("malformed", f"{row.where}.estimated: neither true nor false")
            if "grams_per_kwh" not in row.members:
                raise FetchError("malformed", f"{row.where}.grams_per_kwh: missing")
            g_per_kwh = figure_of(row.members["grams_per_kwh"], f"{row.where}.grams_per_kwh")
            if g_per_kwh is None:
                continue
            yield Intensity(
                g_per_kwh=g_per_kwh,
                valid_from_wall_ns=row.from_wall_ns,
                valid_until_wall_ns=row.until_wall_ns,
                grid_zone=str(zone),
                provider=NAME,
                signal=self.signal,
                basis=self.basis,
                estimated=estimated,
                fetched_wall_ns=now_wall_ns,
                origin=origin or str(self._path),
            )


def provider(http: Http, options: Options) -> File:  # noqa: ARG001 - a file needs no network
    """The file that is configured; it may come later than the daemon.

    Raises:
        SetupError: none is configured.
    """
    if options.path is None:
        raise SetupError(f"grid.providers: {NAME} needs a file; set grid.{NAME}.path")
    return File(options.path, options.zone, options.signal or "average", options.basis or "lifecycle")
