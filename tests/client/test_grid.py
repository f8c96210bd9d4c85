"""What the daemon says of the grid, read back by commands."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.carbon.test_forecast import NOW, hours
from wattspan.carbon.forecast import outlook_of
from wattspan.client.grid import read
from wattspan.model import GridState, Tariff
from wattspan.publish.api import forecast_document, grid_document

FIGURES = tuple(
    replace(figure, fetched_wall_ns=NOW, origin="somebody. CC BY 4.0.") for figure in hours(300, 200.5, 100)
)
STATE = GridState(
    intensity=FIGURES[0],
    fallback_level=1,
    pue=1.25,
    pue_configured=True,
    location="grid.zone is FR (France).",
    figures=FIGURES[:1],
    outlook=outlook_of(FIGURES, NOW),
    tariff=Tariff(0.31, NOW, NOW + 3600 * 10**9, "prometheus", NOW),
    signal="average",
    basis="direct",
    zone="FR",
)


def told(state: GridState, currency: str = "EUR") -> tuple[Any, Any]:
    """The two documents, as they go over the wire."""
    current, ahead = json.loads(json.dumps([grid_document(state, currency), forecast_document(state)]))
    return current, ahead


@pytest.mark.parametrize(
    "state",
    [
        STATE,
        replace(STATE, outlook=None, tariff=None),
        replace(STATE, intensity=None, figures=(), outlook=None),
        replace(
            STATE,
            intensity=replace(FIGURES[0], valid_from_wall_ns=None, valid_until_wall_ns=None),
            outlook=None,
        ),
    ],
)
def test_the_daemon_s_own_documents_are_read_back(state: GridState) -> None:
    """All that a command shows or reckons with is what the daemon has, to the nanosecond."""
    found = read(*told(state), NOW)
    assert found.state == state
    if state.tariff is None:
        assert found.prices is None
    else:
        assert found.prices is not None
        assert (found.prices.tariffs, found.prices.currency) == ((state.tariff,), "EUR")


def test_an_older_daemon_says_no_zone() -> None:
    """Then it is that of the figure in force."""
    current, ahead = told(STATE)
    del current["grid_zone"]
    assert read(current, ahead, NOW).state.zone == FIGURES[0].grid_zone
