"""Waiting for the grid: what the daemon knows of the hours ahead, and when to begin by it.

Clocks, looks and pauses are handed in; only `of_daemon` and `pause` touch the world.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from wattspan.carbon.forecast import greenest_window
from wattspan.client.daemon import Daemon, RefusedError, UnansweredError
from wattspan.client.supervised import STOPPING
from wattspan.client.watch import GRID
from wattspan.errors import UnreachableError
from wattspan.model import Intensity
from wattspan.units import NS_PER_S

FORECAST: Final = f"{GRID}/forecast"

LOOK_NS: Final = 900 * NS_PER_S
"""Forecasts are looked at again after so long: they are revised as the hours come near."""

FIRST_LOOK_NS: Final = 5 * NS_PER_S
"""And after so long while nothing is known at all."""

PATIENCE_NS: Final = 120 * NS_PER_S
"""How long a first forecast is waited for: a daemon that has just started asks within half a minute
(`wattspan.carbon.feed.START_SPREAD_NS`), and one source after another."""

NAP_NS: Final = 60 * NS_PER_S
"""The clocks are looked at this often: the wall clock may be set, and a laptop may have slept."""

ENDING: Final = STOPPING | {signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
"""Signals that end a process which does not care for them, as one does that only waits."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is waited for.

    Attributes:
        made_wall_ns: when this was settled.
        start_wall_ns: when to begin.
        latest_end_wall_ns: when the task must be over.
        g_per_kwh: mean intensity of the stretch that begins then.
        now_g_per_kwh: the same of one that begins at once; None where nobody knows it.
    """

    made_wall_ns: int
    start_wall_ns: int
    latest_end_wall_ns: int
    g_per_kwh: float
    now_g_per_kwh: float | None


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of a wait.

    Attributes:
        wall_ns: the wall clock, which forecasts go by.
        steady_ns: one that nobody sets and that goes on while the machine sleeps; the deadline goes by it.
        pause: waits so many seconds; the number of a signal that ended the wait, else 0.
    """

    wall_ns: Callable[[], int]
    steady_ns: Callable[[], int]
    pause: Callable[[float], int]


def wait(
    look: Callable[[], Sequence[Intensity] | None],
    duration_ns: int,
    deadline_ns: int,
    told: Callable[[Target | None], None],
    clocks: Clocks,
    unknown: Callable[[], None] = lambda: None,
) -> int:
    """Wait until the greenest stretch that ends before the deadline begins.

    Returns 0 when it is time to begin, else the number of the signal that ended the wait.
    What was known stays known while nobody answers; a forecast that changes moves the start, either way.

    Args:
        look: figures of the hours ahead; empty while nobody knows any, which is waited for up to
            `PATIENCE_NS`; None where nobody is going to. May block.
        duration_ns: how long the task takes.
        deadline_ns: from now; the task must be over by then, so it begins `duration_ns` before at the latest.
        told: hears what is waited for, at first and whenever that changes; None where there is no forecast,
            and it is begun at once.
        clocks: the clocks.
        unknown: hears, once, that nobody knows any figures yet.
    """
    began_ns = clocks.steady_ns()
    latest_ns = began_ns + deadline_ns - duration_ns
    looked_ns: int | None = None
    target: Target | None = None
    while True:
        now_ns, now_wall_ns = clocks.steady_ns(), clocks.wall_ns()
        left_ns = latest_ns - now_ns
        # Looked at first: a start whose time has come is not given up for one that is greener by a hair.
        if target is not None and (now_wall_ns >= target.start_wall_ns or left_ns <= 0):
            return 0
        every_ns = FIRST_LOOK_NS if target is None else LOOK_NS
        if looked_ns is None or now_ns - looked_ns >= every_ns or (target is None and left_ns <= 0):
            figures = look()
            found = _target(
                figures or (), duration_ns, now_wall_ns, now_wall_ns + max(0, left_ns) + duration_ns
            )
            if found is None and target is None:
                # Figures that cover no such stretch are an answer, too.
                settled = figures is None or bool(figures)
                if settled or left_ns <= 0 or now_ns - began_ns >= PATIENCE_NS:
                    told(None)
                    return 0
                if looked_ns is None:
                    unknown()
            looked_ns = now_ns
            if found is not None and (target is None or found.start_wall_ns != target.start_wall_ns):
                target = found
                told(target)
            continue  # the look may have taken a while
        wait_ns = min(left_ns, NAP_NS)
        if target is None:
            wait_ns = min(wait_ns, looked_ns + FIRST_LOOK_NS - now_ns)
        else:
            wait_ns = min(wait_ns, target.start_wall_ns - now_wall_ns)
        if stopped := clocks.pause(wait_ns / NS_PER_S):
            return stopped


