"""What users get wrong, read as they would read it: each refusal names the thing and the mend."""

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.metering import FAST, THREE_CARDS, assert_exact, is_up, joules, metering
from tests.fakes.nvml import FakeNvml

WRONG, UNREACHABLE = 2, 3


def refusal(
    folder: Path, *flags: str, env: dict[str, str] | None = None, before: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Exit code and words of a start that must not succeed; every line is an error line."""
    python = (*before, sys.executable, "-m", "wattspan")
    with Daemon(None, folder / "state", *flags, env=env, python=python) as daemon:
        code = daemon.ended()
        assert daemon.stderr
        assert all(line.startswith("wattspan: error: ") for line in daemon.stderr.splitlines()), daemon.stderr
        return code, daemon.stderr


# Configuration


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("nvml:\n  libary: /x\n", ("unknown key 'nvml.libary'", "nvml.library", "line 2")),
        ("sample: {interval: 1 parsec}\n", ("sample.interval: '1 parsec' is not allowed", "100ms", "60s")),
        ("grid: {zone: XX}\n", ("XX", "grid.zone")),
        ("grid: [1, 2]\n", ("grid: settings by name are expected here",)),
        ("\t- : not yaml", ("is not YAML", "line 1")),
        ("a: &a [*a]\n", ("unknown key 'a'",)),
        ("\x00\x01\x02", ("is not YAML",)),
    ],
)
def test_a_settings_file_that_cannot_work(tmp_path: Path, yaml: str, said: tuple[str, ...]) -> None:
    """Key, value, line and what is allowed are named, and near matches of unknown keys."""
    file = tmp_path / "wattspan.yml"
    file.write_text(yaml)
    code, words = refusal(tmp_path, "--config.file", str(file))
    assert code == WRONG
    assert all(word in words for word in said), words


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--sample.intervall", "1s"), ("--sample.intervall", "--sample.interval")),
        (("--sample.interval", "50ms"), ("sample.interval: '50ms' is not allowed", "flag --sample.interval")),
        (
            ("--config.file", "/nowhere/wattspan.yml"),
            ("config.file", "/nowhere/wattspan.yml", "No such file"),
        ),
        (("--config.file", "/"), ("config.file", "directory")),
        (("--web.listen-address", "[::1:80"), ("web.listen-address", "[::1:80")),
        (("--grid.zone", "atlantis"), ("atlantis", "grid.zone")),
        (("--grid.pue", "0.5"), ("grid.pue: '0.5' is not allowed",)),
    ],
)
def test_a_flag_that_cannot_work(tmp_path: Path, flags: tuple[str, ...], said: tuple[str, ...]) -> None:
    """Flags are refused like the file, with near matches."""
    code, words = refusal(tmp_path, *flags)
    assert code == WRONG
    assert all(word in words for word in said), words


def test_variables_that_kubernetes_injects_do_not_disturb(tmp_path: Path) -> None:
    """A service named wattspan puts its links into our namespace of variables: the start is normal."""
    links = {
        "WATTSPAN_PORT": "tcp://10.0.0.1:9746",
        "WATTSPAN_PORT_9746_TCP": "tcp://10.0.0.1:9746",
        "WATTSPAN_SERVICE_HOST": "10.0.0.1",
        "WATTSPAN_SERVICE_PORT_HTTP": "9746",
        "WATTSPAN_SAMPEL_INTERVAL": "5s",
    }
    with metering(tmp_path, env=links) as (_, daemon):
        warnings = [line for line in daemon.stderr.splitlines() if "level=warning" in line]
        assert [line for line in warnings if "WATTSPAN_PORT" in line or "WATTSPAN_SERVICE" in line] == []
        (misspelt,) = (line for line in warnings if "WATTSPAN_SAMPEL_INTERVAL" in line)
        assert "WATTSPAN_SAMPLE_INTERVAL" in misspelt
        assert daemon.metrics().value("wattspan_source_up", source="nvidia") == 1


@pytest.mark.parametrize(
    ("missing", "flags"),
    [
        ("uvicorn", ()),
        ("prometheus_client", ()),
        ("yaml", ("--config.file", "wattspan.yml")),
        ("yaml", ("--web.config.file", "web.yml")),
        ("bcrypt", ("--web.config.file", "web.yml")),
    ],
)
def test_a_base_install_names_the_extra(tmp_path: Path, missing: str, flags: tuple[str, ...]) -> None:
    """Without the daemon's packages the extra to install is named."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    (tmp_path / "wattspan.yml").write_text("log: {level: info}\n")
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alice: {'$2b$04$' + 'a' * 53}}}\n")
    given = tuple(str(tmp_path / flag) if flag.endswith("yml") else flag for flag in flags)
    code, words = refusal(tmp_path, *given, env={"PYTHONPATH": str(site)})
    assert code == WRONG
    assert "pip install 'wattspan[daemon]'" in words


