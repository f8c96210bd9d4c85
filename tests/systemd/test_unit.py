"""The unit as systemd-analyze judges it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.real_parts import need
from tests.systemd.unit import DROP_IN, UNIT, read
from wattspan import cli
from wattspan.cli.doctor import UNIT_FILE
from wattspan.cli.settings import load

EXPOSURE = 2.3
"""Upper bound of `systemd-analyze security`, of 10."""

EXPOSURE_RAPL = 2.3
"""The same with the drop-in for a user that is not root."""

WEAK = {
    *("User=/DynamicUser=", "RootDirectory=/RootImage="),  # uid 0 without capabilities, at the host's files
    *("PrivateNetwork=", "IPAddressDeny=", "RestrictAddressFamilies=~AF_(INET|INET6)"),  # it is scraped
    "RestrictAddressFamilies=~AF_UNIX",  # training processes report to it
    *("PrivateUsers=", "ProtectProc=", "ProcSubset="),  # whose a process is
    *("PrivateDevices=", "DeviceAllow="),  # GPUs and the BMC
    *("SystemCallFilter=~@resources", "SystemCallFilter=~@privileged"),  # parts of @system-service
}
"""What the exposure is made of, and why."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the unit, whose program is one that every machine has."""
    need("systemd-analyze", shutil.which("systemd-analyze") is not None)
    (tmp_path / UNIT.name).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    return tmp_path


def with_drop_in(units: Path) -> Path:
    """The unit with the drop-in beside it."""
    folder = units / f"{UNIT.name}.d"
    folder.mkdir()
    shutil.copy(DROP_IN, folder)
    return units / UNIT.name


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask systemd-analyze."""
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


def weak_points(unit: Path, threshold: float) -> dict[str, Any]:
    """Exposure by setting, where there is any; the sum must not be over the threshold."""
    security = ("security", "--offline=true", f"--threshold={threshold * 10:.0f}")
    answer = analyze(*security, "--json=short", str(unit))
    assert answer.returncode == 0, analyze(*security, "--no-pager", str(unit)).stdout
    found = json.loads(answer.stdout)
    return {each["name"]: each["exposure"] for each in found if each["exposure"]}


def test_systemd_understands_every_line(units: Path) -> None:
    """systemd-analyze verify finds nothing to say of the unit, and does of one with a misspelt setting."""
    assert analyze("verify", "--man=no", str(units / UNIT.name)).stderr == ""
    wrong = units / "wrong.service"
    wrong.write_text((units / UNIT.name).read_text().replace("ProtectHome=", "ProtectHomes="))
    assert "ProtectHomes" in analyze("verify", "--man=no", str(wrong)).stderr


def test_it_is_little_exposed(units: Path) -> None:
    """Its exposure stays under a stated bound, and no setting adds to it but those that metering asks for."""
    weak = weak_points(units / UNIT.name, EXPOSURE)
    assert set(weak) <= WEAK
    assert {"PrivateNetwork=", "ProtectProc=", "User=/DynamicUser="} <= set(weak)


def test_the_drop_in_gives_one_capability(units: Path) -> None:
    """A user that is not root has CAP_DAC_READ_SEARCH and no other, and systemd understands the drop-in."""
    unit = with_drop_in(units)
    assert analyze("verify", "--man=no", str(unit)).stderr == ""
    weak = weak_points(unit, EXPOSURE_RAPL)
    assert "UserOrDynamicUser=" not in weak
    assert {name for name in weak if "CapabilityBoundingSet" in name} == {
        "CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)"
    }


def test_its_file_is_there_before_it_starts(tmp_path: Path) -> None:
    """Without its file it stays down: the README makes one before, maybe empty, and doctor knows it."""
    service = read(UNIT)["Service"]
    assert service["ExecStart"].endswith(f" serve --config.file {UNIT_FILE}")
    readme = (UNIT.parents[2] / "README.md").read_text()
    (block,) = [text for text in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "enable --now" in text]
    assert block.index(f"touch {UNIT_FILE}\n") < block.index("systemctl enable --now wattspan\n")
    (tmp_path / "empty.yml").touch()
    assert load({"config.file": str(tmp_path / "empty.yml")}, {}).warnings == ()


def test_it_comes_back_but_for_a_mistake() -> None:
    """After a driver upgrade it exits 0, so only `always` brings it back; a wrong setting stays down."""
    service = read(UNIT)["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert service["RestartPreventExitStatus"] == str(cli.WRONG_USAGE)
