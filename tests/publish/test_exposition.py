"""A view into text: equal to prometheus-client's own writer, and what the budget leaves out."""

import contextlib
import gc
import math
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tests.publish.test_catalogue import full_view
from wattspan.config import SETTINGS
from wattspan.errors import REASONS
from wattspan.journal.board import Board
from wattspan.model import LedgerView
from wattspan.publish.catalogue import CATALOGUE, Metric, Row
from wattspan.publish.exposition import SPARE_LABELS, Exposition
from wattspan.publish.process import FAMILIES, Process
from wattspan.publish.prometheus import ViewCollector

ACCEPTS = (
    "",
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    # As Prometheus 2.42 and 3.x send it.
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
)
EMPTY = LedgerView(0, 0, 0, {})
SOURCES = [key.removeprefix("source.") for key in SETTINGS if key.startswith("source.")]
OWN_HEALTH = tuple(
    f"wattspan_{subject}_"
    for subject in ("build", "config", "source", "series", "journal", "spans", "span", "clock")
)
LEAST_BUDGET = 100
"""Of the setting metrics.series-budget."""


class Fixed(Collector):
    """Families that are given."""

    def __init__(self, *given: Family) -> None:
        self._given = given

    def collect(self) -> list[Family]:
        """As they are."""
        return list(self._given)


def library_says(collector: Collector, accept: str) -> tuple[bytes, str]:
    """What prometheus-client makes of the same families."""
    registry = CollectorRegistry()
    registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def one_metric(kind: str, labels: tuple[str, ...], rows: Callable[[LedgerView], list[Row]]) -> Metric:
    """A catalogue's entry with a help that needs escaping."""
    return Metric("wattspan_x", kind, 'help with \\ and\nnewline and "quote"', labels, "", "-", rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("accept", ACCEPTS)
def test_our_text_equals_the_librarys(accept: str) -> None:
    """Byte for byte, in every format that a Prometheus asks for, with labels new and met before."""
    board = Board()
    board.pin(full_view())
    exposition = Exposition(3000, process=False)
    for _ in range(2):
        rendered = exposition.render(board.view, accept)
        assert (rendered.body, rendered.content_type) == library_says(ViewCollector(board, 3000), accept)
    assert len(rendered.body) > 5_000


@pytest.mark.parametrize("accept", ACCEPTS[1:3])
def test_hostile_label_values_are_escaped_as_the_library_does(accept: str) -> None:
    """Quotes, backslashes and newlines cannot forge a sample, and labels are sorted."""
    values = ('quote " and \\', "two\nlines")
    metric = one_metric("counter", ("b", "a"), lambda _: [(values, 1.5)])
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    family.add_metric(values, 1.5)
    body = Exposition(10, process=False, catalogue=(metric,)).render(EMPTY, accept).body
    assert body == library_says(Fixed(family), accept)[0]


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1, 0.1, 1e-7, 999_999.9999999999, 1e6, 1_000_000, 1_779_000_000.25, 123456789012, 1e16, 1.5e300),
        *(-1, -2e6, -0.0, math.inf, -math.inf, math.nan),
    ],
)
def test_numbers_are_written_as_go_does(value: float) -> None:
    """Whole or not, tiny, huge or none at all: as the library writes it."""
    metric = one_metric("gauge", (), lambda _: [((), value)])
    body = Exposition(10, process=False, catalogue=(metric,)).render(EMPTY, "").body.decode()
    assert body.splitlines()[-1] == f"wattspan_x {floatToGoString(value)}"


