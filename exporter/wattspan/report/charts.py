"""Charts of a run as SVG, drawn from its points. Pure.

Time runs from the run's begin to its end. Colours are classes that the page's style sheet defines, so that
light, dark and print each have their own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from wattspan.report.markup import Markup, element, joined
from wattspan.runs import Point
from wattspan.units import NS_PER_S, UW_PER_W

WIDTH: Final = 860
HEIGHT: Final = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 26, 10, 36

HUES: Final = 8
"""Colours that are told apart side by side; whoever comes later is drawn together, in grey."""

_TIME_STEPS_S: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600 * hours for hours in (1, 2, 3, 6, 12)),
    *(86_400 * days for days in (1, 2, 7, 14, 28, 56, 112, 364)),
)

_NOTHING: Final = 1e-9
"""Watts or grams that no axis is made for."""


@dataclass(frozen=True, slots=True)
class Band:
    """A layer of a stacked chart.

    Attributes:
        label: for people.
        hue: 1 to `HUES`; 0 for grey.
        values: one for each point.
    """

    label: str
    hue: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things are: time to x, value to y."""

    began_wall_ns: int
    ended_wall_ns: int
    top: float

    def x(self, wall_ns: int) -> str:
        span = max(self.ended_wall_ns - self.began_wall_ns, 1)
        inside = min(max(wall_ns, self.began_wall_ns), self.ended_wall_ns) - self.began_wall_ns
        return _number(_LEFT + (WIDTH - _LEFT - _RIGHT) * inside / span)

    def y(self, value: float) -> str:
        return _number(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self.top)


def hues_of(count: int) -> tuple[int, ...]:
    """A hue for each of so many things; when there are too many, the last ones share grey."""
    told = count if count <= HUES else HUES - 1
    return (*range(1, told + 1), *(0 for _ in range(count - told)))


def power_bands(points: Sequence[Point], uuids: Sequence[str], labels: Sequence[str]) -> tuple[Band, ...]:
    """Watts by GPU; those without a hue of their own are one band."""
    bands = []
    grey = []
    for uuid, label, hue in zip(uuids, labels, hues_of(len(uuids)), strict=True):
        if hue:
            watts = tuple(point.power_uw.get(uuid, 0) / UW_PER_W for point in points)
            bands.append(Band(label, hue, watts))
        else:
            grey.append(uuid)
    if grey:
        watts = tuple(sum(point.power_uw.get(uuid, 0) for uuid in grey) / UW_PER_W for point in points)
        bands.append(Band(f"{len(grey)} others", 0, watts))
    return tuple(bands)


def power_chart(bands: Sequence[Band], points: Sequence[Point], began_wall_ns: int) -> Markup:
    """Power over time, one layer a GPU: the area is the energy. Each point holds since the one before."""
    times = [began_wall_ns, *(point.at_wall_ns for point in points)]
    totals = [sum(values) for values in zip(*(band.values for band in bands), strict=True)]
    frame = _frame(began_wall_ns, times[-1], max(totals))
    below = [0.0] * len(points)
    layers = []
    for band in bands:
        above = [base + value for base, value in zip(below, band.values, strict=True)]
        outline = [*_staircase(frame, times, above), *reversed(list(_staircase(frame, times, below)))]
        layers.append(
            element(
                "path",
                element("title", band.label),
                d=f"M{'L'.join(outline)}Z",
                class_=f"layer hue{band.hue}",
            )
        )
        below = above
    return _chart("Power by GPU over time, stacked", frame, layers)


def intensity_chart(points: Sequence[Point], began_wall_ns: int) -> Markup | None:
    """The grid's intensity as it was in force; a gap where none was known. None without any."""
    known = [point.intensity_g_per_kwh for point in points if point.intensity_g_per_kwh is not None]
    if not known:
        return None
    frame = _frame(began_wall_ns, points[-1].at_wall_ns, max(known))
    pieces: list[str] = []
    open_piece = False
    since_wall_ns = began_wall_ns
    for point in points:
        intensity = point.intensity_g_per_kwh
        if intensity is not None:
            y = frame.y(intensity)
            pieces.append(
                f"{'L' if open_piece else 'M'}{frame.x(since_wall_ns)},{y}L{frame.x(point.at_wall_ns)},{y}"
            )
        open_piece = intensity is not None
        since_wall_ns = point.at_wall_ns
    line = element("path", d="".join(pieces), class_="line")
    return _chart("Carbon intensity of the grid over time", frame, [line])


