"""What a profile is, computed from what it renders: the rows of the table in the chart's README."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from tests.helm import pod_security
from tests.helm.chart import PROFILES, Object, daemon_container, daemon_pod, daemon_yaml, of_kind, render

HEAD: Final = (
    "profile", "objects", "user, capabilities", "host", "API", "Pod Security", "metered", "not metered",
)  # fmt: skip


def table() -> Sequence[Sequence[str]]:
    """A row for each profile, in the order of `HEAD`."""
    return [row(profile, render({"profile": profile})) for profile in PROFILES]


def row(profile: str, rendered: Sequence[Object]) -> Sequence[str]:
    """The row of a profile."""
    metered = meters(rendered)
    return (
        f"`{profile}`",
        objects(rendered),
        user(rendered),
        host(rendered),
        api(rendered),
        f"`{pod_security.level(daemon_pod(rendered))}`",
        "; ".join(what for what, can in metered.items() if can),
        "; ".join(what for what, can in metered.items() if not can) or "-",
    )


def objects(rendered: Sequence[Object]) -> str:
    """How many objects of which kinds, without the pods of ``helm test``."""
    kinds = Counter(each["kind"] for each in rendered if each["kind"] != "Pod")
    return f"{kinds.total()}: " + ", ".join(
        f"{kind}" if n == 1 else f"{n} {kind}" for kind, n in kinds.items()
    )


def user(rendered: Sequence[Object]) -> str:
    """Who the daemon runs as, and what it keeps of root's powers."""
    context = daemon_container(rendered)["securityContext"]
    capabilities = context["capabilities"]
    kept = "no capability" if capabilities == {"drop": ["ALL"]} else str(capabilities)
    privileged = ", privileged" if context.get("privileged") else ""
    return f"uid {uid(rendered)}, {kept}{privileged}"


def uid(rendered: Sequence[Object]) -> int:
    """Of the daemon."""
    of_pod = daemon_pod(rendered)["spec"]["securityContext"]
    return int(daemon_container(rendered)["securityContext"].get("runAsUser", of_pod["runAsUser"]))


def host(rendered: Sequence[Object]) -> str:
    """What it has of the host: namespaces and paths."""
    spec = daemon_pod(rendered)["spec"]
    namespaces = [f"`{field}`" for field in ("hostPID", "hostIPC", "hostNetwork") if spec.get(field)]
    writable = {
        mount["name"] for mount in daemon_container(rendered)["volumeMounts"] if not mount.get("readOnly")
    }
    paths = [
        f"`{volume['hostPath']['path']}` ({'read and write' if volume['name'] in writable else 'read'})"
        for volume in spec["volumes"]
        if "hostPath" in volume
    ]
    return ", ".join([*namespaces, *paths]) or "nothing"


def api(rendered: Sequence[Object]) -> str:
    """What its service account may do, if it has a token."""
    if not daemon_pod(rendered)["spec"]["automountServiceAccountToken"]:
        return "no token"
    rules = [rule for role in of_kind(rendered, "ClusterRole") for rule in role["rules"]]
    return ", ".join(
        f"{'/'.join(rule['verbs'])} `{resource}`" for rule in rules for resource in rule["resources"]
    )


def meters(rendered: Sequence[Object]) -> Mapping[str, bool]:
    """What can be metered with it, by the README's table of privileges."""
    settings: dict[str, Any] = yaml.safe_load(daemon_yaml(rendered))
    spec = daemon_pod(rendered)["spec"]
    environment = {variable["name"]: variable.get("value") for variable in daemon_container(rendered)["env"]}
    paths = {volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    root = uid(rendered) == 0
    mounted = {mount["mountPath"] for mount in daemon_container(rendered)["volumeMounts"]}
    runs = settings.get("runs", "on") not in {"off", False}
    whose = root and bool(spec.get("hostPID")) and "/var/lib/kubelet/pod-resources" in mounted and runs
    return {
        "energy, CO2e and health of GPUs": environment["NVIDIA_VISIBLE_DEVICES"] == "all",
        "which run, pod or owner used it": whose,
        "runs without code": whose and settings["kubernetes"]["pods"] != "off",
        "counters that outlive the pod": "emptyDir"
        not in str([v for v in spec["volumes"] if v["name"] == "state"]),
        "CPU and DRAM (RAPL)": root and "/sys" in paths and settings.get("path", {}).get("sysfs") in mounted,
    }
