"""What the alerts of carbon.yaml have to do."""

# ruff: noqa: E501 - a case is a row of a table, read as one.

from collections.abc import Sequence

from tests.alerts.promtool import Case, Firing

NODE = 'job="wattspan",instance="n1"'


def zone(name: str, *values: str, grid_zone: str = "DE") -> dict[str, str]:
    return {f'{name}{{job="wattspan",instance="n{number}",grid_zone="{grid_zone}",signal="average",'
            'basis="lifecycle"}': value for number, value in enumerate(values, 1)}  # fmt: skip


DE = {"grid_zone": "DE", "signal": "average", "basis": "lifecycle"}
FR = {**DE, "grid_zone": "FR"}


def stale(left: str) -> Firing:
    return Firing("warning", "The intensity in force in DE has ceased to hold and is later than its source ever is; "
                  f"the chain steps down in {left}.", DE)  # fmt: skip


def ends(until: Sequence[str], fallback: Sequence[str]) -> dict[str, str]:
    """On each node: when the figure in force ceases to hold, and when the chain steps down."""
    return {**zone(UNTIL, *until), **zone(FALLBACK, *fallback)}


def dirty(grams: str, labels: dict[str, str] = DE) -> Firing:
    return Firing("info", f"A kilowatt-hour in {labels['grid_zone']} causes {grams} g of CO2e now; "
                  "work that can wait emits less later.", labels)  # fmt: skip


UNTIL = "wattspan_grid_valid_until_timestamp_seconds"
FALLBACK = "wattspan_grid_fallback_timestamp_seconds"
LEVEL = "wattspan_grid_fallback_level"
INTENSITY = "wattspan_grid_intensity_grams_per_kwh"
RUN = {"run_id": "r1", "run_name": "sft", "project": "nlp", "pod_namespace": "team-a"}
INFO = {
    f'wattspan_run_info{{{NODE},run_id="r1",run_name="sft",project="nlp",group="",framework="",source="api"}}':
        "1x1000",
    'wattspan_run_info{job="wattspan",instance="n2",run_id="r1",run_name="sft",project="nlp",group="",framework="",'
    'source="api"}': "1x1000",
    f'wattspan_run_pod_info{{{NODE},run_id="r1",pod_namespace="team-a",pod_name="sft-0"}}': "1x1000",
    'wattspan_run_pod_info{job="wattspan",instance="n2",run_id="r1",pod_namespace="team-a",pod_name="sft-1"}':
        "1x1000",
}  # fmt: skip


def unpriced(unpriced: str, all_of_it: str = "0+100x200") -> dict[str, str]:
    return {
        f"wattspan_unpriced_energy_joules_total{{{NODE}}}": unpriced,
        f"wattspan_node_energy_joules_total{{{NODE}}}": all_of_it,
    }


def budget(used_1: str, used_2: str, progress: str = "", projected: str = "") -> dict[str, str]:
    """A run on two nodes: what each used of its budget, and rank 0's progress."""
    return {
        **INFO,
        f'wattspan_run_budget_used_ratio{{{NODE},run_id="r1"}}': used_1,
        'wattspan_run_budget_used_ratio{job="wattspan",instance="n2",run_id="r1"}': used_2,
        **({f'wattspan_run_progress_ratio{{{NODE},run_id="r1"}}': progress} if progress else {}),
        **({f'wattspan_run_budget_projected_ratio{{{NODE},run_id="r1"}}': projected} if projected else {}),
    }


def over(percent: str) -> Firing:
    return Firing("warning", f"Run sft (r1) of project nlp has used {percent} of its budget.", RUN)


def about(percent: str) -> Firing:
    return Firing("info", f"At its pace run sft (r1) of project nlp will use {percent} of its budget.", RUN)


def tokens(ratio: str) -> dict[str, str]:
    return {'run:wattspan_joules_per_token:ratio_rate15m{run_id="r1"}': ratio,
            'run:wattspan_run:info{run_id="r1",run_name="sft",project="nlp",pod_namespace="team-a"}': "1x1000"
            }  # fmt: skip


def worse(times: str) -> Firing:
    return Firing("warning", f"Run sft (r1) of project nlp uses {times} times the joules per token of its own last day.",
                  RUN)  # fmt: skip


