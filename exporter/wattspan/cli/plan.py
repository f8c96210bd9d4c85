"""``wattspan plan``: when to run something, and where; what it saves against starting now."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Final

from wattspan import log
from wattspan.cli.answered import Answered, answered, service_with_cache
from wattspan.cli.grid import length_ns, no_forecast
from wattspan.cli.near import argument, quoted
from wattspan.cli.settings import Loaded
from wattspan.cli.table import print_table
from wattspan.config import Config, number, whole
from wattspan.errors import SetupError
from wattspan.units import UW_PER_W

if TYPE_CHECKING:
    from wattspan.carbon.plan import Place, Plan, Spread, Task, Way
    from wattspan.model import GridState

NAME: Final = "plan"
HELP: Final = "Say when to run something so that it emits least, and what that saves against starting now."
USAGE: Final = (
    "plan --duration 8h --within 24h [--zones FR,SE,...] [--power WATTS | --gpu MODEL --gpus N]"
    " [--utc] [--format text|json] [flags]"
)

UNSURE: Final = (
    "This is a forecast, and no range comes with it: the further ahead, the less sure."
    " What is saved is the difference of two forecasts."
)
"""Said in words, for no provider says how far off it may be, and a number would be made up."""

_OF_ONE_PLACE: Final = frozenset({"prometheus", "file", "peer"})
"""Providers that speak of the place that they were set up for, whatever zone they are asked for."""

_BREATH_S: Final = 1.0
"""Between two questions about two places to one service: a list of zones is no burst."""

_GIVEN_UP: Final = frozenset({"throttled", "timeout", "unreachable", "server"})
"""A service that fails so is not asked about the places that follow: it would fail again."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Whose figures a place has.

    Attributes:
        provider, signal, basis, origin: of the figures ahead.
    """

    provider: str
    signal: str
    basis: str
    origin: str


def declare(parser: argparse.ArgumentParser) -> None:
    """What is to run, and where it may."""
    parser.add_argument(
        "--duration", type=length_ns, required=True, metavar="DURATION", help="How long it takes."
    )
    parser.add_argument(
        "--within", type=length_ns, required=True, metavar="DURATION", help="It must be over by then."
    )
    parser.add_argument(
        "--zones",
        default="",
        metavar="ZONE,...",
        help="Grid zones or cloud regions where it may run besides here. Default: only here.",
    )
    parser.add_argument(
        "--power",
        type=argument(number(0.001, 1e9, "watts")),
        metavar="WATTS",
        help="What its hardware draws all the while, for grams and money.",
    )
    parser.add_argument(
        "--gpu", metavar="MODEL", help="Instead: the model of its GPUs, at their rated power."
    )
    count = argument(whole(1, 1_000_000))
    parser.add_argument("--gpus", type=count, metavar="N", help="How many of them. Default: 1.")
    parser.add_argument("--utc", action="store_true", help="Times in UTC. Default: this machine's time zone.")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: text.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Ask the daemon beside this, else the chain that one would hold, and providers for the other places.

    1 without a forecast.
    """
    from wattspan.carbon.plan import Task, plan_of

    if args.duration > args.within:
        raise SetupError("--within: it is shorter than --duration; allowed: at least as long")
    power_uw, method = _power(args.power, args.gpu, args.gpus)
    now_wall_ns = time.time_ns()
    told = answered(loaded, now_wall_ns)
    places, sources, without = _places(told, loaded.config, args.zones, now_wall_ns)
    task = Task(args.duration, now_wall_ns, now_wall_ns + args.within, power_uw, told.state.pue)
    plan = plan_of(task, places)
    if plan is None:
        for line in _why_not(places, without, told):
            print(line, file=sys.stderr)
        return 1
    for place in places:
        if all(spread.zone != place.zone for spread in plan.spreads):
            without.setdefault(place.zone, "its forecast covers no stretch so long")
    if args.format == "json":
        print(json.dumps(_document(plan, sources, without, method, told), indent=2))
    else:
        _print(plan, sources, without, method, told, UTC if args.utc else None)
    return 0


