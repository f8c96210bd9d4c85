"""The JSON documents of runs, as pure functions of their records.

Units stand in the names. A figure that is not known is null, and `missing` says why, by the field's name.
"""

import heapq
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from wattspan.publish.api import Document, rfc3339
from wattspan.publish.run_bodies import RUN_ID_FORM
from wattspan.report.as_json import factor_document
from wattspan.report.figures import Missing, figures_of
from wattspan.report.provenance import provenance_of, signals_of
from wattspan.report.ranges import Range, Ranges, ranges_of, uncertainty_of
from wattspan.runs import RunNow, RunRecord, RunState, RunTotals
from wattspan.units import NS_PER_S, UJ_PER_J
from wattspan.workloads import run_ids

RANGES: Final = tuple(field.name for field in fields(Ranges))

NOT_PROJECTED: Final = "the run has ended, has more nodes than this one, or says too little of its progress"

COMPONENTS: Final = ("gpu", "cpu", "dram")

DEFAULT_LIMIT: Final = 100

CURSOR_FORM: Final = rf"([0-9]{{1,19}})\.([0-9]{{1,16}})\.({RUN_ID_FORM})"

_Place = tuple[int, str, int]
"""Begin, run id and attempt: where a record stands in the list, whose newest comes first."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs are asked for.

    Attributes:
        state, project, group: equal to these; None for any.
        since_wall_ns: that ran at or after this moment; None for any.
        limit: how many at most.
        after: the place of the last one of the page before; None for the first page.
    """

    state: RunState | None = None
    project: str | None = None
    group: str | None = None
    since_wall_ns: int | None = None
    limit: int = DEFAULT_LIMIT
    after: _Place | None = None

    def matches(self, record: RunRecord) -> bool:
        """Whether a record is among them."""
        ended_wall_ns = record.ended_wall_ns
        return (
            (self.after is None or _place(record) < self.after)
            and (self.state is None or _state(record) == self.state)
            and (self.project is None or record.run.project == self.project)
            and (self.group is None or record.run.group == self.group)
            and (self.since_wall_ns is None or ended_wall_ns is None or ended_wall_ns >= self.since_wall_ns)
        )


def list_document(
    records: Iterable[RunRecord], query: RunQuery, now_wall_ns: int, seen: Iterable[RunNow] = ()
) -> Document:
    """A page of runs, the newest first, and where the next one begins.

    Args:
        records: every run there is, in any order; only a page of them is held at once.
        query: which are wanted.
        now_wall_ns: the wall clock.
        seen: the runs of the newest view.
    """
    views = {_attempt(one.record): one for one in seen}
    wanted = (record for record in records if query.matches(record))
    newest = heapq.nlargest(query.limit + 1, wanted, key=_place)
    page = newest[: query.limit]
    return {
        "runs": [run_document(record, now_wall_ns, views.get(_attempt(record))) for record in page],
        "next_cursor": cursor(_place(page[-1])) if len(newest) > len(page) > 0 else None,
    }


