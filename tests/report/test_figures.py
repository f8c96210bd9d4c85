"""Figures: derived from the record alone, and missing with a reason rather than guessed."""

import math
from dataclasses import fields, replace
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.samples import BEGAN_WALL_NS, GPUS, HOUR_NS, ONE_GPU, bare, reported, simple, training
from wattspan.carbon.configured import ConfiguredProvider
from wattspan.carbon.countries import ATTRIBUTION
from wattspan.carbon.providers import NAMES
from wattspan.carbon.static import StaticProvider
from wattspan.ledger.certainty import GAIN_RATIO, gpu_energy_ratio
from wattspan.report import quantities
from wattspan.report.attributions import ATTRIBUTIONS
from wattspan.report.figures import NO_BUDGET, Figures, Missing, figures_of, gpu_parts_of, parts_of
from wattspan.report.rows import GROUPS
from wattspan.report.statements import RULES
from wattspan.runs import Progress, Run, RunRecord, RunTotals
from wattspan.units import NS_PER_S


def figures(record: RunRecord, now_wall_ns: int = BEGAN_WALL_NS) -> Figures:
    """Of a record, at some moment."""
    return figures_of(record, now_wall_ns)


def reason(number: float | Missing) -> str:
    """Why there is no number."""
    assert isinstance(number, Missing)
    return number.reason


def test_figures_of_a_simple_run() -> None:
    """1 kWh in two hours on one GPU at 400 g/kWh, by hand."""
    found = figures(simple(pue=1.5, totals=replace(simple().totals, co2e_g=600.0, cost=0.25)))
    assert found.duration_seconds == 7200
    assert (found.energy_joules, found.energy_kwh, found.facility_energy_kwh) == (3_600_000, 1, 1.5)
    assert (found.co2e_grams, found.mean_intensity_grams_per_kwh, found.cost) == (600, 400, 0.25)
    assert (found.mean_power_watts, found.mean_gpu_power_watts) == (500, 500)
    assert (found.gpu_count, found.gpu_seconds, found.idle_gpu_seconds) == (1, 7200, 1800)
    assert (found.idle_ratio, found.gpu_utilization_ratio) == (0.25, 0.5)
    assert (found.joules_per_step, found.joules_per_sample, found.joules_per_token) == (3600, 900, 0.45)


def said(record: RunRecord) -> dict[str, str]:
    """What its report says of its figures, by topic."""
    return {statement.topic: statement.text for statement in reported(record).statements}


def test_nothing_known_is_nothing_told() -> None:
    """A run without energy has no zero joules, grams, watts or rates: each has its reason."""
    found = figures(bare())
    numbers = {field.name: getattr(found, field.name) for field in fields(found)}
    known = {name for name, number in numbers.items() if not isinstance(number, Missing)}
    assert known == {
        *("duration_seconds", "gpu_count", "gpu_seconds", "idle_gpu_seconds", "repeated_steps"),
        *("unpriced_energy_joules", "uncosted_energy_joules"),
    }
    assert all(number.reason for number in numbers.values() if isinstance(number, Missing))


def test_cost_of_nothing_measured_is_not_zero() -> None:
    """Where a price is set and no energy was measured, the cost is not known."""
    assert reason(figures(replace(bare(), totals=RunTotals(cost=0.0))).cost).startswith("no energy")
    assert reason(figures(bare()).cost).startswith("no electricity price")


def test_energy_without_intensity_has_no_grams() -> None:
    """Where all of it is unpriced there are no grams; where a part is, the intensity is that of the rest."""
    totals = simple().totals
    all_of_it = figures(simple(totals=replace(totals, co2e_g=0.0, unpriced_uj=3_600_000_000_000)))
    assert reason(all_of_it.co2e_grams) == reason(all_of_it.mean_intensity_grams_per_kwh)
    assert "no carbon intensity was known" in reason(all_of_it.co2e_grams)
    half = figures(simple(totals=replace(totals, co2e_g=200.0, unpriced_uj=1_800_000_000_000)))
    assert (half.co2e_grams, half.mean_intensity_grams_per_kwh) == (200, 400)
    assert half.unpriced_energy_joules == 1_800_000


