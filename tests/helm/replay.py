"""A pod of the chart on this machine: what kubelet and container runtime make of the object, made alike.

A node is a folder that stands for its file system, in a network of its own that has loopback alone.
A pod gets a root of the machine's programs, its volumes, the variables that Kubernetes sets, the driver's
library as the NVIDIA runtime brings it, and the user, groups, capabilities and namespaces that it asks for.
What is not replayed: seccomp, which only a runtime has the profile of, the limits of `resources`,
and that the network of a pod is its own: here its address is one of loopback's.
"""

import contextlib
import ctypes
import fcntl
import os
import shlex
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import wattspan
from tests.e2e.daemon import PATIENCE_S, Answer, DaemonError, Program
from tests.fakes.nvml import FakeNvml
from tests.helm.chart import NAMESPACE, Object, daemon_pod, of_kind
from tests.real_parts import need

ENTRYPOINT: Final = ("wattspan",)
"""Of the image."""

LIBRARIES: Final = "/usr/local/nvidia/lib64"
"""Where a runtime may put the driver's libraries; the image looks there, too."""

DEVICE: Final = "/dev/nvidiactl"
"""The fake's state stands where a driver has its device."""

SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"

_CLUSTER_IP: Final = "10.0.0.1"
"""Of every Service, as variables tell it; nobody is there."""

_TOOLS: Final = ("unshare", "setpriv", "mount", "pivot_root", "chroot")

_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1

_RUN: Final = r"""
set -e
umask 022
own() { mkdir -p "$root$2"; mount -t tmpfs -o "nosuid,nodev,$1" own "$root$2"; }
put() {
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root${2%/*}"; touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    if [ "$3" = ro ]; then mount -o remount,bind,ro "$root$2"; fi
}
as_it_is() { if [ -L "$1" ]; then cp -P "$1" "$root$1"; else put "$1" "$1" ro; fi; }
"""
"""Words for a file system: a folder of its own, what lies elsewhere, what lies at the same path."""


class ReplayError(Exception):
    """The pod asks for something that would not be given, or that the replay does not know."""


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A network with loopback alone, in which this thread is, and what it starts, until the block ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(libc.unshare(_CLONE_NEWNET))
        with socket.socket() as any_socket:
            request = struct.pack("16sh14x", b"lo", _IFF_UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
        try:
            yield
        finally:
            _enter(libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _enter(answer: int) -> None:
    if answer:
        raise OSError(ctypes.get_errno(), "no network of its own")


@contextlib.contextmanager
def control_groups() -> Iterator[Path]:
    """A control group of version 2, until the block ends; what was put beneath has to have ended."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    where = [Path(words[1]) for words in mounts if words[2] == "cgroup2" and os.access(words[1], os.W_OK)]
    need("a hierarchy of control groups of version 2, to run a pod", bool(where))
    top = where[0] / f"wattspan-replay-{os.getpid()}"
    top.mkdir()
    try:
        yield top
    finally:
        for folder in (*sorted(filter(Path.is_dir, top.rglob("*")), reverse=True), top):
            _remove_group(folder)


def _remove_group(folder: Path) -> None:
    """The kernel empties a group a moment after its last process was waited for."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)


def need_containers() -> None:
    """Skip where nobody may run a pod."""
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=_path()) is None]
    need(f"{', '.join(missing) or 'root'}, to run a pod", not missing and os.geteuid() == 0)
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False)
    need("the right to make namespaces, to run a pod", tried.returncode == 0)


def _path() -> str:
    return "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Node:
    """A node of a cluster.

    Attributes:
        root: the folder that stands for its file system.
        scratch: where the kubelet keeps volumes of pods, and logs.
        name: the node's.
        address: of its kubelet.
        labels: of the node, which newer clusters copy to pods.
        secrets: by name, keys and what they hold.
        names: addresses by name, as a cluster's DNS knows them.
        token, authority: what a service account is given.
        api: address and port of the API server.
        groups: the control group beneath which those of pods are made.
    """

    root: Path
    scratch: Path
    groups: Path
    name: str = "gpu-17"
    address: str = "127.0.0.1"
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    token: bytes = b""
    authority: bytes = b""
    api: tuple[str, int] = (_CLUSTER_IP, 443)

    def folder(self, path: str) -> Path:
        """A folder of the node, made if it is not there."""
        made = self.root / path.lstrip("/")
        made.mkdir(parents=True, exist_ok=True)
        return made

    def group(self, uid: str, container_id: str) -> Path:
        """The control group of a container, named as containerd and systemd do it."""
        made = self.groups / f"kubepods-pod{uid.replace('-', '_')}.slice/cri-containerd-{container_id}.scope"
        made.mkdir(parents=True, exist_ok=True)
        return made


