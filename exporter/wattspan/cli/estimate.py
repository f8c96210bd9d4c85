"""``wattspan estimate``: what a training will use and emit, before it has begun."""

import argparse
import json
from typing import Any, Final

from wattspan.cli.near import argument
from wattspan.cli.settings import Loaded
from wattspan.config import SETTINGS, Kind, number, whole
from wattspan.errors import SetupError

NAME: Final = "estimate"
HELP: Final = "Estimate energy, CO2e and cost of a training before it runs, each with its range and method."
USAGE: Final = (
    "estimate --gpu MODEL --gpus N (--hours H | --params P --tokens T --mfu M)"
    " [--utilization U | --power W | --project P] [--format text|json] [flags]"
)

_SHARE: Final = "a share of 1"


def declare(parser: argparse.ArgumentParser) -> None:
    """What is going to run, and where."""

    def add(flag: str, kind: Kind[Any], metavar: str, text: str, default: object = None) -> None:
        parser.add_argument(flag, type=argument(kind), metavar=metavar, help=text, default=default)

    parser.add_argument(
        "--gpu", required=True, metavar="MODEL", help="Such as `H100 SXM5`, or what the driver calls it."
    )
    add("--gpus", whole(1, 10_000_000), "N", "How many. Default: 1.", 1)
    add("--hours", number(1e-4, 1e9, "hours"), "H", "For how long they are held.")
    add("--params", number(1, 1e16, "parameters"), "P", "Of the model, such as 7e9; instead of --hours.")
    add("--tokens", number(1, 1e18, "tokens"), "T", "That it is trained on, such as 1e12.")
    add("--mfu", number(0.001, 1, _SHARE), "M", "Model FLOPs utilization, such as 0.4.")
    add(
        "--utilization",
        number(0, 1, _SHARE),
        "U",
        "Share of the time in which the GPUs compute. Default: all of it.",
    )
    add("--power", number(1, 10_000, "watts"), "W", "Mean power of a GPU, where somebody has measured it.")
    parser.add_argument(
        "--project", metavar="P", help="Take the power from past runs of the project on this node."
    )
    add(
        "--host-power", number(0, 10_000, "watts"), "W", "Of the hosts, for each GPU. Default: left out.", 0.0
    )
    parser.add_argument(
        "--zone", metavar="Z", help="Where it will run, such as FR. Default: the settings grid.*"
    )
    add("--intensity", SETTINGS["grid.intensity"].kind, "G", "Of the grid, in grams of CO2e per kWh.")
    add("--pue", SETTINGS["grid.pue"].kind, "P", "Facility energy over IT energy. Default: grid.pue.")
    add("--price", SETTINGS["cost.price-per-kwh"].kind, "P", "Of a kWh. Default: the settings cost.*")
    parser.add_argument("--currency", metavar="C", help="Of --price. Default: cost.currency.")
    add(
        "--gpus-per-host",
        whole(1, 1024),
        "N",
        "What embodied.host-kg is divided among. Default: 8, or --gpus where that is less.",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: text.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Answer from tables, settings, providers and the journal. 1 when not even the energy can be said."""
    from wattspan.carbon.estimate import estimate
    from wattspan.cli.estimate_inputs import inputs_of
    from wattspan.cli.estimate_output import document, print_text

    _check(args)
    inputs = inputs_of(args, loaded)
    made = estimate(inputs.plan)
    if args.format == "json":
        print(json.dumps(document(inputs, made), indent=2))
    else:
        print_text(inputs, made)
    return 0 if made.energy_kwh else 1


def _check(args: argparse.Namespace) -> None:
    """Refuse what contradicts itself.

    Raises:
        SetupError: two ways to one figure, or half of one.
    """
    by_model = [name for name in ("params", "tokens", "mfu") if getattr(args, name) is not None]
    if args.hours is not None and by_model:
        raise SetupError(f"--hours and --{by_model[0]}: both say how long; allowed: one of the two ways")
    if args.hours is None and len(by_model) != 3:
        raise SetupError("estimate: how long? Give --hours, or --params, --tokens and --mfu")
    ways = [name for name in ("power", "project", "utilization") if getattr(args, name) is not None]
    if len(ways) > 1:
        raise SetupError(f"--{ways[0]} and --{ways[1]}: both say what a GPU draws; allowed: one of them")
    if args.zone is not None and args.intensity is not None:
        raise SetupError("--zone and --intensity: both say what the grid emits; allowed: one of them")
    if args.currency is not None and args.price is None:
        raise SetupError("--currency: there is no --price that it could be of")
