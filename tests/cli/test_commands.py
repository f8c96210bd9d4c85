"""The commands as their users meet them: what is printed, where, and the exit code."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.conftest import Wattspan, clean_environment
from tests.fakes.grid_service import serving
from wattspan import __version__
from wattspan.cli import main, reference
from wattspan.config import SETTINGS
from wattspan.journal.store import Journal

COMMANDS = [
    "serve",
    "run",
    "runs",
    "report",
    "demo",
    "doctor",
    "check-config",
    "grid",
    "plan",
    "estimate",
    "journal",
    "release",
]


def test_version(wattspan: Wattspan) -> None:
    """`--version` says name and version."""
    assert wattspan("--version").out == f"wattspan {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_setting(wattspan: Wattspan, command: str) -> None:
    """Each command explains itself and every flag that it takes."""
    answer = wattspan(command, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"usage: wattspan {command}")
    assert all(f"--{key} " in answer.out for key in SETTINGS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["servee"], "invalid choice: 'servee'"),
        (["grid", "--grid.zoen", "FR"], "unknown flag '--grid.zoen'; did you mean --grid.zone?"),
        (["--grid.zoen=FR", "grid"], "unknown flag '--grid.zoen'; did you mean --grid.zone?"),
        (["demo", "--gpuss", "3"], "unknown flag '--gpuss'; did you mean --gpus?"),
        (["serve", "--gpus", "3"], "unexpected argument '--gpus' (see: wattspan serve --help)"),
        (["serve", "now"], "unexpected argument 'now'"),
        (["grid", "--web.listen-address=--"], "--web.listen-address: '--' is not allowed"),
        (["serve", "-x"], "unexpected argument '-x'"),
        (["grid", "--grid.zone"], "argument --grid.zone: expected one argument"),
        (
            ["demo", "--gpus", "0"],
            "'0' is not allowed; allowed: a whole number from 1 to 64 (see: wattspan demo --help)",
        ),
        (["demo", "--gpus", "x"], "argument --gpus: 'x' is not allowed"),
        (
            ["release", "--for", "10"],
            "argument --for: '10' is not allowed; allowed: a duration from 0s to 7d",
        ),
        (
            ["grid", "--grid.pue", "0.4"],
            "grid.pue: '0.4' is not allowed (flag --grid.pue); allowed: a number",
        ),
        (["grid", "--grid.zone", "Atlantis"], "grid.zone: 'Atlantis' is unknown"),
        (["grid", "--log.level", "loud\x1b[2J"], r"log.level: 'loud\x1b[2J' is not allowed"),
        (["check-config"], "the following arguments are required: FILE"),
        (["check-config", "none.yml"], "config.file: cannot read 'none.yml': No such file or directory"),
        (["journal", "sideways"], "invalid choice: 'sideways'"),
        (["journal", "export", "a", "--state.dir", "x", "b"], "unexpected argument 'b'"),
        (["journal", "export", "--state.dir", "x", "-b"], "unexpected argument '-b'"),
        (["grid", b"--node.name=\xff"], r"node.name: '\udcff' is not allowed"),
        (["grid", "x" * 5000], "unexpected argument 'xxxx"),
    ],
)
def test_wrong_usage(wattspan: Wattspan, words: list[str | bytes], said: str) -> None:
    """Wrong usage is one line on stderr that names it, and exit code 2."""
    answer = wattspan(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("wattspan: error: ")
    assert answer.err.count("\n") == 1
    assert said in answer.err


def test_a_setting_that_cannot_work_says_where_it_was_written(wattspan: Wattspan, tmp_path: Path) -> None:
    """Whoever typed a flag, a variable or a line of a file finds it again; each is named once."""
    (tmp_path / "w.yml").write_text("grid:\n  zone: Atlantis\n")
    for words, env, origin in (
        (("--grid.zone", "Atlantis"), {}, "flag --grid.zone"),
        ((), {"WATTSPAN_GRID_ZONE": "Atlantis"}, "environment WATTSPAN_GRID_ZONE"),
        (("--config.file", "w.yml"), {}, "w.yml line 2"),
    ):
        answer = wattspan("grid", *words, env=env)
        assert answer.err.startswith("wattspan: error: grid.zone: 'Atlantis' is unknown; allowed: ")
        assert answer.err.endswith(f" ({origin})\n")
    assert wattspan("grid", "--grid.pue", "0.4").err.count("flag --grid.pue") == 1


def test_settings_before_and_after_the_command(wattspan: Wattspan) -> None:
    """A setting may stand on either side of the command; the later one holds."""
    assert "zone       DE" in wattspan("--grid.zone", "DE", "grid").out
    assert "zone       FR" in wattspan("--grid.zone", "DE", "grid", "--grid.zone", "FR").out


def test_grid_explains_itself(wattspan: Wattspan) -> None:
    """The figure comes with meaning, origin, PUE and how the place was found."""
    out = wattspan("grid", "--grid.region", "europe-west9", "--grid.pue", "1.2").out
    assert re.search(r"^intensity  [\d.]+ g CO2e/kWh \(average, lifecycle, estimated\)$", out, re.MULTILINE)
    assert re.search(r"^origin     France, 20\d\d\. Ember", out, re.MULTILINE)
    assert re.search(r"^PUE        1.2$", out, re.MULTILINE)
    assert re.search(r"^location   grid.region is .*europe-west9", out, re.MULTILINE)


def test_grid_without_a_place(wattspan: Wattspan) -> None:
    """With nothing configured the world's mean is named as such, and PUE as not configured."""
    answer = wattspan("grid")
    assert answer.code == 0
    assert "zone       WORLD" in answer.out
    assert "not configured" in answer.out


