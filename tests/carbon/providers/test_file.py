"""A file of intensities: its members, and how it says what is wrong with it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.carbon.faults import failure_of
from wattspan.carbon.http import Http
from wattspan.carbon.providers import HOUR_NS, MINUTE_NS, Options, make, moment_of
from wattspan.errors import SetupError
from wattspan.model import Intensity

NOW_NS = moment_of("2026-10-25T00:20:00Z", "the test")
GOOD: dict[str, Any] = {
    "signal": "average",
    "basis": "lifecycle",
    "zone": "NO-NO2",
    "origin": "our own meter, 2026",
    "unit": "g/kWh",
    "intervals": [
        {"from": "2026-10-25T00:00:00Z", "until": "2026-10-25T01:00:00Z", "grams_per_kwh": 26.5},
        {
            "from": "2026-10-25T02:00:00+01:00",
            "until": "2026-10-25T02:00Z",
            "grams_per_kwh": 27,
            "estimated": True,
        },
    ],
}


def interval(**others: Any) -> dict[str, Any]:
    """One entry, with others of its members."""
    return {**GOOD["intervals"][0], **others}


def asked(path: Path, document: Any = None, zone: str = "NO-NO2") -> Sequence[Intensity]:
    """What the provider makes of a file; of the one that is there, if no document is given."""
    if document is not None:
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return make("file", Http(), Options(zone, path=path)).intensities(NOW_NS)


def test_the_members(tmp_path: Path) -> None:
    """Each interval is a figure of what the file says of itself; times follow their own offset from UTC."""
    first, second = asked(tmp_path / "grid.json", GOOD)
    assert first == Intensity(
        g_per_kwh=26.5,
        valid_from_wall_ns=NOW_NS - 20 * MINUTE_NS,
        valid_until_wall_ns=NOW_NS + 40 * MINUTE_NS,
        grid_zone="NO-NO2",
        provider="file",
        signal="average",
        basis="lifecycle",
        estimated=False,
        fetched_wall_ns=NOW_NS,
        origin="our own meter, 2026",
    )
    assert (second.valid_from_wall_ns, second.estimated) == (first.valid_until_wall_ns, True)
    assert (second.valid_until_wall_ns or 0) - (second.valid_from_wall_ns or 0) == HOUR_NS


def test_what_may_be_left_out(tmp_path: Path) -> None:
    """Without zone and origin they are the node's zone and the file; a null figure is left out."""
    few = {key: value for key, value in GOOD.items() if key not in ("zone", "origin")}
    path = tmp_path / "grid.json"
    (figure,) = asked(path, few | {"intervals": [interval(), interval(**{
        "from": "2026-10-25T01:00Z", "until": "2026-10-25T02:00Z", "grams_per_kwh": None
    })]})  # fmt: skip
    assert (figure.grid_zone, figure.origin) == ("NO-NO2", str(path))


def test_it_is_read_anew(tmp_path: Path) -> None:
    """A file that was replaced is read as it is now, and one may come later than the daemon."""
    path = tmp_path / "grid.json"
    provider = make("file", Http(), Options("NO-NO2", path=path))
    assert failure_of(lambda: provider.intensities(NOW_NS)).reason == "unreachable"
    path.write_text(json.dumps(GOOD))
    assert provider.intensities(NOW_NS)[0].g_per_kwh == 26.5
    path.write_text(json.dumps(GOOD | {"intervals": [interval(grams_per_kwh=30)]}))
    assert provider.intensities(NOW_NS)[0].g_per_kwh == 30


@pytest.mark.parametrize(
    ("document", "reason", "named"),
    [
        (GOOD | {"unit": "kg/kWh"}, "wrong_unit", "unit: 'kg/kWh'"),
        (GOOD | {"unit": None}, "wrong_unit", "unit: None"),
        (GOOD | {"signal": "marginal"}, "wrong_unit", "set grid.signal"),
        (GOOD | {"basis": "direct"}, "wrong_unit", "set grid.basis"),
        (GOOD | {"zone": "SE-SE3"}, "wrong_zone", "zone: asked for NO-NO2"),
        (GOOD | {"zone": 7}, "wrong_zone", "zone"),
        (GOOD | {"origin": 7}, "malformed", "origin: not a text"),
        (GOOD | {"intervals": None}, "malformed", "intervals: not an array"),
        (GOOD | {"intervals": [7]}, "malformed", "intervals[0]: not an object"),
        (GOOD | {"intervals": [interval(), interval()]}, "malformed", "intervals[1].from"),
        (GOOD | {"intervals": [interval(until="2026-10-24")]}, "malformed", "intervals[0].until: not after"),
        (GOOD | {"intervals": [interval(until="soon")]}, "malformed", "intervals[0].until: 'soon'"),
        (GOOD | {"intervals": [{"from": "2026-10-25"}]}, "malformed", "intervals[0].until"),
        (GOOD | {"intervals": [interval(estimated="no")]}, "malformed", "intervals[0].estimated"),
        (GOOD | {"intervals": [interval(grams_per_kwh="26")]}, "malformed", "intervals[0].grams_per_kwh"),
        (GOOD | {"intervals": [interval(grams_per_kwh=-1)]}, "implausible", "intervals[0].grams_per_kwh"),
        (GOOD | {"intervals": [interval(grams_per_kwh=2001)]}, "implausible", "intervals[0].grams_per_kwh"),
        (
            GOOD | {"intervals": [{k: v for k, v in interval().items() if k != "grams_per_kwh"}]},
            "malformed",
            "intervals[0].grams_per_kwh: missing",
        ),
        ([GOOD], "malformed", "not a JSON object"),
        (json.dumps(GOOD).encode()[:-9], "malformed", "not JSON"),
        (b"", "malformed", "not JSON"),
        (b"null", "malformed", "not a JSON object"),
        (b"<!DOCTYPE html><html></html>", "malformed", "not JSON"),
        (b"\xff\xfe", "malformed", "not JSON"),
        (b" " * (10 << 20), "malformed", "more than"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, document: Any, reason: str, named: str) -> None:
    """A file that makes no sense is refused as a whole, and the text names the file and the member."""
    path = tmp_path / "grid.json"
    error = failure_of(lambda: asked(path, document))
    assert error.reason == reason
    assert error.detail.startswith(f"{path}: ") or error.detail.startswith(f"{path}: zone")
    assert named in error.detail


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder in its place is a failure that names it, and none of ours."""
    error = failure_of(lambda: asked(tmp_path))
    assert error.reason == "unreachable"
    assert str(tmp_path) in error.detail


def test_a_node_without_a_zone_takes_the_files(tmp_path: Path) -> None:
    """Where nobody has said where the node is, the file says it."""
    assert asked(tmp_path / "grid.json", GOOD, zone="WORLD")[0].grid_zone == "NO-NO2"


def test_settings_that_cannot_work() -> None:
    """Without a path it stops at start and says what to set."""
    with pytest.raises(SetupError, match=r"grid\.file\.path"):
        make("file", Http(), Options("NO-NO2"))
