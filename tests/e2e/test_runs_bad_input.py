"""Bad input about runs: a clear answer as problem+json, nothing lost, and the daemon unharmed."""

import contextlib
import hashlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Answer, Daemon, clean_environment
from tests.e2e.metering import FAST, THREE_CARDS, metering
from tests.e2e.training import (
    RUNS,
    SEEN_S,
    Clerk,
    LocalConnection,
    gpu_joules,
    jobs_on,
    kept,
    true_joules,
    write,
)
from tests.fakes.nvml import FakeNvml
from tests.real_parts import open_to_all

BEGIN = {"run_id": "sft", "name": "llama-sft"}


def problem(answer: Answer, status: int) -> str:
    """The detail of a problem document."""
    assert answer.status == status, answer
    assert (
        answer.headers.get("content-type", answer.headers.get("Content-Type")) == "application/problem+json"
    )
    document: dict[str, Any] = json.loads(answer.body)
    assert document["status"] == status
    detail = document["detail"]
    assert isinstance(detail, str)
    assert detail
    return detail


@contextlib.contextmanager
def a_run(folder: Path, *flags: str) -> Iterator[tuple[Daemon, Clerk]]:
    """A daemon with a run that goes on, and that must be none the worse for it at the end."""
    with metering(folder, *flags) as (_, daemon):
        clerk = Clerk(daemon)
        clerk.begin(**BEGIN)
        clerk.tell("sft", "progress", steps=5)
        before = clerk.run("sft")
        yield daemon, clerk
        after = clerk.run("sft")
        changing = ("duration_seconds", "energy_joules", "co2e_grams", "missing")
        for name in changing:
            before.pop(name, None)
            after.pop(name, None)
        assert after == before
        assert clerk.end("sft")["result"] == "success"
        assert "level=error" not in daemon.stderr


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"name": NaN}', 400),
        (b"[" * 60_000, 400),
        (b'{"name": "' + b"x" * 10_000_000 + b'"}', 413),
        ({"run_id": "a/b"}, 400),
        ({"run_id": "a\nb"}, 400),
        ({"run_id": "x" * 254}, 400),
        ({"run_id": ["sft"]}, 400),
        ({"name": 7}, 400),
        ({"attempt": -1}, 400),
        ({"attempt": 1e300}, 400),
        ({"total_steps": "many"}, 400),
        ({"budget_co2e_grams": -5}, 400),
        ({"pid": "1; rm -rf /"}, 400),
    ],
)
def test_bodies_that_are_no_begin(tmp_path: Path, body: object, status: int) -> None:
    """Malformed, huge, of the wrong type or out of range: said, and nothing begins."""
    with a_run(tmp_path) as (daemon, clerk):
        problem(clerk.post(RUNS, body), status)
        assert len(json.loads(daemon.get(RUNS).body)["runs"]) == 1


@pytest.mark.parametrize(
    "run_id", ["a%2Fb", "a%0Ab", "%00", "a%20b", "-a", "%F0%9F%92%A9", "x" * 300, "..", ""]
)
def test_run_ids_that_are_none(tmp_path: Path, run_id: str) -> None:
    """A slash, control characters, other letters: one run id that is wrong, never another path."""
    with a_run(tmp_path) as (daemon, _):
        for what in ("progress", "phases", "end"):
            answer = write(LocalConnection(daemon.socket_path), f"{RUNS}/{run_id}/{what}", {"attempt": 0})
            problem(answer, 400)
        assert daemon.get(f"{RUNS}/{run_id}").status in (400, 404)


