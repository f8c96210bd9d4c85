"""IPMI DCMI: the question as the kernel's own header lays it out, and what a BMC may answer.

The real ioctl call runs in a subprocess against tests/fakes/bmc.c, which is compiled with <linux/ipmi.h>.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from wattspan.devices.ipmi import IpmiSource, parse_power_uw
from wattspan.errors import NotHereError, ReadError

FAKE = Path(__file__).parents[1] / "fakes" / "bmc.c"
HEADER = Path("/usr/include/linux/ipmi.h")

STORY = """
import json, os, sys
from pathlib import Path
from wattspan.devices.ipmi import IpmiSource
from wattspan.errors import WattspanError

folder = Path(os.environ["BMC_FOLDER"])
now_ns = 0
source = IpmiSource(folder / "ipmi0", 0.2, lambda: now_ns)
try:
    seen = [source.open()]
    for now_ns, watts in ((1, 999), (9_999_999_999, 999), (10_000_000_000, 450)):
        answer = bytearray((folder / "answer").read_bytes())
        answer[2:4] = watts.to_bytes(2, "little")
        (folder / "answer").write_bytes(answer)
        (platform,) = source.read().platforms
        seen.append([platform.sensor, platform.read_at_ns, platform.power_uw])
except WattspanError as error:
    seen = [type(error).__name__, getattr(error, "reason", ""), str(error)]
source.close()
json.dump(seen, sys.stdout)
"""


BUSY_STORY = """
import json, os, sys
from pathlib import Path
from wattspan.devices.ipmi import IpmiSource
from wattspan.errors import ReadError

folder = Path(os.environ["BMC_FOLDER"])
now_ns = 0
source = IpmiSource(folder / "ipmi0", 0.2, lambda: now_ns)
seen = [source.open()]
good = (folder / "answer").read_bytes()
for now_s in range(5, 45):
    now_ns = now_s * 1_000_000_000
    (folder / "answer").write_bytes(good if now_s >= 30 else bytes([0xC0]))
    try:
        seen.append(source.read().platforms[0].power_uw)
    except ReadError as error:
        seen.append([error.reason, error.detail])
source.close()
json.dump(seen, sys.stdout)
"""


def answer(watts: int, *, code: int = 0, state: int = 0x40) -> bytes:
    """Get Power Reading's reply as DCMI 1.5 table 6-16 lays it out."""
    head = bytes([code, 0xDC])
    return head + struct.pack("<4H2I", watts, 100, 900, 350, 1_700_000_000, 1_000) + bytes([state])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake BMC, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not HEADER.exists():
        missing = f"no {HEADER} (Debian: linux-libc-dev)" if compiler else "no C compiler"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    path = tmp_path_factory.mktemp("bmc") / "libbmc.so"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", "-o", str(path), str(FAKE)]
    subprocess.run([*command, "-ldl"], check=True, timeout=60)
    return path


def tell(folder: Path, library: Path, story: str = STORY, **environment: str) -> list[object]:
    """Runs a story in a process of its own and returns what it saw."""
    environment |= {"LD_PRELOAD": str(library), "BMC_FOLDER": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", story],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        timeout=60,
    )
    seen: list[object] = json.loads(done.stdout)
    return seen


def test_bmc_is_asked_every_ten_seconds_and_repeated_in_between(tmp_path: Path, library: Path) -> None:
    """One question serves ten seconds, and a repeated answer keeps the time at which it was true."""
    (tmp_path / "ipmi0").touch()
    (tmp_path / "answer").write_bytes(answer(420))
    assert tell(tmp_path, library) == [
        "ipmi-dcmi-0: 420 W",
        ["ipmi-dcmi-0", 0, 420_000_000],
        ["ipmi-dcmi-0", 0, 420_000_000],
        ["ipmi-dcmi-0", 10_000_000_000, 450_000_000],
    ]
    assert (tmp_path / "questions").read_text() == "2c 02 dc 01 00 00\n" * 2


def test_bmc_that_answers_with_errors_is_asked_no_more_often(tmp_path: Path, library: Path) -> None:
    """Its slow bus is spared while it is busy (completion code C0h); each look in between fails alike."""
    (tmp_path / "ipmi0").touch()
    (tmp_path / "answer").write_bytes(answer(420))
    failed = ["driver", "the BMC answers with completion code C0h"]
    assert tell(tmp_path, library, BUSY_STORY) == [
        *("ipmi-dcmi-0: 420 W", *[420_000_000] * 5),
        *([failed] * 20),
        *([420_000_000] * 15),
    ]
    assert (tmp_path / "questions").read_text().count("\n") == 5


def test_late_answer_to_an_older_question_is_thrown_away(tmp_path: Path, library: Path) -> None:
    """Only the reply that carries the question's number is believed."""
    (tmp_path / "ipmi0").touch()
    (tmp_path / "answer").write_bytes(answer(420))
    assert tell(tmp_path, library, BMC_LATE="1")[0] == "ipmi-dcmi-0: 420 W"


def test_bmc_without_dcmi_is_not_here(tmp_path: Path, library: Path) -> None:
    """Completion code C1h, invalid command: this machine has no such reading."""
    (tmp_path / "ipmi0").touch()
    (tmp_path / "answer").write_bytes(bytes([0xC1]))
    kind, _, text = tell(tmp_path, library)
    assert kind == "NotHereError"
    assert "C1h" in str(text)


def test_bmc_that_never_answers_times_out(tmp_path: Path, library: Path) -> None:
    """A silent BMC costs its own worker a bounded wait."""
    os.mkfifo(tmp_path / "ipmi0")  # opens for reading and writing, and never has anything to read
    (tmp_path / "answer").write_bytes(answer(420))
    assert tell(tmp_path, library)[:2] == ["ReadError", "timeout"]


def test_driver_errors_are_translated(tmp_path: Path) -> None:
    """A file that knows no IPMI answers ENOTTY: an io failure, not a crash."""
    (tmp_path / "ipmi0").touch()
    with pytest.raises(ReadError) as caught:
        IpmiSource(tmp_path / "ipmi0").open()
    assert caught.value.reason == "io"


def test_no_device_is_not_here(tmp_path: Path) -> None:
    """Without /dev/ipmi0 the source is absent."""
    with pytest.raises(NotHereError, match="No such file"):
        IpmiSource(tmp_path / "ipmi0").open()


def test_read_before_open_is_an_error_of_ours(tmp_path: Path) -> None:
    """A source that was closed says so instead of touching descriptor 0."""
    with pytest.raises(ReadError):
        IpmiSource(tmp_path / "ipmi0").read()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (bytes([0xC1]), "unsupported"),
        (bytes([0xC0]), "driver"),
        (b"", "malformed"),
        (answer(420)[:18], "malformed"),
        (answer(420, state=0), "unsupported"),
        (answer(0), "unsupported"),
    ],
)
def test_replies_without_a_reading_give_none(reply: bytes, reason: str) -> None:
    """An error, a short reply, an inactive meter and 0 W are reasons, never 0 W."""
    with pytest.raises(ReadError) as caught:
        parse_power_uw(reply)
    assert caught.value.reason == reason


def test_watts_become_microwatts() -> None:
    """The current power is the first of the four figures, little endian."""
    assert parse_power_uw(answer(0x1234)) == 0x1234 * 1_000_000
