"""What the alerts of hardware.yaml have to do."""

# ruff: noqa: E501 - a case is a row of a table, read as one.

from tests.alerts.promtool import Case, Firing

JOB = 'job="wattspan"'
NODE = f'{JOB},instance="n1"'


def gpus(name: str, *values: str) -> dict[str, str]:
    return {f'{name}{{{NODE},uuid="GPU-{gpu}",gpu="{gpu}"}}': value for gpu, value in enumerate(values)}


def source(up: str, released: str = "0x60", lost: str = "0x60") -> dict[str, str]:
    of = f'{NODE},source="nvidia"'
    return {f"wattspan_source_up{{{of}}}": up, f"wattspan_source_released{{{of}}}": released,
            f'wattspan_source_read_failures_total{{{of},reason="lost"}}': lost,
            f'wattspan_source_read_failures_total{{{of},reason="driver"}}': "0+2x60"}  # fmt: skip


def lost(gpu: int) -> Firing:
    return Firing("warning", f"GPU {gpu} (GPU-{gpu}) of n1 does not answer the driver.",
                  {"instance": "n1", "uuid": f"GPU-{gpu}", "gpu": str(gpu)})  # fmt: skip


def xid(number: int, values: str) -> dict[str, str]:
    return {f'wattspan_gpu_xid_errors_total{{{NODE},uuid="GPU-0",xid="{number}"}}': values}


XID = {"instance": "n1", "uuid": "GPU-0"}


def throttled(reason: str, values: str) -> dict[str, str]:
    return {f'wattspan_gpu_throttled_seconds_total{{{NODE},uuid="GPU-0",reason="{reason}"}}': values}


def run(idle: str, held: str, pods: bool = True) -> dict[str, str]:
    return {
        f'wattspan_run_idle_gpu_seconds_total{{{NODE},run_id="r1"}}': idle,
        f'wattspan_run_gpu_seconds_total{{{NODE},run_id="r1"}}': held,
        f'wattspan_run_info{{{NODE},run_id="r1",run_name="sft",project="nlp",group="",framework="",source="api"}}':
            "1x200",
        **({f'wattspan_run_pod_info{{{NODE},run_id="r1",pod_namespace="team-a",pod_name="sft-0"}}': "1x200",
            f'wattspan_pod_idle_gpu_seconds_total{{{NODE},pod_namespace="team-a",pod_name="sft-0",'
            'container_name="main"}': idle} if pods else {}),
    }  # fmt: skip


def pod(idle: str, held: str) -> dict[str, str]:
    of = f'{NODE},pod_namespace="team-b",pod_name="nb-0",container_name="main"'
    return {
        f"wattspan_pod_idle_gpu_seconds_total{{{of}}}": idle,
        f"wattspan_pod_gpu_seconds_total{{{of}}}": held,
    }


def idle_run(percent: str, **labels: str) -> Firing:
    return Firing("warning", f"Run sft (r1) of project nlp left its GPUs idle {percent} of the last 30 minutes.",
                  {"held_by": "run", "run_id": "r1", "run_name": "sft", "project": "nlp", **labels})  # fmt: skip


def idle_pod(percent: str) -> Firing:
    return Firing("warning", f"Pod team-b/nb-0 left its GPUs idle {percent} of the last 30 minutes.",
                  {"held_by": "pod", "pod_namespace": "team-b", "pod_name": "nb-0"})  # fmt: skip


def up(values: str) -> dict[str, str]:
    return {f"up{{{NODE}}}": values}


def capacity(values: str, resource: str = "nvidia_com_gpu", node: str = "n1") -> dict[str, str]:
    """What Kubernetes may give away on a node, as kube-state-metrics tells it."""
    return {f'kube_node_status_capacity{{job="kube-state-metrics",instance="10.0.0.9:8080",node="{node}",'
            f'resource="{resource}",unit="integer"}}': values}  # fmt: skip


def fewer(gpus: int) -> Firing:
    return Firing("warning", f"n1 has {gpus} GPUs fewer than it had within the last day, or than Kubernetes counts there.",
                  {"instance": "n1"})  # fmt: skip


