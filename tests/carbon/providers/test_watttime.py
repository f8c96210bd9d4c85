"""watttime: five minutes of a region, behind a token that expires."""

from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import grid_answers
from tests.fakes.grid_answers import points
from tests.fakes.grid_service import Answer, GridService, Request
from wattspan.carbon.feed import Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import Options
from wattspan.carbon.providers.watttime import ASK_AGAIN_NS, REGIONS, TOKEN_NS, URL, WattTime, provider
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError, SetupError
from wattspan.units import NS_PER_S

NOW_S = 1_774_780_500  # 2026-03-29T10:35:00Z
NOW_NS = NOW_S * NS_PER_S
MINUTE_NS = 60 * NS_PER_S
STEP_S = 300
ACCOUNT = "someone:pass:word-of-mine"
G_PER_KWH = 453.59237 / 1000
"""One pound in a megawatt-hour."""


@pytest.fixture
def account(tmp_path: Path) -> Secret:
    """An account in a file."""
    file = tmp_path / "account"
    file.write_text(f"{ACCOUNT}\n")
    return Secret("grid.watttime.token-file", file, "")


class Tokens:
    """A login that gives a new token each time, and what is behind it, which believes the newest alone."""

    def __init__(self, service: GridService, signal_type: str = "co2_moer") -> None:
        self.given = 0
        self.valid = ""
        self.service = service
        self.signal_type = signal_type
        self.forecast: Answer | None = None
        self.historical: Answer | None = None
        service.says("/login", self._log_in)
        service.says("/v3/forecast", self._forecast)
        service.says("/v3/historical", self._historical)

    def _log_in(self, request: Request) -> Answer:
        kind, _, basic = request.headers["authorization"].partition(" ")
        if (kind, b64decode(basic).decode()) != ("Basic", ACCOUNT):
            return Answer(401)
        self.given += 1
        self.valid = f"token-{self.given}"
        return Answer(json={"token": self.valid})

    def _behind(self, request: Request, answer: Answer | None, rows: Any) -> Answer:
        if request.headers.get("authorization") != f"Bearer {self.valid}":
            return Answer(401)
        return answer or Answer(json=grid_answers.watttime(rows, request.query["region"], self.signal_type))

    def _forecast(self, request: Request) -> Answer:
        return self._behind(request, self.forecast, points(NOW_S, 5, 900, 910, 920))

    def _historical(self, request: Request) -> Answer:
        return self._behind(request, self.historical, points(NOW_S - 2 * STEP_S, 5, 880, 890, 899))


def made(service: GridService, account: Secret, **changes: Any) -> WattTime:
    """The provider, pointed at the service."""
    options = {"zone": "US-CAL-CISO", "own_zone": "CAISO_NORTH"} | changes
    return provider(Http(), Options(url=service.url, secret=account, **options))


def reason(asked: WattTime, now_ns: int = NOW_NS) -> str:
    """Why it failed."""
    with pytest.raises(FetchError) as caught:
        asked.intensities(now_ns)
    assert "word-of-" not in caught.value.detail
    return caught.value.reason


def test_pounds_become_grams(service: GridService, account: Secret) -> None:
    """Pounds per megawatt-hour become grams per kilowatt-hour; what has been goes before what was forecast;
    all of it is a model's."""
    Tokens(service)
    figures = made(service, account).intensities(NOW_NS)
    pounds = [880, 890, 899, 910, 920]
    assert [f.g_per_kwh for f in figures] == pytest.approx([p * G_PER_KWH for p in pounds])
    assert figures[0].g_per_kwh == pytest.approx(399.1612856)
    assert [f.origin.partition(".")[0] for f in figures] == ["historical"] * 3 + ["forecast"] * 2
    assert {(f.signal, f.basis, f.estimated) for f in figures} == {("marginal", "direct", True)}
    assert {f.grid_zone for f in figures} == {"US-CAL-CISO"}


def test_what_is_asked(service: GridService, account: Secret) -> None:
    """The last hour and two days ahead, of the region, by the signal; the account goes to the login alone."""
    Tokens(service)
    made(service, account).intensities(NOW_NS)
    login, forecast, historical = service.requests
    assert login.path == "/login"
    assert not login.query
    common = {"region": "CAISO_NORTH", "signal_type": "co2_moer"}
    assert forecast.query == common | {"horizon_hours": "48"}
    assert historical.query == common | {"start": "2026-03-29T09:35Z", "end": "2026-03-29T10:35Z"}
    assert {request.headers["authorization"] for request in (forecast, historical)} == {"Bearer token-1"}


def test_the_average_is_another_signal(service: GridService, account: Secret) -> None:
    """With ``grid.signal`` average, average rates are asked for, and figures say so."""
    Tokens(service, "co2_aoer")
    figures = made(service, account, signal="average").intensities(NOW_NS)
    assert {figure.signal for figure in figures} == {"average"}
    assert service.asked("/v3/forecast")[0].query["signal_type"] == "co2_aoer"


def test_a_token_is_used_until_shortly_before_its_end(service: GridService, account: Secret) -> None:
    """One login serves for 25 of the 30 minutes, and a clock that is set back asks for another."""
    tokens = Tokens(service)
    asked = made(service, account)
    for minutes in range(0, 25, 5):
        asked.intensities(NOW_NS + minutes * MINUTE_NS)
    assert tokens.given == 1
    asked.intensities(NOW_NS + TOKEN_NS)
    assert tokens.given == 2
    asked.intensities(NOW_NS)
    assert tokens.given == 3


