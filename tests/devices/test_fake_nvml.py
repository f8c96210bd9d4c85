"""The fake driver keeps NVML's protocol and its own arithmetic, as the real pynvml sees it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.nvml import (
    FakeNvml,
    MigInstance,
    Process,
    Variant,
    build_library,
    load_scenario,
    parse_scenario,
)
from tests.fakes.nvml.asked import AskedPynvml, CodeError
from tests.fakes.nvml.curve import Curve, steps
from tests.fakes.nvml.scenario import GENERATIONS, SCENARIOS

UNINITIALIZED, INVALID, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, TOO_SMALL = 1, 2, 3, 4, 6, 7
NOT_LOADED, TIMED_OUT, NO_FUNCTION, LOST, RESET_REQUIRED, MISMATCH, WRONG_VERSION = 9, 10, 13, 15, 16, 18, 25
UNKNOWN = 999

ENERGY = "nvml.nvmlDeviceGetTotalEnergyConsumption(gpu({}))"
USAGE = "nvml.nvmlDeviceGetPowerUsage(gpu({}))"
PROCESSES = "[p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(gpu({}))]"
MIG_CONFIG_CHANGE, XID = 0x100, 0x8


def initialise(asked: AskedPynvml, fake: FakeNvml) -> None:
    asked.ask(f"os.environ.update(FAKE_NVML_STATE={str(fake.state_path)!r})")
    asked.ask("nvml.nvmlInit()")


@pytest.fixture(scope="session")
def pynvml_by_variant() -> Iterator[Callable[[FakeNvml], AskedPynvml]]:
    """One child for each library variant: pynvml never unloads one, but finds a new state at each init."""
    children: dict[Path, AskedPynvml] = {}

    def child_of(fake: FakeNvml) -> AskedPynvml:
        if fake.library not in children:
            children[fake.library] = AskedPynvml(fake.environment())
        return children[fake.library]

    yield child_of
    for child in children.values():
        child.__exit__(None, None, None)


Play = Callable[..., tuple[FakeNvml, AskedPynvml]]


@pytest.fixture
def play(tmp_path: Path, pynvml_by_variant: Callable[[FakeNvml], AskedPynvml]) -> Iterator[Play]:
    """Puts a scenario in play, with pynvml initialised on it; afterwards pynvml is shut down."""
    started: list[tuple[FakeNvml, AskedPynvml]] = []

    def start(scenario: Any, library: Variant | None = None) -> tuple[FakeNvml, AskedPynvml]:
        fake = FakeNvml(scenario, tmp_path, library=library)
        asked = pynvml_by_variant(fake)
        initialise(asked, fake)
        started.append((fake, asked))
        return fake, asked

    yield start
    for fake, asked in started:
        fake.heal()
        fake.close()
        while asked.code("nvml.nvmlShutdown() is None") == 0:
            pass


def fields(asked: AskedPynvml, gpu: int, *ids: int | tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return code, value type and value of each field."""
    answer: list[tuple[int, int, int]] = asked.ask(
        f"[(v.nvmlReturn, v.valueType, v.value.ullVal)"
        f" for v in nvml.nvmlDeviceGetFieldValues(gpu({gpu}), {list(ids)})]"
    )
    return answer


def wait_until(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.005)


# Arithmetic

TIMES = (0, 0.05, 0.1, 1.2345678, 2.999999999, 7.77, 19.95, 20, 100.1, 86_400 * 30.5)


@pytest.mark.parametrize("scenario", ["h100", "h100x8", "v100", "ga100", "idle", "old_driver"])
def test_energy_is_the_exact_integral(play: Play, scenario: str) -> None:
    """The counter shows the curve's integral to the millijoule, at any time and on each card."""
    fake, asked = play(scenario)
    for seconds in TIMES:
        fake.set_clock(seconds)
        for gpu in range(len(fake.uuids)):
            assert asked.ask(ENERGY.format(gpu)) == fake.energy_mj(gpu)
    assert fake.energy_mj(0) > fake.energy_mj(0, 0)


def test_energy_by_hand(play: Play) -> None:
    """A ramp from 0 to 100 W in 10 s is 500 J, and its first 3 s are 45 J."""
    ramp = {"generation": "h100", "base_mj": 7, "shape": "linear", "curve": [[0, 0], [10, 100], [20, 100]]}
    fake, asked = play(parse_scenario("ramp", {"gpu": [ramp]}))
    seen = {}
    for seconds in (3, 10, 20, 60):
        fake.set_clock(seconds)
        seen[seconds] = asked.ask(ENERGY.format(0))
    assert seen == {3: 45_007, 10: 500_007, 20: 1_500_007, 60: 5_500_007}


points = st.lists(st.tuples(st.integers(1, 10**10), st.integers(0, 10**6)), max_size=6).map(
    lambda drawn: ((0, 50_000), *sorted(drawn, key=lambda point: point[0]))
)


@given(
    points=points,
    phase_ns=st.integers(0, 10**10),
    times=st.lists(st.integers(0, 10**12), min_size=2, max_size=2),
)
def test_a_curves_energy_only_grows_and_adds_up(
    points: tuple[tuple[int, int], ...], phase_ns: int, times: list[int]
) -> None:
    """On any curve energy never falls, and a repeated curve gains the same with each cycle."""
    early_ns, late_ns = sorted(times)
    period_ns = points[-1][0] + 1
    for curve in (Curve(points, 0, phase_ns), Curve(steps(points), period_ns, phase_ns)):
        assert 0 <= curve.energy_mj(early_ns) <= curve.energy_mj(late_ns)
        assert min(mw for _, mw in points) <= curve.power_mw(late_ns) <= max(mw for _, mw in points)
    cyclic = Curve(points, period_ns)
    gained = [cyclic.energy_mj(n * 2_000_000 * period_ns) for n in (0, 1, 2)]
    assert abs((gained[2] - gained[1]) - (gained[1] - gained[0])) <= 1


