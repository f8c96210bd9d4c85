"""What the grid's providers say now of hours that are over: the newest figure of each, for 400 days.

Beyond `KEEP_ROWS` of them the oldest go; the newest stay as fine as they came.

A provider revises its figures when measurements replace forecasts. Counters never follow: what was priced
stays priced. Reports and audits look here, and say what a run's grams would be with what is known since.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wattspan.model import Intensity
from wattspan.runs import Factor, RunRecord
from wattspan.units import NS_PER_S, UJ_PER_KWH

KEEP_NS: Final = 400 * 86_400 * NS_PER_S
"""A year and a month, so that a report of the month a year ago still knows them."""

KEEP_ROWS: Final = 100_000
"""A figure every 5 minutes for almost a year, or one a minute for ten weeks: about 10 MB."""

TRIM_ROWS: Final = 2_000
"""Rows that one `trim` lets go of at most, since it runs on the writer's thread: some 20 ms."""

Source = tuple[str, str, str, str]
"""Provider, grid zone, signal and basis."""

_COLUMNS: Final = (
    "provider, grid_zone, signal, basis, valid_from_wall_ns, valid_until_wall_ns, g_per_kwh, estimated,"
    " fetched_wall_ns"
)


@dataclass(frozen=True, slots=True)
class Revision:
    """A run's operational grams with the figures that are known now.

    Attributes:
        co2e_g: grams of the factors, revised where that can be; PUE as it was applied then.
        revised: factors for which another figure is known now.
        mixed: factors that stand for several figures put together, which are left as they are.
        let_go: factors older than every figure that is still kept, whose revision nobody knows.
    """

    co2e_g: float
    revised: int
    mixed: int
    let_go: int = 0


def write(db: sqlite3.Connection, figures: Iterable[Intensity], now_wall_ns: int) -> None:
    """Keep figures, each over an older one of the same stretch, and let go of those that are too old.

    Those that hold for all time are passed over: they are never revised. The caller holds the transaction.

    Args:
        figures: as fetched, in any order.
        now_wall_ns: CLOCK_REALTIME; one that is ahead lets go of nothing that it should not.

    Raises:
        sqlite3.Error, OverflowError: a disk that does not take them, or a time beyond 64 bits.
    """
    rows = [
        (
            *source_of(figure),
            figure.valid_from_wall_ns,
            figure.valid_until_wall_ns,
            figure.g_per_kwh,
            figure.estimated,
            figure.fetched_wall_ns or 0,
        )
        for figure in figures
        if figure.valid_from_wall_ns is not None and figure.valid_until_wall_ns is not None
    ]
    if not rows:
        return
    db.executemany(
        f"INSERT INTO figure ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
        " ON CONFLICT (provider, grid_zone, signal, basis, valid_from_wall_ns) DO UPDATE SET"
        " valid_until_wall_ns = excluded.valid_until_wall_ns, g_per_kwh = excluded.g_per_kwh,"
        " estimated = excluded.estimated, fetched_wall_ns = excluded.fetched_wall_ns"
        " WHERE excluded.fetched_wall_ns >= fetched_wall_ns",
        rows,
    )
    db.execute(
        "DELETE FROM figure WHERE valid_from_wall_ns <"
        " (SELECT max(valid_from_wall_ns) FROM figure WHERE valid_from_wall_ns <= ?) - ?",
        (now_wall_ns, KEEP_NS),
    )


def trim(db: sqlite3.Connection) -> None:
    """Let go of the oldest figures of what is more than `KEEP_ROWS`. The caller holds the transaction.

    Figures that begin together go together: one moment is never half there.

    Raises:
        sqlite3.Error: a disk that does not take it.
    """
    newest = "SELECT valid_from_wall_ns FROM figure ORDER BY valid_from_wall_ns"
    db.execute(
        "DELETE FROM figure WHERE valid_from_wall_ns <"  # noqa: S608 - constants
        f" min(({newest} DESC LIMIT 1 OFFSET ?), ifnull(({newest} LIMIT 1 OFFSET ?), {2**63 - 1}))",
        (KEEP_ROWS - 1, TRIM_ROWS),
    )


def oldest_wall_ns(db: sqlite3.Connection) -> int | None:
    """When the oldest figure began that is kept; None without any.

    Raises:
        sqlite3.Error: damage that stops SQLite.
    """
    (found,) = db.execute("SELECT min(valid_from_wall_ns) FROM figure").fetchone()
    return None if found is None else int(found)


def let_go_of(record: RunRecord, oldest_ns: int | None) -> int:
    """`Revision.let_go`.

    Args:
        record: with factors.
        oldest_ns: when the oldest kept figure began; None where none was ever kept.
    """
    return sum(
        factor.fetched_wall_ns is not None
        and factor.valid_until_wall_ns is not None
        and factor.valid_from_wall_ns is not None
        and factor.valid_from_wall_ns < (oldest_ns or 0)
        for factor in record.factors
    )


