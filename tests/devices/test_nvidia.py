"""What the NVIDIA source reads, with the real pynvml against the fake driver."""

import dataclasses
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.devices.nvidia_process import SECOND, NvidiaProcess, cards, metering
from tests.fakes.nvml import FakeNvml, MigInstance, Process, parse_scenario
from wattspan.model import GpuReading, XidEvent

ENERGY, AVERAGE, INSTANT, LIMIT, RECOVERY = 83, 185, 186, 190, 230


def look_after(fake: FakeNvml, source: NvidiaProcess, seconds: float) -> list[GpuReading]:
    """The readings after both clocks have moved."""
    fake.advance(seconds)
    source.pass_time(seconds)
    return source.read_gpus()


def wait_until(happened: Callable[[], bool]) -> None:
    """For what the event thread does in its own time."""
    give_up = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


def test_every_figure_of_a_look_is_the_drivers(tmp_path: Path) -> None:
    """Each figure of a reading is what the driver says, in our unit."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.set_look(0, utilization_percent=87, memory_used_mib=61_440, temperature_c=64, sm_clock_mhz=1_755)
        for field, value in {LIMIT: 650_000, RECOVERY: 1, 74: 11, 76: 12, 269: 13, 270: 14, 271: 15}.items():
            fake.set_field(0, field, value)
        fake.advance(12.3)
        [reading] = source.read_gpus()

        assert reading.gpu.uuid == fake.uuids[0]
        assert reading.gpu.vendor == "nvidia"
        assert "H100" in reading.gpu.model
        assert reading.gpu.driver_version == fake.scenario.driver_version
        assert reading.energy_uj == fake.energy_mj(0) * 1_000
        assert reading.power_uw == fake.average_mw(0) * 1_000
        assert reading.power_instant_uw == fake.power_mw(0) * 1_000
        assert reading.power_limit_uw == 650_000_000
        assert reading.utilization_ratio == 0.87
        assert reading.memory_used_bytes == 61_440 * 2**20
        assert reading.memory_total_bytes is not None
        assert reading.memory_total_bytes > reading.memory_used_bytes
        assert reading.temperature_celsius == 64
        assert reading.sm_clock_hertz == 1_755_000_000
        assert reading.recovery_action == 1
        assert reading.throttled_ns == {
            "sw_power_cap": 11,
            "sync_boost": 12,
            "sw_thermal": 13,
            "hw_thermal": 14,
            "hw_power_brake": 15,
        }
        assert reading.gpu.mig_mode == "disabled"
        assert reading.mig_instances == ()


def test_energy_is_exact_over_any_walk_of_looks(tmp_path: Path) -> None:
    """At every moment the energy of each GPU is the driver's counter, to the millijoule."""
    steps = random.Random(1)
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        for _ in range(20):
            readings = look_after(fake, source, steps.choice((0.01, 0.1, 0.37, 1.0, 61.7)))
            assert [r.energy_uj for r in readings] == [fake.energy_mj(i) * 1_000 for i in range(8)]


@pytest.mark.parametrize(
    ("generation", "power_source", "power_scope", "counter"),
    [
        ("h100", "average", "gpu", True),
        ("gh200", "average", "module", True),
        ("ga100", "energy_delta", "gpu", True),
        ("v100", "energy_delta", "gpu", True),
        ("vgpu", "usage", "gpu", False),
        ("pre_volta", "usage", "gpu", False),
    ],
)
def test_each_generation_is_read_by_what_it_has(
    tmp_path: Path, generation: str, power_source: str, power_scope: str, counter: bool
) -> None:
    """Power is the one-second average, else the counter's delta, else the usage call, and says which."""
    with metering(cards(generation), tmp_path, events=False) as (fake, source):
        look_after(fake, source, 3)
        reading = look_after(fake, source, 2)[0]
        gpu = reading.gpu
        assert (gpu.power_source, gpu.power_scope, gpu.has_energy_counter) == (
            power_source,
            power_scope,
            counter,
        )
        assert reading.energy_uj == (fake.energy_mj(0) * 1_000 if counter else None)
        expected_mw = {
            "average": fake.average_mw(0),
            "energy_delta": (fake.energy_mj(0) - fake.energy_mj(0, fake.now_ns() - 2 * SECOND)) / 2,
            "usage": fake.power_mw(0),
        }
        assert reading.power_uw == expected_mw[power_source] * 1_000
        assert reading.power_instant_uw == (None if generation == "vgpu" else fake.power_mw(0) * 1_000)


