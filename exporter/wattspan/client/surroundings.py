"""What the environment says of this process: its rank, the job that it belongs to, and our switches.

Pure functions of the environment that is handed in; what is not listed here is never read, let alone sent.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

JOB_IDS: Final = (
    "WATTSPAN_RUN_ID",
    "SLURM_JOB_ID",
    "WANDB_RUN_ID",
    "MLFLOW_RUN_ID",
    "TORCHELASTIC_RUN_ID",
)
"""Variables that name the job a process belongs to."""

MARKERS: Final = (
    *JOB_IDS,
    "WATTSPAN_RUN_ATTEMPT",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_RESTART_COUNT",
)
"""The only variables whose values the daemon is told."""

RANK: Final = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "NODE_RANK", "JOB_COMPLETION_INDEX")
"""Of torchrun, srun, Open MPI; then of a node, which serves for its local rank 0: Lightning, Kubernetes."""

LOCAL_RANK: Final = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
WORLD_SIZE: Final = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")

NODES: Final = ("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES")
"""Of torchrun and srun. Not SLURM_JOB_NUM_NODES: a batch script may well use one node of many."""

_IGNORED: Final = frozenset({"", "none", "0"})
"""Values of a marker that name no job; torchrun's default id is ``none``."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where this process stands among those of its run; None for what nobody said.

    Attributes:
        rank: over all nodes; of the node where only that is known.
        local_rank: on this node.
        world_size: how many ranks there are.
        nodes: how many nodes there are.
    """

    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    nodes: int | None = None

    @property
    def begins(self) -> bool:
        """Local rank 0 speaks for its node; the other ranks stay silent, or joules would be counted twice."""
        return not self.local_rank

    @property
    def reports(self) -> bool:
        """Rank 0 tells the progress, for it is a total over all nodes."""
        return self.begins and not self.rank


def ranks(environ: Mapping[str, str]) -> Ranks:
    """Where this process stands; a launcher inside another goes before it."""
    return Ranks(
        rank=_first(environ, RANK),
        local_rank=_first(environ, LOCAL_RANK),
        world_size=_first(environ, WORLD_SIZE),
        nodes=_first(environ, NODES),
    )


def markers(environ: Mapping[str, str]) -> dict[str, str]:
    """What names the job, by variable."""
    return {name: environ[name] for name in MARKERS if environ.get(name)}


def names_itself(environ: Mapping[str, str]) -> bool:
    """Whether the daemon can tell the run's id from the job or the pod, so that none is to be made up."""
    in_job = any(environ.get(name, "").lower() not in _IGNORED for name in JOB_IDS)
    return in_job or "KUBERNETES_SERVICE_HOST" in environ


def traceparent(environ: Mapping[str, str]) -> str:
    """The W3C trace context that this process was started with; empty without a usable one."""
    given = environ.get("TRACEPARENT", "")
    return given if _TRACEPARENT.fullmatch(given) else ""


def disabled(environ: Mapping[str, str]) -> bool:
    """``WATTSPAN_DISABLED=1``: do nothing at all."""
    return environ.get("WATTSPAN_DISABLED", "").lower() in {"1", "true", "yes", "on"}


def ephemeral_allowed(environ: Mapping[str, str]) -> bool:
    """``WATTSPAN_EPHEMERAL=off``: start no daemon where there is none.

    Nor where one was named: that it does not answer now is no reason to count beside it.
    """
    if environ.get("WATTSPAN_URL") or environ.get("WATTSPAN_SOCKET"):
        return False
    return environ.get("WATTSPAN_EPHEMERAL", "").lower() not in {"off", "0", "false", "no"}


def _first(environ: Mapping[str, str], names: Iterable[str]) -> int | None:
    for name in names:
        # A bound on the digits: int() refuses very long ones.
        if re.fullmatch(r"[0-9]{1,9}", environ.get(name, "")):
            return int(environ[name])
    return None
