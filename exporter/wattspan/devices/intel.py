"""Intel GPUs through the hwmon chips of the kernel drivers i915 and xe.

Files (Documentation/ABI/testing, sysfs-driver-intel-i915-hwmon and -xe-hwmon) in microjoules and microwatts:

- ``energy1_input`` is the card; xe has the GPU package in ``energy2_input``, on DG2 that one alone.
- ``powerN_max`` is the sustained limit (PL1), 0 when it is switched off.
- There is no power sensor, so power is the counter's delta.
- The chips ``i915_gtN`` are tiles inside the card and are not read.

The hardware register has 32 bits; the driver accumulates it at each read, so any read a minute is enough.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wattspan.devices import sysfs
from wattspan.devices.counters import Liveness, MeanPower
from wattspan.errors import NotHereError, ReadError
from wattspan.model import Failure, Gpu, GpuReading, SourceReport

_DRIVERS: Final = ("i915", "xe")


@dataclass(slots=True, eq=False)
class _Card:
    """One GPU.

    Attributes:
        chip: its hwmon folder.
        channel: 1 for the card, 2 for the package.
        liveness: None until the counter was read once since opening or waking.
    """

    gpu: Gpu
    chip: Path
    channel: int
    liveness: Liveness | None = None
    mean_power: MeanPower = field(default_factory=MeanPower)


class IntelSource:
    """Discrete Intel GPUs; the drivers make no such chip for those inside a CPU, which RAPL covers.

    Args:
        node_name: part of each uuid, because a PCI address alone repeats on every node of a fleet.
        sysfs_root: where sysfs is mounted.
        clock_ns: CLOCK_MONOTONIC, in nanoseconds.
    """

    name: Final = "intel"

    def __init__(
        self,
        node_name: str,
        sysfs_root: Path = Path("/sys"),
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._node_name = node_name
        self._root = sysfs_root
        self._clock_ns = clock_ns
        self._cards: list[_Card] = []

    def open(self) -> str:
        """Find the cards. Index and uuid follow the PCI address."""
        chips = sysfs.in_order(sysfs.hwmon_chips(self._root, _DRIVERS), by=sysfs.device_name)
        counting = [(chip, channel) for chip in chips for channel in _energy_channels(chip)[:1]]
        if not counting:
            raise NotHereError("no hwmon chip of i915 or xe with an energy counter: no discrete Intel GPU")
        self._cards = [
            _Card(self._gpu(chip, index), chip, channel) for index, (chip, channel) in enumerate(counting)
        ]
        return ", ".join(f"{card.gpu.model} at {sysfs.device_name(card.chip)}" for card in self._cards)

    def read(self) -> SourceReport:
        """Look at each card. One that fails is a failure; the others carry on."""
        started_ns = self._clock_ns()
        gpus: list[GpuReading] = []
        failures: list[Failure] = []
        for card in self._cards:
            try:
                gpus.append(self._look(card))
            except ReadError as error:
                failures.append(Failure(self.name, error.reason, error.detail, card.gpu.uuid))
        return SourceReport(
            source=self.name,
            started_ns=started_ns,
            finished_ns=self._clock_ns(),
            gpus=tuple(gpus),
            failures=tuple(failures),
        )

    def close(self) -> None:
        """Nothing is held between reads."""
        self._cards = []

    def _gpu(self, chip: Path, index: int) -> Gpu:
        return Gpu(
            uuid=f"intel-{sysfs.device_name(chip)}-{self._node_name}",
            index=index,
            model=sysfs.pci_model(chip, "Intel"),
            vendor="intel",
            power_source="energy_delta",
        )

    def _look(self, card: _Card) -> GpuReading:
        if sysfs.is_asleep(card.chip):
            card.liveness, card.mean_power = None, MeanPower()
            return GpuReading(card.gpu, self._clock_ns())
        before_ns = self._clock_ns()
        energy_uj = sysfs.read_int(card.chip / f"energy{card.channel}_input")
        read_at_ns = (before_ns + self._clock_ns()) // 2
        if card.liveness is None:
            card.liveness = Liveness(energy_uj, read_at_ns)
        state = card.liveness.look(energy_uj, read_at_ns)
        if state in {"absent", "still"}:
            raise ReadError("malformed", f"{card.chip}: energy stands still at {energy_uj}")
        power_uw = card.mean_power.look(energy_uj, read_at_ns)
        return GpuReading(
            card.gpu,
            read_at_ns,
            energy_uj=energy_uj if state == "counting" else None,
            power_uw=power_uw if state == "counting" else None,
            power_limit_uw=_power_limit_uw(card),
            temperature_celsius=_temperature_celsius(card),
        )


def _energy_channels(chip: Path) -> list[int]:
    return [channel for channel in (1, 2) if (chip / f"energy{channel}_input").exists()]


def _power_limit_uw(card: _Card) -> int | None:
    named_uw = (
        sysfs.optional_int(card.chip / f"power{card.channel}_{limit}") for limit in ("max", "rated_max")
    )
    return next(filter(None, named_uw), None)


def _temperature_celsius(card: _Card) -> float | None:
    """xe labels the GPU's own sensor ``pkg`` and numbers it 2; i915 has a single one, without a label."""
    number = 2 if sysfs.optional_text(card.chip / "temp2_label") == "pkg" else 1
    millidegrees = sysfs.optional_int(card.chip / f"temp{number}_input")
    return None if millidegrees is None else millidegrees / 1000
