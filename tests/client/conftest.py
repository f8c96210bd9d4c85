"""A machine that has no daemon, and a job that nobody launched."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.stand_in import StandIn, serving
from wattspan.client.daemon import SYSTEM_SOCKET
from wattspan.client.surroundings import LOCAL_RANK, MARKERS, NODES, RANK, WORLD_SIZE

OTHERS = ("KUBERNETES_SERVICE_HOST", "TRACEPARENT", "TRACESTATE")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: a socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="wsp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _nobody_here(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    ours = [name for name in os.environ if name.startswith("WATTSPAN_")]
    for name in (*ours, *MARKERS, *RANK, *LOCAL_RANK, *WORLD_SIZE, *NODES, *OTHERS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    monkeypatch.setenv("WATTSPAN_EPHEMERAL", "off")


@pytest.fixture
def daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A daemon that clients find first."""
    monkeypatch.setenv("WATTSPAN_SOCKET", str(home / "wattspan.sock"))
    with serving(home / "wattspan.sock") as stand_in:
        yield stand_in


@pytest.fixture
def no_daemon() -> None:
    """For tests of a machine without one: the path of the system's socket cannot be another."""
    with socket.socket(socket.AF_UNIX) as door:
        if door.connect_ex(SYSTEM_SOCKET) == 0:
            pytest.skip(f"a daemon of this machine, at {SYSTEM_SOCKET}, would be told of the tests' runs")
