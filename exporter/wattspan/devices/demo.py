"""Simulated GPUs and a simulated host, for a laptop without any; ``vendor="demo"`` says so on every card.

Everything is a pure function of the node's name and the monotonic clock, whose zero is the machine's boot.
Two processes of one boot therefore see the same counters, and a restart invents or loses nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import UUID, uuid5

from wattspan.devices import demo_load
from wattspan.devices.demo_load import Cycle, Integral, Load
from wattspan.model import (
    Component,
    Failure,
    Gpu,
    GpuReading,
    HostReading,
    MigInstance,
    PlatformReading,
    SourceReport,
    XidEvent,
)
from wattspan.units import HZ_PER_MHZ, NS_PER_S, PERCENT, UW_PER_W

_NAMESPACE: Final = UUID("5f0c2f4e-6d1b-5f27-9c55-5d7a3f0f9746")
"""Made once for this file, so that no other program's name-based UUIDs collide with ours."""

_MINUTE_NS: Final = 60 * NS_PER_S
_MEMORY_BYTES: Final = 80 * 1024**3

_FIRST_PID: Final = 2**22
"""Linux gives no process an id this high (PID_MAX_LIMIT in include/linux/threads.h): ours can be nobody's."""

_RAPL_RANGE_UJ: Final = 262_143_328_850
"""max_energy_range_uj of a server's package zone: the last value before 0; at 170 W reached in 26 minutes."""

_LOST_EVERY_NS: Final = 15 * _MINUTE_NS
_LOST_FROM_NS: Final = 10 * _MINUTE_NS
_LOST_FOR_NS: Final = _MINUTE_NS
_RESET_WANTED_FOR_NS: Final = _MINUTE_NS
"""After its return the lost card asks for a reset this long (recovery action 1)."""

_XID_PAGE_FAULT: Final = 31
"""GPU memory page fault: the usual bug in an application (NVIDIA, "Xid Errors")."""
_XID_PAGE_FAULT_EVERY_NS: Final = 397 * _MINUTE_NS

_XID_OFF_THE_BUS: Final = 79
"""GPU has fallen off the bus (NVIDIA, "Xid Errors")."""

_MIG_LAYOUT: Final = (("3g.40gb", 3, (0, 1, 2)), ("2g.20gb", 2, (3, 4)), ("1g.10gb", 1, (5,)))
"""Profile, slices and which of the card's processes run there; one slice of seven stays free."""


