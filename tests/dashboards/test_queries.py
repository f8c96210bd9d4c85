"""Every query of every panel, on a real Prometheus that scraped a fleet with our rules: all have data."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.dashboards.boards import UIDS, Json, load, name, panels
from tests.dashboards.demo_fleet import DemoFleet
from tests.dashboards.foreign_series import WIDE_RUN
from tests.e2e.prometheus import Prometheus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

READY: Final = (
    "count(wattspan_run_info) >= 8",
    "count(wattspan_grid_greenest_window_start_timestamp_seconds) > 0",
    "count(wattspan_run_greenest_co2e_grams) > 0",
    'sum(wattspan_owner_co2e_grams_total{part="embodied"}) > 0',
    "sum(wattspan_owner_wasted_energy_joules_total) > 0",
    "sum(run:wattspan_joules_per_token:ratio_rate15m) > 0",
    "sum(project:wattspan_tokens:rate15m) > 0",
    "count(budget:wattspan_co2e_grams:burn_ratio_rate1d) > 0",
    "count(budget:wattspan_co2e_grams:forecast_ratio) > 0",
    "sum(cluster:wattspan_node_energy_joules:month) > 0",
    "sum(owner:wattspan_owner_wasted_cost:month) > 0",
    "sum(pod:wattspan_served_cost:rate5m) > 0",
    # The first closed minute; the slowest of all.
    "sum(wattspan_gpu_energy_check_ratio) > 0",
)
"""What must be there before the questions are put."""

BUILT_IN: Final = {"$__rate_interval": "15s", "$__interval": "5s", "$__range": "120s"}

CHOSEN: Final[Mapping[str, Mapping[str, str]]] = {
    "wattspan-fleet": {},
    "wattspan-node": {"node": "gpu-1", "gpu": ".*"},
    "wattspan-run": {
        "run": "adapter-lora-gpu-1",
        "compare": "adapter-lora-gpu-2",
        "group": "sweep-7",
        "members": "adapter-lora-gpu-1|adapter-lora-gpu-2",
    },
    "wattspan-carbon": {},
    "wattspan-serving": {"namespace": ".*"},
    "wattspan-exporter": {"node": ".*"},
}
"""What a reader has chosen, by dashboard; the run is a thrifty one on a node with everything configured."""

RARE: Final = {
    'grid_zone!=""})': "no zone of this fleet has a threshold of its own",
}
"""Parts of queries that may have no answer on a healthy fleet, with the reason; never all of a panel's."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The fleet, once everything has been scraped and recorded."""
    with DemoFleet(tmp_path_factory.mktemp("fleet")) as fleet:
        for condition in READY:
            fleet.prometheus.wait_for(condition, seconds=150)
        time.sleep(4)  # the rules that read what came last
        yield fleet.prometheus


def filled(expr: str, chosen: Mapping[str, str]) -> str:
    """The query as Grafana would send it."""
    for variable, value in {**BUILT_IN, **{f"${key}": value for key, value in chosen.items()}}.items():
        expr = re.sub(re.escape(variable) + r"(?!\w)", lambda _, value=value: value, expr)
    assert "$" not in expr.replace('"$1"', ""), expr
    return expr


def answers(prometheus: Prometheus, target: Json, chosen: Mapping[str, str]) -> bool:
    """Whether a query has at least one number; an error of Prometheus is a failure."""
    expr = filled(target["expr"], chosen)
    if _numbers(prometheus.query(expr)):
        return True
    return not target["instant"] and _numbers(prometheus.query(f"({expr})[60s:5s]"))


def _numbers(series: list[Json]) -> bool:
    return any(
        not math.isnan(float(value))
        for found in series
        for _, value in (found["values"] if "values" in found else [found["value"]])
    )


