"""What ``wattspan estimate`` is computed from: each figure with the way it came about."""

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from wattspan.cli.answered import Answered, answered, by_settings
from wattspan.cli.near import quoted
from wattspan.cli.settings import Loaded
from wattspan.errors import SetupError
from wattspan.units import UJ_PER_KWH

if TYPE_CHECKING:
    from wattspan.carbon.estimate import Plan
    from wattspan.carbon.hardware import Gpu
    from wattspan.config import Config
    from wattspan.model import GridState

GPUS_PER_HOST: Final = 8
"""What a host is divided among, where nobody says: an HGX baseboard, or fewer if fewer are planned."""


@dataclass(frozen=True, slots=True)
class Told:
    """A figure and where it comes from.

    Attributes:
        value: the figure; None where it cannot be said.
        method: how it came about, or the reason why it is missing.
        sources: whom it rests on, one line each.
        assumptions: what was taken for granted.
    """

    value: Any
    method: str
    sources: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inputs:
    """All of them.

    Attributes:
        plan: the figures together.
        gpu: as the table calls it, else as it was written.
        grid_zone, currency: of intensity and price; empty where nobody said.
        hours, power, pue, intensity, embodied, price: how each came about.
        answered: who said what of grid and price was not given, in words that go on after "answered".
    """

    plan: "Plan"
    gpu: str
    grid_zone: str
    currency: str
    hours: Told
    power: Told
    pue: Told
    intensity: Told
    embodied: Told
    price: Told
    answered: str

    @property
    def told(self) -> tuple[Told, ...]:
        """All of them, in the order in which people ask."""
        return (self.hours, self.power, self.pue, self.intensity, self.embodied, self.price)

    @property
    def sources(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(line for told in self.told for line in told.sources))

    @property
    def assumptions(self) -> list[str]:
        """What was taken for granted."""
        return [line for told in self.told for line in told.assumptions]


def inputs_of(args: argparse.Namespace, loaded: Loaded) -> Inputs:
    """Everything that is known, from tables, settings, providers and the journal. May ask the network.

    Raises:
        SetupError: a question that has no answer.
        UnreachableError: past runs are asked for, and there is no journal.
    """
    from wattspan.carbon.embodied import G_PER_KG
    from wattspan.carbon.estimate import Plan
    from wattspan.carbon.hardware import find_gpu
    from wattspan.report.ranges import EMBODIED_FACTOR

    config = loaded.config
    gpu, gpus = find_gpu(args.gpu), args.gpus
    hours = _hours(args, gpu)
    power = _power(args, gpu, config)
    told = _grid(args, loaded)
    grid = told.state
    intensity = _intensity(args, grid, hours.value)
    pue = _pue(args, grid)
    price, currency = _price(args, told, config)
    embodied = _embodied(args, gpu, config)
    host_kg = config.embodied_host_kg
    plan = Plan(
        gpus=gpus,
        hours=hours.value,
        power=power.value,
        host_watts=args.host_power,
        pue=pue.value,
        g_per_kwh=intensity.value,
        embodied_gpu_g=embodied.value,
        embodied_host_g=None if host_kg is None else host_kg * G_PER_KG,
        embodied_factor=EMBODIED_FACTOR,
        gpus_per_host=args.gpus_per_host or min(gpus, GPUS_PER_HOST),
        lifetime_years=config.embodied_lifetime_years,
        price_per_kwh=price.value,
    )
    return Inputs(
        plan=plan,
        gpu=gpu.model if gpu else args.gpu,
        grid_zone="" if args.intensity is not None or grid.intensity is None else grid.intensity.grid_zone,
        currency=currency,
        hours=hours,
        power=power,
        pue=pue,
        intensity=intensity,
        embodied=embodied,
        price=price,
        answered=told.by,
    )


