"""``wattspan report RUN``: what one attempt of a run used, by which rules, and how sure that is.

``wattspan report --period 2026-10``: what each project or namespace used in a month.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from wattspan import __version__
from wattspan.cli.near import argument, near, quoted
from wattspan.cli.output import STREAM, written
from wattspan.cli.settings import Loaded
from wattspan.config import whole
from wattspan.errors import SetupError, UnreachableError, WattspanError

if TYPE_CHECKING:
    from wattspan.journal.history import History
    from wattspan.report import Report
    from wattspan.runs import RunRecord

NAME: Final = "report"
HELP: Final = (
    "Report what a training run of this node, or each project in a month, used, how sure that is, "
    "and why a figure is missing."
)
USAGE: Final = (
    "report RUN|--period MONTH [--attempt N] [--by project|namespace|owner] [--prometheus URL]"
    " [--format md|json|csv|html] [-o FILE] [flags]"
)

attempt_number: Final = argument(whole(0, 2**31))
"""The number of an attempt, of what somebody has written."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Which run, and how to tell of it."""
    parser.add_argument(
        "run_id", nargs="?", metavar="RUN", help="Its id, or its name, which means the newest of that name."
    )
    parser.add_argument("--attempt", type=attempt_number, metavar="N", help="Default: the last one.")
    parser.add_argument(
        "--period", type=_month, metavar="MONTH", help="Report a month (UTC) by owner, such as 2026-10."
    )
    parser.add_argument(
        "--by",
        choices=("project", "namespace", "owner"),
        help="What a row of a month stands for; an owner is both. Default: project.",
    )
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        help="Where to ask for the month of all nodes. Default: the journal of this node.",
    )
    parser.add_argument(
        "--format",
        choices=("md", "json", "csv", "html"),
        default="md",
        help="Default: md; html of runs alone.",
    )
    parser.add_argument(
        "-o",
        "--output",
        default=STREAM,
        metavar="FILE",
        help="Where to write; - is standard output, and the default.",
    )


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Read the journal beside the daemon that writes it, or ask a Prometheus."""
    _require_one_kind(args)
    text = _of_run(args, loaded) if args.period is None else _of_period(args, loaded)
    try:
        with written(args.output) as out:
            out.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnreachableError(f"report: {args.output}: {error.strerror or error}") from error
    return 0


def _require_one_kind(args: argparse.Namespace) -> None:
    """See to it that either a run or a month is asked for, with what goes with it.

    Raises:
        SetupError: neither, both, or a mixture.
    """
    see = "(see: wattspan report --help)"
    if args.period is None:
        if args.run_id is None:
            raise SetupError(f"the following arguments are required: RUN, or --period MONTH {see}")
        for flag in ("by", "prometheus"):
            if getattr(args, flag) is not None:
                raise SetupError(f"--{flag} is for months; it goes with --period MONTH {see}")
        return
    if args.run_id is not None:
        raise SetupError(f"RUN and --period: both are given; allowed: one of them {see}")
    if args.attempt is not None:
        raise SetupError(f"--attempt is for runs; it does not go with --period {see}")
    if args.format == "html":
        raise SetupError(f"--format: 'html' is for runs; allowed with --period: md, csv, json {see}")


def _of_run(args: argparse.Namespace, loaded: Loaded) -> str:
    from wattspan.journal.history import History
    from wattspan.report import report_of

    history = History(loaded.config.state_dir)
    attempts = attempts_of(history, args.run_id)
    record = chosen(attempts, args.attempt, loaded.config.node_name)
    known = [attempt.run.attempt for attempt in attempts]
    revision = history.revision(record)
    return _text(report_of(record, known, time.time_ns(), __version__, revision=revision), args.format)


def _of_period(args: argparse.Namespace, loaded: Loaded) -> str:
    from wattspan.journal.history import History
    from wattspan.report import period, period_text

    now_wall_ns = time.time_ns()
    if args.prometheus is None:
        usage = History(loaded.config.state_dir).usage(args.period, now_wall_ns)
        gained = period.gained_of(usage, loaded.config.node_name)
    else:
        from wattspan.cli.month_from_prometheus import gained_from

        gained = gained_from(args.prometheus, args.period, now_wall_ns)
    report = period.period_of(gained, args.by or "project", now_wall_ns, __version__)
    match args.format:
        case "json":
            return json.dumps(period_text.document(report), indent=2) + "\n"
        case "csv":
            return period_text.table(report)
    return period_text.markdown(report)


def attempts_of(history: "History", run_id: str) -> "Sequence[RunRecord]":
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


def chosen(attempts: "Sequence[RunRecord]", attempt: int | None, node: str) -> "RunRecord":
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


def _month(text: str) -> str:
    from wattspan.journal.periods import bounds_of

    try:
        bounds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; allowed: a month such as 2026-10"
        ) from error
    return text
