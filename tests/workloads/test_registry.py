"""The life of runs: who joins what, what is a further run and what a new attempt, and how progress counts."""

from dataclasses import replace

import pytest

from wattspan.runs import MAX_COUNT, Phase, PodRef, Progress
from wattspan.units import NS_PER_S
from wattspan.workloads import registry as registry_module
from wattspan.workloads.registry import (
    KEEP_ENDED_NS,
    MAX_KEYS,
    MAX_OPEN_PHASES,
    NAMED_AFTER_NS,
    Claim,
    Ending,
    LastAttempt,
    Moment,
    RefusedError,
    Registry,
    Told,
)

WALL_S = 1_790_000_000


def at(seconds: float) -> Moment:
    ns = round(seconds * NS_PER_S)
    return Moment(ns, WALL_S * NS_PER_S + ns)


def claim(job_id: str = "", pid: int = 10, started_s: float = 1, **more: object) -> Claim:
    """What a `track()` of a process claims."""
    facts: dict[str, object] = {
        "process": (pid, round(started_s * NS_PER_S)),
        "uid": 1000,
        "since_wall_ns": at(started_s).wall_ns,
    }
    return Claim(job_id=job_id, **(facts | more))  # type: ignore[arg-type]


def found(job_id: str = "slurm:hpc:7", since_s: float = 1, **more: object) -> Claim:
    """What the daemon claims by itself for a job that it sees."""
    facts: dict[str, object] = {"source": "slurm", "since_wall_ns": at(since_s).wall_ns} | more
    return Claim(job_id=job_id, **facts)  # type: ignore[arg-type]


def done(seconds: float) -> Ending:
    return Ending(at(seconds), "success")


# Ids


def test_a_run_without_a_job_has_an_id_of_its_name() -> None:
    """``<name>-<ULID>``, with what no id may hold replaced; two runs of one name are two."""
    registry = Registry()
    first, created = registry.begin(claim(name="llama sft/1"), at(2))
    second, _ = registry.begin(claim(name="llama sft/1"), at(2))
    assert created
    assert first.run.run_id.startswith("llama-sft-1-")
    assert first.run.name == "llama sft/1"
    assert first.run.run_id != second.run.run_id
    assert set(registry.live) == {first.run.run_id, second.run.run_id}


def test_a_begin_that_is_told_twice_begins_once() -> None:
    """With the id that the client made, and in a job by the same process and name."""
    registry = Registry()
    mine = claim(run_id="mine", name="sft")
    first, created = registry.begin(mine, at(2))
    again, created_again = registry.begin(mine, at(3))
    assert (created, created_again) == (True, False)
    assert again is first
    in_job = claim("slurm:hpc:7", name="sft")
    first, _ = registry.begin(in_job, at(2))
    assert registry.begin(in_job, at(3)) == (first, False)
    assert set(registry.live) == {"mine", "slurm:hpc:7"}


KEY = "01JD5A9WZX3B2M8R6N4Q7T0V1Y"


@pytest.mark.parametrize("job_id", ["", "k8s:nlp:JobSet:sft:1a2b3c4d"])
def test_a_begin_told_again_with_its_key_begins_nothing_more(job_id: str) -> None:
    """Of a pod, of which no process is known, and whether or not it has a job; another key is another run."""
    registry = Registry()
    pod = Claim(job_id=job_id, key=KEY, name="sft", namespace="nlp", pod=PodRef("nlp", "sft-0"))
    first, created = registry.begin(pod, at(2))
    assert (first.run.run_id, created) == (job_id or f"sft-{KEY}", True)
    for second in (3, 4):
        assert registry.begin(pod, at(second)) == (first, False)
    other, created = registry.begin(replace(pod, key=KEY[:-1] + "Z"), at(5))
    assert created
    assert set(registry.live) == {first.run.run_id, other.run.run_id}


def test_a_begin_told_again_once_its_job_is_known_is_still_the_same() -> None:
    """The pod was not in the kubelet's list yet when it was told first."""
    registry = Registry()
    first, _ = registry.begin(claim(key=KEY, name="sft"), at(2))
    assert registry.begin(claim("k8s:nlp:Job:sft:1a2b3c4d", key=KEY, name="sft"), at(8)) == (first, False)
    registry.end(first.run.run_id, None, done(9))
    again, created = registry.begin(claim(key=KEY, name="sft"), at(10))
    assert (again.run.run_id, again.run.attempt, created) == (first.run.run_id, 1, True)


