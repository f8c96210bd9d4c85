"""Each alert against its cases, judged by promtool."""

import shutil
from pathlib import Path

import pytest

from tests.alerts.cases import CASES
from tests.alerts.mutate import mutants, survivors
from tests.alerts.promtool import KINDS, judge
from tests.alerts.rule_files import alerts
from tests.real_parts import need

NAMES = sorted({rule.name for rule in alerts()})


@pytest.fixture(autouse=True)
def promtool() -> None:
    need("promtool", shutil.which("promtool") is not None)


@pytest.mark.parametrize("name", NAMES)
def test_alert(name: str, tmp_path: Path) -> None:
    """An alert fires when it should, not a step earlier, and says what it should; else it is quiet."""
    wrong = judge([case for case in CASES if case.alert == name], tmp_path)
    assert not wrong, wrong


@pytest.mark.parametrize("name", NAMES)
def test_alert_has_each_kind_of_case(name: str) -> None:
    """Each alert is shown to fire, to be quiet, to bear missing data and a restart; and in each severity."""
    cases = [case for case in CASES if case.alert == name]
    assert {case.kind for case in cases} == set(KINDS)
    severities = {rule.labels["severity"] for rule in alerts() if rule.name == name}
    assert {firing.severity for case in cases for firing in case.firing} == severities


def test_cases_are_of_alerts_that_exist() -> None:
    """No case is of an alert that is gone."""
    assert {case.alert for case in CASES} == set(NAMES)


def test_a_sample_of_mutants_is_noticed() -> None:
    """Limits and comparisons cannot drift unseen; `make mutants` changes all of them, this every fortieth."""
    changes = mutants()
    assert len(changes) > 300
    assert not [mutant.what for mutant in survivors(changes[7::40])]
