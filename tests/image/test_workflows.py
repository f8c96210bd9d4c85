"""The workflows of .github: thin, pinned, and with no more rights than each job needs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.image.clean_root import ROOT

FOLDER: Final = ROOT / ".github" / "workflows"
FILES: Final = sorted(FOLDER.glob("*.yml"))
TARGETS: Final = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WRITES: Final = {
    ("chart.yml", "publish"): {"packages", "id-token"},
    ("image.yml", "publish"): {"packages", "id-token"},
    ("release.yml", "chart"): {"packages", "id-token"},
    ("release.yml", "image"): {"packages", "id-token"},
    ("release.yml", "pypi"): {"id-token"},
}
"""Every right to write there is, by job."""

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["jobs"]
    return found


def runs(file: Path) -> list[str]:
    """What its steps run."""
    return [step["run"] for job in jobs(file).values() for step in job.get("steps", ()) if "run" in step]


def test_they_are_workflows_as_github_knows_them() -> None:
    """Each file is valid by the schema of workflows, and one with a misspelt key is not."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    answer = subprocess.run(
        [*check, *map(str, FILES)], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stdout
    wrong = FILES[0].read_text().replace("runs-on:", "run-on:")
    answer = subprocess.run(
        [*check, "-"], input=wrong, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 1, answer.stdout


@each_file
def test_every_action_is_pinned_to_a_commit(file: Path) -> None:
    """An action is a full commit with its version beside it, the same everywhere, or a workflow of ours."""
    lines = re.findall(r"uses: (.*)", file.read_text())
    assert lines
    for line in lines:
        if line.startswith("./"):
            assert (ROOT / line).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    everywhere = {line for each in FILES for line in re.findall(r"uses: ([^.].*)", each.read_text())}
    assert len({line.partition("@")[0] for line in everywhere}) == len(everywhere)


@each_file
def test_rights_are_given_by_job_and_to_write_only_to_publish(file: Path) -> None:
    """The workflow itself has no right; each job names its own, and none writes but those that publish."""
    assert yaml.safe_load(file.read_text())["permissions"] == {}
    for name, job in jobs(file).items():
        assert {right for right, kind in job["permissions"].items() if kind == "write"} == WRITES.get(
            (file.name, name), set()
        )
        assert set(job["permissions"].values()) <= {"read", "write"}


@each_file
def test_no_secret_and_no_stranger_s_text_is_in_a_script(file: Path) -> None:
    """No secret is asked for but the job's own token, and nothing of an event is pasted into a shell."""
    text = file.read_text()
    assert "secrets." not in text
    assert "pull_request_target" not in text
    assert [script for script in runs(file) if "${{" in script] == []
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


@each_file
def test_they_call_make(file: Path) -> None:
    """What they run is a target of the Makefile, or a line or two of helm and cosign."""
    for script in runs(file):
        for target in re.findall(r"\bmake (?:-s )?([a-z]+)", script):
            assert target in TARGETS
        assert re.search(r"\b(make|helm|cosign)\b", script), script
    assert "make" in " ".join(runs(file)) or file.name == "chart.yml"


def test_published_things_are_signed_and_described() -> None:
    """What is pushed is signed by digest, and the image has its bill of materials and provenance."""
    image, chart = ("\n".join(runs(FOLDER / f"{name}.yml")) for name in ("image", "chart"))
    assert "--sbom=true" in image
    assert "--provenance=mode=max" in image
    for script in (image, chart):
        assert re.search(r'cosign sign --yes .*"\$\w+.*@\$\(', script)
