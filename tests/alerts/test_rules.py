"""The rule files themselves: valid, complete, and made of what exists."""

# ruff: noqa: E501 - rows of a table, and a rule in one sentence.

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.alerts.promtool import seconds
from tests.alerts.rule_files import ALERTS, COMPAT, DEFAULT, ORDER, RUNBOOKS, Rule, alerts, groups, rules
from tests.real_parts import need
from wattspan.publish.catalogue import CATALOGUE

FROM_THE_HUB: Final = {
    # By the contract; the hub tells them.
    "wattspan_budget_co2e_grams": ("budget", "pod_namespace", "project", "period"),
}
TARGET_LABELS: Final = {"cluster", "instance", "job"}
SCRAPE_S: Final = 60
"""The longest scrape interval that the rules bear; the default is 15 s."""

FUNCTIONS: Final = {
    *(
        "abs",
        "absent",
        "avg_over_time",
        "clamp_min",
        "count_over_time",
        "day_of_month",
        "days_in_month",
        "hour",
    ),
    *(
        "increase",
        "label_replace",
        "last_over_time",
        "max_over_time",
        "minute",
        "month",
        "rate",
        "round",
        "scalar",
    ),
    *("sort_desc", "sum_over_time", "time", "timestamp", "vector"),
}
"""Functions that Prometheus 2.42 and 3.x understand alike."""

WORDS: Final = {
    *(
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "and",
        "or",
        "unless",
        "bool",
        "offset",
    ),
    *("sum", "min", "max", "avg", "count", "count_values", "topk"),
}


def codes() -> Iterator[tuple[str, str]]:
    """PromQL of the runbooks, by the alert whose entry it is in."""
    for entry in re.split(r"(?m)^## ", RUNBOOKS.read_text())[1:]:
        for found in re.finditer(r"```promql\n(.+?)\n```", entry, re.DOTALL):
            yield entry.split("\n", 1)[0], found[1]


ALL_RULES: Final = list(rules(*DEFAULT, *COMPAT))
RECORDED: Final = {rule.name for rule in ALL_RULES if rule.kind == "record"}
EXPOSED: Final[dict[str, tuple[str, ...]]] = {
    **{metric.exposed_name: metric.labels for metric in CATALOGUE if metric.kind != "histogram"},
    **{
        f"{metric.name}_{end}": (*metric.labels, *(("le",) if end == "bucket" else ()))
        for metric in CATALOGUE
        if metric.kind == "histogram"
        for end in ("bucket", "sum", "count")
    },
    **FROM_THE_HUB,
}


def bare(expr: str) -> str:
    """An expression without its strings."""
    return re.sub(r'"[^"]*"', '""', expr)


@pytest.fixture
def promtool() -> None:
    need("promtool", shutil.which("promtool") is not None)


@pytest.mark.usefixtures("promtool")
def test_promtool_accepts_the_rules() -> None:
    """Every rule file is valid and without duplicates."""
    command = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *DEFAULT, *COMPAT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_default_files_are_the_ones_that_are_tested() -> None:
    """The glob that the README gives loads what the tests load, and not the compatibility rules."""
    assert {path.stem for path in DEFAULT} == set(ORDER)
    assert {path.stem for path in COMPAT} == {"dcgm", "kepler"}


def test_rules_use_only_keys_that_each_prometheus_knows() -> None:
    """No key of a rule or a group is newer than Prometheus 2.42."""
    for path in (*DEFAULT, *COMPAT):
        for group in groups(path):
            assert set(group) <= {"name", "interval", "rules"}
            for rule in group["rules"]:
                assert set(rule) <= {"record", "alert", "expr", "for", "labels", "annotations"}


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)
def test_metrics_exist(rule: Rule) -> None:
    """Each metric is in the catalogue, the contract's of the hub, or recorded; so is each label that is matched."""
    assert_metrics_exist(rule.expr)
    for annotation in rule.annotations.values():
        for found in re.findall(r'printf "([\w:]+)\{', annotation):
            assert found in RECORDED


def assert_metrics_exist(expr: str) -> None:
    text = bare(expr)
    for name, matchers in re.findall(r"\b([a-zA-Z_][\w]*(?::[\w:]+)?)\s*(?:\{([^}]*)\})?", text):
        if "wattspan" not in name:
            continue
        assert name in EXPOSED or name in RECORDED, name
        if name in EXPOSED and matchers:
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert labels <= {*EXPOSED[name], *TARGET_LABELS}, (name, labels)


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)
def test_ranges_hold_four_scrapes(rule: Rule) -> None:
    """No range is shorter than four scrapes, even at 60 s."""
    for window in re.findall(r"\[(\w+)(?::\w+)?\]", rule.expr):
        assert seconds(window) >= 4 * SCRAPE_S


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)
def test_functions_are_old_and_new(rule: Rule) -> None:
    """Only functions that each Prometheus from 2.42 on understands alike; no modifier `@`, no negative offset."""
    text = re.sub(r"\{[^}]*\}", "", bare(rule.expr))
    assert set(re.findall(r"\b([a-z_]+) ?\(", text)) <= FUNCTIONS | WORDS
    assert "@" not in text
    assert not re.search(r"offset -", text)


