"""The exporter of spans: from the outbox to the collector, at least once, the oldest first.

A span counts as delivered when the collector's own answer says so, and for nothing less.
What is sent twice carries the same ids, so that a backend can tell.

The specification (opentelemetry.io/docs/specs/otlp, partial success) asks clients not to send a partly
accepted request again, since they cannot know which spans were rejected.
This one finds out: it sends halves until a rejected span stands alone, and that one keeps its place in the
outbox and is tried again ever more rarely.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from wattspan.errors import WattspanError
from wattspan.runs import SpanRecord

logger = logging.getLogger(__name__)

BATCH: Final = 64
"""Spans in a request: at some kilobytes each far below the 4 MiB that gRPC servers take by default."""

LOOK_S: Final = 1.0
"""How often the outbox is looked into; a look costs a fraction of a millisecond."""

AGAIN_FIRST_S: Final = 1.0
AGAIN_MAX_S: Final = 60.0
"""While the collector is away it is tried after 1 s, 2 s, 4 s, ... and then every minute."""

ASKED_MAX_S: Final = 3600.0
"""A collector may ask for more patience than that, but not for more than this."""

REJECTED_FIRST_S: Final = 60.0
REJECTED_MAX_S: Final = 3600.0
"""The same for a single span that the collector does not want."""

REFUSALS_MAX: Final = 8
"""So many refusals with nothing accepted in between, and the collector counts as away."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request, as read from the response itself.

    Attributes:
        verdict: ``accepted``: the collector has all of it; ``refused``: it does not want some or all of it;
            ``unavailable``: nobody said that it was taken.
        rejected: how many spans it said it rejected; 0 when it gave no number.
        detail: for the log; no secret, on one line.
        retry_after_s: how long it asked to be left alone; 0 when it did not.
    """

    verdict: Literal["accepted", "refused", "unavailable"]
    rejected: int = 0
    detail: str = ""
    retry_after_s: float = 0.0


class Door(Protocol):
    """The way to a collector."""

    @property
    def place(self) -> str:
        """Where it leads, for the log; no secret."""

    def send(self, spans: Sequence[SpanRecord]) -> Answer:
        """Send one request and wait for the answer, up to OpenTelemetry's timeout. Never raises."""

    def close(self) -> None:
        """Give up connections; a request under way ends soon. May be called from another thread."""


class Waiting(Protocol):
    """What waits to be delivered. It outlives the process; see `wattspan.journal.outbox`."""

    def waiting(self) -> Sequence[int]:
        """The ids of all that waits, the oldest first; an id is never given twice.

        Raises:
            WattspanError: it cannot be read now.
        """

    def spans(self, ids: Sequence[int]) -> Mapping[int, SpanRecord]:
        """These spans by id, in order; one that is gone is left out.

        Raises:
            WattspanError: it cannot be read now.
        """


@dataclass(frozen=True, slots=True)
class SpanCounts:
    """How the export fares, since this process began.

    Attributes:
        exported: spans that the collector has acknowledged.
        pending: spans that wait now.
        rejected: times that the collector did not want a span.
        failures: requests without an acknowledgement, whatever the reason.
    """

    exported: int = 0
    pending: int = 0
    rejected: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Pause:
    """Exponential back-off with jitter, so that a crowd of nodes does not come back as one."""

    first_s: float
    longest_s: float
    until_s: float = 0.0
    tries: int = 0

    def begin(self, now_s: float, chance: float, asked_s: float = 0.0) -> None:
        """Wait from now on, longer than the time before.

        Args:
            now_s: on the clock that `until_s` is read against.
            chance: from 0 to 1; between half and all of the step is waited.
            asked_s: wait at least so long.
        """
        step_s = min(self.longest_s, self.first_s * 2 ** min(self.tries, 32))
        self.tries += 1
        self.until_s = now_s + max(step_s * (0.5 + chance / 2), min(asked_s, ASKED_MAX_S))


