"""What the alerts of health.yaml have to do."""

# ruff: noqa: E501 - a case is a row of a table, read as one.

from tests.alerts.promtool import Case, Firing

JOB = 'job="wattspan"'
NODE = f'{JOB},instance="n1"'
GPU = f'{NODE},uuid="GPU-1",gpu="0"'


def up(*values: str, job: str = "wattspan") -> dict[str, str]:
    return {f'up{{job="{job}",instance="n{number}"}}': value for number, value in enumerate(values, 1)}


def down(node: str, job: str = "wattspan") -> Firing:
    return Firing(
        "warning",
        f"The exporter of {node} does not answer its scrapes. "
        "Energy used meanwhile is counted when it is back, as unattributed.",
        {"instance": node, "job": job},
    )


def fewer(number: int, cluster: str = "") -> Firing:
    of = f" of cluster {cluster}" if cluster else ""
    return Firing("warning", f"There are {number} targets{of} fewer than within the last day; "
                  "if nodes were removed on purpose, silence this for a day.",
                  {"against": "past", **({"cluster": cluster} if cluster else {})})  # fmt: skip


def commits(*values: str) -> dict[str, str]:
    return {
        f'wattspan_journal_commits_total{{{JOB},instance="n{number}"}}': value
        for number, value in enumerate(values, 1)
    }


def stuck(node: str) -> Firing:
    return Firing(
        "warning", f"The journal of {node} has taken nothing for eight minutes.", {"instance": node}
    )


def kube_nodes(*nodes: str) -> dict[str, str]:
    """The nodes that Kubernetes has, as kube-state-metrics tells them."""
    return {
        f'kube_node_info{{job="kube-state-metrics",instance="10.0.0.9:8080",node="{node}"}}': "1x200"
        for node in nodes
    }


def daemon_set(desired: str, ready: str) -> dict[str, str]:
    of = '{job="kube-state-metrics",instance="10.0.0.9:8080",namespace="mon",daemonset="wattspan"}'
    return {f"kube_daemonset_status_desired_number_scheduled{of}": desired,
            f"kube_daemonset_status_number_ready{of}": ready}  # fmt: skip


