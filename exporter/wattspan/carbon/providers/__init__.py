"""Live providers, one file each, and the table of them.

Each module has a function `provider(http, options)` that gives a `LiveProvider`, or raises SetupError when
the
settings cannot work, saying which key to set. Parsing is pure: an answer in, `Intensity` records out.
A figure that is null is left out, for null is not zero; one that makes no sense fails the whole answer, by
`figure_of`, `moment_of` and `require_zone` below, so that nothing of a source that talks nonsense is used.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

from wattspan.carbon import LiveProvider
from wattspan.carbon.http import Http
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError
from wattspan.model import Basis, Signal
from wattspan.units import NS_PER_S

NAMES: Final = (
    "carbonintensity",
    "energycharts",
    "eco2mix",
    "electricitymaps",
    "watttime",
    "entsoe",
    "eia",
    "carbonaware",
    "prometheus",
    "peer",
    "file",
)
"""What may stand in ``grid.providers``; each is a module here, a section of the settings, and a label
value."""

MINUTE_NS: Final = 60 * NS_PER_S
HOUR_NS: Final = 3600 * NS_PER_S

MAX_G_PER_KWH: Final = 2000.0
"""Above any grid: lignite in an old plant has about 1200 over its life cycle."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say about one provider.

    Attributes:
        zone: the node's grid zone, such as ``FR`` or ``US-CAL-CISO``; ``WORLD`` when nobody knows.
        own_zone: the provider's own word for it (``grid.<provider>.zone``); goes before `zone`; empty when
            not set.
        url: where the service is (``grid.<provider>.url``), without a slash at its end; empty for the usual
            place.
        secret: token, key or ``user:password`` (``grid.<provider>.token-file``).
        signal, basis: what the chain is to mean (``grid.signal``, ``grid.basis``); None for the provider's
            own.
        query: PromQL (``grid.prometheus.query``); empty for the others.
        path: of the file (``grid.file.path``); None for the others.
    """

    zone: str
    own_zone: str = ""
    url: str = ""
    secret: Secret = Secret("")  # noqa: RUF009 - it is frozen
    signal: Signal | None = None
    basis: Basis | None = None
    query: str = ""
    path: Path | None = None


def make(name: str, http: Http, options: Options) -> LiveProvider:
    """The provider of that name, which is one of `NAMES`.

    Raises:
        SetupError: its settings cannot work.
    """
    factory: Callable[[Http, Options], LiveProvider] = import_module(f"{__name__}.{name}").provider
    return factory(http, options)


def figure_of(value: object, what: str) -> float | None:
    """Grams per kilowatt-hour in an answer, or None for null.

    Args:
        value: as JSON has it.
        what: which figure, for the error's text.

    Raises:
        FetchError: it is no number, or none that a grid can have.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FetchError("malformed", f"{what}: {value!r:.40} is no number")
    if not (math.isfinite(value) and 0 <= value <= MAX_G_PER_KWH):
        raise FetchError("implausible", f"{what}: {value!r:.40} g/kWh is no grid's")
    return float(value)


def moment_of(value: object, what: str) -> int:
    """The wall clock in nanoseconds of a text by ISO 8601; one without an offset is UTC.

    Raises:
        FetchError: it is none.
    """
    try:
        moment = datetime.fromisoformat(str(value))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp()) * NS_PER_S
    except (ValueError, OverflowError) as error:
        raise FetchError("malformed", f"{what}: {value!r:.40} is no time") from error


def require_zone(answered: object, asked: str, what: str) -> None:
    """Refuse figures of another place: a service may fall back to where it thinks that the caller is.

    Raises:
        FetchError: the answer is for another zone.
    """
    if not isinstance(answered, str) or answered.casefold() != asked.casefold():
        raise FetchError("wrong_zone", f"{what}: asked for {asked}, answered for {answered!r:.40}")
