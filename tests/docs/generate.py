"""The parts of README.md that are made from the code: ``make docs`` writes them anew.

Each stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; what is outside is left as it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from wattspan import __version__
from wattspan.carbon.location import HINTS
from wattspan.cli.arguments import COMMANDS
from wattspan.cli.reference import configuration
from wattspan.config import Config
from wattspan.devices.demo import DemoSource
from wattspan.devices.nvml_fields import THROTTLE_REASONS
from wattspan.errors import REASONS
from wattspan.model import (
    METHODS,
    SHARES,
    UNATTRIBUTED_REASONS,
    Basis,
    Component,
    MigMode,
    PowerScope,
    PowerSource,
    Signal,
    Vendor,
)
from wattspan.publish.catalogue import CATALOGUE
from wattspan.publish.openapi import document
from wattspan.publish.run_documents import COMPONENTS
from wattspan.runs import Attribution, RunSource

README: Final = Path(__file__).parents[2] / "README.md"

LABEL_VALUES: Final[Sequence[tuple[str, str, Iterable[str]]]] = (
    ("attribution", "of the energy of runs and pods", get_args(Attribution)),
    ("basis", "of CO2e and intensity", get_args(Basis)),
    ("component", "of host energy and power", get_args(Component)),
    ("component", "of the energy of runs, pods and owners", COMPONENTS),
    ("method", "of GPU energy", METHODS),
    ("mig_mode", "of `wattspan_gpu_info`", get_args(MigMode)),
    ("power_scope", "of `wattspan_gpu_info`", get_args(PowerScope)),
    ("power_source", "of `wattspan_gpu_info`", get_args(PowerSource)),
    ("reason", "of `wattspan_gpu_unattributed_energy_joules_total`", UNATTRIBUTED_REASONS),
    ("reason", "of `wattspan_gpu_throttled_seconds_total`", THROTTLE_REASONS.values()),
    ("reason", "of `wattspan_source_read_failures_total`", REASONS),
    ("share", "of `wattspan_gpu_attributed_energy_joules_total`", SHARES),
    ("signal", "of intensity", get_args(Signal)),
    ("source", "of sources", (*Config().source_modes, DemoSource.name)),
    ("source", "of `wattspan_run_info`", get_args(RunSource)),
    ("vendor", "of `wattspan_gpu_info`", get_args(Vendor)),
)
"""The labels whose values are a closed set, and where each stands."""

WHO: Final = {
    "": "everybody",
    "basic": "readers",
    "token": "writers",
}
"""Who may ask, by the way to show it."""

CLOUDS: Final = {"": "any cloud", "aws": "AWS", "gcp": "Google Cloud", "azure": "Azure"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(words: Iterable[str]) -> str:
    """Words as inline code, joined by commas."""
    return ", ".join(f"`{word}`" for word in words)


def commands() -> str:
    """Every command with what it does."""
    rows = ((f"`wattspan {module.USAGE}`", module.HELP) for module in COMMANDS)
    return table(("command", "what it does"), rows)


def metrics() -> str:
    """Every metric family of the catalogue."""
    rows = (
        (f"`{metric.exposed_name}`", metric.kind, code(metric.labels), metric.across, metric.help)
        for metric in CATALOGUE
    )
    return table(("metric", "kind", "labels", "across nodes", "meaning"), rows)


def labels() -> str:
    """Every label that has a closed set of values."""
    rows = ((f"`{label}`", where, code(values)) for label, where, values in LABEL_VALUES)
    return table(("label", "where", "values"), rows)


def hints() -> str:
    """The variables that a location is guessed from, in order."""
    rows = ((f"`{variable}`", CLOUDS[provider]) for variable, provider in HINTS)
    return table(("variable", "names a region of"), rows)


def http() -> str:
    """Every request that the HTTP interface takes."""
    rows = (
        (f"`{method.upper()} {path}`", page[method]["summary"], WHO[_asked(page[method])])
        for path, page in document(__version__, runs=True)["paths"].items()
        for method in ("get", "post")
        if method in page
    )
    return table(("request", "what it does", "open to"), rows)


def _asked(operation: Mapping[str, Any]) -> str:
    """Which way to show oneself an operation names; the password where it names none of its own."""
    security = operation.get("security", [{"basic": []}])
    return next((scheme for way in security for scheme in way), "")


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "commands": commands,
    "configuration": configuration,
    "hints": hints,
    "http": http,
    "labels": labels,
    "metrics": metrics,
}


def renewed(text: str) -> str:
    """The README with every generated block as the code has it now.

    Raises:
        ValueError: a block's comments are not there exactly once.
    """
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        pattern = re.compile(f"{re.escape(begin)}(.*?){re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{begin.strip()} ... {end} has to be there once")
        before, _, after = pattern.split(text)
        text = before + begin + make() + end + after
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
