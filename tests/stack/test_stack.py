"""`make stack`: everything starts, ends together, and says what is missing."""

import json
import os
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.stack import grafana, where
from tests.real_parts import need
from tests.stack.stage import ROOT, Stage, fake_grafana, is_alive, real_programs, staged


def get(url: str) -> Any:
    """A JSON answer of one of the parts."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def until(url: str, member: str, condition: Any) -> Any:
    """Ask until the answer's data satisfies."""
    give_up_s = time.monotonic() + 60
    while True:
        found = get(url)["data"][member]
        if condition(found) or time.monotonic() > give_up_s:
            return found
        time.sleep(0.3)


def gone(pids: dict[str, int]) -> list[str]:
    """Which of the parts still run a moment later."""
    give_up_s = time.monotonic() + 20
    while time.monotonic() < give_up_s and any(is_alive(pid) for pid in pids.values()):
        time.sleep(0.1)
    return [name for name, pid in pids.items() if is_alive(pid)]


@pytest.mark.slow
def test_everything_starts_knows_of_each_other_and_ends(tmp_path: Path) -> None:
    """Targets are up, every rule is loaded, alerts reach Alertmanager; after Ctrl-C nothing is left."""
    with staged(tmp_path, real_programs(tmp_path / "bin")) as stage:
        prometheus = f"http://127.0.0.1:{stage.ports['prometheus']}"
        for part in ("exporter", "prometheus", "alertmanager"):
            assert f"http://127.0.0.1:{stage.ports[part]}/" in stage.said
        targets = until(
            f"{prometheus}/api/v1/targets",
            "activeTargets",
            lambda found: len(found) == 3 and all(target["health"] == "up" for target in found),
        )
        assert {(t["labels"]["job"], t["health"]) for t in targets} == {
            ("wattspan", "up"),
            ("wattspan-hub", "up"),
            ("prometheus", "up"),
        }
        files = list((ROOT / "alerts/rules").glob("*.yaml"))
        written = [g["name"] for file in files for g in yaml.safe_load(file.read_text())["groups"]]
        loaded = [group["name"] for group in get(f"{prometheus}/api/v1/rules")["data"]["groups"]]
        assert sorted(loaded) == sorted(written)
        assert "storage" in get(f"{prometheus}/api/v1/status/flags")["data"]["enable-feature"]
        until(f"{prometheus}/api/v1/alertmanagers", "activeAlertmanagers", len)
        power = f"{prometheus}/api/v1/query?query=sum(wattspan_node_power_watts)"
        (row,) = until(power, "result", len)
        assert float(row["value"][1]) > 0
        (budget,) = until(f"{prometheus}/api/v1/query?query=count(wattspan_budget_co2e_grams)", "result", len)
        assert float(budget["value"][1]) > 1
        pids = stage.children()
        assert {"exporter", "prometheus", "alertmanager"} <= set(pids)
        stage.process.send_signal(signal.SIGINT)
        assert stage.ended() == 0
        assert gone(pids) == []
        assert list(stage.temporary.iterdir()) == []


@pytest.mark.slow
def test_when_a_part_dies_all_end_and_it_is_named_with_its_last_lines(tmp_path: Path) -> None:
    """The exit code is 1; states and logs stay where --data says."""
    kept = tmp_path / "kept"
    with staged(tmp_path, real_programs(tmp_path / "bin"), "--data", str(kept)) as stage:
        pids = stage.children()
        os.kill(pids["prometheus"], signal.SIGKILL)
        assert stage.ended() == 1
        assert "prometheus was killed by signal 9; its last lines:" in stage.said
        assert "Server is ready to receive web requests" in stage.said
        assert gone(pids) == []
    assert (kept / "logs/exporter.log").stat().st_size > 0


@pytest.mark.slow
def test_a_stack_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    """Not even SIGKILL to it alone does, where the kernel can tell its parts."""
    need("setpriv", shutil.which("setpriv") is not None)
    with staged(tmp_path, real_programs(tmp_path / "bin")) as stage:
        pids = stage.children()
        stage.process.kill()
        stage.ended()
        assert gone(pids) == []


