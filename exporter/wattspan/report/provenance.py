"""Who priced which part of a run's energy. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from wattspan.runs import Factor, RunRecord
from wattspan.units import UJ_PER_J


@dataclass(frozen=True, slots=True)
class PricedBy:
    """Energy that one provider's figures of one kind priced.

    Attributes:
        provider: empty where the figure was not kept, as of the last seconds before a kill.
        grid_zone, signal, basis: of the figures.
        estimated: they are a model's, a forecast's or a year's.
        energy_joules: that they priced.
        energy_ratio: of all energy of the run.
        held_ratio: of this energy, what a figure priced whose own time was over: the last good one.
        co2e_grams: that it came to.
        intensity_grams_per_kwh: weighted by the energy.
        figures: how many there were.
    """

    provider: str
    grid_zone: str
    signal: str
    basis: str
    estimated: bool
    energy_joules: float
    energy_ratio: float
    held_ratio: float
    co2e_grams: float
    intensity_grams_per_kwh: float
    figures: int


def provenance_of(record: RunRecord) -> tuple[PricedBy, ...]:
    """The most energy first. Empty where the factors were not kept."""
    grouped: dict[tuple[str, str, str, str, bool], list[Factor]] = {}
    for factor in record.factors:
        key = (factor.provider, factor.grid_zone, factor.signal, factor.basis, factor.estimated)
        grouped.setdefault(key, []).append(factor)
    all_uj = sum(record.totals.energy_uj.values())
    found = [_priced_by(key, factors, all_uj) for key, factors in grouped.items()]
    return tuple(sorted(found, key=lambda each: (-each.energy_joules, each.provider, each.grid_zone)))


def signals_of(record: RunRecord) -> tuple[str, ...]:
    """Average, marginal, or both where the settings were changed; empty where the factors were not kept."""
    return tuple(sorted({factor.signal for factor in record.factors if factor.signal}))


def providers_of(record: RunRecord) -> tuple[str, ...]:
    """Everybody whose figures were used, the record's first."""
    named = (factor.provider for factor in record.factors if factor.provider)
    return tuple(dict.fromkeys((*record.providers, *named)))


def _priced_by(key: tuple[str, str, str, str, bool], factors: Iterable[Factor], all_uj: int) -> PricedBy:
    factors = tuple(factors)
    energy_uj = sum(factor.energy_uj for factor in factors)
    weighted = sum(factor.energy_uj * factor.g_per_kwh for factor in factors)
    provider, grid_zone, signal, basis, estimated = key
    return PricedBy(
        provider=provider,
        grid_zone=grid_zone,
        signal=signal,
        basis=basis,
        estimated=estimated,
        energy_joules=energy_uj / UJ_PER_J,
        energy_ratio=energy_uj / all_uj if all_uj else 0.0,
        held_ratio=sum(map(_held_uj, factors)) / energy_uj if energy_uj else 0.0,
        co2e_grams=sum(factor.co2e_g for factor in factors),
        intensity_grams_per_kwh=weighted / energy_uj if energy_uj else factors[0].g_per_kwh,
        figures=sum(factor.figures for factor in factors),
    )


def _held_uj(factor: Factor) -> float:
    """What a figure priced after its own end, by time."""
    over_ns = factor.valid_until_wall_ns
    lasted_ns = factor.ended_wall_ns - factor.began_wall_ns
    if over_ns is None or factor.ended_wall_ns <= over_ns:
        return 0.0
    if lasted_ns <= 0:
        return float(factor.energy_uj)
    return factor.energy_uj * min((factor.ended_wall_ns - over_ns) / lasted_ns, 1.0)
