"""The one place that knows every room: it wires them, starts them in order and ends them in reverse.

It decides nothing else.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from wattspan import __version__, log, systemd
from wattspan.carbon.fetcher import Fetcher
from wattspan.carbon.location import REGION_LABEL
from wattspan.carbon_service import FOLDER, CarbonService
from wattspan.config import Config
from wattspan.devices import Source
from wattspan.devices.amd import AmdSource
from wattspan.devices.demo import DemoSource
from wattspan.devices.estimate import EstimateSource
from wattspan.devices.hwmon import HwmonSource
from wattspan.devices.intel import IntelSource
from wattspan.devices.ipmi import IpmiSource
from wattspan.devices.nvidia import NvidiaSource
from wattspan.devices.rapl import RaplSource
from wattspan.errors import SetupError, UnreachableError
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.marks import pasts
from wattspan.journal.records import JournalError
from wattspan.journal.store import Journal
from wattspan.ledger.ledger import Ledger
from wattspan.model import Snapshot
from wattspan.publish import otlp_metrics, spans_otlp
from wattspan.publish.api import NodeInfo
from wattspan.publish.runs_api import RunsApi
from wattspan.publish.socket_server import SocketServer
from wattspan.publish.web import Site, application
from wattspan.publish.webconfig import WebConfigFile
from wattspan.release import Release
from wattspan.run_service import RunService
from wattspan.runs import NOBODY
from wattspan.sampler import Sampler
from wattspan.units import NS_PER_S
from wattspan.workloads.node_label import asking

logger = logging.getLogger(__name__)

EPHEMERAL_NS: Final = 30 * NS_PER_S
"""A daemon that a run has brought with it ends so long after the last run."""

STOP_S: Final = 1.0
"""How long the web server and the sources each have for an orderly end; SIGTERM to exit stays under 5 s."""


def sources(config: Config) -> list[Source]:
    """The sources that the configuration allows, unopened, in the order in which they are shown.

    Raises:
        SetupError: a setting of a source that cannot work, such as a library that is no NVML.
    """
    modes = config.source_modes
    node, sysfs, procfs = config.node_name, config.path_sysfs, config.path_procfs
    library = None if config.nvml_library is None else str(config.nvml_library)
    table: dict[str, Callable[[], Source]] = {
        "nvidia": lambda: NvidiaSource(library),
        "amd": lambda: AmdSource(node, sysfs),
        "intel": lambda: IntelSource(node, sysfs),
        "rapl": lambda: RaplSource(sysfs, procfs),
        "hwmon": lambda: HwmonSource(sysfs),
        "ipmi": IpmiSource,
        "estimate": lambda: EstimateSource(procfs),
    }
    return [make() for name, make in table.items() if modes[name] != "off"]


def serve(config: Config, *, ephemeral: bool = False) -> int:
    """Meter this node until told to stop. Returns the exit code.

    Args:
        config: checked.
        ephemeral: serve the local socket alone, and end when no run has been there for a while.

    Raises:
        SetupError: configuration that cannot work.
        UnreachableError: the state folder or an address cannot be had.
    """
    modes = config.source_modes
    wanted = [(source, modes[source.name] == "on") for source in sources(config)]
    return _run(config, wanted, runs=ephemeral or config.runs == "on", ephemeral=ephemeral)


def demo(config: Config, *, gpus: int, faults: bool) -> int:
    """Serve simulated GPUs until told to stop. Returns the exit code."""
    return _run(config, [(DemoSource(config.node_name, gpus=gpus, faults=faults), True)], demo=True)


def _run(
    config: Config,
    wanted: Sequence[tuple[Source, bool]],
    *,
    runs: bool = True,
    ephemeral: bool = False,
    demo: bool = False,
) -> int:
    log.setup(config.log_level, config.log_format)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there is somebody to take it
    label = asking(config.node_name, REGION_LABEL, os.environ) if config.kubernetes_pods == "api" else None
    carbon = CarbonService(config, os.environ, config.state_dir / FOLDER, label)
    region = carbon.chain.location.region
    board = Board()
    node = NodeInfo(config.node_name, config.cluster_name, __version__, config.sample_interval_ns)
    with ExitStack() as undo:
        web = None if ephemeral else _Web(config, undo)
        journal = Journal.open(config.state_dir, _boot_id(config.path_procfs))
        for notice in journal.restored.notices:
            logger.warning("journal: %s", notice)
        sampler = Sampler(wanted, config.sample_interval_ns)
        wake = sampler.woken.set
        service = None
        if runs:
            service = RunService(config, journal, board, wake, demo=demo, export=not ephemeral, region=region)
        if service is not None:
            undo.callback(service.stop, STOP_S)
            # A site of its own: each has an event loop, and whoever reaches the socket needs no password.
            local = _local(config, Site(board, None, node, runs=service.api), service, needed=ephemeral)
            if local is not None:
                undo.callback(local.stop, STOP_S)
                local.start()
        keeper = service.keeper if service else None
        books = Books(journal, board, config.cost_currency, keeper, profile=config.profile)
        daemon = Daemon(config, sampler, carbon, journal, books, service, ephemeral=ephemeral)
        undo.callback(daemon.close)
        daemon.start()
        if web is not None:
            web.start(board, node, service.api if service else None)
            _export_metrics(config, board, undo, region)
        return daemon.wait()


def _export_metrics(config: Config, board: Board, undo: ExitStack, region: str) -> None:
    """OpenTelemetry's hardware metrics, for whoever asks with OTEL_METRICS_EXPORTER=otlp."""
    if otlp_metrics.wanted(os.environ):
        kubernetes = config.kubelet_dir.is_dir()
        resource = spans_otlp.resource_of(
            config.node_name, config.cluster_name, __version__, region=region, kubernetes=kubernetes
        )
        undo.callback(otlp_metrics.MetricExport(board, os.environ, resource).close, STOP_S)


