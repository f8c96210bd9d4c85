"""All that turns energy and time on hardware into grams, money and litres, as of one moment. Pure."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from wattspan.carbon.embodied import Embodied
from wattspan.carbon.price import Costed, Prices
from wattspan.carbon.pricing import Pricing
from wattspan.model import Basis, GridState, Intensity, Tally
from wattspan.units import UJ_PER_KWH


class Footprint(NamedTuple):
    """What an interval's energy came to.

    Attributes:
        grams: operational CO2e, location based, PUE applied.
        unpriced_uj: energy for which no intensity was known.
        parts: the energy by the figure that priced it; None for what has none.
        cost: in the currency of the prices, PUE applied; 0 without prices.
        market_grams: by the operator's own contracts, PUE applied; None where none are configured.
        water_liters: used on site for cooling; None where no WUE is configured.
        facility_uj: energy times PUE.
        uncosted_uj: energy that has no cost because no price was known; 0 without prices.
    """

    grams: float
    unpriced_uj: int
    parts: tuple[tuple[Intensity | None, int], ...]
    cost: float
    market_grams: float | None
    water_liters: float | None
    facility_uj: float
    uncosted_uj: int


@dataclass(frozen=True, slots=True)
class News:
    """What has come from live sources since the tick before.

    Attributes:
        tallies: questions that failed, by provider and reason.
        figures: that are new or were revised, for the history that reports are held against.
    """

    tallies: tuple[Tally, ...] = ()
    figures: tuple[Intensity, ...] = ()


NO_NEWS: Final = News()

_NOTHING: Final = Costed(0.0, 0)


@dataclass(frozen=True, slots=True)
class Rates:
    """The figures in force.

    Attributes:
        pricing: location-based intensity by time, and the PUE.
        prices: of electricity; None where nobody has set one.
        market_g_per_kwh: intensity by contract (GHG Protocol Scope 2 Guidance, 2015); None where nobody has
            set it.
        wue_l_per_kwh: litres on site for each kWh of IT energy (ISO/IEC 30134-9), so PUE is not applied to
            it.
        embodied: of the hardware; None where nothing is known of it.
    """

    pricing: Pricing
    prices: Prices | None = None
    market_g_per_kwh: float | None = None
    wue_l_per_kwh: float | None = None
    embodied: Embodied | None = None

    def basis(self, grid: GridState) -> Basis | None:
        """What grams count; None while nothing has ever been known that energy could be priced with."""
        return grid.basis if self.pricing.intensities else None

    def embodied_g(self, model: str, gpu_ns: int, gpus: int) -> float | None:
        """Grams of making a GPU, with its part of the host, for a time; None where that is not known."""
        return None if self.embodied is None else self.embodied.grams(model, gpu_ns, gpus)

    def footprint(self, energy_uj: int, start_wall_ns: int, end_wall_ns: int) -> Footprint:
        """What energy came to that flowed evenly from one moment of the wall clock to another."""
        priced = self.pricing.price(energy_uj, start_wall_ns, end_wall_ns)
        kwh = energy_uj / UJ_PER_KWH
        pue = self.pricing.pue
        costed = _NOTHING
        if self.prices is not None:
            costed = self.prices.costed(energy_uj, pue, start_wall_ns, end_wall_ns)
        return Footprint(
            grams=priced.grams,
            unpriced_uj=priced.unpriced_uj,
            parts=priced.parts,
            cost=costed.cost,
            market_grams=kwh * pue * self.market_g_per_kwh if self.market_g_per_kwh is not None else None,
            water_liters=kwh * self.wue_l_per_kwh if self.wue_l_per_kwh is not None else None,
            facility_uj=energy_uj * pue,
            uncosted_uj=costed.uncosted_uj,
        )
