"""Faults of the hardware and the driver, as a Prometheus in front of the real daemon sees them."""

import importlib.util
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.metering import (
    FAST,
    THREE_CARDS,
    Boots,
    assert_exact,
    assert_shares,
    is_down,
    is_up,
    joules,
    metering,
    read_at_s,
)
from tests.fakes.nvml import FakeNvml, load_scenario
from tests.real_parts import need

STOP_S: Final = 5.0
"""A promise: this long at most from SIGTERM to the end."""

COMMITS: Final = "wattspan_journal_commits_total"


def test_a_lost_gpu_shows_no_power_and_comes_back_with_all_its_energy(tmp_path: Path) -> None:
    """Lost: no power (and not 0), its energy holds, the others go on. Back: nothing is missing or doubled."""
    with metering(tmp_path) as (fake, daemon):
        first = daemon.metrics()
        lost, fine = fake.uuids[1], fake.uuids[2]
        fake.lose(1)
        down = daemon.until(is_down(lost), "the loss")
        assert down.find("wattspan_gpu_power_watts", uuid=lost) is None
        assert down.find("wattspan_gpu_utilization_ratio", uuid=lost) is None
        assert down.value("wattspan_gpu_info", uuid=lost) == 1
        assert down.value("wattspan_source_up", source="nvidia") == 1
        later = daemon.after(3)
        assert joules(later, lost) == joules(down, lost)
        assert joules(later, fine) > joules(down, fine)
        assert later.value("wattspan_source_read_failures_total", source="nvidia", reason="lost") > 0
        assert later.value("wattspan_node_power_watts") == pytest.approx(600)

        fake.swap_order(1, 2, 0)
        fake.bring_back(1)
        back = daemon.until(is_up(lost), "the return")
        assert back.value("wattspan_gpu_up", uuid=lost, gpu="0") == 1
        assert back.value("wattspan_gpu_up", uuid=fine, gpu="1") == 1
        last = daemon.after(2)
        for gpu, uuid in enumerate(fake.uuids):
            assert_exact(fake, gpu, first, last)
            assert_shares(last, uuid)
        assert len(last.series("wattspan_gpu_up")) == 3, "no series is left of the old indices"
        assert daemon.stderr.count(f"source nvidia: {lost} is down: lost: ") == 1
        assert daemon.stderr.count(f"source nvidia: {lost} is back") == 1


def test_a_hung_driver_delays_nobody(tmp_path: Path) -> None:
    """While NVML hangs, 20 scrapes at once and 200 silent clients are served, and ticks keep their pace."""
    with metering(tmp_path) as (fake, daemon), ExitStack() as clients:
        first = daemon.metrics()
        fake.hang("nvmlDeviceGetFieldValues")
        for _ in range(200):
            clients.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        down = daemon.until(is_down(fake.uuids[0]), "the timeout")
        assert down.value("wattspan_source_up", source="nvidia") == 0
        assert down.value("wattspan_source_read_failures_total", source="nvidia", reason="timeout") == 1
        assert down.find("wattspan_node_power_watts") is None
        with ThreadPoolExecutor(20) as scrapers:
            for _ in range(10):
                answers = list(scrapers.map(lambda _: daemon.metrics(), range(20)))
        last = answers[-1]
        assert {joules(answer, fake.uuids[0]) for answer in answers} == {joules(down, fake.uuids[0])}
        assert last.value("wattspan_source_read_failures_total", source="nvidia", reason="timeout") == 1

        after = daemon.after(5)
        # By the daemon's own clock, beside 200 scrapes that this machine reads as well: it goes on ticking.
        passed_s = after.value("wattspan_journal_last_commit_timestamp_seconds") - first.value(
            "wattspan_journal_last_commit_timestamp_seconds"
        )
        assert after.value(COMMITS) - first.value(COMMITS) > passed_s / 0.2 / 10

        strict = daemon.get("/-/ready?strict=1")
        assert (strict.status, daemon.get("/-/ready").status) == (503, 200)
        assert '"reason":"timeout"' in strict.text
        fake.release()
        daemon.until(is_up(fake.uuids[0]), "the return")
        back = daemon.after(2)
        for gpu in range(3):
            assert_exact(fake, gpu, first, back)


