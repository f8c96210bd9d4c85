"""What all tests share: real parts that may be missing, and what another user needs."""

import os
import tempfile
from pathlib import Path

import pytest


def need(part: str, there: bool) -> None:
    """Skip a test whose real part cannot be had, naming it; in CI that is a failure."""
    if there:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{part} is missing, and CI has to have it", pytrace=False)
    pytest.skip(f"{part} is not installed here")


def open_to_all(folder: Path) -> None:
    """Let other users go into a test's folder, which pytest keeps to its own."""
    for one in (folder, *folder.parents):
        if one == Path(tempfile.gettempdir()):
            return
        one.chmod(0o755)
