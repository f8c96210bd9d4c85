"""When to look: one clock, one worker thread for each source, one `Snapshot` a tick.

A call that hangs costs its own source and nothing else: the tick goes on without it,
its health says ``timeout``, and what it finally returns is taken as of the time it was read.
Ticks that were missed are gaps; they are never made up for in a burst.
"""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from wattspan.devices import Source
from wattspan.errors import NotHereError, ReadError, Reason, RestartNeededError
from wattspan.model import Failure, Snapshot, SourceHealth, SourceReport
from wattspan.units import NS_PER_S

logger = logging.getLogger(__name__)

PATIENCE: Final = 0.8
"""Share of the interval that a tick waits for the reads it has just asked for."""

MAX_PATIENCE_S: Final = 2.0
"""And this long at most, so that a daemon with a long interval still stops in time."""

HEAD_START_S: Final = 0.02
"""How long a tick waits for one read before it asks the next worker too.

Workers that read at the same time pass the interpreter's lock to and fro at every call into a library:
beside NVML's of 8 GPUs the thread of an estimate was switched 24 to 30 times a second, and is twice now.
"""

TIMEOUT_INTERVALS: Final = 3
"""A read that has been out for longer than this many intervals (and three seconds) has timed out."""

MIN_TIMEOUT_NS: Final = 3 * NS_PER_S

BOUNDARY_NS: Final = NS_PER_S // 5
"""Between two looks that mail has asked for, whoever sent it: the driver is not a client's to drive.

NVML's calls queue behind one lock with the jobs' own; polling at 40 Hz was seen to delay them
(MangoHud #2104).
"""

CLOCK_STEP_NS: Final = NS_PER_S // 2
"""A wall clock that moved this much against the monotonic one in a tick was set, not slewed.

The kernel slews by at most 500 ppm (adjtimex(2)), half a millisecond in a second.
"""

CLOCK_READ_NS: Final = 20_000
"""Two clocks read one after the other take well under a microsecond unless the thread was put aside."""

REOPEN_FIRST_S: Final = 5.0
REOPEN_LAST_S: Final = 300.0
"""A source that is not here is looked for again: drivers may load after the daemon has started."""

