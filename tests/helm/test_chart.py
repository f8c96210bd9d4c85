"""The chart as a package, and what it refuses."""

import gzip
import json
import re
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.helm.chart import (
    FOLDER,
    NAMESPACE,
    ROOT,
    loaded,
    notes,
    of_kind,
    render,
    texts,
    values_files,
    values_of,
)
from tests.helm.generate import VALUES, value_rows
from wattspan import __version__

FILES = values_files()
IDS = [f"{file.parent.name}/{file.name}" for file in FILES]

EVERYTHING: Mapping[str, Any] = {
    "rules": {"enabled": True, "compat": {"dcgm": True, "kepler": True}},
    "dashboards": {"enabled": True},
    "monitor": {"kind": "ServiceMonitor"},
    "networkPolicy": {"enabled": True},
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as `helm package` makes it."""
    return Path(helm_python.package(FOLDER, destination=tmp_path_factory.mktemp("package")))


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_every_values_file_is_linted_strictly_and_renders(file: Path) -> None:
    """Warnings are errors; that there is no icon is no warning."""
    values = values_of(file)
    report = helm_python.lint(FOLDER, values, strict=True, namespace=NAMESPACE)
    assert report["errors"] == []
    assert [one["error"] for one in report["messages"]] == ["icon is recommended"]
    assert render(values)
    assert notes(values).strip()


def test_there_is_a_values_file_for_each_profile_and_platform() -> None:
    """None is forgotten, and `ci` is where chart-testing looks."""
    names = {file.stem for file in FILES}
    assert {"default-values", "minimal-values", "host-values"} <= names
    assert {
        "gpu-operator",
        "gpu-operator-nri",
        "dra",
        "gke",
        "eks",
        "eks-bottlerocket",
        "aks",
        "openshift",
        "k3s",
    } <= names
    assert {file.parent.name for file in FILES} == {"ci", "presets"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"profil": "host"}, "additional properties 'profil' not allowed"),
        ({"image": {"tags": "1"}}, "at '/image': additional properties 'tags' not allowed"),
        (
            {"rules": {"compat": {"dcgmm": True}}},
            "at '/rules/compat': additional properties 'dcgmm' not allowed",
        ),
        (
            {"rules": {"thresholds": {"unattributed": 0.2}}},
            "at '/rules/thresholds': additional properties 'unattributed' not allowed",
        ),
        ({"rules": {"thresholds": {"unattributed_ratio": "20%"}}}, "got string, want number"),
        (
            {"rules": {"disabled": ["WattspanDwon"]}},
            "at '/rules/disabled/0': value must be one of 'WattspanAbsent'",
        ),
        # `NO: 400` is false in YAML, and Norway has to be written in quotes.
        ({"rules": {"dirtyZones": {"false": 400}}}, "invalid propertyName 'false'"),
        ({"rules": {"runbookUrl": "wiki"}}, "at '/rules/runbookUrl': 'wiki' does not match pattern"),
        ({"profile": "full"}, "at '/profile': value must be one of 'minimal', 'attributed', 'host'"),
        ({"pods": "proxy"}, "at '/pods': value must be one of '', 'kubelet', 'api', 'none'"),
        (
            {"monitor": {"kind": ["ServiceMonitor", "PodMonitor"]}},
            "at '/monitor/kind': value must be one of 'none', 'ServiceMonitor', 'PodMonitor'",
        ),
        (
            {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
            "additional properties ",
        ),
        (
            {"config": {"grid": {"zonee": "FR"}}},
            "at '/config/grid': additional properties 'zonee' not allowed",
        ),
        # `zone: NO` is false in YAML, and Norway has to be written in quotes.
        (
            {"config": {"grid": {"zone": False}}},
            "at '/config/grid/zone': got boolean, want integer or string",
        ),
        ({"config": {"state": {"dir": "/x"}}}, "at '/config': additional properties 'state' not allowed"),
        (
            {"config": {"sample": {"interval": "1"}}},
            "at '/config/sample/interval': '1' does not match pattern",
        ),
        (
            {"config": {"log": {"level": "loud"}}},
            "at '/config/log/level': value must be one of 'debug', 'info'",
        ),
        ({"env": {"WATTSPAN_STATE_DIR": "/x"}}, "invalid propertyName 'WATTSPAN_STATE_DIR'"),
        ({"tokens": {"api": {"secret": "s"}}}, "at '/tokens/api': missing property 'key'"),
        ({"tokens": {"github": {"secret": "s", "key": "k"}}}, "additional properties 'github' not allowed"),
        ({"maxUnavailable": 0}, "at '/maxUnavailable': minimum: got 0, want 1"),
        ({"hostPaths": {"state": "wattspan"}}, "at '/hostPaths/state': 'wattspan' does not match pattern"),
        ({"profile": "minimal", "pods": "api"}, "pods: api needs the profile attributed or host"),
        ({"pods": "kubelet", "dra": {"enabled": True}}, "dra.enabled needs pods: api"),
        ({"web": {"security": "tls"}}, "web.security: tls needs web.configSecret"),
        (
            {"monitor": {"kind": "ServiceMonitor"}, "service": {"enabled": False}},
            "ServiceMonitor needs service.enabled",
        ),
    ],
)
def test_wrong_values_are_refused_with_a_readable_message(values: Mapping[str, Any], says: str) -> None:
    """A typo, a wrong word, a pair that cannot work: the message names the place and what is allowed."""
    with pytest.raises(helm_python.HelmError) as caught:
        render(values)
    assert says in str(caught.value)


def test_the_package_holds_what_the_links_point_to(package: Path) -> None:
    """Dashboards and rules are real files in it, to the byte, and nothing else of those folders is."""
    with tarfile.open(package) as archive:
        members = {member.name.removeprefix("wattspan/"): member for member in archive.getmembers()}
        assert all(member.isfile() for member in members.values())
        held = {name: archive.extractfile(member).read() for name, member in members.items()}  # type: ignore[union-attr]
    linked = {
        "files/dashboards": [*ROOT.glob("dashboards/*.json")],
        "files/rules": [*ROOT.glob("alerts/rules/*.yaml")],
        "files/rules/compat": [*ROOT.glob("alerts/rules/compat/*.yaml")],
    }
    expected = {
        f"{folder}/{file.name}": file.read_bytes() for folder, files in linked.items() for file in files
    }
    assert len(expected) >= 15
    assert {name: content for name, content in held.items() if name.startswith("files/")} == expected
    assert {"README.md", "values.schema.json", "templates/NOTES.txt", "presets/gke.yaml"} <= held.keys()


def test_the_package_renders_what_the_folder_does(package: Path) -> None:
    """Whoever installs from a registry gets the same objects."""
    with helm_python.Chart.load(package) as packed:
        assert packed.render(dict(EVERYTHING), name="wattspan", namespace="wattspan") == loaded().render(
            dict(EVERYTHING), name="wattspan", namespace="wattspan"
        )
        assert packed.version == loaded().version


def test_dashboards_and_rules_come_through_unchanged() -> None:
    """No template language touches the braces of legends and annotations."""
    rendered = render(EVERYTHING)
    boards = {
        name: text
        for each in of_kind(rendered, "ConfigMap")
        for name, text in each["data"].items()
        if name.endswith(".json")
    }
    assert boards == {file.name: file.read_text(encoding="utf-8") for file in ROOT.glob("dashboards/*.json")}
    rules = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered, "PrometheusRule")}
    assert rules == {
        f"wattspan-{file.stem}": yaml.safe_load(file.read_text(encoding="utf-8"))
        for file in ROOT.glob("alerts/rules/**/*.yaml")
    }


def test_a_sidecar_finds_the_dashboards() -> None:
    """By the label that Grafana's charts look for, where the values say."""
    values = {
        "dashboards": {"enabled": True, "namespace": "monitoring", "annotations": {"grafana_folder": "W"}}
    }
    boards = [
        each for each in of_kind(render(values), "ConfigMap") if each["metadata"]["namespace"] == "monitoring"
    ]
    assert len(boards) == len([*ROOT.glob("dashboards/*.json")])
    for each in boards:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "W"}


