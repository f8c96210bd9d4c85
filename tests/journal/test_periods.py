"""Months: what each owner used between two of them, through restarts, resets and clocks that jump."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.test_history import Clock
from wattspan.errors import SetupError, WattspanError
from wattspan.journal import Account, Journal
from wattspan.journal.history import History
from wattspan.journal.periods import bounds_of, month_of
from wattspan.journal.portable import export_journal, import_journal
from wattspan.units import NS_PER_S

DAY_NS = 86_400 * NS_PER_S
OWNER = ("nlp", "llama", "gpu")


def at(text: str) -> int:
    """A moment of UTC, such as ``2026-10-01 00:00``."""
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp()) * NS_PER_S


class Station:
    """A journal whose commits each add energy to the owner's account."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.clock = Clock()
        self.total = 0
        self.journal = Journal.open(state, "boot-1", self.clock)

    def use(self, moment: str, energy_uj: int) -> None:
        """A tick that ends then."""
        self.clock.wall_ns = at(moment)
        self.total += energy_uj
        self.journal.commit([Account("owner_energy", OWNER, self.total, 0, True)], [])

    def used(self, month: str, now: str = "2027-06-01 00:00") -> int | float:
        """What the owner used in a month."""
        return History(self.state).usage(month, at(now)).totals.get(("owner_energy", OWNER), 0)

    def since(self, month: str) -> str:
        """From when on a month is known."""
        since_ns = History(self.state).usage(month, at("2027-06-01 00:00")).since_wall_ns
        return f"{datetime.fromtimestamp(since_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M}"


@pytest.fixture
def station(state: Path) -> Station:
    """A journal that began in mid September."""
    station = Station(state)
    station.use("2026-09-15 12:00", 5)
    return station


def test_month_is_the_difference_of_two_starts(station: Station) -> None:
    """What was entered between two first commits of a month is the month's, the tick at the turn included."""
    station.use("2026-09-30 23:59", 10)
    station.use("2026-10-01 00:00", 100)
    station.use("2026-10-31 23:59", 1000)
    station.use("2026-11-01 00:05", 10_000)
    assert [station.used(month) for month in ("2026-09", "2026-10", "2026-11")] == [15, 1100, 10_000]
    usage = History(station.state).usage("2026-10", at("2026-12-24 00:00"))
    assert (usage.since_wall_ns, usage.until_wall_ns) == (at("2026-10-01 00:00"), at("2026-11-01 00:00"))


def test_month_in_which_the_journal_began_says_since_when(station: Station) -> None:
    """What was used before is not known, and the report can say so; the month that goes on ends now."""
    usage = History(station.state).usage("2026-09", at("2026-09-20 00:00"))
    assert (usage.since_wall_ns, usage.until_wall_ns) == (at("2026-09-15 12:00"), at("2026-09-20 00:00"))
    assert usage.totals == {("owner_energy", OWNER): 5}


def test_months_without_a_commit_used_nothing(station: Station) -> None:
    """A daemon that was down for months leaves none of its energy in the wrong one."""
    station.use("2027-01-10 00:00", 100)
    assert [station.used(m) for m in ("2026-09", "2026-10", "2026-12", "2027-01")] == [5, 0, 0, 100]
    assert [station.since(m) for m in ("2026-10", "2027-01")] == ["2026-11-01 00:00", "2027-01-10 00:00"]


def test_clock_that_was_behind_when_the_journal_began(state: Path) -> None:
    """A month from before the clock was set vouches for no time that nobody saw."""
    station = Station(state)
    station.use("1970-01-01 00:00", 1)
    station.use("2026-10-28 12:00", 10)
    station.use("2026-11-02 00:00", 100)
    assert [station.used(month) for month in ("2025-03", "2026-10", "2026-11")] == [0, 10, 100]
    since = ("2025-04-01 00:00", "2026-10-28 12:00", "2026-11-01 00:00")
    assert tuple(map(station.since, ("2025-03", "2026-10", "2026-11"))) == since


@pytest.mark.parametrize(
    ("month", "said"),
    [
        ("2026-08", "knows nothing of 2026-08: it counts months since 2026-09"),
        ("2027-07", "2027-07 has not begun"),
    ],
)
def test_month_that_is_not_known(station: Station, month: str, said: str) -> None:
    """A month before the journal or after now is refused in words."""
    with pytest.raises(WattspanError, match=said):
        station.used(month)


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "26-10", "2026-10-01", "", "2026-00", "9999-12"])
def test_what_is_no_month_is_refused(month: str) -> None:
    """Only a year and a month make one."""
    with pytest.raises(ValueError, match="is no month such as 2026-10"):
        bounds_of(month)


def test_account_that_started_again_from_0_loses_nothing(station: Station) -> None:
    """After an unclean reboot counters start anew, and the month goes on by totals."""
    station.use("2026-10-05 00:00", 100)
    station.journal.close(clean=False)
    again = Journal.open(station.state, "boot-2", station.clock)
    (account,) = again.restored.accounts
    assert account.published == 0
    again.commit([Account("owner_energy", OWNER, account.total + 7, account.base, True)], [])
    assert station.used("2026-10", "2026-10-09 00:00") == 107