@settings(max_examples=40, deadline=None)
@given(
    points=points,
    repeat=st.booleans(),
    phase_ns=st.integers(0, 10**10),
    times=st.lists(st.integers(0, 10**15), min_size=1, max_size=5),
)
def test_c_and_python_agree_on_any_curve(
    pynvml_by_variant: Callable[[FakeNvml], AskedPynvml],
    tmp_path_factory: pytest.TempPathFactory,
    *,
    points: tuple[tuple[int, int], ...],
    repeat: bool,
    phase_ns: int,
    times: list[int],
) -> None:
    """For any curve, energy, power and average are the same in the library and in the driver."""
    base = load_scenario("h100")
    curve = Curve(points, points[-1][0] + 1 if repeat else 0, phase_ns)
    scenario = replace(base, refresh_ms=0, gpus=(replace(base.gpus[0], curve=curve),))
    with FakeNvml(scenario, tmp_path_factory.getbasetemp()) as fake:
        asked = pynvml_by_variant(fake)
        initialise(asked, fake)
        for at_ns in sorted(times):
            fake.set_clock(at_ns / 1e9)
            seen = [value for _, _, value in fields(asked, 0, 83, 185, 186)]
            assert seen == [fake.energy_mj(0, at_ns), fake.average_mw(0, at_ns), fake.power_mw(0, at_ns)]
        asked.ask("nvml.nvmlShutdown()")


def test_sensors_show_the_last_refresh(play: Play) -> None:
    """Between two refreshes every sensor stands still."""
    fake, asked = play("h100")
    fake.set_clock(4.1)
    before = (asked.ask(ENERGY.format(0)), asked.ask(USAGE.format(0)), fields(asked, 0, 185, 186))
    fake.set_clock(4.199999)
    assert (asked.ask(ENERGY.format(0)), asked.ask(USAGE.format(0)), fields(asked, 0, 185, 186)) == before
    fake.set_clock(4.2)
    assert asked.ask(ENERGY.format(0)) > before[0]


def test_a_real_clock_moves_by_itself(play: Play) -> None:
    """With a real clock a reading lies between the truths before and after it."""
    fake, asked = play(replace(load_scenario("h100"), clock="real", refresh_ms=0))
    for _ in range(5):
        before = fake.energy_mj(0)
        seen = asked.ask(ENERGY.format(0))
        assert before <= seen <= fake.energy_mj(0)
    assert fake.scenario_ns(time.monotonic_ns()) <= fake.now_ns()
    with pytest.raises(ValueError, match="real"):
        fake.set_clock(1e6)


def test_set_power_keeps_the_past(play: Play) -> None:
    """A new power counts from its moment on, and what was used before stays used."""
    fake, asked = play("idle")
    fake.set_clock(10)
    fake.set_power(0, 700)
    assert asked.ask(ENERGY.format(0)) == 500_000 + 695_000
    fake.advance(2)
    assert asked.ask(ENERGY.format(0)) == 500_000 + 695_000 + 1_400_000
    assert fields(asked, 0, 186) == [(0, 1, 700_000)]
    with pytest.raises(ValueError, match="repeat"):
        FakeNvml("v100", fake.state_path.parent).set_power(0, 1)


def test_changes_under_a_real_clock_never_go_back(play: Play) -> None:
    """With a real clock, power and freezing take effect at a moment that no reader has passed."""
    fake, asked = play(replace(load_scenario("idle"), clock="real", refresh_ms=5))
    reading = asked.ask_later(f"[{ENERGY.format(0)} for _ in range(3000)]")
    since_ns = [fake.set_power(0, watts) for watts in (700, 0, 300, 1, 500)]
    fake.freeze(0)
    seen = asked.answer(reading)
    assert seen == sorted(seen)
    assert since_ns == sorted(since_ns)
    time.sleep(0.1)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0)
    time.sleep(0.1)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0) >= seen[-1]


# Generations


def code_of(asked: AskedPynvml, field: int | tuple[int, int]) -> int:
    return fields(asked, 0, field)[0][0]


GENERATION_CODES = [
    ("pre_volta", 3, 3, 3, 0, 3, 3),
    ("v100", 0, 0, 3, 0, 3, 3),
    ("ga100", 0, 0, 3, 0, 3, 3),
    ("ga10x", 0, 0, 0, 0, 3, 3),
    ("h100", 0, 0, 0, 0, 0, 3),
    ("gh200", 3, 0, 3, 3, 3, 0),
    ("gh200_both", 0, 0, 0, 0, 3, 0),
    ("gb200", 0, 0, 0, 0, 3, 0),
    ("blackwell", 0, 0, 0, 0, 0, 3),
    ("gb202", 0, 0, 0, 0, 3, 3),
    ("vgpu", 3, 3, 3, 3, 3, 3),
]
"""Codes of the counter field, of GetTotalEnergyConsumption, of fields 185 and 186, of 185 in memory scope,
and of all of them in module scope."""


@pytest.mark.parametrize(
    ("generation", "counter", "total", "average", "instant", "memory", "module"), GENERATION_CODES
)
def test_what_a_generation_answers(
    play: Play,
    *,
    generation: str,
    counter: int,
    total: int,
    average: int,
    instant: int,
    memory: int,
    module: int,
) -> None:
    """Each generation answers the energy and power fields that its cards have, in their scope, and 3 else."""
    card = {"generation": generation, "base_mj": 5, "curve": [[0, 200]]}
    _, asked = play(parse_scenario(generation, {"gpu": [card]}))
    assert code_of(asked, 83) == code_of(asked, 191) == counter
    assert asked.code(ENERGY.format(0)) == total
    assert code_of(asked, 185) == average
    assert code_of(asked, 186) == instant
    assert code_of(asked, (185, 2)) == memory
    assert [code_of(asked, (field, 1)) for field in (83, 191, 185, 186)] == [module] * 4
    assert asked.code(USAGE.format(0)) == 0


