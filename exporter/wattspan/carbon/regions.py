"""Where the regions of the clouds are, from ``tables/regions.csv``; read anew at each look-up and dropped."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Region:
    """One region of one cloud.

    Attributes:
        provider: ``aws``, ``gcp`` or ``azure``.
        name: as the provider writes it, such as ``eu-west-3``.
        country: ISO 3166-1 alpha-2, a row of the table of countries.
        zone: the grid zone that feeds it, or the country where the location alone does not settle it.
    """

    provider: str
    name: str
    country: str
    zone: str


def regions() -> Iterator[Region]:
    """Every row, one at a time."""
    table = files("wattspan.carbon") / "tables" / "regions.csv"
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        zone = row["electricity_maps_zone"] or row["country"]
        yield Region(provider=row["provider"], name=row["region"], country=row["country"], zone=zone)


def find_region(name: str, provider: str = "") -> Region | None:
    """The region of that name, or None.

    Args:
        name: in any case, with a provider before a colon or without: ``eu-west-3``, ``gcp:europe-west9``.
            Azure's display names (``West Europe``) are taken too: Azure Functions puts them into REGION_NAME,
            and Azure's own tools make the short name by dropping spaces and case
            (AzureAD/microsoft-authentication-library-for-dotnet, issue 2803).
        provider: look among this provider's regions only; empty for all.
    """
    wanted = _plain(name)
    for region in regions():
        if provider in ("", region.provider) and wanted in (region.name, f"{region.provider}:{region.name}"):
            return region
    return None


def near_regions(name: str) -> list[str]:
    """Regions that somebody who wrote this name may have meant, nearest first, as ``provider:region``."""
    meant: dict[str, str] = {}
    for region in regions():
        meant[region.name] = meant[f"{region.provider}:{region.name}"] = f"{region.provider}:{region.name}"
    near = get_close_matches(_plain(name), meant, n=4, cutoff=0.6)
    return list(dict.fromkeys(meant[word] for word in near))


def near_it(name: str, provider: str = "") -> str:
    """``; near it: aws:eu-west-1, aws:eu-west-2`` for a name that somebody else gave; empty without any.

    Args:
        name: that no region has.
        provider: name regions of this provider only; empty for all.
    """
    near = [region for region in near_regions(name) if region.startswith(provider)]
    return f"; near it: {', '.join(near)}" if near else ""


def _plain(name: str) -> str:
    """The name as the table writes it."""
    return "".join(name.split()).lower()
