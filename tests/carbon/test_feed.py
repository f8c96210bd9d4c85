"""A live source with its manners: when it is asked, what is believed, and what is kept meanwhile."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon.feed import (
    BREAKER_NS,
    FIRST_RETRY_NS,
    MAX_FIGURES,
    PAST_NS,
    SPREAD_NS,
    START_SPREAD_NS,
    Feed,
    Manners,
    checked,
    merged,
)
from wattspan.errors import FetchError
from wattspan.model import Intensity
from wattspan.units import NS_PER_S

NOON_NS = 1_774_785_600 * NS_PER_S
HALF_HOUR_NS = 1800 * NS_PER_S
MANNERS = Manners("somebody", "average lifecycle", HALF_HOUR_NS, HALF_HOUR_NS, 2 * HALF_HOUR_NS)


def half_hour(number: int, g_per_kwh: float = 100.0) -> Intensity:
    """The half hour that begins so many half hours after noon."""
    begin_ns = NOON_NS + number * HALF_HOUR_NS
    return Intensity(
        g_per_kwh, begin_ns, begin_ns + HALF_HOUR_NS, "FR", "somebody", "average", "lifecycle", False, NOON_NS
    )


class Told:
    """A source that answers what it is told to, and notes when it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answer: Callable[[int], Sequence[Intensity]] = lambda _: [half_hour(0)]

    def __call__(self, now_wall_ns: int) -> Sequence[Intensity]:
        """Answer."""
        self.asked.append(now_wall_ns)
        return self.answer(now_wall_ns)

    def fails(self, error: Exception) -> None:
        """From now on."""

        def raising(_: int) -> Sequence[Intensity]:
            raise error

        self.answer = raising


def feed_of(
    told: Told, folder: Path | None = None, node: str = "node-a", zone: str = "FR"
) -> Feed[Intensity]:
    """A feed without jitter."""
    return Feed(MANNERS, told, Intensity, zone, node, folder, jitter=lambda: 0.0)


def through(feed: Feed[Intensity], from_ns: int, until_ns: int, step_ns: int = 10 * NS_PER_S) -> None:
    """Let time pass, on both clocks alike."""
    for now_ns in range(from_ns, until_ns, step_ns):
        feed.refresh(now_ns, now_ns)


