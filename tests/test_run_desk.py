"""Commands about runs at the writer: who may write to which run; one that fails costs no metering."""

import asyncio
from collections.abc import Mapping

import pytest

from wattspan.errors import ReadError
from wattspan.journal.run_book import RunBook
from wattspan.publish.commands import (
    BeginPhase,
    BeginRun,
    Begun,
    Caller,
    Command,
    Ended,
    EndRun,
    Mailbox,
    Noted,
    ProblemReply,
    ProcessRef,
    Reply,
    Reported,
    ReportProgress,
)
from wattspan.run_desk import Job, RunDesk
from wattspan.runs import PodRef
from wattspan.units import NS_PER_S
from wattspan.workloads import run_ids
from wattspan.workloads.registry import Claim, Moment, Registry

NOW = Moment(1000 * NS_PER_S, 1_790_000_000 * NS_PER_S)

ROOT = Caller("process", pid=10, uid=0, started_ns=1)
USER = Caller("process", pid=11, uid=1000, started_ns=2)
OTHER = Caller("process", pid=12, uid=2000, started_ns=3)
POD = Caller("pod", pod_uid="u", namespaces=frozenset({"nlp"}))
TOKEN_NLP = Caller("token", namespaces=frozenset({"nlp"}))
TOKEN_NODE = Caller("token", namespaces=frozenset({""}))
TOKEN_ALL = Caller("token")


class Office:
    """A desk with its registry and mailbox, and jobs by caller in the test's hands."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.book = RunBook("node-a", "hpc", "", lambda _: {}, 900 * NS_PER_S)
        self.mailbox = Mailbox(lambda: None)
        self.jobs: dict[Caller, Job] = {}
        self.desk = RunDesk(self.registry, self.book, self.mailbox, self.job_of)
        self.journal_error = ""

    def job_of(self, caller: Caller, told: Mapping[str, str]) -> Job:
        del told
        return self.jobs.get(caller, Job())

    def ask(self, command: Command) -> Reply | ProblemReply:
        """What the client hears, after one round of the writer."""

        async def told() -> Reply | ProblemReply:
            asked = asyncio.create_task(self.mailbox.submit(command))
            await asyncio.sleep(0)
            self.desk.work(NOW)
            self.desk.answer(self.journal_error)
            return await asked

        return asyncio.run(told())


@pytest.fixture
def office() -> Office:
    return Office()


def refused(answer: Reply | ProblemReply) -> int:
    assert isinstance(answer, ProblemReply), answer
    return answer.status


def writes(run_id: str, caller: Caller) -> list[Command]:
    return [
        ReportProgress(caller, run_id, 0, steps=1),
        BeginPhase(caller, run_id, 0, "epoch"),
        EndRun(caller, run_id, 0, "success"),
    ]


def allowed(office: Office, run_id: str, caller: Caller) -> bool:
    """Whether a caller may do everything to a run, or nothing."""
    answers = [office.ask(command) for command in writes(run_id, caller)]
    if all(isinstance(answer, Reported | Noted | Ended) for answer in answers):
        return True
    assert [refused(answer) for answer in answers] == [404, 404, 404]
    return False


@pytest.mark.parametrize(
    ("caller", "may"),
    [(USER, True), (ROOT, True), (OTHER, False), (TOKEN_NODE, True), (TOKEN_ALL, True), (TOKEN_NLP, False)],
)
def test_a_run_of_a_user_is_his_and_roots(office: Office, caller: Caller, may: bool) -> None:
    """Another user does not even learn that there is such a run."""
    assert isinstance(office.ask(BeginRun(USER, "sft", process=ProcessRef(11, 2))), Begun)
    if not may:
        assert refused(office.ask(BeginRun(caller, "sft"))) in (403, 404)
    assert allowed(office, "sft", caller) is may


@pytest.mark.parametrize(
    ("caller", "job", "may"),
    [
        (POD, Job(pod=PodRef("nlp", "sft-0"), namespace="nlp"), True),
        (TOKEN_NLP, Job(), True),
        (TOKEN_NODE, Job(), False),
        (ROOT, Job(pod=PodRef("nlp", "sft-1"), namespace="nlp"), True),
        (ROOT, Job(pod=PodRef("web", "llm-0"), namespace="web"), False),
        (ROOT, Job(), True),
        (USER, Job(), False),
    ],
)
def test_a_run_of_a_namespace_is_its_own(office: Office, caller: Caller, job: Job, may: bool) -> None:
    """Root in a pod is nobody special: everybody may be root there."""
    begun = Claim(run_id="sft", namespace="nlp", uid=0, pod=PodRef("nlp", "sft-0"))
    office.book.begin(office.registry.begin(begun, NOW)[0])
    office.jobs[caller] = job
    assert allowed(office, "sft", caller) is may


def test_a_job_that_nobody_has_claimed_is_joined_by_its_own_processes(office: Office) -> None:
    """Found by the prolog's folder, so that no user is known; then it is his who joined."""
    office.book.begin(office.registry.begin(Claim(job_id="slurm:hpc:7", source="slurm"), NOW)[0])
    office.jobs[USER] = Job("slurm:hpc:7")
    assert refused(office.ask(BeginRun(OTHER, "slurm:hpc:7"))) == 404
    joined = office.ask(BeginRun(USER, name="sft", process=ProcessRef(11, 2)))
    assert isinstance(joined, Begun)
    assert (joined.created, joined.record.run.name) == (False, "sft")
    office.jobs[OTHER] = Job("slurm:hpc:7")
    assert refused(office.ask(BeginRun(OTHER))) == 404
    assert allowed(office, "slurm:hpc:7", USER)
    assert refused(office.ask(BeginRun(OTHER))) == 404, "nor does he take its next attempt"