def test_every_generation_is_tested() -> None:
    """The table above names all generations."""
    assert [row[0] for row in GENERATION_CODES] == list(GENERATIONS)


@pytest.mark.parametrize(("scenario", "averaged"), [("v100", False), ("ga100", False), ("h100", True)])
def test_power_usage_is_averaged_from_ga10x_on(play: Play, scenario: str, averaged: bool) -> None:
    """GetPowerUsage is the instant on GA100 and older, the last second's mean on newer cards."""
    fake, asked = play(scenario)
    fake.set_clock(2.3)
    assert fake.average_mw(0) != fake.power_mw(0)
    assert asked.ask(USAGE.format(0)) == (fake.average_mw(0) if averaged else fake.power_mw(0))


def test_field_types_and_limits(play: Play) -> None:
    """Energy and durations are 64 bit, power and limits 32 bit, each in the union's right member."""
    fake, asked = play("h100")
    fake.set_field(0, 74, 5_000_000_000)
    fake.set_field(0, 190, 550_000)
    assert fields(asked, 0, 83, 186, 190, 192, 187, 188, 189, 74, 269, 230) == [
        *[(0, 3, fake.energy_mj(0)), (0, 1, fake.power_mw(0)), (0, 1, 550_000), (0, 1, 700_000)],
        *[(0, 1, 200_000), (0, 1, 700_000), (0, 1, 700_000)],
        *[(0, 3, 5_000_000_000), (0, 3, 0), (0, 1, 0)],
    ]
    assert asked.ask("nvml.nvmlDeviceGetEnforcedPowerLimit(gpu(0))") == 550_000
    assert asked.ask("nvml.nvmlDeviceGetPowerManagementLimitConstraints(gpu(0))") == [200_000, 700_000]


def test_field_timestamps_are_wall_microseconds(play: Play) -> None:
    """A field's timestamp is the wall clock of the sensor's look."""
    fake, asked = play("h100")
    stamp = "nvml.nvmlDeviceGetFieldValues(gpu(0), [83])[0].timestamp"
    first = asked.ask(stamp)
    fake.advance(2.55)
    assert asked.ask(stamp) - first == 2_500_000
    assert abs(first / 1e6 - time.time()) < 600


def test_an_unknown_field_fails_alone(play: Play) -> None:
    """A field that does not exist has an error of its own, and the rest is answered."""
    _, asked = play("h100")
    assert [code for code, _, _ in fields(asked, 0, 83, 0, 5000, 300, (185, 9), 186)] == [0, 2, 2, 3, 2, 0]


# Protocol


def test_before_init_and_after_shutdown(play: Play) -> None:
    """Without an init every call answers 1, and inits are counted."""
    fake, asked = play("h100")
    asked.ask("kept.update(old=gpu(0))")
    asked.ask("nvml.nvmlInit()")
    asked.ask("nvml.nvmlShutdown()")
    assert asked.code("nvml.nvmlDeviceGetCount()") == 0
    assert fake.init_count() == 1
    asked.ask("nvml.nvmlShutdown()")
    assert fake.init_count() == 0
    assert asked.code("nvml.nvmlDeviceGetCount()") == UNINITIALIZED
    assert asked.code("nvml.nvmlDeviceGetPowerUsage(kept['old'])") == UNINITIALIZED
    assert asked.code("nvml.nvmlShutdown()") == UNINITIALIZED
    asked.ask("nvml.nvmlInit()")
    assert asked.code("nvml.nvmlDeviceGetPowerUsage(kept['old'])") == INVALID


def test_identity(play: Play) -> None:
    """Name, UUID, serial, PCI address, index and versions lead to the same card and differ between cards."""
    fake, asked = play("h100x8")
    assert asked.ask("nvml.nvmlDeviceGetCount()") == 8
    assert tuple(asked.ask("[nvml.nvmlDeviceGetUUID(gpu(i)) for i in range(8)]")) == fake.uuids
    assert asked.ask("nvml.nvmlDeviceGetName(gpu(3))") == "NVIDIA H100 80GB HBM3"
    assert len(set(asked.ask("[nvml.nvmlDeviceGetSerial(gpu(i)) for i in range(8)]"))) == 8
    by_uuid = f"nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByUUID({fake.uuids[5]!r}))"
    by_bus = (
        "nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByPciBusId(nvml.nvmlDeviceGetPciInfo(gpu(5)).busId))"
    )
    assert (asked.ask(by_uuid), asked.ask(by_bus)) == (5, 5)
    assert asked.code("nvml.nvmlDeviceGetHandleByUUID('GPU-none')") == NOT_FOUND
    assert asked.code("gpu(8)") == INVALID
    assert asked.ask("nvml.nvmlSystemGetDriverVersion()") == fake.scenario.driver_version
    assert asked.ask("nvml.nvmlSystemGetCudaDriverVersion()") == 12080


