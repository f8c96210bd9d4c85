"""The wiring of runs: what happens to them by time alone, on clocks that the test hands in."""

import asyncio
import time
from pathlib import Path

from tests.ledger.readings import snapshot
from wattspan.client.courier import ALIVE_S
from wattspan.config import SETTINGS, Config
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.store import Journal
from wattspan.publish.commands import BeginRun, Caller
from wattspan.run_service import RunService
from wattspan.units import NS_PER_S


def test_a_run_of_a_token_is_lost_after_the_silence_that_is_set(tmp_path: Path) -> None:
    """Nothing of it is seen on this node, and its client has vanished."""
    config = Config(
        state_dir=tmp_path / "state", kubelet_dir=tmp_path / "none", api_silence_ns=1200 * NS_PER_S
    )
    journal = Journal.open(config.state_dir, "boot-1")
    board = Board()
    service = RunService(config, journal, board, lambda: None, export=False)
    service.serve(Books(journal, board, "", service.keeper))

    async def begin() -> None:
        asked = asyncio.create_task(service.mailbox.submit(BeginRun(Caller("token"), "sft")))
        await asyncio.sleep(0)
        service.mail()
        service.committed("")
        await asked

    asyncio.run(begin())
    now_s = time.monotonic()
    for number, (passed_s, busy) in enumerate(((0, True), (1190, True), (1210, False)), start=1):
        service.holdings(snapshot(number, at_s=now_s + passed_s))
        assert service.busy is busy
    service.stop(1)
    journal.close(clean=True)


def test_no_silence_that_can_be_set_is_shorter_than_our_own_client_s() -> None:
    """A training that has nothing to tell says every five minutes that it is there."""
    silence = SETTINGS["api.silence"]
    assert silence.kind.parse("10m") >= 2 * ALIVE_S * NS_PER_S
    try:
        silence.kind.parse("9m")
    except ValueError:
        return
    raise AssertionError("9m is allowed")
