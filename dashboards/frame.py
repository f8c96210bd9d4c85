"""What every dashboard has: variables, links to the others, alerts as annotations."""

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.models import dashboard

from dashboards.panels import PROMETHEUS, Link, Panel

TAG: Final = "wattspan"
RUNBOOKS: Final = "https://github.com/wattspan/wattspan/blob/main/alerts/RUNBOOKS.md"
ALERT_NAMES: Final = 'alertname=~"Wattspan.+"'

IN_CLUSTER: Final = 'cluster=~"$cluster"'
"""Matches with and without a label `cluster`: all is `.*`."""

_KEEP: Final = "${datasource:queryparam}&${cluster:queryparam}&${__url_time_range}"

_TRACE_PANES: Final = (
    "%7B%22t%22:%7B%22datasource%22:%22${traces}%22,%22queries%22:%5B%7B%22refId%22:%22A%22,"
    "%22datasource%22:%7B%22type%22:%22tempo%22,%22uid%22:%22${traces}%22%7D,%22queryType%22:%22traceql%22,"
    "%22query%22:%22${__data.fields.Trace}%22%7D%5D,"
    "%22range%22:%7B%22from%22:%22${__from}%22,%22to%22:%22${__to}%22%7D%7D%7D"
)
"""One pane of Explore: the trace in the data source `traces`."""


def to_node(field: str = "Node") -> Link:
    """To the node that a line names; `field` is the heading of the column."""
    return Link("Look at this node", f'/d/wattspan-node?var-node=${{__data.fields["{field}"]}}&{_KEEP}')


def to_run(field: str = "Run") -> Link:
    """To the run that a line names."""
    return Link("Look at this run", f'/d/wattspan-run?var-run=${{__data.fields["{field}"]}}&{_KEEP}')


TO_NODE_BY_LABEL: Final = Link(
    "Look at this node", f"/d/wattspan-node?var-node=${{__field.labels.instance}}&{_KEEP}"
)
TO_RUN_BY_LABEL: Final = Link(
    "Look at this run", f"/d/wattspan-run?var-run=${{__field.labels.run_id}}&{_KEEP}"
)
TO_HEALTH: Final = Link("Look at the exporters", f"/d/wattspan-exporter?{_KEEP}")
TO_CARBON: Final = Link("Look at carbon and cost", f"/d/wattspan-carbon?{_KEEP}")
TO_TRACE: Final = Link("Open the trace", f"/explore?schemaVersion=1&orgId=${{__org.id}}&panes={_TRACE_PANES}")


def choice(
    name: str, label: str, about: str, metric: str, of: str, *, every: bool = False, multi: bool = False,
    hidden: bool = False,
) -> Any:  # fmt: skip
    """A variable with the values that a label has.

    Args:
        metric: a selector.
        of: the label.
        every: one may choose all of them, those without the label included.
        hidden: always all that there are, and nobody chooses: it narrows what a query reads.
    """
    query = f"label_values({metric}, {of})"
    variable = (
        builder.QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(PROMETHEUS)
        .query({"qryType": 1, "query": query, "refId": f"values-of-{name}"})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(multi)
        .include_all(every)
    )
    if every:
        variable.all_value(".*")
    if hidden:
        variable.hide(dashboard.VariableHide.HIDE_VARIABLE).multi(True).include_all(True)
    if every or hidden:
        variable.current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    return variable


def source(name: str, label: str, about: str, kind: str) -> Any:
    """A variable that chooses a data source of this kind."""
    return builder.DatasourceVariable(name).label(label).description(about).type(kind)


DATASOURCE: Final = source(
    "datasource", "Data source", "The Prometheus that scrapes the exporters.", "prometheus"
)
TRACES: Final = source("traces", "Trace data source", "The Tempo that spans of runs go to.", "tempo")
CLUSTER: Final = choice(
    "cluster",
    "Cluster",
    "Clusters by the target label; exporters without that label belong to All.",
    "wattspan_build_info",
    "cluster",
    every=True,
    multi=True,
)


def board(
    uid: str,
    title: str,
    about: str,
    variables: Sequence[Any],
    rows: Sequence[tuple[str, Sequence[Panel]]],
    *,
    alerts: str = "",
    since: str = "now-6h",
) -> dashboard.Dashboard:
    """The dashboard as Grafana loads it.

    Args:
        rows: heading and panels; panels fill the width of 24 from left to right.
        alerts: further label matchers of the alerts that are drawn as annotations.
        since: the time range at first.
    """
    frame = (
        builder.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .readonly()
        .timezone("utc")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("1m")
        .link(
            builder.DashboardLink("Wattspan")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .tooltip("The other dashboards, with the same range and variables")
            .include_vars(True)
            .keep_time(True)
        )
        .link(
            builder.DashboardLink("Runbooks")
            .type(dashboard.DashboardLinkType.LINK)
            .icon("doc")
            .url(RUNBOOKS)
            .tooltip("What each alert means and what to do")
            .target_blank(True)
        )
        .annotation(
            builder.AnnotationQuery()
            .name("Alerts")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("red")
            .expr(f"ALERTS{{{', '.join(filter(None, (_FIRING, alerts)))}}}")
            .step("60s")
            .title_format("{{alertname}}")
            .text_format("{{severity}} {{instance}} {{run_id}} {{pod_namespace}} {{project}} {{budget}}")
            .tag_keys("severity,instance,run_id")
        )
    )
    for variable in (DATASOURCE, *variables):
        frame.with_variable(variable)
    number = 0
    for heading, panels in rows:
        number += 1
        frame.with_row(builder.Row(heading).id(number))
        for panel in panels:
            number += 1
            frame.with_panel(panel.id(number))
    built = frame.build()
    for link in built.links or ():
        link.placement = None  # type: ignore[assignment]  # its default hides the link in a menu
    for annotation in built.annotations.list_val or ():
        annotation.placement = None  # type: ignore[assignment]
    return built


_FIRING: Final = f'alertstate="firing", {ALERT_NAMES}, {IN_CLUSTER}'
