"""``wattspan demo``: living metrics without a GPU."""

import argparse
from dataclasses import replace
from typing import Final

from wattspan.cli.near import argument
from wattspan.cli.settings import Loaded
from wattspan.config import whole

NAME: Final = "demo"
HELP: Final = "Serve living metrics of simulated GPUs; needs no hardware."
USAGE: Final = "demo [--gpus N] [--faults] [flags]"


def declare(parser: argparse.ArgumentParser) -> None:
    """How many cards, and whether some of them fail now and then."""
    gpus = argument(whole(1, 64))
    parser.add_argument("--gpus", type=gpus, default=8, metavar="N", help="Simulated GPUs. Default: 8.")
    parser.add_argument("--faults", action="store_true", help="Let cards be lost and throttled now and then.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Runs until it is told to stop, with state and socket apart from those of a real daemon."""
    from wattspan.app import demo
    from wattspan.journal.folder import DEMO

    folder = loaded.config.state_dir / DEMO
    named = loaded.origins["socket"] != "default"
    socket = loaded.config.socket if named else folder / "wattspan.sock"
    return demo(replace(loaded.config, state_dir=folder, socket=socket), gpus=args.gpus, faults=args.faults)