def test_a_slow_driver_is_read_seldom_and_loses_nothing(tmp_path: Path) -> None:
    """A read that takes several intervals costs looks, not joules; the source stays up."""
    with metering(tmp_path) as (fake, daemon):
        first = daemon.metrics()
        fake.slow(250, "nvmlDeviceGetFieldValues")  # three cards, 200 ms between ticks
        last = daemon.after(12)
        reads = "wattspan_sample_duration_seconds_count"
        assert last.value(reads) - first.value(reads) < last.value(COMMITS) - first.value(COMMITS)
        assert last.value("wattspan_source_up", source="nvidia") == 1
        fake.slow(0, "nvmlDeviceGetFieldValues")
        last = daemon.after(3)
        for gpu in range(3):
            assert joules(last, fake.uuids[gpu]) > joules(first, fake.uuids[gpu])
            assert_exact(fake, gpu, first, last)


def test_counters_that_misbehave_move_nothing_back_and_nothing_too_far(tmp_path: Path) -> None:
    """After a reset, a step back and a leap, what is published only rises, and no faster than a card can."""
    with metering(tmp_path) as (fake, daemon):
        scrapes = [daemon.metrics()]
        fake.reset_counter(0)
        fake.step_back(1, 5_000)
        fake.jump(2, 10_000_000)
        scrapes += [daemon.after(1) for _ in range(5)]
        for uuid in fake.uuids:
            values = [joules(scrape, uuid) for scrape in scrapes]
            assert all(before <= after for before, after in pairwise(values))
            assert values[-1] > values[0]
            assert values[-1] - values[0] < 1.5 * 700 * (read_at_s(scrapes[-1]) - read_at_s(scrapes[0]) + 0.1)
            assert_shares(scrapes[-1], uuid)
        implausible = "wattspan_gpu_implausible_intervals_total"
        surprises = [scrapes[-1].value(implausible, uuid=uuid) for uuid in fake.uuids]
        assert surprises == [0, 1, 1], "a reset is no surprise"


def test_library_and_driver_out_of_step_end_the_daemon_with_books_closed(tmp_path: Path) -> None:
    """Code 18 ends it with 0 and a clean stop, so that even after a reboot the counters go on."""
    boots = Boots(tmp_path)
    with metering(tmp_path, *boots.flags) as (fake, daemon):
        before = daemon.metrics()
        fake.require_restart()
        assert daemon.ended() == 0
        assert "ending for a new process to go on" in daemon.stderr
        fake.heal()
        boots.reboot(fake)
        daemon.start()
        daemon.wait_ready()
        after = daemon.after(2)
        assert "journal" not in daemon.stderr, "a clean stop needs no notice"
        for uuid in fake.uuids:
            assert joules(after, uuid) > joules(before, uuid)
            assert_shares(after, uuid)


def test_after_a_power_cut_counters_start_from_zero(tmp_path: Path) -> None:
    """Without a clean stop before a reboot nobody knows what was published last: 0 is safe, older is not."""
    boots = Boots(tmp_path)
    with metering(tmp_path, *boots.flags) as (fake, daemon):
        daemon.after(3)
        daemon.kill()
        boots.reboot(fake)
        daemon.start()
        daemon.wait_ready()
        first = daemon.metrics()
        assert "left without a clean stop" in daemon.stderr
        after = daemon.after(3)
        for gpu, uuid in enumerate(fake.uuids):
            assert joules(first, uuid) == 0, "held at 0 until a scrape has seen it"
            assert 0 < joules(after, uuid) <= fake.energy_mj(gpu) / 1000, "what was used since the boot"
            assert_shares(after, uuid)