CASES = [
    # WattspanGpuLost
    Case("WattspanGpuLost", "fires", "One GPU of four is a warning after five minutes.",
         gpus("wattspan_gpu_up", "1x30", "1x30", "1x30", "1 0x30"), "6m", (lost(3),)),
    Case("WattspanGpuLost", "fires", "Most of them are critical.",
         gpus("wattspan_gpu_up", "1x30", "1 0x30", "1 0x30"), "6m",
         (Firing("critical", "Only 33.33% of the GPUs of n1 answer.", {"instance": "n1"}), lost(1), lost(2))),
    Case("WattspanGpuLost", "fires", "Just under half that answer is critical.",
         gpus("wattspan_gpu_up", *["1x30"] * 12, *["1 0x30"] * 13), "6m",
         (Firing("critical", "Only 48% of the GPUs of n1 answer.", {"instance": "n1"}), *map(lost, range(12, 25)))),
    Case("WattspanGpuLost", "fires", "Half of them is a warning each and not critical.",
         gpus("wattspan_gpu_up", "1x30", "1 0x30"), "6m", (lost(1),)),
    Case("WattspanGpuLost", "fires", "Just over half that answer neither.",
         gpus("wattspan_gpu_up", *["1x30"] * 13, *["1 0x30"] * 12), "6m", tuple(map(lost, range(13, 25)))),
    Case("WattspanGpuLost", "quiet", "All answer.", gpus("wattspan_gpu_up", "1x30", "1x30"), "30m"),
    Case("WattspanGpuLost", "missing", "A node without GPUs has lost none.", {}, "30m"),
    Case("WattspanGpuLost", "reset", "A GPU that is away for four minutes, twice, is not lost.",
         gpus("wattspan_gpu_up", "1 0x4 1x5 0x4 1x9", "1x30"), "16m"),

    Case("WattspanGpuLost", "quiet", "GPUs that are given up on request are not lost.",
         {**gpus("wattspan_gpu_up", "1 0x30", "1 0x30"), **source("0x31", released="1x31", lost="0+2x31")}, "30m"),
    Case("WattspanGpuLost", "fires", "Once the request is over, they are.",
         {**gpus("wattspan_gpu_up", "1 0x30", "1 0x30"), **source("0x31", released="0 1x9 0x30", lost="0x10 1+1x30")}, "16m",
         (Firing("critical", "Only 0% of the GPUs of n1 answer.", {"instance": "n1"}), lost(0), lost(1))),
    Case("WattspanGpuLost", "fires", "A driver that answers nothing has not lost most of its GPUs; WattspanSourceDown is told.",
         {**gpus("wattspan_gpu_up", "1 0x30", "1 0x30"), **source("1 0x30")}, "6m", (lost(0), lost(1))),
    Case("WattspanGpuLost", "fires", "A driver that calls each card lost has.",
         {**gpus("wattspan_gpu_up", "1 0x30", "1 0x30"), **source("1 0x30", lost="0 2+2x30")}, "6m",
         (Firing("critical", "Only 0% of the GPUs of n1 answer.", {"instance": "n1"}), lost(0), lost(1))),

    # WattspanGpuMissing
    Case("WattspanGpuMissing", "fires", "One GPU of two that is not there after a restart is a warning.",
         {**gpus("wattspan_gpu_up", "1x60", "1x5 stale")}, "21m",
         (fewer(1),), ("recording",)),
    Case("WattspanGpuMissing", "fires", "A node that answers and has lost all its GPUs is one too.",
         {**up("1x60"), **gpus("wattspan_gpu_up", "1x5 stale", "1x5 stale")}, "21m", (fewer(2),), ("recording",)),
    Case("WattspanGpuMissing", "quiet", "A node that does not answer is told by WattspanDown.",
         {**up("1x5 0x60"), **gpus("wattspan_gpu_up", "1x5 stale", "1x5 stale"), **capacity("2x60")}, "1h",
         (), ("recording",)),
    Case("WattspanGpuMissing", "fires", "A node that has never seen the GPUs that Kubernetes counts is one.",
         {**up("1x60"), **capacity("8x60"), **capacity("96x60", "cpu"), **capacity("8x60", node="n2")}, "15m",
         (fewer(8),), ("recording",)),
    Case("WattspanGpuMissing", "fires", "So where they are given away as MIG instances.",
         {**up("1x60"), **capacity("7x60", "nvidia_com_mig_1g_5gb")}, "15m", (fewer(7),), ("recording",)),
    Case("WattspanGpuMissing", "quiet", "Kubernetes counts a shared GPU often, and none on a CPU node.",
         {**up("1x60"), **gpus("wattspan_gpu_up", "1x60"), **capacity("4x60"),
          f'up{{{JOB},instance="n2"}}': "1x60", **capacity("0x60", node="n2")}, "1h", (), ("recording",)),
    Case("WattspanGpuMissing", "quiet", "As many as ever.", gpus("wattspan_gpu_up", "1x60", "1x60"), "1h",
         (), ("recording",)),
    Case("WattspanGpuMissing", "quiet", "A GPU that was added is no loss.",
         gpus("wattspan_gpu_up", "1x60", "_x9 1x60"), "1h", (), ("recording",)),
    Case("WattspanGpuMissing", "missing", "A node that is away is told by WattspanDown.",
         gpus("wattspan_gpu_up", "1x5 stale", "1x5 stale"), "1h", (), ("recording",)),
    Case("WattspanGpuMissing", "reset", "A restart of ten minutes shows nothing.",
         gpus("wattspan_gpu_up", "1x60", "1x9 stale _x9 1x50"), "1h", (), ("recording",)),

    # WattspanXidErrors
    Case("WattspanXidErrors", "fires", "A GPU that fell off the bus is critical at once.", xid(79, "0x20 1x20"), "21m",
         (Firing("critical", "XID 79 on GPU GPU-0 of n1.", {**XID, "xid": "79"}),)),
    *[Case("WattspanXidErrors", "fires", f"So is XID {number}.", xid(number, "0x20 1x20"), "21m",
           (Firing("critical", f"XID {number} on GPU GPU-0 of n1.", {**XID, "xid": str(number)}),))
      for number in (46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 156, 158)],
    Case("WattspanXidErrors", "fires", "A contained memory error is a warning.", xid(94, "0x20 1x20"), "21m",
         (Firing("warning", "XID 94 on GPU GPU-0 of n1.", {**XID, "xid": "94"}),)),
    Case("WattspanXidErrors", "fires", "So is one that nobody knows.", xid(999, "0x20 1x20"), "21m",
         (Firing("warning", "XID 999 on GPU GPU-0 of n1.", {**XID, "xid": "999"}),)),
    *[Case("WattspanXidErrors", "fires", f"XID {number} needs nobody.", xid(number, "0x20 1x20"), "21m",
           (Firing("info", f"XID {number} on GPU GPU-0 of n1; the card is well.",
                   {**XID, "xid": str(number)}),))
      for number in (11, 13, 25, 31, 37, 43, 45, 63, 69, 80, 106, 107, 121, 137, 154)],
    Case("WattspanXidErrors", "quiet", "Errors of the past are over after 15 minutes.",
         {**xid(79, "0x5 3x60"), **xid(94, "0x5 3x60"), **xid(13, "0x5 3x60")}, "30m"),
    Case("WattspanXidErrors", "missing", "A driver that tells none has none.", {}, "1h"),
    Case("WattspanXidErrors", "reset", "Counters that start anew are no errors.",
         {**xid(79, "3x10 0x60"), **xid(94, "3x10 0x60"), **xid(13, "3x10 0x60")}, "12m"),

    # WattspanGpuRecoveryNeeded
    Case("WattspanGpuRecoveryNeeded", "fires", "What the driver asks for is a warning after five minutes.",
         gpus("wattspan_gpu_recovery_action", "0 1x30"), "6m",
         (Firing("warning", "GPU 0 (GPU-0) of n1 needs action 1: 1 GPU reset, 2 node reboot, 3 drain, 4 drain and reset.",
                 {"instance": "n1", "uuid": "GPU-0", "gpu": "0"}),)),
    Case("WattspanGpuRecoveryNeeded", "quiet", "Nothing is asked for.",
         gpus("wattspan_gpu_recovery_action", "0x30"), "30m"),
    Case("WattspanGpuRecoveryNeeded", "missing", "An older driver asks for nothing.",
         gpus("wattspan_gpu_up", "1x30"), "30m"),
    Case("WattspanGpuRecoveryNeeded", "reset", "A reset that is done within five minutes shows nothing.",
         gpus("wattspan_gpu_recovery_action", "0 1x4 0x30"), "30m"),

    # WattspanPowerCapped
    *[Case("WattspanPowerCapped", kind, why, throttled("sw_power_cap", values), at, firing)
      for kind, why, values, at, firing in [
          ("fires", "52 % of the time for an hour is info.", "0+31.2x120", "1h15m",
           (Firing("info", "GPU GPU-0 of n1 is held down by its power limit 52% of the time.", XID),)),
          ("quiet", "48 % is none.", "0+28.8x200", "3h", ()),
          ("quiet", "Nor is exactly half.", "0+30x200", "3h", ()),
          ("missing", "A GPU that does not say why is not capped.", "_x200", "3h", ()),
          ("reset", "A counter that starts anew does not raise it.", "0+28.8x90 0+28.8x90", "3h", ()),
      ]],
    Case("WattspanPowerCapped", "quiet", "Heat is another alert.", throttled("sw_thermal", "0+4x200"), "3h"),

    # WattspanThermalThrottling
    *[Case("WattspanThermalThrottling", "fires", f"10.4 % of the time by {reason} for 15 minutes is a warning.",
           throttled(reason, "0+6.24x120"), "30m",
           (Firing("warning", "GPU GPU-0 of n1 is held down by heat or the power brake 10.4% of the time.", XID),))
      for reason in ("sw_thermal", "hw_thermal", "hw_power_brake")],
    *[Case("WattspanThermalThrottling", kind, why, throttled("sw_thermal", values), at)
      for kind, why, values, at in [
          ("quiet", "9.6 % is none.", "0+5.76x200", "3h"),
          ("quiet", "Nor is exactly a tenth.", "0+6x200", "40m"),
          ("missing", "A GPU that does not say why is not throttled.", "_x200", "3h"),
          ("reset", "A counter that starts anew does not raise it.", "0+5.76x90 0+5.76x90", "3h"),
      ]],
    Case("WattspanThermalThrottling", "quiet", "A power cap is another alert.",
         throttled("sw_power_cap", "0+60x200"), "30m"),
    Case("WattspanThermalThrottling", "quiet", "Two reasons at the same time are one.",
         {**throttled("sw_thermal", "0+5.4x100"), **throttled("hw_thermal", "0+5.4x100")}, "1h"),

    # WattspanGpuHeldIdle
    Case("WattspanGpuHeldIdle", "fires", "A run whose GPUs are idle 92 % of half an hour is a warning.",
         run("0+441.6x120", "0+480x120"), "31m", (idle_run("92%", pod_namespace="team-a"),), ("recording",)),
    Case("WattspanGpuHeldIdle", "fires", "So is one outside Kubernetes.",
         run("0+441.6x120", "0+480x120", pods=False), "31m", (idle_run("92%"),), ("recording",)),
    Case("WattspanGpuHeldIdle", "quiet", "88 % is none.", run("0+422.4x120", "0+480x120"), "2h", (), ("recording",)),
    Case("WattspanGpuHeldIdle", "quiet", "Nor is exactly 90 %.", run("0+432x120", "0+480x120"), "1h30m",
         (), ("recording",)),
    Case("WattspanGpuHeldIdle", "fires", "So is a pod that is in no run, with one GPU or with eight.",
         pod("0+441.6x120", "0+480x120"), "31m", (idle_pod("92%"),), ("recording",)),
    Case("WattspanGpuHeldIdle", "quiet", "A pod whose eight GPUs work 88 % of the time works.",
         pod("0+57.6x120", "0+480x120"), "2h", (), ("recording",)),
    Case("WattspanGpuHeldIdle", "quiet", "88 % idle is none.", pod("0+422.4x120", "0+480x120"), "2h", (), ("recording",)),
    Case("WattspanGpuHeldIdle", "quiet", "Nor is exactly 90 %, of a pod either.", pod("0+432x120", "0+480x120"), "1h30m",
         (), ("recording",)),
    Case("WattspanGpuHeldIdle", "quiet", "A pod of a run is told with the run alone.",
         run("0+422.4x120", "0+480x120") | {
             f'wattspan_pod_idle_gpu_seconds_total{{{NODE},pod_namespace="team-a",pod_name="sft-0",container_name="main"}}':
                 "0+60x120",
             f'wattspan_pod_gpu_seconds_total{{{NODE},pod_namespace="team-a",pod_name="sft-0",container_name="main"}}':
                 "0+60x120"}, "1h", (), ("recording",)),
    Case("WattspanGpuHeldIdle", "missing", "What holds no GPU is not idle.", run("_x120", "_x120", pods=False), "2h",
         (), ("recording",)),
    Case("WattspanGpuHeldIdle", "missing", "A run that has not been named yet is not told.",
         {name: values for name, values in run("0+441.6x120", "0+480x120").items() if "info" not in name}
         | {f'wattspan_run_pod_info{{{NODE},run_id="r1",pod_namespace="team-a",pod_name="sft-0"}}': "1x120"},
         "1h", (), ("recording",)),
    Case("WattspanGpuHeldIdle", "reset", "Counters that start anew are no idling.",
         run("5000x20 0x60", "0+480x20 0+480x60", pods=False) | pod("5000x20 0x60", "0+480x20 0+480x60"), "1h", (), ("recording",)),
]  # fmt: skip