def test_keys_of_a_run_do_not_pile_up() -> None:
    """A process that begins the same run for ever fills no memory."""
    registry = Registry()
    for number in range(3 * MAX_KEYS):
        live, _ = registry.begin(claim(run_id="sft", key=f"key-{number}"), at(2))
    assert len(live.keys) == MAX_KEYS
    assert registry.claimed_with(f"key-{3 * MAX_KEYS - 1}") is live


def test_track_joins_the_run_that_its_job_is() -> None:
    """Its name becomes the run's; what the job said of the project stays."""
    registry = Registry()
    job, _ = registry.begin(found(name="job.sh", project="nlp"), at(2))
    joined, created = registry.begin(
        claim("slurm:hpc:7", name="llama-sft", project="x", group="sweep"), at(3)
    )
    assert joined is job
    assert not created
    assert (job.run.name, job.run.project, job.run.group, job.run.source) == (
        "llama-sft",
        "nlp",
        "sweep",
        "slurm",
    )
    assert job.processes == {10: NS_PER_S}


def test_a_name_that_was_published_changes_no_more() -> None:
    """A `track()` that comes after half a minute joins, and the run keeps its name."""
    registry = Registry()
    job, _ = registry.begin(found(name="job.sh"), at(2))
    late = at(2 + NAMED_AFTER_NS / NS_PER_S)
    assert not job.named(at(3).wall_ns)
    assert job.named(late.wall_ns)
    registry.begin(claim("slurm:hpc:7", name="llama-sft", project="nlp"), late)
    assert (job.run.name, job.run.project) == ("job.sh", "")


def test_a_further_track_of_a_job_is_a_further_run() -> None:
    """``<id>.2``, ``.3``: at once in the same process, in another one, and when told twice once only."""
    registry = Registry()
    registry.begin(claim("job", name="train"), at(2))
    second, created = registry.begin(claim("job", name="evaluate"), at(3))
    assert (second.run.run_id, second.run.attempt, created) == ("job.2", 0, True)
    assert registry.begin(claim("job", name="evaluate"), at(4)) == (second, False)
    third, _ = registry.begin(claim("job", pid=11, name="train"), at(5))
    assert third.run.run_id == "job.3"


@pytest.mark.parametrize("attempt", [None, 0, 3])
def test_a_further_track_after_the_end_of_the_first(attempt: int | None) -> None:
    """One script that trains twice: the second is no new attempt, since its process was there before."""
    registry = Registry()
    for number, run_id in enumerate(("job", "job.2", "job.3")):
        run, _ = registry.begin(claim("job", name="train", attempt=attempt), at(2 + 2 * number))
        assert (run.run.run_id, run.run.attempt) == (run_id, attempt or 0)
        registry.end(run_id, run.run.attempt, done(3 + 2 * number))


def test_a_process_that_began_later_is_a_new_attempt() -> None:
    """Slurm requeues a job, a script is run again: one more than the last ended attempt."""
    registry = Registry()
    registry.begin(claim("job"), at(2))
    registry.end("job", 0, done(3))
    again, _ = registry.begin(claim("job", pid=20, started_s=4), at(5))
    assert (again.run.run_id, again.run.attempt) == ("job", 1)


def test_the_command_of_wattspan_run_joins_it() -> None:
    """`wattspan run` claims for itself and hands the id down; its command's first `track()` is that run."""
    registry = Registry()
    run, _ = registry.begin(claim(run_id="mine", name="python"), at(2))
    child = claim("mine", pid=11, name="llama-sft", attempt=0)
    assert registry.begin(child, at(3)) == (run, False)
    further, _ = registry.begin(replace(child, name="evaluate"), at(4))
    assert further.run.run_id == "mine.2"


def test_the_command_of_wattspan_run_in_a_slurm_job_joins_it_too() -> None:
    """There `wattspan run` is the job's first `track()`; its command shows by its trace that it is of it."""
    registry = Registry()
    run, _ = registry.begin(claim("slurm:hpc:7", name="python"), at(2))
    child = claim("slurm:hpc:7", pid=11, name="llama-sft", handed=True)
    assert registry.begin(child, at(3)) == (run, False)
    assert registry.begin(replace(child, name="evaluate"), at(4))[0].run.run_id == "slurm:hpc:7.2"


# Attempts


def test_an_ended_attempt_is_never_opened_again() -> None:
    """Neither by its number nor without one; what comes next is one more."""
    registry = Registry()
    registry.begin(claim(run_id="sft"), at(2))
    registry.end("sft", 0, done(3))
    with pytest.raises(RefusedError, match="never opened again") as refused:
        registry.begin(claim(run_id="sft", attempt=0), at(4))
    assert refused.value.status == 409
    assert registry.begin(claim(run_id="sft"), at(4))[0].run.attempt == 1


