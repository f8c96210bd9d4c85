"""The real `NvidiaSource` with the real pynvml in a child process, for tests to drive.

pynvml never unloads a library: each library variant gets a child of its own, and pytest's process loads none.
The child reads the test's monotonic clock, which stands still until the test moves it.
"""

import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.nvml import FakeNvml, Scenario, parse_scenario
from wattspan.devices.nvidia import NvidiaSource
from wattspan.errors import NotHereError, ReadError, RestartNeededError, SetupError, WattspanError
from wattspan.model import GpuReading, SourceReport

STATE_VARIABLE = "FAKE_NVML_STATE"
SECOND = 1_000_000_000


class NvidiaProcess:
    """A `NvidiaSource` in another process. Its errors are raised here."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.devices.nvidia_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        atexit.register(self.end)

    def make(self, state: Path, **arguments: Any) -> None:
        """A new source with these arguments, under this state of the fake. The clock shows one second."""
        self._call("make", str(state), arguments)

    def open(self) -> str:
        line: str = self._call("open")
        return line

    def read(self) -> SourceReport:
        report: SourceReport = self._call("read")
        return report

    def read_gpus(self) -> list[GpuReading]:
        """The readings of a look that must have no failure."""
        report = self.read()
        assert report.failures == ()
        return list(report.gpus)

    def close(self) -> None:
        self._call("close")

    def pass_time(self, seconds: float) -> None:
        """Move the source's clock, which is not the fake's."""
        self._call("pass_time", int(seconds * SECOND))

    def tick_at_each_look(self, nanoseconds: int) -> None:
        """Let the source's clock move by this much each time it is read."""
        self._call("tick", nanoseconds)

    def threads(self) -> list[str]:
        names: list[str] = self._call("threads")
        return names

    def begin(self, method: str) -> None:
        """Send a call whose answer `finish` takes, because it may hang."""
        self._send(method)

    def finish(self) -> Any:
        return self._receive()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _call(self, *request: Any) -> Any:
        self._send(*request)
        return self._receive()

    def _send(self, *request: Any) -> None:
        assert self._process.stdin is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        kind, answer = pickle.load(self._process.stdout)
        if kind == "answer":
            return answer
        error_class, arguments = answer
        raise error_class(*arguments)


def cards(generation: str, count: int = 1, **settings: Any) -> Scenario:
    """Equal cards that draw 200 W, then from the tenth second on 500 W, each 3 s ahead of the one before."""
    card = {
        "generation": generation,
        "count": count,
        "base_mj": 1_000_000,
        "curve": [[0, 200], [10, 500]],
        "phase_s": 3,
    }
    return parse_scenario(f"{generation}x{count}", {"gpu": [card], **settings})


_children: dict[str, NvidiaProcess] = {}


@contextmanager
def metering(
    scenario: Scenario,
    folder: Path,
    *,
    opened: bool = True,
    events: bool = True,
    sets_left: int = 0,
    **arguments: Any,
) -> Iterator[tuple[FakeNvml, NvidiaProcess]]:
    """The fake driver under a scenario, and a source that meters it; checked for leaks at the end."""
    with FakeNvml(scenario, folder) as fake:
        variant = str(fake.library)
        child = _children.get(variant)
        if child is None:
            child = _children[variant] = NvidiaProcess(fake.environment())
        child.make(fake.state_path, **arguments)
        if not events:  # closing waits for the event thread, which a test of many cases need not
            fake.fail("nvmlEventSetCreate", 3)
        if opened:
            child.open()
        try:
            yield fake, child
        finally:
            fake.release()
            child.close()
        assert fake.init_count() == 0, "an initialisation was left"
        assert fake.open_event_sets() == sets_left, "an event set was left"


class _Clock:
    def __init__(self) -> None:
        self.now_ns = SECOND
        self.tick_ns = 0

    def __call__(self) -> int:
        self.now_ns += self.tick_ns
        return self.now_ns


class _Child:
    """Answers `NvidiaProcess`."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._source: NvidiaSource | None = None

    def answer(self, method: str, *arguments: Any) -> Any:
        if method in ("open", "read", "close"):
            return getattr(self._source, method)()
        return getattr(self, method)(*arguments)

    def make(self, state: str, arguments: dict[str, Any]) -> None:
        os.environ[STATE_VARIABLE] = state
        self._clock = _Clock()
        self._source = NvidiaSource(clock=self._clock, **arguments)

    def pass_time(self, nanoseconds: int) -> None:
        self._clock.now_ns += nanoseconds

    def tick(self, nanoseconds: int) -> None:
        self._clock.tick_ns = nanoseconds

    def threads(self) -> list[str]:
        return [thread.name for thread in threading.enumerate()]


def _portable(error: WattspanError) -> tuple[type[WattspanError], tuple[Any, ...]]:
    if isinstance(error, ReadError):
        return ReadError, (error.reason, error.detail, error.device)
    assert isinstance(error, NotHereError | RestartNeededError | SetupError)
    return type(error), (str(error),)


def _serve() -> None:
    child = _Child()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: tuple[str, Any] = ("answer", child.answer(*request))
        except WattspanError as error:
            answer = ("error", _portable(error))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
