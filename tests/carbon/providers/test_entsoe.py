"""ENTSO-E: XML by production type to grams."""

from collections.abc import Sequence
from pathlib import Path

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
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, entsoe, make, moment_of
from wattspan.carbon.secret import Secret
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity

NOW_NS = moment_of("2026-03-29T12:20:00Z", "the test")
FRANCE = "10YFR-RTE------C"
TOKEN = "d3b07384-marker-of-the-secret"


def series(
    psr_type: str,
    quantities: Sequence[float | None],
    resolution: str = "PT60M",
    start: str = "2026-03-29T10:00Z",
    end: str = "2026-03-29T12:00Z",
    **others: str,
) -> str:
    """One series; a quantity of None is a position left out."""
    told = {
        "domain": "inBiddingZone_Domain.mRID",
        "zone": FRANCE,
        "unit": "MAW",
        "curve": "A03",
        **others,
    }
    points = "".join(
        f"<Point><position>{position}</position><quantity>{quantity}</quantity></Point>"
        for position, quantity in enumerate(quantities, 1)
        if quantity is not None
    )
    return f"""<TimeSeries><mRID>1</mRID><businessType>A01</businessType>
        <{told["domain"]} codingScheme="A01">{told["zone"]}</{told["domain"]}>
        <quantity_Measure_Unit.name>{told["unit"]}</quantity_Measure_Unit.name>
        <curveType>{told["curve"]}</curveType><MktPSRType><psrType>{psr_type}</psrType></MktPSRType>
        <Period><timeInterval><start>{start}</start><end>{end}</end></timeInterval>
        <resolution>{resolution}</resolution>{points}</Period></TimeSeries>"""


def document(*parts: str, kind: str = "GL_MarketDocument") -> bytes:
    """A whole answer."""
    namespace = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
    inner = "".join(parts)
    return f'<?xml version="1.0" encoding="UTF-8"?><{kind} xmlns="{namespace}">{inner}</{kind}>'.encode()