def run_document(
    record: RunRecord, now_wall_ns: int, seen: RunNow | None = None, *, factors: bool = False
) -> Document:
    """What is known of one attempt of a run on this node.

    Args:
        record: the attempt.
        now_wall_ns: the wall clock; the duration of a run that has not ended counts to here.
        seen: the same attempt in the newest view, which has its projection; None where it is not there.
        factors: also how each gram came about.
    """
    run, totals = record.run, record.totals
    missing: dict[str, str] = {}

    def figure(name: str, value: float | None, why: str) -> float | None:
        """The value, or a note why there is none."""
        if value is not None and math.isfinite(value):
            return value
        missing[name] = why
        return None

    by_component = {
        component: figure(
            f"energy_by_component.{component}", _joules(totals, component), _why_none(record, component)
        )
        for component in COMPONENTS
    }
    energy_uj = sum(totals.energy_uj.values())
    until_wall_ns = now_wall_ns if record.ended_wall_ns is None else record.ended_wall_ns
    not_ended = "the run has not ended"
    if record.ended_wall_ns is None:
        missing["ended_at"] = missing["result"] = not_ended
    no_energy = "no energy of this run was measured on this node"
    found = figures_of(record, now_wall_ns)
    uncertainty = uncertainty_of(record, found)
    ranges = ranges_of(found, uncertainty)

    def footprint(name: str) -> float | None:
        """A figure of the report by its name there."""
        number = getattr(found, name)
        if isinstance(number, Missing):
            return figure(name, None, number.reason)
        return figure(name, number, "it is no number")

    def projected(name: str, value: float | None) -> float | None:
        return figure(name, value, NOT_PROJECTED)

    projected_end_wall_ns = None if seen is None else seen.projected_end_wall_ns
    if projected_end_wall_ns is None:
        missing["projected_end_at"] = NOT_PROJECTED
    return {
        **identity(record),
        "state": _state(record),
        "result": record.result,
        "error_type": record.error_type,
        "project": run.project,
        "group": run.group,
        "framework": run.framework,
        "source": run.source,
        "user": run.user,
        "namespace": run.namespace,
        "node": record.node,
        "cluster": record.cluster,
        "ended_at": rfc3339(record.ended_wall_ns),
        "duration_seconds": max(until_wall_ns - record.began_wall_ns, 0) / NS_PER_S,
        "energy_joules": figure(
            "energy_joules", energy_uj / UJ_PER_J if totals.energy_uj else None, no_energy
        ),
        "energy_by_component": by_component,
        "co2e_grams": figure(
            "co2e_grams",
            totals.co2e_g if totals.unpriced_uj < energy_uj else None,
            "no carbon intensity was known while it ran" if totals.energy_uj else no_energy,
        ),
        "embodied_co2e_grams": footprint("embodied_co2e_grams"),
        "market_co2e_grams": footprint("market_co2e_grams"),
        "water_liters": footprint("water_liters"),
        "facility_energy_joules": figure(
            "facility_energy_joules",
            energy_uj / UJ_PER_J * record.pue if totals.energy_uj else None,
            no_energy,
        ),
        "unpriced_energy_joules": totals.unpriced_uj / UJ_PER_J,
        "cost": figure("cost", totals.cost, "no electricity price is configured"),
        "currency": record.currency,
        "ranges": {name: _range(getattr(ranges, name)) for name in RANGES},
        "intensity_uncertainty_ratio": uncertainty.intensity_ratio,
        "projected_co2e_grams": projected("projected_co2e_grams", seen.projected_co2e_g if seen else None),
        "projected_cost": projected("projected_cost", seen.projected_cost if seen else None),
        "projected_end_at": rfc3339(projected_end_wall_ns),
        "greenest_co2e_grams": projected("greenest_co2e_grams", seen.greenest_co2e_g if seen else None),
        "gpu_seconds": totals.gpu_ns / NS_PER_S,
        "idle_gpu_seconds": totals.idle_gpu_ns / NS_PER_S,
        "gpu_count": len(record.gpus),
        "gpu_utilization_ratio": figure(
            "gpu_utilization_ratio",
            totals.utilization_ns / totals.gpu_ns if totals.gpu_ns else None,
            "it held no GPU on this node",
        ),
        "progress": _progress(record),
        "attribution": sorted({attribution for _, attribution in totals.energy_uj}),
        "grid_zone": record.grid_zone,
        "basis": record.basis,
        "providers": list(record.providers),
        "signals": list(signals_of(record)),
        "priced_by": [asdict(each) for each in provenance_of(record)],
        "factors": [factor_document(factor) for factor in record.factors] if factors else None,
        "intensity_estimated": record.estimated,
        "pue_ratio": record.pue,
        "budget_co2e_grams": run.budget_co2e_g,
        "missing": missing,
    }


def _range(between: Range | Missing) -> Mapping[str, float] | None:
    return None if isinstance(between, Missing) else asdict(between)


def begun_document(record: RunRecord) -> Document:
    """What a client is told that has begun a run."""
    return {**identity(record), "state": _state(record)}


def identity(record: RunRecord) -> Document:
    """The names of one attempt and of its spans."""
    attempt = record.cluster, record.run.run_id, record.run.attempt
    return {
        "run_id": record.run.run_id,
        "attempt": record.run.attempt,
        "run_name": record.run.name,
        "trace_id": run_ids.trace_id(*attempt),
        "run_span_id": run_ids.run_span_id(*attempt),
        "node_span_id": run_ids.node_span_id(*attempt, record.node),
        "began_at": rfc3339(record.began_wall_ns),
    }


def cursor(place: _Place) -> str:
    """A place in the list as one word of a URL."""
    began_wall_ns, run_id, attempt = place
    return f"{began_wall_ns}.{attempt}.{run_id}"


def place_of(word: str) -> _Place:
    """The place that `cursor` made a word of.

    Raises:
        ValueError: it is no such word.
    """
    match = re.fullmatch(CURSOR_FORM, word)
    if match is None:
        raise ValueError(word)
    return int(match[1]), match[3], int(match[2])


def _progress(record: RunRecord) -> Mapping[str, Any]:
    progress = record.progress
    ratio = progress.steps / progress.total_steps if progress.total_steps else None
    return {
        "steps": progress.steps,
        "samples": progress.samples,
        "tokens": progress.tokens,
        "total_steps": progress.total_steps,
        "repeated_steps": progress.repeated_steps,
        "loss": progress.loss if progress.loss is not None and math.isfinite(progress.loss) else None,
        "ratio": ratio,
    }


def _joules(totals: RunTotals, component: str) -> float | None:
    parts_uj = [value_uj for (of, _), value_uj in totals.energy_uj.items() if of == component]
    return sum(parts_uj) / UJ_PER_J if parts_uj else None


def _why_none(record: RunRecord, component: str) -> str:
    if component != "gpu":
        return f"no {component} energy could be attributed to it on this node"
    return "no energy of its GPUs was measured" if record.gpus else "it held no GPU on this node"


def _attempt(record: RunRecord) -> tuple[str, int]:
    return record.run.run_id, record.run.attempt


def _state(record: RunRecord) -> RunState:
    return "running" if record.ended_wall_ns is None else "ended"


def _place(record: RunRecord) -> _Place:
    return record.began_wall_ns, record.run.run_id, record.run.attempt
