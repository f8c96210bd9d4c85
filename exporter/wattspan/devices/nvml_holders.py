"""Who may use a GPU and who does: its MIG layout and its process lists.

They change seldom and cost much: one process list took 4.5 ms (MangoHud pull request 2104),
under a lock that the training job wants too.
So both are read every few seconds, at once after the driver has reported a new layout,
and when the GPU itself shows that somebody came or went.
"""

from dataclasses import dataclass
from typing import Final

from wattspan.devices.nvml_calls import Asker, Calls, Handle
from wattspan.model import MigInstance, MigMode
from wattspan.units import NS_PER_S

_MIG_MODES: Final[dict[int, MigMode]] = {0: "disabled", 1: "enabled"}
"""NVML_DEVICE_MIG_DISABLE and _ENABLE in nvml.h."""

_STIR_BYTES: Final = 8 * 1024 * 1024
"""More memory than this gained or lost is a sign of a process: a CUDA context takes hundreds of MiB."""

_PAUSE_NS: Final = 9 * NS_PER_S // 10
"""Between two looks at least, because a job may allocate and free all the time.

A little less than a second: sampling once a second never comes to the nanosecond.
"""


@dataclass(frozen=True, slots=True)
class Holders:
    """What one look found.

    Attributes:
        mig_mode: in force now; a pending change is not.
        processes: pids with a compute context on the GPU, clients of MPS among them; on MIG, on any of its
            instances.
            None when the driver does not say, or not for each instance.
        mig_instances: empty unless MIG is enabled.
        mig_slices: of the whole GPU; None unless MIG is enabled and the driver says it.
    """

    mig_mode: MigMode = "unsupported"
    processes: frozenset[int] | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    mig_slices: int | None = None


class HoldersLook:
    """Looks at one GPU's holders when it is time to, and remembers what it found.

    Args:
        asker, calls, handle: of the GPU.
        interval_ns: between two looks while nothing stirs.
    """

    def __init__(self, asker: Asker, calls: Calls, handle: Handle, interval_ns: int) -> None:
        self._asker = asker
        self._calls = calls
        self._handle = handle
        self._interval_ns = interval_ns
        self._holders: Holders | None = None
        self._mig_slices: int | None = None
        self._due_ns = 0
        self._soonest_ns = 0
        self._memory_bytes: int | None = None
        self._utilization: int | None = None

    def expire(self) -> None:
        """What was found is out of date: look anew the next time."""
        self._due_ns = 0

    def look(self, now_ns: int, memory_bytes: int | None, utilization: int | None) -> Holders:
        """What is known of the holders; asked anew when it is old, or somebody seems to have come or gone.

        Args:
            now_ns: the time of the look.
            memory_bytes: device memory in use, read just now.
            utilization: as the driver says it, read just now.

        Raises:
            pynvml.NVMLError: the device is no good any more.
        """
        if self._stirred(memory_bytes, utilization):
            self._due_ns = min(self._due_ns, self._soonest_ns)
        if self._holders is not None and now_ns < self._due_ns:
            return self._holders
        self._due_ns = now_ns + self._interval_ns
        self._soonest_ns = now_ns + _PAUSE_NS
        mode = self._mig_mode()
        if self._holders is not None and mode != self._holders.mig_mode:
            self._asker.forget_refusals()
        if mode == "enabled":
            instances = self._instances()
            self._holders = Holders(mode, _union(instances), instances, self._slices())
        else:
            self._holders = Holders(mode, self._pids(self._handle))
        return self._holders

    def _stirred(self, memory_bytes: int | None, utilization: int | None) -> bool:
        """Whether memory in use has changed by much since the last look, or work has begun."""
        memory_was, self._memory_bytes = self._memory_bytes, memory_bytes
        utilization_was, self._utilization = self._utilization, utilization
        if utilization_was == 0 and utilization:
            return True
        if memory_bytes is None or memory_was is None:
            return False
        return abs(memory_bytes - memory_was) > _STIR_BYTES

    def _mig_mode(self) -> MigMode:
        answer = self._asker.ask(self._calls.mig_mode, self._handle)
        if answer is None:
            # A GPU that cannot have MIG has refused the question; else it just did not answer this time.
            can_say = self._asker.may_ask(self._calls.mig_mode)
            return self._holders.mig_mode if self._holders is not None and can_say else "unsupported"
        return _MIG_MODES.get(answer[0], "unsupported")

    def _slices(self) -> int | None:
        """Of the whole GPU, asked until the driver has said it once."""
        if self._mig_slices is None:
            whole = self._asker.ask(self._calls.mig_whole, self._handle)
            self._mig_slices = None if whole is None else whole.sliceCount or None
        return self._mig_slices

    def _instances(self) -> tuple[MigInstance, ...]:
        slots = range(self._asker.ask(self._calls.mig_count, self._handle) or 0)
        found = (self._instance(slot) for slot in slots)
        return tuple(instance for instance in found if instance is not None)

    def _instance(self, slot: int) -> MigInstance | None:
        """The instance in a slot; None for a hole, or when it was destroyed while we asked."""
        ask, calls = self._asker.ask, self._calls
        # Handles go stale when instances are destroyed, and may be given to new ones: none is kept.
        handle = ask(calls.mig_handle, self._handle, slot)
        if handle is None:
            return None
        uuid = ask(calls.uuid, handle)
        gpu_instance = ask(calls.gpu_instance, handle)
        compute_instance = ask(calls.compute_instance, handle)
        attributes = ask(calls.attributes, handle)
        if uuid is None or gpu_instance is None or compute_instance is None or attributes is None:
            return None
        return MigInstance(
            uuid=uuid,
            gpu_instance=gpu_instance,
            compute_instance=compute_instance,
            # Mostly both are the same; where a GPU instance is divided, each compute instance has its part.
            slices=attributes.computeInstanceSliceCount or attributes.gpuInstanceSliceCount,
            # The driver calls an instance "<model> MIG <profile>".
            profile=(ask(calls.name, handle) or "").partition(" MIG ")[2],
            processes=self._pids(handle),
        )

    def _pids(self, handle: Handle) -> frozenset[int] | None:
        """Who computes on a GPU or an instance, clients of MPS among them; None when the driver does not say.

        A driver that knows no MPS has no clients of it.
        """
        pids: frozenset[int] | None = self._asker.ask(self._calls.compute_pids, handle)
        clients: frozenset[int] | None = self._asker.ask(self._calls.mps_pids, handle)
        if pids is None or not clients:
            return pids
        return pids | clients


def _union(instances: tuple[MigInstance, ...]) -> frozenset[int] | None:
    pids: frozenset[int] = frozenset()
    for instance in instances:
        if instance.processes is None:
            return None
        pids |= instance.processes
    return pids