def test_grid_as_json(wattspan: Wattspan) -> None:
    """The JSON form is the document of /api/v1/grid."""
    document = json.loads(wattspan("grid", "--format", "json", "--grid.intensity", "41.5").out)
    assert document["intensity"]["grams_per_kwh"] == 41.5
    assert document["intensity"]["estimated"] is False
    assert document["pue_configured"] is False


def test_check_config_shows_what_holds(wattspan: Wattspan, tmp_path: Path) -> None:
    """Every setting is shown with its value and where it was written."""
    (tmp_path / "w.yml").write_text("grid:\n  zone: FR\n  pue: 1.1\n")
    answer = wattspan("check-config", "w.yml", env={"WATTSPAN_GRID_PUE": "1.3"})
    assert answer.code == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in answer.out.splitlines()}
    assert list(rows) == list(SETTINGS)
    assert rows["grid.zone"] == ["FR", "w.yml line 2"]
    assert rows["grid.pue"] == ["1.3", "environment WATTSPAN_GRID_PUE"]
    assert rows["sample.interval"] == ["1s", "default"]
    assert rows["grid.region"] == ["-", "default"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("grid: {zoen: FR}", "unknown key 'grid.zoen'; did you mean grid.zone?"),
        ("gird: {zone: FR}", "unknown key 'gird'; did you mean grid?"),
        ("grid: {zone: Atlantis}", "grid.zone: 'Atlantis' is unknown"),
        ("grid: {zone: DE, region: eu-west-3}", "grid.zone: 'DE' is in Germany, but grid.region is"),
        ("web: {config: {file: none.yml}}", "none.yml"),
        ("web: {config: {file: w.yml}}", "w.yml"),
    ],
)
def test_check_config_refuses_what_the_daemon_would(
    wattspan: Wattspan, tmp_path: Path, content: str, said: str
) -> None:
    """Beyond the form of each value, the place and the web configuration are checked too."""
    (tmp_path / "w.yml").write_text(content)
    answer = wattspan("check-config", "w.yml")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_variables_of_others(wattspan: Wattspan) -> None:
    """A stranger with our prefix is one warning; what Kubernetes injects is a line at debug."""
    env = {"WATTSPAN_PORT": "tcp://10.0.0.1:9746", "WATTSPAN_GRID_ZOEN": "FR"}
    answer = wattspan("grid", env=env)
    assert answer.code == 0
    assert answer.err.count("\n") == 1
    assert "level=warning room=cli" in answer.err
    assert "WATTSPAN_GRID_ZOEN" in answer.err
    debug = wattspan("grid", "--log.level", "debug", "--log.format", "json", env=env)
    lines = [json.loads(line) for line in debug.err.splitlines()]
    assert [(line["level"], "WATTSPAN_PORT" in line["msg"]) for line in lines] == [
        ("warning", False),
        ("debug", True),
    ]


