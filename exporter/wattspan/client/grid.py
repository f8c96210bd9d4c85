"""What the daemon of this node says of the grid, read back from its API for commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wattspan.carbon.forecast import outlook_of
from wattspan.carbon.price import Prices
from wattspan.client.daemon import Daemon, UnansweredError
from wattspan.client.green import FORECAST, figure_of, figures_of, moment_of
from wattspan.client.watch import GRID
from wattspan.model import GridState, Intensity, Tariff


@dataclass(frozen=True, slots=True)
class Told:
    """What it said.

    Attributes:
        state: the figures in force, and the hours ahead.
        prices: that in force now, for its own time; None without one.
        documents: of `GRID` and `FORECAST`, as they came.
    """

    state: GridState
    prices: Prices | None
    documents: tuple[Mapping[str, Any], Mapping[str, Any]]


def of_daemon(daemon: Daemon, now_wall_ns: int) -> Told:
    """Ask it. Blocks.

    Raises:
        UnreachableError, UnansweredError, RefusedError: it did not answer.
    """
    current, ahead = daemon.ask("GET", GRID), daemon.ask("GET", FORECAST)
    try:
        return read(current, ahead, now_wall_ns)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnansweredError(
            f"the daemon at {daemon.place} says nothing of the grid that is known"
        ) from error


def read(current: Mapping[str, Any], ahead: Mapping[str, Any], now_wall_ns: int) -> Told:
    """The documents of `GRID` and `FORECAST` as figures.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: they are none.
    """
    intensity = None if current["intensity"] is None else figure_of(current["intensity"])
    figures: Sequence[Intensity] = figures_of(ahead)
    tariff = None if current["tariff"] is None else _tariff(current["tariff"])
    zone = str(current.get("grid_zone") or "") or (intensity.grid_zone if intensity else "")
    state = GridState(
        intensity=intensity,
        fallback_level=int(current["fallback_level"]),
        pue=float(current["pue_ratio"]),
        pue_configured=current["pue_configured"] is True,
        location=str(current["location"]),
        figures=tuple(figure_of(row) for row in current["figures"]),
        outlook=outlook_of(figures, now_wall_ns),
        tariff=tariff,
        signal=current["signal"],
        basis=current["basis"],
        zone=zone,
    )
    prices = None if tariff is None else Prices((tariff,), str(current["tariff"]["currency"]))
    return Told(state, prices, (current, ahead))


def _tariff(row: Mapping[str, Any]) -> Tariff:
    return Tariff(
        per_kwh=float(row["per_kwh"]),
        valid_from_wall_ns=moment_of(row["valid_from"]),
        valid_until_wall_ns=moment_of(row["valid_until"]),
        provider=str(row["provider"]),
        fetched_wall_ns=moment_of(row["fetched_at"]),
    )
