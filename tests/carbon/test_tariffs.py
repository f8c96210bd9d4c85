"""Prices by time of use, through changes of the clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon import timeline
from wattspan.carbon.tariffs import Schedule, parse_schedule
from wattspan.errors import SetupError
from wattspan.model import Tariff
from wattspan.units import NS_PER_S

HOUR_NS = 3600 * NS_PER_S
WORK = "Mon-Fri 07:00-22:00 0.31; Sat 0.25; 0.19"
BERLIN = ZoneInfo("Europe/Berlin")


def wall_ns(*moment: int, zone: ZoneInfo | None = None, fold: int = 0) -> int:
    """Of a date and time by the clock of a zone; of UTC without one."""
    year, month, day, *rest = moment
    hour, minute = (*rest, 0, 0)[:2]
    local = datetime(year, month, day, hour, minute, tzinfo=zone or UTC, fold=fold)
    return int(local.timestamp()) * NS_PER_S


def price(schedule: Schedule, moment_ns: int, now_ns: int | None = None) -> float:
    """What the tariffs made at one time say of a moment."""
    tariff = timeline.at(schedule.tariffs(moment_ns if now_ns is None else now_ns), moment_ns)
    assert tariff is not None
    return tariff.per_kwh


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ((2026, 6, 1, 6, 59), 0.19),  # a Monday
        ((2026, 6, 1, 7, 0), 0.31),
        ((2026, 6, 1, 21, 59), 0.31),
        ((2026, 6, 1, 22, 0), 0.19),
        ((2026, 6, 5, 12, 0), 0.31),  # Friday
        ((2026, 6, 6, 12, 0), 0.25),  # Saturday
        ((2026, 6, 7, 0, 0), 0.19),  # Sunday
    ],
)
def test_the_first_that_holds_counts(moment: tuple[int, ...], expected: float) -> None:
    """Days, hours and the base price hold by the clock of the schedule's zone."""
    schedule = parse_schedule(WORK, "Europe/Berlin")
    assert price(schedule, wall_ns(*moment, zone=BERLIN)) == expected


def test_order_decides_and_no_other() -> None:
    """An earlier entry goes before a later one that holds as well."""
    noon = wall_ns(2026, 6, 6, 12)
    assert price(parse_schedule("Sat 0.2; 10:00-14:00 0.1; 0.3", "UTC"), noon) == 0.2
    assert price(parse_schedule("10:00-14:00 0.1; Sat 0.2; 0.3", "UTC"), noon) == 0.1


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ((2026, 6, 5, 21, 59), 0.3),
        ((2026, 6, 5, 22, 0), 0.1),  # Friday night
        ((2026, 6, 6, 5, 59), 0.1),  # which ends on Saturday
        ((2026, 6, 6, 6, 0), 0.3),
        ((2026, 6, 6, 22, 0), 0.3),  # Saturday's night is none
        ((2026, 6, 8, 5, 0), 0.3),  # Sunday's neither
    ],
)
def test_hours_over_midnight_belong_to_their_first_day(moment: tuple[int, ...], expected: float) -> None:
    """A night of Friday runs into Saturday, and that of Saturday is not one of Friday's."""
    assert price(parse_schedule("Fri 22:00-06:00 0.1; 0.3", "UTC"), wall_ns(*moment)) == expected


def test_days_over_the_weekend_and_lists_of_them() -> None:
    """A span of days may run over the week-end, and days may be listed."""
    schedule = parse_schedule("sat-mon 0.1; Tue,Thu 0.2; 0.3", "UTC")
    week = [price(schedule, wall_ns(2026, 6, day, 12)) for day in range(1, 8)]  # from a Monday on
    assert week == [0.1, 0.2, 0.3, 0.2, 0.3, 0.1, 0.1]


def test_midnight_may_be_written_twice() -> None:
    """Until 24:00 and until 00:00 mean the same end of the day."""
    for until in ("24:00", "00:00"):
        tariffs = parse_schedule(f"22:00-{until} 0.1; 0.3", "UTC").tariffs(wall_ns(2026, 6, 1))
        cheap = [tariff for tariff in tariffs if tariff.per_kwh == 0.1]
        assert {(t.valid_until_wall_ns or 0) - (t.valid_from_wall_ns or 0) for t in cheap} == {2 * HOUR_NS}


def test_what_is_covered() -> None:
    """From 48 h back to 8 days ahead, in order and without a gap; neighbours differ in price."""
    now_ns = wall_ns(2026, 3, 27, 13, 40)
    tariffs = parse_schedule(WORK, "Europe/Berlin").tariffs(now_ns)
    timeline.require_order(tariffs)
    assert tariffs[0].valid_from_wall_ns == now_ns // HOUR_NS * HOUR_NS - 48 * HOUR_NS
    assert tariffs[-1].valid_until_wall_ns == now_ns // HOUR_NS * HOUR_NS + 8 * 24 * HOUR_NS
    for earlier, later in pairwise(tariffs):
        assert earlier.valid_until_wall_ns == later.valid_from_wall_ns
        assert earlier.per_kwh != later.per_kwh
    assert {tariff.provider for tariff in tariffs} == {"configured"}


