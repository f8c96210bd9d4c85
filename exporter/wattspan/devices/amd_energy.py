"""AMD's energy accumulators, through the vendor's library amdsmi. A part of the source ``amd``.

Only what sysfs lacks is asked of it. The package binds every symbol when it is imported, so an older ROCm
raises AttributeError or KeyError there, and it prints to stdout (amdsmi 7.0.2): whatever happens inside,
out of this module comes a counter or the reason why there is none.
"""

import contextlib
import importlib
import io
from fractions import Fraction
from typing import Any, Final

_MODULE: Final = "amdsmi"


class EnergyAccumulators:
    """The accumulators of all cards, by PCI address."""

    def __init__(self) -> None:
        self._library: Any = None
        self._cards: dict[str, tuple[Any, Fraction]] = {}

    def open(self) -> str:
        """Load the library and ask which cards answer.

        Returns:
            Why there are none; empty when there are.
        """
        try:
            # It prints what it did not find; stdout belongs to the command that runs us.
            with contextlib.redirect_stdout(io.StringIO()):
                library: Any = importlib.import_module(_MODULE)
                library.amdsmi_init(library.AmdSmiInitFlags.INIT_AMD_GPUS)
        except Exception as error:  # a foreign library; its errors have no common base
            return f"{_MODULE} does not load: {error!r}"
        self._library = library
        try:
            for handle in library.amdsmi_get_processor_handles():
                self._add(handle)
        except Exception as error:
            self.close()
            return f"{_MODULE} lists no cards: {error!r}"
        return "" if self._cards else f"{_MODULE} knows no energy counter"

    def energy_uj(self, address: str) -> int | None:
        """A card's energy since its driver was loaded; None when it cannot say.

        Args:
            address: PCI address, such as ``0000:03:00.0``.
        """
        handle, unit_uj = self._cards.get(address, (None, Fraction(0)))
        if handle is None:
            return None
        try:
            count = self._library.amdsmi_get_energy_count(handle)["energy_accumulator"]
        except Exception:  # the card keeps its power from sysfs, and a silent counter is noticed there
            return None
        # Whole arithmetic: as floats, microjoules lose steps after some months at 1 kW.
        return int(count * unit_uj)

    def close(self) -> None:
        """Let go of the library. Never raises."""
        library, self._library, self._cards = self._library, None, {}
        if library is not None:
            with contextlib.suppress(Exception):
                library.amdsmi_shut_down()

    def _add(self, handle: Any) -> None:
        """Keep a card whose accumulator answers; the second die of an MI250 does not, or says 0."""
        with contextlib.suppress(Exception):
            first = self._library.amdsmi_get_energy_count(handle)
            # The resolution is a float32 such as 15.259 uJ; taken once, so that the counter is one line.
            if first["energy_accumulator"] and first["counter_resolution"]:
                address = self._library.amdsmi_get_gpu_device_bdf(handle).lower()
                self._cards.setdefault(address, (handle, Fraction(first["counter_resolution"])))