@pytest.mark.parametrize("ahead", ["2026-11-05 00:00", "2027-01-20 00:00"])
def test_month_that_a_clock_ahead_made_up_begins_anew(station: Station, ahead: str) -> None:
    """A clock that ran weeks ahead for a while moves no later energy into the month that it showed."""
    station.use("2026-10-05 00:00", 100)
    station.use(ahead, 1)
    station.use("2026-10-05 00:01", 200)
    for month in ("2026-11", "2026-12", "2027-01", "2027-02"):
        station.use(f"{month}-01 00:00", 1000)
        station.use(f"{month}-28 00:00", 1000)
    months = ("2026-10", "2026-11", "2026-12", "2027-01", "2027-02")
    assert [station.used(month) for month in months] == [301, 2000, 2000, 2000, 2000]


def test_a_turn_that_a_small_step_repeats_is_one(station: Station) -> None:
    """A clock that is set back by seconds over the turn of a month leaves the month's start as it was."""
    station.use("2026-10-31 23:59:59", 1)
    station.use("2026-11-01 00:00:01", 10)
    station.use("2026-10-31 23:59:59", 100)
    station.use("2026-11-01 00:00:01", 1000)
    assert [station.used(month) for month in ("2026-10", "2026-11")] == [1, 1110]


def test_clock_that_was_wrong_for_a_while(station: Station) -> None:
    """A clock ahead or behind by years makes up a month that nobody asks for, and spoils no true one."""
    station.use("2026-10-05 00:00", 100)
    station.use("2099-01-01 00:00", 1)
    station.use("1970-01-02 00:00", 1)
    station.use("2026-10-06 00:00", 100)
    station.use("2026-11-05 00:00", 1000)
    assert [station.used(month) for month in ("2026-10", "2026-11")] == [202, 1000]


def test_only_owners_and_what_priced_them_are_kept(state: Path) -> None:
    """A month holds no accounts of runs, pods or GPUs."""
    clock = Clock()
    journal = Journal.open(state, "boot-1", clock)
    labels = ("FR", "static", "average", "lifecycle", "true")
    accounts = [
        Account(quantity, labels, 3, 0, True)
        for quantity in (
            *("owner_water", "grid_priced_energy", "unpriced_energy", "uncosted_energy"),
            *("run_energy", "ownerless"),
        )
    ]
    journal.commit(accounts, [])
    found = History(state).usage(month_of(clock.wall_ns), clock.wall_ns + 1)
    assert {quantity for quantity, _ in found.totals} == {
        "owner_water",
        "grid_priced_energy",
        "unpriced_energy",
        "uncosted_energy",
    }
    journal.close(clean=True)


def test_commit_that_fails_turns_no_month(station: Station) -> None:
    """The start of a month stands in the commit that made it, or not at all."""
    bad = Account("gpu_energy", ("GPU-a", "counter"), -1, 0, True)
    station.clock.wall_ns = at("2026-10-01 00:00")
    with pytest.raises(WattspanError):
        station.journal.commit([bad], [])
    station.use("2026-10-02 00:00", 100)
    usage = History(station.state).usage("2026-10", at("2026-10-03 00:00"))
    assert usage.totals == {("owner_energy", OWNER): 100}


def test_tick_that_says_when_it_was(state: Path) -> None:
    """A commit may be told its time, as a replay has it."""
    journal = Journal.open(state, "boot-1", Clock())
    journal.commit([], [], wall_ns=at("2030-01-05 00:00"))
    journal.close(clean=True)
    found = History(state).usage("2030-01", at("2030-01-06 00:00"))
    assert found.since_wall_ns == at("2030-01-05 00:00")


@settings(max_examples=40, deadline=None)
@given(uses=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 10**9)), min_size=1, max_size=30))
def test_months_sum_to_all_that_was_used(
    uses: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whenever energy flows, every joule is in exactly one month."""
    station = Station(tmp_path_factory.mktemp("months"))
    by_month: dict[str, int] = {}
    for day, energy_uj in sorted(uses):
        moment = datetime.fromtimestamp((at("2026-01-01 00:00") + day * DAY_NS) // NS_PER_S, UTC)
        station.use(f"{moment:%Y-%m-%d %H:%M}", energy_uj)
        month = f"{moment:%Y-%m}"
        by_month[month] = by_month.get(month, 0) + energy_uj
    assert {month: station.used(month) for month in by_month} == by_month
    station.journal.close(clean=True)


def test_months_are_carried(station: Station, tmp_path: Path) -> None:
    """Export and import keep them; one that is nonsense is refused by its line."""
    station.use("2026-10-05 00:00", 100)
    station.journal.close(clean=True)
    out = io.StringIO()
    export_journal(station.state, out)
    text = out.getvalue()
    import_journal(tmp_path / "here", io.StringIO(text))
    for month in ("2026-09", "2026-10"):
        now_ns = at("2026-12-01 00:00")
        assert History(tmp_path / "here").usage(month, now_ns) == History(station.state).usage(month, now_ns)
    for old, new, said in (
        ('"month":"2026-10"', '"month":"2026-09"', "month 2026-09 is there twice"),
        ('"month":"2026-10"', '"month":"2026"', "'2026' is no month"),
        ('["nlp","llama","gpu"],5]', '["nlp","llama","gpu"],-5]', "a total is"),
        ('["nlp","llama","gpu"],5]', '["nlp","llama","gpu"]]', "a total is"),
        ('"totals":[]', '"totals":{}', "totals is {}"),
        ('"months":2', '"months":1', "there should be 1 months, there are 2"),
    ):
        assert old in text
        with pytest.raises(SetupError, match=said):
            import_journal(tmp_path / "bad", io.StringIO(text.replace(old, new, 1)))
