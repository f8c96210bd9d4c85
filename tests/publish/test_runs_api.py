"""The runs API: documents, lists, writes, and what is wrong with them."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from tests.publish.runs import (
    JSON,
    NOW_WALL_NS,
    POD,
    Office,
    Shelf,
    finished,
    loopback_is,
    office,
    on_socket,
    over_tcp,
    post,
    record,
    say,
)
from tests.publish.serving import basic
from wattspan.publish import openapi, run_documents
from wattspan.publish.commands import (
    BeginRun,
    EndRun,
    Mailbox,
    NotePhases,
    PhaseEvent,
    ReportProgress,
)
from wattspan.publish.identity import Identity
from wattspan.publish.peers import PeerProcesses
from wattspan.publish.run_bodies import moment
from wattspan.publish.runs_api import RunsApi
from wattspan.publish.webconfig import WebConfigFile
from wattspan.runs import MAX_COUNT, Factor, RunNow, RunRecord
from wattspan.units import NS_PER_S
from wattspan.workloads import run_ids

RUNS = "/api/v1/runs"
RUN = f"{RUNS}/llama-sft-01JD5"
BEGAN = "2026-11-18T10:08:20.000Z"

PROJECTIONS = {"projected_co2e_grams", "projected_cost", "projected_end_at", "greenest_co2e_grams"}

DESCRIBED = openapi.document("1", runs=True)


def valid(document: Any, schema: str) -> Any:
    """The document, after it has been held against a schema of the description."""
    whole = {**DESCRIBED["components"]["schemas"][schema], "components": DESCRIBED["components"]}
    Draft202012Validator(whole, validate_formats=True).validate(document)
    return document


@pytest.fixture
def desk() -> Iterator[tuple[Office, int]]:
    """One run that goes on, one that has ended, and a port that is a pod's."""
    records = record(), finished(record("eval-1", began_s=60))
    with office(*records, pods=loopback_is(POD)) as runs, over_tcp(runs.api) as port:
        yield runs, port


# Reading


def test_a_run_says_what_it_has_used(desk: tuple[Office, int]) -> None:
    """A finished run shows every figure in the unit of its name, and nothing is missing."""
    _, port = desk
    run = valid(say(port, "GET", f"{RUNS}/eval-1").document, "Run")
    footprint = {"embodied_co2e_grams", "market_co2e_grams", "water_liters"}
    assert set(run["missing"]) == footprint | PROJECTIONS
    assert (run["state"], run["result"]) == ("ended", "success")
    assert (run["began_at"], run["ended_at"]) == ("2026-11-18T10:09:20.000Z", "2026-11-18T10:39:20.000Z")
    assert run["duration_seconds"] == 1800.0
    assert run["energy_by_component"] == {"gpu": 3_600_001.000001, "cpu": 90_000.0, "dram": 10_000.0}
    assert run["energy_joules"] == 3_700_001.000001
    assert (run["co2e_grams"], run["cost"], run["currency"]) == (321.5, 0.25, "EUR")
    assert (run["gpu_count"], run["gpu_seconds"], run["idle_gpu_seconds"]) == (2, 3600.0, 60.0)
    assert run["gpu_utilization_ratio"] == 0.5
    assert run["progress"]["ratio"] == 0.5
    assert run["attribution"] == ["cpu_time", "exclusive", "sm_time"]


def test_what_is_not_known_says_why(desk: tuple[Office, int]) -> None:
    """A run of which nothing was measured has nulls, each with its reason, and no invented zero."""
    _, port = desk
    run = valid(say(port, "GET", RUN).document, "Run")
    without_reason = {"budget_co2e_grams", "factors", "intensity_uncertainty_ratio"}
    nulls = {name for name in run if run[name] is None} - without_reason
    assert nulls == {
        *("ended_at", "result", "energy_joules", "co2e_grams", "cost", "gpu_utilization_ratio"),
        *("embodied_co2e_grams", "market_co2e_grams", "water_liters", "facility_energy_joules"),
        *PROJECTIONS,
    }
    assert set(run["ranges"].values()) == {None}
    components = {f"energy_by_component.{name}" for name in ("gpu", "cpu", "dram")}
    assert set(run["missing"]) == nulls | components
    assert run["missing"]["energy_by_component.gpu"] == "it held no GPU on this node"
    assert run["missing"]["cost"] == "no electricity price is configured (cost.price-per-kwh)"
    assert run["duration_seconds"] == 3600.0, "so far"


