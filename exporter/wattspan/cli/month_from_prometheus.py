"""A month's use out of a Prometheus, over all nodes that it scrapes, by instant queries at the month's end.

With the standard library alone, since commands run without the daemon's extras.
"""

import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from wattspan.errors import SetupError, UnreachableError, WattspanError
from wattspan.journal.periods import bounds_of, month_of
from wattspan.model import CounterKey
from wattspan.report.period import GRID, Gained, priced_of
from wattspan.report.quantities import moment
from wattspan.units import NS_PER_S

TIMEOUT_S: Final = 60.0
"""For an answer as a whole; a month of a large cluster is a slow query."""

BYTES_MAX: Final = 16 << 20
"""Of one answer: 200 owners on each of hundreds of nodes are summed over nodes there, not here."""

_CHUNK_BYTES: Final = 1 << 16

_OWNER: Final = ("pod_namespace", "project")

_GRID_LABELS: Final = ("grid_zone", "provider", "signal", "basis")

METRICS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "owner_energy": ("wattspan_owner_energy_joules_total", (*_OWNER, "component")),
    "owner_co2e": ("wattspan_owner_co2e_grams_total", (*_OWNER, "part", "basis")),
    "owner_cost": ("wattspan_owner_cost_total", (*_OWNER, "currency")),
    "owner_gpu": ("wattspan_owner_gpu_seconds_total", _OWNER),
    "owner_idle_gpu": ("wattspan_owner_idle_gpu_seconds_total", _OWNER),
    "owner_wasted_energy": ("wattspan_owner_wasted_energy_joules_total", (*_OWNER, "reason")),
    "owner_wasted_cost": ("wattspan_owner_wasted_cost_total", (*_OWNER, "reason", "currency")),
    "owner_market_co2e": ("wattspan_owner_market_co2e_grams_total", _OWNER),
    "owner_water": ("wattspan_owner_water_liters_total", _OWNER),
    "unpriced_energy": ("wattspan_unpriced_energy_joules_total", ()),
    "uncosted_energy": ("wattspan_uncosted_energy_joules_total", ()),
    GRID: ("wattspan_grid_priced_energy_joules_total", (*_GRID_LABELS, "estimated")),
}
"""Counter and labels of each account; a test holds them to the catalogue."""


