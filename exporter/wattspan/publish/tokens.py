"""Bearer tokens for writes over TCP (RFC 6750), from a file that holds only their digests.

One token a line, four words: ``name sha256:<64 hex digits> scopes namespaces``.
Scopes and namespaces are separated by commas; ``*`` is every namespace, ``-`` none (outside Kubernetes).
What follows ``#`` is a comment::

    # printf %s "$TOKEN" | sha256sum
    ci  sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  runs:write  nlp,vision

A plain digest is enough for a token that a machine has drawn: there is nothing to guess (256 bits).
"""

import hashlib
import hmac
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wattspan.errors import SetupError
from wattspan.publish.stamp import stamp_of

log = logging.getLogger("wattspan.web")

RUNS_WRITE: Final = "runs:write"
"""The scope that begins, reports and ends runs."""

_DIGEST: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_SCOPE: Final = re.compile(r"[a-z]+:[a-z]+")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123 label, as Kubernetes names namespaces."""

_FORM: Final = "name sha256:<64 hex digits> scopes namespaces"


@dataclass(frozen=True, slots=True)
class Token:
    """What one token allows.

    Attributes:
        name: for the log.
        digest: SHA-256 of the token.
        scopes: what it allows; one that nothing here asks for is kept: other programs read the file too.
        namespaces: whose runs it may write to; None for all.
    """

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str]
    namespaces: frozenset[str] | None


class TokenFile:
    """The tokens in force, read anew when the file has changed; asking costs one `stat`.

    An edit that cannot work is named once in the log, and the former tokens stay in force.
    A file that has gone takes its tokens with it. After the constructor, any thread may call.

    Args:
        path: the file.

    Raises:
        SetupError: it cannot be read or used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = stamp_of(path)
        self._tokens = read(path)

    def bearing(self, token: str) -> Token | None:
        """What this token allows; None when it is not known.

        Takes the same time for every token, however much of it is right.
        """
        self._refresh()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known in self._tokens:
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def _refresh(self) -> None:
        now = stamp_of(self._path)
        if now == self._stamp:
            return
        self._stamp = now
        if now is None:
            self._tokens = ()
            log.warning("the token file %s has gone; no token is valid", self._path)
            return
        try:
            self._tokens = read(self._path)
        except SetupError as error:
            log.warning("the token file cannot be used; the former tokens stay in force: %s", error)
            return
        log.info("tokens taken up anew from %s", self._path)


def read(path: Path) -> tuple[Token, ...]:
    """The tokens of a file. Blocks on the disk.

    Raises:
        SetupError: it cannot be read or used; the text names file, line and what is allowed, and no digest.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SetupError(f"token file {path}: cannot be read: {error}") from error
    tokens: list[Token] = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            tokens.append(_token(words))
        except ValueError as error:
            raise SetupError(f"token file {path}: line {number}: {error}; allowed: {_FORM}") from error
        if tokens[-1].digest in {token.digest for token in tokens[:-1]}:
            raise SetupError(f"token file {path}: line {number}: this token is given twice")
    return tuple(tokens)


def _token(words: list[str]) -> Token:
    if len(words) != 4:
        raise ValueError(f"{len(words)} words instead of four")
    name, digest, scopes, namespaces = words
    hashed = _DIGEST.fullmatch(digest)
    if hashed is None:
        # It may be the token itself, that somebody forgot to hash: it is not repeated.
        raise ValueError("the second word is no digest")
    for scope in scopes.split(","):
        if not _SCOPE.fullmatch(scope):
            raise ValueError(f"{scope!r} is no scope such as {RUNS_WRITE}")
    return Token(name, bytes.fromhex(hashed[1]), frozenset(scopes.split(",")), _namespaces(namespaces))


def _namespaces(word: str) -> frozenset[str] | None:
    if word == "*":
        return None
    names = frozenset("" if name == "-" else name for name in word.split(","))
    for name in names:
        if name and not _NAMESPACE.fullmatch(name):
            raise ValueError(f"{name!r} is no namespace")
    return names
