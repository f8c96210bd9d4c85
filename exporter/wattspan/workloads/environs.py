"""Environments of processes, read in a thread of its own, so that a process that hangs holds up nobody else.

The kernel takes locks of the process for it, at the latest the one of its memory (proc_pid_environ(5),
access_remote_vm).
A process that waits in a failed driver may hold that for hours, and whoever reads waits with it.
"""

import logging
import os
import queue
import threading
from typing import Final

from wattspan.workloads import procfs

logger = logging.getLogger(__name__)

PATIENCE_S: Final = 0.5
"""An environment is there in some 10 us; a process that loads much at once may hold its lock for longer."""

MAX_HANGING: Final = 16
"""Reads that hang at once, each in a thread of its own; with so many no other environment is asked for."""


class Environs:
    """Reads environments for one thread, which waits `patience_s` for each at most.

    A read that hangs keeps its thread until it comes back; the next read has another.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._reader: _Reader | None = None
        self._hanging: dict[tuple[int, int], _Reader] = {}

    def read(self, pid: int, start_ticks: int, folder: int) -> bytes | None:
        """The environment, as `procfs.environ` has it; None when we may not read it.

        Args:
            pid, start_ticks: whose.
            folder: the handle of its ``/proc/PID``.

        Raises:
            TimeoutError: it hangs, or did when it was asked for and has not come back since.
            OSError: what `procfs.environ` raises.
        """
        process = (pid, start_ticks)
        if self._hanging:
            self._hanging = {of: reader for of, reader in self._hanging.items() if reader.is_alive()}
        if process in self._hanging or len(self._hanging) >= MAX_HANGING:
            raise TimeoutError
        reader = self._reader = self._reader or _Reader()
        try:
            return reader.read(folder, self._patience_s)
        except queue.Empty:
            reader.dismiss()
            self._reader, self._hanging[process] = None, reader
            logger.warning("process %d hangs: its environment gave no answer", pid)
            raise TimeoutError from None


class _Reader(threading.Thread):
    """Reads one environment after another."""

    def __init__(self) -> None:
        super().__init__(name="environ", daemon=True)
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | OSError | None] = queue.SimpleQueue()
        self.start()

    def read(self, folder: int, patience_s: float) -> bytes | None:
        """Raises queue.Empty when there is no answer in time; then nothing else may be asked."""
        self._wanted.put(os.dup(folder))  # whoever asks may close his before the answer is there
        answer = self._answers.get(timeout=patience_s)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def dismiss(self) -> None:
        """End, as soon as what it reads comes back."""
        self._wanted.put(None)

    def run(self) -> None:
        while (folder := self._wanted.get()) is not None:
            try:
                self._answers.put(procfs.environ(folder))
            except OSError as error:
                self._answers.put(error)
            finally:
                os.close(folder)
