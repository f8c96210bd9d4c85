"""slices: which GPU a dynamically allocated device is, from the node's ResourceSlices.

The kubelet tells driver, pool and device of a claim (DRA), never a uuid: that is an attribute in the slice.
Asking needs RBAC get and list on resourceslices of resource.k8s.io, and Kubernetes 1.34 for version v1.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from wattspan.errors import ReadError
from wattspan.workloads.endpoint import Server
from wattspan.workloads.kubelet import Allocation

UUID: Final = "uuid"
"""Of gpu.nvidia.com (NVIDIA/k8s-dra-driver-gpu): ``GPU-...`` for whole GPUs, ``MIG-...`` for instances."""

Named = tuple[str, str, str]
"""Driver, pool and device: together they name a device within the cluster."""


class SliceList:
    """Where the ResourceSlices of this node can be asked for."""

    def __init__(self, server: Server, node_name: str) -> None:
        """
        Args:
            server: the API server.
            node_name: spec.nodeName of our own pod.
        """
        selector = quote(f"spec.nodeName={node_name}", safe="")
        self._server = server
        self._path = f"/apis/resource.k8s.io/v1/resourceslices?fieldSelector={selector}&resourceVersion=0"

    def uuids(self) -> Mapping[Named, str]:
        """As `read`. Blocks for the server's time-out at most.

        Raises:
            ReadError: no answer, a refusal, or nonsense.
        """
        answer = self._server.get(self._path)
        try:
            return read(answer)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ReadError("malformed", f"{self._path}: no ResourceSliceList: {error!r}") from error


def resolved(allocation: Allocation, uuids: Mapping[Named, str]) -> Allocation:
    """The allocation with the uuid of its DRA device, if that is known; any other as it is."""
    dra = allocation.dra
    uuid = uuids.get((dra.driver, dra.pool, dra.device), "") if dra else ""
    if not uuid:
        return allocation
    return replace(allocation, device_id=uuid, kind="mig" if uuid.startswith("MIG-") else "gpu")


def read(slice_list: bytes) -> Mapping[Named, str]:
    """The uuid of each device that has one, by driver, pool and device, of a ResourceSliceList in JSON.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: it is none.
    """
    document = json.loads(slice_list)
    if not isinstance(document, dict) or "items" not in document:
        raise ValueError("no items")
    return {
        (spec["driver"], spec["pool"]["name"], device["name"]): uuid
        for spec in (item["spec"] for item in document["items"] or ())
        for device in spec.get("devices") or ()
        if (uuid := _uuid(device))
    }


def _uuid(device: dict[str, Any]) -> str:
    attribute = (device.get("attributes") or {}).get(UUID) or {}
    return str(attribute.get("string", ""))
