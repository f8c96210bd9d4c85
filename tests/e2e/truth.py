"""What the scenario says a card used, held against what Prometheus stored."""

import time
from itertools import pairwise
from typing import Final

from tests.fakes.nvml import FakeNvml
from wattspan.units import NS_PER_S, UJ_PER_J

READ_DOUBT_NS: Final = 100_000_000
"""A stated read time is the middle of one read of all cards, which a busy machine may interrupt.
So much is one refresh of the counter: what is shown is one of its values next to that time, exactly."""

Samples = list[tuple[float, float]]


class Truth:
    """The fake's exact energy at the read times that the daemon states.

    Args:
        fake: on the real clock.
    """

    def __init__(self, fake: FakeNvml) -> None:
        self._fake = fake
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def joules_at(self, gpu: int, read_s: float) -> set[float]:
        """What the counter can have shown at a wall-clock read time: one value, or two next to a refresh."""
        read_ns = self._fake.scenario_ns(int(read_s * NS_PER_S) - self._offset_ns)
        around = (read_ns - READ_DOUBT_NS, read_ns, read_ns + READ_DOUBT_NS)
        return {self._fake.energy_mj(gpu, t_ns) / 1000 for t_ns in around}

    def count_exact(self, gpu: int, energy: Samples, read: Samples) -> tuple[int, int]:
        """How many stored samples differ from the first by exactly the scenario's integral, and of how many.

        Args:
            gpu: position in the scenario.
            energy: raw samples of the card's energy counter, joules.
            read: raw samples of the source's stated read time, from the same scrapes.
        """
        read_at = dict(read)
        pairs = [(read_at[t], joules) for t, joules in energy if t in read_at and joules > 0]
        first_read_s, first_j = pairs[0]
        starts = self.joules_at(gpu, first_read_s)
        exact = sum(
            any(
                round((joules - first_j) * UJ_PER_J) == round((end - start) * UJ_PER_J)
                for start in starts
                for end in self.joules_at(gpu, read_s)
            )
            for read_s, joules in pairs[1:]
        )
        return exact, len(pairs) - 1


def falls(samples: Samples) -> list[tuple[float, float]]:
    """Pairs of neighbouring values of which the later is the lower."""
    values = [value for _, value in samples]
    return [(before, after) for before, after in pairwise(values) if after < before]
