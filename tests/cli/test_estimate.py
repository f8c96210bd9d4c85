"""``wattspan estimate``: what its users see, and what is refused."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Wattspan
from tests.report.samples import simple
from wattspan.carbon.countries import find_country
from wattspan.carbon.embodied import YEAR_NS
from wattspan.journal import Journal, KeptRun
from wattspan.runs import Run, RunRecord, RunTotals
from wattspan.units import NS_PER_S, UJ_PER_J

H100 = "NVIDIA H100 80GB HBM3"
HOUR_NS = 3600 * NS_PER_S
DAY = ("--gpu", H100, "--gpus", "8", "--hours", "24")
FIGURES = ("energy_kwh", "facility_energy_kwh", "operational_co2e_grams", "embodied_co2e_grams", "cost")


def asked(wattspan: Wattspan, *words: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON form, of a question that has an answer."""
    answer = wattspan("estimate", "--format", "json", *words, env=env)
    assert (answer.code, answer.err) == (0, "")
    document: dict[str, Any] = json.loads(answer.out)
    return document


def test_the_text_says_all_that_counts(wattspan: Wattspan) -> None:
    """Figures with ranges, that TDP is a ceiling, what is assumed, what is left out, and the sources."""
    answer = wattspan("estimate", *DAY, "--zone", "FR")
    assert (answer.code, answer.err) == (0, "")
    out = answer.out
    assert out.startswith("8 x H100 SXM5 for 24 h: 192 GPU-hours\n\n")
    assert re.search(r"^ +estimate +low +high$", out, re.MULTILINE)
    assert re.search(r"^energy \(ceiling\) +134 kWh +80.6 kWh +134 kWh$", out, re.MULTILINE)
    assert re.search(r"^operational CO2e +[\d.]+ kg +[\d.]+ kg +[\d.]+ kg$", out, re.MULTILINE)
    assert re.search(r"^embodied CO2e +898 g +632 g +1.28 kg$", out, re.MULTILINE)
    assert re.search(r"^cost +- +- +-$", out, re.MULTILINE)
    assert "TDP of 700 W, computing all the time: a ceiling;" in out
    assert "CPUs, memory and disks of the hosts" in out
    assert "PUE is not known and counts as 1" in out
    assert "Ember (2026), with major processing by Our World in Data. CC BY 4.0." in out
    assert "NVIDIA HGX H100 Product Carbon Footprint Summary" in out
    assert max(map(len, out.splitlines())) <= 96


def test_the_json_form(wattspan: Wattspan) -> None:
    """Plain numbers under the contract's names, each with its range and method."""
    document = asked(wattspan, *DAY, "--zone", "FR", "--pue", "1.2", "--price", "0.25", "--currency", "EUR")
    assert document["schema"] == "wattspan.estimate/1"
    assert document["energy_kwh"] == pytest.approx(8 * 24 * 0.7)
    assert document["facility_energy_kwh"] == pytest.approx(8 * 24 * 0.7 * 1.2)
    france = find_country("FR")
    assert france is not None
    grams = 8 * 24 * 0.7 * 1.2 * (france.g_per_kwh or 0)
    assert document["operational_co2e_grams"] == pytest.approx(grams)
    assert document["embodied_co2e_grams"] == pytest.approx(8 * 164_000 * 24 * HOUR_NS / (4 * YEAR_NS))
    assert document["cost"] == pytest.approx(8 * 24 * 0.7 * 1.2 * 0.25)
    assert document["currency"] == "EUR"
    for name in FIGURES:
        assert document[f"{name}_low"] <= document[name] <= document[f"{name}_high"], name
    assert document["missing"] == {}
    assert set(document["method"]) == set(FIGURES)
    assert document["inputs"]["gpu"] == "H100 SXM5"
    assert document["inputs"]["grid_zone"] == "FR"
    assert any("Ember" in line for line in document["sources"])
    assert document["assumptions"]
    assert document["not_included"]


