"""What spans of runs say, and what they leave out."""

from dataclasses import replace

import pytest

from wattspan.publish.span_content import closing_spans, stretch_span
from wattspan.runs import Factor, PodRef, Progress, Run, RunRecord, RunTotals, SpanRecord, Stretch
from wattspan.units import NS_PER_S

KWH = 3_600_000_000_000

TOTALS = RunTotals(
    energy_uj={
        ("gpu", "exclusive"): 2 * KWH,
        ("gpu", "sm_time"): 1 * KWH,
        ("cpu", "cpu_time"): KWH // 2,
    },
    co2e_g=1_320.0,
    unpriced_uj=KWH // 2,
    cost=0.75,
    gpu_ns=7_200 * NS_PER_S,
    idle_gpu_ns=0,
    utilization_ns=5_400 * NS_PER_S,
    gpu_energy_uj={"GPU-b": KWH, "GPU-a": 2 * KWH},
)

RECORD = RunRecord(
    run=Run(
        run_id="llama-sft-01JD5",
        name="llama-sft",
        project="nlp",
        group="sweep-7",
        framework="huggingface",
        nodes_expected=1,
    ),
    node="node-a",
    cluster="",
    began_wall_ns=1_790_856_000_000_000_000,
    ended_wall_ns=1_790_859_600_000_000_000,
    result="success",
    totals=TOTALS,
    progress=Progress(steps=100, samples=6_400, tokens=0),
    gpus={"GPU-a": "H100", "GPU-b": "H100"},
    grid_zone="DE",
    basis="lifecycle",
    providers=("static",),
    estimated=True,
    pue=1.1,
    currency="EUR",
)


def by_name(spans: tuple[SpanRecord, ...]) -> dict[str, SpanRecord]:
    """Each span under its name."""
    return {span.name: span for span in spans}


@pytest.mark.parametrize(
    ("cluster", "run_id", "attempt", "node", "trace_id", "run_span", "node_span"),
    [
        (
            "",
            "llama-sft-01JD5",
            0,
            "node-a",
            "b641e7d2518e39667fb3d3367234428a",
            "a3d0bdb7167b9d71",
            "716e3c77dbe98c6d",
        ),
        (
            "prod-eu",
            "k8s:nlp:JobSet:sft:1a2b3c4d",
            2,
            "gpu-17",
            "2821be844569cfaea81e052aaff3d153",
            "365b7e07c222947d",
            "a0f0d97d101cbbfb",
        ),
        (
            "hpc",
            "slurm:hpc:12345_7",
            0,
            "g001",
            "e7f8974d0b07f78812e3d82d0bb6ca4b",
            "e990f5bf69b3df1f",
            "fc22e422e23a3665",
        ),
    ],
)
def test_ids_are_the_contracts(
    cluster: str, run_id: str, attempt: int, node: str, trace_id: str, run_span: str, node_span: str
) -> None:
    """Trace and span ids equal the published test vectors, and each span hangs where it belongs."""
    run = replace(RECORD.run, run_id=run_id, attempt=attempt)
    record = replace(RECORD, run=run, cluster=cluster, node=node)
    spans = by_name(closing_spans(record, hub=False))
    window = stretch_span(record, Stretch("", 0, 1, 2, RunTotals()))
    assert {span.trace_id for span in (*spans.values(), window)} == {trace_id}
    assert (spans["training_run"].span_id, spans["training_run"].parent_span_id) == (run_span, "")
    assert (spans["training_run.node"].span_id, spans["training_run.node"].parent_span_id) == (
        node_span,
        run_span,
    )
    assert window.parent_span_id == node_span


