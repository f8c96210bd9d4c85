"""A tick and its price into accounts, the accounts into the journal, and only then into a view.

While the journal cannot commit, the accounts go on in memory and the view's counters stay at the last commit;
power and health go on being shown.
"""

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Protocol

from wattspan.carbon import timeline
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.rates import NO_NEWS, Footprint, News, Rates
from wattspan.errors import REASONS
from wattspan.journal.board import Board, ScrapeNotes
from wattspan.journal.holder_accounts import HolderAccounts
from wattspan.journal.marks import baseline_of
from wattspan.journal.records import Account, JournalError, KeptRun
from wattspan.journal.schema import INTEGER_MAX
from wattspan.journal.store import Journal
from wattspan.ledger.ledger import Tick
from wattspan.ledger.meters import Mark
from wattspan.model import (
    SAMPLE_DURATION_BOUNDS_S,
    Basis,
    Charge,
    CounterKey,
    GpuState,
    GridState,
    Intensity,
    LedgerView,
    Snapshot,
    SourceReport,
)
from wattspan.runs import Holder, RunNow, SpanRecord
from wattspan.units import NS_PER_S

logger = logging.getLogger(__name__)

HOLD_NS: Final = 120 * NS_PER_S
"""A new series is published as 0 until a scrape has seen it, this long at most.

Prometheus takes the first value it sees as the start, so what a series is born with is lost to `increase()`.
"""

SYNC_NS: Final = 10 * NS_PER_S
"""Commits are made durable at least this often; a power cut costs no more."""


@dataclass(slots=True)
class _Entry:
    """An account in memory.

    Attributes:
        total, base, released: as in `Account`.
        shown_in: sequence of the first view of this daemon that has it; None before that.
        shown_at_ns: when that was.
    """

    total: int | float
    base: int | float = 0
    released: bool = False
    shown_in: int | None = None
    shown_at_ns: int = 0

    @property
    def published(self) -> int | float:
        return self.total - self.base if self.released else type(self.total)(0)


PricedPart = tuple[Intensity, int, int, int]
"""A figure, the energy that it priced, and the part of a look (wall clock) in which that flowed."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes into a tick's commit beside accounts and marks.

    Attributes:
        runs: that began, changed or ended.
        spans: that ended, for the outbox.
        delivered: outbox ids that the collector has acknowledged.
        gone: accounts that are over for good.
    """

    runs: tuple[KeptRun, ...] = ()
    spans: tuple[SpanRecord, ...] = ()
    delivered: tuple[int, ...] = ()
    gone: tuple[CounterKey, ...] = ()


class Keeper(Protocol):
    """Whoever knows the runs."""

    def entered(self, books: "Books", tick: Tick, rates: Rates, grid: GridState) -> Outgoing:
        """The tick's energy is in the accounts; what else is to be committed with it?"""

    def shown(self, rates: Rates, grid: GridState, wall_ns: int) -> tuple[RunNow, ...]:
        """Runs as the view shows them."""

    @property
    def repeating(self) -> Container[tuple[str, int]]:
        """Attempts, as run id and number, that make steps again after a resume."""

    @property
    def spans_pending(self) -> int | None:
        """Spans that wait for the collector; None where none is configured."""


class NoRuns:
    """Nobody watches runs."""

    spans_pending = None
    repeating = ()

    def entered(self, books: "Books", tick: Tick, rates: Rates, grid: GridState) -> Outgoing:
        """Nothing."""
        del books, tick, rates, grid
        return Outgoing()

    def shown(self, rates: Rates, grid: GridState, wall_ns: int) -> tuple[RunNow, ...]:
        """None."""
        del rates, grid, wall_ns
        return ()


