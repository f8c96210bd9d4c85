"""Whose energy it was. Parts always sum to the whole, in whole microjoules.

Rules (one holder: all of it, idle included, since a card that is held idles higher than one that is not:
an A40 with a context and no kernel draws 110 W instead of 30, NVIDIA open-gpu-kernel-modules issue 874):

- nobody: ``idle``, or ``unattributed`` when a process computes that belongs to nobody known;
- one holder of the whole GPU: ``exclusive``;
- several: what the GPU draws without work is split equally, the rest by SM time where the driver tells it;
- MIG: by slices; what no instance holds is idle, and what works goes to the slices with a process;
  several on one instance have equal parts of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from wattspan.model import GpuReading, Share, UnattributedReason
from wattspan.runs import LAPSED, STRANGER, Attribution, Hold, Holder, Holdings, HoldTime


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a device's energy in one interval."""

    energy_uj: int
    share: Share
    reason: UnattributedReason | None = None
    holder: Holder | None = None
    attribution: Attribution | None = None


def split(
    energy_uj: int, base_uj: int, start_ns: int, reading: GpuReading, holdings: Holdings, empty: bool
) -> tuple[Part, ...]:
    """Split what a GPU used between `start_ns` and the look at its end.

    The interval is cut where somebody came or went; each stretch has energy by its length.

    Args:
        energy_uj: of the whole interval.
        base_uj: of it, what the GPU would have drawn without work; 0 when unknown.
        start_ns: the interval's begin.
        reading: the look at its end.
        holdings: who held the GPU meanwhile.
        empty: nobody was on it at either end.
    """
    holds = holdings.by_gpu.get(reading.gpu.uuid, ())
    if not holds:
        return (_nobody(energy_uj, empty),)
    cuts = _cuts(holds, start_ns, reading.read_at_ns)
    lengths = [end - start for start, end in cuts]
    parts: list[Part] = []
    for (start, end), part_uj, part_base_uj in zip(
        cuts, apportion(energy_uj, lengths), apportion(min(base_uj, energy_uj), lengths), strict=True
    ):
        present = [hold for hold in holds if _covers(hold, start, end)]
        parts += _stretch(part_uj, min(part_base_uj, part_uj), present, reading)
    return tuple(parts)


def hold_times(
    start_ns: int, reading: GpuReading, holdings: Holdings, *, watched: bool = True
) -> list[HoldTime]:
    """GPU time of every holder between `start_ns` and the look; never more in all than the time itself.

    Args:
        start_ns: the look before.
        reading: this look, whose utilization is of the last second at most.
        holdings: who held the GPU meanwhile.
        watched: False where the looks are too far apart for this one to tell what was done in between;
            then none of the time is called idle or used.
    """
    holds = holdings.by_gpu.get(reading.gpu.uuid, ())
    if not holds:
        return []
    total_by_holder: dict[Holder, int] = {}
    for start, end in _cuts(holds, start_ns, reading.read_at_ns):
        present = [hold for hold in holds if _covers(hold, start, end)]
        if not present:
            continue
        for holder, held_ns in _times(end - start, present, slices_of(reading)):
            total_by_holder[holder] = total_by_holder.get(holder, 0) + held_ns
    utilization = reading.utilization_ratio if watched else None
    return [
        HoldTime(
            holder,
            reading.gpu.uuid,
            held_ns,
            idle_ns=held_ns if utilization == 0 else 0,
            utilization_ns=int(held_ns * utilization) if utilization is not None else 0,
        )
        for holder, held_ns in total_by_holder.items()
        if holder not in (STRANGER, LAPSED)
    ]


