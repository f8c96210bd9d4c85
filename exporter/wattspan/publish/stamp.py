"""Whether a file has changed since it was read, at the price of one `stat`."""

from pathlib import Path

Stamp = tuple[int, int, int] | None
"""What changes when a file is edited, replaced, or swapped by a symbolic link as Kubernetes does it; None
where it is not there.
"""


def stamp_of(path: Path) -> Stamp:
    """That of the file now."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # no path at all, for one
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
