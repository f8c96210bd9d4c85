"""The operator's own calibration of GPUs against an external meter, from a CSV file.

Columns: ``uuid``, ``gain`` (true energy over counted energy), ``uncertainty`` (of that gain, as a share of
it, both ways) and ``provenance`` (who measured it, how and when).
It shifts the range of a run's totals; energy itself is never corrected by it.
"""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wattspan.errors import SetupError
from wattspan.runs import Calibration

COLUMNS: Final = ("uuid", "gain", "uncertainty", "provenance")

GAINS: Final = (0.5, 2.0)
"""A meter that is off further than that was not beside this card."""

UNCERTAINTIES: Final = (0.0, 0.5)


def read(path: Path) -> Mapping[str, Calibration]:
    """Calibrations by GPU uuid. Blocks on the disk.

    Raises:
        SetupError: the file cannot be read, or a line of it cannot be what is meant; names line and column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"calibration.file: {path}: {_reason(error)}") from error
    # Strict: an open quotation mark must not swallow the lines that follow.
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, Calibration] = {}
    places: tuple[str, ...] | None = None
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            where = f"calibration.file: {path}, line {rows.line_num}"
            if places is None:
                places = _head(cells, where)
                continue
            if len(cells) != len(places):
                raise SetupError(f"{where}: {len(cells)} cells; allowed: {len(places)}, {', '.join(places)}")
            members = dict(zip(places, cells, strict=True))
            uuid = _required(members["uuid"], f"{where}: uuid")
            if uuid in found:
                raise SetupError(f"{where}: uuid: {uuid!r} is there twice; allowed: one line for each GPU")
            found[uuid] = Calibration(
                gain=_number(members["gain"], GAINS, f"{where}: gain"),
                uncertainty_ratio=_number(members["uncertainty"], UNCERTAINTIES, f"{where}: uncertainty"),
                provenance=_required(members["provenance"], f"{where}: provenance"),
            )
    except csv.Error as error:
        raise SetupError(f"calibration.file: {path}, line {rows.line_num}: {error}") from error
    if places is None:
        raise SetupError(f"calibration.file: {path}: it is empty; allowed: a line with {', '.join(COLUMNS)}")
    return found


def _head(cells: list[str], where: str) -> tuple[str, ...]:
    """The columns in the order of the file."""
    if sorted(cells) != sorted(COLUMNS):
        raise SetupError(f"{where}: columns {', '.join(cells)!r:.120}; allowed: {', '.join(COLUMNS)}")
    return tuple(cells)


def _required(text: str, what: str) -> str:
    if not text:
        raise SetupError(f"{what} is empty")
    return text


def _number(text: str, allowed: tuple[float, float], what: str) -> float:
    low, high = allowed
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise SetupError(f"{what}: {text!r:.40} is not allowed; allowed: a number from {low:g} to {high:g}")
    return value


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is no UTF-8 text"
