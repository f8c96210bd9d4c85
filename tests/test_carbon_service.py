"""Settings to figures: what is wired to what, and which settings stop the start."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import grid_answers
from tests.fakes.grid_service import Answer, serving
from wattspan.carbon_service import CarbonService
from wattspan.config import GRID_PROVIDERS, Config
from wattspan.errors import FETCH_REASONS, SetupError
from wattspan.model import Tally
from wattspan.units import NS_PER_S, UJ_PER_KWH

NOON_NS = 1_774_785_600 * NS_PER_S
BASE = Config(node_name="node-a", grid_zone="GB", grid_cloud_metadata="off")
SECRET = "hunter2-hunter2"


def made(**settings: object) -> CarbonService:
    """With these settings."""
    return CarbonService(replace(BASE, **settings), {})  # type: ignore[arg-type]


def test_every_provider_of_the_settings_has_a_module() -> None:
    """The names that may be written are those that can be made."""
    from wattspan.carbon import providers  # noqa: PLC0415 - beside what it is compared with

    assert GRID_PROVIDERS == providers.NAMES


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cost_price_per_kwh": 0.2}, "cost.price-per-kwh: set without cost.currency"),
        ({"cost_schedule": "0.2"}, "cost.schedule: set without cost.currency"),
        ({"cost_provider": "energycharts"}, "cost.provider: set without cost.currency"),
        ({"cost_currency": "EUR"}, "cost.currency: set without a price"),
        (
            {"cost_currency": "EUR", "cost_price_per_kwh": 0.2, "cost_schedule": "0.2"},
            "cost.schedule: cost.price-per-kwh is set, too",
        ),
        ({"grid_basis": "direct"}, "grid.basis: direct is wanted, and the figures at hand are average"),
        ({"grid_signal": "marginal"}, "grid.signal: marginal is wanted"),
        ({"grid_providers": ("carbonintensity",), "grid_basis": "lifecycle"}, "grid.basis: 'lifecycle'"),
        ({"grid_providers": ("carbonintensity", "energycharts")}, "share one signal and one basis"),
        ({"grid_providers": ("carbonintensity",), "grid_intensity": 50.0}, "share one signal and one basis"),
        ({"grid_providers": ("carbonintensity",), "grid_zone": "FR"}, "knows Great Britain alone"),
        ({"grid_providers": ("electricitymaps",)}, "grid.electricitymaps.token-file"),
        ({"grid_providers": ("prometheus",)}, "grid.prometheus."),
        ({"grid_providers": ("file",)}, "grid.file.path"),
        ({"grid_providers": ("peer",)}, "grid.peer.url"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_stop_the_start(settings: dict[str, object], says: str) -> None:
    """One line, which names the key."""
    with pytest.raises(SetupError) as refused:
        made(**settings)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_direct_chain_ends_in_unpriced_energy_and_a_lifecycle_one_in_the_table() -> None:
    """The carried table is lifecycle, and never stands in for direct figures."""
    for providers, priced in (((), True), (("energycharts",), True), (("carbonintensity",), False)):
        service = made(grid_providers=providers)
        service.settle(NOON_NS, 0)
        assert (service.state(NOON_NS).intensity is not None) == priced
        footprint = service.rates.footprint(UJ_PER_KWH, NOON_NS, NOON_NS + 1)
        assert (footprint.unpriced_uj == 0) == priced


def test_a_late_figure_is_the_first_choice_and_an_estimate() -> None:
    """France's quarter hours are an hour late: they price as estimates, hours before the chain steps down."""
    begin_s = NOON_NS // NS_PER_S - 2 * 3600
    with serving() as grid:
        grid.says_json("/api/*", grid_answers.eco2mix(grid_answers.points(begin_s, 15, 20, 21, 22, 23)))
        service = made(grid_zone="FR", grid_providers=("eco2mix",), grid_eco2mix_url=grid.url)
        service.settle(NOON_NS, 0)
        service.refresh(NOON_NS, 60 * NS_PER_S)
    state = service.state(NOON_NS)
    assert state.intensity is not None
    assert (state.fallback_level, state.intensity.g_per_kwh, state.intensity.estimated) == (0, 23, True)
    assert state.intensity.valid_until_wall_ns == NOON_NS - 3600 * NS_PER_S
    assert state.fallback_wall_ns == NOON_NS + 3 * 3600 * NS_PER_S


