"""When to look: hanging, failing and absent sources cost themselves alone; time is one clock's."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from wattspan.errors import NotHereError, ReadError, RestartNeededError
from wattspan.model import Failure, PlatformReading, Snapshot, SourceReport
from wattspan.sampler import BOUNDARY_NS, CLOCK_STEP_NS, Sampler
from wattspan.units import NS_PER_S

TICK_NS = NS_PER_S  # long, so that a busy machine answers within the patience that a tick has


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * NS_PER_S
        self.wall_offset_ns = 1_780_000_000 * NS_PER_S

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self.wall_offset_ns


class Scripted:
    """A source whose every call does what the test says; it counts them."""

    def __init__(self, name: str, clock: Clock, read: Callable[[], None] | None = None) -> None:
        self.name = name
        self.clock = clock
        self.on_open: Callable[[], None] = lambda: None
        self.on_read: Callable[[], None] = read or (lambda: None)
        self.failures: tuple[Failure, ...] = ()
        self.calls: list[str] = []

    def open(self) -> str:
        self.calls.append("open")
        self.on_open()
        return "one sensor"

    def read(self) -> SourceReport:
        self.calls.append("read")
        self.on_read()
        now_ns = self.clock.now_ns
        platforms = (PlatformReading(self.name, now_ns, 1),)
        return SourceReport(self.name, now_ns, now_ns, platforms=platforms, failures=self.failures)

    def close(self) -> None:
        self.calls.append("close")


def failing(error: Exception) -> Callable[[], None]:
    """A call that raises."""

    def call() -> None:
        raise error

    return call


@pytest.fixture
def clock() -> Clock:
    """Time."""
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., Sampler]]:
    """Samplers that end with the test."""
    made: list[Sampler] = []

    def sampler(*sources: Scripted, required: bool = False) -> Sampler:
        made.append(
            Sampler([(source, required) for source in sources], TICK_NS, clock.monotonic_ns, clock.wall_ns)
        )
        return made[-1]

    yield sampler
    for each in made:
        each.close(0.2)


def seen(snapshot: Snapshot) -> set[str]:
    """Which sources reported."""
    return {report.source for report in snapshot.reports}


def up(snapshot: Snapshot) -> dict[str, bool]:
    """Health by source."""
    return {health.source: health.up for health in snapshot.health}


def test_the_first_tick_opens_and_reads(clock: Clock, make: Callable[..., Sampler]) -> None:
    """A daemon is ready within its first tick."""
    snapshot = make(Scripted("a", clock), Scripted("b", clock)).look()
    assert seen(snapshot) == {"a", "b"}
    assert up(snapshot) == {"a": True, "b": True}


def test_reports_keep_the_order_of_the_sources(clock: Clock, make: Callable[..., Sampler]) -> None:
    """Who answers first does not matter, so series keep their order from scrape to scrape."""
    answered = threading.Event()
    slow = Scripted("slow", clock, lambda: answered.wait(30) and time.sleep(0.02))
    fast = Scripted("fast", clock, answered.set)
    snapshot = make(slow, fast).look()
    assert [report.source for report in snapshot.reports] == ["slow", "fast"]


def test_quick_sources_are_read_one_after_the_other(
    clock: Clock, make: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that answer within the head start are never under way together."""
    monkeypatch.setattr("wattspan.sampler.HEAD_START_S", 30.0)
    under_way: set[str] = set()
    together: list[set[str]] = []

    def reading(name: str) -> Callable[[], None]:
        def read() -> None:
            under_way.add(name)
            time.sleep(0.02)
            together.append(set(under_way))
            under_way.discard(name)

        return read

    names = ("a", "b", "c")
    snapshot = make(*(Scripted(name, clock, reading(name)) for name in names)).look()
    assert seen(snapshot) == set(names)
    assert together == [{"a"}, {"b"}, {"c"}]


def test_a_source_that_hangs_costs_itself_alone(clock: Clock, make: Callable[..., Sampler]) -> None:
    """The others go on; the hung one says timeout, once, and what it finally returns is taken."""
    gate = threading.Event()
    hung = Scripted("hung", clock)
    sampler = make(hung, Scripted("fine", clock))
    sampler.look()
    hung.on_read = lambda: gate.wait(30) and None
    failures = []
    for _ in range(6):
        clock.now_ns += NS_PER_S
        snapshot = sampler.look()
        assert seen(snapshot) == {"fine"}
        failures += snapshot.failures
    assert [(failure.source, failure.reason) for failure in failures] == [("hung", "timeout")]
    assert up(snapshot) == {"hung": False, "fine": True}
    assert hung.calls.count("read") == 2, "a call that has not returned is not made again"
    gate.set()
    hung.on_read = lambda: None
    give_up_s = time.monotonic() + 30
    while "hung" not in seen(snapshot) and time.monotonic() < give_up_s:
        time.sleep(0.01)  # its thread has to come back first
        snapshot = sampler.look()
    assert up(snapshot)["hung"]


