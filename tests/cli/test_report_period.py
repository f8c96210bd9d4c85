"""``wattspan report --period`` as its users meet it: a month by owner, from a journal or a Prometheus."""

import csv
import http.server
import io
import json
import math
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Answer, Wattspan
from tests.e2e.prometheus import Prometheus
from wattspan.carbon.countries import ATTRIBUTION
from wattspan.cli import month_from_prometheus
from wattspan.journal import Account, Journal
from wattspan.publish.catalogue import CATALOGUE
from wattspan.report.period import DIVISORS
from wattspan.units import NS_PER_S

MONTH = "2026-09"
KWH_UJ = 3_600_000_000_000


def at(text: str) -> int:
    """A moment of UTC, such as ``2026-09-01 00:00``."""
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp()) * NS_PER_S


class Owners:
    """A journal in which owners use something, month by month."""

    def __init__(self, state: Path) -> None:
        self.journal = Journal.open(state, "boot-1")
        self.totals: dict[tuple[str, tuple[str, ...]], int | float] = {}

    def use(self, moment: str, *gains: tuple[str, tuple[str, ...], int | float]) -> None:
        """A commit at that moment, in which these accounts gained so much."""
        for quantity, labels, gain in gains:
            self.totals[quantity, labels] = self.totals.get((quantity, labels), type(gain)(0)) + gain
        accounts = [
            Account(quantity, labels, self.totals[quantity, labels], 0, True) for quantity, labels, _ in gains
        ]
        self.journal.commit(accounts, [], wall_ns=at(moment))


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[Owners]:
    """Three months of two projects in two namespaces; a daemon holds the journal open."""
    owners = Owners(tmp_path / "state")
    gpu, cpu, vision = ("nlp", "llama", "gpu"), ("nlp", "llama", "cpu"), ("cv", "vision", "gpu")
    static = ("FR", "static", "average", "lifecycle", "true")
    live = ("FR", "eco2mix", "average", "lifecycle", "false")
    owners.use("2026-08-20 00:00", ("owner_energy", gpu, 50 * KWH_UJ), ("grid_priced_energy", static, KWH_UJ))
    owners.use(
        "2026-09-10 00:00",
        ("owner_energy", gpu, 2 * KWH_UJ),
        ("owner_energy", cpu, KWH_UJ // 2),
        ("owner_energy", vision, KWH_UJ),
        ("owner_energy", ("dev", "llama", "gpu"), KWH_UJ),
        ("owner_co2e", ("nlp", "llama", "operational", "lifecycle"), 120.0),
        ("owner_co2e", ("dev", "llama", "operational", "lifecycle"), 60.0),
        ("owner_co2e", ("cv", "vision", "operational", "direct"), 40.0),
        ("owner_co2e", ("nlp", "llama", "embodied", "lifecycle"), 12.5),
        ("owner_cost", ("nlp", "llama", "EUR"), 0.75),
        ("owner_gpu", ("nlp", "llama"), 7200 * NS_PER_S),
        ("owner_idle_gpu", ("nlp", "llama"), 1800 * NS_PER_S),
        ("owner_wasted_energy", ("nlp", "llama", "idle_held"), KWH_UJ // 10),
        ("owner_wasted_cost", ("nlp", "llama", "idle_held", "EUR"), 0.03),
        ("owner_market_co2e", ("nlp", "llama"), 0.0),
        ("owner_water", ("nlp", "llama"), 3.5),
        ("grid_priced_energy", live, 3 * KWH_UJ),
        ("grid_priced_energy", static, KWH_UJ),
        ("unpriced_energy", (), KWH_UJ // 4),
        ("uncosted_energy", (), KWH_UJ // 2),
    )
    owners.use("2026-10-01 00:00", ("owner_energy", gpu, 999 * KWH_UJ))
    yield owners
    owners.journal.close(clean=True)


def document(answer: Answer) -> dict[str, Any]:
    """The JSON of an answer that went well."""
    assert (answer.code, answer.err) == (0, "")
    parsed: dict[str, Any] = json.loads(answer.out)
    return parsed


@pytest.mark.usefixtures("owners")
def test_month_by_project(wattspan: Wattspan) -> None:
    """Each project has what it gained in the month, in base units, the one with the most energy first."""
    found = document(wattspan("report", "--period", MONTH, "--by", "project", "--format", "json"))
    assert found["schema"] == "wattspan.period/1"
    assert (found["from"], found["until"]) == ("2026-09-01T00:00:00.000000Z", "2026-10-01T00:00:00.000000Z")
    llama, vision = found["rows"]
    assert (llama["namespace"], llama["project"]) == (None, "llama")
    assert llama["energy_by_component_joules"] == {"gpu": 3 * 3.6e6, "cpu": 1.8e6}
    assert llama["operational_co2e_grams"] == {"lifecycle": 180.0}
    assert (llama["embodied_co2e_grams"], llama["cost"]) == (12.5, {"EUR": 0.75})
    assert (llama["gpu_seconds"], llama["idle_gpu_seconds"]) == (7200.0, 1800.0)
    assert llama["wasted_energy_joules"] == {"idle_held": 360000.0}
    assert llama["wasted_cost"] == [{"reason": "idle_held", "currency": "EUR", "amount": 0.03}]
    assert (llama["market_co2e_grams"], llama["water_liters"]) == (0.0, 3.5)
    assert (vision["project"], vision["operational_co2e_grams"]) == ("vision", {"direct": 40.0})
    assert (vision["embodied_co2e_grams"], vision["cost"], vision["water_liters"]) == (None, {}, None)
    assert found["total"]["energy_joules"] == 4.5 * 3.6e6
    assert found["total"]["operational_co2e_grams"] == {"lifecycle": 180.0, "direct": 40.0}


@pytest.mark.usefixtures("owners")
def test_month_by_namespace_and_by_owner(wattspan: Wattspan) -> None:
    """Rows sum over what is not asked for, and the total is the same."""
    totals = set()
    for by, names in (
        ("namespace", [("nlp", None), ("cv", None), ("dev", None)]),
        ("owner", [("nlp", "llama"), ("cv", "vision"), ("dev", "llama")]),
    ):
        found = document(wattspan("report", "--period", MONTH, "--by", by, "--format", "json"))
        assert [(row["namespace"], row["project"]) for row in found["rows"]] == names
        totals.add(json.dumps(found["total"]))
    assert len(totals) == 1


@pytest.mark.usefixtures("owners")
def test_month_for_people(wattspan: Wattspan) -> None:
    """Tables whose columns somebody has a figure for, how it was made, what is missing, whose figures."""
    out = wattspan("report", "--period", MONTH).out
    assert out.startswith("# Energy and carbon of 2026-09, by project\n")
    (row,) = [line for line in out.splitlines() if line.startswith("| llama") and "kWh" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("llama", "3.50 kWh", "3.00 kWh", "500 Wh", "180 g", "-", "12.5 g", "0 g", "3.50 l"),
    ]
    assert "dram" not in out
    assert "eco2mix (FR, average lifecycle, 75 %): RTE, eCO2mix" in out
    assert f"static (FR, average lifecycle, 25 %): {ATTRIBUTION}" in out
    assert "25 % of the priced energy had an estimated intensity" in out
    assert "250 Wh of the nodes had no known intensity" in out
    assert "500 Wh of the nodes had no known price and are in no cost" in out
    assert "--prometheus asks for all nodes" in out
    assert "Nothing is known before" not in out
    assert "The month goes on" not in out


@pytest.mark.usefixtures("owners")
def test_month_as_csv(wattspan: Wattspan, tmp_path: Path) -> None:
    """A row for each owner and a column for each figure; what nobody counted is an empty cell."""
    answer = wattspan("report", "--period", MONTH, "--format", "csv", "-o", tmp_path / "month.csv")
    assert (answer.code, answer.out) == (0, "")
    first, second = csv.DictReader((tmp_path / "month.csv").read_text().splitlines())
    assert (first["project"], first["energy_kwh"], first["cost_EUR"]) == ("llama", "3.5", "0.75")
    assert (first["lifecycle_operational_co2e_grams"], first["idle_held_wasted_energy_joules"]) == (
        "180.0",
        "360000.0",
    )
    assert (second["project"], second["embodied_co2e_grams"], second["cost_EUR"]) == ("vision", "", "")
    header, *_ = (tmp_path / "month.csv").read_text().splitlines()
    assert header.endswith(',"cost_EUR_low","cost_EUR_high","sources"')
    assert first["sources"] == second["sources"]
    assert ATTRIBUTION in first["sources"]
    assert "eco2mix (FR, average lifecycle, 75 %): RTE, eCO2mix" in first["sources"]
    assert (second["cost_EUR_low"], second["lifecycle_operational_co2e_grams_low"]) == ("", "")
    assert float(first["lifecycle_operational_co2e_grams_low"]) < 180 - 0.1 * 180
    assert float(second["direct_operational_co2e_grams_high"]) > 40 + 0.1 * 40


@pytest.mark.usefixtures("owners")
def test_each_total_of_a_month_has_a_range(wattspan: Wattspan) -> None:
    """By sensors, the split of the host, kinds of figures by energy, and the factor of making hardware."""
    found = document(wattspan("report", "--period", MONTH, "--format", "json"))
    # A quarter by a yearly figure, which hours and years differ from; the rest as measured.
    intensity = 0.75 * 0.1 + 0.25 * math.hypot(0.1, 0.3, 0.1)
    assert found["intensity_uncertainty_ratio"] == pytest.approx(intensity)
    llama, vision = found["rows"]
    cpu = 0.5 / 3.5
    energy = math.hypot((1 - cpu) * 0.05, cpu * 0.1, cpu / 3)

    def about(value: float, *ratios: float) -> dict[str, float]:
        width = math.hypot(*ratios)
        return pytest.approx({"low": value * (1 - width), "high": value * (1 + width)})  # type: ignore[return-value]

    ranges = llama["ranges"]
    assert ranges["energy_joules"] == about(llama["energy_joules"], energy)
    assert ranges["operational_co2e_grams"] == {"lifecycle": about(180.0, energy, intensity)}
    assert ranges["embodied_co2e_grams"] == pytest.approx({"low": 12.5 / 1.42, "high": 12.5 * 1.42})
    assert ranges["cost"] == {"EUR": about(0.75, energy)}
    assert ranges["water_liters"] == about(3.5, energy)
    assert ranges["market_co2e_grams"] == {"low": 0.0, "high": 0.0}
    assert vision["ranges"]["operational_co2e_grams"] == {"direct": about(40.0, 0.05, intensity)}
    assert (vision["ranges"]["embodied_co2e_grams"], vision["ranges"]["cost"]) == (None, {})
    assert found["total"]["ranges"]["embodied_co2e_grams"] == ranges["embodied_co2e_grams"]
    out = wattspan("report", "--period", MONTH).out
    assert "| CO2e operational, lifecycle | 180 g    | 150 g to 210 g" in out
    assert "do not keep how GPUs were split between sharers" in out


def test_month_whose_sources_nobody_counted_has_no_range_of_grams(wattspan: Wattspan, tmp_path: Path) -> None:
    """Without the energy that each source priced the grams have none, and the report says so."""
    owners = Owners(tmp_path / "state")
    grams = ("owner_co2e", ("", "nlp", "operational", "lifecycle"), 100.0)
    owners.use("2026-09-10 00:00", ("owner_energy", ("", "nlp", "gpu"), KWH_UJ), grams)
    owners.journal.close(clean=True)
    found = document(wattspan("report", "--period", MONTH, "--format", "json"))
    assert found["total"]["ranges"]["operational_co2e_grams"] == {}
    assert found["total"]["ranges"]["energy_joules"] == pytest.approx({"low": 3.42e6, "high": 3.78e6})
    out = wattspan("report", "--period", MONTH).out
    assert "| CO2e operational, lifecycle | 100 g    | not known" in out
    assert "Operational CO2e has none, since how much energy each source priced is not known." in out


def test_cell_that_a_spreadsheet_would_run(wattspan: Wattspan, tmp_path: Path) -> None:
    """A project named like a formula is text, in CSV and in Markdown, and so is the name of a column."""
    owners = Owners(tmp_path / "state")
    owners.use(
        "2026-09-10 00:00",
        ("owner_energy", ("", "=cmd|' /C calc'!A0", "gpu"), KWH_UJ),
        ("owner_energy", ("", "other", "gpu|x"), KWH_UJ),
        ("owner_wasted_energy", ("", "other", "<b>"), KWH_UJ),
        ("owner_cost", ("", "other", "E;=1+1|R"), 1.0),
    )
    owners.journal.close(clean=True)
    row, _ = csv.DictReader(io.StringIO(wattspan("report", "--period", MONTH, "--format", "csv").out))
    assert row["project"].startswith("'=")
    assert "cost_E;'=1+1|R" in row
    out = wattspan("report", "--period", MONTH).out
    for name in ("=cmd\\|", "gpu\\|x", "\\<b\\>", "cost, E;=1+1\\|R"):
        assert name in out
    rows = [re.split(r"(?<!\\)\|", line) for line in out.splitlines() if line.startswith("| ")]
    assert {len(cells) for cells in rows[:4]} == {6}


@pytest.mark.usefixtures("owners")
def test_month_in_which_the_journal_began(wattspan: Wattspan) -> None:
    """A report of half a month says since when it knows."""
    out = wattspan("report", "--period", "2026-08").out
    assert "Nothing is known before 2026-08-20 00:00:00 UTC." in out
    assert "50.0 kWh" in out


def test_month_in_which_nobody_did_anything(wattspan: Wattspan, owners: Owners) -> None:
    """An empty month is told as such, with how it was made."""
    owners.use("2026-11-01 00:00")
    owners.use("2026-12-01 00:00")
    answer = wattspan("report", "--period", "2026-11")
    assert answer.code == 0
    assert "Nobody used anything that was counted." in answer.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["report"], 2, "the following arguments are required: RUN, or --period MONTH"),
        (["report", "sft", "--period", MONTH], 2, "RUN and --period: both are given"),
        (["report", "sft", "--by", "project"], 2, "--by is for months; it goes with --period"),
        (["report", "sft", "--prometheus", "http://x"], 2, "--prometheus is for months"),
        (["report", "--period", MONTH, "--attempt", "1"], 2, "--attempt is for runs"),
        (
            ["report", "--period", MONTH, "--format", "html"],
            2,
            "'html' is for runs; allowed with --period: md",
        ),
        (["report", "--period", "2026-13"], 2, "'2026-13' is not allowed; allowed: a month such as 2026-10"),
        (["report", "--period", MONTH, "--by", "team"], 2, "invalid choice: 'team'"),
        (["report", "--period", "2026-07"], 1, "knows nothing of 2026-07: it counts months since 2026-08"),
        (["report", "--period", "2199-01"], 1, "2199-01 has not begun"),
        (["report", "--period", "2199-01", "--prometheus", "http://127.0.0.1:1"], 1, "has not begun"),
        (["report", "--period", MONTH, "--state.dir", "/no/such"], 3, "there is no journal in /no/such"),
        (
            ["report", "--period", MONTH, "--prometheus", "prometheus:9090"],
            2,
            "is not allowed; allowed: an addr",
        ),
        (["report", "--period", MONTH, "--prometheus", "ftp://x"], 2, "is not allowed; allowed: an address"),
        (
            ["report", "--period", MONTH, "--prometheus", "http://127.0.0.1:1"],
            3,
            "cannot be asked: Connection",
        ),
    ],
)
@pytest.mark.usefixtures("owners")
def test_wrong_usage_is_answered(wattspan: Wattspan, words: list[str], code: int, said: str) -> None:
    """One line says what is wrong, and nothing is printed beside it."""
    answer = wattspan(*words)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


def test_password_in_an_address_is_neither_sent_nor_printed(wattspan: Wattspan) -> None:
    """It is refused, and the refusal does not repeat it."""
    answer = wattspan("report", "--period", MONTH, "--prometheus", "http://me:hunter2@127.0.0.1:1/")
    assert answer.code == 2
    assert "hunter2" not in answer.err
    assert "has a user or password, which are not sent" in answer.err


Reply = Callable[[http.server.BaseHTTPRequestHandler, dict[str, str]], None]


@contextmanager
def answering(reply: Reply) -> Iterator[str]:
    """A server on loopback; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            asked = dict(urllib.parse.parse_qsl(query))
            reply(self, {**asked, "path": path})

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(handler: http.server.BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """An answer as HTTP has it."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def vector(*series: tuple[dict[str, str], str]) -> bytes:
    """An instant query's answer."""
    result = [{"metric": metric, "value": [0, value]} for metric, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def test_month_of_a_prometheus(wattspan: Wattspan) -> None:
    """Each counter is asked for its increase over the month at its end, summed over nodes."""
    asked: list[dict[str, str]] = []
    llama = {"pod_namespace": "nlp", "project": "llama"}

    def reply(handler: http.server.BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        asked.append(query)
        text = query["query"]
        if "owner_energy" in text:
            return say(handler, vector(({**llama, "component": "gpu"}, "7200000"), (llama, "NaN")))
        if "owner_co2e" in text:
            return say(handler, vector(({**llama, "part": "operational", "basis": "direct"}, "80.5")))
        if "grid_provider_in_use" in text:
            grid = {"grid_zone": "GB", "signal": "average", "basis": "direct"}
            return say(
                handler,
                vector(({**grid, "provider": "carbonintensity"}, "3"), ({**grid, "provider": "file"}, "1")),
            )
        if "timestamp(" in text:
            return say(handler, vector(({}, str(at("2026-09-12 00:00") // NS_PER_S))))
        if "count(count" in text:
            return say(handler, vector(({}, "3")))
        return say(handler, vector())

    with answering(reply) as url:
        words = ["report", "--period", MONTH, "--by", "owner", "--prometheus", f"{url}/prometheus/"]
        found = document(wattspan(*words, "--format", "json"))
        out = wattspan(*words).out
    assert {query["path"] for query in asked} == {"/prometheus/api/v1/query"}
    assert {query["time"] for query in asked} == {str(at("2026-10-01 00:00") // NS_PER_S)}
    assert asked[0]["query"] == (
        "sum by (pod_namespace, project, component) (increase(wattspan_owner_energy_joules_total[2592000s]))"
    )
    (row,) = found["rows"]
    assert (row["namespace"], row["project"], row["energy_joules"]) == ("nlp", "llama", 7.2e6)
    assert row["operational_co2e_grams"] == {"direct": 80.5}
    assert found["from"] == "2026-09-12T00:00:00.000000Z"
    assert "(3 nodes)" in found["source"]
    assert "Nothing is known before 2026-09-12 00:00:00 UTC." in out
    assert "carbonintensity (GB, average direct, 75 %): National Energy System Operator" in out
    assert "--prometheus asks for all nodes" not in out
    assert "shares of providers are of the time" in out
    assert row["ranges"]["operational_co2e_grams"] == {}
    assert "Operational CO2e has none, since" in out


def test_month_of_a_prometheus_that_knows_who_priced_the_energy(wattspan: Wattspan) -> None:
    """Shares are of the energy then, and grams have a range as those of a journal."""

    def reply(handler: http.server.BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        text = query["query"]
        owner = {"project": "llama", "component": "gpu", "part": "operational", "basis": "direct"}
        if "owner_energy" in text or "owner_co2e" in text:
            return say(handler, vector((owner, "100")))
        if "grid_priced_energy" in text:
            grid = {"grid_zone": "GB", "signal": "average", "basis": "direct", "provider": "carbonintensity"}
            return say(
                handler,
                vector(({**grid, "estimated": "true"}, "3"), ({**grid, "estimated": "false"}, "1")),
            )
        assert "grid_provider_in_use" not in text
        return say(handler, vector())

    with answering(reply) as url:
        found = document(wattspan("report", "--period", MONTH, "--prometheus", url, "--format", "json"))
    assert [(grid["provider"], grid["ratio"]) for grid in found["grid"]] == [("carbonintensity", 1.0)]
    assert found["estimated_ratio"] == 0.75
    assert found["intensity_uncertainty_ratio"] == pytest.approx(0.75 * math.hypot(0.1, 0.1) + 0.25 * 0.1)
    assert found["rows"][0]["ranges"]["operational_co2e_grams"]["direct"]["high"] > 110


def status(code: int, body: bytes = b"no") -> Reply:
    """A status without figures."""
    return lambda handler, _: say(handler, body, code)


def body(text: bytes, **headers: str) -> Reply:
    """Something else than figures."""
    return lambda handler, _: say(handler, text, **headers)


def hang_up(handler: http.server.BaseHTTPRequestHandler, _: dict[str, str]) -> None:
    """No answer at all."""
    handler.close_connection = True


def too_much(handler: http.server.BaseHTTPRequestHandler, _: dict[str, str]) -> None:
    """More than anybody needs, without saying how much."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _n in range(40):
            handler.wfile.write(b" " * (1 << 20))
    except OSError:
        handler.close_connection = True


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (status(500), "answers 500 Internal Server Error"),
        (status(401), "answers 401 Unauthorized"),
        (status(422, b'{"status":"error","error":"query timed out"}'), "answers 422: 'query timed out'"),
        (status(302), "answers 302"),
        (body(b"<html>log in</html>"), "answers something that is no JSON; is it a Prometheus?"),
        (body(b""), "answers something that is no JSON"),
        (body(b"[]"), "no result of a query"),
        (body(b"null"), "no result of a query"),
        (body(b"[" * 100_000), "answers something that is no JSON"),
        (
            body(b'{"status":"success","data":{"result":[{"metric":{},"value":[0,"x"]}]}}'),
            "no result of a query",
        ),
        (body(b'{"status":"success","data":{"result":[[]]}}'), "no result of a query"),
        (body(b'{"status":"error","error":"bad\\ndata"}'), "refuses: 'bad\\ndata'"),
        (body(b"\xff\xfe"), "no JSON"),
        (lambda handler, _: say(handler, b"{", **{"Content-Length": "100"}), "breaks off in its answer"),
        (hang_up, "cannot be asked: Remote end closed connection"),
        (too_much, "answers more than 16 MiB"),
    ],
)
def test_prometheus_that_fails(wattspan: Wattspan, reply: Reply, said: str) -> None:
    """Whatever comes instead of figures, the answer is one line and the exit code 3."""
    with answering(reply) as url:
        answer = wattspan("report", "--period", MONTH, "--prometheus", url)
    assert (answer.code, answer.out) == (3, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


def test_redirect_is_not_followed(wattspan: Wattspan) -> None:
    """Figures come from where the operator said, not from where that sends us."""
    with answering(body(vector(({"project": "x", "component": "gpu"}, "1")))) as elsewhere:

        def reply(handler: http.server.BaseHTTPRequestHandler, _: dict[str, str]) -> None:
            say(handler, b"", 302, Location=elsewhere)

        with answering(reply) as url:
            answer = wattspan("report", "--period", MONTH, "--prometheus", url)
    assert answer.code == 3
    assert "answers 302" in answer.err


def test_prometheus_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that never comes, or comes drop by drop, ends with the time-out."""
    monkeypatch.setattr(month_from_prometheus, "TIMEOUT_S", 0.3)
    over = threading.Event()

    def drop_by_drop(handler: http.server.BaseHTTPRequestHandler, _: dict[str, str]) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not over.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            handler.close_connection = True

    def silent(_handler: http.server.BaseHTTPRequestHandler, _: dict[str, str]) -> None:
        over.wait(30)

    for reply in (drop_by_drop, silent):
        over.clear()
        with answering(reply) as url:
            with pytest.raises(month_from_prometheus.UnreachableError, match=r"in 0 s"):
                month_from_prometheus.gained_from(url, MONTH, time.time_ns())
            over.set()


def test_prometheus_without_our_metrics(wattspan: Wattspan) -> None:
    """A Prometheus that never scraped us is said to know nothing, which is no failure to reach it."""
    with answering(body(vector())) as url:
        answer = wattspan("report", "--period", MONTH, "--prometheus", url)
    assert (answer.code, answer.out) == (1, "")
    assert f"knows nothing of {MONTH}: it has no wattspan_owner_energy_joules_total then" in answer.err


def test_metrics_are_those_of_the_catalogue() -> None:
    """What is asked for is served under that name, with those labels, and accounts have their units."""
    served = {metric.exposed_name: tuple(metric.labels) for metric in CATALOGUE}
    absent = set()
    for quantity, (name, labels) in month_from_prometheus.METRICS.items():
        if name in served:
            assert served[name] == labels
        else:
            absent.add(quantity)
        assert quantity in DIVISORS
    assert absent <= {"owner_market_co2e", "owner_water"}
    assert {"wattspan_grid_provider_in_use", "wattspan_build_info"} <= served.keys()


def test_month_of_a_real_prometheus(wattspan: Wattspan, tmp_path: Path) -> None:
    """Two nodes that are scraped give one row, which is the increase that Prometheus itself knows."""
    began_s = time.monotonic()
    owner = 'pod_namespace="nlp",project="llama"'

    def metrics(handler: http.server.BaseHTTPRequestHandler, _: dict[str, str]) -> None:
        joules = 1000 * (time.monotonic() - began_s)
        text = (
            f'wattspan_owner_energy_joules_total{{{owner},component="gpu"}} {joules}\n'
            f'wattspan_owner_co2e_grams_total{{{owner},part="operational",basis="lifecycle"}} '
            f"{joules / 100}\n"
            'wattspan_grid_provider_in_use{grid_zone="FR",provider="static",signal="average",'
            'basis="lifecycle"} 1\n'
            "wattspan_build_info 1\n"
        )
        say(handler, text.encode(), **{"Content-Type": "text/plain; version=0.0.4"})

    (tmp_path / "prometheus").mkdir()
    with (
        answering(metrics) as first,
        answering(metrics) as second,
        Prometheus(tmp_path / "prometheus", "unused") as prometheus,
    ):
        prometheus.nodes({"node-a": first.removeprefix("http://"), "node-b": second.removeprefix("http://")})
        prometheus.wait_for("count(count_over_time(wattspan_build_info[1m]) > 3) == 2")
        month = f"{datetime.now(UTC):%Y-%m}"
        url = f"http://127.0.0.1:{prometheus._port}"
        found = document(wattspan("report", "--period", month, "--prometheus", url, "--format", "json"))
        known = prometheus.value("sum(increase(wattspan_owner_energy_joules_total[5m]))")
    (row,) = found["rows"]
    assert row["project"] == "llama"
    assert 2000 < row["energy_joules"] <= known * 1.01
    assert row["operational_co2e_grams"]["lifecycle"] == pytest.approx(row["energy_joules"] / 100)
    assert "(2 nodes)" in found["source"]
    assert found["grid"][0]["ratio"] == 1.0
    # What is missing of a month counts from an hour on.
    began = datetime.fromisoformat(found["from"])
    late = began - began.replace(day=1, hour=0, minute=0, second=0, microsecond=0) > timedelta(hours=1)
    assert any(line.startswith("Nothing is known before") for line in found["omissions"]) == late
