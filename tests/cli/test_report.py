"""``wattspan runs`` and ``wattspan report``: as their users read them, beside a daemon or without one."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Wattspan
from tests.report.samples import HOUR_NS, simple, training
from wattspan.journal import Journal, KeptRun
from wattspan.runs import Run, RunRecord


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The journal that the commands look for; a daemon holds it open."""
    opened = Journal.open(tmp_path / "state", "boot-1")
    yield opened
    opened.close(clean=True)


def keep(journal: Journal, *records: RunRecord) -> None:
    """As the daemon does at the end of a tick."""
    journal.commit([], [], runs=[KeptRun(record) for record in records])


def attempt(number: int, **changes: object) -> RunRecord:
    """One attempt of the run ``sft``."""
    record = replace(simple(), run=Run("sft", number, nodes_expected=1))
    return replace(record, began_wall_ns=record.began_wall_ns + number * HOUR_NS, **changes)  # type: ignore[arg-type]


def test_runs_are_listed(wattspan: Wattspan, journal: Journal) -> None:
    """Beside a daemon: a line for each attempt, the newest first, and a dash for what is missing."""
    keep(journal, training(), attempt(1, ended_wall_ns=None, result=None))
    answer = wattspan("runs")
    assert (answer.code, answer.err) == (0, "")
    head, first, second = answer.out.splitlines()
    assert head.split() == [
        *("RUN", "ATTEMPT", "BEGAN", "DURATION", "RESULT", "PROJECT", "GPUS", "ENERGY", "CO2E", "COST"),
    ]
    assert first.startswith("sft  ")
    assert " running " in first
    assert first.endswith("400 g    -")
    assert second.startswith("k8s:nlp:JobSet:llama-sft:1a2b3c4d  0  ")
    assert second.split()[-6:] == ["32.9", "kWh", "9.86", "kg", "9.87", "EUR"]


def test_runs_are_filtered(wattspan: Wattspan, journal: Journal) -> None:
    """Each filter is the history's; where nothing is left the answer is no."""
    keep(journal, training(), attempt(0, ended_wall_ns=None, result=None))

    def ids(*words: str) -> list[str]:
        answer = wattspan("runs", "--format", "json", *words)
        document = json.loads(answer.out)
        assert document["schema"] == "wattspan.runs/1"
        found = [entry["run"]["run_id"] for entry in document["runs"]]
        assert answer.code == (0 if found else 1)
        return found

    assert ids("--state", "running") == ["sft"]
    assert ids("--project", "nlp") == ids("--group", "sweep-7") == ids("--state", "ended")
    assert ids("--since", "2026-10-01") == ["sft", "k8s:nlp:JobSet:llama-sft:1a2b3c4d"]
    assert ids("--since", "2026-10-02") == ["sft"]
    assert ids("--project", "none") == []
    answer = wattspan("runs", "--project", "none")
    assert (answer.code, answer.out) == (1, "no such run is known here\n")


def test_report_of_the_last_attempt(wattspan: Wattspan, journal: Journal) -> None:
    """Without a number the last attempt is told, and that there are others."""
    keep(journal, attempt(0), attempt(1, result="failure", error_type="OutOfMemoryError"))
    answer = wattspan("report", "sft")
    assert (answer.code, answer.err) == (0, "")
    assert "1, besides 0" in answer.out
    assert "failure (OutOfMemoryError)" in answer.out
    assert "| result  | success " in wattspan("report", "sft", "--attempt", "0").out


def test_report_in_every_format(wattspan: Wattspan, journal: Journal, tmp_path: Path) -> None:
    """JSON, CSV and a page, on standard output or in a file that is there when the command is done."""
    keep(journal, training())
    run_id = training().run.run_id
    assert json.loads(wattspan("report", run_id, "--format", "json").out)["schema"] == "wattspan.report/2"
    (row,) = csv.DictReader(io.StringIO(wattspan("report", run_id, "--format", "csv").out))
    assert row["run_id"] == run_id
    answer = wattspan("report", run_id, "--format", "html", "-o", tmp_path / "report.html")
    assert (answer.code, answer.out) == (0, "")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "state"]


def test_run_is_found_by_its_name(wattspan: Wattspan, journal: Journal) -> None:
    """A name means the newest run of that name."""
    older, newer = (Run(run_id, name="llama", nodes_expected=1) for run_id in ("llama-1", "llama-2"))
    keep(journal, replace(attempt(1), run=newer), replace(attempt(0), run=older))
    document = json.loads(wattspan("report", "llama", "--format", "json").out)
    assert document["run"]["run_id"] == "llama-2"


def test_attempt_of_this_node_goes_first(wattspan: Wattspan, journal: Journal) -> None:
    """A journal that was carried here may know an attempt from another node too."""
    keep(journal, attempt(0, node="node-a"), attempt(0, node="node-b"))
    for node in ("node-a", "node-b"):
        answer = wattspan("report", "sft", "--format", "json", "--node.name", node)
        assert json.loads(answer.out)["run"]["node"] == node


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["report", "sftt"],
            1,
            "no run 'sftt' is known on this node; did you mean sft? (see: wattspan runs)",
        ),
        (["report", "a/b\x1b[31m"], 1, "no run 'a/b\\x1b[31m' is known"),
        (["report", "sft", "--attempt", "3"], 1, "run sft has no attempt 3 here; known: 0"),
        (["report", "sft", "--attempt", "-1"], 2, "'-1' is not allowed; allowed: a whole number from 0"),
        (["report", "sft", "--attempt", "x"], 2, "'x' is not allowed; allowed: a whole number from 0"),
        (["report", "sft", "--format", "pdf"], 2, "invalid choice: 'pdf'"),
        (["report"], 2, "the following arguments are required: RUN"),
        (["report", "sft", "-o", "/no/such/folder/x"], 3, "report: /no/such/folder/x: No such file"),
        (["report", "sft", "--state.dir", "/no/such/folder"], 3, "there is no journal in /no/such/folder"),
        (["report", "sft", "--state.dir", "/no/such"], 3, "such as /var/lib/wattspan for a daemon of root"),
        (["runs", "--state.dir", "/no/such/folder"], 3, "there is no journal in /no/such/folder"),
        (["runs", "--since", "monday"], 2, "'monday' is not allowed; allowed: a duration such as 12h"),
        (["runs", "--since", "2026-13-01"], 2, "'2026-13-01' is not allowed"),
        (["runs", "--state", "lost"], 2, "invalid choice: 'lost'"),
    ],
)
def test_wrong_usage_is_answered(
    wattspan: Wattspan, journal: Journal, words: list[str], code: int, said: str
) -> None:
    """One line says what is wrong, and nothing is printed beside it."""
    keep(journal, attempt(0))
    answer = wattspan(*words)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
