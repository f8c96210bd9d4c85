"""The one thread of a run that talks to the daemon; the job's threads only leave things for it.

What is left is a queue of events, bounded, and the latest progress, of which only the last value counts.
An event is delivered in order and until it is answered; the daemon takes one that comes twice as one.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from wattspan.client.arguments import TOTALS, Document
from wattspan.client.daemon import Daemon, RefusedError, UnansweredError
from wattspan.client.ephemeral import Ephemeral
from wattspan.errors import UnreachableError, WattspanError

RUNS: Final = "/api/v1/runs"

INTERVAL_S: Final = 5.0
"""Between two reports of progress: three of them for each usual scrape, and no load to speak of."""

ALIVE_S: Final = 300.0
"""How often a run with nothing to tell says that it is there: one that only a token vouches for has to."""

MAX_WAITING: Final = 1000
"""Events that wait for a daemon that is away; what does not fit is lost, and that is said."""

MAX_AT_ONCE: Final = 32
"""Phases that are told in one request: the daemon answers it after its next look, which may be a while."""

MAX_COMPLAINTS: Final = 20
"""Different complaints about one run; a loop that makes new ones must not fill the log."""

MAX_DELAY_S: Final = 30.0
"""Between two attempts to reach a daemon that is away."""

HURRY_S: Final = 0.1
"""The same right after the run's end, when somebody waits for its summary."""

HURRY_FOR_S: Final = 10.0
"""How long that may be; `wattspan run` waits longest."""

LINGER_S: Final = 600.0
"""How long the end of a run is tried to be told, in a process that goes on living."""

