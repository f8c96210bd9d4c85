"""The ledger's marks as the journal keeps them, and back."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache

from wattspan.journal.records import Baseline, Fact
from wattspan.ledger.meters import Mark, Past
from wattspan.runs import Holder, PodRef


def facts_of(mark: Mark) -> Mapping[str, Fact]:
    """What a baseline remembers beside the counter."""
    holder = mark.holder
    return {
        "limit_uw": mark.limit_uw,
        "idle_floor_uw": mark.idle_floor_uw,
        "holder": None if holder is None else _holder_text(holder),
    }


def pasts(baselines: Iterable[Baseline]) -> dict[str, Past]:
    """What the journal kept of the devices' counters, as the ledger takes it, by device key."""
    return {
        baseline.device: Past(
            Mark(
                baseline.energy_uj,
                baseline.read_at_ns,
                _whole(baseline.facts.get("limit_uw")),
                _whole(baseline.facts.get("idle_floor_uw")),
                _holder(baseline.facts.get("holder")),
            ),
            baseline.same_boot,
        )
        for baseline in baselines
        if baseline.energy_uj is not None
    }


@lru_cache(maxsize=1024)  # of every GPU that is held, at every tick
def _holder_text(holder: Holder) -> str:
    pod = holder.pod
    words = [holder.run_id, holder.attempt, pod.namespace, pod.name, pod.container, holder.project]
    return json.dumps(words, ensure_ascii=False)


def _holder(fact: Fact) -> Holder | None:
    """What an older journal did not keep, or kept otherwise, is nobody."""
    if not isinstance(fact, str):
        return None
    match json.loads(fact):
        case [str(run_id), int(attempt), str(namespace), str(name), str(container), str(project)]:
            return Holder(run_id, attempt, PodRef(namespace, name, container), project)
    return None


def _whole(fact: Fact) -> int | None:
    return fact if isinstance(fact, int) else None
