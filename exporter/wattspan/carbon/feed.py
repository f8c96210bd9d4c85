"""One live source with its manners: how often it may be asked, what is believed, and what is kept meanwhile.

- It is asked once in each period, at a moment within it that is this node's own, so that a thousand daemons
  spread over minutes; at the first start it is asked within `START_SPREAD_NS`.
- A failure is tried again after a pause that doubles, with jitter, and never before `Retry-After` is over.
- After 401 or 403 it is left alone for an hour at a time: a wrong token does not get better by asking.
- An answer is believed as a whole or not at all (`checked`).
- What is known, and when it was last asked, is kept on disk, so that restarts neither forget nor ask again.
"""

import json
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from wattspan.errors import FETCH_REASONS, FetchError, FetchReason
from wattspan.units import NS_PER_S

logger = logging.getLogger(__name__)

START_SPREAD_NS: Final = 30 * NS_PER_S
"""Daemons that a roll-out starts together ask for the first time within so long."""

SPREAD_NS: Final = 300 * NS_PER_S
"""And later within so long after each period has begun."""

FIRST_RETRY_NS: Final = 30 * NS_PER_S
BREAKER_NS: Final = 3600 * NS_PER_S
"""How long a source that refuses us is left alone."""

DAY_NS: Final = 86_400 * NS_PER_S
"""No service is believed that asks to be left alone for longer; see `wattspan.carbon.http`."""

FLOOR_SLACK: Final = 0.9
"""Two questions are never nearer than this part of the floor; on average they are a whole one apart."""

CLOCK_SKEW_NS: Final = 300 * NS_PER_S
"""A figure for now may begin this much in the future: clocks differ."""

PAST_NS: Final = 48 * 3600 * NS_PER_S
"""Figures are kept so long after they are over: energy used while no daemon ran is priced by them."""

MAX_FIGURES: Final = 4096
"""More than five minutes apart over 48 h and 72 h ahead; beyond it the farthest from now go."""

LAST_NS: Final = 2**63
"""Times are below it, in the year 2262: beyond it no table and no clock has room."""

MAX_LABEL: Final = 100
MAX_ORIGIN: Final = 10_000
"""The longest zone and origin that are believed, in characters: they become labels and rows."""

_CACHE_VERSION: Final = 1
_CACHE_MAX_BYTES: Final = 8 << 20


class Figure(Protocol):
    """What a feed brings: `wattspan.model.Intensity` or `wattspan.model.Tariff`."""

    @property
    def valid_from_wall_ns(self) -> int | None: ...
    @property
    def valid_until_wall_ns(self) -> int | None: ...
    @property
    def fetched_wall_ns(self) -> int | None: ...


F = TypeVar("F", bound=Figure)


@dataclass(frozen=True, slots=True)
class Manners:
    """How a source wants to be treated.

    Attributes:
        name: of its module.
        what: what its answers mean, such as ``average lifecycle``; a cache of anything else is not used.
        resolution_ns: how long one of its figures holds.
        floor_ns: it is asked no more often.
        hold_ns: its last good figure stands in for so long after its own time is over.
        local: it is a file of this machine; a command may read it at any time.
    """

    name: str
    what: str
    resolution_ns: int
    floor_ns: int
    hold_ns: int
    local: bool = False

    @property
    def period_ns(self) -> int:
        """Between two questions when all is well."""
        return max(self.floor_ns, min(self.resolution_ns, 3600 * NS_PER_S))


