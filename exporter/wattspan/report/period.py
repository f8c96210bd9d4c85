"""A month's use by owner, gathered for whichever format tells it. Pure.

In come the amounts that the owners' counters gained in the month, from a journal or from a Prometheus, under
the same names; out come rows by project, namespace or both. Bases and currencies are never added to one
another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from wattspan.journal.holder_accounts import OTHER_PROJECT
from wattspan.journal.periods import Usage, bounds_of
from wattspan.model import CounterKey
from wattspan.report import quantities
from wattspan.report.attributions import attribution_of
from wattspan.report.period_ranges import (
    RowRanges,
    embodied_range,
    energy_ratio,
    intensity_ratio,
    range_by,
)
from wattspan.units import NS_PER_S, UJ_PER_J

SCHEMA: Final = "wattspan.period/1"
"""Name and version of the JSON document and of the CSV's columns."""

By = Literal["project", "namespace", "owner"]

GRID: Final = "grid_priced_energy"
UNPRICED: Final = "unpriced_energy"
UNCOSTED: Final = "uncosted_energy"

DIVISORS: Final[Mapping[str, int]] = {
    "owner_energy": UJ_PER_J,
    "owner_co2e": 1,
    "owner_cost": 1,
    "owner_gpu": NS_PER_S,
    "owner_idle_gpu": NS_PER_S,
    "owner_wasted_energy": UJ_PER_J,
    "owner_wasted_cost": 1,
    "owner_market_co2e": 1,
    "owner_water": 1,
    GRID: UJ_PER_J,
    UNPRICED: UJ_PER_J,
    UNCOSTED: UJ_PER_J,
}
"""Accounts that are reported, and what brings the journal's unit to the base unit."""

_ENOUGH_S: Final = 3600
"""A journal or a Prometheus that began this long after the month misses nothing worth a word."""


@dataclass(frozen=True, slots=True)
class Gained:
    """What the owners' counters gained in a month, in base units.

    Attributes:
        month: such as ``2026-10``.
        since_wall_ns: from when on it is known.
        until_wall_ns: the month's end, or now.
        amounts: by account and labels: joules, grams, seconds, litres, money.
        grid_shares: parts of 1 by grid zone, provider, signal and basis: of the energy that was priced, or of
            the time.
        estimated_ratio: of the priced energy, that for which the intensity was an estimate; None if unknown.
        intensity_ratio: how far grams may be off for the grid's figures, both ways; None if unknown.
        where: whose figures they are, in words.
        how: how they were had, in a sentence.
        gaps: what is not known, one sentence each.
    """

    month: str
    since_wall_ns: int
    until_wall_ns: int
    amounts: Mapping[CounterKey, float]
    grid_shares: Mapping[tuple[str, str, str, str], float]
    estimated_ratio: float | None
    where: str
    how: str
    gaps: tuple[str, ...] = ()
    intensity_ratio: float | None = None


@dataclass(slots=True)
class Row:
    """What one owner, or all of a project or namespace, used. What nobody counted is None or not there.

    Attributes:
        namespace, project: whose; None where it is summed over.
        energy_joules: by component.
        operational_grams: by basis.
        embodied_grams, market_grams, water_liters: None where none was counted.
        cost: by currency.
        gpu_seconds, idle_gpu_seconds: GPU time held, and of it without work.
        wasted_joules: by reason; each joule is under one of them.
        wasted_cost: by reason and currency.
    """

    namespace: str | None
    project: str | None
    energy_joules: dict[str, float] = field(default_factory=dict)
    operational_grams: dict[str, float] = field(default_factory=dict)
    embodied_grams: float | None = None
    market_grams: float | None = None
    water_liters: float | None = None
    cost: dict[str, float] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    idle_gpu_seconds: float = 0.0
    wasted_joules: dict[str, float] = field(default_factory=dict)
    wasted_cost: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def all_joules(self) -> float:
        """Over all components."""
        return sum(self.energy_joules.values())

    def ranges(self, intensity_ratio: float | None) -> RowRanges:
        """Between what and what each lies.

        Args:
            intensity_ratio: of `Gained`.
        """
        energy = energy_ratio(self.energy_joules)
        grams = {
            basis: range_by(grams, energy, intensity_ratio) for basis, grams in self.operational_grams.items()
        }
        cost = {currency: range_by(amount, energy) for currency, amount in self.cost.items()}
        return RowRanges(
            energy_joules=range_by(self.all_joules, energy),
            operational_grams={basis: between for basis, between in grams.items() if between},
            embodied_grams=embodied_range(self.embodied_grams),
            market_grams=range_by(self.market_grams, energy),
            water_liters=range_by(self.water_liters, energy),
            cost={currency: between for currency, between in cost.items() if between},
        )


