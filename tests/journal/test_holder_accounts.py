"""Owners: how many a node knows, and where those beyond them are counted."""

import sqlite3
from pathlib import Path

from tests.journal.test_history import Clock
from wattspan.carbon.rates import Footprint
from wattspan.journal import Account, Journal
from wattspan.journal.holder_accounts import MAX_OWNERS, OTHER_PROJECT, HolderAccounts
from wattspan.model import Charge, CounterKey
from wattspan.runs import Holder, HoldTime, PodRef

MONTH_NS = 31 * 86_400 * 10**9
FREE = Footprint(1.0, 0, (), 0.1, 1.0, 1.0, 1.0, 0)

Owner = tuple[str, str]


class Node:
    """Accounts of a node, as sums by key.

    Args:
        known: the accounts of a daemon before.
    """

    def __init__(self, known: dict[CounterKey, int | float] | None = None) -> None:
        self.totals = dict(known or {})
        self.holders = HolderAccounts(self._add, self.owners, "EUR")

    def _add(self, quantity: str, labels: tuple[str, ...], amount: int | float) -> None:
        self.totals[quantity, labels] = self.totals.get((quantity, labels), 0) + amount

    @property
    def owners(self) -> set[Owner]:
        """Those that have an account of GPU time, as the books look for them at start."""
        return {(labels[0], labels[1]) for quantity, labels in self.totals if quantity == "owner_gpu"}

    def use(self, namespace: str, project: str) -> None:
        """A pod uses a microjoule of each kind."""
        holder = Holder(pod=PodRef(namespace, "pod", "main"), project=project)
        for component in ("gpu", "cpu"):
            charge = Charge(component, "GPU-a", 1, 0, 1, "counter", holder=holder, attribution="equal")  # type: ignore[arg-type]
            self.holders.enter(charge, FREE, "lifecycle", wasted="idle_held")
        self.holders.enter_time(HoldTime(holder, "GPU-a", 1, 1, 1), 1.0)

    def used(self) -> int | float:
        """By all owners together."""
        return sum(amount for (quantity, _), amount in self.totals.items() if quantity == "owner_energy")


def test_namespaces_without_end_are_bounded_owners() -> None:
    """Beyond 200 a namespace that has no owner adds none: all of them are one, and no microjoule is lost."""
    node = Node()
    for number in range(MAX_OWNERS):
        node.use(f"pr-{number}", "")
    assert len(node.owners) == MAX_OWNERS
    assert ("", OTHER_PROJECT) not in node.owners
    for number in range(MAX_OWNERS, 3000):
        node.use(f"pr-{number}", "")
    assert len(node.owners) == MAX_OWNERS + 1
    assert node.totals["owner_gpu", ("", OTHER_PROJECT)] == 3000 - MAX_OWNERS
    assert node.used() == 2 * 3000


def test_projects_without_end_stay_in_their_namespace() -> None:
    """A namespace that has an owner keeps what its later projects use, so that its sum is whole."""
    node = Node()
    for number in range(1000):
        node.use(f"team-{number % 4}", f"project-{number}")
    assert len(node.owners) == MAX_OWNERS + 4
    assert node.totals["owner_gpu", ("team-1", OTHER_PROJECT)] == (1000 - MAX_OWNERS) / 4
    of_team = [
        amount
        for (quantity, labels), amount in node.totals.items()
        if quantity == "owner_gpu" and labels[0] == "team-1"
    ]
    assert sum(of_team) == 250


def test_bound_holds_over_a_restart() -> None:
    """The next daemon counts those it finds, and enters later ones where the first one did."""
    first = Node()
    for number in range(MAX_OWNERS + 5):
        first.use(f"pr-{number}", "")
    second = Node(first.totals)
    for number in range(MAX_OWNERS + 9):
        second.use(f"pr-{number}", "another")
    assert second.owners == first.owners | {(f"pr-{number}", OTHER_PROJECT) for number in range(MAX_OWNERS)}
    assert len(second.owners) == 2 * MAX_OWNERS + 1, "the most there can be"


def test_months_hold_no_more_owners_than_there_are(tmp_path: Path) -> None:
    """What a month begins with is a row for each account, which are bounded."""
    node, clock = Node(), Clock()
    for number in range(3000):
        node.use(f"pr-{number}", "")
    journal = Journal.open(tmp_path / "state", "boot-1", clock)
    journal.commit([Account(*key, total, 0, True) for key, total in node.totals.items()], [])
    clock.wall_ns += MONTH_NS
    journal.commit([], [])
    journal.close(clean=True)
    db = sqlite3.connect(tmp_path / "state" / "journal.db")
    (rows,) = db.execute("SELECT count(*) FROM month_total WHERE quantity = 'owner_gpu'").fetchone()
    db.close()
    assert rows == MAX_OWNERS + 1
