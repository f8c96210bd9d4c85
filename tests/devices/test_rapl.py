"""RAPL through powercap: each joule through one door, raw counters, and no counter that does not count."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.machine import START_NS, Machine, set_int, unprivileged
from wattspan.devices.rapl import RaplSource
from wattspan.errors import NotHereError, ReadError
from wattspan.model import SourceReport

RANGE_UJ = 262_143_328_850


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "host")
    machine.cpu()
    return machine


@pytest.fixture
def strict_machine() -> Iterator[Machine]:
    """Outside pytest's folders, which only their owner may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder) / "host")
        machine.cpu()
        yield machine


def source_of(machine: Machine) -> RaplSource:
    return RaplSource(machine.sys, machine.proc, machine.clock)


def step(machine: Machine, source: RaplSource, *zones: Path, by_uj: int = 70_000_000) -> SourceReport:
    """One second passes, these zones count on, and the source looks."""
    machine.clock.advance(1)
    for zone in zones:
        set_int(zone / "energy_uj", int((zone / "energy_uj").read_text()) + by_uj)
    return source.read()


def devices(report: SourceReport) -> list[tuple[str, str]]:
    return [(host.component, host.device) for host in report.hosts]


def test_reads_packages_and_dram_once_each(machine: Machine) -> None:
    """Packages are cpu and their dram is dram; core and uncore lie inside and are left out."""
    zones = [
        machine.zone("intel-rapl:0", "package-0"),
        machine.zone("intel-rapl:0:0", "core"),
        machine.zone("intel-rapl:0:1", "uncore"),
        machine.zone("intel-rapl:0:2", "dram"),
        machine.zone("intel-rapl:1", "package-1"),
        machine.zone("intel-rapl:1:0", "dram"),
    ]
    source = source_of(machine)
    assert source.open() == "cpu package-0, dram package-0, cpu package-1, dram package-1"
    report = step(machine, source, *zones)
    assert devices(report) == [
        ("cpu", "package-0"),
        ("dram", "package-0"),
        ("cpu", "package-1"),
        ("dram", "package-1"),
    ]
    assert not report.failures


def test_counter_and_range_are_passed_on_raw(machine: Machine) -> None:
    """A wrap is not undone here: the reading has the register as it stands and its range."""
    zone = machine.zone("intel-rapl:0", "package-0", RANGE_UJ - 1_000, RANGE_UJ)
    source = source_of(machine)
    source.open()
    machine.clock.advance(1)
    set_int(zone / "energy_uj", 70_000_000)
    (host,) = source.read().hosts
    assert (host.energy_uj, host.wraps_at_uj, host.power_uw) == (70_000_000, RANGE_UJ, None)
    assert host.read_at_ns == START_NS + 1_000_000_000
    assert not host.estimated


def test_power_limit_is_the_largest_that_a_constraint_names(machine: Machine) -> None:
    """Turbo may exceed the rated power, so the bound is the largest limit."""
    zone = machine.zone(
        "intel-rapl:0",
        "package-0",
        constraint_0_max_power_uw=205_000_000,
        constraint_0_power_limit_uw=205_000_000,
        constraint_1_max_power_uw=0,
        constraint_1_power_limit_uw=246_000_000,
    )
    source = source_of(machine)
    source.open()
    assert step(machine, source, zone).hosts[0].power_limit_uw == 246_000_000


@pytest.mark.parametrize(
    "limits_uw",
    [
        pytest.param([4_095_000_000, 4_095_000_000], id="a board that lifts them"),
        pytest.param([125_000_000, 4_095_875_000], id="turbo alone without a limit"),
        pytest.param([0], id="none set"),
        pytest.param([], id="none named"),
    ],
)
def test_rated_power_alone_is_no_limit(machine: Machine, limits_uw: list[int]) -> None:
    """Where a constraint means "no limit", or none says how much it allows, no power is called impossible."""
    limits = {f"constraint_{n}_power_limit_uw": limit_uw for n, limit_uw in enumerate(limits_uw)}
    zone = machine.zone("intel-rapl:0", "package-0", constraint_0_max_power_uw=125_000_000, **limits)
    source = source_of(machine)
    source.open()
    assert step(machine, source, zone).hosts[0].power_limit_uw is None


def test_power_limit_is_unknown_where_no_constraint_exists(machine: Machine) -> None:
    """AMD's zones have no constraints; then there is no bound."""
    zone = machine.zone("intel-rapl:0", "package-0")
    source = source_of(machine)
    source.open()
    assert step(machine, source, zone).hosts[0].power_limit_uw is None


def test_same_counter_behind_msr_and_mmio_is_read_once(machine: Machine) -> None:
    """A name that both control types offer is one counter; the MSR's is taken."""
    mmio = machine.zone("intel-rapl-mmio:0", "package-0", 1)
    msr = machine.zone("intel-rapl:0", "package-0", 1_000_000)
    source = source_of(machine)
    source.open()
    (host,) = step(machine, source, mmio, msr).hosts
    assert host.energy_uj == 71_000_000


