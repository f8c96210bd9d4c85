"""Simulated workloads on the cards of `wattspan.devices.demo`, so that a laptop shows runs and pods.

Cards 0 to 2 of every eight train one model together, in runs of half an hour; 3 fine-tunes an adapter;
4 serves; 5 is shared by a sweep; 6 is held by a notebook that does nothing; the instances of 7 are pods'.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wattspan.model import GpuReading, Snapshot
from wattspan.runs import NO_POD, Hold, Holder, Holdings, PodRef
from wattspan.units import NS_PER_S
from wattspan.workloads.registry import Claim, Ending, LiveRun, Moment, Registry, Told
from wattspan.workloads.watch import PodView

CORES: Final = 64


@dataclass(frozen=True, slots=True)
class Script:
    """A run that begins again whenever it ends.

    Attributes:
        name, project, group, framework, namespace: of the run.
        cards: of every eight, by index.
        seconds: how long one attempt takes.
        steps_per_s, tokens_per_step: its pace.
        budget_co2e_g: what it may emit.
        cpu_cores: cores that its data loaders keep busy.
        fails: every so many attempts end as a failure; 0 never.
    """

    name: str
    project: str
    group: str
    framework: str
    namespace: str
    cards: tuple[int, ...]
    seconds: int
    steps_per_s: float
    tokens_per_step: int
    budget_co2e_g: float | None = None
    cpu_cores: float = 4.0
    fails: int = 0


SCRIPTS: Final = (
    Script("llama-sft", "assistant", "base", "transformers", "nlp", (0, 1, 2), 1800, 2.5, 98_304, 400.0, 9.0),
    Script("adapter-lora", "assistant", "sweep-7", "peft", "nlp", (3,), 900, 4.0, 16_384, 60.0, fails=4),
    Script("segment-small", "vision", "sweep-a", "lightning", "research", (5,), 1200, 6.0, 0),
    Script("segment-large", "vision", "sweep-a", "lightning", "research", (5,), 2400, 1.5, 0),
    Script("notebook", "vision", "", "", "research", (6,), 14_400, 0.0, 0, cpu_cores=0.2),
)

SERVING: Final = Holder(pod=PodRef("serving", "llm-0", "vllm"), project="assistant")
INSTANCES: Final = (
    Holder(pod=PodRef("serving", "embed-0", "tei"), project="retrieval"),
    Holder(pod=PodRef("serving", "rerank-0", "triton"), project="retrieval"),
)


class DemoWorkloads:
    """Says who holds the simulated cards, and lets their runs begin, progress and end.

    Args:
        registry: whose runs it moves.
        node_name: part of their ids, so that a fleet's runs differ.
    """

    def __init__(self, registry: Registry, node_name: str) -> None:
        self._registry = registry
        self._node_name = node_name
        self._ticked_ns = 0
        self._held: dict[tuple[str, Holder, str], int] = {}

    def resolve(self, snapshot: Snapshot, pods: PodView | None, now: Moment) -> Holdings:
        """Who held what since the last call, by the script."""
        del pods
        readings = {reading.gpu.uuid: reading for report in snapshot.reports for reading in report.gpus}
        live = {
            script.name: self._attempt(script, now) for script in SCRIPTS if self._cards(script, readings)
        }
        found: dict[str, list[Hold]] = {uuid: [] for uuid in readings}
        for uuid, reading in readings.items():
            for holder, mig_uuid, pids in _holders(reading, live):
                since_ns = self._held.setdefault((uuid, holder, mig_uuid), now.ns)
                found[uuid].append(Hold(holder, since_ns, processes=pids, mig_uuid=mig_uuid))
        elapsed_ns, self._ticked_ns = now.ns - self._ticked_ns, now.ns
        busy = {
            _holder(run, script): int(script.cpu_cores * elapsed_ns)
            for script in SCRIPTS
            if (run := live.get(script.name)) is not None
        }
        return Holdings({uuid: tuple(holds) for uuid, holds in found.items()}, busy, CORES)

    @staticmethod
    def _cards(script: Script, readings: dict[str, GpuReading]) -> bool:
        return any(reading.gpu.index % 8 in script.cards for reading in readings.values())

    def _attempt(self, script: Script, now: Moment) -> LiveRun:
        """The attempt that runs now; one that is over ends, and the next begins."""
        run_id = f"{script.name}-{self._node_name}"
        live = self._registry.live.get(run_id)
        if live is not None and now.wall_ns - live.began.wall_ns >= script.seconds * NS_PER_S:
            failed = script.fails and live.run.attempt % script.fails == script.fails - 1
            ending = Ending(now, "failure", "OutOfMemoryError") if failed else Ending(now, "success")
            self._registry.end(run_id, live.run.attempt, ending)
            live = None
        if live is None:
            claim = Claim(
                run_id=run_id,
                name=script.name,
                project=script.project,
                group=script.group,
                framework=script.framework,
                namespace=script.namespace,
                source="kubernetes",
                total_steps=int(script.seconds * script.steps_per_s) or None,
                budget_co2e_g=script.budget_co2e_g,
                nodes_expected=1,
                pod=_pod(script),
            )
            live, _ = self._registry.begin(claim, now)
        self._advance(live, script, now)
        return live

    def _advance(self, live: LiveRun, script: Script, now: Moment) -> None:
        seconds = (now.wall_ns - live.began.wall_ns) / NS_PER_S
        steps = int(seconds * script.steps_per_s)
        if steps:
            told = Told(steps, steps * 32, steps * script.tokens_per_step, loss=2.0 + 3.0 / (1 + steps / 200))
            self._registry.progress(live.run.run_id, live.run.attempt, told)


def _holders(reading: GpuReading, live: dict[str, LiveRun]) -> Iterator[tuple[Holder, str, frozenset[int]]]:
    """Holder, MIG uuid and pids of everyone on a card."""
    place = reading.gpu.index % 8
    pids = sorted(reading.processes or ())
    scripts = [script for script in SCRIPTS if place in script.cards and script.name in live]
    for number, script in enumerate(scripts):
        yield _holder(live[script.name], script), "", frozenset(pids[number :: len(scripts)])
    if place == 4:
        yield SERVING, "", frozenset(pids)
    for holder, instance in zip(INSTANCES, reading.mig_instances, strict=False):
        yield holder, instance.uuid, instance.processes or frozenset()


def _holder(live: LiveRun, script: Script) -> Holder:
    return Holder(live.run.run_id, live.run.attempt, _pod(script), script.project)


def _pod(script: Script) -> PodRef:
    return PodRef(script.namespace, f"{script.name}-0", "trainer") if script.namespace else NO_POD