@dataclass(frozen=True, slots=True)
class PeriodReport:
    """All that is told of a month.

    Attributes:
        gained: what it is made of.
        by: what a row stands for.
        rows: those that used the most energy first.
        total: of all rows.
        statements: how it was made.
        omissions: what is missing, and why.
        sources: whose intensities were used, each with what its licence asks for.
        made_wall_ns: now.
        version: of Wattspan.
    """

    gained: Gained
    by: By
    rows: tuple[Row, ...]
    total: Row
    statements: tuple[str, ...]
    omissions: tuple[str, ...]
    sources: tuple[str, ...]
    made_wall_ns: int
    version: str


@dataclass(frozen=True, slots=True)
class Priced:
    """Whose figures priced the energy of all that was metered.

    Attributes:
        shares, estimated_ratio, intensity_ratio: as in `Gained`; empty and None where that is not known.
    """

    shares: Mapping[tuple[str, str, str, str], float]
    estimated_ratio: float | None
    intensity_ratio: float | None


def gained_of(usage: Usage, node: str) -> Gained:
    """What a node's journal has of a month.

    Args:
        usage: of the journal.
        node: its name.
    """
    amounts = {
        (quantity, labels): amount / DIVISORS[quantity]
        for (quantity, labels), amount in usage.totals.items()
        if quantity in DIVISORS
    }
    priced = priced_of(amounts)
    gaps: tuple[str, ...] = ()
    if usage.went_back:
        gaps = ("Some accounts were lower at the month's end than at its begin: a clock was set back.",)
    return Gained(
        month=usage.month,
        since_wall_ns=usage.since_wall_ns,
        until_wall_ns=usage.until_wall_ns,
        amounts=amounts,
        grid_shares=priced.shares,
        estimated_ratio=priced.estimated_ratio,
        where=f"the journal of node {node}",
        how=(
            "Each figure is what an owner's account gained between the first commits of two months, exact to "
            "the tick that spans the turn of the month."
        ),
        gaps=(*gaps, f"This is node {node} alone; --prometheus asks for all nodes."),
        intensity_ratio=priced.intensity_ratio,
    )


def priced_of(amounts: Mapping[CounterKey, float]) -> Priced:
    """Whose figures priced the energy.

    Args:
        amounts: as in `Gained`.
    """
    joules: dict[tuple[str, str, str, str, str], float] = {}
    for (quantity, labels), amount in amounts.items():
        if quantity == GRID and len(labels) == 5 and amount > 0:
            zone, provider, signal, basis, is_estimated = labels
            joules[zone, provider, signal, basis, is_estimated] = amount
    all_j = sum(joules.values())
    shares: dict[tuple[str, str, str, str], float] = {}
    estimated_j = 0.0
    for (*source, is_estimated), amount in joules.items():
        zone, provider, signal, basis = source
        key = (zone, provider, signal, basis)
        shares[key] = shares.get(key, 0.0) + amount / all_j
        estimated_j += amount if is_estimated.lower() == "true" else 0.0
    return Priced(shares, estimated_j / all_j if all_j else None, intensity_ratio(joules))


def period_of(gained: Gained, by: By, made_wall_ns: int, version: str) -> PeriodReport:
    """Gather a report."""
    rows: dict[tuple[str | None, str | None], Row] = {}
    total = Row(None, None)
    for (quantity, labels), amount in gained.amounts.items():
        if not quantity.startswith("owner_") or len(labels) < 2:
            continue
        namespace, project, *rest = labels
        key = (None if by == "project" else namespace, None if by == "namespace" else project)
        for row in (rows.setdefault(key, Row(*key)), total):
            _enter(row, quantity, rest, amount)
    used = [
        row
        for row in rows.values()
        if row.all_joules or row.gpu_seconds or any(row.operational_grams.values()) or row.embodied_grams
    ]
    return PeriodReport(
        gained=gained,
        by=by,
        rows=tuple(sorted(used, key=lambda row: (-row.all_joules, row.namespace or "", row.project or ""))),
        total=total,
        statements=tuple(_statements(gained, total)),
        omissions=tuple(_omissions(gained, total, made_wall_ns)),
        sources=tuple(_sources(gained)),
        made_wall_ns=made_wall_ns,
        version=version,
    )


