"""What a tick means for runs: rows for the journal, spans for the outbox, gauges for the view."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from wattspan.carbon.rates import Rates
from wattspan.journal.books import Books, Outgoing
from wattspan.journal.holder_accounts import POD_QUANTITIES, accounts_of_pod
from wattspan.journal.records import KeptRun
from wattspan.journal.run_book import RunBook
from wattspan.ledger.ledger import Tick
from wattspan.model import CounterKey, GridState
from wattspan.publish.spans import SpanCounts
from wattspan.runs import (
    Holder,
    Holdings,
    Phase,
    PodRef,
    RunNow,
    RunRecord,
    SpanRecord,
    Stretch,
    WindowExemplar,
)
from wattspan.units import NS_PER_S
from wattspan.workloads.registry import (
    COUNTS,
    KEEP_ENDED_NS,
    Ending,
    LastAttempt,
    LiveRun,
    Moment,
    Registry,
)

logger = logging.getLogger(__name__)

STORE_NS: Final = 10 * NS_PER_S
"""How often the row of a run that goes on is written; its energy is in the accounts at every tick."""


class RunKeeper:
    """Called by the one writer.

    Args:
        registry: of the runs.
        book: of what they used.
        spans_of: the spans of a run or of a part of it; None where no collector is configured.
        acknowledged: outbox ids that the collector has taken since this was last asked.
        counts: how the export fares since this process began; None where nothing is exported.
    """

    def __init__(
        self,
        registry: Registry,
        book: RunBook,
        spans_of: Callable[[RunRecord, Stretch | None], tuple[SpanRecord, ...]] | None,
        acknowledged: Callable[[], tuple[int, ...]] = tuple,
        counts: Callable[[], SpanCounts] | None = None,
    ) -> None:
        self._registry = registry
        self._book = book
        self._spans_of = spans_of
        self._acknowledged = acknowledged
        self._counts = counts
        self._counted = SpanCounts()
        self._holdings = Holdings(watched=False)
        self._began = False
        self._stored: dict[tuple[str, int], tuple[int, object]] = {}
        self._pods_seen_ns: dict[tuple[str, str], int] = {}

    def holdings(self, holdings: Holdings) -> None:
        """Take who holds what in the coming tick; runs that begin with it start from the accounts as now."""
        self._holdings = holdings
        for live in self._runs():
            self._book.begin(live)

    def entered(self, books: Books, tick: Tick, rates: Rates, grid: GridState) -> Outgoing:
        """The tick's energy is in the accounts: close what has ended, and say what is to be stored."""
        now = Moment(tick.snapshot.taken_at_ns, tick.snapshot.taken_at_ns + tick.snapshot.wall_offset_ns)
        basis = rates.basis(grid)
        orphans = [] if self._began else self._take_over(books, now)
        for attempt in self._book.entered(books.gained, tick.awaited):
            self._stored.pop(attempt, None)  # its row on the disk would have it begin too early
        runs = self._runs()
        for live in runs:
            if not books.accounts_of_run(live.run.run_id):
                books.begin_run(live.run.run_id, basis)
            self._count_progress(live, books)
        runs = [live for live in runs if not self._book.is_closed(live)]
        self._book.watch(runs, tick, self._holdings, rates, grid, books.priced)
        self._count_spans(books)
        kept: list[KeptRun] = []
        spans: list[SpanRecord] = []
        for live in runs:
            if self._book.awaits(live):
                if row := self._row_due(live, now):
                    kept.append(row)
                continue
            if stretches := self._book.stretches(live, now.wall_ns):
                record = self._book.record(live)
                for stretch in stretches:
                    spans += self._stretch_spans(live, record, stretch)
            if live.ending is not None:
                record = self._book.close(live)
                kept.append(KeptRun(record))
                spans += self._spans(record, None)
                self._close(live, record, books)
            elif row := self._row_due(live, now):
                kept.append(row)
        return Outgoing(
            runs=tuple(kept),
            spans=tuple(spans),
            delivered=self._acknowledged(),
            gone=(*orphans, *self._forgotten(books, now)),
        )

    def ending(self) -> None:
        """The coming tick is this daemon's last: it stores every run's row.

        So the next daemon knows by which figures all of its energy was priced.
        """
        self._stored.clear()

    def shown(self, rates: Rates, grid: GridState, wall_ns: int) -> tuple[RunNow, ...]:
        """Runs as the view shows them: those that go on, and those that ended less than five minutes ago."""
        newest = {live.run.run_id: live for live in self._runs()}
        return tuple(self._book.now(live, rates, grid, wall_ns) for live in newest.values())

    def _take_over(self, books: Books, now: Moment) -> list[CounterKey]:
        """Pods of an earlier daemon are gone on with; accounts of runs that nobody knows are over."""
        self._began = True
        for quantity, labels in books.totals:
            if quantity in POD_QUANTITIES:
                self._pods_seen_ns[labels[0], labels[1]] = now.ns
        known = {live.run.run_id for live in self._runs()}
        return [key for run_id in books.runs if run_id not in known for key in books.accounts_of_run(run_id)]

    def _runs(self) -> list[LiveRun]:
        """Those that have ended first, so that of two attempts of a run the newer one comes later."""
        return [*self._registry.ended.values(), *self._registry.live.values()]

    def _stretch_spans(self, live: LiveRun, record: RunRecord, stretch: Stretch) -> tuple[SpanRecord, ...]:
        spans = self._spans(record, stretch)
        if spans and not stretch.name:
            exemplar = WindowExemplar(spans[0].span_id, stretch.ended_wall_ns, stretch.totals)
            self._book.exemplify(live, exemplar)
        return spans

    def _spans(self, record: RunRecord, stretch: Stretch | None) -> tuple[SpanRecord, ...]:
        return self._spans_of(record, stretch) if self._spans_of else ()

    def _count_progress(self, live: LiveRun, books: Books) -> None:
        """Counters follow what rank 0 told; over attempts they only grow."""
        labels = (live.run.run_id,)
        counted = {f"run_{name}": live.counted(name) for name in COUNTS if name in live.counted_from}
        counted |= {"run_steps": live.counted("steps")}
        if repeated := live.progress.repeated_steps - live.repeated_from:
            counted |= {"run_repeated_steps": repeated}
        for quantity, value in counted.items():
            books.add(quantity, labels, max(0, value - int(books.account(quantity, labels))))

    @property
    def repeating(self) -> frozenset[tuple[str, int]]:
        """Attempts that make steps again after a resume: their energy of a tick is wasted."""
        return frozenset(
            (live.run.run_id, live.run.attempt) for live in self._registry.live.values() if live.repeating
        )

    def _count_spans(self, books: Books) -> None:
        """Counters of the export go on over restarts; the exporter's own begin at 0."""
        if self._counts is None:
            return
        before, now = self._counted, self._counts()
        self._counted = now
        books.add("spans_exported", (), now.exported - before.exported)
        books.add("spans_rejected", (), now.rejected - before.rejected)
        books.add("span_export_failures", (), now.failures - before.failures)

    @property
    def spans_pending(self) -> int | None:
        """Spans that wait for the collector; None where nothing is exported."""
        return self._counted.pending if self._counts else None

    def _close(self, live: LiveRun, record: RunRecord, books: Books) -> None:
        self._stored.pop((live.run.run_id, live.run.attempt), None)
        if record.result == "failure":
            pod, totals = PodRef(live.run.namespace), record.totals
            holder = Holder(live.run.run_id, live.run.attempt, pod, live.run.project)
            # What was idle or repeated is wasted already; the rest of it is from now on.
            rest_uj = sum(totals.energy_uj.values()) - totals.wasted_uj
            rest_cost = max(0.0, (totals.cost or 0.0) - totals.wasted_cost)
            books.waste(holder, "failed", rest_uj, rest_cost)

    def _row_due(self, live: LiveRun, now: Moment) -> KeptRun | None:
        """The row of a run that goes on, when it is due or something but figures has changed."""
        key = (live.run.run_id, live.run.attempt)
        phases = frozenset(live.open_phases)
        running = (frozenset(live.processes.items()), frozenset(live.pods), phases)
        state = (live.run, *running, live.repeating, live.ending)
        stored_ns, stored = self._stored.get(key, (-STORE_NS, None))
        if state == stored and now.ns - stored_ns < STORE_NS:
            return None
        self._stored[key] = (now.ns, state)
        return KeptRun(self._book.record(live, points=True), resume_of(live, self._book, now))

    def _forgotten(self, books: Books, now: Moment) -> list[CounterKey]:
        """Accounts whose time is over; none while they could not be deleted from the journal, too."""
        if books.journal_error:
            return []
        return [*self._forget_runs(books, now), *self._forget_pods(books, now)]

    def _forget_runs(self, books: Books, now: Moment) -> list[CounterKey]:
        gone: list[CounterKey] = []
        for live in self._registry.forget(now.ns):
            self._book.forget(live)
            if all(run.run.run_id != live.run.run_id for run in self._runs()):
                gone += books.accounts_of_run(live.run.run_id)
        return gone

    def _forget_pods(self, books: Books, now: Moment) -> list[CounterKey]:
        """Accounts of pods that have held no GPU for as long as an ended run is shown."""
        for holds in self._holdings.by_gpu.values():
            for hold in holds:
                if hold.holder.pod.name:
                    self._pods_seen_ns[hold.holder.pod.namespace, hold.holder.pod.name] = now.ns
        gone: list[CounterKey] = []
        for (namespace, name), seen_ns in list(self._pods_seen_ns.items()):
            if now.ns - seen_ns >= KEEP_ENDED_NS:
                del self._pods_seen_ns[namespace, name]
                gone += accounts_of_pod(books.totals, namespace, name)
        return gone


