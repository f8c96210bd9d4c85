"""Serving: what a token and a request cost in joules, grams and money, for the pods of inference servers.

Our pods are told by `pod_namespace` and `pod_name`; a server's metrics carry `namespace` and `pod`, which the
scrape configuration of every Kubernetes set-up adds.
"""

from functools import reduce
from typing import Final

from grafana_foundation_sdk.models import dashboard

from dashboards import look
from dashboards.foreign import SERVERS, Server
from dashboards.frame import CLUSTER, IN_CLUSTER, board, choice
from dashboards.panels import Column, Query, course, stat, table
from dashboards.queries import RATE

OURS: Final = f'{IN_CLUSTER}, pod_namespace=~"$namespace"'
THEIRS: Final = f'{IN_CLUSTER}, namespace=~"$namespace"'
POD: Final = "pod_namespace, pod_name"
LEGEND: Final = "{{pod_name}}"
MILLION: Final = "1e6"
NO_SERVER: Final = "no server here is known: vLLM, TGI, Triton, BentoML with labels namespace and pod"
NO_TOKENS: Final = "no server here counts tokens: vLLM and TGI do"

NAMESPACE: Final = choice("namespace", "Namespace", "Of the pods.",
                          f"wattspan_pod_energy_joules_total{{{IN_CLUSTER}}}", "pod_namespace",
                          every=True, multi=True)  # fmt: skip


def _by_pod(selector: str) -> str:
    """The rate of a server's counter by pod, in our words for it."""
    name, _, own = selector.partition("{")
    where = f"{own.removesuffix('}')}, {THEIRS}" if own else THEIRS
    rate = f"rate({name}{{{where}}}{RATE})"
    named = f'label_replace({rate}, "pod_namespace", "$1", "namespace", "(.*)")'
    return f'sum by ({POD}) (label_replace({named}, "pod_name", "$1", "pod", "(.*)"))'


def _any_of(selectors: list[str]) -> str:
    return f"({' or '.join(_by_pod(selector) for selector in selectors)})"


TOKENS: Final = _any_of([server.tokens for server in SERVERS if server.tokens])
REQUESTS: Final = _any_of([server.requests for server in SERVERS])


def _with_server(expr: str, server: Server) -> str:
    return f'label_replace({expr}, "server", "{server.name}", "", "")'


WATTS: Final = f"sum by ({POD}) (rate(wattspan_pod_energy_joules_total{{{OURS}}}{RATE}))"
GRAMS: Final = f"sum by ({POD}) (rate(wattspan_pod_co2e_grams_total{{{OURS}}}{RATE}))"
MONEY: Final = (
    f"sum by ({POD}, currency) (sum by (cluster, instance, {POD})"
    f" (rate(wattspan_pod_energy_joules_total{{{OURS}}}{RATE}))"
    " * on (cluster, instance) group_left (currency)"
    f" max by (cluster, instance, currency) (wattspan_electricity_price_per_kwh{{{IN_CLUSTER}}})"
    " * on (cluster, instance) group_left ()"
    f" max by (cluster, instance) (wattspan_pue_ratio{{{IN_CLUSTER}}})) / {look.J_PER_KWH}"
)
"""Per second: the node's price in force times its PUE."""


def _per(what: str, of: str) -> str:
    """One over the other by pod; nothing while the server does nothing."""
    return f"{what} / on ({POD}) group_left () ({of} > 0)"


def _all(what: str, of: str) -> str:
    """One over the other for all pods of servers together."""
    return f"sum({what} and on ({POD}) {of}) / (sum({of} and on ({POD}) {what}) > 0)"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "wattspan-serving",
        "Wattspan / Serving",
        "Joules, grams and cost of a token and of a request, for pods of vLLM, TGI, Triton and BentoML.",
        [CLUSTER, NAMESPACE],
        [
            ("All servers together", _together()),
            ("Each pod", [_pods()]),
            ("Energy for what was answered", _efficiency()),
            ("Carbon and cost", _footprint()),
            ("Load", _load()),
        ],
        alerts='pod_namespace=~"$namespace|"',
        since="now-1h",
    )