def test_energy_without_a_price_has_no_cost() -> None:
    """Where no price was known at all the cost is not 0; where one was for a part, the rest is told."""
    totals = simple().totals
    all_of_it = figures(simple(totals=replace(totals, cost=0.0, uncosted_uj=3_600_000_000_000)))
    assert reason(all_of_it.cost) == "no electricity price was known while it ran"
    half = simple(totals=replace(totals, cost=0.125, uncosted_uj=1_800_000_000_000))
    assert (figures(half).cost, figures(half).uncosted_energy_joules) == (0.125, 1_800_000)
    assert said(half)["energy without a price"] == "500 Wh without a known price are in no cost."
    free = figures(simple(totals=replace(totals, cost=0.0)))
    assert free.cost == 0


def test_costs_of_two_currencies_are_never_one_sum() -> None:
    """What was counted in another currency stands beside the cost, or says why there is none."""
    totals = simple().totals
    both = simple(totals=replace(totals, cost=0.25, other_costs={"JPY": 450.0}))
    assert figures(both).cost == 0.25
    before = simple(totals=replace(totals, cost=0.0, other_costs={"JPY": 450.0}))
    assert reason(figures(before).cost) == "its price was in JPY, and nothing is converted"
    for record in (both, before):
        assert said(record)["other currency"].startswith("450.00 JPY are in no cost")


def test_a_pue_that_was_changed_counts_for_its_own_time() -> None:
    """The facility drew each joule times the PUE of its time, and the grid's mean is found by that."""
    totals = replace(simple().totals, facility_uj=1.2 * 3.6e12, co2e_g=480.0)
    changed = simple(pue=1.5, totals=totals)
    found = figures(changed)
    assert found.facility_energy_kwh == pytest.approx(1.2)
    assert found.mean_intensity_grams_per_kwh == pytest.approx(400)
    assert said(changed)["PUE"].startswith("It was changed while it ran, to 1.5: each joule has that")
    for facility_uj in (1.5 * 3.6e12, None, 0.5 * 3.6e12):  # the same all the time; not kept; not of all
        kept = simple(pue=1.5, totals=replace(totals, facility_uj=facility_uj))
        assert said(kept)["PUE"].startswith("1.5: applied once")


def test_duration_of_a_run_that_goes_on() -> None:
    """It counts to now, and never below nothing when the clock was set back."""
    record = simple(ended_wall_ns=None, result=None)
    assert figures(record, BEGAN_WALL_NS + HOUR_NS).mean_power_watts == 1000
    early = figures(record, BEGAN_WALL_NS - HOUR_NS)
    assert early.duration_seconds == 0
    assert reason(early.mean_power_watts) == "it began just now"


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (Run("sft", nodes_expected=4), "that of all 4 nodes"),
        (Run("sft", nodes_expected=None), "all its nodes, however many"),
        (Run("sft", nodes_expected=1, rank_zero=False), "told on the node of rank 0 alone"),
        (Run("sft", nodes_expected=1, attempt=2), "where this one began was not kept"),
    ],
)
def test_rates_only_where_the_denominator_is_known(run: Run, said: str) -> None:
    """One node's energy is not divided by the steps of all nodes, nor one attempt's by those of all."""
    assert said in reason(figures(simple(run=run)).joules_per_step)


def test_rates_of_a_later_attempt_count_its_own_steps() -> None:
    """Steps that attempts before have made are not divided by."""
    before = Progress(steps=900, samples=3600, tokens=7_200_000, repeated_steps=3)
    record = simple(run=Run("sft", 1, nodes_expected=1), progress_before=before)
    found = figures(record)
    assert (found.steps, found.samples, found.tokens) == (100, 400, 800_000)
    assert (found.joules_per_step, found.joules_per_token) == (36_000, 4.5)


def test_run_that_told_no_steps_has_no_rates() -> None:
    """Nothing is divided by nothing."""
    found = figures(simple(progress=Progress(loss=math.nan)))
    assert reason(found.joules_per_step) == "the run told none"
    assert reason(found.loss) == "the last one told was nan"


def test_progress_and_budget() -> None:
    """Shares of what was planned and allowed; more steps than planned are all of them."""
    record = simple(
        run=Run("sft", nodes_expected=1, budget_co2e_g=1600.0),
        progress=Progress(steps=1200, total_steps=1000),
    )
    assert (figures(record).progress_ratio, figures(record).budget_used_ratio) == (1, 0.25)


