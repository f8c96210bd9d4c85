"""Words that the OpenAPI description is made of.

A response schema is strict (all fields required, no others), so a test that holds answers against it
notices a field that was added, lost or renamed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Schema = dict[str, Any]

NUMBER: Final[Schema] = {"type": "number"}
NUMBER_OR_NULL: Final[Schema] = {"type": ["number", "null"]}
NOT_NEGATIVE: Final[Schema] = {"type": "number", "minimum": 0}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
COUNT_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}


def record(properties: Mapping[str, Schema]) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def array(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def mapping(values: Schema) -> Schema:
    """Values by names that are not known beforehand."""
    return {"type": "object", "additionalProperties": values}


def one_of(words: Sequence[str]) -> Schema:
    """One of a few words."""
    return {"type": "string", "enum": list(words)}


def ref(name: str) -> Schema:
    """A schema of the description, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def content(description: str, media_type: str, schema: Schema) -> Schema:
    """A response with a body."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


def problem(description: str) -> Schema:
    """A response that is a problem document."""
    return content(description, "application/problem+json", ref("Problem"))


GUARDED: Final = {
    "401": problem("The web configuration asks for a user and a password (basic authentication)."),
    "429": problem("Too many passwords are being checked at once; try again in a moment."),
}
ANY: Final = {"default": problem("Anything else that went wrong, as RFC 9457 describes it.")}


def get(summary: str, responses: Mapping[str, Schema], *, parameters: Sequence[Schema] = ()) -> Schema:
    """A path that answers GET; HEAD answers the same without the body."""
    operation: Schema = {
        "summary": summary,
        "security": [{}, {"basic": []}],
        "responses": {**responses, **GUARDED, **ANY},
    }
    if parameters:
        operation["parameters"] = list(parameters)
    return {"get": operation, "head": operation}


def open_get(summary: str, responses: Mapping[str, Schema], *, parameters: Sequence[Schema] = ()) -> Schema:
    """A path that stays open where the rest needs a password: probes carry none."""
    operation: Schema = {"summary": summary, "security": [], "responses": {**responses, **ANY}}
    if parameters:
        operation["parameters"] = list(parameters)
    return {"get": operation, "head": operation}


def json_get(summary: str, schema: Schema) -> Schema:
    """A path that answers GET with one kind of document."""
    return get(summary, {"200": content(summary, "application/json", schema)})
