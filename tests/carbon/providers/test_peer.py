"""Another Wattspan: its figures, their way, and the end of a ring."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.carbon.faults import (
    FAULT_IDS,
    FAULTS,
    TIMEOUT_S,
    Fault,
    failure_of,
    require_fault,
    require_secrecy,
)
from tests.fakes.grid_service import GridService
from wattspan.carbon import timeline
from wattspan.carbon.feed import Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, make, moment_of
from wattspan.carbon.secret import Secret
from wattspan.errors import SetupError
from wattspan.model import GridState, Intensity
from wattspan.publish.api import grid_document

NOW_NS = moment_of("2026-03-29T01:20:00Z", "the test")
NO_SECRET = Secret("")
PASSWORD = "ops:4c5d6e-marker-of-the-secret"
HALF_NS = 30 * MINUTE_NS
BEGIN_NS = NOW_NS - 20 * MINUTE_NS
CURRENT = Intensity(
    g_per_kwh=231.5,
    valid_from_wall_ns=BEGIN_NS,
    valid_until_wall_ns=BEGIN_NS + HALF_NS,
    grid_zone="GB",
    provider="carbonintensity",
    signal="average",
    basis="direct",
    estimated=False,
    fetched_wall_ns=NOW_NS - MINUTE_NS,
    origin="measured. NESO.",
)


def half_hour(number: int, **others: Any) -> Intensity:
    """So many half hours after the current one."""
    begin_ns = BEGIN_NS + number * HALF_NS
    figure = replace(
        CURRENT, valid_from_wall_ns=begin_ns, valid_until_wall_ns=begin_ns + HALF_NS, g_per_kwh=100.0 + number
    )
    return replace(figure, **others)


def document(intensity: Intensity | None) -> Any:
    """What a daemon says of the figure in force, by the code that says it."""
    return grid_document(GridState(intensity, fallback_level=0, pue=1.0, pue_configured=False))


def tells(service: GridService, current: Intensity | None, *ahead: Intensity) -> None:
    """The other daemon has these figures."""
    service.says_json("/api/v1/grid", document(current))
    intervals = [document(each)["intensity"] for each in ahead]
    service.says_json(
        "/api/v1/grid/forecast", {"forecast": bool(ahead), "detail": "", "intervals": intervals}
    )


def asked(
    service: GridService,
    secret: Secret = NO_SECRET,
    zone: str = "GB",
    timeout_s: float = 10.0,
) -> Sequence[Intensity]:
    """What the provider makes of the other daemon."""
    options = Options(zone, url=service.url, secret=secret, signal="average", basis="direct")
    return make("peer", Http(timeout_s), options).intensities(NOW_NS)


def test_the_figures_of_the_other_and_their_way(service: GridService) -> None:
    """The figure in force and the forecast come over whole; the origin says by whom and by way of whom."""
    tells(service, CURRENT, CURRENT, half_hour(1, estimated=True), half_hour(2, estimated=True))
    figures = asked(service)
    timeline.require_order(figures)
    assert [figure.g_per_kwh for figure in figures] == [231.5, 101, 102]
    assert [figure.estimated for figure in figures] == [False, True, True]
    assert figures[0] == replace(
        CURRENT,
        provider="peer",
        fetched_wall_ns=NOW_NS,
        origin=f"by way of {service.url}; carbonintensity: measured. NESO.",
    )


def test_a_forecast_cuts_short_what_it_overlaps(service: GridService) -> None:
    """Where the figure in force reaches into the forecast, each moment still has one figure."""
    long = replace(CURRENT, valid_until_wall_ns=BEGIN_NS + 2 * HALF_NS)
    tells(service, long, half_hour(-1), half_hour(0), half_hour(1))
    figures = asked(service)
    timeline.require_order(figures)
    assert [figure.g_per_kwh for figure in figures] == [231.5, 101]


@pytest.mark.parametrize(
    "current",
    [
        None,
        replace(CURRENT, valid_from_wall_ns=None, valid_until_wall_ns=None),
        replace(CURRENT, valid_until_wall_ns=None),
    ],
)
def test_a_yearly_figure_is_passed_over(service: GridService, current: Intensity | None) -> None:
    """A peer that prices by its tables knows no more than we do, whatever it foresaw."""
    tells(service, current, half_hour(1))
    assert failure_of(lambda: asked(service)).reason == "stale"


def test_a_yearly_figure_is_no_forecast(service: GridService) -> None:
    """Intervals without an end are left out of the forecast."""
    tells(service, CURRENT, replace(CURRENT, valid_from_wall_ns=None, valid_until_wall_ns=None))
    assert len(asked(service)) == 1


def test_what_the_peer_holds_on_to_is_held(service: GridService) -> None:
    """A figure whose time is over, but which the peer still prices with, holds until the peer is asked
    again, as an estimate: sources that are hours late would otherwise be of no use.
    """
    over = replace(CURRENT, valid_until_wall_ns=NOW_NS - MINUTE_NS)
    tells(service, over)
    (figure,) = asked(service)
    assert (figure.valid_until_wall_ns, figure.estimated) == (NOW_NS + 15 * MINUTE_NS, True)


def test_a_ring_of_peers_ends(service: GridService) -> None:
    """Daemons that ask each other pass a figure on three times at most, and the second does not hold it."""
    over = replace(CURRENT, valid_until_wall_ns=NOW_NS - MINUTE_NS)
    passed = []
    tells(service, over)
    for _ in range(3):
        (figure,) = asked(service)
        passed.append(figure)
        tells(service, replace(figure, valid_until_wall_ns=NOW_NS - MINUTE_NS))
    error = failure_of(lambda: asked(service))
    assert [figure.origin.count("by way of") for figure in passed] == [1, 2, 3]
    assert [(figure.valid_until_wall_ns or 0) > NOW_NS for figure in passed] == [True, False, False]
    assert (error.reason, "more than 3 peers" in error.detail) == ("stale", True)


def test_another_meaning_is_refused(service: GridService) -> None:
    """Figures on another basis or of another signal are refused, and the failure names the settings."""
    tells(service, replace(CURRENT, basis="lifecycle"))
    error = failure_of(lambda: asked(service))
    assert error.reason == "wrong_unit"
    assert "grid.signal" in error.detail
    tells(service, CURRENT, half_hour(1, signal="marginal"))
    assert failure_of(lambda: asked(service)).reason == "wrong_unit"


def test_another_zone_is_refused(service: GridService) -> None:
    """Figures of another zone are refused; a node that does not know its own takes the peer's."""
    tells(service, CURRENT)
    assert failure_of(lambda: asked(service, zone="FR")).reason == "wrong_zone"
    assert [figure.grid_zone for figure in asked(service, zone="WORLD")] == ["GB"]


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("grams_per_kwh", -3, "implausible"),
        ("grams_per_kwh", 2001, "implausible"),
        ("grams_per_kwh", "231", "malformed"),
        ("grams_per_kwh", None, "stale"),
        ("valid_until", "later", "malformed"),
    ],
)
def test_nonsense_is_refused(service: GridService, member: str, value: Any, reason: str) -> None:
    """A figure that makes no sense fails the whole answer, and a null one is none."""
    tells(service, CURRENT)
    wrong = document(CURRENT)
    wrong["intensity"][member] = value
    service.says_json("/api/v1/grid", wrong)
    assert failure_of(lambda: asked(service)).reason == reason


