"""Change each threshold, each comparison and each `for` of the alerts, and see that the cases notice.

Run it as ``python -m tests.alerts.mutate``, with names of alerts for those alone; it takes four minutes.
A mutant that no case notices is a limit that could drift unseen.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.alerts.cases import CASES
from tests.alerts.promtool import judge, seconds
from tests.alerts.rule_files import RULES, alerts, rules

COMPARISONS: Final = {
    ">": (">=", "<", "=="),
    "<": ("<=", ">", "=="),
    ">=": (">", "<=", "=="),
    "<=": ("<", ">=", "=="),
    "==": ("!=", ">", "<"),
    "!=": ("==",),
}
"""What each comparison is changed into."""

SHIFT: Final = (0.95, 1.05)
"""What each threshold is multiplied with."""

WHOLE: Final = {"recovery_action", "fallback_level"}
"""Thresholds of whole numbers, which are moved by one instead."""


@dataclass(frozen=True)
class Mutant:
    """One change of one rule file.

    Attributes:
        what: for the reader.
        file: the stem of the file.
        text: the file with the change.
        alerts: whose cases have to notice.
    """

    what: str
    file: str
    text: str
    alerts: frozenset[str]


def mutants() -> list[Mutant]:
    """All of them."""
    return [*_of_thresholds(), *_of_alerts()]


def survivors(changes: list[Mutant], workers: int = 2) -> list[Mutant]:
    """Those that no case notices."""
    with ThreadPoolExecutor(workers) as pool:
        return [
            mutant
            for mutant, noticed in zip(changes, pool.map(_noticed, changes), strict=True)
            if not noticed
        ]


def _of_thresholds() -> Iterator[Mutant]:
    text = (RULES / "thresholds.yaml").read_text()
    pattern = re.compile(r"expr: vector\(([\d.]+)\)\n\s+labels: \{threshold: (\w+)(?:, grid_zone: (\w+))?\}")
    for found in pattern.finditer(text):
        value, name, zone = float(found[1]), found[2], found[3]
        users = frozenset(rule.name for rule in alerts() if f'threshold="{name}"' in rule.expr)
        assert users, f"no alert uses the threshold {name}"
        for other in (value - 1, value + 1) if name in WHOLE else (value * factor for factor in SHIFT):
            changed = text[: found.start(1)] + f"{other:g}" + text[found.end(1) :]
            yield Mutant(
                f"threshold {name} {zone or ''} {value:g} -> {other:g}", "thresholds", changed, users
            )


def _of_alerts() -> Iterator[Mutant]:
    for file in sorted({rule.file for rule in alerts()}):
        text = (RULES / f"{file}.yaml").read_text()
        for block in re.finditer(r"(?m)^      - alert: (\w+)\n(?:^       .*\n)+", text):
            name, body = block[1], block[0]
            expr = re.search(r"expr:.*?(?=\n        (?:for|labels):)", body, re.DOTALL)
            assert expr is not None, name
            start = block.start() + expr.start()
            for what, at, length, other in _of_expression(expr[0]):
                changed = text[: start + at] + other + text[start + at + length :]
                yield Mutant(f"{name}: {what}", file, changed, frozenset({name}))
            if lasts := re.search(r"(?m)^        for: (\w+)$", body):
                at = block.start() + lasts.start(1)
                for factor in (0.5, 2):
                    other = f"{round(seconds(lasts[1]) * factor)}s"
                    changed = text[:at] + other + text[at + len(lasts[1]) :]
                    yield Mutant(f"{name}: for {lasts[1]} -> {other}", file, changed, frozenset({name}))


def _of_expression(expr: str) -> Iterator[tuple[str, int, int, str]]:
    """What is changed, where, how many characters, into what; `expr` is as it stands in the file."""
    # Comparisons, but neither the matchers in braces nor the YAML's own `>-`.
    outside = re.sub(r"\{[^}]*\}|expr: >-", lambda found: "." * len(found[0]), expr)
    for found in re.finditer(r">=|<=|==|!=|>|<", outside):
        for other in COMPARISONS[found[0]]:
            yield f"{_near(expr, found.start())} -> {other}", found.start(), len(found[0]), other
    # Limits that are written out are whole numbers: 0 and counts.
    for found in re.finditer(r"(?:>=|<=|==|!=|>|<)\s+(\d+)", outside):
        for limit in (int(found[1]) - 1, int(found[1]) + 1):
            yield f"{_near(expr, found.start())} -> {limit}", found.start(1), len(found[1]), str(limit)


def _near(expr: str, at: int) -> str:
    return " ".join(expr[max(0, at - 30) : at + 30].split())


def _noticed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in RULES.glob("*.yaml"):
            shutil.copy(path, folder)
        (folder / f"{mutant.file}.yaml").write_text(mutant.text)
        list(rules(folder / f"{mutant.file}.yaml"))
        return any(
            judge([case for case in CASES if case.alert == alert], folder, folder)
            for alert in sorted(mutant.alerts)
        )


def main(names: list[str]) -> int:
    """Print what was done; 1 if a mutant was not noticed."""
    changes = [mutant for mutant in mutants() if not names or mutant.alerts & set(names)]
    left = survivors(changes)
    for mutant in left:
        print(f"NOT NOTICED: {mutant.what}")
    print(f"{len(changes)} mutants, {len(changes) - len(left)} noticed")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
