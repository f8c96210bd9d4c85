"""The outbox: spans are kept until somebody says that they were delivered."""

import hashlib
import io
import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.conftest import restored
from wattspan.errors import SetupError
from wattspan.journal import Account, Journal, JournalError, outbox
from wattspan.journal.outbox import Outbox
from wattspan.journal.portable import export_journal, import_journal
from wattspan.journal.schema import MIGRATIONS, migrate
from wattspan.runs import SpanRecord

ENERGY = Account("gpu_energy", ("GPU-a", "counter"), 5_000_000, 0, True)

SPAN = SpanRecord(
    trace_id="b641e7d2518e39667fb3d3367234428a",
    span_id="a3d0bdb7167b9d71",
    parent_span_id="716e3c77dbe98c6d",
    name="training_run",
    start_wall_ns=1_790_856_000_000_000_000,
    end_wall_ns=1_790_856_900_000_000_001,
    attributes={
        "wattspan.run.id": "llama-sft",
        "wattspan.gpu.count": 8,
        "wattspan.energy.gpu": 3.0,
        "wattspan.grid.estimated": True,
        "wattspan.gpu.uuids": ("GPU-a", "GPU-b"),
    },
    error_type="OOM",
    links=(("2821be844569cfaea81e052aaff3d153", "365b7e07c222947d"),),
)

ids = st.integers(0, 2**64 - 1).map(lambda n: f"{n:016x}")
times = st.integers(0, 2**63 - 1)
values = (
    st.text()
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(st.text(max_size=4), max_size=3).map(tuple)
)
spans = st.builds(
    SpanRecord,
    trace_id=ids.map(lambda half: half * 2),
    span_id=ids,
    parent_span_id=st.just("") | ids,
    name=st.text(max_size=5),
    start_wall_ns=times,
    end_wall_ns=times,
    attributes=st.dictionaries(st.text(max_size=4), values, max_size=3),
    error_type=st.text(max_size=4),
    links=st.lists(st.tuples(ids.map(lambda half: half * 2), ids), max_size=2).map(tuple),
)


def numbered(n: int, name: str = "training_run.window") -> SpanRecord:
    """A span of its own."""
    return replace(SPAN, span_id=f"{n:016x}", name=name)


def waiting(state: Path) -> list[SpanRecord]:
    """What the exporter would find, the oldest first."""
    reader = Outbox(state)
    return list(reader.spans(reader.waiting()).values())