def _hours(args: argparse.Namespace, gpu: "Gpu | None") -> Told:
    from wattspan.carbon.estimate import hours_of

    if args.hours is not None:
        return Told(args.hours, "as given")
    if gpu is None:
        raise SetupError(_unknown_gpu(args.gpu, "--hours, and --power or --project"))
    if gpu.dense_flops is None:
        raise SetupError(f"--params: the table has no peak FLOP/s of {gpu.model}; give --hours")
    hours = hours_of(args.params, args.tokens, gpu.dense_flops, args.mfu, args.gpus)
    method = (
        f"6 x {_plain(args.params)} parameters x {_plain(args.tokens)} tokens, at {args.mfu * 100:g} % of"
        f" {gpu.dense_flops / 1e12:g} TFLOP/s ({gpu.precision}, dense)"
    )
    return Told(
        hours,
        method,
        (f"peak of the {gpu.model}: {gpu.peak_source}", "6 FLOPs per parameter and token: arXiv 2001.08361"),
        ("A dense transformer, trained once through; nothing is repeated or recomputed.",),
    )


def _power(args: argparse.Namespace, gpu: "Gpu | None", config: "Config") -> Told:
    from wattspan.carbon import estimate

    if args.power is not None:
        known = estimate.measured(args.power)
        return Told(known, known.method, ("gain of sensors: arXiv 2312.02741",))
    if args.project is not None:
        return _power_as_before(args, config)
    if gpu is None:
        raise SetupError(_unknown_gpu(args.gpu, "--power or --project"))
    if gpu.tdp_w is None:
        raise SetupError(f"--gpu: {gpu.model} has no rated power in the table ({gpu.note}); give --power")
    known = estimate.rated(gpu.tdp_w, args.utilization)
    assumptions = []
    if args.utilization is None:
        assumptions.append("The GPUs compute all the time; give --utilization if they wait.")
    if gpu.note:
        assumptions.append(f"{gpu.model}: {gpu.note}.")
    doubt = "" if gpu.checked else " (not confirmed)"
    return Told(
        known,
        known.method,
        (
            f"TDP of the {gpu.model}: {gpu.tdp_source}{doubt}",
            "draw of trainings against TDP: arXiv 2506.14551, 2412.08602 and 2503.05804",
        ),
        tuple(assumptions),
    )


def _power_as_before(args: argparse.Namespace, config: "Config") -> Told:
    from wattspan.carbon import estimate
    from wattspan.journal.history import History

    history = History(config.state_dir)
    runs = estimate.past_runs(history.runs(project=args.project, state="ended"), _is_such(args.gpu))
    known = estimate.as_before(runs, args.project)
    if known is None:
        reason = (
            f"no ended run of project {quoted(args.project)} is known on this node that held only such GPUs,"
            " for 5 GPU-minutes or more (see: wattspan runs)"
        )
        return Told(None, reason)
    if known.covers_host and args.host_power:
        raise SetupError(f"--host-power: past runs of project {quoted(args.project)} have their host in them")
    assumptions = ("It draws what those runs drew.",)
    return Told(known, known.method, ("this node's journal",), assumptions)


def _is_such(wanted: str) -> Callable[[str], bool]:
    """Whether a model, as the driver names it, is the wanted one. Each is looked up once."""
    from wattspan.carbon.hardware import find_gpu

    gpu = find_gpu(wanted)
    known = {wanted: True}

    def is_such(model: str) -> bool:
        if model not in known:
            other = find_gpu(model)
            known[model] = other is not None and gpu is not None and other.model == gpu.model
        return known[model]

    return is_such


def _grid(args: argparse.Namespace, loaded: Loaded) -> Answered:
    """The grid's figures in force where it will run, and the price in force here.

    Raises:
        SetupError: a place that is unknown, or settings that contradict each other.
    """
    now_wall_ns = time.time_ns()
    if args.intensity is None and args.zone is None:
        return answered(loaded, now_wall_ns)
    config, zone = loaded.config, args.zone or ""
    if args.intensity is not None or zone.upper() != (config.grid_zone or "").upper():
        # Live providers are set up for the place that the settings name.
        config = replace(config, grid_providers=(), grid_signal=None, grid_basis=None)
    if args.zone is None:
        return by_settings(config, now_wall_ns, "by this command, for --intensity")
    config = replace(config, grid_zone=zone, grid_region=None, grid_intensity=None)
    try:
        return by_settings(config, now_wall_ns, "by this command, for --zone")
    except SetupError as error:
        raise SetupError(re.sub(r"^grid\.zone:", "--zone:", str(error))) from error


