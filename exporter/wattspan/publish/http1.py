"""HTTP/1.1 as far as the local socket speaks it (RFC 9112): heads in, answers out, pure functions.

The base install has no HTTP library, and the clients are few: ours and curl.
Bodies come with a length, never in chunks.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NoReturn
from urllib.parse import unquote

from wattspan.publish.pages import ProblemError, Response, headers_of, too_large

HEAD_END: Final = b"\r\n\r\n"

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*) HTTP/1\.([01])")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body.

    Attributes:
        method: as it was sent.
        raw_path, query: the two sides of the question mark.
        headers: by name in lower case; repeated ones joined by commas.
        body_bytes: length of the body.
        keeps: the client may send another request on this connection.
        waits: the client sends the body only when it is told to go on.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: dict[str, str]
    body_bytes: int
    keeps: bool
    waits: bool

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.raw_path.decode("ascii"))


def read_head(head: bytes) -> Head:
    """A request's line and headers.

    Args:
        head: up to and with the empty line.

    Raises:
        ProblemError: it is not HTTP/1, or asks for what is not spoken here.
    """
    line, *lines = head.removesuffix(HEAD_END).split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None:
        _bad("this is not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for text in lines:
        header = _HEADER.fullmatch(text)
        if header is None:
            _bad("a header is malformed")
        name, value = header[1].decode("ascii").lower(), header[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    raw_path, _, query = request[2].partition(b"?")
    connection = headers.get("connection", "").lower()
    return Head(
        method=request[1].decode("ascii"),
        raw_path=raw_path,
        query=query,
        headers=headers,
        body_bytes=_body_bytes(headers),
        keeps=request[3] == b"1" and "close" not in connection,
        waits=headers.get("expect", "").lower() == "100-continue",
    )


def written(response: Response, *, head_only: bool, closes: bool) -> bytes:
    """A response as it goes over the wire.

    Args:
        response: what to write.
        head_only: the answer to HEAD.
        closes: no further request is taken on this connection.
    """
    headers = {**headers_of(response), **({"connection": "close"} if closes else {})}
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + HEAD_END + (b"" if head_only else response.body)


def _body_bytes(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise ProblemError(HTTPStatus.LENGTH_REQUIRED, "a body has to come with its Content-Length")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and len(length) > 18:
        raise too_large()
    if not _LENGTH.fullmatch(length):
        _bad("Content-Length is no number")  # two of them included: they are a way to smuggle requests
    return int(length)


def _bad(detail: str) -> NoReturn:
    raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
