"""jobs: which training run a pod belongs to. Pure: labels and owners in, a run's name out.

First our annotations, then the known job kinds in a fixed order, because their labels overlap:
the pods of a JobSet carry the labels of a batch Job, too.
A pod of no known kind and without our annotation is no run: it is served, developed or tested on.

A pod names its direct owner only, so the uid of the object that was submitted is not always known.
`PodRun.uid_of` says whose uid stands in the run id:

- the job's own: JobSet where its controller writes the label jobset-uid, Kubeflow's training jobs,
  the workers of an MPIJob, Volcano Job, batch Job.
- TrainJob: its JobSet's. There is one for each TrainJob.
- RayJob: its RayCluster's. A retry by `backoffLimit` has a new cluster, and is a new run.
- JobSet without the label, launcher of an MPIJob: their batch Job's. A restart is a new run,
  and so is each Job of such a JobSet: two runs for one are less wrong than one run for two.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from wattspan.workloads import markers
from wattspan.workloads.pods import Owner, PodFacts
from wattspan.workloads.run_ids import clean, kubernetes_id, plain

RUN_ID: Final = "wattspan.io/run-id"
RUN_NAME: Final = "wattspan.io/run-name"
PROJECT: Final = "wattspan.io/project"
GROUP: Final = "wattspan.io/group"
BUDGET: Final = "wattspan.io/budget-co2e-grams"

QUEUES: Final = ("kueue.x-k8s.io/local-queue-name", "kueue.x-k8s.io/queue-name", "volcano.sh/queue-name")
"""Labels or annotations whose value is a team's queue.

Kueue: apis/kueue/v1beta1, on pods since 0.17. Volcano: pkg/apis/batch/v1alpha1/labels.go.
"""

NOBODYS_QUEUE: Final = "default"
"""Volcano puts everybody there who names no queue; that is no project."""


@dataclass(frozen=True, slots=True)
class PodRun:
    """The run that a pod belongs to, as far as the pod says.

    Attributes:
        run_id: of the contract.
        kind: of the job, such as ``JobSet``; empty for a pod that only our annotation makes a run.
        uid_of: kind of the object whose uid is in `run_id`; equal to `kind` when that is the job itself,
            empty when an annotation or WATTSPAN_RUN_ID named the run.
        attempt: None when the pod does not say.
        name: for people.
        project, group: empty when nobody said.
        rank_zero: this pod has global rank 0; a RANK among a process's own variables knows better.
        nodes_expected: pods of the run, which are nodes unless two share one; None when the pod does not say.
        budget_co2e_g: what the run may emit; None without one, or with one that is no positive number.
    """

    run_id: str
    kind: str
    uid_of: str
    attempt: int | None
    name: str
    project: str
    group: str
    rank_zero: bool
    nodes_expected: int | None
    budget_co2e_g: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """What a job controller wrote on its pod.

    Attributes:
        kind, name: of the job.
        uid: the nearest to the job's own that the pod knows.
        uid_of: kind of the object whose uid it is.
        attempt: None when the kind does not say.
        rank_zero: this pod runs global rank 0.
    """

    kind: str
    name: str
    uid: str
    uid_of: str
    attempt: int | None = None
    rank_zero: bool = False


def run_of_pod(pod: PodFacts) -> PodRun | None:
    """The run that the pod belongs to; None for serving and all other pods."""
    job = job_of_pod(pod)
    named = clean(markers.usable(pod.environment, "WATTSPAN_RUN_ID") or pod.annotations.get(RUN_ID, ""))
    if job is None and not named:
        return None
    job_name = job.name if job else pod.name
    return PodRun(
        run_id=named or _id_of(pod, job),
        kind=job.kind if job else "",
        uid_of="" if named or job is None else job.uid_of,
        attempt=_attempt(pod, job),
        name=plain(pod.annotations.get(RUN_NAME, "")) or plain(job_name),
        project=project_of_pod(pod),
        group=plain(pod.annotations.get(GROUP, "")),
        rank_zero=_rank_zero(pod, job),
        nodes_expected=_number(pod.environment.get("PET_NNODES")),
        budget_co2e_g=_budget(pod.annotations.get(BUDGET, "")),
    )


def project_of_pod(pod: PodFacts) -> str:
    """Whom any pod's energy is for: our annotation, else the queue it was admitted by, else empty."""
    if said := plain(pod.annotations.get(PROJECT, "")):
        return said
    queues = (pod.labels.get(queue) or pod.annotations.get(queue, "") for queue in QUEUES)
    return next((plain(queue) for queue in queues if queue and queue != NOBODYS_QUEUE), "")


def job_of_pod(pod: PodFacts) -> Job | None:
    """The job that the pod belongs to; None for a pod of no known kind."""
    owner = next((owner for owner in pod.owners if owner.controller), None)
    if owner is None:
        return None
    jobs = (read(_Said(pod), owner) for read in KINDS)
    return next((job for job in jobs if job is not None), None)


class _Said:
    """Labels, and annotations where a label is missing: controllers write facts as either or both."""

    def __init__(self, pod: PodFacts) -> None:
        self._pod = pod

    def __getitem__(self, key: str) -> str:
        return self._pod.labels.get(key) or self._pod.annotations.get(key, "")

    def number(self, key: str) -> int | None:
        return _number(self[key])

    @property
    def pod_name(self) -> str:
        return self._pod.name

    def has(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for key in self._pod.labels)


