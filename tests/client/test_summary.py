"""Summaries, missing figures and the short report."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.stand_in import summary
from wattspan.client import Missing, Summary
from wattspan.client.report import duration, energy, figure, lines, mass

GONE = Missing("nobody measured it")


def test_a_missing_figure_never_raises() -> None:
    """What a script does with a figure at its end works without one too, and says why it is missing."""
    assert f"{GONE / 3.6e6:.2f} kWh" == "missing: nobody measured it kWh"
    assert str(round(2 * GONE + 1 - GONE, 2)) == "missing: nobody measured it"
    assert not GONE
    assert math.isnan(float(GONE))
    assert not GONE > 5
    assert not GONE <= 5
    assert sum([1.0, GONE, 2.0]) == GONE  # type: ignore[list-item] # as a script does it


def test_a_summary_has_values_or_reasons() -> None:
    """What the daemon gives is a value, what it does not give is its reason, or that it gave none."""
    document = {**summary("llama-1", 2, "success"), "gpu_seconds": "many", "idle_gpu_seconds": None}
    said = Summary.of(document)
    assert (said.run_id, said.attempt, said.result) == ("llama-1", 2, "success")
    assert said.energy_joules == 3_600_000.0
    assert said.energy_by_component == {"gpu": 3_000_000.0, "cpu": 600_000.0}
    assert said.attribution == ("exclusive",)
    assert said.cost == Missing("no price is configured")
    assert said.gpu_seconds == Missing("the daemon did not say")
    assert said.idle_gpu_seconds == Missing("the daemon did not say")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
FIELDS = st.sampled_from([*summary("x", 0, "success"), "ranges", "embodied_co2e_grams", "more"])


@given(st.dictionaries(FIELDS, JSON))
def test_any_answer_makes_a_summary(document: dict[str, object]) -> None:
    """Whatever another version of the daemon sends, there is a summary and a report."""
    assert str(Summary.of(json.loads(json.dumps(document))))


def test_report() -> None:
    """One line per figure: values in units that people use, reasons where there is none."""
    assert lines(Summary.of(summary("llama-1", 0, "success"))) == [
        "run       llama-1 (success)",
        "duration  1 h 00 min",
        "energy    1 kWh (gpu 0.833 kWh, cpu 0.167 kWh)",
        "CO2e      345 g",
        "cost      missing: no price is configured",
        "GPUs      8 (held 8 h 00 min, of it idle 36 s)",
        "shares    exclusive",
    ]


def test_report_of_the_whole_footprint() -> None:
    """Ranges stand behind their totals; embodied, market-based and water have lines where they are known."""
    document = {
        **summary("llama-1", 0, "success"),
        "embodied_co2e_grams": 12.5,
        "market_co2e_grams": 0.0,
        "water_liters": 1.5,
        "ranges": {
            "energy_joules": {"low": 3_420_000.0, "high": 3_780_000.0},
            "co2e_grams": {"low": 230.0, "high": 460.0},
            "embodied_co2e_grams": {"low": 8.8, "high": 17.75},
            "cost": None,
        },
    }
    assert lines(Summary.of(document))[2:7] == [
        "energy    1 kWh, 0.95 kWh to 1.05 kWh (gpu 0.833 kWh, cpu 0.167 kWh)",
        "CO2e      345 g, 230 g to 460 g",
        "embodied  12.5 g, 8.8 g to 17.8 g",
        "market    0 g by contract",
        "water     1.5 l",
    ]
    assert Summary.of(document).ranges == {
        "energy_joules": (3_420_000.0, 3_780_000.0),
        "co2e_grams": (230.0, 460.0),
        "embodied_co2e_grams": (8.8, 17.75),
    }


def test_range_that_is_none_is_left_out() -> None:
    """An older daemon says no ranges; half a range, or one of text, is none."""
    said = summary("llama-1", 0, "success")
    assert Summary.of(said).ranges == Missing("the daemon did not say")
    broken = {"energy_joules": {"low": 1}, "co2e_grams": {"low": "1", "high": "2"}, "cost": [1, 2]}
    assert Summary.of({**said, "ranges": broken}).ranges == {}
    assert lines(Summary.of({**said, "ranges": broken})) == lines(Summary.of(said))


def test_report_of_a_run_without_a_gpu() -> None:
    """What was not held has no times, and no share was made of it."""
    document = {**summary("r", 0, "success"), "gpu_count": 0, "attribution": []}
    assert lines(Summary.of(document))[-2:] == ["GPUs      none", "shares    nothing was charged"]


def test_report_of_nothing() -> None:
    """Without any figure the report is its reason."""
    assert lines(Summary.missing("no daemon is reachable")) == ["no report: no daemon is reachable"]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (energy(0), "0 kWh"),
        (energy(432.1), "432 J"),
        (energy(12_345_678), "3.43 kWh"),
        (energy(3.6e12), "1000000 kWh"),
        (mass(0.00012345), "0.000123 g"),
        (mass(12_345), "12.3 kg"),
        (duration(0.25), "0.25 s"),
        (duration(245), "4 min 05 s"),
        (duration(59.999), "60 s"),
        (duration(97_380), "27 h 03 min"),
        (figure(-1.5), "-1.5"),
    ],
)
def test_figures(shown: str, text: str) -> None:
    """Three digits that count, no exponents, units that can be pictured."""
    assert shown == text
