"""A view into the two text formats.

prometheus-client decides the format and sets the rules, but its writer makes every head, name and label anew
at each scrape, which is most of what a scrape costs.
Here a scrape writes what is new: heads are made once, labels once for as long as scrapes meet them,
and a family is written only when one of its rows has changed.
A test holds the text equal to the library's, byte for byte.

Importing this module needs the daemon's extra; without it that raises the SetupError that says so.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wattspan.model import LedgerView
from wattspan.publish import extra
from wattspan.publish.budget import SeriesBudget
from wattspan.publish.catalogue import CATALOGUE, AccountRows, LabelValues, Metric, Row, exemplars
from wattspan.publish.process import FAMILIES, Process

try:
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.utils import floatToGoString
except ModuleNotFoundError as error:
    raise extra.missing("prometheus-client", "publishing metrics") from error

SPARE_LABELS: Final = 1024
"""Labels that are kept although the last scrape showed only half as many: runs and pods come and go."""

_GO_EXPONENT_FROM: Final = 1e6
"""From here on Go, and so prometheus-client, writes an exponent where Python does not yet."""

_go_number: Callable[[float], str] = floatToGoString


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
    """Renders views, and keeps of each what the next one may have too.

    Args:
        series_budget: the most series of ours in a scrape.
        process: also serve the ``process_*`` families of this process.
        catalogue: what is served of a view, the most important first.
    """

    def __init__(
        self, series_budget: int, *, process: bool = True, catalogue: tuple[Metric, ...] = CATALOGUE
    ) -> None:
        self._series_budget = series_budget
        self._labels: dict[LabelValues, _LabelTexts] = {}
        self._families = [_Family(metric, self._writer(metric)) for metric in catalogue]
        self._process = Process() if process else None
        self._process_heads = {name: _Head(name, kind, text) for name, (kind, text) in FAMILIES.items()}

    def render(self, view: LedgerView, accept: str) -> Rendered:
        """The view in the format that the Accept header asks for."""
        content_type = _content_type(accept)
        openmetrics = content_type.startswith("application/openmetrics")
        budget = SeriesBudget(self._series_budget)
        text: list[str] = []
        for family in self._families:
            lines = family.lines(view)
            if openmetrics and lines and family.metric.exemplar:
                lines = _with_exemplars(family.metric, view, lines)
            if lines and budget.takes(len(lines)):
                text.append(family.head.in_format(openmetrics))
                text += lines
        self._forget_labels(len(text))
        if self._process:
            for name, value in self._process.read().items():
                head = self._process_heads[name]
                text.append(f"{head.in_format(openmetrics)}{head.exposed_name} {_number(value)}\n")
        if openmetrics:
            text.append("# EOF\n")
        return Rendered("".join(text).encode(), content_type, budget.dropped)

    def _writer(self, metric: Metric) -> "_Writer":
        """What makes lines of a metric's rows."""
        if metric.kind == "histogram":
            return self._histogram_writer(metric)
        name, labels = metric.exposed_name, self._labels_of(metric.labels)
        return lambda rows: [f"{name}{labels[values]} {_number(number)}\n" for values, number in rows]

    def _histogram_writer(self, metric: Metric) -> "_Writer":
        """Rows are (labels.., le) with cumulative counts, then (labels.., "") with the sum."""
        name, labels = metric.name, self._labels_of(metric.labels)
        bucket_labels = self._labels_of((*metric.labels, "le"))

        def lines(rows: list[Row]) -> list[str]:
            written, count = [], 0.0
            for values, number in rows:
                if values[-1]:
                    count = number
                    written.append(f"{name}_bucket{bucket_labels[values]} {_number(number)}\n")
                else:
                    written.append(f"{name}_count{labels[values[:-1]]} {_number(count)}\n")
                    written.append(f"{name}_sum{labels[values[:-1]]} {_number(number)}\n")
            return written

        return lines

    def _labels_of(self, names: LabelValues) -> "_LabelTexts":
        return self._labels.setdefault(names, _LabelTexts(names))

    def _forget_labels(self, lines: int) -> None:
        """Start anew once most of the labels are of series that are gone."""
        if sum(map(len, self._labels.values())) > SPARE_LABELS + 2 * lines:
            for texts in self._labels.values():
                texts.clear()


