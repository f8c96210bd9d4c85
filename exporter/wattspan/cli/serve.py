"""``wattspan serve``: meter this node and publish what was metered."""

import argparse
import os
from dataclasses import replace
from typing import Final

from wattspan.cli.settings import Loaded

NAME: Final = "serve"
HELP: Final = "Meter this node and publish its metrics."
USAGE: Final = "serve [--ephemeral] [flags]"


def declare(parser: argparse.ArgumentParser) -> None:
    """Whether it is there for one run only."""
    parser.add_argument(
        "--ephemeral",
        action="store_true",
        help="Serve the local socket alone, without a port, and end 30 s after the last run.",
    )


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Runs until it is told to stop."""
    from wattspan.app import serve
    from wattspan.client import ephemeral

    config = loaded.config
    if args.ephemeral and loaded.origins["state.dir"] == "default":
        config = replace(config, state_dir=ephemeral.state_dir(os.environ, config.state_dir))
    return serve(config, ephemeral=args.ephemeral)
