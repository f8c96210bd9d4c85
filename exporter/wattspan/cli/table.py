"""Columns for people."""

from collections.abc import Iterable

from wattspan.log import escaped


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows of equal length with their columns aligned; what is not printable is escaped."""
    shown = [tuple(escaped(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())
