"""What each attempt has used: the run's accounts less what they held when it began.

The accounts are committed at every tick, so after a restart an attempt's totals are exact to the last commit.
What only charts need (points, the last power) is kept in memory and stored with the run's row now and then.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from wattspan.carbon import forecast, projection
from wattspan.carbon.projection import Pace
from wattspan.carbon.rates import Rates
from wattspan.errors import WattspanError
from wattspan.journal import factors
from wattspan.journal.books import PricedPart
from wattspan.ledger.ledger import Tick
from wattspan.model import CounterKey, GridState, Intensity
from wattspan.runs import (
    HOST,
    Attribution,
    Calibration,
    Factor,
    Holdings,
    Point,
    Progress,
    RunNow,
    RunRecord,
    RunTotals,
    Stretch,
    WindowExemplar,
)
from wattspan.units import NS_PER_S, UJ_PER_KWH
from wattspan.workloads import run_ids
from wattspan.workloads.registry import COUNTS, LiveRun

logger = logging.getLogger(__name__)

MAX_POINTS: Final = 240
"""Points of one run; beyond it every second one goes and they come half as often."""

FIRST_POINT_NS: Final = 5 * NS_PER_S

MAX_WINDOWS: Final = 256
"""Windows of one run on one node; the length doubles each time half of what is left has been used.

The last one stays open to the run's end: with windows of 15 minutes that is after ten days.
"""

GREENEST_NS: Final = 60 * NS_PER_S
"""How often the greenest stretch of a run's length is looked for."""

FARTHEST_NS: Final = 10 * 365 * 24 * 3600 * NS_PER_S
"""A run that is to end later than that says nothing of its end by its pace so far."""

Totals = Mapping[CounterKey, int | float]

Gained = Mapping[tuple[str, int], Totals]
"""By run id and attempt."""


@dataclass(frozen=True, slots=True)
class _Projected:
    """What the run will have come to: see `RunNow`."""

    co2e_g: float | None = None
    cost: float | None = None
    end_wall_ns: int | None = None


@dataclass(slots=True)
class _Open:
    """What is remembered of an attempt while it runs.

    Attributes:
        watched: a tick was taken, by this daemon or an earlier one; before that nothing is known of the
            operator's figures, and afterwards what is None was not kept by an older program.
    """

    start: dict[CounterKey, int | float]
    gpus: dict[str, str] = field(default_factory=dict)
    zone: str = ""
    basis: str = ""
    providers: dict[str, None] = field(default_factory=dict)
    estimated: bool = False
    pue: float = 1.0
    pue_configured: bool | None = None
    embodied_without: dict[str, None] | None = None
    watched: bool = False
    points: list[Point] = field(default_factory=list)
    point_every_ns: int = FIRST_POINT_NS
    point_due_ns: int = 0
    point_energy_uj: dict[str, int] = field(default_factory=dict)
    window_ns: int = 0
    windows: int = 0
    window_began_wall_ns: int = 0
    window_start: dict[CounterKey, int | float] = field(default_factory=dict)
    phase_start: dict[tuple[str, int | None], dict[CounterKey, int | float]] = field(default_factory=dict)
    power_uw: int | None = None
    held: int = 0
    factors: list[Factor] = field(default_factory=list)
    factors_whole: bool = True
    greenest_g_per_kwh: float | None = None
    greenest_due_wall_ns: int = 0
    projected: _Projected = _Projected()

    def pass_over(self, amounts: Totals) -> None:
        """What the accounts have gained so much of was another attempt's."""
        self.start = _plus(self.start, amounts)
        self.window_start = _plus(self.window_start, amounts)
        self.phase_start = {phase: _plus(start, amounts) for phase, start in self.phase_start.items()}
        for (quantity, labels), amount in amounts.items():
            if quantity == "run_gpu_energy":
                self.point_energy_uj[labels[1]] = self.point_energy_uj.get(labels[1], 0) + int(amount)


