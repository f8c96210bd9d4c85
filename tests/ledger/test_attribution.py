"""Whose energy it was: the rules by example, and the law over random histories."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger.readings import UUID, gpu, look, package, snapshot
from wattspan.ledger.attribution import apportion, hold_times, split
from wattspan.ledger.ledger import Ledger
from wattspan.ledger.meters import Mark, Past
from wattspan.model import GpuReading, MigInstance
from wattspan.runs import LAPSED, STRANGER, Hold, Holder, Holdings, PodRef
from wattspan.units import NS_PER_S, UJ_PER_J, UW_PER_W

RUN_A, RUN_B = Holder("run-a"), Holder("run-b")
POD = Holder(pod=PodRef("serving", "llm-0", "vllm"))


def at(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def hold(holder: Holder, since: float = 0, until: float | None = None, **more: object) -> Hold:
    return Hold(holder, at(since), None if until is None else at(until), **more)  # type: ignore[arg-type]


def holdings(*holds: Hold) -> Holdings:
    return Holdings({UUID: holds} if holds else {})


def shares(
    energy_j: float,
    reading: GpuReading,
    *holds: Hold,
    base_j: float = 0,
    start: float = 0,
    empty: bool = True,
) -> dict[tuple[str, str, str], float]:
    """Joules by share, holder and rule."""
    parts = split(
        round(energy_j * UJ_PER_J), round(base_j * UJ_PER_J), at(start), reading, holdings(*holds), empty
    )
    assert sum(part.energy_uj for part in parts) == round(energy_j * UJ_PER_J)
    sums: dict[tuple[str, str, str], float] = {}
    for part in parts:
        name = "" if part.holder is None else part.holder.run_id or part.holder.pod.name
        key = (part.share, name, part.attribution or part.reason or "")
        sums[key] = sums.get(key, 0) + part.energy_uj / UJ_PER_J
    return {key: joules for key, joules in sums.items() if joules}


@given(
    total=st.integers(0, 2**70),
    weights=st.lists(st.integers(0, 1000) | st.floats(0, 1e6), min_size=1, max_size=12),
)
def test_parts_sum_to_the_whole(total: int, weights: list[float]) -> None:
    """To the last microjoule, none negative, whatever the weights."""
    parts = apportion(total, weights)
    assert sum(parts) == total
    assert all(part >= 0 for part in parts)


def test_one_holder_has_all_of_it_idle_included() -> None:
    """A card that is held belongs to its holder, whether it works or not."""
    assert shares(100, look(1, utilization_ratio=0.0), hold(RUN_A)) == {("run", "run-a", "exclusive"): 100}


def test_a_pod_without_a_run_has_the_share_pod() -> None:
    """Serving is not unattributed."""
    assert shares(100, look(1), hold(POD)) == {("pod", "llm-0", "exclusive"): 100}


def test_who_shares_a_card_has_idle_power_equally_and_the_rest_by_sm_time() -> None:
    """100 J of which 40 J idle: 20 each, and 60 J by 3 to 1."""
    reading = look(1, process_sm={1: 0.6, 2: 0.2})
    holds = hold(RUN_A, processes=frozenset({1})), hold(RUN_B, processes=frozenset({2}))
    assert shares(100, reading, *holds, base_j=40) == {
        ("run", "run-a", "sm_time"): 65,
        ("run", "run-b", "sm_time"): 35,
    }


@pytest.mark.parametrize("sm", [None, {}, {1: 0.0, 2: 0.0}])
def test_without_sm_time_a_shared_card_is_split_equally(sm: dict[int, float] | None) -> None:
    """And says so."""
    holds = hold(RUN_A, processes=frozenset({1})), hold(RUN_B, processes=frozenset({2}))
    assert shares(100, look(1, process_sm=sm), *holds) == {
        ("run", "run-a", "equal"): 50,
        ("run", "run-b", "equal"): 50,
    }


def test_a_stranger_on_the_card_takes_its_part_and_nobody_answers_for_it() -> None:
    """A run is not charged for a process that is not its own."""
    reading = look(1, process_sm={1: 0.5, 9: 0.5})
    holds = hold(RUN_A, processes=frozenset({1})), hold(STRANGER, processes=frozenset({9}))
    assert shares(100, reading, *holds) == {
        ("run", "run-a", "sm_time"): 50,
        ("unattributed", "", "foreign_process"): 50,
    }


def test_an_interval_is_cut_where_somebody_came_or_went() -> None:
    """Alone for a quarter, together for half, then the other alone for a quarter."""
    holds = hold(RUN_A, until=0.75), hold(RUN_B, since=0.25)
    assert shares(100, look(1), *holds) == {
        ("run", "run-a", "exclusive"): 25,
        ("run", "run-a", "equal"): 25,
        ("run", "run-b", "equal"): 25,
        ("run", "run-b", "exclusive"): 25,
    }


def test_before_a_run_begins_and_after_it_ends_nothing_is_its_own() -> None:
    """The rest of the interval is idle."""
    assert shares(100, look(1), hold(RUN_A, since=0.4, until=0.9)) == {
        ("idle", "", ""): 50,
        ("run", "run-a", "exclusive"): 50,
    }


def mig(*instances: tuple[str, int, bool]) -> GpuReading:
    """A partitioned H100: (uuid, slices, whether a process works there)."""
    made = tuple(
        MigInstance(uuid, n, 0, slices, processes=frozenset({n + 1} if works else ()))
        for n, (uuid, slices, works) in enumerate(instances)
    )
    return look(1, card=gpu(mig_mode="enabled"), mig_instances=made)


def test_mig_instances_share_by_slices_and_the_rest_is_idle() -> None:
    """Of 7 slices 3 work for A, 1 idles for B, 3 are nobody's: idle power by slices, work to who works."""
    reading = mig(("MIG-1", 3, True), ("MIG-2", 1, False))
    holds = hold(RUN_A, mig_uuid="MIG-1"), hold(RUN_B, mig_uuid="MIG-2")
    assert shares(140, reading, *holds, base_j=70) == {
        ("run", "run-a", "mig_slices"): 100,
        ("run", "run-b", "mig_slices"): 10,
        ("idle", "", ""): 30,
    }


