"""A report as labelled lines, for every format that people read. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from wattspan.report import quantities
from wattspan.report.figures import Missing
from wattspan.report.ranges import Range
from wattspan.report.report import Report
from wattspan.report.sci import Sci

Row = tuple[str, str]
"""A label and what stands beside it."""

Show = Callable[[float], str]

GROUPS: Final[Mapping[str, Mapping[str, tuple[str, Show]]]] = {
    "Energy and carbon": {
        "energy_joules": ("energy", quantities.energy),
        "gpu_energy_joules": ("of it GPUs", quantities.energy),
        "gpu_energy_uncertainty_ratio": ("known to", lambda ratio: f"±{quantities.percent(ratio)}"),
        "cpu_energy_joules": ("of it CPU", quantities.energy),
        "dram_energy_joules": ("of it DRAM", quantities.energy),
        "mean_power_watts": ("mean power", quantities.power),
        "facility_energy_kwh": ("at the facility's meter", lambda kwh: f"{quantities.figure(kwh)} kWh"),
        "co2e_grams": ("CO2e, operational", quantities.mass),
        "embodied_co2e_grams": ("CO2e, embodied", quantities.mass),
        "market_co2e_grams": ("CO2e, operational, market-based", quantities.mass),
        "mean_intensity_grams_per_kwh": (
            "carbon intensity, weighted",
            lambda intensity: f"{quantities.figure(intensity)} g/kWh",
        ),
        "unpriced_energy_joules": ("energy without CO2e", quantities.energy),
        "budget_co2e_grams": ("carbon budget", quantities.mass),
        "budget_used_ratio": ("of the budget used", quantities.percent),
        "cost": ("cost", quantities.figure),
        "uncosted_energy_joules": ("energy without a price", quantities.energy),
        "water_liters": ("water", quantities.volume),
    },
    "GPU time": {
        "gpu_count": ("GPUs", quantities.count),
        "gpu_seconds": ("held", quantities.gpu_time),
        "idle_gpu_seconds": ("of it idle", quantities.gpu_time),
        "idle_ratio": ("idle share", quantities.percent),
        "gpu_utilization_ratio": ("utilization", quantities.percent),
        "mean_gpu_power_watts": ("mean power of a GPU", quantities.power),
    },
    "Progress": {
        "duration_seconds": ("duration", quantities.duration),
        "progress_ratio": ("of the planned steps", quantities.percent),
        "steps": ("steps", quantities.count),
        "repeated_steps": ("steps made again", quantities.count),
        "samples": ("samples", quantities.count),
        "tokens": ("tokens", quantities.count),
        "loss": ("last loss", quantities.figure),
        "joules_per_step": ("energy per step", quantities.energy),
        "joules_per_sample": ("energy per sample", quantities.energy),
        "joules_per_token": ("energy per token", quantities.energy),
    },
}
"""Label and form of each figure, by what it is about. The kWh repeat the joules and have no line."""

UNTOLD_AT_ZERO: Final = frozenset({"unpriced_energy_joules", "uncosted_energy_joules", "repeated_steps"})
"""Figures that are worth a line only when there is something."""


def identity(report: Report) -> Iterator[Row]:
    """Which run, where and when."""
    record, run = report.record, report.record.run
    yield "run", run.run_id
    others = ", ".join(str(attempt) for attempt in report.attempts if attempt != run.attempt)
    if run.attempt or others:
        yield "attempt", f"{run.attempt}, besides {others}" if others else str(run.attempt)
    yield "result", result(report)
    for label, text in (
        ("project", run.project),
        ("group", run.group),
        ("framework", run.framework),
        ("user", run.user),
    ):
        if text:
            yield label, text
    for pod in record.pods:
        yield "pod", f"{pod.namespace}/{pod.name}"
    yield "node", f"{record.node} of {record.cluster}" if record.cluster else record.node
    yield "began", quantities.moment(record.began_wall_ns)
    if record.ended_wall_ns is not None:
        yield "ended", quantities.moment(record.ended_wall_ns)
    yield "trace", report.trace_id


def result(report: Report) -> str:
    """``success``, ``failure (OutOfMemoryError)``, ``running``."""
    record = report.record
    if record.ended_wall_ns is None:
        return "running"
    return f"{record.result} ({record.error_type})" if record.error_type else record.result or "ended"


def figures(report: Report) -> Iterator[tuple[str, list[Row]]]:
    """The figures that are known, by what they are about."""
    for title, group in GROUPS.items():
        known = [
            (label, with_range(report, name))
            for name, (label, _) in group.items()
            if not isinstance(number := getattr(report.figures, name), Missing)
            and (number or name not in UNTOLD_AT_ZERO)
        ]
        if known:
            yield title, known


def shown(report: Report, name: str) -> str:
    """A figure as people read it, or why it is missing."""
    number = getattr(report.figures, name)
    if isinstance(number, Missing):
        return number.reason
    return _form(report, name, number)


def _form(report: Report, name: str, number: float) -> str:
    if name == "cost":
        return quantities.money(number, report.record.currency)
    (show,) = (group[name][1] for group in GROUPS.values() if name in group)
    return show(number)


def with_range(report: Report, name: str) -> str:
    """A figure and, where it has one, its range."""
    between = range_of(report, name)
    return f"{shown(report, name)} ({between})" if between else shown(report, name)


def range_of(report: Report, name: str) -> str:
    """``0.95 to 1.05 kWh``; empty where there is none."""
    between = getattr(report.ranges, name, None)
    if not isinstance(between, Range):
        return ""
    low, high = (_form(report, name, edge) for edge in (between.low, between.high))
    if low == high:
        return ""
    number, _, unit = low.rpartition(" ")
    return f"{number if number and high.endswith(f' {unit}') else low} to {high}"


def sci(report: Report) -> list[Row]:
    """Grams per functional unit; called SCI only where no term is missing."""
    return [
        (
            f"SCI, per {each.unit}" if each.conforms else f"per {each.unit}",
            quantities.mass(each.grams_per_unit) if each.conforms else _incomplete(each),
        )
        for each in report.sci
    ]


def _incomplete(sci: Sci) -> str:
    terms = ", ".join(term.partition(":")[0] for term in sci.missing)
    return f"{quantities.mass(sci.grams_per_unit)} operational only, not SCI ({terms} missing)"


PRICED_BY: Final = ("provider", "grid zone", "figures", "energy", "of the run", "intensity", "CO2e")
"""Head of the table of who priced what."""


def priced_by(report: Report) -> list[tuple[str, ...]]:
    """Who priced which part of the energy, and what nobody has priced."""
    rows: list[tuple[str, ...]] = [
        (
            each.provider or "not kept",
            each.grid_zone,
            ", ".join(
                word
                for word in (
                    each.signal,
                    each.basis,
                    "estimated" if each.estimated else "",
                    f"{quantities.percent(each.held_ratio)} held" if each.held_ratio else "",
                )
                if word
            ),
            quantities.energy(each.energy_joules),
            quantities.percent(each.energy_ratio),
            f"{quantities.figure(each.intensity_grams_per_kwh)} g/kWh",
            quantities.mass(each.co2e_grams),
        )
        for each in report.priced_by
    ]
    unpriced_j, all_j = report.figures.unpriced_energy_joules, report.figures.energy_joules
    if rows and unpriced_j and not isinstance(all_j, Missing):
        share = quantities.percent(unpriced_j / all_j)
        rows.append(("nobody", "", "unpriced", quantities.energy(unpriced_j), share, "-", "-"))
    return rows


def shown_or_dash(report: Report, name: str) -> str:
    """A figure as people read it in a column, where there is no room for reasons."""
    return "-" if isinstance(getattr(report.figures, name), Missing) else shown(report, name)


def missing(report: Report) -> list[Row]:
    """The figures that nobody has, together where they are missing for the same reason, and the reason."""
    by_reason: dict[str, list[str]] = {}
    for group in GROUPS.values():
        for name, (label, _) in group.items():
            number = getattr(report.figures, name)
            if isinstance(number, Missing):
                by_reason.setdefault(number.reason, []).append(_FULL_LABELS.get(name, label))
    return [(", ".join(labels), reason) for reason, labels in by_reason.items()]


_FULL_LABELS: Final[Mapping[str, str]] = {
    "gpu_energy_joules": "GPU energy",
    "gpu_energy_uncertainty_ratio": "its uncertainty",
    "cpu_energy_joules": "CPU energy",
    "dram_energy_joules": "DRAM energy",
    "facility_energy_kwh": "energy at the facility's meter",
    "budget_used_ratio": "use of the budget",
}
"""Labels that say nothing without the line above them."""