def test_a_source_that_fails_is_tried_at_the_next_tick(clock: Clock, make: Callable[..., Sampler]) -> None:
    """A failure is a record with its reason, not an old value and not a zero."""
    source = Scripted("a", clock)
    sampler = make(source)
    sampler.look()
    source.on_read = failing(ReadError("io", "short read"))
    snapshot = sampler.look()
    assert (snapshot.reports, [f.reason for f in snapshot.failures]) == ((), ["io"])
    assert up(snapshot) == {"a": False}
    source.on_read = lambda: None
    assert up(sampler.look()) == {"a": True}


def test_a_device_that_fails_is_said_once_and_so_is_its_return(
    clock: Clock, make: Callable[..., Sampler], caplog: pytest.LogCaptureFixture
) -> None:
    """One line when one of a source's devices goes, silence while it is gone, one line when it is back."""
    source = Scripted("a", clock)
    sampler = make(source)
    sampler.look()
    source.failures = (Failure("a", "lost", "fell off the bus", "GPU-1"),)
    caplog.set_level(logging.INFO, logger="wattspan")
    caplog.clear()
    for _ in range(3):
        clock.now_ns += TICK_NS
        assert up(sampler.look()) == {"a": True}
    source.failures = ()
    for _ in range(2):
        sampler.look()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "source a: GPU-1 is down: lost: fell off the bus"),
        ("INFO", "source a: GPU-1 is back"),
    ]


def test_a_fault_of_ours_in_one_source_is_a_failure_of_that_source(
    clock: Clock, make: Callable[..., Sampler]
) -> None:
    """An unexpected exception ends neither the worker nor the daemon."""
    source = Scripted("a", clock, failing(ZeroDivisionError("oops")))
    sampler = make(source, Scripted("b", clock))
    for _ in range(2):
        snapshot = sampler.look()
        assert [f.reason for f in snapshot.failures] == ["unknown"]
        assert seen(snapshot) == {"b"}


def test_an_absent_source_has_no_health_and_is_looked_for_again(
    clock: Clock, make: Callable[..., Sampler]
) -> None:
    """A driver may load after the daemon has started; until then nothing is said but one line."""
    source = Scripted("a", clock)
    source.on_open = failing(NotHereError("no driver"))
    sampler = make(source)
    for _ in range(5):
        snapshot = sampler.look()
        assert (snapshot.health, snapshot.failures) == ((), ())
    assert source.calls == ["open"]
    source.on_open = lambda: None
    clock.now_ns += 6 * NS_PER_S
    assert up(sampler.look()) == {"a": True}


def test_a_required_source_that_is_absent_is_down(clock: Clock, make: Callable[..., Sampler]) -> None:
    """`source.nvidia: on` on a node without a driver shows as source_up 0."""
    source = Scripted("a", clock)
    source.on_open = failing(NotHereError("no driver"))
    snapshot = make(source, required=True).look()
    assert up(snapshot) == {"a": False}
    assert snapshot.failures


def test_only_a_new_process_can_go_on(clock: Clock, make: Callable[..., Sampler]) -> None:
    """A driver out of step ends the loop with its reason."""
    source = Scripted("a", clock, failing(RestartNeededError("library and driver differ")))
    sampler = make(source)
    delivered: list[Snapshot] = []
    sampler.run(threading.Event(), delivered.append)
    assert sampler.restart_needed == "library and driver differ"
    assert len(delivered) == 1


def test_released_handles_stay_released_until_the_time_is_over(
    clock: Clock, make: Callable[..., Sampler]
) -> None:
    """A GPU can be reset under a running daemon, and is taken up again by itself."""
    gpu, other = Scripted("nvidia", clock), Scripted("rapl", clock)
    sampler = make(gpu, other)
    sampler.look()
    sampler.release(["nvidia"], 60 * NS_PER_S)
    for _ in range(3):
        snapshot = sampler.look()
    assert gpu.calls[-1] == "close"
    assert sampler.released
    assert seen(snapshot) == {"rapl"}
    assert [(h.reason, h.up) for h in snapshot.health if h.source == "nvidia"] == [("released", False)]
    clock.now_ns += 61 * NS_PER_S
    assert seen(sampler.look()) == {"nvidia", "rapl"}
    assert not sampler.released


@pytest.mark.parametrize("late_s", [0.5, 3])
def test_a_release_that_is_over_before_it_was_had_is_had_once(
    clock: Clock, make: Callable[..., Sampler], late_s: float
) -> None:
    """One second, while looks are as far apart: whoever asked hears of it, and the next look is a reading."""
    gpu, absent = Scripted("nvidia", clock), Scripted("amd", clock)
    absent.on_open = failing(NotHereError("no amdgpu"))
    sampler = make(gpu, absent)
    sampler.look()
    for _ in range(2):
        sampler.release(["nvidia", "amd"], NS_PER_S)
        assert not sampler.released
        clock.now_ns += round(late_s * NS_PER_S)
        sampler.look()
        assert gpu.calls[-1] == "close"
        clock.now_ns += round(0.6 * NS_PER_S)
        assert sampler.released
        assert seen(sampler.look()) == {"nvidia"}
        assert not sampler.released


