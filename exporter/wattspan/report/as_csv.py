"""Reports as CSV: one header, one row per attempt, so that the rows of many runs make one table. Pure.

RFC 4180, UTF-8; texts are quoted, figures are not, and one that is missing is an empty cell. New columns are
only ever added at the end.
"""

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Final

from wattspan.report.figures import Figures, Missing
from wattspan.report.provenance import signals_of
from wattspan.report.quantities import rfc3339
from wattspan.report.ranges import Range, Ranges
from wattspan.report.report import SCHEMA, Report
from wattspan.report.sci import UNITS, Unit

FIGURES: Final = tuple(field.name for field in fields(Figures))

RANGES: Final = tuple(field.name for field in fields(Ranges))

COLUMNS: Final = (
    "schema",
    "run_id",
    "attempt",
    "trace_id",
    "name",
    "project",
    "group",
    "framework",
    "source",
    "namespace",
    "node",
    "cluster",
    "state",
    "result",
    "error_type",
    "began_at",
    "ended_at",
    *FIGURES,
    "currency",
    "grid_zone",
    "basis",
    "providers",
    "intensity_estimated",
    "pue",
    "attributions",
    *(f"{name}_{edge}" for name in RANGES for edge in ("low", "high")),
    "intensity_uncertainty_ratio",
    "signals",
    *(f"sci_grams_per_{unit}" for unit in UNITS),
    "revised_co2e_grams",
    "user",
)

_FORMULA: Final = re.compile(r"""^(?=[\t\r])|(?:^|(?<=[;\t\r\n]))(?=["\s]*[=+@-])""")
"""Where a spreadsheet takes what follows for a formula (OWASP, "CSV Injection").

Behind a semicolon or tab, too: in many locales these part cells, and quotes within a line bind nothing there.
"""


def text(reports: Iterable[Report]) -> str:
    """A table of these reports."""
    return "".join(map(line, (COLUMNS, *map(_row, reports))))


def line(cells: Iterable[object]) -> str:
    """A line of a table, with its end: what `csv.QUOTE_STRINGS` makes, which is new in Python 3.12.

    Args:
        cells: texts, which may be anybody's; figures; None or `Missing` where there is none.
    """
    return ",".join(map(_cell, cells)) + "\r\n"


def _row(report: Report) -> tuple[object, ...]:
    record, run = report.record, report.record.run
    return (
        SCHEMA,
        run.run_id,
        run.attempt,
        report.trace_id,
        run.name,
        run.project,
        run.group,
        run.framework,
        run.source,
        run.namespace,
        record.node,
        record.cluster,
        "running" if record.ended_wall_ns is None else "ended",
        record.result,
        record.error_type,
        rfc3339(record.began_wall_ns),
        None if record.ended_wall_ns is None else rfc3339(record.ended_wall_ns),
        *(getattr(report.figures, name) for name in FIGURES),
        record.currency,
        record.grid_zone,
        record.basis,
        ";".join(record.providers),
        str(record.estimated).lower(),
        record.pue,
        ";".join(sorted({part.attribution for part in report.parts})),
        *(edge for name in RANGES for edge in _edges(getattr(report.ranges, name))),
        report.uncertainty.intensity_ratio,
        ";".join(signals_of(record)),
        *(_sci(report, unit) for unit in UNITS),
        None if report.revision is None else report.revision.co2e_g,
        run.user,
    )


def _edges(between: Range | Missing) -> tuple[object, object]:
    return (between, between) if isinstance(between, Missing) else (between.low, between.high)


def _sci(report: Report, unit: Unit) -> float | None:
    """Only what may be called SCI."""
    found = (sci.grams_per_unit for sci in report.sci if sci.unit == unit and sci.conforms)
    return next(found, None)


def _cell(value: object) -> str:
    """What a spreadsheet would run as a formula gets an apostrophe in front."""
    if value is None or isinstance(value, Missing):
        return ""
    if not isinstance(value, str):
        return str(value)
    text = _FORMULA.sub("'", value).replace('"', '""')
    return f'"{text}"'
