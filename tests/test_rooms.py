"""Energy flows one way through the rooms, and imports mirror it."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "exporter" / "wattspan"

FLOORS = (
    {"errors", "units"},
    {"runs"},
    {"model", "systemd"},
    {"config"},
    {"log"},
    {"devices"},
    {"sampler"},
    {"release"},
    {"workloads"},
    {"ledger"},
    {"carbon"},
    {"journal"},
    {"report", "client"},
    {"huggingface", "lightning"},
    {"publish"},
    {"run_desk", "run_keeper"},
    {"run_service", "carbon_service"},
    {"app"},
    {"cli"},
    {"__main__"},
)
"""From the ground up: a room knows its own floor and those below."""


def imported(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, whenever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] if node.module != "wattspan" else [f"wattspan.{a.name}" for a in node.names]
        yield from (name for name in names if name.startswith("wattspan."))


def room_of(module: str) -> str:
    """The first word below the package."""
    return module.split(".")[1]


def rooms() -> Iterator[tuple[str, Path]]:
    """Every module of the package by its room."""
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        if relative != Path("__init__.py"):
            yield relative.parts[0].removesuffix(".py"), path


def test_every_room_has_a_floor() -> None:
    """A new room is put somewhere on purpose."""
    placed = set().union(*FLOORS)
    assert {room for room, _ in rooms()} <= placed


def test_no_room_knows_one_above_it() -> None:
    """Devices know no run, the ledger no carbon, the journal no metric names."""
    floor = {room: number for number, names in enumerate(FLOORS) for room in names}
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for room, path in rooms()
        for module in imported(path)
        if room_of(module) in floor and floor[room_of(module)] > floor[room]
    ]
    assert upwards == []
