"""Ranges: what a total's uncertainty is made of, by hand."""

import math
from dataclasses import fields, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.samples import BEGAN_WALL_NS, GPUS, HOUR_NS, bare, reported, simple, training
from wattspan.carbon.countries import WORLD, countries
from wattspan.ledger import certainty
from wattspan.report import ranges
from wattspan.report.figures import Figures, Missing, figures_of
from wattspan.report.ranges import Range, Ranges, ranges_of, uncertainty_of
from wattspan.runs import Attribution, Calibration, Factor, RunRecord, RunTotals

KWH = 3_600_000_000_000
(GPU,) = list(GPUS)[:1]
EDGES = 1.1 / 7200


def found(record: RunRecord) -> Ranges:
    """The ranges of a record."""
    figures = figures_of(record, BEGAN_WALL_NS)
    return ranges_of(figures, uncertainty_of(record, figures))


def edges(between: Range | Missing) -> tuple[float, float]:
    """A range that is there."""
    assert isinstance(between, Range)
    return between.low, between.high


def factor(g_per_kwh: float, energy_uj: int, **changes: object) -> Factor:
    """Energy priced by a measured half hour."""
    measured = Factor(
        began_wall_ns=BEGAN_WALL_NS,
        ended_wall_ns=BEGAN_WALL_NS + HOUR_NS,
        energy_uj=energy_uj,
        co2e_g=energy_uj / KWH * g_per_kwh,
        g_per_kwh=g_per_kwh,
        pue=1.0,
        grid_zone="GB",
        provider="carbonintensity",
        signal="average",
        basis="direct",
        estimated=False,
        valid_from_wall_ns=BEGAN_WALL_NS,
        valid_until_wall_ns=BEGAN_WALL_NS + HOUR_NS,
    )
    return replace(measured, **changes)  # type: ignore[arg-type]


def test_gpu_of_its_own_has_gain_and_edges() -> None:
    """A GPU held alone is off by the gain of its sensor and the edges of the run, in squares."""
    width = math.hypot(0.05, EDGES)
    assert edges(found(simple()).energy_joules) == pytest.approx(
        (3_600_000 * (1 - width), 3_600_000 * (1 + width))
    )


def test_calibration_moves_the_range_and_narrows_it() -> None:
    """The truth is expected at the count times the gain, within its uncertainty; the count stays."""
    record = simple(calibrations={GPU: Calibration(1.04, 0.01, "LMG671")})
    width = math.hypot(1.04 * 0.01, EDGES)
    assert edges(found(record).energy_joules) == pytest.approx(
        (3_600_000 * (1.04 - width), 3_600_000 * (1.04 + width))
    )
    assert figures_of(record, BEGAN_WALL_NS).energy_joules == 3_600_000
    assert figures_of(record, BEGAN_WALL_NS).gpu_energy_uncertainty_ratio == pytest.approx(0.04 + width)


def test_calibrations_count_by_the_energy_of_their_gpu() -> None:
    """Of two GPUs the one with three quarters of the energy has three quarters of the say."""
    first, second = list(GPUS)[:2]
    shift, gain = certainty.gpu_gain({first: 3 * KWH, second: KWH}, {first: Calibration(1.1, 0.02, "x")})
    assert shift == pytest.approx(0.75 * 0.1)
    assert gain == pytest.approx(0.75 * 1.1 * 0.02 + 0.25 * 0.05)
    assert certainty.gpu_gain({}, {}) == (0.0, certainty.GAIN_RATIO)


def test_calibration_of_a_gpu_touches_no_cpu() -> None:
    """Half of the energy is the CPU's: the shift is half, and the CPU keeps its own gain."""
    totals = replace(
        simple().totals, energy_uj={("gpu", "exclusive"): KWH, ("cpu", "cpu_time"): KWH}, co2e_g=800.0
    )
    parts = certainty.energy_certainty(totals, {GPU: Calibration(1.1, 0.0, "x")}, 2 * HOUR_NS)
    assert parts is not None
    assert parts.shift_ratio == pytest.approx(0.05)
    assert parts.gain_ratio == pytest.approx(certainty.HOST_GAIN_RATIO / 2)
    assert parts.share_ratio == pytest.approx(certainty.share_ratio("cpu_time") / 2)
    assert parts.ratio == pytest.approx(0.05 + parts.width_ratio), "the count is off by the shift too"


@pytest.mark.parametrize(
    ("attribution", "ratio"),
    [
        ("exclusive", 0),
        ("sm_time", 1 / 2),
        ("mig_activity", 1 / 3),
        ("cpu_time", 1 / 3),
        ("equal", 1),
        ("mig_slices", 1),
    ],
)
def test_shares_are_bounded_by_the_powers_that_sharers_may_have(
    attribution: Attribution, ratio: float
) -> None:
    """A sharer f times as hungry as its equal has f/(f+1) of the whole, and was given a half."""
    assert certainty.share_ratio(attribution) == pytest.approx(ratio)
    totals = replace(simple().totals, energy_uj={("gpu", attribution): KWH})
    width = math.hypot(0.05, EDGES, ratio)
    low, high = edges(found(simple(totals=totals)).energy_joules)
    assert (low, high) == pytest.approx((3_600_000 * max(1 - width, 0), 3_600_000 * (1 + width)))


