"""endpoint: one GET of Kubernetes' API over HTTPS, as the daemon's own service account.

Two servers answer alike: the kubelet of this node for its pods, the API server for the rest.
There is nothing to ask where the daemon has no token.
"""

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from wattspan.errors import NotHereError, ReadError, SetupError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token and the cluster's certificate authority."""

TOKEN: Final = SERVICE_ACCOUNT / "token"
AUTHORITY: Final = SERVICE_ACCOUNT / "ca.crt"

KUBELET_PORT: Final = 10250

TIMEOUT_S: Final = 10.0
"""For one whole answer, connecting included."""

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""A full node (250 pods) has some 5 MB; what is larger is none of the lists that are asked for."""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to ask, and as whom.

    Attributes:
        host, port: of the HTTPS listener.
        token_file: read for each request, because Kubernetes renews it every hour.
        tls: whom to believe.
        timeout_s: for one whole answer.
    """

    host: str
    port: int
    token_file: Path
    tls: ssl.SSLContext
    timeout_s: float = TIMEOUT_S

    def get(self, path: str) -> bytes:
        """The body of a GET. Blocks for the time-out at most.

        Raises:
            ReadError: no token, no answer, a refusal, or more than is reasonable.
        """
        where = f"https://{self.host}:{self.port}{path.partition('?')[0]}"
        headers = {
            "Authorization": f"Bearer {self._token()}",
            "Accept": "application/json",
            "User-Agent": "wattspan",
        }
        deadline = monotonic() + self.timeout_s
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=self.timeout_s, context=self.tls
        )
        try:
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as answer:
                if answer.status != http.HTTPStatus.OK:
                    raise _refused(where, answer.status, answer.read(512))
                return _body(where, answer, deadline)
        except TimeoutError as error:
            raise ReadError("timeout", f"{where}: no answer in {self.timeout_s:g} s") from error
        except ssl.SSLCertVerificationError as error:
            text = f"{where}: certificate not trusted: {error.verify_message}"
            raise ReadError("permission", text) from error
        except (OSError, http.client.HTTPException) as error:
            raise ReadError("io", f"{where}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()

    def _token(self) -> str:
        try:
            return self.token_file.read_text().strip()
        except PermissionError as error:
            raise ReadError("permission", f"{self.token_file}: {error.strerror}") from error
        except OSError as error:
            raise ReadError("io", f"{self.token_file}: {error.strerror}") from error


def kubelet(
    host: str,
    *,
    port: int = KUBELET_PORT,
    token_file: Path = TOKEN,
    ca_file: Path | None = AUTHORITY,
    insecure_skip_verify: bool = False,
) -> Server:
    """The kubelet of this node.

    Args:
        host: the node's address (status.hostIP).
        port: of its HTTPS listener.
        token_file: of our service account.
        ca_file: who signs kubelets' certificates; None for the system's authorities.
        insecure_skip_verify: for kubelets that signed their own certificate (no serverTLSBootstrap):
            whoever takes the node's port then gets our token, so keep its rights small.

    Raises:
        NotHereError: there is no token.
        SetupError: the authority's file cannot be used.
    """
    _require(token_file)
    return Server(host, port, token_file, _unverified_tls() if insecure_skip_verify else _tls_by(ca_file))


def api_server(
    environ: Mapping[str, str], *, token_file: Path = TOKEN, ca_file: Path | None = AUTHORITY
) -> Server:
    """The API server, found as every pod finds it.

    Args:
        environ: holds KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT within a pod.
        token_file, ca_file: of our service account.

    Raises:
        NotHereError: this is no pod, or there is no token.
        SetupError: the authority's file cannot be used.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise NotHereError("no API server: KUBERNETES_SERVICE_HOST is not set, so this is no pod")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not port.isdecimal():
        raise SetupError(f"KUBERNETES_SERVICE_PORT={port}: not a port")
    _require(token_file)
    return Server(host, int(port), token_file, _tls_by(ca_file))


def _require(token_file: Path) -> None:
    if not token_file.exists():
        raise NotHereError(f"no pod metadata: there is no token at {token_file}")


def _tls_by(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise SetupError(f"{ca_file}: no usable certificate authority: {error}") from error


def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _refused(where: str, status: int, body: bytes) -> ReadError:
    # The body names the verb and resource that RBAC lacks; it never holds the token.
    text = f"{where}: HTTP {status}: {' '.join(body.decode('utf-8', 'replace').split())}"
    if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        return ReadError("permission", text)
    if status == http.HTTPStatus.NOT_FOUND:
        return ReadError("unsupported", text)
    return ReadError("io", text)


def _body(where: str, answer: http.client.HTTPResponse, deadline: float) -> bytes:
    """The whole body. A socket's time-out is for each piece; a peer that drips needs a deadline, too."""
    pieces, size = [], 0
    while piece := answer.read1(256 * 1024):
        pieces.append(piece)
        size += len(piece)
        if monotonic() > deadline:
            raise TimeoutError
        if size > MAX_ANSWER_BYTES:
            raise ReadError("malformed", f"{where}: more than {MAX_ANSWER_BYTES} bytes")
    if answer.length:  # read1 ends quietly when the peer goes away in the middle
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(pieces)