def test_runs_that_nobody_knows(tmp_path: Path) -> None:
    """404 for each; another attempt than the one that runs is 409 or 404, and an ended one 409."""
    with a_run(tmp_path) as (_, clerk):
        for what, body in (
            ("progress", {"steps": 1}),
            ("phases", {"event": "begin", "name": "epoch"}),
            ("end", {"result": "success"}),
        ):
            assert "no run other" in problem(clerk.post(f"{RUNS}/other/{what}", {"attempt": 0, **body}), 404)
            problem(clerk.post(f"{RUNS}/sft/{what}", {"attempt": 9, **body}), 404)
        clerk.begin(run_id="over")
        clerk.end("over")
        assert "has ended" in problem(clerk.post(f"{RUNS}/over/progress", {"attempt": 0, "steps": 1}), 409)
        detail = problem(clerk.post(RUNS, {"run_id": "over", "attempt": 0}), 409)
        assert "never opened again" in detail


def test_a_process_claims_only_itself_and_its_children(tmp_path: Path) -> None:
    """Neither init nor the daemon, nor a pid that is nobody's."""
    with a_run(tmp_path) as (daemon, clerk):
        for pid in (1, daemon.pid + 0, 2**22 + 1, os.getppid()):
            if pid == daemon.pid:
                continue  # a child of this test: it may be claimed
            assert "neither the calling process nor one of its children" in problem(
                clerk.post(RUNS, {"run_id": "mine", "pid": pid}), 403
            )


FOREIGN = """
import http.client, json, os, socket, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
for path, body in json.loads(sys.argv[2]):
    connection = Local("localhost")
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    print(connection.getresponse().status)
    connection.close()
"""


def test_another_user_cannot_touch_a_run(tmp_path: Path) -> None:
    """Not even with its id in hand: it is as unknown to him as any other, and he may have runs of his own."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with a_run(tmp_path) as (daemon, _):
        open_to_all(tmp_path)
        writes = [
            (RUNS, {"run_id": "sft"}),
            (RUNS, {"markers": {"WATTSPAN_RUN_ID": "sft"}}),
            (f"{RUNS}/sft/progress", {"attempt": 0, "steps": 10**6}),
            (f"{RUNS}/sft/phases", {"attempt": 0, "event": "begin", "name": "mine"}),
            (f"{RUNS}/sft/end", {"attempt": 0, "result": "failure"}),
            (RUNS, {"run_id": "own"}),
            (f"{RUNS}/own/end", {"attempt": 0, "result": "success"}),
        ]
        foreign = subprocess.run(
            [sys.executable, "-S", "-c", FOREIGN, str(daemon.socket_path), json.dumps(writes)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert foreign.stdout.split() == ["404", "404", "404", "404", "404", "201", "200"], foreign.stderr


def test_writes_over_tcp_need_a_token_that_fits(tmp_path: Path) -> None:
    """Without one, with a wrong one, without its scope, for another namespace's run: each has its answer."""

    def line(name: str, scopes: str, namespaces: str) -> str:
        return f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()} {scopes} {namespaces}\n"

    tokens = tmp_path / "tokens"
    tokens.write_text(
        line("ours", "runs:write", "-")
        + line("all", "runs:write", "*")
        + line("nlp", "runs:write", "nlp")
        + line("reader", "runs:read", "*")
    )
    tokens.chmod(0o600)
    with a_run(tmp_path, "--api.token-file", str(tokens)) as (daemon, clerk):

        def over_tcp(path: str, body: object, token: str = "") -> Answer:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return write(
                http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30), path, body, headers
            )

        progress = {"attempt": 0, "steps": 99}
        for path, body in ((RUNS, {"run_id": "tcp"}), (f"{RUNS}/sft/progress", progress)):
            problem(over_tcp(path, body), 401)
            problem(over_tcp(path, body, "wrong"), 401)
            problem(over_tcp(path, body, "reader"), 403)
        problem(over_tcp(RUNS, {"run_id": "tcp", "namespace": "web"}, "nlp"), 403)
        problem(over_tcp(RUNS, {"run_id": "tcp", "namespace": "no/name"}, "nlp"), 400)
        problem(over_tcp(f"{RUNS}/sft/progress", progress, "nlp"), 404)
        problem(over_tcp(RUNS, {"run_id": "sft"}, "nlp"), 404)
        assert over_tcp(RUNS, {"run_id": "theirs"}, "nlp").status == 201
        assert clerk.run("theirs")["namespace"] == "nlp"
        problem(over_tcp(f"{RUNS}/theirs/progress", progress, "ours"), 404)
        assert over_tcp(f"{RUNS}/theirs/end", {"attempt": 0, "result": "success"}, "nlp").status == 200
        assert over_tcp(RUNS, {"run_id": "tcp"}, "all").status == 201
        assert over_tcp(f"{RUNS}/tcp/end", {"attempt": 0, "result": "success"}, "ours").status == 200
        assert clerk.run("tcp")["result"] == "success"


