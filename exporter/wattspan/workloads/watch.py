"""watch: a thread that keeps the newest `PodView`, so that nobody else ever waits for Kubernetes.

The kubelet's socket is asked at every interval, which costs next to nothing.
Pod metadata is a large answer, so it is asked for when something has changed: new allocations,
a pod that holds a GPU and is not known to run yet, somebody whom no view knows (`expects`), or old age.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from wattspan.errors import ReadError
from wattspan.model import Failure
from wattspan.units import NS_PER_S
from wattspan.workloads.kubelet import Allocation
from wattspan.workloads.pods import PodFacts
from wattspan.workloads.slices import Named, resolved

logger = logging.getLogger(__name__)

PODS_MAX_AGE_NS: Final = 30 * NS_PER_S
"""Pod metadata older than this is asked for again although nothing seems to have changed."""

SETTLING_NS: Final = 60 * NS_PER_S
"""How long after a change pods are asked for at every interval, until they are what the change says they are.

A device is allocated before its container starts, and only then are address and container ids known;
it is given back before the pod's phase says how it ended.
"""

REFRESH_NS: Final = NS_PER_S
"""Between two looks that somebody asked for."""

BACKOFF_LAST_NS: Final = 60 * NS_PER_S
"""The longest pause while something fails."""

NEWCOMER_NS: Final = 2 * BACKOFF_LAST_NS
"""How long somebody whom no view knows is taken for a pod that has just begun."""

AWAY_NS: Final = 60 * NS_PER_S
"""Who has not asked for so long is taken for somebody else: addresses are given out again.

Our client asks twice as often.
"""

MAX_NEWCOMERS: Final = 1000
"""More than a node has pods; of more, those that asked first are forgotten."""

SLICES_MAX_AGE_NS: Final = 600 * NS_PER_S
"""Likewise for ResourceSlices, which change when a driver is restarted or a GPU partitioned anew."""

KUBELET: Final = "kubelet"
PODS: Final = "pods"
SLICES: Final = "slices"

Answer = TypeVar("Answer")


class AllocationSource(Protocol):
    """The kubelet's socket."""

    def allocations(self) -> tuple[Allocation, ...]:
        """As `wattspan.workloads.kubelet.Kubelet.allocations`."""

    def close(self) -> None:
        """Give up the connection."""


class PodSource(Protocol):
    """Where pod metadata comes from."""

    def pods(self) -> tuple[PodFacts, ...]:
        """As `wattspan.workloads.pods.PodList.pods`."""


class SliceSource(Protocol):
    """Where DRA devices are told apart."""

    def uuids(self) -> Mapping[Named, str]:
        """As `wattspan.workloads.slices.SliceList.uuids`."""


@dataclass(frozen=True, slots=True)
class PodView:
    """What was last heard of this node's pods.

    A source that fails keeps its last answer here, with the time it was given:
    a kubelet that restarts kills no pod, so devices stay with their holders meanwhile.

    Attributes:
        taken_at_ns: when this view was made, CLOCK_MONOTONIC.
        allocations: devices held by pods that are not known to have ended; DRA devices with their uuid
            where the slices tell it.
        allocations_at_ns: when the kubelet said so; None before its first answer.
        pods: by uid, those that have ended included.
        uids: of the pods, by namespace and name; of two with one name, the one that has not ended.
        pods_at_ns: when their source said so; None before its first answer, or without a source.
        failures: of sources ``kubelet``, ``pods`` and ``slices``, for as long as they last.
    """

    taken_at_ns: int = 0
    allocations: tuple[Allocation, ...] = ()
    allocations_at_ns: int | None = None
    pods: Mapping[str, PodFacts] = field(default_factory=dict)
    uids: Mapping[tuple[str, str], str] = field(default_factory=dict)
    pods_at_ns: int | None = None
    failures: tuple[Failure, ...] = ()

    def pod_of(self, namespace: str, name: str) -> PodFacts | None:
        """The pod's metadata, if known."""
        uid = self.uids.get((namespace, name))
        return None if uid is None else self.pods[uid]


