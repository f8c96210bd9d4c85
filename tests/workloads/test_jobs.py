"""Which run a pod belongs to, from pods as each job controller writes them."""

import json
from collections.abc import Mapping

import pytest

from tests.fakes import kubelet as fake
from wattspan.workloads import jobs, pods
from wattspan.workloads.jobs import PodRun
from wattspan.workloads.pods import PodFacts

UID = "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d"
OTHER_UID = "99998888-5e6f-4a7b-8c9d-0e1f2a3b4c5d"

JOBSET = {
    "jobset.sigs.k8s.io/jobset-name": "sft",
    "jobset.sigs.k8s.io/jobset-uid": UID,
    "jobset.sigs.k8s.io/replicatedjob-name": "node",
    "jobset.sigs.k8s.io/restart-attempt": "2",
    "jobset.sigs.k8s.io/job-index": "0",
    "batch.kubernetes.io/job-name": "sft-node-0",
    "batch.kubernetes.io/controller-uid": OTHER_UID,
    "batch.kubernetes.io/job-completion-index": "1",
}
KUBEFLOW = {
    "training.kubeflow.org/job-name": "sft",
    "training.kubeflow.org/operator-name": "pytorchjob-controller",
    "training.kubeflow.org/replica-type": "worker",
    "training.kubeflow.org/replica-index": "0",
}
RAY = {
    "ray.io/cluster": "sft-x7k2p",
    "ray.io/node-type": "worker",
    "ray.io/originated-from-cr-name": "sft",
    "ray.io/originated-from-crd": "RayJob",
}
VOLCANO = {
    "volcano.sh/job-name": "sft",
    "volcano.sh/queue-name": "default",
    "volcano.sh/task-spec": "worker",
    "volcano.sh/task-index": "0",
}
BATCH = {"batch.kubernetes.io/job-name": "sft", "batch.kubernetes.io/controller-uid": UID}

CHILD_JOB = ("batch/v1", "Job", "sft-node-0", OTHER_UID)
JOB = ("batch/v1", "Job", "sft", UID)
PYTORCHJOB = ("kubeflow.org/v1", "PyTorchJob", "sft", UID)
RAYCLUSTER = ("ray.io/v1", "RayCluster", "sft-x7k2p", UID)
VOLCANO_JOB = ("batch.volcano.sh/v1alpha1", "Job", "sft", UID)


