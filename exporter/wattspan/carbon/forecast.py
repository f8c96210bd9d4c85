"""The hours ahead: intensity at horizons, and when the grid is greenest. Pure."""

from collections.abc import Sequence

from wattspan.model import Intensity, Outlook


def outlook_of(figures: Sequence[Intensity], now_wall_ns: int) -> Outlook | None:
    """What figures say of the time from a moment on; None where none of them does.

    Args:
        figures: past to future, without overlaps; those that hold for all time are no forecast.
        now_wall_ns: the moment.
    """
    ahead = tuple(
        f for f in figures if f.valid_until_wall_ns is not None and f.valid_until_wall_ns > now_wall_ns
    )
    return Outlook(now_wall_ns, ahead) if ahead else None
