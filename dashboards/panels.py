"""One function for each kind of panel, with the choices that are the same on every dashboard already made.

A panel has a title that says what it shows, a description (`about`), a unit,
and a text for when it has no data (`empty`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    bargauge,
    prometheus,
    statetimeline,
)
from grafana_foundation_sdk.builders import (
    common as common_builder,
)
from grafana_foundation_sdk.builders import (
    gauge as gauge_builder,
)
from grafana_foundation_sdk.builders import (
    stat as stat_builder,
)
from grafana_foundation_sdk.builders import (
    table as table_builder,
)
from grafana_foundation_sdk.builders import (
    timeseries as timeseries_builder,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards import look

PROMETHEUS: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
Panel = Any
"""A panel's builder; the packages of the builders share no type."""

Words = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        expr: PromQL with Grafana's variables.
        legend: what the series is called; labels in double braces.
        exemplars: whether points that lead to traces are asked for; only counters of runs carry them.
    """

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Link:
    """Where a value leads to.

    Attributes:
        title: shown when the value is clicked.
        url: with Grafana's variables.
    """

    title: str
    url: str


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: its heading.
        source: a label, or the letter of the query whose value it shows.
        unit: of a value; a label has none.
        steps: colours of the value's text.
        words: instead of numbers.
        link: where it leads to.
        bar: drawn as a bar from 0 to this.
        width: in pixels; else as wide as is left.
        decimals: else as many as fit.
    """

    name: str
    source: str
    unit: str = look.TEXT
    steps: look.Steps | None = None
    words: Words | None = None
    link: Link | None = None
    bar: float | None = None
    width: int | None = None
    decimals: int | None = None


def stat(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    w: int = 4,
    h: int = 4,
    steps: look.Steps = look.PLAIN,
    alarm: bool = False,
    empty: str = "no data yet",
    words: Words | None = None,
    link: Link | None = None,
    today: bool = False,
    decimals: int | None = None,
    names: bool = False,
    spark: bool = False,
) -> Panel:
    """One figure, or a few, of now.

    Args:
        alarm: the whole panel takes the colour, so that trouble is seen from afar.
        today: the range is the day so far (UTC), whatever range the dashboard shows.
        names: legends are shown beside the figures.
        spark: its course over the range is drawn behind it.
    """
    panel = (
        stat_builder.Panel()
        .color_mode(common.BigValueColorMode.BACKGROUND if alarm else common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA if spark else common.BigValueGraphMode.NONE)
        .justify_mode(common.BigValueJustifyMode.CENTER)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME if names else common.BigValueTextMode.VALUE)
        .orientation(common.VizOrientation.AUTO)
        .reduce_options(_last())
        .thresholds(_built(look.thresholds(steps)))
    )
    _dress(panel, title, about, unit, w, h, empty, decimals)
    for letter, query in _lettered(queries):
        panel.with_target(_target(letter, query, instant=not spark))
    if words:
        panel.mappings([look.words(words)])
    if link:
        panel.data_links([_link(link)])
    if today:
        panel.time_from("now/d").hide_time_override(True)
    return panel


def meter(
    title: str, about: str, *queries: Query, w: int = 4, h: int = 4, steps: look.Steps = look.FULL,
    empty: str = "no data yet", high: float = 1,
) -> Panel:  # fmt: skip
    """A share as an arc."""
    panel = (
        gauge_builder.Panel()
        .show_threshold_markers(True)
        .show_threshold_labels(False)
        .reduce_options(_last())
        .thresholds(_built(look.thresholds(steps)))
        .min(0)
        .max(high)
    )
    _dress(panel, title, about, look.RATIO, w, h, empty, 0)
    for letter, query in _lettered(queries):
        panel.with_target(_target(letter, query, instant=True))
    return panel


