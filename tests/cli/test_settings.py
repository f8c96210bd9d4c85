"""Where settings come from, which of them counts, and what is said when one is wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wattspan.cli.settings import Loaded, load
from wattspan.config import SETTINGS
from wattspan.errors import SetupError

TEXT = st.text(max_size=30)


def load_file(path: Path, content: str | bytes, **environ: str) -> Loaded:
    """Load settings from a file with this content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return load({"config.file": str(path)}, environ)


def refused(loading: Callable[[], Loaded]) -> list[str]:
    """The problems with a configuration; none when it was taken, and then every setting has an origin."""
    try:
        loaded = loading()
    except SetupError as error:
        return str(error).splitlines()
    assert set(loaded.origins) == set(SETTINGS)
    return []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where to write a file of settings."""
    return tmp_path / "wattspan.yml"


def test_none_at_all_works() -> None:
    """Without flag, variable and file every setting has its default."""
    loaded = load({}, {})
    assert set(loaded.origins) == set(SETTINGS)
    assert set(loaded.origins.values()) == {"default"}


def test_precedence(file: Path) -> None:
    """A flag goes before a variable, a variable before the file, the file before the default."""
    file.write_text("grid: {zone: FR, region: eu-west-3, pue: 1.2}\nlog: {level: debug}\n")
    loaded = load(
        {"config.file": str(file), "grid.zone": "DE"},
        {"WATTSPAN_GRID_ZONE": "PL", "WATTSPAN_GRID_REGION": "eu-central-1"},
    )
    assert loaded.config.grid_zone == "DE"
    assert loaded.config.grid_region == "eu-central-1"
    assert loaded.config.grid_pue == 1.2
    assert loaded.config.sample_interval_ns == 1_000_000_000
    assert loaded.origins["grid.zone"] == "flag --grid.zone"
    assert loaded.origins["grid.region"] == "environment WATTSPAN_GRID_REGION"
    assert loaded.origins["grid.pue"] == f"{file} line 1"
    assert loaded.origins["log.level"] == f"{file} line 2"
    assert loaded.origins["sample.interval"] == "default"


def test_file_named_by_the_environment(file: Path) -> None:
    """The file may be named by a variable as well as by a flag."""
    file.write_text("cluster: {name: prod}")
    assert load({}, {"WATTSPAN_CONFIG_FILE": str(file)}).config.cluster_name == "prod"


def test_empty_is_not_given(file: Path) -> None:
    """An empty value counts as not given, so that the next place is asked."""
    file.write_text("grid: {zone: FR, pue: ~, region: ''}\nlog:\n")
    loaded = load({"config.file": str(file), "grid.zone": ""}, {"WATTSPAN_GRID_ZONE": ""})
    assert loaded.config.grid_zone == "FR"
    assert loaded.config.grid_pue is None
    assert loaded.config.grid_region is None


def test_an_empty_file_is_a_file(file: Path) -> None:
    """A file with nothing in it, or comments only, sets nothing."""
    assert load_file(file, "").config == load_file(file, "# later\n").config


def test_yaml_guesses_nothing(file: Path) -> None:
    """Norway stays Norway and `on` a mode: YAML's booleans, dates and octal numbers do not apply."""
    config = load_file(
        file, "grid: {zone: NO}\nsource: {amd: on, rapl: off}\nnode: {name: 2026-01-01}\ncluster: {name: 010}"
    ).config
    assert config.grid_zone == "NO"
    assert (config.source_amd, config.source_rapl) == ("on", "off")
    assert (config.node_name, config.cluster_name) == ("2026-01-01", "010")


