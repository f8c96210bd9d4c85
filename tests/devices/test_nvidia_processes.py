"""Who is on a GPU and what they do there: when the driver is asked, and what is made of its answers."""

from pathlib import Path

import pytest

from tests.devices.nvidia_process import SECOND, NvidiaProcess, cards, metering
from tests.fakes.nvml import FakeNvml, MigInstance, Process
from wattspan.devices.nvml_process_calls import SmSample
from wattspan.devices.nvml_sm import new_samples
from wattspan.model import GpuReading

LISTS = "nvmlDeviceGetComputeRunningProcesses_v3"
MPS_LISTS = "nvmlDeviceGetMPSComputeRunningProcesses_v3"
USE = "nvmlDeviceGetProcessUtilization"
USE_SUCCESSOR = "nvmlDeviceGetProcessesUtilizationInfo"

SHARING = (Process(11, sm_percent=60), Process(12, sm_percent=20), Process(13))
HALVES = [
    MigInstance(gpu_instance=1, compute_instance=0, slices=4, memory_mib=40_000, profile="4g.40gb"),
    MigInstance(gpu_instance=2, compute_instance=0, slices=3, memory_mib=40_000, profile="3g.40gb"),
]


def look_after(fake: FakeNvml, source: NvidiaProcess, seconds: float) -> GpuReading:
    """The first GPU's reading after both clocks have moved."""
    fake.advance(seconds)
    source.pass_time(seconds)
    return source.read_gpus()[0]


@pytest.mark.parametrize(
    ("generation", "library"), [("h100", "current"), ("h100", "old_driver"), ("blackwell", "current")]
)
def test_sm_time_of_the_processes_that_share_a_gpu(tmp_path: Path, generation: str, library: str) -> None:
    """From the second answer on each process has its share of the time; the first only tells the time."""
    with metering(cards(generation, library=library), tmp_path) as (fake, source):
        fake.set_processes(0, SHARING)
        fake.advance(3)
        assert source.read_gpus()[0].process_sm is None
        assert look_after(fake, source, 1).process_sm == {11: 0.6, 12: 0.2}
        fake.set_processes(0, [Process(11, sm_percent=5), Process(12, sm_percent=90)])
        assert look_after(fake, source, 1).process_sm == {11: 0.05, 12: 0.9}


def test_where_the_old_question_is_refused_the_new_one_is_put(tmp_path: Path) -> None:
    """Blackwell refuses the first call for good, and is asked by its successor alone."""
    with metering(cards("blackwell"), tmp_path) as (fake, source):
        fake.set_processes(0, SHARING)
        fake.clear_calls()
        for _ in range(5):
            look_after(fake, source, 1)
        assert (fake.calls(USE), fake.calls(USE_SUCCESSOR)) == (1, 5)


def test_a_driver_that_tells_no_sm_time_is_asked_once(tmp_path: Path) -> None:
    """Where both calls are refused there is no SM time, and no further question."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_processes(0, SHARING)
        fake.fail(USE, 3)
        fake.fail(USE_SUCCESSOR, 13)
        for _ in range(5):
            assert look_after(fake, source, 1).process_sm is None
        assert (fake.calls(USE), fake.calls(USE_SUCCESSOR)) == (1, 1)


def test_gpus_that_nobody_shares_cost_no_question(tmp_path: Path) -> None:
    """SM time is asked neither of a free GPU, nor of one with one process, nor on MIG."""
    with metering(cards("h100", 3), tmp_path, opened=False) as (fake, source):
        fake.set_processes(1, [Process(11, sm_percent=60)])
        on_instances = [Process(20 + g, gpu_instance=g, compute_instance=0, sm_percent=50) for g in (1, 2)]
        fake.set_mig(2, HALVES)
        fake.set_processes(2, on_instances)
        source.open()
        for _ in range(5):
            fake.advance(1)
            source.pass_time(1)
            readings = source.read_gpus()
        assert [reading.process_sm for reading in readings] == [None] * 3
        assert readings[2].processes == frozenset({21, 22})
        assert fake.calls(USE) + fake.calls(USE_SUCCESSOR) == 0


def test_where_nothing_is_new_the_last_answer_stands(tmp_path: Path) -> None:
    """NOT_FOUND keeps the shares, less those of processes that are gone, and for a minute at most."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_processes(0, SHARING)
        fake.advance(3)
        source.read_gpus()
        assert look_after(fake, source, 1).process_sm == {11: 0.6, 12: 0.2}
        source.pass_time(1)
        assert source.read_gpus()[0].process_sm == {11: 0.6, 12: 0.2}
        fake.set_processes(0, SHARING[1:])
        source.pass_time(5)
        assert source.read_gpus()[0].process_sm == {12: 0.2}
        source.pass_time(60)
        assert source.read_gpus()[0].process_sm is None

        look_after(fake, source, 1)
        assert look_after(fake, source, 1).process_sm == {12: 0.2}, "it begins anew"


