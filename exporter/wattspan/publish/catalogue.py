"""Each metric once: name, kind, unit, labels, help, and how it combines across nodes.

The order is the importance: when a node has more series than its budget, families are dropped from the end.
The daemon's own health stands first: on any node it fits into the least budget that may be set, so that
``wattspan_series_dropped`` can tell of what does not.
Counters are accounts of the journal, named here by their `quantity`; everything else is read off the view.
The metric reference in the README is made from this table.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wattspan import __version__
from wattspan.model import (
    SAMPLE_DURATION_BOUNDS_S,
    GpuReading,
    GreenWindow,
    GridState,
    Intensity,
    LedgerView,
)
from wattspan.runs import RunNow, RunTotals
from wattspan.units import NS_PER_S, UJ_PER_J, UW_PER_W

Kind = Literal["counter", "gauge", "histogram", "info"]
Across = Literal["sum", "max", "min", "avg", "max by", "join on uuid", "-"]
LabelValues = tuple[str, ...]
Row = tuple[LabelValues, float]

PREFIX: Final = "wattspan_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: with prefix and unit, without ``_total``, ``_info``, ``_bucket``.
        kind: counters get ``_total``, infos ``_info``.
        help: one sentence; what it is, and when it is absent.
        labels: names, in the order of every row's values.
        unit: base unit that the name ends with; empty for plain numbers.
        across: how the values of several nodes combine in PromQL.
        rows: its series in a view.
        exemplar: of a run's counter, what a window added to it; the counter then points to the window's span.
    """

    name: str
    kind: Kind
    help: str
    labels: LabelValues
    unit: str
    across: Across
    rows: Callable[[LedgerView], Iterable[Row]]
    exemplar: Callable[[RunTotals], float] | None = None

    @property
    def exposed_name(self) -> str:
        """The name that PromQL uses."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


@dataclass(frozen=True, slots=True)
class AccountRows:
    """Rows of a counter in the journal, divided once into its base unit.

    Attributes:
        quantity: of the accounts.
        per_unit: the journal's units in one of the counter's.
    """

    quantity: str
    per_unit: int = 1

    def __call__(self, view: LedgerView) -> Iterator[Row]:
        """As `Metric.rows`."""
        for labels, value in (self.source(view) or {}).items():
            yield labels, value / self.per_unit

    def source(self, view: LedgerView) -> Mapping[LabelValues, int | float] | None:
        """What the rows are made of. The journal makes another map when an account changes, so that
        the same one has the same rows."""
        return view.counters.get(self.quantity)


def _gpu(value: Callable[[GpuReading], float | None]) -> Callable[[LedgerView], Iterator[Row]]:
    """Rows of a gauge that each fresh GPU reading has or lacks."""

    def rows(view: LedgerView) -> Iterator[Row]:
        for state in view.gpus:
            if state.reading is not None and (number := value(state.reading)) is not None:
                yield (state.gpu.uuid, str(state.gpu.index)), number

    return rows


def _watts(power_uw: int | None) -> float | None:
    return None if power_uw is None else power_uw / UW_PER_W


def _gpu_info(view: LedgerView) -> Iterator[Row]:
    for state in view.gpus:
        gpu = state.gpu
        yield (
            (
                gpu.uuid,
                str(gpu.index),
                gpu.model,
                gpu.vendor,
                gpu.driver_version,
                gpu.power_scope,
                gpu.power_source,
                gpu.mig_mode,
            ),
            1,
        )


def _gpu_up(view: LedgerView) -> Iterator[Row]:
    for state in view.gpus:
        yield (state.gpu.uuid, str(state.gpu.index)), int(state.reading is not None)


def _gpu_holders(view: LedgerView) -> Iterator[Row]:
    for state in view.gpus:
        yield (state.gpu.uuid, str(state.gpu.index)), state.holders


def _gpu_co2e_rate(view: LedgerView) -> Iterator[Row]:
    for state in view.gpus:
        if state.co2e_g_per_s is not None:
            yield (state.gpu.uuid, str(state.gpu.index)), state.co2e_g_per_s


def _gpu_check_ratio(view: LedgerView) -> Iterator[Row]:
    for state in view.gpus:
        if state.check_ratio is not None:
            yield (state.gpu.uuid, str(state.gpu.index)), state.check_ratio


def _host_power(estimated: bool) -> Callable[[LedgerView], Iterator[Row]]:
    def rows(view: LedgerView) -> Iterator[Row]:
        for state in view.hosts:
            if state.estimated is estimated and state.power_uw is not None:
                yield (state.component, state.device), state.power_uw / UW_PER_W

    return rows


def _platform_power(view: LedgerView) -> Iterator[Row]:
    for reading in view.platforms:
        yield (reading.sensor,), reading.power_uw / UW_PER_W


def _node_power(view: LedgerView) -> Iterator[Row]:
    if view.node_power_uw is not None:
        yield (), view.node_power_uw / UW_PER_W


def _source_up(view: LedgerView) -> Iterator[Row]:
    for health in view.health:
        yield (health.source,), int(health.up)


def _source_released(view: LedgerView) -> Iterator[Row]:
    for health in view.health:
        yield (health.source,), int(health.reason == "released")


def _source_last_read(view: LedgerView) -> Iterator[Row]:
    for health in view.health:
        if health.last_read_ns is not None:
            yield (health.source,), (health.last_read_ns + view.wall_offset_ns) / NS_PER_S


def _zone(grid: GridState) -> LabelValues:
    """The node's zone: a series goes on when the figure of a larger place steps in."""
    zone = grid.zone or (grid.intensity.grid_zone if grid.intensity else "")
    return zone, grid.signal, grid.basis


