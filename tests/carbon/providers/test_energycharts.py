"""energycharts: Europe's quarter hours, measured and ahead."""

import pytest

from tests.fakes import grid_answers
from tests.fakes.grid_answers import Point, points
from tests.fakes.grid_service import GridService
from wattspan.carbon.feed import Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import Options
from wattspan.carbon.providers.energycharts import COUNTRIES, URL, EnergyCharts, provider
from wattspan.errors import FetchError, SetupError
from wattspan.units import NS_PER_S

NOW_S = 1_774_780_500  # 2026-03-29T10:35:00Z
NOW_NS = NOW_S * NS_PER_S
QUARTER_S = 900
BEGIN_S = NOW_S - NOW_S % QUARTER_S


def made(service: GridService, zone: str = "DE", own_zone: str = "") -> EnergyCharts:
    """The provider, pointed at the service."""
    return provider(Http(), Options(zone=zone, own_zone=own_zone, url=service.url))


def test_measured_then_forecast(service: GridService) -> None:
    """Measured where it is known, else forecast as an estimate; trailing nulls are left out."""
    rows = [
        Point(BEGIN_S - QUARTER_S, 310.4, None),
        Point(BEGIN_S, 305, 320),
        Point(BEGIN_S + QUARTER_S, None, 300.5),
        Point(BEGIN_S + 2 * QUARTER_S, None, None),
        Point(BEGIN_S + 3 * QUARTER_S, None, 290),
        Point(BEGIN_S + 4 * QUARTER_S, None, None),
    ]
    service.says_json("/co2eq", grid_answers.energycharts(rows))
    figures = made(service).intensities(NOW_NS)
    assert [(f.g_per_kwh, f.estimated) for f in figures] == [
        (310.4, False),
        (305, False),
        (300.5, True),
        (290, True),
    ]
    # The quarter hour without any figure stays a gap.
    assert figures[2].valid_until_wall_ns == (BEGIN_S + 2 * QUARTER_S) * NS_PER_S
    assert figures[3].valid_from_wall_ns == (BEGIN_S + 3 * QUARTER_S) * NS_PER_S
    assert service.first.query == {"country": "de"}


def test_zero_is_not_yet_counted(service: GridService) -> None:
    """No grid is without emissions over the life cycle of its plants: a zero counts as null, measured or
    forecast, and does not fail the answer."""
    rows = [
        Point(BEGIN_S, 300, 300),
        Point(BEGIN_S + QUARTER_S, 0, 280),
        Point(BEGIN_S + 2 * QUARTER_S, 0.0, 0),
        Point(BEGIN_S + 3 * QUARTER_S, None, 0),
    ]
    service.says_json("/co2eq", grid_answers.energycharts(rows))
    figures = made(service).intensities(NOW_NS)
    assert [(f.g_per_kwh, f.estimated) for f in figures] == [(300, False), (280, True)]


def test_nulls_throughout_are_no_answer(service: GridService) -> None:
    """A country for which nothing is known gives no figure."""
    service.says_json("/co2eq", grid_answers.energycharts(points(BEGIN_S, 15, None, None)))
    assert made(service).intensities(NOW_NS) == ()


def test_a_country_without_forecasts_has_what_is_measured(service: GridService) -> None:
    """The array of forecasts may be missing or null."""
    document = grid_answers.energycharts(points(BEGIN_S, 15, 300))
    del document["co2eq_forecast"]
    service.says_json("/co2eq", document)
    assert len(made(service).intensities(NOW_NS)) == 1
    service.says_json("/co2eq", document | {"co2eq_forecast": None})
    assert len(made(service).intensities(NOW_NS)) == 1


