"""What runs have used, from ledger to journal: by attempt, phase and window, over restarts and reboots."""

import gc
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.readings import UUID, WALL_OFFSET_NS, look, package, snapshot
from wattspan.carbon.price import fixed
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.rates import Rates
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.history import History
from wattspan.journal.marks import pasts
from wattspan.journal.run_book import MAX_POINTS, MAX_WINDOWS, RunBook, progress_ratio
from wattspan.journal.store import Journal
from wattspan.ledger.ledger import Ledger, Tick
from wattspan.model import CounterKey, GridState, Intensity
from wattspan.publish.run_documents import run_document
from wattspan.publish.span_content import closing_spans, stretch_span
from wattspan.run_keeper import RunKeeper, just_ended, registry_of, resumed
from wattspan.runs import Hold, Holder, Holdings, PodRef, Progress, RunNow, RunRecord, SpanRecord, Stretch
from wattspan.units import NS_PER_S, UJ_PER_J, UJ_PER_KWH
from wattspan.workloads import registry
from wattspan.workloads.registry import Claim, Ending, LastAttempt, LiveRun, Moment, Told

WATTS = 300
G_PER_KWH = 400.0
PUE = 1.25
WINDOW_S = 600
INTENSITY = Intensity(G_PER_KWH, None, None, "FR", "static", "average", "lifecycle", estimated=True)


class Station:
    """A daemon's writer without hardware: one card of 300 W, a clock and holders in the test's hands."""

    def __init__(
        self,
        state: Path,
        *,
        boot: str = "boot-1",
        at_s: float = 1000,
        window_s: float = WINDOW_S,
        currency: str = "EUR",
    ) -> None:
        self.now_s = at_s
        self.watts: float = WATTS
        self.utilization_ratio = 0.5
        self.stepped_s = 0.0
        self._told: set[tuple[str, int]] = set()
        self.joules: float = at_s * WATTS
        self.metered_s = at_s
        self.journal = Journal.open(state, boot, lambda: self.now.wall_ns)
        self.board = Board()
        self.stretches: list[tuple[str, int, Stretch]] = []
        self.closed: list[RunRecord] = []
        history = History(state)
        window_ns = round(window_s * NS_PER_S)
        self.book = RunBook("node-a", "", currency, self._accounts, window_ns, ended_g=history.ended_co2e_g)
        restored = self.journal.restored
        accounts = {(account.quantity, account.labels): account.total for account in restored.accounts}
        live = [
            resumed(kept, self.book, accounts, self.now, same_boot=restored.same_boot)
            for kept in restored.runs
        ]
        last = {run_id: LastAttempt(*known) for run_id, known in history.last_attempts(10).items()}
        recent = history.runs(state="ended", since_wall_ns=self.now.wall_ns - 300 * NS_PER_S)
        ended = [just_ended(record, self.book, accounts, self.now) for record in recent]
        self.registry = registry_of(live, last, ended)
        self.prices = fixed(0.2, currency)
        self.keeper = RunKeeper(self.registry, self.book, self._spans_of)
        self.ledger = Ledger(NS_PER_S, pasts(restored.baselines))
        self.books = Books(self.journal, self.board, currency, self.keeper)
        self.sequence = 0

    @property
    def now(self) -> Moment:
        ns = round(self.now_s * NS_PER_S)
        return Moment(ns, self.wall_offset_ns + ns)

    @property
    def wall_offset_ns(self) -> int:
        """Of a wall clock that was set by `stepped_s`."""
        return WALL_OFFSET_NS + round(self.stepped_s * NS_PER_S)

    def _accounts(self, run_id: str) -> dict[CounterKey, int | float]:
        return self.books.accounts_of_run(run_id)

    def _spans_of(self, record: RunRecord, stretch: Stretch | None) -> tuple[SpanRecord, ...]:
        if stretch is None:
            self.closed.append(record)
        else:
            self.stretches.append((record.run.run_id, record.run.attempt, stretch))
        return ()

    def tick(
        self,
        seconds: float = 1,
        *,
        holds: Sequence[Hold] | None = None,
        cpu_ns: Mapping[Holder, int] | None = None,
        blind: Literal["", "card", "counter"] = "",
    ) -> None:
        """Time passes; by default every run that lives holds the card, or held it until its end.

        A tick may be blind: the card does not answer at all, or its counter alone does not.
        """
        self.now_s += seconds
        self.sequence += 1
        found = self._holds() if holds is None else holds
        holdings = Holdings({UUID: tuple(found)} if found else {}, cpu_ns or {}, cores=4)
        self.keeper.holdings(holdings)
        self.joules += (self.now_s - self.metered_s) * self.watts
        self.metered_s = self.now_s
        joules = None if blind == "counter" else self.joules
        reading = look(self.now_s, joules, watts=self.watts, utilization_ratio=self.utilization_ratio)
        host = package(self.now_s, self.now_s * 40)
        looks = (host,) if blind == "card" else (reading, host)
        taken = snapshot(self.sequence, *looks, at_s=self.now_s)
        taken = replace(taken, wall_offset_ns=self.wall_offset_ns)
        self.take(self.ledger.apply(taken, holdings))
        self.board.scraped(self.board.view.sequence, 0)

    def take(self, tick: Tick) -> None:
        """Enter a tick, priced by one intensity at all times."""
        grid = GridState(INTENSITY, 0, PUE, pue_configured=True)
        self.books.take(tick, Rates(Pricing((INTENSITY,), PUE), self.prices), grid)

    def _holds(self) -> list[Hold]:
        """As a resolver does: the end of a hold is told once."""
        ended = [
            run
            for key, run in self.registry.ended.items()
            if key not in self._told and not self.book.is_closed(run)
        ]
        self._told = {key for key in self._told if key in self.registry.ended}
        self._told |= {(run.run.run_id, run.run.attempt) for run in ended}
        return [
            Hold(_holder(run), run.began.ns, run.ending.at.ns if run.ending else None)
            for run in (*ended, *self.registry.live.values())
        ]

    def begin(self, run_id: str = "sft", **more: object) -> LiveRun:
        claim = Claim(run_id=run_id, **more)  # type: ignore[arg-type]
        live, _ = self.registry.begin(claim, self.now)
        self.book.begin(live)
        return live

    def end(self, run_id: str = "sft", result: str = "success") -> None:
        self.registry.end(run_id, None, Ending(self.now, result))  # type: ignore[arg-type]

    def counter(self, quantity: str, *labels: str) -> float | None:
        """As it is published."""
        return self.board.view.counters.get(quantity, {}).get(labels)

    @property
    def shown(self) -> dict[str, RunNow]:
        """Runs of the view."""
        named = {now.record.run.run_id: now for now in self.board.view.runs}
        assert len(named) == len(self.board.view.runs), "a run is shown twice"
        return named

    def stop(self, *, clean: bool = False) -> None:
        if clean:
            self.books.close()
        else:
            self.journal.close(clean=False)


