"""Fleet: is something wrong and where; how much, of what, for whom, and how much of it for nothing."""

from typing import Final

from grafana_foundation_sdk.models import dashboard

from dashboards import look
from dashboards.frame import (
    ALERT_NAMES,
    CLUSTER,
    TO_CARBON,
    TO_HEALTH,
    board,
    to_node,
    to_run,
)
from dashboards.frame import (
    IN_CLUSTER as C,
)
from dashboards.panels import Column, Query, bars, course, stat, table
from dashboards.queries import (
    ALERT_OF,
    EXPORTERS,
    RATE,
    alerts,
    how_many,
    in_range,
    kwh,
    named,
    of_run,
    sum_by,
    this_month,
)

NEEDS_RULES: Final = "needs the recording rules of alerts/, a minute old"
NO_BUDGET: Final = "no budget: they need wattspan hub, which is not released yet"
BY_NODE: Final = "cluster, instance"
HORIZONS: Final = ("1h", "2h", "4h", "8h", "12h", "24h", "48h")

_SILENT: Final = sum_by(BY_NODE, f"1 - {EXPORTERS}")
_TROUBLES: Final = (
    sum_by(BY_NODE, f"1 - wattspan_gpu_up{{{C}}}"),
    sum_by(BY_NODE, f"1 - wattspan_source_up{{{C}}}"),
    sum_by(BY_NODE, f"node:wattspan_gpus_missing:count{{{C}}}"),
)
_SHARES: Final = f"cluster:wattspan_gpu_attributed_energy_joules:rate5m{{{C}}}"
_UNATTRIBUTED: Final = _SHARES.replace("{", '{share="unattributed", ')


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "wattspan-fleet",
        "Wattspan / Fleet",
        "Power, energy and carbon of all nodes. Start here; nodes and runs lead further.",
        [CLUSTER],
        [
            ("Is something wrong, and where?", [*_wrong(), _alerts(), _nodes()]),
            ("Now, today and this month", [*_totals(), *_now()]),
            ("Budgets and grid", [_budgets(), _intensity(), _forecast()]),
            ("Who uses it", [_runs(), _owners(), _leaderboard()]),
            ("What was for nothing, and how much is known", [*_waste(), _idle(), _coverage()]),
        ],
    )


def _wrong() -> list[object]:
    return [
        stat("Critical alerts", "Alerts of severity critical that fire now; the table below names them.",
             look.COUNT, Query(alerts("critical")), w=3, steps=look.ANY_IS_BAD, alarm=True, empty="no rules"),
        stat("Warnings", "Alerts of severity warning that fire now.",
             look.COUNT, Query(alerts("warning")), w=3, steps=look.ANY_IS_ODD, alarm=True, empty="no rules"),
        stat("Nodes silent", "Exporters that Prometheus knows and cannot scrape.",
             look.COUNT, Query(how_many(EXPORTERS, "== 0")),
             w=3, steps=look.ANY_IS_BAD, alarm=True, link=TO_HEALTH),
        stat("GPUs lost", "GPUs that do not answer their driver, or that it no longer lists, on nodes that"
             " answer.",
             look.COUNT, Query(" + ".join(f"({of} or 0 * count({EXPORTERS}))" for of in (
                 f"count(wattspan_gpu_up{{{C}}} == 0)", f"sum(node:wattspan_gpus_missing:count{{{C}}})"))),
             w=3, steps=look.ANY_IS_BAD, alarm=True),
        stat("Sources down", "Sources of readings (driver, RAPL, BMC ...) whose last read failed.",
             look.COUNT, Query(how_many(f"wattspan_source_up{{{C}}}", "== 0")),
             w=3, steps=look.ANY_IS_BAD, alarm=True, link=TO_HEALTH),
        stat("Oldest reading", "Age of the source that was read longest ago: figures are at most this old.",
             look.SECONDS, Query(f"max(time() - wattspan_source_last_read_timestamp_seconds{{{C}}})"),
             w=3, steps=look.OLD, alarm=True, decimals=0),
        stat("Unattributed", "Share of GPU energy of the last 5 minutes that belongs to no run, no pod"
             " and no idle card: foreign processes, gaps, implausible counters, a stopped exporter.",
             look.RATIO, Query(f"sum({_UNATTRIBUTED}) / sum({_SHARES})"),
             w=3, steps=look.SHARE_LOST, alarm=True, decimals=1, empty="no rules"),
        stat("Held, idle", "GPUs that a run or a pod holds and on which almost no kernel ran for 15"
             " minutes (utilization below 1 %).",
             look.COUNT,
             Query(how_many(f"wattspan_gpu_holders{{{C}}}", "> 0 and on (uuid)"
                            f" (avg_over_time(wattspan_gpu_utilization_ratio{{{C}}}[15m]) < 0.01)")),
             w=3, steps=look.ANY_IS_ODD, alarm=True),
    ]  # fmt: skip


