"""Builders of readings and snapshots for tests; the records themselves are the real ones."""

from collections.abc import Iterable
from dataclasses import replace

from wattspan.model import (
    Failure,
    Gpu,
    GpuReading,
    HostReading,
    Snapshot,
    SourceHealth,
    SourceReport,
)
from wattspan.units import NS_PER_S, UJ_PER_J, UW_PER_W

WALL_OFFSET_NS = 1_780_000_000 * NS_PER_S
UUID = "GPU-00000000-0000-0000-0000-000000000001"


def gpu(uuid: str = UUID, **facts: object) -> Gpu:
    """A card with an energy counter."""
    return replace(Gpu(uuid, 0, "Test 700W", "nvidia", "580.1"), **facts)  # type: ignore[arg-type]


def look(
    seconds: float,
    joules: float | None = None,
    *,
    watts: float | None = None,
    pids: Iterable[int] | None = (),
    card: Gpu | None = None,
    **more: object,
) -> GpuReading:
    """A look at a 700 W card."""
    return GpuReading(
        gpu=card or gpu(),
        read_at_ns=round(seconds * NS_PER_S),
        energy_uj=None if joules is None else round(joules * UJ_PER_J),
        power_uw=None if watts is None else round(watts * UW_PER_W),
        power_limit_uw=700 * UW_PER_W,
        processes=None if pids is None else frozenset(pids),
        **more,  # type: ignore[arg-type]
    )


def package(seconds: float, joules: float, **more: object) -> HostReading:
    """A look at a CPU package by RAPL."""
    facts: dict[str, object] = {"wraps_at_uj": 262_143_328_850, "power_limit_uw": 350 * UW_PER_W} | more
    return HostReading("cpu", "package-0", round(seconds * NS_PER_S), round(joules * UJ_PER_J), **facts)  # type: ignore[arg-type]


def snapshot(
    sequence: int,
    *readings: GpuReading | HostReading,
    source: str = "nvidia",
    failures: tuple[Failure, ...] = (),
    up: bool = True,
    at_s: float | None = None,
) -> Snapshot:
    """A tick in which one source reported these readings, or none at all."""
    at_ns = max((r.read_at_ns for r in readings), default=0) if at_s is None else round(at_s * NS_PER_S)
    report = SourceReport(
        source,
        at_ns - 1_000_000,
        at_ns,
        gpus=tuple(r for r in readings if isinstance(r, GpuReading)),
        hosts=tuple(r for r in readings if isinstance(r, HostReading)),
        failures=failures,
    )
    return Snapshot(
        sequence=sequence,
        taken_at_ns=at_ns,
        wall_offset_ns=WALL_OFFSET_NS,
        reports=(report,) if readings or failures else (),
        failures=failures,
        health=(SourceHealth(source, up, at_ns, "" if up else "timeout"),),
    )