# Web configuration


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        (
            "tls_server_config: {cert_file: nowhere.pem, key_file: nowhere.key}\n",
            ("cert_file", "nowhere.pem", "No such file"),
        ),
        ("tls_server_config: {cert_file: web.yml, key_file: web.yml}\n", ("cert_file",)),
        ("tls_server_config: {cert_file: web.yml}\n", ("key_file", "missing")),
        ("tls_server_confg: {}\n", ("tls_server_confg", "tls_server_config")),
        ("basic_auth_users: {alice: secret}\n", ("alice", "bcrypt")),
        ("basic_auth_users: [alice]\n", ("basic_auth_users",)),
        ("{", ("not valid YAML",)),
    ],
)
def test_a_web_configuration_that_cannot_work(tmp_path: Path, yaml: str, said: tuple[str, ...]) -> None:
    """File and key are named; a password given in the clear is not repeated."""
    file = tmp_path / "web.yml"
    file.write_text(yaml)
    code, words = refusal(tmp_path, "--web.config.file", str(file))
    assert code == WRONG
    assert all(word in words for word in (str(file), *said)), words
    assert "secret" not in words


# NVML


def not_nvml(folder: Path) -> Path:
    with FakeNvml("idle", folder, library="not_nvml") as fake:
        return fake.library


def text_file(folder: Path) -> Path:
    path = folder / "libnvidia-ml.so.1"
    path.write_text("not a library")
    return path


def nothing(folder: Path) -> Path:
    return folder / "nowhere.so"


@pytest.mark.parametrize(
    ("library", "said"),
    [(not_nvml, "is no NVML"), (text_file, "cannot be loaded"), (nothing, "No such file")],
)
def test_a_library_that_is_no_nvml(tmp_path: Path, library: Callable[[Path], Path], said: str) -> None:
    """A library that was named and is not what it should be stops the start."""
    path = library(tmp_path)
    code, words = refusal(tmp_path, "--source.nvidia", "on", "--nvml.library", str(path))
    assert code == WRONG
    assert f"--nvml.library {path}" in words
    assert said in words


# Port and state folder


def test_a_port_in_use(tmp_path: Path) -> None:
    """Exit 3 with the port, how to find who has it, and the flag that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, words = refusal(tmp_path, "--web.listen-address", f"127.0.0.1:{port}")
    assert code == UNREACHABLE
    assert f"port {port} is in use" in words
    assert "ss -ltnp" in words
    assert "--web.listen-address" in words
    assert not (tmp_path / "state").exists(), "a start that fails leaves nothing behind"


def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    """Exit 3 with its name and the flag."""
    (tmp_path / "state").write_text("")
    code, words = refusal(tmp_path)
    assert code == UNREACHABLE
    assert f"state folder {tmp_path / 'state'}" in words
    assert "--state.dir" in words


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_state_folder_that_may_not_be_used(tmp_path: Path, mode: int) -> None:
    """Exit 3 with its name, the user and the flag."""
    (tmp_path / "state").mkdir(mode=mode)
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:  # whom no mode binds, unless these are taken away
        before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    if before and subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("setpriv(1) may not take root's capabilities away here")
    code, words = refusal(tmp_path, before=before)
    assert code == UNREACHABLE
    assert f"state folder {tmp_path / 'state'} cannot be used" in words
    assert "--state.dir" in words


def test_a_state_folder_that_another_daemon_holds(tmp_path: Path) -> None:
    """Exit 3 with the other's pid; the other one does not notice."""
    with metering(tmp_path) as (_, daemon):
        with Daemon(None, tmp_path / "state", log=tmp_path / "second.log") as second:
            assert second.ended() == UNREACHABLE
            assert f"pid {daemon.pid}" in second.stderr
            assert "--state.dir" in second.stderr
        daemon.after(2)


def in_tmpfs(folder: Path) -> tuple[str, ...]:
    """A command that runs the rest with a small file system of its own on the folder."""
    script = f'mount -t tmpfs -o size=1m none {folder} && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare(1) may not mount a tmpfs here, so no disk can be filled")
    return before


def test_a_start_on_a_full_disk(tmp_path: Path) -> None:
    """Exit 3, and the mend is to free some space."""
    (tmp_path / "state").mkdir()
    fill = ("sh", "-c", f'cat /dev/zero 2>/dev/null >{tmp_path / "state" / "ballast"}; exec "$@"', "sh")
    code, words = refusal(tmp_path, before=(*in_tmpfs(tmp_path / "state"), *fill))
    assert code == UNREACHABLE
    assert f"state folder {tmp_path / 'state'} cannot be used" in words
    assert "free some space" in words


class Tmpfs:
    """A small file system of the daemon's own, and something that takes all room on it."""

    def __init__(self, state: Path) -> None:
        self.before = in_tmpfs(state)
        self._state = state

    @contextmanager
    def full(self, pid: int) -> Iterator[None]:
        """Take all room, and what becomes free too, as a log that has gone wild does."""
        ballast = Path(f"/proc/{pid}/root", *self._state.parts[1:], "ballast")
        script = f"while :; do cat /dev/zero 2>/dev/null >>{ballast}; sleep 0.02; done"
        with subprocess.Popen(["sh", "-c", script]) as filling:
            try:
                yield
            finally:
                filling.kill()
        ballast.unlink()


