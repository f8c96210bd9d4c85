"""What the ledger remembers of one device between two looks, and what it charges at each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.ledger import deltas
from wattspan.ledger.attribution import Part, hold_times, occupied, sole_holder, split, works
from wattspan.ledger.deltas import Delta, Verdict
from wattspan.model import (
    METHODS,
    SHARES,
    UNATTRIBUTED_REASONS,
    Charge,
    Gpu,
    GpuReading,
    HostReading,
    Method,
    Tally,
    UnattributedReason,
)
from wattspan.runs import Holder, Holdings, HoldTime
from wattspan.units import NS_PER_S, energy_of

TRAPEZOID_INTERVALS: Final = 3
"""Power is integrated, and utilization believed, across at most this many sampling intervals.

Beyond, nobody knows what the device did.
"""

GAP_NS: Final = 60 * NS_PER_S
"""After a longer silence the holders may have changed unseen, so the energy is nobody's (reason gap)."""

BUSY_NS: Final = NS_PER_S
"""Utilization is of the time before the look, a second at most (nvml.h, nvmlUtilization_t).

So the first looks after somebody has left may still tell of him.
"""

CHECK_WINDOW_NS: Final = 60 * NS_PER_S
"""The counter is held against integrated power over windows of this length.

The 1 s average lags by about half a second, which is within 1 % of a minute even across a step of full power.
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """A hardware counter as it was last read; survives a restart.

    Attributes:
        energy_uj: the counter.
        read_at_ns: CLOCK_MONOTONIC of the boot it was read in.
        limit_uw: the limit in force, for the plausibility bound.
        idle_floor_uw: the lowest mean power seen while nobody was on the GPU; None before that was seen.
        holder: who held the whole GPU alone when it was read; None for nobody or several.
    """

    energy_uj: int
    read_at_ns: int
    limit_uw: int | None
    idle_floor_uw: int | None = None
    holder: Holder | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """What an earlier daemon left for a device.

    Attributes:
        mark: the counter as it last read it.
        same_boot: whether that was in this boot; else counter and CLOCK_MONOTONIC have started anew.
    """

    mark: Mark
    same_boot: bool


class GpuMeter:
    """One GPU's books.

    Args:
        interval_ns: the sampler's interval.
        past: what an earlier daemon left, if anything.
    """

    def __init__(self, interval_ns: int, past: Past | None) -> None:
        self.mark: Mark | None = None
        self.check_ratio: float | None = None
        self._past = past
        self._max_trapezoid_ns = TRAPEZOID_INTERVALS * interval_ns
        self._previous: GpuReading | None = None
        self._moved_at_ns = 0
        self._held_until_ns: int | None = None
        self._throttled_ns: Mapping[str, int] = {}
        self._idle_floor_uw = past.mark.idle_floor_uw if past else None
        self._check_uj = self._check_power_uj = self._check_ns = 0

    @property
    def settled_until_ns(self) -> int | None:
        """Up to when it is settled whose energy it was; None before the first look."""
        if self.mark is not None:
            return self.mark.read_at_ns
        previous = self._previous
        return None if previous is None or previous.gpu.has_energy_counter else previous.read_at_ns

    def read(
        self, reading: GpuReading, holdings: Holdings
    ) -> tuple[list[Charge], list[Tally], list[HoldTime]]:
        """Take one look into the books. Looks that come out of order are passed over."""
        previous = self._previous
        if previous is not None and reading.read_at_ns <= previous.read_at_ns:
            return [], [], []
        tallies = self._throttle(reading)
        if reading.gpu.has_energy_counter:
            charges = self._by_counter(reading, holdings, tallies)
        else:
            self.mark = self._past = None
            charges = self._by_power(reading, holdings)
        times = self._times(reading, holdings, charges)
        self._previous = reading
        for hold in holdings.by_gpu.get(reading.gpu.uuid, ()):
            until_ns = reading.read_at_ns if hold.until_ns is None else hold.until_ns
            self._held_until_ns = max(until_ns, self._held_until_ns or until_ns)
        return charges, tallies, times

    def _times(self, reading: GpuReading, holdings: Holdings, charges: list[Charge]) -> list[HoldTime]:
        """GPU time since the look before; what was done in it is told by looks that are near only.

        Where energy of a longer time comes in at once, one idle look must not make all of it idle either.
        """
        if self._previous is None:
            return []
        start_ns = self._previous.read_at_ns
        since_ns = min([start_ns, *(charge.start_ns for charge in charges)])
        watched = reading.read_at_ns - since_ns <= self._max_trapezoid_ns
        return hold_times(start_ns, reading, holdings, watched=watched)

    def _by_counter(self, reading: GpuReading, holdings: Holdings, tallies: list[Tally]) -> list[Charge]:
        if reading.energy_uj is None:
            return []  # the counter holds; the next difference covers this interval too
        if self._past is not None and not holdings.settled:
            return []  # who held it before and after is not known yet; the mark on disk waits
        past, self._past = self._past, None
        if past is not None:
            charges = self._after_downtime(past, reading, holdings, tallies)
        elif self.mark is None:
            self._moved_at_ns = reading.read_at_ns
            charges = []
        else:
            charges = self._since_mark(self.mark, reading, holdings, tallies)
        before = self.mark
        self.mark = Mark(
            reading.energy_uj,
            reading.read_at_ns,
            reading.power_limit_uw,
            self._idle_floor_uw,
            sole_holder(reading, holdings),
        )
        if before is None or before.energy_uj != reading.energy_uj:
            self._moved_at_ns = reading.read_at_ns
        return charges

    def _since_mark(
        self, mark: Mark, reading: GpuReading, holdings: Holdings, tallies: list[Tally]
    ) -> list[Charge]:
        assert reading.energy_uj is not None  # noqa: S101  # for the type checker; the caller has looked
        # Since the counter last moved, not since it was last read: one that froze may catch up at once.
        bound_uj = deltas.plausible_uj(
            _highest(mark.limit_uw, reading.power_limit_uw, deltas.UNKNOWN_GPU_LIMIT_UW),
            reading.read_at_ns - self._moved_at_ns,
        )
        delta = deltas.counter_delta(mark.energy_uj, reading.energy_uj, bound_uj)
        self._check(mark, delta, reading)
        start_ns, end_ns = mark.read_at_ns, reading.read_at_ns
        if delta.verdict is Verdict.IMPLAUSIBLE:
            tallies.append(Tally("gpu_implausible_intervals", (reading.gpu.uuid,), 1))
            return self._instead(reading)
        if end_ns - start_ns > GAP_NS:
            parts = self._unwatched(delta.energy_uj, "gap", mark.holder, reading, holdings)
        else:
            parts = self._split(delta.energy_uj, start_ns, reading, holdings)
        return _charges(reading.gpu, "counter", parts, start_ns, end_ns)

    def _after_downtime(
        self, past: Past, reading: GpuReading, holdings: Holdings, tallies: list[Tally]
    ) -> list[Charge]:
        """What was used while no daemon looked: since the mark, or since this boot's driver counts."""
        assert reading.energy_uj is not None  # noqa: S101  # for the type checker; the caller has looked
        start_ns = past.mark.read_at_ns if past.same_boot else 0
        limit_uw = _highest(past.mark.limit_uw, reading.power_limit_uw, deltas.UNKNOWN_GPU_LIMIT_UW)
        bound_uj = deltas.plausible_uj(limit_uw, reading.read_at_ns - start_ns)
        previous_uj = past.mark.energy_uj if past.same_boot else 0
        delta = deltas.counter_delta(previous_uj, reading.energy_uj, bound_uj)
        if delta.verdict is Verdict.IMPLAUSIBLE:
            tallies.append(Tally("gpu_implausible_intervals", (reading.gpu.uuid,), 1))
            return []
        holder = past.mark.holder if past.same_boot else None
        parts = self._unwatched(delta.energy_uj, "exporter_down", holder, reading, holdings)
        return _charges(reading.gpu, "counter", parts, start_ns, reading.read_at_ns)

    def _unwatched(
        self,
        energy_uj: int,
        reason: UnattributedReason,
        before: Holder | None,
        reading: GpuReading,
        holdings: Holdings,
    ) -> tuple[Part, ...]:
        """Of who held the GPU alone before and after a time in which nobody looked; else nobody's."""
        if before is None or sole_holder(reading, holdings) != before:
            return _nobodys(energy_uj, reason)
        return (Part(energy_uj, "run" if before.run_id else "pod", None, before, "exclusive"),)

    def _split(
        self, energy_uj: int, start_ns: int, reading: GpuReading, holdings: Holdings
    ) -> tuple[Part, ...]:
        interval_ns = reading.read_at_ns - start_ns
        empty = self._was_empty(reading, holdings)
        if empty and not any(works(look) for look in self._ends(reading)):
            mean_uw = deltas.mean_power_uw(energy_uj, interval_ns)
            self._idle_floor_uw = min(mean_uw, self._idle_floor_uw or mean_uw)
        base_uj = energy_of(self._idle_floor_uw or 0, interval_ns)
        return split(energy_uj, base_uj, start_ns, reading, holdings, empty)

    def _was_empty(self, reading: GpuReading, holdings: Holdings) -> bool:
        """Nobody held the GPU, and at neither end was a process on it or did it work.

        Who is listed and known to nobody holds it as a stranger, where somebody watches.
        """
        if holdings.by_gpu.get(reading.gpu.uuid):
            return False
        if holdings.watched:
            return not any(works(look) for look in self._ends(reading) if not self._tells_of_holder(look))
        return not any(occupied(look) for look in self._ends(reading))

    def _ends(self, reading: GpuReading) -> list[GpuReading]:
        """The looks at both ends of the interval that ends with this one."""
        return [look for look in (self._previous, reading) if look is not None]

    def _tells_of_holder(self, look: GpuReading) -> bool:
        """Whether what the GPU did before this look may have been the work of who has left since."""
        return self._held_until_ns is not None and look.read_at_ns - self._held_until_ns <= BUSY_NS

    def _by_power(self, reading: GpuReading, holdings: Holdings) -> list[Charge]:
        previous = self._previous
        if previous is None:
            return []
        energy_uj = self._integrated_uj(previous, previous.power_uw, reading, reading.power_uw)
        if energy_uj is None:
            return []
        parts = self._split(energy_uj, previous.read_at_ns, reading, holdings)
        return _charges(reading.gpu, "integrated", parts, previous.read_at_ns, reading.read_at_ns)

    def _instead(self, reading: GpuReading) -> list[Charge]:
        """What stands in for an interval whose counter is not believed: its power, with nobody to answer."""
        previous = self._previous
        if previous is None:
            return []
        first_uw, last_uw = _independent_power_uw(previous), _independent_power_uw(reading)
        energy_uj = self._integrated_uj(previous, first_uw, reading, last_uw)
        if energy_uj is None:
            return []
        parts = _nobodys(energy_uj, "implausible")
        return _charges(reading.gpu, "integrated", parts, previous.read_at_ns, reading.read_at_ns)

    def _integrated_uj(
        self, previous: GpuReading, first_uw: int | None, reading: GpuReading, last_uw: int | None
    ) -> int | None:
        """Energy by power between two looks; None where power or nearness in time is missing."""
        interval_ns = reading.read_at_ns - previous.read_at_ns
        if first_uw is None or last_uw is None or interval_ns > self._max_trapezoid_ns:
            return None
        limit_uw = _highest(previous.power_limit_uw, reading.power_limit_uw, deltas.UNKNOWN_GPU_LIMIT_UW)
        energy_uj = deltas.trapezoid_uj(first_uw, last_uw, interval_ns)
        return energy_uj if energy_uj <= deltas.plausible_uj(limit_uw, interval_ns) else None

    def _check(self, mark: Mark, delta: Delta, reading: GpuReading) -> None:
        """Hold the counter against integrated power; anything odd starts the window anew."""
        previous = self._previous
        first_uw = _independent_power_uw(previous)
        last_uw = _independent_power_uw(reading)
        regular = (
            previous is not None
            and previous.read_at_ns == mark.read_at_ns
            and delta.verdict is Verdict.COUNTED
            and reading.read_at_ns - mark.read_at_ns <= self._max_trapezoid_ns
        )
        if not regular or first_uw is None or last_uw is None:
            self._check_uj = self._check_power_uj = self._check_ns = 0
            return
        interval_ns = reading.read_at_ns - mark.read_at_ns
        self._check_uj += delta.energy_uj
        self._check_power_uj += deltas.trapezoid_uj(first_uw, last_uw, interval_ns)
        self._check_ns += interval_ns
        if self._check_ns >= CHECK_WINDOW_NS:
            self.check_ratio = self._check_uj / self._check_power_uj if self._check_power_uj else None
            self._check_uj = self._check_power_uj = self._check_ns = 0

    def _throttle(self, reading: GpuReading) -> list[Tally]:
        """Differences of the driver's throttle clocks: first sight is a baseline, a lower value a reset."""
        if not reading.throttled_ns:
            return []
        before, self._throttled_ns = self._throttled_ns, reading.throttled_ns
        elapsed_ns = reading.read_at_ns - self._previous.read_at_ns if self._previous else 0
        tallies = []
        for reason, now_ns in reading.throttled_ns.items():
            since_ns = before.get(reason, now_ns)
            gained_ns = now_ns - since_ns if now_ns >= since_ns else now_ns
            if gained_ns > 2 * elapsed_ns + GAP_NS:
                continue  # more time than there was
            if gained_ns or reason not in before:
                tallies.append(Tally("gpu_throttled", (reading.gpu.uuid, reason), gained_ns))
        return tallies


