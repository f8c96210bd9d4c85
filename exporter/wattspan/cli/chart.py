"""The hours ahead as columns of text. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final

from wattspan.carbon import timeline
from wattspan.model import GreenWindow, Intensity
from wattspan.units import NS_PER_S

MINUTE_NS: Final = 60 * NS_PER_S
HOUR_NS: Final = 60 * MINUTE_NS

HEIGHT: Final = 8
"""Lines that the highest column takes."""

MIN_COLUMNS: Final = 12
"""Below it nothing can be seen; a terminal that is narrower breaks the lines."""

_LABEL: Final = 6
"""Columns of the scale at the left, with the space after it."""

_SLICES_MINUTES: Final = (5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440)
"""What one column may stand for."""

_WIDEST: Final = 3
"""So many columns may stand for one slice, where there is room."""

_TICKS_HOURS: Final = (1, 2, 3, 6, 12, 24)
_TICK_COLUMNS: Final = 7
"""Room for ``00:00`` and a gap."""

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_ROUND: Final = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10)
"""Ends of a scale; each can be halved twice."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What a chart is drawn with.

    Attributes:
        bar: a full column by how many eighths of a line it reaches up.
        wall, floor, corner, tick: of the axes.
        window: the greenest window.
    """

    bar: str
    wall: str
    floor: str
    corner: str
    tick: str
    window: str

    @classmethod
    def of(cls, encoding: str | None) -> "Marks":
        """Blocks where the stream can show them, else ASCII."""
        try:
            f"{BLOCKS.bar}{BLOCKS.wall}{BLOCKS.floor}{BLOCKS.corner}{BLOCKS.tick}{BLOCKS.window}".encode(
                encoding or "ascii"
            )
        except (UnicodeEncodeError, LookupError):
            return ASCII
        return BLOCKS


BLOCKS: Final = Marks(_EIGHTHS, "│", "─", "└", "┴", "━")
ASCII: Final = Marks("    #####", "|", "-", "+", "+", "=")


def chart(
    figures: Sequence[Intensity],
    now_wall_ns: int,
    window: GreenWindow | None,
    width: int,
    zone: tzinfo | None,
    marks: Marks,
) -> Iterator[str]:
    """The lines of a chart of intensity, from now at its left edge to the last figure; gaps stay empty.

    Args:
        figures: past to future, without overlaps; one at least ends after now.
        now_wall_ns: the wall clock.
        window: what to mark.
        width: columns of the terminal.
        zone: time zone of the labels; None for the machine's.
        marks: what to draw with.
    """
    columns = max(MIN_COLUMNS, width - _LABEL - 1)
    end_ns = timeline.until_ns(figures[-1])
    slice_ns = _slice_ns(end_ns - now_wall_ns, columns)
    count = -(-(end_ns - now_wall_ns) // slice_ns)
    each = max(1, min(_WIDEST, columns // count))
    starts = [now_wall_ns + number * slice_ns for number in range(count)]
    means = [_mean(figures, start, min(start + slice_ns, end_ns)) for start in starts]
    top = _top(max((mean for mean in means if mean is not None), default=0.0))

    yield f"{'g/kWh':>{_LABEL - 1}}"
    heights = [None if mean is None else round(mean / top * HEIGHT * 8) for mean in means]
    for line in range(HEIGHT - 1, -1, -1):
        bars = "".join(
            (" " if height is None else marks.bar[max(0, min(8, height - 8 * line))]) * each
            for height in heights
        )
        yield f"{_scale(line + 1, top)} {marks.wall}{bars}".rstrip()

    ticks = list(_ticks(now_wall_ns, slice_ns, each, count, zone))
    floor = [marks.floor] * (count * each)
    for column, _ in ticks:
        floor[column] = marks.tick
    yield f"{0:>{_LABEL - 1}} {marks.corner}{''.join(floor)}"
    margin = " " * (_LABEL + 1)
    if window is not None:
        first = (window.start_wall_ns - now_wall_ns) * each // slice_ns
        last = -(-(window.start_wall_ns + window.duration_ns - now_wall_ns) * each // slice_ns)
        yield margin + " " * first + marks.window * max(1, last - first)
    for labels in zip(*(labels for _, labels in ticks), strict=True):
        yield (margin + _placed([column for column, _ in ticks], labels, count * each)).rstrip()


def _slice_ns(span_ns: int, columns: int) -> int:
    """What one column stands for, so that all of the time has room."""
    for minutes in _SLICES_MINUTES:
        if -(-span_ns // (minutes * MINUTE_NS)) <= columns:
            return minutes * MINUTE_NS
    return -(-span_ns // columns)


def _mean(figures: Sequence[Intensity], begin_ns: int, end_ns: int) -> float | None:
    """Over what is known of a slice; None where nothing is."""
    total, known_ns = 0.0, 0
    for figure, part_ns in timeline.split(figures, end_ns - begin_ns, begin_ns, end_ns):
        if figure is not None:
            total += figure.g_per_kwh * part_ns
            known_ns += part_ns
    return total / known_ns if known_ns else None


def _top(highest: float) -> float:
    """The end of the scale: a round number that nothing goes beyond."""
    size = 1.0
    while size * 10 < highest:
        size *= 10
    return next((size * step for step in _ROUND if size * step >= highest), size * 10)


def _scale(line: int, top: float) -> str:
    """The figure beside a line, counted from the bottom; beside every other one."""
    if line % 2:
        return " " * (_LABEL - 1)
    return f"{top * line / HEIGHT:>{_LABEL - 1}.4g}"


def _ticks(
    now_wall_ns: int, slice_ns: int, each: int, count: int, zone: tzinfo | None
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Columns with a label of two lines: now, then full hours of the time zone, wide enough apart."""
    yield 0, ("now", f"{local(now_wall_ns, zone):%a}")
    hour_columns = HOUR_NS * each / slice_ns
    step = next((hours for hours in _TICKS_HOURS if hours * hour_columns >= _TICK_COLUMNS), 24)
    moment = local(now_wall_ns, zone).replace(minute=0, second=0, microsecond=0)
    day = moment.date()
    last_column = 0
    for _ in range(100 * 24):
        # By the clock that never jumps: an hour after 01:00 may be 03:00.
        moment = (moment.astimezone(UTC) + timedelta(hours=1)).astimezone(zone)
        column = (int(moment.timestamp()) * NS_PER_S - now_wall_ns) * each // slice_ns
        if column >= count * each:
            return
        if moment.hour % step == 0 and column - last_column >= _TICK_COLUMNS - 2:
            yield column, (f"{moment:%H:%M}", f"{moment:%a}" if moment.date() != day else "")
            day, last_column = moment.date(), column


def _placed(columns: Sequence[int], labels: Sequence[str], width: int) -> str:
    """Labels at their columns; one that would run over the end of the chart is left out."""
    line = ""
    for (column, label), following in pairwise([*zip(columns, labels, strict=True), (width + 2, "")]):
        if column + len(label) < following[0]:
            line = f"{line:<{column}}{label}"
    return line


def local(wall_ns: int, zone: tzinfo | None) -> datetime:
    """A moment by the clocks of a time zone; None for this machine's."""
    return datetime.fromtimestamp(wall_ns // NS_PER_S, UTC).astimezone(zone)
