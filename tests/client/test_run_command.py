"""``wattspan run`` as a process: what the command notices, what the caller gets, what the daemon hears."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.client.stand_in import NODE_SPAN_ID, TRACE_ID, Asked, StandIn

BEGIN, END = "/runs", "/end"


def words(*command: str, options: Sequence[str] = ()) -> list[str]:
    """The command line."""
    return [sys.executable, "-W", "error", "-m", "wattspan", "run", *options, "--", *command]


def run(*command: str, options: Sequence[str] = (), **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    done = subprocess.run(
        words(*command, options=options),
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_command_is_a_run(daemon: StandIn) -> None:
    """It is told as a run, joins it by its environment, and its report comes at the end on stderr alone."""
    code = (
        "import os, json; print(json.dumps({name: os.environ.get(name) for name in"
        " ('WATTSPAN_RUN_ID', 'WATTSPAN_RUN_ATTEMPT', 'TRACEPARENT', 'TRACESTATE', 'KEPT')}))"
    )
    done = run(
        sys.executable, "-c", code, options=["--name", "my sft", "--project", "nlp", "--total-steps", "9"],
        TRACEPARENT=f"00-{'c' * 32}-{'d' * 16}-00", TRACESTATE="x=y", KEPT="kept",
    )  # fmt: skip
    assert done.returncode == 0
    (begin,) = daemon.about(BEGIN)
    seen = json.loads(done.stdout)
    assert begin["run_id"].startswith("my-sft-")
    assert (begin["name"], begin["project"], begin["total_steps"]) == ("my sft", "nlp", 9)
    assert begin["traceparent"] == f"00-{'c' * 32}-{'d' * 16}-00"
    assert seen == {
        "WATTSPAN_RUN_ID": begin["run_id"],
        "WATTSPAN_RUN_ATTEMPT": "0",
        "TRACEPARENT": f"00-{TRACE_ID}-{NODE_SPAN_ID}-01",
        "TRACESTATE": None,
        "KEPT": "kept",
    }
    assert daemon.about(END) == [{"attempt": 0, "result": "success"}]
    assert f"wattspan: run       {begin['run_id']} (success)\n" in done.stderr
    assert "wattspan: energy    1 kWh (gpu 0.833 kWh, cpu 0.167 kWh)\n" in done.stderr
    assert "wattspan: cost      missing: no price is configured\n" in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["sh", "-c", "exit 3"], 3, {"result": "failure", "error_type": "exit_3"}),
        (["sh", "-c", "exit 125"], 125, {"result": "failure", "error_type": "exit_125"}),
        (["sh", "-c", "kill -KILL $$"], 137, {"result": "failure", "error_type": "SIGKILL"}),
        (["sh", "-c", "kill -TERM $$"], 143, {"result": "cancelled"}),
        (["/nonexistent/command"], 127, {"result": "failure", "error_type": "exit_127"}),
        (["/etc/passwd"], 126, {"result": "failure", "error_type": "exit_126"}),
        (["/"], 126, {"result": "failure", "error_type": "exit_126"}),
    ],
)
def test_exit_codes(daemon: StandIn, command: list[str], code: int, told: dict[str, str]) -> None:
    """The command's own code is passed on; 126, 127 and 128+n are as with env(1) and shells."""
    assert run(*command).returncode == code
    assert daemon.about(END) == [{"attempt": 0, **told}]


