"""The protobuf wire format, as much of it as reading needs.

Source: https://protobuf.dev/programming-guides/encoding/ (read 2026-11-20).
The kubelet's answer holds strings in messages and nothing else that matters here, so this page stands in for
generated code, which would bind the daemon to the protobuf release that generated it,
while the OTLP exporter beside it binds to another.
"""

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH_DELIMITED: Final = 2
FIXED32: Final = 5

MAX_VARINT_BYTES: Final = 10
"""64 bits in groups of seven."""


class WireError(ValueError):
    """Bytes that are no protobuf message."""


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each length-delimited field (strings and messages), in the order of the wire.

    Numbers are stepped over: nothing that is read here is one.

    Raises:
        WireError: the bytes end in mid-field, or hold a wire type that proto3 does not have.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            _, at = _varint(message, at)
            continue
        if wire_type == LENGTH_DELIMITED:
            length, at = _varint(message, at)
        elif wire_type in (FIXED32, FIXED64):
            length = 4 if wire_type == FIXED32 else 8
        else:
            raise WireError(f"wire type {wire_type} in field {number}")
        end = at + length
        if end > len(message):
            raise WireError(f"field {number} ends after the message")
        if wire_type == LENGTH_DELIMITED:
            yield number, message[at:end]
        at = end


def text(value: bytes) -> str:
    """A string field.

    Raises:
        WireError: it is not UTF-8, which proto3 requires.
    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"a string that is not UTF-8: {error.reason}") from error


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise WireError("a number without an end")
