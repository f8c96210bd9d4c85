"""Node and GPU: is this machine well, what do its cards draw and why, who holds them."""

from typing import Final

from grafana_foundation_sdk.models import dashboard

from dashboards import look
from dashboards.frame import CLUSTER, IN_CLUSTER, TO_HEALTH, TO_RUN_BY_LABEL, board, choice, to_run
from dashboards.panels import Column, Query, course, meter, stat, states, table
from dashboards.queries import RATE, how_many, of_run

N: Final = f'{IN_CLUSTER}, instance="$node"'
G: Final = f'{N}, gpu=~"$gpu"'

NODE: Final = choice(
    "node", "Node", "The node to look at.", f"wattspan_build_info{{{IN_CLUSTER}}}", "instance"
)
GPU: Final = choice("gpu", "GPU", "Its cards, by NVML index.", f"wattspan_gpu_info{{{N}}}", "gpu",
                    every=True, multi=True)  # fmt: skip


HEAT: Final = 'reason!="sw_power_cap", '


def _by_gpu(counter: str, where: str = "") -> str:
    """Counters are keyed by uuid; the index comes from the card's info."""
    return (
        f"sum by (gpu) (rate({counter}{{{where}{N}}}{RATE})"
        f" * on (uuid) group_left (gpu) max by (uuid, gpu) (wattspan_gpu_info{{{G}}}))"
    )


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "wattspan-node",
        "Wattspan / Node and GPU",
        "One node: its cards, its host, who holds what, and how well each source reads.",
        [CLUSTER, NODE, GPU],
        [
            ("Is it well?", _wrong()),
            ("Where the power goes", _power()),
            ("Each GPU", [_gpus(), *_each()]),
            ("Who holds it", _holders()),
            ("Host, and how the readings come about", _sources()),
        ],
        alerts='instance=~"$node|"',
        since="now-3h",
    )


def _wrong() -> list[object]:
    power, limit = f"sum(wattspan_gpu_power_watts{{{G}}})", f"sum(wattspan_gpu_power_limit_watts{{{G}}})"
    return [
        stat("Exporter", "Whether Prometheus can scrape it.", look.TEXT,
             Query(f'max(up{{job=~".*wattspan.*", {N}}})'), w=3, steps=((None, look.RED), (1, look.GREEN)),
             alarm=True, words=look.UP, link=TO_HEALTH, empty="not scraped"),
        stat("GPUs lost", "Cards that do not answer their driver.", look.COUNT,
             Query(how_many(f"wattspan_gpu_up{{{G}}}", "== 0")), w=3, steps=look.ANY_IS_BAD, alarm=True),
        stat("Sources down", "Sources whose last read failed; the last row names them.", look.COUNT,
             Query(how_many(f"wattspan_source_up{{{N}}}", "== 0")), w=3, steps=look.ANY_IS_BAD,
             alarm=True),
        stat("Oldest reading", "Figures are at most this old.", look.SECONDS,
             Query(f"max(time() - wattspan_source_last_read_timestamp_seconds{{{N}}})"), w=3, decimals=0,
             steps=look.OLD, alarm=True),
        stat("Driver asks for", "The worst recovery action that the driver asks for on any card.", look.TEXT,
             Query(f"max(wattspan_gpu_recovery_action{{{G}}})"), w=3, words=look.RECOVERY,
             steps=look.ANY_IS_BAD, alarm=True, empty="not told"),
        stat("XID errors", "Errors that the driver reported in the chosen range.", look.COUNT,
             Query(f"sum(increase(wattspan_gpu_xid_errors_total{{{N}}}[$__range]))"
                   f" or 0 * count(wattspan_gpu_up{{{N}}})"), w=3,
             steps=look.ANY_IS_BAD, alarm=True, decimals=0),
        stat("Throttled", "Cards whose clocks heat or the power brake holds down now, as a share of all; a"
             " power cap is no trouble and is below.", look.RATIO,
             Query(f"avg(clamp_max({_by_gpu('wattspan_gpu_throttled_seconds_total', where=HEAT)}, 1))"
                   f" or 0 * avg({_by_gpu('wattspan_gpu_throttled_seconds_total')})"), w=3,
             steps=look.SHARE_LOST, alarm=True, decimals=0, empty="not told"),
        meter("Power / limit", "Power of the GPUs over what their limits allow.",
              Query(f"{power} / {limit}"), w=3,
              steps=((None, look.GREY), (0, look.GREEN), (0.95, look.YELLOW), (1.05, look.RED))),
    ]  # fmt: skip


