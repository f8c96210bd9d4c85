"""A simulated grid with clean noons and dirty evenings, as the JSON file that the provider ``file`` reads.

It lets a demo show a forecast and greenest windows without asking anybody.
Its `origin` says that it is made up.

    python -m dashboards.stack.grid_day grid.json --zone FR
"""

import argparse
import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

HOUR_S: Final = 3600
DAYS: Final = 14
"""So long may a demo run; after that the exporter falls back to its table, and says so."""

ORIGIN: Final = "simulated for a demo"


def grams_per_kwh(hour_of_day: float, mean: float) -> float:
    """Least at 13 h, most at 20 h UTC; for looking at, and of no real grid."""
    sun = math.cos((hour_of_day - 13) / 24 * math.tau)
    evening = math.exp(-(((hour_of_day - 20) / 2.5) ** 2))
    return round(mean * (1 - 0.35 * sun + 0.3 * evening), 1)


def document(zone: str, mean: float, now_s: float) -> dict[str, object]:
    """The whole file: hours from a day ago until `DAYS` from now."""
    first_s = int(now_s) // HOUR_S * HOUR_S - 24 * HOUR_S
    hours = range(first_s, first_s + (DAYS + 1) * 24 * HOUR_S, HOUR_S)
    return {
        "signal": "average",
        "basis": "lifecycle",
        "unit": "g/kWh",
        "zone": zone,
        "origin": ORIGIN,
        "intervals": [
            {
                "from": _iso(start_s),
                "until": _iso(start_s + HOUR_S),
                "grams_per_kwh": grams_per_kwh(start_s / HOUR_S % 24, mean),
            }
            for start_s in hours
        ],
    }


def write(path: Path, zone: str, mean: float = 60.0, now_s: float | None = None) -> Path:
    """Write the file as a whole, so that nobody reads half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document(zone, mean, time.time() if now_s is None else now_s)))
    return part.replace(path)


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a simulated grid for --grid.providers file.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--zone", default="FR")
    parser.add_argument("--mean", type=float, default=60.0, help="grams per kWh")
    arguments = parser.parse_args()
    write(arguments.path, arguments.zone, arguments.mean)