def test_attempts_that_an_earlier_daemon_knew_count() -> None:
    """As the journal has them."""
    registry = Registry(last={"sft": LastAttempt(4, at(1).wall_ns)})
    assert registry.begin(claim(run_id="sft"), at(2))[0].run.attempt == 5


def test_a_later_attempt_takes_the_place_of_the_one_that_runs() -> None:
    """Both are told: the first as lost, the second as live."""
    registry = Registry()
    first, _ = registry.begin(found(attempt=0), at(2))
    second, created = registry.begin(found(attempt=1), at(3))
    assert created
    assert registry.live == {"slurm:hpc:7": second}
    assert registry.ended == {("slurm:hpc:7", 0): first}
    assert first.ending == Ending(at(3), "lost")


def test_what_is_left_of_an_earlier_attempt_ends_no_later_one() -> None:
    """A pod of the attempt before, seen while it terminates."""
    registry = Registry()
    registry.begin(found(attempt=0), at(2))
    second, _ = registry.begin(found(attempt=1), at(3))
    with pytest.raises(RefusedError) as refused:
        registry.begin(found(attempt=0), at(4))
    assert refused.value.status == 409
    assert registry.live == {"slurm:hpc:7": second}


def test_what_was_there_when_a_run_ended_begins_no_new_attempt() -> None:
    """The script goes on after its `track()`: its process is seen, and no run is made up for it."""
    registry = Registry()
    registry.begin(found(since_s=1), at(2))
    registry.begin(claim("slurm:hpc:7"), at(3))
    registry.end("slurm:hpc:7", 0, done(5))
    with pytest.raises(RefusedError):
        registry.begin(found(since_s=1), at(6))
    assert registry.begin(found(since_s=6), at(7))[0].run.attempt == 1


# Progress


def progressed(registry: Registry, *steps: int, attempt: int | None = None) -> Progress:
    for step in steps:
        registry.progress("sft", attempt, Told(steps=step))
    return registry.find("sft", attempt).progress


def test_the_first_progress_of_an_attempt_is_a_baseline() -> None:
    """A run that resumed elsewhere at step 500 has not made 500 steps here."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft", total_steps=1000), at(2))
    registry.progress("sft", 0, Told(steps=500, samples=64_000))
    assert (live.counted("steps"), live.counted("samples"), live.counted("tokens")) == (0, 0, 0)
    registry.progress("sft", 0, Told(steps=510, samples=65_280, tokens=7, loss=1.5))
    assert (live.counted("steps"), live.counted("samples"), live.counted("tokens")) == (10, 1280, 0)
    assert live.progress == Progress(510, 65_280, 7, 1000, 1.5)
    assert live.before == {"steps": 500, "samples": 64_000, "tokens": 7}


def test_a_run_that_begins_at_nothing_counts_everything() -> None:
    """Its first progress is 0."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft"), at(2))
    progressed(registry, 0, 100)
    assert live.counted("steps") == 100