def test_every_rule_has_a_bound() -> None:
    """No rule is added without its bound."""
    assert set(certainty.POWER_FACTOR) == set(get_args(Attribution))


@pytest.mark.parametrize(
    ("changes", "kind", "ratio"),
    [
        ({}, "measured", 0.10),
        ({"estimated": True}, "estimated", math.hypot(0.10, 0.10)),
        ({"provider": "static", "grid_zone": "FR"}, "constant", math.hypot(0.10, 0.30, 0.10)),
        ({"provider": "static", "grid_zone": "WORLD"}, "constant", math.hypot(0.10, 0.30, 0.10, 0.54)),
        ({"provider": "configured"}, "constant", math.hypot(0.10, 0.30, 0.10)),
        ({"provider": "file", "valid_until_wall_ns": None}, "constant", math.hypot(0.10, 0.30, 0.10)),
        ({"provider": ""}, "constant", math.hypot(0.10, 0.30, 0.10)),
    ],
)
def test_figures_are_as_sure_as_they_are_made(changes: dict[str, object], kind: str, ratio: float) -> None:
    """A measured half hour is surer than a forecast, that than a year's mean, and no place is the worst."""
    one = factor(400, KWH, **changes)
    assert ranges.kind_of(one) == kind
    record = simple(factors=(one,))
    assert ranges.intensity_ratio(record) == pytest.approx(ratio)
    width = math.hypot(0.05, EDGES, ratio)
    assert edges(found(record).co2e_grams) == pytest.approx((400 * (1 - width), 400 * (1 + width)))


