"""How services call grid zones."""

import csv
import re
from importlib.resources import files

import pytest

from wattspan.carbon.countries import find_country
from wattspan.carbon.regions import regions
from wattspan.carbon.zones import balancing_authority_of, bidding_zone_of

TABLE = files("wattspan.carbon") / "tables" / "zones.csv"
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"


def check_character(code: str) -> str:
    """Of an Energy Identification Code: ENTSO-E, EIC Reference Manual: weights 16 to 2, modulo 37."""
    total = sum(DIGITS.index(character) * (16 - place) for place, character in enumerate(code[:15]))
    return DIGITS[36 - (total - 1) % 37]


def test_codes_have_their_check_character() -> None:
    """Every Energy Identification Code ends with the character that the others come to; a slip would not."""
    codes = [row["entsoe_eic"] for row in ROWS if row["entsoe_eic"]]
    assert len(codes) > 40
    for code in codes:
        assert re.fullmatch(r"10Y[A-Z0-9-]{13}", code)
        assert check_character(code) == code[15]
    assert check_character("10YRFR-TE------C") != "C"


def test_zones_stand_once_and_are_places() -> None:
    """No zone stands twice; each is of a country that the tables know, and has one of the two names."""
    zones = [row["zone"] for row in ROWS]
    assert len(zones) == len(set(zones))
    for row in ROWS:
        assert find_country(row["zone"]) is not None
        assert bool(row["entsoe_eic"]) != bool(row["eia_balancing_authority"])
        assert bool(row["eia_balancing_authority"]) == row["zone"].startswith("US-")


def test_balancing_authorities_end_their_zones() -> None:
    """Zones of the United States end with their authority's code."""
    for row in ROWS:
        if row["eia_balancing_authority"]:
            assert row["zone"].endswith(f"-{row['eia_balancing_authority']}")


def test_clouds_in_the_united_states_are_covered() -> None:
    """Each cloud region whose grid zone is of the United States has a balancing authority."""
    zones = {region.zone for region in regions() if region.zone.startswith("US-")}
    assert zones
    assert all(balancing_authority_of(zone) for zone in zones)


@pytest.mark.parametrize(
    ("zone", "code"),
    [
        ("FR", "10YFR-RTE------C"),
        (" fr ", "10YFR-RTE------C"),
        ("SE-SE3", "10Y1001A1001A46L"),
        ("SE", None),
        ("GB", None),
        ("US-CAL-CISO", None),
        ("WORLD", None),
        ("", None),
    ],
)
def test_bidding_zones(zone: str, code: str | None) -> None:
    """A zone has its bidding zone's code; a country of several, and one that ENTSO-E lacks, has none."""
    assert bidding_zone_of(zone) == code


@pytest.mark.parametrize(("zone", "code"), [("US-TEX-ERCO", "ERCO"), ("US", None), ("FR", None)])
def test_balancing_authorities(zone: str, code: str | None) -> None:
    """A zone has its balancing authority's code, the country as a whole none."""
    assert balancing_authority_of(zone) == code
