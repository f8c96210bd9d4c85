"""Who a process is: never another that has its pid, never an error because it has ended or hides."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.machine import Clock, unprivileged
from tests.fakes.procfs import TICKS_PER_S, FakeProcfs
from wattspan.errors import ReadError
from wattspan.units import NS_PER_S
from wattspan.workloads import procfs
from wattspan.workloads.environs import MAX_HANGING, PATIENCE_S, Environs
from wattspan.workloads.processes import FORGOTTEN_AFTER_NS, MAX_DESCENDANTS, SETTLED_AFTER_NS, Processes

CONTAINER = "3f1c0a9be5d24c7788f0a6b1e2d3c4f5061728394a5b6c7d8e9f0a1b2c3d4e5f"


class World:
    """A procfs, the clocks beside it, and what looks at them."""

    def __init__(self, root: Path, children_files: bool = True) -> None:
        self.procfs = FakeProcfs(root / "proc", children_files)
        self.clock = Clock()
        self.slept_ns = 0
        self.processes = Processes(self.procfs.root, self.clock, root / "sys", lambda: self.slept_ns)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def strict_world() -> Iterator[World]:
    """Outside pytest's folders, which only their owner may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield World(Path(folder) / "host")


def test_facts_of_a_process(world: World) -> None:
    """Start, parent, real user, container, markers and CPU time, each from where the kernel tells it."""
    world.procfs.process(
        42,
        ppid=7,
        start_ticks=500 * TICKS_PER_S,
        cpu_ticks=(250, 50),
        children_cpu_ticks=(20, 10),
        cgroup=f"0::/system.slice/docker-{CONTAINER}.scope\n",
        environ=b"HOME=/root\0WATTSPAN_RUN_ID=llama\0PASSWORD=x\0",
    )
    facts = world.processes.look([42])[42]
    assert (facts.pid, facts.ppid, facts.uid) == (42, 7, 1000)
    assert facts.started_ns == 500 * NS_PER_S
    assert facts.cgroup.container_id == CONTAINER
    assert (facts.markers, facts.environ_readable) == ({"WATTSPAN_RUN_ID": "llama"}, True)
    assert (facts.cpu_ns, facts.children_cpu_ns) == (3 * NS_PER_S, NS_PER_S * 3 // 10)


@pytest.mark.parametrize("comm", ["a) R 1 (b", "tmux: server", "(sd-pam)", ") Z 0 0", "new\nline"])
def test_a_name_cannot_forge_the_fields_behind_it(world: World, comm: str) -> None:
    """A process names itself; whatever the name holds, parent and start are the kernel's."""
    world.procfs.process(42, comm=comm, ppid=7, start_ticks=1234)
    facts = world.processes.look([42])[42]
    assert (facts.ppid, facts.started_ns) == (7, 12_340_000_000)


def test_ended_processes_are_absent(world: World) -> None:
    """One that never was, one that ended between two looks, a zombie: not there, and no error."""
    world.procfs.process(42)
    world.procfs.process(43)
    assert set(world.processes.look([42, 43, 99, 0, -1])) == {42, 43}
    world.procfs.end(42)
    world.procfs.process(43, state="Z")
    assert world.processes.look([42, 43]) == {}
    assert world.processes.hidden == frozenset()
    assert world.processes.started_ns(42) is None
    assert world.processes.started_ns(43) is None


def test_who_takes_a_pid_over_in_the_middle_of_a_look_is_told_as_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start, user, container and markers are of one process, whichever of the two it is."""
    world.procfs.process(42, start_ticks=100, environ=b"WATTSPAN_RUN_ID=old\0")
    entered = procfs.entered

    def taken_over(root: Path, pid: int) -> contextlib.AbstractContextManager[int]:
        world.procfs.end(42)
        world.procfs.process(42, start_ticks=700, environ=b"WATTSPAN_RUN_ID=new\0")
        return entered(root, pid)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(procfs, "entered", taken_over)
        facts = world.processes.look([42])[42]
    assert (facts.started_ns, facts.markers) == (7 * NS_PER_S, {"WATTSPAN_RUN_ID": "new"})


@pytest.mark.parametrize("file", ["stat", "status", "cgroup", "environ"])
def test_a_process_that_ends_in_the_middle_of_a_look_is_absent(world: World, file: str) -> None:
    """Whichever of its files is gone first, the others go on to be looked at."""
    (world.procfs.process(42) / file).unlink()
    world.procfs.process(43)
    assert set(world.processes.look([42, 43])) == {43}


@pytest.mark.parametrize("torn", ["", "42 (python) S 1", "42 (python"])
def test_a_torn_stat_is_an_ended_process(world: World, torn: str) -> None:
    """The kernel may have nothing more to say of a process that vanishes."""
    (world.procfs.process(42) / "stat").write_text(torn)
    assert world.processes.look([42]) == {}


def test_a_pid_that_is_used_again_is_another_process(world: World) -> None:
    """Nothing that was remembered of the first owner is told of the second."""
    world.procfs.process(42, start_ticks=10_000, environ=b"WATTSPAN_RUN_ID=first")
    first = world.processes.look([42])[42]
    assert world.processes.alive(42, first.started_ns)
    world.procfs.process(42, start_ticks=20_000, uid=33, environ=b"WATTSPAN_RUN_ID=second")
    second = world.processes.look([42])[42]
    assert second.started_ns == first.started_ns + 100 * NS_PER_S
    assert (second.markers["WATTSPAN_RUN_ID"], second.uid) == ("second", 33)
    assert not world.processes.alive(42, first.started_ns)
    assert world.processes.alive(42, second.started_ns)


def test_what_cannot_change_is_read_once(world: World) -> None:
    """Control group and environment of a settled process are not read again; CPU time is."""
    folder = world.procfs.process(42, environ=b"WATTSPAN_RUN_ID=llama")
    world.processes.look([42])
    world.procfs.process(42, cpu_ticks=(100, 0), environ=b"")
    (folder / "environ").unlink()
    (folder / "cgroup").unlink()
    facts = world.processes.look([42])[42]
    assert facts.markers == {"WATTSPAN_RUN_ID": "llama"}
    assert facts.cpu_ns == NS_PER_S


def test_a_young_process_is_read_until_it_has_settled(world: World) -> None:
    """A runtime forks first and moves into the container afterwards."""
    born = world.clock.now_ns // NS_PER_S * TICKS_PER_S
    world.procfs.process(42, comm="runc", start_ticks=born)
    assert world.processes.look([42])[42].cgroup.container_id == ""
    world.clock.advance(1)
    scope = f"0::/system.slice/docker-{CONTAINER}.scope\n"
    world.procfs.process(42, comm="runc", start_ticks=born, cgroup=scope)
    assert world.processes.look([42])[42].cgroup.container_id == CONTAINER
    world.clock.advance(SETTLED_AFTER_NS / NS_PER_S)
    world.processes.look([42])
    world.procfs.process(42, comm="runc", start_ticks=born)
    assert world.processes.look([42])[42].cgroup.container_id == CONTAINER


def test_another_program_has_another_environment(world: World) -> None:
    """A shell that prepares for long and then executes the training keeps its pid and its start."""
    world.procfs.process(42, comm="bash", environ=b"HOME=/root")
    before = world.processes.look([42])[42]
    world.procfs.process(42, comm="python", environ=b"WATTSPAN_RUN_ID=llama")
    after = world.processes.look([42])[42]
    assert (before.markers, after.markers) == ({}, {"WATTSPAN_RUN_ID": "llama"})
    assert before.started_ns == after.started_ns


def test_a_machine_that_has_slept(world: World) -> None:
    """procfs counts sleep and CLOCK_MONOTONIC does not: starts are told on the latter, and stay as told."""
    world.slept_ns = 300 * NS_PER_S
    world.procfs.process(42, start_ticks=500 * TICKS_PER_S)
    told = world.processes.look([42])[42].started_ns
    assert told == 200 * NS_PER_S
    world.slept_ns = 8_000 * NS_PER_S
    assert world.processes.look([42])[42].started_ns == told
    assert world.processes.started_ns(42) == told


def test_sleep_ends_no_process(world: World) -> None:
    """A daemon started after the sleep computes an earlier start; that is still the same process."""
    world.procfs.process(42, start_ticks=500 * TICKS_PER_S)
    told = world.processes.look([42])[42].started_ns
    later = Processes(world.procfs.root, world.clock, slept=lambda: 8_000 * NS_PER_S)
    assert later.alive(42, told)


def test_an_environment_that_may_not_be_read(strict_world: World) -> None:
    """Without CAP_SYS_PTRACE another user's environment is closed: no markers, everything else as usual."""
    (strict_world.procfs.process(42, environ=b"WATTSPAN_RUN_ID=llama") / "environ").chmod(0)
    with unprivileged():
        facts = strict_world.processes.look([42])[42]
    assert (facts.markers, facts.environ_readable) == ({}, False)
    assert facts.uid == 1000
    assert strict_world.processes.hidden == frozenset()


def test_an_environment_that_hangs(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A process that hangs in a driver with its memory locked holds nobody up: it is waited for once.

    What was known of it stands, the others are read by another thread, and its own ends with the hang.
    """
    folder = world.procfs.process(42, environ=b"WATTSPAN_RUN_ID=llama")
    world.processes.look([42])
    (folder / "stat").write_text((folder / "stat").read_text().replace("(python)", "(other)"))
    (folder / "environ").unlink()
    os.mkfifo(folder / "environ")
    world.procfs.process(43, environ=b"WATTSPAN_RUN_ID=other")
    facts = world.processes.look([42, 43])
    assert {pid: fact.markers["WATTSPAN_RUN_ID"] for pid, fact in facts.items()} == {42: "llama", 43: "other"}
    assert not facts[42].environ_readable
    began_s = time.monotonic()
    for pid in range(50, 100):
        world.procfs.process(pid)
        assert set(world.processes.look([42, pid])) == {42, pid}
    assert time.monotonic() - began_s < 50 * PATIENCE_S / 2
    assert caplog.text.count("process 42 hangs") == 1
    hanging = [thread for thread in threading.enumerate() if thread.name == "environ"]
    (folder / "environ").write_bytes(b"")  # to the one who waits for it
    (folder / "environ").unlink()
    (folder / "environ").write_bytes(b"WATTSPAN_RUN_ID=back")
    while len([thread for thread in hanging if thread.is_alive()]) == len(hanging):
        time.sleep(0.01)
    facts = world.processes.look([42])
    assert (facts[42].markers, facts[42].environ_readable) == ({"WATTSPAN_RUN_ID": "back"}, True)


def test_environments_that_hang_do_not_pile_up_threads(world: World) -> None:
    """Beyond a number of them no other is asked for, so that a dead driver does not take the daemon along."""
    environs = Environs(patience_s=0.01)
    pids = range(50, 50 + MAX_HANGING + 3)
    folders = [world.procfs.process(pid) for pid in pids]
    for folder in folders:
        (folder / "environ").unlink()
        os.mkfifo(folder / "environ")
    before = threading.active_count()
    for pid in (*pids, *pids):
        with procfs.entered(world.procfs.root, pid) as handle, pytest.raises(TimeoutError):
            environs.read(pid, 100, handle)
    assert threading.active_count() == before + MAX_HANGING
    for folder in folders[:MAX_HANGING]:
        (folder / "environ").write_bytes(b"A=1")
    while threading.active_count() > before:
        time.sleep(0.01)
    last = world.procfs.process(42, environ=b"A=2")
    with procfs.entered(last.parent, 42) as handle:
        assert environs.read(42, 100, handle) == b"A=2"


def test_hidepid_that_refuses(strict_world: World) -> None:
    """hidepid=1 shows the pid and refuses the rest: hidden, not ended, until it can be seen."""
    folder = strict_world.procfs.process(42)
    folder.chmod(0)
    with unprivileged():
        assert strict_world.processes.look([42]) == {}
    assert strict_world.processes.hidden == {42}
    folder.chmod(0o755)
    assert set(strict_world.processes.look([42])) == {42}
    assert strict_world.processes.hidden == frozenset()


def test_hidepid_that_hides(world: World) -> None:
    """hidepid=2 leaves not even process 1: a pid that is missing there may live on."""
    world.procfs.end(1)
    assert world.processes.look([42]) == {}
    assert world.processes.hidden == {42}
    assert world.processes.alive(os.getpid(), 0)
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not world.processes.alive(ended.pid, 0)
    assert not world.processes.alive(0, 0)
    assert not world.processes.alive(-1, 0)
    assert not world.processes.alive(1 << 40, 0)


def test_nothing_is_remembered_for_ever(world: World) -> None:
    """A process that nobody asks about any more, and a hidden one, are forgotten after a while."""
    folder = world.procfs.process(42, environ=b"WATTSPAN_RUN_ID=llama")
    world.processes.look([42])
    (folder / "environ").write_bytes(b"")
    for _ in range(3):
        world.clock.advance(FORGOTTEN_AFTER_NS / NS_PER_S)
        world.processes.look([1])
    assert world.processes.look([42])[42].markers == {}
    world.procfs.end(1)
    world.processes.look([99])
    assert world.processes.hidden == {99}
    world.clock.advance(2 * FORGOTTEN_AFTER_NS / NS_PER_S)
    world.processes.look([42])
    assert world.processes.hidden == frozenset()


@contextlib.contextmanager
def no_handles() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_our_own_trouble_ends_no_process(world: World) -> None:
    """Out of file handles nothing can be said of anybody: an error, and all are taken to live on."""
    world.procfs.process(42)
    told = world.processes.look([42])[42]
    with no_handles():
        with pytest.raises(ReadError) as failure:
            world.processes.look([42])
        assert world.processes.alive(42, told.started_ns)
    assert failure.value.reason == "io"
    assert world.processes.look([42])[42] == told


@pytest.mark.parametrize("children_files", [True, False])
def test_descendants(tmp_path: Path, children_files: bool) -> None:
    """Children of children, with and without the kernel's own lists; an orphan is in nobody's tree."""
    world = World(tmp_path, children_files)
    for pid, ppid in [(10, 1), (11, 10), (12, 10), (13, 12), (14, 13), (20, 1)]:
        world.procfs.process(pid, ppid=ppid)
    assert world.processes.descendants(10) == {11, 12, 13, 14}
    assert world.processes.descendants(20) == frozenset()
    assert world.processes.descendants(99) == frozenset()
    world.procfs.end(12)
    if children_files:
        assert world.processes.descendants(10) == {11}


@pytest.mark.parametrize("children_files", [True, False])
def test_trees_that_cannot_be(tmp_path: Path, children_files: bool) -> None:
    """Pids used again while one looks can make a ring; it ends all the same."""
    world = World(tmp_path, children_files)
    world.procfs.process(10, ppid=11)
    world.procfs.process(11, ppid=10)
    assert world.processes.descendants(10) == {11}
    assert world.processes.descendants(1) == frozenset()
    assert set(world.processes.ancestors(10)) == {10, 11}


def test_a_ring_further_down(world: World) -> None:
    """Also one that a tree leads into."""
    for pid in (10, 11, 12):
        world.procfs.process(pid)
    for pid, children in [(10, "11"), (11, "12"), (12, "11")]:
        (world.procfs.root / f"{pid}/task/{pid}/children").write_text(children)
    assert world.processes.descendants(10) == {11, 12}


def test_a_fork_bomb_is_not_followed_to_its_end(world: World) -> None:
    """There is a limit to the descendants of one process."""
    thread = world.procfs.process(10) / "task/10"
    (thread / "children").write_text(" ".join(str(pid) for pid in range(1000, 1000 + 3 * MAX_DESCENDANTS)))
    assert len(world.processes.descendants(10)) == MAX_DESCENDANTS


def test_ancestors(world: World) -> None:
    """Nearest first, up to process 1; what cannot be seen ends the row."""
    for pid, ppid in [(10, 1), (11, 10), (12, 11)]:
        world.procfs.process(pid, ppid=ppid)
    assert world.processes.ancestors(12) == (11, 10, 1)
    assert world.processes.ancestors(1) == ()
    world.procfs.end(10)
    world.procfs.process(12, ppid=10)
    assert world.processes.ancestors(12) == (10,)


# The same on this machine's own procfs.


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a marker in its environment and a child that sleeps."""
    child = "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\nprint(1, flush=True)\ntime.sleep(60)"
    environment = {"WATTSPAN_RUN_ID": "real", "SECRET": "s"}
    with subprocess.Popen(
        [sys.executable, "-c", child], stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        try:
            yield parent
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def test_a_real_process(tree: subprocess.Popen[bytes]) -> None:
    """The kernel's own files are understood: start, user, environment, child."""
    processes = Processes()
    facts = processes.look([tree.pid])[tree.pid]
    assert facts.ppid == os.getpid()
    assert facts.uid == os.getuid()
    assert facts.markers == {"WATTSPAN_RUN_ID": "real"}
    # Started after this test's own process, and before now.
    own = processes.started_ns(os.getpid())
    assert own is not None
    assert own <= facts.started_ns <= time.monotonic_ns()
    (child,) = processes.descendants(tree.pid)
    assert processes.ancestors(child)[:2] == (tree.pid, os.getpid())


def test_a_real_process_that_ends(tree: subprocess.Popen[bytes]) -> None:
    """Alive, then a zombie that nobody has waited for, then gone: over from the first of the two on."""
    processes = Processes()
    started_ns = processes.look([tree.pid])[tree.pid].started_ns
    assert processes.alive(tree.pid, started_ns)
    os.kill(tree.pid, signal.SIGKILL)
    os.waitid(os.P_PID, tree.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.alive(tree.pid, started_ns)
    assert processes.look([tree.pid]) == {}
    tree.wait()
    assert not processes.alive(tree.pid, started_ns)


def test_real_cpu_time() -> None:
    """What a busy process and the children it has waited for have used agrees with what it is told itself."""
    busy = "import os\nwhile sum(os.times()[:2]) < 0.2: pass\n"
    code = f"import subprocess, sys, time\n{busy}subprocess.run([sys.executable, '-c', {busy!r}])\n"
    code += "print(*os.times()[:4], flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        user, system, children_user, children_system = map(float, process.stdout.readline().split())
        facts = Processes().look([process.pid])[process.pid]
        process.kill()
    assert 0.2 <= user + system <= facts.cpu_ns / NS_PER_S + 0.05
    assert facts.children_cpu_ns / NS_PER_S == pytest.approx(children_user + children_system, abs=0.05)


def test_starts_do_not_jitter() -> None:
    """Asked again and by others, the start of a process is the same number: it is half of its name."""
    starts = {Processes().started_ns(os.getpid()) for _ in range(200)}
    assert len(starts) == 1
