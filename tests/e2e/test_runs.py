"""Runs of real processes on fake cards: energy against the truth, kills, reboots, and who ends how."""

import json
import os
import pwd
import re
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon, Scrape, clean_environment
from tests.e2e.metering import FAST, THREE_CARDS, Boots
from tests.e2e.training import SEEN_S, Clerk, gpu_joules, jobs_on, kept, true_joules
from tests.fakes.nvml import FakeNvml, parse_scenario
from wattspan.report import as_markdown, report_of
from wattspan.units import NS_PER_S, UJ_PER_J

SAMPLE_J = 300 * 0.2
"""What a card of the scenario draws in one sample."""

CLOCKS_NS = 5_000_000
"""Wall and monotonic clock are read one after the other, and energy in between."""

BUMPY = parse_scenario(
    "bumpy",
    {
        "clock": "real",
        "refresh_ms": 20,
        "gpu": [
            {
                "generation": "h100",
                "count": 3,
                "curve": [[0, 90], [2.3, 690], [4.1, 400], [5.6, 650]],
                "repeat_s": 7,
                "phase_s": 1.7,
                "base_mj": 10**9,
            }
        ],
    },
)


def run_joules(scrape: Scrape, run_id: str) -> float:
    return scrape.total("wattspan_run_energy_joules_total", run_id=run_id, component="gpu")


def shared_uj(scrape: Scrape, share: str) -> int:
    """Energy of one share over all cards."""
    series = scrape.series("wattspan_gpu_attributed_energy_joules_total", share=share)
    return sum(round(joules * UJ_PER_J) for joules in series.values())


@pytest.mark.slow
def test_a_minute_of_training_against_the_truth(tmp_path: Path) -> None:
    """At one sample a second on cards that jump from 90 to 690 W: within 0.1 %, and shared cards sum up."""
    state = tmp_path / "state"
    with (
        FakeNvml(BUMPY, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, state) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        daemon.after(2)
        alone, first, second = jobs.start(0), jobs.start(1), jobs.start(1)
        jobs.enter(2, alone)
        daemon.after(3)
        clerk.begin(run_id="alone", pid=alone)
        clerk.begin(run_id="first", pid=first)
        clerk.begin(run_id="second", pid=second)
        time.sleep(60.5)
        for run_id in ("alone", "first", "second"):
            clerk.end(run_id)
        daemon.after(2)
        scrape = daemon.metrics()
        records = {run_id: kept(state, run_id) for run_id in ("alone", "first", "second")}
        record = records["alone"]
        true_j = true_joules(fake, (0, 2), record.began_wall_ns, record.ended_wall_ns or 0)
        off = gpu_joules(record) / true_j - 1
        print(f"a run on two cards: {gpu_joules(record):.3f} J, scenario {true_j:.3f} J, off {off:+.4%}")
        assert abs(off) < 0.001
        both = records["first"], records["second"]
        begins, ends = [run.began_wall_ns for run in both], [run.ended_wall_ns or 0 for run in both]
        both_j = sum(gpu_joules(run) for run in both)
        # While only one of them has begun, or not ended, the other's process is nobody's and has its part.
        least_j = true_joules(fake, (1,), max(begins), min(ends))
        most_j = true_joules(fake, (1,), min(begins), max(ends))
        print(f"two runs on one card: {both_j:.3f} J together, the card {least_j:.3f} to {most_j:.3f} J")
        assert 0.999 * least_j < both_j < 1.001 * most_j
        assert most_j - least_j < 0.05 * most_j
        total_uj = sum(round(run_joules(scrape, run_id) * UJ_PER_J) for run_id in records)
        assert total_uj == shared_uj(scrape, "run")
        assert total_uj == sum(round(gpu_joules(record) * UJ_PER_J) for record in records.values())


def test_short_runs_against_the_truth(tmp_path: Path) -> None:
    """Within one sample each, one after the other on one card, and nothing before, between or after them."""
    state = tmp_path / "state"
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, state, *FAST) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        pid = jobs.start(0)
        time.sleep(SEEN_S)
        for number in range(4):
            clerk.begin(run_id=f"short-{number}", pid=pid)
            time.sleep(0.3 + 0.37 * number)
            clerk.end(f"short-{number}")
            time.sleep(0.3)
        daemon.after(2)
        before = daemon.metrics()
        time.sleep(1)
        after = daemon.after(2)
        for number in range(4):
            run_id = f"short-{number}"
            record = kept(state, run_id)
            true_j = true_joules(fake, (0,), record.began_wall_ns, record.ended_wall_ns or 0)
            assert gpu_joules(record) == pytest.approx(true_j, abs=SAMPLE_J)
            assert run_joules(after, run_id) == run_joules(before, run_id)
            assert run_joules(after, run_id) == pytest.approx(gpu_joules(record))
            assert {attribution for _, attribution in record.totals.energy_uj} == {"exclusive"}
            lived_ns = (record.ended_wall_ns or 0) - record.began_wall_ns
            assert record.totals.gpu_ns == pytest.approx(lived_ns, abs=CLOCKS_NS)
        assert shared_uj(after, "run") == shared_uj(before, "run")
        assert shared_uj(after, "unattributed") > shared_uj(before, "unattributed")


