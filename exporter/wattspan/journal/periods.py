"""What the owners' accounts held when each month began (UTC), so that a month's use is a difference.

The first commit in a new month keeps them as they stood before it, so a tick that spans the turn of the month
belongs to the new one as a whole. Totals never go back, also where a counter had to start again from 0.
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from wattspan.model import CounterKey
from wattspan.units import NS_PER_S

Totals = Mapping[CounterKey, int | float]

_SAME_TURN_NS: Final = 60 * NS_PER_S
"""A start that was kept so shortly ago is of this turn, which a crash or a step of the clock repeats."""

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")

_KEPT: Final = (
    "(quantity GLOB 'owner_*' OR quantity IN ('grid_priced_energy', 'unpriced_energy', 'uncosted_energy'))"
)
"""The accounts that a report of a month needs."""


@dataclass(frozen=True, slots=True)
class Start:
    """The accounts as a month began.

    Attributes:
        month: such as ``2026-10``.
        taken_wall_ns: when they were kept: at its first commit.
        totals: of accounts by quantity and labels; one that began later is missing.
    """

    month: str
    taken_wall_ns: int
    totals: Totals


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in a month.

    Attributes:
        month: such as ``2026-10``.
        since_wall_ns: from when on it is known: the month's begin where the month before had a commit, else
            the month's first commit, else `until_wall_ns`: nothing of it is.
        until_wall_ns: its end, or now.
        totals: what each account gained; uJ and ns are whole numbers, all else floats.
        went_back: an account was lower at the end, as after a clock that was set back; it counts as 0.
    """

    month: str
    since_wall_ns: int
    until_wall_ns: int
    totals: Totals
    went_back: bool


