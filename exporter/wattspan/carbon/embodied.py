"""Embodied carbon: what making the hardware emitted, by the time for which it is reserved.

M = TE x (TiR / EL) x (RR / ToR)  (Software Carbon Intensity, ISO/IEC 21031:2024, 3.3): total embodied
grams, time reserved over expected life, resources reserved over total resources.
The arithmetic is pure; `embodied_of` reads the carried table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.carbon.hardware import find_embodied
from wattspan.units import NS_PER_S

YEAR_NS: Final = 365 * 86_400 * NS_PER_S + 21_600 * NS_PER_S
"""A Julian year."""

G_PER_KG: Final = 1000.0
"""Grams in a kilogram, the unit of published footprints and of the settings."""


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


def embodied_of(
    models: Iterable[str], gpu_kg: float | None, host_kg: float | None, lifetime_years: float
) -> Embodied | None:
    """Of a node with these GPUs; None where nothing is known of any of them. Reads the carried table.

    Args:
        models: of its GPUs, as the driver names them.
        gpu_kg: the setting ``embodied.gpu-kg``, which goes before the table, for every model.
        host_kg: the setting ``embodied.host-kg``; None leaves the host out. There is no default: published
            figures differ by a factor of five.
        lifetime_years: the setting ``embodied.lifetime-years``.
    """
    gpu_g: dict[str | None, float] = {}
    if gpu_kg is not None:
        gpu_g[None] = gpu_kg * G_PER_KG
    else:
        gpu_g |= {model: grams for model in models if (grams := embodied_grams(model)) is not None}
    if not gpu_g:
        return None
    host_g = None if host_kg is None else host_kg * G_PER_KG
    return Embodied(gpu_g, host_g, lifetime_ns=round(lifetime_years * YEAR_NS))


def embodied_grams(model: str) -> float | None:
    """Of making one GPU of a model, by the carried table; None where it has nothing of exactly that one.

    Reads the table, so whoever meets models one by one asks once for each and remembers.

    Args:
        model: as the driver names it.
    """
    figure = find_embodied(model)
    return None if figure is None else figure.kg * G_PER_KG
