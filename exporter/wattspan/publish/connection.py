"""Connections and the patience we have with each.

A client may be silent, slow or hostile; it costs one socket and a few kilobytes, for a while, and no thread.
Three waits are bounded: for a request to be complete, for an answer to be taken, and between two requests.
When there are too many connections, the one that has kept us waiting longest makes room, so a crowd of
silent clients never keeps a scraper out.
"""

import asyncio
import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from wattspan.publish.tls import TlsGate

MAX_HEAD_BYTES: Final = 16_384
"""Of a request's line and headers; what Node.js allows (--max-http-header-size), whose parser this is."""

# What uvicorn has to say is about its clients' mistakes; a stranger must not be able to fill the log.
_silence = logging.getLogger("wattspan.web.uvicorn")
_silence.setLevel(logging.CRITICAL)

Phase = Literal["new", "idle", "busy"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The patience with clients.

    Attributes:
        connections: at once; half of a process' usual 1,024 descriptors, the rest is left for the rest.
        request_s: for a TLS handshake, and again for a request from its first byte to its last.
        answer_s: from the request's last byte until the client has taken the answer's last.
            Prometheus' default scrape timeout is 10 s.
        idle_s: between two requests; scrapers come back within a minute.
        request_bytes: of one request, head and body.
    """

    connections: int = 512
    request_s: float = 10.0
    answer_s: float = 30.0
    idle_s: float = 75.0
    request_bytes: int = MAX_HEAD_BYTES + 65_536


class Crowd:
    """The open connections by what they are doing, each group in the order in which it began to.

    Args:
        limit: the most there may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._groups: dict[Phase, dict[Connection, None]] = {"new": {}, "idle": {}, "busy": {}}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def enter(self, connection: "Connection") -> None:
        """Take one in; when there are too many, the one that is least likely to be missed goes.

        Those that never asked anything go first, then those between two requests, then the slowest takers.
        """
        if len(self) >= self._limit:
            self.all()[0].drop()
        self._groups["new"][connection] = None

    def move(self, connection: "Connection", before: Phase, now: Phase) -> None:
        """Note that a connection does something else now."""
        self._groups[before].pop(connection, None)
        self._groups[now][connection] = None

    def leave(self, connection: "Connection", phase: Phase) -> None:
        """Forget a connection; twice is fine."""
        self._groups[phase].pop(connection, None)

    def all(self) -> "list[Connection]":
        """Every connection, the first to go first."""
        return [connection for group in self._groups.values() for connection in group]

    def busy(self) -> bool:
        """Whether any answer is under way."""
        return bool(self._groups["busy"])


class Joining:
    """A transport on which an answer's head leaves together with its body.

    uvicorn writes them one by one, and each is a packet that wakes the client: that is a tenth of the time of
    a scrape.
    A short write waits for the next one, but never beyond the event loop's present turn.

    Args:
        transport: takes what is written, and answers everything else.
    """

    SHORT_BYTES: Final = 2048

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it, after what was held; or hold it."""
        if self._held or len(data) > self.SHORT_BYTES:
            self._transport.write(self._held + data)
            self._held = b""
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send what was held, and end the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            self._transport.write(self._held)
            self._held = b""


class Connection(HttpToolsProtocol):
    """One client: uvicorn's HTTP/1.1 with a deadline on every wait.

    Of uvicorn's two parsers this is the one in C: with h11, in Python, a scrape of 308 series took a fifth
    more CPU time (tests/bench).

    Args:
        client: the accepted socket.
        config: uvicorn's, loaded.
        state: uvicorn's, shared by all connections.
        crowd: where this one is counted from now on.
        limits: how long is too long.
        gate: who may stay after the TLS handshake; None without TLS.
    """

    def __init__(
        self,
        client: socket.socket,
        config: Config,
        state: ServerState,
        *,
        crowd: Crowd,
        limits: Limits,
        gate: TlsGate | None,
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self.logger = _silence
        self.access_log = False
        self._client = client
        self._crowd = crowd
        self._limits = limits
        self._gate = gate
        self._phase: Phase = "new"
        self._in_handshake = True
        self._deadline: asyncio.TimerHandle | None = None
        self._request_bytes = 0
        self._in_head = False
        crowd.enter(self)

    async def begin(self) -> None:
        """Take up the accepted socket: TLS first, where there is TLS. Never raises for what a client does."""
        try:
            await self.loop.connect_accepted_socket(
                lambda: self,
                self._client,
                ssl=self._gate.context if self._gate else None,
                ssl_handshake_timeout=self._limits.request_s if self._gate else None,
                ssl_shutdown_timeout=1.0 if self._gate else None,
            )
        except OSError:  # no TLS, no certificate, too slow, gone, or dropped by us
            self._close_down()

    def finish(self) -> None:
        """Complete an answer that is under way, and end it."""
        if self._phase == "busy":
            self.shutdown()
        else:
            self.drop()

    def drop(self) -> None:
        """End it now, whatever it is doing."""
        self._close_down()
        if not self._in_handshake:
            self.transport.abort()
            return
        # Cancelling `begin` could leave the socket open (CPython 3.11: closing an SSL
        # transport before its protocol has begun does nothing), so asyncio is made to see the end itself.
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is over."""
        self._in_handshake = False
        super().connection_made(cast(asyncio.Transport, Joining(transport, self.loop)))
        if self._gate and not self._gate.admits(transport.get_extra_info("peercert")):
            self.drop()
            return
        self._wait_at_most(self._limits.request_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of one that was answered before it was complete."""
        self._request_bytes += len(data)
        if self._request_bytes > self._limits.request_bytes:
            self.drop()
            return
        if self._phase == "idle":
            # Only the first byte winds the clock: a client that drips must not win time with each drop.
            self._become("new", self._limits.request_s)
        super().data_received(data)
        if self._in_head and self._request_bytes > MAX_HEAD_BYTES:
            self.drop()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request's head begins its answer, or the queue behind the one that is under way."""
        self._in_head = False
        super().on_headers_complete()
        if self._phase != "busy":
            self._become("busy", self._limits.answer_s)

    def on_response_complete(self) -> None:
        """The answer's last piece is on its way; a rest of the request may still come in."""
        self._request_bytes = 0
        if self.pipeline:
            self._become("busy", self._limits.answer_s)
        elif self.cycle.more_body:
            self._become("new", self._limits.request_s)
        else:
            # uvicorn says goodbye after `idle_s`; a client that does not take that is dropped later.
            self._become("idle", self._limits.idle_s + self._limits.request_s)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Either side has ended it."""
        self._close_down()
        # uvicorn leaves this timer running after an error, and with it this object in memory.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _become(self, phase: Phase, patience_s: float) -> None:
        self._crowd.move(self, self._phase, phase)
        self._phase = phase
        self._wait_at_most(patience_s)

    def _wait_at_most(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.drop)

    def _close_down(self) -> None:
        self._crowd.leave(self, self._phase)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
