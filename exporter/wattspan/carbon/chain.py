"""The ordered choice of providers, and the figures in force. The daemon and the command `grid` hold one."""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from wattspan.carbon import LiveProvider, Provider, forecast, timeline
from wattspan.carbon.configured import NO_ZONE, ConfiguredProvider
from wattspan.carbon.countries import WORLD
from wattspan.carbon.feed import Feed
from wattspan.carbon.location import Location, locate
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.static import StaticProvider
from wattspan.errors import SetupError
from wattspan.model import Basis, GridState, Intensity, Outlook, Signal
from wattspan.units import NS_PER_S

LOOK_AHEAD_NS: Final = 60 * NS_PER_S
"""The hours ahead are looked at anew this often: what is greenest changes as time passes."""

OUTLOOK_AGE_NS: Final = 24 * 3600 * NS_PER_S
"""A forecast that nobody has renewed for so long is none."""


class Chain:
    """Providers of one signal and one basis, first choice first.

    `refresh` may block and belongs to whoever fetches. All else answers from memory, from any thread.
    Before the first `refresh` nothing is known, and energy has no price.

    Args:
        providers: those without network, which stand in where no feed has a figure: the static ones.
        pue: power usage effectiveness; None while nobody has set it: counts as 1.0 and is shown as not set.
        location: where the figures are for.
        feeds: live ones, first choice first; they go before `providers`.
        signal, basis: what every figure must mean; None for what the first one means.

    Attributes:
        signal, basis: what every figure of the chain means.
        location: as given.
        feeds: of the live ones, first choice first.

    Raises:
        SetupError: providers whose figures mean different things and cannot stand in for one another.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        pue: float | None,
        location: Location,
        feeds: Sequence[tuple[LiveProvider, Feed[Intensity]]] = (),
    ) -> None:
        every: list[Provider] = [*(provider for provider, _ in feeds), *providers]
        self.signal, self.basis = _meaning(every)
        self.location = location
        self.feeds = tuple(feed for _, feed in feeds)
        self._providers = tuple(providers)
        self._pue_configured = pue is not None
        self._levels: dict[tuple[str, str], int] = {}
        # One tuple: no reader in another thread sees one moment's figures beside another's outlook.
        self._now: tuple[Pricing, Outlook | None] = (Pricing((), 1.0 if pue is None else pue), None)
        self._state: tuple[object, int, int, GridState | None] = (None, 0, 0, None)
        self._composed = False
        self._looked_ns: int | None = None
        self._told: dict[tuple[str, str, int | None], float] = {}
        self._learned: deque[Intensity] = deque()  # filled by one thread, emptied by another

    @property
    def pricing(self) -> Pricing:
        """The figures in force, by time."""
        return self._now[0]

    @property
    def live(self) -> bool:
        """Whether anything must be fetched at all."""
        return bool(self.feeds)

    def refresh(
        self,
        now_wall_ns: int,
        now_ns: int | None = None,
        *,
        at_once: bool = False,
        if_allowed: bool = False,
    ) -> None:
        """Ask those feeds whose time it is, and put the figures in force together. Blocks.

        Args:
            now_wall_ns: the wall clock.
            now_ns: CLOCK_MONOTONIC, which pauses are counted by; the wall clock where there is none.
            at_once: ask all of them, whenever they were last asked; to see whether they answer.
            if_allowed: ask those that the manners of each allow to be asked now; for commands.
        """
        steady_ns = now_wall_ns if now_ns is None else now_ns
        changed = not self._composed
        for feed in self.feeds:
            changed |= feed.refresh(now_wall_ns, steady_ns, at_once=at_once, if_allowed=if_allowed)
        if changed:
            self._compose(now_wall_ns)
        elif self._looked_ns is None or steady_ns - self._looked_ns >= LOOK_AHEAD_NS:
            self._now = (self.pricing, self._look_ahead(now_wall_ns))
        else:
            return
        self._looked_ns = steady_ns

    def settle(self, now_wall_ns: int, now_ns: int) -> None:
        """Put in force what is known without asking anybody: what was kept, and what is carried."""
        for feed in self.feeds:
            feed.due_ns(now_wall_ns, now_ns)  # takes up what was kept
        self._compose(now_wall_ns)

    def wait_ns(self, now_wall_ns: int, now_ns: int) -> int:
        """How long until `refresh` has something to do."""
        due = [feed.due_ns(now_wall_ns, now_ns) for feed in self.feeds]
        return max(0, min([*due, now_ns + LOOK_AHEAD_NS]) - now_ns)

    def state(self, now_wall_ns: int) -> GridState:
        """The figures in force at a moment of the wall clock."""
        now, (known_by, from_ns, until_ns, known) = self._now, self._state
        # Every tick asks, and what is in force changes a few times in an hour.
        if known is not None and known_by is now and from_ns <= now_wall_ns < until_ns:
            return known
        state = self._made(now, now_wall_ns)
        ends = [timeline.until_ns(f) for f in (state.intensity, *state.figures) if f is not None]
        until_ns = min([now_wall_ns + LOOK_AHEAD_NS, *(end for end in ends if end > now_wall_ns)])
        if state.intensity is not None:  # else one may come into force at any moment
            self._state = (now, now_wall_ns, until_ns, state)
        return state

    def _made(self, now: tuple[Pricing, Outlook | None], now_wall_ns: int) -> GridState:
        pricing, outlook = now
        intensity = pricing.at(now_wall_ns)
        return GridState(
            intensity=intensity,
            fallback_level=self._level_of(intensity),
            pue=pricing.pue,
            pue_configured=self._pue_configured,
            location=self.location.how,
            figures=self._figures(now_wall_ns, intensity),
            outlook=outlook,
            signal=self.signal,
            basis=self.basis,
            zone=self.location.zone,
            fallback_wall_ns=self._fallback_ns(pricing, now_wall_ns),
        )

    def failures(self) -> Mapping[tuple[str, str], int]:
        """How often each feed has failed since this process began, by its name and the reason."""
        return {
            (feed.manners.name, reason): count
            for feed in self.feeds
            for reason, count in feed.failures.items()
        }

    @property
    def has_learned(self) -> bool:
        """Whether `learned` has something to say."""
        return bool(self._learned)

    def learned(self) -> tuple[Intensity, ...]:
        """Figures that have come or were revised since this was last called, without those still to come.

        For the history that reports are checked against; one thread calls.
        """
        return tuple(self._learned.popleft() for _ in range(len(self._learned)))

    def _learn(self, now_wall_ns: int) -> None:
        told, fresh = {}, []
        for feed in self.feeds:
            for figure in feed.figures:
                key = (figure.provider, figure.grid_zone, figure.valid_from_wall_ns)
                if (figure.valid_from_wall_ns or 0) > now_wall_ns:
                    continue
                told[key] = figure.g_per_kwh
                if self._told.get(key) != figure.g_per_kwh:
                    fresh.append(figure)
        self._told = told
        self._learned.extend(fresh)

    def _compose(self, now_wall_ns: int) -> None:
        self._learn(now_wall_ns)
        levels: list[Sequence[Intensity]] = [
            in_force(feed.figures, feed.last_good_wall_ns, feed.manners.hold_ns) for feed in self.feeds
        ]
        names: dict[tuple[str, str], int] = {
            (feed.manners.name, ""): level for level, feed in enumerate(self.feeds)
        }
        for provider in self._providers:
            figures = provider.intensities(now_wall_ns)
            names |= {(f.provider, f.grid_zone): len(levels) for f in figures}
            levels.append(figures)
        self._levels = names
        self._now = (Pricing(spliced(levels), self.pricing.pue), self._look_ahead(now_wall_ns))
        self._composed = True

    def _look_ahead(self, now_wall_ns: int) -> Outlook | None:
        """By the first feed that knows more than this moment."""
        for feed in self.feeds:
            good = feed.last_good_wall_ns
            if good is None or now_wall_ns - good > OUTLOOK_AGE_NS:
                continue
            outlook = forecast.outlook_of(feed.figures, now_wall_ns)
            if outlook is not None and len(outlook.figures) > 1:
                return outlook
        return None

    def _figures(self, now_wall_ns: int, in_use: Intensity | None) -> tuple[Intensity, ...]:
        """What each says of this moment; of those without network only the one in force."""
        said = [timeline.at(feed.figures, now_wall_ns) for feed in self.feeds]
        figures = [figure for figure in said if figure is not None]
        if in_use is not None and all(figure.provider != in_use.provider for figure in figures):
            figures.append(in_use)
        return tuple(figures)

    def _fallback_ns(self, pricing: Pricing, now_wall_ns: int) -> int | None:
        """When a level further down than the one in force takes over, or nobody does; None for never."""
        in_force = pricing.at(now_wall_ns)
        if in_force is None:
            return None
        level, until_ns = self._level_of(in_force), timeline.until_ns(in_force)
        first = bisect_right(pricing.intensities, now_wall_ns, key=timeline.from_ns)
        for figure in pricing.intensities[first:]:
            if timeline.from_ns(figure) > until_ns or self._level_of(figure) > level:
                break
            until_ns = timeline.until_ns(figure)
        return None if until_ns == timeline.END_NS else until_ns

    def _level_of(self, intensity: Intensity | None) -> int:
        """Of the figure in force; without one, one step beyond the last."""
        if intensity is None:
            return len(self.feeds) + len(self._providers) if self._composed else 0
        live = self._levels.get((intensity.provider, ""))
        return self._levels.get((intensity.provider, intensity.grid_zone), 0) if live is None else live


def in_force(figures: Sequence[Intensity], good_wall_ns: int | None, hold_ns: int) -> tuple[Intensity, ...]:
    """Figures of one feed with the stretches that they may price.

    A gap between two of them, and the time after the last, is filled by the figure before, for `hold_ns` at
    most; beyond its own time it is an estimate, whatever it was.
    Forecasts price no longer than that after the figure that was in force when the feed last answered:
    a provider that is gone is left for the next one, however far ahead it has spoken.
    """
    if not figures or good_wall_ns is None:
        return ()
    told = timeline.at(figures, good_wall_ns)
    newest_ns = max(
        [f.valid_until_wall_ns or 0 for f in figures if (f.valid_from_wall_ns or 0) <= good_wall_ns],
        default=good_wall_ns,
    )
    cut_ns = (newest_ns if told is None else told.valid_until_wall_ns or 0) + hold_ns
    result: list[Intensity] = []
    for index, figure in enumerate(figures):
        begin_ns, end_ns = figure.valid_from_wall_ns or 0, figure.valid_until_wall_ns or 0
        if begin_ns >= cut_ns:
            break
        following = figures[index + 1].valid_from_wall_ns if index + 1 < len(figures) else None
        until_ns = (
            min(end_ns + hold_ns, cut_ns) if following is None else min(end_ns + hold_ns, following, cut_ns)
        )
        result.append(figure if until_ns >= end_ns else replace(figure, force_until_wall_ns=until_ns))
        if until_ns > end_ns:
            held = replace(figure, estimated=True, force_from_wall_ns=end_ns, force_until_wall_ns=until_ns)
            result.append(held)
    return tuple(result)


def spliced(levels: Sequence[Sequence[Intensity]]) -> tuple[Intensity, ...]:
    """One timeline of several: each moment has the figure of the first level that knows it."""
    result: list[Intensity] = []
    for level in levels:
        result = _filled(result, level)
    return tuple(result)


def _filled(upper: Sequence[Intensity], lower: Sequence[Intensity]) -> list[Intensity]:
    """`upper`, with `lower` in its gaps."""
    if not upper:
        return list(lower)
    ends = [timeline.BEGINNING_NS, *(timeline.until_ns(f) for f in upper)]
    begins = [*(timeline.from_ns(f) for f in upper), timeline.END_NS]
    result: list[Intensity] = []
    for index, (gap_from_ns, gap_until_ns) in enumerate(zip(ends, begins, strict=True)):
        if gap_until_ns > gap_from_ns:
            result += [
                _clipped(figure, gap_from_ns, gap_until_ns)
                for figure in lower
                if timeline.from_ns(figure) < gap_until_ns and timeline.until_ns(figure) > gap_from_ns
            ]
        if index < len(upper):
            result.append(upper[index])
    return result


def _clipped(figure: Intensity, from_ns: int, until_ns: int) -> Intensity:
    if timeline.from_ns(figure) < from_ns:
        figure = replace(figure, force_from_wall_ns=from_ns)
    if timeline.until_ns(figure) > until_ns:
        figure = replace(figure, force_until_wall_ns=until_ns)
    return figure


def _meaning(providers: Sequence[Provider]) -> tuple[Signal, Basis]:
    """What all of them mean.

    Raises:
        SetupError: not the same.
    """
    meanings = {(provider.signal, provider.basis) for provider in providers}
    if len(meanings) != 1:
        names = dict.fromkeys(f"{each.name} is {each.signal} {each.basis}" for each in providers)
        given = ", ".join(names) or "none given"
        raise SetupError(
            f"the providers of grid intensity must share one signal and one basis: {given};"
            " take out those that differ, or set grid.signal and grid.basis where a provider has both"
        )
    return meanings.pop()


def chain_of(
    zone: str | None,
    region: str | None,
    intensity_g_per_kwh: float | None,
    pue: float | None,
    environment: Mapping[str, str],
) -> Chain:
    """The chain without live providers: the explicit figure, else the place's yearly one, else the world's.

    Args:
        zone, region, intensity_g_per_kwh, pue: the settings of section ``grid``; None where not set.
        environment: where hints of a location are looked for.

    Raises:
        SetupError: a place that is unknown, or settings that contradict each other.
    """
    location = locate(zone, region, environment)
    providers, location = standing(location, intensity_g_per_kwh)
    return Chain(providers, pue, location)


def standing(location: Location, intensity_g_per_kwh: float | None) -> tuple[list[Provider], Location]:
    """The providers without network, which a chain of lifecycle averages ends in."""
    if intensity_g_per_kwh is not None:
        if not location.known:
            location = Location(NO_ZONE, "grid.intensity is set, without a place.", configured=True)
        return [ConfiguredProvider(intensity_g_per_kwh, location.zone)], location
    zones = [location.zone, WORLD] if location.known else [WORLD]
    return [StaticProvider(zone) for zone in zones], location
