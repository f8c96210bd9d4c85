"""What an upgrade changes: objects of one version against those of another.

``previous/<version>/`` holds, of each version, the values that somebody had (`values.json`), what the chart
made of them then (`objects.json`), and what is different now (`changes.txt`): a line each, with two spaces,
a # and the reason why that is all right.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.helm.chart import Object

BASELINE: Final = Path(__file__).parent / "previous"

IMMUTABLE: Final = (("DaemonSet", "/spec/selector"), ("ClusterRoleBinding", "/roleRef"))
"""What an API server lets nobody change."""

EXPECTED: Final = ("/metadata/labels/helm.sh~1chart", "/metadata/labels/app.kubernetes.io~1version")
"""What every version changes."""


def changes(before: Sequence[Object], after: Sequence[Object]) -> list[str]:
    """One line for each object that is new or gone and each field that differs; fields as JSON pointers."""
    old, new = ({_name(each): each for each in objects} for objects in (before, after))
    lines = [f"{name}: gone" for name in old if name not in new]
    lines += [f"{name}: new" for name in new if name not in old]
    for name in old.keys() & new.keys():
        for path in _differences(old[name], new[name], ""):
            fixed = [
                field for kind, field in IMMUTABLE if name.startswith(f"{kind} ") and path.startswith(field)
            ]
            if fixed:
                lines.append(f"{name}: {fixed[0]} cannot be changed: helm upgrade fails")
            elif path not in EXPECTED:
                lines.append(f"{name}: {path}")
    return sorted(set(lines))


def _name(each: Object) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}/{key.replace('/', '~1')}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{path}/{index}")
    elif old != new:
        yield path