def test_errors_of_the_grid_add_up_over_time() -> None:
    """A thousand half hours are no surer than one, and each counts by its grams."""
    many = simple(factors=tuple(factor(400, KWH // 1000) for _ in range(1000)))
    assert ranges.intensity_ratio(many) == pytest.approx(0.10)
    mixed = simple(factors=(factor(600, KWH // 2), factor(200, KWH // 2, provider="static")))
    assert ranges.intensity_ratio(mixed) == pytest.approx((300 * 0.10 + 100 * math.sqrt(0.11)) / 400)


@pytest.mark.parametrize(
    ("providers", "estimated", "ratio"),
    [
        (("static",), True, math.sqrt(0.11)),
        ((), False, math.sqrt(0.11)),
        (("carbonintensity", "configured"), True, math.sqrt(0.11)),
        (("carbonintensity",), True, math.hypot(0.10, 0.10)),
        (("carbonintensity",), False, 0.10),
    ],
)
def test_record_without_factors_has_the_worst_it_had(
    providers: tuple[str, ...], estimated: bool, ratio: float
) -> None:
    """What an older journal kept says enough for a range."""
    record = simple(providers=providers, estimated=estimated)
    assert ranges.intensity_ratio(record) == pytest.approx(ratio)


def test_calibrated_energy_moves_the_grams_too() -> None:
    """Grams are energy times intensity: the calibration shifts them, the grid's share with them."""
    record = simple(calibrations={GPU: Calibration(1.5, 0.0, "x")}, factors=(factor(400, KWH),))
    width = math.hypot(EDGES, 1.5 * 0.10)
    assert edges(found(record).co2e_grams) == pytest.approx((400 * (1.5 - width), 400 * (1.5 + width)))


def test_other_totals_go_with_the_energy() -> None:
    """Cost, market-based grams and water have the energy's range; making the hardware has its own factor."""
    totals = replace(simple().totals, cost=2.0, market_g=10.0, water_l=4.0, embodied_g=142.0)
    whole = found(simple(totals=totals))
    width = math.hypot(0.05, EDGES)
    for between, total in (
        (whole.cost, 2.0),
        (whole.market_co2e_grams, 10.0),
        (whole.water_liters, 4.0),
    ):
        assert edges(between) == pytest.approx((total * (1 - width), total * (1 + width)))
    assert edges(whole.embodied_co2e_grams) == pytest.approx((100, 142 * 1.42))


def test_missing_totals_have_missing_ranges() -> None:
    """What is not known has no range, and says the same reason."""
    record = bare()
    figures = figures_of(record, BEGAN_WALL_NS)
    assert uncertainty_of(record, figures) == ranges.Uncertainty(None, None)
    for name in Ranges.__slots__:
        assert getattr(found(record), name) == getattr(figures, name)
    assert certainty.energy_certainty(RunTotals(energy_uj={("gpu", "exclusive"): 0}), {}, 1) is None


def test_every_range_is_of_a_figure() -> None:
    """The names of ranges are those of the figures."""
    assert {field.name for field in fields(Ranges)} <= {field.name for field in fields(Figures)}


@given(
    energy_uj=st.dictionaries(
        st.tuples(st.sampled_from(["gpu", "cpu", "dram"]), st.sampled_from(get_args(Attribution))),
        st.integers(0, 10**15),
    ),
    gpu_energy_uj=st.dictionaries(st.sampled_from([*GPUS]), st.integers(0, 10**15)),
    gain=st.floats(0.5, 2),
    uncertainty=st.floats(0, 0.5),
    grams=st.floats(0, 1e9),
    duration_ns=st.integers(0, 10**18),
)
def test_any_run_has_ranges_that_hold_together(
    energy_uj: dict[tuple[str, Attribution], int],
    gpu_energy_uj: dict[str, int],
    gain: float,
    uncertainty: float,
    grams: float,
    duration_ns: int,
) -> None:
    """A range is finite, not below 0, in order and has the shifted total in it; grams are less sure."""
    record = simple(
        totals=RunTotals(energy_uj=energy_uj, co2e_g=grams, cost=1.0, gpu_energy_uj=gpu_energy_uj),
        calibrations={GPU: Calibration(gain, uncertainty, "x")},
        ended_wall_ns=BEGAN_WALL_NS + duration_ns,
    )
    figures = figures_of(record, BEGAN_WALL_NS)
    uncertainty_found = uncertainty_of(record, figures)
    whole = ranges_of(figures, uncertainty_found)
    for name in Ranges.__slots__:
        between, total = getattr(whole, name), getattr(figures, name)
        if isinstance(between, Missing):
            continue
        assert 0 <= between.low <= between.high < math.inf
        shift = uncertainty_found.energy.shift_ratio if uncertainty_found.energy else 0.0
        middle = total if name == "embodied_co2e_grams" else total * (1 + shift)
        assert between.low <= middle * (1 + 1e-12)
        assert between.high >= middle * (1 - 1e-12)
    if isinstance(whole.co2e_grams, Range) and isinstance(whole.energy_joules, Range):
        joules = whole.energy_joules.high / float(figures.energy_joules)  # type: ignore[arg-type]
        assert whole.co2e_grams.high >= grams * joules * (1 - 1e-9)


def test_ranges_are_told_in_words() -> None:
    """What a range is made of, whose calibration moved it, and how each part of the energy was priced."""
    said = {statement.topic: statement.text for statement in reported(training()).statements}
    assert "of the sensors" in said["ranges"]
    assert "by calibration" in said["ranges"]
    assert "no confidence intervals" in said["ranges"]
    first = next(iter(training().calibrations))
    assert said[f"calibration of {first}"].startswith("Gain 1.032, known to ±0.8 %: LMG671 at the 12 V rails")
    assert "33.3 % of the priced energy by measured figures (±10 %)" in said["carbon intensity"]
    assert "50 % of the priced energy by forecasts" in said["carbon intensity"]
    assert "a last good figure whose own time was over" in said["carbon intensity"]
    assert "under the lowest figure" in said["when it ran"]


def test_hours_of_the_run_are_compared() -> None:
    """All of it under the greenest figure of its time, and under the dirtiest, by hand."""
    record = simple(factors=(factor(600, KWH // 2), factor(200, KWH // 2)))
    said = {statement.topic: statement.text for statement in reported(record).statements}
    assert "200 to 600 g/kWh" in said["when it ran"]
    assert "under the lowest figure would have been 200 g, under the highest 600 g." in said["when it ran"]


def test_marginal_figures_are_called_so() -> None:
    """A marginal signal is no footprint, and the report says it."""
    marginal = simple(factors=(factor(400, KWH, signal="marginal"),))
    said = {statement.topic: statement.text for statement in reported(marginal).statements}
    assert "no footprint" in said["signal"]
    average = {statement.topic for statement in reported(simple(factors=(factor(400, KWH),))).statements}
    assert "signal" not in average
    assert "when it ran" not in average, "one figure has no spread"


def test_two_bases_in_one_sum_are_told() -> None:
    """A daemon set to another basis in mid-run leaves a sum of unlike grams, and the report says it."""
    mixed = simple(factors=(factor(400, KWH, basis="direct"), factor(400, KWH, basis="lifecycle")))
    said = {statement.topic: statement.text for statement in reported(mixed).statements}
    assert said["basis"].startswith("Mixed")
    alone = simple(factors=(factor(400, KWH, basis="direct"),), basis="direct")
    said = {statement.topic: statement.text for statement in reported(alone).statements}
    assert said["basis"].startswith("Direct")


def test_place_nobody_knows_is_as_far_as_countries_are_from_the_world() -> None:
    """The constant is what the carried table says: countries' root mean square distance from the world."""
    known = [country for country in countries() if country.g_per_kwh]
    (world,) = (country.g_per_kwh for country in known if country.zone == WORLD and country.g_per_kwh)
    distances = [country.g_per_kwh / world - 1 for country in known if len(country.zone) == 2]  # type: ignore[operator]
    spread = math.sqrt(sum(distance**2 for distance in distances) / len(distances))
    assert spread == pytest.approx(ranges.PLACE_RATIO, abs=0.01)
