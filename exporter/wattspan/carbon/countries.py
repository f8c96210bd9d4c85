"""The yearly intensity of each country, from ``tables/countries.csv``.

The table is read anew at each look-up and dropped: it is asked a few times at start and would otherwise
stay in memory for months.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Final

from wattspan.model import Basis

WORLD: Final = "WORLD"
"""The zone of the world's mean, used where no better place is known."""

BASIS: Final[Basis] = "lifecycle"
"""What every figure of the table counts; a test holds the table to it."""

ATTRIBUTION: Final = "Ember (2026), with major processing by Our World in Data. CC BY 4.0."
"""The licence asks for this line wherever one of the figures is shown."""

# Exceptionally reserved in ISO 3166-1 so that nobody else gets them, and what people write.
_RESERVED: Final = {"UK": "GB", "EU": "EU27"}

# A country, then the grid's own words, as Electricity Maps writes them: US-CAL-CISO, ES-CN-FVLZ, DK-DK1.
# Their second word is short and their third no bare number, so that a cloud's newest region, such as
# me-south-9 or me-central9, does not pass for a zone of Montenegro.
_SUBZONE: Final = re.compile(r"([A-Z]{2})-[A-Z0-9]{1,4}(?:-[A-Z][A-Z0-9]*)?")


@dataclass(frozen=True, slots=True)
class Country:
    """One row: a country, or an aggregate: the European Union or the world.

    Attributes:
        zone: ISO 3166-1 alpha-2, or the aggregate's word.
        iso3: ISO 3166-1 alpha-3, or the source's code of the aggregate.
        name: in English.
        g_per_kwh: lifecycle grams of CO2e per kilowatt-hour; None where the source's is not usable.
        year: that the figure is of.
        caution: why to doubt the row; empty for most.
    """

    zone: str
    iso3: str
    name: str
    g_per_kwh: float | None
    year: int
    caution: str


def countries() -> Iterator[Country]:
    """Every row, one at a time."""
    table = files("wattspan.carbon") / "tables" / "countries.csv"
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        yield Country(
            zone=row["zone"],
            iso3=row["iso3"],
            name=row["name"],
            g_per_kwh=float(row["g_co2e_per_kwh"]) if row["g_co2e_per_kwh"] else None,
            year=int(row["year"]),
            caution=row["caution"],
        )


def find_country(zone: str) -> Country | None:
    """The row that a zone belongs to, or None when there is none.

    Args:
        zone: in any case: an alpha-2 or alpha-3 code, ``UK``, ``EU``, an aggregate's word,
            or a zone within a country such as ``US-CAL-CISO``, which belongs to that country's row.
    """
    code = zone.strip().upper()
    code = _RESERVED.get(code, code)
    if within := _SUBZONE.fullmatch(code):
        code = within[1]
    return next((country for country in countries() if code in (country.zone, country.iso3)), None)


def near_countries(zone: str) -> list[str]:
    """Codes that somebody who wrote this zone may have meant, nearest first, with their names."""
    meant: dict[str, str] = {}
    for country in countries():
        for word in (country.zone, country.iso3, country.name.upper()):
            meant[word] = f"{country.zone} ({country.name})"
    near = get_close_matches(zone.strip().upper(), meant, n=4, cutoff=0.6)
    return list(dict.fromkeys(meant[word] for word in near))