def test_the_command_of_wattspan_run_shows_by_its_trace(office: Office) -> None:
    """In a Slurm job it joins the run that started it; any other `track()` there is a further one."""
    office.jobs[USER] = office.jobs[ROOT] = Job("slurm:hpc:7")
    office.ask(BeginRun(USER, name="python", process=ProcessRef(11, 2)))
    trace_id = run_ids.trace_id("hpc", "slurm:hpc:7", 0)
    child = BeginRun(USER, name="sft", process=ProcessRef(21, 5), parent_trace_id=trace_id)
    answer = office.ask(child)
    assert isinstance(answer, Begun)
    assert answer.record.run.run_id == "slurm:hpc:7"
    answer = office.ask(BeginRun(USER, name="eval", process=ProcessRef(22, 6)))
    assert isinstance(answer, Begun)
    assert answer.record.run.run_id == "slurm:hpc:7.2"


def test_who_ends_a_run_hears_of_it_when_its_last_energy_is_known(office: Office) -> None:
    """A card that does not answer just then is waited for, over as many ticks as it takes."""
    office.ask(BeginRun(USER, "sft"))

    async def told() -> tuple[bool, Reply | ProblemReply]:
        asked = asyncio.create_task(office.mailbox.submit(EndRun(USER, "sft", 0, "success")))
        await asyncio.sleep(0)
        office.desk.work(NOW)
        office.book.entered({}, frozenset({("sft", 0)}))
        office.desk.answer("")
        office.desk.answer("")
        await asyncio.sleep(0)
        early = asked.done()
        office.book.entered({}, frozenset())
        office.desk.answer("")
        return early, await asked

    early, answer = asyncio.run(told())
    assert not early
    assert isinstance(answer, Ended)
    assert answer.record.result == "success"


def test_what_is_not_on_disk_is_not_said_to_be_done(office: Office) -> None:
    """503, and told again it is done once."""
    office.journal_error = "disk full"
    assert refused(office.ask(BeginRun(USER, "sft"))) == 503
    office.journal_error = ""
    answer = office.ask(BeginRun(USER, "sft"))
    assert isinstance(answer, Begun)
    assert not answer.created
    assert list(office.registry.live) == ["sft"]


@pytest.mark.parametrize(
    ("error", "status"), [(ReadError("io", "too many open files"), 503), (ValueError("a fault of ours"), 500)]
)
def test_a_command_that_fails_costs_no_metering(
    office: Office, error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The writer goes on, the client hears of it, and what is our fault is in the log."""

    def job_of(*_: object) -> Job:
        raise error

    office.desk = RunDesk(office.registry, office.book, office.mailbox, job_of)
    assert refused(office.ask(BeginRun(USER, "sft"))) == status
    assert ("a fault of ours" in caplog.text) is (status == 500)
