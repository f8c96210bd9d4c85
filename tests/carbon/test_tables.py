"""The carried tables: what may stand in them, and how they are asked."""

import csv
import re
import tracemalloc
from collections import Counter
from importlib.resources import files

import pytest

from wattspan.carbon.countries import ATTRIBUTION, BASIS, WORLD, countries, find_country, near_countries
from wattspan.carbon.regions import find_region, near_regions, regions

TABLES = files("wattspan.carbon") / "tables"

WITHOUT_A_FIGURE = {"CF", "EH"}
WITH_CAUTION = {"FK", "LS", "MS", "SH", "TM", "UA", "UZ"}


def test_every_figure_without_caution_is_plausible_and_recent() -> None:
    """A figure that nobody is warned of is above 0, at most 1100 g/kWh, and of 2023 or later."""
    sound = [country for country in countries() if not country.caution]
    assert len(sound) > 200
    for country in sound:
        assert country.g_per_kwh is not None
        assert 0 < country.g_per_kwh <= 1100, country
        assert country.year >= 2023, country


def test_doubtful_rows_are_known_by_name() -> None:
    """The rows with caution and the rows without a figure are exactly the ones that were decided on."""
    doubtful = [country for country in countries() if country.caution]
    assert {country.zone for country in doubtful if country.g_per_kwh is None} == WITHOUT_A_FIGURE
    assert {country.zone for country in doubtful if country.g_per_kwh is not None} == WITH_CAUTION


def test_codes_are_unique_and_have_their_shape() -> None:
    """No code stands for two rows, and all but the two aggregates are alpha-2 codes."""
    codes = Counter(code for country in countries() for code in {country.zone, country.iso3})
    assert [code for code, times in codes.items() if times > 1] == []
    words = [country.zone for country in countries() if not re.fullmatch("[A-Z]{2}", country.zone)]
    assert words == ["EU27", WORLD]
    assert len(list(countries())) == 214 + len(words)


