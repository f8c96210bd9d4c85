"""What Prometheus makes of the chart: targets, rules, a plain configuration."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.cases import CASES
from tests.alerts.promtool import judge
from tests.helm.chart import ROOT, Object, of_kind, render
from tests.real_parts import need
from wattspan.config import SETTINGS

PLAIN = ROOT / "helm" / "manifests" / "prometheus.yml"
ENDPOINTS = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}
KINDS = pytest.mark.parametrize("kind", ENDPOINTS)


def monitor(kind: str, **values: Any) -> Object:
    """The one monitor, of that kind."""
    rendered = render({"monitor": {"kind": kind}, **values})
    assert len(of_kind(rendered, "ServiceMonitor") + of_kind(rendered, "PodMonitor")) == 1
    (found,) = of_kind(rendered, kind)
    return found


@KINDS
def test_a_target_is_a_node_and_not_a_pod(kind: str) -> None:
    """`instance` is the node's name, `job` what the alerts look for, and nothing of the pod is a label."""
    (endpoint,) = monitor(kind)["spec"][ENDPOINTS[kind]]
    assert endpoint["relabelings"] == [
        {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "instance"},
        {"targetLabel": "job", "replacement": "wattspan"},
        {"action": "labeldrop", "regex": "(pod|container|endpoint)"},
    ]
    assert "honorLabels" not in endpoint


@KINDS
@pytest.mark.parametrize("budget", [None, 100, 8000, 1_000_000])
def test_the_sample_limit_follows_the_series_budget(kind: str, budget: int | None) -> None:
    """A daemon that keeps to its budget is never cut off by Prometheus."""
    config = {"config": {"metrics": {"series-budget": budget}}} if budget else {}
    default = int(SETTINGS["metrics.series-budget"].default_text)
    assert monitor(kind, **config)["spec"]["sampleLimit"] == (budget or default) + 500


@KINDS
def test_a_monitor_speaks_as_the_daemon_does(kind: str) -> None:
    """HTTPS where the web configuration says so."""
    (plain,) = monitor(kind)["spec"][ENDPOINTS[kind]]
    assert "scheme" not in plain
    for security in ("tls", "clientCertificates"):
        web = {"configSecret": "web", "security": security}
        (endpoint,) = monitor(kind, web=web)["spec"][ENDPOINTS[kind]]
        assert endpoint["scheme"] == "https"


