"""Runs into spans, by the contract's names: pure, and with the ids that every node computes for itself.

A figure that nobody has is left out: no reading is not 0 J, and no intensity is not 0 g.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from wattspan.report.figures import Missing, cost_of, figures_of
from wattspan.report.provenance import signals_of
from wattspan.report.ranges import Range, ranges_of, uncertainty_of
from wattspan.runs import AttributeValue, PodRef, Run, RunRecord, RunTotals, SpanRecord, Stretch
from wattspan.units import NS_PER_S, UJ_PER_J, UJ_PER_KWH
from wattspan.workloads import run_ids

RUN: Final = "training_run"
NODE: Final = "training_run.node"
WINDOW: Final = "training_run.window"
PHASE: Final = "training_run.phase"

UNKNOWN_ERROR: Final = "_OTHER"
"""What `error.type` says of a failure that gave no name (OpenTelemetry semantic conventions, error.type)."""

Attributes = Mapping[str, AttributeValue | None]


def closing_spans(record: RunRecord, *, hub: bool, parent_span_id: str = "") -> tuple[SpanRecord, ...]:
    """The spans of a run that has ended on this node: the node's own, and the run's where it is ours to tell.

    The run's span is ours where the run has this one node; of a run on several, or on nobody knows how many,
    rank 0's node tells what it knows with the scope ``node``.
    Where there is a hub it is the hub's, however long that is away.

    Args:
        record: final.
        hub: one is configured.
        parent_span_id: with `Run.parent_trace_id` what started the run; it becomes a link.

    Raises:
        ValueError: the run has not ended.
    """
    node = _node_span(record, parent_span_id)
    if hub:
        return (node,)
    if record.run.nodes_expected == 1:
        return node, _run_span(record, "run", parent_span_id)
    if record.run.rank_zero:
        return node, _run_span(record, "node", parent_span_id)
    return (node,)


def stretch_span(record: RunRecord, stretch: Stretch) -> SpanRecord:
    """The span of a window or phase that is over, while its run may go on; its parent is the node's span.

    Args:
        record: of the run as it is now.
        stretch: over, with what was used in it alone.
    """
    name = PHASE if stretch.name else WINDOW
    kind = name.removeprefix(f"{RUN}.")
    return SpanRecord(
        trace_id=run_ids.trace_id(*_attempt(record)),
        span_id=_stretch_span_id(record, name, stretch),
        parent_span_id=run_ids.node_span_id(*_attempt(record), record.node),
        name=name,
        start_wall_ns=stretch.began_wall_ns,
        end_wall_ns=max(stretch.ended_wall_ns, stretch.began_wall_ns),
        attributes=_known(
            {
                "wattspan.run.id": record.run.run_id,
                "wattspan.run.attempt": record.run.attempt,
                f"wattspan.{kind}.name": stretch.name or None,
                f"wattspan.{kind}.index": stretch.index,
                **_figures(record, stretch.totals, stretch.totals.gpu_energy_uj),
            }
        ),
    )


def _node_span(record: RunRecord, parent_span_id: str) -> SpanRecord:
    return SpanRecord(
        trace_id=run_ids.trace_id(*_attempt(record)),
        span_id=run_ids.node_span_id(*_attempt(record), record.node),
        parent_span_id=run_ids.run_span_id(*_attempt(record)),
        name=NODE,
        start_wall_ns=record.began_wall_ns,
        end_wall_ns=_ended(record),
        attributes=_known({**_whole(record, "node"), **_pods(record.pods)}),
        error_type=_error_type(record),
        links=_links(record, parent_span_id),
    )


def _run_span(record: RunRecord, scope: str, parent_span_id: str) -> SpanRecord:
    return SpanRecord(
        trace_id=run_ids.trace_id(*_attempt(record)),
        span_id=run_ids.run_span_id(*_attempt(record)),
        parent_span_id="",
        name=RUN,
        start_wall_ns=record.began_wall_ns,
        end_wall_ns=_ended(record),
        attributes=_known({**_whole(record, scope), **_pods(record.pods)}),
        error_type=_error_type(record),
        links=_links(record, parent_span_id),
    )


def _attempt(record: RunRecord) -> tuple[str, str, int]:
    return record.cluster, record.run.run_id, record.run.attempt


def _stretch_span_id(record: RunRecord, name: str, stretch: Stretch) -> str:
    """The same whenever it is made again: of the run, the node, and what tells the stretch from others."""
    place = (record.node, name, stretch.name, str(stretch.index), str(stretch.began_wall_ns))
    return hashlib.sha256(run_ids.digest(*_attempt(record)) + "\0".join(place).encode()).digest()[:8].hex()


def _ended(record: RunRecord) -> int:
    if record.ended_wall_ns is None:
        raise ValueError(f"run {record.run.run_id} has not ended")
    # A wall clock that was set back in mid-run must not end a span before it began.
    return max(record.ended_wall_ns, record.began_wall_ns)


def _error_type(record: RunRecord) -> str:
    return (record.error_type or UNKNOWN_ERROR) if record.result == "failure" else ""


def _links(record: RunRecord, parent_span_id: str) -> tuple[tuple[str, str], ...]:
    run = record.run
    before = (record.cluster, run.run_id, run.attempt - 1)
    again = ((run_ids.trace_id(*before), run_ids.run_span_id(*before)),) if run.attempt else ()
    started_by = ((run.parent_trace_id, parent_span_id),) if run.parent_trace_id and parent_span_id else ()
    return again + started_by


def _whole(record: RunRecord, scope: str) -> Attributes:
    """What a run's span and its node's span have in common."""
    return {
        **_identity(record.run, record, scope),
        **_progress(record),
        **_figures(record, record.totals, record.gpus),
        **_ranges(record),
    }


def _ranges(record: RunRecord) -> Attributes:
    """How far the totals may be off; the edges of windows and phases are not judged one by one.

    A name must not be another's namespace (OpenTelemetry, attribute naming), hence ``operational_low``.
    """
    figures = figures_of(record, _ended(record))
    uncertainty = uncertainty_of(record, figures)
    ranges = ranges_of(figures, uncertainty)
    edges = {
        f"{name}_{edge}": getattr(between, edge)
        for name, between in (
            ("wattspan.energy.total", ranges.energy_joules),
            ("wattspan.co2e.operational", ranges.co2e_grams),
            ("wattspan.co2e.embodied", ranges.embodied_co2e_grams),
        )
        if isinstance(between, Range)
        for edge in ("low", "high")
    }
    return {
        **edges,
        "wattspan.uncertainty.ratio": uncertainty.energy.ratio if uncertainty.energy else None,
        "wattspan.uncertainty.intensity_ratio": uncertainty.intensity_ratio,
    }


def _identity(run: Run, record: RunRecord, scope: str) -> Attributes:
    return {
        "wattspan.run.id": run.run_id,
        "wattspan.run.name": run.name or None,
        "wattspan.run.project": run.project or None,
        "wattspan.run.group": run.group or None,
        "wattspan.run.user": run.user or None,
        "wattspan.run.framework": run.framework or None,
        "wattspan.run.source": run.source,
        "wattspan.run.attempt": run.attempt,
        "wattspan.run.result": record.result,
        "wattspan.run.scope": scope,
        "wattspan.run.nodes_expected": run.nodes_expected,
        "wattspan.run.nodes_reported": 1,
        "wattspan.run.parent_trace_id": run.parent_trace_id or None,
        "error.type": _error_type(record) or None,
    }


def _progress(record: RunRecord) -> Attributes:
    return {
        "wattspan.progress.steps": record.progress.steps or None,
        "wattspan.progress.samples": record.progress.samples or None,
        "wattspan.progress.tokens": record.progress.tokens or None,
    }


def _figures(record: RunRecord, totals: RunTotals, gpus: Iterable[str]) -> Attributes:
    """What was used, and how that is known."""
    uuids = tuple(sorted(gpus))
    total_uj = sum(totals.energy_uj.values())
    priced_uj = total_uj - totals.unpriced_uj
    known = cost_of(totals)
    cost = None if isinstance(known, Missing) else known
    return {
        "wattspan.energy.total": total_uj / UJ_PER_J if totals.energy_uj else None,
        "wattspan.energy.gpu": _component_j(totals, "gpu"),
        "wattspan.energy.cpu": _component_j(totals, "cpu"),
        "wattspan.energy.dram": _component_j(totals, "dram"),
        "wattspan.energy.unpriced": totals.unpriced_uj / UJ_PER_J if totals.unpriced_uj else None,
        "wattspan.attribution.methods": tuple(sorted({method for _, method in totals.energy_uj})) or None,
        **(_emissions(record, totals, priced_uj) if record.basis else {}),
        "wattspan.co2e.embodied": totals.embodied_g,
        "wattspan.co2e.market": totals.market_g if totals.energy_uj else None,
        "wattspan.water.liters": totals.water_l if totals.energy_uj else None,
        "wattspan.energy.uncosted": totals.uncosted_uj / UJ_PER_J if totals.uncosted_uj else None,
        "wattspan.pue": totals.mean_pue(record.pue),
        "wattspan.cost": cost,
        "wattspan.currency": record.currency or None if cost is not None else None,
        "wattspan.gpu.count": len(uuids),
        "wattspan.gpu.uuids": uuids or None,
        "wattspan.gpu.seconds": totals.gpu_ns / NS_PER_S,
        "wattspan.gpu.utilization": totals.utilization_ns / totals.gpu_ns if totals.gpu_ns else None,
    }


def _emissions(record: RunRecord, totals: RunTotals, priced_uj: int) -> Attributes:
    return {
        "wattspan.co2e.operational": totals.co2e_g,
        "wattspan.co2e.basis": record.basis,
        "wattspan.grid.signals": signals_of(record) or None,
        "wattspan.grid.zone": record.grid_zone or None,
        # Weighted by energy: grams hold the PUE, an intensity does not.
        "wattspan.grid.intensity": (
            totals.co2e_g / totals.mean_pue(record.pue) * UJ_PER_KWH / priced_uj if priced_uj > 0 else None
        ),
        "wattspan.grid.providers": record.providers or None,
        "wattspan.grid.estimated": record.estimated,
    }


def _component_j(totals: RunTotals, component: str) -> float | None:
    parts = [uj for (of, _), uj in totals.energy_uj.items() if of == component]
    return sum(parts) / UJ_PER_J if parts else None


def _pods(pods: tuple[PodRef, ...]) -> Attributes:
    """The pod by OpenTelemetry's names where there is one; several share their namespace at most."""
    if not pods:
        return {}
    namespaces = {pod.namespace for pod in pods}
    names = {pod.name for pod in pods}
    containers = {pod.container for pod in pods}
    return {
        "k8s.namespace.name": (namespaces.pop() or None) if len(namespaces) == 1 else None,
        "k8s.pod.name": (names.pop() or None) if len(names) == 1 else None,
        "k8s.container.name": (containers.pop() or None) if len(pods) == 1 else None,
        "wattspan.run.pods": tuple(sorted({f"{pod.namespace}/{pod.name}" for pod in pods}))
        if len(pods) > 1
        else None,
    }


def _known(attributes: Attributes) -> Mapping[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}
