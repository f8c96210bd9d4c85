"""kill -9, again and again, under a 1 s scrape."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.prometheus import Prometheus, free_port
from tests.e2e.truth import Truth, falls
from tests.fakes.nvml import FakeNvml, load_scenario


@pytest.mark.slow
def test_no_scraped_counter_ever_decreases_under_kill_9(tmp_path: Path, kills: int) -> None:
    """Killed at random moments: nothing published goes back, what was used meanwhile is counted once."""
    scenario = replace(load_scenario("h100"), clock="real")
    chance = random.Random(20261120)
    port = free_port()
    with (
        FakeNvml(scenario, tmp_path) as fake,
        Prometheus(tmp_path, "node-a") as prometheus,
        Daemon(fake, tmp_path / "state", "--sample.interval", "200ms", port=port) as daemon,
    ):
        prometheus.target(f"127.0.0.1:{port}")
        daemon.wait_ready()
        prometheus.wait_for("sum(wattspan_gpu_energy_joules_total)")
        began_s = time.time()
        for _ in range(kills):
            # From in the middle of the start to well after several commits.
            time.sleep(chance.uniform(0.05, 2.2))
            daemon.kill()
            time.sleep(chance.uniform(0, 0.3))
            daemon.start()
        daemon.wait_ready()
        time.sleep(3)
        window = f"{time.time() - began_s + 5:.0f}s"

        counters = prometheus.counters(window)
        assert {name: falls(samples) for name, samples in counters.items() if falls(samples)} == {}
        moved = [name for name, samples in counters.items() if samples[-1][1] > samples[0][1]]
        assert len(moved) > 5, "the counters that were watched did move"

        truth = Truth(fake)
        ((_, read),) = prometheus.samples("wattspan_source_last_read_timestamp_seconds", window).items()
        counter = prometheus.samples('wattspan_gpu_energy_joules_total{method="counter"}', window)
        ((_, energy),) = counter.items()
        exact, of = truth.count_exact(0, energy, read)
        down = 'wattspan_gpu_unattributed_energy_joules_total{reason="exporter_down"}'
        now_s = time.time()  # one moment for the three, so that all are of one scrape
        down_j = prometheus.value(f"sum(last_over_time({down}[1m]))", now_s)
        total_j = prometheus.value("sum(last_over_time(wattspan_gpu_energy_joules_total[1m]))", now_s)
        shares_j = prometheus.value(
            "sum(last_over_time(wattspan_gpu_attributed_energy_joules_total[1m]))", now_s
        )
        print(
            f"{kills} kills: {exact} of {of} scraped differences equal the scenario's integral; "
            f"{down_j:.0f} of {total_j:.0f} J were used while the daemon was down and are stated as such"
        )
        assert exact == of > kills / 4
        assert 0 < down_j < total_j
        assert shares_j == pytest.approx(total_j, abs=1e-6)
