"""``make fleet``: how long panels and rules take on a fleet of 1,000 nodes x 8 GPUs.

Makes two hours of raw samples and 31 days of recorded ones, serves them by a real Prometheus with our rules,
and asks every query of every panel.

Exit codes: 0 within the bounds, 1 not.
"""

import argparse
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from tests.e2e.prometheus import free_port
from tests.fleet import synthetic
from tests.fleet.panels import Reader, Timed
from tests.fleet.synthetic import (
    BLOCK_S,
    DAY_S,
    HOUR_S,
    LONG_BLOCK_S,
    RECENT_S,
    SCRAPE_S,
    Blocks,
    Fleet,
    Recorded,
)

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "alerts/rules"

PIECE_S: Final = 20 * 60
"""One text at a time: a tenth of a million lines of a thousand nodes is some 100 MB."""

CHAIN: Final = 4
"""So many evaluations the longest chain of rules over rules takes until its last figure is there."""

ROUNDS: Final = 3
"""Each panel is asked for so often, and so many evaluations of a group are looked at; the median counts."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of rules.

    Attributes:
        name: of it.
        seconds: by Prometheus' own figure, its last evaluation.
        rules: how many it has.
        slowest: the rule that took longest, and how long.
        samples: that one evaluation reads: the same on every machine.
    """

    name: str
    seconds: float
    rules: int
    slowest: str = ""
    samples: int = 0


class Server:
    """A Prometheus over blocks, with our rules at an interval of ours and nothing to scrape."""

    def __init__(self, folder: Path, tsdb: Path, interval_s: int) -> None:
        self._log = folder / "prometheus.log"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        rules = folder / f"rules-{interval_s}"
        shutil.rmtree(rules, ignore_errors=True)
        rules.mkdir()
        for path in sorted(RULES.glob("*.yaml")):
            document = yaml.safe_load(path.read_text("utf-8"))
            for group in document["groups"]:
                group["interval"] = f"{interval_s}s"
            (rules / path.name).write_text(yaml.safe_dump(document, sort_keys=False))
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{interval_s}s"},
            "rule_files": [str(rules / "*.yaml")],
            # The blocks reach beyond now, so what rules record is older than the newest sample.
            "storage": {"tsdb": {"out_of_order_time_window": "2h"}},
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={tsdb}",
                    "--storage.tsdb.retention.time=400d",
                    # Equal bounds switch compaction off: it would take the time that is measured.
                    "--storage.tsdb.min-block-duration=2h",
                    "--storage.tsdb.max-block-duration=2h",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait until it answers."""
        give_up_s = time.monotonic() + 120
        while time.monotonic() < give_up_s:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):
                    return
            except OSError:
                time.sleep(0.3)
        raise AssertionError("prometheus is not ready")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)

    def query(self, expr: str) -> list[Any]:
        """An instant query's vector."""
        with urllib.request.urlopen(
            f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expr})}", timeout=120
        ) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found

    def own(self, name: str) -> dict[str, float]:
        """One of its own metrics, by the label `rule_group`."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        rows = re.findall(rf'^{name}\{{rule_group="([^"]+)"\}} (\S+)$', text, re.MULTILINE)
        return {group: float(value) for group, value in rows}

    def until_evaluated(self, times: int) -> None:
        """Wait until each group has been evaluated so often."""
        give_up_s = time.monotonic() + 900
        while time.monotonic() < give_up_s:
            done = self.own("prometheus_rule_evaluations_total")
            rules = self.own("prometheus_rule_group_rules")
            if rules and all(done.get(group, 0) >= times * count for group, count in rules.items()):
                return
            time.sleep(1)
        raise AssertionError("rules are not evaluated")

    def groups(self, *, count: bool = False) -> list[Group]:
        """Each group's last evaluation.

        Args:
            count: also the samples that it reads, which takes as long as an evaluation.
        """
        took = self.own("prometheus_rule_group_last_duration_seconds")
        with urllib.request.urlopen(f"{self.url}/api/v1/rules", timeout=30) as answer:
            known = json.load(answer)["data"]["groups"]
        reader, found = Reader(self.url, SCRAPE_S), []
        for group in known:
            slowest = max(group["rules"], key=lambda rule: rule["evaluationTime"])
            found.append(
                Group(
                    group["name"],
                    took[f"{group['file']};{group['name']}"],
                    len(group["rules"]),
                    f"{slowest['name']} {slowest['evaluationTime']:.3f} s",
                    sum(reader.samples(rule["query"]) for rule in group["rules"]) if count else 0,
                )
            )
        return found

    def failures(self) -> float:
        """Evaluations that went wrong."""
        return sum(self.own("prometheus_rule_evaluation_failures_total").values())

    def resident_gib(self) -> float:
        """Memory that it holds."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(match[1]) / 2**20 if match else 0.0


