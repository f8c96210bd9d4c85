"""The exporter of spans: nothing is missing afterwards, and nothing is counted that was not taken."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.collector import Policy, Reply, Rotel, StandIn, Tls, free_port, over_grpc, over_http
from tests.publish.certificates import Authority
from wattspan import __version__
from wattspan.errors import SetupError
from wattspan.journal import Journal
from wattspan.journal.outbox import Outbox
from wattspan.publish import spans_otlp
from wattspan.publish.spans import BATCH, REFUSALS_MAX, SpanExporter
from wattspan.runs import SpanRecord

SPAN = SpanRecord(
    trace_id="b641e7d2518e39667fb3d3367234428a",
    span_id="a3d0bdb7167b9d71",
    parent_span_id="716e3c77dbe98c6d",
    name="training_run.node",
    start_wall_ns=1_790_856_000_000_000_000,
    end_wall_ns=1_790_856_900_000_000_001,
    attributes={
        "wattspan.run.id": "llama-sft",
        "wattspan.gpu.count": 8,
        "wattspan.energy.gpu": 3.5,
        "wattspan.grid.estimated": True,
        "wattspan.gpu.uuids": ("GPU-a", "GPU-b"),
    },
    error_type="OutOfMemoryError",
    links=(("2821be844569cfaea81e052aaff3d153", "365b7e07c222947d"),),
)

RESOURCE = spans_otlp.resource_of("gpu-17", "prod-eu", "0.1.0", region="eu-central-1", kubernetes=True)

HTTP_TROUBLE = [
    Reply(status=500),
    Reply(status=503, headers=(("Retry-After", "7"),)),
    Reply(status=429, headers=(("Retry-After", "7"),)),
    Reply(status=401),
    Reply(status=404),
    Reply(status=302, headers=(("Location", "/elsewhere"),)),
    Reply(body=b"<html>sign in</html>", content_type="text/html"),
    Reply(body=b"OK", content_type="text/plain"),
    Reply(body=b"\xff\xff\xff"),
    Reply(body=b"[", content_type="application/json"),
    Reply(cut=True),
    Reply(hang=True),
]
GRPC_TROUBLE = [
    Reply(code=grpc.StatusCode.UNAVAILABLE),
    Reply(code=grpc.StatusCode.RESOURCE_EXHAUSTED),
    Reply(code=grpc.StatusCode.UNAUTHENTICATED),
    Reply(code=grpc.StatusCode.UNIMPLEMENTED),
    Reply(code=grpc.StatusCode.INTERNAL),
    Reply(hang=True),
]


@dataclass
class Clock:
    """Handed to the exporter; moved by the test."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        """Now."""
        return self.now_s


@dataclass
class Node:
    """A daemon's part of the story: the journal with its outbox, and the exporter."""

    state: Path
    chance: float = 1.0
    clock: Clock = field(default_factory=Clock)
    receipts: "queue.SimpleQueue[Sequence[int]]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self._begin()

    def write(self, *spans: SpanRecord) -> None:
        """A tick with spans that ended."""
        self.journal.commit([], [], spans=spans)

    def commit(self) -> None:
        """A tick: what was acknowledged leaves the outbox."""
        delivered: list[int] = []
        while not self.receipts.empty():
            delivered += self.receipts.get()
        self.journal.commit([], [], delivered=delivered)

    def deliver(self, wait_s: float = 7_200.0) -> None:
        """A look of the exporter after a while, and the tick after it."""
        self.clock.now_s += wait_s
        self.exporter.deliver()
        self.commit()

    def deliver_all(self) -> None:
        """Look until nothing waits; where patience is short, a slow machine may need a second look."""
        for _ in range(20):
            self.deliver()
            if not self.pending:
                return

    def kill(self) -> None:
        """kill -9, and a new daemon: what the exporter had in mind is gone, and so are its receipts."""
        self.close()
        self.receipts = queue.SimpleQueue()
        self._begin()

    def close(self) -> None:
        """End without a word."""
        self.exporter.stop(5.0)
        self.journal.close(clean=False)

    @property
    def pending(self) -> list[str]:
        """Span ids in the outbox."""
        reader = Outbox(self.state)
        return [span.span_id for span in reader.spans(reader.waiting()).values()]

    def _begin(self) -> None:
        self.journal = Journal.open(self.state, "boot-1")
        self.exporter = SpanExporter(
            Outbox(self.state),
            spans_otlp.door(os.environ, RESOURCE),
            self.receipts.put,
            monotonic_s=self.clock,
            chance=lambda: self.chance,
        )