def test_a_base_price_alone_is_one_tariff() -> None:
    """A schedule without times is one price throughout."""
    assert [tariff.per_kwh for tariff in parse_schedule("0.19", "UTC").tariffs(0)] == [0.19]


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2026, 3, 28), 9), ((2026, 3, 29), 8), ((2026, 10, 24), 9), ((2026, 10, 25), 10)],
)
def test_nights_over_a_change_of_clocks(day: tuple[int, int, int], hours: int) -> None:
    """A night from 22:00 to 07:00 by the clock lasts an hour less in spring, and an hour more in autumn."""
    schedule = parse_schedule("22:00-07:00 0.1; 0.3", "Europe/Berlin")
    end = datetime(*day, 7, tzinfo=BERLIN)
    tariff = timeline.at(schedule.tariffs(wall_ns(*day, 3)), int(end.timestamp()) * NS_PER_S - 1)
    assert tariff is not None
    length_ns = (tariff.valid_until_wall_ns or 0) - (tariff.valid_from_wall_ns or 0)
    assert length_ns == hours * HOUR_NS


def test_the_hour_that_comes_twice() -> None:
    """A price from 02:20 to 02:50 holds both times that the clock shows it (25 October 2026)."""
    tariffs = parse_schedule("02:20-02:50 0.1; 0.3", "Europe/Berlin").tariffs(wall_ns(2026, 10, 25))
    cheap = [t.valid_from_wall_ns for t in tariffs if t.per_kwh == 0.1]
    assert wall_ns(2026, 10, 25, 2, 20, zone=BERLIN, fold=0) in cheap
    assert wall_ns(2026, 10, 25, 2, 20, zone=BERLIN, fold=1) in cheap


def test_the_hour_that_is_left_out() -> None:
    """A price of that hour alone does not hold on that day; one beyond it begins with the change."""
    now_ns = wall_ns(2026, 3, 29)
    gone = parse_schedule("Sun 02:15-02:45 0.1; 0.3", "Europe/Berlin").tariffs(now_ns)
    assert [t.valid_from_wall_ns for t in gone if t.per_kwh == 0.1] == [wall_ns(2026, 4, 5, 0, 15)]
    half = parse_schedule("Sun 02:30-03:30 0.1; 0.3", "Europe/Berlin").tariffs(now_ns)
    assert Tariff(0.1, wall_ns(2026, 3, 29, 1), wall_ns(2026, 3, 29, 1, 30)) in half


@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    st.sampled_from(
        [(2026, 3, 8), (2026, 3, 29), (2026, 4, 5), (2026, 10, 4), (2026, 10, 25), (2026, 11, 1)]
    ),
    st.integers(-2 * 24 * 60, 8 * 24 * 60 - 1),
    st.sampled_from(
        [WORK, "Fri 22:00-06:00 0.1; 01:45-02:20 0.2; Sun 0.4; 0.3", "Sat-Mon 23:10-00:50 0.1; 0.3"]
    ),
)
def test_every_minute_has_the_price_of_its_clock(
    zone: str, day: tuple[int, int, int], minute: int, text: str
) -> None:
    """At any minute, in any zone, around any change, the tariff is what the clock on the wall says."""
    schedule = parse_schedule(text, zone)
    now_ns = wall_ns(*day, 5)
    moment = datetime(*day, 5, tzinfo=UTC) + timedelta(minutes=minute)
    assert price(schedule, now_ns + minute * 60 * NS_PER_S, now_ns) == schedule.per_kwh(moment)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "price alone"),
        (";", "price alone"),
        ("Mon 0.3", "price alone"),
        ("Mon 0.3; 07:00-08:00 0.2", "price alone"),
        ("0.3; 0.2", "holds always"),
        ("Sat; 0.2", "'Sat' is no price"),
        ("Mon-Fry 0.3; 0.2", "'Mon-Fry' is no day"),
        ("Mon- 0.3; 0.2", "'Mon-' is no day"),
        ("Monday 0.3; 0.2", "Mon, Tue, Wed"),
        ("07:00-25:00 0.3; 0.2", "'07:00-25:00' is no span"),
        ("07:60-08:00 0.3; 0.2", "no span"),
        ("24:00-08:00 0.3; 0.2", "no span"),
        ("24:01-08:00 0.3; 0.2", "no span"),
        ("07:00-24:01 0.3; 0.2", "no span"),
        ("07:00-07:00 0.3; 0.2", "no span"),
        ("7:00 0.3; 0.2", "no span"),
        ("07:00-08:00 Mon 0.3; 0.2", "not days, hours and a price"),
        ("Mon Tue 0.3; 0.2", "not days, hours and a price"),
        ("Mon -0.3; 0.2", "'-0.3' is no price"),
        ("Mon 0,3; 0.2", "'0,3' is no price"),
        ("Mon nan; 0.2", "'nan' is no price"),
        ("Mon 1001; 0.2", "'1001' is no price"),
        ("Mon 0.3 EUR; 0.2", "'EUR' is no price"),
    ],
)
def test_what_is_no_schedule(text: str, named: str) -> None:
    """Anything else stops at start: the text names the key, the value and what is allowed."""
    with pytest.raises(SetupError) as caught:
        parse_schedule(text, "UTC")
    told = str(caught.value)
    assert told.startswith("cost.schedule: ")
    assert named in told
    assert "allowed: entries separated by ';'" in told


@pytest.mark.parametrize("name", ["Europe/Berlinn", "", "../etc/passwd", "Europe", "Mars/Base"])
def test_what_is_no_time_zone(name: str) -> None:
    """An unknown zone stops at start, with near matches."""
    with pytest.raises(SetupError, match=r"cost\.time-zone: .*allowed: a name of the tz database") as caught:
        parse_schedule("0.19", name)
    assert ("did you mean Europe/Berlin" in str(caught.value)) == (name == "Europe/Berlinn")
