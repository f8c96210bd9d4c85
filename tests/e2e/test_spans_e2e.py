"""A run becomes a trace in a real collector, whatever happens to daemon, collector or run."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.metering import FAST, THREE_CARDS, Boots
from tests.e2e.training import SEEN_S, Clerk, jobs_on, kept
from tests.fakes.collector import Rotel
from tests.fakes.nvml import FakeNvml
from wattspan.units import NS_PER_S

Spans = Mapping[str, dict[str, Any]]

PROTOCOLS = ("http/protobuf", "grpc")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PRICED = (
    "--grid.intensity",
    "400",
    "--grid.pue",
    "1.25",
    "--cost.price-per-kwh",
    "0.2",
    "--cost.currency",
    "EUR",
)


def ids(cluster: str, run_id: str, attempt: int, node: str) -> tuple[str, str, str]:
    """Trace id, id of the run's span and id of the node's, as the contract derives them."""
    digest = hashlib.sha256(
        b"\0".join(p.encode() for p in ("wattspan/1", cluster, run_id, str(attempt)))
    ).digest()
    return digest[:16].hex(), digest[16:24].hex(), hashlib.sha256(digest + node.encode()).digest()[:8].hex()


def test_the_contracts_test_vectors() -> None:
    """What the tests below derive is what the contract says."""
    assert ids("", "llama-sft-01JD5", 0, "node-a") == (
        "b641e7d2518e39667fb3d3367234428a",
        "a3d0bdb7167b9d71",
        "716e3c77dbe98c6d",
    )
    assert ids("prod-eu", "k8s:nlp:JobSet:sft:1a2b3c4d", 2, "gpu-17") == (
        "2821be844569cfaea81e052aaff3d153",
        "365b7e07c222947d",
        "a0f0d97d101cbbfb",
    )


def exporting(rotel: Rotel, protocol: str) -> dict[str, str]:
    """A daemon's environment that names the collector."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": rotel.endpoint(protocol),
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    }


@contextmanager
def collecting(folder: Path) -> Iterator[Rotel]:
    """A real collector, not started yet; it ends with the block."""
    rotel = Rotel(folder)
    try:
        yield rotel
    finally:
        rotel.kill()


def named(spans: Spans, name: str) -> list[dict[str, Any]]:
    """Spans of one name, the first to begin first."""
    found = [{**span, "id": span_id} for span_id, span in spans.items() if span["name"] == name]
    return sorted(found, key=lambda span: (span["start"], span["end"]))