def priced() -> RunRecord:
    """A finished run with all that can be known of its footprint."""
    run = finished(record("eval-1"))
    half_uj = sum(run.totals.energy_uj.values()) // 2
    began = run.began_wall_ns
    measured = Factor(
        began_wall_ns=began,
        ended_wall_ns=began + 900 * NS_PER_S,
        energy_uj=half_uj,
        co2e_g=160.75,
        g_per_kwh=260.0,
        pue=1.2,
        grid_zone="GB",
        provider="carbonintensity",
        signal="average",
        basis="lifecycle",
        estimated=False,
        origin="measured",
        valid_from_wall_ns=began,
        valid_until_wall_ns=began + 900 * NS_PER_S,
        fetched_wall_ns=began,
    )
    yearly = replace(
        measured,
        energy_uj=sum(run.totals.energy_uj.values()) - half_uj,
        provider="static",
        estimated=True,
        valid_from_wall_ns=None,
        valid_until_wall_ns=None,
        fetched_wall_ns=None,
        figures=3,
    )
    totals = replace(run.totals, embodied_g=14.2, market_g=0.0, water_l=0.5)
    return replace(run, totals=totals, factors=(measured, yearly))


def test_the_whole_footprint_is_told() -> None:
    """Embodied, market-based, water and the facility's energy stand beside the grams, each by its name."""
    with office(priced()) as runs, over_tcp(runs.api) as port:
        run = valid(say(port, "GET", f"{RUNS}/eval-1").document, "Run")
    assert (run["co2e_grams"], run["embodied_co2e_grams"], run["market_co2e_grams"]) == (321.5, 14.2, 0.0)
    assert (run["water_liters"], run["facility_energy_joules"]) == (0.5, pytest.approx(4_440_001.2))
    assert set(run["missing"]) == PROJECTIONS


def test_each_total_has_its_range() -> None:
    """Ranges stand under the names of the totals, and hold them."""
    with office(priced()) as runs, over_tcp(runs.api) as port:
        run = valid(say(port, "GET", f"{RUNS}/eval-1").document, "Run")
    for name, between in run["ranges"].items():
        assert between["low"] <= run[name] <= between["high"]
    assert run["ranges"]["energy_joules"]["low"] < 0.96 * run["energy_joules"]
    assert run["intensity_uncertainty_ratio"] == pytest.approx((0.10 + 0.11**0.5) / 2)


def test_who_priced_it_and_by_which_figures() -> None:
    """Providers are told with their parts; every figure only where it is asked for."""
    with office(priced()) as runs, over_tcp(runs.api) as port:
        run = valid(say(port, "GET", f"{RUNS}/eval-1").document, "Run")
        (listed,) = valid(say(port, "GET", RUNS).document, "Runs")["runs"]
        asked = valid(say(port, "GET", f"{RUNS}/eval-1?factors=1&attempt=0").document, "Run")
        refused = say(port, "GET", f"{RUNS}/eval-1?factors=yes")
    assert {each["provider"]: each["figures"] for each in run["priced_by"]} == {
        "carbonintensity": 1,
        "static": 3,
    }
    assert run["signals"] == ["average"]
    assert (run["factors"], listed["factors"]) == (None, None)
    first, second = asked["factors"]
    assert (first["intensity_grams_per_kwh"], first["fetched_at"]) == (260.0, "2026-11-18T10:08:20.000000Z")
    assert (second["provider"], second["valid_until"]) == ("static", None)
    assert {**asked, "factors": None} == run
    assert refused.status == 400
    assert "factors: 'yes' is not allowed" in valid(refused.document, "Problem")["detail"]