def test_failures_are_counted_from_zero_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Every reason has its series from the first tick; later only what has changed is told."""
    with serving() as grid, caplog.at_level(logging.INFO):
        grid.says("/*", Answer(status=503))
        service = made(grid_providers=("carbonintensity",), grid_carbonintensity_url=grid.url)
        service.settle(NOON_NS, 0)
        assert {tally.labels for tally in service.news().tallies} == {
            ("carbonintensity", reason) for reason in FETCH_REASONS
        }
        assert service.news().tallies == ()
        service.refresh(NOON_NS, 60 * NS_PER_S)
        assert service.news().tallies == (Tally("grid_fetch_failures", ("carbonintensity", "server"), 1),)
        assert service.news().tallies == ()


def test_failures_of_a_price_source_are_counted_too(tmp_path: Path) -> None:
    """Else a cost that has stopped to grow has no reason that anybody could see."""
    service = made(cost_provider="file", cost_path=tmp_path / "none", cost_currency="EUR")
    service.settle(NOON_NS, 0)
    assert {tally.labels for tally in service.news().tallies} == {
        ("cost-file", reason) for reason in FETCH_REASONS
    }
    service.refresh(NOON_NS, 60 * NS_PER_S)
    assert service.news().tallies == (Tally("grid_fetch_failures", ("cost-file", "unreachable"), 1),)


def test_figures_of_another_place_are_not_taken_from_disk(tmp_path: Path) -> None:
    """A setting that changes what the figures are of makes what was kept useless."""
    rows = [
        {
            "from": "2026-03-29T12:00Z",
            "to": "2026-03-29T12:30Z",
            "intensity": {"forecast": 99, "actual": None},
        }
    ]
    with serving() as grid:
        grid.says_json("/intensity/*", {"data": rows})
        config = replace(BASE, grid_providers=("carbonintensity",), grid_carbonintensity_url=grid.url)
        service = CarbonService(config, {}, tmp_path)
        service.refresh(NOON_NS, 60 * NS_PER_S, at_once=True)
        again = CarbonService(config, {}, tmp_path)
        again.settle(NOON_NS, 0)
        assert again.state(NOON_NS).intensity is not None
        region = CarbonService(replace(config, grid_carbonintensity_zone="13"), {}, tmp_path)
        region.settle(NOON_NS, 0)
        assert region.state(NOON_NS).intensity is None


def test_hardware_is_looked_up_once_it_is_known() -> None:
    """Embodied grams come with the first GPU whose making is known, and go with another model."""
    service = made()
    assert service.rates.embodied is None
    service.equip(["NVIDIA H100 80GB HBM3"])
    grams = service.rates.embodied_g("NVIDIA H100 80GB HBM3", 3600 * NS_PER_S, 8)
    assert grams == pytest.approx(164_000 / (4 * 365.25 * 24))
    service.equip(["nobody's card"])
    assert service.rates.embodied_g("nobody's card", NS_PER_S, 8) is None


def test_a_secret_is_nowhere_to_be_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Not in the log, not in what is kept, not in the state that everything is published from."""
    monkeypatch.setenv("WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN", SECRET)
    with serving() as grid, caplog.at_level(logging.DEBUG):
        grid.says("/*", Answer(status=401, body=f"bad token {SECRET}".encode()))
        config = replace(
            BASE,
            grid_providers=("electricitymaps",),
            grid_electricitymaps_url=f"{grid.url}/v3",
            grid_basis="lifecycle",
        )
        service = CarbonService(config, {}, tmp_path)
        service.refresh(NOON_NS, 60 * NS_PER_S, at_once=True)
        (request,) = grid.asked("/v3/carbon-intensity/latest")
        assert request.headers["auth-token"] == SECRET
    told = caplog.text + repr(service.state(NOON_NS)) + repr(service.news()) + repr(config)
    told += "".join(path.read_text() for path in tmp_path.iterdir())
    assert "refused" in told
    assert SECRET not in told
