"""Budgets as the hub publishes them, of made-up size: a demo without a hub shows what is left of them.

python -m dashboards.stack.budgets --listen 127.0.0.1:9747
"""

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be emitted in a period.

    Attributes:
        name: the label `budget`.
        pod_namespace, project: of whom; empty means all.
        period: month (UTC), or the days up to now: 7d, 30d, 90d.
        grams: of co2e.
    """

    name: str
    pod_namespace: str
    project: str
    period: str
    grams: float


DEMO: Final = (
    Budget("fleet", "", "", "month", 250_000.0),
    Budget("nlp", "nlp", "", "30d", 60_000.0),
    Budget("vision", "", "vision", "7d", 20_000.0),
    Budget("serving", "serving", "assistant", "month", 30_000.0),
)
"""The demo's eight cards emit some 200 g an hour: one of these is spent too fast."""


def period(kind: str, now_s: float) -> tuple[float, float]:
    """Begin and end of the period that a moment lies in."""
    if kind != "month":
        return now_s - int(kind.removesuffix("d")) * DAY_S, now_s
    now = datetime.fromtimestamp(now_s, UTC)
    first = datetime(now.year, now.month, 1, tzinfo=UTC)
    after = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    return first.timestamp(), after.timestamp()


def text(budgets: Iterable[Budget], now_s: float) -> str:
    """A body of /metrics in Prometheus' text format."""
    rows = [(_labels(budget), budget.grams, *period(budget.period, now_s)) for budget in budgets]
    families = {
        "wattspan_budget_co2e_grams": {labels: grams for labels, grams, _, _ in rows},
        "wattspan_budget_period_start_timestamp_seconds": {labels: start for labels, _, start, _ in rows},
        "wattspan_budget_period_end_timestamp_seconds": {labels: end for labels, _, _, end in rows},
        "wattspan_hub_up": {"": 1.0},
        "wattspan_hub_records_pending": {"": 0.0},
        "wattspan_hub_late_records_total": {"": 0.0},
    }
    lines = []
    for name, values in families.items():
        lines.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}")
        lines += [f"{name}{labels} {value}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def _labels(budget: Budget) -> str:
    return (
        f'{{budget="{budget.name}",pod_namespace="{budget.pod_namespace}",'
        f'project="{budget.project}",period="{budget.period}"}}'
    )


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = text(DEMO, time.time()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence: a scrape is no news."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="Serve made-up budgets.")
    parser.add_argument("--listen", default="127.0.0.1:9747", metavar="HOST:PORT")
    host, _, port = parser.parse_args().listen.rpartition(":")
    ThreadingHTTPServer((host, int(port)), _Handler).serve_forever()


if __name__ == "__main__":
    main()