@pytest.mark.parametrize("setting", [None, "off", "on"])
def test_user_names_only_when_switched_on(tmp_path: Path, setting: str | None) -> None:
    """By default nothing has the name of who began a run; switched on, record, report, API and span do.

    No metric has it as a label in either case.
    """
    state, user = tmp_path / "state", pwd.getpwuid(os.getuid()).pw_name
    flags = () if setting is None else ("--privacy.user-names", setting)
    # Nobody listens on port 1, so the spans stay in the outbox.
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with FakeNvml(THREE_CARDS, tmp_path) as fake, Daemon(fake, state, *FAST, *flags, env=env) as daemon:
        clerk = Clerk(daemon.wait_ready())
        clerk.begin(run_id="sft")
        daemon.after(2)
        document = json.loads(daemon.get("/api/v1/runs/sft").text)
        clerk.end("sft")
        daemon.after(2)
        text = daemon.get("/metrics").text
        db = sqlite3.connect(state / "journal.db")
        spans = [json.loads(span)["attributes"] for (span,) in db.execute("SELECT span FROM outbox")]
        db.close()
        record = kept(state, "sft")
    expected = user if setting == "on" else ""
    assert (document["user"], record.run.user) == (expected, expected)
    told = {attributes["wattspan.run.user"] for attributes in spans if "wattspan.run.user" in attributes}
    assert len(spans) >= 2
    assert told == ({user} if expected else set())
    report = as_markdown.text(report_of(record, [0], 0, "1"))
    assert bool(re.search(rf"\| user +\| {user} ", report)) == bool(expected)
    assert 'run_id="sft"' in text
    assert f'="{user}"' not in text


def test_a_run_whose_process_comes_to_the_card_later(tmp_path: Path) -> None:
    """`track()` is called first and the context made afterwards: what was before is not the run's."""
    state = tmp_path / "state"
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, state, *FAST) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        pid = jobs.idle()
        clerk.begin(run_id="late", pid=pid)
        time.sleep(1)
        entered_ns = time.time_ns()
        jobs.enter(1, pid)
        time.sleep(2)
        left_ns = time.time_ns()
        jobs.leave(1, pid)
        time.sleep(1)
        clerk.end("late")
        record = kept(state, "late")
        # The driver's list is asked for once in 0.9 s at most.
        true_j = true_joules(fake, (1,), entered_ns, left_ns)
        assert gpu_joules(record) == pytest.approx(true_j, abs=300 * SEEN_S)
        assert set(record.gpus) == {fake.uuids[1]}


def test_a_run_goes_on_when_the_daemon_is_killed(tmp_path: Path) -> None:
    """kill -9 in mid-run: the same ids afterwards, and the energy of the time between is the run's."""
    state = tmp_path / "state"
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, state, *FAST) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        pid = jobs.start(0)
        time.sleep(SEEN_S)
        begun = clerk.begin(run_id="sft", name="llama-sft", project="nlp", pid=pid, total_steps=100)
        clerk.tell("sft", "progress", steps=0)
        clerk.tell("sft", "phases", event="begin", name="epoch", index=0)
        clerk.tell("sft", "progress", steps=40)
        daemon.after(3)
        for _ in range(3):
            daemon.kill()
            time.sleep(0.6)
            daemon.start()
            daemon.wait_ready().after(2)
        again = clerk.begin(run_id="sft", pid=pid)
        same = ("run_id", "attempt", "trace_id", "run_span_id", "node_span_id", "run_name", "began_at")
        assert {name: again[name] for name in same} == {name: begun[name] for name in same}
        scrape = daemon.metrics()
        assert scrape.value("wattspan_run_steps_total", run_id="sft") == 40
        assert scrape.value("wattspan_run_progress_ratio", run_id="sft") == 0.4
        info = {"run_id": "sft", "run_name": "llama-sft", "project": "nlp", "source": "api"}
        assert scrape.value("wattspan_run_info", **info) == 1
        clerk.tell("sft", "phases", event="end", name="epoch", index=0)
        final = clerk.end("sft")
        record = kept(state, "sft")
        true_j = true_joules(fake, (0,), record.began_wall_ns, record.ended_wall_ns or 0)
        assert gpu_joules(record) == pytest.approx(true_j, abs=SAMPLE_J)
        assert final["energy_joules"] == gpu_joules(record)
        assert final["result"] == "success"
        assert clerk.end("sft")["energy_joules"] == final["energy_joules"]


