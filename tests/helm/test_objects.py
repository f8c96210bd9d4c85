"""What a cluster would be given: objects that every supported Kubernetes takes."""

import copy
import json
import sys
from collections import Counter

import jsonschema_rs
import kubernetes_validate
import pytest

from tests.helm import schemas
from tests.helm.chart import (
    FOLDER,
    PROFILES,
    Object,
    daemon_set,
    notes,
    objects,
    of_kind,
    render,
    values_files,
    values_of,
)
from tests.helm.generate import MANIFESTS

FILES = values_files()


def first_version(rendered: list[Object]) -> tuple[int, int]:
    """Of Kubernetes that has all its kinds."""
    claims = of_kind(rendered, "ResourceClaimTemplate")
    return schemas.FIRST_WITH_CLAIMS if claims else schemas.FIRST


def test_every_object_of_every_values_file_is_valid_for_every_kubernetes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Strictly, from the first version that the chart takes on, and DRA from the first that has it."""
    checked: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for file in FILES:
        rendered = render(values_of(file))
        for version in schemas.versions(first_version(rendered)):
            for each in rendered:
                key = (version, json.dumps(each, sort_keys=True))
                if key not in seen:  # the same object again
                    schemas.validate(each, version)
                    seen.add(key)
                checked[version] += 1
    known = schemas.versions()
    assert known[0] == "1.28"
    assert len(known) >= 10
    assert set(checked) == set(known)
    with capsys.disabled():
        print(
            f"\nhelm: {checked.total()} rendered objects validated ({len(seen)} of them different):"
            f" {len(known)} versions of Kubernetes, {known[0]} to {known[-1]}, x {len(FILES)} values files",
            file=sys.stderr,  # what a worker of xdist prints elsewhere is lost
        )


def test_no_object_depends_on_the_version_of_the_cluster() -> None:
    """What `helm template` prints without a cluster is what Helm installs; notes alone may warn."""
    for template in FOLDER.glob("templates/**/*.yaml"):
        assert ".Capabilities" not in template.read_text(encoding="utf-8")
    assert render(kube_version="1.28.0") == render(kube_version="1.37.0")
    kubelet = {"pods": "kubelet"}
    assert notes(kubelet, kube_version="1.32.5") != notes(kubelet, kube_version="1.33.0")


@pytest.mark.parametrize("version", schemas.versions())
def test_the_compiled_schemas_are_those_of_kubernetes_validate(version: str) -> None:
    """The library's own function agrees, about an object that is right and about one that is wrong."""
    good = daemon_set(render())
    kubernetes_validate.validate(good, version, strict=True)
    schemas.validate(good, version)
    bad = copy.deepcopy(good)
    bad["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, version, strict=True)
    with pytest.raises(jsonschema_rs.ValidationError):
        schemas.validate(bad, version)


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor", "PrometheusRule"])
def test_a_misspelt_field_of_the_operators_kinds_is_found(kind: str) -> None:
    """The schemas of kinds that Kubernetes does not know are closed, too."""
    rendered = render(
        {"monitor": {"kind": kind if kind != "PrometheusRule" else "none"}, "rules": {"enabled": True}}
    )
    each = of_kind(rendered, kind)[0]
    schemas.validate(each, "1.36")
    endpoints = {
        "ServiceMonitor": "endpoints",
        "PodMonitor": "podMetricsEndpoints",
        "PrometheusRule": "groups",
    }[kind]
    wrong = copy.deepcopy(each)
    wrong["spec"][endpoints][0]["relabeling"] = []
    with pytest.raises(jsonschema_rs.ValidationError):
        schemas.validate(wrong, "1.36")


def test_claims_are_refused_where_kubernetes_has_none() -> None:
    """A preset that was rendered for an older cluster would not be taken, and the test would say so."""
    (claim,) = of_kind(render({"pods": "api", "dra": {"enabled": True}}), "ResourceClaimTemplate")
    schemas.validate(claim, "1.34")
    with pytest.raises(KeyError):
        schemas.validate(claim, "1.33")
    assert claim["spec"]["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] is True


def test_the_oldest_version_is_the_charts_own() -> None:
    """Chart.yaml asks for what is tested, and for no less."""
    (chart,) = objects((FOLDER / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={schemas.versions()[0]}.0-0"


@pytest.mark.parametrize("profile", PROFILES)
def test_plain_manifests_are_valid(profile: str) -> None:
    """What people apply without Helm is taken by every Kubernetes, too."""
    for version in schemas.versions():
        for each in objects((MANIFESTS / f"{profile}.yaml").read_text(encoding="utf-8")):
            schemas.validate(each, version)
