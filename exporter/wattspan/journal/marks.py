"""The ledger's marks as the journal keeps them, and back."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache

from wattspan.journal.records import Baseline, Fact
from wattspan.ledger.meters import Mark, Past
from wattspan.runs import Holder, PodRef


def baseline_of(device: str, mark: Mark | None) -> Baseline:
    """A device's mark as the journal keeps it; None takes the place of an older one, which is void."""
    if mark is None:
        return Baseline(device, None, 0)
    facts: Mapping[str, Fact] = {
        "limit_uw": mark.limit_uw,
        "idle_floor_uw": mark.idle_floor_uw,
        "holder": None if mark.holder is None else _holder_text(mark.holder),
    }
    return Baseline(device, mark.energy_uj, mark.read_at_ns, facts)


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
