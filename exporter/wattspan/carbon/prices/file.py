"""file: a JSON file with prices that something else keeps up to date.

Its members: ``currency``, and ``intervals`` (an array of ``from``, ``until``, ``per_kwh``). Times are by ISO
8601; one without an offset is UTC. Replace the file as a whole: one that is half written is refused.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wattspan.carbon import jsonfile
from wattspan.carbon.http import Http
from wattspan.carbon.prices import Options, price_of
from wattspan.carbon.providers import MINUTE_NS
from wattspan.errors import FetchError, SetupError
from wattspan.model import Tariff

NAME: Final = "file"


class File:
    """One file.

    Args:
        path: where it is.
        currency: that its prices must be in.
    """

    name: Final = NAME
    resolution_ns: Final = 5 * MINUTE_NS
    floor_ns: Final = MINUTE_NS
    hold_ns: Final = 10 * MINUTE_NS
    attribution: Final = ""

    def __init__(self, path: Path, currency: str) -> None:
        self._path = path
        self._currency = currency

    def tariffs(self, now_wall_ns: int) -> Sequence[Tariff]:
        """All that it says."""
        return tuple(self._tariffs(now_wall_ns))

    def _tariffs(self, now_wall_ns: int) -> Iterator[Tariff]:
        document = jsonfile.read(self._path)
        currency = document.get("currency")
        if currency != self._currency:
            raise FetchError(
                "wrong_unit", f"{self._path}: currency: {currency!r:.40} instead of {self._currency}"
            )
        for row in jsonfile.intervals(document, self._path):
            if "per_kwh" not in row.members:
                raise FetchError("malformed", f"{row.where}.per_kwh: missing")
            per_kwh = price_of(row.members["per_kwh"], f"{row.where}.per_kwh")
            if per_kwh is not None:
                yield Tariff(per_kwh, row.from_wall_ns, row.until_wall_ns, NAME, now_wall_ns)


def source(http: Http, options: Options) -> File:  # noqa: ARG001 - a file needs no network
    """The file that is configured; it may come later than the daemon.

    Raises:
        SetupError: none is configured.
    """
    if options.path is None:
        raise SetupError(f"cost.provider: {NAME} needs a file; set cost.path")
    return File(options.path, options.currency)
