"""AMD GPUs: power and state from the amdgpu driver's sysfs files, energy from amdsmi where it is installed.

sysfs serves all but energy: it needs no library, it is in microwatts where amdsmi rounds to watts, and its
names have been stable for years. Files: Documentation/gpu/amdgpu/thermal.rst and driver-misc.rst.

Quirks:

- MI250: each of the two dies is a PCI device, and the first reports the power of both; the second says 0
  (rocm_smi_lib#160, zeus#203). 0 W is no reading.
- An APU's power covers the CPU too, which RAPL counts already: a platform reading, never summed.
  The driver shows the voltage ``in1_input`` (vddnb) on APUs alone, MI300A excepted, which stays a GPU.
- Accumulators that never move (MI100: amdsmi#38, MI210: rocm_smi_lib#180) are not believed;
  the ledger then integrates power.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wattspan.devices import sysfs
from wattspan.devices.amd_energy import EnergyAccumulators
from wattspan.devices.counters import Liveness
from wattspan.errors import NotHereError, ReadError
from wattspan.model import Failure, Gpu, GpuReading, PlatformReading, SourceReport
from wattspan.units import PERCENT

_TEMPERATURES: Final = ("edge", "junction")
"""Labels of the core's sensors, the better first; MI300 has no edge."""


@dataclass(slots=True, eq=False)
class _Card:
    """One GPU.

    Attributes:
        chip: its hwmon folder; ``device`` below it is the PCI device.
        address: PCI address.
        liveness: of the energy accumulator; None where there is none, or none to be believed.
    """

    gpu: Gpu
    chip: Path
    address: str
    liveness: Liveness | None


