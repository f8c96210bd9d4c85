"""What the Fleet dashboard says of nodes in trouble, judged by promtool."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.dashboards.boards import load, panels
from tests.real_parts import need


def up(node: str, value: int) -> dict[str, str]:
    return {f'up{{job="wattspan",instance="{node}"}}': f"{value}x5"}


def gpu(node: str, number: int, value: int) -> dict[str, str]:
    return {f'wattspan_gpu_up{{job="wattspan",instance="{node}",uuid="{node}-{number}"}}': f"{value}x5"}


def source(node: str, name: str, value: int) -> dict[str, str]:
    return {f'wattspan_source_up{{job="wattspan",instance="{node}",source="{name}"}}': f"{value}x5"}


def missing(node: str, count: int) -> dict[str, str]:
    return {f'node:wattspan_gpus_missing:count{{instance="{node}"}}': f"{count}x5"}


FLEET: Mapping[str, str] = {
    **up("well", 1), **source("well", "nvidia", 1), **gpu("well", 0, 1), **gpu("well", 1, 1),
    **up("lost", 1), **source("lost", "nvidia", 1), **gpu("lost", 0, 0), **gpu("lost", 1, 1),
    **up("fewer", 1), **source("fewer", "nvidia", 1), **gpu("fewer", 0, 1), **missing("fewer", 3),
    **up("none", 1), **missing("none", 8),
    **up("no-driver", 1), **source("no-driver", "nvidia", 0), **source("no-driver", "rapl", 1),
    **up("silent", 0),
    **up("cpu", 1), **source("cpu", "rapl", 1),
}  # fmt: skip


@pytest.mark.parametrize(
    ("title", "letter", "said"),
    [
        (
            "Nodes",
            "A",
            {"well": 0, "lost": 1, "fewer": 3, "none": 8, "no-driver": 1, "silent": 1, "cpu": 0},
        ),
        ("GPUs lost", "A", {"": 1 + 3 + 8}),
    ],
)
def test_no_trouble_looks_well(title: str, letter: str, said: Mapping[str, int], tmp_path: Path) -> None:
    """A node that has no GPU any more, or none where some should be, is in trouble as one with a lost GPU."""
    need("promtool", shutil.which("promtool") is not None)
    panel = next(each for each in panels(load("wattspan-fleet")) if each["title"] == title)
    expr = next(each["expr"] for each in panel["targets"] if each["refId"] == letter)
    samples = [
        {"labels": f'{{instance="{node}"}}' if node else "{}", "value": value} for node, value in said.items()
    ]
    document = {
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in FLEET.items()],
                "promql_expr_test": [
                    {"expr": expr.replace("$cluster", ".*"), "eval_time": "5m", "exp_samples": samples}
                ],
            }
        ]
    }
    path = tmp_path / "trouble.yaml"
    path.write_text(yaml.safe_dump(document, width=1000))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