def test_a_run_that_ended_is_not_ended_again_after_a_restart(tmp_path: Path) -> None:
    """Its series are still there, and its client, who heard no answer, gets it now."""
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, tmp_path / "state", *FAST) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        clerk.begin(run_id="sft", project="nlp", pid=jobs.start(0))
        time.sleep(SEEN_S)
        daemon.after(2)
        final = clerk.end("sft")
        daemon.after(1)
        before = run_joules(daemon.metrics(), "sft")
        daemon.kill()
        daemon.start()
        daemon.wait_ready()
        assert clerk.end("sft", "failure") == final
        scrape = daemon.after(2)
        assert run_joules(scrape, "sft") == before > 0
        assert scrape.value("wattspan_run_info", run_id="sft", project="nlp") == 1


@pytest.mark.parametrize("function", ["nvmlDeviceGetFieldValues", "nvmlDeviceGetUtilizationRates"])
def test_a_run_that_ends_while_the_driver_does_not_answer_has_all_that_it_used(
    tmp_path: Path, function: str
) -> None:
    """The driver hangs when it is asked for the counter or after it, the run ends, the driver goes on.

    The run's client waits for its final figures, which are those of its life.
    """
    state = tmp_path / "state"
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, state, *FAST) as daemon,
        ThreadPoolExecutor() as others,
    ):
        clerk = Clerk(daemon.wait_ready())
        pid = jobs.start(0)
        time.sleep(SEEN_S)
        clerk.begin(run_id="sft", pid=pid)
        daemon.after(3)
        fake.hang(function)
        time.sleep(1.5)
        ending = others.submit(clerk.end, "sft")
        time.sleep(0.5)
        assert clerk.run("sft")["state"] == "running"
        fake.release()
        final = ending.result()
        record = kept(state, "sft")
        true_j = true_joules(fake, (0,), record.began_wall_ns, record.ended_wall_ns or 0)
        assert gpu_joules(record) == pytest.approx(true_j, abs=SAMPLE_J)
        assert final["energy_joules"] == gpu_joules(record)
        assert final["duration_seconds"] == pytest.approx(true_j / 300, abs=0.2)


@pytest.mark.parametrize("daemon_saw_it", [True, False])
def test_a_run_whose_process_is_killed_is_lost(tmp_path: Path, daemon_saw_it: bool) -> None:
    """Whether or not a daemon was there when it died."""
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, tmp_path / "state", *FAST) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        pid, other = jobs.start(0), jobs.start(1)
        clerk.begin(run_id="sft", pid=pid)
        clerk.begin(run_id="other", pid=other)
        time.sleep(SEEN_S)
        daemon.after(2)
        if not daemon_saw_it:
            daemon.kill()
        jobs.kill(pid)
        if not daemon_saw_it:
            daemon.start()
            daemon.wait_ready()
        document = clerk.until_ended("sft")
        assert (document["result"], document["error_type"]) == ("lost", "")
        assert document["energy_joules"] > 0
        assert clerk.run("other")["state"] == "running"


def test_a_reboot_in_mid_run(tmp_path: Path) -> None:
    """The run is lost, with its ids and with what it had used until it was last seen; a new one may begin."""
    state = tmp_path / "state"
    boots = Boots(tmp_path)
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, state, *FAST, *boots.flags) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        pid = jobs.start(0)
        boots.show(pid)
        time.sleep(SEEN_S)
        begun = clerk.begin(run_id="sft", pid=pid)
        daemon.until(lambda scrape: run_joules(scrape, "sft") > 0, "energy of the run")
        used_j = run_joules(daemon.metrics(), "sft")
        died_ns = time.time_ns()
        daemon.kill()
        boots.reboot(fake)
        daemon.start()
        daemon.wait_ready()
        document = clerk.until_ended("sft")
        assert (document["result"], document["attempt"], document["trace_id"]) == (
            "lost",
            0,
            begun["trace_id"],
        )
        record = kept(state, "sft")
        assert gpu_joules(record) >= used_j > 0
        assert record.began_wall_ns <= (record.ended_wall_ns or 0) <= died_ns
        assert daemon.metrics().total("wattspan_run_energy_joules_total", run_id="sft") == 0
        assert clerk.begin(run_id="sft")["attempt"] == 1


