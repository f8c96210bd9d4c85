"""What `doctor` looks at besides the sources. Each check reads and changes nothing."""

import ctypes
import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from wattspan.cli.grid import service_of
from wattspan.config import Config
from wattspan.errors import SetupError, UnreachableError
from wattspan.model import GridState

Mark = Literal["ok", "--", "!!"]

EXTRAS: Final = {
    "daemon": ("bcrypt", "prometheus_client", "uvicorn", "yaml"),
    "kubernetes": ("grpc",),
    "systemd": ("cysystemd",),
    "amd": ("amdsmi",),
}
"""Modules by the extra that brings them; ``daemon`` is what `wattspan serve` cannot do without."""

MIN_FREE_BYTES: Final = 100 * 1024**2
"""A journal of weeks takes a few MiB; a disk with less than this is about to stop everything on it."""

INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC
"""The inode of the host's pid namespace: PROC_PID_INIT_INO in Linux's include/linux/proc_ns.h."""

TIME_ERROR: Final = 5
"""What adjtimex(2) returns while the kernel's clock is not synchronised."""

FIRST_PLAUSIBLE_TIME_S: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""This program is younger than that."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer.

    Attributes:
        mark: ``ok`` works, ``--`` absent or not needed here, ``!!`` should be mended.
        subject: what was looked at.
        text: what was found, and how to mend it.
    """

    mark: Mark
    subject: str
    text: str


def surroundings(config: Config) -> Iterator[Finding]:
    """Everything around the sources, in the order of the printed page."""
    yield _pid_namespace()
    yield _clock()
    yield from _carbon(config)
    yield _state(config.state_dir)
    yield from _extras()
    if config.web_config_file:
        yield _web_config(config.web_config_file)
    yield from _listening(config)


def _pid_namespace() -> Finding:
    subject = "processes"
    try:
        inode = Path("/proc/self/ns/pid").stat().st_ino
    except OSError as error:
        return Finding("--", subject, f"the pid namespace cannot be read: {error.strerror}")
    if inode == INITIAL_PID_NAMESPACE:
        return Finding("ok", subject, "in the host's pid namespace: every process on a GPU can be seen")
    return Finding(
        "--",
        subject,
        "in a pid namespace of its own: processes of other containers cannot be told apart;"
        " run with the host's (Kubernetes: hostPID: true)",
    )


def _clock() -> Finding:
    now = datetime.now(UTC)
    if now.timestamp() < FIRST_PLAUSIBLE_TIME_S:
        return Finding("!!", "clock", f"the wall clock says {now:%Y-%m-%d %H:%M} UTC; set it, best by NTP")
    synchronised = _clock_synchronised()
    if synchronised is None:
        return Finding("--", "clock", "whether the wall clock is synchronised cannot be told from here")
    if not synchronised:
        return Finding(
            "!!",
            "clock",
            "the wall clock is not synchronised, so intensities and spans may be dated wrongly;"
            " run an NTP service such as chrony or systemd-timesyncd",
        )
    return Finding("ok", "clock", "the wall clock is synchronised")


def _clock_synchronised() -> bool | None:
    """What the kernel says; None where it may not be asked, as under some seccomp profiles."""
    # struct timex takes 208 bytes on 64-bit Linux; all zero asks and changes nothing.
    buffer = ctypes.create_string_buffer(512)
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def _carbon(config: Config) -> Iterator[Finding]:
    """Where this is, and what each live source answers now."""
    try:
        carbon = service_of(config)
    except SetupError as error:
        yield Finding("!!", "location", str(error))
        return
    now_wall_ns = time.time_ns()
    carbon.refresh(now_wall_ns, time.monotonic_ns(), at_once=True)
    state = carbon.state(now_wall_ns)
    yield _location(config, state)
    figures = {figure.provider: figure for figure in state.figures}
    for feed in carbon.chain.feeds:
        name = feed.manners.name
        if feed.trouble or name not in figures:
            yield Finding("!!", f"grid {name}", feed.trouble or "it answers, and says nothing of this moment")
            continue
        figure = figures[name]
        how = "estimated" if figure.estimated else "measured"
        yield Finding("ok", f"grid {name}", f"{figure.g_per_kwh:g} g CO2e/kWh ({how}); {figure.origin}")


def _location(config: Config, state: GridState) -> Finding:
    if state.intensity is None:
        return Finding("!!", "location", f"{state.location} No intensity is known for it.")
    figure = f"{state.intensity.g_per_kwh:g} g CO2e/kWh for {state.intensity.grid_zone}"
    pue = f"PUE {state.pue:g}" if state.pue_configured else "PUE not configured (set grid.pue), counts as 1.0"
    known = config.grid_zone or config.grid_region or config.grid_intensity
    return Finding("ok" if known else "--", "location", f"{state.location} {figure}; {pue}")


def _state(folder: Path) -> Finding:
    subject = "state"
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return Finding("!!", subject, f"{existing} is not a folder; name another with --state.dir")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "!!",
            subject,
            f"{existing} is not writable by uid {os.geteuid()}; mend that or name another with --state.dir",
        )
    free_bytes = shutil.disk_usage(existing).free
    room = f"{free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < MIN_FREE_BYTES:
        return Finding("!!", subject, f"{folder}: only {room}; free some space")
    if existing != folder:
        return Finding("ok", subject, f"{folder} will be made; {room}")
    pid = _daemon(folder)
    return Finding("ok", subject, f"{folder}; {room}" + (f"; in use by the daemon, pid {pid}" if pid else ""))


def _daemon(folder: Path) -> int | None:
    from wattspan.journal.folder import holder

    try:
        return holder(folder)
    except UnreachableError:
        return None


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if not missing:
            yield Finding("ok", f"extra {extra}", "installed")
            continue
        mark: Mark = "!!" if extra == "daemon" else "--"
        yield Finding(
            mark, f"extra {extra}", f"without {', '.join(missing)}; pip install 'wattspan[{extra}]'"
        )


def _web_config(path: Path) -> Finding:
    from wattspan.publish.webconfig import WebConfigFile

    try:
        WebConfigFile(path)
    except SetupError as error:
        return Finding("!!", "web config", str(error))
    return Finding("ok", "web config", f"{path} can be used")


def _listening(config: Config) -> Iterator[Finding]:
    from wattspan.publish.listen import bind

    for address in config.web_listen_address:
        subject = f"port {address}"
        try:
            for bound in bind([address]):
                bound.close()
        except (SetupError, UnreachableError) as error:
            if _daemon(config.state_dir) is not None:
                yield Finding("ok", subject, "taken, as it should be while the daemon runs")
            else:
                yield Finding("!!", subject, str(error))
        else:
            yield Finding("ok", subject, "free")
