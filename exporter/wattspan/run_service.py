"""Everything about runs, wired: who is watched, where commands come from, what is kept and what is exported.

Like `wattspan.app` it decides nothing; the one writer calls it, unless a method says otherwise.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Protocol

from wattspan import __version__
from wattspan.carbon import calibration
from wattspan.config import Config
from wattspan.errors import NotHereError, UnreachableError
from wattspan.journal.board import Board
from wattspan.journal.books import Books
from wattspan.journal.history import History
from wattspan.journal.outbox import Outbox
from wattspan.journal.records import Restored
from wattspan.journal.run_book import RunBook
from wattspan.journal.store import Journal
from wattspan.model import CounterKey, Snapshot
from wattspan.publish import span_content, spans_otlp
from wattspan.publish.commands import RETRY_AFTER_S, Caller, Mailbox
from wattspan.publish.identity import Identity, PodIdentity, nobody
from wattspan.publish.pages import ProblemError
from wattspan.publish.peers import PeerProcesses
from wattspan.publish.runs_api import RunsApi
from wattspan.publish.spans import SpanCounts, SpanExporter
from wattspan.publish.tokens import TokenFile
from wattspan.run_desk import Job, RunDesk
from wattspan.run_keeper import RunKeeper, just_ended, registry_of, resumed
from wattspan.runs import Holdings, PodRef, RunNow, RunRecord, SpanRecord, Stretch
from wattspan.units import NS_PER_S
from wattspan.workloads import endpoint, markers, pods
from wattspan.workloads.demo import DemoWorkloads
from wattspan.workloads.jobs import run_of_pod
from wattspan.workloads.kubelet import Kubelet
from wattspan.workloads.markers import MarkedRun
from wattspan.workloads.pods import PodFacts, PodList
from wattspan.workloads.processes import Processes, ProcessFacts
from wattspan.workloads.registry import (
    KEEP_ENDED_NS,
    MAX_REMEMBERED,
    Ending,
    LastAttempt,
    Moment,
    RefusedError,
    Registry,
)
from wattspan.workloads.resolver import Resolver
from wattspan.workloads.slices import SliceList
from wattspan.workloads.slurm import SlurmMapping
from wattspan.workloads.user_names import UserNames
from wattspan.workloads.watch import KubernetesWatch, PodView

logger = logging.getLogger(__name__)

KUBELET_NS = 5 * NS_PER_S
"""Between two looks at the kubelet's socket: pods come and go in seconds."""


class Who(Protocol):
    """Says who holds what."""

    def resolve(self, snapshot: Snapshot, pods: PodView | None, now: Moment) -> Holdings:
        """Who held what since the last call."""