def test_the_budget_drops_the_least_important_families_and_counts_them() -> None:
    """What is kept is a prefix of the catalogue, at most the budget, and nothing is lost unsaid."""
    view = full_view()
    everything = Exposition(100_000, process=False).render(view, "")
    assert everything.series_dropped == 0
    lines = everything.body.decode().splitlines()
    total = sum(not line.startswith("#") for line in lines)
    some = Exposition(total // 2, process=False).render(view, "")
    kept = some.body.decode().splitlines()
    assert kept == lines[: len(kept)]
    series = sum(not line.startswith("#") for line in kept)
    assert total // 4 < series <= total // 2
    assert series + some.series_dropped == total


def test_the_daemons_health_fits_into_any_budget() -> None:
    """With every source, many runs and the least budget, scrapes tell that series are left out, and all that
    alerts about the daemon itself go by.
    """
    view = full_view()
    (now,), (health,) = view.runs, view.health
    record = now.record
    crowded = replace(
        view,
        runs=[
            replace(now, record=replace(record, run=replace(record.run, run_id=f"run-{number}")))
            for number in range(300)
        ],
        health=[replace(health, source=source) for source in SOURCES],
        counters={
            **view.counters,
            "source_read_failures": {(source, reason): 1 for source in SOURCES for reason in REASONS},
            "run_gpu": {(f"run-{number}",): 1 for number in range(300)},
        },
    )
    rendered = Exposition(LEAST_BUDGET, process=False).render(crowded, "")
    shown = [line.split()[2] for line in rendered.body.decode().splitlines() if line.startswith("# HELP")]
    own = [metric.exposed_name for metric in CATALOGUE if metric.exposed_name.startswith(OWN_HEALTH)]
    assert shown[: len(own)] == own
    assert "wattspan_series_dropped_total" in own
    assert "wattspan_run_info" not in shown
    assert rendered.series_dropped > 600


@pytest.mark.parametrize("budget", [0, 1, 40, 100])
def test_a_registry_shows_what_a_scrape_shows(budget: int) -> None:
    """The collector keeps to the same budget in the same order."""
    board = Board()
    board.pin(full_view())
    rendered = Exposition(budget, process=False).render(board.view, "")
    assert rendered.series_dropped > 0
    assert rendered.body == library_says(ViewCollector(board, budget), "")[0]


def test_an_empty_view_renders() -> None:
    """Before the first tick a scrape gets an answer."""
    body = Exposition(3000).render(EMPTY, "").body.decode()
    assert "wattspan_build_info{" in body
    assert "process_resident_memory_bytes" in body


def test_rendering_changes_nothing() -> None:
    """Two scrapes of one view are equal, and the view is as it was."""
    view = full_view()
    before = replace(view)
    exposition = Exposition(3000, process=False)
    assert exposition.render(view, "") == exposition.render(view, "")
    assert view == before


class Value(str):
    """A label's value that knows when it is written, and that can be looked for."""

    written: ClassVar[list[str]] = []

    def replace(self, *args: object) -> str:  # type: ignore[override]
        Value.written.append(str(self))
        return super().replace(*args)  # type: ignore[arg-type]


def test_labels_are_written_once_while_scrapes_meet_them() -> None:
    """A series that stays is not named anew: that is what makes a scrape cheaper than the library's."""
    Value.written.clear()
    ticks = count()
    metric = one_metric("gauge", ("run_id",), lambda _: [((Value(run),), next(ticks)) for run in "ab"])
    exposition = Exposition(10, process=False, catalogue=(metric,))
    bodies = {exposition.render(EMPTY, "").body for _ in range(5)}
    assert Value.written == ["a", "b"]
    assert len(bodies) == 5


class Number(float):
    """A value that counts how often it is written."""

    written = 0

    def __float__(self) -> float:
        Number.written += 1
        return super().__float__()


def test_a_family_that_stays_as_it_was_is_not_written_again() -> None:
    """Facts and counters at rest cost a comparison; one row that moves writes its family."""
    Number.written = 0
    rows = [(("a",), Number(1.5)), (("b",), Number(2.5))]
    metric = one_metric("gauge", ("run_id",), lambda _: list(rows))
    exposition = Exposition(10, process=False, catalogue=(metric,))
    for accept in ACCEPTS:
        exposition.render(EMPTY, accept)
    assert Number.written == 2
    rows[1] = (("b",), Number(3.5))
    assert b'wattspan_x{run_id="b"} 3.5' in exposition.render(EMPTY, "").body
    rows.pop()
    assert b'run_id="b"' not in exposition.render(EMPTY, "").body


def test_labels_of_series_that_are_gone_are_forgotten() -> None:
    """Thousands of runs in a row leave no growth: what is held is bounded by what scrapes show."""
    held = WeakSet[Value]()

    def one_new_run(_: LedgerView) -> list[Row]:
        run_id = Value(f"run-{len(Value.written)}")
        held.add(run_id)
        return [((run_id,), 1)]

    exposition = Exposition(10, process=False, catalogue=(one_metric("gauge", ("run_id",), one_new_run),))
    most = 0
    for _ in range(3 * SPARE_LABELS):
        exposition.render(EMPTY, "")
        most = max(most, len(held))
    assert SPARE_LABELS // 2 < most < SPARE_LABELS + 10


def test_the_process_is_told_as_the_library_tells_it() -> None:
    """Families, kinds, helps and values are those of prometheus-client's collector."""
    gc.collect()  # what other tests left open goes now, and not between the two looks
    heads = [line for line in Exposition(0).render(EMPTY, "").body.decode().splitlines() if line[0] == "#"]
    theirs = library_says(ProcessCollector(registry=None), "")[0].decode()
    assert sorted(heads) == sorted(line for line in theirs.splitlines() if line[0] == "#")
    ours = Process().read()
    assert ours.keys() == FAMILIES.keys()
    said = {family.name: family.samples[0].value for family in text_string_to_metric_families(theirs)}
    for steady in ("process_start_time_seconds", "process_max_fds"):
        assert ours[steady] == said.pop(steady)
    for moving, value in said.items():
        # Theirs count CPU time in hundredths of a second, and the descriptor that they count with.
        assert ours[moving] == pytest.approx(value, rel=0.05, abs=2), moving


def test_the_process_is_computed_as_the_library_computes_it(tmp_path: Path) -> None:
    """From one and the same /proc come the same figures, whatever the program is called."""
    Path(tmp_path, "stat").write_text("cpu  1 2 3\nbtime 1780000000\nprocesses 3\n")
    own = tmp_path / "self"
    own.mkdir()
    fields = [*range(4, 23), 8 * 65536, 5, *range(25, 53)]
    (own / "stat").write_text(f"26 (a) b) S {' '.join(map(str, fields))}\n")
    (own / "statm").write_text(f"{8 * 65536 // resource.getpagesize()} 5 3 2 0 1 0\n")
    ours = Process(tmp_path).read()
    theirs = ProcessCollector(proc=str(tmp_path), registry=None).collect()
    said = {family.name: family.samples[0].value for family in theirs}
    del said["process_cpu_seconds"]
    assert said == {name: ours[name] for name in said}
    assert len(said) == 3


def test_descriptors_are_counted() -> None:
    """Open files are counted; so many that those which other tests' rubbish still has do not matter."""
    gc.collect()
    process = Process()
    before = process.read()["process_open_fds"]
    with contextlib.ExitStack() as opened:
        for _ in range(200):
            opened.enter_context(open("/dev/null"))
        assert process.read()["process_open_fds"] == pytest.approx(before + 200, abs=20)


def test_what_is_kept_open_is_given_back(tmp_path: Path) -> None:
    """A reader that is gone leaves no descriptor behind."""
    # A folder of its own: what else this process has open comes and goes with other tests' threads.
    (tmp_path / "self" / "fd").mkdir(parents=True)
    (tmp_path / "self" / "statm").write_text("1 2 3")

    def kept_open() -> int:
        links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        return sum(link.is_relative_to(tmp_path) for link in map(_target, links))

    reader = Process(tmp_path)
    assert kept_open() == 2
    del reader
    gc.collect()
    assert kept_open() == 0


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except FileNotFoundError:  # closed meanwhile
        return link


def test_a_process_without_procfs_says_less(tmp_path: Path) -> None:
    """Where /proc is not mounted only the CPU time is known, and nothing fails."""
    assert Process(tmp_path).read().keys() == {"process_cpu_seconds"}
