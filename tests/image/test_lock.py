"""The locks: what the image installs, and that it starts from them alone."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.e2e.daemon import Daemon
from tests.fakes.nvml import FakeNvml
from tests.image import clean_root
from tests.image.container import contained
from tests.image.dockerfile import in_context, instructions
from tests.real_parts import need, open_to_all
from wattspan import __version__

PROJECT: Final = tomllib.loads((clean_root.ROOT / "pyproject.toml").read_text())
EXTRAS: Final = ("daemon", "grpc", "kubernetes")
REQUIREMENTS, BUILD = clean_root.LOCKS
NOBODY: Final = 65532


def locked(file: Path) -> dict[str, Version]:
    """Version of each package of a lock, by its canonical name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def unmet(requirements: list[str], lock: Path) -> list[str]:
    """Those that a lock does not satisfy."""
    have = locked(lock)
    asked = [Requirement(text) for text in requirements]
    return [str(each) for each in asked if have.get(canonicalize_name(each.name)) not in each.specifier]


def asked_for() -> list[str]:
    """What pyproject asks for in the image."""
    extras = PROJECT["project"]["optional-dependencies"]
    return [*PROJECT["project"]["dependencies"], *(each for extra in EXTRAS for each in extras[extra])]
