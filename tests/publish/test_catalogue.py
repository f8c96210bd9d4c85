"""The catalogue: names, units, kinds and labels are a promise."""

import re
import shutil
import subprocess

import pytest

from tests.real_parts import need
from wattspan.model import (
    Gpu,
    GpuReading,
    GpuState,
    GreenWindow,
    GridState,
    HostState,
    Intensity,
    LedgerView,
    Outlook,
    PlatformReading,
    SourceHealth,
)
from wattspan.publish.catalogue import CATALOGUE
from wattspan.publish.exposition import Exposition
from wattspan.runs import PodRef, Progress, Run, RunNow, RunRecord, RunTotals, WindowExemplar
from wattspan.units import NS_PER_S, UW_PER_W

UNITS = ("joules", "watts", "grams", "liters", "seconds", "ratio", "bytes", "celsius", "hertz")
RATES = ("grams_per_second", "grams_per_kwh")
RESERVED = {"type", "region", "zone", "cluster", "env", "service", "stage", "owner", "dc", "job", "instance"}


def running(wall_ns: int) -> RunNow:
    """A run with everything that a gauge can show."""
    run = Run("llama-sft-01JD5", 0, "llama-sft", "llama", "sweep-7", "transformers", budget_co2e_g=100.0)
    record = RunRecord(
        run,
        "node-a",
        "",
        wall_ns,
        RunTotals(co2e_g=0.5),
        Progress(steps=100, total_steps=1000),
        pods=(PodRef("nlp", "sft-0", "trainer"),),
        currency="EUR",
    )
    window = RunTotals({("gpu", "exclusive"): 4_500_000}, co2e_g=0.25, gpu_ns=4_000_000_000)
    exemplar = WindowExemplar("a3d0bdb7167b9d71", wall_ns + 1_500_000_000, window)
    trace_id = "b641e7d2518e39667fb3d3367234428a"
    return RunNow(
        record,
        trace_id,
        300_000_000,
        0.03,
        1,
        0.1,
        5.0,
        projected_cost=2.5,
        projected_end_wall_ns=wall_ns + 60 * NS_PER_S,
        greenest_co2e_g=0.25,
        budget_used_g=0.5,
        exemplar=exemplar,
    )


def full_view() -> LedgerView:
    """A view in which every family of the catalogue has a series."""
    gpu = Gpu("GPU-1", 0, 'NVIDIA "H100"', "nvidia", "580.1")
    reading = GpuReading(
        gpu=gpu,
        read_at_ns=5 * NS_PER_S,
        energy_uj=1,
        power_uw=345_678_901,
        power_instant_uw=400 * UW_PER_W,
        power_limit_uw=700 * UW_PER_W,
        utilization_ratio=0.97,
        memory_used_bytes=64 << 30,
        memory_total_bytes=80 << 30,
        temperature_celsius=61,
        sm_clock_hertz=1_980_000_000,
        recovery_action=0,
    )
    wall_ns = 1_780_000_000 * NS_PER_S
    intensity = Intensity(330, wall_ns, wall_ns + 1, "DE", "static", "average", "lifecycle", True, wall_ns)
    outlook = Outlook(
        wall_ns, (intensity,), {3600 * NS_PER_S: 300.0}, (GreenWindow(7200 * NS_PER_S, wall_ns, 250.0),)
    )
    counters = {
        "gpu_energy": {("GPU-1", "counter"): 123_456_789_012, ("GPU-1", "integrated"): 0},
        "gpu_attributed_energy": {("GPU-1", "idle"): 123_456_789_012},
        "gpu_unattributed_energy": {("GPU-1", "gap"): 0},
        "gpu_co2e": {("GPU-1", "lifecycle"): 11.316872},
        "gpu_throttled": {("GPU-1", "power_cap"): 1_500_000_000},
        "gpu_xid_errors": {("GPU-1", "79"): 1},
        "gpu_implausible_intervals": {("GPU-1",): 0},
        "node_energy": {(): 123_456_789_012},
        "node_co2e": {("lifecycle",): 11.3},
        "host_energy": {("cpu", "package-0"): 5_000_000},
        "host_co2e": {("cpu", "package-0", "lifecycle"): 0.1},
        "host_estimated_energy": {("cpu", "all"): 7},
        "unpriced_energy": {(): 0},
        "uncosted_energy": {(): 0},
        "source_read_failures": {("nvidia", "timeout"): 2},
        "sample_duration": {("nvidia", "0.005"): 3, ("nvidia", "+Inf"): 1},
        "sample_duration_sum": {("nvidia",): 9_000_000},
        "journal_commits": {(): 12},
        "clock_steps": {(): 0},
        "series_dropped": {("budget",): 0},
        "spans_exported": {(): 3},
        "spans_rejected": {(): 0},
        "span_export_failures": {(): 1},
        "spans_dropped": {(): 0},
        "run_energy": {("llama-sft-01JD5", "gpu", "exclusive"): 9_000_000},
        "run_co2e": {("llama-sft-01JD5", "operational", "lifecycle"): 0.5},
        "run_cost": {("llama-sft-01JD5", "EUR"): 0.25},
        "run_gpu": {("llama-sft-01JD5",): 8_000_000_000},
        "run_idle_gpu": {("llama-sft-01JD5",): 1_000_000_000},
        "run_steps": {("llama-sft-01JD5",): 100},
        "run_samples": {("llama-sft-01JD5",): 6400},
        "run_tokens": {("llama-sft-01JD5",): 3_276_800},
        "run_repeated_steps": {("llama-sft-01JD5",): 0},
        "pod_energy": {("nlp", "sft-0", "trainer", "gpu", "exclusive"): 9_000_000},
        "pod_co2e": {("nlp", "sft-0", "trainer", "lifecycle"): 0.5},
        "pod_gpu": {("nlp", "sft-0", "trainer"): 8_000_000_000},
        "pod_idle_gpu": {("nlp", "sft-0", "trainer"): 1},
        "owner_energy": {("nlp", "llama", "gpu"): 9_000_000},
        "owner_co2e": {("nlp", "llama", "operational", "lifecycle"): 0.5},
        "owner_market_co2e": {("nlp", "llama"): 0.0},
        "owner_water": {("nlp", "llama"): 0.01},
        "grid_fetch_failures": {("carbonintensity", "timeout"): 1},
        "grid_priced_energy": {("DE", "static", "average", "lifecycle", "true"): 9_000_000},
        "owner_cost": {("nlp", "llama", "EUR"): 0.25},
        "owner_gpu": {("nlp", "llama"): 8_000_000_000},
        "owner_idle_gpu": {("nlp", "llama"): 1},
        "owner_wasted_energy": {("nlp", "llama", "idle_held"): 1},
        "owner_wasted_cost": {("nlp", "llama", "idle_held", "EUR"): 0.01},
    }
    return LedgerView(
        sequence=9,
        taken_at_ns=5 * NS_PER_S,
        wall_offset_ns=wall_ns,
        counters=counters,
        gpus=(GpuState(gpu, reading, check_ratio=1.002, co2e_g_per_s=0.0317, holders=0),),
        hosts=(HostState("cpu", "package-0", 90_500_000, False), HostState("cpu", "all", 1_000_000, True)),
        platforms=(PlatformReading("acpi-power-meter-0", 5 * NS_PER_S, 900 * UW_PER_W),),
        node_power_uw=436_178_901,
        health=(SourceHealth("nvidia", True, 5 * NS_PER_S - 1),),
        grid=GridState(
            intensity,
            0,
            1.2,
            True,
            figures=(intensity,),
            outlook=outlook,
            zone="DE",
            fallback_wall_ns=wall_ns,
        ),
        runs=(running(wall_ns),),
        spans_pending=2,
        price_per_kwh=0.25,
        currency="EUR",
        profile="attributed",
        last_commit_wall_ns=wall_ns,
    )


