"""A demo fleet on loopback: daemons with different scenarios and a real Prometheus that scrapes them.

    with demo_fleet(tmp_path) as fleet:
        fleet.prometheus.value("sum(wattspan_node_power_watts)")
        fleet.scrapes()["gpu-1"].value("wattspan_pue_ratio")

| node | what runs there |
|---|---|
| gpu-1 | demo, 8 cards, faults; zone FR with a forecast, prices, PUE, water, a market figure |
| gpu-2 | demo, 2 cards; zone DE, whose source is broken, so that the table stands in |
| gpu-3 | `serve` on 3 fake H100; zone FR; rank 0 of the run `wide`, a foreign process, an XID, a jump |
| gpu-4 | `serve` on 3 fake H100; no zone; second node of `wide`; runs `alone` (a budget), `done` (failed) |
| hub | budgets as the hub will publish them, as still text (`BUDGETS`) |

On gpu-1, gpu-3 and gpu-4 nobody listens where spans are to go.
`instance` is the node's name and `cluster` is ``demo``; the scrape interval is 1 s.
The fleet is ready when every series that its scenarios promise has been scraped; a self-check of the
counters is among them, so that takes a minute.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Final

from dashboards.stack import budgets, grid_day
from dashboards.stack.budgets import Budget
from tests.e2e.daemon import Daemon, Scrape
from tests.e2e.metering import FAST
from tests.e2e.prometheus import Prometheus, free_port
from tests.e2e.training import SEEN_S, Clerk, Jobs, jobs_on
from tests.fakes.nvml import FakeNvml, Scenario, parse_scenario

CLUSTER: Final = "demo"
NODES: Final = ("gpu-1", "gpu-2", "gpu-3", "gpu-4")

PRICED: Final = ("--cost.price-per-kwh", "0.2", "--cost.currency", "EUR")

READY: Final = (
    "count(wattspan_gpu_up) == 16",
    'count(wattspan_run_info{run_id="wide"}) == 2',
    'min(wattspan_run_energy_joules_total{run_id="wide",component="gpu"}) > 0',
    'wattspan_run_tokens_total{run_id="wide"} > 0',
    'wattspan_run_budget_projected_ratio{run_id="alone"} > 0',
    'count(wattspan_grid_forecast_intensity_grams_per_kwh{grid_zone="FR"}) > 0',
    "count(wattspan_grid_greenest_window_start_timestamp_seconds) > 0",
    'sum(wattspan_grid_fetch_failures_total{instance="gpu-2"}) > 0',
    "sum(wattspan_span_export_failures_total) > 0",
    "sum(wattspan_gpu_xid_errors_total) > 0",
    "sum(wattspan_gpu_implausible_intervals_total) > 0",
    'sum(wattspan_gpu_unattributed_energy_joules_total{reason="foreign_process"}) > 0',
    "sum(wattspan_owner_wasted_energy_joules_total) > 0",
    "sum(wattspan_gpu_energy_check_ratio) > 0",
    "sum(wattspan_run_repeated_steps_total) > 0",
    "count(wattspan_budget_co2e_grams) > 0",
)
"""What must have been scraped before the fleet is ready."""


BUDGETS: Final = (
    Budget("fleet", "", "", "month", 50_000.0),
    Budget("nlp", "nlp", "", "30d", 1_000.0),
    Budget("vision", "", "vision", "7d", 0.5),
)
"""The whole fleet's month, a namespace's 30 days, a project's week that is spent at once."""


class Still:
    """Serves texts on /metrics, one port of loopback for each, as they are told.

    Args:
        texts: by node; may be changed while it serves.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = dict(texts)
        self._servers = {node: self._server(node) for node in texts}
        self.addresses = {
            node: f"127.0.0.1:{server.server_address[1]}" for node, server in self._servers.items()
        }

    def __enter__(self) -> "Still":
        for server in self._servers.values():
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def _server(self, node: str) -> ThreadingHTTPServer:
        still = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = still.texts[node].encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silence."""

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@dataclass(frozen=True)
class DemoFleet:
    """What runs.

    Attributes:
        daemons: by node.
        prometheus: that scrapes them and the hub.
        hub: its text under ``hub``; give it another one for other budgets.
    """

    daemons: Mapping[str, Daemon]
    prometheus: Prometheus
    hub: Still

    def scrapes(self) -> dict[str, Scrape]:
        """Each node's /metrics, one after the other."""
        return {node: daemon.metrics() for node, daemon in self.daemons.items()}


