"""Energy to grams: exact in time, exact in microjoules, never a mean times a total."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon.pricing import Pricing
from wattspan.model import Intensity
from wattspan.units import NS_PER_S, UJ_PER_J, UJ_PER_KWH, UW_PER_W

HOUR_NS = 3600 * NS_PER_S
HALF_HOUR_NS = HOUR_NS // 2
MIDNIGHT_NS = 1_774_742_400 * NS_PER_S  # 2026-03-29T00:00:00Z: clocks in Europe jump an hour that night


def intensity(g_per_kwh: float, since_ns: int | None = None, until_ns: int | None = None) -> Intensity:
    """An intensity of the test's zone."""
    return Intensity(
        g_per_kwh=g_per_kwh,
        valid_from_wall_ns=since_ns,
        valid_until_wall_ns=until_ns,
        grid_zone="FR",
        provider="test",
        signal="average",
        basis="lifecycle",
        estimated=False,
    )


def half_hours(*g_per_kwh: float) -> tuple[Intensity, ...]:
    """One intensity per half hour from midnight."""
    starts = range(MIDNIGHT_NS, MIDNIGHT_NS + len(g_per_kwh) * HALF_HOUR_NS, HALF_HOUR_NS)
    return tuple(
        intensity(value, start, start + HALF_HOUR_NS) for value, start in zip(g_per_kwh, starts, strict=True)
    )


@st.composite
def timelines(draw: st.DrawFn) -> tuple[Intensity, ...]:
    """Intensities past to future, some adjacent and some with gaps between, with or without outer ends."""
    cuts = draw(st.lists(st.integers(-1000, 1000), unique=True, max_size=12).map(sorted))
    ends: list[int | None] = [*cuts]
    if draw(st.booleans()):
        ends.insert(0, None)
    if draw(st.booleans()):
        ends.append(None)
    values = st.floats(0, 2000)
    stretches = [intensity(draw(values), *pair) for pair in pairwise(ends)]
    return tuple(stretch for stretch in stretches if draw(st.integers(0, 3)))


def exact(
    timeline: tuple[Intensity, ...], energy_uj: int, start_ns: int, end_ns: int
) -> tuple[Fraction, Fraction]:
    """Grams and unpriced microjoules, counted one nanosecond at a time without any rounding."""
    each = Fraction(energy_uj, end_ns - start_ns)
    grams, unpriced = Fraction(0), Fraction(0)
    for now in range(start_ns, end_ns):
        for stretch in timeline:
            since, until = stretch.valid_from_wall_ns, stretch.valid_until_wall_ns
            if (since is None or since <= now) and (until is None or now < until):
                grams += each / UJ_PER_KWH * Fraction(stretch.g_per_kwh)
                break
        else:
            unpriced += each
    return grams, unpriced


MOMENTS = st.integers(-1200, 1200)
ENERGIES = st.integers(0, 10**13)
PUES = st.floats(1, 5)


def test_one_kilowatt_hour_costs_the_intensity_times_pue() -> None:
    """1 kWh at 50 g/kWh and a PUE of 1.2 is 60 g, and nothing is left without a price."""
    priced = Pricing((intensity(50),), 1.2).price(UJ_PER_KWH, MIDNIGHT_NS, MIDNIGHT_NS + HOUR_NS)
    assert priced.grams == pytest.approx(60)
    assert priced.unpriced_uj == 0


def test_a_half_hour_boundary_is_integrated_exactly() -> None:
    """An interval across the half hour pays each side its own intensity in proportion to time."""
    pricing = Pricing(half_hours(100, 400))
    boundary_ns = MIDNIGHT_NS + HALF_HOUR_NS
    priced = pricing.price(4 * UJ_PER_KWH, boundary_ns - NS_PER_S, boundary_ns + 3 * NS_PER_S)
    assert priced.grams == pytest.approx(1 * 100 + 3 * 400)
    assert priced.unpriced_uj == 0


