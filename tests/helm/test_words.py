"""What people read and run: notes, `helm test`, the README, plain manifests, upgrades."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs import markdown
from tests.docs.generate import table
from tests.helm import generate, profiles
from tests.helm.chart import (
    FOLDER,
    PROFILES,
    ROOT,
    Object,
    daemon_container,
    daemon_pod,
    notes,
    of_kind,
    render,
)
from tests.helm.upgrade import BASELINE, changes
from tests.real_parts import need

SCRAPE = (ROOT / "tests/golden/h100.prom").read_text(encoding="utf-8")
PAGE = generate.README.read_text(encoding="utf-8")


def test_generated_files_are_current() -> None:
    """What is made from the code and the chart says what they say; `make chart` mends it."""
    assert generate.SCHEMA.read_text(encoding="utf-8") == generate.schema()
    for path, text in generate.files().items():
        assert path.read_text(encoding="utf-8") == text, path
    assert {file.name for file in generate.MANIFESTS.iterdir()} == {
        "prometheus.yml",
        *(f"{profile}.yaml" for profile in PROFILES),
    }


API_RIGHTS = "get/list `pods`, get `nodes`"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("minimal", ("4: ", "uid 65532, no capability", "nothing", "no token", "`restricted`")),
        (
            "attributed",
            ("6: ", "uid 0, no capability", "`hostPID`, ", "get/list `pods`, get `nodes`", "`privileged`"),
        ),
        (
            "host",
            ("6: ", "uid 0, no capability", "`hostPID`, ", "get/list `pods`, get `nodes`", "`privileged`"),
        ),
    ],
)
def test_each_row_of_the_table_of_profiles_is_what_is_rendered(
    profile: str, expected: tuple[str, ...]
) -> None:
    """Computed from the objects, and equal to the line in the README."""
    row = profiles.row(profile, render({"profile": profile}))
    for cell, beginning in zip(row[1:6], expected, strict=True):
        assert cell.startswith(beginning)
    line = table(profiles.HEAD, [row]).splitlines()[-1]
    assert line in PAGE.splitlines()


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        ({"profile": "host"}, set()),
        ({"profile": "attributed"}, {"CPU and DRAM (RAPL)"}),
        ({"profile": "host", "pods": "none"}, {"runs without code"}),
        ({"profile": "host", "config": {"runs": False}},
         {"which run, pod or owner used it", "runs without code"}),
        ({"profile": "host", "securityContext": {"runAsUser": 1}},
         {"which run, pod or owner used it", "runs without code", "CPU and DRAM (RAPL)"}),
    ],
)  # fmt: skip
def test_what_is_metered_follows_from_the_objects(values: Object, lost: set[str]) -> None:
    """The column is no constant of the profile's name."""
    metered = profiles.meters(render(values))
    assert {what for what, can in metered.items() if not can} == lost


def test_every_preset_and_link_of_the_readme_is_there() -> None:
    """And no preset is left out."""
    assert set(re.findall(r"`(?:presets/)?([\w-]+\.yaml)`", PAGE)) >= {
        file.name for file in FOLDER.glob("presets/*.yaml")
    }
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert target.startswith("https://") or (FOLDER / target).exists(), target


def test_the_snippets_for_training_pods_lead_to_the_daemon() -> None:
    """The URL is that of the Service, in notes and README, and the folder that of the local socket."""
    rendered = render()
    (service,) = of_kind(rendered, "Service")
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    url = f"http://{name}.{namespace}.svc:{service['spec']['ports'][0]['port']}"
    env, pod = [yaml.safe_load(text) for text in markdown.blocks(PAGE, "yaml")[:2]]
    assert env == {"env": [{"name": "WATTSPAN_URL", "value": url}]}
    assert yaml.safe_load(notes().partition("by\n\n")[2].partition("\n\n")[0]) == env
    (folder,) = [each["hostPath"]["path"] for each in pod["volumes"]]
    (mount,) = [mount for each in pod["containers"] for mount in each["volumeMounts"]]
    (own,) = [each for each in daemon_container(rendered)["volumeMounts"] if each["name"] == "socket"]
    volumes = {each["name"]: each for each in daemon_pod(rendered)["spec"]["volumes"]}
    assert folder == volumes["socket"]["hostPath"]["path"]
    assert mount["mountPath"] == own["mountPath"] == "/run/wattspan"


def last_command(text: str) -> str:
    """The command that the notes end with."""
    return text.rpartition("\n\n")[2]


