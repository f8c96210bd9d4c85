"""The OpenAPI 3.1 description behind ``/openapi.json``, written by hand: a promise, not a by-product.

Every response schema is strict (all fields required, no others), so a test that holds answers against it
notices a field that was added, lost or renamed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from wattspan.errors import REASONS
from wattspan.model import Basis, Component, MigMode, PowerScope, PowerSource, Signal, Vendor

Schema = dict[str, Any]

_NUMBER: Final[Schema] = {"type": "number"}
_NUMBER_OR_NULL: Final[Schema] = {"type": ["number", "null"]}
_NOT_NEGATIVE: Final[Schema] = {"type": "number", "minimum": 0}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_SOURCE_REASON: Final[Schema] = {"type": "string", "enum": ["", "released", "starting", *REASONS]}


def document(version: str) -> dict[str, Any]:
    """The whole description, for this version of Wattspan."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wattspan",
            "version": version,
            "description": "Energy and carbon of one node's GPUs and host, in joules, watts and grams.",
        },
        "paths": {
            "/": _get("Landing page", {"200": _content("Links to the rest.", "text/html", _TEXT)}),
            "/metrics": _metrics(),
            "/-/healthy": _liveness(),
            "/health/live": _liveness(),
            "/-/ready": _readiness(),
            "/health/ready": _readiness(),
            "/openapi.json": _json("This description", {"type": "object"}),
            "/api/v1/node": _json("The node, its devices and its sources now", _ref("Node")),
            "/api/v1/grid": _json("The carbon intensity in force", _ref("Grid")),
            "/api/v1/grid/forecast": _json("The carbon intensity of the hours ahead", _ref("Forecast")),
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
    }


