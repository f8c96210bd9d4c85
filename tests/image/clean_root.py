"""The image's file system from Debian's packages: it stands in for two base images of a registry.

The builder is what mmdebstrap makes of the suite that `debian:trixie-slim` is.
The base is unpacked from the packages that distroless' python3-debian13 is made of, in the same suite.
Their lists are those of GoogleContainerTools/distroless, commit cd080764 of 2026-08-21.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.image.dockerfile import Replay, Stage, in_context
from wattspan import __version__

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "exporter" / "Dockerfile"
LOCKS: Final = (ROOT / "exporter" / "requirements.lock", ROOT / "exporter" / "build.lock")

PYTHON: Final = "3.13"
"""Of Debian 13, in both base images."""

NONROOT: Final = 65532
"""The user of distroless' images named `nonroot`."""

_STATIC: Final = ("base-files", "netbase", "tzdata", "tzdata-legacy", "media-types", "ca-certificates")
_BASE: Final = ("libc6", "libssl3t64", "libzstd1", "zlib1g")
_CC: Final = ("libgomp1", "libstdc++6", "libgcc-s1", "gcc-14-base")
_PYTHON: Final = (
    *("libbz2-1.0", "libdb5.3t64", "libexpat1", "liblzma5", "libsqlite3-0", "libuuid1", "libncursesw6"),
    *(
        "libtinfo6",
        "libcom-err2",
        "libcrypt1",
        "libc-bin",
        "libgssapi-krb5-2",
        "libk5crypto3",
        "libkeyutils1",
    ),
    *("libkrb5-3", "libkrb5support0", "libnsl2", "libreadline8t64", "libtirpc3t64", "libffi8"),
    *("libpython3.13-minimal", "libpython3.13-stdlib", "python3.13-minimal", "python3.13-venv"),
)
PACKAGES: Final = (*_STATIC, *_BASE, *_CC, *_PYTHON)

_IN_CHROOT: Final = """
set -e
for each in proc dev; do mount --rbind "/$each" "$1/$each"; done
root=$1
shift
exec chroot "$root" "$@"
"""
"""A mount namespace of its own, so that nothing of it is left behind."""


def inside(root: Path, *words: str, environment: dict[str, str] | None = None) -> str:
    """Run a command in a root; gives what it said.

    Raises:
        AssertionError: it did not exit 0.
    """
    return _ran(
        ["unshare", "--mount", "sh", "-c", _IN_CHROOT, "sh", str(root), *words],
        {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", **(environment or {})},
    )


def builder(root: Path) -> None:
    """Debian 13 with apt, and what the base is made of in its /debs."""
    _ran(["mmdebstrap", "--quiet", "--variant=minbase", "trixie", str(root)])
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "debs").mkdir()
    fetch = 'apt-get update -qq && cd /debs && apt-get download -qq "$@"'
    inside(root, "sh", "-c", fetch, "sh", "-o", "APT::Sandbox::User=root", *PACKAGES)


def base(root: Path, debs: Path) -> None:
    """What distroless does with the same packages: unpack them, and add users, links and certificates."""
    found = sorted(debs.glob("*.deb"), key=lambda deb: not deb.name.startswith("base-files_"))
    assert len(found) == len(PACKAGES)
    root.mkdir()
    for deb in found:
        # What is not in the root's own architecture would not start.
        _ran(["dpkg-deb", "--extract", str(deb), str(root)])
    for name in ("python", "python3"):
        link = root / "usr/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"/usr/bin/python{PYTHON}")
    users = {"root": (0, "/root"), "nonroot": (NONROOT, "/home/nonroot")}
    lines = (f"{name}:x:{uid}:{uid}:{name}:{home}:/sbin/nologin\n" for name, (uid, home) in users.items())
    (root / "etc/passwd").write_text("".join(lines))
    (root / "etc/group").write_text(f"root:x:0:\nnonroot:x:{NONROOT}:\n")
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(
        "".join(file.read_text() for file in certificates)
    )
    shutil.rmtree(root / "usr/share/ca-certificates")
    _ran(["ldconfig", "-r", str(root)])
    # Neither base-files' scripts nor these two programs are in distroless.
    for program in ("usr/sbin/update-ca-certificates", "usr/sbin/ldconfig"):
        (root / program).unlink(missing_ok=True)


def wheels(folder: Path, machine: str) -> None:
    """Every locked file that the image of an architecture installs, checked by its hash."""
    for lock in LOCKS:
        download(folder, machine, "--require-hashes", "--requirement", str(lock))


def download(folder: Path, machine: str, *words: str) -> None:
    """Wheels for the image's Python and an architecture, each as it is named and no other."""
    tags = [
        f"{tag}_{machine}" for tag in ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
    ]
    _ran(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)),
            *("--no-deps", "--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"),
            *("--abi", "cp313", "--abi", "abi3", "--abi", "none"),
            *(word for tag in tags for word in ("--platform", tag)),
            *words,
        ],
        dict(os.environ),
    )


def image(folder: Path) -> Stage:
    """All of it: both bases, the locked wheels, and the Dockerfile replayed on them."""
    first, last, context = folder / "builder", folder / "image", folder / "context"
    builder(first)
    base(last, first / "debs")
    shutil.rmtree(first / "debs")
    wheels(first / "wheels-locked", platform.machine())
    for path in in_context(ROOT, DOCKERFILE.with_name("Dockerfile.dockerignore")):
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, context / path)
    # Where a builder has the network, this has the same files, with the hashes checked again.
    network = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels-locked", "HOME": "/root"}
    arguments = {"VERSION": __version__, "REVISION": "0" * 40}
    surroundings = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return Replay(
        DOCKERFILE.read_text(), [first, last], context, network, surroundings, arguments, inside
    ).run()


def mebibytes(folder: Path) -> float:
    """What the files of a folder take, hard links once."""
    seen = {(stat.st_dev, stat.st_ino): stat.st_size for file in folder.rglob("*") if (stat := file.lstat())}
    return sum(seen.values()) / 2**20


def _ran(words: Sequence[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
