"""Live prices: the exchange's, a Prometheus's and a file's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.carbon.faults import FAULT_IDS, FAULTS, TIMEOUT_S, Fault, failure_of, require_fault
from tests.fakes.grid_service import GridService
from wattspan.carbon import prices, timeline
from wattspan.carbon.feed import Feed, Manners, checked
from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, moment_of
from wattspan.errors import FetchError, SetupError
from wattspan.model import Tariff
from wattspan.units import NS_PER_S

NOW_NS = moment_of("2026-10-25T00:20:00Z", "the test")
NOW_S = NOW_NS // NS_PER_S
HOUR_S = NOW_S // 3600 * 3600
QUERY = "electricity_price"


def document(begins: Sequence[Any], per_mwh: Sequence[Any], unit: str = "EUR / MWh") -> dict[str, Any]:
    """What Energy-Charts answers."""
    told = {"license_info": "CC BY 4.0", "deprecated": False}
    return {**told, "unix_seconds": list(begins), "price": list(per_mwh), "unit": unit}


def source(
    name: str, service: GridService, path: Path | None = None, timeout_s: float = 10.0
) -> prices.LivePrices:
    """One of the sources."""
    return prices.make(name, Http(timeout_s), service.url, "DE-LU", QUERY, path, "EUR")


def asked(service: GridService, timeout_s: float = 10.0) -> Sequence[Tariff]:
    """What Energy-Charts comes to."""
    return source("energycharts", service, timeout_s=timeout_s).tariffs(NOW_NS)


def fed(live: prices.LivePrices) -> Sequence[Tariff]:
    """What a feed believes of a source."""
    manners = Manners(live.name, "EUR", live.resolution_ns, live.floor_ns, live.hold_ns)
    return checked(live.tariffs(NOW_NS), manners, NOW_NS)


def test_exchange_prices_are_per_kwh(service: GridService) -> None:
    """A price per MWh is a thousandth per kWh, holds until the next, and is kept below zero."""
    service.says_json("/price", document([HOUR_S, HOUR_S + 3600, HOUR_S + 7200], [87.5, -12, 0]))
    tariffs = asked(service)
    timeline.require_order(tariffs)
    begin_ns = HOUR_S * NS_PER_S
    assert tariffs[0] == Tariff(0.0875, begin_ns, begin_ns + HOUR_NS, "energycharts", NOW_NS)
    assert [tariff.per_kwh for tariff in tariffs] == [0.0875, -0.012, 0]
    assert tariffs[-1].valid_until_wall_ns == begin_ns + 3 * HOUR_NS
    (request,) = service.requests
    assert dict(request.query) == {"bzn": "DE-LU", "start": "2026-10-24", "end": "2026-10-27"}


def test_quarter_hours_over_a_change_of_clocks(service: GridService) -> None:
    """Times are in UTC: on the day of 25 hours each quarter-hour follows the one before."""
    begins = [HOUR_S + n * 900 for n in range(16)]
    service.says_json("/price", document(begins, [50.0] * 16))
    tariffs = asked(service)
    assert [tariff.valid_from_wall_ns for tariff in tariffs] == [begin * NS_PER_S for begin in begins]
    lengths = {(t.valid_until_wall_ns or 0) - (t.valid_from_wall_ns or 0) for t in tariffs}
    assert lengths == {15 * MINUTE_NS}


def test_a_null_price_is_none(service: GridService) -> None:
    """Null is not zero: the hour has no price, and those beside it keep their lengths."""
    service.says_json("/price", document([HOUR_S, HOUR_S + 3600, HOUR_S + 7200], [10, None, 30]))
    tariffs = asked(service)
    assert [tariff.per_kwh for tariff in tariffs] == [0.01, 0.03]
    assert timeline.at(tariffs, (HOUR_S + 3600) * NS_PER_S) is None


def test_a_gap_is_not_filled(service: GridService) -> None:
    """A price holds for an hour at most, however late the next one is."""
    service.says_json("/price", document([HOUR_S, HOUR_S + 86400], [10, 20]))
    assert [(t.valid_until_wall_ns or 0) - (t.valid_from_wall_ns or 0) for t in asked(service)] == [
        HOUR_NS
    ] * 2
    service.says_json("/price", document([HOUR_S], [10]))
    assert len(fed(source("energycharts", service))) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (document([HOUR_S], [10], "PLN / MWh"), "wrong_unit"),
        (document([HOUR_S], [10], "EUR / kWh"), "wrong_unit"),
        (document([HOUR_S, HOUR_S + 1], [10]), "malformed"),
        (document([HOUR_S, HOUR_S], [10, 10]), "malformed"),
        (document([HOUR_S, HOUR_S - 60], [10, 10]), "malformed"),
        (document(["now"], [10]), "malformed"),
        (document([2**60], [10]), "malformed"),
        (document([HOUR_S], ["10"]), "malformed"),
        (document([HOUR_S], [True]), "malformed"),
        (document([HOUR_S], [1e5]), "implausible"),
        (document([HOUR_S], [-1e5]), "implausible"),
        (document([HOUR_S], [float("nan")]), "implausible"),
        (document([HOUR_S], [None]), "malformed"),
        (document([], []), "malformed"),
        (document([HOUR_S - 86400], [10]), "stale"),
        (document([HOUR_S + 86400], [10]), "future"),
        ({"unit": "EUR / MWh"}, "malformed"),
        ([], "malformed"),
    ],
)
def test_nonsense_is_refused(service: GridService, answer: Any, reason: str) -> None:
    """Prices that make no sense fail the whole answer, under their reason."""
    service.says_json("/price", answer)
    assert failure_of(lambda: fed(source("energycharts", service))).reason == reason


@pytest.mark.parametrize("fault", FAULTS, ids=FAULT_IDS)
@pytest.mark.parametrize("name", ["energycharts", "prometheus"])
def test_faults(service: GridService, fault: Fault, name: str) -> None:
    """Whatever a service does instead of answering is counted under its reason."""
    timeout_s = TIMEOUT_S if fault.reason == "timeout" else 10.0
    require_fault(service, fault, lambda: source(name, service, timeout_s=timeout_s).tariffs(NOW_NS))


def test_a_price_by_query(service: GridService) -> None:
    """The one series of a Prometheus is the price per kWh, for five minutes; a stale one is none."""
    result = [{"metric": {}, "value": [NOW_S, "-0.05"]}]
    service.says_json(
        "/api/v1/query", {"status": "success", "data": {"resultType": "vector", "result": result}}
    )
    assert list(fed(source("prometheus", service))) == [
        Tariff(-0.05, NOW_NS, NOW_NS + 5 * MINUTE_NS, "prometheus", NOW_NS)
    ]
    assert service.first.query == {"query": QUERY}
    service.says_json("/api/v1/query", {"status": "success", "data": {"resultType": "vector", "result": []}})
    assert failure_of(lambda: source("prometheus", service).tariffs(NOW_NS)).reason == "stale"


INTERVALS = [
    {"from": "2026-10-25T00:00Z", "until": "2026-10-25T01:00Z", "per_kwh": 0.21},
    {"from": "2026-10-25T02:00+01:00", "until": "2026-10-25T02:00Z", "per_kwh": -0.01},
]


def test_a_file_of_prices(service: GridService, tmp_path: Path) -> None:
    """Each interval of the file is a tariff, through the hour that the clock shows twice."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"currency": "EUR", "intervals": INTERVALS}))
    tariffs = fed(source("file", service, path))
    begin_ns = HOUR_S * NS_PER_S
    assert list(tariffs) == [
        Tariff(0.21, begin_ns, begin_ns + HOUR_NS, "file", NOW_NS),
        Tariff(-0.01, begin_ns + HOUR_NS, begin_ns + 2 * HOUR_NS, "file", NOW_NS),
    ]


