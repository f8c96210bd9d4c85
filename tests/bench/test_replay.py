"""The replayed day, shortened."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.real_parts import need


def test_a_replayed_quarter_of_an_hour_is_exact_and_flat() -> None:
    """Energy equals the scenario's integral, shares add up to it, and memory does not grow."""
    need("a C compiler", shutil.which("cc") is not None)
    replay = subprocess.run(
        [sys.executable, "-m", "tests.bench.replay_24h", "--hours", "0.25"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert replay.returncode == 0, replay.stdout + replay.stderr
    assert "900 ticks" in replay.stdout
