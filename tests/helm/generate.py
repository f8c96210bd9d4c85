"""What of the chart is made from the code and from the chart itself: ``make chart`` writes it anew.

| file | what of it |
|---|---|
| ``helm/wattspan/values.schema.json`` | the settings below `config`, names of thresholds and alerts |
| ``helm/wattspan/README.md`` | the tables of profiles and values |
| ``helm/manifests/*.yaml`` | all: the chart as plain objects, one file for each profile |
| ``tests/helm/previous/<version>/objects.json`` | all: what this version makes of its defaults |
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.alerts.rule_files import RULES, alerts, rules
from tests.docs.generate import table
from tests.helm import pod_security, profiles
from tests.helm.chart import FOLDER, NAMESPACE, PROFILES, ROOT, daemon_pod, loaded, render, texts
from tests.helm.upgrade import BASELINE
from wattspan.config import GRID_PROVIDERS, SETTINGS, Setting

SCHEMA: Final = FOLDER / "values.schema.json"
README: Final = FOLDER / "README.md"
VALUES: Final = FOLDER / "values.yaml"
MANIFESTS: Final = ROOT / "helm" / "manifests"

OWN: Final = (
    r"config\.file|web\..*|state\.dir|node\.name|socket|profile|api\.token-file|grid\..*\.token-file"
    r"|kubelet\.(dir|address)|kubernetes\.pods|path\..*"
)
"""Settings that the chart decides, by a value of its own or by where it mounts what."""


def config_schema() -> dict[str, Any]:
    """The settings that may stand below `config`, nested as in the daemon's file."""
    root = _section()
    for key, setting in SETTINGS.items():
        if re.fullmatch(OWN, key):
            continue
        *sections, leaf = key.split(".")
        node = root
        for section in sections:
            node = node["properties"].setdefault(section, _section())
        node["properties"][leaf] = _leaf(setting)
    return root


def _section() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _leaf(setting: Setting) -> dict[str, Any]:
    """What may be written for a setting; its exact bounds are the daemon's to check."""
    placeholder = setting.kind.placeholder
    if "|" in placeholder:
        words: list[str | bool] = list(placeholder.split("|"))
        # YAML makes booleans of these two words; the template makes words of them again.
        return {
            "enum": [*words, *({"on": True, "off": False}[word] for word in words if word in {"on", "off"})]
        }
    if setting.key == "grid.providers":
        return {"type": "array", "uniqueItems": True, "items": {"enum": list(GRID_PROVIDERS)}}
    by_placeholder: dict[str, dict[str, Any]] = {
        "NUMBER": {"type": "number"},
        "DURATION": {"type": "string", "pattern": "^[0-9]{1,12}(ms|s|m|h|d)$"},
        "PATH": {"type": "string", "pattern": "^/"},
        "URL": {"type": "string", "pattern": "^(https?://[^?#@\\s]+)?$"},
        # A zone may be a number; one line, for it is looked over for on and off.
        "TEXT": {"type": ["string", "integer"], "pattern": "^[^\\n\\r]*$"},
    }
    return by_placeholder[placeholder]


def rules_schema() -> dict[str, Any]:
    """What of the rules may be changed: thresholds and alerts by the names that there are."""
    thresholds = {rule.labels["threshold"]: {"type": "number"} for rule in rules(RULES / "thresholds.yaml")}
    names = sorted({rule.name for rule in alerts()})
    return {
        "thresholds": {"type": "object", "additionalProperties": False, "properties": thresholds},
        "disabled": {"type": "array", "uniqueItems": True, "items": {"enum": names}},
    }


def schema() -> str:
    """The schema of the values, with the settings as the daemon has them now."""
    document = json.loads(SCHEMA.read_text(encoding="utf-8"))
    document["properties"]["config"] = config_schema()
    document["properties"]["rules"]["properties"] |= rules_schema()
    return json.dumps(document, indent=2) + "\n"


def value_rows() -> Iterator[tuple[str, str, str]]:
    """Every value that has a comment of ``# --`` above it: key, default, meaning."""
    defaults = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    sections: list[str] = []
    meaning = ""
    for line in VALUES.read_text(encoding="utf-8").splitlines():
        if comment := re.fullmatch(r"\s*# -- (.*)", line):
            meaning = comment[1]
        elif key := re.match(r"( *)([\w.-]+):", line):
            sections = [*sections[: len(key[1]) // 2], key[2]]
            if meaning:
                value = defaults
                for section in sections:
                    value = value[section]
                yield ".".join(sections), json.dumps(value), meaning
                meaning = ""


def values_table() -> str:
    """Every value as Markdown; what is too long to read in a cell is in values.yaml."""
    rows = (
        (f"`{key}`", f"`{default}`" if len(default) < 60 else "see values.yaml", meaning)
        for key, default, meaning in value_rows()
    )
    return table(("value", "default", "what it is"), rows)


def readme() -> str:
    """The chart's README with its generated tables as they are now.

    Raises:
        ValueError: a table's comments are not there exactly once.
    """
    text = README.read_text(encoding="utf-8")
    for name, content in (
        ("profiles", table(profiles.HEAD, profiles.table())),
        ("values", values_table()),
    ):
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended or begin in after:
            raise ValueError(f"{begin.strip()} ... {end} has to be there once")
        text = before + begin + content + end + after
    return text


def manifest(profile: str) -> str:
    """The chart with a profile as plain objects, in a namespace that lets its pods in."""
    values: Mapping[str, Any] = {"profile": profile}
    level = pod_security.level(daemon_pod(render(values)))
    head = (
        f"# helm/wattspan with the profile {profile}, as plain objects: `make chart` writes this file.\n"
        f"# kubectl apply -f helm/manifests/{profile}.yaml\n"
        "# No image is published yet: put your own in its place, which `make image` builds.\n"
        "apiVersion: v1\nkind: Namespace\nmetadata:\n"
        f"  name: {NAMESPACE}\n  labels:\n    pod-security.kubernetes.io/enforce: {level}\n"
    )
    parts = [
        re.sub(r"\n *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*", "", text).strip()
        for path, text in texts(values).items()
        if re.fullmatch(r"wattspan/templates/[\w-]+\.yaml", path) and text.strip()
    ]
    return head + "".join(f"---\n{part}\n" for part in parts)


def files() -> Mapping[Path, str]:
    """Every file that is generated, whole, as it should be now."""
    plain = {MANIFESTS / f"{profile}.yaml": manifest(profile) for profile in PROFILES}
    # Of the version in the making; with the next one it stays as it was released.
    own = {BASELINE / loaded().version / "objects.json": json.dumps(render(), indent=1) + "\n"}
    return {README: readme(), **plain, **own}


def main() -> Sequence[Path]:
    """Write what has changed; the schema first, because the engine reads it with the chart."""
    SCHEMA.write_text(schema(), encoding="utf-8")
    for path, text in (current := files()).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [SCHEMA, *current]


if __name__ == "__main__":
    main()
