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


TOGETHER: Final = (
    "dashboards/test_queries.py",
    "docs/",
    "fleet/test_across_nodes.py",
    "golden/",
)
"""Tests that share what takes long to set up: one worker has each of these."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those of `ALONE` and `TOGETHER`, before marks select; long waits come first."""
    here = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(here).as_posix()
        if path.startswith(ALONE):
            item.add_marker("alone")
        for group in TOGETHER:
            if path.startswith(group):
                item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make soak` and `make golden` ask for."""
    parser.addoption(
        "--kills", type=int, default=25, help="how often tests/e2e/test_kill.py kills the daemon"
    )
    parser.addoption("--regenerate", action="store_true", help="write the golden files instead of comparing")
