"""eco2mix: France as measured."""

from zoneinfo import ZoneInfo

import pytest

from tests.fakes import grid_answers
from tests.fakes.grid_answers import points
from tests.fakes.grid_service import GridService
from wattspan.carbon.feed import Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import Options
from wattspan.carbon.providers.eco2mix import PATH, URL, Eco2mix, provider
from wattspan.errors import FetchError, SetupError
from wattspan.units import NS_PER_S

NOW_S = 1_774_780_500  # 2026-03-29T10:35:00Z
NOW_NS = NOW_S * NS_PER_S
QUARTER_S = 900
BEGIN_S = NOW_S - NOW_S % QUARTER_S


def made(service: GridService, zone: str = "FR") -> Eco2mix:
    """The provider, pointed at the service."""
    return provider(Http(), Options(zone=zone, url=service.url))


def test_it_asks_for_what_is_measured_newest_first(service: GridService) -> None:
    """Rows ahead of now, which are null, are not even asked for; figures are measured and direct."""
    service.says_json(PATH, grid_answers.eco2mix(points(BEGIN_S - QUARTER_S, 15, 21, 19)))
    figures = made(service).intensities(NOW_NS)
    assert [(f.g_per_kwh, f.estimated, f.basis) for f in figures] == [
        (21, False, "direct"),
        (19, False, "direct"),
    ]
    query = service.first.query
    assert query["where"] == "taux_co2 is not null"
    assert query["order_by"] == "date_heure desc"
    assert query["limit"] == "100"


@pytest.mark.parametrize("zone", ["Europe/Paris", "UTC", "Asia/Kathmandu"])
def test_times_are_read_with_their_offset(service: GridService, zone: str) -> None:
    """Whatever offset the service writes, the moment is the same."""
    service.says_json(PATH, grid_answers.eco2mix(points(BEGIN_S, 15, 20), ZoneInfo(zone)))
    (figure,) = made(service).intensities(NOW_NS)
    assert figure.valid_from_wall_ns == BEGIN_S * NS_PER_S


def test_the_hour_that_is_there_twice_is_taken_once(service: GridService) -> None:
    """A day of 23 hours that has 96 rows all the same repeats an hour: its first rows count, and the answer
    is believed."""
    rows = [*points(BEGIN_S - QUARTER_S, 15, 21, 22), *points(BEGIN_S - QUARTER_S, 15, 31, 32)]
    service.says_json(PATH, grid_answers.eco2mix(rows))
    asked = made(service)
    manners = Manners(asked.name, "", asked.resolution_ns, asked.floor_ns, asked.hold_ns)
    assert [f.g_per_kwh for f in checked(asked.intensities(NOW_NS), manners, NOW_NS)] == [31, 32]


def test_what_is_renewed_once_an_hour_is_not_stale(service: GridService) -> None:
    """The newest quarter hour may be over for an hour by the time that the data set is renewed."""
    service.says_json(PATH, grid_answers.eco2mix(points(BEGIN_S - 90 * 60, 15, 20)))
    asked = made(service)
    manners = Manners(asked.name, "", asked.resolution_ns, asked.floor_ns, asked.hold_ns)
    assert checked(asked.intensities(NOW_NS), manners, NOW_NS)


@pytest.mark.parametrize("perimeter", ["Bretagne", "", None, 7])
def test_another_perimeter_is_refused(service: GridService, perimeter: str) -> None:
    """A region's figures are not those of France."""
    service.says_json(PATH, grid_answers.eco2mix(points(BEGIN_S, 15, 20), perimeter=perimeter))
    with pytest.raises(FetchError) as caught:
        made(service).intensities(NOW_NS)
    assert caught.value.reason == "wrong_zone"


def test_no_rows_are_no_answer(service: GridService) -> None:
    """An empty result is no figure, and no zero."""
    service.says_json(PATH, {"total_count": 0, "results": []})
    assert made(service).intensities(NOW_NS) == ()


@pytest.mark.parametrize("time", ["yesterday", None, 1_774_780_500, 20260329, "2026-13-01T00:00:00Z", ""])
def test_a_time_that_is_none_is_malformed(service: GridService, time: object) -> None:
    """A time is a text by ISO 8601 and nothing else: a number is not a date that happens to parse."""
    document = {"results": [{"date_heure": time, "taux_co2": 20, "perimetre": "France"}]}
    service.says_json(PATH, document)
    with pytest.raises(FetchError) as caught:
        made(service).intensities(NOW_NS)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("zone", ["DE", "FR-COR", "GF", "WORLD"])
def test_other_grids_are_an_error_at_start(service: GridService, zone: str) -> None:
    """Only the mainland: Corsica and the departments overseas have grids of their own."""
    with pytest.raises(SetupError, match=rf"grid zone is {zone};.*grid\.zone to FR"):
        made(service, zone)


def test_without_a_url_it_asks_the_service_itself() -> None:
    """The usual place is HTTPS."""
    assert provider(Http(), Options(zone="FR"))._url == URL
    assert URL.startswith("https://")
