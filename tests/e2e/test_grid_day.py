"""A day with two live sources and two outages, replayed: real HTTP, every room, and what a scrape sees."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.grid_service import Answer, GridService, Request, serving
from tests.journal.test_run_book import Station
from wattspan.carbon_service import CarbonService
from wattspan.config import Config
from wattspan.journal.history import History
from wattspan.ledger.ledger import Tick
from wattspan.publish.exposition import Exposition
from wattspan.publish.span_content import closing_spans
from wattspan.report import as_markdown, report_of
from wattspan.runs import RunRecord
from wattspan.units import NS_PER_S, UJ_PER_KWH

TICK_S = 15
HOUR_S = 3600
FIRST_AT_S = 1600
"""On this machine's clock; by the wall it is 20:53:20, UTC."""

FIRST_DOWN = range(6 * HOUR_S, 11 * HOUR_S)
BOTH_DOWN = range(16 * HOUR_S, 20 * HOUR_S)
"""Seconds since the day's begin: the first source is away in both, the second in the later one alone."""

PUE = 1.25
SECRET = "the-token-of-the-day"


def first_g(wall_s: int) -> int:
    """Electricity Maps, by the hour."""
    return 200 + 100 * (wall_s // HOUR_S % 2) + wall_s // HOUR_S % 24


def second_g(wall_s: int) -> int:
    """Energy-Charts, by the quarter hour."""
    return 350 + wall_s // 900 % 4


class Day(Station):
    """A node whose carbon comes from two services on loopback."""

    def __init__(self, state: Path, service: GridService) -> None:
        super().__init__(state, at_s=FIRST_AT_S)
        self.service = service
        config = Config(
            node_name="node-a",
            grid_zone="FR",
            grid_pue=PUE,
            grid_providers=("electricitymaps", "energycharts"),
            grid_electricitymaps_url=f"{service.url}/v3",
            grid_energycharts_url=service.url,
            cost_price_per_kwh=0.2,
            cost_currency="EUR",
        )
        self.carbon = CarbonService(config, {}, state / "grid")
        self.carbon.settle(self.now.wall_ns, self.now.ns)
        self.exposition = Exposition(series_budget=3000, process=False)
        service.says("/v3/carbon-intensity/*", self._first)
        service.says("/co2eq", self._second)

    @property
    def since_s(self) -> float:
        """Seconds of the day that have passed."""
        return self.now_s - FIRST_AT_S

    def take(self, tick: Tick) -> None:
        """As `wattspan.app` does, with the fetcher's thread folded into the tick."""
        self.carbon.refresh(self.now.wall_ns, self.now.ns)
        self.books.take(tick, self.carbon.rates, self.carbon.state(self.now.wall_ns), self.carbon.news())

    def scrape(self) -> dict[str, float]:
        """Every sample by its series."""
        body = self.exposition.render(self.board.view, "").body.decode()
        lines = (line for line in body.splitlines() if not line.startswith("#"))
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    def _first(self, request: Request) -> Answer:
        if int(self.since_s) in FIRST_DOWN or int(self.since_s) in BOTH_DOWN:
            return Answer(status=503)
        if request.path.endswith("/forecast"):
            return Answer(status=403)
        hour_s = self.now.wall_ns // NS_PER_S // HOUR_S * HOUR_S
        rows = [
            {
                "zone": "FR",
                "carbonIntensity": first_g(begin_s),
                "datetime": datetime.fromtimestamp(begin_s, UTC).isoformat().replace("+00:00", ".000Z"),
                "emissionFactorType": "lifecycle",
                "isEstimated": False,
            }
            for begin_s in range(hour_s - 3 * HOUR_S, hour_s + 1, HOUR_S)
        ]
        if request.path.endswith("/history"):
            return Answer(json={"zone": "FR", "history": rows[:-1]})
        return Answer(json=rows[-1])

    def _second(self, _: Request) -> Answer:
        if int(self.since_s) in BOTH_DOWN:
            return Answer(json={"unix_seconds": [], "co2eq": [], "co2eq_forecast": [], "deprecated": False})
        quarter_s = self.now.wall_ns // NS_PER_S // 900 * 900
        begins = list(range(quarter_s - 4 * 900, quarter_s + 1, 900))
        return Answer(
            json={
                "unix_seconds": begins,
                "co2eq": [second_g(begin_s) for begin_s in begins],
                "co2eq_forecast": [None for _ in begins],
                "deprecated": False,
            }
        )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[GridService]:
    """Both services."""
    monkeypatch.setenv("WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.mark.slow
def test_a_day_with_two_outages(tmp_path: Path, service: GridService) -> None:
    """No series goes missing, no counter jumps, grams are those of the figure in force at each moment.

    The fallback is seen in metrics and told by the report, which says which source priced how much.
    """
    state = tmp_path / "state"
    day = Day(state, service)
    day.begin("day", nodes_expected=1, total_steps=100)
    expected_g = 0.0
    per_provider_uj: dict[str, float] = {}
    levels: list[int] = []
    before: dict[str, float] = {}
    first_series: set[str] = set()
    for number in range(24 * HOUR_S // TICK_S):
        day.watts = 300 + 200 * (number % 7 < 3)
        used_j = TICK_S * day.watts
        day.tick(TICK_S)
        state_now = day.board.view.grid
        assert state_now is not None
        assert state_now.intensity is not None, f"nothing in force after {day.since_s} s"
        levels.append(state_now.fallback_level)
        if number:  # the first tick is the baseline
            wall_s = day.now.wall_ns // NS_PER_S
            expected_g += sum(
                used_j / TICK_S / 3.6e6 * PUE * _g_at(day, second)
                for second in range(wall_s - TICK_S, wall_s)
            )
            provider = state_now.intensity.provider
            per_provider_uj[provider] = per_provider_uj.get(provider, 0) + used_j * 1e6
        if number % 4:
            continue
        now = day.scrape()
        for series, value in before.items():
            if "_total" in series:
                assert now[series] >= value, series
        # Watts times seconds times the dirtiest figure bounds what a minute may add.
        grams = 'wattspan_run_co2e_grams_total{basis="lifecycle",part="operational",run_id="day"}'
        if grams in before:
            assert now[grams] - before[grams] <= 540 * 60 / 3.6e6 * PUE * 500
        if number == 20:
            first_series = set(now)
        missing = {s for s in first_series - set(now) if not _says_validity(s)}
        assert not missing, f"after {day.since_s} s"
        before = now

    # The table, the first source, and in the first outage the second, once two hours were held over.
    # In the other outage hours are held for longer than the quarters of the second, so the table follows.
    changes = [level for level, last in zip(levels, [None, *levels], strict=False) if level != last]
    assert changes == [2, 0, 1, 0, 2, 1, 0]
    day.end("day")
    day.tick(TICK_S)
    (record,) = History(state).attempts("day")
    gpu_grams = sum(
        value for series, value in day.scrape().items() if series.startswith("wattspan_gpu_co2e_grams_total")
    )
    assert gpu_grams == pytest.approx(expected_g + _last_tick_g(day), rel=1e-9)
    _shares_are_told(record, per_provider_uj)
    assert SECRET not in repr(closing_spans(record, hub=False))
    assert SECRET not in "".join(path.read_text() for path in (state / "grid").iterdir())
    assert len(service.asked("/v3/carbon-intensity/latest")) < 80
    assert len(service.asked("/v3/carbon-intensity/forecast")) <= 2, "a plan without forecasts is asked again"


def _g_at(day: Day, wall_s: int) -> float:
    """The truth, from the services' own tables and the provider that was in force."""
    intensity = day.carbon.rates.pricing.at(wall_s * NS_PER_S)
    assert intensity is not None
    told_s = wall_s
    if intensity.force_until_wall_ns is not None and intensity.valid_until_wall_ns is not None:
        told_s = min(wall_s, intensity.valid_until_wall_ns // NS_PER_S - 1)  # held
    match intensity.provider:
        case "electricitymaps":
            return first_g(told_s)
        case "energycharts":
            return second_g(told_s)
    assert intensity.provider == "static"
    return 41.44


def _last_tick_g(day: Day) -> float:
    wall_s = day.now.wall_ns // NS_PER_S
    return sum(day.watts / 3.6e6 * PUE * _g_at(day, second) for second in range(wall_s - TICK_S, wall_s))


def _says_validity(series: str) -> bool:
    """The carried table holds for all time and has no such moments; a silent source has no figure."""
    return re.match(r"wattspan_grid_(valid_\w+|fetched|provider)_", series) is not None


def _shares_are_told(record: RunRecord, per_provider_uj: dict[str, float]) -> None:
    energy_uj = sum(record.totals.energy_uj.values())
    assert sum(factor.energy_uj for factor in record.factors) == energy_uj
    assert math.fsum(f.co2e_g for f in record.factors) == pytest.approx(record.totals.co2e_g, rel=1e-9)
    for factor in record.factors:
        grams = factor.energy_uj / UJ_PER_KWH * factor.pue * factor.g_per_kwh
        assert grams == pytest.approx(factor.co2e_g, rel=1e-9)
    by_provider: dict[str, int] = {}
    for factor in record.factors:
        by_provider[factor.provider] = by_provider.get(factor.provider, 0) + factor.energy_uj
    assert by_provider.keys() == per_provider_uj.keys() == {"electricitymaps", "energycharts", "static"}
    total_uj = sum(per_provider_uj.values())
    for provider, priced_uj in by_provider.items():
        assert priced_uj / energy_uj == pytest.approx(per_provider_uj[provider] / total_uj, abs=0.002)
    text = as_markdown.text(report_of(record, [0], record.ended_wall_ns or 0, "1"))
    for source in ("Electricity Maps", "Fraunhofer ISE", "Ember"):
        assert source in text, source
    assert SECRET not in text
