"""What all tests share: real parts that may be missing, and when that is a failure."""

import os

import pytest


def need(part: str, there: bool) -> None:
    """Skip a test whose real part cannot be had, naming it; in CI that is a failure."""
    if there:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{part} is missing, and CI has to have it", pytrace=False)
    pytest.skip(f"{part} is not installed here")