def _power() -> list[object]:
    return [
        course("Power against limit", "Measured power of the node, each part once. The dashed line is"
               " what the GPUs' limits allow together.", look.WATT,
               Query(f"sum(wattspan_gpu_power_watts{{{N}}})", "GPU"),
               Query(f'sum(wattspan_host_power_watts{{component="cpu", {N}}})', "CPU"),
               Query(f'sum(wattspan_host_power_watts{{component="dram", {N}}})', "DRAM"),
               Query(f"sum(wattspan_gpu_power_limit_watts{{{N}}})", "GPU limit"),
               w=9, stack=True, colours=look.COMPONENTS, dashed=["GPU limit"]),
        course("GPU energy by share", "Watts by who held the card: a run, a pod, nobody (idle), or"
               " unknown (unattributed). The shares add up to the cards' energy.", look.WATT,
               Query(f"sum by (share) (rate(wattspan_gpu_attributed_energy_joules_total{{{N}}}{RATE}))",
                     "{{share}}"),
               w=8, stack=True, colours=look.SHARES),
        course("Unattributed, by reason", "Why energy belongs to nobody: a process that no rule knows, a"
               " gap in the readings, a counter that was not believed, an exporter that did not run.",
               look.WATT,
               Query(f"sum by (reason) (rate(wattspan_gpu_unattributed_energy_joules_total{{{N}}}{RATE}))",
                     "{{reason}}"), w=7, stack=True),
    ]  # fmt: skip


def _gpus() -> object:
    labels = "gpu, uuid"
    return table(
        "GPUs", "Each card now. Self-check is the energy counter over integrated power in the last"
        " minute: far from 1 one of them is wrong.",
        [
            Column("GPU", "gpu", width=50),
            Column("Up", "A", words=look.UP, width=60),
            Column("Power", "B", look.WATT, width=90, decimals=1),
            Column("Limit", "C", look.WATT, width=90, decimals=0),
            Column("Utilization", "D", look.RATIO, bar=1, width=150, decimals=0),
            Column("Memory", "E", look.RATIO, bar=1, width=150, decimals=0),
            Column("Temperature", "F", look.CELSIUS, steps=look.HOT, width=105, decimals=0),
            Column("Held by", "G", look.COUNT, width=75),
            Column("Driver asks for", "H", words=look.RECOVERY, width=120),
            Column("Self-check", "I", look.RATIO, width=90, decimals=1,
                   steps=((None, look.RED), (0.9, look.YELLOW), (0.95, look.GREEN), (1.05, look.YELLOW),
                          (1.1, look.RED))),
            Column("UUID", "uuid"),
        ],
        *(Query(f"max by ({labels}) ({metric}{{{G}}})") for metric in (
            "wattspan_gpu_up", "wattspan_gpu_power_watts", "wattspan_gpu_power_limit_watts",
            "wattspan_gpu_utilization_ratio")),
        Query(f"max by ({labels}) (wattspan_gpu_memory_used_bytes{{{G}}})"
              f" / max by ({labels}) (wattspan_gpu_memory_total_bytes{{{G}}})"),
        *(Query(f"max by ({labels}) ({metric}{{{G}}})") for metric in (
            "wattspan_gpu_temperature_celsius", "wattspan_gpu_holders", "wattspan_gpu_recovery_action",
            "wattspan_gpu_energy_check_ratio")),
        w=24, h=10, sort="GPU", descending=False, empty="no GPU on this node",
    )  # fmt: skip


def _each() -> list[object]:
    def by_gpu(metric: str) -> Query:
        return Query(f"max by (gpu) ({metric}{{{G}}})", "GPU {{gpu}}")

    return [
        course("Power of each GPU", "Averaged over a second; the dashed line is the highest limit.",
               look.WATT,
               by_gpu("wattspan_gpu_power_watts"),
               Query(f"max(wattspan_gpu_power_limit_watts{{{G}}})", "limit"),
               colours={"limit": look.RED}, dashed=["limit"]),
        course("Utilization of each GPU", "Share of time with at least one kernel running; no measure of"
               " how full the card was. High here and low at the left is waiting, not working.", look.RATIO,
               by_gpu("wattspan_gpu_utilization_ratio"), high=1),
        course("Temperature", "Of the GPU core.", look.CELSIUS, by_gpu("wattspan_gpu_temperature_celsius"),
               w=8, low=None),
        course("Throttling, by reason", "Cards whose clocks were held down: 1 is one card all the time.",
               look.COUNT,
               Query(f"sum by (reason) (rate(wattspan_gpu_throttled_seconds_total{{{N}}}{RATE}))",
                     "{{reason}}"), w=8),
        course("Clock of each GPU", "Of the streaming multiprocessors.", "hertz",
               by_gpu("wattspan_gpu_sm_clock_hertz"), w=8),
    ]  # fmt: skip


