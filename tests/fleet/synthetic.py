"""A thousand nodes that never were: what one demo daemon says, told for each, as blocks of a Prometheus.

Labels and families are those of a real scrape, so a metric that is new is here without anybody's doing.
Figures grow at the rates that the demo had, and differ by node and by minute.
Runs span sixteen nodes, one of them `WIDE_NODES`; there are 40 projects, 30 namespaces and 3 zones.
"""

import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO
from uuid import UUID, uuid5

from dashboards.stack import budgets
from dashboards.stack.budgets import Budget
from tests.e2e.daemon import Daemon
from tests.fleet.demo import CLUSTER, simulated

BUSIEST: Final = (
    "wattspan_gpu_energy_joules_total",
    "wattspan_gpu_attributed_energy_joules_total",
    "wattspan_gpu_unattributed_energy_joules_total",
    "wattspan_gpu_co2e_grams_total",
    "wattspan_gpu_power_watts",
    "wattspan_gpu_utilization_ratio",
    "wattspan_node_energy_joules_total",
    "wattspan_node_co2e_grams_total",
    "wattspan_owner_energy_joules_total",
    "wattspan_owner_co2e_grams_total",
    "wattspan_run_energy_joules_total",
    "wattspan_pod_energy_joules_total",
)
"""The families that rules and panels read most; they have all the hours, the others `RECENT_S`."""

ALIKE: Final = ("wattspan_gpu_energy_check_ratio", "wattspan_gpu_recovery_action")
"""What does not differ from node to node by how big or busy it is."""

COUNTS: Final = re.compile(r":count$")
"""Recorded series that have no waves: a node does not lose a card each night."""

RECENT_S: Final = 10 * 60
SCRAPE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S

WIDE_NODES: Final = 128
NODES_A_RUN: Final = 16
PROJECTS, NAMESPACES, ZONES = 40, 30, ("FR", "DE", "SE")
VARIANTS: Final = 16
"""So many different curves there are; a thousand nodes share them."""

BLOCK_S: Final = 2 * HOUR_S
LONG_BLOCK_S: Final = 486 * HOUR_S
"""Blocks are aligned to these: 2 h is Prometheus' smallest, 2 h * 3**5 the longest below 31 days."""

ALL_BUDGETS: Final = (
    Budget("fleet", "", "", "month", 4e8),
    *(Budget(f"ns-{n:02}", f"ns-{n:02}", "", "30d", 1e7) for n in range(15)),
    *(Budget(f"p-{n:02}", "", f"p-{n:02}", "7d", 2e6) for n in range(14)),
)

_NAMESPACE: Final = UUID("0b2f3c86-94d2-5a41-8d3a-2f8f5c1b9746")
_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_COUNTED: Final = re.compile(r"_(?:total|bucket|count|sum|success)$")

_BY_RANK_0: Final = re.compile(r"wattspan_run_(steps|samples|tokens|repeated|progress|projected|greenest)")
"""What of a run only the first of its nodes tells."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of the demo's scrape.

    Attributes:
        name, labels: as it said.
        value: the later of two scrapes.
        per_s: how fast it grew between them; 0 for what does not count.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    per_s: float


def _served(name: str, pod: str, per_s: float, **labels: str) -> Series:
    """What an inference server of the demo's pods exposes."""
    return Series(name, (("namespace", "serving"), ("pod", pod), *labels.items()), 1e6, per_s)


BESIDE: Final = (
    Series("up", (), 1.0, 0.0),
    Series("scrape_duration_seconds", (), 0.02, 0.0),
    Series("scrape_samples_scraped", (), 500.0, 0.0),
    Series("scrape_samples_post_metric_relabeling", (), 500.0, 0.0),
    _served("vllm:generation_tokens_total", "llm-0", 1400, model_name="llama-3.1-8b", engine="0"),
    _served("vllm:prompt_tokens_total", "llm-0", 5200, model_name="llama-3.1-8b", engine="0"),
    _served("vllm:request_success_total", "llm-0", 6, model_name="llama-3.1-8b", finished_reason="stop"),
    _served("tgi_request_generated_tokens_sum", "embed-0", 600),
    _served("tgi_request_input_length_sum", "embed-0", 2100),
    _served("nv_inference_request_success", "rerank-0", 85, model="resnet50", version="1"),
)
"""What Prometheus and the servers in the pods say beside the exporter."""


