"""Exporter health: the exporters watched by themselves. Can the figures be trusted, and if not, why?"""

from typing import Final

from grafana_foundation_sdk.models import dashboard

from dashboards import look
from dashboards.frame import CLUSTER, IN_CLUSTER, board, choice, to_node
from dashboards.panels import Column, Query, bars, course, stat, states, table
from dashboards.queries import RATE, how_many, kwh

NODES: Final = choice("node", "Node", "Nodes to look at.", f"wattspan_build_info{{{IN_CLUSTER}}}", "instance",
                      every=True, multi=True)  # fmt: skip
E: Final = f'{IN_CLUSTER}, instance=~"$node"'
UP: Final = f'up{{job=~".*wattspan.*", {E}}}'
OURS: Final = f'{{job=~".*wattspan.*", {E}}}'
AT_MOST: Final = 10
"""Lines in a panel: on a big fleet, the worst."""


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "wattspan-exporter",
        "Wattspan / Exporter health",
        "The exporters watched by themselves: scrapes, sources, journal, spans, hub and what they cost.",
        [CLUSTER, NODES],
        [
            ("Is something wrong?", _wrong()),
            ("Exporters", [_exporters(), _silent()]),
            ("Sources and plausibility", _sources()),
            ("Journal, spans and hub", _delivery()),
            ("What it costs", _cost()),
        ],
        since="now-1h",
    )


def _worst(expr: str) -> str:
    return f"topk({AT_MOST}, {expr})"


def _wrong() -> list[object]:
    return [
        stat("Silent", "Exporters that Prometheus cannot scrape.", look.COUNT,
             Query(how_many(UP, "== 0")), w=3, steps=look.ANY_IS_BAD, alarm=True),
        stat("Sources down", "Sources whose last read failed.", look.COUNT,
             Query(how_many(f"wattspan_source_up{{{E}}}", "== 0")), w=3, steps=look.ANY_IS_BAD,
             alarm=True),
        stat("Oldest commit", "Age of the journal that took its last tick longest ago: what is younger"
             " would be lost in a crash.", look.SECONDS,
             Query(f"max(time() - wattspan_journal_last_commit_timestamp_seconds{{{E}}})"), w=3, decimals=0,
             steps=look.OLD, alarm=True,
             empty="no journal"),
        stat("Spans waiting", "In the outboxes, for the collector.", look.COUNT,
             Query(f"sum(wattspan_spans_pending{{{E}}})"), w=3,
             steps=((None, look.GREY), (0, look.GREEN), (100, look.YELLOW), (1000, look.RED)), alarm=True,
             empty="spans are off"),
        stat("Left out", "Series that scrapes left out for the series budget, in the chosen range.",
             look.COUNT, Query(f"sum(increase(wattspan_series_dropped_total{{{E}}}[$__range]))"), w=3,
             steps=look.ANY_IS_ODD, alarm=True, decimals=0),
        stat("Not believed", "Intervals whose energy counter moved more than the card can draw, or back,"
             " in the chosen range.", look.COUNT,
             Query(f"sum(increase(wattspan_gpu_implausible_intervals_total{{{E}}}[$__range]))"), w=3,
             steps=look.ANY_IS_ODD, alarm=True, decimals=0, empty="no GPU"),
        stat("Self-check", "Furthest that an energy counter is from integrated power, in the last minute.",
             look.RATIO, Query(f"max(abs(wattspan_gpu_energy_check_ratio{{{E}}} - 1))"), w=3, decimals=1,
             steps=((None, look.GREY), (0, look.GREEN), (0.05, look.YELLOW), (0.1, look.RED)), alarm=True,
             empty="after a minute"),
        stat("Hub", "Whether the hub answers.", look.TEXT,
             Query(f"min(wattspan_hub_up{{{IN_CLUSTER}}})"), w=3, words=look.UP,
             steps=((None, look.GREY), (1, look.GREEN)), alarm=True, empty="no hub yet"),
    ]  # fmt: skip


