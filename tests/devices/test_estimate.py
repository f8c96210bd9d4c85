"""The estimate: clearly marked, made of load and rated power, and from the tree that is given."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.machine import Machine
from wattspan.devices.estimate import EstimateSource, share_of_rated, table_key
from wattspan.errors import NotHereError, ReadError

GOLD = "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz"  # 150 W


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "host")


def source_of(machine: Machine) -> EstimateSource:
    return EstimateSource(machine.proc, machine.clock)


def cpuinfo(machine: Machine, model: str | None, *, sockets: int = 1, cpus: int = 4, flags: str = "") -> None:
    blocks = []
    for cpu in range(cpus):
        lines = [f"processor\t: {cpu}", f"physical id\t: {cpu % sockets}", f"flags\t\t: fpu vme {flags}"]
        blocks.append("\n".join([*lines, f"model name\t: {model}"] if model else lines))
    machine.write("proc/cpuinfo", "\n\n".join(blocks))


def stat(machine: Machine, *, busy: int, idle: int, iowait: int = 0, steal: int = 0) -> None:
    machine.write("proc/stat", f"cpu  {busy} 0 0 {idle} {iowait} 0 0 {steal} 0 0\ncpu0 1 2 3")


def power_w(machine: Machine, source: EstimateSource, **ticks: int) -> float | None:
    machine.clock.advance(1)
    stat(machine, **ticks)
    report = source.read()
    assert not report.failures
    if not report.hosts:
        return None
    (host,) = report.hosts
    assert (host.component, host.device, host.estimated) == ("cpu", "all", True)
    assert host.energy_uj is None
    assert host.read_at_ns == machine.clock.now_ns
    assert host.power_uw is not None
    return host.power_uw / 1_000_000


def test_power_follows_the_load_since_the_last_look(machine: Machine) -> None:
    """Idle, half and full load of two 150 W sockets give the curve's shares of 300 W."""
    cpuinfo(machine, GOLD, sockets=2)
    stat(machine, busy=1_000, idle=9_000)
    source = source_of(machine)
    assert "300 W rated power, 2 x Intel(R) Xeon(R) Gold 6248" in source.open()
    assert power_w(machine, source, busy=1_000, idle=9_400) == pytest.approx(36)
    assert power_w(machine, source, busy=1_200, idle=9_600) == pytest.approx(225)
    assert power_w(machine, source, busy=1_600, idle=9_600) == pytest.approx(306)


def test_waiting_and_stolen_time_is_not_load(machine: Machine) -> None:
    """A CPU that waits for disks or runs another guest does not work for us."""
    cpuinfo(machine, GOLD)
    stat(machine, busy=0, idle=0)
    source = source_of(machine)
    source.open()
    assert power_w(machine, source, busy=0, idle=100, iowait=100, steal=200) == pytest.approx(18)


def test_no_time_no_reading(machine: Machine) -> None:
    """Between two clock ticks there is nothing to say, and the next look covers the whole time."""
    cpuinfo(machine, GOLD)
    stat(machine, busy=10, idle=10)
    source = source_of(machine)
    source.open()
    assert power_w(machine, source, busy=10, idle=10) is None
    assert power_w(machine, source, busy=110, idle=10) == pytest.approx(153)


def test_counts_that_step_back_are_clamped(machine: Machine) -> None:
    """iowait may shrink by a little; utilization stays between 0 and 1."""
    cpuinfo(machine, GOLD)
    stat(machine, busy=100, idle=100, iowait=50)
    source = source_of(machine)
    source.open()
    assert power_w(machine, source, busy=110, idle=100, iowait=45) == pytest.approx(153)
    assert power_w(machine, source, busy=109, idle=120, iowait=45) == pytest.approx(18)


@pytest.mark.parametrize("model", ["Some CPU of tomorrow", None])
def test_unknown_cpu_is_four_watts_a_thread(machine: Machine, model: str | None) -> None:
    """Without a rated power, ARM without a model name included, each logical CPU counts 4 W."""
    cpuinfo(machine, model, cpus=8)
    stat(machine, busy=0, idle=0)
    source = source_of(machine)
    assert "32 W rated power, 8 logical CPUs x 4 W" in source.open()


def test_virtual_machine_is_not_given_the_whole_chip(machine: Machine) -> None:
    """A guest has a share of the chip, so its model's rated power would be far too much."""
    cpuinfo(machine, "AMD EPYC 7763 64-Core Processor", cpus=4, flags="hypervisor")
    stat(machine, busy=0, idle=0)
    assert "16 W rated power, 4 logical CPUs x 4 W because a virtual machine" in source_of(machine).open()


@pytest.mark.parametrize(
    ("model_name", "key"),
    [
        (GOLD, "Xeon Gold 6248"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Xeon Platinum 8480+"),
        ("INTEL(R) XEON(R) PLATINUM 8592+", "Xeon Platinum 8592+"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "Xeon E5-2680 v4"),
        ("Intel(R) Xeon(R) 6787P", "Xeon 6787P"),
        ("AMD EPYC 9654 96-Core Processor", "EPYC 9654"),
        ("AMD EPYC 7763 64-Core Processor                ", "EPYC 7763"),
    ],
)
def test_cpuinfo_names_are_found_in_the_table(machine: Machine, model_name: str, key: str) -> None:
    """What the kernel prints leads to the table's row."""
    assert table_key(model_name) == table_key(key)
    cpuinfo(machine, model_name)
    stat(machine, busy=0, idle=0)
    assert "1 x" in source_of(machine).open()


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_load_never_means_less_power(one: float, other: float) -> None:
    """The curve rises from 12 % to 102 % of the rated power."""
    low, high = sorted((one, other))
    assert 0.12 <= share_of_rated(low) <= share_of_rated(high) <= 1.02


def test_no_procfs_is_not_here(machine: Machine) -> None:
    """Without /proc/stat there is nothing to estimate from."""
    with pytest.raises(NotHereError, match="stat"):
        source_of(machine).open()


@pytest.mark.parametrize("text", ["", "intr 5", "cpu  1 2 three", "cpu  1 2 3"])
def test_garbage_in_stat_is_malformed(machine: Machine, text: str) -> None:
    """A first line that is not the CPU's times is a failure, not a load of 0."""
    cpuinfo(machine, GOLD)
    stat(machine, busy=1, idle=1)
    source = source_of(machine)
    source.open()
    machine.write("proc/stat", text)
    with pytest.raises(ReadError) as caught:
        source.read()
    assert caught.value.reason == "malformed"


def test_this_machine_can_be_estimated() -> None:
    """The real /proc of wherever the tests run is understood."""
    assert EstimateSource().open().startswith("an estimate, not a measurement: ")
