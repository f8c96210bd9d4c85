"""Export and import: the same journal elsewhere, or nothing at all."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.conftest import restored
from wattspan.errors import SetupError, UnreachableError
from wattspan.journal import Account, Baseline, Journal
from wattspan.journal.portable import export_journal, import_journal

ACCOUNTS = (
    Account("gpu_energy", ("GPU-a", "counter"), 5_000_000, 1_000_000, True),
    Account("gpu_co2e", ("GPU-a", "lifecycle"), 3.0, 0.0, False),
)
BASELINES = (Baseline("gpu:GPU-a", 77, 1_000, {"limit_uw": 700}), Baseline("gpu:GPU-b", None, 2_000))

amounts = st.integers(0, 2**63 - 1) | st.floats(0, allow_infinity=False)
facts = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
accounts = st.builds(
    lambda quantity, labels, amounts, released: Account(
        quantity, tuple(labels), max(amounts), min(amounts), released
    ),
    st.text(max_size=5),
    st.lists(st.text(max_size=5), max_size=2),
    st.tuples(amounts, amounts),
    st.booleans(),
)
baselines = st.builds(
    Baseline,
    st.text(max_size=5),
    st.none() | st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.dictionaries(st.text(max_size=3), facts, max_size=2),
)


def exported(state: Path) -> str:
    """The journal as text."""
    out = io.StringIO()
    export_journal(state, out)
    return out.getvalue()


def begin(state: Path, clean: bool = True) -> None:
    """Leave a journal with something in it."""
    journal = Journal.open(state, "boot-1")
    journal.commit(ACCOUNTS, BASELINES)
    journal.close(clean=clean)


@settings(max_examples=40, deadline=None)
@given(
    accounts=st.lists(accounts, max_size=5, unique_by=lambda a: (a.quantity, a.labels)),
    baselines=st.lists(baselines, max_size=3, unique_by=lambda b: b.device),
)
def test_round_trip(
    accounts: list[Account], baselines: list[Baseline], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a journal holds is there after export and import, to the type."""
    there, here = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("here")
    journal = Journal.open(there, "boot-1")
    journal.commit(accounts, baselines)
    journal.close(clean=True)
    import_journal(here, io.StringIO(exported(there)))
    first, second = restored(there, "boot-1"), restored(here, "boot-1")
    assert first == second
    assert list(map(repr, second.accounts)) == list(map(repr, accounts))
    assert {b.device: b for b in second.baselines} == {b.device: b for b in baselines}


def test_counters_of_a_cleanly_stopped_journal_go_on_elsewhere(state: Path, tmp_path: Path) -> None:
    """On another machine counters go on, and baselines say that they are of another boot."""
    begin(state)
    import_journal(tmp_path / "new", io.StringIO(exported(state)))
    found = restored(tmp_path / "new", "boot-of-another-machine")
    assert found.accounts == ACCOUNTS
    assert found.baselines == tuple(replace(baseline, same_boot=False) for baseline in BASELINES)
    assert (found.clean_stop, found.notices) == (True, ())


@pytest.mark.parametrize("boot_id", ["boot-1", "boot-2"])
def test_counters_of_a_running_daemon_start_from_zero_elsewhere(
    state: Path, tmp_path: Path, boot_id: str
) -> None:
    """An export beside a daemon is soon older than what that publishes: totals go on, counters do not."""
    journal = Journal.open(state, "boot-1")
    journal.commit(ACCOUNTS, BASELINES)
    text = exported(state)
    journal.commit([replace(ACCOUNTS[0], total=9_000_000)], [])
    journal.close(clean=True)
    import_journal(tmp_path / "new", io.StringIO(text))
    found = restored(tmp_path / "new", boot_id)
    assert [account.total for account in found.accounts] == [5_000_000, 3.0]
    assert [account.published for account in found.accounts] == [0, 0.0]
    assert found.baselines == ()
    assert "every counter starts again from 0" in found.notices[0]


def test_older_export_into_the_same_folder_starts_from_zero(state: Path) -> None:
    """An export that the daemon went on after is known to be older than what was published."""
    begin(state)
    text = exported(state)
    begin(state)
    (state / "journal.db").unlink()
    import_journal(state, io.StringIO(text))
    found = restored(state, "boot-1")
    assert {account.published for account in found.accounts} == {0}
    assert "lost its newest commits" in found.notices[0]


def test_export_of_a_crashed_journal_holds_its_last_commits(state: Path) -> None:
    """What is only in the -wal file is exported too."""
    journal = Journal.open(state, "boot-1")
    journal.commit(ACCOUNTS, BASELINES)
    assert len(exported(state).splitlines()) == 1 + 2 + 2 + 1 + 1
    journal.close(clean=False)


def test_text_is_json_lines_with_a_header_and_an_end(state: Path) -> None:
    """The first line says what it is, the last how much there should be."""
    begin(state)
    header, *_, end = map(json.loads, exported(state).splitlines())
    assert (header["kind"], header["schema"], header["version"]) == ("header", "wattspan-journal", 4)
    assert {"lineage", "exported_wall_ns", "boot_id", "clean_stop"} <= header.keys()
    assert (end["kind"], end["accounts"], end["baselines"]) == ("end", 2, 2)
    assert (end["spans"], end["runs"]) == (0, 0)


def test_export_without_a_journal(state: Path) -> None:
    """There is nothing to export where no journal is, and nothing is made."""
    with pytest.raises(UnreachableError, match="there is no journal"):
        exported(state)
    assert not state.exists()