def _grid(value: Callable[[GridState], float | None]) -> Callable[[LedgerView], Iterator[Row]]:
    """Rows of a figure about the grid; none while it is not known."""

    def rows(view: LedgerView) -> Iterator[Row]:
        if view.grid is not None and (number := value(view.grid)) is not None:
            yield _zone(view.grid), number

    return rows


def _grid_time(field: str) -> Callable[[LedgerView], Iterator[Row]]:
    return _grid(lambda grid: _seconds(getattr(grid.intensity, field, None)))


def _seconds(wall_ns: int | None) -> float | None:
    return None if wall_ns is None else wall_ns / NS_PER_S


def _provider_intensity(view: LedgerView) -> Iterator[Row]:
    for figure in view.grid.figures if view.grid else ():
        yield _provider(figure), figure.g_per_kwh


def _provider_in_use(view: LedgerView) -> Iterator[Row]:
    if view.grid is None:
        return
    in_use = view.grid.intensity
    for figure in view.grid.figures:
        yield _provider(figure), int(in_use is not None and in_use.provider == figure.provider)


def _provider(figure: Intensity) -> LabelValues:
    return figure.grid_zone, figure.provider, figure.signal, figure.basis


def _intensity_g_per_kwh(grid: GridState) -> float | None:
    return grid.intensity.g_per_kwh if grid.intensity else None


def _forecast(view: LedgerView) -> Iterator[Row]:
    if view.grid is not None and view.grid.outlook is not None:
        for ahead_ns, g_per_kwh in view.grid.outlook.horizons.items():
            yield (*_zone(view.grid), _hours(ahead_ns)), g_per_kwh


def _greenest(value: Callable[[GreenWindow], float]) -> Callable[[LedgerView], Iterator[Row]]:
    def rows(view: LedgerView) -> Iterator[Row]:
        if view.grid is not None and view.grid.outlook is not None:
            for window in view.grid.outlook.greenest:
                yield (_zone(view.grid)[0], _hours(window.duration_ns)), value(window)

    return rows


def _hours(duration_ns: int) -> str:
    """As durations are written on flags: whole hours."""
    return f"{duration_ns // (3600 * NS_PER_S)}h"


def _pue(value: Callable[[GridState], float]) -> Callable[[LedgerView], Iterator[Row]]:
    def rows(view: LedgerView) -> Iterator[Row]:
        if view.grid is not None:
            yield (), value(view.grid)

    return rows


def _last_commit(view: LedgerView) -> Iterator[Row]:
    if view.last_commit_wall_ns is not None:
        yield (), view.last_commit_wall_ns / NS_PER_S


