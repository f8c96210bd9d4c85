"""The range of each total: between what and what the truth is expected. Pure.

Energy has the parts of `wattspan.ledger.certainty`; grams have the grid's figure beside them, independent of
it, so added in squares. The figure is off the same way all the time, so that over a run it never averages
out: each gram has the share of its own figure, and these add up.
A range is no confidence interval: the widths are those that the sources give, and none gives a probability.
PUE, price, contract and WUE are the operator's and taken as exact.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from wattspan.carbon.configured import ConfiguredProvider
from wattspan.carbon.countries import WORLD
from wattspan.carbon.static import StaticProvider
from wattspan.ledger import certainty
from wattspan.ledger.certainty import EnergyCertainty
from wattspan.report.figures import NO_ENERGY, Figures, Missing, Number
from wattspan.runs import Factor, RunRecord
from wattspan.units import NS_PER_S

Kind = Literal["measured", "estimated", "constant"]
"""Of an intensity: from what the grid did, a forecast or a model, or one figure for all hours of a year."""

FACTOR_RATIO: Final = 0.10
"""Of any intensity: what a kWh of each fuel emits. Our assumption.

It follows the spread of the fuels that count most: coal 740 to 910 g/kWh around 820, combined-cycle gas 410
to 650 around 490, over the life cycle (IPCC AR5 WG III, 2014, annex III, table A.III.2).
"""

FORECAST_RATIO: Final = 0.10
"""What an estimate adds to that: the mean error of forecasts.

7.1 % for Great Britain's own, against what was measured later, September 2017 to March 2023 (N. Powell,
"Carbon Intensity Forecast Tracking"); 9.6 % over 13 grids, 15.8 % over 214 (CarbonX, 2025).
"""

HOURLY_RATIO: Final = 0.30
"""What a figure for all hours alike adds: how far a yearly mean is from that of the hours of use.

-34 % to +22 % in Germany by weekday and hour (Kono, Ostermeyer, Wallbaum, Int. J. Life Cycle Assess. 2017);
up to 30 % for the loads of real sites in the United States (Miller, Novan, Jenn, Environ. Res. Lett. 2022).
"""

YEAR_RATIO: Final = 0.10
"""And that the year is over: root mean square change from one year to the next, 2015 to 2025, of 20 large
grids in Ember's yearly data; median 4.6 %. Our calculation."""

PLACE_RATIO: Final = 0.54
"""And where nobody knows the place: root mean square distance of 213 countries from the world's mean, in the
table that the package carries. Our calculation."""

EMBODIED_FACTOR: Final = 1.42
"""Grams of making hardware are known to this factor, both ways.

Published figures for one card, the A100 with 40 GB: 127.6 kg (Falk et al., arXiv 2509.00093), 150 kg
(Luccioni et al. 2022) and 181 kg (ADEME and Hubblo): 181 / 127.6. Makers' sheets of servers differ by a
factor of five, and the life over which it is spread is chosen; neither is in it.
"""


@dataclass(frozen=True, slots=True)
class Range:
    """Between what and what. In the unit of its figure; never below 0.

    Attributes:
        low, high: the total lies between them, unless a calibration has shifted them.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ranges:
    """Of every total, under the name of its figure in `wattspan.report.figures.Figures`.

    Attributes:
        energy_joules, co2e_grams, embodied_co2e_grams, market_co2e_grams, water_liters, cost: missing where
            the total is.
    """

    energy_joules: Range | Missing
    co2e_grams: Range | Missing
    embodied_co2e_grams: Range | Missing
    market_co2e_grams: Range | Missing
    water_liters: Range | Missing
    cost: Range | Missing


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What the ranges are made of.

    Attributes:
        energy: of the energy; None without any.
        intensity_ratio: of the grid's figures, weighted by the grams they have made; None without grams.
    """

    energy: EnergyCertainty | None
    intensity_ratio: float | None


def uncertainty_of(record: RunRecord, figures: Figures) -> Uncertainty:
    """The parts of an attempt's ranges."""
    duration_ns = round(figures.duration_seconds * NS_PER_S)
    return Uncertainty(
        energy=certainty.energy_certainty(record.totals, record.calibrations, duration_ns),
        intensity_ratio=None if isinstance(figures.co2e_grams, Missing) else intensity_ratio(record),
    )


def ranges_of(figures: Figures, uncertainty: Uncertainty) -> Ranges:
    """The ranges of an attempt's totals."""
    energy = uncertainty.energy
    return Ranges(
        energy_joules=_by(figures.energy_joules, energy),
        co2e_grams=_by(figures.co2e_grams, energy, uncertainty.intensity_ratio or 0.0),
        embodied_co2e_grams=_by_factor(figures.embodied_co2e_grams),
        market_co2e_grams=_by(figures.market_co2e_grams, energy),
        water_liters=_by(figures.water_liters, energy),
        cost=_by(figures.cost, energy),
    )


def kind_of(factor: Factor) -> Kind:
    """What a figure is. One that was not kept is taken for the worst."""
    if factor.valid_until_wall_ns is None:
        return "constant"
    return named_kind(factor.provider, estimated=factor.estimated)


def named_kind(provider: str, *, estimated: bool) -> Kind:
    """What a provider's figures are; those of nobody are taken for the worst.

    Args:
        provider: by name.
        estimated: the figure is.
    """
    if provider in (StaticProvider.name, ConfiguredProvider.name, ""):
        return "constant"
    return "estimated" if estimated else "measured"


def kind_ratio(kind: Kind, grid_zone: str = "") -> float:
    """How far a figure may be off, both ways.

    Args:
        kind: of the figure.
        grid_zone: that it is for.
    """
    if kind == "measured":
        return FACTOR_RATIO
    if kind == "estimated":
        return math.hypot(FACTOR_RATIO, FORECAST_RATIO)
    yearly = math.hypot(FACTOR_RATIO, HOURLY_RATIO, YEAR_RATIO)
    return math.hypot(yearly, PLACE_RATIO) if grid_zone == WORLD else yearly


def intensity_ratio(record: RunRecord) -> float:
    """How far an attempt's grams may be off for the grid's figures."""
    grams = sum(factor.co2e_g for factor in record.factors)
    if grams <= 0:
        return kind_ratio(_kind_without_factors(record), record.grid_zone)
    parts = (factor.co2e_g * kind_ratio(kind_of(factor), factor.grid_zone) for factor in record.factors)
    return sum(parts) / grams


def _kind_without_factors(record: RunRecord) -> Kind:
    """Of an attempt whose factors were not kept, as before this version: the worst that it had."""
    if not record.providers or {StaticProvider.name, ConfiguredProvider.name} & set(record.providers):
        return "constant"
    return "estimated" if record.estimated else "measured"


def _by(value: Number, energy: EnergyCertainty | None, other_ratio: float = 0.0) -> Range | Missing:
    """Of a figure that goes with the energy, and with another factor that is not exact."""
    if isinstance(value, Missing):
        return value
    if energy is None:
        return NO_ENERGY
    middle = 1 + energy.shift_ratio
    width = math.hypot(energy.width_ratio, middle * other_ratio)
    return Range(max(value * (middle - width), 0.0), value * (middle + width))


def _by_factor(value: Number) -> Range | Missing:
    if isinstance(value, Missing):
        return value
    return Range(value / EMBODIED_FACTOR, value * EMBODIED_FACTOR)
