"""Handles given up on request: the driver is free, and no joule is lost over it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.daemon import clean_environment
from tests.e2e.metering import assert_exact, assert_shares, is_down, is_up, joules, metering
from tests.fakes.nvml import FakeNvml


def command(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """``wattspan release`` on the daemon's folder."""
    return subprocess.run(
        [sys.executable, "-m", "wattspan", "release", *words, "--state.dir", folder / "state"],
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def release(folder: Path, for_: str) -> str:
    """What it answers when all is well."""
    done = command(folder, "--for", for_)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def assert_free(fake: FakeNvml) -> None:
    """Nothing of ours keeps the driver from being reset or unloaded."""
    assert (fake.init_count(), fake.open_event_sets(), fake.waiting()) == (0, 0, 0)


def released(folder: Path) -> float | None:
    """Until when, as the daemon's answer says; None while there is none."""
    try:
        until_s: float = json.loads((folder / "state" / "released").read_text())["until"]
    except FileNotFoundError:
        return None
    return until_s


def test_release_frees_the_driver_and_what_was_used_meanwhile_is_counted(tmp_path: Path) -> None:
    """While released: no handle, no power, energy holds. Taken up again: every joule is there."""
    with metering(tmp_path) as (fake, daemon):
        first = daemon.metrics()
        assert fake.init_count() == 1
        assert release(tmp_path, "10m").startswith("handles released until ")
        assert_free(fake)
        assert released(tmp_path) == pytest.approx(time.time() + 600, abs=60)
        held = daemon.until(is_down(fake.uuids[0]), "the release")
        fake.set_power(0, 650)
        later = daemon.after(4)
        assert later.value("wattspan_source_up", source="nvidia") == 0
        assert later.value("wattspan_source_released", source="nvidia") == 1
        assert not later.series("wattspan_gpu_power_watts")
        assert [joules(later, uuid) for uuid in fake.uuids] == [joules(held, uuid) for uuid in fake.uuids]
        assert later.total("wattspan_source_read_failures_total") == 0, "what was asked for is no failure"
        assert daemon.get("/-/ready").status == 200
        assert_free(fake)

        assert release(tmp_path, "0s").startswith("handles taken up again")
        assert released(tmp_path) is None
        daemon.until(is_up(fake.uuids[0]), "the return")
        last = daemon.after(2)
        assert last.value("wattspan_source_released", source="nvidia") == 0
        for gpu, uuid in enumerate(fake.uuids):
            assert_exact(fake, gpu, first, last)
            assert_shares(last, uuid)
        assert "level=warning room=sampler" not in daemon.stderr


def test_a_bare_signal_asks_for_ten_minutes(tmp_path: Path) -> None:
    """SIGUSR1 alone releases for ten minutes; a storm of them does no harm; a stop ends it all."""
    with metering(tmp_path) as (fake, daemon):
        for _ in range(50):
            os.kill(daemon.pid, signal.SIGUSR1)
        daemon.until(is_down(fake.uuids[0]), "the release")
        daemon.until(lambda _: released(tmp_path), "the answer")
        assert released(tmp_path) == pytest.approx(time.time() + 600, abs=60)
        assert_free(fake)
        assert daemon.stop()[0] == 0
        daemon.start()
        daemon.wait_ready()
        daemon.until(is_up(fake.uuids[0]), "metering")
        assert released(tmp_path) is None, "another daemon's answer is no answer of this one"


@pytest.mark.parametrize("for_", ["1s", "3s"])
def test_the_handles_are_taken_up_when_the_time_is_over(tmp_path: Path, for_: str) -> None:
    """Nobody needs to call the daemon back; who asked for a second is told that he had it."""
    with metering(tmp_path) as (fake, daemon):
        first = daemon.metrics()
        release(tmp_path, for_)
        daemon.until_said("handles released")
        daemon.until(is_up(fake.uuids[0]), "the return")
        assert_exact(fake, 0, first, daemon.after(2))
        assert released(tmp_path) is None


def test_a_request_that_makes_no_sense_ends_nothing(tmp_path: Path) -> None:
    """Whatever the file says, the daemon goes on and the command is understood afterwards."""
    with metering(tmp_path) as (fake, daemon):
        for number, request in enumerate(
            ('{"until": Infinity}', '{"until": NaN}', "nonsense", "[]"), start=1
        ):
            (tmp_path / "state" / "release").write_text(request)
            os.kill(daemon.pid, signal.SIGUSR1)
            daemon.until_said(rf"(?s)(release: handles of nvidia, amd for .*){{{number}}}")
        release(tmp_path, "0s")
        daemon.until(is_up(fake.uuids[0]), "the return")


def test_a_gpu_reset_under_a_release_charges_nothing_twice(tmp_path: Path) -> None:
    """The counter starts anew while nobody holds the card: what it shows since is all that is added."""
    with metering(tmp_path) as (fake, daemon):
        release(tmp_path, "10m")
        before = daemon.until(is_down(fake.uuids[1]), "the release")
        fake.reset_counter(1)
        fake.swap_order(2, 1, 0)
        release(tmp_path, "0s")
        daemon.until(is_up(fake.uuids[1]), "the return")
        after = daemon.after(2)
        since_reset_j = fake.energy_mj(1) / 1000
        assert 0 < joules(after, fake.uuids[1]) - joules(before, fake.uuids[1]) <= since_reset_j
        assert_shares(after, fake.uuids[1])


def test_a_driver_upgrade_under_a_release_needs_a_new_process(tmp_path: Path) -> None:
    """The new driver refuses our old library: books closed, exit 0, and the next process goes on."""
    with metering(tmp_path) as (fake, daemon):
        first = daemon.metrics()
        release(tmp_path, "10m")
        fake.require_restart()
        release(tmp_path, "0s")
        assert daemon.ended() == 0
        assert "ending for a new process to go on" in daemon.stderr
        fake.heal()
        daemon.start()
        daemon.wait_ready()
        last = daemon.after(2)
        for gpu in range(3):
            assert_exact(fake, gpu, first, last)


def test_release_without_a_daemon_says_so(tmp_path: Path) -> None:
    """After a kill there is nobody to ask: exit 3 with the folder named, and no signal to a stranger."""
    with metering(tmp_path) as (_, daemon):
        daemon.kill()
        done = command(tmp_path)
    assert done.returncode == 3
    assert f"no daemon runs on state folder {tmp_path / 'state'}" in done.stderr