@contextmanager
def demo_fleet(folder: Path, rules: tuple[Path, ...] = ()) -> Iterator[DemoFleet]:
    """A fleet that is ready, and ends with the block.

    Args:
        folder: for states, logs and the Prometheus; its name and those in it stay short (local sockets).
        rules: rule files that the Prometheus loads, evaluated every second where a group says nothing else.
    """
    with ExitStack() as stack:
        prometheus = stack.enter_context(fleet_prometheus(folder, rules))
        hub = stack.enter_context(Still({"hub": budgets.text(BUDGETS, time.time())}))
        daemons = {
            "gpu-1": stack.enter_context(simulated(folder)),
            "gpu-2": stack.enter_context(_with_a_broken_source(folder)),
        }
        fakes: dict[str, FakeNvml] = {}
        jobs: dict[str, Jobs] = {}
        zones = {"gpu-3": ("--grid.zone", "FR", *PRICED), "gpu-4": ("--embodied.gpu-kg", "150", *PRICED)}
        for node, flags in zones.items():
            own = folder / node
            own.mkdir()
            fakes[node] = stack.enter_context(FakeNvml(_three_cards(node), own))
            jobs[node] = stack.enter_context(jobs_on(fakes[node]))
            daemons[node] = stack.enter_context(
                Daemon(
                    fakes[node],
                    own / "s",
                    *FAST,
                    *_named(node),
                    *flags,
                    *("--source.estimate", "auto", "--profile", "host"),
                    env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
                )
            )
        for daemon in daemons.values():
            daemon.wait_ready()
        prometheus.nodes(
            {node: f"127.0.0.1:{daemon.port}" for node, daemon in daemons.items()} | hub.addresses
        )
        clerks = {node: Clerk(daemons[node]) for node in zones}
        stack.enter_context(_training(clerks, jobs, fakes))
        for expression in READY:
            prometheus.wait_for(f"count({expression})", seconds=120)
        yield DemoFleet(daemons, prometheus, hub)


def fleet_prometheus(folder: Path, rules: tuple[Path, ...] = ()) -> Prometheus:
    """A Prometheus whose targets are all of the cluster ``demo``."""
    listed = ", ".join(f"'{path.resolve()}'" for path in rules)
    extra = f"      - {{target_label: cluster, replacement: {CLUSTER}}}\n"
    return Prometheus(folder, "unnamed", extra + (f"rule_files: [{listed}]\n" if rules else ""))


def _three_cards(node: str) -> Scenario:
    """Three H100 of 300 W each; their uuids follow from the scenario's name, so every node has its own."""
    cards = {"generation": "h100", "count": 3, "curve": [[0, 300]], "base_mj": 10**9}
    return parse_scenario(node, {"clock": "real", "gpu": [cards]})


def _named(node: str) -> tuple[str, ...]:
    return ("--node.name", node, "--cluster.name", CLUSTER)


def simulated(folder: Path, gpus: int = 8) -> Daemon:
    """Everything that a demo daemon can be told, so that every family of carbon and cost has series."""
    grid = grid_day.write(folder / "fr.json", "FR")
    flags = (
        *("--grid.zone", "FR", "--grid.providers", "file", "--grid.file.path", str(grid)),
        *("--grid.pue", "1.2", "--grid.market-intensity", "12", "--grid.wue", "1.8"),
        *("--embodied.gpu-kg", "150", "--embodied.host-kg", "1200"),
    )
    return Daemon(
        None,
        folder / "gpu-1",
        *_named("gpu-1"),
        *flags,
        *PRICED,
        command=("demo", "--gpus", str(gpus), "--faults"),
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
    )


def _with_a_broken_source(folder: Path) -> Daemon:
    """The first choice cannot be read, so the country's yearly figure stands in."""
    broken = folder / "de.json"
    broken.write_text("{")
    flags = ("--grid.zone", "DE", "--grid.providers", "file", "--grid.file.path", str(broken))
    return Daemon(None, folder / "gpu-2", *_named("gpu-2"), *flags, *PRICED, command=("demo", "--gpus", "2"))


@contextmanager
def _training(
    clerks: Mapping[str, Clerk], jobs: Mapping[str, Jobs], fakes: Mapping[str, FakeNvml]
) -> Iterator[None]:
    """One run on both nodes that progresses, one alone, a process that nobody knows, and some trouble."""
    pids = {node: [jobs[node].start(gpu) for gpu in range(2)] for node in clerks}
    time.sleep(SEEN_S)
    for rank, (node, clerk) in enumerate(clerks.items()):
        clerk.begin(
            run_id="wide",
            name="wide",
            project="nlp",
            group="pair",
            pid=pids[node][0],
            rank=8 * rank,
            world_size=16,
            nodes_expected=2,
            budget_co2e_grams=5.0,
            total_steps=100_000,
        )
    clerks["gpu-4"].begin(
        run_id="alone",
        name="alone",
        project="vision",
        pid=pids["gpu-4"][1],
        nodes_expected=1,
        budget_co2e_grams=5.0,
        total_steps=100_000,
    )
    clerks["gpu-4"].begin(run_id="done", name="done", project="vision", pid=pids["gpu-4"][1])
    clerks["gpu-4"].tell("done", "progress", steps=0)
    for steps in (7, 3, 5):  # a resume, of which two are made again
        clerks["gpu-4"].tell("done", "progress", steps=steps)
    clerks["gpu-4"].end("done", result="failure", error_type="OutOfMemoryError")
    fakes["gpu-3"].xid(2, 31)
    fakes["gpu-3"].jump(2, 1e6)
    over = Event()
    trainer = Thread(target=_progress, args=(clerks, over), daemon=True)
    trainer.start()
    try:
        yield
    finally:
        over.set()
        trainer.join()


def _progress(clerks: Mapping[str, Clerk], over: Event) -> None:
    """Ten steps a second, told by rank 0 every half a second, until it is over or the daemon is."""
    step = 0
    while not over.is_set():
        try:
            for node, run_id in (("gpu-3", "wide"), ("gpu-4", "alone")):
                clerks[node].tell(run_id, "progress", steps=step, samples=step * 32, tokens=step * 32_768)
        except OSError:
            return
        step += 5
        over.wait(0.5)
