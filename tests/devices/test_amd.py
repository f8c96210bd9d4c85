"""AMD GPUs: power from sysfs, energy from amdsmi when it can be believed.

The real amdsmi binds every symbol of libamd_smi.so at import, so a small C library cannot stand in for it.
Here a module of that name on sys.path speaks the few functions of its documented API that are used.
Another one raises as the real one does where its library is missing (amdsmi 7.0.2).
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.machine import Machine, set_int
from wattspan.devices.amd import AmdSource
from wattspan.errors import NotHereError
from wattspan.model import GpuReading, SourceReport

MI210 = "0000:29:00.0"
MI250 = ("0000:c1:00.0", "0000:c6:00.0")
SERIAL = "2bbd1d4bb8b1a4ee"
RESOLUTION_UJ = 15.258789  # as a float32 arrives in Python

AMDSMI = """
import enum, json, pathlib

STATE = pathlib.Path(__file__).with_name("accumulators.json")
class AmdSmiInitFlags(enum.IntEnum):
    INIT_AMD_GPUS = 2
class AmdSmiLibraryException(Exception):
    pass
def _state(): return json.loads(STATE.read_text())
def amdsmi_init(flag=AmdSmiInitFlags.INIT_AMD_GPUS): print("noise on stdout")
def amdsmi_shut_down(): STATE.with_name("shut_down").touch()
def amdsmi_get_processor_handles(): return list(_state()["cards"])
def amdsmi_get_gpu_device_bdf(handle): return handle.upper()
def amdsmi_get_energy_count(handle):
    count = _state()["cards"][handle]
    if count is None:
        raise AmdSmiLibraryException("AMDSMI_STATUS_NOT_SUPPORTED")
    return {"energy_accumulator": count, "counter_resolution": _state()["resolution"], "timestamp": 1}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "host")


@pytest.fixture(autouse=True)
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Puts a module where ``import amdsmi`` finds it; until then the import fails, as without the package."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def put(text: str) -> Path:
        (folder / "amdsmi.py").write_text(text)
        importlib.invalidate_caches()
        return folder

    put("raise ModuleNotFoundError('not installed')")
    yield put
    sys.modules.pop("amdsmi", None)


def accumulate(folder: Path, **counts: int | None) -> None:
    cards = ", ".join(
        f'"{address}": {"null" if count is None else count}' for address, count in counts.items()
    )
    (folder / "accumulators.json").write_text(f'{{"resolution": {RESOLUTION_UJ}, "cards": {{{cards}}}}}')


def source_of(machine: Machine) -> AmdSource:
    return AmdSource("node-a", machine.sys, machine.clock)


def card(machine: Machine, address: str = MI210, number: int = 4, **files: object) -> Path:
    facts: dict[str, object] = {
        "power1_average": 89_000_000,
        "power1_cap": 300_000_000,
        "temp1_label": "edge",
        "temp1_input": 41_000,
        "temp2_label": "junction",
        "temp2_input": 55_000,
        "freq1_input": 1_700_000_000,
        "device__device": "0x740f",
        "device__gpu_busy_percent": 37,
        "device__mem_info_vram_used": 11_534_336,
        "device__mem_info_vram_total": 68_702_699_520,
    }
    return machine.chip(number, address, "amdgpu", **{**facts, **files})


def only(report: SourceReport) -> GpuReading:
    (reading,) = report.gpus
    assert not report.failures
    return reading


def test_sysfs_alone_gives_power_and_state(machine: Machine) -> None:
    """Without amdsmi power is read, the ledger is told to integrate it, and the reason is said."""
    card(machine, device__unique_id=SERIAL, device__product_name="AMD Instinct MI210")
    machine.write("sys/module/amdgpu/version", "6.8.5")
    source = source_of(machine)
    assert "not installed" in source.open()
    reading = only(source.read())
    gpu = reading.gpu
    assert (gpu.uuid, gpu.model, gpu.vendor) == (f"amd-{SERIAL}", "AMD Instinct MI210", "amd")
    assert (gpu.driver_version, gpu.power_source, gpu.has_energy_counter) == ("6.8.5", "usage", False)
    assert (reading.energy_uj, reading.power_uw, reading.power_instant_uw) == (None, 89_000_000, None)
    assert (reading.power_limit_uw, reading.utilization_ratio) == (300_000_000, 0.37)
    assert (reading.memory_used_bytes, reading.memory_total_bytes) == (11_534_336, 68_702_699_520)
    assert (reading.temperature_celsius, reading.sm_clock_hertz) == (41.0, 1_700_000_000)