@pytest.mark.parametrize(
    ("text", "reason", "named"),
    [
        (json.dumps({"currency": "SEK", "intervals": INTERVALS}), "wrong_unit", "currency: 'SEK'"),
        (json.dumps({"intervals": INTERVALS}), "wrong_unit", "currency: None"),
        (json.dumps({"currency": "EUR"}), "malformed", "intervals: not an array"),
        (
            json.dumps({"currency": "EUR", "intervals": [INTERVALS[0] | {"per_kwh": "0.2"}]}),
            "malformed",
            "intervals[0].per_kwh",
        ),
        (
            json.dumps({"currency": "EUR", "intervals": [INTERVALS[0] | {"per_kwh": 1e7}]}),
            "implausible",
            "intervals[0].per_kwh",
        ),
        (
            json.dumps({"currency": "EUR", "intervals": [{"from": "2026-10-25", "until": "2026-10-26"}]}),
            "malformed",
            "intervals[0].per_kwh: missing",
        ),
        (json.dumps({"currency": "EUR", "intervals": INTERVALS})[:-5], "malformed", "not JSON"),
        (" " * (10 << 20), "malformed", "more than"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    service: GridService, tmp_path: Path, text: str, reason: str, named: str
) -> None:
    """A file that makes no sense is refused as a whole, and the text names the file and the member."""
    path = tmp_path / "prices.json"
    path.write_text(text)
    error = failure_of(lambda: source("file", service, path).tariffs(NOW_NS))
    assert (error.reason, error.detail.startswith(f"{path}: ")) == (reason, True)
    assert named in error.detail


def test_prices_go_through_a_feed(service: GridService, tmp_path: Path) -> None:
    """A feed keeps prices over a restart, and tells their failures apart as it does intensities'."""
    service.says_json("/price", document([HOUR_S, HOUR_S + 3600], [10, 20]))
    live = source("energycharts", service)

    def feed() -> Feed[Tariff]:
        manners = Manners(live.name, "EUR", live.resolution_ns, live.floor_ns, live.hold_ns)
        return Feed(manners, live.tariffs, Tariff, "DE-LU", folder=tmp_path / "grid")

    first = feed()
    assert first.refresh(NOW_NS, NOW_NS, at_once=True)
    again = feed()
    again.due_ns(NOW_NS, NOW_NS)
    assert [tariff.per_kwh for tariff in again.figures] == [0.01, 0.02]
    service.says_json("/price", document([HOUR_S], [10], "GBP / MWh"))
    assert not again.refresh(NOW_NS, NOW_NS, at_once=True)
    assert again.failures["wrong_unit"] == 1
    assert again.figures == first.figures


@pytest.mark.parametrize("name", prices.NAMES)
def test_each_source_declares_its_manners(service: GridService, tmp_path: Path, name: str) -> None:
    """A source goes by its module's name, and is asked no more often than once a minute."""
    live = source(name, service, tmp_path / "prices.json")
    assert live.name == name
    assert live.floor_ns >= MINUTE_NS
    assert 5 * MINUTE_NS <= live.resolution_ns <= HOUR_NS
    assert bool(live.attribution) == (name == "energycharts")


@pytest.mark.parametrize(
    ("name", "url", "zone", "query", "currency", "named"),
    [
        ("energycharts", "", "", "", "EUR", "set cost.zone"),
        ("energycharts", "", "DE-LU", "", "CHF", "cost.currency: 'CHF'"),
        ("energycharts", "", "DE-LU", "", "", "set cost.currency"),
        ("prometheus", "", "", "q", "EUR", "set cost.url"),
        ("prometheus", "http://p", "", "", "EUR", "set cost.query"),
        ("file", "", "", "", "EUR", "set cost.path"),
    ],
)
def test_settings_that_cannot_work(
    name: str, url: str, zone: str, query: str, currency: str, named: str
) -> None:
    """What a source lacks stops it at start, and the text names the key."""
    with pytest.raises(SetupError) as caught:
        prices.make(name, Http(), url, zone, query, None, currency)
    assert named in str(caught.value)


def test_prices_of_money_that_is_cheap() -> None:
    """A price of ten thousand is one in some currencies; a boolean is none in any."""
    assert prices.price_of(10_000, "it") == 10_000
    with pytest.raises(FetchError, match="no number"):
        prices.price_of(False, "it")