def test_every_row_states_basis_and_source() -> None:
    """The table holds one basis and one source, which its README explains and its attribution names."""
    with TABLES.joinpath("countries.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert {(row["basis"], row["source"]) for row in rows} == {(BASIS, "ember-2026")}
    readme = TABLES.joinpath("README.md").read_text(encoding="utf-8")
    assert ATTRIBUTION in readme
    assert "`ember-2026`" in readme
    assert all(zone.name in readme for zone in countries() if zone.caution)


@pytest.mark.parametrize(
    ("zone", "rounded", "year"),
    [
        ("FR", 41, 2025),
        ("NO", 28, 2025),
        ("SE", 35, 2025),
        ("GB", 217, 2025),
        ("DE", 330, 2025),
        ("US", 384, 2025),
        ("JP", 477, 2025),
        ("CN", 525, 2025),
        ("PL", 589, 2025),
        ("IN", 670, 2025),
        (WORLD, 458, 2025),
    ],
)
def test_known_figures(zone: str, rounded: int, year: int) -> None:
    """Figures that Ember and Our World in Data publish in prose are the ones in the table."""
    country = find_country(zone)
    assert country is not None
    assert country.g_per_kwh is not None
    assert (round(country.g_per_kwh), country.year) == (rounded, year)


@pytest.mark.parametrize(
    ("written", "zone"),
    [
        ("fr", "FR"),
        ("FRA", "FR"),
        (" fra ", "FR"),
        ("xk", "XK"),
        ("XKX", "XK"),
        ("UK", "GB"),
        ("eu", "EU27"),
        ("world", WORLD),
        ("WLD", WORLD),
        ("US-CAL-CISO", "US"),
        ("es-cn-fvlz", "ES"),
        ("DK-DK1", "DK"),
        ("RU-2", "RU"),
    ],
)
def test_a_zone_is_found_however_it_is_written(written: str, zone: str) -> None:
    """Case, blanks, alpha-3, reserved codes and zones within a country all lead to the country's row."""
    country = find_country(written)
    assert country is not None
    assert country.zone == zone


@pytest.mark.parametrize(
    "word",
    [
        "",
        "QQ",
        "EU-WEST-3",
        "me-south-9",
        "me-central9",
        "us-east9",
        "FR-",
        "-FR",
        "FR--X",
        "FRANCE",
    ],
)
def test_what_is_no_zone_is_not_found(word: str) -> None:
    """Unknown codes, broken zones and the shapes of cloud regions belong to no country."""
    assert find_country(word) is None


def test_no_cloud_region_passes_for_a_zone() -> None:
    """A region that the table does not have yet is never priced as the country its first letters spell."""
    assert [region.name for region in regions() if find_country(region.name)] == []


def test_every_region_lies_in_a_country_with_a_figure_and_in_a_zone_of_it() -> None:
    """A region's country has a usable figure, and its grid zone belongs to that country."""
    for region in regions():
        country, by_zone = find_country(region.country), find_country(region.zone)
        assert country is not None, region
        assert country.g_per_kwh is not None, region
        assert by_zone == country, region


def test_regions_are_unique() -> None:
    """A region's name without a provider means one region."""
    assert max(Counter(region.name for region in regions()).values()) == 1
    assert Counter(region.provider for region in regions()) == {"aws": 41, "gcp": 44, "azure": 56}


def test_published_regional_figures_keep_their_basis() -> None:
    """A provider's own figure always states its basis and year, and none claims to be lifecycle."""
    with TABLES.joinpath("regions.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            assert bool(row["published_g_co2e_per_kwh"]) == bool(row["published_basis"]), row
            assert row["published_basis"] in {"", "direct"}, row
            assert bool(row["year"]) or not (row["published_g_co2e_per_kwh"] or row["pue"]), row


def test_every_source_of_a_region_is_explained() -> None:
    """The README explains each source that a row names."""
    readme = TABLES.joinpath("README.md").read_text(encoding="utf-8")
    with TABLES.joinpath("regions.csv").open(encoding="utf-8") as table:
        sources = {source for row in csv.DictReader(table) for source in row["source"].split("+")}
    assert sources == {source for source in sources if f"`{source}`" in readme}


@pytest.mark.parametrize(
    ("written", "country"),
    [
        ("eu-west-3", "FR"),
        ("EU-WEST-3", "FR"),
        ("aws:eu-west-3", "FR"),
        ("europe-west9", "FR"),
        ("gcp:europe-west9", "FR"),
        ("francecentral", "FR"),
        ("France Central", "FR"),
        ("azure:westeurope", "NL"),
    ],
)
def test_a_region_is_found_however_it_is_written(written: str, country: str) -> None:
    """Case, a provider before a colon and Azure's display names lead to the region."""
    region = find_region(written)
    assert region is not None
    assert region.country == country


def test_a_provider_narrows_the_search() -> None:
    """A region of another provider is not found when the provider is given."""
    assert find_region("eu-west-3", "aws")
    assert find_region("eu-west-3", "gcp") is None
    assert find_region("gcp:eu-west-3") is None


def test_near_matches_are_few_and_come_nearest_first() -> None:
    """A slip of the pen is answered with what was probably meant, each once."""
    assert near_countries("Germny") == ["DE (Germany)"]
    assert near_countries("swedn")[0] == "SE (Sweden)"
    assert near_regions("eu-west3")[0] == "aws:eu-west-3"
    assert near_regions("europe-west9-a")[0] == "gcp:europe-west9"
    assert near_regions("xyzzy") == []
    assert len(near_countries("XX")) <= 4


def test_a_look_up_keeps_no_table_in_memory() -> None:
    """What stays after a look-up is the one row, not the table."""
    find_country("FR")  # imports and caches of the standard library are not the table
    find_region("eu-west-3")
    tracemalloc.start()
    try:
        kept = (find_country("ZW"), find_region("westus3"))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(kept)
    assert held_bytes < 4096