class Books:
    """The node's accounts. The sampling thread owns them and the journal.

    Args:
        journal: open; what it restored is taken over.
        board: where views are pinned.
        currency: of costs; empty where nobody has set a price.
        keeper: of the runs.
        profile: of the deployment; empty where it has none.

    Attributes:
        priced: of the tick that was taken last, each run's energy by the figure that priced it.
    """

    def __init__(
        self,
        journal: Journal,
        board: Board,
        currency: str = "",
        keeper: Keeper | None = None,
        *,
        profile: str = "",
    ) -> None:
        self._journal = journal
        self._board = board
        self._keeper = keeper or NoRuns()
        self._outgoing = Outgoing()
        self._of_run: dict[str, dict[CounterKey, None]] = {}
        self._entries: dict[CounterKey, _Entry] = {
            (account.quantity, account.labels): _Entry(account.total, account.base, account.released)
            for account in journal.restored.accounts
        }
        owners = {(labels[0], labels[1]) for quantity, labels in self._entries if quantity == "owner_gpu"}
        for key in self._entries:
            self._index(key)
        self._holders = HolderAccounts(self.add, owners, currency)
        self._currency = currency
        self._profile = profile
        self._figures: tuple[Intensity, ...] = ()
        self.priced: dict[tuple[str, int], list[PricedPart]] = {}
        self._changed: dict[CounterKey, None] = {}  # an ordered set: series keep their order in a scrape
        self._held: dict[CounterKey, None] = {
            key: None for key, entry in self._entries.items() if not entry.released
        }
        self._marks: dict[str, Mark | None] = {}
        self._begun: set[str] = set()
        self._priced_devices = 0
        self._published: dict[str, dict[tuple[str, ...], int | float]] = {}
        self._journal_error = ""
        self._last_commit_wall_ns: int | None = None
        self._synced_at_ns = 0
        self._counted_commit = False
        for quantity in ("journal_commits", "clock_steps", "unpriced_energy"):
            self.add(quantity, (), 0)
        if currency:
            self.add("uncosted_energy", (), 0)
        self.add("series_dropped", ("budget",), 0)
        self._show(self._entries)

    def take(self, tick: Tick, rates: Rates, grid: GridState, news: News = NO_NEWS) -> None:
        """Enter a tick, commit it, and pin the view it makes.

        Args:
            tick: of the ledger.
            rates: what its energy comes to.
            grid: the figures in force at its end.
            news: what live sources have said since the tick before.
        """
        notes = self._board.take_notes()
        self._release(notes, tick.snapshot.taken_at_ns)
        self._enter(tick, rates, grid, notes)
        for tally in news.tallies:
            self.add(tally.quantity, tally.labels, tally.amount)
        self._figures = (*self._figures, *news.figures)
        self._marks.update(tick.marks)
        fresh = self._keeper.entered(self, tick, rates, grid)
        self._drop(fresh.gone)
        self._outgoing = _joined(self._outgoing, fresh)
        self._commit(tick)
        self._board.pin(self._view(tick, rates, grid))

    def add(self, quantity: str, labels: tuple[str, ...], amount: int | float, /) -> None:
        """Add to an account, which exists from then on; it ends where the journal's numbers do.

        A total beyond that would fail the commit, and every later one.
        """
        key = (quantity, labels)
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(amount, type(amount)(0))
            self._changed[key] = None
            self._held[key] = None
            self._index(key)
        elif amount:
            entry.total += amount
            if entry.total > INTEGER_MAX:  # noqa: PLR1730 - for hundreds at each tick; min() takes longer
                entry.total = INTEGER_MAX
            self._changed[key] = None

    def account(self, quantity: str, labels: tuple[str, ...]) -> int | float:
        """What an account holds since the journal began; 0 where there is none."""
        entry = self._entries.get((quantity, labels))
        return entry.total if entry else 0

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs that have accounts."""
        return tuple(self._of_run)

    def accounts_of_run(self, run_id: str) -> dict[CounterKey, int | float]:
        """A run's accounts as they stand, over all its attempts."""
        return {key: self._entries[key].total for key in self._of_run.get(run_id, ())}

    @property
    def gained(self) -> Mapping[tuple[str, int], Mapping[CounterKey, int | float]]:
        """What the accounts of runs have gained in the tick that was taken last, by run id and attempt."""
        return self._holders.gained

    def waste(self, holder: Holder, reason: str, energy_uj: int, cost: float) -> None:
        """Enter energy that came to nothing."""
        self._holders.waste(holder, reason, energy_uj, cost)

    def begin_run(self, run_id: str, basis: Basis | None) -> None:
        """Let the counters that every run has exist at 0."""
        self._holders.begin_run(run_id, basis)

    @property
    def journal_error(self) -> str:
        """Why the last commit failed; empty when it did not."""
        return self._journal_error

    @property
    def totals(self) -> dict[CounterKey, int | float]:
        """Every account's total since the journal began, published or not; for spans and reports."""
        return {key: entry.total for key, entry in self._entries.items()}

    def close(self) -> None:
        """Make everything durable and leave the record of a clean stop.

        Raises:
            JournalError: it could not be written; the next daemon will see an unclean stop.
        """
        self._write()
        self._journal.close(clean=True)

    def _enter(self, tick: Tick, rates: Rates, grid: GridState, notes: ScrapeNotes) -> None:
        offset_ns = tick.snapshot.wall_offset_ns
        basis = rates.basis(grid)
        self._begin_series(tick, basis)
        for tally in tick.tallies:
            self.add(tally.quantity, tally.labels, tally.amount)
        for charge in tick.charges:
            self._enter_energy(charge)
        self.priced = {}
        repeating = self._keeper.repeating
        self._holders.gained = {}
        idle = {(time.holder, time.uuid) for time in tick.hold_times if time.idle_ns}
        for charge in (*tick.charges, *tick.host_shares):
            if charge.estimated:
                continue
            footprint = rates.footprint(
                charge.energy_uj, charge.start_ns + offset_ns, charge.end_ns + offset_ns
            )
            if charge.attribution != "cpu_time":
                self._enter_price(charge, footprint, basis)
            if charge.holder is not None:
                wasted = _wasted(charge, charge.holder, repeating, idle)
                self._holders.enter(charge, footprint, basis, wasted=wasted)
                self._note_factors(charge, footprint, offset_ns)
        models = {state.gpu.uuid: state.gpu.model for state in tick.gpus}
        for time in tick.hold_times:
            embodied_g = rates.embodied_g(models.get(time.uuid, ""), time.gpu_ns, len(models))
            self._holders.enter_time(time, embodied_g)
        for report in tick.snapshot.reports:
            self._enter_duration(report)
        self.add("series_dropped", ("budget",), notes.series_dropped)

    def _begin_series(self, tick: Tick, basis: Basis | None) -> None:
        """Let the counters that will surely come exist at 0, so that a first scrape sees their beginning."""
        for health in tick.snapshot.health:
            if health.source not in self._begun:
                self._begun.add(health.source)
                for reason in REASONS:
                    self.add("source_read_failures", (health.source, reason), 0)
        measured = [host for host in tick.hosts if not host.estimated]
        if basis is None or len(tick.gpus) + len(measured) == self._priced_devices:
            return
        self._priced_devices = len(tick.gpus) + len(measured)
        self.add("node_energy", (), 0)
        self.add("node_co2e", (basis,), 0.0)
        for gpu in tick.gpus:
            self.add("gpu_co2e", (gpu.gpu.uuid, basis), 0.0)
        for host in measured:
            self.add("host_co2e", (host.component, host.device, basis), 0.0)

    def _enter_energy(self, charge: Charge) -> None:
        if charge.component == "gpu":
            self.add("gpu_energy", (charge.device, charge.method), charge.energy_uj)
            if charge.share is not None:
                self.add("gpu_attributed_energy", (charge.device, charge.share), charge.energy_uj)
            if charge.reason is not None:
                self.add("gpu_unattributed_energy", (charge.device, charge.reason), charge.energy_uj)
        else:
            quantity = "host_estimated_energy" if charge.estimated else "host_energy"
            self.add(quantity, (charge.component, charge.device), charge.energy_uj)
        if charge.in_node:
            self.add("node_energy", (), charge.energy_uj)

    def _note_factors(self, charge: Charge, footprint: Footprint, offset_ns: int) -> None:
        """Remember by which figures a run's energy was priced."""
        if charge.holder is None or not charge.holder.run_id:
            return
        used = self.priced.setdefault((charge.holder.run_id, charge.holder.attempt), [])
        start_ns, end_ns = charge.start_ns + offset_ns, charge.end_ns + offset_ns
        # A look may straddle a change: each figure has its own part of it.
        used += [
            (
                intensity,
                part_uj,
                max(start_ns, timeline.from_ns(intensity)),
                min(end_ns, timeline.until_ns(intensity)),
            )
            for intensity, part_uj in footprint.parts
            if intensity is not None
        ]

    def _enter_price(self, charge: Charge, footprint: Footprint, basis: Basis | None) -> None:
        grams = footprint.grams
        if charge.in_node:
            self.add("unpriced_energy", (), footprint.unpriced_uj)
            if self._currency:
                self.add("uncosted_energy", (), footprint.uncosted_uj)
            for intensity, part_uj in footprint.parts:
                if intensity is not None:
                    self.add("grid_priced_energy", _source_of(intensity), part_uj)
        if basis is None:
            return
        if charge.component == "gpu":
            self.add("gpu_co2e", (charge.device, basis), grams)
        else:
            self.add("host_co2e", (charge.component, charge.device, basis), grams)
        if charge.in_node:
            self.add("node_co2e", (basis,), grams)

    def _enter_duration(self, report: SourceReport) -> None:
        took_ns = report.finished_ns - report.started_ns
        took_s = took_ns / NS_PER_S
        bound = next((str(bound) for bound in SAMPLE_DURATION_BOUNDS_S if took_s <= bound), "+Inf")
        self.add("sample_duration", (report.source, bound), 1)
        self.add("sample_duration_sum", (report.source,), took_ns)

    def _index(self, key: CounterKey) -> None:
        quantity, labels = key
        if quantity.startswith("run_"):
            self._of_run.setdefault(labels[0], {})[key] = None

    def _drop(self, gone: Iterable[CounterKey]) -> None:
        """Let go of accounts that are over; the commit that deletes them takes them out of the view."""
        for key in gone:
            if self._entries.pop(key, None) is None:
                continue
            self._changed.pop(key, None)
            self._held.pop(key, None)
            quantity, labels = key
            if quantity.startswith("run_"):
                of_run = self._of_run.get(labels[0], {})
                of_run.pop(key, None)
                if not of_run:
                    self._of_run.pop(labels[0], None)

    def _gone(self) -> tuple[CounterKey, ...]:
        """Accounts to be deleted, without those that have begun anew since a commit failed."""
        return tuple(key for key in self._outgoing.gone if key not in self._entries)

    def _release(self, notes: ScrapeNotes, now_ns: int) -> None:
        """Let go of the series that a scrape has seen at 0, or that nobody came to see."""
        for key in tuple(self._held):
            entry = self._entries[key]
            if entry.shown_in is None:
                continue
            if entry.shown_in <= notes.scraped_sequence or now_ns - entry.shown_at_ns >= HOLD_NS:
                entry.released = True
                del self._held[key]
                self._changed[key] = None

    def _commit(self, tick: Tick) -> None:
        snapshot = tick.snapshot
        if not self._counted_commit:
            self.add("journal_commits", (), 1)
            self._counted_commit = True
        try:
            dropped = self._write(snapshot.taken_at_ns + snapshot.wall_offset_ns)
            self._take_as_kept(snapshot)
            if snapshot.taken_at_ns - self._synced_at_ns >= SYNC_NS:
                self._journal.sync()
                self._synced_at_ns = snapshot.taken_at_ns
        except JournalError as error:
            if not self._journal_error:
                logger.error("journal: counters stay at the last commit: %s", error)
            self._journal_error = str(error)
            return
        if self._journal_error:
            logger.info("journal: commits again")
        self._journal_error = ""
        if dropped:
            self.add("spans_dropped", (), dropped)  # for the next commit: this one is made

    def _take_as_kept(self, snapshot: Snapshot) -> None:
        """What was given to the journal is on the disk: publish it, and give none of it again."""
        self._counted_commit = False
        self._last_commit_wall_ns = snapshot.taken_at_ns + snapshot.wall_offset_ns
        self._show(self._changed)
        self._hide(self._gone())
        self._outgoing = Outgoing()
        self._figures = ()
        for key in self._held:
            entry = self._entries[key]
            if entry.shown_in is None:
                entry.shown_in, entry.shown_at_ns = snapshot.sequence, snapshot.taken_at_ns
        self._changed.clear()
        self._marks.clear()

    def _write(self, wall_ns: int | None = None) -> int:
        """Give the journal what has changed; how many spans had to leave the outbox for it."""
        accounts = [
            Account(quantity, labels, entry.total, entry.base, entry.released)
            for (quantity, labels), entry in ((key, self._entries[key]) for key in self._changed)
        ]
        baselines = [baseline_of(device, mark) for device, mark in self._marks.items()]
        return self._journal.commit(
            accounts,
            baselines,
            spans=self._outgoing.spans,
            delivered=self._outgoing.delivered,
            runs=self._outgoing.runs,
            gone=self._gone(),
            figures=self._figures,
            wall_ns=wall_ns,
        )

    def _show(self, keys: Iterable[CounterKey]) -> None:
        """Take these accounts into what is published; views already pinned keep the maps they have."""
        fresh: dict[str, dict[tuple[str, ...], int | float]] = {}
        for quantity, labels in keys:
            values = fresh.get(quantity)
            if values is None:
                values = fresh[quantity] = dict(self._published.get(quantity, {}))
            values[labels] = self._entries[quantity, labels].published
        self._published = {**self._published, **fresh}

    def _hide(self, gone: Iterable[CounterKey]) -> None:
        fresh: dict[str, dict[tuple[str, ...], int | float]] = {}
        for quantity, labels in gone:
            values = fresh.setdefault(quantity, dict(self._published.get(quantity, {})))
            values.pop(labels, None)
        self._published = {**self._published, **fresh}

    def _view(self, tick: Tick, rates: Rates, grid: GridState) -> LedgerView:
        snapshot = tick.snapshot
        now_wall_ns = snapshot.taken_at_ns + snapshot.wall_offset_ns
        return LedgerView(
            sequence=snapshot.sequence,
            taken_at_ns=snapshot.taken_at_ns,
            wall_offset_ns=snapshot.wall_offset_ns,
            counters=self._published,
            gpus=tuple(_with_co2e_rate(state, rates.pricing, now_wall_ns) for state in tick.gpus),
            hosts=tick.hosts,
            platforms=tick.platforms,
            node_power_uw=tick.node_power_uw,
            health=snapshot.health,
            grid=grid,
            runs=self._keeper.shown(rates, grid, now_wall_ns),
            spans_pending=self._keeper.spans_pending,
            price_per_kwh=grid.tariff.per_kwh if grid.tariff else None,
            currency=self._currency,
            profile=self._profile,
            journal_error=self._journal_error,
            last_commit_wall_ns=self._last_commit_wall_ns,
        )