def resume_of(live: LiveRun, book: RunBook, now: Moment) -> dict[str, Any]:
    """What another daemon needs to go on with a run, as plain JSON."""
    return {
        "book": book.resume_document(live),
        "seen_wall_ns": now.wall_ns,
        "began_ns": live.began.ns,
        "processes": [list(item) for item in live.processes.items()],
        "uids": sorted(live.uids),
        "joined": live.joined,
        "keys": list(live.keys),
        "counted_from": live.counted_from,
        "before": live.before,
        "repeated_before": live.repeated_before,
        "repeated_from": live.repeated_from,
        "last_step": live.last_step,
        "repeating": live.repeating,
        "open_phases": [[name, index, at.ns, at.wall_ns] for (name, index), at in live.open_phases.items()],
        "closed_phases": [
            [phase.name, phase.index, phase.began_wall_ns, phase.ended_wall_ns]
            for phase in live.closed_phases
        ],
        "ending": _ending_document(live.ending),
    }


def _ending_document(ending: Ending | None) -> list[Any] | None:
    return None if ending is None else [ending.at.wall_ns, ending.result, ending.error_type]


def _ending_of(document: list[Any] | None, now: Moment) -> Ending | None:
    if document is None:
        return None
    wall_ns, result, error_type = document
    return Ending(_ago(wall_ns, now), result, error_type)