def test_what_a_run_will_have_emitted_comes_from_the_view() -> None:
    """A run of the newest view has its projection, alone and in the list; another attempt has none."""
    running = record("eval-1", attempt=1)
    seen = RunNow(
        record=running,
        trace_id="0" * 32,
        power_uw=None,
        co2e_g_per_s=None,
        gpus=0,
        progress_ratio=0.25,
        projected_co2e_g=900.0,
        projected_cost=1.5,
        projected_end_wall_ns=NOW_WALL_NS + 3600 * NS_PER_S,
        greenest_co2e_g=120.0,
    )
    with office(running, record("eval-1")) as runs, over_tcp(runs.api) as port:
        runs.clerk.shelf.views.append(seen)
        alone = valid(say(port, "GET", f"{RUNS}/eval-1").document, "Run")
        before = valid(say(port, "GET", f"{RUNS}/eval-1?attempt=0").document, "Run")
        listed = valid(say(port, "GET", RUNS).document, "Runs")["runs"]
    assert (alone["projected_co2e_grams"], alone["projected_cost"]) == (900.0, 1.5)
    assert alone["greenest_co2e_grams"] == 120.0
    assert alone["projected_end_at"] == "2026-11-18T12:08:20.000Z"
    assert not PROJECTIONS & set(alone["missing"])
    assert before["projected_co2e_grams"] is None
    assert before["missing"]["projected_end_at"].startswith("the run has ended")
    assert [run["projected_co2e_grams"] for run in listed] == [900.0, None]


def test_ids_of_spans_are_the_contracts(desk: tuple[Office, int]) -> None:
    """A run shows the ids that its spans have (the contract's first test vector)."""
    _, port = desk
    run = say(port, "GET", RUN).document
    assert run["trace_id"] == "b641e7d2518e39667fb3d3367234428a"
    assert run["run_span_id"] == "a3d0bdb7167b9d71"
    assert run["node_span_id"] == "716e3c77dbe98c6d"


def test_each_attempt_can_be_asked_for() -> None:
    """Without an attempt the newest is shown; one that never was is a 404."""
    with office(record(), record(attempt=3)) as runs, over_tcp(runs.api) as port:
        assert say(port, "GET", RUN).document["attempt"] == 3
        assert say(port, "GET", f"{RUN}?attempt=0").document["attempt"] == 0
        assert say(port, "GET", f"{RUN}?attempt=1").status == 404
        assert say(port, "GET", f"{RUN}?attempt=one").status == 400


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["c", "b", "a"]),
        ("?state=running", ["c", "a"]),
        ("?state=ended", ["b"]),
        ("?project=nlp", ["b", "a"]),
        ("?project=nlp&state=running", ["a"]),
        ("?project=", ["c"]),
        ("?group=sweep-7", ["c"]),
        ("?project=none%20such", []),
        ("?since=2026-11-18T10:08:51Z", ["c", "a"]),
        ("?since=2026-11-18T10:08:50Z", ["c", "b", "a"]),
        ("?since=2026-11-18T12:08:50%2B02:00", ["c", "b", "a"]),
        ("?limit=2", ["c", "b"]),
    ],
)
def test_runs_are_listed_by_what_they_are(query: str, found: list[str]) -> None:
    """Each filter keeps what it names, the newest comes first, and filters add up."""
    records = (
        record("b", began_s=20, project="nlp"),
        record("a", began_s=10, project="nlp"),
        record("c", began_s=30, group="sweep-7"),
    )
    with office(finished(records[0], after_s=10), *records[1:]) as runs, over_tcp(runs.api) as port:
        listed = valid(say(port, "GET", RUNS + query).document, "Runs")
    assert [run["run_id"] for run in listed["runs"]] == found