def test_looks(play: Play) -> None:
    """A look shows what the test set."""
    fake, asked = play("h100")
    fake.set_look(0, utilization_percent=63, memory_used_mib=1000, temperature_c=77, sm_clock_mhz=1234)
    fake.set_look(0, memory_utilization_percent=12, clock_event_reasons=0x4)
    rates = "(lambda u: (u.gpu, u.memory))(nvml.nvmlDeviceGetUtilizationRates(gpu(0)))"
    memory = "(lambda m: (m.used, m.total))(nvml.nvmlDeviceGetMemoryInfo(gpu(0){}))"
    assert asked.ask(rates) == (63, 12)
    assert asked.ask(memory.format("")) == (1000 << 20, 81559 << 20)
    assert asked.ask(memory.format(", version=nvml.nvmlMemory_v2")) == (1000 << 20, 81559 << 20)
    assert asked.ask("nvml.nvmlDeviceGetTemperature(gpu(0), 0)") == 77
    assert asked.ask("nvml.nvmlDeviceGetTemperatureV(gpu(0), 0)") == 77
    assert asked.ask("nvml.nvmlDeviceGetClockInfo(gpu(0), nvml.NVML_CLOCK_SM)") == 1234
    assert asked.ask("nvml.nvmlDeviceGetMaxClockInfo(gpu(0), nvml.NVML_CLOCK_SM)") == 1980
    assert asked.ask("nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu(0))") == 0x4
    assert asked.code("nvml.nvmlDeviceGetFanSpeed(gpu(0))") == NOT_SUPPORTED


def test_struct_versions_are_checked(play: Play) -> None:
    """A struct of the wrong version answers 25."""
    _, asked = play("h100")
    assert asked.code("nvml.nvmlDeviceGetMemoryInfo(gpu(0), version=0x01000028)") == WRONG_VERSION
    assert asked.code("nvml.nvmlDeviceGetRunningProcessDetailList(gpu(0), 7, 0)") == WRONG_VERSION


def test_process_lists(play: Play) -> None:
    """Each list holds its kind of process, and a size that is too small answers 7 with the size needed."""
    fake, asked = play("idle")
    assert asked.ask(PROCESSES.format(0)) == []
    fake.set_processes(0, [11, Process(12, 300), Process(13, 5, kind="graphics"), Process(14, kind="mps")])
    lists = {
        kind: asked.ask(
            f"[(p.pid, p.usedGpuMemory) for p in nvml.nvmlDeviceGet{kind}RunningProcesses(gpu(0))]"
        )
        for kind in ("Compute", "Graphics", "MPSCompute")
    }
    assert lists == {
        "Compute": [(11, None), (12, 300 << 20)],
        "Graphics": [(13, 5 << 20)],
        "MPSCompute": [(14, None)],
    }
    ids = (
        "[(p.gpuInstanceId, p.computeInstanceId) for p in nvml.nvmlDeviceGetComputeRunningProcesses(gpu(0))]"
    )
    assert set(asked.ask(ids)) == {(0xFFFFFFFF, 0xFFFFFFFF)}
    asked.ask("kept.update(count=nvml.c_uint(1), room=(nvml.c_nvmlProcessInfo_t * 1)())")
    short = (
        "(nvml._nvmlGetFunctionPointer('nvmlDeviceGetComputeRunningProcesses_v3')"
        "(gpu(0), nvml.byref(kept['count']), kept['room']), kept['count'].value)"
    )
    assert asked.ask(short) == (TOO_SMALL, 2)
    # pynvml's wrapper of this one breaks on an unknown memory size.
    fake.set_processes(
        0, [Process(11, 1), Process(12, 1), Process(13, 1, kind="graphics"), Process(14, 1, kind="mps")]
    )
    details = "[p.pid for p in nvml.nvmlDeviceGetRunningProcessDetailList(gpu(0), 0x1000018, {})]"
    assert [asked.ask(details.format(mode)) for mode in range(4)] == [[11, 12], [13], [14], [11, 12, 13, 14]]


def test_a_list_is_of_one_moment(play: Play) -> None:
    """While a test replaces processes and power again and again, no reader sees a mixture."""
    fake, asked = play("idle")
    # pynvml makes room for twice what it was told and five more: a list that outgrows that answers 7.
    crowds = [range(1000, 1040), range(2000, 2080)]
    fake.set_processes(0, crowds[0])
    tickets = [asked.ask_later(f"[{PROCESSES.format(0)} for _ in range(200)]") for _ in range(2)]
    for turn in range(300):
        fake.set_processes(0, crowds[turn % 2])
    for ticket in tickets:
        for pids in asked.answer(ticket):
            assert pids in [list(crowd) for crowd in crowds]


def test_process_utilization_is_news_only(play: Play) -> None:
    """Both utilization calls give each active process once per sensor look, and 6 when nothing is new."""
    fake, asked = play("idle")
    fake.set_processes(
        0, [Process(21, 1, sm_percent=30, mem_percent=4), Process(22, 1), Process(23, sm_percent=70)]
    )
    sample = "[(s.pid, s.smUtil, s.memUtil, s.timeStamp) for s in nvml.nvmlDeviceGet"
    legacy = sample + "ProcessUtilization(gpu(0), {})]"
    newer = sample + "ProcessesUtilizationInfo(gpu(0), {})]"
    seen = asked.ask(legacy.format(0))
    assert [sample[:3] for sample in seen] == [(21, 30, 4), (23, 70, 0)]
    assert asked.ask(newer.format(0)) == seen
    last = seen[0][3]
    for call in (legacy, newer):
        assert asked.code(call.format(last)) == NOT_FOUND
    fake.advance(0.1)
    assert asked.ask(legacy.format(last))[0][3] == last + 100_000
    fake.set_processes(0, [24])
    assert asked.code(legacy.format(0)) == NOT_FOUND


def test_blackwell_lacks_the_legacy_process_utilization(play: Play) -> None:
    """There the old call answers 3 and its successor works."""
    card = {"generation": "blackwell", "process": [{"pid": 9, "sm_percent": 5}]}
    _, asked = play(parse_scenario("b200", {"gpu": [card]}))
    assert asked.code("nvml.nvmlDeviceGetProcessUtilization(gpu(0), 0)") == NOT_SUPPORTED
    assert asked.ask("[s.pid for s in nvml.nvmlDeviceGetProcessesUtilizationInfo(gpu(0), 0)]") == [9]


