"""What ``wattspan estimate`` prints: text for a terminal, or JSON. See `wattspan.cli.estimate`."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from wattspan.cli.estimate_inputs import Inputs
from wattspan.cli.table import print_table
from wattspan.log import escaped
from wattspan.units import J_PER_KWH

if TYPE_CHECKING:
    from wattspan.carbon.estimate import Estimate, Plan, Spread

SCHEMA: Final = "wattspan.estimate/1"

WIDTH: Final = 96
"""Columns that prose is broken at."""


_NO_BREAK: Final = "\u00a0"


def document(inputs: Inputs, made: "Estimate") -> dict[str, Any]:
    """The JSON form; numbers are neither rounded nor text."""
    plan = inputs.plan
    watts = plan.power.watts if plan.power else None
    methods = _methods(inputs)
    members: dict[str, Any] = {"schema": SCHEMA}
    for name, spread in _figures(made).items():
        members |= _members(name, spread)
    return {
        **members,
        "currency": inputs.currency or None,
        "missing": {name: methods[name] for name, spread in _figures(made).items() if spread is None},
        "method": {name: methods[name] for name, spread in _figures(made).items() if spread is not None},
        "inputs": {
            "gpu": inputs.gpu,
            "gpus": plan.gpus,
            "hours": plan.hours,
            "gpu_hours": plan.gpus * plan.hours,
            **_members("power_watts_per_gpu", watts),
            "host_watts_per_gpu": plan.host_watts,
            "pue": plan.pue,
            **_members("grams_per_kwh", plan.g_per_kwh),
            "grid_zone": inputs.grid_zone or None,
            "price_per_kwh": plan.price_per_kwh,
            "embodied_grams_per_gpu": plan.embodied_gpu_g,
            "embodied_grams_per_host": plan.embodied_host_g,
            "gpus_per_host": plan.gpus_per_host,
            "lifetime_years": plan.lifetime_years,
        },
        "assumptions": inputs.assumptions,
        "not_included": list(_left_out(plan)),
        "sources": inputs.sources,
        "answered": inputs.answered,
    }


def print_text(inputs: Inputs, made: "Estimate") -> None:
    """For a terminal."""
    plan, methods = inputs.plan, _methods(inputs)
    print(
        f"{plan.gpus:,} x {escaped(inputs.gpu)} for {_short(plan.hours)} h:"
        f" {_short(plan.gpus * plan.hours)} GPU-hours"
    )
    print()
    print_table(_rows(inputs, made))
    print()
    for name, text in (
        ("hours", inputs.hours.method),
        ("power", inputs.power.method),
        ("PUE", f"{plan.pue:g}, {inputs.pue.method}"),
        ("intensity", inputs.intensity.method),
        ("embodied", methods["embodied_co2e_grams"]),
        ("price", inputs.price.method),
        ("answered", inputs.answered),
    ):
        _print_block(f"{name:<11}", text)
    _print_list("Assumed", inputs.assumptions)
    _print_list("Not in it", list(_left_out(plan)))
    _print_list("Sources", inputs.sources)


def _members(name: str, spread: "Spread | None") -> dict[str, float | None]:
    """A figure and its range."""
    if spread is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: spread.value, f"{name}_low": spread.low, f"{name}_high": spread.high}


def _figures(made: "Estimate") -> "dict[str, Spread | None]":
    """By the names of the JSON form."""
    return {
        "energy_kwh": made.energy_kwh,
        "facility_energy_kwh": made.facility_energy_kwh,
        "operational_co2e_grams": made.operational_g,
        "embodied_co2e_grams": made.embodied_g,
        "cost": made.cost,
    }


def _methods(inputs: Inputs) -> dict[str, str]:
    """How each figure comes about, or why it is missing, by the names of the JSON form."""
    facility = f"energy x PUE {inputs.plan.pue:g} ({inputs.pue.method})"
    of_power = {
        "energy_kwh": f"GPUs x hours x power. Power: {inputs.power.method}. Hours: {inputs.hours.method}",
        "facility_energy_kwh": facility,
        "operational_co2e_grams": f"{facility} x intensity: {inputs.intensity.method}",
        "cost": f"{facility} x price: {inputs.price.method}",
    }
    if inputs.power.value is None:
        of_power = dict.fromkeys(of_power, inputs.power.method)
    if inputs.intensity.value is None:
        of_power["operational_co2e_grams"] = inputs.intensity.method
    if inputs.price.value is None:
        of_power["cost"] = inputs.price.method
    return of_power | {"embodied_co2e_grams": _embodied_method(inputs)}


def _embodied_method(inputs: Inputs) -> str:
    plan, method = inputs.plan, inputs.embodied.method
    if plan.embodied_gpu_g is None:
        return method
    host = ""
    if plan.embodied_host_g is not None:
        host = (
            f", {plan.embodied_host_g / 1000:g} kg for each host of {plan.gpus_per_host} (embodied.host-kg)"
        )
    return (
        f"{method}{host}; charged for {_short(plan.gpus * plan.hours)} GPU-hours of a life of"
        f" {plan.lifetime_years:g} years; such figures are known to a factor of {plan.embodied_factor:g}"
    )


def _left_out(plan: "Plan") -> Iterator[str]:
    if not plan.host_watts and not (plan.power and plan.power.covers_host):
        yield "CPUs, memory and disks of the hosts, which can be a third of the whole: give --host-power."
    yield "Network and shared storage; cooling and losses beyond PUE; runs that fail or are repeated."
    if plan.embodied_gpu_g is not None and plan.embodied_host_g is None:
        yield "Making the hosts: set embodied.host-kg; published figures differ by a factor of five."


def _rows(inputs: Inputs, made: "Estimate") -> Iterator[tuple[str, ...]]:
    from wattspan.report import quantities

    def kwh(value: float) -> str:
        return quantities.energy(value * J_PER_KWH)

    def money(value: float) -> str:
        return quantities.money(value, inputs.currency)

    yield "", "estimate", "low", "high"
    ceiling = " (ceiling)" if inputs.plan.power and inputs.plan.power.ceiling else ""
    yield _row(f"energy{ceiling}", made.energy_kwh, kwh)
    if inputs.plan.pue != 1:
        yield _row(f"with PUE {inputs.plan.pue:g}", made.facility_energy_kwh, kwh)
    yield _row("operational CO2e", made.operational_g, quantities.mass)
    yield _row("embodied CO2e", made.embodied_g, quantities.mass)
    yield _row("cost", made.cost, money)


def _row(name: str, spread: "Spread | None", shown: Callable[[float], str]) -> tuple[str, ...]:
    if spread is None:
        return name, "-", "-", "-"
    return name, shown(spread.value), shown(spread.low), shown(spread.high)


def _print_list(title: str, texts: Sequence[str]) -> None:
    if texts:
        print(f"\n{title}:")
    for text in texts:
        _print_block("- ", text)


def _print_block(head: str, text: str) -> None:
    kept = escaped(text).replace(" %", f"{_NO_BREAK}%")  # a number and its unit stay on one line
    lines = textwrap.fill(
        kept,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    print(lines.replace(_NO_BREAK, " "))


def _short(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0") if value >= 1 else f"{value:.3g}"
