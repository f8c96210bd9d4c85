"""Settings to the figures in force: which provider, which level, what is said about it."""

from collections.abc import Sequence

import pytest

from wattspan.carbon.chain import Chain, chain_of
from wattspan.carbon.configured import ConfiguredProvider
from wattspan.carbon.countries import ATTRIBUTION, WORLD
from wattspan.carbon.location import Location
from wattspan.carbon.static import StaticProvider
from wattspan.errors import SetupError
from wattspan.model import Basis, GridState, Intensity, Signal
from wattspan.units import UJ_PER_KWH

NOW_NS = 1_774_742_400 * 10**9
HERE = Location("FR", "by the test", configured=True)


class HourlyProvider:
    """A source that knows one hour, as a live one would."""

    name = "hourly"
    signal: Signal = "average"

    def __init__(self, basis: Basis = "lifecycle") -> None:
        self.basis: Basis = basis

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:  # noqa: ARG002 - it knows that hour only
        """The hour from NOW_NS."""
        until_ns = NOW_NS + 3600 * 10**9
        return [Intensity(33.0, NOW_NS, until_ns, "FR", self.name, self.signal, self.basis, estimated=False)]


def state_of(
    zone: str | None = None,
    region: str | None = None,
    intensity: float | None = None,
    pue: float | None = None,
    environment: dict[str, str] | None = None,
) -> GridState:
    """What is in force under these settings."""
    chain = chain_of(zone, region, intensity, pue, environment or {})
    chain.refresh(NOW_NS)
    return chain.state(NOW_NS)


def test_a_country_is_priced_by_its_yearly_figure() -> None:
    """The static figure has no end, counts as estimated, and names dataset, year and licence."""
    state = state_of(zone="FR")
    assert state.intensity == Intensity(
        g_per_kwh=41.44,
        valid_from_wall_ns=None,
        valid_until_wall_ns=None,
        grid_zone="FR",
        provider="static",
        signal="average",
        basis="lifecycle",
        estimated=True,
        fetched_wall_ns=None,
        origin=f"France, 2025. {ATTRIBUTION}",
    )
    assert state.fallback_level == 0
    assert state.location == "grid.zone is FR (France)."


@pytest.mark.parametrize(("zone", "region"), [("US-CAL-CISO", None), (None, "us-west-1"), ("usa", None)])
def test_a_zone_within_a_country_is_labelled_as_the_country_whose_figure_it_gets(
    zone: str | None, region: str | None
) -> None:
    """The yearly figure of a country never stands under the name of one of its grids."""
    intensity = state_of(zone, region).intensity
    assert intensity is not None
    assert (intensity.grid_zone, round(intensity.g_per_kwh)) == ("US", 384)


def test_a_google_region_gets_the_lifecycle_figure_of_its_country() -> None:
    """Paris is 41 by lifecycle; Google's 16 is direct and never enters a lifecycle chain."""
    intensity = state_of(region="europe-west9").intensity
    assert intensity is not None
    assert (round(intensity.g_per_kwh), intensity.basis) == (41, "lifecycle")


def test_no_location_is_the_world_and_an_estimate() -> None:
    """Without any setting there is a number, marked as estimated, and the text says why it is the world's."""
    state = state_of()
    assert state.intensity is not None
    assert (round(state.intensity.g_per_kwh), state.intensity.grid_zone) == (458, WORLD)
    assert state.intensity.estimated
    assert state.fallback_level == 0
    assert "the world's mean is used" in state.location


def test_a_country_without_a_usable_figure_steps_down_to_the_world() -> None:
    """A zero in the source prices nothing as clean: the world's mean does, one level down."""
    state = state_of(zone="CF")
    assert state.intensity is not None
    assert (state.intensity.grid_zone, state.fallback_level) == (WORLD, 1)


def test_a_doubtful_figure_carries_its_caution() -> None:
    """Whoever reads the origin of a doubtful figure reads the doubt."""
    intensity = state_of(zone="UA").intensity
    assert intensity is not None
    assert intensity.origin.startswith("Ukraine, 2022 (the source stops at 2022).")