CASES = [
    # WattspanDown
    Case("WattspanDown", "fires", "One exporter of four is a warning after 10 minutes.",
         up("1x30", "1x30", "1x30", "1 0x30"), "11m", (down("n4"),)),
    Case("WattspanDown", "fires", "Three of four are critical after 5 minutes.",
         up("1 1x30", "1 0x30", "1 0x30", "1 0x30"), "6m",
         (Firing("critical", "Only 25% of the exporters answer their scrapes."),)),
    Case("WattspanDown", "fires", "The critical one names its cluster, where there is one.",
         {'up{job="mon/wattspan",instance="n1",cluster="eu"}': "1 0x30"}, "6m",
         (Firing("critical", "Only 0% of the exporters in cluster eu answer their scrapes.", {"cluster": "eu"}),)),
    Case("WattspanDown", "fires", "51 of 101 exporters down are more than half.",
         up(*["1x30"] * 50, *["1 0x30"] * 51), "6m",
         (Firing("critical", "Only 49.5% of the exporters answer their scrapes."),)),
    Case("WattspanDown", "quiet", "52 up of 101 are not critical.",
         up(*["1x30"] * 52, *["1 0x30"] * 49), "10m"),
    Case("WattspanDown", "quiet", "Exactly half is not critical.", up("1x30", "0x30"), "9m"),
    Case("WattspanDown", "quiet", "Down for nine minutes is no warning.",
         up("1x30", "1x30", "1x30", "1 0x8 1x30"), "20m"),
    Case("WattspanDown", "quiet", "Jobs of others are not ours.", up("0x30", job="node"), "30m"),
    Case("WattspanDown", "missing", "Without targets nothing is down; WattspanAbsent tells that.", {}, "30m"),
    Case("WattspanDown", "fires", "A node that was metered and is no target any more is told as info.",
         {**up("1x5 stale", "1x60"), "node:wattspan_node_energy_joules:rate5m{instance=\"n1\"}": "5x5 stale",
          "node:wattspan_node_energy_joules:rate5m{instance=\"n2\"}": "5x60"}, "16m",
         (Firing("info", "n1 is no target any more: it was removed, or its exporter is not scheduled.",
                 {"instance": "n1"}),)),
    Case("WattspanDown", "quiet", "An hour later a removed node is forgotten.",
         {**up("1x5 stale", "1x120"), "node:wattspan_node_energy_joules:rate5m{instance=\"n1\"}": "5x5 stale"},
         "1h10m"),
    Case("WattspanDown", "reset", "A restart between two scrapes shows nothing.",
         up("1x5 0 1x30", "1x40"), "30m"),

    # WattspanNodesMissing
    Case("WattspanNodesMissing", "fires", "Two nodes of three that are targets no more are a warning, two hours later too.",
         up("1x5 stale", "1x5 stale", "1x200"), "2h", (fewer(2),), ("recording",), first=False),
    Case("WattspanNodesMissing", "fires", "It is told after 15 minutes.",
         up("1x5 stale", "1x60"), "21m", (fewer(1),), ("recording",)),
    Case("WattspanNodesMissing", "fires", "So is a cluster of which no target is left.",
         {'up{job="wattspan",instance="n1",cluster="eu"}': "1x5 stale", 'up{job="wattspan",instance="n2",cluster="us"}': "1x60"},
         "21m", (fewer(1, "eu"),), ("recording",)),
    Case("WattspanNodesMissing", "quiet", "One of 50 is within the threshold.",
         up("1x5 stale", *["1x60"] * 49), "1h", (), ("recording",)),
    Case("WattspanNodesMissing", "fires", "One of 49 is not.",
         up("1x5 stale", *["1x60"] * 48), "21m", (fewer(1),), ("recording",)),
    Case("WattspanNodesMissing", "quiet", "A node that stands for another is no loss.",
         up("1x5 stale", "_x9 1x60", "1x60"), "1h", (), ("recording",)),
    Case("WattspanNodesMissing", "quiet", "A day later it is over.",
         up("1x2 stale", "1x200"), "26h", (), ("recording",), step="15m"),
    Case("WattspanNodesMissing", "fires", "Where Kubernetes says which nodes there are, a node that it still has is named so.",
         {**up("1x5 stale", *["1x60"] * 60), **kube_nodes("n1", "n2")}, "21m",
         (Firing("warning", "1 nodes that were targets within the last day are none now, and Kubernetes still has them; "
                 "the runbook's query names them.", {"against": "kubernetes"}),), ("recording",)),
    Case("WattspanNodesMissing", "quiet", "And a node that it has no more was removed.",
         {**up("1x5 stale", "1x60"), **kube_nodes("n2", "n3")}, "1h", (), ("recording",)),
    Case("WattspanNodesMissing", "fires", "Pods of the DaemonSet that are not ready for half an hour are a warning.",
         daemon_set("4x60", "4x5 3x60"), "36m",
         (Firing("warning", "1 pods of DaemonSet mon/wattspan are wanted and not ready.",
                 {"namespace": "mon", "daemonset": "wattspan", "against": "daemonset"}),), ("recording",)),
    Case("WattspanNodesMissing", "quiet", "All are ready.", daemon_set("4x60", "4x60"), "1h", (), ("recording",)),
    Case("WattspanNodesMissing", "missing", "Without targets WattspanAbsent tells it.", {}, "1h", (), ("recording",)),
    Case("WattspanNodesMissing", "reset", "Targets that are away for ten minutes show nothing.",
         up("1x5 stale _x9 1x60", "1x60"), "1h", (), ("recording",)),

    # WattspanAbsent
    Case("WattspanAbsent", "fires", "No target at all for 10 minutes is critical.", up("1x4 stale"), "15m",
         (Firing("critical", "Prometheus has no target whose job is named wattspan; "
                 "nothing is metered and no other alert can fire."),)),
    Case("WattspanAbsent", "quiet", "A target that is down is there.", up("0x30"), "30m"),
    Case("WattspanAbsent", "missing", "Targets of others do not count as ours.", up("1x30", job="node"), "10m",
         (Firing("critical", "Prometheus has no target whose job is named wattspan; "
                 "nothing is metered and no other alert can fire."),)),
    Case("WattspanAbsent", "reset", "A target that is renamed within 10 minutes shows nothing.",
         {'up{job="wattspan",instance="a"}': "1x5 stale", 'up{job="wattspan",instance="b"}': "_x12 1x30"}, "30m"),

    # WattspanSourceDown
    Case("WattspanSourceDown", "fires", "A source down for 10 minutes is a warning.",
         {f'wattspan_source_up{{{NODE},source="rapl"}}': "1 0x30",
          f'wattspan_source_up{{{NODE},source="nvidia"}}': "1x30"}, "11m",
         (Firing("warning", "Source rapl of n1 gives no readings; its power is missing from every sum.",
                 {"instance": "n1", "source": "rapl", "reads": "other"}),)),
    *[Case("WattspanSourceDown", "fires", f"A driver is told after three minutes, before its GPUs are: {source}.",
           {f'wattspan_source_up{{{NODE},source="{source}"}}': "1 0x30",
            f'wattspan_source_up{{{NODE},source="rapl"}}': "1x30"}, "4m",
           (Firing("warning", f"Source {source} of n1 gives no readings; its power is missing from every sum.",
                   {"instance": "n1", "source": source, "reads": "gpu"}),))
      for source in ("nvidia", "amd", "intel")],
    Case("WattspanSourceDown", "quiet", "A driver that is given up on request has not failed.",
         {f'wattspan_source_up{{{NODE},source="nvidia"}}': "1 0x30",
          f'wattspan_source_released{{{NODE},source="nvidia"}}': "0 1x30"}, "30m"),
    Case("WattspanSourceDown", "quiet", "All sources up.",
         {f'wattspan_source_up{{{NODE},source="rapl"}}': "1x30"}, "30m"),
    Case("WattspanSourceDown", "missing", "A source that the node does not have is no failure.",
         {f"wattspan_node_power_watts{{{NODE}}}": "5x30"}, "30m"),
    Case("WattspanSourceDown", "reset", "A source that fails for nine minutes and is back shows nothing.",
         {f'wattspan_source_up{{{NODE},source="rapl"}}': "1 0x8 1x5 0x8 1"}, "23m"),

    # WattspanDataStale
    Case("WattspanDataStale", "fires", "Three minutes without a read, for five minutes, is a warning.",
         {f'wattspan_source_last_read_timestamp_seconds{{{NODE},source="nvidia"}}': "0x30"}, "9m",
         (Firing("warning", "The last good read of source nvidia of n1 was 9m 0s ago.",
                 {"instance": "n1", "source": "nvidia"}),)),
    Case("WattspanDataStale", "quiet", "Exactly three minutes old is not old.",
         {f'wattspan_source_last_read_timestamp_seconds{{{NODE},source="nvidia"}}': "-180+60x30"}, "30m"),
    Case("WattspanDataStale", "fires", "185 seconds is.",
         {f'wattspan_source_last_read_timestamp_seconds{{{NODE},source="nvidia"}}': "-185+60x30"}, "5m",
         (Firing("warning", "The last good read of source nvidia of n1 was 3m 5s ago.",
                 {"instance": "n1", "source": "nvidia"}),)),
    Case("WattspanDataStale", "quiet", "175 seconds is not.",
         {f'wattspan_source_last_read_timestamp_seconds{{{NODE},source="nvidia"}}': "-175+60x30"}, "30m"),
    Case("WattspanDataStale", "quiet", "What is given up on request is not read.",
         {f'wattspan_source_last_read_timestamp_seconds{{{NODE},source="nvidia"}}': "0x30",
          f'wattspan_source_released{{{NODE},source="nvidia"}}': "1x30"}, "30m"),
    Case("WattspanDataStale", "missing", "A source that was never read has no age.", {}, "30m"),
    Case("WattspanDataStale", "reset", "A read that comes back ends it.",
         {f'wattspan_source_last_read_timestamp_seconds{{{NODE},source="nvidia"}}': "0x7 480+60x30"}, "20m"),

    # WattspanJournalNotCommitting
    Case("WattspanJournalNotCommitting", "fires", "One journal of two that takes nothing for eight minutes is a warning.",
         commits("0+60x5 300x60", "0+60x60"), "13m", (stuck("n1"),)),
    Case("WattspanJournalNotCommitting", "fires", "More than half of a cluster's are critical.",
         commits("0+60x5 300x60", "0+60x5 300x60", "0+60x60"), "13m",
         (Firing("critical", "Only 33.33% of the journals took anything within five minutes."), stuck("n1"), stuck("n2"))),
    Case("WattspanJournalNotCommitting", "fires", "The critical one names its cluster, where there is one.",
         {f'wattspan_journal_commits_total{{{NODE},cluster="eu"}}': "0+60x5 300x60"}, "13m",
         (Firing("critical", "Only 0% of the journals of cluster eu took anything within five minutes.", {"cluster": "eu"}),
          Firing("warning", "The journal of n1 has taken nothing for eight minutes.",
                 {"instance": "n1", "cluster": "eu"}))),
    Case("WattspanJournalNotCommitting", "fires", "53 of 101 are more than half.",
         commits(*["0+60x60"] * 48, *["300x60"] * 53), "8m",
         (Firing("critical", "Only 47.52% of the journals took anything within five minutes."),
          *(stuck(f"n{number}") for number in range(49, 102))), first=False),
    Case("WattspanJournalNotCommitting", "quiet", "A clock that is two minutes slow is no journal that stands still.",
         {**commits("0+60x60"), f"wattspan_journal_last_commit_timestamp_seconds{{{NODE}}}": "-150+60x60"}, "1h"),
    Case("WattspanJournalNotCommitting", "quiet", "One commit in five minutes is one.",
         commits("0 0 0 1 1 1 1 2 2 2 2 3 3 3 3 4 4 4 4 5"), "19m"),
    Case("WattspanJournalNotCommitting", "missing", "An exporter that is away is told by WattspanDown.",
         commits("0+60x3 stale"), "30m"),
    Case("WattspanJournalNotCommitting", "reset", "A journal begun anew is fine.", commits("600+60x5 0+60x30"), "20m"),

    # WattspanSpansNotDelivered
    Case("WattspanSpansNotDelivered", "fires", "Spans that wait while requests fail are a warning.",
         {f"wattspan_spans_pending{{{NODE}}}": "1x60",
          f"wattspan_span_export_failures_total{{{NODE}}}": "0 1x60",
          f"wattspan_spans_exported_total{{{NODE}}}": "90x60"}, "16m",
         (Firing("warning", "1 spans of n1 wait in the outbox; none was acknowledged in the last 30 minutes.",
                 {"instance": "n1"}),)),
    Case("WattspanSpansNotDelivered", "quiet", "Failures with deliveries between them are no trouble.",
         {f"wattspan_spans_pending{{{NODE}}}": "7x60",
          f"wattspan_span_export_failures_total{{{NODE}}}": "0+1x60",
          f"wattspan_spans_exported_total{{{NODE}}}": "90+1x60"}, "1h"),
    Case("WattspanSpansNotDelivered", "quiet", "One that was delivered in half an hour is enough.",
         {f"wattspan_spans_pending{{{NODE}}}": "7x90",
          f"wattspan_span_export_failures_total{{{NODE}}}": "0+1x90",
          f"wattspan_spans_exported_total{{{NODE}}}": "90x40 91x60"}, "1h"),
    Case("WattspanSpansNotDelivered", "quiet", "Nothing waits.",
         {f"wattspan_spans_pending{{{NODE}}}": "0x60",
          f"wattspan_span_export_failures_total{{{NODE}}}": "0+1x60",
          f"wattspan_spans_exported_total{{{NODE}}}": "90x60"}, "1h"),
    Case("WattspanSpansNotDelivered", "quiet", "A span may wait for its batch.",
         {f"wattspan_spans_pending{{{NODE}}}": "7x60",
          f"wattspan_span_export_failures_total{{{NODE}}}": "4x60",
          f"wattspan_spans_exported_total{{{NODE}}}": "90x60"}, "1h"),
    Case("WattspanSpansNotDelivered", "missing", "Without a collector there is no outbox.",
         {f"wattspan_span_export_failures_total{{{NODE}}}": "0+1x60"}, "1h"),
    Case("WattspanSpansNotDelivered", "reset", "A counter that starts anew is no failure.",
         {f"wattspan_spans_pending{{{NODE}}}": "7x60",
          f"wattspan_span_export_failures_total{{{NODE}}}": "9x10 0x50",
          f"wattspan_spans_exported_total{{{NODE}}}": "90x10 0x50"}, "1h"),

    # WattspanSpansLost
    Case("WattspanSpansLost", "fires", "A dropped span is told at once.",
         {f"wattspan_spans_dropped_total{{{NODE}}}": "0x29 1x30"}, "30m",
         (Firing("warning", "About 1 spans of n1 were dropped or rejected in the last 30 minutes.",
                 {"instance": "n1"}),)),
    Case("WattspanSpansLost", "fires", "So is a rejected one.",
         {f"wattspan_spans_dropped_total{{{NODE}}}": "0x60",
          f"wattspan_spans_rejected_total{{{NODE}}}": "0x29 1x30"}, "30m",
         (Firing("warning", "About 1 spans of n1 were dropped or rejected in the last 30 minutes.",
                 {"instance": "n1"}),)),
    Case("WattspanSpansLost", "quiet", "Losses of long ago are over.",
         {f"wattspan_spans_dropped_total{{{NODE}}}": "0x5 6x60",
          f"wattspan_spans_rejected_total{{{NODE}}}": "9x60"}, "40m"),
    Case("WattspanSpansLost", "missing", "Without a collector none is lost.", {}, "1h"),
    Case("WattspanSpansLost", "reset", "Counters that start anew are no loss.",
         {f"wattspan_spans_dropped_total{{{NODE}}}": "6x10 0x50",
          f"wattspan_spans_rejected_total{{{NODE}}}": "9x10 0x50"}, "12m"),

    # WattspanSeriesDropped
    Case("WattspanSeriesDropped", "fires", "Series left out by scrapes for 10 minutes are a warning.",
         {f'wattspan_series_dropped_total{{{NODE},reason="budget"}}': "0x5 1+9x60"}, "16m",
         (Firing("warning", "Scrapes of n1 leave out series (budget).", {"instance": "n1", "reason": "budget"}),)),
    Case("WattspanSeriesDropped", "quiet", "None is left out.",
         {f'wattspan_series_dropped_total{{{NODE},reason="budget"}}': "12x60"}, "1h"),
    Case("WattspanSeriesDropped", "missing", "An exporter that does not say so leaves out none.", {}, "1h"),
    Case("WattspanSeriesDropped", "reset", "A counter that starts anew is no loss.",
         {f'wattspan_series_dropped_total{{{NODE},reason="budget"}}': "12x20 0x60"}, "40m"),

    # WattspanUnattributedHigh: from the energy counters, through the recording rules
    *[Case("WattspanUnattributedHigh", kind, why,
           {f'wattspan_gpu_attributed_energy_joules_total{{{NODE},uuid="GPU-1",share="run"}}': run,
            f'wattspan_gpu_attributed_energy_joules_total{{{NODE},uuid="GPU-1",share="unattributed"}}': nobody},
           at, firing, ("recording",))
      for kind, why, run, nobody, at, firing in [
          ("fires", "A share of 10.4 % is a warning after half an hour.", "0+8960x120", "0+1040x120", "31m",
           (Firing("warning", "10.4% of the GPU energy of n1 in the last hour is unattributed.",
                   {"instance": "n1"}),)),
          ("quiet", "A share of 9.6 % is none.", "0+9040x120", "0+960x120", "2h", ()),
          ("missing", "A node without energy has no share.", "0x120", "0x120", "2h", ()),
          ("reset", "A journal begun anew makes no share.", "0+9500x40 0+9500x80", "0+500x40 0+500x80", "2h", ()),
      ]],
    Case("WattspanUnattributedHigh", "quiet", "The profile minimal can name nobody.",
         {f'wattspan_gpu_attributed_energy_joules_total{{{NODE},uuid="GPU-1",share="run"}}': "0x120",
          f'wattspan_gpu_attributed_energy_joules_total{{{NODE},uuid="GPU-1",share="unattributed"}}': "0+9000x120",
          f'wattspan_config_info{{{NODE},profile="minimal"}}': "1x120"}, "2h", (), ("recording",)),
    Case("WattspanUnattributedHigh", "fires", "Other profiles can.",
         {f'wattspan_gpu_attributed_energy_joules_total{{{NODE},uuid="GPU-1",share="unattributed"}}': "0+9000x120",
          f'wattspan_config_info{{{NODE},profile="attributed"}}': "1x120"}, "31m",
         (Firing("warning", "100% of the GPU energy of n1 in the last hour is unattributed.",
                 {"instance": "n1"}),), ("recording",)),
    Case("WattspanUnattributedHigh", "quiet", "Exactly a tenth is none.",
         {'node:wattspan_gpu_unattributed:ratio_rate5m{instance="n1"}': "0.1x60"}, "1h"),

    # WattspanEnergyCheckOff: two cards, one of them in order
    *[Case("WattspanEnergyCheckOff", kind, why,
           {f"wattspan_gpu_energy_check_ratio{{{GPU}}}": values,
            f'wattspan_gpu_energy_check_ratio{{{NODE},uuid="GPU-2",gpu="1"}}': "_x120" if kind == "missing" else "1x120"},
           at, firing, ("recording",))
      for kind, why, values, at, firing in [
          ("fires", "A counter 13 % too high is a warning after half an hour.", "1.13x120", "30m",
           (Firing("warning", "Energy counter and power of a GPU of n1 differ by 13%; the runbook's query names the GPU.",
                   {"instance": "n1"}),)),
          ("fires", "So is one that is too low.", "0.87x120", "30m",
           (Firing("warning", "Energy counter and power of a GPU of n1 differ by 13%; the runbook's query names the GPU.",
                   {"instance": "n1"}),)),
          ("quiet", "12 % is none.", "1.12x120", "2h", ()),
          ("quiet", "Nor is exactly an eighth.", "1.125x120", "2h", ()),
          ("quiet", "Nor an eighth too low.", "0.875x120", "2h", ()),
          ("missing", "Where there is no counter to check there is nothing to say.", "_x120", "2h", ()),
          ("reset", "A minute that was off is averaged out.", "1x40 1.9 1x80", "2h", ()),
      ]],

    # WattspanImplausiblePower
    *[Case("WattspanImplausiblePower", kind, why,
           {f'wattspan_gpu_implausible_intervals_total{{{NODE},uuid="GPU-1"}}': intervals,
            f"wattspan_gpu_power_watts{{{GPU}}}": watts,
            f"wattspan_gpu_power_limit_watts{{{GPU}}}": "100x120"}, at, firing)
      for kind, why, intervals, watts, at, firing in [
          ("fires", "A GPU that draws 1.32 times its limit is a warning after 10 minutes.", "0x120", "99x3 132x120",
           "19m", (Firing("warning", "GPU GPU-1 of n1 reports 1.32 times its power limit.",
                          {"instance": "n1", "uuid": "GPU-1", "reading": "power"}),)),
          ("quiet", "Up to 1.28 times is an overshoot.", "0x120", "128x120", "2h", ()),
          ("quiet", "So is exactly 1.3 times.", "0x120", "130x120", "2h", ()),
          ("missing", "A failed reading is no power.", "0x120", "_x120", "2h", ()),
          ("reset", "A counter that starts anew believes everything.", "80x40 0x80", "99x120", "50m", ()),
          ("quiet", "Three intervals that were not believed are none.", "0x40 3x80", "99x120", "1h", ()),
      ]],
    *[Case("WattspanImplausiblePower", kind, why,
           {f'wattspan_gpu_implausible_intervals_total{{{NODE},uuid="GPU-1"}}': intervals}, at, firing, first=False)
      for kind, why, intervals, at, firing in [
          ("fires", "More than three intervals in 30 minutes that were not believed are a warning.",
           "0+0.1034x200", "2h", (Firing("warning", "The energy of 3 intervals in 30 minutes of GPU GPU-1 of n1 was not believed.",
                                         {"instance": "n1", "uuid": "GPU-1", "reading": "energy"}),)),
          ("quiet", "Fewer are none.", "0+0.098x200", "2h", ()),
      ]],
    Case("WattspanImplausiblePower", "fires", "Four are a warning after ten minutes.",
         {f'wattspan_gpu_implausible_intervals_total{{{NODE},uuid="GPU-1"}}': "0x40 4x80"}, "51m",
         (Firing("warning", "The energy of 4 intervals in 30 minutes of GPU GPU-1 of n1 was not believed.",
                 {"instance": "n1", "uuid": "GPU-1", "reading": "energy"}),)),

    # WattspanThresholdsMissing
    Case("WattspanThresholdsMissing", "quiet", "All are loaded.", {}, "1h"),
    Case("WattspanThresholdsMissing", "fires", "Where one is missing it is a warning after five minutes.",
         {f'wattspan:threshold{{threshold="t{number}"}}': "1x60" for number in range(25)}, "5m",
         (Firing("warning", "Prometheus holds 25 thresholds of 26; is rules/thresholds.yaml loaded whole?"),),
         thresholds=False),
    Case("WattspanThresholdsMissing", "missing", "So where all are; those of zones do not count.",
         {'wattspan:threshold{threshold="grid_dirty_grams_per_kwh",grid_zone="PL"}': "1x60"}, "5m",
         (Firing("warning", "Prometheus holds 0 thresholds of 26; is rules/thresholds.yaml loaded whole?"),),
         thresholds=False),
    Case("WattspanThresholdsMissing", "reset", "A reload of the rules shows nothing.", {}, "5m"),

    # WattspanMonthsMissing
    Case("WattspanMonthsMissing", "fires", "Three hours of metering without an hour are a warning.",
         {'node:wattspan_node_energy_joules:rate5m{instance="n1"}': "5x60",
          'node:wattspan_node_energy_joules:rate5m{instance="n2"}': "5x60"}, "3h15m",
         (Firing("warning", "2 nodes are metered, but no hour was added to the month for three hours; "
                 "is rules/months.yaml loaded?"),), step="5m"),
    Case("WattspanMonthsMissing", "fires", "It names its cluster, where there is one.",
         {'node:wattspan_node_energy_joules:rate5m{instance="n1",cluster="eu"}': "5x40",
          'node:wattspan_node_energy_joules:rate5m{instance="n2",cluster="us"}': "5x40",
          'month:wattspan_node_energy_joules:increase1h{instance="n2",cluster="us",month="1"}': "7 _x7 7 _x7 7"},
         "3h15m", (Firing("warning", "1 nodes of cluster eu are metered, but no hour was added to the month for three "
                       "hours; is rules/months.yaml loaded?", {"cluster": "eu"}),), step="15m"),
    Case("WattspanMonthsMissing", "quiet", "An hour that was lost now and then shows nothing.",
         {'node:wattspan_node_energy_joules:rate5m{instance="n1"}': "5x40",
          'month:wattspan_node_energy_joules:increase1h{instance="n1",month="1"}': "7 _x7 7 _x7 7 _x7 7 _x7 7"},
         "9h", step="15m"),
    Case("WattspanMonthsMissing", "missing", "Where nothing is metered no month is missing.", {}, "9h", step="15m"),
    Case("WattspanMonthsMissing", "reset", "A Prometheus that has just begun has its three hours.",
         {'node:wattspan_node_energy_joules:rate5m{instance="n1"}': "5x40",
          'month:wattspan_node_energy_joules:increase1h{instance="n1",month="1"}': "_x7 7 _x7 7 _x7 7"}, "4h",
         step="15m"),
]  # fmt: skip