class AmdSource:
    """AMD GPUs.

    Args:
        node_name: part of the uuid of a card that has no serial of its own.
        sysfs_root: where sysfs is mounted.
        clock_ns: CLOCK_MONOTONIC, in nanoseconds.
    """

    name: Final = "amd"

    def __init__(
        self,
        node_name: str,
        sysfs_root: Path = Path("/sys"),
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._node_name = node_name
        self._root = sysfs_root
        self._clock_ns = clock_ns
        self._accumulators = EnergyAccumulators()
        self._cards: list[_Card] = []
        self._apus: list[Path] = []

    def open(self) -> str:
        """Find the cards, and load amdsmi only where there are any."""
        chips = sysfs.in_order(sysfs.hwmon_chips(self._root, ["amdgpu"]), by=sysfs.device_name)
        if not chips:
            raise NotHereError("no hwmon chip named amdgpu: no AMD GPU, or the driver amdgpu is not loaded")
        self._apus = [chip for chip in chips if (chip / "in1_input").exists()]
        dedicated = [chip for chip in chips if chip not in self._apus]
        no_energy = self._accumulators.open() if dedicated else ""
        self._cards = [self._card(chip, index) for index, chip in enumerate(dedicated)]
        found = [f"{card.gpu.model} at {card.address}" for card in self._cards]
        found += [f"APU at {sysfs.device_name(chip)}, as a platform sensor" for chip in self._apus]
        return ", ".join(found) + (f"; energy is integrated from power: {no_energy}" if no_energy else "")

    def read(self) -> SourceReport:
        """Look at each card. One that fails is a failure; the others carry on."""
        started_ns = self._clock_ns()
        gpus: list[GpuReading] = []
        platforms: list[PlatformReading] = []
        failures: list[Failure] = []
        for card in self._cards:
            try:
                gpus.append(self._look(card))
            except ReadError as error:
                failures.append(Failure(self.name, error.reason, error.detail, card.gpu.uuid))
        for chip in self._apus:
            sensor = f"apu-{sysfs.device_name(chip)}"
            try:
                average_uw, instant_uw = _power_uw(chip)
            except ReadError as error:
                failures.append(Failure(self.name, error.reason, error.detail, sensor))
                continue
            if power_uw := average_uw or instant_uw:
                platforms.append(PlatformReading(sensor, self._clock_ns(), power_uw))
        return SourceReport(
            source=self.name,
            started_ns=started_ns,
            finished_ns=self._clock_ns(),
            gpus=tuple(gpus),
            platforms=tuple(platforms),
            failures=tuple(failures),
        )

    def close(self) -> None:
        """Give the library back."""
        self._accumulators.close()
        self._cards, self._apus = [], []

    def _card(self, chip: Path, index: int) -> _Card:
        address = sysfs.device_name(chip)
        energy_uj = self._accumulators.energy_uj(address)
        gpu = Gpu(
            uuid=self._uuid(chip, address),
            index=index,
            model=sysfs.optional_text(chip / "device/product_name") or sysfs.pci_model(chip, "AMD"),
            vendor="amd",
            driver_version=sysfs.optional_text(self._root / "module/amdgpu/version"),
            power_source="usage" if _draws_power(chip) else "none",
            has_energy_counter=energy_uj is not None,
        )
        liveness = None if energy_uj is None else Liveness(energy_uj, self._clock_ns())
        return _Card(gpu, chip, address, liveness)

    def _uuid(self, chip: Path, address: str) -> str:
        serial = sysfs.optional_text(chip / "device/unique_id")
        return f"amd-{serial}" if serial else f"amd-{address}-{self._node_name}"

    def _look(self, card: _Card) -> GpuReading:
        if sysfs.is_asleep(card.chip):
            # Asleep is no standstill: the accumulator proves itself anew when the card is awake.
            if card.liveness is not None:
                card.liveness = Liveness(card.liveness.value, self._clock_ns())
            return GpuReading(card.gpu, self._clock_ns())
        before_ns = self._clock_ns()
        average_uw, instant_uw = _power_uw(card.chip)
        energy_uj = self._energy_uj(card, before_ns)
        read_at_ns = (before_ns + self._clock_ns()) // 2
        device = card.chip / "device"
        busy_percent = sysfs.optional_int(device / "gpu_busy_percent")
        return GpuReading(
            card.gpu,
            read_at_ns,
            energy_uj=energy_uj,
            power_uw=average_uw or instant_uw,
            power_instant_uw=instant_uw,
            power_limit_uw=sysfs.optional_int(card.chip / "power1_cap"),
            utilization_ratio=None if busy_percent is None else busy_percent / PERCENT,
            memory_used_bytes=sysfs.optional_int(device / "mem_info_vram_used"),
            memory_total_bytes=sysfs.optional_int(device / "mem_info_vram_total"),
            temperature_celsius=_temperature_celsius(card.chip),
            sm_clock_hertz=sysfs.optional_int(card.chip / "freq1_input"),
        )

    def _energy_uj(self, card: _Card, now_ns: int) -> int | None:
        """The accumulator, once it has moved. One that stands still is given up until the next `open`."""
        if card.liveness is None:
            return None
        energy_uj = self._accumulators.energy_uj(card.address)
        # A silent accumulator counts as one that did not move.
        state = card.liveness.look(card.liveness.value if energy_uj is None else energy_uj, now_ns)
        if state in {"absent", "still"}:
            card.liveness = None
            card.gpu = replace(card.gpu, has_energy_counter=False)
            return None
        return energy_uj if state == "counting" else None


def _draws_power(chip: Path) -> bool:
    try:
        return any(_power_uw(chip))
    except ReadError:
        return False


def _power_uw(chip: Path) -> tuple[int | None, int | None]:
    """Average and instant power; newer cards have only one of the two files. 0 is no reading.

    Raises:
        ReadError: neither file answers.
    """
    average, instant = chip / "power1_average", chip / "power1_input"
    if not average.exists():
        return None, sysfs.read_int(instant) or None
    return sysfs.read_int(average) or None, sysfs.optional_int(instant) or None


def _temperature_celsius(chip: Path) -> float | None:
    sensors = {sysfs.optional_text(chip / f"temp{n}_label"): chip / f"temp{n}_input" for n in (1, 2)}
    for label in _TEMPERATURES:
        millidegrees = sysfs.optional_int(sensors[label]) if label in sensors else None
        if millidegrees is not None:
            return millidegrees / 1000
    return None
