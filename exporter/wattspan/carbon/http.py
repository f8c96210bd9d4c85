"""http: one GET, with every way in which it may fail put into our words. One connection pool for all
providers.

What is refused here is refused for all of them: redirects, because a token must not follow them anywhere;
bodies beyond `MAX_BODY_BYTES`; answers that drip for longer than the time-out.
Error texts hold scheme, host and path, never a query or a header: those may be secrets.
"""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isfinite
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from wattspan import __version__
from wattspan.errors import FetchError

TIMEOUT_S: Final = 10.0
"""For one whole answer, connecting included."""

MAX_BODY_BYTES: Final = 4 << 20
"""A day of a whole bidding zone's generation, the largest answer that is asked for, has some 300 kB."""

MAX_RETRY_AFTER_S: Final = 86_400.0
"""Nobody is believed who asks to be left alone for longer than a day."""

_PIECE_BYTES: Final = 64 << 10


class Http:
    """Asks services on the network. Any thread may call; it blocks for the time-out at most.

    Proxies and authorities are found as everywhere: HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE.

    Args:
        timeout_s: for one whole answer.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._pools: dict[str, urllib3.PoolManager] = {}

    def get(
        self, url: str, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of a GET that was answered with 200.

        Args:
            url: without a query.
            query: its members; may hold a secret.
            headers: beside our own; may hold a secret.

        Raises:
            FetchError: anything else.
        """
        where = place(url)
        give_up_s = time.monotonic() + self._timeout_s
        try:
            answer = self._pool(url).request(
                "GET",
                f"{url}?{urlencode(query)}" if query else url,
                headers={
                    "User-Agent": f"wattspan/{__version__}",
                    "Accept-Encoding": "gzip",
                    **(headers or {}),
                },
                timeout=urllib3.Timeout(total=self._timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                if answer.status != HTTPStatus.OK:
                    raise refusal(where, answer.status, answer.headers.get("Retry-After"))
                return _body(where, answer, give_up_s)
            finally:
                # What is left of a body is not read for the sake of the connection: it may be endless.
                answer.close()
        except (
            urllib3.exceptions.NewConnectionError
        ) as error:  # a time-out by its class, and none by its cause
            raise FetchError("unreachable", f"{where}: no connection") from error
        except (urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise FetchError("timeout", f"{where}: no whole answer in {self._timeout_s:g} s") from error
        except urllib3.exceptions.SSLError as error:
            raise FetchError("unreachable", f"{where}: TLS failed; is its certificate trusted?") from error
        except (urllib3.exceptions.LocationValueError, UnicodeError) as error:
            raise FetchError("unreachable", f"{where}: not a URL that can be asked") from error
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError) as error:
            raise FetchError("malformed", f"{where}: the answer was cut off or is no HTTP") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Their texts hold the whole URL, and so the query.
            raise FetchError("unreachable", f"{where}: no connection ({type(error).__name__})") from error

    def get_json(
        self, url: str, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON document that a GET was answered with.

        Raises:
            FetchError: anything else.
        """
        body = self.get(url, query, {"Accept": "application/json", **(headers or {})})
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise FetchError("malformed", f"{place(url)}: {_looks_like(body)}, not JSON") from error

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxies = getproxies()
        proxy = proxies.get(parts.scheme, "")
        if not proxy or proxy_bypass(parts.hostname or ""):
            proxy = ""
        if proxy not in self._pools:
            self._pools[proxy] = urllib3.ProxyManager(proxy, 8) if proxy else urllib3.PoolManager(8)
        return self._pools[proxy]


def place(url: str) -> str:
    """A URL as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def refusal(where: str, status: int, retry_after: str | None) -> FetchError:
    """What a status other than 200 means."""
    text = f"{where}: HTTP {status}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return FetchError("refused", f"{text}: the token is missing, wrong, or not for this zone")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return FetchError("throttled", text, _seconds(retry_after))
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return FetchError("malformed", f"{text}: redirects are not followed; set the final URL")
    return FetchError("server", text, _seconds(retry_after))


def _seconds(retry_after: str | None) -> float | None:
    """Of the header Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if isfinite(seconds) else None


def _body(where: str, answer: urllib3.BaseHTTPResponse, give_up_s: float) -> bytes:
    pieces, size = [], 0
    for piece in answer.stream(_PIECE_BYTES, decode_content=True):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise FetchError("malformed", f"{where}: more than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > give_up_s:
            raise TimeoutError
    return b"".join(pieces)


def _looks_like(body: bytes) -> str:
    """What an unusable body seems to be, without quoting it."""
    start = body[:512].lstrip().lower()
    if not start:
        return "an empty answer"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a login or an error page)"
    return "XML" if start.startswith(b"<?xml") else "text"
