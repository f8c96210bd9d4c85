"""Who has left a GPU is remembered until it has been read, and for so long at most."""

import pytest

from tests.ledger.readings import UUID
from wattspan.ledger.left import PATIENCE_NS, Left
from wattspan.ledger.meters import GAP_NS
from wattspan.runs import LAPSED, Hold, Holder, Holdings, PodRef
from wattspan.units import NS_PER_S

RUN = Holder("llama", 2)
POD = Holder(pod=PodRef("serving", "chat-0"))
LEFT_NS = 100 * NS_PER_S


def left(holder: Holder, interval_ns: int = NS_PER_S) -> Left:
    """Books in which somebody has just let go of the GPU."""
    books = Left(interval_ns)
    ended = Hold(holder, 50 * NS_PER_S, LEFT_NS)
    assert books.remind(Holdings({UUID: (ended,)})).by_gpu == {UUID: (ended,)}
    return books


def reminded(books: Left) -> list[Holder]:
    """Whom a tick that hears of nobody is told of."""
    return [hold.holder for hold in books.remind(Holdings()).by_gpu.get(UUID, ())]


@pytest.mark.parametrize("settled_ns", [None, LEFT_NS - 1])
def test_a_run_waits_for_a_look_at_its_gpu(settled_ns: int | None) -> None:
    """Until the GPU's energy is settled up to its end the run is not over, and each tick is told of it."""
    books = left(RUN)
    for seconds in (0, 1, 2):
        assert books.settle(lambda _: settled_ns, LEFT_NS + seconds * NS_PER_S) == {("llama", 2)}
        assert reminded(books) == [RUN]


def test_a_run_whose_gpu_was_read_since_is_over() -> None:
    """From then on nobody is told of it."""
    books = left(RUN)
    assert books.settle(lambda _: LEFT_NS, LEFT_NS + 1) == frozenset()
    assert reminded(books) == []


@pytest.mark.parametrize(
    ("interval_s", "patience_s"),
    [
        pytest.param(1, PATIENCE_NS // NS_PER_S, id="three seconds"),
        pytest.param(10, 30, id="three intervals"),
    ],
)
def test_a_run_does_not_wait_for_ever(interval_s: int, patience_s: int) -> None:
    """What it used last is nobody's then, so that its report does not come hours late."""
    books = left(RUN, interval_s * NS_PER_S)
    asked: list[str] = []

    def unread(uuid: str) -> None:
        asked.append(uuid)

    just_before_ns = LEFT_NS + patience_s * NS_PER_S - 1
    assert books.settle(unread, just_before_ns) == {("llama", 2)}
    assert books.settle(unread, just_before_ns + 1) == frozenset()
    assert reminded(books) == [LAPSED]
    assert set(asked) == {UUID}


def test_a_pod_is_remembered_by_name_and_keeps_nothing_open() -> None:
    """Nobody waits for a pod's report; the energy is its own however late the GPU is read."""
    books = left(POD)
    assert books.settle(lambda _: None, LEFT_NS + PATIENCE_NS) == frozenset()
    assert reminded(books) == [POD]


def test_what_is_too_long_ago_is_forgotten() -> None:
    """After a gap the ledger asks nobody any more, and memory must not grow while a driver hangs."""
    books = left(POD)
    books.settle(lambda _: None, LEFT_NS + GAP_NS)
    assert reminded(books) == [POD]
    books.settle(lambda _: None, LEFT_NS + GAP_NS + 1)
    assert reminded(books) == []


def test_who_holds_the_gpu_now_stands_behind_who_has_left() -> None:
    """Both are told in the order of time, and who still holds it is not taken for one who has left."""
    books = left(RUN)
    books.settle(lambda _: None, LEFT_NS)
    now = Hold(POD, LEFT_NS)
    told = books.remind(Holdings({UUID: (now,)})).by_gpu[UUID]
    assert [hold.holder for hold in told] == [RUN, POD]
    books.settle(lambda _: LEFT_NS, LEFT_NS)
    assert reminded(books) == []
