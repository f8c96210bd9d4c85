"""The table of settings: names, readings of text, and what the frozen Config holds."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattspan.config import HINTS, SETTINGS, Config, duration_text, environment_name, nanoseconds
from wattspan.units import NS_PER_S


def test_names_follow_from_the_key() -> None:
    """Flag, variable and attribute are made from the key; the contract names the one exception."""
    for key, setting in SETTINGS.items():
        assert setting.attribute.removesuffix("_ns") == key.replace(".", "_").replace("-", "_")
        expected = "WATTSPAN_CLUSTER" if key == "cluster.name" else environment_name(key)
        assert setting.environment == expected


def test_variables_are_distinct() -> None:
    """No variable means two things."""
    names = [setting.environment for setting in SETTINGS.values()] + list(HINTS)
    assert len(names) == len(set(names))


def test_the_contracts_names() -> None:
    """Flags and variables that the contract promises are there."""
    promised = {
        "web.listen-address": "WATTSPAN_WEB_LISTEN_ADDRESS",
        "web.config.file": "WATTSPAN_WEB_CONFIG_FILE",
        "config.file": "WATTSPAN_CONFIG_FILE",
        "state.dir": "WATTSPAN_STATE_DIR",
        "sample.interval": "WATTSPAN_SAMPLE_INTERVAL",
        "nvml.library": "WATTSPAN_NVML_LIBRARY",
        "cluster.name": "WATTSPAN_CLUSTER",
        "node.name": "WATTSPAN_NODE_NAME",
        "log.level": "WATTSPAN_LOG_LEVEL",
        "log.format": "WATTSPAN_LOG_FORMAT",
    }
    assert {key: SETTINGS[key].environment for key in promised} == promised


def test_config_is_frozen() -> None:
    """Nothing changes a Config after it was made."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().grid_zone = "FR"  # type: ignore[misc]


def test_defaults_can_be_written() -> None:
    """Every default is a value that one could also write, so check-config's output can be pasted back."""
    config = Config()
    for setting in SETTINGS.values():
        value = getattr(config, setting.attribute)
        if value is not None:
            assert setting.kind.parse(setting.kind.show(value)) == value


def test_source_modes_by_source_name() -> None:
    """The wiring can look a source's mode up by the source's name."""
    modes = Config(source_rapl="off").source_modes
    assert modes["rapl"] == "off"
    assert {"nvidia", "rapl", "hwmon", "amd", "intel", "estimate"} <= set(modes)


def test_state_dir_of_a_user_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME counts when it is absolute, and only for users other than root."""
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert Config().state_dir == Path("/elsewhere/wattspan")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/ada")
    assert Config().state_dir == Path("/home/ada/.local/state/wattspan")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Config().state_dir == Path("/var/lib/wattspan")


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("500ms", NS_PER_S // 2),
        ("90s", 90 * NS_PER_S),
        ("15m", 900 * NS_PER_S),
        ("8h", 28_800 * NS_PER_S),
        ("7d", 604_800 * NS_PER_S),
        ("0s", 0),
    ],
)
def test_durations(text: str, expected_ns: int) -> None:
    """The contract's forms of a duration, and milliseconds."""
    assert nanoseconds(text) == expected_ns


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1.5s", "-1s", "1 s", "1S", "1w", "\u0661s", "1s\n", "9" * 5000 + "s"]
)
def test_not_a_duration(text: str) -> None:
    """Anything else is refused, a bare number included: nobody knows its unit."""
    with pytest.raises(ValueError, match=r".*"):
        nanoseconds(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_duration_text_is_read_back(milliseconds: int) -> None:
    """What is shown for a duration means the same duration."""
    value_ns = milliseconds * (NS_PER_S // 1000)
    assert nanoseconds(duration_text(value_ns)) == value_ns


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("sample.interval", ["100ms", "1s", "60s", "1m"], ["99ms", "61s", "1", "1h", "0s"]),
        ("grid.pue", ["1", "1.0", "1.58", "5"], ["0.99", "5.1", "nan", "inf", "1,2", "x"]),
        ("grid.intensity", ["1", "41.4", "3e2"], ["0", "0.4", "-1", "1e9", "nan", "41 g"]),
        ("metrics.series-budget", ["100", "3000"], ["99", "1e3", "3000.0", "-1", "many"]),
        ("source.amd", ["auto", "on", "off"], ["true", "ON", "yes", "auto "]),
        ("log.level", ["debug", "error"], ["DEBUG", "trace"]),
        (
            "web.listen-address",
            [":9746", "127.0.0.1:0", "[::1]:80", "a:1, b:2"],
            ["9746", ":", ":70000", "::1:80", "a:b", ":1,", "x://a:1"],
        ),
        ("cluster.name", ["prod-eu", "Zürich 2"], ["a\nb", "\x1b[31m", "\x00", "\u202eevil"]),
        ("state.dir", ["/x", "relative"], ["/a\x00b", "/a\nb"]),
    ],
)
def test_what_is_allowed(key: str, good: list[str], bad: list[str]) -> None:
    """Each kind of setting takes what its text promises and nothing else."""
    parse = SETTINGS[key].kind.parse
    for text in good:
        parse(text)
    for text in bad:
        with pytest.raises(ValueError, match=r".*"):
            parse(text)