def test_a_budget_is_held_against_all_attempts() -> None:
    """As in the gauge: what earlier attempts emitted is used too, and unknown where that was not kept."""
    third = simple(run=Run("sft", 2, nodes_expected=1, budget_co2e_g=1000.0))
    assert figures(replace(third, earlier_co2e_g=800.0)).budget_used_ratio == 1.2
    assert "earlier attempts emitted was not kept" in reason(figures(third).budget_used_ratio)
    assert figures(simple(run=Run("sft", 2, nodes_expected=1))).budget_used_ratio == NO_BUDGET


@given(st.dictionaries(st.sampled_from([*GPUS]), st.integers(0, 10**15), min_size=1))
def test_parts_add_up(energy_uj: dict[str, int]) -> None:
    """The parts of the energy are all of it, and every GPU that was held has one."""
    totals = RunTotals(
        energy_uj={("gpu", "exclusive"): sum(energy_uj.values()), ("cpu", "cpu_time"): 5},
        gpu_energy_uj=energy_uj,
    )
    record = simple(totals=totals, gpus=GPUS)
    assert math.isclose(sum(part.ratio for part in parts_of(totals)), 1)
    energy_j = figures(record).energy_joules
    assert math.isclose(sum(part.energy_joules for part in parts_of(totals)), float(energy_j))  # type: ignore[arg-type]
    gpus = gpu_parts_of(record)
    assert {gpu.uuid for gpu in gpus} == set(GPUS)
    assert math.isclose(sum(gpu.energy_joules for gpu in gpus), sum(energy_uj.values()) / 1e6)


def test_gpu_that_was_held_by_nobody_known_is_listed() -> None:
    """A GPU with energy but without a model is told too, and one without energy."""
    record = simple(gpus=dict(list(GPUS.items())[1:2]))
    assert [(gpu.model != "", gpu.ratio) for gpu in gpu_parts_of(record)] == [(True, 0.0), (False, 1.0)]
    assert [gpu.uuid for gpu in gpu_parts_of(record)][1] in ONE_GPU


