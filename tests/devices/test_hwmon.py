"""ACPI power meters: the Grace CPU rail counts as host energy, everything wider is shown and never summed."""

from pathlib import Path

import pytest

from tests.fakes.machine import START_NS, Machine, set_int
from wattspan.devices.hwmon import HwmonSource
from wattspan.errors import NotHereError
from wattspan.model import HostReading, PlatformReading

GRACE = {"Module": 610, "Grace": 180, "CPU": 120, "SysIO": 25}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "host")


def source_of(machine: Machine) -> HwmonSource:
    return HwmonSource(machine.sys, machine.clock)


def grace(machine: Machine, sockets: int = 1) -> list[Path]:
    """The meters of Grace sockets, each an ACPI instance with one channel; hwmon numbers run backwards."""
    labels = [(f"{rail} Power Socket {n}", watts) for n in range(sockets) for rail, watts in GRACE.items()]
    return [
        machine.chip(
            len(labels) - n,
            f"ACPI000D:{n:02d}",
            "power_meter",
            power1_average=watts * 1_000_000,
            power1_oem_info=label,
        )
        for n, (label, watts) in enumerate(labels)
    ]


def test_grace_cpu_rail_is_host_and_the_rest_is_platform(machine: Machine) -> None:
    """Module contains Grace, Grace contains CPU and SysIO: one rail alone is host energy."""
    grace(machine, sockets=2)
    source = source_of(machine)
    source.open()
    report = source.read()
    assert report.hosts == (
        HostReading("cpu", "grace-0", START_NS, power_uw=120_000_000),
        HostReading("cpu", "grace-1", START_NS, power_uw=120_000_000),
    )
    assert [(platform.sensor, platform.power_uw) for platform in report.platforms] == [
        ("grace-module-0", 610_000_000),
        ("grace-grace-0", 180_000_000),
        ("grace-sysio-0", 25_000_000),
        ("grace-module-1", 610_000_000),
        ("grace-grace-1", 180_000_000),
        ("grace-sysio-1", 25_000_000),
    ]


def test_newer_firmware_names_the_rails_otherwise(machine: Machine) -> None:
    """Of "CPU Rail Input" and "CPU Rail Output" the input is the host's; both are one rail."""
    labels = ["Total Input", "CPU Rail Input", "CPU Rail Output"]
    for number, label in enumerate(labels):
        machine.chip(
            number,
            f"ACPI000D:{number:02d}",
            "power_meter",
            power1_average=70_000_000 + number,
            power1_oem_info=f"{label} Power in uW socket 0",
        )
    source = source_of(machine)
    source.open()
    report = source.read()
    assert [(host.device, host.power_uw) for host in report.hosts] == [("grace-0", 70_000_001)]
    assert [p.sensor for p in report.platforms] == ["grace-total-input-0", "grace-cpu-rail-output-0"]


def test_acpi_meter_without_a_label_is_the_whole_box(machine: Machine) -> None:
    """A server's ACPI meter is a platform sensor, counted by ACPI instance and not by hwmon number."""
    machine.chip(7, "ACPI000D:00", "power_meter", power1_average=450_000_000)
    machine.chip(2, "ACPI000D:01", "power_meter", power1_average=90_000_000)
    source = source_of(machine)
    assert source.open() == "acpi-power-meter-0, acpi-power-meter-1"
    assert source.read().platforms == (
        PlatformReading("acpi-power-meter-0", START_NS, 450_000_000),
        PlatformReading("acpi-power-meter-1", START_NS, 90_000_000),
    )
    assert not source.read().hosts


def test_attributes_on_the_acpi_device_are_found(machine: Machine) -> None:
    """Older kernels put name and power on the ACPI device, beside the empty chip."""
    chip = machine.chip(
        0,
        "ACPI000D:00",
        "unused",
        device__name="power_meter",
        device__power1_average=120_000_000,
        device__power1_oem_info="CPU Power Socket 0",
    )
    (chip / "name").unlink()
    source = source_of(machine)
    source.open()
    assert [host.device for host in source.read().hosts] == ["grace-0"]


def test_a_meter_that_only_has_the_instant_value_is_read(machine: Machine) -> None:
    """Where the firmware does not average, powerN_input is taken."""
    machine.chip(0, "ACPI000D:00", "power_meter", power1_input=300_000_000)
    source = source_of(machine)
    source.open()
    assert source.read().platforms[0].power_uw == 300_000_000


def test_several_channels_of_one_chip_are_read_in_order(machine: Machine) -> None:
    """power10 stands after power2: numbers sort as numbers."""
    files = {f"power{n}_average": n * 1_000_000 for n in (10, 2, 1)}
    machine.chip(0, "ACPI000D:00", "power_meter", **files)
    source = source_of(machine)
    source.open()
    assert [p.power_uw for p in source.read().platforms] == [1_000_000, 2_000_000, 10_000_000]


def test_other_chips_are_left_alone(machine: Machine) -> None:
    """Temperature chips and GPUs are no power meters of the box."""
    machine.chip(0, "0000:03:00.0", "amdgpu", power1_average=1)
    machine.chip(1, "coretemp.0", "coretemp", temp1_input=45_000)
    with pytest.raises(NotHereError, match="force_cap_on"):
        source_of(machine).open()


def test_no_hwmon_at_all_is_not_here(machine: Machine) -> None:
    """Without the class the source is absent."""
    with pytest.raises(NotHereError):
        source_of(machine).open()


@pytest.mark.parametrize(
    ("content", "reason"), [("0", "malformed"), ("-5", "malformed"), ("", "malformed"), ("nan", "malformed")]
)
def test_zero_and_garbage_are_failures_of_that_meter_alone(
    machine: Machine, content: str, reason: str
) -> None:
    """A powered rail never draws 0 W; such a meter fails while the others carry on."""
    chips = grace(machine)
    source = source_of(machine)
    source.open()
    (chips[2] / "power1_average").write_text(content)
    report = source.read()
    assert not report.hosts
    assert len(report.platforms) == 3
    assert [(failure.reason, failure.device) for failure in report.failures] == [(reason, "grace-0")]


def test_a_meter_that_vanishes_is_lost_and_comes_back(machine: Machine) -> None:
    """A driver that is unloaded and loaded again needs no new open."""
    chip = grace(machine)[2]
    source = source_of(machine)
    source.open()
    (chip / "power1_average").unlink()
    assert [failure.reason for failure in source.read().failures] == ["lost"]
    set_int(chip / "power1_average", 119_000_000)
    assert source.read().hosts[0].power_uw == 119_000_000
