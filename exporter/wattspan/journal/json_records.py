"""Frozen records as plain JSON and back, told by the types that their fields declare.

What goes in comes out equal. A member that is missing takes the field's default and one that is unknown is
passed over, so that records may gain fields and older and newer rows are still read.
Floats that JSON has no number for (a loss that is NaN) are written as texts.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

Record = TypeVar("Record")


def members_of(value: Any) -> Any:
    """A record, or what a field of one holds, as `json.dumps` takes it.

    A mapping whose keys are no texts becomes a list of pairs.
    """
    if is_dataclass(value):
        return {field.name: members_of(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, tuple):
        return [members_of(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: members_of(item) for key, item in value.items()}
        return [[members_of(key), members_of(item)] for key, item in value.items()]
    return value


def record_of(kind: type[Record], members: object) -> Record:
    """A record of this type, of members that may be anything.

    Raises:
        ValueError: one of them is not what its field declares, or one without a default is missing.
    """
    record: Record = _value_of(kind, members, kind.__name__)
    return record


def _value_of(kind: Any, given: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _fields_of(kind, given, where)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _first_of(parts, given, where)
    if origin is Literal:
        if given in parts:
            return given
    elif origin is tuple:
        return _tuple_of(parts, given, where)
    elif origin is Mapping:
        return _mapping_of(parts[0], parts[1], given, where)
    elif kind is float:
        return _float_of(given, where)
    elif type(given) is kind or (kind is type(None) and given is None):
        return given
    raise _unfit(given, where)


def _fields_of(kind: Any, given: Any, where: str) -> Any:
    if not isinstance(given, dict):
        raise _unfit(given, where)
    known = {
        field.name: _value_of(field.type, given[field.name], f"{where}.{field.name}")
        for field in fields(kind)
        if field.name in given
    }
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(f"{where} lacks a member: {error}") from error


def _first_of(kinds: tuple[Any, ...], given: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return _value_of(kind, given, where)
        except ValueError:
            continue
    raise _unfit(given, where)


def _tuple_of(kinds: tuple[Any, ...], given: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(given, list):
        raise _unfit(given, where)
    if kinds[1:] == (...,):
        return tuple(_value_of(kinds[0], item, where) for item in given)
    if len(given) != len(kinds):
        raise _unfit(given, where)
    return tuple(_value_of(kind, item, where) for kind, item in zip(kinds, given, strict=True))


def _mapping_of(key_kind: Any, value_kind: Any, given: Any, where: str) -> dict[Any, Any]:
    if isinstance(given, dict):
        given = list(given.items())
    if not isinstance(given, list):
        raise _unfit(given, where)
    mapping = {}
    for pair in given:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise _unfit(pair, where)
        key, item = pair
        mapping[_value_of(key_kind, key, where)] = _value_of(value_kind, item, where)
    return mapping


def _float_of(given: Any, where: str) -> float:
    if type(given) in (float, int):
        number: float = given
        return number
    if given in ("nan", "inf", "-inf"):
        return float(given)
    raise _unfit(given, where)


def _unfit(given: Any, where: str) -> ValueError:
    return ValueError(f"{where} is {given!r:.80}, which it cannot be")