def test_a_resume_holds_the_counter_and_counts_what_is_repeated() -> None:
    """Back from 100 to 80: twenty steps are made again, and counting goes on beyond 100."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft"), at(2))
    assert progressed(registry, 0, 100, 80, 90) == Progress(steps=100, repeated_steps=10)
    assert live.repeating
    assert progressed(registry, 130) == Progress(steps=130, repeated_steps=20)
    assert not live.repeating


def test_repeated_steps_stay_a_count_however_often_they_are_repeated() -> None:
    """Up to the largest step and back again, for ever: the sum ends where counts end."""
    registry = Registry()
    registry.begin(claim(run_id="sft"), at(2))
    assert progressed(registry, *(0, MAX_COUNT) * 3).repeated_steps == MAX_COUNT


def test_a_next_attempt_goes_on_with_the_counters_of_the_run() -> None:
    """It resumed from a checkpoint; what it makes again is repeated, and its own part is told apart."""
    registry = Registry()
    registry.begin(claim(run_id="sft", total_steps=200), at(2))
    progressed(registry, 0, 100)
    registry.end("sft", 0, Ending(at(3), "failure"))
    live, _ = registry.begin(claim(run_id="sft"), at(4))
    assert (live.progress.steps, live.progress.total_steps, live.before) == (100, 200, {"steps": 100})
    assert progressed(registry, 60, 120, attempt=1).repeated_steps == 40
    assert live.counted("steps") == 120


@pytest.mark.parametrize("minutes", [4, 6, 600])
def test_a_resume_is_one_however_late_it_comes(minutes: int) -> None:
    """A job that waited in the queue: what it makes again is repeated, and counting goes on beyond it."""
    registry = Registry()
    registry.begin(claim(run_id="sft", total_steps=9000), at(0))
    progressed(registry, 0, 5000, 4900, 5000)
    registry.end("sft", 0, Ending(at(100), "failure"))
    later = at(100 + 60 * minutes)
    registry.forget(later.ns)
    live, _ = registry.begin(claim(run_id="sft"), later)
    before = live.counted("steps")
    assert progressed(registry, 4000, 4500, 5000, 5500, attempt=1) == Progress(5500, 0, 0, 9000, None, 1100)
    assert live.counted("steps") - before == 500
    assert (live.before, live.repeated_before) == ({"steps": 5000}, 100)


# Silence


@pytest.mark.parametrize(
    ("begun", "ends"),
    [
        (Claim(run_id="sft"), True),
        (Claim(run_id="sft", namespace="nlp", pod=PodRef("nlp", "sft-0")), False),
        (claim(run_id="sft"), False),
        (found("sft"), False),
    ],
)
def test_only_a_run_of_which_nothing_is_seen_ends_of_silence(begun: Claim, ends: bool) -> None:
    """Processes and pods tell by themselves when they end, however quiet they are."""
    registry = Registry()
    live, _ = registry.begin(begun, at(0))
    for second in (100, 1899):
        registry.end_silent(at(second), 1800 * NS_PER_S)
        assert live.ending is None
    registry.end_silent(at(1900), 1800 * NS_PER_S)
    assert live.ending == (Ending(at(1900), "lost") if ends else None)
    assert (live.run.run_id in registry.live) is not ends


# Phases


def test_phases_are_told_when_they_end() -> None:
    """One that is open stays as it began; one that is not open is passed over; the run's end closes all."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft"), at(2))
    registry.begin_phase("sft", 0, "epoch", 0, at(3))
    registry.begin_phase("sft", 0, "epoch", 0, at(4))
    registry.begin_phase("sft", 0, "warm-up", None, at(4))
    registry.end_phase("sft", 0, "epoch", 1, at(5))
    registry.end_phase("sft", 0, "epoch", 0, at(6))
    assert live.closed_phases == [Phase("epoch", 0, at(3).wall_ns, at(6).wall_ns)]
    registry.end("sft", 0, done(9))
    assert live.closed_phases[1:] == [Phase("warm-up", None, at(4).wall_ns, at(9).wall_ns)]
    assert live.open_phases == {}


def test_no_phase_begins_before_its_run_or_ends_before_it_begins() -> None:
    """A client's clock may be wrong."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft"), at(100))
    registry.begin_phase("sft", 0, "epoch", 0, at(1))
    registry.end_phase("sft", 0, "epoch", 0, at(50))
    assert live.closed_phases == [Phase("epoch", 0, at(100).wall_ns, at(100).wall_ns)]


def test_phases_that_never_end_fill_no_memory() -> None:
    """Beyond so many no further one is opened."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft"), at(2))
    for index in range(10 * MAX_OPEN_PHASES):
        registry.begin_phase("sft", 0, "epoch", index, at(3))
    assert len(live.open_phases) == MAX_OPEN_PHASES


# Ends


