"""A report as Markdown, to be read in a terminal as it stands and pasted into a pull request. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from wattspan.log import escaped
from wattspan.report import quantities, rows
from wattspan.report.report import Report

_SPECIAL: Final = re.compile(r"[\\`*\[\]<>|&~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown takes for markup within a line (CommonMark 2.4), and GitHub's tables and strikethrough.

An underscore between letters is none, so that names of rules stay readable in a terminal.
"""


def text(report: Report) -> str:
    """The whole report, ending with a line end."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    run = report.record.run
    yield f"# {plain(run.name or run.run_id)}"
    yield ""
    yield from table(("run", "value"), rows.identity(report))
    for title, known in rows.figures(report):
        yield from _heading(title)
        yield from table(("figure", "value"), known)
    if per_unit := rows.sci(report):
        yield from _heading("Carbon per unit of work")
        yield from table(("unit", "value"), per_unit)
    if priced_by := rows.priced_by(report):
        yield from _heading("Who priced the energy")
        yield from table(rows.PRICED_BY, priced_by)
    if report.parts:
        yield from _heading("Whose energy, by which rule")
        yield from table(
            ("component", "rule", "energy", "of the run"),
            (
                (
                    part.component,
                    part.attribution,
                    quantities.energy(part.energy_joules),
                    quantities.percent(part.ratio),
                )
                for part in report.parts
            ),
        )
    if report.gpus:
        yield from _heading("GPUs")
        yield from table(
            ("GPU", "model", "energy", "of the GPUs"),
            (
                (gpu.uuid, gpu.model, quantities.energy(gpu.energy_joules), quantities.percent(gpu.ratio))
                for gpu in report.gpus
            ),
        )
    yield from _heading("How sure this is")
    for statement in report.statements:
        yield f"- {plain(statement.topic)}: {plain(statement.text)}"
    for omission in report.omissions:
        yield f"- {plain(omission)}"
    if missing := rows.missing(report):
        yield from _heading("What is missing, and why")
        for label, reason in missing:
            yield f"- {plain(label)}: {plain(reason)}"
    yield from _heading("Sources")
    for source in report.sources:
        yield f"- {plain(source)}"
    yield f"- Made by wattspan {plain(report.version)} at {quantities.moment(report.made_wall_ns)}."


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield f"## {text}"
    yield ""


def table(head: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table whose columns are aligned in the text too; all of it may be text of somebody else."""
    cells = [tuple(plain(cell) for cell in row) for row in (head, *body)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        yield "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def plain(text: str) -> str:
    """Text of somebody else, as text: no markup, no control characters, on one line."""
    return _SPECIAL.sub(r"\\\g<0>", escaped(text))
