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
from typing import TYPE_CHECKING, Any, Final

from wattspan import log
from wattspan.cli.settings import Loaded
from wattspan.config import number, whole
from wattspan.errors import SetupError

if TYPE_CHECKING:
    from wattspan.client import Run

NAME: Final = "run"
HELP: Final = "Run a command as a training run, and print what it used."
USAGE: Final = "run [--name N] [--project P] [flags] -- CMD..."

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

_LOOK_S: Final = 0.05
_STEPS: Final = whole(1, 2**53 - 1)
_GRAMS: Final = number(0.001, 1e12, "grams of CO2e")


def declare(parser: argparse.ArgumentParser) -> None:
    """What the run is called and belongs to."""
    parser.add_argument("--name", help="Name of the run. Default: the command's file name.")
    parser.add_argument("--project", help="Whose energy it is.")
    parser.add_argument("--group", help="What it belongs to, such as a sweep.")
    parser.add_argument("--run-id", metavar="ID", help="Its id. Default: the job's, else made of the name.")
    parser.add_argument("--total-steps", type=_of(_STEPS), metavar="N", help="Steps that are planned.")
    parser.add_argument(
        "--budget-co2e-grams", type=_of(_GRAMS), metavar="GRAMS", help="What the run may emit."
    )
    parser.add_argument("command_line", nargs=argparse.REMAINDER, metavar="-- CMD", help="What to run.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:  # noqa: ARG001 - every command is called alike
    """Begin, run the command, end, report."""
    from wattspan.client.supervised import signals_held

    words = _words(args.command_line)
    with signals_held():
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


def _of(kind: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: {kind.allowed}") from error

    return read