class Feed(Generic[F]):
    """Figures of one source, as they are known now. One thread refreshes; any thread may read `figures`.

    Args:
        manners: of the source.
        ask: the source; blocks, and raises FetchError.
        kind: what it brings.
        key: of this feed's cache, such as the zone.
        node: this node's name, which settles when in a period it asks.
        folder: where it is kept; None for nowhere.
        jitter: random numbers from 0 to 1.

    Attributes:
        figures: past to future, without overlaps.
        failures: how often it failed since this process began, by reason.
        last_good_wall_ns: when it last answered well; None before that.
        trouble: why its last answer was none; empty when it was good, and before the first.
    """

    def __init__(
        self,
        manners: Manners,
        ask: Callable[[int], Sequence[F]],
        kind: type[F],
        key: str,
        node: str = "",
        folder: Path | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.manners = manners
        self.figures: tuple[F, ...] = ()
        self.failures: dict[FetchReason, int] = dict.fromkeys(FETCH_REASONS, 0)
        self.last_good_wall_ns: int | None = None
        self.trouble = ""
        self._ask = ask
        self._kind = kind
        self._key = key
        self._phase = _phase(node, manners.name)
        self._jitter = jitter
        self._cache = folder / f"{manners.name}-{_digest(key)}.json" if folder else None
        self._asked_wall_ns: int | None = None
        self._failed = 0
        self._retry_after_ns = 0
        self._pause_ns = 0
        self._failing: FetchReason | None = None
        self._due_ns: int | None = None

    def due_ns(self, now_wall_ns: int, now_ns: int) -> int:
        """CLOCK_MONOTONIC of the next question; the first call reads what was kept."""
        if self._due_ns is None:
            self._load(now_wall_ns)
            if self._asked_wall_ns is None:
                self._due_ns = now_ns + int(self._phase * START_SPREAD_NS)
            else:
                # Asked before a restart: what was good waits for its period, what failed for a retry, though
                # not for the breaker's hour: a restart may be how an operator brings the right token.
                wait_ns = (
                    self._wait_ns(self._asked_wall_ns)
                    if self.last_good_wall_ns == self._asked_wall_ns
                    else max(FIRST_RETRY_NS, self._retry_after_ns)
                )
                self._due_ns = now_ns + max(0, self._asked_wall_ns + wait_ns - now_wall_ns)
        return self._due_ns

    def rests_ns(self, now_wall_ns: int) -> int:
        """How long its manners still forbid a question; 0 when one may go out. `due_ns` must have been
        called.

        Forbidden is what comes sooner than the floor after a good answer, or within the pause that a failure
        has brought, `Retry-After` and `BREAKER_NS` included.
        """
        if self._asked_wall_ns is None or self.manners.local:
            return 0
        good = self.last_good_wall_ns == self._asked_wall_ns
        rest_ns = int(FLOOR_SLACK * self.manners.floor_ns) if good else self._pause_ns
        return max(0, self._asked_wall_ns + rest_ns - now_wall_ns)

    def refresh(
        self, now_wall_ns: int, now_ns: int, *, at_once: bool = False, if_allowed: bool = False
    ) -> bool:
        """Ask if it is time to. Blocks. True when `figures` have changed.

        Args:
            now_wall_ns, now_ns: the clocks.
            at_once: ask whenever it was last asked.
            if_allowed: ask before it is due, unless it `rests_ns`; why one that has failed is left alone is
                logged.
        """
        due_ns = self.due_ns(now_wall_ns, now_ns)
        rests_ns = self.rests_ns(now_wall_ns)
        if not at_once and (rests_ns > 0 if if_allowed else now_ns < due_ns):
            if if_allowed and self.trouble:
                name, left_s = self.manners.name, -(-rests_ns // NS_PER_S)
                logger.warning("grid: provider %s: left alone for %d s after %s", name, left_s, self.trouble)
            return False
        self._asked_wall_ns = now_wall_ns
        try:
            answer = self._answer(now_wall_ns)
        except FetchError as error:
            self._failure(error, now_ns)
            self._store()
            return False
        if self._failing is not None:
            logger.info("grid: provider %s answers again", self.manners.name)
        self._failing, self._failed, self.trouble = None, 0, ""
        self._retry_after_ns = self._pause_ns = 0
        self.last_good_wall_ns = now_wall_ns
        self._due_ns = now_ns + self._wait_ns(now_wall_ns)
        self.figures = merged(self.figures, answer, now_wall_ns)
        self._store()
        return True

    def _answer(self, now_wall_ns: int) -> Sequence[F]:
        try:
            return checked(self._ask(now_wall_ns), self.manners, now_wall_ns)
        except FetchError:
            raise
        except Exception as error:  # a fault of ours in one provider must not end the others
            logger.debug("provider %s raised", self.manners.name, exc_info=True)
            raise FetchError("unknown", type(error).__name__) from error

    def _wait_ns(self, asked_wall_ns: int) -> int:
        """From a good answer to the next question: this node's moment in a coming period, the floor
        observed."""
        period_ns = self.manners.period_ns
        phase_ns = int(self._phase * min(period_ns, SPREAD_NS))
        wait_ns = (phase_ns - asked_wall_ns) % period_ns
        # A question goes out some seconds after its moment: without slack each would miss its next one.
        if wait_ns >= FLOOR_SLACK * self.manners.floor_ns:
            return wait_ns
        # Its moment comes too soon, as after a start in mid-period: once the floor allows, then in step.
        return min(self.manners.floor_ns + phase_ns, wait_ns + period_ns)

    def _failure(self, error: FetchError, now_ns: int) -> None:
        self.failures[error.reason] += 1
        self._failed += 1
        if error.reason != self._failing:
            logger.warning("grid: provider %s: %s: %s", self.manners.name, error.reason, error.detail)
        self._failing, self.trouble = error.reason, f"{error.reason}: {error.detail}"
        doubled_ns = FIRST_RETRY_NS << min(self._failed - 1, 16)
        pause_ns = min(doubled_ns, max(self.manners.period_ns, FIRST_RETRY_NS))
        if error.reason == "refused":
            pause_ns = BREAKER_NS
        self._retry_after_ns = int((error.retry_after_s or 0) * NS_PER_S)
        self._pause_ns = pause_ns = max(pause_ns, self._retry_after_ns)
        # Only ever later: a service that asked for a pause gets all of it.
        self._due_ns = now_ns + int(pause_ns * (1 + 0.5 * self._jitter()))

    def _store(self) -> None:
        if self._cache is None:
            return
        document = {
            "version": _CACHE_VERSION,
            "source": self.manners.name,
            "what": self.manners.what,
            "key": self._key,
            "asked_wall_ns": self._asked_wall_ns,
            "good_wall_ns": self.last_good_wall_ns,
            "retry_after_ns": self._retry_after_ns,
            "pause_ns": self._pause_ns,
            "failed": self._failed,
            "trouble": self.trouble,
            "figures": [asdict(figure) for figure in self.figures],  # type: ignore[call-overload]
        }
        fresh = self._cache.with_suffix(".new")
        try:
            self._cache.parent.mkdir(mode=0o700, exist_ok=True)
            fresh.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
            fresh.replace(self._cache)
        except OSError as error:
            # A cache saves a question after the next restart; nothing else hangs on it.
            logger.debug("grid: %s: not kept: %s", self._cache, error)
            with suppress(OSError):
                os.unlink(fresh)

    def _load(self, now_wall_ns: int) -> None:
        """What an earlier process knew. A file that makes no sense is as good as none."""
        if self._cache is None:
            return
        try:
            if self._cache.stat().st_size > _CACHE_MAX_BYTES:
                return
            document: Mapping[str, Any] = json.loads(self._cache.read_bytes())
            asked, good = document["asked_wall_ns"], document["good_wall_ns"]
            told = (document["version"], document["source"], document["what"], document["key"])
            if told != (_CACHE_VERSION, self.manners.name, self.manners.what, self._key):
                return
            names = {field.name for field in fields(self._kind)}  # type: ignore[arg-type]
            figures = [
                self._kind(**{k: v for k, v in row.items() if k in names}) for row in document["figures"]
            ]
            kept = checked(figures, self.manners, now_wall_ns, fresh=False)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, FetchError):
            return
        # A time ahead of ours is that of a clock that has been set back since.
        if isinstance(asked, int) and asked <= now_wall_ns:
            self._asked_wall_ns = asked
            self.last_good_wall_ns = good if isinstance(good, int) and good <= now_wall_ns else None
            self._retry_after_ns = _whole(document.get("retry_after_ns"), DAY_NS)
            self._pause_ns = max(_whole(document.get("pause_ns"), DAY_NS), self._retry_after_ns)
            self._failed = _whole(document.get("failed"), 1000)
            trouble = document.get("trouble")
            self.trouble = trouble if isinstance(trouble, str) and _fits(trouble) else ""
        self.figures = merged((), kept, now_wall_ns)


def checked(answer: Sequence[F], manners: Manners, now_wall_ns: int, *, fresh: bool = True) -> Sequence[F]:
    """An answer that makes sense.

    Args:
        answer: as the source gave it.
        manners: of the source.
        now_wall_ns: the wall clock.
        fresh: it has just been given, so something in it must be of use now.

    Raises:
        FetchError: it makes none.
    """
    for figure in answer:
        begin, end = figure.valid_from_wall_ns, figure.valid_until_wall_ns
        if not isinstance(begin, int) or not isinstance(end, int) or end <= begin:
            raise FetchError("malformed", f"{manners.name}: a figure that is valid at no time")
        if begin < 0 or end >= LAST_NS:
            # One row that the journal cannot take would keep every commit from then on.
            raise FetchError("malformed", f"{manners.name}: a figure from before 1970 or until after 2261")
        number = getattr(figure, "g_per_kwh", None)
        if number is not None and not (isfinite(number) and 0 <= number <= 2000):
            raise FetchError("implausible", f"{manners.name}: {number!r:.40} g/kWh is no grid's")
        labels = [getattr(figure, name, "") for name in ("grid_zone", "provider", "signal", "basis")]
        if not all(label.isprintable() and len(label) <= MAX_LABEL for label in labels):
            raise FetchError("malformed", f"{manners.name}: a zone that is no name")
        if not _fits(getattr(figure, "origin", "")):
            raise FetchError("malformed", f"{manners.name}: an origin that is no text")
    for earlier, later in pairwise(answer):
        if (earlier.valid_until_wall_ns or 0) > (later.valid_from_wall_ns or 0):
            raise FetchError("malformed", f"{manners.name}: figures that overlap or are out of order")
    if not fresh:
        return answer
    if not answer:
        raise FetchError("malformed", f"{manners.name}: no figures")
    if (answer[0].valid_from_wall_ns or 0) > now_wall_ns + CLOCK_SKEW_NS:
        raise FetchError("future", f"{manners.name}: no figure's time has come")
    if (answer[-1].valid_until_wall_ns or 0) + manners.hold_ns <= now_wall_ns:
        raise FetchError("stale", f"{manners.name}: the newest figure is long over")
    return answer


def _whole(value: object, most: int) -> int:
    """A whole number from 0 on; 0 for what is none, or is more than it can be."""
    return value if isinstance(value, int) and 0 <= value <= most else 0


def _fits(text: str) -> bool:
    """Whether it can be written as UTF-8, which half of a surrogate pair in JSON cannot."""
    return len(text) <= MAX_ORIGIN and not any("\ud800" <= letter <= "\udfff" for letter in text)


def merged(known: Sequence[F], answer: Sequence[F], now_wall_ns: int) -> tuple[F, ...]:
    """What was known and what has come: the new goes before the old where both speak of the same time."""
    if not answer:
        return tuple(known)
    begin = answer[0].valid_from_wall_ns or 0
    # What was forecast for later than the answer reaches has been withdrawn.
    kept = [_ending(figure, begin) for figure in known if (figure.valid_from_wall_ns or 0) < begin]
    oldest = now_wall_ns - PAST_NS
    together = [figure for figure in (*kept, *answer) if (figure.valid_until_wall_ns or 0) > oldest]
    # Those of now stay whatever comes: a file may hold every hour of a year.
    over = sum((figure.valid_until_wall_ns or 0) <= now_wall_ns for figure in together)
    first = max(0, over - MAX_FIGURES // 2)
    return tuple(together[first : first + MAX_FIGURES])


def _ending(figure: F, by_ns: int) -> F:
    if (figure.valid_until_wall_ns or 0) <= by_ns:
        return figure
    return replace(figure, valid_until_wall_ns=by_ns)  # type: ignore[type-var]


def _phase(node: str, name: str) -> float:
    """A node's own moment in a period, from 0 to 1: the same after each restart, another on each node."""
    return int.from_bytes(sha256(f"{node}\0{name}".encode()).digest()[:4]) / 2**32


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:12]
