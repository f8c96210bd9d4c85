"""The Carbon Aware SDK's web API: what was observed, and what is foreseen."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.carbon.faults import FAULT_IDS, FAULTS, TIMEOUT_S, Fault, failure_of, require_fault
from tests.fakes.grid_service import Answer, GridService
from wattspan.carbon import timeline
from wattspan.carbon.feed import Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, make, moment_of
from wattspan.errors import SetupError
from wattspan.model import Intensity

NOW_NS = moment_of("2026-03-29T01:20:00Z", "the test")
OBSERVED, FORESEEN = "/emissions/bylocation", "/emissions/forecasts/current"


def observed(
    time: str, rating: Any, duration: str | None = "00:30:00", location: str = "westeurope"
) -> dict[str, Any]:
    """What was observed from a time on."""
    row = {"location": location, "time": time, "rating": rating}
    return row if duration is None else {**row, "duration": duration}


def forecast(*points: tuple[str, Any], location: str = "westeurope") -> list[dict[str, Any]]:
    """A forecast of half hours."""
    data = [{"location": location, "timestamp": at, "duration": 30, "value": value} for at, value in points]
    told = {"generatedAt": "2026-03-29T01:00:00+00:00", "location": location, "windowSize": 30}
    return [{**told, "optimalDataPoints": data[:1], "forecastData": data}]


GOOD = [
    observed("2026-03-29T00:00:00+00:00", 300.5),
    observed("2026-03-29T00:30:00.0000000+00:00", 290),
    observed("2026-03-29T03:00:00+02:00", 280),  # of the same row, by the clock of summer
]


def asked(service: GridService, zone: str = "westeurope", timeout_s: float = 10.0) -> Sequence[Intensity]:
    """What the provider makes of the service."""
    options = Options("NL", zone, service.url, signal="average", basis="lifecycle")
    return make("carbonaware", Http(timeout_s), options).intensities(NOW_NS)


def test_observed_then_foreseen(service: GridService) -> None:
    """What was observed is measured; a forecast follows where that ends, as an estimate."""
    service.says_json(OBSERVED, GOOD)
    points = [("2026-03-29T01:00:00+00:00", 999.0), ("2026-03-29T01:30:00+00:00", 270.0)]
    service.says_json(FORESEEN, forecast(*points, ("2026-03-29T02:00:00+00:00", 260.0)))
    figures = asked(service)
    timeline.require_order(figures)
    assert [figure.g_per_kwh for figure in figures] == [300.5, 290, 280, 270, 260]
    assert [figure.estimated for figure in figures] == [False] * 3 + [True] * 2
    start = moment_of("2026-03-29T00:00Z", "")
    assert [figure.valid_from_wall_ns for figure in figures] == [start + n * 30 * MINUTE_NS for n in range(5)]
    assert {figure.grid_zone for figure in figures} == {"NL"}
    assert {(figure.provider, figure.signal, figure.basis) for figure in figures} == {
        ("carbonaware", "average", "lifecycle")
    }


def test_the_question(service: GridService) -> None:
    """It asks for the observations of a day at its location, and for the forecast there."""
    service.says_json(OBSERVED, GOOD)
    service.says_json(FORESEEN, forecast())
    asked(service)
    day = {"time": "2026-03-28T01:20:00Z", "toTime": "2026-03-29T01:20:00Z"}
    assert [dict(request.query) for request in service.requests] == [
        {"location": "westeurope", **day},
        {"location": "westeurope"},
    ]


@pytest.mark.parametrize("status", [204, 501])
def test_without_a_forecast_there_is_still_the_present(service: GridService, status: int) -> None:
    """501, a source without forecasts, and 204, one that has none now, are no failures."""
    service.says_json(OBSERVED, GOOD)
    service.says(FORESEEN, Answer(status=status, body=b""))
    assert len(asked(service)) == 3


def test_a_forecast_stands_where_nothing_was_observed(service: GridService) -> None:
    """204, or an empty list, on the observations of a day leaves what is foreseen of now and later."""
    points = [("2026-03-29T01:00:00+00:00", 270.0), ("2026-03-29T01:30:00+00:00", 260.0)]
    service.says_json(FORESEEN, forecast(*points))
    for nothing in (Answer(status=204, body=b""), Answer(json=[])):
        service.says(OBSERVED, nothing)
        figures = checked(asked(service), Manners("carbonaware", "", HOUR_NS, HOUR_NS, 2 * HOUR_NS), NOW_NS)
        assert [(figure.g_per_kwh, figure.estimated) for figure in figures] == [(270, True), (260, True)]


@pytest.mark.parametrize("fault", FAULTS[1:5], ids=FAULT_IDS[1:5])
def test_a_forecast_that_fails_fails_the_answer(service: GridService, fault: Fault) -> None:
    """401, 403 and 429 hold for all questions, and a server that is broken has not said that there is none:
    what was foreseen before stays known, and the feed tries again."""
    service.says_json(OBSERVED, GOOD)
    service.says(FORESEEN, fault.answer)
    assert failure_of(lambda: asked(service)).reason == fault.reason


def test_a_figure_holds_until_the_next(service: GridService) -> None:
    """Where observations come closer together than they say they last, each ends with the next; one of the
    same moment counts once; without a duration it is an hour.
    """
    times = ["00:00", "00:15", "00:15", "00:30"]
    rows = [observed(f"2026-03-29T{time}:00Z", 100 + n, "01:00:00") for n, time in enumerate(times)]
    service.says_json(OBSERVED, [*rows[:3], observed("2026-03-29T00:30:00Z", 103, None)])
    service.says_json(FORESEEN, forecast())
    figures = asked(service)
    lengths = [(f.valid_until_wall_ns or 0) - (f.valid_from_wall_ns or 0) for f in figures]
    assert [figure.g_per_kwh for figure in figures] == [100, 102, 103]
    assert lengths == [15 * MINUTE_NS, 15 * MINUTE_NS, HOUR_NS]


def test_another_location_is_refused_unless_it_was_named(service: GridService) -> None:
    """Figures of another location are refused; WattTime's come under its own region, which may be named."""
    service.says_json(FORESEEN, forecast())
    service.says_json(OBSERVED, [observed("2026-03-29T01:00:00Z", 1, location="NL")])
    assert failure_of(lambda: asked(service)).reason == "wrong_zone"
    service.says_json(FORESEEN, forecast(location="NL"))
    assert failure_of(lambda: asked(service)).reason == "wrong_zone"
    assert [figure.g_per_kwh for figure in asked(service, "westeurope:NL")] == [1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (observed("2026-03-29T01:00:00Z", None), "malformed"),
        (observed("2026-03-29T01:00:00Z", "200"), "malformed"),
        (observed("2026-03-29T01:00:00Z", -1), "implausible"),
        (observed("2026-03-29T01:00:00Z", 2001), "implausible"),
        (observed("soon", 200), "malformed"),
        (observed("2026-03-29T01:00:00Z", 200, "a while"), "malformed"),
        ({"location": "westeurope"}, "malformed"),
        ("text", "malformed"),
    ],
)
def test_nonsense_is_refused(service: GridService, row: Any, reason: str) -> None:
    """A row that makes no sense fails the whole answer, under its reason."""
    service.says_json(OBSERVED, [*GOOD, row])
    service.says_json(FORESEEN, forecast())
    assert failure_of(lambda: asked(service)).reason == reason


