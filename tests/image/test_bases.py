"""`make bases`: the base images' digests, as a registry would tell them."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.image.clean_root import DOCKERFILE

SCRIPT: Final = DOCKERFILE.with_name("pin-bases")
DIGESTS: Final = {"trixie": f"sha256:{'a' * 64}", "nonroot": f"sha256:{'b' * 64}"}


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    """A copy of the Dockerfile, and a `docker` that knows two digests and says how it was asked."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    known = "".join(f"*{word}*) echo {digest} ;;\n" for word, digest in DIGESTS.items())
    docker.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n'
        f'[ ! -e {tmp_path}/silent ] || exit 0\ncase "$*" in {known}esac\n'
    )
    docker.chmod(0o755)
    return Path(shutil.copy(DOCKERFILE, tmp_path))


def pinned(file: Path) -> subprocess.CompletedProcess[str]:
    """Run the script on a copy."""
    path = f"{file.parent}/bin:{os.environ['PATH']}"
    return subprocess.run(
        [str(SCRIPT), str(file)], env={"PATH": path}, capture_output=True, text=True, timeout=30, check=False
    )


def test_both_bases_are_pinned_and_again(pin: Path) -> None:
    """Tag and digest stand side by side, so a second time asks for the tag again; nothing else changes."""
    before = pin.read_text()
    for _ in range(2):
        done = pinned(pin)
        assert done.returncode == 0, done.stderr
    after = pin.read_text()
    assert f"\nARG BUILDER=debian:trixie-slim@{DIGESTS['trixie']}\n" in after
    assert f"\nARG BASE=gcr.io/distroless/python3-debian13:nonroot@{DIGESTS['nonroot']}\n" in after
    others = [line for line in after.splitlines() if "@sha256:" not in line]
    assert len(before.splitlines()) - len(others) == len(DIGESTS)
    assert set(others) <= set(before.splitlines())
    asked = (pin.parent / "asked").read_text().splitlines()
    assert len(asked) == 4
    assert not [line for line in asked if "@" in line]


def test_an_answer_that_is_no_digest_changes_nothing(pin: Path) -> None:
    """Where the registry says something else the script fails and names the image."""
    before = pin.read_text()
    (pin.parent / "silent").touch()
    done = pinned(pin)
    assert done.returncode == 1
    assert "debian:trixie-slim: no digest" in done.stderr
    assert pin.read_text() == before
