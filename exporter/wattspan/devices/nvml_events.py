"""XID errors and MIG changes, which NVML tells only to a thread that waits for them."""

import ctypes
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wattspan.devices.nvml_calls import Handle
from wattspan.devices.nvml_errors import TIMEOUT, Action, code_of, errors_of, meaning_of

_XID: Final = 0x8
"""nvmlEventTypeXidCriticalError in nvml.h; the event's data is the XID."""

_MIG_CHANGED: Final = 0x100
"""nvmlEventMigConfigChange in nvml.h."""

_WAIT_MS: Final = 1000
"""How long one wait may block, and so how long stopping takes: NVML has no way to wake it.
Each return wakes a thread for nothing: at 500 ms that was a tenth of the CPU time of metering 8 GPUs."""

_PAUSE_S: Final = 1.0
"""After a wait that failed at once, so that a lost GPU does not spin the thread."""

_JOIN_S: Final = 2.0
"""A wait that has not returned by then hangs in the driver; its thread is left behind."""

_KEPT: Final = 10_000
"""Events between two reads; an XID storm beyond it drops the oldest instead of eating memory."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the driver reported.

    Attributes:
        uuid: of the GPU.
        xid: the error's number, or None when the event says that the MIG layout has changed.
    """

    uuid: str
    xid: int | None


class EventWatch:
    """The thread that waits for one initialisation's events. Where no GPU has any, there is no thread.

    Args:
        pynvml: the module, initialised.
        handles: of the GPUs, by UUID.
    """

    def __init__(self, pynvml: Any, handles: Mapping[str, Handle]) -> None:
        self._pynvml = pynvml
        self._errors = errors_of(pynvml)
        self._uuids = {_address(handle): uuid for uuid, handle in handles.items()}
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._set = self._register(handles)
        if self._set is not None:
            self._thread = threading.Thread(target=self._watch, name="nvidia-events", daemon=True)
            self._thread.start()

    def drain(self) -> list[Event]:
        """What was reported since the last call, oldest first."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def stop(self) -> None:
        """End the thread and free its event set, before nvmlShutdown. Blocks for `_JOIN_S` at most."""
        self._stopping.set()
        if self._thread is None:
            return
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # else the driver still writes into the set
            self._free(self._set)

    def _register(self, handles: Mapping[str, Handle]) -> Any | None:
        try:
            event_set = self._pynvml.nvmlEventSetCreate()
        except self._errors:
            return None
        # Not any(), which would stop at the first GPU.
        if sum(self._register_one(handle, event_set) for handle in handles.values()):
            return event_set
        self._free(event_set)
        return None

    def _register_one(self, handle: Handle, event_set: Any) -> bool:
        try:
            wanted = self._pynvml.nvmlDeviceGetSupportedEventTypes(handle) & (_XID | _MIG_CHANGED)
            if wanted:
                self._pynvml.nvmlDeviceRegisterEvents(handle, wanted, event_set)
        except self._errors:
            return False
        return bool(wanted)

    def _free(self, event_set: Any) -> None:
        try:
            self._pynvml.nvmlEventSetFree(event_set)
        except self._errors:
            return  # the driver has forgotten it already

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                event = self._pynvml.nvmlEventSetWait_v2(self._set, _WAIT_MS)
            except self._errors as error:
                code = code_of(error)
                if meaning_of(code).action in (Action.ABSENT, Action.REINITIALISE, Action.RESTART):
                    return
                if code != TIMEOUT:
                    self._stopping.wait(_PAUSE_S)
                continue
            uuid = self._uuids.get(_address(event.device))
            if uuid is not None:
                self._events.append(Event(uuid, event.eventData if event.eventType & _XID else None))


def _address(handle: Handle) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