def test_pages_show_every_run_once() -> None:
    """Following the cursor shows each attempt exactly once, also where runs began at the same moment."""
    records = [record(f"r{number}", attempt, number // 3) for number in range(7) for attempt in (0, 1)]
    with office(*records) as runs, over_tcp(runs.api) as port:
        seen, cursor, pages = [], "", 0
        while cursor is not None:
            after = f"&cursor={cursor}" if cursor else ""
            page = say(port, "GET", f"{RUNS}?limit=4{after}").document
            seen += [(run["began_at"], run["run_id"], run["attempt"]) for run in page["runs"]]
            cursor, pages = page["next_cursor"], pages + 1
    assert len(set(seen)) == len(seen) == len(records)
    assert all(former > later for former, later in pairwise(seen))
    assert pages == 4


def test_a_page_that_holds_all_has_no_next() -> None:
    """The cursor is null exactly when nothing follows."""
    with office(record("a"), record("b")) as runs, over_tcp(runs.api) as port:
        assert say(port, "GET", f"{RUNS}?limit=2").document["next_cursor"] is None
        assert say(port, "GET", f"{RUNS}?limit=1").document["next_cursor"] is not None
    with office() as runs, over_tcp(runs.api) as port:
        assert say(port, "GET", RUNS).document == {"runs": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("state=done", "state: 'done' is not allowed; allowed: running, ended"),
        ("since=yesterday", "since: 'yesterday' is not allowed"),
        ("since=2026-11-18T10:08:50", "since:"),
        ("limit=0", "limit: '0' is not allowed; allowed: 1 to 1000"),
        ("limit=1001", "limit:"),
        ("limit=%D9%A3", "limit:"),
        ("limit=" + "9" * 4000, "limit:"),
        ("cursor=AAAA", "cursor: 'AAAA' is not allowed; allowed: next_cursor of the page before"),
        ("cursor=1.0.", "cursor:"),
        ("cursor=%E2%82%AC", "cursor:"),
        ("projct=nlp", "projct: an unknown parameter; allowed: state, project"),
        ("project=a&project=b", "a parameter is given twice"),
        ("project=%FF", "not UTF-8"),
    ],
)
def test_a_query_that_cannot_be_answered_is_named(query: str, named: str) -> None:
    """A wrong parameter is a 400 that names it and says what is allowed."""
    with office() as runs, over_tcp(runs.api) as port:
        answer = say(port, "GET", f"{RUNS}?{query}")
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in valid(answer.document, "Problem")["detail"]


@given(
    st.integers(0, 2**63),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,50}", fullmatch=True),
    st.integers(0, MAX_COUNT),
)
def test_a_cursor_is_read_as_it_was_written(began_wall_ns: int, run_id: str, attempt: int) -> None:
    """Every place in the list survives being a word in a URL."""
    word = run_documents.cursor((began_wall_ns, run_id, attempt))
    assert re.fullmatch(r"[A-Za-z0-9._:-]+", word)
    assert run_documents.place_of(word) == (began_wall_ns, run_id, attempt)


def test_a_phase_without_a_visible_name_is_kept(desk: tuple[Office, int]) -> None:
    """A name of control characters costs the name, not the phase."""
    runs, port = desk
    assert post(port, RUNS, {"run_id": "mine"}).status == 201
    assert post(port, f"{RUNS}/mine/phases", {"attempt": 0, "event": "begin", "name": "\x07"}).status == 200
    _, command = runs.done
    assert isinstance(command, NotePhases)
    assert command.events == (PhaseEvent(True, "phase"),)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 31)), st.sampled_from(["Z", "+00:00", "z"]))
def test_a_moment_is_read_exactly(when: datetime, zone: str) -> None:
    """RFC 3339 in, nanoseconds out, to the microsecond."""
    wall_ns = moment(when.isoformat(timespec="microseconds") + zone)
    assert datetime.fromtimestamp(wall_ns // 10**9, UTC).replace(microsecond=wall_ns // 1000 % 10**6) == (
        when.replace(tzinfo=UTC)
    )


# Writing


