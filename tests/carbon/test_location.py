"""Where am I: settings first, hints next, the world last; what is wrong stops the start."""

import pytest

from wattspan.carbon.cloud import Told
from wattspan.carbon.countries import WORLD
from wattspan.carbon.location import HINTS, locate
from wattspan.carbon.regions import find_region
from wattspan.errors import SetupError

NOWHERE: dict[str, str] = {}


@pytest.mark.parametrize(
    ("zone", "found"),
    [
        ("FR", "FR"),
        ("fra", "FR"),
        ("XK", "XK"),
        ("uk", "GB"),
        ("US-CAL-CISO", "US-CAL-CISO"),
        ("us-cal-ciso", "US-CAL-CISO"),
        ("CF", "CF"),
        ("world", WORLD),
    ],
)
def test_a_configured_zone_is_kept_as_fine_as_it_was_given(zone: str, found: str) -> None:
    """grid.zone is normalised, and a zone within a country stays that zone for sources that know it."""
    location = locate(zone, None, NOWHERE)
    assert (location.zone, location.configured) == (found, True)
    assert found in location.how


@pytest.mark.parametrize(
    ("region", "zone"),
    [
        ("eu-west-3", "FR"),
        ("us-west-1", "US-CAL-CISO"),
        ("gcp:europe-west9", "FR"),
        ("France Central", "FR"),
        ("northcentralus", "US"),  # Illinois spans two balancing areas: the country is all that is sure
    ],
)
def test_a_configured_region_leads_to_its_grid_zone(region: str, zone: str) -> None:
    """grid.region gives the zone that feeds the region, or its country where that is not settled."""
    location = locate(None, region, NOWHERE)
    assert (location.zone, location.configured) == (zone, True)


def test_a_zone_refines_a_region() -> None:
    """With both set, the zone counts, since an operator sets it where the region's table is not sure."""
    assert locate("US-MIDA-PJM", "northcentralus", NOWHERE).zone == "US-MIDA-PJM"


def test_a_zone_and_a_region_of_two_countries_stop_the_start() -> None:
    """A pair that cannot both be true is refused, and both settings are named."""
    with pytest.raises(SetupError, match=r"grid\.zone: 'FR'.*grid\.region is aws:us-east-1.*allowed"):
        locate("FR", "us-east-1", NOWHERE)


def test_settings_go_before_hints() -> None:
    """A hint never overrules what somebody has set."""
    hints = {"AWS_REGION": "us-east-1"}
    assert locate("FR", None, hints).zone == "FR"
    assert locate(None, "eu-north-1", hints).zone == "SE"


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("Germny", "DE (Germany)"),
        ("FRR", "FR (France)"),
        ("eu-west-33", "grid.region aws:eu-west-3"),
        ("US_CAL", "allowed: a country (FR, FRA), a grid zone (US-CAL-CISO) or WORLD"),
    ],
)
def test_an_unknown_zone_stops_the_start_and_names_near_ones(zone: str, meant: str) -> None:
    """The error names the key, the value, what is allowed and what was probably meant."""
    with pytest.raises(SetupError) as stopped:
        locate(zone, None, {"AWS_REGION": "eu-west-3"})
    assert str(stopped.value).startswith(f"grid.zone: {zone!r} is unknown; allowed: ")
    assert meant in str(stopped.value)


def test_a_region_given_as_zone_is_told_where_it_belongs() -> None:
    """A known cloud region under grid.zone is an error that points to grid.region."""
    with pytest.raises(SetupError, match=r"grid\.zone: 'eu-west-3' is a cloud region; .*use grid\.region"):
        locate("eu-west-3", None, NOWHERE)