def test_the_daily_mean_shortcut_is_wrong() -> None:
    """With a load that follows the sun, energy times the grid's daily mean is nearly twice the integral."""
    grid = [100.0 if 9 <= hour < 17 else 500.0 for hour in range(24) for _ in range(2)]
    watts = [700 if 9 <= hour < 17 else 100 for hour in range(24)]
    pricing = Pricing(half_hours(*grid))

    total_uj, grams = 0, 0.0
    for minute in range(24 * 60):
        energy_uj = watts[minute // 60] * 60 * UJ_PER_J
        start_ns = MIDNIGHT_NS + minute * 60 * NS_PER_S
        grams += pricing.price(energy_uj, start_ns, start_ns + 60 * NS_PER_S).grams
        total_uj += energy_uj

    integral = (8 * 700 * 100 + 16 * 100 * 500) / 1000
    shortcut = total_uj / UJ_PER_KWH * (sum(grid) / len(grid))
    assert grams == pytest.approx(integral)
    assert shortcut / integral > 1.9


def test_the_night_the_clocks_change_is_an_ordinary_night() -> None:
    """Validity is in UTC, so the hour that Europe's clocks skip is neither missing nor counted twice."""
    pricing = Pricing(half_hours(*range(100, 148)))
    priced = pricing.price(24 * UJ_PER_KWH, MIDNIGHT_NS, MIDNIGHT_NS + 24 * HOUR_NS)
    assert priced.grams == pytest.approx(sum(range(100, 148)) / 2)
    assert priced.unpriced_uj == 0


def test_energy_in_a_gap_has_no_price_and_is_counted() -> None:
    """What flows where no intensity is known is returned in whole microjoules, before PUE."""
    first, _, third = half_hours(100, 200, 300)
    priced = Pricing((first, third), 1.5).price(3 * UJ_PER_KWH, MIDNIGHT_NS, MIDNIGHT_NS + 3 * HALF_HOUR_NS)
    assert priced.grams == pytest.approx(1.5 * 400)
    assert priced.unpriced_uj == UJ_PER_KWH


def test_before_the_first_and_after_the_last_nothing_has_a_price() -> None:
    """An intensity prices nothing outside its validity, whose start is in it and whose end is not."""
    pricing = Pricing(half_hours(100))
    end_ns = MIDNIGHT_NS + HALF_HOUR_NS
    assert pricing.price(7, MIDNIGHT_NS - 10, MIDNIGHT_NS)[:2] == (0.0, 7)
    assert pricing.price(7, end_ns, end_ns + 10)[:2] == (0.0, 7)
    assert pricing.at(MIDNIGHT_NS - 1) is None
    assert pricing.at(MIDNIGHT_NS) == pricing.intensities[0]
    assert pricing.at(end_ns - 1) == pricing.intensities[0]
    assert pricing.at(end_ns) is None


def test_open_ends_reach_without_end() -> None:
    """An intensity without a start or an end holds as far as any clock goes."""
    early, late = intensity(100, None, 0), intensity(200, 0, None)
    pricing = Pricing((early, late))
    assert pricing.at(-(2**62)) == early
    assert pricing.at(0) == late
    assert pricing.at(2**62) == late
    assert pricing.price(2 * UJ_PER_KWH, -5, 5).grams == pytest.approx(300)


@given(timelines(), ENERGIES, MOMENTS)
def test_an_interval_without_length_is_priced_at_its_instant(
    timeline: tuple[Intensity, ...], energy_uj: int, moment_ns: int
) -> None:
    """Start equal to end costs what the intensity of that instant says, or has no price at all."""
    pricing = Pricing(timeline)
    in_force = pricing.at(moment_ns)
    expected = (energy_uj / UJ_PER_KWH * in_force.g_per_kwh, 0) if in_force else (0.0, energy_uj)
    assert pricing.price(energy_uj, moment_ns, moment_ns)[:2] == expected


@given(timelines(), ENERGIES, MOMENTS, st.integers(1, 2000))
def test_a_clock_that_was_set_back_prices_at_the_end(
    timeline: tuple[Intensity, ...], energy_uj: int, end_ns: int, back_ns: int
) -> None:
    """An interval that ends before it starts is the instant at its end; no energy is lost."""
    pricing = Pricing(timeline)
    assert pricing.price(energy_uj, end_ns + back_ns, end_ns) == pricing.price(energy_uj, end_ns, end_ns)


@given(timelines(), ENERGIES, MOMENTS, st.integers(1, 300))
def test_the_price_is_the_integral(
    timeline: tuple[Intensity, ...], energy_uj: int, start_ns: int, length_ns: int
) -> None:
    """Grams and unpriced energy equal a count without rounding, to within a microjoule for each boundary."""
    priced = Pricing(timeline).price(energy_uj, start_ns, start_ns + length_ns)
    grams, unpriced = exact(timeline, energy_uj, start_ns, start_ns + length_ns)
    boundaries = 2 * len(timeline)
    assert abs(priced.unpriced_uj - unpriced) <= boundaries
    assert priced.grams == pytest.approx(float(grams), rel=1e-9, abs=2000 * boundaries / UJ_PER_KWH)


@given(timelines(), ENERGIES, MOMENTS, MOMENTS, PUES)
def test_no_microjoule_is_invented_or_lost(
    timeline: tuple[Intensity, ...], energy_uj: int, start_ns: int, end_ns: int, pue: float
) -> None:
    """At 1 kg per kWh everywhere priced, grams and unpriced microjoules make up exactly the energy given."""
    flat = tuple(
        intensity(1000, stretch.valid_from_wall_ns, stretch.valid_until_wall_ns) for stretch in timeline
    )
    priced = Pricing(flat, pue).price(energy_uj, start_ns, end_ns)
    assert 0 <= priced.unpriced_uj <= energy_uj
    assert priced.grams == pytest.approx((energy_uj - priced.unpriced_uj) / UJ_PER_KWH * 1000 * pue)


@given(timelines(), ENERGIES, st.lists(MOMENTS, min_size=3, max_size=3, unique=True).map(sorted))
def test_adjacent_intervals_add_up(
    timeline: tuple[Intensity, ...], energy_uj: int, moments: list[int]
) -> None:
    """Cutting an even interval in two changes neither grams nor unpriced energy beyond rounding."""
    start_ns, middle_ns, end_ns = moments
    first_uj = energy_uj * (middle_ns - start_ns) // (end_ns - start_ns)
    pricing = Pricing(timeline)
    whole = pricing.price(energy_uj, start_ns, end_ns)
    first = pricing.price(first_uj, start_ns, middle_ns)
    second = pricing.price(energy_uj - first_uj, middle_ns, end_ns)
    boundaries = 2 * len(timeline) + 2
    assert abs(whole.unpriced_uj - first.unpriced_uj - second.unpriced_uj) <= boundaries
    assert whole.grams == pytest.approx(
        first.grams + second.grams, rel=1e-9, abs=2000 * boundaries / UJ_PER_KWH
    )


@given(timelines(), ENERGIES, ENERGIES, MOMENTS, MOMENTS)
def test_more_energy_never_costs_less(
    timeline: tuple[Intensity, ...], energy_uj: int, more_uj: int, start_ns: int, end_ns: int
) -> None:
    """Grams are never negative, and more energy in the same interval never makes fewer of them."""
    pricing = Pricing(timeline)
    less = pricing.price(energy_uj, start_ns, end_ns)
    more = pricing.price(energy_uj + more_uj, start_ns, end_ns)
    slack = 2000 * 2 * len(timeline) / UJ_PER_KWH
    assert less.grams >= 0
    assert more.grams >= less.grams - slack


@given(ENERGIES, MOMENTS, MOMENTS)
def test_without_intensities_all_energy_is_unpriced(energy_uj: int, start_ns: int, end_ns: int) -> None:
    """An empty timeline prices nothing and knows no rate."""
    pricing = Pricing(())
    assert pricing.price(energy_uj, start_ns, end_ns)[:2] == (0.0, energy_uj)
    assert pricing.at(start_ns) is None
    assert pricing.g_per_second(energy_uj, start_ns) is None


def test_years_of_energy_are_priced_without_rounding_away_seconds() -> None:
    """The split stays whole where floats would not: 10 kW over 30 years, cut at one second."""
    years_s = 30 * 365 * 86_400
    energy_uj = 10_000 * UW_PER_W * years_s
    second = intensity(1000, NS_PER_S, 2 * NS_PER_S)
    priced = Pricing((second,)).price(energy_uj, 0, years_s * NS_PER_S)
    assert priced.unpriced_uj == energy_uj - 10_000 * UJ_PER_J
    assert priced.grams == pytest.approx(10_000 / 3600)


def test_a_power_has_its_grams_per_second() -> None:
    """600 W at 330 g/kWh are 198 g in an hour, PUE on top."""
    pricing = Pricing(half_hours(330), 1.5)
    assert pricing.g_per_second(600 * UW_PER_W, MIDNIGHT_NS) == pytest.approx(1.5 * 198 / 3600)
    assert pricing.g_per_second(600 * UW_PER_W, MIDNIGHT_NS - 1) is None
    assert pricing.g_per_second(0, MIDNIGHT_NS) == 0


@pytest.mark.parametrize("pue", [0.99, 0, -1, math.nan, math.inf])
def test_a_pue_below_one_or_no_number_is_refused(pue: float) -> None:
    """A facility cannot use less than its IT, and nothing may turn grams into NaN."""
    with pytest.raises(ValueError, match="no PUE"):
        Pricing((intensity(100),), pue)


@pytest.mark.parametrize(
    "timeline",
    [
        (intensity(100, 0, 10), intensity(200, 9, 20)),
        (intensity(100, 10, 20), intensity(200, 0, 10)),
        (intensity(100, 0, None), intensity(200, 10, 20)),
        (intensity(100), intensity(200)),
        (intensity(100, 10, 10),),
        (intensity(100, 10, 9),),
        (intensity(-1),),
        (intensity(math.nan),),
        (intensity(math.inf),),
    ],
)
def test_a_timeline_that_cannot_be_is_refused(timeline: tuple[Intensity, ...]) -> None:
    """Overlaps, disorder, empty validity and figures that are no intensity never come as far as a price."""
    with pytest.raises(ValueError, match=r"overlapping|valid at no time|no intensity"):
        Pricing(timeline)
