"""Runs that an environment names, and how little of an environment is ever looked at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.workloads import markers, run_ids
from wattspan.workloads.markers import MarkedRun

SLURM = {"SLURM_JOB_ID": "12352", "SLURM_CLUSTER_NAME": "hpc"}
ARRAY = {**SLURM, "SLURM_ARRAY_JOB_ID": "12345", "SLURM_ARRAY_TASK_ID": "7"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def run_of(cluster: str = "", **environment: str) -> MarkedRun:
    run = markers.run_of(environment, cluster)
    assert run is not None
    return run


def test_nothing_but_the_allow_list_leaves_an_environment() -> None:
    """Secrets, paths and look-alikes stay where they are."""
    environ = b"\0".join(
        [
            b"AWS_SECRET_ACCESS_KEY=hunter2",
            b"WATTSPAN_RUN_ID=llama",
            b"WATTSPAN_RUN_ID_X=1",
            b"XWATTSPAN_RUN_ID=2",
            b"wattspan_run_id=3",
            b"PATH=/bin\nWANDB_RUN_ID=forged",
            b"WANDB_API_KEY=hunter3",
            b"RANK=0",
            b"",
        ]
    )
    assert markers.of_environ(environ) == {"WATTSPAN_RUN_ID": "llama", "RANK": "0"}
    assert not [name for name in markers.ALLOWED if "KEY" in name or "TOKEN" in name or "SECRET" in name]


def test_the_first_of_two_counts() -> None:
    """As for getenv(3), which the process itself would ask."""
    assert markers.of_environ(b"RANK=1\0RANK=0\0") == {"RANK": "1"}


def test_values_are_made_safe() -> None:
    """Control characters go, bytes that are no text become a sign, and there is a limit."""
    environ = b"WATTSPAN_RUN_ID=a\x1b[2J\x07b\nc\0WANDB_RUN_ID=\xff\xfe\0MLFLOW_RUN_ID=" + b"m" * 5000
    found = markers.of_environ(environ)
    assert found["WATTSPAN_RUN_ID"] == "a[2Jb c"
    assert found["WANDB_RUN_ID"] == "\ufffd\ufffd"
    assert found["MLFLOW_RUN_ID"] == "m" * 253


@given(st.binary(max_size=400))
def test_no_environment_is_too_odd_to_read(environ: bytes) -> None:
    """Whatever a process made of its environment, reading it finds at most what is allowed."""
    assert set(markers.of_environ(environ)) <= markers.ALLOWED


@pytest.mark.parametrize(
    ("environment", "run_id", "marker"),
    [
        ({"WATTSPAN_RUN_ID": "llama", **ARRAY}, "llama", "WATTSPAN_RUN_ID"),
        ({**ARRAY, "WANDB_RUN_ID": "3kx9"}, "slurm:hpc:12345_7", "SLURM_JOB_ID"),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "0"}, "slurm:hpc:12345_0", "SLURM_JOB_ID"),
        ({**SLURM, "TORCHELASTIC_RUN_ID": "x"}, "slurm:hpc:12352", "SLURM_JOB_ID"),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "7"}, "slurm:hpc:12352", "SLURM_JOB_ID"),
        (
            {"WANDB_RUN_ID": "3Kx9", "MLFLOW_RUN_ID": "m", "TORCHELASTIC_RUN_ID": "t"},
            "wandb_run_id:3kx9",
            "WANDB_RUN_ID",
        ),
        ({"MLFLOW_RUN_ID": "m", "TORCHELASTIC_RUN_ID": "t"}, "mlflow_run_id:m", "MLFLOW_RUN_ID"),
        ({"TORCHELASTIC_RUN_ID": "t"}, "torchelastic_run_id:t", "TORCHELASTIC_RUN_ID"),
    ],
)
def test_the_first_that_applies_names_the_run(environment: dict[str, str], run_id: str, marker: str) -> None:
    """The contract's order: our own, Slurm's, then the other tools'."""
    run = run_of(**environment)
    assert (run.run_id, run.marker) == (run_id, marker)
    assert run.source == ("slurm" if marker == "SLURM_JOB_ID" else "environment")


