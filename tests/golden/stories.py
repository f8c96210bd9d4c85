"""What happens in each scenario before its /metrics is kept.

A story moves the clock, lets things happen, and yields a golden's name with the text at that moment.
It is told by the real rooms, and no figure in it depends on how long that takes.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fakes.machine import Clock, Machine, set_int
from tests.fakes.nvml import FakeNvml, MigInstance, Process
from tests.golden.node import Node
from wattspan.carbon.chain import Chain, chain_of
from wattspan.devices import Source
from wattspan.devices.demo import DemoSource
from wattspan.devices.estimate import EstimateSource
from wattspan.devices.hwmon import HwmonSource
from wattspan.devices.nvidia import NvidiaSource
from wattspan.devices.rapl import RaplSource
from wattspan.units import NS_PER_S, UJ_PER_J, UW_PER_W

Golden = tuple[str, str]
"""The name of a golden file, and what it holds."""

Story = Callable[[Path], Iterator[Golden]]
"""Told in an empty folder."""

_EVENT_PATIENCE_S: Final = 30.0

_SW_POWER_CAP: Final = 74
_RECOVERY_ACTION: Final = 230
"""NVML field ids."""

_RAPL_RANGE_UJ: Final = 262_143_328_850


@dataclass
class Gpus:
    """A fake driver under a scenario, and the daemon that meters it.

    Attributes:
        others: sources beside it.
    """

    fake: FakeNvml
    state_dir: Path
    others: tuple[Source, ...] = ()
    node: Node = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self, boot_id: str = "first boot") -> None:
        """A daemon begins."""
        nvidia = NvidiaSource(str(self.fake.library), clock=self.fake.now_ns)
        self.node = Node((nvidia, *self.others), self.fake.now_ns, self.state_dir, boot_id=boot_id)

    def run(self, ticks: int) -> None:
        """Look, and let a second pass, so many times."""
        for _ in range(ticks):
            self.node.look()
            self.fake.advance(1)

    def gap(self, seconds: int) -> None:
        """Nobody looks for so long, as when the node is suspended."""
        self.fake.advance(seconds)
        self.node.look(missed_ticks=seconds)
        self.fake.advance(1)

    def xid(self, gpu: int, number: int) -> None:
        """The driver reports an error."""
        self._report(lambda: self.fake.xid(gpu, number))

    def remake_mig(self, gpu: int, *instances: MigInstance) -> None:
        """Somebody makes the MIG layout anew, and the driver reports it."""
        self._report(lambda: self.fake.set_mig(gpu, instances))

    def _report(self, happening: Callable[[], None]) -> None:
        """Let happen what the driver reports; the thread that waits for such has heard when this returns."""
        self._wait(lambda: self.fake.waiting() > 0)
        waits = self.fake.calls("nvmlEventSetWait_v2")
        happening()
        # The next wait may have begun before the event, when one had just timed out; the one after has not.
        self._wait(lambda: self.fake.calls("nvmlEventSetWait_v2") > waits + 1)

    @staticmethod
    def _wait(condition: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + _EVENT_PATIENCE_S
        while not condition():
            if time.monotonic() > give_up_s:
                raise TimeoutError("nobody waits for events")
            time.sleep(0.005)


@contextmanager
def gpus(
    scenario: str, folder: Path, others: Callable[[Callable[[], int]], tuple[Source, ...]] = lambda _: ()
) -> Iterator[Gpus]:
    """A daemon on a scenario; `others` makes further sources from its clock."""
    with FakeNvml(scenario, folder) as fake:
        fake.load()
        told = Gpus(fake, folder / "state", others(fake.now_ns))
        try:
            yield told
        finally:
            told.node.stop()


def idle(folder: Path) -> Iterator[Golden]:
    """Two cards that nobody uses; then somebody comes to the second one."""
    with gpus("idle", folder) as told:
        told.run(3)
        yield "idle", told.node.metrics()
        told.fake.set_processes(1, [Process(4711, memory_mib=2048)])
        told.fake.set_look(1, utilization_percent=80, memory_used_mib=2048, temperature_c=50)
        told.fake.set_power(1, 400)
        told.run(7)
        yield "idle-taken", told.node.metrics()


def h100(folder: Path) -> Iterator[Golden]:
    """A training for more than a minute, held down by its power cap for a while, with an XID on the way."""
    with gpus("h100", folder) as told:
        told.run(30)
        told.fake.set_field(0, _SW_POWER_CAP, 2_500_000_000)
        told.xid(0, 31)
        told.run(40)
        yield "h100", told.node.metrics()


def h100x8(folder: Path) -> Iterator[Golden]:
    """One of eight falls off the bus, and comes back with the indices in another order."""
    with gpus("h100x8", folder) as told:
        told.run(5)
        told.xid(3, 79)
        told.fake.lose(3)
        told.run(2)
        yield "h100x8-lost", told.node.metrics()
        told.fake.swap_order(3, 0, 1, 2, 4, 5, 6, 7)
        told.fake.set_field(3, _RECOVERY_ACTION, 1)
        told.fake.bring_back(3)
        told.run(8)
        yield "h100x8-back", told.node.metrics()


def ga100(folder: Path) -> Iterator[Golden]:
    """Four counters: one is sound, one reset, one steps back, one jumps further than a card can draw."""
    with gpus("ga100", folder) as told:
        told.run(5)
        told.fake.reset_counter(1)
        told.fake.step_back(2, 500)
        told.fake.jump(3, 1_000_000)
        told.run(3)
        yield "ga100", told.node.metrics()


def gh200(folder: Path) -> Iterator[Golden]:
    """Module counters already hold the Grace CPUs: their rail is host energy, and in no node sum."""
    machine = Machine(folder / "host")
    rails = {"Module": 610, "Grace": 180, "CPU": 120, "SysIO": 25}
    for number, (rail, watts) in enumerate(rails.items()):
        facts = {"power1_average": watts * UW_PER_W, "power1_oem_info": f"{rail} Power Socket 0"}
        machine.chip(number, f"ACPI000D:{number:02d}", "power_meter", **facts)
    with gpus("gh200", folder, lambda clock: (HwmonSource(machine.sys, clock),)) as told:
        told.run(6)
        yield "gh200", told.node.metrics()


def mig(folder: Path) -> Iterator[Golden]:
    """Layouts of all kinds, and one that is made anew while we look."""
    with gpus("mig", folder) as told:
        told.run(4)
        told.remake_mig(2, MigInstance(3, 0, 7, 80_000, "7g.80gb", processes=(7201,)))
        told.run(7)
        yield "mig", told.node.metrics()


def v100(folder: Path) -> Iterator[Golden]:
    """A gap of 100 s; half a minute without a daemon; a reboot, after which the driver counts from 0."""
    with gpus("v100", folder) as told:
        told.run(4)
        told.gap(100)
        told.run(2)
        yield "v100-gap", told.node.metrics()
        told.node.stop()
        told.fake.advance(30)
        told.start()
        told.run(3)
        yield "v100-restarted", told.node.metrics()
        told.node.stop()
        for gpu in range(2):
            told.fake.reset_counter(gpu)
        told.fake.advance(20)
        told.start(boot_id="second boot")
        told.run(3)
        yield "v100-rebooted", told.node.metrics()


def vgpu(folder: Path) -> Iterator[Golden]:
    """Guests: power without energy, neither, and a counter that stays 0; then ten seconds unseen."""
    with gpus("vgpu", folder) as told:
        told.run(8)
        told.gap(10)
        told.run(2)
        yield "vgpu", told.node.metrics()


def old_driver(folder: Path) -> Iterator[Golden]:
    """A library that lacks the newer functions and fields."""
    with gpus("old_driver", folder) as told:
        told.run(6)
        yield "old_driver", told.node.metrics()


def demo(folder: Path) -> Iterator[Golden]:
    """The demo's cards and host in the minute in which one of them is lost."""
    clock = Clock(597 * NS_PER_S)
    node = Node(
        [DemoSource("demo-node", gpus=8, faults=True, clock_ns=clock)], clock, folder, chain=_unconfigured()
    )
    for _ in range(8):
        node.look()
        clock.advance(1)
    yield "demo", node.metrics()
    node.stop()


