"""The daemon's configuration as it is rendered, before the daemon itself."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import (
    FOLDER,
    PROFILES,
    Object,
    daemon_container,
    daemon_pod,
    daemon_yaml,
    of_kind,
    render,
    values_files,
    values_of,
)
from tests.helm.generate import OWN
from wattspan.cli.arguments import parse
from wattspan.config import SETTINGS

FILES = values_files()
IDS = [f"{file.parent.name}/{file.name}" for file in FILES]
PLATFORMS = [file for file in FILES if file.parent.name == "presets" and file.stem != "eks-bottlerocket"]
"""Presets that choose nodes; that of Bottlerocket goes on top of another."""
INTENSITIES = {
    "signal": "average", "basis": "lifecycle", "unit": "g/kWh",
    "intervals": [{"from": "2026-11-20T18:00Z", "until": "2026-11-20T19:00Z", "grams_per_kwh": 26.5}],
}  # fmt: skip


def environment(rendered: list[Object]) -> Mapping[str, str]:
    """The container's own variables, with what Kubernetes would put in for fields and Secrets."""
    fields = {"spec.nodeName": "gpu-7", "status.hostIP": "10.0.0.7"}
    values = {}
    for variable in daemon_container(rendered)["env"]:
        source = variable.get("valueFrom", {})
        field = source.get("fieldRef", {}).get("fieldPath", "")
        values[variable["name"]] = variable.get("value") or fields.get(field, "")
    return values


@pytest.mark.parametrize("file", PLATFORMS, ids=lambda each: each.stem)
def test_a_preset_of_nvidia_nodes_wants_their_driver(file: Path) -> None:
    """A wrong runtime class is told as a source that is down, where `auto` would see a node without GPUs."""
    assert yaml.safe_load(daemon_yaml(render(values_of(file))))["source"] == {"nvidia": "on"}


def test_k3s_puts_no_pod_where_its_runtime_class_does_not_work() -> None:
    """A node without the toolkit has no such runtime: a pod there never starts, and counts as unavailable."""
    pod = daemon_pod(render(values_of(FOLDER / "presets" / "k3s.yaml")))["spec"]
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux", "nvidia.com/gpu.present": "true"}
    assert "affinity" not in pod


def checked(rendered: list[Object], folder: Path) -> subprocess.CompletedProcess[str]:
    """`wattspan check-config` on the rendered file, with what the pod has mounted below a folder."""
    mounts = [mount["mountPath"] for mount in daemon_container(rendered)["volumeMounts"]]
    text = daemon_yaml(rendered)
    for mount in mounts:
        (folder / mount.lstrip("/")).mkdir(parents=True, exist_ok=True)
        text = text.replace(f" {mount}", f" {folder}{mount}")
    file = folder / "etc/wattspan/config/wattspan.yml"
    file.write_text(text)
    for name in re.findall(r"/etc/wattspan/tokens/(\w+)", text):
        (folder / "etc/wattspan/tokens" / name).write_text("")
    if "web-config.yml" in text:
        (folder / "etc/wattspan/web/web-config.yml").write_text("")
    if "grid.json" in text:
        (folder / "etc/intensities/grid.json").write_text(json.dumps(INTENSITIES))
    return subprocess.run(
        [sys.executable, "-m", "wattspan", "check-config", file],
        env={"PATH": os.environ["PATH"], **environment(rendered)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


CHECKED: dict[tuple[str, str], subprocess.CompletedProcess[str]] = {}
"""By configuration and environment what came of it: many values files give the same."""


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_the_rendered_configuration_is_one_that_the_daemon_takes(file: Path, tmp_path: Path) -> None:
    """check-config ends with 0 and warns of nothing, and what the file says is in force."""
    rendered = render(values_of(file))
    key = (daemon_yaml(rendered), json.dumps(environment(rendered)))
    if key not in CHECKED:
        CHECKED[key] = checked(rendered, tmp_path)
    done = CHECKED[key]
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    shown = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    settings = yaml.safe_load(daemon_yaml(rendered))
    assert shown["profile"] == settings["profile"]
    assert shown["node.name"] == "gpu-7"
    assert shown["web.listen-address"] == settings["web"]["listen-address"]


def test_a_mistake_that_the_schema_lets_through_stops_the_daemon(tmp_path: Path) -> None:
    """Bounds are the daemon's to check: it names the key, and ends with 2."""
    done = checked(render({"config": {"grid": {"pue": 9}}}), tmp_path)
    assert done.returncode == 2
    assert "grid.pue" in done.stderr


def test_on_and_off_are_words_again() -> None:
    """YAML makes booleans of them, which the daemon does not know."""
    values = {"config": {"source": {"rapl": False, "nvidia": True}, "grid": {"cloud-metadata": False}}}
    text = daemon_yaml(render(values))
    assert yaml.safe_load(text)["source"] == {"rapl": "off", "nvidia": "on"}
    assert yaml.safe_load(text)["grid"]["cloud-metadata"] == "off"
    # A word that the operator has put in quotes stays as it is.
    assert (
        yaml.safe_load(daemon_yaml(render({"config": {"cluster": {"name": "true"}}})))["cluster"]["name"]
        == "true"
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_the_command_line_is_one_of_ours(profile: str) -> None:
    """`serve` without a flag, which it alone would see; doctor's in `helm test` is understood, too."""
    rendered = render({"profile": profile})
    assert daemon_container(rendered)["args"] == ["serve"]
    assert environment(rendered)["WATTSPAN_CONFIG_FILE"] == "/etc/wattspan/config/wattspan.yml"
    (test,) = of_kind(rendered, "Pod")
    parse(test["spec"]["containers"][0]["args"])


def test_what_the_chart_decides_cannot_be_said_twice() -> None:
    """Every setting is either taken below `config`, or written by the chart, or given by the node."""
    schema = json.loads((Path(__file__).parents[2] / "helm/wattspan/values.schema.json").read_text())
    taken = set()

    def walk(node: Object, prefix: str) -> None:
        for key, each in node["properties"].items():
            if "properties" in each:
                walk(each, f"{prefix}{key}.")
            else:
                taken.add(f"{prefix}{key}")

    walk(schema["properties"]["config"], "")
    own = {key for key in SETTINGS if re.fullmatch(OWN, key)}
    assert taken == set(SETTINGS) - own
    assert taken & own == set()
    assert len(own) >= 12


def test_runs_are_off_only_where_nobody_can_be_told_apart() -> None:
    """In `minimal` pods are not known; whoever wants runs by tokens there says so."""
    assert yaml.safe_load(daemon_yaml(render({"profile": "minimal"})))["runs"] == "off"
    assert (
        yaml.safe_load(daemon_yaml(render({"profile": "minimal", "config": {"runs": True}})))["runs"] == "on"
    )
    for profile in ("attributed", "host"):
        assert "runs" not in yaml.safe_load(daemon_yaml(render({"profile": profile})))
