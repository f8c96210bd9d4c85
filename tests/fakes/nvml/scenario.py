"""What a scenario says, and what each GPU generation can do. Pure: no file but the TOML is touched."""

import tomllib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from tests.fakes.nvml.curve import Curve, steps
from tests.fakes.nvml.layout import SCOPE_MAX
from tests.fakes.nvml.library import Variant
from wattspan.units import NS_PER_S

SCENARIOS: Final = Path(__file__).parents[2] / "scenarios"

Cell = str | tuple[int, int]
"""What can fail by itself: a function by its name, or a field id in one power scope."""

What = Cell | int
"""A cell, or a field id in every scope."""

ENERGY_FIELDS: Final = (83, 191)
POWER_FIELDS: Final = (185, 186)
LIMIT_FIELDS: Final = (187, 188, 189, 190, 192)
MIN_LIMIT, MAX_LIMIT, DEFAULT_LIMIT, ENFORCED_LIMIT, REQUESTED_LIMIT = LIMIT_FIELDS
RECOVERY_ACTION: Final = 230
THROTTLE_FIELDS: Final = (74, 269, 270, 271)
NVLINK_COUNT: Final = 91
NVLINK_THROUGHPUT_FIELDS: Final = (138, 139)

SCOPED_FIELDS: Final = (*ENERGY_FIELDS, *POWER_FIELDS, *LIMIT_FIELDS)
SCOPE_GPU, SCOPE_MODULE, SCOPE_MEMORY = range(3)

_OTHER_SCOPES: Final = frozenset((f, s) for f in SCOPED_FIELDS for s in range(SCOPE_MODULE, SCOPE_MAX))
_MIG_FUNCTIONS: Final = frozenset(
    (
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetMaxMigDeviceCount",
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetGpuInstanceProfileInfo",
    )
)
_LIMIT_FUNCTIONS: Final = frozenset(
    (
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetPowerManagementDefaultLimit",
        "nvmlDeviceGetPowerManagementLimitConstraints",
    )
)
_TOTAL_ENERGY: Final = "nvmlDeviceGetTotalEnergyConsumption"


@dataclass(frozen=True)
class Process:
    """A process with a context on a GPU. Memory None: the driver does not say."""

    pid: int
    memory_mib: int | None = None
    sm_percent: int = 0
    mem_percent: int = 0
    enc_percent: int = 0
    dec_percent: int = 0
    kind: Literal["compute", "graphics", "mps"] = "compute"
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True)
class MigInstance:
    """A MIG instance; without a UUID it gets one made from the GPU's and its ids.

    It has all the slices of its GPU instance, unless it is told how many of them compute for it.
    """

    gpu_instance: int
    compute_instance: int
    slices: int
    memory_mib: int
    profile: str
    sm_count: int = 0
    compute_slices: int = 0
    uuid: str = ""
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generation:
    """What cards of a kind have in common.

    Attributes:
        architecture: NVML_DEVICE_ARCH_*.
        capability: CUDA compute capability.
        pci_device_id: device and vendor id, as nvmlPciInfo_t packs them.
        limits_w: least, default and greatest power limit.
        clocks_mhz: graphics, SM, memory, video at full speed.
        unsupported: what answers 3.
        usage_is_average: nvmlDeviceGetPowerUsage gives the last second's mean.
        nvlinks: number of links; 0 where there is no NVLink.
        memory_power_w: field 185 in memory scope, for those that have it.
        mig_slices: of the whole GPU, where it has MIG.
        more_w: by scope, what powers are more than the curve, which is what the counter counts.
    """

    name: str
    architecture: int
    capability: tuple[int, int]
    pci_device_id: int
    memory_mib: int
    limits_w: tuple[int, int, int]
    clocks_mhz: tuple[int, int, int, int]
    unsupported: frozenset[Cell]
    usage_is_average: bool = True
    nvlinks: int = 0
    memory_power_w: int = 0
    mig_slices: int = 7
    more_w: Mapping[int, int] = field(default_factory=dict)


