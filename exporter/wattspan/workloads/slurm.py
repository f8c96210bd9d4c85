"""Which jobs hold which GPUs, by the files that a workload manager's prolog writes for dcgm-exporter.

A folder with one file for each GPU, named by its index (``0``) or, on a partitioned one, by index and
GPU instance (``0.3``); one job id on each line (dcgm-exporter's README, ``--hpc-job-mapping-dir``).
It needs no privilege, and tells of jobs that compute nothing yet.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wattspan.devices.sysfs import read_error
from wattspan.workloads import run_ids

MAX_JOBS: Final = 64
"""Jobs on one GPU that are believed; more is no job list."""

_MAX_BYTES: Final = 64 * 1024
_GPU: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4})?")
_NO_JOB: Final = frozenset({"", "0", "none"})


class SlurmMapping:
    """The mapping folder of this node.

    Args:
        folder: what dcgm-exporter is given as ``--hpc-job-mapping-dir``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def look(self) -> Mapping[str, tuple[str, ...]]:
        """Job ids by GPU, as in the file's name; a GPU whose file is missing or empty is absent.

        Reads the handful of small files anew each time: an epilog that writes one again within a tick of the
        file system's clock would leave no other trace.

        Raises:
            ReadError: the folder cannot be read. A file that vanishes meanwhile is an ended job.
        """
        try:
            names = sorted(filter(_GPU.fullmatch, os.listdir(self._folder)))
        except OSError as error:
            raise read_error(error, self._folder) from error
        jobs = {name: self._jobs(self._folder / name) for name in names}
        return {name: found for name, found in jobs.items() if found}

    def _jobs(self, path: Path) -> tuple[str, ...]:
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_BYTES).decode("utf-8", "replace")
        except (FileNotFoundError, IsADirectoryError):
            return ()
        except OSError as error:
            raise read_error(error, path) from error
        words = (run_ids.clean(line) for line in text.splitlines())
        return tuple(dict.fromkeys(word for word in words if word.lower() not in _NO_JOB))[:MAX_JOBS]
