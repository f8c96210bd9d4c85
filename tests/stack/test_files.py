"""The files of the stack agree with each other, with the parts that read them and with compose."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from dashboards.stack import budgets, grafana, grid_day, plan
from tests.real_parts import need
from wattspan.carbon.providers.file import File
from wattspan.cli import parse
from wattspan.units import NS_PER_S

HERE: Final = plan.HERE
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((HERE / "compose.yaml").read_text())
PROMETHEUS: Final[dict[str, Any]] = yaml.safe_load((HERE / "prometheus.yml").read_text())
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]

SERVICE_KEYS: Final = {
    "image", "pull_policy", "build", "restart", "command", "volumes", "ports", "environment", "depends_on",
}  # fmt: skip
"""Keys of a service in the Compose specification that we use."""

NOW_S: Final = 1_795_000_000.0


def provisioned() -> dict[str, Any]:
    """Each provisioning file of Grafana by its path."""
    return {
        str(file.relative_to(grafana.PROVISIONING)): yaml.safe_load(file.read_text())
        for file in grafana.PROVISIONING.rglob("*.yaml")
    }


def test_prometheus_takes_the_configuration_as_it_is() -> None:
    """promtool accepts the file of compose in its place, with all the rules that it names."""
    need("promtool", shutil.which("promtool") is not None)
    done = subprocess.run(
        ["promtool", "check", "config", HERE / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    files = list((plan.ROOT / "alerts/rules").glob("*.yaml"))
    assert f"SUCCESS: {len(files)} rule files found" in done.stdout


def test_compatibility_rules_are_off() -> None:
    """They are in a folder of their own, which the pattern does not reach."""
    (pattern,) = PROMETHEUS["rule_files"]
    found = sorted(HERE.joinpath(*Path(pattern).parts[:-1]).glob(Path(pattern).name))
    assert found
    assert not [path for path in found if "compat" in str(path)]


def test_only_addresses_differ_from_compose(tmp_path: Path) -> None:
    """What `make stack` gives Prometheus is the same file with other targets and absolute paths."""
    del tmp_path
    ours = yaml.safe_load(plan.prometheus_config("a:1", "b:2", {"prometheus": "p:3", "alertmanager": "m:4"}))
    text = yaml.safe_dump(ours)
    for theirs, here in (("exporter:9746", "a:1"), ("budgets:9747", "b:2")):
        text = text.replace(here, theirs)
    text = text.replace("p:3", "localhost:9090").replace("m:4", "alertmanager:9093")
    text = text.replace(str(plan.ROOT), "../..")
    assert yaml.safe_load(text) == PROMETHEUS


def test_compose_runs_the_same_parts() -> None:
    """Its services are those that `make stack` starts, each with keys that Compose knows."""
    assert set(SERVICES) == {"exporter", "budgets", "alertmanager", "prometheus", "grafana"}
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("depends_on", ())) <= set(SERVICES)
    named = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if not volume.startswith((".", "/"))
    }
    assert named == set(COMPOSE["volumes"])


def test_compose_listens_on_loopback_at_the_usual_ports() -> None:
    """Nobody else reaches the demo."""
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert sorted(published) == sorted(f"127.0.0.1:{port}:{port}" for port in (9746, 9090, 9093, 3000))


def test_compose_gives_the_demo_the_same_flags() -> None:
    """The exporter's command is accepted, and says what `make stack` says."""
    (_, _, script) = SERVICES["exporter"]["command"]
    words = shlex.split(script.partition("exec ")[2])
    assert words[:2] == ["wattspan", "demo"]
    parse(words[1:])
    assert tuple(words[2:-4]) == plan.demo_flags("/tmp/grid.json")


def test_compose_builds_from_files_that_are_there() -> None:
    """Everything that the image copies and that is mounted exists in the checkout."""
    text = SERVICES["exporter"]["build"]["dockerfile_inline"]
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()]
    assert copied
    for path in copied:
        assert (plan.ROOT / path).exists(), path
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    for path in mounted:
        assert (HERE / path).is_dir(), path


