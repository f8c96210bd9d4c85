"""electricitymaps: hours of a zone, with a token and what its plan has."""

from typing import Any

import pytest

from tests.fakes import grid_answers
from tests.fakes.grid_answers import points
from tests.fakes.grid_service import Answer, GridService
from wattspan.carbon.http import Http
from wattspan.carbon.providers import Options
from wattspan.carbon.providers.electricitymaps import ASK_AGAIN_NS, URL, ElectricityMaps, provider
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError, SetupError
from wattspan.units import NS_PER_S

NOW_S = 1_774_780_500  # 2026-03-29T10:35:00Z
NOW_NS = NOW_S * NS_PER_S
HOUR_S = 3600
HOUR_NS = HOUR_S * NS_PER_S
BEGIN_S = NOW_S - NOW_S % HOUR_S
VARIABLE = "WATTSPAN_GRID_TEST_TOKEN"
TOKEN = "a-token"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token in the environment."""
    monkeypatch.setenv(VARIABLE, TOKEN)


def made(service: GridService, zone: str = "DE", **changes: Any) -> ElectricityMaps:
    """The provider, pointed at the service."""
    secret = Secret("grid.electricitymaps.token-file", None, VARIABLE)
    return provider(Http(), Options(zone=zone, url=service.url, secret=secret, **changes))


def tell(service: GridService, zone: str = "DE", basis: str = "lifecycle") -> None:
    """Four hours of history, an estimate for now, and two hours ahead which begin with now."""
    history = points(BEGIN_S - 3 * HOUR_S, 60, 301, 302, 303, 304)
    now, ahead = points(BEGIN_S, 60, 310), points(BEGIN_S, 60, 320, 321, 322)
    latest = grid_answers.electricitymaps_row(now[0], zone, basis, estimated=True)
    service.says_json("/carbon-intensity/latest", latest)
    service.says_json("/carbon-intensity/history", grid_answers.electricitymaps_history(history, zone, basis))
    service.says_json("/carbon-intensity/forecast", grid_answers.electricitymaps_forecast(ahead, zone))


def test_each_hour_is_known_by_the_surest(service: GridService) -> None:
    """The latest goes before the history, and that before the forecast; what is no measurement says so."""
    tell(service)
    figures = made(service).intensities(NOW_NS)
    assert [(f.g_per_kwh, f.estimated, f.origin.partition(".")[0]) for f in figures] == [
        (301, False, "measured"),
        (302, False, "measured"),
        (303, False, "measured"),
        (310, True, "estimated"),
        (321, True, "forecast"),
        (322, True, "forecast"),
    ]


def test_what_is_asked(service: GridService) -> None:
    """Each question names zone and factors, forbids to guess the place from our address, and has the token in
    its header and nowhere else."""
    tell(service, "FR", "direct")
    made(service, "FR", basis="direct").intensities(NOW_NS)
    assert len(service.requests) == 3
    for request in service.requests:
        assert request.headers["auth-token"] == TOKEN
        assert request.query == {
            "zone": "FR",
            "emissionFactorType": "direct",
            "shouldUseFallbackCallerLookup": "false",
        }
        assert TOKEN not in request.target


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("what", ["forecast", "history"])
def test_what_the_plan_has_not_costs_nothing(service: GridService, what: str, status: int) -> None:
    """A forecast that is refused costs neither the current figure nor another question for a day; then it is
    asked for again, since plans change."""
    tell(service)
    service.says(f"/carbon-intensity/{what}", Answer(status))
    asked = made(service)
    for hours in range(0, 24, 6):
        figures = asked.intensities(NOW_NS + hours * HOUR_NS)
        assert 310 in [figure.g_per_kwh for figure in figures]
    assert len(service.asked(f"/carbon-intensity/{what}")) == 1
    assert len(service.asked("/carbon-intensity/latest")) == 4
    tell(service)
    assert len(asked.intensities(NOW_NS + ASK_AGAIN_NS)) == 6
    assert len(service.asked(f"/carbon-intensity/{what}")) == 2
    asked.intensities(NOW_NS + ASK_AGAIN_NS)
    assert len(service.asked(f"/carbon-intensity/{what}")) == 3


def test_a_clock_that_is_set_back_asks_again(service: GridService) -> None:
    """A refusal that lies in the future is forgotten rather than kept for years."""
    tell(service)
    service.says("/carbon-intensity/forecast", Answer(403))
    asked = made(service)
    asked.intensities(NOW_NS)
    asked.intensities(NOW_NS - HOUR_NS)
    assert len(service.asked("/carbon-intensity/forecast")) == 2


def test_a_token_that_is_refused_for_now_is_refused(service: GridService) -> None:
    """Without the current figure there is no answer, and the others are not even asked for."""
    tell(service)
    service.says("/carbon-intensity/latest", Answer(401))
    with pytest.raises(FetchError) as caught:
        made(service).intensities(NOW_NS)
    assert caught.value.reason == "refused"
    assert len(service.requests) == 1


def test_a_pause_that_is_asked_for_counts_wherever(service: GridService) -> None:
    """A forecast that is throttled is no refusal: the pause is kept for the whole service."""
    tell(service)
    service.says("/carbon-intensity/forecast", Answer(429, headers={"Retry-After": "900"}))
    with pytest.raises(FetchError) as caught:
        made(service).intensities(NOW_NS)
    assert (caught.value.reason, caught.value.retry_after_s) == ("throttled", 900)


@pytest.mark.parametrize("what", ["latest", "history", "forecast"])
@pytest.mark.parametrize("answered", ["FR", "", None, 7])
def test_another_zone_is_refused(service: GridService, what: str, answered: object) -> None:
    """A service that answers for where it thinks that we are is not believed, in any of its answers."""
    tell(service)
    path = f"/carbon-intensity/{what}"
    good = next(sayings[0] for told, sayings in service._rules if told == path)
    assert isinstance(good, Answer)
    service.says_json(path, good.json | {"zone": answered})
    with pytest.raises(FetchError) as caught:
        made(service).intensities(NOW_NS)
    assert caught.value.reason == "wrong_zone"


def test_other_factors_are_refused(service: GridService) -> None:
    """Direct figures do not pass for life-cycle ones."""
    tell(service, basis="direct")
    with pytest.raises(FetchError) as caught:
        made(service).intensities(NOW_NS)
    assert caught.value.reason == "wrong_unit"


def test_the_settings_zone_goes_before_the_nodes(service: GridService) -> None:
    """The service's own word is asked for; the label stays the node's zone; case does not matter."""
    tell(service, "DK-DK1")
    figures = made(service, "DK", own_zone="dk-dk1").intensities(NOW_NS)
    assert {figure.grid_zone for figure in figures} == {"DK"}
    assert service.first.query["zone"] == "dk-dk1"


@pytest.mark.parametrize(("zone", "part"), [("US", "US-CAL-CISO"), ("AU", "AU-NSW"), ("JP", "JP-TK")])
def test_a_country_in_parts_is_an_error_at_start(service: GridService, zone: str, part: str) -> None:
    """A country that the service knows by its parts alone is said with some of them, before it is asked."""
    with pytest.raises(
        SetupError, match=rf"grid\.zone: {zone} is no zone .*{part}.*grid\.electricitymaps\.zone"
    ):
        made(service, zone)
    assert made(service, zone, own_zone=part)
    assert made(service, part)


@pytest.mark.parametrize("zone", ["WORLD", "EU27"])
def test_no_place_is_an_error_at_start(service: GridService, zone: str) -> None:
    """Aggregates are none of its zones."""
    with pytest.raises(SetupError, match=rf"needs a place, and the grid zone is {zone}; set grid\.zone"):
        made(service, zone)


def test_without_a_url_it_asks_the_service_itself() -> None:
    """The usual place is HTTPS."""
    secret = Secret("grid.electricitymaps.token-file", None, VARIABLE)
    assert provider(Http(), Options(zone="DE", secret=secret))._url == URL
    assert URL.startswith("https://")