def _power(watts: float | None, gpu: str | None, gpus: int | None) -> tuple[int | None, str]:
    """Microwatts, and where they are from, in words.

    Raises:
        SetupError: flags that contradict each other, or a model that is not known.
    """
    if watts is not None:
        if gpu is not None or gpus is not None:
            raise SetupError("--power and --gpu: both are set; allowed: one of the two")
        return round(watts * UW_PER_W), "given"
    if gpu is None:
        if gpus is not None:
            raise SetupError("--gpus: says how many, and --gpu is not set; allowed: both or neither")
        return None, ""
    count = 1 if gpus is None else gpus
    from wattspan.carbon.hardware import find_gpu, near_gpus

    found = find_gpu(gpu)
    if found is None:
        near = near_gpus(gpu)
        meant = f"; did you mean {', '.join(near)}?" if near else "; use --power"
        raise SetupError(f"--gpu: {quoted(gpu)} names no GPU of the table, or several{meant}")
    if found.tdp_w is None:
        raise SetupError(f"--gpu: {found.model} has no rated power of its own; use --power")
    what = f"{count} x {found.model} at the card's TDP of {found.tdp_w:g} W: a ceiling, without the host"
    return round(found.tdp_w * count * UW_PER_W), what


def _places(
    told: Answered, config: Config, zones: str, now_wall_ns: int
) -> "tuple[list[Place], dict[str, _Source], dict[str, str]]":
    """The places, this one first; whose figures they have; why those without a forecast have none."""
    from wattspan.carbon.countries import WORLD
    from wattspan.carbon.plan import Place

    state = told.state
    zone = state.zone or WORLD
    places: list[Place] = []
    sources: dict[str, _Source] = {}
    without: dict[str, str] = {}
    others = _elsewhere(config, zones, zone)
    if zone != WORLD or not others:
        places.append(Place(zone, state.outlook.figures if state.outlook else (), told.prices))
        _note(zone, state, sources, without)
    questions = Questions(now_wall_ns)
    for other, choices in others.items():
        found = _first_that_looks_ahead(choices, state, questions)
        places.append(Place(other, found.outlook.figures if found and found.outlook else ()))
        if found is None:
            without[other] = questions.why_not(choices)
        else:
            _note(other, found, sources, without)
    return places, sources, without


def _note(zone: str, state: "GridState", sources: dict[str, _Source], without: dict[str, str]) -> None:
    if state.outlook is None:
        without[zone] = no_forecast(state).removeprefix("no forecast: ")
    else:
        first = state.outlook.figures[0]
        sources[zone] = _Source(first.provider, first.signal, first.basis, state.outlook.figures[-1].origin)


def _elsewhere(config: Config, zones: str, here: str) -> dict[str, Sequence[Config]]:
    """For each other place, by its zone, the settings under which each provider may know it.

    Raises:
        SetupError: a place that is unknown.
    """
    from wattspan.carbon.location import locate
    from wattspan.carbon.regions import find_region

    # What is set for this place says nothing of another.
    own: dict[str, Any] = {
        entry.name: ""
        for entry in fields(Config)
        if entry.name.startswith("grid_") and entry.name.endswith("_zone") and entry.name != "grid_zone"
    }
    own |= {"grid_region": None, "grid_intensity": None}
    own |= {entry.name: entry.default for entry in fields(Config) if entry.name.startswith("cost_")}
    places: dict[str, Sequence[Config]] = {}
    for word in (part.strip() for part in zones.split(",")):
        if not word:
            continue
        region = word if find_region(word) else None
        try:
            zone = locate(None if region else word, region, {}).zone
        except SetupError as error:
            raise SetupError(f"--zones: {str(error).removeprefix('grid.zone: ')}") from error
        if zone == here:
            continue
        places[zone] = [
            replace(config, grid_zone=zone, grid_providers=(name,), **own)
            for name in config.grid_providers
            if name not in _OF_ONE_PLACE
        ]
    return places


