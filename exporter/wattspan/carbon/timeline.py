"""Figures that hold for a stretch of time each: which one holds now, and what part of an interval each has.
Pure.

Both `Intensity` and `Tariff` are such figures; None as an end means that there is none.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Protocol, TypeVar

# Stand in for "no such end". Clocks are signed 64-bit nanoseconds, so every moment lies between the two.
BEGINNING_NS: Final = -(2**63)
END_NS: Final = 2**63


class Timed(Protocol):
    """A figure with a validity, half open."""

    @property
    def valid_from_wall_ns(self) -> int | None:
        """When it begins to hold."""

    @property
    def valid_until_wall_ns(self) -> int | None:
        """When it holds no more."""


T = TypeVar("T", bound=Timed)


def from_ns(figure: Timed) -> int:
    """When it comes into force: where the chain has said so, else with its own validity."""
    forced: int | None = getattr(figure, "force_from_wall_ns", None)
    begin = figure.valid_from_wall_ns if forced is None else forced
    return BEGINNING_NS if begin is None else begin


def until_ns(figure: Timed) -> int:
    """When it goes out of force, likewise."""
    forced: int | None = getattr(figure, "force_until_wall_ns", None)
    end = figure.valid_until_wall_ns if forced is None else forced
    return END_NS if end is None else end


def require_order(figures: Sequence[Timed]) -> None:
    """See to it that figures go from past to future and never overlap.

    Raises:
        ValueError: they do not.
    """
    for figure in figures:
        if until_ns(figure) <= from_ns(figure):
            raise ValueError(f"valid at no time: {figure}")
    for earlier, later in pairwise(figures):
        if until_ns(earlier) > from_ns(later):
            raise ValueError(f"overlapping or out of order: {earlier} and {later}")


def starts(figures: Sequence[Timed]) -> tuple[int, ...]:
    """When each comes into force, for those who look things up often."""
    return tuple(from_ns(figure) for figure in figures)


def at(figures: Sequence[T], wall_ns: int, begins: Sequence[int] | None = None) -> T | None:
    """The figure in force at a moment; None in a gap.

    Args:
        figures: past to future, without overlaps.
        wall_ns: the moment.
        begins: what `starts` gives for them, where that is at hand.
    """
    index = _index(figures, wall_ns, begins)
    if index < 0 or wall_ns >= until_ns(figures[index]):
        return None
    return figures[index]


def split(
    figures: Sequence[T], amount: int, start_ns: int, end_ns: int, begins: Sequence[int] | None = None
) -> tuple[tuple[T | None, int], ...]:
    """An amount that came evenly from one moment to another, by the figure in force; None for what fell
    into gaps.

    The parts are whole and sum to the amount; parts of 0 are left out, save for the only one.
    An interval without length, or one that ends before it starts because the wall clock was set back, is that
    of its end.
    """
    if end_ns <= start_ns:
        start_ns, end_ns = end_ns, end_ns + 1
    first = max(0, _index(figures, start_ns, begins))
    # The usual case, and the only one with a yearly figure: one figure covers all of it.
    if figures and from_ns(figures[first]) <= start_ns and end_ns <= until_ns(figures[first]):
        return ((figures[first], amount),)

    elapsed_ns = end_ns - start_ns
    parts: list[tuple[T | None, int]] = []
    left = amount
    for figure in figures[first:]:
        begins_ns, ends_ns = max(start_ns, from_ns(figure)), min(end_ns, until_ns(figure))
        if begins_ns >= end_ns:
            break
        if ends_ns <= begins_ns:  # it was over before the interval began
            continue
        # What came until each end, rounded down, then the difference: neighbours lose nothing between them.
        until_begin = amount * (begins_ns - start_ns) // elapsed_ns
        until_end = amount * (ends_ns - start_ns) // elapsed_ns
        if until_end > until_begin:
            parts.append((figure, until_end - until_begin))
        left -= until_end - until_begin
    if left or not parts:
        parts.append((None, left))
    return tuple(parts)


def _index(figures: Sequence[Timed], wall_ns: int, begins: Sequence[int] | None) -> int:
    """Of the last figure that has begun; -1 before the first."""
    if begins is not None:
        return bisect_right(begins, wall_ns) - 1
    return bisect_right(figures, wall_ns, key=from_ns) - 1
