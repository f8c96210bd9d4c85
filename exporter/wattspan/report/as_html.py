"""A report as one HTML page that needs nothing else: no script, no font, no image, no network. Pure."""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Final

from wattspan.report import charts, quantities, rows
from wattspan.report.figures import Missing
from wattspan.report.markup import Markup, element, joined
from wattspan.report.report import Report

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The page's own content security policy: were something to slip through, it could load and run nothing."""

POINTS_MIN: Final = 2
"""A chart of fewer points says nothing that the figures do not."""


def text(report: Report) -> str:
    """The whole page."""
    run = report.record.run
    title = run.name or run.run_id
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="generator", content=f"wattspan {report.version}"),
        element("title", f"{title}: energy and carbon"),
        element("style", Markup((files("wattspan.report") / "page.css").read_text(encoding="utf-8"))),
    )
    page = element("html", head, element("body", element("main", _body(report, title))), lang="en")
    return f"<!doctype html>\n{page}\n"


def _body(report: Report, title: str) -> Iterator[Markup]:
    record = report.record
    outcome = record.result if record.ended_wall_ns is not None else "running"
    yield element(
        "header",
        element("h1", title, element("span", rows.result(report), class_=f"result {outcome}")),
        element("p", _place_and_time(report), class_="soft"),
    )
    yield element("div", _tiles(report), class_="tiles")
    yield from _charts(report)
    yield element(
        "div",
        (_section(title, _pairs(known)) for title, known in rows.figures(report)),
        _section("Carbon per unit of work", _pairs(per_unit)) if (per_unit := rows.sci(report)) else Markup(),
        _section("The run", _pairs(rows.identity(report))),
        class_="columns",
    )
    if priced_by := rows.priced_by(report):
        yield _section("Who priced the energy", _table(rows.PRICED_BY, priced_by, texts=3))
    if report.parts:
        yield _section("Whose energy, by which rule", _parts(report))
    if report.gpus:
        yield _section("GPUs", _gpus(report))
    yield _section("How sure this is", _statements(report))
    if missing := rows.missing(report):
        yield _section("What is missing, and why", _pairs(missing))
    yield element(
        "footer",
        (element("div", source) for source in report.sources),
        element("div", f"Made by wattspan {report.version} at {quantities.moment(report.made_wall_ns)}."),
    )


def _place_and_time(report: Report) -> str:
    record = report.record
    until = "now" if record.ended_wall_ns is None else quantities.moment(record.ended_wall_ns)
    began = quantities.moment(record.began_wall_ns).removesuffix(" UTC")
    return f"{record.node}, {began} to {until}, {quantities.duration(report.figures.duration_seconds)}"


def _tiles(report: Report) -> Iterator[Markup]:
    rates = {
        "joules_per_token": "Energy per token",
        "joules_per_sample": "Energy per sample",
        "joules_per_step": "Energy per step",
    }
    rate = next((name for name in rates if not isinstance(getattr(report.figures, name), Missing)), None)
    yield _tile(report, "energy_joules", "Energy")
    yield _tile(report, "co2e_grams", "CO2e, operational")
    yield _tile(report, "cost", "Cost")
    yield _tile(report, "gpu_utilization_ratio", "GPU utilization")
    if rate:
        yield _tile(report, rate, rates[rate])


def _tile(report: Report, name: str, label: str) -> Markup:
    kind = "none" if isinstance(getattr(report.figures, name), Missing) else None
    value = element("b", rows.shown(report, name), class_=kind)
    between = rows.range_of(report, name)
    spread = element("span", between, class_="soft range") if between else Markup()
    return element("div", element("span", label, class_="soft"), value, spread, class_="tile")


def _charts(report: Report) -> Iterator[Markup]:
    record = report.record
    points = [point for point in record.points if point.at_wall_ns > record.began_wall_ns]
    if len(points) < POINTS_MIN:
        yield _section(
            "Power over time", element("p", "There are too few points for a chart.", class_="soft")
        )
        return
    uuids = [gpu.uuid for gpu in report.gpus]
    bands = charts.power_bands(points, uuids, [_short(uuid) for uuid in uuids])
    if bands:
        yield _section(
            "GPU power, W",
            element("div", charts.power_chart(bands, points, record.began_wall_ns), class_="scroll"),
            _legend(bands) if len(bands) > 1 else Markup(),
        )
    intensity = charts.intensity_chart(points, record.began_wall_ns)
    if intensity is not None:
        yield _section("Carbon intensity of the grid, g/kWh", element("div", intensity, class_="scroll"))
        co2e = charts.co2e_chart(points, record.began_wall_ns)
        yield _section("CO2e since the run began, g", element("div", co2e, class_="scroll"))


def _legend(bands: Iterable[charts.Band]) -> Markup:
    return element(
        "p",
        (element("span", _swatch(band.hue), band.label, class_="name") for band in bands),
        class_="legend soft",
    )


def _swatch(hue: int) -> Markup:
    return element("span", class_=f"swatch hue{hue}")


def _parts(report: Report) -> Markup:
    return _table(
        ("component", "rule", "energy", "of the run"),
        (
            (
                part.component,
                part.attribution,
                quantities.energy(part.energy_joules),
                quantities.percent(part.ratio),
            )
            for part in report.parts
        ),
    )


def _gpus(report: Report) -> Markup:
    hues = charts.hues_of(len(report.gpus))
    return _table(
        ("GPU", "model", "energy", "of the GPUs"),
        (
            (
                joined(_swatch(hue), gpu.uuid),
                gpu.model,
                quantities.energy(gpu.energy_joules),
                quantities.percent(gpu.ratio),
            )
            for gpu, hue in zip(report.gpus, hues, strict=True)
        ),
    )


def _statements(report: Report) -> Markup:
    said = (
        joined(element("dt", statement.topic), element("dd", statement.text))
        for statement in report.statements
    )
    return joined(
        element("dl", said), element("ul", (element("li", omission) for omission in report.omissions))
    )


def _section(title: str, *content: Markup) -> Markup:
    return element("section", element("h2", title), *content)


def _pairs(pairs: Iterable[rows.Row]) -> Markup:
    body = (element("tr", element("th", label, scope="row"), element("td", shown)) for label, shown in pairs)
    return element("table", element("tbody", body), class_="pairs")


def _table(head: tuple[str, ...], body: Iterable[tuple[str, ...]], texts: int = 2) -> Markup:
    """Columns of text, then numbers."""
    classes = (*(None for _ in head[:texts]), *("number" for _ in head[texts:]))
    return element(
        "div",
        element(
            "table",
            element(
                "thead",
                element(
                    "tr", (element("th", cell, class_=kind) for cell, kind in zip(head, classes, strict=True))
                ),
            ),
            element(
                "tbody",
                (
                    element(
                        "tr",
                        (element("td", cell, class_=kind) for cell, kind in zip(row, classes, strict=True)),
                    )
                    for row in body
                ),
            ),
        ),
        class_="scroll",
    )


def _short(uuid: str) -> str:
    """``GPU-1a2b3c4d``: enough to tell the GPUs of a node apart."""
    return uuid if len(uuid) <= 16 else "-".join(uuid.split("-")[:2])