def test_it_is_asked_once_in_each_period() -> None:
    """Whatever the tick: as many questions as periods, each at the same moment within its period."""
    told = Told()
    told.answer = lambda now_ns: [half_hour((now_ns - NOON_NS) // HALF_HOUR_NS)]
    through(feed_of(told), NOON_NS, NOON_NS + 20 * HALF_HOUR_NS)
    later = told.asked[1:]
    assert 19 <= len(told.asked) <= 21
    assert {b - a for a, b in pairwise(later)} == {HALF_HOUR_NS}
    assert (later[0] - NOON_NS) % HALF_HOUR_NS <= SPREAD_NS + 10 * NS_PER_S


def test_a_start_late_in_a_period_does_not_cost_the_next_one() -> None:
    """An hourly source that may be asked each quarter is asked again soon, not an hour later."""
    manners = Manners("somebody", "average lifecycle", 2 * HALF_HOUR_NS, HALF_HOUR_NS // 2, 4 * HALF_HOUR_NS)
    for start_s in range(0, 3600, 97):
        told = Told()
        told.answer = lambda now_ns: [half_hour((now_ns - NOON_NS) // HALF_HOUR_NS)]
        feed = Feed(manners, told, Intensity, "FR", "node-a", jitter=lambda: 0.0)
        begin_ns = NOON_NS + start_s * NS_PER_S
        for now_ns in range(begin_ns, begin_ns + 8 * HALF_HOUR_NS, 10 * NS_PER_S):
            feed.refresh(now_ns, now_ns)
        pauses = [b - a for a, b in pairwise(told.asked)]
        assert max(pauses) <= 2 * HALF_HOUR_NS + 10 * NS_PER_S
        assert min(pauses) >= 0.9 * manners.floor_ns


def test_a_thousand_daemons_do_not_ask_at_once() -> None:
    """Nodes that start together spread over half a minute at first, and over five minutes from then on."""
    first, later = [], []
    for number in range(1000):
        told = Told()
        feed = feed_of(told, node=f"gpu-{number}")
        first.append(feed.due_ns(NOON_NS, NOON_NS) - NOON_NS)
        feed.refresh(NOON_NS + 40 * NS_PER_S, NOON_NS + 40 * NS_PER_S)
        later.append(feed.due_ns(NOON_NS, NOON_NS) - NOON_NS)
    for moments, spread_ns in ((first, START_SPREAD_NS), (later, SPREAD_NS)):
        assert max(moments) - min(moments) <= spread_ns
        begin = min(moments)
        tenths = [int(10 * (moment - begin) / (spread_ns + 1)) for moment in moments]
        assert all(50 < tenths.count(tenth) < 200 for tenth in range(10))


def test_no_answer_is_tried_again_ever_more_rarely() -> None:
    """Pauses double up to the period, and one good answer ends it."""
    told = Told()
    told.fails(FetchError("timeout", "no answer"))
    feed = feed_of(told)
    through(feed, NOON_NS, NOON_NS + 4 * HALF_HOUR_NS, NS_PER_S)
    pauses = [b - a for a, b in pairwise(told.asked)]
    assert pauses[:4] == [FIRST_RETRY_NS, 2 * FIRST_RETRY_NS, 4 * FIRST_RETRY_NS, 8 * FIRST_RETRY_NS]
    assert max(pauses) == HALF_HOUR_NS
    assert feed.failures["timeout"] == len(told.asked)
    assert feed.figures == ()


def test_a_refusal_opens_the_breaker() -> None:
    """After 401 or 403 nobody asks for an hour: the token does not get better by asking."""
    told = Told()
    told.fails(FetchError("refused", "HTTP 403"))
    through(feed_of(told), NOON_NS, NOON_NS + 3 * BREAKER_NS, NS_PER_S)
    assert [b - a for a, b in pairwise(told.asked)] == [BREAKER_NS, BREAKER_NS]


def test_retry_after_is_waited_for() -> None:
    """A service that asks to be left alone for so long is, jitter only ever adding to it."""
    told = Told()
    told.fails(FetchError("throttled", "HTTP 429", retry_after_s=5000.0))
    feed = Feed(MANNERS, told, Intensity, "FR", jitter=lambda: 1.0)
    through(feed, NOON_NS, NOON_NS + 8 * HALF_HOUR_NS, NS_PER_S)
    assert [b - a for a, b in pairwise(told.asked)] == [7500 * NS_PER_S]


def test_a_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """One warning when it begins to fail, one line when it answers again, silence in between."""
    told = Told()
    told.fails(FetchError("server", "HTTP 500"))
    feed = feed_of(told)
    with caplog.at_level(logging.INFO):
        through(feed, NOON_NS, NOON_NS + 2 * HALF_HOUR_NS)
        told.answer = lambda now_ns: [half_hour((now_ns - NOON_NS) // HALF_HOUR_NS)]
        through(feed, NOON_NS + 2 * HALF_HOUR_NS, NOON_NS + 6 * HALF_HOUR_NS)
    assert [record.message for record in caplog.records] == [
        "grid: provider somebody: server: HTTP 500",
        "grid: provider somebody answers again",
    ]


def test_a_fault_of_ours_costs_that_feed_alone() -> None:
    """An exception that nobody foresaw is counted as unknown, and nothing is raised."""
    told = Told()
    told.fails(RuntimeError("boom"))
    feed = feed_of(told)
    assert not feed.refresh(NOON_NS, NOON_NS, at_once=True)
    assert feed.failures["unknown"] == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([], "malformed"),
        ([replace(half_hour(0), g_per_kwh=-1.0)], "implausible"),
        ([replace(half_hour(0), g_per_kwh=2000.1)], "implausible"),
        ([replace(half_hour(0), g_per_kwh=float("nan"))], "implausible"),
        ([half_hour(1)], "future"),
        ([half_hour(-4)], "stale"),
        ([half_hour(0), half_hour(0)], "malformed"),
        ([half_hour(1), half_hour(0)], "malformed"),
        ([replace(half_hour(0), valid_until_wall_ns=NOON_NS)], "malformed"),
        ([replace(half_hour(0), valid_from_wall_ns=None)], "malformed"),
        ([replace(half_hour(0), valid_from_wall_ns=-1)], "malformed"),
        ([replace(half_hour(0), valid_until_wall_ns=2**63)], "malformed"),
        ([replace(half_hour(0), grid_zone="F\ud800")], "malformed"),
        ([replace(half_hour(0), grid_zone="F\n")], "malformed"),
        ([replace(half_hour(0), grid_zone="F" * 101)], "malformed"),
        ([replace(half_hour(0), origin="\udfff")], "malformed"),
        ([replace(half_hour(0), origin="o" * 10_001)], "malformed"),
    ],
)
def test_nonsense_is_refused_and_counted(answer: list[Intensity], reason: str) -> None:
    """An answer that makes no sense changes nothing of what is known."""
    told = Told()
    feed = feed_of(told)
    assert feed.refresh(NOON_NS, NOON_NS, at_once=True)
    told.answer = lambda _: answer
    assert not feed.refresh(NOON_NS, NOON_NS, at_once=True)
    assert feed.figures == (half_hour(0),)
    assert {name: count for name, count in feed.failures.items() if count} == {reason: 1}


def test_restarts_neither_forget_nor_ask_again(tmp_path: Path) -> None:
    """The next process has the figures, and asks when the one before would have."""
    told = Told()
    feed = feed_of(told, tmp_path)
    feed.refresh(NOON_NS + 40 * NS_PER_S, 40 * NS_PER_S, at_once=True)
    due_after_ns = feed.due_ns(NOON_NS, 0) - 40 * NS_PER_S
    for _ in range(20):  # a crash loop
        again = feed_of(told, tmp_path)
        again.refresh(NOON_NS + 41 * NS_PER_S, 7)
        assert again.figures == feed.figures
        assert again.due_ns(NOON_NS + 41 * NS_PER_S, 7) == 7 + due_after_ns - NS_PER_S
    assert len(told.asked) == 1


def test_a_crash_loop_does_not_hammer_a_service_that_is_down(tmp_path: Path) -> None:
    """Failed questions are remembered over restarts, too."""
    told = Told()
    told.fails(FetchError("unreachable", "no connection"))
    for second in range(60):
        now_ns = NOON_NS + second * NS_PER_S
        feed_of(told, tmp_path).refresh(now_ns, 100 * NS_PER_S)
        feed_of(told, tmp_path).refresh(now_ns, 100 * NS_PER_S, at_once=second == 0)
    assert len(told.asked) <= 3


@pytest.mark.parametrize(
    ("error", "pause_ns"),
    [
        (None, int(0.9 * HALF_HOUR_NS)),
        (FetchError("throttled", "HTTP 429", 3600.0), 3600 * NS_PER_S),
        (FetchError("refused", "HTTP 401"), BREAKER_NS),
        (FetchError("unreachable", "no connection"), FIRST_RETRY_NS),
    ],
)
def test_commands_in_a_row_ask_once(tmp_path: Path, error: FetchError | None, pause_ns: int) -> None:
    """Each a process of its own: none asks before the floor, the pause or the breaker of the one before is
    over, and the first after that does.
    """
    told = Told()
    if error is not None:
        told.fails(error)
    for second in range(0, pause_ns // NS_PER_S, max(1, pause_ns // NS_PER_S // 20)):
        feed = feed_of(told, tmp_path)
        feed.refresh(NOON_NS + second * NS_PER_S, 7, if_allowed=True)
        assert bool(feed.figures) == (error is None)
        assert bool(feed.trouble) == (error is not None)
    assert told.asked == [NOON_NS]
    feed_of(told, tmp_path).refresh(NOON_NS + pause_ns - 1, 7, if_allowed=True)
    assert told.asked == [NOON_NS]
    feed_of(told, tmp_path).refresh(NOON_NS + pause_ns, 7, if_allowed=True)
    assert told.asked == [NOON_NS, NOON_NS + pause_ns]


def test_a_command_says_why_it_does_not_ask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reason is that of the failure before, with the time that is left; a fresh answer needs no word."""
    told = Told()
    feed_of(told, tmp_path).refresh(NOON_NS, 7, if_allowed=True)
    feed_of(told, tmp_path).refresh(NOON_NS + NS_PER_S, 7, if_allowed=True)
    assert caplog.text == ""
    told.fails(FetchError("throttled", "HTTP 429", 3600.0))
    feed_of(told, tmp_path).refresh(NOON_NS + HALF_HOUR_NS, 7, if_allowed=True)
    caplog.clear()
    feed_of(told, tmp_path).refresh(NOON_NS + HALF_HOUR_NS + 600 * NS_PER_S, 7, if_allowed=True)
    (line,) = caplog.messages
    assert line == "grid: provider somebody: left alone for 3000 s after throttled: HTTP 429"


def test_a_file_of_this_machine_is_read_by_every_command(tmp_path: Path) -> None:
    """Whoever mends it sees at once what it says now; a daemon reads it by its period all the same."""
    told = Told()
    for number in range(3):
        local = replace(MANNERS, local=True)
        feed = Feed(local, told, Intensity, "FR", "node-a", tmp_path)
        feed.refresh(NOON_NS + number * NS_PER_S, 7, if_allowed=True)
    assert len(told.asked) == 3
    Feed(local, told, Intensity, "FR", "node-a", tmp_path).refresh(NOON_NS + 3 * NS_PER_S, 7)
    assert len(told.asked) == 3


def test_a_restart_does_not_cut_a_pause_short(tmp_path: Path) -> None:
    """A service that asked for a quarter of an hour gets all of it, however often the daemon restarts."""
    told = Told()
    told.fails(FetchError("throttled", "HTTP 429", 900.0))
    feed_of(told, tmp_path).refresh(NOON_NS, 0, at_once=True)
    for second in range(0, 1200, 10):
        feed_of(told, tmp_path).refresh(NOON_NS + second * NS_PER_S, 7)
    assert told.asked == [NOON_NS, NOON_NS + 900 * NS_PER_S]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"average lifecycle"', '"marginal direct"'),
        lambda text: text.replace("100.0", "-5"),
        lambda text: text.replace("100.0", '"many"'),
        lambda text: text.replace('"figures":[', '"figures":[7,'),
        lambda text: text.replace('"provider":"somebody"', '"provider":["somebody"]'),
        lambda _: "[]",
        lambda _: "\x00",
    ],
)
def test_a_damaged_cache_is_none(tmp_path: Path, damage: Callable[[str], str]) -> None:
    """Half a file, another meaning, nonsense: asked anew, and nothing raised."""
    told = Told()
    feed_of(told, tmp_path).refresh(NOON_NS, NOON_NS, at_once=True)
    (cache,) = tmp_path.glob("*.json")
    cache.write_text(damage(cache.read_text()))
    again = feed_of(told, tmp_path)
    assert again.due_ns(NOON_NS, NOON_NS) <= NOON_NS + START_SPREAD_NS
    assert again.figures == ()


def test_a_clock_that_was_ahead_is_not_waited_for(tmp_path: Path) -> None:
    """What was kept under a wall clock far ahead delays nothing once that has been set back."""
    told = Told()
    told.answer = lambda now_ns: [
        replace(half_hour(0), valid_from_wall_ns=now_ns, valid_until_wall_ns=now_ns + 1)
    ]
    feed_of(told, tmp_path).refresh(NOON_NS + 10**18, 0, at_once=True)
    assert feed_of(told, tmp_path).due_ns(NOON_NS, 0) <= START_SPREAD_NS


def test_the_cache_holds_no_more_than_figures(tmp_path: Path) -> None:
    """It is readable JSON of its owner alone, and a folder that cannot be written costs nothing."""
    told = Told()
    feed_of(told, tmp_path / "grid").refresh(NOON_NS, NOON_NS, at_once=True)
    (cache,) = (tmp_path / "grid").iterdir()
    assert json.loads(cache.read_text()).keys() == {
        "version", "source", "what", "key", "asked_wall_ns", "good_wall_ns", "retry_after_ns", "figures",
            "pause_ns", "failed", "trouble",
    }  # fmt: skip
    assert (tmp_path / "grid").stat().st_mode & 0o777 == 0o700
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert feed_of(told, in_the_way).refresh(NOON_NS, NOON_NS, at_once=True)


def test_figures_do_not_grow_for_ever() -> None:
    """Two days of the past, and a bound whatever a source gives."""
    known: tuple[Intensity, ...] = ()
    for number in range(400):
        now_ns = NOON_NS + number * HALF_HOUR_NS
        known = merged(known, [half_hour(number), half_hour(number + 1)], now_ns)
        assert (known[0].valid_until_wall_ns or 0) > now_ns - PAST_NS
    assert len(known) == PAST_NS // HALF_HOUR_NS + 2


@pytest.mark.parametrize("first", [0, -90, -3 * MAX_FIGURES // 2])
def test_those_of_now_stay_whatever_comes(first: int) -> None:
    """Of an answer that holds a year of half hours, this one and the coming ones are kept."""
    answer = [half_hour(number) for number in range(first, first + 3 * MAX_FIGURES)]
    known = merged((), answer, NOON_NS)
    assert len(known) == MAX_FIGURES
    assert {half_hour(0), half_hour(1), half_hour(96)} <= set(known)
    minutes = [
        replace(half_hour(0), valid_from_wall_ns=now_ns, valid_until_wall_ns=now_ns + NS_PER_S)
        for now_ns in range(NOON_NS - 2 * MAX_FIGURES * NS_PER_S, NOON_NS, NS_PER_S)
    ]
    kept = merged((), [*minutes, half_hour(0)], NOON_NS)
    assert kept[-1] == half_hour(0)
    assert len(kept) <= MAX_FIGURES


@given(
    st.lists(st.integers(-10, 10), unique=True).map(sorted),
    st.lists(st.integers(-10, 10), unique=True, min_size=1).map(sorted),
)
def test_the_new_goes_before_the_old(known: list[int], answer: list[int]) -> None:
    """After a merge the figures are in order without overlaps, and every one of the answer is there."""
    old = [half_hour(number, 1.0) for number in known]
    new = [half_hour(number, 2.0) for number in answer]
    together = merged(old, new, NOON_NS)
    checked(together, MANNERS, NOON_NS, fresh=False)
    assert [figure for figure in together if figure.g_per_kwh == 2.0] == new
    assert all(
        figure.g_per_kwh == 2.0 or (figure.valid_from_wall_ns or 0) < (new[0].valid_from_wall_ns or 0)
        for figure in together
    )