def test_mmio_alone_is_read(machine: Machine) -> None:
    """Where only the MMIO door exists it is the counter."""
    zone = machine.zone("intel-rapl-mmio:0", "package-0")
    source = source_of(machine)
    source.open()
    assert devices(step(machine, source, zone)) == [("cpu", "package-0")]


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "HygonGenuine"])
def test_amd_dies_repeat_their_socket_and_count_once(machine: Machine, vendor: str) -> None:
    """On AMD each die's zone shows the whole socket: one stays, under the socket's name."""
    machine.cpu(vendor)
    zones = [
        machine.zone(f"intel-rapl:{socket * 2 + die}", f"package-{socket}-die-{die}")
        for socket in range(2)
        for die in range(2)
    ]
    source = source_of(machine)
    source.open()
    report = step(machine, source, *zones)
    assert devices(report) == [("cpu", "package-0"), ("cpu", "package-1")]


def test_intel_dies_have_counters_of_their_own(machine: Machine) -> None:
    """On Intel each die counts for itself, its dram too: all are kept apart."""
    zones = [
        machine.zone("intel-rapl:0", "package-0-die-0"),
        machine.zone("intel-rapl:1", "package-0-die-1"),
        machine.zone("intel-rapl:1:0", "dram"),
    ]
    source = source_of(machine)
    source.open()
    report = step(machine, source, *zones)
    assert devices(report) == [
        ("cpu", "package-0-die-0"),
        ("cpu", "package-0-die-1"),
        ("dram", "package-0-die-1"),
    ]


def test_psys_is_a_platform_sensor_with_mean_power(machine: Machine) -> None:
    """psys contains the packages: it is power on the platform, never host energy."""
    package = machine.zone("intel-rapl:0", "package-0")
    psys = machine.zone("intel-rapl:1", "psys", RANGE_UJ - 30_000_000)
    source = source_of(machine)
    source.open()
    assert not step(machine, source, package, psys, by_uj=10_000_000).platforms
    (platform,) = step(machine, source, package, psys, by_uj=12_000_000).platforms
    assert (platform.sensor, platform.power_uw) == ("rapl-psys", 12_000_000)
    set_int(psys / "energy_uj", 5)
    after_wrap = step(machine, source, package)
    assert not after_wrap.platforms
    assert devices(after_wrap) == [("cpu", "package-0")]


def test_links_resolve_under_the_root_that_is_given(machine: Machine) -> None:
    """A host's sysfs mounted elsewhere is read there: the class's links are relative."""
    zone = machine.zone("intel-rapl:0", "package-0")
    assert zone.resolve().is_relative_to(machine.sys)
    source = source_of(machine)
    assert source.open() == "cpu package-0"


def test_no_powercap_is_not_here(machine: Machine) -> None:
    """Without powercap the source is absent and says what may be missing."""
    with pytest.raises(NotHereError, match="intel_rapl_msr"):
        source_of(machine).open()


def test_masked_powercap_says_how_to_mount_it(machine: Machine) -> None:
    """Links that lead nowhere are a container's mask; the text names the mend."""
    zone = machine.zone("intel-rapl:0", "package-0")
    target = zone.resolve()
    target.rename(target.with_name("masked"))
    with pytest.raises(NotHereError, match=r"--path\.sysfs"):
        source_of(machine).open()


def test_powercap_without_a_zone_of_ours_is_not_here(machine: Machine) -> None:
    """A tree with nothing to read is absent, not a crash."""
    machine.zone("intel-rapl:0", "core")
    with pytest.raises(NotHereError, match="no package, dram or psys"):
        source_of(machine).open()


def test_unreadable_zones_are_not_here_and_name_the_privilege(strict_machine: Machine) -> None:
    """energy_uj is for root alone; whoever is not root learns what to do, once."""
    zone = strict_machine.zone("intel-rapl:0", "package-0")
    (zone / "energy_uj").chmod(0o400 if zone.stat().st_uid == 0 else 0)
    with unprivileged(), pytest.raises(NotHereError) as caught:
        source_of(strict_machine).open()
    assert "intel-rapl:0/energy_uj: Permission denied" in str(caught.value)
    assert "CAP_DAC_READ_SEARCH" in str(caught.value)


def test_one_unreadable_zone_is_named_and_the_rest_is_read(strict_machine: Machine) -> None:
    """A zone that refuses does not hide the others."""
    first = strict_machine.zone("intel-rapl:0", "package-0")
    second = strict_machine.zone("intel-rapl:1", "package-1")
    (second / "energy_uj").chmod(0o400 if second.stat().st_uid == 0 else 0)
    source = source_of(strict_machine)
    with unprivileged():
        found = source.open()
    assert found.startswith("cpu package-0; not readable: ")
    assert "intel-rapl:1/energy_uj" in found
    assert devices(step(strict_machine, source, first)) == [("cpu", "package-0")]


