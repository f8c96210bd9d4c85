"""A client that scrapes as Prometheus does."""

import gzip
import time
from dataclasses import dataclass
from http.client import HTTPConnection

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""The Accept header of Prometheus 2.42 (scrape/scrape.go)."""

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""The Accept header of Prometheus 3 (config.DefaultScrapeProtocols)."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer.

    Attributes:
        wall_s: from the request to the last byte, connecting included where the server closes each time.
        samples: lines that a Prometheus stores.
        wire_bytes: as sent, compressed or not.
    """

    wall_s: float
    samples: int
    wire_bytes: int


class Scraper:
    """Keeps its connection as long as the server does; sends the headers of Prometheus 2 and 3 in turn."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=10)
        self._scrapes = 0

    def scrape(self) -> Scrape:
        """One GET of /metrics.

        Raises:
            OSError, http.client.HTTPException: no answer.
            ValueError: an answer that is no exposition.
        """
        self._scrapes += 1
        headers = {
            "Accept": PROMETHEUS_3 if self._scrapes % 2 else PROMETHEUS_2,
            "Accept-Encoding": "gzip",
            "User-Agent": "Prometheus/2.42.0",
            "X-Prometheus-Scrape-Timeout-Seconds": "10",
        }
        began_s = time.perf_counter()
        self._connection.request("GET", "/metrics", headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        wall_s = time.perf_counter() - began_s
        if response.status != 200:
            raise ValueError(f"/metrics answered {response.status}: {body[:200]!r}")
        text = gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body
        return Scrape(wall_s, count_samples(text.decode()), len(body))

    def close(self) -> None:
        self._connection.close()


def count_samples(exposition: str) -> int:
    """Lines of a text or OpenMetrics exposition that hold a sample."""
    return sum(1 for line in exposition.splitlines() if line and not line.startswith("#"))
