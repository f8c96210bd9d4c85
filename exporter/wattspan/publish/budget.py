"""The series budget: which families a scrape leaves out when a node has too many series."""


class SeriesBudget:
    """Room for the series of one scrape, asked family by family in the order of importance.

    Args:
        series: the most that may be served.

    Attributes:
        dropped: how many series were left out so far.
    """

    def __init__(self, series: int) -> None:
        self._left = series
        self.dropped = 0

    def takes(self, series: int) -> bool:
        """Whether a family of so many series is served; if not, they are counted."""
        # Once one family did not fit, none after it is served: what a node shows must not hang on sizes.
        if self.dropped or series > self._left:
            self.dropped += series
            return False
        self._left -= series
        return True
