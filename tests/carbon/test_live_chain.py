"""Live sources in a chain: fallback, return, no gap, no flapping; the value in force always has a source."""

import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.carbon import timeline
from wattspan.carbon.chain import Chain, in_force, spliced
from wattspan.carbon.feed import Feed, Manners
from wattspan.carbon.fetcher import Fetcher
from wattspan.carbon.location import Location
from wattspan.carbon.providers import carbonaware, eco2mix, electricitymaps, energycharts, entsoe
from wattspan.carbon.static import StaticProvider
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal
from wattspan.units import NS_PER_S

NOON_NS = 1_774_785_600 * NS_PER_S
HALF_HOUR_NS = 1800 * NS_PER_S
HOLD_NS = 2 * HALF_HOUR_NS
STEP_NS = 60 * NS_PER_S
HERE = Location("FR", "by the test", configured=True)


def figure(provider: str, begin_ns: int, length_ns: int, g_per_kwh: float) -> Intensity:
    """A measured figure of France."""
    return Intensity(
        g_per_kwh, begin_ns, begin_ns + length_ns, "FR", provider, "average", "lifecycle", False, begin_ns
    )


class Scripted:
    """A source that is up at some times, and then knows its present stretch and some ahead.

    Args:
        name: of it.
        g_per_kwh: what it says.
        up: minutes since noon in which it answers.
        ahead: stretches that it forecasts.
    """

    attribution = ""

    def __init__(
        self, name: str, g_per_kwh: float, up: Sequence[range], ahead: int = 0, basis: Basis = "lifecycle"
    ) -> None:
        self.name = name
        self.signal: Signal = "average"
        self.basis: Basis = basis
        self.resolution_ns = HALF_HOUR_NS
        self.floor_ns = HALF_HOUR_NS
        self.hold_ns = HOLD_NS
        self.asked = 0
        self._g_per_kwh = g_per_kwh
        self._up = up
        self._ahead = ahead

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """Its present half hour and those ahead."""
        self.asked += 1
        minute = (now_wall_ns - NOON_NS) // (60 * NS_PER_S)
        if not any(minute in stretch for stretch in self._up):
            raise FetchError("unreachable", "no connection")
        begin_ns = now_wall_ns - now_wall_ns % HALF_HOUR_NS
        return [
            figure(self.name, begin_ns + n * HALF_HOUR_NS, HALF_HOUR_NS, self._g_per_kwh)
            for n in range(1 + self._ahead)
        ]


def chain_of(*sources: Scripted, static: bool = True, node: str = "node-a") -> Chain:
    """These, in order, and France's yearly figure."""
    feeds = []
    for source in sources:
        meaning = f"{source.signal} {source.basis}"
        manners = Manners(source.name, meaning, source.resolution_ns, source.floor_ns, source.hold_ns)
        feeds.append((source, Feed(manners, source.intensities, Intensity, "FR", node, None, lambda: 0.5)))
    return Chain([StaticProvider("FR")] if static else [], 1.0, HERE, feeds)


def levels(chain: Chain, minutes: int) -> list[tuple[int, str]]:
    """Minute by minute: the fallback level, and who is in force; empty for nobody."""
    seen = []
    chain.settle(NOON_NS, NOON_NS)
    for minute in range(minutes):
        now_ns = NOON_NS + minute * STEP_NS
        chain.refresh(now_ns, now_ns)
        state = chain.state(now_ns)
        seen.append((state.fallback_level, state.intensity.provider if state.intensity else ""))
    return seen