@pytest.fixture
def token(tmp_path: Path) -> Secret:
    """A token in a file."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return Secret("grid.entsoe.token-file", file)


def asked(
    service: GridService, token: Secret, basis: Basis | None = None, timeout_s: float = 10.0
) -> Sequence[Intensity]:
    """What the provider makes of the service."""
    options = Options("FR", url=f"{service.url}/api", secret=token, basis=basis)
    return make("entsoe", Http(timeout_s), options).intensities(NOW_NS)


def figures(service: GridService, token: Secret, *parts: str, basis: Basis = "lifecycle") -> list[float]:
    """The intensities that some series come to."""
    service.says("/api", Answer(body=document(*parts)))
    return [round(figure.g_per_kwh, 6) for figure in asked(service, token, basis)]


def test_mix_times_factors(service: GridService, token: Secret) -> None:
    """Each hour is the mean of the factors by generation, with provenance, on the basis that was asked."""
    parts = [series("B14", [300, 100]), series("B04", [100, 300])]
    service.says("/api", Answer(body=document(*parts)))
    first, second = asked(service, token)
    assert first.g_per_kwh == pytest.approx((300 * 12 + 100 * 490) / 400)
    assert second.g_per_kwh == pytest.approx((100 * 12 + 300 * 490) / 400)
    assert first.valid_from_wall_ns == moment_of("2026-03-29T10:00Z", "")
    assert first.valid_until_wall_ns == second.valid_from_wall_ns
    assert (first.provider, first.signal, first.basis) == ("entsoe", "average", "lifecycle")
    assert (first.grid_zone, first.estimated, first.fetched_wall_ns) == ("FR", False, NOW_NS)
    assert "IPCC AR5" in first.origin
    assert FRANCE in first.origin
    assert figures(service, token, *parts, basis="direct") == [92.5, 277.5]


def test_the_question(service: GridService, token: Secret) -> None:
    """It asks for realised generation by type, of this zone, for a day and the hour that runs, in UTC."""
    figures(service, token, series("B14", [1, 1]))
    (request,) = service.requests
    assert dict(request.query) == {
        "documentType": "A75",
        "processType": "A16",
        "in_Domain": FRANCE,
        "periodStart": "202603281200",
        "periodEnd": "202603291300",
        "securityToken": TOKEN,
    }


def test_storage_and_consumption_are_no_generation(service: GridService, token: Secret) -> None:
    """Pumped and other storage, what plants consume, and negative figures do not move the mean."""
    mix = [series("B14", [50, 50]), series("B04", [50, 50])]
    others = [
        series("B10", [5000, 5000]),
        series("B25", [5000, 5000]),
        series("B05", [5000, 5000], domain="outBiddingZone_Domain.mRID", zone="anybody's"),
        series("B16", [-40, -40]),
    ]
    assert figures(service, token, *mix, *others) == figures(service, token, *mix) == [251.0, 251.0]


def test_a_missing_position_repeats_the_one_before(service: GridService, token: Secret) -> None:
    """In a curve of variable blocks (A03) a missing position repeats; the first has nothing to repeat."""
    gas = series("B04", [100, None, None, 300, None], "PT15M", end="2026-03-29T11:15Z")
    sun = series("B16", [100] * 5, "PT15M", end="2026-03-29T11:15Z")
    low, high = (490 + 45) / 2, (300 * 490 + 100 * 45) / 400
    assert figures(service, token, gas, sun) == [low, low, low, high, high]
    assert figures(service, token, series("B14", [None, 1], "PT60M")) == [12.0]


def test_in_other_curves_a_missing_position_is_unknown(service: GridService, token: Secret) -> None:
    """In a curve of fixed blocks (A01) nothing is said of a missing position, and no figure is made of it."""
    gas = series("B04", [100, None, 100, 100], "PT30M", curve="A01")
    sun = series("B16", [100] * 4, "PT30M", curve="A01")
    service.says("/api", Answer(body=document(gas, sun)))
    hours = [
        (figure.valid_from_wall_ns or 0) - NOW_NS // HOUR_NS * HOUR_NS for figure in asked(service, token)
    ]
    assert [hour // MINUTE_NS for hour in hours] == [-120, -60, -30]


def test_resolutions_meet_at_the_coarsest(service: GridService, token: Secret) -> None:
    """Quarter-hours beside hours are averaged over the hour; an hour known in part only is left out."""
    sun = series("B16", [0, 100, 200, 300, 400, 400, 400], "PT15M", end="2026-03-29T11:45Z")
    gas = series("B04", [150, 400])
    assert figures(service, token, sun, gas) == [(45 + 490) / 2]


def test_a_type_that_is_late_holds_the_figure_back(service: GridService, token: Secret) -> None:
    """An hour whose gas has not come yet has no figure: without it the grid would look clean."""
    nuclear, gas = series("B14", [100, 100]), series("B04", [100], end="2026-03-29T11:00Z")
    assert figures(service, token, nuclear, gas) == [251.0]


def test_the_sun_at_night_holds_nothing_back(service: GridService, token: Secret) -> None:
    """A type that stops near zero and begins near zero has not been late, and its gap has figures."""
    times = {"start": "2026-03-29T07:00Z", "end": "2026-03-29T12:00Z"}
    sun = [series("B16", [50, 0], start="2026-03-29T07:00Z", end="2026-03-29T09:00Z")]
    sun.append(series("B16", [0, 50], start="2026-03-29T10:00Z", end="2026-03-29T12:00Z"))
    assert len(figures(service, token, series("B14", [100] * 5, **times), *sun)) == 5


@pytest.mark.parametrize(
    ("psr_type", "basis", "given"), [("B17", "lifecycle", 5), ("B06", "direct", 5), ("B01", "direct", 500)]
)
def test_types_without_a_factor(
    service: GridService, token: Secret, psr_type: str, basis: Basis, given: int
) -> None:
    """Waste has no factor, and oil no direct one: up to 5 % are left out of the mean. Biomass is 0 direct."""
    few = [series("B14", [95, 95]), series(psr_type, [given, given])]
    assert len(figures(service, token, *few, basis=basis)) == 2


@pytest.mark.parametrize(
    ("psr_type", "basis"), [("B20", "lifecycle"), ("B07", "lifecycle"), ("B06", "direct")]
)
def test_too_much_without_a_factor(service: GridService, token: Secret, psr_type: str, basis: Basis) -> None:
    """With more than 5 % of the generation without a factor there is no figure, and the failure says why."""
    service.says("/api", Answer(body=document(series("B14", [94, 94]), series(psr_type, [6, 6]))))
    error = failure_of(lambda: asked(service, token, basis))
    assert error.reason == "malformed"
    assert f"without a {basis} factor" in error.detail


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_quarter_hours_over_a_change_of_clocks(service: GridService, token: Secret, day: str) -> None:
    """Times are in UTC: on the days of 23 and 25 hours each quarter-hour follows the one before."""
    sun = series("B16", [100] * 16, "PT15M", start=f"{day}T00:00Z", end=f"{day}T04:00Z")
    service.says("/api", Answer(body=document(sun)))
    found = asked(service, token)
    begins = [figure.valid_from_wall_ns for figure in found]
    start = moment_of(f"{day}T00:00Z", "")
    assert begins == [start + step * 15 * MINUTE_NS for step in range(16)]


def test_another_zone_is_refused(service: GridService, token: Secret) -> None:
    """A series of another zone than was asked for fails the whole answer."""
    service.says("/api", Answer(body=document(series("B14", [1, 1], zone="10YBE----------2"))))
    assert failure_of(lambda: asked(service, token)).reason == "wrong_zone"


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (series("B14", [1, 1], unit="KWH"), "wrong_unit"),
        (series("B14", [1, 1], resolution="P1D"), "malformed"),
        (series("B14", [1, 1], end="2026-03-29T09:00Z"), "malformed"),
        (series("B14", [1, 1], end="2126-03-29T09:00Z"), "malformed"),
        (series("B14", [1, 1], start="yesterday"), "malformed"),
        (series("", [1, 1]), "malformed"),
        (series("B14", [float("nan")]), "implausible"),
        (series("B14", [1]).replace(">1<", ">one<"), "malformed"),
    ],
)
def test_nonsense_is_refused(service: GridService, token: Secret, part: str, reason: str) -> None:
    """A series that makes no sense fails the whole answer, under its reason."""
    service.says("/api", Answer(body=document(series("B04", [1, 1]), part)))
    assert failure_of(lambda: asked(service, token)).reason == reason


def test_an_acknowledgement_says_why(service: GridService, token: Secret) -> None:
    """The document that says why there is no data is a failure with its words, without the token in them."""
    said = f"<Reason><code>999</code><text>No matching data\n found for {TOKEN}</text></Reason>"
    service.says("/api", Answer(body=document(said, kind="Acknowledgement_MarketDocument")))
    error = failure_of(lambda: asked(service, token))
    assert error.reason == "malformed"
    assert error.detail == "entsoe: No matching data found for ***"


@pytest.mark.parametrize(
    "body",
    [
        b"PK\x03\x04" + bytes(64),
        b"<html></html>",
        b"\xff\xfe\x00",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16"),
        b'<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>',
        document(series("B14", [1, 1]))[:-20],
        b"<" * 100_000,
    ],
)
def test_what_is_no_such_document_is_refused(service: GridService, token: Secret, body: bytes) -> None:
    """ZIP, HTML, cut XML and whatever declares entities is malformed; no entity is ever expanded."""
    service.says("/api", Answer(body=body))
    assert failure_of(lambda: asked(service, token)).reason == "malformed"


def test_entities_are_never_expanded(service: GridService, token: Secret) -> None:
    """A good document with a DOCTYPE is refused for it, and a bomb of nested entities ends there, at once."""
    good = document(series("B14", [1, 1]))
    head, _, rest = good.partition(b"?>")
    told = head + b'?><!DOCTYPE GL_MarketDocument [<!ENTITY one "1">]>' + rest.replace(b">1<", b">&one;<")
    service.says("/api", Answer(body=good), Answer(body=told))
    assert len(asked(service, token)) == 2
    assert failure_of(lambda: asked(service, token)).reason == "malformed"
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 9))
    bomb = f'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY e0 "boom">{entities}]><b>&e8;</b>'
    with pytest.raises(FetchError, match="not XML"):
        entsoe.document(bomb.encode(), "here")


def test_stale_and_empty_answers_are_no_figures(service: GridService, token: Secret) -> None:
    """A document of yesterday is stale, and one without series has no figures: the feed refuses both."""
    manners = Manners("entsoe", "", HOUR_NS, HOUR_NS, 2 * HOUR_NS)
    old = series("B14", [1, 1], start="2026-03-28T10:00Z", end="2026-03-28T12:00Z")
    service.says("/api", Answer(body=document(old)), Answer(body=document()))
    assert failure_of(lambda: checked(asked(service, token), manners, NOW_NS)).reason == "stale"
    assert failure_of(lambda: checked(asked(service, token), manners, NOW_NS)).reason == "malformed"


@pytest.mark.parametrize("fault", FAULTS, ids=FAULT_IDS)
def test_faults(service: GridService, token: Secret, fault: Fault) -> None:
    """Whatever the service does instead of answering is counted under its reason."""
    timeout_s = TIMEOUT_S if fault.reason == "timeout" else 10.0
    require_fault(service, fault, lambda: asked(service, token, timeout_s=timeout_s))


def test_the_token_stays_secret(
    service: GridService, token: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    """The token goes into the query and nowhere else."""
    require_secrecy(service, TOKEN, lambda: asked(service, token, timeout_s=TIMEOUT_S), caplog)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options("FR"), ["entsoe", "grid.entsoe.token-file"]),
        (Options("IT", secret=Secret("k", Path("t"))), ["IT", "grid.entsoe.zone", FRANCE]),
        (Options("FR", "Paris", secret=Secret("k", Path("t"))), ["grid.entsoe.zone", "'Paris'", "16"]),
        (
            Options("FR", secret=Secret("k", Path("t")), signal="marginal"),
            ["grid.signal", "marginal", "average"],
        ),
    ],
)
def test_settings_that_cannot_work(options: Options, words: list[str]) -> None:
    """Without a token, without a code of the zone, or as marginal, it stops at start and says what to set."""
    with pytest.raises(SetupError) as caught:
        make("entsoe", Http(), options)
    assert all(word in str(caught.value) for word in words)
