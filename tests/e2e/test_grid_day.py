"""A day with two live sources and two outages, replayed: real HTTP, every room, and what a scrape sees."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.grid_service import Answer, GridService, Request, serving
from tests.journal.test_run_book import WALL_OFFSET_NS, Station
from wattspan import carbon_service
from wattspan.carbon.http import Http
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
HOUR_S, QUARTER_S = 3600, 900
FIRST_AT_S = 1600
"""On this machine's clock; by the wall it is 20:53:20, UTC."""

FIRST_DOWN = range(3 * HOUR_S, 9 * HOUR_S)
BOTH_DOWN = range(13 * HOUR_S, 22 * HOUR_S)
"""Seconds since the day's begin: the first source is away in both, the second in the later one alone."""

HELD_S = (4 * HOUR_S, 7 * HOUR_S)
"""So long a figure of the first and of the second stands in after its end, as the README has it."""

RETRY = 1.5
"""So many periods pass at most until a source that failed is asked again: one, with jitter."""

STATIC_G = 41.44
PUE = 1.25
PROVIDERS = ("electricitymaps", "energycharts", "static")
"""By level."""

PATIENCE_S = 120.0
"""For an answer of a service of this process: a machine that is busy must not make an outage."""

SECRET = "the-token-of-the-day"


def first_g(wall_s: int) -> int:
    """Electricity Maps, by the hour."""
    return 200 + 100 * (wall_s // HOUR_S % 2) + wall_s // HOUR_S % 24


def second_g(wall_s: int) -> int:
    """Energy-Charts, by the quarter hour."""
    return 350 + wall_s // 900 % 4


class Day(Station):
    """A node whose carbon comes from two services on loopback.

    Attributes:
        told: hours of the first service and quarters of the second, since 1970, that each has spoken of.
    """

    def __init__(self, state: Path, service: GridService) -> None:
        super().__init__(state, at_s=FIRST_AT_S)
        self.service = service
        self.told: tuple[set[int], set[int]] = (set(), set())
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

    @property
    def wall_s(self) -> int:
        """Seconds since 1970."""
        return self.now.wall_ns // NS_PER_S

    def truth(self, wall_s: int) -> tuple[int, float]:
        """Which level prices a second, and its grams per kilowatt-hour.

        By the tables of the services, what each has told by now, and the rule of the hold: nothing of ours.
        """
        services = ((self.told[0], HOUR_S, first_g), (self.told[1], QUARTER_S, second_g))
        for level, (told, length_s, g_per_kwh) in enumerate(services):
            last = max((number for number in told if number * length_s <= wall_s), default=None)
            if last is not None and wall_s < (last + 1) * length_s + HELD_S[level]:
                return level, g_per_kwh(min(wall_s, (last + 1) * length_s - 1))
        return 2, STATIC_G

    def truth_g(self, used_j: float) -> float:
        """Grams of the energy of the last tick."""
        seconds = range(self.wall_s - TICK_S, self.wall_s)
        return sum(used_j / TICK_S / 3.6e6 * PUE * self.truth(second)[1] for second in seconds)

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
        hour_s = self.wall_s // HOUR_S * HOUR_S
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
        self.told[0].update(range(hour_s // HOUR_S - 3, hour_s // HOUR_S + 1))
        return Answer(json=rows[-1])

    def _second(self, _: Request) -> Answer:
        if int(self.since_s) in BOTH_DOWN:
            return Answer(json={"unix_seconds": [], "co2eq": [], "co2eq_forecast": [], "deprecated": False})
        quarter_s = self.wall_s // QUARTER_S * QUARTER_S
        begins = list(range(quarter_s - 4 * QUARTER_S, quarter_s + 1, QUARTER_S))
        self.told[1].update(begin_s // QUARTER_S for begin_s in begins)
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
    monkeypatch.setattr(carbon_service, "_pool", lambda: Http(PATIENCE_S))
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
    changes: list[tuple[float, int]] = []
    before: dict[str, float] = {}
    first_series: set[str] = set()
    for number in range(24 * HOUR_S // TICK_S):
        day.watts = 300 + 200 * (number % 7 < 3)
        used_j = TICK_S * day.watts
        day.tick(TICK_S)
        state_now = day.board.view.grid
        assert state_now is not None
        assert state_now.intensity is not None, f"nothing in force after {day.since_s} s"
        level, _ = day.truth(day.wall_s)
        assert state_now.fallback_level == level, f"after {day.since_s} s"
        assert state_now.intensity.provider == PROVIDERS[level]
        if not changes or changes[-1][1] != level:
            changes.append((day.since_s, level))
        if number:  # the first tick is the baseline
            expected_g += day.truth_g(used_j)
            provider = PROVIDERS[level]
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

    _levels_change_when_they_should(changes)
    day.end("day")
    day.tick(TICK_S)
    (record,) = History(state).attempts("day")
    gpu_grams = sum(
        value for series, value in day.scrape().items() if series.startswith("wattspan_gpu_co2e_grams_total")
    )
    assert gpu_grams == pytest.approx(expected_g + day.truth_g(TICK_S * day.watts), rel=1e-9)
    _shares_are_told(record, per_provider_uj)
    assert SECRET not in repr(closing_spans(record, hub=False))
    assert SECRET not in "".join(path.read_text() for path in (state / "grid").iterdir())
    assert len(service.asked("/v3/carbon-intensity/latest")) < 80
    assert len(service.asked("/v3/carbon-intensity/forecast")) <= 2, "a plan without forecasts is asked again"


def _levels_change_when_they_should(changes: list[tuple[float, int]]) -> None:
    """The table, the first source, and in each outage the second, once the first one's hold is over.

    In the other outage the quarters of the second are held to their end, too, and the table follows.
    Who of the two is back first is open: each is asked again by its own period and chance.
    """
    start_wall_s = WALL_OFFSET_NS // NS_PER_S + FIRST_AT_S

    def left_s(down: range, level: int = 0) -> int:
        """When the last stretch that a service told before an outage has been held to its end."""
        length_s = (HOUR_S, QUARTER_S)[level]
        end_s = ((start_wall_s + down.start) // length_s + 1) * length_s
        return end_s + HELD_S[level] - start_wall_s

    levels = [level for _, level in changes]
    moments = [moment_s for moment_s, _ in changes]
    assert levels in ([2, 0, 1, 0, 1, 2, 1, 0], [2, 0, 1, 0, 1, 2, 0])
    first_s, second_s, back_s, gone_s, both_gone_s = moments[1:6]
    assert first_s <= 60
    assert second_s == pytest.approx(left_s(FIRST_DOWN), abs=TICK_S)
    assert FIRST_DOWN.stop <= back_s <= FIRST_DOWN.stop + RETRY * HOUR_S
    assert gone_s == pytest.approx(left_s(BOTH_DOWN), abs=TICK_S)
    assert both_gone_s == pytest.approx(left_s(BOTH_DOWN, 1), abs=TICK_S)
    assert BOTH_DOWN.stop <= moments[-1] <= BOTH_DOWN.stop + RETRY * HOUR_S
    if len(levels) == 8:
        assert BOTH_DOWN.stop <= moments[6] <= BOTH_DOWN.stop + RETRY * QUARTER_S


def _says_validity(series: str) -> bool:
    """The carried table holds for all time and has no such moments; a silent source has no figure."""
    return re.match(r"wattspan_grid_(valid_\w+|fallback_timestamp|fetched|provider)_", series) is not None


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