def _times(length_ns: int, present: Sequence[Hold], slices: int) -> Iterator[tuple[Holder, int]]:
    """Each holder's part of a stretch: by slices, of one and the same instance equally; else all equally."""
    if not slices:
        holders = [hold.holder for hold in present]
        yield from zip(holders, apportion(length_ns, [1] * len(holders)), strict=True)
        return
    weights = {hold.mig_uuid: hold.weight for hold in present}
    holders_of = _holders_by_instance(present)
    idle_weight = max(0, slices - sum(weights.values()))
    times = apportion(length_ns, [*weights.values(), idle_weight])
    for mig_uuid, held_ns in zip(weights, times, strict=False):
        holders = holders_of[mig_uuid]
        yield from zip(holders, apportion(held_ns, [1] * len(holders)), strict=True)


def sole_holder(reading: GpuReading, holdings: Holdings) -> Holder | None:
    """Who holds the whole GPU alone now; None for nobody, several, or instances of it."""
    uuid = reading.gpu.uuid
    holders = {hold.holder for hold in holdings.by_gpu.get(uuid, ()) if hold.until_ns is None}
    if len(holders) != 1 or slices_of(reading) or STRANGER in holders:
        return None
    return next(iter(holders))


def occupied(reading: GpuReading) -> bool:
    """Whether a process holds the GPU or one of its MIG instances, or it works for somebody unseen."""
    return any(_listed(reading)) or works(reading)


def works(reading: GpuReading) -> bool:
    """Whether the GPU works, whoever is listed; nobody is said to be away without evidence.

    Some drivers list no process at all (AMD's and Intel's sources), and NVIDIA's list is empty for a daemon
    that does not share the host's pid namespace.
    Utilization is the better witness; where there is none, as on MIG, an empty list has to do.
    """
    if reading.utilization_ratio is not None:
        return reading.utilization_ratio > 0
    return not _listed(reading)


def _listed(reading: GpuReading) -> list[frozenset[int]]:
    """The process lists of the GPU and its instances, of those that are known."""
    lists = (reading.processes, *(instance.processes for instance in reading.mig_instances))
    return [processes for processes in lists if processes is not None]


