"""What tests of this room share: a service on loopback, and a clean environment to ask it from."""

from collections.abc import Iterator

import pytest

from tests.fakes.grid_service import GridService, serving

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[GridService]:
    """A service that answers as it is told; no proxy of the machine's stands before it."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving() as running:
        yield running
