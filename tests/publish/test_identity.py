"""Who asks: processes of this machine, pods by their address, and tokens."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.publish.runs import (
    JSON,
    POD,
    LocalConnection,
    loopback_is,
    office,
    on_socket,
    over_tcp,
    post,
    record,
)
from wattspan.errors import SetupError
from wattspan.publish.commands import BeginRun, Caller
from wattspan.publish.identity import plain_address
from wattspan.publish.tokens import TokenFile

RUNS = "/api/v1/runs"
TOKEN = "3Qv0rXxXcR6k1y2JbWmWw5nS7cY8hZ4t"

CHILD = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.readline()
child.kill()
child.wait()
"""

SPEAKER = """
import os, socket, sys
BEGIN = (
    b"POST /api/v1/runs HTTP/1.1\\r\\nContent-Type: application/json\\r\\n"
    b"Content-Length: 2\\r\\n\\r\\n{}"
)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
if os.fork():
    client.send(BEGIN)
    print(client.recv(65536).decode(), flush=True)
    os._exit(0)  # the connection lives on in the child
sys.stdin.readline()
client.send(BEGIN)
print(client.recv(65536).decode(), flush=True)
"""


@contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs until its standard input ends."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=PIPE, stdout=PIPE, text=True)
    with process:
        yield process


