"""Records of runs and of who holds what; they travel between the rooms like those of `wattspan.model`.

The same conventions hold: ``*_uj`` whole microjoules, ``*_ns`` monotonic, ``*_wall_ns`` since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Attribution = Literal["exclusive", "sm_time", "mig_activity", "mig_slices", "equal", "cpu_time"]
RunSource = Literal["api", "kubernetes", "slurm", "environment"]
Result = Literal["success", "failure", "cancelled", "lost"]
RunState = Literal["running", "ended"]

RESULTS: tuple[Result, ...] = get_args(Result)


@dataclass(frozen=True, slots=True)
class PodRef:
    """A container of a pod; all empty outside Kubernetes."""

    namespace: str = ""
    name: str = ""
    container: str = ""


NO_POD: Final = PodRef()


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is: fixed from its begin to its end, and the same on every node.

    Attributes:
        run_id: ``[A-Za-z0-9][A-Za-z0-9._:-]{0,252}``.
        attempt: 0 for the first; spans and reports are per attempt.
        name, project, group, framework: for people; empty when nobody said.
        source: how the run was found.
        user: empty unless the operator switched user names on.
        namespace: of its pods; empty outside Kubernetes.
        rank_zero: this node has global rank 0, whose progress counts.
        nodes_expected: how many nodes it says it has; None when it does not say.
        parent_trace_id, parent_span_id: of the TRACEPARENT it was given; empty when there was none.
        budget_co2e_g: what it may emit; None without a budget.
    """

    run_id: str
    attempt: int = 0
    name: str = ""
    project: str = ""
    group: str = ""
    framework: str = ""
    source: RunSource = "api"
    user: str = ""
    namespace: str = ""
    rank_zero: bool = True
    nodes_expected: int | None = None
    parent_trace_id: str = ""
    parent_span_id: str = ""
    budget_co2e_g: float | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who answers for energy: a run, or a pod that is none.

    Attributes:
        run_id, attempt: of the run; empty and 0 for a pod without one.
        pod: where it runs; empty outside Kubernetes.
        project: the owner's; with `pod.namespace` it names the owner.
    """

    run_id: str = ""
    attempt: int = 0
    pod: PodRef = NO_POD
    project: str = ""


STRANGER: Final = Holder()
"""Whoever a process belongs to that belongs to nobody known; its energy is nobody's."""


LAPSED: Final = Holder(attempt=-1)
"""A run that was closed before a GPU that it had held was read again; what it used at last is nobody's."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A holder's claim on one GPU, or on one MIG instance of it.

    Attributes:
        holder: who.
        since_ns: when it took the GPU, as exactly as is known.
        until_ns: when it let go, told once; None while it holds.
        processes: its pids on the GPU now; empty for an allocation that computes nothing.
        mig_uuid: of the instance; empty where the whole GPU is held.
        weight: parts of the GPU that were allocated: MIG slices, or time-slicing replicas.
    """

    holder: Holder
    since_ns: int
    until_ns: int | None = None
    processes: frozenset[int] = frozenset()
    mig_uuid: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Holdings:
    """Who held what since the tick before, as known at the end of this one.

    Attributes:
        by_gpu: holds by GPU uuid, those of `STRANGER` among them; a GPU that nobody held is absent.
        cpu_ns: CPU time that each holder's processes used since the tick before.
        cores: logical CPUs of the node.
        watched: somebody looked; else `by_gpu` says nothing, and the GPU's own process list must do.
        settled: every place that could name a holder has been heard; until then nobody is said to be absent.
    """

    by_gpu: Mapping[str, tuple[Hold, ...]] = field(default_factory=dict)
    cpu_ns: Mapping[Holder, int] = field(default_factory=dict)
    cores: int = 1
    watched: bool = True
    settled: bool = True


NOBODY: Final = Holdings(watched=False)
"""What the ledger is given where no workloads are watched; it then looks at the GPU's processes itself."""


