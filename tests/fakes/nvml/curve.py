"""A power curve and its exact integral, in whole numbers. curve.c does the same sums in C."""

from dataclasses import dataclass, replace

from wattspan.units import NS_PER_S

_HALVES_PER_MJ = 2 * NS_PER_S
"""Areas are counted in halves of a milliwatt nanosecond; 1 mJ is 1 mW for 1e9 ns."""

_AVERAGING_NS = NS_PER_S
"""Window of NVML's averaged power (field 185, and nvmlDeviceGetPowerUsage from GA10x on)."""


@dataclass(frozen=True)
class Curve:
    """Power over scenario time.

    Attributes:
        points: (nanoseconds, milliwatts), the first at 0; straight lines between them,
            of two at one time the later counts, the last is held.
        repeat_ns: the curve starts anew after that; 0 for never.
        phase_ns: where in the curve time 0 is.
    """

    points: tuple[tuple[int, int], ...]
    repeat_ns: int = 0
    phase_ns: int = 0

    def power_mw(self, at_ns: int) -> int:
        """Power at a time, rounded down."""
        at_ns = self._folded(at_ns + self.phase_ns)
        at = max(i for i, (point_ns, _) in enumerate(self.points) if i == 0 or point_ns <= at_ns)
        from_ns, from_mw = self.points[at]
        if at + 1 == len(self.points):
            return from_mw
        to_ns, to_mw = self.points[at + 1]
        return from_mw + (to_mw - from_mw) * (at_ns - from_ns) // (to_ns - from_ns)

    def average_mw(self, at_ns: int) -> int:
        """Mean of the second before, or of all that there is since time 0, rounded down."""
        from_ns = max(at_ns - _AVERAGING_NS, 0)
        if from_ns == at_ns:
            return self.power_mw(at_ns)
        return (self._area(at_ns) - self._area(from_ns)) // (2 * (at_ns - from_ns))

    def energy_mj(self, at_ns: int) -> int:
        """Energy since time 0, rounded down."""
        return (self._area(at_ns) - self._area(0)) // _HALVES_PER_MJ

    def with_power_from(self, at_ns: int, power_mw: int) -> "Curve":
        """The same past, and constant power from then on.

        Raises:
            ValueError: the curve repeats, or slopes at that time, so that its past could not stay exact.
        """
        at_ns += self.phase_ns
        before = tuple(point for point in self.points if point[0] <= at_ns)
        after = self.points[len(before) :]
        if self.repeat_ns or (after and after[0][1] != before[-1][1]):
            raise ValueError("power can be set only on a curve of steps that does not repeat")
        return replace(self, points=(*before, (at_ns, before[-1][1]), (at_ns, power_mw)))

    def _folded(self, at_ns: int) -> int:
        return at_ns % self.repeat_ns if self.repeat_ns else at_ns

    def _area(self, at_ns: int) -> int:
        at_ns += self.phase_ns
        if not self.repeat_ns:
            return self._area_once(at_ns)
        cycles, rest_ns = divmod(at_ns, self.repeat_ns)
        return cycles * self._area_once(self.repeat_ns) + self._area_once(rest_ns)

    def _area_once(self, at_ns: int) -> int:
        halves = 0
        for (from_ns, from_mw), (to_ns, to_mw) in zip(self.points, self.points[1:], strict=False):
            if at_ns <= from_ns:
                return halves
            inside, whole = at_ns - from_ns, to_ns - from_ns
            if inside < whole:
                return halves + 2 * from_mw * inside + (to_mw - from_mw) * inside * inside // whole
            halves += (from_mw + to_mw) * whole
        last_ns, last_mw = self.points[-1]
        return halves + 2 * last_mw * max(at_ns - last_ns, 0)


def steps(points: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The same points without slopes: each power holds until the next point."""
    stairs: list[tuple[int, int]] = []
    for at_ns, power_mw in points:
        if stairs:
            stairs.append((at_ns, stairs[-1][1]))
        stairs.append((at_ns, power_mw))
    return tuple(stairs)