def test_all_zero_counters_are_not_here(machine: Machine) -> None:
    """A virtual machine's registers read 0: that is no CPU that uses no energy."""
    machine.zone("intel-rapl:0", "package-0", 0)
    machine.zone("intel-rapl:0:0", "dram", 0)
    with pytest.raises(NotHereError, match="virtual machine"):
        source_of(machine).open()


def test_constant_counters_are_never_reported_and_fail_after_a_minute(machine: Machine) -> None:
    """A counter that does not move gives no reading; when none ever moved, the source is down."""
    machine.zone("intel-rapl:0", "package-0", 123)
    source = source_of(machine)
    source.open()
    reports = [step(machine, source) for _ in range(60)]
    assert not any(report.hosts for report in reports)
    assert [failure.reason for report in reports for failure in report.failures] == ["unsupported"]
    with pytest.raises(ReadError) as caught:
        step(machine, source)
    assert caught.value.reason == "unsupported"


def test_one_constant_counter_is_told_once_and_left_out(machine: Machine) -> None:
    """A dead dram zone beside a live package is absent after one failure; the package carries on."""
    package = machine.zone("intel-rapl:0", "package-0")
    machine.zone("intel-rapl:0:0", "dram", 0)
    source = source_of(machine)
    source.open()
    reports = [step(machine, source, package) for _ in range(90)]
    assert all(devices(report) == [("cpu", "package-0")] for report in reports)
    (failure,) = [failure for report in reports for failure in report.failures]
    assert (failure.source, failure.reason, failure.device) == ("rapl", "unsupported", "package-0")


def test_several_constant_counters_are_told_in_the_same_look(machine: Machine) -> None:
    """Leaving one zone out does not skip the next one."""
    package = machine.zone("intel-rapl:0", "package-0")
    machine.zone("intel-rapl:0:0", "dram", 0)
    machine.zone("intel-rapl:1", "package-1", 0)
    source = source_of(machine)
    source.open()
    step(machine, source, package)
    machine.clock.advance(59)
    report = step(machine, source, package)
    assert [failure.device for failure in report.failures] == ["package-0", "package-1"]
    assert devices(report) == [("cpu", "package-0")]


def test_frozen_counter_is_a_failure_until_it_moves_again(machine: Machine) -> None:
    """A counter that stops after it counted is malformed, not 0 W, and is taken up again when it moves."""
    zones = machine.zone("intel-rapl:0", "package-0"), machine.zone("intel-rapl:1", "package-1")
    source = source_of(machine)
    source.open()
    step(machine, source, *zones)
    while not (frozen := step(machine, source, zones[0])).failures:
        pass
    assert devices(frozen) == [("cpu", "package-0")]
    assert [(failure.reason, failure.device) for failure in frozen.failures] == [("malformed", "package-1")]
    assert len(step(machine, source, *zones).hosts) == 2


@pytest.mark.parametrize(
    ("content", "reason"), [("", "malformed"), ("twelve", "malformed"), ("1_0", "malformed")]
)
def test_garbage_is_a_failure_of_that_zone_alone(machine: Machine, content: str, reason: str) -> None:
    """Text that is no number fails its own zone; the other one is read."""
    zones = machine.zone("intel-rapl:0", "package-0"), machine.zone("intel-rapl:1", "package-1")
    source = source_of(machine)
    source.open()
    step(machine, source, *zones)
    (zones[0] / "energy_uj").write_text(content)
    report = step(machine, source, zones[1])
    assert devices(report) == [("cpu", "package-1")]
    assert [(failure.reason, failure.device) for failure in report.failures] == [(reason, "package-0")]


def test_zone_that_vanishes_is_lost_and_comes_back(machine: Machine) -> None:
    """A socket taken offline is lost now; once back it is read again without a new open."""
    zones = machine.zone("intel-rapl:0", "package-0"), machine.zone("intel-rapl:1", "package-1")
    source = source_of(machine)
    source.open()
    step(machine, source, *zones)
    target = zones[1].resolve()
    hidden = target.rename(target.with_name("offline"))
    report = step(machine, source, zones[0])
    assert [(failure.reason, failure.device) for failure in report.failures] == [("lost", "package-1")]
    hidden.rename(target)
    assert len(step(machine, source, *zones).hosts) == 2


def test_a_folder_in_place_of_the_file_is_an_io_failure(machine: Machine) -> None:
    """Errors without a word of their own are io."""
    zone = machine.zone("intel-rapl:0", "package-0")
    source = source_of(machine)
    source.open()
    step(machine, source, zone)
    (zone / "energy_uj").unlink()
    (zone / "energy_uj").mkdir()
    machine.clock.advance(1)
    report = source.read()
    assert [failure.reason for failure in report.failures] == ["io"]


def test_open_follows_close(machine: Machine) -> None:
    """After close the source can be opened again and starts with a fresh look at the tree."""
    zone = machine.zone("intel-rapl:0", "package-0")
    source = source_of(machine)
    source.open()
    source.close()
    other = machine.zone("intel-rapl:1", "package-1")
    source.open()
    assert len(step(machine, source, zone, other).hosts) == 2