def _holder(run: LiveRun) -> Holder:
    pod = next(iter(run.pods), PodRef())
    return Holder(run.run.run_id, run.run.attempt, pod, run.run.project)


@pytest.fixture
def station(state: Path) -> Station:
    made = Station(state)
    made.tick()
    return made


def gpu_j(record: RunRecord) -> float:
    return sum(uj for (component, _), uj in record.totals.energy_uj.items() if component == "gpu") / UJ_PER_J


# One attempt


def test_a_run_has_what_its_card_used_between_begin_and_end(station: Station) -> None:
    """To the microjoule, also where both fall between two looks."""
    station.now_s += 0.25
    station.begin()
    station.tick(0.75)
    station.tick()
    station.now_s += 0.5
    station.end()
    station.tick(0.5)
    (record,) = station.closed
    assert gpu_j(record) == 2.25 * WATTS
    assert record.totals.gpu_energy_uj == {UUID: 675 * UJ_PER_J}
    assert record.totals.gpu_ns == 2.25 * NS_PER_S
    assert record.totals.utilization_ns == pytest.approx(1.125 * NS_PER_S)
    assert (record.ended_wall_ns or 0) - record.began_wall_ns == 2.25 * NS_PER_S


def test_grams_and_cost_are_those_of_its_energy(station: Station) -> None:
    """With the PUE once."""
    station.begin(project="nlp")
    station.tick(10)
    station.end()
    station.tick()
    (record,) = station.closed
    kwh = 10 * WATTS * UJ_PER_J / UJ_PER_KWH
    assert record.totals.co2e_g == pytest.approx(kwh * G_PER_KWH * PUE)
    assert record.totals.cost == pytest.approx(kwh * PUE * 0.2)
    assert (record.grid_zone, record.basis, record.providers) == ("FR", "lifecycle", ("static",))
    assert (record.estimated, record.pue, record.currency) == (True, PUE, "EUR")
    assert station.counter("owner_energy", "", "nlp", "gpu") == 10 * WATTS * UJ_PER_J


def test_a_runs_part_of_the_host_is_its_own_and_stays_with_the_node(station: Station) -> None:
    """By CPU time; the component is told apart and the node's sum is what it was."""
    live = station.begin()
    station.tick(2, cpu_ns={_holder(live): 2 * NS_PER_S})
    station.end()
    station.tick()
    (record,) = station.closed
    assert record.totals.energy_uj["cpu", "cpu_time"] == 20 * UJ_PER_J
    assert station.counter("node_energy") == 3 * (WATTS + 40) * UJ_PER_J


def test_two_runs_that_share_the_card_sum_to_it(station: Station) -> None:
    """And to nothing before the first and after the last."""
    station.begin("a")
    station.tick()
    station.begin("b")
    station.tick(3)
    station.end("a")
    station.tick()
    station.end("b")
    station.tick()
    energy = {record.run.run_id: gpu_j(record) for record in station.closed}
    assert energy == {"a": 2.5 * WATTS, "b": 2.5 * WATTS}


def test_counters_of_a_run_exist_at_nothing_before_they_count(state: Path) -> None:
    """Prometheus takes the first value for the start."""
    station = Station(state)
    station.tick()
    station.begin()
    station.tick()
    assert station.counter("run_energy", "sft", "gpu", "exclusive") == 0
    assert station.counter("run_gpu", "sft") == 0
    assert station.counter("run_co2e", "sft", "operational", "lifecycle") == 0
    station.tick()
    assert station.counter("run_energy", "sft", "gpu", "exclusive") == 2 * WATTS * UJ_PER_J


@pytest.mark.parametrize("nodes", [None, 1])
def test_a_runs_gauges(station: Station, nodes: int | None) -> None:
    """Power and cards now; zero once it has ended; its begin and progress as long as it is shown."""
    station.begin(total_steps=100, nodes_expected=nodes)
    station.registry.progress("sft", 0, Told(steps=0))
    station.tick(10)
    station.registry.progress("sft", 0, Told(steps=25))
    station.tick(10)
    now = station.shown["sft"]
    assert (now.power_uw, now.gpus, now.progress_ratio) == (WATTS * 10**6, 1, 0.25)
    assert now.projected_co2e_g == pytest.approx(4 * now.record.totals.co2e_g)
    assert now.co2e_g_per_s == pytest.approx(now.record.totals.co2e_g / 20)
    assert station.counter("run_steps", "sft") == 25
    station.end()
    station.tick()
    now = station.shown["sft"]
    assert (now.power_uw, now.gpus, now.co2e_g_per_s, now.progress_ratio) == (0, 0, 0.0, 0.25)