def test_samples_are_the_sensors_history(play: Play) -> None:
    """The sample buffer holds the power at each refresh since the last that was seen."""
    fake, asked = play("h100")
    fake.set_clock(2)
    samples = "[(s.timeStamp, s.sampleValue.uiVal) for s in nvml.nvmlDeviceGetSamples(gpu(0), 0, {})[1]]"
    seen = asked.ask(samples.format(0))
    assert [value for _, value in seen] == [fake.power_mw(0, n * 100_000_000) for n in range(21)]
    assert asked.ask(samples.format(seen[-3][0])) == seen[-2:]
    assert asked.code(samples.format(seen[-1][0])) == NOT_FOUND


# Faults


def test_counter_faults(play: Play) -> None:
    """Reset, step back, jump, freeze and thaw show in the counter as they do in the truth."""
    fake, asked = play("idle")
    fake.set_clock(100)
    fake.reset_counter(0)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0) == 0
    fake.advance(10)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0) == 695_000
    fake.step_back(0, 1.5)
    fake.jump(1, 1e6)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0) == 693_500
    assert asked.ask(ENERGY.format(1)) == fake.energy_mj(1) == 500_000 + 110 * 69_500 + 10**9
    fake.freeze(0)
    fake.advance(10)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0) == 693_500
    fake.freeze(0, 42)
    assert fields(asked, 0, 83, 191) == [(0, 3, 42)] * 2
    fake.thaw(0)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0) == 693_500 + 695_000
    fake.step_back(0, 1e9)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(0) == 0


def test_a_lost_gpu_comes_back_with_a_new_init(play: Play) -> None:
    """A lost GPU answers its code everywhere, the others go on, and only a new init finds it again."""
    fake, asked = play("h100x8")
    asked.ask("kept.update(lost=gpu(2))")
    fake.lose(2)
    on_old_handle = "nvml.nvmlDeviceGetPowerUsage(kept['lost'])"
    assert asked.code(on_old_handle) == LOST
    assert asked.code("nvml.nvmlDeviceGetFieldValues(kept['lost'], [83])") == LOST
    assert asked.code("gpu(2)") == LOST
    assert asked.code(USAGE.format(3)) == 0
    fake.bring_back(2)
    assert asked.code(on_old_handle) == LOST
    asked.ask("nvml.nvmlShutdown()")
    asked.ask("nvml.nvmlInit()")
    assert asked.code(USAGE.format(2)) == 0

    fake.lose(2, RESET_REQUIRED)
    assert asked.code(USAGE.format(2)) == RESET_REQUIRED
    fake.bring_back(2, heal_handles=True)
    assert asked.code(USAGE.format(2)) == 0


def test_a_gpu_off_the_bus_is_not_counted(play: Play) -> None:
    """An unlisted GPU is gone at the next init, and the indices of those after it move."""
    fake, asked = play("ga100")
    fake.lose(1, listed=False)
    asked.ask("nvml.nvmlShutdown()")
    asked.ask("nvml.nvmlInit()")
    assert asked.ask("nvml.nvmlDeviceGetCount()") == 3
    assert asked.ask("nvml.nvmlDeviceGetUUID(gpu(1))") == fake.uuids[2]
    assert asked.code(f"nvml.nvmlDeviceGetHandleByUUID({fake.uuids[1]!r})") == NOT_FOUND


def test_order_changes_at_the_next_init(play: Play) -> None:
    """A new index order holds from the next init on, and positions in the scenario stay."""
    fake, asked = play("ga100")
    uuids = "[nvml.nvmlDeviceGetUUID(gpu(i)) for i in range(4)]"
    fake.swap_order(3, 1, 0, 2)
    assert asked.ask(uuids) == list(fake.uuids)
    asked.ask("nvml.nvmlShutdown()")
    asked.ask("nvml.nvmlInit()")
    assert asked.ask(uuids) == [fake.uuids[i] for i in (3, 1, 0, 2)]
    fake.set_clock(5)
    assert asked.ask(ENERGY.format(0)) == fake.energy_mj(3)


def test_functions_and_fields_fail_and_heal(play: Play) -> None:
    """A failure meets its function or field, its GPU and its number of times, and nothing else."""
    fake, asked = play("ga100")
    fake.fail("nvmlDeviceGetPowerUsage", UNKNOWN, gpu=1, times=2)
    assert [asked.code(USAGE.format(gpu)) for gpu in (0, 1, 1, 1)] == [0, UNKNOWN, UNKNOWN, 0]
    fake.fail(83, NO_PERMISSION, gpu=0)
    fake.fail((186, 0), UNKNOWN, gpu=0, times=1)
    assert [code for code, _, _ in fields(asked, 0, 83, 186, 186, 190)] == [NO_PERMISSION, UNKNOWN, 0, 0]
    assert [code for code, _, _ in fields(asked, 1, 83, 186)] == [0, 0]
    fake.fail(185, UNKNOWN)
    fake.heal()
    assert [code for code, _, _ in fields(asked, 0, 83, 185)] == [0, NOT_SUPPORTED]
    fake.fail("nvmlInitWithFlags", NOT_LOADED, times=1)
    assert asked.code("nvml.nvmlInit()") == NOT_LOADED
    assert asked.code("nvml.nvmlInit()") == 0


def test_require_restart(play: Play) -> None:
    """When library and driver are out of step every call says so, but a shutdown still shuts down."""
    fake, asked = play("h100")
    asked.ask("kept.update(old=gpu(0))")
    fake.require_restart()
    for call in ("gpu(0)", "nvml.nvmlInit()", "nvml.nvmlDeviceGetFieldValues(kept['old'], [83])"):
        assert asked.code(call) == MISMATCH
    asked.ask("nvml.nvmlShutdown()")
    assert fake.init_count() == 0