def cells(what: What) -> tuple[Cell, ...]:
    """All that a word for a function or field covers."""
    return tuple((what, scope) for scope in range(SCOPE_MAX)) if isinstance(what, int) else (what,)


def _lacking(*more: What, supported: Iterable[Cell] = (), mig: bool = False) -> frozenset[Cell]:
    """What data-centre cards lack (fans, other power scopes), and more."""
    lacking = {*_OTHER_SCOPES, *(() if mig else _MIG_FUNCTIONS), "nvmlDeviceGetFanSpeed"}
    lacking.update(cell for what in more for cell in cells(what))
    return frozenset(lacking.difference(supported))


_MODULE_ONLY: Final = (*ENERGY_FIELDS, *POWER_FIELDS)
_MODULE_TOO: Final = tuple((f, SCOPE_MODULE) for f in SCOPED_FIELDS)

GENERATIONS: Final[Mapping[str, Generation]] = MappingProxyType(
    {
        "pre_volta": Generation(
            "Tesla P100-SXM2-16GB",
            *(4, (6, 0), 0x15F910DE, 16384, (150, 300, 300), (1480, 1480, 715, 1328)),
            _lacking(*ENERGY_FIELDS, 185, RECOVERY_ACTION, *THROTTLE_FIELDS[1:], _TOTAL_ENERGY),
            usage_is_average=False,
        ),
        "v100": Generation(
            "Tesla V100-SXM2-32GB",
            *(5, (7, 0), 0x1DB510DE, 32768, (150, 300, 300), (1530, 1530, 877, 1372)),
            _lacking(185, RECOVERY_ACTION),
            usage_is_average=False,
            nvlinks=6,
        ),
        "ga100": Generation(
            "NVIDIA A100-SXM4-80GB",
            *(7, (8, 0), 0x20B210DE, 81920, (100, 400, 400), (1410, 1410, 1593, 1290)),
            _lacking(185, mig=True),
            usage_is_average=False,
            nvlinks=12,
        ),
        "ga10x": Generation(
            "NVIDIA A40",
            *(7, (8, 6), 0x223510DE, 46068, (100, 300, 300), (1740, 1740, 7251, 1530)),
            _lacking(),
            nvlinks=4,
        ),
        "h100": Generation(
            "NVIDIA H100 80GB HBM3",
            *(9, (9, 0), 0x233010DE, 81559, (200, 700, 700), (1980, 1980, 2619, 1545)),
            _lacking(mig=True, supported=[(185, SCOPE_MEMORY)]),
            nvlinks=18,
            memory_power_w=60,
        ),
        "gh200": Generation(
            "NVIDIA GH200 480GB",
            *(9, (9, 0), 0x234210DE, 97871, (100, 900, 900), (1980, 1980, 2619, 1545)),
            _lacking(
                *((f, SCOPE_GPU) for f in _MODULE_ONLY),
                mig=True,
                supported=[(f, SCOPE_MODULE) for f in (*_MODULE_ONLY, *LIMIT_FIELDS)],
            ),
            nvlinks=18,
        ),
        "gh200_both": Generation(
            "NVIDIA GH200 480GB",
            *(9, (9, 0), 0x234210DE, 97871, (100, 900, 900), (1980, 1980, 2619, 1545)),
            _lacking(mig=True, supported=_MODULE_TOO),
            nvlinks=18,
            more_w={SCOPE_GPU: -150},
        ),
        "gb200": Generation(
            "NVIDIA GB200",
            *(10, (10, 0), 0x294110DE, 189471, (200, 1200, 1200), (1965, 1965, 3996, 1590)),
            _lacking("nvmlDeviceGetProcessUtilization", mig=True, supported=_MODULE_TOO),
            nvlinks=18,
            more_w={SCOPE_MODULE: 250},
        ),
        "blackwell": Generation(
            "NVIDIA B200",
            *(10, (10, 0), 0x290110DE, 183359, (200, 1000, 1000), (1965, 1965, 3996, 1590)),
            _lacking("nvmlDeviceGetProcessUtilization", mig=True, supported=[(185, SCOPE_MEMORY)]),
            nvlinks=18,
            memory_power_w=110,
        ),
        "gb202": Generation(
            "NVIDIA RTX PRO 6000 Blackwell Server Edition",
            *(10, (12, 0), 0x2BB510DE, 97887, (300, 600, 600), (2430, 2430, 12481, 2130)),
            _lacking("nvmlDeviceGetProcessUtilization", mig=True),
            mig_slices=4,
        ),
        "vgpu": Generation(
            "NVIDIA A40-24C",
            *(7, (8, 6), 0x223510DE, 24576, (0, 0, 0), (1740, 1740, 7251, 1530)),
            _lacking(*SCOPED_FIELDS, RECOVERY_ACTION, *THROTTLE_FIELDS, _TOTAL_ENERGY, *_LIMIT_FUNCTIONS),
            usage_is_average=False,
        ),
    }
)


