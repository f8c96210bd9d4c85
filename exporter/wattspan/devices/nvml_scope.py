"""Whose energy the counter of a superchip's GPU counts: the GPU's alone, or the module's, CPU and memory too.

Where the driver has powers of both scopes, the counter itself says which of them it follows.
nvml.h does not: it has the scopes of power (NVML_POWER_SCOPE_GPU, _MODULE), and of the counter only "for this
GPU". What is known of it:

- On GH200 it covers the module (zeus pull request 172), and the GPU's scope of power answers beside it.
- On GB10 the module's scope is refused and the counter is the GPU's; there is nothing to decide.
- On GB200 and GB300 two GPUs and a CPU are one module, and each GPU answers the same power for it.
  Nobody has said what their counters count. If they are the module's, each of the two counts it whole; that
  would have to be seen on one to be mended.
- Other cards refuse the module's scope: nvidia-smi shows N/A for it on all that we have seen.
  A driver that answered it with the GPU's own power would change nothing, because the two must differ.
"""

from typing import Final

from wattspan.model import PowerScope
from wattspan.units import NS_PER_S

_APART_NUM: Final = 21
_APART_DEN: Final = 20
"""Powers less than 5 % apart are one and the same, read twice: so far apart may two good sensors be."""

_LOOKS: Final = 10
"""By so many looks more must the one scope be nearer than the other; a step in the load misleads one."""


class ScopeWitness:
    """Hears counter and powers of one GPU until it knows.

    Attributes:
        settled: what the counter covers; None as long as that is not known.
    """

    def __init__(self) -> None:
        self.settled: PowerScope | None = None
        self._meanwhile: PowerScope = "gpu"
        self._before: tuple[int, int] | None = None
        self._for_module = 0

    def look(
        self, read_at_ns: int, energy_mj: int | None, gpu_mw: int | None, module_mw: int | None
    ) -> PowerScope:
        """What the counter covers, as far as is known.

        In doubt it is the module, so that a CPU inside it is not counted twice.

        Args:
            read_at_ns: of this look.
            energy_mj: the counter.
            gpu_mw, module_mw: the last second's power in either scope; None where it is not answered.
        """
        if self.settled is not None:
            return self.settled
        if energy_mj is None or gpu_mw is None or module_mw is None:
            return self._meanwhile
        if module_mw * _APART_DEN <= gpu_mw * _APART_NUM:
            self._before = None
            return self._meanwhile
        self._meanwhile = "module"
        then_ns, then_mj = self._before or (read_at_ns, energy_mj)
        if read_at_ns == then_ns or energy_mj < then_mj:
            self._before = read_at_ns, energy_mj
        elif read_at_ns - then_ns >= NS_PER_S:  # less is too little for a counter that moves in steps
            self._before = read_at_ns, energy_mj
            mean_mw = (energy_mj - then_mj) * NS_PER_S // (read_at_ns - then_ns)
            self._for_module += 1 if 2 * mean_mw > gpu_mw + module_mw else -1
            if abs(self._for_module) >= _LOOKS:
                self.settled = "module" if self._for_module > 0 else "gpu"
        return self.settled or self._meanwhile
