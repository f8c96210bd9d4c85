"""Three cards that a real daemon meters, and what its scrapes must agree with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.daemon import Daemon, Scrape
from tests.e2e.truth import Truth
from tests.fakes.nvml import FakeNvml, parse_scenario
from wattspan.units import UJ_PER_J

FAST: Final = ("--sample.interval", "200ms")
ENERGY: Final = "wattspan_gpu_energy_joules_total"

THREE_CARDS: Final = parse_scenario(
    "three",
    {"clock": "real", "gpu": [{"generation": "h100", "count": 3, "curve": [[0, 300]], "base_mj": 10**9}]},
)


@contextmanager
def metering(
    folder: Path, *flags: str, env: dict[str, str] | None = None
) -> Iterator[tuple[FakeNvml, Daemon]]:
    """A ready daemon at 5 Hz on three cards that draw 300 W each, scraped once so that no series is held."""
    with (
        FakeNvml(THREE_CARDS, folder) as fake,
        Daemon(fake, folder / "state", *FAST, *flags, env=env) as daemon,
    ):
        daemon.wait_ready().after(2)
        yield fake, daemon


class Boots:
    """The procfs of a machine that the test reboots: another boot id, and counters that begin at 0.

    CLOCK_MONOTONIC is the real machine's and goes on.
    """

    def __init__(self, folder: Path) -> None:
        self._procfs = folder / "proc"
        self._boot_id = self._procfs / "sys/kernel/random/boot_id"
        self._boot_id.parent.mkdir(parents=True)
        self._boot_id.write_text("boot-1\n")
        self.flags = ("--path.procfs", str(self._procfs))
        self.show(1)

    def show(self, pid: int) -> None:
        """Let a process of the real machine be one of this one, until it is rebooted."""
        (self._procfs / str(pid)).symlink_to(f"/proc/{pid}")

    def reboot(self, fake: FakeNvml) -> None:
        """While no daemon runs."""
        for process in self._procfs.glob("[0-9]*"):
            process.unlink()
        self.show(1)
        self._boot_id.write_text("boot-2\n")
        for gpu in range(len(fake.uuids)):
            fake.reset_counter(gpu)


def is_down(uuid: str) -> Callable[[Scrape], bool]:
    """Whether a scrape says that a card is down."""
    return lambda scrape: scrape.value("wattspan_gpu_up", uuid=uuid) == 0


def is_up(uuid: str) -> Callable[[Scrape], bool]:
    """Whether a scrape says that a card is up."""
    return lambda scrape: scrape.value("wattspan_gpu_up", uuid=uuid) == 1


def read_at_s(scrape: Scrape) -> float:
    """When the source says that it was read."""
    return scrape.value("wattspan_source_last_read_timestamp_seconds", source="nvidia")


def joules(scrape: Scrape, uuid: str) -> float:
    """A card's energy, by whatever method."""
    return scrape.total(ENERGY, uuid=uuid)


def assert_exact(fake: FakeNvml, gpu: int, first: Scrape, last: Scrape) -> None:
    """Between two scrapes a card used what the scenario says, to the microjoule."""
    truth, uuid = Truth(fake), fake.uuids[gpu]
    counted_uj = round((joules(last, uuid) - joules(first, uuid)) * UJ_PER_J)
    can_be_uj = {
        round((end - start) * UJ_PER_J)
        for start in truth.joules_at(gpu, read_at_s(first))
        for end in truth.joules_at(gpu, read_at_s(last))
    }
    assert counted_uj in can_be_uj
    assert counted_uj > 0


def assert_shares(scrape: Scrape, uuid: str) -> None:
    """The shares sum to the energy, the reasons to the share unattributed."""
    shares = scrape.series("wattspan_gpu_attributed_energy_joules_total", uuid=uuid)
    assert sum(round(v * UJ_PER_J) for v in shares.values()) == round(joules(scrape, uuid) * UJ_PER_J)
    nobodys = scrape.value("wattspan_gpu_attributed_energy_joules_total", uuid=uuid, share="unattributed")
    reasons = scrape.total("wattspan_gpu_unattributed_energy_joules_total", uuid=uuid)
    assert reasons == pytest.approx(nobodys, abs=1e-6)