def test_ending_a_run_once_more_changes_nothing() -> None:
    """The client may tell it twice; another result that comes late is not believed."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft"), at(2))
    assert registry.end("sft", 0, done(3)) is live
    assert registry.end("sft", 0, Ending(at(4), "failure")) is live
    assert live.ending == done(3)


def test_ending_an_earlier_attempt_leaves_the_later_one() -> None:
    """Its client was slow; attempt 1 goes on."""
    registry = Registry()
    registry.begin(claim(run_id="sft"), at(2))
    registry.end("sft", 0, done(3))
    later, _ = registry.begin(claim(run_id="sft"), at(4))
    assert registry.end("sft", 0, done(5)).run.attempt == 0
    assert later.ending is None


@pytest.mark.parametrize(
    ("run_id", "attempt", "status"), [("other", 0, 404), ("sft", 7, 409), ("over", 0, 409)]
)
def test_what_cannot_be_written_to_is_said(run_id: str, attempt: int, status: int) -> None:
    """A run that nobody knows is another refusal than one that is over or at another attempt."""
    registry = Registry()
    registry.begin(claim(run_id="sft"), at(2))
    registry.begin(claim(run_id="over"), at(2))
    registry.end("over", 0, done(3))
    with pytest.raises(RefusedError) as refused:
        registry.progress(run_id, attempt, Told(steps=1))
    assert refused.value.status == status
    with pytest.raises(RefusedError) as refused:
        registry.begin_phase(run_id, attempt, "epoch", 0, at(4))
    assert refused.value.status == status


def test_a_finished_run_is_known_for_five_minutes() -> None:
    """Then it is let go of, and of its attempts the last number stays."""
    registry = Registry()
    live, _ = registry.begin(claim(run_id="sft"), at(2))
    registry.end("sft", 0, done(3))
    ended_ns = at(3).ns
    assert registry.forget(ended_ns + KEEP_ENDED_NS - 1) == []
    assert registry.find("sft") is live
    assert registry.forget(ended_ns + KEEP_ENDED_NS) == [live]
    with pytest.raises(RefusedError):
        registry.find("sft")
    assert registry.begin(claim(run_id="sft", pid=20), at(400))[0].run.attempt == 1


def test_what_is_remembered_of_old_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that ended longest ago is forgotten first."""
    monkeypatch.setattr(registry_module, "MAX_REMEMBERED", 2)
    registry = Registry()
    for number, run_id in enumerate(("a", "b", "c")):
        registry.begin(claim(run_id=run_id), at(2 + number))
        registry.end(run_id, 0, done(2 + number))
    registry.forget(at(10_000).ns)
    assert registry.begin(claim(run_id="c"), at(10_001))[0].run.attempt == 1
    assert registry.begin(claim(run_id="a"), at(10_001))[0].run.attempt == 0


def test_a_run_that_is_remembered_no_more_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago its attempts have ended, none is opened again; it is asked for as seldom as can be."""
    monkeypatch.setattr(registry_module, "MAX_REMEMBERED", 2)
    journal = {"a": LastAttempt(7, at(1).wall_ns)}
    asked: list[str] = []

    def recall(run_id: str) -> LastAttempt | None:
        asked.append(run_id)
        return journal.get(run_id)

    registry = Registry(recall=recall)
    registry.begin(claim(run_id="b"), at(2))
    registry.end("b", 0, done(3))
    assert asked == [], "nothing is forgotten yet"
    registry.begin(claim(run_id="c"), at(2))
    registry.end("c", 0, done(3))
    for _ in range(2):
        with pytest.raises(RefusedError):
            registry.begin(claim(run_id="a", attempt=7), at(4))
    assert asked == ["a"]
    assert registry.begin(claim(run_id="a"), at(4))[0].run.attempt == 8
    assert registry.begin(claim(run_id="new"), at(4))[0].run.attempt == 0


# Who is of it


def test_ranks_of_a_node_are_one_run() -> None:
    """Every rank's begin joins; that of rank 0 makes this node the one that tells."""
    registry = Registry()
    run, _ = registry.begin(claim(run_id="sft", pid=11, rank_zero=False), at(2))
    registry.begin(claim(run_id="sft", pid=10, rank_zero=True, total_steps=50), at(3))
    registry.begin(claim(run_id="sft", pid=12, rank_zero=False), at(4))
    assert list(registry.live) == ["sft"]
    assert set(run.processes) == {10, 11, 12}
    assert run.run.rank_zero
    assert run.progress.total_steps == 50


def test_a_pod_is_told_once_with_its_container() -> None:
    """The API knows the pod, the kubelet its container as well."""
    registry = Registry()
    known, full = PodRef("nlp", "sft-0"), PodRef("nlp", "sft-0", "main")
    for first, second in ((known, full), (full, known)):
        run, _ = registry.begin(claim(run_id=f"{first}", pod=first), at(2))
        registry.begin(claim(run_id=f"{first}", pod=second), at(2))
        assert run.pods == {full}


def test_names_are_made_safe() -> None:
    """One line, no control characters, cut at 200."""
    registry = Registry()
    run, _ = registry.begin(claim(run_id="sft", name="a\nb\x1b[31m" + "x" * 500, project="\u202enlp"), at(2))
    assert run.run.name.startswith("a b[31mxxx")
    assert len(run.run.name) == 200
    assert run.run.project == "nlp"


def test_every_change_of_who_is_there_is_counted() -> None:
    """The resolver looks anew when this goes up: begin, join, end; progress and phases are none."""
    registry = Registry()
    registry.begin(claim(run_id="sft"), at(2))
    registry.begin(claim(run_id="sft", pid=11), at(2))
    before = registry.changes
    registry.progress("sft", 0, Told(steps=1))
    registry.begin_phase("sft", 0, "epoch", 0, at(3))
    assert registry.changes == before == 2
    registry.end("sft", 0, done(4))
    assert registry.changes == 3
