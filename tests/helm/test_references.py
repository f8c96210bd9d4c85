"""Whatever an object names is there, once, and stays what it was."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import (
    PROFILES,
    Object,
    containers,
    daemon_container,
    daemon_pod,
    daemon_set,
    daemon_yaml,
    of_kind,
    pods,
    render,
    values_files,
    values_of,
)

FILES = values_files()
IDS = [f"{file.parent.name}/{file.name}" for file in FILES]
CASES = pytest.mark.parametrize("file", FILES, ids=IDS)

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "groups": "name",
}
"""By what server-side apply tells the items of a list apart; an item that is there twice is refused."""


def lists(value: Any, name: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Every list of an object, with the field that holds it."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from lists(each, key)
    elif isinstance(value, list):
        yield name, value
        for each in value:
            yield from lists(each, name)


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected."""
    return selector.items() <= labels.items()


@CASES
def test_no_list_holds_an_item_twice(file: Path) -> None:
    """Objects, and by their merge keys the items of each list; ports go by number and protocol."""
    rendered = render(values_of(file))
    names = Counter(
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in rendered
    )
    assert max(names.values()) == 1
    for each in rendered:
        for name, items in lists(each):
            if name in MERGE_KEYS and items and isinstance(items[0], dict) and MERGE_KEYS[name] in items[0]:
                assert max(Counter(item[MERGE_KEYS[name]] for item in items).values()) == 1, (name, items)
            if name == "ports":
                keys = [(i.get("containerPort", i.get("port")), i.get("protocol")) for i in items]
                assert max(Counter(keys).values()) == 1, items


@CASES
def test_every_mount_has_its_volume(file: Path) -> None:
    """And no volume is there for nothing."""
    for _, pod in pods(render(values_of(file))):
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())}
        mounts = {mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", ())}
        assert volumes == mounts


def referenced(pod: Object) -> Iterator[tuple[str, str]]:
    """Kind and name of every ConfigMap and Secret that a pod needs."""

    def below(value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, each in value.items():
                if key in {"secret", "secretKeyRef"} and isinstance(each, dict):
                    yield "Secret", each.get("secretName") or each["name"]
                elif key in {"configMap", "configMapKeyRef"} and isinstance(each, dict):
                    yield "ConfigMap", each["name"]
                elif key == "imagePullSecrets":
                    yield from (("Secret", one["name"]) for one in each)
                yield from below(each)
        elif isinstance(value, list):
            for each in value:
                yield from below(each)

    return below(pod["spec"])


def texts(value: Any) -> set[str]:
    """Every text in the values."""
    if isinstance(value, dict):
        return {text for each in value.values() for text in texts(each)}
    if isinstance(value, list):
        return {text for each in value for text in texts(each)}
    return {value} if isinstance(value, str) else set()


@CASES
def test_every_reference_is_made_here_or_named_by_a_value(file: Path) -> None:
    """Secrets never are made here; all else is, unless a value says whose it is."""
    values = values_of(file)
    rendered = render(values)
    made = {(each["kind"], each["metadata"]["name"]) for each in rendered}
    assert "Secret" not in {kind for kind, _ in made}
    external = texts(values)
    for _, pod in pods(rendered):
        for kind, name in referenced(pod):
            assert (kind, name) in made or name in external, (kind, name)
        account = pod["spec"].get("serviceAccountName")
        assert account is None or ("ServiceAccount", account) in made or account in external
        for claim in pod["spec"].get("resourceClaims", ()):
            assert ("ResourceClaimTemplate", claim["resourceClaimTemplateName"]) in made
    account = daemon_pod(rendered)["spec"]["serviceAccountName"]
    for binding in of_kind(rendered, "ClusterRoleBinding"):
        assert ("ClusterRole", binding["roleRef"]["name"]) in made
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "wattspan"}]
    for scc in of_kind(rendered, "SecurityContextConstraints"):
        assert scc["users"] == [f"system:serviceaccount:wattspan:{account}"]


