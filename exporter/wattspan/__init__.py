"""Wattspan: energy and carbon observability for machine-learning training.

Importing this package imports no metering, no OpenTelemetry and no prometheus-client;
the client is imported when one of its names is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wattspan.client import Missing, Run, Summary, track

__version__ = "0.1.0"
__all__ = ["Missing", "Run", "Summary", "__version__", "track"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wattspan import client  # noqa: PLC0415 - so that the daemon and the commands need not load it

    return getattr(client, name)
