"""Many of a GPU's values in one call to the driver (nvmlDeviceGetFieldValues), and the scope of each.

On superchips the sensors may cover GPU, CPU and memory together.
Where the GPU scope is refused and the MODULE scope answers, each field finds its scope once, at first sight.
Where both answer, the power of the module is read beside that of the GPU until it is known which of them the
energy counter goes with (`wattspan.devices.nvml_scope`).
"""

import ctypes
import math
import struct
from collections.abc import Mapping
from typing import Any, Final

from wattspan.devices.nvml_calls import Handle
from wattspan.devices.nvml_errors import FUNCTION_NOT_FOUND, INVALID_ARGUMENT, SUCCESS, Action, meaning_of
from wattspan.model import PowerScope

ENERGY: Final = 83
"""NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: mJ since the driver was loaded."""
POWER_AVERAGE: Final = 185
"""NVML_FI_DEV_POWER_AVERAGE: mW over one second; from Ampere on, save GA100."""
POWER_INSTANT: Final = 186
"""NVML_FI_DEV_POWER_INSTANT: mW."""
POWER_LIMIT: Final = 190
"""NVML_FI_DEV_POWER_CURRENT_LIMIT: mW that the driver enforces."""
RECOVERY_ACTION: Final = 230
"""NVML_FI_DEV_GET_GPU_RECOVERY_ACTION."""

THROTTLE_REASONS: Final[Mapping[int, str]] = {
    74: "sw_power_cap",
    76: "sync_boost",
    269: "sw_thermal",
    270: "hw_thermal",
    271: "hw_power_brake",
}
"""NVML_FI_DEV_CLOCKS_EVENT_REASON_*: nanoseconds of slowed clocks since the driver was loaded.

The other performance policies (75, 77 to 81) overlap these, or grow on a healthy idle card.
"""

MODULE_POWER: Final = -1
"""No field of NVML but our key for the average power in the module's scope."""

SCOPE_GPU: Final = 0
SCOPE_MODULE: Final = 1
"""NVML_POWER_SCOPE_MODULE: GPU, CPU and their memory; never on x86."""

_METERS: Final = (ENERGY, POWER_AVERAGE, POWER_INSTANT)
_POWERS: Final = (POWER_AVERAGE, POWER_INSTANT, POWER_LIMIT)
_PLAIN: Final = (RECOVERY_ACTION, *THROTTLE_REASONS)

_ENTRY: Final = struct.Struct("=2I2q2I8s")
"""nvmlFieldValue_t: field id, scope id, timestamp, latency, value type, return code, value."""

_VALUES: Final = (
    (struct.Struct("=d"), math.inf),
    (struct.Struct("=I"), 2**32 - 1),
    (struct.Struct("=Q"), 2**64 - 1),
    (struct.Struct("=Q"), 2**64 - 1),
    (struct.Struct("=q"), 2**63 - 1),
    (struct.Struct("=i"), 2**31 - 1),
    (struct.Struct("=H"), 2**16 - 1),
)
"""By nvmlValueType_t, the value's form, and its highest number, which is how NVML writes N/A."""


