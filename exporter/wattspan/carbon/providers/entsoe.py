"""entsoe: what the power plants of a European bidding zone generate, by type, times the factors of the
fuels.

``/api`` of web-api.tp.entsoe.eu, documentType A75 (actual generation per production type, article 16.1.B&C
of Regulation (EU) 543/2013), processType A16 (realised), with a security token. XML: the document
``GL_MarketDocument``, or an ``Acknowledgement_MarketDocument`` with the reason why there is none.
Average of the generation in the zone, imports not traced; on either basis. It comes an hour or two late, in
some zones five (electricitymaps/electricitymaps-contrib, issue 4775 and pull request 3953), and what comes
late is corrected later.
400 questions a minute for each token and address, then ten minutes of 429 (EnergieID/entsoe-py, issue 70).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Final
from xml.etree import ElementTree

from wattspan.carbon import fuels
from wattspan.carbon.http import Http, place
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, moment_of
from wattspan.carbon.secret import Secret
from wattspan.carbon.zones import bidding_zone_of
from wattspan.errors import FetchError, SetupError
from wattspan.model import Basis, Intensity, Signal
from wattspan.units import NS_PER_S

NAME: Final = "entsoe"
URL: Final = "https://web-api.tp.entsoe.eu/api"
PAST_NS: Final = 24 * HOUR_NS
"""How far back it is asked, for what has been corrected since."""

HOLD_NS: Final = 7 * HOUR_NS
"""Five hours late at most, an hour between two questions, and one to spare."""

STEPS_NS: Final = {"PT15M": 15 * MINUTE_NS, "PT30M": 30 * MINUTE_NS, "PT60M": HOUR_NS, "PT1H": HOUR_NS}
MEGAWATTS: Final = "MAW"
VARIABLE_BLOCKS: Final = "A03"
"""The curve type in which a position that is missing repeats the one before; in all others it is unknown."""

MAX_POINTS: Final = 200
"""Of one period: 24 h and a little of quarter-hours; a document may not make us fill more."""


class Entsoe:
    """One bidding zone.

    Args:
        http: to ask with.
        url: of the API.
        secret: the security token; it stands in the query.
        zone: the zone's Energy Identification Code.
        grid_zone: what the figures are published under.
        basis: which of the factors.
    """

    name: Final = NAME
    signal: Final[Signal] = "average"
    resolution_ns: Final = HOUR_NS
    floor_ns: Final = 15 * MINUTE_NS
    hold_ns: Final = HOLD_NS
    attribution: Final = "ENTSO-E Transparency Platform, transparency.entsoe.eu."

    def __init__(self, http: Http, url: str, secret: Secret, zone: str, grid_zone: str, basis: Basis) -> None:
        self._http = http
        self._url = url
        self._secret = secret
        self._zone = zone
        self._grid_zone = grid_zone
        self.basis: Final = basis

    def intensities(self, now_wall_ns: int) -> Sequence[Intensity]:
        """What is known of the last day. Blocks."""
        token = self._secret.read()
        hour_ns = now_wall_ns // HOUR_NS * HOUR_NS
        query = {
            "documentType": "A75",
            "processType": "A16",
            "in_Domain": self._zone,
            "periodStart": _stamp(hour_ns - PAST_NS),
            "periodEnd": _stamp(hour_ns + HOUR_NS),
            "securityToken": token,
        }
        body = self._http.get(self._url, query, {"Accept": "application/xml"})
        root = document(body, f"{NAME}: {place(self._url)}")
        series, step_ns = generation(root, self._zone, token)
        figures = fuels.by_moment(series, fuels.factors("entsoe", self.basis))
        if series and not figures:
            raise FetchError(
                "malformed", f"{NAME}: too much of the generation is of types without a {self.basis} factor"
            )
        return [
            Intensity(
                g_per_kwh=g_per_kwh,
                valid_from_wall_ns=moment_ns,
                valid_until_wall_ns=moment_ns + step_ns,
                grid_zone=self._grid_zone,
                provider=NAME,
                signal=self.signal,
                basis=self.basis,
                estimated=False,
                fetched_wall_ns=now_wall_ns,
                origin=f"{fuels.ORIGIN}, {self._zone}. {self.attribution}",
            )
            for moment_ns, g_per_kwh in figures.items()
        ]


def document(body: bytes, where: str) -> ElementTree.Element:
    """The root of an XML document that declares no type of its own, and so no entities.

    Raises:
        FetchError: it is none.
    """
    if body.startswith(b"PK"):
        raise FetchError("malformed", f"{where}: a ZIP archive, not XML")
    try:
        # Nothing but the standard library: what makes XML dangerous needs a DOCTYPE, and that ends it.
        parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314
        parser.feed(body)
        root = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FetchError("malformed", f"{where}: not XML") from error
    if not isinstance(root, ElementTree.Element):
        raise FetchError("malformed", f"{where}: not XML")
    return root


def generation(root: ElementTree.Element, zone: str, secret: str) -> tuple[dict[str, dict[int, float]], int]:
    """Megawatts by moment, by production type, in steps of the coarsest resolution; and that step.

    Args:
        root: of the document.
        zone: that was asked for.
        secret: to be kept out of error texts.

    Raises:
        FetchError: it is no such document, or not for that zone.
    """
    kind = _plain(root.tag)
    if kind == "Acknowledgement_MarketDocument":
        text = " ".join((root.findtext("{*}Reason/{*}text") or "no reason given").split())
        raise FetchError("malformed", f"{NAME}: {text.replace(secret, '***')[:200]}")
    if kind != "GL_MarketDocument":
        raise FetchError("malformed", f"{NAME}: a document of another kind")
    parts: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
    for series in root.iterfind("{*}TimeSeries"):
        answered = series.findtext("{*}inBiddingZone_Domain.mRID")
        if answered is None:  # what pumps and plants consume has the zone as its other end
            continue
        if answered.strip() != zone:
            raise FetchError("wrong_zone", f"{NAME}: asked for {zone}, answered for {answered!r:.40}")
        unit = series.findtext("{*}quantity_Measure_Unit.name")
        if unit != MEGAWATTS:
            raise FetchError("wrong_unit", f"{NAME}: {unit!r:.40} instead of {MEGAWATTS}")
        psr_type = series.findtext("{*}MktPSRType/{*}psrType")
        if not psr_type:
            raise FetchError("malformed", f"{NAME}: a series without a production type")
        repeats = series.findtext("{*}curveType") == VARIABLE_BLOCKS
        for period in series.iterfind("{*}Period"):
            parts[psr_type.strip()].update(_points(period, repeats))
    step_ns = max((step for points in parts.values() for _, step in points), default=HOUR_NS)
    return {psr_type: _coarsened(points, step_ns) for psr_type, points in parts.items()}, step_ns


def _points(period: ElementTree.Element, repeats: bool) -> Iterator[tuple[tuple[int, int], float]]:
    """Megawatts by moment and length."""
    step_ns = STEPS_NS.get((period.findtext("{*}resolution") or "").strip())
    if step_ns is None:
        raise FetchError("malformed", f"{NAME}: a resolution other than {', '.join(STEPS_NS)}")
    begin_ns = moment_of(period.findtext("{*}timeInterval/{*}start"), NAME)
    count = (moment_of(period.findtext("{*}timeInterval/{*}end"), NAME) - begin_ns) // step_ns
    if not 0 < count <= MAX_POINTS or begin_ns % step_ns:
        raise FetchError("malformed", f"{NAME}: a period of no use")
    given: dict[int, float] = {}
    for point in period.iterfind("{*}Point"):
        try:
            position, quantity = (
                int(point.findtext("{*}position") or ""),
                float(point.findtext("{*}quantity") or ""),
            )
        except ValueError as error:
            raise FetchError("malformed", f"{NAME}: a point without its number") from error
        if not isfinite(quantity):
            raise FetchError("implausible", f"{NAME}: no number of megawatts")
        given[position] = quantity
    last = None
    for position in range(1, count + 1):
        value = given.get(position, last if repeats else None)
        if value is not None:
            yield (begin_ns + (position - 1) * step_ns, step_ns), value
        last = value


def _coarsened(points: Mapping[tuple[int, int], float], step_ns: int) -> dict[int, float]:
    """Means over a longer step; a step that is not known in full is left out."""
    together: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for (moment_ns, length_ns), value in points.items():
        together[moment_ns // step_ns * step_ns].append((length_ns, value))
    return {
        moment_ns: sum(length_ns * value for length_ns, value in each) / step_ns
        for moment_ns, each in together.items()
        if sum(length_ns for length_ns, _ in each) == step_ns
    }


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        """Ends the parse at a DOCTYPE, before an entity of it is seen."""
        raise ValueError("a document type")


def _plain(tag: str) -> str:
    """A tag without its namespace."""
    return tag.rpartition("}")[2]


def _stamp(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // NS_PER_S, UTC):%Y%m%d%H%M}"


def provider(http: Http, options: Options) -> Entsoe:
    """The bidding zone of the grid zone, or the one whose code is given.

    Raises:
        SetupError: no token, a marginal signal, or a zone whose code is not known.
    """
    if options.signal == "marginal":
        raise SetupError(f"grid.signal: 'marginal', and {NAME} has averages alone; allowed: average")
    if not options.secret.is_set:
        raise SetupError(
            f"grid.providers: {NAME} needs a security token; set grid.{NAME}.token-file"
            f" or {options.secret.variable or 'WATTSPAN_GRID_ENTSOE_TOKEN'}"
        )
    zone = options.own_zone or bidding_zone_of(options.zone)
    if zone is None:
        raise SetupError(
            f"grid.providers: {NAME} knows no bidding zone for the grid zone {options.zone};"
            f" set grid.{NAME}.zone to its Energy Identification Code, such as 10YFR-RTE------C"
        )
    if len(zone) != 16 or not zone.replace("-", "").isalnum() or not zone.isascii():
        raise SetupError(
            f"grid.{NAME}.zone: {zone!r} is no Energy Identification Code; allowed: 16 letters, digits and"
            " dashes, such as 10YFR-RTE------C"
        )
    basis = options.basis or "lifecycle"
    return Entsoe(http, options.url or URL, options.secret, zone, options.zone, basis)
