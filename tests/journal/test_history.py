"""The history of runs: kept with the counters, found again, and let go of when it is old or too much."""

import io
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.conftest import restored
from wattspan.errors import SetupError, UnreachableError
from wattspan.journal import Account, Journal, JournalError, KeptRun
from wattspan.journal import folder as state_folder
from wattspan.journal.history import History, Retention
from wattspan.journal.json_records import members_of
from wattspan.journal.portable import export_journal, import_journal
from wattspan.journal.schema import MIGRATIONS, migrate
from wattspan.runs import (
    NO_PROGRESS,
    RESULTS,
    Attribution,
    Calibration,
    Factor,
    PodRef,
    Point,
    Progress,
    Run,
    RunRecord,
    RunSource,
    RunTotals,
)

DAY_NS = 86_400_000_000_000
NOW_WALL_NS = 20_000 * DAY_NS

times = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**80)
grams = st.floats(0, allow_infinity=False)
names = st.text(max_size=6)
ids = st.text("abcXYZ019._:-", min_size=1, max_size=8)
attributions = st.tuples(st.sampled_from(["gpu", "cpu", "dram"]), st.sampled_from(get_args(Attribution)))
progress = st.builds(
    Progress,
    steps=counts,
    total_steps=st.none() | counts,
    loss=st.none() | st.floats(allow_nan=False),
    repeated_steps=counts,
)
records = st.builds(
    RunRecord,
    run=st.builds(
        Run,
        run_id=ids,
        attempt=st.integers(0, 3),
        name=names,
        source=st.sampled_from(get_args(RunSource)),
        rank_zero=st.booleans(),
        nodes_expected=st.none() | st.integers(1, 9),
        budget_co2e_g=st.none() | grams,
    ),
    node=ids,
    cluster=names,
    began_wall_ns=times,
    totals=st.builds(
        RunTotals,
        energy_uj=st.dictionaries(attributions, counts, max_size=4),
        co2e_g=grams,
        cost=st.none() | grams,
        gpu_ns=counts,
        gpu_energy_uj=st.dictionaries(names, counts, max_size=3),
        embodied_g=st.none() | grams,
        market_g=st.none() | grams,
        water_l=st.none() | grams,
    ),
    progress=progress,
    ended_wall_ns=st.none() | times,
    result=st.none() | st.sampled_from(RESULTS),
    pods=st.lists(st.builds(PodRef, names, names, names), max_size=2).map(tuple),
    gpus=st.dictionaries(names, names, max_size=3),
    providers=st.lists(names, max_size=2).map(tuple),
    estimated=st.booleans(),
    pue=grams,
    points=st.lists(
        st.builds(Point, times, st.dictionaries(names, counts, max_size=3), st.none() | grams, co2e_g=grams),
        max_size=4,
    ).map(tuple),
    progress_before=st.none() | progress,
    factors=st.lists(
        st.builds(
            Factor,
            *(times, times, counts, grams, grams, grams),
            grid_zone=names,
            provider=names,
            estimated=st.booleans(),
            origin=names,
            valid_from_wall_ns=st.none() | times,
            fetched_wall_ns=st.none() | times,
            figures=st.integers(1, 9),
        ),
        max_size=4,
    ).map(tuple),
    calibrations=st.dictionaries(names, st.builds(Calibration, grams, grams, names), max_size=2),
    pue_configured=st.none() | st.booleans(),
    embodied_without=st.none() | st.lists(names, max_size=2).map(tuple),
    earlier_co2e_g=st.none() | grams,
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def run(
    run_id: str = "sft",
    *,
    attempt: int = 0,
    began_day: float = 0,
    ended_day: float | None = None,
    project: str = "nlp",
) -> RunRecord:
    """A run of the days before now, with a single point; day 0 is now."""

    def wall_ns(day: float) -> int:
        return NOW_WALL_NS + int(day * DAY_NS)

    return RunRecord(
        run=Run(run_id, attempt, project=project, group="sweep"),
        node="node-a",
        cluster="",
        began_wall_ns=wall_ns(began_day),
        totals=RunTotals(energy_uj={("gpu", "exclusive"): 7_000_000}, gpu_energy_uj={"GPU-a": 7_000_000}),
        ended_wall_ns=None if ended_day is None else wall_ns(ended_day),
        result=None if ended_day is None else "success",
        points=(Point(wall_ns(began_day), {"GPU-a": 300_000_000}, 55.0, 1.5),),
    )


def ended(run_id: str, day: float) -> RunRecord:
    """A run that ended on that day."""
    return run(run_id, began_day=day - 0.1, ended_day=day)


class Clock:
    """CLOCK_REALTIME as the test sets it."""

    def __init__(self) -> None:
        self.wall_ns = NOW_WALL_NS

    def __call__(self) -> int:
        return self.wall_ns


@pytest.fixture
def clock() -> Clock:
    """Noon of day 0, so to speak."""
    return Clock()


@pytest.fixture
def journal(state: Path, clock: Clock) -> Iterator[Journal]:
    """An open journal that keeps runs for 30 days."""
    opened = Journal.open(state, "boot-1", clock, Retention(age_ns=30 * DAY_NS, bytes_max=1 << 20))
    yield opened
    opened.close(clean=True)


def keep(journal: Journal, *records: RunRecord) -> None:
    """Commit these runs, one commit each."""
    for record in records:
        journal.commit([], [], runs=[KeptRun(record)])


def listed(folder: Path, **wanted: object) -> list[str]:
    """The ids of the runs that match, the newest begin first."""
    return [record.run.run_id for record in History(folder).runs(**wanted)]  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(record=records, resume=st.dictionaries(st.text(max_size=3), plain, max_size=3))
def test_run_comes_back_as_it_was(
    record: RunRecord, resume: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every field survives exactly, to the type, and what to resume with while the run goes on."""
    there, here = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("here")
    journal = Journal.open(there, "boot-1")
    journal.commit([], [], runs=[KeptRun(record, resume)])
    journal.close(clean=True)
    out = io.StringIO()
    export_journal(there, out)
    import_journal(here, io.StringIO(out.getvalue()))
    for state in (there, here):
        (found,) = History(state).attempts(record.run.run_id)
        assert found == record
        assert json.dumps(members_of(found), sort_keys=True) == json.dumps(members_of(record), sort_keys=True)
        kept = [KeptRun(record, resume)] if record.ended_wall_ns is None else []
        assert list(restored(state, "boot-1").runs) == kept


def test_figures_that_are_no_numbers_are_kept(state: Path, journal: Journal) -> None:
    """A loss that is NaN or infinite costs no commit, and is told as it was."""
    for attempt, loss in enumerate((float("nan"), float("inf"), float("-inf"))):
        keep(journal, replace(run(attempt=attempt), progress=Progress(steps=1, loss=loss)))
    losses = [found.progress.loss for found in History(state).attempts("sft")]
    assert list(map(repr, losses)) == ["nan", "inf", "-inf"]


def test_run_is_kept_with_the_counters_or_not_at_all(state: Path, journal: Journal) -> None:
    """A commit that is refused keeps neither the run nor the accounts, and lets no account go."""
    energy = Account("gpu_energy", ("GPU-a", "counter"), 5, 0, True)
    spent = Account("run_energy", ("sft", "gpu", "exclusive"), 5, 0, True)
    journal.commit([energy, spent], [])
    gone = [("run_energy", ("sft", "gpu", "exclusive"))]
    with pytest.raises(JournalError):
        journal.commit([replace(energy, total=-1)], [], runs=[KeptRun(run())], gone=gone)
    assert listed(state) == []
    journal.commit([replace(energy, total=9)], [], runs=[KeptRun(run())], gone=gone)
    assert listed(state) == ["sft"]
    journal.close(clean=True)
    assert [account.total for account in restored(state, "boot-1").accounts] == [9]


def test_accounts_that_are_gone_begin_anew(state: Path, journal: Journal) -> None:
    """An account that was let go of is a new one when it comes back; one that never was may go too."""
    spent = Account("run_energy", ("sft", "gpu", "exclusive"), 5, 0, True)
    journal.commit([spent], [])
    journal.commit([], [], gone=[(spent.quantity, spent.labels), ("run_energy", ("never", "gpu"))])
    journal.commit([replace(spent, total=2)], [])
    journal.close(clean=True)
    assert restored(state, "boot-1").accounts == (replace(spent, total=2),)


def test_daemon_goes_on_with_what_was_running(state: Path, journal: Journal) -> None:
    """After a kill the runs that had not ended are offered, the first begun first, as last committed."""
    later, first = run("later", began_day=-1), run("first", began_day=-2)
    journal.commit([], [], runs=[KeptRun(later, {"n": 1}), KeptRun(first), KeptRun(ended("over", -3))])
    journal.commit([], [], runs=[KeptRun(replace(later, gpus={"GPU-a": "H100"}), {"n": 2})])
    journal.close(clean=False)
    assert restored(state, "boot-1").runs == (
        KeptRun(first),
        KeptRun(replace(later, gpus={"GPU-a": "H100"}), {"n": 2}),
    )


def test_run_that_ends_takes_the_place_of_the_one_that_ran(state: Path, journal: Journal) -> None:
    """There is one row per attempt, and nothing to resume an attempt with that is over."""
    journal.commit([], [], runs=[KeptRun(run(), {"n": 1})])
    journal.commit([], [], runs=[KeptRun(replace(run(ended_day=0)), {"n": 2})])
    assert History(state).attempts("sft") == (run(ended_day=0),)
    out = io.StringIO()
    export_journal(state, out)
    assert '"resume":null' in out.getvalue()
    journal.close(clean=False)
    assert restored(state, "boot-1").runs == ()


def test_runs_are_found_by_what_they_are(state: Path, journal: Journal) -> None:
    """Each filter leaves out what does not match; the newest begin comes first, without points."""
    keep(
        journal,
        run("old", began_day=-9, ended_day=-8),
        run("long", began_day=-9.5, ended_day=-1, project="vision"),
        run("now", began_day=-2),
    )
    assert listed(state) == ["now", "old", "long"]
    assert listed(state, state="running") == ["now"]
    assert listed(state, state="ended") == ["old", "long"]
    assert listed(state, project="vision") == ["long"]
    assert listed(state, project="vision", group="none") == []
    assert listed(state, since_wall_ns=NOW_WALL_NS - 5 * DAY_NS) == ["now", "long"]
    assert {record.points for record in History(state).runs()} == {()}


def test_attempts_of_a_run(state: Path, journal: Journal) -> None:
    """Attempts come in their order, and the last that ended is known, with how far it was."""
    last = run(attempt=1, ended_day=0)
    keep(
        journal,
        replace(last, progress=Progress(steps=7)),
        run(attempt=0, began_day=-1, ended_day=0),
        run(attempt=2),
    )
    keep(journal, run("other", attempt=7))
    assert [record.run.attempt for record in History(state).attempts("sft")] == [0, 1, 2]
    history = History(state)
    assert history.last_attempts(9) == {"sft": (1, NOW_WALL_NS, Progress(steps=7))}
    assert history.last_attempt("sft") == (1, NOW_WALL_NS, Progress(steps=7))
    assert history.last_attempt("other") is None


def test_last_attempts_outlive_their_records(state: Path, journal: Journal) -> None:
    """What retention let go of has its number still, so that it is not opened again; the newest are told."""
    keep(journal, ended("old", -50), run(attempt=3, began_day=-41, ended_day=-40))
    keep(journal, ended("new", -1), ended("newest", 0))
    assert listed(state) == ["newest", "new"]
    history = History(state)
    found = history.last_attempts(3)
    assert [(run_id, attempt) for run_id, (attempt, *_) in found.items()] == [
        *(("sft", 3), ("new", 0), ("newest", 0))
    ]
    assert found["sft"] == (3, NOW_WALL_NS - 40 * DAY_NS, NO_PROGRESS)
    assert history.last_attempt("old") == (0, NOW_WALL_NS - 50 * DAY_NS, NO_PROGRESS)


def test_old_runs_are_let_go_of(state: Path, journal: Journal, clock: Clock) -> None:
    """A run goes when it ended 30 days before another one did; one that still runs stays."""
    keep(journal, run("running", began_day=-90), ended("old", -32), ended("older", -40), ended("new", -1))
    clock.wall_ns += DAY_NS
    keep(journal, ended("newest", 1))
    assert listed(state) == ["newest", "new", "running"]


def test_clock_that_jumps_costs_no_history(state: Path, journal: Journal, clock: Clock) -> None:
    """A clock years ahead when a run ends lets go of nothing, nor does the run that it misdated."""
    keep(journal, ended("real", -5))
    clock.wall_ns += 10_000 * DAY_NS
    keep(journal, ended("misdated", 10_000))
    clock.wall_ns = NOW_WALL_NS
    keep(journal, ended("after", -1), ended("last", 0))
    assert sorted(listed(state)) == ["after", "last", "misdated", "real"]


def test_history_has_a_size(state: Path, clock: Clock) -> None:
    """Beyond its size the runs that ended first go; the one that just ended is always kept."""
    journal = Journal.open(state, "boot-1", clock, Retention(age_ns=30 * DAY_NS, bytes_max=5_000))
    keep(journal, *(ended(f"run-{day}", day - 20) for day in range(20)))
    names = listed(state)
    journal.close(clean=True)
    assert 2 < len(names) < 10
    assert names == [f"run-{day}" for day in range(19, 19 - len(names), -1)]


def test_history_is_read_while_the_daemon_writes(state: Path, journal: Journal) -> None:
    """A reader in the middle of the list neither stops a commit nor sees half of one."""
    keep(journal, ended("one", -2), ended("two", -1))
    reading = History(state).runs()
    assert next(reading).run.run_id == "two"
    keep(journal, ended("three", 0))
    journal.sync()
    assert [record.run.run_id for record in reading] == ["one"]
    assert listed(state) == ["three", "two", "one"]


def test_row_that_makes_no_sense_costs_no_other(state: Path, journal: Journal) -> None:
    """A row changed from outside is passed over, by readers and by a daemon that starts."""
    for run_id in ("good", "bad", "worse"):
        keep(journal, run(run_id))
    journal.close(clean=True)
    with sqlite3.connect(state / "journal.db") as db:
        db.execute("UPDATE run SET record = '{\"node\":7}' WHERE run_id = 'bad'")
        db.execute("UPDATE run SET points = '[' WHERE run_id = 'worse'")
    db.close()
    assert listed(state) == ["worse", "good"]
    assert History(state).attempts("bad") == ()
    assert [kept.record.run.run_id for kept in restored(state, "boot-1").runs] == ["good"]


def test_row_of_an_older_or_newer_program_is_read(state: Path, journal: Journal) -> None:
    """A field that a record gained takes its default, and one that it lost is passed over."""
    keep(journal, run())
    journal.close(clean=True)
    with sqlite3.connect(state / "journal.db") as db:
        ((text,),) = db.execute("SELECT record FROM run").fetchall()
        members = json.loads(text)
        del members["providers"]
        members["moon_phase"] = {"full": True}
        db.execute("UPDATE run SET record = ?", [json.dumps(members)])
    db.close()
    assert History(state).attempts("sft") == (run(),)


def test_texts_of_factors_are_stored_once(state: Path, journal: Journal) -> None:
    """A thousand factors of one provider hold its words once, so that a row of weeks stays small."""
    origin = "measured. " + "National Energy System Operator. " * 4
    factor = Factor(
        NOW_WALL_NS, NOW_WALL_NS + 1, 7, 1.5, 55.0, 1.2, provider="carbonintensity", origin=origin
    )
    keep(journal, replace(run(), factors=(factor,) * 1024))
    assert History(state).attempts("sft")[0].factors == (factor,) * 1024
    with sqlite3.connect(state / "journal.db") as db:
        ((text,),) = db.execute("SELECT factors FROM run").fetchall()
    db.close()
    assert text.count(origin) == 1
    assert len(text) < 140 * 1024


def test_run_of_an_older_program_has_no_factors(state: Path, clock: Clock, journal: Journal) -> None:
    """What was kept before there were factors is read beside and by the daemon, and its text imported."""
    keep(journal, run(), ended("over", -1))
    journal.close(clean=True)
    with sqlite3.connect(state / "journal.db") as db:
        for text in db.execute("SELECT id, record FROM run").fetchall():
            members = json.loads(text[1])
            del members["calibrations"], members["totals"]["embodied_g"]
            db.execute("UPDATE run SET record = ? WHERE id = ?", [json.dumps(members), text[0]])
        before_version_4(db)
    db.close()
    assert History(state).attempts("sft") == (run(),)
    assert [record.run.run_id for record in History(state).ended()] == ["over"]
    out = io.StringIO()
    export_journal(state, out)
    import_journal(state.with_name("here"), io.StringIO(out.getvalue()))
    for folder in (state, state.with_name("here")):
        Journal.open(folder, "boot-1", clock).close(clean=True)
        assert History(folder).attempts("sft") == (run(),)
        assert [kept.record for kept in restored(folder, "boot-1").runs] == [run()]


def before_version_4(db: sqlite3.Connection) -> None:
    """Take back what version 4 of the tables has brought."""
    for table in ("run_chain", "figure", "month", "month_total"):
        db.execute(f"DROP TABLE {table}")
    for table, column in (("run", "factors"), ("meta", "chain_length"), ("meta", "chain_head")):
        db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    db.execute("UPDATE run SET bytes = length(record) + length(points)")
    db.execute("PRAGMA user_version = 3")


def test_no_journal_is_no_history(state: Path) -> None:
    """Where nothing is, the folder is named and nothing is made."""
    with pytest.raises(UnreachableError, match=r"there is no journal in .*, such as /var/lib/wattspan"):
        listed(state)
    assert not state.exists()


def test_folder_that_failed_is_not_named_as_a_way_out(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Root, whose folder it is already, is not told to look where nothing was found."""
    monkeypatch.setattr(state_folder, "OF_ROOT", state)
    with pytest.raises(UnreachableError, match=r"name a daemon's folder with --state\.dir$"):
        listed(state)


def test_journal_of_another_user_is_said_to_be(state: Path, journal: Journal) -> None:
    """Whoever may not look into the folder is told whose it is, not that there is nothing."""
    journal.close(clean=True)
    state.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may look anywhere
    try:
        with pytest.raises(UnreachableError, match="is not this user's to read"):
            listed(state)
    finally:
        os.seteuid(user)
        state.chmod(0o700)


def test_damaged_journal_is_no_history(state: Path, journal: Journal) -> None:
    """What is no database is said to be none."""
    journal.close(clean=True)
    (state / "journal.db").write_bytes(b"no database at all")
    with pytest.raises(UnreachableError, match="cannot be read"):
        listed(state)


def test_journal_of_an_older_program_gets_a_history(state: Path, clock: Clock) -> None:
    """Before a daemon has opened it there are no runs in it; then there can be."""
    state.mkdir()
    with sqlite3.connect(state / "journal.db", isolation_level=None) as db:
        migrate(db, MIGRATIONS[:2])
        db.execute("INSERT INTO meta VALUES (1, 'lineage', 0, 'boot-1', 1, 0, 0)")
    db.close()
    assert listed(state) == []
    journal = Journal.open(state, "boot-1", clock)
    keep(journal, run())
    journal.close(clean=True)
    assert listed(state) == ["sft"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"attempt":0', '"attempt":-1', "attempt or time is -1"),
        ('"attempt":0', '"attempt":"0"', "RunRecord.run.attempt is '0'"),
        ('"began_wall_ns":1', '"began_wall_ns":1e30,"was":1', "RunRecord.began_wall_ns is 1e"),
        ('"source":"api"', '"source":"guess"', "RunRecord.run.source is 'guess'"),
        ('"node":"node-a"', '"node":"\\u0000"', "has letters that no name has"),
        ('"node":"node-a",', "", "RunRecord lacks a member"),
        ('"run_id":"sft",', "", "RunRecord.run lacks a member"),
        ('[["gpu","exclusive"],7000000]', '[["gpu"],7000000]', r"RunRecord.totals.energy_uj is \['gpu'\]"),
        ('[["gpu","exclusive"],7000000]', '"gpu"', "RunRecord.totals.energy_uj is 'gpu'"),
        ('"pods":[]', '"pods":{}', "RunRecord.pods is"),
        ('"totals":{', '"totals":[],"was":{', r"RunRecord.totals is \[\]"),
        ('"co2e_g":0.0', '"co2e_g":"much"', "RunRecord.totals.co2e_g is 'much'"),
        ('"power_uw":{', '"power_uw":[],"was":{', "points are no columns"),
        ('"power_uw":{"GPU-a":[300000000]', '"power_uw":{"GPU-a":[]', "points are no columns"),
        ('"co2e_g":[1.5]', '"co2e_g":[]', r"shorter|longer"),
        ('"resume":{', '"resume":[],"was":{', r"resume is \[\]"),
        ('"runs":1', '"runs":2', "there should be 2 runs, there are 1"),
        ('"factors":{', '"factors":[],"was":{', "factors are no columns"),
        ('"energy_uj":[7', '"energy_uj":[7,7', r"shorter|longer"),
        ('{"texts":["FR"],"rows":[0]}', '{"texts":["FR"],"rows":[1]}', "factors are no columns"),
        ('"g_per_kwh":[55.0]', '"g_per_kwh":["55"]', "Factor.g_per_kwh is '55'"),
    ],
)
def test_malformed_run_in_a_text_names_the_line(
    state: Path, journal: Journal, tmp_path: Path, old: str, new: str, said: str
) -> None:
    """Whatever is wrong with a run, the line is named and nothing is imported."""
    factors = (Factor(NOW_WALL_NS, NOW_WALL_NS, 7, 1.5, 55.0, 1.2, grid_zone="FR"),)
    journal.commit([], [], runs=[KeptRun(replace(run(), factors=factors), {"n": 1})])
    out = io.StringIO()
    export_journal(state, out)
    assert old in out.getvalue()
    with pytest.raises(SetupError, match=rf"line \d: .*({said})"):
        import_journal(tmp_path / "here", io.StringIO(out.getvalue().replace(old, new, 1)))
    assert not (tmp_path / "here").exists()


def test_run_is_not_imported_twice(state: Path, journal: Journal, tmp_path: Path) -> None:
    """A text in which an attempt stands twice is refused."""
    keep(journal, run())
    out = io.StringIO()
    export_journal(state, out)
    header, line, *rest = out.getvalue().splitlines(keepends=True)
    with pytest.raises(SetupError, match="attempt 0 of run sft is there twice"):
        import_journal(tmp_path / "here", io.StringIO("".join([header, line, line, *rest])))
