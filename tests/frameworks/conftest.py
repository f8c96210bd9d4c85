"""A job that nobody launched, and a daemon that it is told of."""

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.stand_in import StandIn, serving
from tests.real_parts import need
from wattspan.client.surroundings import LOCAL_RANK, MARKERS, NODES, RANK, WORLD_SIZE


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: a socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="wsp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _nobody_launched_this(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    ours = [name for name in os.environ if name.startswith("WATTSPAN_")]
    others = ("KUBERNETES_SERVICE_HOST", "TRACEPARENT")
    for name in (*ours, *MARKERS, *RANK, *LOCAL_RANK, *WORLD_SIZE, *NODES, *others):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WATTSPAN_SOCKET", str(home / "w.sock"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    # A daemon of this machine must not be told of the tests' runs.
    monkeypatch.setattr("wattspan.client.daemon.SYSTEM_SOCKET", str(home / "none.sock"))


@pytest.fixture
def daemon(home: Path) -> Iterator[StandIn]:
    """A stand-in for the daemon."""
    with serving(home / "w.sock") as stand_in:
        yield stand_in


@pytest.fixture
def tiny() -> Any:
    """What makes tiny models and Trainers of transformers."""
    need("transformers", importlib.util.find_spec("transformers") is not None)
    return importlib.import_module("tests.frameworks.tiny_transformers")


@pytest.fixture
def tiny_lightning() -> Any:
    """What makes tiny modules and Trainers of Lightning."""
    need("lightning", importlib.util.find_spec("lightning") is not None)
    return importlib.import_module("tests.frameworks.tiny_lightning")
