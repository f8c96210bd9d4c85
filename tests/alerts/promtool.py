"""What alerts have to do, as cases, and promtool that judges them."""

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from tests.alerts.rule_files import ORDER, RULES, Rule, alerts, groups

Kind = Literal["fires", "quiet", "missing", "reset"]
KINDS: Final[tuple[Kind, ...]] = ("fires", "quiet", "missing", "reset")


@dataclass(frozen=True)
class Firing:
    """An alert that must fire.

    Attributes:
        severity: of which of the alert's rules.
        labels: of the series that it is about, and labels that tell rules of one severity apart.
        says: its description, to the letter.
    """

    severity: str
    says: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Series in, alerts out.

    Attributes:
        alert: the alert's name.
        kind: what the case shows.
        why: the rule it proves, in one sentence.
        series: values by series in promtool's notation, one for each `step`.
        at: when to look.
        firing: what fires then, and nothing else of that name.
            Where something does, nothing may one step before `at`, which so is the first moment.
        files: the rule files that it needs beside the alert's own and the thresholds.
        step: time between two values and between two evaluations.
        first: False where it fires since long.
        thresholds: False to leave out thresholds.yaml.
    """

    alert: str
    kind: Kind
    why: str
    series: Mapping[str, str]
    at: str
    firing: tuple[Firing, ...] = ()
    files: tuple[str, ...] = ()
    step: str = "1m"
    first: bool = True
    thresholds: bool = True


@cache
def _rule_of(alert: str, severity: str, telling: tuple[tuple[str, str], ...]) -> Rule:
    found = [
        rule
        for rule in alerts()
        if rule.name == alert
        and rule.labels["severity"] == severity
        and all(rule.labels.get(name, value) == value for name, value in telling)
    ]
    assert len(found) == 1, (alert, severity, telling, found)
    return found[0]


def seconds(duration: str) -> int:
    """A duration in Prometheus' notation."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration))


def _expected(case: Case, firing: Firing) -> dict[str, Any]:
    rule = _rule_of(case.alert, firing.severity, tuple(sorted(firing.labels.items())))
    return {
        "exp_labels": {**rule.labels, **firing.labels},
        "exp_annotations": {**rule.annotations, "description": firing.says},
    }


def _looks(case: Case) -> list[dict[str, Any]]:
    """What promtool looks at: `at`, and the step before it where the alert must not fire yet."""
    at = {
        "eval_time": case.at,
        "alertname": case.alert,
        "exp_alerts": [_expected(case, firing) for firing in case.firing],
    }
    if not case.firing or not case.first:
        return [at]
    before_s = seconds(case.at) - seconds(case.step)
    return [{"eval_time": f"{before_s}s", "alertname": case.alert, "exp_alerts": []}, at]


def document(cases: Iterable[Case], rule_dir: Path, files: Iterable[str], step: str) -> dict[str, Any]:
    """A file for `promtool test rules`."""
    paths = [rule_dir / f"{name}.yaml" for name in ORDER if name in set(files)]
    return {
        "rule_files": [str(path) for path in paths],
        "evaluation_interval": step,
        "group_eval_order": [group["name"] for path in paths for group in groups(path)],
        "tests": [
            {
                "name": case.why,
                "interval": case.step,
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": _looks(case),
            }
            for case in cases
        ],
    }


def judge(cases: Iterable[Case], folder: Path, rule_dir: Path = RULES) -> str:
    """Run cases against the rules of a folder; gives what promtool first found wrong, or nothing.

    Args:
        cases: any.
        folder: for the files that promtool reads.
        rule_dir: rule files; another folder than ours holds mutants.
    """
    batches: dict[tuple[tuple[str, ...], str], list[Case]] = {}
    for case in cases:
        own = next(rule.file for rule in alerts() if rule.name == case.alert)
        files = {own, *case.files, *(["thresholds"] if case.thresholds else [])}
        batches.setdefault((tuple(sorted(files)), case.step), []).append(case)
    # The small ones first: one finding is enough.
    for (files, step), batch in sorted(batches.items(), key=lambda item: "recording" in item[0][0]):
        path = folder / "cases.yaml"
        path.write_text(yaml.safe_dump(document(batch, rule_dir, files, step), width=1000))
        done = subprocess.run(
            ["promtool", "test", "rules", path], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            return done.stdout + done.stderr
    return ""
