"""Everything about carbon and cost, wired from the settings: who is asked, what stands in, what is kept
fresh.

Like `wattspan.app` it decides nothing.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wattspan.carbon import LiveProvider, cloud, price
from wattspan.carbon.chain import Chain, standing
from wattspan.carbon.cloud import Told
from wattspan.carbon.feed import Feed, Manners
from wattspan.carbon.location import Location, locate
from wattspan.carbon.price import Prices
from wattspan.carbon.rates import NO_NEWS, News, Rates
from wattspan.carbon.secret import Secret
from wattspan.config import Config, environment_name
from wattspan.errors import SetupError
from wattspan.model import GridState, Intensity, Tally, Tariff

if TYPE_CHECKING:
    from wattspan.carbon.providers import Options

FOLDER: Final = "grid"
"""Of the state folder: what live sources have said."""


class CarbonService:
    """The figures of this node.

    Args:
        config: of the daemon or the command.
        environment: where hints of a location and secrets are looked for.
        folder: where fetched figures are kept; None for nowhere.

    Raises:
        SetupError: settings that cannot work.
    """

    def __init__(
        self, config: Config, environment: Mapping[str, str] = os.environ, folder: Path | None = None
    ) -> None:
        location = locate(config.grid_zone, config.grid_region, environment, _metadata(config))
        self.chain = chain_from(config, location, folder)
        self._prices = prices_of(config)
        self._fixed = Rates(
            pricing=self.chain.pricing,
            prices=self._prices,
            market_g_per_kwh=config.grid_market_intensity,
            wue_l_per_kwh=config.grid_wue,
        )
        self._rates = self._fixed
        self._known: tuple[GridState, Tariff | None, GridState] | None = None
        self._counted: Mapping[tuple[str, str], int] = {}

    @property
    def rates(self) -> Rates:
        """All that is in force now; made anew only when something has changed."""
        if self._rates.pricing is not self.chain.pricing:
            self._rates = replace(self._fixed, pricing=self.chain.pricing)
        return self._rates

    def state(self, now_wall_ns: int) -> GridState:
        """The figures in force at a moment."""
        state = self.chain.state(now_wall_ns)
        prices = self.rates.prices
        tariff = prices.at(now_wall_ns) if prices else None
        if self._known is None or self._known[0] is not state or self._known[1] is not tariff:
            self._known = (state, tariff, replace(state, tariff=tariff))
        return self._known[2]

    @property
    def live(self) -> bool:
        """Whether anything must be fetched or renewed at all."""
        return self.chain.live

    def settle(self, now_wall_ns: int, now_ns: int) -> None:
        """Put in force what is known without asking anybody."""
        self.chain.settle(now_wall_ns, now_ns)

    def refresh(self, now_wall_ns: int, now_ns: int, *, at_once: bool = False) -> None:
        """Ask whom it is time to ask. May block."""
        self.chain.refresh(now_wall_ns, now_ns, at_once=at_once)

    def news(self) -> News:
        """What has come since this was last called; the one writer calls."""
        counted, self._counted = self._counted, self.chain.failures()
        if counted == self._counted and not self.chain.has_learned:
            return NO_NEWS
        tallies = tuple(
            Tally("grid_fetch_failures", key, count - counted.get(key, 0))
            for key, count in self._counted.items()
            if key not in counted or count != counted[key]
        )
        return News(tallies, self.chain.learned())

    def wait_ns(self, now_wall_ns: int, now_ns: int) -> int:
        """How long until there is something to ask."""
        return self.chain.wait_ns(now_wall_ns, now_ns)


def _metadata(config: Config) -> Callable[[], Told | None] | None:
    """What asks the cloud where this machine is; None where that is not wanted."""
    return partial(cloud.ask, config.path_sysfs) if config.grid_cloud_metadata == "auto" else None


def chain_from(config: Config, location: Location, folder: Path | None) -> Chain:
    """The chain that the settings mean.

    Raises:
        SetupError: providers that cannot work here, or that do not mean the same.
    """
    stand_ins, location = standing(location, config.grid_intensity)
    live = _live(config, location)
    feeds = [(provider, _feed(provider, location.zone, config.node_name, folder)) for provider in live]
    if live and (live[0].signal, live[0].basis) != ("average", "lifecycle"):
        stand_ins = []  # nothing carried means the same: energy is unpriced, and counted
    return Chain(stand_ins, config.grid_pue, location, feeds)


def _live(config: Config, location: Location) -> Sequence[LiveProvider]:
    if not config.grid_providers:
        return ()
    try:
        from wattspan.carbon import providers  # noqa: PLC0415 - urllib3 comes with the daemon's extra
        from wattspan.carbon.http import Http  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise SetupError(
            "grid.providers: asking them needs urllib3; install it with: pip install 'wattspan[daemon]'"
        ) from error
    http = Http()
    return [providers.make(name, http, _options(config, name, location)) for name in config.grid_providers]


def _options(config: Config, name: str, location: Location) -> "Options":
    from wattspan.carbon.providers import Options  # noqa: PLC0415 - urllib3 comes with the daemon's extra

    def of(setting: str, otherwise: object) -> object:
        return getattr(config, f"grid_{name}_{setting}", otherwise)

    key = f"grid.{name}.token-file"
    variable = environment_name(f"grid.{name}.token")
    return Options(
        zone=location.zone,
        own_zone=str(of("zone", "")),
        url=str(of("url", "")),
        secret=Secret(key, getattr(config, f"grid_{name}_token_file", None), variable),
        signal=config.grid_signal,
        basis=config.grid_basis,
        query=str(of("query", "")),
        path=getattr(config, f"grid_{name}_path", None),
    )


def _feed(provider: LiveProvider, zone: str, node: str, folder: Path | None) -> Feed[Intensity]:
    manners = Manners(
        provider.name, f"{provider.signal} {provider.basis}", provider.resolution_ns, provider.floor_ns
    )
    return Feed(manners, provider.intensities, Intensity, zone, node, folder)


def prices_of(config: Config) -> Prices | None:
    """The price of electricity.

    Raises:
        SetupError: a price without a currency, or the reverse.
    """
    if (config.cost_price_per_kwh is None) != (not config.cost_currency):
        raise SetupError("cost.price-per-kwh and cost.currency: only one is set; allowed: both or neither")
    if config.cost_price_per_kwh is None:
        return None
    return price.fixed(config.cost_price_per_kwh, config.cost_currency)
