"""Puts what a scenario says into the rows of the state file. Decides nothing about when."""

import ctypes
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.fakes.nvml import layout
from tests.fakes.nvml.curve import Curve
from tests.fakes.nvml.scenario import (
    DEFAULT_LIMIT,
    ENFORCED_LIMIT,
    GENERATIONS,
    LIMIT_FIELDS,
    MAX_LIMIT,
    MIN_LIMIT,
    NVLINK_COUNT,
    NVLINK_THROUGHPUT_FIELDS,
    RECOVERY_ACTION,
    REQUESTED_LIMIT,
    THROTTLE_FIELDS,
    Cell,
    GpuSpec,
    MigInstance,
    Process,
)

MIB: Final = 1 << 20

XID: Final = 0x8
MIG_CONFIG_CHANGE: Final = 0x100

_EVENT_TYPES: Final = 0x1 | 0x2 | XID | MIG_CONFIG_CHANGE | 0x4000 | 0x8000
"""ECC errors, critical XID, MIG configuration, GPU unavailable, recovery action."""

_KINDS: Final = {"compute": 0, "graphics": 1, "mps": 2}
_TYPE_UINT, _TYPE_ULL = 1, 3
_UINT_FIELDS: Final = frozenset((*LIMIT_FIELDS, NVLINK_COUNT, RECOVERY_ACTION))


def create_state(path: Path) -> tuple[mmap.mmap, layout.State]:
    """An empty state file, mapped."""
    # A process that still maps a state of an earlier test keeps that one.
    path.unlink(missing_ok=True)
    with path.open("x+b") as file:
        file.truncate(ctypes.sizeof(layout.State))
        memory = mmap.mmap(file.fileno(), ctypes.sizeof(layout.State))
    return memory, layout.State.from_buffer(memory)


def function_numbers(function: str | None) -> Iterable[int]:
    """The row of a function in a site's tables; all rows for None."""
    return range(len(layout.FUNCTIONS)) if function is None else (layout.FUNCTIONS.index(function),)


def set_fault(site: layout.Site, cell: Cell, code: int, left: int) -> None:
    if isinstance(cell, str):
        fault = site.functions[layout.FUNCTIONS.index(cell)]
    else:
        number, scope = cell
        fault = site.fields[number][scope]
    # The library must never see a new code with an old count.
    fault.code = 0
    fault.left = left
    fault.code = code


def write_card(row: layout.Gpu, position: int, spec: GpuSpec) -> None:
    """What a card is, its counter's start and its fields; not its curve, processes, MIG layout and looks."""
    generation = GENERATIONS[spec.generation]
    row.uuid, row.name, row.serial = spec.uuid.encode(), spec.name.encode(), spec.serial.encode()
    row.architecture = generation.architecture
    row.capability_major, row.capability_minor = generation.capability
    row.pci_device_id = generation.pci_device_id
    row.pci_bus = 0x18 + 0x0A * position
    row.memory_total_bytes = spec.memory_mib * MIB
    row.usage_is_average = generation.usage_is_average
    row.memory_power_mw = generation.memory_power_w * 1000
    for scope, watts in generation.more_w.items():
        row.more_mw[scope] = watts * 1000
    row.mig_slices = generation.mig_slices
    row.event_types = _EVENT_TYPES
    row.base_mj, row.frozen_at_ns = spec.base_mj, -1
    row.fixed_mj = -1 if spec.frozen_mj is None else spec.frozen_mj
    for domain, mhz in enumerate(generation.clocks_mhz):
        row.clocks_mhz[domain] = row.max_clocks_mhz[domain] = mhz
    ctypes.memset(row.field_types, layout.FIELD_ABSENT, layout.FIELD_MAX)
    for number, value in _default_fields(spec).items():
        write_field(row, number, value)


def write_field(row: layout.Gpu, number: int, value: int) -> None:
    row.field_values[number] = value
    row.field_types[number] = _TYPE_UINT if number in _UINT_FIELDS else _TYPE_ULL


def write_curve(row: layout.Gpu, curve: Curve) -> None:
    row.repeat_ns, row.phase_ns, row.points = curve.repeat_ns, curve.phase_ns, len(curve.points)
    for number, (at_ns, power_mw) in enumerate(curve.points):
        row.curve[number].at_ns, row.curve[number].power_mw = at_ns, power_mw


def _default_fields(spec: GpuSpec) -> dict[int, int]:
    limits = {
        MIN_LIMIT: spec.min_limit_w * 1000,
        MAX_LIMIT: spec.max_limit_w * 1000,
        DEFAULT_LIMIT: GENERATIONS[spec.generation].limits_w[1] * 1000,
        ENFORCED_LIMIT: spec.limit_w * 1000,
        REQUESTED_LIMIT: spec.limit_w * 1000,
    }
    links = GENERATIONS[spec.generation].nvlinks
    nvlink = {NVLINK_COUNT: links, **dict.fromkeys(NVLINK_THROUGHPUT_FIELDS, 0)} if links else {}
    return {**limits, **dict.fromkeys(THROTTLE_FIELDS, 0), RECOVERY_ACTION: 0, **nvlink, **spec.fields}


def write_instance(row: layout.InstanceRow, instance: MigInstance | None) -> None:
    row.present = instance is not None
    if instance is None:
        return
    row.memory_bytes = instance.memory_mib * MIB
    row.gpu_instance, row.compute_instance = instance.gpu_instance, instance.compute_instance
    row.slices, row.sm_count = instance.slices, instance.sm_count
    row.compute_slices = instance.compute_slices or instance.slices
    row.uuid, row.profile = instance.uuid.encode(), instance.profile.encode()


def write_process(row: layout.ProcessRow, process: Process) -> None:
    row.pid, row.kind = process.pid, _KINDS[process.kind]
    row.memory_bytes = layout.MEMORY_UNKNOWN if process.memory_mib is None else process.memory_mib * MIB
    row.gpu_instance = layout.NOT_MIG if process.gpu_instance is None else process.gpu_instance
    row.compute_instance = layout.NOT_MIG if process.compute_instance is None else process.compute_instance
    row.sm_percent, row.mem_percent = process.sm_percent, process.mem_percent
    row.enc_percent, row.dec_percent = process.enc_percent, process.dec_percent