def test_one_node_of_several_projects_nothing(station: Station) -> None:
    """What it has used is no measure of what the others will."""
    station.begin(total_steps=100, nodes_expected=2)
    station.registry.progress("sft", 0, Told(steps=0))
    station.tick(10)
    station.registry.progress("sft", 0, Told(steps=25))
    station.tick(10)
    now = station.shown["sft"]
    assert (now.projected_co2e_g, now.projected_end_wall_ns) == (None, None)
    assert now.progress_ratio == 0.25


@pytest.mark.parametrize("total_steps", [10**9, 10**15, 2**53 - 1])
def test_an_end_beyond_all_calendars_is_not_projected(station: Station, total_steps: int) -> None:
    """A first step that took long, or a number of steps that means "until I stop it": nobody can tell."""
    station.begin(total_steps=total_steps, nodes_expected=1)
    station.registry.progress("sft", 0, Told(steps=0))
    station.tick(10)
    station.registry.progress("sft", 0, Told(steps=1))
    station.tick(10)
    now = station.shown["sft"]
    assert (now.projected_co2e_g, now.projected_cost, now.projected_end_wall_ns) == (None, None, None)
    assert run_document(now.record, station.now.wall_ns, now)["projected_end_at"] is None


def test_progress_that_began_elsewhere(station: Station) -> None:
    """At step 500 of 1000 with half to go: the attempt's own pace tells what is to come."""
    station.begin(total_steps=1000, nodes_expected=1)
    station.registry.progress("sft", 0, Told(steps=500))
    station.tick(10)
    now = station.shown["sft"]
    assert (progress_ratio(now.record), now.projected_co2e_g) == (0.5, None)
    station.registry.progress("sft", 0, Told(steps=600))
    station.tick(10)
    record = station.shown["sft"].record
    assert progress_ratio(record) == 0.6
    assert station.shown["sft"].projected_co2e_g == pytest.approx(record.totals.co2e_g * 5)
    assert station.counter("run_steps", "sft") == 100
    assert record.progress_before is not None
    assert record.progress_before.steps == 500


def test_a_wall_clock_that_is_set_back_in_mid_run_costs_nothing(station: Station, state: Path) -> None:
    """The run ends before it began by that clock: its energy is whole, its spans have no negative length."""
    station.begin(nodes_expected=1)
    station.tick(10)
    hour_ago = Moment(station.now.ns, station.now.wall_ns - 3600 * NS_PER_S)
    station.registry.begin_phase("sft", 0, "epoch", 0, hour_ago)
    station.registry.end("sft", 0, Ending(hour_ago, "success"))
    station.tick()
    (record,) = station.closed
    assert gpu_j(record) == 10 * WATTS
    spans = [stretch_span(record, stretch) for _, _, stretch in station.stretches]
    spans += closing_spans(record, hub=False)
    assert {span.name for span in spans} == {
        "training_run",
        "training_run.node",
        "training_run.window",
        "training_run.phase",
    }
    assert all(span.end_wall_ns >= span.start_wall_ns == record.began_wall_ns for span in spans)
    assert gpu_j(History(state).attempts("sft")[0]) == 10 * WATTS


@pytest.mark.parametrize("hours", [(5, -9), (-9, 5), (-3, -3), (7, 7)])
def test_a_wall_clock_that_jumps_by_hours_moves_no_energy(state: Path, hours: tuple[float, float]) -> None:
    """Twice in a run with phases and windows: no length is negative, and each joule is in one window."""
    station = Station(state, window_s=10)
    station.tick()
    station.begin(nodes_expected=1, total_steps=10)
    for index, hour in enumerate((0, *hours, 0)):
        station.stepped_s += hour * 3600
        station.registry.begin_phase("sft", 0, "epoch", index, station.now)
        for _ in range(12):
            station.tick()
            assert station.shown["sft"].power_uw == WATTS * 10**6
        station.registry.end_phase("sft", 0, "epoch", index, station.now)
        station.registry.begin_phase("sft", 0, "across", index, station.now)
        if index:
            station.registry.end_phase("sft", 0, "across", index - 1, station.now)
        station.tick()
    station.end()
    station.tick()
    (record,) = station.closed
    assert gpu_j(record) == 4 * 13 * WATTS
    assert (
        sum(station.counter("owner_energy", "", "", of) or 0 for of in ("gpu", "cpu"))
        == gpu_j(record) * 10**6
    )
    windows = [stretch for _, _, stretch in station.stretches if not stretch.name]
    assert sum(uj for window in windows for uj in window.totals.energy_uj.values()) == gpu_j(record) * 10**6
    assert {
        index: joules for (name, index), joules in phases(station).items() if name == "epoch"
    } == dict.fromkeys(range(4), 12 * WATTS)
    spans = [stretch_span(record, stretch) for _, _, stretch in station.stretches]
    spans += closing_spans(record, hub=False)
    assert all(span.end_wall_ns >= span.start_wall_ns for span in spans)
    assert all(factor.ended_wall_ns >= factor.began_wall_ns for factor in record.factors)
    document = run_document(record, station.now.wall_ns)
    assert document["duration_seconds"] >= 0
    assert History(state).attempts("sft")[0].totals == record.totals


# Cards that do not answer


@pytest.mark.parametrize("blind", ["card", "counter"])
def test_a_run_that_ends_while_its_card_does_not_answer_has_all_that_it_used(
    station: Station, state: Path, blind: Literal["card", "counter"]
) -> None:
    """It is closed once the card has been read again, with its true end; till then it is shown as running."""
    station.begin(project="nlp")
    station.registry.begin_phase("sft", 0, "epoch", 0, station.now)
    station.tick(0)
    station.tick(5)
    station.tick(0.5, blind=blind)
    station.now_s += 0.2
    station.end()
    station.tick(0.1, blind=blind)
    assert (station.closed, station.stretches) == ([], [])
    assert station.shown["sft"].record.ended_wall_ns is None
    assert History(state).attempts("sft")[0].ended_wall_ns is None
    station.tick(0.2, blind=blind)
    station.tick(1)
    (record,) = station.closed
    assert gpu_j(record) == 5.7 * WATTS
    assert record.totals.gpu_ns == 5.7 * NS_PER_S
    assert (record.ended_wall_ns or 0) - record.began_wall_ns == 5.7 * NS_PER_S
    assert (record.result, History(state).attempts("sft")[0].result) == ("success", "success")
    assert phases(station) == {("epoch", 0): 5.7 * WATTS}
    windows = [stretch for _, _, stretch in station.stretches if not stretch.name]
    assert [window.ended_wall_ns for window in windows] == [record.ended_wall_ns]
    assert station.counter("owner_energy", "", "nlp", "gpu") == 5.7 * WATTS * UJ_PER_J
    station.tick(5)
    assert gpu_j(station.shown["sft"].record) == 5.7 * WATTS