def host(folder: Path) -> Iterator[Golden]:
    """Two packages, one of which wraps, their DRAM, psys, and a BMC's meter that holds all of it."""
    machine = Machine(folder / "host")
    machine.cpu()
    zones: Mapping[Path, int] = {
        machine.zone("intel-rapl:0", "package-0", _RAPL_RANGE_UJ - 150 * UJ_PER_J, _RAPL_RANGE_UJ): 120,
        machine.zone("intel-rapl:0:0", "core"): 90,
        machine.zone("intel-rapl:0:1", "dram"): 30,
        machine.zone("intel-rapl:1", "package-1"): 115,
        machine.zone("intel-rapl:1:0", "dram"): 28,
        machine.zone("intel-rapl:2", "psys"): 400,
    }
    machine.chip(0, "ACPI000D:00", "power_meter", power1_average=612 * UW_PER_W)
    machine.write("proc/stat", "cpu 100 0 100 1000 0 0 0 0 0 0")
    sources = (
        RaplSource(machine.sys, machine.proc, machine.clock),
        HwmonSource(machine.sys, machine.clock),
        EstimateSource(machine.proc, machine.clock),
    )
    node = Node(sources, machine.clock, folder / "state")
    for second in range(1, 6):
        node.look()
        machine.clock.advance(1)
        for zone, watts in zones.items():
            counter = zone / "energy_uj"
            set_int(counter, (int(counter.read_text()) + watts * UJ_PER_J) % (_RAPL_RANGE_UJ + 1))
        machine.write("proc/stat", f"cpu {100 + 90 * second} 0 100 {1000 + 10 * second} 0 0 0 0 0 0")
    yield "host", node.metrics()
    node.stop()


def estimate(folder: Path) -> Iterator[Golden]:
    """A machine without any sensor, and nobody has said where it stands."""
    machine = Machine(folder / "host")
    machine.write("proc/cpuinfo", "model name\t: AMD EPYC 7763 64-Core Processor")
    machine.write("proc/stat", "cpu 100 0 100 1000 0 0 0 0 0 0")
    node = Node(
        [EstimateSource(machine.proc, machine.clock)], machine.clock, folder / "state", chain=_unconfigured()
    )
    for second in range(1, 6):
        node.look()
        machine.clock.advance(1)
        machine.write("proc/stat", f"cpu {100 + 50 * second} 0 100 {1000 + 50 * second} 0 0 0 0 0 0")
    yield "estimate", node.metrics()
    node.stop()


def _unconfigured() -> Chain:
    return chain_of(None, None, None, None, {})


TOLD_TOGETHER: Final[tuple[tuple[Story, ...], ...]] = (
    (idle, h100, h100x8, ga100, gh200, mig, v100, vgpu),
    (old_driver,),
    (demo, host, estimate),
)
"""Stories that may share a process: pynvml never gives up a library, so each variant has one of its own."""
