"""What user code hands over, made into what the daemon takes.

What cannot be is left out and complained about in words for the engineer; nothing here raises,
and nothing calls into foreign objects: asking a tensor for its value would wait for the GPU.
"""

import math
from numbers import Integral, Real
from typing import Any, Final

from wattspan.workloads import run_ids

Document = dict[str, Any]

MAX_WHOLE: Final = 2**53 - 1
"""The largest number that the daemon takes: beyond it JSON readers round."""

MAX_REAL: Final = 1e15
"""The largest budget in grams that the daemon takes: more than the world emits in a week."""

TOTALS: Final = ("steps", "samples", "tokens")
"""Progress that is counted since the run's start."""


class Checked:
    """Arguments that were good, and a complaint about each that was not.

    Attributes:
        document: good values by the daemon's name of the field.
        complaints: one line each.
    """

    def __init__(self) -> None:
        self.document: Document = {}
        self.complaints: list[str] = []

    def text(self, field: str, value: object) -> None:
        """A name for people: on one line, of bounded length."""
        if value is None:
            return
        if not isinstance(value, str):
            self._refuse(field, value, "text")
        elif said := run_ids.plain(value):
            self.document[field] = said

    def run_id(self, field: str, value: object) -> None:
        """A run id; characters that none may have become ``-``."""
        if value is None or (isinstance(value, str) and not value):
            return
        said = run_ids.clean(value) if isinstance(value, str) else ""
        if not said:
            self._refuse(field, value, "a run id, such as llama-sft-7")
            return
        if said != value:
            self.complaints.append(f"{field} {_shown(value)} is not a run id; {said} is used instead")
        self.document[field] = said

    def whole(self, field: str, value: object, *, least: int = 0) -> None:
        """A whole number."""
        if value is None:
            return
        number = _whole(value)
        if number is None or not least <= number <= MAX_WHOLE:
            self._refuse(field, value, f"a whole number from {least}")
        else:
            self.document[field] = number

    def real(self, field: str, value: object, *, positive: bool = False) -> None:
        """A number. One that is not finite is left out without a word: a loss may well diverge."""
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, Real):
            self._refuse(field, value, "a number")
            return
        number = float(value)
        if positive and not 0 < number <= MAX_REAL:
            self._refuse(field, value, f"a number above 0, up to {MAX_REAL:g}")
        elif math.isfinite(number):
            self.document[field] = number

    def _refuse(self, field: str, value: object, allowed: str) -> None:
        self.complaints.append(f"{field}: {_shown(value)} is left out; allowed: {allowed}")


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def _shown(value: object) -> str:
    """Of plain types the value, of others the type: to show a tensor is to wait for the GPU."""
    if isinstance(value, str | int | float | bool) and type(value).__module__ == "builtins":
        return repr(value)[:80]
    return f"a {type(value).__name__}"
