"""The page of metrics: a view is rendered once for all who scrape it, a little before they come.

Scrapers come like a clock. Most of what a scrape takes is rendering with caches that other work has cooled
since the last one, so the page does that just before a scraper is due, and the scraper does not wait for it.
Whoever comes as a surprise is served all the same.
"""

import asyncio
import gzip
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from wattspan.model import LedgerView
from wattspan.publish import ViewDoor
from wattspan.publish.pages import Request, Response, TcpPeer

GZIP_LEVEL: Final = 1
"""Exposition text repeats itself: on 280 kB level 1 makes 7:1 in 0.9 ms, level 6 makes 8:1 in 2.4 ms."""

MAX_FORMATS: Final = 8
"""Different Accept headers whose bodies are kept for one view; two formats are all there are."""

MAX_SCRAPERS: Final = 8
"""Whose rhythm is known at once; a pair of Prometheus servers and a few curious people are common."""

AHEAD_S: Final = 0.05
"""How long before a scraper is due. Should the next view come in between, it is rendered too."""

JITTER_S: Final = AHEAD_S / 2
"""Two intervals that differ by less are the same; Prometheus keeps its times to a few milliseconds."""

SHORTEST_S: Final = 0.5
LONGEST_S: Final = 300.0
"""Between two scrapes; whoever comes faster finds the view rendered, or means to keep us busy."""


class Rendered(Protocol):
    """A body of ``/metrics``."""

    @property
    def body(self) -> bytes:
        """The text."""

    @property
    def content_type(self) -> str:
        """What it is."""

    @property
    def series_dropped(self) -> int:
        """How many series the budget left out."""


Render = Callable[[LedgerView, str], Rendered]
"""A view and an Accept header to a body."""


class MetricsPage:
    """Answers a scrape. All its requests come from one event loop.

    Args:
        door: where the view comes from, and who is told of scrapes.
        render: makes the body.
        loop: the event loop that all requests come from.
    """

    def __init__(
        self,
        door: ViewDoor,
        render: Render,
        loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop,
    ) -> None:
        self._door = door
        self._loop = loop
        self._renderings = _Renderings(render)
        self._rhythms: dict[tuple[str, str], _Rhythm] = {}

    def __call__(self, request: Request) -> Response:
        """The newest view, in the format and the coding that the scraper takes."""
        view = self._door.view
        accept = request.headers.get("accept", "")
        takes_gzip = _takes_gzip(request.headers.get("accept-encoding", ""))
        rendered = self._renderings.of(view, accept)
        body, headers = rendered.body, {"vary": "Accept, Accept-Encoding"}
        if takes_gzip:
            body = self._renderings.gzipped(view, accept)
            headers["content-encoding"] = "gzip"
        if request.method == "GET":
            self._door.scraped(view.sequence, rendered.series_dropped)
            if isinstance(request.peer, TcpPeer):
                self._expect(request.peer.address, accept, takes_gzip)
        return Response(HTTPStatus.OK, rendered.content_type, body, headers)

    def _expect(self, address: str, accept: str, takes_gzip: bool) -> None:
        """Prepare for this scraper's next time, if it comes like a clock."""
        rhythm = self._rhythms.pop((address, accept), None) or _Rhythm()
        if len(self._rhythms) >= MAX_SCRAPERS:
            del self._rhythms[next(iter(self._rhythms))]  # who has been silent for the longest
        self._rhythms[address, accept] = rhythm
        loop = self._loop()
        due_s = rhythm.beat(loop.time())
        if due_s is not None:
            loop.call_at(due_s - AHEAD_S, self._prepare, accept, takes_gzip)

    def _prepare(self, accept: str, takes_gzip: bool) -> None:
        view = self._door.view
        if takes_gzip:
            self._renderings.gzipped(view, accept)
        else:
            self._renderings.of(view, accept)


@dataclass(slots=True)
class _Rhythm:
    """When a scraper came, and how long after the time before; seconds of the event loop's clock."""

    at_s: float | None = None
    interval_s: float | None = None

    def beat(self, now_s: float) -> float | None:
        """It has come. Gives when it will come again; None while nobody can tell."""
        before_s, self.at_s = self.at_s, now_s
        last_s, self.interval_s = self.interval_s, None if before_s is None else now_s - before_s
        if last_s is None or self.interval_s is None or abs(self.interval_s - last_s) > JITTER_S:
            return None
        return now_s + self.interval_s if SHORTEST_S <= self.interval_s <= LONGEST_S else None


class _Renderings:
    """The newest view's bodies, so that scrapes of one view render once.

    The view itself is not held on to: it would be let go of in the next scrape, with the thousands of objects
    that only it has, and cost that a twentieth of its time.
    """

    def __init__(self, render: Render) -> None:
        self._render = render
        self._view: weakref.ref[LedgerView] | None = None
        self._plain: dict[str, Rendered] = {}
        self._gzipped: dict[str, bytes] = {}

    def of(self, view: LedgerView, accept: str) -> Rendered:
        if self._view is None or self._view() is not view:
            self._view, self._plain, self._gzipped = weakref.ref(view), {}, {}
        if accept not in self._plain:
            if len(self._plain) >= MAX_FORMATS:
                self._plain, self._gzipped = {}, {}
            self._plain[accept] = self._render(view, accept)
        return self._plain[accept]

    def gzipped(self, view: LedgerView, accept: str) -> bytes:
        rendered = self.of(view, accept)
        if accept not in self._gzipped:
            # mtime=0: equal text makes equal bytes.
            self._gzipped[accept] = gzip.compress(rendered.body, GZIP_LEVEL, mtime=0)
        return self._gzipped[accept]


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether gzip is named, or anything is, with a weight above 0 (RFC 9110, 12.5.3)."""
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        coding, _, parameter = part.partition(";")
        weights[coding.strip()] = _weight(parameter)
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
