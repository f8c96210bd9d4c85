"""Training as a daemon sees it: processes that really exist, on fake cards, and what is told of them."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.e2e.daemon import PATIENCE_S, Answer, Daemon
from tests.fakes.nvml import FakeNvml, Process
from wattspan.journal.history import History
from wattspan.runs import RunRecord
from wattspan.units import UJ_PER_J

RUNS: Final = "/api/v1/runs"

CONTEXT_MIB: Final = 500
"""Of device memory, for a process with a CUDA context."""

SEEN_S: Final = 2.0
"""By when a daemon that samples at 5 Hz has seen who came to a card: it asks again after 0.9 s."""

Document = dict[str, Any]


class LocalConnection(http.client.HTTPConnection):
    """HTTP over a local socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def write(
    connection: http.client.HTTPConnection, path: str, body: object, headers: Mapping[str, str] | None = None
) -> Answer:
    """POST; a body that is bytes goes as it is, anything else as JSON. The connection is closed."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        # Who sends too much is told so, and not listened to any further.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", path, data, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


class Clerk:
    """Tells a daemon of runs over its local socket, as this process.

    Args:
        daemon: that is ready.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def post(self, path: str, body: object) -> Answer:
        """One write, told until the daemon has committed it, as the client does."""
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            answer = write(LocalConnection(self._daemon.socket_path), path, body)
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > give_up_s:
                return answer
            time.sleep(0.1)

    def begin(self, **body: object) -> Document:
        """Begin a run, or join it."""
        return _done(self.post(RUNS, body))

    def tell(self, run_id: str, what: str, **body: object) -> Document:
        """Progress, a phase, or the end."""
        return _done(self.post(f"{RUNS}/{quote(run_id, safe='')}/{what}", {"attempt": 0, **body}))

    def end(self, run_id: str, result: str = "success", **body: object) -> Document:
        """The end; gives the final document."""
        return self.tell(run_id, "end", result=result, **body)

    def run(self, run_id: str) -> Document:
        """What the daemon knows of a run."""
        answer = self._daemon.get(f"{RUNS}/{quote(run_id, safe='')}")
        assert answer.status == HTTPStatus.OK, answer
        document: Document = json.loads(answer.body)
        return document

    def until_ended(self, run_id: str) -> Document:
        """Wait until the daemon says that a run is over."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            document = self.run(run_id)
            if document["state"] == "ended":
                return document
            time.sleep(0.1)
        raise AssertionError(f"{run_id} does not end")


def _done(answer: Answer) -> Document:
    assert answer.status in (HTTPStatus.OK, HTTPStatus.CREATED), answer
    document: Document = json.loads(answer.body)
    return document


class Jobs:
    """Processes on the cards of a fake. Each is a child of this one, so that it may be claimed."""

    def __init__(self, fake: FakeNvml) -> None:
        self._fake = fake
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._cards: dict[int, list[int]] = {gpu: [] for gpu in range(len(fake.uuids))}
        self._sm_percent: dict[int, int] = {}

    def start(
        self, gpu: int, *, busy: bool = False, env: Mapping[str, str] | None = None, sm_percent: int = 0
    ) -> int:
        """A process with a context on a card, and SM time as the driver tells it; gives its pid."""
        pid = self.idle(busy=busy, env=env)
        self._sm_percent[pid] = sm_percent
        self.enter(gpu, pid)
        return pid

    def idle(self, *, busy: bool = False, env: Mapping[str, str] | None = None) -> int:
        """A process that is on no card yet."""
        command = [sys.executable, "-S", "-c", "while True: pass"] if busy else ["sleep", "600"]
        job = subprocess.Popen(command, env=dict(env or {}))
        self._running[job.pid] = job
        return job.pid

    def enter(self, gpu: int, pid: int) -> None:
        """The process makes a context on a card."""
        self._cards[gpu].append(pid)
        self._show(gpu)

    def leave(self, gpu: int, pid: int) -> None:
        """It gives the context up."""
        self._cards[gpu].remove(pid)
        self._show(gpu)

    def kill(self, pid: int) -> None:
        """kill -9: the driver takes its contexts away."""
        job = self._running.pop(pid)
        job.kill()
        job.wait()
        for gpu, pids in self._cards.items():
            if pid in pids:
                self.leave(gpu, pid)

    def close(self) -> None:
        for pid in tuple(self._running):
            self.kill(pid)

    def _show(self, gpu: int) -> None:
        pids = self._cards[gpu]
        processes = [Process(pid, CONTEXT_MIB, self._sm_percent.get(pid, 0)) for pid in pids]
        self._fake.set_processes(gpu, processes)
        # That memory in use has changed is what shows the daemon that somebody came or went.
        self._fake.set_look(gpu, memory_used_mib=CONTEXT_MIB * len(pids))


@contextmanager
def jobs_on(fake: FakeNvml) -> Iterator[Jobs]:
    """Jobs that end with the block."""
    jobs = Jobs(fake)
    try:
        yield jobs
    finally:
        jobs.close()


def kept(state_dir: Path, run_id: str, attempt: int = 0) -> RunRecord:
    """An attempt as the journal holds it."""
    return {record.run.attempt: record for record in History(state_dir).attempts(run_id)}[attempt]


def gpu_joules(record: RunRecord) -> float:
    """What the cards used for a run."""
    return sum(uj for (of, _), uj in record.totals.energy_uj.items() if of == "gpu") / UJ_PER_J


def true_joules(fake: FakeNvml, gpus: Iterable[int], began_wall_ns: int, ended_wall_ns: int) -> float:
    """What cards used between two moments of the wall clock, by the scenario."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    begin, end = (fake.scenario_ns(wall_ns - offset_ns) for wall_ns in (began_wall_ns, ended_wall_ns))
    return sum(fake.energy_mj(gpu, end) - fake.energy_mj(gpu, begin) for gpu in gpus) / 1000
