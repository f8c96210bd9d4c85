"""What is known now of the grid's past: the newest figure wins, and counters never follow."""

import io
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.journal.test_history import DAY_NS, NOW_WALL_NS, Clock, run
from wattspan.errors import SetupError
from wattspan.journal import Account, Journal, KeptRun, figures
from wattspan.journal.figures import KEEP_ROWS, TRIM_ROWS, Revision, revised_co2e_g, revision
from wattspan.journal.history import History
from wattspan.journal.portable import export_journal, import_journal
from wattspan.model import Intensity
from wattspan.runs import Factor
from wattspan.units import UJ_PER_KWH

MINUTE_NS = 60_000_000_000
HALF_HOUR_NS = 30 * MINUTE_NS


def figure(start: int, g_per_kwh: float, fetched: int = 0, minutes: int = 30, zone: str = "GB") -> Intensity:
    """A half hour's figure, so many half hours after now, fetched so many minutes after now."""
    begin_ns = NOW_WALL_NS + start * HALF_HOUR_NS
    return Intensity(
        g_per_kwh=g_per_kwh,
        valid_from_wall_ns=begin_ns,
        valid_until_wall_ns=begin_ns + minutes * MINUTE_NS,
        grid_zone=zone,
        provider="carbonintensity",
        signal="average",
        basis="direct",
        estimated=False,
        fetched_wall_ns=NOW_WALL_NS + fetched * MINUTE_NS,
    )


def factor(
    figure: Intensity, kwh: float = 1.0, minutes: tuple[int, int] = (0, 30), pue: float = 1.2
) -> Factor:
    """Energy that this figure priced, from and to so many minutes after its begin."""
    begin_ns = figure.valid_from_wall_ns or 0
    return Factor(
        began_wall_ns=begin_ns + minutes[0] * MINUTE_NS,
        ended_wall_ns=begin_ns + minutes[1] * MINUTE_NS,
        energy_uj=int(kwh * UJ_PER_KWH),
        co2e_g=kwh * pue * figure.g_per_kwh,
        g_per_kwh=figure.g_per_kwh,
        pue=pue,
        grid_zone=figure.grid_zone,
        provider=figure.provider,
        signal=figure.signal,
        basis=figure.basis,
        estimated=True,
        valid_from_wall_ns=figure.valid_from_wall_ns,
        valid_until_wall_ns=figure.valid_until_wall_ns,
        fetched_wall_ns=figure.fetched_wall_ns,
    )


def revised(factors: list[Factor], *figures: Intensity) -> Revision:
    """A run of these factors, by these figures."""
    return revision(replace(run(), factors=tuple(factors)), figures)


def test_newest_figure_of_a_stretch_is_kept(state: Path) -> None:
    """A later one takes the place of an earlier one, never the reverse; each source has its own."""
    journal = Journal.open(state, "boot-1", Clock())
    journal.commit([], [], figures=[figure(0, 100, fetched=1), figure(0, 90, fetched=1, zone="GB-1")])
    journal.commit([], [], figures=[figure(0, 120, fetched=40), figure(1, 80, fetched=40)])
    journal.commit([], [], figures=[figure(0, 110, fetched=20)])
    history = History(state)
    source = ("carbonintensity", "GB", "average", "direct")
    assert history.figures(source) == (figure(0, 120, fetched=40), figure(1, 80, fetched=40))
    assert [known.g_per_kwh for known in history.figures()] == [120, 80, 90]
    begin_ns = NOW_WALL_NS + HALF_HOUR_NS
    assert [known.g_per_kwh for known in history.figures(source, begin_ns, begin_ns + 1)] == [80]
    assert [known.g_per_kwh for known in history.figures(source, begin_ns - 1, begin_ns)] == [120]
    journal.close(clean=True)


def test_figure_without_an_end_is_none_to_keep(state: Path) -> None:
    """A yearly figure is never revised, so it has no place here."""
    journal = Journal.open(state, "boot-1", Clock())
    journal.commit([], [], figures=[replace(figure(0, 100), valid_until_wall_ns=None)])
    assert History(state).figures() == ()
    journal.close(clean=True)


def test_old_figures_are_let_go_of(state: Path) -> None:
    """After 400 days a figure goes; neither a clock nor a figure that is years ahead takes any with it."""
    clock = Clock()
    journal = Journal.open(state, "boot-1", clock)
    journal.commit([], [], figures=[figure(-48 * 390, 1), figure(0, 2)])
    clock.wall_ns += 5_000 * DAY_NS
    journal.commit([], [], figures=[figure(1, 3)])
    clock.wall_ns = NOW_WALL_NS
    journal.commit([], [], figures=[figure(48 * 5_000, 9)])
    assert [known.g_per_kwh for known in History(state).figures()] == [1, 2, 3, 9]
    clock.wall_ns = NOW_WALL_NS + 20 * DAY_NS
    journal.commit([], [], figures=[figure(48 * 20, 4)])
    assert [known.g_per_kwh for known in History(state).figures()] == [2, 3, 4, 9]
    journal.close(clean=True)


