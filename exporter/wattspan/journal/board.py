"""Where the one writer pins its newest view and everybody else reads it."""

import threading
from dataclasses import dataclass

from wattspan.model import LedgerView


@dataclass(frozen=True, slots=True)
class ScrapeNotes:
    """What scrapes have told the writer since it last asked.

    Attributes:
        scraped_sequence: of the newest view that a scrape has seen.
        series_dropped: series that the budget left out, counted once for each view.
    """

    scraped_sequence: int
    series_dropped: int


class Board:
    """One slot for a view, and a note back. Pinning and reading never wait for each other."""

    def __init__(self) -> None:
        self.view = LedgerView(sequence=0, taken_at_ns=0, wall_offset_ns=0, counters={})
        self._lock = threading.Lock()
        self._scraped_sequence = 0
        self._series_dropped = 0

    def pin(self, view: LedgerView) -> None:
        """Publish a view. Called by the writer alone."""
        self.view = view

    def scraped(self, sequence: int, series_dropped: int) -> None:
        """Note that a scrape has seen the view of this sequence. Any thread may call."""
        with self._lock:
            if sequence > self._scraped_sequence:
                self._scraped_sequence = sequence
                self._series_dropped += series_dropped

    def take_notes(self) -> ScrapeNotes:
        """What has been noted; the count starts again. Called by the writer alone."""
        with self._lock:
            notes = ScrapeNotes(self._scraped_sequence, self._series_dropped)
            self._series_dropped = 0
        return notes
