"""The real Prometheus, on loopback, in a folder of its own."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.real_parts import need

Series = dict[str, str]


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Prometheus:
    """A Prometheus server that scrapes every second.

    Args:
        folder: for its configuration and its data.
        node: the name that `instance` is relabelled to, as in the README.
        scrape: further keys of the scrape configuration, as YAML lines.
        jobs: whole scrape configurations instead, as a YAML list, with a discovery of their own.
    """

    def __init__(self, folder: Path, node: str = "", scrape: str = "", jobs: str = "") -> None:
        need("prometheus", shutil.which("prometheus") is not None)
        self._folder = folder
        self._targets = folder / "targets.json"
        self._port = free_port()
        self._targets.write_text("[]")
        config = folder / "prometheus.yml"
        of_a_node = (
            "  - job_name: wattspan\n"
            f"    file_sd_configs: [{{files: ['{self._targets}'], refresh_interval: 1s}}]\n"
            "    relabel_configs:\n"
            f"      - {{target_label: instance, replacement: {node}}}\n"
            "      - {source_labels: [__node__], regex: (.+), target_label: instance}\n" + scrape
        )
        config.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n" + (jobs or of_a_node)
        )
        subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._wait_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def target(self, address: str) -> None:
        """Scrape this address from now on, and no other."""
        self._scrape([{"targets": [address]}])

    def nodes(self, addresses: Mapping[str, str]) -> None:
        """Scrape these nodes from now on; addresses by the name that each node's `instance` is to be."""
        self._scrape(
            [{"targets": [address], "labels": {"__node__": node}} for node, address in addresses.items()]
        )

    def query(self, expression: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """An instant query's result vector or matrix; as of now, when no scrape is late.

        On a busy machine a scrape may time out, and an instant query then takes the target's series for gone.
        """
        while at_s is None:
            now_s = time.time()
            if self._query("up == 0 and max_over_time(up[5s]) == 1", now_s):
                time.sleep(0.2)
            else:
                at_s = now_s
        return self._query(expression, at_s)

    def value(self, expression: str, at_s: float | None = None) -> float:
        """The value of an expression that has just one."""
        result = self.query(expression, at_s)
        assert len(result) == 1, (expression, result)
        return float(result[0]["value"][1])

    def samples(
        self, selector: str, window: str
    ) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
        """Raw samples of the last `window`, by label set: (scrape time, value)."""
        return {
            tuple(sorted(series["metric"].items())): [(float(t), float(v)) for t, v in series["values"]]
            for series in self.query(f"{selector}[{window}]")
        }

    def exemplars(
        self, selector: str, seconds: float
    ) -> dict[tuple[tuple[str, str], ...], list[dict[str, Any]]]:
        """Exemplars that were stored for the last `seconds`, by label set."""
        now_s = time.time()
        parameters = {"query": selector, "start": f"{now_s - seconds:.3f}", "end": f"{now_s:.3f}"}
        answer = self._get(f"/api/v1/query_exemplars?{urllib.parse.urlencode(parameters)}")
        return {tuple(sorted(found["seriesLabels"].items())): found["exemplars"] for found in answer["data"]}

    def rules(self) -> list[dict[str, Any]]:
        """Its rules, with their health and what they took, once each of them was evaluated."""
        give_up = time.monotonic() + 30
        while True:
            found = [
                rule for group in self._get("/api/v1/rules")["data"]["groups"] for rule in group["rules"]
            ]
            if all(rule["health"] != "unknown" for rule in found) or time.monotonic() > give_up:
                return found
            time.sleep(0.2)

    def counters(self, window: str) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
        """Raw samples of everything of ours that must never go back, histograms included."""
        return self.samples('{__name__=~"wattspan_.+_(total|bucket|count|sum)"}', window)

    def wait_for(self, expression: str, seconds: float = 30) -> float:
        """Wait until an expression has a value that is not 0."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            result = self._query(expression, time.time())
            if result and float(result[0]["value"][1]) != 0:
                return float(result[0]["value"][1])
            time.sleep(0.2)
        raise AssertionError(f"{expression} has no value; targets: {self._get('/api/v1/targets')}")

    def _query(self, expression: str, at_s: float) -> list[dict[str, Any]]:
        parameters = {"query": expression, "time": f"{at_s:.3f}"}
        answer = self._get(f"/api/v1/query?{urllib.parse.urlencode(parameters)}")
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def _scrape(self, groups: list[dict[str, Any]]) -> None:
        part = self._targets.with_suffix(".part")
        part.write_text(json.dumps(groups))
        part.replace(self._targets)

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=30) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def _wait_ready(self) -> None:
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                assert self._process.poll() is None, "prometheus ended"
                time.sleep(0.1)
        raise AssertionError("prometheus is not ready")
