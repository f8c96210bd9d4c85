"""``helm/examples/otel-collector.yaml``: a configuration whose parts are there, and that loses no span.

No OpenTelemetry Collector can be had as a package here, so names, ports and order are checked, not a start.
"""

from pathlib import Path
from typing import Any, Final

import yaml

FILE: Final = Path(__file__).parents[2] / "helm" / "examples" / "otel-collector.yaml"
OBJECTS: Final = {each["kind"]: each for each in yaml.safe_load_all(FILE.read_text())}
CONFIG: Final[dict[str, Any]] = yaml.safe_load(OBJECTS["ConfigMap"]["data"]["collector.yaml"])
CONTAINER: Final[dict[str, Any]] = OBJECTS["Deployment"]["spec"]["template"]["spec"]["containers"][0]

KNOWN: Final = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "batch"},
    "exporters": {"otlp_grpc", "otlp_http"},
    "extensions": {"health_check"},
}
"""Types of the Collector's own that we may use, by their names since 0.144."""


def used(section: str) -> set[str]:
    """Components that a pipeline, or the service, names."""
    if section == "extensions":
        return set(CONFIG["service"]["extensions"])
    return {name for pipeline in CONFIG["service"]["pipelines"].values() for name in pipeline[section]}


def test_every_component_is_declared_and_used() -> None:
    """A name that is used and not declared stops the Collector; one that is not used is left over."""
    assert {*CONFIG} == {*KNOWN, "service"}
    for section, types in KNOWN.items():
        assert used(section) == set(CONFIG[section])
        assert {name.partition("/")[0] for name in CONFIG[section]} <= types


def test_a_span_is_acknowledged_by_the_store_alone() -> None:
    """Nothing on the way of traces says yes before the store has: no batch, no queue, no sampling."""
    traces = CONFIG["service"]["pipelines"]["traces"]
    assert traces["processors"] == ["memory_limiter"]
    for name in traces["exporters"]:
        exporter = CONFIG["exporters"][name]
        assert exporter["sending_queue"] == {"enabled": False}
        # A retry that outlasts the daemon's own time-out would only send twice.
        assert exporter["retry_on_failure"] == {"enabled": False}
        assert exporter["timeout"] == "5s"
    for pipeline in CONFIG["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"


def test_ports_and_files_meet() -> None:
    """Where receivers listen the pod is open and the Service leads to; the file is where it is read."""
    protocols = CONFIG["receivers"]["otlp"]["protocols"].values()
    listens = {int(each["endpoint"].rpartition(":")[2]) for each in protocols}
    health = int(CONFIG["extensions"]["health_check"]["endpoint"].rpartition(":")[2])
    opened = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert set(opened.values()) == {*listens, health}
    assert {opened[port["targetPort"]] for port in OBJECTS["Service"]["spec"]["ports"]} == listens
    assert {CONTAINER[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")} == {
        "health"
    }
    (volume,) = OBJECTS["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    (mount,) = CONTAINER["volumeMounts"]
    assert CONTAINER["args"] == [f"--config={mount['mountPath']}/collector.yaml"]
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert OBJECTS["Service"]["spec"]["selector"].items() <= labels.items()


def test_the_readme_names_its_address() -> None:
    """The endpoint that the page gives to daemons is the Service's, at the port for HTTP."""
    service = OBJECTS["Service"]["metadata"]
    address = f"http://{service['name']}.{service['namespace']}:4318"
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={address}\n" in (FILE.parent / "README.md").read_text()
