"""A real systemd as the first process of namespaces of its own, in a root made from Debian's packages.

It shares the machine's kernel and network, so it has no unit but the one that is tested and what that needs.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.e2e.daemon import PATIENCE_S

MASKED: Final = (
    *("systemd-sysctl.service", "systemd-modules-load.service", "systemd-random-seed.service"),
    *(
        "systemd-remount-fs.service",
        "systemd-update-utmp.service",
        "systemd-binfmt.service",
        "console-getty.service",
    ),
    *(
        "sys-kernel-debug.mount",
        "sys-kernel-tracing.mount",
        "sys-fs-fuse-connections.mount",
        "dev-hugepages.mount",
    ),
    *("dev-mqueue.mount", "modprobe@.service", "proc-sys-fs-binfmt_misc.automount", "systemd-udevd.service"),
    *("kmod-static-nodes.service", "systemd-udev-trigger.service", "getty.target", "timers.target"),
)
"""What would touch the machine that all this runs on, or waits for hardware."""

_BOOT: Final = r"""
set -e
root=$1 group=$2
mount --make-rprivate /
mkdir -p "$root.cgroups"
mount -t cgroup2 none "$root.cgroups"
mkdir -p "$root.cgroups/$group"
echo $$ >"$root.cgroups/$group/cgroup.procs"
shift 2
exec unshare --cgroup sh -c "$INSIDE" sh "$root" "$@"
"""

_INSIDE: Final = r"""
set -e
root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
for each in null zero full random urandom; do
    touch "$root/dev/$each"
    mount --bind "/dev/$each" "$root/dev/$each"
done
mkdir "$root/dev/shm" "$root/dev/pts"
while [ $# -gt 0 ]; do
    touch "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
mount -t tmpfs -o mode=755 run "$root/run"
exec chroot "$root" /lib/systemd/systemd --system --log-target=journal --show-status=0
"""


def make_root(root: Path) -> None:
    """Debian 13 with systemd and Python, and a target of nothing but the basics."""
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,python3-venv", "trixie", str(root)],
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
        timeout=600,
    )
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).symlink_to("/dev/null")
    (units / "default.target").symlink_to("/lib/systemd/system/basic.target")


class Booted:
    """systemd running in a root; it is killed with all that it started when the block ends.

    Args:
        root: what `make_root` made, with units on top.
        files: files of the machine by the path that they have inside, beneath /dev.
    """

    def __init__(self, root: Path, files: dict[str, Path]) -> None:
        self._root = root
        self._group = f"wattspan-test-{os.getpid()}"
        self._files = [word for at, file in files.items() for word in (str(file), at)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        namespaces = ("--kill-child", "--mount", "--pid", "--fork", "--uts", "--ipc")
        boot = ("sh", "-c", _BOOT, "sh", str(self._root), self._group)
        self._process = subprocess.Popen(
            ["unshare", *namespaces, *boot, *self._files],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "INSIDE": _INSIDE, "container": "wattspan-test"},
            stdin=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + PATIENCE_S
        while "running" not in (said := self.systemctl("is-system-running")) and "degraded" not in said:
            assert self._process.poll() is None, f"systemd ended with {self._process.returncode}"
            assert time.monotonic() < deadline_s, f"systemd is {said!r}"
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.run("journalctl", "--no-pager", "--lines=60"))
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        _remove_group(self._group)
        shutil.rmtree(f"{self._root}.cgroups", ignore_errors=True)

    @property
    def first(self) -> int | None:
        """The machine's pid of systemd, once it is there."""
        assert self._process is not None
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                found = f"\nPPid:\t{self._process.pid}\n" in status.read_text()
                if found and (status.parent / "comm").read_text() == "systemd\n":
                    return int(status.parent.name)
            except OSError:
                continue
        return None

    def run(self, *words: str) -> str:
        """Run a command beside systemd; gives all that it said, whatever its exit code."""
        if (pid := self.first) is None:
            return ""
        entered = ("nsenter", f"--target={pid}", "--mount", "--pid", "--cgroup", f"--root=/proc/{pid}/root")
        done = subprocess.run(
            [*entered, "--wd=/", *words],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
        return done.stdout

    def systemctl(self, *words: str) -> str:
        """What systemctl says."""
        return self.run("systemctl", *words)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit).strip()


def _remove_group(name: str) -> None:
    """Remove the control groups that are left, as soon as the kernel has emptied them."""
    lines = Path("/proc/mounts").read_text().splitlines()
    (mounted, *_) = [line.split()[1] for line in lines if line.split()[2] == "cgroup2"] or [""]
    group = Path(mounted, name)
    deadline_s = time.monotonic() + PATIENCE_S
    while mounted and group.is_dir():
        assert time.monotonic() < deadline_s, f"{group} is not empty"
        for folder in (*sorted(filter(Path.is_dir, group.rglob("*")), reverse=True), group):
            with contextlib.suppress(OSError):
                folder.rmdir()
        time.sleep(0.05)
