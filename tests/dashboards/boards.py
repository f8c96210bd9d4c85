"""The JSON as Grafana would load it, and its parts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[2] / "dashboards"
UIDS: Final = (
    "wattspan-fleet",
    "wattspan-node",
    "wattspan-run",
    "wattspan-carbon",
    "wattspan-serving",
    "wattspan-exporter",
)
Json = dict[str, Any]


def load(uid: str) -> Json:
    """One dashboard."""
    board: Json = json.loads((FOLDER / f"{uid}.json").read_text("utf-8"))
    return board


def panels(board: Json) -> list[Json]:
    """Its panels without the headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def every_panel() -> Iterator[tuple[Json, Json]]:
    """Each panel with its dashboard."""
    for uid in UIDS:
        board = load(uid)
        for panel in panels(board):
            yield board, panel


def name(board: Json, panel: Json) -> str:
    """What a failure calls it."""
    return f"{board['uid']}/{panel['title']}"
