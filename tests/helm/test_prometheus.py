"""What Prometheus makes of the chart: targets, rules, a plain configuration."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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
