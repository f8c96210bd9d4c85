"""A fleet on loopback: three demo daemons, what others export, and a Prometheus with our rules.

``python -m tests.dashboards.demo_fleet`` keeps one up, for a look at the dashboards.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import yaml

from tests.dashboards.foreign_series import ForeignSeries
from tests.e2e.prometheus import Prometheus, free_port

RULES: Final = Path(__file__).parents[2] / "alerts" / "rules"

NODES: Final[Mapping[str, tuple[str, ...]]] = {
    "gpu-1": (
        "--gpus=4", "--faults", "--cluster.name=paris", "--grid.zone=FR", "--grid.providers=file",
        "--grid.file.path={folder}/grid.json", "--grid.pue=1.2", "--grid.market-intensity=12",
        "--grid.wue=0.4", "--cost.price-per-kwh=0.2", "--cost.currency=EUR",
    ),
    "gpu-2": (
        "--gpus=8", "--cluster.name=paris", "--grid.zone=DE", "--grid.pue=1.3", "--embodied.gpu-kg=150",
        "--cost.price-per-kwh=0.31", "--cost.currency=EUR",
    ),
    "gpu-3": ("--gpus=2", "--grid.zone=SE"),
}  # fmt: skip
"""Flags by node: live figures with a forecast and a price; yearly ones with embodied carbon; little set."""

_CLUSTER: Final = (
    "      - {source_labels: [__node__], regex: 'gpu-[12]', target_label: cluster, replacement: paris}\n"
)


class DemoFleet:
    """The fleet; `prometheus` answers queries about it.

    Args:
        folder: for states, configurations and logs.
        rules: how often rules of minutes are evaluated; those of hours keep their interval.
    """

    def __init__(self, folder: Path, rules: str = "2s") -> None:
        self._folder = folder
        self._rules = rules

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            foreign = stack.enter_context(ForeignSeries())
            _write_grid(self._folder / "grid.json")
            addresses = {node: self._start(node, flags, stack) for node, flags in NODES.items()}
            self.prometheus = stack.enter_context(
                Prometheus(self._folder, "nobody", f"{_CLUSTER}{_foreign(foreign)}{self._rule_files()}")
            )
            self.prometheus.nodes(addresses)
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def _start(self, node: str, flags: tuple[str, ...], stack: ExitStack) -> str:
        address = f"127.0.0.1:{free_port()}"
        log = stack.enter_context((self._folder / f"{node}.log").open("wb"))
        daemon = subprocess.Popen(
            [
                sys.executable, "-m", "wattspan", "demo", f"--web.listen-address={address}",
                f"--node.name={node}", f"--state.dir={self._folder / node}",
                f"--socket={self._folder / node}.sock",
                *(flag.format(folder=self._folder) for flag in flags),
            ],
            stdout=log,
            stderr=log,
            # Nobody listens there: spans pend, and their failures count.
            env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        )  # fmt: skip
        stack.callback(daemon.wait, 20)
        stack.callback(daemon.send_signal, signal.SIGTERM)
        return address

    def _rule_files(self) -> str:
        """Our rules as they are, but more often: a test has no minutes to wait."""
        folder = self._folder / "rules"
        folder.mkdir()
        for path in RULES.glob("*.yaml"):
            rules = yaml.safe_load(path.read_text("utf-8"))
            for group in rules["groups"]:
                if not group.get("interval", "1m").endswith("h"):
                    group["interval"] = self._rules
            (folder / path.name).write_text(yaml.safe_dump(rules), "utf-8")
        return f"rule_files: ['{folder}/*.yaml']\n"


def _foreign(foreign: ForeignSeries) -> str:
    return (
        "  - job_name: others\n"
        "    honor_labels: true\n"
        "    metric_relabel_configs:\n"
        "      - {target_label: cluster, replacement: paris}\n"
        f"    static_configs: [{{targets: ['{foreign.address}']}}]\n"
    )


def _write_grid(path: Path) -> None:
    """Two days back and two ahead, hour by hour, with a trough at night."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    path.write_text(
        json.dumps(
            {
                "signal": "average",
                "basis": "lifecycle",
                "unit": "g/kWh",
                "zone": "FR",
                "intervals": [
                    {
                        "from": (hour + timedelta(hours=ahead)).isoformat(),
                        "until": (hour + timedelta(hours=ahead + 1)).isoformat(),
                        "grams_per_kwh": round(55 + 30 * math.sin(ahead / 12 * math.pi), 1),
                        "estimated": ahead > 0,
                    }
                    for ahead in range(-48, 49)
                ],
            }
        ),
        "utf-8",
    )


def main() -> None:
    """Until it is ended by a signal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory() as folder,
        DemoFleet(Path(folder), "1m") as fleet,
    ):
        sys.stdout.write(f"{fleet.prometheus.url}\n")
        sys.stdout.flush()
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()
