"""``wattspan audit`` as its users meet it: each gram with its figure, sums, and the chain."""

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Wattspan
from tests.report.samples import BEGAN_WALL_NS, HOUR_NS, simple
from wattspan.journal import Journal, KeptRun
from wattspan.model import Intensity
from wattspan.runs import Calibration, Factor, Run, RunRecord
from wattspan.units import UJ_PER_KWH

KWH = UJ_PER_KWH
ORIGIN = "forecast. National Energy System Operator, Carbon Intensity API. CC BY 4.0."


def factor(number: int, g_per_kwh: float, energy_uj: int) -> Factor:
    """A half hour of the run, priced by a forecast."""
    begin_ns = BEGAN_WALL_NS + number * HOUR_NS // 2
    return Factor(
        began_wall_ns=begin_ns,
        ended_wall_ns=begin_ns + HOUR_NS // 2,
        energy_uj=energy_uj,
        co2e_g=energy_uj / KWH * g_per_kwh * 1.2,
        g_per_kwh=g_per_kwh,
        pue=1.2,
        grid_zone="GB",
        provider="carbonintensity",
        signal="average",
        basis="direct",
        estimated=True,
        origin=ORIGIN,
        valid_from_wall_ns=begin_ns,
        valid_until_wall_ns=begin_ns + HOUR_NS // 2,
        fetched_wall_ns=begin_ns - 60_000_000_000,
    )