@pytest.mark.parametrize(
    ("generation", "scope"),
    [
        pytest.param("gh200_both", "module", id="the module's, as seen on GH200"),
        pytest.param("gb200", "gpu", id="the GPU's alone"),
    ],
)
def test_the_counter_of_a_superchip_says_itself_what_it_covers(
    tmp_path: Path, generation: str, scope: str
) -> None:
    """Where both scopes answer, it is the one whose power the counter follows; in doubt it is the module."""
    with metering(cards(generation), tmp_path, events=False) as (fake, source):
        fake.set_power(0, 610)
        scopes = [look_after(fake, source, 1)[0].gpu.power_scope for _ in range(12)]
        assert scopes == ["module"] * 10 + [scope] * 2
        fake.set_power(0, 300)
        [reading] = look_after(fake, source, 2)
        assert (reading.gpu.power_scope, reading.energy_uj) == (scope, fake.energy_mj(0) * 1_000)
        assert (reading.power_uw, reading.power_instant_uw) == (300_000_000, 300_000_000)


def test_a_driver_that_knows_no_scopes_makes_no_module_of_a_card(tmp_path: Path) -> None:
    """An ordinary card that answers the module's scope with its own power is what it was."""
    every_scope = [[field, 1] for field in (ENERGY, AVERAGE, INSTANT, LIMIT)]
    card = {"generation": "h100", "base_mj": 1_000, "curve": [[0, 200]], "supported": every_scope}
    with metering(parse_scenario("h100", {"gpu": [card]}), tmp_path, events=False) as (fake, source):
        for watts in (100, 700) * 8:
            fake.set_power(0, watts)
            [reading] = look_after(fake, source, 1)
            assert (reading.gpu.power_scope, reading.power_uw) == ("gpu", watts * 1_000_000)


def test_power_from_the_counter_covers_a_second_at_least(tmp_path: Path) -> None:
    """However often we look, the delta is over the last second or more, and never over a reset."""
    with metering(cards("ga100"), tmp_path) as (fake, source):
        fake.set_power(0, 100)
        assert look_after(fake, source, 1)[0].power_uw is None
        assert look_after(fake, source, 0.5)[0].power_uw is None
        assert look_after(fake, source, 0.5)[0].power_uw == 100_000_000
        fake.set_power(0, 300)
        assert look_after(fake, source, 0.5)[0].power_uw == 200_000_000
        assert look_after(fake, source, 0.5)[0].power_uw == 300_000_000
        fake.reset_counter(0)
        assert look_after(fake, source, 1)[0].power_uw is None
        assert look_after(fake, source, 1)[0].power_uw == 300_000_000


def test_a_counter_that_leaps_shows_no_power(tmp_path: Path) -> None:
    """Power made of the counter is None above 1.5 x the enforced limit, and right again a second later."""
    with metering(cards("ga100"), tmp_path) as (fake, source):
        fake.set_power(0, 600)
        look_after(fake, source, 1)
        assert look_after(fake, source, 1)[0].power_uw == 600_000_000
        fake.jump(0, joules=1_000_000)
        [leapt] = look_after(fake, source, 1)
        assert (leapt.power_uw, leapt.energy_uj) == (None, fake.energy_mj(0) * 1_000)
        assert look_after(fake, source, 0.5)[0].power_uw is None
        assert look_after(fake, source, 0.5)[0].power_uw == 600_000_000
        fake.set_power(0, 601)
        look_after(fake, source, 0.5)
        assert look_after(fake, source, 0.5)[0].power_uw is None


