"""Families into the two text formats.

prometheus-client decides the format and names the rules; its writer renders every label of every sample anew,
which is most of the cost of a scrape.
This one reuses `SeriesLabels.text`, and a test holds its output equal to the library's, byte for byte.

Importing this module needs the daemon's extra; without it that raises the SetupError that says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from wattspan.model import LedgerView
from wattspan.publish import extra

try:
    from prometheus_client import ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample
    from prometheus_client.utils import floatToGoString

    from wattspan.publish.prometheus import SeriesLabels, escape, families
except ModuleNotFoundError as error:
    raise extra.missing("prometheus-client", "publishing metrics") from error

_number: Callable[[float], str] = floatToGoString


@dataclass(frozen=True, slots=True)
class Rendered:
    """A scrape's answer.

    Attributes:
        body: UTF-8 text.
        content_type: with version and escaping, as negotiated.
        series_dropped: series that the budget left out.
    """

    body: bytes
    content_type: str
    series_dropped: int


class Exposition:
    """Renders views; holds nothing but its settings.

    Args:
        series_budget: the most series of ours in a scrape.
        process: also serve the ``process_*`` families of this process.
    """

    def __init__(self, series_budget: int, *, process: bool = True) -> None:
        self._series_budget = series_budget
        # registry=None: collectors do not register themselves.
        self._process = ProcessCollector(registry=None) if process else None

    def render(self, view: LedgerView, accept: str) -> Rendered:
        """The view in the format that the Accept header asks for."""
        content_type = _content_type(accept)
        ours = families(view, self._series_budget)
        process = self._process.collect() if self._process else ()
        text = write(
            chain(ours.kept, process), openmetrics=content_type.startswith("application/openmetrics")
        )
        return Rendered(text.encode(), content_type, ours.series_dropped)


def write(metrics: Iterable[Family], *, openmetrics: bool) -> str:
    """Families as OpenMetrics 1.0 or Prometheus text 0.0.4; names must be legacy ones, as ours are."""
    lines: list[str] = []
    for metric in metrics:
        _head(metric, lines, openmetrics)
        for sample in metric.samples:
            labels = sample.labels
            text = labels.text if type(labels) is SeriesLabels else _label_text(labels)
            exemplar = _exemplar(sample) if openmetrics and sample.exemplar else ""
            lines.append(f"{sample.name}{text} {_number(sample.value)}{exemplar}\n")
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines)


@lru_cache(maxsize=32)
def _content_type(accept: str) -> str:
    return choose_encoder(accept)[1]


def _head(metric: Family, lines: list[str], openmetrics: bool) -> None:
    if openmetrics:
        lines.append(f"# HELP {metric.name} {escape(metric.documentation)}\n")
        lines.append(f"# TYPE {metric.name} {metric.type}\n")
        if metric.unit:
            lines.append(f"# UNIT {metric.name} {metric.unit}\n")
        return
    suffix, kind = {"counter": ("_total", "counter"), "info": ("_info", "gauge")}.get(
        metric.type, ("", metric.type)
    )
    documentation = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    lines.append(f"# HELP {metric.name}{suffix} {documentation}\n")
    lines.append(f"# TYPE {metric.name}{suffix} {kind}\n")


def _label_text(labels: dict[str, str]) -> str:
    return SeriesLabels(tuple(labels), tuple(labels.values())).text


def _exemplar(sample: Sample) -> str:
    """An exemplar with the timestamp it always has here (OpenMetrics 2.0 demands one)."""
    exemplar = sample.exemplar
    if exemplar is None:
        return ""
    return f" # {_label_text(exemplar.labels)} {_number(exemplar.value)} {exemplar.timestamp}"
