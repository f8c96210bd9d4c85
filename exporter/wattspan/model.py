"""The records that travel between the rooms. All are frozen; none has arithmetic.

Conventions that hold for every field here:

- ``*_uj`` is microjoules and ``*_uw`` microwatts, both whole numbers.
- ``*_ns`` named ``read_at``, ``taken_at``, ``started`` or ``finished`` is CLOCK_MONOTONIC in nanoseconds;
  ``*_wall_ns`` is CLOCK_REALTIME since the epoch, in nanoseconds.
- ``None`` means "not read" or "this device cannot say"; it never means zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from wattspan.errors import Reason
from wattspan.runs import Attribution, Holder, RunNow

Vendor = Literal["nvidia", "amd", "intel", "demo"]
Component = Literal["cpu", "dram"]
Basis = Literal["lifecycle", "direct"]
Signal = Literal["average", "marginal"]
PowerScope = Literal["gpu", "module"]
PowerSource = Literal["average", "energy_delta", "usage", "none"]
MigMode = Literal["enabled", "disabled", "unsupported"]


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One MIG instance of a GPU. Energy and power exist on the parent only.

    Attributes:
        uuid: ``MIG-...``.
        gpu_instance: GPU instance id within the parent.
        compute_instance: compute instance id within the GPU instance.
        slices: compute slices it holds: those of its GPU instance, or its part where that is divided.
        profile: the vendor's name such as ``1g.10gb``; empty when it has none.
        processes: pids with a compute context, or None when the driver does not say.
    """

    uuid: str
    gpu_instance: int
    compute_instance: int
    slices: int
    profile: str = ""
    processes: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a GPU is. Changes only when the driver is initialised anew or MIG is reconfigured.

    Attributes:
        uuid: the key of every counter; stable across reboots and index changes.
        index: the vendor library's index now; not stable.
        model: marketing name, as the driver gives it.
        vendor: who made it; ``demo`` for simulated cards, so that nobody takes them for real.
        driver_version: empty when unknown.
        power_scope: ``module`` on superchips whose sensors cover GPU, CPU and memory together.
        power_source: what `power_uw` of its readings is made of: ``average`` (NVML field 185),
            ``energy_delta`` (the energy counter over the last second or more),
            ``usage`` (nvmlDeviceGetPowerUsage or the vendor's like), ``none``.
        mig_mode: NVIDIA's Multi-Instance GPU mode.
        has_energy_counter: whether energy comes from a hardware counter; else the ledger integrates power.
    """

    uuid: str
    index: int
    model: str
    vendor: Vendor
    driver_version: str = ""
    power_scope: PowerScope = "gpu"
    power_source: PowerSource = "average"
    mig_mode: MigMode = "unsupported"
    has_energy_counter: bool = True


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One look at one GPU.

    Attributes:
        gpu: what it is.
        read_at_ns: midpoint of the call that read energy and power.
        energy_uj: the hardware counter as it stands, since the driver was loaded.
        power_uw: average over the last second, by `gpu.power_source`.
        power_instant_uw: power now.
        power_limit_uw: the limit that the driver enforces.
        utilization_ratio: share of the driver's sampling window with at least one kernel running.
        memory_used_bytes, memory_total_bytes: device memory.
        temperature_celsius: of the GPU core.
        sm_clock_hertz: streaming multiprocessor clock.
        throttled_ns: time spent throttled since the driver was loaded, by reason.
        recovery_action: NVML field 230: 0 none, 1 GPU reset, 2 node reboot, 3 drain, 4 drain and reset.
        processes: pids with a context on the whole GPU. Refreshed every few seconds, not at each look.
        process_sm: share of the time each pid kept the SMs busy since it was last asked; None when not told.
        mig_instances: empty unless MIG is enabled.
        mig_slices: into how many slices MIG divides the whole GPU; None when the driver does not say.
    """

    gpu: Gpu
    read_at_ns: int
    energy_uj: int | None = None
    power_uw: int | None = None
    power_instant_uw: int | None = None
    power_limit_uw: int | None = None
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    sm_clock_hertz: int | None = None
    throttled_ns: Mapping[str, int] = field(default_factory=dict)
    recovery_action: int | None = None
    processes: frozenset[int] | None = None
    process_sm: Mapping[int, float] | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    mig_slices: int | None = None


@dataclass(frozen=True, slots=True)
class HostReading:
    """One look at one host component: a CPU package, its DRAM, or a power rail that stands for one.

    Attributes:
        component: ``cpu`` or ``dram``.
        device: unique within the component on this node, such as ``package-0``.
        read_at_ns: midpoint of the read.
        energy_uj: the hardware counter as it stands, wrapped as the hardware wraps it.
        wraps_at_uj: the counter's range; after it the counter starts at 0. None when it does not wrap.
        power_uw: for sensors that know power only; the ledger integrates it.
        power_limit_uw: the most that is plausible, when the hardware says; bounds what one wrap can hide.
        estimated: True for a model's figure; never summed into measured totals.
    """

    component: Component
    device: str
    read_at_ns: int
    energy_uj: int | None = None
    wraps_at_uj: int | None = None
    power_uw: int | None = None
    power_limit_uw: int | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class PlatformReading:
    """A whole-box sensor (BMC, psys, Grace module). It overlaps the rest, so it is shown and never summed.

    Attributes:
        sensor: unique on this node, such as ``acpi-power-meter-0``.
        read_at_ns: midpoint of the read.
        power_uw: power now, or as the sensor averages it.
    """

    sensor: str
    read_at_ns: int
    power_uw: int


@dataclass(frozen=True, slots=True)
class XidEvent:
    """An error the NVIDIA driver reported for a GPU.

    Attributes:
        uuid: of the GPU.
        xid: the driver's number; 999 when the driver did not say.
    """

    uuid: str
    xid: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A read that failed.

    Attributes:
        source: the source's name.
        reason: from the closed set in `wattspan.errors`.
        detail: one line for the log.
        device: the device's id, or None when the whole source failed.
    """

    source: str
    reason: Reason
    detail: str
    device: str | None = None


@dataclass(frozen=True, slots=True)
class SourceReport:
    """All that one source saw in one read.

    Attributes:
        source: the source's name; the same word is its module, log field and label value.
        started_ns, finished_ns: when the read began and ended.
        gpus, hosts, platforms, xids: what was read. A device that failed is absent here and in `failures`.
        failures: by device; a read that failed as a whole has just one.
    """

    source: str
    started_ns: int
    finished_ns: int
    gpus: tuple[GpuReading, ...] = ()
    hosts: tuple[HostReading, ...] = ()
    platforms: tuple[PlatformReading, ...] = ()
    xids: tuple[XidEvent, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How a source fares, as the sampler sees it.

    Attributes:
        source: its name.
        up: the last read came back in time and held at least one reading.
        last_read_ns: midpoint of the last good read, or None before the first.
        reason: why it is not up; empty when it is.
        detail: the same for a reader.
    """

    source: str
    up: bool
    last_read_ns: int | None
    reason: Reason | Literal["", "released", "starting"] = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One tick of the sampler.

    Attributes:
        sequence: counts ticks since the daemon started, from 1.
        taken_at_ns: when the tick was closed.
        wall_offset_ns: CLOCK_REALTIME minus CLOCK_MONOTONIC at that moment.
        reports: of the reads that ended since the last snapshot.
        failures: all of them: of devices within `reports`, and of sources that gave no report.
        health: of every source that was found, in a fixed order.
        missed_ticks: whole intervals that passed without a look since the last snapshot.
        clock_stepped: the wall clock jumped against the monotonic one since the last snapshot.
    """

    sequence: int
    taken_at_ns: int
    wall_offset_ns: int
    reports: tuple[SourceReport, ...]
    failures: tuple[Failure, ...] = ()
    health: tuple[SourceHealth, ...] = ()
    missed_ticks: int = 0
    clock_stepped: bool = False


Method = Literal["counter", "integrated"]
Share = Literal["run", "pod", "idle", "unattributed"]
UnattributedReason = Literal["foreign_process", "gap", "implausible", "exporter_down"]

METHODS: tuple[Method, ...] = get_args(Method)
SHARES: tuple[Share, ...] = get_args(Share)
UNATTRIBUTED_REASONS: tuple[UnattributedReason, ...] = get_args(UnattributedReason)


@dataclass(frozen=True, slots=True)
class Charge:
    """Energy that one device used in one interval, and who answers for it.

    Attributes:
        component: ``gpu``, ``cpu`` or ``dram``.
        device: the GPU's uuid or the host component's device name.
        energy_uj: above zero.
        start_ns, end_ns: the interval, half open, CLOCK_MONOTONIC.
        method: a hardware counter's difference, or power integrated over the interval.
        share: whose it is; host components belong to the node and have None.
        reason: why nobody answers for it, when `share` is ``unattributed``.
        holder: who answers for it, when `share` is ``run`` or ``pod``.
        attribution: by which rule the holder's part was made.
        estimated: True for a model's figure, kept apart from everything measured.
        in_node: False where another sensor already covers it (a superchip's module counter).
    """

    component: Literal["gpu", "cpu", "dram"]
    device: str
    energy_uj: int
    start_ns: int
    end_ns: int
    method: Method
    share: Share | None = None
    reason: UnattributedReason | None = None
    holder: Holder | None = None
    attribution: Attribution | None = None
    estimated: bool = False
    in_node: bool = True


@dataclass(frozen=True, slots=True)
class Tally:
    """An increment of a counter that is not energy.

    Attributes:
        quantity: as in the catalogue, such as ``gpu_xid_errors``.
        labels: label values in the catalogue's order.
        amount: whole number, zero or more; zero makes the series exist.
    """

    quantity: str
    labels: tuple[str, ...]
    amount: int


@dataclass(frozen=True, slots=True)
class Intensity:
    """What the grid emitted, or will emit, for each kWh in one stretch of time.

    Attributes:
        g_per_kwh: grams of CO2e (CO2 alone for some direct sources) per kilowatt-hour.
        valid_from_wall_ns, valid_until_wall_ns: half open; None where the figure has no such end.
        force_from_wall_ns, force_until_wall_ns: the stretch that the chain has put it in force for, where
            that is not its own validity: a last good figure stands in for a while, a fallback fills a gap.
            None for its own end. Set by the chain, never by a provider.
        grid_zone: the zone the figure is for, as the provider names it.
        provider: the module's name, such as ``static``.
        signal: ``average`` or ``marginal``.
        basis: ``lifecycle`` or ``direct``; never mixed in one chain.
        estimated: a model's or a yearly figure rather than a measured one, or one that stands in beyond its
            own time.
        fetched_wall_ns: when it was obtained; for the carried table, None.
        origin: dataset and year, for people and audits.
    """

    g_per_kwh: float
    valid_from_wall_ns: int | None
    valid_until_wall_ns: int | None
    grid_zone: str
    provider: str
    signal: Signal
    basis: Basis
    estimated: bool
    fetched_wall_ns: int | None = None
    origin: str = ""
    force_from_wall_ns: int | None = None
    force_until_wall_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """What electricity costs in one stretch of time.

    Attributes:
        per_kwh: at the facility's meter, in the currency of the settings; below 0 at times on a spot market.
        valid_from_wall_ns, valid_until_wall_ns: half open; None where the price has no such end.
        provider: who said so: ``configured`` or the module's name.
        fetched_wall_ns: when it was obtained; None for a configured one.
        force_until_wall_ns: when it goes out of force, where it stands in beyond its own time; None for its
            own end. Set by the price book, never by a source.
    """

    per_kwh: float
    valid_from_wall_ns: int | None = None
    valid_until_wall_ns: int | None = None
    provider: str = "configured"
    fetched_wall_ns: int | None = None
    force_until_wall_ns: int | None = None


@dataclass(frozen=True, slots=True)
class GreenWindow:
    """The stretch of a given length with the lowest mean intensity that is known of, from now on.

    Attributes:
        duration_ns: its length.
        start_wall_ns: when it begins.
        g_per_kwh: its mean intensity.
    """

    duration_ns: int
    start_wall_ns: int
    g_per_kwh: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """The hours ahead.

    Attributes:
        made_wall_ns: the moment that it looks ahead from.
        figures: that hold at that moment or later, past to future, without those that hold for all time.
            The first may be measured, the others are forecasts.
        horizons: intensity so many nanoseconds ahead; one beyond the last figure is missing.
        greenest: the greenest window of each usual length that the figures cover.
    """

    made_wall_ns: int
    figures: tuple[Intensity, ...]
    horizons: Mapping[int, float] = field(default_factory=dict)
    greenest: tuple[GreenWindow, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuState:
    """What is known of one GPU now, for gauges and the API.

    Attributes:
        gpu: what it is, from the newest reading.
        reading: the newest reading while it is fresh; None once the device or its source failed.
        check_ratio: energy counter over integrated power in the last closed window; 1.0 is perfect.
        co2e_g_per_s: operational grams per second at the power of `reading`; None without power or intensity.
        holders: runs and pods that hold the GPU now.
    """

    gpu: Gpu
    reading: GpuReading | None
    check_ratio: float | None = None
    co2e_g_per_s: float | None = None
    holders: int = 0


@dataclass(frozen=True, slots=True)
class HostState:
    """What is known of one host component now.

    Attributes:
        component, device: as in `HostReading`.
        power_uw: mean over the last interval, or the sensor's own figure; None once the source failed.
        estimated: True for a model's figure.
    """

    component: Component
    device: str
    power_uw: int | None
    estimated: bool


@dataclass(frozen=True, slots=True)
class GridState:
    """The carbon figures in force.

    Attributes:
        intensity: None where the chain knows none for now; energy is then unpriced and counted.
        fallback_level: 0 for the first configured choice, one more for each step down the chain.
        pue: power usage effectiveness that grams are multiplied by, once.
        pue_configured: False while `pue` is the 1.0 that nobody has set.
        location: how the zone was found, for people.
        figures: what each provider says of this moment, in the order of the chain, used or not.
        outlook: the hours ahead; None where nobody forecasts.
        tariff: price in force; None without one.
        signal, basis: what every figure of the chain means, also while there is none.
        zone: the node's own; a figure that stands in may be one of a larger place.
        fallback_wall_ns: when the chain steps further down unless somebody speaks again; None where it need
            not, and where there is no figure.
    """

    intensity: Intensity | None
    fallback_level: int
    pue: float
    pue_configured: bool
    location: str = ""
    figures: tuple[Intensity, ...] = ()
    outlook: Outlook | None = None
    tariff: Tariff | None = None
    signal: Signal = "average"
    basis: Basis = "lifecycle"
    zone: str = ""
    fallback_wall_ns: int | None = None


SAMPLE_DURATION_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Buckets that reads are counted in, in seconds: from a warm NVML read to a stuck BMC."""

CounterKey = tuple[str, tuple[str, ...]]
"""A counter's quantity (such as ``gpu_energy``) and its label values, in the catalogue's order."""

Counters = Mapping[str, Mapping[tuple[str, ...], int | float]]
"""Published values by quantity and label values: uJ, ns and counts are whole numbers, grams are floats."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LedgerView:
    """All that may be published, as of one tick. Whoever reads it sees one moment and changes nothing.

    Attributes:
        sequence: of the snapshot it was made from; 0 before the first.
        taken_at_ns, wall_offset_ns: of that snapshot.
        counters: as the journal holds them. While the journal cannot commit they stay at the last commit.
        gpus, hosts, platforms: the newest looks; a failed device keeps its facts and loses its reading.
        node_power_uw: measured GPU + CPU + DRAM, each once; None when nothing is measured.
        health: of every source.
        grid: carbon figures in force.
        runs: that run, or ended less than five minutes ago.
        spans_pending: spans that wait for the collector; None where none is configured.
        price_per_kwh, currency: of electricity; None and empty where nobody has set one.
        profile: of the deployment; empty where it has none.
        journal_error: why the journal cannot commit now; empty when it can.
        last_commit_wall_ns: when it last did; None before the first commit.
    """

    sequence: int
    taken_at_ns: int
    wall_offset_ns: int
    counters: Counters
    gpus: tuple[GpuState, ...] = ()
    hosts: tuple[HostState, ...] = ()
    platforms: tuple[PlatformReading, ...] = ()
    node_power_uw: int | None = None
    health: tuple[SourceHealth, ...] = ()
    grid: GridState | None = None
    runs: tuple[RunNow, ...] = ()
    spans_pending: int | None = None
    price_per_kwh: float | None = None
    currency: str = ""
    profile: str = ""
    journal_error: str = ""
    last_commit_wall_ns: int | None = None
