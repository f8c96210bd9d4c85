"""Software Carbon Intensity of a run: SCI = (E x I + M) per R (ISO/IEC 21031:2024). Pure.

E is the energy of everything in the boundary with PUE, I the location-based intensity, M the embodied grams
of the reserved time and resources, R the functional unit.
No term may be left out: where one is missing the figure is "operational only", says which, and is no SCI.
Market-based figures never enter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from wattspan.report.figures import Missing, figures_of
from wattspan.runs import HOST, RunRecord

Unit = Literal["run", "step", "sample", "token"]

UNITS: Final[tuple[Unit, ...]] = get_args(Unit)
"""Functional units that a run can be told by."""

PUE_UNSET: Final = 1.0
"""What counts while nobody has set one; any other was set."""


@dataclass(frozen=True, slots=True)
class Sci:
    """Grams per functional unit, with what the standard asks to be told beside them.

    Attributes:
        unit: R is counted in these.
        grams_per_unit: (E x I + M) / R; without M where that is missing.
        units: R.
        energy_kwh: E, with PUE.
        intensity_grams_per_kwh: I, weighted by energy.
        operational_grams: E x I.
        embodied_grams: M; None when unknown.
        missing: the terms that are missing, each with its reason; empty for a conforming figure.
        boundary: what was counted.
        methodology: how.
    """

    unit: Unit
    grams_per_unit: float
    units: float
    energy_kwh: float
    intensity_grams_per_kwh: float
    operational_grams: float
    embodied_grams: float | None
    missing: tuple[str, ...]
    boundary: str
    methodology: str

    @property
    def conforms(self) -> bool:
        """Whether it may be called SCI."""
        return not self.missing


def sci_of(record: RunRecord, unit: Unit, now_wall_ns: int | None = None) -> Sci | Missing:
    """Of an attempt; missing where there is no energy, no intensity or no R.

    Args:
        record: the attempt.
        unit: which R.
        now_wall_ns: the wall clock, for a run that goes on; its begin where not given.
    """
    figures = figures_of(record, record.began_wall_ns if now_wall_ns is None else now_wall_ns)
    units = 1.0
    if unit != "run":
        per_unit = getattr(figures, f"joules_per_{unit}")
        if isinstance(per_unit, Missing):
            return per_unit
        units = float(getattr(figures, f"{unit}s"))
    energy_kwh, co2e_g = figures.facility_energy_kwh, figures.co2e_grams
    intensity = figures.mean_intensity_grams_per_kwh
    if isinstance(energy_kwh, Missing):
        return energy_kwh
    if isinstance(co2e_g, Missing):
        return co2e_g
    if isinstance(intensity, Missing):
        return intensity
    embodied = figures.embodied_co2e_grams
    embodied_g = None if isinstance(embodied, Missing) else embodied
    return Sci(
        unit=unit,
        grams_per_unit=(co2e_g + (embodied_g or 0.0)) / units,
        units=units,
        energy_kwh=energy_kwh,
        intensity_grams_per_kwh=intensity,
        operational_grams=co2e_g,
        embodied_grams=embodied_g,
        missing=tuple(_missing(record, unit, embodied)),
        boundary=_boundary(record),
        methodology=_methodology(record),
    )


def known(record: RunRecord, now_wall_ns: int | None = None) -> tuple[Sci, ...]:
    """Of every unit that there is an R of."""
    found = (sci_of(record, unit, now_wall_ns) for unit in UNITS)
    return tuple(sci for sci in found if not isinstance(sci, Missing))


def _missing(record: RunRecord, unit: Unit, embodied: float | Missing) -> Iterator[str]:
    if record.totals.mean_pue(record.pue) == PUE_UNSET and not record.pue_configured:
        yield (
            "E: PUE is not set (grid.pue)"
            if record.pue_configured is False
            else ("E: whether a PUE was set was not kept")
        )
    yield from _missing_of_embodied(record, embodied)
    if record.totals.unpriced_uj:
        yield "I: a part of the energy has no intensity"
    if unit == "run" and record.run.nodes_expected != 1:
        nodes = record.run.nodes_expected
        told = f"the run has {nodes} nodes" if nodes else "how many nodes the run has was not told"
        yield f"E: {told}, and this is one"


def _missing_of_embodied(record: RunRecord, embodied: float | Missing) -> Iterator[str]:
    if isinstance(embodied, Missing):
        yield f"M: {embodied.reason}"
    elif record.embodied_without is None:
        yield "M: whether the host is in it was not kept"
    else:
        for what in record.embodied_without:
            setting = "embodied.host-kg" if what == HOST else "embodied.gpu-kg"
            yield f"M: the {what or 'GPU without a model'} is not in it ({setting})"


def _boundary(record: RunRecord) -> str:
    names = {"gpu": "GPUs", "cpu": "CPU", "dram": "memory"}
    measured = {component for component, _ in record.totals.energy_uj}
    mean = record.totals.mean_pue(record.pue)
    pue = f"PUE {mean:g}" if record.pue_configured or mean != PUE_UNSET else "no PUE"
    inside = ", ".join(name for component, name in names.items() if component in measured)
    return (
        f"{inside} of node {record.node}, idle time of what was reserved included; {pue}; "
        "fans, power supplies, network and storage of the node are outside"
    )


def _methodology(record: RunRecord) -> str:
    signals = sorted({factor.signal for factor in record.factors if factor.signal}) or ["average"]
    return (
        "energy by counters of the hardware, each interval times the location-based "
        f"{' and '.join(signals)} intensity ({record.basis or 'unknown'} basis) in force; "
        "M by reserved time over expected life (ISO/IEC 21031:2024)"
    )
