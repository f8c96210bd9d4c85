"""An event loop in a thread of its own, which both servers have."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any


class LoopThread:
    """Serves from a thread of its own until it is stopped.

    Args:
        name: of the thread.
        what: serves here, for the log.
        serving: takes connections while it lasts; runs on this thread's event loop.
        log: hears how it ended, where it did not end well.
    """

    def __init__(
        self,
        name: str,
        what: str,
        serving: Callable[[], AbstractAsyncContextManager[None]],
        log: logging.Logger,
    ) -> None:
        self._what = what
        self._serving = serving
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._started: Future[None] = Future()
        # A daemon thread: a server that does not end must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop; asked on its own thread."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin to serve; returns once connections are taken, or raises why they are not."""
        self._thread.start()
        self._started.result()

    def stop(self, timeout_s: float) -> None:
        """Have it end, and wait so long for that; what is left after it ends with the process."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._log.warning("%s did not end within %g s", self._what, timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                self._log.critical("%s has died: %s: %s", self._what, type(error).__name__, error)
            else:
                self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note)
        async with self._serving():
            self._started.set_result(None)
            await self._stopping.wait()

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio's complaints are about connections that ended badly: nobody's business but ours."""
        self._log.debug("%s: %r", context.get("message"), context.get("exception"))
