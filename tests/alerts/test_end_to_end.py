"""From a demo daemon through Prometheus and Alertmanager to whoever has to know."""

import re
import time
from pathlib import Path
from typing import Final

import pytest

from tests.alerts.alertmanager import Alertmanager, Webhook
from tests.alerts.rule_files import COMPAT, DEFAULT
from tests.e2e.daemon import Daemon
from tests.e2e.prometheus import Prometheus

NODE: Final = "gpu-1"


def quick_rules(folder: Path) -> Path:
    """All rules, evaluated each second, with alerts that wait for two seconds instead of minutes."""
    there = folder / "rules"
    there.mkdir()
    for path in (*DEFAULT, *COMPAT):
        text = re.sub(r"(?m)^    interval: \w+$", "    interval: 1s", path.read_text())
        text = re.sub(r"(?m)^(  - name: [\w.]+)\n    rules:", r"\1\n    interval: 1s\n    rules:", text)
        text = re.sub(r"(?m)^        for: \w+$", "        for: 2s", text)
        (there / path.name).write_text(text)
    return there


@pytest.mark.slow
def test_an_alert_reaches_its_desk_once(tmp_path: Path) -> None:
    """A dirty grid reaches the keepers of carbon, a dead exporter pages the SRE, and one cause pages once."""
    with Webhook() as webhook, Alertmanager(tmp_path, webhook) as alertmanager:
        scrape = (
            f"rule_files: ['{quick_rules(tmp_path)}/*.yaml']\n"
            "alerting:\n"
            f"  alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager.port}']}}]}}]\n"
        )
        flags = ("--node.name", NODE, "--grid.intensity", "700", "--grid.zone", "PL")
        demo = Daemon(None, tmp_path / "state", *flags, command=("demo", "--gpus", "2"))
        with Prometheus(tmp_path, NODE, scrape) as prometheus, demo as daemon:
            daemon.wait_ready()
            prometheus.target(f"127.0.0.1:{daemon.port}")

            dirty = webhook.wait_for(
                "sustainability", lambda told: told["labels"]["alertname"] == "WattspanGridDirty"
            )
            assert dirty["status"] == "firing"
            assert dirty["labels"]["grid_zone"] == "PL"
            assert dirty["labels"]["severity"] == "info"
            assert dirty["annotations"]["description"].startswith(
                "A kilowatt-hour in PL causes 700 g of CO2e now"
            )
            assert dirty["annotations"]["runbook_url"].endswith("#wattspangriddirty")
            assert "sre-pager" not in webhook.told

            # A real Prometheus evaluates every rule without an error, those of others' names too.
            found = prometheus.rules()
            assert {rule["health"] for rule in found} == {"ok"}, [
                rule for rule in found if rule["health"] != "ok"
            ]
            for name in (
                "DCGM_FI_DEV_POWER_USAGE",
                "kepler_node_gpu_watts",
                "cluster:wattspan_coverage:ratio_rate5m",
            ):
                prometheus.wait_for(f"count({name})")

            daemon.kill()
            page = webhook.wait_for("sre-pager", lambda told: told["labels"]["alertname"] == "WattspanDown")
            assert page["labels"]["severity"] == "critical"
            assert page["annotations"]["description"] == "Only 0% of the exporters answer their scrapes."
            # The same cause makes a warning too; the page mutes it, so no ticket is opened beside the page.
            give_up = time.monotonic() + 30
            while ("WattspanDown", "warning") not in alertmanager.muted() and time.monotonic() < give_up:
                time.sleep(0.2)
            assert alertmanager.muted()["WattspanDown", "warning"]
            assert not [
                told for told in webhook.alerts("sre") if told["labels"]["alertname"] == "WattspanDown"
            ]


@pytest.mark.slow
def test_one_cause_pages_once(tmp_path: Path) -> None:
    """Of what one cause makes, the alert that names the cause is told, and the others are muted."""
    node = {"cluster": "eu", "instance": "n1"}
    budget = {"cluster": "eu", "budget": "b", "project": "nlp", "period": "month"}

    def alert(name: str, severity: str, concern: str, **labels: str) -> dict[str, str]:
        return {"alertname": f"Wattspan{name}", "severity": severity, "concern": concern, **labels}

    causes = [
        alert("SourceDown", "warning", "health", source="nvidia", **node),
        alert("JournalNotCommitting", "warning", "health", **node),
        alert("CarbonBudgetSpent", "warning", "carbon", **budget),
        alert("GpuLost", "critical", "hardware", cluster="eu", instance="n2"),
        # Other nodes, other budgets: troubles of their own.
        alert("DataStale", "warning", "health", source="nvidia", cluster="eu", instance="n3"),
        alert("CarbonBudgetForecast", "warning", "carbon", **{**budget, "budget": "c"}),
    ]
    effects = [
        alert("GpuLost", "warning", "hardware", uuid="g", gpu="0", **node),
        alert("DataStale", "warning", "health", source="nvidia", **node),
        alert("CarbonBudgetBurn", "critical", "carbon", long="1h", short="5m", **budget),
        alert("CarbonBudgetBurn", "warning", "carbon", long="1d", short="2h", **budget),
        alert("CarbonBudgetForecast", "warning", "carbon", **budget),
        alert("GpuLost", "warning", "hardware", uuid="h", gpu="0", cluster="eu", instance="n2"),
        alert("GpuMissing", "warning", "hardware", cluster="eu", instance="n2"),
    ]
    with Webhook() as webhook, Alertmanager(tmp_path, webhook) as alertmanager:
        alertmanager.send(*causes)
        time.sleep(0.5)
        alertmanager.send(*effects)
        for cause in causes:
            desk = "team-nlp" if cause["concern"] == "carbon" else "sre"
            desk = "sre-pager" if cause["severity"] == "critical" else desk
            webhook.wait_for(desk, lambda told, cause=cause: told["labels"] == cause)
        time.sleep(4)
        told = [each["labels"] for messages in webhook.told for each in webhook.alerts(messages)]
        assert not [effect for effect in effects if effect in told]


@pytest.mark.slow
def test_info_waits_for_the_morning(tmp_path: Path) -> None:
    """At night info is told to nobody, and a warning is told all the same."""
    with Webhook() as webhook, Alertmanager(tmp_path, webhook, night="00:00-24:00") as alertmanager:
        alertmanager.send(
            {"alertname": "WattspanPowerCapped", "severity": "info", "concern": "hardware", "instance": "n1"},
            {"alertname": "WattspanGridDirty", "severity": "info", "concern": "carbon", "grid_zone": "DE"},
            {"alertname": "WattspanSourceDown", "severity": "warning", "concern": "health", "instance": "n1"},
        )
        webhook.wait_for("sre", lambda told: told["labels"]["alertname"] == "WattspanSourceDown")
        time.sleep(4)
        assert set(webhook.told) == {"sre"}