@pytest.mark.parametrize(
    ("region", "meant"),
    [("eu-west3", "aws:eu-west-3"), ("gcp:eu-west-3", "aws:eu-west-3"), ("moon", "grid.zone")],
)
def test_an_unknown_region_stops_the_start_and_names_near_ones(region: str, meant: str) -> None:
    """The error names the key, the value, what is allowed and what was probably meant."""
    with pytest.raises(SetupError) as stopped:
        locate(None, region, NOWHERE)
    assert str(stopped.value).startswith(f"grid.region: {region!r} is unknown; allowed: ")
    assert meant in str(stopped.value)


@pytest.mark.parametrize("variable", [variable for variable, _ in HINTS])
def test_every_hint_is_heard_and_named(variable: str) -> None:
    """Each variable of the table gives a location that counts as a hint and says where it came from."""
    regions = {"aws": "eu-west-3", "gcp": "europe-west9", "azure": "francecentral", "": "europe-west9"}
    location = locate(None, None, {variable: regions[dict(HINTS)[variable]]})
    assert (location.zone, location.configured) == ("FR", False)
    assert location.how.startswith(f"{variable} is ")


def test_the_first_hint_that_is_known_counts() -> None:
    """Empty and unknown hints are passed over for the next in order."""
    hints = {"WATTSPAN_NODE_REGION": "cellar", "AWS_REGION": "  ", "AWS_DEFAULT_REGION": "eu-north-1"}
    assert locate("", "", hints).zone == "SE"


def test_a_hint_means_its_own_cloud_only() -> None:
    """REGION_NAME is too common a word to be trusted with anything but a region of Azure."""
    assert locate(None, None, {"REGION_NAME": "eu-west-3"}).zone == WORLD
    assert locate(None, None, {"REGION_NAME": "France Central"}).zone == "FR"


def test_nothing_known_is_the_world_and_says_so() -> None:
    """Without setting or hint the location is the world, and its text says what to set."""
    location = locate(None, None, NOWHERE)
    assert (location.zone, location.configured, location.known) == (WORLD, False, False)
    assert "the world's mean is used; set grid.zone" in location.how


def test_an_unknown_hint_does_not_stop_the_start() -> None:
    """Somebody else's variable may hold anything: it is named, cut short and passed over."""
    location = locate(None, None, {"AWS_REGION": "local\nhost " + "x" * 500})
    assert location.zone == WORLD
    assert "AWS_REGION names no region that is known" in location.how
    assert "\n" not in location.how
    assert len(location.how) < 250


PARIS = find_region("eu-west-3")


def test_the_cloud_is_asked_before_hints_are_looked_at() -> None:
    """Its metadata service knows where this machine is; a variable may be about some other one."""
    location = locate(
        None, None, {"AWS_REGION": "eu-north-1"}, lambda: Told(PARIS, "the service of AWS says")
    )
    assert (location.zone, location.configured) == ("FR", False)
    assert location.how == "The service of AWS says aws:eu-west-3 in FR."


@pytest.mark.parametrize(("zone", "region"), [("SE", None), (None, "eu-north-1")])
def test_nobody_is_asked_where_somebody_has_set_it(zone: str | None, region: str | None) -> None:
    """A setting costs no question."""

    def never() -> Told:
        raise AssertionError("asked")

    assert locate(zone, region, NOWHERE, never).zone == "SE"


def test_a_cloud_that_did_not_say_leaves_the_hints() -> None:
    """They count as they would without it, and what became of the question is said."""
    silent = Told(None, "the metadata service of AWS did not answer")
    location = locate(None, None, {"AWS_REGION": "eu-north-1"}, lambda: silent)
    assert location.zone == "SE"
    assert location.how.startswith("AWS_REGION is aws:eu-north-1")
    assert location.how.endswith(" The metadata service of AWS did not answer.")
    assert locate(None, None, NOWHERE, lambda: silent).zone == WORLD
    assert locate(None, None, {"AWS_REGION": "eu-north-1"}, lambda: None).zone == "SE"