def test_an_old_driver_is_metered_in_silence(tmp_path: Path) -> None:
    """What an old library lacks is left out, and the log has nothing to say after the start."""
    scenario = replace(load_scenario("old_driver"), clock="real")
    with (
        FakeNvml(scenario, tmp_path) as fake,
        Daemon(fake, tmp_path / "state", *FAST) as daemon,
    ):
        daemon.wait_ready()
        first = daemon.after(2)
        said = daemon.stderr
        last = daemon.after(10)
        assert daemon.stderr == said
        for gpu, uuid in enumerate(fake.uuids):
            assert last.value("wattspan_gpu_up", uuid=uuid) == 1
            assert last.value("wattspan_gpu_info", uuid=uuid, power_source="energy_delta") == 1
            assert_exact(fake, gpu, first, last)


def test_xids_are_counted_from_zero(tmp_path: Path) -> None:
    """The first XID of its kind is published as 0 before it is counted, or `increase()` would not see it."""
    with metering(tmp_path) as (fake, daemon):
        xids = "wattspan_gpu_xid_errors_total"
        fake.xid(1, 48)
        born = daemon.until(lambda scrape: scrape.series(xids), "the XID's series")
        assert born.value(xids, uuid=fake.uuids[1], xid="48") == 0
        daemon.until(lambda scrape: scrape.value(xids, uuid=fake.uuids[1], xid="48") == 1, "the XID")
        fake.xid(1, 48)
        daemon.until(lambda scrape: scrape.value(xids, uuid=fake.uuids[1], xid="48") == 2, "another one")


@pytest.mark.alone
@pytest.mark.parametrize("hanging", ["", "nvmlDeviceGetFieldValues", "nvmlShutdown"])
def test_a_stop_is_clean_and_in_time(tmp_path: Path, hanging: str) -> None:
    """SIGTERM ends it with 0 within 5 s, even while the driver hangs; the next one finds a clean stop."""
    boots = Boots(tmp_path)
    with metering(tmp_path, "--sample.interval", "1s", *boots.flags) as (fake, daemon):
        if hanging:
            fake.hang(hanging)
            daemon.after(1)
        with ExitStack() as clients:
            for _ in range(50):
                clients.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
            before = daemon.metrics()
            code, took_s = daemon.stop()
        assert (code, took_s < STOP_S) == (0, True), took_s
        fake.release()
        boots.reboot(fake)
        daemon.start()
        daemon.wait_ready()
        after = daemon.metrics()
        assert "journal" not in daemon.stderr
        for uuid in fake.uuids:
            assert joules(after, uuid) >= joules(before, uuid)


@pytest.mark.alone
def test_a_stop_while_nvml_hangs_at_the_start(tmp_path: Path) -> None:
    """A driver that hangs from the beginning keeps neither readiness nor the end from coming."""
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        Daemon(fake, tmp_path / "state", *FAST) as daemon,
    ):
        fake.hang("nvmlInitWithFlags")
        daemon.wait_ready()
        assert not daemon.after(2).series("wattspan_gpu_up")
        code, took_s = daemon.stop()
        assert (code, took_s < STOP_S) == (0, True), took_s


def test_systemd_hears_of_start_life_and_end(tmp_path: Path) -> None:
    """Ready once a first snapshot is published, alive twice per watchdog period, and stopping at the end."""
    need("cysystemd", importlib.util.find_spec("cysystemd") is not None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with metering(tmp_path, env=environment) as (_, daemon):
            heard = [manager.recv(4096).strip() for _ in range(4)]
            assert heard == [b"READY=1", *[b"WATCHDOG=1"] * 3]
            os.kill(daemon.pid, signal.SIGTERM)
            while (word := manager.recv(4096).strip()) != b"STOPPING=1":
                assert word == b"WATCHDOG=1"
            assert daemon.ended() == 0
