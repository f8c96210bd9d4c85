"""Starts a program as a container runtime would: in a root that nobody may write to, as an unprivileged user.

It has its own mounts and no capability; pids and network stay the machine's, since the daemon asks for both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_MOUNTS: Final = r"""
set -e
given=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
for each in proc dev sys; do mkdir -p "$root/$each"; mount --rbind "/$each" "$root/$each"; done
while [ "$1" != -- ]; do
    if [ -f "$1" ]; then
        touch "$root$2"
        mount --bind "$1" "$root$2"
    else
        mkdir -p "$root$2"
        if [ "$1" = own ]; then
            mount -t tmpfs -o "mode=0700,uid=$user,gid=$user" own "$root$2"
        else
            mount --bind "$1" "$root$2"
            mount -o remount,bind,ro "$root$2"
        fi
    fi
    shift 2
done
shift
mount -o remount,bind,ro "$root"
chroot=$(command -v chroot) setpriv=$(command -v setpriv)
PATH=$given
exec "$setpriv" --no-new-privs "$chroot" --userspec="$user:$user" --groups= "$root" "$@"
"""


def contained(
    root: Path, user: int, mounts: Mapping[str, Path | None], environment: Mapping[str, str]
) -> tuple[str, ...]:
    """The words before a command that start it in a root.

    Args:
        root: the image's file system; read-only from inside.
        user: uid and gid.
        mounts: what lies where inside: a folder of the machine, read-only, or a file as it is;
            None for an empty folder of its own.
        environment: on top of what it is started with; its PATH holds inside.
    """
    pairs = (word for at, what in mounts.items() for word in (str(what) if what else "own", at))
    start = ("/usr/bin/unshare", "--mount", "/bin/sh", "-c", _MOUNTS, "sh")
    variables = (f"{name}={value}" for name, value in environment.items())
    return ("/usr/bin/env", *variables, *start, str(root), str(user), *pairs, "--")