@pytest.mark.parametrize(
    ("model", "told", "slices"),
    [
        ("NVIDIA H100 80GB HBM3", None, 7),
        ("NVIDIA A30", None, 4),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", None, 4),
        ("NVIDIA RTX PRO 4500 Blackwell", 2, 2),
    ],
)
def test_a_card_has_as_many_slices_as_its_driver_says_or_its_model_has(
    model: str, told: int | None, slices: int
) -> None:
    """A run in an instance of all slices has the whole card; what is left of it would be idle."""
    reading = mig(("MIG-1", slices, True))
    reading = replace(reading, gpu=replace(reading.gpu, model=model), mig_slices=told)
    times = hold_times(0, reading, holdings(hold(RUN_A, mig_uuid="MIG-1", weight=slices)))
    assert [time.gpu_ns for time in times] == [at(1)]
    assert shares(140, reading, hold(RUN_A, mig_uuid="MIG-1"), base_j=70) == {
        ("run", "run-a", "mig_slices"): 140
    }


def test_who_shares_an_instance_has_an_equal_part_of_it() -> None:
    """An instance of 3 slices held by two, with and without a process there, and one of 4 held by another."""
    reading = mig(("MIG-1", 3, True), ("MIG-2", 4, True))
    holds = (
        hold(RUN_A, mig_uuid="MIG-1", weight=3, processes=frozenset({1})),
        hold(RUN_B, mig_uuid="MIG-1", weight=3),
        hold(POD, mig_uuid="MIG-2", weight=4, processes=frozenset({2})),
    )
    assert shares(140, reading, *holds, base_j=70) == {
        ("run", "run-a", "equal"): 30,
        ("run", "run-b", "equal"): 30,
        ("pod", "llm-0", "mig_slices"): 80,
    }
    times = hold_times(0, reading, holdings(*holds))
    assert [time.gpu_ns * 14 for time in times] == pytest.approx([3 * at(1), 3 * at(1), 8 * at(1)], abs=14)


