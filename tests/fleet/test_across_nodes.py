"""How nodes combine in PromQL: what the catalogue says of each metric, held against the nodes' own /metrics.

The texts of a living fleet are kept still and scraped by a second Prometheus, so that both sides are about
the same moment and the figures must be equal, not similar.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from tests.e2e.daemon import Scrape
from tests.e2e.prometheus import Prometheus
from tests.fleet.demo import NODES, DemoFleet, Still, demo_fleet, fleet_prometheus
from wattspan.publish.catalogue import CATALOGUE, Metric

Labels = frozenset[tuple[str, str]]

TARGET: Final = ("instance", "job", "cluster")
"""Labels that the scrape gives, and no node."""

NOT_IN_THE_FLEET: Final = {"wattspan_spans_dropped": "it takes an outbox that is full"}

WORDS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "sum": math.fsum,
    "max": max,
    "min": min,
    "avg": lambda values: math.fsum(values) / len(values),
    "max by": max,
}
"""What the catalogue's words mean, without a Prometheus."""


@dataclass(frozen=True)
class Frozen:
    """A fleet at one moment.

    Attributes:
        scrapes: each node's /metrics.
        prometheus: that has scraped just these.
    """

    scrapes: Mapping[str, Scrape]
    prometheus: Prometheus

    def told(self, name: str) -> dict[tuple[str, Labels], float]:
        """By node and the node's own labels, what it says of a name."""
        return {
            (node, labels): value
            for node, scrape in self.scrapes.items()
            for labels, value in scrape.series(name).items()
        }

    def asked(self, expression: str) -> dict[Labels, float]:
        """What PromQL gives, by labels."""
        return {
            frozenset(row["metric"].items()): float(row["value"][1])
            for row in self.prometheus.query(expression)
        }


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoFleet]:
    with demo_fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def frozen(alive: DemoFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    scrapes = alive.scrapes()
    texts = {node: scrape.text for node, scrape in scrapes.items()}
    with Still(texts) as still, fleet_prometheus(tmp_path_factory.mktemp("still")) as prometheus:
        prometheus.nodes(still.addresses)
        prometheus.wait_for(f"count(wattspan_build_info) == {len(NODES)}")
        yield Frozen(scrapes, prometheus)


def names_of(metric: Metric) -> tuple[str, ...]:
    """The names under which a family's series are stored."""
    if metric.kind == "histogram":
        return tuple(metric.name + suffix for suffix in ("_bucket", "_sum", "_count"))
    return (metric.exposed_name,)


def combined(told: Mapping[tuple[str, Labels], float], word: str) -> dict[Labels, float]:
    """The nodes' values combined by hand, by the nodes' own labels."""
    values: dict[Labels, list[float]] = {}
    for (_, labels), value in told.items():
        values.setdefault(labels, []).append(value)
    return {labels: WORDS[word](found) for labels, found in values.items()}


@pytest.mark.slow
@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.exposed_name)
def test_nodes_combine_as_the_catalogue_says(frozen: Frozen, metric: Metric) -> None:
    """The PromQL of the word in `across` gives what the nodes' own figures come to."""
    for name in names_of(metric):
        told = frozen.told(name)
        if metric.name in NOT_IN_THE_FLEET:
            assert not told, "it is there after all: take it off the list"
            return
        assert told, f"no node of the fleet has {name}"
        if metric.across == "join on uuid":
            _joins_on_uuid(frozen, name)
        elif metric.across == "-":
            expected = {labels | {("instance", node)}: value for (node, labels), value in told.items()}
            assert frozen.asked(f"max without (job, cluster) ({name})") == pytest.approx(expected)
        elif metric.across == "max by":
            expected = combined(told, metric.across)
            by = ", ".join(metric.labels)
            given = frozen.asked(f"max by ({by}) ({name})")
            assert given == pytest.approx({_filled(labels): value for labels, value in expected.items()})
        else:
            expected = combined(told, metric.across)
            given = frozen.asked(f"{metric.across} without ({', '.join(TARGET)}) ({name})")
            assert given == pytest.approx({_filled(labels): value for labels, value in expected.items()})
            ((_, total),) = frozen.asked(f"{metric.across}({name})").items()
            assert total == pytest.approx(WORDS[metric.across](list(told.values())))


def _filled(labels: Labels) -> Labels:
    """Prometheus stores no label that is empty."""
    return frozenset((name, value) for name, value in labels if value)


def _joins_on_uuid(frozen: Frozen, name: str) -> None:
    """Each GPU's energy meets the one row of info with its uuid, whichever node it comes from."""
    models = {
        dict(labels)["uuid"]: (node, dict(labels)["gpu"], dict(labels)["model"])
        for node, labels in frozen.told(name)
    }
    assert len(models) == len(frozen.told(name))
    energy = "wattspan_gpu_energy_joules_total"
    joined = frozen.prometheus.query(f"{energy} * on (uuid) group_left (gpu, model) {name}")
    values = {(row["metric"]["instance"], row["metric"]["uuid"]): float(row["value"][1]) for row in joined}
    told = frozen.told(energy)
    assert values == pytest.approx({(node, dict(labels)["uuid"]): v for (node, labels), v in told.items()})
    for row in joined:
        of = row["metric"]
        assert models[of["uuid"]] == (of["instance"], of["gpu"], of["model"])


