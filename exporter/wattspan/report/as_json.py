"""A report as a JSON document of the versioned schema ``report.schema.json``. Pure."""

from dataclasses import asdict
from typing import Any, Final

from wattspan.report.figures import Missing
from wattspan.report.quantities import rfc3339
from wattspan.report.report import SCHEMA, Report
from wattspan.runs import Point
from wattspan.units import UW_PER_W

Document = dict[str, Any]

LIST_SCHEMA: Final = "wattspan.runs/1"
"""Name and version of a list of runs; each entry is a report's `run` and `figures`."""


def document(report: Report) -> Document:
    """The whole report. A figure that is missing is null, and `missing` has the reason under its name."""
    record = report.record
    return {
        "schema": SCHEMA,
        "made_at": rfc3339(report.made_wall_ns),
        "wattspan_version": report.version,
        "run": _run(report),
        **_figures(report),
        "energy": [asdict(part) for part in report.parts],
        "gpus": [asdict(gpu) for gpu in report.gpus],
        "carbon": {
            "grid_zone": record.grid_zone,
            "basis": record.basis,
            "providers": list(record.providers),
            "estimated": record.estimated,
            "pue": record.pue,
        },
        "points": [_point(point) for point in record.points],
        "statements": [asdict(statement) for statement in report.statements],
        "omissions": list(report.omissions),
        "sources": list(report.sources),
    }


def list_document(reports: list[Report]) -> Document:
    """Runs and their figures, in the order given."""
    return {
        "schema": LIST_SCHEMA,
        "runs": [{"run": _run(report), **_figures(report)} for report in reports],
    }


def _run(report: Report) -> Document:
    record, run = report.record, report.record.run
    return {
        "run_id": run.run_id,
        "attempt": run.attempt,
        "attempts": list(report.attempts),
        "trace_id": report.trace_id,
        "name": run.name,
        "project": run.project,
        "group": run.group,
        "framework": run.framework,
        "source": run.source,
        "user": run.user,
        "namespace": run.namespace,
        "pods": [asdict(pod) for pod in record.pods],
        "node": record.node,
        "cluster": record.cluster,
        "nodes_expected": run.nodes_expected,
        "rank_zero": run.rank_zero,
        "parent_trace_id": run.parent_trace_id,
        "state": "running" if record.ended_wall_ns is None else "ended",
        "result": record.result,
        "error_type": record.error_type,
        "began_at": rfc3339(record.began_wall_ns),
        "ended_at": None if record.ended_wall_ns is None else rfc3339(record.ended_wall_ns),
    }


def _figures(report: Report) -> Document:
    numbers = {name: getattr(report.figures, name) for name in report.figures.__slots__}
    return {
        "figures": {
            name: None if isinstance(number, Missing) else number for name, number in numbers.items()
        },
        "currency": report.record.currency,
        "missing": {name: number.reason for name, number in numbers.items() if isinstance(number, Missing)},
    }


def _point(point: Point) -> Document:
    return {
        "at": rfc3339(point.at_wall_ns),
        "power_watts": {uuid: power_uw / UW_PER_W for uuid, power_uw in point.power_uw.items()},
        "intensity_grams_per_kwh": point.intensity_g_per_kwh,
        "co2e_grams": point.co2e_g,
    }
