"""``wattspan check-config``: would this file start the daemon, and with which settings?"""

import argparse
from typing import Final

from wattspan.cli.grid import service_of
from wattspan.cli.settings import Loaded
from wattspan.cli.table import print_table
from wattspan.config import SETTINGS

NAME: Final = "check-config"
HELP: Final = "Check a YAML file, and show every setting in force with where it was written."
USAGE: Final = "check-config FILE [flags]"


def declare(parser: argparse.ArgumentParser) -> None:
    """The file stands for ``--config.file``, so it is checked with this environment, as the daemon would."""
    parser.add_argument("config.file", metavar="FILE", help="The file to check.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:  # noqa: ARG001 - every command is called alike
    """Reading the settings has raised nothing; what only the rooms can judge is asked of them here.

    Raises:
        SetupError: the daemon would refuse to start with this.
    """
    service_of(loaded.config)  # asks no source of intensity or prices
    if loaded.config.calibration_file:
        from wattspan.carbon import calibration

        calibration.read(loaded.config.calibration_file)
    if loaded.config.web_config_file:
        from wattspan.publish.webconfig import WebConfigFile

        WebConfigFile(loaded.config.web_config_file)
    print_table((key, _shown(loaded, key), loaded.origins[key]) for key in SETTINGS)
    return 0


def _shown(loaded: Loaded, key: str) -> str:
    setting = SETTINGS[key]
    value = getattr(loaded.config, setting.attribute)
    return "-" if value is None else setting.kind.show(value) or '""'
