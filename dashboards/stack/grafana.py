"""Grafana, as a program of this machine or in a container; neither is required."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dashboards.stack.plan import HERE, ROOT
from dashboards.stack.running import Part
from dashboards.stack.where import LOOPBACK

IMAGE: Final = "docker.io/grafana/grafana:13.2.0"
DASHBOARDS: Final = ROOT / "dashboards"
HOME: Final = "wattspan-fleet.json"
"""What one sees first."""

SCRAPE_INTERVAL: Final = "5s"
"""Of prometheus.yml; Grafana makes its `$__rate_interval` of it."""

PROVISIONING: Final = HERE / "grafana/provisioning"
PACKAGE_HOME: Final = Path("/usr/share/grafana")
"""Where the packages of Debian and Red Hat put what Grafana needs beside its program."""

HOW_TO_GET: Final = (
    "install Grafana (https://grafana.com/grafana/download), or start Docker or Podman, and try again; "
    "until then import dashboards/*.json into any Grafana that reaches this Prometheus"
)


@dataclass(frozen=True, slots=True)
class Found:
    """How Grafana can be had.

    Attributes:
        argv: what starts it; a container's command goes on with options and image.
        container: whether it is an engine for containers.
    """

    argv: tuple[str, ...]
    container: bool = False


def find() -> tuple[Found | None, str]:
    """Grafana, or None and in one line what is missing and how to get it. Asks an engine whether it runs."""
    for words in (("grafana", "server"), ("grafana-server",)):
        if (path := shutil.which(words[0])) is not None:
            return Found((path, *words[1:])), ""
    asleep = []
    for engine in ("docker", "podman"):
        if (path := shutil.which(engine)) is None:
            continue
        if _runs(path):
            return Found((path, "run"), container=True), ""
        asleep.append(engine)
    why = f"{' and '.join(asleep)} is here but does not run" if asleep else "no container engine is here"
    return None, f"there is no grafana program, and {why}; {HOW_TO_GET}"


def part(found: Found, folder: Path, ports: Mapping[str, int]) -> Part:
    """What to start.

    Args:
        folder: absolute; for its database.
        ports: by part.
    """
    url = f"http://{LOOPBACK}:{ports['grafana']}/"
    in_container = Path("/wattspan")
    dashboards = in_container / "dashboards" if found.container else DASHBOARDS
    settings = settings_of(
        dashboards,
        prometheus=f"http://{LOOPBACK}:{ports['prometheus']}",
        alertmanager=f"http://{LOOPBACK}:{ports['alertmanager']}",
    ) | {"GF_SERVER_HTTP_ADDR": LOOPBACK, "GF_SERVER_HTTP_PORT": str(ports["grafana"])}
    about = "dashboards; no login is needed"
    if found.container:
        name = f"wattspan-stack-grafana-{os.getpid()}"
        settings["GF_PATHS_PROVISIONING"] = str(in_container / "provisioning")
        argv = (
            *(*found.argv, "--rm", "--name", name, "--network", "host"),
            *("--volume", f"{DASHBOARDS}:{dashboards}:ro"),
            *("--volume", f"{PROVISIONING}:{in_container / 'provisioning'}:ro"),
            *(word for key in sorted(settings) for word in ("--env", f"{key}={settings[key]}")),
            IMAGE,
        )
        engine = found.argv[0]
        return Part("grafana", argv, url, "/api/health", about, after=(engine, "rm", "--force", name))
    own = folder / "grafana"
    settings |= {
        "GF_PATHS_PROVISIONING": str(PROVISIONING),
        "GF_PATHS_DATA": str(own),
        "GF_PATHS_LOGS": str(own / "log"),
        "GF_PATHS_PLUGINS": str(own / "plugins"),
    }
    own.mkdir(parents=True, exist_ok=True)
    return Part("grafana", (*found.argv, *_home(found.argv[0])), url, "/api/health", about, settings)


def settings_of(dashboards: Path, *, prometheus: str, alertmanager: str) -> dict[str, str]:
    """Settings by environment variable: everybody may look and edit, nothing calls home.

    Those that begin with STACK fill in the provisioning files.
    """
    return {
        "STACK_PROMETHEUS_URL": prometheus,
        "STACK_ALERTMANAGER_URL": alertmanager,
        "STACK_SCRAPE_INTERVAL": SCRAPE_INTERVAL,
        "STACK_DASHBOARDS": str(dashboards),
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(dashboards / HOME),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Editor",
        "GF_AUTH_DISABLE_LOGIN_FORM": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
    }


def _home(program: str) -> tuple[str, ...]:
    """Where its public files lie: beside the program in an unpacked archive, else where packages put them."""
    beside = Path(program).resolve().parent.parent
    for home in (beside, PACKAGE_HOME):
        if (home / "conf/defaults.ini").is_file():
            return ("--homepath", str(home))
    return ()


def _runs(engine: str) -> bool:
    try:
        return subprocess.run([engine, "info"], capture_output=True, check=False, timeout=20).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