def slices_of(reading: GpuReading) -> int:
    """How many MIG slices the GPU has; 0 where it is not partitioned.

    Where the driver does not say: four on A30 and RTX PRO, whose largest profiles are 4g, and seven on A100,
    H100, H200 and B200 (NVIDIA MIG User Guide, supported profiles; of RTX PRO it has 5000 and 6000).
    """
    if reading.gpu.mig_mode != "enabled":
        return 0
    is_of_four = any(name in reading.gpu.model for name in ("A30", "RTX PRO"))
    total = reading.mig_slices or (4 if is_of_four else 7)
    return max(total, sum(instance.slices for instance in reading.mig_instances))


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole parts in proportion to the weights that sum to the total: largest remainders get the rest.

    All weights zero: equal parts.
    """
    if not weights:
        return []
    scale = sum(weights)
    if scale <= 0:
        weights, scale = [1.0] * len(weights), float(len(weights))
    if all(isinstance(weight, int) for weight in weights):
        whole = [total * int(weight) // int(scale) for weight in weights]
        remainders: list[float] = [total * int(weight) % int(scale) for weight in weights]
    else:
        exact = [total * (weight / scale) for weight in weights]
        whole = [int(value) for value in exact]
        remainders = [value - part for value, part in zip(exact, whole, strict=True)]
    rest = total - sum(whole)
    # Floats may overshoot by a few microjoules on huge totals: the largest part takes up the difference.
    if not 0 <= rest <= len(weights):
        whole[weights.index(max(weights))] += rest
        return whole
    for index in sorted(range(len(weights)), key=lambda i: (-remainders[i], i))[:rest]:
        whole[index] += 1
    return whole


def _nobody(energy_uj: int, empty: bool) -> Part:
    return Part(energy_uj, "idle") if empty else Part(energy_uj, "unattributed", "foreign_process")


def _stretch(energy_uj: int, base_uj: int, present: Sequence[Hold], reading: GpuReading) -> list[Part]:
    """Split a stretch in which nobody came or went."""
    slices = slices_of(reading)
    if slices:
        return _by_slices(energy_uj, base_uj, slices, present, reading)
    holders = list(dict.fromkeys(hold.holder for hold in present))
    if not holders:
        return [Part(energy_uj, "idle")]
    if len(holders) == 1:
        return [_held(energy_uj, holders[0], "exclusive")]
    return _shared(energy_uj, base_uj, holders, present, reading)


def _shared(
    energy_uj: int, base_uj: int, holders: Sequence[Holder], present: Sequence[Hold], reading: GpuReading
) -> list[Part]:
    """What the GPU draws without work equally, the rest by SM time; without that, all of it equally."""
    busy = reading.process_sm or {}
    sm = [
        sum(busy.get(pid, 0.0) for hold in present if hold.holder == holder for pid in hold.processes)
        for holder in holders
    ]
    method: Attribution = "sm_time" if sum(sm) > 0 else "equal"
    equal = [1] * len(holders)
    base = apportion(base_uj, equal)
    work = apportion(energy_uj - base_uj, sm if method == "sm_time" else equal)
    return [
        _held(idle + active, holder, method) for holder, idle, active in zip(holders, base, work, strict=True)
    ]


def _by_slices(
    energy_uj: int, base_uj: int, slices: int, present: Sequence[Hold], reading: GpuReading
) -> list[Part]:
    """What it draws without work by slices, the rest by slices with a process; unused slices are idle."""
    held = _holders_by_instance(present)
    busy = {hold.mig_uuid for hold in present if hold.processes}
    holders: list[Sequence[Holder]] = []
    base_weights: list[int] = []
    work_weights: list[int] = []
    for instance in reading.mig_instances:
        has_process = bool(instance.processes) or instance.uuid in busy
        holders.append(held.get(instance.uuid) or ([STRANGER] if has_process else []))
        base_weights.append(instance.slices)
        work_weights.append(instance.slices if has_process else 0)
    holders.append([])
    base_weights.append(slices - sum(base_weights))
    work_weights.append(0)
    base = apportion(base_uj, base_weights)
    work = apportion(energy_uj - base_uj, work_weights if any(work_weights) else base_weights)
    return [
        part
        for of_instance, idle, active in zip(holders, base, work, strict=True)
        for part in _of_instance(idle + active, of_instance)
    ]


def _holders_by_instance(present: Sequence[Hold]) -> dict[str, list[Holder]]:
    """Who holds each MIG instance, each of them once."""
    holders: dict[str, dict[Holder, None]] = {}
    for hold in present:
        holders.setdefault(hold.mig_uuid, {})[hold.holder] = None
    return {mig_uuid: list(found) for mig_uuid, found in holders.items()}


def _of_instance(energy_uj: int, holders: Sequence[Holder]) -> list[Part]:
    """An instance's part of the GPU's energy; the driver does not tell who of several did how much there."""
    if not holders:
        return [Part(energy_uj, "idle")]
    if len(holders) == 1:
        return [_held(energy_uj, holders[0], "mig_slices")]
    parts = apportion(energy_uj, [1] * len(holders))
    return [_held(part_uj, holder, "equal") for holder, part_uj in zip(holders, parts, strict=True)]


def _held(energy_uj: int, holder: Holder, attribution: Attribution) -> Part:
    if holder == STRANGER:
        return Part(energy_uj, "unattributed", "foreign_process")
    if holder == LAPSED:
        return Part(energy_uj, "unattributed", "gap")
    return Part(energy_uj, "run" if holder.run_id else "pod", None, holder, attribution)


def _cuts(holds: Sequence[Hold], start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    """The interval, cut where somebody came or went in it."""
    moments = {start_ns, end_ns}
    for hold in holds:
        moments |= {
            moment
            for moment in (hold.since_ns, hold.until_ns)
            if moment is not None and start_ns < moment < end_ns
        }
    return list(pairwise(sorted(moments)))


def _covers(hold: Hold, start_ns: int, end_ns: int) -> bool:
    return hold.since_ns <= start_ns and (hold.until_ns is None or hold.until_ns >= end_ns)