@pytest.mark.slow
def test_a_part_that_never_gets_ready_is_named(tmp_path: Path) -> None:
    """A Prometheus that refuses its start ends all, with what it said."""
    path = real_programs(tmp_path / "bin")
    (path / "prometheus").unlink()
    (path / "prometheus").write_text("#!/bin/sh\necho it does not like this >&2\nexit 3\n")
    (path / "prometheus").chmod(0o755)
    with Stage(tmp_path, path) as stage:
        assert stage.ended() == 1
        pids = stage.children()
    assert "prometheus ended with 3; its last lines:\n    it does not like this" in stage.said
    assert pids == {}


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """A port that was asked for is taken or nothing starts."""
    path = real_programs(tmp_path / "bin")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with Stage(tmp_path, path, f"--prometheus.port={port}") as stage:
            assert stage.ended() == 3
    assert f"port {port} is in use" in stage.said


def test_a_usual_port_in_use_makes_room() -> None:
    """Without a wish the first free port after the usual one is taken, and none is given out twice."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        usual = busy.getsockname()[1]
        taken: set[int] = set()
        first = where.free_port(None, usual, taken)
        second = where.free_port(None, usual, taken)
    assert usual < first < second
    assert taken == {first, second}


def test_a_missing_program_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    """Without Prometheus there is nothing to see, so nothing starts."""
    path = real_programs(tmp_path / "bin")
    (path / "prometheus").unlink()
    with Stage(tmp_path, path) as stage:
        assert stage.ended() == 3
    assert "prometheus is not installed: apt-get install prometheus" in stage.said


@pytest.mark.slow
@pytest.mark.parametrize("engine", [False, True], ids=["no engine", "an engine that does not run"])
def test_without_grafana_one_line_says_what_is_missing(tmp_path: Path, *, engine: bool) -> None:
    """And everything else is served."""
    path = real_programs(tmp_path / "bin")
    if engine:
        fake_grafana(path / "docker", tmp_path / "never.json", info=1)
    with staged(tmp_path, path) as stage:
        (line,) = (line for line in stage.said.splitlines() if line.startswith("grafana"))
        why = "docker is here but does not run" if engine else "no container engine is here"
        assert f"not started: there is no grafana program, and {why}; install Grafana" in line
        assert get(f"http://127.0.0.1:{stage.ports['prometheus']}/api/v1/targets")["status"] == "success"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["grafana", "grafana-server", "docker", "podman"])
def test_grafana_is_started_with_everything_provisioned(tmp_path: Path, how: str) -> None:
    """As a program or in a container it gets the data sources, the dashboards and no login."""
    path, record = real_programs(tmp_path / "bin"), tmp_path / "given.json"
    fake_grafana(path / how, record)
    with staged(tmp_path, path) as stage:
        port = stage.ports["grafana"]
        assert f"http://127.0.0.1:{port}/" in stage.said
        given = json.loads(record.read_text())
        prometheus = f"http://127.0.0.1:{stage.ports['prometheus']}"
    words, env = given["argv"], given["env"]
    assert env["STACK_PROMETHEUS_URL"] == prometheus
    assert env["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert env["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    if how in ("docker", "podman"):
        assert words[:2] == ["run", "--rm"]
        assert words[-1] == grafana.IMAGE
        mounts = dict(w.removesuffix(":ro").split(":") for w in words if w.endswith(":ro"))
        assert mounts == {
            str(ROOT / "dashboards"): env["STACK_DASHBOARDS"],
            str(grafana.PROVISIONING): env["GF_PATHS_PROVISIONING"],
        }
    else:
        assert words[:1] == (["server"] if how == "grafana" else [])
        assert Path(env["STACK_DASHBOARDS"]) == ROOT / "dashboards"
        assert Path(env["GF_PATHS_PROVISIONING"]) == grafana.PROVISIONING
        assert Path(env["GF_PATHS_DATA"]).is_relative_to(stage.temporary)


def test_where_grafana_keeps_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an unpacked archive it is the folder above bin, also behind a link."""
    home = tmp_path / "grafana-13"
    (home / "conf").mkdir(parents=True)
    (home / "conf/defaults.ini").touch()
    (home / "bin").mkdir()
    fake_grafana(home / "bin/grafana", tmp_path / "never.json")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/grafana").symlink_to(home / "bin/grafana")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found, missing = grafana.find()
    assert (missing, found is not None) == ("", True)
    assert found is not None
    part = grafana.part(found, tmp_path, dict.fromkeys(("prometheus", "alertmanager", "grafana"), 1))
    assert part.argv[1:] == ("server", "--homepath", str(home))
