"""Waiting for the grid: by clocks that are handed in, and as a process that really waits."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.carbon.test_forecast import MINUTE_NS, NOW, STEP_MINUTES, by_hand, forecasts, hours
from tests.cli.test_grid import about, half_hours
from tests.client.stand_in import Asked, StandIn
from tests.fakes.grid_service import serving
from wattspan.carbon.forecast import HOUR_NS, outlook_of
from wattspan.client.green import (
    FIRST_LOOK_NS,
    LOOK_NS,
    NAP_NS,
    PATIENCE_NS,
    Clocks,
    Target,
    figures_of,
    is_settled,
    wait,
)
from wattspan.model import GridState, Intensity
from wattspan.publish.api import forecast_document, grid_document
from wattspan.units import NS_PER_S

Look = Callable[[], Sequence[Intensity]]


class Night:
    """A wait in which time passes by itself.

    Attributes:
        figures: what is known of the hours ahead.
        passed_ns: since the begin.
        set_ns: how far the wall clock has been set meanwhile.
        looks: when it looked.
        told: what was told.
        signals: by when they come.
        changes: by when they happen.
        late_ns: how much longer than asked for each pause is.
        unknown: how often it heard that nothing is known yet.
    """

    def __init__(self, figures: Sequence[Intensity] | None) -> None:
        self.figures = figures
        self.passed_ns = 0
        self.set_ns = 0
        self.looks: list[int] = []
        self.told: list[Target | None] = []
        self.signals: dict[int, int] = {}
        self.changes: dict[int, Callable[[Night], None]] = {}
        self.late_ns = 0
        self.unknown = 0

    def look(self) -> Sequence[Intensity] | None:
        self.looks.append(self.passed_ns)
        return self.figures

    def pause(self, seconds: float) -> int:
        assert 0 < seconds <= NAP_NS / 1e9
        self.passed_ns += round(seconds * 1e9) + self.late_ns
        for at_ns in [at for at in self.changes if at <= self.passed_ns]:
            self.changes.pop(at_ns)(self)
        return next((number for at, number in self.signals.items() if at <= self.passed_ns), 0)

    def wait(self, duration_ns: int, deadline_ns: int) -> int:
        clocks = Clocks(
            lambda: NOW + self.passed_ns + self.set_ns, lambda: 77 * HOUR_NS + self.passed_ns, self.pause
        )

        def unknown() -> None:
            self.unknown += 1

        return wait(self.look, duration_ns, deadline_ns, self.told.append, clocks, unknown)

    @property
    def starts(self) -> list[float]:
        """What was told, in hours from the begin."""
        return [(target.start_wall_ns - NOW) / HOUR_NS for target in self.told if target]


def test_it_begins_when_the_greenest_stretch_does() -> None:
    """One line says what is waited for, and the wait is as long as that."""
    night = Night(hours(300, 200, 100, 50, 50, 300, 20))
    assert night.wait(2 * HOUR_NS, 6 * HOUR_NS) == 0
    assert night.passed_ns == 3 * HOUR_NS
    (target,) = night.told
    assert target == Target(NOW, NOW + 3 * HOUR_NS, NOW + 6 * HOUR_NS, 50.0, 250.0)


def test_nothing_is_greener_than_now() -> None:
    """It begins at once, and says so."""
    night = Night(hours(50, 60, 50, 60))
    assert night.wait(HOUR_NS, 4 * HOUR_NS) == 0
    assert (night.passed_ns, night.starts) == (0, [0])


@pytest.mark.parametrize("figures", [None, hours(100), hours(300, 10, from_hour=9)])
def test_without_a_forecast_it_begins_at_once(figures: Sequence[Intensity] | None) -> None:
    """Neither where nobody looks ahead, nor with figures that cover no such stretch before the deadline."""
    night = Night(figures)
    assert night.wait(2 * HOUR_NS, 8 * HOUR_NS) == 0
    assert (night.passed_ns, night.told, night.unknown) == (0, [None], 0)


def test_a_daemon_that_has_just_started_is_given_time_to_ask() -> None:
    """Nothing is known for the first half minute: it looks every five seconds, and then waits as ever."""
    night = Night(())
    night.changes[27 * NS_PER_S] = lambda n: setattr(n, "figures", hours(300, 200, 100, 50, 50, 300))
    assert night.wait(2 * HOUR_NS, 6 * HOUR_NS) == 0
    assert night.passed_ns == 3 * HOUR_NS
    assert night.looks[:7] == [n * FIRST_LOOK_NS for n in range(7)]
    assert night.looks[7] == 6 * FIRST_LOOK_NS + LOOK_NS
    assert (night.starts, night.unknown) == ([3], 1)


def test_what_nobody_comes_to_know_is_not_waited_for_long() -> None:
    """After two minutes it begins, and says why."""
    night = Night(())
    assert night.wait(2 * HOUR_NS, 8 * HOUR_NS) == 0
    assert (night.passed_ns, night.told, night.unknown) == (PATIENCE_NS, [None], 1)
    night = Night(())
    night.changes[20 * NS_PER_S] = lambda n: setattr(n, "figures", None)
    assert night.wait(2 * HOUR_NS, 8 * HOUR_NS) == 0
    assert (night.passed_ns, night.told) == (20 * NS_PER_S, [None])


@pytest.mark.parametrize("slack_s", [0, 1, 7, 119])
def test_a_first_forecast_is_waited_for_within_the_deadline(slack_s: int) -> None:
    """The task still ends in time, and a signal is heard meanwhile."""
    night = Night(())
    assert night.wait(HOUR_NS, HOUR_NS + slack_s * NS_PER_S) == 0
    assert (night.passed_ns, night.told) == (slack_s * NS_PER_S, [None])
    night = Night(())
    night.signals[NS_PER_S] = signal.SIGTERM
    assert night.wait(HOUR_NS, 4 * HOUR_NS) == signal.SIGTERM
    assert night.passed_ns <= FIRST_LOOK_NS


def test_it_looks_again_and_adapts() -> None:
    """A forecast that is revised moves the start, later or earlier, and each move is told once."""
    night = Night(hours(300, 200, 100, 50, 300, 300))
    night.changes[HOUR_NS // 2] = lambda n: setattr(n, "figures", hours(300, 200, 100, 50, 300, 10))
    night.changes[HOUR_NS] = lambda n: setattr(n, "figures", hours(300, 200, 5, 50, 300, 10))
    assert night.wait(HOUR_NS, 6 * HOUR_NS) == 0
    assert night.starts == [3, 5, 2]
    assert night.passed_ns == 2 * HOUR_NS
    assert [after - before for before, after in zip(night.looks, night.looks[1:], strict=False)] == [
        LOOK_NS
    ] * (len(night.looks) - 1)


def test_a_revision_may_end_the_wait() -> None:
    """When now has become the greenest there is, it begins at the next look."""
    night = Night(hours(300, 300, 300, 50))
    night.changes[HOUR_NS // 2] = lambda n: setattr(n, "figures", hours(300, 300, 300, 400))
    assert night.wait(HOUR_NS, 4 * HOUR_NS) == 0
    assert night.passed_ns == HOUR_NS // 2


def test_what_was_known_stays_known() -> None:
    """A daemon that goes in the night changes nothing about when it begins."""
    night = Night(hours(300, 200, 100, 50))
    night.changes[HOUR_NS // 4] = lambda n: setattr(n, "figures", ())
    assert night.wait(HOUR_NS, 4 * HOUR_NS) == 0
    assert (night.passed_ns, night.starts) == (3 * HOUR_NS, [3])


def test_a_pause_that_is_too_long_moves_no_start() -> None:
    """Once its time has come it begins, though by then another stretch is greener by a hair."""
    night = Night(hours(300, 50, 300, 300, 50.00001, 300))
    night.late_ns = 3 * 10**9
    assert night.wait(HOUR_NS, 6 * HOUR_NS) == 0
    assert night.passed_ns < HOUR_NS + MINUTE_NS
    assert night.starts == [1]


def test_a_start_whose_time_has_come_is_kept() -> None:
    """Also when a better one becomes known in the same moment: a wait that always finds one never ends."""
    night = Night(hours(300, 50, 300, 300, 60, 300))
    night.changes[HOUR_NS] = lambda n: setattr(n, "figures", hours(300, 50, 300, 300, 10, 300))
    assert night.wait(HOUR_NS, 6 * HOUR_NS) == 0
    assert night.passed_ns == HOUR_NS


def test_a_wall_clock_that_is_set_back_does_not_move_the_deadline() -> None:
    """The deadline goes by a clock that nobody sets; one that is set ahead begins at once."""
    night = Night(hours(300, 200, 100, 50))
    night.changes[HOUR_NS] = lambda n: setattr(n, "set_ns", -20 * HOUR_NS)
    assert night.wait(HOUR_NS, 4 * HOUR_NS) == 0
    assert night.passed_ns == 3 * HOUR_NS
    night = Night(hours(300, 200, 100, 50))
    night.changes[HOUR_NS] = lambda n: setattr(n, "set_ns", 20 * HOUR_NS)
    assert night.wait(HOUR_NS, 4 * HOUR_NS) == 0
    assert night.passed_ns <= HOUR_NS + NAP_NS


def test_a_signal_ends_the_wait() -> None:
    """Its number comes back, at once."""
    night = Night(hours(300, 200, 100, 50))
    night.signals[HOUR_NS] = signal.SIGTERM
    assert night.wait(HOUR_NS, 4 * HOUR_NS) == signal.SIGTERM
    assert night.passed_ns <= HOUR_NS + NAP_NS


@given(
    st.lists(forecasts(), min_size=1, max_size=5),
    st.integers(1, 8).map(lambda n: n * STEP_MINUTES),
    st.integers(0, 24).map(lambda n: n * STEP_MINUTES),
    st.integers(0, 10**10),
)
def test_it_is_never_later_than_the_deadline_allows(
    revisions: list[Sequence[Intensity]], duration: int, slack: int, late_ns: int
) -> None:
    """Whatever the forecasts say and however they change; what is told first is the best that is known."""
    night = Night(revisions[0])
    night.late_ns = late_ns
    for number, figures in enumerate(revisions[1:], start=1):
        night.changes[number * 20 * MINUTE_NS] = lambda n, figures=figures: setattr(n, "figures", figures)
    assert night.wait(duration * MINUTE_NS, (duration + slack) * MINUTE_NS) == 0
    assert night.passed_ns <= slack * MINUTE_NS + late_ns
    first = night.told[0]
    means = by_hand(revisions[0], duration, 0, duration + slack)
    assert (first is None) == (not means)
    if first is None:
        assert night.passed_ns == 0
    else:
        assert first.g_per_kwh == pytest.approx(min(means.values()), abs=1e-5)
        assert (first.now_g_per_kwh is None) == (0 not in means)


def interval(g_per_kwh: float, begin_s: int, end_s: int, **other: Any) -> dict[str, Any]:
    """A row as the API has it."""
    return {
        "grams_per_kwh": g_per_kwh,
        "valid_from": datetime.fromtimestamp(begin_s, UTC).isoformat().replace("+00:00", "Z"),
        "valid_until": datetime.fromtimestamp(end_s, UTC).isoformat().replace("+00:00", "Z"),
        "grid_zone": "FR",
        "provider": "eco2mix",
        "signal": "average",
        "basis": "direct",
        "estimated": True,
        "fetched_at": None,
        "origin": "",
        **other,
    }


def document(*rows: dict[str, Any], forecast: bool = True) -> dict[str, Any]:
    """What /api/v1/grid/forecast answers."""
    return {"forecast": forecast, "detail": "", "intervals": list(rows)}


def test_what_the_api_says_is_read_back() -> None:
    """Each row is a figure with its times; rows that make no sense cost the others nothing."""
    good = [interval(50, 0, 3600), interval(60.5, 3600, 7200)]
    bad = [
        {},
        None,
        interval(1, 3600, 3600),
        interval(1, 0, 3600),  # speaks of the same time
        interval(-1, 7200, 9000),
        interval(float("nan"), 7200, 9000),
        interval(1, 7200, 9000, valid_until=None),
        interval(1, 7200, 9000, valid_until="2026-10-01T00:00:00"),
        interval(1, 7200, 9000, grams_per_kwh=None),
    ]
    figures = figures_of(document(*good, *bad))  # type: ignore[arg-type]
    assert [(f.g_per_kwh, f.valid_from_wall_ns, f.valid_until_wall_ns) for f in figures] == [
        (50.0, 0, 3600 * 10**9),
        (60.5, 3600 * 10**9, 7200 * 10**9),
    ]


def test_the_daemon_s_own_document_is_read_back() -> None:
    """What /api/v1/grid/forecast really says is understood to the nanosecond."""
    figures = hours(300, 200.5, 100)
    state = GridState(figures[0], 0, 1.0, pue_configured=False, outlook=outlook_of(figures, NOW))
    told = json.loads(json.dumps(forecast_document(state)))
    assert list(figures_of(told)) == list(figures)
    assert list(figures_of(forecast_document(replace(state, outlook=None)))) == []


def test_whether_more_may_come_is_told_by_the_level() -> None:
    """A figure of the first choice is all that there is; a stand-in, and none at all, may be replaced."""
    figure = hours(100)[0]
    static = replace(figure, valid_from_wall_ns=None, valid_until_wall_ns=None, provider="static")
    for state, settled in (
        (GridState(static, 0, 1.0, pue_configured=False), True),
        (GridState(figure, 0, 1.0, pue_configured=False), True),
        (GridState(static, 1, 1.0, pue_configured=False), False),
        (GridState(None, 1, 1.0, pue_configured=False), False),
        (None, False),  # before its first look
    ):
        assert is_settled(grid_document(state)) is settled
    for nonsense in ({}, [], None, {"intensity": None, "fallback_level": 0}):
        assert is_settled(nonsense) is False


@pytest.mark.parametrize(
    "answer",
    [
        document(interval(50, 0, 3600), forecast=False),
        {}, [], None,
        {"forecast": True}, {"forecast": True, "intervals": 3},
    ],
)  # fmt: skip
def test_what_is_no_forecast_has_no_figures(answer: Any) -> None:
    """A yearly figure that the daemon shows for all hours is none, and neither is nonsense."""
    assert list(figures_of(answer)) == []


# As a process.

FORECAST = "/api/v1/grid/forecast"
GRID = "/api/v1/grid"


def soon(green_after_s: int) -> dict[str, Any]:
    """A forecast: dirty now, and green for an hour after some seconds."""
    now = int(time.time())
    begin = now + green_after_s
    end = begin + 3600
    return document(
        interval(300, now - 3600, begin), interval(60, begin, end), interval(300, end, end + 90_000)
    )


def in_three_seconds(daemon: StandIn) -> None:
    """From whenever it is asked, so that a busy machine may take its time to ask."""
    daemon.answer = lambda asked: (200, soon(3)) if asked.path == FORECAST else daemon.usual(asked)


def words(*flags: str, command: Sequence[str] = ("sh", "-c", "echo began; exit 4")) -> list[str]:
    """The command line."""
    return [sys.executable, "-W", "error", "-m", "wattspan", "run", *flags, "--", *command]


def run(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    done = subprocess.run(
        words(*flags), env={**os.environ, **environ}, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_command_is_held_back(daemon: StandIn) -> None:
    """It begins when the green stretch does; one line says when that is and what it saves; no run before."""
    in_three_seconds(daemon)
    begun_s = time.time()
    done = run("--wait-for-green", "--deadline", "12h", "--duration", "1m", "--name", "x")
    assert (done.returncode, done.stdout) == (4, "began\n")
    assert time.time() - begun_s >= 2
    line = done.stderr.splitlines()[0]
    assert line.startswith("wattspan: waiting until ")
    assert re.search(
        r", for the greenest 1 min before .*: 60 g CO2e/kWh instead of (?:6\d|7\d) now, [\d.]+ % less$", line
    )
    paths = [asked.path for asked in daemon.asked]
    assert paths[0] == FORECAST
    assert paths.count("/api/v1/runs") == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_a_signal_while_it_waits(daemon: StandIn, tmp_path: Path, number: int, code: int) -> None:
    """It ends with 128 and the number, starts nothing, and the daemon hears of no run."""
    daemon.grid[FORECAST] = soon(3600)
    command = ("touch", str(tmp_path / "began"))
    process = subprocess.Popen(
        words("--wait-for-green", "--deadline", "12h", command=command), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "waiting until" in process.stderr.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (code, "")
    assert not (tmp_path / "began").exists()
    assert {asked.path for asked in daemon.asked} == {FORECAST}


def test_it_can_be_stopped_and_goes_on(daemon: StandIn) -> None:
    """Ctrl-Z stops it as it stops any process; once it goes on it waits and listens as before."""
    daemon.grid[FORECAST] = soon(3600)
    process = subprocess.Popen(
        words("--wait-for-green", "--deadline", "12h"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "waiting until" in process.stderr.readline()
    process.send_signal(signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_a_daemon_that_has_just_started_is_waited_for(daemon: StandIn) -> None:
    """It goes by its table until it has asked; then the forecast counts, and one line said so before."""
    usual = daemon.answer
    table = {"intensity": interval(50, 0, 3600), "fallback_level": 1}

    def answer(asked: Asked) -> tuple[int, Any]:
        if asked.path == GRID:
            return 200, table
        if asked.path == FORECAST:
            asks = sum(each.path == FORECAST for each in daemon.asked)
            return 200, document(interval(50, 0, 3600), forecast=False) if asks == 1 else soon(3)
        return usual(asked)

    daemon.answer = answer
    done = run("--wait-for-green", "--deadline", "12h", "--duration", "1m")
    assert (done.returncode, done.stdout) == (4, "began\n")
    first, second, *_ = done.stderr.splitlines()
    assert first == "wattspan: no forecast of the grid is known yet; looking for one for 2 min at most"
    assert second.startswith("wattspan: waiting until ")


def test_no_forecast_is_said(daemon: StandIn) -> None:
    """The daemon has none, nor do the settings of the command: it begins at once."""
    daemon.grid[FORECAST] = document(interval(50, 0, 3600), forecast=False)
    daemon.grid[GRID] = {"intensity": interval(50, 0, 3600), "fallback_level": 0}
    done = run("--wait-for-green", "--deadline", "12h")
    assert (done.returncode, done.stdout) == (4, "began\n")
    assert done.stderr.startswith("wattspan: starting at once: no forecast of the grid covers the next 1 h")


@pytest.mark.usefixtures("no_daemon")
def test_without_a_daemon_the_settings_are_asked() -> None:
    """The same chain that a daemon would hold."""
    with serving() as service:
        service.says("/intensity/*", half_hours(48, range(48)))
        done = run("--wait-for-green", "--duration", "2h", "--deadline", "12h", **about(service))
    assert (done.returncode, done.stdout) == (4, "began\n")
    assert "wattspan: starting at once: no 2 h before " in done.stderr
    assert "are greener than now, 50 g CO2e/kWh" in done.stderr


def test_a_rank_that_is_silent_waits_in_silence(daemon: StandIn) -> None:
    """All ranks of a node begin together, and one of them says why."""
    in_three_seconds(daemon)
    done = run("--wait-for-green", "--deadline", "12h", LOCAL_RANK="1")
    assert (done.returncode, done.stdout, done.stderr) == (4, "began\n", "")
    assert FORECAST in {asked.path for asked in daemon.asked}


def test_disabled_means_that_nothing_is_done(daemon: StandIn) -> None:
    """WATTSPAN_DISABLED=1 holds nothing back."""
    daemon.grid[FORECAST] = soon(3600)
    done = run("--wait-for-green", "--deadline", "12h", WATTSPAN_DISABLED="1")
    assert (done.returncode, done.stdout) == (4, "began\n")
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--wait-for-green",), "--wait-for-green: needs --deadline"),
        (("--deadline", "12h"), "--deadline and --duration: only with --wait-for-green"),
        (
            ("--wait-for-green", "--deadline", "1h", "--duration", "2h"),
            "--deadline: it is shorter than --duration",
        ),
        (("--wait-for-green", "--deadline", "soon"), "'soon' is not allowed; allowed: a duration"),
    ],
)
def test_wrong_usage(flags: tuple[str, ...], said: str) -> None:
    """The command never began, and the code is our own."""
    done = run(*flags)
    assert (done.returncode, done.stdout) == (125, "")
    assert said in done.stderr
