"""A kubelet: PodResources over real gRPC on a real socket, pods and slices as JSON over HTTPS on loopback.

Messages are encoded by Google's protobuf from a description of api.proto, not by anything of ours.
"""

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.publish.certificates import Authority
from wattspan.workloads.endpoint import Server, kubelet

FIELD = descriptor_pb2.FieldDescriptorProto

MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "NUMANode": {"ID": (1, "int64")},
    "TopologyInfo": {"nodes": (1, "NUMANode*")},
    "ContainerMemory": {"memory_type": (1, "string"), "size": (2, "uint64"), "topology": (3, "TopologyInfo")},
    "ContainerDevices": {
        "resource_name": (1, "string"),
        "device_ids": (2, "string*"),
        "topology": (3, "TopologyInfo"),
    },
    "CDIDevice": {"name": (1, "string")},
    "ClaimResource": {
        "cdi_devices": (1, "CDIDevice*"),
        "driver_name": (2, "string"),
        "pool_name": (3, "string"),
        "device_name": (4, "string"),
        "share_id": (5, "string"),
    },
    "DynamicResource": {
        "class_name": (1, "string"),
        "claim_name": (2, "string"),
        "claim_namespace": (3, "string"),
        "claim_resources": (4, "ClaimResource*"),
    },
    "ContainerResources": {
        "name": (1, "string"),
        "devices": (2, "ContainerDevices*"),
        "cpu_ids": (3, "int64*"),
        "memory": (4, "ContainerMemory*"),
        "dynamic_resources": (5, "DynamicResource*"),
    },
    "PodResources": {
        "name": (1, "string"),
        "namespace": (2, "string"),
        "containers": (3, "ContainerResources*"),
        "cpu_ids": (4, "int64*"),
        "memory": (5, "ContainerMemory*"),
    },
    "ListPodResourcesResponse": {"pod_resources": (1, "PodResources*")},
}
"""api.proto of PodResources v1: number and type of each field, a star for repeated ones."""


def _response_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="api.proto", package="v1", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, written) in fields.items():
            label = FIELD.LABEL_REPEATED if written.endswith("*") else FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            kind = written.rstrip("*")
            if kind in MESSAGES:
                added.type, added.type_name = FIELD.TYPE_MESSAGE, f".v1.{kind}"
            else:
                added.type = FIELD.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("v1.ListPodResourcesResponse"))


RESPONSE = _response_class()


def response(*pods: Mapping[str, Any]) -> bytes:
    """A ListPodResourcesResponse; each pod by the names of api.proto."""
    encoded: bytes = RESPONSE(pod_resources=pods).SerializeToString()
    return encoded


def holding(name: str, resource: str, *ids: str, namespace: str = "nlp") -> dict[str, Any]:
    """A pod whose one container holds these devices, with all that a real answer says besides."""
    numa = {"nodes": [{"ID": 1}]}
    return {
        "name": name,
        "namespace": namespace,
        "containers": [
            {
                "name": "main",
                "devices": [{"resource_name": resource, "device_ids": ids, "topology": numa}],
                "cpu_ids": [2, 3, 300],
                "memory": [{"memory_type": "hugepages-1Gi", "size": 1 << 40, "topology": numa}],
            }
        ],
    }


class PodResources:
    """The socket. What it answers is `answer`, or the status code `error`, after `delay_s`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer = response()
        self.error: grpc.StatusCode | None = None
        self.delay_s = 0.0
        self.calls = 0
        self._server: Any = None

    def start(self) -> None:
        """A new process at the same path: the socket is made anew."""
        (self.folder / "kubelet.sock").unlink(missing_ok=True)
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(self._list)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": handler}),)
        )
        self._server.add_insecure_port(f"unix:{self.folder}/kubelet.sock")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _list(self, request: bytes, context: Any) -> bytes:
        assert request == b""
        self.calls += 1
        time.sleep(self.delay_s)
        if self.error is not None:
            context.abort(self.error, "so it was told")
        return self.answer


@contextmanager
def pod_resources(folder: Path) -> Iterator[PodResources]:
    """A kubelet's socket in the folder, until the block ends."""
    served = PodResources(folder)
    served.start()
    try:
        yield served
    finally:
        served.stop()


