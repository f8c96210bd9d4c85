"""Compiles the fake, once for each variant and state of its sources."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Literal

from tests.fakes.nvml.layout import SOURCES

Variant = Literal["current", "old_driver", "process5", "not_nvml"]

SONAME: Final = "libnvidia-ml.so.1"

_NVML: Final = (
    *("state.c", "curve.c", "system.c", "device.c"),
    *("fields.c", "processes.c", "mig.c", "events.c"),
)
_VARIANTS: Final[dict[Variant, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "current": (_NVML, ()),
    "old_driver": (_NVML, ("-DFAKE_OLD_DRIVER",)),
    "process5": (_NVML, ("-DFAKE_5FIELD_PROCESS",)),
    "not_nvml": (("not_nvml.c",), ()),
}
_FLAGS: Final = (
    *("-std=gnu11", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"),
    *("-pthread", f"-Wl,-soname,{SONAME}"),
)


def build_library(variant: Variant = "current", folder: Path | None = None) -> Path:
    """The shared library of a variant, compiled by ``$CC`` (default ``cc``) unless that was done before.

    Args:
        variant: see the README.
        folder: where to keep builds; ``build/`` beside the sources when None.

    Raises:
        RuntimeError: no compiler, or it refused; the text holds what it said.
    """
    sources, defines = _VARIANTS[variant]
    command = [os.environ.get("CC", "cc"), *_FLAGS, *defines]
    library = (folder or SOURCES / "build") / _fingerprint(command) / variant / SONAME
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as workplace:
        unfinished = Path(workplace, SONAME)
        _run([*command, *(str(SOURCES / name) for name in sources), "-o", str(unfinished)])
        # Another test run may build at the same time: whoever renames last wins, with equal content.
        unfinished.replace(library)
    return library


def _fingerprint(command: list[str]) -> str:
    digest = hashlib.sha256("\0".join(command).encode())
    for path in sorted([*SOURCES.glob("*.[ch]"), *SOURCES.glob("*.def")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> None:
    try:
        compiler = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError(f"the fake NVML needs a C compiler, and {command[0]} is not here") from error
    if compiler.returncode != 0:
        raise RuntimeError(f"the fake NVML does not compile:\n{compiler.stderr}")