def priced(count: int = 4, **changes: object) -> RunRecord:
    """A run of one kWh in so many half hours, a tenth of it without a known intensity."""
    factors = tuple(factor(number, 100.0 + number, KWH * 9 // 10 // count) for number in range(count))
    energy_uj = sum(each.energy_uj for each in factors) + KWH // 10
    record = simple(factors=factors, pue=1.2, grid_zone="GB", basis="direct", providers=("carbonintensity",))
    totals = replace(
        record.totals,
        energy_uj={("gpu", "exclusive"): energy_uj},
        unpriced_uj=KWH // 10,
        co2e_g=sum(each.co2e_g for each in factors),
        embodied_g=31.5,
    )
    record = replace(record, totals=totals, ended_wall_ns=BEGAN_WALL_NS + count * HOUR_NS // 2)
    return replace(record, **changes)  # type: ignore[arg-type]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The journal that the command looks for; a daemon holds it open."""
    opened = Journal.open(tmp_path / "state", "boot-1")
    yield opened
    opened.close(clean=True)


def keep(journal: Journal, *records: RunRecord) -> None:
    """As the daemon does at the end of a tick."""
    journal.commit([], [], runs=[KeptRun(record) for record in records])


def edit(tmp_path: Path, statement: str) -> None:
    """As somebody with a shell does, beside the daemon."""
    db = sqlite3.connect(tmp_path / "state" / "journal.db", isolation_level=None)
    assert db.execute(statement).rowcount == 1
    db.close()


def test_audit_of_a_run(wattspan: Wattspan, journal: Journal) -> None:
    """Every factor with its source and times, what has no grams, the embodied part, and the head."""
    keep(journal, priced())
    answer = wattspan("audit", "sft")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    (first,) = [line for line in lines if line.startswith("2026-10-01 12:00:00  ")]
    for cell in ("0.225", "100", "1.2", "27", "[1]", "2026-10-01 12:00:00 to 2026-10-01 12:30:00"):
        assert cell in first
    assert "2026-10-01 11:59:00" in first  # fetched
    (source,) = [line for line in lines if line.startswith("[1]")]
    assert re.split(r"  +", source) == ["[1]", "carbonintensity", "GB", "average direct", "estimated", ORIGIN]
    assert "360000.000000 J (no intensity was known)" in answer.out
    assert "31.5 g = 2.00 GPU-hours x 15.75 g for each GPU hour" in answer.out
    assert answer.out.count("fine") == 4
    head = json.loads(wattspan("audit", "--format", "json").out)["chain"]["head"]
    assert re.search(rf"^head +{head}$", answer.out, re.MULTILINE)
    assert "Keep the head elsewhere" in answer.out
    assert lines[-1] == "Everything adds up."


def test_audit_as_json(wattspan: Wattspan, journal: Journal) -> None:
    """A program gets every factor, exact enough to compute all sums again."""
    keep(journal, priced(60))
    document = json.loads(wattspan("audit", "sft", "--format", "json").out)
    assert (document["schema"], document["sound"]) == ("wattspan.audit/1", True)
    grams = sum(
        each["energy_joules"] / 3.6e6 * each["intensity_grams_per_kwh"] * each["pue"]
        for each in document["factors"]
    )
    assert len(document["factors"]) == 60
    assert grams == pytest.approx(document["totals"]["co2e_grams"], rel=1e-12)
    assert document["factors"][0]["fetched_at"] == "2026-10-01T11:59:00.000000Z"
    assert document["chain"]["entry"]["kind"] == "closed"
    assert document["chain"]["entry"]["hash"] == document["chain"]["head"]
    assert {check["sound"] for check in document["checks"]} == {True}


def test_many_factors_are_told_by_their_ends(wattspan: Wattspan, journal: Journal) -> None:
    """Of a long run the first and last ten are printed, with the sum of the rest; --all prints each."""
    keep(journal, priced(60))
    short = wattspan("audit", "sft").out
    assert len(re.findall(r"\[1\] +20", short)) == 20
    assert "... 40 more (--all)" in short
    assert len(re.findall(r"\[1\] +20", wattspan("audit", "--all", "sft").out)) == 60


def test_revised_figures_are_shown_beside(wattspan: Wattspan, journal: Journal) -> None:
    """What the provider says now makes a line of its own; the record and the sums stay."""
    keep(journal, priced())
    begin_ns = BEGAN_WALL_NS
    measured = Intensity(
        g_per_kwh=200.0,
        valid_from_wall_ns=begin_ns,
        valid_until_wall_ns=begin_ns + HOUR_NS // 2,
        grid_zone="GB",
        provider="carbonintensity",
        signal="average",
        basis="direct",
        estimated=False,
        fetched_wall_ns=begin_ns + HOUR_NS,
    )
    before = wattspan("audit", "sft").out
    assert "revised since" not in wattspan("report", "sft").out
    assert "with figures revised since  109.62 g (0 of 4 factors; counters never change)" in before
    journal.commit([], [], figures=[measured])
    answer = wattspan("audit", "sft")
    assert answer.code == 0
    assert "with figures revised since  136.62 g (1 of 4 factors; counters never change)" in answer.out
    assert "operational CO2e            109.62 g" in answer.out
    report = wattspan("report", "sft").out
    assert "With figures revised since: 137 g instead of 110 g (1 of 4 factors)." in report
    assert "no longer kept" not in answer.out + report


def test_figures_that_are_no_longer_kept_are_told(wattspan: Wattspan, journal: Journal) -> None:
    """Of a run that began before the oldest figure that is kept nobody knows what was revised since."""
    keep(journal, priced())
    late = factor(2, 102.0, 1)
    journal.commit(
        [],
        [],
        figures=[
            Intensity(
                g_per_kwh=late.g_per_kwh,
                valid_from_wall_ns=late.valid_from_wall_ns,
                valid_until_wall_ns=late.valid_until_wall_ns,
                grid_zone="GB",
                provider="carbonintensity",
                signal="average",
                basis="direct",
                estimated=True,
                fetched_wall_ns=late.fetched_wall_ns,
            )
        ],
    )
    answer = wattspan("audit", "sft")
    assert answer.code == 0, "nothing is wrong with the record"
    assert "Some figures of this time are no longer kept" in answer.out
    assert "(2 factors)" in answer.out
    assert "Some figures of this time are no longer kept" in wattspan("report", "sft").out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"co2e_g": 109.7}, "told 109.7 g, found 109.62"),
        ({"unpriced_uj": 0}, "told 3600000 J, found 3240000 J"),
    ],
)
def test_totals_that_do_not_add_up(
    wattspan: Wattspan, journal: Journal, changes: dict[str, object], said: str
) -> None:
    """A record whose sums are not those of its factors is no, though the chain is whole."""
    record = priced()
    keep(journal, replace(record, totals=replace(record.totals, **changes)))  # type: ignore[arg-type]
    answer = wattspan("audit", "sft")
    assert answer.code == 1
    assert said in answer.out
    assert answer.out.endswith("NOT everything adds up.\n")
    whole = wattspan("audit")
    assert whole.code == 1
    assert "does not add up  sft, attempt 0, on node-a" in whole.out
    assert "whole" in whole.out


def test_factor_that_is_no_product(wattspan: Wattspan, journal: Journal) -> None:
    """Grams that moved from one factor to another keep the sum, and are found all the same."""
    record = priced()
    first, second, *rest = record.factors
    moved = (replace(first, co2e_g=first.co2e_g + 1), replace(second, co2e_g=second.co2e_g - 1), *rest)
    keep(journal, replace(record, factors=moved))
    answer = wattspan("audit", "sft")
    assert answer.code == 1
    assert "NOT 27" in answer.out


