"""The short report of a run, as text for a terminal. Pure."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

from wattspan.client.summary import Missing, Number, Summary
from wattspan.units import J_PER_KWH

_G_PER_KG: Final = 1000
_S_PER_MIN: Final = 60
_S_PER_H: Final = 3600
_SMALL_KWH: Final = 0.001


def lines(summary: Summary) -> list[str]:
    """One line per figure; a figure that is missing gives its reason."""
    if isinstance(summary.run_id, Missing):
        return [f"no report: {summary.run_id.reason}"]
    return [
        f"run       {summary.run_id}{_result(summary)}",
        f"duration  {duration(summary.duration_seconds)}",
        f"energy    {energy(summary.energy_joules)}{_between(summary, 'energy_joules', energy)}"
        f"{_components(summary)}",
        f"CO2e      {mass(summary.co2e_grams)}{_between(summary, 'co2e_grams', mass)}",
        *_beside(summary),
        f"cost      {_cost(summary)}",
        f"GPUs      {_gpus(summary)}",
        f"shares    {_shares(summary)}",
    ]


def energy(joules: Number) -> str:
    """``1.23 kWh``; below a watt-hour in joules, which is still a figure that can be pictured."""
    if isinstance(joules, Missing):
        return str(joules)
    kwh = joules / J_PER_KWH
    return f"{figure(joules)} J" if 0 < kwh < _SMALL_KWH else f"{figure(kwh)} kWh"


def mass(grams: Number) -> str:
    """``345 g``, ``12.3 kg``."""
    if isinstance(grams, Missing):
        return str(grams)
    return f"{figure(grams)} g" if grams < _G_PER_KG else f"{figure(grams / _G_PER_KG)} kg"


def duration(seconds: Number) -> str:
    """``12.3 s``, ``4 min 05 s``, ``27 h 03 min``."""
    if isinstance(seconds, Missing):
        return str(seconds)
    if seconds < _S_PER_MIN:
        return f"{figure(seconds)} s"
    minutes, rest_s = divmod(round(seconds), _S_PER_MIN)
    if minutes < _S_PER_MIN:
        return f"{minutes} min {rest_s:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def figure(value: float) -> str:
    """Three digits that count, never with an exponent: 0.00123, 12.3, 12345."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return format(Decimal(f"{value:.3g}"), "f")


def _result(summary: Summary) -> str:
    return f" ({summary.result})" if summary.result else ""


def _components(summary: Summary) -> str:
    if isinstance(summary.energy_by_component, Missing):
        return ""
    return _in_brackets(f"{name} {energy(joules)}" for name, joules in summary.energy_by_component.items())


def _between(summary: Summary, name: str, form: Callable[[float], str]) -> str:
    """``, 0.95 kWh to 1.05 kWh``; empty where there is no range."""
    if isinstance(summary.ranges, Missing) or name not in summary.ranges:
        return ""
    low, high = summary.ranges[name]
    return f", {form(low)} to {form(high)}"


def _beside(summary: Summary) -> Iterable[str]:
    """What not every node knows has a line only where it is known."""
    if not isinstance(summary.embodied_co2e_grams, Missing):
        yield f"embodied  {mass(summary.embodied_co2e_grams)}{_between(summary, 'embodied_co2e_grams', mass)}"
    if not isinstance(summary.market_co2e_grams, Missing):
        yield f"market    {mass(summary.market_co2e_grams)} by contract"
    if not isinstance(summary.water_liters, Missing):
        yield f"water     {figure(summary.water_liters)} l"


def _cost(summary: Summary) -> str:
    if isinstance(summary.cost, Missing):
        return str(summary.cost)
    return f"{figure(summary.cost)} {summary.currency or ''}".rstrip()


def _gpus(summary: Summary) -> str:
    if summary.gpu_count == 0:
        return "none"
    held = [
        f"{text} {duration(seconds)}"
        for text, seconds in (("held", summary.gpu_seconds), ("of it idle", summary.idle_gpu_seconds))
        if not isinstance(seconds, Missing)
    ]
    return f"{summary.gpu_count}{_in_brackets(held)}"


def _shares(summary: Summary) -> str:
    if isinstance(summary.attribution, Missing):
        return str(summary.attribution)
    return ", ".join(summary.attribution) or "nothing was charged"


def _in_brackets(parts: Iterable[str]) -> str:
    text = ", ".join(parts)
    return f" ({text})" if text else ""
