"""Moments and lengths of time as planners read them. Pure but for the machine's time zone."""

from datetime import timedelta, tzinfo

from wattspan.cli.chart import local
from wattspan.units import NS_PER_S


def moment(wall_ns: int, zone: tzinfo | None) -> str:
    """``Sat 21 Nov 02:00``; None for this machine's time zone."""
    return f"{local(wall_ns, zone):%a %d %b %H:%M}"


def span(begin_ns: int, end_ns: int, zone: tzinfo | None) -> str:
    """``Sat 21 Nov 02:00 to 10:00``; the second day is named where it is another."""
    begin, end = local(begin_ns, zone), local(end_ns, zone)
    if begin.date() == end.date():
        return f"{moment(begin_ns, zone)} to {end:%H:%M}"
    return f"{moment(begin_ns, zone)} to {moment(end_ns, zone)}"


def hours(length_ns: int) -> str:
    """``2 h``, ``1 h 30 min``, ``45 min``, ``20 s``."""
    minutes, rest_s = divmod(length_ns // NS_PER_S, 60)
    if minutes == 0:
        return f"{rest_s} s"
    whole, minutes = divmod(minutes, 60)
    parts = [f"{whole} h"] if whole else []
    return " ".join([*parts, f"{minutes} min"] if minutes or not parts else parts)


def zone_name(wall_ns: int, zone: tzinfo | None) -> str:
    """``UTC``, ``local, CET (UTC+01:00)``."""
    here = local(wall_ns, zone)
    name = here.tzname() or ""
    if name == "UTC":
        return "UTC"
    offset = here.utcoffset() or timedelta()
    sign, minutes = "-" if offset < timedelta() else "+", abs(offset) // timedelta(minutes=1)
    shift = f"UTC{sign}{minutes // 60:02}:{minutes % 60:02}"
    # Some zones have no name but their offset.
    return f"local, {shift}" if name[:1] in "+-" else f"local, {name} ({shift})"
