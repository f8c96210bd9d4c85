"""One number out of a Prometheus, by an instant query (``/api/v1/query``)."""

from math import isfinite
from typing import Any, Final, NamedTuple

from wattspan.carbon.http import Http, place
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError
from wattspan.units import NS_PER_S

PATH: Final = "/api/v1/query"


class Sample(NamedTuple):
    """What a query gave.

    Attributes:
        value: a finite number.
        wall_ns: the moment that it was asked for, by the clock of the Prometheus.
    """

    value: float
    wall_ns: int


def ask(http: Http, url: str, query: str, secret: Secret | None = None) -> Sample:
    """The value of the one series, or of the scalar, that a query gives now. Blocks.

    Args:
        http: to ask with.
        url: of the Prometheus.
        query: PromQL.
        secret: a bearer token; none is sent where it is not set.

    Raises:
        FetchError: anything else; ``stale`` where no series has a value any more.
    """
    headers = {"Authorization": f"Bearer {secret.read()}"} if secret and secret.is_set else None
    return sample_of(http.get_json(url + PATH, {"query": query}, headers), place(url))


def sample_of(document: Any, where: str) -> Sample:
    """The one sample of an answer.

    Raises:
        FetchError: there is none, or more than one.
    """
    try:
        if document["status"] != "success":
            raise FetchError("malformed", f"{where}: the query failed: {document.get('errorType')!r:.40}")
        kind, result = document["data"]["resultType"], document["data"]["result"]
        if kind == "vector":
            if len(result) > 1:
                raise FetchError("malformed", f"{where}: the query gives {len(result)} series instead of one")
            if not result:
                raise FetchError("stale", f"{where}: the query gives no series")
            pair = result[0]["value"]
        elif kind == "scalar":
            pair = result
        else:
            raise FetchError("malformed", f"{where}: the query gives a {kind!r:.40} instead of one series")
        at_s, value = float(pair[0]), float(pair[1])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise FetchError("malformed", f"{where}: an answer without {error}") from error
    except ValueError as error:
        raise FetchError("malformed", f"{where}: a value that is no number") from error
    # A stale series is NaN once it has passed a recording rule or a function.
    if not isfinite(value):
        raise FetchError("stale", f"{where}: the series has the value {value}")
    if not (isfinite(at_s) and 0 <= at_s < 2**33):
        raise FetchError("malformed", f"{where}: a sample of no time")
    # Prometheus keeps milliseconds; a float of seconds in nanoseconds would show its rounding.
    return Sample(value, round(at_s * 1000) * (NS_PER_S // 1000))