def _exporters() -> object:
    by = "cluster, instance"
    return table(
        "Exporters", "One line each; sorted by the age of the oldest reading.",
        [
            Column("Node", "instance", link=to_node()),
            Column("Version", "version", width=85),
            Column("Python", "python_version", width=80),
            Column("Oldest reading", "A", look.SECONDS, width=125, decimals=1,
                   steps=look.OLD),
            Column("Scrape takes", "B", look.SECONDS, width=110, decimals=0,
                   steps=((None, look.GREY), (0, look.GREEN), (1, look.YELLOW), (5, look.RED))),
            Column("Series", "C", look.COUNT, width=80,
                   steps=((None, look.GREY), (0, look.GREEN), (2800, look.YELLOW), (3000, look.RED))),
            Column("Memory", "D", look.BYTES, width=100, decimals=0),
            Column("CPU", "E", look.RATIO, width=80, decimals=1),
            Column("Open files", "F", look.COUNT, width=95),
        ],
        Query(f"max by ({by}) (time() - wattspan_source_last_read_timestamp_seconds{{{E}}})"
              f" * on ({by}) group_left (version, python_version)"
              f" max by ({by}, version, python_version) (wattspan_build_info{{{E}}})"),
        Query(f"max by ({by}) (scrape_duration_seconds{OURS})"),
        Query(f"max by ({by}) (scrape_samples_post_metric_relabeling{OURS})"),
        Query(f"max by ({by}) (process_resident_memory_bytes{OURS})"),
        Query(f"max by ({by}) (rate(process_cpu_seconds_total{OURS}{RATE}))"),
        Query(f"max by ({by}) (process_open_fds{OURS})"),
        w=16, h=8, sort="Oldest reading", empty="no exporter is scraped: see the README, Quick start",
    )  # fmt: skip


def _silent() -> object:
    return course("Exporters that answer", "Of those that Prometheus knows.", look.COUNT,
                  Query(f"sum({UP})", "answer"), Query(f"count({UP})", "known"), w=8,
                  dashed=["known"], colours={"answer": look.GREEN, "known": look.GREY},
                  empty="no job with wattspan in its name")  # fmt: skip


def _sources() -> list[object]:
    return [
        states("Sources", "Green while the source reads well on every node; red when it fails on one.",
               Query(f"min by (source) (wattspan_source_up{{{E}}})", "{{source}}"), words=look.UP, w=8, h=7),
        course("Time that a read takes", "Mean by source, on the node where it is longest.", look.SECONDS,
               Query(f"max by (source) (rate(wattspan_sample_duration_seconds_sum{{{E}}}{RATE})"
                     f" / rate(wattspan_sample_duration_seconds_count{{{E}}}{RATE}))", "{{source}}"),
               w=8, h=7),
        bars("Reads that fail now", "Failed reads a second over all nodes, by source and reason.",
             look.PER_SECOND,
             Query("sort_desc(sum by (source, reason)"
                   f" (rate(wattspan_source_read_failures_total{{{E}}}{RATE})) > 0)"
                   f" or sum by (source) (rate(wattspan_source_read_failures_total{{{E}}}{RATE})) * 0",
                   "{{source}} {{reason}}"), w=8, h=7, steps=((None, look.GREY), (0, look.GREEN),
                                                             (0.001, look.RED))),
        course("Self-check of energy counters", "Energy counter over integrated power in the last minute:"
               " the lowest and the highest of all cards. Both belong near 1.", look.TEXT,
               Query(f"max(node:wattspan_gpu_energy_check_ratio:max{{{E}}})", "highest"),
               Query(f"min(node:wattspan_gpu_energy_check_ratio:min{{{E}}})", "lowest"), w=8, h=7, low=None,
               decimals=3, colours={"highest": look.ORANGE, "lowest": look.BLUE}, empty="after a minute"),
        course("Energy that belongs to nobody", "Share of a node's GPU energy that is unattributed, the"
               " worst nodes; the dashboard of the node tells the reasons.", look.RATIO,
               Query(_worst(f"max by (instance) (node:wattspan_gpu_unattributed:ratio_rate5m{{{E}}})"),
                     "{{instance}}"), w=8, h=7, empty="needs the recording rules of alerts/, a minute old"),
        course("Clock steps, energy without a figure", "Jumps of the wall clock an hour, and kilowatt-hours"
               " an hour for which no intensity was known (unpriced) or, where prices are set, no price"
               " (uncosted): all belong at 0.", look.COUNT,
               Query(f"sum(rate(wattspan_clock_steps_total{{{E}}}{RATE})) * {look.S_PER_H}", "clock steps"),
               Query(kwh(f"sum(rate(wattspan_unpriced_energy_joules_total{{{E}}}{RATE})) * {look.S_PER_H}"),
                     "unpriced kWh"),
               Query(kwh(f"sum(rate(wattspan_uncosted_energy_joules_total{{{E}}}{RATE})) * {look.S_PER_H}"),
                     "uncosted kWh"), w=8, h=7),
    ]  # fmt: skip