class Questions:
    """One after another to each service, with a breath between, and none to one that has failed.

    Args:
        now_wall_ns: the wall clock.
        pause: waits so many seconds.
    """

    def __init__(self, now_wall_ns: int, pause: Callable[[float], None] = time.sleep) -> None:
        self._now_wall_ns = now_wall_ns
        self._pause = pause
        self._asked_s: dict[str, float] = {}
        self._given_up: dict[str, str] = {}

    def state(self, config: Config) -> "GridState | None":
        """What the one provider of these settings says of their place; None where it is not asked any more.

        Raises:
            SetupError: it cannot know the place.
        """
        (name,) = config.grid_providers
        if name in self._given_up:
            return None
        carbon = service_with_cache(config)
        (feed,) = carbon.chain.feeds
        carbon.settle(self._now_wall_ns, time.monotonic_ns())
        if feed.rests_ns(self._now_wall_ns) == 0:
            # The first question about another place comes after that about this one.
            now_s = time.monotonic()
            since_s = now_s - self._asked_s.get(name, now_s)
            if since_s < _BREATH_S:
                self._pause(_BREATH_S - since_s)
            carbon.refresh(self._now_wall_ns, time.monotonic_ns(), if_allowed=True)
            self._asked_s[name] = time.monotonic()
            if feed.trouble.partition(":")[0] in _GIVEN_UP:
                self._given_up[name] = feed.trouble
        return carbon.state(self._now_wall_ns)

    def why_not(self, choices: Sequence[Config]) -> str:
        """Why a place has no forecast."""
        names = [name for config in choices for name in config.grid_providers]
        if not names:
            return "no provider that knows other places is set here (grid.providers)"
        failed = [f"{name}: {self._given_up[name]}" for name in names if name in self._given_up]
        if failed:
            return f"left alone after {'; '.join(failed)}"
        return "no provider of grid.providers looks ahead there, with the same meaning"


def _first_that_looks_ahead(
    choices: Sequence[Config], here: "GridState", questions: Questions
) -> "GridState | None":
    """What a provider says of another place, in figures that mean the same as those here."""
    for config in choices:
        try:
            state = questions.state(config)
        except SetupError:  # it knows this country alone, or the other one not
            continue
        if state is None or state.outlook is None:
            continue
        if (state.signal, state.basis) == (here.signal, here.basis):
            return state
    return None


def _why_not(places: "Sequence[Place]", without: Mapping[str, str], told: Answered) -> Iterator[str]:
    if not any(place.figures for place in places):
        for zone, why in without.items():
            yield f"wattspan: no forecast for {zone}: {log.escaped(f'{why} (answered {told.by})')}"
        return
    yield "wattspan: no forecast covers a stretch so long within that time; ask for a shorter one"


def _document(
    plan: "Plan", sources: Mapping[str, _Source], without: Mapping[str, str], method: str, told: Answered
) -> dict[str, Any]:
    from wattspan.report.quantities import rfc3339

    task = plan.task
    return {
        "made_at": rfc3339(task.earliest_ns),
        "duration_seconds": task.duration_ns / 1e9,
        "latest_end_at": rfc3339(task.latest_end_ns),
        "power_watts": None if task.power_uw is None else task.power_uw / UW_PER_W,
        "power_method": method,
        "pue_ratio": task.pue,
        "currency": told.currency,
        "best": _way(plan.best, task),
        "now": _way(plan.now, task),
        "saved": {"ratio": plan.saved_ratio, "co2e_grams": plan.saved_co2e_g, "cost": plan.saved_cost},
        "places": [_place(spread, sources[spread.zone], task) for spread in plan.spreads],
        "without_forecast": dict(without),
        "uncertainty": UNSURE,
        "answered": told.by,
    }


def _place(spread: "Spread", source: _Source, task: "Task") -> dict[str, Any]:
    from wattspan.report.quantities import rfc3339

    return {
        "grid_zone": spread.zone,
        "provider": source.provider,
        "signal": source.signal,
        "basis": source.basis,
        "estimated": spread.estimated,
        "origin": source.origin,
        "known_until": rfc3339(spread.known_until_wall_ns),
        "best": _way(spread.best, task),
        "now": _way(spread.now, task),
        "worst": _way(spread.worst, task),
        "mean": {"grams_per_kwh": spread.mean_g_per_kwh, "co2e_grams": spread.mean_co2e_g},
    }


def _way(way: "Way | None", task: "Task") -> dict[str, Any] | None:
    from wattspan.report.quantities import rfc3339

    if way is None:
        return None
    return {
        "grid_zone": way.zone,
        "start_at": rfc3339(way.start_wall_ns),
        "end_at": rfc3339(way.start_wall_ns + task.duration_ns),
        "grams_per_kwh": way.g_per_kwh,
        "co2e_grams": way.co2e_g,
        "cost": way.cost,
    }


def _print(
    plan: "Plan",
    sources: Mapping[str, _Source],
    without: Mapping[str, str],
    method: str,
    told: Answered,
    zone: tzinfo | None,
) -> None:
    print_table(_advice(plan, told.currency, zone))
    print()
    print_table(_ways(plan, told.currency, zone))
    print()
    print_table(_notes(plan, sources, without, method, told, zone))
    print()
    print(UNSURE.replace(". ", ".\n"))