def month_of(wall_ns: int) -> str:
    """The month of a moment (UTC), such as ``2026-10``."""
    moment = datetime.fromtimestamp(wall_ns // NS_PER_S, UTC)
    return f"{moment.year:04}-{moment.month:02}"


def bounds_of(month: str) -> tuple[int, int]:
    """A month's begin and end (wall clock), half open.

    Raises:
        ValueError: it is no month such as ``2026-10``.
    """
    match = _MONTH.fullmatch(month)
    if match is None or not 1970 <= int(match[1]) < 2200:
        raise ValueError(f"{month!r:.80} is no month such as 2026-10")
    year, number = int(match[1]), int(match[2])
    following = (year, number + 1) if number < 12 else (year + 1, 1)
    return _begin_ns(year, number), _begin_ns(*following)


def turn(db: sqlite3.Connection, now_wall_ns: int, before_wall_ns: int) -> None:
    """Keep the owners' accounts as they stand, if this month has begun since the last commit.

    To be called before anything of the commit is written. The caller holds the transaction.

    Args:
        now_wall_ns: of the commit. A month that a clock ahead made up is kept anew when it truly begins.
        before_wall_ns: of the commit before.

    Raises:
        sqlite3.Error: a disk that does not take it.
    """
    month = month_of(now_wall_ns)
    if _next(month_of(before_wall_ns)) == month:
        made_up = db.execute(
            "DELETE FROM month WHERE month = ? AND abs(taken_wall_ns - ?) > ?",
            (month, now_wall_ns, _SAME_TURN_NS),
        )
        if made_up.rowcount:
            db.execute("DELETE FROM month_total WHERE month = ?", (month,))
    new = db.execute("INSERT OR IGNORE INTO month (month, taken_wall_ns) VALUES (?, ?)", (month, now_wall_ns))
    if new.rowcount:
        db.execute(
            "INSERT INTO month_total (month, quantity, labels, total)"  # noqa: S608 - a constant
            f" SELECT ?, quantity, labels, total FROM account WHERE {_KEPT}",
            (month,),
        )


def read(db: sqlite3.Connection) -> Iterator[Start]:
    """Every month that is known, the first one first.

    Raises:
        sqlite3.Error: damage that stops SQLite.
        ValueError: a row makes no sense.
    """
    for month, taken_wall_ns in db.execute(
        "SELECT month, taken_wall_ns FROM month ORDER BY month"
    ).fetchall():
        yield Start(month, taken_wall_ns, _totals(db, "month_total WHERE month = ?", month))


def restore(db: sqlite3.Connection, starts: Iterable[Start]) -> None:
    """Put months in. The caller holds the transaction.

    Raises:
        sqlite3.Error, OverflowError: a disk that does not take them, or a number beyond 64 bits.
    """
    for start in starts:
        db.execute(
            "INSERT INTO month (month, taken_wall_ns) VALUES (?, ?)", (start.month, start.taken_wall_ns)
        )
        db.executemany(
            "INSERT INTO month_total (month, quantity, labels, total) VALUES (?, ?, ?, ?)",
            [
                (start.month, quantity, json.dumps(labels), total)
                for (quantity, labels), total in start.totals.items()
            ],
        )


def members_of(start: Start) -> dict[str, Any]:
    """A month as JSON has it."""
    totals = [[quantity, labels, total] for (quantity, labels), total in start.totals.items()]
    return {"month": start.month, "taken_wall_ns": start.taken_wall_ns, "totals": totals}


def start_of(members: Mapping[str, Any]) -> Start:
    """A month of members that may be anything.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    bounds_of(str(members["month"]))
    taken_wall_ns = members["taken_wall_ns"]
    if type(taken_wall_ns) is not int or not 0 <= taken_wall_ns < 2**63:
        raise ValueError(f"taken_wall_ns is {taken_wall_ns!r:.80}, allowed are nanoseconds since the epoch")
    totals: dict[CounterKey, int | float] = {}
    if not isinstance(members["totals"], list):
        raise ValueError(f"totals is {members['totals']!r:.80}, allowed is a list")
    for row in members["totals"]:
        match row:
            case [str(quantity), list(labels), int(total) | float(total)] if 0 <= total < 2**63:
                totals[quantity, tuple(map(str, labels))] = total
            case _:
                raise ValueError(f"a total is {row!r:.80}, allowed are a quantity, labels and an amount")
    return Start(members["month"], taken_wall_ns, totals)


def usage(db: sqlite3.Connection, month: str, now_wall_ns: int) -> Usage | None:
    """What was used in a month; None where nothing is known of it.

    Args:
        db: in a transaction, so that it is one moment; with tables that have months.
        month: such as ``2026-10``.
        now_wall_ns: CLOCK_REALTIME.

    Raises:
        ValueError: no month, or a row makes no sense.
        sqlite3.Error: damage that stops SQLite.
    """
    begin_ns, end_ns = bounds_of(month)
    now_month = month_of(now_wall_ns)
    known = db.execute("SELECT month, taken_wall_ns FROM month WHERE month <= ? ORDER BY month", (now_month,))
    taken = dict(known.fetchall())
    first = min(taken, default=None)
    if first is None or month < first or month > now_month:
        return None
    # A month without a commit has no row: it began and ended as the next one began.
    own, following = _from(taken, month), _from(taken, _next(month))
    until_ns = min(end_ns, now_wall_ns)
    since_ns = begin_ns
    if month not in taken:
        since_ns = until_ns
    elif all(_next(known) != month for known in taken):
        # Not by whether any month is older: a clock that was behind at the first commit makes up such a one.
        since_ns = min(max(begin_ns, taken[month]), until_ns)
    before = _start_totals(db, own)
    after = _start_totals(db, following)
    gained = {key: total - before.get(key, 0) for key, total in after.items()}
    return Usage(
        month=month,
        since_wall_ns=since_ns,
        until_wall_ns=until_ns,
        totals={key: max(amount, type(amount)(0)) for key, amount in gained.items()},
        went_back=any(amount < 0 for amount in gained.values()),
    )


def first_month(db: sqlite3.Connection) -> str | None:
    """The first one that is known."""
    (month,) = db.execute("SELECT min(month) FROM month").fetchone()
    return None if month is None else str(month)


def _from(taken: Mapping[str, int], month: str) -> str | None:
    """The first month from this one on that has a row; None for now."""
    return min((known for known in taken if known >= month), default=None)


def _start_totals(db: sqlite3.Connection, month: str | None) -> Totals:
    if month is None:
        return _totals(db, f"account WHERE {_KEPT}")
    return _totals(db, "month_total WHERE month = ?", month)


def _totals(db: sqlite3.Connection, where: str, *parameters: str) -> dict[CounterKey, int | float]:
    query = f"SELECT quantity, labels, total FROM {where} ORDER BY quantity, labels"  # noqa: S608 - constants
    return {
        (quantity, tuple(json.loads(labels))): total
        for quantity, labels, total in db.execute(query, parameters)
    }


def _next(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def _begin_ns(year: int, number: int) -> int:
    return int(datetime(year, number, 1, tzinfo=UTC).timestamp()) * NS_PER_S
