"""One NVIDIA GPU under one initialisation of NVML: its handle, what it can answer, and a look at it."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from wattspan.devices import nvml_fields
from wattspan.devices.nvml_calls import Asker, Calls, Handle
from wattspan.devices.nvml_fields import FieldBatch
from wattspan.devices.nvml_holders import HoldersLook
from wattspan.devices.nvml_scope import ScopeWitness
from wattspan.devices.nvml_sm import SmLook
from wattspan.model import Gpu, GpuReading, MigMode, PowerScope, PowerSource
from wattspan.units import HZ_PER_MHZ, NS_PER_S, NS_PER_US, PERCENT, UJ_PER_MJ, UW_PER_MW

_WINDOW_NS: Final = NS_PER_S
"""Power made of the energy counter is the mean over this or longer: it moves every 20 to 100 ms only."""

_SLOW_NS: Final = NS_PER_S // 10
"""A call that took longer than the counter takes to move; most take less than a hundredth of it."""

_HEADROOM_NUM: Final = 3
_HEADROOM_DEN: Final = 2
"""Power above 1.5 x the enforced limit is no power: the counter has leapt.

The ledger believes no energy above the same bound. Boards overshoot their limit for milliseconds only.
"""


class EnergyHistory:
    """What is remembered of a GPU's energy counter, from one initialisation to the next.

    Attributes:
        shown: the counter has stood above 0 once, so it is a real one.
    """

    def __init__(self) -> None:
        self.shown = False
        self._recent: deque[tuple[int, int]] = deque()

    def mean_power_uw(self, read_at_ns: int, energy_uj: int, limit_uw: int | None) -> int | None:
        """Take a reading of the counter: the mean power since the newest one at least a second old.

        None while there is none that old, and when it is more than a GPU with this limit can draw.
        """
        if self._recent and energy_uj < self._recent[-1][1]:
            self._recent.clear()
        self._recent.append((read_at_ns, energy_uj))
        while len(self._recent) > 1 and read_at_ns - self._recent[1][0] >= _WINDOW_NS:
            self._recent.popleft()
        then_ns, then_uj = self._recent[0]
        if read_at_ns - then_ns < _WINDOW_NS:
            return None
        power_uw = (energy_uj - then_uj) * NS_PER_S // (read_at_ns - then_ns)
        if limit_uw is not None and power_uw * _HEADROOM_DEN > limit_uw * _HEADROOM_NUM:
            return None
        return power_uw

    def break_off(self) -> None:
        """A stretch without readings follows: the mean over it would be no power of now."""
        self._recent.clear()


class Card:
    """One GPU. Good until NVML is shut down.

    Args:
        pynvml: the module, initialised.
        calls: the questions we ask.
        handle: of the GPU.
        gpu: what is known of it so far.
        history: of its energy counter.
        holders_interval_ns: between two looks at MIG layout and process lists.
        clock: CLOCK_MONOTONIC in nanoseconds.
    """

    def __init__(
        self,
        *,
        pynvml: Any,
        calls: Calls,
        handle: Handle,
        gpu: Gpu,
        history: EnergyHistory,
        holders_interval_ns: int,
        clock: Callable[[], int],
    ) -> None:
        self.gpu = gpu
        self.handle = handle
        self._calls = calls
        self._history = history
        self._clock = clock
        self._asker = Asker(pynvml)
        self._fields = FieldBatch(pynvml, handle)
        self._witness = ScopeWitness()
        self._holders = HoldersLook(self._asker, calls, handle, holders_interval_ns)
        self._sm = SmLook(self._asker, calls, handle, clock)
        self._has_counter = True  # until the driver says otherwise

    def expect_new_layout(self) -> None:
        """The driver has reported a change of the MIG layout."""
        self._holders.expire()

    def read(self) -> GpuReading:
        """Look once.

        Raises:
            pynvml.NVMLError: no field was answered, or the device is no good any more.
        """
        before_ns = self._clock()
        values = self._fields.read()
        energy_mj = self._energy_mj(values)
        power_mw, power_source = self._power_mw(values)
        read_at_ns = self._read_at_ns(before_ns, self._clock())

        energy_uj = _scaled(energy_mj, UJ_PER_MJ)
        power_uw = _scaled(power_mw, UW_PER_MW)
        limit_uw = _scaled(self._limit_mw(values), UW_PER_MW)
        if power_source == "energy_delta" and energy_uj is not None:
            power_uw = self._history.mean_power_uw(read_at_ns, energy_uj, limit_uw)
        utilization = self._ask(self._calls.utilization)
        memory = self._ask(self._calls.memory)
        holders = self._holders.look(
            read_at_ns,
            None if memory is None else memory.used,
            None if utilization is None else utilization.gpu,
        )
        # On MIG the driver does not tell processes' SM time (nvml.h).
        sharing = None if holders.mig_mode == "enabled" else holders.processes
        self._learn(self._power_scope(read_at_ns, energy_mj, values), power_source, holders.mig_mode)
        return GpuReading(
            gpu=self.gpu,
            read_at_ns=read_at_ns,
            energy_uj=energy_uj,
            power_uw=power_uw,
            power_instant_uw=_scaled(values.get(nvml_fields.POWER_INSTANT), UW_PER_MW),
            power_limit_uw=limit_uw,
            utilization_ratio=None if utilization is None else utilization.gpu / PERCENT,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            temperature_celsius=self._ask(self._calls.temperature),
            sm_clock_hertz=_scaled(self._ask(self._calls.sm_clock_mhz), HZ_PER_MHZ),
            throttled_ns={
                reason: values[field]
                for field, reason in nvml_fields.THROTTLE_REASONS.items()
                if field in values
            },
            recovery_action=values.get(nvml_fields.RECOVERY_ACTION),
            processes=holders.processes,
            process_sm=self._sm.look(read_at_ns, sharing),
            mig_instances=holders.mig_instances,
            mig_slices=holders.mig_slices,
        )

    def _read_at_ns(self, before_ns: int, after_ns: int) -> int:
        """When the counter was read: in the middle of the call; of a slow one, when the driver says so.

        A call that waited for the driver's lock has a value from its end, and by the middle of a call of
        seconds a run that ended meanwhile would be charged for what came after it.
        """
        at_wall_us = self._fields.energy_at_wall_us
        if after_ns - before_ns > _SLOW_NS and at_wall_us is not None:
            ago_ns = time.time_ns() - at_wall_us * NS_PER_US
            if 0 <= ago_ns <= after_ns - before_ns:
                return after_ns - ago_ns
        return (before_ns + after_ns) // 2

    def _ask(self, question: tuple[Callable[..., Any], ...]) -> Any | None:
        return self._asker.ask(question, self.handle)

    def _energy_mj(self, values: dict[int, int]) -> int | None:
        """The counter, once it is known to be one.

        GPUs without a counter, such as vGPU guests, may answer SUCCESS and 0 for ever (CodeCarbon issue 1316:
        such GPUs silently used 0 kWh), so a counter that has never stood above 0 is none yet.
        """
        energy_mj = values.get(nvml_fields.ENERGY)
        if not self._fields.answers(nvml_fields.ENERGY):
            energy_mj = self._ask(self._calls.energy_mj)
            if not self._asker.may_ask(self._calls.energy_mj):
                self._has_counter = False
        if energy_mj is None:
            return None
        self._history.shown = self._history.shown or energy_mj > 0
        self._has_counter = self._history.shown
        return energy_mj if self._has_counter else None

    def _power_mw(self, values: dict[int, int]) -> tuple[int | None, PowerSource]:
        """Power over the last second, if one call can tell, and how it is had on this GPU."""
        if self._fields.answers(nvml_fields.POWER_AVERAGE):
            return values.get(nvml_fields.POWER_AVERAGE), "average"
        if self._has_counter:
            return None, "energy_delta"
        usage_mw = self._ask(self._calls.power_usage_mw)
        return usage_mw, "usage" if self._asker.may_ask(self._calls.power_usage_mw) else "none"

    def _power_scope(self, read_at_ns: int, energy_mj: int | None, values: dict[int, int]) -> PowerScope:
        """What energy and power stand for: as the fields say, or where both scopes answer, as they agree."""
        fields = self._fields
        if not fields.answers(nvml_fields.MODULE_POWER):
            return fields.power_scope
        gpu_mw, module_mw = values.get(nvml_fields.POWER_AVERAGE), values.get(nvml_fields.MODULE_POWER)
        scope = self._witness.look(read_at_ns, energy_mj, gpu_mw, module_mw)
        if self._witness.settled is not None:
            fields.settle_scope(scope)
        return scope

    def _limit_mw(self, values: dict[int, int]) -> int | None:
        if self._fields.answers(nvml_fields.POWER_LIMIT):
            return values.get(nvml_fields.POWER_LIMIT)
        limit_mw: int | None = self._ask(self._calls.enforced_limit_mw)
        return limit_mw

    def _learn(self, power_scope: PowerScope, power_source: PowerSource, mig_mode: MigMode) -> None:
        """Make the GPU's record anew when this look has shown something else than the last."""
        gpu = self.gpu
        if (power_scope, power_source, mig_mode, self._has_counter) == (
            gpu.power_scope,
            gpu.power_source,
            gpu.mig_mode,
            gpu.has_energy_counter,
        ):
            return
        self.gpu = replace(
            gpu,
            power_scope=power_scope,
            power_source=power_source,
            mig_mode=mig_mode,
            has_energy_counter=self._has_counter,
        )


def _scaled(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor
