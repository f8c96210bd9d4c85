"""``wattspan grid``: the intensity in force here, and where it comes from."""

import argparse
import json
import os
import time
from collections.abc import Iterator
from typing import Final

from wattspan.cli.settings import Loaded
from wattspan.cli.table import print_table
from wattspan.config import Config
from wattspan.model import GridState

NAME: Final = "grid"
HELP: Final = "Print the grid's carbon intensity in force here, its source, and how the place was found."
USAGE: Final = "grid [--format text|json] [flags]"


def declare(parser: argparse.ArgumentParser) -> None:
    """How to print."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: text.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Ask the same chain that the daemon holds. 1 when it knows nothing for now."""
    state = state_of(loaded.config)
    if args.format == "json":
        from wattspan.publish.api import grid_document

        print(json.dumps(grid_document(state), indent=2))
    else:
        print_table(_rows(state))
    return 0 if state.intensity else 1


def state_of(config: Config) -> GridState:
    """The carbon figures in force with these settings, now.

    Raises:
        SetupError: a place that is unknown, or settings that contradict each other.
    """
    from wattspan.carbon_service import CarbonService

    carbon = CarbonService(config, os.environ)
    now_wall_ns = time.time_ns()
    carbon.refresh(now_wall_ns, time.monotonic_ns(), at_once=True)
    return carbon.state(now_wall_ns)


def _rows(state: GridState) -> Iterator[tuple[str, str]]:
    if state.intensity is None:
        yield "intensity", "not known for now; energy stays unpriced"
    else:
        intensity = state.intensity
        estimated = ", estimated" if intensity.estimated else ""
        meaning = f"{intensity.signal}, {intensity.basis}{estimated}"
        yield "intensity", f"{intensity.g_per_kwh:g} g CO2e/kWh ({meaning})"
        yield "zone", intensity.grid_zone
        yield "provider", intensity.provider
        yield "origin", intensity.origin
    yield "PUE", f"{state.pue:g}" if state.pue_configured else f"{state.pue:g} (not configured; set grid.pue)"
    yield "location", state.location