def test_a_source_that_went_away_under_a_release_is_not_said_to_be_released(
    clock: Clock, make: Callable[..., Sampler]
) -> None:
    """The time is over, and it does not come back: that is a failure, and no answer to the request."""
    gpu = Scripted("nvidia", clock)
    sampler = make(gpu)
    sampler.look()
    sampler.release(["nvidia"], NS_PER_S)
    sampler.look()
    assert sampler.released
    gpu.on_open = failing(NotHereError("unloaded"))
    clock.now_ns += 2 * NS_PER_S
    sampler.look()
    assert not sampler.released


def test_a_release_of_zero_takes_the_handles_up_again(clock: Clock, make: Callable[..., Sampler]) -> None:
    """`wattspan release --for 0s`."""
    source = Scripted("nvidia", clock)
    sampler = make(source)
    sampler.look()
    sampler.release(["nvidia"], 600 * NS_PER_S)
    sampler.look()
    sampler.look()
    sampler.release(["nvidia"], 0)
    assert seen(sampler.look()) == {"nvidia"}


def test_a_wall_clock_that_jumps_is_noticed_once(clock: Clock, make: Callable[..., Sampler]) -> None:
    """Set by hand it is a step; slewed by NTP it is not."""
    sampler = make(Scripted("a", clock))
    stepped = []
    for offset_ns in (0, 1_000_000, CLOCK_STEP_NS + 1, 0, -3_600 * NS_PER_S):
        clock.wall_offset_ns += offset_ns
        stepped.append(sampler.look().clock_stepped)
    assert stepped == [False, False, True, False, True]


def test_missed_ticks_are_gaps_and_not_made_up_for(make: Callable[..., Sampler], clock: Clock) -> None:
    """A writer that was held up for five intervals looks once, says what it missed, and goes on in step."""
    sampler = make(Scripted("a", clock))
    stop = threading.Event()
    missed: list[int] = []

    def deliver(snapshot: Snapshot) -> None:
        missed.append(snapshot.missed_ticks)
        clock.now_ns += TICK_NS * 5 if len(missed) == 2 else TICK_NS // 2
        if len(missed) == 5:
            stop.set()

    class Woken(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.now_ns += round((timeout or 0) * NS_PER_S)
            return self.is_set()

    sampler.woken = Woken()
    sampler.run(stop, deliver)
    assert missed == [0, 0, 4, 0, 0]


def test_mail_is_read_between_ticks_and_may_ask_for_a_look(
    make: Callable[..., Sampler], clock: Clock
) -> None:
    """A run that begins has a reading of that moment; mail that begins and ends nothing costs no look."""
    sampler = make(Scripted("a", clock))
    stop = threading.Event()
    letters = [False, True]
    delivered: list[Snapshot] = []

    class Woken(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if letters:
                return True
            clock.now_ns += round((timeout or 0) * NS_PER_S)
            stop.set()
            return False

    def mail() -> bool:
        return letters.pop(0) if letters and delivered else False

    sampler.woken = Woken()
    sampler.run(stop, delivered.append, mail)
    assert [snapshot.missed_ticks for snapshot in delivered] == [0, 0]
    assert len({snapshot.taken_at_ns for snapshot in delivered}) == 1, "both within the first interval"


@pytest.mark.parametrize(("letters_per_s", "looks"), [(1000, 6), (10, 6), (3, 4), (0.5, 1)])
def test_mail_drives_no_driver(
    make: Callable[..., Sampler], clock: Clock, letters_per_s: float, looks: int
) -> None:
    """However many ask, together they have five looks a second beside the tick, and none waits for long."""
    source = Scripted("a", clock)
    sampler = make(source)
    stop = threading.Event()
    gap_ns, begin_ns = round(NS_PER_S / letters_per_s), clock.now_ns
    asked: list[int] = []
    answered: list[int] = []

    class Woken(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            next_ns = begin_ns + (len(asked) + 1) * gap_ns
            patience_ns = round((timeout or 0) * NS_PER_S)
            assert patience_ns > 0, "the writer spins"
            clock.now_ns = min(clock.now_ns + patience_ns, max(next_ns, clock.now_ns))
            return clock.now_ns == next_ns

    def mail() -> bool:
        due = begin_ns + (len(asked) + 1) * gap_ns <= clock.now_ns
        if due:
            asked.append(clock.now_ns)
        return due

    def deliver(snapshot: Snapshot) -> None:
        answered.append(snapshot.taken_at_ns)
        if snapshot.taken_at_ns >= begin_ns + 10 * NS_PER_S:
            stop.set()

    sampler.woken = Woken()
    sampler.run(stop, deliver, mail)
    assert len(answered) <= 10 * looks + 2
    waits = [min(at for at in answered if at >= letter) - letter for letter in asked]
    assert max(waits) <= BOUNDARY_NS
