"""Near matches: what somebody probably meant to write."""

import difflib
from collections.abc import Iterable
from typing import Final

_MAX_SHOWN_CHARS: Final = 200


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` for the known word that is close to this one, else nothing."""
    # Cut, because the comparison takes time that grows with the square of the length.
    matches = difflib.get_close_matches(word[:_MAX_SHOWN_CHARS], sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {matches[0]}?" if matches else ""


def quoted(text: str) -> str:
    """The text in quotes, on one line and of bearable length, whatever is in it."""
    return repr(text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}...")
