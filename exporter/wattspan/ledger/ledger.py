"""One snapshot after another into charges, and what is known of every device now."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from wattspan.ledger.left import Left
from wattspan.ledger.meters import GpuMeter, HostMeter, Mark, Past, gpu_series, host_series
from wattspan.model import (
    Charge,
    Component,
    Gpu,
    GpuReading,
    GpuState,
    HostReading,
    HostState,
    PlatformReading,
    Snapshot,
    SourceReport,
    Tally,
)
from wattspan.runs import NOBODY, STRANGER, Holdings, HoldTime


@dataclass(frozen=True, slots=True)
class Tick:
    """What one snapshot came to.

    Attributes:
        snapshot: the one it was made from.
        charges: energy of this tick, by device.
        tallies: increments of the other counters.
        host_shares: of the host's measured energy, the part of each holder by its CPU time; it is in
            `charges` already and must not be added to the node again.
        hold_times: GPU time of each holder.
        awaited: runs, by id and attempt, that have let go of a GPU that has not been read since; they are to
            be closed when they are here no more.
        marks: counters that were read in this tick, by device key; to be kept for the next daemon.
            None for a GPU without one now: its energy is counted otherwise, and the mark on disk is to go.
        gpus, hosts, platforms: every device known, with its reading while that is fresh.
        node_power_uw: measured GPU + CPU + DRAM, each once; None when nothing measures.
    """

    snapshot: Snapshot
    charges: tuple[Charge, ...]
    tallies: tuple[Tally, ...]
    host_shares: tuple[Charge, ...]
    hold_times: tuple[HoldTime, ...]
    awaited: frozenset[tuple[str, int]]
    marks: Mapping[str, Mark | None]
    gpus: tuple[GpuState, ...]
    hosts: tuple[HostState, ...]
    platforms: tuple[PlatformReading, ...]
    node_power_uw: int | None


@dataclass(slots=True)
class _GpuBooks:
    source: str
    gpu: Gpu
    meter: GpuMeter
    reading: GpuReading | None = None


@dataclass(slots=True)
class _HostBooks:
    source: str
    meter: HostMeter
    reading: HostReading | None = None


class Ledger:
    """The books of one node. Called by the one writer; every result is immutable.

    Args:
        interval_ns: the sampler's interval.
        pasts: what an earlier daemon left, by device key.
    """

    def __init__(self, interval_ns: int, pasts: Mapping[str, Past]) -> None:
        self._interval_ns = interval_ns
        self._pasts = dict(pasts)
        self._gpus: dict[str, _GpuBooks] = {}
        self._hosts: dict[tuple[Component, str, bool], _HostBooks] = {}
        self._platforms: dict[str, tuple[str, PlatformReading]] = {}
        self._left = Left(interval_ns)

    def apply(self, snapshot: Snapshot, holdings: Holdings = NOBODY) -> Tick:
        """Take a snapshot into the books, with who held what since the one before."""
        charges: list[Charge] = []
        tallies: list[Tally] = []
        times: list[HoldTime] = []
        marks: dict[str, Mark | None] = {}
        holdings = self._left.remind(holdings)
        for report in sorted(snapshot.reports, key=_estimates_last):
            times += self._gpu_readings(report, holdings, charges, tallies, marks)
            self._host_readings(report, charges, tallies, marks)
            self._platforms = {k: v for k, v in self._platforms.items() if v[0] != report.source}
            self._platforms |= {reading.sensor: (report.source, reading) for reading in report.platforms}
            tallies += [Tally("gpu_xid_errors", (event.uuid, str(event.xid)), 1) for event in report.xids]
        tallies += [Tally("source_read_failures", (f.source, f.reason), 1) for f in snapshot.failures]
        if snapshot.clock_stepped:
            tallies.append(Tally("clock_steps", (), 1))
        self._forget_stale(snapshot)
        return Tick(
            snapshot=snapshot,
            charges=tuple(charges),
            tallies=tuple(tallies),
            host_shares=tuple(_host_shares(charges, holdings)),
            hold_times=tuple(times),
            awaited=self._left.settle(self._settled_until_ns, snapshot.taken_at_ns),
            marks=marks,
            gpus=self._gpu_states(holdings),
            hosts=self._host_states(),
            platforms=tuple(reading for _, (_, reading) in sorted(self._platforms.items())),
            node_power_uw=self._node_power_uw(),
        )

    def _gpu_readings(
        self,
        report: SourceReport,
        holdings: Holdings,
        charges: list[Charge],
        tallies: list[Tally],
        marks: dict[str, Mark | None],
    ) -> list[HoldTime]:
        times: list[HoldTime] = []
        for known in self._gpus.values():
            if known.source == report.source:
                known.reading = None  # whoever is not in this report has failed or gone
        for reading in report.gpus:
            uuid = reading.gpu.uuid
            books = self._gpus.get(uuid)
            if books is None:
                meter = GpuMeter(self._interval_ns, self._pasts.pop(f"gpu:{uuid}", None))
                books = self._gpus[uuid] = _GpuBooks(report.source, reading.gpu, meter)
                tallies += gpu_series(reading.gpu)
            books.gpu, books.reading = reading.gpu, reading
            new_charges, new_tallies, new_times = books.meter.read(reading, holdings)
            charges += new_charges
            tallies += new_tallies
            times += new_times
            if books.meter.mark is not None or not reading.gpu.has_energy_counter:
                marks[f"gpu:{uuid}"] = books.meter.mark
        return times

    def _host_readings(
        self, report: SourceReport, charges: list[Charge], tallies: list[Tally], marks: dict[str, Mark | None]
    ) -> None:
        for known in self._hosts.values():
            if known.source == report.source:
                known.reading = None
        covered = self._covered_by_module()
        for reading in report.hosts:
            if reading.estimated and self._measures(reading.component):
                continue  # estimates only where nothing measures
            key = (reading.component, reading.device, reading.estimated)
            mark_key = f"{report.source}:{reading.component}:{reading.device}"
            books = self._hosts.get(key)
            if books is None:
                meter = HostMeter(self._interval_ns, self._pasts.pop(mark_key, None))
                books = self._hosts[key] = _HostBooks(report.source, meter)
                tallies += host_series(reading)
            books.reading = reading
            new_charges, believed = books.meter.read(reading, in_node=not covered)
            charges += new_charges
            if not believed:
                tallies.append(Tally("source_read_failures", (report.source, "malformed"), 1))
            if books.meter.mark is not None:
                marks[mark_key] = books.meter.mark

    def _settled_until_ns(self, uuid: str) -> int | None:
        books = self._gpus.get(uuid)
        return None if books is None else books.meter.settled_until_ns

    def _forget_stale(self, snapshot: Snapshot) -> None:
        """A source that is down loses its readings; its devices stay known and their counters hold."""
        down = {health.source for health in snapshot.health if not health.up}
        if not down:
            return
        for gpu_books in self._gpus.values():
            if gpu_books.source in down:
                gpu_books.reading = None
        for host_books in self._hosts.values():
            if host_books.source in down:
                host_books.reading = None
        self._platforms = {k: v for k, v in self._platforms.items() if v[0] not in down}

    def _covered_by_module(self) -> bool:
        """Whether a superchip's counter already holds the host's CPU and memory."""
        return any(books.gpu.power_scope == "module" for books in self._gpus.values())

    def _measures(self, component: Component) -> bool:
        return any(
            books.reading is not None and key[0] == component and not key[2]
            for key, books in self._hosts.items()
        )

    def _gpu_states(self, holdings: Holdings) -> tuple[GpuState, ...]:
        states = (
            GpuState(
                books.gpu,
                books.reading,
                books.meter.check_ratio if books.reading else None,
                holders=len(
                    {h.holder for h in holdings.by_gpu.get(books.gpu.uuid, ()) if h.until_ns is None}
                    - {STRANGER}
                ),
            )
            for books in self._gpus.values()
        )
        return tuple(sorted(states, key=lambda state: (state.gpu.index, state.gpu.uuid)))

    def _host_states(self) -> tuple[HostState, ...]:
        return tuple(
            HostState(component, device, books.meter.power_uw if books.reading else None, estimated)
            for (component, device, estimated), books in sorted(self._hosts.items())
        )

    def _node_power_uw(self) -> int | None:
        powers = [
            b.reading.power_uw for b in self._gpus.values() if b.reading and b.reading.power_uw is not None
        ]
        if not self._covered_by_module():
            powers += [
                books.meter.power_uw
                for (_, _, estimated), books in self._hosts.items()
                if books.reading is not None and not estimated and books.meter.power_uw is not None
            ]
        return sum(powers) if powers else None


def _host_shares(charges: list[Charge], holdings: Holdings) -> Iterator[Charge]:
    """Each holder's part of the host: its CPU time over what all cores had; the rest stays with the node."""
    if not holdings.cpu_ns:
        return
    for charge in charges:
        if charge.component == "gpu" or charge.estimated:
            continue
        cpu_ns = (charge.end_ns - charge.start_ns) * holdings.cores
        # Clocks of processes tick in hundredths of a second and may run ahead of the interval's own.
        scale = max(cpu_ns, sum(holdings.cpu_ns.values()))
        for holder, used_ns in holdings.cpu_ns.items():
            if energy_uj := charge.energy_uj * used_ns // scale:
                yield replace(
                    charge,
                    energy_uj=energy_uj,
                    share="run" if holder.run_id else "pod",
                    holder=holder,
                    attribution="cpu_time",
                    in_node=False,
                )


def _estimates_last(report: SourceReport) -> bool:
    """Whether an estimate is wanted is known once the sensors have been heard."""
    return any(reading.estimated for reading in report.hosts)