def test_run_span_carries_the_totals() -> None:
    """Figures come in the contract's units: J, g, g/kWh weighted by energy and without PUE, seconds."""
    span = by_name(closing_spans(RECORD, hub=False))["training_run"]
    assert (span.start_wall_ns, span.end_wall_ns) == (RECORD.began_wall_ns, RECORD.ended_wall_ns)
    intensity = span.attributes["wattspan.grid.intensity"]
    assert intensity == pytest.approx(400.0)
    assert span.attributes == {
        "wattspan.run.id": "llama-sft-01JD5",
        "wattspan.run.name": "llama-sft",
        "wattspan.run.project": "nlp",
        "wattspan.run.group": "sweep-7",
        "wattspan.run.framework": "huggingface",
        "wattspan.run.source": "api",
        "wattspan.run.attempt": 0,
        "wattspan.run.result": "success",
        "wattspan.run.scope": "run",
        "wattspan.run.nodes_expected": 1,
        "wattspan.run.nodes_reported": 1,
        "wattspan.progress.steps": 100,
        "wattspan.progress.samples": 6_400,
        "wattspan.energy.total": 12_600_000.0,
        "wattspan.energy.gpu": 10_800_000.0,
        "wattspan.energy.cpu": 1_800_000.0,
        "wattspan.energy.unpriced": 1_800_000.0,
        "wattspan.attribution.methods": ("cpu_time", "exclusive", "sm_time"),
        "wattspan.co2e.operational": 1_320.0,
        "wattspan.co2e.basis": "lifecycle",
        "wattspan.grid.zone": "DE",
        "wattspan.grid.intensity": intensity,
        "wattspan.grid.providers": ("static",),
        "wattspan.grid.estimated": True,
        "wattspan.pue": 1.1,
        "wattspan.cost": 0.75,
        "wattspan.currency": "EUR",
        "wattspan.gpu.count": 2,
        "wattspan.gpu.uuids": ("GPU-a", "GPU-b"),
        "wattspan.gpu.seconds": 7_200.0,
        "wattspan.gpu.utilization": 0.75,
        # Gain: 6/7 of 5 % and 1/7 of 10 %; a 2/7 by SM time known to a half, a 1/7 by CPU time to a third.
        "wattspan.uncertainty.ratio": pytest.approx(0.157215, rel=1e-5),
        "wattspan.energy.total_low": pytest.approx(12_600_000.0 * (1 - 0.157215), rel=1e-5),
        "wattspan.energy.total_high": pytest.approx(12_600_000.0 * (1 + 0.157215), rel=1e-5),
        # One figure for all hours of a year: hypot(10 %, 30 %, 10 %).
        "wattspan.uncertainty.intensity_ratio": pytest.approx(0.331662, rel=1e-5),
        "wattspan.co2e.operational_low": pytest.approx(1_320.0 * (1 - 0.367037), rel=1e-5),
        "wattspan.co2e.operational_high": pytest.approx(1_320.0 * (1 + 0.367037), rel=1e-5),
    }


def test_whole_footprint_is_told_where_it_is_known() -> None:
    """Embodied, market-based and water have names of their own, and the signal of the figures is told."""
    totals = replace(TOTALS, embodied_g=50.0, market_g=0.0, water_l=1.5)
    factor = Factor(1, 2, KWH, 440.0, 400.0, 1.1, "DE", "energycharts", "average", "lifecycle", False)
    spans = closing_spans(replace(RECORD, totals=totals, factors=(factor,)), hub=False)
    for span in spans:
        attributes = span.attributes
        assert attributes["wattspan.co2e.embodied"] == 50.0
        assert attributes["wattspan.co2e.embodied_low"] == pytest.approx(50 / 1.42)
        assert attributes["wattspan.co2e.embodied_high"] == pytest.approx(50 * 1.42)
        assert (attributes["wattspan.co2e.market"], attributes["wattspan.water.liters"]) == (0.0, 1.5)
        assert attributes["wattspan.grid.signals"] == ("average",)
        assert attributes["wattspan.co2e.operational"] == 1_320.0, "nothing is added to it"


def test_no_attribute_is_the_namespace_of_another() -> None:
    """A name that ends where another goes on after a dot would be lost by some stores (OpenTelemetry)."""
    totals = replace(TOTALS, embodied_g=50.0, market_g=0.0, water_l=1.5)
    for span in closing_spans(replace(RECORD, totals=totals), hub=False):
        names = set(span.attributes)
        assert [name for name in names if any(other.startswith(f"{name}.") for other in names)] == []


def test_what_nobody_knows_is_left_out() -> None:
    """No reading is not 0 J, no intensity not 0 g, no price not 0 money."""
    record = replace(RECORD, totals=RunTotals(), basis="", grid_zone="", providers=(), gpus={})
    attributes = by_name(closing_spans(record, hub=False))["training_run"].attributes
    absent = (
        *("wattspan.energy", "wattspan.co2e", "wattspan.grid", "wattspan.cost", "wattspan.currency"),
        *("wattspan.uncertainty", "wattspan.water"),
    )
    assert [name for name in attributes if name.startswith(absent)] == []
    assert (attributes["wattspan.gpu.count"], attributes["wattspan.gpu.seconds"]) == (0, 0.0)
    assert "wattspan.gpu.utilization" not in attributes


@pytest.mark.parametrize(
    ("nodes_expected", "rank_zero", "hub", "scope"),
    [
        (1, True, False, "run"),
        (1, False, False, "run"),
        (2, True, False, "node"),
        (None, True, False, "node"),
        (2, False, False, None),
        (1, True, True, None),
        (2, True, True, None),
    ],
)
def test_who_tells_of_the_run(
    nodes_expected: int | None, rank_zero: bool, hub: bool, scope: str | None
) -> None:
    """The run's span is the hub's where there is one, else of its only node, else of rank 0 for that node."""
    run = replace(RECORD.run, nodes_expected=nodes_expected, rank_zero=rank_zero)
    spans = by_name(closing_spans(replace(RECORD, run=run), hub=hub))
    assert spans["training_run.node"].attributes["wattspan.run.scope"] == "node"
    told = spans.get("training_run")
    assert (told.attributes["wattspan.run.scope"] if told else None) == scope


