"""Markdown, JSON, CSV and HTML: the same report, whole and harmless in each."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.samples import BEGAN_WALL_NS, GPUS, bare, reported, simple, training
from wattspan.journal.figures import Revision
from wattspan.report import SCHEMA, as_csv, as_html, as_json, as_markdown, charts, report_of
from wattspan.runs import PodRef, Point, Progress, Run, RunRecord
from wattspan.units import NS_PER_S

SCHEMA_DOCUMENT: dict[str, Any] = json.loads((files("wattspan.report") / "report.schema.json").read_text())

HOSTILE = '<script>alert("1")</script>&amp; ](http://x) `x` |\n\x1b[31m =1+1'


def hostile() -> RunRecord:
    """A run whose every text was chosen by somebody who means harm."""
    record = training()
    return replace(
        record,
        run=replace(
            record.run, name=HOSTILE, project=HOSTILE, group="=cmd()", framework=HOSTILE, user=HOSTILE
        ),
        node=HOSTILE,
        cluster=HOSTILE,
        result="failure",
        error_type=HOSTILE,
        pods=(PodRef(HOSTILE, HOSTILE, HOSTILE),),
        gpus=dict.fromkeys(record.gpus, HOSTILE),
        providers=(HOSTILE,),
        currency=HOSTILE,
        factors=tuple(
            replace(factor, provider=HOSTILE, grid_zone=HOSTILE, origin=HOSTILE) for factor in record.factors
        ),
        calibrations={uuid: replace(one, provenance=HOSTILE) for uuid, one in record.calibrations.items()},
    )


def records() -> list[RunRecord]:
    """One of each kind."""
    running = replace(training(), ended_wall_ns=None, result=None)
    loss = replace(simple(), progress=Progress(steps=1, loss=float("nan")))
    return [training(), simple(), bare(), running, hostile(), loss]


@pytest.mark.parametrize("record", records())
def test_json_is_of_its_schema(record: RunRecord) -> None:
    """Every document is what the schema in the package says, is JSON without NaN, and names its version."""
    document = json.loads(json.dumps(as_json.document(reported(record)), allow_nan=False))
    jsonschema_rs.validate(SCHEMA_DOCUMENT, document, validate_formats=True)
    assert document["schema"] == SCHEMA == "wattspan.report/2"
    null = {name for name, number in document["figures"].items() if number is None}
    assert set(document["missing"]) == null


def test_schema_describes_every_member() -> None:
    """Nothing is written that the schema does not explain, and nothing is explained that is not written."""

    def compare(schema: dict[str, Any], value: Any, where: str) -> None:
        if "items" in schema:
            for item in value:
                compare(schema["items"], item, where)
        for name in (properties := schema.get("properties", {})):
            assert set(properties) == set(value) == set(schema["required"]), where
            assert {"description", "const", "properties"} & set(properties[name]), f"{where}.{name}"
            compare(properties[name], value[name], f"{where}.{name}")

    record = replace(training(), pods=(PodRef("nlp", "sft-0", "main"),))
    compare(SCHEMA_DOCUMENT, as_json.document(reported(record)), "report")


def test_json_holds_the_run_exactly() -> None:
    """Parts add up to the energy, and points are the record's in base units."""
    document = as_json.document(reported(training()))
    total = sum(part["energy_joules"] for part in document["energy"])
    assert total == pytest.approx(document["figures"]["energy_joules"], rel=1e-12)
    assert len(document["points"]) == len(training().points)
    assert document["points"][0]["power_watts"][next(iter(GPUS))] == pytest.approx(645.9, abs=0.1)
    assert document["run"]["trace_id"] == "10a0f24ade246dbd4df64ef9e7161cfd"


def test_csv_is_one_row_for_each_attempt() -> None:
    """Every report is a row under the same header; figures are numbers, and empty where they are missing."""
    text = as_csv.text([reported(training()), reported(bare()), reported(hostile())])
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 3
    assert {row["schema"] for row in rows} == {SCHEMA}
    assert float(rows[0]["energy_joules"]) == reported(training()).figures.energy_joules
    assert rows[0]["attributions"] == "cpu_time;exclusive"
    assert (rows[1]["energy_joules"], rows[1]["ended_at"], rows[1]["state"]) == ("", "", "running")
    assert rows[2]["name"] == HOSTILE