def _delivery() -> list[object]:
    return [
        course("Ticks that the journal took", "A second, the slowest nodes: it stands still where nothing"
               " is committed.", look.PER_SECOND,
               Query(f"bottomk({AT_MOST}, sum by (instance)"
                     f" (rate(wattspan_journal_commits_total{{{E}}}{RATE})))", "{{instance}}"), w=8,
               decimals=2),
        course("Spans", "A second: acknowledged by the collector, not wanted by it, dropped for want of"
               " room; and requests without an answer.", look.PER_SECOND,
               Query(f"sum(rate(wattspan_spans_exported_total{{{E}}}{RATE}))", "exported"),
               Query(f"sum(rate(wattspan_spans_rejected_total{{{E}}}{RATE}))", "rejected"),
               Query(f"sum(rate(wattspan_spans_dropped_total{{{E}}}{RATE}))"
                     f" or 0 * sum(wattspan_spans_pending{{{E}}})", "dropped"),
               Query(f"sum(rate(wattspan_span_export_failures_total{{{E}}}{RATE}))", "requests failed"), w=8,
               colours={"exported": look.GREEN, "rejected": look.ORANGE, "dropped": look.RED,
                        "requests failed": look.YELLOW}, empty="spans are off"),
        course("What waits", "Spans for the collector and records for the hub; a line that only rises is"
               " not being delivered.", look.COUNT,
               Query(f"sum(wattspan_spans_pending{{{E}}})", "spans"),
               Query(f"sum(wattspan_hub_records_pending{{{IN_CLUSTER}}})", "records for the hub"),
               Query(f"sum(increase(wattspan_hub_late_records_total{{{IN_CLUSTER}}}{RATE}))",
                     "records that came late"), w=8, empty="spans are off and there is no hub"),
    ]  # fmt: skip


def _cost() -> list[object]:
    return [
        course("CPU", "Of one core, the exporters that use most.", look.RATIO,
               Query(_worst(f"sum by (instance) (rate(process_cpu_seconds_total{OURS}{RATE}))"),
                     "{{instance}}"), w=6, decimals=1),
        course("Memory", "Resident, the biggest exporters.", look.BYTES,
               Query(_worst(f"sum by (instance) (process_resident_memory_bytes{OURS})"), "{{instance}}"),
               w=6),
        course("Time that a scrape takes", "As Prometheus sees it, the slowest exporters.", look.SECONDS,
               Query(_worst(f"max by (instance) (scrape_duration_seconds{OURS})"), "{{instance}}"), w=6),
        course("Series of a scrape", "The exporters with most; beyond its series budget (3,000 by"
               " default) an exporter drops the least important families.", look.COUNT,
               Query(_worst(f"max by (instance) (scrape_samples_post_metric_relabeling{OURS})"),
                     "{{instance}}"), w=6),
    ]  # fmt: skip
