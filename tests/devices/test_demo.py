"""The simulated hardware: exact, repeatable, and never the same on two nodes."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattspan.devices.demo import DemoSource
from wattspan.model import GpuReading, HostReading, SourceReport
from wattspan.units import NS_PER_S

MINUTE_NS = 60 * NS_PER_S
DAY_NS = 24 * 60 * MINUTE_NS
TICK_NS = NS_PER_S // 10  # every stretch of every curve is a multiple of this long


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


class Node:
    """A demo source together with the clock it looks at."""

    def __init__(self, name: str = "node-a", *, gpus: int = 8, faults: bool = False, at_ns: int = 0) -> None:
        self.clock = Clock(at_ns)
        self.source = DemoSource(name, gpus=gpus, faults=faults, clock_ns=self.clock)
        self.source.open()

    def at(self, now_ns: int) -> SourceReport:
        self.clock.now_ns = now_ns
        return self.source.read()


NODE = Node()
FAULTY = Node(faults=True)
moments = st.integers(min_value=0, max_value=400 * DAY_NS)


def energies_uj(report: SourceReport) -> list[int]:
    return [reading.energy_uj for reading in report.gpus if reading.energy_uj is not None]


@given(first_tick=st.integers(min_value=0, max_value=DAY_NS // TICK_NS), ticks=st.integers(1, 200))
@settings(max_examples=25, deadline=None)
def test_energy_is_the_integral_of_instant_power(first_tick: int, ticks: int) -> None:
    """The counter moves by the sum of the power that was shown, to the microjoule."""
    start_ns = first_tick * TICK_NS
    summed_uw = [0] * 8
    for tick in range(ticks):
        for card, reading in enumerate(NODE.at(start_ns + tick * TICK_NS).gpus):
            assert reading.power_instant_uw is not None
            summed_uw[card] += reading.power_instant_uw
    before = energies_uj(NODE.at(start_ns))
    after = energies_uj(NODE.at(start_ns + ticks * TICK_NS))
    for card in range(8):
        rounding = (after[card] - before[card]) * NS_PER_S - summed_uw[card] * TICK_NS
        assert abs(rounding) < NS_PER_S  # less than a microjoule


@given(times=st.lists(moments, min_size=2, max_size=20))
@settings(deadline=None)
def test_the_counter_never_goes_back(times: Sequence[int]) -> None:
    """Energy grows with the clock, however far apart two looks are."""
    seen = [energies_uj(NODE.at(now_ns)) for now_ns in sorted(times)]
    for earlier, later in pairwise(seen):
        assert all(b >= a for a, b in zip(earlier, later, strict=True))


@given(now_ns=moments, born_ns=moments)
@settings(max_examples=20, deadline=None)
def test_a_restarted_demo_goes_on(now_ns: int, born_ns: int) -> None:
    """Two processes of one boot report the same, whenever each of them began."""
    restarted = Node(at_ns=min(born_ns, now_ns)).at(now_ns)
    assert (restarted.gpus, restarted.hosts, restarted.platforms) == (
        NODE.at(now_ns).gpus,
        NODE.at(now_ns).hosts,
        NODE.at(now_ns).platforms,
    )


def test_the_counter_starts_at_zero_with_the_boot() -> None:
    """At boot no energy has been used."""
    assert set(energies_uj(NODE.at(0))) == {0}


@given(names=st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=4, unique=True))
@settings(max_examples=20, deadline=None)
def test_a_fleet_has_no_duplicates(names: Sequence[str]) -> None:
    """No two nodes share the UUID of a card or of a MIG instance."""
    uuids = [uuid for name in names for uuid in all_uuids(Node(name, gpus=9))]
    assert len(set(uuids)) == len(uuids)


def all_uuids(node: Node) -> list[str]:
    gpus = node.at(0).gpus
    return [reading.gpu.uuid for reading in gpus] + [
        instance.uuid for reading in gpus for instance in reading.mig_instances
    ]


def test_nobody_takes_a_simulated_card_for_a_real_one() -> None:
    """Every card says demo in the vendor, and no process id can be one of this machine's."""
    for reading in NODE.at(MINUTE_NS).gpus:
        assert reading.gpu.vendor == "demo"
        assert all(pid >= 2**22 for pid in reading.processes or ())


@given(now_ns=moments)
@settings(deadline=None)
def test_every_reading_is_plausible(now_ns: int) -> None:
    """Power stays within the limit, ratios within one, memory within the card, throttling within uptime."""
    for reading in FAULTY.at(now_ns).gpus:
        assert_plausible(reading, now_ns)


def assert_plausible(reading: GpuReading, now_ns: int) -> None:
    assert reading.power_limit_uw is not None
    for power_uw in (reading.power_uw, reading.power_instant_uw):
        assert power_uw is not None
        assert 0 < power_uw <= reading.power_limit_uw
    assert reading.utilization_ratio is None or 0 <= reading.utilization_ratio <= 1
    assert reading.memory_used_bytes is not None
    assert reading.memory_total_bytes is not None
    assert 0 <= reading.memory_used_bytes <= reading.memory_total_bytes
    assert reading.temperature_celsius is not None
    assert 25 <= reading.temperature_celsius <= 90
    assert sum(reading.throttled_ns.values()) <= now_ns