def test_everything_fits_where_kubernetes_keeps_it(package: Path) -> None:
    """A release is a Secret of 1 MiB, a ConfigMap too, and `kubectl apply` keeps 256 KiB in an annotation."""
    files = {each["name"]: each["data"] for each in (*loaded().files, *loaded().templates)}
    release = json.dumps({"chart": files, "manifest": "".join(texts(EVERYTHING).values())}).encode()
    assert 4 / 3 * len(gzip.compress(release)) < 2**20 * 3 / 4
    for each in render(EVERYTHING):
        assert len(json.dumps(each)) < 2**18, each["metadata"]["name"]
    assert package.stat().st_size < 2**19


def test_every_value_is_documented_and_in_the_schema() -> None:
    """And the schema, which lets no other in, knows none that is not there."""
    schema = loaded().schema
    assert schema is not None
    documented = {key for key, _, _ in value_rows()}

    def leaves(values: Mapping[str, Any], node: Mapping[str, Any], prefix: str) -> None:
        known = node.get("properties")
        assert known is not None, prefix
        assert node["additionalProperties"] is False, prefix
        assert set(known) - {"global"} == set(values), prefix
        for key, value in values.items():
            name = f"{prefix}{key}"
            if name in documented:
                continue
            assert isinstance(value, dict), f"{name} has no comment"
            leaves(value, known[key], f"{name}.")

    leaves(yaml.safe_load(VALUES.read_text(encoding="utf-8")), schema, "")