class SpanExporter:
    """Delivers what waits, in a thread of its own.

    Args:
        outbox: what waits.
        door: to the collector; closed by `stop`.
        acknowledge: told the ids of spans that the collector has. Called in the exporter's thread; they may
            leave the outbox with the writer's next commit, and until then are not sent again.
        monotonic_s, chance: the clock, and a draw from 0 to 1.
    """

    def __init__(
        self,
        outbox: Waiting,
        door: Door,
        acknowledge: Callable[[Sequence[int]], None],
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._door = door
        self._acknowledge = acknowledge
        self._monotonic_s = monotonic_s
        self._chance = chance
        self._counts = SpanCounts()
        self._delivered: set[int] = set()
        self._rejected: dict[int, _Pause] = {}
        self._away = _Pause(AGAIN_FIRST_S, AGAIN_MAX_S)
        self._refusals = 0
        self._trouble = ""
        self._stop = threading.Event()
        # A request that hangs must not hold up the daemon's end: what it carries waits in the outbox.
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    @property
    def counts(self) -> SpanCounts:
        """How the export fares. Any thread may ask."""
        return self._counts

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Finish the request under way, if it ends in time, and give up the door. May be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._door.close()

    def deliver(self) -> None:
        """Send all that is due, once; the thread does this every `LOOK_S`. Blocks as long as requests do."""
        try:
            waiting = self._outbox.waiting()
            self._forget_all_but(waiting)
            now_s = self._monotonic_s()
            due = [span for span in waiting if self._due(span, now_s)]
            while due and now_s >= self._away.until_s and not self._stop.is_set():
                batch, due = due[:BATCH], due[BATCH:]
                found = self._outbox.spans(batch)
                for gone in set(batch) - found.keys():
                    self._put_off(gone)
                if not self._send(tuple(found.items())):
                    return
        except WattspanError as error:
            self._fail(str(error))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.deliver()
            except Exception as error:
                logger.exception("spans: a fault in the exporter; it goes on")
                self._fail(type(error).__name__)
            self._stop.wait(LOOK_S)

    def _forget_all_but(self, waiting: Sequence[int]) -> None:
        """Keep in mind only what is still in the outbox."""
        self._delivered.intersection_update(waiting)
        for gone in self._rejected.keys() - set(waiting):
            del self._rejected[gone]
        self._counts = replace(self._counts, pending=len(waiting) - len(self._delivered))

    def _due(self, span: int, now_s: float) -> bool:
        if span in self._delivered:
            return False
        pause = self._rejected.get(span)
        return pause is None or now_s >= pause.until_s

    def _send(self, batch: Sequence[tuple[int, SpanRecord]]) -> bool:
        """Send a batch, in halves where the collector does not want all of it. False: no more for now."""
        if not batch:
            return True
        if self._stop.is_set():
            return False
        answer = self._door.send([span for _, span in batch])
        if answer.verdict == "accepted":
            self._accept([row for row, _ in batch])
            return True
        if self._stop.is_set():  # the door may be closed by now, so its word is worth nothing
            return False
        if answer.verdict == "unavailable":
            self._fail(answer.detail, answer.retry_after_s)
            return False
        self._counts = replace(self._counts, failures=self._counts.failures + 1)
        if len(batch) > 1 and answer.rejected < len(batch):
            middle = len(batch) // 2
            return self._send(batch[:middle]) and self._send(batch[middle:])
        return self._reject([row for row, _ in batch], answer)

    def _accept(self, rows: Sequence[int]) -> None:
        self._acknowledge(rows)
        self._delivered.update(rows)
        counts = self._counts
        self._counts = replace(
            counts, exported=counts.exported + len(rows), pending=max(0, counts.pending - len(rows))
        )
        self._refusals = 0
        self._away.tries = 0
        if self._trouble:
            logger.info("spans: %s takes spans again", self._door.place)
            self._trouble = ""

    def _reject(self, rows: Sequence[int], answer: Answer) -> bool:
        """Put single spans off. False: so many in a row that the collector counts as away."""
        if not self._rejected:
            logger.warning(
                "spans: %s rejects spans, which are kept and tried again: %s", self._door.place, answer.detail
            )
        for row in rows:
            self._put_off(row)
        self._counts = replace(self._counts, rejected=self._counts.rejected + len(rows))
        self._refusals += len(rows)
        if self._refusals < REFUSALS_MAX:
            return True
        self._refusals = 0
        self._away.begin(self._monotonic_s(), self._chance(), answer.retry_after_s)
        return False

    def _put_off(self, row: int) -> None:
        pause = self._rejected.setdefault(row, _Pause(REJECTED_FIRST_S, REJECTED_MAX_S))
        pause.begin(self._monotonic_s(), self._chance())

    def _fail(self, detail: str, retry_after_s: float = 0.0) -> None:
        counts = self._counts
        self._counts = replace(counts, failures=counts.failures + 1)
        self._away.begin(self._monotonic_s(), self._chance(), retry_after_s)
        if not self._trouble:
            logger.warning(
                "spans: %s does not take spans, %d wait: %s", self._door.place, counts.pending, detail
            )
        self._trouble = detail or "unknown"
