"""The OpenAPI 3.1 description behind ``/openapi.json``, written by hand: a promise, not a by-product.

Every response schema is strict (all fields required, no others), so a test that holds answers against it
notices a field that was added, lost or renamed.
"""

from typing import Any, Final, get_args

from wattspan.errors import REASONS
from wattspan.model import Basis, Component, MigMode, PowerScope, PowerSource, Signal, Vendor
from wattspan.publish import openapi_runs
from wattspan.publish.schema import (
    COUNT,
    COUNT_OR_NULL,
    FLAG,
    NOT_NEGATIVE,
    NUMBER,
    NUMBER_OR_NULL,
    TEXT,
    TIME_OR_NULL,
    Schema,
    array,
    content,
    get,
    json_get,
    mapping,
    one_of,
    open_get,
    problem,
    record,
    ref,
)

_SOURCE_REASON: Final[Schema] = {"type": "string", "enum": ["", "released", "starting", *REASONS]}


def document(version: str, *, metrics: bool = True, runs: bool = False) -> dict[str, Any]:
    """The whole description, for this version of Wattspan.

    Args:
        version: Wattspan's.
        metrics, runs: whether these pages are served.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wattspan",
            "version": version,
            "description": "Energy and carbon of one node's GPUs and host, in joules, watts and grams.",
        },
        "paths": {
            "/": get("Landing page", {"200": content("Links to the rest.", "text/html", TEXT)}),
            **({"/metrics": _metrics()} if metrics else {}),
            "/-/healthy": _liveness(),
            "/health/live": _liveness(),
            "/-/ready": _readiness(),
            "/health/ready": _readiness(),
            "/openapi.json": json_get("This description", {"type": "object"}),
            "/api/v1/node": json_get("The node, its devices and its sources now", ref("Node")),
            "/api/v1/grid": json_get("The carbon intensity in force", ref("Grid")),
            "/api/v1/grid/forecast": json_get("The carbon intensity of the hours ahead", ref("Forecast")),
            **(openapi_runs.paths() if runs else {}),
        },
        "components": {
            "schemas": {**SCHEMAS, **(openapi_runs.SCHEMAS if runs else {})},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                **(openapi_runs.SECURITY_SCHEMES if runs else {}),
            },
        },
    }


def _metrics() -> Schema:
    described = {
        "description": "The metrics, in the format that the Accept header asks for.",
        "content": {
            "text/plain": {"schema": TEXT},
            "application/openmetrics-text": {"schema": TEXT},
        },
    }
    return get("Metrics for Prometheus", {"200": described})


def _liveness() -> Schema:
    return open_get("Whether the daemon answers", {"200": content("It does.", "text/plain", TEXT)})


def _readiness() -> Schema:
    return open_get(
        "Whether the first snapshot is published and the journal can be written",
        {
            "200": content("Ready.", "application/json", ref("Readiness")),
            "503": content("Not ready; `problems` says why.", "application/json", ref("Readiness")),
            "400": problem("`strict` holds something that is not allowed."),
        },
        parameters=[
            {
                "name": "strict",
                "in": "query",
                "required": False,
                "description": "1 or true: overdue sampling or a stale or absent source is a 503 too.",
                "schema": one_of(["0", "1", "false", "true"]),
            }
        ],
    )


_INTENSITY_FIELDS: Final[dict[str, Schema]] = {
    "grams_per_kwh": NUMBER_OR_NULL,
    "valid_from": TIME_OR_NULL,
    "valid_until": TIME_OR_NULL,
    "grid_zone": TEXT,
    "provider": TEXT,
    "signal": one_of(get_args(Signal)),
    "basis": one_of(get_args(Basis)),
    "estimated": FLAG,
    "fetched_at": TIME_OR_NULL,
    "origin": TEXT,
}

SCHEMAS: Final[dict[str, Schema]] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457.",
        "properties": {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": TEXT,
        },
        "required": ["type", "title", "status", "detail"],
        "additionalProperties": False,
    },
    "Readiness": record(
        {
            "ready": FLAG,
            "problems": array(TEXT),
            "snapshot_age_seconds": {"type": ["number", "null"], "minimum": 0},
            "sources": array(
                record(
                    {
                        "source": TEXT,
                        "up": FLAG,
                        "reason": _SOURCE_REASON,
                        "age_seconds": {"type": ["number", "null"], "minimum": 0},
                    }
                )
            ),
        }
    ),
    "Gpu": record(
        {
            "uuid": TEXT,
            "gpu": COUNT,
            "model": TEXT,
            "vendor": one_of(get_args(Vendor)),
            "driver_version": TEXT,
            "power_scope": one_of(get_args(PowerScope)),
            "power_source": one_of(get_args(PowerSource)),
            "mig_mode": one_of(get_args(MigMode)),
            "up": FLAG,
            "power_watts": NUMBER_OR_NULL,
            "power_instant_watts": NUMBER_OR_NULL,
            "power_limit_watts": NUMBER_OR_NULL,
            "utilization_ratio": NUMBER_OR_NULL,
            "memory_used_bytes": COUNT_OR_NULL,
            "memory_total_bytes": COUNT_OR_NULL,
            "temperature_celsius": NUMBER_OR_NULL,
            "sm_clock_hertz": COUNT_OR_NULL,
            "holders": COUNT,
            "energy_check_ratio": NUMBER_OR_NULL,
            "co2e_grams_per_second": NUMBER_OR_NULL,
            "energy_joules": {**mapping(NOT_NEGATIVE), "description": "By method: counter, integrated."},
            "attributed_energy_joules": {
                **mapping(NOT_NEGATIVE),
                "description": "By share; sums to the energy.",
            },
            "unattributed_energy_joules": {**mapping(NOT_NEGATIVE), "description": "By reason."},
            "co2e_grams": {**mapping(NUMBER_OR_NULL), "description": "Operational, PUE applied; by basis."},
        }
    ),
    "Host": record(
        {
            "component": one_of(get_args(Component)),
            "device": TEXT,
            "estimated": FLAG,
            "power_watts": NUMBER_OR_NULL,
            "energy_joules": {"type": ["number", "null"], "minimum": 0},
        }
    ),
    "Platform": record({"sensor": TEXT, "power_watts": NUMBER}),
    "Source": record(
        {
            "source": TEXT,
            "up": FLAG,
            "reason": _SOURCE_REASON,
            "detail": TEXT,
            "last_read_at": TIME_OR_NULL,
        }
    ),
    "Node": record(
        {
            "node": TEXT,
            "cluster": TEXT,
            "version": TEXT,
            "interval_seconds": {"type": "number", "exclusiveMinimum": 0},
            "sequence": COUNT,
            "taken_at": TIME_OR_NULL,
            "power_watts": NUMBER_OR_NULL,
            "energy_joules": {"type": ["number", "null"], "minimum": 0},
            "gpus": array(ref("Gpu")),
            "hosts": array(ref("Host")),
            "platforms": array(ref("Platform")),
            "sources": array(ref("Source")),
            "journal": record({"writable": FLAG, "error": TEXT, "last_commit_at": TIME_OR_NULL}),
        }
    ),
    "Intensity": record(_INTENSITY_FIELDS),
    "ProviderIntensity": record({**_INTENSITY_FIELDS, "in_use": FLAG}),
    "Tariff": record(
        {
            "per_kwh": {**NUMBER_OR_NULL, "description": "At the facility's meter; below 0 at times."},
            "currency": TEXT,
            "valid_from": TIME_OR_NULL,
            "valid_until": TIME_OR_NULL,
            "provider": TEXT,
            "fetched_at": TIME_OR_NULL,
        }
    ),
    "Grid": record(
        {
            "intensity": {"oneOf": [ref("Intensity"), {"type": "null"}]},
            "signal": one_of(get_args(Signal)),
            "basis": one_of(get_args(Basis)),
            "grid_zone": {**TEXT, "description": "This node's own; a figure may be of a larger place."},
            "fallback_level": COUNT,
            "figures": {
                **array(ref("ProviderIntensity")),
                "description": "What each provider says of this moment, in the order of the chain.",
            },
            "tariff": {"oneOf": [ref("Tariff"), {"type": "null"}]},
            "pue_ratio": {"type": "number", "minimum": 1},
            "pue_configured": FLAG,
            "location": TEXT,
        }
    ),
    "Forecast": record(
        {
            "forecast": {**FLAG, "description": "False where one figure stands for all hours alike."},
            "detail": TEXT,
            "made_at": {**TIME_OR_NULL, "description": "The moment that it looks ahead from."},
            "intervals": array(ref("Intensity")),
            "horizons": array(record({"horizon_seconds": NOT_NEGATIVE, "grams_per_kwh": NUMBER_OR_NULL})),
            "greenest": {
                **array(
                    record(
                        {
                            "duration_seconds": NOT_NEGATIVE,
                            "starts_at": TIME_OR_NULL,
                            "grams_per_kwh": NUMBER_OR_NULL,
                        }
                    )
                ),
                "description": "The stretch of each length with the lowest mean intensity.",
            },
        }
    ),
}