def words(process: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline()


def say_on(process: subprocess.Popen[str]) -> None:
    """Let a process go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


# Processes


def test_a_process_is_who_the_kernel_says(tmp_path: Path) -> None:
    """On the local socket the caller has the peer's pid, user and start time, whatever it writes."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        assert post(path, RUNS, {"uid": 0, "caller": "root"}).status == 201
        (command,) = runs.done
    assert isinstance(command, BeginRun)
    caller = command.caller
    assert (caller.kind, caller.pid, caller.uid) == ("process", os.getpid(), os.geteuid())
    assert caller.namespaces is None
    assert caller.started_ns is not None
    assert 0 < caller.started_ns < time.monotonic_ns()
    assert command.process is not None
    assert (command.process.pid, command.process.started_ns) == (caller.pid, caller.started_ns)


def test_a_process_can_claim_its_children(tmp_path: Path) -> None:
    """Itself, a child and a child's child may be named; each with its own start time."""
    with office() as runs, on_socket(runs.api, tmp_path) as path, python(CHILD) as child:
        grandchild = int(words(child))
        for pid in (os.getpid(), child.pid, grandchild):
            assert post(path, RUNS, {"pid": pid}).status == 201
        claimed = [command.process for command in runs.done if isinstance(command, BeginRun)]
        say_on(child)
    assert [process and process.pid for process in claimed] == [os.getpid(), child.pid, grandchild]
    starts = [process.started_ns for process in claimed if process]
    assert starts == sorted(starts)


def test_a_foreign_process_cannot_be_claimed(tmp_path: Path) -> None:
    """The parent, init and a pid that nobody has are 403, and nothing reaches the writer."""
    with office() as runs, on_socket(runs.api, tmp_path) as path:
        for pid in (os.getppid(), 1, 2**31, 0):
            answer = post(path, RUNS, {"pid": pid})
            assert answer.status == 403
            assert (
                f"pid {pid} is neither the calling process nor one of its children"
                in answer.document["detail"]
            )
        assert runs.done == []


def test_a_connection_does_not_outlive_its_process(tmp_path: Path) -> None:
    """A child that inherited the connection of a process that has ended is not that process."""
    with office() as runs, on_socket(runs.api, tmp_path) as path, python(SPEAKER, str(path)) as speaker:
        assert "201 Created" in words(speaker)
        speaker.wait()
        say_on(speaker)
        assert speaker.stdout is not None
        assert "403 Forbidden" in speaker.stdout.read()
    assert len(runs.done) == 1


def begin(connection: LocalConnection) -> int:
    """Begin a run on a connection that is kept; the status of the answer."""
    connection.request("POST", RUNS, b"{}", JSON)
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def procfs(folder: Path, *processes: tuple[int, list[int], list[int], int]) -> Path:
    """A /proc with these processes: pid, pids from namespace to namespace, children, start in ticks."""
    for pid, seen, children, start in processes:
        place = folder / str(pid)
        (place / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        (place / "task" / str(pid) / "children").write_text(" ".join(map(str, children)))
        (place / "status").write_text("Name:\tx\nNSpid:\t" + "\t".join(map(str, seen)) + "\n")
        fields = ["S", *(["0"] * 18), str(start), *(["0"] * 30)]
        (place / "stat").write_text(f"{pid} (a) b (c) {' '.join(fields)}\n")
    return folder


def test_a_pid_used_again_is_noticed(tmp_path: Path) -> None:
    """A process with the peer's pid and another start time is not the peer."""
    own = os.getpid()
    proc = procfs(tmp_path / "proc", (own, [own], [], 100))
    with office(procfs=proc) as runs, on_socket(runs.api, tmp_path, procfs=proc) as path:
        assert post(path, RUNS, {}).status == 201
        with closing(LocalConnection(path)) as kept:
            assert begin(kept) == 201
            procfs(proc, (own, [own], [], 101))
            assert begin(kept) == 403
            (proc / str(own) / "stat").unlink()
            assert begin(kept) == 403


def test_a_process_in_a_container_counts_in_its_own_namespace(tmp_path: Path) -> None:
    """A pid in a body is meant as the caller sees it, and found as the daemon does."""
    own = os.getpid()
    proc = procfs(
        tmp_path / "proc",
        (own, [own, 7], [900], 100),
        (900, [900, 12], [901], 110),
        (901, [901, 13, 1], [], 120),  # in a container of its own inside
    )
    with office(procfs=proc) as runs, on_socket(runs.api, tmp_path, procfs=proc) as path:
        statuses = [post(path, RUNS, {"pid": pid}).status for pid in (7, 12, 13, 1, own, 900)]
        claimed = [command.process for command in runs.done if isinstance(command, BeginRun)]
    assert statuses == [201, 201, 201, 403, 403, 403]
    assert [process and process.pid for process in claimed] == [own, 900, 901]


def test_a_swarm_of_children_is_looked_at_in_part(tmp_path: Path) -> None:
    """A caller with endless children costs a bounded number of looks."""
    own = os.getpid()
    children = list(range(100_000, 103_000))
    proc = procfs(
        tmp_path / "proc", (own, [own], children[:1], 1), *((pid, [pid], [pid + 1], 1) for pid in children)
    )
    with office(procfs=proc) as runs, on_socket(runs.api, tmp_path, procfs=proc) as path:
        assert post(path, RUNS, {"pid": children[500]}).status == 201
        assert post(path, RUNS, {"pid": children[-1]}).status == 403


# Pods


def test_a_pod_is_known_by_its_address() -> None:
    """A pod of this node writes for its own namespace, and a pid it names means nothing here."""
    with office(pods=loopback_is(POD)) as runs, over_tcp(runs.api) as port:
        assert post(port, RUNS, {"pid": 1}).status == 201
        (command,) = runs.done
    assert isinstance(command, BeginRun)
    assert command.process is None
    assert command.caller == Caller(
        "pod", name="pod nlp/sft-0", pod_uid=POD.uid, namespaces=frozenset({"nlp"})
    )
    assert command.caller.may_reach("nlp")
    assert not command.caller.may_reach("vision")
    assert not command.caller.may_reach("")


def test_an_address_of_nobody_may_not_write() -> None:
    """Whoever is no pod of this node is a 401 that says what would do; no forwarded header changes that."""
    with office(pods={"10.1.2.3": POD}.get) as runs, over_tcp(runs.api) as port:
        answer = post(port, RUNS, {}, {"X-Forwarded-For": "10.1.2.3", "Forwarded": "for=10.1.2.3"})
        assert runs.done == []
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="wattspan"'
    assert "local socket" in answer.document["detail"]


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("FD00:0::7", "fd00::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("", ""),
    ],
)
def test_an_address_has_one_form(given: str, plain: str) -> None:
    """Addresses are compared in their shortest form; IPv4 through an IPv6 socket is IPv4."""
    assert plain_address(given) == plain


# Tokens


def token_line(
    token: str = TOKEN, name: str = "ci", scopes: str = "runs:write", namespaces: str = "*"
) -> str:
    """A line of a token file."""
    return f"{name}  sha256:{hashlib.sha256(token.encode()).hexdigest()}  {scopes}  {namespaces}\n"


def bearer(token: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file with one token."""
    path = tmp_path / "tokens"
    path.write_text(f"# who may write\n\n{token_line()}")
    return path


def test_a_token_opens_writes(tokens: Path, tmp_path: Path) -> None:
    """Through either door whoever bears a token is that token, with its scopes and namespaces."""
    with office(tokens=tokens) as runs, over_tcp(runs.api) as port, on_socket(runs.api, tmp_path) as path:
        for door in (port, path):
            assert post(door, RUNS, {"pid": 1}, bearer(TOKEN)).status == 201
    for command in runs.done:
        assert command.caller == Caller("token", name="token ci", scopes=frozenset({"runs:write"}))
        assert command.caller.may_reach("nlp")


@pytest.mark.parametrize("wrong", [TOKEN[:-1], TOKEN + "x", "", "ci", "é", "Basic"])
def test_a_wrong_token_is_refused(tokens: Path, wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    """A token that is not known is a 401, also from a pod that could write without; no log repeats it."""
    caplog.set_level(logging.DEBUG)
    with office(tokens=tokens, pods=loopback_is(POD)) as runs, over_tcp(runs.api) as port:
        answer = post(port, RUNS, {}, bearer(wrong))
        assert runs.done == []
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert not wrong or len(wrong) < 10 or wrong not in caplog.text + answer.body.decode()


def test_without_a_token_file_no_token_is_right() -> None:
    """A token is refused where none is configured."""
    with office() as runs, over_tcp(runs.api) as port:
        assert post(port, RUNS, {}, bearer(TOKEN)).status == 401


def test_a_token_writes_in_its_namespaces_alone(tokens: Path) -> None:
    """Another namespace's run is a 403; a dash stands for runs outside Kubernetes."""
    tokens.write_text(token_line(namespaces="nlp,-"))
    known = [record(name, namespace=name) for name in ("nlp", "vision")] + [record("bare")]
    with office(*known, tokens=tokens) as runs, over_tcp(runs.api) as port:
        end = {"attempt": 0, "result": "success"}
        statuses = [
            post(port, f"{RUNS}/{name}/end", end, bearer(TOKEN)).status for name in ("nlp", "vision", "bare")
        ]
    assert statuses == [200, 403, 200]


def test_a_token_of_another_scope_is_refused(tokens: Path) -> None:
    """A token that is right but for something else is a 403 that names the scope."""
    tokens.write_text(token_line(scopes="records:write"))
    with office(tokens=tokens) as runs, over_tcp(runs.api) as port:
        answer = post(port, RUNS, {}, bearer(TOKEN))
    assert answer.status == 403
    assert 'error="insufficient_scope", scope="runs:write"' in answer.headers["www-authenticate"]


def test_tokens_change_without_a_restart(tokens: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new file is in force at once; a broken one leaves the former; one that goes takes them all."""
    file = TokenFile(tokens)
    other = "anotherTokenOfThirtyTwoCharacters"
    assert file.bearing(other) is None
    tokens.write_text(token_line(other, name="new"))
    found = file.bearing(other)
    assert found is not None
    assert found.name == "new"
    assert file.bearing(TOKEN) is None
    tokens.write_text("broken")
    assert file.bearing(other) is not None
    assert caplog.text.count("the former tokens stay in force") == 1
    tokens.unlink()
    assert file.bearing(other) is None
    tokens.write_text(token_line())
    assert file.bearing(TOKEN) is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ci\n", "line 1: 1 words instead of four"),
        (b"# fine\nci plainSecret runs:write *\n", "line 2: the second word is no digest"),
        (token_line(scopes="write").encode(), "'write' is no scope such as runs:write"),
        (token_line(namespaces="Nlp!").encode(), "'Nlp!' is no namespace"),
        ((token_line() + token_line(name="twin")).encode(), "line 2: this token is given twice"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_token_file_that_cannot_work_is_named(tokens: Path, content: bytes, said: str) -> None:
    """File, line and what is allowed are named, and what may be a secret is not."""
    tokens.write_bytes(content)
    with pytest.raises(SetupError) as caught:
        TokenFile(tokens)
    assert said in str(caught.value)
    assert str(tokens) in str(caught.value)
    assert "plainSecret" not in str(caught.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file stops the start."""
    with pytest.raises(SetupError, match="No such file"):
        TokenFile(tmp_path / "none")


def test_no_record_shows_a_digest(tokens: Path) -> None:
    """What might end up in a log line has no digest in it."""
    token = TokenFile(tokens).bearing(TOKEN)
    assert hashlib.sha256(TOKEN.encode()).hexdigest()[:8] not in json.dumps(repr(token))
    assert "digest" not in repr(token)
