"""``wattspan report RUN``: what one attempt of a run used, by which rules, and how sure that is."""

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from wattspan import __version__
from wattspan.cli.near import near, quoted
from wattspan.cli.output import STREAM, written
from wattspan.cli.settings import Loaded
from wattspan.config import whole
from wattspan.errors import UnreachableError, WattspanError

if TYPE_CHECKING:
    from wattspan.journal.history import History
    from wattspan.report import Report
    from wattspan.runs import RunRecord

NAME: Final = "report"
HELP: Final = "Report what a training run of this node used, how sure that is, and why a figure is missing."
USAGE: Final = "report RUN [--attempt N] [--format md|json|csv|html] [-o FILE] [flags]"

_NUMBER: Final = whole(0, 2**31)


def declare(parser: argparse.ArgumentParser) -> None:
    """Which run, and how to tell of it."""
    parser.add_argument(
        "run_id", metavar="RUN", help="Its id, or its name, which means the newest of that name."
    )
    parser.add_argument("--attempt", type=_attempt, metavar="N", help="Default: the last one.")
    parser.add_argument("--format", choices=("md", "json", "csv", "html"), default="md", help="Default: md.")
    parser.add_argument(
        "-o",
        "--output",
        default=STREAM,
        metavar="FILE",
        help="Where to write; - is standard output, and the default.",
    )


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Read the journal beside the daemon that writes it."""
    from wattspan.journal.history import History
    from wattspan.report import report_of

    attempts = _attempts(History(loaded.config.state_dir), args.run_id)
    record = _chosen(attempts, args.attempt, loaded.config.node_name)
    known = [attempt.run.attempt for attempt in attempts]
    text = _text(report_of(record, known, time.time_ns(), __version__), args.format)
    try:
        with written(args.output) as out:
            out.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnreachableError(f"report: {args.output}: {error.strerror or error}") from error
    return 0


def _attempts(history: "History", run_id: str) -> "Sequence[RunRecord]":
    """All that is known of a run, the first attempt first.

    Raises:
        WattspanError: nothing is.
    """
    if found := history.attempts(run_id):
        return found
    known: set[str] = set()
    for record in history.runs():
        if record.run.name == run_id:
            return history.attempts(record.run.run_id)
        known |= {record.run.run_id, record.run.name}
    raise WattspanError(
        f"no run {quoted(run_id)} is known on this node{near(run_id, known - {''})} (see: wattspan runs)"
    )


def _chosen(attempts: "Sequence[RunRecord]", attempt: int | None, node: str) -> "RunRecord":
    """One attempt of a run, the last by default; an imported journal may know it from several nodes.

    Raises:
        WattspanError: there is no such attempt.
    """
    wanted = attempts[-1].run.attempt if attempt is None else attempt
    found = [record for record in attempts if record.run.attempt == wanted]
    if not found:
        known = ", ".join(str(record.run.attempt) for record in attempts)
        raise WattspanError(f"run {attempts[0].run.run_id} has no attempt {wanted} here; known: {known}")
    return next((record for record in found if record.node == node), found[-1])


def _text(report: "Report", form: str) -> str:
    from wattspan.report import as_csv, as_html, as_json, as_markdown

    match form:
        case "json":
            return json.dumps(as_json.document(report), indent=2) + "\n"
        case "csv":
            return as_csv.text([report])
        case "html":
            return as_html.text(report)
    return as_markdown.text(report)


def _attempt(text: str) -> int:
    try:
        return _NUMBER.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: {_NUMBER.allowed}") from error