def _target(
    figures: Sequence[Intensity], duration_ns: int, now_wall_ns: int, latest_end_wall_ns: int
) -> Target | None:
    window = greenest_window(figures, duration_ns, now_wall_ns, latest_end_wall_ns)
    if window is None:
        return None
    at_once = greenest_window(figures, duration_ns, now_wall_ns, now_wall_ns + duration_ns)
    return Target(
        made_wall_ns=now_wall_ns,
        start_wall_ns=window.start_wall_ns,
        latest_end_wall_ns=latest_end_wall_ns,
        g_per_kwh=window.g_per_kwh,
        now_g_per_kwh=at_once.g_per_kwh if at_once else None,
    )


def of_daemon(daemon: Daemon) -> Sequence[Intensity] | None:
    """What the daemon of this node knows of the hours ahead. Blocks.

    Empty while it is not there, or may come to know more; None where it prices by its first choice, which
    does not look ahead, and where it does not let us ask.
    """
    try:
        figures = figures_of(daemon.ask("GET", FORECAST))
        return figures or (None if is_settled(daemon.ask("GET", GRID)) else ())
    except RefusedError:
        return None
    except (UnreachableError, UnansweredError):
        return ()


def is_settled(document: Any) -> bool:
    """Whether a document of `GRID` says that the first choice of the chain is in force.

    While it is not, a live source has not answered: a daemon that has just started asks its own within half a
    minute, and goes by the carried table before.
    """
    if not isinstance(document, dict):
        return False
    return document.get("intensity") is not None and document.get("fallback_level") == 0


def figures_of(document: Any) -> Sequence[Intensity]:
    """The figures in a document of `FORECAST`; empty where it says that there is no forecast.

    Rows that make no sense are passed over, as a newer daemon may have some.
    """
    if not isinstance(document, dict) or document.get("forecast") is not True:
        return ()
    rows = document.get("intervals")
    figures: list[Intensity] = []
    for row in rows if isinstance(rows, list) else ():
        try:
            figure = figure_of(row)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
        begin_ns, end_ns = figure.valid_from_wall_ns or 0, figure.valid_until_wall_ns or 0
        last_ns = (figures[-1].valid_until_wall_ns or 0) if figures else begin_ns
        if last_ns <= begin_ns < end_ns and 0 <= figure.g_per_kwh < float("inf"):
            figures.append(figure)
    return figures


def figure_of(row: Mapping[str, Any]) -> Intensity:
    """One figure, as the API writes it.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: it is none.
    """
    return Intensity(
        g_per_kwh=float(row["grams_per_kwh"]),
        valid_from_wall_ns=moment_of(row["valid_from"]),
        valid_until_wall_ns=moment_of(row["valid_until"]),
        grid_zone=str(row["grid_zone"]),
        provider=str(row["provider"]),
        signal=row["signal"],
        basis=row["basis"],
        estimated=row["estimated"] is not False,
        fetched_wall_ns=moment_of(row.get("fetched_at")),
        origin=str(row.get("origin") or ""),
    )


def moment_of(text: str | None) -> int | None:
    """Nanoseconds of the wall clock; None for null, which is no end.

    Raises:
        TypeError, ValueError, OverflowError: it is no time, or one without an offset.
    """
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1000


def boot_ns() -> int:
    """Nanoseconds since the machine was started, its sleep included (CLOCK_BOOTTIME of clock_gettime(2))."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def pause(seconds: float) -> int:
    """Wait, within `signals_held`; returns the number of a signal that ends the wait, else 0.

    Ctrl-Z stops this process as it stops any other.
    """
    give_up_s = time.monotonic() + seconds
    while (left_s := give_up_s - time.monotonic()) > 0:
        arrived = signal.sigtimedwait(ENDING | {signal.SIGTSTP}, left_s)
        if arrived is None:
            return 0
        if arrived.si_signo != signal.SIGTSTP:
            return arrived.si_signo
        os.kill(os.getpid(), signal.SIGSTOP)
    return 0


REAL: Final = Clocks(time.time_ns, boot_ns, pause)
"""The clocks of this machine."""
