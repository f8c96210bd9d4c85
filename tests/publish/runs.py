"""The runs API on both doors, with a clerk in the writer's place."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.publish.serving import NODE, Answer, Renderer, ask, serving
from tests.publish.views import TAKEN_AT_NS, WALL_OFFSET_NS, Door, filled
from wattspan.model import LedgerView
from wattspan.publish.commands import (
    BeginRun,
    Begun,
    Command,
    Ended,
    EndRun,
    Mailbox,
    Noted,
    NotePhases,
    ProblemReply,
    Reply,
    Reported,
    ReportProgress,
)
from wattspan.publish.connection import Limits
from wattspan.publish.identity import Identity, PodByAddress, PodIdentity, no_pods
from wattspan.publish.peers import PeerProcesses
from wattspan.publish.runs_api import RunsApi
from wattspan.publish.socket_server import SocketLimits, SocketServer
from wattspan.publish.tokens import TokenFile
from wattspan.publish.web import Guard, Site, application
from wattspan.runs import Progress, Run, RunNow, RunRecord, RunTotals
from wattspan.units import NS_PER_S, UJ_PER_J

NOW_WALL_NS = TAKEN_AT_NS + WALL_OFFSET_NS
"""2026-11-18T11:08:20Z."""

POD = PodIdentity("nlp", "sft-0", "0b6d2d4e-6a52-4a3c-9d5c-3c6f4f2c7e11")

EMPTY = RunTotals()


def record(run_id: str = "llama-sft-01JD5", attempt: int = 0, began_s: int = 0, **other: Any) -> RunRecord:
    """A run that has just begun on a node that measures nothing; `other` are fields of its `Run`."""
    return RunRecord(
        run=Run(run_id, attempt, **other),
        node="node-a",
        cluster="",
        began_wall_ns=NOW_WALL_NS - 3600 * NS_PER_S + began_s * NS_PER_S,
        totals=EMPTY,
    )


def finished(run: RunRecord, after_s: int = 1800) -> RunRecord:
    """The same run, successful, with everything measured."""
    totals = RunTotals(
        energy_uj={
            ("gpu", "exclusive"): 3_600_000 * UJ_PER_J + 1,
            ("gpu", "sm_time"): UJ_PER_J,
            ("cpu", "cpu_time"): 90_000 * UJ_PER_J,
            ("dram", "cpu_time"): 10_000 * UJ_PER_J,
        },
        co2e_g=321.5,
        cost=0.25,
        gpu_ns=2 * after_s * NS_PER_S,
        idle_gpu_ns=60 * NS_PER_S,
        utilization_ns=after_s * NS_PER_S,
        gpu_energy_uj={"GPU-1": 3_600_001 * UJ_PER_J + 1},
    )
    return replace(
        run,
        totals=totals,
        ended_wall_ns=run.began_wall_ns + after_s * NS_PER_S,
        result="success",
        progress=Progress(steps=100, samples=6400, total_steps=200, loss=1.9),
        gpus={"GPU-1": "NVIDIA H100", "GPU-2": "NVIDIA H100"},
        grid_zone="DE",
        basis="lifecycle",
        providers=("static",),
        estimated=True,
        pue=1.2,
        currency="EUR",
    )


@dataclass
class Shelf:
    """The runs that are known."""

    records: list[RunRecord] = field(default_factory=list)
    views: list[RunNow] = field(default_factory=list)

    def runs(self) -> Iterator[RunRecord]:
        """All of them."""
        return iter(self.records)

    def run(self, run_id: str, attempt: int | None) -> RunRecord | None:
        """One attempt, or the newest."""
        attempts = [
            one for one in self.records if one.run.run_id == run_id and attempt in {None, one.run.attempt}
        ]
        return max(attempts, key=lambda one: one.run.attempt, default=None)

    def seen(self) -> list[RunNow]:
        """What the newest view has of them."""
        return self.views


class Clerk:
    """Takes commands from the mailbox in a thread of its own, and answers each by a simple book."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.done: list[Command] = []
        self._awake = threading.Event()
        self._stop = False
        self.mailbox = Mailbox(self._awake.set, patience_s=2.0)
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Clerk":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._awake.set()
        self._thread.join()
        self.mailbox.close()

    def _work(self) -> None:
        while not self._stop:
            self._awake.wait()
            self._awake.clear()
            for envelope in self.mailbox.take():
                answer = self.answer(envelope.command)
                if isinstance(answer, ProblemReply):
                    envelope.refuse(answer)
                else:
                    self.done.append(envelope.command)
                    envelope.answer(answer)

    def answer(self, command: Command) -> Reply | ProblemReply:
        """As the writer would."""
        if isinstance(command, BeginRun):
            return self._begin(command)
        known = self.shelf.run(command.run_id, command.attempt)
        if known is None:
            return ProblemReply(HTTPStatus.NOT_FOUND, f"this node knows of no such run: {command.run_id}")
        if not command.caller.may_reach(known.run.namespace):
            return ProblemReply(HTTPStatus.FORBIDDEN, "this run belongs to another namespace")
        match command:
            case ReportProgress():
                return Reported(progress_ratio=0.5)
            case NotePhases():
                return Noted()
            case EndRun():
                ended = replace(finished(known), result=command.result, error_type=command.error_type)
                self.shelf.records[self.shelf.records.index(known)] = ended
                return Ended(ended)

    def _begin(self, command: BeginRun) -> Reply:
        run_id = command.run_id or f"run-{len(self.shelf.records)}"
        known = self.shelf.run(run_id, command.attempt)
        if known is not None:
            return Begun(known, created=False)
        (namespace,) = command.caller.namespaces or {""}
        begun = record(run_id, command.attempt or 0, name=command.name, namespace=namespace)
        self.shelf.records.append(begun)
        return Begun(begun, created=True)


