"""The dashboards as files: as built, valid for Grafana, and speaking of series that exist."""

import re
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest
import yaml
from grafana_foundation_sdk.models import units

from dashboards import look
from dashboards.__main__ import built
from dashboards.foreign import NAMES as FOREIGN
from dashboards.foreign import SERVERS
from tests.dashboards.boards import FOLDER, UIDS, Json, every_panel, load, name, panels
from tests.dashboards.promql import matched, names
from wattspan.publish.catalogue import CATALOGUE

RULES: Final = Path(__file__).parents[2] / "alerts" / "rules"
TARGET_LABELS: Final = {"cluster", "instance", "job"}
HUB: Final = {
    "wattspan_budget_co2e_grams": {"budget", "pod_namespace", "project", "period"},
    "wattspan_budget_period_start_timestamp_seconds": {"budget", "pod_namespace", "project", "period"},
    "wattspan_budget_period_end_timestamp_seconds": {"budget", "pod_namespace", "project", "period"},
    "wattspan_hub_up": set[str](),
    "wattspan_hub_records_pending": set[str](),
    "wattspan_hub_late_records_total": set[str](),
}
"""What the hub publishes, by the contract."""

KNOWN_UNITS: Final = {value for value in vars(units).values() if isinstance(value, str)}
OWN_UNIT: Final = re.compile(r"suffix: ")


def catalogue() -> dict[str, set[str]]:
    """Labels by exposed name."""
    found = {
        f"{metric.exposed_name}{suffix}": set(metric.labels) | ({"le"} if suffix == "_bucket" else set())
        for metric in CATALOGUE
        for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
    }
    return found | HUB


