"""The command as its users meet it: a process, its two streams and its exit code."""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from wattspan.client.daemon import SYSTEM_SOCKET

TIMEOUT_S = 60


@dataclass(frozen=True)
class Answer:
    """What a finished command left behind."""

    code: int
    out: str
    err: str


Wattspan = Callable[..., Answer]


def clean_environment(home: Path) -> dict[str, str]:
    """An environment that says nothing about this machine."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        # Else a test that runs as root would use the machine's own.
        "WATTSPAN_STATE_DIR": str(home / "state"),
        "WATTSPAN_SOCKET": str(home / "wattspan.sock"),
        # Else a test on a machine of a cloud would ask that cloud where it is.
        "WATTSPAN_GRID_CLOUD_METADATA": "off",
        # Else `grid`, `plan` and `estimate` would ask a daemon of this machine; this is the default.
        "WATTSPAN_COST_TIME_ZONE": "UTC",
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def wattspan(tmp_path: Path) -> Wattspan:
    """Run ``python -m wattspan WORDS``; no answer may ever hold a traceback."""

    def run(*words: str | bytes | Path, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "wattspan", *words],
            env={**clean_environment(tmp_path), **(env or {})},
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in answer.out + answer.err
        return answer

    return run


@pytest.fixture
def asks_daemons() -> dict[str, str]:
    """Variables with which a command has no setting of grid and cost.

    Skips where a daemon of this machine would answer: the path of the system's socket cannot be another.
    """
    with socket.socket(socket.AF_UNIX) as door:
        if door.connect_ex(SYSTEM_SOCKET) == 0:
            pytest.skip(f"a daemon of this machine, at {SYSTEM_SOCKET}, would answer")
    return {"WATTSPAN_COST_TIME_ZONE": ""}


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """`setup` is for a whole process; here it is undone."""
    root, ours = logging.getLogger(), logging.getLogger("wattspan")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    hooks = sys.unraisablehook, threading.excepthook
    yield
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = before
    sys.unraisablehook, threading.excepthook = hooks
    logging.captureWarnings(False)