@contextmanager
def serving(folder: Path, tsdb: Path, interval_s: int) -> Iterator[Server]:
    """A server that is ready, and ends with the block."""
    server = Server(folder, tsdb, interval_s)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def main(words: Sequence[str] | None = None) -> int:
    """Make, serve, time, print."""
    arguments = _parser().parse_args(words)
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        return run(arguments, arguments.keep)
    with TemporaryDirectory(prefix="wattspan-fleet-") as folder:
        return run(arguments, Path(folder))


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """The whole of it, in a folder."""
    began_s = time.monotonic()
    tsdb = folder / "tsdb"
    now_s = make_raw(arguments, folder, tsdb, began_s)
    make_past(arguments, folder, tsdb, now_s, began_s)
    with serving(folder, tsdb, arguments.evaluate_s) as server:
        groups = _time_groups(server)
        told(began_s, f"every group of rules has been evaluated {ROUNDS + 1} times")
        panels = _time_panels(server, arguments.boards)
        told(began_s, "every panel has been asked for")
        failures = server.failures()
        memory_gib = server.resident_gib()
    own_gib, others_gib = (
        resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        f"memory at most: {own_gib:.1f} GiB here, {memory_gib:.1f} GiB Prometheus,"
        f" {others_gib:.1f} GiB the largest of it and promtool, which counts the text that it maps"
    )
    code = report(panels, groups, failures, arguments)
    if time.time() > now_s + arguments.ahead_minutes * 60 - SCRAPE_S:
        print("it took so long that the raw samples ended meanwhile: repeat it with more --ahead-minutes")
        return 1
    return code


def make_raw(arguments: argparse.Namespace, folder: Path, tsdb: Path, began_s: float) -> int:
    """Blocks with two hours of what nodes say, and some minutes to come.

    Returns:
        What is now in them, in seconds.
    """
    blocks = Blocks(folder, tsdb)
    state = folder / "n"
    state.mkdir()
    said, said_s = synthetic.template(state, arguments.gpus)
    now_s = int(time.time()) // SCRAPE_S * SCRAPE_S
    begin_s, end_s = now_s - 2 * HOUR_S, now_s + arguments.ahead_minutes * 60
    fleet = Fleet(said, said_s, arguments.nodes)
    written = 0
    for start_s, until_s in synthetic.pieces(begin_s, end_s, BLOCK_S, PIECE_S):
        written += blocks.make(lambda out, a=start_s, b=until_s: fleet.write(out, a, b, now_s - RECENT_S))
    blocks.finish()
    told(began_s, f"{written:,} raw samples of {arguments.nodes} nodes, {len(said)} series a node")
    return now_s