def _together() -> list[object]:
    return [
        stat("Power", "Of the pods whose server is known: their cards and their part of the host.", look.WATT,
             Query(f"sum({WATTS} and on ({POD}) {REQUESTS})"), w=3, decimals=1, empty=NO_SERVER),
        stat("Requests", "Answered a second.", look.PER_SECOND, Query(f"sum({REQUESTS})"), w=3, decimals=1,
             empty=NO_SERVER),
        stat("Tokens", "Generated a second.", look.PER_SECOND, Query(f"sum({TOKENS})"), w=3, decimals=0,
             empty=NO_TOKENS),
        stat("J per token", "Energy of the pods that count tokens, over generated tokens; prompts cost"
             " energy, too, and are in it.", look.JOULE, Query(_all(WATTS, TOKENS)), w=3, decimals=2,
             empty=NO_TOKENS),
        stat("J per request", "Energy of all pods whose server is known, over answered requests.", look.JOULE,
             Query(_all(WATTS, REQUESTS)), w=3, decimals=1, empty=NO_SERVER),
        stat("CO2e, 1M tokens", "Operational grams for a million generated tokens.", look.GRAMS,
             Query(f"{_all(GRAMS, TOKENS)} * {MILLION}"), w=3, decimals=1, empty=NO_TOKENS),
        stat("Cost, 1M tokens", "Electricity for a million generated tokens, PUE applied, by currency.",
             look.MONEY,
             Query(f"sum by (currency) ({MONEY} and on ({POD}) {TOKENS})"
                   f" / on () group_left () (sum({TOKENS} and on ({POD}) {MONEY}) > 0) * {MILLION}",
                   "{{currency}}"), w=3, names=True, decimals=3, empty="no price, or no server counts"
                   " tokens"),
        stat("Without work", "Cards that these pods hold and on which no kernel runs.", look.COUNT,
             Query(f"sum(sum by ({POD}) (rate(wattspan_pod_idle_gpu_seconds_total{{{OURS}}}{RATE}))"
                   f" and on ({POD}) {REQUESTS})"), w=3, decimals=1,
             steps=((None, look.GREY), (0, look.GREEN), (1, look.YELLOW)), empty=NO_SERVER),
    ]  # fmt: skip


def _pods() -> object:
    servers = reduce(
        lambda one, other: f"{one} or {other}",
        (_with_server(_by_pod(server.requests), server) for server in SERVERS),
    )
    return table(
        "Pods of inference servers", "Figures of the last minutes. A dash: the server counts no tokens,"
        " or has answered nothing.",
        [
            Column("Namespace", "pod_namespace", width=120),
            Column("Pod", "pod_name"),
            Column("Server", "server", width=90),
            Column("Requests", "A", look.PER_SECOND, width=100, decimals=1),
            Column("Tokens", "B", look.PER_SECOND, width=100, decimals=0),
            Column("Power", "C", look.WATT, width=100, decimals=1),
            Column("J per request", "D", look.JOULE, width=120, decimals=2),
            Column("J per token", "E", look.JOULE, width=110, decimals=2),
            Column("CO2e, 1000 requests", "F", look.GRAMS, width=155, decimals=2),
            Column("CO2e, million tokens", "G", look.GRAMS, width=155, decimals=2),
        ],
        Query(servers),
        Query(TOKENS),
        Query(f"{WATTS} and on ({POD}) {REQUESTS}"),
        Query(_per(WATTS, REQUESTS)),
        Query(_per(WATTS, TOKENS)),
        Query(f"{_per(GRAMS, REQUESTS)} * 1000"),
        Query(f"{_per(GRAMS, TOKENS)} * {MILLION}"),
        w=24, h=8, sort="Power", empty=NO_SERVER,
    )  # fmt: skip


def _efficiency() -> list[object]:
    return [
        course("Joules per generated token", "Energy of the pod over the tokens that it generated. It"
               " rises when batches get smaller: the card idles between requests.", look.JOULE,
               Query(_per(WATTS, TOKENS), LEGEND), decimals=2, empty=NO_TOKENS),
        course("Joules per request", "Energy of the pod over the requests that it answered. Requests"
               " differ; compare a server with its own past.", look.JOULE,
               Query(_per(WATTS, REQUESTS), LEGEND), decimals=2, empty=NO_SERVER),
    ]  # fmt: skip


def _footprint() -> list[object]:
    return [
        course("CO2e per million generated tokens", "Operational, PUE applied: it follows the grid as"
               " well as the server.", look.GRAMS,
               Query(f"{_per(GRAMS, TOKENS)} * {MILLION}", LEGEND), w=8, empty=NO_TOKENS),
        course("CO2e per 1000 requests", "Operational, PUE applied.", look.GRAMS,
               Query(f"{_per(GRAMS, REQUESTS)} * 1000", LEGEND), w=8, empty=NO_SERVER),
        course("Cost per million requests", "Electricity at the node's price in force, PUE applied.",
               look.MONEY,
               Query(f"{_per(MONEY, REQUESTS)} * {MILLION}", "{{pod_name}}, {{currency}}"), w=8,
               empty="no price is set, or no server is known"),
    ]  # fmt: skip


def _load() -> list[object]:
    return [
        course("Power by pod", "Pods whose server is known.", look.WATT,
               Query(f"{WATTS} and on ({POD}) {REQUESTS}", LEGEND), w=6, stack=True, empty=NO_SERVER),
        course("Requests by pod", "Answered a second.", look.PER_SECOND, Query(REQUESTS, LEGEND), w=6,
               empty=NO_SERVER),
        course("Generated tokens by pod", "Tokens generated a second.", look.PER_SECOND,
               Query(TOKENS, LEGEND), w=6,
               empty=NO_TOKENS),
        course("Cards without work", "Cards that a pod holds and on which no kernel runs.", look.COUNT,
               Query(f"sum by ({POD}) (rate(wattspan_pod_idle_gpu_seconds_total{{{OURS}}}{RATE}))"
                     f" and on ({POD}) {REQUESTS}", LEGEND), w=6, decimals=1, empty=NO_SERVER),
    ]  # fmt: skip
