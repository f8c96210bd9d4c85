"""What an API server would take: every kind that the chart makes, for each Kubernetes.

Kinds of Kubernetes are checked by the strict schemas that `kubernetes-validate` carries, compiled once:
its own function reads 1.6 MB of definitions for each object.
Kinds of others are closed schemas of the fields that we may use, from these pages, read on 2026-11-30:

- prometheus-operator v0.93, example/prometheus-operator-crd: servicemonitors, podmonitors, prometheusrules
- openshift/api, security/v1/types.go
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import kubernetes_validate

from tests.examples.test_examples import NUMBER, TEXT, closed
from tests.helm.chart import Object

SCHEMAS: Final = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
FIRST: Final = (1, 28)
"""What Chart.yaml asks for at least."""
FIRST_WITH_CLAIMS: Final = (1, 34)
"""resource.k8s.io/v1."""


def versions(first: tuple[int, int] = FIRST) -> Sequence[str]:
    """Every Kubernetes from that one on that there are schemas of, as ``1.28``."""
    known = {tuple(map(int, version.split(".")[:2])) for version in kubernetes_validate.utils.all_versions()}
    return [".".join(map(str, version)) for version in sorted(known) if version >= first]


def validate(each: Object, version: str) -> None:
    """Strictly: a field that nobody knows would be dropped in silence.

    Raises:
        jsonschema_rs.ValidationError: what is wrong with it.
        KeyError: that Kubernetes has no such kind.
    """
    custom = CUSTOM.get((each["apiVersion"], each["kind"]))
    (custom or _of_kubernetes(each["apiVersion"], each["kind"], version)).validate(each)


@cache
def _of_kubernetes(api_version: str, kind: str, version: str) -> Any:
    group, _, name = api_version.rpartition("/")
    words = [kind.lower(), *([group.partition(".")[0]] if group else []), name]
    folder = SCHEMAS / f"v{version}.0-local-strict"
    file = folder / f"{'-'.join(words)}.json"
    if not file.exists():
        raise KeyError(f"{api_version} {kind} is not in Kubernetes {version}")
    schema = {**json.loads(file.read_text(encoding="utf-8")), "$id": f"https://schemas/api/{file.name}"}
    return jsonschema_rs.Draft202012Validator(schema, registry=_definitions(folder))


@cache
def _definitions(folder: Path) -> Any:
    definitions = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))
    return jsonschema_rs.Registry([("https://schemas/api/_definitions.json", definitions)])


def _any_of(field: Object) -> Object:
    return {"type": "array", "items": field}


def _kind(api_version: str, spec: Mapping[str, Object], *, namespaced: bool = True) -> Any:
    """A validator of a kind; what stands beside its metadata is in `spec`."""
    labels = {"type": "object", "additionalProperties": TEXT}
    names = {"name": TEXT, **({"namespace": TEXT} if namespaced else {})}
    metadata = closed({**names, "labels": labels, "annotations": labels}, *names)
    fields = {"apiVersion": {"const": api_version}, "kind": {}, "metadata": metadata, **spec}
    return jsonschema_rs.validator_for(closed(fields, *fields))


FLAG: Final = {"type": "boolean"}
TEXTS: Final = {"type": "object", "additionalProperties": TEXT}
DURATION: Final = {
    "type": "string",
    "minLength": 1,
    "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}
SELECTOR: Final = closed({"matchLabels": TEXTS})
KEY: Final = closed({"name": TEXT, "key": TEXT, "optional": FLAG}, "key")
EITHER: Final = closed({"secret": KEY, "configMap": KEY})
ACTIONS: Final = [
    "replace",
    "keep",
    "drop",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
    "keepequal",
    "dropequal",
]
RELABELINGS: Final = _any_of(
    closed(
        {
            "sourceLabels": _any_of(TEXT),
            "separator": TEXT,
            "targetLabel": TEXT,
            "regex": TEXT,
            "modulus": NUMBER,
            "replacement": TEXT,
            "action": {"enum": ACTIONS},
        }
    )
)
TLS: Final = closed(
    {
        "ca": EITHER,
        "cert": EITHER,
        "keySecret": KEY,
        "serverName": TEXT,
        "insecureSkipVerify": FLAG,
        "minVersion": {"enum": ["TLS10", "TLS11", "TLS12", "TLS13"]},
        "maxVersion": {"enum": ["TLS10", "TLS11", "TLS12", "TLS13"]},
    }
)
ENDPOINTS: Final = _any_of(
    closed(
        {
            "port": TEXT,
            "path": TEXT,
            "scheme": {"enum": ["http", "https"]},
            "interval": DURATION,
            "scrapeTimeout": DURATION,
            "honorLabels": FLAG,
            "tlsConfig": TLS,
            "basicAuth": closed({"username": KEY, "password": KEY}),
            "relabelings": RELABELINGS,
            "metricRelabelings": RELABELINGS,
        }
    )
)
RULE: Final = closed(
    {
        "alert": TEXT,
        "record": TEXT,
        "expr": TEXT,
        "for": DURATION,
        "keep_firing_for": DURATION,
        "labels": TEXTS,
        "annotations": TEXTS,
    },
    "expr",
)
GROUP: Final = closed(
    {
        "name": {"type": "string", "minLength": 1},
        "interval": DURATION,
        "query_offset": DURATION,
        "limit": NUMBER,
        "labels": TEXTS,
        "rules": _any_of(RULE),
    },
    "name",
)
STRATEGY: Final = closed(
    {"type": {"enum": ["MustRunAs", "MustRunAsRange", "MustRunAsNonRoot", "RunAsAny"]}}, "type"
)
SCC: Final = {
    **dict.fromkeys(
        (
            "allowPrivilegedContainer", "allowPrivilegeEscalation", "allowHostPID", "allowHostIPC",
            "allowHostNetwork", "allowHostPorts", "allowHostDirVolumePlugin", "readOnlyRootFilesystem",
        ),
        FLAG,
    ),
    **dict.fromkeys(
        ("users", "allowedCapabilities", "requiredDropCapabilities", "seccompProfiles", "volumes"),
        _any_of(TEXT),
    ),
    **dict.fromkeys(("runAsUser", "seLinuxContext", "fsGroup", "supplementalGroups"), STRATEGY),
}  # fmt: skip


def _monitor(endpoints: str) -> Mapping[str, Object]:
    fields = {
        "selector": SELECTOR,
        "namespaceSelector": closed({"matchNames": _any_of(TEXT), "any": FLAG}),
        "sampleLimit": NUMBER,
        "jobLabel": TEXT,
        endpoints: ENDPOINTS,
    }
    return {"spec": closed(fields, "selector", endpoints)}


CUSTOM: Final[Mapping[tuple[str, str], Any]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _kind("monitoring.coreos.com/v1", _monitor("endpoints")),
    ("monitoring.coreos.com/v1", "PodMonitor"): _kind(
        "monitoring.coreos.com/v1", _monitor("podMetricsEndpoints")
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _kind(
        "monitoring.coreos.com/v1", {"spec": closed({"groups": _any_of(GROUP)}, "groups")}
    ),
    ("security.openshift.io/v1", "SecurityContextConstraints"): _kind(
        "security.openshift.io/v1", SCC, namespaced=False
    ),
}
