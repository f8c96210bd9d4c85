"""The real Alertmanager on loopback, and the webhook that it tells."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.alerts.rule_files import ALERTS
from tests.e2e.prometheus import free_port
from tests.real_parts import need

PATIENCE_S: Final = 90.0
PROGRAMS: Final = ("prometheus-alertmanager", "alertmanager")
"""Debian calls it by the first name."""


class Webhook:
    """Listens on loopback and keeps what it is told, by the last part of the address: the receiver."""

    def __init__(self) -> None:
        told: dict[str, list[dict[str, Any]]] = {}
        self.told = told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.setdefault(self.path.strip("/"), []).append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def alerts(self, receiver: str) -> list[dict[str, Any]]:
        """Alerts that a receiver was told, in order."""
        return [alert for message in self.told.get(receiver, []) for alert in message["alerts"]]

    def wait_for(self, receiver: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a receiver was told an alert."""
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            for alert in self.alerts(receiver):
                if wanted(alert):
                    return alert
            time.sleep(0.2)
        raise AssertionError(f"{receiver} was not told; told was {self.told}")


class Alertmanager:
    """Our example of routing in a real Alertmanager, told in seconds instead of minutes.

    Args:
        folder: for its configuration and its data.
        webhook: where every receiver of the example points to.
        night: the hours of the night, as the example writes them; never, if not given.
    """

    def __init__(self, folder: Path, webhook: Webhook, night: str = "") -> None:
        [program] = [name for name in PROGRAMS if shutil.which(name)][:1] or [""]
        need("alertmanager", bool(program))
        text = (ALERTS / "alertmanager.yml").read_text()
        text = text.replace("127.0.0.1:9099", f"127.0.0.1:{webhook.port}")
        text = re.sub(r"group_wait: \w+", "group_wait: 1s", text)
        text = re.sub(r"group_interval: \w+", "group_interval: 1s", text)
        text = re.sub(r"- \{start_time: .*\}\n", "", text, count=1)
        start, end = (night or "00:00-00:01").split("-")
        text = re.sub(r"- \{start_time: .*\}", f'- {{start_time: "{start}", end_time: "{end}"}}', text)
        if not night:
            text = re.sub(r" *mute_time_intervals: .*\n", "", text)
        config = folder / "alertmanager.yml"
        config.write_text(text)
        self.port = free_port()
        self._log = (folder / "alertmanager.log").open("wb")
        self._process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1):
                    return self
            except (urllib.error.URLError, OSError):
                assert self._process.poll() is None, "alertmanager ended"
                time.sleep(0.1)
        raise AssertionError("alertmanager is not ready")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def send(self, *labels: dict[str, str]) -> None:
        """Hand it alerts as a Prometheus would."""
        body = json.dumps([{"labels": each, "annotations": {}} for each in labels]).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v2/alerts", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):
            pass

    def muted(self) -> dict[tuple[str, str], bool]:
        """Its alerts by name and severity, and whether another one mutes them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v2/alerts", timeout=10) as answer:
            return {
                (alert["labels"]["alertname"], alert["labels"]["severity"]): bool(
                    alert["status"]["inhibitedBy"]
                )
                for alert in json.load(answer)
            }
