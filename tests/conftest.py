"""Options of the test run; pytest takes them from a conftest at the root of `testpaths` only."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make soak` and `make golden` ask for."""
    parser.addoption(
        "--kills", type=int, default=25, help="how often tests/e2e/test_kill.py kills the daemon"
    )
    parser.addoption("--regenerate", action="store_true", help="write the golden files instead of comparing")
