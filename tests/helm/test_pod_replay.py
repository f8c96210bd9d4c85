"""The pod of each profile, run on this machine as it is rendered: who it is, what it meters, its roll-out."""

import errno
import hashlib
import http.client
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import bcrypt
import pytest
import yaml

from tests.e2e.daemon import PATIENCE_S, Scrape
from tests.e2e.prometheus import Prometheus
from tests.e2e.training import RUNS, LocalConnection, write
from tests.e2e.truth import Truth, falls
from tests.fakes.kubelet import Https, holding, https, pod, pod_list, pod_resources, response
from tests.fakes.machine import Machine, set_int
from tests.fakes.nvml import FakeNvml, Process, parse_scenario
from tests.helm.chart import PROFILES, ROOT, Object, daemon_pod, daemon_yaml, of_kind, render
from tests.helm.operator import discovered, labels_of, plain_config, scrape_config
from tests.helm.replay import SERVICE_ACCOUNT, Node, Pod, control_groups, need_containers, network
from tests.publish.certificates import Authority
from wattspan.units import UJ_PER_J
from wattspan.workloads.endpoint import KUBELET_PORT

FAST: Final = {"sample": {"interval": "200ms"}}

CARDS: Final = parse_scenario(
    "cards",
    {"clock": "real", "gpu": [{"generation": "h100", "count": 2, "curve": [[0, 300]], "base_mj": 10**9}]},
)
CONTEXT_MIB: Final = 500

JOB: Final = ("batch/v1", "Job", "sft", "1a2b3c4d-6a52-4a3c-9d5c-3c6f4f2c7e11")
RUN: Final = "k8s:nlp:Job:sft:1a2b3c4d"
TRAINER: Final = {"pod_namespace": "nlp", "pod_name": "sft-0", "container_name": "main"}

RUNTIMES: Final = {"/proc", "/dev", "/dev/shm", "/dev/nvidiactl", "/dev/null", "/dev/zero"} | {
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
}
"""What a container runtime lets every container write to."""
MONITORS: Final = ("ServiceMonitor", "PodMonitor")
WAYS: Final = {
    "ServiceMonitor": 'service!="",bare=""',
    "PodMonitor": 'service="",namespace!="",bare=""',
    "plain": 'namespace="",bare=""',
}
"""How series of each way to be scraped are told apart: by what the operator adds besides our rules."""

BARE: Final = 'bare!=""'
"""Those of a target that is named by default."""

STEADY_S: Final = 8.0
AWAY_S: Final = 4.0

ENERGY: Final = "wattspan_gpu_energy_joules_total"
ATTRIBUTED: Final = "wattspan_gpu_attributed_energy_joules_total"
UNATTRIBUTED: Final = "wattspan_gpu_unattributed_energy_joules_total"
HOST_ENERGY: Final = "wattspan_host_energy_joules_total"
RUN_ENERGY: Final = "wattspan_run_energy_joules_total"
POD_ENERGY: Final = "wattspan_pod_energy_joules_total"


@pytest.fixture
def node() -> Iterator[Node]:
    """A node with nothing on it, and this test in its network."""
    need_containers()
    # A short path: the kubelet's socket is in it.
    with network(), control_groups() as groups, tempfile.TemporaryDirectory(prefix="node-") as folder:
        (root := Path(folder, "root")).mkdir()
        (scratch := Path(folder, "pods")).mkdir()
        yield Node(root, scratch, groups, labels={"topology.kubernetes.io/region": "eu-north-1"})


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeNvml]:
    """Two cards that draw 300 W each."""
    with FakeNvml(CARDS, tmp_path) as driver:
        yield driver


