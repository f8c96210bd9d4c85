"""The kubelet's answer to PodResources v1 `List`: bytes in, records out.

Field numbers are those of Kubernetes' staging/src/k8s.io/kubelet/pkg/apis/podresources/v1/api.proto
(1.36, as documented at https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/,
read 2026-11-20). Fields that nobody here asks for (CPUs, memory, NUMA topology) are stepped over,
and so is whatever a later kubelet adds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from wattspan.workloads.protobuf import fields, text

LIST_METHOD: Final = "/v1.PodResourcesLister/List"

EMPTY: Final = b""
"""A ListPodResourcesRequest on the wire: it has no fields."""

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Devices:
    """ContainerDevices: what a device plugin allocated.

    Attributes:
        resource: such as ``nvidia.com/gpu``.
        ids: as the plugin names them.
    """

    resource: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClaimedDevice:
    """ClaimResource: one device of a claim, allocated dynamically (DRA).

    Attributes:
        driver, pool, device: what names it in a ResourceSlice; empty from kubelets before 1.31.
        share_id: of one consumer of a device whose capacity is shared; empty otherwise.
        cdi_devices: fully qualified CDI names.
    """

    driver: str = ""
    pool: str = ""
    device: str = ""
    share_id: str = ""
    cdi_devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """DynamicResource: a claim that a container uses.

    Attributes:
        name, namespace: of the ResourceClaim.
        devices: allocated to it.
    """

    name: str
    namespace: str
    devices: tuple[ClaimedDevice, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """ContainerResources."""

    name: str
    devices: tuple[Devices, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Pod:
    """PodResources. It has no uid and no labels: those come from the pod's metadata."""

    namespace: str
    name: str
    containers: tuple[Container, ...]


def pods(response: bytes) -> tuple[Pod, ...]:
    """What a ListPodResourcesResponse holds.

    Raises:
        WireError: the bytes are no such message.
    """
    return _each(_Fields(response), 1, _pod)


class _Fields:
    """A message's strings and messages by field number."""

    def __init__(self, message: bytes) -> None:
        self._values: dict[int, list[bytes]] = {}
        for number, value in fields(message):
            self._values.setdefault(number, []).append(value)

    def text(self, number: int) -> str:
        """The last one: a repeated singular field is overwritten, says the format."""
        values = self._values.get(number)
        return text(values[-1]) if values else ""

    def all(self, number: int) -> Iterator[bytes]:
        yield from self._values.get(number, ())


def _each(message: _Fields, number: int, read: Callable[["_Fields"], Message]) -> tuple[Message, ...]:
    return tuple(read(_Fields(value)) for value in message.all(number))


def _pod(message: _Fields) -> Pod:
    return Pod(
        name=message.text(1),
        namespace=message.text(2),
        containers=_each(message, 3, _container),
    )


def _container(message: _Fields) -> Container:
    return Container(
        name=message.text(1),
        devices=_each(message, 2, _devices),
        claims=_each(message, 5, _claim),
    )


def _devices(message: _Fields) -> Devices:
    return Devices(resource=message.text(1), ids=tuple(text(value) for value in message.all(2)))


def _claim(message: _Fields) -> Claim:
    # Field 1 was the class of the claim until Kubernetes 1.31.
    return Claim(
        name=message.text(2),
        namespace=message.text(3),
        devices=_each(message, 4, _claimed),
    )


def _claimed(message: _Fields) -> ClaimedDevice:
    return ClaimedDevice(
        cdi_devices=_each(message, 1, lambda device: device.text(1)),
        driver=message.text(2),
        pool=message.text(3),
        device=message.text(4),
        share_id=message.text(5),
    )
