"""The HTTP server: its own thread, uvicorn's protocol on connections that are accepted here.

Connections are accepted here and not by `uvicorn.Server`, for three reasons: each gets the TLS context of its
moment, so certificates change without a restart; a client that never ends its handshake is counted and can be
dropped; and an idle server sleeps, where uvicorn's own wakes ten times a second.

Importing this module needs the daemon's extra; without it that raises the SetupError that says so.
"""

import asyncio
import logging
import math
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from wattspan.publish import extra
from wattspan.publish.loop_thread import LoopThread
from wattspan.publish.tls import TlsGate
from wattspan.publish.web import Asgi

try:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from wattspan.publish.connection import Connection, Crowd, Limits
except ModuleNotFoundError as error:
    raise extra.missing("uvicorn", "serving HTTP") from error

log = logging.getLogger("wattspan.web")

FAREWELL_S: Final = 1.0
"""How long answers that are under way may take once the server has been told to stop."""

BREATH_S: Final = 0.1
"""The pause after a connection could not be accepted, as when descriptors have run out."""


QUIET_S: Final = 60.0
"""A further failure to accept within this time is the same trouble, and one line has told of it."""


class Server:
    """Serves an application on listening sockets until it is stopped.

    Args:
        sockets: listening and not blocking, as `listen.bind` makes them; closed by `stop`.
        app: the ASGI application; runs on this server's event loop alone.
        gate: asked at each connection for its TLS; None, or answering None, means plain HTTP.
        limits: the patience with clients.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        app: Asgi,
        *,
        gate: Callable[[], TlsGate | None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._sockets = sockets
        self._gate = gate or (lambda: None)
        self._limits = limits or Limits()
        self._crowd = Crowd(self._limits.connections)
        self._state = ServerState()
        self._config = _config(app, self._limits)
        self._thread = LoopThread("web", "the web server", self._serving, log)
        self._failed_at = -math.inf
        self._handshakes: set[asyncio.Task[None]] = set()  # the event loop itself keeps tasks only weakly

    @property
    def addresses(self) -> list[str]:
        """What it listens on, as ``host:port``."""
        return [_shown(listener.getsockname()) for listener in self._sockets]

    def start(self) -> None:
        """Begin to serve; returns once connections are taken."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Close the sockets, let answers under way end for a second, and end the thread.

        Args:
            timeout_s: how long to wait for that; what is left after it ends with the process.
        """
        self._thread.stop(timeout_s)
        for listener in self._sockets:
            listener.close()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        for listener in self._sockets:
            self._listen(listener)
        yield
        for listener in self._sockets:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        await self._farewell()

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection; the event loop calls again while there are more."""
        try:
            client, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # gone before it was taken
        except OSError as error:
            self._make_room(listener, error)
            return
        client.setblocking(False)
        self._welcome(client)

    def _welcome(self, client: socket.socket) -> None:
        try:
            gate = self._gate()
        except Exception as error:
            log.error("a connection was refused: %s: %s", type(error).__name__, error)
            client.close()
            return
        connection = Connection(
            client, self._config, self._state, crowd=self._crowd, limits=self._limits, gate=gate
        )
        handshake = asyncio.create_task(connection.begin())
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)

    def _make_room(self, listener: socket.socket, error: OSError) -> None:
        """After a connection could not be accepted: mostly there is no descriptor left for it."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._failed_at > QUIET_S:
            log.warning("cannot accept connections: %s", error)
        self._failed_at = loop.time()
        waiting = self._crowd.all()
        for connection in waiting[: 1 + len(waiting) // 8]:
            connection.drop()
        loop.remove_reader(listener)
        loop.call_later(BREATH_S, self._listen, listener)

    def _listen(self, listener: socket.socket) -> None:
        if not self._thread.stopping:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def _farewell(self) -> None:
        for connection in self._crowd.all():
            connection.finish()
        end = asyncio.get_running_loop().time() + FAREWELL_S
        while self._crowd.busy() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        for connection in self._crowd.all():
            connection.drop()
        if self._handshakes:
            await asyncio.wait(self._handshakes, timeout=FAREWELL_S)


def _config(app: Asgi, limits: Limits) -> Config:
    config = Config(
        app,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        # Given although they are not used: uvicorn would read them from the environment.
        workers=1,
        forwarded_allow_ips="",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type] # goes to loop.call_later, which takes both
    )
    config.load()
    return config


def _shown(name: tuple[Any, ...]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
