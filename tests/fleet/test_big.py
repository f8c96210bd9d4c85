"""The synthetic fleet in small, and the rules by which its queries are made."""

import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import big, synthetic
from tests.fleet.panels import Reader, filled, seconds_of
from tests.fleet.synthetic import Fleet, Recorded, Series
from tests.real_parts import need

AT_S = 1_795_132_800
"""2026-11-20T00:00:00Z"""


def said(name: str, value: float, per_s: float = 0.0, **labels: str) -> Series:
    """One series of a template."""
    return Series(name, tuple(labels.items()), value, per_s)


def written(fleet: Fleet, begin_s: int, end_s: int, recent_s: int) -> list[str]:
    """The lines of nodes."""
    out = io.StringIO()
    count = fleet.write(out, begin_s, end_s, recent_s)
    lines = out.getvalue().splitlines()
    assert count == len(lines)
    return [line for line in lines if "hub" not in line]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_fleet_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of twenty nodes blocks are made, every rule is evaluated, every query is accepted."""
    need("promtool", shutil.which("promtool") is not None)
    code = big.main(
        [
            "--nodes",
            "20",
            "--evaluate-s",
            "4",
            "--gpus",
            "8",
            "--keep",
            str(tmp_path / "f"),
            "--panel-s",
            "30",
            "--group-s",
            "30",
        ]
    )
    told = capsys.readouterr().out
    assert code == 0, told
    panels, with_data = map(
        int, re.findall(r"^panels: (\d+), of them with data: (\d+)", told, re.MULTILINE)[0]
    )
    assert panels > 100
    assert with_data / panels > 0.7
    assert "failed evaluations: 0" in told
    assert not list((tmp_path / "f").glob("*.om"))


@pytest.mark.parametrize(("panel_s", "group_s", "code"), [(2, 1, 0), (0.9, 1, 1), (2, 0.4, 1)])
def test_a_broken_bound_is_exit_code_1(
    panel_s: float, group_s: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The slowest panel and the slowest group count, and both are named."""
    arguments = big._parser().parse_args(["--panel-s", str(panel_s), "--group-s", str(group_s)])
    panels = [big.Timed("b", "slow one", 1.0, 3), big.Timed("b", "quick one", 0.1, 0)]
    groups = [big.Group("g", 0.5, 7)]
    assert big.report(panels, groups, 0, arguments) == code
    told = capsys.readouterr().out
    assert "panels: 2, of them with data: 1" in told
    assert "without data here: b: quick one" in told
    assert ("NOT GOOD" in told) == bool(code)


@pytest.mark.parametrize("what", ["a refused query", "a failed evaluation"])
def test_what_prometheus_refuses_is_exit_code_1(what: str) -> None:
    """However fast it was."""
    refused = what == "a refused query"
    panel = big.Timed("b", "one", 0.1, 1, ("parse error: sum(",) if refused else ())
    assert big.report([panel], [big.Group("g", 0.1, 1)], not refused, big._parser().parse_args([])) == 1


def test_nodes_differ_and_their_runs_do_not() -> None:
    """Cards belong to a node, runs to sixteen of them, and only the first tells how far the run is."""
    fleet = Fleet(
        [
            said("wattspan_gpu_up", 1, uuid="GPU-x", gpu="0"),
            said("wattspan_run_gpus", 3, run_id="adapter-lora-gpu-1"),
            said("wattspan_run_steps_total", 70, 2.0, run_id="adapter-lora-gpu-1"),
        ],
        AT_S,
        nodes=40,
    )
    lines = written(fleet, AT_S, AT_S + 60, AT_S)
    assert len({re.search(r'uuid="([^"]+)"', line)[1] for line in lines if "gpu_up" in line}) == 40
    runs = [re.search(r'run_id="([^"]+)"', line)[1] for line in lines if "run_gpus" in line]
    assert sorted(map(runs.count, set(runs))) == [8, 16, 16]
    assert len([line for line in lines if "run_steps" in line]) == 3


