"""The README's quick start, as a newcomer would follow it: the demo, a real Prometheus, and its queries."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.docs import markdown
from tests.docs.generate import README
from tests.e2e.daemon import Daemon
from tests.e2e.prometheus import free_port
from tests.real_parts import need

PAGE = README.read_text(encoding="utf-8")
PATIENCE_S = 60.0


@contextmanager
def prometheus(folder: Path, configuration: str) -> Iterator[str]:
    """The real server with this configuration; gives its address."""
    need("prometheus", shutil.which("prometheus") is not None)
    file = folder / "prometheus.yml"
    file.write_text(configuration)
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(20)


def answer(address: str, query: str) -> list[dict[str, Any]]:
    """An instant query's vector; empty while the server is still starting."""
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            vector: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return vector
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
            pytest.fail(f"{query}: {error.read().decode()}")
    except urllib.error.URLError:
        pass
    return []


def above_zero(address: str, query: str) -> list[dict[str, Any]]:
    """The answer once it is there and nothing in it is 0."""
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        vector = answer(address, query)
        if vector and all(float(series["value"][1]) > 0 for series in vector):
            return vector
        time.sleep(0.2)
    pytest.fail(f"no answer above zero: {query}")


def test_the_queries_answer_with_the_configuration_that_is_shown(tmp_path: Path) -> None:
    """Power, energy and grams come from the demo through the scrape configuration, by the node's name."""
    configuration = next(text for text in markdown.blocks(PAGE, "yaml") if text.startswith("scrape_configs:"))
    nodes, runs = markdown.blocks(PAGE, "promql")
    with Daemon(None, tmp_path / "state", command=("demo", "--gpus", "2")) as daemon:
        daemon.wait_ready()
        faster = configuration.replace("127.0.0.1:9746", f"127.0.0.1:{daemon.port}").replace("15s", "1s")
        with prometheus(tmp_path, faster) as address:
            power, energy, grams = (above_zero(address, query) for query in nodes.split("\n\n"))
            of_projects, of_tokens, of_owners = (above_zero(address, query) for query in runs.split("\n\n"))
    assert [series["metric"] for series in (*power, *energy)] == 2 * [{"instance": "127.0.0.1"}]
    assert {series["metric"]["gpu"] for series in grams} == {"0", "1"}
    assert {series["metric"]["instance"] for series in grams} == {"127.0.0.1"}
    assert [series["metric"] for series in of_projects] == [{"project": "assistant"}]
    assert [series["metric"].keys() for series in of_tokens] == [{"run_id"}]
    assert [series["metric"] for series in of_owners] == [{"pod_namespace": "nlp", "project": "assistant"}]


def test_the_run_that_is_shown_is_a_run(tmp_path: Path) -> None:
    """The lines for a training script make a run with its name, its phases and its progress."""
    (script,) = (text for text in markdown.blocks(PAGE, "python") if "range(2)" in text)
    file = tmp_path / "train.py"
    file.write_text(script)
    with Daemon(None, tmp_path / "state", command=("demo", "--gpus", "1")) as daemon:
        daemon.wait_ready()
        environment = {**os.environ, "WATTSPAN_SOCKET": str(daemon.socket_path)}
        told = subprocess.run(
            [sys.executable, file], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        runs = json.loads(daemon.get("/api/v1/runs?project=nlp").text)["runs"]
    assert told.stderr == ""
    assert "(success)" in told.stdout
    (run,) = runs
    assert (run["run_name"], run["group"], run["result"]) == ("llama-sft", "sweep-7", "success")
    assert (run["progress"]["steps"], run["progress"]["ratio"]) == (60, 1.0)
