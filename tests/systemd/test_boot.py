"""The unit under a real systemd (part of `make cleanroom`)."""

import os
import re
import shutil
import stat
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.daemon import PATIENCE_S, Scrape
from tests.fakes.collector import free_port
from tests.fakes.nvml import FakeNvml
from tests.image import clean_root
from tests.image.dockerfile import in_context
from tests.real_parts import need
from tests.systemd.booted import Booted, make_root
from tests.systemd.unit import DROP_IN, UNIT

pytestmark = pytest.mark.cleanroom

CARD: Final = "/dev/wattspan-card"
"""Where the fake driver's state stands: /dev stays writable, as a device's node would be."""


DISK: Final = "/dev/wattspan-disk"
"""A device that is none of those that the unit lets in."""

PROBE: Final = """
import mmap, os, socket
for name, attempt in {
    "memory that is written and run": lambda: mmap.mmap(-1, 4096, prot=7),
    "a socket of the kernel's": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a disk": lambda: os.open("DISK", os.O_RDONLY),
    "a new device": lambda: os.mknod("/dev/new", 0o20600, os.makedev(1, 3)),
    "a file of the system's": lambda: open("/etc/new", "w"),
    "another's file": lambda: open("/home/private"),
    "a user namespace": lambda: os.unshare(os.CLONE_NEWUSER),
    "nothing": lambda: None,
}.items():
    try:
        attempt()
    except OSError:
        continue
    print("may have", name)
""".replace("DISK", DISK)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Debian 13 with Wattspan as the README installs it, and a RAPL that is root's alone."""
    need("mmdebstrap", shutil.which("mmdebstrap") is not None)
    need("root's right to boot a root", os.geteuid() == 0)
    root = tmp_path_factory.mktemp("systemd") / "root"
    make_root(root)
    clean_root.wheels(root / "wheels", os.uname().machine)
    extras = tomllib.loads((clean_root.ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    clean_root.download(root / "wheels", os.uname().machine, *extras["systemd"])
    for path in in_context(clean_root.ROOT, clean_root.DOCKERFILE.with_name("Dockerfile.dockerignore")):
        (root / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(clean_root.ROOT / path, root / "src" / path)
    network = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    clean_root.inside(root, "python3", "-m", "venv", "/opt/wattspan")
    clean_root.inside(root, "/opt/wattspan/bin/pip", "install", "/src[daemon,systemd]", environment=network)
    zone = root / "opt/sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in {
        "name": "package-0",
        "energy_uj": "1000",
        "max_energy_range_uj": "262143328850",
    }.items():
        (zone / name).write_text(f"{text}\n")
    (zone / "energy_uj").chmod(0o400)
    yield root
    shutil.rmtree(root)


@dataclass
class Node:
    """A booted machine with one unit."""

    system: Booted
    port: int
    root: Path

    def start(self) -> None:
        """Start the unit; systemd says so when it is ready."""
        said = self.system.systemctl("start", "wattspan")
        running = self.system.show("wattspan", "SubState") == "running"
        assert (said, running) == ("", True), self.system.run("journalctl", "--no-pager", "--lines=40")

    def sources(self) -> tuple[float, float]:
        """Whether the GPU and RAPL are read."""
        scrape = self.scrape()
        return tuple(scrape.value("wattspan_source_up", source=name) for name in ("nvidia", "rapl"))  # type: ignore[return-value]

    def scrape(self) -> Scrape:
        """Its metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE_S) as answer:
            return Scrape(answer.read().decode())

    def status(self) -> Mapping[str, str]:
        """What the kernel says of the daemon's process."""
        inner = self.system.show("wattspan", "MainPID")
        text = self.system.run("cat", f"/proc/{inner}/status")
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def wait(self, name: str, value: str) -> None:
        """Until a property of the unit is this."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (now := self.system.show("wattspan", name)) != value:
            assert time.monotonic() < deadline_s, f"{name} is {now}"
            time.sleep(0.1)


@pytest.fixture
def node(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    """That root booted, with the unit, the drop-ins that the test names, and the fake driver."""
    units = root / "etc/systemd/system"
    shutil.copy(UNIT, units)
    drop_ins = units / f"{UNIT.name}.d"
    shutil.rmtree(drop_ins, ignore_errors=True)
    for left in ("var/lib/wattspan", "var/lib/private", "var/log/journal"):
        # With DynamicUser the state folder is a link into the private one.
        (root / left).unlink() if (root / left).is_symlink() else shutil.rmtree(
            root / left, ignore_errors=True
        )
    drop_ins.mkdir()
    for number, text in enumerate(getattr(request, "param", ())):
        (drop_ins / f"{number}.conf").write_text(text)
    port = free_port()
    (root / "etc/wattspan.yml").write_text(
        f"web: {{listen-address: '127.0.0.1:{port}'}}\n"
        "grid: {cloud-metadata: 'off'}\npath: {sysfs: /opt/sys}\nsource: {nvidia: 'on', rapl: 'on'}\n"
    )
    with FakeNvml("h100", tmp_path) as fake:
        fake.state_path.chmod(0o666)
        shutil.copytree(fake.library.parent, root / "opt/driver", dirs_exist_ok=True)
        (root / "etc/default").mkdir(exist_ok=True)
        (root / "etc/default/wattspan").write_text(f"LD_LIBRARY_PATH=/opt/driver\nFAKE_NVML_STATE={CARD}\n")
        block = sorted(Path("/sys/class/block").iterdir())
        need("a block device", bool(block))
        numbers = [int(number) for number in (block[0] / "dev").read_text().split(":")]
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o666, os.makedev(*numbers))
        with Booted(root, {CARD: fake.state_path, DISK: tmp_path / "disk"}) as system:
            yield Node(system, port, root)


def test_it_meters_within_all_that_the_unit_forbids(node: Node) -> None:
    """In systemd's sandbox it gets ready, meters a GPU and RAPL, keeps its journal and opens its socket."""
    node.start()
    assert node.sources() == (1, 1)
    assert node.scrape().series("wattspan_gpu_power_watts")
    status = node.status()
    assert status["Uid"].split() == ["0"] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert node.system.run("stat", "--format=%a", "/run/wattspan/wattspan.sock").strip() == "666"
    assert node.system.run("stat", "--format=%a", "/var/lib/wattspan").strip() == "700"


def test_what_the_unit_forbids_is_refused(node: Node) -> None:
    """A program in its place may open no disk, write nowhere else and run nothing that it wrote."""
    (node.root / "opt/probe.py").write_text(PROBE)
    (node.root / "home/private").write_text("")
    wanted = {"Type": "oneshot", "Restart": "no", "ExecStart": "/usr/bin/python3 /opt/probe.py"}
    text = UNIT.read_text()
    for name, value in wanted.items():
        text = re.sub(rf"(?m)^{name}=.*", f"{name}={value}", text)
    (node.root / "etc/systemd/system/probe.service").write_text(text)
    assert node.system.systemctl("start", "probe") == ""
    said = node.system.run("journalctl", "--no-pager", "--unit=probe", "--output=cat")
    assert re.findall("may have .*", said) == ["may have nothing"]


def test_it_comes_back_after_a_driver_upgrade(node: Node) -> None:
    """An exit with 0 starts it again, and its counters go on."""
    node.start()
    before = node.scrape().total("wattspan_gpu_energy_joules_total")
    node.system.systemctl("kill", "--signal=TERM", "wattspan")
    node.wait("NRestarts", "1")
    node.wait("SubState", "running")
    assert node.system.show("wattspan", "ExecMainStatus") == "0"
    assert node.scrape().total("wattspan_gpu_energy_joules_total") >= before


def test_a_mistake_in_the_configuration_stops_it(node: Node) -> None:
    """It says what is wrong in the journal, and is not started again and again."""
    (node.root / "etc/wattspan.yml").write_text("grid: {zoen: FR}\n")
    node.system.systemctl("start", "wattspan")
    node.wait("SubState", "failed")
    assert (node.system.show("wattspan", "ExecMainStatus"), node.system.show("wattspan", "NRestarts")) == (
        "2",
        "0",
    )
    assert "zoen" in node.system.run("journalctl", "--no-pager", "--unit=wattspan")


@pytest.mark.parametrize("node", [(DROP_IN.read_text(),)], indirect=True)
def test_rapl_for_a_user_that_is_not_root(node: Node) -> None:
    """With the drop-in it runs as a user of its own, with one capability, and RAPL is read."""
    node.start()
    assert node.sources() == (1, 1)
    status = node.status()
    assert "0" not in status["Uid"].split()
    assert {int(status[name], 16) for name in ("CapEff", "CapBnd")} == {1 << 2}


@pytest.mark.parametrize(
    "node",
    [(DROP_IN.read_text(), "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n")],
    indirect=True,
)
def test_without_that_capability_rapl_is_missing(node: Node) -> None:
    """It is that capability that reads RAPL: without it the GPU alone is metered."""
    node.start()
    assert node.sources() == (1, 0)


@pytest.mark.parametrize("node", [("[Service]\nCapabilityBoundingSet=CAP_SYS_PTRACE\n",)], indirect=True)
def test_one_capability_more_for_marks(node: Node) -> None:
    """The line that the README gives for marks of other users' processes adds that capability alone."""
    node.start()
    assert int(node.status()["CapEff"], 16) == 1 << 19
