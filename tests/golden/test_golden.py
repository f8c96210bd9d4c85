"""Each scenario's whole /metrics is what it was, or its diff is reviewed: `make golden` writes it anew."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.fakes.nvml.scenario import SCENARIOS
from tests.golden.stories import TOLD_TOGETHER
from tests.real_parts import need

GOLDENS = Path(__file__).parent
NAMES = sorted(path.stem for path in GOLDENS.glob("*.prom"))


@pytest.fixture(scope="session")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the stories yield now; with --regenerate, it becomes the golden files."""
    folder = tmp_path_factory.mktemp("golden")
    for group in range(len(TOLD_TOGETHER)):
        command = [sys.executable, "-W", "error", "-m", "tests.golden", str(group), str(folder)]
        subprocess.run(command, check=True, timeout=120)
    if request.config.getoption("--regenerate"):
        for stale in GOLDENS.glob("*.prom"):
            stale.unlink()
        for path in folder.glob("*.prom"):
            shutil.copy(path, GOLDENS)
    return folder


def samples(name: str) -> list[Sample]:
    """Every sample of a golden file."""
    text = (GOLDENS / f"{name}.prom").read_text()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_every_story_has_its_goldens(told: Path) -> None:
    """No story goes unreviewed, and no golden file outlives its story."""
    assert {path.name for path in told.glob("*.prom")} == {path.name for path in GOLDENS.glob("*.prom")}


def test_every_scenario_is_told() -> None:
    """A scenario file has a story of its name."""
    stories = {story.__name__ for together in TOLD_TOGETHER for story in together}
    assert {path.stem for path in SCENARIOS.glob("*.toml")} <= stories


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_as_reviewed(told: Path, name: str) -> None:
    """The same story gives the same text, to the last digit."""
    assert (told / f"{name}.prom").read_text() == (GOLDENS / f"{name}.prom").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_promtool_finds_nothing(name: str) -> None:
    """Prometheus's own lint has no complaint."""
    promtool = shutil.which("promtool")
    need("promtool", promtool is not None)
    assert promtool
    with (GOLDENS / f"{name}.prom").open("rb") as text:
        done = subprocess.run(
            [promtool, "check", "metrics"], stdin=text, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_shares_and_reasons_add_up(name: str) -> None:
    """Of each GPU, the shares are its energy and the reasons are its share unattributed; so is the node's."""
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for sample in samples(name):
        if match := re.fullmatch(r"wattspan_gpu_(\w*)energy_joules_total", sample.name):
            sums[sample.labels["uuid"], match[1]] += round(sample.value * 1e6)
        if sample.labels.get("share") == "unattributed":
            sums[sample.labels["uuid"], "nobody's"] += round(sample.value * 1e6)
    for uuid in {uuid for uuid, _ in sums}:
        assert sums[uuid, "attributed_"] == sums[uuid, ""], uuid
        assert sums[uuid, "unattributed_"] == sums[uuid, "nobody's"], uuid


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_that_is_down_has_no_gauges(name: str) -> None:
    """Of a GPU whose reading failed only facts and counters are left; no gauge shows 0 for it."""
    of_gpu: dict[str, set[str]] = defaultdict(set)
    down = set()
    for sample in samples(name):
        if "gpu" in sample.labels:
            of_gpu[sample.labels["uuid"]].add(sample.name)
        if sample.name == "wattspan_gpu_up" and sample.value == 0:
            down.add(sample.labels["uuid"])
    assert bool(down) == (name in {"h100x8-lost", "demo"})
    for uuid in down:
        assert of_gpu[uuid] == {"wattspan_gpu_up", "wattspan_gpu_info", "wattspan_gpu_holders"}