def template(folder: Path, gpus: int) -> tuple[list[Series], float]:
    """What a real demo daemon says after a while, and when it said it."""
    with simulated(folder, gpus) as daemon:
        daemon.wait_ready().after(5)
        first, first_s = _scrape(daemon)
        # The last of all to appear; it looks at a whole minute.
        daemon.until(lambda scrape: scrape.series("wattspan_gpu_energy_check_ratio"), "a self-check")
        last, last_s = _scrape(daemon)
    return [
        Series(
            name,
            labels,
            value,
            max(0.0, value - first.get((name, labels), value)) / (last_s - first_s)
            if _COUNTED.search(name)
            else 0.0,
        )
        for (name, labels), value in last.items()
    ], last_s


Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _scrape(daemon: Daemon) -> tuple[Found, float]:
    """Series by name and labels."""
    found: Found = {}
    for line in daemon.metrics().text.splitlines():
        if match := _SAMPLE.match(line):
            found[match[1], tuple(_LABEL.findall(match[2] or ""))] = float(match[3])
    return found, time.time()


class Fleet:
    """Writes what `nodes` nodes say.

    Args:
        said, said_s: of one node, and when.
        nodes: how many.
    """

    def __init__(self, said: list[Series], said_s: float, nodes: int) -> None:
        self._said = [*said, *BESIDE]
        self._said_s = said_s
        self._nodes = nodes
        self._gpus = sorted(
            {dict(series.labels)["uuid"] for series in said if series.name == "wattspan_gpu_up"}
        )

    def write(self, out: TextIO, begin_s: int, end_s: int, recent_s: int) -> int:
        """Samples of [begin, end), of families that are not among the busiest from `recent_s` on.

        Returns:
            How many samples they are.
        """
        all_s = range(begin_s, end_s, SCRAPE_S)
        few_s = range(max(begin_s, recent_s), end_s, SCRAPE_S)
        written = 0
        places = [self._places(node) for node in range(self._nodes)]
        for series in self._said:
            times = all_s if series.name in BUSIEST else few_s
            if not times:
                continue
            tails = [self._tails(series, times, variant) for variant in range(VARIANTS)]
            head = _head(series, self._gpus)
            only_first = _BY_RANK_0.match(series.name) is not None
            for node, values in enumerate(places):
                if only_first and not _leads(node, dict(series.labels)["run_id"]):
                    continue
                prefix = head % values
                out.write(prefix + prefix.join(tails[node % VARIANTS]))
                written += len(times)
        return written + self._write_budgets(out, few_s)

    def _tails(self, series: Series, times: Iterable[int], variant: int) -> list[str]:
        """The ends of the series' lines: value and time."""
        value = self._curve(series, variant)
        return [f" {value(at_s):.10g} {at_s}\n" for at_s in times]

    def _curve(self, series: Series, variant: int) -> Callable[[int], float]:
        # A counter that is checked against power is near 1 on every node, or all of them would be in trouble.
        factor = 1.0 if series.name in ALIKE else 0.7 + 0.6 * variant / VARIANTS
        if _COUNTED.search(series.name):
            start = series.value + 1000 * HOUR_S * series.per_s
            return lambda at_s: (start + series.per_s * (at_s - self._said_s)) * factor
        if series.name.endswith("_timestamp_seconds"):
            offset_s = series.value - self._said_s
            return lambda at_s: at_s + offset_s
        if (
            series.value in (0.0, 1.0)
            or series.name in ALIKE
            or "limit" in series.name
            or "total" in series.name
        ):
            return lambda _: series.value
        top = 1.0 if series.name.endswith("_ratio") and series.value <= 1 else math.inf
        return lambda at_s: min(
            top,
            series.value * factor * (1 + 0.08 * math.sin(at_s / 731 + variant) + 0.03 * math.sin(at_s / 97)),
        )

    def _places(self, node: int) -> Mapping[str, str]:
        """What the words of the template mean on this node."""
        group = node // NODES_A_RUN
        values = {"node": f"gpu-{node:04}", "zone": ZONES[group % len(ZONES)]}
        for gpu in range(len(self._gpus)):
            values[f"uuid{gpu}"] = f"GPU-{uuid5(_NAMESPACE, f'{node}/{gpu}')}"
        for number in _PLACES.values():
            values[f"namespace{number}"] = f"ns-{(group + 7 * number) % NAMESPACES:02}"
            values[f"project{number}"] = f"p-{(3 * group + 11 * number) % PROJECTS:02}"
        # What a run is must be the same on all its nodes, so the wide one belongs to the first of its groups.
        wide = node < WIDE_NODES
        owner = 0 if wide else group
        return values | {
            "group": "wide" if wide else f"{group:03}",
            "other": f"{group:03}",
            "pod": str(node % WIDE_NODES if wide else node % NODES_A_RUN),
            "trace_group": f"{owner:032x}",
            "trace_other": f"{group + 2**32:032x}",
            "namespace_group": f"ns-{owner % NAMESPACES:02}",
            "project_group": f"p-{3 * owner % PROJECTS:02}",
        }

    def _write_budgets(self, out: TextIO, times: range) -> int:
        written = 0
        for at_s in times:
            for line in budgets.text(ALL_BUDGETS, at_s).splitlines():
                if match := _SAMPLE.match(line):
                    where = f'cluster="{CLUSTER}",instance="hub",job="wattspan-hub"'
                    labels = ",".join(filter(None, (where, match[2])))
                    out.write(f"{match[1]}{{{labels}}} {match[3]} {at_s}\n")
                    written += 1
        return written