def test_time_alone_is_in_no_share(tmp_path: Path) -> None:
    """When a second process comes the shares are of the time since then, not of the time before."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_processes(0, SHARING)
        look_after(fake, source, 3)
        assert look_after(fake, source, 1).process_sm is not None
        fake.set_processes(0, SHARING[:1])
        assert look_after(fake, source, 5).process_sm is None
        fake.set_processes(0, SHARING)
        assert look_after(fake, source, 5).process_sm is None
        assert look_after(fake, source, 1).process_sm == {11: 0.6, 12: 0.2}


def test_nonsense_and_strangers_are_left_out(tmp_path: Path) -> None:
    """Samples above 100 % and those of pids that are not on the list count for nothing."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        stranger = Process(99, sm_percent=70, kind="graphics")
        fake.set_processes(0, [*SHARING, stranger, stranger, Process(14, sm_percent=37_100)])
        look_after(fake, source, 3)
        assert look_after(fake, source, 1).process_sm == {11: 0.6, 12: 0.2}


def test_entries_that_the_driver_has_not_filled_are_no_samples() -> None:
    """Zeros, nonsense and what was seen before are dropped (the answer is that of nvtop issue 110)."""
    zeros = SmSample(0, 0, 0)
    nonsense = SmSample(50_554, 217_144_956_601_725, 37_100)
    seen, new = SmSample(7_180, 100, 19), SmSample(7_180, 101, 19)
    assert new_samples([nonsense, seen, new, zeros, zeros], 100) == [new]
    assert new_samples([nonsense, zeros], 0) == []


def test_several_samples_of_a_process_are_averaged(tmp_path: Path) -> None:
    """The mean is over all moments that the answer holds; who has fewer samples did nothing in the others."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        percents = [(11, 80), (11, 40), (12, 30), (11, 60), (12, 60)]
        fake.set_processes(0, [Process(pid, sm_percent=percent) for pid, percent in percents])
        look_after(fake, source, 3)
        assert look_after(fake, source, 1).process_sm == {11: 0.6, 12: 0.3}


def test_more_samples_than_there_was_room_for(tmp_path: Path) -> None:
    """However many processes share a GPU, each has its share."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_processes(0, [Process(pid, sm_percent=1) for pid in range(1_000, 1_128)])
        look_after(fake, source, 3)
        assert look_after(fake, source, 1).process_sm == dict.fromkeys(range(1_000, 1_128), 0.01)


@pytest.mark.parametrize(("call_s", "rest_s"), [(0, 0.9), (0.05, 5), (0.1, 10), (5, 60)])
def test_a_slow_driver_rests_a_hundred_times_as_long(tmp_path: Path, call_s: float, rest_s: float) -> None:
    """SM time is asked once a second where that is cheap, and less often the longer the driver takes."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_processes(0, SHARING)
        source.tick_at_each_look(int(call_s * SECOND))
        source.read_gpus()
        source.tick_at_each_look(0)
        fake.clear_calls()
        # The clock has been read once more since the driver answered.
        source.pass_time(rest_s - call_s - 0.01)
        source.read_gpus()
        assert fake.calls(USE) == 0
        source.pass_time(0.01)
        source.read_gpus()
        assert fake.calls(USE) == 1


def test_a_gpu_that_is_lost_while_it_is_asked_for_sm_time_is_lost(tmp_path: Path) -> None:
    """The answer that the GPU is gone counts here as everywhere."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_processes(0, SHARING)
        fake.fail(USE, 15)
        assert [failure.reason for failure in source.read().failures] == ["lost"]