def course(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    w: int = 12,
    h: int = 8,
    stack: bool = False,
    colours: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
    low: float | None = 0,
    high: float | None = None,
    steps: look.Steps | None = None,
    empty: str = "no data in this range",
    link: Link | None = None,
    legend_values: bool = True,
    decimals: int | None = None,
    axis: str = "",
) -> Panel:
    """Figures over time.

    Args:
        stack: parts of a whole, on top of each other; their sum means something.
        colours: by legend; one between slashes is a regular expression.
        dashed: legends of limits and forecasts, likewise.
        steps: drawn as lines across.
        legend_values: the last value stands in the legend.
    """
    panel = (
        timeseries_builder.Panel()
        .draw_style(common.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(35 if stack else 8)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .axis_label(axis)
        .legend(
            common_builder.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull"] if legend_values else [])
        )
        .tooltip(
            common_builder.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .color_scheme(_built(dashboard.FieldColor(mode=dashboard.FieldColorModeId.PALETTE_CLASSIC)))
    )
    _dress(panel, title, about, unit, w, h, empty, decimals)
    if stack:
        panel.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    if steps:
        panel.thresholds(_built(look.thresholds(steps)))
        panel.thresholds_style(
            common_builder.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    else:
        panel.thresholds(_built(look.thresholds(look.PLAIN)))
    for letter, query in _lettered(queries):
        panel.with_target(_target(letter, query))
    for legend in dict.fromkeys((*(colours or {}), *dashed)):
        look_of_it = [*_dash(legend, dashed)]
        if legend in (colours or {}):
            look_of_it.append(_value("color", {"mode": "fixed", "fixedColor": (colours or {})[legend]}))
        _by_legend(panel, legend, look_of_it)
    if link:
        panel.data_links([_link(link)])
    return panel


def bars(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    w: int = 8,
    h: int = 8,
    steps: look.Steps | None = None,
    colours: Mapping[str, str] | None = None,
    low: float | None = 0,
    high: float | None = None,
    empty: str = "no data in this range",
    link: Link | None = None,
    decimals: int | None = None,
    above: bool = False,
) -> Panel:
    """Things side by side, one bar each.

    Args:
        above: names stand above the bars, for names that are long and bars that are few.
    """
    panel = (
        bargauge.Panel()
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .orientation(common.VizOrientation.HORIZONTAL)
        .value_mode(common.BarGaugeValueMode.TEXT)
        .show_unfilled(True)
        .name_placement(common.BarGaugeNamePlacement.TOP if above else common.BarGaugeNamePlacement.LEFT)
        .display_name("${__series.name}")  # else a bar that is alone has no name
        .sizing(common.BarGaugeSizing.AUTO)
        .min_viz_height(16)
        .max_viz_height(40)
        .reduce_options(_last())
        .thresholds(_built(look.thresholds(steps or ((None, look.BLUE),))))
        .color_scheme(_built(dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)))
    )
    _dress(panel, title, about, unit, w, h, empty, decimals)
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    for letter, query in _lettered(queries):
        panel.with_target(_target(letter, query, instant=True))
    for legend, colour in (colours or {}).items():
        panel.override_by_name(legend, [_value("color", {"mode": "fixed", "fixedColor": colour})])
    if link:
        panel.data_links([_link(link)])
    return panel


def states(
    title: str, about: str, *queries: Query, words: Words, w: int = 12, h: int = 6,
    empty: str = "no data in this range",
) -> Panel:  # fmt: skip
    """What was up and what was down, over time."""
    panel = (
        statetimeline.Panel()
        .merge_values(True)
        .show_value(common.VisibilityMode.NEVER)
        .align_value("left")  # type: ignore[arg-type]
        .row_height(0.8)
        .fill_opacity(70)
        .legend(
            common_builder.VizLegendOptions()
            .show_legend(False)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .mappings([look.words(words)])
        .color_scheme(_built(dashboard.FieldColor(mode=dashboard.FieldColorModeId.FIXED, fixed_color="text")))
        .thresholds(_built(look.thresholds(look.PLAIN)))
    )
    _dress(panel, title, about, look.TEXT, w, h, empty, None)
    for letter, query in _lettered(queries):
        panel.with_target(_target(letter, query))
    return panel


def table(
    title: str,
    about: str,
    columns: Sequence[Column],
    *queries: Query,
    w: int = 12,
    h: int = 8,
    sort: str = "",
    descending: bool = True,
    empty: str = "no data yet",
    limit: int | None = None,
) -> Panel:
    """What is true now, one thing a line. Queries have the same labels; a line is what agrees in them.

    Args:
        sort: heading of the column that decides the order.
        limit: lines at most, after sorting.
    """
    panel = (
        table_builder.Panel()
        .cell_height(common.TableCellHeight.SM)
        .show_header(True)
        .filterable(False)
        .thresholds(_built(look.thresholds(look.PLAIN)))
    )
    _dress(panel, title, about, look.TEXT, w, h, empty, None)
    if sort:
        panel.sort_by([common_builder.TableSortByFieldState().display_name(sort).desc(descending)])
    for letter, query in _lettered(queries):
        panel.with_target(_target(letter, query, instant=True).format(PromQueryFormat.TABLE))
    sources = {
        column.source: (
            column.source
            if len(column.source) > 1
            else f"Value #{column.source}" if len(queries) > 1 else "Value"
        )
        for column in columns
    }  # fmt: skip
    shown = {sources[column.source]: column for column in columns}
    steps = [dashboard.DataTransformerConfig(id_val="merge", options={})] if len(queries) > 1 else []
    steps.append(
        dashboard.DataTransformerConfig(
            id_val="filterFieldsByName", options={"include": {"names": list(shown)}}
        )
    )
    steps.append(
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {},
                "indexByName": {field: index for index, field in enumerate(shown)},
                "renameByName": {field: column.name for field, column in shown.items()},
            },
        )
    )
    if sort:
        steps.append(
            dashboard.DataTransformerConfig(
                id_val="sortBy", options={"fields": {}, "sort": [{"field": sort, "desc": descending}]}
            )
        )
    if limit:
        steps.append(dashboard.DataTransformerConfig(id_val="limit", options={"limitField": limit}))
    panel.transformations(steps)
    for column in columns:
        panel.override_by_name(column.name, list(_column(column)))
    return panel


def _dress(
    panel: Panel, title: str, about: str, unit: str, w: int, h: int, empty: str, decimals: int | None
) -> None:
    panel.title(title).description(about).unit(unit).no_value(empty).span(w).height(h).datasource(PROMETHEUS)
    if decimals is not None:
        panel.decimals(decimals)


def _target(letter: str, query: Query, *, instant: bool = False) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .datasource(PROMETHEUS)
        .ref_id(letter)
        .expr(query.expr)
        .legend_format(query.legend)
        .exemplar(query.exemplars)
    )
    return target.instant() if instant else target.range()


