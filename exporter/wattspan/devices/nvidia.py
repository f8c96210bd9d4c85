"""NVIDIA GPUs through NVML: energy, power, load, throttling, XID errors, MIG and processes.

The parts beside this file: `nvml_session` (one initialisation), `nvml_card` (a look at one GPU),
`nvml_fields` (many values in one call), `nvml_scope` (what a superchip's counter covers), `nvml_holders`
(MIG and processes), `nvml_sm` (what processes do), `nvml_events` (XIDs), `nvml_calls` and
`nvml_process_calls` (what we ask) and `nvml_errors` (what each return code means).
"""

import ctypes
import importlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from wattspan.devices.nvml_card import EnergyHistory
from wattspan.devices.nvml_errors import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    OPERATING_SYSTEM,
    Action,
    code_of,
    errors_of,
    meaning_of,
    translate,
)
from wattspan.devices.nvml_session import Session
from wattspan.errors import NotHereError, ReadError, SetupError
from wattspan.model import Failure, GpuReading, SourceReport, XidEvent
from wattspan.units import NS_PER_S

_BACKOFF_FIRST_NS: Final = 5 * NS_PER_S
_BACKOFF_LAST_NS: Final = 300 * NS_PER_S
"""Initialising anew disturbs every GPU of the node, so a card that stays lost is tried ever more seldom."""

_FORBIDDEN: Final = (
    "the operating system keeps the NVIDIA devices from us: let this user or container open /dev/nvidiactl "
    "and /dev/nvidia* (file mode, device cgroup, NVIDIA_VISIBLE_DEVICES=all)"
)

_NOT_HERE: Final = {
    LIBRARY_NOT_FOUND: (
        "libnvidia-ml.so.1 was not found: install the NVIDIA driver; in a container use the NVIDIA runtime "
        "with NVIDIA_DRIVER_CAPABILITIES=utility; or name the file with --nvml.library"
    ),
    FUNCTION_NOT_FOUND: (
        "the libnvidia-ml.so.1 that was found is no NVML: name the driver's own with --nvml.library"
    ),
    DRIVER_NOT_LOADED: (
        "the NVML library is here and the NVIDIA kernel driver is not loaded: load it (modprobe nvidia) "
        "or read the kernel's log"
    ),
    NO_PERMISSION: _FORBIDDEN,
    OPERATING_SYSTEM: _FORBIDDEN,
}
"""How to mend it, by the return code of nvmlInit, where that means that there is no NVIDIA GPU for us."""