@contextmanager
def training(node: Node, fake: FakeNvml) -> Iterator[Https]:
    """A kubelet whose Job trains on the first card, in a control group of its own, until the block ends."""
    uid, container = "77777777-6a52-4a3c-9d5c-3c6f4f2c7e11", "5f" * 32
    labels = {"batch.kubernetes.io/job-name": "sft", "batch.kubernetes.io/controller-uid": JOB[3]}
    document = pod("sft-0", labels=labels, owner=JOB, container_id=container)
    document["metadata"]["uid"] = uid
    trainer = subprocess.Popen(["sleep", "600"])
    try:
        (node.group(uid, container) / "cgroup.procs").write_text(str(trainer.pid))
        fake.set_processes(0, [Process(trainer.pid, memory_mib=CONTEXT_MIB)])
        fake.set_look(0, memory_used_mib=CONTEXT_MIB)
        folder = node.folder("/var/lib/kubelet/pod-resources")
        with pod_resources(folder) as kubelet, https(node.scratch, KUBELET_PORT) as server:
            kubelet.answer = response(holding("sft-0", "nvidia.com/gpu", fake.uuids[0]))
            server.documents["/pods"] = server.documents["/api/v1/pods"] = pod_list(document)
            node.token = server.token.encode()
            node.authority = server.ca_file.read_bytes()
            node.api = (node.address, server.port)
            yield server
    finally:
        trainer.kill()
        trainer.wait()


@contextmanager
def powercap(node: Node, watts: int) -> Iterator[None]:
    """A socket that draws so much, in files that only root may read, until the block ends."""
    machine = Machine(node.root)
    files = machine.zone("intel-rapl:0", "package-0", energy_uj=5_000_000).resolve()
    over = threading.Event()

    def draw() -> None:
        begun = time.monotonic()
        while not over.wait(0.05):
            part = files / "part"
            set_int(part, 5_000_000 + int((time.monotonic() - begun) * watts * UJ_PER_J))
            part.chmod(0o400)
            part.replace(files / "energy_uj")

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def with_profile(profile: str, **values: Any) -> list[Object]:
    """What the chart makes of a profile, with a daemon that samples at 5 Hz."""
    return render({"profile": profile, "config": FAST, **values})


@contextmanager
def running(profile: str, node: Node, fake: FakeNvml, **values: Any) -> Iterator[Pod]:
    """The profile's pod on a node that has what every node has, ready."""
    with (
        training(node, fake),
        powercap(node, watts=40),
        Pod(with_profile(profile, **values), node, fake) as up,
    ):
        up.wait_ready().until(lambda s: all(joules(s, uuid) for uuid in fake.uuids), "energy of each card")
        yield up


def read_s(scrape: Scrape, source: str = "nvidia") -> float:
    """When the source says that it was read."""
    return scrape.value("wattspan_source_last_read_timestamp_seconds", source=source)


def joules(scrape: Scrape, uuid: str) -> float:
    """A card's energy; 0 as long as there is none."""
    return scrape.find(ENERGY, uuid=uuid, method="counter") or 0.0


def assert_true(truth: Truth, gpu: int, uuid: str, first: Scrape, last: Scrape) -> None:
    """Between two scrapes a card used what the scenario says, to the microjoule."""
    gained_uj = round((joules(last, uuid) - joules(first, uuid)) * UJ_PER_J)
    could_be = {
        round((end - start) * UJ_PER_J)
        for start in truth.joules_at(gpu, read_s(first))
        for end in truth.joules_at(gpu, read_s(last))
    }
    assert gained_uj in could_be