def pod(
    labels: Mapping[str, str] | None = None,
    owner: tuple[str, str, str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    name: str = "sft-node-0-1-x7k2p",
) -> PodFacts:
    written = fake.pod(name, labels=labels, owner=owner, annotations=annotations, env=env)
    [read] = pods.read(json.dumps(fake.pod_list(written)).encode())
    return read


def run(*arguments: Mapping[str, str] | tuple[str, str, str, str], **more: Mapping[str, str]) -> PodRun:
    found = jobs.run_of_pod(pod(*arguments, **more))  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("labels", "owner", "run_id", "uid_of"),
    [
        (JOBSET, CHILD_JOB, "k8s:nlp:JobSet:sft:1a2b3c4d", "JobSet"),
        (
            JOBSET | {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"},
            CHILD_JOB,
            "k8s:nlp:TrainJob:sft:1a2b3c4d",
            "JobSet",
        ),
        (KUBEFLOW, PYTORCHJOB, "k8s:nlp:PyTorchJob:sft:1a2b3c4d", "PyTorchJob"),
        (
            KUBEFLOW | {"training.kubeflow.org/operator-name": "mpi-operator"},
            ("kubeflow.org/v2beta1", "MPIJob", "sft", UID),
            "k8s:nlp:MPIJob:sft:1a2b3c4d",
            "MPIJob",
        ),
        (RAY, RAYCLUSTER, "k8s:nlp:RayJob:sft:1a2b3c4d", "RayCluster"),
        (VOLCANO, VOLCANO_JOB, "k8s:nlp:Job:sft:1a2b3c4d", "Job"),
        (BATCH, JOB, "k8s:nlp:Job:sft:1a2b3c4d", "Job"),
        ({"job-name": "sft"}, JOB, "k8s:nlp:Job:sft:1a2b3c4d", "Job"),
    ],
    ids=["JobSet", "TrainJob", "PyTorchJob", "MPIJob", "RayJob", "Volcano", "batch", "batch before 1.27"],
)
def test_every_known_kind_is_a_run(
    labels: Mapping[str, str], owner: tuple[str, str, str, str], run_id: str, uid_of: str
) -> None:
    """The id is kind, name and uid of the job, and it is said whose uid that is."""
    found = run(labels, owner)
    assert (found.run_id, found.uid_of, found.name) == (run_id, uid_of, "sft")


OTHERS = "bare web labels batch jobset kubeflow volcano RayService RayCluster LeaderWorkerSet"


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({}, None),
        ({"app": "web"}, ("apps/v1", "ReplicaSet", "web-5d", UID)),
        (BATCH, None),
        (BATCH | {"batch.kubernetes.io/job-name": "web"}, ("apps/v1", "ReplicaSet", "web-5d", UID)),
        (JOBSET, ("apps/v1", "StatefulSet", "web", UID)),
        (KUBEFLOW, ("apps/v1", "ReplicaSet", "web-5d", UID)),
        (VOLCANO, ("apps/v1", "ReplicaSet", "web-5d", UID)),
        (RAY | {"ray.io/originated-from-crd": "RayService"}, RAYCLUSTER),
        (RAY | {"ray.io/originated-from-crd": "RayCluster"}, RAYCLUSTER),
        ({"leaderworkerset.sigs.k8s.io/name": "vllm"}, ("apps/v1", "StatefulSet", "vllm", UID)),
    ],
    ids=OTHERS.split(),
)
def test_serving_and_other_pods_are_no_runs(
    labels: Mapping[str, str], owner: tuple[str, str, str, str] | None
) -> None:
    """Only a job's own pods are runs; labels that were copied to something else change nothing."""
    assert jobs.run_of_pod(pod(labels, owner)) is None


def test_all_pods_of_a_job_agree_on_the_id() -> None:
    """Whatever differs from pod to pod is not in it."""
    ids = {
        run(
            JOBSET | {"jobset.sigs.k8s.io/job-index": str(job)},
            ("batch/v1", "Job", f"sft-node-{job}", str(job)),
        ).run_id
        for job in range(3)
    }
    assert ids == {"k8s:nlp:JobSet:sft:1a2b3c4d"}


def test_where_the_job_s_own_uid_is_unknown_the_nearest_stands_in() -> None:
    """A JobSet of an old controller and the launcher of an MPIJob know their batch Job's only, and say so."""
    old = {key: value for key, value in JOBSET.items() if not key.endswith("-uid")}
    launcher = {
        "training.kubeflow.org/job-name": "sft",
        "training.kubeflow.org/operator-name": "mpi-operator",
        "training.kubeflow.org/job-role": "launcher",
        "batch.kubernetes.io/job-name": "sft-launcher",
    }
    assert (run(old, CHILD_JOB).run_id, run(old, CHILD_JOB).uid_of) == ("k8s:nlp:JobSet:sft:99998888", "Job")
    found = run(launcher, ("batch/v1", "Job", "sft-launcher", OTHER_UID))
    assert (found.run_id, found.uid_of) == ("k8s:nlp:MPIJob:sft:99998888", "Job")


def test_labels_are_looked_for_among_annotations_too() -> None:
    """Controllers of some versions write a fact as an annotation only."""
    uid = "jobset.sigs.k8s.io/jobset-uid"
    labels = {key: value for key, value in JOBSET.items() if key != uid}
    assert run(labels, CHILD_JOB, {uid: UID}).run_id == "k8s:nlp:JobSet:sft:1a2b3c4d"