def minutes(first: int, count: int, zone: str = "GB") -> Iterator[Intensity]:
    """A figure a minute."""
    for number in range(first, first + count):
        begin_ns = NOW_WALL_NS + number * MINUTE_NS
        yield replace(
            figure(0, number % 700, zone=zone),
            valid_from_wall_ns=begin_ns,
            valid_until_wall_ns=begin_ns + MINUTE_NS,
        )


def test_no_more_figures_than_room_is_for_are_kept(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is more than 100,000 the oldest go, so many at a time, at most once an hour of the clock."""
    assert (KEEP_ROWS, TRIM_ROWS) == (100_000, 2_000)
    monkeypatch.setattr(figures, "KEEP_ROWS", 100)
    monkeypatch.setattr(figures, "TRIM_ROWS", 40)
    clock = Clock()
    journal = Journal.open(state, "boot-1", clock)

    def kept() -> list[int]:
        return [(known.valid_from_wall_ns - NOW_WALL_NS) // MINUTE_NS for known in History(state).figures()]  # type: ignore[operator]

    journal.commit([], [], figures=minutes(0, 100))
    clock.wall_ns += 59 * MINUTE_NS
    journal.commit([], [], figures=minutes(100, 60))
    assert kept() == list(range(160)), "within the hour none is let go of"
    clock.wall_ns += MINUTE_NS
    journal.commit([], [], figures=minutes(160, 1))
    assert kept() == list(range(40, 161))
    clock.wall_ns += 60 * MINUTE_NS
    journal.commit([], [], figures=minutes(161, 1))
    assert kept() == list(range(62, 162)), "the newest, each as it came"
    journal.commit([], [], figures=minutes(162, 8))
    clock.wall_ns -= 120 * MINUTE_NS
    journal.commit([], [], figures=minutes(162, 1))
    assert kept() == list(range(70, 170)), "a clock that was set back puts nothing off"
    journal.close(clean=True)


def test_run_from_before_the_oldest_figure_is_known_as_such(state: Path) -> None:
    """A factor whose figure is older than all that are kept may have been revised, and nobody knows."""
    journal = Journal.open(state, "boot-1", Clock())
    first, second = figure(0, 100), figure(1, 110)
    record = replace(run(ended_day=1), factors=(factor(first), factor(second)))
    journal.commit([], [], runs=[KeptRun(record)])
    assert History(state).revision(record).let_go == 0, "none was ever kept"
    journal.commit([], [], figures=[second])
    assert History(state).revision(record) == Revision(120.0 + 132.0, 0, 0, let_go=1)
    carried = replace(record, factors=(replace(factor(first), fetched_wall_ns=None),))
    assert History(state).revision(carried).let_go == 0
    journal.commit([], [], figures=[first])
    assert History(state).revision(record).let_go == 0
    journal.close(clean=True)


def test_revision_of_a_half_hour() -> None:
    """What was priced by a forecast is revised by the measurement, with the PUE of then."""
    forecast, measured = figure(0, 100), figure(0, 130, fetched=60)
    assert revised([factor(forecast)], measured) == Revision(156.0, 1, 0)
    assert revised_co2e_g(replace(run(), factors=(factor(forecast),)), [measured]) == 156.0


@pytest.mark.parametrize(
    "known",
    [
        [],
        [figure(0, 100, fetched=60)],  # the same
        [figure(0, 130, fetched=-60)],  # older than what it was priced with
        [figure(0, 130, fetched=60, zone="GB-1")],
        [replace(figure(0, 130, fetched=60), provider="electricitymaps")],
        [replace(figure(0, 130, fetched=60), basis="lifecycle")],
        [figure(0, 130, fetched=60, minutes=29)],  # not all of it
        [figure(1, 130, fetched=60)],
    ],
)
def test_factor_that_nothing_newer_covers_stays(known: list[Intensity]) -> None:
    """Only figures of the same provider, zone and meaning, newer and for the whole stretch, revise."""
    assert revised([factor(figure(0, 100))], *known) == Revision(120.0, 0, 0)


def test_factors_that_cannot_be_revised_are_counted() -> None:
    """Several figures put together are left as they are, and so is what was not fetched at all."""
    mixed = replace(factor(figure(0, 100)), figures=3)
    carried = replace(factor(figure(0, 100)), fetched_wall_ns=None)
    assert revised([mixed, carried], figure(0, 130, fetched=60)) == Revision(240.0, 0, 1)


def test_held_over_figure_is_revised_by_those_that_came_later() -> None:
    """A last good figure that priced half an hour beyond its own gives way there to what was known later."""
    held = factor(figure(0, 100), minutes=(0, 60))
    assert revised([held], figure(0, 100), figure(1, 200, fetched=90)).co2e_g == pytest.approx(180)
    assert revised([held], figure(1, 200, fetched=90)).revised == 0


def test_coarse_figure_gives_way_to_finer_ones() -> None:
    """Where a provider has gone from hours to half hours the finer one holds from its begin."""
    hour = replace(figure(0, 100), valid_until_wall_ns=NOW_WALL_NS + 2 * HALF_HOUR_NS)
    known = [replace(hour, g_per_kwh=110, fetched_wall_ns=NOW_WALL_NS + 1), figure(1, 130, fetched=60)]
    assert revised([factor(hour, minutes=(0, 60))], *known).co2e_g == pytest.approx(1.2 * 120)


@given(
    old=st.lists(st.floats(0, 2000), min_size=1, max_size=12),
    new=st.data(),
)
def test_revision_is_the_sum_over_half_hours(old: list[float], new: st.DataObject) -> None:
    """With each half hour a factor, the revised grams are those of energy times the newest figure of each."""
    forecasts = [figure(number, g_per_kwh) for number, g_per_kwh in enumerate(old)]
    revised_g = new.draw(st.lists(st.none() | st.floats(0, 2000), min_size=len(old), max_size=len(old)))
    known = [
        figure(number, before if now is None else now, fetched=0 if now is None else 999)
        for number, (before, now) in enumerate(zip(old, revised_g, strict=True))
    ]
    factors = [factor(forecast, kwh=1.5) for forecast in forecasts]
    expected = sum(1.5 * 1.2 * known_figure.g_per_kwh for known_figure in known)
    assert revised(factors, *reversed(known)).co2e_g == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_history_finds_the_figures_of_a_run(state: Path) -> None:
    """A run is held against the figures of its own stretch and sources; its record and counters stay."""
    journal = Journal.open(state, "boot-1", Clock())
    grams = Account("run_co2e", ("sft", "operational", "direct"), 120.0, 0.0, True)
    record = replace(run(ended_day=1), factors=(factor(figure(0, 100)),))
    journal.commit([grams], [], runs=[KeptRun(record)], figures=[figure(0, 100)])
    journal.commit([], [], figures=[figure(0, 130, fetched=60), figure(7, 1)])
    history = History(state)
    assert history.revision(record) == Revision(156.0, 1, 0)
    assert history.attempts("sft") == (record,)
    assert history.verdict().sound
    journal.close(clean=False)
    reopened = Journal.open(state, "boot-1", Clock())
    assert reopened.restored.accounts == (grams,)
    reopened.close(clean=True)


def test_figures_are_carried(state: Path, tmp_path: Path) -> None:
    """Export and import keep them; one that is nonsense is refused by its line."""
    journal = Journal.open(state, "boot-1", Clock())
    journal.commit([], [], figures=[figure(0, 100), figure(1, 80.5)])
    journal.close(clean=True)
    out = io.StringIO()
    export_journal(state, out)
    import_journal(tmp_path / "here", io.StringIO(out.getvalue()))
    assert History(tmp_path / "here").figures() == History(state).figures() != ()
    for old, new, said in (
        ('"g_per_kwh":80.5', '"g_per_kwh":-1', "g_per_kwh is -1"),
        ('"g_per_kwh":80.5', '"g_per_kwh":true', "g_per_kwh is True"),
        ('"estimated":false', '"estimated":0', "estimated is 0"),
        ('"provider":"carbonintensity"', '"provider":null', "provider is None"),
        ('"valid_until_wall_ns":1', '"valid_until_wall_ns":"1","was":1', "valid_until_wall_ns is '1'"),
        ('"valid_until_wall_ns"', '"until"', "valid_until_wall_ns is missing"),
        ('"figures":2', '"figures":3', "there should be 3 figures, there are 2"),
    ):
        assert old in out.getvalue()
        with pytest.raises(SetupError, match=said):
            import_journal(tmp_path / "bad", io.StringIO(out.getvalue().replace(old, new, 1)))


def test_year_of_five_minute_figures_costs_a_commit_little(state: Path) -> None:
    """Letting go of old figures looks at the oldest alone, by an index."""
    Journal.open(state, "boot-1", Clock()).close(clean=True)
    db = sqlite3.connect(state / "journal.db")
    plan = db.execute(
        "EXPLAIN QUERY PLAN DELETE FROM figure WHERE valid_from_wall_ns <"
        " (SELECT max(valid_from_wall_ns) FROM figure WHERE valid_from_wall_ns <= 1) - 2"
    ).fetchall()
    db.close()
    assert not [step for *_, step in plan if step.startswith("SCAN")], plan


def test_letting_go_of_too_many_figures_costs_the_writer_little(state: Path) -> None:
    """Once an hour 100,000 entries of an index are passed over, and 2,000 rows go: no scan of the table."""
    Journal.open(state, "boot-1", Clock()).close(clean=True)
    db = sqlite3.connect(state / "journal.db")
    asked: list[str] = []
    db.set_trace_callback(asked.append)
    figures.trim(db)
    db.set_trace_callback(None)
    (delete,) = [text for text in asked if text.startswith("DELETE")]
    plan = db.execute(f"EXPLAIN QUERY PLAN {delete}").fetchall()
    db.close()
    scans = [step for *_, step in plan if step.startswith("SCAN")]
    assert scans == ["SCAN figure USING COVERING INDEX figure_age"] * 2, plan