class TlsServer(ThreadingHTTPServer):
    """Shakes hands in the thread of the connection, so that a client who does not trust it ends only that."""

    tls: ssl.SSLContext

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = super().get_request()
        return self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client sees it; nobody reads our stderr."""


class Https:
    """The HTTPS listener of a kubelet or an API server.

    Attributes:
        documents: what each path answers, as JSON, or as it is when given as bytes.
        token: the one that is let in.
        status: of every answer to the right token.
        asked: paths with their query, in order.
        drip_s: pause after each byte of a body.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.documents: dict[str, object] = {}
        self.token = "the-token"
        self.status = 200
        self.asked: list[str] = []
        self.drip_s = 0.0
        self.cut = False
        self.token_file = folder / "token"
        self.ca_file = folder / "ca.crt"
        self.token_file.write_text(self.token + "\n")
        self._authority = Authority()
        self.ca_file.write_bytes(self._authority.pem)
        self._server = TlsServer(("127.0.0.1", port), self._handler())
        self._server.tls = self._tls(folder)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def server(self, **arguments: Any) -> Server:
        """How the daemon reaches it as its kubelet."""
        known = {"port": self.port, "token_file": self.token_file, "ca_file": self.ca_file}
        return kubelet("127.0.0.1", **(known | arguments))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _tls(self, folder: Path) -> ssl.SSLContext:
        pair = self._authority.pair()
        both = folder / "server.pem"
        both.write_bytes(pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append(self.path)
                status, body = served._answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) + (100 if served.cut else 0)))
                self.end_headers()
                if not served.drip_s:
                    self.wfile.write(body)
                    return
                for byte in body:
                    try:
                        self.wfile.write(bytes([byte]))
                    except OSError:
                        return
                    time.sleep(served.drip_s)

            def log_message(self, *args: object) -> None:
                """Tests read `asked`."""

        return Handler

    def _answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        if authorization != f"Bearer {self.token}":
            return 401, b"Unauthorized"
        if self.status != 200:
            return self.status, b'Forbidden (user=wattspan,\nverb=get, resource=nodes, subresource="pods")'
        document = self.documents.get(path.partition("?")[0])
        if document is None:
            return 404, b"404 page not found"
        return 200, document if isinstance(document, bytes) else json.dumps(document).encode()


@contextmanager
def https(folder: Path, port: int = 0) -> Iterator[Https]:
    """An HTTPS listener on loopback, until the block ends; port 0 lets the kernel choose."""
    served = Https(folder, port)
    served.start()
    try:
        yield served
    finally:
        served.stop()


def pod(
    name: str,
    *,
    namespace: str = "nlp",
    phase: str = "Running",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: tuple[str, str, str, str] | None = None,
    env: Mapping[str, str] | None = None,
    container_id: str = "",
    **status: Any,
) -> dict[str, Any]:
    """A pod as the kubelet writes it.

    Args:
        owner: apiVersion, kind, name and uid of its controller.
    """
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"}
    if labels is not None:
        meta["labels"] = dict(labels)
    if annotations is not None:
        meta["annotations"] = dict(annotations)
    if owner is not None:
        version, kind, owner_name, uid = owner
        meta["ownerReferences"] = [
            {
                "apiVersion": version,
                "kind": kind,
                "name": owner_name,
                "uid": uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    containers = [
        {
            "name": "main",
            "containerID": f"containerd://{container_id or name + '-0'}",
            "state": {"running": {"startedAt": "2026-11-20T10:00:05Z"}},
        }
    ]
    return {
        "metadata": meta,
        "spec": {"containers": [{"name": "main", "image": "trainer", "env": variables}]},
        "status": {
            "phase": phase,
            "podIP": "10.0.0.7",
            "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}],
            "startTime": "2026-11-20T10:00:00Z",
            "containerStatuses": containers,
            **status,
        },
    }


def pod_list(*pods: Mapping[str, Any]) -> dict[str, Any]:
    """A PodList."""
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)}
