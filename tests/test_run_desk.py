"""Commands about runs at the writer: who may write to which run; one that fails costs no metering."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from wattspan import run_desk
from wattspan.errors import ReadError
from wattspan.journal.run_book import RunBook
from wattspan.publish.commands import (
    BeginRun,
    Begun,
    Caller,
    Command,
    Ended,
    EndRun,
    Mailbox,
    Noted,
    NotePhases,
    PhaseEvent,
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
SILENCE_NS = 30 * 60 * NS_PER_S

ROOT = Caller("process", pid=10, uid=0, started_ns=1)
USER = Caller("process", pid=11, uid=1000, started_ns=2)
OTHER = Caller("process", pid=12, uid=2000, started_ns=3)
POD = Caller("pod", pod_uid="u", namespaces=frozenset({"nlp"}))
TOKEN_NLP = Caller("token", namespaces=frozenset({"nlp"}))
TOKEN_NODE = Caller("token", namespaces=frozenset({""}))
TOKEN_TWO = Caller("token", namespaces=frozenset({"nlp", "vision"}))
TOKEN_ALL = Caller("token")


def later(minutes: int) -> Moment:
    passed_ns = minutes * 60 * NS_PER_S
    return Moment(NOW.ns + passed_ns, NOW.wall_ns + passed_ns)


class Office:
    """A desk with its registry and mailbox, and jobs by caller in the test's hands."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.book = RunBook("node-a", "hpc", "", lambda _: {}, 900 * NS_PER_S)
        self.mailbox = Mailbox(lambda: None)
        self.jobs: dict[Caller, Job] = {}
        self.dead: set[int] = set()
        self.desk = RunDesk(self.registry, self.book, self.mailbox, self.job_of, self.alive)
        self.journal_error = ""
        self.looks = 0
        self.now = NOW

    def job_of(self, caller: Caller, told: Mapping[str, str]) -> Job:
        del told
        return self.jobs.get(caller, Job())

    def alive(self, pid: int, started_ns: int) -> bool:
        del started_ns
        return pid not in self.dead

    def ask(self, command: Command, tick: Callable[[], None] = lambda: None) -> Reply | ProblemReply:
        """What the client hears, after one round of the writer, in which the tick does this."""

        async def told() -> Reply | ProblemReply:
            asked = asyncio.create_task(self.mailbox.submit(command))
            await asyncio.sleep(0)
            self.looks += self.desk.work(self.now)
            tick()
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
        NotePhases(caller, run_id, 0, (PhaseEvent(True, "epoch"),)),
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


def test_root_in_a_container_is_a_user_like_any_other(office: Office) -> None:
    """Nothing tells whether it is the machine's: it has its own runs, and nobody else's."""
    office.jobs[ROOT] = Job(contained=True)
    office.ask(BeginRun(USER, "sft", process=ProcessRef(11, 2)))
    office.ask(BeginRun(ROOT, "mine", process=ProcessRef(10, 1)))
    assert not allowed(office, "sft", ROOT)
    assert allowed(office, "mine", ROOT)


@pytest.mark.parametrize(
    ("caller", "job", "may"),
    [
        (POD, Job(pod=PodRef("nlp", "sft-0"), namespace="nlp"), True),
        (TOKEN_NLP, Job(), True),
        (TOKEN_NODE, Job(), False),
        (ROOT, Job(pod=PodRef("nlp", "sft-1"), namespace="nlp"), True),
        (ROOT, Job(pod=PodRef("web", "llm-0"), namespace="web"), False),
        (ROOT, Job(), True),
        (ROOT, Job(contained=True), False),
        (USER, Job(), False),
    ],
)
def test_a_run_of_a_namespace_is_its_own(office: Office, caller: Caller, job: Job, may: bool) -> None:
    """Root in a pod, or in a container of no known pod, is nobody special: everybody may be root there."""
    begun = Claim(run_id="sft", namespace="nlp", uid=0, pod=PodRef("nlp", "sft-0"))
    office.book.begin(office.registry.begin(begun, NOW)[0])
    office.jobs[caller] = job
    assert allowed(office, "sft", caller) is may


