"""The JSON documents, held against their own description."""

from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from tests.publish.serving import NODE
from tests.publish.views import EMPTY, TAKEN_AT_NS, WALL_OFFSET_NS, filled
from wattspan.carbon.forecast import outlook_of
from wattspan.model import GpuReading, GridState, Intensity, LedgerView, Tariff
from wattspan.publish import api, openapi
from wattspan.units import NS_PER_S, UJ_PER_J

HOUR_NS = 3600 * NS_PER_S
NOW_WALL_NS = TAKEN_AT_NS + WALL_OFFSET_NS

LIVE = Intensity(
    g_per_kwh=250.0,
    valid_from_wall_ns=NOW_WALL_NS,
    valid_until_wall_ns=NOW_WALL_NS + HOUR_NS,
    grid_zone="DE",
    provider="energycharts",
    signal="average",
    basis="lifecycle",
    estimated=False,
    fetched_wall_ns=NOW_WALL_NS,
)


def valid(document: Any, schema: str) -> Any:
    """The document, after it has been held against a schema of the description."""
    described = openapi.document("1")
    whole = {**described["components"]["schemas"][schema], "components": described["components"]}
    Draft202012Validator(whole, validate_formats=True).validate(document)
    return document


def test_the_node_document_is_as_described() -> None:
    """A filled and an empty view both answer what the description says."""
    valid(api.node_document(filled(), NODE), "Node")
    empty = valid(api.node_document(EMPTY, NODE), "Node")
    assert (empty["taken_at"], empty["power_watts"], empty["energy_joules"]) == (None, None, None)


def test_a_node_says_what_it_measures() -> None:
    """Units are converted once, and the names say which they are."""
    node = api.node_document(filled(), NODE)
    first = node["gpus"][0]
    assert node["node"] == "gpu-17"
    assert node["taken_at"] == "2026-11-18T11:08:20.000Z"
    assert node["power_watts"] == 790.0
    assert first["power_watts"] == 350.123456
    assert first["energy_joules"] == {"counter": 4_503_599_627.370495, "integrated": 0.0}
    assert first["attributed_energy_joules"]["run"] == 4_503_599_627.370495
    assert first["co2e_grams"] == {"lifecycle": 377_176.4687}
    assert node["hosts"][0]["energy_joules"] == 17.0
    assert node["hosts"][1] == {
        "component": "dram",
        "device": "package-0",
        "estimated": True,
        "power_watts": None,
        "energy_joules": 1e-6,
    }
    assert node["sources"][0]["last_read_at"] == "2026-11-18T11:08:19.750Z"


def test_a_lost_gpu_keeps_its_energy_and_loses_its_reading() -> None:
    """What was not read is null, never 0, and the counters stay."""
    lost = api.node_document(filled(gpus=1), NODE)["gpus"][1]
    assert lost["up"] is False
    readings = (
        "power_watts",
        "utilization_ratio",
        "memory_used_bytes",
        "temperature_celsius",
        "sm_clock_hertz",
    )
    assert [lost[name] for name in readings] == [None] * len(readings)
    assert lost["energy_joules"]["counter"] > 0


def test_each_gpu_has_its_own_energy() -> None:
    """Counters are told apart by UUID."""
    view = filled(gpus=2)
    first, second, _ = (state.gpu.uuid for state in view.gpus)
    energy = {(first, "counter"): UJ_PER_J, (second, "counter"): 2 * UJ_PER_J}
    gpus = api.node_document(replace(view, counters={"gpu_energy": energy}), NODE)["gpus"]
    assert [gpu["energy_joules"] for gpu in gpus] == [{"counter": 1.0}, {"counter": 2.0}, {}]


@given(energy_uj=st.integers(min_value=0, max_value=2**33 * UJ_PER_J))
def test_joules_hold_every_microjoule(energy_uj: int) -> None:
    """A decimal of joules gives back the microjoules it was made of, up to 8.6 GJ."""
    view = LedgerView(1, 1, 1, counters={"node_energy": {(): energy_uj}})
    joules = api.node_document(view, NODE)["energy_joules"]
    assert round(Fraction(joules) * UJ_PER_J) == energy_uj


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_null(value: float) -> None:
    """JSON has no NaN: a figure that is none is null."""
    view = filled(gpus=1)
    state = view.gpus[0]
    assert isinstance(state.reading, GpuReading)
    broken = replace(
        state,
        check_ratio=value,
        co2e_g_per_s=value,
        reading=replace(state.reading, utilization_ratio=value, temperature_celsius=value),
    )
    gpu = valid(api.node_document(replace(view, gpus=(broken,)), NODE), "Node")["gpus"][0]
    names = ("energy_check_ratio", "co2e_grams_per_second", "utilization_ratio", "temperature_celsius")
    assert [gpu[name] for name in names] == [None] * 4


def test_the_grid_document_is_as_described() -> None:
    """The grid says value, zone, basis and origin; without any it says so in nulls."""
    grid = valid(api.grid_document(filled().grid), "Grid")
    assert grid["intensity"]["grams_per_kwh"] == 301.5
    assert grid["intensity"]["valid_until"] is None
    assert grid["pue_ratio"] == 1.2
    assert valid(api.grid_document(None), "Grid")["intensity"] is None