def flat(settings: Object, before: str = "") -> dict[str, str]:
    """Settings of a YAML file by their whole names."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: str(value)}
    return found


def begin_a_run(up: Pod, headers: Mapping[str, str] | None = None) -> int:
    """The status of an attempt to begin one over TCP."""
    connection: http.client.HTTPConnection = http.client.HTTPConnection(up.host, up.port, timeout=PATIENCE_S)
    if up.tls:
        connection = http.client.HTTPSConnection(up.host, up.port, timeout=PATIENCE_S, context=up.tls)
    return write(connection, RUNS, {"run_id": "by-hand"}, headers).status


def may_not_write(folder: Path) -> bool:
    """Whether the kernel refuses a file there because what is mounted there is read-only."""
    try:
        (folder / "x").touch()
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def environment_of(up: Pod) -> dict[str, str]:
    """The variables that its process has."""
    words = Path(f"/proc/{up.pid}/environ").read_text().split("\0")
    return {name: value for name, _, value in (word.partition("=") for word in words if word)}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_pod_is_no_more_than_its_profile_says(profile: str, node: Node, fake: FakeNvml) -> None:
    """No capability, no way to get one, a root that nobody may write to, and folders of its own alone."""
    spec = daemon_pod(with_profile(profile))["spec"]
    user = 65532 if profile == "minimal" else 0
    state = {"/var/lib/wattspan"} if profile == "minimal" else {"/var/lib/wattspan", "/run/wattspan"}
    with running(profile, node, fake) as up:
        status = up.status()
        assert status["Uid"].split() == status["Gid"].split() == [str(user)] * 4
        assert {status[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert status["Groups"].split() == (["65532"] if profile == "minimal" else [])
        # Its pid within its own namespace is the last of them.
        first = status["NSpid"].split()[-1] == "1"
        assert first is (profile == "minimal")
        assert up.writable_mounts() == RUNTIMES | state
        folders = ["/", "/tmp", "/etc", "/usr/bin", "/etc/wattspan/config"]
        folders += [] if profile == "minimal" else ["/var/lib/kubelet/pod-resources", SERVICE_ACCOUNT]
        folders += ["/host/sys/class"] if profile == "host" else []
        assert [folder for folder in folders if not may_not_write(up.inside(folder))] == []
        peak_kib = int(status["VmHWM"].split()[0])
        limit = up.container["resources"]["limits"]["memory"]
        print(f"{profile}: {peak_kib / 1024:.0f} MiB at most, limit {limit}")
        assert limit == "256Mi"
        assert peak_kib < 256 * 1024

        live, ready = up.probe("livenessProbe"), up.probe("readinessProbe")
        assert live is not None
        assert ready is not None
        assert (live.status, ready.status) == (200, 200)
        scrape = up.metrics()
        assert scrape.value("wattspan_config_info", profile=profile) == 1
        links = {"WATTSPAN_PORT": "tcp://10.0.0.1:9746", "WATTSPAN_SERVICE_HOST": "10.0.0.1"}
        assert links.items() <= environment_of(up).items()
        assert "level=warning" not in up.stderr
        code, seconds = up.stop()
        assert code == 0
        assert seconds < spec["terminationGracePeriodSeconds"]


def test_minimal_meters_cards_and_knows_nobody(node: Node, fake: FakeNvml) -> None:
    """Every joule of a card is metered and nobody's; no run, no pod, no host, no way to begin a run."""
    with running("minimal", node, fake) as up:
        first = up.metrics()
        last = up.until(
            lambda s: min(joules(s, uuid) - joules(first, uuid) for uuid in fake.uuids) > 200,
            "200 J of each card",
        )
        truth = Truth(fake)
        for gpu, uuid in enumerate(fake.uuids):
            assert_true(truth, gpu, uuid, first, last)
            of_runs = [last.value(ATTRIBUTED, uuid=uuid, share=share) for share in ("run", "pod")]
            assert of_runs == [0, 0]
            assert last.total(ATTRIBUTED, uuid=uuid) == pytest.approx(joules(last, uuid))
        assert [
            name for name, _ in last if name.startswith(("wattspan_run_", "wattspan_pod_", "wattspan_owner_"))
        ] == []
        assert last.series(HOST_ENERGY) == {}
        assert not up.inside("/run/wattspan").exists()
        assert not up.inside(SERVICE_ACCOUNT).exists()
        assert begin_a_run(up) == 404
        kept = [file.stat() for file in up.inside("/var/lib/wattspan").iterdir()]
        assert {(file.st_uid, file.st_gid) for file in kept} == {(65532, 65532)}