def test_a_job_that_nobody_has_claimed_is_joined_by_its_own_processes(office: Office) -> None:
    """Found by the prolog's folder, so that no user is known; then it is his who joined.

    A process that alone says that it is of the job is nobody to it.
    """
    office.book.begin(office.registry.begin(Claim(job_id="slurm:hpc:7", source="slurm"), NOW)[0])
    office.jobs[USER] = Job("slurm:hpc:7", witnessed=True)
    assert refused(office.ask(BeginRun(OTHER, "slurm:hpc:7"))) == 404
    office.jobs[OTHER] = Job("slurm:hpc:7")
    assert refused(office.ask(BeginRun(OTHER))) == 404
    joined = office.ask(BeginRun(USER, name="sft", process=ProcessRef(11, 2)))
    assert isinstance(joined, Begun)
    assert (joined.created, joined.record.run.name) == (False, "sft")
    office.jobs[OTHER] = Job("slurm:hpc:7", witnessed=True)
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


def test_a_job_counts_the_attempts_of_its_own_run_alone(office: Office) -> None:
    """A script under `wattspan run` that names its run itself has a further attempt each time."""
    office.jobs[USER] = Job("slurm:hpc:7", attempt=0)
    for attempt in range(2):
        answer = office.ask(BeginRun(USER, "exp-1", process=ProcessRef(11, 2)))
        assert isinstance(answer, Begun)
        assert answer.record.run.attempt == attempt
        office.ask(EndRun(USER, "exp-1", attempt, "success"))


STARTED_NS = NOW.ns + NS_PER_S


@pytest.mark.parametrize("own_id", ["", "exp-1"])
@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize("seen_dead", [False, True])
def test_a_killed_job_that_is_started_anew_is_the_next_attempt(
    office: Office, own_id: str, found: bool, seen_dead: bool
) -> None:
    """A loop does so within the second, before anybody has looked whether the first one lives."""
    office.jobs[USER] = Job("job")
    if found and not own_id:
        claim = Claim(job_id="job", source="environment", uid=1000)
        office.book.begin(office.registry.begin(claim, NOW)[0])
    office.ask(BeginRun(USER, own_id, name="sft", process=ProcessRef(21, NOW.ns - 1)))
    first = office.registry.find(own_id or "job")
    office.dead = {21}
    if seen_dead and first.run.source == "environment":
        first.processes = {}
    office.now = later(1)
    answer = office.ask(BeginRun(USER, own_id, name="sft", process=ProcessRef(22, STARTED_NS)))
    assert isinstance(answer, Begun)
    assert (answer.record.run.run_id, answer.record.run.attempt) == (own_id or "job", 1)
    assert first.ending is not None
    assert first.ending.result == "lost"


def test_a_run_is_not_started_anew_by_those_beside_it(office: Office) -> None:
    """While one of it lives; by one that was there before, that counts it the same, or that is foreign."""
    office.jobs[USER] = office.jobs[OTHER] = Job("job")
    for pid in (21, 22):
        office.ask(BeginRun(USER, "job", process=ProcessRef(pid, NOW.ns - 1)))
    office.dead = {21}
    office.now = later(1)
    office.ask(BeginRun(USER, "job", process=ProcessRef(23, STARTED_NS)))
    office.dead = {21, 22, 23}
    office.ask(BeginRun(USER, "job", process=ProcessRef(24, NOW.ns - 1)))
    office.dead.add(24)
    office.ask(BeginRun(USER, "job", attempt=0, process=ProcessRef(26, STARTED_NS)))
    office.dead.add(26)
    assert refused(office.ask(BeginRun(OTHER, "job", process=ProcessRef(25, STARTED_NS)))) == 404
    assert set(office.registry.live) == {"job"}
    assert office.registry.live["job"].run.attempt == 0
    assert set(office.registry.live["job"].processes) == {21, 22, 23, 24, 26}


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


