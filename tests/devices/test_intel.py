"""Intel GPUs: energy from i915 and xe, power from its delta."""

from pathlib import Path

import pytest

from tests.fakes.machine import Machine, set_int
from wattspan.devices.intel import IntelSource
from wattspan.errors import NotHereError
from wattspan.model import Gpu, GpuReading, SourceReport

FLEX = "0000:4d:00.0"
B580 = "0000:03:00.0"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "host")


def source_of(machine: Machine, node: str = "node-a") -> IntelSource:
    return IntelSource(node, machine.sys, machine.clock)


def i915(machine: Machine) -> Path:
    return machine.chip(
        3,
        FLEX,
        "i915",
        energy1_input=1_000_000,
        power1_max=150_000_000,
        power1_rated_max=150_000_000,
        temp1_input=51_000,
        device__device="0x56c0",
        device__power__runtime_status="unused",
    )


def xe(machine: Machine) -> Path:
    return machine.chip(
        1,
        B580,
        "xe",
        energy1_input=9_000_000,
        energy2_input=5_000_000,
        power1_max=0,
        power1_rated_max=190_000_000,
        temp2_label="pkg",
        temp2_input=48_500,
        temp3_label="vram",
        temp3_input=60_000,
        device__device="0xe20b",
    )


def step(machine: Machine, source: IntelSource, chip: Path, by_uj: int, seconds: float = 1) -> SourceReport:
    """Time passes, the card counter counts on, and the source looks."""
    machine.clock.advance(seconds)
    file = chip / "energy1_input"
    set_int(file, int(file.read_text()) + by_uj)
    return source.read()


def only(report: SourceReport) -> GpuReading:
    (reading,) = report.gpus
    assert not report.failures
    return reading


def test_i915_gives_energy_power_limit_and_temperature(machine: Machine) -> None:
    """The counter is passed on as it stands, and power is its delta over the last second."""
    chip = i915(machine)
    source = source_of(machine)
    source.open()
    first = only(source.read())
    assert (first.energy_uj, first.power_uw) == (None, None)  # a counter proves itself by moving
    step(machine, source, chip, 80_000_000)
    reading = only(step(machine, source, chip, 80_000_000))
    assert reading.gpu == Gpu(
        uuid=f"intel-{FLEX}-node-a",
        index=0,
        model="Intel GPU 0x56c0",
        vendor="intel",
        power_source="energy_delta",
    )
    assert reading.energy_uj == 161_000_000
    assert reading.power_uw == 80_000_000
    assert reading.power_limit_uw == 150_000_000
    assert reading.temperature_celsius == 51.0
    assert reading.read_at_ns == machine.clock.now_ns


def test_xe_card_is_preferred_and_a_limit_switched_off_is_the_rated_one(machine: Machine) -> None:
    """energy1 is the card and contains the package; a PL1 of 0 means off, so the rated maximum bounds."""
    chip = xe(machine)
    source = source_of(machine)
    source.open()
    reading = only(step(machine, source, chip, 60_000_000))
    reading = only(step(machine, source, chip, 60_000_000))
    assert reading.energy_uj == 129_000_000
    assert reading.power_limit_uw == 190_000_000
    assert reading.temperature_celsius == 48.5


def test_xe_with_the_package_alone_is_read_there(machine: Machine) -> None:
    """DG2 under xe has energy2 only, with its own limit."""
    chip = machine.chip(0, B580, "xe", energy2_input=7, power2_max=225_000_000)
    source = source_of(machine)
    source.open()
    source.read()
    machine.clock.advance(1)
    set_int(chip / "energy2_input", 90)
    reading = only(source.read())
    assert (reading.energy_uj, reading.power_limit_uw) == (90, 225_000_000)


def test_tiles_and_chips_without_energy_are_no_cards(machine: Machine) -> None:
    """i915_gtN lies inside the card; a chip without a counter is not metered."""
    machine.chip(0, FLEX, "i915_gt0", energy1_input=1)
    machine.chip(1, B580, "xe", temp2_input=1)
    with pytest.raises(NotHereError, match="no discrete Intel GPU"):
        source_of(machine).open()


def test_index_and_uuid_follow_the_pci_address(machine: Machine) -> None:
    """hwmon numbers change at a reboot; the PCI address does not, and two nodes never share a uuid."""
    i915(machine)
    xe(machine)
    source = source_of(machine)
    source.open()
    assert [(r.gpu.index, r.gpu.uuid) for r in source.read().gpus] == [
        (0, f"intel-{B580}-node-a"),
        (1, f"intel-{FLEX}-node-a"),
    ]
    other = source_of(machine, "node-b")
    other.open()
    assert other.read().gpus[0].gpu.uuid == f"intel-{B580}-node-b"


def test_power_is_not_taken_over_short_windows(machine: Machine) -> None:
    """At ten looks a second, power stays the last second's mean instead of the counter's ripple."""
    chip = i915(machine)
    source = source_of(machine)
    source.open()
    source.read()
    powers = [only(step(machine, source, chip, 2 * n * 1_000_000, 0.1)).power_uw for n in range(20)]
    assert len(set(powers)) == 3  # none, the first second, the second one


def test_sleeping_card_is_not_woken(machine: Machine) -> None:
    """A suspended GPU is shown without figures and its sensors are not touched; awake it counts on."""
    chip = i915(machine)
    source = source_of(machine)
    source.open()
    step(machine, source, chip, 50_000_000)
    status = machine.write(f"sys/devices/{FLEX}/power/runtime_status", "suspended")
    energy_uj = int((chip / "energy1_input").read_text())
    (chip / "energy1_input").unlink()  # a look at it would now fail
    for _ in range(90):
        machine.clock.advance(1)
        asleep = only(source.read())
    assert (asleep.energy_uj, asleep.power_uw, asleep.power_limit_uw) == (None, None, None)
    set_int(chip / "energy1_input", energy_uj)
    status.write_text("active\n")
    assert only(source.read()).energy_uj is None
    assert only(step(machine, source, chip, 1_000)).energy_uj == energy_uj + 1_000


def test_counter_that_stands_still_is_malformed(machine: Machine) -> None:
    """A minute without a microjoule is a broken counter, not an idle card."""
    i915(machine)
    source = source_of(machine)
    source.open()
    source.read()
    machine.clock.advance(60)
    report = source.read()
    assert not report.gpus
    assert [(f.reason, f.device) for f in report.failures] == [("malformed", f"intel-{FLEX}-node-a")]


def test_one_card_that_fails_leaves_the_other(machine: Machine) -> None:
    """A card that fell off the bus is lost; its neighbour is read."""
    lost, kept = i915(machine), xe(machine)
    source = source_of(machine)
    source.open()
    (lost / "energy1_input").unlink()
    report = step(machine, source, kept, 1)
    assert [reading.gpu.uuid for reading in report.gpus] == [f"intel-{B580}-node-a"]
    assert [(f.reason, f.device) for f in report.failures] == [("lost", f"intel-{FLEX}-node-a")]


def test_garbage_in_secondary_files_costs_only_their_figure(machine: Machine) -> None:
    """Energy does not depend on a temperature."""
    chip = i915(machine)
    (chip / "temp1_input").write_text("hot\n")
    source = source_of(machine)
    source.open()
    source.read()
    reading = only(step(machine, source, chip, 1_000))
    assert (reading.energy_uj, reading.temperature_celsius) == (1_001_000, None)
