"""``wattspan runs``: the runs that this node knows, and what they used."""

import argparse
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from wattspan import __version__
from wattspan.cli.settings import Loaded
from wattspan.cli.table import print_table
from wattspan.config import nanoseconds
from wattspan.units import NS_PER_S

if TYPE_CHECKING:
    from wattspan.report import Report

NAME: Final = "runs"
HELP: Final = "List the training runs of this node, the newest first, from its journal."
USAGE: Final = (
    "runs [--project P] [--group G] [--state running|ended] [--since 7d] [--format text|json] [flags]"
)

SINCE: Final = "a duration such as 12h or 7d, or a day such as 2026-10-01 (UTC)"


def declare(parser: argparse.ArgumentParser) -> None:
    """Which runs, and how to print them."""
    parser.add_argument("--project", help="Only those of this project.")
    parser.add_argument("--group", help="Only those of this group.")
    parser.add_argument("--state", choices=("running", "ended"), help="Only those. Default: both.")
    parser.add_argument(
        "--since", type=_moment, metavar="TIME", help=f"Only those that ran since then: {SINCE}."
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: text.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Read the journal beside the daemon that writes it. 1 when there is no such run."""
    from wattspan.journal.history import History
    from wattspan.report import as_json, report_of

    now_wall_ns = time.time_ns()
    records = History(loaded.config.state_dir).runs(
        project=args.project, group=args.group, state=args.state, since_wall_ns=args.since
    )
    reports = [report_of(record, [record.run.attempt], now_wall_ns, __version__) for record in records]
    if args.format == "json":
        print(json.dumps(as_json.list_document(reports), indent=2))
    elif reports:
        print_table(_rows(reports))
    else:
        print("no such run is known here")
    return 0 if reports else 1


def _rows(reports: "list[Report]") -> Iterator[tuple[str, ...]]:
    from wattspan.report import quantities, rows

    yield "RUN", "ATTEMPT", "BEGAN", "DURATION", "RESULT", "PROJECT", "GPUS", "ENERGY", "CO2E", "COST"
    for report in reports:
        record, figures = report.record, report.figures
        yield (
            record.run.run_id,
            str(record.run.attempt),
            quantities.moment(record.began_wall_ns),
            quantities.duration(figures.duration_seconds),
            rows.result(report),
            record.run.project or "-",
            str(figures.gpu_count),
            *(rows.shown_or_dash(report, name) for name in ("energy_joules", "co2e_grams", "cost")),
        )


def _moment(text: str) -> int:
    """Nanoseconds since the epoch.

    Raises:
        argparse.ArgumentTypeError: it is neither a duration nor a day.
    """
    try:
        return time.time_ns() - nanoseconds(text)
    except ValueError:
        pass
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * NS_PER_S
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: {SINCE}") from None