def _head(series: Series, gpus: Sequence[str]) -> str:
    """Name and labels with holes for what differs by node, for the operator ``%``.

    Args:
        gpus: uuids of the template.
    """
    labels = {"cluster": CLUSTER, "instance": "%(node)s", "job": "wattspan"}
    own = dict(series.labels)
    for name, value in own.items():
        labels[name] = _hole(name, value.replace("%", "%%"), own, gpus)
    return _selector(series.name, labels)


def _selector(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def _hole(name: str, value: str, labels: Mapping[str, str], gpus: Sequence[str]) -> str:
    if name == "uuid":
        return f"%(uuid{gpus.index(value)})s"
    run = _group(labels["run_id"]) if "run_id" in labels else "other"
    if name == "run_id":
        return f"{value.removesuffix('-gpu-1')}-%({run})s"
    if name == "grid_zone":
        return "%(zone)s"
    if name == "trace_id":
        return f"%(trace_{run})s"
    if name in ("pod_name", "pod"):
        return f"{value}-%(pod)s"
    if name == "group" and value:
        return f"{value}-%({run})s"
    if name == "namespace":
        return f"%(namespace{_place({'pod_namespace': value})})s"
    if name in ("pod_namespace", "project") and value not in ("", "_other"):
        if run == "group":
            return f"%({name.removeprefix('pod_')}_group)s"
        return f"%({name.removeprefix('pod_')}{_place(labels)})s"
    return value


_PLACES: Final = {
    ("nlp", "assistant"): 0,
    ("research", "vision"): 1,
    ("serving", "assistant"): 2,
    ("serving", "retrieval"): 3,
}


def _place(labels: Mapping[str, str]) -> int:
    """Which of the demo's owners it is; a run without a namespace is told by its project."""
    wanted = labels.get("pod_namespace"), labels.get("project")
    for (namespace, project), number in _PLACES.items():
        if wanted[0] in (None, namespace) and wanted[1] in (None, project):
            return number
    raise AssertionError(f"the demo has an owner that is new here: {wanted}")


def _group(run_id: str) -> str:
    """Which of a node's two groups trains it."""
    return "group" if run_id.startswith("llama-sft") else "other"


def _leads(node: int, run_id: str) -> bool:
    """Whether rank 0 of the run is here."""
    if run_id.startswith("llama-sft") and node < WIDE_NODES:
        return node == 0
    return node % NODES_A_RUN == 0


class Blocks:
    """Makes blocks of OpenMetrics texts, one at a time beside whoever writes the next one.

    Args:
        folder: for the texts; gone when they are blocks.
        tsdb: for the blocks.
    """

    def __init__(self, folder: Path, tsdb: Path) -> None:
        self._folder = folder
        self._tsdb = tsdb
        self._making: tuple[subprocess.Popen[bytes], Path] | None = None
        self._number = 0
        tsdb.mkdir(parents=True, exist_ok=True)

    def make(self, write: Callable[[TextIO], int], longest_s: int = BLOCK_S) -> int:
        """Write a text and let promtool make a block of it; all its times are within one aligned block.

        Returns:
            How many samples `write` says it has written.
        """
        self._number += 1
        path = self._folder / f"{self._number}.om"
        with path.open("w", buffering=1 << 20) as out:
            written = write(out)
            out.write("# EOF\n")
        self.finish()
        if not written:
            path.unlink()
            return 0
        options = ("--quiet", f"--max-block-duration={longest_s}s")
        command = ["promtool", "tsdb", "create-blocks-from", *options, "openmetrics", path, self._tsdb]
        self._making = (subprocess.Popen(command, stdout=subprocess.DEVNULL), path)
        return written

    def finish(self) -> None:
        """Wait until the last text is a block."""
        if self._making is None:
            return
        process, path = self._making
        self._making = None
        assert process.wait() == 0, f"promtool does not like {path}"
        path.unlink()


def pieces(
    begin_s: int, end_s: int, aligned_s: int, longest_s: int | None = None
) -> Iterator[tuple[int, int]]:
    """[begin, end) cut wherever a block ends, and into parts of `longest_s` at most."""
    at_s = begin_s
    while at_s < end_s:
        until_s = min(end_s, (at_s // aligned_s + 1) * aligned_s)
        if longest_s:
            until_s = min(until_s, at_s + longest_s)
        yield at_s, until_s
        at_s = until_s


@dataclass(frozen=True, slots=True)
class Recorded:
    """A series of a recording rule.

    Attributes:
        name, labels: of it.
        value: now.
    """

    name: str
    labels: Mapping[str, str]
    value: float


def write_recorded(out: TextIO, recorded: Iterable[Recorded], times: range) -> int:
    """A past for recorded series: today's value with the waves of a day and a week.

    Those of ``months.yaml`` have one sample an hour, with the month in which its hour lay.
    """
    waves = [
        1 + 0.25 * math.sin(at_s / DAY_S * math.tau) + 0.1 * math.sin(at_s / DAY_S * math.tau / 7)
        for at_s in times
    ]
    written = 0
    for series in recorded:
        by_hour = series.name.startswith("month:")
        heads: dict[int, str] = {}
        lines = []
        for at_s, wave in zip(times, waves, strict=True):
            if by_hour and at_s % HOUR_S:
                continue
            month = time.gmtime(at_s - HOUR_S / 2).tm_mon if by_hour else 0
            if month not in heads:
                labels = {**series.labels, "month": str(month)} if by_hour else series.labels
                quoted = {name: _quoted(value) for name, value in labels.items()}
                heads[month] = _selector(series.name, quoted)
            value = series.value * (1 if COUNTS.search(series.name) else wave)
            lines.append(f"{heads[month]} {value:.8g} {at_s}\n")
        out.write("".join(lines))
        written += len(lines)
    return written


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def forget_head(tsdb: Path) -> None:
    """Remove what a Prometheus that has ended recorded itself; the blocks stay."""
    for name in ("wal", "chunks_head", "wbl"):
        shutil.rmtree(tsdb / name, ignore_errors=True)
