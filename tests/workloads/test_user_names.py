"""Names of users: asked for off the writer's thread, and kept only where the operator wants them."""

import os
import pwd
import threading
import time
from collections.abc import Callable

import pytest

from tests.workloads.test_registry import at, claim, done, found
from wattspan.runs import PodRef
from wattspan.workloads import user_names
from wattspan.workloads.registry import Registry
from wattspan.workloads.user_names import UserNames, by_system


def name_of(names: UserNames, uid: int) -> str:
    """The name, when it is there."""
    deadline = time.monotonic() + 10
    while (name := names.of(uid)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return name


def test_a_user_is_called_as_the_system_calls_him() -> None:
    """By getpwuid; the number where nobody has a name for it, and where it is none."""
    assert name_of(UserNames(), os.getuid()) == pwd.getpwuid(os.getuid()).pw_name
    known = {entry.pw_uid for entry in pwd.getpwall()}
    unknown = next(uid for uid in range(300_000, 400_000) if uid not in known)
    assert by_system(unknown) == str(unknown)
    assert by_system(2**70) == str(2**70)


def test_a_directory_that_hangs_keeps_nobody_waiting() -> None:
    """Whoever asks goes on without the name and has it later; the directory is asked once for each user."""
    answer, asked = threading.Event(), []

    def lookup(uid: int) -> str:
        asked.append(uid)
        answer.wait(30)
        return f"user-{uid}"

    names = UserNames(lookup)
    began_s = time.monotonic()
    assert [names.of(7) for _ in range(1000)] == [None] * 1000
    assert time.monotonic() - began_s < 5
    answer.set()
    assert (name_of(names, 7), name_of(names, 8), name_of(names, 7)) == ("user-7", "user-8", "user-7")
    assert asked == [7, 8]


def test_users_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the first ones are asked for again."""
    monkeypatch.setattr(user_names, "MAX_KNOWN", 2)
    asked: list[int] = []
    names = UserNames(lambda uid: asked.append(uid) or str(uid))
    for uid in (1, 2, 3, 3, 2, 1):
        name_of(names, uid)
    assert asked == [1, 2, 3, 1]


def registry(user_of: Callable[[int], str | None] | None) -> Registry:
    return Registry(user_of=user_of)


def test_without_the_setting_no_name_is_kept() -> None:
    """A run has none, whoever began it."""
    runs = registry(None)
    live, _ = runs.begin(claim(name="sft"), at(2))
    runs.name_users()
    assert live.run.user == ""


def test_a_run_has_the_name_of_who_began_it() -> None:
    """Once it is known, on one line and cut like any other; whoever joins later changes none."""
    names: dict[int, str] = {}
    runs = registry(names.get)
    live, _ = runs.begin(claim("slurm:hpc:7", uid=1000), at(2))
    runs.name_users()
    assert live.run.user == "", "it is still looked up"
    names |= {1000: "anna\n\x1b[31m", 0: "root"}
    runs.begin(claim("slurm:hpc:7", pid=11, uid=0, handed=True), at(3))
    runs.name_users()
    assert live.run.user == "anna [31m"
    runs.end(live.run.run_id, None, done(4))
    runs.name_users()
    assert live.run.user == "anna [31m"


def test_a_run_that_was_found_has_the_name_of_its_first_process() -> None:
    """A job that a prolog told of gets its user with the first process that is seen of it."""
    runs = registry({1000: "anna"}.get)
    live, _ = runs.begin(found(), at(2))
    runs.name_users()
    assert live.run.user == ""
    runs.begin(found(uid=1000), at(3))
    runs.name_users()
    assert live.run.user == "anna"


def test_a_number_in_a_pod_is_nobody_of_this_machine() -> None:
    """Runs in pods have no user name: everybody may be root there."""
    runs = registry({0: "root"}.get)
    live, _ = runs.begin(
        claim("k8s:nlp:Job:sft:1", uid=0, namespace="nlp", pod=PodRef("nlp", "sft-0")), at(2)
    )
    runs.name_users()
    assert live.run.user == ""