def _ago(wall_ns: int, now: Moment) -> Moment:
    """A moment of an earlier daemon, maybe of another boot, by the clocks of this one."""
    return Moment(now.ns - max(0, now.wall_ns - wall_ns), wall_ns)


def resumed(
    kept: KeptRun,
    book: RunBook,
    accounts: Mapping[CounterKey, int | float],
    now: Moment,
    *,
    same_boot: bool,
) -> LiveRun:
    """A run of an earlier daemon, to be gone on with; after a reboot none of its processes lives.

    Its row may be older than the accounts, by `STORE_NS` at most: its counts are what the accounts say.
    """
    record, resume = kept.record, kept.resume
    counted = {
        name: first + int(accounts.get((f"run_{name}", (record.run.run_id,)), 0))
        for name, first in resume["counted_from"].items()
    }
    repeated_from = resume.get("repeated_from", 0)  # rows of an earlier version have none
    counted["repeated_steps"] = repeated_from + int(
        accounts.get(("run_repeated_steps", (record.run.run_id,)), 0)
    )
    highest = {name: max(value, getattr(record.progress, name)) for name, value in counted.items()}
    live = LiveRun(
        run=record.run,
        began=Moment(resume["began_ns"] if same_boot else 0, record.began_wall_ns),
        processes={int(pid): int(started) for pid, started in resume["processes"]} if same_boot else {},
        uids=set(resume["uids"]),
        pods=set(record.pods),
        joined=resume["joined"],
        keys=dict.fromkeys(resume.get("keys", ())),  # rows of an earlier version have none
        progress=replace(record.progress, **highest),
        counted_from=dict(resume["counted_from"]),
        before=dict(resume["before"]),
        repeated_before=resume["repeated_before"],
        repeated_from=repeated_from,
        last_step=resume["last_step"],
        repeating=resume["repeating"],
        open_phases={
            (name, index): Moment(ns, wall_ns) for name, index, ns, wall_ns in resume["open_phases"]
        },
        # Rows of older daemons have neither: they closed a run in the tick in which it ended.
        closed_phases=[Phase(*phase) for phase in resume.get("closed_phases", ())],
        ending=_ending_of(resume.get("ending"), now),
    )
    book.resume(live, record, resume["book"])
    return live