def make_past(arguments: argparse.Namespace, folder: Path, tsdb: Path, now_s: int, began_s: float) -> None:
    """Blocks with 31 days of what the rules record: every 5 minutes of the last day, every hour before it."""
    blocks = Blocks(folder, tsdb)
    recorded = _recorded(folder, tsdb, max(1, arguments.evaluate_s // 2))
    synthetic.forget_head(tsdb)
    told(began_s, f"the rules record {len(recorded):,} series")
    past_s = (now_s - 2 * HOUR_S) // HOUR_S * HOUR_S
    written = 0
    spans = [(past_s - arguments.days * DAY_S, past_s - DAY_S, HOUR_S), (past_s - DAY_S, past_s, 300)]
    for first_s, last_s, step_s in spans:
        for start_s, until_s in synthetic.pieces(first_s, last_s, LONG_BLOCK_S):
            times = range(-(-start_s // step_s) * step_s, until_s, step_s)
            written += blocks.make(
                lambda out, times=times: synthetic.write_recorded(out, recorded, times), LONG_BLOCK_S
            )
    blocks.finish()
    told(began_s, f"{written:,} samples of them over {arguments.days} days")


def _recorded(folder: Path, tsdb: Path, evaluate_s: int) -> list[Recorded]:
    """What the rules make of the raw samples: each recorded series with its value now."""
    with serving(folder, tsdb, evaluate_s) as server:
        server.until_evaluated(CHAIN)
        return [
            Recorded(
                row["metric"]["__name__"],
                {name: value for name, value in row["metric"].items() if name not in ("__name__", "month")},
                float(row["value"][1]),
            )
            for row in server.query('{__name__=~".+:.+"}')
        ]


def _time_groups(server: Server) -> list[Group]:
    """Each group, by the median of its evaluations; the first one finds nothing in memory and is left out."""
    rounds = []
    for evaluations in range(2, 2 + ROUNDS):
        server.until_evaluated(evaluations)
        rounds.append(sorted(server.groups(), key=lambda group: group.name))
    read = {group.name: group.samples for group in server.groups(count=True)}
    medians = [
        sorted(same, key=lambda group: group.seconds)[ROUNDS // 2] for same in zip(*rounds, strict=True)
    ]
    return [replace(group, samples=read[group.name]) for group in medians]


def _time_panels(server: Server, boards: Path) -> list[Timed]:
    """Each panel, by the median of its rounds."""
    reader = Reader(server.url, SCRAPE_S)
    timed = []
    for path in sorted(boards.glob("*.json")):
        rounds = [list(reader.time_board(path)) for _ in range(ROUNDS)]
        timed += [
            sorted(same, key=lambda panel: panel.seconds)[ROUNDS // 2] for same in zip(*rounds, strict=True)
        ]
    return timed


def report(panels: list[Timed], groups: list[Group], failures: float, arguments: argparse.Namespace) -> int:
    """The tables; 1 where a bound is broken or Prometheus complained."""
    empty = [panel for panel in panels if not panel.series]
    errors = [error for panel in panels for error in panel.errors]
    print(f"\npanels: {len(panels)}, of them with data: {len(panels) - len(empty)}")
    for panel in sorted(panels, key=lambda panel: -panel.seconds)[:10]:
        print(
            f"  {panel.seconds:7.3f} s  {panel.samples:10,} samples  {panel.series:6} series"
            f"  {panel.board}: {panel.title}"
        )
    print("without data here: " + (", ".join(f"{panel.board}: {panel.title}" for panel in empty) or "none"))
    for error in errors:
        print(f"  refused: {error}")
    print(f"\ngroups of rules: {len(groups)}, failed evaluations: {failures:.0f}")
    for group in sorted(groups, key=lambda group: -group.seconds)[:12]:
        print(
            f"  {group.seconds:7.3f} s  {group.samples:10,} samples  {group.rules:3} rules"
            f"   {group.name}: most of it {group.slowest}"
        )
    slowest, longest = max(panel.seconds for panel in panels), max(group.seconds for group in groups)
    good = slowest < arguments.panel_s and longest < arguments.group_s and not errors and not failures
    print(
        f"\nslowest panel {slowest:.2f} s (bound {arguments.panel_s:g} s),"
        f" slowest group {longest:.2f} s (bound {arguments.group_s:g} s): {'good' if good else 'NOT GOOD'}"
    )
    return 0 if good else 1


def told(began_s: float, what: str) -> None:
    """Where it is, and after how long."""
    print(f"{time.monotonic() - began_s:6.0f} s  {what}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.big", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=8, help="of each node")
    parser.add_argument("--days", type=int, default=31, help="of recorded series")
    parser.add_argument(
        "--ahead-minutes",
        type=int,
        default=15,
        help="how far beyond now the raw samples go: until then everything has to be measured",
    )
    parser.add_argument(
        "--evaluate-s", type=int, default=30, help="interval of all rules; most of them have a minute"
    )
    parser.add_argument("--panel-s", type=float, default=2.0, help="bound of a panel")
    parser.add_argument("--group-s", type=float, default=1.0, help="bound of a group of rules")
    parser.add_argument("--boards", type=Path, default=ROOT / "dashboards", help="folder with dashboards")
    parser.add_argument("--keep", type=Path, help="keep everything in this folder")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C does: what was started ends too
    sys.exit(main())