def test_the_rendered_rules_are_rules(tmp_path: Path) -> None:
    """promtool reads what stands in the objects, and finds every rule of the files."""
    need("promtool", shutil.which("promtool") is not None)
    values = {"rules": {"enabled": True, "compat": {"dcgm": True, "kepler": True}}}
    files = []
    for each in of_kind(render(values), "PrometheusRule"):
        files.append(tmp_path / f"{each['metadata']['name']}.yaml")
        files[-1].write_text(yaml.safe_dump(each["spec"]))
    done = subprocess.run(["promtool", "check", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = sum(
        len(group["rules"])
        for file in ROOT.glob("alerts/rules/**/*.yaml")
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    )
    found = [int(line.split()[1]) for line in done.stdout.splitlines() if "rules found" in line]
    assert len(files) == len(list(ROOT.glob("alerts/rules/**/*.yaml"))) > 8
    assert sum(found) == rules > 100


def rule_files(folder: Path, **values: Any) -> list[dict[str, Any]]:
    """The rules that the chart makes with these values, also as files in a folder, by the names of ours."""
    folder.mkdir()
    found = []
    for each in of_kind(render({"rules": {"enabled": True, **values}}), "PrometheusRule"):
        name = each["metadata"]["name"].removeprefix("wattspan-")
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(each["spec"], width=1000))
        found += [rule for group in each["spec"]["groups"] for rule in group["rules"]]
    done = subprocess.run(
        ["promtool", "check", "rules", *folder.glob("*.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return found


def test_a_threshold_of_the_values_is_the_alerts(tmp_path: Path) -> None:
    """What the alert compares with is what the operator has said, and every other limit stays."""
    need("promtool", shutil.which("promtool") is not None)
    ours = {case.why: case for case in CASES if case.alert == "WattspanUnattributedHigh"}
    fires, quiet = (
        ours["A share of 10.4 % is a warning after half an hour."],
        ours["A share of 9.6 % is none."],
    )
    rule_files(tmp_path / "ours")
    rule_files(tmp_path / "wider", thresholds={"unattributed_ratio": 0.2, "recovery_action": 0})
    assert judge([fires, quiet], tmp_path, tmp_path / "ours") == ""
    assert judge([replace(fires, firing=())], tmp_path, tmp_path / "wider") == ""


def test_zones_of_the_values_have_their_own_limit(tmp_path: Path) -> None:
    """One that is new, one instead of ours, and the others as they were."""
    need("promtool", shutil.which("promtool") is not None)
    rules = rule_files(
        tmp_path / "rules",
        dirtyZones={"PL": 650, "FR": 90.5},
        thresholds={"grid_dirty_grams_per_kwh": 400},
    )
    limits = {
        rule["labels"].get("grid_zone", ""): rule["expr"]
        for rule in rules
        if rule.get("labels", {}).get("threshold") == "grid_dirty_grams_per_kwh"
    }
    assert limits == {"": "vector(400)", "PL": "vector(650)", "FR": "vector(90.5)", "SE": "vector(60)"}


def test_alerts_can_be_left_out(tmp_path: Path) -> None:
    """All tiers of them, a group that is empty then, and nothing else."""
    need("promtool", shutil.which("promtool") is not None)
    out = ["WattspanPowerCapped", "WattspanDown"]
    before = rule_files(tmp_path / "before")
    after = rule_files(tmp_path / "after", disabled=out)
    assert after == [rule for rule in before if rule.get("alert") not in out]
    assert len(after) <= len(before) - 4


def test_runbooks_may_be_elsewhere(tmp_path: Path) -> None:
    """Each alert and each dashboard leads to the page that the operator names, and none to ours."""
    need("promtool", shutil.which("promtool") is not None)
    page = "https://wiki.example/wattspan"
    alerts = [rule for rule in rule_files(tmp_path / "rules", runbookUrl=page) if "alert" in rule]
    assert alerts
    for rule in alerts:
        assert rule["annotations"]["runbook_url"] == f"{page}#{rule['alert'].lower()}"
    rendered = render({"dashboards": {"enabled": True}, "rules": {"runbookUrl": page}})
    boards = [each["data"] for each in of_kind(rendered, "ConfigMap") if "wattspan.yml" not in each["data"]]
    assert len(boards) >= 6
    for (text,) in (board.values() for board in boards):
        assert page in text
        assert "RUNBOOKS.md" not in text


def test_a_plain_prometheus_names_targets_alike(tmp_path: Path) -> None:
    """The same job, instance and limit, from the pod's own labels and port."""
    need("promtool", shutil.which("promtool") is not None)
    document = yaml.safe_load(PLAIN.read_text(encoding="utf-8"))
    (scrape,) = document["scrape_configs"]
    # Debian's promtool is built without the discovery of Kubernetes.
    assert scrape.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    scrape["static_configs"] = [{"targets": ["127.0.0.1:9746"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    of_operator = monitor("PodMonitor")["spec"]
    assert scrape["job_name"] == "wattspan"
    assert scrape["sample_limit"] == of_operator["sampleLimit"]
    keep, instance = scrape["relabel_configs"]
    assert instance == {
        "source_labels": ["__meta_kubernetes_pod_node_name"],
        "target_label": "instance",
    }
    labels = of_operator["selector"]["matchLabels"]
    assert keep["regex"] == f"{labels['app.kubernetes.io/name']};http"
    assert keep["source_labels"] == [
        "__meta_kubernetes_pod_label_app_kubernetes_io_name",
        "__meta_kubernetes_pod_container_port_name",
    ]
