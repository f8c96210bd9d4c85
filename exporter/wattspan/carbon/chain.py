"""The ordered choice of providers, and the figures in force. The daemon and the command `grid` hold one."""

from collections.abc import Mapping, Sequence

from wattspan.carbon import Provider
from wattspan.carbon.configured import NO_ZONE, ConfiguredProvider
from wattspan.carbon.countries import WORLD
from wattspan.carbon.location import Location, locate
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.static import StaticProvider
from wattspan.errors import SetupError
from wattspan.model import Basis, GridState, Signal


class Chain:
    """Providers of one signal and one basis, first choice first.

    `refresh` may block and belongs to whoever fetches. All else answers from memory, from any thread.
    Before the first `refresh` nothing is known, and energy has no price.

    Args:
        providers: at least one.
        pue: power usage effectiveness; None while nobody has set it: counts as 1.0 and is shown as not set.
        location: where the figures are for.

    Attributes:
        signal, basis: what every figure of the chain means.
        location: as given.

    Raises:
        SetupError: providers whose figures mean different things and cannot stand in for one another.
    """

    def __init__(self, providers: Sequence[Provider], pue: float | None, location: Location) -> None:
        meanings = {(provider.signal, provider.basis) for provider in providers}
        if len(meanings) != 1:
            given = (
                ", ".join(f"{each.name} is {each.signal} {each.basis}" for each in providers) or "none given"
            )
            raise SetupError(f"the providers of grid intensity must share one signal and one basis: {given}")
        self.signal: Signal
        self.basis: Basis
        ((self.signal, self.basis),) = meanings
        self.location = location
        self._providers = tuple(providers)
        self._pue_configured = pue is not None
        # One tuple: no reader in another thread sees one provider's level beside another's figures.
        self._in_use = (0, Pricing((), 1.0 if pue is None else pue))

    @property
    def pricing(self) -> Pricing:
        """The figures of the provider in use."""
        return self._in_use[1]

    def refresh(self, now_wall_ns: int) -> None:
        """Ask the providers in order and keep the figures of the first that knows this moment.

        When none does, the figures at hand stay, for as long as they are valid.
        """
        for level, provider in enumerate(self._providers):
            pricing = Pricing(tuple(provider.intensities(now_wall_ns)), self.pricing.pue)
            if pricing.at(now_wall_ns):
                self._in_use = (level, pricing)
                return

    def state(self, now_wall_ns: int) -> GridState:
        """The figures in force at a moment of the wall clock."""
        level, pricing = self._in_use
        return GridState(
            intensity=pricing.at(now_wall_ns),
            fallback_level=level,
            pue=pricing.pue,
            pue_configured=self._pue_configured,
            location=self.location.how,
        )


def chain_of(
    zone: str | None,
    region: str | None,
    intensity_g_per_kwh: float | None,
    pue: float | None,
    environment: Mapping[str, str],
) -> Chain:
    """The chain that the settings mean: the explicit figure, else the place's yearly one, else the world's.

    Args:
        zone, region, intensity_g_per_kwh, pue: the settings of section ``grid``; None where not set.
        environment: where hints of a location are looked for.

    Raises:
        SetupError: a place that is unknown, or settings that contradict each other.
    """
    location = locate(zone, region, environment)
    if intensity_g_per_kwh is not None:
        if not location.known:
            location = Location(NO_ZONE, "grid.intensity is set, without a place.", configured=True)
        return Chain([ConfiguredProvider(intensity_g_per_kwh, location.zone)], pue, location)
    zones = [location.zone, WORLD] if location.known else [WORLD]
    return Chain([StaticProvider(zone) for zone in zones], pue, location)
