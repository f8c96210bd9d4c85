"""publish: the LedgerView in, Prometheus text and JSON out.

``catalogue`` names each metric once, ``exposition`` writes a view's as text, ``api`` answers JSON, ``web`` is
the ASGI application, ``server`` the listener with its TLS and its limits.
``prometheus`` is beside that: the same view as a collector, for who registers it with prometheus-client.
Nothing here measures, adds up or writes to the journal; a scrape reads one finished view.
"""

from typing import Protocol

from wattspan.model import LedgerView


class ViewDoor(Protocol):
    """Where this room gets its view, from any thread and without waiting."""

    @property
    def view(self) -> LedgerView:
        """The newest finished view."""

    def scraped(self, sequence: int, series_dropped: int) -> None:
        """Tell the writer that a scrape has seen the view of this sequence.

        Args:
            sequence: of the view that was rendered.
            series_dropped: how many series the budget left out of it.
        """