def test_newer_cards_have_the_instant_value_and_no_edge_sensor(machine: Machine) -> None:
    """On MI300 power1_input and the junction temperature are what there is."""
    chip = card(machine, power1_input=717_000_000, temp1_label="mem", temp1_input=60_000)
    (chip / "power1_average").unlink()
    source = source_of(machine)
    source.open()
    reading = only(source.read())
    assert (reading.power_uw, reading.power_instant_uw) == (717_000_000, 717_000_000)
    assert reading.temperature_celsius == 55.0


def test_card_without_a_serial_is_named_by_node_and_address(machine: Machine) -> None:
    """A PCI address alone repeats on every node; the model falls back to the PCI id."""
    card(machine)
    source = source_of(machine)
    source.open()
    gpu = only(source.read()).gpu
    assert (gpu.uuid, gpu.model) == (f"amd-{MI210}-node-a", "AMD GPU 0x740f")


def test_second_die_of_an_mi250_has_no_power(machine: Machine) -> None:
    """The first die reports both; the second one's 0 W is no reading."""
    card(machine, MI250[0], 1)
    card(machine, MI250[1], 2, power1_average=0)
    source = source_of(machine)
    source.open()
    first, second = source.read().gpus
    assert (first.power_uw, first.gpu.power_source) == (89_000_000, "usage")
    assert (second.power_uw, second.gpu.power_source) == (None, "none")


def test_apu_is_a_platform_sensor(machine: Machine) -> None:
    """An APU's power contains the CPU that RAPL counts, so it is shown and never summed."""
    card(machine, "0000:c4:00.0", in1_input=800)
    source = source_of(machine)
    assert "as a platform sensor" in source.open()
    report = source.read()
    assert not report.gpus
    assert [(p.sensor, p.power_uw) for p in report.platforms] == [("apu-0000:c4:00.0", 89_000_000)]


