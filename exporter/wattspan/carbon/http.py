"""http: one GET, with every way in which it may fail put into our words. One connection pool for all
providers.

What is refused here is refused for all of them: redirects, because a token must not follow them anywhere;
bodies beyond `MAX_BODY_BYTES`, packed or unpacked; answers that drip for longer than the time-out, whether in
their headers or in their body.
Error texts hold scheme, host and path, never a query or a header: those may be secrets.
"""

import gzip
import http.client
import io
import json
import logging
import socket
import time
import zlib
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
    """Asks services on the network. Any thread may call; it blocks for the time-out at most, and for as long
    as the system's resolver takes over the name of a host.

    Proxies and authorities are found as everywhere: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE.

    Args:
        timeout_s: for one whole answer.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._pools: dict[str, urllib3.PoolManager] = {}
        # They write whole URLs, some as warnings; whatever goes wrong reaches us as an exception anyway.
        for name in ("urllib3.connectionpool", "urllib3.connection"):
            logging.getLogger(name).addFilter(_unwritten)

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
                return _body(where, answer)
            finally:
                # What is left of a body is not read for the sake of the connection: it may be endless.
                answer.close()
        except urllib3.exceptions.NewConnectionError as error:  # a time-out by its class, none by its cause
            raise FetchError("unreachable", f"{where}: no connection") from error
        except (urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise FetchError("timeout", f"{where}: no whole answer in {self._timeout_s:g} s") from error
        except urllib3.exceptions.SSLError as error:
            raise FetchError("unreachable", f"{where}: TLS failed; is its certificate trusted?") from error
        except urllib3.exceptions.ProxySchemeUnknown:
            raise FetchError("unreachable", f"{where}: the proxy's URL is not one of HTTP") from None
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.InvalidHeader) as error:
            raise FetchError("malformed", f"{where}: the answer was cut off or is no HTTP") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FetchError("malformed", f"{where}: the answer cannot be unpacked") from error
        # The texts of what follows hold the URL with its query, or a header: they are not kept.
        except (urllib3.exceptions.LocationValueError, http.client.HTTPException, ValueError):
            raise FetchError("unreachable", f"{where}: its URL or a header cannot be sent") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise FetchError("unreachable", f"{where}: no connection ({type(error).__name__})") from None

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
        except (ValueError, RecursionError):
            # The original would bring the whole body along.
            raise FetchError("malformed", f"{place(url)}: {_looks_like(body)}, not JSON") from None

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise urllib3.exceptions.LocationValueError("no scheme that can be asked")
        proxy = getproxies().get(parts.scheme, "")
        if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
            proxy = ""
        pool = self._pools.get(proxy)
        # Two threads may both make one; the first that is put in stays.
        return self._pools.setdefault(proxy, _made_pool(proxy)) if pool is None else pool


def place(url: str) -> str:
    """A URL as it may be shown: without user, password and query."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    bare = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return bare.partition("?")[0].partition("#")[0]


def refusal(where: str, status: int, retry_after: str | None) -> FetchError:
    """What a status other than 200 means."""
    text = f"{where}: HTTP {status}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        refused = f"{text}: the token is missing, wrong, or not for this zone"
        return FetchError("refused", refused, status=status)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return FetchError("throttled", text, _seconds(retry_after), status)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return FetchError(
            "malformed", f"{text}: redirects are not followed; set the final URL", status=status
        )
    return FetchError("server", text, _seconds(retry_after), status)


def _seconds(retry_after: str | None) -> float | None:
    """Of the header Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, OSError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if isfinite(seconds) else None


def _body(where: str, answer: urllib3.BaseHTTPResponse) -> bytes:
    """The whole body, unpacked here: urllib3 before 2.6 unpacks a piece of any size at once."""
    pieces, size = [], 0
    for piece in answer.stream(_PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise FetchError("malformed", f"{where}: more than {MAX_BODY_BYTES} bytes")
    packed = b"".join(pieces)
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return packed
    if encoding not in ("gzip", "x-gzip"):
        raise FetchError("malformed", f"{where}: packed by other means than gzip")
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacked:
        body = unpacked.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise FetchError("malformed", f"{where}: more than {MAX_BODY_BYTES} bytes when unpacked")
    return body


def _looks_like(body: bytes) -> str:
    """What an unusable body seems to be, without quoting it."""
    start = body[:512].lstrip().lower()
    if not start:
        return "an empty answer"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a login or an error page)"
    return "XML" if start.startswith(b"<?xml") else "text"


def _unwritten(_record: logging.LogRecord) -> bool:
    return False


class _Hurried(io.RawIOBase):
    """Reads from a socket for so long in all, where the socket's own time-out begins anew at each byte."""

    def __init__(self, connection: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._connection = connection
        self._raw = raw
        # What is left of the time-out by now: urllib3 has set it just before.
        left_s = connection.gettimeout()
        self._give_up_s = None if left_s is None else time.monotonic() + left_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._give_up_s is not None:
            left_s = self._give_up_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._connection.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp = io.BufferedReader(_Hurried(sock, self.fp.detach()))


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Answer


class _TlsConnection(urllib3.connection.HTTPSConnection):
    response_class = _Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _made_pool(proxy: str) -> urllib3.PoolManager:
    """For requests through a proxy, or straight if it is empty."""
    if not proxy:
        pool = urllib3.PoolManager(8, maxsize=2)
    else:
        url = proxy if "://" in proxy else f"http://{proxy}"
        user = urllib3.util.parse_url(url).auth
        headers = urllib3.make_headers(proxy_basic_auth=user) if user else None
        pool = urllib3.ProxyManager(url, 8, maxsize=2, proxy_headers=headers)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pool
