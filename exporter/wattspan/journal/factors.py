"""By which figures an attempt's energy was priced: each gram keeps the one that it was made with.

Energy and grams of the factors sum to the attempt's totals, whatever is put together to save room.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from wattspan.carbon.pricing import Pricing
from wattspan.journal.books import PricedPart
from wattspan.model import Intensity
from wattspan.runs import Factor, RunTotals
from wattspan.units import UJ_PER_KWH

MAX_FACTORS: Final = 1024
"""Figures of one attempt that are told apart: three weeks of half hours; of more, neighbours are joined."""


def note(factors: list[Factor], parts: Iterable[PricedPart], pricing: Pricing) -> None:
    """Enter a tick's energy, by the figures that priced it."""
    for intensity, energy_uj, start_wall_ns, end_wall_ns in parts:
        grams = pricing.grams(energy_uj, intensity)
        fresh = _factor(intensity, energy_uj, grams, pricing.pue, start_wall_ns, end_wall_ns)
        # Devices are read at moments of their own, so around a change two figures are in use at once.
        for index in range(len(factors) - 1, max(len(factors) - 4, -1), -1):
            if _same_figure(factors[index], fresh):
                factors[index] = _together(factors[index], fresh, figures=0)
                break
        else:
            factors.append(fresh)
    if len(factors) > MAX_FACTORS:
        factors[:] = fewer(factors)


def fewer(factors: Iterable[Factor]) -> list[Factor]:
    """About half as many: of each source and PUE every two that follow each other are put together.

    Also where another came between them, as when two sources take turns. Sums stay as they were.
    """
    result: list[Factor] = []
    single: dict[object, int] = {}  # where the one waits that the next of its kind is put to
    for factor in factors:
        kind = (_source(factor), factor.pue)
        place = single.pop(kind, None)
        if place is None:
            single[kind] = len(result)
            result.append(factor)
        else:
            last = result[place]
            result[place] = _together(last, factor, figures=last.figures + factor.figures)
    return result


def not_kept(
    factors: Sequence[Factor], totals: RunTotals, pue: float, began_wall_ns: int
) -> tuple[Factor, ...]:
    """What the totals have and the factors do not: used between the last row and the end of a daemon.

    Args:
        factors: that were kept.
        totals: of the attempt, from its accounts.
        pue: in force.
        began_wall_ns: when to date it where no factor was kept.
    """
    energy_uj = sum(totals.energy_uj.values()) - totals.unpriced_uj - sum(f.energy_uj for f in factors)
    grams = totals.co2e_g - sum(factor.co2e_g for factor in factors)
    if energy_uj <= 0:
        return ()
    when_ns = factors[-1].ended_wall_ns if factors else began_wall_ns
    return (
        Factor(
            began_wall_ns=when_ns,
            ended_wall_ns=when_ns,
            energy_uj=energy_uj,
            co2e_g=grams,
            g_per_kwh=grams / pue * UJ_PER_KWH / energy_uj,
            pue=pue,
            origin="used in the last seconds of an earlier daemon, whose figures were not kept one by one",
        ),
    )


def _factor(
    intensity: Intensity, energy_uj: int, grams: float, pue: float, start_wall_ns: int, end_wall_ns: int
) -> Factor:
    return Factor(
        began_wall_ns=start_wall_ns,
        ended_wall_ns=end_wall_ns,
        energy_uj=energy_uj,
        co2e_g=grams,
        g_per_kwh=intensity.g_per_kwh,
        pue=pue,
        grid_zone=intensity.grid_zone,
        provider=intensity.provider,
        signal=intensity.signal,
        basis=intensity.basis,
        estimated=intensity.estimated,
        origin=intensity.origin,
        valid_from_wall_ns=intensity.valid_from_wall_ns,
        valid_until_wall_ns=intensity.valid_until_wall_ns,
        fetched_wall_ns=intensity.fetched_wall_ns,
    )


def _same_figure(one: Factor, other: Factor) -> bool:
    """Whether both are one figure, which may have been fetched again meanwhile."""
    return (
        one.figures == 1
        and one.g_per_kwh == other.g_per_kwh
        and one.pue == other.pue
        and one.valid_from_wall_ns == other.valid_from_wall_ns
        and one.valid_until_wall_ns == other.valid_until_wall_ns
        and _source(one) == _source(other)
    )


def _source(factor: Factor) -> tuple[object, ...]:
    return factor.provider, factor.grid_zone, factor.signal, factor.basis, factor.estimated


def _together(one: Factor, other: Factor, *, figures: int) -> Factor:
    """Two as one: energy and grams sum; of several figures it keeps what they have in common.

    Args:
        one, other: of one source and PUE.
        figures: how many the sum stands for; 0 where both are the same figure.
    """
    energy_uj = one.energy_uj + other.energy_uj
    grams = one.co2e_g + other.co2e_g
    both = replace(
        one,
        began_wall_ns=min(one.began_wall_ns, other.began_wall_ns),
        ended_wall_ns=max(one.ended_wall_ns, other.ended_wall_ns),
        energy_uj=energy_uj,
        co2e_g=grams,
    )
    if not figures:
        return both
    kwh = energy_uj / UJ_PER_KWH * one.pue
    mean = grams / kwh if kwh else (one.g_per_kwh + other.g_per_kwh) / 2
    return replace(
        both,
        g_per_kwh=mean,
        valid_until_wall_ns=other.valid_until_wall_ns,
        fetched_wall_ns=other.fetched_wall_ns,
        figures=figures,
    )
