"""``wattspan plan``: when to run, where, and what that saves, against services on loopback."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Wattspan
from tests.cli.test_grid import about, half_hours, this_half_hour
from tests.fakes.grid_service import Answer, GridService, Request, serving
from wattspan.cli import plan
from wattspan.config import Config
from wattspan.model import GridState

HOURS = {"FR": [40, 40, 40, 20, 20, 40], "PL": [700, 600, 500, 600, 700, 700], "SE": [15, 15, 15, 15, 10, 15]}
"""What Electricity Maps says of each zone, from this hour on; it knows no other."""


def now_hour() -> int:
    """Seconds of this full hour."""
    return int(time.time()) // 3600 * 3600


def iso(seconds: int) -> str:
    """As the service writes it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.000Z}"


def latest(request: Request) -> Answer:
    """The hour in force."""
    zone = request.query["zone"]
    if zone not in HOURS:
        return Answer(403, {"error": "not in your plan"})
    body = {
        "zone": zone,
        "carbonIntensity": HOURS[zone][0],
        "datetime": iso(now_hour()),
        "updatedAt": iso(now_hour()),
    }
    return Answer(
        json={**body, "emissionFactorType": "lifecycle", "isEstimated": False, "estimationMethod": None}
    )


def forecast(request: Request) -> Answer:
    """The hours ahead."""
    zone = request.query["zone"]
    rows = [
        {"carbonIntensity": value, "datetime": iso(now_hour() + 3600 * n)}
        for n, value in enumerate(HOURS.get(zone, []))
    ]
    return (
        Answer(json={"zone": zone, "forecast": rows, "updatedAt": iso(now_hour())}) if rows else Answer(403)
    )


@pytest.fixture
def service() -> Iterator[GridService]:
    """Both kinds of services."""
    with serving() as running:
        running.says("/intensity/*", half_hours(48, range(8, 12)))
        running.says("/carbon-intensity/latest", latest)
        running.says("/carbon-intensity/forecast", forecast)
        running.says("/carbon-intensity/history", Answer(403))
        yield running


def zones(service: GridService, here: str) -> dict[str, str]:
    """The settings for Electricity Maps."""
    return {
        "WATTSPAN_GRID_ZONE": here,
        "WATTSPAN_GRID_PROVIDERS": "electricitymaps",
        "WATTSPAN_GRID_ELECTRICITYMAPS_URL": service.url,
        "WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN": "secret",
    }


def planned(wattspan: Wattspan, *words: str, env: dict[str, str]) -> Any:
    """The plan as JSON."""
    answer = wattspan("plan", *words, "--format", "json", env=env)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def seconds(text: str) -> float:
    """Of a moment as the document has it."""
    return datetime.fromisoformat(text).timestamp()


MONEY = ("--cost.price-per-kwh", "0.3", "--cost.currency", "EUR")


def test_the_greenest_stretch_and_what_it_saves(wattspan: Wattspan, service: GridService) -> None:
    """Grams and money are of the whole task with PUE, and the spread goes from best to worst."""
    words = ("--duration", "2h", "--within", "12h", "--power", "5000", "--grid.pue", "1.2", *MONEY)
    found = planned(wattspan, *words, env=about(service))
    assert seconds(found["best"]["start_at"]) % 1800 == 0
    assert found["best"]["grams_per_kwh"] == pytest.approx(50)
    assert found["best"]["co2e_grams"] == pytest.approx(5 * 2 * 1.2 * 50)
    assert found["now"]["co2e_grams"] == pytest.approx(5 * 2 * 1.2 * 200)
    assert found["saved"] == pytest.approx({"ratio": 0.75, "co2e_grams": 1800, "cost": 0}, abs=1e-6)
    assert found["best"]["cost"] == pytest.approx(5 * 2 * 1.2 * 0.3)
    assert (found["currency"], found["power_watts"], found["pue_ratio"]) == ("EUR", 5000, 1.2)
    (place,) = found["places"]
    assert place["best"]["grams_per_kwh"] < place["mean"]["grams_per_kwh"] < place["worst"]["grams_per_kwh"]
    assert (place["provider"], place["signal"], place["basis"]) == ("carbonintensity", "average", "direct")
    assert place["estimated"] is True
    assert "no range" in found["uncertainty"]
    assert seconds(found["latest_end_at"]) - seconds(found["made_at"]) == pytest.approx(12 * 3600)


def test_the_same_in_words(wattspan: Wattspan, service: GridService) -> None:
    """What to do comes first, then the spread, then whose forecast it is and that it may be wrong."""
    words = ("--duration", "2h", "--within", "12h", "--power", "5000", "--grid.pue", "1.2", *MONEY)
    out = wattspan("plan", *words, "--utc", env=about(service)).out
    assert re.search(r"^run    in [34] h( \d+ min)?, \w{3} \d\d .* to .*, in GB$", out, re.MULTILINE)
    assert "\nsaves  1.80 kg of 2.40 kg CO2e (75 %) against starting now in GB\n" in out
    assert "\ncost   the same, 3.60 EUR\n" in out
    rows = re.findall(r"^GB +(best|now|mean|worst) .* (\d+) +([\d.,]+ k?g) +(.*)$", out, re.MULTILINE)
    assert [row[0] for row in rows] == ["best", "now", "mean", "worst"]
    assert rows[0][1:] == ("50", "600 g", "3.60 EUR")
    assert re.search(r"^forecast  GB: by carbonintensity until .*CC BY 4.0", out, re.MULTILINE)
    assert "\npower     5.00 kW, PUE 1.2\n" in out
    assert "\ntimes     UTC\n" in out
    assert "no range comes with it" in out


