"""``wattspan grid --forecast``: the hours ahead, drawn."""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.carbon.test_forecast import MINUTE_NS, NOW, figure, hours
from tests.cli.conftest import Wattspan
from tests.client.stand_in import serving as stand_in
from tests.fakes.grid_service import Answer, GridService, serving
from wattspan.carbon.forecast import HOUR_NS, greenest_window
from wattspan.cli.chart import ASCII, BLOCKS, Marks, chart
from wattspan.cli.moments import hours as hours_text
from wattspan.cli.moments import span, zone_name
from wattspan.model import GreenWindow, Intensity

A_TASK = ("--duration", "1h", "--within", "9h")
H100 = ("--gpu", "H100 SXM5", "--hours", "1")

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")


def at(text: str) -> int:
    """Nanoseconds of a moment in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def day(start: str, *g_per_kwh: float) -> tuple[Intensity, ...]:
    """One figure for each hour from a moment on."""
    begin = at(start)
    return tuple(
        replace(
            figure(g, 0, 1),
            valid_from_wall_ns=begin + n * HOUR_NS,
            valid_until_wall_ns=begin + (n + 1) * HOUR_NS,
        )
        for n, g in enumerate(g_per_kwh)
    )


DAY = day("2026-09-20T13:00", *[200] * 6, *[120] * 3, *[60, 40, 40, 60], *[160] * 6, *[310] * 5)


def drawn(
    figures: Sequence[Intensity],
    now: int,
    width: int = 60,
    marks: Marks = ASCII,
    zone: ZoneInfo = BERLIN,
    window: GreenWindow | None = None,
) -> list[str]:
    """The lines of a chart."""
    return list(chart(figures, now, window, width, zone, marks))


def test_a_chart() -> None:
    """Columns stand on zero, one per slice; the scale, the hours and the window are where they belong."""
    now = at("2026-09-20T13:20")
    window = greenest_window(DAY, 2 * HOUR_NS, now, now + 24 * HOUR_NS)
    assert drawn(DAY, now, 56, window=window) == [
        "g/kWh",
        "  320 |                                      ##########",
        "      |                                     ###########",
        "  240 |                                     ###########",
        "      |###########                          ###########",
        "  160 |############              ######################",
        "      |#################        #######################",
        "   80 |###################     ########################",
        "      |################################################",
        "    0 ++----+-----------+-----------+-----------+------",
        "                          =====",
        "       now  18:00       00:00       06:00       12:00",
        "       Sun              Mon",
    ]


def test_blocks_are_finer_than_lines() -> None:
    """Eighths of a line tell apart what ASCII cannot."""
    lines = drawn(hours(0, 5, 20, 35, 50, 80), NOW, 30, BLOCKS)
    assert lines[1:9] == [
        "   80 │               ███",
        "      │               ███",
        "   60 │               ███",
        "      │            ██████",
        "   40 │         ▄▄▄██████",
        "      │         █████████",
        "   20 │      ████████████",
        "      │   ▄▄▄████████████",
    ]


def test_a_gap_stays_empty() -> None:
    """What nobody knows is no zero and no green hour."""
    lines = drawn((*hours(100, 100), *hours(100, from_hour=4)), NOW, 60)
    bottom = lines[8][7:]
    assert re.fullmatch(r"#+ +#+", bottom)
    assert bottom.count(" ") == pytest.approx(2 / 5 * len(bottom), abs=2)


@pytest.mark.parametrize("width", [0, 1, 19, 20, 33, 80, 200, 500])
def test_a_chart_keeps_to_its_width(width: int) -> None:
    """No line is longer than the terminal, down to a width at which nothing can be seen any more."""
    for figures in (DAY, hours(*[5] * 72), hours(7)):
        for marks in (ASCII, BLOCKS):
            now = (figures[0].valid_from_wall_ns or 0) + 1
            lines = drawn(
                figures, now, width, marks, window=greenest_window(figures, HOUR_NS // 2, now, 2**63)
            )
            assert max(map(len, lines)) <= max(width, 19)
            assert all(line == line.rstrip() for line in lines)


def test_labels_are_of_the_time_zone() -> None:
    """Hours are full ones there, also half an hour off UTC and where the clocks change that night."""
    lines = drawn(DAY, at("2026-09-20T13:20"), zone=KOLKATA)
    assert re.findall(r"\d\d:\d\d", lines[-2]) == ["00:00", "06:00", "12:00"]
    change = day("2026-10-24T20:00", *[100] * 12)  # 22:00 in Berlin, and 03:00 comes twice
    lines = drawn(change, at("2026-10-24T20:00"), 160)
    labels = re.findall(r"\d\d:\d\d", lines[-2])
    assert labels == [
        "23:00",
        "00:00",
        "01:00",
        "02:00",
        "02:00",
        "03:00",
        "04:00",
        "05:00",
        "06:00",
        "07:00",
        "08:00",
    ]


def test_a_grid_without_emissions_can_be_drawn() -> None:
    """All columns are empty, and nothing is divided by nothing."""
    assert "#" not in "".join(drawn(hours(0, 0, 0), NOW))


@pytest.mark.parametrize(
    ("encoding", "marks"),
    [("utf-8", BLOCKS), ("UTF-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("?", ASCII)],
)
def test_marks_are_those_that_the_stream_can_show(encoding: str | None, marks: Marks) -> None:
    """A terminal without blocks, or a file of unknown kind, gets ASCII."""
    assert Marks.of(encoding) == marks


def test_times_in_words() -> None:
    """A second day is named where it is another, and a time zone is never left to be guessed."""
    assert span(at("2026-09-20T13:20"), at("2026-09-20T15:20"), BERLIN) == "Sun 20 Sep 15:20 to 17:20"
    assert (
        span(at("2026-09-20T20:00"), at("2026-09-20T23:00"), BERLIN) == "Sun 20 Sep 22:00 to Mon 21 Sep 01:00"
    )
    assert zone_name(NOW, BERLIN) == "local, CEST (UTC+02:00)"
    assert zone_name(NOW, ZoneInfo("America/Sao_Paulo")) == "local, UTC-03:00"
    assert zone_name(NOW, ZoneInfo("UTC")) == "UTC"
    texts = [hours_text(minutes * MINUTE_NS) for minutes in (0, 45, 60, 90, 1500)]
    assert texts == ["0 s", "45 min", "1 h", "1 h 30 min", "25 h"]


def this_half_hour() -> int:
    """Seconds since 1970 at its begin."""
    return int(time.time()) // 1800 * 1800


def half_hours(count: int, green: range, begin: int | None = None) -> Answer:
    """What the Carbon Intensity API answers: 200 g/kWh, and 50 in some of the half hours.

    From this half hour on, or from that which begins at a moment.
    """
    begin = this_half_hour() if begin is None else begin
    moments = [datetime.fromtimestamp(begin + 1800 * n, UTC) for n in range(count + 1)]
    return Answer(
        json={
            "data": [
                {
                    "from": f"{moments[n]:%Y-%m-%dT%H:%MZ}",
                    "to": f"{moments[n + 1]:%Y-%m-%dT%H:%MZ}",
                    "intensity": {"forecast": 50 if n in green else 200, "actual": None, "index": "low"},
                }
                for n in range(count)
            ]
        }
    )


@pytest.fixture
def service() -> Iterator[GridService]:
    """Great Britain, green from 8 half hours from now on for four of them."""
    with serving() as running:
        running.says("/intensity/*", half_hours(48, range(8, 12)))
        yield running


def about(service: GridService) -> dict[str, str]:
    """The settings that lead to it."""
    return {
        "WATTSPAN_GRID_ZONE": "GB",
        "WATTSPAN_GRID_PROVIDERS": "carbonintensity",
        "WATTSPAN_GRID_CARBONINTENSITY_URL": service.url,
        "PYTHONIOENCODING": "utf-8",
    }


def test_the_command_draws_what_the_chain_knows(wattspan: Wattspan, service: GridService) -> None:
    """The chart, the greenest windows, whose forecast it is and by which clock; it ends with 0."""
    answer = wattspan("grid", "--forecast", env={**about(service), "TZ": "Asia/Kolkata", "COLUMNS": "60"})
    assert (answer.code, answer.err) == (0, "")
    assert "█" in answer.out
    assert re.search(r"^1 h +\w{3} \d\d \w{3} \d\d:\d\d to .*\d\d:\d\d +50$", answer.out, re.MULTILINE)
    assert re.search(r"^2 h .* 50 +━━ above$", answer.out, re.MULTILINE)
    assert re.search(r"^forecast  by carbonintensity for GB until .*, fetched ", answer.out, re.MULTILINE)
    assert re.search(r"^meaning   average, direct; .*CC BY 4.0", answer.out, re.MULTILINE)
    assert re.search(r"^times     local, IST \(UTC\+05:30\)$", answer.out, re.MULTILINE)
    chart_lines = [line for line in answer.out.splitlines() if "│" in line or "└" in line]
    assert len(chart_lines) == 9
    assert max(map(len, chart_lines)) <= 60


def test_the_window_that_is_marked_has_the_length_that_was_asked_for(
    wattspan: Wattspan, service: GridService
) -> None:
    """Also one that is not among the usual lengths; times can be had in UTC."""
    env = {**about(service), "PYTHONIOENCODING": "ascii", "TZ": "Asia/Kolkata"}
    answer = wattspan("grid", "--forecast", "--duration", "90m", "--utc", env=env)
    assert answer.out.isascii()
    assert re.search(r"^1 h 30 min .* 50 +== above$", answer.out, re.MULTILINE)
    assert re.search(r"^times     +UTC$", answer.out, re.MULTILINE)
    assert wattspan("grid", "--forecast", "--duration", "soon", env=env).code == 2


def test_the_json_form_is_the_api_s(wattspan: Wattspan, service: GridService) -> None:
    """Whoever reads /api/v1/grid/forecast reads this."""
    answer = wattspan("grid", "--forecast", "--format", "json", env=about(service))
    document = json.loads(answer.out)
    assert answer.code == 0
    assert document["forecast"] is True
    assert len(document["intervals"]) == 48
    assert {"duration_seconds", "starts_at", "grams_per_kwh"} <= set(document["greenest"][0])


def test_no_forecast_is_said_and_is_1(wattspan: Wattspan, service: GridService) -> None:
    """A yearly figure is no forecast, and neither is a service that does not answer."""
    answer = wattspan("grid", "--forecast", env={"WATTSPAN_GRID_ZONE": "FR"})
    assert answer.code == 1
    assert answer.out.splitlines()[-1].startswith("no forecast: the figure of provider static stands for all")
    service.says("/intensity/*", Answer(500))
    answer = wattspan("grid", "--forecast", env=about(service))
    assert answer.code == 1
    assert answer.out.splitlines()[-1] == "no forecast: no provider has answered, and no intensity is known"
    assert "500" in answer.err


def test_commands_in_a_row_ask_a_service_once(wattspan: Wattspan, service: GridService) -> None:
    """What the first one heard is kept for its user, and the others say the same without a question."""
    env = about(service)
    first = wattspan("grid", "--format", "json", env=env)
    for words in (
        ("grid", "--format", "json"),
        ("grid", "--forecast"),
        ("plan", *A_TASK),
        ("estimate", *H100),
    ):
        answer = wattspan(*words, env=env)
        assert (answer.code, answer.err) == (0, "")
        if words == ("grid", "--format", "json"):
            assert json.loads(answer.out) == json.loads(first.out)
    assert len(service.requests) == 1


def test_a_service_that_asks_for_a_pause_gets_it_from_commands_too(
    wattspan: Wattspan, service: GridService
) -> None:
    """It is asked once, and whoever asks later hears why there is no figure, and for how long."""
    service.says("/intensity/*", Answer(429, headers={"Retry-After": "3600"}))
    for words in (("grid",), ("grid", "--forecast"), ("plan", *A_TASK), ("estimate", *H100)):
        answer = wattspan(*words, env=about(service))
        assert "throttled" in answer.err
    assert re.search(r"carbonintensity: left alone for 3[56]\d\d s after throttled: .* HTTP 429", answer.err)
    assert len(service.requests) == 1


def test_the_cache_is_where_the_user_has_it(wattspan: Wattspan, service: GridService, tmp_path: Path) -> None:
    """By the XDG rules, for this user alone; one that cannot be had costs no more than a question."""
    cache = tmp_path / "cache"
    wattspan("grid", env={**about(service), "XDG_CACHE_HOME": str(cache)})
    (kept,) = (cache / "wattspan" / "grid").iterdir()
    assert kept.name.startswith("carbonintensity-")
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    wattspan("grid", env={**about(service), "XDG_CACHE_HOME": "relative"})
    assert (tmp_path / ".cache" / "wattspan" / "grid" / kept.name).is_file()
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    answer = wattspan("grid", env={**about(service), "XDG_CACHE_HOME": str(in_the_way)})
    assert (answer.code, answer.err) == (0, "")
    assert len(service.requests) == 3


def test_who_answered_is_said(wattspan: Wattspan, service: GridService, asks_daemons: dict[str, str]) -> None:
    """Settings that were given are named; where none is and no daemon is there, that is said."""
    assert re.search(
        r"^answered +by this command's settings grid.zone, grid.providers, grid.carbonintensity.url$",
        wattspan("grid", env={**about(service), **asks_daemons}).out,
        re.MULTILINE,
    )
    alone = "by this command alone, for no daemon is reachable"
    assert json.loads(wattspan("grid", "--format", "json", env=asks_daemons).out)["answered"] == alone
    estimate = json.loads(wattspan("estimate", *H100, "--format", "json", env=asks_daemons).out)
    assert estimate["answered"] == alone
    elsewhere = wattspan("estimate", *H100, "--zone", "FR", "--format", "json")
    assert json.loads(elsewhere.out)["answered"] == "by this command, for --zone"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"intensity": 3}), "says nothing of the grid that is known"),
        ((200, []), "gave no proper answer: not a JSON object"),
        ((401, {"detail": "who are you?"}), "the daemon refused (401): who are you?"),
        ((500, {}), "gave no proper answer"),
    ],
)
def test_a_daemon_that_does_not_answer_is_told(
    wattspan: Wattspan, answer: tuple[int, Any], said: str
) -> None:
    """The command answers by itself, with the reason, and never with a traceback."""
    with tempfile.TemporaryDirectory(prefix="wsp") as folder, stand_in(Path(folder) / "s") as daemon:
        daemon.answer = lambda _: answer
        done = wattspan(
            "grid", "--format", "json", env={"WATTSPAN_SOCKET": f"{folder}/s", "WATTSPAN_COST_TIME_ZONE": ""}
        )
    assert done.code == 0
    document = json.loads(done.out)
    assert document["intensity"]["grid_zone"] == "WORLD"
    assert said in document["answered"]
    assert daemon.asked