class RunBook:
    """The records of live and just-ended runs.

    Args:
        node, cluster: where this is.
        currency: of costs; empty without a price.
        accounts: a run's accounts as they stand, by run id.
        window_ns: length of the first windows.
        calibrations: of this node's GPUs by uuid, as far as the operator has made any.
        ended_g: operational grams of a run's attempts that the journal has as ended, by attempt. Asked once
            for an attempt that has predecessors, whose accounts may be gone.
    """

    def __init__(
        self,
        node: str,
        cluster: str,
        currency: str,
        accounts: Callable[[str], dict[CounterKey, int | float]],
        window_ns: int,
        calibrations: Mapping[str, Calibration] | None = None,
        ended_g: Callable[[str], Mapping[int, float]] = lambda _: {},
    ) -> None:
        self._ended_g = ended_g
        self._earlier_g: dict[tuple[str, int], float] = {}
        self._calibrations = dict(calibrations or {})
        self._node = node
        self._cluster = cluster
        self._currency = currency
        self._accounts = accounts
        self._window_ns = window_ns
        self._open: dict[tuple[str, int], _Open] = {}
        self._final: dict[tuple[str, int], RunRecord] = {}
        self._exemplars: dict[tuple[str, int], WindowExemplar] = {}
        self._awaited: frozenset[tuple[str, int]] = frozenset()

    def begin(self, live: LiveRun) -> None:
        """From here on the run's accounts are this attempt's. Once more changes nothing."""
        key = (live.run.run_id, live.run.attempt)
        if key in self._open or key in self._final:
            return
        start = self._accounts(live.run.run_id)
        self._open[key] = _Open(
            start=start,
            window_ns=self._window_ns,
            window_began_wall_ns=live.began.wall_ns,
            window_start=start,
        )

    def close(self, live: LiveRun) -> RunRecord:
        """The attempt has ended, and the accounts hold all that it used. Gives its final record, with points.

        The accounts may go on with the next attempt; this one's record changes no more.
        """
        record = self.record(live, points=True)
        self.closed(live, record)
        return record

    def closed(self, live: LiveRun, record: RunRecord) -> None:
        """Take the final record of an attempt, such as one that ended under an earlier daemon."""
        key = (live.run.run_id, live.run.attempt)
        self._open.pop(key, None)
        self._final[key] = replace(record, points=(), factors=())

    def is_closed(self, live: LiveRun) -> bool:
        """Whether the attempt's record is final."""
        return (live.run.run_id, live.run.attempt) in self._final

    def entered(self, gained: Gained, awaited: frozenset[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """A tick is in the accounts.

        Of two attempts of a run that are open at once, the one not closed yet and the next, each has what
        it gained itself: the other's part is taken to have been in the accounts before.

        Args:
            gained: in the tick, by run id and attempt.
            awaited: attempts that are over, and whose last energy is not in the accounts.

        Returns:
            The attempts that the accounts are read for in another way now, so that their rows are due.
        """
        self._awaited = awaited
        moved: set[tuple[str, int]] = set()
        if len({run_id for run_id, _ in self._open}) == len(self._open):
            return frozenset()
        for (run_id, attempt), amounts in gained.items():
            for (other_id, other), state in self._open.items():
                if other_id == run_id and other != attempt:
                    state.pass_over(amounts)
                    moved.add((other_id, other))
        return frozenset(moved)

    def awaits(self, live: LiveRun) -> bool:
        """Whether an attempt is over, and its GPUs have not been read since: it goes on until then."""
        return (live.run.run_id, live.run.attempt) in self._awaited

    def watch(
        self,
        runs: Iterable[LiveRun],
        tick: Tick,
        holdings: Holdings,
        rates: Rates,
        grid: GridState,
        priced: Mapping[tuple[str, int], Iterable[PricedPart]],
    ) -> None:
        """Take from a tick what the accounts do not hold: which GPUs, which intensity, how much power."""
        models = {state.gpu.uuid: state.gpu.model for state in tick.gpus}
        held: dict[tuple[str, int], set[str]] = {}
        for uuid, holds in holdings.by_gpu.items():
            for hold in holds:
                held.setdefault((hold.holder.run_id, hold.holder.attempt), set()).add(uuid)
        power_uw: dict[tuple[str, int], int] = {}
        for charge in (*tick.charges, *tick.host_shares):
            if charge.holder is not None and charge.holder.run_id and charge.end_ns > charge.start_ns:
                key = (charge.holder.run_id, charge.holder.attempt)
                watts = charge.energy_uj * NS_PER_S // (charge.end_ns - charge.start_ns)
                power_uw[key] = power_uw.get(key, 0) + watts
        for live in runs:
            self.begin(live)
            key = (live.run.run_id, live.run.attempt)
            state = self._open[key]
            uuids = held.get(key, set())
            state.gpus |= {uuid: models.get(uuid, "") for uuid in sorted(uuids)}
            state.held = len(uuids)
            if power_uw or tick.charges:
                state.power_uw = power_uw.get(key, 0) if uuids or key in power_uw else None
            self._note_grid(state, grid)
            self._note_terms(state, tick, rates, grid)
            self._note_factors(live, state, rates, priced.get(key, ()))
            self._point(live, state, tick, grid)

    def stretches(self, live: LiveRun, now_wall_ns: int) -> list[Stretch]:
        """Windows and phases of a run that have closed since this was last asked.

        Their energy is known at looks only: a phase has what was metered from the look after its begin to
        the look after its end, each `sampler.BOUNDARY_NS` after it or sooner. One that falls between two
        looks has none of it, and the phase around it has all; over many of them the sums are right.
        """
        state = self._open[live.run.run_id, live.run.attempt]
        accounts = self._accounts(live.run.run_id)
        closed: list[Stretch] = []
        for phase in live.closed_phases:
            start = state.phase_start.pop((phase.name, phase.index), accounts)
            totals = _totals(accounts, start, self._currency)
            closed.append(Stretch(phase.name, phase.index, phase.began_wall_ns, phase.ended_wall_ns, totals))
        live.closed_phases.clear()
        for phase_key in live.open_phases:
            state.phase_start.setdefault(phase_key, accounts)
        end_wall_ns = live.ending.at.wall_ns if live.ending else now_wall_ns
        is_last = state.windows >= MAX_WINDOWS - 1
        is_over = end_wall_ns - state.window_began_wall_ns >= state.window_ns
        if live.ending or (is_over and not is_last):
            totals = _totals(accounts, state.window_start, self._currency)
            closed.append(Stretch("", state.windows, state.window_began_wall_ns, end_wall_ns, totals))
            state.windows += 1
            state.window_began_wall_ns, state.window_start = end_wall_ns, accounts
            if state.windows in _DOUBLE_AT:
                state.window_ns *= 2
        return closed

    def record(self, live: LiveRun, *, points: bool = False) -> RunRecord:
        """What is known of an attempt. A final record has no points."""
        key = (live.run.run_id, live.run.attempt)
        if key in self._final:
            return self._final[key]
        state = self._open[key]
        ending = None if self.awaits(live) else live.ending
        return RunRecord(
            run=live.run,
            node=self._node,
            cluster=self._cluster,
            began_wall_ns=live.began.wall_ns,
            totals=self._used_since(live, state.start),
            progress=live.progress,
            ended_wall_ns=ending.at.wall_ns if ending else None,
            result=ending.result if ending else None,
            error_type=ending.error_type if ending else "",
            pods=tuple(sorted(live.pods, key=lambda pod: (pod.namespace, pod.name, pod.container))),
            gpus=dict(state.gpus),
            grid_zone=state.zone,
            basis=state.basis,
            providers=tuple(state.providers),
            estimated=state.estimated,
            pue=state.pue,
            currency=self._currency,
            points=tuple(state.points) if points else (),
            progress_before=_progress_before(live),
            factors=tuple(state.factors) if points else (),
            calibrations={
                uuid: self._calibrations[uuid] for uuid in state.gpus if uuid in self._calibrations
            },
            pue_configured=state.pue_configured,
            embodied_without=None if state.embodied_without is None else tuple(state.embodied_without),
            earlier_co2e_g=self._before_g(live),
        )

    def now(self, live: LiveRun, rates: Rates, grid: GridState, now_wall_ns: int) -> RunNow:
        """An attempt as gauges show it."""
        state = self._open.get((live.run.run_id, live.run.attempt))
        record = self.record(live)
        power_uw = 0 if live.ending or state is None else state.power_uw
        used_g = self._before_g(live) + record.totals.co2e_g
        projected = _projected(record, used_g, rates, grid, now_wall_ns)
        if state is not None:
            state.projected = projected
        return RunNow(
            record=record,
            trace_id=self.trace_id(live),
            power_uw=power_uw,
            co2e_g_per_s=None if power_uw is None else rates.pricing.g_per_second(power_uw, now_wall_ns),
            gpus=0 if live.ending or state is None else state.held,
            progress_ratio=progress_ratio(record),
            projected_co2e_g=projected.co2e_g,
            projected_cost=projected.cost,
            projected_end_wall_ns=projected.end_wall_ns,
            greenest_co2e_g=self._greenest_co2e_g(record, state, rates, grid, now_wall_ns),
            budget_used_g=used_g,
            named=live.named(now_wall_ns),
            exemplar=self._exemplars.get((live.run.run_id, live.run.attempt)),
        )

    def projected_co2e_g(self, live: LiveRun) -> float | None:
        """What the run will have emitted, as of the last view."""
        state = self._open.get((live.run.run_id, live.run.attempt))
        return None if state is None else state.projected.co2e_g

    def _before_g(self, live: LiveRun) -> float:
        """Operational grams of the run's earlier attempts on this node: its budget is held against them, too.

        Not by its accounts: those go when an attempt has been over for a while, and the next may come later.
        """
        key = (live.run.run_id, live.run.attempt)
        if live.run.attempt and key not in self._earlier_g:
            try:
                known = dict(self._ended_g(live.run.run_id))
            except WattspanError:
                logger.debug("run %s: its earlier attempts cannot be read", live.run.run_id, exc_info=True)
                known = {}
            # One that ended in this tick may not be on the disk yet.
            known |= {
                attempt: record.totals.co2e_g
                for (run_id, attempt), record in self._final.items()
                if run_id == live.run.run_id
            }
            self._earlier_g[key] = sum(g for attempt, g in known.items() if attempt < live.run.attempt)
        return self._earlier_g.get(key, 0.0)

    def _greenest_co2e_g(
        self, record: RunRecord, state: _Open | None, rates: Rates, grid: GridState, now_wall_ns: int
    ) -> float | None:
        """What it would have emitted in the greenest stretch of its length, from its begin to the last
        forecast."""
        if state is None or grid.outlook is None or (record.run.nodes_expected or 1) > 1:
            return None
        if now_wall_ns >= state.greenest_due_wall_ns:
            state.greenest_due_wall_ns = now_wall_ns + GREENEST_NS
            known = _known_from(record.began_wall_ns, rates, grid)
            length_ns = max(now_wall_ns - record.began_wall_ns, NS_PER_S)
            last_ns = known[-1].valid_until_wall_ns if known else None
            window = (
                None
                if last_ns is None
                else forecast.greenest_window(known, length_ns, record.began_wall_ns, last_ns)
            )
            state.greenest_g_per_kwh = window.g_per_kwh if window else None
        if state.greenest_g_per_kwh is None:
            return None
        energy_uj = sum(record.totals.energy_uj.values())
        return energy_uj / UJ_PER_KWH * rates.pricing.pue * state.greenest_g_per_kwh

    def exemplify(self, live: LiveRun, exemplar: WindowExemplar) -> None:
        """Let the run's counters point to the window that has just closed."""
        self._exemplars[live.run.run_id, live.run.attempt] = exemplar

    def trace_id(self, live: LiveRun) -> str:
        """The trace of an attempt."""
        return run_ids.trace_id(self._cluster, live.run.run_id, live.run.attempt)

    def forget(self, live: LiveRun) -> None:
        """Let go of an attempt whose record is final and stored."""
        self._final.pop((live.run.run_id, live.run.attempt), None)
        self._earlier_g.pop((live.run.run_id, live.run.attempt), None)
        self._exemplars.pop((live.run.run_id, live.run.attempt), None)

    def resume_document(self, live: LiveRun) -> dict[str, Any]:
        """What another daemon needs to go on with this attempt, as JSON."""
        state = self._open[live.run.run_id, live.run.attempt]
        return {
            "start": _rows(state.start),
            "window_start": _rows(state.window_start),
            "phase_start": [[*phase, _rows(start)] for phase, start in state.phase_start.items()],
            "window_ns": state.window_ns,
            "windows": state.windows,
            "window_began_wall_ns": state.window_began_wall_ns,
            "point_every_ns": state.point_every_ns,
        }

    def resume(self, live: LiveRun, record: RunRecord, document: Mapping[str, Any]) -> None:
        """Go on with an attempt of an earlier daemon, from its `record` and its `resume_document`."""
        self._open[live.run.run_id, live.run.attempt] = _Open(
            start=_from_rows(document["start"]),
            gpus=dict(record.gpus),
            zone=record.grid_zone,
            basis=record.basis,
            providers=dict.fromkeys(record.providers),
            estimated=record.estimated,
            pue=record.pue,
            pue_configured=record.pue_configured,
            embodied_without=(
                None if record.embodied_without is None else dict.fromkeys(record.embodied_without)
            ),
            watched=True,
            # The row may be some seconds older than the accounts: what they have more is told apart later.
            factors=list(record.factors),
            factors_whole=False,
            points=list(record.points),
            point_every_ns=document["point_every_ns"],
            window_ns=document["window_ns"],
            windows=document["windows"],
            window_began_wall_ns=document["window_began_wall_ns"],
            window_start=_from_rows(document["window_start"]),
            phase_start={(name, index): _from_rows(rows) for name, index, rows in document["phase_start"]},
        )

    def _used_since(self, live: LiveRun, start: Totals) -> RunTotals:
        return _totals(self._accounts(live.run.run_id), start, self._currency)

    def _note_grid(self, state: _Open, grid: GridState) -> None:
        state.pue = grid.pue
        if grid.intensity is None:
            return
        state.zone, state.basis = grid.intensity.grid_zone, grid.intensity.basis
        state.providers[grid.intensity.provider] = None
        state.estimated = state.estimated or grid.intensity.estimated

    def _note_terms(self, state: _Open, tick: Tick, rates: Rates, grid: GridState) -> None:
        """What must have held all the time for the grams per unit to be called SCI."""
        if not state.watched:
            state.watched, state.pue_configured, state.embodied_without = True, grid.pue_configured, {}
        state.pue_configured = state.pue_configured if grid.pue_configured else False
        # Before the first card is seen nobody has asked for figures of any, and no time of one is counted.
        if state.embodied_without is not None and tick.gpus:
            if rates.embodied is None or rates.embodied.host_g is None:
                state.embodied_without[HOST] = None
            for model in state.gpus.values():
                if rates.embodied_g(model, 0, 1) is None:
                    state.embodied_without[model] = None

    def _note_factors(self, live: LiveRun, state: _Open, rates: Rates, parts: Iterable[PricedPart]) -> None:
        factors.note(state.factors, parts, rates.pricing)
        if not state.factors_whole:
            state.factors_whole = True
            totals = self._used_since(live, state.start)
            state.factors += factors.not_kept(
                state.factors, totals, rates.pricing.pue, state.window_began_wall_ns
            )

    def _point(self, live: LiveRun, state: _Open, tick: Tick, grid: GridState) -> None:
        now_ns = tick.snapshot.taken_at_ns
        if now_ns < state.point_due_ns and live.ending is None:
            return
        accounts = self._accounts(live.run.run_id)
        energy_uj = {
            labels[1]: int(value)
            for (quantity, labels), value in accounts.items()
            if quantity == "run_gpu_energy"
        }
        passed_ns = now_ns - (state.point_due_ns - state.point_every_ns) if state.point_due_ns else 0
        power = {
            uuid: (value - state.point_energy_uj.get(uuid, value)) * NS_PER_S // max(passed_ns, 1)
            for uuid, value in energy_uj.items()
            if passed_ns
        }
        wall_ns = now_ns + tick.snapshot.wall_offset_ns
        intensity = grid.intensity.g_per_kwh if grid.intensity else None
        co2e_g = _totals(accounts, state.start, self._currency).co2e_g
        state.points.append(Point(wall_ns, power, intensity, co2e_g))
        state.point_energy_uj = energy_uj
        if len(state.points) > MAX_POINTS:
            state.points = state.points[::2]
            state.point_every_ns *= 2
        state.point_due_ns = now_ns + state.point_every_ns


_DOUBLE_AT: Final = frozenset({128, 192, 224, 240, 248, 252, 254, 255})
"""Half of the windows at the first length, half of what is left at the second, and so on."""


def progress_ratio(record: RunRecord) -> float | None:
    """Steps over planned steps, 1 at most; None while those are unknown."""
    total = record.progress.total_steps
    return min(1.0, record.progress.steps / total) if total else None


def _projected(
    record: RunRecord, used_g: float, rates: Rates, grid: GridState, now_wall_ns: int
) -> _Projected:
    """What the run will have come to when it ends; nothing over several nodes.

    The pace is that of the steps it has made itself: an attempt that resumed at half of them has half to go.
    """
    total = record.progress.total_steps
    made = record.progress.steps - (record.progress_before.steps if record.progress_before else 0)
    if not total or made <= 0 or (record.run.nodes_expected or 1) > 1:
        return _Projected()
    if record.ended_wall_ns is not None:
        return _Projected(used_g, record.totals.cost, record.ended_wall_ns)
    energy_uj = sum(record.totals.energy_uj.values())
    left = max(0, total - record.progress.steps)
    pace = Pace(made, left, energy_uj, max(0, now_wall_ns - record.began_wall_ns))
    rest = projection.of_the_rest(pace, now_wall_ns, rates, grid.outlook)
    if (rest.end_wall_ns or 0) - now_wall_ns > FARTHEST_NS:
        return _Projected()
    cost = None if record.totals.other_costs else record.totals.cost
    return _Projected(
        None if rest.co2e_g is None else used_g + rest.co2e_g,
        None if rest.cost is None or cost is None else cost + rest.cost,
        rest.end_wall_ns,
    )


def _known_from(begin_wall_ns: int, rates: Rates, grid: GridState) -> list[Intensity]:
    """Figures with both ends from a moment to the last forecast, past to future."""
    ahead = grid.outlook.figures if grid.outlook else ()
    if not ahead:
        return []
    from_ns = ahead[0].valid_from_wall_ns or 0
    past = [
        figure
        for figure in rates.pricing.intensities
        if figure.valid_from_wall_ns is not None
        and (figure.valid_until_wall_ns or 0) > begin_wall_ns
        and (figure.valid_until_wall_ns or 0) <= from_ns
    ]
    return [*past, *ahead]


def _progress_before(live: LiveRun) -> Progress | None:
    if not live.before:
        return None
    counts = {name: live.before.get(name, 0) for name in COUNTS}
    return Progress(**counts, repeated_steps=live.repeated_before)


def _totals(accounts: Totals, start: Totals, currency: str) -> RunTotals:
    """What the accounts have gained since `start`; of money, what was counted in the currency of now."""
    energy: dict[tuple[str, Attribution], int] = {}
    by_gpu: dict[str, int] = {}
    other_costs: dict[str, float] = {}
    sums: dict[str, int | float] = {}
    for key, value in accounts.items():
        quantity, labels = key
        gained = max(0, value - start.get(key, 0))  # grams are floats, and may be off by their last digit
        if quantity == "run_energy":
            if gained:
                energy[labels[1], labels[2]] = int(gained)  # type: ignore[index]  # written by us alone
        elif quantity == "run_gpu_energy":
            if gained:
                by_gpu[labels[1]] = int(gained)
        elif quantity in {"run_cost", "run_cost_wasted"} and labels[1] != currency:
            if quantity == "run_cost" and gained:
                other_costs[labels[1]] = gained
        elif quantity == "run_co2e" and labels[1] == "embodied":
            sums["embodied"] = sums.get("embodied", 0.0) + gained
        else:
            sums[quantity] = sums.get(quantity, 0) + gained
    return RunTotals(
        energy_uj=energy,
        co2e_g=float(sums.get("run_co2e", 0.0)),
        unpriced_uj=int(sums.get("run_unpriced", 0)),
        cost=sums.get("run_cost"),
        uncosted_uj=int(sums.get("run_uncosted", 0)),
        other_costs=other_costs,
        facility_uj=sums.get("run_facility_energy"),
        gpu_ns=int(sums.get("run_gpu", 0)),
        idle_gpu_ns=int(sums.get("run_idle_gpu", 0)),
        utilization_ns=int(sums.get("run_utilization", 0)),
        gpu_energy_uj=by_gpu,
        embodied_g=sums.get("embodied"),
        market_g=sums.get("run_market_co2e"),
        water_l=sums.get("run_water"),
        wasted_uj=int(sums.get("run_wasted", 0)),
        wasted_cost=float(sums.get("run_cost_wasted", 0.0)),
    )


def _plus(totals: Totals, amounts: Totals) -> dict[CounterKey, int | float]:
    return {**totals, **{key: totals.get(key, 0) + amount for key, amount in amounts.items()}}


def _rows(totals: Totals) -> list[list[Any]]:
    return [[quantity, list(labels), value] for (quantity, labels), value in totals.items()]


def _from_rows(rows: Iterable[Iterable[Any]]) -> dict[CounterKey, int | float]:
    return {(quantity, tuple(labels)): value for quantity, labels, value in rows}
