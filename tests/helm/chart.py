"""The chart as the real Helm engine renders it, for every test that looks at what a cluster would get.

The engine is Helm 4's own library in `helm-python-sdk`; nothing here speaks to a cluster.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

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
    return _helm().values_from_yaml(file.read_text(encoding="utf-8")) or {}


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
    rendered = texts(values, name=name, namespace=namespace, kube_version=kube_version)
    return [each for path, text in rendered.items() if path.endswith(".yaml") for each in objects(text)]


def texts(
    values: Mapping[str, Any] | None = None,
    *,
    name: str = RELEASE,
    namespace: str = NAMESPACE,
    kube_version: str = KUBERNETES,
) -> Mapping[str, str]:
    """By template, such as ``wattspan/templates/daemonset.yaml``, the text that it became; see `render`."""
    return _rendered(json.dumps(dict(values or {})), name, namespace, kube_version)


def notes(values: Mapping[str, Any] | None = None, *, kube_version: str = KUBERNETES) -> str:
    """What Helm says after the installation."""
    return texts(values, kube_version=kube_version)["wattspan/templates/NOTES.txt"]


def objects(text: str) -> list[Object]:
    """The objects of a YAML stream.

    Raises:
        ValueError: a mapping has a key twice, of which Kubernetes would keep the last in silence.
    """
    return [each for each in yaml.load_all(text, Loader=_Strict) if each]  # noqa: S506 - a SafeLoader


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
    (container,) = daemon_pod(rendered)["spec"]["containers"]
    return container  # type: ignore[no-any-return]


def daemon_yaml(rendered: Sequence[Object]) -> str:
    """The text of the daemon's configuration file, which stands in the one ConfigMap with that key."""
    (text,) = [each["data"]["wattspan.yml"] for each in of_kind(rendered, "ConfigMap") if "wattspan.yml" in each["data"]]
    return text  # type: ignore[no-any-return]


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


class _Strict(yaml.SafeLoader):
    """A loader that takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            word = self.construct_object(key, deep=True)
            if word in seen:
                raise ValueError(f"{word!r} stands twice in one mapping, line {key.start_mark.line + 1}")
            seen.add(word)
        return super().construct_mapping(node, deep)


def _helm() -> Any:
    """The engine; imported late, so that tests can say that it is missing."""
    import helm_python

    return helm_python


@cache
def loaded() -> Any:
    """The chart, loaded once."""
    return _helm().Chart.load(FOLDER)


@cache
def _rendered(values: str, name: str, namespace: str, kube_version: str) -> Mapping[str, str]:
    """By template the text that it became."""
    # Chart.render cannot say which Kubernetes it is for; the library below it can.
    from helm_python import _native

    options = {"name": name, "namespace": namespace, "kube_version": f"v{kube_version}"}
    text = _native.call_string("helm_render", loaded()._raw(), values, json.dumps(options))
    rendered: Mapping[str, str] = json.loads(text)
    return rendered