def test_a_run_is_the_same_on_all_its_nodes() -> None:
    """Also the one that spans many groups of nodes: what it is comes once."""
    info = said(
        "wattspan_run_info",
        1,
        run_id="llama-sft-gpu-1",
        run_name="llama-sft",
        project="assistant",
        group="base",
    )
    attempt = said("wattspan_run_attempt_info", 1, run_id="llama-sft-gpu-1", attempt="0", trace_id="aa")
    lines = written(Fleet([info, attempt], AT_S, nodes=160), AT_S, AT_S + 60, AT_S)
    for name in ("run_info", "attempt_info"):
        found = {re.sub(r'instance="[^"]+"', "", line) for line in lines if f"{name}{{" in line}
        assert len(found) == 3, "the wide run, and two of sixteen nodes"


def test_counters_grow_and_only_the_busiest_are_old() -> None:
    """Two hours of the families that are read most, twenty minutes of the others."""
    fleet = Fleet(
        [
            said("wattspan_node_energy_joules_total", 1e6, 500.0),
            said("wattspan_gpu_holders", 2, uuid="GPU-x", gpu="0"),
            said("wattspan_gpu_up", 1, uuid="GPU-x", gpu="0"),
        ],
        AT_S,
        nodes=1,
    )
    lines = written(fleet, AT_S - 7200, AT_S, AT_S - 1200)
    joules = [float(line.split()[1]) for line in lines if "node_energy" in line]
    assert len(joules) == 120
    assert {round(after - before) for before, after in pairwise(joules)} == {round(500 * 60 * 0.7)}
    assert len([line for line in lines if "holders" in line]) == 20


def test_pieces_end_where_blocks_do() -> None:
    """Nothing is left out, nothing is there twice, and no piece lies in two blocks."""
    cut = list(synthetic.pieces(100, 1000, 240, 150))
    assert cut == [
        (100, 240),
        (240, 390),
        (390, 480),
        (480, 630),
        (630, 720),
        (720, 870),
        (870, 960),
        (960, 1000),
    ]


def test_hours_of_the_past_carry_their_month() -> None:
    """The hour before midnight of the first belongs to the month before, as the rule has it."""
    first_s = 1_793_491_200  # 2026-11-01T00:00:00Z
    out = io.StringIO()
    series = Recorded("month:x:increase1h", {"project": 'a"b'}, 5.0)
    synthetic.write_recorded(out, [series], range(first_s - 3600, first_s + 7200, 300))
    months = re.findall(r'month="(\d+)"} \S+ (\d+)', out.getvalue())
    assert months == [("10", str(first_s - 3600)), ("10", str(first_s)), ("11", str(first_s + 3600))]
    assert r'project="a\"b"' in out.getvalue()


def test_variables_are_filled_in_as_grafana_does() -> None:
    """In all three spellings; an unknown one is a mistake of the dashboard."""
    values = {"cluster": ".*", "__rate_interval": "4m"}
    assert filled('x{a=~"$cluster"}[$__rate_interval]', values) == 'x{a=~".*"}[4m]'
    assert filled("${cluster:regex}[[cluster]]", values) == ".*.*"
    with pytest.raises(KeyError):
        filled("$nobody", values)


def test_steps_and_intervals_are_grafanas() -> None:
    """A step is the range over the width, rounded up, and no less than a scrape; a rate sees four scrapes."""
    reader = Reader("http://nobody.invalid", scrape_s=60)
    target = {"expr": "rate(x[$__rate_interval]) $__interval $__range"}
    six = reader._query({}, target, {}, seconds_of("6h"))
    assert (six.expr, six.range_s, six.step_s) == ("rate(x[240s]) 60s 21600s", 21_600, 60)
    month = reader._query({}, target, {}, seconds_of("31d"))
    assert (month.step_s, month.expr.split()[0]) == (3600, "rate(x[3660s])")
    instant = reader._query({"timeFrom": "1h"}, {**target, "instant": True}, {}, 60)
    assert (instant.range_s, instant.expr.split()[2]) == (0, "3600s")


def test_every_dashboard_can_be_read() -> None:
    """All its variables and ranges are known to the reader; nobody is asked."""

    class Mute(Reader):
        def _post(self, path: str, form: Any) -> Any:
            del path, form
            read = {"totalQueryableSamples": 0, "peakSamples": 0}
            return {"status": "success", "data": {"result": [], "stats": {"samples": read}}}

    for path in sorted((big.ROOT / "dashboards").glob("*.json")):
        timed = list(Mute("http://nobody.invalid").time_board(path))
        wanted = [
            p
            for p in json.loads(path.read_text())["panels"]
            if any(t.get("expr") for t in p.get("targets", ()))
        ]
        assert len(timed) == len(wanted) > 0