def test_gpus_count_at_their_ceiling(wattspan: Wattspan, service: GridService) -> None:
    """A card's TDP is no draw, and the plan calls it a ceiling."""
    words = ("plan", "--duration", "1h", "--within", "9h", "--gpu", "NVIDIA H100 80GB HBM3", "--gpus", "8")
    out = wattspan(*words, env=about(service)).out
    assert "5.60 kW (8 x H100 SXM5 at the card's TDP of 700 W: a ceiling, without the host)" in out


def test_without_a_power_the_grid_is_compared(wattspan: Wattspan, service: GridService) -> None:
    """Grams of a kilowatt-hour need nothing to be known of the task."""
    out = wattspan("plan", "--duration", "1h", "--within", "9h", env=about(service)).out
    assert "\nsaves  150 of 200 g CO2e/kWh (75 %) against starting now in GB\n" in out
    assert "power     not given" in out


def test_nothing_to_save(wattspan: Wattspan, service: GridService) -> None:
    """Where now is as green as anything, the advice is to begin."""
    service.says("/intensity/*", half_hours(48, range(48)))
    out = wattspan("plan", "--duration", "2h", "--within", "12h", "--power", "5000", env=about(service)).out
    assert out.startswith("run    now, ")
    assert "\nsaves  nothing can be saved: " in out


def test_another_place_may_be_greener(wattspan: Wattspan, service: GridService) -> None:
    """Each place is asked for its own zone; one that the provider refuses is named, and costs the others
    nothing.
    """
    words = ("--duration", "1h", "--within", "6h", "--power", "1000", "--zones", "SE,FR,PL,DE")
    found = planned(wattspan, *words, env=zones(service, "PL"))
    assert found["best"]["grid_zone"] == "SE"
    assert [place["grid_zone"] for place in found["places"]] == ["PL", "SE", "FR"]
    assert found["now"]["grid_zone"] == "PL"
    assert found["saved"]["co2e_grams"] == pytest.approx(
        found["now"]["co2e_grams"] - found["best"]["co2e_grams"]
    )
    assert list(found["without_forecast"]) == ["DE"]
    asked = [request.query["zone"] for request in service.asked("/carbon-intensity/forecast")]
    assert asked[:3] == ["PL", "SE", "FR"]
    assert set(asked) <= {"PL", "SE", "FR", "DE"}


def test_a_cloud_region_is_a_place(wattspan: Wattspan, service: GridService) -> None:
    """Those who choose among regions need not know their grids."""
    words = ("--duration", "1h", "--within", "6h", "--zones", "eu-west-3,aws:eu-north-1")
    found = planned(wattspan, *words, env=zones(service, "PL"))
    assert [place["grid_zone"] for place in found["places"]][:2] == ["PL", "FR"]


def test_prices_of_the_hours_ahead_count(wattspan: Wattspan, service: GridService) -> None:
    """A tariff by time of use is that of the hours in which it would run."""
    begin = this_half_hour()  # once, for the machine may come to the next one while this runs
    service.says("/intensity/*", half_hours(48, range(8, 12), begin))
    green = datetime.fromtimestamp(begin + 8 * 1800, UTC)
    schedule = f"{green:%H:%M}-{green + timedelta(hours=2):%H:%M} 0.10; 0.30"
    words = ("--duration", "2h", "--within", "12h", "--power", "1000")
    prices = ("--cost.schedule", schedule, "--cost.currency", "EUR")
    found = planned(wattspan, *words, *prices, env=about(service))
    assert found["now"]["cost"] == pytest.approx(0.60)
    assert found["best"]["cost"] == pytest.approx(0.20)
    assert found["saved"]["cost"] == pytest.approx(0.40)
    out = wattspan("plan", *words, *prices, env=about(service)).out
    assert "\ncost   0.40 EUR less than the 0.60 EUR of starting now\n" in out


def test_prices_are_of_this_place(wattspan: Wattspan, service: GridService) -> None:
    """What electricity costs elsewhere is not known, so no money is said to be saved there."""
    words = ("--duration", "1h", "--within", "6h", "--power", "1000", "--zones", "SE", *MONEY)
    found = planned(wattspan, *words, env=zones(service, "FR"))
    assert found["now"]["cost"] == pytest.approx(0.3)
    assert (found["best"]["cost"], found["saved"]["cost"]) == (None, None)


