"""The JSON documents of runs, as pure functions of their records.

Units stand in the names. A figure that is not known is null, and `missing` says why, by the field's name.
"""

import heapq
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wattspan.publish.api import Document, rfc3339
from wattspan.publish.run_bodies import RUN_ID_FORM
from wattspan.runs import RunRecord, RunState, RunTotals
from wattspan.units import NS_PER_S, UJ_PER_J
from wattspan.workloads import run_ids

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


def list_document(records: Iterable[RunRecord], query: RunQuery, now_wall_ns: int) -> Document:
    """A page of runs, the newest first, and where the next one begins.

    Args:
        records: every run there is, in any order; only a page of them is held at once.
        query: which are wanted.
        now_wall_ns: the wall clock.
    """
    wanted = (record for record in records if query.matches(record))
    newest = heapq.nlargest(query.limit + 1, wanted, key=_place)
    page = newest[: query.limit]
    return {
        "runs": [run_document(record, now_wall_ns) for record in page],
        "next_cursor": cursor(_place(page[-1])) if len(newest) > len(page) > 0 else None,
    }


def run_document(record: RunRecord, now_wall_ns: int) -> Document:
    """What is known of one attempt of a run on this node.

    Args:
        record: the attempt.
        now_wall_ns: the wall clock; the duration of a run that has not ended counts to here.
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
    return {
        **identity(record),
        "state": _state(record),
        "result": record.result,
        "error_type": record.error_type,
        "project": run.project,
        "group": run.group,
        "framework": run.framework,
        "source": run.source,
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
        "unpriced_energy_joules": totals.unpriced_uj / UJ_PER_J,
        "cost": figure("cost", totals.cost, "no electricity price is configured"),
        "currency": record.currency,
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
        "intensity_estimated": record.estimated,
        "pue_ratio": record.pue,
        "budget_co2e_grams": run.budget_co2e_g,
        "missing": missing,
    }


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


def _state(record: RunRecord) -> RunState:
    return "running" if record.ended_wall_ns is None else "ended"


def _place(record: RunRecord) -> _Place:
    return record.began_wall_ns, record.run.run_id, record.run.attempt