def numbered(n: int) -> SpanRecord:
    """A span of its own."""
    return replace(SPAN, span_id=f"{n:016x}")


def ids(numbers: Sequence[int] | range) -> list[str]:
    """The ids of such spans."""
    return [f"{n:016x}" for n in numbers]


def refusing(bad: Sequence[str], refusal: Reply) -> Policy:
    """Take all but some spans: a partial success says how many, anything else refuses the whole request."""

    def policy(request: Sequence[str]) -> Reply:
        rejected = len(set(bad) & set(request))
        if not rejected:
            return Reply()
        return replace(refusal, rejected=rejected) if refusal.acknowledges else refusal

    return policy


def always(reply: Reply) -> Policy:
    """The same answer to everything."""
    return lambda _: reply


IMPATIENT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
"""Less than the pause before the exporters' own second try, where a test waits for the first to fail."""

STAND_INS = {"http/protobuf": over_http, "grpc": over_grpc}


@contextmanager
def named(endpoint: str, protocol: str, **more: str) -> Iterator[None]:
    """The environment of a daemon that was told of a collector."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("OTEL_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10")
        for name, value in more.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(params=list(STAND_INS))
def protocol(request: pytest.FixtureRequest) -> str:
    """HTTP, and then gRPC."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def collector(protocol: str) -> Iterator[StandIn]:
    """A stand-in that takes everything until told otherwise, and is named to the exporter."""
    with STAND_INS[protocol]() as stand_in, named(stand_in.endpoint, protocol):
        yield stand_in


@pytest.fixture
def node(collector: StandIn, tmp_path: Path) -> Iterator[Node]:
    """A daemon that exports to `collector`."""
    node = Node(tmp_path / "state")
    yield node
    collector.closing.set()
    node.close()


def test_spans_go_out_oldest_first_and_leave_the_outbox(node: Node, collector: StandIn) -> None:
    """What the collector has acknowledged is counted once and not sent again."""
    node.write(*map(numbered, range(BATCH + 5)))
    node.deliver()
    assert collector.requests == [ids(range(BATCH)), ids(range(BATCH, BATCH + 5))]
    assert node.pending == []
    node.deliver()
    assert len(collector.requests) == 2
    counts = node.exporter.counts
    assert (counts.exported, counts.pending, counts.rejected, counts.failures) == (BATCH + 5, 0, 0, 0)


def test_acknowledged_span_is_not_sent_again_while_the_journal_takes_no_commit(
    node: Node, collector: StandIn
) -> None:
    """Between the acknowledgement and the commit the exporter remembers; after a kill it may repeat."""
    node.write(numbered(1), numbered(2))
    node.exporter.deliver()
    node.exporter.deliver()
    assert collector.requests == [ids([1, 2])]
    assert (node.pending, node.exporter.counts.pending) == (ids([1, 2]), 0)
    node.kill()
    node.deliver()
    assert collector.requests == [ids([1, 2])] * 2
    assert node.pending == []


