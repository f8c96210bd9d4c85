"""The local socket: the same pages as over TCP, for processes of this machine, with nothing but Python.

Anybody may connect (mode 0666); who connects is what the kernel says of the peer, and that decides.
A client may be silent or slow; it costs a socket and a few kilobytes for a while, and no thread.
There is room for a number of clients, and for fewer of one user: nobody takes all of the daemon's
descriptors, and no user keeps the others out.
"""

import asyncio
import errno
import logging
import math
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from wattspan.errors import SetupError, UnreachableError
from wattspan.publish import http1
from wattspan.publish.loop_thread import LoopThread
from wattspan.publish.pages import (
    BODY_S,
    MAX_BODY_BYTES,
    LocalPeer,
    ProblemError,
    Request,
    Response,
    problem_response,
    too_large,
    too_slow,
)
from wattspan.publish.peers import PeerProcesses

log = logging.getLogger("wattspan.socket")

KEY: Final = "socket"
MODE: Final = 0o666

MAX_HEAD_BYTES: Final = 16_384
"""Of a request's line and headers."""

MAX_PATH_BYTES: Final = 107
"""What ``sun_path`` takes besides its final zero byte (unix(7))."""

BACKLOG: Final = 128
PROBE_S: Final = 1.0
FAREWELL_S: Final = 1.0
"""How long answers that are under way may take once the server has been told to stop."""

QUIET_S: Final = 60.0
"""A further client that finds no room within this time is the same trouble, and one line has told of it."""