def test_our_annotations_come_first() -> None:
    """They name the run, its group and its budget; what they leave open the job still answers."""
    said = {
        "wattspan.io/run-id": "sweep/7 é",
        "wattspan.io/run-name": "Sweep\nseven",
        "wattspan.io/project": "nlp-research",
        "wattspan.io/group": "sweep",
        "wattspan.io/budget-co2e-grams": "1500.5",
    }
    assert run(JOBSET, CHILD_JOB, said) == PodRun(
        run_id="sweep-7--",
        kind="JobSet",
        uid_of="",
        attempt=2,
        name="Sweep seven",
        project="nlp-research",
        group="sweep",
        rank_zero=False,
        nodes_expected=None,
        budget_co2e_g=1500.5,
    )


def test_our_annotation_makes_any_pod_a_run() -> None:
    """A notebook or a pod by hand is a run when it says so, and the only rank that there is."""
    found = run(
        {}, ("apps/v1", "StatefulSet", "notebook", UID), {"wattspan.io/run-id": "by-hand"}, name="nb-0"
    )
    assert (found.run_id, found.kind, found.uid_of, found.name) == ("by-hand", "", "", "nb-0")
    assert (found.attempt, found.rank_zero) == (None, True)


@pytest.mark.parametrize("said", ["", " ", "\u202e", "...", "/"])
def test_an_annotation_without_a_usable_id_is_none(said: str) -> None:
    """Nothing but signs that no run id starts with: the job's own id holds."""
    assert run(BATCH, JOB, {"wattspan.io/run-id": said}).run_id == "k8s:nlp:Job:sft:1a2b3c4d"


def test_the_variable_in_the_pod_s_spec_goes_before_the_annotation() -> None:
    """A process sees the variable, so what is read from outside must agree with it."""
    env = {"WATTSPAN_RUN_ID": "from-env", "WATTSPAN_RUN_ATTEMPT": "5"}
    found = run(JOBSET, CHILD_JOB, {"wattspan.io/run-id": "from-annotation"}, env)
    assert (found.run_id, found.attempt) == ("from-env", 5)


@pytest.mark.parametrize("said", ["none", "None", "0", " "])
def test_a_variable_that_names_nothing_is_none(said: str) -> None:
    """As in the environment of a process."""
    assert run(BATCH, JOB, {}, {"WATTSPAN_RUN_ID": said}).run_id == "k8s:nlp:Job:sft:1a2b3c4d"


@pytest.mark.parametrize("grams", ["", "many", "-1", "0", "nan", "inf", "1e999"])
def test_a_budget_that_is_no_positive_number_is_none(grams: str) -> None:
    """A budget that cannot be kept or checked would only raise false alarms."""
    assert run(BATCH, JOB, {"wattspan.io/budget-co2e-grams": grams}).budget_co2e_g is None


@pytest.mark.parametrize(
    ("labels", "annotations", "project"),
    [
        ({}, {}, ""),
        ({}, {"wattspan.io/project": "mine", "kueue.x-k8s.io/queue-name": "q"}, "mine"),
        ({"kueue.x-k8s.io/local-queue-name": "team-a", "volcano.sh/queue-name": "b"}, {}, "team-a"),
        ({"kueue.x-k8s.io/queue-name": "team-b"}, {}, "team-b"),
        ({}, {"volcano.sh/queue-name": "team-c"}, "team-c"),
        ({"volcano.sh/queue-name": "default"}, {}, ""),
    ],
)
def test_the_project_is_said_or_the_queue(
    labels: Mapping[str, str], annotations: Mapping[str, str], project: str
) -> None:
    """Also for pods that are no runs: their energy has an owner, too. Nobody's queue is no project."""
    assert jobs.project_of_pod(pod(labels, annotations=annotations)) == project


