"""The records that come from the ledger to disk and back. All are frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wattspan.errors import WattspanError
from wattspan.runs import RunRecord

Fact = str | int | float | bool | None
"""What a baseline may remember beside the counter; anything else has no place in JSON."""


class JournalError(WattspanError):
    """A commit, a sync or the clean stop did not reach the disk; nothing of it counts as kept.

    The journal stays usable: give the same rows to the next `Journal.commit`, which succeeds once
    whatever the text names (a full disk, a lock, a missing file) is mended.
    """


@dataclass(frozen=True, slots=True)
class Account:
    """One counter.

    Attributes:
        quantity: what it counts, such as ``gpu_energy``; with `labels` the key.
        labels: label values in the catalogue's order.
        total: since the journal began; uJ, ns and counts are whole numbers up to 2**63 - 1, grams floats.
        base: the part of `total` that is not published; above 0 once a counter had to
            start again from 0 while its total went on.
        released: False while no scrape has seen the counter at 0; it is published as 0 until then.
    """

    quantity: str
    labels: tuple[str, ...]
    total: int | float
    base: int | float
    released: bool

    @property
    def published(self) -> int | float:
        """What a scrape may show, in the unit of `total`."""
        return self.total - self.base if self.released else type(self.total)(0)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A device's hardware counter as last read, so that energy used while no daemon ran can be counted.

    Attributes:
        device: the ledger's key, such as ``gpu:GPU-...``.
        energy_uj: the counter as it stood; None for a device without one.
        read_at_ns: CLOCK_MONOTONIC of that read, in the boot it was made in.
        facts: what else the ledger wants to remember of the device.
        same_boot: set by the journal when it restores: the read was made in this boot, so counter and
            clock can be compared with those of now. Ignored by `Journal.commit`, whose reads are of now.
    """

    device: str
    energy_uj: int | None
    read_at_ns: int
    facts: Mapping[str, Fact] = field(default_factory=dict)
    same_boot: bool = True


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run as the journal keeps it.

    Attributes:
        record: what is known of it.
        resume: what another daemon needs besides to go on with it, as plain JSON; kept only while it runs.
    """

    record: RunRecord
    resume: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restored:
    """What the journal held when it was opened, made ready to go on from.

    Attributes:
        accounts: in the order in which they were first committed.
        baselines: of every device ever read, unless it is unknown what was published since they were.
        runs: that had not ended, in the order in which they began.
        same_boot: the last daemon ran in this boot.
        clean_stop: the last daemon closed the journal cleanly.
        fresh: there was no journal, or it was set aside; everything starts from nothing.
        notices: what the operator must read, one sentence or more each; empty when all is as it should be.
    """

    accounts: tuple[Account, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    runs: tuple[KeptRun, ...] = ()
    same_boot: bool = False
    clean_stop: bool = False
    fresh: bool = False
    notices: tuple[str, ...] = ()
