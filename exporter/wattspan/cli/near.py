"""What somebody has written, and probably meant to write: near matches, and values that are refused."""

import argparse
import difflib
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from wattspan.config import Kind

T = TypeVar("T")

_MAX_SHOWN_CHARS: Final = 200


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` for the known word that is close to this one, else nothing."""
    # Cut, because the comparison takes time that grows with the square of the length.
    matches = difflib.get_close_matches(word[:_MAX_SHOWN_CHARS], sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {matches[0]}?" if matches else ""


def quoted(text: str) -> str:
    """The text in quotes, on one line and of bearable length, whatever is in it."""
    return repr(text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}...")


def argument(kind: Kind[T]) -> Callable[[str], T]:
    """The ``type`` of a flag that has no setting: what is not allowed is refused in the words of `kind`."""

    def parse(text: str) -> T:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{quoted(text)} is not allowed; allowed: {kind.allowed}"
            ) from error

    return parse
