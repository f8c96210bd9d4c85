"""The Pod Security Standards, as far as a pod of Linux can break them.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (Kubernetes 1.34 and later,
where baseline also forbids `host` in probes and hooks).
Each rule gives one line for what it finds, by the control's name on that page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

from tests.helm.chart import Object, containers

Level = Literal["restricted", "baseline", "privileged"]

DEFAULT_CAPABILITIES: Final = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
SELINUX_TYPES: Final = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SAFE_SYSCTLS: Final = frozenset(
    [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    ]
)
VOLUMES: Final = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)
"""Of the restricted level."""


def level(pod: Object) -> Level:
    """The strictest level whose rules the pod keeps."""
    if broken(pod, "baseline"):
        return "privileged"
    return "baseline" if broken(pod, "restricted") else "restricted"


def broken(pod: Object, standard: Literal["baseline", "restricted"]) -> Sequence[str]:
    """What a pod breaks of a standard, one line each; restricted holds all of baseline."""
    rules = [*BASELINE, *(RESTRICTED if standard == "restricted" else ())]
    return [line for rule in rules for line in rule(pod)]


def _contexts(pod: Object) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The security contexts of the pod and of its containers, where they have one."""
    yield "pod", pod["spec"].get("securityContext") or {}
    for container in containers(pod):
        yield container["name"], container.get("securityContext") or {}


def _each(pod: Object) -> Iterator[tuple[str, Object]]:
    for container in containers(pod):
        yield container["name"], container.get("securityContext") or {}


def _host_namespaces(pod: Object) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod["spec"].get(field):
            yield f"Host Namespaces: {field}"


def _privileged(pod: Object) -> Iterator[str]:
    for name, context in _each(pod):
        if context.get("privileged"):
            yield f"Privileged Containers: {name}"


def _host_process(pod: Object) -> Iterator[str]:
    for name, context in _contexts(pod):
        windows = context.get("windowsOptions")
        if isinstance(windows, Mapping) and windows.get("hostProcess"):
            yield f"HostProcess: {name}"


def _capabilities(pod: Object) -> Iterator[str]:
    for name, context in _each(pod):
        added = set((context.get("capabilities") or {}).get("add") or ())
        for capability in sorted(added - DEFAULT_CAPABILITIES):
            yield f"Capabilities: {name} adds {capability}"


def _host_paths(pod: Object) -> Iterator[str]:
    for volume in pod["spec"].get("volumes") or ():
        if "hostPath" in volume:
            yield f"HostPath Volumes: {volume['name']}"


def _host_ports(pod: Object) -> Iterator[str]:
    for container in containers(pod):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield f"Host Ports: {container['name']} {port['hostPort']}"


def _host_probes(pod: Object) -> Iterator[str]:
    for container in containers(pod):
        hooks = {**container, **(container.get("lifecycle") or {})}
        for name in ("livenessProbe", "readinessProbe", "startupProbe", "postStart", "preStop"):
            for way in ("httpGet", "tcpSocket"):
                if ((hooks.get(name) or {}).get(way) or {}).get("host"):
                    yield f"Host Probes / Lifecycle Hooks: {container['name']} {name}"


def _app_armor(pod: Object) -> Iterator[str]:
    for name, context in _contexts(pod):
        profile = context.get("appArmorProfile")
        if isinstance(profile, Mapping) and profile.get("type") not in {"RuntimeDefault", "Localhost", None}:
            yield f"AppArmor: {name}"
    for key, value in (pod["metadata"].get("annotations") or {}).items():
        if key.startswith("container.apparmor.security.beta.kubernetes.io/") and not (
            value == "runtime/default" or value.startswith("localhost/")
        ):
            yield f"AppArmor: {key}"


def _selinux(pod: Object) -> Iterator[str]:
    for name, context in _contexts(pod):
        options = context.get("seLinuxOptions")
        if isinstance(options, Mapping) and (
            options.get("type", "") not in SELINUX_TYPES or options.get("user") or options.get("role")
        ):
            yield f"SELinux: {name}"


def _proc_mount(pod: Object) -> Iterator[str]:
    for name, context in _each(pod):
        if context.get("procMount", "Default") != "Default":
            yield f"/proc Mount Type: {name}"


def _seccomp(pod: Object) -> Iterator[str]:
    for name, context in _contexts(pod):
        profile = context.get("seccompProfile")
        if isinstance(profile, Mapping) and profile.get("type") not in {"RuntimeDefault", "Localhost"}:
            yield f"Seccomp: {name}"


def _sysctls(pod: Object) -> Iterator[str]:
    for sysctl in (pod["spec"].get("securityContext") or {}).get("sysctls") or ():
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"Sysctls: {sysctl['name']}"


def _volume_types(pod: Object) -> Iterator[str]:
    for volume in pod["spec"].get("volumes") or ():
        for kind in sorted(volume.keys() - {"name"} - VOLUMES):
            yield f"Volume Types: {volume['name']} is {kind}"


def _escalation(pod: Object) -> Iterator[str]:
    for name, context in _each(pod):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"Privilege Escalation: {name}"


def _non_root(pod: Object) -> Iterator[str]:
    of_pod = (pod["spec"].get("securityContext") or {}).get("runAsNonRoot")
    for name, context in _each(pod):
        if context.get("runAsNonRoot", of_pod) is not True:
            yield f"Running as Non-root: {name}"


def _non_root_user(pod: Object) -> Iterator[str]:
    for name, context in _contexts(pod):
        if context.get("runAsUser") == 0:
            yield f"Running as Non-root user: {name}"


def _seccomp_set(pod: Object) -> Iterator[str]:
    of_pod = (pod["spec"].get("securityContext") or {}).get("seccompProfile")
    for name, context in _each(pod):
        if not context.get("seccompProfile", of_pod):
            yield f"Seccomp: {name} has none"


def _capabilities_dropped(pod: Object) -> Iterator[str]:
    for name, context in _each(pod):
        capabilities = context.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            yield f"Capabilities: {name} keeps some"
        for capability in sorted(set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}):
            yield f"Capabilities: {name} adds {capability}"


Rule = Callable[[Object], Iterator[str]]

BASELINE: Final[Sequence[Rule]] = (
    _host_process, _host_namespaces, _privileged, _capabilities, _host_paths, _host_ports, _host_probes,
    _app_armor, _selinux, _proc_mount, _seccomp, _sysctls,
)  # fmt: skip
RESTRICTED: Final[Sequence[Rule]] = (
    _volume_types, _escalation, _non_root, _non_root_user, _seccomp_set, _capabilities_dropped,
)  # fmt: skip
