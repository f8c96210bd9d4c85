"""The mailbox between clients and the one writer."""

import asyncio
import threading
from http import HTTPStatus

from tests.publish.runs import record
from wattspan.publish.commands import (
    BeginRun,
    Begun,
    Caller,
    Envelope,
    Mailbox,
    Noted,
    ProblemReply,
    Reply,
)

BEGIN = BeginRun(Caller("process"))
BEGUN = Begun(record(), created=True)


def submitted(mailbox: Mailbox, count: int = 1) -> list[Reply | ProblemReply]:
    """The answers to so many commands at once."""

    async def submit() -> list[Reply | ProblemReply]:
        return await asyncio.gather(*(mailbox.submit(BEGIN) for _ in range(count)))

    return asyncio.run(submit())


def answering(mailbox: Mailbox, taken: list[Envelope]) -> None:
    """Empty the mailbox as a writer does."""
    for envelope in mailbox.take():
        taken.append(envelope)
        envelope.answer(BEGUN)


def test_an_answer_comes_back_to_its_client() -> None:
    """What the writer answers from its own thread is what the client gets."""
    taken: list[Envelope] = []
    mailbox = Mailbox(lambda: threading.Timer(0, answering, (mailbox, taken)).start())
    assert submitted(mailbox) == [BEGUN]
    assert [envelope.command for envelope in taken] == [BEGIN]


def test_two_event_loops_share_a_mailbox() -> None:
    """Commands come from the network's loop and from the local socket's, and each gets its own answer."""
    taken: list[Envelope] = []
    mailbox = Mailbox(lambda: threading.Timer(0.02, answering, (mailbox, taken)).start())
    answers: list[list[Reply | ProblemReply]] = []
    loops = [threading.Thread(target=lambda: answers.append(submitted(mailbox, 20))) for _ in range(2)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert answers == [[BEGUN] * 20] * 2
    assert len(taken) == 40


def test_the_writer_is_woken_once_until_it_looks() -> None:
    """A hundred commands at once are one reason to look, not a hundred."""
    wakes: list[None] = []
    mailbox = Mailbox(lambda: wakes.append(None), patience_s=0.05)
    submitted(mailbox, 100)
    assert len(wakes) == 1
    mailbox.take()
    submitted(mailbox)
    assert len(wakes) == 2


def test_a_full_mailbox_turns_clients_away() -> None:
    """Beyond the limit a command is refused at once with 503, and what waited is not lost."""
    mailbox = Mailbox(lambda: None, limit=2, patience_s=0.2)
    answers = submitted(mailbox, 3)
    assert [answer.status for answer in answers if isinstance(answer, ProblemReply)] == [503] * 3
    assert "too many commands" in str(answers[2])
    assert "within 0.2 s" in str(answers[0])


def test_a_command_nobody_waits_for_is_not_done() -> None:
    """A client that was told 503 before the writer looked can try again without having done it twice."""
    mailbox = Mailbox(lambda: None, patience_s=0.02)
    submitted(mailbox)
    assert mailbox.take() == []


def test_a_late_answer_harms_nobody() -> None:
    """A writer that answers after its client has gone, or answers twice, notices nothing."""
    taken: list[Envelope] = []
    mailbox = Mailbox(lambda: taken.extend(mailbox.take()), patience_s=0.02)
    (answer,) = submitted(mailbox)
    assert isinstance(answer, ProblemReply)
    taken[0].answer(Noted())
    taken[0].answer(Noted())


def test_a_closed_mailbox_refuses() -> None:
    """When the daemon stops, whoever waits is told so at once, and whoever comes too."""
    stopping = [ProblemReply(HTTPStatus.SERVICE_UNAVAILABLE, "the daemon is stopping")]
    wakes: list[None] = []

    def wake() -> None:
        wakes.append(None)
        threading.Timer(0, mailbox.close).start()

    mailbox = Mailbox(wake, patience_s=20)
    assert submitted(mailbox) == stopping
    assert submitted(mailbox) == stopping
    assert len(wakes) == 1, "nobody is woken for what is refused"
