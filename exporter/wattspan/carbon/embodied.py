"""Embodied carbon: what making the hardware emitted, by the time for which it is reserved. Pure.

M = TE x (TiR / EL) x (RR / ToR)  (Software Carbon Intensity, ISO/IEC 21031:2024, 3.3): total embodied
grams, time
reserved over expected life, resources reserved over total resources.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.units import NS_PER_S

YEAR_NS: Final = 365 * 86_400 * NS_PER_S + 21_600 * NS_PER_S
"""A Julian year."""


@dataclass(frozen=True, slots=True)
class Embodied:
    """What the node's hardware took to make.

    Attributes:
        gpu_g: grams by model name, for those that are known; the key None stands for every other model.
        host_g: grams of the server without its GPUs; None when unknown.
        lifetime_ns: expected life that they are spread over.
    """

    gpu_g: Mapping[str | None, float]
    host_g: float | None
    lifetime_ns: int

    def grams(self, model: str, gpu_ns: int, gpus: int) -> float | None:
        """Of a GPU reserved for a time, with its part of the host; None where its model is not known.

        Args:
            model: as the driver names it.
            gpu_ns: time reserved; of a shared card by share.
            gpus: of the node, among which the host is divided.
        """
        gpu_g = self.gpu_g.get(model, self.gpu_g.get(None))
        if gpu_g is None:
            return None
        host_g = (self.host_g or 0.0) / max(gpus, 1)
        return (gpu_g + host_g) * gpu_ns / self.lifetime_ns
