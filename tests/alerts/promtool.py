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


def needed(rule_dir: Path, files: Iterable[str], alert: str) -> list[dict[str, Any]]:
    """The groups of these files, with an alert's rules, what they read, and what that reads."""
    found = [group for name in ORDER if name in set(files) for group in groups(rule_dir / f"{name}.yaml")]
    every = [rule for group in found for rule in group["rules"]]
    kept = [rule for rule in every if rule.get("alert") == alert]
    text = yaml.safe_dump(kept, width=100_000)
    while True:
        more = [
            rule
            for rule in every
            if rule not in kept and (name := rule.get("record")) and re.search(rf"{name}(?![\w:])", text)
        ]
        if not more:
            break
        kept += more
        text += yaml.safe_dump([rule["expr"] for rule in more], width=100_000)
    return [
        {**group, "rules": those}
        for group in found
        if (those := [rule for rule in group["rules"] if rule in kept])
    ]


def document(
    cases: Iterable[Case], rule_file: Path, of: Iterable[Mapping[str, Any]], step: str
) -> dict[str, Any]:
    """A file for `promtool test rules`."""
    return {
        "rule_files": [str(rule_file)],
        "evaluation_interval": step,
        "group_eval_order": [group["name"] for group in of],
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
    batches: dict[tuple[str, tuple[str, ...], str], list[Case]] = {}
    for case in cases:
        own = next(rule.file for rule in alerts() if rule.name == case.alert)
        files = {own, *case.files, *(["thresholds"] if case.thresholds else [])}
        batches.setdefault((case.alert, tuple(sorted(files)), case.step), []).append(case)
    # The small ones first: one finding is enough.
    for (alert, files_of, step), batch in sorted(batches.items(), key=lambda item: "recording" in item[0][1]):
        rule_file, path = folder / "rules-of-cases.yaml", folder / "cases.yaml"
        of = needed(rule_dir, files_of, alert)
        rule_file.write_text(yaml.safe_dump({"groups": of}, width=1000))
        path.write_text(yaml.safe_dump(document(batch, rule_file, of, step), width=1000))
        command = ["promtool", "test", "rules", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return done.stdout + done.stderr
    return ""
