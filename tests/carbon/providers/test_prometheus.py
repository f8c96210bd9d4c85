"""A Prometheus that holds the intensity: one series, one number."""

from collections.abc import Sequence
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
from tests.fakes.grid_service import Answer, GridService
from wattspan.carbon.feed import Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import MINUTE_NS, Options, make, moment_of
from wattspan.carbon.secret import Secret
from wattspan.errors import SetupError
from wattspan.model import Intensity
from wattspan.units import NS_PER_S

NOW_NS = moment_of("2026-10-25T00:20:00Z", "the test")
NOW_S = NOW_NS / NS_PER_S
QUERY = 'avg(grid_intensity{zone="NL"})'
NO_SECRET = Secret("")
TOKEN = "9b8c7d-marker-of-the-secret"


def vector(*samples: tuple[float, str]) -> dict[str, Any]:
    """An instant vector of so many series."""
    result = [{"metric": {"n": str(n)}, "value": list(sample)} for n, sample in enumerate(samples)]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def asked(service: GridService, secret: Secret = NO_SECRET, timeout_s: float = 10.0) -> Sequence[Intensity]:
    """What the provider makes of the service."""
    options = Options("NL", url=service.url, query=QUERY, secret=secret)
    return make("prometheus", Http(timeout_s), options).intensities(NOW_NS)


def test_one_series(service: GridService) -> None:
    """The value of the one series holds for five minutes from its moment, and its origin is the query."""
    service.says_json("/api/v1/query", vector((NOW_S - 0.25, "312.5")))
    (figure,) = asked(service)
    assert figure == Intensity(
        g_per_kwh=312.5,
        valid_from_wall_ns=NOW_NS - NS_PER_S // 4,
        valid_until_wall_ns=NOW_NS - NS_PER_S // 4 + 5 * MINUTE_NS,
        grid_zone="NL",
        provider="prometheus",
        signal="average",
        basis="lifecycle",
        estimated=False,
        fetched_wall_ns=NOW_NS,
        origin=f"{QUERY} at {service.url}",
    )
    (request,) = service.requests
    assert (dict(request.query), "authorization" in request.headers) == ({"query": QUERY}, False)


def test_a_scalar_is_as_good(service: GridService) -> None:
    """`scalar(...)` gives a number without a series."""
    document = {"status": "success", "data": {"resultType": "scalar", "result": [NOW_S, "7"]}}
    service.says_json("/api/v1/query", document)
    assert [figure.g_per_kwh for figure in asked(service)] == [7]


def test_the_operator_says_what_it_means() -> None:
    """Signal and basis are what the settings say, an average over the life cycle when they do not."""
    options = Options("NL", url="http://p", query="q", signal="marginal", basis="direct")
    told, untold = (
        make("prometheus", Http(), each) for each in (options, Options("NL", url="http://p", query="q"))
    )
    assert (told.signal, told.basis, untold.signal, untold.basis) == (
        "marginal",
        "direct",
        "average",
        "lifecycle",
    )


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (vector(), "stale"),
        (vector((NOW_S, "NaN")), "stale"),
        (vector((NOW_S, "+Inf")), "stale"),
        (vector((NOW_S, "1"), (NOW_S, "2")), "malformed"),
        (vector((NOW_S, "-1")), "implausible"),
        (vector((NOW_S, "2001")), "implausible"),
        (vector((NOW_S, "many")), "malformed"),
        (vector((1e300, "1")), "malformed"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, "malformed"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{}]}}, "malformed"),
        ({"status": "error", "errorType": "bad_data", "error": "parse error"}, "malformed"),
        ([], "malformed"),
        ({"status": "success", "data": None}, "malformed"),
    ],
)
def test_anything_else_is_refused(service: GridService, document: Any, reason: str) -> None:
    """No series, a value that is none, two series: each is counted under its reason and prices nothing."""
    service.says_json("/api/v1/query", document)
    assert failure_of(lambda: asked(service)).reason == reason


@pytest.mark.parametrize(("ahead_s", "reason"), [(-3600, "stale"), (3600, "future")])
def test_a_sample_of_another_time(service: GridService, ahead_s: int, reason: str) -> None:
    """A sample of an hour ago or ahead is refused by the feed."""
    service.says_json("/api/v1/query", vector((NOW_S + ahead_s, "1")))
    manners = Manners("prometheus", "", 5 * MINUTE_NS, MINUTE_NS, 10 * MINUTE_NS)
    assert failure_of(lambda: checked(asked(service), manners, NOW_NS)).reason == reason


@pytest.mark.parametrize("fault", FAULTS, ids=FAULT_IDS)
def test_faults(service: GridService, fault: Fault) -> None:
    """Whatever the service does instead of answering is counted under its reason."""
    timeout_s = TIMEOUT_S if fault.reason == "timeout" else 10.0
    require_fault(service, fault, lambda: asked(service, timeout_s=timeout_s))


def test_the_token_stays_secret(
    service: GridService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is a bearer's, goes into the header and nowhere else."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    secret = Secret("grid.prometheus.token-file", file)
    require_secrecy(service, TOKEN, lambda: asked(service, secret, TIMEOUT_S), caplog)
    service.says("*", Answer(json=vector((NOW_S, "1"))))
    assert TOKEN not in repr(asked(service, secret))
    assert service.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (Options("NL", query="q"), "grid.prometheus.url"),
        (Options("NL", url="http://p"), "grid.prometheus.query"),
    ],
)
def test_settings_that_cannot_work(options: Options, key: str) -> None:
    """Without a URL or a query it stops at start and says what to set."""
    with pytest.raises(SetupError, match=key):
        make("prometheus", Http(), options)
