"""The NVML calls that fill a list with processes, made without pynvml's wrappers.

The wrappers ask for the list's length first, so that each list costs two calls, and these are NVML's slowest.
"""

import ctypes
import struct
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from wattspan.devices.nvml_errors import FUNCTION_NOT_FOUND, INSUFFICIENT_SIZE, SUCCESS

_Array = ctypes.Array[ctypes.c_uint32]

_SAMPLES: Final = 100
"""Drivers keep 100 samples and may want room for all of them, however few there are (go-nvml issue 11)."""


class SmSample(NamedTuple):
    """What a process did on a GPU up to a moment.

    Attributes:
        pid: in whatever pid namespace the driver tells it.
        timestamp_us: by the driver's clock, which is good for comparing samples only.
        sm_percent: of the time with a kernel of the process on the SMs; above 100 it is nonsense.
    """

    pid: int
    timestamp_us: int
    sm_percent: int


class ComputePids:
    """The pids with a compute context on a GPU or MIG instance, by the struct that this library writes.

    Args:
        pynvml: the module, initialised.
        of: ``Compute`` for processes with a context of their own, ``MPSCompute`` for clients of MPS, which
            the driver lists apart.
    """

    _ENTRY: Final = 24
    """Bytes of nvmlProcessInfo_t: pid, memory, GPU instance, compute instance."""

    _ENTRY_WITH_PROTECTED: Final = 32
    """And a fifth member, usedGpuCcProtectedMemory: some R535 libraries write it under the same name."""

    def __init__(self, pynvml: Any, of: Literal["Compute", "MPSCompute"] = "Compute") -> None:
        library = pynvml.nvmlLib
        self._error = pynvml.NVMLError
        symbols = (f"nvmlDeviceGet{of}RunningProcesses_{version}" for version in ("v3", "v2"))
        self._function = next((getattr(library, s) for s in symbols if hasattr(library, s)), None)
        # nvitop found how to tell them apart (nvitop/api/libnvml.py): the libraries with five members
        # already have the first of these symbols and not yet the second.
        five = hasattr(library, "nvmlDeviceGetConfComputeMemSizeInfo") and not hasattr(
            library, "nvmlDeviceGetRunningProcessDetailList"
        )
        self._entry = self._ENTRY_WITH_PROTECTED if five else self._ENTRY
        self._room = _Room(self._entry, entries=64)

    def __call__(self, handle: Any) -> frozenset[int]:
        """The pids, in whatever pid namespace the driver tells them.

        Raises:
            pynvml.NVMLError: as the driver answers.
        """
        function = self._function
        if function is None:
            raise self._error(FUNCTION_NOT_FOUND)
        code, entries = self._room.fill(lambda room, count: function(handle, ctypes.byref(count), room))
        if code != SUCCESS:
            raise self._error(code)
        return frozenset(entries.cast("I")[:: self._entry // 4])


class ProcessUtilization:
    """nvmlDeviceGetProcessUtilization: what processes did, as the driver's newest samples tell."""

    _ENTRY: Final = struct.Struct("=I4xQI12x")
    """nvmlProcessUtilizationSample_t: pid, timestamp, SM; and memory, encoder, decoder."""

    def __init__(self, pynvml: Any) -> None:
        self._error = pynvml.NVMLError
        self._function = getattr(pynvml.nvmlLib, "nvmlDeviceGetProcessUtilization", None)
        self._room = _Room(self._ENTRY.size, entries=_SAMPLES)

    def __call__(self, handle: Any, last_seen_us: int) -> list[SmSample]:
        """The samples after a moment; 0 for all that the driver has kept.

        Raises:
            pynvml.NVMLError: as the driver answers; NOT_FOUND when there is nothing new.
        """
        function = self._function
        if function is None:
            raise self._error(FUNCTION_NOT_FOUND)
        since = ctypes.c_ulonglong(last_seen_us)
        code, entries = self._room.fill(
            lambda room, count: function(handle, room, ctypes.byref(count), since)
        )
        if code != SUCCESS:
            raise self._error(code)
        return [SmSample(pid, at, sm) for pid, at, sm in self._ENTRY.iter_unpack(entries)]


class ProcessesUtilizationInfo:
    """nvmlDeviceGetProcessesUtilizationInfo: the successor, where the driver has given up the first.

    Blackwell answers NOT_SUPPORTED to the first (HAMi-core pull request 218); old drivers lack this one.
    """

    _ENTRY: Final = struct.Struct("=QII24x")
    """nvmlProcessUtilizationInfo_v1_t: timestamp, pid, SM; and memory, encoder, decoder, JPEG, OFA."""

    def __init__(self, pynvml: Any) -> None:
        self._error = pynvml.NVMLError
        self._function = getattr(pynvml.nvmlLib, "nvmlDeviceGetProcessesUtilizationInfo", None)
        self._room = _Room(self._ENTRY.size, entries=_SAMPLES)

    def __call__(self, handle: Any, last_seen_us: int) -> list[SmSample]:
        """As `ProcessUtilization`."""
        function = self._function
        if function is None:
            raise self._error(FUNCTION_NOT_FOUND)

        def call(room: _Array, count: ctypes.c_uint) -> int:
            asked = _SampleList(_SampleList.VERSION, count.value, last_seen_us, ctypes.addressof(room))
            code: int = function(handle, ctypes.byref(asked))
            count.value = asked.count
            return code

        code, entries = self._room.fill(call)
        if code != SUCCESS:
            raise self._error(code)
        return [SmSample(pid, at, sm) for at, pid, sm in self._ENTRY.iter_unpack(entries)]


class _SampleList(ctypes.Structure):
    """nvmlProcessesUtilizationInfo_v1_t."""

    VERSION: Final = 0x01000018
    _fields_ = (
        ("version", ctypes.c_uint),
        ("count", ctypes.c_uint),
        ("last_seen_us", ctypes.c_ulonglong),
        ("entries", ctypes.c_void_p),
    )


class _Room:
    """Room for a list that the driver writes, kept from call to call and enlarged when it was too small."""

    def __init__(self, entry_bytes: int, entries: int) -> None:
        self._entry_bytes = entry_bytes
        self._reserve(entries)

    def fill(self, call: Callable[[_Array, ctypes.c_uint], int]) -> tuple[int, memoryview]:
        """The return code, and the bytes of the entries written; good until the next call.

        Args:
            call: takes the room and the count, which it sets to what was written or is wanted.
        """
        count = ctypes.c_uint(self._entries)
        code = call(self._room, count)
        if code == INSUFFICIENT_SIZE:
            self._reserve(max(self._entries, 2 * count.value))  # more may start before we ask again
            count.value = self._entries
            code = call(self._room, count)
        return code, memoryview(self._room).cast("B")[: count.value * self._entry_bytes]

    def _reserve(self, entries: int) -> None:
        self._entries = entries
        self._room: _Array = (ctypes.c_uint32 * (entries * self._entry_bytes // 4))()
