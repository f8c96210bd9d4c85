"""Who asks for a write: a process on the local socket, a pod by its address, or whoever bears a token.

A password never opens a write; a client certificate, where one is required, has been shown before.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from wattspan.publish.commands import Caller, ProcessRef
from wattspan.publish.pages import LocalPeer, ProblemError, Request, TcpPeer
from wattspan.publish.peers import PeerProcesses
from wattspan.publish.tokens import RUNS_WRITE, TokenFile


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """A pod of this node.

    Attributes:
        namespace, name, uid: as Kubernetes has them.
    """

    namespace: str
    name: str
    uid: str


PodByAddress = Callable[[str], PodIdentity | None]
"""An IP address to the pod of this node that alone has it; None for the node's own and for strangers."""


def no_pods(_: str) -> None:
    """Outside Kubernetes no address is a pod's."""


class Identity:
    """Says who a caller is. Any thread may call; reads /proc and looks at one file, waits for nothing.

    Args:
        processes: looks at peers of the local socket.
        pod_by_address: finds pods, or raises the ProblemError that says what is to be done; must not block.
        tokens: the token file; None when there is none.
    """

    def __init__(
        self,
        processes: PeerProcesses,
        pod_by_address: PodByAddress = no_pods,
        tokens: TokenFile | None = None,
    ) -> None:
        self._processes = processes
        self._pod_by_address = pod_by_address
        self._tokens = tokens

    def caller(self, request: Request) -> Caller:
        """Who sends a request.

        Raises:
            ProblemError: 401 when nobody can be made out or a token is wrong, 403 when it may not write,
                503 when it may be a pod that is not known yet.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # A token that was shown has to be right: falling back on the address would hide a mistake.
            return self._bearer(token.strip())
        match request.peer:
            case LocalPeer() as peer:
                return self._process(peer)
            case TcpPeer(address):
                return self._pod(address)
            case None:
                raise nobody()

    def claimed(self, caller: Caller, pid: int | None) -> ProcessRef | None:
        """The process that a caller claims: itself unless it names a child. None for pods and tokens.

        Args:
            caller: as `caller` found it.
            pid: as the caller counts; None for itself. A pod's and a token's mean nothing here.

        Raises:
            ProblemError: 403, it is neither the caller nor one of its children.
        """
        if caller.pid is None or caller.started_ns is None:
            return None
        own = ProcessRef(caller.pid, caller.started_ns)
        if pid is None:
            return own
        found = self._processes.claimed(caller.pid, pid)
        if found is None:
            raise ProblemError(
                HTTPStatus.FORBIDDEN, f"pid {pid} is neither the calling process nor one of its children"
            )
        return own if found.pid == own.pid else ProcessRef(found.pid, found.started_ns)

    def _process(self, peer: LocalPeer) -> Caller:
        if not peer.pid:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "the calling process lives in a pid namespace that the daemon cannot see: "
                "give the daemon the host's (hostPID), or write over TCP",
            )
        process = self._processes.still(peer)
        if process is None:
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "the process that opened this connection has ended; open another"
            )
        return Caller(
            "process",
            name=f"pid {process.pid} of uid {peer.uid}",
            pid=process.pid,
            uid=peer.uid,
            started_ns=process.started_ns,
        )

    def _pod(self, address: str) -> Caller:
        pod = self._pod_by_address(plain_address(address))
        if pod is None:
            raise nobody()
        return Caller(
            "pod",
            name=f"pod {pod.namespace}/{pod.name}",
            pod_uid=pod.uid,
            namespaces=frozenset({pod.namespace}),
        )

    def _bearer(self, text: str) -> Caller:
        token = self._tokens.bearing(text) if self._tokens else None
        if token is None:
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "this token is not known",
                {"www-authenticate": 'Bearer realm="wattspan", error="invalid_token"'},
            )
        if RUNS_WRITE not in token.scopes:
            asked = f'Bearer realm="wattspan", error="insufficient_scope", scope="{RUNS_WRITE}"'
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"this token lacks the scope {RUNS_WRITE}",
                {"www-authenticate": asked},
            )
        return Caller("token", name=f"token {token.name}", namespaces=token.namespaces, scopes=token.scopes)


def plain_address(address: str) -> str:
    """An IP address in its shortest form, IPv4 that came through an IPv6 socket as IPv4."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def nobody(more: str = "") -> ProblemError:
    """401: it cannot be made out who asks, and maybe why."""
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        f"writes come from the local socket, from a pod of this node by its address, or with a token{more}",
        {"www-authenticate": 'Bearer realm="wattspan"'},
    )