def gained_from(url: str, month: str, now_wall_ns: int) -> Gained:
    """What all nodes' owners used in a month. Blocks.

    Args:
        url: of the Prometheus, such as ``http://prometheus:9090``.
        month: such as ``2026-10``.
        now_wall_ns: CLOCK_REALTIME.

    Raises:
        SetupError: the address is none.
        UnreachableError: it does not answer, or answers nonsense.
        WattspanError: it knows nothing of the month.
    """
    begin_ns, end_ns = bounds_of(month)
    if month > month_of(now_wall_ns):
        raise WattspanError(f"{month} has not begun")
    until_ns = min(end_ns, now_wall_ns)
    prometheus = _Prometheus(url, until_ns // NS_PER_S)
    seconds = max((until_ns - begin_ns) // NS_PER_S, 1)
    amounts: dict[CounterKey, float] = {}
    for quantity, (metric, labels) in METRICS.items():
        summed = f"sum by ({', '.join(labels)}) (increase({metric}[{seconds}s]))"
        for values, amount in prometheus.ask(summed, labels).items():
            amounts[quantity, values] = amount
    if not any(quantity == "owner_energy" for quantity, _ in amounts):
        raise WattspanError(
            f"{prometheus.where} knows nothing of {month}: it has no wattspan_owner_energy_joules_total then"
        )
    priced = priced_of(amounts)
    shares = priced.shares or prometheus.shares_of_time(seconds)
    nodes = prometheus.ask(
        f"count(count by (instance) (count_over_time(wattspan_build_info[{seconds}s])))", ()
    )
    return Gained(
        month=month,
        since_wall_ns=max(begin_ns, prometheus.first_s(seconds) * NS_PER_S),
        until_wall_ns=until_ns,
        amounts=amounts,
        grid_shares=shares,
        estimated_ratio=priced.estimated_ratio,
        where=f"{prometheus.where} ({nodes.get((), 0):.0f} nodes)",
        how=(
            f"Each figure is `increase(...[{seconds}s])` at {moment(until_ns)}, summed over nodes. "
            "Prometheus extends it to both ends of the month and misses what was used while a node was not "
            f"scraped; shares of providers are of the {'energy' if priced.shares else 'time'}."
        ),
        gaps=prometheus.warnings,
        intensity_ratio=priced.intensity_ratio,
    )


class _Prometheus:
    """One moment of a Prometheus.

    Args:
        url: of it.
        at_s: the moment.
    """

    def __init__(self, url: str, at_s: int) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise SetupError(
                f"--prometheus: {_without_secret(url)!r} is not allowed; "
                "allowed: an address such as http://prometheus:9090"
            )
        if parts.username is not None:
            raise SetupError(
                f"--prometheus: {_without_secret(url)!r} has a user or password, which are not sent; "
                "allowed: an address without, such as that of kubectl port-forward"
            )
        self.where = f"the Prometheus at {parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._at_s = at_s
        self._warnings: dict[str, None] = {}
        self._opener = urllib.request.build_opener(_NoRedirect)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What it said about its own answers."""
        return tuple(f"Prometheus warns: {text:.200}" for text in self._warnings)

    def first_s(self, seconds: int) -> int:
        """When we were scraped first in so many seconds: to the hour, or of the last hour to 5 s."""
        for window_s, step in ((seconds, "1h"), (min(seconds, 3600), "5s")):
            query = f"min(min_over_time(timestamp(wattspan_build_info)[{window_s}s:{step}]))"
            if found := self.ask(query, ()):
                return int(found[()])
        return self._at_s

    def shares_of_time(self, seconds: int) -> dict[tuple[str, str, str, str], float]:
        """Whose figures were in force, where the energy by source was not scraped."""
        in_use = (
            f"sum by ({', '.join(_GRID_LABELS)}) (sum_over_time(wattspan_grid_provider_in_use[{seconds}s]))"
        )
        used = {labels: count for labels, count in self.ask(in_use, _GRID_LABELS).items() if count}
        all_used = sum(used.values())
        return {(a, b, c, d): count / all_used for (a, b, c, d), count in used.items()}

    def ask(self, query: str, labels: tuple[str, ...]) -> dict[tuple[str, ...], float]:
        """The values of a query by these labels; those that are no numbers are left out.

        Raises:
            UnreachableError: no answer, or one that makes no sense.
        """
        form = urllib.parse.urlencode({"query": query, "time": self._at_s, "timeout": f"{TIMEOUT_S:.0f}s"})
        document = self._document(f"{self._url}?{form}")
        found: dict[tuple[str, ...], float] = {}
        try:
            if document["status"] != "success":
                raise UnreachableError(f"{self.where} refuses: {str(document.get('error'))!r:.300}")
            for warning in document.get("warnings", ()):
                self._warnings[str(warning)] = None
            for series in document["data"]["result"]:
                value = float(series["value"][1])
                if math.isfinite(value):
                    found[tuple(str(series["metric"].get(label, "")) for label in labels)] = value
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UnreachableError(
                f"{self.where} answers something that is no result of a query; is it a Prometheus?"
            ) from error
        return found

    def _document(self, url: str) -> Any:
        until_s = time.monotonic() + TIMEOUT_S
        try:
            with self._opener.open(url, timeout=TIMEOUT_S) as answer:
                return json.loads(self._body(answer, until_s))
        except urllib.error.HTTPError as error:
            raise UnreachableError(
                f"{self.where} answers {error.code}{self._reason(error, until_s)}"
            ) from error
        except TimeoutError as error:
            raise UnreachableError(f"{self.where} gives no whole answer in {TIMEOUT_S:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise UnreachableError(f"{self.where} does not answer in {TIMEOUT_S:.0f} s") from error
            text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise UnreachableError(f"{self.where} cannot be asked: {text:.200}") from error
        except (ValueError, RecursionError) as error:
            raise UnreachableError(
                f"{self.where} answers something that is no JSON; is it a Prometheus?"
            ) from error

    def _body(self, answer: Any, until_s: float) -> bytes:
        """What it says, whole and not too much, however slowly it comes."""
        parts, size = [], 0
        while part := answer.read1(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > BYTES_MAX:
                raise UnreachableError(f"{self.where} answers more than {BYTES_MAX >> 20} MiB")
            if time.monotonic() > until_s:
                raise TimeoutError
        if answer.length:  # what is left of the length that was announced
            raise UnreachableError(f"{self.where} breaks off in its answer")
        return b"".join(parts)

    def _reason(self, error: urllib.error.HTTPError, until_s: float) -> str:
        """What a Prometheus says beside a status of an error."""
        try:
            said = json.loads(self._body(error, until_s))["error"]
        except (
            ValueError,
            KeyError,
            TypeError,
            OSError,
            AttributeError,
            http.client.HTTPException,
            WattspanError,
        ):
            return f" {error.reason}" if error.reason else ""
        return f": {str(said)!r:.300}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other status: figures come from where the operator has said."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Never."""
        return


def _without_secret(url: str) -> str:
    """The address as it may be printed."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://***@{after}" if at else url