def test_partial_success_is_no_acknowledgement(node: Node, collector: StandIn) -> None:
    """The rejected span alone stays, is tried again ever more rarely, and goes once it is wanted."""
    node.write(*map(numbered, range(8)))
    collector.policy = refusing(ids([3]), Reply())
    node.deliver()
    assert node.pending == ids([3])
    assert collector.acknowledged == set(ids([0, 1, 2, 4, 5, 6, 7]))
    counts = node.exporter.counts
    assert (counts.exported, counts.pending, counts.rejected) == (7, 1, 1)
    before = len(collector.requests)
    node.deliver(wait_s=59)
    assert len(collector.requests) == before
    node.deliver(wait_s=2)
    assert collector.requests[before:] == [ids([3])]
    node.deliver(wait_s=119)
    assert len(collector.requests) == before + 1
    collector.policy = always(Reply())
    node.deliver(wait_s=2)
    assert (node.pending, node.exporter.counts.exported) == ([], 8)


def test_rejected_span_holds_up_nobody(node: Node, collector: StandIn) -> None:
    """Younger spans go out past one that the collector does not want."""
    collector.policy = refusing(ids([0]), Reply())
    node.write(numbered(0))
    node.deliver()
    node.write(numbered(1))
    node.deliver(wait_s=1)
    assert node.pending == ids([0])


def test_scattered_rejections_do_not_make_the_collector_away(node: Node, collector: StandIn) -> None:
    """However many spans are rejected, those between them go out in the same look."""
    bad = ids(range(0, BATCH, 4))
    assert len(bad) > REFUSALS_MAX
    collector.policy = refusing(bad, Reply())
    node.write(*map(numbered, range(BATCH)))
    node.deliver()
    assert node.pending == bad