def test_an_end_told_again_in_the_tick_that_forgets_the_run_is_answered(office: Office) -> None:
    """Any user may try that; the writer's thread has to go on."""
    office.ask(BeginRun(USER, "sft"))
    live = office.registry.find("sft")
    office.ask(EndRun(USER, "sft", 0, "success"))
    office.book.close(live)
    office.now = later(5)

    def forgets() -> None:
        for run in office.registry.forget(office.now.ns):
            office.book.forget(run)

    answer = office.ask(EndRun(USER, "sft", 0, "failure"), forgets)
    assert isinstance(answer, Ended)
    assert answer.record.result == "success"
    assert refused(office.ask(EndRun(USER, "sft", 0, "success"))) == 404


def test_an_answer_that_fails_costs_no_metering(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """Its client hears of a fault, and the others are answered."""
    live = office.registry.begin(Claim(run_id="sft", uid=1000), NOW)[0]
    assert refused(office.ask(EndRun(USER, "sft", 0, "success"), lambda: office.book.forget(live))) == 500
    assert "KeyError" in caplog.text
    assert isinstance(office.ask(BeginRun(USER, "eval")), Begun)


def test_what_is_not_on_disk_is_not_said_to_be_done(office: Office) -> None:
    """503, and told again it is done once."""
    office.journal_error = "disk full"
    assert refused(office.ask(BeginRun(USER, "sft"))) == 503
    office.journal_error = ""
    answer = office.ask(BeginRun(USER, "sft"))
    assert isinstance(answer, Begun)
    assert not answer.created
    assert list(office.registry.live) == ["sft"]


def test_a_pod_that_tells_its_begin_until_it_is_on_disk_begins_one_run(office: Office) -> None:
    """It has no id and no process that is seen: its key alone shows that it is the same begin."""
    office.jobs[POD] = Job(pod=PodRef("nlp", "sft-0"), namespace="nlp")
    begin = BeginRun(POD, key="01JD5A9WZX3B2M8R6N4Q7T0V1Y", name="sft")
    office.journal_error = "disk full"
    assert [refused(office.ask(begin)) for _ in range(4)] == [503] * 4
    office.journal_error = ""
    answer = office.ask(begin)
    assert isinstance(answer, Begun)
    assert not answer.created
    assert list(office.registry.live) == [answer.record.run.run_id]


@pytest.mark.parametrize(
    ("token", "said", "found"),
    [
        (TOKEN_NLP, None, "nlp"),
        (TOKEN_NLP, "nlp", "nlp"),
        (TOKEN_NLP, "web", 403),
        (TOKEN_NLP, "", 403),
        (TOKEN_TWO, "vision", "vision"),
        (TOKEN_TWO, None, 403),
        (TOKEN_TWO, "web", 403),
        (TOKEN_NODE, None, ""),
        (TOKEN_NODE, "nlp", 403),
        (TOKEN_ALL, None, ""),
        (TOKEN_ALL, "web", "web"),
    ],
)
def test_a_token_begins_runs_in_the_namespaces_that_it_names(
    office: Office, token: Caller, said: str | None, found: str | int
) -> None:
    """Its only one unless it says another; of several it has to say which."""
    answer = office.ask(BeginRun(token, "sft", namespace=said))
    if isinstance(found, int):
        assert refused(answer) == found
        assert not office.registry.live
    else:
        assert isinstance(answer, Begun)
        assert answer.record.run.namespace == found
        assert isinstance(office.ask(BeginRun(token, "sft")), Begun), "joining it needs no namespace"


@pytest.mark.parametrize("over", [False, True])
def test_a_token_takes_no_run_of_another_namespace(office: Office, over: bool) -> None:
    """Neither while it goes on nor as its next attempt."""
    office.ask(BeginRun(TOKEN_ALL, "sft", namespace="web"))
    if over:
        office.ask(EndRun(TOKEN_ALL, "sft", 0, "success"))
    assert refused(office.ask(BeginRun(TOKEN_NLP, "sft"))) == 404
    assert refused(office.ask(BeginRun(TOKEN_ALL, "sft", namespace="nlp"))) == 409
    assert set(office.registry.live) == (set() if over else {"sft"})


def test_only_a_token_names_a_namespace(office: Office) -> None:
    """A pod's and a process's is what the machine sees."""
    office.jobs[POD] = Job(pod=PodRef("nlp", "sft-0"), namespace="nlp")
    assert refused(office.ask(BeginRun(POD, "one", namespace="web"))) == 403
    assert refused(office.ask(BeginRun(USER, "two", namespace="nlp", process=ProcessRef(11, 2)))) == 403
    assert isinstance(office.ask(BeginRun(POD, "one", namespace="nlp")), Begun)


@pytest.mark.parametrize("what", range(4))
def test_a_run_of_a_token_lives_as_long_as_it_is_heard_of(office: Office, what: int) -> None:
    """Progress, a phase and a begin told again are signs of life; a refused word is none."""
    begin = BeginRun(TOKEN_ALL, "sft")
    office.ask(begin)
    office.now = later(20)
    sign = [begin, *writes("sft", TOKEN_ALL)[:2], *writes("sft", TOKEN_NLP)[:1]][what]
    office.ask(sign)
    office.registry.end_silent(later(30), SILENCE_NS)
    assert ("sft" in office.registry.live) is (what < 3)
    office.registry.end_silent(later(50), SILENCE_NS)
    assert not office.registry.live
    assert refused(office.ask(writes("sft", TOKEN_ALL)[0])) == 409


def test_what_is_refused_asks_for_no_look(office: Office) -> None:
    """Nor does progress; begin, phases and end do."""
    office.ask(BeginRun(USER, "sft", process=ProcessRef(11, 2)))
    assert office.looks == 1
    for command in writes("sft", OTHER) + writes("other", USER):
        assert refused(office.ask(command)) == 404
    assert office.looks == 1
    for command in writes("sft", USER):
        office.ask(command)
    assert office.looks == 3


@pytest.mark.parametrize("caller", [USER, ROOT, POD, TOKEN_NLP])
def test_so_many_runs_of_one_go_on_at_a_time(
    office: Office, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a user, a pod or a token; others are not kept from theirs, and what goes on is joined and ended."""
    monkeypatch.setattr(run_desk, "MAX_RUNS", 3)
    office.jobs[POD] = Job("job", pod=PodRef("nlp", "sft-0"), namespace="nlp")
    for number in range(3):
        assert isinstance(office.ask(BeginRun(caller, f"sft-{number}")), Begun)
    assert refused(office.ask(BeginRun(caller, "sft-3"))) == 429
    assert refused(office.ask(BeginRun(caller, name="sft"))) == 429
    joined = office.ask(BeginRun(caller, "sft-2"))
    assert isinstance(joined, Begun)
    assert not joined.created
    assert isinstance(office.ask(BeginRun(OTHER, "other", process=ProcessRef(12, 3))), Begun)
    assert isinstance(office.ask(EndRun(caller, "sft-0", 0, "success")), Ended)
    assert isinstance(office.ask(BeginRun(caller, "sft-3")), Begun)
    assert len(office.registry.live) == 4


def test_a_key_opens_nobody_elses_run(office: Office) -> None:
    """Ids are there for all to see: who makes a key of another's joins nothing, ended or not."""
    key = "01JD5A9WZX3B2M8R6N4Q7T0V1Y"
    assert isinstance(office.ask(BeginRun(USER, f"sft-{key}", process=ProcessRef(11, 2))), Begun)
    foreign = BeginRun(OTHER, key=key, name="sft", process=ProcessRef(12, 3))
    assert refused(office.ask(foreign)) == 404
    assert isinstance(office.ask(EndRun(USER, f"sft-{key}", 0, "success")), Ended)
    assert refused(office.ask(foreign)) == 404
    assert not office.registry.live


@pytest.mark.parametrize(
    ("error", "status"), [(ReadError("io", "too many open files"), 503), (ValueError("a fault of ours"), 500)]
)
def test_a_command_that_fails_costs_no_metering(
    office: Office, error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The writer goes on, the client hears of it, and what is our fault is in the log."""

    def job_of(*_: object) -> Job:
        raise error

    office.desk = RunDesk(office.registry, office.book, office.mailbox, job_of, office.alive)
    assert refused(office.ask(BeginRun(USER, "sft"))) == status
    assert ("a fault of ours" in caplog.text) is (status == 500)