def _sample_duration(view: LedgerView) -> Iterator[Row]:
    """Label values are (source, le); le is empty for the sum. Buckets are cumulative, as Prometheus wants."""
    counts = view.counters.get("sample_duration", {})
    sums = view.counters.get("sample_duration_sum", {})
    for (source,), sum_ns in sums.items():
        cumulative = 0
        for bound in DURATION_BOUNDS:
            cumulative += int(counts.get((source, bound), 0))
            yield (source, bound), cumulative
        yield (source, ""), sum_ns / NS_PER_S


def _run(value: Callable[[RunNow], float | None]) -> Callable[[LedgerView], Iterator[Row]]:
    """Rows of a gauge that a run has or lacks."""

    def rows(view: LedgerView) -> Iterator[Row]:
        for now in view.runs:
            if (number := value(now)) is not None:
                yield (now.record.run.run_id,), number

    return rows


def _run_info(view: LedgerView) -> Iterator[Row]:
    for now in view.runs:
        run = now.record.run
        if not now.named:
            continue
        yield (run.run_id, run.name, run.project, run.group, run.framework, run.source), 1


def _run_attempt_info(view: LedgerView) -> Iterator[Row]:
    for now in view.runs:
        yield (now.record.run.run_id, str(now.record.run.attempt), now.trace_id), 1


def _run_pod_info(view: LedgerView) -> Iterator[Row]:
    for now in view.runs:
        for namespace, name in {(pod.namespace, pod.name): None for pod in now.record.pods}:
            yield (now.record.run.run_id, namespace, name), 1


def _budget_used(now: RunNow) -> float | None:
    budget_g = now.record.run.budget_co2e_g
    return now.budget_used_g / budget_g if budget_g else None


def _budget_projected(now: RunNow) -> float | None:
    budget_g = now.record.run.budget_co2e_g
    return now.projected_co2e_g / budget_g if budget_g and now.projected_co2e_g is not None else None


def _run_projected_cost(view: LedgerView) -> Iterator[Row]:
    for now in view.runs:
        if now.projected_cost is not None and now.record.currency:
            yield (now.record.run.run_id, now.record.currency), now.projected_cost


def _price(view: LedgerView) -> Iterator[Row]:
    if view.price_per_kwh is not None:
        yield (view.currency,), view.price_per_kwh


def _spans_pending(view: LedgerView) -> Iterator[Row]:
    if view.spans_pending is not None:
        yield (), view.spans_pending


def _build_info(_: LedgerView) -> Iterable[Row]:
    return BUILD


def _config_info(view: LedgerView) -> Iterator[Row]:
    if view.profile:
        yield (view.profile,), 1


BUILD: Final = (((__version__, platform.python_version()), 1),)
DURATION_BOUNDS: Final = (*map(str, SAMPLE_DURATION_BOUNDS_S), "+Inf")


def exemplars(metric: Metric, view: LedgerView) -> Mapping[str, tuple[Mapping[str, str], float, float]]:
    """By run id what its counter points to: labels, value, time in seconds; empty for other metrics."""
    if metric.exemplar is None:
        return {}
    return {
        now.record.run.run_id: (
            {"trace_id": now.trace_id, "span_id": now.exemplar.span_id},
            metric.exemplar(now.exemplar.totals),
            now.exemplar.at_wall_ns / NS_PER_S,
        )
        for now in view.runs
        if now.exemplar is not None
    }


GPU: Final = ("uuid", "gpu")
RUN: Final = ("run_id",)
OWNER: Final = ("pod_namespace", "project")
POD: Final = ("pod_namespace", "pod_name", "container_name")
ZONE: Final = ("grid_zone", "signal", "basis")
PROVIDER: Final = ("grid_zone", "provider", "signal", "basis")

