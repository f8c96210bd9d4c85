"""What holds for the whole test run; pytest takes options from a conftest at the root of `testpaths` only."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("wattspan", settings.default, deadline=None)
settings.load_profile("wattspan")


ALONE: Final = (
    "bench/",
    "client/test_run_command.py",
    "client/test_track.py",
    "e2e/test_runs.py",
    "frameworks/test_cost.py",
)
"""Tests that hold time against the clock; they run with nothing beside them, and are marked so here.

A test of another file that does so carries the mark itself.
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those of `ALONE`, before marks select."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(ALONE):
            item.add_marker("alone")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make soak` and `make golden` ask for."""
    parser.addoption(
        "--kills", type=int, default=25, help="how often tests/e2e/test_kill.py kills the daemon"
    )
    parser.addoption("--regenerate", action="store_true", help="write the golden files instead of comparing")
