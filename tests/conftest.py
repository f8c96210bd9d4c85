"""Options of the test run; pytest takes them from a conftest at the root of `testpaths` only."""

import pytest
from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("wattspan", settings.default, deadline=None)
settings.load_profile("wattspan")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make soak` and `make golden` ask for."""
    parser.addoption(
        "--kills", type=int, default=25, help="how often tests/e2e/test_kill.py kills the daemon"
    )
    parser.addoption("--regenerate", action="store_true", help="write the golden files instead of comparing")