@pytest.mark.parametrize(
    "content", ["web: {listen-address: [':1', ':2']}", "web:\n  listen-address: ':1,:2'"]
)
def test_lists(file: Path, content: str) -> None:
    """A repeatable setting takes a list, or one text with commas."""
    assert load_file(file, content).config.web_listen_address == (":1", ":2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("grid: {zoen: FR}", r"unknown key 'grid.zoen'; did you mean grid.zone\? \(.* line 1\)"),
        ("\n\nsampel:\n  interval: 1s", r"unknown key 'sampel'; did you mean sample\? \(.* line 3\)"),
        ("sample.intervall: 1s", r"unknown key 'sample.intervall'; did you mean sample.interval\?"),
        ("grid: {zone: FR, zone: DE}", r"grid.zone: given twice"),
        ("grid: {zone: FR}\ngrid: {pue: 2}", r"grid: given twice \(.* line 2\)"),
        ("grid: {zone: FR}\ngrid.zone: DE", r"grid.zone: given twice"),
        ("grid: FR", r"grid: settings by name are expected here"),
        ("- grid", r"config.file: settings by name are expected here"),
        ("grid: {zone: [FR]}", r"grid.zone: a nested value is not allowed; allowed: text"),
        ("grid: {zone: {of: FR}}", r"grid.zone: a nested value is not allowed"),
        ("web: {listen-address: [[':1']]}", r"web.listen-address: a nested value is not allowed"),
        ("? [a, b]\n: 1", r"unknown key '\[...\]'"),
        ("config: {file: other.yml}", r"config.file: a file cannot name another"),
        ("grid: {pue: 0.5}", r"grid.pue: '0.5' is not allowed \(.* line 1\); allowed: a number from 1 to 5"),
        ("source: {amd: true}", r"source.amd: 'true' is not allowed \(.*\); allowed: auto \| on \| off"),
        ("grid: {zone: FR", r"is not YAML: line 1: expected ',' or '}'"),
        ("a: b: c", r"is not YAML: line 1"),
        ("--- {}\n--- {}", r"is not YAML: line 2"),
        (b"\xff\xfe\xff", r"is not YAML"),
        (b"\x00", r"is not YAML"),
        ("[" * 3000, r"nested too deeply|is not YAML"),
        ("x" * (1 << 20) + "yy", r"is larger than"),
    ],
)
def test_wrong_files(file: Path, content: str | bytes, said: str) -> None:
    """A wrong file is refused with key, value, line and what is allowed."""
    with pytest.raises(SetupError, match=said):
        load_file(file, content)


def test_all_problems_at_once() -> None:
    """Whoever mends a configuration sees everything that is wrong with it, one line each."""
    with pytest.raises(SetupError) as caught:
        load({"grid.pue": "9", "log.level": "loud"}, {"WATTSPAN_SAMPLE_INTERVAL": "1"})
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["sample.interval", "grid.pue", "log.level"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:pw-777@host/api", "'http://***host/api'"),
        ("http://me:p@pw-777@host", "'http://***host'"),
        ("me:pw-777@host", "'***host'"),
        ("https://host/api?key=pw-777", "'https://host/api?***'"),
        ("https://host/api#pw-777", "'https://host/api#***'"),
        ("ftp://host", "'ftp://host'"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_told(file: Path, url: str, shown: str) -> None:
    """By flag, variable and file: the error names the setting and what is allowed, and no secret."""
    for loading in (
        lambda: load({"grid.prometheus.url": url}, {}),
        lambda: load({}, {"WATTSPAN_COST_URL": url}),
        lambda: load_file(file, f"grid: {{peer: {{url: '{url}'}}}}"),
    ):
        (problem,) = refused(loading)
        assert f"{shown} is not allowed" in problem
        assert "pw-777" not in problem


def test_aliases_cannot_grow(file: Path) -> None:
    """A file whose aliases multiply, or point at themselves, is refused at once."""
    bomb = "a: &a {b: x}\n" + "\n".join(
        f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}, *a]" for i in range(30)
    )
    for content in (bomb, "&a {web: *a}", "web: &w {config: *w}"):
        with pytest.raises(SetupError, match=r"unknown key|not YAML"):
            load_file(file, content)