def test_csv_is_no_formula() -> None:
    """What a spreadsheet would run is made text."""
    for text in ("=1+1", "+1", "-1", "@x", "\tx"):
        record = simple(run=Run("sft", name=text, nodes_expected=1))
        (row,) = csv.DictReader(io.StringIO(as_csv.text([reported(record)]), newline=""))
        assert row["name"] == f"'{text}"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x;=HYPERLINK(1)", "x;'=HYPERLINK(1)"),
        ('x;"=1"', 'x;\'"=1"'),
        ("x; =1", "x;' =1"),
        ("x\t@y", "x\t'@y"),
        ("llama-3;v=1+1", "llama-3;v=1+1"),
    ],
)
def test_csv_is_no_formula_where_a_semicolon_parts_cells(name: str, told: str) -> None:
    """A locale that splits lines at semicolons or tabs finds no formula, whatever quotes mean to it."""
    text = as_csv.text([reported(simple(run=Run("sft", name=name, nodes_expected=1)))])
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["name"] == told
    assert all(re.match(r'["\s]*[=+@-]', cell) is None for cell in re.split(r"[;\t]", text))


def test_csv_quotes_texts_and_no_figures() -> None:
    """So that no reader takes an id for a number, nor a missing figure for an empty text."""
    _, line = as_csv.text([reported(simple(run=Run("007")))]).splitlines()
    assert line.startswith(f'"{SCHEMA}","007",0,"')
    assert ",," in line
    assert '""' in line


def test_csv_columns_are_a_promise() -> None:
    """The columns of version 2, in their order; new ones come after them."""
    assert as_csv.COLUMNS[:18] == (
        *("schema", "run_id", "attempt", "trace_id", "name", "project", "group", "framework", "source"),
        *("namespace", "node", "cluster", "state", "result", "error_type", "began_at", "ended_at"),
        "duration_seconds",
    )
    assert as_csv.COLUMNS[-21:] == (
        "attributions",
        *(
            f"{name}_{edge}"
            for name in ("energy_joules", "co2e_grams", "embodied_co2e_grams", "market_co2e_grams")
            for edge in ("low", "high")
        ),
        *("water_liters_low", "water_liters_high", "cost_low", "cost_high"),
        *("intensity_uncertainty_ratio", "signals"),
        *("sci_grams_per_run", "sci_grams_per_step", "sci_grams_per_sample", "sci_grams_per_token"),
        *("revised_co2e_grams", "user"),
    )


def test_csv_has_ranges_and_what_may_be_called_sci() -> None:
    """Edges of ranges stand in their columns; grams per unit only where no term of SCI is missing."""
    text = as_csv.text([reported(training()), reported(simple())])
    whole, without = csv.DictReader(io.StringIO(text, newline=""))
    assert float(whole["co2e_grams_low"]) < float(whole["co2e_grams"]) < float(whole["co2e_grams_high"])
    assert float(whole["sci_grams_per_step"]) == pytest.approx(
        (float(whole["co2e_grams"]) + float(whole["embodied_co2e_grams"])) / 10_000
    )
    assert (without["sci_grams_per_step"], without["cost_low"]) == ("", "")


def test_markdown_tells_figures_and_reasons() -> None:
    """What is known stands in tables, what is missing with its reason, and whose figures were used below."""
    text = as_markdown.text(reported(simple()))
    assert "| energy " in text
    assert "1.00 kWh" in text
    assert "- cost: no electricity price is configured (cost.price-per-kwh)" in text
    assert "CC BY 4.0" in text
    assert "| CO2e, operational          | 400 g (266 to 534 g)" in text
    assert "400 g operational only, not SCI (E, M missing)" in text
    assert text.endswith("Made by wattspan 1.2.3 at 2026-10-01 21:00:00 UTC.\n")


def test_markdown_tables_are_whole() -> None:
    """Every row of a table has the cells of its head and ends where the others do, whatever is in it."""
    for record in records():
        block: list[str] = []
        for line in [*as_markdown.text(reported(record)).splitlines(), ""]:
            if line.startswith("|"):
                block.append(line)
                continue
            cells = {len(re.findall(r"(?<!\\)\|", row)) for row in block}
            assert len(cells) <= 1
            assert len({len(row) for row in block}) <= 1
            block = []


def test_markdown_is_harmless() -> None:
    """Names from outside bring no markup, no control characters and no lines of their own."""
    text = as_markdown.text(reported(hostile()))
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)<script", text)
    assert not re.search(r"(?<!\\)\]\(", text)
    assert not re.search(r"(?<!\\)`", text)


