"""Which programs and ports are there."""

import shutil
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
LOOK_AHEAD: Final = 100


class MissingError(Exception):
    """Something that is needed is not there; the text says what, and how to get it."""


def free_port(wanted: int | None, usual: int, taken: set[int]) -> int:
    """The port that was asked for, or the usual one, or the first free one after it.

    Args:
        wanted: that must be it.
        usual: where to begin to look otherwise.
        taken: given out already; the answer is added.

    Raises:
        MissingError: somebody listens on `wanted`, or on everything from `usual` on.
    """
    candidates = range(usual, min(usual + LOOK_AHEAD, 2**16)) if wanted is None else (wanted,)
    for port in candidates:
        if port not in taken and _is_free(port):
            taken.add(port)
            return port
    if wanted is not None:
        raise MissingError(f"port {wanted} is in use; choose another one, or none for the next that is free")
    raise MissingError(f"ports {usual} to {usual + LOOK_AHEAD - 1} are all in use")


def program(*names: str, get: str) -> str:
    """The path of the first of these programs that is there.

    Raises:
        MissingError: none is; `get` says how to get it.
    """
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    raise MissingError(f"{names[0]} is not installed: {get}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: without it a port counts as used for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