def test_a_hang_holds_up_nothing_else(play: Play) -> None:
    """A call that hangs on one GPU comes back when released; calls beside it come back at once."""
    fake, asked = play("ga100")
    asked.ask("kept.update(handles=[gpu(i) for i in range(4)])")
    usage = "nvml.nvmlDeviceGetPowerUsage(kept['handles'][{}])"
    fake.hang("nvmlDeviceGetPowerUsage", gpu=1)
    stuck = asked.ask_later(usage.format(1))
    wait_until(lambda: fake.hung() == 1)
    assert [asked.code(usage.format(gpu)) for gpu in (0, 2, 3)] == [0, 0, 0]
    assert asked.code("nvml.nvmlDeviceGetTotalEnergyConsumption(kept['handles'][1])") == 0
    fake.release()
    assert asked.answer(stuck) == fake.power_mw(1)
    assert fake.hung() == 0


def test_a_hang_may_outlive_the_init(play: Play) -> None:
    """A call that hung while NVML was shut down answers 1, and a new init works meanwhile."""
    fake, asked = play("ga100")
    asked.ask("kept.update(handle=gpu(0))")
    fake.hang("nvmlDeviceGetTotalEnergyConsumption")
    stuck = asked.ask_later("nvml.nvmlDeviceGetTotalEnergyConsumption(kept['handle'])")
    wait_until(lambda: fake.hung() == 1)
    asked.ask("nvml.nvmlShutdown()")
    fake.release()
    with pytest.raises(CodeError) as answered:
        asked.answer(stuck)
    assert answered.value.code == UNINITIALIZED
    asked.ask("nvml.nvmlInit()")
    assert asked.code(USAGE.format(0)) == 0


def test_slow_and_timed_hangs_end_by_themselves(play: Play) -> None:
    """A slow call takes at least its time, and so does one that hangs for some seconds."""
    fake, asked = play("h100")
    fake.slow(60, "nvmlDeviceGetPowerUsage")
    fake.hang("nvmlDeviceGetTotalEnergyConsumption", seconds=0.1)
    began = time.monotonic()
    assert asked.code(ENERGY.format(0)) == 0
    assert asked.code(USAGE.format(0)) == 0
    assert time.monotonic() - began >= 0.15
    fake.slow(0)
    assert asked.code(USAGE.format(0)) == 0


def test_calls_are_counted(play: Play) -> None:
    """Each call is counted by function and GPU, those that fail too."""
    fake, asked = play("h100x8")
    fake.clear_calls()
    asked.ask("[len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu(4))) for _ in range(3)]")
    asked.ask(USAGE.format(5))
    fake.lose(5)
    asked.code("gpu(5)")
    # pynvml asks twice for a list: for its size and for itself.
    assert fake.calls("nvmlDeviceGetComputeRunningProcesses_v3", 4) == 6
    assert fake.calls("nvmlDeviceGetComputeRunningProcesses_v3") == 6
    assert fake.calls(gpu=5) == 1
    assert fake.calls("nvmlDeviceGetHandleByIndex_v2") == 5
    assert fake.calls() == 6 + 1 + 5


# MIG

MIG_UUIDS = "[nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu({}), i)) for i in {}]"


def test_mig_layouts(play: Play) -> None:
    """Instances are found by index with holes, know their parent and say what they are."""
    fake, asked = play("mig")
    codes = [asked.code(f"nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), {i})") for i in range(8)]
    assert codes == [0, NOT_FOUND, 0, 0, NOT_FOUND, NOT_FOUND, NOT_FOUND, INVALID]
    assert asked.ask("[nvml.nvmlDeviceGetMigMode(gpu(i))[0] for i in range(4)]") == [1, 1, 1, 0]
    assert asked.ask("nvml.nvmlDeviceGetMaxMigDeviceCount(gpu(1))") == 7
    assert len(set(asked.ask(MIG_UUIDS.format(1, range(7))))) == 7
    asked.ask("kept.update(mig=nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 2))")
    assert asked.ask(
        "(lambda a: (a.gpuInstanceSliceCount, a.memorySizeMB))(nvml.nvmlDeviceGetAttributes_v2(kept['mig']))"
    ) == (2, 20096)
    assert asked.ask("nvml.nvmlDeviceGetGpuInstanceId(kept['mig'])") == 5
    assert asked.ask("nvml.nvmlDeviceGetComputeInstanceId(kept['mig'])") == 0
    assert asked.ask("nvml.nvmlDeviceGetName(kept['mig'])") == "NVIDIA H100 80GB HBM3 MIG 2g.20gb"
    assert asked.ask("nvml.nvmlDeviceGetMemoryInfo(kept['mig']).total") == 20096 << 20
    parent = "nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(kept['mig']))"
    assert asked.ask(parent) == fake.uuids[0]
    assert asked.ask("[nvml.nvmlDeviceIsMigDeviceHandle(h).value for h in (kept['mig'], gpu(0))]") == [1, 0]
    assert asked.code("nvml.nvmlDeviceGetGpuInstanceId(gpu(0))") == INVALID


def test_mig_instances_have_processes_and_no_energy(play: Play) -> None:
    """Processes belong to instances; energy, power and utilization do not exist there."""
    _, asked = play("mig")
    asked.ask("kept.update(mig=nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 0))")
    on_instance = "[(p.pid, p.gpuInstanceId) for p in nvml.nvmlDeviceGetComputeRunningProcesses({})]"
    assert asked.ask(on_instance.format("kept['mig']")) == [(7001, 1), (7002, 1)]
    assert asked.ask(on_instance.format("gpu(0)")) == [(7001, 1), (7002, 1), (7003, 5)]
    for call in (
        *("TotalEnergyConsumption", "PowerUsage", "UtilizationRates", "EnforcedPowerLimit"),
        *("CurrentClocksEventReasons",),
    ):
        assert asked.code(f"nvml.nvmlDeviceGet{call}(kept['mig'])") == NOT_SUPPORTED
    assert asked.ask("[v.nvmlReturn for v in nvml.nvmlDeviceGetFieldValues(kept['mig'], [83, 186])]") == [
        3,
        3,
    ]
    assert asked.code(ENERGY.format(0)) == 0
    assert asked.code("nvml.nvmlDeviceGetUtilizationRates(gpu(0))") == NOT_SUPPORTED
    assert asked.code("nvml.nvmlDeviceGetProcessUtilization(gpu(0), 0)") == NOT_SUPPORTED
    assert asked.code("nvml.nvmlDeviceGetUtilizationRates(gpu(3))") == 0


