"""The command line's grammar: commands, their flags, and the flag that every setting has.

Settings may stand before or after the command; for one given in both places the flag after it holds.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from wattspan import __version__
from wattspan.cli import (
    audit,
    check_config,
    demo,
    doctor,
    estimate,
    grid,
    journal,
    plan,
    release,
    report,
    run,
    runs,
    serve,
)
from wattspan.cli.near import near, quoted
from wattspan.config import SETTINGS
from wattspan.errors import SetupError

COMMANDS: Final = (
    serve,
    run,
    runs,
    report,
    audit,
    demo,
    doctor,
    check_config,
    grid,
    plan,
    estimate,
    journal,
    release,
)
"""One module per command: its NAME and HELP, `declare` for its own flags, and `run`."""


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing and leaving, and that knows its flags."""

    def __init__(self, **options: Any) -> None:
        self.flags = {"--help"}
        super().__init__(**options, allow_abbrev=False)

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """As argparse has it; the flags are remembered for near matches."""
        self.flags.update(name for name in names if name.startswith("--"))
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            SetupError: always.
        """
        raise SetupError(f"{message} (see: {self.prog} --help)")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments; `run` holds what to call, `settings` the text of each setting given, by key.

    Raises:
        SetupError: a command, flag or value that cannot be.
        SystemExit: ``--help`` or ``--version`` has been answered.
    """
    parser, flags = _grammar()
    for flag, value in _flags_in(argv):
        if flag not in flags:
            raise SetupError(f"unknown flag {quoted(flag)}{near(flag, flags)} (see: wattspan --help)")
        if value == "--":
            # argparse of Python 3.11 drops such a value and then trips over its absence.
            raise SetupError(f"{flag}: '--' is not allowed")
    args, extras = parser.parse_known_args(argv)
    optional = next((name for name in ("file", "run_id") if getattr(args, name, "") is None), None)
    if extras and optional and (extras[0] == "-" or not extras[0].startswith("-")):
        # argparse before Python 3.13 takes an optional word for missing once a flag stands before it.
        setattr(args, optional, extras.pop(0))
    if extras:
        raise SetupError(f"unexpected argument {quoted(extras[0])} (see: wattspan {args.command} --help)")
    given = {key: getattr(args, key, "") for key in SETTINGS}
    args.settings = {key: text if isinstance(text, str) else ",".join(text) for key, text in given.items()}
    return args


def _flags_in(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The long flags, each with what follows its equals sign.

    A word that begins with two dashes is never the value of the flag before it: argparse takes none such.
    """
    for word in argv:
        if word == "--":
            return
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            yield flag, value


def _grammar() -> tuple[Parser, set[str]]:
    """The parser, and every long flag that it or one of its commands has."""
    parser = Parser(
        prog="wattspan",
        usage="wattspan COMMAND [flags]",
        description="Energy and carbon of GPUs and hosts, for Prometheus.",
        epilog="`wattspan COMMAND --help` lists the flags of a command.",
        parents=[_settings(hidden=True)],
    )
    parser.add_argument("--version", action="version", version=f"wattspan {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    flags = parser.flags | {f"--{key}" for key in SETTINGS}
    settings = _settings(hidden=False)
    for module in COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.HELP,
            prog=f"wattspan {module.NAME}",
            usage=f"wattspan {module.USAGE}",
            parents=[settings],
        )
        module.declare(command)
        command.set_defaults(run=module.run)
        flags |= command.flags
    return parser, flags


def _settings(*, hidden: bool) -> Parser:
    """A parent parser with one flag per setting."""
    parser = Parser(add_help=False)
    group = parser.add_argument_group("settings")
    for setting in SETTINGS.values():
        default = f" Default: {setting.default_text}." if setting.default_text else ""
        group.add_argument(
            f"--{setting.key}",
            dest=setting.key,
            action="append" if setting.repeatable else "store",
            metavar=setting.kind.placeholder,
            # Suppressed, else the command's default would wipe out what stood before the command.
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS if hidden else f"{setting.help}{default}".replace("%", "%%"),
        )
    return parser
