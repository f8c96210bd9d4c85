"""The chart as the real Helm engine renders it, for every test that looks at what a cluster would get.

The engine is Helm 4's own library in `helm-python-sdk`; nothing here speaks to a cluster.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import helm_python
import yaml
from helm_python import _native

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "helm" / "wattspan"
PROFILES: Final = ("minimal", "attributed", "host")

RELEASE: Final = "wattspan"
NAMESPACE: Final = "wattspan"
KUBERNETES: Final = "1.36.0"

Object = dict[str, Any]
"""A Kubernetes object as its YAML has it."""


def values_files() -> Sequence[Path]:
    """Every values file that is shipped: presets and ``ci/``, which hold one feature each."""
    return sorted([*FOLDER.glob("ci/*-values.yaml"), *FOLDER.glob("presets/*.yaml")])


def values_of(file: Path) -> Object:
    """The values in a file, read as Helm reads it: ``on`` is true, and ``NO`` is false."""
    return helm_python.values_from_yaml(file.read_text(encoding="utf-8")) or {}


def render(
    values: Mapping[str, Any] | None = None,
    *,
    name: str = RELEASE,
    namespace: str = NAMESPACE,
    kube_version: str = KUBERNETES,
) -> list[Object]:
    """Every object that ``helm template`` would print, the pods of ``helm test`` included.

    Args:
        values: over the chart's defaults, as ``-f`` would give them.
        name, namespace: of the release.
        kube_version: of the cluster, as templates see it.

    Raises:
        helm_python.HelmError: the values are refused; the message says why.
        ValueError: what was rendered has a key twice.
    """
    of = (_json(values), name, namespace, kube_version)
    return copy.deepcopy(_objects(*of))


def texts(
    values: Mapping[str, Any] | None = None,
    *,
    name: str = RELEASE,
    namespace: str = NAMESPACE,
    kube_version: str = KUBERNETES,
) -> Mapping[str, str]:
    """By template, such as ``wattspan/templates/daemonset.yaml``, the text that it became; see `render`."""
    return _rendered(_json(values), name, namespace, kube_version)


def notes(values: Mapping[str, Any] | None = None, *, kube_version: str = KUBERNETES) -> str:
    """What Helm says after the installation."""
    return texts(values, kube_version=kube_version)["wattspan/templates/NOTES.txt"]


def objects(text: str) -> list[Object]:
    """The objects of a YAML stream, which Helm's own parser, stricter than ours, has to read alike.

    Raises:
        ValueError: a mapping has a key twice, of which Kubernetes would keep the last in silence,
            or Helm's parser reads something else.
        helm_python.HelmError: it is no YAML for Helm.
    """
    found = [each for each in yaml.load_all(text, Loader=_Strict) if each]
    parts = [helm_python.values_from_yaml(part) for part in re.split(r"(?m)^---$", text)]
    if [part for part in parts if part] != found:
        raise ValueError("Helm's parser reads something else")
    return found


def of_kind(rendered: Sequence[Object], kind: str) -> list[Object]:
    """Those of one kind, in order."""
    return [each for each in rendered if each["kind"] == kind]


def daemon_set(rendered: Sequence[Object]) -> Object:
    """The one DaemonSet."""
    (found,) = of_kind(rendered, "DaemonSet")
    return found


def daemon_pod(rendered: Sequence[Object]) -> Object:
    """The pod that the DaemonSet makes: metadata and spec, with one container, `wattspan`."""
    template: Object = daemon_set(rendered)["spec"]["template"]
    return template


def daemon_container(rendered: Sequence[Object]) -> Object:
    """The daemon's container: args, env, mounts, probes, security context."""
    container: Object
    (container,) = daemon_pod(rendered)["spec"]["containers"]
    return container


def daemon_yaml(rendered: Sequence[Object]) -> str:
    """The text of the daemon's configuration file, which stands in the one ConfigMap with that key."""
    data = [each["data"] for each in of_kind(rendered, "ConfigMap")]
    (text,) = [each["wattspan.yml"] for each in data if "wattspan.yml" in each]
    return str(text)


def pods(rendered: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod that the chart makes, by a name for people, as metadata and spec."""
    for each in rendered:
        if each["kind"] == "Pod":
            yield each["metadata"]["name"], each
        elif "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, those that go before the others included."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same in C, where PyYAML has it: dashboards are half a megabyte."""


class _Strict(_Loader):  # type: ignore[misc]
    """A loader that takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            word = self.construct_object(key, deep=True)
            if word in seen:
                raise ValueError(f"{word!r} stands twice in one mapping, line {key.start_mark.line + 1}")
            seen.add(word)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


@cache
def loaded() -> helm_python.Chart:
    """The chart, loaded once."""
    return helm_python.Chart.load(FOLDER)


def _json(values: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(values or {}))


@cache
def _objects(values: str, name: str, namespace: str, kube_version: str) -> list[Object]:
    rendered = _rendered(values, name, namespace, kube_version)
    return [each for path, text in rendered.items() if path.endswith(".yaml") for each in objects(text)]


@cache
def _rendered(values: str, name: str, namespace: str, kube_version: str) -> Mapping[str, str]:
    """By template the text that it became."""
    # Chart.render cannot say which Kubernetes it is for; the library below it can.
    options = {"name": name, "namespace": namespace, "kube_version": f"v{kube_version}"}
    text = _native.call_string("helm_render", loaded()._raw(), values, json.dumps(options))
    rendered: Mapping[str, str] = json.loads(text)
    return rendered