def test_mig_is_reconfigured_under_way(play: Play) -> None:
    """A destroyed instance's handle is invalid, new ones appear in its place, and the change is announced."""
    fake, asked = play("mig")
    asked.ask("kept.update(mig=nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 3))")
    asked.ask("kept.update(events=nvml.nvmlEventSetCreate())")
    asked.ask(f"nvml.nvmlDeviceRegisterEvents(gpu(0), {MIG_CONFIG_CHANGE}, kept['events'])")
    fake.set_mig(0, [None, MigInstance(3, 0, 3, 40448, "3g.40gb", processes=(81,))])
    assert asked.code("nvml.nvmlDeviceGetUUID(kept['mig'])") == INVALID
    assert [asked.code(f"nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), {i})") for i in range(4)] == [
        6,
        0,
        6,
        6,
    ]
    assert asked.ask(PROCESSES.format(0)) == [81]
    assert asked.ask("nvml.nvmlEventSetWait_v2(kept['events'], 5000).eventType") == MIG_CONFIG_CHANGE
    fake.set_mig(0, None)
    assert asked.ask("nvml.nvmlDeviceGetMigMode(gpu(0))") == [0, 0]
    asked.ask("nvml.nvmlEventSetFree(kept['events'])")


def test_no_mig_before_ampere(play: Play) -> None:
    """A card without MIG says that it does not support it."""
    _, asked = play("v100")
    assert asked.code("nvml.nvmlDeviceGetMigMode(gpu(0))") == NOT_SUPPORTED
    assert asked.code("nvml.nvmlDeviceGetMaxMigDeviceCount(gpu(0))") == NOT_SUPPORTED


# Events

EVENT = "(lambda e: (nvml.nvmlDeviceGetUUID(e.device), e.eventType, e.eventData, e.gpuInstanceId))({})"
WAIT = EVENT.format("nvml.nvmlEventSetWait_v2(kept['events'], {})")


def listen(asked: AskedPynvml, *gpus: int) -> None:
    asked.ask("kept.update(events=nvml.nvmlEventSetCreate())")
    for gpu in gpus:
        asked.ask(f"nvml.nvmlDeviceRegisterEvents(gpu({gpu}), {XID}, kept['events'])")


def test_a_wait_blocks_until_the_event(play: Play) -> None:
    """A wait comes back with the event that ends it, and with 10 where there is none."""
    fake, asked = play("ga100")
    listen(asked, 1, 2)
    assert fake.open_event_sets() == 1
    began = time.monotonic()
    assert asked.code(WAIT.format(100)) == TIMED_OUT
    assert time.monotonic() - began >= 0.1
    waiting = asked.ask_later(WAIT.format(60_000))
    wait_until(lambda: fake.waiting() == 1)
    fake.xid(3, 13)
    fake.emit(2, MIG_CONFIG_CHANGE)
    fake.xid(2, 79)
    assert asked.answer(waiting) == (fake.uuids[2], XID, 79, 0xFFFFFFFF)
    asked.ask("nvml.nvmlEventSetFree(kept['events'])")
    assert (fake.open_event_sets(), fake.waiting()) == (0, 0)


def test_a_wait_sleeps(play: Play) -> None:
    """While nothing happens a wait does not wake its thread, as a driver's does not."""
    fake, asked = play("ga100")
    listen(asked, 1)
    # Its thread alone is looked at: others of that process sleep for the interpreter's lock.
    asked.ask_later(f"[kept.update(waiter=__import__('threading').get_native_id()), {WAIT.format(60_000)}]")
    wait_until(lambda: fake.waiting() == 1)
    child, thread = asked.ask("(os.getpid(), kept['waiter'])")
    status = Path(f"/proc/{child}/task/{thread}/status")

    def sleeps() -> int:
        return int(status.read_text().split("voluntary_ctxt_switches:")[1].split()[0])

    before = sleeps()
    time.sleep(1)
    # One, if it had been seen on the way to its sleep.
    assert sleeps() - before <= 1
    assert fake.waiting() == 1


def test_events_queue_in_order(play: Play) -> None:
    """Events that come while nobody waits are kept in order; those before the set are not seen."""
    fake, asked = play("ga100")
    fake.xid(0, 1)
    listen(asked, 0)
    for number in (31, 43, 45):
        fake.xid(0, number, gpu_instance=2)
    seen = [asked.ask(WAIT.format(5000)) for _ in range(3)]
    assert [event[2:] for event in seen] == [(31, 2), (43, 2), (45, 2)]
    assert asked.code(WAIT.format(0)) == TIMED_OUT


def test_a_wait_ends_when_its_world_does(play: Play) -> None:
    """A lost GPU, a freed set and a shutdown each end a wait."""
    fake, asked = play("ga100")
    for end, code in (
        (lambda: fake.lose(0), LOST),
        (lambda: asked.ask("nvml.nvmlEventSetFree(kept['events'])"), INVALID),
        (lambda: asked.ask("nvml.nvmlShutdown()"), UNINITIALIZED),
    ):
        listen(asked, 0)
        waiting = asked.ask_later(WAIT.format(60_000))
        wait_until(lambda: fake.waiting() == 1)
        end()
        with pytest.raises(CodeError) as answered:
            asked.answer(waiting)
        assert answered.value.code == code
        fake.bring_back(0, heal_handles=code == LOST)


