"""Run: how far, how much, how well for its energy, what it will have cost, and how it compares."""

from typing import Final

from grafana_foundation_sdk.models import dashboard

from dashboards import look
from dashboards.frame import (
    CLUSTER,
    TO_NODE_BY_LABEL,
    TO_TRACE,
    TRACES,
    board,
    choice,
    to_node,
    to_run,
)
from dashboards.frame import (
    IN_CLUSTER as C,
)
from dashboards.panels import Column, Query, bars, course, meter, stat, table
from dashboards.queries import RATE, joules_per, kwh, last, sum_by

R: Final = f'{C}, run_id="$run"'
OTHER: Final = f'{C}, run_id="$compare"'
OPERATIONAL: Final = f'wattspan_run_co2e_grams_total{{part="operational", {R}}}'
BOTH: Final = f'{C}, run_id=~"$run|$compare"'

RUN: Final = choice("run", "Run", "Runs of the chosen range.", f"wattspan_run_info{{{C}}}", "run_id")
COMPARE: Final = choice(
    "compare", "Compare with", "Another run, for the last row.",
    f'wattspan_run_info{{{C}, run_id!="$run"}}', "run_id",
)  # fmt: skip
GROUP: Final = choice("group", "Group", "A sweep, for the row of groups.",
                      f'wattspan_run_info{{{C}, group!=""}}', "group")  # fmt: skip

MEMBERS: Final = choice(
    "members", "Members", "The runs of the group.",
    f'wattspan_run_info{{{C}, group="$group", group!=""}}', "run_id", hidden=True,
)  # fmt: skip
IN_GROUP: Final = f'{C}, run_id=~"$members"'


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "wattspan-run",
        "Wattspan / Run",
        "One training run over all its nodes; then its group side by side, and two runs compared.",
        [CLUSTER, RUN, COMPARE, GROUP, MEMBERS, TRACES],
        [
            ("How it stands", [*_now(), _attempts(), _who(), _nodes()]),
            ("Power and grams over time", _courses()),
            ("Energy for what it did", _efficiency()),
            ("Where it is heading, and the greenest hour", _projection()),
            ("Group $group, side by side", _group()),
            ("$run beside $compare", _compared()),
        ],
        alerts='run_id=~"$run|"',
        since="now-6h",
    )


def _now() -> list[object]:
    grams = f"sum({last(f'wattspan_run_co2e_grams_total{{{R}}}')})"
    operational = f"sum({last(OPERATIONAL)})"
    progress = f"(max({last(f'wattspan_run_progress_ratio{{{R}}}')}) > 0)"
    return [
        meter("Done", "Steps made over steps planned; told by rank 0.",
              Query(f"max({last(f'wattspan_run_progress_ratio{{{R}}}')})"), w=3,
              steps=((None, look.BLUE),), empty="no total is told"),
        stat("Ends", "When it will be over at its pace.", look.IN,
             Query(f"max({last(f'wattspan_run_projected_end_timestamp_seconds{{{R}}}')}) * 1000"), w=3,
             empty="not known"),
        stat("Power now", "Of its GPUs and of its part of the hosts.", look.WATT,
             Query(f"sum(wattspan_run_power_watts{{{R}}})"), w=3, decimals=1, empty="it has ended"),
        stat("Energy so far", "GPU, CPU and DRAM, over all nodes and attempts.", look.KWH,
             Query(kwh(f"sum({last(f'wattspan_run_energy_joules_total{{{R}}}')})")), w=3, decimals=2),
        stat("CO2e so far", "Operational with PUE applied, and embodied where the card's making is known.",
             look.GRAMS, Query(grams), w=3, decimals=1),
        stat("Cost so far", "Electricity, PUE applied, by currency.", look.MONEY,
             Query(f"sum by (currency) ({last(f'wattspan_run_cost_total{{{R}}}')})", "{{currency}}"), w=3,
             names=True, empty="no price is set"),
        meter("Budget used", "Operational grams so far over the run's carbon budget.",
              Query(f"sum({last(f'wattspan_run_budget_used_ratio{{{R}}}')})"), w=3, empty="no budget"),
        meter("Budget, at end", "What it will have used of its budget at its pace.",
              Query(f"max(wattspan_run_budget_projected_ratio{{{R}}})"
                    f" or max(run:wattspan_budget_projected:ratio{{{R}}})"
                    f" or {operational} / {progress} /"
                    f" max({last(f'wattspan_run_budget_co2e_grams{{{R}}}')})"),
              w=3, empty="no budget, or no total is told"),
    ]  # fmt: skip


def _attempts() -> object:
    return table(
        "Attempts", "Each attempt has its own trace; it is complete when the attempt has ended.",
        [
            Column("Attempt", "attempt", width=75),
            Column("Began", "A", look.WHEN, width=155),
            Column("Trace", "trace_id", link=TO_TRACE),
        ],
        Query(f"max by (run_id, attempt, trace_id) ({last(f'wattspan_run_attempt_info{{{R}}}')})"
              f" * on (run_id) group_left () min by (run_id)"
              f" ({last(f'wattspan_run_start_timestamp_seconds{{{R}}}')}) * 1000"),
        w=9, h=5, sort="Attempt", empty="the run is not in this range",
    )  # fmt: skip