@pytest.mark.parametrize(
    ("zone", "environment", "labelled"),
    [("FR", {}, "FR"), (None, {"AWS_REGION": "eu-west-3"}, "FR"), (None, {}, "configured")],
)
def test_an_explicit_figure_goes_before_the_table(
    zone: str | None, environment: dict[str, str], labelled: str
) -> None:
    """grid.intensity is served as set, no estimate, under the zone that is known or a word of its own."""
    state = state_of(zone=zone, intensity=55.5, environment=environment)
    assert state.intensity is not None
    assert state.intensity.g_per_kwh == 55.5
    assert state.intensity.provider == "configured"
    assert state.intensity.grid_zone == labelled
    assert not state.intensity.estimated
    assert "world" not in state.location


def test_a_wrong_zone_stops_the_start_even_beside_an_explicit_figure() -> None:
    """A setting that is not needed is still not allowed to be wrong."""
    with pytest.raises(SetupError, match=r"grid\.zone: 'FRANKREICH' is unknown"):
        chain_of("FRANKREICH", None, 55.5, None, {})


def test_pue_is_one_and_visibly_not_set_until_it_is() -> None:
    """An unset PUE multiplies by 1.0 and says that nobody chose it; a set one multiplies once."""
    assert (state_of().pue, state_of().pue_configured) == (1.0, False)
    assert (state_of(pue=1.0).pue, state_of(pue=1.0).pue_configured) == (1.0, True)
    chain = chain_of(None, None, 100.0, 1.2, {})
    chain.refresh(NOW_NS)
    assert chain.pricing.price(UJ_PER_KWH, NOW_NS, NOW_NS + 1).grams == pytest.approx(120)
    assert chain.state(NOW_NS).pue_configured


def test_before_the_first_refresh_energy_has_no_price() -> None:
    """A chain that has asked nobody invents nothing."""
    chain = chain_of("FR", None, None, None, {})
    assert chain.state(NOW_NS).intensity is None
    assert chain.pricing.price(5, NOW_NS, NOW_NS + 1).unpriced_uj == 5


def test_the_first_provider_that_knows_this_moment_is_used_and_the_next_one_after_it() -> None:
    """The chain steps down when the better figure has run out, and back up when it knows the moment again."""
    chain = Chain([HourlyProvider(), StaticProvider("FR")], None, HERE)
    levels = []
    for hours in (0, 2, 0):
        chain.refresh(NOW_NS + hours * 3600 * 10**9)
        state = chain.state(NOW_NS + hours * 3600 * 10**9)
        assert state.intensity is not None
        levels.append((state.fallback_level, state.intensity.provider))
    assert levels == [(0, "hourly"), (1, "static"), (0, "hourly")]


def test_a_chain_that_knows_nothing_more_keeps_its_figure_only_as_long_as_it_is_valid() -> None:
    """When no provider knows the moment, energy is unpriced rather than priced by an old hour."""
    chain = Chain([HourlyProvider()], None, HERE)
    chain.refresh(NOW_NS)
    later_ns = NOW_NS + 2 * 3600 * 10**9
    chain.refresh(later_ns)
    assert chain.state(NOW_NS).intensity is not None
    assert chain.state(later_ns).intensity is None


def test_a_chain_has_one_signal_and_one_basis() -> None:
    """Providers that count different things stop the start, and each is named with what it counts."""
    chain = Chain([HourlyProvider(), ConfiguredProvider(50.0, "FR")], None, HERE)
    assert (chain.signal, chain.basis) == ("average", "lifecycle")
    with pytest.raises(SetupError, match="hourly is average direct, static is average lifecycle"):
        Chain([HourlyProvider(basis="direct"), StaticProvider("FR")], None, HERE)
    with pytest.raises(SetupError, match="none given"):
        Chain([], None, HERE)


@pytest.mark.parametrize("zone", ["QQ", "CF", "me-south-9"])
def test_a_zone_without_a_row_or_figure_yields_nothing(zone: str) -> None:
    """The static provider has no figure of last resort of its own; stepping down is the chain's."""
    assert StaticProvider(zone).intensities(NOW_NS) == ()
