"""What simulated hardware does, as curves that repeat and can be integrated exactly.

A `Cycle` is a closed form: its integral up to any moment is a few bisections and needs no memory of the past.
So a demo daemon that is killed and started again goes on with the counter that it left, as hardware does.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from random import Random
from typing import Final, Literal

from wattspan.units import NS_PER_S, UW_PER_W

Throttle = Literal["", "sw_power_cap", "sw_thermal"]
THROTTLES: Final = ("sw_power_cap", "sw_thermal")
"""Why clocks are held down, in the words of the label `reason`."""

POWER_LIMIT_W: Final = 700
"""Of an H100 SXM5 (NVIDIA H100 data sheet: up to 700 W)."""

IDLE_W: Final = 72
"""A plausible figure for an H100 SXM5 on which no process has a context."""

HELD_W: Final = 118
"""The same card with a context open and nothing to do: clocks stay up, so it draws more than an idle one."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one simulated component does for a stretch of time.

    Attributes:
        power_uw: constant over the stretch.
        busy_percent: GPU utilization.
        memory_gib: device memory in use.
        processes: how many have a context on the card.
        throttle: why the clocks are held down; empty when they are not.
    """

    power_uw: int
    busy_percent: int = 0
    memory_gib: int = 0
    processes: int = 0
    throttle: Throttle = ""


class Cycle:
    """Stretches one after the other, for ever; each is a load or a cycle that starts afresh with its stretch.

    Args:
        stretches: (seconds, what is done); the seconds are kept to the nanosecond.
    """

    def __init__(self, *stretches: tuple[float, "Load | Cycle"]) -> None:
        lengths_ns = [round(seconds * NS_PER_S) for seconds, _ in stretches]
        self.starts_ns: Final = tuple(accumulate(lengths_ns[:-1], initial=0))
        self.period_ns: Final = sum(lengths_ns)
        self.parts: Final = tuple(part for _, part in stretches)

    def at(self, time_ns: int) -> Load:
        """The load at a moment, which may lie before zero."""
        within_ns = time_ns % self.period_ns
        which = bisect_right(self.starts_ns, within_ns) - 1
        part = self.parts[which]
        return part.at(within_ns - self.starts_ns[which]) if isinstance(part, Cycle) else part


class Integral:
    """The exact integral of one figure of a cycle, from zero to any moment.

    Args:
        cycle: the curve.
        figure: takes the figure from a load, as a whole number.
    """

    def __init__(self, cycle: Cycle, figure: Callable[[Load], int]) -> None:
        self._starts_ns = cycle.starts_ns
        self._period_ns = cycle.period_ns
        self._parts = tuple(
            Integral(part, figure) if isinstance(part, Cycle) else figure(part) for part in cycle.parts
        )
        ends_ns = (*cycle.starts_ns[1:], cycle.period_ns)
        areas = (self._area(i, ends_ns[i] - start_ns) for i, start_ns in enumerate(cycle.starts_ns))
        *self._before, self._whole = accumulate(areas, initial=0)

    def until(self, time_ns: int) -> int:
        """The figure times nanoseconds, summed from 0 to `time_ns`; negative before zero."""
        rounds, within_ns = divmod(time_ns, self._period_ns)
        which = bisect_right(self._starts_ns, within_ns) - 1
        return (
            rounds * self._whole + self._before[which] + self._area(which, within_ns - self._starts_ns[which])
        )

    def _area(self, which: int, length_ns: int) -> int:
        part = self._parts[which]
        return part.until(length_ns) if isinstance(part, Integral) else part * length_ns


def training(card: Random, shift: Random) -> Cycle:
    """A rank of a training run: steps, evaluation, checkpoints, stalls of the data loader, idle nights.

    Args:
        card: what differs from card to card: each die draws a little more or less.
        shift: what the ranks of one run share.
    """
    draw = partial(_load, per_mille=card.randint(960, 1040))
    step = Cycle(
        (3.1, draw(648, 99, 71, 1)),
        (0.5, draw(455, 92, 71, 1)),
        (0.2, draw(260, 40, 71, 1)),
    )
    epoch = Cycle(
        (330, step),
        (shift.randint(6, 25), draw(170, 12, 71, 1)),
        (shift.randint(300, 420), step),
        (45, draw(395, 74, 66, 1)),
        (20, draw(142, 4, 71, 1)),
    )
    return Cycle((20 * 3600, epoch), (4 * 3600, draw(IDLE_W, 0, 0, 0)))


def capped_training(card: Random) -> Cycle:
    """A dense model that runs into the power limit in most steps, day and night."""
    draw = partial(_load, per_mille=card.randint(985, 1000))
    step = Cycle(
        (2.4, draw(POWER_LIMIT_W, 100, 76, 1, throttle="sw_power_cap")),
        (0.6, draw(560, 96, 76, 1)),
    )
    return Cycle(
        (540, step),
        (35, draw(400, 70, 70, 1)),
        (15, draw(150, 5, 76, 1)),
    )


def serving(card: Random) -> Cycle:
    """A model that answers requests: noise by the second under a slow wave of visitors."""
    quiet, busy = (
        Cycle(*((1, _request_load(card.betavariate(2, 5) * crowd, 58, 1)) for _ in range(300)))
        for crowd in (0.5, 1.0)
    )
    return Cycle((1200, quiet), (1500, busy), (600, quiet), (900, busy))


def shared(card: Random) -> Cycle:
    """Three notebooks of three people on one card: one works while the others hold memory."""
    burst = Cycle(*((card.choice((2, 5, 9)), _request_load(card.random(), 44, 3)) for _ in range(40)))
    return Cycle((600, burst), (card.randint(120, 400), _load(HELD_W, 0, 44, 3)))


def held(card: Random) -> Cycle:
    """A card that somebody took and forgot: memory in use, a context open, no work."""
    draw = partial(_load, per_mille=card.randint(960, 1040))
    return Cycle((3580, draw(HELD_W, 0, 23, 1)), (20, draw(205, 31, 23, 1)))


def sliced(card: Random) -> Cycle:
    """A card in Multi-Instance mode whose instances come and go; six processes in three instances."""
    return Cycle(
        *((card.choice((7, 13, 20)), _request_load(card.uniform(0.2, 0.7), 52, 6)) for _ in range(60))
    )


def overheated(cycle: Cycle) -> Cycle:
    """The same card with failing cooling: two minutes in ten it is held down to half of its limit."""
    return Cycle((480, cycle), (120, _load(POWER_LIMIT_W // 2, 99, 71, 1, throttle="sw_thermal")))


def host_cpu(socket: Random) -> Cycle:
    """A CPU package that feeds data loaders: noise by the second, and a burst every few minutes."""
    feed = Cycle(*((1, Load(round(socket.gauss(168, 9)) * UW_PER_W)) for _ in range(240)))
    return Cycle((socket.randint(200, 400), feed), (25, Load(291 * UW_PER_W)))


def host_dram(socket: Random) -> Cycle:
    """The memory of one package."""
    return Cycle(*((2, Load(round(socket.gauss(31, 2)) * UW_PER_W)) for _ in range(90)))


def _load(
    watts: int, busy: int, memory_gib: int, processes: int, *, per_mille: int = 1000, throttle: Throttle = ""
) -> Load:
    """A load from rounded watts, and how far this card is off them."""
    return Load(watts * per_mille * UW_PER_W // 1000, busy, memory_gib, processes, throttle)


def _request_load(intensity: float, memory_gib: int, processes: int) -> Load:
    watts = round(HELD_W + intensity * (POWER_LIMIT_W - HELD_W) * 0.9)
    return _load(watts, round(100 * intensity), memory_gib, processes)
