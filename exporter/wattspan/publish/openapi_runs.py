"""The part of the OpenAPI description that is about runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from wattspan.model import Signal
from wattspan.publish.run_bodies import (
    END_RESULTS,
    MAX_BUDGET_G,
    MAX_PHASE_EVENTS,
    NAMESPACE_FORM,
    PHASE_EVENTS,
    RUN_ID_FORM,
)
from wattspan.publish.run_documents import CURSOR_FORM, RANGES
from wattspan.publish.runs_api import FLAGS, MAX_LIMIT, PATH, STATES
from wattspan.publish.schema import (
    ANY,
    COUNT,
    COUNT_OR_NULL,
    FLAG,
    NOT_NEGATIVE,
    NUMBER_OR_NULL,
    TEXT,
    TIME_OR_NULL,
    Schema,
    array,
    content,
    get,
    mapping,
    one_of,
    problem,
    record,
    ref,
)
from wattspan.runs import MAX_COUNT, RESULTS, Attribution, RunSource
from wattspan.workloads.run_ids import ULID_FORM

SECURITY_SCHEMES: Final[Mapping[str, Any]] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Of the token file. Pods of the node and processes on the local socket need none.",
    }
}


def paths() -> dict[str, Schema]:
    """What the pages of runs answer."""
    return {
        PATH: {**_list(), **_write("Begin a run, or join the one that the caller's job has", _BEGIN, _BEGUN)},
        f"{PATH}/{{run_id}}": _show(),
        f"{PATH}/{{run_id}}/progress": _write_to(
            "Say how far a run is: totals since its start, over all nodes",
            _PROGRESS,
            _answer("Noted.", "Reported"),
        ),
        f"{PATH}/{{run_id}}/phases": _write_to(
            "Begin or end a phase of a run", _PHASES, {"200": _json("Noted.", record({}))}
        ),
        f"{PATH}/{{run_id}}/end": _write_to("End a run", _END, _answer("What it has used here.", "Run")),
    }


def _list() -> Schema:
    return get(
        "Runs of this node, the newest first",
        {
            "200": _json("One page of them.", ref("Runs")),
            "400": problem("A parameter is unknown or holds something that is not allowed."),
        },
        parameters=[
            _parameter("state", one_of(list(STATES)), "Only runs in this state."),
            _parameter("project", TEXT, "Only runs of this project."),
            _parameter("group", TEXT, "Only runs of this group."),
            _parameter("since", _TIME, "Only runs that ran at or after this moment."),
            _parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
                "Runs on a page; 100 if not given.",
            ),
            _parameter("cursor", _CURSOR, "`next_cursor` of the page before."),
        ],
    )


def _show() -> Schema:
    shown = get(
        "A run on this node",
        {
            "200": _json("What is known of it.", ref("Run")),
            "400": problem("This is no run id, or a parameter holds something that is not allowed."),
            "404": problem("This node knows of no such run."),
        },
        parameters=[
            _parameter("attempt", _COUNT_IN, "Which attempt; the newest if not given."),
            _parameter(
                "factors",
                one_of(list(FLAGS)),
                "1 or true: also every figure that priced its energy.",
            ),
        ],
    )
    return {**shown, "parameters": [_RUN_ID_IN_PATH]}


def _write(summary: str, body: Schema, responses: Mapping[str, Schema]) -> Schema:
    return {
        "post": {
            "summary": summary,
            "security": [{}, {"token": []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                **responses,
                "400": problem("The body is not JSON, or a field holds something that is not allowed."),
                "401": problem(
                    "The caller is no pod of this node, no local process, and bears no valid token."
                ),
                "403": problem(
                    "The caller may not do this to this run, or claims a process that is not its own."
                ),
                "404": problem("This node knows of no such run."),
                "409": problem("The run or its attempt is over."),
                "413": problem("The body is too large."),
                "415": problem("The body is not application/json."),
                "503": problem(
                    "The daemon cannot commit it, or does not know the caller's pod yet; "
                    "try again after Retry-After seconds."
                ),
                **ANY,
            },
        }
    }


def _write_to(summary: str, body: Schema, responses: Mapping[str, Schema]) -> Schema:
    return {**_write(summary, body, responses), "parameters": [_RUN_ID_IN_PATH]}


def _json(description: str, schema: Schema) -> Schema:
    return content(description, "application/json", schema)


def _answer(description: str, name: str) -> dict[str, Schema]:
    return {"200": _json(description, ref(name))}


def _parameter(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _body(properties: Mapping[str, Schema], needed: Sequence[str] = ()) -> Schema:
    """An object; null is as good as absent, and fields that are not known are passed over."""
    optional = {
        name: schema if name in needed else {"anyOf": [schema, {"type": "null"}]}
        for name, schema in properties.items()
    }
    return {"type": "object", "properties": optional, "required": list(needed)}


_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_COUNT_IN: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}
_CURSOR: Final[Schema] = {"type": "string", "pattern": f"^{CURSOR_FORM}$"}
_RUN_ID: Final[Schema] = {"type": "string", "pattern": f"^{RUN_ID_FORM}$"}
_RUN_ID_IN_PATH: Final[Schema] = {"name": "run_id", "in": "path", "required": True, "schema": _RUN_ID}

_BEGUN: Final = {
    "200": _json("It had begun before.", ref("Begun")),
    "201": _json("It begins.", ref("Begun")),
    "429": problem("As many runs of this user, pod or token as may go on; end one, or try again later."),
}

_BEGIN: Final = _body(
    {
        "run_id": {"type": "string", "pattern": f"^({RUN_ID_FORM})?$"},
        "key": {
            "type": "string",
            "pattern": f"^{ULID_FORM}$",
            "description": "A ULID of the client's: a begin that is told again with it begins nothing more.",
        },
        "name": TEXT,
        "project": TEXT,
        "group": TEXT,
        "framework": TEXT,
        "attempt": _COUNT_IN,
        "total_steps": _COUNT_IN,
        "budget_co2e_grams": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_BUDGET_G},
        "rank": _COUNT_IN,
        "local_rank": _COUNT_IN,
        "world_size": _COUNT_IN,
        "nodes_expected": _COUNT_IN,
        "traceparent": {**TEXT, "description": "As W3C Trace Context has it; it becomes a link."},
        "namespace": {
            "type": "string",
            "pattern": f"^{NAMESPACE_FORM}$",
            "description": "Whose run it is, by whoever bears a token; of a pod and a process it is known.",
        },
        "markers": {
            **mapping(TEXT),
            "description": "Environment variables that name the job; others are passed over.",
        },
        "pid": {
            **_COUNT_IN,
            "description": "Whose run it is, as the caller counts: itself or a child of it.",
        },
    }
)
_PROGRESS: Final = _body(
    {
        "attempt": _COUNT_IN,
        "steps": _COUNT_IN,
        "samples": _COUNT_IN,
        "tokens": _COUNT_IN,
        "total_steps": _COUNT_IN,
        "loss": {"type": "number"},
    },
    ["attempt"],
)
_PHASE_EVENT: Final[Mapping[str, Schema]] = {
    "name": {**TEXT, "description": "Such as epoch, evaluate or checkpoint."},
    "index": _COUNT_IN,
    "event": one_of(list(PHASE_EVENTS)),
    "at": {**_TIME, "description": "When; now if not given."},
}
_PHASES: Final[Schema] = {
    "anyOf": [
        _body({"attempt": _COUNT_IN, **_PHASE_EVENT}, ["attempt", "name", "event"]),
        _body(
            {
                "attempt": _COUNT_IN,
                "phases": {
                    **array(_body(_PHASE_EVENT, ["name", "event"])),
                    "minItems": 1,
                    "maxItems": MAX_PHASE_EVENTS,
                    "description": "Several, in their order.",
                },
            },
            ["attempt", "phases"],
        ),
    ]
}
_END: Final = _body(
    {"attempt": _COUNT_IN, "result": one_of(END_RESULTS), "error_type": TEXT}, ["attempt", "result"]
)

_IDENTITY: Final[Mapping[str, Schema]] = {
    "run_id": _RUN_ID,
    "attempt": COUNT,
    "run_name": TEXT,
    "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "run_span_id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "node_span_id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "began_at": _TIME,
}
_JOULES_OR_NULL: Final[Schema] = {"type": ["number", "null"], "minimum": 0}
_STATE: Final = one_of(list(STATES))

_RANGE: Final[Schema] = {
    "oneOf": [record({"low": NOT_NEGATIVE, "high": NOT_NEGATIVE}), {"type": "null"}],
    "description": "Null where the total is.",
}

_FACTOR: Final = record(
    {
        "began_at": _TIME,
        "ended_at": _TIME,
        "energy_joules": NOT_NEGATIVE,
        "co2e_grams": NOT_NEGATIVE,
        "intensity_grams_per_kwh": NOT_NEGATIVE,
        "pue": {"type": "number", "minimum": 1},
        "grid_zone": TEXT,
        "provider": TEXT,
        "signal": TEXT,
        "basis": TEXT,
        "estimated": FLAG,
        "origin": TEXT,
        "valid_from": TIME_OR_NULL,
        "valid_until": TIME_OR_NULL,
        "fetched_at": TIME_OR_NULL,
        "figures": {"type": "integer", "minimum": 1},
    }
)

_PRICED_BY: Final = record(
    {
        "provider": TEXT,
        "grid_zone": TEXT,
        "signal": TEXT,
        "basis": TEXT,
        "estimated": FLAG,
        "energy_joules": NOT_NEGATIVE,
        "energy_ratio": {**NOT_NEGATIVE, "description": "Of the run's energy."},
        "held_ratio": {
            **NOT_NEGATIVE,
            "description": "Of this energy, what a last good figure priced whose own time was over.",
        },
        "co2e_grams": NOT_NEGATIVE,
        "intensity_grams_per_kwh": NOT_NEGATIVE,
        "figures": COUNT,
    }
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Begun": record({**_IDENTITY, "state": _STATE}),
    "Reported": record({"progress_ratio": NUMBER_OR_NULL, "projected_co2e_grams": NUMBER_OR_NULL}),
    "Runs": record({"runs": array(ref("Run")), "next_cursor": {"type": ["string", "null"]}}),
    "Run": record(
        {
            **_IDENTITY,
            "state": _STATE,
            "result": {"enum": [*RESULTS, None]},
            "error_type": TEXT,
            "project": TEXT,
            "group": TEXT,
            "framework": TEXT,
            "source": one_of(get_args(RunSource)),
            "user": {**TEXT, "description": "Empty unless the operator switched user names on."},
            "namespace": TEXT,
            "node": TEXT,
            "cluster": TEXT,
            "ended_at": TIME_OR_NULL,
            "duration_seconds": NOT_NEGATIVE,
            "energy_joules": _JOULES_OR_NULL,
            "energy_by_component": record(
                {"gpu": _JOULES_OR_NULL, "cpu": _JOULES_OR_NULL, "dram": _JOULES_OR_NULL}
            ),
            "co2e_grams": {**NUMBER_OR_NULL, "description": "Operational, location based, PUE applied."},
            "embodied_co2e_grams": {**NUMBER_OR_NULL, "description": "Of making the hardware."},
            "market_co2e_grams": {
                **NUMBER_OR_NULL,
                "description": "Operational by the operator's contracts; never part of `co2e_grams`.",
            },
            "water_liters": {**NUMBER_OR_NULL, "description": "For cooling on site."},
            "facility_energy_joules": {**_JOULES_OR_NULL, "description": "Energy times PUE."},
            "unpriced_energy_joules": {**NOT_NEGATIVE, "description": "Whose grams are not in `co2e_grams`."},
            "cost": {**NUMBER_OR_NULL, "description": "Of the energy whose price was known, PUE applied."},
            "uncosted_energy_joules": {
                **NOT_NEGATIVE,
                "description": "For which no price was known; it is in no cost.",
            },
            "currency": TEXT,
            "ranges": {
                **record(dict.fromkeys(RANGES, _RANGE)),
                "description": "Between what and what each total lies; no confidence intervals.",
            },
            "intensity_uncertainty_ratio": {
                **NUMBER_OR_NULL,
                "description": "How far the grams may be off for the grid's figures.",
            },
            "projected_co2e_grams": {
                **NUMBER_OR_NULL,
                "description": "At the run's end, by all its attempts.",
            },
            "projected_cost": NUMBER_OR_NULL,
            "projected_end_at": TIME_OR_NULL,
            "greenest_co2e_grams": {
                **NUMBER_OR_NULL,
                "description": "What the attempt would have emitted in the greenest stretch of its length.",
            },
            "gpu_seconds": NOT_NEGATIVE,
            "idle_gpu_seconds": NOT_NEGATIVE,
            "gpu_count": COUNT,
            "gpu_utilization_ratio": NUMBER_OR_NULL,
            "progress": record(
                {
                    "steps": COUNT,
                    "samples": COUNT,
                    "tokens": COUNT,
                    "total_steps": COUNT_OR_NULL,
                    "repeated_steps": COUNT,
                    "loss": NUMBER_OR_NULL,
                    "ratio": NUMBER_OR_NULL,
                }
            ),
            "attribution": array(one_of(get_args(Attribution))),
            "grid_zone": TEXT,
            "basis": TEXT,
            "providers": array(TEXT),
            "signals": array(one_of(get_args(Signal))),
            "priced_by": array(_PRICED_BY),
            "factors": {
                "oneOf": [array(_FACTOR), {"type": "null"}],
                "description": "How each gram came about; only where one run was asked for with `factors`.",
            },
            "intensity_estimated": FLAG,
            "pue_ratio": {"type": "number", "minimum": 1},
            "budget_co2e_grams": NUMBER_OR_NULL,
            "missing": {**mapping(TEXT), "description": "Why a field is null, by its name."},
        }
    ),
}