class RunService:
    """The runs of this node.

    Args:
        config: of the daemon.
        journal: open; its restored runs are gone on with.
        board: where views are pinned.
        wake: has the sampler look at the mailbox.
        demo: simulated workloads instead of this machine's.
        export: spans, where a collector is configured; not from the base install's ephemeral daemon.
        region: of the cloud, for the spans' resource; empty where none is known.
    """

    def __init__(
        self,
        config: Config,
        journal: Journal,
        board: Board,
        wake: Callable[[], None],
        *,
        demo: bool = False,
        export: bool = True,
        region: str = "",
    ) -> None:
        self._books: Books | None = None
        self._silence_ns = config.api_silence_ns
        history = History(config.state_dir)
        self._book = RunBook(
            config.node_name,
            config.cluster_name,
            config.cost_currency,
            self._accounts,
            config.spans_window_ns,
            calibration.read(config.calibration_file) if config.calibration_file else {},
            history.ended_co2e_g,
        )
        user_of = UserNames().of if config.privacy_user_names == "on" else None
        self._registry = _restored(journal.restored, history, self._book, user_of)
        self._processes = Processes(config.path_procfs, sysfs=config.path_sysfs)
        slurm = SlurmMapping(config.slurm_mapping_dir) if config.slurm_mapping_dir else None
        self._who: Who = (
            DemoWorkloads(self._registry, config.node_name)
            if demo
            else Resolver(self._registry, self._processes, os.cpu_count() or 1, config.cluster_name, slurm)
        )
        self._watch = None if demo else _watch_of(config)
        exporting = export and spans_otlp.wanted(os.environ)
        self._delivered: list[int] = []
        self._exporter = self._exporter_of(config, region) if exporting else None
        self.keeper = RunKeeper(
            self._registry,
            self._book,
            _spans_of if exporting else None,
            self._take_delivered,
            self._span_counts if exporting else None,
        )
        self.mailbox = Mailbox(wake)
        self._desk = RunDesk(self._registry, self._book, self.mailbox, self._job_of, self._processes.alive)
        self.peers = PeerProcesses()
        tokens = TokenFile(config.api_token_file) if config.api_token_file else None
        identity = Identity(self.peers, self._pod_by_address, tokens)
        self.api = RunsApi(self.mailbox, _NodeHistory(board, history), identity, config.cluster_name)

    def serve(self, books: Books) -> None:
        """Begin to watch and to export. `books` hold the runs' accounts."""
        self._books = books
        if self._watch is not None:
            self._watch.start()
        if self._exporter is not None:
            self._exporter.start()

    def stop(self, timeout_s: float) -> None:
        """End every thread; what was not exported stays in the outbox. Any thread may call."""
        self.mailbox.close()
        if self._watch is not None:
            self._watch.stop(timeout_s)
        if self._exporter is not None:
            self._exporter.stop(timeout_s)

    @property
    def busy(self) -> bool:
        """Whether a run goes on."""
        return bool(self._registry.live)

    def mail(self) -> bool:
        """Do what clients have asked for; True when something began or ended."""
        return self._desk.work(Moment(time.monotonic_ns(), time.time_ns()))

    def holdings(self, snapshot: Snapshot) -> Holdings:
        """Who held what since the snapshot before."""
        now = Moment(snapshot.taken_at_ns, snapshot.taken_at_ns + snapshot.wall_offset_ns)
        self._registry.end_silent(now, self._silence_ns)
        holdings = self._who.resolve(snapshot, self._watch.latest if self._watch else None, now)
        self._registry.name_users()
        self.keeper.holdings(holdings)
        return holdings

    def committed(self, journal_error: str) -> None:
        """A tick's commit was tried: answer clients."""
        self._desk.answer(journal_error)

    def _accounts(self, run_id: str) -> dict[CounterKey, int | float]:
        return self._books.accounts_of_run(run_id) if self._books else {}

    def _take_delivered(self) -> tuple[int, ...]:
        delivered = tuple(self._delivered)
        del self._delivered[: len(delivered)]  # the exporter's thread may be adding at the end
        return delivered

    def _span_counts(self) -> SpanCounts:
        return self._exporter.counts if self._exporter else SpanCounts()

    def _exporter_of(self, config: Config, region: str) -> SpanExporter:
        resource = spans_otlp.resource_of(
            config.node_name,
            config.cluster_name,
            __version__,
            region=region,
            kubernetes=self._watch is not None,
        )
        door = spans_otlp.door(os.environ, resource)
        logger.info("spans: exported to %s", door.place)
        return SpanExporter(Outbox(config.state_dir), door, self._delivered.extend)

    def _pod_by_address(self, address: str) -> PodIdentity | None:
        """The pod of this node that alone has an address; any thread may ask.

        Raises:
            ProblemError: 503, it may be a pod that has just begun; 401, nobody says what the pods are.
        """
        if self._watch is None:
            return None
        found = [pod for pod in self._watch.latest.pods.values() if address in pod.ips and not pod.ended]
        if not found and not _is_loopback(address):
            if self._watch.expects(address):
                raise ProblemError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"no pod with the address {address} is known yet",
                    {"retry-after": str(RETRY_AFTER_S)},
                )
            if why := self._watch.pods_failure:
                raise nobody(f"; the source of pod metadata fails now: {why}")
        found = [pod for pod in found if not pod.host_network]
        if len(found) != 1:
            return None
        return PodIdentity(found[0].namespace, found[0].name, found[0].uid)

    def _job_of(self, caller: Caller, told: Mapping[str, str]) -> Job:
        """The job of a caller: by what the machine sees of it, else by what it says itself.

        Raises:
            RefusedError: 503, its pod is not known yet; 403, nor is it going to be.
            ReadError: procfs fails.
        """
        fact = None if caller.pid is None else self._processes.look([caller.pid]).get(caller.pid)
        pod = self._pod_of(caller, fact)
        seen: Mapping[str, str] = fact.markers if fact is not None else {}
        named = markers.run_of({**told, **seen})
        if pod is None:
            # One that cannot be looked at, such as one that ended meanwhile, may have been in a container.
            contained = fact is None or bool(fact.cgroup.pod_uid or fact.cgroup.container_id)
            if named is None:
                return Job(contained=contained)
            witnessed = _is_witnessed(named, fact, told)
            return Job(named.run_id, named.attempt, witnessed=witnessed, contained=contained)
        run_id, attempt, project, group = "", None, "", ""
        of_pod = run_of_pod(pod)
        if of_pod is not None:
            run_id, attempt = of_pod.run_id, of_pod.attempt
            project, group = of_pod.project, of_pod.group
        if named is not None and (of_pod is None or named.marker == "WATTSPAN_RUN_ID"):
            if named.run_id != run_id or named.attempt is not None:
                attempt = named.attempt
            run_id = named.run_id
        return Job(run_id, attempt, PodRef(pod.namespace, pod.name), project, group, pod.namespace)

    def _pod_of(self, caller: Caller, fact: ProcessFacts | None) -> PodFacts | None:
        """The pod of a caller; None where it has none, or where nobody says what the pods are.

        Raises:
            RefusedError: 503, it is not known yet; 403, nor is it going to be.
        """
        uid = caller.pod_uid or (fact.cgroup.pod_uid if fact is not None else "")
        if self._watch is None or not uid:
            return None
        pod = self._watch.latest.pods.get(uid)
        if pod is None and self._watch.knows_pods:
            # A run of no pod would be out of its own reach once the pod is known.
            if self._watch.expects(uid):
                raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "the caller's pod is not known yet")
            failure = self._watch.pods_failure
            why = f"the source of pod metadata fails: {failure}" if failure else "it is not among this node's"
            raise RefusedError(HTTPStatus.FORBIDDEN, f"the caller's pod is not known to the daemon: {why}")
        return pod


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _is_witnessed(named: MarkedRun, fact: ProcessFacts | None, told: Mapping[str, str]) -> bool:
    """Whether a process is of the run that is named, by more than its own word.

    Its word counts where its environment may not be read. A control group that names another Slurm job
    knows better than any environment: whoever starts a program chooses what is in that.
    """
    if fact is None:
        return False
    witness = fact.markers if fact.environ_readable else told
    if named.source == "slurm" and fact.cgroup.slurm_job not in ("", witness.get("SLURM_JOB_ID", "")):
        return False
    seen = markers.run_of(witness)
    return seen is not None and seen.run_id == named.run_id