def test_who_priced_what_is_a_table() -> None:
    """Each provider has its line with share, held part and grams; energy that nobody priced has one too."""
    record = training()
    totals = replace(record.totals, unpriced_uj=sum(record.totals.energy_uj.values()) // 10)
    for text in (
        as_markdown.text(reported(replace(record, totals=totals))),
        " ".join(Page.of(as_html.text(reported(replace(record, totals=totals)))).text),
    ):
        assert "carbonintensity" in text
        assert "average, lifecycle, estimated, 16.7 % held" in text
        assert re.search(r"nobody\W+unpriced\W+[0-9.]+ kWh\W+10 %", text)
    assert "Who priced the energy" not in as_markdown.text(reported(simple()))


def test_revised_history_is_told_in_every_format() -> None:
    """What the grams would be with the figures that are known now stands beside them, and changes none."""
    record = training()
    revised = report_of(record, [0], BEGAN_WALL_NS, "1", revision=Revision(9_000.0, 3, 0, let_go=1))
    said = "With figures revised since: 9.00 kg instead of 9.86 kg (3 of 6 factors)."
    gone = "Some figures of this time are no longer kept"
    document = as_json.document(revised)
    page = " ".join(Page.of(as_html.text(revised)).text)
    (row,) = csv.DictReader(io.StringIO(as_csv.text([revised]), newline=""))
    for text in (as_markdown.text(revised), page, json.dumps(document["statements"])):
        assert said in text
        assert gone in text
    assert (document["carbon"]["revised_co2e_grams"], document["carbon"]["revised_factors"]) == (9_000.0, 3)
    assert row["revised_co2e_grams"] == "9000.0"
    assert revised.figures == report_of(record, [0], BEGAN_WALL_NS, "1").figures
    jsonschema_rs.validate(SCHEMA_DOCUMENT, document, validate_formats=True)


def test_report_without_revision_says_nothing_of_one() -> None:
    """Where nothing was revised, nobody looked, or there are no factors, there is no sentence of it."""
    same = Revision(9_856.0, 0, 0)
    for record, revision in ((training(), same), (training(), None), (simple(), same)):
        report = report_of(record, [0], BEGAN_WALL_NS, "1", revision=revision)
        assert not [each for each in report.statements if each.topic == "revised figures"]
        document = as_json.document(report)
        assert (document["carbon"]["revised_factors"] is None) == (report.revision is None)


class Page(HTMLParser):
    """What a page is made of: open elements must be closed in their order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "link"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text.append(data)

    @classmethod
    def of(cls, text: str) -> "Page":
        """A page that is whole."""
        page = cls()
        page.feed(text)
        page.close()
        assert not page._open
        return page


@pytest.mark.parametrize("record", records())
def test_html_is_whole_and_self_contained(record: RunRecord) -> None:
    """Every element is closed; nothing is loaded from anywhere, and nothing can run."""
    text = as_html.text(reported(record))
    page = Page.of(text)
    allowed = {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "div"),
        *("h1", "h2", "p", "b", "span", "dl", "dt", "dd", "ul", "li"),
        *("table", "thead", "tbody", "tr", "th", "td", "svg", "path", "line", "text"),
    }
    assert set(page.elements) <= allowed
    assert {name for name, _ in page.attributes} & {"src", "href", "style", "onclick", "onload"} == set()
    assert "url(" not in text
    assert "@import" not in text
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_html_shows_texts_as_they_are() -> None:
    """What somebody chose as a name is read as that name, and is no element."""
    page = Page.of(as_html.text(reported(hostile())))
    assert "script" not in page.elements
    assert HOSTILE in page.text


def test_html_draws_the_run() -> None:
    """One layer for each GPU, a line of the intensity, and the grams as they grew."""
    page = Page.of(as_html.text(reported(training())))
    assert page.elements.count("svg") == 3
    kinds = [value for name, value in page.attributes if name == "class"]
    assert [kind for kind in kinds if kind.startswith("layer")] == [f"layer hue{n}" for n in range(1, 9)]
    assert {"2026-10-01", "12:00", "18:00", "6,000", "10,000"} <= set(page.text)


def test_html_of_a_run_without_points_says_so() -> None:
    """No chart is drawn of nothing."""
    text = as_html.text(reported(bare()))
    assert "<svg" not in text
    assert "too few points for a chart" in text


def test_run_without_intensity_has_no_chart_of_it() -> None:
    """Neither an intensity nor grams of none are drawn; power is."""
    points = tuple(replace(point, intensity_g_per_kwh=None) for point in training().points)
    page = Page.of(as_html.text(reported(replace(training(), points=points))))
    assert page.elements.count("svg") == 1


def corners(svg: str, kind: str) -> list[tuple[float, float]]:
    """The points of a path in a chart."""
    match = re.search(rf'<path d="M([^"]*)" class="{kind}"', svg) or re.search(
        rf'<path d="M([^"]*)Z" class="{kind}"', svg
    )
    assert match
    pairs = re.split("[ML]", match[1].rstrip("Z"))
    return [(float(x), float(y)) for x, _, y in (pair.partition(",") for pair in pairs)]


def test_area_of_the_power_chart_is_the_energy() -> None:
    """A point's power holds since the point before, so that each rectangle is an energy."""
    points = (
        Point(BEGAN_WALL_NS + 100 * NS_PER_S, {"GPU-a": 100_000_000}, None, 0.0),
        Point(BEGAN_WALL_NS + 400 * NS_PER_S, {"GPU-a": 400_000_000}, None, 0.0),
    )
    bands = charts.power_bands(points, ["GPU-a"], ["a"])
    outline = corners(str(charts.power_chart(bands, points, BEGAN_WALL_NS)), "layer hue1")
    (x0, y0), (x1, y1), (x2, y2), (x3, y3), *base = outline
    floor = base[0][1]
    assert x1 == x2
    assert (x3 - x2) == pytest.approx(3 * (x1 - x0), rel=0.01)
    assert (y0, y2) == (y1, y3)
    assert (floor - y2) == pytest.approx(4 * (floor - y0), rel=0.01)


def test_layers_lie_on_one_another() -> None:
    """The lower edge of a layer is the upper edge of the one below."""
    points = training().points
    bands = charts.power_bands(points, list(GPUS), list(GPUS))
    svg = str(charts.power_chart(bands, points, BEGAN_WALL_NS))
    lower, upper = corners(svg, "layer hue1"), corners(svg, "layer hue2")
    half = len(lower) // 2
    assert upper[half:] == list(reversed(lower[:half]))


def test_gap_in_the_intensity_stays_a_gap() -> None:
    """Where no intensity was known no line is drawn."""
    known = (50.0, 60.0, None, None, 70.0)
    points = [
        Point(BEGAN_WALL_NS + n * NS_PER_S, {}, intensity, 0.0) for n, intensity in enumerate(known, start=1)
    ]
    chart = str(charts.intensity_chart(points, BEGAN_WALL_NS))
    match = re.search(r'<path d="([^"]*)" class="line"', chart)
    assert match
    assert match[1].count("M") == 2
    assert match[1].count("L") == 4


def test_more_gpus_than_colours_share_grey() -> None:
    """Sixteen GPUs are seven with a colour and nine together, and no watt is lost."""
    uuids = [f"GPU-{n}" for n in range(16)]
    points = (Point(BEGAN_WALL_NS + NS_PER_S, dict.fromkeys(uuids, 1_000_000), None, 0.0),)
    bands = charts.power_bands(points, uuids, uuids)
    assert [band.hue for band in bands] == [1, 2, 3, 4, 5, 6, 7, 0]
    assert bands[-1].label == "9 others"
    assert sum(band.values[0] for band in bands) == 16


@settings(max_examples=60, deadline=None)
@given(
    steps_ns=st.lists(st.integers(1, 10**16), min_size=2, max_size=12),
    watts=st.lists(st.integers(0, 10**10), min_size=12, max_size=12),
    intensity=st.none() | st.floats(0, 2000),
    grams=st.floats(0, 1e9),
)
def test_any_history_can_be_drawn(
    steps_ns: list[int], watts: list[int], intensity: float | None, grams: float
) -> None:
    """From nanoseconds to decades, from nothing to megawatts: a page, with few marks on its axes."""
    now = BEGAN_WALL_NS
    points = []
    for step_ns, uw in zip(steps_ns, watts, strict=False):
        now += step_ns
        points.append(Point(now, dict.fromkeys(GPUS, uw), intensity, grams))
    record = replace(training(), points=tuple(points), ended_wall_ns=now)
    page = Page.of(as_html.text(reported(record)))
    assert page.elements.count("text") < 100
    coordinates = [value for name, value in page.attributes if name in {"x", "y", "x1", "y1"}]
    assert all(0 <= float(value) <= charts.WIDTH for value in coordinates)