_Writer = Callable[[list[Row]], list[str]]


class _Family:
    """A metric, and how its samples were written last.

    Args:
        metric: which.
        write: makes lines of its rows.
    """

    def __init__(self, metric: Metric, write: _Writer) -> None:
        self.metric = metric
        self.head = _Head(metric.name, metric.kind, metric.help, metric.unit)
        self._write = write
        self._last: tuple[list[Row], list[str]] = [], []
        self._source: object = None

    def lines(self, view: LedgerView) -> list[str]:
        """Its samples in a view; from one scrape to the next half of all rows stay as they are."""
        rows_of = self.metric.rows
        if isinstance(rows_of, AccountRows):
            source, self._source = self._source, rows_of.source(view)
            if source is self._source:
                return self._last[1]
        rows = list(rows_of(view))
        last_rows, lines = self._last
        if rows != last_rows:
            lines = self._write(rows)
            self._last = rows, lines
        return lines


def _with_exemplars(metric: Metric, view: LedgerView, lines: list[str]) -> list[str]:
    """The same lines, each with what its run's counter points to; only OpenMetrics has a place for it."""
    pointers = exemplars(metric, view)
    if not pointers:
        return lines
    return [
        f"{line[:-1]}{_exemplar(*pointers[values[0]])}\n" if values[0] in pointers else line
        for line, (values, _) in zip(lines, metric.rows(view), strict=True)
    ]


def _exemplar(labels: Mapping[str, str], value: float, at_s: float) -> str:
    pairs = ",".join(f'{name}="{_quoted(text)}"' for name, text in sorted(labels.items()))
    return f" # {{{pairs}}} {_number(value)} {at_s}"


class _Head:
    """The lines above a family's samples, in either format.

    Args:
        name: of the family.
        kind: as OpenMetrics calls it.
        documentation: the help.
        unit: with which the name ends; or nothing.
    """

    def __init__(self, name: str, kind: str, documentation: str, unit: str = "") -> None:
        # Prometheus' own format knows no infos, and has the suffix in the family's name.
        suffix, plain_kind = {"counter": ("_total", kind), "info": ("_info", "gauge")}.get(kind, ("", kind))
        self.exposed_name = name + suffix
        self._prometheus = (
            f"# HELP {name}{suffix} {_escaped(documentation)}\n# TYPE {name}{suffix} {plain_kind}\n"
        )
        self._openmetrics = f"# HELP {name} {_quoted(documentation)}\n# TYPE {name} {kind}\n"
        if unit:
            self._openmetrics += f"# UNIT {name} {unit}\n"

    def in_format(self, openmetrics: bool) -> str:
        """As OpenMetrics 1.0, or as Prometheus text 0.0.4."""
        return self._openmetrics if openmetrics else self._prometheus


class _LabelTexts(dict[LabelValues, str]):
    """Label sets in writing by their values, made when they are first asked for.

    Args:
        names: of the labels, in the order of the values.
    """

    def __init__(self, names: LabelValues) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, values: LabelValues) -> str:
        pairs = sorted(zip(self._names, values, strict=True))
        written = ",".join(f'{name}="{_quoted(value)}"' for name, value in pairs)
        self[values] = text = f"{{{written}}}" if written else ""
        return text


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")


def _number(value: float) -> str:
    if -math.inf < value < _GO_EXPONENT_FROM:
        return repr(float(value))
    return _go_number(value)


@lru_cache(maxsize=32)
def _content_type(accept: str) -> str:
    return choose_encoder(accept)[1]
