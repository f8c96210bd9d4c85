"""Numbers as people read them: three digits that count, in the unit that fits. Pure."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from wattspan.units import J_PER_KWH, NS_PER_S

_J_PER_WH: Final = J_PER_KWH / 1000
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def energy(joules: float) -> str:
    """``512 J``, ``48.2 Wh``, ``1.23 kWh``, ``4.56 MWh``."""
    if abs(joules) < _J_PER_WH:
        return f"{figure(joules)} J"
    return _scaled(joules / _J_PER_WH, ("Wh", "kWh", "MWh", "GWh"))


def mass(grams: float) -> str:
    """``0.31 g``, ``345 g``, ``12.3 kg``, ``4.56 t``."""
    return _scaled(grams, ("g", "kg", "t"))


def volume(liters: float) -> str:
    """``0.31 l``, ``345 l``, ``12.3 m³``."""
    return _scaled(liters, ("l", "m³"))


def power(watts: float) -> str:
    """``312 W``, ``5.12 kW``."""
    return _scaled(watts, ("W", "kW", "MW"))


def duration(seconds: float) -> str:
    """``12.3 s``, ``4 min 05 s``, ``27 h 03 min``, ``4 d 03 h``."""
    if seconds < _MINUTE_S:
        return f"{figure(seconds)} s"
    minutes, rest_s = divmod(round(seconds), _MINUTE_S)
    if minutes < 60:
        return f"{minutes} min {rest_s:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24:02} h"


def gpu_time(seconds: float) -> str:
    """``48.0 GPU-hours``; below one of them as a duration."""
    return duration(seconds) if seconds < _HOUR_S else f"{figure(seconds / _HOUR_S)} GPU-hours"


def percent(ratio: float) -> str:
    """``12.3 %``, ``5 %``, ``0.021 %``."""
    value = ratio * 100
    text = f"{value:.1f}".removesuffix(".0") if value >= 1 else format(Decimal(f"{value:.2g}"), "f")
    return f"{text} %"


def money(amount: float, currency: str) -> str:
    """``12.34 EUR``; below a tenth three digits that count."""
    text = f"{amount:,.2f}" if abs(amount) >= 0.1 or not amount else figure(amount)
    return f"{text} {currency}".rstrip()


def count(number: float) -> str:
    """``3,276,800``."""
    return f"{number:,.0f}"


def figure(value: float) -> str:
    """Three digits that count, never with an exponent: 0.00123, 12.0, 1,235."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return format(Decimal(f"{value:#.3g}"), "f") if value else "0"


def moment(wall_ns: int) -> str:
    """``2026-11-20 14:05:30 UTC``."""
    return f"{datetime.fromtimestamp(wall_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M:%S} UTC"


def rfc3339(wall_ns: int) -> str:
    """``2026-11-20T14:05:30.123456Z``."""
    whole = datetime.fromtimestamp(wall_ns // NS_PER_S, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{wall_ns % NS_PER_S // 1000:06}Z"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    """In the largest of these units, each a thousand of the one before, in which it is 1 or more."""
    step = 0
    while step + 1 < len(units) and abs(value) >= 999.5:
        value /= 1000
        step += 1
    return f"{figure(value)} {units[step]}"
