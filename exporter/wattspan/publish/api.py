"""The JSON documents of the HTTP interface, as pure functions of one view.

Units stand in the names; a value that was not read is null, never 0.
Joules are decimals made from whole microjoules: exact up to 2^33 J (8.6 GJ), beyond it to 16 digits.
`openapi` holds the schema of each document; a test keeps the two in step.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from wattspan.model import GpuState, GridState, HostState, Intensity, LedgerView, SourceHealth, Tariff
from wattspan.units import NS_PER_S, UJ_PER_J, UW_PER_W

Document = dict[str, Any]

STALE_AFTER_INTERVALS: Final = 3
"""A source that has not been read for this many sampling intervals is stale."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What is true of this daemon for as long as it runs.

    Attributes:
        node: the node's name.
        cluster: the cluster's name, or empty.
        version: Wattspan's.
        interval_ns: the sampling interval.
    """

    node: str
    cluster: str
    version: str
    interval_ns: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer to "may traffic be sent here".

    Attributes:
        ready: the verdict.
        document: why, and how fresh each source is. Says nothing that needs a password: no details of errors.
    """

    ready: bool
    document: Document


def readiness(view: LedgerView, node: NodeInfo, now_ns: int, *, strict: bool) -> Readiness:
    """Ready once the first snapshot is published and while the journal can be written.

    The listener needs no check: whoever reads this has reached it.

    Args:
        view: the newest view.
        node: for the sampling interval.
        now_ns: CLOCK_MONOTONIC.
        strict: also not ready while sampling is overdue, or a source is not up or stale.
    """
    problems = []
    if view.sequence == 0:
        problems.append("no snapshot published yet")
    if view.journal_error:
        problems.append("the journal cannot be written")
    if strict:
        problems += _stale(view, node, now_ns)
    document: Document = {
        "ready": not problems,
        "problems": problems,
        "snapshot_age_seconds": _age_seconds(view.taken_at_ns if view.sequence else None, now_ns),
        "sources": [
            {
                "source": health.source,
                "up": health.up,
                "reason": health.reason,
                "age_seconds": _age_seconds(health.last_read_ns, now_ns),
            }
            for health in view.health
        ],
    }
    return Readiness(not problems, document)


def node_document(view: LedgerView, node: NodeInfo) -> Document:
    """The node, its devices, its sources and its journal, as of one tick."""
    published = view.sequence > 0
    return {
        "node": node.node,
        "cluster": node.cluster,
        "version": node.version,
        "interval_seconds": node.interval_ns / NS_PER_S,
        "sequence": view.sequence,
        "taken_at": rfc3339(view.taken_at_ns + view.wall_offset_ns) if published else None,
        "power_watts": _watts(view.node_power_uw),
        "energy_joules": _joules_of(view, "node_energy", ()),
        "gpus": [_gpu(view, state) for state in view.gpus],
        "hosts": [_host(view, state) for state in view.hosts],
        "platforms": [
            {"sensor": seen.sensor, "power_watts": _watts(seen.power_uw)} for seen in view.platforms
        ],
        "sources": [_source(view, health) for health in view.health],
        "journal": {
            "writable": not view.journal_error,
            "error": view.journal_error,
            "last_commit_at": rfc3339(view.last_commit_wall_ns),
        },
    }


def grid_document(grid: GridState | None, currency: str = "") -> Document:
    """The carbon figures in force. Without a carbon room the intensity is null and nothing is configured.

    Args:
        grid: None without a carbon room.
        currency: of the tariff; empty without one.
    """
    if grid is None:
        grid = GridState(intensity=None, fallback_level=0, pue=1.0, pue_configured=False)
    return {
        "intensity": _intensity(grid.intensity),
        "signal": grid.signal,
        "basis": grid.basis,
        "grid_zone": grid.zone,
        "fallback_level": grid.fallback_level,
        "figures": [
            {**_known_intensity(figure), "in_use": _same(figure, grid.intensity)} for figure in grid.figures
        ],
        "tariff": _tariff(grid.tariff, currency),
        "pue_ratio": grid.pue,
        "pue_configured": grid.pue_configured,
        "location": grid.location,
    }