def test_power_from_the_counter_is_none_over_a_stretch_without_readings(tmp_path: Path) -> None:
    """The mean over a loss or a release is no power of now; the GPUs beside a lost one keep theirs."""
    with metering(cards("ga100", 2), tmp_path) as (fake, source):
        look_after(fake, source, 1)
        assert [r.power_uw for r in look_after(fake, source, 1)] == [200_000_000] * 2
        fake.lose(0)
        assert [r.gpu.uuid for r in source.read().gpus] == [fake.uuids[1]]
        fake.bring_back(0)
        assert [r.power_uw for r in look_after(fake, source, 5)] == [None, 200_000_000]

        source.close()
        fake.advance(600)
        source.pass_time(600)
        source.open()
        assert [r.power_uw for r in source.read_gpus()] == [None, None]
        assert [r.power_uw for r in look_after(fake, source, 1)] == [500_000_000] * 2


def test_a_counter_that_never_moved_is_none(tmp_path: Path) -> None:
    """SUCCESS with 0 is no counter until it first stands above 0; from then on a reset to 0 is a reading."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.advance(5)
        fake.freeze(0, mj=0)
        source.open()
        [reading] = look_after(fake, source, 1)
        assert (reading.energy_uj, reading.gpu.has_energy_counter) == (None, False)
        fake.thaw(0)
        [reading] = look_after(fake, source, 1)
        assert (reading.energy_uj, reading.gpu.has_energy_counter) == (fake.energy_mj(0) * 1_000, True)
        fake.freeze(0, mj=0)
        [reading] = look_after(fake, source, 1)
        assert (reading.energy_uj, reading.gpu.has_energy_counter) == (0, True)


@pytest.mark.parametrize(
    ("field", "absent"),
    [
        (ENERGY, "energy_uj"),
        (AVERAGE, "power_uw"),
        (INSTANT, "power_instant_uw"),
        (LIMIT, "power_limit_uw"),
        (RECOVERY, "recovery_action"),
    ],
)
def test_a_field_that_fails_once_is_missing_once(tmp_path: Path, field: int, absent: str) -> None:
    """A passing error of one field leaves that figure out of that look alone, and changes nothing else."""
    with metering(cards("h100"), tmp_path, events=False) as (fake, source):
        [before] = look_after(fake, source, 1)
        fake.fail(field, 999, gpu=0, times=1)
        [failed] = source.read_gpus()
        [after] = source.read_gpus()
        assert dataclasses.asdict(failed) == {**dataclasses.asdict(before), absent: None}
        assert after == before
        assert failed.gpu.has_energy_counter


def test_a_field_that_the_driver_does_not_know_is_asked_once(tmp_path: Path) -> None:
    """INVALID_ARGUMENT for one field says that the driver is older than it; the next best way is taken."""
    with metering(cards("h100"), tmp_path, events=False) as (fake, source):
        fake.fail(AVERAGE, 2)
        look_after(fake, source, 1)
        fake.heal(AVERAGE)
        [reading] = look_after(fake, source, 1)
        assert reading.gpu.power_source == "energy_delta"
        assert reading.power_uw == 200_000_000


def test_not_available_is_no_number(tmp_path: Path) -> None:
    """All ones is how NVML writes N/A into a number: the figure is left out."""
    with metering(cards("h100"), tmp_path, events=False) as (fake, source):
        fake.set_field(0, LIMIT, 2**32 - 1)
        fake.set_field(0, 74, 2**64 - 1)
        [reading] = source.read_gpus()
        assert reading.power_limit_uw is None
        assert "sw_power_cap" not in reading.throttled_ns


def test_what_a_driver_cannot_say_is_asked_once(tmp_path: Path) -> None:
    """After NOT_SUPPORTED a question is not put again under this initialisation, and is after the next."""
    functions = [
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetComputeRunningProcesses_v3",
    ]
    with metering(cards("h100"), tmp_path) as (fake, source):
        for function in functions:
            fake.fail(function, 3)
        for _ in range(4):
            [reading] = look_after(fake, source, 10)
        assert reading.utilization_ratio is None
        assert reading.memory_used_bytes is None
        assert reading.temperature_celsius is None
        assert reading.sm_clock_hertz is None
        assert reading.processes is None
        assert reading.gpu.mig_mode == "unsupported"
        assert {function: fake.calls(function) for function in functions} == dict.fromkeys(functions, 1)

        fake.heal()
        source.close()
        source.open()
        [reading] = source.read_gpus()
        assert reading.utilization_ratio is not None


def test_a_question_that_fails_for_now_is_asked_again(tmp_path: Path) -> None:
    """A passing error of an optional question leaves its figure out once; it is no failure of the GPU."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.fail("nvmlDeviceGetUtilizationRates", 10, times=1)
        assert source.read_gpus()[0].utilization_ratio is None
        assert source.read_gpus()[0].utilization_ratio is not None


