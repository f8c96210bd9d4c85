"""Families into text: equal to prometheus-client's own writer, and what the budget leaves out."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from tests.publish.test_catalogue import full_view
from wattspan.journal.board import Board
from wattspan.model import LedgerView
from wattspan.publish.exposition import Exposition, write
from wattspan.publish.prometheus import SeriesLabels, ViewCollector, families

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


class Fixed(Collector):
    """Families that are given."""

    def __init__(self, *given: Family) -> None:
        self.given = given

    def collect(self) -> Iterator[Family]:
        """As they are."""
        yield from self.given


def library_says(collector: Collector, accept: str) -> tuple[bytes, str]:
    """What prometheus-client makes of the same families."""
    registry = CollectorRegistry()
    registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


@pytest.mark.parametrize("accept", ACCEPTS)
def test_our_writer_equals_the_librarys(accept: str) -> None:
    """Byte for byte, in every format that a Prometheus asks for."""
    board = Board()
    board.pin(full_view())
    rendered = Exposition(3000, process=False).render(board.view, accept)
    assert (rendered.body, rendered.content_type) == library_says(ViewCollector(board, 3000), accept)
    assert len(rendered.body) > 5_000


def test_hostile_label_values_are_escaped_as_the_library_does() -> None:
    """Quotes, backslashes and newlines cannot forge a sample."""
    family = CounterMetricFamily("wattspan_x", 'help with \\ and\nnewline and "quote"')
    labels = SeriesLabels(("b", "a"), ('quote " and \\', "two\nlines"))
    family.add_sample("wattspan_x_total", labels, 1.5)
    for accept in (ACCEPTS[0], ACCEPTS[2]):
        text = write([family], openmetrics="openmetrics" in accept)
        assert text.encode() == library_says(Fixed(family), accept)[0]


def test_exemplars_stand_in_openmetrics_only() -> None:
    """With a timestamp, as the library writes them."""
    family = CounterMetricFamily("wattspan_run_energy_joules", "help")
    exemplar = Exemplar({"trace_id": "b641e7d2518e39667fb3d3367234428a"}, 3.0, 1_780_000_000.5)
    family.add_metric([], 12.0, exemplar=exemplar)
    openmetrics = write([family], openmetrics=True)
    assert openmetrics.encode() == library_says(Fixed(family), ACCEPTS[2])[0]
    assert "trace_id" in openmetrics
    assert "trace_id" not in write([family], openmetrics=False)


def test_the_budget_drops_the_least_important_families_and_counts_them() -> None:
    """What is kept is a prefix of the catalogue, at most the budget, and nothing is lost unsaid."""
    view = full_view()
    everything = families(view, 100_000)
    assert everything.series_dropped == 0
    total = sum(len(family.samples) for family in everything.kept)
    budget = total // 2
    some = families(view, budget)
    names = [family.name for family in some.kept]
    assert names == [family.name for family in everything.kept][: len(names)]
    series = sum(len(family.samples) for family in some.kept)
    assert series <= budget
    assert series + some.series_dropped == total


def test_an_empty_view_renders() -> None:
    """Before the first tick a scrape gets an answer."""
    empty = LedgerView(0, 0, 0, {})
    body = Exposition(3000).render(empty, "").body.decode()
    assert "wattspan_build_info{" in body
    assert "process_resident_memory_bytes" in body


def test_rendering_changes_nothing() -> None:
    """Two scrapes of one view are equal, and the view is as it was."""
    view = full_view()
    before = replace(view)
    exposition = Exposition(3000, process=False)
    assert exposition.render(view, "") == exposition.render(view, "")
    assert view == before
