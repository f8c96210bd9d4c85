"""devices: hardware in, readings out.

One module per source; its name is also the config key, the log field and the label value.
A source reads one kind of hardware and returns a `SourceReport`.
It keeps no totals, knows no run and no carbon, never logs, never sleeps and never starts a read by itself;
the sampler decides when.
"""

from typing import Protocol

from wattspan.model import SourceReport


class Source(Protocol):
    """One kind of hardware. Every method is called from that source's own worker thread, one at a time."""

    @property
    def name(self) -> str:
        """The module's name: ``nvidia``, ``rapl``, ..."""

    def open(self) -> str:
        """Find the hardware and take the handles that reading needs. May block.

        Returns:
            One line for the log that says what was found.

        Raises:
            NotHereError: this machine does not have it; the text says why and how to mend it.
            ReadError: it is here and failed; the sampler tries again later.
            RestartNeededError: only a new process can go on.
        """

    def read(self) -> SourceReport:
        """Look once at everything. May block; the sampler watches the time.

        Raises:
            ReadError: nothing could be read. A device that failed alone is a `Failure` in the report instead.
            RestartNeededError: only a new process can go on.
        """

    def close(self) -> None:
        """Give up every handle, so that a driver can be reset. `open` may follow. Never raises."""