def test_unsupported_events_are_refused(play: Play) -> None:
    """Only the supported types can be registered."""
    _, asked = play("h100")
    types = asked.ask("nvml.nvmlDeviceGetSupportedEventTypes(gpu(0))")
    assert types & XID
    asked.ask("kept.update(events=nvml.nvmlEventSetCreate())")
    assert asked.code("nvml.nvmlDeviceRegisterEvents(gpu(0), 0x10, kept['events'])") == NOT_SUPPORTED


# Library variants


def test_an_old_driver_lacks_symbols(play: Play) -> None:
    """Symbols of newer drivers are missing, their fields answer 3, and the older ways work."""
    fake, asked = play("old_driver")
    fake.set_clock(5)
    for call in (
        *("nvmlDeviceGetProcessesUtilizationInfo(gpu(0), 0)", "nvmlDeviceGetTemperatureV(gpu(0), 0)"),
        *(
            "nvmlDeviceGetCurrentClocksEventReasons(gpu(0))",
            "nvmlDeviceGetMemoryInfo(gpu(0), nvml.nvmlMemory_v2)",
        ),
    ):
        assert asked.code(f"nvml.{call}") == NO_FUNCTION
    assert [code for code, _, _ in fields(asked, 0, 83, 185, 186, 190, 269, 74)] == [0, 3, 3, 3, 3, 0]
    assert asked.ask("nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu(0))") == 0
    assert asked.ask("nvml.nvmlDeviceGetTemperature(gpu(0), 0)") == 50
    assert asked.ask(PROCESSES.format(0)) == [8001]
    assert asked.ask("nvml.nvmlDeviceGetEnforcedPowerLimit(gpu(0))") == 400_000


def test_five_member_process_struct(play: Play) -> None:
    """The R535-era library writes entries of 32 bytes, and shows it by the symbols that it has and lacks."""
    fake, asked = play("h100", "process5")
    fake.set_processes(0, [31, 32])
    assert asked.code("nvml.nvmlDeviceGetConfComputeMemSizeInfo(gpu(0)).unprotectedMemSizeKib") == 0
    assert asked.code("nvml.nvmlDeviceGetRunningProcessDetailList(gpu(0), 0x1000018, 0)") == NO_FUNCTION
    asked.ask("kept.update(count=nvml.c_uint(2), room=(nvml.c_uint * 16)())")
    call = "nvml._nvmlGetFunctionPointer('nvmlDeviceGetComputeRunningProcesses_v3')"
    assert asked.ask(f"{call}(gpu(0), nvml.byref(kept['count']), kept['room'])") == 0
    assert asked.ask("[kept['room'][i] for i in (0, 8)]") == [31, 32]


def test_a_library_that_is_no_nvml(tmp_path: Path) -> None:
    """It loads by its SONAME, and the first symbol is missing."""
    with FakeNvml("h100", tmp_path, library="not_nvml") as fake, AskedPynvml(fake.environment()) as asked:
        assert asked.code("nvml.nvmlInit()") == NO_FUNCTION


def test_no_state_is_no_driver(tmp_path: Path) -> None:
    """Without a state file, or with one of another making, init answers "driver not loaded"."""
    with FakeNvml("h100", tmp_path) as fake:
        environment = fake.environment()
    (tmp_path / "h100.nvml").write_bytes(b"something else")
    with AskedPynvml(environment) as asked:
        assert asked.code("nvml.nvmlInit()") == NOT_LOADED
        asked.ask("os.environ.pop('FAKE_NVML_STATE')")
        assert asked.code("nvml.nvmlInit()") == NOT_LOADED


def test_preloading_by_path_is_enough(tmp_path: Path) -> None:
    """A library loaded by path serves pynvml by its SONAME, with no loader variable set."""
    with FakeNvml("h100", tmp_path) as fake:
        environment = fake.environment()
        del environment["LD_LIBRARY_PATH"]
        with AskedPynvml(environment) as asked:
            asked.ask(f"kept.update(library=nvml.CDLL({str(fake.library)!r}))")
            asked.ask("nvml.nvmlInit()")
            assert asked.ask("nvml.nvmlDeviceGetCount()") == 1


def test_each_variant_is_compiled_once(tmp_path: Path) -> None:
    """A second build of the same sources finds the first."""
    first = build_library("current", tmp_path)
    built_at = first.stat().st_mtime_ns
    assert build_library("current", tmp_path) == first
    assert first.stat().st_mtime_ns == built_at
    assert build_library("old_driver", tmp_path) != first


# Scenarios


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_scenario_plays(play: Play, path: Path) -> None:
    """Each checked-in scenario gives pynvml its cards."""
    fake, asked = play(path)
    assert asked.ask("[nvml.nvmlDeviceGetUUID(gpu(i)) for i in range(nvml.nvmlDeviceGetCount())]") == list(
        fake.uuids
    )
    assert asked.ask("nvml.nvmlDeviceGetName(gpu(0))") == fake.scenario.gpus[0].name


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"clok": "real"}, "clok"),
        ({"gpu": [{"generation": "h100", "watts": 3}]}, "watts"),
        ({"gpu": [{"generation": "tnt2"}]}, "tnt2"),
        ({"gpu": [{"generation": "h100", "curve": [[1, 3]]}]}, "from 0"),
    ],
)
def test_a_wrong_scenario_names_the_key(keys: dict[str, Any], named: str) -> None:
    """An unknown key or value stops the scenario and is named."""
    with pytest.raises(ValueError, match=named):
        parse_scenario("wrong", keys)
