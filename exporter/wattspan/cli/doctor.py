"""``wattspan doctor``: what was found on this machine, what was not, and how to mend it."""

import argparse
import json
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from wattspan.cli import checks
from wattspan.cli.checks import Finding
from wattspan.cli.settings import Loaded, load
from wattspan.cli.table import print_table
from wattspan.devices import Source
from wattspan.errors import NotHereError, ReadError, SetupError, WattspanError
from wattspan.model import SourceReport

NAME: Final = "doctor"
HELP: Final = "Say what can be metered here, what cannot, and how to mend it. Exits 1 when nothing can."
USAGE: Final = "doctor [--format text|json] [flags]"

UNIT_FILE: Final = Path("/etc/wattspan.yml")
"""What the systemd unit gives its daemon; a test holds it to the unit."""

PATIENCE_S: Final = 15.0
"""Loading a GPU driver that nobody holds open takes seconds (persistence mode off)."""
MAX_LOOKS: Final = 6
_PAUSE_S: Final = 0.2

_VERDICTS: Final = {
    True: "Metering works here.",
    False: "Nothing can be metered here; `wattspan demo` shows simulated GPUs.",
}


def declare(parser: argparse.ArgumentParser) -> None:
    """How to print."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: text.")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Look at every source once, and at what is around them. 0 when at least one source measures."""
    from wattspan.app import sources

    loaded, configuration = _as_the_daemon(args, loaded)
    modes = loaded.config.source_modes
    looks = _look_at(sources(loaded.config))
    findings = [
        configuration,
        *(_judged(look, required=modes.get(look.source) == "on") for look in looks),
        *(_switched_off(name, loaded.origins) for name, mode in modes.items() if mode == "off"),
        *checks.surroundings(loaded.config),
    ]
    measures = any(_measures(look.report) for look in looks)
    if args.format == "json":
        print(json.dumps({"measures": measures, "findings": [asdict(one) for one in findings]}, indent=2))
    else:
        print_table((one.mark, one.subject, one.text) for one in findings)
        print(f"\n{_VERDICTS[measures]}")
    return 0 if measures else 1


def _as_the_daemon(args: argparse.Namespace, loaded: Loaded) -> tuple[Loaded, Finding]:
    """The settings to look with, and where they are from: without a named file that of the unit, if any."""
    subject = "configuration"
    if loaded.config.config_file is not None:
        where = loaded.origins["config.file"]
        return loaded, Finding("ok", subject, f"{loaded.config.config_file} ({where})")
    if not UNIT_FILE.exists():
        return loaded, Finding("--", subject, "no file; name the daemon's with --config.file if it has one")
    try:
        found = load({**args.settings, "config.file": str(UNIT_FILE)}, os.environ)
    except SetupError as error:
        problems = "; ".join(str(error).splitlines())
        return loaded, Finding("!!", subject, f"{UNIT_FILE} is left out of what follows: {problems}")
    return found, Finding("ok", subject, f"{UNIT_FILE}, the systemd unit's; --config.file names another")


@dataclass(frozen=True, slots=True)
class _Look:
    """What came of opening and reading a source once.

    Attributes:
        source: its name.
        found: what it said when opened.
        report: what it read; None when `error` came in between.
        error: why there is no report.
    """

    source: str
    found: str = ""
    report: SourceReport | None = None
    error: WattspanError | None = None


def _look_at(sources: Iterable[Source]) -> list[_Look]:
    """Look at all of them at once, each in a thread of its own, because a driver may never return."""
    answers: list[tuple[str, queue.SimpleQueue[_Look]]] = []
    for source in sources:
        answer: queue.SimpleQueue[_Look] = queue.SimpleQueue()
        threading.Thread(target=_answer, args=(source, answer), daemon=True).start()
        answers.append((source.name, answer))
    give_up_s = time.monotonic() + PATIENCE_S
    return [_wait(name, answer, give_up_s) for name, answer in answers]


def _wait(name: str, answer: "queue.SimpleQueue[_Look]", give_up_s: float) -> _Look:
    try:
        return answer.get(timeout=max(0.0, give_up_s - time.monotonic()))
    except queue.Empty:
        text = f"has not answered for {PATIENCE_S:g} s; the driver may hang, see the kernel's log (dmesg)"
        return _Look(name, error=ReadError("timeout", text))


def _answer(source: Source, answer: "queue.SimpleQueue[_Look]") -> None:
    found = ""
    try:
        found = source.open()
        look = _Look(source.name, found, _read(source))
    except WattspanError as error:
        look = _Look(source.name, found, error=error)
    except Exception as error:  # a fault of ours in one source must not hide what the others say
        look = _Look(source.name, found, error=ReadError("unknown", f"{type(error).__name__}: {error}"))
    answer.put(look)
    source.close()


def _read(source: Source) -> SourceReport:
    """What it says once it has something to say: a counter proves itself by moving between two looks."""
    for _ in range(MAX_LOOKS - 1):
        report = source.read()
        if report.gpus or report.hosts or report.platforms:
            return report
        time.sleep(_PAUSE_S)
    return source.read()


def _judged(look: _Look, *, required: bool) -> Finding:
    subject = f"source {look.source}"
    if look.report is None:
        absent = isinstance(look.error, NotHereError) and not required
        return Finding("--" if absent else "!!", subject, f"{look.error}")
    problems = "; ".join(dict.fromkeys(failure.detail for failure in look.report.failures))
    if not (look.report.gpus or look.report.hosts or look.report.platforms):
        problems = problems or "nothing could be read, its counters do not move"
    if problems:
        return Finding("!!", subject, f"{look.found}; {problems}")
    return Finding("ok", subject, look.found)


def _switched_off(name: str, origins: Mapping[str, str]) -> Finding:
    return Finding("--", f"source {name}", f"switched off ({origins[f'source.{name}']})")


def _measures(report: SourceReport | None) -> bool:
    """Whether it holds energy or power of a GPU or a host component that is no estimate."""
    return report is not None and (bool(report.gpus) or any(not host.estimated for host in report.hosts))
