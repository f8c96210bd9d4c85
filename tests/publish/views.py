"""Views to publish, and the door they come through."""

from dataclasses import replace

from wattspan.model import (
    Gpu,
    GpuReading,
    GpuState,
    GridState,
    HostState,
    Intensity,
    LedgerView,
    PlatformReading,
    SourceHealth,
)
from wattspan.units import NS_PER_S, UJ_PER_J, UW_PER_W

TAKEN_AT_NS = 100 * NS_PER_S
WALL_OFFSET_NS = 1_795_000_000 * NS_PER_S
"""100 s after boot it is 2026-11-18T11:08:20Z."""

EMPTY = LedgerView(sequence=0, taken_at_ns=0, wall_offset_ns=0, counters={})


def filled(sequence: int = 7, gpus: int = 2) -> LedgerView:
    """A view of a node with measured GPUs, one more that was lost, a CPU, an estimate and a static grid."""
    lost = _state(gpus)
    return LedgerView(
        sequence=sequence,
        taken_at_ns=TAKEN_AT_NS,
        wall_offset_ns=WALL_OFFSET_NS,
        counters=_counters(gpus + 1),
        gpus=(*(_state(index) for index in range(gpus)), replace(lost, reading=None, co2e_g_per_s=None)),
        hosts=(
            HostState("cpu", "package-0", 90 * UW_PER_W, estimated=False),
            HostState("dram", "package-0", None, estimated=True),
        ),
        platforms=(PlatformReading("acpi-power-meter-0", TAKEN_AT_NS, 1500 * UW_PER_W),),
        node_power_uw=790 * UW_PER_W,
        health=(
            SourceHealth("nvidia", True, TAKEN_AT_NS - NS_PER_S // 4),
            SourceHealth("rapl", False, None, "permission", "/sys/class/powercap is not readable"),
        ),
        grid=GridState(
            intensity=Intensity(
                g_per_kwh=301.5,
                valid_from_wall_ns=None,
                valid_until_wall_ns=None,
                grid_zone="DE",
                provider="static",
                signal="average",
                basis="lifecycle",
                estimated=True,
                origin="a table, 2025",
            ),
            fallback_level=0,
            pue=1.2,
            pue_configured=True,
            location="grid.zone is DE",
        ),
        last_commit_wall_ns=TAKEN_AT_NS + WALL_OFFSET_NS,
    )


def _state(index: int) -> GpuState:
    gpu = Gpu(f"GPU-{index:08d}-0000-4000-8000-000000000000", index, "NVIDIA H100", "nvidia", "580.65.06")
    reading = GpuReading(
        gpu=gpu,
        read_at_ns=TAKEN_AT_NS,
        energy_uj=123_456_789 * UJ_PER_J,
        power_uw=350_123_456,
        power_instant_uw=351 * UW_PER_W,
        power_limit_uw=700 * UW_PER_W,
        utilization_ratio=0.97,
        memory_used_bytes=60 << 30,
        memory_total_bytes=80 << 30,
        temperature_celsius=55.0,
        sm_clock_hertz=1_980_000_000,
        recovery_action=0,
    )
    return GpuState(gpu, reading, check_ratio=1.001, co2e_g_per_s=0.03, holders=1)


def _counters(gpus: int) -> dict[str, dict[tuple[str, ...], int | float]]:
    uuids = [_state(index).gpu.uuid for index in range(gpus)]
    energy_uj = 4_503_599_627_370_495  # 4.5 GJ: a float of joules still holds each microjoule
    return {
        "gpu_energy": {
            (uuid, method): joules for uuid in uuids for method, joules in _methods(energy_uj).items()
        },
        "gpu_attributed_energy": {
            (uuid, share): energy_uj if share == "run" else 0
            for uuid in uuids
            for share in ("run", "pod", "idle", "unattributed")
        },
        "gpu_unattributed_energy": {(uuid, "gap"): 0 for uuid in uuids},
        "gpu_co2e": {(uuid, "lifecycle"): 377_176.4687 for uuid in uuids},
        "host_energy": {("cpu", "package-0"): 17 * UJ_PER_J},
        "host_estimated_energy": {("dram", "package-0"): 1},
        "node_energy": {(): gpus * energy_uj + 17 * UJ_PER_J},
    }


def _methods(energy_uj: int) -> dict[str, int]:
    return {"counter": energy_uj, "integrated": 0}


class Door:
    """A door that shows the view it was given last and remembers who was told of scrapes."""

    def __init__(self, view: LedgerView | None = None) -> None:
        self.view = filled() if view is None else view
        self.seen: list[tuple[int, int]] = []

    def scraped(self, sequence: int, series_dropped: int) -> None:
        """A scrape has seen a view."""
        self.seen.append((sequence, series_dropped))