class DemoSource:
    """Simulated hardware behind the same door as the real one.

    Args:
        node_name: seeds the UUIDs and the curves, so that no two nodes of a fleet show the same card.
        gpus: how many cards, at least one; every eighth is in MIG mode.
        faults: one card is lost for a minute every quarter of an hour, and another one overheats.
        clock_ns: CLOCK_MONOTONIC, in nanoseconds.
    """

    name: Final = "demo"

    def __init__(
        self,
        node_name: str,
        *,
        gpus: int = 8,
        faults: bool = False,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._cards = tuple(_card(node_name, index, faults=faults) for index in range(gpus))
        self._rails = tuple(rail for socket in range(2) for rail in _rails(node_name, socket))
        self._lost_index = min(1, gpus - 1) if faults else None
        self._looked_at_ns = clock_ns()

    def open(self) -> str:
        """Nothing to take; XIDs count from now."""
        self._looked_at_ns = self._clock_ns()
        return f"{len(self._cards)} simulated GPUs and a simulated host"

    def read(self) -> SourceReport:
        """Look once. The lost card is a failure in the report, and its counter goes on unseen."""
        now_ns = self._clock_ns()
        lost = [card for card in self._cards if card.gpu.index == self._lost_index and _is_lost(now_ns)]
        seen = [card for card in self._cards if card not in lost]
        report = SourceReport(
            source=self.name,
            started_ns=now_ns,
            finished_ns=self._clock_ns(),
            gpus=tuple(self._reading(card, now_ns) for card in seen),
            hosts=tuple(rail.reading(now_ns) for rail in self._rails),
            platforms=(self._whole_box(now_ns),),
            xids=tuple(self._xids_until(now_ns)),
            failures=tuple(
                Failure(self.name, "lost", "simulated: GPU has fallen off the bus", card.gpu.uuid)
                for card in lost
            ),
        )
        self._looked_at_ns = now_ns
        return report

    def close(self) -> None:
        """Nothing to give up."""

    def _reading(self, card: "_Card", now_ns: int) -> GpuReading:
        wants_reset = card.gpu.index == self._lost_index and _wants_reset(now_ns)
        return card.reading(now_ns, recovery_action=1 if wants_reset else 0)

    def _whole_box(self, now_ns: int) -> PlatformReading:
        """What a BMC would show: all parts, 150 W of fans and network, and 6 % lost in the power supplies."""
        supplies = [card.supply for card in self._cards] + [rail.supply for rail in self._rails]
        parts_uw = sum(supply.power_uw(now_ns) for supply in supplies)
        return PlatformReading("demo-bmc", now_ns, (parts_uw + 150 * UW_PER_W) * 106 // 100)

    def _xids_until(self, now_ns: int) -> list[XidEvent]:
        """Those that fell due since the last look; nobody is told what fell due while we were down."""
        faulty = self._cards[-1].gpu.uuid
        due = _times_due(self._looked_at_ns, now_ns, _XID_PAGE_FAULT_EVERY_NS, 0)
        events = [XidEvent(faulty, _XID_PAGE_FAULT)] * due
        if self._lost_index is None:
            return events
        lost = self._cards[self._lost_index].gpu.uuid
        due = _times_due(self._looked_at_ns, now_ns, _LOST_EVERY_NS, _LOST_FROM_NS)
        return events + [XidEvent(lost, _XID_OFF_THE_BUS)] * due


class _Supply:
    """A power curve with its exact energy.

    Args:
        cycle: what the component does.
        shift_ns: where in the cycle the machine's boot lies.
    """

    def __init__(self, cycle: Cycle, shift_ns: int) -> None:
        self._cycle = cycle
        self._shift_ns = shift_ns
        self._power = Integral(cycle, lambda load: load.power_uw)
        self._throttled = {why: Integral(cycle, _held_down_by(why)) for why in demo_load.THROTTLES}

    def load(self, now_ns: int) -> Load:
        return self._cycle.at(self._shift_ns + now_ns)

    def energy_uj(self, now_ns: int) -> int:
        """Since boot, rounded down; microwatts times nanoseconds are 1e-9 uJ."""
        return self._since_boot(self._power, now_ns) // NS_PER_S

    def power_uw(self, now_ns: int, window_ns: int = NS_PER_S) -> int:
        """Mean over the window that ends now."""
        end_ns = self._shift_ns + now_ns
        return (self._power.until(end_ns) - self._power.until(end_ns - window_ns)) // window_ns

    def throttled_ns(self, now_ns: int) -> dict[str, int]:
        return {reason: self._since_boot(each, now_ns) for reason, each in self._throttled.items()}

    def _since_boot(self, integral: Integral, now_ns: int) -> int:
        return integral.until(self._shift_ns + now_ns) - integral.until(self._shift_ns)


@dataclass(frozen=True, slots=True)
class _Card:
    gpu: Gpu
    supply: _Supply

    def reading(self, now_ns: int, recovery_action: int) -> GpuReading:
        load = self.supply.load(now_ns)
        in_slices = self.gpu.mig_mode == "enabled"
        first_pid = _FIRST_PID + 100 * self.gpu.index
        return GpuReading(
            gpu=self.gpu,
            read_at_ns=now_ns,
            energy_uj=self.supply.energy_uj(now_ns),
            power_uw=self.supply.power_uw(now_ns),
            power_instant_uw=load.power_uw,
            power_limit_uw=demo_load.POWER_LIMIT_W * UW_PER_W,
            # NVML answers NOT_SUPPORTED for the utilization of a card in MIG mode.
            utilization_ratio=None if in_slices else load.busy_percent / PERCENT,
            memory_used_bytes=load.memory_gib * 1024**3,
            memory_total_bytes=_MEMORY_BYTES,
            temperature_celsius=_temperature(self.supply.power_uw(now_ns, _MINUTE_NS)),
            sm_clock_hertz=_clock(load),
            throttled_ns=self.supply.throttled_ns(now_ns),
            recovery_action=recovery_action,
            processes=frozenset(range(first_pid, first_pid + load.processes)),
            mig_instances=_mig_instances(self.gpu.uuid, first_pid) if in_slices else (),
        )


@dataclass(frozen=True, slots=True)
class _Rail:
    component: Component
    device: str
    limit_w: int
    supply: _Supply

    def reading(self, now_ns: int) -> HostReading:
        return HostReading(
            component=self.component,
            device=self.device,
            read_at_ns=now_ns,
            energy_uj=self.supply.energy_uj(now_ns) % (_RAPL_RANGE_UJ + 1),
            wraps_at_uj=_RAPL_RANGE_UJ,
            power_limit_uw=self.limit_w * UW_PER_W,
        )


def _card(node_name: str, index: int, *, faults: bool) -> _Card:
    own = Random(f"{node_name}/{index}")  # noqa: S311 -- simulated load, nothing secret
    # Ranks of one run stall and checkpoint together, so they share the run's seed and its place in the day.
    run = Random(f"{node_name}/run-{index // 8}")  # noqa: S311
    in_slices = index % 8 == 7
    match index % 8:
        case 0 | 1 | 2:
            cycle, shift_s = demo_load.training(own, run), run.randrange(20 * 3600)
        case 3:
            cycle, shift_s = demo_load.capped_training(own), own.randrange(600)
        case 4:
            cycle, shift_s = demo_load.serving(own), own.randrange(3600)
        case 5:
            cycle, shift_s = demo_load.shared(own), own.randrange(900)
        case 6:
            cycle, shift_s = demo_load.held(own), own.randrange(3600)
        case _:
            cycle, shift_s = demo_load.sliced(own), own.randrange(900)
    if faults and index == 0:
        cycle = demo_load.overheated(cycle)
    gpu = Gpu(
        uuid=f"GPU-{uuid5(_NAMESPACE, f'{node_name}/{index}')}",
        index=index,
        model="Demo H100 80GB",
        vendor="demo",
        mig_mode="enabled" if in_slices else "disabled",
    )
    return _Card(gpu, _Supply(cycle, shift_s * NS_PER_S))


def _rails(node_name: str, socket: int) -> tuple[_Rail, _Rail]:
    seed = Random(f"{node_name}/socket-{socket}")  # noqa: S311
    device = f"package-{socket}"
    return (
        _Rail("cpu", device, 350, _Supply(demo_load.host_cpu(seed), seed.randrange(400) * NS_PER_S)),
        _Rail("dram", device, 70, _Supply(demo_load.host_dram(seed), seed.randrange(180) * NS_PER_S)),
    )


def _mig_instances(parent: str, first_pid: int) -> tuple[MigInstance, ...]:
    return tuple(
        MigInstance(
            uuid=f"MIG-{uuid5(_NAMESPACE, f'{parent}/{number}')}",
            gpu_instance=number,
            compute_instance=0,
            slices=slices,
            profile=profile,
            processes=frozenset(first_pid + process for process in processes),
        )
        for number, (profile, slices, processes) in enumerate(_MIG_LAYOUT, start=1)
    )


def _held_down_by(why: str) -> Callable[[Load], int]:
    """One while clocks are held down for this reason, else zero."""
    return lambda load: int(load.throttle == why)


def _temperature(minute_mean_uw: int) -> float:
    """A heat sink that lags by a minute: 27 C at rest, 76 C at the power limit. Plausible, not measured."""
    return round(27 + 0.07 * minute_mean_uw / UW_PER_W, 0)


def _clock(load: Load) -> int:
    """Hertz at an H100's idle clock, at its boost clock, or held down."""
    if load.throttle:
        return (1410 if load.throttle == "sw_power_cap" else 960) * HZ_PER_MHZ
    return (1980 if load.processes else 345) * HZ_PER_MHZ


def _is_lost(now_ns: int) -> bool:
    return _LOST_FROM_NS <= now_ns % _LOST_EVERY_NS < _LOST_FROM_NS + _LOST_FOR_NS


def _wants_reset(now_ns: int) -> bool:
    since_return_ns = now_ns % _LOST_EVERY_NS - _LOST_FROM_NS - _LOST_FOR_NS
    return 0 <= since_return_ns < _RESET_WANTED_FOR_NS


def _times_due(after_ns: int, until_ns: int, every_ns: int, offset_ns: int) -> int:
    """How many of the moments offset + k * every lie after one moment and not after the other."""
    return (until_ns - offset_ns) // every_ns - (after_ns - offset_ns) // every_ns