def test_rejections_are_said_once_for_as_long_as_they_last(
    node: Node, collector: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning for all rejections at a time, and another when they begin anew."""
    node.write(*map(numbered, range(4)))
    for _ in range(2):
        collector.policy = refusing(ids([1, 2, 3]), Reply())
        node.deliver()
        node.deliver()
        assert len(caplog.messages) == 1
        caplog.clear()
        collector.policy = always(Reply())
        node.deliver()
        node.deliver()
        node.write(*map(numbered, range(4)))


def test_span_that_cannot_be_encoded_stays_alone(node: Node, collector: StandIn) -> None:
    """A span that no request can hold is never taken for delivered, and holds up nobody."""
    node.write(numbered(0))
    node.deliver()
    node.write(numbered(1), replace(numbered(2), name="\ud800"), numbered(3))
    node.deliver()
    assert node.pending == ids([2])
    assert collector.acknowledged == set(ids([0, 1, 3]))
    counts = node.exporter.counts
    assert (counts.exported, counts.rejected) == (3, 1)


def test_rejection_without_a_number_of_spans_is_found_too(
    node: Node, collector: StandIn, protocol: str
) -> None:
    """A request that is refused as a whole is sent in halves until the span at fault stands alone."""
    refusal = Reply(code=grpc.StatusCode.INVALID_ARGUMENT) if protocol == "grpc" else Reply(status=400)
    collector.policy = refusing(ids([5, 40]), refusal)
    node.write(*map(numbered, range(BATCH)))
    node.deliver()
    assert node.pending == ids([5, 40])
    assert node.exporter.counts.exported == BATCH - 2


def test_collector_that_refuses_everything_counts_as_away(
    node: Node, collector: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not flooded with single spans, and the log says it once."""
    collector.policy = lambda request: Reply(rejected=len(request))
    node.write(*map(numbered, range(10 * BATCH)))
    for look in range(1, 6):
        node.deliver(wait_s=70)
        assert len(collector.requests) == look
    assert node.pending == ids(range(10 * BATCH))
    assert node.exporter.counts.exported == 0
    (said,) = caplog.messages
    assert "rejects spans, which are kept and tried again: too odd" in said


@pytest.mark.parametrize("trouble", HTTP_TROUBLE)
def test_http_answer_that_is_no_acknowledgement(
    trouble: Reply, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever else is answered, or not, the spans stay; one line is written then and one when it is over."""
    with over_http() as collector, named(collector.endpoint, "http/protobuf", **IMPATIENT):
        outlives(trouble, collector, tmp_path, caplog)


@pytest.mark.parametrize("trouble", GRPC_TROUBLE)
def test_grpc_answer_that_is_no_acknowledgement(
    trouble: Reply, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same over gRPC."""
    with over_grpc() as collector, named(collector.endpoint, "grpc", **IMPATIENT):
        outlives(trouble, collector, tmp_path, caplog)


def outlives(trouble: Reply, collector: StandIn, state: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Let the trouble come and go; the log is silent meanwhile."""
    node = Node(state / "state")
    node.write(numbered(1), numbered(2))
    collector.policy = always(trouble)
    for _ in range(2):
        node.deliver()
        assert node.pending == ids([1, 2])
    counts = node.exporter.counts
    assert (counts.exported, counts.pending, counts.failures) == (0, 2, 2)
    collector.policy = always(Reply())
    node.deliver_all()
    assert node.pending == []
    assert collector.acknowledged == set(ids([1, 2]))
    assert node.exporter.counts.exported == 2
    away, back = caplog.messages
    assert f"{collector.endpoint} does not take spans, 2 wait: " in away
    assert "takes spans again" in back
    collector.closing.set()
    node.close()


def test_empty_and_json_answers_acknowledge(tmp_path: Path) -> None:
    """Collectors that answer 200 without a body, or in JSON, are understood, partial success included."""
    with over_http() as collector, named(collector.endpoint, "http/protobuf"):
        node = Node(tmp_path / "state")
        for body in (b"", b"{}", b'{"partialSuccess": {}, "tomorrow": 1}'):
            node.write(numbered(1))
            collector.policy = always(Reply(body=body, content_type="application/json; charset=utf-8"))
            node.deliver()
            assert node.pending == []
        node.write(numbered(2))
        told = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "odd"}}'
        collector.policy = always(Reply(body=told, content_type="application/json"))
        node.deliver()
        assert node.pending == ids([2])
        node.close()


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_back_off_doubles_up_to_a_minute(
    node: Node, collector: StandIn, protocol: str, chance: float
) -> None:
    """A collector that is away is asked after 1, 2, ... 60 s or half of that, by chance, and then at once."""
    node.chance = chance
    trouble = Reply(code=grpc.StatusCode.UNAUTHENTICATED) if protocol == "grpc" else Reply(status=401)
    collector.policy = always(trouble)
    node.write(numbered(1))
    node.deliver()
    for step_s in (1, 2, 4, 8, 16, 32, 60, 60):
        asked = len(collector.requests)
        drawn_s = step_s * (0.5 + chance / 2)
        node.deliver(wait_s=drawn_s - 0.1)
        assert len(collector.requests) == asked
        node.deliver(wait_s=0.2)
        assert len(collector.requests) == asked + 1
    collector.policy = always(Reply())
    node.deliver(wait_s=60)
    node.write(numbered(2))
    node.deliver(wait_s=0)
    assert node.pending == []
    collector.policy = always(trouble)
    node.write(numbered(3))
    node.deliver(wait_s=0)
    collector.policy = always(Reply())
    node.deliver(wait_s=1.1)
    assert node.pending == []


def test_retry_after_is_honoured_up_to_an_hour(tmp_path: Path) -> None:
    """A collector that asks for patience gets it, within reason."""
    with over_http() as collector, named(collector.endpoint, "http/protobuf"):
        node = Node(tmp_path / "state")
        node.write(numbered(1))
        for asked_s, granted_s in ((300, 300), (1_000_000, 3_600)):
            collector.policy = always(Reply(status=429, headers=(("Retry-After", str(asked_s)),)))
            node.deliver(wait_s=10_000)
            asked = len(collector.requests)
            node.deliver(wait_s=granted_s - 1)
            assert len(collector.requests) == asked
            node.deliver(wait_s=2)
            assert len(collector.requests) == asked + 1
        node.close()


answers = st.sampled_from(
    [
        Reply(),
        Reply(),
        Reply(status=500),
        Reply(status=400),
        Reply(cut=True),
        Reply(rejected=1),
        Reply(rejected=3),
        Reply(body=b"<html>", content_type="text/html"),
    ]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=st.lists(
        st.tuples(
            st.integers(0, 4), st.lists(answers, max_size=6), st.sampled_from(["commit", "wait", "kill"])
        ),
        max_size=6,
    )
)
def test_nothing_is_lost_and_nothing_is_invented(
    story: list[tuple[int, list[Reply], str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Through any answers and kills: what left the outbox was acknowledged, and all arrives in the end."""
    with over_http() as collector, named(collector.endpoint, "http/protobuf", **IMPATIENT):
        node = Node(tmp_path_factory.mktemp("story") / "state")
        written: set[str] = set()
        for arrivals, script, then in story:
            fresh = range(len(written), len(written) + arrivals)
            node.write(*map(numbered, fresh))
            written.update(ids(fresh))
            collector.policy = lambda _, left=list(script): left.pop(0) if left else Reply()  # type: ignore[misc]
            node.clock.now_s += 7_200
            node.exporter.deliver()
            if then == "kill":
                node.kill()
            elif then == "commit":
                node.commit()
            assert written - set(node.pending) <= collector.acknowledged
            assert node.exporter.counts.exported <= len(collector.acknowledged)
        collector.policy = always(Reply())
        node.deliver_all()
        assert node.pending == []
        assert collector.acknowledged == written
        node.close()


def test_full_outbox_of_a_long_outage_is_delivered_in_one_go(node: Node, collector: StandIn) -> None:
    """After days without a collector everything goes out, batch after batch."""
    node.write(*map(numbered, range(2_000)))
    node.deliver()
    assert node.pending == []
    assert [span for request in collector.requests for span in request] == ids(range(2_000))


def test_outbox_that_cannot_be_read_is_said_once(
    node: Node, collector: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The exporter outlives a journal that is away for a while."""
    node.write(numbered(1))
    database = node.state / "journal.db"
    database.rename(node.state / "elsewhere")
    node.exporter.deliver()
    node.exporter.deliver()
    (node.state / "elsewhere").rename(database)
    node.deliver()
    assert (node.pending, collector.requests) == ([], [ids([1])])
    assert "cannot be read" in caplog.messages[0]
    assert len(caplog.messages) == 2


def test_environment_reaches_the_wire(tmp_path: Path, protocol: str) -> None:
    """Headers, compression and resource attributes are OpenTelemetry's own variables, unchanged."""
    more = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc,x-tenant=blue",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    with STAND_INS[protocol]() as collector, named(collector.endpoint, protocol, **more):
        node = Node(tmp_path / "state")
        node.write(numbered(1))
        node.deliver()
        assert node.pending == []
        assert (collector.headers["authorization"], collector.headers["x-tenant"]) == ("Bearer abc", "blue")
        assert protocol == "grpc" or collector.headers["content-encoding"] == "gzip"
        node.close()


def test_certificates_reach_the_wire(tmp_path: Path, protocol: str) -> None:
    """With the environment's authority and client certificate TLS works, without them it does not."""
    authority = Authority()
    server, client = authority.pair(), authority.pair("gpu-17")
    files = {"CERTIFICATE": authority.pem, "CLIENT_CERTIFICATE": client.certificate, "CLIENT_KEY": client.key}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    more = {f"OTEL_EXPORTER_OTLP_{name}": str(tmp_path / name) for name in files}
    (tmp_path / "other").write_bytes(Authority().pem)
    other = {"REQUESTS_CA_BUNDLE": str(tmp_path / "other")}
    with STAND_INS[protocol](Tls(server, authority.pem)) as collector:
        with named(collector.endpoint, protocol, **other, **IMPATIENT):
            node = Node(tmp_path / "state")
            node.write(numbered(1))
            node.deliver()
            assert (node.pending, collector.requests) == (ids([1]), [])
            node.close()
        with named(collector.endpoint, protocol, **other, **more):
            node = Node(tmp_path / "state")
            node.deliver()
            assert (node.pending, collector.requests) == ([], [ids([1])])
            node.close()


def test_secrets_of_an_endpoint_stay_out_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """User, password and query of an endpoint are for the collector alone."""
    with named(f"http://me:secret@127.0.0.1:{free_port()}/?token=secret", "http/protobuf", **IMPATIENT):
        node = Node(tmp_path / "state")
        node.write(numbered(1))
        node.deliver()
        node.close()
    assert "does not take spans" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("protocol", STAND_INS)
def test_real_collector_gets_spans_whole(protocol: str, tmp_path: Path) -> None:
    """Ids, parent, times, kind, status, attributes, links, resource and scope arrive as they were written."""
    rotel = Rotel(tmp_path)
    try:
        rotel.start()
        more = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod,cloud.region=here"}
        with named(rotel.endpoint(protocol), protocol, **more):
            node = Node(tmp_path / "state")
            node.write(SPAN, replace(numbered(1), parent_span_id="", error_type="", links=()))
            node.deliver()
            assert node.pending == []
            node.close()
        spans = rotel.spans(at_least=2)
    finally:
        rotel.kill()
    whole, plain = spans[SPAN.span_id], spans[numbered(1).span_id]
    resource = whole.pop("resource")
    assert {name: value for name, value in resource.items() if not name.startswith("telemetry.sdk")} == {
        "service.name": "Str(wattspan)",
        "service.version": "Str(0.1.0)",
        "service.instance.id": "Str(prod-eu/gpu-17)",
        "host.name": "Str(gpu-17)",
        "k8s.node.name": "Str(gpu-17)",
        "k8s.cluster.name": "Str(prod-eu)",
        "cloud.region": "Str(here)",
        "deployment.environment.name": "Str(prod)",
    }
    assert whole == {
        "trace_id": SPAN.trace_id,
        "parent": SPAN.parent_span_id,
        "name": "training_run.node",
        "kind": "SPAN_KIND_INTERNAL",
        "start": SPAN.start_wall_ns,
        "end": SPAN.end_wall_ns,
        "status": "STATUS_CODE_ERROR",
        "message": "OutOfMemoryError",
        "attributes": {
            "wattspan.run.id": "Str(llama-sft)",
            "wattspan.gpu.count": "Int(8)",
            "wattspan.energy.gpu": "Double(3.5)",
            "wattspan.grid.estimated": "Bool(true)",
            "wattspan.gpu.uuids": "Slice(Str(GPU-a), Str(GPU-b))",
        },
        "links": [SPAN.links[0]],
        "scope": f"wattspan {__version__}",
        "schema": "https://wattspan.io/schemas/1.0.0",
    }
    assert (plain["parent"], plain["status"], plain["links"]) == ("", "STATUS_CODE_UNSET", [])


@pytest.mark.parametrize("protocol", STAND_INS)
def test_real_collector_that_is_away_and_killed_in_mid_request(protocol: str, tmp_path: Path) -> None:
    """Not there yet, killed with a request in its hands, back again: every span arrives."""
    rotel = Rotel(tmp_path)
    try:
        with named(rotel.endpoint(protocol), protocol, **IMPATIENT):
            node = Node(tmp_path / "state")
            node.write(numbered(1), numbered(2))
            node.deliver()
            rotel.start()
            node.deliver_all()
            assert node.pending == []
            assert set(rotel.spans(at_least=2)) == set(ids([1, 2]))

            node.write(numbered(3))
            rotel.freeze()
            request = threading.Thread(target=node.exporter.deliver)
            request.start()
            request.join(0.2)
            rotel.kill()
            request.join()
            node.commit()
            assert (node.pending, node.exporter.counts.exported) == (ids([3]), 2)

            rotel.start()
            node.deliver_all()
            assert (node.pending, node.exporter.counts.exported) == ([], 3)
            node.close()
        assert set(rotel.spans(at_least=3)) == set(ids([1, 2, 3]))
    finally:
        rotel.kill()


def test_thread_delivers_and_ends_while_a_request_hangs(
    node: Node, collector: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread finds what is written, and a silent collector does not hold up the daemon's end."""
    taken = threading.Event()
    collector.policy = lambda _: (taken.set(), Reply())[1]
    node.write(numbered(1))
    node.exporter.start()
    assert taken.wait(20)
    for _ in range(2_000):
        if node.exporter.counts.exported:
            break
        threading.Event().wait(0.01)
    node.commit()
    asked = threading.Event()
    collector.policy = lambda _: (asked.set(), Reply(hang=True))[1]
    node.write(numbered(2))
    assert asked.wait(20)
    node.exporter.stop(0.0)
    node.commit()
    assert node.pending == ids([2])
    collector.closing.set()
    node.exporter.stop(20.0)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
    ],
)
def test_when_spans_are_wanted(environ: dict[str, str], wanted: bool) -> None:
    """Spans are written where OpenTelemetry's environment names a collector, and nowhere else."""
    assert spans_otlp.wanted(environ) is wanted


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "http/protobuf",
        ),
    ],
)
def test_protocol(environ: dict[str, str], protocol: str) -> None:
    """HTTP unless gRPC is asked for; the variable for traces goes first."""
    assert spans_otlp.protocol(environ) == protocol