def registry_of(
    resumed_runs: Iterable[LiveRun],
    last: Mapping[str, LastAttempt],
    ended: Iterable[LiveRun],
    user_of: Callable[[int], str | None] | None = None,
    recall: Callable[[str], LastAttempt | None] = lambda _: None,
) -> Registry:
    """The runs that an earlier daemon left: of those it had not closed some may have ended already.

    Args:
        resumed_runs: those.
        last: the last attempt that is closed, by run id.
        ended: closed less than five minutes ago.
        user_of, recall: as of `Registry`.
    """
    found = list(resumed_runs)
    over = {run.run.run_id: run for run in found if run.ending is not None}
    newer = {
        run_id: LastAttempt(run.run.attempt, run.ending.at.wall_ns, run.progress)
        for run_id, run in over.items()
        if run.ending is not None
    }
    live = [run for run in found if run.ending is None]
    before = {run_id: attempt for run_id, attempt in last.items() if run_id not in newer}
    return Registry(live, {**before, **newer}, [*ended, *over.values()], user_of, recall)


def just_ended(
    record: RunRecord, book: RunBook, accounts: Mapping[CounterKey, int | float], now: Moment
) -> LiveRun:
    """An attempt that ended under an earlier daemon, to be shown until its five minutes are over.

    A later attempt goes on with the run's counters, so where these began is what the accounts do not hold.
    """
    told = {name: getattr(record.progress, name) for name in (*COUNTS, "repeated_steps")}
    began = {
        name: value - int(accounts.get((f"run_{name}", (record.run.run_id,)), 0))
        for name, value in told.items()
    }
    ended_wall_ns = record.ended_wall_ns or now.wall_ns
    live = LiveRun(
        run=record.run,
        began=Moment(0, record.began_wall_ns),
        pods=set(record.pods),
        progress=record.progress,
        counted_from={name: began[name] for name in COUNTS if told[name]},
        repeated_from=began["repeated_steps"],
        ending=Ending(_ago(ended_wall_ns, now), record.result or "lost", record.error_type),
    )
    book.closed(live, record)
    return live