def test_what_cannot_be_said_is_null_with_a_reason(wattspan: Wattspan) -> None:
    """No price and no published footprint: null, a null range, and why; the rest stands."""
    document = asked(wattspan, "--gpu", "NVIDIA H200", "--gpus", "1", "--hours", "1")
    for name in ("cost", "embodied_co2e_grams"):
        assert document[name] is document[f"{name}_low"] is document[f"{name}_high"] is None
        assert name not in document["method"]
    assert document["missing"] == {
        "cost": "no price is known; give --price, or set cost.price-per-kwh",
        "embodied_co2e_grams": ("nothing is published of making exactly a H200 SXM; set embodied.gpu-kg"),
    }
    assert document["energy_kwh"] == pytest.approx(0.7)


def test_settings_stand_in_for_flags(wattspan: Wattspan) -> None:
    """PUE, intensity, price and embodied carbon come from the settings that the daemon has."""
    env = {
        "WATTSPAN_GRID_PUE": "1.5",
        "WATTSPAN_GRID_INTENSITY": "100",
        "WATTSPAN_COST_PRICE_PER_KWH": "0.5",
        "WATTSPAN_COST_CURRENCY": "CHF",
        "WATTSPAN_EMBODIED_GPU_KG": "200",
        "WATTSPAN_EMBODIED_HOST_KG": "1600",
        "WATTSPAN_EMBODIED_LIFETIME_YEARS": "5",
    }
    document = asked(wattspan, *DAY, env=env)
    kwh = 8 * 24 * 0.7 * 1.5
    assert document["operational_co2e_grams"] == pytest.approx(kwh * 100)
    assert document["cost"] == pytest.approx(kwh * 0.5)
    assert document["currency"] == "CHF"
    assert document["embodied_co2e_grams"] == pytest.approx(
        (8 * 200_000 + 1_600_000) * 24 * HOUR_NS / (5 * YEAR_NS)
    )
    assert not any("PUE" in line for line in document["assumptions"])
    given = asked(
        wattspan, *DAY, "--pue", "1", "--intensity", "50", "--price", "2", "--currency", "EUR", env=env
    )
    assert given["operational_co2e_grams"] == pytest.approx(8 * 24 * 0.7 * 50)
    assert (given["cost"], given["currency"]) == (pytest.approx(8 * 24 * 0.7 * 2), "EUR")


def test_a_zone_goes_before_every_setting_of_the_place(wattspan: Wattspan) -> None:
    """Elsewhere is elsewhere: the configured region, intensity and providers are those of this node."""
    env = {
        "WATTSPAN_GRID_REGION": "europe-west9",
        "WATTSPAN_GRID_INTENSITY": "100",
        "WATTSPAN_GRID_PROVIDERS": "carbonintensity",
    }
    document = asked(wattspan, *DAY, "--zone", "PL", env=env)
    poland = find_country("PL")
    assert poland is not None
    assert document["inputs"]["grams_per_kwh"] == poland.g_per_kwh
    assert document["inputs"]["grid_zone"] == "PL"


def test_an_intensity_that_is_given_is_exact(wattspan: Wattspan) -> None:
    """A question's own figure adds no range; a yearly mean does."""
    given = asked(wattspan, *DAY, "--intensity", "41.44")
    yearly = asked(wattspan, *DAY, "--zone", "FR")
    assert given["operational_co2e_grams"] == given["operational_co2e_grams_high"]
    assert given["inputs"]["grid_zone"] is None
    assert yearly["operational_co2e_grams_high"] > 1.3 * yearly["operational_co2e_grams"]


def test_measured_power_replaces_the_ceiling(wattspan: Wattspan) -> None:
    """A measured mean is taken also for a card that the table lacks, and has the range of sensors."""
    document = asked(
        wattspan, "--gpu", "Cerebras WSE-3", "--hours", "10", "--power", "5000", "--host-power", "1000"
    )
    assert document["energy_kwh"] == pytest.approx(60)
    assert document["energy_kwh_low"] == pytest.approx(57.5)
    assert "ceiling" not in document["method"]["energy_kwh"]
    assert "ceiling" not in wattspan("estimate", "--gpu", H100, "--hours", "1", "--power", "500").out
    assert not any("CPUs" in line for line in document["not_included"])
    assert "Cerebras WSE-3" in document["missing"]["embodied_co2e_grams"]


