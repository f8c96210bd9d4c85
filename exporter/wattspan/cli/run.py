"""``wattspan run -- CMD``: a command as a run, with a short report at its end.

Whatever becomes of the daemon, the command runs, and its exit code is passed on.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from wattspan import log
from wattspan.cli.grid import length_ns
from wattspan.cli.near import argument
from wattspan.cli.settings import Loaded
from wattspan.config import Config, number, whole
from wattspan.errors import SetupError

if TYPE_CHECKING:
    from wattspan.carbon_service import CarbonService
    from wattspan.client import Run
    from wattspan.client.green import Target
    from wattspan.model import Intensity

NAME: Final = "run"
HELP: Final = "Run a command as a training run, and print what it used."
USAGE: Final = (
    "run [--name N] [--project P] [--wait-for-green [--duration 1h] --deadline 12h] [flags] -- CMD..."
)

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""As env(1), nice(1) and timeout(1) have it; 125 is for `main`."""

SIGNALLED: Final = 128
"""Plus the signal's number: how shells tell of a command that a signal ended."""

BEGIN_PATIENCE_S: Final = 5.0
"""How long the command is held back for its run to begin: enough for a daemon of the user's own to start."""

END_PATIENCE_S: Final = 10.0
"""How long the report is waited for; any signal that asks to end cuts it short."""

STOP_PATIENCE_S: Final = 2.0
"""How long the daemon is told that the command never ran."""

WAIT_DURATION: Final = "1h"
"""How long the command is taken to run while it waits for a green grid, where nobody has said."""

_LOOK_S: Final = 0.05
_STEPS: Final = whole(1, 2**53 - 1)
_GRAMS: Final = number(0.001, 1e12, "grams of CO2e")