@pytest.mark.parametrize("document", [None, [], {}, [{"location": "westeurope"}], "text", forecast() * 2])
def test_a_forecast_that_makes_no_sense_fails_the_answer(service: GridService, document: Any) -> None:
    """An answer is believed as a whole or not at all."""
    service.says_json(OBSERVED, GOOD)
    service.says_json(FORESEEN, document)
    assert failure_of(lambda: asked(service)).reason == "malformed"


def test_stale_and_empty_answers_are_no_figures(service: GridService) -> None:
    """Observations of yesterday are stale, and none at all are no figures: the feed refuses both."""
    manners = Manners("carbonaware", "", HOUR_NS, HOUR_NS, 2 * HOUR_NS)
    service.says_json(FORESEEN, forecast())
    service.says_json(OBSERVED, [observed("2026-03-28T12:00:00Z", 1)])
    assert failure_of(lambda: checked(asked(service), manners, NOW_NS)).reason == "stale"
    service.says_json(OBSERVED, [])
    assert failure_of(lambda: checked(asked(service), manners, NOW_NS)).reason == "malformed"


@pytest.mark.parametrize("fault", FAULTS, ids=FAULT_IDS)
def test_faults(service: GridService, fault: Fault) -> None:
    """Whatever the service does instead of answering is counted under its reason."""
    timeout_s = TIMEOUT_S if fault.reason == "timeout" else 10.0
    require_fault(service, fault, lambda: asked(service, timeout_s=timeout_s))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options("NL", signal="average", basis="direct"), ["grid.carbonaware.url"]),
        (Options("NL", url="http://sdk", basis="direct"), ["grid.signal", "grid.basis", "marginal"]),
        (Options("NL", url="http://sdk", signal="average"), ["grid.signal", "grid.basis", "lifecycle"]),
    ],
)
def test_settings_that_cannot_work(options: Options, words: list[str]) -> None:
    """Nobody but the operator knows what an SDK's figures mean, so without that it stops at start."""
    with pytest.raises(SetupError) as caught:
        make("carbonaware", Http(), options)
    assert all(word in str(caught.value) for word in words)
