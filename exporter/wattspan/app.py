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
from dataclasses import replace
from pathlib import Path
from typing import Final

from wattspan import __version__, log, systemd
from wattspan.carbon.chain import Chain, chain_of
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
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.marks import pasts
from wattspan.journal.records import JournalError
from wattspan.journal.store import Journal
from wattspan.ledger.ledger import Ledger
from wattspan.model import Snapshot
from wattspan.publish.api import NodeInfo
from wattspan.publish.web import Asgi, application
from wattspan.publish.webconfig import WebConfigFile
from wattspan.release import Release
from wattspan.sampler import Sampler

logger = logging.getLogger(__name__)

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


def serve(config: Config) -> int:
    """Meter this node until told to stop. Returns the exit code.

    Raises:
        SetupError: configuration that cannot work.
        UnreachableError: the state folder or an address cannot be had.
    """
    modes = config.source_modes
    return _run(config, [(source, modes[source.name] == "on") for source in sources(config)])


def demo(config: Config, *, gpus: int, faults: bool) -> int:
    """Serve simulated GPUs, with a state folder of their own. Returns the exit code."""
    aside = replace(config, state_dir=config.state_dir / "demo")
    return _run(aside, [(DemoSource(config.node_name, gpus=gpus, faults=faults), True)])


def _run(config: Config, wanted: Sequence[tuple[Source, bool]]) -> int:
    # Imported here: metering and the other commands work without the daemon's extra.
    from wattspan.publish import listen
    from wattspan.publish.server import Server

    log.setup(config.log_level, config.log_format)
    chain = chain_of(config.grid_zone, config.grid_region, config.grid_intensity, config.grid_pue, os.environ)
    board = Board()
    with ExitStack() as undo:
        web_config = WebConfigFile(config.web_config_file) if config.web_config_file else None
        web = _web(config, board, web_config)
        gate = web_config.gate if web_config else None
        server = Server(listen.bind(config.web_listen_address), web, gate=gate)
        undo.callback(server.stop, STOP_S)
        journal = Journal.open(config.state_dir, _boot_id(config.path_procfs))
        for notice in journal.restored.notices:
            logger.warning("journal: %s", notice)
        daemon = Daemon(config, wanted, chain, board, journal)
        undo.callback(daemon.close)
        daemon.start()
        server.start()
        logger.info("wattspan %s serves on %s", __version__, ", ".join(server.addresses))
        return daemon.wait()


def _web(config: Config, board: Board, web_config: WebConfigFile | None) -> Asgi:
    from wattspan.publish.exposition import Exposition

    node = NodeInfo(config.node_name, config.cluster_name, __version__, config.sample_interval_ns)
    exposition = Exposition(config.metrics_series_budget)
    return application(board, exposition.render, node, guard=web_config)


class Daemon:
    """The sampling thread with all that it owns, and the signals that end it."""

    def __init__(
        self,
        config: Config,
        wanted: Sequence[tuple[Source, bool]],
        chain: Chain,
        board: Board,
        journal: Journal,
    ) -> None:
        self._chain = chain
        self._sampler = Sampler(wanted, config.sample_interval_ns)
        self._ledger = Ledger(config.sample_interval_ns, pasts(journal.restored.baselines))
        self._books = Books(journal, board)
        self._release = Release(config.state_dir, self._sampler)
        self._systemd = systemd.Notifier.from_environment(os.environ)
        self._stop = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._meter, name="sampler")
        self._exit_code = 0

    def start(self) -> None:
        """Begin metering; signals are taken from here on. Must be called in the main thread."""
        self._chain.refresh(time.time_ns())
        logger.info("grid: %s", self._chain.location.how)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        signal.signal(signal.SIGUSR1, lambda *_: self._release.requested())
        self._thread.start()

    def wait(self) -> int:
        """Wait for a signal or for the end of metering. Returns the exit code."""
        self._done.wait()
        return self._exit_code

    def close(self) -> None:
        """Stop metering; the journal has a clean stop when this returns, if the disk allowed it."""
        self._end()
        self._thread.join()

    def _end(self) -> None:
        self._stop.set()
        self._sampler.woken.set()

    def _meter(self) -> None:
        try:
            self._sampler.run(self._stop, self._take)
            self._systemd.stopping()
            if self._sampler.restart_needed:
                logger.warning("ending for a new process to go on: %s", self._sampler.restart_needed)
            else:
                logger.info("stopping")
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
        tick = self._ledger.apply(snapshot)
        wall_ns = snapshot.taken_at_ns + snapshot.wall_offset_ns
        self._books.take(tick, self._chain.pricing, self._chain.state(wall_ns))
        self._release.settle()
        self._systemd.alive()


def _boot_id(procfs: Path) -> str:
    """This boot's random id (proc(5)); empty when it cannot be read, which equals no other boot."""
    try:
        return (procfs / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