@pytest.mark.parametrize("source", ["kubelet", "api"])
def test_attributed_says_which_pod_and_which_run(source: str, node: Node, fake: FakeNvml) -> None:
    """The pod that holds a card has its energy, its Job is a run, a stranger on the other is found out."""
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        fake.set_processes(1, [Process(stranger.pid, memory_mib=CONTEXT_MIB)])
        fake.set_look(1, memory_used_mib=CONTEXT_MIB)
        with running("attributed", node, fake, pods=source) as up:
            up.until(lambda s: s.find("wattspan_run_gpus", run_id=RUN) == 1, "the run")
            of_pod = {"component": "gpu", "attribution": "exclusive", **TRAINER}
            of_run = {"component": "gpu", "attribution": "exclusive", "run_id": RUN}
            first = up.until(
                lambda s: s.find(POD_ENERGY, **of_pod) and s.find(RUN_ENERGY, **of_run), "energy of both"
            )
            last = up.until(
                lambda s: joules(s, fake.uuids[0]) - joules(first, fake.uuids[0]) > 200,
                "200 J of the card",
            )
            held, free = fake.uuids
            assert_true(Truth(fake), 0, held, first, last)
            card_j = joules(last, held) - joules(first, held)
            assert last.value(POD_ENERGY, **of_pod) - first.value(POD_ENERGY, **of_pod) == pytest.approx(
                card_j
            )
            run_j = [scrape.value(RUN_ENERGY, **of_run) for scrape in (first, last)]
            assert run_j[1] - run_j[0] == pytest.approx(card_j)
            foreign = {"uuid": free, "reason": "foreign_process"}
            assert last.value(UNATTRIBUTED, **foreign) > first.value(UNATTRIBUTED, **foreign)
            assert last.value("wattspan_run_pod_info", run_id=RUN, pod_namespace="nlp", pod_name="sft-0") == 1
            assert last.series(HOST_ENERGY) == {}
            # In folders of the node: the journal outlives the pod, and a training may mount the socket.
            assert "journal" in str(list(node.folder("/var/lib/wattspan").iterdir()))
            door = LocalConnection(node.folder("/run/wattspan") / "wattspan.sock")
            assert write(door, RUNS, {"run_id": "by-hand"}).status == 201
    finally:
        stranger.kill()
        stranger.wait()


def test_host_reads_what_only_root_may(node: Node, fake: FakeNvml) -> None:
    """The socket's energy comes from the mounted /sys, whose files uid 0 owns and needs no capability for."""
    with running("host", node, fake) as up:
        counter = up.inside("/host/sys/class/powercap/intel-rapl:0/energy_uj")
        assert (counter.stat().st_mode & 0o777, counter.stat().st_uid) == (0o400, 0)
        first = up.until(lambda s: s.find(HOST_ENERGY, component="cpu"), "the socket")
        last = up.until(
            lambda s: s.value(HOST_ENERGY, component="cpu") - first.value(HOST_ENERGY, component="cpu") > 80,
            "two seconds of the socket",
        )
        seconds = read_s(last, "rapl") - read_s(first, "rapl")
        gained_j = last.value(HOST_ENERGY, component="cpu") - first.value(HOST_ENERGY, component="cpu")
        print(f"{gained_j:.1f} J in {seconds:.2f} s of 40 W")
        assert last.value("wattspan_source_up", source="rapl") == 1
        assert gained_j / seconds == pytest.approx(40, rel=0.2)
        up.until(lambda s: s.find("wattspan_run_gpus", run_id=RUN) == 1, "the run, as with attributed")