def test_the_older_memory_call_serves_where_the_newer_is_refused(tmp_path: Path) -> None:
    """A driver that does not know the second version of the memory struct is asked by the first."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.fail("nvmlDeviceGetMemoryInfo_v2", 25)
        [reading] = source.read_gpus()
        assert reading.memory_total_bytes is not None
        source.read_gpus()
        assert fake.calls("nvmlDeviceGetMemoryInfo_v2") == 1


def test_an_old_driver_still_meters(tmp_path: Path) -> None:
    """Missing symbols and unknown fields cost what they would have said, and energy is as exact as ever."""
    with metering(cards("h100", library="old_driver"), tmp_path) as (fake, source):
        look_after(fake, source, 1)
        reading = look_after(fake, source, 1)[0]
        assert reading.energy_uj == fake.energy_mj(0) * 1_000
        assert reading.gpu.power_source == "energy_delta"
        assert reading.power_uw == (fake.energy_mj(0) - fake.energy_mj(0, fake.now_ns() - SECOND)) * 1_000
        assert reading.power_instant_uw is None
        assert reading.recovery_action is None
        assert reading.power_limit_uw is not None
        assert reading.temperature_celsius is not None
        assert reading.memory_total_bytes is not None


def test_field_values_refused_as_a_whole_leave_the_single_calls(tmp_path: Path) -> None:
    """Where the batched call does not exist at all, energy and limit come from calls of their own."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        fake.fail("nvmlDeviceGetFieldValues", 13)
        look_after(fake, source, 1)
        asked = fake.calls("nvmlDeviceGetFieldValues")
        [reading] = look_after(fake, source, 1)
        assert reading.energy_uj == fake.energy_mj(0) * 1_000
        assert reading.gpu.power_source == "energy_delta"
        assert reading.power_limit_uw is not None
        assert fake.calls("nvmlDeviceGetFieldValues") == asked


def test_a_gpu_that_can_say_nothing_is_read_as_nothing(tmp_path: Path) -> None:
    """With neither counter nor power there is a reading without them, never a zero."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        for function in (
            "nvmlDeviceGetFieldValues",
            "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetPowerUsage",
        ):
            fake.fail(function, 3)
        [reading] = source.read_gpus()
        assert (reading.energy_uj, reading.power_uw, reading.power_instant_uw) == (None, None, None)
        assert (reading.gpu.power_source, reading.gpu.has_energy_counter) == ("none", False)


def test_read_at_is_the_middle_of_the_call(tmp_path: Path) -> None:
    """A reading's moment is the middle of the clock before and after the call for energy and power."""
    with metering(cards("h100"), tmp_path) as (_, source):
        source.tick_at_each_look(100)
        report = source.read()
        # The clock is read for the report's start, before, and after.
        assert report.gpus[0].read_at_ns == report.started_ns + 150
        assert report.started_ns < report.gpus[0].read_at_ns < report.finished_ns