def forecast_document(grid: GridState | None) -> Document:
    """What is known of the hours ahead; a static figure holds on and is no forecast, and this says so."""
    outlook = grid.outlook if grid else None
    if outlook is not None:
        providers = " and ".join(dict.fromkeys(figure.provider for figure in outlook.figures))
        return {
            "forecast": True,
            "detail": f"by provider {providers}",
            "made_at": rfc3339(outlook.made_wall_ns),
            "intervals": [_intensity(figure) for figure in outlook.figures],
            "horizons": [
                {"horizon_seconds": ahead_ns / NS_PER_S, "grams_per_kwh": _finite(g_per_kwh)}
                for ahead_ns, g_per_kwh in sorted(outlook.horizons.items())
            ],
            "greenest": [
                {
                    "duration_seconds": window.duration_ns / NS_PER_S,
                    "starts_at": rfc3339(window.start_wall_ns),
                    "grams_per_kwh": _finite(window.g_per_kwh),
                }
                for window in outlook.greenest
            ],
        }
    intensity = grid.intensity if grid else None
    detail = "no forecast: no intensity is known"
    if intensity is not None:
        detail = f"no forecast: the figure of provider {intensity.provider} stands for all hours alike"
        if intensity.valid_until_wall_ns is not None:
            detail = f"no forecast: provider {intensity.provider} says nothing of the hours ahead"
    return {
        "forecast": False,
        "detail": detail,
        "made_at": None,
        "intervals": [_intensity(intensity)] if intensity else [],
        "horizons": [],
        "greenest": [],
    }


def _gpu(view: LedgerView, state: GpuState) -> Document:
    gpu, reading = state.gpu, state.reading
    return {
        "uuid": gpu.uuid,
        "gpu": gpu.index,
        "model": gpu.model,
        "vendor": gpu.vendor,
        "driver_version": gpu.driver_version,
        "power_scope": gpu.power_scope,
        "power_source": gpu.power_source,
        "mig_mode": gpu.mig_mode,
        "up": reading is not None,
        "power_watts": _watts(reading.power_uw) if reading else None,
        "power_instant_watts": _watts(reading.power_instant_uw) if reading else None,
        "power_limit_watts": _watts(reading.power_limit_uw) if reading else None,
        "utilization_ratio": _finite(reading.utilization_ratio) if reading else None,
        "memory_used_bytes": reading.memory_used_bytes if reading else None,
        "memory_total_bytes": reading.memory_total_bytes if reading else None,
        "temperature_celsius": _finite(reading.temperature_celsius) if reading else None,
        "sm_clock_hertz": reading.sm_clock_hertz if reading else None,
        "holders": state.holders,
        "energy_check_ratio": _finite(state.check_ratio),
        "co2e_grams_per_second": _finite(state.co2e_g_per_s),
        "energy_joules": _joules_by_last(view, "gpu_energy", (gpu.uuid,)),
        "attributed_energy_joules": _joules_by_last(view, "gpu_attributed_energy", (gpu.uuid,)),
        "unattributed_energy_joules": _joules_by_last(view, "gpu_unattributed_energy", (gpu.uuid,)),
        "co2e_grams": {basis: _finite(grams) for basis, grams in _by_last(view, "gpu_co2e", (gpu.uuid,))},
    }


def _host(view: LedgerView, state: HostState) -> Document:
    quantity = "host_estimated_energy" if state.estimated else "host_energy"
    return {
        "component": state.component,
        "device": state.device,
        "estimated": state.estimated,
        "power_watts": _watts(state.power_uw),
        "energy_joules": _joules_of(view, quantity, (state.component, state.device)),
    }