def _alerts_that_are(state: str) -> str:
    which = f'ALERTS{{alertstate="{state}", {ALERT_NAMES}, {C}}}'
    return f"max by (alertname, alertstate, severity, {ALERT_OF}) ({which})"


def _alerts() -> object:
    return table(
        "Alerts", "Alerts that fire, and others that wait out their time (pending). The runbooks are"
        " linked at the top.",
        [
            Column("Alert", "alertname", width=215),
            Column("State", "alertstate", width=75,
                   words={"firing": ("firing", look.RED), "pending": ("pending", look.YELLOW)}),
            Column("Severity", "severity", width=80,
                   words={"critical": ("critical", look.RED), "warning": ("warning", look.YELLOW),
                          "info": ("info", look.BLUE)}),
            Column("Node", "instance", width=85, link=to_node()),
            Column("Run", "run_id", link=to_run()),
            Column("Namespace", "pod_namespace", width=95),
            Column("Budget", "budget", width=75),
        ],
        Query(f"{_alerts_that_are('firing')} or {_alerts_that_are('pending')}"
              f" unless on (alertname, {ALERT_OF}) {_alerts_that_are('firing')}"),
        sort="State", descending=False, empty="no alert fires or is pending",
    )  # fmt: skip


def _nodes() -> object:
    return table(
        "Nodes", "One line a node, trouble first: GPUs that are lost or missing and sources that are down, or"
        " the exporter itself.",
        [
            Column("Node", "instance", link=to_node()),
            Column("Trouble", "A", look.COUNT, steps=look.ANY_IS_BAD, width=75),
            Column("GPUs", "B", look.COUNT, width=60),
            Column("Power", "C", look.WATT, width=85, decimals=1),
            Column("CO2e / h", "D", look.GRAMS, width=85, decimals=1),
            Column("Unattributed", "E", look.RATIO, steps=look.SHARE_LOST, width=105, decimals=1),
            Column("Oldest read", "F", look.SECONDS, width=100, decimals=0, steps=look.OLD),
        ],
        Query(" + ".join((_SILENT, *(f"({trouble} or 0 * {_SILENT})" for trouble in _TROUBLES)))),
        Query(f"count by ({BY_NODE}) (wattspan_gpu_info{{{C}}})"),
        Query(sum_by(BY_NODE, f"wattspan_node_power_watts{{{C}}}")),
        Query(f"{sum_by(BY_NODE, f'rate(wattspan_node_co2e_grams_total{{{C}}}{RATE})')} * {look.S_PER_H}"),
        Query(f"max by ({BY_NODE}) (node:wattspan_gpu_unattributed:ratio_rate5m{{{C}}})"),
        Query(f"max by ({BY_NODE}) (time() - wattspan_source_last_read_timestamp_seconds{{{C}}})"),
        sort="Trouble", empty="no exporter is scraped: see the README, Quick start",
    )  # fmt: skip


def _totals() -> list[object]:
    energy, grams = "wattspan_node_energy_joules", "wattspan_node_co2e_grams"
    return [
        stat("Power now", "Measured power of all nodes: GPU, CPU and DRAM, each once.", look.WATT,
             Query(f"sum(wattspan_node_power_watts{{{C}}})"), w=3, decimals=1),
        stat("CO2e per hour", "Operational CO2e at the rate of the last minutes, PUE applied.", look.GRAMS,
             Query(f"sum(rate({grams}_total{{{C}}}{RATE})) * {look.S_PER_H}"), w=3, decimals=1),
        stat("Energy today", "Measured energy since midnight UTC.", look.KWH,
             Query(kwh(in_range(energy))), w=3, today=True, decimals=1,
             empty="no data today"),
        stat("CO2e today", "Operational CO2e since midnight UTC, PUE applied.", look.GRAMS,
             Query(in_range(grams)), w=3, today=True, decimals=1,
             empty="no data today"),
        stat("Energy, month", "Measured energy since the first of the month (UTC).", look.KWH,
             Query(kwh(this_month(energy, ""))), w=3, decimals=1),
        stat("CO2e, month", "Operational CO2e since the first of the month (UTC), PUE applied.",
             look.GRAMS, Query(this_month(grams, "")), w=3, decimals=1),
        stat("Cost, month", "Electricity of runs and pods since the first of the month (UTC), PUE"
             " applied, by currency.", look.MONEY, Query(this_month("wattspan_owner_cost", "currency"),
                                                "{{currency}}"),
             w=6, decimals=2, names=True, empty="no price is set"),
    ]  # fmt: skip


