"""Whether the figures of a record follow from the factors that it holds. Pure.

Operational grams are energy times intensity times PUE, factor by factor; their sums are the record's totals.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from wattspan.journal.chain_of_runs import Entry, Verdict
from wattspan.journal.figures import Revision
from wattspan.report.as_json import factor_document
from wattspan.report.quantities import rfc3339
from wattspan.runs import Factor, RunRecord
from wattspan.units import NS_PER_S, UJ_PER_J, UJ_PER_KWH

SCHEMA: Final = "wattspan.audit/1"
"""Name and version of the JSON document."""

TOLERANCE_RATIO: Final = 1e-9
"""Sums of floats in another order differ in their last digits alone."""

TOLERANCE_G: Final = 1e-6
"""An attempt's grams are the difference of two sums, which have the digits of the larger one."""

_S_PER_H: Final = 3600


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was computed again.

    Attributes:
        what: in words.
        told: by the record.
        found: from its factors.
        unit: of both.
        sound: they are the same.
    """

    what: str
    told: float
    found: float
    unit: str
    sound: bool


@dataclass(frozen=True, slots=True)
class Audit:
    """What can be said of one attempt.

    Attributes:
        record: with factors.
        checks: of its sums.
        remarks: what cannot be checked, and why.
        entry: of the chain for the record as it stands; None while it goes on.
        revision: its grams by the figures that are known now.
        verdict: on the chain as a whole.
        sound: everything adds up, and the chain is whole.
    """

    record: RunRecord
    checks: tuple[Check, ...]
    remarks: tuple[str, ...]
    entry: Entry | None
    revision: Revision
    verdict: Verdict
    sound: bool


def audit_of(record: RunRecord, entries: Iterable[Entry], revision: Revision, verdict: Verdict) -> Audit:
    """Look at one attempt.

    Args:
        record: with factors.
        entries: of its run, in their order.
        revision: of its grams.
        verdict: on the chain.
    """
    own = [e for e in entries if (e.attempt, e.node) == (record.run.attempt, record.node)]
    entry = own[-1] if own else None
    checks = checks_of(record)
    traceable = is_traceable(record) or record.ended_wall_ns is None
    return Audit(
        record=record,
        checks=checks,
        remarks=tuple(_remarks(record, revision, entry)),
        entry=entry,
        revision=revision,
        verdict=verdict,
        sound=traceable and all(check.sound for check in checks) and verdict.sound,
    )


def co2e_g(factor: Factor) -> float:
    """Grams of a factor, computed again."""
    return factor.energy_uj / UJ_PER_KWH * factor.g_per_kwh * factor.pue


def checks_of(record: RunRecord) -> tuple[Check, ...]:
    """The sums of a record; none where it has no factors to compute them from."""
    if not record.factors:
        return ()
    totals = record.totals
    energy_uj = sum(totals.energy_uj.values())
    found_uj = sum(factor.energy_uj for factor in record.factors) + totals.unpriced_uj
    wrong = [factor for factor in record.factors if not _equal(factor.co2e_g, co2e_g(factor))]
    told_g = math.fsum(factor.co2e_g for factor in wrong)
    return (
        Check(
            "energy: that of the factors, and what is unpriced",
            energy_uj / UJ_PER_J,
            found_uj / UJ_PER_J,
            "J",
            math.isclose(energy_uj, found_uj, rel_tol=TOLERANCE_RATIO),
        ),
        _grams("operational CO2e: the sum of the factors", totals.co2e_g, [f.co2e_g for f in record.factors]),
        _grams("operational CO2e: computed again", totals.co2e_g, map(co2e_g, record.factors)),
        Check(
            "each factor: energy x intensity x PUE",
            told_g,
            math.fsum(map(co2e_g, wrong)),
            "g",
            not wrong,
        ),
    )


def is_traceable(record: RunRecord) -> bool:
    """Whether there are factors for the grams that it has."""
    return bool(record.factors) or not record.totals.co2e_g


def document(audit: Audit, made_wall_ns: int, version: str) -> dict[str, Any]:
    """All of it as JSON has it."""
    record, totals = audit.record, audit.record.totals
    return {
        "schema": SCHEMA,
        "made_at": rfc3339(made_wall_ns),
        "wattspan_version": version,
        "sound": audit.sound,
        "run": {
            "run_id": record.run.run_id,
            "attempt": record.run.attempt,
            "node": record.node,
            "cluster": record.cluster,
            "began_at": rfc3339(record.began_wall_ns),
            "ended_at": None if record.ended_wall_ns is None else rfc3339(record.ended_wall_ns),
            "result": record.result,
        },
        "factors": [
            {**factor_document(factor), "computed_co2e_grams": co2e_g(factor)} for factor in record.factors
        ],
        "totals": {
            "energy_joules": sum(totals.energy_uj.values()) / UJ_PER_J,
            "unpriced_energy_joules": totals.unpriced_uj / UJ_PER_J,
            "co2e_grams": totals.co2e_g,
            "embodied_co2e_grams": totals.embodied_g,
            "gpu_seconds": totals.gpu_ns / NS_PER_S,
            "market_co2e_grams": totals.market_g,
            "water_liters": totals.water_l,
            "revised_co2e_grams": audit.revision.co2e_g,
            "revised_factors": audit.revision.revised,
        },
        "gpus": dict(record.gpus),
        "calibrations": {uuid: asdict(one) for uuid, one in record.calibrations.items()},
        "checks": [asdict(check) for check in audit.checks],
        "remarks": list(audit.remarks),
        "chain": {**chain_document(audit.verdict), "entry": _entry(audit.entry)},
    }


def chain_document(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it."""
    return {"sound": verdict.sound, **asdict(verdict)}


def embodied_g_per_gpu_hour(record: RunRecord) -> float | None:
    """What an hour of a GPU was charged with; None without embodied grams or without GPU time."""
    totals = record.totals
    if totals.embodied_g is None or not totals.gpu_ns:
        return None
    return totals.embodied_g / (totals.gpu_ns / NS_PER_S / _S_PER_H)


def _remarks(record: RunRecord, revision: Revision, entry: Entry | None) -> Iterator[str]:
    if not is_traceable(record):
        why = " yet" if record.ended_wall_ns is None else ", which it should have"
        yield f"The record has no factors{why}: its operational grams cannot be traced."
    if record.ended_wall_ns is None:
        yield "The run goes on: it enters the chain when it ends."
    elif entry is None:
        yield "The chain has no entry for it."
    unknown = sum(not factor.provider for factor in record.factors)
    if unknown:
        yield (
            f"{unknown} factors have no provider: their figure was not kept, "
            "as in the last seconds before a kill."
        )
    if revision.mixed:
        yield (
            f"{revision.mixed} factors stand for several figures put together, with their mean; "
            "they are left as they are where figures were revised."
        )
    if revision.let_go:
        yield (
            "Some figures of this time are no longer kept, so that a revision of them is not known "
            f"({revision.let_go} factors)."
        )
    if record.totals.embodied_g is not None:
        yield "Of embodied grams the record has the sum, the GPU time and the models, not each figure."


def _grams(what: str, told: float, parts: Iterable[float]) -> Check:
    found = math.fsum(parts)
    return Check(what, told, found, "g", _equal(told, found))


def _equal(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=TOLERANCE_RATIO, abs_tol=TOLERANCE_G)


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "sequence": entry.sequence,
        "kind": entry.kind,
        "at": rfc3339(entry.at_wall_ns),
        "record_hash": entry.record_hash,
        "hash": entry.hash,
    }
