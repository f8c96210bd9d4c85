"""`wattspan doctor` on machines that have something, nothing, or something broken."""

import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Answer, Wattspan
from tests.fakes import grid_answers, grid_service
from wattspan.cli import doctor as doctor_command
from wattspan.cli import main

OFF = [word for name in ("nvidia", "amd", "ipmi") for word in (f"--source.{name}", "off")]
"""Sources that this machine may really have; the others look below the folder that they are given."""


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """An empty sysfs."""
    path = tmp_path / "sys"
    path.mkdir()
    return path


@pytest.fixture
def with_rapl(sysfs: Path) -> Path:
    """A sysfs with one CPU package in powercap."""
    zone = sysfs / "class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in {
        "name": "package-0",
        "energy_uj": "123456",
        "max_energy_range_uj": "262143328850",
    }.items():
        (zone / name).write_text(f"{text}\n")
    return sysfs


def findings(answer: Answer) -> dict[str, tuple[str, str]]:
    """Mark and text by subject."""
    return {one["subject"]: (one["mark"], one["text"]) for one in json.loads(answer.out)["findings"]}


def doctor(wattspan: Wattspan, sysfs: Path, *words: str, **env: str) -> Answer:
    """Ask for JSON about a machine with this sysfs and a free port."""
    port = ["--web.listen-address", "127.0.0.1:0"]
    return wattspan("doctor", "--format", "json", "--path.sysfs", sysfs, *OFF, *port, *words, env=env)


@pytest.fixture
def load(with_rapl: Path) -> Iterator[None]:
    """Something that uses energy: the counter moves."""
    energy = with_rapl / "class/powercap/intel-rapl:0/energy_uj"
    idle = threading.Event()

    def use() -> None:
        for energy_uj in itertools.count(200_000, 5_000):
            part = energy.with_suffix(".part")
            part.write_text(f"{energy_uj}\n")
            part.replace(energy)
            if idle.wait(0.02):
                return

    thread = threading.Thread(target=use)
    thread.start()
    yield
    idle.set()
    thread.join()


@pytest.mark.usefixtures("load")
def test_something_measures(wattspan: Wattspan, with_rapl: Path) -> None:
    """With one source that measures, metering works: exit 0, and the others say why they are not here."""
    answer = doctor(wattspan, with_rapl)
    assert answer.code == 0
    assert json.loads(answer.out)["measures"] is True
    seen = findings(answer)
    assert seen["source rapl"][0] == "ok"
    assert "package-0" in seen["source rapl"][1]
    assert seen["source hwmon"][0] == "--"
    assert seen["source nvidia"] == ("--", "switched off (flag --source.nvidia)")


def test_nothing_measures(wattspan: Wattspan, sysfs: Path) -> None:
    """An estimate is no measurement: exit 1, with the mend for each source."""
    answer = doctor(wattspan, sysfs)
    assert answer.code == 1
    assert json.loads(answer.out)["measures"] is False
    assert findings(answer)["source rapl"][0] == "--"


def test_for_people(wattspan: Wattspan, sysfs: Path) -> None:
    """The page for people has a mark, a subject and a text per line, and a verdict at its end."""
    answer = wattspan("doctor", "--path.sysfs", sysfs, *OFF, "--web.listen-address", "127.0.0.1:0")
    assert answer.code == 1
    *lines, empty, verdict = answer.out.splitlines()
    assert empty == ""
    assert verdict == "Nothing can be metered here; `wattspan demo` shows simulated GPUs."
    assert all(line[:2] in ("ok", "--", "!!") for line in lines)


def test_a_source_that_must_be_there(wattspan: Wattspan, sysfs: Path) -> None:
    """What is absent but switched on is something to mend."""
    assert findings(doctor(wattspan, sysfs, "--source.hwmon", "on"))["source hwmon"][0] == "!!"


def test_a_broken_source(wattspan: Wattspan, with_rapl: Path) -> None:
    """A counter that stands still is something to mend, and hides nothing else."""
    answer = doctor(wattspan, with_rapl)
    assert answer.code == 1
    mark, text = findings(answer)["source rapl"]
    assert mark == "!!"
    assert text == "cpu package-0; nothing could be read, its counters do not move"
    assert "clock" in findings(answer)