def test_old_figures_are_stale(service: GridService) -> None:
    """What a peer has from a peer, and is long over, is refused by the feed."""
    old = half_hour(-9, provider="peer", origin="by way of http://another; eia: measured")
    tells(service, old)
    manners = Manners("peer", "", 15 * MINUTE_NS, MINUTE_NS, 30 * MINUTE_NS)
    assert failure_of(lambda: checked(asked(service), manners, NOW_NS)).reason == "stale"


@pytest.mark.parametrize("fault", FAULTS, ids=FAULT_IDS)
def test_faults(service: GridService, fault: Fault) -> None:
    """Whatever the service does instead of answering is counted under its reason."""
    timeout_s = TIMEOUT_S if fault.reason == "timeout" else 10.0
    require_fault(service, fault, lambda: asked(service, timeout_s=timeout_s))


def test_the_password_stays_secret(
    service: GridService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """User and password go into the header of basic authentication and nowhere else."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    secret = Secret("grid.peer.token-file", file)
    encoded = base64.b64encode(PASSWORD.encode()).decode()
    require_secrecy(service, encoded, lambda: asked(service, secret, timeout_s=TIMEOUT_S), caplog)
    assert PASSWORD not in caplog.text
    tells(service, CURRENT)
    assert PASSWORD not in repr(asked(service, secret))
    assert service.requests[-1].headers["authorization"] == f"Basic {encoded}"


def test_half_hours_over_a_change_of_clocks(service: GridService) -> None:
    """Times go over in UTC: the half hours around 01:00 UTC on the last Sunday of March follow each other."""
    tells(service, CURRENT, *(half_hour(number) for number in range(1, 6)))
    begins = [figure.valid_from_wall_ns or 0 for figure in asked(service)]
    assert begins == [BEGIN_NS + number * HALF_NS for number in range(6)]
    assert begins[-1] - begins[0] == 2.5 * HOUR_NS


def test_settings_that_cannot_work() -> None:
    """Without a URL it stops at start and says what to set; without meaning it is an average life cycle."""
    with pytest.raises(SetupError, match=r"grid\.peer\.url"):
        make("peer", Http(), Options("GB"))
    provider = make("peer", Http(), Options("GB", url="http://peer"))
    assert (provider.signal, provider.basis) == ("average", "lifecycle")
