"""What the documents say exists, and what exists is documented."""

import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.docs import markdown
from tests.docs.generate import README, renewed
from tests.publish.certificates import Authority
from tests.real_parts import need
from tests.report import samples
from tests.systemd import unit
from wattspan import __version__, cli
from wattspan.carbon.countries import ATTRIBUTION
from wattspan.cli.arguments import parse
from wattspan.config import HINTS, SETTINGS
from wattspan.publish import openapi, span_content, tokens
from wattspan.publish.catalogue import CATALOGUE
from wattspan.publish.webconfig import WebConfigFile
from wattspan.runs import PodRef, Stretch
from wattspan.workloads import run_ids

ROOT = README.parent
PAGE = README.read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

PROMISED = """
    build_info clock_steps_total config_info electricity_price_per_kwh gpu_attributed_energy_joules_total
    gpu_co2e_grams_per_second gpu_co2e_grams_total gpu_energy_check_ratio gpu_energy_joules_total
    gpu_holders gpu_implausible_intervals_total gpu_info gpu_memory_total_bytes gpu_memory_used_bytes
    gpu_power_instant_watts gpu_power_limit_watts gpu_power_watts gpu_recovery_action gpu_sm_clock_hertz
    gpu_temperature_celsius gpu_throttled_seconds_total gpu_unattributed_energy_joules_total gpu_up
    gpu_utilization_ratio gpu_xid_errors_total grid_fallback_level grid_fetched_timestamp_seconds
    grid_intensity_estimated grid_intensity_grams_per_kwh grid_provider_in_use
    grid_provider_intensity_grams_per_kwh grid_valid_from_timestamp_seconds
    grid_valid_until_timestamp_seconds host_co2e_grams_total host_energy_joules_total
    host_estimated_energy_joules_total host_estimated_power_watts host_power_watts journal_commits_total
    journal_last_commit_timestamp_seconds node_co2e_grams_total node_energy_joules_total node_power_watts
    owner_co2e_grams_total owner_cost_total owner_energy_joules_total owner_gpu_seconds_total
    owner_idle_gpu_seconds_total owner_wasted_cost_total owner_wasted_energy_joules_total
    platform_power_watts pod_co2e_grams_total pod_energy_joules_total pod_idle_gpu_seconds_total
    pue_configured pue_ratio run_attempt_info run_budget_co2e_grams run_budget_projected_ratio
    run_budget_used_ratio run_co2e_grams_per_second run_co2e_grams_total run_cost_total
    run_energy_joules_total run_gpu_seconds_total run_gpus run_idle_gpu_seconds_total run_info run_pod_info
    run_power_watts run_progress_ratio run_projected_co2e_grams run_repeated_steps_total run_samples_total
    run_start_timestamp_seconds run_steps_total run_tokens_total sample_duration_seconds
    series_dropped_total source_last_read_timestamp_seconds source_read_failures_total source_up
    span_export_failures_total spans_dropped_total spans_exported_total spans_pending spans_rejected_total
    unpriced_energy_joules_total
"""
"""Names that strangers' dashboards use by now: none of them may go or change."""


VECTORS = [
    "b641e7d2518e39667fb3d3367234428a",
    "2821be844569cfaea81e052aaff3d153",
    "e7f8974d0b07f78812e3d82d0bb6ca4b",
]
"""Trace ids of the contract's test vectors."""


def test_generated_parts_are_current() -> None:
    """What is made from the code says what the code says; `make docs` mends it."""
    assert renewed(PAGE) == PAGE


def test_every_promised_metric_is_documented() -> None:
    """Each name that was ever promised has a row in the reference."""
    missing = [name for name in PROMISED.split() if f"| `wattspan_{name}` |" not in PAGE]
    assert not missing


def test_every_metric_that_is_named_exists() -> None:
    """Prose and queries name no metric that is not served; a star stands for the rest of a name."""
    known = {metric.exposed_name for metric in CATALOGUE}
    for name in set(re.findall(r"\bwattspan_[a-z0-9_]+\*?", PAGE)):
        if name.endswith("*"):
            assert any(metric.startswith(name[:-1]) for metric in known), name
        else:
            assert name in known


def test_every_setting_that_is_named_exists() -> None:
    """Prose and examples name no flag, key or variable that is not taken."""
    ours = "\n".join(line for line in PAGE.splitlines() if not line.startswith("prometheus "))
    flags = set(re.findall(r"--([a-z]+(?:\.[a-z0-9-]+)+)", ours))
    variables = set(re.findall(r"\bWATTSPAN_[A-Z_]*[A-Z]\b", ours))
    sections = "|".join({key.partition(".")[0] for key in SETTINGS})
    keys = set(re.findall(rf"`((?:{sections})\.[a-z0-9.-]+)`", ours))
    assert flags | keys <= set(SETTINGS)
    assert variables <= {setting.environment for setting in SETTINGS.values()} | set(HINTS)


