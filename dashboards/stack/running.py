"""Processes that begin one after the other and end together."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

PATIENCE_S: Final = 120.0
"""How long a part may take until it is ready; a first start of Grafana migrates its database for a while."""

STOP_S: Final = 15.0
"""How long a part may take to end before it is killed."""

LAST_LINES: Final = 15


class PartEndedError(Exception):
    """A part ended, or was never ready; the text says which, how, and what it said last."""


@dataclass(frozen=True, slots=True)
class Part:
    """A server.

    Attributes:
        name: one word, also of its log.
        argv: the program and its arguments.
        url: where to look at it.
        ready: path that answers 200 once it is ready.
        about: what one sees there.
        environment: on top of ours.
        after: a command that removes what a kill of the program would leave; empty for none.
    """

    name: str
    argv: tuple[str, ...]
    url: str
    ready: str
    about: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()


class Running:
    """What runs now; everything ends with the block.

    Args:
        logs: folder for what the parts say.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._processes: list[tuple[Part, subprocess.Popen[bytes], BinaryIO]] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, part: Part) -> None:
        """Start it. It gets no Ctrl-C of its own: we pass it on, so that all end in order."""
        log = self._log(part).open("wb")
        process = subprocess.Popen(  # noqa: S603 - programs that `plan` and `grafana` name
            (*_leash(), *part.argv),
            env={**os.environ, **part.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._processes.append((part, process, log))

    def wait_ready(self, part: Part) -> None:
        """Wait until it answers.

        Raises:
            PartEndedError: it or another part ended, or it took too long.
        """
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            self.look()
            if _answers(part.url.rstrip("/") + part.ready):
                return
            time.sleep(0.1)
        raise PartEndedError(f"{part.name} is not ready after {PATIENCE_S:.0f} s; {self._said(part)}")

    def watch(self) -> None:
        """Wait for the end of a part.

        Raises:
            PartEndedError: always, in the end.
        """
        while True:
            self.look()
            time.sleep(0.3)

    def look(self) -> None:
        """See whether all parts still run.

        Raises:
            PartEndedError: one does not.
        """
        for part, process, _ in self._processes:
            if (code := process.poll()) is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
                raise PartEndedError(f"{part.name} {how}; {self._said(part)}")

    def stop(self) -> None:
        """SIGTERM to all, the last one first, and SIGKILL to those that do not follow."""
        for _, process, _ in reversed(self._processes):
            process.terminate()
        give_up_s = time.monotonic() + STOP_S
        for part, process, log in reversed(self._processes):
            try:
                process.wait(max(0.1, give_up_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
            if part.after:
                subprocess.run(part.after, capture_output=True, check=False, timeout=STOP_S)  # noqa: S603
        self._processes.clear()

    def _log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"

    def _said(self, part: Part) -> str:
        lines = self._log(part).read_text("utf-8", "backslashreplace").splitlines()[-LAST_LINES:]
        return "\n".join(["its last lines:", *(f"    {line}" for line in lines or ["(nothing)"])])


def _leash() -> tuple[str, ...]:
    """Where the kernel can do it, parts end with us even when we are killed with SIGKILL."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM") if setpriv else ()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - ours, of loopback
            return bool(answer.status == HTTPStatus.OK)
    # A port that nobody has yet can be our own end of the connection: it answers with our question.
    except (OSError, HTTPException):
        return False