@pytest.mark.parametrize(("profile", "security"), [("minimal", "clientCertificates"), ("attributed", "tls")])
def test_what_secrets_hold_is_read_and_probes_follow(
    profile: str, security: str, node: Node, fake: FakeNvml, tmp_path: Path
) -> None:
    """The user of each profile can read its Secrets; probes need no password, and a scrape does.

    With client certificates a probe only connects.
    """
    authority = Authority()
    pair, password = authority.pair(), {"Authorization": f"Basic {b64encode(b'prometheus:secret').decode()}"}
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    folder = "/etc/wattspan/tls"
    tls = {"cert_file": f"{folder}/tls.crt", "key_file": f"{folder}/tls.key"}
    if security == "clientCertificates":
        tls |= {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": f"{folder}/ca.crt"}
    web = {"tls_server_config": tls, "basic_auth_users": {"prometheus": hashed}}
    digest = hashlib.sha256(b"the-token").hexdigest()
    node.secrets = {
        "web": {"web-config.yml": yaml.safe_dump(web).encode()},
        "tls": {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.pem},
        "writers": {"tokens": f"ci sha256:{digest} runs:write *\n".encode()},
    }
    rendered = with_profile(
        profile,
        web={"configSecret": "web", "tlsSecret": "tls", "security": security},
        tokens={"api": {"secret": "writers", "key": "tokens"}},
    )
    client = authority.client(tmp_path, authority.pair("prometheus"))
    with training(node, fake), Pod(rendered, node, fake, address=node.address, tls=client) as up:
        up.wait_ready()
        live = up.probe("livenessProbe")
        assert live is not None
        assert live.status == 200
        assert bool(live.body) is (security == "tls")
        assert up.get("/metrics").status == 401
        up.until(lambda s: s.find("wattspan_source_up", source="nvidia") == 1, "the cards", password)
        keys = [up.inside(f"{folder}/tls.key"), up.inside("/etc/wattspan/web/web-config.yml")]
        assert [key.stat().st_mode & 0o007 for key in keys] == [0, 0]
        if profile == "attributed":
            assert begin_a_run(up, {"Authorization": "Bearer the-token"}) == 201
            assert begin_a_run(up, {"Authorization": "Bearer another"}) == 401
        assert up.stop()[0] == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_helm_test_is_content_with_a_daemon_that_runs(profile: str, node: Node, fake: FakeNvml) -> None:
    """Its pod's doctor finds the cards, and its scrape finds the daemon behind the Service's name."""
    rendered = with_profile(profile)
    (pod,) = of_kind(rendered, "Pod")

    def ended(container: str) -> tuple[int, str]:
        with Pod(
            rendered, node, fake, pod=pod, container=container, name=f"test-{container}", address="127.0.0.9"
        ) as up:
            return up.finished(), up.stderr

    code, said = ended("doctor")
    assert code == 0, said
    assert "2 x NVIDIA H100" in said
    node.names["wattspan.wattspan.svc"] = "127.0.0.2"
    with running(profile, node, fake):
        code, said = ended("scrape")
        assert code == 0, said
        assert "wattspan_build_info{" in said


@pytest.mark.parametrize("profile", PROFILES)
def test_the_command_line_of_the_image_takes_the_configuration(
    profile: str, node: Node, fake: FakeNvml
) -> None:
    """`check-config` in the pod, with its variables and its file, has nothing to say against them."""
    words = ["check-config", "/etc/wattspan/config/wattspan.yml"]
    node.folder("/sys")
    node.folder("/var/lib/kubelet/pod-resources")
    rendered = with_profile(profile)
    with Pod(rendered, node, fake, args=words) as up:
        assert up.finished() == 0, up.stderr
        said = dict(line.split()[:2] for line in up.stderr.splitlines())
    # What the image sets by variables goes before the file, and has to agree with it.
    written = flat(yaml.safe_load(daemon_yaml(rendered)))
    assert written.items() <= said.items()
    assert said["profile"] == profile
    assert said["node.name"] == node.name
    assert said["runs"] == ("off" if profile == "minimal" else "on")


def test_what_is_run_in_the_pod_sees_the_daemons_configuration(node: Node, fake: FakeNvml) -> None:
    """`kubectl exec ... -- wattspan doctor` checks what `serve` has been given, and not the defaults."""
    node.folder("/sys")
    node.folder("/var/lib/kubelet/pod-resources")
    rendered = with_profile("attributed", config={"source": {"nvidia": "off", "rapl": "off"}})
    with Pod(rendered, node, fake, args=["doctor"]) as up:
        assert up.finished() == 1
        assert "NVIDIA H100" not in up.stderr
        assert "Nothing can be metered here" in up.stderr


class Window:
    """What is between two samples of one way to be scraped: the first from a moment on, and the last."""

    def __init__(self, prometheus: Prometheus, selector: str, since_s: float) -> None:
        self._prometheus = prometheus
        ((_, samples),) = prometheus.samples(
            f'wattspan_source_last_read_timestamp_seconds{{{selector},source="nvidia"}}', "5m"
        ).items()
        since = [sample for sample in samples if sample[0] >= since_s]
        ((self._begin_s, self._begin_read_s), *_, (self._end_s, self._end_read_s)) = since

    def increase(self, series: str) -> float:
        """increase() over the window, of all series together; 0 where there is none."""
        # A margin, so that both samples are within: nothing is extrapolated for that.
        milliseconds = round((self._end_s - self._begin_s) * 1000) + 40
        at_s = self._end_s + 0.02
        return self._prometheus.value(f"sum(increase({series}[{milliseconds}ms])) or vector(0)", at_s)

    def truth(self, truth: Truth, gpu: int) -> float:
        """What the card used between what was read for the one sample and for the other."""
        return min(truth.joules_at(gpu, self._end_read_s)) - min(truth.joules_at(gpu, self._begin_read_s))


@pytest.mark.slow
def test_a_roll_out_loses_no_energy(node: Node, fake: FakeNvml, tmp_path: Path) -> None:
    """A pod of another name and address goes on with the same series, and increase() is what the cards used.

    That holds behind the rules of each way to be scraped; where a target is named by default energy is lost.
    """
    targets = tmp_path / "targets.json"
    discovered(targets, [])
    monitors = {
        kind: of_kind(with_profile("attributed", monitor={"kind": kind}), kind)[0] for kind in MONITORS
    }
    plain = yaml.safe_load((ROOT / "helm" / "manifests" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = [scrape_config(monitor, targets) for monitor in monitors.values()]
    jobs += [plain_config(plain, targets), scrape_config(monitors["PodMonitor"], targets, relabelings=False)]
    jobs[-1]["metric_relabel_configs"] = [{"target_label": "bare", "replacement": "yes"}]
    rendered = with_profile("attributed")
    (service,) = of_kind(rendered, "Service")

    def show(up: Pod) -> None:
        labels = labels_of(up.object, service, name=up.name, node=node.name, address=up.address, port=up.port)
        discovered(targets, [labels])

    with training(node, fake), Prometheus(tmp_path, jobs=yaml.safe_dump(jobs)) as prometheus:
        with Pod(rendered, node, fake, name="wattspan-x7k2p", address="127.0.0.2") as first:
            first.wait_ready()
            show(first)
            # A series is held at 0 until a scrape has seen it, and a pod is known a moment after its card.
            for selector in WAYS.values():
                for metric in (ENERGY, POD_ENERGY):
                    prometheus.wait_for(f"sum({metric}{{{selector}}})")
            steady_s = time.time()
            time.sleep(STEADY_S)
            stopped_s = time.time()
            code, _ = first.stop()
            discovered(targets, [])
        assert code == 0
        time.sleep(AWAY_S)
        with Pod(rendered, node, fake, name="wattspan-q9v4m", address="127.0.0.3") as second:
            second.wait_ready()
            away_s = time.time() - stopped_s
            show(second)
            prometheus.wait_for(f"timestamp(up{{{WAYS['plain']}}}) > bool {time.time()}")
            time.sleep(STEADY_S)
            discovered(targets, [])
            second.stop()

        truth = Truth(fake)
        held, free = fake.uuids
        for way, selector in WAYS.items():
            window = Window(prometheus, selector, steady_s)
            for gpu, uuid in enumerate(fake.uuids):
                true_j = window.truth(truth, gpu)
                found_j = window.increase(f'{ENERGY}{{{selector},uuid="{uuid}",method="counter"}}')
                print(f"{way}, GPU {gpu}: increase() {found_j:.1f} J, scenario {true_j:.1f} J")
                assert found_j == pytest.approx(true_j, rel=0.01)
            # Who held a card has what it used meanwhile; what a free one used is said to be unwatched.
            of_pod = f'{POD_ENERGY}{{{selector},pod_name="sft-0"}}'
            assert window.increase(of_pod) == pytest.approx(window.truth(truth, 0), rel=0.01)
            unwatched = f'{UNATTRIBUTED}{{{selector},uuid="{free}",reason="exporter_down"}}'
            print(f"{way}: {window.increase(unwatched):.0f} J of {away_s:.1f} s away at 300 W")
            assert window.increase(unwatched) > 300 * AWAY_S
            assert window.increase(unwatched.replace(free, held)) == 0
            bare_j = window.increase(f'{ENERGY}{{{BARE},uuid="{free}",method="counter"}}')
            assert bare_j < 0.95 * window.truth(truth, 1)
        print(f"named by default: increase() {bare_j:.0f} J")

        samples = prometheus.counters("5m")
        assert {name: falls(values) for name, values in samples.items() if falls(values)} == {}
        named = {
            series: {value for _, value in series} for series in samples if ("bare", "yes") not in series
        }
        assert len(named) > 100
        of_the_pod = {"wattspan-x7k2p", "wattspan-q9v4m", "127.0.0.2:9746", "127.0.0.3:9746", "wattspan-http"}
        assert [series for series, values in named.items() if values & of_the_pod] == []
        ended = [series for series in named if samples[series][-1][0] < stopped_s + AWAY_S]
        assert ended == []
        assert [
            series for series in samples if series not in named and samples[series][-1][0] < stopped_s + 1
        ]
