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
from wattspan.report.figures import Figures, Missing, Number, figures_of
from wattspan.report.provenance import provenance_of, signals_of
from wattspan.report.ranges import Range, Ranges, ranges_of, uncertainty_of
from wattspan.runs import RunNow, RunRecord, RunState
from wattspan.workloads import run_ids

RANGES: Final = tuple(field.name for field in fields(Ranges))

NOT_PROJECTED: Final = Missing(
    "the run has ended, has more nodes than this one, or says too little of its progress"
)

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

    def known(name: str, number: Number) -> float | None:
        """The value, or a note why there is none."""
        if not isinstance(number, Missing) and math.isfinite(number):
            return number
        missing[name] = number.reason if isinstance(number, Missing) else "it is no number"
        return None

    def projected(name: str, value: float | None) -> float | None:
        return known(name, NOT_PROJECTED if value is None else value)

    if record.ended_wall_ns is None:
        missing["ended_at"] = missing["result"] = "the run has not ended"
    found = figures_of(record, now_wall_ns)
    uncertainty = uncertainty_of(record, found)
    ranges = ranges_of(found, uncertainty)

    def figure(name: str) -> float | None:
        """A figure of the report by its name there."""
        return known(name, getattr(found, name))

    projected_end_wall_ns = None if seen is None else seen.projected_end_wall_ns
    if projected_end_wall_ns is None:
        missing["projected_end_at"] = NOT_PROJECTED.reason
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
        "duration_seconds": found.duration_seconds,
        "energy_joules": figure("energy_joules"),
        "energy_by_component": {
            component: known(f"energy_by_component.{component}", getattr(found, f"{component}_energy_joules"))
            for component in COMPONENTS
        },
        "co2e_grams": figure("co2e_grams"),
        "embodied_co2e_grams": figure("embodied_co2e_grams"),
        "market_co2e_grams": figure("market_co2e_grams"),
        "water_liters": figure("water_liters"),
        "facility_energy_joules": known(
            "facility_energy_joules",
            found.energy_joules
            if isinstance(found.energy_joules, Missing)
            else found.energy_joules * totals.mean_pue(record.pue),
        ),
        "unpriced_energy_joules": found.unpriced_energy_joules,
        "cost": figure("cost"),
        "uncosted_energy_joules": found.uncosted_energy_joules,
        "currency": record.currency,
        "ranges": {name: _range(getattr(ranges, name)) for name in RANGES},
        "intensity_uncertainty_ratio": uncertainty.intensity_ratio,
        "projected_co2e_grams": projected("projected_co2e_grams", seen.projected_co2e_g if seen else None),
        "projected_cost": projected("projected_cost", seen.projected_cost if seen else None),
        "projected_end_at": rfc3339(projected_end_wall_ns),
        "greenest_co2e_grams": projected("greenest_co2e_grams", seen.greenest_co2e_g if seen else None),
        "gpu_seconds": found.gpu_seconds,
        "idle_gpu_seconds": found.idle_gpu_seconds,
        "gpu_count": found.gpu_count,
        "gpu_utilization_ratio": figure("gpu_utilization_ratio"),
        "progress": _progress(record, found),
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


def _progress(record: RunRecord, found: Figures) -> Mapping[str, Any]:
    progress, ratio = record.progress, found.progress_ratio
    return {
        "steps": progress.steps,
        "samples": progress.samples,
        "tokens": progress.tokens,
        "total_steps": progress.total_steps,
        "repeated_steps": progress.repeated_steps,
        "loss": progress.loss if progress.loss is not None and math.isfinite(progress.loss) else None,
        "ratio": None if isinstance(ratio, Missing) else ratio,
    }


def _attempt(record: RunRecord) -> tuple[str, int]:
    return record.run.run_id, record.run.attempt


def _state(record: RunRecord) -> RunState:
    return "running" if record.ended_wall_ns is None else "ended"


def _place(record: RunRecord) -> _Place:
    return record.began_wall_ns, record.run.run_id, record.run.attempt
