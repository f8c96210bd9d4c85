"""The image as the Dockerfile makes it, replayed in a clean root (`make cleanroom`, about a minute)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.fakes.nvml import FakeNvml
from tests.image import clean_root
from tests.image.container import contained
from tests.image.dockerfile import Stage
from tests.real_parts import need, open_to_all
from wattspan import __version__

pytestmark = pytest.mark.cleanroom

SHELLS = {"sh", "bash", "dash", "ash", "busybox", "rbash"}
WRITABLE = {"/var/lib/wattspan": None, "/run/wattspan": None}
LIBRARIES = "/usr/local/nvidia/lib64"
"""Where the driver's library is put: a folder that the loader's cache does not know of."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The last stage, built once."""
    need("mmdebstrap", shutil.which("mmdebstrap") is not None)
    need("root's right to make a root", os.geteuid() == 0)
    folder = tmp_path_factory.mktemp("image")
    open_to_all(folder)
    yield clean_root.image(folder)
    shutil.rmtree(folder)


def words(image: Stage, mounts: dict[str, Path | None]) -> tuple[str, ...]:
    """What starts the image's entry point, in the image's environment."""
    return (
        *contained(image.root, image.user[0], {**WRITABLE, **mounts}, image.environment),
        *image.entrypoint,
    )


def python(image: Stage, code: str) -> str:
    """Run code with the image's Python; gives what it printed."""
    done = subprocess.run(
        [*contained(image.root, image.user[0], WRITABLE, image.environment), "python3", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_in_it_that_a_daemon_does_not_need(image: Stage) -> None:
    """No shell, no pip, no compiler, and nothing with a set-user-id bit; the size is printed."""
    programs = {file.name for file in image.root.rglob("*") if os.access(file, os.X_OK) and file.is_file()}
    assert not programs & (SHELLS | {"pip", "pip3", "gcc", "apt-get", "dpkg"})
    assert not list((image.root / "opt").rglob("pip"))
    raised = [
        file for file in image.root.rglob("*") if not file.is_symlink() and file.stat().st_mode & 0o6000
    ]
    # Debian's base-files gives these folders to a group; distroless has them the same way.
    assert [file for file in raised if file.is_file()] == []
    whole, ours = clean_root.mebibytes(image.root), clean_root.mebibytes(image.root / "opt/wattspan")
    print(f"\nfile system {whole:.0f} MiB, of it wattspan and what it installs {ours:.0f} MiB")
    assert whole < 150
    assert ours < 60


def test_every_module_is_compiled(image: Stage) -> None:
    """On a read-only root each start would compile: every module has byte code that is never checked."""
    code = """
import importlib.util, pathlib, sys
for source in pathlib.Path("/opt/wattspan/lib").rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(source))
    head = compiled.read_bytes()[:8] if compiled.exists() else b""
    if head != importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little"):
        print(source)
"""
    assert python(image, code) == ""


def test_compiled_libraries_load(image: Stage) -> None:
    """Each C library that is locked finds what it needs in a base without a package manager."""
    modules = [
        "bcrypt",
        "grpc",
        "httptools",
        "pynvml",
        "sqlite3",
        "ssl",
        "yaml",
        "zoneinfo",
        "google._upb._message",
    ]
    exporters = [f"opentelemetry.exporter.otlp.proto.{way}.trace_exporter" for way in ("http", "grpc")]
    code = f"for name in {[*modules, *exporters]}: __import__(name)\n"
    code += "import wattspan; print(wattspan.__version__)"
    assert python(image, code).split() == [__version__]
    assert python(image, "import zoneinfo; print(zoneinfo.ZoneInfo('Europe/Paris'))").split() == [
        "Europe/Paris"
    ]


def test_the_daemon_meters_a_gpu_there_as_nobody(image: Stage, tmp_path: Path) -> None:
    """Its entry point runs as the image's user, without a capability, on a root that it may not write to."""
    open_to_all(tmp_path)
    with FakeNvml("h100", tmp_path) as fake:
        fake.state_path.chmod(0o666)
        # The fake's state stands where a driver has its device.
        mounts = {LIBRARIES: fake.library.parent, "/opt/card": fake.state_path}
        library = {"FAKE_NVML_STATE": "/opt/card"}
        flags = (
            "--source.nvidia",
            "on",
            "--state.dir",
            "/var/lib/wattspan",
            "--socket",
            "/run/wattspan/w.sock",
        )
        daemon = Daemon(
            None, tmp_path / "state", *flags, env=library, command=image.command, python=words(image, mounts)
        )
        with daemon:
            scrape = daemon.wait_ready().after(ticks=2)
            status = Path(f"/proc/{daemon.pid}/status").read_text()
            root = Path(f"/proc/{daemon.pid}/root")
            journal = list((root / "var/lib/wattspan").iterdir())
            mount = Path(f"/proc/{daemon.pid}/mountinfo").read_text()
            code, _ = daemon.stop()
    assert code == 0
    assert scrape.value("wattspan_source_up", source="nvidia") == 1
    assert {dict(labels)["uuid"] for labels in scrape.series("wattspan_gpu_power_watts")} == set(fake.uuids)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(clean_root.NONROOT)] * 4
    assert fields["Groups"].split() == []
    assert (fields["NoNewPrivs"], int(fields["CapEff"], 16), int(fields["CapPrm"], 16)) == ("1", 0, 0)
    assert journal
    own = [line for line in mount.splitlines() if f" {image.root} " in line or line.split()[4] == "/"]
    assert all(line.split()[5].startswith("ro") for line in own)


def test_the_demo_runs_there(image: Stage, tmp_path: Path) -> None:
    """`docker run IMAGE demo` has living metrics, with nothing mounted but what it writes to."""
    flags = ("--state.dir", "/var/lib/wattspan", "--socket", "/run/wattspan/wattspan.sock")
    demo = Daemon(None, tmp_path / "state", *flags, command=("demo",), python=words(image, {}))
    with demo:
        scrape = demo.wait_ready().after(ticks=2)
    assert scrape.total("wattspan_node_power_watts") > 0


def test_without_a_state_folder_it_says_so(image: Stage) -> None:
    """On a read-only root without a volume it exits 3 and names the folder: no counter is kept in vain."""
    start = (*contained(image.root, image.user[0], {}, image.environment), *image.entrypoint, *image.command)
    done = subprocess.run(
        [*start, "--web.listen-address", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "/var/lib/wattspan" in done.stderr


def test_labels_say_what_it_is(image: Stage) -> None:
    """Version, commit, licence and base are in the labels, as OCI names them."""
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.labels.items()}
    assert (labels["version"], labels["revision"], labels["licenses"]) == (
        __version__,
        "0" * 40,
        "Apache-2.0",
    )
    assert labels["base.name"] == image.base


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_locked_package_has_a_wheel_for_both_architectures(tmp_path: Path, machine: str) -> None:
    """Nothing is compiled in the image: the lock has a wheel of glibc for each package, for either."""
    clean_root.wheels(tmp_path, machine)
    names = [file.name for file in tmp_path.iterdir()]
    assert {name.rpartition(".")[2] for name in names} == {"whl"}
    compiled = [name for name in names if not name.endswith("-none-any.whl")]
    assert compiled
    assert all(machine in name for name in compiled)
    print(f"\n{machine}: {len(names)} wheels, {len(compiled)} of them compiled")