def _jobset(said: _Said, owner: Owner) -> Job | None:
    """JobSet (api/jobset/v1alpha2/jobset_types.go), and TrainJob, which makes a JobSet of its own name.

    A runtime of Kubeflow Trainer labels its pods trainer.kubeflow.org/...; one that does not yields a JobSet.
    """
    name = said["jobset.sigs.k8s.io/jobset-name"]
    if not name or not _is_batch(owner):
        return None
    uid = said["jobset.sigs.k8s.io/jobset-uid"]
    return Job(
        kind="TrainJob" if said.has("trainer.kubeflow.org/") else "JobSet",
        name=name,
        uid=uid or owner.uid,
        uid_of="JobSet" if uid else owner.kind,
        attempt=said.number("jobset.sigs.k8s.io/restart-attempt"),
        rank_zero=_leads_jobset(said),
    )


def _leads_jobset(said: _Said) -> bool:
    coordinator = said["jobset.sigs.k8s.io/coordinator"]
    if coordinator:
        # <jobset>-<replicated job>-<job index>-<pod index>.<subdomain>; the pod's name adds a random ending.
        return said.pod_name.rpartition("-")[0] == coordinator.partition(".")[0]
    first_job = said.number("jobset.sigs.k8s.io/job-index") in (0, None)
    return first_job and _completion_index(said) in (0, None)


def _kubeflow(said: _Said, owner: Owner) -> Job | None:
    """Training operator v1 and MPI operator v2 (pkg/apis/kubeflow.org/v1/common_types.go,
    mpi-operator: pkg/apis/kubeflow/v2beta1/constants.go)."""
    name = said["training.kubeflow.org/job-name"]
    if not name or not (_is_batch(owner) or owner.api_version.startswith("kubeflow.org/")):
        return None
    # The launcher of an MPIJob stands apart: its pod belongs to a batch Job between the two.
    kind = OPERATORS.get(said["training.kubeflow.org/operator-name"], owner.kind)
    return Job(kind=kind, name=name, uid=owner.uid, uid_of=owner.kind, rank_zero=_leads_kubeflow(said, kind))


OPERATORS: Final[Mapping[str, str]] = {
    "pytorchjob-controller": "PyTorchJob",
    "tfjob-controller": "TFJob",
    "mpijob-controller": "MPIJob",
    "mpi-operator": "MPIJob",
    "xgboostjob-controller": "XGBoostJob",
    "paddlejob-controller": "PaddleJob",
    "jaxjob-controller": "JAXJob",
}
"""Kinds by the label training.kubeflow.org/operator-name."""


def _leads_kubeflow(said: _Said, kind: str) -> bool:
    if said["training.kubeflow.org/job-role"] == "master":
        return True
    # Without a master these let the first worker lead; the others then label a worker as master.
    elects_worker = kind in ("PyTorchJob", "JAXJob", "MPIJob")
    return elects_worker and said.number("training.kubeflow.org/replica-index") == 0


def _ray(said: _Said, owner: Owner) -> Job | None:
    """RayJob (ray-operator/controllers/ray/utils/constant.go).

    RayService serves, and a RayCluster without a RayJob is used by hand: neither is a run by itself.
    """
    if owner.kind != "RayCluster" or said["ray.io/originated-from-crd"] != "RayJob":
        return None
    name = said["ray.io/originated-from-cr-name"] or owner.name
    return Job("RayJob", name, owner.uid, owner.kind, rank_zero=said["ray.io/node-type"] == "head")


def _volcano(said: _Said, owner: Owner) -> Job | None:
    """Volcano Job (pkg/apis/batch/v1alpha1/labels.go)."""
    name = said["volcano.sh/job-name"]
    if not name or not owner.api_version.startswith("batch.volcano.sh/"):
        return None
    first = said.number("volcano.sh/task-index") == 0
    leads = first and said["volcano.sh/task-spec"] not in ("ps", "evaluator")
    return Job("Job", name, owner.uid, owner.kind, said.number("volcano.sh/job-retry-count"), leads)


def _batch(said: _Said, owner: Owner) -> Job | None:
    """batch Job (staging/src/k8s.io/api/batch/v1/types.go); the short labels are those of before 1.27."""
    name = said["batch.kubernetes.io/job-name"] or said["job-name"]
    if not name or not _is_batch(owner):
        return None
    # Without an index every pod is a job of its own.
    return Job("Job", name, owner.uid, owner.kind, rank_zero=_completion_index(said) in (0, None))


KINDS: Final[tuple[Callable[[_Said, Owner], Job | None], ...]] = (_jobset, _kubeflow, _ray, _volcano, _batch)
"""The first that answers wins. Each looks at the owner, too: a Deployment may carry copied labels."""


def _is_batch(owner: Owner) -> bool:
    return owner.kind == "Job" and owner.api_version.startswith("batch/")


def _completion_index(said: _Said) -> int | None:
    return said.number("batch.kubernetes.io/job-completion-index")


def _id_of(pod: PodFacts, job: Job | None) -> str:
    return kubernetes_id(pod.namespace, job.kind, job.name, job.uid) if job else ""


def _attempt(pod: PodFacts, job: Job | None) -> int | None:
    said = _number(pod.environment.get("WATTSPAN_RUN_ATTEMPT"))
    return said if said is not None or job is None else job.attempt


def _rank_zero(pod: PodFacts, job: Job | None) -> bool:
    # Training operator writes RANK into the pod's spec, even where its labels leave two pods with index 0.
    rank = _number(pod.environment.get("RANK"))
    if rank is not None:
        return rank == 0
    return job.rank_zero if job else True


def _number(text: str | None) -> int | None:
    """A count as a controller writes it; None for anything else, such as a range of nodes ``1:4``."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else None


def _budget(text: str) -> float | None:
    try:
        grams = float(text)
    except ValueError:
        return None
    return grams if math.isfinite(grams) and grams > 0 else None