@dataclass(frozen=True)
class GpuSpec:
    """One card of a scenario; the README names each key."""

    generation: str
    uuid: str
    name: str
    serial: str
    curve: Curve
    memory_mib: int
    min_limit_w: int
    limit_w: int
    max_limit_w: int
    unsupported: frozenset[Cell]
    base_mj: int = 0
    frozen_mj: int | None = None
    fields: Mapping[int, int] = field(default_factory=dict)
    utilization_percent: int = 0
    memory_utilization_percent: int = 0
    memory_used_mib: int = 0
    temperature_c: int = 35
    sm_clock_mhz: int | None = None
    clock_event_reasons: int = 0
    processes: tuple[Process, ...] = ()
    mig: tuple[MigInstance | None, ...] | None = None


@dataclass(frozen=True)
class Scenario:
    """A node: its driver, its clock, its cards."""

    name: str
    gpus: tuple[GpuSpec, ...]
    clock: Literal["manual", "real"] = "manual"
    refresh_ms: int = 100
    driver_version: str = "570.124.06"
    nvml_version: str = "12.570.124.06"
    cuda_version: int = 12080
    library: Variant = "current"


def load_scenario(scenario: str | Path) -> Scenario:
    """Read a scenario by its name in ``tests/scenarios`` or by its path.

    Raises:
        ValueError: an unknown key or value; the text names it.
        OSError: no such file.
    """
    path = scenario if isinstance(scenario, Path) else SCENARIOS / f"{scenario}.toml"
    return parse_scenario(path.stem, tomllib.loads(path.read_text()))


def parse_scenario(name: str, keys: Mapping[str, Any]) -> Scenario:
    """Make a scenario of what a TOML file holds.

    Raises:
        ValueError: an unknown key or value; the text names it.
    """
    settings = dict(keys)
    entries = settings.pop("gpu", [])
    _known(settings, {f.name for f in fields(Scenario)} - {"name", "gpus"}, name)
    gpus: list[GpuSpec] = []
    for entry in entries:
        for nth in range(entry.get("count", 1)):
            gpus.append(_gpu_spec(name, len(gpus), nth, entry))
    return Scenario(name=name, gpus=tuple(gpus), **settings)


_LOOKS: Final = (
    *("base_mj", "frozen_mj", "utilization_percent", "memory_utilization_percent", "memory_used_mib"),
    *("temperature_c", "sm_clock_mhz", "clock_event_reasons"),
)
_GPU_KEYS: Final = {
    *("generation", "count", "name", "uuid", "serial", "memory_mib", "limit_w", "min_limit_w", "max_limit_w"),
    *("curve", "shape", "repeat_s", "phase_s", "unsupported", "supported", "fields"),
    *("process", "mig", "mig_instance", *_LOOKS),
}


