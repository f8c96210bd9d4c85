"""What live carbon figures cost a daemon: the sampler's look-up, a source that is dead, and memory.

Everything is measured beside a daemon without live sources, in one run.

Exit codes: 0 within the bounds, 1 not.
"""

import argparse
import calendar
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.process_cost import BYTES_PER_MIB
from tests.fakes.grid_service import Answer, GridService, Request, serving
from wattspan.carbon.fetcher import Fetcher
from wattspan.carbon_service import CarbonService
from wattspan.config import Config
from wattspan.units import NS_PER_S

LOOK_UP_BOUND_S = 5e-6
MEMORY_BOUND_BYTES = 12 * BYTES_PER_MIB
DEAD_BOUND_RATIO = 1.1
"""Medians of one and the same code path: what is above 1 is noise, and a wait would be a thousandfold."""

PATIENCE_S = 60.0
"""Until the question goes out: a busy machine may take its time to run the thread that asks."""

CHARGES = 64
FETCHES = 200
DAY_S = 86_400


def half_hours(request: Request) -> Answer:
    """Great Britain's figures from the moment that is asked for, 48 h ahead."""
    begin = request.path.split("/")[2]
    begin_s = calendar.timegm(time.strptime(begin, "%Y-%m-%dT%H:%MZ")) // 1800 * 1800
    rows = []
    for number in range(98):
        times = [time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(begin_s + 1800 * (number + n))) for n in (0, 1)]
        figures = {"forecast": 100 + number, "actual": 100 + number if number < 2 else None, "index": "low"}
        rows.append({"from": times[0], "to": times[1], "intensity": figures})
    return Answer(json={"data": rows})


def service_of(url: str | None, folder: Path) -> CarbonService:
    """The figures of a node in Great Britain; yearly ones without a URL."""
    live = {"grid_providers": ("carbonintensity",), "grid_carbonintensity_url": url} if url else {}
    return CarbonService(Config(node_name="node-a", grid_zone="GB", state_dir=folder, **live), {}, folder)  # type: ignore[arg-type]


def best_s(what: Callable[[], object], number: int = 2000, rounds: int = 20) -> float:
    """CPU seconds of one call, in the round that others disturbed least."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(number):
            what()
        best = min(best, (time.process_time() - begin) / number)
    return best


def look_ups(service: GridService) -> dict[str, float]:
    """Of the sampler, with two days of half hours at hand and two ahead."""
    with TemporaryDirectory() as folder:
        carbon = service_of(service.url, Path(folder))
        now_ns = time.time_ns()
        for back in range(96, -1, -1):
            moment_ns = now_ns - back * 1800 * NS_PER_S
            carbon.refresh(moment_ns, moment_ns)
        assert len(carbon.chain.pricing.intensities) > 90, "the fake was not understood"
        return {
            "intensity in force": best_s(lambda: carbon.state(now_ns)),
            "price of a charge": best_s(lambda: carbon.rates.footprint(10**9, now_ns - NS_PER_S, now_ns)),
        }


def ticks(rounds: int) -> tuple[float, float]:
    """Median wall seconds of a tick's look-ups: without live sources, and while one never answers."""
    with TemporaryDirectory() as folder, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(16)
        port = deaf.getsockname()[1]
        without = service_of(None, Path(folder, "a"))
        dead = service_of(f"http://127.0.0.1:{port}", Path(folder, "b"))
        for carbon in (without, dead):
            carbon.settle(time.time_ns(), time.monotonic_ns() - 60 * NS_PER_S)
        fetcher = Fetcher([dead])
        fetcher.start()
        deaf.settimeout(PATIENCE_S)
        taken, _ = deaf.accept()
        taken.settimeout(PATIENCE_S)
        assert taken.recv(1), "the question is out"
        took: dict[CarbonService, list[float]] = {without: [], dead: []}
        for _ in range(rounds):
            for carbon, times in took.items():
                begin = time.perf_counter()
                now_ns = time.time_ns()
                for _ in range(CHARGES):
                    carbon.rates.footprint(10**9, now_ns - NS_PER_S, now_ns)
                carbon.state(now_ns)
                times.append(time.perf_counter() - begin)
        asked = dead.chain.failures()
        for end in (taken, deaf):
            end.close()  # ends the question
        fetcher.stop(15.0)
        assert not any(asked.values()), "the source was meant to hang through all of it"
        return statistics.median(took[without]), statistics.median(took[dead])


def memory_bytes(url: str | None) -> int:
    """What a process holds for itself alone that has priced a week, and fetched if there is a URL."""
    environ = {**os.environ, "NO_PROXY": "127.0.0.1", "MALLOC_ARENA_MAX": "2"}
    child = subprocess.run(
        [sys.executable, "-m", "tests.bench.grid_cost", "--child", url or "-"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(json.loads(child.stdout)["bytes"])


def child(url: str | None) -> int:
    """The process that `memory_bytes` starts."""
    import wattspan.app  # noqa: F401, PLC0415 - what a daemon has loaded in any case

    with TemporaryDirectory() as folder:
        carbon = service_of(url, Path(folder))
        begin_ns = time.time_ns()
        carbon.settle(begin_ns, begin_ns)
        for number in range(FETCHES):
            now_ns = begin_ns + number * 1800 * NS_PER_S
            carbon.refresh(now_ns, now_ns)
            carbon.rates.footprint(10**9, now_ns - NS_PER_S, now_ns)
            carbon.state(now_ns)
        if url:
            assert not any(carbon.chain.failures().values()), carbon.chain.failures()
    rollup = Path("/proc/self/smaps_rollup").read_text()
    private_kb = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    print(json.dumps({"bytes": private_kb * 1024}))
    return 0


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.child:
        return child(None if arguments.child == "-" else arguments.child)
    os.environ["NO_PROXY"] = "127.0.0.1"
    logging.disable()  # the source that never answers is meant to fail in the end
    with serving() as service:
        service.says("/intensity/*/fw48h", half_hours)
        costs = look_ups(service)
        without_s, dead_s = ticks(arguments.rounds)
        without_bytes, live_bytes = memory_bytes(None), memory_bytes(service.url)
    for what, seconds in costs.items():
        print(f"look-up, {what}: {seconds * 1e6:.2f} us of CPU (bound {LOOK_UP_BOUND_S * 1e6:g})")
    print(
        f"a tick's look-ups ({CHARGES} charges): {without_s * 1e6:.0f} us without live sources,"
        f" {dead_s * 1e6:.0f} us beside one that never answers ({dead_s / without_s:.2f} x, bound"
        f" {DEAD_BOUND_RATIO:g})"
    )
    added = live_bytes - without_bytes
    print(
        f"private memory after {FETCHES} fetches: {live_bytes / BYTES_PER_MIB:.1f} MiB, without any"
        f" {without_bytes / BYTES_PER_MIB:.1f} MiB: {added / BYTES_PER_MIB:+.1f} MiB"
        f" (bound {MEMORY_BOUND_BYTES / BYTES_PER_MIB:g})"
    )
    shown = (
        max(costs.values()) < LOOK_UP_BOUND_S
        and dead_s < DEAD_BOUND_RATIO * without_s
        and added < MEMORY_BOUND_BYTES
    )
    return 0 if shown else 1


if __name__ == "__main__":
    sys.exit(main())