def test_unknown_protocol_is_named() -> None:
    """A setting that cannot work is named with what is allowed."""
    with pytest.raises(
        SetupError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json', allowed is http/protobuf or grpc"
    ):
        spans_otlp.door({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, {})


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"])
def test_certificate_that_is_missing_is_named(name: str, protocol: str, tmp_path: Path) -> None:
    """A file that the environment names and nobody can read stops the start."""
    missing = tmp_path / "ca.pem"
    refused = pytest.raises(SetupError, match=f"{name} is '{missing}'.*No such file")
    with named("https://127.0.0.1:1", protocol, **{name: str(missing)}), refused:
        spans_otlp.door(os.environ, RESOURCE)


def test_grpc_endpoint_with_a_password_is_refused() -> None:
    """gRPC has no user and password in an address; the error names the variable and not the secret."""
    refused = pytest.raises(SetupError, match="OTEL_EXPORTER_OTLP_HEADERS")
    with named("http://me:secret@127.0.0.1:1", "grpc"), refused as error:
        spans_otlp.door(os.environ, RESOURCE)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("module", "protocol", "extra"),
    [("opentelemetry", "http/protobuf", "daemon"), ("grpc", "grpc", "grpc")],
)
def test_missing_extra_is_named(module: str, protocol: str, extra: str) -> None:
    """Without the packages the start ends with the extra's name, not with a traceback."""
    told = child(
        f"import sys; sys.modules[{module!r}] = None\n"
        "from wattspan.errors import SetupError\n"
        "from wattspan.publish import spans_otlp\n"
        f"try: spans_otlp.door({{'OTEL_EXPORTER_OTLP_PROTOCOL': {protocol!r}}}, {{}})\n"
        "except SetupError as error: print(error)\n"
    )
    assert f"pip install 'wattspan[{extra}]'" in told


def test_nothing_of_opentelemetry_is_imported_before_it_is_wanted() -> None:
    """Who names no collector does not pay for one."""
    told = child(
        "import sys\n"
        "from wattspan.publish import span_content, spans, spans_otlp\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print({'opentelemetry', 'google', 'grpc', 'requests'} & loaded)"
    )
    assert told.strip() == "set()"


def child(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout
