"""Options of the end-to-end tests."""

import pytest


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often the kill test kills; `make soak` asks for 100."""
    value: int = request.config.getoption("--kills")
    return value