def test_a_stranger_on_an_instance_takes_its_part_of_it() -> None:
    """And the last microjoule goes to somebody."""
    holds = hold(RUN_A, mig_uuid="MIG-1"), hold(STRANGER, mig_uuid="MIG-1", processes=frozenset({9}))
    parts = split(700_001, 0, 0, mig(("MIG-1", 7, True)), holdings(*holds), empty=False)
    assert sorted((part.share, part.energy_uj) for part in parts if part.energy_uj) == [
        ("run", 350_001),
        ("unattributed", 350_000),
    ]


def test_an_instance_with_a_process_and_no_holder_is_a_strangers() -> None:
    """Where no kubelet and no run says who holds an instance, its process does; one without is idle."""
    reading = mig(("MIG-1", 3, True), ("MIG-2", 1, False))
    assert shares(140, reading, hold(RUN_A, mig_uuid="MIG-3"), base_j=70) == {
        ("unattributed", "", "foreign_process"): 100,
        ("idle", "", ""): 40,
    }


def test_who_left_before_a_hang_does_not_answer_for_what_was_used_since() -> None:
    """A run that could not be waited for any longer has its report; what is found later is a gap's."""
    assert shares(300, look(1, 0), hold(LAPSED, 0)) == {("unattributed", "", "gap"): 300}


def test_gpu_time_of_a_shared_card_is_never_more_than_the_time() -> None:
    """Two holders have half a second of a second each; a stranger counts too and is not told."""
    times = hold_times(0, look(1, utilization_ratio=0.5), holdings(hold(RUN_A), hold(RUN_B)))
    assert [(t.holder.run_id, t.gpu_ns, t.utilization_ns) for t in times] == [
        ("run-a", at(0.5), at(0.25)),
        ("run-b", at(0.5), at(0.25)),
    ]
    with_stranger = hold_times(0, look(1), holdings(hold(RUN_A), hold(STRANGER)))
    assert [(t.holder.run_id, t.gpu_ns) for t in with_stranger] == [("run-a", at(0.5))]


def test_held_time_without_work_is_idle_time() -> None:
    """Idle is utilization 0, not little."""
    idle = hold_times(0, look(1, utilization_ratio=0.0), holdings(hold(RUN_A)))
    busy = hold_times(0, look(1, utilization_ratio=0.01), holdings(hold(RUN_A)))
    assert [t.idle_ns for t in (*idle, *busy)] == [at(1), 0]


@pytest.mark.parametrize("counted", [True, False], ids=["the card is silent", "its counter alone is"])
def test_a_look_after_a_gap_does_not_make_the_gap_idle(counted: bool) -> None:
    """Utilization is of the last second: of a longer time whose energy comes in at once it says nothing."""
    ledger = Ledger(NS_PER_S, {})
    held = holdings(hold(RUN_A))
    ledger.apply(snapshot(1, look(1, 0, utilization_ratio=1.0)), held)
    if not counted:
        for second in range(2, 50):
            ledger.apply(snapshot(second, look(second, utilization_ratio=1.0)), held)
    after, next_one = (
        ledger.apply(snapshot(50 + n, look(50 + n, 300 * (49 + n), utilization_ratio=0.0)), held)
        for n in range(2)
    )
    assert [(c.holder, c.energy_uj) for c in after.charges] == [(RUN_A, 300 * 49 * UJ_PER_J)]
    assert [(t.gpu_ns, t.idle_ns, t.utilization_ns) for t in after.hold_times] == [
        (at(49 if counted else 1), 0, 0)
    ]
    assert [(t.gpu_ns, t.idle_ns) for t in next_one.hold_times] == [(at(1), at(1))]


def test_downtime_goes_to_who_held_the_card_alone_before_and_after() -> None:
    """The same run on both sides of a restart has been there all the time; anybody else is not known."""
    for now, share in ((hold(RUN_A), "run"), (hold(RUN_B), "unattributed")):
        past = Past(Mark(1_000 * UJ_PER_J, at(10), None, None, RUN_A), same_boot=True)
        ledger = Ledger(NS_PER_S, {f"gpu:{UUID}": past})
        tick = ledger.apply(snapshot(1, look(110, 31_000)), holdings(now))
        assert [(c.energy_uj, c.share) for c in tick.charges] == [(30_000 * UJ_PER_J, share)]


