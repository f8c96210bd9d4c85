"""The hours ahead: intensity at horizons, and when the grid is greenest. Pure."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from wattspan.carbon import timeline
from wattspan.model import GreenWindow, Intensity, Outlook
from wattspan.units import NS_PER_S

HOUR_NS: Final = 3600 * NS_PER_S

HORIZONS_NS: Final = tuple(hours * HOUR_NS for hours in (1, 2, 4, 8, 12, 24, 48))
"""How far ahead intensity is published; forecasts reach 72 h at most."""

DURATIONS_NS: Final = tuple(hours * HOUR_NS for hours in (1, 2, 4, 8, 24))
"""Lengths that the greenest window is published for."""

_SAME_G_PER_KWH: Final = 1e-6
"""Means as close as this are the same: sums of floats differ in their last digits by where they begin."""


class Start(NamedTuple):
    """Something that may begin at a moment.

    Attributes:
        start_wall_ns: when.
        g_per_kwh: the mean intensity while it lasts.
    """

    start_wall_ns: int
    g_per_kwh: float


def outlook_of(figures: Sequence[Intensity], now_wall_ns: int) -> Outlook | None:
    """What figures say of the time from a moment on; None where none of them does.

    A horizon in a gap or beyond the last figure is missing, and so is a window that nothing covers.

    Args:
        figures: past to future, without overlaps; those that hold for all time are no forecast.
        now_wall_ns: the moment.
    """
    ahead = tuple(
        f for f in figures if f.valid_until_wall_ns is not None and f.valid_until_wall_ns > now_wall_ns
    )
    if not ahead:
        return None
    at_horizons = {ahead_ns: timeline.at(ahead, now_wall_ns + ahead_ns) for ahead_ns in HORIZONS_NS}
    end_ns = timeline.until_ns(ahead[-1])
    windows = [greenest_window(ahead, length_ns, now_wall_ns, end_ns) for length_ns in DURATIONS_NS]
    return Outlook(
        made_wall_ns=now_wall_ns,
        figures=ahead,
        horizons={ahead_ns: figure.g_per_kwh for ahead_ns, figure in at_horizons.items() if figure},
        greenest=tuple(window for window in windows if window),
    )


def greenest_window(
    figures: Sequence[Intensity], duration_ns: int, earliest_ns: int, latest_end_ns: int
) -> GreenWindow | None:
    """The stretch with the lowest mean intensity over its time; of several such the earliest.

    None where figures cover no stretch of that length without a gap.

    Args:
        figures: past to future, without overlaps.
        duration_ns: its length.
        earliest_ns: it begins no earlier.
        latest_end_ns: it ends no later.
    """
    best: Start | None = None
    for stretch in possible_starts(figures, duration_ns, earliest_ns, latest_end_ns):
        for start in stretch:
            if best is None or start.g_per_kwh < best.g_per_kwh - _SAME_G_PER_KWH:
                best = start
    return best and GreenWindow(duration_ns, best.start_wall_ns, best.g_per_kwh)


def possible_starts(
    figures: Sequence[Intensity], duration_ns: int, earliest_ns: int, latest_end_ns: int
) -> Iterator[Sequence[Start]]:
    """The starts at which the mean over a window turns, for each stretch of time without a gap.

    The mean changes evenly with the start while neither end of the window passes from one figure to the next.
    So the greenest, the worst and any mean over starts follow from those at which one of them does.

    Args:
        figures, duration_ns, earliest_ns, latest_end_ns: as with `greenest_window`.
    """
    for block in _without_gaps(figures, earliest_ns, latest_end_ns):
        begin_ns, end_ns = block.ends_ns[0], block.ends_ns[-1]
        if end_ns - begin_ns >= duration_ns > 0:
            turns = {*block.ends_ns, *(end - duration_ns for end in block.ends_ns)}
            yield [
                Start(turn, (block.sum_until(turn + duration_ns) - block.sum_until(turn)) / duration_ns)
                for turn in sorted(turns)
                if begin_ns <= turn <= end_ns - duration_ns
            ]


def mean_over(
    figures: Sequence[Intensity], duration_ns: int, earliest_ns: int, latest_end_ns: int
) -> float | None:
    """The mean intensity of a window that begins at any possible moment, each as likely as the others.

    None where there is none. Arguments as with `greenest_window`.
    """
    total, length_ns, last = 0.0, 0, None
    for stretch in possible_starts(figures, duration_ns, earliest_ns, latest_end_ns):
        last = stretch[-1].g_per_kwh
        for this, following in pairwise(stretch):
            step_ns = following.start_wall_ns - this.start_wall_ns
            total += (this.g_per_kwh + following.g_per_kwh) / 2 * step_ns
            length_ns += step_ns
    return total / length_ns if length_ns else last


class _Block(NamedTuple):
    """Figures that follow one another without a gap.

    Attributes:
        ends_ns: where each begins, and last where the last one ends.
        g_per_kwh: of each.
        sums: intensity times nanoseconds from the beginning to each of `ends_ns`.
    """

    ends_ns: list[int]
    g_per_kwh: list[float]
    sums: list[float]

    def sum_until(self, wall_ns: int) -> float:
        """Intensity times nanoseconds from the beginning to a moment within."""
        index = min(bisect_right(self.ends_ns, wall_ns), len(self.g_per_kwh)) - 1
        return self.sums[index] + self.g_per_kwh[index] * (wall_ns - self.ends_ns[index])


def _without_gaps(figures: Sequence[Intensity], begin_ns: int, end_ns: int) -> Iterator[_Block]:
    """What figures say of the time between two moments, in blocks without gaps."""
    block: _Block | None = None
    for figure in figures:
        from_ns, until_ns = (
            max(timeline.from_ns(figure), begin_ns),
            min(timeline.until_ns(figure), end_ns),
        )
        if from_ns >= until_ns:
            continue
        if block is None or block.ends_ns[-1] != from_ns:
            if block is not None:
                yield block
            block = _Block([from_ns], [], [0.0])
        block.ends_ns.append(until_ns)
        block.g_per_kwh.append(figure.g_per_kwh)
        block.sums.append(block.sums[-1] + figure.g_per_kwh * (until_ns - from_ns))
    if block is not None:
        yield block
