"""The NVML functions that we ask, and the asking: a thing that the driver cannot say is asked once.

pynvml looks symbols up when they are called, so where the library is older it raises FUNCTION_NOT_FOUND then.
"""

from collections.abc import Callable
from typing import Any, Final

from wattspan.devices.nvml_errors import Action, code_of, errors_of, meaning_of
from wattspan.devices.nvml_process_calls import ComputePids, ProcessesUtilizationInfo, ProcessUtilization

Handle = Any
"""``nvmlDevice_t`` of a GPU or of a MIG instance: an opaque pointer, good for one initialisation."""

Way = Callable[..., Any]
"""One way to put a question to the driver; takes a handle first."""

_CLOCK_SM: Final = 1
"""NVML_CLOCK_SM in nvml.h."""

_SENSOR_GPU: Final = 0
"""NVML_TEMPERATURE_GPU in nvml.h."""

_WHOLE_PROFILES: Final = (4, 3, 1)
"""NVML_GPU_INSTANCE_PROFILE_7_SLICE, _4_SLICE and _2_SLICE: whole GPUs are of so many slices."""

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
        # A GPU refuses profiles that are larger than itself, so the first that it knows is all of it.
        self.mig_whole = tuple(_instance_profile(pynvml, profile) for profile in _WHOLE_PROFILES)
        self.mig_handle = (pynvml.nvmlDeviceGetMigDeviceHandleByIndex,)
        self.gpu_instance = (pynvml.nvmlDeviceGetGpuInstanceId,)
        self.compute_instance = (pynvml.nvmlDeviceGetComputeInstanceId,)
        self.attributes = (pynvml.nvmlDeviceGetAttributes_v2,)
        self.compute_pids = (ComputePids(pynvml),)
        self.mps_pids = (ComputePids(pynvml, "MPSCompute"),)
        self.process_utilization = (ProcessUtilization(pynvml), ProcessesUtilizationInfo(pynvml))


def _instance_profile(pynvml: Any, profile: int) -> Way:
    return lambda gpu: pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu, profile, version=1)


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