@pytest.mark.parametrize(
    ("result", "error_type", "said"),
    [
        ("success", "", ""),
        ("failure", "OutOfMemoryError", "OutOfMemoryError"),
        ("failure", "", "_OTHER"),
        ("cancelled", "KeyboardInterrupt", ""),
        ("lost", "", ""),
    ],
)
def test_failure_is_an_error(result: str, error_type: str, said: str) -> None:
    """A failure alone sets status and error.type."""
    record = replace(RECORD, result=result, error_type=error_type)  # type: ignore[arg-type]
    for span in closing_spans(record, hub=False):
        assert (span.error_type, span.attributes.get("error.type", "")) == (said, said)
        assert span.attributes["wattspan.run.result"] == result


def test_links_lead_to_the_attempt_before_and_to_the_starter() -> None:
    """Attempt n links to n-1; a TRACEPARENT becomes a link and an attribute, never an id."""
    first = by_name(closing_spans(RECORD, hub=False))["training_run"]
    assert first.links == ()
    parent = "4bf92f3577b34da6a3ce929d0e0e4736"
    run = replace(RECORD.run, attempt=1, parent_trace_id=parent)
    again = closing_spans(replace(RECORD, run=run), hub=False, parent_span_id="00f067aa0ba902b7")
    for span in again:
        assert span.links == ((first.trace_id, first.span_id), (parent, "00f067aa0ba902b7"))
        assert span.trace_id not in (first.trace_id, parent)
        assert span.attributes["wattspan.run.parent_trace_id"] == parent


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ((), {}),
        (
            (PodRef("nlp", "sft-0", "train"),),
            {
                "k8s.namespace.name": "nlp",
                "k8s.pod.name": "sft-0",
                "k8s.container.name": "train",
            },
        ),
        (
            (PodRef("nlp", "sft-1", "train"), PodRef("nlp", "sft-0", "train")),
            {"k8s.namespace.name": "nlp", "wattspan.run.pods": ("nlp/sft-0", "nlp/sft-1")},
        ),
    ],
)
def test_pods_are_named(pods: tuple[PodRef, ...], told: dict[str, object]) -> None:
    """One pod stands under OpenTelemetry's names, several in a list of ours."""
    for span in closing_spans(replace(RECORD, pods=pods), hub=False):
        attributes = span.attributes
        assert {name: attributes[name] for name in attributes if "k8s" in name or "pods" in name} == told


def test_windows_and_phases_have_ids_of_their_own() -> None:
    """A stretch made again has the same id; another stretch, kind, node or attempt has another."""
    stretch = Stretch("epoch", 0, 100, 200, TOTALS)
    once = stretch_span(RECORD, stretch)
    assert once == stretch_span(RECORD, stretch)
    assert once.name == "training_run.phase"
    assert (once.attributes["wattspan.phase.name"], once.attributes["wattspan.phase.index"]) == ("epoch", 0)
    others = [
        stretch_span(RECORD, replace(stretch, index=1)),
        stretch_span(RECORD, replace(stretch, name="evaluate")),
        stretch_span(RECORD, replace(stretch, name="")),
        stretch_span(RECORD, replace(stretch, began_wall_ns=101)),
        stretch_span(replace(RECORD, node="node-b"), stretch),
        stretch_span(replace(RECORD, run=replace(RECORD.run, attempt=1)), stretch),
        *closing_spans(RECORD, hub=False),
    ]
    assert len({span.span_id for span in (once, *others)}) == 1 + len(others)
    window = others[2]
    assert (window.name, window.attributes["wattspan.window.index"]) == ("training_run.window", 0)


def test_stretch_carries_its_own_figures() -> None:
    """A window tells what was used in it, of a run that may still go on."""
    running = replace(RECORD, ended_wall_ns=None, result=None)
    span = stretch_span(running, Stretch("", 3, 100, 200, replace(TOTALS, gpu_energy_uj={"GPU-a": 1})))
    assert span.attributes["wattspan.energy.gpu"] == 10_800_000.0
    assert span.attributes["wattspan.gpu.uuids"] == ("GPU-a",)
    assert "wattspan.run.result" not in span.attributes


def test_clock_that_was_set_back_makes_no_negative_span() -> None:
    """A span never ends before it began."""
    for span in closing_spans(replace(RECORD, ended_wall_ns=1), hub=False):
        assert span.end_wall_ns == span.start_wall_ns


def test_run_that_goes_on_has_no_closing_span() -> None:
    """Only what has ended is told as ended."""
    with pytest.raises(ValueError, match="has not ended"):
        closing_spans(replace(RECORD, ended_wall_ns=None), hub=False)