def recorded() -> set[str]:
    """Names that recording rules of the default files write."""
    return {
        rule["record"]
        for path in RULES.glob("*.yaml")
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


def expressions() -> list[tuple[str, str]]:
    """Each query with the panel, annotation or variable that has it."""
    found = [
        (name(board, panel), target["expr"]) for board, panel in every_panel() for target in panel["targets"]
    ]
    for uid in UIDS:
        board = load(uid)
        found += [(f"{uid}/annotation", note["expr"]) for note in board["annotations"]["list"]]
        found += [
            (
                f"{uid}/${variable['name']}",
                variable["definition"].removeprefix("label_values(").rsplit(",", 1)[0],
            )
            for variable in board["templating"]["list"]
            if variable["type"] == "query"
        ]
    return found


def test_files_are_as_built() -> None:
    """What Grafana loads is what the Python beside it builds, to the byte, and nothing else lies there."""
    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")} == built()


@pytest.mark.parametrize("uid", UIDS)
def test_frame(uid: str) -> None:
    """A dashboard is Classic 42 with a stable uid, read-only, and has the variables and links of all."""
    board = load(uid)
    assert board["schemaVersion"] == 42
    assert board["uid"] == uid
    assert board["editable"] is False
    assert "id" not in board or board["id"] is None
    assert board["tags"] == ["wattspan"]
    assert board["description"]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["cluster"]["includeAll"] is True
    assert variables["cluster"]["allValue"] == ".*"
    assert {link["type"] for link in board["links"]} == {"dashboards", "link"}
    assert all("placement" not in link for link in board["links"]), "shown, not hidden in a menu"
    alerts = board["annotations"]["list"][0]
    assert alerts["enable"] is True
    assert alerts["expr"].startswith('ALERTS{alertstate="firing"')


@pytest.mark.parametrize("uid", UIDS)
def test_layout(uid: str) -> None:
    """Ids are unique; panels stay within 24 columns and do not overlap; a line of panels is full."""
    board = load(uid)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    boxes = [panel["gridPos"] for panel in board["panels"]]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in combinations(boxes, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    lines: dict[int, list[Json]] = {}
    for box in boxes:
        lines.setdefault(box["y"], []).append(box)
    for line in lines.values():
        assert sum(box["w"] for box in line) == 24, line
        assert len({box["h"] for box in line}) == 1, line


def test_every_panel_explains_itself() -> None:
    """A panel has a title, a description, a unit, a text for when it is empty, and the chosen source."""
    for board, panel in every_panel():
        where = name(board, panel)
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"], where
        assert len(panel["description"]) > 10, where
        assert panel["description"].endswith("."), where
        assert defaults["noValue"], where
        found = [defaults["unit"]]
        for override in panel["fieldConfig"]["overrides"]:
            found += [part["value"] for part in override["properties"] if part["id"] == "unit"]
        assert all(unit in KNOWN_UNITS or OWN_UNIT.match(unit) for unit in found), (where, found)
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, where
        assert panel["targets"], where


def test_titles_are_unique_within_a_row() -> None:
    """No two panels of a dashboard have the same title, unless headings keep them apart."""
    for uid in UIDS:
        row = ""
        seen: set[tuple[str, str]] = set()
        for panel in load(uid)["panels"]:
            if panel["type"] == "row":
                row = panel["title"]
                continue
            assert (row, panel["title"]) not in seen, (uid, row, panel["title"])
            seen.add((row, panel["title"]))


def test_every_series_exists() -> None:
    """A query reads the catalogue, the hub's part of the contract, a recording rule, or a listed metric."""
    known = set(catalogue()) | recorded() | FOREIGN
    for where, expr in expressions():
        assert names(expr) <= known, (where, names(expr) - known)


def test_every_label_exists() -> None:
    """A metric is matched only by labels that it has, or that the target has."""
    labels = catalogue()
    for where, expr in expressions():
        for metric, label in matched(expr):
            if metric in labels:
                assert label in labels[metric] | TARGET_LABELS, (where, metric, label)


def test_every_query_heeds_the_cluster() -> None:
    """Who chooses a cluster sees no other's figures; thresholds belong to none."""
    for where, expr in expressions():
        for selector in re.findall(r"(?<![\w:])((?:[a-z]+:)?wattspan_[\w:]+)(\{[^}]*\})?", expr):
            if "$cluster" in where:
                continue
            assert 'cluster=~"$cluster"' in selector[1], (where, selector)


def test_rates_follow_the_resolution() -> None:
    """A rate is over $__rate_interval, or over the panel's range."""
    for where, expr in expressions():
        for window in re.findall(r"(?:rate|increase)\([^\[\]]*\[([^\]]*)\]", expr):
            assert window in {"$__rate_interval", "$__range"}, (where, window)


def test_hours_are_read_by_rules_alone() -> None:
    """A month is a figure that a rule has made: no panel sums hours, or forgets the one that runs."""
    read = [expr for _, expr in expressions() if ":month{" in expr]
    assert len(read) > 10
    assert not [where for where, expr in expressions() if "month:" in expr]


def test_exemplars_are_asked_of_what_has_them() -> None:
    """Exemplars are on where counters of runs are drawn over time, and nowhere else."""
    having = {metric.exposed_name for metric in CATALOGUE if metric.exemplar is not None}
    asked = 0
    for board, panel in every_panel():
        for target in panel["targets"]:
            if target["exemplar"]:
                asked += 1
                assert names(target["expr"]) <= having, name(board, panel)
                assert target["range"] is True
    assert asked >= 3


def test_shares_have_one_colour() -> None:
    """run, pod, idle and unattributed look the same on every dashboard that shows them."""
    seen: dict[str, set[str]] = {}
    for _, panel in every_panel():
        for override in panel["fieldConfig"]["overrides"]:
            shown = override["matcher"]["options"]
            for part in override["properties"]:
                if shown in {"run", "pod", "idle", "unattributed"} and part["id"] == "color":
                    seen.setdefault(shown, set()).add(part["value"]["fixedColor"])
    assert set(seen) == {"run", "pod", "idle", "unattributed"}
    assert all(len(colours) == 1 for colours in seen.values())
    assert len(set.union(*seen.values())) == 4


def test_links_lead_somewhere() -> None:
    """A link names a dashboard and a variable that exist, and a column of its own table."""
    variables = {uid: {variable["name"] for variable in load(uid)["templating"]["list"]} for uid in UIDS}
    led: set[tuple[str, str]] = set()
    for board, panel in every_panel():
        where = name(board, panel)
        columns = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        links = [*panel["fieldConfig"]["defaults"].get("links", [])]
        for override in panel["fieldConfig"]["overrides"]:
            links += [
                link for part in override["properties"] if part["id"] == "links" for link in part["value"]
            ]
        for link in links:
            for field in re.findall(r'__data\.fields\["([^"]+)"\]', link["url"]):
                assert field in columns, (where, field)
            for used in re.findall(r"\$\{(\w+):queryparam\}", link["url"]):
                assert used in variables[board["uid"]], (where, used)
            if link["url"].startswith("/d/"):
                to = re.split(r"[?/]", link["url"])[2]
                led.add((board["uid"], to))
                assert {*re.findall(r"var-(\w+)=", link["url"])} <= variables[to], where
            else:
                assert link["url"].startswith("/explore?"), where
                assert "${traces}" in link["url"]
                led.add((board["uid"], "trace"))
    assert {
        ("wattspan-fleet", "wattspan-node"),
        ("wattspan-fleet", "wattspan-run"),
        ("wattspan-node", "wattspan-run"),
        ("wattspan-run", "trace"),
    } <= led


def test_a_trace_is_found_by_its_column() -> None:
    """The link to a trace takes the id from the column that shows it."""
    (attempts,) = (panel for panel in panels(load("wattspan-run")) if panel["title"] == "Attempts")
    (link,) = (
        part["value"][0]
        for override in attempts["fieldConfig"]["overrides"]
        for part in override["properties"]
        if part["id"] == "links"
    )
    assert "${__data.fields.Trace}" in link["url"]


def test_alerts_are_ours() -> None:
    """The dashboards' filter on alert names takes in every alert of alerts/."""
    shipped = {
        rule["alert"]
        for path in RULES.glob("*.yaml")
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert shipped
    assert all(re.fullmatch("Wattspan.+", alert) for alert in shipped)


def test_foreign_names_have_a_source() -> None:
    """Each inference server says where its metrics' names were read."""
    assert {server.name for server in SERVERS} == {"vLLM", "TGI", "Triton", "BentoML"}
    assert all(server.origin.startswith("https://") for server in SERVERS)


def test_rules_read_each_foreign_metric() -> None:
    """Requests and tokens of each inference server are recorded under its name, from the metrics listed."""
    [group] = yaml.safe_load((RULES / "serving.yaml").read_text("utf-8"))["groups"]
    recorded = {
        (rule["labels"]["server"], rule["record"].split(":")[1].removeprefix("wattspan_served_"), read)
        for rule in group["rules"]
        if "labels" in rule
        for read in re.findall(r"rate\((\S+)\[5m\]\)", rule["expr"])
    }
    assert recorded == {
        (server.name, what, selector)
        for server in SERVERS
        for what, selector in (("requests", server.requests), ("tokens", server.tokens))
        if selector
    }


def test_what_needs_the_hub_looks_like_no_alarm_without_it() -> None:
    """No hub is released yet: budgets stand below the first rows, say what they need, and have no colour."""
    found = []
    for uid in UIDS:
        rows = 0
        for panel in load(uid)["panels"]:
            rows += panel["type"] == "row"
            if not any("budget:" in each["expr"] for each in panel.get("targets", [])):
                continue
            found.append(panel["title"])
            defaults = panel["fieldConfig"]["defaults"]
            assert rows > 2, (uid, panel["title"])
            assert "need wattspan hub, which is not released yet" in defaults["noValue"]
            assert defaults["thresholds"]["steps"][0]["color"] in {"text", "transparent", look.GREY}
    assert len(found) >= 6