def _advice(plan: "Plan", currency: str, zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    from wattspan.cli.moments import hours, moment, span
    from wattspan.report.quantities import mass, percent

    task, best, now = plan.task, plan.best, plan.now
    wait_ns = best.start_wall_ns - task.earliest_ns
    when = span(best.start_wall_ns, best.start_wall_ns + task.duration_ns, zone)
    yield "run", f"{'now' if wait_ns <= 0 else f'in {hours(wait_ns)}'}, {when}, in {best.zone}"
    if now is None:
        yield "saves", "unknown: no forecast says what starting now would emit"
    elif best == now:
        until = moment(task.latest_end_ns, zone)
        yield "saves", f"nothing can be saved: nothing that ends by {until} is greener than now"
    else:
        share = f" ({percent(plan.saved_ratio)})" if plan.saved_ratio is not None else ""
        if plan.saved_co2e_g is not None and now.co2e_g is not None:
            saved = f"{mass(plan.saved_co2e_g)} of {mass(now.co2e_g)} CO2e{share}"
        else:
            saved = f"{now.g_per_kwh - best.g_per_kwh:.0f} of {now.g_per_kwh:.0f} g CO2e/kWh{share}"
        yield "saves", f"{saved} against starting now in {now.zone}"
        if plan.saved_cost is not None and now.cost is not None:
            yield "cost", _cost(plan.saved_cost, now.cost, currency)


def _cost(saved: float, now: float, currency: str) -> str:
    from wattspan.report.quantities import money

    if abs(saved) < 1e-9 * abs(now):  # the same price at all hours, but for the last digit
        return f"the same, {money(now, currency)}"
    change = "less" if saved > 0 else "more"
    return f"{money(abs(saved), currency)} {change} than the {money(now, currency)} of starting now"


def _ways(plan: "Plan", currency: str, zone: tzinfo | None) -> Iterator[tuple[str, ...]]:
    """The spread: each place's best, now, mean and worst."""
    from wattspan.cli.moments import moment
    from wattspan.report.quantities import mass, money

    powered = plan.task.power_uw is not None
    priced = any(spread.best.cost is not None for spread in plan.spreads)
    yield ("ZONE", "WAY", "START", "G/KWH", *(("CO2E",) if powered else ()), *(("COST",) if priced else ()))
    for spread in plan.spreads:
        for what, way in (
            ("best", spread.best),
            ("now", spread.now),
            ("mean", None),
            ("worst", spread.worst),
        ):
            if what != "mean" and way is None:
                continue
            g_per_kwh = way.g_per_kwh if way else spread.mean_g_per_kwh
            grams = way.co2e_g if way else spread.mean_co2e_g
            cost = way.cost if way else None
            yield (
                spread.zone,
                what,
                moment(way.start_wall_ns, zone) if way else "of all starts",
                f"{g_per_kwh:.0f}",
                *((mass(grams) if grams is not None else "-",) if powered else ()),
                *((money(cost, currency) if cost is not None else "-",) if priced else ()),
            )


def _notes(
    plan: "Plan",
    sources: Mapping[str, _Source],
    without: Mapping[str, str],
    method: str,
    told: Answered,
    zone: tzinfo | None,
) -> Iterator[tuple[str, str]]:
    from wattspan.cli.moments import moment, zone_name
    from wattspan.report.quantities import power

    task = plan.task
    for spread in plan.spreads:
        source = sources[spread.zone]
        estimated = ", estimated" if spread.estimated else ""
        until = moment(spread.known_until_wall_ns, zone)
        short = "; nothing later was looked at" if spread.known_until_wall_ns < task.latest_end_ns else ""
        yield (
            "forecast",
            (
                f"{spread.zone}: by {source.provider} until {until}{short}"
                f" ({source.signal}, {source.basis}{estimated}; {source.origin})"
            ),
        )
    for other, why in without.items():
        yield "forecast", f"{other}: none, {why}"
    if task.power_uw is not None:
        given = "" if method == "given" else f" ({method})"
        yield "power", f"{power(task.power_uw / UW_PER_W)}{given}, PUE {task.pue:g}"
    else:
        yield "power", "not given, so neither grams nor money; set --power or --gpu"
    if task.power_uw is not None and told.lacks_prices_ahead:
        yield "cost", "the daemon tells the price in force alone; set cost.* here for that of other hours"
    yield "times", zone_name(task.earliest_ns, zone)
    yield "answered", told.by
