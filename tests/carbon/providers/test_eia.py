"""EIA: hours by fuel to grams, and what stands in for the day that is missing."""

from collections.abc import Sequence
from datetime import UTC, datetime
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
from wattspan.carbon.providers import HOUR_NS, Options, make, moment_of
from wattspan.carbon.secret import Secret
from wattspan.errors import SetupError
from wattspan.model import Basis, Intensity
from wattspan.units import NS_PER_S

NOW_NS = moment_of("2026-03-08T15:20:00Z", "the test")
HOUR = NOW_NS // HOUR_NS * HOUR_NS
NEWEST = HOUR - 26 * HOUR_NS
KEY = "0f1e2d-marker-of-the-secret"
PATH = "/v2/electricity/rto/fuel-type-data/data"


def row(fuel: str, begin_ns: int, value: str | None, **others: Any) -> dict[str, Any]:
    """One row: the period is named by the hour's end."""
    end = datetime.fromtimestamp((begin_ns + HOUR_NS) // NS_PER_S, UTC)
    return {
        "period": f"{end:%Y-%m-%dT%H}",
        "respondent": "CISO",
        "respondent-name": "California Independent System Operator",
        "fueltype": fuel,
        "type-name": fuel,
        "value": value,
        "value-units": "megawatthours",
        **others,
    }


def document(*rows: dict[str, Any]) -> dict[str, Any]:
    """A whole answer, newest first."""
    return {
        "response": {"total": str(len(rows)), "dateFormat": 'YYYY-MM-DD"T"HH24', "data": list(rows)},
        "apiVersion": "2.1.8",
    }


def days(count: int = 48) -> list[dict[str, Any]]:
    """So many hours up to the newest, of nuclear and of gas that grows by the hour of the day."""
    begins = [NEWEST - back * HOUR_NS for back in range(count)]
    gas = [row("NG", begin, str(100 * (begin // HOUR_NS % 24))) for begin in begins]
    return [
        each
        for pair in zip(gas, (row("NUC", begin, "1000") for begin in begins), strict=True)
        for each in pair
    ]


@pytest.fixture
def key(tmp_path: Path) -> Secret:
    """A key in a file."""
    file = tmp_path / "key"
    file.write_text(KEY)
    return Secret("grid.eia.token-file", file)


def asked(
    service: GridService, key: Secret, basis: Basis | None = None, timeout_s: float = 10.0
) -> Sequence[Intensity]:
    """What the provider makes of the service."""
    options = Options("US-CAL-CISO", url=service.url, secret=key, basis=basis)
    return make("eia", Http(timeout_s), options).intensities(NOW_NS)


def test_mix_times_factors(service: GridService, key: Secret) -> None:
    """An hour is named by its end, its values are texts, and its figure the mean of factors by generation."""
    service.says_json(PATH, document(row("NUC", NEWEST, "300"), row("NG", NEWEST, "100")))
    first, *_ = asked(service, key)
    assert first.g_per_kwh == (300 * 12 + 100 * 490) / 400
    assert (first.valid_from_wall_ns, first.valid_until_wall_ns) == (NEWEST, NEWEST + HOUR_NS)
    assert (first.provider, first.signal, first.basis) == ("eia", "average", "lifecycle")
    assert (first.grid_zone, first.estimated, first.fetched_wall_ns) == ("US-CAL-CISO", False, NOW_NS)
    assert asked(service, key, "direct")[0].g_per_kwh == 100 * 370 / 400


def test_the_question(service: GridService, key: Secret) -> None:
    """It asks for the hours of this balancing authority, newest first, as many as an answer may hold."""
    service.says_json(PATH, document(*days()))
    asked(service, key)
    (request,) = service.requests
    assert dict(request.query) == {
        "frequency": "hourly",
        "data[0]": "value",
        "facets[respondent][]": "CISO",
        "start": "2026-03-04T15",
        "end": "2026-03-08T16",
        "sort[0][column]": "period",
        "sort[0][direction]": "desc",
        "length": "5000",
        "api_key": KEY,
    }


def test_yesterday_stands_in_for_today(service: GridService, key: Secret) -> None:
    """From the newest hour to 24 h ahead each hour has the figure of the same hour of the newest day, as an
    estimate that says so; what was measured is not one.
    """
    service.says_json(PATH, document(*days()))
    figures = asked(service, key)
    timeline.require_order(figures)
    measured = [figure for figure in figures if not figure.estimated]
    assert [figure.valid_from_wall_ns for figure in measured] == [
        NEWEST + (n - 47) * HOUR_NS for n in range(48)
    ]
    since = figures[48:]
    assert [figure.valid_from_wall_ns for figure in since] == [NEWEST + n * HOUR_NS for n in range(1, 51)]
    assert all(figure.estimated and "persistence" in figure.origin for figure in since)
    by_hour = {
        (figure.valid_from_wall_ns or 0) // HOUR_NS % 24: figure.g_per_kwh for figure in measured[-24:]
    }
    for figure in since:
        assert figure.g_per_kwh == by_hour[(figure.valid_from_wall_ns or 0) // HOUR_NS % 24]
    assert timeline.at(figures, NOW_NS) is not None
    assert checked(figures, Manners("eia", "", HOUR_NS, HOUR_NS, 2 * HOUR_NS), NOW_NS) == figures


def test_hours_over_a_change_of_clocks(service: GridService, key: Secret) -> None:
    """Periods are in UTC, so the day of the change of clocks (8 March 2026) has each hour once."""
    newest = moment_of("2026-03-08T14:00Z", "")
    service.says_json(PATH, document(*(row("NUC", newest - back * HOUR_NS, "1") for back in range(24))))
    begins = [figure.valid_from_wall_ns for figure in asked(service, key) if not figure.estimated]
    assert begins == [newest - back * HOUR_NS for back in reversed(range(24))]


def test_storage_and_negative_values_are_no_generation(service: GridService, key: Secret) -> None:
    """Batteries and pumped storage, and plants that draw power, do not move the mean."""
    mix = [row("NUC", NEWEST, "100"), row("NG", NEWEST, "100")]
    others = [row(fuel, NEWEST, "900") for fuel in ("BAT", "PS", "OES", "UES")] + [row("SUN", NEWEST, "-30")]
    service.says_json(PATH, document(*mix, *others))
    assert asked(service, key)[0].g_per_kwh == 251


def test_a_null_is_unknown_and_no_zero(service: GridService, key: Secret) -> None:
    """An hour whose gas is null has no figure: with a zero the grid would look clean."""
    rows = [row("NUC", NEWEST, "100"), row("NG", NEWEST, None)]
    rows += [row("NUC", NEWEST - HOUR_NS, "100"), row("NG", NEWEST - HOUR_NS, "100")]
    service.says_json(PATH, document(*rows))
    measured = [figure for figure in asked(service, key) if not figure.estimated]
    assert [(figure.valid_from_wall_ns, figure.g_per_kwh) for figure in measured] == [(NEWEST - HOUR_NS, 251)]


def test_too_much_without_a_factor(service: GridService, key: Secret) -> None:
    """With more than 5 % of unknown fuels there is no figure, and the failure says why."""
    service.says_json(PATH, document(row("NUC", NEWEST, "94"), row("OTH", NEWEST, "6")))
    error = failure_of(lambda: asked(service, key))
    assert (error.reason, "without a lifecycle factor" in error.detail) == ("malformed", True)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("NG", NEWEST, "1", respondent="ERCO"), "wrong_zone"),
        (row("NG", NEWEST, "1", **{"value-units": "gigawatthours"}), "wrong_unit"),
        (row("NG", NEWEST, "many"), "malformed"),
        (row("NG", NEWEST, "inf"), "implausible"),
        (row("NG", NEWEST, "1", period="2026-03"), "malformed"),
        ({"period": "2026-03-07T10"}, "malformed"),
    ],
)
def test_nonsense_is_refused(service: GridService, key: Secret, bad: dict[str, Any], reason: str) -> None:
    """A row that makes no sense fails the whole answer, under its reason."""
    service.says_json(PATH, document(row("NUC", NEWEST, "1"), bad))
    assert failure_of(lambda: asked(service, key)).reason == reason


def test_three_days_late_is_stale(service: GridService, key: Secret) -> None:
    """A newest hour more than 72 h old stands for nothing now."""
    service.says_json(PATH, document(row("NUC", HOUR - 72 * HOUR_NS, "1")))
    assert failure_of(lambda: asked(service, key)).reason == "stale"


def test_no_rows_are_no_figures(service: GridService, key: Secret) -> None:
    """An answer without rows is refused by the feed."""
    service.says_json(PATH, document())
    manners = Manners("eia", "", HOUR_NS, HOUR_NS, 2 * HOUR_NS)
    assert failure_of(lambda: checked(asked(service, key), manners, NOW_NS)).reason == "malformed"


@pytest.mark.parametrize("fault", FAULTS, ids=FAULT_IDS)
def test_faults(service: GridService, key: Secret, fault: Fault) -> None:
    """Whatever the service does instead of answering is counted under its reason."""
    timeout_s = TIMEOUT_S if fault.reason == "timeout" else 10.0
    require_fault(service, fault, lambda: asked(service, key, timeout_s=timeout_s))


def test_the_key_stays_secret(service: GridService, key: Secret, caplog: pytest.LogCaptureFixture) -> None:
    """The key goes into the query and nowhere else."""
    require_secrecy(service, KEY, lambda: asked(service, key, timeout_s=TIMEOUT_S), caplog)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options("US-CAL-CISO"), ["eia", "grid.eia.token-file"]),
        (Options("US", secret=Secret("k", Path("t"))), ["US", "grid.eia.zone", "CISO"]),
        (Options("US", "CISO", secret=Secret("k", Path("t")), signal="marginal"), ["grid.signal", "average"]),
    ],
)
def test_settings_that_cannot_work(options: Options, words: list[str]) -> None:
    """Without a key, without a code of the area, or as marginal, it stops at start and says what to set."""
    with pytest.raises(SetupError) as caught:
        make("eia", Http(), options)
    assert all(word in str(caught.value) for word in words)