def _restored(
    restored: Restored, history: History, book: RunBook, user_of: Callable[[int], str | None] | None
) -> Registry:
    """The runs of an earlier daemon. After a reboot those without pods are lost: no process outlives it."""
    now = Moment(time.monotonic_ns(), time.time_ns())
    accounts = {(account.quantity, account.labels): account.total for account in restored.accounts}
    live = []
    for kept in restored.runs:
        try:
            live.append(resumed(kept, book, accounts, now, same_boot=restored.same_boot))
        except (LookupError, TypeError, ValueError) as error:
            logger.warning("run %s of another version is not gone on with: %r", kept.record.run.run_id, error)
    last = {run_id: LastAttempt(*known) for run_id, known in history.last_attempts(MAX_REMEMBERED).items()}
    recent = history.runs(state="ended", since_wall_ns=now.wall_ns - KEEP_ENDED_NS)
    ended = [just_ended(record, book, accounts, now) for record in reversed(list(recent))]
    registry = registry_of(live, last, ended, user_of, partial(_recalled, history))
    if not restored.same_boot:
        for kept in restored.runs:
            run, seen_wall_ns = kept.record.run, kept.resume.get("seen_wall_ns", now.wall_ns)
            if not kept.record.pods and run.run_id in registry.live:
                registry.end(run.run_id, run.attempt, Ending(Moment(now.ns, seen_wall_ns), "lost"))
    return registry