LINGER_S: Final = 1.0
LINGER_BYTES: Final = 1 << 20
"""How much of a body that was refused is still taken, so that its sender gets to read the refusal."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """The patience with clients.

    Attributes:
        connections: at once; the one that has kept us waiting longest for its next request makes room for
            another, and where none does, the newcomer is refused.
        per_user: of these of one uid, by the same rule.
        request_s: from the end of one request until the next one's head is complete.
        answer_s: until the client has taken an answer.
    """

    connections: int = 256
    per_user: int = 128
    request_s: float = 75.0
    answer_s: float = 30.0


class SocketServer:
    """Serves on the local socket, from a thread of its own, until it is stopped.

    Args:
        path: of the socket.
        answer: makes the answers; runs on this server's event loop alone.
        processes: says who connects.
        limits: the patience with clients.

    Raises:
        SetupError: the path cannot be one of a socket.
        UnreachableError: the path cannot be had.
    """

    def __init__(
        self,
        path: Path,
        answer: Callable[[Request], Awaitable[Response]],
        processes: PeerProcesses,
        limits: SocketLimits | None = None,
    ) -> None:
        self.path: Final = path
        self._answer = answer
        self._processes = processes
        self._limits = limits or SocketLimits()
        self._listener = bind(path)
        self._inode = path.stat().st_ino
        self._clients: dict[asyncio.Task[None], int] = {}  # by uid
        self._waiting: dict[asyncio.Task[None], None] = {}  # for a request, the longest first
        self._refused_at = -math.inf
        self._thread = LoopThread("socket", "the local socket", self._serving, log)

    def start(self) -> None:
        """Begin to serve; returns once connections are taken."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Remove the socket, let answers under way end for a second, and end the thread.

        Args:
            timeout_s: how long to wait for that; what is left after it ends with the process.
        """
        with suppress(OSError):
            # Another daemon may have put its own there.
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        self._thread.stop(timeout_s)
        self._listener.close()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._welcome, sock=self._listener, limit=MAX_HEAD_BYTES)
        yield
        server.close()
        for client in list(self._waiting):
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=FAREWELL_S)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None  # noqa: S101 - asyncio runs this as a task
        try:
            peer = self._processes.accepted(writer.get_extra_info("socket"))
            if not self._has_room(peer.uid):
                self._refuse(peer.uid, writer)
                return
            self._clients[client] = peer.uid
            # With no buffer above the kernel's, `drain` returns when the client has been given everything.
            writer.transport.set_write_buffer_limits(high=0)
            while await self._serve_one(_Connection(reader, writer, peer, self._limits), client):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # gone, or too slow
        finally:
            self._clients.pop(client, None)
            self._waiting.pop(client, None)
            writer.transport.abort()

    async def _serve_one(self, connection: "_Connection", client: asyncio.Task[None]) -> bool:
        """Answer one request. Returns whether another may follow."""
        self._waiting[client] = None
        try:
            request = await connection.request()
        except ProblemError as problem:
            await connection.send(problem_response(problem))
            return False
        finally:
            self._waiting.pop(client, None)
        if request is None:
            return False
        return await connection.send(await self._answer(request)) and not self._thread.stopping

    def _has_room(self, uid: int) -> bool:
        """Whether one more client of this user may stay; one that waits may have to go for it."""
        if sum(other == uid for other in self._clients.values()) >= self._limits.per_user:
            waiting = [client for client in self._waiting if self._clients[client] == uid]
        elif len(self._clients) >= self._limits.connections:
            waiting = list(self._waiting)
        else:
            return True
        if not waiting:
            return False
        del self._waiting[waiting[0]]
        waiting[0].cancel()
        return True

    def _refuse(self, uid: int, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._refused_at > QUIET_S:
            log.warning("the local socket has too many clients; one of uid %d was refused", uid)
        self._refused_at = now
        problem = ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many connections")
        writer.write(http1.written(problem_response(problem), head_only=False, closes=True))


class _Connection:
    """One client's turn: a request and its answer.

    Args:
        reader, writer: its two directions.
        peer: who it is.
        limits: how long is too long.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: LocalPeer,
        limits: SocketLimits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._limits = limits
        self._head: http1.Head | None = None
        self._unread_bytes = 0

    async def request(self) -> Request | None:
        """The next request; None when the client has said goodbye.

        Raises:
            ProblemError: what came is no request.
            OSError, TimeoutError, asyncio.IncompleteReadError: the client has gone or is too slow.
        """
        try:
            async with asyncio.timeout(self._limits.request_s):
                text = await self._reader.readuntil(http1.HEAD_END)
        except asyncio.LimitOverrunError:
            raise ProblemError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"a request's line and headers have {MAX_HEAD_BYTES} bytes at most",
            ) from None
        except asyncio.IncompleteReadError as end:
            if not end.partial:
                return None
            raise
        self._head = head = http1.read_head(text)
        self._unread_bytes = head.body_bytes
        return Request(
            method=head.method,
            path=head.path,
            raw_path=head.raw_path,
            query=head.query,
            headers=head.headers,
            peer=self._peer,
            body=self._body,
        )

    async def send(self, response: Response) -> bool:
        """Write an answer. Returns whether the connection is good for another request."""
        head = self._head
        keeps = (
            head is not None
            and head.keeps
            and not self._unread_bytes
            and response.headers.get("connection") != "close"
        )
        head_only = head is not None and head.method == "HEAD"
        self._writer.write(http1.written(response, head_only=head_only, closes=not keeps))
        async with asyncio.timeout(self._limits.answer_s):
            await self._writer.drain()
        if not keeps:
            await self._linger()
        return keeps

    async def _body(self) -> bytes:
        """The whole body.

        Raises:
            ProblemError: it is too large or too slow.
        """
        if self._unread_bytes > MAX_BODY_BYTES:
            raise too_large()
        if self._head is not None and self._head.waits:
            self._writer.write(http1.CONTINUE)
        try:
            async with asyncio.timeout(BODY_S):
                body = await self._reader.readexactly(self._unread_bytes)
        except TimeoutError:
            raise too_slow() from None
        except asyncio.IncompleteReadError:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST, "the body is not complete", {"connection": "close"}
            ) from None
        self._unread_bytes = 0
        return body

    async def _linger(self) -> None:
        """Take what the client still sends: one that cannot send often does not read either."""
        with suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                left = LINGER_BYTES
                while left > 0 and (piece := await self._reader.read(65_536)):
                    left -= len(piece)


def bind(path: Path) -> socket.socket:
    """A listening local socket that anybody may connect to.

    A socket file that nobody listens on is what a killed daemon has left, and is replaced.

    Raises:
        SetupError: the path cannot be one of a socket.
        UnreachableError: the path cannot be had; the text says why and how to mend it.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise SetupError(f"{KEY}: {str(path)!r} is not allowed; allowed: {MAX_PATH_BYTES} bytes at most")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        _clear(path)
        listener.bind(str(path))
        path.chmod(MODE)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise UnreachableError(
            f"{KEY}: cannot listen on {path}: {why}; choose another path with --{KEY}"
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except (BlockingIOError, TimeoutError):
            pass  # its queue is full, so somebody listens
    raise OSError(errno.EADDRINUSE, "another daemon listens there")
