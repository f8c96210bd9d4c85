"""The hours ahead, against counting every minute by hand."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon.forecast import (
    DURATIONS_NS,
    HORIZONS_NS,
    HOUR_NS,
    greenest_window,
    mean_over,
    outlook_of,
    possible_starts,
)
from wattspan.model import Intensity

NOW = 1_790_000_000_000_000_000
MINUTE_NS = HOUR_NS // 60
STEP_MINUTES = 15


def figure(g_per_kwh: float, from_minute: int, until_minute: int) -> Intensity:
    """What the grid emits between two minutes from now."""
    begin, end = NOW + from_minute * MINUTE_NS, NOW + until_minute * MINUTE_NS
    return Intensity(g_per_kwh, begin, end, "FR", "file", "average", "direct", estimated=True)


def hours(*g_per_kwh: float, from_hour: int = 0) -> tuple[Intensity, ...]:
    """One figure for each hour."""
    return tuple(figure(g, 60 * hour, 60 * (hour + 1)) for hour, g in enumerate(g_per_kwh, start=from_hour))


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[Intensity, ...]:
    """Figures of unequal lengths with gaps between some of them, from before now on."""
    minute = draw(st.integers(-8, 2)) * STEP_MINUTES
    figures = []
    for _ in range(draw(st.integers(1, 12))):
        minute += draw(st.sampled_from([0, 0, 0, 1, 3])) * STEP_MINUTES
        length = draw(st.integers(1, 6)) * STEP_MINUTES
        figures.append(figure(draw(st.integers(0, 9)) * 50, minute, minute + length))
        minute += length
    return tuple(figures)


def by_hand(figures: Sequence[Intensity], duration: int, earliest: int, latest_end: int) -> dict[int, float]:
    """The mean of every window that begins at a quarter of an hour, by adding up its quarters."""
    quarters: dict[int, float] = {}
    for each in figures:
        begin, end = each.valid_from_wall_ns or 0, each.valid_until_wall_ns or 0
        for at in range(begin, end, STEP_MINUTES * MINUTE_NS):
            quarters[(at - NOW) // MINUTE_NS] = each.g_per_kwh
    means = {}
    for start in range(earliest, latest_end - duration + 1, STEP_MINUTES):
        parts = [quarters.get(minute) for minute in range(start, start + duration, STEP_MINUTES)]
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            means[start] = sum(known) / len(known)
    return means


QUESTIONS = (
    forecasts(),
    st.integers(1, 20).map(lambda n: n * STEP_MINUTES),
    st.integers(-4, 8).map(lambda n: n * STEP_MINUTES),
    st.integers(0, 60).map(lambda n: n * STEP_MINUTES),
)


@given(*QUESTIONS)
def test_the_greenest_window_is_the_one_that_a_search_of_all_finds(
    figures: tuple[Intensity, ...], duration: int, earliest: int, latest_end: int
) -> None:
    """Its mean is the lowest of all windows that no gap interrupts, and it is the earliest of those."""
    found = greenest_window(
        figures, duration * MINUTE_NS, NOW + earliest * MINUTE_NS, NOW + latest_end * MINUTE_NS
    )
    means = by_hand(figures, duration, earliest, latest_end)
    if found is None:
        assert means == {}
        return
    lowest = min(means.values())
    assert found.g_per_kwh == pytest.approx(lowest, abs=1e-5)
    first = min(start for start, mean in means.items() if mean < lowest + 1e-4)
    assert found.start_wall_ns == NOW + first * MINUTE_NS
    assert found.duration_ns == duration * MINUTE_NS


@given(*QUESTIONS, st.integers(0, 10**6))
def test_no_moment_between_quarters_is_greener(
    figures: tuple[Intensity, ...], duration: int, earliest: int, latest_end: int, where: int
) -> None:
    """A start at any odd moment between two turns has a mean between theirs, so none is missed."""
    stretches = possible_starts(
        figures, duration * MINUTE_NS, NOW + earliest * MINUTE_NS, NOW + latest_end * MINUTE_NS
    )
    for this, following in (pair for stretch in stretches for pair in pairwise(stretch)):
        start = this.start_wall_ns + (following.start_wall_ns - this.start_wall_ns) * where // 10**6
        end = start + duration * MINUTE_NS
        mean = sum(
            f.g_per_kwh * max(0, min(end, f.valid_until_wall_ns or 0) - max(start, f.valid_from_wall_ns or 0))
            for f in figures
        ) / (end - start)
        low, high = sorted((this.g_per_kwh, following.g_per_kwh))
        assert low - 1e-5 <= mean <= high + 1e-5


@given(*QUESTIONS)
def test_the_mean_over_all_starts_is_exact(
    figures: tuple[Intensity, ...], duration: int, earliest: int, latest_end: int
) -> None:
    """Starts count by time, not by how many figures there are."""
    mean = mean_over(figures, duration * MINUTE_NS, NOW + earliest * MINUTE_NS, NOW + latest_end * MINUTE_NS)
    means = by_hand(figures, duration, earliest, latest_end)
    if mean is None:
        assert means == {}
        return
    steps = [
        (means[start] + means[start + STEP_MINUTES]) / 2 for start in means if start + STEP_MINUTES in means
    ]
    expected = sum(steps) / len(steps) if steps else list(means.values())[-1]
    assert mean == pytest.approx(expected, abs=1e-5)


def test_the_window_may_begin_or_end_with_a_figure() -> None:
    """It is bound to a figure's beginning or to its end, and of equals the earliest counts."""
    window = greenest_window(hours(300, 100, 300), HOUR_NS // 2, NOW, NOW + 3 * HOUR_NS)
    assert window is not None
    assert (window.start_wall_ns, window.g_per_kwh) == (NOW + HOUR_NS, 100.0)
    window = greenest_window(hours(300, 200, 100, 400), 90 * MINUTE_NS, NOW, NOW + 4 * HOUR_NS)
    assert window is not None
    assert window.start_wall_ns == NOW + 90 * MINUTE_NS  # it ends with the 100
    assert window.g_per_kwh == pytest.approx((0.5 * 200 + 1 * 100) / 1.5)


def test_a_gap_is_not_green() -> None:
    """Hours that nobody knows belong to no window, however green the hours around them are."""
    figures = (*hours(300, 50), *hours(50, 300, from_hour=3))
    window = greenest_window(figures, 2 * HOUR_NS, NOW, NOW + 5 * HOUR_NS)
    assert window is not None
    assert window.g_per_kwh == pytest.approx(175)
    assert greenest_window(figures, 3 * HOUR_NS, NOW, NOW + 5 * HOUR_NS) is None


def test_alike_hours_are_used_at_once() -> None:
    """Nobody waits for what is no better, not even by the last digit of a sum."""
    for g_per_kwh in (0.3, 77.7, 123.4, 411.1):
        window = greenest_window(hours(*[g_per_kwh] * 48), 7 * HOUR_NS, NOW + 1, NOW + 48 * HOUR_NS)
        assert window is not None
        assert window.start_wall_ns == NOW + 1


def test_horizons() -> None:
    """Each has the figure that holds then; one in a gap or beyond the last figure is missing."""
    figures = (*hours(10, 20, 30), *hours(*range(40, 49), from_hour=4))  # none for hour 3, and 13 on
    outlook = outlook_of(figures, NOW)
    assert outlook is not None
    assert outlook.horizons == {
        HOUR_NS: 20,
        2 * HOUR_NS: 30,
        4 * HOUR_NS: 40,
        8 * HOUR_NS: 44,
        12 * HOUR_NS: 48,
    }
    assert set(outlook.horizons) < set(HORIZONS_NS)


def test_greenest_windows_of_usual_lengths() -> None:
    """Those that the figures cover, from now on and not from the beginning of the figure in force."""
    figures = hours(10, 90, 80, 20, 70)
    outlook = outlook_of(figures, NOW + 30 * MINUTE_NS)
    assert outlook is not None
    assert [(w.duration_ns // HOUR_NS, (w.start_wall_ns - NOW) // MINUTE_NS) for w in outlook.greenest] == [
        (1, 180),
        (2, 180),
        (4, 30),
    ]
    assert [w.g_per_kwh for w in outlook.greenest] == pytest.approx([20, 45, (5 + 90 + 80 + 20 + 35) / 4])
    assert [w.duration_ns for w in outlook.greenest] == list(DURATIONS_NS[:3])


def test_what_is_over_or_holds_for_all_time_is_no_outlook() -> None:
    """A yearly mean says nothing of the hours ahead."""
    forever = Intensity(55, None, None, "FR", "static", "average", "lifecycle", estimated=True)
    assert outlook_of((forever,), NOW) is None
    assert outlook_of(hours(10, 20), NOW + 2 * HOUR_NS) is None
    assert outlook_of((), NOW) is None
