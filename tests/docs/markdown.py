"""As much of Markdown as our pages use: fenced blocks, headings with their anchors, links, inline code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the word after the fence, and what is inside."""

    language: str
    text: str


def blocks(page: str, language: str) -> list[str]:
    """What stands in the fenced blocks of a language, in order."""
    found = (Block(*match.groups()) for match in _FENCE.finditer(page))
    return [block.text for block in found if block.language == language]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page)


def anchors(page: str) -> set[str]:
    """What a link may name after ``#``: headings in lower case, spaces as dashes, other signs dropped."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[str]:
    """The targets of all links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def shell_lines(page: str) -> Iterator[str]:
    """The commands in the page's shell blocks."""
    for block in blocks(page, "sh"):
        yield from (line for line in block.splitlines() if line and not line.startswith("#"))


def commands_in_prose(page: str, program: str) -> Iterator[str]:
    """The commands of a program that stand as inline code and are whole: no choice is left open in them."""
    for text in re.findall(r"`([^`\n]+)`", prose(page)):
        first, _, words = text.partition(" ")
        if first.rpartition("/")[2] == program and words and not re.search(r"[\[|]", words):
            yield text
