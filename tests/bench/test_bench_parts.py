"""The benchmark's own instruments: a wrong ruler would flatter us without anybody noticing."""

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.bench.figures import METERING, SCRAPING, Figure, Turn, compare
from tests.bench.process_cost import cpu_s, memory, touched_pages
from tests.bench.scrape import Scraper, count_samples
from tests.bench.subjects import Subject, SubjectError, running

EXPOSITION = """\
# HELP a_total Things.
# TYPE a_total counter
a_total{b="1"} 2
a_total{b="2"} 3

# EOF
"""

MIB = 1024 * 1024
TURN = Turn("x", cpu_per_s=0.004, nvml_calls_per_s=48, rss_bytes=50 * MIB)
CPU, MEMORY, SCRAPE_TIME = (
    next(figure for figure in (*METERING, *SCRAPING) if figure.what.startswith(what))
    for what in ("CPU of metering", "resident memory", "scrape time")
)


class Answer(BaseHTTPRequestHandler):
    """Answers every GET with the exposition, zipped when asked, and remembers the headers."""

    protocol_version = "HTTP/1.1"
    status = 200

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        body = gzip.compress(EXPOSITION.encode())
        self.send_response(self.status)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Answer) as listener:
        listener.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield listener
        listener.shutdown()
        thread.join()


def test_only_lines_with_a_value_are_samples() -> None:
    """Comments, blank lines and the end mark are no samples."""
    assert count_samples(EXPOSITION) == 2


def test_a_scrape_asks_as_prometheus_does(server: HTTPServer) -> None:
    """Both generations' Accept headers are sent in turn over one connection, and the answer is unzipped."""
    scraper = Scraper(server.server_port)
    first, _ = scraper.scrape(), scraper.scrape()
    scraper.close()
    assert first.samples == 2
    assert first.wire_bytes == len(gzip.compress(EXPOSITION.encode()))
    accepts = [headers["Accept"] for headers in server.seen]  # type: ignore[attr-defined]
    assert ["escaping=allow-utf-8" in accept for accept in accepts] == [True, False]
    assert all("version=0.0.4" in accept for accept in accepts)


def test_an_error_page_is_no_scrape(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that fails fast does not win."""
    monkeypatch.setattr(Answer, "status", 503)
    scraper = Scraper(server.server_port)
    with pytest.raises(ValueError, match="503"):
        scraper.scrape()
    scraper.close()


def test_cpu_time_covers_threads_that_have_ended() -> None:
    """A program that works in short-lived threads pays for them, as it says itself."""
    work = (
        "import threading, time\n"
        "def spin():\n"
        "    while time.process_time() < 0.3: pass\n"
        "t = threading.Thread(target=spin); t.start(); t.join()\n"
        "print(time.process_time(), flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said_s = float(process.stdout.readline())
    seen_s = cpu_s(process.pid)
    process.communicate("\n")
    assert said_s <= seen_s < 1.5 * said_s


def test_memory_is_ordered_as_the_kernel_defines_it() -> None:
    """Unique pages are part of proportional ones, and those of resident ones."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"], stdin=-1, stdout=-1
    ) as one:
        assert one.stdout is not None
        one.stdout.readline()
        used = memory(one.pid)
        one.communicate(b"\n")
    assert 0 < used.uss <= used.pss <= used.rss


def test_pages_are_those_that_were_touched() -> None:
    """A process that goes over 16 MiB again and again touches its 4,096 pages, one that waits hardly any."""
    script = """
m = bytearray(1 << 24)
print(flush=True)
while WORKS:
    for place in range(0, len(m), 4096):
        m[place] = 1
input()
"""
    counts = []
    for works in ("True", "False"):
        command = [sys.executable, "-c", script.replace("WORKS", works)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
            assert one.stdout is not None
            one.stdout.readline()
            time.sleep(0.2)
            counts.append(touched_pages(one.pid, 0.5))
            one.kill()
    busy, waiting = counts
    assert busy >= 4096
    assert waiting < 2048


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is twice as slow in one round is so for both, and the ratio does not notice."""
    theirs = replace(TURN, cpu_per_s=0.02)
    slow = [replace(turn, cpu_per_s=2 * turn.cpu_per_s) for turn in (TURN, theirs)]
    row = compare(CPU, [TURN, slow[0]], [theirs, slow[1]])
    assert list(row.spread) == pytest.approx([0.2, 0.2])
    assert row.met is True


@pytest.mark.parametrize(("rss_mib", "met"), [(64, True), (65, False)])
def test_memory_is_judged_by_itself(rss_mib: int, met: bool) -> None:
    """The memory target is ours alone, however much the other one uses."""
    row = compare(MEMORY, [replace(TURN, rss_bytes=rss_mib * MIB)], [replace(TURN, rss_bytes=900 * MIB)])
    assert row.met is met


def test_scrape_cost_is_per_sample() -> None:
    """Who serves twice the samples in twice the time is as fast."""
    small = replace(TURN, samples=1000, scrape_wall_s=0.004)
    large = replace(TURN, samples=2000, scrape_wall_s=0.008)
    row = compare(SCRAPE_TIME, [small], [large])
    assert [row.ours, row.theirs, row.ratio] == pytest.approx([4, 4, 1])


def test_nothing_measured_is_no_victory() -> None:
    """A figure that does not apply, or that the other one has for nothing, is an error and no ratio."""
    with pytest.raises(ValueError, match="nothing measured"):
        compare(Figure("x", lambda _: None), [TURN], [TURN])
    with pytest.raises(ValueError, match="a ratio to nothing"):
        compare(CPU, [TURN], [replace(TURN, cpu_per_s=0.0)])


def test_a_cost_below_the_noise_is_shown_as_nothing() -> None:
    """Scrapes too cheap to tell from metering do not end the benchmark."""
    cheap, dear = replace(TURN, cpu_per_s=0.0), TURN
    assert compare(CPU, [cheap], [dear]).ratio == 0


def test_a_program_that_does_not_start_says_why() -> None:
    """Its last words and its exit code are in the error."""
    dying = Subject("dying", (sys.executable, "-c", "raise SystemExit('no such card')"))
    with pytest.raises(SubjectError, match="ended with 1: no such card"), running(dying, Path(), {}):
        pass
