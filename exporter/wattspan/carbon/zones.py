"""How ENTSO-E and EIA call a grid zone, from ``tables/zones.csv``; read anew at each look-up and dropped.

Only names that are sure stand there. For all others the operator sets the provider's own zone.
"""

import csv
from importlib.resources import files


def bidding_zone_of(zone: str) -> str | None:
    """The Energy Identification Code of ENTSO-E's bidding zone for a grid zone; None where it is not known.

    A country of several bidding zones (Italy, Norway, Sweden, Denmark) has none.
    """
    return _find(zone, "entsoe_eic")


def balancing_authority_of(zone: str) -> str | None:
    """EIA's code of the balancing authority for a grid zone; None where it is not known."""
    return _find(zone, "eia_balancing_authority")


def _find(zone: str, column: str) -> str | None:
    wanted = zone.strip().upper()
    table = files("wattspan.carbon") / "tables" / "zones.csv"
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        if row["zone"] == wanted:
            return row[column] or None
    return None