def _source(view: LedgerView, health: SourceHealth) -> Document:
    last_read_ns = health.last_read_ns
    return {
        "source": health.source,
        "up": health.up,
        "reason": health.reason,
        "detail": health.detail,
        "last_read_at": None if last_read_ns is None else rfc3339(last_read_ns + view.wall_offset_ns),
    }


def _same(figure: Intensity, in_force: Intensity | None) -> bool:
    """Whether it is the figure in force, for whatever stretch the chain has put that."""
    return in_force is not None and (
        (figure.provider, figure.grid_zone, figure.valid_from_wall_ns)
        == (in_force.provider, in_force.grid_zone, in_force.valid_from_wall_ns)
    )


def _tariff(tariff: Tariff | None, currency: str) -> Document | None:
    if tariff is None:
        return None
    return {
        "per_kwh": _finite(tariff.per_kwh),
        "currency": currency,
        "valid_from": rfc3339(tariff.valid_from_wall_ns),
        "valid_until": rfc3339(tariff.valid_until_wall_ns),
        "provider": tariff.provider,
        "fetched_at": rfc3339(tariff.fetched_wall_ns),
    }


def _intensity(intensity: Intensity | None) -> Document | None:
    return None if intensity is None else _known_intensity(intensity)


def _known_intensity(intensity: Intensity) -> Document:
    return {
        "grams_per_kwh": _finite(intensity.g_per_kwh),
        "valid_from": rfc3339(intensity.valid_from_wall_ns),
        "valid_until": rfc3339(intensity.valid_until_wall_ns),
        "grid_zone": intensity.grid_zone,
        "provider": intensity.provider,
        "signal": intensity.signal,
        "basis": intensity.basis,
        "estimated": intensity.estimated,
        "fetched_at": rfc3339(intensity.fetched_wall_ns),
        "origin": intensity.origin,
    }


def _stale(view: LedgerView, node: NodeInfo, now_ns: int) -> list[str]:
    limit_ns = STALE_AFTER_INTERVALS * node.interval_ns
    problems = []
    if view.sequence and now_ns - view.taken_at_ns > limit_ns:
        problems.append("sampling is overdue")
    for health in view.health:
        if not health.up:
            problems.append(f"source {health.source} is not up: {health.reason or 'unknown'}")
        elif health.last_read_ns is None or now_ns - health.last_read_ns > limit_ns:
            problems.append(f"source {health.source} is stale")
    return problems


def _by_last(view: LedgerView, quantity: str, first: tuple[str, ...]) -> Iterable[tuple[str, int | float]]:
    """Values of a quantity whose labels begin with `first`, by the one label that follows."""
    for labels, value in view.counters.get(quantity, {}).items():
        if labels[:-1] == first:
            yield labels[-1], value


def _joules_by_last(view: LedgerView, quantity: str, first: tuple[str, ...]) -> dict[str, float]:
    return {label: value_uj / UJ_PER_J for label, value_uj in _by_last(view, quantity, first)}


def _joules_of(view: LedgerView, quantity: str, labels: tuple[str, ...]) -> float | None:
    value_uj = view.counters.get(quantity, {}).get(labels)
    return None if value_uj is None else value_uj / UJ_PER_J


def _watts(power_uw: int | None) -> float | None:
    return None if power_uw is None else power_uw / UW_PER_W


def _finite(value: float | None) -> float | None:
    """JSON knows neither NaN nor infinity; a figure that is none is null."""
    return value if value is not None and math.isfinite(value) else None


def _age_seconds(since_ns: int | None, now_ns: int) -> float | None:
    return None if since_ns is None else max(now_ns - since_ns, 0) / NS_PER_S


def rfc3339(wall_ns: int | None) -> str | None:
    """UTC with milliseconds, cut and not rounded, so that no moment is named before it has come."""
    if wall_ns is None:
        return None
    seconds, rest_ns = divmod(wall_ns, NS_PER_S)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}Z"
