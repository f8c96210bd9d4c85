"""The examples of ``helm/examples``: what Kubernetes takes, and our metrics."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from tests.helm.chart import daemon_pod, render
from tests.real_parts import need
from wattspan.cli.arguments import parse
from wattspan.publish.catalogue import CATALOGUE

FOLDER = Path(__file__).parents[2] / "helm" / "examples"
FILES = sorted(FOLDER.glob("*.yaml"))
KUBERNETES = "1.34"

Object = dict[str, Any]


def objects(file: Path) -> list[Object]:
    """The objects of a file."""
    return [each for each in yaml.safe_load_all(file.read_text()) if each]


EVERY = [(file.name, each) for file in FILES for each in objects(file)]
IDS = [f"{name}: {each['kind']} {each['metadata']['name']}" for name, each in EVERY]


def found(kind: str, name: str) -> Object:
    """One object of all."""
    (one,) = [each for _, each in EVERY if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return one


def closed(properties: Mapping[str, Any], *required: str) -> Object:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def of_kind(group: str, spec: Object) -> Object:
    """A namespaced object."""
    metadata = closed({"name": {"type": "string"}, "namespace": {"type": "string"}}, "name")
    fields = {"apiVersion": {"const": group}, "kind": {}, "metadata": metadata, "spec": spec}
    return closed(fields, "apiVersion", "kind", "metadata", "spec")


NUMBER, TEXT = {"type": "integer", "minimum": 0}, {"type": "string"}

PROMETHEUS = closed(
    {
        "type": {"const": "prometheus"},
        "metricType": {"enum": ["AverageValue", "Value"]},
        "metadata": closed(
            dict.fromkeys(
                ("serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues"), TEXT
            ),
            "serverAddress", "query", "threshold",
        ),
    },
    "type", "metadata",
)  # fmt: skip
"""keda.sh/docs, scalers/prometheus: every value of its metadata is a text."""

REDIS = closed(
    {
        "type": {"const": "redis"},
        "metadata": closed(dict.fromkeys(["address", "listName", "listLength"], TEXT), "listName"),
    },
    "type", "metadata",
)  # fmt: skip
"""keda.sh/docs, scalers/redis-lists."""

TRIGGERS = {"type": "array", "items": {"anyOf": [PROMETHEUS, REDIS]}, "minItems": 1}

CUSTOM: Mapping[tuple[str, str], Object] = {
    # keda.sh/docs, reference/scaledobject-spec; kedacore/keda config/crd/bases/keda.sh_scaledobjects.yaml
    ("keda.sh/v1alpha1", "ScaledObject"): of_kind(
        "keda.sh/v1alpha1",
        closed(
            {
                "scaleTargetRef": closed({"name": TEXT, "kind": TEXT, "apiVersion": TEXT}, "name"),
                "pollingInterval": NUMBER,
                "cooldownPeriod": NUMBER,
                "minReplicaCount": NUMBER,
                "maxReplicaCount": NUMBER,
                "fallback": closed(
                    {"failureThreshold": NUMBER, "replicas": NUMBER}, "failureThreshold", "replicas"
                ),
                "triggers": TRIGGERS,
            },
            "scaleTargetRef", "triggers",
        ),
    ),
    # keda.sh/docs, reference/scaledjob-spec; kedacore/keda config/crd/bases/keda.sh_scaledjobs.yaml
    ("keda.sh/v1alpha1", "ScaledJob"): of_kind(
        "keda.sh/v1alpha1",
        closed(
            {
                "pollingInterval": NUMBER,
                "maxReplicaCount": NUMBER,
                "successfulJobsHistoryLimit": NUMBER,
                "failedJobsHistoryLimit": NUMBER,
                "scalingStrategy": closed(
                    {
                        "strategy": {"enum": ["default", "custom", "accurate", "eager"]},
                        "multipleScalersCalculation": {"enum": ["max", "min", "avg", "sum"]},
                    }
                ),
                "jobTargetRef": {"type": "object"},  # checked as the spec of a Job
                "triggers": TRIGGERS,
            },
            "jobTargetRef", "triggers",
        ),
    ),
    # kubernetes-sigs/kueue config/components/crd/bases/kueue.x-k8s.io_localqueues.yaml
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"): of_kind(
        "kueue.x-k8s.io/v1beta2",
        closed(
            {"clusterQueue": TEXT, "stopPolicy": {"enum": ["None", "Hold", "HoldAndDrain"]}}, "clusterQueue"
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("each", [each for _, each in EVERY], ids=IDS)
def test_every_object_is_one_that_its_api_takes(each: Object) -> None:
    """Strictly: a field that nobody knows would be dropped in silence."""
    custom = CUSTOM.get((each["apiVersion"], each["kind"]))
    if custom is None:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
        return
    jsonschema_rs.validator_for(custom).validate(each)
    if each["kind"] == "ScaledJob":
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "x"},
            "spec": each["spec"]["jobTargetRef"],
        }
        kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_the_check_is_strict() -> None:
    """A misspelt field is found, in kinds of Kubernetes and in the others."""
    job = found("Job", "train")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**job, "spec": {**job["spec"], "suspnd": True}}, KUBERNETES, strict=True
        )
    queue = found("LocalQueue", "whenever-green")
    for spec in ({"stopPolicy": "Stop", "clusterQueue": "x"}, {"stopPolcy": "Hold", "clusterQueue": "x"}):
        schema = jsonschema_rs.validator_for(CUSTOM[queue["apiVersion"], queue["kind"]])
        with pytest.raises(jsonschema_rs.ValidationError):
            schema.validate({**queue, "spec": spec})


def containers() -> Iterator[Object]:
    """Every container of all objects."""

    def below(value: Any) -> Iterator[Object]:
        if isinstance(value, dict):
            yield from value.get("containers", ())
            for each in value.values():
                yield from below(each)
        elif isinstance(value, list):
            for each in value:
                yield from below(each)

    for _, each in EVERY:
        yield from below(each)


def queries() -> list[str]:
    """Every PromQL."""
    triggers = [trigger for _, each in EVERY for trigger in each.get("spec", {}).get("triggers", ())]
    asked = [trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus"]
    return asked + [
        variable["value"]
        for each in containers()
        for variable in each.get("env", ())
        if variable["name"] == "QUERY"
    ]


def test_there_are_queries() -> None:
    """None is overlooked by the tests that follow."""
    texts = "".join(file.read_text() for file in FILES)
    assert len(queries()) == len(re.findall(r"query: [8>]|name: QUERY", texts)) == 3


@pytest.mark.parametrize("query", queries())
def test_every_query_is_one_of_our_metrics(tmp_path: Path, query: str) -> None:
    """promtool reads it, and whatever it names is in the catalogue with those labels."""
    known = {family.name: family.labels for family in CATALOGUE}
    named = re.findall(r"(wattspan_\w+)(?:\{([^}]*)\})?", query)
    assert named
    for name, matchers in named:
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= set(known[name])
    need("promtool", shutil.which("promtool") is not None)
    rules = {"groups": [{"name": "examples", "rules": [{"record": "x", "expr": query}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_our_own_commands_are_taken() -> None:
    """Every command line of ours is one that wattspan understands."""
    ours = [
        [*each["command"], *each.get("args", ())]
        for each in containers()
        if each.get("command", [""])[0] == "wattspan"
    ]
    assert len(ours) == 2
    for words in ours:
        args = parse(words[1:])
        assert args.wait_for_green
        assert args.duration < args.deadline
        assert args.command_line


def script(config_map: str) -> str:
    """The script in a config map."""
    (text,) = found("ConfigMap", config_map)["data"].values()
    return str(text)


class Cluster:
    """An API server and a Prometheus; see `cluster`.

    Attributes:
        patches: path, headers and document of each.
        value: what Prometheus answers; None for nothing.
    """

    def __init__(self) -> None:
        self.patches: list[tuple[str, Mapping[str, str], Any]] = []
        self.value: str | None = "1"
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Both on one port of loopback."""
    state = Cluster()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            result = [] if state.value is None else [{"metric": {}, "value": [1.0, state.value]}]
            self.reply({"status": "success", "data": {"resultType": "vector", "result": result}})

        def do_PATCH(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.patches.append((self.path, dict(self.headers), json.loads(body)))
            self.reply({})

        def reply(self, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ran(code: str, folder: Path, names: Sequence[Object], **environ: str) -> subprocess.CompletedProcess[str]:
    """A script as its container runs it: with the variables that the example gives it."""
    (folder / "token").write_text("a-token\n")
    given = {each["name"]: each.get("value", "ml") for each in names}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PATH": os.environ["PATH"], **given, "ACCOUNT": str(folder), **environ},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def container(name: str) -> Object:
    """The one of that name."""
    (one,) = [each for each in containers() if each["name"] == name]
    return one


def allowed(role: str) -> tuple[str, str, str, list[str]]:
    """The one thing that a role allows."""
    (rule,) = found("Role", role)["rules"]
    (group,), (resource,), (name,) = rule["apiGroups"], rule["resources"], rule["resourceNames"]
    return group, resource, name, rule["verbs"]


@pytest.mark.parametrize(("value", "policy"), [("1", "None"), ("0", "Hold")])
def test_the_queue_is_held_and_released(tmp_path: Path, value: str, policy: str) -> None:
    """Green admits, dirty holds, by one patch of that queue, which its role allows and nothing else."""
    with cluster() as state:
        state.value = value
        done = ran(
            script("green-queue"), tmp_path, container("green-queue")["env"],
            PROMETHEUS_URL=state.url, API_URL=state.url,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ((path, headers, document),) = state.patches
    assert path == "/apis/kueue.x-k8s.io/v1beta2/namespaces/ml/localqueues/whenever-green"
    assert document == {"spec": {"stopPolicy": policy}}
    assert headers["Authorization"] == "Bearer a-token"
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert len(state.asked) == 1
    assert allowed("green-queue") == ("kueue.x-k8s.io", "localqueues", "whenever-green", ["patch"])


@pytest.mark.parametrize("value", [None, "NaN", "150"])
def test_a_grid_that_is_not_known_leaves_the_queue_as_it_is(tmp_path: Path, value: str | None) -> None:
    """Nothing is patched, and the pod fails with the reason."""
    with cluster() as state:
        state.value = value
        done = ran(
            script("green-queue"), tmp_path, container("green-queue")["env"],
            PROMETHEUS_URL=state.url, API_URL=state.url,
        )  # fmt: skip
    assert done.returncode == 1
    assert "the grid is not known" in done.stderr
    assert state.patches == []


def test_the_waiter_resumes_its_job(tmp_path: Path) -> None:
    """By one patch of that Job, which its role allows and nothing else."""
    with cluster() as state:
        done = ran(script("resume-train"), tmp_path, container("wait")["env"], API_URL=state.url)
    assert done.returncode == 0, done.stderr
    ((path, _, document),) = state.patches
    assert path == "/apis/batch/v1/namespaces/ml/jobs/train"
    assert document == {"spec": {"suspend": False}}
    assert allowed("resume-train") == ("batch", "jobs", "train", ["patch"])
    assert found("Job", "train")["spec"]["suspend"] is True


def test_who_waits_for_green_reaches_a_daemon() -> None:
    """By the chart's Service, which leads to the pod's own node: so the waiter goes where a daemon is."""
    rendered = render()
    (service,) = [each for each in rendered if each["kind"] == "Service"]
    place, (port,) = service["metadata"], service["spec"]["ports"]
    url = f"http://{place['name']}.{place['namespace']}.svc:{port['port']}"
    training = found("CronJob", "nightly-retraining")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    waiter = found("Job", "train-when-green")["spec"]["template"]["spec"]
    for pod in (training, waiter):
        assert {"name": "WATTSPAN_URL", "value": url} in pod["containers"][0]["env"]
    assert "nvidia.com/gpu" in training["containers"][0]["resources"]["limits"], "so it is on a daemon's node"
    (rule,) = waiter["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["labelSelector"]["matchLabels"].items() <= daemon_pod(rendered)["metadata"]["labels"].items()
    assert rule["namespaces"] == [place["namespace"]]
    assert rule["topologyKey"] == "kubernetes.io/hostname"


def test_parts_of_an_example_name_each_other() -> None:
    """Accounts, roles and config maps exist where they are named, in one namespace."""
    assert {each["metadata"]["namespace"] for _, each in EVERY} == {"ml"}
    for name in ("green-queue", "resume-train"):
        binding = found("RoleBinding", name)
        assert binding["roleRef"]["name"] == found("Role", name)["metadata"]["name"]
        assert binding["subjects"][0]["name"] == found("ServiceAccount", name)["metadata"]["name"]
    text = (FOLDER / "kueue.yaml").read_text() + (FOLDER / "resume-when-green.yaml").read_text()
    for name in ("green-queue", "resume-train"):
        assert f"serviceAccountName: {name}\n" in text
    assert found("Job", "ablation-17")["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "whenever-green"


def test_every_file_is_in_the_readme() -> None:
    """And nothing that is not there."""
    page = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"\]\(([\w.-]+)\)", page)) == {file.name for file in FILES}
