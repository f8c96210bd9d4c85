"""One attempt of a run, gathered for whichever format tells it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wattspan.report.figures import Figures, GpuPart, Part, figures_of, gpu_parts_of, parts_of
from wattspan.report.statements import Statement, omissions, sources, statements
from wattspan.runs import RunRecord
from wattspan.workloads import run_ids

SCHEMA: Final = "wattspan.report/1"
"""Name and version of the JSON document and of the CSV's columns."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told of one attempt.

    Attributes:
        record: what the journal has.
        trace_id: of the attempt, on every node.
        attempts: all attempts of the run that the node knows.
        figures: what the record implies.
        parts: its energy by component and rule.
        gpus: those it held.
        statements: how sure the figures are, and why.
        omissions: what the report cannot know, and why.
        sources: where figures come from that were not measured here, each with what its licence asks for.
        made_wall_ns: now.
        version: of Wattspan.
    """

    record: RunRecord
    trace_id: str
    attempts: tuple[int, ...]
    figures: Figures
    parts: tuple[Part, ...]
    gpus: tuple[GpuPart, ...]
    statements: tuple[Statement, ...]
    omissions: tuple[str, ...]
    sources: tuple[str, ...]
    made_wall_ns: int
    version: str


def report_of(record: RunRecord, attempts: Iterable[int], made_wall_ns: int, version: str) -> Report:
    """Gather a report.

    Args:
        record: the attempt, with points.
        attempts: all that the node knows of the run.
        made_wall_ns: now.
        version: of Wattspan.
    """
    figures = figures_of(record, made_wall_ns)
    run = record.run
    return Report(
        record=record,
        trace_id=run_ids.trace_id(record.cluster, run.run_id, run.attempt),
        attempts=tuple(sorted(set(attempts))),
        figures=figures,
        parts=parts_of(record.totals),
        gpus=gpu_parts_of(record),
        statements=statements(record, figures),
        omissions=omissions(record),
        sources=sources(record),
        made_wall_ns=made_wall_ns,
        version=version,
    )
