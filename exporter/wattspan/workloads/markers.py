"""Which run a process says it belongs to, by its environment.

Only the variables of the allow-list are ever looked at; the rest of an environment holds secrets and stays
where it is. What is taken is made safe before anybody sees it: one line, limited, without control characters.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wattspan.workloads import run_ids

ALLOWED: Final = frozenset(
    {
        "WATTSPAN_RUN_ID",
        "WATTSPAN_RUN_ATTEMPT",
        # Set by `wandb`, `mlflow` and torchrun for the processes that they start.
        "WANDB_RUN_ID",
        "MLFLOW_RUN_ID",
        "TORCHELASTIC_RUN_ID",
        # Slurm: sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES".
        "SLURM_JOB_ID",
        "SLURM_JOB_NAME",
        "SLURM_JOB_NUM_NODES",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_CLUSTER_NAME",
        "SLURM_RESTART_COUNT",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        # torchrun, and what speaks its dialect (accelerate, DeepSpeed, Lightning).
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "GROUP_WORLD_SIZE",
        # W3C Trace Context in the environment, as OpenTelemetry's specification has it.
        "TRACEPARENT",
    }
)
"""Names of environment variables that may be read; nothing else leaves this module."""

_OTHER_MARKERS: Final = ("WANDB_RUN_ID", "MLFLOW_RUN_ID", "TORCHELASTIC_RUN_ID")
"""In the order in which they name a run: the one that a person meets in another tool comes first."""

_NO_ID: Final = frozenset({"", "none", "0"})
"""Values that name nothing (contract, "Runs"): torchrun's default id is ``none``."""

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_TRACEPARENT: Final = re.compile(
    r"(?!ff|00-.{53})[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)
"""``version-trace-parent-flags``; later versions than 00 may add to it, version ff is invalid
(https://www.w3.org/TR/trace-context/, 3.2)."""


@dataclass(frozen=True, slots=True)
class MarkedRun:
    """The run that an environment names.

    Attributes:
        run_id: safe, of the contract's form.
        attempt: None where the environment does not say; whoever knows earlier attempts decides.
        source: ``slurm`` or ``environment``.
        marker: the variable that named it. WATTSPAN_RUN_ID comes before a pod's job, the others after it.
        name: for people; empty when nobody said.
        rank_zero: global rank 0 by RANK, else by SLURM_PROCID; None where neither is set.
        nodes_expected: None where nobody said.
        parent_trace_id: of TRACEPARENT; empty when there is none.
    """

    run_id: str
    attempt: int | None
    source: Literal["slurm", "environment"]
    marker: str
    name: str = ""
    rank_zero: bool | None = None
    nodes_expected: int | None = None
    parent_trace_id: str = ""


def allowed(environment: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Of these pairs the ones on the allow-list, made safe. Of two with one name the first, as getenv(3)."""
    chosen: dict[str, str] = {}
    for name, value in environment:
        if name in ALLOWED:
            chosen.setdefault(name, run_ids.plain(value, limit=run_ids.MAX_RUN_ID_LENGTH))
    return chosen


def of_environ(environ: bytes) -> dict[str, str]:
    """The markers in the text of ``/proc/PID/environ``: ``NAME=value``, each ended by a NUL byte."""
    pairs = (entry.partition(b"=") for entry in environ.split(b"\0"))
    return allowed(
        (name.decode("ascii", "replace"), value.decode("utf-8", "replace")) for name, _, value in pairs
    )


def run_of(markers: Mapping[str, str], cluster: str = "") -> MarkedRun | None:
    """The run that these markers name, or None. The contract's order; a pod's job is the caller's matter.

    Args:
        markers: values by variable; only those of the allow-list are looked at.
        cluster: stands in for SLURM_CLUSTER_NAME.
    """
    safe = allowed(markers.items())
    named = _named(safe, cluster)
    if named is None:
        return None
    marker, run_id = named
    return MarkedRun(
        run_id=run_id,
        attempt=_first_number(safe, "WATTSPAN_RUN_ATTEMPT", "SLURM_RESTART_COUNT"),
        source="slurm" if marker == "SLURM_JOB_ID" else "environment",
        marker=marker,
        name=safe.get("SLURM_JOB_NAME", ""),
        rank_zero=rank_zero(safe),
        nodes_expected=_first_number(safe, "GROUP_WORLD_SIZE", "SLURM_JOB_NUM_NODES"),
        parent_trace_id=parent_trace_id(safe.get("TRACEPARENT", "")),
    )


def rank_zero(markers: Mapping[str, str]) -> bool | None:
    """Whether this is global rank 0: RANK, else SLURM_PROCID; None where neither is a number."""
    rank = _first_number(markers, "RANK", "SLURM_PROCID")
    return None if rank is None else rank == 0


def parent_trace_id(traceparent: str) -> str:
    """The trace id of a W3C ``traceparent``; empty when it is none, or all zero."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return ""
    return match[1]


def _named(markers: Mapping[str, str], cluster: str) -> tuple[str, str] | None:
    """The first marker that names a run, and the run's id."""
    if chosen := usable(markers, "WATTSPAN_RUN_ID"):
        return "WATTSPAN_RUN_ID", run_ids.clean(chosen)
    if job := usable(markers, "SLURM_JOB_ID"):
        # Elements of an array have numbers of their own; people and sacct(1) know them as 12345_7.
        # A task's own number may be 0, so only the array's tells whether there is one.
        array = usable(markers, "SLURM_ARRAY_JOB_ID")
        task = markers.get("SLURM_ARRAY_TASK_ID", "") if array else ""
        where = usable(markers, "SLURM_CLUSTER_NAME") or cluster
        return "SLURM_JOB_ID", run_ids.slurm_id(where, array if task else job, task)
    for marker in _OTHER_MARKERS:
        if value := usable(markers, marker):
            return marker, run_ids.marker_id(marker, value)
    return None


def usable(markers: Mapping[str, str], name: str) -> str:
    """A marker's value, or empty where it names nothing."""
    value = markers.get(name, "").strip()
    return "" if value.lower() in _NO_ID or not run_ids.clean(value) else value


def _first_number(markers: Mapping[str, str], *names: str) -> int | None:
    values = (markers.get(name, "").strip() for name in names)
    return next((int(value) for value in values if _NUMBER.fullmatch(value)), None)
