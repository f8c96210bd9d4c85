"""The names of runs and of their spans: pure functions, so that every node arrives at the same ones.

A run id is ``[A-Za-z0-9][A-Za-z0-9._:-]{0,252}``: a label value, a part of a path, a key of the journal.
Trace and span ids are made of it by SHA-256; no node has to ask another for them.
"""

import hashlib
import re
import secrets
import unicodedata
from functools import lru_cache
from typing import Final

MAX_RUN_ID_LENGTH: Final = 253
"""Of the contract; as long as the longest name that Kubernetes gives an object (RFC 1123 subdomain)."""

MAX_NAME_LENGTH: Final = 200
"""Characters of a name or attribute that somebody else chose; more is cut off."""

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")
_OUTSIDE: Final = re.compile(r"[^A-Za-z0-9._:-]")
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs"})
"""Unicode categories without a glyph: control, format (bidirectional overrides), lone surrogates."""

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O, U (https://www.crockford.com/base32.html)."""

ULID_FORM: Final = f"[0-7][{_CROCKFORD}]{{25}}"
"""A larger first digit would be a time beyond 48 bits."""

_ULID: Final = re.compile(ULID_FORM)

_DIGEST_PREFIX: Final = "wattspan/1"


def valid(run_id: str) -> bool:
    """Whether this is a run id of the contract as it stands."""
    return _RUN_ID.fullmatch(run_id) is not None


def plain(text: str, limit: int = MAX_NAME_LENGTH) -> str:
    """A name for people on one line: white space becomes one space, what has no glyph goes, the rest is cut.

    What is left always encodes to UTF-8: lone surrogates, as Python makes of bad bytes, have no glyph.
    """
    visible = "".join(letter for letter in text if letter.isspace() or not _is_invisible(letter))
    return " ".join(visible.split())[:limit].rstrip()


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in _INVISIBLE


def clean(text: str) -> str:
    """The text as a run id, or as a part of one; empty when nothing usable is left.

    What has no glyph goes, what is outside the set becomes ``-``,
    and leading characters that no run id starts with are dropped.
    """
    dashed = _OUTSIDE.sub("-", plain(text, limit=MAX_RUN_ID_LENGTH))
    return dashed.lstrip("._:-")


def kubernetes_id(namespace: str, kind: str, name: str, top_owner_uid: str) -> str:
    """``k8s:<namespace>:<kind>:<name>:<first 8 of the uid>``; a name too long is cut, the uid never is."""
    uid = clean(top_owner_uid)[:8]
    head = f"k8s:{clean(namespace)}:{clean(kind)}:{clean(name)}"
    return f"{head[: MAX_RUN_ID_LENGTH - len(uid) - 1]}:{uid}"


def slurm_id(cluster: str, job: str, array_task: str = "") -> str:
    """``slurm:<cluster>:<job>[_<task>]``; for an element of an array, `job` is SLURM_ARRAY_JOB_ID."""
    ending = f":{clean(job)}_{clean(array_task)}" if clean(array_task) else f":{clean(job)}"
    return f"{f'slurm:{clean(cluster)}'[: MAX_RUN_ID_LENGTH - len(ending)]}{ending}"


def marker_id(marker: str, value: str) -> str:
    """``<marker>:<value>`` in lower case, such as ``wandb_run_id:3kx9q2ab``."""
    return clean(f"{marker}:{clean(value)}".lower())


def named_id(name: str, unique: str) -> str:
    """``<name>-<ULID>``: the id of a run that nothing else names. Without a usable name, ``run-<ULID>``."""
    stem = clean(name) or "run"
    return f"{stem[: MAX_RUN_ID_LENGTH - len(unique) - 1]}-{unique}"


def further_id(run_id: str, count: int) -> str:
    """``<id>.2``, ``<id>.3``: a further `track()` in a job that already has an id."""
    ending = f".{count}"
    return f"{run_id[: MAX_RUN_ID_LENGTH - len(ending)]}{ending}"


def is_ulid(text: str) -> bool:
    """Whether this is one, as `ulid` makes them."""
    return _ULID.fullmatch(text) is not None


def ulid(wall_ns: int, entropy: bytes | None = None) -> str:
    """26 characters that sort by time and are the same nowhere else: 48 bits of milliseconds, 80 of chance.

    Source: https://github.com/ulid/spec, without its monotonic option.

    Args:
        wall_ns: since the epoch.
        entropy: ten bytes; drawn from the system when not given.
    """
    chance = int.from_bytes(secrets.token_bytes(10) if entropy is None else entropy)
    number = wall_ns // 1_000_000 << 80 | chance
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


@lru_cache(maxsize=1024)  # of every run that is shown, at every tick
def digest(cluster: str, run_id: str, attempt: int) -> bytes:
    """SHA-256 of ``wattspan/1``, cluster, run id and attempt (decimal), joined by NUL bytes, UTF-8."""
    return hashlib.sha256("\0".join((_DIGEST_PREFIX, cluster, run_id, str(attempt))).encode()).digest()


def trace_id(cluster: str, run_id: str, attempt: int) -> str:
    """The trace of one attempt, on every node: 32 lower-case hex digits."""
    return digest(cluster, run_id, attempt)[:16].hex()


def run_span_id(cluster: str, run_id: str, attempt: int) -> str:
    """The `training_run` span of one attempt, whoever writes it: 16 lower-case hex digits."""
    return digest(cluster, run_id, attempt)[16:24].hex()


def node_span_id(cluster: str, run_id: str, attempt: int, node: str) -> str:
    """The `training_run.node` span of one attempt on one node: 16 lower-case hex digits."""
    return hashlib.sha256(digest(cluster, run_id, attempt) + node.encode()).digest()[:8].hex()