def _recalled(history: History, run_id: str) -> LastAttempt | None:
    """The last attempt of a run that ended long ago.

    Raises:
        RefusedError: 503, the journal does not say; an attempt that has ended must not be opened again.
    """
    try:
        known = history.last_attempt(run_id)
    except UnreachableError as error:
        detail = f"earlier attempts are not known: {error}"
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error
    return None if known is None else LastAttempt(*known)


class _NodeHistory:
    """Runs for the API: those of the view as they are now, and those that the journal keeps."""

    def __init__(self, board: Board, history: History) -> None:
        self._board = board
        self._history = history

    def runs(self) -> Iterable[RunRecord]:
        """All of them, one record for each attempt."""
        now = {(n.record.run.run_id, n.record.run.attempt): n.record for n in self._board.view.runs}
        yield from now.values()
        for record in self._history.runs():
            if (record.run.run_id, record.run.attempt) not in now:
                yield record

    def run(self, run_id: str, attempt: int | None) -> RunRecord | None:
        """One attempt, or with None the newest."""
        found = {record.run.attempt: record for record in self._history.attempts(run_id)}
        found |= {
            n.record.run.attempt: n.record for n in self._board.view.runs if n.record.run.run_id == run_id
        }
        if not found:
            return None
        return found[max(found)] if attempt is None else found.get(attempt)

    def seen(self) -> Iterable[RunNow]:
        """The runs of the newest view."""
        return self._board.view.runs


def _spans_of(record: RunRecord, stretch: Stretch | None) -> tuple[SpanRecord, ...]:
    if stretch is None:
        return span_content.closing_spans(record, hub=False, parent_span_id=record.run.parent_span_id)
    return (span_content.stretch_span(record, stretch),)


def _watch_of(config: Config) -> KubernetesWatch | None:
    """Kubernetes, where the kubelet's folder is mounted and its socket can be spoken to."""
    if not config.kubelet_dir.is_dir():
        return None
    try:
        kubelet = Kubelet(config.kubelet_dir)
    except NotHereError as error:
        logger.warning("kubernetes: not watched: %s", error)
        return None
    try:
        return KubernetesWatch(kubelet, _pods_of(config), KUBELET_NS, slices=_slices_of(config))
    except NotHereError as error:
        logger.warning("kubernetes: pod metadata is not read: %s", error)
        return KubernetesWatch(kubelet, None, KUBELET_NS)


def _pods_of(config: Config) -> PodList | None:
    match config.kubernetes_pods:
        case "kubelet":
            server = endpoint.kubelet(
                config.kubelet_address,
                ca_file=config.kubelet_ca_file or endpoint.AUTHORITY,
                insecure_skip_verify=config.kubelet_verify == "off",
            )
            return pods.of_kubelet(server)
        case "api":
            return pods.of_api_server(endpoint.api_server(os.environ), config.node_name)
    return None


def _slices_of(config: Config) -> SliceList | None:
    """ResourceSlices name the GPUs of DRA claims; they are asked for only where a claim exists."""
    if config.kubernetes_pods != "api":
        return None
    return SliceList(endpoint.api_server(os.environ), config.node_name)
