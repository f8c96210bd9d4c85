"""PromQL that several dashboards share.

Grafana fills in ``$__rate_interval`` (at least four scrapes), ``$__range`` and the variables.
Months are read from ``alerts/rules/months.yaml``: their whole hours, and the hour that runs.
"""

from typing import Final

from dashboards.frame import ALERT_NAMES, IN_CLUSTER
from dashboards.look import J_PER_KWH

RATE: Final = "[$__rate_interval]"
ALERT_OF: Final = "instance, run_id, pod_namespace, project, budget"
"""What an alert may be about."""
EXPORTERS: Final = f'up{{job=~".*wattspan.*", {IN_CLUSTER}}}'
"""The job's name holds `wattspan`, as the alerts want it too."""


def how_many(of: str, condition: str) -> str:
    """How many of these are so: 0 where none is, and nothing at all where there are none to be so."""
    return f"count(({of}) {condition}) or 0 * count({of})"


def alerts(severity: str) -> str:
    """How many alerts fire, each once whatever its tiers; nothing while our rules are not loaded."""
    firing = f'ALERTS{{alertstate="firing", severity="{severity}", {ALERT_NAMES}, {IN_CLUSTER}}}'
    return f"count(count by (alertname, {ALERT_OF}) ({firing})) or 0 * count(wattspan:threshold)"


def sum_by(labels: str, expr: str) -> str:
    """The sum, by labels or over everything."""
    return f"sum by ({labels}) ({expr})" if labels else f"sum({expr})"


def this_month(family: str, labels: str, where: str = IN_CLUSTER) -> str:
    """What a counter has gained in this calendar month (UTC), to the minute.

    Args:
        family: the counter's name without ``_total``.
        labels: to sum by.
        where: label matchers.
    """
    level = "cluster" if family.startswith("wattspan_node_") else "owner"
    return sum_by(labels, f"{level}:{family}:month{{{where}}}")


def in_range(family: str) -> str:
    """What all nodes' counters gained in the range, from the minutes of the rules.

    Args:
        family: a node's counter without ``_total``.
    """
    return f"60 * sum(sum_over_time(cluster:{family}:rate5m{{{IN_CLUSTER}}}[$__range:1m]))"


def kwh(joules: str) -> str:
    """Of joules; the expression may hold `or`."""
    return f"({joules}) / {J_PER_KWH}"


def of_run(expr: str, labels: str, where: str = IN_CLUSTER) -> str:
    """The one join: an expression by `run_id` gets labels of the run."""
    return (
        f"{expr} * on (run_id) group_left ({labels}) max by (run_id, {labels}) (wattspan_run_info{{{where}}})"
    )


def last(selector: str) -> str:
    """The last value in the range: runs that have ended are still told."""
    return f"last_over_time({selector}[$__range])"


def joules_per(what: str, where: str, labels: str = "") -> str:
    """Joules for each step, sample or token, over all nodes; nothing while there is no progress."""
    return (
        f"{sum_by(labels, f'rate(wattspan_run_energy_joules_total{{{where}}}{RATE})')}"
        f" / ({sum_by(labels, f'rate(wattspan_run_{what}_total{{{where}}}{RATE})')} > 0)"
    )


def named(expr: str, label: str) -> str:
    """Series without the label are called (none), where a legend would be empty."""
    return f'label_replace({expr}, "{label}", "(none)", "{label}", "")'
