"""HTML and SVG in which every text is escaped unless it was made here. Pure."""

from collections.abc import Iterable
from html import escape
from typing import Final

_VOID: Final = frozenset({"link", "meta"})
"""Elements without content and end tag, of those that are used (HTML, 13.1.2)."""


class Markup(str):
    """Finished markup: it is put in as it stands."""

    __slots__ = ()


Content = str | Iterable[str]


def element(name: str, /, *content: Content, **attributes: object) -> Markup:
    """``<name attribute="...">content</name>``.

    Args:
        name: of the element.
        content: `Markup` as it is, any other text escaped; iterables are put in one after another.
        attributes: a trailing underscore is dropped and others become dashes, so that ``class_`` and
            ``stroke_width`` can be written; None and False leave the attribute out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(*content)}</{name}>")


def joined(*content: Content) -> Markup:
    """Pieces one after another."""
    return Markup("".join(_escaped(part) for part in content))


def _escaped(part: Content) -> str:
    if isinstance(part, Markup):
        return part
    if isinstance(part, str):
        return escape(part)
    return "".join(_escaped(piece) for piece in part)