def test_utilization(wattspan: Wattspan) -> None:
    """A GPU that waits draws its idle share, and the text says so."""
    half = asked(wattspan, *DAY, "--utilization", "0.5")
    assert half["energy_kwh"] == pytest.approx(8 * 24 * 0.7 * 0.575)
    assert "computing 50 % of the time, 15 % of it while idle: a ceiling" in half["method"]["energy_kwh"]
    assert not any("all the time" in line for line in half["assumptions"])


def test_hours_from_a_model(wattspan: Wattspan) -> None:
    """Parameters, tokens and MFU give the hours, by the GPU's peak."""
    words = ("--gpu", "H100 SXM5", "--gpus", "1000", "--params", "7e9", "--tokens", "1e12", "--mfu", "0.4")
    document = asked(wattspan, *words)
    assert document["inputs"]["hours"] == pytest.approx(6 * 7e21 / (1000 * 989e12 * 0.4 * 3600))
    out = wattspan("estimate", *words).out
    assert "6 x 7e9 parameters x 1e12 tokens, at 40 % of 989 TFLOP/s (bf16, dense)" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hours", "1"], "the following arguments are required: --gpu"),
        (["--gpu", "T4"], "how long? Give --hours, or --params, --tokens and --mfu"),
        (["--gpu", "T4", "--params", "1e9", "--mfu", "0.4"], "how long? Give --hours"),
        (["--gpu", "T4", "--hours", "1", "--mfu", "0.4"], "--hours and --mfu: both say how long"),
        (["--gpu", "H100", "--hours", "1"], "did you mean H100 PCIe, H100 NVL, H100 SXM5?"),
        (["--gpu", "H100", "--hours", "1"], "give --power or --project"),
        (["--gpu", "H100\x1b[2J", "--hours", "1"], r"--gpu: 'H100\x1b[2J' is no single card of the table"),
        (["--gpu", "GH200", "--hours", "1"], "GH200 has no rated power in the table"),
        (["--gpu", "A40", "--params", "1e9", "--tokens", "1e9", "--mfu", "1"], "no peak FLOP/s of A40"),
        (["--gpu", "Q", "--power", "9", "--params", "1", "--tokens", "1", "--mfu", "1"], "give --hours, and"),
        (["--gpu", "T4", "--hours", "1", "--power", "9", "--project", "p"], "--power and --project: both"),
        (["--gpu", "T4", "--hours", "1", "--power", "9", "--utilization", "1"], "--power and --utilization"),
        (["--gpu", "T4", "--hours", "1", "--zone", "FR", "--intensity", "9"], "--zone and --intensity"),
        (["--gpu", "T4", "--hours", "1", "--currency", "EUR"], "--currency: there is no --price"),
        (["--gpu", "T4", "--hours", "1", "--zone", "Atlantis"], "--zone: 'Atlantis' is unknown"),
        (["--gpu", "T4", "--hours", "1", "--zone", "eu-west-3"], "--zone: 'eu-west-3' is a cloud region"),
        (["--gpu", "T4", "--hours", "nan"], "'nan' is not allowed; allowed: a number from 0.0001"),
        (["--gpu", "T4", "--hours", "-1"], "argument --hours:"),
        (["--gpu", "T4", "--hours", "0"], "'0' is not allowed"),
        (["--gpu", "T4", "--hours", "inf"], "'inf' is not allowed"),
        (["--gpu", "T4", "--hours", "1", "--gpus", "0"], "a whole number from 1 to 10000000"),
        (["--gpu", "T4", "--hours", "1", "--utilization", "85"], "a number from 0 to 1, a share of 1"),
        (["--gpu", "T4", "--hours", "1", "--pue", "0.9"], "a number from 1 to 5"),
        (["--gpu", "T4", "--hours", "1", "--intensity", "0.4"], "a number from 1 to 2000"),
        (
            ["--gpu", "T4", "--hours", "1", "--formt", "json"],
            "unknown flag '--formt'; did you mean --format?",
        ),
        (["--gpu", "T4", "--hours", "1", "more"], "unexpected argument 'more'"),
    ],
)
def test_wrong_usage(wattspan: Wattspan, words: list[str], said: str) -> None:
    """A question that contradicts itself or has no answer: one line that says what to do, exit code 2."""
    answer = wattspan("estimate", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("wattspan: error: ")
    assert answer.err.count("\n") == 1
    assert said in answer.err


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The journal that the command looks for; a daemon holds it open."""
    opened = Journal.open(tmp_path / "state", "boot-1")
    yield opened
    opened.close(clean=True)


def past(run_id: str, watts: float, gpu_hours: float = 16.0, **changes: Any) -> RunRecord:
    """An ended run of the project ``nlp`` on two H100s that drew a steady power on each."""
    return replace(
        simple(),
        run=Run(run_id, project="nlp"),
        gpus={"GPU-1": H100, "GPU-2": H100},
        totals=RunTotals(
            energy_uj={("gpu", "exclusive"): round(watts * gpu_hours * 3600 * UJ_PER_J)},
            gpu_ns=round(gpu_hours * HOUR_NS),
        ),
        **changes,
    )


def test_own_past_runs(wattspan: Wattspan, journal: Journal) -> None:
    """Joules per GPU-hour of the project's ended runs on such GPUs, how many they were, and their spread."""
    other = replace(past("c", 100.0), run=Run("c", project="vision"))
    elsewhere = replace(past("d", 100.0), gpus={"GPU-1": "NVIDIA H200"})
    going_on = replace(past("e", 100.0), ended_wall_ns=None, result=None)
    records = [past("a", 500.0), past("b", 600.0), other, elsewhere, going_on]
    journal.commit([], [], runs=[KeptRun(record) for record in records])
    words = ("--gpu", "H100 SXM5", "--gpus", "8", "--hours", "10", "--project", "nlp", "--intensity", "100")
    document = asked(wattspan, *words)
    assert document["energy_kwh"] == pytest.approx(44)
    assert document["energy_kwh_low"] == pytest.approx(80 * 0.5 * 0.95)
    assert document["energy_kwh_high"] == pytest.approx(80 * 0.6 * 1.05)
    method = document["method"]["energy_kwh"]
    assert (
        "2 ended attempts of project nlp on such GPUs of this node, 32.0 GPU-hours at 1,980,000 J (gpu)"
        in method
    )
    assert "500 W to 600 W" in method
    assert "ceiling" not in method
    out = wattspan("estimate", *words).out
    assert "2 ended attempts of project nlp" in out


def test_past_runs_with_their_host(wattspan: Wattspan, journal: Journal) -> None:
    """Where the host was measured it is in the figure, and adding it once more is refused."""
    record = past("a", 500.0)
    host_uj = {("cpu", "cpu_time"): 16 * 3600 * 50 * UJ_PER_J}
    totals = replace(record.totals, energy_uj={**record.totals.energy_uj, **host_uj})
    journal.commit([], [], runs=[KeptRun(replace(record, totals=totals))])
    words = ("--gpu", H100, "--hours", "1", "--project", "nlp")
    document = asked(wattspan, *words)
    assert document["energy_kwh"] == pytest.approx(0.55)
    assert not any("CPUs" in line for line in document["not_included"])
    refused = wattspan("estimate", *words, "--host-power", "50")
    assert refused.code == 2
    assert "past runs of project 'nlp' have their host in them" in refused.err


def test_no_past_run_is_said_and_nothing_is_made_up(wattspan: Wattspan, journal: Journal) -> None:
    """Without a run to go by, what rests on power is null with the reason, and the answer is no."""
    journal.commit([], [], runs=[KeptRun(past("a", 500.0))])
    words = ("estimate", "--gpu", "H100 NVL", "--hours", "1", "--project", "nlp", "--price", "1")
    answer = wattspan(*words, "--format", "json")
    assert (answer.code, answer.err) == (1, "")
    document = json.loads(answer.out)
    for name in ("energy_kwh", "facility_energy_kwh", "operational_co2e_grams", "cost"):
        assert document[name] is None
        assert document["missing"][name].startswith("no ended run of project 'nlp' is known on this node")
    text = wattspan(*words)
    assert text.code == 1
    assert re.search(r"^energy +- +- +-$", text.out, re.MULTILINE)
    assert "no ended run of project 'nlp'" in text.out


def test_no_journal(wattspan: Wattspan) -> None:
    """Past runs without a journal cannot be reached."""
    answer = wattspan("estimate", "--gpu", "T4", "--hours", "1", "--project", "nlp")
    assert answer.code == 3
    assert "there is no journal in" in answer.err


def test_it_needs_only_the_base_install(wattspan: Wattspan, tmp_path: Path) -> None:
    """The daemon's extras are not asked for."""
    site = tmp_path / "site"
    site.mkdir()
    for name in ("urllib3", "yaml", "prometheus_client", "uvicorn", "opentelemetry"):
        (site / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name='{name}')"
        )
    assert asked(wattspan, *DAY, env={"PYTHONPATH": str(site)})["energy_kwh"] > 0


