"""Snapshots into charges: the rules of counting, one test each."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.ledger.readings import UUID, gpu, look, package, snapshot
from wattspan.ledger.ledger import Ledger, Tick
from wattspan.ledger.meters import Mark, Past
from wattspan.model import (
    Failure,
    GpuReading,
    HostReading,
    MigInstance,
    PlatformReading,
    SourceHealth,
    SourceReport,
    Tally,
    XidEvent,
)
from wattspan.runs import STRANGER, Hold, Holder, Holdings
from wattspan.units import NS_PER_S, UJ_PER_J, UW_PER_W


def ledger(**pasts: Past) -> Ledger:
    """Books at 1 Hz."""
    return Ledger(NS_PER_S, {f"gpu:{UUID}": past for past in pasts.values()})


def run(books: Ledger, *looks: GpuReading | HostReading) -> list[Tick]:
    """One tick for each look."""
    return [books.apply(snapshot(n, reading)) for n, reading in enumerate(looks, start=1)]


def joules(ticks: list[Tick]) -> dict[tuple[str, ...], float]:
    """Energy by method, share and reason."""
    sums: Counter[tuple[str, ...]] = Counter()
    for tick in ticks:
        for charge in tick.charges:
            sums[charge.method, charge.share or "", charge.reason or ""] += charge.energy_uj
    return {key: energy_uj / UJ_PER_J for key, energy_uj in sums.items()}


def tallied(ticks: list[Tick], quantity: str) -> int:
    """How often something was counted."""
    return sum(t.amount for tick in ticks for t in tick.tallies if t.quantity == quantity)


def test_the_first_look_is_a_baseline() -> None:
    """A counter's lifetime before the first look is charged to nobody."""
    assert joules(run(ledger(), look(1, 5_000_000))) == {}


def test_every_counter_of_a_gpu_exists_at_zero_from_its_first_look() -> None:
    """No series is born with a value."""
    first = run(ledger(), look(1, 5_000_000))[0]
    assert {t.quantity for t in first.tallies} == {
        "gpu_energy",
        "gpu_attributed_energy",
        "gpu_unattributed_energy",
        "gpu_implausible_intervals",
    }
    assert not any(t.amount for t in first.tallies)


def test_a_gpu_without_processes_is_idle_and_with_one_it_is_a_strangers() -> None:
    """Nobody on the card: idle. A process we know nothing of, at either end: unattributed."""
    ticks = run(ledger(), look(1, 100), look(2, 170), look(3, 300, pids=[7]), look(4, 700), look(5, 800))
    assert joules(ticks) == {
        ("counter", "idle", ""): 170,
        ("counter", "unattributed", "foreign_process"): 530,
    }


def test_a_process_on_a_mig_instance_holds_the_gpu() -> None:
    """MIG devices list their own processes; the parent's list is empty."""
    instance = MigInstance("MIG-1", 1, 0, 1, processes=frozenset({9}))
    ticks = run(ledger(), look(1, 100), look(2, 200, mig_instances=(instance,)))
    assert joules(ticks) == {("counter", "unattributed", "foreign_process"): 100}


@pytest.mark.parametrize(
    ("utilization", "share"), [(0.0, "idle"), (0.4, "unattributed"), (None, "unattributed")]
)
def test_without_a_process_list_only_zero_utilization_means_idle(
    utilization: float | None, share: str
) -> None:
    """Where the driver names no processes, nobody is said to be away without evidence."""
    ticks = run(
        ledger(),
        look(1, 100, pids=None, utilization_ratio=0.0),
        look(2, 200, pids=None, utilization_ratio=utilization),
    )
    assert [charge.share for charge in ticks[1].charges] == [share]


