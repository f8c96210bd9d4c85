"""``python -m dashboards.stack``: start everything, say where it is, end it together.

Exit codes: 0 ended by Ctrl-C or SIGTERM, 1 a part ended by itself, 2 wrong usage,
3 a program is missing or a port is in use.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final

from dashboards.stack import grafana, plan
from dashboards.stack.running import PartEndedError, Running
from dashboards.stack.where import MissingError, free_port

PORTS: Final = {"exporter": 9746, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}
"""By part: where it usually listens."""

ENDED, FAILED, UNREACHABLE = 0, 1, 3


def main(words: Sequence[str] | None = None) -> int:
    """Runs until it is told to stop, or until a part ends. Returns the exit code."""
    arguments = _parser().parse_args(words)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with ExitStack() as undo:
            return _run(arguments, undo)
    except MissingError as error:
        say(f"stack: {error}")
        return UNREACHABLE
    except PartEndedError as error:
        say(f"stack: {error}")
        return FAILED
    except KeyboardInterrupt:
        say("stack: everything has ended")
        return ENDED


def _run(arguments: argparse.Namespace, undo: ExitStack) -> int:
    taken: set[int] = set()
    ports = {part: free_port(getattr(arguments, part), usual, taken) for part, usual in PORTS.items()}
    budgets_port = free_port(None, ports["exporter"] + 1, taken)
    folder = arguments.data or Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="wattspan-stack-")))
    folder.mkdir(parents=True, exist_ok=True)
    running = undo.enter_context(Running(folder / "logs"))
    parts = plan.parts(folder.resolve(), ports, budgets_port)
    found, missing = (None, "it was not wanted") if arguments.no_grafana else grafana.find()
    if found is not None:
        parts.append(grafana.part(found, folder.resolve(), ports))
    for part in parts:
        running.start(part)
        running.wait_ready(part)
        say(f"{part.name:<13} {part.url:<27} {part.about}")
    if found is None:
        say(f"{'grafana':<13} not started: {missing}")
    say("Ctrl-C ends everything.")
    running.watch()
    return ENDED


def say(line: str) -> None:
    """To whoever waits for it, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.stack", description="See exporter, rules, alerts and dashboards together."
    )
    for part, usual in PORTS.items():
        parser.add_argument(
            f"--{part}.port",
            dest=part,
            type=_port,
            metavar="N",
            help=f"Where it listens on loopback. Default: {usual}, or the next one that is free.",
        )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="Keep states and logs here. Default: nowhere."
    )
    parser.add_argument("--no-grafana", action="store_true", help="Do without Grafana.")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; allowed: 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
