"""What a platform engineer looks for first."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.helm import pod_security
from tests.helm.chart import (
    PROFILES,
    Object,
    containers,
    daemon_container,
    daemon_pod,
    daemon_set,
    of_kind,
    pods,
    render,
    texts,
    values_files,
    values_of,
)
from wattspan.app import STOP_S

FILES = values_files()
IDS = [f"{file.parent.name}/{file.name}" for file in FILES]

LEVELS = {"minimal": "restricted", "attributed": "privileged", "host": "privileged"}
"""What the README claims; that its table says so is tested with the table."""


def strings(value: Any) -> list[str]:
    """Every text in an object."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_nothing_that_is_shipped_asks_for_more_than_it_needs(file: Path) -> None:
    """No privileged container, host network, added capability, wildcard or `nodes/proxy`, in any file."""
    rendered = render(values_of(file))
    seen = list(pods(rendered))
    assert len(seen) == 2  # the daemon's and that of `helm test`
    for _, pod in seen:
        spec = pod["spec"]
        assert not spec.get("hostNetwork")
        assert not spec.get("hostIPC")
        assert spec["enableServiceLinks"] is False
        for container in containers(pod):
            context = container["securityContext"]
            assert not context.get("privileged")
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            asked = {
                **container.get("resources", {}).get("requests", {}),
                **container.get("resources", {}).get("limits", {}),
            }
            assert set(asked) <= {"cpu", "memory"}, "a GPU that is requested is taken from a training"
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for role in of_kind(rendered, "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in strings(rule)
            assert "nodes/proxy" not in rule["resources"]
            assert set(rule["verbs"]) <= {"get", "list"}


def test_the_defaults_hold_nothing_to_object_to() -> None:
    """The same of `helm template` without any values, looked for in its whole text."""
    text = "".join(text for name, text in texts().items() if name.endswith(".yaml"))
    lines = [line.partition("#")[0] for line in text.splitlines()]
    for word in (
        "privileged: true",
        "hostNetwork",
        "hostIPC",
        "add:",
        "'*'",
        '"*"',
        "[*]",
        "nodes/proxy",
        "SYS_ADMIN",
    ):
        assert not [line for line in lines if word in line], word


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_keeps_the_level_that_is_claimed(profile: str) -> None:
    """Exactly that one, by the Pod Security Standards; the pod of `helm test` is restricted always."""
    for name, pod in pods(render({"profile": profile})):
        expected = "restricted" if name.endswith("-test") else LEVELS[profile]
        assert pod_security.level(pod) == expected, pod_security.broken(pod, "restricted")


@pytest.mark.parametrize("profile", ["attributed", "host"])
def test_what_keeps_a_profile_from_baseline_is_the_host_alone(profile: str) -> None:
    """The host's pids and folders, and not one thing more."""
    lines = pod_security.broken(daemon_pod(render({"profile": profile})), "baseline")
    assert {line.partition(":")[0] for line in lines} == {"Host Namespaces", "HostPath Volumes"}
    assert "Host Namespaces: hostPID" in lines


@pytest.mark.parametrize(
    ("profile", "paths"),
    [
        ("minimal", set()),
        ("attributed", {"/var/lib/wattspan", "/run/wattspan", "/var/lib/kubelet/pod-resources"}),
        ("host", {"/var/lib/wattspan", "/run/wattspan", "/var/lib/kubelet/pod-resources", "/sys"}),
    ],
)
def test_only_what_is_on_is_mounted(profile: str, paths: set[str]) -> None:
    """And of the host only its own two folders can be written."""
    rendered = render({"profile": profile})
    volumes = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in daemon_pod(rendered)["spec"]["volumes"]
        if "hostPath" in volume
    }
    assert set(volumes.values()) == paths
    writable = {
        mount["name"] for mount in daemon_container(rendered)["volumeMounts"] if not mount.get("readOnly")
    }
    assert {volumes[name] for name in writable & volumes.keys()} <= {"/var/lib/wattspan", "/run/wattspan"}


API: Final = [([""], ["pods"], ["get", "list"]), ([""], ["nodes"], ["get"])]
"""Pods, and the label of the own node."""


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ({}, API),
        ({"pods": "kubelet"}, [([""], ["nodes/pods"], ["get"])]),
        (
            {"pods": "api", "dra": {"enabled": True}},
            [*API, (["resource.k8s.io"], ["resourceslices"], ["get", "list"])],
        ),
        ({"pods": "none"}, []),
        ({"profile": "minimal"}, []),
        ({"rbac": {"create": False}}, []),
    ],
)
def test_the_role_is_what_pod_metadata_needs(values: Object, rules: list[Any]) -> None:
    """Nothing, the node's pods, or pods and the node's label; and ResourceSlices only with DRA."""
    roles = of_kind(render(values), "ClusterRole")
    found = [(r["apiGroups"], r["resources"], r["verbs"]) for role in roles for r in role["rules"]]
    assert found == rules


