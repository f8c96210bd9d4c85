"""The page of metrics: what is rendered before a scraper comes, and for whom nothing is."""

import gzip
from collections.abc import Callable

import pytest

from tests.publish.serving import Renderer
from tests.publish.views import filled
from wattspan.model import LedgerView
from wattspan.publish.metrics_page import AHEAD_S, MAX_SCRAPERS, MetricsPage
from wattspan.publish.pages import Request, Response, TcpPeer


class Clock:
    """An event loop as far as the page asks for one; its time is the test's."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.jobs: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """As the event loop's."""
        return self.now_s

    def call_at(self, when_s: float, callback: Callable[..., None], *arguments: object) -> None:
        """As the event loop's."""
        self.jobs.append((when_s, lambda: callback(*arguments)))

    def go_to(self, now_s: float) -> None:
        """Let time pass, and everything be done that is due meanwhile."""
        due = sorted((job for job in self.jobs if job[0] <= now_s), key=lambda job: job[0])
        self.jobs = [job for job in self.jobs if job[0] > now_s]
        for when_s, work in due:
            self.now_s = when_s
            work()
        self.now_s = now_s


class Node:
    """A page on a node that has a new view at each full second, and what it has rendered when."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.views: dict[int, LedgerView] = {}
        self.render = Renderer()
        self.page = MetricsPage(self, self.render, lambda: self.clock)  # type: ignore[arg-type,return-value]
        self.told: list[int] = []

    @property
    def view(self) -> LedgerView:
        """That of this second."""
        second = int(self.clock.now_s)
        return self.views.setdefault(second, filled(second))

    def scraped(self, sequence: int, series_dropped: int) -> None:
        """A scrape has seen a view."""
        del series_dropped
        self.told.append(sequence)

    def scrape(
        self, at_s: float, address: str = "10.0.0.1", accept: str = "*/*", method: str = "GET"
    ) -> Response:
        """A scrape at a moment."""
        self.clock.go_to(at_s)
        headers = {"accept": accept, "accept-encoding": "gzip"}
        return self.page(Request(method, "/metrics", b"/metrics", b"", headers, TcpPeer(address)))

    def rendered(self) -> list[int]:
        """Sequences of the views that were rendered, as often as they were."""
        return [sequence for sequence, _ in self.render.calls]


def test_who_comes_like_a_clock_finds_the_newest_view_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the fourth time on the body is written and compressed shortly before, and then not again."""
    node = Node()
    for at_s in (10.2, 25.2, 40.21):
        node.scrape(at_s)
    node.clock.go_to(55.2 - AHEAD_S)
    assert node.rendered() == [10, 25, 40]
    node.clock.go_to(55.2)
    assert node.rendered() == [10, 25, 40, 55]
    with monkeypatch.context() as forbidden:
        forbidden.delattr(gzip, "compress")
        answer = node.scrape(55.22)
    assert gzip.decompress(answer.body) == b"sequence 55\n"
    assert node.rendered() == [10, 25, 40, 55]
    assert node.told == [10, 25, 40, 55]  # the writer hears of scrapes, not of what was made ready


def test_a_view_that_comes_in_between_is_rendered_too() -> None:
    """Nobody is given what was ready when there is something newer."""
    node = Node()
    for at_s in (10.02, 25.02, 40.02):
        node.scrape(at_s)
    answer = node.scrape(55.02)
    assert gzip.decompress(answer.body) == b"sequence 55\n"
    assert node.rendered() == [10, 25, 40, 54, 55]


def test_who_stays_away_costs_one_rendering() -> None:
    """A scraper that was taken down is waited for once."""
    node = Node()
    for at_s in (10.2, 25.2, 40.2):
        node.scrape(at_s)
    node.clock.go_to(1000.0)
    assert node.rendered() == [10, 25, 40, 55]
    assert node.clock.jobs == []


def test_each_of_two_servers_has_a_rhythm_of_its_own() -> None:
    """Two Prometheus servers scrape at moments of their own, each regularly."""
    node = Node()
    for round_s in (0.0, 15.0, 30.0):
        node.scrape(10.2 + round_s, address="10.0.0.1")
        node.scrape(14.3 + round_s, address="10.0.0.2")
    node.clock.go_to(60.0)
    assert node.rendered() == [10, 14, 25, 29, 40, 44, 55, 59]


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param((10.2, 25.2, 41.0, 55.0), id="at any time"),
        pytest.param((10.2, 10.5, 10.8, 11.1), id="all the time"),
        pytest.param((10.2, 700.2, 1390.2), id="hardly ever"),
        pytest.param((10.2, 25.2), id="twice"),
    ],
)
def test_for_whom_nothing_is_made_ready(moments: tuple[float, ...]) -> None:
    """Who cannot be told beforehand, comes anyway, or is too rare to be remembered."""
    node = Node()
    for at_s in moments:
        node.scrape(at_s)
    assert node.clock.jobs == []


def test_a_head_request_is_no_scrape() -> None:
    """What asks for headers only takes no body, so none is made ready."""
    node = Node()
    for at_s in (10.2, 25.2, 40.2):
        node.scrape(at_s, method="HEAD")
    assert node.clock.jobs == []


def test_a_crowd_of_scrapers_is_not_remembered() -> None:
    """Somebody with many addresses or Accept headers gets answers, and no place in memory."""
    node = Node()
    for at_s in (10.2, 25.2, 40.2, 55.2):
        for number in range(3 * MAX_SCRAPERS):
            node.scrape(at_s, accept=f"text/x-{number}")
    assert node.clock.jobs == []
    for at_s in (70.2, 85.2, 100.2):
        node.scrape(at_s)
    assert len(node.clock.jobs) == 1