@pytest.mark.parametrize(
    "line",
    [
        ["run"],
        ["run", "--"],
        ["run", "--total-steps", "0", "--", "true"],
        ["run", "--nmae", "x", "--", "true"],
        ["run", "--grid.pue", "0.1", "--", "true"],
    ],
)
def test_wrong_usage(line: list[str]) -> None:
    """What the command never saw is 125, so that every other code is the command's own."""
    done = subprocess.run(
        [sys.executable, "-m", "wattspan", *line], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 125
    assert done.stderr.startswith("wattspan: error: ")
    assert done.stderr.count("\n") == 1


def test_words_are_the_command_s(daemon: StandIn) -> None:
    """Behind the two dashes nothing is ours: neither flags of the same name nor further dashes."""
    done = run("echo", "--name", "x", "--", "--grid.zone=Atlantis", "-h")
    assert done.stdout == "--name x -- --grid.zone=Atlantis -h\n"
    assert daemon.about(BEGIN)[0]["name"] == "echo"


@pytest.mark.usefixtures("no_daemon")
def test_without_a_daemon() -> None:
    """The command runs at once, has the id that its run would have, and the report is the reason."""
    done = run("sh", "-c", "echo $WATTSPAN_RUN_ID; exit 5")
    assert done.returncode == 5
    assert done.stdout.startswith("sh-0")
    assert done.stderr.splitlines()[-1].startswith("wattspan: no report: no daemon is reachable at ")


@pytest.mark.usefixtures("no_daemon")
def test_in_a_job_without_a_daemon() -> None:
    """Where the daemon would find the id no other is made up: the command has the same markers."""
    done = run("sh", "-c", 'echo "$WATTSPAN_RUN_ID|$TRACEPARENT"', SLURM_JOB_ID="7")
    assert done.stdout == "|\n"


def test_a_silent_rank(daemon: StandIn) -> None:
    """Another local rank runs its command without a run and without a report."""
    done = run("echo", "x", LOCAL_RANK="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
    assert daemon.asked == []


def test_a_daemon_that_never_answers(daemon: StandIn) -> None:
    """The command is held back for a moment only; asking it to stop ends the wait for its report."""
    daemon.mute = True
    process = subprocess.Popen(
        words("sh", "-c", "echo started; exit 4"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    while _children(process.pid):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "no report: " in said


def test_asked_to_stop_before_the_command_starts(daemon: StandIn) -> None:
    """A signal that comes while the run begins ends it: the command is never started."""
    daemon.mute = True
    process = subprocess.Popen(words("echo", "started"), stdout=subprocess.PIPE, text=True)
    daemon.wait_for(BEGIN)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "")


TRAPS = """
import signal, sys, time
def caught(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): sys.exit(9)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, caught)
print('ready', flush=True)
while True: time.sleep(0.05)
"""


@pytest.mark.parametrize("last", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on(daemon: StandIn, last: signal.Signals) -> None:
    """A signal to `wattspan run` reaches the command once; its answer to it is passed on."""
    process = subprocess.Popen(
        words(sys.executable, "-c", TRAPS), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in (signal.SIGUSR1, signal.SIGUSR2, last):
        process.send_signal(number)
        assert process.stdout.readline() == f"{number.name}\n"
    assert process.stdout.read() == ""
    process.stdout.close()
    assert process.wait(60) == 9
    assert daemon.about(END) == [{"attempt": 0, "result": "cancelled"}]


@pytest.mark.usefixtures("daemon")
def test_stop_and_go_on() -> None:
    """Ctrl-Z's signal stops the command and `wattspan run`, and SIGCONT wakes both."""
    process = subprocess.Popen(
        words(sys.executable, "-c", TRAPS),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # As from a shell with job control: the signal stops nobody in an orphaned process group (POSIX).
        process_group=0,
    )
    assert process.stdout is not None
    process.stdout.readline()
    (child,) = _children(process.pid)
    process.send_signal(signal.SIGTSTP)
    _until_state(process.pid, "T")
    _until_state(child, "T")
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "SIGUSR1\n"
    process.terminate()
    assert process.stdout.read() == "SIGTERM\n"
    process.stdout.close()
    assert process.wait(60) == 9


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _until_state(pid: int, state: str) -> None:
    for _ in range(600):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == state:
            return
        time.sleep(0.05)
    raise AssertionError(f"{pid} is not in state {state}")


COUNTS = """
import signal, sys, time
came = []
signal.signal(signal.SIGINT, lambda *_: came.append(1))
print('ready', flush=True)
while not came: time.sleep(0.05)
for _ in range(20): time.sleep(0.05)  # time enough for another
print('came', len(came), flush=True)
sys.exit(9)
"""


def test_ctrl_c_on_a_terminal(daemon: StandIn) -> None:
    """What the terminal sends to the whole group reaches the command once, not a second time through us."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, words(sys.executable, "-c", COUNTS))
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    try:
        while more := os.read(terminal, 1000):
            said += more
    except OSError:
        pass  # the terminal has nobody left
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert b"came 1" in said
    assert daemon.about(END) == [{"attempt": 0, "result": "cancelled"}]


def test_ignored_signals_stay_ignored(daemon: StandIn) -> None:
    """Under nohup(1) the command ignores SIGHUP as it would without us, and SIGPIPE is at its default."""
    done = subprocess.run(
        ["nohup", *words("sh", "-c", "kill -HUP $$; echo alive; (kill -PIPE $$); echo not reached")],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.stdout == "alive\n"
    assert done.returncode == 128 + signal.SIGPIPE
    assert len(daemon.about(END)) == 1


def test_nobody_reads_the_report(daemon: StandIn) -> None:
    """A closed stderr costs the report, never the exit code."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *words("sh", "-c", "exit 6")], timeout=60, check=False
    )
    assert done.returncode == 6
    assert len(daemon.about(END)) == 1


def test_the_report_waits_for_a_slow_daemon(daemon: StandIn) -> None:
    """An answer that takes its time is still printed."""

    def answer(asked: Asked) -> tuple[int, object]:
        if asked.path.endswith(END):
            time.sleep(3)
        return daemon.usual(asked)

    daemon.answer = answer
    done = run("true")
    assert "wattspan: CO2e      345 g\n" in done.stderr
