"""Ours beside its peers: the same machine, the same fake NVML of 8 GPUs x 8 processes, turn by turn.

The processes on each GPU are one training run, so that all that the programs tell apart is there to be told:
nvitop-exporter has series for each process, Wattspan for each run.
The programs never run at the same time; a round is one turn of each, and ratios are taken within a round,
so that a machine that is slower for a while is slower for both.
In a turn the program warms up, meters alone, then meters while it is scraped slower than it samples,
so that each scrape asks for values that it has not rendered before.
Meanwhile each core runs something that gives way to everything else, as on a node that trains:
on an idle virtual machine waking a core that sleeps costs more than the work. `--idle` leaves that out.
Last it meters at 4 Hz, as fast as the peer goes: there the work weighs more, and less what a machine has a
program pay for a second of rest: cold caches and, where memory is virtual twice, cold page tables.

Exit codes: 0 all targets met, 1 one was missed, 2 a program did not start.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.bench import report
from tests.bench.figures import METERING, SCRAPING, Turn, compare
from tests.bench.machine import rested_page_s
from tests.bench.process_cost import cpu_s, memory, touched_pages
from tests.bench.scrape import Scraper
from tests.bench.subjects import (
    Running,
    Subject,
    SubjectError,
    awake,
    codecarbon,
    idle_runs,
    nvitop_exporter,
    plain_environment,
    running,
    wattspan,
)
from tests.fakes.nvml import FakeNvml, Process, load_scenario

GPUS = 8
PROCESSES_PER_GPU = 8
SCRAPE_EVERY_S = 1.1
"""Longer than the sampling interval, so that no two scrapes see the same view."""


def main() -> int:
    options = _arguments().parse_args()
    if options.quick:
        options.rounds, options.meter_s, options.scrapes, options.warm_s = 1, 8.0, 6, 2.0
    ours, peer = wattspan(options.wattspan), nvitop_exporter(options.peer_python)
    turns: list[Turn] = []
    rests_s: list[float] = []
    try:
        with nullcontext() if options.idle else awake(), idle_runs(GPUS, PROCESSES_PER_GPU) as pids:
            for number in range(options.rounds):
                rests_s.append(rested_page_s())
                # Who goes first alternates, so that neither always gets the cooler machine.
                turns += [
                    _turn(subject, pids, options) for subject in ((ours, peer), (peer, ours))[number % 2]
                ]
            turns.append(_turn(codecarbon(options.peer_python), pids, options))
    except SubjectError as error:
        print(error, file=sys.stderr)
        return 2
    own = _of(turns, "wattspan")
    rows = [compare(figure, own, _of(turns, "nvitop-exporter")) for figure in (*METERING, *SCRAPING)]
    beside = [
        compare(replace(figure, target=None), own[-1:], _of(turns, "codecarbon")) for figure in METERING
    ]
    print(report.rest(rests_s))
    print(report.table(f"\n{GPUS} GPUs x {PROCESSES_PER_GPU} processes", "nvitop-exporter", rows))
    print(report.table("\nmetering only", "codecarbon", beside))
    written = report.write(
        options.results,
        turns,
        rests_s,
        {"nvitop-exporter": rows, "codecarbon": beside},
        _versions(options.peer_python),
    )
    print(f"\nwritten to {written}")
    return 1 if any(row.met is False for row in rows) else 0


def _arguments() -> argparse.ArgumentParser:
    beside = Path(sys.executable)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute")
    parser.add_argument("--idle", action="store_true", help="let cores sleep between ticks and scrapes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--meter-s", type=float, default=30.0, help="seconds of metering that are measured")
    parser.add_argument("--scrapes", type=int, default=15, help="scrapes that are measured in a turn")
    parser.add_argument("--warm-s", type=float, default=5.0, help="seconds before anything is measured")
    parser.add_argument("--wattspan", default=str(beside.with_name("wattspan")), help="our command")
    parser.add_argument(
        "--peer-python", type=os.path.abspath, default=str(beside), help="interpreter that has the peers"
    )
    parser.add_argument("--results", type=Path, default=Path("bench-results"), help="folder for the JSON")
    return parser


def _turn(subject: Subject, pids: Sequence[Sequence[int]], options: argparse.Namespace) -> Turn:
    print(f"{subject.name} ...", file=sys.stderr, flush=True)
    scenario = replace(load_scenario("h100x8"), clock="real")
    with TemporaryDirectory(prefix="wattspan-bench-") as folder, FakeNvml(scenario, Path(folder)) as fake:
        for gpu, mine in enumerate(pids):
            fake.set_processes(gpu, [Process(pid, memory_mib=4096, sm_percent=12) for pid in mine])
        environment = fake.environment(plain_environment())
        with running(subject, fake.library, environment) as target:
            time.sleep(options.warm_s)
            metering = _metering(target, fake, options.meter_s)
            turn = _scraped(metering, target, options.scrapes) if subject.scraped else metering
            used = memory(target.pid)
            pages = touched_pages(target.pid)
        if subject.at_4_hz:
            with running(subject.faster(), fake.library, environment) as target:
                time.sleep(options.warm_s)
                often = _metering(target, fake, options.meter_s / 2, hz=4)
            turn = replace(turn, cpu_at_4_hz_per_s=often.cpu_per_s)
    return replace(turn, rss_bytes=used.rss, pss_bytes=used.pss, uss_bytes=used.uss, pages_per_s=pages)


def _metering(target: Running, fake: FakeNvml, seconds: float, hz: int = 1) -> Turn:
    """What a second costs while nobody scrapes.

    Raises:
        SubjectError: it does not look at the GPUs, so that it would win by doing nothing.
    """
    fake.clear_calls()
    began_s, cpu_before_s = time.monotonic(), cpu_s(target.pid)
    time.sleep(seconds)
    cpu_used_s, passed_s = cpu_s(target.pid) - cpu_before_s, time.monotonic() - began_s
    calls = fake.calls()
    if calls < GPUS * (hz * passed_s - hz):
        raise target.error(f"does not meter at {hz} Hz, {calls} NVML calls in {passed_s:.0f} s")
    return Turn(target.subject.name, cpu_used_s / passed_s, calls / passed_s)


def _scraped(metering: Turn, target: Running, count: int) -> Turn:
    """Scrapes, and what they cost beyond the metering that goes on under them."""
    scraper = Scraper(target.port)
    for _ in range(2):
        scraper.scrape()
        time.sleep(SCRAPE_EVERY_S)
    began_s, cpu_before_s = time.monotonic(), cpu_s(target.pid)
    scrapes = []
    for number in range(1, count + 1):
        scrapes.append(scraper.scrape())
        time.sleep(max(0.0, began_s + number * SCRAPE_EVERY_S - time.monotonic()))
    cpu_used_s, passed_s = cpu_s(target.pid) - cpu_before_s, time.monotonic() - began_s
    scraper.close()
    return replace(
        metering,
        cpu_per_scrape_s=max(0.0, cpu_used_s - metering.cpu_per_s * passed_s) / count,
        scrape_wall_s=median(scrape.wall_s for scrape in scrapes),
        samples=scrapes[-1].samples,
        wire_bytes=scrapes[-1].wire_bytes,
    )


def _of(turns: Sequence[Turn], subject: str) -> list[Turn]:
    return [turn for turn in turns if turn.subject == subject]


def _versions(peer_python: str) -> dict[str, str]:
    """Of everybody, as their own interpreter has it installed."""
    script = (
        "import sys, importlib.metadata as m; print(sys.version.split()[0], *map(m.version, sys.argv[1:]))"
    )
    peers = ("nvitop-exporter", "nvitop", "codecarbon", "prometheus-client", "nvidia-ml-py")
    answer = subprocess.run([peer_python, "-c", script, *peers], capture_output=True, text=True, check=True)
    own = subprocess.run(
        [sys.executable, "-c", script, "wattspan"], capture_output=True, text=True, check=True
    )
    return dict(zip(("python", *peers), answer.stdout.split(), strict=True)) | {
        "wattspan": own.stdout.split()[1]
    }


if __name__ == "__main__":
    sys.exit(main())