def _holders() -> list[object]:
    pod = "pod_namespace, pod_name"
    return [
        table("Runs on this node", "Runs that hold cards here now, or ended within 5 minutes; figures of"
              " this node alone.",
              [
                  Column("Run", "run_id", link=to_run()),
                  Column("Project", "project", width=80),
                  Column("GPUs", "A", look.COUNT, width=55),
                  Column("Power", "B", look.WATT, width=75, decimals=1),
                  Column("Energy", "C", look.KWH, width=80, decimals=1),
              ],
              Query(of_run(f"sum by (run_id) (wattspan_run_gpus{{{N}}})", "project", N)),
              Query(f"sum by (run_id) (wattspan_run_power_watts{{{N}}})"),
              Query(f"sum by (run_id) (wattspan_run_energy_joules_total{{{N}}}) / {look.J_PER_KWH}"),
              w=8, sort="Power", empty="no run holds a card here"),
        course("Power by run", "Power of each run's cards and of its part of the host.", look.WATT,
               Query(f"sum by (run_id) (wattspan_run_power_watts{{{N}}})", "{{run_id}}"),
               w=8, link=TO_RUN_BY_LABEL, empty="no run held a card here"),
        table("Pods on this node", "Pods that hold cards here, those of runs included: never add them to"
              " runs. Idle counts cards held without work.",
              [
                  Column("Namespace", "pod_namespace", width=95),
                  Column("Pod", "pod_name"),
                  Column("Power", "A", look.WATT, width=85, decimals=1),
                  Column("CO2e / h", "B", look.GRAMS, width=80, decimals=1),
                  Column("Idle", "C", look.COUNT, width=50, decimals=1,
                         steps=((None, "text"), (0.9, look.YELLOW))),
              ],
              Query(f"sum by ({pod}) (rate(wattspan_pod_energy_joules_total{{{N}}}{RATE}))"),
              Query(f"sum by ({pod}) (rate(wattspan_pod_co2e_grams_total{{{N}}}{RATE})) * {look.S_PER_H}"),
              Query(f"sum by ({pod}) (rate(wattspan_pod_idle_gpu_seconds_total{{{N}}}{RATE}))"),
              w=8, sort="Power", empty="no pod holds a card here"),
    ]  # fmt: skip


def _sources() -> list[object]:
    return [
        course("Host components", "Measured by RAPL or the platform; estimated, where nothing measures"
               " (dashed, in no sum).", look.WATT,
               Query(f"sum by (component, device) (wattspan_host_power_watts{{{N}}})",
                     "{{component}} {{device}}"),
               Query(f"sum by (component) (wattspan_host_estimated_power_watts{{{N}}})",
                     "{{component}} estimated"),
               w=8, dashed=["cpu estimated", "dram estimated"], empty="no host source on this node"),
        course("Whole box beside its parts", "What the box's own sensor says, with fans and losses,"
               " beside the sum of what is measured. A box below its parts is a wrong sensor.", look.WATT,
               Query(f"max by (sensor) (wattspan_platform_power_watts{{{N}}})", "{{sensor}}"),
               Query(f"sum(wattspan_node_power_watts{{{N}}})", "sum of parts"),
               w=8, colours={"sum of parts": look.BLUE}),
        course("Time that a read takes", "99th percentile by source: a slow driver shows here first.",
               look.SECONDS,
               Query("histogram_quantile(0.99, sum by (source, le)"
                     f" (rate(wattspan_sample_duration_seconds_bucket{{{N}}}{RATE})))", "{{source}}"), w=8),
        states("Sources", "Green while a source's last read came back in time.",
               Query(f"min by (source) (wattspan_source_up{{{N}}})", "{{source}}"), words=look.UP, w=8),
        states("GPUs", "Green while a card answers.",
               Query(f"min by (gpu) (wattspan_gpu_up{{{G}}})", "GPU {{gpu}}"), words=look.UP, w=8),
        course("Reads that failed", "Failed reads a second, by source and reason.", look.PER_SECOND,
               Query(f"sum by (source, reason) (rate(wattspan_source_read_failures_total{{{N}}}{RATE})) > 0"
                     f" or sum by (source) (rate(wattspan_source_read_failures_total{{{N}}}{RATE})) * 0",
                     "{{source}} {{reason}}"), w=8, h=6),
    ]  # fmt: skip
