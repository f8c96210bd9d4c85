"""``wattspan journal``: take the counters of a node to another disk or machine."""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from wattspan.cli.output import STREAM, written
from wattspan.cli.settings import Loaded
from wattspan.errors import UnreachableError

NAME: Final = "journal"
HELP: Final = "Export the journal to a portable file, or import one into an empty state folder."
USAGE: Final = "journal export|import [FILE] [flags]"


def declare(parser: argparse.ArgumentParser) -> None:
    """Which way, and the file."""
    parser.add_argument("direction", choices=("export", "import"), help="Which way.")
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="Where to write or read; - is standard output or input, and the default.",
    )


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Copy the whole journal. Export works beside a running daemon; import wants a folder without one."""
    from wattspan.journal import portable

    state_dir, name = loaded.config.state_dir, args.file or STREAM
    try:
        if args.direction == "export":
            with written(name) as out:
                portable.export_journal(state_dir, out)
        else:
            with _read(name) as source:
                portable.import_journal(state_dir, source)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnreachableError(f"journal {args.direction}: {name}: {error.strerror or error}") from error
    return 0


@contextlib.contextmanager
def _read(name: str) -> Iterator[TextIO]:
    """The text; bytes that are none become a character that the text's own check will not accept."""
    if name == STREAM:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace", newline="\n")
        yield sys.stdin
        return
    with Path(name).open(encoding="utf-8", errors="replace", newline="\n") as source:
        yield source