def test_a_static_grid_claims_no_forecast() -> None:
    """One open-ended interval is shown as what it is, and nothing is invented where nothing is known."""
    static = valid(api.forecast_document(filled().grid), "Forecast")
    assert static["forecast"] is False
    assert static["detail"].startswith("no forecast")
    assert [interval["valid_until"] for interval in static["intervals"]] == [None]
    assert valid(api.forecast_document(None), "Forecast")["intervals"] == []


def test_the_grid_says_what_its_figures_mean_and_who_says_what() -> None:
    """Signal and basis hold without a figure too; each provider's figure is told, and which is in force."""
    held = replace(LIVE, valid_until_wall_ns=NOW_WALL_NS, force_until_wall_ns=NOW_WALL_NS + HOUR_NS)
    other = replace(LIVE, provider="carbonintensity", g_per_kwh=210.0)
    state = GridState(
        intensity=held,
        fallback_level=1,
        pue=1.2,
        pue_configured=True,
        figures=(other, replace(held, force_until_wall_ns=None)),
        tariff=Tariff(-0.02, NOW_WALL_NS, NOW_WALL_NS + HOUR_NS, "energycharts", NOW_WALL_NS),
        basis="direct",
    )
    grid = valid(api.grid_document(state, "EUR"), "Grid")
    assert (grid["signal"], grid["basis"], grid["fallback_level"]) == ("average", "direct", 1)
    assert [(each["provider"], each["in_use"]) for each in grid["figures"]] == [
        ("carbonintensity", False),
        ("energycharts", True),
    ]
    assert (grid["tariff"]["per_kwh"], grid["tariff"]["currency"]) == (-0.02, "EUR")
    nothing = valid(api.grid_document(replace(state, intensity=None)), "Grid")
    assert (nothing["basis"], [each["in_use"] for each in nothing["figures"]]) == ("direct", [False, False])
    assert valid(api.grid_document(filled().grid), "Grid")["tariff"] is None


def test_a_forecast_has_its_intervals_horizons_and_greenest_windows() -> None:
    """Where somebody forecasts, the hours ahead are told, in order, with what is greenest among them."""
    hours = tuple(
        replace(
            LIVE,
            g_per_kwh=300.0 - 20 * hour,
            valid_from_wall_ns=NOW_WALL_NS + hour * HOUR_NS,
            valid_until_wall_ns=NOW_WALL_NS + (hour + 1) * HOUR_NS,
            estimated=hour > 0,
        )
        for hour in range(6)
    )
    state = GridState(hours[0], 0, 1.0, pue_configured=False, outlook=outlook_of(hours, NOW_WALL_NS))
    forecast = valid(api.forecast_document(state), "Forecast")
    assert (forecast["forecast"], forecast["detail"]) == (True, "by provider energycharts")
    assert forecast["made_at"] == "2026-11-18T11:08:20.000Z"
    assert [each["grams_per_kwh"] for each in forecast["intervals"]] == [300, 280, 260, 240, 220, 200]
    assert forecast["horizons"][:2] == [
        {"horizon_seconds": 3600.0, "grams_per_kwh": 280.0},
        {"horizon_seconds": 7200.0, "grams_per_kwh": 260.0},
    ]
    assert forecast["greenest"][0] == {
        "duration_seconds": 3600.0,
        "starts_at": "2026-11-18T16:08:20.000Z",
        "grams_per_kwh": 200.0,
    }
    assert valid(api.forecast_document(replace(state, outlook=None)), "Forecast")["detail"] == (
        "no forecast: provider energycharts says nothing of the hours ahead"
    )


@pytest.mark.parametrize("strict", [False, True])
def test_readiness_is_as_described(strict: bool) -> None:
    """Ready or not, the answer has the same shape."""
    for view in (EMPTY, filled(), replace(filled(), journal_error="full")):
        answer = api.readiness(view, NODE, TAKEN_AT_NS, strict=strict)
        valid(answer.document, "Readiness")
        assert answer.ready is (not answer.document["problems"])


def test_an_age_is_never_negative() -> None:
    """A view taken between the two looks at the clock is 0 s old."""
    answer = api.readiness(filled(), NODE, TAKEN_AT_NS - NS_PER_S, strict=False)
    assert answer.document["snapshot_age_seconds"] == 0.0


@given(wall_ns=st.integers(min_value=0, max_value=4_000_000_000 * NS_PER_S))
def test_times_are_rfc_3339(wall_ns: int) -> None:
    """Every moment is UTC with milliseconds, and not later than what it stands for."""
    view = replace(EMPTY, last_commit_wall_ns=wall_ns)
    text = api.node_document(view, NODE)["journal"]["last_commit_at"]
    assert text.endswith("Z")
    moment = datetime.fromisoformat(text).timestamp()
    assert 0 <= wall_ns / NS_PER_S - moment < 0.0011


def test_every_path_and_schema_is_described_strictly() -> None:
    """The description refers only to schemas it has, and every record lists all its fields as required."""
    described = openapi.document("9.9")
    assert described["info"]["version"] == "9.9"
    text = str(described)
    for name, schema in described["components"]["schemas"].items():
        assert f"#/components/schemas/{name}" in text
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