@pytest.mark.slow
def test_processes_that_say_who_they_are_in_their_environment(tmp_path: Path) -> None:
    """Two ranks on two cards, marked and without a line of code, are one run; without them it is over."""
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, tmp_path / "state", *FAST, "--cluster.name", "hpc") as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        env = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sft", "SLURM_CLUSTER_NAME": "hpc"}
        ranks = [jobs.start(gpu, env={**env, "SLURM_PROCID": str(gpu)}) for gpu in (0, 1)]
        run_id = "slurm:hpc:7"
        scrape = daemon.until(lambda s: s.find("wattspan_run_gpus", run_id=run_id) == 2, "two cards")
        assert scrape.find("wattspan_run_info", run_id=run_id) is None, "its name may still change"
        assert set(scrape.series("wattspan_gpu_holders").values()) == {0, 1}
        assert clerk.run(run_id)["source"] == "slurm"
        for pid in ranks:
            jobs.kill(pid)
        assert clerk.until_ended(run_id)["result"] == "lost"


SCRIPT = """
import sys, time, wattspan
sys.stdin.readline()
with wattspan.track("llama-sft", project="nlp", total_steps=10) as run:
    run.progress(step=0)
    with run.phase("epoch", index=0):
        time.sleep(1)
    run.progress(step=10, samples=640)
    if len(sys.argv) > 1:
        raise ValueError("diverged")
print(run.run_id, run.attempt, run.summary.energy_joules)
"""


def test_wattspan_run_around_a_script_that_tracks_is_one_run(tmp_path: Path) -> None:
    """The command and the `track()` in it; its name, phases, progress and result arrive."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, tmp_path / "state", *FAST) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        env = {**clean_environment(tmp_path), "WATTSPAN_SOCKET": str(daemon.socket_path)}
        train = [sys.executable, "-m", "wattspan", "run", "--", sys.executable, str(script), "fail"]
        command = subprocess.Popen(
            train, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        daemon.until(lambda s: s.series("wattspan_run_start_timestamp_seconds"), "a run")
        (child,) = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        jobs.enter(0, int(child))
        time.sleep(SEEN_S)
        said, complained = command.communicate("go\n", timeout=60)
        assert command.returncode == 1, complained
        runs = json.loads(daemon.get("/api/v1/runs").body)["runs"]
        assert [run["run_name"] for run in runs] == ["python"], (runs, said)
        (run,) = runs
        assert (run["result"], run["error_type"]) == ("failure", "ValueError")
        assert run["progress"]["steps"] == 10
        assert run["energy_joules"] == pytest.approx(300 * (1 + SEEN_S), rel=0.6)
        assert "J" in complained
        assert clerk.run(run["run_id"])["project"] in ("", "nlp")


def test_two_runs_that_share_a_card_by_what_their_processes_do(tmp_path: Path) -> None:
    """The driver's SM time decides, 3 to 1 here, and the two have the card's energy between them.

    They are on the card before the daemon is, so that no power is known to be drawn without work,
    which they would have equally.
    """
    state = tmp_path / "state"
    with FakeNvml(THREE_CARDS, tmp_path) as fake, jobs_on(fake) as jobs:
        one, two = jobs.start(0, sm_percent=75), jobs.start(0, sm_percent=25)
        with Daemon(fake, state, *FAST) as daemon:
            clerk = Clerk(daemon.wait_ready())
            time.sleep(3 * SEEN_S)  # the driver is asked twice before shares are known
            clerk.begin(run_id="one", pid=one)
            clerk.begin(run_id="two", pid=two)
            time.sleep(2)
            scrape = daemon.metrics()
            for run_id in ("one", "two"):
                clerk.end(run_id)
        assert scrape.value("wattspan_gpu_holders", uuid=fake.uuids[0]) == 2
        records = [kept(state, run_id) for run_id in ("one", "two")]
        assert [set(r.totals.energy_uj) for r in records] == [{("gpu", "sm_time")}] * 2
        watts = [gpu_joules(r) * NS_PER_S / ((r.ended_wall_ns or 0) - r.began_wall_ns) for r in records]
        assert watts == pytest.approx([225, 75], rel=0.03)
        overlap = min(r.ended_wall_ns or 0 for r in records) - max(r.began_wall_ns for r in records)
        assert sum(r.totals.gpu_ns for r in records) - CLOCKS_NS <= max(
            (r.ended_wall_ns or 0) for r in records
        ) - min(r.began_wall_ns for r in records)
        assert sum(gpu_joules(r) for r in records) >= 300 * overlap / NS_PER_S - SAMPLE_J
