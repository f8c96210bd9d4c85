"""A view as prometheus-client's metric families, within the series budget.

`ViewCollector` may be registered in any registry; it touches no hardware and no shared state.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from wattspan.model import LedgerView
from wattspan.publish import ViewDoor
from wattspan.publish.catalogue import CATALOGUE, LabelValues, Metric


class SeriesLabels(dict[str, str]):
    """Labels that carry their own rendering, made once for the life of a series instead of at each scrape."""

    __slots__ = ("text",)

    text: str

    def __init__(self, names: LabelValues, values: LabelValues) -> None:
        super().__init__(zip(names, values, strict=True))
        pairs = ",".join(f'{name}="{escape(value)}"' for name, value in sorted(self.items()))
        self.text = f"{{{pairs}}}" if pairs else ""


def escape(value: str) -> str:
    """A label value as the exposition formats want it (Prometheus text 0.0.4, OpenMetrics 1.0)."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


_labels = lru_cache(maxsize=16_384)(SeriesLabels)
"""Rendered labels of the series that scrapes have met lately; runs come and go, so it is bounded."""


@dataclass(frozen=True, slots=True)
class Families:
    """The families of one view.

    Attributes:
        kept: within the budget, in the catalogue's order.
        series_dropped: how many series were left out.
    """

    kept: tuple[Family, ...]
    series_dropped: int


def families(view: LedgerView, series_budget: int) -> Families:
    """The catalogue's families in a view; the least important go first when there are too many series."""
    kept: list[Family] = []
    series = dropped = 0
    for metric in CATALOGUE:
        family = _family(metric, view)
        if not family.samples:
            continue
        # Once one family did not fit, none after it is served: what a node shows must not hang on sizes.
        if dropped or series + len(family.samples) > series_budget:
            dropped += len(family.samples)
        else:
            series += len(family.samples)
            kept.append(family)
    return Families(tuple(kept), dropped)


class ViewCollector(Collector):
    """The newest view, for a prometheus-client registry."""

    def __init__(self, door: ViewDoor, series_budget: int) -> None:
        self._door = door
        self._series_budget = series_budget

    def describe(self) -> Iterable[Family]:
        """Nothing, so that registering it renders nothing."""
        return ()

    def collect(self) -> Iterator[Family]:
        """The families of the newest view."""
        yield from families(self._door.view, self._series_budget).kept


def _family(metric: Metric, view: LedgerView) -> Family:
    family = Family(metric.name, metric.help, metric.kind, metric.unit)
    if metric.kind == "histogram":
        family.samples = list(_histogram(metric, view))
        return family
    name = metric.exposed_name
    names = metric.labels
    family.samples = [
        Sample(name, _labels(names, values), number, None, None, None) for values, number in metric.rows(view)
    ]
    return family


def _histogram(metric: Metric, view: LedgerView) -> Iterator[Sample]:
    """Rows are (labels.., le) with cumulative counts, then (labels.., "") with the sum."""
    count = 0.0
    for (*labels, bound), number in metric.rows(view):
        if bound:
            count = number
            yield Sample(f"{metric.name}_bucket", _labels((*metric.labels, "le"), (*labels, bound)), number)
        else:
            yield Sample(f"{metric.name}_count", _labels(metric.labels, tuple(labels)), count)
            yield Sample(f"{metric.name}_sum", _labels(metric.labels, tuple(labels)), number)
