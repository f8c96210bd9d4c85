"""When, and where, to run: the greenest way against starting now, with all that lies between. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wattspan.carbon import timeline
from wattspan.carbon.forecast import greenest_window, mean_over, possible_starts
from wattspan.carbon.price import Prices
from wattspan.model import Intensity
from wattspan.units import NS_PER_S, UJ_PER_KWH


class Place(NamedTuple):
    """Somewhere to run.

    Attributes:
        zone: of the grid.
        figures: what is known of the hours ahead there, past to future, without overlaps.
        prices: of electricity there; None where nobody knows them.
    """

    zone: str
    figures: Sequence[Intensity]
    prices: Prices | None = None


class Task(NamedTuple):
    """What is to run.

    Attributes:
        duration_ns: how long it takes, wherever and whenever it runs.
        earliest_ns: the wall clock before which it does not begin.
        latest_end_ns: when it must be over.
        power_uw: what its hardware draws all the while, before PUE; None where nobody knows.
        pue: power usage effectiveness, the same in every place.
    """

    duration_ns: int
    earliest_ns: int
    latest_end_ns: int
    power_uw: int | None = None
    pue: float = 1.0

    @property
    def energy_uj(self) -> int | None:
        """What its hardware uses."""
        return None if self.power_uw is None else self.power_uw * self.duration_ns // NS_PER_S


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run.

    Attributes:
        zone: where.
        start_wall_ns: when it begins.
        g_per_kwh: mean intensity while it lasts.
        co2e_g: operational grams, PUE applied; None without a power.
        cost: in the currency of the prices, PUE applied; None without a power, or where a price is missing
            for some of the time.
    """

    zone: str
    start_wall_ns: int
    g_per_kwh: float
    co2e_g: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """All ways to run in one place.

    Attributes:
        zone: where.
        now: to begin at the earliest moment; None where no figures cover that.
        best: the greenest, of several such the earliest.
        worst: the least green, of several such the earliest.
        mean_g_per_kwh: over all moments at which it may begin, each as likely as the others.
        mean_co2e_g: what that comes to; None without a power.
        known_until_wall_ns: where its figures end.
        estimated: whether any figure of the time that was looked at is a model's.
    """

    zone: str
    now: Way | None
    best: Way
    worst: Way
    mean_g_per_kwh: float
    mean_co2e_g: float | None
    known_until_wall_ns: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        task: what is to run.
        spreads: of the places with a forecast for it, in the order in which they were given.
        best: the greenest way of all; of several such the earliest, then that of the place given first.
        now: to begin at once in the place given first; None where its figures do not cover that.
    """

    task: Task
    spreads: tuple[Spread, ...]
    best: Way
    now: Way | None

    @property
    def saved_ratio(self) -> float | None:
        """The share of the grams of `now` that `best` saves; None where there is nothing to compare with."""
        if self.now is None or not self.now.g_per_kwh:
            return None
        return 1 - self.best.g_per_kwh / self.now.g_per_kwh

    @property
    def saved_co2e_g(self) -> float | None:
        """Grams that `best` saves."""
        if self.now is None or self.now.co2e_g is None or self.best.co2e_g is None:
            return None
        return self.now.co2e_g - self.best.co2e_g

    @property
    def saved_cost(self) -> float | None:
        """Money that `best` saves; below 0 where it costs more. None where one of the two is not known."""
        if self.now is None or self.now.cost is None or self.best.cost is None:
            return None
        return self.now.cost - self.best.cost


def plan_of(task: Task, places: Sequence[Place]) -> Plan | None:
    """The greenest way to run something; None where no place has figures for it.

    Args:
        task: what is to run.
        places: where it may run; the first one is where it would run if nobody planned.
    """
    found = [spread_of(task, place) for place in places]
    spreads = tuple(spread for spread in found if spread is not None)
    if not spreads:
        return None
    # Rounded, because means that are alike may differ in their last digits.
    best = min(
        (spread.best for spread in spreads), key=lambda way: (round(way.g_per_kwh, 5), way.start_wall_ns)
    )
    here = found[0]
    return Plan(task, spreads, best, here.now if here else None)


def spread_of(task: Task, place: Place) -> Spread | None:
    """All ways to run something in one place; None where its figures cover none."""
    asked = (place.figures, task.duration_ns, task.earliest_ns, task.latest_end_ns)
    best = greenest_window(*asked)
    mean_g_per_kwh = mean_over(*asked)
    if best is None or mean_g_per_kwh is None:
        return None
    starts = [start for stretch in possible_starts(*asked) for start in stretch]
    worst = max(starts, key=lambda start: start.g_per_kwh)
    now = next((start for start in starts if start.start_wall_ns == task.earliest_ns), None)
    return Spread(
        zone=place.zone,
        now=_way(task, place, now.start_wall_ns, now.g_per_kwh) if now else None,
        best=_way(task, place, best.start_wall_ns, best.g_per_kwh),
        worst=_way(task, place, worst.start_wall_ns, worst.g_per_kwh),
        mean_g_per_kwh=mean_g_per_kwh,
        mean_co2e_g=_grams(task, mean_g_per_kwh),
        known_until_wall_ns=timeline.until_ns(place.figures[-1]),
        estimated=any(
            figure.estimated
            for figure in place.figures
            if timeline.until_ns(figure) > task.earliest_ns and timeline.from_ns(figure) < task.latest_end_ns
        ),
    )


def _way(task: Task, place: Place, start_wall_ns: int, g_per_kwh: float) -> Way:
    return Way(
        zone=place.zone,
        start_wall_ns=start_wall_ns,
        g_per_kwh=g_per_kwh,
        co2e_g=_grams(task, g_per_kwh),
        cost=_cost(task, place.prices, start_wall_ns),
    )


def _grams(task: Task, g_per_kwh: float) -> float | None:
    return None if task.energy_uj is None else task.energy_uj / UJ_PER_KWH * task.pue * g_per_kwh


def _cost(task: Task, prices: Prices | None, start_wall_ns: int) -> float | None:
    """What it costs to begin then; None where that is not known for all of the time."""
    if prices is None or task.energy_uj is None:
        return None
    end_wall_ns = start_wall_ns + task.duration_ns
    parts = timeline.split(prices.tariffs, task.energy_uj, start_wall_ns, end_wall_ns)
    if any(tariff is None for tariff, _ in parts):
        return None
    return prices.cost(task.energy_uj, task.pue, start_wall_ns, end_wall_ns)