def test_a_provider_of_one_place_is_not_asked_about_another(wattspan: Wattspan, service: GridService) -> None:
    """Great Britain's figures are never taken for France's."""
    found = planned(wattspan, "--duration", "1h", "--within", "6h", "--zones", "FR", env=about(service))
    assert [place["grid_zone"] for place in found["places"]] == ["GB"]
    assert list(found["without_forecast"]) == ["FR"]


def test_a_forecast_of_another_meaning_is_not_compared(
    service: GridService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Direct figures read lower than those over the life cycle; a place is not greener for that."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = Config(grid_zone="GB", grid_providers=("carbonintensity",), grid_carbonintensity_url=service.url)
    here = GridState(None, 0, 1.0, pue_configured=False, basis="direct")
    questions = plan.Questions(time.time_ns())
    assert plan._first_that_looks_ahead([config], here, questions) is not None
    assert plan._first_that_looks_ahead([config], replace(here, basis="lifecycle"), questions) is None
    assert plan._first_that_looks_ahead([config], replace(here, signal="marginal"), questions) is None
    assert len(service.requests) == 1, "what was kept answers the second and third time"


def asked_of(
    service: GridService, cache: Path, monkeypatch: pytest.MonkeyPatch, *zones: str
) -> tuple[plan.Questions, list[Config], list[float]]:
    """Electricity Maps, to be asked for each zone; and the breaths that are taken."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN", "secret")
    breaths: list[float] = []
    settings = {"grid_providers": ("electricitymaps",), "grid_electricitymaps_url": service.url}
    configs = [Config(grid_zone=zone, **settings) for zone in zones]  # type: ignore[arg-type]
    return plan.Questions(time.time_ns(), breaths.append), configs, breaths


def test_a_list_of_zones_is_no_burst(
    service: GridService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Between two questions to one service there is a breath, and what is at hand is not asked again."""
    questions, configs, breaths = asked_of(service, tmp_path, monkeypatch, "SE", "FR", "PL")
    for config in configs:
        assert questions.state(config) is not None
    assert len(breaths) == 3
    assert all(0 < breath <= 1 for breath in breaths)
    asked = len(service.requests)
    again = plan.Questions(time.time_ns(), breaths.append)
    for config in configs:
        state = again.state(config)
        assert state is not None
        assert state.outlook is not None
    assert (len(service.requests), len(breaths)) == (asked, 3)


@pytest.mark.parametrize("answer", [Answer(429, headers={"Retry-After": "3600"}), Answer(503)])
def test_a_service_that_fails_is_not_asked_about_the_next_place(
    service: GridService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Answer
) -> None:
    """One that asks for less, or is down, is left alone, and the plan says why there is no forecast."""
    service.says("/carbon-intensity/*", answer)
    questions, configs, _ = asked_of(service, tmp_path, monkeypatch, "SE", "FR", "PL")
    for config in configs:
        found = plan._first_that_looks_ahead([config], GridState(None, 0, 1.0, False), questions)
        assert found is None
    assert len(service.requests) == 1
    assert str(answer.status) in questions.why_not(configs[1:2])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--duration", "1h", "--within", "6h"), "no forecast for GB: no provider has answered"),
        (
            ("--duration", "1h", "--within", "6h", "--grid.providers="),
            "no forecast for GB: the figure of provider",
        ),
    ],
)
def test_no_forecast(wattspan: Wattspan, service: GridService, words: tuple[str, ...], line: str) -> None:
    """It is said in one line, and is 1; no plan is made of a yearly figure."""
    service.says("/intensity/*", Answer(500))
    env = about(service)
    if words[-1] == "--grid.providers=":
        words, env = words[:-1], {"WATTSPAN_GRID_ZONE": "GB"}
    answer = wattspan("plan", *words, env=env)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.splitlines()[-1].startswith(f"wattspan: {line}")


def test_a_forecast_that_is_too_short(wattspan: Wattspan, service: GridService) -> None:
    """Nothing is made up for the hours after it."""
    answer = wattspan("plan", "--duration", "30h", "--within", "48h", env=about(service))
    assert (answer.code, answer.out) == (1, "")
    assert (
        answer.err
        == "wattspan: no forecast covers a stretch so long within that time; ask for a shorter one\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--within", "6h"), "--duration"),
        (("--duration", "6h", "--within", "5h"), "--within: it is shorter than --duration"),
        (("--duration", "x", "--within", "5h"), "'x' is not allowed; allowed: a duration"),
        (("--power", "-1"), "--power: '-1' is not allowed"),
        (("--power", "1", "--gpu", "H100 SXM5"), "--power and --gpu: both are set"),
        (("--gpus", "8"), "--gpus: says how many, and --gpu is not set"),
        (("--gpu", "H100"), "did you mean H100"),
        (("--gpu", "H100 SXM5", "--gpus", "0"), "--gpus: '0' is not allowed"),
        (("--zones", "FRR"), "--zones: 'FRR' is unknown"),
    ],
)
def test_wrong_usage(wattspan: Wattspan, words: tuple[str, ...], said: str) -> None:
    """It is 2, with one line that says what is allowed, before anybody is asked."""
    given = words if "--within" in words else (*words, "--duration", "1h", "--within", "6h")
    answer = wattspan("plan", *given)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert said in answer.err