def test_a_run_from_begin_to_end(desk: tuple[Office, int], caplog: pytest.LogCaptureFixture) -> None:
    """Begin, progress, phases and end reach the writer whole, are answered as described, and are logged."""
    runs, port = desk
    caplog.clear()
    begun = post(
        port,
        RUNS,
        {
            "run_id": "k8s:nlp:JobSet:sft:1a2b3c4d",
            "name": "  llama\tsft\x1b[31m ",
            "project": "nlp",
            "attempt": 0,
            "total_steps": 200.0,
            "budget_co2e_grams": 12.5,
            "rank": 8,
            "local_rank": 0,
            "world_size": 16,
            "nodes_expected": 2,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "markers": {"SLURM_JOB_ID": "77", "AWS_SECRET_ACCESS_KEY": "hunter2"},
            "invented": [1, 2],
            "group": None,
        },
    )
    path = f"{RUNS}/k8s:nlp:JobSet:sft:1a2b3c4d"
    assert begun.status == 201
    assert begun.headers["location"] == path
    assert valid(begun.document, "Begun")["state"] == "running"
    progress = post(port, f"{path}/progress", {"attempt": 0, "steps": 100, "loss": 1.9})
    assert valid(progress.document, "Reported") == {"progress_ratio": 0.5, "projected_co2e_grams": None}
    phase = {"attempt": 0, "name": "epoch", "index": 0}
    assert post(port, f"{path}/phases", {**phase, "event": "begin"}).document == {}
    assert post(port, f"{path}/phases", {**phase, "event": "end", "at": BEGAN}).document == {}
    ended = post(port, f"{path}/end", {"attempt": 0, "result": "failure", "error_type": "OutOfMemoryError"})
    assert ended.document == say(port, "GET", path).document
    assert valid(ended.document, "Run")["error_type"] == "OutOfMemoryError"

    begin, reported, opened, closed, end = runs.done
    assert isinstance(begin, BeginRun)
    assert (begin.name, begin.total_steps, begin.budget_co2e_g) == ("llama sft[31m", 200, 12.5)
    assert (begin.rank, begin.local_rank, begin.world_size, begin.nodes_expected) == (8, 0, 16, 2)
    assert begin.parent_trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert begin.parent_span_id == "b7ad6b7169203331"
    assert begin.markers == {"SLURM_JOB_ID": "77"}
    assert isinstance(reported, ReportProgress)
    assert (reported.steps, reported.samples, reported.loss) == (100, None, 1.9)
    who = (begin.caller, begin.run_id, 0)
    assert opened == NotePhases(*who, (PhaseEvent(True, "epoch", 0),))
    assert closed == NotePhases(*who, (PhaseEvent(False, "epoch", 0, moment(BEGAN)),))
    assert end == EndRun(begin.caller, begin.run_id, 0, "failure", "OutOfMemoryError")
    lines = [line for line in caplog.records if line.name == "wattspan.runs"]
    assert [line.message for line in lines] == [
        "run begins",
        "run progresses",
        "phase begins",
        "phase ends",
        "run ends",
    ]
    facts = {
        "run_id": begin.run_id,
        "attempt": 0,
        "trace_id": run_ids.trace_id("", begin.run_id, 0),
        "caller": "pod nlp/sft-0",
    }
    assert all(vars(line)["fields"] == facts for line in lines)
    assert "hunter2" not in caplog.text + str(runs.done)


def test_phases_come_one_by_one_or_together(desk: tuple[Office, int]) -> None:
    """In their order, in one write with one answer; the longest names fit into a body."""
    runs, port = desk
    post(port, RUNS, {"run_id": "mine"})
    events = [{"name": "\u1234" * 200, "event": event, "index": 2**53 - 1} for event in ("begin", "end")] * 16
    answer = post(port, f"{RUNS}/mine/phases", {"attempt": 0, "phases": events})
    assert (answer.status, answer.document) == (200, {})
    noted = runs.done[-1]
    assert isinstance(noted, NotePhases)
    assert [event.begins for event in noted.events] == [True, False] * 16


def test_a_begin_of_a_known_run_is_no_second_one(desk: tuple[Office, int]) -> None:
    """201 for a run that is new, 200 for one that was there."""
    _, port = desk
    assert post(port, RUNS, {"run_id": "new", "attempt": 0}).status == 201
    assert post(port, RUNS, {"run_id": "new", "attempt": 0}).status == 200


