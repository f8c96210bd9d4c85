"""Basic authentication against bcrypt hashes (RFC 7617), off the event loop."""

import asyncio
import base64
import binascii
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

BCRYPT_BYTES: Final = 72
"""bcrypt reads no further (Provos and Mazières, 1999), and the Python package refuses what is longer."""

MAX_WAITING: Final = 16
"""Different credentials that may be checked or wait for it: more would only queue up."""

MAX_KNOWN: Final = 128
"""Credentials remembered as good; the longest known is forgotten first."""


class BusyError(Exception):
    """Too many different passwords are waiting to be checked."""


@dataclass(frozen=True, slots=True)
class _Credentials:
    user: str
    password: bytes
    digest: bytes


class Passwords:
    """Who may pass. Belongs to the event loop's thread.

    A check costs bcrypt's tenth of a second, so it runs in a thread, one at a time: guessing passwords
    costs at most one core. Equal checks at the same time are one, and success is remembered under a keyed
    digest: scrapers say the same thing every few seconds. Failure is not remembered.

    Args:
        users: bcrypt hash by user name; at least one.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        import bcrypt  # here, because it is optional: only a file that names users needs it

        self._users = users
        self._matches = bcrypt.checkpw
        self._pepper = os.urandom(32)
        self._turn = asyncio.Lock()
        self._known: dict[bytes, None] = {}
        self._checks: dict[bytes, asyncio.Task[bool]] = {}

    async def admits(self, authorization: str) -> bool:
        """Whether this ``Authorization`` header names a user and the right password.

        Raises:
            BusyError: the question cannot be answered now.
        """
        credentials = self._read(authorization)
        if credentials is None:
            return False
        if credentials.digest in self._known:
            return True
        check = self._checks.get(credentials.digest)
        if check is None:
            check = self._begin(credentials)
        # Others may wait for the same answer: one client that leaves must not cancel it for all.
        return await asyncio.shield(check)

    def _begin(self, credentials: _Credentials) -> asyncio.Task[bool]:
        if len(self._checks) >= MAX_WAITING:
            raise BusyError
        check = asyncio.create_task(self._check(credentials))
        self._checks[credentials.digest] = check
        check.add_done_callback(lambda _: self._checks.pop(credentials.digest, None))
        return check

    async def _check(self, credentials: _Credentials) -> bool:
        named = self._users.get(credentials.user)
        # An unknown name costs what a known one costs: time must not tell which users exist.
        against = next(iter(self._users.values())) if named is None else named
        async with self._turn:
            matches = await asyncio.to_thread(self._matches, credentials.password[:BCRYPT_BYTES], against)
        if not matches or named is None:
            return False
        self._known[credentials.digest] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        return True

    def _read(self, authorization: str) -> _Credentials | None:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return None
        user, colon, password = decoded.partition(b":")
        if not colon:
            return None
        digest = hmac.digest(self._pepper, decoded, "sha256")
        return _Credentials(user.decode("utf-8", "replace"), password, digest)
