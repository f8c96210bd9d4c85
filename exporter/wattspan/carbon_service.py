"""Everything about carbon and cost, wired from the settings: who is asked, what stands in, what is kept
fresh.

Like `wattspan.app` it decides nothing.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wattspan.carbon import LiveProvider, cloud
from wattspan.carbon.chain import Chain, standing
from wattspan.carbon.cloud import Told
from wattspan.carbon.embodied import embodied_of
from wattspan.carbon.feed import Feed, Manners
from wattspan.carbon.location import Location, locate
from wattspan.carbon.price_book import Always, PriceBook, StandIn
from wattspan.carbon.rates import NO_NEWS, News, Rates
from wattspan.carbon.secret import Secret
from wattspan.carbon.tariffs import parse_schedule
from wattspan.config import Config, environment_name
from wattspan.errors import SetupError
from wattspan.model import GridState, Intensity, Tally, Tariff

if TYPE_CHECKING:
    from wattspan.carbon.http import Http
    from wattspan.carbon.providers import Options

FOLDER: Final = "grid"
"""Of the state folder: what live sources have said."""


class CarbonService:
    """The figures of this node.

    Args:
        config: of the daemon or the command.
        environment: where hints of a location and secrets are looked for.
        folder: where fetched figures are kept; None for nowhere.
        label: asks for the node's label of its region, where nothing else says where it is; None for nobody.

    Raises:
        SetupError: settings that cannot work.
    """

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str] = os.environ,
        folder: Path | None = None,
        label: Callable[[], str] | None = None,
    ) -> None:
        location = locate(config.grid_zone, config.grid_region, environment, _metadata(config), label)
        self.chain = chain_from(config, location, folder)
        self._price_book = price_book_of(config, folder)
        self._embodied = partial(
            embodied_of,
            gpu_kg=config.embodied_gpu_kg,
            host_kg=config.embodied_host_kg,
            lifetime_years=config.embodied_lifetime_years,
        )
        self._models: frozenset[str] = frozenset()
        self._rates = Rates(
            pricing=self.chain.pricing,
            prices=self._price_book.prices if self._price_book else None,
            market_g_per_kwh=config.grid_market_intensity,
            wue_l_per_kwh=config.grid_wue,
        )
        self._known: tuple[GridState, Tariff | None, GridState] | None = None
        self._counted: Mapping[tuple[str, str], int] = {}

    @property
    def rates(self) -> Rates:
        """All that is in force now; made anew only when something has changed."""
        pricing, prices = self.chain.pricing, self._price_book.prices if self._price_book else None
        if self._rates.pricing is not pricing or self._rates.prices is not prices:
            self._rates = replace(self._rates, pricing=pricing, prices=prices)
        return self._rates

    def equip(self, models: Iterable[str]) -> None:
        """Say which GPUs the node has, by their models: what making them emitted is looked up once."""
        known = frozenset(models)
        if known != self._models:
            self._models = known
            self._rates = replace(self._rates, embodied=self._embodied(known))

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
        return self.chain.live or self._price_book is not None

    def settle(self, now_wall_ns: int, now_ns: int) -> None:
        """Put in force what is known without asking anybody."""
        self.chain.settle(now_wall_ns, now_ns)
        if self._price_book is not None:
            self._price_book.settle(now_wall_ns, now_ns)

    def refresh(
        self, now_wall_ns: int, now_ns: int, *, at_once: bool = False, if_allowed: bool = False
    ) -> None:
        """Ask whom it is time to ask; see `wattspan.carbon.feed.Feed.refresh`. May block."""
        self.chain.refresh(now_wall_ns, now_ns, at_once=at_once, if_allowed=if_allowed)
        if self._price_book is not None:
            self._price_book.refresh(now_wall_ns, now_ns, at_once=at_once, if_allowed=if_allowed)

    def news(self) -> News:
        """What has come since this was last called; the one writer calls."""
        failed = self.chain.failures()
        if self._price_book is not None:
            failed = {**failed, **self._price_book.failures()}
        counted, self._counted = self._counted, failed
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
        wait_ns = self.chain.wait_ns(now_wall_ns, now_ns)
        if self._price_book is None:
            return wait_ns
        return min(wait_ns, self._price_book.wait_ns(now_wall_ns, now_ns))


def _metadata(config: Config) -> Callable[[], Told | None] | None:
    """What asks the cloud where this machine is; None where that is not wanted."""
    return partial(cloud.ask, config.path_sysfs) if config.grid_cloud_metadata == "auto" else None


def chain_from(config: Config, location: Location, folder: Path | None) -> Chain:
    """The chain that the settings mean.

    Raises:
        SetupError: providers that cannot work here, or that do not mean the same.
    """
    stand_ins, location = standing(location, config.grid_intensity)
    feeds = []
    for provider, options in _live(config, location):
        # What the figures are of: those of another place, service or query are not taken from disk.
        key = " ".join(map(str, (options.zone, options.own_zone, options.url, options.query, options.path)))
        manners = Manners(
            provider.name,
            f"{provider.signal} {provider.basis}",
            provider.resolution_ns,
            provider.floor_ns,
            provider.hold_ns,
            local=options.path is not None,
        )
        feed = Feed(manners, provider.intensities, Intensity, key, config.node_name, folder)
        feeds.append((provider, feed))
    means = {(provider.signal, provider.basis) for provider, _ in feeds}
    if means and ("average", "lifecycle") not in means and config.grid_intensity is None:
        stand_ins = []  # nothing carried means the same: energy is unpriced, and counted
    chain = Chain(stand_ins, config.grid_pue, location, feeds)
    for setting, wanted, given in (
        ("grid.signal", config.grid_signal, chain.signal),
        ("grid.basis", config.grid_basis, chain.basis),
    ):
        if wanted not in (None, given):
            raise SetupError(
                f"{setting}: {wanted} is wanted, and the figures at hand are {chain.signal} {chain.basis};"
                " name providers that have it in grid.providers, or leave the setting out"
            )
    return chain


def _live(config: Config, location: Location) -> "Sequence[tuple[LiveProvider, Options]]":
    if not config.grid_providers:
        return ()
    http = _http("grid.providers")
    from wattspan.carbon import providers  # noqa: PLC0415 - urllib3 comes with the daemon's extra

    made = [(name, _options(config, name, location)) for name in config.grid_providers]
    return [(providers.make(name, http, options), options) for name, options in made]


@cache
def _pool() -> "Http":
    """One for all sources."""
    from wattspan.carbon.http import Http  # noqa: PLC0415 - urllib3 comes with the daemon's extra

    return Http()


def _http(setting: str) -> "Http":
    try:
        return _pool()
    except ImportError as error:
        raise SetupError(
            f"{setting}: asking them needs urllib3; install it with: pip install 'wattspan[daemon]'"
        ) from error


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


def price_book_of(config: Config, folder: Path | None) -> PriceBook | None:
    """What electricity costs; None where nobody has said.

    Raises:
        SetupError: settings of section ``cost`` that contradict each other or cannot work.
    """
    sources = {
        "cost.price-per-kwh": config.cost_price_per_kwh is not None,
        "cost.schedule": bool(config.cost_schedule),
        "cost.provider": config.cost_provider != "off",
    }
    given = [setting for setting, is_given in sources.items() if is_given]
    if bool(given) != bool(config.cost_currency):
        only = given[0] if given else "cost.currency"
        raise SetupError(
            f"{only}: set without {'cost.currency' if given else 'a price'}; allowed: a currency with"
            " cost.price-per-kwh, cost.schedule or cost.provider, or none of them"
        )
    if sources["cost.price-per-kwh"] and sources["cost.schedule"]:
        raise SetupError("cost.schedule: cost.price-per-kwh is set, too; allowed: one of them")
    if not given:
        return None
    stand_in: StandIn | None = None
    if config.cost_price_per_kwh is not None:
        stand_in = Always(config.cost_price_per_kwh)
    elif config.cost_schedule:
        stand_in = parse_schedule(config.cost_schedule, config.cost_time_zone)
    return PriceBook(config.cost_currency, _price_feed(config, folder), stand_in)


def _price_feed(config: Config, folder: Path | None) -> Feed[Tariff] | None:
    if config.cost_provider == "off":
        return None
    http = _http("cost.provider")
    from wattspan.carbon import prices  # noqa: PLC0415 - urllib3 comes with the daemon's extra

    asked = (config.cost_url, config.cost_zone, config.cost_query, config.cost_path, config.cost_currency)
    source = prices.make(config.cost_provider, http, *asked)
    manners = Manners(
        f"cost-{source.name}",
        "price",
        source.resolution_ns,
        source.floor_ns,
        source.hold_ns,
        local=config.cost_provider == "file",
    )
    return Feed(manners, source.tariffs, Tariff, " ".join(map(str, asked)), config.node_name, folder)