def _lettered(queries: Sequence[Query]) -> Iterable[tuple[str, Query]]:
    return zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", queries, strict=False)


def _last() -> common_builder.ReduceDataOptions:
    return common_builder.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def _column(column: Column) -> Any:
    yield _value("unit", column.unit)
    yield _value("noValue", "-")  # the panel's own text is for a table without lines
    if column.decimals is not None:
        yield _value("decimals", column.decimals)
    if column.width:
        yield _value("custom.width", column.width)
    if column.words:
        yield _value("mappings", [look.words(column.words)])
        yield _value("custom.cellOptions", {"type": "color-text"})
    if column.steps:
        yield _value("thresholds", look.thresholds(column.steps))
        yield _value("color", {"mode": "thresholds"})
        if column.bar is None:
            yield _value("custom.cellOptions", {"type": "color-text"})
    if column.bar is not None:
        yield _value("custom.cellOptions", {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})
        yield _value("color", {"mode": "fixed", "fixedColor": look.BLUE})
        yield _value("min", 0)
        yield _value("max", column.bar)
    if column.link:
        yield _value("links", [{"title": column.link.title, "url": column.link.url}])


def _by_legend(panel: Panel, legend: str, values: list[dashboard.DynamicConfigValue]) -> None:
    (panel.override_by_regexp if legend.startswith("/") else panel.override_by_name)(legend, values)


def _dash(legend: str, dashed: Sequence[str]) -> list[dashboard.DynamicConfigValue]:
    if legend not in dashed:
        return []
    return [
        _value("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
        _value("custom.fillOpacity", 0),
        _value("custom.stacking", {"mode": "none", "group": "B"}),
    ]


def _value(key: str, value: object) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val=key, value=value)


def _link(link: Link) -> Builder[Any]:
    return _built({"title": link.title, "url": link.url, "targetBlank": False})


class _built(Builder[Any]):  # noqa: N801 - reads as a word where the builders want a builder
    """What is built already, where a builder is asked for."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def build(self) -> Any:
        """As it is."""
        return self._what