@dataclass(frozen=True)
class _Mount:
    """A file or folder of this machine, and where the container sees it."""

    source: Path
    at: str
    writable: bool


class Pod(Program):
    """A pod's container on a node, from its object to its process.

    Args:
        rendered: all that the chart made.
        node: where it runs.
        fake: the driver of that node.
        pod, container: which of them; by default the DaemonSet's with its only container.
        name, address: the pod's, which are others after each roll-out.
        args: instead of the container's.
        tls: how its port is spoken to, where that is HTTPS.

    Raises:
        ReplayError: the node would not start it.
    """

    def __init__(
        self,
        rendered: Sequence[Object],
        node: Node,
        fake: FakeNvml,
        *,
        pod: Object | None = None,
        container: str = "wattspan",
        name: str = "wattspan-x7k2p",
        address: str = "127.0.0.2",
        args: Sequence[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.object = pod or daemon_pod(rendered)
        (self.container,) = (one for one in self.object["spec"]["containers"] if one["name"] == container)
        self.name = name
        self.address = address
        self._rendered = rendered
        self._node = node
        self._fake = fake
        self.folder = node.scratch / name
        self.volumes = self.folder / "volumes"
        fake.state_path.chmod(0o666)
        words = [*self.container.get("command", ENTRYPOINT), *(args or self.container.get("args", ()))]
        ports = [each["containerPort"] for each in self.container.get("ports", ())]
        super().__init__(
            self._words(words),
            {"PATH": _path()},
            node.scratch / f"{name}.log",
            host=address,
            port=ports[0] if ports else 0,
            tls=tls,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self.folder, ignore_errors=True)

    # What Kubernetes would ask of it

    @property
    def pid(self) -> int:
        """The machine's pid of the container's first process."""
        if not self._own_pids():
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            raise DaemonError("the container has no process")
        return int(children[0])

    def probe(self, kind: str) -> Answer | None:
        """What a probe gets, with the path, port and scheme that it names; None where it cannot connect."""
        probe = self.container[kind]
        if "httpGet" not in probe:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(
                    (self.host, self._port_number(probe["tcpSocket"]["port"])), probe["timeoutSeconds"]
                ),
            ):
                return Answer(200, {}, b"")
            return None
        get = probe["httpGet"]
        of_kubelet = Program((), {}, self.log_path, host=self.host, port=self._port_number(get["port"]))
        if get.get("scheme", "HTTP") == "HTTPS":
            # Kubelets check no certificate.
            of_kubelet.tls = ssl._create_unverified_context()
        try:
            return of_kubelet.get(get["path"], timeout_s=probe["timeoutSeconds"])
        except OSError:
            return None

    def wait_ready(self) -> Self:
        """Wait until its readiness probe is content, as a Service and a roll-out do."""
        for _ in self._patiently("its readiness probe"):
            answer = self.probe("readinessProbe")
            if answer is not None and answer.status == 200:
                return self
        raise AssertionError("unreachable")

    def finished(self) -> int:
        """The exit code of a command that ends by itself."""
        return self.process.wait(PATIENCE_S)

    # What it is

    def status(self) -> Mapping[str, str]:
        """The fields of /proc/<pid>/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def inside(self, path: str) -> Path:
        """A path of the container, as this machine sees it."""
        return Path(f"/proc/{self.pid}/root", path.lstrip("/"))

    def writable_mounts(self) -> set[str]:
        """Where something is mounted that may be written to."""
        lines = [line.split() for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()]
        return {words[4] for words in lines if "rw" in words[5].split(",")}

    def _own_pids(self) -> bool:
        return not self.object["spec"].get("hostPID", False)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(DaemonError, FileNotFoundError, ProcessLookupError):
            os.kill(self.pid, number)
            return
        self.process.send_signal(signal.SIGKILL)

    def _port_number(self, port: str | int) -> int:
        named = {each["name"]: each["containerPort"] for each in self.container.get("ports", ())}
        return named[port] if isinstance(port, str) else port

    # From object to process

    def _words(self, command: Sequence[str]) -> tuple[str, ...]:
        """What starts the container's process in namespaces of its own."""
        kinds = ["--mount", "--uts", "--ipc", "--cgroup"]
        if self._own_pids():
            kinds += ["--pid", "--fork"]
        if self.object["spec"].get("hostNetwork"):
            raise ReplayError("hostNetwork: the replay has one network alone")
        group = self._node.group(str(uuid.uuid4()), f"{uuid.uuid4().int:064x}")
        into = f'echo $$ >{shlex.quote(str(group))}/cgroup.procs && exec "$@"'
        return ("sh", "-c", into, "sh", "unshare", *kinds, "sh", "-c", self._script(), "sh", *command)

    def _script(self) -> str:
        """What is done within them, and ends in the command."""
        lines = [_RUN, f"root={shlex.quote(str(self.folder / 'root'))}"]
        lines += ['mkdir -p "$root"', 'mount -t tmpfs -o mode=0755 root "$root"']
        lines += self._file_system()
        lines += [
            'mkdir "$root/before"',
            'cd "$root" && pivot_root . before && cd /',
            "umount -l /before && rmdir /before",
        ]
        security = self._security()
        if security.get("readOnlyRootFilesystem"):
            lines.append("mount -o remount,ro /")
        else:
            lines.append("chmod 0777 /")
        variables = [f"{name}={value}" for name, value in self.environment().items()]
        lines.append(f'exec {shlex.join([*self._privileges(security), "env", "-i", *variables])} "$@"')
        return "\n".join(lines)

    def _file_system(self) -> Iterator[str]:
        """Programs of the machine, folders of the runtime, then what the pod mounts."""
        for folder in ("etc", "host", "run", "tmp", "usr", "usr/local", "var/lib"):
            yield f'mkdir -p "$root/{folder}"'
        yield 'chmod 1777 "$root/tmp"; ln -s ../run "$root/var/run"'
        for path in ("/bin", "/sbin", "/lib", "/lib64"):
            yield f"[ ! -e {path} ] || as_it_is {path}"
        yield "for each in /usr/*; do [ $each = /usr/local ] || as_it_is $each; done"
        yield "for each in /usr/local/*; do [ $each = /usr/local/nvidia ] || as_it_is $each; done"
        # In an image the program lies in /opt; here it lies where this test runs from.
        for python in {sys.prefix, sys.base_prefix, str(Path(wattspan.__file__).parents[1])}:
            if not python.startswith("/usr/") and python != "/usr":
                yield f"put {shlex.quote(python)} {shlex.quote(python)} ro"
        for path in ("/etc/ssl", "/etc/ld.so.cache"):
            yield f"[ ! -e {path} ] || as_it_is {path}"
        yield "printf 'root:x:0:0::/:\\nnonroot:x:65532:65532::/:\\n' >\"$root/etc/passwd\""
        known = {"localhost": "127.0.0.1", self.name: self.address, **self._node.names}
        hosts = "".join(f"{address} {name}\\n" for name, address in known.items())
        yield f"printf '{hosts}' >\"$root/etc/hosts\""
        yield "own mode=0755 /dev"
        yield "for each in null zero full random urandom; do put /dev/$each /dev/$each rw; done"
        yield "own mode=1777 /dev/shm"
        yield 'mkdir "$root/proc" "$root/sys"'
        yield 'mount -t proc -o nosuid,nodev,noexec proc "$root/proc"'
        yield f'echo {self.name} >"$root/proc/sys/kernel/hostname"'
        yield 'mount --bind "$root/proc/sys" "$root/proc/sys"; mount -o remount,bind,ro "$root/proc/sys"'
        yield 'mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"'
        # As container runtimes do.
        mask = "/sys/devices/virtual/powercap"
        yield f'[ ! -d "$root{mask}" ] || mount -t tmpfs -o ro mask "$root{mask}"'
        for mount in self._mounts():
            source, at = shlex.quote(str(mount.source)), shlex.quote(mount.at)
            yield f"put {source} {at} {'rw' if mount.writable else 'ro'}"

    def _mounts(self) -> Iterator[_Mount]:
        """The driver as the NVIDIA runtime brings it, the service account's token, the pod's volumes."""
        yield _Mount(self._fake.library, f"{LIBRARIES}/{self._fake.library.name}", writable=False)
        yield _Mount(self._fake.state_path, DEVICE, writable=True)
        if self.object["spec"].get("automountServiceAccountToken", True):
            files = {
                "token": self._node.token,
                "ca.crt": self._node.authority,
                "namespace": NAMESPACE.encode(),
            }
            yield _Mount(self._files("kube-api-access", files, 0o644), SERVICE_ACCOUNT, writable=False)
        volumes = {volume["name"]: self._volume(volume) for volume in self.object["spec"].get("volumes", ())}
        for mount in self.container.get("volumeMounts", ()):
            source = volumes[mount["name"]] / mount.get("subPath", "")
            if not source.exists():
                raise ReplayError(f"{mount['mountPath']}: the volume has no {mount['subPath']}")
            yield _Mount(source, mount["mountPath"], writable=not mount.get("readOnly", False))

    def _volume(self, volume: Object) -> Path:
        """What the kubelet makes of a volume.

        Raises:
            ReplayError: there is no such folder, Secret or kind of volume.
        """
        name = volume["name"]
        if (host := volume.get("hostPath")) is not None:
            path: Path = self._node.root / str(host["path"]).lstrip("/")
            if host["type"] == "DirectoryOrCreate":
                path.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not path.is_dir():
                raise ReplayError(f"{name}: hostPath {host['path']} is no folder of the node")
            return path
        if "emptyDir" in volume:
            path = self.volumes / str(name)
            path.mkdir(parents=True)
            group = self._pod_security().get("fsGroup")
            if group is not None:
                os.chown(path, 0, group)
            path.chmod(0o777 if group is None else 0o2777)
            return path
        if (source := volume.get("configMap")) is not None:
            data = self._config_map(source["name"])
            return self._files(name, _items(source, data), source.get("defaultMode", 0o644))
        if (source := volume.get("secret")) is not None:
            data = self._secret(source["secretName"])
            return self._files(name, _items(source, data), source.get("defaultMode", 0o644))
        if (projected := volume.get("projected")) is not None:
            files: dict[str, bytes] = {}
            for each in projected["sources"]:
                ((kind, source),) = each.items()
                look_up = {"secret": self._secret, "configMap": self._config_map}[kind]
                files.update(_items(source, look_up(source["name"])))
            return self._files(name, files, projected.get("defaultMode", 0o644))
        raise ReplayError(f"{name}: the replay knows no such volume: {sorted(volume)}")

    def _files(self, name: str, files: Mapping[str, bytes], mode: int) -> Path:
        """A folder as the kubelet writes it: the files behind a link that it can turn at once."""
        group = self._pod_security().get("fsGroup", 0)
        folder = self.volumes / name
        (folder / "..2026_11_30").mkdir(parents=True)
        (folder / "..data").symlink_to("..2026_11_30")
        for key, content in files.items():
            file = folder / "..2026_11_30" / key
            file.write_bytes(content)
            os.chown(file, 0, group)
            file.chmod(mode | (0o440 if group else 0))
            (folder / key).symlink_to(f"..data/{key}")
        return folder

    def _config_map(self, name: str) -> Mapping[str, bytes]:
        data = {each["metadata"]["name"]: each["data"] for each in of_kind(self._rendered, "ConfigMap")}
        if name not in data:
            raise ReplayError(f"no ConfigMap {name}")
        return {key: text.encode() for key, text in data[name].items()}

    def _secret(self, name: str) -> Mapping[str, bytes]:
        if name not in self._node.secrets:
            raise ReplayError(f"no Secret {name}")
        return self._node.secrets[name]

    def environment(self) -> Mapping[str, str]:
        """The image's variables, those of Services, the container's: a later one goes before."""
        own = {each["name"]: self._value(each) for each in self.container.get("env", ())}
        return {**self._of_image(), **self._of_services(), **own}

    def _of_image(self) -> Mapping[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "WATTSPAN_STATE_DIR": "/var/lib/wattspan",
            "WATTSPAN_SOCKET": "/run/wattspan/wattspan.sock",
            "LD_LIBRARY_PATH": f"/usr/lib64:{LIBRARIES}",
            "FAKE_NVML_STATE": DEVICE,
            "HOSTNAME": self.name,
            "HOME": "/",
        }

    def _of_services(self) -> Mapping[str, str]:
        """Of every Service of the namespace, although `enableServiceLinks` is off: they do no harm."""
        host, port = self._node.api
        services = {"KUBERNETES": (host, port)}
        for each in of_kind(self._rendered, "Service"):
            word = each["metadata"]["name"].upper().replace("-", "_")
            services[word] = (_CLUSTER_IP, each["spec"]["ports"][0]["port"])
        variables: dict[str, str] = {}
        for word, (host, port) in services.items():
            address = f"tcp://{host}:{port}"
            variables |= {
                f"{word}_SERVICE_HOST": host,
                f"{word}_SERVICE_PORT": str(port),
                f"{word}_SERVICE_PORT_HTTP": str(port),
                f"{word}_PORT": address,
                f"{word}_PORT_{port}_TCP": address,
                f"{word}_PORT_{port}_TCP_PROTO": "tcp",
                f"{word}_PORT_{port}_TCP_PORT": str(port),
                f"{word}_PORT_{port}_TCP_ADDR": host,
            }
        return variables

    def _value(self, variable: Object) -> str:
        if (of := variable.get("valueFrom")) is None:
            return str(variable["value"])
        if (secret := of.get("secretKeyRef")) is not None:
            return self._secret(secret["name"])[secret["key"]].decode()
        path = of["fieldRef"]["fieldPath"]
        labels = {**self._node.labels, **self.object["metadata"]["labels"]}
        if path.startswith("metadata.labels['"):
            return str(labels.get(path.removeprefix("metadata.labels['").removesuffix("']"), ""))
        known = {
            "spec.nodeName": self._node.name,
            "status.hostIP": self._node.address,
            "status.podIP": self.address,
            "metadata.name": self.name,
            "metadata.namespace": NAMESPACE,
        }
        return str(known[path])

    def _pod_security(self) -> Object:
        security: Object = self.object["spec"].get("securityContext", {})
        return security

    def _security(self) -> Object:
        """Of the container, with what it takes over from the pod."""
        return {**self._pod_security(), **self.container.get("securityContext", {})}

    def _privileges(self, security: Object) -> list[str]:
        """setpriv(1) with what the security contexts say, and no more than that."""
        user, group = security.get("runAsUser", 0), security.get("runAsGroup", 0)
        if security.get("runAsNonRoot") and user == 0:
            raise ReplayError("runAsNonRoot, and the user is 0")
        if security.get("privileged"):
            raise ReplayError("privileged: the replay is not")
        groups = [*security.get("supplementalGroups", ())]
        if "fsGroup" in security:
            groups.append(security["fsGroup"])
        words = ["setpriv", f"--reuid={user}", f"--regid={group}"]
        words.append(f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups")
        capabilities = security.get("capabilities", {})
        if capabilities.get("add"):
            raise ReplayError("a capability is added: the replay knows only how to drop them")
        if "ALL" in capabilities.get("drop", ()):
            words += ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        if security.get("allowPrivilegeEscalation") is False:
            words.append("--no-new-privs")
        return words


def _items(source: Object, data: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The keys that a source names, by their path; all of them where it names none.

    Raises:
        ReplayError: it names one that is not there.
    """
    wanted: list[dict[str, Any]] = source.get("items") or [{"key": key, "path": key} for key in data]
    missing = [item["key"] for item in wanted if item["key"] not in data]
    if missing:
        raise ReplayError(f"{source}: no {missing}")
    return {item["path"]: data[item["key"]] for item in wanted}
