"""What live services answer, in the shapes that their documentation gives; the figures are made up.

Each function makes the document of one service. `Point` is one stretch of time and its figure; a figure may
be any value, so that nonsense can be put where a number belongs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Point:
    """One stretch.

    Attributes:
        begin_s: seconds since 1970.
        value: as the service's unit has it; None for null.
        forecast: of the same stretch, where a service says both.
        minutes: its length.
    """

    begin_s: int
    value: Any = None
    forecast: Any = None
    minutes: int = 30


def points(begin_s: int, minutes: int, *values: Any) -> list[Point]:
    """Stretches of that length, one after the other."""
    return [Point(begin_s + i * minutes * 60, value, None, minutes) for i, value in enumerate(values)]


def iso(begin_s: int, zone: tzinfo = UTC) -> str:
    """By ISO 8601 with the offset of a time zone, as Opendatasoft writes it."""
    return datetime.fromtimestamp(begin_s, zone).isoformat(timespec="seconds")


def carbonintensity(rows: Sequence[Point], region: int | None = None) -> Any:
    """``/intensity/{from}/fw48h``, and the same of a region, which has forecasts alone."""

    def written(begin_s: int) -> str:
        return f"{datetime.fromtimestamp(begin_s, UTC):%Y-%m-%dT%H:%MZ}"

    data = []
    for row in rows:
        figures = {"forecast": row.forecast, "actual": row.value, "index": "moderate"}
        if region is not None:
            figures = {"forecast": row.forecast, "index": "moderate"}
        end_s = row.begin_s + row.minutes * 60
        data.append({"from": written(row.begin_s), "to": written(end_s), "intensity": figures})
    if region is None:
        return {"data": data}
    return {"data": {"regionid": region, "dnoregion": "A DNO", "shortname": "A place", "data": data}}


def energycharts(rows: Sequence[Point], deprecated: bool = False) -> Any:
    """``/co2eq``: arrays side by side."""
    return {
        "unix_seconds": [row.begin_s for row in rows],
        "co2eq": [row.value for row in rows],
        "co2eq_forecast": [row.forecast for row in rows],
        "deprecated": deprecated,
    }


def eco2mix(rows: Sequence[Point], zone: tzinfo = UTC, perimeter: str = "France") -> Any:
    """Records of ``eco2mix-national-tr``, newest first."""
    results = [
        {"date_heure": iso(row.begin_s, zone), "taux_co2": row.value, "perimetre": perimeter}
        for row in reversed(rows)
    ]
    return {"total_count": len(results), "results": results}


def electricitymaps_row(row: Point, zone: str, basis: str = "lifecycle", estimated: bool = False) -> Any:
    """``/carbon-intensity/latest``, and one of those in ``/history``."""
    written = f"{datetime.fromtimestamp(row.begin_s, UTC):%Y-%m-%dT%H:%M:%S}.000Z"
    return {
        "zone": zone,
        "carbonIntensity": row.value,
        "datetime": written,
        "updatedAt": written,
        "createdAt": written,
        "emissionFactorType": basis,
        "isEstimated": estimated,
        "estimationMethod": "TIME_SLICER_AVERAGE" if estimated else None,
    }


def electricitymaps_history(
    rows: Sequence[Point], zone: str, basis: str = "lifecycle", estimated: bool = False
) -> Any:
    """``/carbon-intensity/history``."""
    return {"zone": zone, "history": [electricitymaps_row(row, zone, basis, estimated) for row in rows]}


def electricitymaps_forecast(rows: Sequence[Point], zone: str) -> Any:
    """``/carbon-intensity/forecast``."""
    pairs = [{"carbonIntensity": row.value, "datetime": iso(row.begin_s)} for row in rows]
    return {"zone": zone, "forecast": pairs, "updatedAt": iso(rows[0].begin_s) if rows else None}


def watttime(
    rows: Sequence[Point],
    region: str,
    signal_type: str = "co2_moer",
    units: str = "lbs_co2_per_mwh",
    zone: tzinfo = UTC,
) -> Any:
    """``/v3/forecast`` and ``/v3/historical``."""
    return {
        "data": [{"point_time": iso(row.begin_s, zone), "value": row.value} for row in rows],
        "meta": {
            "data_point_period_seconds": rows[0].minutes * 60 if rows else 300,
            "region": region,
            "warnings": [],
            "signal_type": signal_type,
            "model": {"date": "2023-03-01"},
            "units": units,
            "generated_at_period_seconds": 300,
            "generated_at": iso(rows[0].begin_s) if rows else None,
        },
    }