class HostMeter:
    """One host component's books: an energy counter that wraps, or a power sensor."""

    def __init__(self, interval_ns: int, past: Past | None) -> None:
        self.mark: Mark | None = None
        self.power_uw: int | None = None
        # A counter that wraps says nothing about another boot.
        self._past = past if past is not None and past.same_boot else None
        self._max_trapezoid_ns = TRAPEZOID_INTERVALS * interval_ns
        self._previous: HostReading | None = None

    def read(self, reading: HostReading, in_node: bool) -> tuple[list[Charge], bool]:
        """Take one look into the books.

        Returns:
            The charges, and whether the interval was believable.
        """
        previous, self._previous = self._previous, reading
        if previous is not None and reading.read_at_ns <= previous.read_at_ns:
            self._previous = previous
            return [], True
        if reading.energy_uj is None:
            return self._by_power(previous, reading, in_node), True
        return self._by_counter(reading, in_node)

    def _by_counter(self, reading: HostReading, in_node: bool) -> tuple[list[Charge], bool]:
        assert reading.energy_uj is not None  # noqa: S101  # for the type checker; the caller has looked
        past, self._past = self._past, None
        mark = self.mark or (past.mark if past else None)
        self.mark = Mark(reading.energy_uj, reading.read_at_ns, reading.power_limit_uw)
        if mark is None:
            return [], True
        self.power_uw = None
        interval_ns = reading.read_at_ns - mark.read_at_ns
        limit_uw = _highest(mark.limit_uw, reading.power_limit_uw, deltas.UNKNOWN_HOST_LIMIT_UW)
        bound_uj = deltas.plausible_uj(limit_uw, interval_ns)
        if reading.wraps_at_uj is None:
            delta = deltas.counter_delta(mark.energy_uj, reading.energy_uj, bound_uj)
        elif bound_uj < reading.wraps_at_uj:
            delta = deltas.wrapping_delta(mark.energy_uj, reading.energy_uj, reading.wraps_at_uj, bound_uj)
        else:
            return [], True  # so long a silence that the counter may have wrapped twice: nothing is known
        if delta.verdict is Verdict.IMPLAUSIBLE:
            return [], False
        self.power_uw = deltas.mean_power_uw(delta.energy_uj, interval_ns)
        return self._charge(reading, delta.energy_uj, mark.read_at_ns, "counter", in_node), True

    def _by_power(self, previous: HostReading | None, reading: HostReading, in_node: bool) -> list[Charge]:
        self.power_uw = reading.power_uw
        if previous is None or previous.power_uw is None or reading.power_uw is None:
            return []
        interval_ns = reading.read_at_ns - previous.read_at_ns
        if interval_ns > self._max_trapezoid_ns:
            return []
        energy_uj = deltas.trapezoid_uj(previous.power_uw, reading.power_uw, interval_ns)
        return self._charge(reading, energy_uj, previous.read_at_ns, "integrated", in_node)

    def _charge(
        self, reading: HostReading, energy_uj: int, start_ns: int, method: Method, in_node: bool
    ) -> list[Charge]:
        if not energy_uj:
            return []
        charge = Charge(
            component=reading.component,
            device=reading.device,
            energy_uj=energy_uj,
            start_ns=start_ns,
            end_ns=reading.read_at_ns,
            method=method,
            estimated=reading.estimated,
            in_node=in_node and not reading.estimated,
        )
        return [charge]