CATALOGUE: Final[tuple[Metric, ...]] = (
    Metric(
        "wattspan_build", "info", "Version of the exporter and of the Python it runs on.",
        ("version", "python_version"), "", "sum", _build_info,
    ),
    Metric(
        "wattspan_config", "info",
        "Profile that the daemon was deployed with; absent where the setting profile is empty.",
        ("profile",), "", "sum", _config_info,
    ),
    Metric(
        "wattspan_source_up", "gauge",
        "1 while the source's last read came back in time; absent where the hardware is not here.",
        ("source",), "", "min", _source_up,
    ),
    Metric(
        "wattspan_source_released", "gauge",
        "1 while the source's handles are given up on request, by wattspan release.",
        ("source",), "", "sum", _source_released,
    ),
    Metric(
        "wattspan_source_last_read_timestamp_seconds", "gauge",
        "When the source was last read well: the moment that its energy and power stand for.",
        ("source",), "seconds", "min", _source_last_read,
    ),
    Metric(
        "wattspan_series_dropped", "counter", "Series that scrapes left out, by reason.",
        ("reason",), "", "sum", AccountRows("series_dropped"),
    ),
    Metric(
        "wattspan_journal_commits", "counter", "Ticks that the journal holds.",
        (), "", "sum", AccountRows("journal_commits"),
    ),
    Metric(
        "wattspan_journal_last_commit_timestamp_seconds", "gauge", "When the journal last took a tick.",
        (), "seconds", "min", _last_commit,
    ),
    Metric(
        "wattspan_spans_exported", "counter", "Spans that the collector has acknowledged.",
        (), "", "sum", AccountRows("spans_exported"),
    ),
    Metric(
        "wattspan_spans_pending", "gauge", "Spans that wait in the outbox for the collector.",
        (), "", "sum", _spans_pending,
    ),
    Metric(
        "wattspan_spans_rejected", "counter", "Times that the collector did not want a span.",
        (), "", "sum", AccountRows("spans_rejected"),
    ),
    Metric(
        "wattspan_span_export_failures", "counter", "Requests to the collector without an acknowledgement.",
        (), "", "sum", AccountRows("span_export_failures"),
    ),
    Metric(
        "wattspan_spans_dropped", "counter", "Spans that left the outbox undelivered, for want of room.",
        (), "", "sum", AccountRows("spans_dropped"),
    ),
    Metric(
        "wattspan_clock_steps", "counter", "Times the wall clock jumped; no energy moves with it.",
        (), "", "sum", AccountRows("clock_steps"),
    ),
    Metric(
        "wattspan_source_read_failures", "counter", "Reads that failed, by reason.",
        ("source", "reason"), "", "sum", AccountRows("source_read_failures"),
    ),
    Metric(
        "wattspan_gpu_up", "gauge", "1 while the GPU answers; 0 once it or its source has failed.",
        GPU, "", "min", _gpu_up,
    ),
    Metric(
        "wattspan_gpu_energy_joules", "counter",
        "Energy the GPU used, by its hardware counter or by power integrated over time.",
        ("uuid", "method"), "joules", "sum", AccountRows("gpu_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_gpu_attributed_energy_joules", "counter",
        "The same energy by who held the GPU; the shares sum exactly to the energy counter.",
        ("uuid", "share"), "joules", "sum", AccountRows("gpu_attributed_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_gpu_unattributed_energy_joules", "counter",
        "The share unattributed by reason: unknown process, gap, implausible counter, or no exporter.",
        ("uuid", "reason"), "joules", "sum", AccountRows("gpu_unattributed_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_gpu_co2e_grams", "counter", "Operational CO2e of the GPU's energy, PUE applied.",
        ("uuid", "basis"), "grams", "sum", AccountRows("gpu_co2e"),
    ),
    Metric(
        "wattspan_node_energy_joules", "counter", "Measured energy of GPU, CPU and DRAM, each once.",
        (), "joules", "sum", AccountRows("node_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_node_co2e_grams", "counter", "Operational CO2e of the node's measured energy, PUE applied.",
        ("basis",), "grams", "sum", AccountRows("node_co2e"),
    ),
    Metric(
        "wattspan_host_energy_joules", "counter", "Measured energy of a host component.",
        ("component", "device"), "joules", "sum", AccountRows("host_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_host_co2e_grams", "counter",
        "Operational CO2e of a host component's measured energy, PUE applied.",
        ("component", "device", "basis"), "grams", "sum", AccountRows("host_co2e"),
    ),
    Metric(
        "wattspan_unpriced_energy_joules", "counter",
        "Measured energy for which no intensity of the chain's basis was known; it is in no CO2e figure.",
        (), "joules", "sum", AccountRows("unpriced_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_uncosted_energy_joules", "counter",
        "Measured energy for which no price was known, where prices are set; it is in no cost.",
        (), "joules", "sum", AccountRows("uncosted_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_gpu_power_watts", "gauge",
        "Power of the GPU averaged over a second; wattspan_gpu_info says by which sensor.",
        GPU, "watts", "sum", _gpu(lambda r: _watts(r.power_uw)),
    ),
    Metric(
        "wattspan_node_power_watts", "gauge", "Measured power of the node: GPU, CPU and DRAM, each once.",
        (), "watts", "sum", _node_power,
    ),
    Metric(
        "wattspan_host_power_watts", "gauge", "Measured power of a host component over the last interval.",
        ("component", "device"), "watts", "sum", _host_power(estimated=False),
    ),
    Metric(
        "wattspan_gpu", "info", "What the GPU is; join on uuid.",
        ("uuid", "gpu", "model", "vendor", "driver_version", "power_scope", "power_source", "mig_mode"), "",
        "join on uuid", _gpu_info,
    ),
    Metric(
        "wattspan_gpu_holders", "gauge", "Runs and pods that hold the GPU now.", GPU, "", "sum", _gpu_holders,
    ),
    Metric(
        "wattspan_gpu_co2e_grams_per_second", "gauge",
        "Operational CO2e rate at the GPU's present power, PUE applied.",
        GPU, "grams_per_second", "sum", _gpu_co2e_rate,
    ),
    Metric(
        "wattspan_grid_intensity_grams_per_kwh", "gauge", "Carbon intensity of the grid in force now.",
        ZONE, "grams_per_kwh", "max by", _grid(_intensity_g_per_kwh),
    ),
    Metric(
        "wattspan_grid_intensity_estimated", "gauge",
        "1 while the intensity in force is an estimate, a yearly average, or held beyond its own time.",
        ZONE, "", "max by", _grid(lambda grid: int(grid.intensity.estimated) if grid.intensity else None),
    ),
    Metric(
        "wattspan_grid_fallback_level", "gauge",
        "Steps down the chain of sources; 0 is the first choice, one beyond the last means none knows.",
        ZONE, "", "max by", _grid(lambda grid: grid.fallback_level),
    ),
    Metric(
        "wattspan_grid_valid_from_timestamp_seconds", "gauge",
        "Since when the intensity in force holds; absent where it has no beginning.",
        ZONE, "seconds", "max by", _grid_time("valid_from_wall_ns"),
    ),
    Metric(
        "wattspan_grid_valid_until_timestamp_seconds", "gauge",
        "Until when the intensity in force holds; absent where it has no end.",
        ZONE, "seconds", "max by", _grid_time("valid_until_wall_ns"),
    ),
    Metric(
        "wattspan_grid_fallback_timestamp_seconds", "gauge",
        "When the chain steps further down unless its source says more; absent where it need not.",
        ZONE, "seconds", "max by", _grid(lambda grid: _seconds(grid.fallback_wall_ns)),
    ),
    Metric(
        "wattspan_grid_fetched_timestamp_seconds", "gauge",
        "When the intensity in force was obtained; absent for the carried table and configured figures.",
        ZONE, "seconds", "max by", _grid_time("fetched_wall_ns"),
    ),
    Metric(
        "wattspan_grid_provider_intensity_grams_per_kwh", "gauge",
        "What each provider says of this moment, used or not; absent while it says nothing.",
        PROVIDER, "grams_per_kwh", "max by", _provider_intensity,
    ),
    Metric(
        "wattspan_grid_provider_in_use", "gauge", "1 for the provider whose intensity is in force, else 0.",
        PROVIDER, "", "max by", _provider_in_use,
    ),
    Metric(
        "wattspan_grid_fetch_failures", "counter", "Questions to a live source that failed, by reason.",
        ("provider", "reason"), "", "sum", AccountRows("grid_fetch_failures"),
    ),
    Metric(
        "wattspan_grid_priced_energy_joules", "counter", "Energy of the node by the source that priced it.",
        (*PROVIDER, "estimated"), "joules", "sum", AccountRows("grid_priced_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_grid_forecast_intensity_grams_per_kwh", "gauge",
        "Carbon intensity so far ahead; absent beyond the forecast, and where nobody forecasts.",
        (*ZONE, "horizon"), "grams_per_kwh", "max by", _forecast,
    ),
    Metric(
        "wattspan_grid_greenest_window_start_timestamp_seconds", "gauge",
        "When the greenest window of that length begins, of those that the forecast covers.",
        ("grid_zone", "duration"), "seconds", "max by", _greenest(lambda w: w.start_wall_ns / NS_PER_S),
    ),
    Metric(
        "wattspan_grid_greenest_window_intensity_grams_per_kwh", "gauge", "Mean intensity of that window.",
        ("grid_zone", "duration"), "grams_per_kwh", "max by", _greenest(lambda w: w.g_per_kwh),
    ),
    Metric(
        "wattspan_pue_ratio", "gauge", "Power usage effectiveness that grams are multiplied by, once.",
        (), "ratio", "max", _pue(lambda grid: grid.pue),
    ),
    Metric(
        "wattspan_pue_configured", "gauge", "0 while the PUE is the 1.0 that nobody has set.",
        (), "", "max", _pue(lambda grid: int(grid.pue_configured)),
    ),
    Metric(
        "wattspan_run", "info", "What the run is; join on run_id with max by over its labels.",
        ("run_id", "run_name", "project", "group", "framework", "source"), "", "max by", _run_info,
    ),
    Metric(
        "wattspan_run_energy_joules", "counter", "Energy of the run by component and rule of its share.",
        ("run_id", "component", "attribution"), "joules", "sum", AccountRows("run_energy", UJ_PER_J),
        lambda totals: sum(totals.energy_uj.values()) / UJ_PER_J,
    ),
    Metric(
        "wattspan_run_co2e_grams", "counter",
        "CO2e of the run: operational with PUE applied, embodied for the time that GPUs were held.",
        ("run_id", "part", "basis"), "grams", "sum", AccountRows("run_co2e"), lambda totals: totals.co2e_g,
    ),
    Metric(
        "wattspan_run_gpu_seconds", "counter", "GPU time the run held; of a shared GPU its part.",
        RUN, "seconds", "sum", AccountRows("run_gpu", NS_PER_S), lambda totals: totals.gpu_ns / NS_PER_S,
    ),
    Metric(
        "wattspan_run_idle_gpu_seconds", "counter", "GPU time the run held while no kernel ran.",
        RUN, "seconds", "sum", AccountRows("run_idle_gpu", NS_PER_S),
    ),
    Metric(
        "wattspan_run_attempt", "info", "The attempt that runs, or ran last, and its trace.",
        ("run_id", "attempt", "trace_id"), "", "max by", _run_attempt_info,
    ),
    Metric(
        "wattspan_run_pod", "info", "Pods of the run on this node.",
        ("run_id", "pod_namespace", "pod_name"), "", "-", _run_pod_info,
    ),
    Metric(
        "wattspan_run_power_watts", "gauge", "Power of the run's GPUs and of its part of the host.",
        RUN, "watts", "sum", _run(lambda now: _watts(now.power_uw)),
    ),
    Metric(
        "wattspan_run_gpus", "gauge", "GPUs that the run holds now.", RUN, "", "sum",
        _run(lambda now: now.gpus),
    ),
    Metric(
        "wattspan_run_start_timestamp_seconds", "gauge", "When the attempt began.",
        RUN, "seconds", "min", _run(lambda now: now.record.began_wall_ns / NS_PER_S),
    ),
    Metric(
        "wattspan_run_progress_ratio", "gauge", "Steps made over steps planned; absent while unknown.",
        RUN, "ratio", "max", _run(lambda now: now.progress_ratio),
    ),
    Metric(
        "wattspan_run_steps", "counter", "Steps of the run over all its nodes, as rank 0 tells them.",
        RUN, "", "max", AccountRows("run_steps"),
    ),
    Metric(
        "wattspan_run_samples", "counter", "Samples of the run over all its nodes, as rank 0 tells them.",
        RUN, "", "max", AccountRows("run_samples"),
    ),
    Metric(
        "wattspan_run_tokens", "counter", "Tokens of the run over all its nodes, as rank 0 tells them.",
        RUN, "", "max", AccountRows("run_tokens"),
    ),
    Metric(
        "wattspan_run_repeated_steps", "counter", "Steps made again after a resume.",
        RUN, "", "max", AccountRows("run_repeated_steps"),
    ),
    Metric(
        "wattspan_run_cost", "counter", "Electricity cost of the run, PUE applied.",
        ("run_id", "currency"), "", "sum", AccountRows("run_cost"),
    ),
    Metric(
        "wattspan_run_co2e_grams_per_second", "gauge", "Operational CO2e rate at the run's present power.",
        RUN, "grams_per_second", "sum", _run(lambda now: now.co2e_g_per_s),
    ),
    Metric(
        "wattspan_run_budget_co2e_grams", "gauge", "What the run may emit.",
        RUN, "grams", "max", _run(lambda now: now.record.run.budget_co2e_g),
    ),
    Metric(
        "wattspan_run_budget_used_ratio", "gauge", "Operational grams of the run here over its budget.",
        RUN, "ratio", "sum", _run(_budget_used),
    ),
    Metric(
        "wattspan_run_projected_co2e_grams", "gauge",
        "What the run will have emitted by its pace and the forecast; absent over several nodes.",
        RUN, "grams", "-", _run(lambda now: now.projected_co2e_g),
    ),
    Metric(
        "wattspan_run_budget_projected_ratio", "gauge", "The same over the run's budget.",
        RUN, "ratio", "-", _run(_budget_projected),
    ),
    Metric(
        "wattspan_run_greenest_co2e_grams", "gauge",
        "What the attempt would have emitted in the greenest stretch of its length that is known.",
        RUN, "grams", "-", _run(lambda now: now.greenest_co2e_g),
    ),
    Metric(
        "wattspan_run_projected_cost", "gauge", "What the attempt will have cost, at the price in force now.",
        ("run_id", "currency"), "", "-", _run_projected_cost,
    ),
    Metric(
        "wattspan_run_projected_end_timestamp_seconds", "gauge", "When the run will be over at its pace.",
        RUN, "seconds", "-",
        _run(lambda now: None if now.projected_end_wall_ns is None else now.projected_end_wall_ns / NS_PER_S),
    ),
    Metric(
        "wattspan_pod_energy_joules", "counter",
        "Energy of a pod that holds a GPU, those of runs included; never add pods and runs.",
        (*POD, "component", "attribution"), "joules", "sum", AccountRows("pod_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_pod_co2e_grams", "counter", "Operational CO2e of a pod that holds a GPU.",
        (*POD, "basis"), "grams", "sum", AccountRows("pod_co2e"),
    ),
    Metric(
        "wattspan_pod_gpu_seconds", "counter", "GPU time the pod held; of a shared GPU its share.",
        POD, "seconds", "sum", AccountRows("pod_gpu", NS_PER_S),
    ),
    Metric(
        "wattspan_pod_idle_gpu_seconds", "counter", "GPU time the pod held while no kernel ran.",
        POD, "seconds", "sum", AccountRows("pod_idle_gpu", NS_PER_S),
    ),
    Metric(
        "wattspan_owner_energy_joules", "counter", "Energy by namespace and project, never forgotten.",
        (*OWNER, "component"), "joules", "sum", AccountRows("owner_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_owner_co2e_grams", "counter", "CO2e by namespace and project.",
        (*OWNER, "part", "basis"), "grams", "sum", AccountRows("owner_co2e"),
    ),
    Metric(
        "wattspan_owner_market_co2e_grams", "counter",
        "Operational CO2e by your contract's intensity; only where grid.market-intensity is set.",
        OWNER, "grams", "sum", AccountRows("owner_market_co2e"),
    ),
    Metric(
        "wattspan_owner_water_liters", "counter",
        "Water used on site; only where grid.wue is set.",
        OWNER, "liters", "sum", AccountRows("owner_water"),
    ),
    Metric(
        "wattspan_owner_cost", "counter", "Electricity cost by namespace and project, PUE applied.",
        (*OWNER, "currency"), "", "sum", AccountRows("owner_cost"),
    ),
    Metric(
        "wattspan_owner_gpu_seconds", "counter", "GPU time held by namespace and project.",
        OWNER, "seconds", "sum", AccountRows("owner_gpu", NS_PER_S),
    ),
    Metric(
        "wattspan_owner_idle_gpu_seconds", "counter", "GPU time held without work, by namespace and project.",
        OWNER, "seconds", "sum", AccountRows("owner_idle_gpu", NS_PER_S),
    ),
    Metric(
        "wattspan_owner_wasted_energy_joules", "counter",
        "Energy that came to nothing, each joule once: repeated after a resume, held idle, or failed.",
        (*OWNER, "reason"), "joules", "sum", AccountRows("owner_wasted_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_owner_wasted_cost", "counter", "Cost of the energy that came to nothing.",
        (*OWNER, "reason", "currency"), "", "sum", AccountRows("owner_wasted_cost"),
    ),
    Metric(
        "wattspan_electricity_price_per_kwh", "gauge", "Price of electricity in force.",
        ("currency",), "", "max", _price,
    ),
    Metric(
        "wattspan_gpu_utilization_ratio", "gauge",
        "Share of the driver's sampling window with at least one kernel running; no measure of occupancy.",
        GPU, "ratio", "avg", _gpu(lambda r: r.utilization_ratio),
    ),
    Metric(
        "wattspan_gpu_power_limit_watts", "gauge", "Power limit that the driver enforces.",
        GPU, "watts", "sum", _gpu(lambda r: _watts(r.power_limit_uw)),
    ),
    Metric(
        "wattspan_gpu_power_instant_watts", "gauge", "Power of the GPU at the moment of the read.",
        GPU, "watts", "sum", _gpu(lambda r: _watts(r.power_instant_uw)),
    ),
    Metric(
        "wattspan_gpu_memory_used_bytes", "gauge", "Device memory in use.",
        GPU, "bytes", "sum", _gpu(lambda r: r.memory_used_bytes),
    ),
    Metric(
        "wattspan_gpu_memory_total_bytes", "gauge", "Device memory in all.",
        GPU, "bytes", "sum", _gpu(lambda r: r.memory_total_bytes),
    ),
    Metric(
        "wattspan_gpu_temperature_celsius", "gauge", "Temperature of the GPU core.",
        GPU, "celsius", "max", _gpu(lambda r: r.temperature_celsius),
    ),
    Metric(
        "wattspan_gpu_sm_clock_hertz", "gauge", "Clock of the streaming multiprocessors.",
        GPU, "hertz", "avg", _gpu(lambda r: r.sm_clock_hertz),
    ),
    Metric(
        "wattspan_gpu_xid_errors", "counter", "XID errors that the NVIDIA driver reported.",
        ("uuid", "xid"), "", "sum", AccountRows("gpu_xid_errors"),
    ),
    Metric(
        "wattspan_gpu_recovery_action", "gauge",
        "What the driver asks for: 0 none, 1 GPU reset, 2 node reboot, 3 drain, 4 drain and reset.",
        GPU, "", "max", _gpu(lambda r: r.recovery_action),
    ),
    Metric(
        "wattspan_gpu_throttled_seconds", "counter", "Time the GPU's clocks were held down, by reason.",
        ("uuid", "reason"), "seconds", "sum", AccountRows("gpu_throttled", NS_PER_S),
    ),
    Metric(
        "wattspan_gpu_energy_check_ratio", "gauge",
        "Energy counter over integrated power in the last closed minute; far from 1 one of them is wrong.",
        GPU, "ratio", "-", _gpu_check_ratio,
    ),
    Metric(
        "wattspan_gpu_implausible_intervals", "counter",
        "Intervals whose energy counter moved more than the GPU can draw, or back; it was not believed.",
        ("uuid",), "", "sum", AccountRows("gpu_implausible_intervals"),
    ),
    Metric(
        "wattspan_platform_power_watts", "gauge",
        "Whole-box sensors (BMC, psys, Grace module); they overlap the rest and are in no node sum.",
        ("sensor",), "watts", "sum", _platform_power,
    ),
    Metric(
        "wattspan_host_estimated_power_watts", "gauge",
        "Power of a host component by a model of its load, where nothing measures it; in no sum.",
        ("component", "device"), "watts", "sum", _host_power(estimated=True),
    ),
    Metric(
        "wattspan_host_estimated_energy_joules", "counter",
        "Energy of a host component by a model of its load, where nothing measures it; in no sum.",
        ("component", "device"), "joules", "sum", AccountRows("host_estimated_energy", UJ_PER_J),
    ),
    Metric(
        "wattspan_sample_duration_seconds", "histogram", "Time a source's read took.",
        ("source",), "seconds", "sum", _sample_duration,
    ),
)  # fmt: skip