@pytest.mark.parametrize("security", ["none", "tls"])
def test_notes_end_with_a_command_that_shows_kwh_and_grams(tmp_path: Path, security: str) -> None:
    """Run as it stands, with a kubectl that answers as two nodes do."""
    text = notes({"web": {"security": security, "configSecret": "web"}})
    need("awk", shutil.which("awk") is not None)
    (tmp_path / "scrape").write_text(SCRAPE)
    scheme = "" if security == "none" else "https:"
    (tmp_path / "kubectl").write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '"-n wattspan get pods -l app.kubernetes.io/name=wattspan,'
        'app.kubernetes.io/instance=wattspan -o name")\n'
        "  printf 'pod/wattspan-a\\npod/wattspan-b\\n' ;;\n"
        f'"get --raw /api/v1/namespaces/wattspan/pods/{scheme}wattspan-"[ab]":9746/proxy/metrics")\n'
        f"  cat {tmp_path}/scrape ;;\n"
        '*) echo "not understood: $*" >&2; exit 1 ;;\nesac\n'
    )
    (tmp_path / "kubectl").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", last_command(text)],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    joules = sum(map(float, re.findall(r"(?m)^wattspan_node_energy_joules_total (\S+)", SCRAPE)))
    grams = sum(map(float, re.findall(r"(?m)^wattspan_node_co2e_grams_total\S* (\S+)", SCRAPE)))
    assert joules > 0
    assert grams > 0
    assert done.stdout == f"{2 * joules / 3.6e6:.3f} kWh, {2 * grams:.1f} g CO2e\n"


def test_notes_of_daemons_that_want_to_be_shown_something_end_with_promql() -> None:
    """The API server's proxy has neither a certificate nor a password."""
    key = {"name": "s", "key": "k"}
    for values in (
        {"web": {"security": "clientCertificates", "configSecret": "web"}},
        {"monitor": {"kind": "PodMonitor", "basicAuth": {"username": key, "password": key}}},
    ):
        assert "sum(wattspan_node_energy_joules_total) / 3.6e6" in last_command(notes(values))


def test_notes_say_what_to_do_where() -> None:
    """Each trouble has its cure, and none is told where it cannot be."""
    assert "enforce=privileged" in notes()
    assert "enforce=privileged" not in notes({"profile": "minimal"})
    assert "no image has been published yet" in notes()
    assert "no image has been published yet" not in notes({"image": {"repository": "registry.example/w"}})
    assert "WARNING: this is Kubernetes v1.32.0" in notes({"pods": "kubelet"}, kube_version="1.32.0")
    assert "WARNING" not in notes({"pods": "kubelet"}, kube_version="1.33.0")
    assert "WARNING" not in notes(kube_version="1.28.0")
    assert "admin-access=true" in notes({"pods": "api", "dra": {"enabled": True}})
    assert "https://wattspan.wattspan.svc:9746" in notes({"web": {"security": "tls", "configSecret": "w"}})
    assert "WATTSPAN_URL" not in notes({"profile": "minimal"})


@contextmanager
def answering(status: int, body: str) -> Iterator[int]:
    """A server on loopback that gives one answer; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("security", "status", "body", "code", "says"),
    [
        ("none", 200, SCRAPE, 0, "wattspan_node_energy_joules_total "),
        ("none", 401, "", 0, "wants a password"),
        ("none", 200, "# another exporter\n", 1, "not as wattspan does"),
        ("none", 503, "", 1, "503"),
        ("clientCertificates", 200, "", 0, "is open"),
    ],
)
def test_the_scrape_of_helm_test(security: str, status: int, body: str, code: int, says: str) -> None:
    """The script as it is rendered succeeds where a daemon answers, and fails where none does."""
    (pod,) = of_kind(render(), "Pod")
    doctor, scrape = pod["spec"]["containers"]
    assert doctor["args"][0] == "doctor"
    _, _, script = scrape["command"]
    assert {each["name"]: each["value"] for each in scrape["env"]} == {
        "HOST": "wattspan.wattspan.svc", "PORT": "9746", "SECURITY": "none",
    }  # fmt: skip
    with answering(status, body) as port:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", "import time; time.sleep = lambda _: None\n" + script],
            env={"HOST": "127.0.0.1", "PORT": str(port), "SECURITY": security},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout


def test_the_pod_of_helm_test_is_a_test() -> None:
    """A hook, which an upgrade does not wait for."""
    (pod,) = of_kind(render(), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["restartPolicy"] == "Never"


def test_what_an_upgrade_changes_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """The values of the version before, rendered now: each difference to what it rendered is on a list.

    No version was released before 0.1.0, so the one baseline is 0.1.0 itself, and its list is empty.
    """
    for folder in BASELINE.iterdir():
        values = json.loads((folder / "values.json").read_text(encoding="utf-8"))
        before = json.loads((folder / "objects.json").read_text(encoding="utf-8"))
        lines = (folder / "changes.txt").read_text(encoding="utf-8").splitlines()
        known = [line.partition("  # ")[0] for line in lines]
        found = changes(before, render(values))
        with capsys.disabled():
            print(f"\nhelm: {len(found)} changes since {folder.name}", *found, sep="\n  ", file=sys.stderr)
        assert found == known


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"image": {"tag": "0.2.0"}}, "DaemonSet wattspan: /spec/template/spec/containers/0/image"),
        ({"pods": "none"}, "ClusterRole wattspan-wattspan: gone"),
        ({"networkPolicy": {"enabled": True}}, "NetworkPolicy wattspan: new"),
        ({"nameOverride": "energy"},
         "DaemonSet wattspan: /spec/selector cannot be changed: helm upgrade fails"),
    ],
)  # fmt: skip
def test_a_change_is_listed(change: Any, line: str) -> None:
    """What is new, gone or other is named, and what a cluster would refuse is called that."""
    values = {"fullnameOverride": "wattspan"}
    assert line in changes(render(values), render({**values, **change}))
    assert changes(render(values), render(values)) == []