def _wasted(
    charge: Charge,
    holder: Holder,
    repeating: Container[tuple[str, int]],
    idle: Container[tuple[Holder, str]],
) -> str:
    """Why a charge comes to nothing, by the first reason that fits; empty where it does not."""
    if (holder.run_id, holder.attempt) in repeating:
        return "repeated"
    return "idle_held" if charge.component == "gpu" and (holder, charge.device) in idle else ""


# The figures in force are few, and each prices every charge of a tick.
@lru_cache(maxsize=64)
def _source_of(intensity: Intensity) -> tuple[str, ...]:
    """The label values of the energy that a figure priced."""
    estimated = "true" if intensity.estimated else "false"
    return intensity.grid_zone, intensity.provider, intensity.signal, intensity.basis, estimated


def _with_co2e_rate(state: GpuState, pricing: Pricing, wall_ns: int) -> GpuState:
    if state.reading is None or state.reading.power_uw is None:
        return state
    return replace(state, co2e_g_per_s=pricing.g_per_second(state.reading.power_uw, wall_ns))


def _joined(waiting: Outgoing, fresh: Outgoing) -> Outgoing:
    """What a failed commit left waiting, and what has come since; of a run its newest row."""
    runs = {(kept.record.run.run_id, kept.record.run.attempt): kept for kept in (*waiting.runs, *fresh.runs)}
    return Outgoing(
        tuple(runs.values()),
        waiting.spans + fresh.spans,
        waiting.delivered + fresh.delivered,
        waiting.gone + fresh.gone,
    )
