"""What is compared: the cost of one turn, the figures made of it, their targets, and the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

PROMETHEUS_INTERVAL_S = 15
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Turn:
    """What one program cost in one turn.

    Attributes:
        subject: its name.
        cpu_per_s: CPU seconds per second of metering at 1 Hz, while nobody scrapes.
        nvml_calls_per_s: calls that the driver has to answer, in that time.
        pages_per_s: of memory, that are touched in a second in which nobody scrapes.
        cpu_at_4_hz_per_s: the first figure at 4 Hz; None where it cannot be had.
        cpu_per_scrape_s: CPU seconds that one scrape adds; None where there is no /metrics.
        scrape_wall_s: median of what the client waited for one scrape.
        samples: in one scrape.
        wire_bytes: of one scrape.
        rss_bytes, pss_bytes, uss_bytes: at the end of the turn.
    """

    subject: str
    cpu_per_s: float
    nvml_calls_per_s: float
    rss_bytes: int = 0
    pss_bytes: int = 0
    uss_bytes: int = 0
    pages_per_s: int = 0
    cpu_at_4_hz_per_s: float | None = None
    cpu_per_scrape_s: float | None = None
    scrape_wall_s: float | None = None
    samples: int = 0
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity that is compared.

    Attributes:
        what: for the table, with its unit.
        of: makes it of a turn; None where it does not apply.
        target: the most that is allowed; None for a figure that is only shown.
        judged: whether the target is for our figure or for its ratio to theirs.
    """

    what: str
    of: Callable[[Turn], float | None]
    target: float | None = None
    judged: Literal["ratio", "ours"] = "ratio"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of two programs.

    Attributes:
        figure: which.
        ours, theirs: medians over the turns.
        ratio: median over the rounds of ours / theirs, each taken within its round.
        spread: the smallest and the largest of those.
    """

    figure: Figure
    ours: float
    theirs: float
    ratio: float
    spread: tuple[float, float]

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None where there is none."""
        if self.figure.target is None:
            return None
        return (self.ratio if self.figure.judged == "ratio" else self.ours) <= self.figure.target


def compare(figure: Figure, ours: Sequence[Turn], theirs: Sequence[Turn]) -> Row:
    """One figure of the same rounds of two programs.

    Raises:
        ValueError: the figure does not apply to one of them, or one of them costs nothing.
    """
    own = [_number(figure, turn) for turn in ours]
    others = [_number(figure, turn) for turn in theirs]
    if not all(others):
        raise ValueError(f"{figure.what}: a ratio to nothing")
    ratios = [mine / other for mine, other in zip(own, others, strict=True)]
    return Row(figure, median(own), median(others), median(ratios), (min(ratios), max(ratios)))


def _number(figure: Figure, turn: Turn) -> float:
    value = figure.of(turn)
    if value is None:
        raise ValueError(f"{turn.subject}: {figure.what}: nothing measured")
    return value


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _ms_per_thousand_samples(seconds: float | None, samples: int) -> float | None:
    return None if seconds is None or not samples else seconds * 1000 / samples * 1000


def _percent_at_4_hz(turn: Turn) -> float | None:
    return None if turn.cpu_at_4_hz_per_s is None else 100 * turn.cpu_at_4_hz_per_s


def _percent_while_scraped(turn: Turn) -> float | None:
    if turn.cpu_per_scrape_s is None:
        return None
    return 100 * (turn.cpu_per_s + turn.cpu_per_scrape_s / PROMETHEUS_INTERVAL_S)


METERING = (
    Figure("CPU of metering at 1 Hz, % of a core", lambda turn: 100 * turn.cpu_per_s, 0.3),
    Figure("NVML calls per second", lambda turn: turn.nvml_calls_per_s),
    Figure("pages of memory touched in a second", lambda turn: turn.pages_per_s),
    Figure("resident memory, MiB", lambda turn: turn.rss_bytes / _MIB, 64, "ours"),
    Figure("  proportional (PSS), MiB", lambda turn: turn.pss_bytes / _MIB),
    Figure("  unique (USS), MiB", lambda turn: turn.uss_bytes / _MIB),
)
"""Of a program that meters, scraped or not."""

SCRAPING = (
    Figure("CPU of metering at 4 Hz, % of a core", _percent_at_4_hz),
    Figure(
        "scrape time per 1,000 samples, at the client, ms",
        lambda turn: _ms_per_thousand_samples(turn.scrape_wall_s, turn.samples),
        0.3,
    ),
    Figure(
        "scrape CPU per 1,000 samples, of the server, ms",
        lambda turn: _ms_per_thousand_samples(turn.cpu_per_scrape_s, turn.samples),
        0.3,
    ),
    Figure(
        f"CPU with a scrape every {PROMETHEUS_INTERVAL_S} s, % of a core", _percent_while_scraped, 0.5, "ours"
    ),
    Figure("  all of one scrape, at the client, ms", lambda turn: _ms(turn.scrape_wall_s)),
    Figure("  all of one scrape, CPU of the server, ms", lambda turn: _ms(turn.cpu_per_scrape_s)),
    Figure("samples in a scrape (series)", lambda turn: turn.samples),
    Figure("bytes of a scrape on the wire", lambda turn: turn.wire_bytes),
)
"""Of a program that serves /metrics."""
