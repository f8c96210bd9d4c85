"""What the alerts of budgets.yaml have to do.

Most cases hand in the figures that the recording rules make; test_budgets.py proves those.
"""

# ruff: noqa: E501 - a case is a row of a table, read as one.

from collections.abc import Mapping

from tests.alerts.promtool import Case, Firing

NLP = {"budget": "nlp-2026", "project": "nlp", "period": "30d"}
TIERS = (
    # severity, long, short, for, threshold, step
    ("critical", "1h", "5m", "2m", 14.4, "1m"),
    ("critical", "6h", "30m", "15m", 6.0, "5m"),
    ("warning", "1d", "2h", "1h", 3.0, "20m"),
    ("info", "3d", "6h", "3h", 1.2, "1h"),
)


def selector(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def figures(long: str, short: str, burn: str, burn_now: str, lasts: str = "", labels: Mapping[str, str] = NLP
            ) -> dict[str, str]:  # fmt: skip
    """Burn over both windows, 500 kg left, and how long they last (two days unless told)."""
    of = selector(labels)
    return {
        f"budget:wattspan_co2e_grams:burn_ratio_rate{long}{of}": burn,
        f"budget:wattspan_co2e_grams:burn_ratio_rate{short}{of}": burn_now,
        f"budget:wattspan_co2e_grams:remaining{of}": "500000x100",
        f"budget:wattspan_co2e_grams:remaining_seconds_rate{long}{of}": lasts or "172800x100",
    }


def burns(severity: str, long: str, short: str, times: str, lasts: str = "2.0", labels: Mapping[str, str] = NLP,
          kg: str = "500.0") -> Firing:  # fmt: skip
    scope = "".join(f", {word} {labels[name]}" for name, word in
                    (("pod_namespace", "namespace"), ("project", "project")) if name in labels)  # fmt: skip
    return Firing(
        severity,
        f"Budget {labels['budget']} ({labels['period']}{scope}) burns at {times} times its pace over the last {long}. "
        f"{kg} kg remain and last {lasts} days at this rate.",
        {**labels, "long": long, "short": short},
    )


def number(value: float) -> str:
    return f"{value:.4g}"


MONTH = {**NLP, "period": "month"}
LEFT_S = 31 * 86400
"""Seconds that January 1970 has left when a test of promtool begins."""

BURN = [
    case
    for severity, long, short, lasts, limit, step in TIERS
    for case in [
        Case("WattspanCarbonBudgetBurn", "fires", f"Just above {limit} over {long} and {short}, {severity} in {lasts}.",
             figures(long, short, f"{number(limit * 1.04)}x40", f"{number(limit * 1.04)}x40"), lasts,
             (burns(severity, long, short, number(limit * 1.04)),), step=step),
        Case("WattspanCarbonBudgetBurn", "quiet", f"Just below {limit} over {long} is quiet.",
             figures(long, short, f"{number(limit * 0.96)}x40", f"{number(limit * 1.5)}x40"), "30m", step=step
             if step != "1h" else "30m"),
        Case("WattspanCarbonBudgetBurn", "quiet", f"Just below {limit} over {short} it is over.",
             figures(long, short, f"{number(limit * 1.5)}x40", f"{number(limit * 0.96)}x40"), "5h", step=step
             if step == "1h" else "20m"),
        Case("WattspanCarbonBudgetBurn", "quiet", f"Exactly {limit} over {long} is quiet.",
             figures(long, short, f"{number(limit)}x40", f"{number(limit * 1.5)}x40"), "5h",
             step="1h" if step == "1h" else "20m"),
        Case("WattspanCarbonBudgetBurn", "quiet", f"Exactly {limit} over {short} is quiet.",
             figures(long, short, f"{number(limit * 1.5)}x40", f"{number(limit)}x40"), "5h",
             step="1h" if step == "1h" else "20m"),
        # The month has an end.
        Case("WattspanCarbonBudgetBurn", "quiet", f"What the rest of the month can bear is no trouble ({long}).",
             figures(long, short, f"{number(limit * 2)}x40", f"{number(limit * 2)}x40",
                     f"{LEFT_S + 3600}x100", MONTH), lasts if long != "6h" else "20m", step=step),
        Case("WattspanCarbonBudgetBurn", "fires", f"What lasts to the end of the month and no longer is ({long}).",
             figures(long, short, f"{number(limit * 2)}x40", f"{number(limit * 2)}x40",
                     f"{LEFT_S}-{ {'1m': 60, '5m': 300, '20m': 1200, '1h': 3600}[step] }x40", MONTH), lasts,
             (burns(severity, long, short, number(limit * 2),
                    {"2m": "31.0", "15m": "31.0", "1h": "31.0", "3h": "30.9"}[lasts], MONTH),), step=step),
        Case("WattspanCarbonBudgetBurn", "fires", f"What ends an hour before the month is ({long}).",
             figures(long, short, f"{number(limit * 2)}x40", f"{number(limit * 2)}x40",
                     f"{LEFT_S - 3600 * 6}x100", MONTH), lasts,
             (burns(severity, long, short, number(limit * 2), "30.8", MONTH),), step=step),
    ]
]  # fmt: skip

BUDGET_30D = f"wattspan_budget_co2e_grams{selector({'job': 'hub', 'instance': 'hub', **NLP})}"


def owner(values: str) -> dict[str, str]:
    """A budget of 1 g/s for 30 days, and the counter of its project."""
    return {
        BUDGET_30D: "2592000x200",
        'wattspan_owner_co2e_grams_total{job="wattspan",instance="n1",pod_namespace="team-a",project="nlp",'
        'part="operational",basis="lifecycle"}': values,
        'wattspan_owner_co2e_grams_total{job="wattspan",instance="n1",pod_namespace="team-a",project="nlp",'
        'part="embodied",basis="lifecycle"}': "0+9000x200",
        'wattspan_owner_co2e_grams_total{job="wattspan",instance="n1",pod_namespace="team-b",project="vision",'
        'part="operational",basis="lifecycle"}': "0+9000x200",
    }


def gone(number: str, cluster: str = "") -> Firing:
    where = f" in cluster {cluster}" if cluster else ""
    return Firing("warning", f"{number} budgets were there within the last day{where} and none is now: "
                  "is the hub up and scraped?", {"cluster": cluster} if cluster else {})  # fmt: skip


CASES = [
    *BURN,
    Case("WattspanCarbonBudgetBurn", "fires", "From the counters: 15 times the pace is told after an hour and two minutes.",
         owner("0+900x200"), "1h2m", (burns("critical", "1h", "5m", "14.95", "2.0", kg="2592.0"),), ("recording",)),
    Case("WattspanCarbonBudgetBurn", "quiet", "From the counters: 14 times the pace is no page; embodied grams and "
         "those of others do not count.", owner("0+840x200"), "2h", (), ("recording",)),
    Case("WattspanCarbonBudgetBurn", "quiet", "Once the short window is clean the page is over.",
         owner("0+900x70 63000x60"), "1h20m", (), ("recording",)),
    Case("WattspanCarbonBudgetBurn", "reset", "Counters that start anew are no burn.",
         owner("900000+840x60 0+840x100"), "1h30m", (), ("recording",)),
    Case("WattspanCarbonBudgetBurn", "missing", "Without a budget nothing burns.",
         {name: values for name, values in owner("0+9000x200").items() if "budget" not in name}, "2h",
         (), ("recording",)),
    Case("WattspanCarbonBudgetBurn", "missing", "What was not scraped is not burnt.",
         owner("0+900x10 _x50 0+900x10 _x50"), "2h", (), ("recording",)),

    # WattspanCarbonBudgetForecast
    *[Case("WattspanCarbonBudgetForecast", kind, why,
           {f"budget:wattspan_co2e_grams:forecast_ratio{selector(labels)}": values}, at, firing, step="1h")
      for kind, why, labels, values, at, firing in [
          ("fires", "A month that will end at 104 % is a warning after six hours.", MONTH, "0.9 1.04x20", "7h",
           (Firing("warning", "At the rate of the last three days budget nlp-2026, project nlp will be used to 104% "
                   "at the end of the month (UTC).", MONTH),)),
          ("fires", "A namespace is named too.", {**MONTH, "pod_namespace": "team-a"}, "0.9 1.04x20", "7h",
           (Firing("warning", "At the rate of the last three days budget nlp-2026, namespace team-a, project nlp "
                   "will be used to 104% at the end of the month (UTC).", {**MONTH, "pod_namespace": "team-a"}),)),
          ("quiet", "96 % is none.", MONTH, "0.96x20", "20h", ()),
          ("quiet", "Nor is exactly all of it.", MONTH, "1x20", "20h", ()),
          ("missing", "Without a rate there is no forecast.", MONTH, "_x20", "20h", ()),
          ("reset", "Five hours that look bad show nothing.", MONTH, "0.9 1.1x4 0.9 1.1x4 0.9", "12h", ()),
      ]],

    # WattspanCarbonBudgetSpent
    *[Case("WattspanCarbonBudgetSpent", kind, why, {f"budget:wattspan_co2e_grams:remaining{selector(labels)}": values},
           at, firing)
      for kind, why, labels, values, at, firing in [
          ("fires", "Less than nothing left is a warning after ten minutes.", NLP, "5 -1200x60", "11m",
           (Firing("warning", "Nothing is left of budget nlp-2026 (30d, project nlp): -1.2kg remain.", NLP),)),
          ("fires", "Exactly nothing left too.", {**NLP, "pod_namespace": "team-a"}, "5 0x60", "11m",
           (Firing("warning", "Nothing is left of budget nlp-2026 (30d, namespace team-a, project nlp): 0g remain.",
                   {**NLP, "pod_namespace": "team-a"}),)),
          ("quiet", "A gram left is none.", NLP, "1x60", "1h", ()),
          ("missing", "Without a budget nothing can be used up.", NLP, "_x60", "1h", ()),
          ("reset", "A new month is a new budget.", NLP, "-5x8 500x60", "1h", ()),
      ]],

    # WattspanBudgetsMissing
    *[Case("WattspanBudgetsMissing", kind, why,
           {f"wattspan_budget_co2e_grams{selector({'instance': 'hub', **cluster, **labels})}": values
            for labels, values in ((NLP, nlp), (MONTH, month))}, at, firing)
      for kind, why, cluster, nlp, month, at, firing in [
          ("fires", "Budgets that are gone for 15 minutes are a warning.", {}, "9x20 stale", "9x20 stale", "36m",
           (gone("2"),)),
          ("fires", "It names its cluster, where there is one.", {"cluster": "eu"}, "9x20 stale", "9x20 stale", "36m",
           (gone("2", "eu"),)),
          ("quiet", "One that was deleted leaves the others.", {}, "9x20 stale", "9x60", "1h", ()),
          ("missing", "Where there never was a budget none is missed.", {}, "_x60", "_x60", "1h", ()),
          ("reset", "A hub that is away for ten minutes shows nothing.", {}, "9x20 stale _x9 9x60", "9x20 stale _x9 9x60",
           "40m", ()),
      ]],
]  # fmt: skip