def test_no_pyyaml(wattspan: Wattspan, tmp_path: Path) -> None:
    """Without PyYAML everything works that needs no file; with a file the extra is named."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "yaml.py").write_text(
        "raise ModuleNotFoundError('No module named yaml', name='yaml')"
    )
    env = {"PYTHONPATH": str(tmp_path / "site")}
    assert wattspan("grid", env=env).code == 0
    (tmp_path / "w.yml").write_text("")
    answer = wattspan("check-config", "w.yml", env=env)
    assert answer.code == 2
    assert "pip install 'wattspan[daemon]'" in answer.err


def test_the_reader_may_leave(tmp_path: Path) -> None:
    """A closed pipe and a full disk end the command without a traceback."""
    command = [sys.executable, "-m", "wattspan", "grid"]
    reading, writing = os.pipe()
    os.close(reading)
    for out in (writing, os.open("/dev/full", os.O_WRONLY)):
        done = subprocess.run(
            command,
            env=clean_environment(tmp_path),
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        os.close(out)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr


def test_an_unexpected_error_is_one_line(wattspan: Wattspan, tmp_path: Path) -> None:
    """A fault of ours shows as one line with a hint; only at level debug it says where."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import wattspan.carbon_service as carbon_service\n"
        "def make(*_): raise RuntimeError('boom\\nforged \\x1b[2J line')\n"
        "carbon_service.CarbonService = make\n"
    )
    answer = wattspan("grid", env={"PYTHONPATH": str(tmp_path / "site")})
    assert answer.code == 1
    assert answer.err.splitlines()[0].startswith("wattspan: error: unexpected RuntimeError: boom")
    assert all(
        line.startswith("wattspan: error: ") and line.isprintable() for line in answer.err.splitlines()
    )
    assert answer.err.rstrip().endswith("run again with --log.level debug to see where")