def _enter(row: Row, quantity: str, labels: list[str], amount: float) -> None:
    match quantity, labels:
        case "owner_energy", [component]:
            _add(row.energy_joules, component, amount)
        case "owner_co2e", ["operational", basis]:
            _add(row.operational_grams, basis, amount)
        case "owner_co2e", ["embodied", _]:
            row.embodied_grams = (row.embodied_grams or 0.0) + amount
        case "owner_market_co2e", []:
            row.market_grams = (row.market_grams or 0.0) + amount
        case "owner_water", []:
            row.water_liters = (row.water_liters or 0.0) + amount
        case "owner_cost", [currency]:
            _add(row.cost, currency, amount)
        case "owner_gpu", []:
            row.gpu_seconds += amount
        case "owner_idle_gpu", []:
            row.idle_gpu_seconds += amount
        case "owner_wasted_energy", [reason]:
            _add(row.wasted_joules, reason, amount)
        case "owner_wasted_cost", [reason, currency]:
            key = (reason, currency)
            row.wasted_cost[key] = row.wasted_cost.get(key, 0.0) + amount


def _add(sums: dict[str, float], key: str, amount: float) -> None:
    sums[key] = sums.get(key, 0.0) + amount


def _statements(gained: Gained, total: Row) -> Iterator[str]:
    yield f"From {gained.where}. {gained.how}"
    yield (
        "Operational CO2e is the sum over intervals of energy x the intensity in force then x PUE; "
        "figures that providers revised later change nothing here."
    )
    yield "PUE is in grams and cost, not in joules, which are those of the computers."
    yield "Bases (life cycle, direct) and currencies are never added to one another."
    yield (
        "Energy is that of runs and of pods that hold a GPU, measured alone; GPUs that nobody held, and the "
        "host's own share, are nobody's."
    )
    yield "Wasted energy is part of the energy, and each joule is wasted for one reason."
    if gained.estimated_ratio is not None:
        yield f"{quantities.percent(gained.estimated_ratio)} of the priced energy had an estimated intensity."
    if (energy := energy_ratio(total.energy_joules)) is not None:
        yield f"Ranges: energy ±{quantities.percent(energy)} of sensors and of the split of the host. " + (
            "Operational CO2e has none, since how much energy each source priced is not known."
            if gained.intensity_ratio is None
            else f"Grams have ±{quantities.percent(gained.intensity_ratio)} of the grid's figures too, by "
            "all energy that was priced."
        )
        yield (
            "The accounts of owners do not keep how GPUs were split between sharers, nor calibrations: these "
            "are not in the ranges, which are no confidence intervals. PUE, prices and contracts are taken "
            "as exact."
        )


def _sum_of(gained: Gained, quantity: str) -> float:
    return sum(amount for (of, _), amount in gained.amounts.items() if of == quantity)


def _omissions(gained: Gained, total: Row, made_wall_ns: int) -> Iterator[str]:
    begin_ns, end_ns = bounds_of(gained.month)
    if gained.since_wall_ns - begin_ns > _ENOUGH_S * NS_PER_S:
        yield f"Nothing is known before {quantities.moment(gained.since_wall_ns)}."
    if made_wall_ns < end_ns:
        yield f"The month goes on: this is what was used until {quantities.moment(gained.until_wall_ns)}."
    yield from gained.gaps
    if unpriced := _sum_of(gained, UNPRICED):
        yield (
            f"{quantities.energy(unpriced)} of the nodes had no known intensity and are in no CO2e figure; "
            "whose they are is not kept."
        )
    if uncosted := _sum_of(gained, UNCOSTED):
        yield (
            f"{quantities.energy(uncosted)} of the nodes had no known price and are in no cost; "
            "cost.price-per-kwh or cost.schedule stand in for a source of prices."
        )
    if any(labels[1:2] == (OTHER_PROJECT,) for _, labels in gained.amounts):
        yield (
            f"Owners beyond the first 200 of a node are together under the project {OTHER_PROJECT}, without "
            "a namespace where that had no owner before."
        )
    if not total.cost:
        yield "Cost: no price is configured (cost.price-per-kwh)."
    if total.embodied_grams is None:
        yield "Embodied CO2e: none was counted."
    if not gained.grid_shares and any(total.operational_grams.values()):
        yield "Whose intensities were used is not known."


def _sources(gained: Gained) -> Iterator[str]:
    for (zone, provider, signal, basis), share in sorted(
        gained.grid_shares.items(), key=lambda item: (-item[1], item[0])
    ):
        what = f"{zone}, {signal} {basis}, {quantities.percent(share)}"
        yield f"Carbon intensity, {provider} ({what}): {attribution_of(provider)}"
