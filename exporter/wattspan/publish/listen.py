"""Listen addresses in, listening sockets out."""

import errno
import socket
from collections.abc import Iterable
from typing import Final

from wattspan.errors import SetupError, UnreachableError

KEY: Final = "web.listen-address"

BACKLOG: Final = 1024
"""Connections that the kernel completes while nobody accepts; it lowers this to net.core.somaxconn itself."""

Place = tuple[str | int, ...] | tuple[int, bytes]
"""An address as the socket module takes it."""

_NO_IPV6: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def bind(addresses: Iterable[str]) -> list[socket.socket]:
    """Sockets that listen from now on, one for each address; none at all when one of them fails.

    Connections queue in the kernel until they are served. Looking up a host name may block.

    Args:
        addresses: ``:9746`` for all interfaces, IPv6 and IPv4; or ``HOST:PORT``, IPv6 in brackets.

    Raises:
        SetupError: an address has none of these forms.
        UnreachableError: it cannot be listened on; the text says why and how to mend it.
    """
    parsed = [(address, *parse(address)) for address in addresses]
    sockets: list[socket.socket] = []
    try:
        for address, host, port in parsed:
            sockets.append(_listen(address, host, port))
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def parse(address: str) -> tuple[str, int]:
    """Host (empty for all interfaces) and port.

    Raises:
        SetupError: the address has no such form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    # A colon in a host without brackets is an IPv6 address whose end cannot be told from the port.
    if not colon or not digits or int(port) > 65535 or bracketed != (":" in host) or not host.isprintable():
        raise SetupError(f"{KEY}: {address!r} is not allowed; allowed: [HOST]:PORT as in {_FORMS}")
    return host, int(port)


_FORMS: Final = ":9746, 127.0.0.1:9746, [::1]:9746"


def _listen(address: str, host: str, port: int) -> socket.socket:
    try:
        if not host:
            return _everywhere(port)
        family, place = _look_up(address, host, port)
        return _open(family, place)
    except OSError as error:
        raise UnreachableError(f"{KEY}: cannot listen on {address}: {_mend(error, port)}") from error


def _everywhere(port: int) -> socket.socket:
    """IPv6 and IPv4 on one socket; IPv4 alone where the kernel knows nothing else."""
    try:
        return _open(socket.AF_INET6, ("::", port), both=True)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _open(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - what an address without a host asks for


def _look_up(address: str, host: str, port: int) -> tuple[int, Place]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UnreachableError(
            f"{KEY}: cannot listen on {address}: no address is known for {host!r}"
        ) from error
    # A name such as localhost has several; IPv4 first, as Go's net.Listen does.
    family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, place


def _open(family: int, place: Place, *, both: bool = False) -> socket.socket:
    # The protocol is named because asyncio turns off Nagle's algorithm only where it stands on the accepted
    # socket; with it each answer of more than one packet would wait 40 ms for a delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Without it a restart waits a minute for the old connections to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        listener.bind(place)
        # Not left for later: with SO_REUSEADDR a port in use shows only here in some cases.
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _mend(error: OSError, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} is in use by another program (`ss -ltnp sport = :{port}` names it); "
                f"stop that one or choose another port with --{KEY}"
            )
        case errno.EADDRNOTAVAIL:
            return f"no interface of this machine has this address; choose another with --{KEY}"
        case errno.EACCES | errno.EPERM:
            return f"not permitted; ports below 1024 need a privilege, choose a higher one with --{KEY}"
        case _:
            return error.strerror or str(error)
