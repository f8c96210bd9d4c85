"""A report as a JSON document of the versioned schema ``report.schema.json``. Pure."""

from dataclasses import asdict
from typing import Any, Final

from wattspan.report.figures import Missing
from wattspan.report.provenance import signals_of
from wattspan.report.quantities import rfc3339
from wattspan.report.ranges import Range
from wattspan.report.report import SCHEMA, Report
from wattspan.report.sci import Sci
from wattspan.runs import Factor, Point
from wattspan.units import UJ_PER_J, UW_PER_W

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
        "uncertainty": _uncertainty(report),
        "sci": [_sci(sci) for sci in report.sci],
        "energy": [asdict(part) for part in report.parts],
        "gpus": [asdict(gpu) for gpu in report.gpus],
        "carbon": {
            "grid_zone": record.grid_zone,
            "basis": record.basis,
            "signals": list(signals_of(record)),
            "providers": list(record.providers),
            "estimated": record.estimated,
            "pue": record.pue,
            "pue_configured": record.pue_configured,
            "embodied_without": (None if record.embodied_without is None else list(record.embodied_without)),
            "earlier_attempts_co2e_grams": record.earlier_co2e_g,
            "revised_co2e_grams": None if report.revision is None else report.revision.co2e_g,
            "revised_factors": None if report.revision is None else report.revision.revised,
            "priced_by": [asdict(each) for each in report.priced_by],
        },
        "factors": [factor_document(factor) for factor in record.factors],
        "calibrations": {uuid: asdict(one) for uuid, one in record.calibrations.items()},
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
        "ranges": {
            name: asdict(between) if isinstance(between, Range) else None
            for name in report.ranges.__slots__
            for between in [getattr(report.ranges, name)]
        },
        "currency": report.record.currency,
        "missing": {name: number.reason for name, number in numbers.items() if isinstance(number, Missing)},
    }


def factor_document(factor: Factor) -> Document:
    """One figure and the energy that it priced; grams are energy times PUE times intensity."""
    return {
        "began_at": rfc3339(factor.began_wall_ns),
        "ended_at": rfc3339(factor.ended_wall_ns),
        "energy_joules": factor.energy_uj / UJ_PER_J,
        "co2e_grams": factor.co2e_g,
        "intensity_grams_per_kwh": factor.g_per_kwh,
        "pue": factor.pue,
        "grid_zone": factor.grid_zone,
        "provider": factor.provider,
        "signal": factor.signal,
        "basis": factor.basis,
        "estimated": factor.estimated,
        "origin": factor.origin,
        "valid_from": _moment(factor.valid_from_wall_ns),
        "valid_until": _moment(factor.valid_until_wall_ns),
        "fetched_at": _moment(factor.fetched_wall_ns),
        "figures": factor.figures,
    }


def _moment(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else rfc3339(wall_ns)


def _uncertainty(report: Report) -> Document:
    energy = report.uncertainty.energy
    return {
        "shift_ratio": None if energy is None else energy.shift_ratio,
        "gain_ratio": None if energy is None else energy.gain_ratio,
        "edges_ratio": None if energy is None else energy.edges_ratio,
        "share_ratio": None if energy is None else energy.share_ratio,
        "intensity_ratio": report.uncertainty.intensity_ratio,
    }


def _sci(sci: Sci) -> Document:
    return {**asdict(sci), "missing": list(sci.missing), "sci": sci.conforms}


def _point(point: Point) -> Document:
    return {
        "at": rfc3339(point.at_wall_ns),
        "power_watts": {uuid: power_uw / UW_PER_W for uuid, power_uw in point.power_uw.items()},
        "intensity_grams_per_kwh": point.intensity_g_per_kwh,
        "co2e_grams": point.co2e_g,
    }
