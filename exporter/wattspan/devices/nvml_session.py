"""One initialisation of NVML, from nvmlInit to nvmlShutdown, and the GPUs and events seen under it."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from wattspan.devices.nvml_calls import Calls
from wattspan.devices.nvml_card import Card, EnergyHistory
from wattspan.devices.nvml_errors import Action, code_of, errors_of, meaning_of
from wattspan.devices.nvml_events import EventWatch
from wattspan.model import Gpu, XidEvent


class Session:
    """Handles on every GPU that we may open. While it lives, a GPU reset or driver upgrade is blocked.

    Args:
        pynvml: the module, with its library chosen.
        histories: of the energy counters, by UUID; new GPUs are added.
        holders_interval_ns: between two looks at MIG layout and process lists.
        clock: CLOCK_MONOTONIC in nanoseconds.

    Attributes:
        cards: by UUID, in NVML's order of now.
        unreachable: what pynvml raised, by index, for each GPU that is counted and cannot be opened.
        forbidden: how many GPUs are counted and not ours to open, as in a container with a share of them.

    Raises:
        pynvml.NVMLError: nothing can be read; NVML is not left initialised.
    """

    def __init__(
        self,
        pynvml: Any,
        histories: defaultdict[str, EnergyHistory],
        holders_interval_ns: int,
        clock: Callable[[], int],
    ) -> None:
        self._pynvml = pynvml
        self._errors = errors_of(pynvml)
        self._histories = histories
        self._holders_interval_ns = holders_interval_ns
        self._clock = clock
        self.cards: dict[str, Card] = {}
        self.unreachable: dict[int, Exception] = {}
        self.forbidden = 0
        pynvml.nvmlInit()
        try:
            self._calls = Calls(pynvml)
            self._driver_version = self._read_driver_version()
            for index in range(pynvml.nvmlDeviceGetCount()):
                self._take(index)
        except BaseException:
            self._shut_down()
            raise
        self._events = EventWatch(pynvml, {uuid: card.handle for uuid, card in self.cards.items()})

    def describe(self) -> str:
        """One line for the log: what was found."""
        models = Counter(card.gpu.model for card in self.cards.values())
        found = ", ".join(f"{count} x {model}" for model, count in models.items()) or "no GPU answers"
        notes = [found, f"driver {self._driver_version or 'unknown'}"]
        if self.forbidden:
            notes.append(f"{self.forbidden} more that we may not open")
        notes.extend(f"GPU {index}: {error}" for index, error in self.unreachable.items())
        return ", ".join(notes)

    def drain_events(self) -> list[XidEvent]:
        """XIDs since the last call; a reported MIG change makes its card look anew."""
        xids = []
        for event in self._events.drain():
            if event.xid is None:
                self.cards[event.uuid].expect_new_layout()
            else:
                xids.append(XidEvent(event.uuid, event.xid))
        return xids

    def close(self) -> None:
        """Give up every handle. Never raises; may block until the event thread's wait ends."""
        self._events.stop()
        self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._pynvml.nvmlShutdown()
        except self._errors:
            return  # the driver has forgotten us already

    def _read_driver_version(self) -> str:
        try:
            version: str = self._pynvml.nvmlSystemGetDriverVersion()
        except self._errors as error:
            if meaning_of(code_of(error)).action in (Action.REINITIALISE, Action.RESTART):
                raise
            return ""
        return version

    def _take(self, index: int) -> None:
        """Open the GPU at an index, unless it is not ours or does not answer."""
        try:
            handle = self._pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid: str = self._pynvml.nvmlDeviceGetUUID(handle)
            model: str = self._pynvml.nvmlDeviceGetName(handle)
        except self._errors as error:
            meaning = meaning_of(code_of(error))
            if meaning.action in (Action.REINITIALISE, Action.RESTART):
                raise
            if meaning.reason == "permission":
                self.forbidden += 1
            else:
                self.unreachable[index] = error
            return
        self.cards[uuid] = Card(
            pynvml=self._pynvml,
            calls=self._calls,
            handle=handle,
            gpu=Gpu(uuid, index, model, vendor="nvidia", driver_version=self._driver_version),
            history=self._histories[uuid],
            holders_interval_ns=self._holders_interval_ns,
            clock=self._clock,
        )