class FieldBatch:
    """All the fields that we want of one GPU, less those that its driver has refused.

    Attributes:
        energy_at_wall_us: when the driver took the energy that was read last, by the wall clock, as it says;
            None when it has not answered it.
    """

    def __init__(self, pynvml: Any, handle: Handle) -> None:
        self.energy_at_wall_us: int | None = None
        self._handle = handle
        self._error = pynvml.NVMLError
        # Called without pynvml's wrapper, which makes the array anew each time and reads it slowly.
        self._function = getattr(pynvml.nvmlLib, "nvmlDeviceGetFieldValues", None)
        # By key, where to ask: field and scope. What is refused in one is asked for in the next.
        self._places: dict[int, list[tuple[int, int]]] = {
            **{field: [(field, SCOPE_GPU), (field, SCOPE_MODULE)] for field in (ENERGY, *_POWERS)},
            **{field: [(field, SCOPE_GPU)] for field in _PLAIN},
            MODULE_POWER: [(POWER_AVERAGE, SCOPE_MODULE)],
        }
        self._prepare()

    def read(self) -> dict[int, int]:
        """Values by field id or `MODULE_POWER`, in NVML's units; one that has none just now is left out.

        Raises:
            pynvml.NVMLError: nothing was answered, though it might have been energy or power; or an answer
                says that the device is no good any more.
        """
        # More than one round at the first look only, while fields find their scope.
        while self._places:
            values, refused = self._ask()
            if not refused:
                return values
            for key in refused:
                self._places[key].pop(0)
            self._places = {key: places for key, places in self._places.items() if places}
            self._prepare()
        return {}

    def answers(self, field: int) -> bool:
        """Whether the driver has not refused this field."""
        return field in self._places

    def settle_scope(self, scope: PowerScope) -> None:
        """It is known what the energy counter covers: power and its limit are to be of the same from now on.

        The counter is asked for where it was: another scope might have another one.
        """
        self._places.pop(MODULE_POWER, None)
        if scope == "module":
            for field in _POWERS:
                if field in self._places:
                    self._places[field] = [(field, SCOPE_MODULE), (field, SCOPE_GPU)]
        self._prepare()

    @property
    def power_scope(self) -> PowerScope:
        """What energy and power stand for: ``module`` as soon as one of them does."""
        return self._power_scope

    def _prepare(self) -> None:
        in_use = {self._places[field][0][1] for field in _METERS if field in self._places}
        self._power_scope: PowerScope = "module" if SCOPE_MODULE in in_use else "gpu"
        if self._power_scope == "module":
            self._places.pop(MODULE_POWER, None)  # it is read already
        wanted = (_ENTRY.pack(*places[0], 0, 0, 0, 0, b"") for places in self._places.values())
        self._array = ctypes.create_string_buffer(b"".join(wanted), _ENTRY.size * len(self._places))
        self._count = ctypes.c_int32(len(self._places))

    def _ask(self) -> tuple[dict[int, int], list[int]]:
        """One call: the values, and the keys of those that were refused where they were asked for."""
        code = FUNCTION_NOT_FOUND
        if self._function is not None:
            code = self._function(self._handle, self._count, self._array)
        if code != SUCCESS:
            if meaning_of(code).action is Action.ABSENT:
                return {}, list(self._places)
            raise self._error(code)
        values: dict[int, int] = {}
        refused: list[int] = []
        failed = SUCCESS
        self.energy_at_wall_us = None
        entries = _ENTRY.iter_unpack(self._array)
        for key, (_, _, at_wall_us, _, value_type, code, raw) in zip(self._places, entries, strict=True):
            if code == SUCCESS:
                value = _number(value_type, raw)
                if value is not None:
                    values[key] = value
                    if key == ENERGY:
                        self.energy_at_wall_us = at_wall_us
            elif _is_refusal(code):
                refused.append(key)
            elif meaning_of(code).action in (Action.RETRY, Action.EMPTY):
                failed = code
            else:
                raise self._error(code)
        # What has refused all that counts is asked by other calls; the rest may fail without it.
        if failed and not values and not refused and any(key in self._places for key in _METERS):
            raise self._error(failed)
        return values, refused


def _is_refusal(code: int) -> bool:
    # A driver that is older than a field id calls it an invalid argument.
    return code == INVALID_ARGUMENT or meaning_of(code).action is Action.ABSENT


def _number(value_type: int, raw: bytes) -> int | None:
    """The value in the form that the driver named; None for N/A and for what is no count at all."""
    if value_type >= len(_VALUES):
        return None
    form, not_available = _VALUES[value_type]
    (value,) = form.unpack_from(raw)
    return int(value) if 0 <= value < not_available else None