class Limit:
    """No file may grow beyond 8 kB, which is more than the daemon says and less than a commit."""

    before: tuple[str, ...] = ()

    def __init__(self, state: Path) -> None:
        del state

    @contextmanager
    def full(self, pid: int) -> Iterator[None]:
        """The limit holds meanwhile; the kernel answers EFBIG."""
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        yield
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("kind", [Tmpfs, Limit])
def test_a_disk_that_fills_up_while_running_loses_nothing(tmp_path: Path, kind: type[Tmpfs | Limit]) -> None:
    """Counters hold and the gauges go on, readiness says why; with room again every joule is there."""
    state = tmp_path / "state"
    state.mkdir()
    disk = kind(state)
    python = (*disk.before, sys.executable, "-m", "wattspan")
    with (
        FakeNvml(THREE_CARDS, tmp_path) as fake,
        Daemon(fake, state, *FAST, python=python) as daemon,
    ):
        daemon.wait_ready()
        first = daemon.after(2)
        with disk.full(daemon.pid):
            full = daemon.until(lambda _: daemon.get("/-/ready").status == 503, "the full disk")
            assert "the journal cannot be written" in daemon.get("/-/ready").text
            assert '"writable":false' in daemon.get("/api/v1/node").text
            fake.set_power(0, 600)
            held = daemon.until(
                lambda scrape: scrape.value("wattspan_gpu_power_watts", uuid=fake.uuids[0]) > 500, "the gauge"
            )
            for name in ("wattspan_gpu_energy_joules_total", "wattspan_journal_commits_total"):
                assert held.series(name) == full.series(name), "counters stay at the last commit"
            assert held.value("wattspan_gpu_up", uuid=fake.uuids[0]) == 1
            errors = [line for line in daemon.stderr.splitlines() if "level=error" in line]
            assert len(errors) == 1, errors
            assert "counters stay at the last commit" in errors[0]

        daemon.until(lambda _: daemon.get("/-/ready").status == 200, "room")
        last = daemon.after(2)
        for gpu in range(3):
            assert_exact(fake, gpu, first, last)
        assert daemon.stderr.count("journal: commits again") == 1
        assert daemon.stop()[0] == 0


# The journal


def test_a_corrupt_journal_is_set_aside(tmp_path: Path) -> None:
    """The start goes on from 0, says so with the name under which the old one is kept, and keeps it."""
    with metering(tmp_path) as (_, daemon):
        daemon.stop()
        journal = tmp_path / "state" / "journal.db"
        journal.write_bytes(b"not a database " * 1000)
        daemon.start()
        daemon.wait_ready()
        kept = daemon.until_said(r"kept as (journal\.db\.corrupt-\w+)")[1]
        assert (tmp_path / "state" / kept).read_bytes().startswith(b"not a database")
        assert "every counter starts from 0" in daemon.stderr
        assert daemon.after(2).total("wattspan_gpu_energy_joules_total") > 0


def test_a_journal_of_a_newer_version_is_set_aside(tmp_path: Path) -> None:
    """After a downgrade the newer journal is kept whole, to be put back."""
    with metering(tmp_path) as (_, daemon):
        daemon.stop()
        with sqlite3.connect(tmp_path / "state" / "journal.db") as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        daemon.start()
        daemon.wait_ready()
        kept = daemon.until_said(r"version 99, .* kept as (journal\.db\.version-99-\w+)")[1]
        assert (tmp_path / "state" / kept).stat().st_size > 0


def test_kill_9_and_start(tmp_path: Path) -> None:
    """No word about it is needed: counters go on, and what was used meanwhile is counted as such."""
    with metering(tmp_path) as (fake, daemon):
        first = daemon.metrics()
        daemon.kill()
        daemon.start()
        daemon.wait_ready()
        daemon.until(is_up(fake.uuids[0]), "the cards")
        last = daemon.after(2)
        for gpu, uuid in enumerate(fake.uuids):
            assert joules(last, uuid) > joules(first, uuid)
            assert_exact(fake, gpu, first, last)
        down = last.total("wattspan_gpu_unattributed_energy_joules_total", reason="exporter_down")
        assert 0 < down < sum(joules(last, uuid) for uuid in fake.uuids)
        assert "journal" not in daemon.stderr


def test_an_interrupt_is_a_clean_stop(tmp_path: Path) -> None:
    """Ctrl-C ends it like SIGTERM."""
    with metering(tmp_path) as (_, daemon):
        os.kill(daemon.pid, signal.SIGINT)
        assert daemon.ended() == 0
        daemon.start()
        daemon.wait_ready()
        assert "journal" not in daemon.stderr
