"""What the callbacks of training frameworks share: the events of a trainer, told as one run after another."""

import functools
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

from wattspan.client.endings import Said
from wattspan.client.summary import Missing
from wattspan.client.tracking import Run, track

MAX_COMPLAINTS: Final = 20
"""Different complaints of one process; a loop that makes new ones must not fill the log."""

Event = TypeVar("Event", bound=Callable[..., None])

log = logging.getLogger("wattspan.client")

_complaints: Final[set[str]] = set()


def quiet(event: Event) -> Event:
    """An event of a callback that never raises into the training.

    What frameworks hand over changes with their versions: what cannot be read is passed over and said once.
    """

    @functools.wraps(event)
    def quietly(*args: Any, **kwargs: Any) -> None:
        try:
            event(*args, **kwargs)
        except Exception as error:
            text = f"{event.__name__}() was passed over: {type(error).__name__}: {error}"
            if text not in _complaints and len(_complaints) < MAX_COMPLAINTS:
                _complaints.add(text)
                log.warning("wattspan: %s", text)

    return cast(Event, quietly)


class Training:
    """The trainings of one callback, told as runs.

    Only the end of a run waits, and for a moment at most; nothing here raises.

    Args:
        options: of `track`, for the runs that begin here.
        given: a run of the caller's, who begins and ends it; trainings are told as parts of it.
        report: whether to write to stderr what a run has used when it has ended.

    Attributes:
        run: the one that goes on, or the last one; None before the first.
        going: whether a training goes on that somebody is told of.
    """

    def __init__(self, options: dict[str, Any], given: Run | None, *, report: bool) -> None:
        self._options = options
        self._given = given
        self._report = report
        self._tells = False
        self._phases: dict[str, int] = {}
        self.run = given
        self.going = False

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take: the training that goes on stays with the original."""
        return {**self.__dict__, "_phases": {}, "going": False}

    def begins(self, name: str, framework: str, *, tells: bool) -> None:
        """A training begins.

        Args:
            name: of the run, unless the options have one.
            framework: with its version.
            tells: whether this process has global rank 0, whose progress counts.
        """
        self._tells = tells
        self.going = True
        if self._given is None:
            self.run = track(**{"name": name, "framework": framework, **self._options})
            self.run.begin()

    def goes_on(self, **counts: Any) -> None:
        """How far it is, as `Run.progress` takes it."""
        if self.going and self._tells and self.run is not None:
            self.run.progress(**counts)

    def phase_begins(self, name: str, index: int) -> None:
        """A phase begins; of each name one at a time."""
        if self.going and self.run is not None and name not in self._phases:
            self._phases[name] = index
            self.run.begin_phase(name, index)

    def phase_ends(self, name: str) -> None:
        """The phase of this name ends, if one is open."""
        index = self._phases.pop(name, None)
        if index is not None and self.run is not None:
            self.run.end_phase(name, index)

    def phases_end(self) -> None:
        """Every open phase ends."""
        for name in list(self._phases):
            self.phase_ends(name)

    def ends(self, result: Said | None = None, *, error: BaseException | None = None) -> None:
        """The training ends; once more changes nothing.

        Args:
            result: how; by default what `error` means.
            error: the exception that ended it, None for none.
        """
        if not self.going:
            return
        self.phases_end()
        self.going = False
        if self.run is None or self._given is not None:
            return
        self.run.end(result, error=error)
        if self._report and not isinstance(self.run.summary.run_id, Missing):
            with suppress(OSError, ValueError):  # stderr may have gone
                sys.stderr.write(f"{self.run.summary}\n")
