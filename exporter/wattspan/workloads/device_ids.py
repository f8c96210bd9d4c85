"""Device ids: what a plugin calls a device in, which GPU that is out. Pure.

- NVIDIA: ``GPU-<uuid>``, ``MIG-<uuid>``; a time-slicing or MPS replica adds ``::<n>``
  (NVIDIA/k8s-device-plugin, internal/rm/devices.go).
- GKE: ``nvidia<N>``, ``nvidia<N>/gi<M>`` for MIG, either with ``/vgpu<k>`` when shared
  (NVIDIA/dcgm-exporter, internal/pkg/transformation/kubernetes.go).
- AMD: the PCI address (ROCm/k8s-device-plugin). Intel: ``card<N>-<k>`` (intel-device-plugins-for-kubernetes).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from wattspan.model import GpuReading, MigInstance

Kind = Literal["gpu", "mig", "dra"]

_NVIDIA: Final = re.compile(r"(?P<device>(?:GPU|MIG)-[^:]+)(?:::(?P<replica>\d+))?")
_GKE: Final = re.compile(
    r"(?P<device>nvidia(?P<index>\d+)(?:/gi(?P<instance>\d+))?)(?:/vgpu(?P<replica>\d+))?"
)
_INTEL: Final = re.compile(r"(?P<device>card\d+)-(?P<replica>\d+)")

_INTEL_GPUS: Final = frozenset({"gpu.intel.com/i915", "gpu.intel.com/xe"})
"""The others are no devices to compute on: ``*_monitoring`` sees every card, tiles and memory are amounts."""


@dataclass(frozen=True, slots=True)
class DeviceId:
    """A device as its plugin names it.

    Attributes:
        device: the id without its replica.
        kind: a whole GPU or a MIG instance.
        replica: which share of a device that is handed out several times; None for a device handed out once.
    """

    device: str
    kind: Kind
    replica: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Which GPU a device is.

    Attributes:
        uuid: of the GPU, or of the GPU that the instance is part of.
        instance: None for a whole GPU.
    """

    uuid: str
    instance: MigInstance | None = None


def parse(resource: str, device_id: str) -> DeviceId | None:
    """What the id says; None for a resource that is no GPU, or an id of no known form.

    The resource's name decides nothing within nvidia.com: operators rename resources there,
    and network cards and passed-through devices share the domain.
    """
    vendor = resource.partition("/")[0]
    if vendor == "nvidia.com":
        return _nvidia(device_id)
    if vendor == "amd.com":
        return DeviceId(device_id, "gpu")
    if resource in _INTEL_GPUS and (match := _INTEL.fullmatch(device_id)):
        return DeviceId(match["device"], "gpu", int(match["replica"]))
    return None


def find(device: str, gpus: Iterable[GpuReading]) -> Found | None:
    """The GPU behind the id of a device, without its replica.

    None when it is none of these: gone, or AMD's and Intel's names for a card, which no `Gpu` carries yet.
    """
    gke = _GKE.fullmatch(device)
    for reading in gpus:
        gpu = reading.gpu
        if gpu.uuid == device:
            return Found(gpu.uuid)
        # GKE counts device nodes (/dev/nvidia<N>); that this is NVML's index is dcgm-exporter's assumption.
        on_gke = gke is not None and gpu.vendor == "nvidia" and gpu.index == int(gke["index"])
        if gke is not None and on_gke and gke["instance"] is None:
            return Found(gpu.uuid)
        for instance in reading.mig_instances:
            if instance.uuid == device:
                return Found(gpu.uuid, instance)
            if gke is not None and on_gke and instance.gpu_instance == int(gke["instance"]):
                return Found(gpu.uuid, instance)
    return None


def _nvidia(device_id: str) -> DeviceId | None:
    match = _NVIDIA.fullmatch(device_id) or _GKE.fullmatch(device_id)
    if match is None:
        return None
    device, replica = match["device"], match["replica"]
    is_mig = device.startswith("MIG-") or "/gi" in device
    return DeviceId(device, "mig" if is_mig else "gpu", None if replica is None else int(replica))