def changes(seen: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """When (minute) it became who."""
    return [
        (minute, who)
        for minute, (before, (_, who)) in enumerate(pairwise([(0, "-"), *seen]))
        if who != before[1]
    ]


ALWAYS = [range(-100, 100_000)]


def test_before_the_first_answer_the_table_stands_in() -> None:
    """Energy has a price from the first tick on, and grams never wait for the network."""
    chain = chain_of(Scripted("live", 50.0, ALWAYS))
    chain.settle(NOON_NS, NOON_NS)
    state = chain.state(NOON_NS)
    assert state.intensity is not None
    assert (state.intensity.provider, state.fallback_level) == ("static", 1)
    chain.refresh(NOON_NS + STEP_NS, NOON_NS + STEP_NS)
    state = chain.state(NOON_NS + STEP_NS)
    assert state.intensity is not None
    assert (state.intensity.provider, state.fallback_level) == ("live", 0)


def test_an_outage_steps_down_and_back() -> None:
    """The last good figure stands in for its hold, then the next source, and back at the first answer."""
    up = [range(-100, 240), range(600, 2000)]
    seen = levels(chain_of(Scripted("first", 50.0, up), Scripted("second", 60.0, ALWAYS)), 900)
    moments = changes(seen)
    assert [who for _, who in moments] == ["static", "first", "second", "first"]
    down, back = moments[2][0], moments[3][0]
    # Asked last before 240, for the half hour that then ran; so long after that one's end.
    hold = HOLD_NS // STEP_NS
    assert 240 - 30 + hold <= down <= 240 + 30 + hold
    assert 600 <= back <= 630 + 8
    assert all(level == {"first": 0, "second": 1, "static": 2}[who] for level, who in seen)


def test_a_forecast_does_not_outlive_its_source() -> None:
    """A source that forecasts two days and dies is left for the next one all the same."""
    dying = Scripted("first", 50.0, [range(-100, 61)], ahead=96)
    seen = levels(chain_of(dying, Scripted("second", 60.0, ALWAYS)), 400)
    down = changes(seen)[-1]
    assert down[1] == "second"
    assert 60 + 60 <= down[0] <= 90 + 60 + 30


def test_both_down_ends_in_the_table() -> None:
    """The end of a chain of lifecycle averages always has a figure."""
    seen = levels(
        chain_of(Scripted("first", 50.0, [range(-100, 61)]), Scripted("second", 60.0, [range(-100, 200)])),
        600,
    )
    assert seen[-1] == (2, "static")
    assert all(who for _, who in seen)


def test_a_direct_chain_ends_in_unpriced_energy() -> None:
    """Nothing carried is direct, so after an outage nothing is in force, and that is said by the level."""
    chain = chain_of(Scripted("first", 50.0, [range(-100, 61)], basis="direct"), static=False)
    seen = levels(chain, 400)
    assert seen[-1] == (1, "")
    priced = chain.pricing.price(1000, NOON_NS + 399 * STEP_NS, NOON_NS + 400 * STEP_NS)
    assert priced[:2] == (0.0, 1000)


def test_meanings_are_never_mixed() -> None:
    """A direct source does not stand in for a lifecycle one: the start stops, and says what to do."""
    with pytest.raises(
        SetupError, match=r"share one signal and one basis.*first is average direct.*grid\.basis"
    ):
        chain_of(Scripted("first", 50.0, ALWAYS, basis="direct"), Scripted("second", 60.0, ALWAYS))


def test_one_failure_changes_nothing() -> None:
    """Whenever a single question fails, the source stays in force."""
    for bad in range(60, 200, 7):
        up = [range(-100, bad), range(bad + 5, 10_000)]
        moments = changes(levels(chain_of(Scripted("first", 50.0, up), Scripted("second", 1.0, ALWAYS)), 400))
        assert [who for _, who in moments] == ["static", "first"]


@pytest.mark.parametrize(
    ("late", "step_min", "delays_min"),
    [
        (entsoe.Entsoe, 60, (45, 70, 90, 120, 240, 300)),
        (entsoe.Entsoe, 15, (61, 119, 300)),
        (energycharts.EnergyCharts, 15, (65, 120, 300)),
        (eco2mix.Eco2mix, 15, (15, 60, 120)),
        (electricitymaps.ElectricityMaps, 60, (15, 110, 120)),
        (carbonaware.CarbonAware, 60, (15, 110, 120)),
    ],
)
def test_a_source_as_late_as_it_always_is_stays_in_force(
    late: Any, step_min: int, delays_min: Sequence[int]
) -> None:
    """Within the delays that a provider tells of, nothing is refused and nothing else prices in between.

    What its figures price beyond their own time is an estimate.
    """
    step_ns = step_min * STEP_NS
    for delay_min in delays_min:

        class Late(Scripted):
            resolution_ns, floor_ns, hold_ns = late.resolution_ns, late.floor_ns, late.hold_ns

            def __init__(self) -> None:
                self.name, self.signal, self.basis = late.name, "average", "lifecycle"

            def intensities(self, now_wall_ns: int, delay_min: int = delay_min) -> Sequence[Intensity]:
                end_ns = (now_wall_ns - delay_min * STEP_NS) // step_ns * step_ns
                return [figure(late.name, end_ns - n * step_ns, step_ns, 50.0) for n in range(24, 0, -1)]

        for node in ("node-a", "gpu-17"):
            chain = chain_of(Late(), node=node)
            seen = levels(chain, 36 * 60)
            assert {who for _, who in seen[1:]} == {late.name}, (delay_min, changes(seen))
            assert not any(chain.failures().values()), delay_min
            state = chain.state(NOON_NS + 36 * 60 * STEP_NS)
            assert state.intensity is not None
            assert state.intensity.estimated


outages = st.lists(st.tuples(st.integers(0, 1400), st.integers(1, 400)), max_size=4)


@given(first=outages, second=outages)
def test_no_gap_and_no_flapping(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    """Whatever fails when: each minute has a figure with a source and an age, and nobody is left within its
    hold.

    A source that is left had been silent for its hold at least, so that two changes away from the
    same source are never nearer than that.
    """

    def up(down: list[tuple[int, int]]) -> list[range]:
        dead = {minute for begin, length in down for minute in range(begin, begin + length)}
        return [range(minute, minute + 1) for minute in range(-100, 1500) if minute not in dead]

    chain = chain_of(Scripted("first", 50.0, up(first), 3), Scripted("second", 60.0, up(second)))
    seen = []
    chain.settle(NOON_NS, NOON_NS)
    for minute in range(0, 1500, 3):
        now_ns = NOON_NS + minute * STEP_NS
        chain.refresh(now_ns, now_ns)
        state = chain.state(now_ns)
        assert state.intensity is not None
        if state.intensity.provider != "static":
            assert state.intensity.fetched_wall_ns is not None
            over_ns = now_ns - (state.intensity.valid_until_wall_ns or 0)
            assert over_ns <= HOLD_NS
            assert state.intensity.estimated == (over_ns >= 0)
        seen.append(state.intensity.provider)
    for name in ("first", "second"):
        left = [index for index, (a, b) in enumerate(pairwise(seen)) if a == name != b]
        entered = [index for index, (a, b) in enumerate(pairwise(seen)) if a != name == b]
        if name == "first":  # nobody takes over from the first choice while it speaks
            assert all(3 * (out - come) >= 60 for come in entered for out in left if out > come), (
                entered,
                left,
            )
    timeline.require_order(chain.pricing.intensities)


def fallback_min(chain: Chain, minute: int) -> int | None:
    """When the chain foresees its next step down, as of a minute; both since noon."""
    known_ns = chain.state(NOON_NS + minute * STEP_NS).fallback_wall_ns
    return None if known_ns is None else (known_ns - NOON_NS) // STEP_NS


@pytest.mark.parametrize("ahead", [0, 96])
@pytest.mark.parametrize("static", [True, False])
def test_the_next_step_down_is_foreseen(ahead: int, static: bool) -> None:
    """It is the end of the hold, past all that the source has forecast, and comes to pass at that minute.

    The end of the chain is foreseen as a step, and a yearly figure as none.
    """
    basis: Basis = "lifecycle" if static else "direct"
    chain = chain_of(Scripted("first", 50.0, [range(-100, 61)], ahead, basis), static=static)
    chain.settle(NOON_NS, NOON_NS)
    assert fallback_min(chain, 0) is None
    foreseen = []
    for minute in range(300):
        chain.refresh(NOON_NS + minute * STEP_NS, NOON_NS + minute * STEP_NS)
        foreseen.append(fallback_min(chain, minute))
    assert foreseen[61] == 60 + HOLD_NS // STEP_NS, "asked in the half hour until 60, it answered last"
    assert set(foreseen[61:120]) == {120}
    assert set(foreseen[120:]) == {None}
    state = chain.state(NOON_NS + 120 * STEP_NS)
    assert (state.fallback_level, state.intensity is not None) == (1, static)


def test_only_a_step_down_is_foreseen() -> None:
    """While a lower source fills a gap of the first one, the way back up is no step; the next one is."""
    chain = chain_of(Scripted("first", 50.0, ALWAYS), Scripted("second", 60.0, ALWAYS))
    levels(chain, 1)
    first, second = chain.feeds
    first.figures = (figure("first", NOON_NS + 4 * HALF_HOUR_NS, HALF_HOUR_NS, 50.0),)
    second.figures = tuple(figure("second", NOON_NS + n * HALF_HOUR_NS, HALF_HOUR_NS, 60.0) for n in range(4))
    first.last_good_wall_ns = NOON_NS + 4 * HALF_HOUR_NS
    second.last_good_wall_ns = NOON_NS + 3 * HALF_HOUR_NS
    chain.settle(NOON_NS, NOON_NS)
    state = chain.state(NOON_NS)
    assert state.intensity is not None
    assert (state.intensity.provider, state.fallback_level) == ("second", 1)
    assert fallback_min(chain, 0) == (4 + 1) * 30 + HOLD_NS // STEP_NS


def test_gaps_within_a_source_are_held_over() -> None:
    """Half an hour that is missing has the figure before it, and a longer gap the next source's."""
    hour = [
        figure("first", NOON_NS, HALF_HOUR_NS, 1.0),
        figure("first", NOON_NS + 2 * HALF_HOUR_NS, HALF_HOUR_NS, 2.0),
    ]
    forced = in_force(hour, NOON_NS + 2 * HALF_HOUR_NS, HOLD_NS)
    assert [timeline.until_ns(f) for f in forced] == [NOON_NS + n * HALF_HOUR_NS for n in (1, 2, 3, 5)]
    assert [f.estimated for f in forced] == [False, True, False, True]
    assert [f.g_per_kwh for f in forced] == [1.0, 1.0, 2.0, 2.0]
    assert forced[1].valid_until_wall_ns == NOON_NS + HALF_HOUR_NS  # what it says of itself stays


pieces = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 10)), max_size=8)