def test_interrupted(wattspan: Wattspan, tmp_path: Path) -> None:
    """Ctrl-C ends a command quietly, with the code that shells know it by."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import wattspan.carbon_service as carbon_service\n"
        "def make(*_): raise KeyboardInterrupt\n"
        "carbon_service.CarbonService = make\n"
    )
    answer = wattspan("grid", env={"PYTHONPATH": str(tmp_path / "site")})
    assert (answer.code, answer.out, answer.err) == (130, "", "")


PLAUSIBLE = """
FR US-CAL-CISO eu-west-3 gcp:europe-west9 1 1.5 500 1s auto on debug json :0 [::1]:80 ~ - -- -1 -h
/ . none.yml /proc/self/mem /dev/null
"""
VALUE = st.one_of(st.sampled_from(PLAUSIBLE.split()), st.just("x" * 5000), st.text(max_size=20))
NO_ENTRY = sorted(set(SETTINGS) - {"config.file"})


@pytest.mark.usefixtures("logging_as_before")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    flags=st.dictionaries(st.sampled_from(NO_ENTRY), VALUE, max_size=3),
    entries=st.dictionaries(st.sampled_from(NO_ENTRY), VALUE, max_size=3),
    word=st.one_of(st.just(""), VALUE),
)
def test_any_configuration_is_answered(
    tmp_path: Path, flags: dict[str, str], entries: dict[str, str], word: str
) -> None:
    """Whatever stands in file and flags, check-config says yes or names what is wrong; it never breaks."""
    file = tmp_path / "w.yml"
    file.write_bytes("\n".join(f"{key}: {text}" for key, text in entries.items()).encode("utf-8", "replace"))
    argv = ["check-config", str(file), *(f"--{key}={text}" for key, text in flags.items())]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*argv, word] if word else argv)
    assert code in (0, 2)
    assert bool(out.getvalue()) is (code == 0)
    if code == 2:
        lines = err.getvalue().splitlines()
        assert lines
        assert all(line.startswith("wattspan: error: ") and line.isprintable() for line in lines)


def test_journal_export_without_a_journal(wattspan: Wattspan) -> None:
    """What is not there cannot be exported: exit 3, and no file is left behind."""
    answer = wattspan("journal", "export", "out.jsonl", "--state.dir", "nowhere")
    assert answer.code == 3
    assert "nowhere" in answer.err


def test_journal_file_may_stand_after_flags(wattspan: Wattspan, tmp_path: Path) -> None:
    """A journal travels through a file that is named before or after the flags, and through the streams."""
    Journal.open(tmp_path / "s", "a boot").close(clean=True)
    assert wattspan("journal", "export", "a", "--state.dir", "s").code == 0
    assert wattspan("journal", "export", "--state.dir", "s", "b").code == 0
    assert wattspan("journal", "--state.dir", "s", "export", "-").out.startswith('{"kind":"header"')
    assert wattspan("journal", "import", "--state.dir", "t", "b").code == 0
    assert wattspan("journal", "--state.dir", "u", "import", "a").code == 0
    assert all((tmp_path / folder / "journal.db").exists() for folder in "tu")


def test_journal_import_of_garbage(wattspan: Wattspan, tmp_path: Path) -> None:
    """Bytes that are no export are refused, and nothing is written."""
    answer = wattspan("journal", "import", "--state.dir", str(tmp_path / "s"), stdin=b"\xff\x00{\n")
    assert answer.code == 2
    assert not list(tmp_path.glob("s/journal*"))
    (tmp_path / "garbage").write_bytes(b"\xff" * 100)
    assert wattspan("journal", "import", "garbage", "--state.dir", str(tmp_path / "s")).code == 2
    assert wattspan("journal", "import", "none", "--state.dir", str(tmp_path / "s")).code == 3


def test_importing_the_commands_is_light(tmp_path: Path) -> None:
    """`import wattspan.cli` loads no driver binding, server, YAML, database or Prometheus client."""
    heavy = [
        "pynvml",
        "psutil",
        "uvicorn",
        "yaml",
        "bcrypt",
        "prometheus_client",
        "sqlite3",
        "ssl",
        "asyncio",
    ]
    code = f"import sys, wattspan.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_configuration_reference_is_complete() -> None:
    """The generated reference has one row per setting, with flag, variable, default, values and meaning."""
    text = reference.configuration()
    for setting in SETTINGS.values():
        (row,) = [line for line in text.splitlines() if f"`--{setting.key}`" in line]
        cells = re.split(r"(?<!\\)\|", row)[1:-1]
        assert len(cells) == 5
        assert all(cell.strip() for cell in cells)


def test_check_config_asks_nobody(wattspan: Wattspan, tmp_path: Path) -> None:
    """Live sources are checked as far as the settings go: no question leaves, and a wrong line is found."""
    with serving() as service:
        file = tmp_path / "wattspan.yml"
        file.write_text(
            f"grid: {{zone: FR, providers: energycharts, energycharts: {{url: '{service.url}'}}}}\n"
            f"cost: {{currency: EUR, provider: energycharts, zone: FR, url: '{service.url}'}}\n"
        )
        assert wattspan("check-config", file).code == 0
        assert service.requests == []
    (tmp_path / "gains.csv").write_text("uuid,gain,uncertainty,provenance\nGPU-1,7,0.1,me\n")
    answer = wattspan("check-config", file, "--calibration.file", tmp_path / "gains.csv")
    assert answer.code == 2
    assert "line 2" in answer.err