def test_last_digits_of_sums_are_none_of_its_business(wattspan: Wattspan, journal: Journal) -> None:
    """Floats summed in another order still add up."""
    record = priced(999)
    grams = 0.0
    for each in reversed(record.factors):
        grams += each.co2e_g
    keep(journal, replace(record, totals=replace(record.totals, co2e_g=grams * (1 + 1e-13))))
    assert wattspan("audit", "sft").code == 0


def test_edited_record_is_found(wattspan: Wattspan, journal: Journal, tmp_path: Path) -> None:
    """An edit that adds up is found by the chain, from any run and from the journal as a whole."""
    keep(journal, priced(), replace(priced(), run=Run("other")))
    edit(
        tmp_path,
        'UPDATE run SET record = replace(record, \'"project":""\', \'"project":"x"\') WHERE run_id = \'sft\'',
    )
    for words in (["audit", "sft"], ["audit", "other"], ["audit"]):
        answer = wattspan(*words)
        assert answer.code == 1
        assert "changed record: run sft, attempt 0, on node-a: It is not what was entered" in answer.out
    document = json.loads(wattspan("audit", "--format", "json").out)
    assert not document["sound"]
    assert document["chain"]["findings"][0]["what"] == "changed record"


def test_audit_of_the_whole_journal(wattspan: Wattspan, journal: Journal) -> None:
    """Without a run every closed one is computed again, and what retention let go of is counted."""
    keep(journal, priced(), replace(priced(), run=Run("other")))
    answer = wattspan("audit")
    assert (answer.code, answer.err) == (0, "")
    assert "2 closed runs computed again, 0 do not add up" in answer.out
    assert "2 as they were entered, 0 let go of by retention" in answer.out


def test_run_that_goes_on(wattspan: Wattspan, journal: Journal) -> None:
    """It is computed as far as it is, and said not to be in the chain."""
    keep(journal, priced(ended_wall_ns=None, result=None))
    answer = wattspan("audit", "sft")
    assert answer.code == 0
    assert "The run goes on: it enters the chain when it ends." in answer.out
    assert re.search(r"^entry +none$", answer.out, re.MULTILINE)
    keep(journal, priced(ended_wall_ns=None, result=None, factors=()))
    assert "The record has no factors yet: its operational grams" in wattspan("audit", "sft").out


def test_record_without_factors(wattspan: Wattspan, journal: Journal) -> None:
    """Grams of a new record that nothing explains are no; a record without grams needs no factors."""
    keep(journal, simple())
    answer = wattspan("audit", "sft")
    assert answer.code == 1
    assert "The record has no factors, which it should have" in answer.out
    without = simple(run=Run("none"), totals=replace(simple().totals, co2e_g=0.0))
    keep(journal, without)
    assert wattspan("audit", "none").code == 0


def test_what_else_the_record_has(wattspan: Wattspan, journal: Journal) -> None:
    """Figures by contract, water and calibrations stand with the rates that they imply."""
    record = priced()
    totals = replace(record.totals, market_g=0.0, water_l=1.8)
    calibrations = {"GPU-a": Calibration(0.98, 0.01, "Yokogawa WT310, 2026-03-02, A. Meter")}
    keep(journal, replace(record, totals=totals, calibrations=calibrations))
    out = wattspan("audit", "sft").out
    assert "0 g = 0 g/kWh, PUE included" in out
    assert "1.8 l = 1.8 l/kWh" in out
    assert "gain 0.98, ±1 %: Yokogawa WT310, 2026-03-02, A. Meter" in out


def test_text_of_others_is_printed_as_text(wattspan: Wattspan, journal: Journal) -> None:
    """No control character of an origin or a name reaches the terminal."""
    bad = tuple(replace(each, origin="\x1b[31mred", provider="p\nq") for each in priced().factors)
    keep(journal, priced(factors=bad))
    answer = wattspan("audit", "sft")
    assert "\x1b" not in answer.out
    assert "p\nq" not in answer.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["audit", "sftt"], 1, "no run 'sftt' is known on this node; did you mean sft?"),
        (["audit", "sft", "--attempt", "3"], 1, "run sft has no attempt 3 here; known: 0"),
        (["audit", "sft", "--attempt", "x"], 2, "'x' is not allowed"),
        (["audit", "sft", "--format", "csv"], 2, "invalid choice: 'csv'"),
        (["audit", "--state.dir", "/no/such/folder"], 3, "there is no journal in /no/such/folder"),
        (["audit", "sft", "more"], 2, "unexpected argument 'more'"),
    ],
)
def test_wrong_usage_is_answered(
    wattspan: Wattspan, journal: Journal, words: list[str], code: int, said: str
) -> None:
    """One line says what is wrong, and nothing is printed beside it."""
    keep(journal, priced())
    answer = wattspan(*words)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
