"""One attempt of a run, gathered for whichever format tells it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wattspan.journal.figures import Revision
from wattspan.report.figures import Figures, GpuPart, Part, figures_of, gpu_parts_of, parts_of
from wattspan.report.provenance import PricedBy, provenance_of
from wattspan.report.ranges import Ranges, Uncertainty, ranges_of, uncertainty_of
from wattspan.report.sci import Sci, known
from wattspan.report.statements import Statement, omissions, sources, statements
from wattspan.runs import RunRecord
from wattspan.workloads import run_ids

SCHEMA: Final = "wattspan.report/2"
"""Name and version of the JSON document and of the CSV's columns.

2: ranges, who priced what, SCI, market-based grams and water; their columns of figures stand among the other
figures, and `gpu_energy_uncertainty_ratio` knows the operator's calibration.
"""


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
        uncertainty: what the ranges are made of.
        ranges: between what and what each total lies.
        priced_by: who priced which part of the energy.
        sci: grams per functional unit: of the one that was asked for, else of all that are known.
        statements: how sure the figures are, and why.
        omissions: what the report cannot know, and why.
        sources: where figures come from that were not measured here, each with what its licence asks for.
        made_wall_ns: now.
        version: of Wattspan.
        revision: its grams by the figures that are known now; None where nobody looked, or factors were not
            kept.
    """

    record: RunRecord
    trace_id: str
    attempts: tuple[int, ...]
    figures: Figures
    parts: tuple[Part, ...]
    gpus: tuple[GpuPart, ...]
    uncertainty: Uncertainty
    ranges: Ranges
    priced_by: tuple[PricedBy, ...]
    sci: tuple[Sci, ...]
    statements: tuple[Statement, ...]
    omissions: tuple[str, ...]
    sources: tuple[str, ...]
    made_wall_ns: int
    version: str
    revision: Revision | None = None


def report_of(
    record: RunRecord,
    attempts: Iterable[int],
    made_wall_ns: int,
    version: str,
    revision: Revision | None = None,
) -> Report:
    """Gather a report.

    Args:
        record: the attempt, with points.
        attempts: all that the node knows of the run.
        made_wall_ns: now.
        version: of Wattspan.
        revision: its grams by the figures that are known now; None where nobody looked.
    """
    revision = revision if record.factors else None
    figures = figures_of(record, made_wall_ns)
    uncertainty = uncertainty_of(record, figures)
    sci = known(record, made_wall_ns)
    run = record.run
    return Report(
        record=record,
        trace_id=run_ids.trace_id(record.cluster, run.run_id, run.attempt),
        attempts=tuple(sorted(set(attempts))),
        figures=figures,
        parts=parts_of(record.totals),
        gpus=gpu_parts_of(record),
        uncertainty=uncertainty,
        ranges=ranges_of(figures, uncertainty),
        priced_by=provenance_of(record),
        sci=sci,
        statements=statements(record, figures, uncertainty, sci, revision),
        omissions=omissions(record),
        sources=sources(record),
        made_wall_ns=made_wall_ns,
        version=version,
        revision=revision,
    )