def number(span: Mapping[str, Any], attribute: str) -> float:
    """A number among the attributes, as the collector prints it."""
    return float(span["attributes"][attribute].partition("(")[2].rstrip(")"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_is_a_trace(tmp_path: Path, protocol: str) -> None:
    """The run, its node, its phases and its window: ids, times, figures and links as in the contract."""
    state = tmp_path / "state"
    with (
        collecting(tmp_path) as rotel,
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(
            fake,
            state,
            *FAST,
            *("--cluster.name", "prod-eu", "--node.name", "gpu-17"),
            *PRICED,
            env=exporting(rotel, protocol),
        ) as daemon,
    ):
        rotel.start()
        clerk = Clerk(daemon.wait_ready())
        pid = jobs.start(0)
        time.sleep(SEEN_S)
        begun = clerk.begin(
            run_id="sft", name="llama-sft", project="nlp", group="sweep-7", framework="pytorch",
            pid=pid, total_steps=10, traceparent=TRACEPARENT,
        )  # fmt: skip
        clerk.tell("sft", "progress", steps=0, samples=0, tokens=0)
        clerk.tell("sft", "phases", event="begin", name="epoch", index=0)
        time.sleep(1)
        clerk.tell("sft", "phases", event="end", name="epoch", index=0)
        clerk.tell("sft", "progress", steps=10, samples=640, tokens=5000, loss=1.5)
        clerk.tell("sft", "phases", event="begin", name="checkpoint")
        final = clerk.end("sft")
        spans = rotel.spans(at_least=5)
        record = kept(state, "sft")
        daemon.until(lambda s: s.value("wattspan_spans_exported_total") == 5, "five spans delivered")
        assert daemon.metrics().value("wattspan_spans_pending") == 0

    trace, run_span, node_span = ids("prod-eu", "sft", 0, "gpu-17")
    assert (begun["trace_id"], begun["run_span_id"], begun["node_span_id"]) == (trace, run_span, node_span)
    assert {span["trace_id"] for span in spans.values()} == {trace}
    assert {span["kind"] for span in spans.values()} == {"SPAN_KIND_INTERNAL"}
    assert {span["status"] for span in spans.values()} == {"STATUS_CODE_UNSET"}
    whole, part = spans[run_span], spans[node_span]
    assert (whole["name"], whole["parent"]) == ("training_run", "")
    assert (part["name"], part["parent"]) == ("training_run.node", run_span)
    for span in (whole, part):
        assert (span["start"], span["end"]) == (record.began_wall_ns, record.ended_wall_ns)
        assert span["links"] == [tuple(TRACEPARENT.split("-")[1:3])]
        expected = {
            "run.id": "Str(sft)",
            "run.name": "Str(llama-sft)",
            "run.project": "Str(nlp)",
            "run.group": "Str(sweep-7)",
            "run.framework": "Str(pytorch)",
            "run.source": "Str(api)",
            "run.attempt": "Int(0)",
            "run.result": "Str(success)",
            "run.nodes_expected": "Int(1)",
            "run.nodes_reported": "Int(1)",
            "run.parent_trace_id": f"Str({TRACEPARENT.split('-')[1]})",
            "co2e.basis": "Str(lifecycle)",
            "pue": "Double(1.25)",
            "currency": "Str(EUR)",
            "gpu.count": "Int(1)",
            "gpu.uuids": f"Slice(Str({fake.uuids[0]}))",
            "attribution.methods": "Slice(Str(exclusive))",
            "progress.steps": "Int(10)",
            "progress.samples": "Int(640)",
            "progress.tokens": "Int(5000)",
        }
        said = {name: span["attributes"].get(f"wattspan.{name}") for name in expected}
        assert said == expected
        assert number(span, "wattspan.energy.total") == pytest.approx(final["energy_joules"])
        assert number(span, "wattspan.energy.gpu") == pytest.approx(final["energy_joules"])
        assert number(span, "wattspan.co2e.operational") == pytest.approx(final["co2e_grams"])
        assert number(span, "wattspan.cost") == pytest.approx(final["cost"])
        assert number(span, "wattspan.grid.intensity") == pytest.approx(400)
        assert number(span, "wattspan.gpu.seconds") == pytest.approx(final["gpu_seconds"])
        assert 0.05 < number(span, "wattspan.uncertainty.ratio") < 2
    assert (whole["attributes"]["wattspan.run.scope"], part["attributes"]["wattspan.run.scope"]) == (
        "Str(run)",
        "Str(node)",
    )
    phases = named(spans, "training_run.phase")
    assert [span["attributes"].get("wattspan.phase.name") for span in phases] == [
        "Str(epoch)",
        "Str(checkpoint)",
    ]
    assert {span["parent"] for span in phases} == {node_span}
    phase_s = (phases[0]["end"] - phases[0]["start"]) / NS_PER_S
    assert 0.9 < phase_s < 30, "it was slept for a second, and the machine may be busy"
    # Two refreshes of the counter, of 100 ms each, at most.
    assert number(phases[0], "wattspan.energy.gpu") == pytest.approx(300 * phase_s, abs=60)
    assert phases[1]["end"] == record.ended_wall_ns
    (window,) = named(spans, "training_run.window")
    assert window["parent"] == node_span
    assert (window["start"], window["end"]) == (record.began_wall_ns, record.ended_wall_ns)
    assert number(window, "wattspan.energy.gpu") == pytest.approx(final["energy_joules"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_not_one_run_span_is_missing(tmp_path: Path, protocol: str) -> None:
    """The collector is away, frozen and killed; the daemon is killed and stopped; every run arrives."""
    runs = [f"run-{number}" for number in range(6)]
    with (
        collecting(tmp_path) as rotel,
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        Daemon(fake, tmp_path / "state", *FAST, "--node.name", "a", env=exporting(rotel, protocol)) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())

        def one_more(run_id: str) -> None:
            clerk.begin(run_id=run_id)
            clerk.end(run_id)

        one_more(runs[0])
        daemon.until(lambda s: s.value("wattspan_span_export_failures_total") > 0, "a failed export")
        assert daemon.metrics().value("wattspan_spans_pending") == 3
        daemon.kill()
        daemon.start()
        daemon.wait_ready()
        rotel.start()
        one_more(runs[1])
        rotel.spans(at_least=6)
        rotel.freeze()
        one_more(runs[2])
        time.sleep(0.5)
        rotel.kill()
        one_more(runs[3])
        daemon.stop()
        daemon.start()
        daemon.wait_ready()
        one_more(runs[4])
        rotel.start()
        one_more(runs[5])
        spans = rotel.spans(at_least=3 * len(runs))
        scrape = daemon.until(lambda s: s.value("wattspan_spans_pending") == 0, "nothing left to deliver")
        assert scrape.value("wattspan_spans_rejected_total") == 0
    for run_id in runs:
        trace, run_span, node_span = ids("", run_id, 0, "a")
        assert spans[run_span]["trace_id"] == spans[node_span]["trace_id"] == trace


def test_a_run_over_a_kill_of_the_daemon_is_one_span_with_its_true_times(tmp_path: Path) -> None:
    """Begun under one daemon, ended under the next."""
    state = tmp_path / "state"
    with (
        collecting(tmp_path) as rotel,
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        Daemon(fake, state, *FAST, "--node.name", "a", env=exporting(rotel, "http/protobuf")) as daemon,
    ):
        rotel.start()
        clerk = Clerk(daemon.wait_ready())
        began_ns = time.time_ns()
        clerk.begin(run_id="sft")
        clerk.tell("sft", "phases", event="begin", name="epoch", index=7)
        daemon.after(1)
        daemon.kill()
        time.sleep(0.5)
        daemon.start()
        daemon.wait_ready()
        clerk.tell("sft", "phases", event="end", name="epoch", index=7)
        clerk.end("sft")
        ended_ns = time.time_ns()
        spans = rotel.spans(at_least=4)
    _, run_span, _ = ids("", "sft", 0, "a")
    assert len(spans) == 4
    assert began_ns <= spans[run_span]["start"] < spans[run_span]["end"] <= ended_ns
    assert spans[run_span]["start"] - began_ns < NS_PER_S
    (phase,) = named(spans, "training_run.phase")
    assert phase["attributes"]["wattspan.phase.index"] == "Int(7)"
    assert phase["end"] - phase["start"] > NS_PER_S / 2


def test_a_reboot_in_mid_run_ends_its_span(tmp_path: Path) -> None:
    """As lost, with the ids that it began with; the next attempt links to it."""
    boots = Boots(tmp_path)
    with (
        collecting(tmp_path) as rotel,
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        Daemon(
            fake,
            tmp_path / "state",
            *(*FAST, *boots.flags, "--node.name", "a"),
            env=exporting(rotel, "http/protobuf"),
        ) as daemon,
    ):
        rotel.start()
        boots.show(os.getpid())
        clerk = Clerk(daemon.wait_ready())
        clerk.begin(run_id="sft")
        daemon.after(3)
        daemon.kill()
        boots.reboot(fake)
        boots.show(os.getpid())
        daemon.start()
        daemon.wait_ready()
        rotel.spans(at_least=3)
        assert clerk.begin(run_id="sft")["attempt"] == 1
        clerk.tell("sft", "end", attempt=1, result="failure", error_type="torch.OutOfMemoryError")
        spans = rotel.spans(at_least=6)
    first_trace, first, _ = ids("", "sft", 0, "a")
    trace, second, node = ids("", "sft", 1, "a")
    assert spans[first]["attributes"]["wattspan.run.result"] == "Str(lost)"
    assert spans[first]["status"] == "STATUS_CODE_UNSET"
    for span_id in (second, node):
        span = spans[span_id]
        assert span["trace_id"] == trace
        assert span["links"] == [(first_trace, first)]
        assert (span["status"], span["attributes"]["error.type"]) == (
            "STATUS_CODE_ERROR",
            "Str(torch.OutOfMemoryError)",
        )


def test_a_run_over_three_nodes_is_one_trace(tmp_path: Path) -> None:
    """Without a word between them: three daemons, one run span from rank 0's, three node spans below it.

    Each says which region of a cloud it stands in, where it knows: by a setting, by a hint, or not.
    """
    nodes = ("gpu-1", "gpu-2", "gpu-3")
    regions: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
        (("--grid.region", "eu-west-3"), {}),
        ((), {"WATTSPAN_NODE_REGION": "europe-west9"}),
        (("--grid.zone", "FR", "--grid.cloud-metadata", "off"), {}),
    )
    with collecting(tmp_path) as rotel, ExitStack() as stack:
        rotel.start()
        clerks = []
        for rank, node in enumerate(nodes):
            folder = tmp_path / node
            folder.mkdir()
            fake = stack.enter_context(FakeNvml(THREE_CARDS, folder))
            flags = (*FAST, "--cluster.name", "hpc", "--node.name", node, *regions[rank][0])
            env = {**exporting(rotel, PROTOCOLS[rank % 2]), **regions[rank][1]}
            daemon = Daemon(fake, folder / "s", *flags, env=env)
            clerks.append(Clerk(stack.enter_context(daemon).wait_ready()))
        for rank, clerk in enumerate(clerks):
            clerk.begin(run_id="slurm:hpc:7", rank=8 * rank, world_size=24, nodes_expected=3)
        clerks[0].tell("slurm:hpc:7", "progress", steps=0)
        for clerk in clerks:
            clerk.end("slurm:hpc:7")
        spans = rotel.spans(at_least=7)
        time.sleep(1)
        spans = rotel.spans(at_least=7)
    trace, run_span, _ = ids("hpc", "slurm:hpc:7", 0, "")
    assert {span["trace_id"] for span in spans.values()} == {trace}
    assert [span["id"] for span in named(spans, "training_run")] == [run_span]
    assert spans[run_span]["attributes"]["wattspan.run.scope"] == "Str(node)"
    assert spans[run_span]["attributes"]["wattspan.run.nodes_expected"] == "Int(3)"
    parts = named(spans, "training_run.node")
    assert {span["id"] for span in parts} == {ids("hpc", "slurm:hpc:7", 0, node)[2] for node in nodes}
    assert {span["parent"] for span in parts} == {run_span}
    assert {span["resource"]["host.name"]: span["resource"].get("cloud.region") for span in parts} == {
        "Str(gpu-1)": "Str(eu-west-3)",
        "Str(gpu-2)": "Str(europe-west9)",
        "Str(gpu-3)": None,
    }


def test_metrics_say_which_region_they_are_of(tmp_path: Path) -> None:
    """What the daemon pushes as hardware metrics has the same resource as its spans."""
    rotel = Rotel(tmp_path, printed="metrics")
    try:
        rotel.start()
        env = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "500"}
        env |= exporting(rotel, PROTOCOLS[0])
        flags = (*FAST, "--grid.region", "eu-west-3")
        with (
            FakeNvml(THREE_CARDS, tmp_path) as fake,
            Daemon(fake, tmp_path / "s", *flags, env=env) as daemon,
        ):
            daemon.wait_ready()
            told = rotel.output(holding="hw.power")
    finally:
        rotel.kill()
    assert "cloud.region: Str(eu-west-3)" in told


def test_without_a_collector_nothing_waits(tmp_path: Path) -> None:
    """Where none is named, no span is made, and no series says that any is pending."""
    with FakeNvml(THREE_CARDS, tmp_path) as fake, Daemon(fake, tmp_path / "state", *FAST) as daemon:
        clerk = Clerk(daemon.wait_ready())
        clerk.begin(run_id="sft")
        clerk.end("sft")
        assert daemon.after(2).find("wattspan_spans_pending") is None