def test_downtime_waits_until_it_is_known_who_is_there() -> None:
    """While the kubelet has not answered, the interval stays open; nothing is lost."""
    past = Past(Mark(1_000 * UJ_PER_J, at(10), None, None, POD), same_boot=True)
    ledger = Ledger(NS_PER_S, {f"gpu:{UUID}": past})
    early = ledger.apply(snapshot(1, look(110, 31_000)), Holdings(settled=False))
    later = ledger.apply(snapshot(2, look(112, 31_600)), holdings(hold(POD)))
    assert early.charges == ()
    assert early.marks == {}
    assert [(c.energy_uj, c.share) for c in later.charges] == [(30_600 * UJ_PER_J, "pod")]


def test_a_runs_part_of_the_host_is_its_cpu_time_and_the_node_keeps_the_rest() -> None:
    """Half a core of four for a second is an eighth of the package; host and node sums do not change."""
    ledger = Ledger(NS_PER_S, {})
    ledger.apply(snapshot(1, package(1, 100), source="rapl"))
    busy = Holdings(cpu_ns={RUN_A: at(0.5)}, cores=4)
    tick = ledger.apply(snapshot(2, package(2, 180), source="rapl"), busy)
    assert [c.energy_uj for c in tick.charges] == [80 * UJ_PER_J]
    assert [(c.holder, c.energy_uj, c.attribution, c.in_node) for c in tick.host_shares] == [
        (RUN_A, 10 * UJ_PER_J, "cpu_time", False)
    ]


def test_idle_power_is_learned_while_nobody_is_there() -> None:
    """The lowest power of an empty card is what sharers split equally."""
    ledger = Ledger(NS_PER_S, {})
    ledger.apply(snapshot(1, look(1, 0)), holdings())
    ledger.apply(snapshot(2, look(2, 80)), holdings())
    holds = hold(RUN_A, since=2, processes=frozenset({1})), hold(RUN_B, since=2, processes=frozenset({2}))
    reading = look(3, 480, process_sm={1: 1.0})
    tick = ledger.apply(snapshot(3, reading), holdings(*holds))
    assert {c.holder: c.energy_uj / UJ_PER_J for c in tick.charges} == {RUN_A: 360, RUN_B: 40}
    assert tick.marks[f"gpu:{UUID}"].idle_floor_uw == 80 * UW_PER_W


HOLDERS = st.sampled_from([RUN_A, RUN_B, POD, STRANGER])


@given(
    energy=st.integers(0, 10**12),
    base=st.integers(0, 10**12),
    holds=st.lists(
        st.tuples(HOLDERS, st.floats(-1, 1.5), st.none() | st.floats(0, 1.5), st.integers(1, 4)), max_size=6
    ),
    sm=st.none() | st.dictionaries(st.integers(1, 6), st.floats(0, 1)),
    partitioned=st.booleans(),
    empty=st.booleans(),
)
def test_whatever_happens_the_parts_sum_to_the_device(
    energy: int,
    base: int,
    holds: list[tuple[Holder, float, float | None, int]],
    sm: dict[int, float] | None,
    partitioned: bool,
    empty: bool,
) -> None:
    """Arrivals, departures, sharing, strangers, MIG: conserved, and nobody pays outside his time."""
    reading = mig(("MIG-1", 3, True), ("MIG-2", 2, False)) if partitioned else look(1, process_sm=sm)
    made = [
        hold(
            holder,
            since,
            until,
            weight=weight,
            processes=frozenset({n + 1}),
            mig_uuid=f"MIG-{n % 3 + 1}" if partitioned else "",
        )
        for n, (holder, since, until, weight) in enumerate(holds)
        if until is None or until > since
    ]
    parts = split(energy, base, 0, reading, holdings(*made), empty)
    assert sum(part.energy_uj for part in parts) == energy
    assert all(part.energy_uj >= 0 for part in parts)
    for part in parts:
        if part.holder is not None and part.energy_uj:
            assert any(
                h.holder == part.holder and h.since_ns < at(1) and (h.until_ns is None or h.until_ns > 0)
                for h in made
            )
    times = hold_times(0, reading, holdings(*made))
    assert sum(time.gpu_ns for time in times) <= at(1)