@settings(max_examples=60, deadline=None)
@given(written=st.lists(spans, max_size=4, unique_by=lambda span: (span.trace_id, span.span_id)))
def test_span_comes_back_as_it_was(
    written: list[SpanRecord], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ids, times, links and every kind of attribute survive the daemon, also through export and import."""
    there, here = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("here")
    journal = Journal.open(there, "boot-1")
    assert journal.commit([], [], spans=written) == 0
    journal.close(clean=False)
    out = io.StringIO()
    export_journal(there, out)
    import_journal(here, io.StringIO(out.getvalue()))
    for state in (there, here):
        assert waiting(state) == written
        assert list(map(repr, waiting(state))) == list(map(repr, written))


def test_span_is_there_with_the_counters_or_not_at_all(state: Path) -> None:
    """A commit that is refused keeps neither, and what was delivered stays until one is taken."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [], spans=[numbered(1)])
    (first,) = Outbox(state).waiting()
    with pytest.raises(JournalError):
        journal.commit([replace(ENERGY, total=-1)], [], spans=[numbered(2)], delivered=[first])
    assert waiting(state) == [numbered(1)]
    journal.commit([ENERGY], [], spans=[numbered(2)], delivered=[first])
    assert waiting(state) == [numbered(2)]
    journal.close(clean=True)


def test_delivered_ids_are_never_given_again(state: Path) -> None:
    """A late acknowledgement of a span that is gone removes no newer one, also after a restart."""
    journal = Journal.open(state, "boot-1")
    journal.commit([], [], spans=[numbered(1)])
    old = Outbox(state).waiting()
    journal.commit([], [], delivered=old)
    journal.close(clean=False)
    journal = Journal.open(state, "boot-1")
    journal.commit([], [], spans=[numbered(2)])
    journal.commit([], [], delivered=old)
    assert waiting(state) == [numbered(2)]
    journal.close(clean=True)


def test_span_written_again_is_to_be_delivered_again(state: Path) -> None:
    """What was sent before it changed does not count as its delivery."""
    journal = Journal.open(state, "boot-1")
    journal.commit([], [], spans=[numbered(1)])
    in_flight = Outbox(state).waiting()
    changed = replace(numbered(1), error_type="later")
    journal.commit([], [], spans=[changed])
    journal.commit([], [], delivered=in_flight)
    assert waiting(state) == [changed]
    journal.close(clean=True)


def test_figure_that_is_no_number_does_not_refuse_the_commit(state: Path) -> None:
    """An attribute that neither JSON nor OTLP can hold is left out; the span and the counters are kept."""
    journal = Journal.open(state, "boot-1")
    journal.commit([], [], spans=[replace(SPAN, attributes={"a": math.nan, "b": math.inf, "c": 1.0})])
    assert waiting(state) == [replace(SPAN, attributes={"c": 1.0})]
    journal.close(clean=True)


@pytest.mark.parametrize(("spans_max", "bytes_max"), [(3, 1 << 30), (1 << 30, 3_000)])
def test_full_outbox_gives_up_windows_before_runs(spans_max: int, bytes_max: int) -> None:
    """Beyond either bound the oldest windows and phases go first, then the oldest runs, all counted."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)

    def names_left(*added: SpanRecord) -> tuple[int, list[str]]:
        dropped = outbox.write(db, added, spans_max=spans_max, bytes_max=bytes_max)
        return dropped, [f"{span.name} {int(span.span_id, 16)}" for span in outbox.read(db)]

    wide = {"filler": "x" * 500}
    window, phase, run, node = (
        replace(numbered(n, name), attributes=wide)
        for n, name in enumerate(
            ["training_run.window", "training_run.phase", "training_run", "training_run.node"]
        )
    )
    assert names_left(run, window, node) == (
        0,
        ["training_run 2", "training_run.window 0", "training_run.node 3"],
    )
    assert names_left(phase) == (1, ["training_run 2", "training_run.node 3", "training_run.phase 1"])
    more = [replace(numbered(n, "training_run"), attributes=wide) for n in (4, 5)]
    assert names_left(*more) == (2, ["training_run.node 3", "training_run 4", "training_run 5"])
    db.close()


def test_row_that_is_no_span_stops_nothing(state: Path) -> None:
    """A damaged row is left out of what is read; the others are delivered, and the journal opens."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [], spans=[numbered(1), numbered(2), numbered(3)])
    journal.close(clean=False)
    db = sqlite3.connect(state / "journal.db")
    db.execute("UPDATE outbox SET span = '{' WHERE id = 1")
    db.execute("UPDATE outbox SET span = '[]' WHERE id = 2")
    db.commit()
    db.close()
    assert restored(state, "boot-1").accounts == (ENERGY,)
    assert waiting(state) == [numbered(3)]


def test_outbox_without_a_journal_says_so(state: Path) -> None:
    """Where the journal is gone, reading fails with a sentence instead of beginning one."""
    with pytest.raises(JournalError, match="cannot be read"):
        Outbox(state).waiting()
    assert not state.exists()


def test_journal_of_the_first_version_gets_an_outbox(state: Path) -> None:
    """What the first version kept goes on, and spans find their place."""
    state.mkdir()
    db = sqlite3.connect(state / "journal.db", isolation_level=None)
    migrate(db, MIGRATIONS[:1])
    db.execute("INSERT INTO meta VALUES (1, 'lineage', 1, 'boot-1', 1, 0, 1)")
    db.execute("INSERT INTO account VALUES (1, 'gpu_energy', '[\"GPU-a\", \"counter\"]', 5000000, 0, 1)")
    db.close()
    out = io.StringIO()
    export_journal(state, out)
    assert '"spans":0' in out.getvalue()
    journal = Journal.open(state, "boot-1")
    assert journal.restored.accounts == (ENERGY,)
    journal.commit([], [], spans=[SPAN])
    assert waiting(state) == [SPAN]
    journal.close(clean=True)


def text_with_a_span(state: Path) -> str:
    """An export that holds one."""
    journal = Journal.open(state, "boot-1")
    journal.commit([ENERGY], [], spans=[SPAN])
    journal.close(clean=True)
    out = io.StringIO()
    export_journal(state, out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"span_id":"a3d', '"span_id":"A3d', "line 3: span_id is"),
        ('"parent_span_id":"7', '"parent_span_id":"', "line 3: parent_span_id is"),
        ('"start_wall_ns":1', '"start_wall_ns":-1', "line 3: start_wall_ns is"),
        ('"attributes":{', '"attributes":[],"was":{', "line 3: attributes is"),
        ('"wattspan.gpu.count":8', '"wattspan.gpu.count":null', "line 3: attribute wattspan.gpu.count is"),
        ('"links":[[', '"links":[["",', "line 3: a link is"),
        ('"links":[[', '"links":0,"was":[[', "line 3: links is"),
        ('"name":"training_run"', '"name":7', "line 3: name is 7"),
        ('"error_type":"OOM",', "", "line 3: error_type is missing"),
        ('"spans":1', '"spans":0', "line 5: there should be 0 spans, there are 1"),
    ],
)
def test_malformed_span_in_a_text_names_the_line(
    state: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    """Whatever is wrong with a span, the line is named and nothing is imported."""
    text = text_with_a_span(state)
    assert old in text
    with pytest.raises(SetupError, match=said):
        import_journal(tmp_path / "new", io.StringIO(text.replace(old, new, 1)))
    assert not (tmp_path / "new" / "journal.db").exists()


def test_span_twice_in_a_text_is_refused(state: Path, tmp_path: Path) -> None:
    """Two spans of one id cannot both be delivered."""
    lines = text_with_a_span(state).splitlines(keepends=True)
    with pytest.raises(SetupError, match="line 4: span a3d0bdb7167b9d71 is there twice"):
        import_journal(tmp_path / "new", io.StringIO("".join([*lines[:3], lines[2], lines[3]])))


def test_text_of_the_first_version_is_still_read(state: Path, tmp_path: Path) -> None:
    """An export made before there were spans can be imported."""
    lines = text_with_a_span(state).splitlines(keepends=True)
    head = [lines[0].replace('"version":2', '"version":1'), lines[1]]
    digest = hashlib.sha256("".join(head).encode()).hexdigest()
    end = f'{{"kind":"end","accounts":1,"baselines":0,"sha256":"{digest}"}}\n'
    import_journal(tmp_path / "new", io.StringIO("".join([*head, end])))
    assert restored(tmp_path / "new", "boot-2").accounts == (ENERGY,)
