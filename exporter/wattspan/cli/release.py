"""``wattspan release``: have the daemon give up its GPU handles, so that a driver can be reset or upgraded.

The request is the file ``release`` in the state folder, then SIGUSR1 to the daemon, whose pid is in ``lock``.
The daemon removes the request when it has read it, and keeps the file ``released`` while it holds no handles.
Both hold ``{"until": seconds since the epoch}``, the answer also ``sources``: those that could hold handles.
"""

import argparse
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wattspan.cli.near import argument
from wattspan.cli.settings import Loaded
from wattspan.config import duration
from wattspan.errors import UnreachableError
from wattspan.units import NS_PER_S

NAME: Final = "release"
HELP: Final = "Have the daemon on this node give up its GPU handles for a while."
USAGE: Final = "release [--for DURATION] [flags]"

DEFAULT: Final = "10m"
"""As long as the daemon stays away after a bare SIGUSR1."""

PATIENCE_S: Final = 10.0
"""A call into a driver that is busy may take seconds; the daemon lets go when it returns."""

_POLL_S: Final = 0.05
_FOR: Final = duration("0s", "7d")


def declare(parser: argparse.ArgumentParser) -> None:
    """For how long."""
    parser.add_argument(
        "--for",
        dest="for_ns",
        type=argument(_FOR),
        default=_FOR.parse(DEFAULT),
        metavar="DURATION",
        help=f"How long; 0s has the handles taken up again at once. Default: {DEFAULT}.",
    )


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Ask, and wait until the daemon has answered."""
    state_dir = loaded.config.state_dir
    pid = _daemon(state_dir)
    until_s = time.time() + args.for_ns / NS_PER_S
    request, answer = state_dir / "release", state_dir / "released"
    _write(request, until_s)
    _signal(pid)
    if not args.for_ns:
        _await(lambda: not request.exists() and _read(answer) is None)
        print(f"handles taken up again (daemon pid {pid})")
        return 0
    _await(lambda: _until(answer, until_s))
    told = _read(answer)
    if told is not None and not told[1]:
        print(f"nothing to release: the daemon meters no real GPU, as in a demo (daemon pid {pid})")
        return 0
    until = datetime.fromtimestamp(until_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    print(f"handles released until {until} (daemon pid {pid}); sooner with: wattspan release --for 0s")
    return 0


def _daemon(state_dir: Path) -> int:
    """The pid of the daemon on this state folder, made sure to be one.

    Raises:
        UnreachableError: there is none, or none that a signal from here would reach.
    """
    from wattspan.journal.folder import DEMO, holder

    pid = holder(state_dir)
    if pid is None:
        demo = holder(state_dir / DEMO)
        but = "name its folder with --state.dir" if demo is None else f"pid {demo} is a demo, without handles"
        raise UnreachableError(f"no daemon runs on state folder {state_dir}; {but}")
    # The text of the lock is a pid in the daemon's own namespace. Seen from outside its container the same
    # number is a stranger, whom SIGUSR1 would kill; only the daemon has this very file open.
    if not _has_open(pid, state_dir / "lock"):
        raise UnreachableError(
            f"the daemon on state folder {state_dir} calls itself pid {pid}, which is not it from here: "
            "run this as the daemon's user (or root), and inside its container if it has one"
        )
    return pid


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGUSR1)
    except OSError as error:
        raise UnreachableError(f"the daemon, pid {pid}, cannot be signalled: {error.strerror}") from error


def _has_open(pid: int, path: Path) -> bool:
    try:
        ours = path.stat()
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(_is(f"/proc/{pid}/fd/{name}", ours) for name in descriptors)


def _is(link: str, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(link), file)
    except OSError:  # closed in the meantime
        return False


def _write(path: Path, until_s: float) -> None:
    """Appears whole or not at all. Readable by all: the daemon may be another user than root, who asks."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps({"until": until_s}))
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise UnreachableError(
            f"cannot write {path} ({error.strerror}): run this as the daemon's user or root"
        ) from error


def _await(answered: Callable[[], bool]) -> None:
    """Wait for the daemon.

    Raises:
        UnreachableError: it did not answer. The request stays: the daemon has the signal and will come to it.
    """
    give_up_s = time.monotonic() + PATIENCE_S
    while not answered():
        if time.monotonic() > give_up_s:
            raise UnreachableError(
                f"the daemon has not confirmed within {PATIENCE_S:g} s;"
                " a call into the driver may hang: see the daemon's log"
            )
        time.sleep(_POLL_S)


def _until(answer: Path, until_s: float) -> bool:
    """Whether the daemon says that it stays away until then, give or take its own rounding."""
    told = _read(answer)
    return told is not None and abs(told[0] - until_s) < 1


def _read(path: Path) -> tuple[float, Sequence[str]] | None:
    """The moment and the sources in the file; None without one, or when it says nothing that makes sense."""
    try:
        told = json.loads(path.read_text())
        return float(told["until"]), list(told["sources"])
    except (OSError, ValueError, TypeError, LookupError):
        return None