def _budget_left(labels: str) -> str:
    return (
        f"max by ({labels}) (budget:wattspan_co2e_grams:remaining{{{C}}})"
        f" / on ({labels}) (max by ({labels}) (wattspan_budget_co2e_grams{{{C}}}) > 0)"
    )


def _now() -> list[object]:
    gpus = f"sum(cluster:wattspan_gpu_power_watts:sum{{{C}}})"
    return [
        course("Power", "Measured power: the GPUs, and on top CPU and DRAM. The dashed line is what the"
               " GPUs' limits allow.", look.WATT,
               Query(gpus, "GPU"),
               Query(f"sum(cluster:wattspan_node_power_watts:sum{{{C}}}) - {gpus}", "CPU and DRAM"),
               Query(f"sum(cluster:wattspan_gpu_power_limit_watts:sum{{{C}}})", "GPU limit"),
               w=8, stack=True, dashed=["GPU limit"], empty=NEEDS_RULES,
               colours={"GPU": look.COMPONENTS["GPU"], "CPU and DRAM": look.COMPONENTS["CPU"],
                        "GPU limit": look.COMPONENTS["GPU limit"]}),
        course("GPU power by who holds the card", "Run and pod are work; idle is a card that nobody"
               " holds; unattributed is what nobody can be charged for.", look.WATT,
               Query(f"sum by (share) ({_SHARES})", "{{share}}"),
               w=8, stack=True, colours=look.SHARES, empty=NEEDS_RULES),
        course("CO2e per hour by cluster", "Operational CO2e, PUE applied: power times the grid's intensity.",
               look.GRAMS,
               Query(named(f"sum by (cluster) (cluster:wattspan_node_co2e_grams:rate5m{{{C}}}) *"
                           f" {look.S_PER_H}",
                           "cluster"), "{{cluster}}"),
               w=8, stack=True, empty=NEEDS_RULES),
    ]  # fmt: skip


def _budgets() -> object:
    return bars("Budget left", "Share of each carbon budget that is left in its period; negative once it"
                " is exceeded.", look.RATIO,
                Query(f"sort({_budget_left('budget, period')})", "{{budget}} ({{period}})"),
                steps=look.LEFT, low=0, high=1, decimals=0, link=TO_CARBON,
                empty=NO_BUDGET)  # fmt: skip


def _intensity() -> object:
    return course("Grid intensity", "Grams of CO2e per kWh that are in force, by zone.", look.INTENSITY,
                  Query("max by (grid_zone, signal, basis)"
                        f" (wattspan_grid_intensity_grams_per_kwh{{{C}}})", "{{grid_zone}} {{signal}}"),
                  link=TO_CARBON, decimals=0, w=8)  # fmt: skip


def _forecast() -> object:
    return bars("Grid forecast", "Intensity that is forecast so many hours ahead, by zone.", look.INTENSITY,
                *(Query(f'max by (grid_zone, horizon) (wattspan_grid_forecast_intensity_grams_per_kwh{{'
                        f'horizon="{horizon}", {C}}})', "{{grid_zone}} in {{horizon}}")
                  for horizon in HORIZONS),
                steps=look.DIRTY, decimals=0,
                empty="no provider forecasts: see the README, Live figures")  # fmt: skip


def _runs() -> object:
    return table(
        "Top runs", "Runs that go on now or ended within 5 minutes, the most power first.",
        [
            Column("Run", "run_id", link=to_run()),
            Column("Project", "project", width=85),
            Column("Power", "A", look.WATT, width=80, decimals=1),
            Column("Energy", "B", look.KWH, width=80, decimals=1),
            Column("CO2e", "C", look.GRAMS, width=75, decimals=1),
            Column("J / token", "D", look.JOULE, width=80, decimals=2),
            Column("Done", "E", look.RATIO, bar=1, width=95, decimals=0),
        ],
        Query(of_run(sum_by("run_id", f"wattspan_run_power_watts{{{C}}}"), "project")),
        Query(kwh(sum_by("run_id", f"wattspan_run_energy_joules_total{{{C}}}"))),
        Query(sum_by("run_id", f'wattspan_run_co2e_grams_total{{part="operational", {C}}}')),
        Query(f"max by (run_id) (run:wattspan_joules_per_token:ratio_rate15m{{{C}}})"),
        Query(f"max by (run_id) (wattspan_run_progress_ratio{{{C}}})"),
        w=12, h=9, sort="Power", limit=50, empty="no run is tracked",
    )  # fmt: skip


