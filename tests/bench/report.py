"""Rows into a table for people and a file for later."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.bench.figures import Row, Turn


def table(title: str, peer: str, rows: Sequence[Row]) -> str:
    """For a terminal; ratios are ours over theirs."""
    head = f"{title:50}{'wattspan':>10}{peer:>17}{'ratio':>7}{'rounds':>14}  target"
    return "\n".join([head, *map(_line, rows)])


def rest(rests_s: Sequence[float]) -> str:
    """What this machine charges for rest, by the rounds."""
    low_us, middle_us, high_us = (1e6 * f(rests_s) for f in (min, median, max))
    return (
        f"this machine: a page of memory that has rested for a second costs {middle_us:.2f} us more"
        f" ({low_us:.2f}..{high_us:.2f})"
    )


def _line(row: Row) -> str:
    figure = row.figure
    spread = "{:.2f}..{:.2f}".format(*row.spread)
    line = f"{figure.what:50}{_short(row.ours):>10}{_short(row.theirs):>17}{row.ratio:>7.2f}{spread:>14}"
    if figure.target is None:
        return line
    return f"{line}  {figure.judged} <= {figure.target:g}: {'met' if row.met else 'MISSED'}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def write(
    folder: Path,
    turns: Sequence[Turn],
    rests_s: Sequence[float],
    rows: Mapping[str, Sequence[Row]],
    versions: Mapping[str, str],
) -> Path:
    """Everything as JSON, in a file named by the moment.

    Args:
        folder: made if it is missing.
        turns: as measured.
        rests_s: `machine.rested_page_s` by round.
        rows: by the peer they compare with.
        versions: by distribution.

    Returns:
        Where it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    target = folder / f"bench-{now:%Y%m%dT%H%M%SZ}.json"
    content = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "arch": platform.machine(),
            "rested_page_s": list(rests_s),
        },
        "versions": dict(versions),
        "beside": {peer: [_record(row) for row in some] for peer, some in rows.items()},
        "turns": [asdict(turn) for turn in turns],
    }
    target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return target


def _record(row: Row) -> dict[str, object]:
    return {
        "what": row.figure.what.strip(),
        "wattspan": row.ours,
        "peer": row.theirs,
        "ratio": row.ratio,
        "ratio_spread": row.spread,
        "target": row.figure.target,
        "judged": row.figure.judged,
        "met": row.met,
    }
