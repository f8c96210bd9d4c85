"""Energy, grams and cost of what is planned, and how far they may be off."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon.estimate import (
    BUSY_LOW,
    HOUR_NS,
    IDLE_SHARE,
    PastRun,
    Plan,
    Power,
    Spread,
    as_before,
    estimate,
    exactly,
    hours_of,
    measured,
    past_runs,
    rated,
)
from wattspan.runs import Run, RunRecord, RunTotals
from wattspan.units import UJ_PER_J

H100 = "NVIDIA H100 80GB HBM3"

shares = st.floats(0, 1)
positive = st.floats(1e-3, 1e6)


@st.composite
def spreads(draw: st.DrawFn) -> Spread:
    """A figure within its range."""
    low, value, high = sorted(draw(st.tuples(positive, positive, positive)))
    return Spread(value, low, high)


def record(
    run_id: str = "a", *, watts: float = 500.0, gpu_hours: float = 8.0, model: str = H100, cpu_j: float = 0.0
) -> RunRecord:
    """An ended attempt that held eight GPUs and drew a steady power on each."""
    energy_uj = {("gpu", "exclusive"): round(watts * gpu_hours * 3600 * UJ_PER_J)}
    if cpu_j:
        energy_uj["cpu", "cpu_time"] = round(cpu_j * UJ_PER_J)
    return RunRecord(
        run=Run(run_id, project="nlp"),
        node="n",
        cluster="",
        began_wall_ns=0,
        ended_wall_ns=HOUR_NS,
        totals=RunTotals(energy_uj=energy_uj, gpu_ns=round(gpu_hours * HOUR_NS)),  # type: ignore[arg-type]
        gpus={f"GPU-{n}": model for n in range(8)},
    )


def test_the_formula() -> None:
    """Energy is GPUs x hours x power; grams and cost are it times PUE times intensity or price."""
    plan = Plan(
        gpus=8,
        hours=10.0,
        power=Power(exactly(500.0), "told"),
        host_watts=100.0,
        pue=1.5,
        g_per_kwh=exactly(200.0),
        price_per_kwh=0.25,
    )
    made = estimate(plan)
    assert made.energy_kwh == exactly(pytest.approx(48.0))
    assert made.facility_energy_kwh == exactly(pytest.approx(72.0))
    assert made.operational_g == exactly(pytest.approx(14_400.0))
    assert made.cost == exactly(pytest.approx(18.0))
    assert made.embodied_g is None


def test_embodied_is_that_of_the_ledger() -> None:
    """Eight GPUs held for their whole life, with their host, come to all of it, once."""
    plan = Plan(
        gpus=8,
        hours=4 * 8766.0,
        power=None,
        embodied_gpu_g=164_000.0,
        embodied_host_g=1_600_000.0,
        embodied_factor=2.0,
        gpus_per_host=8,
        lifetime_years=4.0,
    )
    made = estimate(plan).embodied_g
    assert made is not None
    assert made.value == pytest.approx(8 * 164_000 + 1_600_000)
    assert (made.low, made.high) == (pytest.approx(made.value / 2), pytest.approx(made.value * 2))


def test_what_cannot_be_said_is_none_and_hides_nothing_else() -> None:
    """Without an intensity there are no grams, but energy and cost; without power only embodied is left."""
    plan = Plan(1, 1.0, measured(100.0), price_per_kwh=1.0, embodied_gpu_g=1.0)
    made = estimate(plan)
    assert made.operational_g is None
    assert made.energy_kwh
    assert made.cost
    blind = estimate(replace(plan, power=None, g_per_kwh=exactly(1.0)))
    assert (blind.energy_kwh, blind.facility_energy_kwh, blind.operational_g, blind.cost) == (None,) * 4
    assert blind.embodied_g


@given(
    power=spreads(),
    g_per_kwh=spreads(),
    gpus=st.integers(1, 10_000),
    hours=st.floats(1e-3, 1e6),
    pue=st.floats(1, 5),
    price=st.floats(0, 1000),
)
def test_every_figure_lies_in_its_range(
    power: Spread, g_per_kwh: Spread, gpus: int, hours: float, pue: float, price: float
) -> None:
    """low <= value <= high, never below 0, and grams are at least as uncertain as the energy they rest on."""
    made = estimate(
        Plan(
            gpus,
            hours,
            Power(power, ""),
            pue=pue,
            g_per_kwh=g_per_kwh,
            price_per_kwh=price,
            embodied_gpu_g=1.0,
        )
    )
    for spread in (made.energy_kwh, made.facility_energy_kwh, made.operational_g, made.embodied_g, made.cost):
        assert spread is not None
        assert 0 <= spread.low <= spread.value * (1 + 1e-9)
        assert spread.value <= spread.high * (1 + 1e-9)
    energy, carbon = made.energy_kwh, made.operational_g
    assert energy is not None
    assert carbon is not None
    assert carbon.high / carbon.value >= energy.high / energy.value * (1 - 1e-9)
    # Of the value, not of the low end: next to 0 that is the difference of two large numbers.
    assert carbon.low / carbon.value <= energy.low / energy.value + 1e-9


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0.01, 1000))
def test_only_gpu_hours_count(gpus: int, times: int, hours: float) -> None:
    """So many GPUs for so long are the same as more of them for less long."""
    power, dear = rated(700, None), exactly(100.0)
    wide = estimate(Plan(gpus * times, hours, power, g_per_kwh=dear, embodied_gpu_g=9.0))
    long = estimate(Plan(gpus, hours * times, power, g_per_kwh=dear, embodied_gpu_g=9.0))
    for one, other in ((wide.operational_g, long.operational_g), (wide.embodied_g, long.embodied_g)):
        assert one is not None
        assert other is not None
        assert math.isclose(one.value, other.value, rel_tol=1e-9, abs_tol=1e-9)


def test_independent_errors_are_added_in_squares() -> None:
    """Three per cent and four per cent make five, and an exact factor adds nothing."""
    three, four = Spread(100, 97, 103), Spread(10, 9.6, 10.4)
    assert three.times(four) == Spread(1000, pytest.approx(950), pytest.approx(1050))
    assert three.times(exactly(2)) == Spread(200, pytest.approx(194), pytest.approx(206))
    assert three.times(exactly(0)) == exactly(0)
    assert Spread(1, 0, 3).times(Spread(1, 0, 3)).low == 0


@given(st.floats(10, 2000), st.none() | shares)
def test_the_rating_is_a_ceiling(tdp_w: float, utilization: float | None) -> None:
    """Nothing that is said of a rated card exceeds its rating, and nothing falls below what it draws idle."""
    power = rated(tdp_w, utilization)
    assert power.watts.value == power.watts.high <= tdp_w * (1 + 1e-9)
    assert tdp_w * IDLE_SHARE * (1 - 1e-9) <= power.watts.low <= power.watts.value
    assert "ceiling" in power.method
    assert "TDP" in power.method


@given(st.floats(10, 2000), shares, shares)
def test_more_use_is_more_power(tdp_w: float, one: float, other: float) -> None:
    """The power grows with utilization, at both ends."""
    less, more = rated(tdp_w, min(one, other)).watts, rated(tdp_w, max(one, other)).watts
    assert less.value <= more.value * (1 + 1e-9)
    assert less.low <= more.low * (1 + 1e-9)


def test_the_ends_of_utilization() -> None:
    """Computing all the time is TDP down to its stated share; never computing is the idle draw, not zero."""
    assert rated(700, 1.0).watts == Spread(700, 700 * BUSY_LOW, 700)
    assert rated(700, None).watts == rated(700, 1.0).watts
    assert rated(700, 0.0).watts == exactly(700 * IDLE_SHARE)
    assert rated(400, 0.5).watts == Spread(pytest.approx(230), pytest.approx(150), pytest.approx(230))


def test_a_measured_power_has_the_range_of_sensors() -> None:
    """A given mean is not a ceiling: it may be off both ways."""
    watts = measured(300.0).watts
    assert (watts.value, watts.low, watts.high) == (300, pytest.approx(285), pytest.approx(315))


def test_past_runs_weigh_by_gpu_hours() -> None:
    """The mean is joules over GPU-hours of all; the range is that of single attempts, and of sensors."""
    runs = past_runs(
        [record("a", watts=400, gpu_hours=30), record("b", watts=600, gpu_hours=10)], {H100}.__contains__
    )
    power = as_before(runs, "nlp")
    assert power is not None
    assert power.watts.value == pytest.approx(450)
    assert (power.watts.low, power.watts.high) == (pytest.approx(380), pytest.approx(630))
    assert "2 ended attempts of project nlp" in power.method
    assert "40.0 GPU-hours at 1,620,000 J" in power.method
    assert not power.covers_host


def test_one_past_run_has_the_range_of_sensors() -> None:
    """With one attempt nothing is known of how attempts differ."""
    power = as_before(past_runs([record()], {H100}.__contains__), "nlp")
    assert power is not None
    assert power.watts == Spread(pytest.approx(500), pytest.approx(475), pytest.approx(525))
    assert "1 ended attempt of" in power.method


def test_the_host_counts_where_every_past_run_knows_it() -> None:
    """Components that some attempts lack are left out of all, so that attempts can be compared."""
    known = record("a", watts=400, gpu_hours=1, cpu_j=360_000)
    both = as_before(past_runs([known, replace(known, run=Run("b"))], {H100}.__contains__), "nlp")
    assert both is not None
    assert both.watts.value == pytest.approx(500)
    assert both.covers_host
    mixed = as_before(past_runs([known, record("b", watts=400, gpu_hours=1)], {H100}.__contains__), "nlp")
    assert mixed is not None
    assert mixed.watts.value == pytest.approx(400)
    assert not mixed.covers_host


def test_past_runs_that_say_nothing_are_passed_over() -> None:
    """Running, short, without GPU energy, or on another card, in part or whole: none of them counts."""
    good = record()
    others = [
        replace(good, ended_wall_ns=None),
        replace(good, gpus={}),
        replace(good, gpus={**good.gpus, "GPU-9": "NVIDIA H200"}),
        record(model="NVIDIA H200"),
        record(gpu_hours=0.05),
        replace(good, totals=replace(good.totals, energy_uj={("cpu", "cpu_time"): 5})),
        replace(good, totals=RunTotals()),
    ]
    assert past_runs(others, {H100}.__contains__) == ()
    assert len(past_runs([*others, good], {H100}.__contains__)) == 1
    assert as_before((), "nlp") is None


@given(
    st.lists(
        st.builds(
            PastRun,
            st.just("a"),
            st.fixed_dictionaries({"gpu": st.floats(1, 1e9)}, optional={"cpu": st.floats(1, 1e9)}),
            st.floats(0.1, 1e4),
        ),
        min_size=1,
    )
)
def test_the_mean_of_past_runs_lies_in_their_range(runs: list[PastRun]) -> None:
    """Whatever the journal holds, the figure is inside its own range."""
    power = as_before(runs, "p")
    assert power is not None
    assert power.watts.low <= power.watts.value <= power.watts.high


def test_attributions_of_one_component_are_added() -> None:
    """A run that was alone on a GPU for a while and shared it later used both."""
    energy_uj: Mapping[tuple[str, str], int] = {
        ("gpu", "exclusive"): 1_000_000 * UJ_PER_J,
        ("gpu", "equal"): 800_000 * UJ_PER_J,
    }
    shared = replace(record(), totals=RunTotals(energy_uj=energy_uj, gpu_ns=HOUR_NS))  # type: ignore[arg-type]
    (run,) = past_runs([shared], {H100}.__contains__)
    assert run.joules == {"gpu": 1_800_000.0}


def test_hours_from_a_model() -> None:
    """6 x N x D over what the GPUs reach: Llama 2 7B as published comes out at the MFU that it had.

    7e9 parameters, 2e12 tokens and 184,320 A100-hours (model card of Llama 2) are an MFU of 40.6 % of 312
    TFLOP/s; at 40 % it would have been 187,000 hours.
    """
    gpu_hours = hours_of(7e9, 2e12, 312e12, 0.4, 1)
    assert gpu_hours == pytest.approx(186_966, rel=1e-4)
    assert hours_of(7e9, 2e12, 312e12, 0.4, 1000) == pytest.approx(gpu_hours / 1000)
    assert hours_of(7e9, 2e12, 312e12, gpu_hours / 184_320 * 0.4, 1) == pytest.approx(184_320)
