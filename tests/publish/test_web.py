"""The pages: what each path answers, through the real server."""

import gzip
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest

from tests.publish.serving import NODE, Renderer, app, ask, connect, serving
from tests.publish.views import EMPTY, TAKEN_AT_NS, Door, filled
from wattspan.model import LedgerView
from wattspan.publish.exposition import Exposition
from wattspan.units import NS_PER_S

PATHS = (
    "/",
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/health/live",
    "/health/ready",
    "/openapi.json",
    "/api/v1/node",
    "/api/v1/grid",
    "/api/v1/grid/forecast",
)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_answers_get_and_head_alike(path: str) -> None:
    """HEAD has GET's status and headers, and no body."""
    with serving() as port:
        got, head = ask(port, path), ask(port, path, "HEAD")
    assert (got.status, head.status) == (200, 200)
    assert head.body == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]
    assert int(got.headers["content-length"]) == len(got.body)
    assert got.headers["x-content-type-options"] == "nosniff"
    assert abs(parsedate_to_datetime(got.headers["date"]).timestamp() - time.time()) < 60
    assert "server" not in got.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods_are_refused_by_name(method: str) -> None:
    """What is neither GET nor HEAD is a 405 that says what is allowed."""
    with serving() as port:
        answer = ask(port, "/metrics", method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/nothing", "/metrics/", "//", "/api", "/..%2f..%2fetc/passwd", "/%00", "/%ff"]
)
def test_an_unknown_path_is_a_problem(path: str) -> None:
    """An unknown path is a 404 as RFC 9457 describes it."""
    with serving() as port:
        answer = ask(port, path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.document == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no such path; / lists what there is",
    }