def test_uncertainty_shrinks_to_the_gain_of_the_sensors() -> None:
    """A long run is as sure as its sensors, a short one less, and none is surer than they are."""
    ratios = [gpu_energy_ratio(seconds * NS_PER_S) for seconds in (0, 1, 10, 60, 3600)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[1] > 1
    assert math.isclose(ratios[-1], GAIN_RATIO, rel_tol=0.001)
    assert min(ratios) > GAIN_RATIO


def test_every_figure_has_a_line() -> None:
    """Each figure is shown to people, once; kilowatt-hours repeat the joules."""
    shown = [name for group in GROUPS.values() for name in group]
    assert sorted(shown) == sorted({field.name for field in fields(Figures)} - {"energy_kwh"})


def test_every_rule_is_explained() -> None:
    """Whatever rule made a run's part, the report says what that means."""
    for attribution in RULES:
        totals = replace(simple().totals, energy_uj={("gpu", attribution): 5})
        topics = [statement.topic for statement in reported(simple(totals=totals)).statements]
        assert f"rule {attribution}" in topics


def test_what_is_uncertain_is_said() -> None:
    """Sensor gain, estimated intensity, basis, PUE, other nodes, a silent end: each has its sentence."""
    record = simple(
        run=Run("sft", nodes_expected=4, rank_zero=False),
        result="lost",
        basis="direct",
        pue=1.3,
        totals=replace(simple().totals, unpriced_uj=3_600_000_000),
    )
    told = said(record)
    assert "±5 %" in told["GPU energy"]
    assert "yearly mean" in told["carbon intensity"]
    assert "Direct emissions" in told["basis"]
    assert told["PUE"].startswith("1.3: applied once")
    assert told["unpriced energy"].startswith("1.00 Wh")
    words = " ".join(reported(record).omissions)
    assert "the run has 4 nodes" in words
    assert "Rank 0 is not on this node" in words
    assert "without saying how it ended" in words


def test_licence_of_the_figures_is_kept() -> None:
    """The words that each licence asks for stand where its figures are used, and only there."""
    assert "CC BY 4.0" in reported(simple()).sources[0]
    assert "set by the operator" in reported(simple(providers=("configured",))).sources[0]
    assert reported(simple(providers=("other",))).sources == ("Carbon intensity: other.",)
    live, static = reported(training()).sources
    assert "National Energy System Operator" in live
    assert "Ember" in static
    unnamed = simple(providers=(), factors=training().factors)
    assert reported(unnamed).sources == (live, static), "whoever priced it is named"


def test_every_provider_has_its_attribution() -> None:
    """The table of attributions is what the providers' modules say, and has nobody else."""
    said = {StaticProvider.name: ATTRIBUTION, ConfiguredProvider.name: ATTRIBUTIONS["configured"]}
    for name in NAMES:
        module = import_module(f"wattspan.carbon.providers.{name}")
        classes = [kind for kind in vars(module).values() if getattr(kind, "name", None) == name]
        assert classes, f"{name} has no class of that name"
        said |= {name: classes[0].attribution} if classes[0].attribution else {}
    assert said == ATTRIBUTIONS


def test_figures_passed_on_name_where_they_are_from() -> None:
    """A provider without words of its own is named with the origins that its figures had."""
    factors = [replace(training().factors[0], provider="peer", origin=f"table {n}") for n in (1, 1, 2, 3, 4)]
    two = simple(providers=("peer",), factors=tuple(factors[:3]))
    assert reported(two).sources == ("Carbon intensity: peer: table 1; table 2",)
    many = simple(providers=("peer",), factors=tuple(factors))
    assert reported(many).sources == ("Carbon intensity: peer: table 1; table 2; table 3 and more",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quantities.energy(0), "0 J"),
        (quantities.energy(512), "512 J"),
        (quantities.energy(3600), "1.00 Wh"),
        (quantities.energy(3_599_999), "1.00 kWh"),
        (quantities.energy(9e12), "2.50 GWh"),
        (quantities.mass(0.0123), "0.0123 g"),
        (quantities.mass(999.6), "1.00 kg"),
        (quantities.mass(4_560_000), "4.56 t"),
        (quantities.power(5120), "5.12 kW"),
        (quantities.duration(12.34), "12.3 s"),
        (quantities.duration(245), "4 min 05 s"),
        (quantities.duration(97_380), "27 h 03 min"),
        (quantities.duration(356_400), "4 d 03 h"),
        (quantities.gpu_time(1800), "30 min 00 s"),
        (quantities.gpu_time(172_800), "48.0 GPU-hours"),
        (quantities.percent(0.05), "5 %"),
        (quantities.percent(0.1234), "12.3 %"),
        (quantities.percent(0.000213), "0.021 %"),
        (quantities.money(1234.5, "EUR"), "1,234.50 EUR"),
        (quantities.money(0.0123, ""), "0.0123"),
        (quantities.figure(1e-9), "0.00000000100"),
        (quantities.figure(1234.5), "1,234"),
        (quantities.moment(BEGAN_WALL_NS), "2026-10-01 12:00:00 UTC"),
        (quantities.rfc3339(BEGAN_WALL_NS + 1_500), "2026-10-01T12:00:00.000001Z"),
    ],
)
def test_quantities_as_people_read_them(text: str, expected: str) -> None:
    """Three digits that count, in the unit that fits, never with an exponent."""
    assert text == expected


def test_training_is_told_whole() -> None:
    """The sample that the pages are made of has every figure."""
    found = figures(training())
    assert [name for name in Figures.__slots__ if isinstance(getattr(found, name), Missing)] == []


def test_the_rest_of_the_footprint_is_missing_rather_than_zero() -> None:
    """Embodied, market-based and water are what is known of them, 0 too, else missing with their settings."""
    found = figures(simple(totals=replace(simple().totals, embodied_g=12.5, market_g=0.0, water_l=0.2)))
    assert (found.embodied_co2e_grams, found.market_co2e_grams, found.water_liters) == (12.5, 0.0, 0.2)
    assert found.co2e_grams == 400.0
    found = figures(simple())
    assert "embodied.gpu-kg" in reason(found.embodied_co2e_grams)
    assert "grid.market-intensity" in reason(found.market_co2e_grams)
    assert "grid.wue" in reason(found.water_liters)
    nothing = figures(replace(bare(), totals=RunTotals(market_g=0.0, water_l=0.0)))
    assert reason(nothing.market_co2e_grams).startswith("no energy")
    assert reason(nothing.water_liters).startswith("no energy")