@dataclass(frozen=True, slots=True)
class HoldTime:
    """GPU time of a holder in one tick.

    Attributes:
        holder, uuid: whose, on which GPU.
        gpu_ns: the holder's part of the time: all of it alone, by slices or 1/holders when shared.
        idle_ns: of it, while no kernel ran; nothing of a time in which nobody looked.
        utilization_ns: of it, weighted by utilization; nothing of a time in which nobody looked.
    """

    holder: Holder
    uuid: str
    gpu_ns: int
    idle_ns: int
    utilization_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: totals since its start, over all nodes.

    Attributes:
        steps, samples, tokens: counted so far.
        total_steps: planned; None while unknown.
        loss: the last one told.
        repeated_steps: steps made again after a resume.
    """

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    total_steps: int | None = None
    loss: float | None = None
    repeated_steps: int = 0


NO_PROGRESS: Final = Progress()

MAX_COUNT: Final = 2**53 - 1
"""No count of a run is larger: every JSON reader keeps it exactly (RFC 7493, 2.2)."""

HOST: Final = "host"
"""The server without its GPUs, in `RunRecord.embodied_without`."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a run that it named itself: epoch, evaluate, checkpoint, ...

    Attributes:
        name: what.
        index: which one; None where there is only one.
        began_wall_ns, ended_wall_ns: when.
    """

    name: str
    index: int | None
    began_wall_ns: int
    ended_wall_ns: int


@dataclass(frozen=True, slots=True)
class Factor:
    """Energy of an attempt that was priced by one and the same figure, so that each gram can be traced to it.

    Attributes:
        began_wall_ns, ended_wall_ns: the stretch in which it was used.
        energy_uj: of the run, as metered.
        co2e_g: what it came to: energy times PUE times intensity.
        g_per_kwh: the intensity; of a `figures` above 1 their mean, weighted by the energy.
        pue: in force.
        grid_zone, provider, signal, basis, estimated, origin: of the figure, as in
            `wattspan.model.Intensity`;
            the provider is empty where the figure was not kept, as of the last seconds before a kill.
        valid_from_wall_ns, valid_until_wall_ns: its own validity; None where it has no such end.
        fetched_wall_ns: when it was obtained; None for the carried table and for what the operator has set.
        figures: how many figures it stands for: above 1 where neighbours were put together to save room.
    """

    began_wall_ns: int
    ended_wall_ns: int
    energy_uj: int
    co2e_g: float
    g_per_kwh: float
    pue: float
    grid_zone: str = ""
    provider: str = ""
    signal: str = ""
    basis: str = ""
    estimated: bool = True
    origin: str = ""
    valid_from_wall_ns: int | None = None
    valid_until_wall_ns: int | None = None
    fetched_wall_ns: int | None = None
    figures: int = 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a GPU's energy counter compares with an external meter, as the operator has measured it.

    Attributes:
        gain: true energy over counted energy; energy itself is never corrected by it.
        uncertainty_ratio: of that gain, both ways.
        provenance: who measured it, how and when.
    """

    gain: float
    uncertainty_ratio: float
    provenance: str


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What one attempt has used on this node.

    Attributes:
        energy_uj: by component (gpu, cpu, dram) and attribution.
        co2e_g: operational grams, PUE applied.
        unpriced_uj: energy without a known intensity.
        cost: in the record's currency, PUE applied; None without a price.
        uncosted_uj: energy that was to be priced and for which no price was known.
        other_costs: by currency, what energy came to before another currency was set; in no sum.
        facility_uj: energy times the PUE that was in force; None where that was not kept.
        gpu_ns: time GPUs were held, shared ones by share.
        idle_gpu_ns: of it, with no kernel running; nothing of a time in which nobody looked.
        utilization_ns: of it, weighted by utilization, as far as somebody looked; over `gpu_ns` the mean,
            or less after an outage.
        gpu_energy_uj: by GPU uuid.
        embodied_g: grams of making the hardware, for the time it was reserved; None where nothing is known
            of it.
        market_g: operational grams by the operator's contracts, PUE applied; None where none are configured.
        water_l: litres for cooling on site; None where no WUE is configured.
        wasted_uj, wasted_cost: what is known to have come to nothing before the end: held idle, or steps that
            were made again; the rest of a failed attempt is not in it.
    """

    energy_uj: Mapping[tuple[str, Attribution], int] = field(default_factory=dict)
    co2e_g: float = 0.0
    unpriced_uj: int = 0
    cost: float | None = None
    uncosted_uj: int = 0
    other_costs: Mapping[str, float] = field(default_factory=dict)
    facility_uj: float | None = None
    gpu_ns: int = 0
    idle_gpu_ns: int = 0
    utilization_ns: int = 0
    gpu_energy_uj: Mapping[str, int] = field(default_factory=dict)
    embodied_g: float | None = None
    market_g: float | None = None
    water_l: float | None = None
    wasted_uj: int = 0
    wasted_cost: float = 0.0

    def mean_pue(self, record_pue: float) -> float:
        """Facility energy over energy; the record's PUE where nothing was used.

        So it is where facility energy was not kept, or not of all that was used: a PUE is never below 1.
        """
        energy_uj = sum(self.energy_uj.values())
        if self.facility_uj is None or not energy_uj or self.facility_uj < energy_uj:
            return record_pue
        return round(self.facility_uj / energy_uj, 9)  # a sum of floats may be off by its last digits


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of a run's history, for charts.

    Attributes:
        at_wall_ns: when.
        power_uw: of each of its GPUs, by uuid, averaged since the point before.
        intensity_g_per_kwh: in force; None when unknown.
        co2e_g: since the run began.
    """

    at_wall_ns: int
    power_uw: Mapping[str, int]
    intensity_g_per_kwh: float | None
    co2e_g: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What this node knows of one attempt of a run; final once `ended_wall_ns` is set.

    Attributes:
        run: what it is.
        node, cluster: where.
        began_wall_ns, ended_wall_ns: its true begin and end.
        result, error_type: how it ended; None and empty while it runs.
        totals: what it has used here.
        progress: how far it came.
        pods: its pods on this node.
        gpus: uuid to model of every GPU it held.
        grid_zone, basis, providers: of the intensities its grams were made with.
        estimated: some of them were estimates or yearly figures.
        pue, currency: in force.
        points: its history, thinned out evenly as it grows.
        progress_before: what `progress` was when the attempt began, since steps count over all attempts;
            None while nobody said, which for attempt 0 is nothing.
        factors: how its grams came about, by time; their energy and grams sum to the totals, but for energy
            that no intensity was known for.
        calibrations: of those of its GPUs that the operator has calibrated, by uuid.
        pue_configured: somebody had set the PUE, all the time; None where that was not kept, as before this
            member.
        embodied_without: what of its hardware is not in its embodied grams: ``host``, and models of GPUs
            that no figure is known of. None where that was not kept.
        earlier_co2e_g: operational grams of the run's earlier attempts on this node, which its budget is
            held against too; None where that was not kept.
    """

    run: Run
    node: str
    cluster: str
    began_wall_ns: int
    totals: RunTotals
    progress: Progress = NO_PROGRESS
    ended_wall_ns: int | None = None
    result: Result | None = None
    error_type: str = ""
    pods: tuple[PodRef, ...] = ()
    gpus: Mapping[str, str] = field(default_factory=dict)
    grid_zone: str = ""
    basis: str = ""
    providers: tuple[str, ...] = ()
    estimated: bool = False
    pue: float = 1.0
    currency: str = ""
    points: tuple[Point, ...] = ()
    progress_before: Progress | None = None
    factors: tuple[Factor, ...] = ()
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    pue_configured: bool | None = None
    embodied_without: tuple[str, ...] | None = None
    earlier_co2e_g: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """A closed part of a run: a window by the clock, or a phase that the run named.

    Attributes:
        name: of the phase; empty for a window.
        index: which one of that name.
        began_wall_ns, ended_wall_ns: when.
        totals: what it used on this node.
    """

    name: str
    index: int | None
    began_wall_ns: int
    ended_wall_ns: int
    totals: RunTotals


@dataclass(frozen=True, slots=True)
class WindowExemplar:
    """The last window of a run that closed, for the exemplars of its counters.

    Attributes:
        span_id: of the window's span.
        at_wall_ns: its end.
        totals: what was used in it.
    """

    span_id: str
    at_wall_ns: int
    totals: RunTotals


@dataclass(frozen=True, slots=True)
class RunNow:
    """A run as gauges and the API show it now, also for a while after its end.

    Attributes:
        record: what is known so far, without points.
        trace_id: of this attempt.
        power_uw: of its GPUs and its part of the host in the last tick; None when nothing was read.
        co2e_g_per_s: at that power; None without an intensity.
        gpus: how many it holds now.
        progress_ratio: steps over planned steps; None while those are unknown.
        projected_co2e_g: what the run will have emitted when it ends, over all its attempts, at its pace so
            far and by the grid's forecast; only for runs on one node.
        projected_cost, projected_end_wall_ns: likewise; None where that cannot be said.
        greenest_co2e_g: what the attempt would have emitted in the greenest stretch of its length that is
            known.
        budget_used_g: grams of the run on this node over all its attempts, which its budget is held against.
        named: what it is called is fixed; before that its name would change under the eyes of a dashboard.
        exemplar: changes only when a window closes; None before the first, and where no span is exported.
    """

    record: RunRecord
    trace_id: str
    power_uw: int | None
    co2e_g_per_s: float | None
    gpus: int
    progress_ratio: float | None
    projected_co2e_g: float | None
    projected_cost: float | None = None
    projected_end_wall_ns: int | None = None
    greenest_co2e_g: float | None = None
    budget_used_g: float = 0.0
    named: bool = True
    exemplar: WindowExemplar | None = None


AttributeValue = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A finished span, as the outbox keeps it until the collector has acknowledged it.

    Attributes:
        trace_id, span_id, parent_span_id: lower-case hex; the last is empty for a root.
        name: one of the contract's four.
        start_wall_ns, end_wall_ns: true times.
        attributes: by the contract's names.
        error_type: not empty sets status ERROR.
        links: (trace id, span id) of what it continues or was started by.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    start_wall_ns: int
    end_wall_ns: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    error_type: str = ""
    links: tuple[tuple[str, str], ...] = ()