def test_every_metric_has_its_unit_in_its_name() -> None:
    """Base units only; the unit stands last, and what has none is a count, a state or an info."""
    for metric in CATALOGUE:
        assert re.fullmatch(r"wattspan_[a-z0-9]+(_[a-z0-9]+)*", metric.name), metric.name
        if metric.unit:
            assert metric.unit in UNITS + RATES, metric.name
            assert metric.name.endswith(f"_{metric.unit}"), metric.name
        else:
            assert not metric.name.endswith(UNITS), metric.name
        assert not metric.name.endswith(("_total", "_info", "_bucket", "_count", "_sum")), metric.name


def test_no_metric_is_there_twice_and_each_says_what_it_is() -> None:
    """One line in the table for one name; help is a sentence."""
    names = [metric.exposed_name for metric in CATALOGUE]
    assert len(names) == len(set(names))
    for metric in CATALOGUE:
        assert metric.help.endswith("."), metric.name
        assert 15 < len(metric.help) < 120, metric.name


def test_labels_do_not_clash_with_those_of_targets() -> None:
    """Prometheus would rename them exported_*."""
    for metric in CATALOGUE:
        assert not RESERVED & set(metric.labels), metric.name
        assert len(metric.labels) == len(set(metric.labels)), metric.name


def test_every_metric_shows_in_a_full_view_with_its_labels() -> None:
    """No row of the table is dead, and each row has one value for each label."""
    view = full_view()
    for metric in CATALOGUE:
        rows = list(metric.rows(view))
        assert rows, metric.name
        for labels, _ in rows:
            assert len(labels) == len(metric.labels) + (metric.kind == "histogram"), metric.name


def test_promtool_finds_nothing_to_object_to() -> None:
    """The real linter reads both the full view and its kinds."""
    need("promtool", shutil.which("promtool") is not None)
    body = Exposition(3000).render(full_view(), "").body
    answer = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"", b"")


@pytest.mark.parametrize("word", ["gpu_energy_joules_total", "gpu_attributed_energy_joules_total"])
def test_energy_is_divided_once(word: str) -> None:
    """Microjoules inside, joules outside, to the last digit."""
    body = Exposition(3000).render(full_view(), "").body.decode()
    assert re.search(rf"^wattspan_{word}\{{.*\}} 123456\.789012$", body, re.MULTILINE)