@pytest.mark.parametrize("name", ["", "missing.yml"])
def test_unreadable_file(tmp_path: Path, name: str) -> None:
    """A file that is not there, or is a folder, is named with the reason."""
    with pytest.raises(SetupError, match=r"config.file: cannot read .*: (No such file|Is a directory)"):
        load({"config.file": str(tmp_path / name)}, {})


def test_unknown_variables_warn_once_each() -> None:
    """A variable with our prefix that is none of ours is named, with near matches, and stops nothing."""
    loaded = load({}, {"WATTSPAN_GRID_ZOEN": "FR", "WATTSPAN_QQQQQQQQQQ": "1", "WATTSPAN": "2", "PATH": "/"})
    assert loaded.warnings == (
        "environment: 'WATTSPAN_GRID_ZOEN' is not a variable of wattspan, ignored;"
        " did you mean WATTSPAN_GRID_ZONE?",
        "environment: 'WATTSPAN_QQQQQQQQQQ' is not a variable of wattspan, ignored",
    )


def test_kubernetes_service_variables_are_no_mistake() -> None:
    """What Kubernetes injects for a Service called wattspan, or wattspan-something, does not even warn."""
    injected = {
        "WATTSPAN_PORT": "tcp://10.0.0.1:9746",
        "WATTSPAN_PORT_9746_TCP": "tcp://10.0.0.1:9746",
        "WATTSPAN_PORT_9746_TCP_ADDR": "10.0.0.1",
        "WATTSPAN_PORT_9746_TCP_PORT": "9746",
        "WATTSPAN_PORT_9746_TCP_PROTO": "tcp",
        "WATTSPAN_SERVICE_HOST": "10.0.0.1",
        "WATTSPAN_SERVICE_PORT": "9746",
        "WATTSPAN_SERVICE_PORT_METRICS": "9746",
        "WATTSPAN_HUB_SERVICE_HOST": "10.0.0.2",
        "WATTSPAN_HUB_PORT": "tcp://10.0.0.2:9746",
    }
    loaded = load({}, injected)
    assert loaded.warnings == ()
    assert len(loaded.remarks) == 1
    assert all(name in loaded.remarks[0] for name in injected)
    assert loaded.config == load({}, {}).config


def test_a_documented_variable_with_a_bad_value_is_an_error() -> None:
    """Only names that are not ours are forgiven."""
    with pytest.raises(SetupError, match=re.escape("(environment WATTSPAN_LOG_LEVEL)")):
        load({}, {"WATTSPAN_LOG_LEVEL": "INFO"})


@given(
    st.dictionaries(st.sampled_from(sorted(SETTINGS)), TEXT, max_size=4),
    st.dictionaries(
        st.one_of(
            st.sampled_from(sorted(setting.environment for setting in SETTINGS.values())),
            TEXT.map(lambda text: f"WATTSPAN_{text}"),
        ),
        TEXT,
        max_size=4,
    ),
)
def test_any_text_is_answered(flags: dict[str, str], environ: dict[str, str]) -> None:
    """Whatever stands in flags and variables, there is a configuration or an answer that names the key."""
    problems = refused(lambda: load(flags, environ))
    assert all(line.partition(":")[0] in SETTINGS for line in problems)


YAML_PIECES = st.one_of(
    st.sampled_from([*SETTINGS, "web", "grid", "source", "&a", "*a", "<<", "!!python/object:os.system"]),
    st.sampled_from(
        [": ", "\n", "\n  ", "- ", "{", "}", "[", "]", ",", "? ", "|\n", ">", "'", '"', "#", "---\n"]
    ),
    TEXT,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(YAML_PIECES, max_size=25).map("".join))
@example("!!binary |\n  x")
@example("web: !!set {a, b}")
@example("\ufeffgrid: {zone: FR}")
def test_any_file_is_answered(file: Path, content: str) -> None:
    """Whatever stands in the file, there is a configuration or an answer that names what is wrong."""
    assert all(":" in line or "unknown key" in line for line in refused(lambda: load_file(file, content)))