class KubernetesWatch:
    """Asks kubelet and pod source in a thread of its own. `latest` may be read from any thread."""

    def __init__(
        self,
        kubelet: AllocationSource,
        pods: PodSource | None,
        interval_ns: int,
        *,
        slices: SliceSource | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """
        Args:
            kubelet: says who holds what.
            pods: says what the pods are; None where the daemon may not ask.
            interval_ns: between two looks at the kubelet.
            slices: says which GPU a DRA device is; None where the daemon may not ask.
            clock_ns: CLOCK_MONOTONIC.
        """
        self._kubelet = kubelet
        self._pods = pods
        self._slices = slices
        self._clock_ns = clock_ns
        self._interval_ns = interval_ns
        self._kubelet_pace = _Pace(interval_ns)
        self._pods_pace = _Pace(PODS_MAX_AGE_NS)
        self._slices_pace = _Pace(SLICES_MAX_AGE_NS)
        self._uuids: Mapping[Named, str] = {}
        self._held: tuple[Allocation, ...] = ()
        self._left: frozenset[tuple[str, str]] = frozenset()
        self._changed_at_ns = 0
        self._latest = PodView()
        self._newcomers: dict[str, tuple[int, int]] = {}  # when they asked first and last
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubernetes", daemon=True)

    @property
    def latest(self) -> PodView:
        """The newest view; an empty one before the first look."""
        return self._latest

    @property
    def knows_pods(self) -> bool:
        """Whether somebody is asked what the pods are."""
        return self._pods is not None

    @property
    def pods_failure(self) -> str:
        """Why nobody says what the pods are, in a word of `errors.REASONS`; empty while somebody does."""
        return next((failure.reason for failure in self._latest.failures if failure.source == PODS), "")

    def expects(self, who: str) -> bool:
        """Whether somebody whom the latest view does not know may be a pod that has just begun.

        Then a look is asked for. Never blocks; any thread may ask.

        Args:
            who: a pod's uid or an address.
        """
        if self._pods is None:
            return False
        now_ns = self._clock_ns()
        with self._lock:
            first_ns, last_ns = self._newcomers.pop(who, (now_ns, now_ns))
            if now_ns - last_ns > AWAY_NS:
                first_ns = now_ns
            self._newcomers[who] = first_ns, now_ns
            if len(self._newcomers) > MAX_NEWCOMERS:
                del self._newcomers[next(iter(self._newcomers))]
        if now_ns - first_ns >= NEWCOMER_NS:
            return False
        self.refresh()
        return True

    def start(self) -> None:
        """Begin to look. The first look has not happened when this returns."""
        self._thread.start()

    def refresh(self) -> None:
        """Ask for a look soon. Never blocks."""
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """End the thread; a call that is under way may outlive the time-out, and is then left behind."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        else:
            self._kubelet.close()

    def look(self, *, asked: bool = False) -> PodView:
        """Ask whatever is due, and take the answers as the latest view. May block for both time-outs.

        The thread calls this; nobody else needs to, but for tests.

        Args:
            asked: ask now even if nothing is due; what keeps failing is still left alone for a while.
        """
        now_ns = self._clock_ns()
        view = self._look_at_kubelet(self._latest, now_ns, asked)
        view = self._look_at_pods(view, now_ns, asked)
        view = self._look_at_slices(view, now_ns)
        held = [resolved(allocation, self._uuids) for allocation in self._held]
        view = replace(view, allocations=_of_living(held, view), taken_at_ns=now_ns)
        _tell(self._latest.failures, view.failures)
        self._latest = view
        return view

    def _run(self) -> None:
        asked = False
        while not self._stopping.is_set():
            self.look(asked=asked)
            self._stopping.wait(REFRESH_NS / NS_PER_S)
            asked = self._wake.wait(max(self._interval_ns - REFRESH_NS, 0) / NS_PER_S)
            self._wake.clear()
        self._kubelet.close()

    def _look_at_kubelet(self, view: PodView, now_ns: int, asked: bool) -> PodView:
        if not self._kubelet_pace.is_due(now_ns, asked):
            return view
        answer = _ask(KUBELET, self._kubelet.allocations)
        self._kubelet_pace.answered(now_ns, failed=isinstance(answer, Failure))
        if isinstance(answer, Failure):
            return _with_failure(view, answer)
        if answer != self._held:
            self._left = _pods_of(self._held) - _pods_of(answer)
            self._held, self._changed_at_ns = answer, now_ns
        return replace(_without_failure(view, KUBELET), allocations_at_ns=now_ns)

    def _look_at_pods(self, view: PodView, now_ns: int, asked: bool) -> PodView:
        if self._pods is None or not self._pods_pace.is_due(now_ns, asked or self._in_motion(view, now_ns)):
            return view
        answer = _ask(PODS, self._pods.pods)
        self._pods_pace.answered(now_ns, failed=isinstance(answer, Failure))
        if isinstance(answer, Failure):
            return _with_failure(view, answer)
        ended_first = sorted(answer, key=lambda pod: not pod.ended)
        return replace(
            _without_failure(view, PODS),
            pods={pod.uid: pod for pod in answer},
            uids={(pod.namespace, pod.name): pod.uid for pod in ended_first},
            pods_at_ns=now_ns,
        )

    def _look_at_slices(self, view: PodView, now_ns: int) -> PodView:
        claimed = [allocation.dra for allocation in self._held if allocation.dra]
        if self._slices is None or not claimed:
            return view
        is_new = self._changed_at_ns == now_ns and any(
            (dra.driver, dra.pool, dra.device) not in self._uuids for dra in claimed
        )
        if not self._slices_pace.is_due(now_ns, is_new):
            return view
        answer = _ask(SLICES, self._slices.uuids)
        self._slices_pace.answered(now_ns, failed=isinstance(answer, Failure))
        if isinstance(answer, Failure):
            return _with_failure(view, answer)
        self._uuids = answer
        return _without_failure(view, SLICES)

    def _in_motion(self, view: PodView, now_ns: int) -> bool:
        """Whether pods are likely to be others than `view` has it."""
        if view.pods_at_ns is None or self._changed_at_ns > view.pods_at_ns:
            return True
        if now_ns - self._changed_at_ns > SETTLING_NS:
            return False
        holders = (view.pod_of(*pod) for pod in _pods_of(self._held))
        left = (view.pod_of(*pod) for pod in self._left)
        return any(pod is None or pod.phase == "Pending" for pod in holders) or any(
            pod is not None and not pod.ended for pod in left
        )


class _Pace:
    """When to ask: at an interval, and later and later while it fails."""

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._due_ns = 0
        self._failures = 0

    def is_due(self, now_ns: int, asked: bool) -> bool:
        return now_ns >= self._due_ns or (asked and not self._failures)

    def answered(self, now_ns: int, *, failed: bool) -> None:
        self._failures = self._failures + 1 if failed else 0
        if not failed:
            self._due_ns = now_ns + self._interval_ns
            return
        self._due_ns = now_ns + min(NS_PER_S << min(self._failures, 16), BACKOFF_LAST_NS)


def _ask(source: str, question: Callable[[], Answer]) -> Answer | Failure:
    try:
        return question()
    except ReadError as error:
        return Failure(source, error.reason, error.detail)
    except Exception as error:
        # A thread that dies would leave a view that looks alive for ever.
        logger.exception("%s: failed in an unforeseen way", source)
        return Failure(source, "unknown", repr(error))


def _pods_of(held: Iterable[Allocation]) -> frozenset[tuple[str, str]]:
    return frozenset((allocation.pod.namespace, allocation.pod.name) for allocation in held)


def _of_living(held: Iterable[Allocation], view: PodView) -> tuple[Allocation, ...]:
    """Without pods that have ended, which kubelets before 1.34 still list. The unknown count as alive."""

    def ended(allocation: Allocation) -> bool:
        pod = view.pod_of(allocation.pod.namespace, allocation.pod.name)
        return pod is not None and pod.ended

    return tuple(allocation for allocation in held if not ended(allocation))


def _without_failure(view: PodView, source: str) -> PodView:
    return replace(view, failures=tuple(failure for failure in view.failures if failure.source != source))


def _with_failure(view: PodView, failure: Failure) -> PodView:
    others = _without_failure(view, failure.source).failures
    return replace(view, failures=(*others, failure))


def _tell(before: Iterable[Failure], now: Iterable[Failure]) -> None:
    """One line when a source begins to fail, fails for another reason, or answers again."""
    reasons = {failure.source: failure.reason for failure in before}
    still = {failure.source for failure in now}
    for failure in now:
        if reasons.get(failure.source) != failure.reason:
            logger.warning("%s: %s: %s", failure.source, failure.reason, failure.detail)
    for source in reasons.keys() - still:
        logger.info("%s: answers again", source)