CASES = [
    # WattspanIntensityStale
    *[Case("WattspanIntensityStale", kind, why, ends(until, fallback), at, firing)
      for kind, why, until, fallback, at, firing in [
          ("fires", "A source that is gone, held for four hours: half an hour before the end it is a warning.",
           ["0x300"], ["14400x300"], "3h41m", (stale("19m 0s"),)),
          ("quiet", "As long as it is later than ever it is none.", ["0x300"], ["14400x300"], "3h29m", ()),
          ("quiet", "A first choice that is always an hour late, and renewed each hour, is well.",
           ["-3600x59 0x59 3600x59 7200x59"], ["10800x59 14400x59 18000x59 21600x59"], "3h59m", ()),
          ("quiet", "So is one that is five hours late and held for seven.",
           ["-18000x59 -14400x59 -10800x59"], ["7200x59 10800x59 14400x59"], "2h59m", ()),
          ("quiet", "So is one by five minutes: its figures end between any two questions.",
           ["-60+60x90"], ["540+60x90"], "1h", ()),
          ("quiet", "So is one that ceased to hold exactly half an hour ago.",
           ["-1800+60x90"], ["600+60x90"], "1h", ()),
          ("fires", "Half a minute longer is a warning.", ["-1830+60x90"], ["600+60x90"], "10m", (stale("10m 0s"),)),
          ("quiet", "With exactly half an hour left it is none.", ["-7200+60x90"], ["1800+60x90"], "1h", ()),
          ("fires", "With half a minute less it is.", ["-7200+60x90"], ["1770+60x90"], "10m", (stale("29m 30s"),)),
          ("fires", "The node with the least time left counts.",
           ["-7200+60x90", "-7200+60x90"], ["9000+60x90", "900+60x90"], "10m", (stale("15m 0s"),)),
          ("quiet", "An old figure of one node and a short one of another are none.",
           ["-7200+60x90", "60+60x90"], ["9000+60x90", "600+60x90"], "1h", ()),
          ("reset", "A figure that is renewed ends it.",
           ["0x218 10800x60"], ["14400x218 25200x60"], "3h45m", ()),
      ]],
    Case("WattspanIntensityStale", "missing", "A figure without an end is never stale.",
         zone(INTENSITY, "380x90"), "1h"),

    # WattspanFallbackInUse
    Case("WattspanFallbackInUse", "fires", "A fallback in use for half an hour is info.", zone(LEVEL, "0 1x40"), "31m",
         (Firing("info", "The first choice for DE says nothing; level 1 of the chain is in use.", DE),)),
    Case("WattspanFallbackInUse", "fires", "Six hours are a warning.", zone(LEVEL, "0 1x400"), "6h1m",
         (Firing("info", "The first choice for DE says nothing; level 1 of the chain is in use.", DE),
          Firing("warning", "The first choice for DE has said nothing for six hours; "
                 "level 1 of the chain is in use.", DE)), first=False),
    Case("WattspanFallbackInUse", "fires", "A minute less is info only.", zone(LEVEL, "0 1x400"), "6h",
         (Firing("info", "The first choice for DE says nothing; level 1 of the chain is in use.", DE),), first=False),
    Case("WattspanFallbackInUse", "fires", "A later level is no better.", zone(LEVEL, "0 2x400"), "6h1m",
         (Firing("info", "The first choice for DE says nothing; level 2 of the chain is in use.", DE),
          Firing("warning", "The first choice for DE has said nothing for six hours; "
                 "level 2 of the chain is in use.", DE)), first=False),
    Case("WattspanFallbackInUse", "quiet", "The first choice in use.", zone(LEVEL, "0x60", "0x60"), "1h"),
    Case("WattspanFallbackInUse", "missing", "A node without a zone has no chain.", {}, "1h"),
    Case("WattspanFallbackInUse", "reset", "Fallbacks of 20 minutes show nothing.",
         zone(LEVEL, "0 1x20 0 1x20 0 1x20"), "1h"),

    # WattspanUnpricedEnergy
    *[Case("WattspanUnpricedEnergy", kind, why, series, at, firing, ("recording",))
      for kind, why, series, at, firing in [
          ("fires", "1.04 % without a figure for half an hour is a warning.", unpriced("0+1.04x200"), "31m",
           (Firing("warning", "1.04% of the energy in the last 30 minutes is in no co2e figure."),)),
          ("quiet", "0.96 % is none.", unpriced("0+0.96x200"), "2h", ()),
          ("missing", "Without energy there is no share.", unpriced("0x200", "0x200"), "2h", ()),
          ("reset", "A counter that starts anew does not raise it.",
           unpriced("0+0.96x90 0+0.96x90", "0+100x90 0+100x90"), "2h", ()),
      ]],

    Case("WattspanUnpricedEnergy", "quiet", "Exactly 1 % is none.",
         {"cluster:wattspan_unpriced_energy_joules:rate5m": "1x90",
          "cluster:wattspan_node_energy_joules:rate5m": "100x90"}, "1h"),

    # WattspanGridDirty
    *[Case("WattspanGridDirty", kind, why, zone(INTENSITY, values, grid_zone=where), at, firing, ("recording",))
      for kind, why, values, where, at, firing in [
          ("fires", "Above 500 g/kWh for 15 minutes is info.", "380 510x30", "DE", "16m", (dirty("510"),)),
          ("quiet", "490 is none.", "490x60", "DE", "1h", ()),
          ("quiet", "Nor is exactly 500.", "500x60", "DE", "1h", ()),
          ("fires", "France has a threshold of its own.", "80 102x30", "FR", "16m", (dirty("102", FR),)),
          ("quiet", "98 is none there.", "98x60", "FR", "1h", ()),
          ("quiet", "Nor is exactly 100.", "100x60", "FR", "1h", ()),
          ("quiet", "59 is none in Sweden.", "59x60", "SE", "1h", ()),
          ("quiet", "Nor is exactly 60.", "60x60", "SE", "1h", ()),
          ("fires", "61 is dirty in Sweden.", "20 61x30", "SE", "16m",
           (dirty("61", {**DE, "grid_zone": "SE"}),)),
          ("missing", "Where no intensity is known nothing is dirty.", "_x60", "DE", "1h", ()),
          ("reset", "Ten dirty minutes show nothing.", "380 510x10 380 510x10 380", "DE", "24m", ()),
      ]],

    # WattspanRunOverBudget
    *[Case("WattspanRunOverBudget", kind, why, series, at, firing, ("recording",))
      for kind, why, series, at, firing in [
          ("fires", "Two nodes that used 102 % of the budget together are a warning.", budget("0.5x60", "0.4 0.52x60"),
           "6m", (over("102%"),)),
          ("quiet", "98 % is none.", budget("0.5x60", "0.48x60"), "1h", ()),
          ("quiet", "Nor is the budget to the gram.", budget("0.5x60", "0.5x60"), "1h", ()),
          ("fires", "A run that will need 102 % at its pace is info.",
           budget("0.10x60", "0.05 0.155x60", "0.25x60"), "16m", (about("102%"),)),
          ("quiet", "98 % is none.", budget("0.10x60", "0.145x60", "0.25x60"), "1h", ()),
          ("quiet", "Nor is the budget to the gram.", budget("0.125x60", "0.125x60", "0.25x60"), "1h", ()),
          ("quiet", "Before 5 % of the work nothing is foreseen.",
           budget("0.1x60", "0.1x60", "0.049x60"), "1h", ()),
          ("quiet", "Nor at exactly 5 %.", budget("0.1x60", "0.1x60", "0.05x60"), "1h", ()),
          ("fires", "From there on it is.", budget("0.1x60", "0.1x60", "0.049x4 0.051x60"), "20m",
           (about("392.2%"),)),
          ("fires", "What the node itself foresees, with the forecast, comes first.",
           budget("0.05x60", "0x60", "0.25x60", "0.9 1.05x60"), "16m", (about("105%"),)),
          ("missing", "A run without a budget cannot exceed it.", INFO, "1h", ()),
          ("missing", "A run without progress is not foreseen.", budget("0.5x60", "0.4x60"), "1h", ()),
          ("reset", "A node that starts anew brings the sum down.",
           budget("0.5x60", "0.52x3 0x60", "0.9x60"), "30m", ()),
      ]],

    # WattspanJoulesPerTokenWorse
    *[Case("WattspanJoulesPerTokenWorse", kind, why, tokens(values), at, firing)
      for kind, why, values, at, firing in [
          ("fires", "1.32 times its own past for half an hour is a warning.", "2x119 2.64x60", "2h30m",
           (worse("1.32"),)),
          ("quiet", "1.28 times is none.", "2x119 2.56x60", "2h59m", ()),
          ("quiet", "Nor is exactly 1.3 times.", "2x119 2.6x60", "2h59m", ()),
          ("quiet", "Less is better.", "2x119 1x60", "2h59m", ()),
          ("quiet", "A run that is an hour old has no past.", "2x20 4x95", "1h54m", ()),
          ("missing", "A run that tells no tokens has no ratio.", "_x180", "3h", ()),
          ("reset", "A resume that is over in 20 minutes shows nothing.", "2x119 _x5 9x20 2x60", "2h50m", ()),
      ]],
    Case("WattspanJoulesPerTokenWorse", "fires", "An hour of past, 60 samples, is enough: from then on it counts.",
         tokens("2x50 4x200"), "2h29m", (worse("1.395"),)),
]  # fmt: skip