def read(
    db: sqlite3.Connection,
    source: Source | None = None,
    from_wall_ns: int = 0,
    until_wall_ns: int = 2**63 - 1,
) -> Iterator[Intensity]:
    """Figures that hold at some moment of a stretch, past to future within each source.

    Args:
        db: with tables that have figures.
        source: whose; None for all.
        from_wall_ns, until_wall_ns: half open.

    Raises:
        sqlite3.Error: damage that stops SQLite.
    """
    wanted = "provider = ? AND grid_zone = ? AND signal = ? AND basis = ? AND" if source else ""
    query = (
        f"SELECT {_COLUMNS} FROM figure WHERE {wanted} valid_from_wall_ns < ? AND valid_until_wall_ns > ?"  # noqa: S608
        " ORDER BY provider, grid_zone, signal, basis, valid_from_wall_ns"
    )
    for row in db.execute(query, (*(source or ()), until_wall_ns, from_wall_ns)):
        provider, grid_zone, signal, basis, begin_ns, end_ns, g_per_kwh, estimated, fetched_ns = row
        yield Intensity(
            g_per_kwh=g_per_kwh,
            valid_from_wall_ns=begin_ns,
            valid_until_wall_ns=end_ns,
            grid_zone=grid_zone,
            provider=provider,
            signal=signal,
            basis=basis,
            estimated=bool(estimated),
            fetched_wall_ns=fetched_ns or None,
        )


def members_of(figure: Intensity) -> dict[str, Any]:
    """A kept figure as JSON has it."""
    return {name: getattr(figure, name) for name in _COLUMNS.split(", ")}


def figure_of(members: Mapping[str, Any]) -> Intensity:
    """A figure of members that may be anything.

    Raises:
        ValueError: one of them is not what it must be.
        KeyError: one is missing.
    """
    for name in ("provider", "grid_zone", "signal", "basis"):
        if not isinstance(members[name], str):
            raise ValueError(f"{name} is {members[name]!r:.80}, allowed is a text")
    for name in ("valid_from_wall_ns", "valid_until_wall_ns", "fetched_wall_ns"):
        time = members[name]
        if not (time is None and name == "fetched_wall_ns") and not (type(time) is int and 0 <= time < 2**63):
            raise ValueError(f"{name} is {time!r:.80}, allowed are nanoseconds since the epoch")
    g_per_kwh = members["g_per_kwh"]
    if isinstance(g_per_kwh, bool) or not isinstance(g_per_kwh, int | float) or not 0 <= g_per_kwh < 1e9:
        raise ValueError(f"g_per_kwh is {g_per_kwh!r:.80}, which no grid has")
    if not isinstance(members["estimated"], bool):
        raise ValueError(f"estimated is {members['estimated']!r:.80}, allowed is true or false")
    return Intensity(**{name: members[name] for name in _COLUMNS.split(", ")})


def source_of(figure: Intensity | Factor) -> Source:
    """Whose figure it is, and what it means."""
    return figure.provider, figure.grid_zone, figure.signal, figure.basis


def revised_co2e_g(record: RunRecord, figures: Iterable[Intensity]) -> float:
    """`Revision.co2e_g` of these figures, which may be of any source and stretch."""
    return revision(record, figures).co2e_g


def revision(record: RunRecord, figures: Iterable[Intensity]) -> Revision:
    """A run's operational grams with other figures in place of those that it was priced with.

    A factor is revised where the figures of its own provider, zone, signal and basis cover all of the
    stretch that it was used in, and none of them was fetched before its own. Within a stretch that several
    of them cover, the energy counts as spread evenly.

    Args:
        record: with factors.
        figures: that are known now, of any source and stretch.
    """
    known: dict[Source, list[Intensity]] = {}
    for figure in figures:
        known.setdefault(source_of(figure), []).append(figure)
    for of_source in known.values():
        of_source.sort(key=_begin_ns)
    grams, revised, mixed = [], 0, 0
    for factor in record.factors:
        mixed += factor.figures > 1
        g_per_kwh = _known_now(factor, known.get(source_of(factor), ()))
        if g_per_kwh is None or g_per_kwh == factor.g_per_kwh:
            grams.append(factor.co2e_g)
        else:
            revised += 1
            grams.append(factor.energy_uj / UJ_PER_KWH * factor.pue * g_per_kwh)
    return Revision(sum(grams), revised, mixed)


def _known_now(factor: Factor, figures: Sequence[Intensity]) -> float | None:
    """The mean intensity over a factor's stretch, or None where that is not known better than it was."""
    if factor.figures > 1 or factor.fetched_wall_ns is None:
        return None
    begin_ns, end_ns = factor.began_wall_ns, max(factor.ended_wall_ns, factor.began_wall_ns + 1)
    first = max(bisect_right(figures, begin_ns, key=_begin_ns) - 1, 0)
    reached_ns, weighed = begin_ns, 0.0
    for index in range(first, len(figures)):
        figure = figures[index]
        if reached_ns >= end_ns or _begin_ns(figure) > reached_ns:
            break
        # A finer one that follows goes before the rest of a coarse one.
        until_ns = min(figure.valid_until_wall_ns or 0, end_ns)
        if index + 1 < len(figures):
            until_ns = min(until_ns, _begin_ns(figures[index + 1]))
        if until_ns <= reached_ns:
            continue
        older = (figure.fetched_wall_ns or 0) < factor.fetched_wall_ns
        if older and figure.g_per_kwh != factor.g_per_kwh:
            return None
        weighed += figure.g_per_kwh * (until_ns - reached_ns)
        if reached_ns == begin_ns and until_ns >= end_ns:
            return figure.g_per_kwh  # exactly, without a quotient in between
        reached_ns = until_ns
    return weighed / (end_ns - begin_ns) if reached_ns >= end_ns else None


def _begin_ns(figure: Intensity) -> int:
    return figure.valid_from_wall_ns or 0