def test_a_run_is_not_kept_open_by_a_card_that_answers_no_more(station: Station) -> None:
    """Three seconds after its end it is closed with what is known; what comes to light later is nobody's."""
    station.begin()
    station.tick(5)
    station.tick(1, blind="card")
    station.end()
    for _ in range(3):
        assert station.closed == []
        station.tick(1, blind="card")
    (record,) = station.closed
    assert gpu_j(record) == 5 * WATTS
    assert (record.ended_wall_ns or 0) - record.began_wall_ns == 6 * NS_PER_S
    station.tick(1)
    assert station.counter("run_energy", "sft", "gpu", "exclusive") == 5 * WATTS * UJ_PER_J
    assert station.counter("gpu_unattributed_energy", UUID, "gap") == 1 * WATTS * UJ_PER_J
    assert station.counter("gpu_attributed_energy", UUID, "idle") == 4 * WATTS * UJ_PER_J


def test_of_two_attempts_each_has_its_own_also_where_one_look_tells_of_both(station: Station) -> None:
    """One ended and the next began while the card did not answer; meanwhile the next has used the host."""
    first = station.begin()
    station.tick(5)
    station.tick(0.5, blind="card")
    station.end(result="failure")
    second = station.begin()
    cpu_ns = {_holder(first): 0, _holder(second): 2 * NS_PER_S}
    station.tick(1, blind="card", cpu_ns=cpu_ns)
    station.tick(1)
    station.tick(2)
    station.end()
    station.tick()
    assert [(record.run.attempt, gpu_j(record)) for record in station.closed] == [
        (0, 5.5 * WATTS),
        (1, 4 * WATTS),
    ]
    assert [record.totals.energy_uj.get(("cpu", "cpu_time")) for record in station.closed] == [
        None,
        20 * UJ_PER_J,
    ]
    windows = [(attempt, stretch.totals) for _, attempt, stretch in station.stretches]
    assert windows == [(record.run.attempt, record.totals) for record in station.closed]
    assert station.counter("run_energy", "sft", "gpu", "exclusive") == 9.5 * WATTS * UJ_PER_J
    assert station.counter("owner_wasted_energy", "", "", "failed") == 5.5 * WATTS * UJ_PER_J


def test_of_two_attempts_that_overlap_each_wastes_its_own(station: Station) -> None:
    """The failure of the first is entered while the next is open, and is no waste of the next's."""
    station.begin(project="nlp")
    station.tick(5)
    station.tick(0.5, blind="card")
    station.end(result="failure")
    station.begin(project="nlp")
    station.tick(1, blind="card")
    station.tick(1)
    station.tick(2)
    station.end(result="failure")
    station.tick()
    assert [record.run.attempt for record in station.closed] == [0, 1]
    used_uj = sum(uj for record in station.closed for uj in record.totals.energy_uj.values())
    assert station.counter("owner_wasted_energy", "", "nlp", "failed") == used_uj
    assert [record.totals.wasted_uj for record in station.closed] == [0, 0]


def test_two_failures_before_the_card_answers_each_waste_their_own(station: Station) -> None:
    """Both are over when the first is closed: what that one wasted is not taken from the other."""
    station.begin(project="nlp")
    station.tick(5)
    station.tick(0.5, blind="card")
    station.end(result="failure")
    station.begin(project="nlp")
    station.tick(0.5, blind="card")
    station.end(result="failure")
    wasted = []
    for blind in ("card",) * 9 + ("",) * 3:
        station.tick(blind=blind)  # type: ignore[arg-type]
        wasted.append(station.counter("owner_wasted_energy", "", "nlp", "failed") or 0)
    assert [record.run.attempt for record in station.closed] == [0, 1]
    assert wasted == sorted(wasted)
    used_uj = sum(uj for record in station.closed for uj in record.totals.energy_uj.values())
    assert wasted[-1] == used_uj > 0
    assert [record.totals.wasted_uj for record in station.closed] == [0, 0]


def test_after_a_kill_the_next_attempt_has_none_of_the_one_before_it(station: Station, state: Path) -> None:
    """Where it begins is on the disk with the energy that the attempt before it was still to have."""
    station.begin()
    station.tick(5)
    station.now_s += 0.2
    station.end(result="failure")
    station.now_s += 0.3
    station.begin()
    station.tick(0.5, blind="card")  # the first is not closed, and the row of the second is stored
    station.tick()
    (first,) = station.closed
    station.stop()
    again = Station(state, at_s=station.now_s)
    again.tick()
    again.end(result="failure")
    again.tick(0)
    again.tick()
    (second,) = again.closed
    assert gpu_j(first) == 5.2 * WATTS
    assert gpu_j(second) == (0.5 + 1 + 1) * WATTS
    used_uj = (gpu_j(first) + gpu_j(second)) * UJ_PER_J
    assert again.counter("run_energy", "sft", "gpu", "exclusive") == used_uj
    assert again.counter("owner_wasted_energy", "", "", "failed") == used_uj


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_an_end_that_waits_for_the_card_is_not_forgotten_by_a_kill(
    station: Station, state: Path, boot: str
) -> None:
    """The next daemon closes the attempt as it ended, phases too, and goes on with the one after it."""
    station.begin()
    station.registry.begin_phase("sft", 0, "epoch", 0, station.now)
    station.tick(5)
    station.tick(0.5, blind="card")
    station.end(result="failure")
    ended_wall_ns = station.now.wall_ns
    station.begin()
    station.tick(0.5, blind="card")
    station.stop()
    again = Station(state, boot=boot, at_s=station.now_s + 10)
    again.tick(0)
    again.tick()
    (record,) = again.closed
    assert (record.run.attempt, record.result, record.ended_wall_ns) == (0, "failure", ended_wall_ns)
    assert gpu_j(record) == 5 * WATTS
    assert [stretch.name for _, attempt, stretch in again.stretches if attempt == 0] == ["epoch", ""]
    assert again.registry.live["sft"].run.attempt == 1
    assert again.shown["sft"].record.run.attempt == 1


