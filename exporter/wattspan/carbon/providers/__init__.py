"""Live providers, one file each, and the table of them.

Each module has a function `provider(http, options)` that gives a `LiveProvider`, or raises SetupError when
the settings cannot work, saying which key to set. Parsing is pure: an answer in, `Intensity` records out.
A figure that is null is left out, for null is not zero; one that makes no sense fails the whole answer, by
`figure_of`, `moment_of`, `require_zone` and `shaped` below, so that nothing of a source that talks nonsense
is used.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

from wattspan.carbon import LiveProvider
from wattspan.carbon.http import Http
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError, SetupError
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
        SetupError: its settings cannot work, or it does not mean what the settings ask for.
    """
    factory: Callable[[Http, Options], LiveProvider] = import_module(f"{__name__}.{name}").provider
    made = factory(http, options)
    for key, asked, has in (("signal", options.signal, made.signal), ("basis", options.basis, made.basis)):
        if asked not in (None, has):
            raise SetupError(
                f"grid.{key}: {asked!r} is not what {name} has; allowed with it: {has!r},"
                " or not set; else take it out of grid.providers"
            )
    return made


def require_secret(secret: Secret) -> None:
    """See to it that a token, key or password is named at all; whether it is right shows when it is used.

    Raises:
        SetupError: neither its file nor its variable is set.
    """
    if not secret.is_set:
        raise SetupError(f"{secret.key}: not set, and neither is {secret.variable}; allowed: one of the two")


@contextmanager
def shaped(what: str) -> Iterator[None]:
    """A block that reads an answer: whatever it lacks makes the whole of it malformed.

    Raises:
        FetchError: a member is missing, or of another kind.
    """
    try:
        yield
    except KeyError as error:
        raise FetchError("malformed", f"{what}: an answer without {error}") from error
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise FetchError("malformed", f"{what}: an answer of another shape") from error


def figure_of(value: object, what: str, factor: float = 1.0) -> float | None:
    """Grams per kilowatt-hour in an answer, or None for null.

    Args:
        value: as JSON has it.
        what: which figure, for the error's text.
        factor: that makes it grams per kilowatt-hour.

    Raises:
        FetchError: it is no number, or none that a grid can have.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FetchError("malformed", f"{what}: {value!r:.40} is no number")
    # False of NaN too, and no whole number is too long for it, as it would be for math.isfinite.
    if not 0 <= value <= MAX_G_PER_KWH / factor:
        raise FetchError("implausible", f"{what}: {value!r:.40} is no grid's intensity")
    return float(value) * factor


def moment_of(value: object, what: str) -> int:
    """The wall clock in nanoseconds of a text by ISO 8601; one without an offset is UTC.

    Raises:
        FetchError: it is none.
    """
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
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
