"""What runs without Grafana, and with which arguments."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards.stack import grid_day
from dashboards.stack.running import Part
from dashboards.stack.where import LOOPBACK, program

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]

NODE: Final = "gpu-1"
GET_PROMETHEUS: Final = "apt-get install prometheus, or https://prometheus.io/download/"
GET_ALERTMANAGER: Final = "apt-get install prometheus-alertmanager, or https://prometheus.io/download/"


def demo_flags(grid: str) -> tuple[str, ...]:
    """What the demo is told so that every panel has something to show: faults, a live grid, prices, embodied.

    Args:
        grid: path of the file that `grid_day` writes.
    """
    return (
        "--faults",
        *("--node.name", NODE, "--cluster.name", "demo"),
        *("--grid.zone", "FR", "--grid.providers", "file", "--grid.file.path", grid),
        *("--grid.pue", "1.2", "--grid.market-intensity", "12", "--grid.wue", "1.8"),
        *("--cost.price-per-kwh", "0.2", "--cost.currency", "EUR"),
        *("--embodied.gpu-kg", "150", "--embodied.host-kg", "1200"),
    )


def parts(folder: Path, ports: Mapping[str, int], budgets_port: int) -> list[Part]:
    """In the order in which they start.

    Args:
        folder: absolute; for states and configurations.
        ports: by part.
        budgets_port: of the stand-in for the hub.

    Raises:
        MissingError: a program is.
    """
    # Alertmanager's name in Debian is the second one.
    prometheus = program("prometheus", get=GET_PROMETHEUS)
    alertmanager = program("alertmanager", "prometheus-alertmanager", get=GET_ALERTMANAGER)
    at = {part: f"{LOOPBACK}:{port}" for part, port in ports.items()}
    grid = grid_day.write(folder / "grid.json", "FR")
    config = folder / "prometheus.yml"
    config.write_text(prometheus_config(at["exporter"], f"{LOOPBACK}:{budgets_port}", at))
    return [
        Part(
            "exporter",
            (
                *(sys.executable, "-m", "wattspan", "demo", *demo_flags(str(grid))),
                *("--web.listen-address", at["exporter"], "--state.dir", str(folder / "exporter")),
            ),
            f"http://{at['exporter']}/",
            "/-/ready",
            "the exporter, with simulated GPUs",
        ),
        Part(
            "budgets",
            (sys.executable, "-m", "dashboards.stack.budgets", "--listen", f"{LOOPBACK}:{budgets_port}"),
            f"http://{LOOPBACK}:{budgets_port}/metrics",
            "",
            "budgets, as a hub will publish them",
            environment={"PYTHONPATH": str(ROOT)},
        ),
        Part(
            "alertmanager",
            (
                alertmanager,
                f"--config.file={ROOT / 'alerts/alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={at['alertmanager']}",
                "--cluster.listen-address=",
            ),
            f"http://{at['alertmanager']}/",
            "/-/ready",
            "alerts by who is told of them",
        ),
        Part(
            "prometheus",
            (
                prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={at['prometheus']}",
                "--enable-feature=exemplar-storage",
            ),
            f"http://{at['prometheus']}/",
            "/-/ready",
            "metrics; rules and alerts under /alerts",
        ),
    ]


def prometheus_config(exporter: str, budgets: str, at: Mapping[str, str]) -> str:
    """`prometheus.yml` of this folder, which compose uses as it is, with the addresses of here."""
    addresses = {
        "exporter:9746": exporter,
        "budgets:9747": budgets,
        "localhost:9090": at["prometheus"],
        "alertmanager:9093": at["alertmanager"],
    }
    config: dict[str, Any] = yaml.safe_load((HERE / "prometheus.yml").read_text("utf-8"))
    config["rule_files"] = [str((HERE / pattern).resolve()) for pattern in config["rule_files"]]
    groups = [group for job in config["scrape_configs"] for group in job["static_configs"]]
    groups += [
        group for manager in config["alerting"]["alertmanagers"] for group in manager["static_configs"]
    ]
    for group in groups:
        group["targets"] = [addresses[target] for target in group["targets"]]
    text: str = yaml.safe_dump(config, sort_keys=False)
    return text