def _gpu_spec(scenario: str, position: int, nth: int, entry: Mapping[str, Any]) -> GpuSpec:
    """The spec of the `nth` equal card of an entry, which is at `position` in the scenario."""
    where = f"{scenario}: gpu {position}"
    _known(entry, _GPU_KEYS, where)
    kind = str(entry.get("generation"))
    if kind not in GENERATIONS:
        raise ValueError(f"{where}: generation {kind!r}; known are {', '.join(GENERATIONS)}")
    generation = GENERATIONS[kind]
    processes = _processes(entry, nth)
    looks = {"memory_used_mib": sum(process.memory_mib or 0 for process in processes)}
    looks.update((key, entry[key]) for key in _LOOKS if key in entry)
    least_w, default_w, most_w = generation.limits_w
    identity = entry.get("uuid") or "GPU-" + str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{scenario}/{position}"))
    return GpuSpec(
        generation=kind,
        uuid=identity,
        name=entry.get("name", generation.name),
        serial=entry.get("serial", f"{1_650_000_000_000 + position}"),
        curve=_curve(entry, nth),
        memory_mib=entry.get("memory_mib", generation.memory_mib),
        min_limit_w=entry.get("min_limit_w", least_w),
        limit_w=entry.get("limit_w", default_w),
        max_limit_w=entry.get("max_limit_w", most_w),
        unsupported=(generation.unsupported | _cells(entry, "unsupported")) - _cells(entry, "supported"),
        fields={int(number): value for number, value in entry.get("fields", {}).items()},
        processes=processes,
        mig=_instances(entry, identity),
        **looks,
    )


def _known(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    unknown = set(keys) - set(known)
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(sorted(unknown))}; known are {sorted(known)}")


def _cells(entry: Mapping[str, Any], key: str) -> frozenset[Cell]:
    whats = (tuple(what) if isinstance(what, list) else what for what in entry.get(key, ()))
    return frozenset(cell for what in whats for cell in cells(what))


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _curve(entry: Mapping[str, Any], nth: int) -> Curve:
    points = tuple((_ns(at_s), round(watts * 1000)) for at_s, watts in entry.get("curve", [[0, 0]]))
    if points[0][0] != 0 or list(points) != sorted(points, key=lambda point: point[0]):
        raise ValueError(f"curve {entry['curve']}: points go up in time from 0")
    if entry.get("shape", "steps") == "steps":
        points = steps(points)
    return Curve(points, _ns(entry.get("repeat_s", 0)), _ns(entry.get("phase_s", 0)) * nth)


def _processes(entry: Mapping[str, Any], nth: int) -> tuple[Process, ...]:
    """The processes of a card; equal cards go on counting pids where the one before ended."""
    processes: list[Process] = []
    for keys in entry.get("process", ()):
        count = keys.get("count", 1)
        process = Process(**{key: value for key, value in keys.items() if key != "count"})
        first_pid = process.pid + nth * count
        processes += (replace(process, pid=first_pid + i) for i in range(count))
    return tuple(processes)


def _instances(entry: Mapping[str, Any], gpu_uuid: str) -> tuple[MigInstance | None, ...] | None:
    if "mig_instance" not in entry:
        return () if entry.get("mig") else None
    slots: dict[int, MigInstance] = {}
    for keys in entry["mig_instance"]:
        slot = keys.get("slot", len(slots))
        given = {key: value for key, value in keys.items() if key != "slot"}
        instance = MigInstance(**{**given, "processes": tuple(given.get("processes", ()))})
        slots[slot] = with_uuid(instance, gpu_uuid)
    return tuple(slots.get(slot) for slot in range(max(slots) + 1))


def with_uuid(instance: MigInstance, gpu_uuid: str) -> MigInstance:
    """The same instance, with a UUID of its own if it had none."""
    if instance.uuid:
        return instance
    name = f"{gpu_uuid}/{instance.gpu_instance}/{instance.compute_instance}"
    return replace(instance, uuid="MIG-" + str(uuid.uuid5(uuid.NAMESPACE_DNS, name)))