def test_the_cards_live_different_lives() -> None:
    """Within a day some card idles without a process, some is throttled, and some works all the time."""
    looks = [NODE.at(minute * MINUTE_NS).gpus for minute in range(0, 24 * 60, 7)]
    lives = list(zip(*looks, strict=True))
    assert any(any(not look.processes for look in life) for life in lives)
    assert any(any(look.throttled_ns["sw_power_cap"] for look in life) for life in lives)
    assert any(all(look.processes for look in life) for life in lives)
    assert len({life[-1].energy_uj for life in lives}) == len(lives)


def test_instances_hold_the_processes_of_their_card() -> None:
    """The eighth card is cut into instances; each process of the card is in exactly one of them."""
    (sliced,) = (reading for reading in NODE.at(MINUTE_NS).gpus if reading.mig_instances)
    inside = [pid for instance in sliced.mig_instances for pid in instance.processes or ()]
    assert sorted(inside) == sorted(sliced.processes or ())
    assert sum(instance.slices for instance in sliced.mig_instances) <= 7
    assert sliced.gpu.mig_mode == "enabled"
    assert sliced.utilization_ratio is None


def test_the_host_counter_wraps_and_loses_nothing() -> None:
    """Unwrapped by its own range, a package uses between its idle and its limit."""
    for component in ("cpu", "dram"):
        looks = [host_reading(NODE.at(minute * MINUTE_NS), component) for minute in range(90)]
        used_uj = sum(difference_uj(*pair) for pair in pairwise(looks))
        mean_w = used_uj / 1e6 / (89 * 60)
        assert (100 if component == "cpu" else 20) < mean_w < (300 if component == "cpu" else 50)
    assert any(b.energy_uj < a.energy_uj for a, b in pairwise(packages_over_an_hour()))  # type: ignore[operator]


def packages_over_an_hour() -> list[HostReading]:
    return [host_reading(NODE.at(minute * MINUTE_NS), "cpu") for minute in range(60)]


def host_reading(report: SourceReport, component: str) -> HostReading:
    return next(reading for reading in report.hosts if reading.component == component)


def difference_uj(earlier: HostReading, later: HostReading) -> int:
    assert earlier.energy_uj is not None
    assert later.energy_uj is not None
    assert later.wraps_at_uj is not None
    return (later.energy_uj - earlier.energy_uj) % (later.wraps_at_uj + 1)


def test_the_whole_box_uses_more_than_its_parts() -> None:
    """The platform sensor covers everything and the losses."""
    report = NODE.at(MINUTE_NS)
    (box,) = report.platforms
    assert box.power_uw > sum(reading.power_uw or 0 for reading in report.gpus)


def test_a_lost_card_fails_alone_and_comes_back() -> None:
    """For a minute of each quarter the card is a failure; then it returns, the same and with more energy."""
    before = FAULTY.at(9 * MINUTE_NS)
    during = FAULTY.at(10 * MINUTE_NS + MINUTE_NS // 2)
    after = FAULTY.at(11 * MINUTE_NS + 1)
    assert not before.failures
    (failure,) = during.failures
    assert failure.reason == "lost"
    assert {reading.gpu.uuid for reading in during.gpus} == {reading.gpu.uuid for reading in before.gpus} - {
        failure.device
    }
    lost_before, lost_after = (
        next(reading for reading in report.gpus if reading.gpu.uuid == failure.device)
        for report in (before, after)
    )
    assert lost_after.energy_uj > lost_before.energy_uj  # type: ignore[operator]
    assert (lost_before.recovery_action, lost_after.recovery_action) == (0, 1)


def test_an_overheated_card_is_slowed() -> None:
    """With faults one card counts thermal throttling, without faults none does."""
    hours_ns = 60 * MINUTE_NS
    assert any(reading.throttled_ns["sw_thermal"] for reading in FAULTY.at(hours_ns).gpus)
    assert not any(reading.throttled_ns["sw_thermal"] for reading in NODE.at(hours_ns).gpus)


def test_each_xid_is_told_once() -> None:
    """Looked at once a minute or once a day, the same errors are seen, each a single time."""
    minutely = Node(faults=True)
    often = [xid for minute in range(24 * 60 + 1) for xid in minutely.at(minute * MINUTE_NS).xids]
    once = Node(faults=True).at(DAY_NS).xids
    assert sorted(often, key=str) == sorted(once, key=str)
    assert {event.xid for event in often} == {31, 79}


def test_what_fell_due_before_the_start_is_not_told() -> None:
    """A source that opens late reports no old errors."""
    assert not Node(faults=True, at_ns=DAY_NS).at(DAY_NS).xids


@pytest.mark.parametrize("gpus", [1, 3, 16])
def test_any_number_of_cards(gpus: int) -> None:
    """The node has as many cards as asked for, indexed from zero, with and without faults."""
    for faults in (False, True):
        report = Node(gpus=gpus, faults=faults).at(MINUTE_NS)
        assert [reading.gpu.index for reading in report.gpus] == list(range(gpus))
