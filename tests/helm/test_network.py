"""Who reaches the daemon, and where it goes: what the policy lets through is what the values need."""

from typing import Any

import pytest

from tests.helm.chart import Object, of_kind, render

DNS = {("UDP", 53), ("TCP", 53)}
METADATA = {("TCP", 80)}
COLLECTOR = {("TCP", 4317), ("TCP", 4318)}
QUIET = {"cloud-metadata": False}
BARE = {"pods": "none", "config": {"grid": QUIET}}


def policy(**values: Any) -> Object:
    """The spec of the one policy."""
    (found,) = of_kind(render({"networkPolicy": {"enabled": True}, **values}), "NetworkPolicy")
    spec: Object = found["spec"]
    return spec


def ways_out(spec: Object) -> set[tuple[str, int]]:
    """Protocols and ports of all rules."""
    return {(port["protocol"], port["port"]) for rule in spec["egress"] for port in rule["ports"]}


def test_there_is_none_unless_it_is_asked_for() -> None:
    """A policy of ours would keep out a Prometheus that nobody told it of."""
    assert of_kind(render(), "NetworkPolicy") == []


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        (BARE, set()),
        ({"pods": "none"}, METADATA),
        ({"pods": "none", "config": {"grid": {"cloud-metadata": "off"}}}, set()),
        ({**BARE, "pods": "kubelet"}, {("TCP", 10250)}),
        ({**BARE, "pods": "api"}, {("TCP", 443), ("TCP", 6443)}),
        ({**BARE, "config": {"grid": {**QUIET, "providers": ["eco2mix"]}}}, {("TCP", 443)}),
        ({**BARE, "config": {"grid": QUIET, "cost": {"provider": "energycharts"}}}, {("TCP", 443)}),
        ({**BARE, "env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}}, COLLECTOR),
        ({**BARE, "env": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318"}}, COLLECTOR),
        ({**BARE, "env": {"OTEL_SERVICE_NAME": "w"}}, set()),
        ({**BARE, "networkPolicy": {"enabled": True, "egress": {"x": {"ports": [3128]}}}}, {("TCP", 3128)}),
    ],
)
def test_the_daemon_goes_where_its_settings_lead(values: Object, ports: set[tuple[str, int]]) -> None:
    """To DNS always, and to nothing that is off."""
    assert ways_out(policy(**values)) == DNS | ports


def test_the_metadata_service_is_one_address() -> None:
    """Port 80 is open to no other."""
    (rule,) = [rule for rule in policy()["egress"] if "to" in rule]
    assert rule["to"] == [{"ipBlock": {"cidr": "169.254.169.254/32"}}]


def test_only_those_who_are_named_come_in() -> None:
    """The peers of the values, and the pod of `helm test`."""
    training = {"namespaceSelector": {"matchLabels": {"team": "nlp"}}}
    chosen = {"enabled": True, "ingress": {"pods": None, "training": training}}
    spec = policy(networkPolicy=chosen)
    (rule,) = spec["ingress"]
    (test,) = of_kind(render(), "Pod")
    assert rule["from"] == [training, {"podSelector": {"matchLabels": test["metadata"]["labels"]}}]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
