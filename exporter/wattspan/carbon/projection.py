"""What a run will have emitted and cost when it ends: its pace so far, and the grid's hours ahead. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from wattspan.carbon import timeline
from wattspan.carbon.price import Prices
from wattspan.carbon.rates import Rates
from wattspan.model import Intensity, Outlook
from wattspan.units import UJ_PER_KWH


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an attempt is, and how far it has to go.

    Attributes:
        made: steps that it has made itself, above 0.
        left: steps that are still to be made.
        energy_uj: that it has used for what it made.
        elapsed_ns: that it took.
    """

    made: int
    left: int
    energy_uj: int
    elapsed_ns: int


@dataclass(frozen=True, slots=True)
class Projection:
    """What is still to come.

    Attributes:
        co2e_g: operational grams of the rest; None where no intensity is known for it.
        cost: of the rest; None where no price is known for it.
        end_wall_ns: when it will be over.
    """

    co2e_g: float | None
    cost: float | None
    end_wall_ns: int


def of_the_rest(pace: Pace, now_wall_ns: int, rates: Rates, outlook: Outlook | None) -> Projection:
    """What an attempt that goes on at its pace will still use, emit and cost.

    The grid's forecast and the prices of the hours ahead count as far as they reach; beyond them what is in
    force now.
    """
    energy_uj = pace.energy_uj * pace.left // pace.made
    end_wall_ns = now_wall_ns + pace.elapsed_ns * pace.left // pace.made
    g_per_kwh = mean_g_per_kwh(outlook.figures if outlook else (), rates, now_wall_ns, end_wall_ns)
    per_kwh = mean_per_kwh(rates.prices, now_wall_ns, end_wall_ns) if rates.prices else None
    kwh = energy_uj / UJ_PER_KWH * rates.pricing.pue
    return Projection(
        co2e_g=None if g_per_kwh is None else kwh * g_per_kwh,
        cost=None if per_kwh is None else kwh * per_kwh,
        end_wall_ns=end_wall_ns,
    )


def mean_g_per_kwh(
    figures: Sequence[Intensity], rates: Rates, start_wall_ns: int, end_wall_ns: int
) -> float | None:
    """Mean intensity of a stretch, weighted by time; what no figure covers counts as what is in force at
    its start.

    None where that is not known either.
    """
    in_force = rates.pricing.at(start_wall_ns)
    length_ns = max(end_wall_ns - start_wall_ns, 1)
    total = 0.0
    for figure, part_ns in timeline.split(figures, length_ns, start_wall_ns, start_wall_ns + length_ns):
        known = figure or in_force
        if known is None:
            return None
        total += known.g_per_kwh * part_ns
    return total / length_ns


def mean_per_kwh(prices: Prices, start_wall_ns: int, end_wall_ns: int) -> float | None:
    """Mean price of a stretch, weighted by time; what no tariff covers has the one at its start.

    A price below 0 counts as 0, as it does in costs. None where one of that is not known either.
    """
    in_force = prices.at(start_wall_ns)
    length_ns = max(end_wall_ns - start_wall_ns, 1)
    total = 0.0
    for tariff, part_ns in timeline.split(
        prices.tariffs, length_ns, start_wall_ns, start_wall_ns + length_ns
    ):
        known = tariff or in_force
        if known is None:
            return None
        total += max(known.per_kwh, 0.0) * part_ns
    return total / length_ns
