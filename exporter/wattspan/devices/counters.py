"""What successive readings of one hardware energy counter tell: whether it counts, and the mean power."""

from typing import Final, Literal

from wattspan.units import NS_PER_S

STILL_FOR_NS: Final = 60 * NS_PER_S
"""A counter that stands still this long counts nothing.

The slowest real ones (NVIDIA and AMD GPUs, RAPL) refresh within 0.1 s, and nothing powered draws 0 W.
"""

MIN_WINDOW_NS: Final = NS_PER_S * 9 // 10
"""Power is taken over about a second or more; shorter windows see the counter's refresh as ripple."""

State = Literal["unproven", "absent", "counting", "still"]


class Liveness:
    """Whether a counter counts at all.

    Virtual machines and broken firmware show counters that are zero or constant for ever.
    Such a counter is no reading, so a counter proves itself by moving before anyone believes it.

    Args:
        value: its first reading.
        at_ns: when that was, CLOCK_MONOTONIC.

    Attributes:
        value: its newest reading.
    """

    def __init__(self, value: int, at_ns: int) -> None:
        self.value = value
        self._changed_at_ns = at_ns
        self._proven = False

    def look(self, value: int, at_ns: int) -> State:
        """Take the next reading.

        Returns:
            ``unproven`` before the first change, ``counting`` after it; after a minute without a change
            ``absent`` for a counter that never moved and ``still`` for one that did.
        """
        if value != self.value:
            self.value, self._changed_at_ns, self._proven = value, at_ns, True
        stands = at_ns - self._changed_at_ns >= STILL_FOR_NS
        if self._proven:
            return "still" if stands else "counting"
        return "absent" if stands else "unproven"


class MeanPower:
    """Mean power between two readings of an energy counter."""

    def __init__(self) -> None:
        self._from: tuple[int, int] | None = None
        self._power_uw: int | None = None

    def look(self, energy_uj: int, at_ns: int) -> int | None:
        """Take the next reading.

        Returns:
            Microwatts over the last second or more; None before the second reading and after a decrease,
            because a wrap and a reset cannot be told apart here.
        """
        if self._from is None or energy_uj < self._from[0]:
            self._from, self._power_uw = (energy_uj, at_ns), None
            return None
        from_uj, from_ns = self._from
        if at_ns - from_ns >= MIN_WINDOW_NS:
            self._power_uw = (energy_uj - from_uj) * NS_PER_S // (at_ns - from_ns)
            self._from = (energy_uj, at_ns)
        return self._power_uw