def test_no_list_of_the_schema_is_open_by_mistake() -> None:
    """Wherever fields are named, others are refused."""

    def closed(node: Any, where: str) -> None:
        if isinstance(node, dict):
            if "properties" in node and isinstance(node["properties"], dict):
                assert node.get("additionalProperties") is False, where
            for key, value in node.items():
                closed(value, f"{where}/{key}")
        elif isinstance(node, list):
            for value in node:
                closed(value, where)

    closed(loaded().schema, "")


def test_versions_are_those_of_the_project() -> None:
    """The chart's default image is the daemon of this checkout."""
    metadata = loaded().metadata
    assert metadata["appVersion"] == metadata["version"] == __version__
    assert metadata["apiVersion"] == "v2"


def test_the_default_image_is_where_releases_go() -> None:
    """One name in the chart, the examples, the README and the workflow that pushes."""
    workflow = (ROOT / ".github" / "workflows" / "image.yml").read_text(encoding="utf-8")
    assert "IMAGE: ghcr.io/${{ github.repository }}\n" in workflow
    image = "ghcr.io/" + loaded().metadata["home"].removeprefix("https://github.com/")
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    assert values["image"]["repository"] == image
    assert f"cosign verify {image}:" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"image: {image}:" in (ROOT / "helm/examples/resume-when-green.yaml").read_text(encoding="utf-8")


HELM_3 = {
    # Go's text/template
    *("and", "define", "else", "end", "eq", "if", "ne", "not", "or", "printf", "range", "with"),
    # Sprig
    *(
        "add",
        "append",
        "base",
        "contains",
        "deepCopy",
        "default",
        "dict",
        "fail",
        "get",
        "has",
        "hasKey",
        "int",
    ),
    *("join", "keys", "kindIs", "list", "merge", "nindent", "quote", "regexMatch", "regexReplaceAll"),
    *(
        "replace",
        "semverCompare",
        "set",
        "sha256sum",
        "ternary",
        "toString",
        "trim",
        "trimPrefix",
        "trimSuffix",
    ),
    "trunc",
    # Helm
    *("fromYaml", "include", "toYaml"),
}
"""The functions that our templates use; each is in Helm 3.0 as far as we know: Helm 3 is not run here."""


def test_templates_use_no_function_that_helm_3_lacks() -> None:
    """The engine here is Helm 4, so what is new to a template has to be looked up for Helm 3 first."""
    used = set()
    for template in loaded().templates:
        for action in re.findall(r"\{\{-?(.*?)-?\}\}", template["data"], re.DOTALL):
            code = re.sub(r'"(?:\\.|[^"\\])*"|/\*.*?\*/', " ", action, flags=re.DOTALL)
            used |= set(re.findall(r"(?<![\w.$])[a-zA-Z]\w*", code))
    assert used - {"true", "false"} == HELM_3


@pytest.mark.parametrize("what", ["rules", "dashboards"])
def test_a_chart_that_has_lost_its_links_says_so(tmp_path: Path, what: str) -> None:
    """An sdist has none of them: it fails rather than to install nothing of what was asked for."""
    broken = shutil.copytree(FOLDER, tmp_path / "wattspan", ignore=shutil.ignore_patterns("files"))
    with helm_python.Chart.load(broken) as chart:
        assert chart.render({})
        with pytest.raises(helm_python.HelmError, match=f"this chart holds no {what}"):
            chart.render({what: {"enabled": True}})
