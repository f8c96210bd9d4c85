"""The YAML file of settings: nested by the dots of their keys.

The file is composed, not constructed: every scalar stays the text that was written.
So ``zone: NO`` is Norway and not false, ``amd: on`` is a mode and not true,
and each setting has one reading for flag, environment and file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wattspan.cli.near import near, quoted
from wattspan.config import SETTINGS
from wattspan.errors import SetupError

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node

MAX_BYTES: Final = 1 << 20
"""More than any file of settings; beyond it somebody named the wrong file."""

_NULL_TAG: Final = "tag:yaml.org,2002:null"

_KEYS: Final = frozenset(SETTINGS) | {
    key[:end] for key in SETTINGS for end, sign in enumerate(key) if sign == "."
}
"""Every key that may stand in the file: settings, and the sections that hold them."""


@dataclass(frozen=True, slots=True)
class Given:
    """One setting as somebody wrote it.

    Attributes:
        text: as written.
        origin: where, for people, such as ``flag --grid.zone``.
    """

    text: str
    origin: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key of the file with its text, or with what is wrong with it."""

    key: str
    line: int
    text: str = ""
    problem: str = ""


def read(path: Path) -> tuple[dict[str, Given], list[str]]:
    """The settings in a file by key, and one line per key that cannot stand there.

    Raises:
        SetupError: the file cannot be read, is not YAML, or PyYAML is missing.
    """
    root = _compose(path)
    given: dict[str, Given] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for entry in _entries(root, ""):
        where = f"{path} line {entry.line}"
        problem = entry.problem or _misplaced(entry.key, seen)
        seen.add(entry.key)
        if problem:
            problems.append(f"{problem} ({where})")
        elif entry.text:
            given[entry.key] = Given(entry.text, where)
    return given, problems


def _misplaced(key: str, seen: set[str]) -> str:
    if key == "config.file":
        return "config.file: a file cannot name another; give it as flag or environment variable"
    return f"{key}: given twice" if key in seen else ""


def _compose(path: Path) -> "Node | None":
    try:
        import yaml
    except ImportError as error:
        raise SetupError(
            "config.file: reading YAML needs PyYAML; install it with: pip install 'wattspan[daemon]'"
        ) from error
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SetupError(f"config.file: cannot read {quoted(str(path))}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise SetupError(f"config.file: {quoted(str(path))} is larger than {MAX_BYTES} bytes")
    try:
        return yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise SetupError(f"config.file: {quoted(str(path))} is not YAML: {_reason(error)}") from error
    except RecursionError as error:
        raise SetupError(f"config.file: {quoted(str(path))} is nested too deeply") from error


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


def _entries(node: "Node | None", prefix: str) -> Iterator[_Entry]:
    """Every leaf below a node, in order.

    Goes down only into sections that exist, so aliases that point upwards cannot make it endless.
    """
    from yaml.nodes import MappingNode

    if node is None or node.tag == _NULL_TAG:
        return
    if isinstance(node, MappingNode):
        yield from _mapping_entries(node, prefix)
    else:
        problem = f"{prefix or 'config.file'}: settings by name are expected here"
        yield _Entry(prefix, _line(node), problem=problem)


def _mapping_entries(node: "MappingNode", prefix: str) -> Iterator[_Entry]:
    sections: set[str] = set()
    for name, value in node.value:
        word = name.value if isinstance(name.value, str) else "[...]"
        key = f"{prefix}.{word}" if prefix else word
        if key in SETTINGS:
            yield _leaf(key, _line(name), value)
        elif key in sections:
            yield _Entry(key, _line(name), problem=f"{key}: given twice")
        elif key in _KEYS:
            sections.add(key)
            yield from _entries(value, key)
        else:
            yield _Entry(key, _line(name), problem=f"unknown key {quoted(key)}{near(key, _KEYS)}")


def _leaf(key: str, line: int, value: "Node") -> _Entry:
    from yaml.nodes import ScalarNode, SequenceNode

    if value.tag == _NULL_TAG:
        return _Entry(key, line)
    if isinstance(value, ScalarNode):
        return _Entry(key, line, text=value.value)
    items = value.value if isinstance(value, SequenceNode) and SETTINGS[key].repeatable else [value]
    if all(isinstance(item, ScalarNode) for item in items):
        return _Entry(key, line, text=",".join(item.value for item in items))
    allowed = SETTINGS[key].kind.allowed
    return _Entry(key, line, problem=f"{key}: a nested value is not allowed; allowed: {allowed}")


def _line(node: "Node") -> int:
    return int(node.start_mark.line) + 1
