"""`track()` against a daemon on a real socket: what it is told, and what user code notices."""

import asyncio
import copy
import logging
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wattspan
from tests.client.stand_in import NODE_SPAN_ID, TRACE_ID, Asked, StandIn, serving
from wattspan.client.courier import MAX_AT_ONCE, Courier
from wattspan.client.daemon import Daemon, Door

BEGIN, PROGRESS, PHASES, END = "/runs", "/progress", "/phases", "/end"
ROOT = Path(__file__).parents[2]


def test_a_run_is_told_from_begin_to_end(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon hears of begin, phases, progress and end, and the summary is what it answers."""
    monkeypatch.setenv("TRACEPARENT", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with (
        wattspan.track("llama sft", project="nlp", group="g", total_steps=500, budget_co2e_grams=9) as run,
        run.phase("epoch", index=0),
    ):
        run.progress(step=500, samples=6400, loss=1.9)
    (begin,) = daemon.about(BEGIN)
    assert begin.pop("run_id") == f"llama-sft-{begin.pop('key')}"
    assert begin == {
        "name": "llama sft",
        "project": "nlp",
        "group": "g",
        "total_steps": 500,
        "budget_co2e_grams": 9.0,
        "world_size": 1,
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "pid": os.getpid(),
    }
    phases = daemon.phases
    assert [(phase["event"], phase["name"], phase["index"]) for phase in phases] == [
        ("begin", "epoch", 0),
        ("end", "epoch", 0),
    ]
    assert phases[0]["at"] < phases[1]["at"]
    assert daemon.about(PROGRESS) == [{"attempt": 0, "steps": 500, "samples": 6400, "loss": 1.9}]
    assert daemon.about(END) == [{"attempt": 0, "result": "success"}]
    assert run.summary.energy_joules == 3_600_000.0
    assert run.summary.cost == wattspan.Missing("no price is configured")
    assert (run.trace_id, run.node_span_id, run.attempt) == (TRACE_ID, NODE_SPAN_ID, 0)
    assert run.projected_co2e_grams == 700.0


def test_the_job_names_the_run(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a job the daemon is given its markers, and finds the id."""
    monkeypatch.setenv("WATTSPAN_RUN_ID", "outer")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    with wattspan.track("inner") as run:
        pass
    (begin,) = daemon.about(BEGIN)
    assert "run_id" not in begin
    assert begin["markers"] == {"WATTSPAN_RUN_ID": "outer"}
    assert run.run_id == "outer"
    assert "secret" not in str(daemon.asked)


def test_in_a_pod_a_begin_is_known_by_its_key(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon finds the id; told again, it can see that it is the same begin. Each run has its own key."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    busy = iter([503, 503])

    def answer(asked: Asked) -> tuple[int, Any]:
        status = next(busy, 0)
        return (status, {"title": "busy"}) if status else daemon.usual(asked)

    daemon.answer = answer
    for _ in range(2):
        with wattspan.track("x", wait_s=30):
            pass
    begins = daemon.about(BEGIN)
    assert ["run_id" in begin for begin in begins] == [False] * 4
    keys = [begin["key"] for begin in begins]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_an_id_of_its_own(daemon: StandIn) -> None:
    """`run_id` goes as it is; characters that no id may have become dashes."""
    with wattspan.track("x", run_id="a/b c\n", attempt=3) as run:
        pass
    assert daemon.about(BEGIN)[0]["run_id"] == "a-b-c"
    assert daemon.about(END)[0]["attempt"] == 3
    assert run.run_id == "a-b-c"


class DivergedError(Exception):
    """Of a user."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DivergedError("secret"), {"result": "failure", "error_type": f"{__name__}.DivergedError"}),
        (KeyboardInterrupt(), {"result": "cancelled"}),
        (SystemExit(0), {"result": "success"}),
        (SystemExit(2), {"result": "failure", "error_type": "SystemExit"}),
    ],
)
def test_what_ends_the_block_ends_the_run(
    daemon: StandIn, error: BaseException, told: dict[str, str]
) -> None:
    """The exception reaches user code untouched, and the daemon hears what it means."""
    with pytest.raises(type(error)) as raised, wattspan.track("x"):
        raise error
    assert raised.value is error
    assert daemon.about(END) == [{"attempt": 0, **told}]


def test_begin_and_end_by_hand(daemon: StandIn) -> None:
    """Callbacks begin and end a run themselves; a second end changes nothing."""
    run = wattspan.track("x")
    assert run.summary.co2e_grams == wattspan.Missing("the run has not begun")
    run.begin()
    assert run.summary.co2e_grams == wattspan.Missing("the run has not ended")
    run.end("cancelled")
    run.end(error=ValueError())
    assert daemon.about(END) == [{"attempt": 0, "result": "cancelled"}]


def test_decorators(daemon: StandIn) -> None:
    """Each call of a decorated function is a run; coroutines and generators keep what they are."""

    @wattspan.track("f", project="p")
    def f(x: int) -> int:
        """Doubles."""
        return 2 * x

    @wattspan.track
    def bare() -> str:
        return "done"

    @wattspan.track("c")
    async def c() -> int:
        await asyncio.sleep(0)
        return 7

    @wattspan.track("g")
    def g() -> Iterator[int]:
        yield 1
        yield 2

    assert (f(1), f(2), bare(), asyncio.run(c()), list(g())) == (2, 4, "done", 7, [1, 2])
    assert (f.__name__, f.__doc__) == ("f", "Doubles.")
    daemon.wait_for(END, 5)
    begins = daemon.about(BEGIN)
    assert sorted(begin["name"] for begin in begins) == ["bare", "c", "f", "f", "g"]
    assert len({begin["run_id"] for begin in begins}) == 5


def test_a_decorated_function_that_fails(daemon: StandIn) -> None:
    """Failures of decorated functions are failures of their runs."""

    @wattspan.track("c")
    async def c() -> None:
        raise DivergedError

    with pytest.raises(DivergedError):
        asyncio.run(c())
    assert daemon.wait_for(END) == [
        {"attempt": 0, "result": "failure", "error_type": f"{__name__}.DivergedError"}
    ]


ANYTHING = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.complex_numbers(),
)


@pytest.mark.usefixtures("no_daemon")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    first=ANYTHING,
    more=st.lists(ANYTHING, max_size=2),
    options=st.dictionaries(
        st.sampled_from(
            ["project", "run_id", "attempt", "total_steps", "budget_co2e_grams", "wait_s", "nope"]
        ),
        ANYTHING,
    ),
    told=st.dictionaries(st.sampled_from(["step", "samples", "loss", "total_steps", "nope"]), ANYTHING),
)
def test_any_arguments_are_taken(
    monkeypatch: pytest.MonkeyPatch,
    first: Any,
    more: list[Any],
    options: dict[str, Any],
    told: dict[str, Any],
) -> None:
    """Nothing that user code hands over raises, whether the daemon is there or not."""
    monkeypatch.setenv("WATTSPAN_SOCKET", "/nonexistent/socket")
    monkeypatch.setattr(logging.getLogger("wattspan.client"), "disabled", True)
    run = wattspan.track(first, *more, **options)
    with run:
        run.progress(**told)
        run.progress(first, *more)
        with run.phase(first):
            pass
    assert str(run.summary)


class Tensor:
    """Stands for one on the GPU: asking for its value would wait for the stream."""

    asked = 0

    def _ask(self, *_: object) -> float:
        Tensor.asked += 1
        return 1.0

    __float__ = __int__ = __index__ = __lt__ = __eq__ = __bool__ = __repr__ = __str__ = __format__ = _ask  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def test_a_tensor_is_not_asked_for_its_value(daemon: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    """What is no plain number is left out with one warning, and nothing of it is called."""
    with wattspan.track("x", total_steps=Tensor()) as run:  # type: ignore[arg-type] # as users do
        for _ in range(3):
            run.progress(step=5, loss=Tensor(), samples=Tensor())  # type: ignore[arg-type]
    assert Tensor.asked == 0
    assert daemon.about(PROGRESS) == [{"attempt": 0, "steps": 5}]
    said = [record.message for record in caplog.records]
    assert len(said) == len(set(said)) == 3
    assert "loss: a Tensor is left out; allowed: a number" in said[2]


def test_misspelt_arguments_are_named(daemon: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    """An argument that does not exist costs a warning, not the good ones beside it."""
    with wattspan.track("x", project="nlp", projetc="nlp") as run:  # type: ignore[call-overload] # the point
        run.progress(epoch=1)
    assert daemon.about(BEGIN)[0]["project"] == "nlp"
    assert "projetc" in caplog.text
    assert "epoch" in caplog.text


def courier(home: Path, **begin: Any) -> Courier:
    """One that looks at its slot often."""
    door = Door(str(home / "wattspan.sock"))
    return Courier(Daemon((door,)), None, {"run_id": "r", **begin}, [], interval_s=0.05)


def test_progress_is_coalesced(daemon: StandIn, home: Path) -> None:
    """The daemon sees the first value and the last, and few of the many between."""
    carried = courier(home)
    carried.start()
    daemon.wait_for(BEGIN)
    for step in range(1, 20_001):
        carried.progress({"steps": step})
    carried.end({"result": "success"})
    assert carried.over(30)
    steps = [document["steps"] for document in daemon.about(PROGRESS)]
    assert (steps[0], steps[-1]) == (1, 20_000)
    assert steps == sorted(set(steps))
    assert len(steps) < 2_000


def test_a_step_back_is_seen_from_both_sides(daemon: StandIn, home: Path) -> None:
    """A resume inside the process is told exactly, or the repeated steps could not be counted."""
    carried = courier(home)
    for step in (1, 50, 100, 40, 60, 120):
        carried.progress({"steps": step, "loss": 1.0 / step})
    carried.start()
    carried.end({"result": "success"})
    assert carried.over(30)
    assert [document["steps"] for document in daemon.about(PROGRESS)] == [1, 100, 40, 120]


def test_progress_goes_out_while_the_run_runs(daemon: StandIn, home: Path) -> None:
    """Without any event the latest progress is still told from time to time."""
    carried = courier(home)
    carried.start()
    carried.progress({"steps": 1})
    daemon.wait_for(PROGRESS, 1)
    carried.progress({"steps": 2})
    assert daemon.wait_for(PROGRESS, 2)[-1]["steps"] == 2
    carried.end({"result": "success"})
    assert carried.over(30)


def test_a_run_with_nothing_to_tell_says_that_it_is_there(daemon: StandIn, home: Path) -> None:
    """So that a daemon that sees no process of it does not take it for lost; it tells no progress by that."""
    door = Door(str(home / "wattspan.sock"))
    carried = Courier(Daemon((door,)), None, {"run_id": "r"}, [], interval_s=0.05, alive_s=0.1)
    carried.start()
    assert daemon.wait_for(PROGRESS, 2) == [{"attempt": 0}] * 2
    carried.end({"result": "success"})
    assert carried.over(30)


def test_what_does_not_fit_is_lost_and_said(
    daemon: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Events for a daemon that is away are bounded; every phase whose begin was taken also ends."""
    monkeypatch.setattr("wattspan.client.courier.MAX_WAITING", 10)
    run = wattspan.track("x")
    daemon.mute = True
    run.begin()
    daemon.wait_for(BEGIN)
    for index in range(100):
        run.begin_phase("epoch", index)
        run.end_phase("epoch", index)
    daemon.mute = False
    daemon.stopped.set()
    run.end()
    assert run.summary
    assert "are lost" in caplog.text
    events = [(phase["event"], phase["index"]) for phase in daemon.phases]
    begun = {index for event, index in events if event == "begin"}
    assert begun == {index for event, index in events if event == "end"}
    assert 0 < len(begun) < 100


@pytest.mark.usefixtures("no_daemon")
def test_no_daemon(caplog: pytest.LogCaptureFixture) -> None:
    """Without a daemon nothing fails, nothing waits, one warning is made and the summary says why."""
    with wattspan.track("x", wait_s=60) as run:
        run.progress(step=1)
    assert not run.summary.energy_joules
    assert "no daemon is reachable at " in str(run.summary.energy_joules)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 5000, b"HTTP/1.1 200 OK\r\n\r\n[1]", b"HTTP/1.1 200 OK\r\n\r\n{}"]
)
def test_a_daemon_that_talks_nonsense(daemon: StandIn, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Nonsense is no answer: it is said once, and the run's end does not wait longer than it may."""
    daemon.raw = raw or b"\r\n"
    with wattspan.track("x", wait_s=0.2) as run:
        pass
    assert isinstance(run.summary.energy_joules, wattspan.Missing)
    assert len(caplog.records) == 1


def test_a_daemon_that_never_answers(daemon: StandIn) -> None:
    """The job's thread does not wait for it: it makes no system call that blocks, from begin to progress."""
    daemon.mute = True
    with wattspan.track("x", wait_s=0.1) as run:
        daemon.wait_for(BEGIN)
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        for step in range(20_000):
            run.progress(step=step, samples=step, loss=1.0)
        waited = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - switches
    # The courier sleeps in the kernel; now and then the interpreter's lock is asked for by other threads.
    assert waited < 200
    assert str(run.summary.cost) == "missing: the daemon has not answered yet"


@pytest.mark.usefixtures("daemon")
def test_the_cost_of_progress() -> None:
    """`progress()` takes at most 20 microseconds of the caller's CPU in 99 of 100 calls, sender at work."""
    with wattspan.track("x") as run:
        # Others on the machine make calls dearer and none cheaper, so one round of many is enough.
        assert any(_p99_us(run) <= 20 for _ in range(100))


def _p99_us(run: wattspan.Run) -> float:
    took = []
    for step in range(2_000):
        before = time.thread_time_ns()
        run.progress(step=step, samples=64 * step, tokens=4096 * step, loss=1.9)
        took.append(time.thread_time_ns() - before)
    return sorted(took)[len(took) * 99 // 100] / 1000


def test_a_refused_run(daemon: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    """A run that the daemon refuses is told of no more; the summary has the daemon's reason."""
    daemon.answer = lambda _: (403, {"title": "Forbidden", "detail": "pid 7 is not yours"})
    with wattspan.track("x", wait_s=60) as run:
        run.progress(step=1)
    assert str(run.summary.cost) == "missing: the daemon refused (403): pid 7 is not yours"
    assert len(daemon.asked) == 1
    assert "not metered" in caplog.text


def test_a_refused_phase(daemon: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    """What the daemon refuses of a run is lost with a warning, and the run goes on."""

    def answer(asked: Asked) -> tuple[int, Any]:
        return (400, b"<html>") if asked.path.endswith(PHASES) else daemon.usual(asked)

    daemon.answer = answer
    with wattspan.track("x") as run, run.phase("epoch"):
        pass
    assert run.summary.result == "success"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("old", [False, True])
def test_phases_that_wait_are_told_together(daemon: StandIn, old: bool) -> None:
    """The daemon answers after its next look: many short phases do not wait for one each, nor get lost.

    One of an older version takes them one by one.
    """
    together: list[int] = []

    def answer(asked: Asked) -> tuple[int, Any]:
        if "phases" in asked.document:
            together.append(len(asked.document["phases"]))
            if old:
                return 400, {"title": "Bad Request", "detail": "event: missing"}
        elif asked.path.endswith(PHASES):
            time.sleep(0.0 if old else 0.05)
        return daemon.usual(asked)

    daemon.answer = answer
    with wattspan.track("x", wait_s=30) as run:
        for index in range(100):
            with run.phase("step", index=index):
                pass
    assert run.summary.result == "success"
    told = [body for body in daemon.about(PHASES) if "phases" not in body] if old else daemon.phases
    assert [(phase["event"], phase["index"]) for phase in told] == [
        (event, index) for index in range(100) for event in ("begin", "end")
    ]
    assert max(together) <= MAX_AT_ONCE
    assert daemon.about(END) == [{"attempt": 0, "result": "success"}]


def test_a_busy_daemon_is_asked_again(daemon: StandIn) -> None:
    """503 and 429 are no refusals: the same is told again until it is taken."""
    busy = iter([503, 429, 500])

    def answer(asked: Asked) -> tuple[int, Any]:
        status = next(busy, 0)
        return (status, {"title": "busy"}) if status else daemon.usual(asked)

    daemon.answer = answer
    with wattspan.track("x", wait_s=30) as run:
        pass
    assert run.summary.result == "success"
    begins = daemon.about(BEGIN)
    assert len(begins) == 4
    assert len({begin["run_id"] for begin in begins}) == 1


def test_a_daemon_that_forgot_the_run_is_told_again(daemon: StandIn) -> None:
    """After a lost journal the run begins anew there, under the same id and attempt."""
    with wattspan.track("x", attempt=4) as run:
        daemon.wait_for(BEGIN)
        daemon.forget()
        run.progress(step=1)
        daemon.wait_for(PROGRESS, 2)
    first, second = daemon.about(BEGIN)
    assert first == second
    assert run.summary.result == "success"


@pytest.mark.usefixtures("no_daemon")
def test_a_daemon_that_comes_back(home: Path) -> None:
    """Whatever was told while the daemon was away is told when it is back."""
    stand_in = StandIn()
    with serving(home / "wattspan.sock", stand_in):
        run = wattspan.track("x", wait_s=30)
        run.begin()
        stand_in.wait_for(BEGIN)
    run.begin_phase("epoch", 1)
    run.progress(step=7)
    threading.Timer(0.3, run.end_phase, ["epoch", 1]).start()
    time.sleep(0.5)
    with serving(home / "wattspan.sock", stand_in):
        run.end()
        assert run.summary.result == "success"
    assert [phase["event"] for phase in stand_in.phases] == ["begin", "end"]
    assert stand_in.about(PROGRESS)[-1]["steps"] == 7


@pytest.mark.parametrize(
    ("environ", "begins", "reports"),
    [
        ({"RANK": "8", "LOCAL_RANK": "0"}, 1, 0),
        ({"RANK": "9", "LOCAL_RANK": "1"}, 0, 0),
        ({"WATTSPAN_DISABLED": "1"}, 0, 0),
    ],
)
def test_ranks_that_are_silent(
    daemon: StandIn, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], begins: int, reports: int
) -> None:
    """Other nodes' local rank 0 begins and tells no progress; other ranks and disabled clients are silent."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    before = set(threading.enumerate())
    with wattspan.track("x") as run, run.phase("epoch"):
        run.progress(step=1)
        assert begins or "wattspan" not in {thread.name for thread in set(threading.enumerate()) - before}
    assert (len(daemon.about(BEGIN)), len(daemon.about(PROGRESS))) == (begins, reports)
    assert isinstance(run.summary.cost, wattspan.Missing)
    assert str(run.summary.cost) != "missing: "


@pytest.mark.usefixtures("no_daemon")
def test_doors_are_tried_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WATTSPAN_URL goes before WATTSPAN_SOCKET, that before the user's socket; a shut door is passed by."""
    with (
        serving(home / "wattspan.sock") as own,
        serving(home / "named.sock") as named,
        serving(("127.0.0.1", 0)) as over_tcp,
    ):
        (home / "token").write_text("sesame\n")
        monkeypatch.setenv("WATTSPAN_TOKEN_FILE", str(home / "token"))
        told = []
        for variable, value in (
            ("XDG_RUNTIME_DIR", str(home)),
            ("WATTSPAN_SOCKET", str(home / "shut.sock")),
            ("WATTSPAN_SOCKET", str(home / "named.sock")),
            ("WATTSPAN_URL", "ftp://nowhere"),
            ("WATTSPAN_URL", f"http://127.0.0.1:{over_tcp.address[1]}/prefix"),
        ):
            monkeypatch.setenv(variable, value)
            with wattspan.track("x", wait_s=0.1):
                pass
            told.append((len(own.about(END)), len(named.about(END)), len(over_tcp.asked)))
    assert told[:4] == [(1, 0, 0), (2, 0, 0), (2, 1, 0), (2, 2, 0)]
    (asked, *_) = over_tcp.asked
    assert asked.path == "/prefix/api/v1/runs"
    assert asked.headers["Authorization"] == "Bearer sesame"
    assert all("Authorization" not in asked.headers for asked in own.asked + named.asked)


def script(home: Path, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a user's script as a process of its own."""
    (home / "train.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "error", str(home / "train.py")],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_forked_child_is_silent(daemon: StandIn, home: Path) -> None:
    """Children that inherit a run, as data loaders do, neither report nor end it, nor wait for its end."""
    done = script(
        home,
        "import os, wattspan\n"
        "with wattspan.track('x', wait_s=60) as run:\n"
        "    run.progress(step=100)\n"
        "    if os.fork() == 0:\n"
        "        for step in range(50): run.progress(step=step)\n"
        "        run.begin_phase('of the child')\n"
        "        raise SystemExit(0)\n"
        "    os.wait()\n",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.about(END) == [{"attempt": 0, "result": "success"}]
    assert daemon.about(PROGRESS) == [{"attempt": 0, "steps": 100}]
    assert daemon.about(PHASES) == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_a_copy_is_silent(daemon: StandIn, copied: Callable[[wattspan.Run], wattspan.Run]) -> None:
    """A copy of a run that has begun, as in a process that was spawned, neither reports nor ends it, nor
    begins another one; it says so.
    """
    with wattspan.track("x") as run:
        run.progress(step=100)
        for again in (copied(run), copied(copied(run))):
            again.begin()
            with again.phase("of the copy"):
                again.progress(step=50)
            again.end("failure")
            assert again.silent
            assert again.summary.energy_joules == wattspan.Missing(
                "this is a copy of the run, and the original tells of it"
            )
    assert len(daemon.about(BEGIN)) == 1
    assert daemon.about(END) == [{"attempt": 0, "result": "success"}]
    assert daemon.about(PROGRESS) == [{"attempt": 0, "steps": 100}]
    assert daemon.about(PHASES) == []


def test_a_copy_of_a_run_that_has_not_begun(daemon: StandIn) -> None:
    """It can be begun where it is unpickled."""
    with pickle.loads(pickle.dumps(wattspan.track("x"))):
        pass
    assert daemon.about(END) == [{"attempt": 0, "result": "success"}]


@pytest.mark.parametrize(
    ("last_line", "ends"),
    [
        ("raise ValueError('boom')", [{"attempt": 0, "result": "failure", "error_type": "ValueError"}]),
        (
            # What starts tests in the background may have them ignore it.
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "signal.raise_signal(signal.SIGINT)",
            [{"attempt": 0, "result": "cancelled"}],
        ),
        ("raise SystemExit(3)", []),
        ("", []),
    ],
)
def test_a_process_that_ends_without_ending_its_run(
    daemon: StandIn, home: Path, last_line: str, ends: list[dict[str, Any]]
) -> None:
    """An uncaught exception ends the run; else nothing is claimed of its end, and progress is still told."""
    done = script(
        home, f"import wattspan\nrun = wattspan.track('x')\nrun.begin()\nrun.progress(step=9)\n{last_line}\n"
    )
    assert "wattspan" not in done.stderr.replace("train.py", "")
    assert daemon.about(PROGRESS) == [{"attempt": 0, "steps": 9}]
    assert daemon.about(END) == ends


def test_eight_ranks_begin_once(daemon: StandIn, home: Path) -> None:
    """Of eight local ranks one tells the daemon, whichever is first."""
    (home / "train.py").write_text(
        "import wattspan\nwith wattspan.track('x') as run:\n    run.progress(step=3)\n"
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, str(home / "train.py")],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "8"},
            cwd=ROOT,
        )
        for rank in range(8)
    ]
    assert [rank.wait(60) for rank in ranks] == [0] * 8
    assert [len(daemon.about(path)) for path in (BEGIN, PROGRESS, END)] == [1, 1, 1]
    assert daemon.about(BEGIN)[0]["pid"] == ranks[0].pid


@pytest.mark.usefixtures("daemon")
def test_the_client_is_light(home: Path) -> None:
    """Importing and using the client imports no metering, no OpenTelemetry and no prometheus-client."""
    done = script(
        home,
        "import sys, wattspan\n"
        "bare = set(sys.modules)\n"
        "with wattspan.track('x') as run: run.progress(step=1)\n"
        "str(run.summary)\n"
        "print(*[name for name in bare if name.startswith('wattspan.')], '|', *sys.modules)\n",
    )
    bare, _, used = done.stdout.partition("|")
    assert bare.split() == []
    heavy = {
        "pynvml",
        "psutil",
        "opentelemetry",
        "prometheus_client",
        "sqlite3",
        "asyncio",
        "uvicorn",
        "yaml",
    }
    assert heavy.isdisjoint(used.split())
    ours = {name for name in used.split() if name.startswith("wattspan.")}
    allowed = ("wattspan.client", "wattspan.errors", "wattspan.units", "wattspan.workloads.run_ids")
    assert all(name.startswith(allowed) or name == "wattspan.workloads" for name in ours)
