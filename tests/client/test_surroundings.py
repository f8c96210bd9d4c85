"""What the environment says of a process."""

import pytest

from wattspan.client import surroundings

TORCHRUN = {"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "GROUP_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("environ", "begins", "reports"),
    [
        ({}, True, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True, True),
        ({"RANK": "8", "LOCAL_RANK": "0"}, True, False),
        (TORCHRUN, False, False),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True, True),
        ({"SLURM_PROCID": "5", "SLURM_LOCALID": "1"}, False, False),
        # torchrun started once per node by srun: its ranks are the ones that count.
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "0", "RANK": "9", "LOCAL_RANK": "1"}, False, False),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, True, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, True, False),
        ({"JOB_COMPLETION_INDEX": "0"}, True, True),
        ({"JOB_COMPLETION_INDEX": "2"}, True, False),
        ({"RANK": "two", "LOCAL_RANK": ""}, True, True),
        ({"RANK": "9" * 5000}, True, True),
    ],
)
def test_who_speaks(environ: dict[str, str], begins: bool, reports: bool) -> None:
    """Each node's local rank 0 begins the run, and only rank 0 tells the progress."""
    ranks = surroundings.ranks(environ)
    assert (ranks.begins, ranks.reports) == (begins, reports)


def test_ranks_of_torchrun() -> None:
    """Ranks and the number of nodes come from the launcher."""
    assert surroundings.ranks(TORCHRUN) == surroundings.Ranks(9, 1, 16, 2)


def test_only_listed_variables_leave_the_process() -> None:
    """Markers are an allow-list; a secret beside them is never read."""
    environ = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0", "WANDB_RUN_ID": "", "WANDB_API_KEY": "secret"}
    assert surroundings.markers(environ) == {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, False),
        ({"TORCHELASTIC_RUN_ID": "none"}, False),
        ({"MLFLOW_RUN_ID": ""}, False),
        ({"WANDB_RUN_ID": "0"}, False),
        ({"SLURM_RESTART_COUNT": "3"}, False),
        ({"SLURM_JOB_ID": "12"}, True),
        ({"WATTSPAN_RUN_ID": "llama"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
    ],
)
def test_a_job_names_its_runs(environ: dict[str, str], named: bool) -> None:
    """In a pod or a job the daemon finds the id; markers that say nothing are no job."""
    assert surroundings.names_itself(environ) is named


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("00-" + "a" * 32 + "-" + "b" * 16 + "-01", True),
        ("00-" + "A" * 32 + "-" + "b" * 16 + "-01", False),
        ("", False),
        ("nonsense\n", False),
    ],
)
def test_traceparent(given: str, taken: bool) -> None:
    """A trace context that is none is not passed on."""
    assert surroundings.traceparent({"TRACEPARENT": given}) == (given if taken else "")


@pytest.mark.parametrize(
    ("environ", "allowed"),
    [
        ({}, True),
        ({"WATTSPAN_EPHEMERAL": "off"}, False),
        ({"WATTSPAN_EPHEMERAL": "on"}, True),
        ({"WATTSPAN_URL": "http://node:9746"}, False),
        ({"WATTSPAN_SOCKET": "/run/x.sock"}, False),
    ],
)
def test_who_may_start_a_daemon(environ: dict[str, str], allowed: bool) -> None:
    """No daemon is started beside one that was named, nor where it was switched off."""
    assert surroundings.ephemeral_allowed(environ) is allowed
