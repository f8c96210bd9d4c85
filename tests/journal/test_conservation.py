"""The ledger's law over random histories: nothing is created, nothing is lost, nothing goes back.

The real ledger, books and SQLite journal go through ticks, gaps, driver reloads, failed reads, scrapes,
kills, clean restarts and reboots, against a card whose true energy is known.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.ledger.readings import UUID, gpu, look, snapshot
from wattspan.carbon.pricing import Pricing
from wattspan.carbon.rates import Rates
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.marks import pasts
from wattspan.journal.store import Journal
from wattspan.ledger.ledger import Ledger
from wattspan.model import GridState, Intensity, LedgerView
from wattspan.units import NS_PER_S, UJ_PER_J, UJ_PER_KWH

INTENSITY = Intensity(400, None, None, "XX", "static", "average", "lifecycle", True)
GRID = GridState(INTENSITY, 0, 1.25, True)
RATES = Rates(Pricing((INTENSITY,), 1.25))
MICROJOULES = st.integers(0, 700 * UJ_PER_J)


class Node(RuleBasedStateMachine):
    """One GPU, one daemon after another."""

    @initialize()
    def boot_and_start(self) -> None:
        """A fresh state folder; the card has a lifetime behind it that must never be charged."""
        self.folder = Path(tempfile.mkdtemp())
        self.boot = 1
        self.now_s = 100
        self.counter_uj = 5_000_000 * UJ_PER_J
        self.true_uj = 0  # what must have been charged, since the journal began
        self.unread_uj = 0  # of it, what the card has used since its counter was last read
        self.forgotten_uj = 0  # of it, what an unclean reboot took out of the published values
        self.seen = False
        self.high: dict[tuple[str, tuple[str, ...]], float] = {}
        self.start()
        self.tick(0)

    def start(self) -> None:
        """Another daemon on the same folder."""
        self.journal = Journal.open(self.folder, f"boot-{self.boot}")
        self.board = Board()
        self.books = Books(self.journal, self.board)
        self.ledger = Ledger(NS_PER_S, pasts(self.journal.restored.baselines))
        self.sequence = 0

    def tick(self, energy_uj: int, pids: frozenset[int] = frozenset()) -> None:
        """A look one second later, the card having used this much."""
        self.counter_uj += energy_uj
        self.true_uj += energy_uj if self.seen else 0
        self.seen = True
        self.look(self.counter_uj, pids)

    def look(
        self, counter_uj: int | None, pids: frozenset[int] = frozenset(), *, has_energy_counter: bool = True
    ) -> None:
        self.now_s += 1
        self.sequence += 1
        joules = None if counter_uj is None else counter_uj / UJ_PER_J
        self.unread_uj = 0 if counter_uj is not None else self.unread_uj
        card = gpu(has_energy_counter=has_energy_counter)
        reading = look(self.now_s, joules, watts=300, pids=pids, card=card)
        if counter_uj is not None:
            object.__setattr__(reading, "energy_uj", counter_uj)
        self.books.take(self.ledger.apply(snapshot(self.sequence, reading)), RATES, GRID)

    @rule(energy_uj=MICROJOULES, busy=st.booleans())
    def use(self, energy_uj: int, busy: bool) -> None:
        """An ordinary second."""
        self.tick(energy_uj, frozenset({42}) if busy else frozenset())

    @rule(energy_uj=MICROJOULES)
    def miss_the_counter(self, energy_uj: int) -> None:
        """The field fails; the card goes on."""
        self.counter_uj += energy_uj
        self.true_uj += energy_uj
        self.unread_uj += energy_uj
        self.look(None)

    @rule(minutes=st.integers(1, 600), energy_uj=st.integers(0, 60 * 700 * UJ_PER_J))
    def fall_silent(self, minutes: int, energy_uj: int) -> None:
        """No look for a long time."""
        self.now_s += 60 * minutes
        self.tick(energy_uj)

    @rule(energy_uj=MICROJOULES)
    def reload_the_driver(self, energy_uj: int) -> None:
        """The counter starts anew; what it shows since is certain."""
        if self.counter_uj - self.unread_uj > energy_uj:
            self.counter_uj = 0
            self.lose_what_was_not_read()
        self.tick(energy_uj)

    def lose_what_was_not_read(self) -> None:
        """A counter that starts anew takes with it what nobody had read."""
        self.true_uj -= self.unread_uj
        self.unread_uj = 0

    @rule()
    def scrape(self) -> None:
        """Prometheus sees the newest view."""
        self.board.scraped(self.board.view.sequence, 0)

    @rule(energy_uj=MICROJOULES)
    def kill(self, energy_uj: int) -> None:
        """kill -9, and another daemon on the same boot; the card works on meanwhile."""
        self.journal.close(clean=False)
        self.now_s += 3
        self.counter_uj += energy_uj
        self.true_uj += energy_uj
        self.start()
        self.tick(0)

    @rule(energy_uj=MICROJOULES)
    def stop_and_start(self, energy_uj: int) -> None:
        """SIGTERM, then another daemon on the same boot."""
        self.books.close()
        self.now_s += 3
        self.counter_uj += energy_uj
        self.true_uj += energy_uj
        self.start()
        self.tick(0)

    @rule(seconds=st.integers(1, 3))
    def do_without_the_counter(self, seconds: int) -> None:
        """One daemon finds no counter and integrates power; the next finds it, which has gone on."""
        self.books.close()
        self.lose_what_was_not_read()
        self.start()
        self.look(None, has_energy_counter=False)
        for _ in range(seconds):
            self.counter_uj += 300 * UJ_PER_J
            self.true_uj += 300 * UJ_PER_J
            self.look(None, has_energy_counter=False)
        self.books.close()
        self.start()
        self.tick(0)

    @rule(clean=st.booleans(), energy_uj=MICROJOULES)
    def reboot(self, clean: bool, energy_uj: int) -> None:
        """Counter and clock start anew; after an unclean one, published counters start at exactly 0."""
        self.lose_what_was_not_read()
        if clean:
            self.books.close()
        else:
            self.journal.close(clean=False)
            self.forgotten_uj = self.true_uj
            self.high.clear()
        self.boot += 1
        self.now_s = 100
        self.counter_uj = energy_uj
        self.true_uj += energy_uj
        self.start()
        self.tick(0)

    @precondition(lambda self: self.board.view.sequence > 0)
    @invariant()
    def shares_sum_to_the_device(self) -> None:
        """In every view, to the microjoule."""
        view = self.board.view
        energy = of(view, "gpu_energy")
        shares = of(view, "gpu_attributed_energy")
        assert sum(energy.values()) == sum(shares.values()) == view.counters["node_energy"].get((), 0)
        assert sum(of(view, "gpu_unattributed_energy").values()) == shares["unattributed"]

    @precondition(lambda self: self.board.view.sequence > 0)
    @invariant()
    def nothing_goes_back(self) -> None:
        """No counter is below a value that a view has shown."""
        for quantity, values in self.board.view.counters.items():
            for labels, value in values.items():
                assert value >= self.high.get((quantity, labels), 0), (quantity, labels)
                self.high[quantity, labels] = value

    @precondition(lambda self: self.board.view.sequence > 0)
    @invariant()
    def every_joule_is_there_once(self) -> None:
        """What is published is the truth up to the last read; until a scrape has seen it, it is held at 0."""
        published = sum(of(self.board.view, "gpu_energy").values())
        assert published in (0, self.true_uj - self.unread_uj - self.forgotten_uj)

    def teardown(self) -> None:
        """The last look settles everything: the books hold the truth, priced once."""
        if not hasattr(self, "journal"):
            return
        self.tick(0)
        kept_uj = sum(value for key, value in self.books.totals.items() if key[0] == "gpu_energy")
        assert kept_uj == self.true_uj
        grams = sum(value for key, value in self.books.totals.items() if key[0] == "gpu_co2e")
        assert grams == pytest.approx(self.true_uj / UJ_PER_KWH * 1.25 * 400)
        self.books.close()
        shutil.rmtree(self.folder)


def of(view: LedgerView, quantity: str) -> dict[str, float]:
    """A quantity of the one GPU by its second label."""
    return {labels[1]: value for labels, value in view.counters[quantity].items() if labels[0] == UUID}


TestNode = Node.TestCase
TestNode.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
