"""log: one line per event on stderr, as logfmt or JSON, that no text from outside can forge.

Rooms log through ``logging.getLogger("wattspan.<room>")`` and hand facts over as fields::

    log.warning("source failed", extra=fields(source="nvidia", reason="lost"))

A line holds ``ts`` (RFC 3339, UTC, milliseconds), ``level``, ``room``, ``msg`` and the fields.
An exception becomes the field ``error``; its traceback is added only at level debug.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from wattspan.config import LogFormat, LogLevel

MAX_VALUE_CHARS: Final = 4096
"""Longer values are cut: a device or a client must not be able to fill the log with one line."""

_ROOT: Final = "wattspan"
_CORE: Final = frozenset({"ts", "level", "room", "msg", "error", "traceback"})


def fields(**values: object) -> dict[str, Any]:
    """Facts for a log line, to be given as `extra`."""
    return {"fields": values}


def setup(level: LogLevel, style: LogFormat, stream: TextIO | None = None) -> None:
    """Send every log line of this process to one stream, stderr by default. Replaces what was set up before.

    Libraries speak only from warning on, uvicorn's access log not at all, and errors that end a thread
    become one line instead of a traceback.
    """
    chosen = logging.getLevelNamesMapping()[level.upper()]
    debug = chosen <= logging.DEBUG
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(style, tracebacks=debug))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(chosen, logging.WARNING))
    logging.getLogger(_ROOT).setLevel(chosen)
    logging.getLogger("uvicorn.access").disabled = True
    logging.captureWarnings(True)
    # Else a wrong format argument of ours, or a closed stderr, prints a traceback of the logging module.
    logging.raiseExceptions = debug
    threading.excepthook = _thread_ended
    sys.unraisablehook = _unraisable


class LineFormatter(logging.Formatter):
    """Log records as single lines.

    Args:
        style: logfmt or json.
        tracebacks: whether exceptions show where they came from.
    """

    def __init__(self, style: LogFormat, *, tracebacks: bool) -> None:
        super().__init__()
        self._write = json_line if style == "json" else logfmt_line
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        return self._write(dict(self._facts(record)))

    def _facts(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        yield "ts", rfc3339(record.created)
        yield "level", "error" if record.levelno > logging.ERROR else record.levelname.lower()
        yield "room", record.name.removeprefix(f"{_ROOT}.")
        yield "msg", record.getMessage()
        for name, value in getattr(record, "fields", {}).items():
            yield (f"{name}_" if name in _CORE else name), value
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            yield "error", f"{type(error).__name__}: {error}"
            if self._tracebacks:
                # Its end says most, so the end is what a cut must spare.
                yield "traceback", "".join(traceback.format_exception(error))[-MAX_VALUE_CHARS:]


def rfc3339(seconds: float) -> str:
    """Wall-clock seconds since the epoch as ``2026-01-02T03:04:05.678Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_line(facts: dict[str, object]) -> str:
    """One JSON object; numbers, booleans and null stay what they are."""
    return json.dumps({name: _plain(value) for name, value in facts.items()})


def logfmt_line(facts: dict[str, object]) -> str:
    """``name=value`` pairs; a value is quoted when a reader could mistake where it ends."""
    return " ".join(f"{_name(name)}={_value(value)}" for name, value in facts.items())


def escaped(text: str) -> str:
    r"""The text with everything that is not printable written as ``\n``, ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # JSON has no NaN and no infinity.
        return value if value - value == 0 else str(value)
    return _cut(str(value))


def _name(name: str) -> str:
    return (
        "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in name) or "_"
    )


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = _cut(str(value))
    if text and text.isprintable() and not any(char in ' "=\\' for char in text):
        return text
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."


def _thread_ended(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_type is SystemExit or hook.exc_value is None:
        return
    name = hook.thread.name if hook.thread else ""
    logging.getLogger(_ROOT).error("a thread ended", extra=fields(thread=name), exc_info=hook.exc_value)


def _unraisable(hook: "sys.UnraisableHookArgs") -> None:
    if hook.exc_value is not None:
        logging.getLogger(_ROOT).error("an error could not be raised", exc_info=hook.exc_value)