def test_export_of_a_damaged_journal(state: Path) -> None:
    """A journal that cannot be read is not exported in part."""
    begin(state)
    (state / "journal.db").write_bytes(b"no database")
    with pytest.raises(UnreachableError, match="cannot be read"):
        exported(state)


def test_import_beside_a_journal_is_refused(state: Path) -> None:
    """A journal is never replaced."""
    begin(state)
    with pytest.raises(SetupError, match="already has a journal"):
        import_journal(state, io.StringIO(exported(state)))
    assert restored(state, "boot-1").accounts == ACCOUNTS


def test_import_under_a_daemon_is_refused(state: Path, tmp_path: Path) -> None:
    """A folder in use is left alone."""
    begin(state)
    text = exported(state)
    journal = Journal.open(tmp_path / "new", "boot-1")
    with pytest.raises(UnreachableError, match="in use by another wattspan"):
        import_journal(tmp_path / "new", io.StringIO(text))
    journal.close(clean=True)


@pytest.fixture
def text(state: Path) -> str:
    """A good export."""
    begin(state)
    return exported(state)


def refusal(text: str, folder: Path) -> str:
    """What the import of a bad text says; nothing of it may stay."""
    with pytest.raises(SetupError) as caught:
        import_journal(folder, io.StringIO(text))
    assert not folder.exists() or not list(folder.glob("journal.db*"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"total":5000000', '"total":5000001', "line 7: sha256 does not match"),
        ('"total":5000000', '"total":9223372036854775808', "line 2: total is 9223372036854775808"),
        ('"total":5000000', '"total":-1', "line 2: total is -1"),
        ('"total":5000000', '"total":true', "line 2: total is True"),
        ('"total":5000000', '"total":NaN', "line 2: NaN is not a number"),
        ('"total":5000000', '"total":1e999', "line 2: total is inf"),
        ('"total":5000000', f'"total":{"9" * 5000}', "line 2: "),
        ('"total":5000000,', "", "line 2: total is missing"),
        ('"total":5000000', '"total":"5000000"', "line 2: total is '5000000'"),
        ('"base":1000000', '"base":6000000', "line 2: base is 6000000"),
        ('"released":true', '"released":1', "line 2: released is 1"),
        ('["GPU-a","lifecycle"]', '["GPU-a",1]', "line 3: labels is"),
        ('["GPU-a","lifecycle"]', f"{'[' * 100_000}", "line 3: "),
        ('"quantity":"gpu_co2e"', '"quantity":null', "line 3: quantity is None"),
        ('"device":"gpu:GPU-b"', '"device":"gpu:GPU-a"', "line 5: baseline gpu:GPU-a is there twice"),
        ('"facts":{}', '"facts":{"a":[]}', "line 5: facts is"),
        ('"kind":"account"', '"kind":"trial"', "line 2: kind is 'trial'"),
        ('"kind":"account"', '"kind":["account"]', "line 2: kind is ['account']"),
        ('"version":4', '"version":5', "line 1: it is not wattspan-journal version 1 to 4"),
        ('"commits":1', '"commits":-1', "line 1: commits is -1"),
        ('"accounts":2', '"accounts":3', "line 7: there should be 3 accounts"),
        ('{"kind":"header"', 'x{"kind":"header"', "line 1: Expecting value"),
        ('{"kind":"account"', '[{"kind":"account"', "line 2: "),
    ],
)
def test_malformed_text_names_the_line(text: str, tmp_path: Path, old: str, new: str, said: str) -> None:
    """Whatever is wrong with a text, the line is named and nothing is imported."""
    assert old in text
    assert said in refusal(text.replace(old, new, 1), tmp_path / "new")


def test_text_without_some_of_its_lines(text: str, tmp_path: Path) -> None:
    """A text cut short, without its header, or with more behind its end is refused."""
    lines = text.splitlines(keepends=True)
    assert "line 1: the text is cut short" in refusal("", tmp_path / "new")
    assert "line 7: the text is cut short" in refusal("".join(lines[:-1]), tmp_path / "new")
    assert "line 6: there should be 2 accounts" in refusal("".join(lines[:1] + lines[2:]), tmp_path / "new")
    assert "line 1: exactly one header" in refusal("".join(lines[1:]), tmp_path / "new")
    assert "line 2: exactly one header" in refusal("".join(lines[:1] + lines), tmp_path / "new")
    assert "line 8: there is text after the end" in refusal(text + lines[1], tmp_path / "new")
    assert "is there twice" in refusal("".join(lines[:2] + lines[1:]), tmp_path / "new")


@settings(max_examples=80, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True), junk=st.text(max_size=10))
def test_no_text_that_was_changed_is_imported(
    cut: float, junk: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut anywhere and go on with anything: refused in words, unless it is the very same text."""
    folder = tmp_path_factory.mktemp("changed")
    begin(folder / "old")
    text = exported(folder / "old")
    changed = text[: int(cut * len(text))] + junk
    if changed.rstrip() != text.rstrip():
        refusal(changed, folder / "new")


def test_bytes_that_are_no_text(text: str, tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused like any other malformed one."""
    source = io.TextIOWrapper(io.BytesIO(text.encode()[:400] + b"\xff\xfe"), encoding="utf-8")
    with pytest.raises(SetupError, match="nothing was imported"):
        import_journal(tmp_path / "new", source)


def test_import_where_nothing_can_be_written(text: str, tmp_path: Path) -> None:
    """A folder that cannot be made is no fault of the text."""
    (tmp_path / "file").touch()
    with pytest.raises(UnreachableError, match="cannot be used"):
        import_journal(tmp_path / "file", io.StringIO(text))
