"""A view as prometheus-client's metric families, within the series budget.

`ViewCollector` may be registered in any registry; it touches no hardware and no shared state.
It is for a program that has these rooms in its own process, with the `ViewDoor`, and a registry of its own.
No command of ours registers it: scrapes of the daemon come from `exposition`, which writes the same text
without these objects; the tests hold it equal to what prometheus-client writes of this collector.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from wattspan.model import LedgerView
from wattspan.publish import ViewDoor
from wattspan.publish.budget import SeriesBudget
from wattspan.publish.catalogue import CATALOGUE, LabelValues, Metric, exemplars


class ViewCollector(Collector):
    """The newest view, for a prometheus-client registry.

    Args:
        door: where the view comes from.
        series_budget: the most series that are collected.
    """

    def __init__(self, door: ViewDoor, series_budget: int) -> None:
        self._door = door
        self._series_budget = series_budget

    def describe(self) -> Iterable[Family]:
        """Nothing, so that registering it renders nothing."""
        return ()

    def collect(self) -> Iterator[Family]:
        """The families of the newest view, the most important first."""
        view, budget = self._door.view, SeriesBudget(self._series_budget)
        for metric in CATALOGUE:
            family = _family(metric, view)
            if family.samples and budget.takes(len(family.samples)):
                yield family


def _family(metric: Metric, view: LedgerView) -> Family:
    family = Family(metric.name, metric.help, metric.kind, metric.unit)
    if metric.kind == "histogram":
        family.samples = list(_histogram(metric, view))
    else:
        name, pointers = metric.exposed_name, exemplars(metric, view)
        family.samples = [
            _sample(
                name, metric.labels, values, number, _exemplar(pointers.get(values[0])) if pointers else None
            )
            for values, number in metric.rows(view)
        ]
    return family


def _histogram(metric: Metric, view: LedgerView) -> Iterator[Sample]:
    """Rows are (labels.., le) with cumulative counts, then (labels.., "") with the sum."""
    count = 0.0
    for (*labels, bound), number in metric.rows(view):
        if bound:
            count = number
            yield _sample(f"{metric.name}_bucket", (*metric.labels, "le"), (*labels, bound), number)
        else:
            yield _sample(f"{metric.name}_count", metric.labels, tuple(labels), count)
            yield _sample(f"{metric.name}_sum", metric.labels, tuple(labels), number)


def _sample(
    name: str, names: LabelValues, values: LabelValues, number: float, exemplar: Exemplar | None = None
) -> Sample:
    return Sample(name, dict(zip(names, values, strict=True)), number, None, exemplar)


def _exemplar(pointer: tuple[Mapping[str, str], float, float] | None) -> Exemplar | None:
    return None if pointer is None else Exemplar(dict(pointer[0]), pointer[1], pointer[2])