@pytest.mark.parametrize(
    ("utilization", "pids", "share"),
    [
        (1.0, None, "unattributed"),
        (None, None, "unattributed"),
        (0.0, None, "idle"),
        (0.3, (), "unattributed"),
        (0.0, (), "idle"),
        (None, (), "idle"),
    ],
)
def test_a_gpu_that_works_for_nobody_known_is_not_idle_where_runs_are_watched(
    utilization: float | None, pids: tuple[int, ...] | None, share: str
) -> None:
    """AMD lists no process, NVIDIA none of another pid namespace: what works is somebody's, of no known run,
    and its power is no idle power."""
    books = ledger()
    looks = [look(s, 700 * s, pids=pids, utilization_ratio=utilization) for s in (1, 2)]
    first, second = (books.apply(snapshot(n, reading), Holdings()) for n, reading in enumerate(looks, 1))
    assert first.charges == ()
    assert [charge.share for charge in second.charges] == [share]
    floor_uw = second.marks[f"gpu:{UUID}"].idle_floor_uw
    assert floor_uw == (700 * UW_PER_W if share == "idle" else None)


def test_what_a_gpu_did_before_its_holder_left_is_not_held_against_it() -> None:
    """Utilization is of the second before the look: only then does work speak of somebody else."""
    books = ledger()
    run_a = Holder("run-a")
    shares = []
    for second, holds in enumerate(((Hold(run_a, 0),), (Hold(run_a, 0, 3 * NS_PER_S // 2),), (), ()), 1):
        reading = look(second, 300 * second, pids=(), utilization_ratio=0.0 if second == 3 else 0.9)
        tick = books.apply(snapshot(second, reading), Holdings({UUID: holds} if holds else {}))
        shares.append([(charge.share, charge.energy_uj // UJ_PER_J) for charge in tick.charges])
    assert shares == [[], [("run", 150), ("idle", 150)], [("idle", 300)], [("unattributed", 300)]]
    assert tick.marks[f"gpu:{UUID}"].idle_floor_uw is None


def test_a_look_without_the_counter_charges_nothing_and_loses_nothing() -> None:
    """The counter holds through a failed field; the next difference covers both intervals, once."""
    ticks = run(ledger(), look(1, 100, watts=300), look(2, watts=300), look(3, 700, watts=300))
    assert joules(ticks) == {("counter", "idle", ""): 600}


def test_a_reset_charges_what_the_counter_shows_since() -> None:
    """After a driver reload the new counter's value is certain."""
    assert joules(run(ledger(), look(1, 9_000_000), look(2, 250))) == {("counter", "idle", ""): 250}


def test_a_step_back_is_not_charged_the_lifetime_but_the_power_of_that_second() -> None:
    """A counter that steps back without starting anew is not believed; power stands in for it."""
    ticks = run(ledger(), look(1, 9_000_000, watts=300), look(2, 8_999_900, watts=500), look(3, 9_000_300))
    assert joules(ticks) == {("integrated", "unattributed", "implausible"): 400, ("counter", "idle", ""): 400}
    assert tallied(ticks, "gpu_implausible_intervals") == 1


def test_a_leap_is_not_believed_and_the_next_interval_is() -> None:
    """An implausible difference is replaced by power, and the new value is the next baseline."""
    ticks = run(ledger(), look(1, 100, watts=400), look(2, 10**9, watts=400), look(3, 10**9 + 400, watts=400))
    assert joules(ticks) == {("integrated", "unattributed", "implausible"): 400, ("counter", "idle", ""): 400}


@pytest.mark.parametrize(
    ("limits_w", "believed_j"),
    [
        pytest.param((700, 700), 1_155, id="as stated"),
        pytest.param((700, 300), 1_155, id="lowered meanwhile"),
        pytest.param((300, 700), 1_155, id="raised meanwhile"),
        pytest.param((None, None), 4_950, id="not stated"),
    ],
)
def test_as_much_is_believed_as_the_limit_allows(
    limits_w: tuple[int | None, int | None], believed_j: int
) -> None:
    """1.5 times the higher limit, for the second and one refresh of the counter; of 3 kW where none is."""

    def counted(gained_j: int) -> dict[tuple[str, ...], float]:
        looks = (look(61, 42_000), look(62, 42_000 + gained_j))
        limited = [
            replace(reading, power_limit_uw=None if limit is None else limit * UW_PER_W)
            for reading, limit in zip(looks, limits_w, strict=True)
        ]
        # A minute in which the counter moved all the time does not widen the bound.
        return joules(run(ledger(), *(look(n, 700 * n) for n in range(1, 60)), *limited)[-1:])

    assert counted(believed_j) == {("counter", "idle", ""): believed_j}
    assert counted(believed_j + 1) == {}


def test_errors_and_steps_of_the_clock_are_counted_one_by_one() -> None:
    """Each XID by its GPU and number, and each step of the wall clock once."""
    xids = (XidEvent(UUID, 79), XidEvent(UUID, 79), XidEvent(UUID, 48))
    report = SourceReport("nvidia", 0, NS_PER_S, gpus=(look(1, 100),), xids=xids)
    tick = ledger().apply(replace(snapshot(1, at_s=1), reports=(report,), clock_stepped=True))
    counts = Counter({(t.quantity, *t.labels): 0 for t in tick.tallies})
    for tally in tick.tallies:
        counts[tally.quantity, *tally.labels] += tally.amount
    assert +counts == {
        ("gpu_xid_errors", UUID, "79"): 2,
        ("gpu_xid_errors", UUID, "48"): 1,
        ("clock_steps",): 1,
    }


def test_power_made_of_a_counter_does_not_stand_in_for_it() -> None:
    """Where power is the counter's own difference, the instant sensor replaces what is not believed."""
    card = gpu(power_source="energy_delta")
    sensor = {"card": card, "power_instant_uw": 400 * UW_PER_W}
    ticks = run(
        ledger(),
        look(1, 100, watts=390, **sensor),
        look(2, 10**9, watts=10**9, **sensor),
        look(3, 10**9 + 400, watts=400, **sensor),
    )
    assert joules(ticks) == {("integrated", "unattributed", "implausible"): 400, ("counter", "idle", ""): 400}


def test_a_counter_that_froze_may_catch_up() -> None:
    """The bound counts from when the counter last moved: what it held back is not implausible."""
    frozen = [look(second, 1000, watts=600) for second in range(1, 31)]
    ticks = run(ledger(), *frozen, look(31, 1000 + 30 * 600, watts=600))
    assert joules(ticks) == {("counter", "idle", ""): 18_000}


def test_after_a_long_silence_the_energy_is_counted_and_nobodys() -> None:
    """Beyond a minute the holders may have changed unseen."""
    ticks = run(ledger(), look(1, 100), look(61, 6_100), look(122, 12_000))
    assert joules(ticks) == {("counter", "idle", ""): 6_000, ("counter", "unattributed", "gap"): 5_900}


def test_looks_out_of_order_are_passed_over() -> None:
    """A read that hung and came back late moves nothing twice."""
    ticks = run(ledger(), look(1, 100), look(3, 300), look(2, 200), look(4, 400))
    assert joules(ticks) == {("counter", "idle", ""): 300}


def test_a_card_without_a_counter_is_integrated_by_trapezoids_over_near_looks_only() -> None:
    """Power between two looks at most three intervals apart; across a hole nothing is invented."""
    card = gpu(has_energy_counter=False)
    powers = [(1, 100), (2, 300), (4, 300), (10, 300), (11, 100)]
    ticks = run(ledger(), *(look(second, watts=watts, card=card) for second, watts in powers))
    assert joules(ticks) == {("integrated", "idle", ""): 200 + 600 + 200}


def test_nonsense_power_is_not_integrated() -> None:
    """A sensor that answers 2**32 - 1 milliwatts invents no energy."""
    card = gpu(has_energy_counter=False)
    ticks = run(ledger(), look(1, watts=100, card=card), look(2, watts=4_294_967.295, card=card))
    assert joules(ticks) == {}


def test_a_counter_that_appears_later_starts_from_its_own_baseline() -> None:
    """Changing from integration to the counter counts no interval twice."""
    without = gpu(has_energy_counter=False)
    ticks = run(
        ledger(),
        look(1, watts=100, card=without),
        look(2, watts=100, card=without),
        look(3, 900, watts=100),
        look(4, 1000, watts=100),
    )
    assert joules(ticks) == {("integrated", "idle", ""): 100, ("counter", "idle", ""): 100}


def test_a_mark_is_void_once_power_is_integrated() -> None:
    """A GPU that has lost its counter leaves no mark to charge from twice, nor does an earlier daemon."""
    without = gpu(has_energy_counter=False)
    past = Past(Mark(1_000 * UJ_PER_J, 10 * NS_PER_S, None), same_boot=True)
    taken_over = run(ledger(past=past), look(110, watts=100, card=without))
    assert taken_over[-1].marks == {f"gpu:{UUID}": None}
    lost = run(ledger(), look(1, 900), look(2, 1_000), look(3, watts=100, card=without))
    assert lost[-1].marks == {f"gpu:{UUID}": None}


def test_energy_used_while_the_daemon_was_down_is_counted_as_nobodys() -> None:
    """On the same boot the difference to the last look of the daemon before is real."""
    past = Past(Mark(1_000 * UJ_PER_J, 10 * NS_PER_S, None), same_boot=True)
    tick = run(ledger(past=past), look(110, 31_000))[0]
    assert joules([tick]) == {("counter", "unattributed", "exporter_down"): 30_000}
    assert (tick.charges[0].start_ns, tick.charges[0].end_ns) == (10 * NS_PER_S, 110 * NS_PER_S)


def test_a_driver_reloaded_while_the_daemon_was_down_is_a_reset() -> None:
    """The counter's value since the reload is certain, what came before is not known."""
    past = Past(Mark(9_000_000 * UJ_PER_J, 10 * NS_PER_S, None), same_boot=True)
    assert joules(run(ledger(past=past), look(110, 500))) == {
        ("counter", "unattributed", "exporter_down"): 500
    }


def test_after_a_reboot_the_counter_shows_what_was_used_since() -> None:
    """In another boot the counter began at 0; what it shows was used while nobody looked."""
    past = Past(Mark(9_000_000 * UJ_PER_J, 10**6 * NS_PER_S, None), same_boot=False)
    assert joules(run(ledger(past=past), look(50, 3_000))) == {
        ("counter", "unattributed", "exporter_down"): 3_000
    }


def test_a_counter_that_shows_more_than_the_boot_can_hold_is_a_baseline() -> None:
    """A counter that survived the reboot is not charged its lifetime."""
    past = Past(Mark(9_000_000 * UJ_PER_J, 10**6 * NS_PER_S, None), same_boot=False)
    ticks = run(ledger(past=past), look(50, 9_500_000), look(51, 9_500_300))
    assert joules(ticks) == {("counter", "idle", ""): 300}
    assert tallied(ticks, "gpu_implausible_intervals") == 1


def test_a_failed_gpu_loses_its_reading_and_the_others_go_on() -> None:
    """The power of a lost card is absent, not zero, and it is still known."""
    books = ledger()
    other = gpu("GPU-2", index=1)
    books.apply(snapshot(1, look(1, 100, watts=100), look(1, 100, watts=50, card=other)))
    lost = Failure("nvidia", "lost", "fell off the bus", UUID)
    tick = books.apply(snapshot(2, look(2, 150, watts=50, card=other), failures=(lost,)))
    assert {state.gpu.uuid: state.reading is not None for state in tick.gpus} == {UUID: False, "GPU-2": True}
    assert tick.node_power_uw == 50 * UW_PER_W
    assert tallied([tick], "source_read_failures") == 1


def test_a_source_that_is_down_loses_its_readings() -> None:
    """A hung source's gauges go; what it last said is not shown as if it were now."""
    books = ledger()
    books.apply(snapshot(1, look(1, 100, watts=100)))
    tick = books.apply(snapshot(2, up=False, at_s=5))
    assert [state.reading for state in tick.gpus] == [None]
    assert tick.node_power_uw is None


def test_a_source_that_is_down_takes_its_host_and_its_sensors_along() -> None:
    """And those of the other sources stay."""
    books = Ledger(NS_PER_S, {})

    def tick(number: int, *reports: SourceReport, down: str = "") -> Tick:
        health = tuple(SourceHealth(name, name != down, 0) for name in ("rapl", "ipmi", "hwmon"))
        whole = snapshot(number, at_s=number)
        return books.apply(replace(whole, reports=reports, health=health))

    def box(source: str, watts: int) -> SourceReport:
        sensor = PlatformReading(source, NS_PER_S, watts * UW_PER_W)
        return SourceReport(source, 0, NS_PER_S, platforms=(sensor,))

    def cpu(seconds: int) -> SourceReport:
        return SourceReport("rapl", 0, NS_PER_S, hosts=(package(seconds, 100 * seconds),))

    tick(1, cpu(1), box("ipmi", 900), box("hwmon", 800))
    second = tick(2, cpu(2), box("hwmon", 801))  # ipmi is slow, and still up
    assert {p.sensor: p.power_uw // UW_PER_W for p in second.platforms} == {"ipmi": 900, "hwmon": 801}
    assert [host.power_uw for host in second.hosts] == [100 * UW_PER_W]
    third = tick(3, box("hwmon", 802), down="rapl")
    assert [host.power_uw for host in third.hosts] == [None]
    fourth = tick(4, cpu(4), down="ipmi")
    assert [p.sensor for p in fourth.platforms] == ["hwmon"]


def test_holders_are_those_who_hold_it_now() -> None:
    """Not who has left, nor a process that nobody knows; two pids of one run are one holder."""
    holds = (
        Hold(Holder("old"), 0, NS_PER_S // 2),
        Hold(Holder("new"), NS_PER_S // 2, processes=frozenset({7})),
        Hold(Holder("new"), NS_PER_S // 2, processes=frozenset({8}), mig_uuid="MIG-1"),
        Hold(STRANGER, NS_PER_S // 2, processes=frozenset({9})),
    )
    tick = ledger().apply(snapshot(1, look(1, 100)), Holdings({UUID: holds}))
    assert [state.holders for state in tick.gpus] == [1]


def test_every_counter_of_a_host_component_exists_at_zero_from_its_first_look() -> None:
    """A measured and an estimated one have counters of their own names."""
    guess = HostReading("cpu", "all", NS_PER_S, power_uw=90 * UW_PER_W, estimated=True)
    (measured,) = run(Ledger(NS_PER_S, {}), package(1, 500))
    (estimated,) = run(Ledger(NS_PER_S, {}), guess)
    assert measured.tallies == (Tally("host_energy", ("cpu", "package-0"), 0),)
    assert estimated.tallies == (Tally("host_estimated_energy", ("cpu", "all"), 0),)


def test_a_cpu_counter_that_leaps_is_a_failure_of_its_source_and_no_energy() -> None:
    """More than the package can draw; a silence or an equal look is no failure."""
    ticks = run(
        Ledger(NS_PER_S, {}),
        package(1, 100),
        package(2, 90_000),
        package(3, 90_100),
        package(3, 90_100),
        package(2_003, 90_200),
    )
    assert joules(ticks) == {("counter", "", ""): 100}
    assert [tallied([tick], "source_read_failures") for tick in ticks] == [0, 1, 0, 0, 0]


def test_a_cpu_counter_is_unwrapped() -> None:
    """262 kJ of range wrap every quarter of an hour; no joule is lost."""
    ticks = run(Ledger(NS_PER_S, {}), package(1, 262_143), package(2, 299))
    assert joules(ticks) == {("counter", "", ""): pytest.approx(299.328851)}


def test_a_cpu_counter_unread_for_longer_than_its_wrap_counts_nothing() -> None:
    """Two wraps cannot be told from one."""
    ticks = run(Ledger(NS_PER_S, {}), package(1, 100), package(2_001, 200), package(2_002, 300))
    assert joules(ticks) == {("counter", "", ""): 100}


def test_a_cpu_counter_of_another_boot_is_a_baseline() -> None:
    """RAPL starts anywhere after a reboot."""
    past = Past(Mark(50 * UJ_PER_J, 10 * NS_PER_S, None), same_boot=False)
    books = Ledger(NS_PER_S, {"nvidia:cpu:package-0": past})
    assert joules(run(books, package(20, 500), package(21, 600))) == {("counter", "", ""): 100}


def test_estimates_are_kept_apart_and_silent_where_a_sensor_measures() -> None:
    """A model's joules are never in the node's sum, and none are made beside a measured CPU."""
    books = Ledger(NS_PER_S, {})
    guess = [
        HostReading("cpu", "all", n * NS_PER_S, power_uw=90 * UW_PER_W, estimated=True) for n in range(1, 4)
    ]
    alone = [books.apply(snapshot(n, reading, source="estimate")) for n, reading in enumerate(guess, start=1)]
    charges = [charge for tick in alone for charge in tick.charges]
    assert [(c.energy_uj, c.estimated, c.in_node) for c in charges] == [(90 * UJ_PER_J, True, False)] * 2
    assert alone[-1].node_power_uw is None

    measured = Ledger(NS_PER_S, {})
    for n in range(1, 4):
        estimate = SourceReport("estimate", 0, 1, hosts=(guess[n - 1],))
        rapl = SourceReport("rapl", 0, 1, hosts=(package(n, 100 * n),))
        tick = measured.apply(snapshot(n, at_s=n, up=True, source="rapl"))
        both = snapshot(n, package(n, 100 * n), source="rapl")
        object.__setattr__(both, "reports", (estimate, rapl))
        tick = measured.apply(both)
        assert not any(charge.estimated for charge in tick.charges)


def test_a_superchips_module_counter_stands_for_its_host_too() -> None:
    """Where the GPU's counter covers CPU and memory, they are shown but not added to the node again."""
    books = Ledger(NS_PER_S, {})
    card = gpu(power_scope="module")
    ticks = []
    for n in (1, 2):
        ticks.append(books.apply(snapshot(n, look(n, 500 * n, watts=500, card=card))))
        ticks.append(books.apply(snapshot(n, package(n, 100 * n), source="rapl")))
    assert {(c.component, c.in_node) for tick in ticks for c in tick.charges} == {
        ("gpu", True),
        ("cpu", False),
    }
    assert ticks[-1].node_power_uw == 500 * UW_PER_W


def test_the_check_ratio_is_the_counter_over_integrated_power() -> None:
    """A counter that shows 10 % less than its power says so after a minute."""
    ticks = run(ledger(), *(look(second, 450 * second, watts=500) for second in range(1, 63)))
    assert ticks[-1].gpus[0].check_ratio == pytest.approx(0.9)


def test_power_made_from_the_counter_does_not_vouch_for_it() -> None:
    """Where power is the counter's own difference, the check needs instant power or is absent."""
    card = gpu(power_source="energy_delta")
    ticks = run(ledger(), *(look(second, 450 * second, watts=450, card=card) for second in range(1, 63)))
    assert ticks[-1].gpus[0].check_ratio is None


def test_throttle_clocks_are_counted_from_a_baseline_and_survive_a_reset() -> None:
    """Differences of the driver's clocks; nonsense larger than the time passed is dropped."""
    second = NS_PER_S
    clocks = [5 * second, 6 * second, second // 2, 300 * second, 2**63]
    ticks = run(
        ledger(), *(look(n, 100, throttled_ns={"power_cap": c}) for n, c in enumerate(clocks, start=1))
    )
    assert tallied(ticks, "gpu_throttled") == second + second // 2
