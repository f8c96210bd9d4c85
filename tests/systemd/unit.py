"""The unit for systemd and its drop-in, as files and as read."""

import configparser
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / "exporter" / "systemd"
UNIT: Final = FOLDER / "wattspan.service"
DROP_IN: Final = FOLDER / "wattspan-rapl.conf"


def read(file: Path) -> configparser.ConfigParser:
    """Sections and settings; of a setting that stands several times the last."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    unit.read_string(file.read_text())
    return unit
