"""From the card to a real Prometheus: over TLS with a password, through a kill and a move, to the joule."""

import base64
import time
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest

from tests.e2e.certificates import self_signed, trusting
from tests.e2e.daemon import Daemon
from tests.e2e.prometheus import Prometheus, free_port
from tests.e2e.truth import Truth, falls
from tests.fakes.nvml import FakeNvml, load_scenario

GPUS = 2
NODE = "node-a"
METER_S = 180


@pytest.mark.slow
def test_prometheus_stores_the_scenarios_integral_through_a_kill_and_a_move(tmp_path: Path) -> None:
    """Raw samples differ by exactly the scenario's energy; increase() over 3 minutes agrees within 1 %.

    In the middle the daemon is killed with SIGKILL and comes back on another address.
    """
    scenario = replace(load_scenario("h100x8"), clock="real")
    scenario = replace(scenario, gpus=scenario.gpus[:GPUS])
    certificate, key = self_signed(tmp_path)
    web_config = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    web_config.write_text(
        f"tls_server_config: {{cert_file: {certificate.name}, key_file: {key.name}}}\n"
        f"basic_auth_users: {{prometheus: '{hashed}'}}\n"
    )
    scrape = (
        "    scheme: https\n"
        f"    tls_config: {{ca_file: '{certificate}'}}\n"
        "    basic_auth: {username: prometheus, password: secret}\n"
    )
    tls = trusting(certificate)

    def daemon(port: int) -> Daemon:
        flags = ("--web.config.file", str(web_config), "--node.name", NODE, "--source.estimate", "auto")
        return Daemon(fake, tmp_path / "state", *flags, port=port, tls=tls)

    with FakeNvml(scenario, tmp_path) as fake, Prometheus(tmp_path, NODE, scrape) as prometheus:
        with daemon(free_port()) as first:
            first.wait_ready()
            prometheus.target(f"127.0.0.1:{first.port}")
            prometheus.wait_for("sum(wattspan_gpu_energy_joules_total)")
            started_s = time.time()
            time.sleep(METER_S / 3)
            first.kill()
        with daemon(free_port()) as second:
            second.wait_ready()
            prometheus.target(f"127.0.0.1:{second.port}")
            time.sleep(max(0, started_s + METER_S + 2 - time.time()))
            end_s = time.time()
            header = {"Authorization": "Basic " + base64.b64encode(b"prometheus:secret").decode()}
            assert second.get("/metrics").status == 401
            assert second.metrics(header).value("wattspan_source_up", source="nvidia") == 1

        truth = Truth(fake)
        ((_, read),) = prometheus.samples(
            'wattspan_source_last_read_timestamp_seconds{source="nvidia"}', "5m"
        ).items()
        for gpu, uuid in enumerate(fake.uuids):
            selector = f'wattspan_gpu_energy_joules_total{{uuid="{uuid}",method="counter"}}'
            stored = prometheus.samples(selector, "5m")
            assert len(stored) == 1, "a restart on another address renamed the series"
            (samples,) = stored.values()
            exact, of = truth.count_exact(gpu, samples, read)
            print(f"GPU {gpu}: {exact} of {of} differences of raw samples equal the scenario's integral")
            assert (exact, of > METER_S / 2) == (of, True)

        window_s = 170.0
        for gpu, uuid in enumerate(fake.uuids):
            selector = f'wattspan_gpu_energy_joules_total{{uuid="{uuid}"}}'
            increase_j = prometheus.value(f"sum(increase({selector}[{window_s:.0f}s]))", end_s)
            ends = truth.joules_at(gpu, end_s), truth.joules_at(gpu, end_s - window_s)
            true_j = max(ends[0]) - min(ends[1])
            off = increase_j / true_j - 1
            print(f"GPU {gpu}: increase() {increase_j:.0f} J, scenario {true_j:.0f} J, off {off:+.3%}")
            assert increase_j == pytest.approx(true_j, rel=0.01)

        counters = prometheus.counters("5m")
        assert {name: falls(samples) for name, samples in counters.items() if falls(samples)} == {}
        down = 'wattspan_gpu_unattributed_energy_joules_total{reason="exporter_down"}'
        # The daemon has ended, and its series with it: these are of the last moment of the story.
        assert prometheus.value(f"sum(last_over_time({down}[1m]))", end_s) > 0
        energy = "sum by (uuid) (last_over_time(wattspan_gpu_energy_joules_total[1m]))"
        shares = "sum by (uuid) (last_over_time(wattspan_gpu_attributed_energy_joules_total[1m]))"
        left_over = prometheus.query(f"{energy} - {shares}", end_s)
        assert [abs(float(row["value"][1])) < 1e-6 for row in left_over] == [True] * GPUS
