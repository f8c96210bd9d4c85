"""Settings from where people write them: flag, environment, YAML file, default, in that order.

An empty value counts as not given, wherever it stands: charts and unit files often pass empty variables.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wattspan.cli.near import near, quoted
from wattspan.cli.settings_file import Given, read
from wattspan.config import ENVIRONMENT_PREFIX, HINTS, SETTINGS, URL, Config, Setting
from wattspan.errors import SetupError

_SERVICE_LINK: Final = re.compile(
    rf"{ENVIRONMENT_PREFIX}([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes puts into every container for a Service called wattspan or wattspan-something.

https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
"""


_HIDDEN: Final = re.compile(r"^(\w+://)?.*@|([?#]).*", re.DOTALL)
"""What of a URL may be secret: user and password, query and fragment."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration in force and how it came about.

    Attributes:
        config: every setting, checked.
        origins: by key, where its value was written; ``default`` where nobody wrote one.
        warnings: what the operator should look at, one line each.
        remarks: the same at level debug.
    """

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def load(flags: Mapping[str, str], environ: Mapping[str, str]) -> Loaded:
    """The configuration in force.

    Args:
        flags: text by key, of the flags that were given.
        environ: the whole environment; names that are not ours are left alone.

    Raises:
        SetupError: one line per unknown key and per value that is not allowed.
    """
    given = {
        **_from_environment(environ),
        **{key: Given(text, f"flag --{key}") for key, text in flags.items() if text},
    }
    values, problems = _parsed(given)
    config_file = values.get("config_file")
    if isinstance(config_file, Path):
        in_file, file_problems = read(config_file)
        below = {key: value for key, value in in_file.items() if key not in given}
        file_values, value_problems = _parsed(below)
        given |= below
        values |= file_values
        problems += file_problems + value_problems
    if problems:
        raise SetupError("\n".join(problems))
    origins = {key: given[key].origin if key in given else "default" for key in SETTINGS}
    warnings, remarks = _strangers(environ)
    return Loaded(Config(**values), origins, warnings, remarks)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    return {
        setting.key: Given(environ[setting.environment], f"environment {setting.environment}")
        for setting in SETTINGS.values()
        if environ.get(setting.environment)
    }


def _parsed(given: Mapping[str, Given]) -> tuple[dict[str, Any], list[str]]:
    """Values by the attribute of `Config`, and one line per value that is not allowed."""
    values: dict[str, Any] = {}
    problems = []
    for key, value in given.items():
        setting = SETTINGS[key]
        try:
            values[setting.attribute] = setting.kind.parse(value.text)
        except ValueError:
            problems.append(_not_allowed(setting, value))
    return values, problems


def _not_allowed(setting: Setting, given: Given) -> str:
    # A URL with a password or a key is refused, and the refusal must not tell it.
    shown = _HIDDEN.sub(r"\1\2***", given.text) if setting.kind is URL else given.text
    return f"{setting.key}: {quoted(shown)} is not allowed ({given.origin}); allowed: {setting.kind.allowed}"


def _strangers(environ: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings and remarks on variables with our prefix that we do not document."""
    documented = {*HINTS, *(setting.environment for setting in SETTINGS.values())}
    unknown = sorted(
        name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in documented
    )
    links = [name for name in unknown if _SERVICE_LINK.fullmatch(name)]
    warnings = tuple(
        f"environment: {quoted(name)} is not a variable of wattspan, ignored{near(name, documented)}"
        for name in unknown
        if name not in links
    )
    remarks = (f"environment: ignored {', '.join(links)}, which Kubernetes sets",) if links else ()
    return warnings, remarks