@given(st.lists(pieces, max_size=3))
def test_a_splice_is_the_first_level_that_knows(drawn: list[list[tuple[int, int]]]) -> None:
    """Against asking level after level at every moment."""
    stack = []
    for number, level in enumerate(drawn):
        found: list[Intensity] = []
        for begin, length in sorted(level):
            if not found or (found[-1].valid_until_wall_ns or 0) <= begin:
                found.append(figure(f"level-{number}", begin, length, float(number)))
        stack.append(found)
    together = spliced(stack)
    timeline.require_order(together)
    for moment in range(80):
        expected = next((f for level in stack if (f := timeline.at(level, moment))), None)
        chosen = timeline.at(together, moment)
        assert (chosen and chosen.provider) == (expected and expected.provider)


def test_each_is_shown_beside_the_one_in_force() -> None:
    """What every source says of this moment is told, in the order of the chain."""
    chain = chain_of(Scripted("first", 50.0, [range(5, 10_000)]), Scripted("second", 60.0, ALWAYS))
    levels(chain, 1)
    chain.refresh(NOON_NS + STEP_NS, NOON_NS + STEP_NS)
    assert [f.provider for f in chain.state(NOON_NS + STEP_NS).figures] == ["second"]
    for minute in range(2, 70):
        chain.refresh(NOON_NS + minute * STEP_NS, NOON_NS + minute * STEP_NS)
    state = chain.state(NOON_NS + 69 * STEP_NS)
    assert [f.provider for f in state.figures] == ["first", "second"]
    assert state.intensity is not None
    assert state.intensity.provider == "first"