def _who() -> object:
    return table(
        "What it is", "As the run or its scheduler told.",
        [
            Column("Name", "run_name"),
            Column("Project", "project", width=80),
            Column("Group", "group", width=80),
            Column("Framework", "framework", width=95),
            Column("Known by", "source", width=90),
        ],
        Query("max by (run_id, run_name, project, group, framework, source)"
              f" ({last(f'wattspan_run_info{{{R}}}')})"),
        w=9, h=5, empty="it has not told its name yet (30 s)",
    )  # fmt: skip


def _nodes() -> object:
    return table(
        "Nodes", "Where it runs, with how many cards, and how much of the time these do nothing.",
        [
            Column("Node", "instance", link=to_node()),
            Column("GPUs", "A", look.COUNT, width=55),
            Column("Power", "B", look.WATT, width=80, decimals=1),
            Column("Idle", "C", look.RATIO, width=60, decimals=0,
                   steps=((None, "text"), (0.2, look.YELLOW), (0.5, look.RED))),
        ],
        Query(f"sum by (instance) ({last(f'wattspan_run_gpus{{{R}}}')})"),
        Query(f"sum by (instance) ({last(f'wattspan_run_power_watts{{{R}}}')})"),
        Query(f"sum by (instance) ({last(f'wattspan_run_idle_gpu_seconds_total{{{R}}}')})"
              f" / sum by (instance) ({last(f'wattspan_run_gpu_seconds_total{{{R}}}')} > 0)"),
        w=6, h=5, sort="Power", empty="the run is not in this range",
    )  # fmt: skip


def _courses() -> list[object]:
    return [
        course("Power by node", "Watts from the energy counters. Points lead to the span of their window.",
               look.WATT,
               Query(f"sum by (instance) (rate(wattspan_run_energy_joules_total{{{R}}}{RATE}))",
                     "{{instance}}", exemplars=True), w=8, stack=True, link=TO_NODE_BY_LABEL),
        course("CO2e per hour", "Grams an hour; embodied is the making of the cards, for the time they"
               " are held. Points lead to the span of their window.", look.GRAMS,
               Query(f"sum by (part) (rate(wattspan_run_co2e_grams_total{{{R}}}{RATE})) * {look.S_PER_H}",
                     "{{part}}", exemplars=True), w=8, stack=True, colours=look.PARTS),
        course("Energy by component", "How its watts split, by the rule that gave it its share.", look.WATT,
               Query("sum by (component, attribution)"
                     f" (rate(wattspan_run_energy_joules_total{{{R}}}{RATE}))",
                     "{{component}}, {{attribution}}", exemplars=True), w=8, stack=True),
    ]  # fmt: skip


def _efficiency() -> list[object]:
    def per(what: str, one: str, share: str) -> object:
        return course(
            f"Joules per {one}", f"Energy of all nodes over {what}; the dashed line is over 15 minutes."
                                 f" Rising"
            f" means more energy for the same {share}.", look.JOULE,
            Query(joules_per(what, R), "now"),
            Query(f"max(run:wattspan_joules_per_{one}:ratio_rate15m{{{R}}})", "15 min"),
            w=8, colours={"now": look.BLUE, "15 min": look.ORANGE}, dashed=["15 min"], decimals=2,
            empty=f"the run tells no {what}",
        )  # fmt: skip

    return [per("steps", "step", "work"), per("samples", "sample", "data"), per("tokens", "token", "text")]


def _projection() -> list[object]:
    pace = f"sum({OPERATIONAL}) / (max(wattspan_run_progress_ratio{{{R}}}) > 0)"
    greenest = f"sum({last(f'wattspan_run_greenest_co2e_grams{{{R}}}')})"
    return [
        stat("CO2e at the end", "By its pace and the forecast.", look.GRAMS,
             Query(f"max({last(f'wattspan_run_projected_co2e_grams{{{R}}}')}) or {pace}"), w=6, decimals=1,
             empty="not known"),
        stat("CO2e so far, at the greenest hour", "What the attempt so far would have emitted in the"
             " greenest stretch of its length that is known: compare with CO2e so far.",
             look.GRAMS, Query(greenest),
             w=6, decimals=1, empty="no provider forecasts", steps=((None, look.GREY), (0, look.GREEN))),
        stat("Cost at the end", "At the price in force now, by currency.", look.MONEY,
             Query(f"sum by (currency) ({last(f'wattspan_run_projected_cost{{{R}}}')})", "{{currency}}"), w=6,
             names=True, empty="no price is set"),
        stat("Steps repeated", "Steps made again after a resume: energy for nothing new.", look.COUNT,
             Query(f"max({last(f'wattspan_run_repeated_steps_total{{{R}}}')})"
                   f" or 0 * max({last(f'wattspan_run_steps_total{{{R}}}')})"), w=6, empty="no steps told",
             steps=look.ANY_IS_ODD),
        course("CO2e: so far, projected, budget, greenest", "Operational grams so far; at its end, by its"
               " pace and the forecast; its budget; and what the attempt would have emitted in the"
               " greenest stretch of its length.", look.GRAMS,
               Query(f"sum({OPERATIONAL})", "this run"),
               Query(f"max(wattspan_run_projected_co2e_grams{{{R}}}) or {pace}", "projected"),
               Query(f"max(wattspan_run_budget_co2e_grams{{{R}}})", "budget"),
               Query(f"sum(wattspan_run_greenest_co2e_grams{{{R}}})", "greenest"),
               w=15, dashed=["projected", "budget", "greenest"],
               colours={name: look.RUNS[name] for name in ("this run", "projected", "budget", "greenest")}),
        course("Progress", "Steps made over steps planned.", look.RATIO,
               Query(f"max(wattspan_run_progress_ratio{{{R}}})", "done"), w=9, high=1,
               colours={"done": look.BLUE}, empty="no total is told"),
    ]  # fmt: skip


