"""TLS settings in, an `ssl.SSLContext` out.

Names and meaning are those of Prometheus' exporter-toolkit (docs/web-configuration.md, read 2026-11-20),
which takes them from Go's crypto/tls.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from wattspan.errors import SetupError

VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
"""TLS10 and TLS11 are missing on purpose: RFC 8996 forbids them and Debian's OpenSSL refuses them."""

CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    # Go lets everybody in here, whatever certificate they show; not asking has the same outcome.
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
"""Go's ClientAuthType by name. RequireAnyClientCert is known and refused: see `webconfig`."""

CIPHER_SUITES: Final = {
    # TLS 1.3 suites are always on, here as in Go: naming them changes nothing.
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""The suites of Go's crypto/tls.CipherSuites() and what OpenSSL calls them."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How connections are protected.

    Attributes:
        certificate_pem, key_pem: the server's chain and its key.
        verify_mode: what is asked of clients.
        client_ca_pem: who may sign clients' certificates; None when they are not verified.
        allowed_sans: a client's certificate must hold one of these names; None when any will do.
        min_version, max_version: both included.
        ciphers: OpenSSL's names for TLS 1.2, in order of preference; empty for OpenSSL's default.
        prefer_server_ciphers: whether our order or the client's decides.
    """

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    verify_mode: ssl.VerifyMode = ssl.CERT_NONE
    client_ca_pem: bytes | None = None
    allowed_sans: frozenset[str] | None = None
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True


@dataclass(frozen=True, slots=True)
class TlsGate:
    """What a new connection passes through.

    Attributes:
        context: for the handshake.
        allowed_sans: as in `TlsSettings`.
    """

    context: ssl.SSLContext
    allowed_sans: frozenset[str] | None

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client may go on after the handshake.

        Args:
            certificate: as `ssl.SSLSocket.getpeercert` gives it.
        """
        if self.allowed_sans is None:
            return True
        names = (certificate or {}).get("subjectAltName", ())
        return any(plain_san(name) in self.allowed_sans for _, name in names)


def plain_san(name: str) -> str:
    """One spelling for each address: OpenSSL prints IPv6 in full and in capitals, people do not."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def gate(settings: TlsSettings) -> TlsGate:
    """Build what connections pass through.

    Raises:
        SetupError: certificate, key or certificate authority are not what they should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = settings.min_version
    context.maximum_version = settings.max_version
    context.set_alpn_protocols(["http/1.1"])
    if not settings.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if settings.ciphers:
        context.set_ciphers(":".join(settings.ciphers))
    _load_certificate(context, settings)
    _load_client_ca(context, settings)
    return TlsGate(context, settings.allowed_sans)


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in settings.certificate_pem:
        raise SetupError("tls_server_config.cert_file: holds no PEM certificate")
    if b"PRIVATE KEY-----" not in settings.key_pem:
        raise SetupError("tls_server_config.key_file: holds no PEM private key")
    if b"ENCRYPTED" in settings.key_pem:
        raise SetupError("tls_server_config.key_file: the key is encrypted, and there is nobody to ask")
    try:
        with _as_file(settings.certificate_pem) as certificate, _as_file(settings.key_pem) as key:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password=b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = "tls_server_config: cert_file and key_file do not belong together"
        else:
            text = f"tls_server_config: cert_file or key_file cannot be used: {error.reason or error}"
        raise SetupError(text) from error


def _load_client_ca(context: ssl.SSLContext, settings: TlsSettings) -> None:
    context.verify_mode = settings.verify_mode
    if settings.client_ca_pem is None:
        return
    try:
        context.load_verify_locations(cadata=settings.client_ca_pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise SetupError("tls_server_config.client_ca_file: holds no usable PEM certificate") from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of a file in memory: OpenSSL reads chains from paths, and keys stay off the disk."""
    descriptor = os.memfd_create("wattspan-pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
