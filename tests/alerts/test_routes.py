"""The example of routing, judged by amtool."""

# ruff: noqa: E501 - rows of a table, and a rule in one sentence.

import re
import shutil
import subprocess
from typing import Any, Final

import pytest
import yaml

from tests.alerts.rule_files import ALERTS, alerts
from tests.real_parts import need

CONFIG: Final = ALERTS / "alertmanager.yml"


@pytest.fixture(autouse=True)
def amtool() -> None:
    need("amtool", shutil.which("amtool") is not None)


def config() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return document


def test_amtool_accepts_it() -> None:
    """Alertmanager can load it."""
    done = subprocess.run(["amtool", "check-config", CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        # Health and hardware: the SRE, by severity; a page that goes on reaches a second person.
        ("alertname=WattspanDown severity=critical concern=health", "sre-pager,sre-lead"),
        ("alertname=WattspanDown severity=warning concern=health instance=n1", "sre"),
        ("alertname=WattspanDown severity=info concern=health instance=n1", "sre-info"),
        ("alertname=WattspanGpuLost severity=critical concern=hardware instance=n1", "sre-pager,sre-lead"),
        ("alertname=WattspanPowerCapped severity=info concern=hardware instance=n1", "sre-info"),
        # Carbon and waste: the team that owns the namespace, outside Kubernetes the project.
        ("alertname=WattspanCarbonBudgetBurn severity=critical concern=carbon pod_namespace=team-nlp",
         "sustainability-lead,team-nlp"),
        ("alertname=WattspanCarbonBudgetBurn severity=warning concern=carbon pod_namespace=team-nlp-dev", "team-nlp"),
        ("alertname=WattspanCarbonBudgetBurn severity=info concern=carbon pod_namespace=team-vision", "team-vision"),
        ("alertname=WattspanGpuHeldIdle severity=warning concern=waste pod_namespace=team-vision project=nlp",
         "team-vision"),
        ("alertname=WattspanRunOverBudget severity=warning concern=carbon project=nlp run_id=r1", "team-nlp"),
        ("alertname=WattspanRunOverBudget severity=info concern=carbon project=nlp run_id=r1", "team-nlp"),
        # Nobody owns it: whoever keeps the budgets, never nobody.
        ("alertname=WattspanCarbonBudgetSpent severity=warning concern=carbon budget=all", "sustainability"),
        ("alertname=WattspanCarbonBudgetBurn severity=critical concern=carbon budget=all",
         "sustainability-lead,sustainability"),
        ("alertname=WattspanGridDirty severity=info concern=carbon grid_zone=DE", "sustainability"),
        ("alertname=WattspanGpuHeldIdle severity=warning concern=waste pod_namespace=team-nlpx", "sustainability"),
        # What is not ours goes to the SRE.
        ("alertname=Watchdog severity=none", "sre"),
    ],
)  # fmt: skip
def test_who_is_told(labels: str, receivers: str) -> None:
    """Carbon goes to the team that owns the namespace, health to the SRE, and severity decides how."""
    command = [
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={CONFIG}",
        f"--verify.receivers={receivers}",
    ]
    done = subprocess.run([*command, *labels.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule.name}-{rule.labels['severity']}")
def test_every_alert_has_a_receiver_of_its_concern(rule: Any) -> None:
    """No alert falls through to somebody else's desk."""
    command = ["amtool", "config", "routes", "test", f"--config.file={CONFIG}", f"alertname={rule.name}"]
    done = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in rule.labels.items())],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    desks = set(done.stdout.strip().split(","))
    ours = {"sre", "sre-pager", "sre-lead", "sre-info"}
    assert desks <= ours if rule.labels["concern"] in {"health", "hardware"} else not desks & ours


def test_info_is_quiet_at_night() -> None:
    """Each route that info takes, and every route below it, is muted at night; no other route is."""

    def walk(route: dict[str, Any], info: bool) -> None:
        info = info or 'severity="info"' in route.get("matchers", [])
        assert ("night" in route.get("mute_time_intervals", [])) is info, route
        for child in route.get("routes", []):
            walk(child, info)

    walk(config()["route"], False)
    assert [each["name"] for each in config()["time_intervals"]] == ["night"]


def test_repeats_are_multiples_of_the_group_interval() -> None:
    """Alertmanager sends again only when a group is due, so an odd repeat would be rounded in silence."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def walk(route: dict[str, Any], group_s: int) -> None:
        if group := route.get("group_interval"):
            group_s = int(group[:-1]) * units[group[-1]]
        if repeat := route.get("repeat_interval"):
            assert int(repeat[:-1]) * units[repeat[-1]] % group_s == 0, route
        for child in route.get("routes", []):
            walk(child, group_s)

    walk(config()["route"], 0)


def test_inhibitions_are_about_alerts_that_exist() -> None:
    """A rule that mutes names alerts that there are, and only severities that they have."""
    by_name: dict[str, set[str]] = {}
    for rule in alerts():
        by_name.setdefault(rule.name, set()).add(rule.labels["severity"])
    for inhibition in config()["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            text = " ".join(inhibition[side])
            names = re.findall(r"Wattspan\w+", text)
            assert set(names) <= set(by_name)
            if names and (severity := re.search(r'severity=~?"([\w|]+)"', text)):
                for wanted in severity[1].split("|"):
                    assert any(wanted in by_name[name] for name in names), (inhibition, wanted)


def test_a_warning_mutes_no_page() -> None:
    """Nobody is left asleep because a lesser alert was there first; but for a budget that is used up already."""
    for inhibition in config()["inhibit_rules"]:
        source, target = (" ".join(inhibition[side]) for side in ("source_matchers", "target_matchers"))
        if "WattspanCarbonBudgetSpent" in source:
            continue
        pages = {
            rule.name
            for rule in alerts()
            if rule.labels["severity"] == "critical" and rule.name in target and "severity" not in target
        }
        only = {rule.labels["severity"] for rule in alerts() if rule.name in source}
        if 'severity="critical"' not in source and only != {"critical"}:
            assert not pages, inhibition


def test_tiers_of_one_alert_can_mute_each_other() -> None:
    """Labels that tell the tiers of one alert apart are not among those that have to be equal."""
    [first, second] = config()["inhibit_rules"][:2]
    assert first["equal"] == second["equal"]
    assert not {"severity", "long", "short", "concern", "held_by", "reading", "against", "reads"} & set(
        first["equal"]
    )