def _columns(by: str) -> list[Column]:
    return [
        Column("Run", "run_id", link=to_run()),
        Column("Project" if by == "project" else "Group", by, width=100),
        Column("Done", "A", look.RATIO, bar=1, width=130, decimals=0),
        Column("Energy", "B", look.KWH, width=95, decimals=2),
        Column("CO2e", "C", look.GRAMS, width=95, decimals=1),
        Column("GPU hours", "D", look.COUNT, width=95, decimals=2),
        Column("J per step", "E", look.JOULE, width=105, decimals=2),
        Column("J per sample", "F", look.JOULE, width=105, decimals=2),
        Column("J per token", "G", look.JOULE, width=105, decimals=2),
    ]


def _figures(where: str, by: str) -> list[Query]:
    """Of several runs; the first query decides which are shown."""
    info = f"max by (run_id, {by}) ({last(f'wattspan_run_info{{{where}}}')})"
    energy = sum_by("run_id", last(f"wattspan_run_energy_joules_total{{{where}}}"))
    return [
        Query(f"(max by (run_id) ({last(f'wattspan_run_progress_ratio{{{where}}}')})"
              f" or 0 * max by (run_id) ({last(f'wattspan_run_info{{{where}}}')}))"
              f" * on (run_id) group_left ({by}) {info}"),
        Query(f"{energy} / {look.J_PER_KWH}"),
        Query(sum_by("run_id", last(f"wattspan_run_co2e_grams_total{{{where}}}"))),
        Query(f"{sum_by('run_id', last(f'wattspan_run_gpu_seconds_total{{{where}}}'))} / {look.S_PER_H}"),
        *(Query(f"{energy} / (max by (run_id) ({last(f'wattspan_run_{what}_total{{{where}}}')}) > 0)")
          for what in ("steps", "samples", "tokens")),
    ]  # fmt: skip


def _group() -> list[object]:
    return [
        table("Runs of group $group", "Totals of each run of the sweep in the chosen range; joules per"
              " step, sample and token are over its whole life.", _columns("project"),
              *_figures(IN_GROUP, "project"), w=24, h=7, sort="CO2e",
              empty="no run of this group is in this range"),
        course("Joules per step", "Over 15 minutes. A sweep's members do comparable steps; the lowest"
               " line is the thriftiest.",
               look.JOULE,
               Query(f"max by (run_id) (run:wattspan_joules_per_step:ratio_rate15m{{{IN_GROUP}}})",
                     "{{run_id}}"), w=12, decimals=2,
               empty="no run of this group tells steps"),
        bars("CO2e of each run", "Operational and embodied grams so far.", look.GRAMS,
             Query(f"sort_desc(sum by (run_id) ({last(f'wattspan_run_co2e_grams_total{{{IN_GROUP}}}')}))",
                   "{{run_id}}"), w=12, decimals=1, empty="no run of this group is in this range"),
    ]  # fmt: skip


def _compared() -> list[object]:
    def both(one: str) -> list[Query]:
        return [Query(one, "this run"), Query(one.replace(R, OTHER), "the other run")]

    return [
        table("Two runs", "The run and the one that it is compared with; choose both at the top.",
              _columns("group"), *_figures(BOTH, "group"), w=24, h=5, sort="CO2e",
              empty="choose two runs at the top"),
        course("Power", "Of both runs.", look.WATT, *both(f"sum(wattspan_run_power_watts{{{R}}})"), w=8,
               colours={name: look.RUNS[name] for name in ("this run", "the other run")}),
        course("CO2e so far", "Operational and embodied grams of both runs.", look.GRAMS,
               *both(f"sum(wattspan_run_co2e_grams_total{{{R}}})"), w=8,
               colours={name: look.RUNS[name] for name in ("this run", "the other run")}),
        course("Joules per step", "Of both runs; only of the same model and batch is this a fair comparison.",
               look.JOULE, *both(joules_per("steps", R)), w=8, decimals=2,
               colours={name: look.RUNS[name] for name in ("this run", "the other run")},
               empty="neither tells steps"),
    ]  # fmt: skip
