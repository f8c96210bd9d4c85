"""The rule files, read as data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ALERTS: Final = Path(__file__).parents[2] / "alerts"
RULES: Final = ALERTS / "rules"
RUNBOOKS: Final = ALERTS / "RUNBOOKS.md"
DEFAULT: Final = tuple(sorted(RULES.glob("*.yaml")))
COMPAT: Final = tuple(sorted((RULES / "compat").glob("*.yaml")))

ORDER: Final = ("thresholds", "recording", "serving", "months", "budgets", "health", "hardware", "carbon")
"""Files in the order in which promtool has to evaluate them, so that a rule sees its inputs at once."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        file: the stem of its file.
        group: the name of its group.
        name: of the alert or of the record.
        kind: `alert` or `record`.
        expr: its expression.
        lasts: the alert's `for`; empty where it fires at once.
        labels: static labels.
        annotations: templates.
    """

    file: str
    group: str
    name: str
    kind: str
    expr: str
    lasts: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


def groups(path: Path) -> list[dict[str, Any]]:
    """The groups of a file as they stand in it."""
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return found


def rules(*paths: Path) -> Iterator[Rule]:
    """All rules of these files."""
    for path in paths:
        for group in groups(path):
            for rule in group["rules"]:
                kind = "alert" if "alert" in rule else "record"
                yield Rule(
                    path.stem,
                    group["name"],
                    rule[kind],
                    kind,
                    rule["expr"],
                    rule.get("for", ""),
                    {name: str(value) for name, value in rule.get("labels", {}).items()},
                    rule.get("annotations", {}),
                )


@cache
def alerts() -> tuple[Rule, ...]:
    """The alert rules of the default files."""
    return tuple(rule for rule in rules(*DEFAULT) if rule.kind == "alert")
