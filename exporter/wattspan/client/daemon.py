"""The daemon as a client sees it: where it may listen, and one request to it over HTTP.

Everything here blocks, for a bounded time per step; only the courier's thread calls it.
"""

import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from wattspan import __version__
from wattspan.client.arguments import Document
from wattspan.errors import UnreachableError, WattspanError

SYSTEM_SOCKET: Final = "/run/wattspan/wattspan.sock"
SOCKET_NAME: Final = "wattspan.sock"

CONNECT_S: Final = 2.0
"""A daemon on this node takes a connection within a millisecond; over TCP it may be a node away."""

ANSWER_S: Final = 8.0
"""Between two packets of an answer. The daemon itself gives up after 5 s and says so."""

MAX_ANSWER_BYTES: Final = 1 << 20

_AGAIN_LATER: Final = frozenset({408, 425, 429})
"""4xx that say nothing against the request itself."""


class UnansweredError(WattspanError):
    """There is a daemon, but it gave no proper answer: too slow, nonsense, or a fault of its own."""


class RefusedError(WattspanError):
    """The daemon has understood and will not do it.

    Args:
        status: of HTTP, 4xx.
        detail: why, in the daemon's words.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the daemon refused ({status}): {detail}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Door:
    """One place where a daemon may listen: a socket's path, or a URL.

    Attributes:
        place: as people know it.
        token_file: holds what to show there; empty for a socket, which knows its peer.
    """

    place: str
    token_file: str = ""

    def connect(self) -> http.client.HTTPConnection:
        """A connection that stands.

        Raises:
            OSError: nobody is there.
            ValueError: the place is no such thing.
        """
        connection = self._connection()
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(ANSWER_S)
        return connection

    def path(self, path: str) -> str:
        """The path with what the URL puts in front of it."""
        return urlsplit(self.place).path.rstrip("/") + path if "://" in self.place else path

    def headers(self) -> dict[str, str]:
        """Who asks. Reads the token anew each time, for tokens are rotated.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no token.
        """
        headers = {"User-Agent": f"wattspan/{__version__}"}
        if self.token_file:
            token = Path(self.token_file).read_text(encoding="ascii").strip()
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _connection(self) -> http.client.HTTPConnection:
        if "://" not in self.place:
            return _UnixConnection(self.place)
        url = urlsplit(self.place)
        if not url.hostname or url.scheme not in ("http", "https"):
            raise ValueError("not an http or https URL")
        if url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(url.hostname, url.port, timeout=CONNECT_S, context=context)
        return http.client.HTTPConnection(url.hostname, url.port, timeout=CONNECT_S)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Daemon:
    """Whichever daemon is there: it may come, go and move, so each request looks anew.

    Attributes:
        doors: where to look, the first that opens is taken.
    """

    doors: Sequence[Door]

    @classmethod
    def of(cls, environ: Mapping[str, str], own_folder: Path | None) -> Self:
        """The contract's order: WATTSPAN_URL, WATTSPAN_SOCKET, the system's socket, the user's.

        Args:
            environ: the environment.
            own_folder: where the user's own daemon has its socket; None when there is no safe folder for it.
        """
        doors = []
        if url := environ.get("WATTSPAN_URL"):
            text = url if "://" in url else f"http://{url}"
            doors.append(Door(text, environ.get("WATTSPAN_TOKEN_FILE", "")))
        if path := environ.get("WATTSPAN_SOCKET"):
            doors.append(Door(path))
        doors.append(Door(SYSTEM_SOCKET))
        if runtime := environ.get("XDG_RUNTIME_DIR"):
            doors.append(Door(os.path.join(runtime, SOCKET_NAME)))
        if own_folder and (own := Door(str(own_folder / SOCKET_NAME))) not in doors:
            doors.append(own)
        return cls(tuple(doors))

    @property
    def place(self) -> str:
        """Where it is looked for first."""
        return self.doors[0].place

    def reached(self) -> Self:
        """The same, with the door alone that opens now, so that several questions go to one daemon.

        Raises:
            UnreachableError: none does.
            UnansweredError: a daemon is there, and has too much to do.
        """
        door, connection = self._open()
        connection.close()
        return type(self)((door,))

    def ask(self, method: str, path: str, document: Document | None = None) -> Document:
        """One request and its answer.

        Raises:
            UnreachableError: no door opened.
            UnansweredError: one did, and no proper answer came out of it.
            RefusedError: the answer is no.
        """
        door, connection = self._open()
        body = None if document is None else json.dumps(document).encode()
        try:
            headers = {**door.headers(), "Content-Type": "application/json", "Connection": "close"}
            connection.request(method, door.path(path), body, headers)
            with connection.getresponse() as response:
                return _read(response)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnansweredError(
                f"the daemon at {door.place} gave no proper answer: {_words(error)}"
            ) from error
        finally:
            connection.close()

    def _open(self) -> tuple[Door, http.client.HTTPConnection]:
        closed = []
        for door in self.doors:
            try:
                return door, door.connect()
            except BlockingIOError as error:
                # The queue of a local socket is full (EAGAIN, connect(2)), so somebody listens there.
                raise UnansweredError(f"the daemon at {door.place} has too much to do") from error
            except (OSError, ValueError) as error:
                closed.append(f"{door.place} ({_words(error)})")
        raise UnreachableError(f"no daemon is reachable at {', '.join(closed)}")


def _read(response: http.client.HTTPResponse) -> Document:
    text = response.read(MAX_ANSWER_BYTES)
    status = response.status
    if 400 <= status < 500 and status not in _AGAIN_LATER:
        raise RefusedError(status, _detail(text))
    if not 200 <= status < 300:
        raise ValueError(f"status {status} {_detail(text)}")
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    return answer


def _detail(text: bytes) -> str:
    """What a problem document (RFC 9457) says, on one line."""
    try:
        problem = json.loads(text)
        said = problem.get("detail") or problem.get("title") or ""
    except (ValueError, AttributeError):
        return ""
    return " ".join(str(said).split())[:300] if str(said).isprintable() else ""


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)[:200] or type(error).__name__