def _owners() -> object:
    labels = "pod_namespace, project"
    return table(
        "Top namespaces and projects this month", "Runs and pods by namespace and project since the first"
        " of the month (UTC). CO2e is operational.",
        [
            Column("Namespace", "pod_namespace"),
            Column("Project", "project"),
            Column("Energy", "A", look.KWH, width=90, decimals=2),
            Column("CO2e", "B", look.GRAMS, width=85, decimals=1),
            Column("GPUs idle", "C", look.RATIO, width=80, decimals=0,
                   steps=((None, "text"), (0.2, look.YELLOW), (0.5, look.RED))),
        ],
        Query(kwh(this_month("wattspan_owner_energy_joules", labels))),
        Query(this_month("wattspan_owner_co2e_grams", labels, f'part="operational", {C}')),
        Query(f"({this_month('wattspan_owner_idle_gpu_seconds', labels)})"
              f" / (({this_month('wattspan_owner_gpu_seconds', labels)}) > 0)"),
        w=8, h=9, sort="Energy", limit=50, empty="no run and no pod held a GPU",
    )  # fmt: skip


def _leaderboard() -> object:
    recorded = (
        f"sum by (project) (sum_over_time(project:wattspan_token_energy_joules:rate15m{{{C}}}[$__range]))"
        f" / (sum by (project) (sum_over_time(project:wattspan_tokens:rate15m{{{C}}}[$__range])) > 0)"
    )
    return bars("J per token, by project", "Leaderboard, the thriftiest first: energy of the runs that"
                " tell their tokens, over those tokens, in the chosen range.", look.JOULE,
                Query(f"sort({recorded})", "{{project}}"), w=4, h=9, decimals=2, above=True,
                empty="no run tells its tokens")  # fmt: skip


def _waste() -> list[object]:
    return [
        bars("Wasted energy, month", "Held but idle; of attempts that failed; of steps made again after a"
             " resume. Since the first of the month (UTC).", look.KWH,
             Query(kwh(this_month("wattspan_owner_wasted_energy_joules", "reason")), "{{reason}}"),
             w=5, colours=look.WASTE, empty="nothing was wasted", decimals=1),
        bars("Wasted money, month", "What the wasted energy cost, PUE applied, by currency.", look.MONEY,
             Query(this_month("wattspan_owner_wasted_cost", "reason, currency"), "{{reason}} {{currency}}"),
             w=5, empty="no price is set, or nothing was wasted", above=True,
             steps=((None, look.YELLOW),)),
    ]  # fmt: skip


def _idle() -> object:
    return course("GPUs held, and of these without work", "GPUs that runs and pods hold, and how many of"
                  " these ran no kernel.", look.COUNT,
                  Query(f"sum(owner:wattspan_owner_gpus_held:rate5m{{{C}}})", "held"),
                  Query(f"sum(owner:wattspan_owner_gpus_idle:rate5m{{{C}}})", "without work"),
                  w=7, colours={"held": look.BLUE, "without work": look.YELLOW}, empty=NEEDS_RULES,
                  decimals=1)  # fmt: skip


def _coverage() -> object:
    unattributed = f"sum({_UNATTRIBUTED})"
    return course("Coverage", "How much is known: measured and attributed; estimated from load (in no"
                  " other sum); unattributed.", look.WATT,
                  Query(f"sum(cluster:wattspan_node_energy_joules:rate5m{{{C}}}) - {unattributed}",
                        "measured"),
                  Query(f"sum(cluster:wattspan_host_estimated_energy_joules:rate5m{{{C}}})"
                        f" or 0 * sum(cluster:wattspan_node_energy_joules:rate5m{{{C}}})",
                        "estimated"),
                  Query(unattributed, "unattributed"),
                  w=7, stack=True, colours=look.COVERAGE, empty=NEEDS_RULES)  # fmt: skip
