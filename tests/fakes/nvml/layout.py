"""state.h in ctypes. Magic, version and size keep the two in step; the library refuses what differs."""

import ctypes as c
import re
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent

MAGIC: Final = 0x31304C4D564E5357
VERSION: Final = 1
GPU_MAX: Final = 16
INSTANCE_MAX: Final = 7
PROCESS_MAX: Final = 128
POINT_MAX: Final = 512
FIELD_MAX: Final = 320
SCOPE_MAX: Final = 4
FUNCTION_MAX: Final = 96
EVENT_MAX: Final = 256

FOR_GOOD: Final = 0xFFFF
FIELD_ABSENT: Final = 0xFF
NOT_MIG: Final = 0xFFFFFFFF
MEMORY_UNKNOWN: Final = 0xFFFFFFFFFFFFFFFF
FOREVER_NS: Final = 0x7FFFFFFFFFFFFFFF

FUNCTIONS: Final = tuple(re.findall(r"(?m)^FUNCTION\((\w+),", (SOURCES / "functions.def").read_text()))
"""Names in the order of the state's tables."""


class Fault(c.Structure):
    _fields_ = (("code", c.c_uint16), ("left", c.c_uint16))


class Point(c.Structure):
    _fields_ = (("at_ns", c.c_int64), ("power_mw", c.c_int64))


class ProcessRow(c.Structure):
    _fields_ = (
        ("memory_bytes", c.c_uint64),
        ("pid", c.c_uint32),
        ("kind", c.c_uint32),
        ("gpu_instance", c.c_uint32),
        ("compute_instance", c.c_uint32),
        ("sm_percent", c.c_uint32),
        ("mem_percent", c.c_uint32),
        ("enc_percent", c.c_uint32),
        ("dec_percent", c.c_uint32),
    )


class InstanceRow(c.Structure):
    _fields_ = (
        ("memory_bytes", c.c_uint64),
        ("present", c.c_uint32),
        ("gpu_instance", c.c_uint32),
        ("compute_instance", c.c_uint32),
        ("slices", c.c_uint32),
        ("sm_count", c.c_uint32),
        ("compute_slices", c.c_uint32),
        ("uuid", c.c_char * 96),
        ("profile", c.c_char * 32),
    )


class Site(c.Structure):
    _fields_ = (
        ("functions", Fault * FUNCTION_MAX),
        ("fields", (Fault * SCOPE_MAX) * FIELD_MAX),
        ("hang_until_ns", c.c_int64 * FUNCTION_MAX),
        ("calls", c.c_uint64 * FUNCTION_MAX),
        ("slow_ms", c.c_uint32 * FUNCTION_MAX),
    )


class Gpu(c.Structure):
    _fields_ = (
        ("uuid", c.c_char * 96),
        ("name", c.c_char * 96),
        ("serial", c.c_char * 32),
        ("curve", Point * POINT_MAX),
        ("repeat_ns", c.c_int64),
        ("phase_ns", c.c_int64),
        ("base_mj", c.c_int64),
        ("frozen_at_ns", c.c_int64),
        ("fixed_mj", c.c_int64),
        ("field_values", c.c_uint64 * FIELD_MAX),
        ("field_types", c.c_uint8 * FIELD_MAX),
        ("memory_total_bytes", c.c_uint64),
        ("memory_used_bytes", c.c_uint64),
        ("clock_event_reasons", c.c_uint64),
        ("event_types", c.c_uint64),
        ("processes", ProcessRow * PROCESS_MAX),
        ("instances", InstanceRow * INSTANCE_MAX),
        ("points", c.c_uint32),
        ("process_count", c.c_uint32),
        ("usage_is_average", c.c_uint32),
        ("memory_power_mw", c.c_uint32),
        ("more_mw", c.c_int32 * SCOPE_MAX),
        ("mig_enabled", c.c_uint32),
        ("mig_slices", c.c_uint32),
        ("architecture", c.c_uint32),
        ("capability_major", c.c_uint32),
        ("capability_minor", c.c_uint32),
        ("pci_bus", c.c_uint32),
        ("pci_device_id", c.c_uint32),
        ("utilization_percent", c.c_uint32),
        ("memory_utilization_percent", c.c_uint32),
        ("temperature_c", c.c_uint32),
        ("clocks_mhz", c.c_uint32 * 4),
        ("max_clocks_mhz", c.c_uint32 * 4),
        ("lost_code", c.c_uint32),
        ("losses", c.c_uint32),
        ("unlisted", c.c_uint32),
    )


class Event(c.Structure):
    _fields_ = (
        ("type", c.c_uint64),
        ("payload", c.c_uint64),
        ("gpu", c.c_uint32),
        ("gpu_instance", c.c_uint32),
        ("compute_instance", c.c_uint32),
        ("reserved", c.c_uint32),
    )


class State(c.Structure):
    _fields_ = (
        ("magic", c.c_uint64),
        ("version", c.c_uint32),
        ("size", c.c_uint32),
        ("change", c.c_uint32),
        ("gpu_count", c.c_uint32),
        ("real_clock", c.c_uint32),
        ("cuda_version", c.c_uint32),
        ("now_ns", c.c_int64),
        ("epoch_ns", c.c_int64),
        ("wall_epoch_us", c.c_int64),
        ("refresh_ns", c.c_int64),
        ("event_head", c.c_uint64),
        ("inits", c.c_int32),
        ("event_sets", c.c_int32),
        ("waiting", c.c_int32),
        ("hung", c.c_int32),
        ("order", c.c_uint32 * GPU_MAX),
        ("driver_version", c.c_char * 80),
        ("nvml_version", c.c_char * 80),
        ("events", Event * EVENT_MAX),
        ("sites", Site * (GPU_MAX + 1)),
        ("gpus", Gpu * GPU_MAX),
    )
