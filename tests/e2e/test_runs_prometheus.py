"""Runs in a real Prometheus: the contract's join, over one node and two, and exemplars."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.metering import FAST, THREE_CARDS
from tests.e2e.prometheus import Prometheus, free_port
from tests.e2e.training import SEEN_S, Clerk, Jobs, gpu_joules, jobs_on, kept
from tests.fakes.nvml import FakeNvml
from wattspan.workloads import run_ids

JOIN = "on (run_id) group_left (project) max by (run_id, project) (wattspan_run_info)"
"""The contract's, word for word."""

JOULES = f"sum by (run_id) (wattspan_run_energy_joules_total) * {JOIN}"

NODES = ("gpu-1", "gpu-2")


def joined(prometheus: Prometheus, expression: str = JOULES) -> dict[tuple[str, str], float]:
    """What the join gives now, by run and project."""
    return {
        (row["metric"]["run_id"], row["metric"]["project"]): float(row["value"][1])
        for row in prometheus.query(expression)
    }


def settled(prometheus: Prometheus, joules: dict[tuple[str, str], float]) -> None:
    """Wait until the join gives these figures."""
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        if joined(prometheus) == pytest.approx(joules):
            return
        time.sleep(0.5)
    raise AssertionError(f"{joined(prometheus)} is not {joules}")


@pytest.mark.slow
def test_the_one_join_on_one_node_and_on_two(tmp_path: Path) -> None:
    """For runs that go on and for those that have just ended, also over a kill -9 of a daemon."""
    with ExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(tmp_path, "none"))
        clerks: dict[str, Clerk] = {}
        jobs: dict[str, Jobs] = {}
        daemons: dict[str, Daemon] = {}
        ports = {node: free_port() for node in NODES}
        for node in NODES:
            folder = tmp_path / node
            folder.mkdir()
            fake = stack.enter_context(FakeNvml(THREE_CARDS, folder))
            jobs[node] = stack.enter_context(jobs_on(fake))
            flags = (*FAST, "--node.name", node, "--cluster.name", "hpc")
            daemons[node] = stack.enter_context(Daemon(fake, folder / "s", *flags, port=ports[node]))
            clerks[node] = Clerk(daemons[node].wait_ready())
        prometheus.nodes({node: f"127.0.0.1:{port}" for node, port in ports.items()})
        prometheus.wait_for("sum(wattspan_gpu_up)")
        pids = {node: [jobs[node].start(gpu) for gpu in range(2)] for node in NODES}
        time.sleep(SEEN_S)
        for rank, node in enumerate(NODES):
            clerks[node].begin(
                run_id="wide",
                project="nlp",
                pid=pids[node][0],
                rank=8 * rank,
                world_size=16,
                nodes_expected=2,
            )
        clerks["gpu-1"].begin(run_id="alone", project="vision", pid=pids["gpu-1"][1])
        prometheus.wait_for('sum(wattspan_run_energy_joules_total{run_id="alone"})')

        live = joined(prometheus)
        assert set(live) == {("wide", "nlp"), ("alone", "vision")}
        # Of single ticks of 200 ms over a counter that moves every 100 ms: 300 W are 150 to 450 now and then.
        rates = joined(prometheus, f"sum by (run_id) (wattspan_run_power_watts) * {JOIN}")
        assert rates["wide", "nlp"] == pytest.approx(600, rel=0.6)
        assert rates["alone", "vision"] == pytest.approx(300, rel=0.6)

        daemons["gpu-1"].kill()
        daemons["gpu-1"].start()
        daemons["gpu-1"].wait_ready().after(2)
        # Of both a scrape that came later: one of while it was down may be in progress.
        prometheus.wait_for(f"count(up == 1 and timestamp(up) > {time.time()}) == 2")
        assert set(joined(prometheus)) == set(live)

        clerks["gpu-1"].end("alone")
        for node in NODES:
            clerks[node].end("wide")
        wide_j = sum(gpu_joules(kept(tmp_path / node / "s", "wide")) for node in NODES)
        alone_j = gpu_joules(kept(tmp_path / "gpu-1/s", "alone"))
        settled(prometheus, {("wide", "nlp"): wide_j, ("alone", "vision"): alone_j})
        daemons["gpu-2"].kill()
        daemons["gpu-2"].start()
        daemons["gpu-2"].wait_ready().after(2)
        time.sleep(2)
        settled(prometheus, {("wide", "nlp"): wide_j, ("alone", "vision"): alone_j})

        again = clerks["gpu-1"].begin(run_id="alone", project="vision", pid=pids["gpu-1"][1])
        assert again["attempt"] == 1
        prometheus.wait_for(f'sum(wattspan_run_energy_joules_total{{run_id="alone"}}) > {alone_j}')
        assert joined(prometheus)["alone", "vision"] > alone_j
        wide = prometheus.query('max by (run_id, trace_id) (wattspan_run_attempt_info{run_id="wide"})')
        assert [row["metric"]["trace_id"] for row in wide] == [run_ids.trace_id("hpc", "wide", 0)]


@pytest.mark.slow
def test_exemplars_are_stored_once_for_each_window(tmp_path: Path) -> None:
    """The last window closes with the run; however often it is scraped, one is kept for each counter."""
    port = free_port()
    with (
        Prometheus(tmp_path, "gpu-1") as prometheus,
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(
            fake,
            tmp_path / "s",
            *FAST,
            port=port,
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
        ) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        prometheus.target(f"127.0.0.1:{port}")
        pid = jobs.start(0)
        time.sleep(SEEN_S)
        began_s = time.time()
        clerk.begin(run_id="sft", pid=pid)
        prometheus.wait_for('sum(wattspan_run_energy_joules_total{run_id="sft"})')
        seconds = time.time() - began_s + 60
        assert prometheus.exemplars("wattspan_run_energy_joules_total", seconds) == {}
        clerk.end("sft")
        give_up_s = time.monotonic() + 30
        while not prometheus.exemplars("wattspan_run_energy_joules_total", seconds):
            assert time.monotonic() < give_up_s, "no exemplar was stored"
            time.sleep(0.5)
        time.sleep(3)  # scraped again
        stored = prometheus.exemplars("wattspan_run_energy_joules_total", seconds + 60)
        ((_, exemplars),) = stored.items()
        (exemplar,) = exemplars
        assert exemplar["labels"]["trace_id"] == run_ids.trace_id("", "sft", 0)
        assert float(exemplar["value"]) == pytest.approx(gpu_joules(kept(tmp_path / "s", "sft")))
