"""carbonintensity: Great Britain's half hours."""

import pytest

from tests.fakes import grid_answers
from tests.fakes.grid_answers import Point
from tests.fakes.grid_service import Answer, GridService
from wattspan.carbon.http import Http
from wattspan.carbon.providers import Options
from wattspan.carbon.providers.carbonintensity import URL, CarbonIntensity, provider
from wattspan.errors import FetchError, SetupError
from wattspan.units import NS_PER_S

NOW_S = 1_774_780_500  # 2026-03-29T10:35:00Z
NOW_NS = NOW_S * NS_PER_S
HALF_HOUR_S = 1800
BEGIN_S = NOW_S - NOW_S % HALF_HOUR_S


def made(service: GridService, region: str = "", zone: str = "GB") -> CarbonIntensity:
    """The provider, pointed at the service."""
    return provider(Http(), Options(zone=zone, own_zone=region, url=service.url))


def test_measured_goes_before_forecast(service: GridService) -> None:
    """`actual` is used where it is known; where it is null, `forecast` is, as an estimate."""
    rows = [
        Point(BEGIN_S - HALF_HOUR_S, 118, 130),
        Point(BEGIN_S, None, 121),
        Point(BEGIN_S + HALF_HOUR_S, None, None),
        Point(BEGIN_S + 2 * HALF_HOUR_S, 0, 100),
    ]
    service.says_json("/intensity/*/fw48h", grid_answers.carbonintensity(rows))
    figures = made(service).intensities(NOW_NS)
    assert [(f.g_per_kwh, f.estimated) for f in figures] == [(118, False), (121, True), (0, False)]
    assert figures[0].origin.startswith("measured. National Energy System Operator")
    assert figures[1].origin.startswith("forecast. ")
    assert figures[1].valid_until_wall_ns == (BEGIN_S + HALF_HOUR_S) * NS_PER_S


def test_it_asks_from_an_hour_ago(service: GridService) -> None:
    """The half hours that have become measured since the last question are in the next answer."""
    service.says_json("/intensity/*/fw48h", grid_answers.carbonintensity([Point(BEGIN_S, 1, 1)]))
    made(service).intensities(NOW_NS)
    assert service.first.path == "/intensity/2026-03-29T09:35Z/fw48h"
    assert not service.first.query


def test_a_region_has_forecasts_alone(service: GridService) -> None:
    """A region is asked by its id, and published under the node's zone."""
    rows = [Point(BEGIN_S, 999, 90)]
    service.says_json("/regional/intensity/*/fw48h/regionid/13", grid_answers.carbonintensity(rows, 13))
    (figure,) = made(service, "13").intensities(NOW_NS)
    assert (figure.g_per_kwh, figure.estimated, figure.grid_zone) == (90, True, "GB")


def test_another_region_is_refused(service: GridService) -> None:
    """An answer for a region that was not asked for is not used."""
    rows = [Point(BEGIN_S, None, 90)]
    service.says_json("/regional/*", grid_answers.carbonintensity(rows, 12))
    with pytest.raises(FetchError) as caught:
        made(service, "13").intensities(NOW_NS)
    assert caught.value.reason == "wrong_zone"


def test_its_own_errors_are_the_services(service: GridService) -> None:
    """The service's error body comes with its status, which decides."""
    body = {"error": {"code": "400 Bad Request", "message": "Please enter a valid date"}}
    service.says("*", Answer(400, body))
    with pytest.raises(FetchError) as caught:
        made(service).intensities(NOW_NS)
    assert caught.value.reason == "server"


@pytest.mark.parametrize("zone", ["FR", "WORLD", "GBX", "GB-NIR"])
def test_other_grids_are_an_error_at_start(service: GridService, zone: str) -> None:
    """Only Great Britain: Northern Ireland is fed by another grid."""
    with pytest.raises(SetupError, match=rf"grid zone is {zone};.*grid\.zone to GB"):
        made(service, zone=zone)


@pytest.mark.parametrize("region", ["0", "18", "-1", "London", "1.5", " "])
def test_a_region_that_is_none_is_an_error_at_start(service: GridService, region: str) -> None:
    """Regions are numbers from 1 to 17."""
    with pytest.raises(SetupError, match=r"grid\.carbonintensity\.zone: .* allowed: 1 to 17"):
        made(service, region)


def test_without_a_url_it_asks_the_service_itself() -> None:
    """The usual place is HTTPS."""
    assert provider(Http(), Options(zone="GB"))._url == URL
    assert URL.startswith("https://")
