"""Which processes keep the SMs of a shared GPU busy, and how much of the time."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from wattspan.devices.nvml_calls import Asker, Calls, Handle
from wattspan.devices.nvml_process_calls import SmSample
from wattspan.units import NS_PER_S, PERCENT

_REST: Final = 100
"""The driver rests so many times as long as its answer took: a shared GPU costs about 1 % of the time.

How long that is, only the driver in hand can tell.
Kepler's notes have 50 to 100 ms on A100 and H100 (design notes on MIG power attribution);
other questions are answered from memory in microseconds (MangoHud pull request 2104).
All of them wait for one lock of the kernel driver that the training job wants too.
"""

_REST_LEAST_NS: Final = 9 * NS_PER_S // 10
"""The driver samples every 1/6 to 1 second by the product (nvml.h, nvmlUtilization_t).

A little less than a second: sampling once a second never comes to the nanosecond.
"""

_REST_MOST_NS: Final = 60 * NS_PER_S
"""However slow the driver is. An answer as old as this says nothing of now."""


class SmLook:
    """Asks one GPU for its processes' SM time when it is time to, and remembers the answer.

    The driver is asked only while processes share the GPU; a card with one holder costs nothing.

    Args:
        asker, calls, handle: of the GPU.
        clock: CLOCK_MONOTONIC in nanoseconds.
    """

    def __init__(self, asker: Asker, calls: Calls, handle: Handle, clock: Callable[[], int]) -> None:
        self._asker = asker
        self._calls = calls
        self._handle = handle
        self._clock = clock
        self._due_ns = 0
        self._last_seen_us = 0
        self._answered_ns = 0
        self._shares: dict[int, float] | None = None

    def look(self, now_ns: int, processes: frozenset[int] | None) -> Mapping[int, float] | None:
        """Share of the time between the last two answers that each process kept the SMs busy.

        A process without an entry did nothing in it, or came after it.
        Where nothing has been sampled since, the last answer stands.

        Args:
            now_ns: the time of the look.
            processes: that are on the whole GPU now; None when unknown or the GPU is partitioned.

        Returns:
            None while fewer than two share the GPU, and until there are two answers to tell a share between.

        Raises:
            pynvml.NVMLError: the device is no good any more.
        """
        if processes is None or len(processes) < 2:
            self._forget()
            return None
        if now_ns >= self._due_ns:
            self._ask(now_ns, processes)
        if self._shares is None:
            return None
        return {pid: share for pid, share in self._shares.items() if pid in processes}

    def _ask(self, now_ns: int, processes: frozenset[int]) -> None:
        began_ns = self._clock()
        samples = self._asker.ask(self._calls.process_utilization, self._handle, self._last_seen_us)
        ended_ns = self._clock()
        rest_ns = max(_REST_LEAST_NS, _REST * (ended_ns - began_ns))
        self._due_ns = ended_ns + min(rest_ns, _REST_MOST_NS)
        new = new_samples(samples or (), self._last_seen_us)
        if not new:
            # The driver's clock may have been set back behind what we saw last: then nothing is ever new.
            if now_ns - self._answered_ns >= _REST_MOST_NS:
                self._forget()
            return
        # The first answer reaches back as far as the driver's memory does, and only tells the time.
        self._shares = sm_shares(new, processes) if self._last_seen_us else None
        self._last_seen_us = max(sample.timestamp_us for sample in new)
        self._answered_ns = now_ns

    def _forget(self) -> None:
        self._shares = None
        self._last_seen_us = 0


def new_samples(samples: Iterable[SmSample], last_seen_us: int) -> list[SmSample]:
    """Those that can be believed to be new.

    Some drivers answer with a hundred entries for two processes, most of them zeros and some with 37,100 %
    (nvtop issue 110, where zombie processes hold a GPU).
    """
    return [s for s in samples if s.timestamp_us > last_seen_us and s.sm_percent <= PERCENT]


def sm_shares(samples: Iterable[SmSample], processes: frozenset[int]) -> dict[int, float]:
    """Mean SM time of each process over the samples of one answer, 0 to 1.

    The driver samples those alone that did something, mostly once for each answer.
    So a process with fewer samples than the busiest did nothing in the others.
    """
    percents: Counter[int] = Counter()
    counts: Counter[int] = Counter()
    for sample in samples:
        if sample.pid in processes:
            percents[sample.pid] += sample.sm_percent
            counts[sample.pid] += 1
    moments = max(counts.values(), default=1)
    return {pid: percent / (PERCENT * moments) for pid, percent in percents.items()}
