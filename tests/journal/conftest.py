"""What the journal's tests share: a state folder, and a daemon in a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wattspan.journal import Journal, Restored

CHILD = Path(__file__).with_name("daemon_process.py")

Start = Callable[..., "subprocess.Popen[str]"]


def restored(state: Path, boot_id: str) -> Restored:
    """What a daemon finds that starts and is killed at once."""
    journal = Journal.open(state, boot_id)
    journal.close(clean=False)
    return journal.restored


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `daemon_process.py`; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*before, sys.executable, "-W", "error", str(CHILD), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