def test_every_path_that_is_named_is_served() -> None:
    """Prose names no HTTP path that is not there."""
    served = set(openapi.document(__version__, runs=True)["paths"])
    named = re.findall(r"`(/(?:api|-|health|metrics|openapi)[^` ?]*)`", PAGE)
    prefixes = {path.rpartition("/")[0] + "/" for path in served}
    assert set(named) <= served | prefixes


def test_every_command_that_is_printed_is_taken() -> None:
    """The command line accepts each of our commands, in shell blocks, the unit and prose alike."""
    printed = [
        *(line for line in markdown.shell_lines(PAGE) if _program(line) == "wattspan"),
        *markdown.commands_in_prose(PAGE, "wattspan"),
        unit.read(unit.UNIT)["Service"]["ExecStart"],
    ]
    assert len(printed) > 8
    for line in printed:
        parse(shlex.split(line)[1:])


def test_every_target_of_make_that_is_named_exists() -> None:
    """`make X` is printed only where the Makefile has X, and the table names every target that tests."""
    named = {*re.findall(r"`make ([a-z]+)`", PAGE)} | {
        shlex.split(line)[1] for line in markdown.shell_lines(PAGE) if _program(line) == "make"
    }
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "test", "bench", "replay", "docs"} <= named <= targets


def test_every_extra_that_is_named_exists() -> None:
    """What pip is told to install can be installed, and every extra has a row."""
    extras = set(PROJECT["optional-dependencies"])
    for line in markdown.shell_lines(PAGE):
        if match := re.search(r"pip install '\.\[(.+)\]'", line):
            assert set(match[1].split(",")) <= extras
    assert extras <= set(re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "exporter/wattspan/carbon/tables/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Every link to a file or a heading resolves."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for link in markdown.links(text):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        there = path.parent / target if target else path
        assert there.exists(), link
        assert not anchor or anchor in markdown.anchors(there.read_text(encoding="utf-8")), link


def test_exit_codes_are_those_of_the_command_line() -> None:
    """The table has each code that `main` may give, and no other."""
    table = PAGE.partition("| exit code |")[2].partition("\n\n")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert codes == {0, cli.FAILED, cli.WRONG_USAGE, cli.UNREACHABLE, cli.INTERRUPTED}


def test_the_licence_of_the_figures_is_kept() -> None:
    """CC BY asks for the line wherever the figures are shown."""
    assert ATTRIBUTION in PAGE


def test_the_configuration_file_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The YAML of settings passes the check that the page recommends."""
    (settings,) = (text for text in markdown.blocks(PAGE, "yaml") if text.startswith("cluster:"))
    file = tmp_path / "wattspan.yml"
    file.write_text(settings)
    monkeypatch.setenv("WATTSPAN_STATE_DIR", str(tmp_path))
    assert cli.main(["check-config", str(file)]) == 0


def test_the_web_configuration_works(tmp_path: Path) -> None:
    """The YAML of TLS and passwords is taken, with a certificate where it names one."""
    (web,) = (text for text in markdown.blocks(PAGE, "yaml") if text.startswith("tls_server_config:"))
    pair = Authority().pair()
    (tmp_path / "tls.crt").write_bytes(pair.certificate)
    (tmp_path / "tls.key").write_bytes(pair.key)
    file = tmp_path / "web.yml"
    file.write_text(web.replace("/etc/wattspan", str(tmp_path)))
    taken = WebConfigFile(file)
    assert taken.gate() is not None
    assert taken.passwords() is not None


def test_the_token_file_works(tmp_path: Path) -> None:
    """The daemon takes the lines that are shown, for the namespaces that they name."""
    (lines,) = (text for text in markdown.blocks(PAGE, "text") if "sha256:" in text)
    file = tmp_path / "tokens"
    file.write_text(lines)
    (token,) = tokens.read(file)
    assert token.scopes == {tokens.RUNS_WRITE}
    assert token.namespaces == {"nlp", "vision"}


def test_the_role_is_the_least_that_the_kubelet_asks_for() -> None:
    """Reading pods is one verb on one resource, and never the one that opens every pod of the node."""
    (role,) = (text for text in markdown.blocks(PAGE, "yaml") if "kind: ClusterRole" in text)
    assert yaml.safe_load(role)["rules"] == [
        {"apiGroups": [""], "resources": ["nodes/pods"], "verbs": ["get"]}
    ]


def test_ids_are_those_of_the_test_vectors() -> None:
    """Each row of the table is what the code computes, and what the contract has promised."""
    rows = re.findall(
        r"^\| (\S+) \| `(\S+)` \| (\d+) \| (\S+)" + r" \| `([0-9a-f]+)`" * 3 + r" \|$",
        PAGE,
        re.MULTILINE,
    )
    assert [row[4] for row in rows] == VECTORS
    for shown, run_id, number, node, *ids in rows:
        attempt = ("" if shown == "(empty)" else shown, run_id, int(number))
        assert ids == [
            run_ids.trace_id(*attempt),
            run_ids.run_span_id(*attempt),
            run_ids.node_span_id(*attempt, node),
        ]


def test_every_span_attribute_has_a_row() -> None:
    """What spans carry is what the table says, on the spans that it says, and nothing else."""
    documented: dict[str, set[str]] = {"run": set(), "node": set(), "window": set(), "phase": set()}
    table = PAGE.partition("| attribute | on |")[2].partition("\n\n")[0]
    for names, on in re.findall(r"^\| (`.+`) \| ([a-z, ]+) \|", table, re.MULTILINE):
        for kind in documented if on == "all" else on.split(", "):
            documented[kind] |= set(re.findall("`(.+?)`", names))
    # Of either only the one that fits a window or a phase is on it.
    documented["window"] -= {"wattspan.phase.name", "wattspan.phase.index"}
    documented["phase"] -= {"wattspan.window.index"}
    assert {span: names for span, names in _carried().items() if names != documented[span]} == {}


def test_every_python_block_is_python() -> None:
    """Snippets compile; those that need nothing but wattspan are run by the test of the quick start."""
    snippets = markdown.blocks(PAGE, "python")
    assert len(snippets) == 8
    for text in snippets:
        compile(text, "README.md", "exec")


def test_scrape_configurations_are_what_prometheus_takes(tmp_path: Path) -> None:
    """The real promtool finds nothing to object to; the one for Kubernetes is tested with the chart."""
    need("promtool", shutil.which("promtool") is not None)
    configurations = [text for text in markdown.blocks(PAGE, "yaml") if text.startswith("scrape_configs:")]
    assert len(configurations) == 1
    for text in configurations:
        file = tmp_path / "prometheus.yml"
        file.write_text(text)
        answer = subprocess.run(
            ["promtool", "check", "config", file], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("page", [PAGE, CHANGELOG], ids=["README", "CHANGELOG"])
def test_one_sentence_stands_on_a_line(page: str) -> None:
    """So that a diff shows the sentence that changed; tables and quotations are left alone."""
    lines = (line for line in markdown.prose(page).splitlines() if not line.lstrip().startswith(("|", ">")))
    assert not [line for line in lines if re.search(r"[a-z0-9`)]\. [A-Z`]", line)]


def test_the_changelog_is_in_its_form() -> None:
    """Keep a Changelog 1.1: known sections under versions, the newest first, this one among them."""
    versions = re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert versions[1:] == sorted(versions[1:], key=lambda text: [*map(int, text.split("."))], reverse=True)
    sections = set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def _carried() -> dict[str, set[str]]:
    """The attributes that spans carry where everything is known, by kind of span."""
    whole = replace(
        samples.training(),
        result="failure",
        error_type="OutOfMemoryError",
        pods=(PodRef("nlp", "sft-0", "trainer"),),
        currency="EUR",
    )
    parent = {"parent_trace_id": VECTORS[0], "parent_span_id": "a3d0bdb7167b9d71"}
    run = replace(whole.run, user="anna", nodes_expected=1, **parent)
    totals = replace(whole.totals, unpriced_uj=1)
    record = replace(whole, run=run, totals=totals)
    several = replace(record, pods=(*record.pods, PodRef("nlp", "sft-1", "trainer")))
    spans = [
        span
        for ended in (record, several)
        for span in span_content.closing_spans(ended, hub=False, parent_span_id=run.parent_span_id)
    ]
    for name in ("", "epoch"):
        stretch = Stretch(name, 0, record.began_wall_ns, record.began_wall_ns + 1, totals)
        spans.append(span_content.stretch_span(record, stretch))
    carried: dict[str, set[str]] = {}
    for span in spans:
        kind = span.name.partition(".")[2] or "run"
        carried.setdefault(kind, set()).update(span.attributes)
    return carried


def _program(line: str) -> str:
    return Path(shlex.split(line)[0]).name