# Money


def test_money_of_two_currencies_is_never_added(station: Station, state: Path) -> None:
    """A run that goes on under another currency has the costs of each beside each other, of waste too."""
    station.begin()
    station.tick(5)
    station.stop(clean=True)
    again = Station(state, at_s=station.now_s, currency="JPY")
    again.tick(3)
    again.end(result="failure")
    again.tick()
    (record,) = again.closed
    assert record.currency == "JPY"
    assert record.totals.cost == pytest.approx(3 * WATTS / 3.6e6 * PUE * 0.2)
    assert record.totals.other_costs == {"EUR": pytest.approx(5 * WATTS / 3.6e6 * PUE * 0.2)}
    again.tick()
    assert again.counter("owner_wasted_cost", "", "", "failed", "JPY") == pytest.approx(record.totals.cost)


# Attempts


def test_the_next_attempt_has_its_own_energy_and_the_run_has_both(station: Station) -> None:
    """Series go on over attempts, records are per attempt, and of two only the newer is shown."""
    station.begin()
    station.registry.progress("sft", 0, Told(steps=0))
    station.registry.progress("sft", 0, Told(steps=100))
    station.tick(5)
    station.end(result="failure")
    station.tick()
    station.begin()
    station.registry.progress("sft", 1, Told(steps=80))
    station.tick(3)
    station.registry.progress("sft", 1, Told(steps=110))
    station.tick(2)
    assert station.shown["sft"].record.run.attempt == 1
    station.end()
    station.tick()
    assert [(r.run.attempt, gpu_j(r)) for r in station.closed] == [(0, 5 * WATTS), (1, 5 * WATTS)]
    assert station.counter("run_energy", "sft", "gpu", "exclusive") == 10 * WATTS * UJ_PER_J
    assert station.counter("run_steps", "sft") == 110
    assert station.counter("run_repeated_steps", "sft") == 20
    assert station.counter("owner_wasted_energy", "", "", "failed") == 5 * WATTS * UJ_PER_J
    assert station.counter("owner_wasted_energy", "", "", "repeated") == 3 * WATTS * UJ_PER_J
    first, second = station.closed
    assert (first.progress.steps, first.progress.repeated_steps) == (100, 0)
    assert second.progress_before is not None
    assert (second.progress_before.steps, second.progress.steps) == (100, 110)


@pytest.mark.parametrize("restarted", [False, True])
def test_no_joule_is_wasted_twice(station: Station, state: Path, restarted: bool) -> None:
    """Idle while it repeats is repeated alone; a failed attempt adds what was not wasted before its end."""
    station.begin()
    station.registry.progress("sft", 0, Told(steps=0))
    station.registry.progress("sft", 0, Told(steps=100))
    station.tick(4)
    station.utilization_ratio = 0.0
    station.tick(3)
    station.registry.progress("sft", 0, Told(steps=60))
    station.tick(2)
    if restarted:
        station.stop(clean=True)
        station = Station(state, at_s=station.now_s)
    station.tick()
    station.end(result="failure")
    station.tick()
    station.tick()  # a series that is new is shown as 0 first
    (record,) = station.closed
    reasons = {"idle_held": 3, "repeated": 3, "failed": 4}
    wasted = {reason: station.counter("owner_wasted_energy", "", "", reason) for reason in reasons}
    assert wasted == {reason: seconds * WATTS * UJ_PER_J for reason, seconds in reasons.items()}
    assert sum(uj or 0 for uj in wasted.values()) == station.counter("owner_energy", "", "", "gpu")
    assert sum(wasted.values()) == sum(record.totals.energy_uj.values())
    costs = [station.counter("owner_wasted_cost", "", "", reason, "EUR") or 0.0 for reason in reasons]
    assert sum(costs) == pytest.approx(record.totals.cost)
    assert costs[0] == pytest.approx(sum(costs) * 0.3)


def test_an_attempt_that_is_replaced_is_told_all_the_same(station: Station, state: Path) -> None:
    """The new one begins in the tick in which the old one is found to be over; energy is counted once."""
    station.begin(attempt=0)
    station.tick(5)
    station.now_s += 0.5
    station.begin(attempt=1)
    station.tick(0.5)
    station.tick(4)
    station.end()
    station.tick()
    first, second = station.closed
    assert (first.run.attempt, first.result) == (0, "lost")
    assert (gpu_j(first), gpu_j(second)) == (5.5 * WATTS, 4.5 * WATTS)
    assert [r.run.attempt for r in History(state).attempts("sft")] == [0, 1]


# Phases and windows


def phases(station: Station) -> dict[tuple[str, int | None], float]:
    return {
        (stretch.name, stretch.index): sum(stretch.totals.energy_uj.values()) / UJ_PER_J
        for _, _, stretch in station.stretches
        if stretch.name
    }


def test_phases_have_what_was_used_in_them(station: Station) -> None:
    """Each its own part, nested and one after the other, also when one of a name follows at once."""
    station.begin()
    station.registry.begin_phase("sft", 0, "fit", None, station.now)
    station.registry.begin_phase("sft", 0, "epoch", None, station.now)
    station.tick(0)
    station.tick(4)
    station.registry.end_phase("sft", 0, "epoch", None, station.now)
    station.registry.begin_phase("sft", 0, "epoch", None, station.now)
    station.tick(0.001)
    station.tick(2)
    assert phases(station)["epoch", None] == pytest.approx(4 * WATTS, abs=1)
    station.end()
    station.tick(0.001)
    assert phases(station)["epoch", None] == pytest.approx(2 * WATTS, abs=1)
    assert phases(station)["fit", None] == pytest.approx(6 * WATTS, abs=2)


def test_windows_sum_to_the_run(state: Path) -> None:
    """One after the other without a gap, the last with the run's end."""
    station = Station(state, window_s=10)
    station.tick()
    station.begin()
    for _ in range(25):
        station.tick()
    station.end()
    station.tick()
    windows = [stretch for _, _, stretch in station.stretches]
    assert [window.index for window in windows] == [0, 1, 2]
    assert [sum(window.totals.energy_uj.values()) for window in windows] == [
        s * WATTS * UJ_PER_J for s in (10, 10, 5)
    ]
    assert all(a.ended_wall_ns == b.began_wall_ns for a, b in pairwise(windows))
    assert windows[-1].ended_wall_ns == station.closed[0].ended_wall_ns


def test_a_run_has_so_many_windows_at_most(state: Path) -> None:
    """However long it is: they double, and the last one waits for the run's end."""
    station = Station(state, window_s=1)
    station.tick()
    station.begin()
    for _ in range(1300):
        station.tick()
    assert len(station.stretches) == MAX_WINDOWS - 1
    station.tick(100_000)
    station.tick(100_000)
    station.end()
    station.tick()
    assert len(station.stretches) == MAX_WINDOWS
    lengths = {s.ended_wall_ns - s.began_wall_ns for _, _, s in station.stretches[:-1]}
    assert lengths == {2**n * NS_PER_S for n in range(8)}


def test_history_is_thinned_out_evenly(station: Station) -> None:
    """Points come half as often each time they are too many, from first to last."""
    station.begin()
    for _ in range(1500):
        station.tick(5)
    station.end()
    station.tick()
    (record,) = station.closed
    assert MAX_POINTS / 2 < len(record.points) <= MAX_POINTS + 1
    gaps = {round((b.at_wall_ns - a.at_wall_ns) / NS_PER_S) for a, b in pairwise(record.points[:-1])}
    assert len(gaps) <= 2
    assert record.points[-1].co2e_g == pytest.approx(record.totals.co2e_g)
    assert set(record.points[-2].power_uw.values()) == {WATTS * 10**6}


# Restarts


def test_a_killed_daemon_costs_a_run_nothing(station: Station, state: Path) -> None:
    """The next one goes on with the same attempt: energy, progress, open phases, to the last commit."""
    live = station.begin(project="nlp", process=(42, 7), uid=1000, total_steps=50)
    station.registry.progress("sft", 0, Told(steps=0))
    station.tick(12)
    station.registry.begin_phase("sft", 0, "epoch", 3, station.now)
    station.tick(0)
    station.tick()
    station.registry.progress("sft", 0, Told(steps=20))
    station.tick(3)
    station.stop()
    again = Station(state, at_s=station.now_s + 30)
    (back,) = again.registry.live.values()
    assert (back.run, back.processes, back.uids) == (live.run, {42: 7}, {1000})
    assert back.began == live.began
    assert (back.progress.steps, back.counted("steps")) == (20, 20)
    assert set(back.open_phases) == {("epoch", 3)}
    again.tick(0)
    again.tick(4)
    again.end()
    again.tick()
    (record,) = again.closed
    assert gpu_j(record) == (12 + 1 + 3 + 30 + 4) * WATTS
    assert phases(again) == {("epoch", 3): (1 + 3 + 30 + 4) * WATTS}
    assert again.counter("run_steps", "sft") == 20


@pytest.mark.parametrize(("wait_s", "held"), [(1, True), (60, True), (400, False)])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_resume_goes_on_with_the_counters_of_the_run(
    station: Station, state: Path, restarted: bool, wait_s: float, held: bool
) -> None:
    """Over a daemon's restart, and when the run's series have gone: these begin anew where it had come to."""
    station.begin()
    for steps in (1000, 6000, 5990, 6000):
        station.registry.progress("sft", 0, Told(steps=steps))
        station.tick()
    station.end(result="failure")
    station.tick()
    assert (station.counter("run_steps", "sft"), station.counter("run_repeated_steps", "sft")) == (5000, 10)
    if restarted:
        station.stop()
        station = Station(state, at_s=station.now_s)
    station.tick(wait_s)
    station.tick()
    station.begin()
    told = {}
    for steps in (5000, 6000, 7000, 9000):
        station.registry.progress("sft", 1, Told(steps=steps))
        station.tick()
        station.tick()
        told[steps] = (station.counter("run_steps", "sft"), station.counter("run_repeated_steps", "sft"))
    base, repeated = (5000, 10) if held else (0, 0)
    assert told == {
        5000: (base, repeated or None),
        6000: (base, repeated + 1000),
        7000: (base + 1000, repeated + 1000),
        9000: (base + 3000, repeated + 1000),
    }
    station.end()
    station.tick()
    record = station.closed[-1]
    assert (record.run.attempt, record.progress.steps, record.progress.repeated_steps) == (1, 9000, 1010)
    assert record.progress_before == Progress(steps=6000, repeated_steps=10)


def test_a_run_that_has_just_ended_is_shown_by_the_next_daemon(station: Station, state: Path) -> None:
    """With its final values until five minutes after its end; then its series and accounts go."""
    station.begin(project="nlp")
    station.registry.progress("sft", 0, Told(steps=0))
    station.registry.progress("sft", 0, Told(steps=9))
    station.tick(10)
    station.end()
    station.tick()
    station.stop(clean=True)
    again = Station(state, at_s=station.now_s + 100)
    again.tick()
    assert again.shown["sft"].record.run.project == "nlp"
    assert gpu_j(again.shown["sft"].record) == 10 * WATTS
    assert again.counter("run_energy", "sft", "gpu", "exclusive") == 10 * WATTS * UJ_PER_J
    again.tick(197)
    assert again.counter("run_steps", "sft") == 9
    again.tick(2)
    assert again.shown == {}
    assert again.counter("run_energy", "sft", "gpu", "exclusive") is None
    assert again.counter("run_steps", "sft") is None
    assert again.begin("sft").run.attempt == 1


def test_series_of_a_run_that_is_long_over_do_not_outlive_a_restart(station: Station, state: Path) -> None:
    """The daemon was away when its five minutes ended."""
    station.begin()
    station.tick(10)
    station.end()
    station.tick()
    station.stop()
    again = Station(state, at_s=station.now_s + 1000)
    again.tick()
    assert again.shown == {}
    assert again.counter("run_energy", "sft", "gpu", "exclusive") is None
    again.stop()
    assert not [a for a in Journal.open(state, "boot-1").restored.accounts if a.quantity.startswith("run_")]


def test_a_runs_pod_goes_five_minutes_after_it_let_go_also_over_a_restart(
    station: Station, state: Path
) -> None:
    """Its owner's account stays."""
    pod = PodRef("nlp", "sft-0", "main")
    hold = Hold(Holder(pod=pod, project="p"), 0)
    station.tick(5, holds=[hold])
    key = ("nlp", "sft-0", "main", "gpu", "exclusive")
    assert station.counter("pod_energy", *key) is not None
    station.stop()
    again = Station(state, at_s=station.now_s + 10)
    again.tick(holds=[])
    assert again.counter("pod_energy", *key) is not None
    again.tick(299, holds=[])
    again.tick(2, holds=[])
    assert again.counter("pod_energy", *key) is None
    assert again.counter("owner_energy", "nlp", "p", "gpu") is not None


def test_a_reboot_keeps_the_totals_of_a_run(station: Station, state: Path) -> None:
    """Its counters start again from 0; the attempt goes on where its pods do."""
    station.begin(source="kubernetes", pod=PodRef("nlp", "sft-0", "main"), process=(42, 7))
    station.tick(10)
    station.stop()
    again = Station(state, boot="boot-2", at_s=50)
    (back,) = again.registry.live.values()
    assert back.processes == {}
    assert back.began.wall_ns == WALL_OFFSET_NS + 1001 * NS_PER_S
    again.tick(0)
    again.tick()
    assert again.counter("run_energy", "sft", "gpu", "exclusive") == WATTS * UJ_PER_J
    assert gpu_j(again.shown["sft"].record) == 11 * WATTS


# What stays


def test_a_finished_run_is_gone_after_five_minutes_and_kept_in_the_journal(
    station: Station, state: Path
) -> None:
    """Final values until then, then no series; the history has it with its result."""
    station.begin()
    station.tick(10)
    station.end(result="cancelled")
    station.tick()
    final = station.counter("run_energy", "sft", "gpu", "exclusive")
    station.tick(298)
    assert station.counter("run_energy", "sft", "gpu", "exclusive") == final
    station.tick(2)
    assert station.counter("run_energy", "sft", "gpu", "exclusive") is None
    assert station.shown == {}
    (kept,) = History(state).attempts("sft")
    assert (kept.result, gpu_j(kept)) == ("cancelled", 10 * WATTS)


def test_a_full_disk_loses_nothing_of_a_run(station: Station, state: Path) -> None:
    """A run that begins, progresses and ends while no commit is possible is whole afterwards."""
    database = next(state.glob("*.db"))
    moved = database.with_suffix(".away")
    database.rename(moved)
    station.begin(project="nlp")
    station.tick(5)
    assert station.books.journal_error
    assert "run_energy" not in station.board.view.counters
    station.end()
    station.tick(5)
    moved.rename(database)
    station.tick()
    assert not station.books.journal_error
    (kept,) = History(state).attempts("sft")
    assert gpu_j(kept) == 5 * WATTS
    assert [record.run.run_id for record in station.closed] == ["sft"]


def test_no_account_grows_beyond_what_the_journal_holds(station: Station) -> None:
    """One that did would fail this commit and every later one, for everybody."""
    for _ in range(2):
        station.books.add("run_repeated_steps", ("sft",), 2**62)
        station.books.add("run_repeated_steps", ("sft",), 2**62)
        station.tick()
        assert not station.books.journal_error
    assert station.books.account("run_repeated_steps", ("sft",)) == 2**63 - 1


@pytest.mark.parametrize("failing_s", [0, 100])
def test_a_run_that_begins_again_while_its_old_series_cannot_be_deleted(
    station: Station, state: Path, failing_s: float
) -> None:
    """The disk was full when its five minutes ended: the new attempt's energy is counted all the same."""
    station.begin()
    station.tick(5)
    station.end()
    station.tick()
    database = next(state.glob("*.db"))
    database.rename(database.with_suffix(".away"))
    if failing_s:
        station.tick(failing_s)
    station.tick(300)
    assert station.begin().run.attempt == 1
    station.tick(2)
    station.tick(2)
    database.with_suffix(".away").rename(database)
    station.tick()
    station.tick()
    gone_on = 5 if failing_s else 0  # known to fail by then, the journal kept the old accounts
    assert station.counter("run_energy", "sft", "gpu", "exclusive") == (gone_on + 6) * WATTS * UJ_PER_J
    station.stop()
    again = Station(state, at_s=station.now_s)
    assert gpu_j(again.book.record(again.registry.live["sft"])) == 6 * WATTS


RUN_IDS = st.sampled_from(("a", "b", "c"))
BLIND = st.sampled_from(("", "", "card", "counter"))
STORY = st.lists(
    st.tuples(st.just("begin"), RUN_IDS, BLIND)
    | st.tuples(st.just("end"), RUN_IDS, BLIND)
    | st.tuples(st.just("fail"), RUN_IDS, BLIND)
    | st.tuples(st.just("steps"), st.tuples(RUN_IDS, st.integers(0, 9)), st.just(""))
    | st.tuples(st.just("busy"), st.sampled_from((0.0, 0.5)), st.just(""))
    | st.tuples(st.just("pass"), st.floats(0.01, 90), st.just(""))
    | st.tuples(st.just("look"), st.floats(0.01, 3), BLIND)
    | st.tuples(st.just("kill"), st.floats(0.1, 200), st.just("")),
    max_size=30,
)


@given(story=STORY)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_energy_is_conserved_and_nobody_has_any_outside_his_life(
    story: list[tuple[str, Any, Any]],
) -> None:
    """Arrivals, departures, sharing, silences of the card, kills and restarts, to the microjoule.

    And while somebody holds the card nothing of it is idle.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        station = Station(state)
        station.utilization_ratio = 0
        station.tick()
        first_s = station.now_s
        free_s = 0.0
        closed: list[RunRecord] = []
        for what, which, blind in (*story, ("pass", 0.5, ""), ("look", 1, "card")):
            began_s = station.now_s
            match what:
                case "begin":
                    station.begin(which)
                case "end" | "fail" if which in station.registry.live:
                    station.end(which, "success" if what == "end" else "failure")
                case "steps" if which[0] in station.registry.live:
                    station.registry.progress(which[0], None, Told(steps=which[1]))
                case "busy":
                    station.utilization_ratio = which
            free = not station.registry.live
            match what:
                case "begin" | "end" | "fail":
                    station.tick(
                        0.001, blind=blind
                    )  # as in the daemon: who begins or ends has the card looked at
                case "pass":
                    station.now_s += which
                case "look":
                    station.tick(which, blind=blind)
                case "kill":
                    station.stop()
                    closed += station.closed
                    station = Station(state, at_s=station.now_s + which)
                    station.utilization_ratio = 0
            free_s += station.now_s - began_s if free else 0
        for run_id in list(station.registry.live):
            station.end(run_id)
        station.tick(0.5, blind="card")
        station.tick(0.5)
        closed += station.closed
        used_uj = round((station.now_s - first_s) * WATTS * UJ_PER_J)
        totals = station.books.totals
        assert totals["gpu_energy", (UUID, "counter")] == pytest.approx(used_uj, abs=2)
        shares = [uj for (quantity, _), uj in totals.items() if quantity == "gpu_attributed_energy"]
        assert sum(shares) == totals["gpu_energy", (UUID, "counter")]
        owned = sum(uj for (quantity, _), uj in totals.items() if quantity == "owner_energy")
        assert 0 <= sum(uj for (of, _), uj in totals.items() if of == "owner_wasted_energy") <= owned
        cost = sum(amount for (quantity, _), amount in totals.items() if quantity == "owner_cost")
        wasted = sum(amount for (of, _), amount in totals.items() if of == "owner_wasted_cost")
        assert wasted <= cost + 1e-9
        idle_uj = totals["gpu_attributed_energy", (UUID, "idle")]
        assert idle_uj <= (free_s + 1) * WATTS * UJ_PER_J + len(story)
        of_runs = sum(uj for r in closed for (of, _), uj in r.totals.energy_uj.items() if of == "gpu")
        assert of_runs == totals["gpu_attributed_energy", (UUID, "run")]
        for record in closed:
            lived_s = ((record.ended_wall_ns or 0) - record.began_wall_ns) / NS_PER_S
            assert gpu_j(record) <= lived_s * WATTS + 1e-3
        station.stop()


@pytest.mark.slow
def test_a_thousand_runs_in_a_row_leave_no_growth_in_memory(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once what is bounded is full, their accounts, records and names come and go."""
    monkeypatch.setattr(registry, "MAX_REMEMBERED", 500)
    caplog.set_level("WARNING", "wattspan.journal")  # pytest keeps the line that each run's end leaves
    station = Station(state)

    def live_through(numbers: range) -> int:
        for number in numbers:
            run_id = f"run-{number:06d}"
            pod = PodRef("nlp", run_id, "main")
            station.begin(run_id, project="nlp", pod=pod, process=(number + 2, 1), total_steps=10)
            station.registry.progress(run_id, 0, Told(steps=0, samples=0))
            station.registry.progress(run_id, 0, Told(steps=10, samples=10))
            station.registry.begin_phase(run_id, 0, "epoch", 0, station.now)
            station.tick(20)
            station.end(run_id)
            station.tick(20)
        station.stretches.clear()
        station.closed.clear()
        gc.collect()
        return sys.getallocatedblocks()

    before = live_through(range(1100))  # the journal remembers 8,192 label texts, eight for each run
    grown = live_through(range(1100, 2100)) - before
    assert grown < 1000, f"{grown / 1000:.1f} blocks of memory for each run"
    assert len(station.books.runs) <= 9
    counters = station.board.view.counters
    assert sum(len(values) for quantity, values in counters.items() if quantity.startswith("pod_")) < 50


def test_shown_attempts_are_those_of_the_view(station: Station) -> None:
    """What a daemon found is named after half a minute, what was told at once."""
    station.begin("told")
    station.begin("found", source="slurm")
    station.tick()
    assert {run_id: now.named for run_id, now in station.shown.items()} == {"told": True, "found": False}
    station.tick(30)
    assert station.shown["found"].named
    assert station.shown["told"].trace_id == station.book.trace_id(station.registry.live["told"])
    assert replace(station.shown["told"].record.run, name="") == station.registry.live["told"].run
