"""What holds for every provider that asks a service: its faults, its secrets, its time and its nonsense."""

import gzip
import json
import logging
import traceback
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import grid_answers
from tests.fakes.grid_answers import Point, points
from tests.fakes.grid_service import Answer, GridService, cut_off, page, serving
from wattspan.carbon import LiveProvider, providers
from wattspan.carbon.feed import Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import Options
from wattspan.carbon.secret import Secret
from wattspan.errors import FETCH_REASONS, FetchError, SetupError
from wattspan.model import Intensity
from wattspan.units import NS_PER_S

NOW_S = 1_774_780_200  # 2026-03-29T10:30:00Z
NOW_NS = NOW_S * NS_PER_S
HOUR_S = 3600
PARIS = ZoneInfo("Europe/Paris")
MARKER = "s3cr3t-Marker"
VARIABLE = "WATTSPAN_GRID_TEST_TOKEN"
LOGIN_TOKEN = f"{MARKER}-of-login"

Rows = Sequence[Point]


@dataclass(frozen=True)
class Case:
    """One provider, and how its service answers.

    Attributes:
        name: of the provider.
        zone: the grid zone it is asked for.
        minutes: length of its stretches.
        data: paths that figures come from; the first must answer well.
        tell: makes the service answer with these stretches, measured where the service has measurements.
        factor: from the service's unit to grams per kilowatt-hour.
        secret: whether it needs one.
    """

    name: str
    zone: str
    minutes: int
    data: str
    tell: Callable[[GridService, Rows], None]
    factor: float = 1.0
    secret: bool = False


def _tell_carbonintensity(service: GridService, rows: Rows) -> None:
    service.says_json("/intensity/*/fw48h", grid_answers.carbonintensity(rows))


def _tell_energycharts(service: GridService, rows: Rows) -> None:
    service.says_json("/co2eq", grid_answers.energycharts(rows))


def _tell_eco2mix(service: GridService, rows: Rows) -> None:
    service.says_json("/api/*", grid_answers.eco2mix(rows, PARIS))


def _tell_electricitymaps(service: GridService, rows: Rows) -> None:
    latest = rows[-1]
    service.says_json("/carbon-intensity/latest", grid_answers.electricitymaps_row(latest, "FR"))
    service.says_json("/carbon-intensity/history", grid_answers.electricitymaps_history(rows, "FR"))
    service.says("/carbon-intensity/forecast", Answer(403))


def _tell_watttime(service: GridService, rows: Rows) -> None:
    service.says_json("/login", {"token": LOGIN_TOKEN})
    service.says_json("/v3/forecast", grid_answers.watttime(rows, "FR", zone=PARIS))
    service.says_json("/v3/historical", grid_answers.watttime([], "FR"))