@pytest.mark.slow
def test_a_run_on_two_nodes_is_one_run(frozen: Frozen) -> None:
    """Its energy adds up, its progress does not, and its info is one row: what the words are there for."""
    nodes = {
        node: scrape.total("wattspan_run_energy_joules_total", run_id="wide")
        for node, scrape in frozen.scrapes.items()
        if scrape.series("wattspan_run_info", run_id="wide")
    }
    assert len(nodes) == 2
    assert frozen.prometheus.value('sum(wattspan_run_energy_joules_total{run_id="wide"})') == pytest.approx(
        sum(nodes.values())
    )
    info = 'max by (run_id, project) (wattspan_run_info{run_id="wide"})'
    assert frozen.asked(info) == {frozenset({("run_id", "wide"), ("project", "nlp")}): 1}
    steps = frozen.scrapes["gpu-3"].value("wattspan_run_steps_total", run_id="wide")
    assert steps > 0
    assert frozen.prometheus.value('max(wattspan_run_steps_total{run_id="wide"})') == steps


@pytest.mark.slow
def test_a_zone_that_feeds_two_nodes_is_one_zone(frozen: Frozen) -> None:
    """Two nodes in France see one French grid: a sum would double it, and so would counting."""
    by = "grid_zone, signal, basis"
    told = [
        value
        for scrape in frozen.scrapes.values()
        for value in scrape.series("wattspan_grid_intensity_grams_per_kwh", grid_zone="FR").values()
    ]
    assert len(told) == 2
    (row,) = frozen.asked(f'max by ({by}) (wattspan_grid_intensity_grams_per_kwh{{grid_zone="FR"}})').values()
    assert row == max(told)


def test_what_is_no_sum_is_known() -> None:
    """A new metric that does not add up over nodes is put here on purpose; everything else is summed."""
    odd = {metric.exposed_name: metric.across for metric in CATALOGUE if metric.across != "sum"}
    assert {name for name, word in odd.items() if word == "avg"} == {
        "wattspan_gpu_utilization_ratio",
        "wattspan_gpu_sm_clock_hertz",
    }
    assert {name for name, word in odd.items() if word == "min"} == {
        "wattspan_source_up",
        "wattspan_source_last_read_timestamp_seconds",
        "wattspan_gpu_up",
        "wattspan_run_start_timestamp_seconds",
        "wattspan_journal_last_commit_timestamp_seconds",
    }
    assert {name for name, word in odd.items() if word == "max"} == {
        "wattspan_pue_ratio",
        "wattspan_pue_configured",
        "wattspan_run_progress_ratio",
        "wattspan_run_steps_total",
        "wattspan_run_samples_total",
        "wattspan_run_tokens_total",
        "wattspan_run_repeated_steps_total",
        "wattspan_run_budget_co2e_grams",
        "wattspan_electricity_price_per_kwh",
        "wattspan_gpu_temperature_celsius",
        "wattspan_gpu_recovery_action",
    }
    by_all = {name for name, word in odd.items() if word == "max by"}
    assert by_all == {name for name in odd if name.startswith("wattspan_grid_")} | {
        "wattspan_run_info",
        "wattspan_run_attempt_info",
    }
    alone = {name for name, word in odd.items() if word == "-"}
    assert alone == {
        "wattspan_gpu_energy_check_ratio",
        "wattspan_run_pod_info",
        *(name for name in odd if "_projected_" in name or "greenest_co2e" in name),
    }


@pytest.mark.slow
def test_rates_of_progress_are_summed(alive: DemoFleet) -> None:
    """Only rank 0's node counts steps, so the sum of rates over nodes is the run's own pace."""
    steps = "wattspan_run_steps_total"
    now_s = time.time()  # one moment for both: the fleet lives
    pace = alive.prometheus.value(f'sum(rate({steps}{{run_id="wide"}}[30s]))', now_s)
    by_node = {
        row["metric"]["instance"]: float(row["value"][1])
        for row in alive.prometheus.query(f'rate({steps}{{run_id="wide"}}[30s])', now_s)
    }
    assert pace == by_node["gpu-3"] > 0
    assert {node: rate for node, rate in by_node.items() if node != "gpu-3"} in ({}, {"gpu-4": 0})


@pytest.mark.slow
def test_pods_and_owners_agree_across_nodes(frozen: Frozen) -> None:
    """Over the fleet owners' GPU energy is that of the shares run and pod, as it is on each node."""
    owners = frozen.prometheus.value('sum(wattspan_owner_energy_joules_total{component="gpu"})')
    shares = frozen.prometheus.value('sum(wattspan_gpu_attributed_energy_joules_total{share=~"run|pod"})')
    assert owners == pytest.approx(shares)
    whole = frozen.prometheus.value("sum(wattspan_gpu_attributed_energy_joules_total)")
    assert whole == pytest.approx(frozen.prometheus.value("sum(wattspan_gpu_energy_joules_total)"))