def test_processes_are_the_compute_list(tmp_path: Path) -> None:
    """The pids with a compute context, however many, and nobody else's."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        pids = range(1_000, 1_100)
        fake.set_processes(0, [*pids, Process(7, kind="graphics")])
        assert source.read_gpus()[0].processes == frozenset(pids)
        fake.set_processes(0, [])
        assert look_after(fake, source, 5)[0].processes == frozenset()


def test_processes_are_read_once_in_five_seconds(tmp_path: Path) -> None:
    """Process lists hold a lock that training needs, so they are read no more often than set."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        fake.clear_calls()
        for _ in range(20):
            look_after(fake, source, 1)
        assert [fake.calls("nvmlDeviceGetComputeRunningProcesses_v3", gpu) for gpu in range(8)] == [4] * 8
        assert fake.calls("nvmlDeviceGetFieldValues", 0) == 20 + 1  # one more to find what is refused


def test_the_process_struct_with_five_members_is_known(tmp_path: Path) -> None:
    """R535-era libraries write longer process entries; their pids are read all the same."""
    with metering(cards("h100", library="process5"), tmp_path) as (fake, source):
        fake.set_processes(0, [11, 22, 33, 44, 55])
        assert source.read_gpus()[0].processes == frozenset({11, 22, 33, 44, 55})


LAYOUT = [
    MigInstance(gpu_instance=1, compute_instance=0, slices=4, memory_mib=40_000, profile="4g.40gb"),
    None,
    MigInstance(gpu_instance=5, compute_instance=0, slices=2, memory_mib=20_000, profile="2g.20gb"),
]


def test_mig_instances_are_told_past_holes(tmp_path: Path) -> None:
    """Each instance with its ids, slices and profile, whatever holes the index has."""
    with metering(cards("ga100", 2), tmp_path, opened=False) as (fake, source):
        fake.set_mig(1, LAYOUT)
        source.open()
        plain, divided = source.read_gpus()
        assert (plain.gpu.mig_mode, plain.mig_instances) == ("disabled", ())
        assert divided.gpu.mig_mode == "enabled"
        assert [(i.gpu_instance, i.compute_instance, i.slices, i.profile) for i in divided.mig_instances] == [
            (1, 0, 4, "4g.40gb"),
            (5, 0, 2, "2g.20gb"),
        ]
        assert all(i.uuid.startswith("MIG-") for i in divided.mig_instances)
        assert (plain.utilization_ratio is None, divided.utilization_ratio is None) == (False, True)
        assert divided.energy_uj == fake.energy_mj(1) * 1_000


@pytest.mark.parametrize(("generation", "slices"), [("h100", 7), ("gb202", 4)])
def test_the_driver_says_how_many_mig_slices_a_gpu_has(tmp_path: Path, generation: str, slices: int) -> None:
    """Those of the largest profile, asked once; nothing where MIG is off or the driver does not say."""
    with metering(cards(generation), tmp_path, events=False) as (fake, source):
        assert source.read_gpus()[0].mig_slices is None
        fake.set_mig(0, LAYOUT)
        assert look_after(fake, source, 5)[0].mig_slices == slices
        asked = fake.calls("nvmlDeviceGetGpuInstanceProfileInfo")
        assert look_after(fake, source, 5)[0].mig_slices == slices
        assert fake.calls("nvmlDeviceGetGpuInstanceProfileInfo") == asked
        source.close()
        fake.fail("nvmlDeviceGetGpuInstanceProfileInfo", 13)
        source.open()
        [reading] = source.read_gpus()
        assert (reading.mig_slices, len(reading.mig_instances)) == (None, 2)


def test_a_compute_instance_has_its_part_of_a_divided_gpu_instance(tmp_path: Path) -> None:
    """Three 1c.3g in a 3g have a slice each, beside a 4g that is whole: together no more than the seven."""
    divided = [MigInstance(1, n, 3, 40_000, "1c.3g.40gb", compute_slices=1) for n in range(3)]
    with metering(cards("ga100"), tmp_path, opened=False) as (fake, source):
        fake.set_mig(0, [*divided, MigInstance(2, 0, 4, 40_000, "4g.40gb")])
        source.open()
        [reading] = source.read_gpus()
        assert [instance.slices for instance in reading.mig_instances] == [1, 1, 1, 4]