def declare(parser: argparse.ArgumentParser) -> None:
    """What the run is called and belongs to."""
    parser.add_argument("--name", help="Name of the run. Default: the command's file name.")
    parser.add_argument("--project", help="Whose energy it is.")
    parser.add_argument("--group", help="What it belongs to, such as a sweep.")
    parser.add_argument("--run-id", metavar="ID", help="Its id. Default: the job's, else made of the name.")
    parser.add_argument("--total-steps", type=argument(_STEPS), metavar="N", help="Steps that are planned.")
    parser.add_argument(
        "--budget-co2e-grams", type=argument(_GRAMS), metavar="GRAMS", help="What the run may emit."
    )
    parser.add_argument(
        "--wait-for-green",
        action="store_true",
        help="Start when the greenest stretch before --deadline begins; at once without a forecast.",
    )
    parser.add_argument(
        "--deadline", type=length_ns, metavar="DURATION", help="When the command must be over, from now."
    )
    parser.add_argument(
        "--duration",
        type=length_ns,
        metavar="DURATION",
        help=f"How long the command takes. Default: {WAIT_DURATION}.",
    )
    parser.add_argument("command_line", nargs=argparse.REMAINDER, metavar="-- CMD", help="What to run.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Wait if asked to, begin, run the command, end, report."""
    from wattspan.client.supervised import signals_held

    words = _words(args.command_line)
    lengths = _lengths(args)
    with signals_held():
        if lengths and (stop := _wait_for_green(*lengths, loaded.config)):
            return SIGNALLED + stop
        return _run(words, _track(args, words))


def _run(words: Sequence[str], run: "Run") -> int:
    from wattspan.client import endings
    from wattspan.client.supervised import Command, asked_to_stop

    run.begin()
    _until(run.settled, BEGIN_PATIENCE_S)
    if stop := asked_to_stop():
        run.end_as(endings.of_command(-stop, told_to_stop=True))
        run.over(STOP_PATIENCE_S)
        return SIGNALLED + stop
    try:
        command = Command(words, environment(os.environ, run))
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else NOT_EXECUTABLE
        run.end_as(endings.of_command(code, told_to_stop=False))
        run.over(STOP_PATIENCE_S)
        _say(f"error: cannot run {words[0]!r}: {error.strerror}")
        return code
    code = command.wait()
    run.end_as(endings.of_command(code, told_to_stop=command.told_to_stop))
    _until(run.over, END_PATIENCE_S)
    if not run.silent:
        _say(str(run.summary))
    return code if code >= 0 else SIGNALLED - code


def _lengths(args: argparse.Namespace) -> tuple[int, int] | None:
    """How long the command takes, and how long it may be until it is over; None where nothing is waited for.

    Raises:
        SetupError: flags that make no sense together.
    """
    if not args.wait_for_green:
        if args.deadline is not None or args.duration is not None:
            raise SetupError("--deadline and --duration: only with --wait-for-green; allowed: all or none")
        return None
    if args.deadline is None:
        raise SetupError("--wait-for-green: needs --deadline, such as --deadline 12h")
    duration_ns = length_ns(WAIT_DURATION) if args.duration is None else args.duration
    if duration_ns > args.deadline:
        raise SetupError("--deadline: it is shorter than --duration; allowed: at least as long")
    return duration_ns, args.deadline


def _wait_for_green(duration_ns: int, deadline_ns: int, config: Config) -> int:
    """Hold the command back; returns the number of a signal that asks to end, else 0.

    The wait is no part of the run: nothing is told to the daemon before it is over.
    """
    from wattspan.cli.moments import hours
    from wattspan.client import green, surroundings
    from wattspan.client.supervised import asked_to_stop

    if surroundings.disabled(os.environ):
        return 0
    # Every rank waits, for they see the same forecast; the first one of the node says so.
    speaks = surroundings.ranks(os.environ).begins

    def told(target: "Target | None") -> None:
        if speaks:
            _say(_what_is_waited_for(target, duration_ns))

    def unknown() -> None:
        if speaks:
            _say(
                "no forecast of the grid is known yet; looking for one for"
                f" {hours(green.PATIENCE_NS)} at most"
            )

    stop = green.wait(_looks(config), duration_ns, deadline_ns, told, green.REAL, unknown)
    return stop or asked_to_stop()


def _looks(config: Config) -> "Callable[[], Sequence[Intensity] | None]":
    """What looks at the hours ahead: by the daemon of this node, else by the settings of this command."""
    from wattspan.cli.answered import service_with_cache
    from wattspan.client import green
    from wattspan.client.ephemeral import daemon_here

    daemon = daemon_here(os.environ)
    own: list[CarbonService] = []

    def look() -> "Sequence[Intensity] | None":
        figures = green.of_daemon(daemon)
        if figures or not config.grid_providers:
            return figures
        first = not own
        if first:
            own.append(service_with_cache(config))
        now_wall_ns = time.time_ns()
        # As soon as it is allowed the first time; later when it is due.
        own[0].refresh(now_wall_ns, time.monotonic_ns(), if_allowed=first)
        state = own[0].state(now_wall_ns)
        if state.outlook is not None:
            return state.outlook.figures
        settled = state.intensity is not None and state.fallback_level == 0
        return None if settled and figures is None else ()

    return look


def _what_is_waited_for(target: "Target | None", duration_ns: int) -> str:
    """One line."""
    from wattspan.cli.moments import hours, moment
    from wattspan.report.quantities import percent

    if target is None:
        return (
            f"starting at once: no forecast of the grid covers the next {hours(duration_ns)}"
            " (set grid.providers, here or of the daemon)"
        )
    by = moment(target.latest_end_wall_ns, None)
    now = target.now_g_per_kwh
    wait_ns = target.start_wall_ns - target.made_wall_ns
    if wait_ns <= 0:
        return (
            f"starting at once: no {hours(duration_ns)} before {by} are greener than now,"
            f" {target.g_per_kwh:.0f} g CO2e/kWh"
        )
    saves = "" if not now else f" instead of {now:.0f} now, {percent(1 - target.g_per_kwh / now)} less"
    return (
        f"waiting until {moment(target.start_wall_ns, None)}, in {hours(wait_ns)}, for the greenest"
        f" {hours(duration_ns)} before {by}: {target.g_per_kwh:.0f} g CO2e/kWh{saves}"
    )


def environment(environ: Mapping[str, str], run: "Run") -> dict[str, str]:
    """The command's environment: it joins the run, and its spans become children of this node's span.

    What the daemon has not said is left as it was.
    """
    child = dict(environ)
    if run.run_id:
        child["WATTSPAN_RUN_ID"] = str(run.run_id)
    if isinstance(run.attempt, int):
        child["WATTSPAN_RUN_ATTEMPT"] = str(run.attempt)
    trace, span = str(run.trace_id), str(run.node_span_id)
    if re.fullmatch(r"[0-9a-f]{32}", trace) and re.fullmatch(r"[0-9a-f]{16}", span):
        child["TRACEPARENT"] = f"00-{trace}-{span}-01"
        child.pop("TRACESTATE", None)  # it goes with the parent that was replaced
    return child


def _track(args: argparse.Namespace, words: Sequence[str]) -> "Run":
    from wattspan.client import track

    return track(
        args.name or os.path.basename(words[0]),
        project=args.project or "",
        group=args.group or "",
        run_id=args.run_id or "",
        total_steps=args.total_steps,
        budget_co2e_grams=args.budget_co2e_grams,
    )


def _words(line: Sequence[str]) -> Sequence[str]:
    """The command behind the two dashes.

    Raises:
        SetupError: there is none.
    """
    words = line[1:] if line[:1] == ["--"] else line
    if not words or not words[0]:
        raise SetupError("no command given (usage: wattspan run [flags] -- CMD...)")
    return words


def _until(ready: Callable[[float], bool], patience_s: float) -> None:
    """Wait until it is ready, patience is over, or somebody asks to stop."""
    from wattspan.client.supervised import asked_to_stop

    give_up_s = time.monotonic() + patience_s
    while not ready(_LOOK_S) and not asked_to_stop() and time.monotonic() < give_up_s:
        pass


def _say(text: str) -> None:
    # A reader of stderr that has gone must not cost the command its exit code.
    with suppress(OSError):
        for line in text.splitlines():
            print(f"wattspan: {log.escaped(line)}", file=sys.stderr)