class NvidiaSource:
    """The NVIDIA GPUs of this machine.

    A GPU is known by its UUID alone; NVML's indices change from one initialisation to the next.
    A GPU that is lost yields a `Failure` at each look and is left alone until NVML is initialised anew,
    which is tried with a growing pause; the other GPUs are read meanwhile.

    Args:
        library: path of the driver's libnvidia-ml.so.1 (``--nvml.library``), or None for the loader's choice.
        process_interval_ns: process lists and MIG layouts are read no more often than this,
            save when memory in use or work that begins shows that somebody came or went.
        clock: CLOCK_MONOTONIC in nanoseconds.

    Raises:
        SetupError: `library` cannot be loaded or is no NVML.
    """

    name = "nvidia"

    def __init__(
        self,
        library: str | None = None,
        process_interval_ns: int = 5 * NS_PER_S,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._library = None if library is None else load_library(library)
        self._process_interval_ns = process_interval_ns
        self._clock = clock
        self._pynvml: Any = None
        self._session: Session | None = None
        self._histories: defaultdict[str, EnergyHistory] = defaultdict(EnergyHistory)
        self._lost: dict[str, Failure] = {}
        self._xids: list[XidEvent] = []
        self._backoff = Backoff()
        self._down = Failure(self.name, "driver", "NVML is not open")

    def open(self) -> str:
        """As `Source.open`. Loads pynvml and the library, once for the life of the process."""
        self.close()
        self._pynvml = self._import_pynvml()
        try:
            session = self._start_session()
        except errors_of(self._pynvml) as error:
            why = _NOT_HERE.get(code_of(error))
            if why is not None:
                raise NotHereError(why) from error
            raise translate(error, "initialising NVML") from error
        if session.cards or session.unreachable or self._histories:
            return session.describe()
        self.close()
        raise NotHereError(
            _FORBIDDEN if session.forbidden else "the NVIDIA driver is loaded and counts no GPU"
        )

    def read(self) -> SourceReport:
        """As `Source.read`."""
        started_ns = self._clock()
        if self._session is not None:
            self._xids.extend(self._session.drain_events())
        if self._backoff.due(started_ns):
            self._reinitialise(started_ns)
        if self._session is None:
            raise ReadError(self._down.reason, self._down.detail)
        gpus, failures, stale = self._look(self._session)
        finished_ns = self._clock()
        if stale or self._lost or self._session.unreachable:
            self._backoff.plan(finished_ns)
        else:
            self._backoff.reset()
        xids, self._xids = self._xids, []
        return SourceReport(
            source=self.name,
            started_ns=started_ns,
            finished_ns=finished_ns,
            gpus=tuple(gpus),
            xids=tuple(xids),
            failures=tuple(failures),
        )

    def close(self) -> None:
        """As `Source.close`."""
        self._end_session()
        self._backoff.reset()
        for history in self._histories.values():
            history.break_off()

    def _look(self, session: Session) -> tuple[list[GpuReading], list[Failure], bool]:
        """Readings, failures, and whether an answer says that this initialisation is no good any more."""
        gpus: list[GpuReading] = []
        failures: list[Failure] = []
        stale = False
        for uuid, card in session.cards.items():
            if uuid in self._lost:
                continue
            try:
                gpus.append(card.read())
            except errors_of(self._pynvml) as error:
                failure = self._failure(error, f"GPU {card.gpu.index}", uuid)
                action = meaning_of(code_of(error)).action
                if action is Action.LOST:
                    self._mark_lost(failure, uuid)
                else:
                    failures.append(failure)
                    stale = stale or action is Action.REINITIALISE
        failures.extend(self._lost.values())
        # A known GPU that is missing and an index that does not open are one and the same card.
        missing = sum(uuid not in session.cards for uuid in self._lost)
        strangers = list(session.unreachable.items())[missing:]
        failures.extend(self._failure(error, f"GPU {index}", f"index-{index}") for index, error in strangers)
        return gpus, failures, stale

    def _failure(self, error: Exception, what: str, device: str | None) -> Failure:
        translated = translate(error, what, device)
        return Failure(self.name, translated.reason, translated.detail, device)

    def _mark_lost(self, failure: Failure, uuid: str) -> None:
        self._lost[uuid] = failure
        self._histories[uuid].break_off()

    def _reinitialise(self, now_ns: int) -> None:
        self._backoff.taken()
        self._end_session()
        try:
            self._start_session()
        except errors_of(self._pynvml) as error:
            self._backoff.plan(now_ns)
            self._down = self._failure(error, "initialising NVML anew", None)

    def _start_session(self) -> Session:
        session = Session(self._pynvml, self._histories, self._process_interval_ns, self._clock)
        self._session = session
        self._lost = {}
        for uuid in self._histories:
            if uuid not in session.cards:
                self._mark_lost(Failure(self.name, "lost", "NVML does not list it any more", uuid), uuid)
        return session

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            self._xids.extend(session.drain_events())  # told with the next report

    def _import_pynvml(self) -> Any:
        try:
            pynvml: Any = importlib.import_module("pynvml")
        except ImportError as error:
            raise NotHereError("the Python package nvidia-ml-py is not installed") from error
        if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
            # Packages named pynvml up to 11 held another module of the same name.
            raise NotHereError(
                "the module pynvml is not NVIDIA's: uninstall the package pynvml and install nvidia-ml-py"
            )
        if self._library is not None and pynvml.nvmlLib is None:
            pynvml.nvmlLib = self._library
        return pynvml


class Backoff:
    """When to try again: a pause that doubles with each try that did not help."""

    def __init__(self) -> None:
        self._due_ns: int | None = None
        self._pause_ns = _BACKOFF_FIRST_NS

    def due(self, now_ns: int) -> bool:
        """Whether a try was planned for now or earlier."""
        return self._due_ns is not None and now_ns >= self._due_ns

    def plan(self, now_ns: int) -> None:
        """Plan the next try, unless one is planned."""
        if self._due_ns is None:
            self._due_ns = now_ns + self._pause_ns
            self._pause_ns = min(2 * self._pause_ns, _BACKOFF_LAST_NS)

    def taken(self) -> None:
        """The planned try is being made."""
        self._due_ns = None

    def reset(self) -> None:
        """All is well: plan nothing, and begin with a short pause the next time."""
        self._due_ns = None
        self._pause_ns = _BACKOFF_FIRST_NS


def load_library(path: str) -> ctypes.CDLL:
    """Load the NVML library at a path; it stays loaded for the life of the process.

    Raises:
        SetupError: it cannot be loaded or is no NVML.
    """
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise SetupError(f"--nvml.library {path}: cannot be loaded: {error}") from error
    if not hasattr(library, "nvmlInitWithFlags"):
        raise SetupError(
            f"--nvml.library {path}: is no NVML; wanted is the driver's libnvidia-ml.so.1 (390 or newer)"
        )
    return library