log = logging.getLogger("wattspan.client")


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell the daemon.

    Attributes:
        path: below the run: ``progress``, ``phases`` or ``end``.
        document: what, without the attempt.
    """

    path: str
    document: Document


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something to tell the engineer."""

    text: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The process goes without saying how the run ended; what is known of it is still delivered."""


class _GivenUpError(WattspanError):
    """The run cannot be told to anybody any more."""


class Courier:
    """Carries one run to the daemon.

    Args:
        daemon: who is told.
        ephemeral: what to start where there is none; None to go without.
        begin: the document that begins the run.
        complaints: about the arguments that it was made of.
        interval_s: between two reports of progress.
        alive_s: between two of them where there is none.
    """

    def __init__(
        self,
        daemon: Daemon,
        ephemeral: Ephemeral | None,
        begin: Document,
        complaints: list[str],
        *,
        interval_s: float = INTERVAL_S,
        alive_s: float = ALIVE_S,
    ) -> None:
        self._daemon = daemon
        self._ephemeral = ephemeral
        self._begin = begin
        self._interval_s = interval_s
        self._alive_s = alive_s
        self._queue: queue.SimpleQueue[Event | Complaint | Leave] = queue.SimpleQueue()
        self._taken: Event | Complaint | Leave | None = None
        self._complaints: set[str] = set()
        self._latest: Document = {}
        self._sent: Document = {}
        self._sent_at_s = time.monotonic()
        self._lost = False
        self._faulty = False
        self._ending_since_s: float | None = None
        self._ending = threading.Event()
        self._settled = threading.Event()
        self._over = threading.Event()
        self._pid = os.getpid()
        self.begun: Document | None = None
        """The daemon's answer to the begin; None before it."""
        self.pace: Document = {}
        """The daemon's answer to the last progress."""
        self.summary: Document | None = None
        """The daemon's answer to the end; None before it."""
        self.trouble = "the daemon has not answered yet"
        """Why there is no answer."""
        for text in complaints:
            self.complain(text)

    def start(self) -> None:
        """Start the thread. It never keeps the process from ending."""
        threading.Thread(target=self._run, name="wattspan", daemon=True).start()

    # What follows is called by the job's threads: no lock that is held during input or output, no system call
    # that waits. SimpleQueue.put never blocks (https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put).

    def tell(self, event: Event, *, always: bool = False) -> bool:
        """Leave an event; False when it is lost because too many wait already, or the run is over."""
        if self._over.is_set() or self._forked():
            return False
        if self._queue.qsize() >= MAX_WAITING and not always:
            self._lost = True
            return False
        self._queue.put(event)
        return True

    def progress(self, counts: Document) -> None:
        """Leave progress. The daemon has to see the first value of each total, which is where it counts from,
        and both sides of a step back; of all others the last is enough.
        """
        latest = self._latest
        turn = False
        for name in TOTALS:
            if name in counts and (name not in latest or counts[name] < latest[name]):
                turn = True
        if turn and latest:
            self.tell(Event("progress", dict(latest)))
        latest.update(counts)
        if turn:
            self.tell(Event("progress", dict(latest)))

    def complain(self, text: str) -> None:
        """Leave a complaint; each is made once."""
        if self._is_new(text):
            self._queue.put(Complaint(text))

    def end(self, how: Document | None) -> None:
        """Leave the last event: how the run ended, or None where nobody knows."""
        if self._forked():
            return
        self._ending_since_s = time.monotonic()
        self._queue.put(Leave() if how is None else Event("end", how))
        self._ending.set()

    def _is_new(self, text: str) -> bool:
        if text in self._complaints or len(self._complaints) >= MAX_COMPLAINTS:
            return False
        self._complaints.add(text)
        return True

    # What follows waits, for as long as the caller says.

    def settled(self, patience_s: float) -> bool:
        """Whether the run has begun, or it is known that no daemon is there to begin it."""
        return self._forked() or self._settled.wait(patience_s)

    def over(self, patience_s: float) -> bool:
        """Whether all is said, or nothing more can be."""
        return self._forked() or self._over.wait(patience_s)

    def _forked(self) -> bool:
        """A child that was forked off has the run of its parent, and no thread that would carry it."""
        return os.getpid() != self._pid

    # What follows is the courier's own thread.

    def _run(self) -> None:
        try:
            self._carry()
        except _GivenUpError as error:
            self.trouble = str(error)
        except Exception as error:
            self.trouble = f"unexpected {type(error).__name__} in the client: {error}"
            log.warning("wattspan: %s", self.trouble)
        finally:
            self._over.set()
            self._settled.set()

    def _carry(self) -> None:
        self._begin_run()
        while True:
            item = self._next()
            match item:
                case None:
                    self._send_latest()
                    if time.monotonic() - self._sent_at_s >= self._alive_s:
                        self._sent_at_s = time.monotonic()
                        self._send(Event("progress", dict(self._latest)))
                case Complaint():
                    log.warning("wattspan: %s", item.text)
                case Leave():
                    self._send_latest(last=True)
                    return
                case Event(path="end"):
                    self._send_latest(last=True)
                    self._end_run(item)
                    return
                case Event():
                    self._send_with_followers(item)
                    if time.monotonic() - self._sent_at_s >= self._interval_s:
                        self._send_latest()

    def _next(self) -> Event | Complaint | Leave | None:
        item, self._taken = self._taken, None
        if item is not None:
            return item
        try:
            return self._queue.get(timeout=self._interval_s)
        except queue.Empty:
            return None

    def _begin_run(self) -> None:
        try:
            answer = self._insist(self._ask_to_begin)
        except RefusedError as error:
            log.warning("wattspan: this run is not metered: %s", error)
            raise _GivenUpError(str(error)) from error
        self._begin = {**self._begin, "run_id": answer["run_id"], "attempt": answer["attempt"]}
        self.begun = answer
        self.trouble = "the daemon has not answered to the end of the run"
        self._settled.set()

    def _ask_to_begin(self) -> Document:
        try:
            answer = self._daemon.ask("POST", RUNS, self._begin)
        except UnreachableError:
            starter, self._ephemeral = (
                self._ephemeral,
                None,
            )  # once: what fails to start is not started forever
            if starter is None or self._ending.is_set():
                raise
            starter.ensure()
            answer = self._daemon.ask("POST", RUNS, self._begin)
        if not isinstance(answer.get("run_id"), str) or not isinstance(answer.get("attempt"), int):
            raise UnansweredError("the daemon's answer names no run")
        return answer

    def _send_latest(self, *, last: bool = False) -> None:
        latest = dict(self._latest)
        # Events are left before the values that came after them, so a queue that is empty now hides none.
        if latest == self._sent or not (last or (self._queue.empty() and self._taken is None)):
            return
        self._send(Event("progress", latest))

    def _send_with_followers(self, first: Event) -> None:
        """Deliver an event, and if it is of a phase, those of phases that wait behind it."""
        events = [first]
        while first.path == "phases" and len(events) < MAX_AT_ONCE and self._taken is None:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, Event) and item.path == "phases":
                events.append(item)
            else:
                self._taken = item
        if len(events) > 1 and self._send_together(events):
            return
        for event in events:
            self._send(event)

    def _send_together(self, events: list[Event]) -> bool:
        """Deliver phases in one request; False where the daemon will not have it, as one that is older."""
        try:
            self._post(Event("phases", {"phases": [event.document for event in events]}))
        except RefusedError:
            return False
        return True

    def _send(self, event: Event) -> None:
        """Deliver an event; one that the daemon refuses is lost, and the run goes on."""
        try:
            answer = self._post(event)
        except RefusedError as error:
            self._say_once(f"{event.path} not taken: {error}")
            return
        if event.path == "progress":
            self.pace = answer
            self._sent = event.document
            self._sent_at_s = time.monotonic()

    def _end_run(self, event: Event) -> None:
        if self._lost:
            self._say_once(
                f"more than {MAX_WAITING} phases and steps back waited for the daemon, some are lost"
            )
        try:
            self.summary = self._post(event)
        except RefusedError as error:
            raise _GivenUpError(str(error)) from error

    def _post(self, event: Event) -> Document:
        """The answer to an event.

        Raises:
            RefusedError: the daemon will not have it.
        """
        try:
            return self._insist(lambda: self._daemon.ask("POST", self._path(event), self._about(event)))
        except RefusedError as error:
            if error.status != 404 or event.path == "end":
                raise
        # Another daemon than the one that was told of the run, or one that lost its journal.
        self._begin_run()
        return self._insist(lambda: self._daemon.ask("POST", self._path(event), self._about(event)))

    def _path(self, event: Event) -> str:
        return f"{RUNS}/{quote(self._begin['run_id'], safe='')}/{event.path}"

    def _about(self, event: Event) -> Document:
        return {"attempt": self._begin["attempt"], **event.document}

    def _insist(self, ask: Callable[[], Document]) -> Document:
        """The answer, however long it takes.

        Raises:
            RefusedError: it is no.
            _GivenUpError: the run is over, and waiting is no use.
        """
        delays = _delays()
        while True:
            try:
                answer = ask()
            except (UnreachableError, UnansweredError) as error:
                self._fault(error)
                if self._hopeless(error):
                    raise _GivenUpError(self.trouble) from error
            else:
                self._faulty = False
                return answer
            self._pause(next(delays))

    def _fault(self, error: WattspanError) -> None:
        """One warning when it begins, silence while it lasts."""
        self.trouble = str(error)
        if isinstance(error, UnreachableError):
            self._settled.set()
        if not self._faulty:
            log.warning("wattspan: %s", error)
        self._faulty = True

    def _hopeless(self, error: WattspanError) -> bool:
        if self._ending_since_s is None:
            return False
        never_seen = self.begun is None and isinstance(error, UnreachableError)
        return never_seen or time.monotonic() - self._ending_since_s > LINGER_S

    def _pause(self, delay_s: float) -> None:
        if not self._ending.is_set():
            self._ending.wait(delay_s)
        elif time.monotonic() - (self._ending_since_s or 0.0) < HURRY_FOR_S:
            time.sleep(HURRY_S)
        else:
            time.sleep(delay_s)

    def _say_once(self, text: str) -> None:
        if self._is_new(text):
            log.warning("wattspan: %s", text)


def _delays() -> Iterator[float]:
    """Half a second, doubled until `MAX_DELAY_S`."""
    delay_s = 0.5
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, MAX_DELAY_S)