@pytest.mark.parametrize(
    ("environment", "told", "label", "named"),
    [
        ({"AWS_REGION": "eu-wset-3"}, None, "", "aws:eu-west-3"),
        ({"WATTSPAN_NODE_REGION": "europe-west99"}, None, "", "gcp:europe-west9"),
        ({}, None, "eu-north-9", "aws:eu-north-1"),
        (
            {},
            Told(None, "the service names no region that is known: 'eu-west-9'", unheard=True),
            "",
            "'eu-west-9'",
        ),
    ],
)
def test_a_region_that_the_table_lacks_is_worth_a_warning(
    environment: dict[str, str], told: Told | None, label: str, named: str
) -> None:
    """Whoever gave it: the world stands in, and the text names what is near it."""
    location = locate(None, None, environment, lambda: told, lambda: label)
    assert (location.zone, location.unheard) == (WORLD, True)
    assert named in location.how


def test_what_is_known_all_the_same_is_no_warning() -> None:
    """A later hint tells the place; without any there is nothing to warn of; a setting goes before all."""
    unheard = Told(None, "the service names no region that is known: 'eu-west-9'", unheard=True)
    for found in (
        locate(None, None, {"AWS_REGION": "eu-west-3"}, lambda: unheard),
        locate(None, None, {"WATTSPAN_NODE_REGION": "cellar", "AWS_REGION": "eu-west-3"}),
        locate("FR", None, {"AWS_REGION": "nowhere"}, lambda: unheard),
        locate(None, None, NOWHERE),
        locate(None, None, NOWHERE, lambda: Told(None, "the service did not answer")),
    ):
        assert not found.unheard


@pytest.mark.parametrize(
    ("zone", "region", "environment", "told", "known"),
    [
        (None, "gcp:europe-west9", NOWHERE, None, "europe-west9"),
        ("US-MIDA-PJM", "northcentralus", NOWHERE, None, "northcentralus"),
        (None, None, {"AWS_REGION": "eu-north-1"}, Told(PARIS, "AWS says"), "eu-west-3"),
        (None, None, {"AWS_REGION": "EU-North-1"}, None, "eu-north-1"),
        (None, None, {"WATTSPAN_NODE_REGION": "cellar"}, None, ""),
        ("FR", None, {"WATTSPAN_NODE_REGION": "eu-west-3"}, None, "eu-west-3"),
        ("FR", None, {"WATTSPAN_NODE_REGION": "eu-north-1"}, None, ""),
        ("FR", None, {"AWS_REGION": "eu-west-3"}, None, ""),
        ("FR", None, NOWHERE, None, ""),
    ],
)
def test_the_cloud_s_region_is_told_where_it_is_known(
    zone: str | None, region: str | None, environment: dict[str, str], told: Told | None, known: str
) -> None:
    """As the provider writes it; beside a zone that is set only the setting and the node's label count, the
    label where it agrees."""
    assert locate(zone, region, environment, lambda: told).region == known


def test_the_node_s_label_goes_before_other_hints() -> None:
    """It is asked for only where nobody has said more: not with a setting, metadata or the variable."""
    asked: list[None] = []

    def label() -> str:
        asked.append(None)
        return "eu-west-3"

    location = locate(None, None, {"AWS_REGION": "eu-north-1"}, None, label)
    assert (location.zone, location.configured, len(asked)) == ("FR", False, 1)
    assert location.how.startswith(
        "The node's label topology.kubernetes.io/region is aws:eu-west-3 in FR: a hint"
    )
    assert locate("DE", None, NOWHERE, None, label).zone == "DE"
    assert locate(None, "eu-north-1", NOWHERE, None, label).zone == "SE"
    assert locate(None, None, NOWHERE, lambda: Told(PARIS, "it says"), label).zone == "FR"
    assert locate(None, None, {"WATTSPAN_NODE_REGION": "eu-north-1"}, None, label).zone == "SE"
    assert len(asked) == 1
    assert locate(None, None, {"AWS_REGION": "eu-north-1"}, None, lambda: "").zone == "SE"
