"""``wattspan grid``: the intensity in force here, and where it comes from; with ``--forecast`` the hours
ahead."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

from wattspan.cli.answered import Answered, answered
from wattspan.cli.near import argument
from wattspan.cli.settings import Loaded
from wattspan.cli.table import print_table
from wattspan.config import Config, duration
from wattspan.model import GridState

if TYPE_CHECKING:
    from wattspan.carbon_service import CarbonService
    from wattspan.model import GreenWindow, Outlook

NAME: Final = "grid"
HELP: Final = (
    "Print the grid's carbon intensity in force here, its source, and how the place was found;"
    " with --forecast also the hours ahead."
)
USAGE: Final = "grid [--forecast [--duration 2h] [--utc]] [--format text|json] [flags]"

length_ns: Final = argument(duration("1m", "7d"))
"""Nanoseconds of a window's length, of what somebody has written."""

DEFAULT_LENGTH: Final = "2h"


def declare(parser: argparse.ArgumentParser) -> None:
    """What to print, and how."""
    parser.add_argument("--forecast", action="store_true", help="The hours ahead, as a chart.")
    parser.add_argument(
        "--duration",
        type=length_ns,
        default=DEFAULT_LENGTH,
        metavar="DURATION",
        help=f"Length of the greenest window that the chart marks. Default: {DEFAULT_LENGTH}.",
    )
    parser.add_argument("--utc", action="store_true", help="Times in UTC. Default: this machine's time zone.")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: text.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Ask the daemon beside this, else the chain that one would hold. 1 when what was asked for is not
    known."""
    now_wall_ns = time.time_ns()
    told = answered(loaded, now_wall_ns)
    state = told.state
    known = state.outlook is not None if args.forecast else state.intensity is not None
    if args.format == "json":
        print(json.dumps({**_document(told, forecast=args.forecast), "answered": told.by}, indent=2))
        return 0 if known else 1
    print_table(_rows(told))
    if args.forecast:
        from datetime import UTC

        print()
        _print_forecast(state, now_wall_ns, args.duration, UTC if args.utc else None)
    return 0 if known else 1


def service_of(config: Config) -> "CarbonService":
    """The figures of this node, which nobody has been asked for yet; nothing is kept for later commands.

    Raises:
        SetupError: settings that cannot work.
    """
    from wattspan.carbon_service import CarbonService

    return CarbonService(config, os.environ)


def no_forecast(state: GridState) -> str:
    """Why there is none, in one sentence."""
    if state.intensity is None:
        return "no forecast: no provider has answered, and no intensity is known"
    if state.intensity.valid_until_wall_ns is None:
        return (
            f"no forecast: the figure of provider {state.intensity.provider} stands for all hours alike,"
            " and no provider of grid.providers looks ahead"
        )
    return f"no forecast: provider {state.intensity.provider} says nothing of the hours ahead"


def _document(told: Answered, *, forecast: bool) -> Mapping[str, Any]:
    """As the API has it."""
    if told.documents is not None:
        return told.documents[1 if forecast else 0]
    from wattspan.publish.api import forecast_document, grid_document

    return forecast_document(told.state) if forecast else grid_document(told.state, told.currency)


def _rows(told: Answered) -> Iterator[tuple[str, str]]:
    state = told.state
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
    yield "answered", told.by


def _print_forecast(state: GridState, now_wall_ns: int, duration_ns: int, zone: tzinfo | None) -> None:
    from wattspan.cli.chart import Marks, chart

    outlook = state.outlook
    if outlook is None:
        print(no_forecast(state))
        return
    marked = _greenest(outlook, duration_ns)
    marks = Marks.of(sys.stdout.encoding)
    width = shutil.get_terminal_size().columns
    for line in chart(outlook.figures, now_wall_ns, marked, width, zone, marks):
        print(line)
    print()
    print_table(_windows(outlook, marked, zone, marks.window))
    print()
    print_table(_source(outlook, zone))


def _greenest(outlook: "Outlook", duration_ns: int) -> "GreenWindow | None":
    from wattspan.carbon import forecast, timeline

    end_ns = timeline.until_ns(outlook.figures[-1])
    return forecast.greenest_window(outlook.figures, duration_ns, outlook.made_wall_ns, end_ns)


def _windows(
    outlook: "Outlook", marked: "GreenWindow | None", zone: tzinfo | None, mark: str
) -> Iterator[tuple[str, ...]]:
    """The greenest of each length, the marked one among them."""
    from wattspan.cli.moments import hours, span

    yield "GREENEST", "WINDOW", "G/KWH", ""
    windows = {window.duration_ns: window for window in outlook.greenest}
    if marked is not None:
        windows[marked.duration_ns] = marked
    for length, window in sorted(windows.items()):
        yield (
            hours(length),
            span(window.start_wall_ns, window.start_wall_ns + length, zone),
            f"{window.g_per_kwh:.0f}",
            f"{mark * 2} above" if window is marked else "",
        )


def _source(outlook: "Outlook", zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    from wattspan.carbon import timeline
    from wattspan.cli.moments import moment, zone_name

    last = outlook.figures[-1]
    until = moment(timeline.until_ns(last), zone)
    fetched = f", fetched {moment(last.fetched_wall_ns, zone)}" if last.fetched_wall_ns else ""
    yield "forecast", f"by {last.provider} for {last.grid_zone} until {until}{fetched}"
    yield "meaning", f"{last.signal}, {last.basis}; {last.origin}".rstrip("; ")
    yield "times", zone_name(outlook.made_wall_ns, zone)
