"""The arithmetic of two readings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.ledger.deltas import (
    Delta,
    Verdict,
    counter_delta,
    mean_power_uw,
    plausible_uj,
    trapezoid_uj,
    wrapping_delta,
)
from wattspan.units import NS_PER_S, UW_PER_W

uj = st.integers(0, 2**63)


@given(previous=uj, gained=st.integers(0, 10**12))
def test_a_counter_that_moved_forward_is_charged_its_difference(previous: int, gained: int) -> None:
    """Forward within the bound is the difference, to the microjoule."""
    assert counter_delta(previous, previous + gained, gained) == Delta(gained, Verdict.COUNTED)


@given(previous=st.integers(1, 2**63), bound=uj, data=st.data())
def test_a_counter_that_went_back_is_never_charged_its_lifetime(
    previous: int, bound: int, data: st.DataObject
) -> None:
    """A lower value is a reset charged with what it shows, or nothing when that is more than can be."""
    current = data.draw(st.integers(0, previous - 1))
    delta = counter_delta(previous, current, bound)
    assert delta == (Delta(current, Verdict.RESET) if current <= bound else Delta(0, Verdict.IMPLAUSIBLE))


@given(previous=uj, excess=st.integers(1, 2**63), bound=st.integers(0, 10**12))
def test_more_than_the_hardware_can_draw_is_not_believed(previous: int, excess: int, bound: int) -> None:
    """One microjoule above the bound is implausible and charges nothing."""
    assert counter_delta(previous, previous + bound + excess, bound) == Delta(0, Verdict.IMPLAUSIBLE)


@given(wraps_at=st.integers(2, 2**40), data=st.data())
def test_one_wrap_is_undone(wraps_at: int, data: st.DataObject) -> None:
    """A counter that starts anew after its range gives the true energy, also across the wrap."""
    true_energy = data.draw(st.integers(0, wraps_at - 1))
    previous = data.draw(st.integers(0, wraps_at))
    current = (previous + true_energy) % (wraps_at + 1)
    assert wrapping_delta(previous, current, wraps_at, wraps_at - 1) == Delta(true_energy, Verdict.COUNTED)


def test_a_step_back_of_a_wrapping_counter_is_not_taken_for_a_wrap() -> None:
    """What would be almost the whole range in one second is implausible."""
    bound = plausible_uj(400 * UW_PER_W, NS_PER_S)
    assert wrapping_delta(1_000_000, 999_999, 262_143_328_850, bound).verdict is Verdict.IMPLAUSIBLE


def test_the_bound_is_one_and_a_half_times_the_limit_and_one_refresh() -> None:
    """700 W for 1 s, with 0.1 s of refresh and half as much again, is 1,155 J."""
    assert plausible_uj(700 * UW_PER_W, NS_PER_S) == 1_155_000_000


@pytest.mark.parametrize(
    ("first_w", "last_w", "seconds", "joules"), [(100, 100, 2, 200), (0, 100, 1, 50), (300, 100, 3, 600)]
)
def test_the_trapezoid_of_a_ramp_is_its_area(first_w: int, last_w: int, seconds: int, joules: int) -> None:
    """Energy under a straight line."""
    energy = trapezoid_uj(first_w * UW_PER_W, last_w * UW_PER_W, seconds * NS_PER_S)
    assert energy == joules * 1_000_000


@given(power=st.integers(0, 10**10), interval=st.integers(1, 10**12))
def test_mean_power_gives_back_the_power_of_a_constant_load(power: int, interval: int) -> None:
    """Mean power of a constant load is that load, within what rounding to a microjoule costs."""
    energy = trapezoid_uj(power, power, interval)
    assert abs(mean_power_uw(energy, interval) - power) <= NS_PER_S // interval + 1