def test_the_landing_page_links_to_every_path_and_runs_nothing() -> None:
    """The landing page names node and version, escaped, and allows no script."""
    with serving() as port:
        page = ask(port, "/")
    text = page.body.decode()
    assert "gpu-17" in text
    assert NODE.version in text
    assert all(f'href="{path}"' in text for path in PATHS if path != "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in text


def test_twenty_scrapes_of_one_view_render_once() -> None:
    """Scrapes at the same time share one rendering, and each of them is told to the writer."""
    door, render = Door(), Renderer(size=200_000)
    with serving(app(door, render)) as port, ThreadPoolExecutor(20) as scrapers:
        answers = list(scrapers.map(lambda _: ask(port, "/metrics"), range(20)))
    assert {answer.body for answer in answers} == {b"sequence 7\n".ljust(200_000, b"x")}
    assert render.calls == [(7, "")]
    assert door.seen == [(7, 3)] * 20


def test_a_new_view_is_rendered_anew() -> None:
    """A body is never older than the view, even where the sequence has stayed."""
    door, render = Door(filled(7)), Renderer()
    with serving(app(door, render)) as port:
        first = ask(port, "/metrics")
        door.view = filled(8)
        second = ask(port, "/metrics")
        door.view = replace(filled(8), journal_error="disk full")
        ask(port, "/metrics")
    assert (first.body, second.body) == (b"sequence 7\n", b"sequence 8\n")
    assert [sequence for sequence, _ in render.calls] == [7, 8, 8]


def test_each_accept_header_has_its_own_body() -> None:
    """The renderer sees the Accept header, and formats do not share bodies."""
    render = Renderer()
    with serving(app(render=render)) as port:
        for accept in ("text/plain", "application/openmetrics-text", "text/plain"):
            ask(port, "/metrics", headers={"Accept": accept})
    assert render.calls == [(7, "text/plain"), (7, "application/openmetrics-text")]


def test_a_thousand_accept_headers_are_not_kept() -> None:
    """Inventing Accept headers gets a right answer each time and does not grow the memory."""
    render = Renderer()
    with serving(app(render=render)) as port:
        bodies = {ask(port, "/metrics", headers={"Accept": f"text/x-{n}"}).body for n in range(30)}
        ask(port, "/metrics", headers={"Accept": "text/x-0"})
    assert bodies == {b"sequence 7\n"}
    assert len(render.calls) == 31


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [
        ("gzip", True),
        ("GZIP;q=0.5, br", True),
        ("deflate, *", True),
        ("identity", False),
        ("", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=nonsense", False),
    ],
)
def test_a_body_is_zipped_for_those_who_take_it(accepted: str, zipped: bool) -> None:
    """Accept-Encoding decides, weights included; the text is the same."""
    with serving(app(render=Renderer(size=5000))) as port:
        answer = ask(port, "/metrics", headers={"Accept-Encoding": accepted})
    assert (answer.headers.get("content-encoding") == "gzip") == zipped
    body = gzip.decompress(answer.body) if zipped else answer.body
    assert body == b"sequence 7\n".ljust(5000, b"x")
    assert "Accept-Encoding" in answer.headers["vary"]


def test_the_real_exposition_is_served_in_both_formats() -> None:
    """A scraper that asks for OpenMetrics gets it, another gets the text format."""
    with serving(app(render=Exposition(3000).render)) as port:
        text = ask(port, "/metrics", headers={"Accept": "text/plain;version=0.0.4"})
        openmetrics = ask(port, "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")
    assert b"wattspan_gpu_energy_joules_total" in text.body


def test_a_head_of_metrics_is_no_scrape() -> None:
    """Who asks for headers alone has not seen the counters at 0."""
    door = Door()
    with serving(app(door)) as port:
        ask(port, "/metrics", "HEAD")
    assert door.seen == []


@pytest.mark.parametrize("path", ["/-/ready", "/health/ready"])
def test_ready_once_published_and_while_the_journal_is_written(path: str) -> None:
    """Ready = first snapshot published and journal writable; the answer says why not."""
    door = Door(EMPTY)
    with serving(app(door)) as port:
        early = ask(port, path)
        door.view = filled()
        ready = ask(port, path)
        door.view = replace(filled(), journal_error="/secret/path: disk full")
        stuck = ask(port, path)
    assert (early.status, ready.status, stuck.status) == (503, 200, 503)
    assert early.document["problems"] == ["no snapshot published yet"]
    assert ready.document["ready"] is True
    assert stuck.document["problems"] == ["the journal cannot be written"]
    assert b"/secret/path" not in stuck.body


def test_ready_tells_how_fresh_each_source_is() -> None:
    """The body names each source with its age, and nothing that a password should guard."""
    with serving() as port:
        answer = ask(port, "/-/ready")
    assert answer.document["snapshot_age_seconds"] == 1.0
    assert answer.document["sources"] == [
        {"source": "nvidia", "up": True, "reason": "", "age_seconds": 1.25},
        {"source": "rapl", "up": False, "reason": "permission", "age_seconds": None},
    ]
    assert b"powercap" not in answer.body


def test_strict_readiness_minds_sources() -> None:
    """strict=1 makes a source that is down or three intervals old, or overdue sampling, a 503."""
    healthy = replace(filled(), health=filled().health[:1])
    age_ns = [NS_PER_S]
    with serving(app(door := Door(), now_ns=lambda: TAKEN_AT_NS + age_ns[0])) as port:
        down = ask(port, "/-/ready?strict=1")
        door.view = healthy
        fresh = ask(port, "/-/ready?strict=true")
        age_ns[0] = 4 * NS_PER_S
        stale, lenient = ask(port, "/-/ready?strict=1"), ask(port, "/-/ready?strict=0")
    assert [down.status, fresh.status, stale.status, lenient.status] == [503, 200, 503, 200]
    assert down.document["problems"] == ["source rapl is not up: permission"]
    assert stale.document["problems"] == ["sampling is overdue", "source nvidia is stale"]


@pytest.mark.parametrize("query", ["strict=yes", "strict=", "strict=1&strict=0", "strict=%00"])
def test_a_strict_that_means_nothing_is_refused(query: str) -> None:
    """A value of strict that is not allowed is a 400 that names what is."""
    with serving() as port:
        answer = ask(port, f"/-/ready?{query}")
    assert answer.status == 400
    assert "0, 1, false, true" in answer.document["detail"]


def test_a_query_without_end_is_refused() -> None:
    """A query has a bound."""
    with serving() as port:
        answer = ask(port, "/metrics?" + "x" * 5000)
    assert answer.status == 414


def test_a_body_on_get_is_passed_over() -> None:
    """A small body changes nothing, and the connection goes on; a large one is refused before it is sent."""
    with serving() as port:
        assert ask(port, "/metrics", body=b"x" * 1000).status == 200
        with connect(port) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_an_unexpected_error_tells_the_operator_and_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """A bug becomes a 500 without its inside, and one line in the log."""

    def render(view: LedgerView, accept: str) -> None:
        raise KeyError(f"secret {view.sequence} {accept}")

    with caplog.at_level(logging.INFO, "wattspan"), serving(app(render=render)) as port:
        answer = ask(port, "/metrics")
        well = ask(port, "/-/healthy")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert [record.getMessage() for record in caplog.records] == [
        "GET '/metrics' failed: KeyError: 'secret 7 '"
    ]
    assert caplog.records[0].exc_info is None
    assert well.status == 200


def test_a_path_cannot_forge_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """What a stranger writes into a path stays inside one quoted word."""

    class Broken(Door):
        @property
        def view(self) -> LedgerView:
            raise RuntimeError("broken")

        @view.setter
        def view(self, _: LedgerView) -> None: ...

    with caplog.at_level(logging.INFO, "wattspan"), serving(app(Broken())) as port:
        assert ask(port, "/api/v1/node").status == 500
    assert "\n" not in caplog.records[0].getMessage()


def test_json_answers_are_json() -> None:
    """The API answers compact JSON of ASCII alone."""
    with serving() as port:
        answer = ask(port, "/api/v1/node")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(answer.body.decode("ascii"))["node"] == "gpu-17"
