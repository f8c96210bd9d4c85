"""How a run's grams came about, what it will come to, and the whole footprint, from ledger to journal."""

import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.journal.test_run_book import PUE, WATTS, Station
from tests.ledger.readings import UUID, WALL_OFFSET_NS, snapshot
from wattspan.carbon.embodied import Embodied
from wattspan.carbon.price import Prices
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.rates import Rates
from wattspan.journal.factors import MAX_FACTORS, fewer
from wattspan.journal.figures import Revision, revision
from wattspan.journal.history import History
from wattspan.ledger.ledger import Tick
from wattspan.model import GridState, Intensity, Outlook, Tariff
from wattspan.report.figures import figures_of
from wattspan.runs import NOBODY, Factor, RunRecord
from wattspan.units import NS_PER_S, UJ_PER_KWH
from wattspan.workloads.registry import Told

HALF_HOUR_S = 1800
MODEL = "Test 700W"
KWH_A_SECOND = WATTS / 3.6e6


def half_hours(first_s: int, *g_per_kwh: float) -> tuple[Intensity, ...]:
    """Figures from a moment of this machine's clock on."""
    begins = [WALL_OFFSET_NS + (first_s + n * HALF_HOUR_S) * NS_PER_S for n in range(len(g_per_kwh))]
    return tuple(
        Intensity(
            g,
            begin,
            begin + HALF_HOUR_S * NS_PER_S,
            "FR",
            "live",
            "average",
            "lifecycle",
            False,
            begin,
            "told",
        )
        for begin, g in zip(begins, g_per_kwh, strict=True)
    )


class Grid(Station):
    """A station whose figures are in the test's hands."""

    figures: tuple[Intensity, ...] = ()
    forecast: bool = True
    embodied: Embodied | None = None
    market_g_per_kwh: float | None = None
    wue_l_per_kwh: float | None = None
    tariffs: tuple[Tariff, ...] = (Tariff(0.2),)
    pue_configured: bool = True

    pue: float = PUE

    def take(self, tick: Tick) -> None:
        """Enter a tick under these figures."""
        pricing = Pricing(self.figures, self.pue)
        rates = Rates(
            pricing, Prices(self.tariffs, "EUR"), self.market_g_per_kwh, self.wue_l_per_kwh, self.embodied
        )
        now_ns = self.now.wall_ns
        ahead = tuple(f for f in self.figures if (f.valid_until_wall_ns or 0) > now_ns)
        outlook = Outlook(now_ns, ahead) if self.forecast and ahead else None
        grid = GridState(pricing.at(now_ns), 0, self.pue, self.pue_configured, outlook=outlook)
        self.books.take(tick, rates, grid)

    def lasts(self, seconds: int) -> None:
        """So much time passes, in looks of half a minute and what is left."""
        for _ in range(seconds // 30):
            self.tick(30)
        if seconds % 30:
            self.tick(seconds % 30)


def station_of(state: Path, *g_per_kwh: float, at_s: float = 1000) -> Grid:
    """A station that has looked once; its figures begin with the half hour of its clock's 0."""
    made = Grid(state, at_s=at_s)
    made.figures = half_hours(0, *g_per_kwh)
    made.tick()
    return made


def adds_up(record: RunRecord) -> None:
    """Each factor is energy times PUE times intensity, and together they are the record's totals."""
    priced_uj = sum(record.totals.energy_uj.values()) - record.totals.unpriced_uj
    assert sum(factor.energy_uj for factor in record.factors) == priced_uj
    assert math.fsum(f.co2e_g for f in record.factors) == pytest.approx(record.totals.co2e_g, rel=1e-9)
    for factor in record.factors:
        grams = factor.energy_uj / UJ_PER_KWH * factor.pue * factor.g_per_kwh
        assert grams == pytest.approx(factor.co2e_g, rel=1e-9)


def test_each_gram_keeps_the_figure_that_priced_it(state: Path) -> None:
    """One factor for each half hour, with its source and times, and the energy that flowed in it to the
    microjoule."""
    station = station_of(state, 100.0, 300.0, 200.0)
    station.begin()
    for _ in range(40):
        station.tick(60)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    adds_up(record)
    seconds = [1800 - 1001, 1800 - 199]  # from 1001 s on, 40 minutes
    seconds[1] = 40 * 60 - seconds[0]
    assert [factor.g_per_kwh for factor in record.factors] == [100.0, 300.0]
    assert [factor.energy_uj / 1e6 / WATTS for factor in record.factors] == seconds
    first = record.factors[0]
    assert (first.provider, first.grid_zone, first.signal, first.basis) == (
        "live",
        "FR",
        "average",
        "lifecycle",
    )
    assert (first.valid_from_wall_ns, first.fetched_wall_ns) == (WALL_OFFSET_NS, WALL_OFFSET_NS)
    exact_g = KWH_A_SECOND * PUE * (seconds[0] * 100 + seconds[1] * 300)
    assert record.totals.co2e_g == pytest.approx(exact_g, rel=1e-12)


def test_a_factor_reaches_no_further_than_its_figure(state: Path) -> None:
    """A look that straddles a change belongs to both half hours in part: neither of them is taken for revised
    when the same figures are told again."""
    station = station_of(state, 100.0, 300.0, 200.0)
    station.begin()
    for _ in range(40):
        station.tick(60)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    first, second = record.factors
    change_ns = WALL_OFFSET_NS + HALF_HOUR_S * NS_PER_S
    assert (first.ended_wall_ns, second.began_wall_ns) == (change_ns, change_ns)
    again = [replace(f, fetched_wall_ns=(f.fetched_wall_ns or 0) + NS_PER_S) for f in station.figures]
    assert revision(record, again) == Revision(pytest.approx(record.totals.co2e_g, rel=1e-12), 0, 0)


def test_the_mean_of_the_day_would_be_wrong(state: Path) -> None:
    """Load and grid change together: energy times mean intensity is off by tens of percent, the factors are
    not."""
    station = station_of(state, *[100.0, 500.0] * 4, at_s=0)
    station.begin()
    exact_g = used_j = 0.0
    for minute in range(8 * 30 - 1):
        dirty = (minute // 30) % 2
        station.watts = 600 if dirty else 100  # trains when the grid is dirty
        station.tick(60)
        used_j += 60 * station.watts
        # The first minute began a second late, and so every one straddles a change by a second.
        for second in range(minute * 60 + 1, (minute + 1) * 60 + 1):
            exact_g += station.watts / 3.6e6 * PUE * (500.0 if second // HALF_HOUR_S % 2 else 100.0)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    adds_up(record)
    gpu_g = station.counter("gpu_co2e", UUID, "lifecycle")
    assert gpu_g is not None
    assert record.totals.co2e_g == pytest.approx(exact_g, rel=1e-3)
    shortcut_g = used_j / 3.6e6 * PUE * 300.0
    assert shortcut_g < 0.75 * exact_g


def test_a_figure_that_is_fetched_again_is_the_same(state: Path) -> None:
    """Only what it says makes a new factor; a revision does, and the grams already counted stay."""
    station = station_of(state, 100.0)
    station.begin()
    station.tick(10)
    station.figures = tuple(replace(f, fetched_wall_ns=(f.fetched_wall_ns or 0) + 5) for f in station.figures)
    station.tick(10)
    before = station.counter("run_co2e", "sft", "operational", "lifecycle")
    station.figures = tuple(replace(f, g_per_kwh=50.0) for f in station.figures)
    station.tick(10)
    after = station.counter("run_co2e", "sft", "operational", "lifecycle")
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    adds_up(record)
    assert [(f.g_per_kwh, f.energy_uj) for f in record.factors] == [
        (100.0, 20 * WATTS * 10**6), (50.0, 10 * WATTS * 10**6),
    ]  # fmt: skip
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(10 * KWH_A_SECOND * PUE * 50.0)


def test_energy_without_a_figure_is_unpriced_and_in_no_factor(state: Path) -> None:
    """Grams and factors are those of the rest."""
    station = station_of(state, 100.0)
    station.begin()
    station.lasts(1799)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    adds_up(record)
    assert record.totals.unpriced_uj == 1000 * WATTS * 10**6
    assert station.counter("gpu_co2e", UUID, "lifecycle") == pytest.approx(
        (1800 - 1001) * KWH_A_SECOND * PUE * 100.0
    )


def test_pue_and_prices_count_for_their_own_time(state: Path) -> None:
    """A PUE that was changed is applied from then on; energy without a price is known to have none."""
    station = station_of(state, 100.0, 100.0)
    station.begin()
    station.lasts(100)
    station.pue, station.tariffs = 2.0, ()
    station.lasts(50)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    used = figures_of(record, 0)
    assert record.totals.facility_uj == pytest.approx((100 * PUE + 50 * 2.0) * WATTS * 10**6)
    assert used.facility_energy_kwh == pytest.approx((100 * PUE + 50 * 2.0) * KWH_A_SECOND)
    assert used.mean_intensity_grams_per_kwh == pytest.approx(100.0)
    assert record.totals.uncosted_uj == 50 * WATTS * 10**6
    assert used.cost == pytest.approx(100 * KWH_A_SECOND * PUE * 0.2)


def test_a_kill_costs_no_factor_its_sum(state: Path) -> None:
    """What was used since the row was last stored is told apart, so that the audit adds up all the same."""
    station = station_of(state, 100.0, 300.0)
    station.begin()
    for _ in range(25):
        station.tick(1)
    station.stop()
    again = Grid(state, at_s=1030)
    again.figures = station.figures
    again.tick(0)
    again.tick(1)
    again.end()
    again.tick(1)
    (record,) = History(state).attempts("sft")
    adds_up(record)
    assert record.factors[0].provider == "live"
    assert sum(not factor.provider for factor in record.factors) <= 1


def test_a_clean_stop_keeps_every_figure(state: Path) -> None:
    """An upgrade in mid-run leaves no energy whose figure nobody can name."""
    station = station_of(state, 100.0, 300.0)
    station.begin()
    for _ in range(25):
        station.tick(1)
    station.keeper.ending()
    station.tick(1)
    station.stop(clean=True)
    again = Grid(state, at_s=1040)
    again.figures = station.figures
    again.tick(0)
    again.tick(1)
    again.end()
    again.tick(1)
    (record,) = History(state).attempts("sft")
    adds_up(record)
    assert {factor.provider for factor in record.factors} == {"live"}


@given(
    st.lists(
        st.tuples(st.integers(1, 10**9), st.floats(0, 2000), st.sampled_from(["a", "b"]), st.booleans()),
        min_size=1, max_size=60,
    )
)  # fmt: skip
def test_putting_neighbours_together_changes_no_sum(drawn: list[tuple[int, float, str, bool]]) -> None:
    """Energy is kept exactly, grams to rounding, and different sources are never mixed."""
    factors = [
        Factor(
            n, n + 1, energy, energy / UJ_PER_KWH * PUE * g, g, PUE, provider=provider, estimated=estimated
        )
        for n, (energy, g, provider, estimated) in enumerate(drawn)
    ]
    together = fewer(factors)
    assert sum(f.energy_uj for f in together) == sum(f.energy_uj for f in factors)
    assert math.fsum(f.co2e_g for f in together) == pytest.approx(math.fsum(f.co2e_g for f in factors))
    assert sum(f.figures for f in together) == len(factors)
    kinds = len({(f.provider, f.estimated) for f in factors})
    assert len(together) <= (len(factors) + kinds) / 2
    for provider in ("a", "b"):
        assert sum(f.energy_uj for f in together if f.provider == provider) == sum(
            f.energy_uj for f in factors if f.provider == provider
        )
    for f in together:
        assert f.co2e_g == pytest.approx(f.energy_uj / UJ_PER_KWH * f.pue * f.g_per_kwh, rel=1e-9, abs=1e-300)


def test_a_long_run_keeps_a_bounded_number_of_factors(state: Path) -> None:
    """Half hours by the thousand are put together, and still add up."""
    station = station_of(state, *(100.0 + n % 7 for n in range(1400)))
    station.begin()
    for _ in range(1300):
        station.tick(HALF_HOUR_S)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    adds_up(record)
    assert MAX_FACTORS / 2 <= len(record.factors) <= MAX_FACTORS
    assert sum(factor.figures for factor in record.factors) >= 1300


def test_a_projection_follows_the_forecast(state: Path) -> None:
    """What is left is priced by the hours ahead, not by the hour that is over."""
    station = station_of(state, 100.0, 400.0, 400.0, 400.0, at_s=0)
    station.begin(total_steps=100, nodes_expected=1)
    station.registry.progress("sft", 0, Told(steps=0))
    for _ in range(30):
        station.tick(59.9)
    station.registry.progress("sft", 0, Told(steps=25))
    station.tick(1)
    now = station.shown["sft"]
    elapsed_s = 30 * 59.9 + 1
    assert now.projected_co2e_g == pytest.approx(
        KWH_A_SECOND * PUE * elapsed_s * (100.0 + 3 * 400.0), rel=2e-3
    )
    assert now.projected_cost == pytest.approx(4 * elapsed_s * KWH_A_SECOND * PUE * 0.2, rel=1e-3)
    assert now.projected_end_wall_ns == pytest.approx(
        station.now.wall_ns + 3 * elapsed_s * NS_PER_S, abs=5 * NS_PER_S
    )
    station.end()
    station.tick()
    now = station.shown["sft"]
    assert now.projected_co2e_g == now.record.totals.co2e_g, "what has ended will come to what it is"


def test_the_greenest_stretch_of_its_length(state: Path) -> None:
    """A run at 400 g that could have had 100 g an hour later would have emitted a quarter."""
    station = station_of(state, 400.0, 400.0, 100.0, 100.0, at_s=0)
    station.begin(nodes_expected=1)
    for _ in range(20):
        station.tick(60)
    now = station.shown["sft"]
    assert now.greenest_co2e_g == pytest.approx(now.record.totals.co2e_g / 4, rel=1e-6)
    station.forecast = False
    station.tick(60)
    assert station.shown["sft"].greenest_co2e_g is None


def test_a_budget_is_the_runs_over_all_its_attempts(state: Path) -> None:
    """A second attempt begins with what the first has used of it."""
    station = station_of(state, *[100.0] * 9)
    station.begin(budget_co2e_g=50.0, nodes_expected=1)
    station.lasts(600)
    station.end(result="failure")
    station.tick()
    used_g = station.shown["sft"].budget_used_g
    assert used_g == pytest.approx(600 * KWH_A_SECOND * PUE * 100.0)
    station.begin(budget_co2e_g=50.0, nodes_expected=1)
    station.lasts(600)
    now = station.shown["sft"]
    assert now.record.run.attempt == 1
    assert now.budget_used_g == pytest.approx(2 * used_g, rel=1e-3)
    assert now.record.totals.co2e_g == pytest.approx(used_g, rel=1e-3), "reports are per attempt"


@pytest.mark.parametrize("killed", [False, True])
def test_a_budget_does_not_begin_anew_after_a_pause(state: Path, *, killed: bool) -> None:
    """An attempt that comes an hour later, when the run's accounts are long gone, finds its budget used."""
    station = station_of(state, *[100.0] * 9)
    station.begin(budget_co2e_g=50.0, nodes_expected=1)
    station.lasts(600)
    station.end(result="failure")
    station.tick()
    used_g = station.shown["sft"].budget_used_g
    station.lasts(3600)
    assert not station.shown
    station.begin(budget_co2e_g=50.0, nodes_expected=1)
    station.lasts(300)
    if killed:
        station.stop()
        again = Grid(state, at_s=station.now_s + 1)
        again.figures = station.figures
        station = again
    station.lasts(300)
    now = station.shown["sft"]
    assert now.record.run.attempt == 1
    assert now.budget_used_g == pytest.approx(2 * used_g, rel=1e-2)
    station.end()
    station.tick()
    assert station.shown["sft"].budget_used_g == pytest.approx(2 * used_g, rel=1e-2)
    (first, second) = History(state).attempts("sft")
    assert station.shown["sft"].budget_used_g == first.totals.co2e_g + second.totals.co2e_g
    assert (first.earlier_co2e_g, second.earlier_co2e_g) == (0.0, first.totals.co2e_g)
    assert figures_of(second, 0).budget_used_ratio == station.shown["sft"].budget_used_g / 50.0


@pytest.mark.parametrize(
    ("embodied", "without"),
    [
        (None, ("host", MODEL)),
        (Embodied({MODEL: 164_000.0}, None, 1), ("host",)),
        (Embodied({"H200": 164_000.0}, 1e6, 1), (MODEL,)),
        (Embodied({MODEL: 164_000.0}, 0.0, 1), ()),
    ],
)
def test_a_record_says_what_its_embodied_grams_leave_out(
    state: Path, embodied: Embodied | None, without: tuple[str, ...]
) -> None:
    """The host where no figure of it is set, and each GPU that no figure is known of."""
    station = station_of(state, 100.0)
    station.embodied = embodied
    station.begin()
    station.lasts(60)
    assert station.shown["sft"].record.embodied_without == without


def test_a_tick_without_a_card_leaves_nothing_out(state: Path) -> None:
    """While no card is seen, as after a start with a hung driver, there is no embodied figure to be had."""
    station = Grid(state, at_s=1000)
    station.figures = half_hours(0, 100.0)
    station.begin()
    station.now_s += 1
    station.take(station.ledger.apply(snapshot(0, at_s=station.now_s), NOBODY))
    station.embodied = Embodied({MODEL: 164_000.0}, 0.0, 1)
    station.lasts(60)
    assert station.shown["sft"].record.embodied_without == ()


def test_what_held_a_while_is_missing_for_good(state: Path) -> None:
    """A PUE or a host that is set in mid-run was not in the grams before, under another daemon neither."""
    station = station_of(state, *[100.0] * 9)
    station.begin()
    assert station.book.record(station.registry.live["sft"]).pue_configured is None, "nobody has looked"
    station.pue_configured = False
    station.lasts(60)
    station.stop()
    again = Grid(state, at_s=station.now_s + 1)
    again.figures, again.embodied = station.figures, Embodied({MODEL: 1.0}, 1.0, 1)
    again.lasts(60)
    record = again.shown["sft"].record
    assert (record.pue_configured, record.embodied_without) == (False, ("host", MODEL))
    again.pue_configured = True
    again.begin("next")
    again.lasts(60)
    record = again.shown["next"].record
    assert (record.pue_configured, record.embodied_without) == (True, ())


def test_a_run_of_an_older_program_does_not_know_its_terms(state: Path) -> None:
    """What its row does not say stays unknown, however things are now; what is missing now is missing."""
    station = station_of(state, *[100.0] * 9)
    station.begin()
    station.lasts(60)
    station.stop()
    db = sqlite3.connect(state / "journal.db")
    (text,) = db.execute("SELECT record FROM run").fetchone()
    members = json.loads(text)
    for name in ("pue_configured", "embodied_without", "earlier_co2e_g"):
        del members[name]
    db.execute("UPDATE run SET record = ?", (json.dumps(members),))
    db.commit()
    db.close()
    again = Grid(state, at_s=station.now_s + 1)
    again.figures = station.figures
    again.lasts(60)
    record = again.shown["sft"].record
    assert (record.pue_configured, record.embodied_without) == (None, None)
    again.pue_configured = False
    again.lasts(60)
    assert again.shown["sft"].record.pue_configured is False


def test_the_whole_footprint(state: Path) -> None:
    """Embodied by the time that the card was held, market-based and water beside it, each under its own
    name."""
    station = station_of(state, *[100.0] * 9)
    station.embodied = Embodied({"Test 700W": 164_000.0}, 800_000.0, 4 * 365 * 86_400 * NS_PER_S)
    station.market_g_per_kwh, station.wue_l_per_kwh = 20.0, 0.5
    station.begin(project="nlp")
    station.lasts(3600)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    embodied_g = 964_000 / (4 * 365 * 24)
    assert record.totals.embodied_g == pytest.approx(embodied_g)
    assert record.totals.market_g == pytest.approx(3600 * KWH_A_SECOND * PUE * 20.0)
    assert record.totals.water_l == pytest.approx(3600 * KWH_A_SECOND * 0.5)
    assert record.totals.co2e_g == pytest.approx(3600 * KWH_A_SECOND * PUE * 100.0), "operational alone"
    assert station.counter("owner_co2e", "", "nlp", "embodied", "lifecycle") == pytest.approx(embodied_g)
    assert station.counter("owner_market_co2e", "", "nlp") == pytest.approx(record.totals.market_g)
    assert station.counter("owner_water", "", "nlp") == pytest.approx(record.totals.water_l)


def test_what_nobody_has_set_is_not_zero(state: Path) -> None:
    """Without a model's figure, a contract or a WUE there are no such grams and litres at all."""
    station = station_of(state, 100.0)
    station.embodied = Embodied({"another card": 164_000.0}, 800_000.0, NS_PER_S)
    station.begin()
    station.tick(10)
    station.end()
    station.tick()
    (record,) = History(state).attempts("sft")
    assert (record.totals.embodied_g, record.totals.market_g, record.totals.water_l) == (None, None, None)
    assert station.counter("run_co2e", "sft", "embodied", "lifecycle") is None


def test_cost_follows_the_tariff_of_the_moment(state: Path) -> None:
    """By time of use; a price below 0 takes nothing from a counter."""
    wall_ns = WALL_OFFSET_NS + 1011 * NS_PER_S
    station = station_of(state, *[100.0] * 3)
    station.tariffs = (
        Tariff(0.4, None, wall_ns), Tariff(-0.1, wall_ns, wall_ns + 10 * NS_PER_S),
        Tariff(0.1, wall_ns + 10 * NS_PER_S, None),
    )  # fmt: skip
    station.begin()
    station.tick(30)
    cost = station.counter("run_cost", "sft", "EUR")
    station.tick(0)
    station.end()
    station.tick()
    assert cost in (0, None)  # held until a scrape has seen it
    (record,) = History(state).attempts("sft")
    assert record.totals.cost == pytest.approx(KWH_A_SECOND * PUE * (10 * 0.4 + 10 * 0.1))
