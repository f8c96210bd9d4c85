"""From what was generated to grams per kilowatt-hour, by the factors of ``tables/fuels.csv``. Pure but for
the table.

intensity = sum(MW x factor) / sum(MW), over the generation whose fuel has a factor.
Storage is no generation: what it gives back was counted when it was generated. Negative figures are plants'
own use and count as nothing.
"""

import csv
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal

from wattspan.model import Basis

MAX_UNKNOWN_RATIO: Final = 0.05
"""So much of the generation may be of unknown emissions: waste and `other` are 2 to 4 % of a usual grid.
Whatever they emit, 5 % of them shift a mean of 300 g/kWh by at most 12 % (at 1000 g/kWh); beyond that a
figure is none."""

ORIGIN: Final = "generation by fuel times IPCC AR5 factors"

Codes = Literal["entsoe", "eia"]
"""Whose names of fuels: ENTSO-E's PSR types, or EIA's fuel types."""

_COLUMNS: Final[Mapping[Codes, str]] = {"entsoe": "entsoe_psr_types", "eia": "eia_fueltypes"}
_FACTORS: Final[Mapping[Basis, str]] = {
    "lifecycle": "lifecycle_g_co2e_per_kwh",
    "direct": "direct_g_co2_per_kwh",
}
_STORAGE: Final = "storage"


@dataclass(frozen=True, slots=True)
class Factors:
    """What each fuel emits.

    Attributes:
        g_per_kwh: by a code of the fuel; a code that is missing has no factor in this basis.
        storage: codes of what stores and does not generate.
    """

    g_per_kwh: Mapping[str, float]
    storage: frozenset[str]

    def intensity(
        self, generation: Mapping[str, float], silent: Mapping[str, float] | None = None
    ) -> float | None:
        """Grams per kWh of a mix; None where more than `MAX_UNKNOWN_RATIO` of it is of unknown emissions, or
        where nothing was generated.

        Args:
            generation: megawatts, or megawatt-hours in the same time, by the fuel's code.
            silent: likewise, what may be missing: of fuels that nothing is said of.
        """
        grams, known = 0.0, 0.0
        unknown = sum(max(amount, 0.0) for code, amount in (silent or {}).items() if code not in self.storage)
        for code, amount in generation.items():
            if amount <= 0 or code in self.storage:
                continue
            factor = self.g_per_kwh.get(code)
            if factor is None:
                unknown += amount
            else:
                known += amount
                grams += amount * factor
        if known <= 0 or unknown > MAX_UNKNOWN_RATIO * (known + unknown):
            return None
        return grams / known


def factors(codes: Codes, basis: Basis) -> Factors:
    """The factors of a basis, by somebody's names of the fuels; the table is read anew each time."""
    g_per_kwh: dict[str, float] = {}
    storage: set[str] = set()
    table = files("wattspan.carbon") / "tables" / "fuels.csv"
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        names = [name for name in row[_COLUMNS[codes]].split(";") if name]
        if row["fuel"] == _STORAGE:
            storage.update(names)
        elif row[_FACTORS[basis]]:
            g_per_kwh |= dict.fromkeys(names, float(row[_FACTORS[basis]]))
    return Factors(g_per_kwh, frozenset(storage))


def by_moment(series: Mapping[str, Mapping[int, float]], factors: Factors) -> dict[int, float]:
    """Grams per kWh by moment, past to future; a moment without enough known of it is left out.

    Args:
        series: amounts by moment, by the fuel's code. A fuel that says nothing of a moment counts there as
            unknown, with what it gave last before or first after, whichever is more: gas that is late is
            missed, the sun at night is not.
        factors: of the fuels.
    """
    moments = {code: sorted(amounts) for code, amounts in series.items()}
    result = {}
    for moment in sorted({moment for amounts in series.values() for moment in amounts}):
        said, silent = {}, {}
        for code, amounts in series.items():
            if moment in amounts:
                said[code] = amounts[moment]
            elif amounts:
                index = bisect(moments[code], moment)
                silent[code] = max(amounts[near] for near in moments[code][max(0, index - 1) : index + 1])
        figure = factors.intensity(said, silent)
        if figure is not None:
            result[moment] = figure
    return result