def gpu_series(gpu: Gpu) -> list[Tally]:
    """The counters that a GPU has from its first sight, at 0, so that none is born with a value."""
    uuid = gpu.uuid
    return [
        *(Tally("gpu_energy", (uuid, method), 0) for method in METHODS),
        *(Tally("gpu_attributed_energy", (uuid, share), 0) for share in SHARES),
        *(Tally("gpu_unattributed_energy", (uuid, reason), 0) for reason in UNATTRIBUTED_REASONS),
        Tally("gpu_implausible_intervals", (uuid,), 0),
    ]


def host_series(reading: HostReading) -> list[Tally]:
    """The counters that a host component has from its first sight, at 0."""
    quantity = "host_estimated_energy" if reading.estimated else "host_energy"
    return [Tally(quantity, (reading.component, reading.device), 0)]


def _charges(gpu: Gpu, method: Method, parts: Iterable[Part], start_ns: int, end_ns: int) -> list[Charge]:
    return [
        Charge(
            "gpu",
            gpu.uuid,
            part.energy_uj,
            start_ns,
            end_ns,
            method,
            part.share,
            part.reason,
            part.holder,
            part.attribution,
        )
        for part in parts
        if part.energy_uj
    ]


def _nobodys(energy_uj: int, reason: UnattributedReason) -> tuple[Part, ...]:
    return (Part(energy_uj, "unattributed", reason),)


def _highest(first_uw: int | None, second_uw: int | None, unknown_uw: int) -> int:
    """The higher of the limits at both ends of an interval: it may have been lowered in between."""
    return max(first_uw or 0, second_uw or 0) or unknown_uw


def _independent_power_uw(reading: GpuReading | None) -> int | None:
    """Power that was not itself made from the counter."""
    if reading is None:
        return None
    return reading.power_instant_uw if reading.gpu.power_source == "energy_delta" else reading.power_uw