def test_what_was_learned_is_told_once() -> None:
    """New and revised figures whose time has come, each once; forecasts not before their time."""
    source = Scripted("first", 50.0, ALWAYS, ahead=2)
    chain = chain_of(source)
    levels(chain, 2)
    assert [f.valid_from_wall_ns for f in chain.learned()] == [NOON_NS]
    assert chain.learned() == ()
    levels_before = source.asked
    for minute in range(2, 40):
        chain.refresh(NOON_NS + minute * STEP_NS, NOON_NS + minute * STEP_NS)
    assert source.asked == levels_before + 1
    assert [f.valid_from_wall_ns for f in chain.learned()] == [NOON_NS + HALF_HOUR_NS]
    source._g_per_kwh = 55.0
    for minute in range(40, 70):
        chain.refresh(NOON_NS + minute * STEP_NS, NOON_NS + minute * STEP_NS)
    assert {f.g_per_kwh for f in chain.learned()} == {55.0}


def test_a_source_that_hangs_costs_the_reader_nothing() -> None:
    """While a question is out, the figures in force are read as ever, and the end is not held up."""
    asked, release = threading.Event(), threading.Event()

    class Hanging(Scripted):
        def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
            asked.set()
            release.wait(30)
            return super().intensities(now_wall_ns)

    chain = chain_of(Hanging("first", 50.0, ALWAYS))
    chain.settle(time.time_ns(), time.monotonic_ns() - 60 * NS_PER_S)
    fetcher = Fetcher([chain])
    fetcher.start()
    assert asked.wait(10)
    state = chain.state(time.time_ns())
    assert state.intensity is not None
    assert state.intensity.provider == "static"
    fetcher.stop(0.0)
    release.set()


def test_a_fault_of_ours_does_not_end_the_fetching(caplog: pytest.LogCaptureFixture) -> None:
    """A refresh that raises is logged, and the next thing is refreshed all the same."""

    class Broken:
        def refresh(self, now_wall_ns: int, now_ns: int) -> None:
            raise RuntimeError(f"{now_wall_ns} {now_ns}")

        def wait_ns(self, now_wall_ns: int, now_ns: int) -> int:
            return 0 * (now_wall_ns + now_ns)

    source = Scripted("first", 50.0, ALWAYS)
    chain = chain_of(source)
    clock = [NOON_NS + 100 * STEP_NS]
    assert 1.0 <= Fetcher([Broken(), chain], lambda: clock[0], lambda: clock[0]).step() <= 60.0
    clock[0] += STEP_NS
    Fetcher([Broken(), chain], lambda: clock[0], lambda: clock[0]).step()
    assert source.asked == 1
    assert "a refresh failed" in caplog.text
