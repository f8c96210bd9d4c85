"""The queries of a dashboard as Grafana would send them, with variables filled in, and how long they take.

Grafana's rules: a step is the range over the panel's width in pixels, rounded, and never below the scrape
interval; ``$__rate_interval`` is the step and a scrape more, and at least four scrapes.
"""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

WIDTH_PX: Final = 1000
"""Of a panel on a wide screen: how many points Grafana asks for at most."""

NICE_S: Final = (
    1,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1200,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    86_400,
)
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_VARIABLE: Final = re.compile(r"\$\{([a-zA-Z_]\w*)(?::\w+)?\}|\$([a-zA-Z_]\w*)|\[\[(\w+)\]\]")
_LABEL_VALUES: Final = re.compile(r"label_values\((?:(.+),)?\s*(\w+)\)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Query:
    """One query of one panel.

    Attributes:
        expr: with everything filled in.
        range_s: 0 for an instant query.
        step_s: of a range query.
    """

    expr: str
    range_s: int
    step_s: int


@dataclass(frozen=True, slots=True)
class Timed:
    """A panel that was asked for.

    Attributes:
        board, title: where it stands.
        seconds: all its queries, one after the other.
        series: that came back.
        errors: what Prometheus did not like.
        samples: that were read for it, over all steps: the same on every machine.
        peak: samples that were in memory at once, by the greatest of its queries.
    """

    board: str
    title: str
    seconds: float
    series: int
    errors: tuple[str, ...] = ()
    samples: int = 0
    peak: int = 0


class Reader:
    """Asks a Prometheus as Grafana does.

    Args:
        url: of it.
        scrape_s: its scrape interval, as its data source in Grafana says.
    """

    def __init__(self, url: str, scrape_s: int = 60) -> None:
        self._url = url
        self._scrape_s = scrape_s

    def time_board(self, path: Path) -> Iterator[Timed]:
        """Each panel of a dashboard, once."""
        board = json.loads(path.read_text("utf-8"))
        values = self._values(board)
        range_s = seconds_of(board["time"]["from"].removeprefix("now-"))
        for panel in board["panels"]:
            targets = [target for target in panel.get("targets", ()) if target.get("expr")]
            if not targets:
                continue
            spent_s, series, errors, samples, peak = 0.0, 0, [], 0, 0
            for target in targets:
                query = self._query(panel, target, values, range_s)
                began_s = time.perf_counter()
                answer = self.ask(query)
                spent_s += time.perf_counter() - began_s
                if answer["status"] == "success":
                    series += len(answer["data"]["result"])
                    samples += answer["data"]["stats"]["samples"]["totalQueryableSamples"]
                    peak = max(peak, answer["data"]["stats"]["samples"]["peakSamples"])
                else:
                    errors.append(f"{answer['error']}: {query.expr}")
            yield Timed(board["uid"], panel["title"], spent_s, series, tuple(errors), samples, peak)

    def ask(self, query: Query) -> Any:
        """Prometheus' answer as a document, also when it says no."""
        now_s = time.time()
        if not query.range_s:
            return self._post("query", {"query": query.expr, "time": f"{now_s:.3f}", "stats": "1"})
        end_s = int(now_s) // query.step_s * query.step_s
        start_s = end_s - query.range_s // query.step_s * query.step_s
        asked = {"query": query.expr, "start": str(start_s), "end": str(end_s), "step": str(query.step_s)}
        return self._post("query_range", {**asked, "stats": "1"})

    def samples(self, expr: str) -> int:
        """How many an instant query reads."""
        answer = self.ask(Query(expr, 0, self._scrape_s))
        return int(answer["data"]["stats"]["samples"]["totalQueryableSamples"])

    def _query(self, panel: Any, target: Any, values: Mapping[str, str], range_s: int) -> Query:
        if panel.get("timeFrom"):
            range_s = seconds_of(panel["timeFrom"])
        step_s = self._step_s(panel, target, range_s)
        own = {
            "__interval": f"{step_s}s",
            "__interval_ms": str(step_s * 1000),
            "__rate_interval": f"{max(step_s + self._scrape_s, 4 * self._scrape_s)}s",
            "__range": f"{range_s}s",
            "__range_s": str(range_s),
            "__range_ms": str(range_s * 1000),
        }
        return Query(
            filled(target["expr"], {**values, **own}), 0 if target.get("instant") else range_s, step_s
        )

    def _step_s(self, panel: Any, target: Any, range_s: int) -> int:
        least = target.get("interval") or panel.get("interval")
        least_s = max(self._scrape_s, seconds_of(least.lstrip(">"))) if least else self._scrape_s
        wanted_s = range_s / (panel.get("maxDataPoints") or WIDTH_PX)
        return max(least_s, next((nice for nice in NICE_S if nice >= wanted_s), NICE_S[-1]))

    def _values(self, board: Any) -> dict[str, str]:
        """Variables: all where one may choose all, one by one where Grafana does so; else the commonest."""
        values: dict[str, str] = {}
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                values[variable["name"]] = str((variable.get("current") or {}).get("value") or "")
            elif variable.get("allValue"):
                values[variable["name"]] = variable["allValue"]
            else:
                match = _LABEL_VALUES.match(variable["definition"])
                assert match is not None, variable["definition"]
                if variable.get("includeAll"):
                    every = f"count by ({match[2]}) ({filled(match[1], values)})"
                    found = self._post("query", {"query": every})["data"]["result"]
                    values[variable["name"]] = "|".join(series["metric"][match[2]] for series in found)
                    continue
                count = f"topk(1, count by ({match[2]}) ({filled(match[1], values)}))"
                found = self._post("query", {"query": count})["data"]["result"]
                values[variable["name"]] = found[0]["metric"].get(match[2], "") if found else ""
        return values

    def _post(self, path: str, form: Mapping[str, str]) -> Any:
        request = urllib.request.Request(
            f"{self._url}/api/v1/{path}", urllib.parse.urlencode(form).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.loads(error.read())


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables replaced; one that nobody knows is an error."""
    return _VARIABLE.sub(lambda found: values[next(filter(None, found.groups()))], text)


def seconds_of(duration: str) -> int:
    """Of ``6h`` and the like; of ``now/d`` and ``now/M`` what of the day or month (UTC) is over."""
    if duration.startswith("now/"):
        now = time.gmtime()
        today_s = max(3600, (now.tm_hour * 60 + now.tm_min) * 60)
        return today_s + (now.tm_mday - 1) * 86_400 * (duration == "now/M")
    return int(duration[:-1]) * _UNITS_S[duration[-1]]
