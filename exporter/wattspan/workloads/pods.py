"""pods: what the pods of this node are, from the kubelet's ``/pods`` or from the API server.

Both answer a GET with a PodList, so one reader serves both:

- the kubelet, ``https://<node>:10250/pods``: needs RBAC get on ``nodes/pods``
  (KubeletFineGrainedAuthz, on since Kubernetes 1.33).
  Never ``nodes/proxy``, whose GET permits exec into any pod of the node.
- the API server, for older clusters: needs get and list on pods.
  ``resourceVersion=0`` answers from the server's own memory, so a list every half minute is no load on etcd;
  a watch would spare little, and bring state of its own to lose.

Of a pod's environment, only the names in `ENVIRONMENT` are kept.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args
from urllib.parse import quote

from wattspan.errors import ReadError
from wattspan.units import NS_PER_S
from wattspan.workloads.endpoint import Server

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]

PHASES: Final[Mapping[str | None, Phase]] = {phase: phase for phase in get_args(Phase)}

ENVIRONMENT: Final = ("WATTSPAN_RUN_ID", "WATTSPAN_RUN_ATTEMPT", "RANK", "PET_NNODES")
"""The only variables that are kept of a pod: ours, and what job controllers write for torchrun
(training-operator, pkg/controller.v1/pytorch/envvar.go and elastic.go; Kubeflow Trainer, plugin torch)."""

MAX_ANNOTATION: Final = 1024
"""Characters. What is longer (last-applied-configuration, network status) is nothing that is read here."""


@dataclass(frozen=True, slots=True)
class Owner:
    """An ownerReference. One level only: an owner's own owners are not on the pod."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One container that runs or has run; a container that was restarted is listed with its last run, too.

    Attributes:
        container_id: as in its cgroup, without the runtime's scheme.
        name: in the pod.
        started_wall_ns: None when it has not started.
        exit_code: None while it runs.
        exit_reason: such as ``OOMKilled``; empty while it runs.
    """

    container_id: str
    name: str
    started_wall_ns: int | None = None
    exit_code: int | None = None
    exit_reason: str = ""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of one pod.

    Attributes:
        uid: as in its cgroup.
        namespace, name: together they are what PodResources calls it.
        phase: ``Succeeded`` and ``Failed`` pods hold nothing any more.
        reason: of the phase, such as ``Evicted``; mostly empty.
        ips: its addresses; those of the node when `host_network`.
        host_network: its address says nothing about who it is.
        labels: as they are.
        annotations: as they are, without those longer than `MAX_ANNOTATION`.
        owners: direct ones.
        environment: variables named in `ENVIRONMENT` that its spec sets to a plain value.
        containers: newest first within a name; init and ephemeral ones, too.
        started_wall_ns: when the kubelet took it on; None before.
        deleting: it has been told to end.
    """

    uid: str
    namespace: str
    name: str
    phase: Phase
    reason: str = ""
    ips: tuple[str, ...] = ()
    host_network: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[ContainerFacts, ...] = ()
    started_wall_ns: int | None = None
    deleting: bool = False

    @property
    def ended(self) -> bool:
        """Every container has ended and none will start again."""
        return self.phase in ("Succeeded", "Failed")


class PodList:
    """Where the pods of this node can be asked for."""

    def __init__(self, server: Server, path: str) -> None:
        """
        Args:
            server: the kubelet or the API server.
            path: of the list.
        """
        self._server = server
        self._path = path

    def pods(self) -> tuple[PodFacts, ...]:
        """The pods of this node, those that have ended included. Blocks for the server's time-out at most.

        Raises:
            ReadError: no answer, a refusal, or nonsense.
        """
        answer = self._server.get(self._path)
        try:
            return read(answer)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ReadError("malformed", f"{self._path}: no PodList: {error!r}") from error


def of_kubelet(server: Server) -> PodList:
    """The pods as the kubelet of this node knows them."""
    return PodList(server, "/pods")


def of_api_server(server: Server, node_name: str) -> PodList:
    """The pods as the API server knows them.

    Args:
        server: the API server.
        node_name: spec.nodeName of our own pod.
    """
    selector = quote(f"spec.nodeName={node_name}", safe="")
    return PodList(server, f"/api/v1/pods?fieldSelector={selector}&resourceVersion=0")


def read(pod_list: bytes) -> tuple[PodFacts, ...]:
    """The pods of a PodList in JSON.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: it is none.
    """
    document = json.loads(pod_list)
    if not isinstance(document, dict) or "items" not in document:
        raise ValueError("no items")
    return tuple(_pod(item) for item in document["items"] or ())


def _pod(item: dict[str, Any]) -> PodFacts:
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    addresses = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    return PodFacts(
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        phase=PHASES.get(status.get("phase"), "Unknown"),
        reason=status.get("reason") or "",
        ips=tuple(address for address in addresses if address),
        host_network=bool(spec.get("hostNetwork")),
        labels=meta.get("labels") or {},
        annotations=_short(meta.get("annotations") or {}),
        owners=tuple(_owner(owner) for owner in meta.get("ownerReferences") or ()),
        environment=_environment(spec.get("containers") or ()),
        containers=tuple(_containers(status)),
        started_wall_ns=_wall_ns(status.get("startTime")),
        deleting="deletionTimestamp" in meta,
    )


def _owner(owner: dict[str, Any]) -> Owner:
    return Owner(
        owner.get("apiVersion", ""), owner["kind"], owner["name"], owner["uid"], bool(owner.get("controller"))
    )


def _short(annotations: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in annotations.items() if len(value) <= MAX_ANNOTATION}


def _environment(containers: Iterable[dict[str, Any]]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for container in containers:
        for variable in container.get("env") or ():
            name, value = variable.get("name"), variable.get("value")
            if name in ENVIRONMENT and value:
                found.setdefault(name, value)
    return found


def _containers(status: dict[str, Any]) -> Iterator[ContainerFacts]:
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for container in status.get(kind) or ():
            state, last = container.get("state") or {}, container.get("lastState") or {}
            current = container.get("containerID")
            dead = (last.get("terminated") or {}).get("containerID")
            # containerID stays that of the dead until a successor has started; state only says "waiting".
            if current and current != dead:
                yield _container(container["name"], current, state)
            if dead:
                yield _container(container["name"], dead, last)


def _container(name: str, container_id: str, state: dict[str, Any]) -> ContainerFacts:
    terminated = state.get("terminated")
    times = terminated or state.get("running") or {}
    return ContainerFacts(
        container_id=container_id.rpartition("://")[2],
        name=name,
        started_wall_ns=_wall_ns(times.get("startedAt")),
        exit_code=terminated.get("exitCode") if terminated else None,
        exit_reason=(terminated.get("reason") or "") if terminated else "",
    )


def _wall_ns(timestamp: str | None) -> int | None:
    """RFC 3339, as Kubernetes writes it, to the second."""
    return None if timestamp is None else int(datetime.fromisoformat(timestamp).timestamp()) * NS_PER_S
