"""Whose energy it was. Parts always sum to the whole, in whole microjoules."""

from dataclasses import dataclass

from wattspan.model import GpuReading, Share, UnattributedReason


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a device's energy in one interval."""

    energy_uj: int
    share: Share
    reason: UnattributedReason | None = None


def split(energy_uj: int, start: GpuReading | None, end: GpuReading) -> tuple[Part, ...]:
    """Split what a GPU used between two looks, when nothing else has already claimed it.

    Without runs and pods there are two answers: nobody was there (idle), or somebody whom we do not know
    (unattributed, foreign_process). A process seen at either end was there.

    Args:
        energy_uj: of the whole interval.
        start: the look at its beginning; None when it was before this daemon's time.
        end: the look at its end.
    """
    if (start is not None and occupied(start)) or occupied(end):
        return (Part(energy_uj, "unattributed", "foreign_process"),)
    return (Part(energy_uj, "idle"),)


def occupied(reading: GpuReading) -> bool:
    """Whether a process holds the GPU or one of its MIG instances.

    Where the driver does not list processes, only a utilization of zero says that nobody is there.
    """
    lists = [reading.processes, *(instance.processes for instance in reading.mig_instances)]
    known = [processes for processes in lists if processes is not None]
    if known:
        return any(known)
    return reading.utilization_ratio != 0
