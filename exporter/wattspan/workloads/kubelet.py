"""kubelet: which container holds which device, from PodResources v1 on the node's own socket.

The socket's *folder* is what must be mounted: a kubelet that restarts makes a new socket,
and a mounted file would be the old one for ever.
The socket belongs to root with mode 0660, so the daemon needs uid 0 (and no capability) here.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wattspan.errors import NotHereError, ReadError, Reason
from wattspan.runs import PodRef
from wattspan.workloads import device_ids, podresources
from wattspan.workloads.device_ids import Kind
from wattspan.workloads.protobuf import WireError

if TYPE_CHECKING:
    import grpc

SOCKET: Final = "kubelet.sock"

FOLDER: Final = Path("/var/lib/kubelet/pod-resources")
"""Where the kubelet keeps it, unless its --root-dir says otherwise."""

TIMEOUT_S: Final = 5.0
"""For one answer. A healthy kubelet takes milliseconds."""

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""gRPC's own limit of 4 MiB is too small for a node full of pods with many CPUs; dcgm-exporter takes 16."""

GPU_DRIVERS: Final = frozenset({"gpu.nvidia.com", "gpu.amd.com", "gpu.intel.com"})
"""DRA drivers whose devices are GPUs; claims of network cards and the like are none of ours."""

REASONS: Final[Mapping[str, Reason]] = {
    "CANCELLED": "io",
    "UNKNOWN": "unknown",
    "INVALID_ARGUMENT": "malformed",
    "DEADLINE_EXCEEDED": "timeout",
    "NOT_FOUND": "unsupported",
    "ALREADY_EXISTS": "unknown",
    "PERMISSION_DENIED": "permission",
    "UNAUTHENTICATED": "permission",
    "RESOURCE_EXHAUSTED": "io",  # the kubelet's own rate limit, or an answer over MAX_ANSWER_BYTES
    "FAILED_PRECONDITION": "unsupported",
    "ABORTED": "io",
    "OUT_OF_RANGE": "malformed",
    "UNIMPLEMENTED": "unsupported",
    "INTERNAL": "malformed",
    "UNAVAILABLE": "io",
    "DATA_LOSS": "malformed",
}
"""Every status code of gRPC that is an error, by name."""


@dataclass(frozen=True, slots=True)
class DraDevice:
    """A device allocated by a claim (Dynamic Resource Allocation), named as in a ResourceSlice.

    The GPU's uuid is an attribute there and nowhere else, see `wattspan.workloads.slices`.

    Attributes:
        driver, pool, device: together they name it within the cluster.
        claim_namespace, claim: of the ResourceClaim; pods that name the same one share the device.
        share_id: of one consumer of a device whose capacity is shared; empty otherwise.
        cdi_devices: fully qualified CDI names.
    """

    driver: str
    pool: str
    device: str
    claim_namespace: str
    claim: str
    share_id: str = ""
    cdi_devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocation:
    """One device that one container holds.

    Attributes:
        pod: the container.
        resource: such as ``nvidia.com/gpu``; the driver's name for a DRA device.
        device_id: as the plugin names it, without its replica; `device_ids.find` says which GPU it is.
            Empty for a DRA device whose slice is not known.
        kind: a whole GPU, a MIG instance, or a DRA device that may be either, for want of its slice.
        replica: which share of a device that is handed out several times; None for a device handed out once.
        dra: None for what a device plugin allocated.
    """

    pod: PodRef
    resource: str
    device_id: str
    kind: Kind
    replica: int | None = None
    dra: DraDevice | None = None


class Kubelet:
    """A connection that is made when it is needed, and made anew when the kubelet has been."""

    def __init__(self, folder: Path = FOLDER, timeout_s: float = TIMEOUT_S) -> None:
        """
        Args:
            folder: holds the socket.
            timeout_s: for one answer, connecting included.

        Raises:
            NotHereError: grpcio is not installed.
        """
        # gRPC's core writes to stderr past the daemon's log, unless told not to before it is loaded.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        try:
            import grpc
        except ImportError as error:
            text = "kubelet needs the package grpcio: pip install 'wattspan[kubernetes]'"
            raise NotHereError(text) from error
        self._grpc = grpc
        self._socket = folder / SOCKET
        self._timeout_s = timeout_s
        self._channel: grpc.Channel | None = None
        self._made = (0, 0)

    def allocations(self) -> tuple[Allocation, ...]:
        """What is allocated now, in the kubelet's order. Blocks for the time-out at most.

        Before Kubernetes 1.34 this may include pods that have ended: their phase tells.

        Raises:
            ReadError: no socket, no answer, or nonsense.
        """
        try:
            pods = podresources.pods(self._list())
        except WireError as error:
            raise ReadError("malformed", f"{self._socket}: {error}") from error
        return tuple(allocation for pod in pods for allocation in _allocations(pod))

    def close(self) -> None:
        """Give the connection back; the next look makes another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _list(self) -> bytes:
        channel = self._connected()
        # Without serialisers, bytes go out and come in.
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(podresources.LIST_METHOD)
        try:
            return call(podresources.EMPTY, timeout=self._timeout_s)
        except self._grpc.RpcError as error:
            raise self._translated(error) from error

    def _connected(self) -> "grpc.Channel":
        try:
            stat = self._socket.stat()
        except PermissionError as error:
            raise ReadError("permission", f"{self._socket}: {error.strerror}") from error
        except OSError as error:
            raise ReadError("io", f"{self._socket}: {error.strerror}; is the folder mounted?") from error
        # A new socket gets a new connection: the old one may hang on a kubelet that is not gone yet,
        # and after a refusal gRPC waits for up to two minutes. Inode numbers are used again, hence the time.
        made = (stat.st_ino, stat.st_ctime_ns)
        if made != self._made:
            self.close()
        if self._channel is None:
            self._channel = self._grpc.insecure_channel(f"unix://{self._socket.absolute()}", options=_OPTIONS)
            self._made = made
        return self._channel

    def _translated(self, error: "grpc.RpcError") -> ReadError:
        code = error.code().name
        if code == "UNAVAILABLE" and not os.access(self._socket, os.W_OK, effective_ids=True):
            return ReadError("permission", f"{self._socket}: only root may connect; the daemon needs uid 0")
        return ReadError(REASONS.get(code, "unknown"), f"{self._socket}: {code}: {error.details()}")


_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # Else gRPC sends the socket's path as :authority, which is no host name, and strict servers refuse it
    # (grpc/grpc#38142; the kubelet's own client does the same, kubernetes/kubernetes#112597).
    ("grpc.default_authority", "localhost"),
    # Connections of one process are shared by address: a new channel would get that of the old one,
    # to a kubelet that is not gone yet.
    ("grpc.use_local_subchannel_pool", 1),
)


def _allocations(pod: podresources.Pod) -> Iterator[Allocation]:
    for container in pod.containers:
        ref = PodRef(pod.namespace, pod.name, container.name)
        for devices in container.devices:
            for device_id in devices.ids:
                parsed = device_ids.parse(devices.resource, device_id)
                if parsed is not None:
                    yield Allocation(ref, devices.resource, parsed.device, parsed.kind, parsed.replica)
        for claim in container.claims:
            for device in claim.devices:
                if device.driver not in GPU_DRIVERS:
                    continue
                dra = DraDevice(
                    device.driver,
                    device.pool,
                    device.device,
                    claim.namespace,
                    claim.name,
                    device.share_id,
                    device.cdi_devices,
                )
                yield Allocation(ref, device.driver, "", "dra", dra=dra)