Phase = Literal["closed", "open", "released"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A worker found its source."""

    found: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A worker did not find its source."""

    why: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A worker has given up its handles."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker's open or read failed."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Only a new process can go on."""

    why: str


@dataclass(frozen=True, slots=True)
class _Release:
    """Somebody wants a source's handles.

    Attributes:
        number: of the request; a later one is another.
        until_ns: for how long.
    """

    number: int
    until_ns: int


Outcome = SourceReport | Opened | Absent | Closed | Failed | Exhausted
Command = Literal["open", "read", "close", "stop"]


class Worker:
    """The thread that owns one source.

    Everything here belongs to the sampler's thread, save `_run`, which has the source and two queues.
    """

    def __init__(
        self, source: Source, required: bool, results: "queue.SimpleQueue[tuple[Worker, Outcome]]"
    ) -> None:
        self.source = source
        self.required = required
        self.phase: Phase = "closed"
        self.released_for = 0
        self.found = required
        self.asked: Command | None = None
        self.asked_at_ns = 0
        self.timed_out = False
        self.reopen_at_ns = 0
        self.reopen_after_s = REOPEN_FIRST_S
        self.absent_why: str | None = None
        self.failing: dict[str, Reason] = {}
        self.health = SourceHealth(source.name, up=False, last_read_ns=None, reason="starting")
        self._results = results
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"source-{source.name}", daemon=True)
        self._thread.start()

    def ask(self, command: Command, now_ns: int) -> None:
        """Hand the thread its next call; it must have answered the one before."""
        self.asked, self.asked_at_ns, self.timed_out = command, now_ns, False
        self._commands.put(command)

    def stop(self) -> None:
        """Let the thread close the source and end, when and if its present call returns."""
        self._commands.put("stop")

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            command = self._commands.get()
            if command == "stop":
                self.source.close()
                return
            self._results.put((self, self._call(command)))

    def _call(self, command: Command) -> Outcome:
        try:
            if command == "read":
                return self.source.read()
            if command == "close":
                self.source.close()
                return Closed()
            return Opened(self.source.open())
        except NotHereError as error:
            return Absent(str(error))
        except RestartNeededError as error:
            return Exhausted(str(error))
        except ReadError as error:
            return Failed(Failure(self.source.name, error.reason, error.detail, error.device))
        except Exception as error:  # a fault of ours in one source must not end the others
            logger.debug("source %s raised", self.source.name, exc_info=True)
            return Failed(Failure(self.source.name, "unknown", f"{type(error).__name__}: {error}"))


class Sampler:
    """Looks at every source once per interval and hands each `Snapshot` on.

    Args:
        sources: with True for those whose absence is a failure.
        interval_ns: between two looks.
        monotonic_ns, wall_ns: the clocks; handed in so that a day can be replayed.
        patience_s: how long a look waits for the reads it has asked for, on the clock of this machine;
            `PATIENCE` of the interval if not given.

    Attributes:
        restart_needed: why only a new process can go on; empty while this one can.
        woken: set by whoever wants `run` to look up before its next tick.
        names: of the sources.
    """

    def __init__(
        self,
        sources: Iterable[tuple[Source, bool]],
        interval_ns: int,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        patience_s: float | None = None,
    ) -> None:
        self.interval_ns = interval_ns
        self._patience_s = patience_s or min(PATIENCE * interval_ns / NS_PER_S, MAX_PATIENCE_S)
        self.restart_needed = ""
        self.woken = threading.Event()
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._results: queue.SimpleQueue[tuple[Worker, Outcome]] = queue.SimpleQueue()
        self._workers = [Worker(source, required, self._results) for source, required in sources]
        self.names = frozenset(worker.source.name for worker in self._workers)
        self._timeout_ns = max(TIMEOUT_INTERVALS * interval_ns, MIN_TIMEOUT_NS)
        self._sequence = 0
        self._wall_offset_ns: int | None = None
        self._releases: dict[str, _Release] = {}
        self._requests = itertools.count(1)

    def run(
        self,
        stop: threading.Event,
        deliver: Callable[[Snapshot], None],
        mail: Callable[[], bool] = lambda: False,
    ) -> None:
        """Tick until `stop` is set or a source needs a new process. Blocks: this is the writer's thread.

        Args:
            stop: ends the loop; set `woken` too, so that it is seen at once.
            deliver: takes each snapshot.
            mail: called before each tick, and whenever `woken` is set; True wants a look at once,
                because something has begun or ended at this moment.
                It comes at once, or `BOUNDARY_NS` after the last one that was asked for, or with the tick.
        """
        next_ns = self._monotonic_ns()
        allowed_ns = next_ns
        missed = 0
        while not stop.is_set():
            mail()
            wanted = False
            deliver(self.look(missed))
            if self.restart_needed:
                return
            now_ns = self._monotonic_ns()
            next_ns += self.interval_ns
            missed = max(0, (now_ns - next_ns) // self.interval_ns)
            next_ns += missed * self.interval_ns
            while (now_ns := self._monotonic_ns()) < next_ns and not stop.is_set():
                if wanted and now_ns >= allowed_ns:
                    wanted, allowed_ns = False, now_ns + BOUNDARY_NS
                    deliver(self.look())
                    continue
                until_ns = min(next_ns, allowed_ns) if wanted else next_ns
                if self.woken.wait((until_ns - now_ns) / NS_PER_S):
                    self.woken.clear()
                    if not stop.is_set():
                        wanted = mail() or wanted

    def look(self, missed_ticks: int = 0) -> Snapshot:
        """Look once at every source that is free, wait a little, and say what came back."""
        started_ns = self._monotonic_ns()
        awaited: set[Worker] = set()
        reports: list[SourceReport] = []
        failures: list[Failure] = []
        give_up_s = time.monotonic() + self._patience_s
        for worker in self._workers:
            if self._ask_next(worker, started_ns):
                awaited.add(worker)
                ahead_until_s = min(give_up_s, time.monotonic() + HEAD_START_S)
                while worker in awaited and self._settle_next(awaited, ahead_until_s, reports, failures):
                    pass
        while self._settle_next(awaited, give_up_s, reports, failures):
            pass
        now_ns = self._monotonic_ns()
        for worker in self._workers:
            self._watch(worker, now_ns, failures)
        return self._snapshot(now_ns, reports, failures, missed_ticks)

    def release(self, names: Iterable[str], for_ns: int) -> None:
        """Give up the handles of these sources for a while; 0 takes them up again. Any thread may call.

        However short the while is, they are given up once: from the next look to the one after it at least.
        """
        release = _Release(next(self._requests), self._monotonic_ns() + for_ns)
        wanted = dict.fromkeys(names, release)
        others = {name: kept for name, kept in self._releases.items() if name not in wanted}
        self._releases = {**others, **wanted} if for_ns else others

    @property
    def released(self) -> bool:
        """Whether every source of a release, if it is here, has given up its handles and not taken them up.

        Also when the time is over by now: whoever asked may only now be told.
        """
        releases, now_ns = self._releases, self._monotonic_ns()
        workers = [worker for worker in self._workers if worker.source.name in releases]
        on = any(release.until_ns > now_ns for release in releases.values())
        on = on or any(worker.phase == "released" for worker in workers)
        return on and all(
            worker.phase != "open"
            and worker.asked is None
            and worker.released_for == releases[worker.source.name].number
            for worker in workers
        )

    def close(self, timeout_s: float) -> None:
        """Let every worker close its source; one that hangs is left behind."""
        give_up_s = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join(max(0.0, give_up_s - time.monotonic()))

    def _ask_next(self, worker: Worker, now_ns: int) -> bool:
        """Give a free worker its next call. True when this tick should wait for it."""
        if worker.asked is not None:
            return False
        release = self._releases.get(worker.source.name)
        if release and (release.until_ns > now_ns or release.number != worker.released_for):
            worker.released_for = release.number
            if worker.phase != "open":
                return False
            worker.ask("close", now_ns)
            return True
        if worker.phase == "open":
            worker.ask("read", now_ns)
            return True
        if worker.phase == "released" or now_ns >= worker.reopen_at_ns:
            worker.ask("open", now_ns)
            return True
        return False

    def _settle_next(
        self, awaited: set[Worker], until_s: float, reports: list[SourceReport], failures: list[Failure]
    ) -> bool:
        """Take the next outcome, if there is one in time.

        What came late from an earlier tick is taken too; only who was asked in this one is waited for.
        """
        try:
            worker, outcome = self._results.get(
                block=bool(awaited), timeout=max(0.0, until_s - time.monotonic())
            )
        except queue.Empty:
            return False
        awaited.discard(worker)
        self._settle(worker, outcome, reports, failures)
        if worker.asked is not None:
            awaited.add(worker)
        return True

    def _settle(
        self, worker: Worker, outcome: Outcome, reports: list[SourceReport], failures: list[Failure]
    ) -> None:
        asked, worker.asked = worker.asked, None
        match outcome:
            case SourceReport():
                reports.append(outcome)
                failures.extend(outcome.failures)
                self._judge(worker, outcome)
            case Opened(found):
                worker.phase, worker.found, worker.absent_why = "open", True, None
                worker.reopen_after_s = REOPEN_FIRST_S
                logger.info("source %s: %s", worker.source.name, found)
                # The first look follows at once, so that a daemon is ready within its first tick.
                worker.ask("read", self._monotonic_ns())
            case Absent(why):
                self._not_here(worker, why, failures)
            case Closed():
                worker.phase = "released"
                self._change(
                    worker, SourceHealth(worker.source.name, False, worker.health.last_read_ns, "released")
                )
            case Failed(failure):
                if asked == "open":
                    self._reopen_later(worker)
                failures.append(failure)
                self._down(worker, failure)
            case Exhausted(why):
                self.restart_needed = why

    def _judge(self, worker: Worker, report: SourceReport) -> None:
        read_ns = (report.started_ns + report.finished_ns) // 2
        if report.gpus or report.hosts or report.platforms or not report.failures:
            self._change(worker, SourceHealth(worker.source.name, up=True, last_read_ns=read_ns))
            self._note_devices(worker, report.failures)
        else:
            self._down(worker, report.failures[0])

    def _note_devices(self, worker: Worker, failures: Iterable[Failure]) -> None:
        """Log the devices of a source that is up as they fail and return, and stay silent in between."""
        before, now = worker.failing, {f.device: f.reason for f in failures if f.device is not None}
        worker.failing = now
        for failure in failures:
            if failure.device is not None and before.get(failure.device) != failure.reason:
                logger.warning(
                    "source %s: %s is down: %s: %s",
                    failure.source,
                    failure.device,
                    failure.reason,
                    failure.detail,
                )
        for device in before.keys() - now.keys():
            logger.info("source %s: %s is back", worker.source.name, device)

    def _not_here(self, worker: Worker, why: str, failures: list[Failure]) -> None:
        self._reopen_later(worker)
        if why != worker.absent_why:
            worker.absent_why = why
            logger.log(
                logging.WARNING if worker.found else logging.INFO,
                "source %s: not here: %s",
                worker.source.name,
                why,
            )
        if worker.found:
            failure = Failure(worker.source.name, "library" if worker.required else "lost", why)
            failures.append(failure)
            last_ns = worker.health.last_read_ns
            worker.health = SourceHealth(worker.source.name, False, last_ns, failure.reason, why)

    def _reopen_later(self, worker: Worker) -> None:
        worker.phase = "closed"
        worker.reopen_at_ns = self._monotonic_ns() + int(worker.reopen_after_s * NS_PER_S)
        worker.reopen_after_s = min(2 * worker.reopen_after_s, REOPEN_LAST_S)

    def _watch(self, worker: Worker, now_ns: int, failures: list[Failure]) -> None:
        """Notice a call that has been out for too long, once."""
        if worker.asked is None or worker.timed_out or now_ns - worker.asked_at_ns < self._timeout_ns:
            return
        worker.timed_out = True
        waited_s = (now_ns - worker.asked_at_ns) / NS_PER_S
        failure = Failure(
            worker.source.name, "timeout", f"{worker.asked} has not returned for {waited_s:.1f} s"
        )
        failures.append(failure)
        self._down(worker, failure)

    def _down(self, worker: Worker, failure: Failure) -> None:
        worker.found = True
        health = SourceHealth(
            worker.source.name, False, worker.health.last_read_ns, failure.reason, failure.detail
        )
        self._change(worker, health)

    def _change(self, worker: Worker, health: SourceHealth) -> None:
        """Take the new health; log it when the state changed, and stay silent while it lasts."""
        before, worker.health = worker.health, health
        if (before.up, before.reason) == (health.up, health.reason):
            return
        if health.up:
            if before.reason != "starting":
                logger.info("source %s: is back", health.source)
        elif health.reason == "released":
            logger.info("source %s: handles released", health.source)
        else:
            logger.warning("source %s: down: %s: %s", health.source, health.reason, health.detail)

    def _read_wall_offset_ns(self) -> int:
        """Wall minus monotonic clock; looked at again when something came between the two reads."""
        for _ in range(4):
            before_ns = self._monotonic_ns()
            wall_ns = self._wall_ns()
            after_ns = self._monotonic_ns()
            if after_ns - before_ns < CLOCK_READ_NS:
                break
        return wall_ns - (before_ns + after_ns) // 2

    def _snapshot(
        self, now_ns: int, reports: list[SourceReport], failures: list[Failure], missed_ticks: int
    ) -> Snapshot:
        self._sequence += 1
        wall_offset_ns = self._read_wall_offset_ns()
        before_ns = self._wall_offset_ns
        stepped = before_ns is not None and abs(wall_offset_ns - before_ns) > CLOCK_STEP_NS
        if stepped and before_ns is not None:
            logger.warning(
                "wall clock stepped by %.3f s; no energy moves", (wall_offset_ns - before_ns) / NS_PER_S
            )
        self._wall_offset_ns = wall_offset_ns
        # In the sources' order and not in that of their answers: what is published keeps its order.
        places = {worker.source.name: place for place, worker in enumerate(self._workers)}
        reports.sort(key=lambda report: places[report.source])
        return Snapshot(
            sequence=self._sequence,
            taken_at_ns=now_ns,
            wall_offset_ns=wall_offset_ns,
            reports=tuple(reports),
            failures=tuple(failures),
            health=tuple(worker.health for worker in self._workers if worker.found),
            missed_ticks=missed_ticks,
            clock_stepped=stepped,
        )
