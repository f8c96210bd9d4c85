"""The NVML functions that we ask, and the asking: a thing that the driver cannot say is asked once.

pynvml looks symbols up when they are called, so where the library is older it raises FUNCTION_NOT_FOUND then.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final

from wattspan.devices.nvml_errors import (
    FUNCTION_NOT_FOUND,
    INSUFFICIENT_SIZE,
    SUCCESS,
    Action,
    code_of,
    errors_of,
    meaning_of,
)

Handle = Any
"""``nvmlDevice_t`` of a GPU or of a MIG instance: an opaque pointer, good for one initialisation."""

Way = Callable[..., Any]
"""One way to put a question to the driver; takes a handle first."""

_CLOCK_SM: Final = 1
"""NVML_CLOCK_SM in nvml.h."""

_SENSOR_GPU: Final = 0
"""NVML_TEMPERATURE_GPU in nvml.h."""

_MEMORY_V2: Final = 0x02000028
"""Version and size of nvmlMemory_v2_t, the struct that keeps reserved memory apart from used."""


class Calls:
    """Our questions. Each is a tuple of ways, the best first, for `Asker.ask`."""

    def __init__(self, pynvml: Any) -> None:
        self.name = (pynvml.nvmlDeviceGetName,)
        self.uuid = (pynvml.nvmlDeviceGetUUID,)
        self.energy_mj = (pynvml.nvmlDeviceGetTotalEnergyConsumption,)
        self.power_usage_mw = (pynvml.nvmlDeviceGetPowerUsage,)
        self.enforced_limit_mw = (pynvml.nvmlDeviceGetEnforcedPowerLimit,)
        self.utilization = (pynvml.nvmlDeviceGetUtilizationRates,)
        self.memory = (
            lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu, _MEMORY_V2),
            pynvml.nvmlDeviceGetMemoryInfo,
        )
        # nvml.h announces the removal of the second for CUDA 14; drivers before 570 lack the first.
        self.temperature = (
            lambda gpu: pynvml.nvmlDeviceGetTemperatureV(gpu, _SENSOR_GPU),
            lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, _SENSOR_GPU),
        )
        self.sm_clock_mhz = (lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, _CLOCK_SM),)
        self.mig_mode = (pynvml.nvmlDeviceGetMigMode,)
        self.mig_count = (pynvml.nvmlDeviceGetMaxMigDeviceCount,)
        self.mig_handle = (pynvml.nvmlDeviceGetMigDeviceHandleByIndex,)
        self.gpu_instance = (pynvml.nvmlDeviceGetGpuInstanceId,)
        self.compute_instance = (pynvml.nvmlDeviceGetComputeInstanceId,)
        self.attributes = (pynvml.nvmlDeviceGetAttributes_v2,)
        self.compute_pids = (ComputePids(pynvml),)


class Asker:
    """Puts questions to one GPU and remembers which ways of asking its driver has refused for good."""

    def __init__(self, pynvml: Any) -> None:
        self._errors = errors_of(pynvml)
        self._refused: set[Way] = set()

    def ask(self, ways: tuple[Way, ...], *arguments: Any) -> Any | None:
        """The answer in the first way that is not refused; None when there is none, now or ever.

        Raises:
            pynvml.NVMLError: the device, the initialisation or the library is no good any more.
        """
        for way in ways:
            if way in self._refused:
                continue
            try:
                return way(*arguments)
            except AttributeError:  # this pynvml is too old to know the name
                self._refused.add(way)
            except self._errors as error:
                action = meaning_of(code_of(error)).action
                if action in (Action.EMPTY, Action.RETRY):
                    return None
                if action is not Action.ABSENT:
                    raise
                self._refused.add(way)
        return None

    def may_ask(self, ways: tuple[Way, ...]) -> bool:
        """Whether a way is left that the driver has not refused."""
        return any(way not in self._refused for way in ways)

    def forget_refusals(self) -> None:
        """Ask everything anew, because the device has changed its nature (MIG switched on or off)."""
        self._refused.clear()


class ComputePids:
    """The pids with a compute context on a GPU or MIG instance, by the struct that this library writes."""

    _ENTRY: Final = 24
    """Bytes of nvmlProcessInfo_t: pid, memory, GPU instance, compute instance."""

    _ENTRY_WITH_PROTECTED: Final = 32
    """And a fifth member, usedGpuCcProtectedMemory: some R535 libraries write it under the same name."""

    _SYMBOLS: Final = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")

    def __init__(self, pynvml: Any) -> None:
        library = pynvml.nvmlLib
        self._error = pynvml.NVMLError
        self._function = next((getattr(library, s) for s in self._SYMBOLS if hasattr(library, s)), None)
        # nvitop found how to tell them apart (nvitop/api/libnvml.py): the libraries with five members
        # already have the first of these symbols and not yet the second.
        five = hasattr(library, "nvmlDeviceGetConfComputeMemSizeInfo") and not hasattr(
            library, "nvmlDeviceGetRunningProcessDetailList"
        )
        self._entry = self._ENTRY_WITH_PROTECTED if five else self._ENTRY
        self._reserve(64)

    def __call__(self, handle: Handle) -> frozenset[int]:
        """The pids, in whatever pid namespace the driver tells them.

        One call where the list fits the room of the last one, because this is among NVML's slowest.

        Raises:
            pynvml.NVMLError: as the driver answers.
        """
        if self._function is None:
            raise self._error(FUNCTION_NOT_FOUND)
        count = ctypes.c_uint(self._room)
        code = self._function(handle, ctypes.byref(count), self._buffer)
        if code == INSUFFICIENT_SIZE:
            self._reserve(2 * count.value)  # more may start before we ask again
            count.value = self._room
            code = self._function(handle, ctypes.byref(count), self._buffer)
        if code != SUCCESS:
            raise self._error(code)
        entries = memoryview(self._buffer).cast("B").cast("I")[: count.value * self._entry // 4]
        return frozenset(entries[:: self._entry // 4])

    def _reserve(self, entries: int) -> None:
        self._room = entries
        self._buffer = (ctypes.c_uint32 * (entries * self._entry // 4))()
