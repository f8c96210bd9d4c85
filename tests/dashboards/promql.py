"""Just enough PromQL to say which series an expression reads."""

import re
from typing import Final

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_MATCHERS: Final = re.compile(r"\{[^}]*\}")
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_LABELS: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME: Final = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])")
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
_MATCHER: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*X")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


def names(expr: str) -> set[str]:
    """The names of the series that an expression reads."""
    bare = _STRING.sub("X", expr)
    for part in (_MATCHERS, _RANGE, _LABELS):
        bare = part.sub(" ", bare)
    return set(_NAME.findall(bare)) - _WORDS - {"X"}


def matched(expr: str) -> set[tuple[str, str]]:
    """Each name with each label that it is matched by."""
    bare = _STRING.sub("X", expr)
    return {
        (name, label) for name, matchers in _SELECTOR.findall(bare) for label in _MATCHER.findall(matchers)
    }