def test_compose_scrapes_services_that_are_there() -> None:
    """Each target but Prometheus itself is a service."""
    groups = [group for job in PROMETHEUS["scrape_configs"] for group in job["static_configs"]]
    groups += [g for m in PROMETHEUS["alerting"]["alertmanagers"] for g in m["static_configs"]]
    hosts = {target.partition(":")[0] for group in groups for target in group["targets"]}
    assert hosts <= set(SERVICES) | {"localhost"}


def test_compose_sets_grafana_up_as_make_stack_does() -> None:
    """Image and settings are the same; only addresses and where provisioning lies differ."""
    settings = grafana.settings_of(
        Path("/wattspan/dashboards"),
        prometheus="http://prometheus:9090",
        alertmanager="http://alertmanager:9093",
    )
    theirs = dict(SERVICES["grafana"]["environment"])
    assert theirs.pop("GF_PATHS_PROVISIONING") == "/wattspan/provisioning"
    assert theirs == settings
    assert SERVICES["grafana"]["image"] == grafana.IMAGE


def test_every_variable_of_the_provisioning_is_set() -> None:
    """Grafana would put an empty text for one that is not."""
    text = "".join(file.read_text() for file in grafana.PROVISIONING.rglob("*.yaml"))
    used = set(re.findall(r"\$\{(\w+)\}", text))
    assert used == {
        key for key in grafana.settings_of(Path(), prometheus="", alertmanager="") if "STACK" in key
    }


def test_grafana_gets_both_data_sources_and_the_dashboards() -> None:
    """Prometheus is the default one; dashboards cannot be changed in place."""
    files = provisioned()
    sources = files["datasources/wattspan.yaml"]["datasources"]
    assert [(s["type"], s.get("isDefault", False)) for s in sources] == [
        ("prometheus", True),
        ("alertmanager", False),
    ]
    (provider,) = files["dashboards/wattspan.yaml"]["providers"]
    assert (provider["allowUiUpdates"], provider["type"]) == (False, "file")
    assert PROMETHEUS["global"]["scrape_interval"] == grafana.SCRAPE_INTERVAL


def test_grafana_begins_with_the_fleet() -> None:
    """The dashboard that comes first is there."""
    assert (grafana.DASHBOARDS / grafana.HOME).is_file()


def test_the_simulated_grid_is_a_grid(tmp_path: Path) -> None:
    """The provider `file` reads it, from the past to beyond the longest forecast, clean at noon."""
    path = grid_day.write(tmp_path / "grid.json", "FR", now_s=NOW_S)
    figures = File(path, "FR", "average", "lifecycle").intensities(int(NOW_S) * NS_PER_S)
    assert figures[0].valid_from_wall_ns is not None
    assert figures[0].valid_from_wall_ns < NOW_S * NS_PER_S
    ahead_s = (figures[-1].valid_until_wall_ns or 0) / NS_PER_S - NOW_S
    assert ahead_s > 7 * 86_400
    noon, evening = grid_day.grams_per_kwh(13, 60), grid_day.grams_per_kwh(20, 60)
    assert noon < 60 < evening
    assert {figure.origin for figure in figures} == {grid_day.ORIGIN}


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        (1_795_000_000.0, 1_793_491_200.0, 1_796_083_200.0),
        (1_797_000_000.0, 1_796_083_200.0, 1_798_761_600.0),
    ],
    ids=["November", "December"],
)
def test_a_months_budget_is_of_the_calendar_month(now: float, start: float, end: float) -> None:
    """From midnight UTC of the first to that of the next month's first, over a new year too."""
    assert budgets.period("month", now) == (start, end)
    assert budgets.period("7d", now) == (now - 7 * 86_400, now)


def test_budgets_are_text_that_prometheus_reads() -> None:
    """promtool finds nothing but the help that is missing."""
    need("promtool", shutil.which("promtool") is not None)
    body = budgets.text(budgets.DEMO, NOW_S)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if not line.endswith("no help text")] == []
    assert body.count("wattspan_budget_co2e_grams{") == len(budgets.DEMO)