def test_energy_is_the_accumulator_times_its_resolution(
    machine: Machine, install: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """amdsmi's counter becomes whole microjoules, exact however large, and its noise stays off our stdout."""
    count = 2**58  # as floats, microjoules of this size are 512 apart
    card(machine, device__unique_id=SERIAL)
    folder = install(AMDSMI)
    accumulate(folder, **{MI210: count})
    source = source_of(machine)
    assert "integrated" not in source.open()
    assert only(source.read()).energy_uj is None  # it proves itself by moving
    machine.clock.advance(1)
    accumulate(folder, **{MI210: count + 3})
    numerator, denominator = RESOLUTION_UJ.as_integer_ratio()
    reading = only(source.read())
    assert reading.energy_uj == (count + 3) * numerator // denominator
    assert reading.gpu.has_energy_counter
    assert (reading.gpu.uuid, reading.power_uw) == (f"amd-{SERIAL}", 89_000_000)
    assert capsys.readouterr().out == ""
    source.close()
    assert (folder / "shut_down").exists()


def test_accumulator_that_never_moves_is_given_up_for_power(
    machine: Machine, install: Callable[[str], Path]
) -> None:
    """A frozen accumulator (MI100, MI210) is no 0 J: after a minute the ledger is told to integrate."""
    card(machine)
    accumulate(install(AMDSMI), **{MI210: 1_000})
    source = source_of(machine)
    source.open()
    readings = []
    for _ in range(61):
        machine.clock.advance(1)
        readings.append(only(source.read()))
    assert all(reading.energy_uj is None for reading in readings)
    assert [r.gpu.has_energy_counter for r in readings] == [True] * 59 + [False] * 2


def test_accumulator_that_falls_silent_is_given_up_for_power(
    machine: Machine, install: Callable[[str], Path]
) -> None:
    """One failed call is a gap in the counter; a minute of them ends it, and power goes on throughout."""
    card(machine)
    folder = install(AMDSMI)
    accumulate(folder, **{MI210: 1_000})
    source = source_of(machine)
    source.open()
    machine.clock.advance(1)
    accumulate(folder, **{MI210: 2_000})
    assert only(source.read()).energy_uj is not None
    accumulate(folder, **{MI210: None})
    readings = []
    for _ in range(60):
        machine.clock.advance(1)
        readings.append(only(source.read()))
    assert all(r.energy_uj is None and r.power_uw == 89_000_000 for r in readings)
    assert [r.gpu.has_energy_counter for r in readings] == [True] * 59 + [False]


def test_sleep_is_no_standstill(machine: Machine, install: Callable[[str], Path]) -> None:
    """A suspended card is not woken, and its accumulator is still believed when it wakes."""
    card(machine)
    folder = install(AMDSMI)
    accumulate(folder, **{MI210: 1_000})
    source = source_of(machine)
    source.open()
    machine.clock.advance(1)
    accumulate(folder, **{MI210: 2_000})
    source.read()
    status = machine.write(f"sys/devices/{MI210}/power/runtime_status", "suspended")
    for _ in range(90):
        machine.clock.advance(1)
        asleep = only(source.read())
    assert (asleep.power_uw, asleep.energy_uj) == (None, None)
    status.write_text("active\n")
    assert only(source.read()).gpu.has_energy_counter
    machine.clock.advance(1)
    accumulate(folder, **{MI210: 3_000})
    assert only(source.read()).energy_uj == int(3_000 * RESOLUTION_UJ)


def test_die_without_a_counter_integrates_beside_one_that_has_it(
    machine: Machine, install: Callable[[str], Path]
) -> None:
    """A counter at 0 or not supported is none; the other card keeps its own."""
    for number, address in enumerate([*MI250, MI210]):
        card(machine, address, number)
    accumulate(install(AMDSMI), **{MI250[0]: 5_000, MI250[1]: 0, MI210: None})
    source = source_of(machine)
    source.open()
    by_address = {r.gpu.uuid: r.gpu.has_energy_counter for r in source.read().gpus}
    assert by_address == {
        f"amd-{MI210}-node-a": False,
        f"amd-{MI250[0]}-node-a": True,
        f"amd-{MI250[1]}-node-a": False,
    }


@pytest.mark.parametrize(
    "text",
    [
        "print('Unable to find libamd_smi.so'); raise KeyError('libamd_smi.so')",
        "raise AttributeError('undefined symbol: amdsmi_new_thing')",
        "raise OSError('cannot open shared object file')",
        "",
        AMDSMI.replace('print("noise on stdout")', "raise AmdSmiLibraryException('driver not loaded')"),
        AMDSMI.replace('return list(_state()["cards"])', "raise AmdSmiLibraryException('busy')"),
        AMDSMI,  # knows no card
    ],
)
def test_any_failure_of_amdsmi_leaves_sysfs(
    machine: Machine, install: Callable[[str], Path], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Whatever the library does at import, at start or when asked for cards, power is still read."""
    card(machine)
    accumulate(install(text))
    source = source_of(machine)
    assert "energy is integrated from power: amdsmi" in source.open()
    assert only(source.read()).power_uw == 89_000_000
    assert capsys.readouterr().out == ""


def test_no_amd_gpu_is_not_here(machine: Machine) -> None:
    """Without amdgpu the source is absent, and amdsmi is not even imported."""
    with pytest.raises(NotHereError, match="amdgpu"):
        source_of(machine).open()
    assert "amdsmi" not in sys.modules


def test_lost_card_leaves_the_other(machine: Machine) -> None:
    """A card whose files are gone is lost; its neighbour is read, and it comes back by itself."""
    chip = card(machine, MI250[0], 1)
    card(machine, MI250[1], 2)
    source = source_of(machine)
    source.open()
    (chip / "power1_average").unlink()
    report = source.read()
    assert [reading.gpu.index for reading in report.gpus] == [1]
    assert [(f.reason, f.device) for f in report.failures] == [("lost", f"amd-{MI250[0]}-node-a")]
    set_int(chip / "power1_average", 91_000_000)
    assert len(source.read().gpus) == 2


def test_garbage_power_is_malformed_and_garbage_details_are_left_out(machine: Machine) -> None:
    """Power that is no number fails the card; a bad detail costs only its figure."""
    chip = card(machine, device__gpu_busy_percent="busy")
    source = source_of(machine)
    source.open()
    assert only(source.read()).utilization_ratio is None
    (chip / "power1_average").write_text("N/A\n")
    assert [failure.reason for failure in source.read().failures] == ["malformed"]
