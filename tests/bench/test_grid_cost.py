"""What live figures cost: bounds with room, so that only a change of kind breaks them."""

import pytest

from tests.bench import grid_cost
from tests.fakes.grid_service import serving


def test_a_look_up_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under 5 us of CPU, in the best of twenty rounds, with four days of half hours at hand."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as service:
        service.says("/intensity/*/fw48h", grid_cost.half_hours)
        assert max(grid_cost.look_ups(service).values()) < grid_cost.LOOK_UP_BOUND_S


def test_a_source_that_never_answers_is_not_waited_for() -> None:
    """A tick beside it takes what it takes without it; a wait would be a thousand times as much."""
    without_s, dead_s = grid_cost.ticks(50)
    assert dead_s < 10 * without_s


@pytest.mark.slow
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetching and keeping four days of forecasts adds under 12 MiB to a daemon."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as service:
        service.says("/intensity/*/fw48h", grid_cost.half_hours)
        added = grid_cost.memory_bytes(service.url) - grid_cost.memory_bytes(None)
    assert added < grid_cost.MEMORY_BOUND_BYTES
