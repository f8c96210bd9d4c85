"""A day of metering on a fake clock: the real pynvml on the fake NVML, through every room to the scrape.

Shows that energy is exact to the microjoule against the scenario's own integral, gaps and all,
and that memory at the end is what it was after a quarter of the time.

Exit codes: 0 shown, 1 not.
"""

import argparse
import gc
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.process_cost import BYTES_PER_MIB, memory
from tests.bench.scrape import PROMETHEUS_2, count_samples
from tests.fakes.nvml import FakeNvml
from wattspan.carbon.chain import chain_of
from wattspan.carbon.rates import Rates
from wattspan.devices.nvidia import NvidiaSource
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.store import Journal
from wattspan.ledger.ledger import Ledger
from wattspan.publish.exposition import Exposition
from wattspan.sampler import Sampler
from wattspan.units import J_PER_KWH, NS_PER_S, UJ_PER_J, UJ_PER_MJ

WALL_AT_BOOT_NS = 1_780_000_000 * NS_PER_S
SCRAPE_EVERY_TICKS = 15
STALLS = ((0.2, 20), (0.55, 300))
"""After this share of the replay nobody looks for so many seconds, as when a node is suspended."""

INTENSITY_G_PER_KWH = 321.0
PUE = 1.25

RSS_GROWTH_BYTES = 2 * BYTES_PER_MIB
BLOCKS_GROWTH_RATIO = 1.01
"""Python's own allocations may differ by what happens to be in flight."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory at a moment, after a collection.

    Attributes:
        rss_bytes: resident.
        blocks: allocated by Python (sys.getallocatedblocks).
    """

    rss_bytes: int
    blocks: int


class Replay:
    """The rooms as `wattspan.app` wires them, on the scenario's clock."""

    def __init__(self, fake: FakeNvml, state_dir: Path) -> None:
        self.fake = fake
        self.board = Board()
        self.samples = 0
        self._exposition = Exposition(series_budget=3000)
        source = NvidiaSource(str(fake.library), clock=fake.now_ns)
        self._sampler = Sampler([(source, True)], NS_PER_S, fake.now_ns, self._wall_ns)
        self._ledger = Ledger(NS_PER_S, {})
        self._chain = chain_of(None, None, INTENSITY_G_PER_KWH, PUE, {})
        self._chain.refresh(self._wall_ns())
        self._books = Books(Journal.open(state_dir, "replayed-boot", self._wall_ns), self.board)

    def tick(self, *, missed: int = 0) -> None:
        """One look and all that follows from it."""
        tick = self._ledger.apply(self._sampler.look(missed))
        self._books.take(tick, Rates(self._chain.pricing), self._chain.state(self._wall_ns()))

    def scrape(self) -> None:
        """What a Prometheus would get now."""
        view = self.board.view
        body = self._exposition.render(view, PROMETHEUS_2).body
        self.samples = count_samples(body.decode())
        self.board.scraped(view.sequence, 0)

    def close(self) -> None:
        self._books.close()
        self._sampler.close(5)

    def _wall_ns(self) -> int:
        return WALL_AT_BOOT_NS + self.fake.now_ns()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.replay_24h", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="how much is replayed")
    ticks = round(parser.parse_args().hours * 3600)
    with TemporaryDirectory(prefix="wattspan-replay-") as folder, FakeNvml("h100x8", Path(folder)) as fake:
        fake.load()
        replay = Replay(fake, Path(folder, "state"))
        replay.tick()  # first sight: a baseline, before which nothing is charged
        metered_from_ns, began_s = fake.now_ns(), time.process_time()
        early, late = _play(replay, ticks)
        cpu_s = time.process_time() - began_s
        replay.close()
        errors = [*_energy_errors(replay, metered_from_ns), *_growth_errors(early, late)]
        metered_s = (fake.now_ns() - metered_from_ns) / NS_PER_S
    print(f"{metered_s / 3600:.2f} h, {len(fake.uuids)} GPUs, {ticks} ticks, {replay.samples} samples")
    print(f"CPU of a tick: {1000 * cpu_s / ticks:.2f} ms, its share of a scrape every 15 ticks included")
    for name, at in (("a quarter in", early), ("at the end", late)):
        print(f"memory {name}: {at.rss_bytes / BYTES_PER_MIB:.1f} MiB resident, {at.blocks} blocks")
    print("\n".join(errors) or "energy exact to the microjoule, memory flat")
    return 1 if errors else 0


def _play(replay: Replay, ticks: int) -> tuple[Footprint, Footprint]:
    """Tick after tick, with the stalls between; the footprint after a quarter, and at the end."""
    stalls = {round(share * ticks): seconds for share, seconds in STALLS}
    early = _footprint()
    for number in range(1, ticks + 1):
        stall_s = stalls.get(number, 0)
        replay.fake.advance(1 + stall_s)
        replay.tick(missed=stall_s)
        if number % SCRAPE_EVERY_TICKS == 0:
            replay.scrape()
        if number == ticks // 4:
            early = _footprint()
    replay.scrape()
    return early, _footprint()


def _footprint() -> Footprint:
    gc.collect()
    return Footprint(memory(os.getpid()).rss, sys.getallocatedblocks())


def _energy_errors(replay: Replay, from_ns: int) -> list[str]:
    """Every way in which the counters are not the scenario's integral since the first look."""
    counters, fake = replay.board.view.counters, replay.fake
    used_uj = {
        uuid: (fake.energy_mj(gpu) - fake.energy_mj(gpu, from_ns)) * UJ_PER_MJ
        for gpu, uuid in enumerate(fake.uuids)
    }
    facts: list[tuple[str, int | float, int | float]] = [
        ("the node", sum(used_uj.values()), counters["node_energy"][()])
    ]
    for uuid, truth_uj in used_uj.items():
        shares_uj = sum(
            value for labels, value in counters["gpu_attributed_energy"].items() if labels[0] == uuid
        )
        grams = truth_uj / UJ_PER_J / J_PER_KWH * PUE * INTENSITY_G_PER_KWH
        facts.append((uuid, truth_uj, counters["gpu_energy"][uuid, "counter"]))
        facts.append((f"{uuid}, all shares", truth_uj, shares_uj))
        # Grams are floats: added up tick by tick they may differ in the last digits.
        facts.append((f"{uuid}, grams", round(grams, 3), round(counters["gpu_co2e"][uuid, "lifecycle"], 3)))
    return [f"{what}: {truth} used, {counted} counted" for what, truth, counted in facts if truth != counted]


def _growth_errors(early: Footprint, late: Footprint) -> list[str]:
    errors = []
    if late.rss_bytes > early.rss_bytes + RSS_GROWTH_BYTES:
        errors.append(f"resident memory grew by {(late.rss_bytes - early.rss_bytes) / BYTES_PER_MIB:.1f} MiB")
    if late.blocks > early.blocks * BLOCKS_GROWTH_RATIO:
        errors.append(f"allocated blocks grew from {early.blocks} to {late.blocks}")
    return errors


if __name__ == "__main__":
    sys.exit(main())
