"""``wattspan serve``: meter this node and publish what was metered."""

import argparse
from typing import Final

from wattspan.cli.settings import Loaded

NAME: Final = "serve"
HELP: Final = "Meter this node and publish its metrics."
USAGE: Final = "serve [flags]"


def declare(parser: argparse.ArgumentParser) -> None:
    """It has the settings only."""


def run(args: argparse.Namespace, loaded: Loaded) -> int:  # noqa: ARG001 - every command is called alike
    """Runs until it is told to stop."""
    from wattspan.app import serve

    return serve(loaded.config)