class _Web:
    """The listener. Its ports are taken before the journal is touched, and serve once there is a view."""

    def __init__(self, config: Config, undo: ExitStack) -> None:
        # Imported here: metering, the local socket and the other commands work without the daemon's extra.
        from wattspan.publish import listen
        from wattspan.publish.exposition import Exposition
        from wattspan.publish.server import Server

        self._server = Server
        self._undo = undo
        self._web_config = WebConfigFile(config.web_config_file) if config.web_config_file else None
        self._exposition = Exposition(config.metrics_series_budget)
        self._sockets = listen.bind(config.web_listen_address)
        for listener in self._sockets:
            undo.callback(listener.close)

    def start(self, board: Board, node: NodeInfo, api: RunsApi | None) -> None:
        """Begin to serve."""
        web = application(board, self._exposition.render, node, runs=api, guard=self._web_config)
        server = self._server(self._sockets, web, gate=self._web_config.gate if self._web_config else None)
        self._undo.callback(server.stop, STOP_S)
        server.start()
        logger.info("wattspan %s serves on %s", __version__, ", ".join(server.addresses))


def _local(config: Config, site: Site, service: RunService, *, needed: bool) -> SocketServer | None:
    """The local socket, where it can be had: without it runs are told over TCP.

    Raises:
        SetupError, UnreachableError: it is `needed`, as the only door, and cannot be had.
    """
    try:
        if config.socket is None:
            raise SetupError("socket: not set, and there is no XDG_RUNTIME_DIR for one; set --socket")
        return SocketServer(config.socket, site.answer, service.peers)
    except (SetupError, UnreachableError) as error:
        if needed:
            raise
        logger.warning("no local socket: %s", error)
        return None


class Daemon:
    """The sampling thread with all that it owns, and the signals that end it."""

    def __init__(
        self,
        config: Config,
        sampler: Sampler,
        carbon: CarbonService,
        journal: Journal,
        books: Books,
        runs: RunService | None,
        *,
        ephemeral: bool = False,
    ) -> None:
        self._carbon = carbon
        self._fetcher = Fetcher([carbon])
        self._ephemeral = ephemeral
        self._busy_ns = time.monotonic_ns()
        self._sampler = sampler
        self._ledger = Ledger(config.sample_interval_ns, pasts(journal.restored.baselines))
        self._books = books
        self._runs = runs
        self._release = Release(config.state_dir, self._sampler)
        self._systemd = systemd.Notifier.from_environment(os.environ)
        self._stop = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._meter, name="sampler")
        self._exit_code = 0

    def start(self) -> None:
        """Begin metering; signals are taken from here on. Must be called in the main thread."""
        self._carbon.settle(time.time_ns(), time.monotonic_ns())
        location = self._carbon.chain.location
        logger.log(logging.WARNING if location.unheard else logging.INFO, "grid: %s", location.how)
        if self._carbon.live:
            self._fetcher.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        signal.signal(signal.SIGUSR1, lambda *_: self._release.requested())
        if self._runs is not None:
            self._runs.serve(self._books)
        self._thread.start()

    def wait(self) -> int:
        """Wait for a signal or for the end of metering. Returns the exit code."""
        self._done.wait()
        return self._exit_code

    def close(self) -> None:
        """Stop metering; the journal has a clean stop when this returns, if the disk allowed it."""
        self._end()
        self._thread.join()
        self._fetcher.stop(0)

    def _end(self) -> None:
        self._stop.set()
        self._sampler.woken.set()

    def _meter(self) -> None:
        try:
            self._sampler.run(self._stop, self._take, self._runs.mail if self._runs else lambda: False)
            self._systemd.stopping()
            if self._sampler.restart_needed:
                logger.warning("ending for a new process to go on: %s", self._sampler.restart_needed)
            else:
                logger.info("stopping")
                if self._runs is not None:
                    self._runs.keeper.ending()
                self._take(self._sampler.look())  # what was used until now belongs to this daemon
            self._books.close()
        except JournalError as error:
            logger.error("journal: no clean stop: %s", error)
            self._exit_code = 1
        except Exception:
            logger.exception("metering ended")
            self._exit_code = 1
        finally:
            self._sampler.close(STOP_S)
            self._done.set()

    def _take(self, snapshot: Snapshot) -> None:
        holdings = self._runs.holdings(snapshot) if self._runs else NOBODY
        tick = self._ledger.apply(snapshot, holdings)
        self._carbon.equip(state.gpu.model for state in tick.gpus)
        wall_ns = snapshot.taken_at_ns + snapshot.wall_offset_ns
        self._books.take(tick, self._carbon.rates, self._carbon.state(wall_ns), self._carbon.news())
        if self._runs is not None:
            self._runs.committed(self._books.journal_error)
        self._release.settle()
        self._systemd.alive()
        if self._ephemeral and self._runs is not None:
            self._end_when_idle(self._runs, snapshot.taken_at_ns)

    def _end_when_idle(self, runs: RunService, now_ns: int) -> None:
        if runs.busy:
            self._busy_ns = now_ns
        elif now_ns - self._busy_ns >= EPHEMERAL_NS:
            self._stop.set()


def _boot_id(procfs: Path) -> str:
    """This boot's random id (proc(5)); empty when it cannot be read, which equals no other boot."""
    try:
        return (procfs / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