@CASES
def test_every_port_and_selector_meets_the_daemons_pod(file: Path) -> None:
    """Service, monitor, policy and probes; and none of them meets the pod of `helm test`."""
    rendered = render(values_of(file))
    pod, container = daemon_pod(rendered), daemon_container(rendered)
    labels = pod["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    selector = daemon_set(rendered)["spec"]["selector"]["matchLabels"]
    selectors = [selector]
    services = of_kind(rendered, "Service")
    for service in services:
        selectors.append(service["spec"]["selector"])
        assert service["spec"]["internalTrafficPolicy"] == "Local"
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
    for probe in ("livenessProbe", "readinessProbe"):
        (way,) = [each for each in container[probe].values() if isinstance(each, dict)]
        assert way["port"] in ports
    for monitor in of_kind(rendered, "PodMonitor"):
        selectors.append(monitor["spec"]["selector"]["matchLabels"])
        assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= ports.keys()
    for monitor in of_kind(rendered, "ServiceMonitor"):
        (service,) = services
        assert selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
        named = {port["name"] for port in service["spec"]["ports"]}
        assert {each["port"] for each in monitor["spec"]["endpoints"]} <= named
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["wattspan"]}
    for policy in of_kind(rendered, "NetworkPolicy"):
        selectors.append(policy["spec"]["podSelector"]["matchLabels"])
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= ports.keys()
    (test,) = of_kind(rendered, "Pod")
    for each in selectors:
        assert selects(each, labels)
        assert not selects(each, test["metadata"]["labels"])


@pytest.mark.parametrize(
    "change",
    [
        {"image": {"tag": "9.9.9"}},
        {"commonLabels": {"team": "platform"}},
        {"podLabels": {"x": "y"}},
        {"profile": "host"},
        {"config": {"grid": {"zone": "FR"}}},
    ],
)
def test_selectors_never_change(change: Object) -> None:
    """Neither version nor chart stands in a selector, which an upgrade could not change."""
    before, after = daemon_set(render())["spec"], daemon_set(render(change))["spec"]
    assert before["selector"] == after["selector"]
    assert before["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "wattspan",
        "app.kubernetes.io/instance": "wattspan",
    }


def checksum(values: Object) -> str:
    """Of the configuration, as it stands on the pod."""
    return str(daemon_pod(render(values))["metadata"]["annotations"]["checksum/config"])


def test_the_checksum_changes_with_the_configuration_alone() -> None:
    """So pods are made anew when the daemon would read something else, and not when a label changes."""
    base = checksum({})
    for values in (
        {"config": {"grid": {"zone": "FR"}}},
        {"pods": "kubelet"},
        {"profile": "host"},
        {"tokens": {"eia": {"secret": "s", "key": "k"}}},
        {"web": {"port": 9747}},
        {"web": {"configSecret": "web"}},
    ):
        assert checksum(values) != base, values
    for values in (
        {"commonLabels": {"a": "b"}},
        {"monitor": {"kind": "PodMonitor"}},
        {"image": {"tag": "1"}},
    ):
        assert checksum(values) == base, values


@pytest.mark.parametrize("profile", PROFILES)
def test_paths_of_the_configuration_are_mounted(profile: str) -> None:
    """Every path that the chart writes into the daemon's file lies where a volume is."""
    tokens = {"api": {"secret": "s", "key": "k"}, "eia": {"secret": "s", "key": "k"}}
    rendered = render({"profile": profile, "tokens": tokens, "web": {"configSecret": "web"}})
    mounts = [mount["mountPath"] for mount in daemon_container(rendered)["volumeMounts"]]
    paths = {text for text in texts(yaml.safe_load(daemon_yaml(rendered))) if text.startswith("/")}
    paths |= {
        each["value"] for each in daemon_container(rendered)["env"] if each.get("value", "").startswith("/")
    }
    assert len(paths) >= 5
    for path in paths:
        assert any(Path(path).is_relative_to(mount) for mount in mounts), path


def test_probes_follow_the_web_configuration() -> None:
    """HTTP, HTTPS, or the port alone where a certificate is asked for, which a kubelet has none of."""
    web = {"configSecret": "web"}
    for security, way in (
        ("none", {"httpGet": {"path": "/-/ready", "port": "http"}}),
        ("tls", {"httpGet": {"path": "/-/ready", "port": "http", "scheme": "HTTPS"}}),
        ("clientCertificates", {"tcpSocket": {"port": "http"}}),
    ):
        probe = daemon_container(render({"web": {**web, "security": security}}))["readinessProbe"]
        assert way.items() <= probe.items()
