"""Serving: what a token and a request cost in joules, grams and money, for the pods of inference servers.

Everything is read from the rules of ``alerts/rules/serving.yaml``, which know the servers' own metrics.
"""

from typing import Final

from grafana_foundation_sdk.models import dashboard

from dashboards import look
from dashboards.frame import CLUSTER, IN_CLUSTER, board, choice
from dashboards.panels import Column, Query, course, stat, table

OURS: Final = f'{IN_CLUSTER}, pod_namespace=~"$namespace"'
POD: Final = "pod_namespace, pod_name"
LEGEND: Final = "{{pod_name}}"
MILLION: Final = "1e6"
AT_MOST: Final = 20
"""Lines in a panel: of many pods, the greatest."""
NO_SERVER: Final = "no server here is known: vLLM, TGI, Triton, BentoML with labels namespace and pod"
NO_TOKENS: Final = "no server here counts tokens: vLLM and TGI do"

NAMESPACE: Final = choice("namespace", "Namespace", "Of the pods.",
                          f"pod:wattspan_served_requests:rate5m{{{IN_CLUSTER}}}", "pod_namespace",
                          every=True, multi=True)  # fmt: skip


def _by_pod(what: str, labels: str = "") -> str:
    """A figure of serving.yaml by pod."""
    return f"sum by ({POD}{labels}) (pod:wattspan_served_{what}:rate5m{{{OURS}}})"


TOKENS: Final = _by_pod("tokens")
REQUESTS: Final = _by_pod("requests")
WATTS: Final = _by_pod("energy_joules")
GRAMS: Final = _by_pod("co2e_grams")
MONEY: Final = _by_pod("cost", ", currency")
IDLE: Final = _by_pod("gpus_idle")


def _most(expr: str) -> str:
    return f"topk({AT_MOST}, {expr})"


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
             Query(f"sum({WATTS})"), w=3, decimals=1, empty=NO_SERVER),
        stat("Requests", "Answered a second.", look.PER_SECOND, Query(f"sum({REQUESTS})"), w=3, decimals=1,
             empty=NO_SERVER),
        stat("Tokens", "Generated a second.", look.PER_SECOND, Query(f"sum({TOKENS})"), w=3, decimals=0,
             empty=NO_TOKENS),
        stat("J per token", "Energy of the pods that count tokens, over generated tokens; prompts cost"
             " energy, too, and are in it.", look.JOULE, Query(_all(WATTS, TOKENS)), w=3, decimals=2,
             empty=NO_TOKENS),
        stat("J per request", "Energy of all pods whose server is known, over answered requests.", look.JOULE,
             Query(_all(WATTS, REQUESTS)), w=3, decimals=1, empty=NO_SERVER),
        stat("CO2e / Mtok", "Operational grams for a million generated tokens.", look.GRAMS,
             Query(f"{_all(GRAMS, TOKENS)} * {MILLION}"), w=3, decimals=1, empty=NO_TOKENS),
        stat("Cost / Mtok", "Electricity for a million generated tokens, PUE applied, by currency.",
             look.MONEY,
             Query(f"sum by (currency) ({MONEY} and on ({POD}) {TOKENS})"
                   f" / on () group_left () (sum({TOKENS} and on ({POD}) {MONEY}) > 0) * {MILLION}",
                   "{{currency}}"), w=3, names=True, decimals=3, empty="no price, or no server counts"
                   " tokens"),
        stat("Without work", "Cards that these pods hold and on which no kernel runs.", look.COUNT,
             Query(f"sum({IDLE})"), w=3, decimals=1,
             steps=((None, look.GREY), (0, look.GREEN), (1, look.YELLOW)), empty=NO_SERVER),
    ]  # fmt: skip


def _pods() -> object:
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
        Query(_by_pod("requests", ", server")),
        Query(TOKENS),
        Query(WATTS),
        Query(_per(WATTS, REQUESTS)),
        Query(_per(WATTS, TOKENS)),
        Query(f"{_per(GRAMS, REQUESTS)} * 1000"),
        Query(f"{_per(GRAMS, TOKENS)} * {MILLION}"),
        w=24, h=8, sort="Power", limit=100, empty=NO_SERVER,
    )  # fmt: skip


def _efficiency() -> list[object]:
    return [
        course("Joules per generated token", "Energy of the pod over the tokens that it generated. It"
               " rises when batches get smaller: the card idles between requests.", look.JOULE,
               Query(_most(_per(WATTS, TOKENS)), LEGEND), decimals=2, empty=NO_TOKENS),
        course("Joules per request", "Energy of the pod over the requests that it answered. Requests"
               " differ; compare a server with its own past.", look.JOULE,
               Query(_most(_per(WATTS, REQUESTS)), LEGEND), decimals=2, empty=NO_SERVER),
    ]  # fmt: skip


def _footprint() -> list[object]:
    return [
        course("CO2e per million generated tokens", "Operational, PUE applied: it follows the grid as"
               " well as the server.", look.GRAMS,
               Query(_most(f"{_per(GRAMS, TOKENS)} * {MILLION}"), LEGEND), w=8, empty=NO_TOKENS),
        course("CO2e per 1000 requests", "Operational, PUE applied.", look.GRAMS,
               Query(_most(f"{_per(GRAMS, REQUESTS)} * 1000"), LEGEND), w=8, empty=NO_SERVER),
        course("Cost per million requests", "Electricity at the node's price in force, PUE applied.",
               look.MONEY,
               Query(_most(f"{_per(MONEY, REQUESTS)} * {MILLION}"), "{{pod_name}}, {{currency}}"), w=8,
               empty="no price is set, or no server is known"),
    ]  # fmt: skip


def _load() -> list[object]:
    return [
        course("Power by pod", "Pods whose server is known.", look.WATT,
               Query(_most(WATTS), LEGEND), w=6, stack=True, empty=NO_SERVER),
        course("Requests by pod", "Answered a second.", look.PER_SECOND, Query(_most(REQUESTS), LEGEND), w=6,
               empty=NO_SERVER),
        course("Generated tokens by pod", "Tokens generated a second.", look.PER_SECOND,
               Query(_most(TOKENS), LEGEND), w=6,
               empty=NO_TOKENS),
        course("Cards without work", "Cards that a pod holds and on which no kernel runs.", look.COUNT,
               Query(_most(IDLE), LEGEND), w=6, decimals=1, empty=NO_SERVER),
    ]  # fmt: skip