def test_configuration_that_counts_stands_first(wattspan: Wattspan, sysfs: Path, tmp_path: Path) -> None:
    """A file that a flag or a variable names is told with who named it, and its settings count."""
    file = tmp_path / "daemon.yml"
    file.write_text("source: {hwmon: 'on'}\n")
    for words, env, said in (
        (("--config.file", str(file)), {}, "flag --config.file"),
        ((), {"WATTSPAN_CONFIG_FILE": str(file)}, "environment WATTSPAN_CONFIG_FILE"),
    ):
        answer = doctor(wattspan, sysfs, *words, **env)
        first, *_ = json.loads(answer.out)["findings"]
        assert first == {"mark": "ok", "subject": "configuration", "text": f"{file} ({said})"}
        assert findings(answer)["source hwmon"][0] == "!!"


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize(
    ("text", "mark", "said", "hwmon"),
    [
        (None, "--", "name the daemon's with --config.file", "--"),
        ("source: {hwmon: 'on'}\n", "ok", "the systemd unit's; --config.file names another", "!!"),
        ("source: {hwmonn: 'on'}\n", "!!", "left out of what follows: unknown key 'source.hwmonn'", "--"),
    ],
)
def test_file_of_the_unit_is_looked_at_where_none_is_named(
    *,
    sysfs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    mark: str,
    said: str,
    hwmon: str,
) -> None:
    """On a host with the unit its settings count; where they cannot, that is said and the rest looked at."""
    file = tmp_path / "wattspan.yml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(doctor_command, "UNIT_FILE", file)
    monkeypatch.delenv("WATTSPAN_CONFIG_FILE", raising=False)
    where = ["--state.dir", str(tmp_path), "--web.listen-address", "127.0.0.1:0"]
    main(["doctor", *OFF, "--grid.cloud-metadata", "off", "--path.sysfs", str(sysfs), *where])
    first, *lines = capsys.readouterr().out.splitlines()
    assert re.match(rf"{mark}  configuration +\S.*{re.escape(said)}", first)
    assert [line[:2] for line in lines if "source hwmon" in line] == [hwmon]


@pytest.mark.usefixtures("logging_as_before")
def test_a_source_that_hangs(
    with_rapl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A driver that never returns costs its own line only."""
    monkeypatch.setattr(doctor_command, "PATIENCE_S", 1.0)
    energy = with_rapl / "class/powercap/intel-rapl:0/energy_uj"
    energy.unlink()
    os.mkfifo(energy)  # whoever opens it to read waits for a writer
    where = [
        "--path.sysfs",
        str(with_rapl),
        "--state.dir",
        str(tmp_path),
        "--web.listen-address",
        "127.0.0.1:0",
    ]
    code = main(["doctor", *OFF, *where])
    with energy.open("w"):
        pass
    lines = capsys.readouterr().out.splitlines()
    (rapl,) = [line for line in lines if "source rapl" in line]
    assert code == 1
    assert rapl.startswith("!!")
    assert "has not answered for 1 s" in rapl
    assert any(line.startswith("ok  source estimate") for line in lines)


def test_location(wattspan: Wattspan, sysfs: Path) -> None:
    """The page says how the grid zone was found, as guess or as configured."""
    mark, text = findings(doctor(wattspan, sysfs))["location"]
    assert mark == "--"
    assert "set grid.zone" in text
    mark, text = findings(doctor(wattspan, sysfs, "--grid.zone", "FR"))["location"]
    assert mark == "ok"
    assert "g CO2e/kWh for FR" in text
    mark, text = findings(doctor(wattspan, sysfs, "--grid.zone", "Atlantis"))["location"]
    assert mark == "!!"
    assert "Atlantis" in text


def test_state_folder(wattspan: Wattspan, sysfs: Path, tmp_path: Path) -> None:
    """A folder to be made is fine and is not made by looking; a file in its place is named."""
    mark, text = findings(doctor(wattspan, sysfs, "--state.dir", str(tmp_path / "a/b")))["state"]
    assert mark == "ok"
    assert "will be made" in text
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    mark, text = findings(doctor(wattspan, sysfs, "--state.dir", str(tmp_path / "file/state")))["state"]
    assert mark == "!!"
    assert "is not a folder" in text


def test_port_in_use(wattspan: Wattspan, sysfs: Path) -> None:
    """A port that somebody else has is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        mark, text = findings(doctor(wattspan, sysfs, "--web.listen-address", address))[f"port {address}"]
    assert mark == "!!"
    assert address in text


def test_missing_extra(wattspan: Wattspan, sysfs: Path, tmp_path: Path) -> None:
    """A missing package is named with the extra that brings it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'bcrypt' else find(name, package)\n"
    )
    mark, text = findings(doctor(wattspan, sysfs, PYTHONPATH=str(tmp_path / "site")))["extra daemon"]
    assert mark == "!!"
    assert text == "without bcrypt; pip install 'wattspan[daemon]'"


def test_each_live_source_is_asked(wattspan: Wattspan, sysfs: Path) -> None:
    """What it answers now, or why it does not, beside the place."""
    begin_s = int(time.time()) // 900 * 900
    with grid_service.serving() as service:
        service.says_json(
            "/co2eq", grid_answers.energycharts(grid_answers.points(begin_s - 900, 15, 101, 102, 103))
        )
        service.says("/v3/*", grid_service.Answer(status=403))
        flags = ("--grid.zone", "FR", "--grid.providers", "electricitymaps,energycharts")
        urls = (
            "--grid.electricitymaps.url", f"{service.url}/v3", "--grid.energycharts.url", service.url,
        )  # fmt: skip
        env = {"WATTSPAN_GRID_ELECTRICITYMAPS_TOKEN": "secret-token", "NO_PROXY": "127.0.0.1"}
        answer = doctor(wattspan, sysfs, *flags, *urls, **env)
    found = findings(answer)
    mark, text = found["grid energycharts"]
    assert mark == "ok"
    assert re.match(r"10[23] g CO2e/kWh \(measured\); .*Fraunhofer", text)
    mark, text = found["grid electricitymaps"]
    assert mark == "!!"
    assert "refused" in text
    assert "HTTP 403" in text
    assert "secret-token" not in answer.out + answer.err