def forecast_file(path: Path, hours: int) -> None:
    """A grid that is at 100 g/kWh for an hour from now, and at 300 for the rest."""
    begin = datetime.now(UTC) - timedelta(minutes=1)
    moments = [begin + timedelta(hours=count) for count in range(hours + 1)]
    intervals = [
        {
            "from": since.isoformat(),
            "until": until.isoformat(),
            "grams_per_kwh": 100 if count == 0 else 300,
            "estimated": count > 0,
        }
        for count, (since, until) in enumerate(pairwise(moments))
    ]
    document = {"signal": "average", "basis": "lifecycle", "unit": "g/kWh", "intervals": intervals}
    path.write_text(json.dumps(document))


def test_a_forecast_that_covers_the_run_is_averaged(wattspan: Wattspan, tmp_path: Path) -> None:
    """Three hours that begin now are priced at their mean, more surely than a yearly figure."""
    forecast_file(tmp_path / "grid.json", 8)
    env = {"WATTSPAN_GRID_PROVIDERS": "file", "WATTSPAN_GRID_FILE_PATH": str(tmp_path / "grid.json")}
    three = asked(wattspan, "--gpu", H100, "--hours", "3", env=env)
    assert three["inputs"]["grams_per_kwh"] == pytest.approx((100 + 2 * 300) / 3, rel=0.05)
    assert "the mean of the forecast over those hours" in three["method"]["operational_co2e_grams"]
    assert not any("One intensity" in line for line in three["assumptions"])
    assert three["inputs"]["grams_per_kwh_high"] < 1.2 * three["inputs"]["grams_per_kwh"]


def test_a_run_beyond_the_forecast_has_the_figure_of_now(wattspan: Wattspan, tmp_path: Path) -> None:
    """A forecast of eight hours says nothing of a week: the figure in force counts, and is said to."""
    forecast_file(tmp_path / "grid.json", 8)
    env = {"WATTSPAN_GRID_PROVIDERS": "file", "WATTSPAN_GRID_FILE_PATH": str(tmp_path / "grid.json")}
    week = asked(wattspan, "--gpu", H100, "--hours", "168", env=env)
    assert week["inputs"]["grams_per_kwh"] == 100
    assert "the figure in force now" in week["method"]["operational_co2e_grams"]
    assert "One intensity for all hours of the run." in week["assumptions"]
