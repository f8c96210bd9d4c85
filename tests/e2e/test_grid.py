"""Live carbon figures through the real daemon: what a scrape, the API, the log and a restart show."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.daemon import PATIENCE_S, Daemon, clean_environment
from tests.e2e.metering import THREE_CARDS
from tests.fakes import grid_answers
from tests.fakes.grid_answers import Point
from tests.fakes.grid_service import Answer, GridService, Request, serving
from tests.fakes.nvml import FakeNvml
from wattspan.carbon.feed import START_SPREAD_NS, _phase
from wattspan.units import NS_PER_S

SECRET = "a-token-that-nobody-may-see"
STOP_S = 5.0


def early(provider: str) -> str:
    """The name of a node whose first question goes out within half a second."""
    names = (f"node-{number}" for number in count())
    return next(name for name in names if _phase(name, provider) * START_SPREAD_NS < NS_PER_S / 2)


def half_hours(_: Request) -> Answer:
    """Great Britain: this half hour at 150 g, then up by ten each."""
    begin_s = int(time.time()) // 1800 * 1800
    rows = [Point(begin_s + 1800 * n, 150 if n < 2 else None, 150 + 10 * n) for n in range(-1, 97)]
    return Answer(json=grid_answers.carbonintensity(rows))


@pytest.fixture
def service() -> Iterator[GridService]:
    """The service."""
    with serving() as running:
        yield running


def daemon(
    tmp_path: Path, *flags: str, node: str, env: Mapping[str, str] | None = None, fake: FakeNvml | None = None
) -> Daemon:
    """A daemon in Great Britain."""
    return Daemon(
        fake, tmp_path / "state", "--grid.zone", "GB", "--grid.pue", "1.5", "--node.name", node, *flags,
        env={"NO_PROXY": "127.0.0.1", **(env or {})},
    )  # fmt: skip


def test_the_grid_of_this_half_hour(tmp_path: Path, service: GridService) -> None:
    """In force, its age, its provider, the hours ahead; after a kill it is known without a question."""
    service.says("/intensity/*", half_hours)
    node = early("carbonintensity")
    flags = ("--grid.providers", "carbonintensity", "--grid.carbonintensity.url", service.url)
    with daemon(tmp_path, *flags, node=node) as wattspan:
        wattspan.wait_ready()
        seen = wattspan.until(
            lambda s: s.find("wattspan_grid_intensity_grams_per_kwh", grid_zone="GB") is not None, "a figure"
        )
        labels = {"grid_zone": "GB", "signal": "average", "basis": "direct"}
        now_s = time.time()
        assert seen.value("wattspan_grid_intensity_grams_per_kwh", **labels) == 150
        assert seen.value("wattspan_grid_intensity_estimated", **labels) == 0
        assert seen.value("wattspan_grid_fallback_level", **labels) == 0
        assert seen.value("wattspan_grid_valid_from_timestamp_seconds", **labels) <= now_s
        assert seen.value("wattspan_grid_valid_until_timestamp_seconds", **labels) > now_s - 10
        assert seen.value("wattspan_grid_fallback_timestamp_seconds", **labels) >= now_s + 3600
        assert abs(seen.value("wattspan_grid_fetched_timestamp_seconds", **labels) - now_s) < 60
        assert seen.value("wattspan_grid_provider_in_use", provider="carbonintensity") == 1
        ahead = seen.value("wattspan_grid_forecast_intensity_grams_per_kwh", horizon="24h")
        assert ahead in (150 + 10 * 47, 150 + 10 * 48, 150 + 10 * 49)
        assert 150 <= seen.value("wattspan_grid_greenest_window_intensity_grams_per_kwh", duration="1h") < 180
        assert seen.value("wattspan_grid_fetch_failures_total", reason="timeout") == 0

        grid = json.loads(wattspan.get("/api/v1/grid").text)
        assert grid["intensity"]["provider"] == "carbonintensity"
        forecast = json.loads(wattspan.get("/api/v1/grid/forecast").text)
        assert forecast["forecast"] is True
        assert len(forecast["intervals"]) > 90

        asked = len(service.requests)
        service.says("/intensity/*", Answer(status=500))
        wattspan.kill()
        wattspan.start()
        wattspan.wait_ready()
        again = wattspan.metrics()
        assert again.value("wattspan_grid_intensity_grams_per_kwh", **labels) == 150
        assert wattspan.after(3)
        assert len(service.requests) == asked
        assert wattspan.stop()[0] == 0


def test_a_direct_source_that_is_away_leaves_energy_unpriced(tmp_path: Path, service: GridService) -> None:
    """No figure is no grams: counted as unpriced, with the level and the reason in the metrics; one line in
    the log."""
    service.says("/intensity/*", Answer(status=503))
    node = early("carbonintensity")
    flags = ("--grid.providers", "carbonintensity", "--grid.carbonintensity.url", service.url)
    with FakeNvml(THREE_CARDS, tmp_path) as fake, daemon(tmp_path, *flags, node=node, fake=fake) as wattspan:
        wattspan.wait_ready()
        seen = wattspan.until(
            lambda s: (
                (s.find("wattspan_grid_fetch_failures_total", reason="server") or 0) > 0
                and s.value("wattspan_unpriced_energy_joules_total") > 0
            ),
            "a failure",
        )
        assert seen.find("wattspan_grid_intensity_grams_per_kwh") is None
        assert seen.value("wattspan_grid_fallback_level", grid_zone="GB", basis="direct") == 1
        assert not seen.series("wattspan_node_co2e_grams_total")
        assert wattspan.stderr.count("carbonintensity") == 1
        assert "Traceback" not in wattspan.stderr


@pytest.mark.alone
def test_a_source_that_hangs_costs_no_tick_and_no_stop(tmp_path: Path) -> None:
    """While a question is out: ticks go on, and SIGTERM ends it in time with a clean stop."""
    node = early("energycharts")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(16)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        flags = ("--grid.providers", "energycharts", "--grid.energycharts.url", url)
        with daemon(tmp_path, *flags, node=node) as wattspan:
            wattspan.wait_ready()
            taken, _ = deaf.accept()  # the question is out
            with taken:
                seen = wattspan.after(3)
                assert seen.value("wattspan_grid_provider_in_use", provider="static") == 1
                assert seen.value("wattspan_grid_fallback_level", grid_zone="GB") == 1
                code, took_s = wattspan.stop()
                assert code == 0
                assert took_s < STOP_S


def command(wattspan: Daemon, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of a user beside the daemon, who has set nothing."""
    env = {**clean_environment(tmp_path), "WATTSPAN_SOCKET": str(wattspan.socket_path)}
    done = subprocess.run(
        [sys.executable, "-m", "wattspan", *words],
        env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def test_commands_beside_a_daemon_say_what_it_says(tmp_path: Path, service: GridService) -> None:
    """Zone, intensity, PUE, forecast and price are those of its API, and no service is asked once more."""
    service.says("/intensity/*", half_hours)
    node = early("carbonintensity")
    flags = ("--grid.providers", "carbonintensity", "--grid.carbonintensity.url", service.url)
    price = ("--cost.price-per-kwh", "0.25", "--cost.currency", "EUR")
    with daemon(tmp_path, *flags, *price, node=node) as wattspan:
        wattspan.wait_ready()
        wattspan.until(
            lambda s: s.find("wattspan_grid_provider_in_use", provider="carbonintensity"), "a figure"
        )
        asked = len(service.requests)
        by = f"by the daemon at {wattspan.socket_path}"
        for words, path in (((), "/api/v1/grid"), (("--forecast",), "/api/v1/grid/forecast")):
            said = json.loads(command(wattspan, tmp_path, "grid", *words, "--format", "json").stdout)
            assert said.pop("answered") == by
            told = json.loads(wattspan.get(path).text)
            for document in (said, told):  # what moves with each look
                document.pop("made_at", None), document.pop("greenest", None), document.pop("horizons", None)
            assert said == told
        text = command(wattspan, tmp_path, "grid").stdout
        assert "\nPUE        1.5\n" in text
        assert f"\nanswered   {by}\n" in text
        words = ("plan", "--duration", "1h", "--within", "9h", "--power", "1000", "--format", "json")
        plan = json.loads(command(wattspan, tmp_path, *words).stdout)
        assert (plan["answered"], plan["pue_ratio"], plan["currency"]) == (by, 1.5, "EUR")
        assert plan["places"][0]["provider"] == "carbonintensity"
        assert plan["now"]["cost"] == pytest.approx(1.5 * 0.25)
        words = ("estimate", "--gpu", "H100 SXM5", "--hours", "1", "--power", "500", "--format", "json")
        estimate = json.loads(command(wattspan, tmp_path, *words).stdout)
        assert (estimate["answered"], estimate["inputs"]["pue"]) == (by, 1.5)
        assert estimate["inputs"]["grid_zone"] == "GB"
        assert estimate["cost"] == pytest.approx(0.5 * 1.5 * 0.25)
        assert len(service.requests) == asked
        own = json.loads(command(wattspan, tmp_path, "grid", "--grid.zone", "FR", "--format", "json").stdout)
        assert own["answered"] == "by this command's settings grid.zone"
        assert own["intensity"]["grid_zone"] == "FR"


@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_refused_token_is_told_and_never_shown(tmp_path: Path, service: GridService, where: str) -> None:
    """401 names the setting's provider and no secret: in the log, metrics, API, the folder, the command's
    answers."""
    service.says("/v3/*", Answer(status=401, body=f"no such token: {SECRET}".encode()))
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    flags = ["--grid.providers", "electricitymaps", "--grid.electricitymaps.url", f"{service.url}/v3"]
    env = {"WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN": SECRET}
    if where == "file":
        flags += ["--grid.electricitymaps.token-file", os.fspath(token)]
        env = {}
    node = early("electricitymaps")
    with daemon(tmp_path, *flags, "--log.level", "debug", node=node, env=env) as wattspan:
        wattspan.wait_ready()
        seen = wattspan.until(
            lambda s: (s.find("wattspan_grid_fetch_failures_total", reason="refused") or 0) > 0, "the refusal"
        )
        said = wattspan.until_said("electricitymaps: refused: .*")[0]
        assert "the token is missing, wrong, or not for this zone" in said
        assert service.asked("/v3/*")[0].headers["auth-token"] == SECRET
        pages = [
            seen.text,
            *(wattspan.get(path).text for path in ("/", "/api/v1/grid", "/api/v1/grid/forecast")),
        ]
        wattspan.stop()
        kept = [
            path.read_bytes().decode(errors="replace")
            for path in (tmp_path / "state").rglob("*")
            if path.is_file()
        ]
    for text in (*pages, *kept, wattspan.stderr):
        assert SECRET not in text
    assert len(service.asked("/v3/*")) == 1, "nobody asks again within the hour"