def _intensity(args: argparse.Namespace, grid: "GridState", hours: float) -> Told:
    from wattspan.carbon.estimate import Spread, exactly
    from wattspan.report.attributions import attribution_of
    from wattspan.report.ranges import kind_ratio

    if args.intensity is not None:
        return Told(exactly(args.intensity), f"{args.intensity:g} g/kWh, as given and taken as exact")
    figure = grid.intensity
    if figure is None:
        return Told(None, "no intensity is known for now; give --intensity or --zone")
    forecast = _forecast_mean(grid, hours)
    g_per_kwh = figure.g_per_kwh if forecast is None else forecast
    ratio = kind_ratio("constant" if forecast is None else "estimated", figure.grid_zone)
    what = "the figure in force now" if forecast is None else "the mean of the forecast over those hours"
    told = f"{g_per_kwh:g} g/kWh in {figure.grid_zone} ({figure.signal}, {figure.basis}), {what}"
    origin = f"; {figure.origin.rstrip('.')}" if figure.origin else ""
    assumptions = () if forecast is not None else ("One intensity for all hours of the run.",)
    return Told(
        Spread(g_per_kwh, max(g_per_kwh * (1 - ratio), 0.0), g_per_kwh * (1 + ratio)),
        f"{told}{origin}. The range is {ratio * 100:.0f} % both ways",
        (attribution_of(figure.provider),),
        assumptions,
    )


def _forecast_mean(grid: "GridState", hours: float) -> float | None:
    """Over a run that begins now, in g/kWh; None where the forecast does not reach to its end."""
    from wattspan.carbon.estimate import HOUR_NS
    from wattspan.carbon.pricing import Pricing

    if grid.outlook is None:
        return None
    now_wall_ns = time.time_ns()
    priced = Pricing(grid.outlook.figures).price(
        UJ_PER_KWH, now_wall_ns, now_wall_ns + round(hours * HOUR_NS)
    )
    return None if priced.unpriced_uj else priced.grams


def _pue(args: argparse.Namespace, grid: "GridState") -> Told:
    if args.pue is not None:
        return Told(args.pue, "as given")
    if grid.pue_configured:
        return Told(grid.pue, "grid.pue")
    return Told(1.0, "not known", (), ("PUE is not known and counts as 1: give --pue, or set grid.pue.",))


def _price(args: argparse.Namespace, grid: Answered, config: "Config") -> tuple[Told, str]:
    """Of a kWh, and its currency."""
    if args.price is not None:
        currency = config.cost_currency if args.currency is None else args.currency
        return Told(args.price, f"{args.price:g} {currency}".rstrip() + " per kWh, as given"), currency
    tariff = grid.state.tariff
    if tariff is None:
        return Told(None, "no price is known; give --price, or set cost.price-per-kwh"), ""
    price, currency = max(tariff.per_kwh, 0.0), grid.currency  # as counters have it
    assumptions = ("One price for all hours of the run.",)
    return Told(price, f"{price:g} {currency} per kWh, the price in force now", (), assumptions), currency


def _embodied(args: argparse.Namespace, gpu: "Gpu | None", config: "Config") -> Told:
    """Grams of making one GPU."""
    from wattspan.carbon.hardware import find_embodied

    if config.embodied_gpu_kg is not None:
        return Told(
            config.embodied_gpu_kg * 1000, f"{config.embodied_gpu_kg:g} kg for each GPU (embodied.gpu-kg)"
        )
    figure = find_embodied(args.gpu)
    if figure is None:
        name = gpu.model if gpu else quoted(args.gpu)
        return Told(None, f"nothing is published of making exactly a {name}; set embodied.gpu-kg")
    note = f" ({figure.note})" if figure.note else ""
    return Told(
        figure.kg * 1000,
        f"{figure.kg:g} kg for each GPU, cradle to gate{note}",
        (f"embodied: {figure.source}",),
    )


def _plain(value: float) -> str:
    """``7e9`` rather than ``7e+09``."""
    return re.sub(r"e\+0?", "e", f"{value:g}")


def _unknown_gpu(name: str, instead: str) -> str:
    from wattspan.carbon.hardware import near_gpus

    near = near_gpus(name)
    meant = f"; did you mean {', '.join(near)}?" if near else "."
    return f"--gpu: {quoted(name)} is no single card of the table{meant} For any other give {instead}"