@pytest.mark.parametrize("value", ["", " ", "none", "None", "NONE", "0", "\x1b", "///"])
@pytest.mark.parametrize("marker", ["WATTSPAN_RUN_ID", "SLURM_JOB_ID", "WANDB_RUN_ID", "TORCHELASTIC_RUN_ID"])
def test_a_marker_that_says_nothing_is_ignored(marker: str, value: str) -> None:
    """Empty, ``none``, ``0`` and what nothing usable is left of: the next one is asked, or nobody."""
    assert markers.run_of({marker: value}) is None
    assert run_of(**{"MLFLOW_RUN_ID": "m", marker: value}).run_id == "mlflow_run_id:m"


def test_no_marker_no_run() -> None:
    """A rank alone belongs to no run."""
    assert (
        markers.run_of({"RANK": "0", "WORLD_SIZE": "8", "TRACEPARENT": f"00-{TRACE}-00f067aa0ba902b7-01"})
        is None
    )


def test_a_cluster_that_slurm_does_not_name() -> None:
    """Then the daemon's own name for the cluster stands in."""
    assert run_of(cluster="eu", SLURM_JOB_ID="9").run_id == "slurm:eu:9"


@pytest.mark.parametrize(
    ("environment", "attempt"),
    [
        ({"WATTSPAN_RUN_ATTEMPT": "3", "SLURM_RESTART_COUNT": "1"}, 3),
        ({"WATTSPAN_RUN_ATTEMPT": "0", "SLURM_RESTART_COUNT": "1"}, 0),
        ({"WATTSPAN_RUN_ATTEMPT": "x", "SLURM_RESTART_COUNT": "1"}, 1),
        ({"WATTSPAN_RUN_ATTEMPT": "-1"}, None),
        ({"WATTSPAN_RUN_ATTEMPT": "9" * 40}, None),
        ({"WATTSPAN_RUN_ATTEMPT": "\u0663"}, None),
        ({}, None),
    ],
)
def test_attempts(environment: dict[str, str], attempt: int | None) -> None:
    """Ours before Slurm's; what is no number says nothing, and 0 is one."""
    assert run_of(WATTSPAN_RUN_ID="llama", **environment).attempt == attempt


@pytest.mark.parametrize(
    ("environment", "rank_zero"),
    [
        ({"RANK": "0", "SLURM_PROCID": "5"}, True),
        ({"RANK": "8", "SLURM_PROCID": "0"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"LOCAL_RANK": "0"}, None),
    ],
)
def test_rank_zero(environment: dict[str, str], rank_zero: bool | None) -> None:
    """RANK before SLURM_PROCID, which under torchrun numbers the launchers; a local rank says nothing."""
    assert run_of(WATTSPAN_RUN_ID="llama", **environment).rank_zero is rank_zero


def test_what_else_an_environment_tells() -> None:
    """A name for people, how many nodes, and the trace that started the run."""
    run = run_of(
        **SLURM,
        SLURM_JOB_NAME="fine tune",
        SLURM_JOB_NUM_NODES="4",
        TRACEPARENT=f"00-{TRACE}-00f067aa0ba902b7-01",
    )
    assert (run.name, run.nodes_expected, run.parent_trace_id) == ("fine tune", 4, TRACE)
    assert run_of(**SLURM, SLURM_JOB_NUM_NODES="4", GROUP_WORLD_SIZE="2").nodes_expected == 2


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-00", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-a-later-version-adds", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE}-00f067aa0ba902b7-01-extra", ""),
        (f"00-{TRACE}", ""),
        ("", ""),
    ],
)
def test_traceparents(traceparent: str, trace_id: str) -> None:
    """W3C's form, of this and later versions; what is invalid there names no trace."""
    assert markers.parent_trace_id(traceparent) == trace_id


@given(st.dictionaries(st.sampled_from(sorted(markers.ALLOWED)), st.text(max_size=300)))
def test_whatever_markers_say_the_run_id_is_valid(environment: dict[str, str]) -> None:
    """Markers come from anybody; a run id of them is always of the contract's form."""
    run = markers.run_of(environment)
    assert run is None or run_ids.valid(run.run_id)