@pytest.mark.parametrize(
    ("path", "document", "named"),
    [
        ("", b"", "the body is not JSON"),
        ("", b"{", "the body is not JSON"),
        ("", b"\xff\xfe", "the body is not JSON"),
        ("", b"[" * 60_000, "the body is not JSON"),
        ("", b'{"total_steps": NaN}', "NaN is no number"),
        ("", b'{"total_steps": ' + b"9" * 5000 + b"}", "the body is not JSON"),
        ("", [], "not a JSON object"),
        ("", {"run_id": "a/b"}, "run_id: 'a/b' is not allowed; allowed: [A-Za-z0-9]"),
        ("", {"run_id": "a\x00b"}, r"run_id: 'a\x00b' is not allowed"),
        ("", {"run_id": "x\n"}, "run_id:"),
        ("", {"run_id": "-x"}, "run_id:"),
        ("", {"run_id": "x" * 254}, "run_id:"),
        ("", {"run_id": 7}, "run_id: 7 is not allowed"),
        ("", {"key": "mine"}, "key: 'mine' is not allowed; allowed: a ULID"),
        ("", {"key": 7}, "key: 7 is not allowed"),
        ("", {"namespace": "NLP"}, "namespace: 'NLP' is not allowed"),
        ("", {"namespace": 7}, "namespace: 7 is not allowed"),
        ("", {"name": 7}, "name: 7 is not allowed; allowed: text"),
        ("", {"attempt": -1}, "attempt: -1 is not allowed; allowed: a whole number from 0"),
        ("", {"attempt": True}, "attempt: True is not allowed"),
        ("", {"attempt": 1.5}, "attempt: 1.5"),
        ("", {"total_steps": 2**53}, "total_steps:"),
        ("", b'{"total_steps": 1e999}', "total_steps: inf"),
        (
            "",
            {"budget_co2e_grams": 0},
            "budget_co2e_grams: 0 is not allowed; allowed: a number of grams above 0",
        ),
        ("", {"budget_co2e_grams": 10**400}, "budget_co2e_grams:"),
        ("", {"markers": {"RANK": 0}}, "markers:"),
        ("", {"pid": "1"}, "pid: '1' is not allowed"),
        ("/llama-sft-01JD5/progress", {"steps": 1}, "attempt: missing; allowed: a whole number"),
        ("/llama-sft-01JD5/progress", {"attempt": 0, "steps": "1"}, "steps:"),
        ("/llama-sft-01JD5/progress", b'{"attempt": 0, "loss": Infinity}', "Infinity is no number"),
        ("/llama-sft-01JD5/phases", {"attempt": 0, "name": "a"}, "event: missing; allowed: begin, end"),
        ("/llama-sft-01JD5/phases", {"attempt": 0, "event": "begin"}, "name: missing"),
        ("/llama-sft-01JD5/phases", {"attempt": 0, "event": "end", "name": "a", "at": "now"}, "at: 'now'"),
        ("/llama-sft-01JD5/phases", {"attempt": 0, "event": "end", "name": "a", "at": 7}, "at: 7"),
        (
            "/llama-sft-01JD5/phases",
            {"attempt": 0, "phases": []},
            "phases: [] is not allowed; allowed: a list",
        ),
        ("/llama-sft-01JD5/phases", {"attempt": 0, "phases": [7]}, "phases: [7] is not allowed"),
        ("/llama-sft-01JD5/phases", {"attempt": 0, "phases": [{}] * 33}, "a list of 1 to 32 objects"),
        ("/llama-sft-01JD5/phases", {"attempt": 0, "phases": [{"name": "a"}]}, "event: missing"),
        ("/llama-sft-01JD5/phases", {"phases": [{"name": "a", "event": "end"}]}, "attempt: missing"),
        ("/llama-sft-01JD5/end", {"attempt": 0}, "result: missing; allowed: success, failure, cancelled"),
        ("/llama-sft-01JD5/end", {"attempt": 0, "result": "lost"}, "result: 'lost' is not allowed"),
        ("/a%2Fb/end", {"attempt": 0, "result": "success"}, "run_id: 'a/b' is not allowed"),
        ("/a%00b/progress", {"attempt": 0}, r"run_id: 'a\x00b' is not allowed"),
        ("/%ff/progress", {"attempt": 0}, "run_id:"),
        ("/a%0d%0aSet-Cookie:x/end", {"attempt": 0}, "run_id:"),
    ],
)
def test_a_body_that_cannot_be_taken_is_named(
    desk: tuple[Office, int], path: str, document: object, named: str
) -> None:
    """A malformed body, field or run id is a 400 that names it, and nothing reaches the writer."""
    runs, port = desk
    answer = post(port, RUNS + path, document)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in valid(answer.document, "Problem")["detail"]
    assert runs.done == []


def test_run_ids_in_reading_are_checked_too(desk: tuple[Office, int]) -> None:
    """An encoded slash or control character in a run id is a 400, a path that is not there a 404."""
    _, port = desk
    assert [say(port, "GET", f"{RUNS}/{name}").status for name in ("a%2Fb", "a%0Ab", "a/b", "x", "")] == [
        400,
        400,
        404,
        404,
        400,
    ]


def test_a_huge_body_is_refused_before_it_is_read(desk: tuple[Office, int]) -> None:
    """What is announced beyond the limit is a 413 at once, and one that grows beyond it too."""
    runs, port = desk
    announced = say(port, "POST", RUNS, b"", {**JSON, "Content-Length": "1000000"})
    assert announced.status == 413
    grown = say(port, "POST", RUNS, b"11400\r\n" + b" " * 70_656, {**JSON, "Transfer-Encoding": "chunked"})
    assert grown.status == 413
    assert "65536 bytes at most" in grown.document["detail"]
    assert runs.done == []


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(desk: tuple[Office, int], media_type: str) -> None:
    """What a browser's form can send is not taken, whatever is inside."""
    _, port = desk
    assert post(port, RUNS, {}, {"Content-Type": media_type}).status == 415
    assert post(port, RUNS, {}, {"Content-Type": "Application/JSON; charset=utf-8"}).status == 201


