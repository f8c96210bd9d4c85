"""Whose grid figures a command shows: those of the daemon beside it, or those of its own settings.

A daemon answers where no setting says otherwise, so that a command never contradicts `/metrics` of its node.
A command's own questions to live sources keep to the manners of each, over commands, by a cache.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wattspan.cli.settings import Loaded
from wattspan.config import SETTINGS, Config
from wattspan.errors import UnreachableError
from wattspan.model import GridState

if TYPE_CHECKING:
    from wattspan.carbon.price import Prices
    from wattspan.carbon_service import CarbonService

_SECTIONS: Final = ("grid.", "cost.")

_SAYS_NOTHING: Final = frozenset({"grid.cloud-metadata"})
"""It says whom a command may ask, and nothing of what electricity emits or costs."""

_NAMED: Final = 3
"""So many settings are named, of more the others are counted."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The figures in force.

    Attributes:
        by: who said so, in words that go on after "answered".
        state: the figures.
        prices: of electricity; None where nobody knows one. Of a daemon that in force now alone.
        documents: of `/api/v1/grid` and `/api/v1/grid/forecast`, where a daemon answered.
    """

    by: str
    state: GridState
    prices: "Prices | None"
    documents: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None

    @property
    def currency(self) -> str:
        """Of the prices; empty without any."""
        return self.prices.currency if self.prices else ""

    @property
    def lacks_prices_ahead(self) -> bool:
        """Whether a price is known now, and none of the hours ahead."""
        tariff = self.state.tariff
        return self.documents is not None and tariff is not None and tariff.valid_until_wall_ns is not None


def answered(loaded: Loaded, now_wall_ns: int) -> Answered:
    """The figures in force here. Blocks, as long as a daemon or services take.

    Raises:
        SetupError: a place that is unknown, or settings that contradict each other.
    """
    given = told_here(loaded)
    if given:
        return by_settings(loaded.config, now_wall_ns, f"by this command's settings {_names(given)}")
    from wattspan.client import grid
    from wattspan.client.daemon import RefusedError, UnansweredError
    from wattspan.client.ephemeral import daemon_here

    try:
        daemon = daemon_here(os.environ).reached()
        told = grid.of_daemon(daemon, now_wall_ns)
    except UnreachableError:
        return by_settings(loaded.config, now_wall_ns, "by this command alone, for no daemon is reachable")
    except (UnansweredError, RefusedError) as error:
        return by_settings(loaded.config, now_wall_ns, f"by this command alone: {error}")
    return Answered(f"by the daemon at {daemon.place}", told.state, told.prices, told.documents)


def told_here(loaded: Loaded) -> list[str]:
    """The settings of this command that say something of the grid or of prices."""
    return [
        key
        for key in SETTINGS
        if key.startswith(_SECTIONS) and key not in _SAYS_NOTHING and loaded.origins[key] != "default"
    ]


def by_settings(config: Config, now_wall_ns: int, by: str) -> Answered:
    """The figures of the chain that a daemon with these settings would hold.

    Raises:
        SetupError: a place that is unknown, or settings that contradict each other.
    """
    carbon = service_with_cache(config)
    carbon.refresh(now_wall_ns, time.monotonic_ns(), if_allowed=True)
    return Answered(by, carbon.state(now_wall_ns), carbon.rates.prices)


def service_with_cache(config: Config) -> "CarbonService":
    """The figures of this node, which nobody has been asked for yet; what commands before have heard is kept.

    Raises:
        SetupError: settings that cannot work.
    """
    from wattspan.carbon_service import CarbonService

    return CarbonService(config, os.environ, cache_folder(os.environ))


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """Where commands keep what live sources have said; None where this user has no place for it.

    ``$XDG_CACHE_HOME/wattspan/grid``, which the XDG base directory specification (0.8) wants to be absolute,
    else in ``~/.cache``.
    """
    stated = environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(stated) if os.path.isabs(stated) else Path.home() / ".cache") / "wattspan" / "grid"
    except RuntimeError:  # no home folder, as with a bare uid in a container
        return None
    with suppress(OSError):  # without it nothing is kept
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _names(keys: list[str]) -> str:
    more = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more} more" if more > 0 else "")
