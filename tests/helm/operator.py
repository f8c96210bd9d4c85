"""Scrape configurations as Prometheus gets them: those that its operator writes for a monitor, and ours.

The discovery of Kubernetes is replaced by a file with the labels that it would give, so that every rule that
makes them into a target's labels is Prometheus' own work.
The operator's rules are those of prometheus-operator's pkg/prometheus/promcfg.go, for the role endpoints.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.helm.chart import Object

Rule = dict[str, Any]

_META: Final = "__meta_kubernetes_"


def scrape_config(monitor: Object, targets: Path, *, relabelings: bool = True) -> Object:
    """What the operator makes of a ServiceMonitor or PodMonitor with one endpoint.

    Args:
        targets: the file of `discovered`.
        relabelings: with the monitor's own rules; without, what every target is called by default.
    """
    of_service = monitor["kind"] == "ServiceMonitor"
    (endpoint,) = monitor["spec"]["endpoints" if of_service else "podMetricsEndpoints"]
    meta, spec = monitor["metadata"], monitor["spec"]
    rules = _of_service(spec, endpoint) if of_service else _of_pod(meta, spec, endpoint)
    own = [{_snake(key): value for key, value in rule.items()} for rule in endpoint["relabelings"]]
    kind = monitor["kind"][0].lower() + monitor["kind"][1:]
    return {
        "job_name": f"{kind}/{meta['namespace']}/{meta['name']}/0{'' if relabelings else '/bare'}",
        "metrics_path": endpoint["path"],
        "scheme": endpoint.get("scheme", "http"),
        "sample_limit": spec["sampleLimit"],
        "relabel_configs": [*rules, *(own if relabelings else ())],
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
    }


def plain_config(document: Object, targets: Path) -> Object:
    """The one scrape configuration of a Prometheus without an operator."""
    (scrape,) = document["scrape_configs"]
    without = {key: value for key, value in scrape.items() if key != "kubernetes_sd_configs"}
    found = {"file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}
    return {**without, **found, "scrape_interval": "1s"}


def discovered(targets: Path, labels: Sequence[Mapping[str, str]]) -> None:
    """Write what is found now, at once, one target for each mapping."""
    groups = [{"targets": [each["__address__"]], "labels": dict(each)} for each in labels]
    part = targets.with_suffix(".part")
    part.write_text(json.dumps(groups))
    part.replace(targets)


def labels_of(
    pod: Object, service: Object, *, name: str, node: str, address: str, port: int
) -> dict[str, str]:
    """What discovery says of a daemon's pod, by way of its Service and by itself."""
    labels = {
        "__address__": f"{address}:{port}",
        f"{_META}namespace": service["metadata"]["namespace"],
        f"{_META}service_name": service["metadata"]["name"],
        f"{_META}endpoint_port_name": service["spec"]["ports"][0]["name"],
        f"{_META}endpoint_address_target_kind": "Pod",
        f"{_META}endpoint_address_target_name": name,
        f"{_META}pod_name": name,
        f"{_META}pod_ip": address,
        f"{_META}pod_node_name": node,
        f"{_META}pod_host_ip": "127.0.0.1",
        f"{_META}pod_phase": "Running",
        f"{_META}pod_ready": "true",
        f"{_META}pod_controller_kind": "DaemonSet",
        f"{_META}pod_container_name": pod["spec"]["containers"][0]["name"],
        f"{_META}pod_container_port_name": pod["spec"]["containers"][0]["ports"][0]["name"],
    }
    for of, has in (("pod", pod["metadata"]["labels"]), ("service", service["metadata"]["labels"])):
        for label, value in has.items():
            labels[f"{_META}{of}_label_{_name(label)}"] = value
            labels[f"{_META}{of}_labelpresent_{_name(label)}"] = "true"
    return labels


def _of_service(spec: Object, endpoint: Object) -> list[Rule]:
    return [
        *_selected("service", spec),
        _keep([f"{_META}endpoint_port_name"], endpoint["port"]),
        *(_copy(["endpoint_address_target_kind", "endpoint_address_target_name"], to, f"{kind};(.*)")
          for kind, to in (("Node", "node"), ("Pod", "pod"))),
        *(_copy([source], to) for source, to in (
            ("namespace", "namespace"), ("service_name", "service"), ("pod_name", "pod"),
            ("pod_container_name", "container"))),
        {"source_labels": [f"{_META}pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
        _copy(["service_name"], "job", "(.+)"),
        {"target_label": "endpoint", "replacement": endpoint["port"]},
    ]  # fmt: skip


def _of_pod(meta: Object, spec: Object, endpoint: Object) -> list[Rule]:
    return [
        {"source_labels": [f"{_META}pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
        *_selected("pod", spec),
        _keep([f"{_META}pod_container_port_name"], endpoint["port"]),
        *(_copy([source], to) for source, to in (
            ("namespace", "namespace"), ("pod_container_name", "container"), ("pod_name", "pod"))),
        {"target_label": "job", "replacement": f"{meta['namespace']}/{meta['name']}"},
        {"target_label": "endpoint", "replacement": endpoint["port"]},
    ]  # fmt: skip


def _selected(of: str, spec: Object) -> list[Rule]:
    return [
        _keep(
            [f"{_META}{of}_label_{_name(label)}", f"{_META}{of}_labelpresent_{_name(label)}"],
            f"({re.escape(value)});true",
        )
        for label, value in spec["selector"]["matchLabels"].items()
    ]


def _keep(sources: Sequence[str], regex: str) -> Rule:
    return {"source_labels": [*sources], "regex": regex, "action": "keep"}


def _copy(sources: Sequence[str], to: str, regex: str = "(.*)") -> Rule:
    return {"source_labels": [f"{_META}{each}" for each in sources], "regex": regex, "target_label": to}


def _name(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _snake(word: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", word)