def test_a_token_that_expires_in_mid_run_is_renewed_once(service: GridService, account: Secret) -> None:
    """A token that is refused before its time is replaced without a failure, by one login."""
    tokens = Tokens(service)
    asked = made(service, account)
    asked.intensities(NOW_NS)
    tokens.valid = "another"
    assert len(asked.intensities(NOW_NS + 5 * MINUTE_NS)) == 5
    assert tokens.given == 2
    tokens.valid = "another"
    tokens.forecast = Answer(401)
    assert reason(asked, NOW_NS + 10 * MINUTE_NS) == "refused"
    assert tokens.given == 3


def test_a_fresh_token_that_is_refused_is_not_asked_again(service: GridService, account: Secret) -> None:
    """A region that the account does not have is refused after one login, not in a loop of them."""
    tokens = Tokens(service)
    tokens.forecast = Answer(403, {"message": "no access"})
    assert reason(made(service, account)) == "refused"
    assert tokens.given == 1
    assert len(service.asked("/v3/*")) == 1


def test_no_history_costs_nothing(service: GridService, account: Secret) -> None:
    """A history that the account does not have costs neither the forecast nor another question for a day."""
    tokens = Tokens(service)
    tokens.historical = Answer(403)
    asked = made(service, account)
    assert len(asked.intensities(NOW_NS)) == 3
    assert len(asked.intensities(NOW_NS + 5 * MINUTE_NS)) == 3
    assert len(service.asked("/v3/historical")) == 1
    assert tokens.given == 1
    tokens.historical = None
    assert len(asked.intensities(NOW_NS + ASK_AGAIN_NS)) == 5
    assert len(service.asked("/v3/historical")) == 2


@pytest.mark.parametrize("which", ["forecast", "historical"])
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"units": "kg_co2_per_mwh"}, "wrong_unit"),
        ({"units": "percentile"}, "wrong_unit"),
        ({"units": None}, "wrong_unit"),
        ({"signal_type": "health_damage"}, "wrong_unit"),
        ({"signal_type": "co2_aoer"}, "wrong_unit"),
        ({"region": "PJM_DC"}, "wrong_zone"),
        ({"region": None}, "wrong_zone"),
        ({"data_point_period_seconds": 0}, "malformed"),
        ({"data_point_period_seconds": -300}, "malformed"),
        ({"data_point_period_seconds": "300"}, "malformed"),
        ({"data_point_period_seconds": 86400}, "malformed"),
        ({"data_point_period_seconds": True}, "malformed"),
    ],
)
def test_what_the_answer_says_of_itself_is_checked(
    service: GridService, account: Secret, which: str, changed: dict[str, object], expected: str
) -> None:
    """Another unit, another signal or another region than was asked for is refused, in both answers."""
    tokens = Tokens(service)
    document = grid_answers.watttime(points(NOW_S, 5, 900), "CAISO_NORTH")
    document["meta"] |= changed
    setattr(tokens, which, Answer(json=document))
    assert reason(made(service, account)) == expected


def test_a_unit_that_is_not_said_is_malformed(service: GridService, account: Secret) -> None:
    """Without a unit there is no figure."""
    tokens = Tokens(service)
    document = grid_answers.watttime(points(NOW_S, 5, 900), "CAISO_NORTH")
    del document["meta"]["units"]
    tokens.forecast = Answer(json=document)
    assert reason(made(service, account)) == "malformed"


@pytest.mark.parametrize(
    "token",
    [None, "", 7, ["t"], "two\r\nlines", "caf\u00e9"],
    ids=["null", "empty", "7", "list", "lines", "accent"],
)
def test_a_login_without_a_token_is_malformed(service: GridService, account: Secret, token: object) -> None:
    """What a login gives is used as a token only if it can be one."""
    service.says_json("/login", {"token": token})
    assert reason(made(service, account)) == "malformed"
    assert not service.asked("/v3/*")


def test_a_wrong_password_is_refused(service: GridService, tmp_path: Path) -> None:
    """A login that is refused is refused, and so is a secret that is no user and password."""
    Tokens(service)
    file = tmp_path / "wrong"
    file.write_text("someone:another-word-of-mine")
    secret = Secret("grid.watttime.token-file", file, "")
    assert reason(made(service, secret)) == "refused"
    file.write_text("a-word-of-mine-alone")
    assert reason(made(service, secret)) == "refused"
    assert len(service.requests) == 1


def test_figures_of_both_fit_together(service: GridService, account: Secret) -> None:
    """History and forecast make one timeline that a feed believes."""
    Tokens(service)
    asked = made(service, account)
    manners = Manners(asked.name, "", asked.resolution_ns, asked.floor_ns, asked.hold_ns)
    assert len(checked(asked.intensities(NOW_NS), manners, NOW_NS)) == 5


def test_sure_zones_need_no_region(service: GridService, account: Secret) -> None:
    """A grid that WattTime has whole is asked for by its word; one that it parts is an error at start."""
    Tokens(service)
    made(service, account, zone="GB", own_zone="").intensities(NOW_NS)
    assert service.asked("/v3/forecast")[0].query["region"] == "UK"
    assert REGIONS["US-NW-BPAT"] == "BPA"
    for zone in ("US-CAL-CISO", "US-MIDA-PJM", "US", "WORLD"):
        with pytest.raises(SetupError, match=rf"grid\.watttime\.zone: not set, .* {zone} .*CAISO_NORTH"):
            made(service, account, zone=zone, own_zone="")


def test_without_a_url_it_asks_the_service_itself(account: Secret) -> None:
    """The usual place is HTTPS."""
    assert provider(Http(), Options(zone="GB", secret=account))._url == URL
    assert URL.startswith("https://")