@pytest.mark.parametrize("rule", list(rules(*DEFAULT)), ids=lambda rule: rule.name)
def test_counters_only_in_rates(rule: Rule) -> None:
    """Counters are read through rate or increase only; just the names of others hand them on as they are."""
    for name in re.findall(r"\bwattspan_\w+_total\b", rule.expr):
        assert re.search(rf"(?:rate|increase)\({name}(?:\{{[^}}]*\}})?\[", rule.expr), name


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule.name}-{rule.labels['severity']}")
def test_alert_says_what_it_must(rule: Rule) -> None:
    """Each alert has severity, concern, summary (a fixed sentence), description and the address of its runbook."""
    assert rule.name.startswith("Wattspan")
    assert rule.labels["severity"] in {"critical", "warning", "info"}
    assert rule.labels["concern"] in {"health", "hardware", "carbon", "waste"}
    assert set(rule.annotations) == {"summary", "description", "runbook_url"}
    assert "{{" not in rule.annotations["summary"]
    assert rule.annotations["summary"].endswith(".")
    assert rule.annotations["description"].endswith((".", "?"))
    assert not any("{{" in value for value in rule.labels.values()), (
        "a value in a label is a new alert each time"
    )
    anchor = f"https://github.com/wattspan/wattspan/blob/main/alerts/RUNBOOKS.md#{rule.name.lower()}"
    assert rule.annotations["runbook_url"] == anchor


def test_every_alert_has_its_runbook() -> None:
    """Every anchor exists, none is left over, and each entry says how to look, what to do, when to ignore it."""
    entries = {entry.split("\n", 1)[0]: entry for entry in re.split(r"(?m)^## ", RUNBOOKS.read_text())[1:]}
    assert set(entries) == {rule.name for rule in alerts()}
    for entry in entries.values():
        for part in ("How to look", "What to do", "When to ignore it"):
            assert f"**{part}.**" in entry


@pytest.mark.usefixtures("promtool")
def test_runbooks_queries_are_valid(tmp_path: Path) -> None:
    """What a runbook asks Prometheus is PromQL, and about metrics that exist."""
    asked = list(codes())
    assert len(asked) >= len(entries := {name for name, _ in asked})
    assert entries == {rule.name for rule in alerts()}
    for _, query in asked:
        assert_metrics_exist(query)
    path = tmp_path / "runbooks.yaml"
    found = [{"record": f"q{number}", "expr": query} for number, (_, query) in enumerate(asked)]
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": found}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_thresholds_are_counted_and_used() -> None:
    """Each threshold is used, each that is used is there, and the alert that counts them knows how many."""
    there = {rule.labels["threshold"] for rule in rules(ALERTS / "rules" / "thresholds.yaml")}
    used = {name for rule in alerts() for name in re.findall(r'threshold="(\w+)"', rule.expr)}
    assert there == used
    [counts] = [rule for rule in alerts() if rule.name == "WattspanThresholdsMissing"]
    assert counts.expr.endswith(f"< {len(there)}")
    assert f"of {len(there)};" in counts.annotations["description"]


def test_readme_lists_the_recording_rules() -> None:
    """Each record is in the README's tables, and what is there is recorded."""
    text = (ALERTS / "README.md").read_text()
    for name in RECORDED:
        if name.startswith(("DCGM_", "kepler_", "wattspan:dcgm", "wattspan:kepler")):
            continue
        level, metric, operation = name.split(":") if name.count(":") == 2 else ("", name, "")
        short = {f"`{name}`", f"`{level}:…`", f"`{level}:{metric}:…`", f"`:{operation}`"}
        short |= {f"`_{operation.rsplit('_', 1)[-1]}`"} if "_" in operation else set()
        assert any(each in text for each in short), name
    for name in re.findall(r"`([a-z]+:wattspan_\w+:\w+)`", text):
        assert name in RECORDED, name


def test_migration_lists_what_is_computed() -> None:
    """Each name of others that we compute is in the migration page."""
    text = (ALERTS / "MIGRATION.md").read_text()
    for rule in rules(*COMPAT):
        if not rule.name.startswith("wattspan:"):
            assert f"`{rule.name}`" in text or f"`{rule.name[rule.name.rindex('_') :]}`" in text, rule.name


def test_readme_lists_the_alerts() -> None:
    """The README's table has each rule with its severity, concern and duration, and no other."""
    text = (ALERTS / "README.md").read_text()
    listed = re.findall(
        r"(?m)^\| \[(Wattspan\w+)\]\(RUNBOOKS\.md#(\w+)\) \| (\w+) \| (\w+) \| ([\w ]+?)(?: \(.*?\))? \| (.*) \|$",
        text,
    )
    assert sorted(listed) == sorted(
        (
            rule.name,
            rule.name.lower(),
            rule.labels["severity"],
            rule.labels["concern"],
            rule.lasts or "at once",
            rule.annotations["summary"],
        )
        for rule in alerts()
    )
