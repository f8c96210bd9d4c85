"""What became of a run: each figure is a value, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self, TypeGuard

from wattspan.client.arguments import Document

UNSAID: Final = "the daemon did not say"


class Missing:
    """A figure that is not there, and why. Falsy.

    It goes through arithmetic, comparisons and formats without an exception, as NaN does:
    the line that prints a report at the end of a training must not be what loses the model.

    Attributes:
        reason: in words.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Missing({self.reason!r})"

    def __str__(self) -> str:
        return f"missing: {self.reason}"

    def __format__(self, spec: str) -> str:
        return str(self)

    def __bool__(self) -> bool:
        return False

    def __float__(self) -> float:
        return float("nan")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Missing) and other.reason == self.reason

    def __hash__(self) -> int:
        return hash(self.reason)

    def _still(self, *_: object) -> Self:
        return self

    def _never(self, _: object) -> bool:
        return False

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _still
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _still
    __neg__ = __abs__ = __round__ = _still
    __lt__ = __le__ = __gt__ = __ge__ = _never


Number = float | Missing
Text = str | Missing


@dataclass(frozen=True, slots=True)
class Summary:
    """What the daemon on this node knows of one attempt of a run, in base units.

    Attributes:
        run_id, attempt, run_name, project, group, node: which run, and where.
        state: ``running`` or ``ended``.
        result: ``success``, ``failure``, ``cancelled`` or ``lost``.
        began_at, ended_at: RFC 3339, UTC.
        duration_seconds: between the two.
        energy_joules: of all components together; `energy_by_component` has each (gpu, cpu, dram).
        co2e_grams: operational, location based, PUE applied.
        embodied_co2e_grams: of making the hardware, for the time it was reserved.
        market_co2e_grams: operational by the operator's contracts; never part of `co2e_grams`.
        water_liters: for cooling on site.
        ranges: between what and what a total lies, by its name, such as ``energy_joules``: (low, high).
        cost: in `currency`.
        gpu_seconds, idle_gpu_seconds: GPUs were held, and of that without a kernel running.
        gpu_count: how many were held.
        progress: totals told so far: steps, samples, tokens.
        attribution: the methods by which its share was made.
    """

    run_id: Text
    attempt: Number
    run_name: Text
    project: Text
    group: Text
    node: Text
    state: Text
    result: Text
    began_at: Text
    ended_at: Text
    duration_seconds: Number
    energy_joules: Number
    energy_by_component: Mapping[str, float] | Missing
    co2e_grams: Number
    embodied_co2e_grams: Number
    market_co2e_grams: Number
    water_liters: Number
    ranges: Mapping[str, tuple[float, float]] | Missing
    cost: Number
    currency: Text
    gpu_seconds: Number
    idle_gpu_seconds: Number
    gpu_count: Number
    progress: Mapping[str, float] | Missing
    attribution: tuple[str, ...] | Missing

    @classmethod
    def missing(cls, reason: str) -> Self:
        """Nothing is known, for one and the same reason."""
        return cls(**dict.fromkeys(_NAMES, Missing(reason)))

    @classmethod
    def of(cls, document: Document) -> Self:
        """As the daemon's document has it; what is absent or no such value is missing."""
        reasons = document.get("missing")
        said = reasons if isinstance(reasons, dict) else {}
        return cls(**{name: _value(name, document.get(name), said.get(name)) for name in _NAMES})

    def __str__(self) -> str:
        """The report that ``wattspan run`` prints."""
        from wattspan.client.report import lines  # noqa: PLC0415 - it is made of summaries

        return "\n".join(lines(self))


_NAMES: Final = tuple(field.name for field in fields(Summary))
_NUMBERS: Final = frozenset(field.name for field in fields(Summary) if field.type is Number)
_MAPPINGS: Final = frozenset({"energy_by_component", "progress"})


def _value(name: str, value: object, reason: object) -> Any:
    """One figure, checked: the daemon may be of another version."""
    if name in _NUMBERS and _is_number(value):
        return value
    if name in _MAPPINGS and isinstance(value, dict):
        return {key: number for key, number in value.items() if _is_number(number)}
    if name == "ranges" and isinstance(value, dict):
        return {key: found for key, edges in value.items() if (found := _range(edges)) is not None}
    if name == "attribution" and isinstance(value, list):
        return tuple(str(method) for method in value)
    if name not in _NUMBERS | _MAPPINGS | {"attribution", "ranges"} and isinstance(value, str):
        return value
    return Missing(reason if isinstance(reason, str) and reason else UNSAID)


def _range(edges: object) -> tuple[float, float] | None:
    low, high = (edges.get("low"), edges.get("high")) if isinstance(edges, dict) else (None, None)
    return (low, high) if _is_number(low) and _is_number(high) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
