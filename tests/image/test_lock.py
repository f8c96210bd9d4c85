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
    asked = {text: Requirement(text) for text in requirements}
    versions = {text: have.get(canonicalize_name(each.name)) for text, each in asked.items()}
    return [text for text, found in versions.items() if found is None or found not in asked[text].specifier]


def asked_for() -> list[str]:
    """What pyproject asks for in the image."""
    extras = PROJECT["project"]["optional-dependencies"]
    return [*PROJECT["project"]["dependencies"], *(each for extra in EXTRAS for each in extras[extra])]


@pytest.mark.parametrize(
    ("lock", "asked"),
    [(REQUIREMENTS, asked_for()), (BUILD, PROJECT["build-system"]["requires"])],
    ids=["requirements", "build"],
)
def test_the_lock_satisfies_what_pyproject_asks_for(lock: Path, asked: list[str]) -> None:
    """Each direct dependency is locked at a version that pyproject allows; `make lock` mends it."""
    assert unmet(asked, lock) == []
    newer = [f"{Requirement(text).name}>=9999" for text in asked]
    assert len(unmet(newer, lock)) == len(asked) > 0
    assert unmet(["not-locked"], lock) == ["not-locked"]


@pytest.mark.parametrize("lock", [REQUIREMENTS, BUILD], ids=["requirements", "build"])
def test_every_line_of_a_lock_is_a_version_with_hashes(lock: Path) -> None:
    """Nothing is taken by range, by address or without a hash, and no lock says where packages come from."""
    text = lock.read_text()
    lines = [line for line in text.replace("\\\n", "").splitlines() if not line.lstrip().startswith("#")]
    shape = re.compile(r"[a-z0-9-]+==[^ ;]+( ; [^-]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in lines if not shape.fullmatch(line)] == []
    assert "://" not in text
    assert "--index" not in text


def test_the_dockerfile_installs_the_locks_and_nothing_else() -> None:
    """Every pip of the Dockerfile checks hashes or has no network, and takes no dependency by itself."""
    commands = [rest for name, rest in instructions(clean_root.DOCKERFILE.read_text()) if name == "RUN"]
    pips = [
        part
        for command in commands
        for part in command.split("&&")
        if re.search(r"pip .*(install|wheel) ", part)
    ]
    assert len(pips) == 4
    for pip in pips:
        assert "--no-deps" in pip
        assert "--require-hashes" in pip or "--no-index" in pip
    assert {lock.name for lock in clean_root.LOCKS if any(f"-r {lock.name}" in pip for pip in pips)} == {
        "requirements.lock",
        "build.lock",
    }


def test_the_build_context_is_what_the_dockerfile_copies() -> None:
    """Nothing but the package and its papers reaches a builder, so no secret of a checkout can."""
    ignore = clean_root.DOCKERFILE.with_name("Dockerfile.dockerignore")
    seen = {path.as_posix() for path in in_context(clean_root.ROOT, ignore)}
    assert {"exporter/wattspan/app.py", "exporter/requirements.lock", "pyproject.toml", "README.md"} <= seen
    assert not [path for path in seen if path.endswith(".pyc") or path.startswith((".", "tests", "helm"))]
    assert {path for path in seen if not path.startswith("exporter/wattspan/")} == {
        *("exporter/requirements.lock", "exporter/build.lock", "pyproject.toml", "README.md", "LICENSE"),
    }


@pytest.mark.slow
def test_the_daemon_runs_on_the_lock_alone(tmp_path: Path) -> None:
    """Installed by hash into a fresh environment it serves as nobody, on a root that it may not write to."""
    need("unshare and root", shutil.which("unshare") is not None and os.geteuid() == 0)
    open_to_all(tmp_path)
    venv, root = tmp_path / "venv", tmp_path / "root"
    root.mkdir()
    base = Path(sys.base_prefix)
    shutil.copytree(clean_root.ROOT / "exporter", tmp_path / "source/exporter")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(clean_root.ROOT / name, tmp_path / "source")
    run(sys.executable, "-m", "venv", str(venv))
    pip = (str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps")
    for lock in clean_root.LOCKS:
        run(*pip, "--require-hashes", "--only-binary", ":all:", "--requirement", str(lock))
    run(*pip, "--no-build-isolation", "--no-index", str(tmp_path / "source"))
    system = {
        f"/{name}": Path(f"/{name}") for name in ("bin", "lib", "lib64", "usr") if Path(f"/{name}").is_dir()
    }
    mounts: dict[str, Path | None] = {**system, str(base): base, str(venv): venv}
    writable: dict[str, Path | None] = {"/var/lib/wattspan": None, "/run/wattspan": None}
    with FakeNvml("h100", tmp_path) as fake:
        fake.state_path.chmod(0o666)
        card: dict[str, Path | None] = {"/opt/driver": fake.library.parent, "/opt/card": fake.state_path}
        variables = {"PATH": f"{venv}/bin:/usr/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        words = contained(root, NOBODY, {**mounts, **writable, **card}, variables)
        daemon = Daemon(
            None,
            tmp_path / "state",
            *("--source.nvidia", "on", "--nvml.library", "/opt/driver/libnvidia-ml.so.1"),
            *("--state.dir", "/var/lib/wattspan", "--socket", "/run/wattspan/wattspan.sock"),
            env={"FAKE_NVML_STATE": "/opt/card"},
            python=(*words, "wattspan"),
        )
        with daemon:
            scrape = daemon.wait_ready().after(ticks=2)
            status = Path(f"/proc/{daemon.pid}/status").read_text()
            assert daemon.stop()[0] == 0
    assert scrape.value("wattspan_source_up", source="nvidia") == 1
    assert scrape.find("wattspan_build_info", version=__version__) == 1
    assert f"Uid:\t{NOBODY}\t" in status
    assert "CapEff:\t0000000000000000" in status


def run(*words: str) -> None:
    """Run a command that must work."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