@pytest.mark.parametrize("minutes", [15, 30, 60])
def test_figures_hold_as_long_as_the_country_has_it(service: GridService, minutes: int) -> None:
    """Some countries have hours: each figure holds until the next begins, the last as long as the one before;
    none for more than an hour."""
    rows = points(BEGIN_S - BEGIN_S % 3600, minutes, 1, 2, 3)
    service.says_json("/co2eq", grid_answers.energycharts(rows))
    for figure in made(service).intensities(NOW_NS):
        length_ns = (figure.valid_until_wall_ns or 0) - (figure.valid_from_wall_ns or 0)
        assert length_ns == minutes * 60 * NS_PER_S
    service.says_json("/co2eq", grid_answers.energycharts([Point(BEGIN_S, 1), Point(BEGIN_S + 7200, 2)]))
    first, last = made(service).intensities(NOW_NS)
    assert first.valid_until_wall_ns == (BEGIN_S + 3600) * NS_PER_S
    assert last.valid_until_wall_ns == (BEGIN_S + 7200 + 3600) * NS_PER_S
    service.says_json("/co2eq", grid_answers.energycharts([Point(BEGIN_S, 1)]))
    (only,) = made(service).intensities(NOW_NS)
    assert only.valid_until_wall_ns == (BEGIN_S + QUARTER_S) * NS_PER_S


@pytest.mark.parametrize(
    "change",
    [
        {"co2eq": [1, 2]},
        {"co2eq_forecast": [1]},
        {"unix_seconds": [BEGIN_S]},
        {"unix_seconds": [BEGIN_S, BEGIN_S + 0.5, BEGIN_S + 1]},
        {"unix_seconds": [BEGIN_S, None, BEGIN_S + 1]},
        {"unix_seconds": [BEGIN_S, True, BEGIN_S + 1]},
        {"unix_seconds": [BEGIN_S, str(BEGIN_S + 900), BEGIN_S + 1]},
        {"unix_seconds": [BEGIN_S, BEGIN_S + 900, BEGIN_S + 900]},
        {"unix_seconds": [BEGIN_S, BEGIN_S + 900, BEGIN_S]},
        {"unix_seconds": None},
    ],
)
def test_arrays_that_do_not_match_are_malformed(service: GridService, change: dict[str, object]) -> None:
    """Arrays of different lengths, or times that are none or go back, fail the whole answer."""
    service.says_json("/co2eq", grid_answers.energycharts(points(BEGIN_S, 15, 1, 2, 3)) | change)
    asked = made(service)
    manners = Manners(asked.name, "", asked.resolution_ns, asked.floor_ns, asked.hold_ns)
    with pytest.raises(FetchError) as caught:
        checked(asked.intensities(NOW_NS), manners, NOW_NS)
    assert caught.value.reason == "malformed"


def test_the_end_of_the_service_is_said_once(service: GridService, caplog: pytest.LogCaptureFixture) -> None:
    """`deprecated` is one line in the log of a process; figures go on."""
    asked = made(service)
    for deprecated, lines in ((False, 0), (True, 1), (True, 1)):
        service.says_json("/co2eq", grid_answers.energycharts(points(BEGIN_S, 15, 1), deprecated))
        assert asked.intensities(NOW_NS)
        assert len(caplog.records) == lines
    assert "energycharts" in caplog.text


@pytest.mark.parametrize(
    ("zone", "own_zone", "country"),
    [
        ("DE", "", "de"),
        ("GB", "", "uk"),
        ("GB-NIR", "", "nie"),
        ("DK-DK1", "", "dk"),
        ("EU27", "", "eu"),
        ("DE", "FR", "fr"),
        ("US", "nie", "nie"),
    ],
)
def test_countries_have_the_services_words(
    service: GridService, zone: str, own_zone: str, country: str
) -> None:
    """The node's zone is translated; what the setting says goes before it; the label stays the zone's."""
    service.says_json("/co2eq", grid_answers.energycharts(points(BEGIN_S, 15, 1)))
    (figure,) = made(service, zone, own_zone).intensities(NOW_NS)
    assert service.first.query == {"country": country}
    assert figure.grid_zone == zone
    assert country in COUNTRIES


@pytest.mark.parametrize(("zone", "own_zone"), [("US", ""), ("US-CAL-CISO", ""), ("DE", "germany")])
def test_other_countries_are_an_error_at_start(service: GridService, zone: str, own_zone: str) -> None:
    """A place that the service does not have is said with those that it has."""
    with pytest.raises(SetupError, match=rf"{own_zone or zone}.*allowed with it: al, am, .*\buk\b"):
        made(service, zone, own_zone)


def test_without_a_url_it_asks_the_service_itself() -> None:
    """The usual place is HTTPS."""
    assert provider(Http(), Options(zone="DE"))._url == URL
    assert URL.startswith("https://")