def _record(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _one_of(words: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(words)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(description: str, media_type: str, schema: Schema) -> Schema:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _problem(description: str) -> Schema:
    return _content(description, "application/problem+json", _ref("Problem"))


_GUARDED: Final = {
    "401": _problem("The web configuration asks for a user and a password (basic authentication)."),
    "429": _problem("Too many passwords are being checked at once; try again in a moment."),
}
_ANY: Final = {"default": _problem("Anything else that went wrong, as RFC 9457 describes it.")}


def _get(summary: str, responses: Mapping[str, Schema], *, parameters: Sequence[Schema] = ()) -> Schema:
    """A path that answers GET; HEAD answers the same without the body."""
    operation: Schema = {
        "summary": summary,
        "security": [{}, {"basic": []}],
        "responses": {**responses, **_GUARDED, **_ANY},
    }
    if parameters:
        operation["parameters"] = list(parameters)
    return {"get": operation, "head": operation}


def _open(summary: str, responses: Mapping[str, Schema], *, parameters: Sequence[Schema] = ()) -> Schema:
    """A path that stays open where the rest needs a password: probes carry none."""
    operation: Schema = {"summary": summary, "security": [], "responses": {**responses, **_ANY}}
    if parameters:
        operation["parameters"] = list(parameters)
    return {"get": operation, "head": operation}


def _json(summary: str, schema: Schema) -> Schema:
    return _get(summary, {"200": _content(summary, "application/json", schema)})


def _metrics() -> Schema:
    described = {
        "description": "The metrics, in the format that the Accept header asks for.",
        "content": {
            "text/plain": {"schema": _TEXT},
            "application/openmetrics-text": {"schema": _TEXT},
        },
    }
    return _get("Metrics for Prometheus", {"200": described})


def _liveness() -> Schema:
    return _open("Whether the daemon answers", {"200": _content("It does.", "text/plain", _TEXT)})


def _readiness() -> Schema:
    return _open(
        "Whether the first snapshot is published and the journal can be written",
        {
            "200": _content("Ready.", "application/json", _ref("Readiness")),
            "503": _content("Not ready; `problems` says why.", "application/json", _ref("Readiness")),
            "400": _problem("`strict` holds something that is not allowed."),
        },
        parameters=[
            {
                "name": "strict",
                "in": "query",
                "required": False,
                "description": "1 or true: overdue sampling or a stale or absent source is a 503 too.",
                "schema": _one_of(["0", "1", "false", "true"]),
            }
        ],
    )


_INTENSITY: Final = _record(
    {
        "grams_per_kwh": _NUMBER_OR_NULL,
        "valid_from": _TIME_OR_NULL,
        "valid_until": _TIME_OR_NULL,
        "grid_zone": _TEXT,
        "provider": _TEXT,
        "signal": _one_of(get_args(Signal)),
        "basis": _one_of(get_args(Basis)),
        "estimated": _FLAG,
        "fetched_at": _TIME_OR_NULL,
        "origin": _TEXT,
    }
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457.",
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": _TEXT,
        },
        "required": ["type", "title", "status", "detail"],
        "additionalProperties": False,
    },
    "Readiness": _record(
        {
            "ready": _FLAG,
            "problems": _list(_TEXT),
            "snapshot_age_seconds": {"type": ["number", "null"], "minimum": 0},
            "sources": _list(
                _record(
                    {
                        "source": _TEXT,
                        "up": _FLAG,
                        "reason": _SOURCE_REASON,
                        "age_seconds": {"type": ["number", "null"], "minimum": 0},
                    }
                )
            ),
        }
    ),
    "Gpu": _record(
        {
            "uuid": _TEXT,
            "gpu": _COUNT,
            "model": _TEXT,
            "vendor": _one_of(get_args(Vendor)),
            "driver_version": _TEXT,
            "power_scope": _one_of(get_args(PowerScope)),
            "power_source": _one_of(get_args(PowerSource)),
            "mig_mode": _one_of(get_args(MigMode)),
            "up": _FLAG,
            "power_watts": _NUMBER_OR_NULL,
            "power_instant_watts": _NUMBER_OR_NULL,
            "power_limit_watts": _NUMBER_OR_NULL,
            "utilization_ratio": _NUMBER_OR_NULL,
            "memory_used_bytes": _COUNT_OR_NULL,
            "memory_total_bytes": _COUNT_OR_NULL,
            "temperature_celsius": _NUMBER_OR_NULL,
            "sm_clock_hertz": _COUNT_OR_NULL,
            "holders": _COUNT,
            "energy_check_ratio": _NUMBER_OR_NULL,
            "co2e_grams_per_second": _NUMBER_OR_NULL,
            "energy_joules": {**_map(_NOT_NEGATIVE), "description": "By method: counter, integrated."},
            "attributed_energy_joules": {
                **_map(_NOT_NEGATIVE),
                "description": "By share; sums to the energy.",
            },
            "unattributed_energy_joules": {**_map(_NOT_NEGATIVE), "description": "By reason."},
            "co2e_grams": {**_map(_NUMBER_OR_NULL), "description": "Operational, PUE applied; by basis."},
        }
    ),
    "Host": _record(
        {
            "component": _one_of(get_args(Component)),
            "device": _TEXT,
            "estimated": _FLAG,
            "power_watts": _NUMBER_OR_NULL,
            "energy_joules": {"type": ["number", "null"], "minimum": 0},
        }
    ),
    "Platform": _record({"sensor": _TEXT, "power_watts": _NUMBER}),
    "Source": _record(
        {
            "source": _TEXT,
            "up": _FLAG,
            "reason": _SOURCE_REASON,
            "detail": _TEXT,
            "last_read_at": _TIME_OR_NULL,
        }
    ),
    "Node": _record(
        {
            "node": _TEXT,
            "cluster": _TEXT,
            "version": _TEXT,
            "interval_seconds": {"type": "number", "exclusiveMinimum": 0},
            "sequence": _COUNT,
            "taken_at": _TIME_OR_NULL,
            "power_watts": _NUMBER_OR_NULL,
            "energy_joules": {"type": ["number", "null"], "minimum": 0},
            "gpus": _list(_ref("Gpu")),
            "hosts": _list(_ref("Host")),
            "platforms": _list(_ref("Platform")),
            "sources": _list(_ref("Source")),
            "journal": _record({"writable": _FLAG, "error": _TEXT, "last_commit_at": _TIME_OR_NULL}),
        }
    ),
    "Intensity": _INTENSITY,
    "Grid": _record(
        {
            "intensity": {"oneOf": [_ref("Intensity"), {"type": "null"}]},
            "fallback_level": _COUNT,
            "pue_ratio": {"type": "number", "minimum": 1},
            "pue_configured": _FLAG,
            "location": _TEXT,
        }
    ),
    "Forecast": _record({"forecast": _FLAG, "detail": _TEXT, "intervals": _list(_ref("Intensity"))}),
}