def test_a_mig_change_is_seen_at_the_next_look_when_it_is_announced(tmp_path: Path) -> None:
    """MigConfigChange makes the next look ask anew; without it the layout is at most five seconds old."""
    with metering(cards("h100"), tmp_path) as (fake, source):
        assert source.read_gpus()[0].utilization_ratio is not None
        fake.set_mig(0, LAYOUT)
        wait_until(lambda: source.read_gpus()[0].gpu.mig_mode == "enabled")
        [reading] = source.read_gpus()
        assert [i.profile for i in reading.mig_instances] == ["4g.40gb", "2g.20gb"]
        assert [i.slices for i in reading.mig_instances] == [4, 2]

        fake.set_mig(0, LAYOUT[:1], announce=False)
        assert len(look_after(fake, source, 4)[0].mig_instances) == 2
        assert len(look_after(fake, source, 1)[0].mig_instances) == 1

        fake.set_mig(0, None, announce=False)
        [reading] = look_after(fake, source, 5)
        assert (reading.gpu.mig_mode, reading.mig_instances) == ("disabled", ())
        assert source.read_gpus()[0].utilization_ratio is not None, "MIG's refusals do not outlive MIG"


def test_on_mig_the_gpus_processes_are_those_of_its_instances(tmp_path: Path) -> None:
    """Under MIG the GPU's own list needs privileges: the instances' lists are joined, if all are told."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.set_mig(0, LAYOUT)
        fake.set_processes(
            0,
            [
                Process(41, gpu_instance=1, compute_instance=0),
                Process(42, gpu_instance=1, compute_instance=0),
                Process(51, gpu_instance=5, compute_instance=0),
            ],
        )
        source.open()
        [reading] = source.read_gpus()
        assert [i.processes for i in reading.mig_instances] == [frozenset({41, 42}), frozenset({51})]
        assert reading.processes == frozenset({41, 42, 51})
        fake.fail("nvmlDeviceGetComputeRunningProcesses_v3", 4)
        assert look_after(fake, source, 5)[0].processes is None


def test_xids_are_told_once_and_by_uuid(tmp_path: Path) -> None:
    """Each XID is in one report, with the GPU that it is of."""
    with metering(cards("h100", 8), tmp_path) as (fake, source):
        told: list[XidEvent] = []
        fake.xid(2, 79)
        fake.xid(5, 31)
        fake.xid(2, 48)

        def all_told() -> bool:
            told.extend(source.read().xids)
            return len(told) >= 3

        wait_until(all_told)
        assert told == [XidEvent(fake.uuids[2], 79), XidEvent(fake.uuids[5], 31), XidEvent(fake.uuids[2], 48)]
        assert source.read().xids == ()


def test_without_events_there_is_no_thread(tmp_path: Path) -> None:
    """Where the driver has no events, nothing waits for them and everything else is read."""
    with metering(cards("h100"), tmp_path, opened=False) as (fake, source):
        fake.fail("nvmlEventSetCreate", 3)
        source.open()
        assert len(source.read_gpus()) == 1
        assert "nvidia-events" not in source.threads()
        source.close()
        fake.heal()
        fake.fail("nvmlDeviceGetSupportedEventTypes", 3)
        source.open()
        assert len(source.read_gpus()) == 1
        assert "nvidia-events" not in source.threads()


def test_one_gpu_without_events_leaves_the_others_theirs(tmp_path: Path) -> None:
    """Registration is by GPU."""
    with metering(cards("h100", 8), tmp_path, opened=False) as (fake, source):
        fake.fail("nvmlDeviceRegisterEvents", 3, gpu=0)
        source.open()
        fake.xid(7, 63)
        told: list[XidEvent] = []

        def is_told() -> bool:
            told.extend(source.read().xids)
            return bool(told)

        wait_until(is_told)
        assert told == [XidEvent(fake.uuids[7], 63)]