def test_a_client_that_says_nothing_more_is_not_waited_for(tmp_path: Path) -> None:
    """Half a head, half a body, a hundred of them: others are answered meanwhile."""
    with a_run(tmp_path) as (daemon, clerk), contextlib.ExitStack() as stack:
        for number in range(100):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(daemon.socket_path))
            begun = b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\n"
            body = b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"run_id"'
            client.sendall(begun + (body if number % 2 else b""))
        clerk.begin(run_id="other")
        clerk.end("other")


@contextlib.contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """No file of the daemon may grow beyond 8 kB: less than a commit."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


TRACKS = """
import wattspan
with wattspan.track("sft", wait_s=60) as run:
    input()
"""


def test_a_begin_that_is_told_until_there_is_room_is_one_run(tmp_path: Path) -> None:
    """In a pod, where the client makes no id: four answers of 503 and more, and no ghost beside the run."""
    with metering(tmp_path) as (_, daemon):
        env = {"WATTSPAN_SOCKET": str(daemon.socket_path), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        with full_disk(daemon.pid):
            daemon.until(lambda _: daemon.get("/-/ready").status == 503, "the full disk")
            job = subprocess.Popen(
                [sys.executable, "-c", TRACKS],
                env={**clean_environment(tmp_path), **env},
                stdin=subprocess.PIPE,
                text=True,
            )
            time.sleep(4)  # the client waits half a second, then twice as long each time
        daemon.until(lambda _: daemon.get("/-/ready").status == 200, "room")
        job.communicate("\n", timeout=90)
        assert job.returncode == 0
        runs = json.loads(daemon.get(RUNS).body)["runs"]
        assert [(run["run_name"], run["state"], run["result"]) for run in runs] == [
            ("sft", "ended", "success")
        ]


def test_a_full_disk_while_a_run_is_on(tmp_path: Path) -> None:
    """What is told is 503 until there is room, and then everything is there: energy, progress and the end."""
    state = tmp_path / "state"
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        jobs_on(fake) as jobs,
        Daemon(fake, state, *FAST) as daemon,
    ):
        clerk = Clerk(daemon.wait_ready())
        pid = jobs.start(0)
        time.sleep(SEEN_S)
        clerk.begin(run_id="sft", pid=pid)
        clerk.tell("sft", "progress", steps=0)
        with full_disk(daemon.pid):
            daemon.until(lambda _: daemon.get("/-/ready").status == 503, "the full disk")
            for path, body in (
                (f"{RUNS}/sft/progress", {"attempt": 0, "steps": 50}),
                (f"{RUNS}/sft/end", {"attempt": 0, "result": "success"}),
                (RUNS, {"run_id": "next", "pid": pid}),
            ):
                answer = write(LocalConnection(daemon.socket_path), path, body)
                assert "not yet on disk" in problem(answer, 503)
                assert answer.headers["Retry-After" if "Retry-After" in answer.headers else "retry-after"]
        daemon.until(lambda _: daemon.get("/-/ready").status == 200, "room")
        final = clerk.end("sft")
        assert (final["result"], final["progress"]["steps"]) == ("success", 50)
        record = kept(state, "sft")
        true_j = true_joules(fake, (0,), record.began_wall_ns, record.ended_wall_ns or 0)
        assert gpu_joules(record) == pytest.approx(true_j, abs=300 * 0.2)
        assert clerk.begin(run_id="next", pid=pid)["attempt"] == 0
        assert clerk.end("next")["result"] == "success"
