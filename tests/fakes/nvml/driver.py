"""The test's end of the fake: writes the state, changes it while a process reads it, and knows the truth."""

import ctypes
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.fakes.nvml import layout
from tests.fakes.nvml.curve import Curve
from tests.fakes.nvml.library import Variant, build_library
from tests.fakes.nvml.rows import (
    MIB,
    MIG_CONFIG_CHANGE,
    XID,
    create_state,
    function_numbers,
    set_fault,
    write_card,
    write_curve,
    write_field,
    write_instance,
    write_process,
)
from tests.fakes.nvml.scenario import (
    Cell,
    GpuSpec,
    MigInstance,
    Process,
    Scenario,
    What,
    cells,
    load_scenario,
    with_uuid,
)
from wattspan.units import NS_PER_S

_VARIABLE: Final = "FAKE_NVML_STATE"
_SYSTEM: Final = layout.GPU_MAX

_NOT_SUPPORTED: Final = 3
_GPU_IS_LOST: Final = 15
_LIBRARY_MISMATCH: Final = 18

_HEADROOM_NS: Final = 20_000_000
"""With a real clock a change takes effect this far ahead, so that no reader is already past it."""


class FakeNvml:
    """One scenario in play. The README beside this file describes every method.

    Args:
        scenario: a name in ``tests/scenarios``, the path of a TOML file, or a `Scenario`.
        folder: where the state file goes.
        library: another variant than the scenario names.
        build: where compiled libraries are kept; beside the sources when None.
    """

    def __init__(
        self,
        scenario: str | Path | Scenario,
        folder: Path,
        *,
        library: Variant | None = None,
        build: Path | None = None,
    ) -> None:
        self.scenario = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
        if len(self.scenario.gpus) > layout.GPU_MAX:
            raise ValueError(f"{self.scenario.name}: more than {layout.GPU_MAX} GPUs")
        self.library = build_library(library or self.scenario.library, build)
        self.state_path = folder / f"{self.scenario.name}.nvml"
        self.uuids = tuple(spec.uuid for spec in self.scenario.gpus)
        self._curves = [spec.curve for spec in self.scenario.gpus]
        self._processes = [spec.processes for spec in self.scenario.gpus]
        self._memory, self._state = create_state(self.state_path)
        self._write(self.scenario)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let hung calls go and give up the state; a process that uses it keeps its own mapping."""
        if self._memory.closed:
            return
        self.release()
        # The mapping cannot close while a structure points into it.
        del self._state
        self._memory.close()

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """An environment in which a child's dynamic loader finds the library, and the library its state."""
        child = dict(os.environ if base is None else base)
        path = (str(self.library.parent), child.get("LD_LIBRARY_PATH", ""))
        return {**child, "LD_LIBRARY_PATH": ":".join(filter(None, path)), _VARIABLE: str(self.state_path)}

    def peer_environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The same, with a mute ``nvidia-smi`` on the PATH: CodeCarbon 3 looks for GPUs only beside one."""
        child = self.environment(base)
        command = self.state_path.parent / "bin" / "nvidia-smi"
        command.parent.mkdir(exist_ok=True)
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
        return {**child, "PATH": f"{command.parent}:{child.get('PATH', os.defpath)}"}

    def load(self) -> None:
        """Make this process's pynvml find library and state. One library variant for each process."""
        os.environ[_VARIABLE] = str(self.state_path)
        ctypes.CDLL(str(self.library))

    # Clock and truth

    def now_ns(self) -> int:
        """Scenario time."""
        if self._state.real_clock:
            return time.monotonic_ns() - int(self._state.epoch_ns)
        return int(self._state.now_ns)

    def advance(self, seconds: float) -> None:
        """Move the manual clock on."""
        self.set_clock((self.now_ns() + round(seconds * NS_PER_S)) / NS_PER_S)

    def set_clock(self, seconds: float) -> None:
        """Move the manual clock to a time; never back, for that is `step_back`'s task."""
        to_ns = round(seconds * NS_PER_S)
        if self._state.real_clock or to_ns < self.now_ns():
            raise ValueError(f"the clock is real, or would go back to {seconds} s")
        self._state.now_ns = to_ns

    def scenario_ns(self, monotonic_ns: int) -> int:
        """Scenario time of a CLOCK_MONOTONIC reading."""
        if not self._state.real_clock:
            raise ValueError("the clock is manual: it has no relation to CLOCK_MONOTONIC")
        return monotonic_ns - int(self._state.epoch_ns)

    def energy_mj(self, gpu: int, t_ns: int | None = None) -> int:
        """What the energy counter shows, lost or not."""
        row = self._state.gpus[gpu]
        if row.fixed_mj >= 0:
            return int(row.fixed_mj)
        at_ns = self._sensor_ns(t_ns)
        if row.frozen_at_ns >= 0:
            at_ns = min(at_ns, int(row.frozen_at_ns))
        return max(int(row.base_mj) + self._curves[gpu].energy_mj(at_ns), 0)

    def power_mw(self, gpu: int, t_ns: int | None = None) -> int:
        """Instant power, as the sensor last saw it."""
        return self._curves[gpu].power_mw(self._sensor_ns(t_ns))

    def average_mw(self, gpu: int, t_ns: int | None = None) -> int:
        """Mean power of the second before the sensor's last look."""
        return self._curves[gpu].average_mw(self._sensor_ns(t_ns))

    def _sensor_ns(self, t_ns: int | None) -> int:
        at_ns = max(self.now_ns() if t_ns is None else t_ns, 0)
        refresh_ns = int(self._state.refresh_ns)
        return at_ns - at_ns % refresh_ns if refresh_ns else at_ns

    # Load and counter

    def set_power(self, gpu: int, watts: float) -> int:
        """Constant power from now on, or from the sensor's next look if the clock is real.

        Returns:
            The scenario time from which it holds.

        Raises:
            ValueError: on a curve that repeats or slopes.
        """
        at_ns = self._soon_ns()
        self._set_curve(gpu, self._curves[gpu].with_power_from(at_ns, round(watts * 1000)))
        return at_ns

    def reset_counter(self, gpu: int) -> None:
        """As after a driver reload: the counter is 0 now and goes on."""
        self._state.gpus[gpu].base_mj = -self._curves[gpu].energy_mj(self._sensor_ns(None))

    def step_back(self, gpu: int, joules: float) -> None:
        """The counter loses energy, as no real counter should."""
        self.jump(gpu, -joules)

    def jump(self, gpu: int, joules: float) -> None:
        """The counter gains energy that no card could have used."""
        self._state.gpus[gpu].base_mj += round(joules * 1000)

    def freeze(self, gpu: int, mj: int | None = None) -> None:
        """The counter stands still, where it is or at a figure."""
        row = self._state.gpus[gpu]
        if mj is None:
            row.frozen_at_ns = self._soon_ns()
        else:
            row.fixed_mj = mj

    def thaw(self, gpu: int) -> None:
        """The counter shows the integral again, what passed meanwhile included."""
        self._state.gpus[gpu].frozen_at_ns = -1
        self._state.gpus[gpu].fixed_mj = -1

    def _soon_ns(self) -> int:
        """The earliest time that no reader can have seen yet."""
        now_ns = self.now_ns()
        if not self._state.real_clock:
            return now_ns
        soon_ns = now_ns + _HEADROOM_NS
        refresh_ns = int(self._state.refresh_ns)
        return -(-soon_ns // refresh_ns) * refresh_ns if refresh_ns else soon_ns

    # Faults

    def lose(self, gpu: int, code: int = _GPU_IS_LOST, *, listed: bool = True) -> None:
        """Every call on the GPU answers `code`; unlisted, the next init does not find it at all."""
        row = self._state.gpus[gpu]
        row.losses += 1
        row.unlisted = not listed
        row.lost_code = code
        self._ring()

    def bring_back(self, gpu: int, *, heal_handles: bool = False) -> None:
        """The GPU is here again: for the next init, or at once for those who hold handles."""
        row = self._state.gpus[gpu]
        if heal_handles:
            row.losses -= 1
        row.unlisted = False
        row.lost_code = 0

    def fail(self, what: What, code: int, gpu: int | None = None, times: int | None = None) -> None:
        """A function or field answers a code, for good or for so many times."""
        for site in self._sites(gpu):
            for cell in cells(what):
                set_fault(site, cell, code, layout.FOR_GOOD if times is None else times)

    def heal(self, what: What | None = None, gpu: int | None = None) -> None:
        """Take back what `fail` and `require_restart` did; what the generation lacks stays lacking."""
        whats = (*layout.FUNCTIONS, *range(layout.FIELD_MAX)) if what is None else (what,)
        for position in self._positions(gpu):
            lacking = frozenset[Cell]() if position == _SYSTEM else self.scenario.gpus[position].unsupported
            for cell in (cell for one in whats for cell in cells(one)):
                code = _NOT_SUPPORTED if cell in lacking else 0
                set_fault(self._state.sites[position], cell, code, layout.FOR_GOOD)

    def require_restart(self) -> None:
        """Library and driver are out of step: all but nvmlShutdown answers 18."""
        for function in layout.FUNCTIONS:
            if function != "nvmlShutdown":
                self.fail(function, _LIBRARY_MISMATCH)

    def hang(self, function: str | None = None, gpu: int | None = None, seconds: float | None = None) -> None:
        """Calls of a function (None: of all) do not come back before `release` or that many real seconds."""
        until_ns = layout.FOREVER_NS
        if seconds is not None:
            until_ns = time.monotonic_ns() + round(seconds * NS_PER_S)
        for site in self._sites(gpu):
            for number in function_numbers(function):
                site.hang_until_ns[number] = until_ns

    def release(self) -> None:
        """Let every hung call go on."""
        for site in self._sites(None):
            for number in function_numbers(None):
                site.hang_until_ns[number] = 0

    def slow(self, ms: int, function: str | None = None, gpu: int | None = None) -> None:
        """Each call of a function (None: of all) sleeps first."""
        for site in self._sites(gpu):
            for number in function_numbers(function):
                site.slow_ms[number] = ms

    def swap_order(self, *positions: int) -> None:
        """The NVML index order at the next init."""
        if sorted(positions) != list(range(len(self.uuids))):
            raise ValueError(f"{positions} is no order of {len(self.uuids)} GPUs")
        for index, position in enumerate(positions):
            self._state.order[index] = position

    # Events

    def xid(
        self, gpu: int, number: int, gpu_instance: int | None = None, compute_instance: int | None = None
    ) -> None:
        """The driver reports a critical error."""
        self.emit(gpu, XID, number, gpu_instance, compute_instance)

    def emit(
        self,
        gpu: int,
        event_type: int,
        payload: int = 0,
        gpu_instance: int | None = None,
        compute_instance: int | None = None,
    ) -> None:
        """Any event, for the sets that registered its type."""
        head = int(self._state.event_head)
        event = self._state.events[head % layout.EVENT_MAX]
        event.type, event.payload, event.gpu = event_type, payload, gpu
        event.gpu_instance = layout.NOT_MIG if gpu_instance is None else gpu_instance
        event.compute_instance = layout.NOT_MIG if compute_instance is None else compute_instance
        self._state.event_head = head + 1
        self._ring()

    def _ring(self) -> None:
        """Wake those that wait for an event: writing to a mapping tells nobody, touching its file does."""
        os.utime(self.state_path)

    # What is on the card

    def set_processes(self, gpu: int, processes: Iterable[int | Process]) -> None:
        """Replace the processes; those that `set_mig` put on instances stay."""
        self._processes[gpu] = tuple(Process(p) if isinstance(p, int) else p for p in processes)
        self._write_processes(gpu)

    def set_mig(
        self, gpu: int, instances: Sequence[MigInstance | None] | None, *, announce: bool = True
    ) -> None:
        """Replace the MIG layout: None switches MIG off, a None in the list is a hole in the index."""
        row = self._state.gpus[gpu]
        if len(instances or ()) > layout.INSTANCE_MAX:
            raise ValueError(f"more than {layout.INSTANCE_MAX} MIG instances")
        slots = [with_uuid(i, self.uuids[gpu]) if i else None for i in instances or ()]
        self._instances[gpu] = tuple(slots)
        with self._change():
            row.mig_enabled = instances is not None
            for slot in range(layout.INSTANCE_MAX):
                write_instance(row.instances[slot], slots[slot] if slot < len(slots) else None)
        self._write_processes(gpu)
        if announce:
            self.emit(gpu, MIG_CONFIG_CHANGE)

    def set_field(self, gpu: int, number: int, value: int) -> None:
        """What a field answers; not for energy and power, which follow the curve."""
        write_field(self._state.gpus[gpu], number, value)

    def set_look(
        self,
        gpu: int,
        *,
        utilization_percent: int | None = None,
        memory_utilization_percent: int | None = None,
        memory_used_mib: int | None = None,
        temperature_c: int | None = None,
        sm_clock_mhz: int | None = None,
        clock_event_reasons: int | None = None,
    ) -> None:
        """Change what a look shows; None leaves a figure as it is."""
        row = self._state.gpus[gpu]
        if utilization_percent is not None:
            row.utilization_percent = utilization_percent
        if memory_utilization_percent is not None:
            row.memory_utilization_percent = memory_utilization_percent
        if memory_used_mib is not None:
            row.memory_used_bytes = memory_used_mib * MIB
        if temperature_c is not None:
            row.temperature_c = temperature_c
        if sm_clock_mhz is not None:
            row.clocks_mhz[0] = row.clocks_mhz[1] = sm_clock_mhz
        if clock_event_reasons is not None:
            row.clock_event_reasons = clock_event_reasons

    # What was done to us

    def calls(self, function: str | None = None, gpu: int | None = None) -> int:
        """How often a function was called, on a GPU or on all, since the start or `clear_calls`."""
        return sum(
            int(site.calls[number]) for site in self._sites(gpu) for number in function_numbers(function)
        )

    def clear_calls(self) -> None:
        """Count from 0 again."""
        for site in self._sites(None):
            ctypes.memset(site.calls, 0, ctypes.sizeof(site.calls))

    def init_count(self) -> int:
        """Inits that no shutdown has followed, over all processes; a process that crashed leaves its own."""
        return int(self._state.inits)

    def open_event_sets(self) -> int:
        """Event sets that were not freed, over all processes."""
        return int(self._state.event_sets)

    def waiting(self) -> int:
        """Threads inside nvmlEventSetWait now."""
        return int(self._state.waiting)

    def hung(self) -> int:
        """Calls that hang now."""
        return int(self._state.hung)

    # Writing the state

    def _positions(self, gpu: int | None) -> tuple[int, ...]:
        return (gpu,) if gpu is not None else (*range(len(self.uuids)), _SYSTEM)

    def _sites(self, gpu: int | None) -> Iterator[layout.Site]:
        return (self._state.sites[position] for position in self._positions(gpu))

    @contextmanager
    def _change(self) -> Iterator[None]:
        """While inside, readers of lists and curves wait."""
        self._state.change += 1
        try:
            yield
        finally:
            self._state.change += 1

    def _write(self, scenario: Scenario) -> None:
        state = self._state
        state.version, state.size = layout.VERSION, ctypes.sizeof(layout.State)
        state.gpu_count = len(scenario.gpus)
        state.real_clock = scenario.clock == "real"
        state.cuda_version = scenario.cuda_version
        state.epoch_ns = time.monotonic_ns()
        state.wall_epoch_us = time.time_ns() // 1000
        state.refresh_ns = scenario.refresh_ms * 1_000_000
        state.driver_version = scenario.driver_version.encode()
        state.nvml_version = scenario.nvml_version.encode()
        self._instances: list[tuple[MigInstance | None, ...]] = [()] * len(scenario.gpus)
        for position, spec in enumerate(scenario.gpus):
            state.order[position] = position
            self._write_gpu(position, spec)
        state.magic = layout.MAGIC

    def _write_gpu(self, position: int, spec: GpuSpec) -> None:
        write_card(self._state.gpus[position], position, spec)
        for cell in spec.unsupported:
            self.fail(cell, _NOT_SUPPORTED, position)
        self._set_curve(position, spec.curve)
        self.set_mig(position, spec.mig, announce=False)
        self.set_look(
            position,
            utilization_percent=spec.utilization_percent,
            memory_utilization_percent=spec.memory_utilization_percent,
            memory_used_mib=spec.memory_used_mib,
            temperature_c=spec.temperature_c,
            sm_clock_mhz=spec.sm_clock_mhz,
            clock_event_reasons=spec.clock_event_reasons,
        )

    def _set_curve(self, gpu: int, curve: Curve) -> None:
        if len(curve.points) > layout.POINT_MAX:
            raise ValueError(f"a curve of more than {layout.POINT_MAX} points")
        self._curves[gpu] = curve
        with self._change():
            write_curve(self._state.gpus[gpu], curve)

    def _write_processes(self, gpu: int) -> None:
        on_instances = (
            Process(pid, gpu_instance=i.gpu_instance, compute_instance=i.compute_instance)
            for i in self._instances[gpu]
            if i is not None
            for pid in i.processes
        )
        processes = (*self._processes[gpu], *on_instances)
        if len(processes) > layout.PROCESS_MAX:
            raise ValueError(f"more than {layout.PROCESS_MAX} processes on a GPU")
        row = self._state.gpus[gpu]
        with self._change():
            row.process_count = len(processes)
            for number, process in enumerate(processes):
                write_process(row.processes[number], process)
