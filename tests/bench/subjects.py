"""The programs that are compared: how each is started, and how one sees that it runs."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.scrape import Scraper

START_TIMEOUT_S = 30.0


class SubjectError(Exception):
    """A program that did not start; the text has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to measure.

    Attributes:
        name: as the table shows it.
        command: its argv; ``{port}``, ``{folder}`` and ``{library}`` are filled in.
        scraped: whether it serves /metrics.
        on_path: commands that it wants to find and call; stand-ins that succeed and say nothing.
        at_4_hz: what its command needs beside, to meter four times a second; empty where it cannot.
    """

    name: str
    command: tuple[str, ...]
    scraped: bool = True
    on_path: tuple[str, ...] = ()
    at_4_hz: tuple[str, ...] = ()

    def faster(self) -> "Subject":
        """The same at 4 Hz; of two equal flags the later one counts."""
        return replace(self, command=(*self.command, *self.at_4_hz))


@dataclass(frozen=True, slots=True)
class Running:
    """A program that runs.

    Attributes:
        subject: which.
        pid: of its first process.
        port: where it serves /metrics, if it does.
        said: the file with its output.
    """

    subject: Subject
    pid: int
    port: int
    said: Path

    def error(self, what: str) -> SubjectError:
        """What is wrong with it, and the end of what it said."""
        return SubjectError(f"{self.subject.name} {what}: {_last_words(self.said)}")


def wattspan(command: str) -> Subject:
    """Ours, as an operator starts it: every source on automatic, the journal on disk."""
    flags = (
        "--nvml.library={library}",
        "--state.dir={folder}/state",
        "--web.listen-address=127.0.0.1:{port}",
    )
    return Subject(
        "wattspan",
        (command, "serve", *flags, "--grid.zone=FR", "--log.level=warning"),
        at_4_hz=("--sample.interval=250ms",),
    )


def nvitop_exporter(python: str) -> Subject:
    """nvitop-exporter from PyPI at 1 Hz, which is its default; it goes up to 4."""
    return Subject(
        "nvitop-exporter",
        (python, "-m", "nvitop_exporter", "--port={port}", "--interval=1"),
        at_4_hz=("--interval=0.25",),
    )


def codecarbon(python: str) -> Subject:
    """CodeCarbon from PyPI, measuring the machine at 1 Hz. It has nothing to scrape.

    It takes a machine for one with NVIDIA GPUs only when ``nvidia-smi --help`` succeeds.
    """
    child = Path(__file__).with_name("codecarbon_child.py")
    command = (python, str(child), "{folder}")
    return Subject("codecarbon", command, scraped=False, on_path=("nvidia-smi",))


@contextmanager
def running(subject: Subject, library: Path, environment: dict[str, str]) -> Iterator[Running]:
    """The program, ready; ended by SIGTERM, and by SIGKILL when it does not obey in 10 s.

    Raises:
        SubjectError: it ended, or was not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="wattspan-bench-") as folder:
        port = _free_port()
        command = [part.format(port=port, folder=folder, library=library) for part in subject.command]
        path = f"{_stand_ins(subject.on_path, Path(folder, 'bin'))}:{environment.get('PATH', os.defpath)}"
        said = Path(folder, "output")
        with said.open("wb") as output:
            process = subprocess.Popen(
                command, env={**environment, "PATH": path}, cwd=folder, stdout=output, stderr=output
            )
        try:
            _wait_until_ready(subject, process, port, said)
            yield Running(subject, process.pid, port, said)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def awake() -> Iterator[None]:
    """Every core of ours runs a loop that gives way to all other work (SCHED_IDLE, sched(7))."""
    loop = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    loops = [subprocess.Popen([sys.executable, "-S", "-c", loop]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


@contextmanager
def idle_runs(runs: int, processes_per_run: int) -> Iterator[list[list[int]]]:
    """Pids, by run, of real processes that do nothing, to stand for training runs that hold GPUs.

    They must exist: nvitop looks each of them up in /proc, and so does Wattspan, for the run that it is of.
    """
    environments = [plain_environment() | {"WATTSPAN_RUN_ID": f"bench-{run}"} for run in range(runs)]
    processes = [
        subprocess.Popen(["sleep", "infinity"], env=environment)
        for environment in environments
        for _ in range(processes_per_run)
    ]
    pids = [process.pid for process in processes]
    try:
        yield [pids[start : start + processes_per_run] for start in range(0, len(pids), processes_per_run)]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _stand_ins(names: tuple[str, ...], folder: Path) -> Path:
    folder.mkdir()
    for name in names:
        command = folder / name
        command.write_text("#!/bin/sh\n", encoding="ascii")
        command.chmod(0o755)
    return folder


def _wait_until_ready(subject: Subject, process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise SubjectError(f"{subject.name} ended with {process.returncode}: {_last_words(said)}")
        if _is_ready(subject, port, said):
            return
        time.sleep(0.2)
    raise SubjectError(f"{subject.name} was not ready in {START_TIMEOUT_S:.0f} s: {_last_words(said)}")


def _is_ready(subject: Subject, port: int, said: Path) -> bool:
    if not subject.scraped:
        return "ready" in said.read_text(errors="replace")
    scraper = Scraper(port)
    try:
        return scraper.scrape().samples > 100
    except (OSError, ValueError):
        return False
    finally:
        scraper.close()


def _last_words(said: Path) -> str:
    return said.read_text(errors="replace").strip()[-800:] or "(it said nothing)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def plain_environment() -> dict[str, str]:
    """Ours without what would configure a subject by accident."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("WATTSPAN_", "CODECARBON_"))
    }