def co2e_chart(points: Sequence[Point], began_wall_ns: int) -> Markup:
    """Grams since the run began."""
    frame = _frame(began_wall_ns, points[-1].at_wall_ns, max(point.co2e_g for point in points))
    corners = [f"{frame.x(began_wall_ns)},{frame.y(0)}"]
    corners += [f"{frame.x(point.at_wall_ns)},{frame.y(point.co2e_g)}" for point in points]
    area = [*corners, f"{frame.x(points[-1].at_wall_ns)},{frame.y(0)}"]
    layers = [
        element("path", d=f"M{'L'.join(area)}Z", class_="area"),
        element("path", d=f"M{'L'.join(corners)}", class_="line"),
    ]
    return _chart("CO2e since the run began", frame, layers)


def _chart(title: str, frame: _Frame, layers: Sequence[Markup]) -> Markup:
    return element(
        "svg",
        element("title", title),
        _grid(frame),
        *layers,
        _clock(frame),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=title,
    )


def _grid(frame: _Frame) -> Markup:
    marks = []
    step = frame.top / round(frame.top / _nice(frame.top / 4))
    for number in range(round(frame.top / step) + 1):
        value = number * step
        y = frame.y(value)
        marks.append(
            element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="rule" if number else "axis")
        )
        marks.append(element("text", f"{value:,.10g}", x=_LEFT - 8, y=y, dy="0.32em", text_anchor="end"))
    return joined(marks)


def _clock(frame: _Frame) -> Markup:
    """Marks at round times of UTC, with the date wherever it is a new one."""
    marks = []
    date = ""
    times = _round_times(frame.began_wall_ns, frame.ended_wall_ns)
    form = "%H:%M:%S" if times.step % (60 * NS_PER_S) else "%H:%M"
    for wall_ns in times:
        moment = datetime.fromtimestamp(wall_ns // NS_PER_S, UTC)
        x = frame.x(wall_ns)
        marks.append(element("line", x1=x, x2=x, y1=HEIGHT - _BOTTOM, y2=HEIGHT - _BOTTOM + 4, class_="axis"))
        marks.append(element("text", f"{moment:{form}}", x=x, y=HEIGHT - _BOTTOM + 17, text_anchor="middle"))
        if f"{moment:%Y-%m-%d}" != date:
            date = f"{moment:%Y-%m-%d}"
            marks.append(element("text", date, x=x, y=HEIGHT - 4, text_anchor="middle"))
    return joined(marks)


def _round_times(began_wall_ns: int, ended_wall_ns: int) -> range:
    seconds = (ended_wall_ns - began_wall_ns) / NS_PER_S
    step_s = next((step_s for step_s in _TIME_STEPS_S if seconds / step_s <= 8), _TIME_STEPS_S[-1])
    step_ns = step_s * NS_PER_S
    first_ns = -(-began_wall_ns // step_ns) * step_ns
    return range(first_ns, ended_wall_ns + 1, step_ns)


def _frame(began_wall_ns: int, ended_wall_ns: int, highest: float) -> _Frame:
    step = _nice(highest / 4) if highest > _NOTHING else 1.0
    return _Frame(
        began_wall_ns, max(ended_wall_ns, began_wall_ns + 1), max(math.ceil(highest / step), 1) * step
    )


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 and 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if value <= factor * power * 1.000001)


def _staircase(frame: _Frame, times: Sequence[int], values: Sequence[float]) -> Iterator[str]:
    """Corners of a line that holds each value from one time to the next."""
    for since, until, value in zip(times, times[1:], values, strict=False):
        y = frame.y(value)
        yield f"{frame.x(since)},{y}"
        yield f"{frame.x(until)},{y}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