@pytest.mark.parametrize("cluster", [".*", "paris"])
def test_every_query_has_data(prometheus: Prometheus, cluster: str) -> None:
    """Each panel shows something five minutes after the first scrape, with and without a label `cluster`."""
    count, with_data, empty = 0, 0, []
    for uid in UIDS:
        board = load(uid)
        for panel in panels(board):
            count += 1
            answered = [
                answers(prometheus, target, {"cluster": cluster, **CHOSEN[uid]})
                for target in panel["targets"]
            ]
            with_data += any(answered)
            empty += [
                f"{name(board, panel)} {target['refId']}: {target['expr'][:160]}"
                for target, there in zip(panel["targets"], answered, strict=True)
                if not there and not any(part in target["expr"] for part in RARE)
            ]
    print(f"cluster=~{cluster!r}: {count} panels, {with_data} with data")
    assert not empty, "\n".join(empty)
    assert with_data == count


def test_a_run_over_two_nodes(prometheus: Prometheus) -> None:
    """No query of the run's dashboard stumbles over a run that two nodes tell of; sums hold both nodes."""
    two = {"run": WIDE_RUN, "compare": "llama-sft-gpu-1"}
    chosen = {"cluster": ".*", **two, "group": "base", "members": "|".join(two.values())}
    for panel in panels(load("wattspan-run")):
        for target in panel["targets"]:
            prometheus.query(filled(target["expr"], chosen))
    power = next(panel for panel in panels(load("wattspan-run")) if panel["title"] == "Power now")
    both = prometheus.value(filled(power["targets"][0]["expr"], chosen))
    assert both == pytest.approx(
        prometheus.value(f'sum(wattspan_run_power_watts{{run_id="{WIDE_RUN}"}})'), rel=0.6
    )
    assert both > 1300
    nodes = next(panel for panel in panels(load("wattspan-run")) if panel["title"] == "Nodes")
    found = prometheus.query(filled(nodes["targets"][0]["expr"], chosen))
    assert {series["metric"]["instance"] for series in found} == {"gpu-2", "gpu-9"}


@pytest.mark.parametrize("uid", UIDS)
def test_variables_have_values(prometheus: Prometheus, uid: str) -> None:
    """Each variable finds something to choose."""
    for variable in load(uid)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        found = prometheus.query(f"count by ({label}) ({filled(selector, {'cluster': '.*', **CHOSEN[uid]})})")
        assert [series for series in found if label in series["metric"]], variable["definition"]


def test_alerts_are_drawn(prometheus: Prometheus) -> None:
    """The annotation of each dashboard is a query that Prometheus takes."""
    for uid in UIDS:
        for note in load(uid)["annotations"]["list"]:
            prometheus.query(filled(note["expr"], {"cluster": ".*", **CHOSEN[uid]}))


def test_nothing_looks_well_because_nobody_looks(prometheus: Prometheus) -> None:
    """Where nothing is scraped, no alarm has a figure, and a panel without a figure is not green."""
    for uid in UIDS:
        for panel in panels(load(uid)):
            if panel["options"].get("colorMode") != "background":
                continue
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["color"] != "green", panel[
                "title"
            ]
            for target in panel["targets"]:
                if "ALERTS" in target["expr"]:
                    assert target["expr"].endswith("or 0 * count(wattspan:threshold)")
                    continue
                nowhere = filled(target["expr"], {**CHOSEN[uid], "cluster": "nowhere"})
                assert prometheus.query(nowhere) == [], name(load(uid), panel)


def test_a_month_is_there_before_an_hourly_rule_has_spoken(prometheus: Prometheus) -> None:
    """What the month shows in its first minutes is what was scraped, and no more."""
    shown = next(panel for panel in panels(load("wattspan-fleet")) if panel["title"] == "Energy, month")
    query = filled(shown["targets"][0]["expr"], {"cluster": ".*"})
    scraped = "sum(increase(wattspan_node_energy_joules_total[1h])) / 3.6e6"
    assert prometheus.value(f"({query}) > bool 0") == 1
    assert prometheus.value(f"({query}) <= bool 1.1 * {scraped}") == 1
