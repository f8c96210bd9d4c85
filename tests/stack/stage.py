"""The stack as somebody starts it, on ports of its own and with only those programs that a test wants."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.e2e.prometheus import free_port
from tests.real_parts import need

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = ("exporter", "prometheus", "alertmanager", "grafana")
PATIENCE_S: Final = 90.0

FAKE_GRAFANA: Final = """#!{python}
# Answers as Grafana does when it is ready, and writes down what it was given.
import http.server, json, os, sys
if "info" in sys.argv[1:2]:
    sys.exit({info})
words = sys.argv[1:]
given = dict(word.split("=", 1) for word in words if word.startswith(("GF_", "STACK_")))
with open({record!r}, "w") as out:
    json.dump({{"argv": words, "env": given or dict(os.environ)}}, out)
port = int((given or os.environ)["GF_SERVER_HTTP_PORT"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def programs(folder: Path, names: Iterable[str]) -> Path:
    """A folder for PATH with only these real programs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = shutil.which(name)
        need(name, path is not None)
        assert path is not None
        (folder / name).symlink_to(path)
    return folder


def real_programs(folder: Path) -> Path:
    """What the stack needs, and no Grafana."""
    # Debian calls it by the second name.
    manager = "alertmanager" if shutil.which("alertmanager") else "prometheus-alertmanager"
    extra = ("setpriv",) if shutil.which("setpriv") else ()
    return programs(folder, ("prometheus", manager, *extra))


def fake_grafana(path: Path, record: Path, *, info: int = 0) -> None:
    """A program that passes for Grafana, or for an engine that starts its container.

    Args:
        record: JSON file for what it was given.
        info: exit code of ``info``, by which an engine says that it does not run.
    """
    path.write_text(FAKE_GRAFANA.format(python=sys.executable, record=str(record), info=info))
    path.chmod(0o755)


class Stage:
    """``python -m dashboards.stack``, started on entry and ended on exit."""

    def __init__(self, folder: Path, path: Path, *words: str, ports: bool = True) -> None:
        self._said = folder / "said"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.ports = {part: free_port() for part in PARTS}
        flags = [f"--{part}.port={port}" for part, port in self.ports.items()] if ports else []
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dashboards.stack", *flags, *words],
                cwd=ROOT,
                env={
                    "PATH": str(path),
                    "HOME": str(folder),
                    "TMPDIR": str(self.temporary),
                    "PYTHONWARNINGS": "error",
                    "WATTSPAN_GRID_CLOUD_METADATA": "off",
                },
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)

    @property
    def said(self) -> str:
        """Everything that it has printed."""
        return self._said.read_text()

    def until_said(self, pattern: str) -> re.Match[str]:
        """Wait for words."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            ended = self.process.poll()
            if found := re.search(pattern, self.said):
                return found
            assert ended is None, f"it ended with {ended}:\n{self.said}"
            time.sleep(0.1)
        raise AssertionError(f"it does not say {pattern!r}:\n{self.said}")

    def ended(self) -> int:
        """Wait for its end; gives the exit code."""
        return self.process.wait(PATIENCE_S)

    def children(self) -> dict[str, int]:
        """Pids of its parts by the word that tells them apart."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if any(f"127.0.0.1:{port}" in word for port in self.ports.values() for word in words):
                found[_kind(words)] = int(entry.name)
        found.pop("stack", None)
        return found


def _kind(words: list[str]) -> str:
    if "dashboards.stack" in words:
        return "stack"
    return "exporter" if "wattspan" in words else Path(words[0]).name.removeprefix("prometheus-")


@contextmanager
def staged(folder: Path, path: Path, *words: str) -> Iterator[Stage]:
    """A stack that has told where everything is."""
    with Stage(folder, path, *words) as stage:
        stage.until_said(r"Ctrl-C ends everything")
        yield stage


def is_alive(pid: int) -> bool:
    """Whether a process is there; what has ended and was not waited for is not."""
    try:
        return os.readlink(f"/proc/{pid}/exe") != ""
    except OSError:
        return False
