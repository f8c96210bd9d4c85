"""``python -m wattspan.cli.reference config`` prints the README's table of settings, made from the code."""

import sys
from collections.abc import Iterator

from wattspan.config import HINTS, SETTINGS, Setting


def configuration() -> str:
    """The configuration reference as Markdown, ending with a line end."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "| flag and YAML key | environment | default | allowed | what it is |"
    yield "|---|---|---|---|---|"
    for setting in SETTINGS.values():
        yield _row(setting)
    yield ""
    yield "| further variable | what it is |"
    yield "|---|---|"
    for name, text in HINTS.items():
        yield f"| `{name}` | {text} |"


def _row(setting: Setting) -> str:
    cells = (
        f"`--{setting.key}`",
        f"`{setting.environment}`",
        setting.default_text or "not set",
        setting.kind.allowed,
        setting.help,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    if sys.argv[1:] != ["config"]:
        raise SystemExit("usage: python -m wattspan.cli.reference config")
    sys.stdout.write(configuration())
