"""A month's report as Markdown, CSV and JSON. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from wattspan.report import as_csv, as_markdown, quantities
from wattspan.report.period import SCHEMA, PeriodReport, Row
from wattspan.report.period_ranges import RowRanges
from wattspan.report.quantities import rfc3339
from wattspan.report.ranges import Range
from wattspan.units import J_PER_KWH

COMPONENTS: Final = ("gpu", "cpu", "dram")
BASES: Final = ("lifecycle", "direct")
REASONS: Final = ("idle_held", "failed", "repeated")

Cell = Callable[[Row], str]


def document(report: PeriodReport) -> dict[str, Any]:
    """The whole report as JSON has it. What nobody counted is null or not there."""
    gained = report.gained
    return {
        "schema": SCHEMA,
        "made_at": rfc3339(report.made_wall_ns),
        "wattspan_version": report.version,
        "period": gained.month,
        "from": rfc3339(gained.since_wall_ns),
        "until": rfc3339(gained.until_wall_ns),
        "by": report.by,
        "source": gained.where,
        "rows": [_members(row, gained.intensity_ratio) for row in report.rows],
        "total": _members(report.total, gained.intensity_ratio),
        "grid": [
            {"grid_zone": zone, "provider": provider, "signal": signal, "basis": basis, "ratio": ratio}
            for (zone, provider, signal, basis), ratio in gained.grid_shares.items()
        ],
        "estimated_ratio": gained.estimated_ratio,
        "intensity_uncertainty_ratio": gained.intensity_ratio,
        "statements": list(report.statements),
        "omissions": list(report.omissions),
        "sources": list(report.sources),
    }


def table(report: PeriodReport) -> str:
    """One row for each owner as CSV; ranges follow the costs, and the sources stand last."""
    currencies = sorted(report.total.cost)
    head = (
        *("schema", "period", "from", "until", "namespace", "project", "energy_joules", "energy_kwh"),
        *(f"{component}_energy_joules" for component in COMPONENTS),
        *(f"{basis}_operational_co2e_grams" for basis in BASES),
        *("embodied_co2e_grams", "market_co2e_grams", "water_liters", "gpu_seconds", "idle_gpu_seconds"),
        *(f"{reason}_wasted_energy_joules" for reason in REASONS),
        *(f"cost_{currency}" for currency in currencies),
        *(f"{name}_{edge}" for name in _ranged(currencies) for edge in ("low", "high")),
        "sources",
    )
    gained = report.gained
    rows = (
        (
            *(SCHEMA, gained.month, rfc3339(gained.since_wall_ns), rfc3339(gained.until_wall_ns)),
            *(row.namespace, row.project, row.all_joules, row.all_joules / J_PER_KWH),
            *(row.energy_joules.get(component) for component in COMPONENTS),
            *(row.operational_grams.get(basis) for basis in BASES),
            *(row.embodied_grams, row.market_grams, row.water_liters, row.gpu_seconds, row.idle_gpu_seconds),
            *(row.wasted_joules.get(reason) for reason in REASONS),
            *(row.cost.get(currency) for currency in currencies),
            *_edges(row.ranges(gained.intensity_ratio), currencies),
            "; ".join(report.sources),
        )
        for row in report.rows
    )
    return "".join(map(as_csv.line, (head, *rows)))


def markdown(report: PeriodReport) -> str:
    """The whole report, ending with a line end."""
    return "\n".join(_lines(report)) + "\n"


def _ranged(currencies: Iterable[str]) -> Iterator[str]:
    """The columns that have a range."""
    yield "energy_joules"
    yield from (f"{basis}_operational_co2e_grams" for basis in BASES)
    yield from ("embodied_co2e_grams", "market_co2e_grams", "water_liters")
    yield from (f"cost_{currency}" for currency in currencies)


def _edges(ranges: RowRanges, currencies: Iterable[str]) -> Iterator[float | None]:
    """Of each of `_ranged`, in that order."""
    for between in (
        ranges.energy_joules,
        *(ranges.operational_grams.get(basis) for basis in BASES),
        *(ranges.embodied_grams, ranges.market_grams, ranges.water_liters),
        *(ranges.cost.get(currency) for currency in currencies),
    ):
        yield from (None, None) if between is None else (between.low, between.high)


def _members(row: Row, intensity_ratio: float | None) -> dict[str, Any]:
    ranges = row.ranges(intensity_ratio)
    return {
        "namespace": row.namespace,
        "project": row.project,
        "energy_joules": row.all_joules,
        "energy_by_component_joules": row.energy_joules,
        "operational_co2e_grams": row.operational_grams,
        "embodied_co2e_grams": row.embodied_grams,
        "market_co2e_grams": row.market_grams,
        "water_liters": row.water_liters,
        "cost": row.cost,
        "gpu_seconds": row.gpu_seconds,
        "idle_gpu_seconds": row.idle_gpu_seconds,
        "wasted_energy_joules": row.wasted_joules,
        "wasted_cost": [
            {"reason": reason, "currency": currency, "amount": amount}
            for (reason, currency), amount in row.wasted_cost.items()
        ],
        "ranges": {
            "energy_joules": _range(ranges.energy_joules),
            "operational_co2e_grams": {
                basis: asdict(between) for basis, between in ranges.operational_grams.items()
            },
            "embodied_co2e_grams": _range(ranges.embodied_grams),
            "market_co2e_grams": _range(ranges.market_grams),
            "water_liters": _range(ranges.water_liters),
            "cost": {currency: asdict(between) for currency, between in ranges.cost.items()},
        },
    }


def _range(between: Range | None) -> dict[str, float] | None:
    return None if between is None else asdict(between)


def _lines(report: PeriodReport) -> Iterator[str]:
    gained, rows = report.gained, report.rows
    yield f"# Energy and carbon of {gained.month}, by {report.by}"
    yield ""
    yield f"{quantities.moment(gained.since_wall_ns)} to {quantities.moment(gained.until_wall_ns)}."
    if not rows:
        yield ""
        yield "Nobody used anything that was counted."
    for title, columns in _tables(report):
        if rows and columns:
            yield from ("", f"## {title}", "")
            yield from _table(report, columns)
    if rows:
        yield from _ranges(report)
    yield from _list("How it was made", report.statements)
    yield from _list("What is missing, and why", report.omissions)
    made = f"Made by wattspan {report.version} at {quantities.moment(report.made_wall_ns)}."
    yield from _list("Sources", (*report.sources, made))


def _ranges(report: PeriodReport) -> Iterator[str]:
    """Between what and what the sum of all rows lies."""
    total, ranges = report.total, report.total.ranges(report.gained.intensity_ratio)
    known: list[tuple[str, float | None, Range | None, Callable[[float], str]]] = [
        ("energy", total.all_joules, ranges.energy_joules, quantities.energy),
        *(
            (f"CO2e operational, {basis}", grams, ranges.operational_grams.get(basis), quantities.mass)
            for basis, grams in sorted(
                total.operational_grams.items(), key=lambda item: _order(BASES)(item[0])
            )
        ),
        ("CO2e embodied", total.embodied_grams, ranges.embodied_grams, quantities.mass),
        ("CO2e by contract", total.market_grams, ranges.market_grams, quantities.mass),
        ("water", total.water_liters, ranges.water_liters, _liters),
        *(
            (f"cost, {currency}", amount, ranges.cost.get(currency), _amount)
            for currency, amount in sorted(total.cost.items())
        ),
    ]
    cells = [
        (
            label,
            show(value),
            "not known" if between is None else f"{show(between.low)} to {show(between.high)}",
        )
        for label, value, between, show in known
        if value is not None
    ]
    yield from ("", "## Range of each total", "")
    yield from as_markdown.table(("figure", "all", "range"), cells)


def _tables(report: PeriodReport) -> Iterator[tuple[str, list[tuple[str, Cell]]]]:
    """Titles and columns; a column is left out where nobody has a figure."""
    total = report.total
    components = sorted(total.energy_joules, key=_order(COMPONENTS))
    bases = sorted(total.operational_grams, key=_order(BASES))
    carbon: list[tuple[str, Cell]] = [
        ("energy", lambda row: quantities.energy(row.all_joules)),
        *((component, _part("energy_joules", component, quantities.energy)) for component in components),
        *(
            (f"CO2e operational, {basis}", _part("operational_grams", basis, quantities.mass))
            for basis in bases
        ),
    ]
    if total.embodied_grams is not None:
        carbon.append(("CO2e embodied", _shown(lambda row: row.embodied_grams, quantities.mass)))
    if total.market_grams is not None:
        carbon.append(("CO2e by contract", _shown(lambda row: row.market_grams, quantities.mass)))
    if total.water_liters is not None:
        carbon.append(("water", _shown(lambda row: row.water_liters, _liters)))
    yield "Energy and carbon", carbon
    yield (
        "GPU time and cost",
        [
            ("GPU time", lambda row: quantities.gpu_time(row.gpu_seconds)),
            ("of it idle", lambda row: quantities.gpu_time(row.idle_gpu_seconds)),
            *((f"cost, {currency}", _part("cost", currency, _amount)) for currency in sorted(total.cost)),
        ],
    )
    reasons = sorted(total.wasted_joules, key=_order(REASONS))
    yield (
        "Energy that came to nothing",
        [(reason, _part("wasted_joules", reason, quantities.energy)) for reason in reasons],
    )


def _table(report: PeriodReport, columns: list[tuple[str, Cell]]) -> Iterator[str]:
    owner = {"project": ("project",), "namespace": ("namespace",), "owner": ("namespace", "project")}[
        report.by
    ]
    cells: list[tuple[str, ...]] = []
    for row in report.rows:
        names = [getattr(row, name) or "(none)" for name in owner]
        cells.append((*names, *(cell(row) for _, cell in columns)))
    blank = ("",) * (len(owner) - 1)
    cells.append(("all", *blank, *(cell(report.total) for _, cell in columns)))
    yield from as_markdown.table((*owner, *(label for label, _ in columns)), cells)


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    shown = [f"- {as_markdown.plain(line)}" for line in lines]
    if shown:
        yield from ("", f"## {title}", "", *shown)


def _part(name: str, key: str, show: Callable[[float], str]) -> Cell:
    """One of the row's sums."""
    return _shown(lambda row: getattr(row, name).get(key), show)


def _shown(value_of: Callable[[Row], float | None], show: Callable[[float], str]) -> Cell:
    def cell(row: Row) -> str:
        value = value_of(row)
        return "-" if value is None else show(value)

    return cell


def _order(known: tuple[str, ...]) -> Callable[[str], tuple[int, str]]:
    return lambda name: (known.index(name) if name in known else len(known), name)


def _amount(amount: float) -> str:
    return quantities.money(amount, "")


def _liters(liters: float) -> str:
    return f"{quantities.figure(liters)} l"