CASES = {
    case.name: case
    for case in (
        Case("carbonintensity", "GB", 30, "/intensity/*", _tell_carbonintensity),
        Case("energycharts", "DE", 15, "/co2eq", _tell_energycharts),
        Case("eco2mix", "FR", 15, "/api/*", _tell_eco2mix),
        Case("electricitymaps", "FR", 60, "/carbon-intensity/*", _tell_electricitymaps, secret=True),
        Case("watttime", "FR", 5, "/v3/*", _tell_watttime, factor=453.59237 / 1000, secret=True),
    )
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def secret_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account for those that need one."""
    monkeypatch.setenv(VARIABLE, f"someone:{MARKER}")


def made(case: Case, service: GridService, timeout_s: float = 10.0, **changes: Any) -> LiveProvider:
    """The provider, pointed at the service."""
    options = Options(zone=case.zone, url=service.url, secret=Secret("grid.x.token-file", None, VARIABLE))
    return providers.make(case.name, Http(timeout_s), replace(options, **changes))


def manners(provider: LiveProvider) -> Manners:
    """As the wiring makes them."""
    what = f"{provider.signal} {provider.basis}"
    return Manners(provider.name, what, provider.resolution_ns, provider.floor_ns, provider.hold_ns)


def asked(provider: LiveProvider, now_ns: int = NOW_NS) -> Sequence[Intensity]:
    """What the provider brings, believed as a feed believes it."""
    return checked(provider.intensities(now_ns), manners(provider), now_ns)


def failure(provider: LiveProvider, now_ns: int = NOW_NS) -> FetchError:
    """The error of an answer that cannot be believed."""
    with pytest.raises(FetchError) as caught:
        asked(provider, now_ns)
    assert caught.value.reason in FETCH_REASONS
    return caught.value


def rows_until_now(case: Case, *values: Any, now_s: int = NOW_S) -> list[Point]:
    """Stretches of which the last one has just begun."""
    step_s = case.minutes * 60
    begin_s = now_s - now_s % step_s - (len(values) - 1) * step_s
    return points(begin_s, case.minutes, *values)


@every
def test_a_good_answer_becomes_figures(service: GridService, case: Case) -> None:
    """Figures come past to future, in grams per kilowatt-hour, each with its stretch, its source and what it
    means, under the node's own zone."""
    rows = rows_until_now(case, 50, 60.5, 70)
    case.tell(service, rows)
    provider = made(case, service)
    figures = asked(provider)
    assert [f.g_per_kwh for f in figures] == pytest.approx(
        [50 * case.factor, 60.5 * case.factor, 70 * case.factor]
    )
    assert [f.valid_from_wall_ns for f in figures] == [row.begin_s * NS_PER_S for row in rows]
    step_ns = case.minutes * 60 * NS_PER_S
    assert {f.valid_until_wall_ns - f.valid_from_wall_ns for f in figures} == {step_ns}  # type: ignore[operator]
    assert {(f.provider, f.grid_zone, f.signal, f.basis, f.fetched_wall_ns) for f in figures} == {
        (case.name, case.zone, provider.signal, provider.basis, NOW_NS)
    }
    assert all(provider.attribution in figure.origin for figure in figures)
    assert provider.attribution
    assert all(figure.force_until_wall_ns is None for figure in figures)


@every
def test_null_is_not_zero(service: GridService, case: Case) -> None:
    """A stretch without a figure is left out, and an answer of nothing but nulls is none."""
    case.tell(service, rows_until_now(case, None, 80, None, 90))
    assert [f.g_per_kwh for f in asked(made(case, service))] == pytest.approx(
        [80 * case.factor, 90 * case.factor]
    )
    case.tell(service, rows_until_now(case, None, None))
    assert failure(made(case, service)).reason == "malformed"


def raw_number(answer: Answer, fragment: str) -> Answer:
    """The same document with this fragment in place of the string ``@``: JSON that no encoder writes."""
    return Answer(body=json.dumps(answer.json).replace('"@"', fragment).encode())


NONSENSE = {
    "-5": "implausible",
    "-0.001": "implausible",
    "5000": "implausible",
    "NaN": "implausible",
    "Infinity": "implausible",
    "-Infinity": "implausible",
    "1e400": "implausible",
    "1" + "0" * 400: "implausible",
    '"120"': "malformed",
    '""': "malformed",
    "true": "malformed",
    "[]": "malformed",
    "{}": "malformed",
}


@every
@pytest.mark.parametrize("fragment", NONSENSE, ids=lambda fragment: fragment[:12])
def test_a_figure_that_makes_no_sense_fails_the_whole_answer(
    service: GridService, case: Case, fragment: str
) -> None:
    """Negative, above any grid, not finite or no number at all: nothing else of that answer is used."""
    case.tell(service, rows_until_now(case, 100, "@", 100))
    told = [(path, list(sayings)) for path, sayings in service._rules]
    for path, sayings in reversed(told):
        service.says(path, *(raw_number(s, fragment) if s.json and s.status == 200 else s for s in sayings))
    assert failure(made(case, service)).reason == NONSENSE[fragment]


@every
def test_bounds_are_within(service: GridService, case: Case) -> None:
    """A grid at the highest figure that is believed is believed."""
    case.tell(service, rows_until_now(case, 1999.9 / case.factor))
    assert asked(made(case, service))[0].g_per_kwh == pytest.approx(1999.9)


@every
def test_what_is_long_over_is_stale(service: GridService, case: Case) -> None:
    """An answer whose newest figure was over long ago is refused, however well it is formed."""
    case.tell(service, rows_until_now(case, 1, 2, now_s=NOW_S - 48 * HOUR_S))
    assert failure(made(case, service)).reason == "stale"


@every
def test_what_has_not_begun_is_not_now(service: GridService, case: Case) -> None:
    """An answer without any figure whose time has come is refused."""
    case.tell(service, points(NOW_S - NOW_S % HOUR_S + 2 * HOUR_S, case.minutes, 1, 2))
    assert failure(made(case, service)).reason == "future"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
@every
def test_days_on_which_clocks_change_have_their_hours(
    service: GridService, case: Case, day: str, hours: int
) -> None:
    """A local day of 23 or of 25 hours has so many, without a gap and without an overlap, whatever offset the
    service writes its times with."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=PARIS)
    begin_s = int(midnight.timestamp())
    end_s = int((midnight + timedelta(days=1)).timestamp())
    assert end_s - begin_s == hours * HOUR_S
    step_s = case.minutes * 60
    case.tell(service, points(begin_s, case.minutes, *range(1, (end_s - begin_s) // step_s + 1)))
    figures = asked(made(case, service), (end_s - step_s) * NS_PER_S)
    assert len(figures) == hours * 60 // case.minutes
    assert figures[0].valid_from_wall_ns == begin_s * NS_PER_S
    assert figures[-1].valid_until_wall_ns == end_s * NS_PER_S
    assert all(a.valid_until_wall_ns == b.valid_from_wall_ns for a, b in pairwise(figures))
    assert [f.g_per_kwh for f in figures] == pytest.approx(
        [case.factor * (i + 1) for i in range(len(figures))]
    )


def packed(body: bytes) -> Answer:
    """Said to be packed by gzip."""
    return Answer(body=body, headers={"Content-Encoding": "gzip"})


FAULTS: Mapping[str, tuple[str, Answer]] = {
    "slow": ("timeout", Answer(json={}, delay_s=60)),
    "dripping": ("timeout", Answer(body=b" " * 1000, drip_s=0.1)),
    "401": ("refused", Answer(401, json={"message": MARKER})),
    "403": ("refused", Answer(403, json={"message": MARKER})),
    "404": ("server", Answer(404)),
    "429": ("throttled", Answer(429, headers={"Retry-After": "120"})),
    "500": ("server", Answer(500, json={"error": {"code": "500", "message": MARKER}})),
    "truncated": ("malformed", cut_off(Answer(json={"data": []}))),
    "empty": ("malformed", Answer(body=b"")),
    "null": ("malformed", Answer(json=None)),
    "a text": ("malformed", Answer(json=MARKER)),
    "a number": ("malformed", Answer(json=7)),
    "a list": ("malformed", Answer(json=[])),
    "a list of lists": ("malformed", Answer(json=[[]])),
    "an empty object": ("malformed", Answer(json={})),
    "login page": ("malformed", page()),
    "a page that quotes us": ("malformed", page(f"No entry with {MARKER}")),
    "XML": ("malformed", Answer(body=b"<?xml version='1.0'?><a/>")),
    "10 MB": ("malformed", Answer(body=b" " * (10 << 20))),
    "gzip bomb": ("malformed", packed(gzip.compress(b" " * (10 << 20)))),
    "bad gzip": ("malformed", packed(b"\x1f\x8b this is none")),
    "no HTTP": ("malformed", Answer(raw=b"\x00\x01\x02")),
    "bad headers": ("malformed", Answer(raw=b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n")),
}


def mutated(document: Any, change: Any) -> Any:
    """The document with every list in it replaced."""
    if isinstance(document, dict):
        return {key: mutated(value, change) for key, value in document.items()}
    return change if isinstance(document, list) else document


@every
@pytest.mark.parametrize("fault", [*FAULTS, "redirect", "unreachable", "echo"])
def test_each_fault_has_its_reason_and_shows_no_secret(
    service: GridService, case: Case, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever fails, the reason is the right one; the secret is in no error, no traceback and no log, and
    reaches nobody but the service itself."""
    caplog.set_level(logging.DEBUG)
    case.tell(service, rows_until_now(case, 100, 100))
    with serving() as elsewhere:
        if fault == "redirect":
            reason, answer = "malformed", Answer(302, headers={"Location": f"{elsewhere.url}/data"})
        elif fault == "echo":  # a debugging proxy, which answers with what it was asked
            reason, answer = "malformed", Answer(json={"headers": {"auth-token": MARKER}, "zone": None})
            reason = "wrong_zone" if case.name == "electricitymaps" else reason
        else:
            reason, answer = FAULTS.get(fault, ("", Answer()))
        if case.name == "electricitymaps" and fault == "an empty object":
            reason = "wrong_zone"  # it does not say whose figures these would be
        service.says(case.data, answer)
        provider = made(case, service, 0.5 if reason == "timeout" else 30.0)
        if fault == "unreachable":
            reason = "unreachable"
            with serving() as gone:
                provider = made(case, gone)
        error = failure(provider)
        assert error.reason == reason
        assert error.retry_after_s == (120 if fault == "429" else None)
        assert not elsewhere.requests
    basic = b64encode(f"someone:{MARKER}".encode()).decode()
    shown = [str(error), repr(error), "".join(traceback.format_exception(error)), caplog.text, repr(provider)]
    assert not [text for text in shown for secret in (MARKER, basic) if secret in text]


@every
@pytest.mark.parametrize("change", [None, 7, "text", {}, [None], [[]], ["text"], [{}]], ids=repr)
def test_documents_of_another_shape_are_malformed(service: GridService, case: Case, change: Any) -> None:
    """A list that is none, or whose members are something else, is an error of ours and no accident."""
    case.tell(service, rows_until_now(case, 100, 100))
    for path, sayings in reversed([(path, list(sayings)) for path, sayings in service._rules]):
        if path != "/carbon-intensity/latest":
            service.says(path, *(replace(s, json=mutated(s.json, change)) for s in sayings))
    if case.name == "electricitymaps":
        service.says(
            "/carbon-intensity/latest", Answer(json={"zone": "FR", "carbonIntensity": change or "x"})
        )
    if case.name == "energycharts" and change == {}:
        change = [{}]
    assert failure(made(case, service)).reason in ("malformed", "implausible")


@every
def test_a_secret_is_in_no_figure(service: GridService, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Figures, which are kept on disk and shown in reports, hold no secret, nor does a good day's log."""
    caplog.set_level(logging.DEBUG)
    case.tell(service, rows_until_now(case, 100, 100))
    provider = made(case, service)
    figures = asked(provider)
    assert MARKER not in repr(figures) + provider.attribution + repr(provider) + caplog.text
    carried = [MARKER in repr(request.headers) for request in service.asked(case.data)]
    assert all(carried) if case.secret else not any(carried)


@every
def test_a_secret_that_is_not_there_is_an_error_at_start(
    service: GridService, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that needs one says so before anything is asked; the others need none."""
    monkeypatch.delenv(VARIABLE)
    if not case.secret:
        made(case, service)
        return
    with pytest.raises(SetupError, match=r"grid\.x\.token-file.*" + VARIABLE):
        made(case, service)
    assert not service.requests


@every
def test_a_secret_that_vanishes_is_refused(
    service: GridService, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that is taken away later is one of the failures, and costs no other provider."""
    case.tell(service, rows_until_now(case, 100, 100))
    provider = made(case, service)
    monkeypatch.delenv(VARIABLE)
    if case.secret:
        assert failure(provider).reason == "refused"
        assert not service.requests
    else:
        asked(provider)


@every
def test_what_it_does_not_mean_is_an_error_at_start(service: GridService, case: Case) -> None:
    """A signal or a basis that a provider does not have is refused at start, by the name of the setting."""
    has = {(made(case, service).signal, made(case, service).basis)}
    for signal in ("average", "marginal"):
        for basis in ("lifecycle", "direct"):
            with suppress(SetupError):
                chosen = made(case, service, signal=signal, basis=basis)
                assert (chosen.signal, chosen.basis) == (signal, basis)
                has.add((signal, basis))
    assert (
        has
        == {
            "carbonintensity": {("average", "direct")},
            "energycharts": {("average", "lifecycle")},
            "eco2mix": {("average", "direct")},
            "electricitymaps": {("average", "lifecycle"), ("average", "direct")},
            "watttime": {("marginal", "direct"), ("average", "direct")},
        }[case.name]
    )
    with pytest.raises(SetupError, match=r"grid\.(signal|basis): '\w+' is not what"):
        made(case, service, signal="marginal", basis="lifecycle")


@every
def test_another_country_is_an_error_at_start_or_refused(service: GridService, case: Case) -> None:
    """A place that a service does not have is said at start where that is known."""
    with pytest.raises(SetupError, match=rf"grid\.(zone|providers|{case.name}\.zone).*WORLD"):
        made(case, service, zone="WORLD")


def test_every_provider_has_its_name() -> None:
    """The table's words, the modules and the names on the figures are the same."""
    assert set(CASES) <= set(providers.NAMES)