@pytest.mark.parametrize(
    ("values", "token"),
    [({}, True), ({"pods": "kubelet"}, True), ({"pods": "none"}, False), ({"profile": "minimal"}, False)],
)
def test_there_is_a_token_only_where_it_is_used(values: Object, token: bool) -> None:
    """The service account gives none by itself."""
    rendered = render(values)
    assert daemon_pod(rendered)["spec"]["automountServiceAccountToken"] is token
    (account,) = of_kind(rendered, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False


def test_no_taint_keeps_the_daemon_away() -> None:
    """What is on a tainted or cordoned node uses energy as on any other."""
    assert daemon_pod(render())["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_two_daemons_never_share_a_node() -> None:
    """The old one goes before the new one comes, and has the time that it needs for that."""
    rendered = render()
    update = daemon_set(rendered)["spec"]["updateStrategy"]
    assert update == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}}
    # Web server, local socket, spans, metrics and sources have STOP_S each, a last look at hung hardware 3 s.
    assert daemon_pod(rendered)["spec"]["terminationGracePeriodSeconds"] > 5 * STOP_S + 3


@pytest.mark.parametrize("profile", PROFILES)
def test_openshift_allows_what_the_profile_has_and_no_more(profile: str) -> None:
    """Its constraints name the pod's own needs; all else is refused."""
    rendered = render({"profile": profile, "openshift": {"scc": True}})
    (scc,) = of_kind(rendered, "SecurityContextConstraints")
    spec = daemon_pod(rendered)["spec"]
    kinds = {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}}
    flags = {key for key, value in scc.items() if value is True}
    on_host = {"allowHostPID", "allowHostDirVolumePlugin"} if "hostPath" in kinds else set()
    assert flags == {"readOnlyRootFilesystem"} | on_host
    assert bool(spec.get("hostPID")) == ("hostPath" in kinds)
    assert kinds <= set(scc["volumes"])
    assert ("hostPath" in scc["volumes"]) == ("hostPath" in kinds)
    assert (scc["allowedCapabilities"], scc["requiredDropCapabilities"]) == ([], ["ALL"])


def test_a_security_context_can_be_set_field_by_field() -> None:
    """Also to false, which templates take for nothing; the other fields stay the profile's."""
    values = {"securityContext": {"readOnlyRootFilesystem": False}, "podSecurityContext": {"runAsGroup": 7}}
    rendered = render(values)
    assert daemon_container(rendered)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": False,
    }
    assert daemon_pod(rendered)["spec"]["securityContext"]["runAsGroup"] == 7
    assert daemon_pod(rendered)["spec"]["securityContext"]["runAsUser"] == 0


BREAKS: list[tuple[str, Callable[[Object, Object], None]]] = [
    ("HostProcess", lambda _, c: c["securityContext"].update(windowsOptions={"hostProcess": True})),
    ("Host Namespaces", lambda s, _: s.update(hostNetwork=True)),
    ("Host Namespaces", lambda s, _: s.update(hostIPC=True)),
    ("Host Namespaces", lambda s, _: s.update(hostPID=True)),
    ("Privileged Containers", lambda _, c: c["securityContext"].update(privileged=True)),
    ("Capabilities", lambda _, c: c["securityContext"]["capabilities"].update(add=["SYS_PTRACE"])),
    ("HostPath Volumes", lambda s, _: s["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
    ("Host Ports", lambda _, c: c["ports"][0].update(hostPort=9746)),
    ("Host Probes / Lifecycle Hooks", lambda _, c: c["livenessProbe"]["httpGet"].update(host="10.0.0.1")),
    ("AppArmor", lambda s, _: s["securityContext"].update(appArmorProfile={"type": "Unconfined"})),
    ("SELinux", lambda s, _: s["securityContext"].update(seLinuxOptions={"type": "spc_t"})),
    ("/proc Mount Type", lambda _, c: c["securityContext"].update(procMount="Unmasked")),
    ("Seccomp", lambda _, c: c["securityContext"].update(seccompProfile={"type": "Unconfined"})),
    ("Sysctls", lambda s, _: s["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}])),
]
WEAKENS: list[tuple[str, Callable[[Object, Object], None]]] = [
    ("Volume Types", lambda s, _: s["volumes"].append({"name": "x", "nfs": {"server": "x", "path": "/"}})),
    ("Privilege Escalation", lambda _, c: c["securityContext"].pop("allowPrivilegeEscalation")),
    ("Running as Non-root", lambda s, _: s["securityContext"].pop("runAsNonRoot")),
    ("Running as Non-root user", lambda s, _: s["securityContext"].update(runAsUser=0)),
    ("Seccomp", lambda s, _: s["securityContext"].pop("seccompProfile")),
    ("Capabilities", lambda _, c: c["securityContext"].update(capabilities={"drop": ["NET_RAW"]})),
    ("Capabilities", lambda _, c: c["securityContext"]["capabilities"].update(add=["CHOWN"])),
]


@pytest.mark.parametrize(
    ("control", "change", "level"),
    [(*each, "privileged") for each in BREAKS] + [(*each, "baseline") for each in WEAKENS],
)
def test_every_control_of_the_standards_is_looked_for(
    control: str, change: Callable[[Object, Object], None], level: str
) -> None:
    """One change to a restricted pod breaks just that control, and takes it down to just that level."""
    pod = copy.deepcopy(daemon_pod(render({"profile": "minimal"})))
    assert pod_security.broken(pod, "restricted") == []
    change(pod["spec"], pod["spec"]["containers"][0])
    assert pod_security.level(pod) == level
    assert control in {line.partition(":")[0] for line in pod_security.broken(pod, "restricted")}


def test_every_rule_has_its_case() -> None:
    """No control is in the checker without a pod that breaks it."""
    assert len({control for control, _ in BREAKS}) == len(pod_security.BASELINE)
    assert len({control for control, _ in WEAKENS}) == len(pod_security.RESTRICTED)