@dataclass
class Office:
    """A clerk and the pages that write to its mailbox."""

    clerk: Clerk
    api: RunsApi

    @property
    def done(self) -> list[Command]:
        """The commands that were done."""
        return self.clerk.done


@contextmanager
def office(
    *records: RunRecord,
    pods: PodByAddress = no_pods,
    tokens: Path | None = None,
    procfs: Path = Path("/proc"),
) -> Iterator[Office]:
    """The runs API with a clerk behind it."""
    shelf = Shelf(list(records))
    with Clerk(shelf) as clerk:
        identity = Identity(PeerProcesses(procfs), pods, TokenFile(tokens) if tokens else None)
        yield Office(clerk, RunsApi(clerk.mailbox, shelf, identity, "", lambda: NOW_WALL_NS))


def loopback_is(pod: PodIdentity | None) -> PodByAddress:
    """Loopback is the address of this pod."""
    return {"127.0.0.1": pod}.get


@contextmanager
def over_tcp(
    runs: RunsApi,
    guard: Guard | None = None,
    *,
    render: Callable[[LedgerView, str], Any] | None = None,
    limits: Limits | None = None,
) -> Iterator[int]:
    """The pages on a port."""
    # Every source is up: schemathesis holds a 503 for a failure even where the description promises it.
    door = Door(replace(filled(), health=filled().health[:1]))
    asgi = application(
        door, render or Renderer(), NODE, runs=runs, guard=guard, now_ns=lambda: TAKEN_AT_NS + NS_PER_S
    )
    with serving(asgi, limits=limits) as port:
        yield port


@contextmanager
def on_socket(
    runs: RunsApi, folder: Path, limits: SocketLimits | None = None, procfs: Path = Path("/proc")
) -> Iterator[Path]:
    """The pages on a local socket, without a page of metrics, as in the base install."""
    site = Site(Door(), None, NODE, runs=runs, now_ns=lambda: TAKEN_AT_NS + NS_PER_S)
    server = SocketServer(folder / "w.sock", site.answer, PeerProcesses(procfs), limits)
    server.start()
    try:
        yield server.path
    finally:
        server.stop()


class LocalConnection(http.client.HTTPConnection):
    """A connection to a local socket."""

    def __init__(self, path: Path, timeout: float = 20) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = dial(self._path, self.timeout)


def dial(path: Path, timeout_s: float | None = 20.0) -> socket.socket:
    """A bare connection to a local socket."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


JSON = {"Content-Type": "application/json"}


def post(door: int | Path, path: str, document: object, headers: Mapping[str, str] | None = None) -> Answer:
    """A write over TCP (a port) or the local socket (a path). A document that is bytes goes as it is."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return say(door, "POST", path, body, {**JSON, **(headers or {})})


def say(
    door: int | Path,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own, through either door."""
    if isinstance(door, int):
        return ask(door, path, method, headers=headers, body=body)
    connection = LocalConnection(door)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, got, answer.read())
    finally:
        connection.close()
