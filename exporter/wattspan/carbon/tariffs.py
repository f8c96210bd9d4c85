"""Prices by time of use: what the operator wrote into ``cost.schedule``, as tariffs in UTC.

A schedule is a list of entries, separated by ``;``. Each is days, hours and a price; days or hours or both
may be left out: ``Mon-Fri 07:00-22:00 0.31; Sat 0.25; 0.19``. The first entry that holds counts. The last has
a price alone and holds whenever no other does. Hours that end before they begin run over midnight and belong
to the day on which they begin. All of it is by the clock on the wall, through changes of daylight saving.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from itertools import pairwise
from math import isfinite
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from wattspan.errors import SetupError
from wattspan.model import Tariff
from wattspan.units import NS_PER_S

KEY: Final = "cost.schedule"
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES: Final = 24 * 60
MAX_PER_KWH: Final = 1000.0
"""As for cost.price-per-kwh."""

PAST: Final = timedelta(hours=48)
AHEAD: Final = timedelta(days=8)
"""A plan looks a week ahead."""

# Clocks change at a quarter of an hour of UTC, everywhere since 1972 (tz database).
_CHANGE_STEP: Final = timedelta(minutes=15)

_ALLOWED: Final = (
    "entries separated by ';', each with days such as Mon-Fri or Sat,Sun, hours such as 07:00-22:00, and a"
    " price per kWh from 0 to 1000; the last with a price alone"
)
_HOURS: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_PRICE: Final = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One price and when it holds.

    Attributes:
        days: on which it holds or begins, Monday is 0.
        begin_minute, end_minute: of the day; an end at or before the beginning is one of the next day.
        per_kwh: in the currency of the settings.
    """

    days: frozenset[int]
    begin_minute: int
    end_minute: int
    per_kwh: float

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether it holds at a minute of a day of the week, Monday being 0."""
        if self.begin_minute < self.end_minute:
            return weekday in self.days and self.begin_minute <= minute < self.end_minute
        yesterday = (weekday - 1) % 7
        return (weekday in self.days and minute >= self.begin_minute) or (
            yesterday in self.days and minute < self.end_minute
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Prices by the clock on the wall of one place.

    Attributes:
        entries: the first that holds counts; the last one always holds.
        time_zone: whose clock.
    """

    entries: tuple[Entry, ...]
    time_zone: ZoneInfo

    def per_kwh(self, moment: datetime) -> float:
        """The price at a moment that knows its offset from UTC."""
        local = moment.astimezone(self.time_zone)
        weekday, minute = local.weekday(), local.hour * 60 + local.minute
        return next(entry.per_kwh for entry in self.entries if entry.holds(weekday, minute))

    def tariffs(self, now_wall_ns: int) -> tuple[Tariff, ...]:
        """Without a gap from 48 h before a moment of the wall clock to 8 days after it, past to future."""
        now = datetime.fromtimestamp(now_wall_ns // NS_PER_S // 3600 * 3600, UTC)
        begin, end = now - PAST, now + AHEAD
        edges = sorted({begin, end, *(edge for edge in self._edges(begin, end) if begin < edge < end)})
        result: list[tuple[datetime, float]] = []
        for edge in edges[:-1]:
            price = self.per_kwh(edge)
            if not result or result[-1][1] != price:
                result.append((edge, price))
        ends = [*(edge for edge, _ in result[1:]), end]
        return tuple(
            Tariff(price, _wall_ns(since), _wall_ns(until))
            for (since, price), until in zip(result, ends, strict=True)
        )

    def _edges(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Moments at which the price may change, in UTC: none that it does is missing."""
        minutes = {0, *(m for each in self.entries for m in (each.begin_minute, each.end_minute))}
        day = begin.astimezone(self.time_zone).date()
        last = end.astimezone(self.time_zone).date() + timedelta(days=1)
        midnights = []
        while day <= last:
            midnights.append(self._at(day, 0, fold=0))
            for minute in minutes:
                # In the hour that comes twice, both; in the one that is left out, two that do no harm.
                yield self._at(day, minute, fold=0)
                yield self._at(day, minute, fold=1)
            day += timedelta(days=1)
        for since, until in pairwise(midnights):
            if since.astimezone(self.time_zone).utcoffset() != until.astimezone(self.time_zone).utcoffset():
                edge = since.replace(minute=since.minute // 15 * 15, second=0)
                while edge < until:
                    yield edge
                    edge += _CHANGE_STEP

    def _at(self, day: date, minute: int, fold: int) -> datetime:
        """A minute of a day of this place, in UTC; minute 1440 is the next midnight."""
        day += timedelta(days=minute // DAY_MINUTES)
        hour, minute = divmod(minute % DAY_MINUTES, 60)
        return datetime(
            day.year, day.month, day.day, hour, minute, tzinfo=self.time_zone, fold=fold
        ).astimezone(UTC)


def parse_schedule(text: str, time_zone: str) -> Schedule:
    """The schedule that the settings ``cost.schedule`` and ``cost.time-zone`` mean.

    Raises:
        SetupError: they mean none.
    """
    zone = _zone(time_zone)
    written = [entry.split() for entry in text.split(";") if entry.strip()]
    entries = tuple(_entry(words) for words in written)
    if not written or len(written[-1]) != 1:
        raise SetupError(f"{KEY}: {text!r} does not end with a price alone; allowed: {_ALLOWED}")
    for words in written[:-1]:
        if len(words) == 1:
            raise _wrong(words[0], "it holds always, so what follows never does")
    return Schedule(entries, zone)


def _entry(words: list[str]) -> Entry:
    text = " ".join(words)
    *when, price = words
    if not _PRICE.fullmatch(price) or not isfinite(float(price)) or float(price) > MAX_PER_KWH:
        raise _wrong(text, f"{price!r} is no price")
    days, begin, end = frozenset(range(7)), 0, DAY_MINUTES
    hours = when.pop() if when and ":" in when[-1] else None
    if when:
        days = _days(when.pop(), text)
    if when:
        raise _wrong(text, "it is not days, hours and a price")
    if hours is not None:
        begin, end = _hours(hours, text)
    return Entry(days, begin, end, float(price))


def _days(word: str, text: str) -> frozenset[int]:
    """Days and spans of days, separated by commas; a span may run over the week-end."""
    days: set[int] = set()
    for part in word.split(","):
        first, dash, last = part.partition("-")
        try:
            since = DAYS.index(first.capitalize())
            until = DAYS.index(last.capitalize()) if dash else since
        except ValueError:
            raise _wrong(text, f"{part!r} is no day; days are {', '.join(DAYS)}") from None
        days.update((since + step) % 7 for step in range((until - since) % 7 + 1))
    return frozenset(days)


def _hours(word: str, text: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(word)
    if match is None:
        raise _wrong(text, f"{word!r} is no span of hours")
    begin_hour, begin_minute, end_hour, end_minute = (int(part) for part in match.groups())
    begin, end = begin_hour * 60 + begin_minute, end_hour * 60 + end_minute
    if begin_minute > 59 or end_minute > 59 or begin >= DAY_MINUTES or end > DAY_MINUTES or begin == end:
        raise _wrong(text, f"{word!r} is no span of hours")
    return begin, end


def _wrong(entry: str, why: str) -> SetupError:
    return SetupError(f"{KEY}: in {entry!r}, {why}; allowed: {_ALLOWED}")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = get_close_matches(name, available_timezones(), n=3, cutoff=0.6)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise SetupError(
            f"cost.time-zone: {name!r} is unknown{hint}; allowed: a name of the tz database,"
            " such as Europe/Berlin"
        ) from error


def _wall_ns(moment: datetime) -> int:
    return int(moment.timestamp()) * NS_PER_S