def test_methods_are_refused_by_name(desk: tuple[Office, int]) -> None:
    """Each path says what it answers."""
    _, port = desk
    assert say(port, "DELETE", RUNS).headers["allow"] == "GET, HEAD, POST"
    assert say(port, "POST", RUN).headers["allow"] == "GET, HEAD"
    wrong = say(port, "GET", f"{RUN}/end")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert say(port, "POST", f"{RUN}/stop").status == 404


def test_reading_is_answered_to_head_alike(desk: tuple[Office, int]) -> None:
    """HEAD has GET's headers and no body."""
    _, port = desk
    for path in (RUNS, RUN):
        got, head = say(port, "GET", path), say(port, "HEAD", path)
        assert head.body == b""
        assert head.headers["content-length"] == got.headers["content-length"]


def test_what_the_writer_refuses_reaches_the_client(desk: tuple[Office, int]) -> None:
    """An unknown run is a 404 problem, and leaves no line in the log."""
    _, port = desk
    answer = post(port, f"{RUNS}/nobody/end", {"attempt": 0, "result": "success"})
    assert answer.status == 404
    assert valid(answer.document, "Problem")["detail"] == "this node knows of no such run: nobody"


def test_another_namespaces_run_cannot_be_touched() -> None:
    """A pod writes to runs of its own namespace alone."""
    theirs, ours = record("theirs", namespace="vision"), record("ours", namespace="nlp")
    with office(theirs, ours, pods=loopback_is(POD)) as runs, over_tcp(runs.api) as port:
        end = {"attempt": 0, "result": "success"}
        assert post(port, f"{RUNS}/theirs/end", end).status == 403
        assert post(port, f"{RUNS}/ours/end", end).status == 200


def test_a_writer_that_does_not_come_is_a_503(tmp_path: Path) -> None:
    """When nothing is committed in time the client is told to try again, and the pages go on."""
    mailbox = Mailbox(lambda: None, patience_s=0.05)
    api = RunsApi(mailbox, Shelf(), Identity(PeerProcesses()), "")
    with on_socket(api, tmp_path) as path:
        answer = post(path, RUNS, {})
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert say(path, "GET", RUNS).status == 200


def test_a_password_guards_reading_and_opens_no_write(tmp_path: Path) -> None:
    """With basic authentication set, GET asks for it; POST asks who it is, and takes no password."""
    config = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    config.write_text(f"basic_auth_users: {{ops: {hashed}}}\n")
    with office() as runs, over_tcp(runs.api, WebConfigFile(config)) as port:
        assert say(port, "GET", RUNS).status == 401
        assert say(port, "GET", RUN).status == 401
        assert say(port, "GET", RUNS, headers=basic("ops", "secret")).status == 200
        refused = post(port, RUNS, {}, basic("ops", "secret"))
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="wattspan"'
    with office(pods=loopback_is(POD)) as runs, over_tcp(runs.api, WebConfigFile(config)) as port:
        assert post(port, RUNS, {}).status == 201


def test_nothing_of_runs_is_served_or_described_without_them() -> None:
    """A daemon that keeps no runs has no such pages and promises none."""
    assert not [path for path in openapi.document("1")["paths"] if "runs" in path]
    assert set(openapi.document("1")["components"]["schemas"]) < set(DESCRIBED["components"]["schemas"])


def test_every_schema_of_runs_is_strict() -> None:
    """The description refers only to schemas it has, and every record lists all its fields as required."""
    text = json.dumps(DESCRIBED)
    named = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert named == set(DESCRIBED["components"]["schemas"])
    for schema in DESCRIBED["components"]["schemas"].values():
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])


def test_a_clock_that_jumps_back_makes_no_negative_duration() -> None:
    """A run that began after now, by a clock that was set back, has lasted 0 s."""
    document = run_documents.run_document(record(), NOW_WALL_NS - 2 * 3600 * 10**9)
    assert document["duration_seconds"] == 0.0