@pytest.mark.parametrize(
    ("labels", "owner", "attempt"),
    [
        (JOBSET, CHILD_JOB, 2),
        (JOBSET | {"jobset.sigs.k8s.io/restart-attempt": "x"}, CHILD_JOB, None),
        (VOLCANO | {"volcano.sh/job-retry-count": "1"}, VOLCANO_JOB, 1),
        (KUBEFLOW, PYTORCHJOB, None),
        (BATCH, JOB, None),
    ],
)
def test_the_attempt_is_told_where_the_controller_counts(
    labels: Mapping[str, str], owner: tuple[str, str, str, str], attempt: int | None
) -> None:
    """JobSet and Volcano count restarts; for the others the node that runs them has to."""
    assert run(labels, owner).attempt == attempt


FIRST = {"batch.kubernetes.io/job-completion-index": "0"}
COORDINATOR = {"jobset.sigs.k8s.io/coordinator": "sft-driver-0-0.sft"}


@pytest.mark.parametrize(
    ("labels", "owner", "leads"),
    [
        (JOBSET, CHILD_JOB, False),
        (JOBSET | FIRST, CHILD_JOB, True),
        (JOBSET | FIRST | {"jobset.sigs.k8s.io/job-index": "1"}, CHILD_JOB, False),
        (JOBSET | FIRST | COORDINATOR, CHILD_JOB, False),
        (KUBEFLOW, PYTORCHJOB, True),
        (KUBEFLOW | {"training.kubeflow.org/replica-index": "1"}, PYTORCHJOB, False),
        (
            KUBEFLOW | {"training.kubeflow.org/operator-name": "tfjob-controller"},
            ("kubeflow.org/v1", "TFJob", "sft", UID),
            False,
        ),
        (
            KUBEFLOW
            | {
                "training.kubeflow.org/operator-name": "tfjob-controller",
                "training.kubeflow.org/job-role": "master",
            },
            ("kubeflow.org/v1", "TFJob", "sft", UID),
            True,
        ),
        (RAY, RAYCLUSTER, False),
        (RAY | {"ray.io/node-type": "head"}, RAYCLUSTER, True),
        (VOLCANO, VOLCANO_JOB, True),
        (VOLCANO | {"volcano.sh/task-index": "1"}, VOLCANO_JOB, False),
        (VOLCANO | {"volcano.sh/task-spec": "ps"}, VOLCANO_JOB, False),
        (BATCH, JOB, True),
        (BATCH | FIRST, JOB, True),
        (BATCH | {"batch.kubernetes.io/job-completion-index": "3"}, JOB, False),
    ],
)
def test_rank_zero_by_index_or_role(
    labels: Mapping[str, str], owner: tuple[str, str, str, str], leads: bool
) -> None:
    """Completion index 0, the master, the first worker where there is no master, or the Ray head."""
    assert run(labels, owner).rank_zero is leads


def test_the_coordinator_of_a_jobset_leads() -> None:
    """Where the JobSet names one, index 0 of other replicated jobs does not."""
    found = run(JOBSET | COORDINATOR, CHILD_JOB, name="sft-driver-0-0-x7k2p")
    assert found.rank_zero


def test_a_rank_in_the_pod_s_spec_decides() -> None:
    """Training operator gives the master rank 0 and worker 0 rank 1, though both have replica index 0."""
    assert not run(KUBEFLOW, PYTORCHJOB, env={"RANK": "1"}).rank_zero
    assert run(KUBEFLOW, PYTORCHJOB, env={"RANK": "0"}).rank_zero


@pytest.mark.parametrize(
    ("said", "expected"), [("4", 4), ("1:4", None), ("", None), ("-1", None), ("٣", None)]
)
def test_nodes_are_expected_where_torchrun_is_told(said: str, expected: int | None) -> None:
    """A range of an elastic job is no number, and neither is anything else."""
    assert run(KUBEFLOW, PYTORCHJOB, env={"PET_NNODES": said}).nodes_expected == expected
