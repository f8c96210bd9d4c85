"""The real daemon in a process of its own, as a test starts, watches and ends it."""

import http.client
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.nvml import FakeNvml

PATIENCE_S: Final = 60.0
"""How long anything may take before a test gives up: long, because the machine may be busy."""

OTHER_SOURCES: Final = ("amd", "intel", "rapl", "hwmon", "ipmi", "estimate")

Series = tuple[str, frozenset[tuple[str, str]]]


class DaemonError(AssertionError):
    """The daemon did not do what the test waited for; the text has what it said."""


@dataclass(frozen=True)
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Scrape(dict[Series, float]):
    """One body of /metrics: values by name and labels, and the body itself as `text`."""

    def __init__(self, text: str) -> None:
        super().__init__(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        )
        self.text = text

    def series(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """The series of a name whose labels include these."""
        wanted = labels.items()
        return {found: value for (of, found), value in self.items() if of == name and wanted <= found}

    def find(self, name: str, **labels: str) -> float | None:
        """The value of the one series of a name whose labels include these; None if there is none."""
        found = self.series(name, **labels)
        assert len(found) < 2, f"{name}{labels} is {len(found)} series"
        return next(iter(found.values()), None)

    def value(self, name: str, **labels: str) -> float:
        """The same, where it must be there."""
        value = self.find(name, **labels)
        assert value is not None, f"{name}{labels} is not in the scrape"
        return value

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series of a name whose labels include these."""
        return sum(self.series(name, **labels).values())


class Program:
    """A daemon by the words that start it.

    It is started on entry and killed on exit if it still runs; no line it ever wrote may be a traceback.

    Args:
        argv, environment: of its process.
        log: where what it says goes, one start after the other.
        host, port: where it answers; port 0 lets the kernel choose.
        tls: how to speak to it where its web configuration asks for TLS.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.log_path = log
        self.host = host
        self.tls = tls
        self._argv = tuple(argv)
        self._environment = dict(environment)
        self._port = port
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        if error is None:
            assert "Traceback" not in self.stderr, self.stderr
        else:
            error.add_note(f"The daemon said:\n{self.stderr}")

    def start(self) -> None:
        """Start it; also again, after it has ended."""
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        """What it has said since it was last started."""
        return self.log_path.read_bytes()[self._log_start :].decode(errors="backslashreplace")

    @property
    def port(self) -> int:
        """Where it listens; waits until it says so, if the kernel was to choose."""
        if self._port:
            return self._port
        said = self.until_said(r"serves on 127\.0\.0\.1:(\d+)")
        return int(said[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    # Watching it

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, timeout_s: float = PATIENCE_S
    ) -> Answer:
        """GET a path.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        if self.tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout_s, context=self.tls
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def metrics(self, headers: Mapping[str, str] | None = None) -> Scrape:
        """Scrape it."""
        answer = self.get("/metrics", headers)
        assert answer.status == http.HTTPStatus.OK, answer
        return Scrape(answer.text)

    def wait_ready(self) -> Self:
        """Wait until it says that it is ready."""
        for _ in self._patiently("ready"):
            try:
                if self.get("/-/ready").status == http.HTTPStatus.OK:
                    return self
            except (OSError, http.client.HTTPException):
                pass
        raise AssertionError("unreachable")

    def until(
        self, condition: Callable[[Scrape], object], what: str, headers: Mapping[str, str] | None = None
    ) -> Scrape:
        """Scrape until something holds; gives the scrape in which it did."""
        for _ in self._patiently(what):
            scrape = self.metrics(headers)
            if condition(scrape):
                return scrape
        raise AssertionError("unreachable")

    def until_said(self, pattern: str) -> re.Match[str]:
        """Wait for words in its log."""
        for _ in self._patiently(f"saying {pattern!r}"):
            if said := re.search(pattern, self.stderr):
                return said
        raise AssertionError("unreachable")

    def after(self, ticks: int) -> Scrape:
        """The first scrape at least so many commits after now."""
        target = self.metrics().value("wattspan_journal_commits_total") + ticks
        return self.until(
            lambda scrape: scrape.value("wattspan_journal_commits_total") >= target, f"{ticks} ticks"
        )

    def _patiently(self, what: str) -> Iterator[None]:
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            ended = self.process.poll()
            yield
            if ended is not None:
                raise DaemonError(f"waiting for {what}: it ended with {ended}")
            time.sleep(0.05)
        raise DaemonError(f"waited {PATIENCE_S:.0f} s for {what}")

    # Ending it

    def kill(self) -> None:
        """SIGKILL, as of a power cut to the process."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> tuple[int, float]:
        """SIGTERM, as a service manager ends it; gives exit code and seconds."""
        started_s = time.monotonic()
        self._signal(signal.SIGTERM)
        return self.ended(), time.monotonic() - started_s

    def ended(self) -> int:
        """Wait for its end; gives the exit code."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise DaemonError("it did not end") from None

    def _signal(self, number: int) -> None:
        self.process.send_signal(number)


class Daemon(Program):
    """``wattspan serve`` on a free port of loopback, with no source but the fake driver.

    Args:
        fake: the driver that it loads; without one it has no source.
        state_dir: its state folder.
        flags: further flags; a later one beats an earlier one, so they may turn sources on.
        env: variables on top of a small environment that says nothing of this machine.
        port: where to listen; 0 lets the kernel choose.
        tls: how to speak to it where its web configuration asks for TLS.
        command: the command and what belongs to it alone, such as ``("demo", "--gpus", "2")``.
        python: the words that start the program, before the command.
        log: where what it says goes, one start after the other; ``<state_dir>.log`` if not given.
    """

    def __init__(
        self,
        fake: FakeNvml | None,
        state_dir: Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        command: tuple[str, ...] = ("serve",),
        python: tuple[str, ...] = (sys.executable, "-m", "wattspan"),
        log: Path | None = None,
    ) -> None:
        self.socket_path = state_dir.parent / f"{state_dir.name}.sock"
        library = ("--nvml.library", str(fake.library)) if fake else ("--source.nvidia", "off")
        argv = (
            *python,
            *command,
            *(library if command[0] == "serve" else ()),
            *("--state.dir", str(state_dir), "--web.listen-address", f"127.0.0.1:{port}"),
            *("--socket", str(self.socket_path)),
            *(word for source in OTHER_SOURCES for word in (f"--source.{source}", "off")),
            *flags,
        )
        base = clean_environment(state_dir.parent)
        environment = {**(fake.environment(base) if fake else base), **(env or {})}
        log = log or state_dir.with_name(f"{state_dir.name}.log")
        super().__init__(argv, environment, log, port=port, tls=tls)


def clean_environment(home: Path) -> dict[str, str]:
    """An environment that says nothing about this machine; a warning of ours in it is an error."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONWARNINGS": "error",
        # Else a test on a machine of a cloud would ask that cloud where it is.
        "WATTSPAN_GRID_CLOUD_METADATA": "off",
    }
