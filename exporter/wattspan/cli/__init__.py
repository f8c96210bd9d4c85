"""cli: arguments in, a frozen Config or an answer out.

One module per command; importing this package imports none of the rooms, each command does when it runs.
Exit codes: 0 fine, 1 the answer is no or something failed, 2 wrong usage or configuration,
3 cannot reach or lock what was needed, 130 interrupted; ``run`` has its own, for the command's are passed on.
What the operator reads on stderr is one line per problem, never a traceback, except at log level debug.
"""

import io
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence

from wattspan import log
from wattspan.cli import run
from wattspan.cli.arguments import COMMANDS, parse
from wattspan.cli.settings import load
from wattspan.errors import SetupError, UnreachableError, WattspanError

FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

RUN_FAILED = 125
"""When ``wattspan run`` itself fails, as env(1) and timeout(1) have it: every other code is the command's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        argv: the words after the program's name; those of this process by default.
    """
    _show_any_text()
    debug = False
    origins: Mapping[str, str] = {}
    words = sys.argv[1:] if argv is None else argv
    try:
        args = parse(words)
        loaded = load(args.settings, os.environ)
        origins = loaded.origins
        debug = loaded.config.log_level == "debug"
        log.setup(loaded.config.log_level, loaded.config.log_format)
        logger = logging.getLogger("wattspan.cli")
        for text in loaded.warnings:
            logger.warning(text)
        for text in loaded.remarks:
            logger.debug(text)
        code: int = args.run(args, loaded)
        sys.stdout.flush()
        return code
    except SystemExit as answered:  # argparse has printed the help or the version
        return answered.code if isinstance(answered.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader had enough, as with `| head`.
        return _without_stdout(FAILED)
    except WattspanError as error:
        text = _with_origins(str(error), origins)
        return _refused(text, RUN_FAILED if _is_run(words) else _code_of(error))
    except Exception as error:
        if debug:
            traceback.print_exc()
        hint = "" if debug else "; run again with --log.level debug to see where"
        code = RUN_FAILED if _is_run(words) else FAILED
        return _without_stdout(_refused(f"unexpected {type(error).__name__}: {error}{hint}", code))


def _is_run(words: Sequence[str]) -> bool:
    """Whether ``run`` is the command, also where the command line cannot be parsed."""
    names = {module.NAME for module in COMMANDS}
    return next((word for word in words if word in names), "") == run.NAME


def _code_of(error: WattspanError) -> int:
    if isinstance(error, SetupError):
        return WRONG_USAGE
    return UNREACHABLE if isinstance(error, UnreachableError) else FAILED


def _with_origins(text: str, origins: Mapping[str, str]) -> str:
    """Lines that begin with a setting also say where it was written: a key alone is nothing that was typed.

    Args:
        text: one line per problem.
        origins: by key; ``default`` where nobody wrote one.
    """
    lines = []
    for line in text.splitlines():
        origin = origins.get(line.partition(":")[0], "default")
        lines.append(line if origin == "default" or origin in line else f"{line} ({origin})")
    return "\n".join(lines)


def _refused(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"wattspan: error: {log.escaped(line)}", file=sys.stderr)
    return code


def _show_any_text() -> None:
    """Let names that are not valid text be printed, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _without_stdout(code: int) -> int:
    """Throw away what could not be printed, else the interpreter tries again at its end and complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code
