"""Live sources of the price of electricity, one file each, and the table of them.

They give `Tariff` records: prices per kWh in the currency of the settings, which is checked and never
converted. Each module has a function `source(http, options)` that gives a `LivePrices`, or raises SetupError.
A price that is null is left out. One below zero is kept: spot markets have them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Final, Protocol

from wattspan.carbon.http import Http
from wattspan.errors import FetchError, SetupError
from wattspan.model import Tariff

NAMES: Final = ("energycharts", "prometheus", "file")
"""What ``cost.provider`` may be, beside ``off``; each is a module here."""

MAX_PER_KWH: Final = 1_000_000.0
"""No currency's kilowatt-hour has so many units: the cheapest, rial and dong, have some ten thousand."""


class LivePrices(Protocol):
    """A source of prices that come and go."""

    @property
    def name(self) -> str:
        """The module's name."""

    @property
    def resolution_ns(self) -> int:
        """How long one of its prices holds."""

    @property
    def floor_ns(self) -> int:
        """It is asked no more often than this."""

    @property
    def hold_ns(self) -> int:
        """Its last price stands in for so long after its own time is over."""

    @property
    def attribution(self) -> str:
        """The line that its licence wants shown with its figures; empty when it wants none."""

    def tariffs(self, now_wall_ns: int) -> Sequence[Tariff]:
        """What is known, past to future, without overlaps. Blocks.

        Raises:
            FetchError: it did not answer, or answered nonsense.
        """


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say.

    Attributes:
        url: where the service is (``cost.url``), without a slash at its end; empty for the usual place.
        zone: bidding zone (``cost.zone``); empty when not set.
        query: PromQL (``cost.query``).
        path: of the file (``cost.path``).
        currency: ISO 4217 code (``cost.currency``); what every price must be in.
    """

    url: str = ""
    zone: str = ""
    query: str = ""
    path: Path | None = None
    currency: str = ""


def make(
    name: str, http: Http, url: str, zone: str, query: str, path: Path | None, currency: str
) -> LivePrices:
    """The source of that name, which is one of `NAMES`.

    Raises:
        SetupError: its settings cannot work.
    """
    if not currency:
        raise SetupError(f"cost.provider: {name} needs a currency; set cost.currency, such as EUR")
    factory: Callable[[Http, Options], LivePrices] = import_module(f"{__name__}.{name}").source
    return factory(http, Options(url, zone, query, path, currency))


def price_of(value: object, what: str) -> float | None:
    """A price in an answer, or None for null.

    Args:
        value: as JSON has it.
        what: which price, for the error's text.

    Raises:
        FetchError: it is no number, or no price.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FetchError("malformed", f"{what}: {value!r:.40} is no number")
    if not (isfinite(value) and abs(value) <= MAX_PER_KWH):
        raise FetchError("implausible", f"{what}: {value!r:.40} is no price of a kWh")
    return float(value)