@pytest.mark.parametrize(("mib", "noticed"), [(500, True), (9, True), (8, False), (-9, True), (-8, False)])
def test_memory_shows_who_comes_and_goes(tmp_path: Path, mib: int, noticed: bool) -> None:
    """When memory in use has changed by more than 8 MiB, the process list is read in that very look."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_look(0, memory_used_mib=1_000)
        source.read_gpus()
        fake.clear_calls()
        fake.set_processes(0, [11])
        fake.set_look(0, memory_used_mib=1_000 + mib)
        reading = look_after(fake, source, 1)
        assert reading.processes == frozenset({11} if noticed else ())
        look_after(fake, source, 1)
        assert fake.calls(LISTS) == noticed


def test_work_that_begins_shows_who_came(tmp_path: Path) -> None:
    """Utilization that rises from 0 has the list read at once; what goes on working does not."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_look(0, utilization_percent=0)
        source.read_gpus()
        fake.set_processes(0, [11])
        fake.set_look(0, utilization_percent=1)
        assert look_after(fake, source, 1).processes == frozenset({11})
        fake.set_processes(0, [11, 12])
        fake.set_look(0, utilization_percent=99)
        assert look_after(fake, source, 1).processes == frozenset({11})


def test_the_list_is_read_once_a_second_however_much_stirs(tmp_path: Path) -> None:
    """A job that allocates and frees all the time has its list read once a second, and none is missed."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        source.read_gpus()
        fake.clear_calls()
        for step in range(100):
            fake.set_look(0, memory_used_mib=1_000 * (step % 2))
            look_after(fake, source, 0.1)
        assert 10 <= fake.calls(LISTS) <= 12

        fake.set_look(0, memory_used_mib=5_000)
        look_after(fake, source, 1)
        fake.set_processes(0, [11])
        fake.set_look(0, memory_used_mib=6_000)
        assert look_after(fake, source, 0.5).processes == frozenset(), "too soon after the last"
        assert look_after(fake, source, 0.5).processes == frozenset({11})


def test_on_mig_memory_shows_who_comes(tmp_path: Path) -> None:
    """The instances' lists are read at once too."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.set_mig(0, HALVES)
        source.open()
        source.read_gpus()
        fake.set_processes(0, [Process(21, gpu_instance=1, compute_instance=0)])
        fake.set_look(0, memory_used_mib=900)
        reading = look_after(fake, source, 1)
        assert [instance.processes for instance in reading.mig_instances] == [frozenset({21}), frozenset()]


def test_clients_of_mps_are_on_the_gpu(tmp_path: Path) -> None:
    """The driver lists them apart from other processes; on an instance, too."""
    client, alone = Process(11, kind="mps", sm_percent=60), Process(12, sm_percent=20)
    with metering(cards("h100", 2), tmp_path, opened=False) as (fake, source):
        fake.set_processes(0, [client, alone])
        fake.set_mig(1, HALVES)
        fake.set_processes(1, [Process(21, gpu_instance=1, compute_instance=0, kind="mps")])
        source.open()
        whole, partitioned = source.read_gpus()
        assert whole.processes == frozenset({11, 12})
        assert partitioned.processes == frozenset({21})
        assert [i.processes for i in partitioned.mig_instances] == [frozenset({21}), frozenset()]
        look_after(fake, source, 1)
        assert look_after(fake, source, 1).process_sm == {11: 0.6, 12: 0.2}


@pytest.mark.parametrize("code", [3, 13])
def test_a_driver_that_knows_no_mps_is_asked_once(tmp_path: Path, code: int) -> None:
    """Where the list of clients is refused, the other list is all there is, and nobody asks again."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.fail(MPS_LISTS, code)
        fake.set_processes(0, [11])
        source.open()
        fake.clear_calls()
        for _ in range(4):
            assert look_after(fake, source, 5).processes == frozenset({11})
        assert (fake.calls(LISTS), fake.calls(MPS_LISTS)) == (4, 1)


def test_the_list_of_mps_clients_is_asked_for_as_seldom_as_the_other(tmp_path: Path) -> None:
    """Each of them every few seconds, and never in between while nothing stirs."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        source.read_gpus()
        fake.clear_calls()
        for _ in range(20):
            look_after(fake, source, 1)
        assert fake.calls(MPS_LISTS) == fake.calls(LISTS) == 4
